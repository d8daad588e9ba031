"""What cells will take before any of them runs: seconds each, memory and disk.

What a method or protocol sends through backbones and students is counted (counting.py), once per kind of cell, times the
operations of one image (image_cost.py), over the pace of the device (device_speed.py). Where earlier runs have timed the like
of a cell, their seconds count instead. Augmentation, decoding, probes and solves are not counted.
"""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import torch

from ...core.data import DATASETS
from ...core.errors import UserError
from ...core.method import METHODS, PROTOCOLS
from ...core.passes import cpu_chunk
from ..suite.cell import Cell, PlannedEvaluation
from .counting import Counts, Found, NotCounted, Sizes, count_method, count_protocol, made_up_set
from .device_speed import GPUS, UTILISATION, measured_pace
from .image_cost import Cost, backbone_cost, student_cost

_PYRAMID = 4 / 3  # numbers per pixel of a full pyramid
_ADAM = 4  # parameters, gradients, two moments, in float32
_KEPT = {"cpu": 0.5, "cuda": 1.0}  # copies of the parameters that a loop keeps, in units of float32 (docs/performance.md)

Kin = tuple[Any, ...]


@dataclass(frozen=True)
class Due:
    """What a cell has left to do."""

    cell: Cell  # with the evaluations that are left
    stored: bool  # its set is there
    timeout: float | None = None  # seconds that the suite gives it


@dataclass
class Estimate:
    """Of all that is due."""

    seconds: list[float | None] = field(default_factory=list)  # of each cell; None: unknown
    distil: float = 0.0  # seconds, of the cells that are counted
    evaluate: float = 0.0
    recorded: int = 0  # cells whose seconds come from earlier runs
    flops: float = 0.0
    memory: float = 0.0  # bytes on the device, of the largest cell
    disk: float = 0.0  # bytes of features and sets
    late: tuple[float, float] | None = None  # seconds and time limit of the cell that exceeds its limit by most
    unknown: dict[str, str] = field(default_factory=dict)  # why, by cell
    pace: dict[str, float] = field(default_factory=dict)  # FLOP/s by backbone


def estimate(due: Sequence[Due], device: str, on: str | None = None, records: Sequence[dict[str, Any]] = ()) -> Estimate:
    """Sum over cells; `device` is `cpu` or `cuda`, `on` a GPU of `GPUS` that is not here."""
    return _Sum(due, device, on, _by_kin(records) if on is None else {}).total()


@cache
def sizes_of(dataset: str) -> Sizes | None:
    """Of the data itself where it can be loaded, else as published, else none."""
    source = DATASETS.create(dataset)
    try:
        data = source.load()
    except UserError:
        return None if (sizes := source.published_sizes()) is None else Sizes(*sizes)
    return Sizes(len(data.train), len(data.test), data.num_classes)


class _Sum:
    """The running sums; what the bank holds is counted once per dataset and backbone."""

    def __init__(self, due: Sequence[Due], device: str, on: str | None, kin: Mapping[Kin, list[dict[str, Any]]]):
        self.due, self.kin, self.on = due, kin, on
        self.kind = "cuda" if on else device
        self.found = Estimate()
        self.there: set[tuple[Any, ...]] = set()  # entries of the bank
        self.cost = cache(backbone_cost)
        self.student = cache(student_cost)
        self.method, self.protocol = cache(self._count_method), cache(self._count_protocol)
        names = {name for each in due for name in self._backbones(each.cell)}
        self.pace = self._paces({spec: self.cost(spec) for spec in sorted(names)}, device)
        self.student_pace = statistics.fmean(self.pace.values()) if self.pace else self._stated()
        self.found.pace = self.pace

    def _paces(self, costs: dict[str, Cost], device: str) -> dict[str, float]:
        if self.on:
            return dict.fromkeys(costs, self._stated())
        return measured_pace(costs, torch.device(device))

    def _stated(self) -> float:
        return UTILISATION * GPUS[self.on].flops_per_second if self.on else 1e11

    def _backbones(self, cell: Cell) -> set[str]:
        """Those that matter: cells that earlier runs have timed need no pace."""
        if cell.unsupported or _kin(cell) in self.kin:
            return set()
        return {name for name in (cell.distill_backbone, *(e.eval_backbone for e in cell.evaluations)) if name}

    def total(self) -> Estimate:
        for each in self.due:
            seconds = 0.0 if each.cell.unsupported or not each.cell.evaluations else self._cell(each)
            self.found.seconds.append(seconds)
            if seconds is not None and each.timeout is not None and seconds > each.timeout:
                late = (seconds, each.timeout)
                self.found.late = max(self.found.late or late, late, key=lambda times: times[0] - times[1])
        return self.found

    def _cell(self, each: Due) -> float | None:
        timed = self._recorded(each)
        if timed is not None:
            self.found.recorded += 1
            return timed
        cell, found = each.cell, self.found
        try:
            sizes = sizes_of(cell.dataset)
            if sizes is None:
                raise NotCounted("the size of its data is not known")
            work = self.method(cell.method_spec, cell.dataset, cell.ipc)
            distil = 0.0 if each.stored else self._seconds(cell, cell.distill_backbone, work, sizes)
            evaluate = sum(self._evaluation(cell, e, sizes) for e in cell.evaluations)
        except NotCounted as reason:
            found.unknown[cell.label] = str(reason)
            return None
        if not each.stored:
            self._room(cell, work, sizes)
        found.distil += distil
        found.evaluate += evaluate
        return distil + evaluate

    def _evaluation(self, cell: Cell, evaluation: PlannedEvaluation, sizes: Sizes) -> float:
        work = self.protocol(evaluation.protocol_spec, cell.method_spec, cell.dataset, cell.ipc)
        return self._seconds(cell, evaluation.eval_backbone, work, sizes)

    def _count_method(self, method: str, dataset: str, ipc: int | None) -> Found:
        return count_method(METHODS.create(method), self._sizes(dataset), ipc or 1)

    def _count_protocol(self, protocol: str, method: str, dataset: str, ipc: int | None) -> Found:
        made = self.method(method, dataset, ipc).made
        sizes = self._sizes(dataset)
        return count_protocol(PROTOCOLS.create(protocol), sizes, made or made_up_set(sizes, ipc or 1))

    def _sizes(self, dataset: str) -> Sizes:
        sizes = sizes_of(dataset)
        assert sizes is not None
        return sizes

    def _seconds(self, cell: Cell, backbone: str | None, work: Found, sizes: Sizes) -> float:
        """Seconds of what passes through a backbone, and of the students beside it."""
        counts = work.counts
        for entry in work.entries:
            owner = cell.key if backbone is None else (cell.dataset, backbone)
            if (*owner, entry.name) not in self.there:
                self.there.add((*owner, entry.name))
                counts = counts.plus(entry.cost)
                width = self.cost(backbone).dim if backbone and entry.name.startswith("features") else 1
                self.found.disk += 4 * entry.numbers * width
        return self._of(counts, backbone, work.student)

    def _of(self, counts: Counts, backbone: str | None, student: tuple[str, int] | None) -> float:
        seconds, views = 0.0, counts.forward + 2 * counts.backward
        if backbone is not None:
            flops = views * self.cost(backbone).flops
            self.found.flops += flops
            seconds += flops / self.pace[backbone]
        if student is not None:
            flops = counts.student * self.student(*student).flops
            self.found.flops += flops
            seconds += flops / self.student_pace
        return seconds

    def _room(self, cell: Cell, work: Found, sizes: Sizes) -> None:
        """Bytes of weights, optimised images with what Adam and the loop keep, and one pass; of the set on the disk."""
        if cell.distill_backbone is None or cell.ipc is None:
            return
        cost = self.cost(cell.distill_backbone)
        images = sizes.classes * cell.ipc * 3 * 4 * cost.stage_size**2
        self.found.disk += images
        if work.largest:
            state = images * _PYRAMID * (_ADAM + _KEPT[self.kind])
            views = min(work.largest, cpu_chunk(cost.saved_bytes)) if self.kind == "cpu" else work.largest
            activations = views * cost.saved_bytes / (2 if self.kind == "cuda" else 1)  # autocast halves what is kept
            self.found.memory = max(self.found.memory, cost.weight_bytes + state + activations)

    def _recorded(self, each: Due) -> float | None:
        """Seconds by earlier runs of the same method, backbone, data and IPC; None where one has no like."""
        alike = self.kin.get(_kin(each.cell))
        if not alike:
            return None
        phases = ["load", *([] if each.stored else ["features", "distill"])]
        seconds = sum(_mean(alike, phase) for phase in phases)
        for evaluation in each.cell.evaluations:
            same = [r for r in alike if r["protocol_spec"] == evaluation.protocol_spec]
            if not same:
                return None
            seconds += _mean(same, "evaluate") + _mean(same, "evaluate_features")
        return seconds


def _by_kin(records: Sequence[dict[str, Any]]) -> dict[Kin, list[dict[str, Any]]]:
    """The finished records, grouped by what they must share for one's seconds to foretell the other's."""
    found: dict[Kin, list[dict[str, Any]]] = {}
    for record in records:
        if record["status"] == "ok":
            key = tuple(record[name] for name in ("method_spec", "distill_backbone", "dataset", "ipc"))
            found.setdefault((*key, record["device"].partition(":")[0]), []).append(record)  # any GPU of the machine will do
    return found


def _kin(cell: Cell) -> Kin:
    return (cell.method_spec, cell.distill_backbone, cell.dataset, cell.ipc, cell.device)


def _mean(records: Sequence[dict[str, Any]], phase: str) -> float:
    return statistics.fmean(r["seconds"].get(phase) or 0.0 for r in records)
