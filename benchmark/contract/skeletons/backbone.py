"""NAME: a small convolutional encoder of 64-px images. Put your own network, and the way its weights are read, in its place."""

import hashlib
from dataclasses import dataclass

import torch
from safetensors.torch import load_file
from torch import nn

from ddbench.plugins import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    Backbone,
    BackboneSource,
    BackboneSpec,
    Natural,
    UserError,
    register_backbone,
    spec_string,
)  # fmt: skip

SIZE, DIM = 64, 128


def network():
    """`(n, 3, 64, 64)`, normalised -> features `(n, 128)`."""
    layers = []
    for wide, narrow in ((32, 3), (64, 32), (DIM, 64)):
        layers += [nn.Conv2d(narrow, wide, 3, stride=2, padding=1), nn.BatchNorm2d(wide), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())


@register_backbone("NAME")
@dataclass(frozen=True)
class Skeleton(BackboneSource):
    """Three convolutions, 64 px, 128 features; weights from a file, or random ones of a seed."""

    weights: str | None = None  # .safetensors; none: random weights of `seed`
    seed: Natural = 0

    def load(self):
        with torch.random.fork_rng(devices=[]):  # the global random state stays as it was
            torch.manual_seed(self.seed)
            net = network()
        if self.weights is not None:
            try:
                net.load_state_dict(load_file(self.weights))
            except (OSError, RuntimeError) as error:
                raise UserError(f"{self.weights} does not hold the weights of NAME: {str(error).splitlines()[0]}") from error
        tensors = b"".join(tensor.numpy().tobytes() for tensor in net.state_dict().values())
        spec = BackboneSpec(
            name=spec_string(self),
            source=self.weights or "random",
            architecture="conv3",
            revision="" if self.weights else f"seed {self.seed}",
            sha256=hashlib.sha256(tensors).hexdigest(),
            input_size=SIZE,
            dim=DIM,
            pooling="avg",
            mean=IMAGENET_MEAN,
            std=IMAGENET_STD,
        )
        return Backbone(net, spec)  # frozen and in eval mode from here on
