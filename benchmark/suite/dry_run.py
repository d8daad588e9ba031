"""`ddbench run --dry-run`: the cells done and to do, and what they will take on this device."""

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ...backbones._hub import offline
from ...core.backbone import BACKBONES
from ...core.data import DATASETS
from ...core.errors import NotHere, UserError
from ..records.records import FILE, done_hashes, load_records
from . import estimate
from .outline import Outline, outline, record_keys
from .plan import describe, device_kind, plan


@offline()
def dry_run(suites: Sequence[Any], folders: Sequence[Path], device: str, published: estimate.Published) -> int:
    """List the cells of each suite with their state, and one estimate for all. Published data and weights that are not on this
    machine yet are named, not fetched from the hub, and the cells are then told by their specs; seconds per cell come from the
    records of this and neighbouring runs."""
    kind = device_kind(device)
    told: set[str] = set()
    cells: dict[tuple, Outline] = {}  # by folder and distillation: suites of one folder share their sets
    recorded: dict[Path, set] = {}
    for suite, out in zip(suites, folders, strict=True):
        outlines = outline(suite)
        done = recorded[out] = record_keys(load_records([out])) if (out / FILE).exists() else set()
        try:
            _planned(plan(suite, device=device), out)
        except NotHere:
            lines = [line for line in missing(outlines) if line not in told]
            print("".join(f"not here yet: {line}\n" for line in lines), end="")
            told.update(lines)
            _outlined(outlines, done)
        for cell in outlines:
            cells[out, cell.key] = cells.get((out, cell.key), cell).joined(cell)
    left = [cell.left(recorded[out]) for (out, _), cell in cells.items()]
    sizes = estimate.known_sizes((cell.dataset for cell in left if cell.evaluations), published)
    print("\n".join(estimate.report(estimate.estimate(left, sizes, kind), kind)))
    return 0


def missing(outlines: Sequence[Outline]) -> list[str]:
    """Lines about the backbones and datasets that are not on this machine, each once."""
    judged = [pair for cell in outlines for pair in cell.evaluations]
    others = [protocol.judging_backbone for protocol, _ in judged]
    named = [*(cell.distil for cell in outlines), *(judge for _, judge in judged), *others]
    backbones = dict.fromkeys(spec for spec in named if spec)
    targets = [protocol.judging_data for protocol, _ in judged]
    datasets = dict.fromkeys(spec for spec in [*(cell.dataset for cell in outlines), *targets] if spec)
    lines: dict[str, None] = {}
    for source in [*map(BACKBONES.create, backbones), *map(DATASETS.create, datasets)]:
        try:
            source.load()
        except NotHere as error:
            lines[str(error)] = None
    return list(lines)


def _planned(cells: list, out: Path) -> None:
    records = []
    for file in out.parent.glob(f"*/{FILE}"):
        with contextlib.suppress(UserError):  # a neighbour that cannot be read gives no estimate
            records += load_records([file])
    rows = describe(cells, done_hashes(out), records)
    for row in rows:
        seconds = "     ?" if row.seconds is None else f"{row.seconds:6.0f}"
        print(f"{row.state:12} {seconds} s  {row.cell.label} ({row.todo} of {row.done + row.todo} evaluations to do)")
    known = [row.seconds for row in rows if row.seconds is not None]
    unknown = len(rows) - len(known)
    print(f"{len(rows)} cells, {sum(row.todo for row in rows)} evaluations to do, about {sum(known):.0f} s", end="")
    print(f" and {unknown} cells of unknown time (no earlier run of their kind in {out.parent})" if unknown else "")


def _outlined(outlines: list, done: set) -> None:
    todo = 0
    for cell in outlines:
        left = len(cell.left(done).evaluations)
        state = "to do" if left == len(cell.evaluations) else "partly done" if left else "done"
        print(f"{state:12} {cell.label} ({left} of {len(cell.evaluations)} evaluations to do)")
        todo += left
    print(f"{len(outlines)} cells, {todo} evaluations to do")
