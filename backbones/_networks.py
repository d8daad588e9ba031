"""Networks by library name, without their classifiers, and what their authors say about the input."""

import difflib
import inspect
import sys
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from ..core.backbone import Backbone, BackboneSpec
from ..core.errors import UserError, unknown
from ._patches import refuse_unseen_pixels, seen_patchings

Triple = tuple[float, float, float]


@dataclass(frozen=True)
class Preprocessing:
    """What the weights were trained with."""

    input_size: int
    mean: Triple
    std: Triple
    crop_pct: float


@dataclass(frozen=True)
class Choices:
    """What the user asked to be different; None leaves the author's value."""

    input_size: int | None = None
    mean: Triple | None = None
    std: Triple | None = None
    crop_pct: float | None = None

    def over(self, native: Preprocessing) -> Preprocessing:
        """`native` with the user's choices. At another size the whole image is taken, unless a crop is asked for."""
        resized = self.input_size is not None and self.input_size != native.input_size
        return Preprocessing(
            self.input_size or native.input_size,
            self.mean or native.mean,
            self.std or native.std,
            self.crop_pct or (1.0 if resized else native.crop_pct),
        )


@dataclass(frozen=True)
class Encoder:
    """A network whose forward gives features, and the file keys that belong to the classifier it lost."""

    network: nn.Module
    architecture: str
    pooling: str
    native: Preprocessing
    classifier: tuple[str, ...] = ()

    def backbone(self, name: str, source: str, revision: str, sha256: str, choices: Choices) -> Backbone:
        """Freeze the network. Raises `UserError` where it cannot take the input size or gives no feature vectors."""
        p = choices.over(self.native)
        self.network.eval()
        with seen_patchings(self.network) as patchings:
            dim = feature_dim(self.network, p.input_size, name)
        if p.input_size != self.native.input_size:  # some authors train with a border that no patch sees
            refuse_unseen_pixels(patchings, p.input_size, name)
        facts = {"input_size": p.input_size, "dim": dim, "mean": p.mean, "std": p.std, "crop_pct": p.crop_pct}
        spec = BackboneSpec(name, source, self.architecture, revision, sha256, pooling=self.pooling, **facts)
        return Backbone(self.network, spec)


@torch.no_grad()
def feature_dim(network: nn.Module, size: int, name: str) -> int:
    """Length of the feature vector, measured on one black image."""
    try:
        features = network(torch.zeros(1, 3, size, size))
    except (RuntimeError, AssertionError, ValueError) as error:
        reason = str(error).strip().split("\n")[0]
        raise UserError(f"{name} cannot take {size}x{size} images: {reason}; choose another input_size") from None
    if not isinstance(features, torch.Tensor) or features.ndim != 2:
        raise UserError(f"{name} gives no feature vectors (n, d); choose another pooling or model")
    return features.shape[1]


def described(library: str, model: str, args: dict[str, Any]) -> str:
    """`timm mobilenetv2_100(pad_type=same)`: the architecture as records and caches know it."""
    inside = ", ".join(f"{key}={value}" for key, value in sorted(args.items()))
    return f"{library} {model}" + (f"({inside})" if inside else "")


def unknown_model(library: str, name: str, known: list[str]) -> str:
    """The message for an unknown model: the nearest names of a list that is too long to print."""
    near = difflib.get_close_matches(name, known, n=5, cutoff=0.6) or known[:5]
    return unknown(f"{library} model", name, [*near, f"… {len(known)} in all"])


def timm_encoder(
    model: str, args: dict[str, Any], *, input_size: int | None = None, pooling: str | None = None, pretrained: bool = False
) -> Encoder:
    """A timm network with `num_classes=0`. `pooling` is timm's `global_pool`; networks with a fixed grid are built for
    `input_size`. Downloads only if `pretrained`; then the library's own exceptions pass through."""
    import timm

    base = model.split(".")[0].removeprefix("timm/")
    if not model.startswith("hf-hub:") and not timm.is_model(base):
        raise UserError(unknown_model("timm", base, timm.list_models()))
    options: dict[str, Any] = dict(args) | ({"global_pool": pooling} if pooling else {})
    cfg = timm.get_pretrained_cfg(model, allow_unregistered=True)
    if input_size is not None and cfg is not None and cfg.fixed_input_size:
        options["img_size"] = input_size
    try:
        network = timm.create_model(model, pretrained=pretrained, num_classes=0, **options)
    except (TypeError, AssertionError, KeyError) as error:
        raise UserError(f"timm model {model!r} does not take args {options}: {error}") from None
    return _describe_timm(network, model, args, options)


def _describe_timm(network: nn.Module, model: str, args: dict[str, Any], options: dict[str, Any]) -> Encoder:
    cfg: dict[str, Any] = network.pretrained_cfg  # type: ignore[assignment]
    native = Preprocessing(
        cfg.get("input_size", (3, 224, 224))[-1], tuple(cfg["mean"]), tuple(cfg["std"]), cfg.get("crop_pct") or 1.0
    )
    names = cfg.get("classifier") or ()
    names = (names,) if isinstance(names, str) else tuple(names)
    pooling = options.get("global_pool") or getattr(network, "global_pool", None) or cfg.get("global_pool") or "avg"
    if isinstance(pooling, nn.Module):
        pooling = getattr(pooling, "pool_type", None) or "avg"
    return Encoder(network, described("timm", model, args), str(pooling), native, tuple(f"{name}." for name in names))


def timm_conversion(network: nn.Module, state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Original checkpoints in timm's names, and position embeddings at the network's size, where timm knows how."""
    own = network.state_dict()
    if all(name in state and state[name].shape == tensor.shape for name, tensor in own.items() if tensor.ndim):
        return state
    convert = getattr(sys.modules[type(network).__module__], "checkpoint_filter_fn", None)
    if convert is None or len(inspect.signature(convert).parameters) < 2:
        return state
    try:
        return dict(convert(dict(state), network))
    except Exception:  # not one of the formats it knows: the strict comparison that follows says what is wrong
        return state
