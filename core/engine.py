"""The feature engine: exact gradients of losses on features, with the memory of one chunk.

Every gradient method here is an objective on the features of all views of all synthetic images. The engine takes

    1. features of all views, chunk by chunk, without a graph
    2. the loss and its gradient with respect to those features (small, float32)
    3. chunk by chunk again with a graph: that gradient is back-propagated into the images

which gives the gradient of the whole batch up to summation order, at the price of one more forward pass. Where
everything fits into one chunk, steps 1 and 3 are one pass. Random numbers of step 1 are replayed in step 3.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .backbone import Backbone
from .views import View, ViewParams, apply, sample

Objective = Callable[[Tensor], Tensor]  # features (v, n, d) of v views of n images -> scalar loss


@dataclass(frozen=True)
class FeatureEngine:
    """Back-propagates objectives on features into synthetic images.

    Args:
        backbone: frozen encoder on the device of the images.
        views: one `View` per copy of each image.
        chunk: views per backbone pass; memory grows with it, the result does not depend on it.
    """

    backbone: Backbone
    views: Sequence[View]
    chunk: int = 256

    def step(self, images: nn.Module, objective: Objective, generator: torch.Generator) -> Tensor:
        """Add d loss / d parameters of `images` to their `.grad` and return the loss (detached scalar).

        `images(slice)` renders `(k, 3, R, R)` in [0, 1], R the backbone's stage size. `generator` (CPU) draws the views.
        """
        batch = _Batch.draw(len(images), self.views, generator, self.backbone)  # type: ignore[arg-type]
        chunks = batch.chunks(self.chunk)
        if len(chunks) == 1:
            features = self._features(images, batch, chunks[0], batch.noise(self.backbone))
            loss = objective(batch.unflatten(features))
            loss.backward()
            return loss.detach()
        with torch.no_grad():
            noise = batch.noise(self.backbone)
            features = torch.cat([self._features(images, batch, pairs, noise) for pairs in chunks])
        features.requires_grad_()
        loss = objective(batch.unflatten(features))
        (gradient,) = torch.autograd.grad(loss, features)
        noise = batch.noise(self.backbone)
        for pairs in chunks:
            self._features(images, batch, pairs, noise).backward(gradient[pairs])
        return loss.detach()

    def _features(self, images: nn.Module, batch: "_Batch", pairs: slice, noise: torch.Generator) -> Tensor:
        """Features `(k, d)` of the (image, view) pairs of one chunk; renders only the images that the chunk touches."""
        first, last = pairs.start // batch.copies, (pairs.stop - 1) // batch.copies
        rendered = images(slice(first, last + 1))
        which = torch.arange(pairs.start, pairs.stop, device=rendered.device) // batch.copies - first
        size = self.backbone.spec.input_size
        if batch.copies == 1 and len(which) == len(rendered):
            return self.backbone(apply(batch.view, rendered, batch.params[pairs], size, noise)).float()
        return self.backbone(apply(batch.view, rendered[which], batch.params[pairs], size, noise)).float()


@dataclass(frozen=True)
class _Batch:
    """All (image, view) pairs of one step, image by image, with their random numbers."""

    n: int
    copies: int
    view: View  # flags of all views together: a pair without flip or noise has neutral parameters
    params: ViewParams
    noise_seed: int

    @classmethod
    def draw(cls, n: int, views: Sequence[View], generator: torch.Generator, backbone: Backbone) -> "_Batch":
        spec = backbone.spec
        each = [sample(view, n, generator, spec.stage_size, spec.input_size) for view in views]
        theta = torch.stack([p.theta for p in each], dim=1).flatten(0, 1)
        noisy = torch.stack([p.noisy for p in each], dim=1).flatten(0, 1)
        noise_seed = int(torch.randint(2**62, (), generator=generator))
        return cls(n, len(views), _union(views), ViewParams(theta, noisy), noise_seed)

    def chunks(self, size: int) -> list[slice]:
        total = self.n * self.copies
        return [slice(start, min(start + size, total)) for start in range(0, total, size)]

    def noise(self, backbone: Backbone) -> torch.Generator:
        """The stream of this step's noise from its start; replayed by asking again."""
        return torch.Generator(backbone.mean.device).manual_seed(self.noise_seed)

    def unflatten(self, features: Tensor) -> Tensor:
        """Pairs `(n v, d)` -> `(v, n, d)`."""
        return features.view(self.n, self.copies, -1).transpose(0, 1)


def _union(views: Sequence[View]) -> View:
    noisy = next((view for view in views if view.noise_p > 0), views[0])
    return View(
        flip=any(view.flip for view in views),
        crop=next((view.crop for view in views if view.crop is not None), None),
        noise_p=noisy.noise_p,
        noise_std=noisy.noise_std,
        noise_mean=noisy.noise_mean,
    )
