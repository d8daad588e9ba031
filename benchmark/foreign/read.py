"""Sets that were made elsewhere: an image folder, .npz, .safetensors, or a torch file such as the `data.pth` of LGM's code.

    dset, notes = read_external(Path("data.pth"), data)

Backbones normalise their input themselves, so a set has to hold pixels in [0, 1]. Normalising twice ruins accuracy (probably
the cause of the 2 % that a user reported in issue 3 of LGM's repository); such values are told, and undone. What a number or a
folder name means as a class, and whatever else was decided in reading, is told too.
"""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ...core.backbone import IMAGENET_MEAN, IMAGENET_STD
from ...core.data import ImageData
from ...core.errors import UserError
from ...core.sets import DistilledSet, folder_names
from ...datasets._decode import rgb, survey, survey_notes
from ...datasets._labels import Labels, is_one_hot, is_soft, plain_labels
from ...datasets.arrays import composited
from ...datasets.folder import class_folders, class_listing, unread_notes
from .files import read_file

PIXELS = ("auto", "unit", "byte", "imagenet", "clip", "half")
_STATISTICS = {
    "imagenet": (IMAGENET_MEAN, IMAGENET_STD),
    "clip": ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)),
    "half": ((0.5,) * 3, (0.5,) * 3),  # x * 2 - 1
}
_ROUNDING = 0.02  # by which pixels may leave [0, 1] through float16 or resampling; clamped
_NAMED = 4  # classes of which a note says what they were taken for


def read_external(
    path: Path,
    data: ImageData,
    pixels: str = "auto",
    *,
    images: str | None = None,
    labels: str | None = None,
    background: str = "white",
) -> tuple[DistilledSet, list[str]]:
    """The set in `path` with the classes of `data`, and one line for everything that was decided in reading it.

    `pixels` says what the values are: `unit` [0, 1], `byte` 0 to 255, normalised with the statistics of `imagenet`, `clip` or
    `half` (x * 2 - 1), or `auto`. `images` and `labels` name the arrays of a file that calls them otherwise; labels may be
    numbers, class names, one-hot rows or class probabilities. Raises `UserError` for anything else.
    """
    if path.is_dir():
        values, numbers, notes = _read_folder(path, data, background)
        soft = None
    else:
        stored_images, stored_labels = read_file(path, images, labels)
        numbers, soft, notes = _classes(stored_labels, data, path)
        values, more = _channels_first(stored_images, path, background)
        notes += more
    if len(values) != len(numbers):
        raise UserError(f"{path}: {len(values)} images and {len(numbers)} labels")
    unit, warnings = to_unit(values, pixels, path)
    notes = [*notes, *warnings]
    dset = DistilledSet(unit, numbers, data.class_names, provenance={"file": path.name, "notes": notes})
    if soft is not None:
        dset = dataclasses.replace(dset, targets=soft, target_kind="class_probabilities")
    return dset, notes


def to_unit(images: Tensor, pixels: str, path: Path) -> tuple[Tensor, list[str]]:
    """Images `(n, 3, h, w)` as float32 in [0, 1], and what is suspicious about them."""
    kind = "byte" if images.dtype == torch.uint8 and pixels == "auto" else pixels
    values = images.float()
    if not values.isfinite().all():
        raise UserError(f"{path}: some pixel values are not finite")
    low, high = (float(v) for v in values.aminmax())
    look = f"values run from {low:.2f} to {high:.2f} with mean {float(values.mean()):.2f} and std {float(values.std()):.2f}"
    warnings = []
    if kind == "auto":
        kind = _detect(values, low, high)
        if kind is None:
            raise UserError(f"{path}: {look}; say what they are with --pixels {'|'.join(PIXELS[1:])}")
        if kind in _STATISTICS:
            warnings.append(f"{look}: already normalised, it seems with {kind} statistics; undone, see --pixels")
    elif kind in _STATISTICS and low >= 0 and high <= 1:
        warnings.append(f"{look}: already in [0, 1]; undoing {kind} statistics flattens them, was --pixels unit meant?")
    unit = _undo(values, kind)
    below, above = (float(v) for v in unit.aminmax())
    if below < -_ROUNDING or above > 1 + _ROUNDING:
        cure = f"; they look normalised with {found} statistics" if (found := _detect(values, low, high)) in _STATISTICS else ""
        raise UserError(f"{path}: {look}, which as --pixels {kind} gives {below:.2f} to {above:.2f}, outside [0, 1]{cure}")
    return unit.clamp(0, 1), warnings


def _detect(values: Tensor, low: float, high: float) -> str | None:
    """What the values are; of several statistics that bring all of them into [0, 1], those that fill it best."""
    if low >= -_ROUNDING and high <= 1 + _ROUNDING:
        return "unit"
    if low >= 0 and high <= 255:
        return "byte"
    gaps = {kind: _gap(_undo(values, kind)) for kind in _STATISTICS}
    best = min(gaps, key=lambda kind: gaps[kind])
    return best if gaps[best] < float("inf") else None


def _gap(unit: Tensor) -> float:
    """How far the channels' extremes are from 0 and 1, summed; infinite for values outside."""
    low, high = unit.amin(dim=(0, 2, 3)), unit.amax(dim=(0, 2, 3))
    if low.min() < -_ROUNDING or high.max() > 1 + _ROUNDING:
        return float("inf")
    return float(low.abs().sum() + (1 - high).abs().sum())


def _undo(values: Tensor, kind: str) -> Tensor:
    if kind == "byte":
        return values / 255
    if kind == "unit":
        return values
    mean, std = (torch.tensor(numbers).view(1, 3, 1, 1) for numbers in _STATISTICS[kind])
    return values * std + mean


def _classes(stored: Tensor | np.ndarray, data: ImageData, path: Path) -> tuple[Tensor, Tensor | None, list[str]]:
    """Labels `(n,)` as places among the classes of `data`, class probabilities `(n, k)` where they are such, and notes."""
    values = stored.numpy() if isinstance(stored, Tensor) else stored
    if is_soft(values) and not is_one_hot(values) and values.shape[1] > 1:
        if values.shape[1] != data.num_classes:
            raise UserError(
                f"{path}: labels are probabilities of {values.shape[1]} classes, {data.name} has {data.num_classes}"
            )
        soft = torch.from_numpy(values.astype(np.float32))
        return soft.argmax(1), soft, ["labels are class probabilities: probes are trained on them", *_order_note(data)]
    if values.ndim == 2 and values.dtype.kind == "f" and values.shape[1] == data.num_classes and not is_one_hot(values):
        raise UserError(f"{path}: labels are rows that are no class probabilities; if they are logits, save softmax(labels)")
    labels = plain_labels(values, path)
    places, notes = _places(labels, data, path)
    return places, None, [*labels.notes, *notes]


def _places(labels: Labels, data: ImageData, path: Path) -> tuple[Tensor, list[str]]:
    if labels.values.dtype.kind == "U":
        place = {name: k for k, name in enumerate(data.class_names)}
        if unknown := sorted(set(labels.values.tolist()) - set(place)):
            raise UserError(f"{path}: {unknown[0]!r} is no class of {data.name} ({_some(data)})")
        return torch.tensor([place[value] for value in labels.values.tolist()], dtype=torch.int64), []
    present = set(labels.values.tolist())
    if (by_name := _numeric_names(data)) is not None and present <= by_name.keys():
        places = torch.tensor([by_name[value] for value in labels.values.tolist()], dtype=torch.int64)
        moved = by_name != {k: k for k in range(data.num_classes)}
        return places, ["labels are the numbers that the classes are named by"] * moved
    if present and max(present) >= data.num_classes:
        raise UserError(f"{path}: label {max(present)}, but {data.name} has {data.num_classes} classes, 0 to one less")
    return torch.from_numpy(labels.values), list(_order_note(data))


def _numeric_names(data: ImageData) -> dict[int, int] | None:
    """Places of classes by the number that each is named, where all of them are."""
    if not all(name.isascii() and name.isdecimal() for name in data.class_names):
        return None
    return {int(name): k for k, name in enumerate(data.class_names)}


def _order_note(data: ImageData) -> Iterator[str]:
    """Which class each number was taken for, unless the classes are named 0, 1, 2 ..."""
    if data.class_names != tuple(map(str, range(data.num_classes))):
        taken = ", ".join(f"{k} is {name!r}" for k, name in enumerate(data.class_names[:_NAMED]))
        more = ", …" * (data.num_classes > _NAMED)
        yield f"numbers were taken for the classes of {data.name} ({data.class_order}): {taken}{more}"


def _some(data: ImageData) -> str:
    return ", ".join(data.class_names[:3]) + ", …" * (data.num_classes > 3)


def _read_folder(path: Path, data: ImageData, background: str) -> tuple[Tensor, Tensor, list[str]]:
    """uint8 images, labels and notes of an image folder CLASS/IMAGE."""
    found = class_folders(path)
    places, notes = _folder_places(found, data, path)
    listing = class_listing(path, found)
    decoded = [rgb(file, background) for file in listing.files]
    if len(sizes := sorted({image.size for image, _ in decoded})) > 1:
        shown = " and ".join(f"{width}x{height}" for width, height in sizes[:2])
        raise UserError(f"{path}: images of several sizes ({shown}); a set has one: resize them")
    counted = survey([seen for _, seen in decoded], lambda k: "/".join(listing.files[k].parts[-2:]))
    pixels = np.stack([np.asarray(image) for image, _ in decoded]).transpose(0, 3, 1, 2)
    labels = torch.tensor([places[found[label]] for label in listing.labels])
    order = labels.argsort(stable=True)
    lines = [*notes, *unread_notes(path, [path / name for name in found], listing.unread), *survey_notes(counted, background)]
    return torch.from_numpy(np.ascontiguousarray(pixels))[order], labels[order], lines


def _folder_places(folders: list[str], data: ImageData, path: Path) -> tuple[dict[str, int], list[str]]:
    """The class of each folder: by its name, by the name that `DistilledSet.save` gives it, or by number from 0."""
    by_name = {name: k for k, name in enumerate(data.class_names)}
    by_folder = {name: k for k, name in enumerate(folder_names(data.class_names))}
    by_number = _numeric_names(data) or {k: k for k in range(data.num_classes)}
    places, notes = {}, []
    for folder in folders:
        number = by_number.get(int(folder)) if folder.isascii() and folder.isdecimal() else None
        place = by_name.get(folder, by_folder.get(folder, number))
        if place is None:
            raise UserError(
                f"{path}: {folder!r} is no class of {data.name} ({_some(data)}); name folders by class or number from 0"
            )
        if folder not in by_name and folder not in by_folder and _numeric_names(data) is None:
            notes = list(_order_note(data))
        places[folder] = place
    if len(set(places.values())) < len(places):
        twice = next(name for name in places if list(places.values()).count(places[name]) > 1)
        raise UserError(f"{path}: two folders stand for class {data.class_names[places[twice]]!r}, one of them {twice!r}")
    return places, notes


def _channels_first(images: Tensor | np.ndarray, path: Path, background: str) -> tuple[Tensor, list[str]]:
    """Images `(n, 3, h, w)` from grey, RGB or RGBA, channels first or last; and notes on what was done."""
    notes: list[str] = []
    if isinstance(images, np.ndarray):
        if images.dtype.kind not in "iufb":
            raise UserError(f"{path}: images are {images.dtype}; save numbers")
        if images.dtype.kind == "u" and images.dtype.itemsize == 2:
            images = ((images.astype(np.uint32) * 255 + 32767) // 65535).astype(np.uint8)
            notes.append("images of 16 bits per channel, scaled to 8")
        elif images.dtype.itemsize > 4 and images.dtype.kind in "iu":
            images = images.astype(np.float64)
        images = torch.from_numpy(np.ascontiguousarray(images, dtype=images.dtype.newbyteorder("=")))
    shape = tuple(images.shape)
    if images.ndim == 3:
        images = images.unsqueeze(1)
    elif images.ndim == 4 and images.shape[1] not in (1, 3) and images.shape[3] in (1, 3, 4):
        images = images.permute(0, 3, 1, 2)
    if images.ndim != 4 or images.shape[1] not in (1, 3, 4) or not images.numel():
        raise UserError(f"{path}: images have shape {shape}; write (n, 3, h, w) or (n, h, w, 3)")
    if images.shape[1] == 1:
        images = images.expand(-1, 3, -1, -1)
        notes.append("grey images are shown in three equal channels")
    if images.shape[1] == 4:
        if images.dtype != torch.uint8:
            raise UserError(f"{path}: images have shape {shape} with a fourth channel; save three, or uint8 with alpha last")
        flat, transparent = composited(images.numpy(), background)
        images = torch.from_numpy(flat)
        notes += [f"{transparent:,} with transparent pixels, composited on {background}"] * bool(transparent)
    return images.contiguous(), notes
