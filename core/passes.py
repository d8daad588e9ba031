"""How many views go through a backbone at once, and what happens where memory does not hold them."""

import contextlib
import math
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import torch

from .errors import UserError

T = TypeVar("T")

_CPU_TEXTS = ("not enough memory", "can't allocate memory")  # of a RuntimeError; GPUs have an exception of their own

USUAL = 256  # views per pass: past the point where larger passes gain speed on a CPU for 32-pixel inputs


_CPU_BYTES = 1 << 30  # of activations in a pass on the CPU: past it a larger one gains nothing, and peaks are compared
_CPU_SHARE = 0.5  # of the memory that is free
_CGROUPS, _OWN_CGROUP = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")
_CACHED = ("active_file", "inactive_file")  # lines of memory.stat


def cpu_chunk(bytes_per_view: float) -> int:
    """Views to back-propagate at once on the CPU: `USUAL`, or as many, a power of two, as memory and a bound on it hold."""
    fits = min(_CPU_BYTES, _CPU_SHARE * free_memory()) / max(bytes_per_view, 1)
    return USUAL if fits >= USUAL else 1 << max(0, int(math.log2(max(fits, 1))))


def free_memory() -> float:
    """Bytes that this process can still take, by the system, its cgroup (version 2) and its own limit; infinite if unknown."""
    found = [math.inf]
    with contextlib.suppress(OSError, ValueError, StopIteration):
        lines = Path("/proc/meminfo").read_text().splitlines()
        found.append(1024 * float(next(line.split()[1] for line in lines if line.startswith("MemAvailable"))))
    found += [_free_in(group) for group in _cgroups()]
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        limit = resource.getrlimit(resource.RLIMIT_AS)[0]
        if limit != resource.RLIM_INFINITY:
            taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
            found.append(float(limit - taken))
    return max(0.0, min(found))


def _cgroups() -> list[Path]:
    """The folders of the cgroup (version 2) of this process and of those around it, whose limits all hold."""
    with contextlib.suppress(OSError, StopIteration):
        lines = _OWN_CGROUP.read_text().splitlines()
        own = _CGROUPS / next(line[3:] for line in lines if line.startswith("0::")).lstrip("/")
        return [_CGROUPS, *(folder for folder in (own, *own.parents) if folder.is_relative_to(_CGROUPS) and folder != _CGROUPS)]
    return [_CGROUPS]


def _free_in(group: Path) -> float:
    """Bytes up to the limit of a cgroup; cached files count as used there, and are given up for who needs the memory."""
    with contextlib.suppress(OSError, ValueError):
        limit = (group / "memory.max").read_text().strip()
        if limit != "max":
            used = float((group / "memory.current").read_text())
            lines = [line.split() for line in (group / "memory.stat").read_text().splitlines()]
            return float(limit) - used + sum(float(value) for name, value in lines if name in _CACHED)
    return math.inf


def given_chunk() -> int | None:
    """Views per backbone pass that the user asks for by DDBENCH_CHUNK (`--chunk` of the command line), or None."""
    wanted = os.environ.get("DDBENCH_CHUNK")
    if wanted is None:
        return None
    if not wanted.isdecimal() or not int(wanted):
        raise UserError(f"DDBENCH_CHUNK={wanted} is no number of views; set it to 1 or more, or leave it out")
    return int(wanted)


def out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out, on a GPU or on the CPU."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(text in str(error) for text in _CPU_TEXTS)


@dataclass
class PassSize:
    """Views per backbone pass: halved, for good, where memory runs out. `used` lists the sizes so far."""

    views: int
    used: list[int] = field(init=False)

    def __post_init__(self) -> None:
        self.used = [self.views]

    def fitting(self, attempt: Callable[[int], T]) -> T:
        """`attempt(views)`, again with half of them until memory holds it. An attempt starts over, random streams included.

        Raises what the attempt raises, and out of memory where one view alone is too many.
        """
        while True:
            try:
                return attempt(self.views)
            except (MemoryError, RuntimeError) as error:
                if self.views == 1 or not out_of_memory(error):
                    raise
            self.views = -(-self.views // 2)  # not in the handler, where the exception still holds the tensors of the attempt
            self.used.append(self.views)
            torch.cuda.empty_cache()
