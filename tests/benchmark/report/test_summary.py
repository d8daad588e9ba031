"""The summary table: one row per method, every protocol beside the costs of distilling."""

import statistics

import pytest

from ddbench.benchmark.report import render
from ddbench.benchmark.report.tables import tables

from ..fake_records import BACKBONES, grid, record


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


def lacking(records, distil, judge, protocol="ridge-probe"):
    gone = ("clpdd", distil, judge, protocol)
    return [r for r in records if (r["method"], r["distill_backbone"], r["eval_backbone"], r["protocol_spec"]) != gone]


def test_a_missing_or_failed_pair_leaves_its_mean_empty():
    rows = by_method(lacking(grid(), BACKBONES[0], BACKBONES[0]))
    assert rows["clpdd"]["ridge-probe own"].mean is None
    assert rows["clpdd"]["ridge-probe transfer"].mean == statistics.fmean(50.0 + column for column in range(4))
    failed = record("clpdd", BACKBONES[0], BACKBONES[0], top1=None, top1_per_seed=[], status="oom")
    assert by_method([*lacking(grid(), BACKBONES[0], BACKBONES[0]), failed])["clpdd"]["ridge-probe own"].mean is None


def test_a_distil_backbone_that_one_protocol_lacks_leaves_the_means_of_that_protocol_empty():
    records = grid() + grid(protocol="knn", protocol_spec="knn")
    for judge in BACKBONES:
        records = lacking(records, BACKBONES[0], judge, "knn")
    rows = by_method(records)
    assert rows["clpdd"]["ridge-probe own"].mean is not None
    assert rows["clpdd"]["knn own"].mean is rows["clpdd"]["knn transfer"].mean is None


def test_on_a_gpu_the_memory_is_that_of_the_gpu():
    peaks = {"gpu_allocated": 7 * 2**20, "gpu_reserved": 9 * 2**20, "cpu_rss": 10**9}
    assert by_method(grid(peak_bytes=peaks))["clpdd"]["peak MiB"].mean == 7.0


def test_a_protocol_without_a_backbone_has_one_column():
    parts = {"1% labels": [10.0, 12.0]}
    judged = record("mkdt", judge=None, parts=parts, top1=11.0, top1_per_seed=[10.0, 12.0], protocol="ssl", protocol_spec="ssl")
    (table,) = tables([judged], "summary")
    assert table.columns == ["ssl", "distil s", "peak MiB"]
    assert table.rows[0][1][0].mean == 11.0
    assert "| mkdt |" in render.markdown([table])
