"""`ddbench table DIR...`: the tables of stored runs."""

import argparse
from pathlib import Path

from ._shared import command

METRICS = ("top1", "worst_group", "seconds", "memory")
FORMATS = ("text", "md", "csv", "latex", "json")


def add(commands) -> None:
    parser = command(commands, "table", main, "print the tables of stored runs")
    parser.add_argument("folders", nargs="+", type=Path, metavar="DIR", help="run folders (or records.jsonl files)")
    parser.add_argument("--metric", choices=METRICS, default="top1", help="default: top1")
    parser.add_argument("--protocol", metavar="P", help="only this protocol")
    parser.add_argument("--format", choices=FORMATS, default="text", help="default: text; csv has one row per record")


def main(args: argparse.Namespace) -> int:
    from .. import render
    from ..records import load_records
    from ..tables import tables

    records = load_records(args.folders)
    built = tables(records, args.metric, args.protocol)  # also checks that the records belong together
    if args.format == "csv":
        print(render.csv([r for r in records if args.protocol in (None, r["protocol"], r["protocol_spec"])]), end="")
    else:
        print(render.FORMATS[args.format](built), end="")
    return 0
