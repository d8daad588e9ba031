"""Phases are exclusive, peaks belong to their phase, the step rate leaves out the first step."""

import ctypes
import mmap

import pytest
import torch

from ddbench.benchmark.machine import measure
from ddbench.benchmark.machine.measure import Meter, Peaks, StepMeter

CPU = torch.device("cpu")
MIB = 2**20


class FakeClock:
    """Time that passes only when told to."""

    def __init__(self):
        self.time = 100.0

    def __call__(self) -> float:
        return self.time

    def work(self, seconds: float) -> None:
        self.time += seconds


@pytest.fixture
def clock(monkeypatch) -> FakeClock:
    fake = FakeClock()
    monkeypatch.setattr(measure, "clock", fake)
    return fake


def touch(mib: int) -> mmap.mmap:
    """Resident anonymous memory that goes back to the kernel when closed."""
    block = mmap.mmap(-1, mib * MIB)
    ctypes.memset(ctypes.addressof(ctypes.c_char.from_buffer(block)), 1, mib * MIB)
    return block


def test_seconds_of_an_inner_phase_are_not_those_of_the_outer_one(clock):
    meter = Meter(CPU)
    with meter.phase("distill") as outer:
        clock.work(1)
        with meter.phase("features") as inner:
            clock.work(10)
        clock.work(2)
        with meter.phase("features"):
            clock.work(20)
    assert (outer.seconds, inner.seconds) == (3, 10)
    assert meter.seconds == {"distill": 3, "features": 30}


def test_a_phase_that_fails_is_still_measured(clock):
    meter = Meter(CPU)

    def fail():
        with meter.phase("distill"), meter.phase("features"):
            clock.work(4)
            raise ValueError("boom")

    with pytest.raises(ValueError, match="boom"):
        fail()
    assert meter.seconds == {"distill": 0, "features": 4}
    with meter.phase("load"):  # and nothing is left open
        clock.work(1)
    assert meter.seconds["load"] == 1


def test_the_device_is_waited_for_before_each_reading(clock, monkeypatch):
    readings = []
    meter = Meter(CPU)
    monkeypatch.setattr(meter, "synchronize", lambda: (readings.append(clock.time), clock.work(5)))
    with meter.phase("distill"):
        clock.work(1)
    assert readings == [101]
    assert meter.seconds["distill"] == 6  # work that was queued on the device is part of the phase


def test_phases_are_announced(clock):
    names = []
    meter = Meter(CPU, names.append)
    with meter.phase("distill"), meter.phase("features"):
        pass
    assert names == ["distill", "features", "distill"]


needs_reset = pytest.mark.skipif(not measure.rss_per_phase(), reason="peak resident set cannot be reset here")


@needs_reset
def test_a_peak_belongs_to_the_phase_that_made_it():
    meter = Meter(CPU)
    with meter.phase("before"):
        pass
    with meter.phase("outer"):
        touch(300).close()
        with meter.phase("inner"):
            pass
    with meter.phase("after"):
        pass
    rss = {name: peaks.cpu_rss for name, peaks in meter.peaks.items()}
    assert 295 * MIB < rss["outer"] - rss["before"] < 400 * MIB
    assert rss["inner"] - rss["before"] < 100 * MIB
    assert rss["after"] - rss["before"] < 100 * MIB


@needs_reset
def test_a_peak_of_an_inner_phase_is_not_that_of_the_outer_one():
    meter = Meter(CPU)
    with meter.phase("outer"), meter.phase("inner"):
        touch(300).close()
    assert meter.peaks["inner"].cpu_rss - meter.peaks["outer"].cpu_rss > 200 * MIB


def test_without_a_reset_the_peak_is_that_of_the_process(monkeypatch, tmp_path):
    monkeypatch.setattr(measure, "_CLEAR_REFS", tmp_path / "missing" / "clear_refs")
    monkeypatch.setattr(measure, "_STATUS", tmp_path / "status")
    assert not measure.rss_per_phase()
    assert measure.current_rss() is None
    with Meter(CPU).phase("distill") as span:
        pass
    assert span.peaks.cpu_rss > 50 * MIB


def test_union_of_peaks_takes_the_larger_of_each():
    assert Peaks(None, 3, 5).union(Peaks(2, None, 4)) == Peaks(2, 3, 5)


def test_the_rate_leaves_out_the_first_step_and_the_features(clock):
    meter = Meter(CPU)
    steps = StepMeter(meter)
    with meter.phase("distill"):
        clock.work(10)
        steps(1, 4, 0.9)
        for step in (2, 3):
            clock.work(2)
            with meter.phase("features"):
                clock.work(100)
            steps(step, 4, 0.5)
        assert steps.eta == 2
        clock.work(2)
        steps(4, 4, 0.1)
    assert (steps.warmup, steps.steps_per_second, steps.step) == (10, 0.5, 4)


def test_one_step_has_no_rate(clock):
    meter = Meter(CPU)
    steps = StepMeter(meter)
    with meter.phase("distill"):
        clock.work(1)
        steps(1, 1, None)
    assert steps.steps_per_second is None
    assert steps.eta is None
    assert steps.warmup == 1


def test_reports_are_few_but_the_first_and_the_last_step_are_there(clock):
    seen = []
    meter = Meter(CPU)
    steps = StepMeter(meter, lambda facts: seen.append(facts["step"]))
    with meter.phase("distill"):
        for step in range(1, 101):
            clock.work(0.01)
            steps(step, 100, 0.0)
    assert seen[0] == 1
    assert seen[-1] == 100
    assert 4 <= len(seen) <= 6


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_gpu_peaks_are_those_of_the_phase():
    device = torch.device("cuda")
    meter = Meter(device)
    with meter.phase("outer"):
        block = torch.empty(300 * MIB, dtype=torch.uint8, device=device)
        del block
        with meter.phase("inner"):
            torch.empty(MIB, dtype=torch.uint8, device=device)
    assert meter.peaks["outer"].gpu_allocated >= 300 * MIB
    assert meter.peaks["inner"].gpu_allocated < 100 * MIB
    assert meter.peaks["inner"].gpu_reserved >= 300 * MIB  # the allocator keeps what it once had
