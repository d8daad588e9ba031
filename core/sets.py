"""The distilled set: what a method returns, what a protocol reads, what a user takes away.

On disk a set is a folder:

    set.safetensors   images float32 (n, 3, h, w) in [0, 1], labels int64 (n,), targets float32 (n, k), indices int64 (n,),
                      target_mean and target_std float32 (k,)
    set.json          class names, kind of targets, whose labels they are, extras, provenance
    images/CLASS/*.png   the same images, ImageFolder layout, for looking at and for other tools

The images are never normalised: feed them to any backbone with that backbone's own normalisation.
"""

import hashlib
import itertools
import json
import re
import unicodedata
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from PIL import Image
from pydantic import TypeAdapter, ValidationError
from torch import Tensor

from .data import ImageData, Images, Selection, to_float
from .disk import Damaged, read_tensors, replacing, settle, write_tensors, writing
from .errors import Diverged, UserError

TargetKind = Literal["class_probabilities", "teacher_features"]
_SCHEMA = 1
_CHECKSUM = "crc32"  # in set.json
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
            low, high = self.images.aminmax() if self.images.numel() else (torch.tensor(0.0), torch.tensor(-1.0))
            if low.isnan():
                raise Diverged("the images of the distilled set are not finite")
            beyond = low < 0 or high > 1 or low > high
            if self.images.ndim != 4 or self.images.shape[1] != 3 or beyond:
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
        with writing(folder), replacing(folder) as new:
            new.mkdir()
            self._write(new)

    def _write(self, folder: Path) -> None:
        write_tensors(folder / "set.safetensors", self.tensors(), {})
        card = {
            "schema": _SCHEMA,
            "class_names": self.class_names,
            "target_kind": self.target_kind,
            "labels_of": self.labels_of,
            "pixels": "float32 RGB in [0, 1], not normalised",
            "extras": self.extras,
            "provenance": self.provenance,
        }
        (folder / "set.json").write_text(json.dumps({**card, _CHECKSUM: _checksum(card)}, indent=1))
        if isinstance(self.images, Tensor):
            self._write_pngs(folder / "images")

    def _write_pngs(self, folder: Path) -> None:
        folders = folder_names(self.class_names)
        for index in range(len(self)):
            target = folder / (folders[int(self.labels[index])] if self.labels is not None else "unlabelled")
            target.mkdir(parents=True, exist_ok=True)
            pixels = (self.images[index] * 255).round().byte().permute(1, 2, 0).numpy()  # type: ignore[union-attr]
            Image.fromarray(pixels).save(target / f"{index:05d}.png")

    @classmethod
    def load(cls, folder: str | Path, data: ImageData | None = None) -> "DistilledSet":
        """Read a folder written by `save`. A set of references to real images needs the `data` it was made from.

        Raises `UserError` for a folder that is not a set, is truncated, or refers to other data.
        """
        folder = existing_set(folder)
        card = _card(folder)
        try:
            tensors, _ = read_tensors(folder / "set.safetensors", unchecked=True)  # sets of other programs have no checksum
        except Damaged as error:
            raise UserError(f"distilled set {folder}: {error}") from error
        _check_tensors(folder, card, tensors)
        images: Tensor | Images | None = tensors.get("images")
        if images is None:
            images = _referred(folder, card, tensors, data)
        try:
            return cls(
                images=images,
                labels=tensors.get("labels"),
                class_names=card.class_names,
                targets=tensors.get("targets"),
                target_kind=card.target_kind,
                indices=tensors.get("indices"),
                target_mean=tensors.get("target_mean"),
                target_std=tensors.get("target_std"),
                labels_of=card.labels_of,
                extras=card.extras,
                provenance=card.provenance,
            )
        except ValueError as error:
            raise UserError(f"distilled set {folder} is damaged: {error}") from error

    def fingerprint(self) -> str:
        """sha256 of the content that a protocol reads, to tell sets apart."""
        digest = hashlib.sha256()
        for name, value in self.tensors().items():
            digest.update(name.encode() + str(tuple(value.shape)).encode() + value.contiguous().numpy().tobytes())
        if self.extras:
            digest.update(json.dumps(self.extras, sort_keys=True).encode())
        return digest.hexdigest()


def _checksum(card: dict[str, Any]) -> str:
    """crc32 of what set.json says, however it is laid out."""
    content = json.loads(json.dumps(card))
    return f"{zlib.crc32(json.dumps(content, sort_keys=True).encode()):08x}"


def existing_set(folder: str | Path) -> Path:
    """The folder of a set. Raises `UserError` for one that does not hold a set's files."""
    folder = Path(folder)
    if not folder.exists():
        settle(folder.parent)  # its writer may have been killed while it replaced the set
    if not (folder / "set.json").is_file() or not (folder / "set.safetensors").is_file():
        raise UserError(f"{folder} is not a distilled set: it must hold set.json and set.safetensors")
    return folder


def set_digest(folder: Path) -> str:
    """sha256 of the file with a set's tensors. Raises `UserError` as `existing_set`."""
    with (existing_set(folder) / "set.safetensors").open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


@dataclass(frozen=True)
class _Card:
    """What set.json holds."""

    class_names: tuple[str, ...]
    target_kind: TargetKind | None
    extras: dict[str, int | float]
    provenance: dict[str, Any]
    labels_of: str | None = None


def _card(folder: Path) -> _Card:
    file = folder / "set.json"
    try:
        card = json.loads(file.read_text())
    except (ValueError, RecursionError, OSError) as error:
        reason = " ".join(str(error).split())[:120]
        raise UserError(f"distilled set {folder} cannot be read, set.json may be truncated: {reason}") from error
    if not isinstance(card, dict):
        raise UserError(f"distilled set {folder}: set.json holds no object; it was not written by ddbench")
    if card.pop(_CHECKSUM, None) not in (None, _checksum(card)):
        raise UserError(f"distilled set {folder}: set.json was damaged or changed after it was written")
    if missing := {"class_names", "target_kind", "extras", "provenance"} - set(card):
        raise UserError(f"distilled set {folder}: set.json lacks {sorted(missing)[0]!r}; it was not written by ddbench")
    try:
        return TypeAdapter(_Card).validate_python(card)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"][:2]))
        raise UserError(f"distilled set {folder}: {where} of set.json is not valid: {first['msg'].lower()}") from None


def _check_tensors(folder: Path, card: _Card, tensors: dict[str, Tensor]) -> None:
    """Types and ranges that no writer of ours leaves, so that no protocol meets them."""
    for name, tensor in tensors.items():
        whole = name in ("labels", "indices")
        if tensor.is_complex() or tensor.dtype == torch.bool or tensor.is_floating_point() == whole:
            raise UserError(f"distilled set {folder}: {name} are {str(tensor.dtype).removeprefix('torch.')}; it is damaged")
        if whole and tensor.ndim != 1:
            raise UserError(f"distilled set {folder}: {name} have shape {tuple(tensor.shape)}; it is damaged")
        if not whole and not tensor.isfinite().all():
            raise UserError(f"distilled set {folder}: some {name} are not finite")
    labels, targets = tensors.get("labels"), tensors.get("targets")
    if labels is not None and len(labels) and not 0 <= labels.min() <= labels.max() < len(card.class_names):
        span = f"{int(labels.min())} to {int(labels.max())}"
        raise UserError(f"distilled set {folder}: labels run from {span}, but it names {len(card.class_names)} classes")
    wide = card.target_kind == "class_probabilities" and targets is not None
    if wide and (targets.ndim != 2 or targets.shape[1] != len(card.class_names)):  # type: ignore[union-attr]
        raise UserError(f"distilled set {folder}: targets do not fit its {len(card.class_names)} classes")


def _referred(folder: Path, card: _Card, tensors: dict[str, Tensor], data: ImageData | None) -> Images:
    wanted = card.provenance.get("dataset_fingerprint")
    if data is None:
        raise UserError(f"distilled set {folder} refers to real images; give the dataset it was made from")
    if wanted not in (None, data.fingerprint):
        raise UserError(f"distilled set {folder} refers to other data than {data.name} (fingerprint {str(wanted)[:12]}...)")
    indices = tensors.get("indices")
    if indices is None or (len(indices) and not 0 <= indices.min() <= indices.max() < len(data.train)):
        raise UserError(f"distilled set {folder} holds neither images nor places in {data.name}; it is damaged")
    return Selection(data.train.images, indices)


def real_set(data: ImageData, indices: Tensor, *, copy: bool = True) -> DistilledSet:
    """The set of train images at `indices`, with their labels; `copy=False` refers to the data instead of copying it."""
    images = to_float(data.train.images[indices]) if copy else Selection(data.train.images, indices)
    provenance = {} if copy else {"dataset_fingerprint": data.fingerprint}
    return DistilledSet(images, data.train.labels[indices], data.class_names, indices=indices, provenance=provenance)


def folder_names(class_names: Sequence[str]) -> tuple[str, ...]:
    """A folder name for each class: distinct and safe on every file system, and the class name itself where that is.

    Class names are data: they may hold blanks and slashes, be `..`, differ in capitals alone, or be as long as a page.
    """
    plain = [_plain(name) for name in class_names]
    first = {}
    for k, name in enumerate(class_names):  # a class whose name needs no change keeps it, whoever else would get it
        if plain[k] == name:
            first.setdefault(name.casefold(), k)
    taken, found = set(first), []
    for k, name in enumerate(plain):
        if first.get(name.casefold()) != k:
            candidates = itertools.chain([name], (f"{name}-{number}" for number in itertools.count(k)))
            name = next(candidate for candidate in candidates if candidate.casefold() not in taken)
            taken.add(name.casefold())
        found.append(name)
    return tuple(found)


_RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.I)  # device names of Windows
_LONGEST = 100  # bytes of a folder name; file systems take 255


def _plain(name: str) -> str:
    kept = re.sub(r"[^\w.-]+", "_", unicodedata.normalize("NFC", name))
    kept = kept.encode()[:_LONGEST].decode(errors="ignore").rstrip(".")
    return f"_{kept}" if not kept or kept.startswith(".") or _RESERVED.fullmatch(kept) else kept


def class_labels(num_classes: int, ipc: int) -> Tensor:
    """Labels of a synthetic set, class by class: 0 ipc times, 1 ipc times, ..."""
    return torch.arange(num_classes).repeat_interleave(ipc)
