"""`ddbench run --dry-run`, as it is printed: the cells done and to do, what they take, here or on a GPU that is not here, and
whether that fits."""

import contextlib
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from ...core.backbone import BACKBONES
from ...core.data import DATASETS
from ...core.errors import NotHere, UserError
from ...core.method import PROTOCOLS
from ...core.network import offline
from ...core.store import default_cache
from ..machine import measure
from ..records.records import FILE, done_hashes, load_records
from ..suite.cell import Cell, PlannedEvaluation, record_key
from ..suite.plan import check_named, device_kind, located, outline
from .device_speed import GPUS, UTILISATION
from .estimate import Due, Estimate, estimate


@offline()
def dry_run(suites: Sequence[Any], folders: Sequence[Path], device: str, on: str | None = None) -> int:
    """List the cells of each suite with their state and seconds, and one estimate for all. Published data and weights that are
    not on this machine yet are named, not fetched, and the cells are then told by their specs."""
    kind = device_kind(device)
    told: set[str] = set()
    due: dict[tuple, Due] = {}  # by folder and distillation: suites of one folder share their sets
    for suite, out in zip(suites, folders, strict=True):
        cells = outline(suite)
        with contextlib.suppress(NotHere):
            check_named(suite, cells)
        lines = [line for line in missing(cells) if line not in told]
        told.update(lines)
        print("".join(f"not here yet: {line}\n" for line in lines), end="")
        for each in _left(cells, out, kind):
            key = (out, each.cell.key)
            due[key] = _joined(due[key], each) if key in due else replace(each, timeout=suite.timeout)
    found = estimate(list(due.values()), kind, on, [] if on else _neighbours(folders))
    for each, seconds in zip(due.values(), found.seconds, strict=True):
        print(_line(each, seconds))
    todo = sum(len(each.cell.evaluations) for each in due.values() if not each.cell.unsupported)
    print(f"{len(due)} cells, {todo} evaluations to do")
    if todo:
        print("\n".join(report(found, kind, on)))
    return 0


def missing(cells: Sequence[Cell]) -> list[str]:
    """Lines about the backbones and datasets that are not on this machine, each once."""
    protocols = [PROTOCOLS.create(spec) for spec in dict.fromkeys(e.protocol_spec for cell in cells for e in cell.evaluations)]
    judges = dict.fromkeys(e.eval_backbone for cell in cells for e in cell.evaluations)
    backbones = [*dict.fromkeys(cell.distill_backbone for cell in cells), *judges, *(p.judging_backbone for p in protocols)]
    datasets = [*dict.fromkeys(cell.dataset for cell in cells), *(p.judging_data for p in protocols)]
    lines: dict[str, None] = {}
    for registry, specs in ((BACKBONES, backbones), (DATASETS, datasets)):
        for spec in dict.fromkeys(filter(None, specs)):
            try:
                registry.create(spec).load()
            except NotHere as error:
                lines[str(error)] = None
    return list(lines)


def _left(cells: Sequence[Cell], out: Path, kind: str) -> list[Due]:
    """What there is to do, by hashes where everything is here, else by specs."""
    try:
        cells, done = located(cells, kind), done_hashes(out)
        return [_due(cell, [e for e in cell.evaluations if e.config_hash not in done]) for cell in cells]
    except NotHere:
        records = load_records([out]) if (out / FILE).exists() else []
        finished = {record_key(record) for record in records if record["status"] in ("ok", "unsupported")}
        left = [[e for e in cell.evaluations if cell.evaluation_key(e) not in finished] for cell in cells]
        return [_due(replace(cell, device=kind), each) for cell, each in zip(cells, left, strict=True)]


def _due(cell: Cell, left: Sequence[PlannedEvaluation]) -> Due:
    return Due(cell.only(left), stored=len(left) < len(cell.evaluations))


def _joined(one: Due, other: Due) -> Due:
    """Of the same distillation."""
    evaluations = {one.cell.evaluation_key(e): e for e in (*one.cell.evaluations, *other.cell.evaluations)}
    return replace(one, cell=one.cell.only(evaluations.values()), stored=one.stored or other.stored)


def _neighbours(folders: Sequence[Path]) -> list[dict[str, Any]]:
    """Records of these runs and of those beside them."""
    records = []
    for file in dict.fromkeys(file for out in folders for file in out.parent.glob(f"*/{FILE}")):
        with contextlib.suppress(UserError):  # a neighbour that cannot be read gives no estimate
            records += load_records([file])
    return records


def _line(due: Due, seconds: float | None) -> str:
    cell, left = due.cell, len(due.cell.evaluations)
    state = "unsupported" if cell.unsupported else "done" if not left else "partly done" if due.stored else "to do"
    took = "      ?" if seconds is None else f"{seconds:7.0f}"
    why = f": {cell.unsupported}" if cell.unsupported else f" ({left} evaluations to do)" if left else ""
    return f"{state:12} {took} s  {cell.label}{why}"


def report(found: Estimate, device: str, on: str | None = None) -> list[str]:
    """Lines for people, the last ones about what does not fit."""
    known = [seconds for seconds in found.seconds if seconds is not None]
    memory = GPUS[on].memory if on else device_memory(device)
    lines = [f"estimate for {_where(found, device, on)}:"]
    if known:
        lines.append(f"  time    {_duration(sum(known))} in all{_split(found)}")
    if found.memory:
        lines.append(f"  memory  {_gib(found.memory)} at most while distilling, of {_gib(memory)}")
    if found.disk:
        lines.append(f"  disk    {_gib(found.disk)} of features and sets, of {_gib(free_disk())} free for the cache")
    for reason in dict.fromkeys(found.unknown.values()):
        cells = [label for label, why in found.unknown.items() if why == reason]
        lines.append(f"  unknown {len(cells)} cells, not in the sums ({reason}): {cells[0]}{', …' * (len(cells) > 1)}")
    if found.memory > memory:
        lines.append(f"  DOES NOT FIT: {_gib(found.memory)} of memory; take a smaller backbone or a larger device")
    if found.disk > free_disk():
        lines.append(f"  DOES NOT FIT: {_gib(found.disk)} on disk; set DDBENCH_CACHE and --out to a larger disk")
    if found.late is not None:
        lines.append(f"  DOES NOT FIT: a cell takes {found.late[0]:.0f} s, its time limit is {found.late[1]:.0f} s")
    return lines


def _where(found: Estimate, device: str, on: str | None) -> str:
    if on:
        peak = GPUS[on].flops_per_second / 1e12
        return f"one {on} ({UTILISATION:.0%} of {peak:.0f} TFLOP/s, its data sheet's dense bfloat16 rate; nothing was measured)"
    pace = ", ".join(f"{spec.partition('[')[0]} {pace / 1e12:.3g}" for spec, pace in found.pace.items())
    return f"this {device} device" + (f" (measured TFLOP/s: {pace})" if pace else "")


def _split(found: Estimate) -> str:
    parts = [f"{found.recorded} cells as earlier runs took"] * (found.recorded > 0)
    if found.flops:
        counted = f"{_duration(found.distil)} distilling, {_duration(found.evaluate)} evaluating"
        parts.append(f"counted: {counted}, {found.flops:.2g} FLOPs")
    return f" ({'; '.join(parts)})" if parts else ""


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:,.1f} h"


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
