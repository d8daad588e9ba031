"""`ddbench export DIR --out FILE` and `ddbench merge FILE... --into DIR`: results that travel."""

import argparse
from pathlib import Path

from ._shared import add_plugins, command, load_plugins


def add(commands) -> None:
    parser = command(commands, "export", export, "write a run's records into one small file, to share them")
    parser.add_argument("folder", type=Path, metavar="DIR", help="run folder (or records.jsonl)")
    parser.add_argument(
        "--out", type=Path, required=True, metavar="BUNDLE.json", help="the file; a name that ends in .gz is compressed"
    )
    parser = command(commands, "merge", merge, "add shared records to a run folder, if they agree with what is there")
    parser.add_argument("bundles", nargs="+", type=Path, metavar="BUNDLE.json[.gz]", help="files of `ddbench export`")
    parser.add_argument("--into", type=Path, required=True, metavar="DIR", help="run folder; made if it is not there")
    add_plugins(parser)


def export(args: argparse.Namespace) -> int:
    from ..records import bundle

    print(f"{bundle.export(args.folder, args.out)} records written to {args.out}")
    return 0


def merge(args: argparse.Namespace) -> int:
    load_plugins(args.plugin)
    from ..records import bundle

    done = bundle.merge(args.bundles, args.into)
    print(f"{done.added} records added to {args.into}, {done.known} were there")
    return 0
