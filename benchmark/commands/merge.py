"""`ddbench export RUN|SET --out FILE` and `ddbench merge FILE... --into DIR`: results and sets that travel."""

import argparse
from pathlib import Path

from ...core.errors import UserError
from ._shared import add_plugins, command, load_plugins

FORMATS = ("imagefolder", "npz", "safetensors", "hf")


def add(commands) -> None:
    parser = command(commands, "export", export, "write a run's records into one small file, or a set for other tools")
    parser.add_argument("folder", type=Path, metavar="RUN|SET", help="run folder (or records.jsonl), or the folder of a set")
    parser.add_argument(
        "--out", type=Path, required=True, metavar="OUT", help="BUNDLE.json, compressed as .json.gz; of a set: file or folder"
    )
    parser.add_argument("--format", choices=FORMATS, help="of a set: image folder, arrays, tensors, a Hugging Face dataset")
    parser = command(commands, "merge", merge, "add shared records to a run folder, if they agree with what is there")
    parser.add_argument("bundles", nargs="+", type=Path, metavar="BUNDLE.json[.gz]", help="files of `ddbench export`")
    parser.add_argument("--into", type=Path, required=True, metavar="DIR", help="run folder; made if it is not there")
    add_plugins(parser)


def export(args: argparse.Namespace) -> int:
    from ..records import bundle

    if (args.folder / "set.json").is_file():
        if args.format is None:
            raise UserError(f"{args.folder} is a set; say --format {'|'.join(FORMATS)}")
        from ..foreign.write import export_set

        print(f"set written to {export_set(args.folder, args.format, args.out)}")
        return 0
    if args.format is not None:
        raise UserError(f"--format is for sets; {args.folder} is none, `ddbench show RUN` lists those of a run")
    print(f"{bundle.export(args.folder, args.out)} records written to {args.out}")
    return 0


def merge(args: argparse.Namespace) -> int:
    load_plugins(args.plugin)
    from ..records import bundle

    done = bundle.merge(args.bundles, args.into)
    print(f"{done.added} records added to {args.into}, {done.known} were there")
    return 0
