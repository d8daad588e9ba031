"""`ddbench plot DIR --kind KIND -o FIG.pdf`: one figure for a paper."""

import argparse
from pathlib import Path

from ._shared import add_plugins, command, load_plugins, positive
from .report import curves_of, real_methods

KINDS = ("pareto", "transfer", "ranks", "curve", "gallery")


def add(commands) -> None:
    parser = command(commands, "plot", main, "draw one figure for a paper")
    parser.add_argument("folders", nargs="+", type=Path, metavar="DIR", help="run folders, records.jsonl files or bundles")
    parser.add_argument(
        "--kind",
        choices=KINDS,
        default="pareto",
        help="accuracy against seconds; own against transfer; average ranks with their critical difference; losses; images",
    )
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="FIG.pdf", help=".pdf, .png or .svg; a gallery: .png")
    parser.add_argument("--protocol", metavar="P", help="default: ridge-probe, linear-probe, or the first")
    parser.add_argument("--dataset", metavar="D", help="only records of this one: name, spec, or a part with *")
    parser.add_argument("--ipc", type=positive, metavar="N", help="only this number of images per class")
    parser.add_argument("--methods", action="append", metavar="M,...", help="only these: names, specs, or a part with *")
    add_plugins(parser)


def main(args: argparse.Namespace) -> int:
    load_plugins(args.plugin)
    if args.kind == "gallery":
        print(_gallery(args.folders, args.out))
        return 0
    from ...core.errors import UserError
    from ..records.bundle import read_records
    from ..report.choose import chosen, parts
    from ..report.plot import figure

    records = chosen(read_records(args.folders), "method", parts(args.methods))
    records = chosen(records, "dataset", parts([args.dataset] if args.dataset else None))
    if args.ipc is not None:
        held = sorted({r["ipc"] for r in records if r["ipc"] is not None})
        if args.ipc not in held:
            raise UserError(f"no records of IPC {args.ipc}; there are: {', '.join(map(str, held))}")
        records = [r for r in records if r["ipc"] in (args.ipc, None)]
    curves = curves_of(args.folders, records) if args.kind == "curve" else ()
    print(figure(records, args.kind, args.out, protocol=args.protocol, real_methods=real_methods(records), curves=curves))
    return 0


def _gallery(folders: list[Path], out: Path) -> Path:
    """One row per method and backbone, of the sets in the run folders."""
    from ...core.errors import UserError
    from ...core.sets import DistilledSet
    from ..report.gallery import gallery
    from ..report.names import short_names

    if out.suffix != ".png":
        raise UserError(f"{out}: a gallery is pixels; give a .png")
    found = {}
    for folder in folders:
        for file in sorted((folder / "sets").glob("*/set.json")):
            try:
                dset = DistilledSet.load(file.parent)
            except UserError:  # refers to real images
                continue
            found.setdefault((dset.provenance.get("method_spec", "?"), dset.provenance.get("distill_backbone") or ""), dset)
    names, _ = short_names([spec for key in found for spec in key if spec])
    rows = [
        (" ".join(names[spec] for spec in key if spec), dset) for key, dset in sorted(found.items(), key=lambda item: item[0])
    ]
    return gallery(rows, out)
