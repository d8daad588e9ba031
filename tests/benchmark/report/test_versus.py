"""`ddbench table` with --versus, --metric ranks, --methods, --protocols, --columns, --spread."""

import json

import pytest

from ddbench.benchmark.cli import main
from ddbench.benchmark.report import render
from ddbench.benchmark.report.tables import tables
from ddbench.benchmark.report.value import Gap
from ddbench.benchmark.report.versus import ranks, versus
from ddbench.core.errors import UserError

from ..fake_records import BACKBONES, grid, record


@pytest.fixture
def run(tmp_path, capsys):
    """Prints a table of three seeds under two protocols."""
    records = [r for p in ("ridge-probe", "knn") for r in grid(seeds=(0, 1, 2), protocol=p, protocol_spec=p)]
    (tmp_path / "records.jsonl").write_text("".join(json.dumps(r) + "\n" for r in records))

    def table(*options, code=0):
        assert main(["table", str(tmp_path), *options]) == code
        printed = capsys.readouterr()
        return printed.out if code == 0 else printed.err

    return table


def test_versus_pairs_over_seeds_and_marks_what_excludes_zero():
    (table,) = versus(grid(seeds=(0, 1, 2)), "clpdd")
    rows = {label[0]: dict(zip(table.columns, values, strict=True)) for label, values in table.rows}
    gap = rows["centroids"]["ridge-probe own"]
    assert isinstance(gap, Gap)
    assert (gap.mean, gap.interval, gap.decided, gap.places, gap.better) == (-5.0, (-5.0, -5.0), True, 4, 0)
    assert gap.text() == "-5.0 [-5.0, -5.0]!"
    assert rows["full"]["ridge-probe own"].mean == pytest.approx(90 - 61)


def test_versus_of_one_seed_decides_nothing():
    (table,) = versus(grid(), "clpdd")
    assert not [value for _, values in table.rows for value in values if value.decided or "!" in value.text()]
    assert any("decides nothing" in line for line in table.caption)


def test_several_datasets_have_a_table_each_and_one_over_all():
    other = [
        {**r, "dataset": "other", "config_hash": r["config_hash"] + "o", "top1": r["top1"] - 10} for r in grid(seeds=(0, 1))
    ]
    built = versus([*grid(seeds=(0, 1)), *other], "clpdd")
    assert [table.title for table in built] == [
        "Versus clpdd: digits, IPC 1", "Versus clpdd: other, IPC 1", "Versus clpdd: over 2 datasets and IPCs",
    ]  # fmt: skip
    assert [value.mean for label, values in built[2].rows if label[0] == "centroids" for value in values] == [-5.0, -5.0]


def test_a_difference_says_what_failed_for_one_of_the_two():
    """The other mean leaves those places out too: without a word a method that fails where it is weak would look better."""
    records = grid(seeds=(0, 1, 2))
    for r in records:
        if (r["method"], r["distill_backbone"], r["eval_backbone"]) == ("centroids", BACKBONES[0], BACKBONES[0]):
            r |= {"status": "oom", "top1": None, "top1_per_seed": []}
    whole, (table,) = versus(grid(seeds=(0, 1, 2)), "clpdd")[0], versus(records, "clpdd")
    cells = {label[0]: dict(zip(table.columns, values, strict=True)) for label, values in table.rows}
    assert cells["centroids"]["ridge-probe own"].text() == "-5.0 [-5.0, -5.0]! (3 of 4 places)"
    assert cells["centroids"]["ridge-probe transfer"].text() == "-5.0 [-5.0, -5.0]!"
    assert "of 4 places" not in cells["random"]["ridge-probe own"].text(), "it has no backbone of its own to miss"
    assert any(line.startswith("(k of n places)") for line in table.caption)
    assert not any("(k of n places)" in line for line in whole.caption)
    lost = [
        r | {"status": "error", "top1": None} if r["distill_seed"] == 2 and r["method"] == "clpdd" else r
        for r in grid(seeds=(0, 1, 2))
    ]
    assert versus(lost, "clpdd")[0].rows[1][1][0].text() == "-5.0 [-5.0, -5.0]! (2 of 3 seeds)"
    assert any("centroids finished in 15 of 16 places" in line for line in ranks(records)[0].caption)


@pytest.mark.parametrize("build", [lambda records: versus(records, "clpdd"), ranks])
def test_what_cannot_stand_in_a_table_is_in_no_difference_and_no_rank(build):
    newer = [{**r, "protocol_version": 2} if r["method"] == "centroids" else r for r in grid()]
    with pytest.raises(UserError, match="mix versions 1, 2 of protocol 'ridge-probe'"):
        build(newer)
    elsewhere = [{**r, "dataset": "other", "config_hash": r["config_hash"] + "o", "protocol_version": 2} for r in grid()]
    with pytest.raises(UserError, match="mix versions 1, 2"):
        build([*grid(), *elsewhere])
    with pytest.raises(UserError, match="different data under the name 'digits'"):
        build([{**r, "dataset_fingerprint": "e" * 64} if r["method"] == "centroids" else r for r in grid()])
    noted = [{**r, "method_code": str(r["distill_backbone"]), "data_notes": ["3 images are in both splits"]} for r in grid()]
    below = " ".join(build(noted)[0].lines)
    assert "rows of method clpdd come from different code" in below
    assert "data: 3 images are in both splits" in below


def test_versus_nothing_is_one_line(run):
    assert "'sfm' is none of the methods there are" in run("--versus", "sfm", code=2)
    assert "leave --metric out" in run("--versus", "clpdd", "--metric", "seconds", code=2)
    with pytest.raises(UserError, match="only method"):
        versus([record()], "clpdd")


def test_names_of_the_suite_stand_for_their_methods():
    records = [{**r, "display": {"clpdd": "CLP-DD"}} for r in grid()]
    (table,) = versus(records, "CLP-DD")
    assert table.title.startswith("Versus CLP-DD: ")
    assert {label[1] for label, _ in table.rows} == {"minus CLP-DD"}
    assert "CLP-DD" in render.text(versus(records, "centroids"))


def test_ranks_say_over_how_many_blocks_and_what_is_not_told_apart():
    more = [{**r, "dataset": "other", "config_hash": r["config_hash"] + "o"} for r in grid()]
    (table,) = ranks([*grid(), *more])
    assert [label[0] for label, _ in table.rows] == ["clpdd", "centroids", "random"], "best first, ceilings aside"
    assert [values[0].mean for _, values in table.rows] == [1.0, 2.0, 3.0]
    assert any("over 8 blocks" in line and "critical difference 1.17" in line for line in table.caption)
    assert any("not told apart: clpdd, centroids" in line for line in table.caption)
    assert any("too few for a critical difference" in line for line in ranks(grid())[0].caption)


def test_rows_and_columns_are_selectable(run):
    text = run("--methods", "clpdd,full", "--protocols", "knn", "--columns", "own,transfer,seconds", "--format", "json")
    (table,) = json.loads(text)
    assert table["title"].startswith("Summary")
    assert table["columns"] == ["knn own", "knn transfer", "distil s"]
    assert [row["method"] for row in table["rows"]] == ["clpdd", "full"]
    assert "centroids" in run("--methods", "c*")
    assert "no records under method 'lgm'; there are: random, clpdd" in run("--methods", "lgm", code=2)
    assert "Summary: digits" in run("--datasets", "dig*", "--metric", "summary")
    assert "no records under dataset 'mnist'; there are: digits" in run("--datasets", "mnist", code=2)
    assert "no column 'steps'" in run("--columns", "steps", code=2)
    assert len(run("--methods", "full", "--format", "csv").splitlines()) == 1 + 2 * len(BACKBONES)


def test_intervals_take_the_place_of_the_std_and_the_caption_says_so(run):
    text = run("--spread", "ci", "--protocol", "knn", "--metric", "summary")
    assert "[60.0, 65.0]" in text  # 62.5 with a std of 1 over three seeds: 4.303 / sqrt(3)
    assert "[ ] 95 % interval of the mean over distillation seeds" in " ".join(text.split())
    assert "±" not in text


def test_notes_on_the_data_and_per_class_recall_stand_below():
    records = grid(data_notes=["3 train images are in the test split"], details={"mean_recall": 20.0})
    below = " ".join(tables(records)[0].lines)
    assert "data: 3 train images are in the test split" in below
    assert "mean per-class recall less top-1, points: random -11.5" in below
    noted = [{**r, "notes": ["the set lacks 2"] * (r["method"] == "clpdd") + ["the probe ..."]} for r in grid()]
    lines = tables(noted)[0].lines
    assert {"clpdd: the set lacks 2", "the probe ..."} <= set(lines)
    same = [{**r, "details": {"mean_recall": r["top1"]}} for r in grid()]
    assert "recall" not in render.text(tables(same)), "a balanced test split needs no word"
