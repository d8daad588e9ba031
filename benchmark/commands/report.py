"""`ddbench report DIR... -o report.html`: one page with charts, tables and images, to look at and to pass on."""

import argparse
from pathlib import Path
from typing import Any

from ...core.errors import UserError
from ._shared import add_plugins, command, load_plugins


def add(commands) -> None:
    parser = command(commands, "report", main, "write one self-contained HTML page about stored runs")
    parser.add_argument("folders", nargs="+", type=Path, metavar="DIR", help="run folders, records.jsonl files or bundles")
    parser.add_argument("-o", "--out", type=Path, metavar="FILE", help="default: report.html; of a leaderboard: a folder, site")
    parser.add_argument("--title", help="the line on top")
    parser.add_argument(
        "--leaderboard", action="store_true", help="a page of shared bundles: a row per method, with its records"
    )
    parser.add_argument("--no-images", action="store_true", help="leave the distilled images out")
    parser.add_argument("--against", action="store_true", help="add claimed against measured, from results/published")
    add_plugins(parser)


def main(args: argparse.Namespace) -> int:
    load_plugins(args.plugin)
    if args.leaderboard:
        return leaderboard(args)
    from ..records.bundle import read_records
    from ..report.names import display_names, short_names
    from ..report.page import page

    records = read_records(args.folders)
    fields = ("method_spec", "distill_backbone", "dataset")
    names, _ = short_names([r[name] for r in records for name in fields if r[name]], display_names(records))
    strips, curves, notes = ([], [], []) if args.no_images else pictures(args.folders, names)
    text = page(
        records,
        real_methods=real_methods(records),
        strips=strips,
        curves=curves,
        claimed=claims(records) if args.against else (),
        notes=notes,
        title=args.title or "ddbench report",
    )
    out = args.out or Path("report.html")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UserError(f"cannot write {out}: {error.strerror}; choose another -o") from None
    print(f"{out}: {len(records)} records, {len(strips)} sets with images, {out.stat().st_size / 2**20:.1f} MiB")
    return 0


def leaderboard(args: argparse.Namespace) -> int:
    """A static page of bundles, with copies of them to link to."""
    from ..records.bundle import agreed, read_bundle
    from ..report.leaderboard import leaderboard as write

    if folders := [path for path in args.folders if path.is_dir()]:
        raise UserError(
            f"{folders[0]} is a folder; a leaderboard is of bundles: ddbench export {folders[0]} --out NAME.json.gz"
        )
    bundles = {path: read_bundle(path) for path in dict.fromkeys(args.folders)}
    records = agreed(bundles)
    out = args.out or Path("site")
    rows = write(bundles, records, out, claims(records), args.title or "ddbench leaderboard")
    print(f"{out / 'index.html'}: {rows} rows of {len(bundles)} bundles")
    return 0


def real_methods(records: list[dict]) -> list[str]:
    """Names of the methods that pick real images; those of plugins that are not there count as learned."""
    from ...core.registries import METHODS

    known = set(METHODS.names())
    return [name for name in {r["method"] for r in records} & known if METHODS.constant(name, "real_images")]


def pictures(folders: list[Path], names: dict[str, str]) -> tuple[list, list, list[str]]:
    """Strips, curves and notes of the sets in the run folders."""
    sets = [file.parent for folder in folders if folder.is_dir() for file in sorted((folder / "sets").glob("*/set.json"))]
    if not sets:
        return [], [], ["no sets lie beside these records, so there are no images; they stay on the machine that distilled"]
    from ...core.registries import DATASETS
    from ..report import images

    loaded: dict[str, Any] = {}
    notes = []

    def data(spec: str) -> Any:
        if spec not in loaded:
            try:
                loaded[spec] = DATASETS.create(spec).load()
            except UserError as error:
                loaded[spec] = None
                notes.append(f"no real images beside those of {names.get(spec, spec)}: {error}")
        return loaded[spec]

    strips = images.strips(sets, names, data)
    if any(picture.nearest for strip in strips for picture in strip.pictures):
        notes.insert(0, "Click an image to see it beside the nearest training image of its class, by pixels.")
    return strips, list(images.curves(sets, names)), notes


def curves_of(folders: list[Path], records: list[dict]) -> list:
    """The losses of the sets in the run folders."""
    from ..report.images import curves
    from ..report.names import display_names, short_names

    specs = [r[name] for r in records for name in ("method_spec", "distill_backbone") if r[name]]
    names, _ = short_names(specs, display_names(records))
    sets = [file.parent for folder in folders if folder.is_dir() for file in sorted((folder / "sets").glob("*/set.json"))]
    return list(curves(sets, names))


def claims(records: list[dict]) -> list[dict[str, str]]:
    """Published cells that these records answer for."""
    from ..published.against import against
    from ..published.claim import read_claims, shipped
    from ..published.paper_names import Names
    from ..report.value import Value

    found = against(read_claims(shipped()), records, Names.read())
    return [
        {
            "table": c.claim.table_name,
            "method": c.claim.method,
            "distil": c.claim.distill_backbone or "—",
            "judge": c.claim.eval_backbone,
            "claimed": f"{c.claim.value:.1f}" + ("" if c.claim.std is None else f" ± {c.claim.std:.1f}"),
            "measured": c.measured.text(),
            "difference": "—" if c.difference is None else f"{c.difference:+.1f}",
            "verdict": "" if c.tolerance is None else "outside" if c.outside else "within",
        }
        for c in found
        if c.measured != Value()
    ]
