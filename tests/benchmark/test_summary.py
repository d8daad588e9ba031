"""The summary table: one row per method, every protocol beside the costs of distilling."""

import statistics

import pytest

from ddbench.benchmark import render
from ddbench.benchmark.tables import tables

from .fake_records import BACKBONES, grid, record


def by_method(records) -> dict[str, dict]:
    (table,) = tables(records, "summary")
    return {label[0]: dict(zip(table.columns, values, strict=True)) for label, values in table.rows}


def test_own_and_transfer_are_means_over_pairs_and_spreads_over_seeds():
    rows = by_method(grid(seeds=(0, 1)) + grid(seeds=(0, 1), protocol="knn", protocol_spec="knn"))
    own, transfer = rows["clpdd"]["ridge-probe own"], rows["clpdd"]["ridge-probe transfer"]
    assert own.mean == statistics.fmean(60.0 + column + seed for column in range(4) for seed in (0, 1))
    assert transfer.mean == statistics.fmean(50.0 + column + seed for column in range(4) for seed in (0, 1))
    assert own.std == transfer.std == pytest.approx(statistics.stdev([0, 1]))
    assert rows["clpdd"]["knn own"] == own


def test_sets_of_no_backbone_are_judged_on_each():
    rows = by_method(grid())
    assert list(rows) == ["random", "clpdd", "centroids", "full"], "floor first, ceiling last"
    assert rows["random"]["ridge-probe own"].mean == statistics.fmean(30.0 + column for column in range(4))
    assert rows["random"]["ridge-probe transfer"].mean is None
    assert rows["full"]["ridge-probe own"].mean == statistics.fmean(90.0 + column for column in range(4))


def test_each_set_costs_once_however_often_it_is_judged():
    slow = grid(methods=("clpdd",), backbones=BACKBONES[:1])
    fast = [
        r | {"distill_backbone": BACKBONES[1], "seconds": r["seconds"] | {"distill": 8.0}}
        for r in slow
        if r["method"] == "clpdd"
    ]
    again = [r | {"protocol": "knn", "protocol_spec": "knn", "config_hash": r["config_hash"] + "knn"} for r in slow]
    rows = by_method([*slow, *fast, *again])
    assert rows["clpdd"]["distil s"].mean == 6.0
    assert rows["clpdd"]["peak MiB"].mean == 100.0


def test_a_missing_pair_leaves_its_mean_empty_and_a_failed_one_does_not_count():
    records = [
        r for r in grid() if not (r["method"] == "clpdd" and r["distill_backbone"] == r["eval_backbone"] == BACKBONES[0])
    ]
    rows = by_method(records)
    assert rows["clpdd"]["ridge-probe own"].mean is None
    assert rows["clpdd"]["ridge-probe transfer"].mean == statistics.fmean(50.0 + column for column in range(4))


def test_a_protocol_without_a_backbone_has_one_column():
    parts = {"1% labels": [10.0, 12.0]}
    judged = record("mkdt", judge=None, parts=parts, top1=11.0, top1_per_seed=[10.0, 12.0], protocol="ssl", protocol_spec="ssl")
    (table,) = tables([judged], "summary")
    assert table.columns == ["ssl", "distil s", "peak MiB"]
    assert table.rows[0][1][0].mean == 11.0
    assert "| mkdt |" in render.markdown([table])
