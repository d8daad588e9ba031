"""`ddbench table DIR...`: the tables of stored runs."""

import argparse
from pathlib import Path

from ._shared import add_overrides, add_plugins, command, load_plugins

METRICS = ("top1", "worst_group", "relative", "seconds", "memory", "summary")
FORMATS = ("text", "md", "csv", "latex", "json")


def add(commands) -> None:
    parser = command(commands, "table", main, "print the tables of stored runs")
    parser.add_argument("folders", nargs="+", type=Path, metavar="DIR", help="run folders (or records.jsonl files)")
    parser.add_argument("--metric", choices=METRICS, default="top1", help="default: top1")
    parser.add_argument("--protocol", metavar="P", help="only this protocol")
    parser.add_argument("--format", choices=FORMATS, default="text", help="default: text; csv has one row per record")
    claims = parser.add_argument_group("claimed against measured")
    claims.add_argument(
        "--against",
        type=against_what,
        metavar="published[=FILE]",
        help="papers' numbers beside ours: results/published, or FILE.csv",
    )
    claims.add_argument("--claims", action="append", metavar="T", help="only this table (lgm-1) or paper (lgm); repeatable")
    claims.add_argument(
        "--tolerance", type=float, metavar="P", help="points that a cell may be off, or 3 s of both where more; default: 1"
    )
    add_overrides(claims)  # type: ignore[arg-type]
    add_plugins(claims)  # type: ignore[arg-type]


def main(args: argparse.Namespace) -> int:
    load_plugins(args.plugin)
    from ...core.errors import UserError
    from ..records.records import load_records
    from ..report import render
    from ..report.tables import tables

    records = load_records(args.folders)
    if args.against is not None:
        print(compared(records, args), end="")
        return 0
    if args.claims or args.override or args.tolerance is not None:
        raise UserError("--claims, --override and --tolerance are of claimed numbers; give --against published")
    built = tables(records, args.metric, args.protocol)  # also checks that the records belong together
    if args.format == "csv":
        print(render.csv([r for r in records if args.protocol in (None, r["protocol"], r["protocol_spec"])]), end="")
    else:
        print(render.FORMATS[args.format](built), end="")
    return 0


def against_what(text: str) -> list[Path]:
    """argparse type of --against: the given file, or none for those that come with the checkout."""
    word, equals, file = text.partition("=")
    if word != "published" or bool(equals) != bool(file):
        raise argparse.ArgumentTypeError(f"{text!r} is not published or published=FILE.csv")
    return [Path(file)] if file else []


def compared(records: list[dict], args: argparse.Namespace) -> str:
    """The published tables beside the records; without --claims those of which at least one cell was measured."""
    from ...core.errors import UserError
    from ..published import table as claims_table
    from ..published.against import against
    from ..published.claim import chosen_tables, read_claims, shipped
    from ..published.paper_names import NAMES, Names
    from ..records.regression import POINTS
    from ..report.value import Value
    from ..suite.overrides import Overrides

    claims = read_claims(args.against or shipped())
    if args.claims:
        claims = chosen_tables(claims, args.claims)
    points = POINTS if args.tolerance is None else args.tolerance
    names = Names.read(overrides=Overrides.parse(args.override))
    found = against(claims, records, names, points)
    if not args.claims:
        touched = {c.claim.table_name for c in found if c.measured != Value()}
        found = [c for c in found if c.claim.table_name in touched]
    if not found:
        raise UserError(f"no record answers for a published cell; their names are in {NAMES}, --claims T prints an empty table")
    return claims_table.FORMATS[args.format](found, names.notes([c.claim for c in found]))
