"""The distilled set: what a method returns, what a protocol reads, what a user takes away.

On disk a set is a folder:

    set.safetensors   images float32 (n, 3, h, w) in [0, 1], labels int64 (n,), targets float32 (n, k), indices int64 (n,),
                      target_mean and target_std float32 (k,)
    set.json          class names, kind of targets, whose labels they are, extras, provenance
    images/CLASS/*.png   the same images, ImageFolder layout, for looking at and for other tools

The images are never normalised: feed them to any backbone with that backbone's own normalisation.
"""

import hashlib
import json
import os
import re
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from .data import ImageData, Images, Selection, to_float
from .disk import writing
from .errors import UserError

TargetKind = Literal["class_probabilities", "teacher_features"]
_SCHEMA = 1
_TENSORS = ("images", "labels", "targets", "indices", "target_mean", "target_std")


@dataclass(frozen=True)
class DistilledSet:
    """A small set of images that stands for a dataset.

    `images` is a tensor `(n, 3, h, w)` in [0, 1] (never normalised), or `Images` that refer to real data without copying
    it (the full-data ceiling). At least one of `labels (n,)` and `targets (n, k)` is there; `target_kind` says what the
    targets are. `indices (n,)`: for real images, their places in the train split. `extras`: numbers that belong to the
    artefact, such as a learned student learning rate.

    Targets may be standardised; `targets * target_std + target_mean`, both `(k,)`, are then what `target_kind` says.
    `labels_of` says whose labels they are where the method itself reads none, for instance `initial images`: such a set is
    not balanced over classes, and classification probes use it off-label, which tables mark.
    """

    images: Tensor | Images
    labels: Tensor | None
    class_names: tuple[str, ...]
    targets: Tensor | None = None
    target_kind: TargetKind | None = None
    indices: Tensor | None = None
    target_mean: Tensor | None = None
    target_std: Tensor | None = None
    labels_of: str | None = None
    extras: dict[str, float] = field(default_factory=dict)
    provenance: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        n = len(self.images)
        if self.labels is None and self.targets is None:
            raise ValueError("a distilled set needs labels, targets or both")
        if (self.targets is None) != (self.target_kind is None):
            raise ValueError("targets and target_kind come together")
        if (self.target_mean is None) != (self.target_std is None):
            raise ValueError("target_mean and target_std come together")
        for name in ("labels", "targets", "indices"):
            value = getattr(self, name)
            if value is not None and len(value) != n:
                raise ValueError(f"{n} images but {len(value)} {name}")
        if isinstance(self.images, Tensor) and n:
            low, high = self.images.aminmax()
            if self.images.ndim != 4 or self.images.shape[1] != 3 or low < 0 or high > 1:
                shape = tuple(self.images.shape)
                raise ValueError(f"images are (n, 3, h, w) in [0, 1], got {shape} in [{low:.3g}, {high:.3g}]")

    def __len__(self) -> int:
        return len(self.images)

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    def lacks(self, num_classes: int) -> list[int]:
        """The classes 0 .. num_classes-1 that no image of the set stands for, by its labels or class probabilities.

        Empty for a set that has neither.
        """
        if self.target_kind == "class_probabilities":
            assert self.targets is not None
            return [c for c, mass in enumerate(self.targets.sum(0).tolist()) if mass == 0]
        if self.labels is None:
            return []
        return (self.labels.bincount(minlength=num_classes) == 0).nonzero().flatten().tolist()

    def batch(self, indices: Tensor) -> Tensor:
        """Images at `indices (k,)`, float32 `(k, 3, h, w)` in [0, 1]."""
        return to_float(self.images[indices])

    def tensors(self) -> dict[str, Tensor]:
        """Everything of the set that is a tensor, by field name; images that refer to real data are not."""
        values = {name: getattr(self, name) for name in _TENSORS}
        return {name: value for name, value in values.items() if isinstance(value, Tensor)}

    def save(self, folder: str | Path) -> None:
        """Write the folder, complete or not at all. A set that refers to real images stores their indices only.

        Raises `DiskError` where the disk is full or refuses; an older set in `folder` is then still there.
        """
        folder = Path(folder)
        partial = folder.with_name(f".{folder.name}.{os.getpid()}")
        shutil.rmtree(partial, ignore_errors=True)
        try:
            with writing(folder):
                partial.mkdir(parents=True)
                self._write(partial)
                shutil.rmtree(folder, ignore_errors=True)
                partial.rename(folder)
        finally:
            shutil.rmtree(partial, ignore_errors=True)

    def _write(self, folder: Path) -> None:
        save_file({name: value.contiguous() for name, value in self.tensors().items()}, folder / "set.safetensors")
        card = {
            "schema": _SCHEMA,
            "class_names": self.class_names,
            "target_kind": self.target_kind,
            "labels_of": self.labels_of,
            "pixels": "float32 RGB in [0, 1], not normalised",
            "extras": self.extras,
            "provenance": self.provenance,
        }
        (folder / "set.json").write_text(json.dumps(card, indent=1))
        if isinstance(self.images, Tensor):
            self._write_pngs(folder / "images")

    def _write_pngs(self, folder: Path) -> None:
        for index in range(len(self)):
            label = self.class_names[int(self.labels[index])] if self.labels is not None else "unlabelled"
            target = folder / re.sub(r"[^\w.-]+", "_", label)
            target.mkdir(parents=True, exist_ok=True)
            pixels = (self.images[index] * 255).round().byte().permute(1, 2, 0).numpy()  # type: ignore[union-attr]
            Image.fromarray(pixels).save(target / f"{index:05d}.png")

    @classmethod
    def load(cls, folder: str | Path, data: ImageData | None = None) -> "DistilledSet":
        """Read a folder written by `save`. A set of references to real images needs the `data` it was made from.

        Raises `UserError` for a folder that is not a set, is truncated, or refers to other data.
        """
        folder = existing_set(folder)
        try:
            card = json.loads((folder / "set.json").read_text())
            tensors = load_file(folder / "set.safetensors")
        except (SafetensorError, json.JSONDecodeError, OSError) as error:
            raise UserError(f"distilled set {folder} cannot be read, it may be truncated: {error}") from error
        if missing := {"class_names", "target_kind", "extras", "provenance"} - set(card):
            raise UserError(f"distilled set {folder}: set.json lacks {sorted(missing)[0]!r}; it was not written by ddbench")
        images: Tensor | Images | None = tensors.get("images")
        if images is None:
            images = _referred(folder, card, tensors, data)
        return cls(
            images=images,
            labels=tensors.get("labels"),
            class_names=tuple(card["class_names"]),
            targets=tensors.get("targets"),
            target_kind=card["target_kind"],
            indices=tensors.get("indices"),
            target_mean=tensors.get("target_mean"),
            target_std=tensors.get("target_std"),
            labels_of=card.get("labels_of"),
            extras=card["extras"],
            provenance=card["provenance"],
        )

    def fingerprint(self) -> str:
        """sha256 of the content that a protocol reads, to tell sets apart."""
        digest = hashlib.sha256()
        for name, value in self.tensors().items():
            digest.update(name.encode() + str(tuple(value.shape)).encode() + value.contiguous().numpy().tobytes())
        if self.extras:
            digest.update(json.dumps(self.extras, sort_keys=True).encode())
        return digest.hexdigest()


def existing_set(folder: str | Path) -> Path:
    """The folder of a set. Raises `UserError` for one that does not hold a set's files."""
    folder = Path(folder)
    if not (folder / "set.json").is_file() or not (folder / "set.safetensors").is_file():
        raise UserError(f"{folder} is not a distilled set: it must hold set.json and set.safetensors")
    return folder


def _referred(folder: Path, card: dict, tensors: dict[str, Tensor], data: ImageData | None) -> Images:
    wanted = card["provenance"].get("dataset_fingerprint")
    if data is None:
        raise UserError(f"distilled set {folder} refers to real images; give the dataset it was made from")
    if wanted not in (None, data.fingerprint):
        raise UserError(f"distilled set {folder} refers to other data than {data.name} (fingerprint {str(wanted)[:12]}...)")
    return Selection(data.train.images, tensors["indices"])


def real_set(data: ImageData, indices: Tensor, *, copy: bool = True) -> DistilledSet:
    """The set of train images at `indices`, with their labels; `copy=False` refers to the data instead of copying it."""
    images = to_float(data.train.images[indices]) if copy else Selection(data.train.images, indices)
    provenance = {} if copy else {"dataset_fingerprint": data.fingerprint}
    return DistilledSet(images, data.train.labels[indices], data.class_names, indices=indices, provenance=provenance)


def class_labels(num_classes: int, ipc: int) -> Tensor:
    """Labels of a synthetic set, class by class: 0 ipc times, 1 ipc times, ..."""
    return torch.arange(num_classes).repeat_interleave(ipc)
