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
        print(_gallery(args))
        return 0
    from ...core.errors import UserError
    from ..records.bundle import read_records
    from ..report.choose import chosen, parts
    from ..report.paper_figures import figure

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


def _gallery(args: argparse.Namespace) -> Path:
    """One row per method and backbone, of the sets in the run folders that are asked for."""
    from ...core.errors import UserError
    from ...core.sets import DistilledSet
    from ..records.records import FILE, load_records
    from ..report.choose import fits, parts
    from ..report.gallery import gallery
    from ..report.names import display_names, short_names

    if args.out.suffix != ".png":
        raise UserError(f"{args.out}: a gallery is pixels; give a .png")
    asked = parts(args.methods)
    found = {}
    for folder in args.folders:
        for file in sorted((folder / "sets").glob("*/set.json")):
            try:
                dset = DistilledSet.load(file.parent)
            except UserError:  # refers to real images
                continue
            made = dset.provenance
            method, dataset = made.get("method_spec", "?"), made.get("dataset") or "?"
            wanted = not asked or any(fits(method, name) for name in asked)
            if wanted and (args.dataset is None or fits(dataset, args.dataset)) and args.ipc in (None, made.get("ipc")):
                found.setdefault((method, made.get("distill_backbone") or ""), dset)
    if not found:
        raise UserError("no set with images is asked for; leave out --methods, --dataset or --ipc, or give the run folder")
    kept = [folder for folder in args.folders if (folder / FILE).is_file()]
    names, _ = short_names([spec for key in found for spec in key if spec], display_names(load_records(kept) if kept else ()))
    rows = [
        (" ".join(names[spec] for spec in key if spec), dset) for key, dset in sorted(found.items(), key=lambda item: item[0])
    ]
    return gallery(rows, args.out)
