"""A set in the form that other tools read: an image folder, .npz, .safetensors, a dataset folder of Hugging Face.

Images are never normalised, in none of them: values in [0, 1], or 8-bit PNGs.
"""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image
from torch import Tensor

from ...core.disk import writing
from ...core.errors import UserError
from ...core.params import parse_spec, split, write_spec
from ...core.sets import DistilledSet, folder_names


def export_set(folder: Path, kind: str, out: Path) -> Path:
    """Write the set in `folder` as `kind` to `out`, which must not be there yet. Raises `UserError`."""
    if out.exists():
        raise UserError(f"{out} is there already; choose another --out")
    dset = DistilledSet.load(folder)
    if not isinstance(dset.images, Tensor):
        raise UserError(f"{folder} refers to real images and holds none of its own; there is nothing to export")
    with writing(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        FORMATS[kind](dset, folder, out)
    return out


def _image_folder(dset: DistilledSet, folder: Path, out: Path) -> None:
    """OUT/CLASS/00000.png; class names are folder names where a file system can hold them."""
    names = folder_names(dset.class_names)
    for index, label in enumerate(_labels(dset, folder).tolist()):
        target = out / names[label]
        target.mkdir(parents=True, exist_ok=True)
        pixels = (dset.images[index] * 255).round().byte().permute(1, 2, 0).numpy()  # type: ignore[union-attr]
        Image.fromarray(pixels).save(target / f"{index:05d}.png")


def _labels(dset: DistilledSet, folder: Path) -> Tensor:
    if dset.labels is None:
        raise UserError(f"{folder} has no labels, which an image folder is made of; use npz or safetensors")
    return dset.labels


def _npz(dset: DistilledSet, folder: Path, out: Path) -> None:
    """Arrays images (n, 3, h, w) float32 in [0, 1], labels, targets where there are some, class_names."""
    arrays = {name: tensor.numpy() for name, tensor in dset.tensors().items()}
    with out.open("wb") as file:  # numpy would add .npz to a name
        np.savez_compressed(file, **arrays, class_names=np.array(dset.class_names))  # type: ignore[arg-type]


def _safetensors(dset: DistilledSet, folder: Path, out: Path) -> None:
    """The tensors, with the card of the set in the metadata."""
    from safetensors.torch import save_file

    card = json.loads((folder / "set.json").read_text(encoding="utf-8"))
    save_file({name: tensor.contiguous() for name, tensor in dset.tensors().items()}, out, {"ddbench": json.dumps(card)})


def _hugging_face(dset: DistilledSet, folder: Path, out: Path) -> None:
    """README.md (the card), train/CLASS/*.png (what `load_dataset` reads), and the exact set beside them."""
    _labels(dset, folder)
    dset = replace(dset, provenance=without_folders(dset.provenance))
    dset.save(out)
    (out / "images").rename(out / "train")
    (out / "README.md").write_text(card(dset), encoding="utf-8")


_LOCATIONS = ("path", "root", "folder", "weights", "file", "labels")  # parameters that say where something lies
_FOLDERS = re.compile(r"""(?<![\w/\\.:~])(?:~\w*|[A-Za-z]:)?[/\\](?:[^/\\,;()\[\]"'\n]+[/\\])+""")


def without_folders(value: Any, key: str = "") -> Any:
    """`value` of a set's provenance with the names of files in the place of paths, which may name people and machines.

    Those are the values of parameters in `_LOCATIONS`, in specs as in dicts, and absolute paths wherever they stand.
    """
    if isinstance(value, dict):
        return {without_folders(name): without_folders(inner, name) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [without_folders(inner, key) for inner in value]
    if not isinstance(value, str):
        return value
    try:
        if "[" in value and len(specs := split(value, "+")) > 1:
            return "+".join(without_folders(spec) for spec in specs)
        name, given = parse_spec(value)
    except UserError:
        given = {}
    if given:
        kept = {each: without_folders(inner, each) for each, inner in given.items()}
        return value if kept == given else write_spec(name, kept)
    if key in _LOCATIONS:
        return re.split(r"[/\\]", value.rstrip("/\\"))[-1]
    return _FOLDERS.sub("", value)


def card(dset: DistilledSet) -> str:
    """The dataset card: what it is, how it was made, how to use it, whose images it comes from."""
    made = dset.provenance
    facts = {name: made[name] for name in ("method_spec", "distill_backbone", "dataset", "ipc", "distill_seed") if name in made}
    head = {
        "license": "other",
        "license_name": "that-of-the-source-images",
        "task_categories": ["image-classification"],
        "tags": ["dataset-distillation", "ddbench"],
        "size_categories": ["n<1K" if len(dset) < 1000 else "1K<n<10K" if len(dset) < 10_000 else "10K<n<100K"],
    }
    title = f"{len(dset)} images distilled from {made.get('dataset', 'a dataset')}"
    lines = [
        "---",
        yaml.safe_dump(head, sort_keys=False, allow_unicode=True).strip(),
        "---",
        f"# {title}",
        "",
        f"A distilled dataset: {len(dset)} synthetic images of {dset.num_classes} classes to train a linear probe on a",
        "frozen backbone as well as the whole dataset does. Made and measured with ddbench.",
        "",
        "## How it was made",
        "```json",
        json.dumps(facts, indent=1, ensure_ascii=False),
        "```",
        f"Dataset fingerprint `{made.get('dataset_fingerprint', 'unknown')}`, set fingerprint `{dset.fingerprint()}`.",
        "",
        "## How to use it",
        "The pixels are float32 RGB in [0, 1] and **not normalised**: give them your backbone's own normalisation.",
        "```python",
        "from safetensors.torch import load_file",
        'tensors = load_file("set.safetensors")',
        'images, labels = tensors["images"], tensors["labels"]  # (n, 3, h, w) in [0, 1], (n,)',
        "```",
        "The PNGs under `train/` are the same rounded to 8 bits, for `datasets.load_dataset` and for looking at.",
        "",
        "## Licence",
        "The images derive from those of the source dataset; its licence and terms apply to them.",
    ]
    return "\n".join(lines) + "\n"


FORMATS: dict[str, Callable[[DistilledSet, Path, Path], None]] = {
    "imagefolder": _image_folder,
    "npz": _npz,
    "safetensors": _safetensors,
    "hf": _hugging_face,
}
