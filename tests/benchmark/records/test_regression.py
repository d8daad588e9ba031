"""The regression gate fails on what got worse, and on nothing else."""

import pytest

from ddbench.benchmark.records.regression import compare, pooled_spread
from ddbench.core.errors import UserError

from ..fake_records import grid, record


def changed(records: list[dict], index: int, **fields) -> list[dict]:
    return [{**r, **fields} if i == index else r for i, r in enumerate(records)]


def test_equal_runs_pass():
    result = compare(grid(), grid())
    assert not result.regressed
    assert result.cells == len(grid())


@pytest.mark.parametrize(("drop", "worse"), [(0.9, False), (1.1, True)])
def test_one_point_is_tolerated_without_spread(drop, worse):
    old = [record(top1=50.0)]
    assert compare(old, changed(old, 0, top1=50.0 - drop)).regressed is worse


@pytest.mark.parametrize(("drop", "worse"), [(5.9, False), (6.1, True)])
def test_three_pooled_seed_deviations_are_tolerated(drop, worse):
    old = [record(seed=seed, top1=50.0 + 2 * seed) for seed in (0, 1, 2)]  # std 2
    assert compare(old, changed(old, 0, top1=50.0 - drop)).regressed is worse


def test_the_spread_of_the_new_run_does_not_widen_the_tolerance():
    old = [record(top1=50.0, top1_per_seed=[50.0])]
    assert compare(old, changed(old, 0, top1=40.0, top1_per_seed=[0.0, 80.0])).regressed


def test_spread_is_pooled_over_backbones_and_falls_back_to_probe_seeds():
    two = [record(judge="a", top1_per_seed=[1.0, 3.0]), record(judge="b", top1_per_seed=[1.0, 1.0])]
    (spread,) = pooled_spread(two).values()
    assert spread == pytest.approx(1.0)  # variances 2 and 0


def test_better_is_reported_and_does_not_gate():
    old = [record(top1=50.0)]
    result = compare(old, changed(old, 0, top1=60.0))
    assert not result.regressed
    assert [d.kind for d in result.differences] == ["accuracy"]


def test_missing_and_failed_cells_gate():
    old = grid()
    assert compare(old, old[1:]).differences[0].kind == "missing"
    failed = compare(old, changed(old, 3, status="diverged", reason="loss is nan", top1=None))
    assert failed.regressed
    assert "loss is nan" in failed.differences[0].text


def test_another_protocol_version_is_named_as_the_cause():
    old = [record()]
    (difference,) = compare(old, changed(old, 0, protocol_version=2)).differences
    assert "version 2" in difference.text


def test_failures_of_the_reference_do_not_gate():
    old = [record(), record(seed=1, status="unsupported", top1=None)]
    assert not compare(old, old[:1]).regressed


def test_other_data_under_the_same_name_is_refused():
    old = [record()]
    with pytest.raises(UserError, match="other data"):
        compare(old, changed(old, 0, dataset_fingerprint="0" * 64))


def test_time_and_memory_gate_on_request_only():
    old = [record()]
    slow = changed(old, 0, seconds={"distill": 12.0}, peak_bytes={"cpu_rss": 10**10})
    assert not compare(old, slow).regressed
    assert any("median time ratio" in note and "3.00" in note for note in compare(old, slow).notes)
    assert [d.kind for d in compare(old, slow, time_ratio=2).differences] == ["time"]
    assert [d.kind for d in compare(old, slow, memory_ratio=2).differences] == ["memory"]
    assert not compare(old, slow, time_ratio=4).regressed


def test_many_missing_cells_are_one_line_and_still_gate(tmp_path, capsys):
    import json

    from ddbench.benchmark.cli import main

    for name, records in (("old", grid()), ("new", grid(methods=("lgm",)))):
        (tmp_path / name).mkdir()
        (tmp_path / name / "records.jsonl").write_text("".join(json.dumps(r) + "\n" for r in records))
    assert main(["compare", str(tmp_path / "old"), str(tmp_path / "new")]) == 1
    text = capsys.readouterr().out
    assert "WORSE   32 cells missing: it was not run (the first: " in text
    assert "ddbench table --versus METHOD" in text
    assert len(text.splitlines()) < 8
