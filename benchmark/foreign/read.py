"""Sets that were made elsewhere: an image folder, .npz, .safetensors, or the `data.pth` of LGM's released code.

    dset, warnings = read_external(Path("data.pth"), data, "auto")

Backbones normalise their input themselves, so a set has to hold pixels in [0, 1]. Normalising twice ruins accuracy (probably
the cause of the 2 % that a user reported in issue 3 of LGM's repository); such values are told, and undone.
"""

import re
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ...backbones._weights import TORCH_SUFFIXES, read_state
from ...core.backbone import IMAGENET_MEAN, IMAGENET_STD
from ...core.data import ImageData
from ...core.errors import UserError
from ...core.sets import DistilledSet
from ...datasets._decode import rgb
from ...datasets._labels import plain_labels
from ...datasets.arrays import read_arrays
from ...datasets.folder import class_folders, image_files

PIXELS = ("auto", "unit", "byte", "imagenet", "clip", "half")
_STATISTICS = {
    "imagenet": (IMAGENET_MEAN, IMAGENET_STD),
    "clip": ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)),
    "half": ((0.5,) * 3, (0.5,) * 3),  # x * 2 - 1
}
_ROUNDING = 0.02  # by which pixels may leave [0, 1] through float16 or resampling; clamped


def read_external(path: Path, data: ImageData, pixels: str = "auto") -> tuple[DistilledSet, list[str]]:
    """The set in `path` with the classes of `data`, and one line for everything suspicious about its pixel values.

    `pixels` says what the values are: `unit` [0, 1], `byte` 0 to 255, normalised with the statistics of `imagenet`, `clip` or
    `half` (x * 2 - 1), or `auto`. Raises `UserError` for anything else.
    """
    images, labels = _read_folder(path, data) if path.is_dir() else _read_file(path)
    images = _channels_first(images, path)
    if len(images) != len(labels) or not len(images):
        raise UserError(f"{path}: {len(images)} images and {len(labels)} labels")
    if int(labels.max()) >= data.num_classes:
        raise UserError(f"{path}: label {int(labels.max())}, but {data.name} has {data.num_classes} classes, 0 to one less")
    unit, warnings = to_unit(images, pixels, path)
    return DistilledSet(unit, labels, data.class_names, provenance={"file": path.name}), warnings


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


def _read_file(path: Path) -> tuple[Tensor, Tensor]:
    """The arrays `images` and `labels` of a file. LGM's released code saves them under these names in data.pth."""
    if path.suffix == ".npz":
        arrays = {name: torch.from_numpy(array) for name, array in read_arrays(path).items() if array.dtype.kind in "iufb"}
    elif path.suffix in (".safetensors", *TORCH_SUFFIXES):
        arrays = read_state(path)
    else:
        raise UserError(f"{path}: give a set folder, an image folder, .npz, .safetensors or .pth")
    for key in ("images", "labels"):
        if key not in arrays:
            raise UserError(f"{path} has no {key!r}, only {', '.join(arrays) or 'nothing'}")
    return arrays["images"], torch.from_numpy(plain_labels(arrays["labels"].numpy(), path).values)


def _read_folder(path: Path, data: ImageData) -> tuple[Tensor, Tensor]:
    """uint8 images and labels of an image folder CLASS/IMAGE; the folders are class names of `data`, or numbers."""
    by_name = {_folder_name(name): label for label, name in enumerate(data.class_names)}
    images, labels = [], []
    for folder in class_folders(path):
        label = by_name.get(folder, int(folder) if folder.isdecimal() else None)
        if label is None:
            some = ", ".join(data.class_names[:3])
            raise UserError(
                f"{path}: {folder!r} is no class of {data.name} ({some}, …); name folders by class or number from 0"
            )
        files = image_files(path / folder)
        images += [np.asarray(rgb(file)[0]) for file in files]
        labels += [label] * len(files)
    if len(shapes := {image.shape for image in images}) > 1:
        sizes = " and ".join(sorted(f"{w}x{h}" for h, w, _ in list(shapes)[:2]))
        raise UserError(f"{path}: images of several sizes ({sizes}); a set has one")
    return torch.from_numpy(np.stack(images)), torch.tensor(labels)


def _folder_name(name: str) -> str:
    """As `DistilledSet.save` names the folder of a class."""
    return re.sub(r"[^\w.-]+", "_", name)


def _channels_first(images: Tensor, path: Path) -> Tensor:
    if images.ndim == 4 and images.shape[1] != 3 and images.shape[-1] == 3:
        images = images.permute(0, 3, 1, 2)
    if images.ndim != 4 or images.shape[1] != 3:
        raise UserError(f"{path}: images have shape {tuple(images.shape)}; write (n, 3, h, w) or (n, h, w, 3)")
    return images.contiguous()
