"""The two arrays of a file that a stranger wrote: images and labels of an .npz, .safetensors or torch file, never unpickled.

What such a file can hold besides plain numbers (sparse, quantised or empty tensors, shapes that claim terabytes, bombs) is
refused before it is unpacked.
"""

import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from ...backbones._weights import TORCH_SUFFIXES, refuse_text
from ...core.errors import UserError
from ...datasets.arrays import check_packing, opened_arrays

Stored = Tensor | np.ndarray

# what distillation code calls them: LGM's and most others; DC, DSA, MTT and their kin (image_syn.pt); Keras
_IMAGES = ("images", "image_syn", "images_train", "x", "data")
_LABELS = ("labels", "label_syn", "labels_train", "y", "targets", "soft_labels")
_SMALL = 1 << 26  # bytes of a tensor that nobody minds, whatever its file holds


def read_file(path: Path, images: str | None = None, labels: str | None = None) -> tuple[Stored, Stored]:
    """Images and labels of one file, by the names given or by those that are in use. Raises `UserError`."""
    if path.suffix == ".npz":
        with opened_arrays(path) as arrays:
            return _chosen(arrays, path, images, labels)
    if path.suffix == ".safetensors":
        content: Any = _safetensors(path)
    elif path.suffix in TORCH_SUFFIXES:
        content = _torch(path)
    else:
        raise UserError(f"{path}: give a set folder, an image folder, .npz, .safetensors or .pth")
    found = _chosen(_named(content, path), path, images, labels)
    return _plain(found[0], "images", path), _plain(found[1], "labels", path)


def _chosen(arrays: Mapping[str, Any], path: Path, images: str | None, labels: str | None) -> tuple[Any, Any]:
    found = []
    for option, asked, known in (("--images", images, _IMAGES), ("--labels", labels, _LABELS)):
        key = asked if asked is not None else next((name for name in known if name in arrays), known[0])
        if key not in arrays:
            held = ", ".join(list(arrays)[:8]) or "nothing"
            raise UserError(f"{path} has no {key!r}, only {held}; name the array with {option} KEY")
        found.append(arrays[key])
    return found[0], found[1]


def _named(content: Any, path: Path) -> dict[str, Any]:
    """The tensors of a torch file by name: of a dictionary, perhaps one level down, or of a pair (images, labels)."""
    if isinstance(content, Tensor):
        raise UserError(f"{path} holds one tensor and no labels; save both: torch.save((images, labels), path)")
    if isinstance(content, list | tuple):
        if len(content) != 2 or not all(isinstance(part, Tensor) for part in content):
            kinds = ", ".join(type(part).__name__ for part in content[:4])
            raise UserError(f"{path} holds a list of {len(content)} ({kinds}); save torch.save((images, labels), path)")
        return dict(zip(("images", "labels"), content, strict=True))
    if not isinstance(content, Mapping):
        raise UserError(f"{path} holds {type(content).__name__}; save torch.save((images, labels), path)")
    found = {str(name): value for name, value in content.items() if isinstance(value, Tensor)}
    if not found and len(nested := [value for value in content.values() if isinstance(value, Mapping)]) == 1:
        return _named(nested[0], path)
    return found


def _safetensors(path: Path) -> dict[str, Tensor]:
    refuse_text(path)
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path} is truncated or not a safetensors file: {str(error)[:120]}; save it again") from None


def _torch(path: Path) -> Any:
    refuse_text(path)
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                check_packing(archive, path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except UserError:
        raise
    except pickle.UnpicklingError as error:
        if "GLOBAL" not in str(error) and "Unsupported" not in str(error):
            raise UserError(f"{path} is truncated or not a torch file; save it again") from None
        what = "holds Python objects besides tensors (NumPy arrays are such), which are not loaded"
        raise UserError(f"{path} {what}; save tensors: torch.save((images, labels), path)") from None
    except Exception as error:
        raise UserError(f"{path} is truncated or not a torch file ({type(error).__name__}); save it again") from None


def _plain(tensor: Tensor, name: str, path: Path) -> Stored:
    """A tensor of ordinary numbers in memory."""
    what, cure = None, f"save {name}.detach().cpu().clone()"
    if tensor.layout != torch.strided or tensor.is_nested:
        what, cure = "sparse", f"save {name}.to_dense()"
    elif tensor.is_quantized:
        what, cure = "quantised", f"save {name}.dequantize()"
    elif tensor.is_meta:
        what, cure = "on the meta device and have no values", "save them from the device that holds them"
    elif tensor.is_complex():
        what, cure = "complex", "save real pixels"
    if what is not None:
        raise UserError(f"{path}: {name} are {what}; {cure}")
    claimed, held = tensor.numel() * tensor.element_size(), path.stat().st_size
    if claimed > _SMALL and claimed > 4 * held:
        raise UserError(f"{path}: {name} claim {claimed / 1e9:,.1f} GB in a file of {held / 1e6:,.1f} MB; {cure}")
    tensor = tensor.detach()
    if tensor.dtype in (torch.uint16, torch.uint32, torch.uint64):
        return tensor.numpy()
    return tensor.float() if tensor.is_floating_point() else tensor
