"""The numbers of a table: means, what their spread is over, and what stands in for a number that is not there."""

import statistics
from dataclasses import dataclass, field
from typing import Any

# DataFrames and Series. pandas annotates a selection as a union of all that it might be, which no checker can follow.
Frame = Any
Column = Any

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

    def text(self, digits: int = 1, joint: str = " ± ") -> str:
        if self.mean is None:
            return self.status or MISSING
        spread = "" if self.std is None else f"{joint}{self.std:.{digits}f}"
        mark = _MARK if self.over == "probe seeds" else ""
        part = f" ({self.n}/{self.attempts})" if self.n < self.attempts else ""
        return f"{self.mean:.{digits}f}{spread}{mark}{part}"


@dataclass(frozen=True)
class Table:
    """A titled grid: `labels` + `columns` are the headers, each row has its label texts and one value per column."""

    title: str
    caption: list[str]
    columns: list[str]
    rows: list[tuple[tuple[str, str], list[Value]]]
    digits: int = 1
    labels: tuple[str, str] = ("method", "distil backbone")
    facts: dict[str, Any] = field(default_factory=dict)  # what the table is of: dataset, ipc, protocol, ...


def mean_value(rows: Frame, pairs: int) -> Value:
    """Mean over distillation seeds of the mean over `pairs` (distil, eval) backbone pairs; seeds that lack one do not count."""
    if rows.empty:
        return Value()
    attempts = rows["distill_seed"].nunique()
    ok = rows[rows["status"] == "ok"]
    failed = rows[rows["status"] != "ok"]["status"]
    per_seed = ok.groupby("distill_seed")["top1"].agg(["mean", "count"])
    complete = per_seed[per_seed["count"] == pairs]["mean"]
    if complete.empty:
        return Value(status=str(failed.iloc[0]) if pairs == 1 and len(failed) else None, attempts=attempts)
    probes = [list(values) for values in ok["top1_per_seed"]]
    std, over = None, None
    if len(complete) > 1:
        std, over = float(complete.std(ddof=1)), "distillation seeds"
    elif pairs == 1 and len(probes[0]) > 1:
        std, over = statistics.stdev(probes[0]), "probe seeds"
    return Value(float(complete.mean()), std, over, len(complete), max(map(len, probes)), attempts=attempts)


def plain_value(numbers: Column, part: Frame) -> Value:
    """Mean of what was measured in the rows `part`; their status where nothing was."""
    present = numbers.dropna()
    seeds = part["distill_seed"].loc[present.index].nunique()
    if present.empty:
        failed = [status for status in part["status"] if status != "ok"]
        return Value(status=failed[0] if failed else None)
    return Value(float(present.mean()), n=seeds, attempts=seeds)


def spread_text(rows: list[tuple[tuple[str, str], list[Value]]]) -> str:
    """What ± means in this table, and n."""
    values = [value for _, row in rows for value in row]
    kinds = {value.over for value in values}
    probes = max((value.probes for value in values), default=0)
    parts = [count_text(rows)]
    if "distillation seeds" in kinds:
        parts.append("± sample std over distillation seeds")
    if "probe seeds" in kinds:
        parts.append(f"±…{_MARK} sample std over {probes} probe seeds of one distillation seed")
    return "; ".join(parts)


def count_text(rows: list[tuple[tuple[str, str], list[Value]]]) -> str:
    counts = sorted({value.n for _, row in rows for value in row if value.mean is not None}) or [0]
    shown = str(counts[0]) if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    return f"n = {shown} distillation seed{'s' if counts[-1] > 1 else ''}"
