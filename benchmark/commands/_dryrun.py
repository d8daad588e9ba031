"""`ddbench run --dry-run`: the cells done and to do, and what they will take on this device."""

import contextlib
from pathlib import Path
from typing import Any

from ...core.errors import NotHere, UserError
from .. import estimate
from ..outline import outline, record_keys
from ..plan import describe, device_kind, plan
from ..records import FILE, done_hashes, load_records


def dry_run(suite: Any, out: Path, device: str) -> int:
    """List the cells with their state and estimates. Published data and weights that are not on this machine yet are named, and
    the cells are then told by their specs; seconds per cell come from the records of this and neighbouring runs."""
    kind = device_kind(device)
    outlines = outline(suite)
    done = record_keys(load_records([out])) if (out / FILE).exists() else set()
    try:
        _planned(plan(suite, device=device), out)
    except NotHere as missing:
        print(f"not here yet: {missing}")
        _outlined(outlines, done)
    left = [cell.left(done) for cell in outlines]
    sizes = estimate.known_sizes(cell.dataset for cell in left if cell.evaluations)
    found = estimate.estimate(left, sizes, kind)
    print("\n".join(estimate.report(found, kind, suite.timeout)))
    return 0


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
