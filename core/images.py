"""Parametrisations of synthetic images: what the optimiser sees, and how it becomes an image in [0, 1].

Both end in x = sigmoid(2 s) after colour decorrelation, as in LGM (arXiv 2511.16674, section 3.2 and released code).
"""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

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
        signal = torch.einsum("oc,nchw->nohw", _COLOUR.to(signal), signal)
    return torch.sigmoid(2 * signal)


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
        """Images `(k, 3, size, size)` in (0, 1) of the n at `index`."""
        return _to_image(self.signal[index], self.decorrelate)


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
        """Images `(k, 3, size, size)` in (0, 1) of the n at `index`."""
        upsampled = (F.interpolate(level[index], size=(self.size, self.size), mode="bilinear") for level in self.levels)
        return _to_image(torch.stack(list(upsampled)).sum(0), self.decorrelate)

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
