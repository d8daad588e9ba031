"""Reading weights from files: safetensors, or torch files restricted to tensors. Nothing is ever unpickled.

Every way in which a download goes wrong (missing, truncated, a web page, a Git LFS pointer, a pickle) is one line.
"""

import hashlib
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor, nn

from ..core.errors import NotHere, UserError

State = dict[str, Tensor]

TORCH_SUFFIXES = (".pt", ".pth", ".bin", ".ckpt", ".tar")
_PICKLE_STARTS = (b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")


def file_sha256(path: str | Path) -> str:
    """sha256 of a file's bytes, hexadecimal."""
    with existing(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def state_sha256(state: Mapping[str, Tensor]) -> str:
    """sha256 over names, types, shapes and values in the order of the names; independent of how the state was stored."""
    digest = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        if tensor.is_meta:  # a network without values, built to be counted
            continue
        tensor = tensor.cpu().contiguous()
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def read_state(path: str | Path, key: str | None = None) -> State:
    """The tensors of a weights file, floating point ones as float32.

    `key` names the entry of a torch file that holds the state dict (`state_dict`, `teacher`); by default the file itself,
    or its entry `state_dict` or `model`. Raises `UserError` naming the file.
    """
    path = existing(path)
    refuse_text(path)
    content = _read_safetensors(path) if path.suffix == ".safetensors" else _read_torch(path)
    state = _state_dict(content, key, path)
    return {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in state.items()}


def existing(path: str | Path) -> Path:
    path = Path(path).expanduser()
    if not path.is_file():
        raise NotHere(f"weights file {path} does not exist; give the path of a .safetensors or .pth file")
    return path


def _read_safetensors(path: Path) -> State:
    content = path.read_bytes()
    if content.startswith(_PICKLE_STARTS):
        raise UserError(f"{path} is a torch pickle, not safetensors; rename it to .pth if it holds only tensors")
    try:
        return load(content)
    except SafetensorError as error:
        raise UserError(f"{path} is truncated or not a safetensors file ({error}); remove it and download it again") from None


def _read_torch(path: Path) -> Any:
    if path.suffix not in TORCH_SUFFIXES:
        raise UserError(f"{path}: unknown kind of weights file; use .safetensors or one of {', '.join(TORCH_SUFFIXES)}")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if "Weights only load failed" not in str(error) or "GLOBAL" not in str(error):
            raise UserError(f"{path} is truncated or not a torch file; remove it and download it again") from None
        raise UserError(
            f"{path} holds Python objects besides tensors, which are not loaded; save its state dict alone"
        ) from None
    except Exception as error:
        raise UserError(
            f"{path} is truncated or not a torch file ({type(error).__name__}); remove it and download it again"
        ) from None


def refuse_text(path: Path) -> None:
    """The two texts that downloads leave behind in place of weights."""
    with path.open("rb") as file:
        start = file.read(256).lstrip()
    if not start:
        raise UserError(f"{path} is empty; remove it and download it again")
    if start[:1] == b"<":
        raise UserError(f"{path} is a web page, not weights; download the file behind the link")
    if start.startswith(b"version https://git-lfs"):
        raise UserError(f"{path} is a Git LFS pointer, not weights; run git lfs pull")


def _state_dict(content: Any, key: str | None, path: Path) -> State:
    if key is None and isinstance(content, dict) and not _is_state(content):
        key = next((name for name in ("state_dict", "model") if name in content), None)
    if key is not None:
        if not isinstance(content, dict) or key not in content:
            known = ", ".join(map(str, list(content)[:8])) if isinstance(content, dict) else type(content).__name__
            raise UserError(f"{path} has no entry {key!r}; it holds {known}")
        content = content[key]
    if not _is_state(content):
        names = [str(name) for name, value in content.items() if isinstance(value, dict)] if isinstance(content, dict) else []
        hint = f"give key={' or '.join(names)}" if names else "save model.state_dict()"
        raise UserError(f"{path} holds no state dict where one is expected; {hint}")
    return dict(content)


def _is_state(content: Any) -> bool:
    return isinstance(content, Mapping) and bool(content) and all(isinstance(value, Tensor) for value in content.values())


def load_state(network: nn.Module, state: State, path: str | Path, ignored: tuple[str, ...] = ()) -> None:
    """Copy `state` into `network`, every key of both, apart from the classifier's, which start with one of `ignored`.

    Batch-norm step counters may be absent: they play no part in evaluation. Raises `UserError` for any other key that is
    missing, left over or of another shape.
    """
    state = {name: tensor for name, tensor in state.items() if not name.startswith(ignored or ("\0",))}
    own = network.state_dict()
    missing = [name for name in own if name not in state and not name.endswith("num_batches_tracked")]
    extra = [name for name in state if name not in own]
    if missing or extra:
        raise UserError(f"{path} does not fit {type(network).__name__}: {_difference(missing, extra)}")
    for name, tensor in state.items():
        if tensor.shape != own[name].shape:
            shapes = f"{tuple(tensor.shape)} in the file, {tuple(own[name].shape)} in the network"
            raise UserError(f"{path} does not fit {type(network).__name__}: {name} has shape {shapes}")
    network.load_state_dict({**own, **state})


def _difference(missing: list[str], extra: list[str]) -> str:
    parts = [
        f"{len(names)} {what} key{'s' * (len(names) > 1)} ({', '.join(names[:2])}{', …' * (len(names) > 2)})"
        for names, what in ((missing, "missing"), (extra, "unexpected"))
        if names
    ]
    heads = {name.split(".")[0] for name in extra}
    hint = "; check the model name and its arguments"
    if missing and len(heads) == 1:
        hint += f", or take the keys that start with {heads.pop()}. by `checkpoint[file=…,model=…,prefix=…]`"
    return " and ".join(parts) + hint
