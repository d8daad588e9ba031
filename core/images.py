"""Parametrisations of synthetic images: what the optimiser sees, and how it becomes an image in [0, 1].

Both end in x = sigmoid(2 s) after colour decorrelation, as in LGM (arXiv 2511.16674, section 3.2 and released code).
"""

import functools
import operator
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

# Square root of the colour covariance of natural images (Olah et al., Feature Visualization, 2017), rows R G B.
_COLOUR = torch.tensor([[0.26, 0.09, 0.02], [0.27, 0.00, -0.05], [0.27, -0.09, 0.03]])
_COLOUR = _COLOUR / _COLOUR.norm(dim=0).max()


_EDGE = 0.02  # real images are clamped to [0.02, 0.98]: the sigmoid reaches neither end
_JITTER = 0.05  # noise on a signal that starts from real images, so that no two start equal


def _to_signal(images: Tensor, decorrelate: bool, generator: torch.Generator) -> Tensor:
    """The inverse of `_to_image` for images `(n, 3, h, w)` in [0, 1], with a little noise."""
    signal = torch.logit(images.clamp(_EDGE, 1 - _EDGE)) / 2
    signal = signal + _JITTER * torch.randn(signal.shape, generator=generator)
    if decorrelate:
        signal = torch.einsum("oc,nchw->nohw", torch.linalg.inv(_COLOUR).to(signal), signal)
    return signal


def _to_image(signal: Tensor, decorrelate: bool) -> Tensor:
    if decorrelate:
        signal = torch.einsum("oc,nchw->nohw", _colour(signal.device, signal.dtype), signal)
    return torch.sigmoid(2 * signal)


@functools.cache
def _colour(device: torch.device, dtype: torch.dtype) -> Tensor:
    """`_COLOUR` where it is used: a copy at each call would make the host wait for a GPU."""
    return _COLOUR.to(device, dtype)


def upsample(levels: Tensor, size: int) -> Tensor:
    """Levels `(k, 3, r, r)`, bilinearly upsampled to `(k, 3, size, size)`.

    On a GPU by two matrix products: the deterministic gradient that torch has for its own kernel there adds up one pixel at a
    time, and a level of one pixel has as many to add as the image has.
    """
    return by_products(levels, size) if levels.is_cuda else F.interpolate(levels, size=(size, size), mode="bilinear")


def by_products(levels: Tensor, size: int) -> Tensor:
    """`upsample` as A x A^T; the finest level as it is."""
    if levels.shape[-1] == size:
        return levels
    weights = _interpolation(levels.shape[-1], size, levels.device, levels.dtype)
    return weights @ levels @ weights.T


@functools.cache
def _interpolation(old: int, new: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """The matrix `(new, old)` of linear interpolation from `old` to `new` points."""
    return F.interpolate(torch.eye(old, dtype=torch.float64)[None], size=new, mode="linear")[0].T.to(device, dtype)


class _Rows(torch.autograd.Function):
    """`parameter[index]` for a part of the rows. Its gradient goes to these rows of `parameter.grad` and touches no others;
    torch's own would be as large as the parameter, zeros elsewhere, for each chunk of a step."""

    @staticmethod
    def forward(ctx: Any, parameter: Tensor, index: slice) -> Tensor:
        ctx.parameter, ctx.index = parameter, index
        return parameter.detach()[index]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, None]:  # type: ignore[override]
        if ctx.parameter.grad is None:
            ctx.parameter.grad = torch.zeros_like(ctx.parameter)
        ctx.parameter.grad[ctx.index] += gradients[0]
        return None, None


def _rows(parameter: Tensor, index: slice) -> Tensor:
    """`parameter[index]`, to be back-propagated by `Tensor.backward`."""
    start, stop, _ = index.indices(len(parameter))
    whole = (start, stop) == (0, len(parameter))
    return parameter[index] if whole or not torch.is_grad_enabled() else _Rows.apply(parameter, index)


class Pixels(nn.Module):
    """n images of `size` pixels, one parameter per pixel, initialised N(0, 1)."""

    def __init__(self, n: int, size: int, generator: torch.Generator, decorrelate: bool = True):
        super().__init__()
        self.decorrelate = decorrelate
        self.signal = nn.Parameter(torch.randn(n, 3, size, size, generator=generator))

    def __len__(self) -> int:
        return len(self.signal)

    @torch.no_grad()
    def start_from(self, images: Tensor, generator: torch.Generator) -> None:
        """Render these images `(n, 3, size, size)` in [0, 1], up to clamping and a little noise."""
        self.signal.copy_(_to_signal(images, self.decorrelate, generator))

    def grow(self) -> bool:
        """Pixels have nothing to add."""
        return False

    def forward(self, index: slice = slice(None)) -> Tensor:
        """Images `(k, 3, size, size)` in (0, 1) of the n at `index`; of a part, to be back-propagated by `Tensor.backward`."""
        return _to_image(_rows(self.signal, index), self.decorrelate)


class Pyramid(nn.Module):
    """n images as sums of levels of 1, 2, 4, ... `size` pixels, bilinearly upsampled (LGM section 3.2).

    A pyramid that starts at `start` < `size` grows by one level per call of `grow`: the levels so far are rescaled by
    old/new number of levels and the new level starts as N(0, 1) / new number, so the signal keeps its scale.
    """

    def __init__(self, n: int, size: int, generator: torch.Generator, decorrelate: bool = True, start: int = 1):
        super().__init__()
        self.size = size
        self.decorrelate = decorrelate
        self.resolutions = level_sizes(size)
        self._generator = generator
        count = sum(r <= max(start, self.resolutions[0]) for r in self.resolutions)
        self.levels = nn.ParameterList(self._noise(n, r) / count for r in self.resolutions[:count])

    def __len__(self) -> int:
        return len(self.levels[0])

    @torch.no_grad()
    def start_from(self, images: Tensor, generator: torch.Generator) -> None:
        """Render these images `(n, 3, size, size)` in [0, 1], up to clamping and a little noise, by the finest level alone.

        Raises `ValueError` for a pyramid that still grows.
        """
        if len(self.levels) < len(self.resolutions):
            raise ValueError("a pyramid that still grows cannot start from given images")
        for level in self.levels[:-1]:
            level.zero_()
        self.levels[-1].copy_(_to_signal(images, self.decorrelate, generator))

    def grow(self) -> bool:
        """Add the next finer level; False when the pyramid is complete. Parameters change, so optimisers must be renewed."""
        old = len(self.levels)
        if old == len(self.resolutions):
            return False
        with torch.no_grad():
            for level in self.levels:
                level.mul_(old / (old + 1))
        new = self._noise(len(self), self.resolutions[old]) / (old + 1)
        self.levels.append(nn.Parameter(new.to(self.levels[0])))
        return True

    def forward(self, index: slice = slice(None)) -> Tensor:
        """Images `(k, 3, size, size)` in (0, 1) of the n at `index`; of a part, to be back-propagated by `Tensor.backward`."""
        upsampled = (upsample(_rows(level, index), self.size) for level in self.levels)
        return _to_image(functools.reduce(operator.add, upsampled), self.decorrelate)

    def _noise(self, n: int, size: int) -> Tensor:
        return torch.randn(n, 3, size, size, generator=self._generator)


def initial_images(
    kind: Literal["pyramid", "pixels"], n: int, size: int, generator: torch.Generator, *, decorrelate: bool, growing: bool
) -> Pixels | Pyramid:
    """n random images of `size` pixels; a `growing` pyramid starts at one pixel, any other with all of its levels."""
    if kind == "pixels":
        return Pixels(n, size, generator, decorrelate)
    return Pyramid(n, size, generator, decorrelate, start=1 if growing else size)


def level_sizes(size: int) -> list[int]:
    """1, 2, 4, ... below `size`, then `size` itself."""
    sizes = [1]
    while sizes[-1] * 2 < size:
        sizes.append(sizes[-1] * 2)
    return [*sizes, size] if size > 1 else [1]
