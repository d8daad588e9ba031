"""Contract tests of a backbone. They load it once or twice and pass a handful of images."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from ...core.backbone import BACKBONES, Backbone, BackboneSource
from ...core.params import spec_string
from ...core.registry import Registry
from .shared import COMMON, Broken, Checks, quietly

_IMAGES = 3
_TOLERANCE = 1e-3  # relative to the largest feature: sums in another order, not another network


@dataclass
class Subject:
    """The backbone under test."""

    spec: str
    registry: Registry[Any] = BACKBONES

    @cached_property
    def plugin(self) -> BackboneSource:
        return BACKBONES.create(self.spec)

    @cached_property
    def backbone(self) -> Backbone:
        return self.plugin.load()

    @cached_property
    def images(self) -> Tensor:
        """`(3, 3, s, s)` in [0, 1]: smooth, as photographs are."""
        size = self.backbone.spec.input_size
        coarse = torch.rand(_IMAGES, 3, 4, 4, generator=torch.Generator().manual_seed(0))
        return torch.nn.functional.interpolate(coarse, (size, size), mode="bilinear").clamp(0, 1)

    @cached_property
    def features(self) -> Tensor:
        with torch.no_grad():
            return self.backbone(self.images)


def card(subject: Subject) -> None:
    """has a card with its name, weights, size and normalisation"""
    spec = subject.backbone.spec
    if spec.name != spec_string(subject.plugin):
        raise Broken(f"spec.name is {spec.name!r}, not {spec_string(subject.plugin)!r}; use spec_string(self)")
    empty = [name for name in ("source", "architecture", "sha256", "pooling") if not getattr(spec, name)]
    if empty or spec.input_size < 1 or spec.dim < 1 or len(spec.mean) != 3 or len(spec.std) != 3 or min(spec.std) <= 0:
        raise Broken(f"the card is not complete: {', '.join(empty) or spec}")


def gives_features(subject: Subject) -> None:
    """gives finite float32 features (n, dim)"""
    found, dim = subject.features, subject.backbone.spec.dim
    if found.shape != (_IMAGES, dim) or found.dtype != torch.float32:
        raise Broken(f"features are {tuple(found.shape)} {found.dtype}, not ({_IMAGES}, {dim}) float32")
    if not bool(found.isfinite().all()):
        raise Broken("features are not finite")


def images_alone(subject: Subject) -> None:
    """gives an image the same features in any batch"""
    with torch.no_grad():
        alone = torch.cat([subject.backbone(image[None]) for image in subject.images])
    if _distance(alone, subject.features) > _TOLERANCE:
        raise Broken("features depend on the other images of the batch; is something normalised over it?")


def frozen(subject: Subject) -> None:
    """is frozen and in eval mode, and gradients reach the images"""
    backbone = subject.backbone
    if backbone.training or any(parameter.requires_grad for parameter in backbone.parameters()):
        raise Broken("some parameters require gradients, or it is in training mode; return Backbone(network, spec)")
    images = subject.images.clone().requires_grad_(True)
    backbone(images).square().sum().backward()
    if images.grad is None or not bool(images.grad.isfinite().all()) or not bool(images.grad.any()):
        raise Broken("no gradient reaches the images, or none that is finite; is there a no_grad or a detach?")


def loads_the_same(subject: Subject) -> None:
    """loads the same network twice, prints nothing and leaves the world alone"""
    _ = subject.features  # the first time: some libraries draw random numbers when first imported
    with quietly():
        again = subject.plugin.load()
    if again.spec != subject.backbone.spec:
        raise Broken("two loads have different cards; sha256 must be that of the weights")
    with torch.no_grad():
        same = torch.equal(again(subject.images), subject.features)
    if not same:
        raise Broken("two loads give different features; seed random weights")


def blank(subject: Subject) -> None:
    """has a blank() of the same shape, for estimates"""
    spec, own = subject.plugin.blank().spec, subject.backbone.spec
    if (spec.dim, spec.input_size) != (own.dim, own.input_size):
        raise Broken(f"blank() has {spec.dim} features of {spec.input_size} px, not {own.dim} of {own.input_size}")


def _distance(a: Tensor, b: Tensor) -> float:
    return float((a - b).abs().max() / b.abs().max().clamp_min(1e-12))


CHECKS: Checks[Subject] = (*COMMON, card, gives_features, images_alone, frozen, loads_the_same, blank)
