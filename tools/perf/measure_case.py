"""One performance case in a process of its own: the case as JSON on stdin, its row as the last line of stdout.

    python -P -m perf.measure_case     started by `perf`

Steps are those of a run: `method.distill` with its own engine, views, objective and optimiser, timed through the progress
callback and ended from there. Images, banked features and weights are random: cost does not depend on them.
"""

import contextlib
import json
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch.utils.flop_counter import FlopCounterMode

from ddbench.benchmark.machine.determinism import make_deterministic
from ddbench.benchmark.machine.measure import Meter, clock, cpu_clock, current_rss
from ddbench.benchmark.machine.outcome import classify, print_traceback
from ddbench.benchmark.records.records import jsonable
from ddbench.core.backbone import BACKBONES, Backbone
from ddbench.core.bank import FeatureBank
from ddbench.core.method import METHODS, PROTOCOLS
from ddbench.core.params import parse_spec
from ddbench.core.precision import eagerly, precision
from ddbench.core.run import CPU, Run
from ddbench.core.sets import DistilledSet, class_labels
from ddbench.core.store import ArrayStore

from .cases import Case
from .inputs import RandomBank, load, random_data
from .parts import ceiling, decode, launch
from .plain import WholeBatch

Row = dict[str, Any]
_COUNTED = 3  # the step whose operations are counted; the one after it settles the allocator again
_WARM_UP = 4  # steps that are not timed


class _Enough(Exception):
    """Enough steps were timed."""


@dataclass
class StepTimer:
    """A `core.run.Progress` that counts the operations of one step, times those after the warm-up, and then raises `_Enough`.

    On a GPU losses are reported one step late, at the start and at the end of the timed part alike.
    """

    meter: Meter
    seconds: float
    at_most: int
    steps: int = 0  # timed
    cpu_seconds: float = 0.0  # of the timed steps
    flops: int = 0  # of one step
    _until: int = 0
    _counter: FlopCounterMode = field(default_factory=lambda: FlopCounterMode(display=False))
    _open: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)
    _count: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)
    _last: float = 0.0

    def __enter__(self) -> "StepTimer":
        self._open.enter_context(self.meter.phase("warm-up"))
        return self

    def __exit__(self, *error: object) -> None:
        self._count.close()  # still open where a loop ends before the step after the counted one
        self._open.close()

    def __call__(self, step: int, steps: int, loss: float | None) -> None:
        if step == _COUNTED - 1:
            self._count.enter_context(eagerly())  # operations are counted one by one
            self._count.enter_context(self._counter)
        elif step == _COUNTED:
            self._count.close()
            self.flops = self._counter.get_total_flops()
        elif step == _WARM_UP:
            pace = clock() - self._last
            self._until = step + max(3, min(self.at_most, round(self.seconds / pace)))
            self._open.close()
            self._open.enter_context(self.meter.phase("steps"))
            self.cpu_seconds = -cpu_clock()
        elif step == self._until:
            self.steps = step - _WARM_UP
            self.cpu_seconds += cpu_clock()
            self._open.close()
            raise _Enough
        self._last = clock()


def product(case: Case, device: torch.device) -> Row:
    """FLOP/s of a large matrix product in the precision of backbone passes, random numbers (zeros are faster)."""
    n = 8192 if device.type == "cuda" else 1024
    dtype = torch.bfloat16 if precision(device.type) == "bf16" else torch.float32
    a, b = (torch.randn(n, n, device=device, dtype=dtype) for _ in range(2))
    meter, count = Meter(device), 0
    with meter.phase("warm-up"):
        for _ in range(3):
            torch.mm(a, b)
    start, cpu = clock(), -cpu_clock()
    with meter.phase("products"):
        while count < 10 or (clock() - start < case.aim and count < case.at_most):
            torch.mm(a, b)
            count += 1
    flops, cpu = 2 * n**3 * count, cpu + cpu_clock()
    rates = {"flops_per_second": flops / meter.seconds["products"], "flops_per_cpu_second": flops / cpu}
    return {**rates, "dtype": str(dtype).removeprefix("torch.")}


def steps(case: Case, device: torch.device) -> Row:
    """Seconds, operations and peak memory of one step of a method."""
    backbone, method = load(case, device), METHODS.create(case.spec)
    data = random_data(case.classes, backbone.spec.stage_size)
    meter = Meter(device)
    timer = StepTimer(meter, case.aim, case.at_most)
    run = Run(device=device, bank=RandomBank(device=device), progress=timer, phase=meter.phase, chunk=case.chunk)
    base = current_rss() or 0
    with timer, contextlib.suppress(_Enough):
        method.distill(backbone, data, case.ipc, run=run)
    if not timer.steps:
        raise RuntimeError(f"{case.spec} ended before {_WARM_UP + 3} steps were done")
    seconds, cpu_seconds = meter.seconds["steps"] / timer.steps, timer.cpu_seconds / timer.steps
    return {
        "steps": timer.steps,
        "seconds": seconds,
        "cpu_seconds": cpu_seconds,
        "warm_up_seconds": meter.seconds["warm-up"],
        "images_per_second": case.classes * case.ipc / seconds,
        "flops": timer.flops,
        "flops_per_second": timer.flops / seconds,
        "flops_per_cpu_second": timer.flops / cpu_seconds,
        "peak_bytes": meter.peaks["steps"].to_json(),
        "base_bytes": base,
        "chunks": run.facts.get("chunks"),
    }


def features(case: Case, device: torch.device) -> Row:
    """Images per second through staging, backbone and store, of images at their stage size."""
    backbone, meter = load(case, device), Meter(device)
    base, chunk = current_rss() or 0, case.chunk or Run().chunk_size
    with tempfile.TemporaryDirectory() as folder:
        bank = FeatureBank(ArrayStore(Path(folder)), meter.phase, device, chunk)
        seconds = [_fill(bank, backbone, case, count) for count in (chunk, 2 * chunk)]
        count = chunk * max(3, min(100, round(case.aim / seconds[-1] * 2)))  # a number of its own: no entry is there
        count = max(count, case.classes)  # random data has an image of each class
        with FlopCounterMode(display=False) as counter:
            backbone(torch.zeros(1, 3, backbone.spec.input_size, backbone.spec.input_size, device=device))
        before, cpu = meter.seconds["features"], -cpu_clock()
        _fill(bank, backbone, case, count)
        cpu += cpu_clock()
    rate = count / (meter.seconds["features"] - before)
    return {
        "images_per_second": rate,
        "warm_up_seconds": before,
        "flops_per_second": rate * counter.get_total_flops(),
        "flops_per_cpu_second": count / cpu * counter.get_total_flops(),
        "peak_bytes": meter.peaks["features"].to_json(),
        "base_bytes": base,
    }


def _fill(bank: FeatureBank, backbone: Backbone, case: Case, count: int) -> float:
    """Seconds that features of `count` new images take."""
    data, start = random_data(case.classes, backbone.spec.stage_size, count), clock()
    bank.features(backbone, data, "train")
    return clock() - start


def probe(case: Case, device: torch.device) -> Row:
    """Seconds of one evaluation of a random set; its training images per second over all epochs and probe seeds."""
    backbone, protocol = load(case, device), PROTOCOLS.create(case.spec)
    data = random_data(case.classes, backbone.spec.stage_size)
    labels = class_labels(case.classes, case.ipc)
    images = torch.rand(len(labels), 3, backbone.spec.stage_size, backbone.spec.stage_size)
    meter, base = Meter(device), current_rss() or 0
    with meter.phase("evaluate"):
        run = Run(device=device, bank=RandomBank(device=device), phase=meter.phase)
        protocol.evaluate(backbone, data, DistilledSet(images, labels, data.class_names), run=run)
    seconds = meter.seconds["evaluate"]
    seen = len(labels) * getattr(protocol, "epochs", 1) * getattr(protocol, "seeds", 1)
    peaks = meter.peaks["evaluate"].to_json()
    return {"seconds": seconds, "images_per_second": seen / seconds, "peak_bytes": peaks, "base_bytes": base}


def plain(case: Case, device: torch.device) -> Row:
    """`steps` with the whole batch in place of the engine; the method, its objective and its optimiser are the same."""
    module = sys.modules[METHODS.get(parse_spec(case.spec)[0]).__module__]
    with mock.patch.object(module, "FeatureEngine", WholeBatch):
        return steps(case, device)


MEASURES: dict[str, Callable[[Case, torch.device], Row]] = {
    "product": product,
    "steps": steps,
    "features": features,
    "probe": probe,
    "plain": plain,
    "launch": launch,
    "ceiling": ceiling,
    "decode": decode,
}


def row(case: Case, device: torch.device = CPU) -> Row:
    """The case's figures, or the reason why there are none."""
    try:
        return {"status": "ok", "reason": None, **MEASURES[case.kind](case, device)}
    except Exception as error:
        print_traceback(error)
        status, reason = classify(error, "the log")
        return {"status": status, "reason": reason}


def main() -> None:
    for registry in (BACKBONES, METHODS, PROTOCOLS):  # imported while a case before this one is measured
        registry.names()
    job = json.load(sys.stdin)
    if job["threads"]:
        torch.set_num_threads(job["threads"])
    make_deterministic(job["device"])  # as in a run
    with contextlib.redirect_stdout(sys.stderr):
        found = row(Case(**job["case"]), torch.device(job["device"]))
    print(json.dumps(jsonable({**found, "threads": torch.get_num_threads()})))


if __name__ == "__main__":
    main()
