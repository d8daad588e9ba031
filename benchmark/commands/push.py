"""`ddbench push SET REPO`: a set onto the Hugging Face hub, with its card."""

import argparse
from pathlib import Path

from ...core.errors import UserError
from ._shared import command


def add(commands) -> None:
    parser = command(commands, "push", main, "upload a set as a dataset of the Hugging Face hub")
    parser.add_argument("set", type=Path, metavar="SET", help="folder of a set; `ddbench show RUN` lists those of a run")
    parser.add_argument("repo", metavar="OWNER/NAME", help="dataset repository; made if it is not there")
    parser.add_argument("--private", action="store_true", help="make the repository private, where it is new")


def main(args: argparse.Namespace) -> int:
    if not (args.set / "set.json").is_file():
        raise UserError(f"{args.set} is no set; `ddbench show RUN` lists those of a run")
    from ..foreign.hub import push

    print(f"{push(args.set, args.repo, args.private)}: ddbench evaluate hf:{args.repo}")
    return 0
