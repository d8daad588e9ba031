"""The work of a cell, in this process: one record per evaluation whatever happens, sets that are stored and used again."""

import dataclasses
import gc
import json
import random
import re
import shutil
import sys

import numpy as np
import pytest
import torch

from ddbench.benchmark.cell.caveats import method_of, mirroring
from ddbench.benchmark.cell.cell_run import CellRun
from ddbench.benchmark.cell.distillation import checked
from ddbench.benchmark.machine.in_use import present
from ddbench.benchmark.processes.job import Job
from ddbench.benchmark.records.run_folder import set_folder
from ddbench.benchmark.suite.cell import Cell
from ddbench.benchmark.suite.plan import outline, plan
from ddbench.benchmark.suite.suite import suite
from ddbench.core.errors import DiskError, Diverged
from ddbench.core.method import METHODS, PROTOCOLS
from ddbench.core.registry import plugin_module
from ddbench.core.sets import DistilledSet

from ..conftest import PLUGINS

FAKE = plugin_module(PLUGINS)
TWO = ["fake_net", "fake_net[seed=1]"]


@pytest.fixture
def work(fake_plugins, tmp_path, monkeypatch):
    """Run one cell; returns its events."""
    monkeypatch.setenv("DDBENCH_CACHE", str(tmp_path / "cache"))  # cold for each test
    (tmp_path / "sets").mkdir()
    generators = torch.get_rng_state(), np.random.get_state(), random.getstate()

    def work(method="fake", protocols=("fake_probe",), backbones=TWO, overwrite=False, change=None, **grid):
        fields = {"methods": [method], "backbones": backbones[:1], "eval_backbones": backbones, "datasets": ["fake_data"]}
        cell = plan(suite(**fields, protocols=list(protocols), controls=False, **grid), device="cpu")[0]
        events = []
        changed = Cell.from_json({**cell.to_json(), **(change or {})})
        job = Job(changed, tmp_path, "this", "cpu", overwrite=overwrite)
        CellRun(job, lambda kind, **facts: events.append({"event": kind, **facts})).run()
        return events

    gc.freeze()  # as the cell process does
    yield work
    gc.unfreeze()
    torch.set_rng_state(generators[0])
    np.random.set_state(generators[1])
    random.setstate(generators[2])


def records(events):
    return [event["record"] for event in events if event["event"] == "record"]


def test_one_record_per_evaluation_with_everything_measured(work, tmp_path):
    found = records(work(protocols=["fake_probe", "fake_probe[seeds=3]"]))
    assert [(r["status"], r["eval_backbone"], len(r["top1_per_seed"])) for r in found] == [
        ("ok", "fake_net", 2), ("ok", "fake_net", 3), ("ok", "fake_net[seed=1]", 2), ("ok", "fake_net[seed=1]", 3),
    ]  # fmt: skip
    first, *_, last = found
    assert json.loads(json.dumps(first, default=float))["steps"] == 5
    assert first["steps_per_second"] > 0
    assert first["images_per_second"] == pytest.approx(3 * first["steps_per_second"])
    assert {"load", "features", "distill", "evaluate", "warmup", "evaluate_features"} <= first["seconds"].keys()
    assert 0 < first["seconds"]["warmup"] <= first["seconds"]["distill"]
    assert first["peak_bytes"]["cpu_rss"] >= first["base_bytes"]["cpu_rss"] * 0.9 > 0
    assert {"load", "features", "distill", "evaluate"} <= first["peak_bytes_by_phase"].keys()
    assert first["environment"]["threads"] == torch.get_num_threads()
    assert (first["n_images"], first["device"], first["distill_reused"]) == (3, "cpu", False)
    assert first["started"] <= first["finished"] <= last["finished"]
    (curve,) = tmp_path.rglob("sets/*/curve.csv")
    assert [line.split(",")[0] for line in curve.read_text().splitlines()] == ["step", "1", "2", "3", "4", "5"]


@pytest.mark.parametrize(
    ("method", "protocol", "who"),
    [
        ("clpdd", "linear-probe", []),
        ("lgm", "lgm-probe", ["method", "protocol"]),
        ("sfm[augment=crop+noise]", "ridge-probe", []),
        ("krrst", "ssl-pretrain[readout=finetune]", ["method", "protocol"]),
    ],
)
def test_records_say_what_mirrors_images_that_do_not_bear_it(method, protocol, who, data):
    names = {"methods": [method], "backbones": ["mini_vit_simclr"], "datasets": ["digits"], "protocols": [protocol]}
    made_by, judge = method_of(outline(suite(**names, controls=False))[0]), PROTOCOLS.create(protocol)
    found = mirroring(made_by, judge, dataclasses.replace(data, mirror=False))
    assert found == [f"the {each} mirrors images, and mirrored images of tiny do not keep their class" for each in who]
    assert mirroring(made_by, judge, data) == []


def test_features_of_distilling_and_of_evaluating_are_told_apart(work):
    one, two = records(work())
    assert one["seconds"]["features"] == two["seconds"]["features"] > 0  # the method asked for the train split
    assert one["features_seconds_cold"] == pytest.approx(one["seconds"]["features"])
    assert not one["features_cached"]
    assert one["seconds"]["evaluate_features"] > 0  # the protocol asked for the test split, of each backbone
    assert two["seconds"]["evaluate_features"] > 0
    again = records(work(overwrite=True))[0]
    assert (again["seconds"]["features"], again["seconds"]["evaluate_features"]) == (0, 0)
    assert again["seconds"]["evaluate_features_cold"] == one["seconds"]["evaluate_features_cold"] > 0, "what they cost then"
    assert again["features_cached"]
    assert again["features_seconds_cold"] == one["features_seconds_cold"]  # as when they were computed
    assert again["features_peak_bytes"] == one["features_peak_bytes"] == one["peak_bytes_by_phase"]["features"]
    assert again["features_seconds_warm"] > 0


def test_a_stored_set_is_used_again_with_its_own_measurements(work, tmp_path):
    first = records(work())
    second = records(work(protocols=["fake_probe[seeds=4]"]))
    assert [r["distill_reused"] for r in first + second] == [False, False, True, True]
    for key in ("set_fingerprint", "steps_per_second", "peak_bytes", "n_images", "features_seconds_cold"):
        assert second[0][key] == first[0][key]
    assert second[0]["seconds"]["distill"] == first[0]["seconds"]["distill"]


@pytest.mark.parametrize("damage", [lambda b: b[:-20], lambda b: b[:-9] + bytes([b[-9] ^ 1]) + b[-8:]])  # cut, one bit
def test_a_damaged_set_is_distilled_again_with_one_line(damage, work, tmp_path, caplog):
    first = records(work())[0]
    file = set_folder(tmp_path, first) / "set.safetensors"
    file.write_bytes(damage(file.read_bytes()))
    again = records(work())[0]
    assert (again["status"], again["distill_reused"], again["set_fingerprint"]) == ("ok", False, first["set_fingerprint"])
    (line,) = [record.getMessage() for record in caplog.records if "distilled" in record.getMessage()]
    assert line.endswith("; it is distilled again")


def test_a_set_explains_itself(work, tmp_path):
    record = records(work())[0]
    found = DistilledSet.load(set_folder(tmp_path, record)).provenance
    for key in ("method_spec", "params", "distill_backbone_spec", "dataset", "dataset_fingerprint", "ipc", "distill_seed"):
        assert found[key] == record[key]
    assert found["measured"]["seconds"]["distill"] == record["seconds"]["distill"]
    assert found["environment"]["ddbench_version"] == record["environment"]["ddbench_version"]


@pytest.mark.parametrize(
    ("fail", "status", "reason"),
    [
        ("crash", "failed", r"KeyError: .*a bug.* \(see logs/\w{64}\.log\)"),
        ("diverge", "diverged", "loss is nan at step 3 of 5"),
        ("nan", "diverged", "the images of the distilled set are not finite"),
        ("allocate", "oom", "allocate"),
        ("unsupported", "unsupported", "makes no sense"),
        ("user", "failed", "this file is missing"),
    ],
)
def test_a_distillation_that_fails_is_a_row_for_each_of_its_evaluations(work, tmp_path, fail, status, reason, capfd):
    found = records(work(f"fake[fail={fail}]"))
    assert [r["status"] for r in found] == [status, status]
    for record in found:
        assert len(record["reason"].splitlines()) == 1
        assert record["top1"] is None
        assert re.search(reason, record["reason"])
    assert set_folder(tmp_path, found[0]).exists() == (fail == "diverge")
    assert "Traceback" in capfd.readouterr().err


def test_a_divergence_leaves_its_last_good_images_and_is_never_done(work, tmp_path, capfd):
    for _ in range(2):  # nothing is reused by the next run
        record = records(work("fake[fail=diverge]"))[0]
        folder = set_folder(tmp_path, record)
        kept = DistilledSet.load(folder)
        assert kept.provenance["diverged"] == "loss is nan at step 3 of 5"
        assert kept.labels.tolist() == [0, 1, 2]
        assert (kept.images == 0.5).all()
        assert (record["status"], record["distill_reused"], record["n_images"]) == ("diverged", False, 3)
        assert record["set_fingerprint"] == kept.fingerprint()
        assert (
            record["reason"]
            == f"loss is nan at step 3 of 5; the last good images are in sets/{set_folder(tmp_path, record).name}"
        )


def test_a_divergence_does_not_replace_a_finished_set(work, tmp_path, monkeypatch, capfd):
    folder = set_folder(tmp_path, records(work())[0])
    before = DistilledSet.load(folder).fingerprint()
    monkeypatch.setitem(sys.modules[FAKE].FAILURES, "no", sys.modules[FAKE].FAILURES["diverge"])
    record = records(work(overwrite=True))[0]
    assert (record["status"], record["set_fingerprint"]) == ("diverged", None)
    assert DistilledSet.load(folder).fingerprint() == before


def test_a_set_that_cannot_be_stored_ends_the_run(work, monkeypatch):
    def full(*_):
        raise DiskError("the disk is full while writing sets/x")

    monkeypatch.setattr(DistilledSet, "save", full)
    events = work()
    assert events[-1] == {"event": "abort", "reason": "the disk is full while writing sets/x"}
    assert not records(events)


def test_a_checkpoint_is_used_and_then_removed(work, tmp_path, monkeypatch):
    """What another code left is not used, and the record says so."""
    left = tmp_path / "checkpoints" / records(work("clpdd[steps=3]"))[0]["cell_hash"]
    left.mkdir(parents=True)
    (left / "loop0.safetensors").write_bytes(b"cut short")
    record = records(work("clpdd[steps=3]", overwrite=True))[0]
    assert (record["distill_reused"], record["resumed_at"], record["checkpoint_note"]) == (False, [], None)  # starts over
    shutil.rmtree(set_folder(tmp_path, record))
    left.mkdir()
    (left / "loop0.safetensors").write_bytes(b"cut short")
    record = records(work("clpdd[steps=3]"))[0]
    assert (record["status"], record["resumed_at"]) == ("ok", [])
    assert record["checkpoint_note"].startswith("checkpoint loop0.safetensors cannot be read")
    assert not left.exists()


def test_a_set_that_another_cell_made_is_taken_and_counted_as_if_made_here(work, tmp_path, monkeypatch):
    """Bit for bit what distilling it again gives; seconds of the set are added, and named."""
    (alone,) = records(work("neighbors[of=clpdd[steps=3]]", backbones=TWO[:1]))
    assert (alone["taken_sets"], alone["steps"]) == ([], 3)
    shutil.rmtree(tmp_path / "sets")
    (inner,) = records(work("clpdd[steps=3]", backbones=TWO[:1]))
    monkeypatch.setattr(METHODS.get("clpdd"), "distill", lambda *args, **named: pytest.fail("distilled again"))
    (after,) = records(work("neighbors[of=clpdd[steps=3]]", backbones=TWO[:1]))
    assert (after["set_fingerprint"], after["top1"]) == (alone["set_fingerprint"], alone["top1"])
    (taken,) = after["taken_sets"]
    assert (taken["method_spec"], taken["cell_hash"]) == ("clpdd[steps=3]", inner["cell_hash"])
    assert taken["seconds"].items() <= inner["seconds"].items()
    assert {"features", "distill", "checkpoint", "warmup"} == taken["seconds"].keys()
    assert after["seconds"]["distill"] > inner["seconds"]["distill"]
    assert after["seconds"]["warmup"] == pytest.approx(inner["seconds"]["warmup"])
    assert (after["steps"], after["steps_per_second"]) == (3, inner["steps_per_second"])
    assert after["peak_bytes"]["cpu_rss"] >= inner["peak_bytes"]["cpu_rss"]
    assert after["features_seconds_cold"] >= inner["features_seconds_cold"]


@pytest.mark.parametrize("change", [{"overwrite": True}, {"seeds": [1]}, {"ipc": [2]}])
def test_a_set_of_another_cell_or_under_overwrite_is_not_taken(work, change):
    work("clpdd[steps=1]", backbones=TWO[:1])
    (record,) = records(work("neighbors[of=clpdd[steps=1]]", backbones=TWO[:1], **change))
    assert (record["status"], record["taken_sets"]) == ("ok", [])


def test_another_run_on_the_device_is_in_the_record_of_the_set_for_good(work, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with present("other", [""]):
        assert [r["device_shared"] for r in records(work())] == [True, True]
    assert [r["device_shared"] for r in records(work(protocols=["fake_probe[seeds=3]"]))] == [True, True]
    assert [r["device_shared"] for r in records(work(overwrite=True))] == [False, False]


@pytest.mark.parametrize(("fail", "status"), [("crash", "failed"), ("unsupported", "unsupported")])
def test_an_evaluation_that_fails_does_not_stop_the_next(work, fail, status, capfd):
    found = records(work(protocols=[f"fake_probe[fail={fail}]", "fake_probe"]))
    assert [r["status"] for r in found] == [status, "ok", status, "ok"]
    assert found[0]["n_images"] == 3  # the set is there, and was measured


def test_the_full_data_is_a_set_of_references(work, tmp_path):
    for reused in (False, True):
        found = records(work("full"))[0]
        assert (found["status"], found["n_images"], found["ipc"], found["distill_reused"]) == ("ok", 18, None, reused)


def test_data_or_weights_that_change_during_a_run_are_noticed(work, card_of, capfd):
    assert "changed while" in records(work(change={"dataset_fingerprint": "other"}))[0]["reason"]
    assert "changed while" in records(work(change={"distill_backbone_spec": card_of()}))[0]["reason"]


def test_a_protocol_without_a_backbone_has_one_record_with_its_parts(work):
    found = records(work(protocols=["fake_pretrain", "fake_pretrain[target=fake_data[classes=2]]"]))
    assert [(r["status"], r["eval_backbone"], r["top1"]) for r in found] == [("ok", None, 4.0), ("ok", None, 3.0)]
    assert found[1]["parts"] == {"classes": [2.0, 4.0], "images": [3.0, 3.0]}
    assert found[1]["judging_fingerprint"] != found[1]["dataset_fingerprint"]


def test_judging_data_that_change_during_a_run_are_noticed(work, monkeypatch, capfd):
    spec = "fake_pretrain[target=fake_data[classes=2]]"
    evaluations = [{**e, "judging_fingerprint": "other"} for e in work_evaluations(spec)]
    assert "changed while" in records(work(protocols=[spec], change={"evaluations": evaluations}))[0]["reason"]


def work_evaluations(protocol):
    """The evaluations of a planned cell, in JSON."""
    fields = {"methods": ["fake"], "backbones": ["fake_net"], "datasets": ["fake_data"], "protocols": [protocol]}
    return plan(suite(**fields, controls=False), device="cpu")[0].to_json()["evaluations"]


def test_whose_labels_they_are_stands_in_the_record(work, monkeypatch):
    from ddbench.core.method import METHODS

    distill = METHODS.get("fake_floor").distill
    marked = lambda *a, **k: dataclasses.replace(distill(*a, **k), labels_of="initial images")  # noqa: E731
    monkeypatch.setattr(METHODS.get("fake_floor"), "distill", marked)
    for reused in (False, True):
        found = records(work("fake_floor"))[0]
        assert (found["labels_of"], found["distill_reused"]) == ("initial images", reused)
    assert records(work("fake"))[0]["labels_of"] is None


def test_one_backbone_is_held_at_a_time(work, monkeypatch):
    held = []
    keep = CellRun._backbone
    monkeypatch.setattr(CellRun, "_backbone", lambda self, *a: held.append(a[0]) or keep(self, *a))
    loads = [event for event in work(protocols=["fake_probe", "fake_probe[seeds=3]"]) if event.get("name") == "load"]
    assert held == ["fake_net"] * 3 + ["fake_net[seed=1]"] * 2
    assert len(loads) == 3  # data, and each backbone once


def test_a_method_must_return_a_finite_set():
    with pytest.raises(TypeError, match="must return a DistilledSet, not Tensor"):
        checked(torch.zeros(3))
    labels = torch.arange(2)
    bad = DistilledSet(torch.zeros(2, 3, 4, 4), labels, ("a", "b"), torch.full((2, 2), float("inf")), "class_probabilities")
    with pytest.raises(Diverged, match="targets"):
        checked(bad)
    graph = torch.full((2, 3, 4, 4), 0.5, requires_grad=True)
    assert not checked(DistilledSet(graph * 1, labels, ("a", "b"))).images.requires_grad
