"""How sure a number is: 95 % intervals, paired differences between methods, average ranks with a critical difference.

The unit that is drawn again is the distillation seed (the probe seed where there is one distillation seed only, and marked
so); backbones and datasets are those of the suite, not a sample. From `BOOTSTRAP_FROM` seeds on an interval is the BCa
bootstrap (Efron 1987); with fewer it is Student's t, because resampling three numbers covers 80 % where 95 are promised.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from ...core.errors import UserError
from ..records.own_and_transfer import distillers, took_part

LEVEL = 0.95
BOOTSTRAP_FROM = 20  # seeds; at 10 it still covers 90 % only
RESAMPLES = 2000
BLOCKS = 5  # at least so many (dataset, IPC, eval backbone) for a critical difference
_SEED = 0  # of the resampling: one table has one text

V = TypeVar("V")
Interval = tuple[float, float]
Place = tuple[Any, ...]  # dataset, IPC, protocol, distil backbone, eval backbone
Scores = dict[Place, dict[int, float]]  # top-1 by place and distillation seed
Tried = dict[Place, dict[int, bool]]  # the same of every attempt: whether its set is bound to this distil backbone and IPC


def interval(values: Sequence[float]) -> Interval | None:
    """The 95 % interval of the mean of independent `values`; None for fewer than two."""
    numbers = np.asarray(values, dtype=float)
    if len(numbers) < 2:
        return None
    mean = float(numbers.mean())
    if np.ptp(numbers) == 0:
        return mean, mean
    if len(numbers) >= BOOTSTRAP_FROM:
        from scipy.stats import bootstrap

        low, high = bootstrap(
            (numbers,), np.mean, confidence_level=LEVEL, n_resamples=RESAMPLES, rng=np.random.default_rng(_SEED)
        ).confidence_interval
        return float(low), float(high)
    from scipy.special import stdtrit

    half = float(stdtrit(len(numbers) - 1, (1 + LEVEL) / 2) * numbers.std(ddof=1) / np.sqrt(len(numbers)))
    return mean - half, mean + half


@dataclass(frozen=True)
class Paired:
    """The mean difference of two methods over the places that both have."""

    mean: float
    interval: Interval | None  # over seeds; None where there is one
    seeds: int
    places: int
    better: int  # places where the first method has the higher mean
    tried_places: int = 0  # where one of the two was tried, finished or not
    tried_seeds: int = 0

    @property
    def decided(self) -> bool:
        """Whether the interval excludes zero."""
        return self.interval is not None and (self.interval[0] > 0 or self.interval[1] < 0)


def paired(ours: Scores, theirs: Scores, tried: tuple[Tried, Tried] | None = None) -> Paired | None:
    """`ours` minus `theirs` over the places and seeds of both; None where they share none. `tried`: attempts of both, counted
    so that a difference can say which part of them it is over.

    A method with one seed (the deterministic ones) stands against every seed of the other. Places that lack one of the seeds
    are left out, so that every seed averages over the same ones.
    """
    ours, theirs = _beside(ours, theirs), _beside(theirs, ours)
    shared = [place for place in ours if place in theirs]
    mine, other = ({s for place in shared for s in side[place]} for side in (ours, theirs))
    seeds = sorted(mine if len(other) == 1 else other if len(mine) == 1 else mine & other)
    wanted = [(side, s) for side, held in ((ours, mine), (theirs, other)) if len(held) > 1 for s in seeds]
    shared = [place for place in shared if all(s in side[place] for side, s in wanted)]
    if not shared or not seeds:
        return None
    table = np.array([[_at(ours[p], s) - _at(theirs[p], s) for p in shared] for s in seeds])  # seeds x places
    per_seed = table.mean(axis=1)
    better = int((table.mean(axis=0) > 0).sum())
    whole = _whole(*tried) if tried else (len(shared), len(seeds))
    return Paired(float(per_seed.mean()), interval(per_seed.tolist()), len(seeds), len(shared), better, *whole)


def _whole(ours: Tried, theirs: Tried) -> tuple[int, int]:
    """Places and seeds of a difference in which nothing is missing. A method of no backbone (or no IPC) stands wherever the
    other was tried, so it adds no places of its own; nor do sets of one backbone beside those of several."""
    everywhere = {*ours, *theirs}
    joint = [any(len(distillers(place[3] or "")) > 1 for place in side) for side in (ours, theirs)]
    counted = [side for side, several in zip((ours, theirs), joint, strict=True) if several or not any(joint)]
    bound = {place for side in counted for place, by_seed in side.items() if any(by_seed.values())}
    mine, other = ({seed for by_seed in side.values() for seed in by_seed} for side in (ours, theirs))
    seeds = mine if len(other) == 1 else other if len(mine) == 1 else mine | other
    return len(bound or everywhere), len(seeds)


def _beside(places: Scores, others: Scores) -> Scores:
    """`places`, and what they come to where the sets of `others` have several distil backbones: the mean over sets of each."""
    found = dict(places)
    for place in others:
        *where, distil, judge = place
        parts = distillers(distil) if distil else []
        if len(parts) < 2 or place in places:
            continue
        # a backbone that took part judges its own set
        held = [by for part in ([judge] if judge in parts else parts) if (by := places.get((*where, part, judge)))]
        seeds = set.intersection(*(set(by) for by in held)) if held else set()
        if seeds and (judge in parts or len(held) == len(parts)):
            found[place] = {seed: float(np.mean([by[seed] for by in held])) for seed in sorted(seeds)}
    return found


def _at(by_seed: Mapping[int, float], seed: int) -> float:
    return by_seed[seed] if seed in by_seed else next(iter(by_seed.values()))


def scores(records: Sequence[dict]) -> dict[str, Scores]:
    """Top-1 of the ok records, as `with_partners` names them, by method spec. Sets of no backbone, and those of no IPC, stand
    at every distil backbone and IPC that there is."""
    done = [r for r in records if r["status"] == "ok" and r["top1"] is not None]
    return _by_place(done, lambda r: float(r["top1"]))


def tried(records: Sequence[dict]) -> dict[str, Tried]:
    """The attempts behind `scores`, finished or not."""
    return _by_place(records, lambda r: None not in (r["distill_backbone"], r["ipc"]))


def _by_place(records: Sequence[dict], value: Callable[[dict], V]) -> dict[str, dict[Place, dict[int, V]]]:
    distil = sorted({r["distill_backbone"] for r in records if r["distill_backbone"] is not None}) or [None]
    ipcs = sorted({r["ipc"] for r in records if r["ipc"] is not None}) or [None]
    found: dict[str, dict[Place, dict[int, V]]] = defaultdict(lambda: defaultdict(dict))
    for r in records:
        for backbone in distil if r["distill_backbone"] is None else [r["distill_backbone"]]:
            for ipc in ipcs if r["ipc"] is None else [r["ipc"]]:
                place = (r["dataset"], ipc, r["protocol_spec"], backbone, r["eval_backbone"])
                found[r["method_spec"]][place][int(r["distill_seed"])] = value(r)
    return {method: dict(by_place) for method, by_place in found.items()}


def part_of(found: dict[Place, dict[int, V]], protocol: str, own: bool | None) -> dict[Place, dict[int, V]]:
    """The places of one protocol: those of backbones that distilled (`own`), all others (not `own`), or all (None)."""
    return {
        place: by_seed
        for place, by_seed in found.items()
        if place[2] == protocol and (own is None or took_part(place[3], place[4]) == own)
    }


def the_method(asked: str, specs: Sequence[str]) -> str:
    """The method spec that `asked` names: itself, or the only one of that name. Raises `UserError`."""
    known = list(dict.fromkeys(specs))
    if asked in known:
        return asked
    named = [spec for spec in known if spec.partition("[")[0] == asked]
    if len(named) == 1:
        return named[0]
    listed = ", ".join(named or known)
    raise UserError(f"{asked!r} is {'several' if named else 'none'} of the methods there are: {listed}")


@dataclass(frozen=True)
class Ranks:
    """Average ranks (1 is best) of methods over blocks; a critical difference where there are enough blocks."""

    ranks: dict[str, float]  # best first
    blocks: int
    left_out: tuple[str, ...]  # methods that lack a block
    friedman_p: float | None  # that all methods are alike
    critical: float | None  # Nemenyi: two average ranks that are less apart are not told apart at the 5 % level

    def cliques(self) -> list[tuple[str, ...]]:
        """The largest groups of neighbours in rank that are not told apart."""
        names, found = list(self.ranks), []
        if self.critical is None:
            return []
        for start in range(len(names)):
            end = start
            while end + 1 < len(names) and self.ranks[names[end + 1]] - self.ranks[names[start]] < self.critical:
                end += 1
            if end > start and not (found and names[end] in found[-1]):
                found.append(tuple(names[start : end + 1]))
        return found


def average_ranks(found: Mapping[str, Scores]) -> Ranks | None:
    """Ranks of the methods in every block (dataset, IPC, protocol, eval backbone), by the mean over seeds and distil
    backbones; ties share their mean rank. None for fewer than two methods or no block.

    Friedman's test and Nemenyi's critical difference as in Demsar (2006); both need three methods and `BLOCKS` blocks.
    """
    means = {method: _block_means(places) for method, places in found.items()}
    blocks = sorted({block for by_block in means.values() for block in by_block}, key=str)
    complete = [method for method, by_block in means.items() if all(block in by_block for block in blocks)]
    if len(complete) < 2 or not blocks:
        return None
    from scipy.stats import friedmanchisquare, rankdata, studentized_range

    table = np.array([[means[method][block] for method in complete] for block in blocks])
    ranks = np.apply_along_axis(rankdata, 1, -table).mean(axis=0)
    k, n = len(complete), len(blocks)
    p = critical = None
    if k >= 3 and n >= BLOCKS:
        p = float(friedmanchisquare(*table.T).pvalue)
        critical = float(studentized_range.ppf(LEVEL, k, 1e6) / np.sqrt(2) * np.sqrt(k * (k + 1) / (6 * n)))
    ordered = sorted(zip(ranks.tolist(), complete, strict=True))
    out = tuple(method for method in means if method not in complete)
    return Ranks({method: rank for rank, method in ordered}, n, out, p, critical)


def _block_means(places: Scores) -> dict[tuple, float]:
    held = defaultdict(list)
    for (dataset, ipc, protocol, _, judge), by_seed in places.items():
        held[dataset, ipc, protocol, judge].append(np.mean(list(by_seed.values())))
    return {block: float(np.mean(values)) for block, values in held.items()}
