"""A dataset looked at: what `ddbench data check` prints, as JSON-ready facts, and a contact sheet."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from ..core.data import DataSource, ImageData, Split
from ..core.errors import UserError
from ._notes import described

_SAMPLE = 64  # images that are looked at for colour
_SIDE, _GAP, _FONT = 56, 4, 13  # of the contact sheet: pixels of an image, between images, points
_TRAIN, _TEST, _ROWS = 8, 4, 100  # images of a class shown per split; classes shown
_UNLIMITED = 1e-12  # GB below which nothing is decoded ahead: files are looked at, not read


def examine(source: DataSource, decode: bool = False) -> tuple[list[str], ImageData | None]:
    """What is wrong with the data of a source, and the data where it can be loaded.

    Files are opened but their pixels not decoded, unless `decode`.
    """
    problems = list(source.check())
    if problems:
        return problems, None
    if not decode and any(field.name == "memory_limit_gb" for field in dataclasses.fields(source)):  # type: ignore[arg-type]
        source = dataclasses.replace(source, memory_limit_gb=_UNLIMITED)  # type: ignore[type-var]
    try:
        data = source.load()
    except UserError as error:
        return [str(error)], None
    return [], data if "twins" in data.facts else described(data)


def facts(data: ImageData) -> dict[str, Any]:
    """Everything that is known of a dataset without training on it, JSON-ready."""
    return {
        "name": data.name,
        "classes": list(data.class_names),
        "class_order": data.class_order,
        "splits": {split: _split_facts(data, split) for split in ("train", "test")},
        "identical": data.facts["twins"],
        "unread": data.facts.get("unread", []),
        "augmentations": {"mirror": data.mirror, "colour": not _is_grey(data.train)},
        "notes": list(data.notes),
    }


def _split_facts(data: ImageData, split: str) -> dict[str, Any]:
    part: Split = getattr(data, split)
    counts = part.labels.bincount(minlength=data.num_classes).tolist()
    firsts = {int(label): k for k, label in reversed(list(enumerate(part.labels.tolist())))}
    found: dict[str, Any] = {
        "images": len(part),
        "per_class": counts,
        "first": [_name(part, firsts[label]) if label in firsts else None for label in range(data.num_classes)],
        "files": data.facts.get("files", {}).get(split),
        "shown_at": list(part.images[torch.tensor([0])].shape[-2:]),
    }
    if part.groups is not None:
        members = part.groups.bincount().tolist()
        names = data.group_names or [str(group) for group in range(len(members))]
        found["groups"] = {name: count for name, count in zip(names, members, strict=False) if count}
    return found


def _name(split: Split, index: int) -> str:
    name_of = getattr(split.images, "name", None)
    return name_of(index) if name_of is not None else f"image {index}"


def _is_grey(split: Split) -> bool:
    """Whether the channels of some images, spread over the split, are all equal."""
    chosen = torch.linspace(0, len(split) - 1, min(_SAMPLE, len(split))).long()
    images = split.images[chosen]
    return bool((images[:, :1] == images).all())


def contact_sheet(data: ImageData, path: Path) -> Path:
    """A PNG with a row per class: its first train images, a gap, its first test images. Returns its path."""
    font = ImageFont.load_default(_FONT)
    names = [f"{k}  {_short(name)}" for k, name in enumerate(data.class_names[:_ROWS])]
    left = max(int(font.getlength(name)) for name in names) + 3 * _GAP
    pitch = _SIDE + _GAP
    width = left + (_TRAIN + _TEST) * pitch + 4 * _GAP
    sheet = Image.new("RGB", (width, 2 * pitch // 3 + pitch * len(names)), "white")
    pen, top = ImageDraw.Draw(sheet), 2 * pitch // 3
    more = f", first {_ROWS} of {data.num_classes:,} classes" if data.num_classes > _ROWS else ""
    pen.text((_GAP, _GAP), f"{data.name}{more}: train", fill="black", font=font)
    pen.text((left + _TRAIN * pitch + 4 * _GAP, _GAP), "test", fill="black", font=font)
    for row, name in enumerate(names):
        y = top + row * pitch
        pen.text((_GAP, y + _SIDE / 2), name, fill="black", font=font, anchor="lm")
        train, test = _firsts(data.train, row, _TRAIN), _firsts(data.test, row, _TEST)
        for k, image in enumerate(train):
            sheet.paste(image, (left + k * pitch, y))
        for k, image in enumerate(test):
            sheet.paste(image, (left + (_TRAIN + k) * pitch + 4 * _GAP, y))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        sheet.save(path)
    except (OSError, ValueError) as error:
        raise UserError(
            f"cannot write {path}: {' '.join(str(error).split())}; give a .png in a folder that can be written"
        ) from error
    return path


def _firsts(split: Split, label: int, count: int) -> Sequence[Image.Image]:
    chosen = (split.labels == label).nonzero().flatten()[:count]
    return [_small(image) for image in split.images[chosen]] if len(chosen) else []


def _small(image: Tensor) -> Image.Image:
    shown = Image.fromarray(np.ascontiguousarray(image.permute(1, 2, 0).numpy()))
    method = Image.Resampling.NEAREST if max(shown.size) <= _SIDE else Image.Resampling.BILINEAR
    return shown.resize((_SIDE, _SIDE), method)


def _short(name: str) -> str:
    return name if len(name) <= 24 else name[:23] + "…"
