"""The numbers of a table: means, what their spread is over, and what stands in for a number that is not there."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from ...core.errors import UserError
from .statistics import Interval, Paired, interval

# DataFrames and Series. pandas annotates a selection as a union of all that it might be, which no checker can follow.
Frame = Any
Column = Any

Spread = Literal["std", "ci"]  # what stands beside a mean: the sample standard deviation, or the 95 % interval

MISSING = "—"
_MARK = "*"  # spread over probe seeds, because there is one distillation seed only


@dataclass(frozen=True)
class Value:
    """One number of a table with what stands behind it."""

    mean: float | None = None
    std: float | None = None
    over: str | None = None  # `distillation seeds` | `probe seeds`: what std is over
    n: int = 0  # distillation seeds in the mean
    probes: int = 0  # probe seeds per distillation seed
    status: str | None = None  # of the failed or unsupported cells, where there are any
    attempts: int = 0  # distillation seeds tried
    interval: Interval | None = None  # 95 %, of the mean, over what std is over

    def text(self, digits: int = 1, joint: str = " ± ", spread: Spread = "std") -> str:
        if self.mean is None:
            return self.status or MISSING
        mark = _MARK if self.over == "probe seeds" else ""
        part = f" ({self.n}/{self.attempts})" if self.n < self.attempts else ""
        return f"{self.mean:.{digits}f}{self._spread(digits, joint, spread)}{mark}{part}"

    def _spread(self, digits: int, joint: str, spread: Spread) -> str:
        if spread == "ci":
            return "" if self.interval is None else f" [{self.interval[0]:.{digits}f}, {self.interval[1]:.{digits}f}]"
        return "" if self.std is None else f"{joint}{self.std:.{digits}f}"


@dataclass(frozen=True)
class Gap(Value):
    """A paired difference; `decided` where its interval excludes zero."""

    decided: bool = False
    better: int = 0
    places: int = 0
    tried_places: int = 0

    @classmethod
    def of(cls, pair: Paired | None) -> "Value":
        if pair is None:
            return Value()
        return cls(
            pair.mean, n=pair.seeds, attempts=pair.tried_seeds, interval=pair.interval, decided=pair.decided,
            better=pair.better, places=pair.places, tried_places=pair.tried_places,
        )  # fmt: skip

    def text(self, digits: int = 1, joint: str = " ± ", spread: Spread = "ci") -> str:
        """`+3.2 [1.1, 5.3]!`: the mark says that the interval excludes zero; what is missing is counted."""
        assert self.mean is not None
        between = "" if self.interval is None else f" [{self.interval[0]:+.{digits}f}, {self.interval[1]:+.{digits}f}]"
        parts = [
            f"{there} of {of} {what}"
            for there, of, what in ((self.places, self.tried_places, "places"), (self.n, self.attempts, "seeds"))
            if there < of
        ]
        part = f" ({', '.join(parts)})" if parts else ""
        return f"{self.mean:+.{digits}f}{between}{'!' if self.decided else ''}{part}"


Row = tuple[tuple[str, str], list[Value]]  # method and distil backbone, and a value per column


@dataclass(frozen=True)
class Table:
    """A titled grid: `labels` + `columns` are the headers, each row has its label texts and one value per column."""

    title: str
    caption: list[str]
    columns: list[str]
    rows: list[Row]
    digits: int = 1
    labels: tuple[str, str] = ("method", "distil backbone")
    facts: dict[str, Any] = field(default_factory=dict)  # what the table is of: dataset, ipc, protocol, ...
    spread: Spread = "std"
    display: dict[str, str] = field(default_factory=dict)  # names of specs, where the suite gave some
    unranked: frozenset[tuple[str, str]] = frozenset()  # rows that are neither best nor second: ceilings, means of rows
    sampled: bool = False  # whether its numbers are means over seeds, which the last line below it then says

    @property
    def lines(self) -> list[str]:
        """What stands below the table."""
        return [*self.caption, spread_text(self.rows, self.spread)] if self.sampled else list(self.caption)

    def text(self, value: Value, joint: str = " ± ") -> str:
        return value.text(self.digits, joint, self.spread)

    def ranked(self) -> dict[tuple[int, int], int]:
        """1 for the best and 2 for the second of each column, by row and column, where that number has an interval."""
        places = {}
        for c in range(len(self.columns)):
            values = {r: values[c] for r, (label, values) in enumerate(self.rows) if label not in self.unranked}
            if not any(value.interval for value in values.values()):
                continue
            means = {r: value.mean for r, value in values.items() if value.mean is not None and not isinstance(value, Gap)}
            ordered = sorted(set(means.values()), reverse=True)[:2] if len(means) > 1 else []
            places |= {(r, c): ordered.index(mean) + 1 for r, mean in means.items() if mean in ordered and values[r].interval}
        return places


_KINDS = {"seconds": (" s",), "memory": ("MiB", "GiB")}  # of columns, by the ends of their names


def select_columns(table: Table, asked: Sequence[str]) -> Table:
    """The columns that are called so, end so (`own` of `ridge-probe own`) or are of that kind (`seconds`, `memory`)."""

    def fits(column: str, name: str) -> bool:
        return column == name or column.endswith((f" {name}", *_KINDS.get(name, ())))

    for name in asked:
        if not any(fits(column, name) for column in table.columns):
            known = ", ".join(dict.fromkeys([*table.columns, "seconds", "memory"]))
            raise UserError(f"no column {name!r} in `{table.title}`; there are: {known}")
    kept = [c for c, column in enumerate(table.columns) if any(fits(column, name) for name in asked)]
    rows = [(label, [values[c] for c in kept]) for label, values in table.rows]
    return replace(table, columns=[table.columns[c] for c in kept], rows=rows)


def mean_value(rows: Frame, pairs: int) -> Value:
    """Mean over distillation seeds of the mean over `pairs` (distil, eval) backbone pairs; seeds that lack one do not count."""
    if rows.empty:
        return Value()
    per_seed: dict[int, list[float]] = {}
    failed, probes = [], []
    names = ("distill_seed", "status", "top1", "top1_per_seed")
    for seed, status, top1, each in zip(*(rows[name].tolist() for name in names), strict=True):
        held = per_seed.setdefault(seed, [])
        if status != "ok":
            failed.append(status)
        elif top1 is not None and not math.isnan(top1):  # a part that this record lacks is no number
            held.append(top1)
            probes.append(list(each))
    attempts = len(per_seed)
    complete = [statistics.fmean(held) for held in per_seed.values() if len(held) == pairs]
    if not complete:
        return Value(status=str(failed[0]) if pairs == 1 and failed else None, attempts=attempts)
    drawn, over = [], None
    if len(complete) > 1:
        drawn, over = complete, "distillation seeds"
    elif pairs == 1 and len(probes[0]) > 1:
        drawn, over = probes[0], "probe seeds"
    std = statistics.stdev(drawn) if over else None
    most = max(map(len, probes))
    return Value(statistics.fmean(complete), std, over, len(complete), most, attempts=attempts, interval=interval(drawn))


def plain_value(numbers: Column, part: Frame) -> Value:
    """Mean of what was measured in the rows `part`; their status where nothing was."""
    present = numbers.dropna()
    seeds = part["distill_seed"].loc[present.index].nunique()
    if present.empty:
        failed = [status for status in part["status"] if status != "ok"]
        return Value(status=failed[0] if failed else None)
    return Value(float(present.mean()), n=seeds, attempts=seeds)


def spread_text(rows: list[Row], spread: Spread) -> str:
    """What stands beside the means of this table, and n."""
    values = [value for _, row in rows for value in row]
    kinds = {value.over for value in values}
    probes = max((value.probes for value in values), default=0)
    parts = [count_text(rows)]
    what = "± sample std" if spread == "std" else "[ ] 95 % interval of the mean"
    if "distillation seeds" in kinds:
        parts.append(f"{what} over distillation seeds")
    if "probe seeds" in kinds:
        parts.append(f"{what}{_MARK} over {probes} probe seeds of one distillation seed")
    return "; ".join(parts)


def count_text(rows: list[Row]) -> str:
    counts = sorted({value.n for _, row in rows for value in row if value.mean is not None}) or [0]
    shown = str(counts[0]) if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    return f"n = {shown} distillation seed{'s' if counts[-1] > 1 else ''}"
