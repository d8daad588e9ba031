"""What a record says about the machine and the software, without names of machines, users or folders."""

import importlib.metadata
import os
import platform
import subprocess
import warnings
from functools import cache
from pathlib import Path
from typing import Any

import torch

from ...core.parallel import member
from . import measure
from .determinism import nondeterministic

_LIBRARIES = ("ddbench", "torch", "torchvision", "timm", "open_clip_torch", "numpy")


def environment(device: torch.device) -> dict[str, Any]:
    """Software, hardware and settings that can move a number; threads and flags are those of this process."""
    return {
        **git_state(),
        "python": platform.python_version(),
        **{f"{name}_version": version(name) for name in _LIBRARIES},
        "os": " ".join([platform.system(), *platform.release().split(".")[:2]]),  # a full release may name whose kernel it is
        "machine": platform.machine(),
        "cpu": cpu_model(),
        "cores": os.cpu_count(),
        "cores_usable": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "threads": torch.get_num_threads(),
        "processes": member()[1],  # that distil together
        "load_average": os.getloadavg()[0]
        if hasattr(os, "getloadavg")
        else None,  # processes of the last minute, ours included
        "ram_bytes": measure.total_ram(),
        "rss_per_phase": measure.rss_per_phase(),
        **gpu(device),
        "deterministic": determinism(),
        "nondeterministic_operations": sorted(nondeterministic),
        "variables": variables(),
    }


def version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


@cache
def git_state() -> dict[str, Any]:
    """Commit and dirtiness of the checkout that this code runs from; None for an installed wheel."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return {"git_commit": None, "git_dirty": None}
    status = _git(root, "status", "--porcelain")
    return {"git_commit": _git(root, "rev-parse", "--verify", "HEAD"), "git_dirty": None if status is None else bool(status)}


def _git(root: Path, *arguments: str) -> str | None:
    """Output of a git command that takes no locks and writes nothing; None if it fails."""
    command = ["git", "--no-optional-locks", "-C", str(root), *arguments]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None


@cache
def cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def gpu(device: torch.device) -> dict[str, Any]:
    """The GPU in use and the settings of its arithmetic; None for each on the CPU."""
    if device.type != "cuda":
        return {"gpu": None, "gpu_bytes": None, "cuda": None, "driver": None, "cudnn": None, "tf32": None}
    properties = torch.cuda.get_device_properties(device)
    return {
        "gpu": properties.name,
        "gpu_bytes": properties.total_memory,
        "cuda": torch.version.cuda,
        "driver": _driver(),
        "cudnn": torch.backends.cudnn.version(),
        "tf32": tf32(),
    }


def tf32() -> dict[str, bool]:
    """Whether matrix products and convolutions may round to TF32."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # newer releases of torch announce new names for these flags
        return {"matmul": bool(torch.backends.cuda.matmul.allow_tf32), "cudnn": bool(torch.backends.cudnn.allow_tf32)}


def determinism() -> str:
    """`strict`, `warn_only` (operations without a deterministic form only warn), or `off`."""
    if not torch.are_deterministic_algorithms_enabled():
        return "off"
    return "warn_only" if torch.is_deterministic_algorithms_warn_only_enabled() else "strict"


def variables() -> dict[str, str]:
    """DDBENCH_* variables; the values of those that hold a path stay private."""
    found = {name: value for name, value in sorted(os.environ.items()) if name.startswith("DDBENCH_")}
    return {name: "(a path)" if os.sep in value else value for name, value in found.items()}


@cache
def _driver() -> str | None:
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        lines = subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout.split()
    except (OSError, subprocess.SubprocessError):
        return None
    return lines[0] if lines else None
