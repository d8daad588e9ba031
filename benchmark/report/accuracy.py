"""Tables of accuracy: top-1, that of the worst group, and relative to a set of the eval backbone's own."""

import statistics
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

import pandas as pd

from ...core.errors import UserError
from ...core.registries import PROTOCOLS
from ..records.own_and_transfer import distillers, took_part
from .conditions import conditions
from .rows import ceilings, facts_of, frame_of, nested, place_of, rows_of
from .value import Frame, Row, Table, Value, mean_value


def with_groups(records: Sequence[dict]) -> list[dict]:
    """The records of datasets that have groups, failed ones included; `UserError` where there are none."""
    datasets = {r["dataset"] for r in records if "worst_group" in r["details"]}
    if not datasets:
        raise UserError("no record has worst-group accuracy; it needs a dataset with groups, for instance waterbirds")
    return [r for r in records if r["dataset"] in datasets]


def worst_group(group: Frame) -> Table:
    """The accuracy of the worst group of the test split in the place of top-1, as `accuracy` shows it."""
    worst = nested(group["details"], "worst_group")
    shown = group.assign(top1=worst, top1_per_seed=[[value] for value in worst])
    majority = nested(group["details"], "majority").max()
    note = f"always answering the most frequent class has a top-1 of {majority:.1f} %"
    return accuracy(shown, "Worst-group accuracy", "worst-group", note)


def accuracy(group: Frame, title: str | None = None, what: str | None = None, *notes: str) -> Table:
    """Top-1, or what the protocol measures, of every row on every eval backbone; `own` = same backbone, `transfer` = mean over
    the others.

    A protocol that uses no backbone has a column for each of its parts instead.
    """
    if group["eval_backbone"].isna().all():
        return _accuracy_by_part(group)
    backbones = sorted(group["eval_backbone"].dropna().unique())
    pairs = ["own", "transfer"] if group["distill_backbone"].notna().any() else []
    columns = [*backbones, *pairs, "mean"]

    def values(rows: Frame) -> list[Value]:
        distil = rows["distill_backbone"].dropna().unique()
        each = max(1, len(distil))
        cells = {name: mean_value(rows[rows["eval_backbone"] == name], each) for name in backbones}
        cells["own"], cells["transfer"] = own_and_transfer(rows, distil, backbones)
        cells["mean"] = mean_value(rows, each * len(backbones))
        return [cells[name] for name in columns]

    rows = [(label, values(part)) for label, part in rows_of(scored(group))]
    first = group.iloc[0]
    measured = measured_by(first["protocol"])
    caption = [
        f"{what or measured} % of protocol {first['protocol_spec']} version {first['protocol_version']}"
        + "; own: on backbones that distilled, transfer: mean over the others" * bool(pairs),
        *notes,
        *recall(group),
        *_off_label(group),
        *conditions(group, timed=False),
    ]
    title = title or ("Accuracy" if measured == "top-1" else measured.capitalize())
    return accuracy_table(f"{title}: {place_of(group)}, {first['protocol_spec']}", caption, columns, rows, group)


def accuracy_table(
    title: str, caption: list[str], columns: list[str], rows: list[Row], group: Frame, means: bool = False
) -> Table:
    """A table of means over seeds. Ceilings are neither best nor second, nor are means of rows beside those rows; `means`: all
    rows are such means."""
    several = {label for label, _ in rows if label[1].startswith("mean of") and not means}
    unranked = frozenset(several | ceilings(group))
    return Table(title, caption, columns, rows, facts=facts_of(group), unranked=unranked, sampled=True)


def measured_by(protocol: str) -> str:
    """What the numbers of a protocol are; a plugin that is not loaded reports accuracy."""
    return PROTOCOLS.constant(protocol, "measures") if protocol in PROTOCOLS.names() else "top-1"


def scored(group: Frame) -> Frame:
    """The columns that means are taken over: selecting rows of all columns is what takes the time of a table."""
    names = ("method_spec", "distill_backbone", "eval_backbone", "protocol_spec", "ipc", "n_images", "distill_seed", "status")
    return group[[*names, "top1", "top1_per_seed"]].astype(dict.fromkeys((*names[:4], "status"), object))


def own_and_transfer(rows: Frame, distil: Sequence[str], backbones: Sequence[str]) -> tuple[Value, Value]:
    """Means over the pairs where a backbone of `distil` judges its own sets, and over its other pairs with `backbones`.

    A mean that lacks the records of one of its pairs is empty.
    """
    bound = rows["distill_backbone"].notna()
    pairs = zip(rows["distill_backbone"], rows["eval_backbone"], strict=True)
    own = pd.Series([took_part(distil, judge) for distil, judge in pairs], rows.index, dtype=bool)
    owned = sum(name in backbones for names in distil for name in distillers(names))
    return mean_value(rows[own], owned), mean_value(rows[bound & ~own], len(distil) * len(backbones) - owned)


def relative(group: Frame) -> Table:
    """Top-1 as `relative_to_own` scales it: the normalised accuracy of LGM's table 6. Sets of no backbone, and columns without
    a set of their own, stay empty."""
    scaled = relative_to_own(group.to_dict("records"))
    if not scaled:
        raise UserError("no set was evaluated on the backbone that distilled it; there is nothing to be relative to")
    table = accuracy(frame_of(scaled))
    caption = ["in percent of the same method's top-1 with the eval backbone as distil backbone", *table.caption]
    return replace(table, title=table.title.replace("Accuracy", "Relative accuracy"), caption=caption)


def relative_to_own(records: Sequence[dict]) -> list[dict]:
    """The records of distilled sets with top-1 as a percentage of what the same method reaches when it distils with the eval
    backbone itself; those without such a set, or where it reaches nothing, are left out."""
    own = defaultdict(list)
    for r in records:
        if r["status"] == "ok" and took_part(r["distill_backbone"], r["eval_backbone"]):
            own[_column(r)].append(r["top1"])
    factors = {column: 100 / statistics.fmean(tops) for column, tops in own.items() if any(tops)}
    return [
        {**r, "top1": r["top1"] and r["top1"] * by, "top1_per_seed": [top1 * by for top1 in r["top1_per_seed"]]}
        for r in records
        if r["distill_backbone"] is not None and (by := factors.get(_column(r)))
    ]


def _column(record: dict) -> tuple:
    """Where accuracies of one method are relative to one another."""
    return tuple(record[key] for key in ("method_spec", "dataset", "ipc", "protocol_spec", "eval_backbone"))


def _accuracy_by_part(group: Frame) -> Table:
    names = list(dict.fromkeys(name for parts in group["parts"] for name in parts)) or ["top1"]
    parts = {name: of_part(group, name) for name in names}

    def values(rows: Frame) -> list[Value]:
        each = max(1, rows["distill_backbone"].nunique())
        return [mean_value(part.loc[rows.index], each) for part in parts.values()]

    rows = [(label, values(part)) for label, part in rows_of(group)]
    first = group.iloc[0]
    caption = [
        f"top-1 % of protocol {first['protocol_spec']} version {first['protocol_version']}",
        *conditions(group, timed=False),
    ]
    return accuracy_table(f"Accuracy: {place_of(group)}, {first['protocol_spec']}", caption, names, rows, group)


def of_part(group: Frame, name: str) -> Frame:
    """The records with the accuracy of one part in the place of the whole."""
    scores = [list(parts.get(name, [])) for parts in group["parts"]]
    means = [statistics.fmean(values) if values else None for values in scores]
    return group.assign(top1=pd.Series(means, group.index, dtype=float), top1_per_seed=scores)


def recall(group: Frame, least: float = 0.1) -> list[str]:
    """Caption line with mean per-class recall, where it is `least` points from top-1: test splits that are not balanced."""
    told = group[(group["status"] == "ok") & nested(group["details"], "mean_recall").notna()]
    if told.empty:
        return []
    gaps = nested(told["details"], "mean_recall") - told["top1"]
    if gaps.abs().max() < least:
        return []
    each = gaps.groupby(told["method_spec"], sort=False).mean()
    return ["mean per-class recall less top-1, points: " + ", ".join(f"{method} {gap:+.1f}" for method, gap in each.items())]


def _off_label(group: Frame) -> list[str]:
    """Caption line that names the sets whose labels their method does not read, if there are any."""
    if "labels_of" not in group:
        return []
    return [
        f"off-label use, labels are those of the {of}, which the method never read: {', '.join(rows['method_spec'].unique())}"
        for of, rows in group.groupby("labels_of", sort=False)
    ]
