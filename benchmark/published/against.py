"""Which of our records answer for each claimed cell, and how far they are from it.

How a cell is called here is data too (`paper_names.py`). A claimed number never becomes one of ours; both stand side by side.
"""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from ..records.regression import POINTS, SIGMAS
from ..report.accuracy import of_part, relative_to_own
from ..report.tables import check_comparable
from ..report.value import Value, mean_value
from .claim import Claim
from .paper_names import Key, Names


@dataclass(frozen=True)
class ClaimedCell:
    """A claimed cell beside what was measured for it."""

    claim: Claim
    measured: Value
    tolerance: float | None  # points; None where nothing was measured

    @property
    def difference(self) -> float | None:
        return None if self.measured.mean is None else self.measured.mean - self.claim.value

    @property
    def outside(self) -> bool:
        return self.difference is not None and self.tolerance is not None and abs(self.difference) > self.tolerance


def against(
    claims: Sequence[Claim], records: Sequence[dict[str, Any]], names: Names, points: float = POINTS
) -> list[ClaimedCell]:
    """Every claim beside what `records` say. A difference is outside when it exceeds max(`points`, 3 s), s the root of the
    summed squares of both standard deviations. Raises `UserError` for records that cannot stand in one cell."""
    plain, scaled = _by_key(records, names), _by_key(relative_to_own(records), names)
    there = {record["dataset"].partition("[")[0] for record in records}
    wanted = [names.wanted(claim) or [] if names.dataset(claim) in there else [] for claim in claims]
    return [
        _compare(claim, keys, scaled if claim.metric == "relative" else plain, points)
        for claim, keys in zip(claims, wanted, strict=True)
    ]


def _by_key(records: Sequence[dict[str, Any]], names: Names) -> dict[Key, list[dict[str, Any]]]:
    found = defaultdict(list)
    for record in records:
        found[names.key(record)].append(record)
    return found


def _compare(claim: Claim, keys: list[Key], by_key: Mapping[Key, list[dict[str, Any]]], points: float) -> ClaimedCell:
    found = [record for key in dict.fromkeys(keys) for record in by_key.get(key, ())]
    if not found:
        return ClaimedCell(claim, Value(), None)
    frame = pd.DataFrame(found)
    check_comparable(frame)
    if claim.part is not None:
        frame = of_part(frame, claim.part)
    measured = mean_value(frame, len(dict.fromkeys(keys)))
    spread = math.hypot(claim.std or 0.0, measured.std or 0.0)
    return ClaimedCell(claim, measured, None if measured.mean is None else max(points, SIGMAS * spread))
