"""`ddbench data check SPEC`: the place where a dataset is looked at: what is wrong with it, what it holds, what was noticed."""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ._shared import add_plugins, command, load_plugins

_ROWS = 30  # classes in the table; --json has all


def add(commands) -> None:
    parser = commands.add_parser("data", help="look after datasets", description="Look after datasets.")
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)
    check = command(actions, "check", main, "look at a dataset: problems, classes, files, copies; exits 2 if anything is wrong")
    check.add_argument("dataset", metavar="SPEC", help="name or name[k=v,...]")
    check.add_argument(
        "--root", type=Path, metavar="DIR", help="folder that holds the dataset's; default: $DDBENCH_DATA, or data"
    )
    check.add_argument("--sheet", type=Path, metavar="FILE.png", help="also draw the first images of each class")
    check.add_argument("--decode", action="store_true", help="also decode every image; the headers alone are read otherwise")
    check.add_argument("--json", action="store_true", help="print everything as JSON")
    add_plugins(check)


def main(args: argparse.Namespace) -> int:
    load_plugins(args.plugin)
    from ...core.registries import DATASETS

    DATASETS.check(args.dataset)
    from ...datasets._inspect import contact_sheet, examine, facts

    source = DATASETS.create(args.dataset, **({"root": args.root} if args.root else {}))
    problems, data = examine(source, args.decode)
    found = None if data is None else facts(data)
    if data is not None and args.sheet is not None:
        contact_sheet(data, args.sheet)
    if args.json:
        print(json.dumps({"dataset": args.dataset, "problems": problems, **(found or {})}, indent=1))
    else:
        show(args.dataset, problems, found, args.decode)
        if found is not None and args.sheet is not None:
            print(f"contact sheet: {args.sheet}")
    return 2 if problems else 0


def show(spec: str, problems: list[str], found: dict[str, Any] | None, decoded: bool) -> None:
    """Print for people, 80 columns wide where the terminal is not told."""
    from rich.console import Console

    console = Console(highlight=False, markup=False, emoji=False)
    for problem in problems:
        console.print(f"PROBLEM {problem}", soft_wrap=True)
    if found is not None:
        console.print(_classes(found))
        for line in summary(found, decoded):
            console.print(line)
        for note in found["notes"]:
            console.print(f"NOTE    {note}", soft_wrap=True)
    count, kind = (len(problems), "problem") if problems else (len(found["notes"]) if found else 0, "note")
    counted = f"{count} {kind}{'s' if count > 1 else ''}"
    console.print(f"{spec}: {counted if count else 'all is well'}", soft_wrap=True)


def _classes(found: dict[str, Any]) -> Any:
    """A row per class: its number, name, images per split, and the first of them."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("", justify="right")
    table.add_column(f"class ({found['class_order']})", overflow="ellipsis", no_wrap=True, max_width=28)
    table.add_column("train", justify="right")
    table.add_column("test", justify="right")
    table.add_column("first train image", overflow="ellipsis", no_wrap=True)
    train, test, names = found["splits"]["train"], found["splits"]["test"], found["classes"]
    for k, name in enumerate(names[:_ROWS]):
        table.add_row(str(k), name, f"{train['per_class'][k]:,}", f"{test['per_class'][k]:,}", train["first"][k])
    if len(names) > _ROWS:
        rest = [f"{min(part['per_class'][_ROWS:]):,} to {max(part['per_class'][_ROWS:]):,}" for part in (train, test)]
        table.add_row("…", f"{len(names) - _ROWS:,} more (--json has all)", *rest, "")
    table.add_row("", f"{len(names):,} classes", f"{train['images']:,}", f"{test['images']:,}", "", style="bold")
    return table


def summary(found: dict[str, Any], decoded: bool) -> Iterator[str]:
    """How files look, copies, what is not read, augmentations."""
    for split, part in found["splits"].items():
        yield f"{split + ':':7} {_files(part, decoded)}"
        if "groups" in part:
            yield f"{split} groups: {', '.join(f'{group} {count:,}' for group, count in part['groups'].items())}"
    yield f"copies: {_copies(found['identical'])}"
    yield f"unread: {len(found['unread']):,} files"
    mirror, colour = found["augmentations"]["mirror"], found["augmentations"]["colour"]
    yes, no = "flips are taken to keep the class (mirror=false where they do not)", "flips do not keep the class"
    yield f"mirror: {yes if mirror else no}"
    if not colour:
        yield "colour: the images are grey, colour jitter has nothing to change"


def _files(part: dict[str, Any], decoded: bool) -> str:
    height, width = part["shown_at"]
    files = part["files"]
    if files is None or not files["images"]:
        return f"{part['images']:,} arrays of {width} x {height} pixels"
    sizes = files["sizes"]
    small, large, usual = (f"{w} x {h}" for w, h in (sizes["smallest"], sizes["largest"], sizes["most_common"]))
    spread = small if small == large else f"{small} to {large} ({usual} most)"
    modes = ", ".join(f"{mode} {count:,}" for mode, count in files["modes"].items())
    read = "" if decoded else ", headers read (--decode reads pixels)"
    return f"{files['images']:,} images: {modes}; {spread}, shown at {width} x {height}{read}"


def _copies(twins: dict[str, Any]) -> str:
    if twins["compared"] is None:
        return "not compared, as that would mean decoding everything"
    counts = (
        f"{twins['test_in_train']:,} of test in train, {twins['train_copies']:,} within train, {twins['test_copies']:,} in test"
    )
    return f"{counts} ({twins['compared']} compared)"
