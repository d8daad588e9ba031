"""The only file that reads clocks and memory.

    meter = Meter(device)
    with meter.phase("distill") as span:
        with meter.phase("features"):
            ...
    span.seconds, meter.seconds["features"], meter.peaks["distill"].cpu_rss

Phases nest and are exclusive: the seconds and the peak of an inner phase are not counted in the outer one. The device is
synchronised before each reading. Resident memory is the process's whole resident set, libraries and backbone included.
"""

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import torch

from .curve import Curve

try:
    import resource
except ImportError:  # no such module outside POSIX
    resource = None

_STATUS = Path("/proc/self/status")
_CLEAR_REFS = Path("/proc/self/clear_refs")
_RESET_PEAK_RSS = "5"  # proc(5): sets VmHWM to the resident set of now
_REPORT_EVERY = 0.25  # seconds between progress reports

clock = time.perf_counter
cpu_clock = time.process_time  # CPU seconds of this process, all threads; they do not grow when other work shares the cores


def now() -> str:
    """The time of day, ISO 8601, UTC."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


@dataclass(frozen=True)
class Peaks:
    """Peak bytes; None where there is nothing to measure (no GPU, or no way to read the resident set)."""

    gpu_allocated: int | None = None
    gpu_reserved: int | None = None
    cpu_rss: int | None = None

    def union(self, other: "Peaks") -> "Peaks":
        """The larger of each."""
        pairs = zip(self.to_json().values(), other.to_json().values(), strict=True)
        return Peaks(*(max((v for v in pair if v is not None), default=None) for pair in pairs))

    def to_json(self) -> dict[str, int | None]:
        return asdict(self)


@dataclass
class Span:
    """One phase that runs or has run; `seconds` is set when it ends."""

    name: str
    seconds: float | None = None
    peaks: Peaks = field(default_factory=Peaks)
    running: float = 0.0  # seconds so far, up to `since`
    since: float = 0.0


class Meter:
    """Exclusive seconds and peaks per phase name, summed (maximum of peaks) over the phases of one name."""

    def __init__(self, device: torch.device, on_phase: Callable[[str], None] | None = None):
        self.device = device
        self.seconds: dict[str, float] = {}
        self.peaks: dict[str, Peaks] = {}
        self._open: list[Span] = []
        self._on_phase = on_phase or (lambda name: None)

    @contextlib.contextmanager
    def phase(self, name: str) -> Iterator[Span]:
        """Time the block as `name`; an enclosing phase is stopped meanwhile."""
        self._stop()
        span = Span(name)
        self._open.append(span)
        self._on_phase(name)
        self._start()
        try:
            yield span
        finally:
            self._stop()
            self._open.pop()
            span.seconds = span.running
            self.seconds[name] = self.seconds.get(name, 0.0) + span.seconds
            self.peaks[name] = self.peaks.get(name, Peaks()).union(span.peaks)
            if self._open:
                self._on_phase(self._open[-1].name)
            self._start()

    def elapsed(self) -> float:
        """Exclusive seconds of the innermost running phase so far, without a synchronisation."""
        return self._open[-1].running + clock() - self._open[-1].since

    def so_far(self) -> tuple[dict[str, float], dict[str, Peaks]]:
        """Seconds and peaks per phase name, with those of enclosing phases up to the start of the innermost."""
        seconds, peaks = dict(self.seconds), dict(self.peaks)
        for span in self._open:
            seconds[span.name] = seconds.get(span.name, 0.0) + span.running
            peaks[span.name] = peaks.get(span.name, Peaks()).union(span.peaks)
        return seconds, peaks

    def include(self, seconds: dict[str, float], peaks: dict[str, Peaks]) -> None:
        """Count what an earlier process measured."""
        for name in seconds:
            self.seconds[name] = self.seconds.get(name, 0.0) + seconds[name]
            self.peaks[name] = self.peaks.get(name, Peaks()).union(peaks[name])

    def synchronize(self) -> None:
        """Wait for all work on the device."""
        if self.device.type == "cuda":
            with contextlib.suppress(RuntimeError):  # after a device error nothing can be waited for; the phase still ends
                torch.cuda.synchronize(self.device)

    def _stop(self) -> None:
        """Charge the innermost phase for its time and its peak."""
        if self._open:
            self.synchronize()
            span = self._open[-1]
            span.running += clock() - span.since
            span.peaks = span.peaks.union(read_peaks(self.device))

    def _start(self) -> None:
        if self._open:
            reset_peaks(self.device)
            self._open[-1].since = clock()


@dataclass
class StepMeter:
    """A `core.run.Progress` that measures steps; use it inside the phase `distill` of `meter`.

    The first step in this process carries warm-up (compilation, allocator, caches) and is told apart; the rate is that of
    the others.
    """

    meter: Meter
    report: Callable[[dict], None] | None = None
    first: int = 1  # the first step in this process
    step: int = 0
    steps: int = 0
    warmup: float | None = None  # exclusive seconds from the start of the phase to the end of the first step
    last: float | None = None  # the same for the latest step
    optimised: bool = False  # whether a loss was ever reported
    curve: Curve = field(default_factory=Curve)
    _reported: float = float("-inf")

    def __call__(self, step: int, steps: int, loss: float | None) -> None:
        ends = step == steps or self.warmup is None
        if ends:
            self.meter.synchronize()  # elsewhere the steps stay asynchronous
        seconds = self.meter.elapsed()
        if self.warmup is None:
            self.warmup, self.first = seconds, step
        self.step, self.steps, self.last = step, steps, seconds
        self.optimised = self.optimised or loss is not None
        self.curve.add(step, loss)
        if self.report and (ends or clock() - self._reported > _REPORT_EVERY):
            self._reported = clock()
            rate, eta = self.steps_per_second, self.eta
            self.report({"step": step, "steps": steps, "loss": loss, "steps_per_second": rate, "eta_seconds": eta})

    @property
    def steps_per_second(self) -> float | None:
        """Rate after the first step; None before there is a second."""
        if self.warmup is None or self.last is None or self.step == self.first or self.last <= self.warmup:
            return None
        return (self.step - self.first) / (self.last - self.warmup)

    @property
    def eta(self) -> float | None:
        """Seconds until the last step, at the rate so far."""
        rate = self.steps_per_second
        return None if rate is None else (self.steps - self.step) / rate


def read_peaks(device: torch.device) -> Peaks:
    """Peaks since the last `reset_peaks`."""
    if device.type != "cuda":
        return Peaks(cpu_rss=peak_rss())
    return Peaks(torch.cuda.max_memory_allocated(device), torch.cuda.max_memory_reserved(device), peak_rss())


def reset_peaks(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    with contextlib.suppress(OSError):
        _CLEAR_REFS.write_text(_RESET_PEAK_RSS)


def rss_per_phase() -> bool:
    """Whether the peak resident set can be reset; otherwise peaks are those since the start of the process."""
    try:
        _CLEAR_REFS.write_text(_RESET_PEAK_RSS)
    except OSError:
        return False
    return _status("VmHWM") is not None


def peak_rss() -> int | None:
    """Peak resident set of this process since the last reset, bytes."""
    peak = _status("VmHWM")
    if peak is not None or resource is None:
        return peak
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def current_rss() -> int | None:
    """Resident set of this process now, bytes; None where /proc is missing."""
    return _status("VmRSS")


def total_ram() -> int | None:
    """Memory of the machine, bytes."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        return None


def _status(field_name: str) -> int | None:
    """A kB field of /proc/self/status in bytes."""
    try:
        for line in _STATUS.read_text().splitlines():
            if line.startswith(field_name + ":"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return None
