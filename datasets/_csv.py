"""Labels in a CSV beside a folder of images: columns file, label and, where it says so, split."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from ..core.data import stratified_indices
from ..core.errors import UserError
from ._class_order import number_order
from ._decode import extensions
from ._limits import Listing, hidden

_COLUMNS = {
    "file": ("file", "filename", "file_name", "image", "path", "filepath"),
    "label": ("label", "class", "target", "category"),
    "split": ("split", "subset", "set"),
}
TEST_NAMES = ("test", "val", "valid", "validation", "dev")
_PART, _SEED = 0.2, 0  # where nothing says which images test


def csv_listing(folder: Path, table: Path) -> tuple[Listing, Listing, list[str], str, list[str]]:
    """Train and test files with labels, class names, which split tests, and notes. Raises `UserError` naming file and line."""
    rows = read_rows(folder, table)
    notes: list[str] = []
    splits = _splits(rows, table, notes)
    used = [row for part in splits for row in part]
    names = number_order(sorted({row[1] for row in used}))[0]
    place = {name: k for k, name in enumerate(names)}
    train, test = (Listing([row[0] for row in part], [place[row[1]] for row in part]) for part in splits)
    if not any(row[2] for row in rows):
        train, test = map(train.take, split_off(torch.tensor(train.labels), table))
        notes.append(SPLIT_OFF)
    listed = {row[0] for row in rows}
    unread = [f for f in sorted(folder.rglob("*")) if f.is_file() and f not in listed and not _hidden(f, folder) and f != table]
    if pictures := [file for file in unread if file.suffix.lower() in extensions()]:
        notes.append(f"{len(pictures):,} images are not in {table.name} (first {pictures[0].name}) and are not read")
    test_split = (
        "test" if not any(row[2] for row in rows) else next(name for name in TEST_NAMES if any(row[2] == name for row in rows))
    )
    return Listing(train.files, train.labels, unread=unread), test, names, test_split, notes


SPLIT_OFF = "nothing says which images test: a stratified fifth, by a fixed seed, was split off train"


def split_off(labels: Tensor, where: object) -> tuple[list[int], list[int]]:
    """Which images stay in train, and a stratified fifth in the place of a test split that is not there."""
    rest, part = stratified_indices(labels, _PART, _SEED)
    if not len(part):
        raise UserError(f"{where}: no class has images enough to split a fifth off for testing; say which images test")
    return rest.tolist(), part.tolist()


def _hidden(file: Path, folder: Path) -> bool:
    return any(map(hidden, file.relative_to(folder).parts))


def _splits(rows: Sequence[tuple[Path, str, str]], table: Path, notes: list[str]) -> list[list[tuple[Path, str, str]]]:
    """Rows of train and of the first of test, val ... that is there."""
    held = {row[2] for row in rows} - {""}
    if not held:
        return [list(rows), []]
    test = next((name for name in TEST_NAMES if name in held), None)
    if "train" not in held or test is None:
        raise UserError(f"{table}: the column split holds {', '.join(sorted(held))}; write train and test (or val)")
    if others := sorted(held - {"train", test}):
        notes.append(f"{sum(row[2] in others for row in rows):,} images of the split {', '.join(others)} are not read")
    return [[row for row in rows if row[2] == name] for name in ("train", test)]


def read_rows(folder: Path, table: Path) -> list[tuple[Path, str, str]]:
    """(file, label, split) of each row; paths are relative to the folder, or to the table where they are there."""
    try:
        text = table.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise UserError(f"{table} does not exist; labels= names a CSV with the columns file,label[,split]") from error
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{table} cannot be read as UTF-8 text: {error}; save it as UTF-8") from error
    first = text.partition("\n")[0]
    reader = csv.DictReader(io.StringIO(text), delimiter=max(",;\t", key=first.count))
    columns = {key: _column(reader.fieldnames or (), names) for key, names in _COLUMNS.items()}
    for key in ("file", "label"):
        if columns[key] is None:
            held = ", ".join(reader.fieldnames or ()) or "none"
            raise UserError(f"{table} has no column {key!r}, only {held}; the first line names them: file,label[,split]")
    rows: dict[Path, tuple[Path, str, str]] = {}
    try:
        for number, row in enumerate(reader, 2):
            name, label = (str(row[columns[key]] or "").strip() for key in ("file", "label"))
            split = str(row[columns["split"]] or "").strip().lower() if columns["split"] else ""
            if not name or not label or (columns["split"] and not split):
                raise UserError(f"{table}:{number} has an empty cell; give every image a file, a label and, if used, a split")
            file = _found(name, folder, table, number)
            if file in rows and rows[file] != (file, label, split):
                raise UserError(f"{table}:{number} gives {name} a second label or split; keep one")
            rows[file] = (file, label, split)
    except csv.Error as error:
        raise UserError(f"{table}:{reader.line_num} is no CSV: {error}") from error
    if not rows:
        raise UserError(f"{table} has no rows below its first line")
    return list(rows.values())


def _column(held: Sequence[str], names: Sequence[str]) -> str | None:
    return next((column for name in names for column in held if column and column.strip().lower() == name), None)


def _found(name: str, folder: Path, table: Path, number: int) -> Path:
    for spelt in dict.fromkeys((name, name.replace("\\", "/"))):  # as Windows writes paths
        for root in (folder, table.parent):
            if (file := root / spelt).is_file():
                return file
    raise UserError(f"{table}:{number}: there is no file {name} in {folder}; paths are relative to it")
