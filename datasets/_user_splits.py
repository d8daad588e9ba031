"""Users' sets that come as shards or tables: which part tests, and labels of any kind as class numbers."""

import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..core.data import ImageData
from ..core.errors import UserError
from ._class_order import order_notes
from ._csv import SPLIT_OFF, TEST_NAMES, split_off
from ._decode import extensions
from ._encoded import Encoded, EncodedSplit, encoded_data
from ._labels import numbered, plain_labels
from ._limits import hidden
from .arrays import class_names
from .folder import with_mirror

_TOKEN = re.compile(r"(?:^|[^a-z])(train|test|val|valid|validation|dev)(?:[^a-z]|$)")


def files_below(folder: Path, pattern: str) -> list[Path]:
    """Files of a folder and its subfolders by name, hidden ones left out, in order."""
    found = (file for file in folder.rglob(pattern) if file.is_file())
    return sorted(file for file in found if not any(map(hidden, file.relative_to(folder).parts)))


_HOLD_DATA = {".arrow", ".bz2", ".gz", ".npz", ".parquet", ".tar", ".tgz", ".txz", ".xz", ".zip", ".zst"}


def not_read(folder: Path, kind: str) -> list[Path]:
    """Files below a folder of shards that may hold images and are no shards of this `kind` (`.tar`)."""
    may = (_HOLD_DATA | extensions()) - {kind}
    return [file for file in files_below(folder, "*") if file.suffix.lower() in may] if folder.is_dir() else []


def by_split(files: Iterable[Path], root: Path) -> dict[str, list[Path]]:
    """Files by the split that their name, or else a folder below `root`, tells; `""`: none does."""
    found: dict[str, list[Path]] = {}
    for file in sorted(files):
        parts = [part.lower() for part in file.relative_to(root).parts[::-1]]
        tokens = [match.group(1) for part in parts if (match := _TOKEN.search(part))]
        found.setdefault(tokens[0] if tokens else "", []).append(file)
    return found


def chosen_splits(held: Sequence[str], where: Path, notes: list[str]) -> tuple[str, str | None]:
    """Names of the train and of the test split; None: there is one split, of which a part has to test."""
    if len(held) == 1:
        return held[0], None
    test = next((name for name in TEST_NAMES if name in held), None)
    if "train" not in held or test is None:
        raise UserError(
            f"{where} holds the splits {', '.join(name or 'unnamed' for name in sorted(held))}; train and test are due"
        )
    if others := sorted(set(held) - {"train", test}):
        notes.append(f"splits that are not read: {', '.join(name or 'unnamed' for name in others)}")
    return "train", test


def split_data(
    source: Any,
    name: str,
    load: Callable[[str], tuple[np.ndarray, Callable[[np.ndarray | None], Encoded]]],
    held: Sequence[str],
    names: Sequence[str] | None,
    notes: list[str],
    unread: Sequence[Path] = (),
) -> ImageData:
    """The dataset. `load(split)` gives the stored labels and a maker of images at some places (None: all)."""
    where = source.path
    train_name, test_name = chosen_splits(held, where, notes)
    stored, make = load(train_name)
    train_labels = plain_labels(stored, where)
    if test_name is None:
        classes = numbered([train_labels], where, names)
        sides = map(np.array, split_off(torch.from_numpy(classes.labels[0]), where))
        train, test = (EncodedSplit(make(side), classes.labels[0][side].tolist()) for side in sides)
        notes.append(SPLIT_OFF)
    else:
        test_stored, make_test = load(test_name)
        classes = numbered([train_labels, plain_labels(test_stored, where)], where, names)
        train, test = (
            EncodedSplit(make(None), classes.labels[0].tolist()),
            EncodedSplit(make_test(None), classes.labels[1].tolist()),
        )
    told = [*order_notes(classes.names, classes.order), *classes.notes, *notes]
    title = name if test_name in (None, "test") else f"{name}[test={test_name}]"
    data = encoded_data(
        title, train, test, classes.names, source.memory_limit_gb,
        notes=told, facts={"unread": list(map(str, unread))}, class_order=classes.order,
    )  # fmt: skip
    return with_mirror(data, source.mirror)


def listed_names(folder: Path) -> list[str] | None:
    """Class names of numbers from 0: classes.json, a list, or classnames.txt, a line each; None where there is neither."""
    lines = folder / "classnames.txt"
    if (names := class_names(folder)) is not None or not lines.is_file():
        return names
    try:
        return [line.strip() for line in lines.read_text().splitlines() if line.strip()]
    except (ValueError, OSError) as error:
        raise UserError(f"{lines} cannot be read: {' '.join(str(error).split())}") from error
