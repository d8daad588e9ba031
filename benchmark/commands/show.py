"""`ddbench show SET_DIR`: what a distilled set holds, and a picture of it."""

import argparse
import json
from pathlib import Path

from ._shared import command


def add(commands) -> None:
    parser = command(commands, "show", main, "describe a distilled set and draw its images into a PNG")
    parser.add_argument("set", type=Path, metavar="SET_DIR", help="folder with set.safetensors and set.json")
    parser.add_argument("-d", "--dataset", metavar="D", help="needed only for sets that refer to real images")
    parser.add_argument("--png", type=Path, metavar="FILE", help="default: SET_DIR/gallery.png")


def main(args: argparse.Namespace) -> int:
    import torch
    from torch import Tensor

    from ..api import load_set
    from ..report.gallery import gallery

    dset = load_set(args.set, args.dataset)
    height, width = dset.batch(torch.arange(min(1, len(dset)))).shape[-2:]
    print(f"{args.set}: {len(dset)} images of {height}x{width} pixels, {dset.num_classes} classes, float RGB in [0, 1]")
    if dset.labels_of:
        print(f"labels: those of the {dset.labels_of}; the method did not read them")
    if isinstance(dset.labels, Tensor):
        counts = dset.labels.bincount(minlength=dset.num_classes)
        print(f"images per class: {int(counts.min())}" + (f" to {int(counts.max())}" if counts.min() < counts.max() else ""))
    if dset.targets is not None:
        standardised = "" if dset.target_std is None else ", standardised"
        print(f"targets: {dset.target_kind}, {tuple(dset.targets.shape)}{standardised}")
    for name, values in (("extras", dset.extras), ("provenance", dset.provenance)):
        if values:
            print(f"{name}: {json.dumps(values)}")
    print(f"fingerprint: {dset.fingerprint()}")
    print(f"picture: {gallery([('', dset)], args.png or args.set / 'gallery.png', args.set.name)}")
    return 0
