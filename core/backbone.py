"""A frozen image encoder and the card that says exactly which one it is."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from . import registries
from .errors import UserError
from .folding import folded
from .precision import autocast, compiled, precision
from .registry import Registry

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class BackboneSpec:
    """What a record needs to know about an encoder."""

    name: str  # as the user wrote it, for instance `mini_resnet_dino` or `timm[model=vit_tiny_patch16_224]`
    source: str  # where the weights come from: a file name, a hub id, `random`
    architecture: str
    revision: str  # pinned revision or pretrained tag of the source
    sha256: str  # of the weights as loaded
    input_size: int  # side of the square input, pixels
    dim: int  # length of a feature vector
    pooling: str  # `avg`, `token`, ...
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    crop_pct: float = 1.0  # centre crop = crop_pct of the resized image, as in timm

    @property
    def stage_size(self) -> int:
        """Side in pixels that images are resized to before the crop to `input_size` (256 for 224 at crop_pct 0.875)."""
        return round(self.input_size / self.crop_pct)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


class Backbone(nn.Module):
    """A frozen encoder: images `(n, 3, s, s)` in [0, 1] with s = `spec.input_size` -> features `(n, spec.dim)` float32.

    It owns its normalisation and pooling, and folds batch norms into convolutions, in a copy of the network. It stays in eval
    mode, and none of its parameters requires a gradient; gradients flow to the images.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, network: nn.Module, spec: BackboneSpec):
        super().__init__()
        network, self.folded = folded(network)  # and the number of batch norms that are
        self.network = network.to(memory_format=torch.channels_last)  # what convolutions are fastest with, docs/performance.md
        self.spec = spec
        self.cast = False  # whether weights are in bfloat16, from which there is no way back
        self.register_buffer("mean", torch.tensor(spec.mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(spec.std).view(1, 3, 1, 1), persistent=False)
        self.requires_grad_(False)
        super().train(False)
        if compiled():
            self.network.compile(dynamic=False)  # chunks have at most two sizes

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "Backbone":
        """Moved to where passes run under autocast, weights are cast once, here, and not again in every pass.

        Raises `UserError` where passes run in another precision, once weights were cast.
        """
        super()._apply(fn, recurse)
        if precision(self.mean.device.type) == "bf16":
            cast_weights(self.network)
            self.cast = True
        elif self.cast:
            raise UserError(f"the weights of {self.spec.name} were cast to bfloat16 for the GPU; load the backbone again")
        return self

    def train(self, mode: bool = True) -> "Backbone":
        """A frozen backbone has no training mode."""
        return self

    def forward(self, images: Tensor) -> Tensor:
        size = self.spec.input_size
        if images.shape[-2:] != (size, size):
            raise ValueError(f"{self.spec.name} takes {size}x{size} images, got {tuple(images.shape[-2:])}; apply a View first")
        pixels = ((images - self.mean) / self.std).contiguous(memory_format=torch.channels_last)
        with autocast(images.device):
            features = self.network(pixels)
        return features if features.dtype == images.dtype else features.float()


def cast_weights(network: nn.Module) -> None:
    """Weights of linear and convolutional layers in bfloat16, as autocast would cast them. Layers of derived classes, which may
    compute with their weights before they use them, and normalisations, which autocast leaves alone, stay as they are."""
    for module in network.modules():
        if type(module) in (nn.Linear, nn.Conv2d):
            module.to(torch.bfloat16)


class BackboneSource:
    """Contract of a backbone plugin: a frozen dataclass whose fields are its parameters.

        @BACKBONES.register("timm")
        @dataclass(frozen=True)
        class Timm(BackboneSource):
            model: str
            def load(self) -> Backbone: ...

    `load` raises `UserError` for missing, truncated or unsafe weights. Weights are read with safetensors or
    `torch.load(weights_only=True)` only.
    """

    name: str
    zoo: ClassVar[int] = 0  # generation of the zoo that ships with ddbench; 0: weights come from elsewhere

    def load(self) -> Backbone:
        raise NotImplementedError

    def blank(self) -> Backbone:
        """The same network with random weights, for what does not depend on them; sources without such load theirs."""
        names = {field.name for field in fields(self)}  # type: ignore[arg-type]
        if "pretrained" not in names:
            return self.load()
        without = {"pretrained": False, "weights": None, "sha256": None}
        return replace(self, **{key: value for key, value in without.items() if key in names}).load()  # type: ignore[type-var]


BACKBONES: Registry[BackboneSource] = registries.BACKBONES
