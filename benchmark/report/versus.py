"""Methods beside one of them (paired differences with 95 % intervals), and their average ranks."""

from collections.abc import Mapping, Sequence

from ...core.errors import UserError
from ..records.own_and_transfer import with_partners
from .conditions import conditions
from .names import display_names
from .rows import frame_of
from .statistics import BLOCKS, Place, Ranks, Scores, Tried, V, average_ranks, paired, part_of, scores, the_method, tried
from .tables import check_together
from .value import MISSING, Gap, Table, Value

_PARTS = {" own": True, " transfer": False}


def versus(records: Sequence[dict], method: str) -> list[Table]:
    """Every method minus `method` (name, spec, or the suite's name for it), over the same datasets, IPCs, backbones and seeds:
    a table per dataset and IPC, and one over all where there are several. Raises `UserError` for a method that is not there or
    stands alone, and for records that cannot be compared."""
    records = with_partners(records)
    found, attempts = scores(records), tried(records)
    named = {name: spec for spec, name in display_names(records).items() if spec in found}
    base = the_method(named.get(method, method), list(found))
    if len(found) < 2:
        raise UserError(f"{base!r} is the only method with finished cells; there is nothing to compare it with")
    check_together(frame_of(records))
    groups = sorted({place[:2] for place in found[base]}, key=str)
    built = []
    for dataset, ipc in groups:
        here = {name: _at(places, (dataset, ipc)) for name, places in found.items()}
        attempted = {name: _at(places, (dataset, ipc)) for name, places in attempts.items()}
        there = [r for r in records if r["dataset"] == dataset and r["ipc"] in (ipc, None)]
        built.append(_versus(here, attempted, base, f"{dataset}, {_ipc(ipc)}", there))
    whole = f"over {len(groups)} datasets and IPCs"
    return [*built, _versus(found, attempts, base, whole, records)] if len(groups) > 1 else built


def _versus(
    found: Mapping[str, Scores], attempts: Mapping[str, Tried], base: str, where: str, records: Sequence[dict]
) -> Table:
    columns, display = _columns(found), display_names(records)
    shown = display.get(base, base)
    others = [name for name in found if name != base and found[name]]
    rows = []
    for name in others:
        pairs = [
            paired(
                part_of(found[name], spec, own),
                part_of(found[base], spec, own),
                (part_of(attempts[name], spec, own), part_of(attempts[base], spec, own)),
            )
            for spec, own in columns.values()
        ]
        rows.append(((name, f"minus {shown}"), [Gap.of(pair) for pair in pairs]))
    gaps = [value for _, values in rows for value in values if isinstance(value, Gap)]
    seeds = sorted({gap.n for gap in gaps}) or [0]
    partial = any(gap.places < gap.tried_places or gap.n < gap.attempts for gap in gaps)
    caption = [
        f"difference in top-1 to {shown}, points: mean over the same backbone pairs, [95 % interval over distillation seeds]",
        "! the interval excludes zero; a method with one seed stands against every seed of the other",
        *(["(k of n places): the others failed or are missing for one of the two, and are in neither mean"] * partial),
        f"n = {seeds[0]}{f' to {seeds[-1]}' if len(seeds) > 1 else ''} paired seeds"
        + "; one seed has no interval, and so decides nothing" * (seeds[0] == 1),
        *conditions(frame_of(records), timed=False),
    ]
    return Table(f"Versus {shown}: {where}", caption, list(columns), rows, labels=("method", "difference"), display=display)


def ranks(records: Sequence[dict]) -> list[Table]:
    """Average ranks of the methods, ceilings aside, per protocol: one table. Raises `UserError` for fewer than two methods, and
    for records that cannot be compared."""
    with_budget = [r for r in with_partners(records) if r["ipc"] is not None]
    found = {name: places for name, places in scores(with_budget).items() if places}
    known = _by_column(found, with_budget)
    first = next(iter(known.values()))
    names = sorted(found, key=lambda name: first.ranks.get(name, float("inf")))
    rows = [((name, MISSING), [_rank(r, name) for r in known.values()]) for name in names]
    caption = [line for column, r in known.items() for line in _told(column, r)]
    caption += _unfinished(found, tried(with_budget))
    caption += conditions(frame_of(with_budget), timed=False)
    return [Table("Average ranks", caption, list(known), rows, digits=2, display=display_names(with_budget))]


def ranked(records: Sequence[dict]) -> dict[str, Ranks]:
    """Average ranks by column (`ridge-probe own`) of the methods, ceilings aside. Raises `UserError` as `ranks` does."""
    with_budget = [r for r in with_partners(records) if r["ipc"] is not None]
    return _by_column({name: places for name, places in scores(with_budget).items() if places}, with_budget)


def _by_column(found: Mapping[str, Scores], records: Sequence[dict]) -> dict[str, Ranks]:
    columns = _columns(found)
    by_column = {
        column: average_ranks({name: kept for name, places in found.items() if (kept := part_of(places, spec, own))})
        for column, (spec, own) in columns.items()
    }
    known = {column: r for column, r in by_column.items() if r is not None}
    if not known:
        raise UserError("ranks need two methods that were judged in the same places")
    check_together(frame_of(records))
    return known


def _unfinished(found: Mapping[str, Scores], attempts: Mapping[str, Tried]) -> list[str]:
    """A line for each method that did not finish everywhere: its ranks are by the mean over what it finished."""
    lines = []
    for name, places in attempts.items():
        bound = {place: seeds for place, seeds in places.items() if any(seeds.values())} or places
        done = sum(found.get(name, {}).get(place, {}).keys() >= seeds.keys() for place, seeds in bound.items())
        if done < len(bound):
            lines.append(f"{name} finished in {done} of {len(bound)} places (distil and eval backbones); ranked by those")
    return lines


def _rank(found: Ranks, name: str) -> Value:
    return Value(found.ranks[name], n=found.blocks, attempts=found.blocks) if name in found.ranks else Value()


def _told(column: str, found: Ranks) -> list[str]:
    start = f"{column}: 1 is best, over {found.blocks} blocks (dataset, IPC, eval backbone)"
    if found.critical is None:
        lines = [f"{start}; too few for a critical difference, which needs {BLOCKS} and three methods"]
    else:
        lines = [f"{start}, Friedman p = {found.friedman_p:.2g}, critical difference {found.critical:.2f} (Nemenyi, 5 %)"]
        lines += [f"{column}: not told apart: {', '.join(clique)}" for clique in found.cliques()]
    return [*lines, *([f"{column}: without {', '.join(found.left_out)}, judged in fewer"] if found.left_out else [])]


def _columns(found: Mapping[str, Scores]) -> dict[str, tuple[str, bool | None]]:
    """Column names with their protocol and part; a protocol without eval backbones has one part."""
    protocols: dict[str, bool] = {}
    for places in found.values():
        for place in places:
            protocols[place[2]] = protocols.get(place[2], False) or place[4] is not None
    columns: dict[str, tuple[str, bool | None]] = {}
    for spec, judged in protocols.items():
        columns |= {f"{spec}{part}": (spec, own) for part, own in _PARTS.items()} if judged else {spec: (spec, None)}
    return columns


def _at(places: dict[Place, dict[int, V]], group: tuple) -> dict[Place, dict[int, V]]:
    return {place: by_seed for place, by_seed in places.items() if place[:2] == group}


def _ipc(ipc: int | None) -> str:
    return "all images" if ipc is None else f"IPC {ipc}"
