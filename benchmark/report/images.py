"""The images of sets for the report page: small files, as data: URIs, with the nearest real image of the class beside each."""

import base64
import io
import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from ...core.data import ImageData, stage
from ...core.errors import UserError
from ...core.sets import DistilledSet
from ..machine.curve import FILE as CURVE
from .page import Curve, Picture, Strip

CLASSES = 10  # of a set that are shown
BYTES = 4 * 2**20  # of all images of a page; beyond, fewer classes are shown
LOSSLESS = 48  # pixels up to which an image is kept as it is
LARGEST = 128  # pixels of the larger ones
CANDIDATES = 500  # real images of a class among which the nearest is looked for
_COMPARED = 32  # pixels at which images are compared

Data = Callable[[str], ImageData | None]  # the dataset of a spec, None where it is not at hand


def strips(sets: Iterable[Path], names: dict[str, str], data: Data) -> list[Strip]:
    """One strip per set that holds images of its own: the first image of up to `CLASSES` classes; by method and backbone."""
    found = sorted(_strips(sets, names, data), key=lambda s: (s.dataset, s.ipc or 0, s.method, s.backbone, s.seed))
    shown = CLASSES
    while shown > 1 and (size := sum(_size(p) for strip in found for p in strip.pictures)) > BYTES:
        shown = max(1, min(shown - 1, int(shown * BYTES / size)))
        for strip in found:
            strip.note = strip.note or f"first {shown} classes"
            del strip.pictures[shown:]
    return found


def _size(picture: Picture) -> int:
    return len(picture.image) + len(picture.nearest or "")


def _strips(sets: Iterable[Path], names: dict[str, str], data: Data) -> Iterator[Strip]:
    for folder in sets:
        try:
            dset = DistilledSet.load(folder)
        except UserError:  # refers to real images, or is damaged: nothing of its own to show
            continue
        made = dset.provenance
        if not isinstance(dset.images, Tensor) or not len(dset) or dset.labels is None or "method_spec" not in made:
            continue
        strip = Strip(
            names.get(made["method_spec"], made["method_spec"]),  # type: ignore[arg-type]
            names.get(made["distill_backbone"], made["distill_backbone"] or "no backbone"),
            names.get(made["dataset"], made["dataset"]),  # type: ignore[arg-type]
            made["ipc"],
            made["distill_seed"],
            note="diverged" if "diverged" in made else "",
        )
        real = data(made["dataset"])
        for c in range(min(dset.num_classes, CLASSES)):
            members = (dset.labels == c).nonzero().flatten()
            if len(members):
                image = dset.batch(members[:1])[0]
                nearest = None if real is None else data_uri(nearest_real(image, c, real))
                strip.pictures.append(Picture(dset.class_names[c], data_uri(image), nearest))
        yield strip


def nearest_real(image: Tensor, label: int, data: ImageData) -> Tensor:
    """The train image of class `label` that is nearest in pixels, both `(3, h, w)` in [0, 1] and compared at 32 pixels."""
    members = (data.train.labels == label).nonzero().flatten()
    members = members[torch.linspace(0, len(members) - 1, min(len(members), CANDIDATES)).long()]
    real = stage(data.train.images[members], _COMPARED)
    distances = (real - stage(image[None], _COMPARED)).pow(2).flatten(1).sum(1)
    return data.train.images[members[distances.argmin()][None]][0].float() / 255


def data_uri(image: Tensor) -> str:
    """`(3, h, w)` in [0, 1] as WebP: as it is where it is small, else of at most 128 pixels."""
    pixels = (image.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy()
    picture, out = Image.fromarray(pixels), io.BytesIO()
    small = max(picture.size) <= LOSSLESS
    picture.thumbnail((LARGEST, LARGEST))
    picture.save(out, "WEBP", lossless=small, quality=80, method=6)
    return f"data:image/webp;base64,{base64.b64encode(out.getvalue()).decode()}"


def curves(sets: Iterable[Path], names: dict[str, str]) -> Iterator[Curve]:
    """The loss of each set that has a `curve.csv`."""
    for folder in sets:
        try:
            lines = (folder / CURVE).read_text(encoding="utf-8").splitlines()[1:]
            made = json.loads((folder / "set.json").read_text(encoding="utf-8"))["provenance"]
            points = [(float(line.split(",")[0]), float(line.split(",")[-1])) for line in lines]
        except (OSError, ValueError, KeyError):
            continue
        method, backbone = made.get("method_spec", folder.name), made.get("distill_backbone")
        name = f"{names.get(backbone, backbone or '')} seed {made.get('distill_seed')}"
        yield Curve(names.get(method, method), name.strip(), points)  # type: ignore[arg-type]
