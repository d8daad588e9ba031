"""What a suite will take before any of it runs: device hours, memory, disk, and whether that fits here.

Views through the backbones and students, as methods and protocols declare them, times counted FLOPs, over the pace measured
here. Everything is an estimate: augmentation, decoding, probes and solves are not counted.
"""

import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from ...core.data import DATASETS
from ...core.errors import UserError
from ...core.method import StudentWork, Work
from ...core.passes import USUAL, cpu_chunk
from ...core.run import Run
from ...core.store import default_cache
from ..machine import measure
from .cost import ViewCost, student_cost, view_cost
from .outline import Outline

Published = Callable[[str], Sequence[int] | None]  # train images, test images and classes of a dataset spec, where published

_PYRAMID = 4 / 3  # numbers per pixel of a full pyramid
_ADAM = 4  # parameters, gradients, two moments
_LAST_GOOD, _LAST_GOOD_GPU = 0.5, 1.0  # images of the last finite loss, in bfloat16; two of them where losses are read late
_STUDENT = " at {} px"  # after the spec of a student


@dataclass(frozen=True)
class Sizes:
    """Numbers of a dataset."""

    train: int
    test: int
    classes: int


@dataclass(frozen=True)
class Estimate:
    """Of all evaluations that are to do; `unknown` cells are left out of the sums."""

    distil_seconds: float
    evaluate_seconds: float
    flops: float
    memory: float  # bytes on the device, of the largest cell
    disk: float  # bytes of features and sets
    late: tuple[float, float] | None  # seconds and time limit of the cell that exceeds its suite's limit by most
    unknown: tuple[str, ...]  # labels
    costs: Mapping[str, ViewCost]  # by backbone or student


def estimate(outlines: Sequence[Outline], sizes: Mapping[str, Sizes], device: str) -> Estimate:
    """Sum over the cells with something left to do; `sizes` by dataset spec, those of unknown size are left out."""
    outlines = [cell for cell in outlines if cell.evaluations]
    specs = dict.fromkeys(b for cell in outlines for b in (cell.distil, *(judge for _, judge in cell.evaluations)) if b)
    costs = {spec: view_cost(spec, device) for spec in specs}
    found = _Sum(costs, device)
    for cell in outlines:
        found.add(cell, sizes.get(cell.dataset))
    return found.total()


def known_sizes(datasets: Iterable[str], published: Published) -> dict[str, Sizes]:
    """Sizes by spec: of the data itself where it can be loaded, else as published, else none."""
    found = {}
    for spec in dict.fromkeys(datasets):
        try:
            data = DATASETS.create(spec).load()
        except UserError:
            if (sizes := published(spec)) is not None:
                found[spec] = Sizes(*sizes)
        else:
            found[spec] = Sizes(len(data.train), len(data.test), data.num_classes)
    return found


class _Sum:
    """The running sums; what the bank holds is counted once per dataset and backbone."""

    def __init__(self, costs: Mapping[str, ViewCost], device: str):
        self.costs = dict(costs)
        self.device = device
        self.banked: set[tuple[str | None, ...]] = set()
        self.distil = self.evaluate = self.flops = self.memory = self.disk = 0.0
        self.late: list[tuple[float, float]] = []
        self.unknown: list[str] = []

    def add(self, cell: Outline, sizes: Sizes | None) -> None:
        budget = (sizes.train, sizes.classes, cell.ipc or 1) if sizes else None
        work = None if budget is None else cell.method.work(*budget)
        if sizes is None or budget is None or work is None:
            self.unknown.append(cell.label)
            return
        whole, images = not cell.method.uses_ipc, cell.method.set_size(*budget)
        seconds = 0.0
        if cell.distil is not None and not cell.stored:
            seconds = self._pass(cell.dataset, cell.distil, work, sizes)
            self.memory = max(self.memory, self._peak(self.costs[cell.distil], work))
            if not whole:
                self.disk += images * 3 * 4 * self.costs[cell.distil].stage_size ** 2
        self.distil += seconds
        for protocol, judge in cell.evaluations:
            judged = protocol.work(images, whole)
            if judged is None:
                self.unknown.append(cell.label)
                continue
            took = self._pass(cell.dataset, judge, judged, sizes) if judge else self._students(cell.label, None, judged)
            self.evaluate += took
            seconds += took
        if cell.timeout is not None and seconds > cell.timeout:
            self.late.append((seconds, cell.timeout))

    def _pass(self, dataset: str, backbone: str, work: Work, sizes: Sizes) -> float:
        """Seconds of the views on a backbone, and of the students beside it."""
        cost, views = self.costs[backbone], work.forward + 2 * work.backward
        for split in work.banked:
            if self._first(dataset, backbone, split):
                views += getattr(sizes, split)
                self.disk += 4 * getattr(sizes, split) * cost.dim
        self.flops += views * cost.flops
        return views * cost.flops / cost.flops_per_second + self._students(dataset, backbone, work)

    def _students(self, owner: str, backbone: str | None, work: Work) -> float:
        """Seconds of the students; what the bank keeps of them belongs to `owner` (a dataset, or a set) and the teacher."""
        seconds = 0.0
        for each in work.students:
            if each.entry is not None and not self._first(owner, backbone, each.entry):
                continue
            cost = self._student_cost(each)
            self.disk += each.stored * cost.weight_bytes
            self.flops += each.passes * cost.flops
            seconds += each.passes * cost.flops / cost.flops_per_second
        return seconds

    def _student_cost(self, work: StudentWork) -> ViewCost:
        name = f"{work.spec}{_STUDENT.format(work.size)}"
        if name not in self.costs:
            self.costs[name] = student_cost(work.spec, work.size, self.device)
        return self.costs[name]

    def _first(self, *entry: str | None) -> bool:
        """Whether this is the first to ask for an entry of the bank."""
        new = entry not in self.banked
        self.banked.add(entry)
        return new

    def _peak(self, cost: ViewCost, work: Work) -> float:
        """Weights, the optimised images with Adam's state, and the activations of one chunk; the students' on top."""
        on_gpu = "cuda" in self.device
        images = work.images * 3 * 4 * cost.stage_size**2 * _PYRAMID * (_ADAM + (_LAST_GOOD_GPU if on_gpu else _LAST_GOOD))
        chunk = min(Run().chunk or (USUAL if on_gpu else cpu_chunk(cost.saved_bytes)), work.backward)
        students = [(each, self._student_cost(each)) for each in work.students]
        theirs = max((each.kept * c.saved_bytes + each.weights * c.weight_bytes for each, c in students), default=0.0)
        half = 2 if on_gpu else 1  # autocast halves what is kept
        return cost.weight_bytes + images + chunk * cost.saved_bytes / half + theirs

    def total(self) -> Estimate:
        late = max(self.late, key=lambda times: times[0] - times[1], default=None)
        return Estimate(self.distil, self.evaluate, self.flops, self.memory, self.disk, late, tuple(self.unknown), self.costs)


def report(found: Estimate, device: str) -> list[str]:
    """Lines for people, the last ones about what does not fit."""
    if found.unknown and not found.flops:
        return ["no estimate: the data is not here to tell its size, or methods and protocols do not declare their work"]
    pace = ", ".join(f"{_short(name)} {cost.flops_per_second / 1e12:.3g}" for name, cost in found.costs.items())
    hours = (found.distil_seconds / 3600, found.evaluate_seconds / 3600)
    spent = f"{hours[0]:.3g} distilling, {hours[1]:.3g} evaluating"
    lines = [
        f"estimate for this {device} device (measured TFLOP/s: {pace or 'nothing to do'}):",
        f"  time    {sum(hours):.3g} device hours: {spent} ({found.flops:.2g} FLOPs)",
        f"  memory  {_gib(found.memory)} at most while distilling, of {_gib(device_memory(device))}",
        f"  disk    {_gib(found.disk)} of features and sets, of {_gib(free_disk())} free for the cache",
    ]
    if found.unknown:
        lines.append(
            f"  unknown {len(found.unknown)} cells, not in the sums: {found.unknown[0]}{', …' * (len(found.unknown) > 1)}"
        )
    return [*lines, *misfits(found, device)]


def _short(name: str) -> str:
    """A backbone without its parameters; students differ by theirs."""
    return name if name.endswith(_STUDENT[-2:]) else name.partition("[")[0]


def misfits(found: Estimate, device: str) -> list[str]:
    """What does not fit, one line each with what to do."""
    lines = []
    if found.memory > device_memory(device):
        lines.append(f"  DOES NOT FIT: {_gib(found.memory)} of memory; take a smaller backbone or a larger device")
    if found.disk > free_disk():
        lines.append(f"  DOES NOT FIT: {_gib(found.disk)} on disk; set DDBENCH_CACHE and --out to a larger disk")
    if found.late is not None:
        lines.append(f"  DOES NOT FIT: a cell takes {found.late[0]:.0f} s, its time limit is {found.late[1]:.0f} s")
    return lines


def device_memory(device: str) -> float:
    """Bytes of the device, or of the machine."""
    if device == "cuda":
        return float(torch.cuda.get_device_properties(0).total_memory)
    return float(measure.total_ram() or 0)


def free_disk() -> float:
    """Bytes that the cache folder's disk has left."""
    folder = default_cache()
    existing = next(parent for parent in (folder, *folder.parents) if parent.exists())
    return float(shutil.disk_usage(Path(existing)).free)


def _gib(count: float) -> str:
    return f"{count / 2**30:.1f} GiB"
