"""Tables from records: accuracy, seconds, peak memory. Rows are method and distil backbone.

A table never mixes protocol versions, record schemas or different data under one dataset name. A missing number is `—`, a
failed cell shows its status. Numbers are means over distillation seeds; the spread next to them is the sample standard
deviation over distillation seeds, or, where there is one such seed only, over probe seeds, and then marked with `*`.
"""

import statistics
from collections.abc import Callable, Sequence
from typing import Any

import pandas as pd

from ..core.errors import UserError
from .provenance import conditions
from .values import MISSING, Column, Frame, Table, Value, count_text, mean_value, plain_value, spread_text


def tables(records: Sequence[dict], metric: str = "top1", protocol: str | None = None) -> list[Table]:
    """The tables of `metric`: one per (dataset, IPC, protocol) for `top1`, one per (dataset, IPC) for `seconds` and `memory`.

    `protocol` keeps the evaluations of one protocol (name or spec). Raises `UserError` where there is nothing to show, or
    where a table would mix what cannot be compared.
    """
    builders: dict[str, Callable[[Frame], Table]] = {"top1": accuracy, "seconds": speed, "memory": memory}
    if metric not in builders:
        raise UserError(f"unknown metric {metric!r}; choose one of {', '.join(builders)}")
    chosen = [r for r in records if protocol in (None, r["protocol"], r["protocol_spec"])]
    if not chosen:
        held = ", ".join(sorted({r["protocol_spec"] for r in records})) or "none at all"
        raise UserError(f"no records{f' under {protocol!r}' if protocol else ''}; there are: {held}")
    frame: Frame = pd.DataFrame(chosen)
    keys = ["dataset", "protocol_spec"] if metric == "top1" else ["dataset"]
    built = []
    for _, group in frame.groupby(keys, sort=False):
        check_comparable(group)
        for ipc in sorted(group["ipc"].dropna().unique()) or [None]:
            # the full data has no IPC of its own: it is the ceiling of every one
            built.append(builders[metric](group[group["ipc"].isna() | (group["ipc"] == ipc)]))
    return built


def check_comparable(group: Frame) -> None:
    """Raise `UserError` if the records of one table were made under different rules or from different data."""
    for column, what, cure in (
        ("schema", "record schemas", "rerun the older ones"),
        ("dataset_fingerprint", f"different data under the name {group['dataset'].iloc[0]!r}", "give the folders one by one"),
    ):
        found = sorted({str(value)[:12] for value in group[column].dropna()})
        if len(found) > 1:
            raise UserError(f"the records mix {what} ({', '.join(found)}); {cure}")
    for spec, versions in group.groupby("protocol_spec")["protocol_version"].unique().items():
        if len(versions) > 1:
            listed = ", ".join(str(v) for v in sorted(versions))
            raise UserError(f"the records mix versions {listed} of protocol {spec!r}; rerun the older ones")


def accuracy(group: Frame) -> Table:
    """Top-1 of every row on every eval backbone; `own` = same backbone, `transfer` = mean over the others.

    A protocol that uses no backbone has a column for each of its parts instead.
    """
    if group["eval_backbone"].isna().all():
        return _accuracy_by_part(group)
    backbones = list(dict.fromkeys(group["eval_backbone"]))
    columns = [*backbones, *(["own", "transfer"] if group["distill_backbone"].notna().any() else []), "mean"]

    def values(rows: Frame) -> list[Value]:
        distil = rows["distill_backbone"].dropna().unique()
        own, bound = rows["distill_backbone"] == rows["eval_backbone"], rows["distill_backbone"].notna()
        each, owned = max(1, len(distil)), sum(name in backbones for name in distil)
        cells = {name: mean_value(rows[rows["eval_backbone"] == name], each) for name in backbones}
        cells["own"] = mean_value(rows[own], owned)
        cells["transfer"] = mean_value(rows[bound & ~own], len(distil) * len(backbones) - owned)
        cells["mean"] = mean_value(rows, each * len(backbones))
        return [cells[name] for name in columns]

    rows = [(label, values(part)) for label, part in _rows(group)]
    first = group.iloc[0]
    caption = [
        f"top-1 % of protocol {first['protocol_spec']} version {first['protocol_version']}; "
        "own: distil = eval backbone, transfer: mean over the others",
        spread_text(rows),
        *_off_label(group),
        *conditions(group, timed=False),
    ]
    return Table(f"Accuracy: {_where(group)}, {first['protocol_spec']}", caption, columns, rows, facts=_facts(group))


def _accuracy_by_part(group: Frame) -> Table:
    names = list(dict.fromkeys(name for parts in group["parts"] for name in parts)) or ["top1"]
    parts = {name: _of_part(group, name) for name in names}

    def values(rows: Frame) -> list[Value]:
        each = max(1, rows["distill_backbone"].nunique())
        return [mean_value(part.loc[rows.index], each) for part in parts.values()]

    rows = [(label, values(part)) for label, part in _rows(group)]
    first = group.iloc[0]
    caption = [
        f"top-1 % of protocol {first['protocol_spec']} version {first['protocol_version']}",
        spread_text(rows),
        *conditions(group, timed=False),
    ]
    return Table(f"Accuracy: {_where(group)}, {first['protocol_spec']}", caption, names, rows, facts=_facts(group))


def _of_part(group: Frame, name: str) -> Frame:
    """The records with the accuracy of one part in the place of the whole."""
    scores = [list(parts.get(name, [])) for parts in group["parts"]]
    means = [statistics.fmean(values) if values else None for values in scores]
    return group.assign(top1=pd.Series(means, group.index, dtype=float), top1_per_seed=scores)


def _off_label(group: Frame) -> list[str]:
    """Caption line that names the sets whose labels their method does not read, if there are any."""
    if "labels_of" not in group:
        return []
    return [
        f"off-label use, labels are those of the {of}, which the method never read: {', '.join(rows['method_spec'].unique())}"
        for of, rows in group.groupby("labels_of", sort=False)
    ]


def speed(group: Frame) -> Table:
    """Seconds of distilling; of real features, cold and warm; of evaluating, per protocol; and steps per second."""
    sets = _per_set(group)
    sets = sets.assign(
        distill=_nested(sets["seconds"], "distill"),
        cold=sets["features_seconds_cold"].astype(float),
        warm=sets["features_seconds_warm"].astype(float),
        rate=sets["steps_per_second"].astype(float),
    )
    sets["total cold"] = sets["distill"] + sets["cold"]
    sets["total warm"] = sets["distill"] + sets["warm"]
    names = {"distill": "distil s", "cold": "features s", "total cold": "cold total s", "total warm": "warm total s"}
    protocols = list(dict.fromkeys(group["protocol_spec"]))
    evaluated = group.assign(evaluate=_nested(group["seconds"], "evaluate"))

    def values(label: tuple[str, str], part: Frame) -> list[Value]:
        same = evaluated[_labels(evaluated) == label]
        judged = [plain_value(same[same["protocol_spec"] == name]["evaluate"], same) for name in protocols]
        return [*(plain_value(part[key], part) for key in names), plain_value(part["rate"], part), *judged]

    rows = [(label, values(label, part)) for label, part in _rows(sets, means=False)]
    caption = [
        "seconds per set: distil alone; real features when nothing is cached; both (cold) and with the features cached (warm)",
        "eval: mean seconds of one evaluation; steps/s after the first step; " + count_text(rows),
        *conditions(group, timed=True),
    ]
    columns = [*names.values(), "steps/s", *(f"eval s {name}" for name in protocols)]
    return Table(f"Speed: {_where(group)}", caption, columns, rows, digits=2, facts=_facts(group))


def memory(group: Frame) -> Table:
    """Peak memory while distilling: GPU allocated and reserved where there is one, and the process's resident set."""
    sets = _per_set(group)
    gibi = 1 / 2**30
    sets = sets.assign(
        allocated=_nested(sets["peak_bytes"], "gpu_allocated") * gibi,
        reserved=_nested(sets["peak_bytes"], "gpu_reserved") * gibi,
        rss=_nested(sets["peak_bytes"], "cpu_rss") * gibi,
        base=_nested(sets["base_bytes"], "cpu_rss") * gibi,
    )
    sets["grown"] = (sets["rss"] - sets["base"]).clip(lower=0)
    names = {"rss": "process GiB", "base": "before distilling GiB", "grown": "by distilling GiB"}
    if sets["allocated"].notna().any():
        names = {"allocated": "GPU allocated GiB", "reserved": "GPU reserved GiB", **names}
    rows = [(label, [plain_value(part[key], part) for key in names]) for label, part in _rows(sets, means=False)]
    caption = [
        "peak while distilling; process: resident set, of which `before distilling` holds the libraries, backbone and data",
        count_text(rows),
        *conditions(group, timed=False),
    ]
    return Table(f"Peak memory: {_where(group)}", caption, list(names.values()), rows, digits=2, facts=_facts(group))


def _rows(group: Frame, means: bool = True) -> list[tuple[tuple[str, str], Frame]]:
    """Rows in reading order: sets of no backbone (the floor), then each method, then the full data (the ceiling).

    `means` adds one row per method with its mean over distil backbones.
    """
    floor, middle, ceiling = [], [], []
    for method, of_method in group.groupby("method_spec", sort=False):
        parts = [((str(method), str(b)), part) for b, part in of_method.groupby("distill_backbone", sort=False)]
        unbound = of_method[of_method["distill_backbone"].isna()]
        if len(unbound):
            whole = unbound["ipc"].isna().all() and not (unbound["n_images"] == 0).all()  # the empty set has no IPC either
            (ceiling if whole else floor).append(((str(method), MISSING), unbound))
        middle += parts
        if means and len(parts) > 1:
            middle.append(((str(method), f"mean of {len(parts)}"), of_method[of_method["distill_backbone"].notna()]))
    return floor + middle + ceiling


def _labels(group: Frame) -> Column:
    backbones = group["distill_backbone"].where(group["distill_backbone"].notna(), MISSING)
    return pd.Series(list(zip(group["method_spec"], backbones, strict=True)), index=group.index, dtype=object)


def _per_set(group: Frame) -> Frame:
    """One row per distilled set: distilling is stored with each of its evaluations, and counts once; an ok one if any."""
    order = group.assign(_failed=group["status"] != "ok").sort_values("_failed", kind="stable")
    kept = order.drop_duplicates(["method_spec", "distill_backbone", "ipc", "distill_seed"])
    return kept.sort_index().drop(columns="_failed")


def _nested(column: Column, key: str) -> Column:
    values = [value.get(key) if isinstance(value, dict) else None for value in column]
    return pd.Series(values, index=column.index, dtype=float)


def _where(group: Frame) -> str:
    ipcs = group["ipc"].dropna().unique()
    return f"{group['dataset'].iloc[0]}, {f'IPC {int(ipcs[0])}' if len(ipcs) else 'all images'}"


def _facts(group: Frame) -> dict[str, Any]:
    first, ipcs = group.iloc[0], group["ipc"].dropna().unique()
    protocols = sorted({(str(p), int(v)) for p, v in zip(group["protocol_spec"], group["protocol_version"], strict=True)})
    return {
        "dataset": first["dataset"],
        "ipc": int(ipcs[0]) if len(ipcs) else None,
        "protocols": [{"spec": spec, "version": version} for spec, version in protocols],
    }
