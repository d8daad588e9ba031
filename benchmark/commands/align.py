"""`ddbench align -b A -b B`: how much backbones agree on which images are alike (LGM, table 6)."""

import argparse

from ._shared import (
    DEFAULT_DATASET,
    add_machine,
    add_plugins,
    check_specs,
    command,
    default_backbones,
    load_plugins,
    positive,
)


def add(commands) -> None:
    parser = command(commands, "align", main, "mutual nearest-neighbour alignment of backbones on real images, 0 to 1")
    parser.add_argument("-b", "--backbone", action="append", metavar="B", help="two or more; default: the embedded zoo")
    parser.add_argument("-d", "--dataset", default=DEFAULT_DATASET, metavar="D", help=f"default: {DEFAULT_DATASET}")
    parser.add_argument("--split", choices=("train", "test"), default="test", help="default: test")
    parser.add_argument("-k", type=positive, default=10, metavar="K", help="neighbours per image; default: 10")
    add_machine(parser)
    add_plugins(parser)


def main(args: argparse.Namespace) -> int:
    load_plugins(args.plugin)
    check_specs(backbones=args.backbone, datasets=[args.dataset])
    import torch

    from ...core.backbone import BACKBONES
    from ...core.bank import FeatureBank
    from ...core.errors import UserError
    from ...evaluation._alignment import mutual_share, nearest
    from .. import api
    from ..report import render
    from .evaluate import pick_device

    specs = [*dict.fromkeys(args.backbone or default_backbones())]
    sources = [BACKBONES.create(spec) for spec in specs]
    data = api.load_data(args.dataset)
    images = len(getattr(data, args.split))
    if len(specs) < 2 or args.k >= images:
        raise UserError(
            f"align compares two backbones or more on more than k={args.k} images; there are {len(specs)} and {images}"
        )
    device = torch.device(pick_device(args.device, args.threads))
    bank, neighbours = FeatureBank(device=device), []
    for source in sources:  # one backbone at a time
        neighbours.append(nearest(bank.features(source.load().to(device), data, args.split)[0], args.k))
    rows = [[spec, *(f"{mutual_share(a, b):.3f}" for b in neighbours)] for spec, a in zip(specs, neighbours, strict=True)]
    chance = args.k / (images - 1)
    title = f"Mutual {args.k}-NN alignment: {args.dataset}, {args.split}, {images} images; unrelated backbones: {chance:.3f}"
    print(render.grid_text(title, ["backbone", *specs], rows, labels=1), end="")
    return 0
