"""Determinism of a cell process: seeds, deterministic algorithms, and a list of the operations that have none."""

import random
import warnings
from typing import Any

import numpy as np
import torch

nondeterministic: set[str] = set()  # operations that ran in this process without a deterministic form (CUDA only)
_WARNING = " does not have a deterministic implementation"


def make_deterministic(device: str) -> None:
    """On the CPU an operation without a deterministic form is an error; on CUDA, where some have none, it is recorded."""
    torch.use_deterministic_algorithms(True, warn_only=device == "cuda")
    torch.backends.cudnn.benchmark = False
    # Filling fresh memory would touch pages that nobody uses and so raise the peaks that we measure.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    show = warnings.showwarning

    def remember(message: Any, *rest: Any, **named: Any) -> None:
        text = str(message)
        if _WARNING in text:
            nondeterministic.add(text.partition(_WARNING)[0])
        show(message, *rest, **named)

    warnings.showwarning = remember


def seed_everything(seed: int) -> None:
    """The global generators, for plugins that use them; methods draw from `run.generator`."""
    torch.manual_seed(seed)
    np.random.seed(seed % 2**32)
    random.seed(seed)
