"""`ddbench run --dry-run`: the cells done and to do, and what they will take on this device or on a GPU that is not here."""

import contextlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ...core.backbone import BACKBONES
from ...core.data import DATASETS
from ...core.errors import NotHere, UserError
from ...core.method import PROTOCOLS
from ...core.network import offline
from ..records.records import FILE, done_hashes, load_records
from .cell import Cell, PlannedEvaluation, record_key
from .estimate import Due, estimate, report
from .plan import check_named, device_kind, located, outline


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
