"""`ddbench data check NAME`: what is missing or wrong in the folder of a dataset, and what it holds."""

import argparse
from collections.abc import Iterator
from pathlib import Path

from ._shared import add_plugins, command, load_plugins


def add(commands) -> None:
    parser = commands.add_parser("data", help="look after datasets", description="Look after datasets.")
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)
    check = command(actions, "check", main, "say what is missing or wrong in a dataset's folder; exits 2 if anything is")
    check.add_argument("dataset", metavar="NAME", help="name or name[k=v,...]")
    check.add_argument(
        "--root", type=Path, metavar="DIR", help="folder that holds the dataset's; default: $DDBENCH_DATA, or data"
    )
    add_plugins(check)


def main(args: argparse.Namespace) -> int:
    load_plugins(args.plugin)
    from ...core.registries import DATASETS

    DATASETS.check(args.dataset)
    source = DATASETS.create(args.dataset, **({"root": args.root} if args.root else {}))
    problems, held = examine(source)
    print("\n".join([*(f"PROBLEM {problem}" for problem in problems), *(f"ok      {line}" for line in held)]))
    counted = f"{len(problems)} problem{'s' if len(problems) > 1 else ''} found"
    print(f"{args.dataset}: {counted if problems else 'all is well'}")
    return 2 if problems else 0


def examine(source) -> tuple[list[str], list[str]]:
    """What is wrong with the data of a source, and if nothing is, what it holds."""
    from ...core.errors import UserError

    problems = list(source.check())
    try:
        return problems, [] if problems else list(summary(source.load()))
    except UserError as error:
        return [str(error)], []


def summary(data) -> Iterator[str]:
    """Images, classes and groups of both splits."""
    for name, split in (("train", data.train), ("test", data.test)):
        counts = split.labels.bincount(minlength=data.num_classes)
        yield f"{name}: {len(split):,} images, {data.num_classes:,} classes of {counts.min():,} to {counts.max():,}"
        if split.groups is not None:
            members = split.groups.bincount().tolist()
            names = data.group_names or [str(group) for group in range(len(members))]
            listed = (f"{group} {count:,}" for group, count in zip(names, members, strict=False) if count)
            yield f"{name} groups: {', '.join(listed)}"
