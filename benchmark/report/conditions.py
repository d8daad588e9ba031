"""Under which conditions the records of a table were made: device, machines, and whether timed cells shared a device."""

from collections.abc import Iterator

import pandas as pd

from ..records.records import machine
from .value import Frame


def conditions(group: Frame, *, timed: bool) -> list[str]:
    """Caption lines: the device, and for timed tables what makes the seconds incomparable, if anything does."""
    group = group[group["status"] == "ok"]
    devices = ", ".join(sorted({str(device) for device in group["device"].dropna()}))
    noticed = group.get("data_notes", [])
    notes = dict.fromkeys(note for held in noticed if isinstance(held, (list, tuple)) for note in held)
    lines = [*(f"data: {note}" for note in notes), *judging_notes(group), f"device: {devices or 'unknown'}", *other_code(group)]
    if timed:
        then = group["distill_environment"] if "distill_environment" in group else [None] * len(group)
        # a set that was used again brings the seconds of the machine that distilled it
        machines = {machine(old if isinstance(old, dict) else new) for old, new in zip(then, group["environment"], strict=True)}
        if len(machines) > 1:
            lines.append(f"WARNING: {len(machines)} different machines or settings; their seconds are not comparable")
        if shared_device(group):
            lines.append("WARNING: cells ran at the same time on one device; their seconds are too long")
    return lines


def judging_notes(group: Frame) -> Iterator[str]:
    """What the numbers have to carry by their sets, methods and protocol, and which rows where it is not all of them."""
    if "notes" not in group:
        return
    held = group[["method_spec", "notes"]].explode("notes").dropna()
    for note, rows in held.groupby("notes", sort=False):
        specs = rows["method_spec"].unique()
        shown = ", ".join(specs[:_NAMED]) + f" and {len(specs) - _NAMED} more" * (len(specs) > _NAMED)
        yield f"{note}" if len(rows) == len(group) else f"{shown}: {note}"


_NAMED = 3  # rows that a note names


def other_code(group: Frame) -> list[str]:
    """A warning for each method or protocol whose rows were not all made by the same code; older records do not name theirs."""
    lines = []
    for kind in ("method", "protocol"):
        if (column := f"{kind}_code") not in group:
            continue
        for spec, part in group.groupby(f"{kind}_spec", sort=False):
            if len(codes := part[column].map(str, na_action="ignore").fillna("older code").unique()) > 1:
                lines.append(f"WARNING: rows of {kind} {spec} come from different code ({', '.join(codes)}); run it again")
    return lines


def shared_device(group: Frame) -> bool:
    """Whether two cells overlapped in time on one device of one machine, or one with another run, as its record says."""
    if "device_shared" in group and group["device_shared"].eq(True).any():
        return True
    spans = pd.DataFrame(
        {
            "place": [(*machine(env), str(device)) for env, device in zip(group["environment"], group["device"], strict=True)],
            "cell": group["cell_hash"].to_numpy(),
            "started": pd.to_datetime(group["started"], utc=True, format="ISO8601").dt.tz_convert(None).to_numpy(),
            "finished": pd.to_datetime(group["finished"], utc=True, format="ISO8601").dt.tz_convert(None).to_numpy(),
        }
    )
    return any(_overlap(_spans_of_cells(here)) for _, here in spans.groupby("place"))


def _spans_of_cells(spans: Frame) -> Frame:
    """The times in which each cell was at work, a row for each stretch: a cell may have run again days later."""
    ordered = spans.sort_values(["cell", "started"])
    until = ordered.groupby("cell")["finished"].cummax().groupby(ordered["cell"]).shift()
    stretch = (~(ordered["started"] <= until)).cumsum()
    return ordered.groupby(stretch).agg({"started": "min", "finished": "max"})


def _overlap(spans: Frame) -> bool:
    ordered = spans.sort_values("started")
    return bool((ordered["started"].iloc[1:].to_numpy() < ordered["finished"].cummax().iloc[:-1].to_numpy()).any())
