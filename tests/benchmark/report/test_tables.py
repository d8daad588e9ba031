"""Tables state what they average, never mix what cannot be compared, and show failures as such."""

import json
from pathlib import Path

import pandas as pd
import pytest

from ddbench.benchmark.cli import main
from ddbench.benchmark.report import render
from ddbench.benchmark.report.tables import tables
from ddbench.benchmark.report.value import Value
from ddbench.core.errors import UserError

from ..fake_records import BACKBONES, grid, record


def cell(table, method, backbone, column) -> Value:
    values = dict(table.rows)[(method, backbone)]
    return values[table.columns.index(column)]


def test_accuracy_has_own_transfer_and_mean_columns():
    (table,) = tables(grid())
    assert table.columns == [*sorted(BACKBONES), "own", "transfer", "mean"]
    assert cell(table, "clpdd", BACKBONES[1], "own").mean == 61.0
    assert cell(table, "clpdd", BACKBONES[1], "transfer").mean == pytest.approx((50 + 52 + 53) / 3)
    assert cell(table, "clpdd", BACKBONES[1], "mean").mean == pytest.approx((50 + 61 + 52 + 53) / 4)


def pretrained(method, distil="mini_resnet_dino", parts=None, **changes):
    """A record of a protocol that uses no backbone."""
    parts = {"1% labels": [10.0, 12.0], "5% labels": [20.0, 26.0]} if parts is None else parts
    top1 = next(iter(parts.values()))[0] if parts else None
    return record(method, distil, None, parts=parts, top1=top1, protocol="ssl", protocol_spec="ssl", **changes)


def test_a_protocol_without_a_backbone_has_a_column_for_each_part():
    (table,) = tables([pretrained("mkdt"), pretrained("krrst", parts={}, status="oom", top1_per_seed=[])])
    assert table.columns == ["1% labels", "5% labels"]
    assert cell(table, "mkdt", "mini_resnet_dino", "5% labels").text() == "23.0 ± 4.2*"
    assert cell(table, "krrst", "mini_resnet_dino", "1% labels").text() == "oom"
    assert "5% labels" in render.markdown([table])


def test_parts_are_averaged_over_distillation_seeds():
    (table,) = tables([pretrained("mkdt", seed=s, parts={"1% labels": [10.0 + s, 12.0 + s]}) for s in (0, 2, 4)])
    value = cell(table, "mkdt", "mini_resnet_dino", "1% labels")
    assert (value.mean, value.std, value.over, value.n) == (13.0, 2.0, "distillation seeds", 3)


def test_a_table_where_every_cell_failed_has_one_column():
    (table,) = tables([pretrained("mkdt", parts={}, status="oom", top1_per_seed=[])])
    assert table.columns == ["top1"]


def test_the_empty_set_is_the_floor_and_stands_in_every_ipc():
    records = [pretrained("mkdt", ipc=1), pretrained("mkdt", ipc=10), pretrained("untrained", None, ipc=None, n_images=0)]
    for table in tables(records):
        assert [label for label, _ in table.rows] == [("untrained", "—"), ("mkdt", "mini_resnet_dino")]


def test_off_label_use_is_named_under_probes_that_read_labels():
    marked = [record("mkdt", labels_of="initial images"), record("clpdd", labels_of=None)]
    (table,) = tables(marked)
    assert [line for line in table.caption if "off-label" in line] == [
        "off-label use, labels are those of the initial images, which the method never read: mkdt"
    ]
    assert not [line for line in tables(grid())[0].caption if "off-label" in line]
    assert not [line for line in tables([pretrained("mkdt", labels_of="initial images")])[0].caption if "off-label" in line]


def test_the_row_of_means_averages_over_distil_backbones():
    (table,) = tables(grid())
    assert cell(table, "clpdd", "mean of 4", "own").mean == pytest.approx(60 + 1.5)
    assert cell(table, "clpdd", "mean of 4", "mean").mean == pytest.approx(50 + 1.5 + 2.5)


def test_floor_comes_first_and_ceiling_last_in_every_ipc():
    both = tables([*grid(), record("clpdd", ipc=10, top1=70.0)])
    assert [table.facts["ipc"] for table in both] == [1, 10]
    assert both[0].rows[0][0] == ("random", "—")
    assert [table.rows[-1][0] for table in both] == [("full", "—"), ("full", "—")]


def test_spread_over_distillation_seeds_is_kept_apart_from_probe_seeds():
    (table,) = tables(grid(seeds=(0, 1, 2)))
    value = cell(table, "clpdd", BACKBONES[0], BACKBONES[0])
    assert (value.mean, value.std, value.n, value.over) == (61.0, 1.0, 3, "distillation seeds")
    assert value.text() == "61.0 ± 1.0"
    assert any("n = 1 to 3 distillation seeds; ± sample std over distillation seeds" in line for line in table.lines)


def test_one_seed_shows_the_spread_of_its_probes_and_says_so():
    (table,) = tables([record(top1=50.0, top1_per_seed=[49.0, 50.0, 51.0])])
    assert table.rows[0][1][0].text() == "50.0 ± 1.0*"
    assert any("± sample std* over 3 probe seeds of one distillation seed" in line for line in table.lines)


def test_missing_is_a_dash_and_failure_shows_its_status():
    records = [r for r in grid() if not (r["method"] == "clpdd" and r["eval_backbone"] == BACKBONES[3])]
    records.append(record(judge=BACKBONES[3], top1=None, top1_per_seed=[], status="oom", reason="out of memory"))
    (table,) = tables(records)
    assert cell(table, "clpdd", BACKBONES[0], BACKBONES[3]).text() == "oom"
    assert cell(table, "clpdd", BACKBONES[1], BACKBONES[3]).text() == "—"
    assert cell(table, "clpdd", BACKBONES[1], "mean").text() == "—"  # a mean over fewer backbones would flatter


def test_a_seed_that_failed_is_counted():
    records = [record(seed=0, top1=50.0), record(seed=1, top1=52.0), record(seed=2, top1=None, status="timeout")]
    assert tables(records)[0].rows[0][1][0].text() == "51.0 ± 1.4 (2/3)"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"protocol_version": 2}, "versions 1, 2 of protocol 'ridge-probe'"),
        ({"schema": 2}, "record schemas"),
        ({"dataset_fingerprint": "0" * 64}, "different data under the name 'digits'"),
    ],
)
def test_what_cannot_be_compared_is_never_mixed(change, message):
    with pytest.raises(UserError, match=message):
        tables([record(), record(seed=1, **change)])


def test_one_state_of_data_that_changed_within_a_folder_can_be_shown(tmp_path, capsys):
    lines = [json.dumps(record(top1=50.0)), json.dumps(record(seed=1, top1=70.0, dataset_fingerprint="0" * 64))]
    (tmp_path / "records.jsonl").write_text("\n".join(lines) + "\n")
    assert main(["table", str(tmp_path)]) == 2
    assert "show one state of it with --data" in capsys.readouterr().err
    assert main(["table", str(tmp_path), "--data", "0000"]) == 0
    shown = capsys.readouterr().out
    assert "70.0" in shown
    assert "50.0" not in shown
    assert main(["table", str(tmp_path), "--data", "abc"]) == 2


@pytest.mark.parametrize("kind", ["method", "protocol"])
def test_rows_of_different_code_say_so(kind):
    spec = {"method": "clpdd", "protocol": "ridge-probe"}[kind]
    one, other = record(**{f"{kind}_code": "aa"}), record(seed=1, **{f"{kind}_code": "bb"})
    (table,) = tables([one, other])
    assert f"WARNING: rows of {kind} {spec} come from different code (aa, bb); run it again" in table.caption
    assert not any("different code" in line for line in tables([one, {**other, f"{kind}_code": "aa"}])[0].caption)
    older = tables([one, record(seed=1, **{f"{kind}_code": None})])[0]  # of a version that did not tell
    assert any("different code (aa, older code)" in line for line in older.caption)


@pytest.mark.parametrize(
    ("change", "what"),
    [({"device": "cuda:0", "precision": "bfloat16"}, "device and precision"), ({"params": {"tau": 1}}, "params")],
)
def test_two_records_of_one_cell_are_never_averaged(change, what):
    """As after a run on another device, or with other weights, into the same folder."""
    with pytest.raises(UserError, match=f"two records stand for .* apart in {what}; give the folders one by one"):
        tables([record(), record(**change)])


def test_an_unknown_protocol_names_those_there_are():
    with pytest.raises(UserError, match="there are: ridge-probe"):
        tables(grid(), protocol="knn")


def test_relative_accuracy_is_100_on_the_diagonal_and_scales_each_column_by_it():
    """LGM's table 6: nearest-neighbour accuracy normalised by that of the eval backbone's own set."""
    (table,) = tables(grid(("clpdd",)), "relative")
    own, other = BACKBONES[0], BACKBONES[1]
    assert cell(table, "clpdd", own, own).mean == pytest.approx(100)
    assert cell(table, "clpdd", other, own).mean == pytest.approx(100 * 50 / 60)
    assert "random" not in {method for (method, _), _ in table.rows}
    with pytest.raises(UserError, match="nothing to be relative to"):
        tables([record("random", None)], "relative")


def test_speed_adds_cold_and_warm_features_to_distilling_and_counts_a_set_once():
    table = tables(grid(seeds=(0, 1)), "seconds")[0]
    value = cell(table, "clpdd", BACKBONES[0], "cold total s")
    assert (value.mean, value.n) == (4.5, 2)
    assert cell(table, "clpdd", BACKBONES[0], "warm total s").mean == pytest.approx(4.01)
    assert cell(table, "clpdd", BACKBONES[0], "eval s ridge-probe").mean == 0.25


def test_speed_warns_of_shared_devices_and_of_several_machines():
    apart = grid()
    assert not any("WARNING" in line for line in tables(apart, "seconds")[0].caption)
    times = {"started": "2026-01-01T00:00:00+00:00", "finished": "2026-01-01T01:00:00+00:00"}
    assert any("at the same time" in line for line in tables([{**r, **times} for r in apart], "seconds")[0].caption)
    other = [*apart, record(seed=5, environment={"cpu": "Other CPU"})]
    assert any("2 different machines" in line for line in tables(other, "seconds")[0].caption)


def test_memory_shows_gpu_columns_only_where_there_is_a_gpu():
    gibi = 2**30
    on_cpu = ["process GiB", "before distilling GiB", "by distilling GiB", "features GiB"]
    assert tables(grid(), "memory")[0].columns == on_cpu
    on_gpu = record(peak_bytes={"gpu_allocated": gibi, "gpu_reserved": 2 * gibi, "cpu_rss": 4 * gibi})
    (table,) = tables([on_gpu], "memory")
    assert [value.mean for value in table.rows[0][1][:2]] == [1.0, 2.0]


def test_memory_shows_the_peak_of_computing_features_for_methods_that_use_them():
    cold = {"gpu_allocated": None, "gpu_reserved": None, "cpu_rss": 3 * 2**30}
    (table,) = tables([record("random", None), record("centroids", features_peak_bytes=cold)], "memory")
    assert [row[1][3].text(2) for row in table.rows] == ["—", "3.00"]


def test_a_run_beside_another_one_is_warned_of():
    """The other run's cells are not in these records; the record itself says that there was one."""
    alone, shared = (tables([record(device_shared=told)], "seconds")[0].caption for told in (False, True))
    assert [any("at the same time" in line for line in caption) for caption in (alone, shared)] == [False, True]


@pytest.mark.parametrize("metric", ["top1", "seconds", "memory"])
def test_text_fits_100_columns(metric):
    records = grid(("clpdd[outer=mse,tau=0.05]", "centroids"), seeds=(0, 1, 2))
    text = render.text(tables(records, metric))
    assert max(map(len, text.splitlines())) <= 100
    assert "[outer=mse," in text  # brackets are not markup


def test_text_calls_long_backbone_specs_by_their_model_and_says_so_below():
    long = ("timm[model=vit_tiny_patch16_224,weights=a.safetensors]", "timm[model=resnet18]")
    text = render.text(tables(grid(backbones=long)))
    assert f"vit_tiny_patch16_224 = {long[0]}" in text
    assert text.count(long[0]) == 1


def test_markdown_latex_and_json_hold_the_same_numbers():
    built = tables(grid(seeds=(0, 1)))
    first = built[0].columns.index(BACKBONES[0])
    row = next(line for line in render.markdown(built).splitlines() if line.startswith("| clpdd | mini_vit_dino |"))
    assert row.split(" | ")[2 + first] == "50.5 ± 0.7"
    row = next(line for line in render.latex(built).splitlines() if line.strip().startswith(r"clpdd & mini\_vit\_dino &"))
    assert row.split(" & ")[2 + first] == r"50.5 $\pm$ 0.7"
    parsed = json.loads(render.as_json(built))[0]
    row = next(r for r in parsed["rows"] if r["method"] == "clpdd" and r["distill_backbone"] == "mini_vit_dino")
    assert row["cells"][BACKBONES[0]] == {
        "mean": 50.5, "std": pytest.approx(0.7071, abs=1e-4), "over": "distillation seeds", "n": 2, "probes": 1,
        "status": None, "attempts": 2, "interval": pytest.approx([44.147, 56.853], abs=1e-3),
    }  # fmt: skip
    assert parsed["protocols"] == [{"spec": "ridge-probe", "version": 1}]


def test_csv_has_one_row_per_record():
    lines = render.csv(grid()).splitlines()
    assert len(lines) == 1 + len(grid())
    assert "seconds.distill" in lines[0]


def test_a_set_that_was_used_again_counts_for_the_machine_that_distilled_it():
    """Its seconds are those of then; a second machine must not be able to claim them."""
    from ddbench.benchmark.report.conditions import conditions

    here, there = {"cpu": "A", "threads": 2}, {"cpu": "B", "threads": 2}
    frame = pd.DataFrame(
        {
            "status": ["ok", "ok"],
            "device": ["cpu", "cpu"],
            "environment": [here, here],
            "distill_environment": [None, there],
            "cell_hash": ["a", "b"],
            "started": ["2026-01-01T00:00:00+00:00", "2026-01-01T01:00:00+00:00"],
            "finished": ["2026-01-01T00:01:00+00:00", "2026-01-01T01:01:00+00:00"],
        }
    )
    assert any("2 different machines" in line for line in conditions(frame, timed=True))
    assert not any("machines" in line for line in conditions(frame.drop(columns="distill_environment"), timed=True))


def test_worst_group_takes_the_place_of_top1_and_the_majority_rate_is_told():
    details = {"worst_group": 12.5, "majority": 77.84, "group a": 12.5}
    others = grid(dataset="digits")
    (table,) = tables([*others, record(dataset="waterbirds", top1=77.9, details=details)], "worst_group")
    assert table.title.startswith("Worst-group accuracy: waterbirds")
    assert table.rows[0][1][0].text() == "12.5"
    assert table.caption[0].startswith("worst-group % of protocol ridge-probe")
    assert "always answering the most frequent class has a top-1 of 77.8 %" in table.caption


def test_a_failed_cell_of_a_set_with_groups_shows_its_status():
    ok = record(details={"worst_group": 12.5, "majority": 50.0})
    (table,) = tables([ok, record(judge=BACKBONES[3], top1=None, top1_per_seed=[], status="oom")], "worst_group")
    assert cell(table, "clpdd", BACKBONES[0], BACKBONES[3]).text() == "oom"


def test_worst_group_of_data_without_groups_is_one_line():
    with pytest.raises(UserError, match="no record has worst-group accuracy; it needs a dataset with groups"):
        tables(grid(), "worst_group")


def at(day: int, minute: int, cell: str, **changes) -> dict:
    """A record of a cell that worked for one minute."""
    times = {name: f"2026-01-{day:02d}T00:{m:02d}:00.000+00:00" for name, m in (("started", minute), ("finished", minute + 1))}
    return record(cell, cell_hash=cell, config_hash=f"{cell}-{day}-{minute}", **times, **changes)


def told_of_sharing(*records) -> bool:
    from ddbench.benchmark.report.conditions import shared_device

    return shared_device(pd.DataFrame(records))


def test_cells_that_ran_in_turn_on_two_days_did_not_share_the_device():
    """A and B on Monday and again, strictly in turn, on Wednesday: each is at work twice, not from Monday to Wednesday."""
    assert not told_of_sharing(at(1, 0, "a"), at(1, 5, "b"), at(3, 0, "a"), at(3, 5, "b"))
    assert told_of_sharing(at(1, 0, "a"), at(1, 5, "b"), at(3, 0, "a"), at(3, 0, "b"))


def test_a_cell_does_not_share_the_device_with_itself():
    """The record of a crash spans the whole watch, that of the next process a part of it."""
    again = {"started": "2026-01-01T00:00:30.000+00:00"}
    assert not told_of_sharing(at(1, 0, "a"), at(1, 0, "a", judge="other") | again)
    assert told_of_sharing(at(1, 0, "a"), at(1, 0, "b") | again)
    assert not told_of_sharing(at(1, 0, "a"), at(1, 0, "b", environment={"cpu": "other"}))


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads its peak memory from /proc")
def test_a_table_of_many_records_takes_seconds_and_needs_no_torch(tmp_path):
    """1,600 records in 2 s on an idle core and 200 MB; in CPU seconds and with room for a slower one."""
    import subprocess
    import sys

    methods = [f"m{k}" for k in range(30)]
    records = [r for p in ("a", "b", "c") for r in grid(methods, seeds=(0, 1, 2), protocol=p, protocol_spec=p)]
    (tmp_path / "records.jsonl").write_text("".join(json.dumps(r) + "\n" for r in records))
    program = (
        "import resource, sys\nfrom ddbench.benchmark.cli import main\n"
        f"assert main(['table', {str(tmp_path)!r}]) == 0 and main(['table', {str(tmp_path)!r}, '--metric', 'summary']) == 0\n"
        "used = resource.getrusage(resource.RUSAGE_SELF)\n"
        "heavy = {'torch', 'timm', 'matplotlib', 'ddbench.methods.clpdd'} & set(sys.modules)\n"
        "peak = [int(l.split()[1]) for l in open('/proc/self/status') if l.startswith('VmHWM')]\n"  # maxrss outlives exec
        "print(used.ru_utime + used.ru_stime, peak[0] / 1024, sorted(heavy), file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-P", "-c", program], capture_output=True, text=True, check=True)
    seconds, megabytes, heavy = done.stderr.split(maxsplit=2)
    assert heavy.strip() == "[]"
    assert len(records) > 4000
    assert float(seconds) < 15
    assert float(megabytes) < 400
