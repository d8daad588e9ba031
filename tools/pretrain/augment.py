"""Augmentation of self-supervised pre-training, batched: every image of a batch gets its own crop, flip and colours."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ddbench.core.views import View, apply, sample

LUMA = (0.299, 0.587, 0.114)  # grey value of an RGB pixel, ITU-R 601
RGB_TO_YIQ = ((0.299, 0.587, 0.114), (0.5959, -0.2746, -0.3213), (0.2115, -0.5227, 0.3112))


@dataclass(frozen=True)
class Colour:
    """Strengths of the colour changes of SimCLR (Chen et al. 2020, appendix A; strength 0.5 as for CIFAR, B.9)."""

    brightness: float = 0.4
    contrast: float = 0.4
    saturation: float = 0.4
    hue: float = 0.1  # in turns, as in torchvision
    jitter_p: float = 0.8
    grey_p: float = 0.2


def augment(images: Tensor, crop: tuple[float, float], size: int, generator: torch.Generator, colour: Colour | None) -> Tensor:
    """Random resized crop (area fraction `crop`), flip and, unless None, colour of images `(n, 3, h, w)` in [0, 1]
    -> `(n, 3, size, size)` in [0, 1]. Random numbers come from the CPU `generator`. No blur: SimCLR omits it at 32 px."""
    view = View(flip=True, crop=crop)
    images = apply(view, images, sample(view, len(images), generator), size)
    return images if colour is None else jitter(images, colour, generator)


def jitter(images: Tensor, colour: Colour, generator: torch.Generator) -> Tensor:
    """Brightness, contrast, saturation, hue and grey as one affine map of RGB per image.

    Each step is linear in the pixel (contrast also in the image's mean grey), so the steps multiply into one 3x3 matrix;
    the order is fixed and values are clamped once, at the end. Hue is the rotation of the IQ plane.
    """
    n = len(images)
    on = (torch.rand(n, generator=generator) < colour.jitter_p).float()

    def factor(strength: float) -> Tensor:
        return (1 + on * strength * (2 * torch.rand(n, generator=generator) - 1)).view(n, 1, 1)

    brightness, contrast, saturation = map(factor, (colour.brightness, colour.contrast, colour.saturation))
    angle = 2 * math.pi * colour.hue * on * (2 * torch.rand(n, generator=generator) - 1)
    saturation = torch.where(torch.rand(n, 1, 1, generator=generator) < colour.grey_p, torch.zeros(()), saturation)
    to_grey = torch.tensor(LUMA).expand(3, 3)
    matrix = (saturation * torch.eye(3) + (1 - saturation) * to_grey) @ _hue_rotation(angle) * brightness
    mixed = (matrix.to(images) @ images.flatten(2)).view_as(images)
    mean_grey = (mixed.mean((2, 3)) @ torch.tensor(LUMA).to(images)).view(n, 1, 1, 1)
    contrast = contrast.to(images).unsqueeze(-1)
    return (contrast * mixed + (1 - contrast) * mean_grey).clamp(0, 1)


def _hue_rotation(angle: Tensor) -> Tensor:
    """`(n,)` radians -> RGB matrices `(n, 3, 3)` that turn the chroma plane and keep the luma."""
    yiq = torch.tensor(RGB_TO_YIQ)
    turn = torch.eye(3).repeat(len(angle), 1, 1)
    turn[:, 1, 1] = turn[:, 2, 2] = angle.cos()
    turn[:, 1, 2] = -angle.sin()
    turn[:, 2, 1] = angle.sin()
    return torch.linalg.inv(yiq) @ turn @ yiq
