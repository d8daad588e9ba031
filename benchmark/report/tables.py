"""Tables from records: accuracy, seconds, peak memory. Rows are method and distil backbone.

A table never mixes protocol versions, record schemas or different data under one dataset name. A missing number is `—`, a
failed cell shows its status. Numbers are means over distillation seeds; the spread next to them is the sample standard
deviation over distillation seeds, or, where there is one such seed only, over probe seeds, and then marked with `*`.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

import pandas as pd

from ...core.errors import UserError
from ..records.own_and_transfer import with_partners
from .accuracy import accuracy, relative, with_groups, worst_group
from .conditions import conditions
from .names import display_names
from .rows import facts_of, frame_of, grown_rss, nested, one_per_set, place_of, row_labels, rows_of
from .summary import summary
from .value import Frame, Spread, Table, Value, count_text, plain_value

_CELL = ("method_spec", "distill_backbone", "ipc", "distill_seed", "protocol_spec", "eval_backbone")  # of one number
_APART = ("device", "precision", "distill_backbone_spec", "eval_backbone_spec", "judging_fingerprint", "params")


def tables(records: Sequence[dict], metric: str = "top1", protocol: str | None = None, spread: Spread = "std") -> list[Table]:
    """The tables of `metric`: per (dataset, IPC, protocol) for accuracies, per (dataset, IPC) for `seconds`, `memory`
    and `summary`.

    `protocol` keeps the evaluations of one protocol (name or spec); `spread` is what stands beside the means.
    Raises `UserError` where there is nothing to show, or where a table would mix what cannot be compared.
    """
    builders: dict[str, Callable[[Frame], Table]] = {
        "top1": accuracy,
        "worst_group": worst_group,
        "relative": relative,
        "seconds": speed,
        "memory": memory,
        "summary": summary,
    }
    if metric not in builders:
        raise UserError(f"unknown metric {metric!r}; choose one of {', '.join(builders)}")
    chosen = [r for r in with_partners(records) if protocol in (None, r["protocol"], r["protocol_spec"])]
    if not chosen:
        held = ", ".join(sorted({r["protocol_spec"] for r in records})) or "none at all"
        raise UserError(f"no records{f' under {protocol!r}' if protocol else ''}; there are: {held}")
    if metric == "worst_group":
        chosen = with_groups(chosen)
    frame = frame_of(chosen)
    keys = ["dataset"] if metric in ("seconds", "memory", "summary") else ["dataset", "protocol_spec"]
    built = []
    for _, group in frame.groupby(keys, sort=False):
        check_comparable(group)
        for ipc in sorted(group["ipc"].dropna().unique()) or [None]:
            # the full data has no IPC of its own: it is the ceiling of every one
            built.append(builders[metric](group[group["ipc"].isna() | (group["ipc"] == ipc)]))
    display = display_names(chosen)
    return [replace(table, spread=spread, display=display) for table in built]


# inside one folder, too, both states of the data have their records
_CHANGED = "the data changed between runs: show one state of it with --data and the start of its fingerprint"


def check_comparable(group: Frame) -> None:
    """Raise `UserError` if the records of one table were made under different rules or from different data."""
    for column, what, cure in (
        ("schema", "record schemas", "rerun the older ones"),
        ("dataset_fingerprint", f"different data under the name {group['dataset'].iloc[0]!r}", _CHANGED),
    ):
        found = sorted({str(value)[:12] for value in group[column].dropna()})
        if len(found) > 1:
            raise UserError(f"the records mix {what} ({', '.join(found)}); {cure}")
    check_versions(group)
    check_defaults(group)
    twice = group[group.duplicated(list(_CELL), keep=False)]
    for cell, rows in twice.groupby(list(_CELL), dropna=False, sort=False):
        apart = [name for name in _APART if name in rows and rows[name].astype(str).nunique() > 1]
        label = " · ".join(str(part) for part in cell if pd.notna(part))
        raise UserError(f"two records stand for {label}, apart in {' and '.join(apart) or 'code'}; give the folders one by one")


def check_versions(group: Frame) -> None:
    """Raise `UserError` if one protocol stands in several versions."""
    for spec, part in group.groupby("protocol_spec"):
        if len(versions := sorted(part["protocol_version"].unique())) > 1:
            listed = ", ".join(str(v) for v in versions)
            cure = "older and newer code share a folder: run it into another --out"
            raise UserError(f"the records mix versions {listed} of protocol {spec!r}; {cure}")


def check_defaults(group: Frame) -> None:
    """Raise `UserError` if one spec stands for several values of a parameter: its default changed between the records."""
    code = group["method_code"].astype(str) if "method_code" in group else pd.Series("", index=group.index)
    first = group.assign(_code=code).drop_duplicates(["method_spec", "_code"])  # one code has one set of defaults
    for spec, part in first.groupby("method_spec"):
        params = [params for params in part["params"] if isinstance(params, dict)]
        for key in sorted({key for each in params for key in each}):
            values = list(dict.fromkeys(str(each[key]) for each in params if key in each))
            if len(values) > 1:
                mixed = f"the records mix {spec} with {key} = {' and '.join(values)}"
                raise UserError(f"{mixed}: its default changed; give the folders one by one")


def check_together(frame: Frame) -> None:
    """`check_comparable` of several datasets whose numbers become one."""
    check_versions(frame)
    for _, group in frame.groupby("dataset", sort=False):
        check_comparable(group)


def speed(group: Frame) -> Table:
    """Seconds of distilling; of real features, cold and warm; of evaluating, per protocol; and steps per second."""
    sets = one_per_set(group)
    sets = sets.assign(
        distill=nested(sets["seconds"], "distill"),
        cold=sets["features_seconds_cold"].astype(float),
        warm=sets["features_seconds_warm"].astype(float),
        rate=sets["steps_per_second"].astype(float),
    )
    sets["total cold"] = sets["distill"] + sets["cold"]
    sets["total warm"] = sets["distill"] + sets["warm"]
    names = {"distill": "distil s", "cold": "features s", "total cold": "cold total s", "total warm": "warm total s"}
    protocols = list(dict.fromkeys(group["protocol_spec"]))
    evaluated = group.assign(evaluate=nested(group["seconds"], "evaluate"))

    def values(label: tuple[str, str], part: Frame) -> list[Value]:
        same = evaluated[row_labels(evaluated) == label]
        judged = [plain_value(same[same["protocol_spec"] == name]["evaluate"], same) for name in protocols]
        return [*(plain_value(part[key], part) for key in names), plain_value(part["rate"], part), *judged]

    rows = [(label, values(label, part)) for label, part in rows_of(sets, means=False)]
    caption = [
        "seconds per set: distil alone; real features when nothing is cached; both (cold) and with the features cached (warm)",
        "eval: mean seconds of one evaluation, without the features and students that later ones find stored",
        "steps/s after the first step; " + count_text(rows),
        *conditions(group, timed=True),
    ]
    columns = [*names.values(), "steps/s", *(f"eval s {name}" for name in protocols)]
    return Table(f"Speed: {place_of(group)}", caption, columns, rows, digits=2, facts=facts_of(group))


def memory(group: Frame) -> Table:
    """Peak memory while distilling: GPU allocated and reserved where there is one, and the process's resident set; apart from
    it, the peak while the real features that the method asks for are computed."""
    sets = one_per_set(group)
    gibi = 1 / 2**30
    cold = sets.get("features_peak_bytes", pd.Series(None, index=sets.index, dtype=object))  # not in older records
    sets = sets.assign(
        allocated=nested(sets["peak_bytes"], "gpu_allocated") * gibi,
        reserved=nested(sets["peak_bytes"], "gpu_reserved") * gibi,
        rss=nested(sets["peak_bytes"], "cpu_rss") * gibi,
        base=nested(sets["base_bytes"], "cpu_rss") * gibi,
        features=nested(cold, "cpu_rss") * gibi,
        features_gpu=nested(cold, "gpu_allocated") * gibi,
        grown=grown_rss(sets) * gibi,
    )
    names = {"rss": "process GiB", "base": "before distilling GiB", "grown": "by distilling GiB", "features": "features GiB"}
    if sets["allocated"].notna().any():
        on_gpu = {"allocated": "GPU allocated GiB", "reserved": "GPU reserved GiB", "features_gpu": "GPU features GiB"}
        names = {**on_gpu, **names}
    rows = [(label, [plain_value(part[key], part) for key in names]) for label, part in rows_of(sets, means=False)]
    caption = [
        "peak while distilling; process: resident set, of which `before distilling` holds the libraries, backbone and data",
        "features: peak of the process that computed the real features which the method asks for, when nothing was cached",
        count_text(rows),
        *conditions(group, timed=False),
    ]
    return Table(f"Peak memory: {place_of(group)}", caption, list(names.values()), rows, digits=2, facts=facts_of(group))
