"""The feature bank: features of real images, and what else is computed once from real data, memory-mapped.

An entry is addressed by what determines it: weights sha256, preprocessing, dataset fingerprint, split, view, seed and
precision. Methods, baselines and protocols share entries; an entry larger than memory is read through the map. Expert
trajectories of students are entries too.
"""

import hashlib
import json
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .ahead import ReadAhead
from .backbone import Backbone
from .data import ImageData, Split, index_chunks
from .encode import own_part, view_features
from .errors import UserError
from .finite import not_finite, refuse
from .parallel import agreed, everywhere, rank, wait_for_all
from .passes import USUAL, PassSize, given_chunk
from .phases import Phase, untimed
from .precision import precision
from .seeds import derive_seed
from .store import ArrayStore, Rows, default_cache
from .transfer import CPU, Readback
from .views import CENTRE, View, sample


@dataclass
class FeatureBank:
    """Features of the splits of a dataset under a backbone, from a content-addressed store."""

    store: ArrayStore = field(default_factory=lambda: ArrayStore(default_cache() / "features"))
    phase: Phase = untimed
    device: torch.device = CPU
    # images that are read, and views that pass through the backbone, at once; these are halved if need be
    chunk: int = field(default_factory=lambda: given_chunk() or USUAL)
    keys: list[str] = field(default_factory=list)  # entries asked for so far, in order
    misses: list[str] = field(default_factory=list)  # those of them that had to be computed

    def features(
        self, backbone: Backbone, data: ImageData, split: str, *, view: View = CENTRE, copies: int = 1, seed: int = 0
    ) -> Tensor:
        """Features `(copies, n, d)` float32 of `split` (`train` or `test`), memory-mapped, read-only.

        `copies` independent random views per image, drawn from `seed`; the deterministic centre view has one copy. Raises
        `UserError`, and stores nothing, where a feature is not finite.
        """
        images: Split = getattr(data, split)

        def fill(out: Rows) -> None:
            bad = torch.zeros(len(images), dtype=torch.bool)
            for copy in range(copies):
                for indices, features in stream_features(backbone, images, view, derive_seed(seed, f"view {copy}"), self):
                    bad[indices[not_finite(features)]] = True
                    out[copy, indices[0] : indices[-1] + 1] = features.numpy()
            refuse(bad.nonzero().flatten(), len(images), f"{split} images of {data.name}", backbone)

        facts = feature_facts(backbone, data, split, view, copies, seed)
        return self.entry(facts, (copies, len(images), backbone.spec.dim), fill)

    def entry(self, facts: dict[str, Any], shape: tuple[int, ...], fill: Callable[[Rows], None]) -> Tensor:
        """The float32 array `shape` that `facts` (JSON-ready) determine, memory-mapped, read-only.

        `fill` writes it where it is not stored yet; its time counts as that of features. It asks for no other entry. Several
        processes all fill, so that they can share out backbone passes, and the first one stores what comes of it.
        """
        key = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
        if key not in self.keys:
            self.keys.append(key)
        stored = partial(self.store.get, key, shape, np.float32)
        if not agreed(stored() is not None):
            with self._only_here(key):
                if not agreed(stored() is not None):
                    self.misses.append(key)
                    self._compute(key, shape, fill)
        found = stored()
        if not everywhere(found is not None):
            raise UserError(f"features that another process stored are not in {self.store.root}; all need one DDBENCH_CACHE")
        assert found is not None
        return as_tensor(found)

    @contextmanager
    def _only_here(self, key: str) -> Iterator[None]:
        """Hold the lock of an entry: cells that need the same one wait for one computation, in a phase of their own."""
        with ExitStack() as stack:
            if rank() == 0:
                with self.phase("wait"):
                    stack.enter_context(self.store.lock(key))
            yield

    def _compute(self, key: str, shape: tuple[int, ...], fill: Callable[[Rows], None]) -> None:
        writes = self.store.create(key, shape, np.dtype("float32")) if rank() == 0 else nullcontext(_Nowhere())
        begin = time.perf_counter()
        with self.phase("features") as span, writes as out:
            fill(out)
        seconds = time.perf_counter() - begin  # whoever asks first, through whatever door: it is filled once
        wait_for_all()
        if rank() == 0:
            peaks = getattr(span, "peaks", None)
            facts = {"cold_seconds": getattr(span, "seconds", seconds), "cold_peak_bytes": peaks.to_json() if peaks else None}
            self.store.annotate(key, facts)

    def cold_seconds(self) -> float | None:
        """Seconds it took, now or when they were first computed, to fill all entries asked for so far."""
        seconds = [self.store.meta(key).get("cold_seconds") for key in self.keys]
        return None if None in seconds else sum(s for s in seconds if s is not None)

    def cold_peak_bytes(self) -> dict[str, int | None] | None:
        """Peak memory, by its kind, while the entries asked for so far were filled, now or when they were first computed."""
        found = [self.store.meta(key).get("cold_peak_bytes") for key in self.keys]
        peaks = [peak for peak in found if peak is not None]
        if not peaks or len(peaks) < len(found):
            return None
        return {kind: max((p[kind] for p in peaks if p[kind] is not None), default=None) for kind in peaks[0]}


class _Nowhere:
    """Forgets what is written to it, in the processes that store nothing."""

    def __setitem__(self, where: Any, values: Any) -> None:
        pass


def feature_facts(backbone: Backbone, data: ImageData, split: str, view: View, copies: int, seed: int) -> dict[str, Any]:
    """What determines the features of a split."""
    spec = backbone.spec
    return {
        "weights": spec.sha256,
        "architecture": spec.architecture,
        "preprocessing": [spec.input_size, spec.stage_size, spec.pooling, spec.mean, spec.std],
        "data": data.fingerprint,
        "split": split,
        "view": asdict(view),
        "copies": copies,
        "seed": seed if view.random else 0,
        "device": backbone.mean.device.type,
        "precision": precision(backbone.mean.device.type),
        "folded": backbone.folded,
        "layout": 2,  # raised when the computation changes
    }


def stream_features(
    backbone: Backbone, split: Split, view: View, seed: int, bank: FeatureBank
) -> Iterator[tuple[Tensor, Tensor]]:
    """Indices and features `(k, d)` of one view of every image, chunk by chunk."""
    spec = backbone.spec
    generator = torch.Generator().manual_seed(seed)
    noise = torch.Generator(bank.device).manual_seed(seed)
    params = sample(view, len(split), generator, spec.stage_size, spec.input_size)
    chunks = list(index_chunks(len(split), bank.chunk))
    size = PassSize(bank.chunk)
    images = ReadAhead(split.images, bank.device).stream(own_part(chunks))
    waiting = None  # a GPU computes the next chunk while the host stores this one
    for indices, part in zip(chunks, images, strict=True):
        queued = indices, Readback(view_features(backbone, part, view, params[indices], noise, size))
        if waiting is not None:
            yield waiting[0], waiting[1].value()
        waiting = queued
    if waiting is not None:
        yield waiting[0], waiting[1].value()


def as_tensor(array: np.ndarray) -> Tensor:
    """A tensor on top of a read-only memory map, without a copy; nobody may write to it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # torch warns that the map is not writable; that is intended
        return torch.from_numpy(array)
