"""`ddbench show RUN`: the sets of a run and where they lie; `ddbench show SET`: what one holds and how it was made."""

import argparse
import json
import statistics
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ...core.errors import UserError
from ..records.records import FILE as RECORDS
from ..records.records import load_records
from ._shared import command

_MADE = (
    ("method", "method_spec"),
    ("backbone", "distill_backbone"),
    ("dataset", "dataset"),
    ("IPC", "ipc"),
    ("seed", "distill_seed"),
)
_SOFTWARE = (("ddbench", "ddbench_version"), ("torch", "torch_version"), ("commit", "git_commit"))


def add(commands) -> None:
    parser = command(commands, "show", main, "list the sets of a run, or say what one set holds and how it was made")
    parser.add_argument("folder", type=Path, metavar="RUN|SET", help="a run folder, or the folder of one set")
    parser.add_argument("-d", "--dataset", metavar="D", help="for --png of a set that refers to real images")
    parser.add_argument("--png", type=Path, metavar="FILE", help="also draw the images of a set into one picture")


def main(args: argparse.Namespace) -> int:
    if (args.folder / RECORDS).is_file():
        if args.png:
            raise UserError("--png draws one set; give the path of one, which `ddbench show RUN` lists")
        print(*sets_of(args.folder), sep="\n")
        return 0
    print(*card_of(args.folder), sep="\n")
    if args.png:
        print(f"picture: {draw(args.folder, args.dataset, args.png)}")
    return 0


def sets_of(run: Path) -> Iterator[str]:
    """One line per set of a run: what made it, its accuracy under each protocol, and its folder."""
    cells: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for record in load_records([run]):
        cells[record["cell_hash"]].append(record)
    folders = {cell_hash: folder for folder in sorted((run / "sets").glob("*/")) if (cell_hash := made_by(folder))}
    if not folders:
        raise UserError(f"{run} holds records but no sets; they stay on the machine that distilled")
    shown = {cell_hash: cells[cell_hash] for cell_hash in folders if cell_hash in cells}
    protocols = [*dict.fromkeys(record["protocol_spec"] for records in shown.values() for record in records)]
    rows = [
        [
            records[0]["dataset"],
            records[0]["method_spec"],
            records[0]["distill_backbone"] or "—",
            str(records[0]["ipc"] or "all"),
            str(records[0]["distill_seed"]),
            *(accuracy(records, protocol) for protocol in protocols),
            str(folders[cell_hash]),
        ]
        for cell_hash, records in shown.items()
    ]
    yield from aligned(["dataset", "method", "backbone", "IPC", "seed", *protocols, "set"], sorted(rows))
    yield "accuracy: on the backbone that distilled, else the mean over backbones; `ddbench table` has all of them"
    yield f"`ddbench show SET` describes one, `ddbench evaluate SET -d {rows[0][0]}` evaluates it" if rows else ""


def made_by(folder: Path) -> str | None:
    """The hash of the cell that made the set in `folder`; None for what is no set of a run."""
    try:
        return read_card(folder)["provenance"].get("cell_hash", folder.name)
    except UserError:
        return None


def accuracy(records: Sequence[dict[str, Any]], protocol: str) -> str:
    """Mean top-1 on the backbone that distilled, over all backbones where none did."""
    from ..records.own_and_transfer import is_own

    done = [record for record in records if record["protocol_spec"] == protocol and record["status"] == "ok"]
    own = [record for record in done if is_own(record)] or done
    return f"{statistics.fmean(record['top1'] for record in own):.1f}" if own else "—"


def aligned(head: list[str], rows: list[list[str]]) -> Iterator[str]:
    """Rows as columns of text, two spaces apart."""
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    for row in (head, *rows):
        yield "  ".join(f"{text:{width}}" for text, width in zip(row, widths, strict=True)).rstrip()


def card_of(folder: Path) -> Iterator[str]:
    """What a set holds and how it was made, as a person reads it."""
    card, shapes = read_card(folder), tensor_shapes(folder)
    made = card["provenance"]
    count = shapes.get("images", shapes.get("indices", shapes.get("labels", [0])))[0]
    size = "x".join(map(str, shapes["images"][-2:])) + " pixels" if "images" in shapes else "real images, by reference"
    yield f"{folder}: {count} images, {size}, {len(card['class_names'])} classes; float RGB in [0, 1], not normalised"
    for title, key in _MADE:
        if made.get(key) is not None:
            yield f"  {title + ':':10} {made[key]}"
    if card.get("labels_of"):
        yield f"  labels:    those of the {card['labels_of']}; the method did not read them"
    if "targets" in shapes:
        standardised = ", standardised" if "target_mean" in shapes else ""
        yield f"  targets:   {card['target_kind']}, {' x '.join(map(str, shapes['targets']))}{standardised}"
    for key, value in card["extras"].items():
        yield f"  {key + ':':10} {value:g}"
    yield from measured(made)
    yield f"  classes:   {shortened(', '.join(card['class_names']))}"
    yield f"  more:      {folder / 'set.json'}; images as PNGs: {folder / 'images'}"


def measured(made: dict[str, Any]) -> Iterator[str]:
    """What distilling took and where, as far as the set knows."""
    facts, machine = made.get("measured") or {}, made.get("environment") or {}
    if seconds := (facts.get("seconds") or {}).get("distill"):
        steps = f", {facts['steps']} steps" if facts.get("steps") else ""
        yield f"  distilled: in {seconds:.1f} s{steps}, on {machine.get('gpu') or machine.get('cpu') or 'an unnamed device'}"
    if "diverged" in made:
        yield f"  DIVERGED:  {made['diverged']}"
    if versions := [f"{name} {machine[key]}" for name, key in _SOFTWARE if machine.get(key)]:
        yield f"  software:  {', '.join(versions)}"


def shortened(text: str, limit: int = 100) -> str:
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def read_card(folder: Path) -> dict[str, Any]:
    """set.json of a set. Raises `UserError` for a folder that is none."""
    file = folder / "set.json"
    if not file.is_file():
        raise UserError(
            f"{folder} is neither a run (it has no {RECORDS}) nor a distilled set (it has no set.json); "
            "give results/runs/NAME, or a folder in its sets"
        )
    try:
        card = json.loads(file.read_text(encoding="utf-8"))
        typed = (
            isinstance(card["provenance"], dict) and isinstance(card["extras"], dict) and isinstance(card["class_names"], list)
        )
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        typed = False
    if not typed:
        raise UserError(f"{file} is damaged, or was not written by ddbench")
    return card


def tensor_shapes(folder: Path) -> dict[str, list[int]]:
    """Shapes by name, from the header of set.safetensors."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(folder / "set.safetensors", framework="numpy") as tensors:
            return {name: tensors.get_slice(name).get_shape() for name in tensors.keys()}  # noqa: SIM118 (no mapping)
    except (SafetensorError, OSError) as error:
        raise UserError(f"distilled set {folder} cannot be read, it may be truncated: {error}") from error


def draw(folder: Path, dataset: str | None, file: Path) -> Path:
    from ..api import load_set
    from ..report.gallery import gallery

    return gallery([("", load_set(folder, dataset))], file, folder.name)
