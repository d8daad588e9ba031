"""Views: the differentiable crop, flip and noise between an image and a backbone's input.

A view maps staged images `(n, 3, R, R)` to backbone inputs `(n, 3, s, s)`, both in [0, 1] (noise may leave the range, as
in LGM's released code, where it is not clamped). Geometry is one affine resampling per image; all random numbers are
drawn on the CPU by `sample`, so that a chunk of a batch sees the same numbers as the whole batch.
"""

import math
from dataclasses import dataclass
from typing import Annotated

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Shaped
from torch import Tensor

from .errors import UserError
from .params import AfterValidator
from .transfer import to_device


@dataclass(frozen=True)
class View:
    """Parameters of a random view. The default is the deterministic centre crop used for test images."""

    flip: bool = False  # mirror left-right with probability 0.5
    crop: tuple[float, float] | None = None  # random resized crop: range of the area fraction; None: centre crop
    ratio: tuple[float, float] = (3 / 4, 4 / 3)  # aspect ratio range of the crop, log-uniform
    noise_p: float = 0.0  # probability of Gaussian noise per image
    noise_std: float = 0.2  # pixel units of [0, 1]
    noise_mean: float = 0.0  # 0.5 in LGM's code until 2026-03-31

    @property
    def random(self) -> bool:
        return self.flip or self.crop is not None or self.noise_p > 0

    @classmethod
    def parse(cls, text: str, noise_mean: float = 0.0) -> "View":
        """A view from `none` or names joined by `+` out of flip, crop, noise: `flip+crop+noise` is LGM's training
        augmentation (`AugStandard` of the released code), `flip+crop` its probe's (`AugBasic`)."""
        names = set() if text == "none" else set(text.split("+"))
        if wrong := names - {"flip", "crop", "noise"}:
            raise UserError(f"unknown augmentation {sorted(wrong)[0]!r}; write none or flip, crop, noise joined by +")
        return cls(
            flip="flip" in names,
            crop=(0.08, 1.0) if "crop" in names else None,
            noise_p=0.5 if "noise" in names else 0.0,
            noise_mean=noise_mean,
        )


CENTRE = View()

DRAWN = 256  # views whose random numbers are drawn together; results follow it, so it is no parameter
_BLOCK = 16  # normal numbers that torch draws at a time on the CPU


def _readable(text: str) -> str:
    View.parse(text)
    return text


Augment = Annotated[str, AfterValidator(_readable)]  # a parameter that `View.parse` reads, checked when it is given
AUTO = "auto"


def augmentation(asked: str, mirror: bool) -> str:
    """What `auto` means on data whose mirrored images keep their class (`ImageData.mirror`), or do not; else `asked`."""
    if asked != AUTO:
        return asked
    return "flip+crop" if mirror else "crop"


def _readable_or_auto(text: str) -> str:
    return text if text == AUTO else _readable(text)


AutoAugment = Annotated[str, AfterValidator(_readable_or_auto)]  # the same, or `auto`: what `augmentation` says


@dataclass(frozen=True)
class ViewParams:
    """The random numbers of n views: affine maps `(n, 2, 3)` and noise flags `(n,)`."""

    theta: Float[Tensor, "n 2 3"]
    noisy: Bool[Tensor, " n"]

    def __getitem__(self, index: slice | Tensor) -> "ViewParams":
        return ViewParams(self.theta[index], self.noisy[index])

    def to(self, device: torch.device) -> "ViewParams":
        return ViewParams(to_device(self.theta, device), to_device(self.noisy, device))


def sample(view: View, n: int, generator: torch.Generator, stage_size: int = 1, input_size: int = 1) -> ViewParams:
    """Draw the parameters of `n` independent views.

    Without a random crop a view is the centre crop of `input_size` out of `stage_size` pixels, the same pixels that `centre`
    takes. The random resized crop follows LGM's released code: width fraction sqrt(s r), height fraction sqrt(s / r), a
    uniform offset, no re-try, so that a side may exceed the image by up to 15 % and show a black border.
    """
    theta = torch.zeros(n, 2, 3)
    if view.crop is None:
        theta[:, 0, 0] = theta[:, 1, 1] = input_size / stage_size
        middle = (stage_size - input_size) // 2 + input_size / 2
        theta[:, :, 2] = 2 * middle / stage_size - 1
    else:
        area = torch.empty(n).uniform_(*view.crop, generator=generator)
        log_ratio = torch.empty(n).uniform_(math.log(view.ratio[0]), math.log(view.ratio[1]), generator=generator)
        theta[:, 0, 0] = (area * log_ratio.exp()).sqrt()
        theta[:, 1, 1] = (area / log_ratio.exp()).sqrt()
        offset = torch.empty(n, 2).uniform_(-1, 1, generator=generator)
        theta[:, 0, 2] = offset[:, 0] * (1 - theta[:, 0, 0])
        theta[:, 1, 2] = offset[:, 1] * (1 - theta[:, 1, 1])
    if view.flip:
        mirrored = torch.rand(n, generator=generator) < 0.5
        theta[mirrored, 0, 0] *= -1
    noisy = torch.rand(n, generator=generator) < view.noise_p if view.noise_p > 0 else torch.zeros(n, dtype=torch.bool)
    return ViewParams(theta, noisy)


def apply(
    view: View, images: Float[Tensor, "n 3 h w"], params: ViewParams, size: int, noise: torch.Generator | None = None
) -> Float[Tensor, "n 3 {size} {size}"]:
    """Views `(n, 3, size, size)` of `images (n, 3, R, R)`; `noise` (on the images' device) is needed where the view adds any.

    Noise is drawn image by image in order from one stream, so consecutive chunks of a batch draw what the whole batch would.
    """
    if view.flip or view.crop is not None:
        theta = params.theta.to(images)
        grid = F.affine_grid(theta, [len(images), 3, size, size], align_corners=False)
        images = F.grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    else:
        images = centre(images, size)
    if view.noise_p > 0:
        assert noise is not None, "a noisy view needs a generator"
        shift = draw_noise(noise, len(images), size) * view.noise_std + view.noise_mean
        images = images + shift.to(images) * params.noisy.to(images).view(-1, 1, 1, 1)
    return images


def skip_noise(view: View, noise: torch.Generator, count: int, size: int) -> None:
    """Advance `noise` past `count` images of `size` pixels, as if `apply` had drawn for them, a few at a time."""
    if view.noise_p > 0:
        for start in range(0, count, 256):
            draw_noise(noise, min(256, count - start), size)


def draw_noise(noise: torch.Generator, count: int, size: int) -> Float[Tensor, "{count} 3 {size} {size}"]:
    """N(0, 1) numbers `(count, 3, size, size)` on the device of `noise`; two calls draw what one call for all would.

    That is no property of torch's streams: a CPU's moves on by 16 numbers, with a last block that overlaps the one before, and
    a GPU's by the size of the call. So each image takes whole blocks of its own there, and a call of its own here.
    """
    numbers = 3 * size * size
    if noise.device.type == "cpu":
        blocks = torch.randn(count, -(-numbers // _BLOCK) * _BLOCK, generator=noise)
        return blocks[:, :numbers].reshape(count, 3, size, size)
    drawn = torch.empty(count, 3, size, size, device=noise.device)
    for image in drawn:
        image.normal_(generator=noise)
    return drawn


def sample_in_blocks(view: View, n: int, generator: torch.Generator, stage_size: int, input_size: int) -> ViewParams:
    """`sample` for `n` views, `DRAWN` at a time: the order in which sets and records have drawn them, whatever the chunk."""
    blocks = [min(DRAWN, n - start) for start in range(0, n, DRAWN)]
    drawn = [sample(view, count, generator, stage_size, input_size) for count in blocks]
    return ViewParams(torch.cat([each.theta for each in drawn]), torch.cat([each.noisy for each in drawn]))


def pad_crop_flip(images: Float[Tensor, "n 3 s s"], pad: int, generator: torch.Generator) -> Float[Tensor, "n 3 s s"]:
    """Images `(n, 3, s, s)` shifted by up to `pad` pixels (zeros move in) and mirrored at random; exact pixels.

    The standard augmentation of CIFAR classifiers (He et al., CVPR 2016, section 4.2). `generator` is on the CPU.
    """
    n, _, size, _ = images.shape
    top, left = torch.randint(2 * pad + 1, (2, n, 1), generator=generator)
    rows, columns = top + torch.arange(size), left + torch.arange(size)
    mirrored = torch.rand(n, 1, generator=generator) < 0.5
    columns = torch.where(mirrored, columns.flip(1), columns)
    where = (torch.arange(n).view(n, 1, 1), rows.view(n, size, 1), columns.view(n, 1, size))
    padded = F.pad(images, [pad] * 4).permute(0, 2, 3, 1)
    return padded[tuple(index.to(images.device) for index in where)].permute(0, 3, 1, 2).contiguous()


def centre(images: Shaped[Tensor, "*n h w"], size: int) -> Shaped[Tensor, "*n {size} {size}"]:
    """Deterministic centre crop of staged images to `(n, 3, size, size)`, exact pixels."""
    top = (images.shape[-2] - size) // 2
    left = (images.shape[-1] - size) // 2
    return images[..., top : top + size, left : left + size]
