"""What the tables share: the rows of a group of records, in reading order, and what stands around them."""

from collections.abc import Sequence
from typing import Any

import pandas as pd

from .value import MISSING, Column, Frame


def rows_of(group: Frame, means: bool = True) -> list[tuple[tuple[str, str], Frame]]:
    """Rows in reading order: sets of no backbone (the floor), then each method, its backbones by name, then the full data.

    `means` adds one row per method with its mean over distil backbones.
    """
    floor, middle, ceiling = [], [], []
    tops = ceilings(group)
    for method, of_method in group.groupby("method_spec", sort=False):
        parts = [((str(method), str(b)), part) for b, part in of_method.groupby("distill_backbone")]
        unbound = of_method[of_method["distill_backbone"].isna()]
        if len(unbound):
            label = (str(method), MISSING)
            (ceiling if label in tops else floor).append((label, unbound))
        middle += parts
        if means and len(parts) > 1:
            middle.append(((str(method), f"mean of {len(parts)}"), of_method[of_method["distill_backbone"].notna()]))
    return floor + middle + ceiling


def ceilings(group: Frame) -> set[tuple[str, str]]:
    """Labels of the rows that had every image: sets of no backbone and no IPC that are not empty."""
    whole = group[group["distill_backbone"].isna() & group["ipc"].isna() & (group["n_images"] != 0)]
    return {(str(method), MISSING) for method in whole["method_spec"].unique()}


def frame_of(records: Sequence[dict]) -> Frame:
    """A row per record, texts as Python strings: selecting rows of Arrow strings, pandas' own, takes six times as long."""
    with pd.option_context("future.infer_string", False):
        return pd.DataFrame(list(records))


def row_labels(group: Frame) -> Column:
    backbones = group["distill_backbone"].where(group["distill_backbone"].notna(), MISSING)
    return pd.Series(list(zip(group["method_spec"], backbones, strict=True)), index=group.index, dtype=object)


def one_per_set(group: Frame) -> Frame:
    """One row per distilled set: distilling is stored with each of its evaluations, and counts once; an ok one if any."""
    order = group.assign(_failed=group["status"] != "ok").sort_values("_failed", kind="stable")
    kept = order.drop_duplicates(["method_spec", "distill_backbone", "ipc", "distill_seed"])
    return kept.sort_index().drop(columns="_failed")


def nested(column: Column, key: str) -> Column:
    values = [value.get(key) if isinstance(value, dict) else getattr(value, key, None) for value in column]
    return pd.Series(values, index=column.index, dtype=float)


def grown_rss(sets: Frame) -> Column:
    """Bytes by which distilling made the resident set of the process grow."""
    return (nested(sets["peak_bytes"], "cpu_rss") - nested(sets["base_bytes"], "cpu_rss")).clip(lower=0)


def place_of(group: Frame) -> str:
    ipcs = group["ipc"].dropna().unique()
    return f"{group['dataset'].iloc[0]}, {f'IPC {int(ipcs[0])}' if len(ipcs) else 'all images'}"


def facts_of(group: Frame) -> dict[str, Any]:
    first, ipcs = group.iloc[0], group["ipc"].dropna().unique()
    protocols = sorted({(str(p), int(v)) for p, v in zip(group["protocol_spec"], group["protocol_version"], strict=True)})
    return {
        "dataset": first["dataset"],
        "ipc": int(ipcs[0]) if len(ipcs) else None,
        "protocols": [{"spec": spec, "version": version} for spec, version in protocols],
    }
