"""Claimed against measured as text, Markdown, LaTeX, CSV, JSON: one line per cell of a published table.

A claimed number stands in the column `claimed` and nowhere else; a cell that was not measured shows `—` in ours.
"""

import csv as csv_module
import io
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from itertools import groupby

from ..records.regression import SIGMAS
from ..report.render import grid_text, latex_grid, pipes
from ..report.value import MISSING
from .against import ClaimedCell

_HEADERS = ("method", "distilled with", "evaluated on", "measured", "claimed", "difference", "")
_LABELS = 3  # of them are text
_METRICS = {
    "top1": "top-1 %",
    "relative": "1-NN top-1 in % of the eval backbone's own set",
    "alignment": "mutual nearest neighbours of two backbones in %",
    "probe_top1": "top-1 % of a linear probe",
}


def text(comparisons: Sequence[ClaimedCell], notes: Sequence[str] = ()) -> str:
    """For a terminal."""
    blocks = [grid_text(title, _HEADERS, rows, _LABELS) for title, rows in _blocks(comparisons)]
    return "\n".join(blocks) + "".join(f"  {line}\n" for line in [*caption(comparisons), *notes])


def markdown(comparisons: Sequence[ClaimedCell], notes: Sequence[str] = ()) -> str:
    """GitHub tables with the caption below the last."""
    rule = pipes([*[":--"] * _LABELS, *["--:"] * (len(_HEADERS) - _LABELS)])
    blocks = ["\n".join([f"**{title}**", "", pipes(_HEADERS), rule, *map(pipes, rows)]) for title, rows in _blocks(comparisons)]
    return "\n\n".join([*blocks, "\n".join(f"{line}  " for line in [*caption(comparisons), *notes])]) + "\n"


def latex(comparisons: Sequence[ClaimedCell], notes: Sequence[str] = ()) -> str:
    """`table` environments with booktabs rules."""
    below = ". ".join([*caption(comparisons), *notes])
    parts = [latex_grid(f"{title}. {below}.", _HEADERS, rows, _LABELS) for title, rows in _blocks(comparisons)]
    return "\n\n".join(parts) + "\n"


def csv(comparisons: Sequence[ClaimedCell], notes: Sequence[str] = ()) -> str:
    """One row per cell, with empty fields where nothing was measured."""
    rows = [_flat(c) for c in comparisons]
    out = io.StringIO()
    writer = csv_module.DictWriter(out, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def as_json(comparisons: Sequence[ClaimedCell], notes: Sequence[str] = ()) -> str:
    return json.dumps({"cells": [_flat(c) for c in comparisons], "notes": [*caption(comparisons), *notes]}, indent=1) + "\n"


def caption(comparisons: Sequence[ClaimedCell]) -> list[str]:
    """Where the claims come from, what is compared, how many cells are there."""
    measured = sum(c.difference is not None for c in comparisons)
    outside = sum(c.outside for c in comparisons)
    points = min((c.tolerance for c in comparisons if c.tolerance is not None), default=None)
    rule = (
        "" if points is None else f"; OUTSIDE: by more than the tolerance (points, or {SIGMAS:g} s of both where that is more)"
    )
    sources = "; ".join(dict.fromkeys(f"{c.claim.paper} arXiv {c.claim.arxiv}, {c.claim.source}" for c in comparisons))
    return [
        f"claimed: {sources}; ± as reported there",
        f"{measured} of {len(comparisons)} cells measured, {outside} of them outside{rule}",
    ]


def _blocks(comparisons: Sequence[ClaimedCell]) -> list[tuple[str, list[list[str]]]]:
    """Title and rows per published table, dataset and metric."""
    return [(name, [_row(c) for c in group]) for name, group in groupby(comparisons, key=_title)]


def _title(c: ClaimedCell) -> str:
    metric = c.claim.metric.partition("@")[0]
    part = f" with {c.claim.part}" if c.claim.part else ""
    return f"{c.claim.table_name}: {c.claim.dataset}, {_METRICS.get(metric, metric)}{part}"


def _row(c: ClaimedCell) -> list[str]:
    claimed = f"{c.claim.value:.1f}" + ("" if c.claim.std is None else f" ± {c.claim.std:.1f}")
    change = MISSING if c.difference is None else f"{c.difference:+.1f}"
    verdict = "" if c.tolerance is None else f"{'OUTSIDE' if c.outside else 'within'} {c.tolerance:.1f}"
    return [
        c.claim.method,
        c.claim.distill_backbone or MISSING,
        c.claim.eval_backbone if c.claim.target == c.claim.dataset else f"{c.claim.eval_backbone} on {c.claim.target}",
        c.measured.text(),
        claimed,
        change,
        verdict,
    ]


def _flat(c: ClaimedCell) -> dict[str, object]:
    ours = {"measured": c.measured.mean, "measured_std": c.measured.std, "measured_std_over": c.measured.over}
    claim = {f"claimed_{key}" if key in ("value", "std") else key: value for key, value in asdict(c.claim).items()}
    judged = {"difference": c.difference, "tolerance": c.tolerance, "outside": c.outside, "status": c.measured.status}
    return {**claim, **ours, "measured_seeds": c.measured.n, **judged}


FORMATS: dict[str, Callable[[Sequence[ClaimedCell], Sequence[str]], str]] = {
    "text": text,
    "md": markdown,
    "csv": csv,
    "latex": latex,
    "json": as_json,
}
