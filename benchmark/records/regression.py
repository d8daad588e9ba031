"""The regression gate: a run against a stored reference, cell by cell.

A cell got worse if its accuracy fell by more than max(1 point, 3 s), where s is the seed spread of the reference: the
standard deviation over distillation seeds (over probe seeds where there is one distillation seed), pooled over the backbones
of the same method, dataset, IPC and protocol. A new run cannot widen its own tolerance. Seconds and memory are reported as
ratios and gate only where a limit is given.
"""

import math
import statistics
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from ...core.errors import UserError
from .records import machine

POINTS = 1.0  # accuracy in percent points that a cell may always lose
SIGMAS = 3.0  # times the pooled seed spread

_IDENTITY = ("method_spec", "distill_backbone", "eval_backbone", "dataset", "ipc", "distill_seed", "protocol_spec")
_FAMILY = ("method_spec", "dataset", "ipc", "protocol_spec")


@dataclass(frozen=True)
class Difference:
    """One finding: `worse` ones gate."""

    kind: str  # accuracy | missing | failed | time | memory
    cell: str
    text: str
    worse: bool


@dataclass
class Comparison:
    """All findings of one comparison, and how many cells were compared."""

    cells: int
    differences: list[Difference] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def regressed(self) -> bool:
        return any(d.worse for d in self.differences)


def compare(
    reference: Sequence[dict], new: Sequence[dict], *, time_ratio: float | None = None, memory_ratio: float | None = None
) -> Comparison:
    """Compare the ok cells of `reference` with `new`. Raises `UserError` if they are not about the same data."""
    wanted = {_key(r): r for r in reference if r["status"] == "ok"}
    if not wanted:
        raise UserError("the reference holds no finished cell; there is nothing to compare with")
    _same_data(reference, new)
    found = {_key(r): r for r in new}
    spread = pooled_spread(wanted.values())
    result = Comparison(len(wanted))
    for key, old in wanted.items():
        result.differences += _cell(old, found.get(key), found, max(POINTS, SIGMAS * spread[_family(old)]))
    pairs = [(old, found[key]) for key, old in wanted.items() if found.get(key, {}).get("status") == "ok"]
    for what, read, limit in (("time", _seconds, time_ratio), ("memory", _peak, memory_ratio)):
        _ratios(result, what, [(old, read(old), read(now)) for old, now in _one_per_set(pairs)], limit)
    if len({machine(r.get("environment")) for pair in pairs for r in pair}) > 1:
        result.notes.append("the two runs come from different machines or settings: seconds and memory are not comparable")
    return result


def pooled_spread(records: Iterable[dict]) -> dict[tuple, float]:
    """Seed standard deviation per (method, dataset, IPC, protocol): variances pooled over backbones by degrees of freedom."""
    by_cell = defaultdict(list)
    for record in records:
        by_cell[_key(record, without="distill_seed")].append(record)
    variances = defaultdict(list)
    for group in by_cell.values():
        values = [r["top1"] for r in group] if len(group) > 1 else group[0]["top1_per_seed"]
        if len(values) > 1:
            variances[_family(group[0])].append((len(values) - 1, statistics.variance(values)))
    pooled = {family: math.sqrt(sum(n * v for n, v in parts) / sum(n for n, _ in parts)) for family, parts in variances.items()}
    return defaultdict(float, pooled)


def _cell(old: dict, now: dict | None, found: dict[tuple, dict], tolerance: float) -> list[Difference]:
    name = cell_name(old)
    if now is None:
        here = _key(old)[:-1]
        others = sorted({key[-1] for key in found if key[:-1] == here})
        why = f"only protocol version {others[0]} is there, renew the reference" if others else "it was not run"
        return [Difference("missing", name, f"missing: {why}", worse=True)]
    if now["status"] != "ok":
        return [Difference("failed", name, f"{now['status']}: {now['reason'] or 'no reason recorded'}", worse=True)]
    change = now["top1"] - old["top1"]
    if abs(change) <= tolerance:
        return []
    text = f"{old['top1']:.2f} -> {now['top1']:.2f} % ({change:+.2f}, tolerance {tolerance:.2f})"
    return [Difference("accuracy", name, text, worse=change < 0)]


def _ratios(result: Comparison, what: str, cells: list[tuple[dict, float | None, float | None]], limit: float | None) -> None:
    """One note with the median ratio per method; a finding for every set beyond `limit`."""
    per_method = defaultdict(list)
    for old, before, after in cells:
        if not before or after is None:
            continue
        ratio = after / before
        per_method[old["method_spec"]].append(ratio)
        if limit is not None and ratio > limit:
            text = f"{what} {ratio:.2f} times the reference (limit {limit:g})"
            result.differences.append(Difference(what, cell_name(old, whole=False), text, worse=True))
    medians = ", ".join(f"{method} {statistics.median(ratios):.2f}" for method, ratios in per_method.items())
    if medians:
        result.notes.append(f"median {what} ratio to the reference while distilling: {medians}")


def _one_per_set(pairs: list[tuple[dict, dict]]) -> list[tuple[dict, dict]]:
    """Distilling is stored with each evaluation of a set; it counts once."""
    kept = {}
    for old, now in pairs:
        kept.setdefault((*_family(old)[:3], old["distill_backbone"], old["distill_seed"]), (old, now))
    return list(kept.values())


def _same_data(reference: Sequence[dict], new: Sequence[dict]) -> None:
    known = {r["dataset"]: r["dataset_fingerprint"] for r in reference}
    for record in new:
        dataset, fingerprint = record["dataset"], record["dataset_fingerprint"]
        if known.get(dataset, fingerprint) != fingerprint:
            raise UserError(f"{dataset!r} is other data than in the reference (fingerprints differ); renew the reference")


def cell_name(record: dict, whole: bool = True) -> str:
    """`clpdd on mini_a -> mini_b, digits, IPC 1, seed 0, ridge-probe` in words."""
    judged = f" -> {record['eval_backbone']}" if whole and record["eval_backbone"] else ""
    ipc = "all images" if record["ipc"] is None else f"IPC {record['ipc']}"
    protocol = f", {record['protocol_spec']}" if whole else ""
    source = f" on {record['distill_backbone']}" if record["distill_backbone"] else ""
    return f"{record['method_spec']}{source}{judged}, {record['dataset']}, {ipc}, seed {record['distill_seed']}{protocol}"


def _key(record: dict, without: str | None = None) -> tuple[Any, ...]:
    return (*(record[name] for name in _IDENTITY if name != without), record["protocol_version"])


def _family(record: dict) -> tuple[Any, ...]:
    return tuple(record[name] for name in _FAMILY)


def _seconds(record: dict) -> float | None:
    return (record.get("seconds") or {}).get("distill")


def _peak(record: dict) -> float | None:
    peaks = record.get("peak_bytes") or {}
    return peaks.get("gpu_allocated") or peaks.get("cpu_rss")
