"""The feature engine: exact gradients of losses on features, with the memory of one chunk.

Every gradient method here is an objective on the features of all views of all synthetic images. The engine takes

    1. features of all views, chunk by chunk, without a graph
    2. the loss and its gradient with respect to those features (small, float32)
    3. chunk by chunk again with a graph: that gradient is back-propagated into the images

which gives the gradient of the whole batch up to summation order, at the price of one more forward pass. The graph of the
first chunk is kept from step 1 to step 3, so that a single chunk pays nothing. Step 3 sees the random numbers of step 1.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor, nn

from .backbone import Backbone
from .parallel import gather, shard, sum_gradients, world
from .passes import PassSize, cpu_chunk
from .precision import eagerly
from .views import View, ViewParams, apply, sample, skip_noise

Objective = Callable[[Tensor], Tensor]  # features (v, n, d) of v views of n images -> scalar loss

_TRIAL = 8  # views that `fit` measures
_SHARE = 0.6  # of the free GPU memory for what one chunk keeps; the rest is for temporaries, objective and optimiser
_LARGEST = 512  # views per pass where one pass cannot hold all; a GPU is busy with fewer


@dataclass
class FeatureEngine:
    """Back-propagates objectives on features into synthetic images.

    Args:
        backbone: frozen encoder on the device of the images.
        views: one `View` per copy of each image.
        chunk: views per backbone pass; memory grows with it, the result does not depend on it.
            Halved, for good, when memory runs out; `chunks` lists the sizes used so far.
    """

    backbone: Backbone
    views: Sequence[View]
    chunk: int = 256
    chunks: list[int] = field(init=False)
    seen: Tensor | None = field(init=False, default=None)  # features `(n v, d)` of the last step, image by image
    keep: int = field(init=False)  # views at the beginning whose graph stays for step 3, a chunk of them or more

    def __post_init__(self) -> None:
        self.chunks, self.keep = [self.chunk], self.chunk

    def step(self, images: nn.Module, objective: Objective, generator: torch.Generator) -> Float[Tensor, ""]:
        """Add d loss / d parameters of `images` to their `.grad` and return the loss (detached scalar).

        `images(slice)` renders `(k, 3, R, R)` in [0, 1], R the backbone's stage size. `generator` (CPU) draws the views.
        Several processes share the backbone passes, and all of them get the whole gradient.
        """
        batch = _Batch.draw(len(images), self.views, generator, self.backbone)  # type: ignore[arg-type]
        before = [parameter.grad for parameter in images.parameters()]

        def attempt(chunk: int) -> Tensor:
            if chunk != self.chunk:
                self.chunk = self.keep = chunk
                self.chunks.append(chunk)
            images.zero_grad()  # sets to None: what was there stays in `before`
            return self._step(images, objective, batch)

        # of several processes the others would wait in a collective operation for what went wrong in one
        loss = PassSize(self.chunk).fitting(attempt) if world() == 1 else attempt(self.chunk)
        for parameter, gradient in zip(images.parameters(), before, strict=True):
            if gradient is not None:
                parameter.grad = gradient if parameter.grad is None else parameter.grad + gradient
        return loss

    def fit(self, images: nn.Module) -> None:
        """Choose the chunk by what a view keeps for the way back and by the memory that is free.

        On a GPU: all views in one pass if they fit, otherwise even chunks. On the CPU, where larger passes are not faster: as
        many as it is, or fewer.
        """
        batch = _Batch.draw(len(images), self.views, torch.Generator(), self.backbone)  # type: ignore[arg-type]
        device, own = self.backbone.mean.device, shard(batch.pairs)
        if own.start == own.stop:  # more processes than views
            return
        trial = slice(own.start, min(own.start + _TRIAL, own.stop))
        if device.type == "cpu":
            kept = saved_bytes(lambda: self._features(images, batch, trial, batch.noise(self.backbone, trial.start)))
            self.use([min(self.chunk, cpu_chunk(kept / (trial.stop - trial.start)))])
            self.keep = self.chunk
            return
        before = torch.cuda.memory_allocated(device)
        with eagerly():
            graph = self._features(images, batch, trial, batch.noise(self.backbone, trial.start))
        kept = (torch.cuda.memory_allocated(device) - before) / max(1, len(graph))
        free = torch.cuda.mem_get_info(device)[0] + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        fits = max(1, int(_SHARE * free / max(kept, 1)))
        self.use([even_chunk(own.stop - own.start, fits)])
        self.keep = max(self.chunk, fits)

    def use(self, chunks: Sequence[int]) -> None:
        """Start with chunks of this one size, what `in_use` gave when an earlier process saved it."""
        (self.chunk,) = self.chunks = list(chunks)
        self.keep = max(self.keep, self.chunk)

    @property
    def in_use(self) -> list[int]:
        """The present chunk of each engine, here of this one alone."""
        return [self.chunk]

    def _step(self, images: nn.Module, objective: Objective, batch: "_Batch") -> Tensor:
        own = shard(batch.pairs)
        graphs, features, noise = self._forward(images, batch, own)
        features = gather(features, batch.pairs).requires_grad_()
        loss = objective(batch.unflatten(features))
        (gradient,) = torch.autograd.grad(loss, features)
        self.seen = features.detach()
        start = own.start
        while graphs:  # freed one by one
            pairs, graph = graphs.pop(0)
            graph.backward(gradient[pairs])
            start = pairs.stop
        for pairs in batch.chunks(slice(start, own.stop), self.chunk):
            self._features(images, batch, pairs, noise).backward(gradient[pairs])
        sum_gradients(images)
        return loss.detach()

    def _forward(
        self, images: nn.Module, batch: "_Batch", own: slice
    ) -> tuple[list[tuple[slice, Tensor]], Tensor, torch.Generator]:
        """The chunks whose graph is kept, features `(k, d)` without a graph of all pairs of this process, and the stream of
        noise as it stood after the kept chunks."""
        noise = batch.noise(self.backbone, own.start)
        rest = noise
        graphs, features = [], [torch.empty(0, self.backbone.spec.dim, device=self.backbone.mean.device)]
        for pairs in batch.chunks(own, self.chunk):
            kept = pairs.stop - own.start <= self.keep
            if not kept and rest is noise:
                rest = noise.clone_state()
            with torch.set_grad_enabled(kept):
                chunk = self._features(images, batch, pairs, noise)
            features.append(chunk.detach())
            if kept:
                graphs.append((pairs, chunk))
        return graphs, torch.cat(features), rest

    def _features(self, images: nn.Module, batch: "_Batch", pairs: slice, noise: torch.Generator) -> Float[Tensor, "k d"]:
        """Features `(k, d)` of the (image, view) pairs of one chunk; renders only the images that the chunk touches."""
        first, last = pairs.start // batch.copies, (pairs.stop - 1) // batch.copies
        rendered = images(slice(first, last + 1))
        which = torch.arange(pairs.start, pairs.stop, device=rendered.device) // batch.copies - first
        size = self.backbone.spec.input_size
        if batch.copies == 1 and len(which) == len(rendered):
            return self.backbone(apply(batch.view, rendered, batch.params[pairs], size, noise)).float()
        return self.backbone(apply(batch.view, rendered[which], batch.params[pairs], size, noise)).float()


def saved_bytes(forward: Callable[[], Tensor]) -> int:
    """Bytes of the tensors that a forward pass keeps for the way back, parameters left out."""
    seen: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        if not isinstance(tensor, nn.Parameter):
            storage = tensor.untyped_storage()
            seen[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        graph = forward()  # kept until the sum is known, so that no storage is used twice
        total = sum(seen.values())
    del graph
    return total


def even_chunk(pairs: int, fits: int) -> int:
    """Views per pass for `pairs` views where `fits` can be back-propagated at a time: all of them, or even parts."""
    if fits >= pairs:
        return max(1, pairs)
    passes = -(-pairs // min(fits, _LARGEST))
    return -(-pairs // passes)


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
        device = backbone.mean.device
        return cls(n, len(views), _union(views), ViewParams(theta, noisy).to(device), noise_seed)

    @property
    def pairs(self) -> int:
        return self.n * self.copies

    def chunks(self, part: slice, size: int) -> list[slice]:
        """The pairs of `part` in consecutive chunks."""
        return [slice(start, min(start + size, part.stop)) for start in range(part.start, part.stop, size)]

    def noise(self, backbone: Backbone, start: int) -> torch.Generator:
        """The stream of this step's noise from the pair `start` on."""
        noise = torch.Generator(backbone.mean.device).manual_seed(self.noise_seed)
        skip_noise(self.view, noise, start, backbone.spec.input_size)
        return noise

    def unflatten(self, features: Float[Tensor, "nv d"]) -> Float[Tensor, "v n d"]:
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
