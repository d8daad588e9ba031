"""Precision of backbone passes: bfloat16 autocast on GPUs, float32 on CPUs (where bfloat16 products are far slower).

Features leave the backbone in float32, and objectives and solves stay there. DDBENCH_PRECISION=float32 switches autocast off;
records hold the precision and the variables. DDBENCH_COMPILE=1 compiles backbones (torch.compile), for long runs on a GPU; the
results differ by rounding.
"""

import contextlib
import os
from contextlib import AbstractContextManager
from typing import Any, Literal

import torch

from .errors import UserError

Precision = Literal["bf16", "float32"]


def precision(device: str) -> Precision:
    """The precision of backbone passes on a device type (`cpu` or `cuda`)."""
    wanted = os.environ.get("DDBENCH_PRECISION", "bf16")
    if wanted not in ("bf16", "float32"):
        raise UserError(f"DDBENCH_PRECISION={wanted} is unknown; set it to bf16 (GPUs only) or float32")
    return "bf16" if device == "cuda" and wanted == "bf16" else "float32"


def autocast(device: torch.device) -> AbstractContextManager[Any]:
    """The context of a backbone pass on `device`."""
    if precision(device.type) == "bf16":
        return torch.autocast(device.type, torch.bfloat16)
    return contextlib.nullcontext()


def eagerly() -> AbstractContextManager[Any]:
    """The context of a few passes that are not worth compiling for."""
    return torch.compiler.set_stance("force_eager") if compiled() else contextlib.nullcontext()


def compiled() -> bool:
    """Whether backbones are to be compiled."""
    wanted = os.environ.get("DDBENCH_COMPILE", "0")
    if wanted not in ("0", "1"):
        raise UserError(f"DDBENCH_COMPILE={wanted} is unknown; set it to 1 (compile backbones) or 0")
    return wanted == "1"
