"""`ddbench table DIR...`: the tables of stored runs."""

import argparse
from pathlib import Path

from ._shared import add_overrides, add_plugins, command, load_plugins

METRICS = ("top1", "worst_group", "relative", "seconds", "memory", "summary", "ranks")
FORMATS = ("text", "md", "csv", "latex", "json")


def add(commands) -> None:
    parser = command(commands, "table", main, "print the tables of stored runs")
    parser.add_argument("folders", nargs="+", type=Path, metavar="DIR", help="run folders, records.jsonl files or bundles")
    parser.add_argument("--metric", choices=METRICS, help="default: top1; summary where columns of it are asked for")
    parser.add_argument("--versus", metavar="METHOD", help="paired differences to this method, with 95 %% intervals")
    parser.add_argument("--methods", action="append", metavar="M,...", help="only these: names, specs, or a part with *")
    parser.add_argument("--protocols", "--protocol", action="append", metavar="P,...", help="only these")
    parser.add_argument("--datasets", "--dataset", action="append", metavar="D,...", help="only these")
    parser.add_argument("--data", metavar="F", help="only records on the data whose fingerprint starts with F")
    parser.add_argument("--columns", metavar="C,...", help="only these: own,transfer,mean,seconds,memory or a backbone")
    parser.add_argument("--spread", choices=("std", "ci"), default="std", help="ci: 95 %% intervals in place of the std")
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
    from ..records.bundle import read_records

    if args.versus and args.metric:
        raise UserError("--versus compares top-1; leave --metric out")
    records = read_records(args.folders)
    from ..report import render  # with pandas, which a folder without records does not wait for
    from ..report.choose import chosen, parts

    if args.data:
        held = sorted({str(record["dataset_fingerprint"])[:12] for record in records})
        records = [record for record in records if str(record["dataset_fingerprint"]).startswith(args.data)]
        if not records:
            raise UserError(f"no records on data whose fingerprint starts with {args.data!r}; there are: {', '.join(held)}")
    if args.against is not None:
        print(compared(records, args), end="")
        return 0
    if args.claims or args.override or args.tolerance is not None:
        raise UserError("--claims, --override and --tolerance are of claimed numbers; give --against published")
    records = chosen(records, "dataset", parts(args.datasets))
    records = chosen(records, "protocol", parts(args.protocols))
    if args.versus is None:
        records = chosen(records, "method", parts(args.methods))
    built = build(records, args)  # also checks that the records belong together
    print(render.csv(records) if args.format == "csv" else render.FORMATS[args.format](built), end="")
    return 0


def build(records: list[dict], args: argparse.Namespace) -> list:
    """The tables asked for."""
    from ..report.choose import chosen_rows, parts
    from ..report.tables import tables
    from ..report.value import select_columns
    from ..report.versus import ranks, versus

    columns = parts([args.columns] if args.columns else [])
    if args.versus:
        built = [chosen_rows(table, parts(args.methods)) for table in versus(records, args.versus)]
    elif args.metric == "ranks":
        built = ranks(records)
    else:
        costs = bool({"seconds", "memory"} & set(columns))
        built = tables(records, args.metric or ("summary" if costs else "top1"), spread=args.spread)
    return [select_columns(table, columns) for table in built] if columns else built


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
