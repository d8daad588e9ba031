"""Labels as people store them, and what they mean: columns, one-hot rows, floats, names, numbers with gaps."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..core.errors import UserError
from ._class_order import number_order

_SUM = 1e-2  # by which probabilities may miss 1: they may have been stored as float16


@dataclass(frozen=True)
class Labels:
    """One label per image: `values (n,)`, int64 from 0 or strings. `notes`: what had to be done to get there."""

    values: np.ndarray
    notes: tuple[str, ...] = ()


def plain_labels(stored: np.ndarray, where: object, key: str = "labels") -> Labels:
    """The labels of one file. Raises `UserError` naming it, with what to do, for what are no classes of images."""
    values, notes = np.asarray(stored), []
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
        notes.append(f"labels of shape {stored.shape} are read as a vector")
    elif values.ndim == 2 and is_one_hot(values):
        values = values.argmax(1)
        notes.append(f"one-hot labels of shape {stored.shape} are read as class numbers")
    if values.ndim != 1:
        raise UserError(f"{where}: {key} have shape {stored.shape}: {_many(values)}")
    if values.dtype.kind in "US":
        return Labels(_text(values, where, key), tuple(notes))
    if values.dtype.kind == "f":
        if not np.isfinite(values).all():
            gone = int((~np.isfinite(values)).sum())
            raise UserError(f"{where}: {gone:,} {key} are missing (NaN) or infinite; leave images without a class out")
        if not (values == np.floor(values)).all():
            raise UserError(f"{where}: {key} are fractions such as {_odd(values)}; a class is a whole number from 0 or a name")
        notes.append(f"labels stored as {values.dtype} are read as whole numbers")
    elif values.dtype.kind not in "iub":
        raise UserError(f"{where}: {key} are {values.dtype}; write whole numbers from 0, or names as text")
    if len(values) and values.min() < 0:
        below = int((values < 0).sum())
        raise UserError(f"{where}: {below:,} {key} are below 0 (smallest {values.min():g}); leave images without a class out")
    if len(values) and int(values.max()) > np.iinfo(np.int64).max:
        raise UserError(f"{where}: {key} reach {values.max():g}; write whole numbers from 0")
    return Labels(values.astype(np.int64), tuple(notes))


def is_one_hot(values: np.ndarray) -> bool:
    """Whether every row `(n, k)` is 0 but for a single 1."""
    if values.dtype.kind not in "iufb" or values.shape[1] < 2:
        return False
    return bool(((values == 0) | (values == 1)).all() and (values.sum(1) == 1).all())


def is_soft(values: np.ndarray) -> bool:
    """Whether every row `(n, k)` holds class probabilities."""
    if values.ndim != 2 or values.dtype.kind != "f" or not np.isfinite(values).all():
        return False
    return bool((values >= 0).all() and (np.abs(values.astype(np.float64).sum(1) - 1) <= _SUM).all())


def _many(values: np.ndarray) -> str:
    if is_soft(values):
        return "they are class probabilities, and an image of a dataset has one class; save labels.argmax(1)"
    if values.ndim == 2 and values.dtype.kind in "iufb" and ((values == 0) | (values == 1)).all():
        return (
            f"{int((values.sum(1) != 1).sum()):,} rows mark none or several classes, and a probe needs one; choose one column"
        )
    return "write a vector of whole numbers from 0, one per image"


def _odd(values: np.ndarray) -> str:
    return f"{values[values != np.floor(values)][0]:g}"


def _text(values: np.ndarray, where: object, key: str) -> np.ndarray:
    try:
        return values.astype(str) if values.dtype.kind == "U" else np.char.decode(values, "utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"{where}: {key} are bytes that are not UTF-8; save them as text") from error


@dataclass(frozen=True)
class Classes:
    """Class names, the labels `(n,)` int64 of each split as places among them, how they are ordered, what was done."""

    names: tuple[str, ...]
    labels: tuple[np.ndarray, ...]
    order: str
    notes: tuple[str, ...] = ()


def numbered(splits: Sequence[Labels], where: object, names: Sequence[str] | None = None) -> Classes:
    """Classes of several splits together. `names`: of the numbers from 0, where the data comes with them."""
    notes = tuple(dict.fromkeys(note for split in splits for note in split.notes))
    if len({split.values.dtype.kind for split in splits}) > 1:
        raise UserError(f"{where}: labels are names in one split and numbers in another; write the same in both")
    present = np.unique(np.concatenate([split.values for split in splits]))
    if splits[0].values.dtype.kind == "U":
        ordered, order = number_order(present.tolist())
        place = {name: k for k, name in enumerate(ordered)}
        labels = tuple(np.array([place[value] for value in split.values.tolist()], np.int64) for split in splits)
        return Classes(tuple(ordered), labels, order, notes)
    if names is not None and len(present) and len(names) <= present[-1]:
        raise UserError(
            f"{where}: label {present[-1]}, but there are {len(names)} class names; name at least {present[-1] + 1}"
        )
    known = range(len(present)) if names is None else range(len(names))
    if len(present) == len(known) and (not len(present) or present[-1] == len(present) - 1):
        return Classes(tuple(names or map(str, known)), tuple(split.values for split in splits), "as numbered", notes)
    told = ", ".join(str(value) for value in present[:4]) + ", …" * (len(present) > 4)
    gap = f"labels {told} leave numbers out: the {len(present):,} classes are these, in this order"
    kept = tuple(str(names[int(value)]) if names is not None else str(value) for value in present.tolist())
    labels = tuple(np.searchsorted(present, split.values).astype(np.int64) for split in splits)
    return Classes(kept, labels, "as numbered", (*notes, gap))
