"""`ddbench evaluate SET`: the accuracy of one distilled set, wherever it was made."""

import argparse
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from ...core.errors import UserError
from ..records.records import FILE as RECORDS
from ._shared import (
    DEFAULT_DATASET,
    DEFAULT_PROTOCOLS,
    add_machine,
    add_plugins,
    check_specs,
    command,
    default_backbones,
    load_plugins,
)

if TYPE_CHECKING:
    from ...core.data import ImageData
    from ...core.sets import DistilledSet


PIXELS = ("auto", "unit", "byte", "imagenet", "clip", "half")  # foreign/read.py says what they are


def add(commands) -> None:
    parser = command(commands, "evaluate", main, "evaluate one distilled set on backbones")
    parser.add_argument(
        "set",
        type=Path,
        metavar="SET",
        help="a set of ddbench, an image folder CLASS/IMAGE, .npz, .safetensors, a torch file (images, labels), hf:OWNER/NAME",
    )
    parser.add_argument(
        "--pixels", choices=PIXELS, default="auto", help="what the values of a set made elsewhere are; default: look at them"
    )
    parser.add_argument("--images", metavar="KEY", help="what the file calls its images; default: images, image_syn, x, data")
    parser.add_argument(
        "--labels", metavar="KEY", help="what the file calls its labels; default: labels, label_syn, y, targets"
    )
    parser.add_argument("--background", default="white", metavar="COLOUR", help="under transparent pixels; default: white")
    parser.add_argument("--out", type=Path, metavar="DIR", help="also store records there, as `ddbench run` does")
    parser.add_argument("-b", "--backbone", action="append", metavar="B", help="default: the embedded zoo")
    parser.add_argument("-d", "--dataset", default=DEFAULT_DATASET, metavar="D", help=f"default: {DEFAULT_DATASET}")
    parser.add_argument("--protocol", action="append", metavar="P", help=f"default: {' and '.join(DEFAULT_PROTOCOLS)}")
    parser.add_argument("--seed", type=int, default=0, help="of the probes; default: 0")
    add_machine(parser)
    add_plugins(parser)


def main(args: argparse.Namespace) -> int:
    load_plugins(args.plugin)
    check_specs(backbones=args.backbone, datasets=[args.dataset], protocols=args.protocol)
    if (repo := str(args.set)).startswith("hf:"):
        args.set = from_hub(repo.removeprefix("hf:"))
    if not args.set.exists():
        raise UserError(f"{args.set} does not exist; give the folder of a set, an image folder, .npz, .safetensors or .pth")
    if (args.set / RECORDS).exists():
        raise UserError(f"{args.set} is a run, not a set; `ddbench show {args.set}` lists its sets: give the path of one")
    import statistics

    from ...core.backbone import BACKBONES
    from ...core.errors import Unsupported
    from ...core.method import PROTOCOLS
    from .. import api
    from ..foreign.fit import other_data

    device = pick_device(args.device, args.threads)
    protocols = [PROTOCOLS.create(spec) for spec in args.protocol or DEFAULT_PROTOCOLS]
    sources = [BACKBONES.create(spec) for spec in args.backbone or default_backbones()]
    data = api.load_data(args.dataset)
    dset = read_set(args, data)
    if other_data(dset, data):
        print(f"note: the set was made from other data ({dset.provenance.get('dataset', 'unnamed')}) than {args.dataset}")
    if args.out is not None:
        return record(dset, data, args, device)
    backbones = [source.load() for source in sources]
    failed, notes = False, []
    for protocol in protocols:
        for backbone in backbones if protocol.uses_backbone else [None]:
            label = ", ".join([f"{protocol.name} v{protocol.version}", *([backbone.spec.name] if backbone else [])])
            try:
                found = api.evaluate(dset, backbone=backbone, data=data, protocol=protocol, seed=args.seed, device=device)
            except Unsupported as reason:
                failed = True
                print(f"{label}: unsupported: {reason}")
                continue
            for part, scores in (found.parts or {"": found.top1_per_seed}).items():
                spread = f" ± {statistics.stdev(scores):.2f} (std over {len(scores)} probe seeds)" if len(scores) > 1 else ""
                where = f", {part}" if part else ""
                recall = found.details.get("mean_recall")
                differs = (
                    f" (mean recall {recall:.2f})" if not part and recall is not None and abs(recall - found.top1) > 1 else ""
                )
                print(f"{label}{where}: {statistics.fmean(scores):.2f}{spread} % {protocol.measures}{differs}", flush=True)
            notes += [note for note in found.notes if note not in dset.provenance.get("notes", [])]  # told on reading
    for note in dict.fromkeys(notes):
        print(f"note: {note}")
    return int(failed)


def from_hub(repo: str) -> Path:
    """The set of a dataset repository of the Hugging Face hub, in a folder that goes when the program ends."""
    import atexit
    import shutil
    import tempfile

    from ..foreign.hub import fetched

    folder = Path(tempfile.mkdtemp(prefix="ddbench-hub-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return fetched(repo, folder / repo.replace("/", "-"))


def read_set(args: argparse.Namespace, data: "ImageData") -> "DistilledSet":
    """A set of ours, or one made elsewhere with what was decided in reading it on stderr."""
    from ...datasets._decode import check_colour
    from .. import api
    from ..foreign.read import read_external

    if (args.set / "set.json").exists():
        return api.load_set(args.set, data)
    background = check_colour(args.background)
    dset, notes = read_external(args.set, data, args.pixels, images=args.images, labels=args.labels, background=background)
    for note in notes:
        print(f"ddbench: warning: {args.set}: {note}", file=sys.stderr)
    return dset


def record(dset: "DistilledSet", data: "ImageData", args: argparse.Namespace, device: str) -> int:
    """Evaluate in processes of their own and store the records; print the table of this set."""
    from ..foreign.evaluate import given_cell, store
    from ..processes.progress import reporter
    from ..processes.runner import run_plan
    from ..records.records import load_records
    from ..records.run_folder import locked, prepare
    from ..report import render
    from ..report.tables import tables

    if args.seed:
        raise UserError("--out stores records, and those have the probe seeds of every run; leave --seed out")
    name = re.sub(r"[^\w.+-]+", "_", args.set.resolve().name)
    protocols, backbones = [*(args.protocol or DEFAULT_PROTOCOLS)], args.backbone or default_backbones()
    cell, dset = given_cell(dset, name, args.dataset, protocols, backbones, device)
    with locked(prepare(args.out)):
        store(cell, dset, args.out, data)
    summary = run_plan([cell], args.out, device=args.device, threads=args.threads, progress=reporter(), plugins=args.plugin)
    asked = {evaluation.config_hash for evaluation in cell.evaluations}
    print(render.text(tables([r for r in load_records([args.out]) if r["config_hash"] in asked])))
    print(f"records: {args.out / 'records.jsonl'}")
    return int(summary.failed > 0)


def pick_device(device: str, threads: int | None) -> str:
    """`auto` is CUDA where there is one. Sets the number of CPU threads if given."""
    import torch

    from ...core.errors import UserError

    if threads:
        torch.set_num_threads(threads)
    if device == "cuda" and not torch.cuda.is_available():
        raise UserError("--device cuda: torch sees no CUDA device; `ddbench doctor` says why")
    return "cuda" if device != "cpu" and torch.cuda.is_available() else "cpu"
