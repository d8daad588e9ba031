"""`ddbench new KIND NAME`: a complete plugin to start from."""

import argparse
from pathlib import Path

from ._shared import command


def add(commands) -> None:
    from ..contract.skeleton import KINDS

    parser = command(commands, "new", main, "write a complete plugin file, which passes `ddbench check`, to start from")
    parser.add_argument("kind", choices=KINDS, metavar="KIND", help=" | ".join(KINDS))
    parser.add_argument("name", metavar="NAME", help="what the plugin is called on the command line")
    parser.add_argument("--out", type=Path, default=Path(), metavar="DIR", help="folder of the file; default: this one")


def main(args: argparse.Namespace) -> int:
    from ...core.errors import UserError
    from ..catalogue import REGISTRIES
    from ..contract.skeleton import write

    registry = REGISTRIES[f"{args.kind}s"]
    if args.name in registry.names():
        raise UserError(f"there is a {args.kind} {args.name!r} already; choose another name")
    file = write(args.kind, args.name, args.out)
    print(f"{file} written; next: ddbench check {args.name} --plugin {file}")
    return 0
