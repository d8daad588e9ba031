"""A grid on a Ray cluster of several nodes: the records of a local run, whatever is lost on the way, each once."""

import collections
import json
import os
import signal
import subprocess
import sys

import pytest

from ddbench.benchmark.machine.signals import Interrupted, Stop
from ddbench.benchmark.processes import on_ray
from ddbench.benchmark.processes.job import Event, Job
from ddbench.benchmark.processes.on_ray import RayEngine
from ddbench.benchmark.processes.progress import Reporter
from ddbench.benchmark.processes.runner import run_plan
from ddbench.benchmark.records.records import FILE, load_records
from ddbench.benchmark.records.run_folder import set_folder
from ddbench.benchmark.suite.plan import plan
from ddbench.benchmark.suite.suite import suite
from ddbench.core.errors import UserError

ray = pytest.importorskip("ray", reason="the extra ray is not installed")
pytestmark = [pytest.mark.ray, pytest.mark.filterwarnings("ignore")]


@pytest.fixture(scope="module")
def cluster():
    """A head without CPUs, and two nodes of one CPU each."""
    from ray.cluster_utils import Cluster

    before = os.environ.copy()
    os.environ.update(
        PYTHONSAFEPATH="1", RAY_DISABLE_IMPORT_WARNING="1", OMP_NUM_THREADS="1", RAY_ENABLE_METRICS_COLLECTION="0"
    )
    small = {"object_store_memory": 80 * 2**20}
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False, **small})
    cluster.nodes = [cluster.add_node(num_cpus=1, **small) for _ in range(2)]
    yield cluster
    ray.shutdown()
    cluster.shutdown()
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture
def cells(fake_plugins, tmp_path, monkeypatch):
    monkeypatch.setenv("DDBENCH_CACHE", str(tmp_path / "cache"))
    fields = {
        "methods": ["fake[wait=0.1]", "fake_floor"],
        "backbones": ["fake_net"],
        "datasets": ["fake_data"],
        "controls": False,
    }
    return plan(suite(**fields, protocols=["fake_probe"], seeds=[0, 1]), device="cpu")


def lines(out):
    return [json.loads(line) for line in (out / FILE).read_text().splitlines()]


class Watch(Reporter):
    def __init__(self, act=lambda count: None):
        self.warnings, self.count, self.act = [], 0, act

    def record(self, record):
        self.count += 1
        self.act(self.count)

    def warning(self, text):
        self.warnings.append(text)


SAME = ("config_hash", "status", "set_fingerprint", "top1_per_seed")


def test_a_node_is_lost_and_every_record_comes_once_with_the_bits_of_a_local_run(cluster, cells, fake_plugins, tmp_path):
    """Without shared storage: sets and logs come back through the object store."""

    def kill_a_node(count):
        if count == 1:
            cluster.remove_node(cluster.nodes[0], allow_graceful=False)

    engine, watch = RayEngine("cpu", cluster.address, shared=False), Watch(kill_a_node)
    summary = run_plan(cells, tmp_path / "ray", threads=1, plugins=[fake_plugins], progress=watch, engine=engine)
    run_plan(cells, tmp_path / "local", threads=1, plugins=[fake_plugins])
    assert summary.done == sum(len(cell.evaluations) for cell in cells)
    found, expected = ({r["config_hash"]: r for r in lines(tmp_path / name)} for name in ("ray", "local"))
    assert len(lines(tmp_path / "ray")) == len(found) == summary.done
    assert {h: [r[k] for k in SAME] for h, r in found.items()} == {h: [r[k] for k in SAME] for h, r in expected.items()}
    for record in found.values():
        assert record["placement"]["engine"] == "ray"
        assert len(record["placement"]["node"]) == 12
        assert not record["placement"]["shared_storage"]
        assert (set_folder(tmp_path / "ray", record) / "set.safetensors").exists()
        assert (tmp_path / "ray" / "logs" / f"{record['cell_hash']}.log").exists()
    assert not list((tmp_path / "ray").glob(".ray-*"))
    again = run_plan(cells, tmp_path / "ray", threads=1, plugins=[fake_plugins], engine=engine)
    assert (again.done, again.skipped) == (0, summary.done)


DRIVER = """
import json, os, sys
from pathlib import Path
from ddbench.benchmark.processes.on_ray import RayEngine
from ddbench.benchmark.processes.progress import Reporter
from ddbench.benchmark.processes.runner import run_plan
from ddbench.benchmark.suite.cell import Cell

class Dies(Reporter):
    count = 0
    def record(self, record):
        self.count += 1
        if self.count == 1:
            os.kill(os.getpid(), 9)

facts = json.load(sys.stdin)
run_plan([Cell.from_json(c) for c in facts["cells"]], Path(facts["out"]), threads=1, plugins=facts["plugins"], progress=Dies(),
         engine=RayEngine("cpu", facts["address"]))
"""


def test_a_driver_is_killed_and_started_again(cluster, cells, fake_plugins, tmp_path):
    ray.shutdown()
    facts = {
        "cells": [c.to_json() for c in cells],
        "out": str(tmp_path),
        "plugins": [str(fake_plugins)],
        "address": cluster.address,
    }
    killed = subprocess.run([sys.executable, "-P", "-c", DRIVER], input=json.dumps(facts), text=True, capture_output=True)
    assert killed.returncode == -9, killed.stderr
    stored = len(lines(tmp_path))
    assert stored == 1
    summary = run_plan(cells, tmp_path, threads=1, plugins=[fake_plugins], engine=RayEngine("cpu", cluster.address))
    assert summary.skipped == stored
    counts = collections.Counter(r["config_hash"] for r in lines(tmp_path))
    assert set(counts.values()) == {1}
    assert len(counts) == sum(len(cell.evaluations) for cell in cells)
    assert all(r["placement"]["shared_storage"] for r in load_records([tmp_path]))


def test_ctrl_c_ends_a_cell_on_its_node_with_a_checkpoint_that_comes_back(cluster, fake_plugins, tmp_path):
    class InterruptAt(Watch):
        def event(self, index, event):
            if event.kind == "step" and event.step >= 20 and not self.count:
                self.count = 1
                os.kill(os.getpid(), signal.SIGINT)

    fields = {"methods": ["lgm[steps=50000,copies=1]"], "backbones": ["fake_net"], "datasets": ["fake_data"]}
    cells = plan(suite(**fields, protocols=["fake_probe"], controls=False), device="cpu")
    engine = RayEngine("cpu", cluster.address, shared=False)
    with pytest.raises(Interrupted):
        run_plan(cells, tmp_path, threads=1, plugins=[fake_plugins], progress=InterruptAt(), engine=engine)
    assert (tmp_path / "checkpoints" / cells[0].cell_hash / "loop0.safetensors").exists()
    assert not (tmp_path / FILE).exists()


# the rest needs no cluster


class FakeRay:
    """Streams that a test has written, and losses where it wants them."""

    class exceptions:
        class RayError(Exception): ...

        class RayTaskError(RayError): ...

    def __init__(self, streams):
        self.streams = [iter(stream) for stream in streams]

    def get(self, found):
        if isinstance(found, Exception):
            raise found
        return found

    def wait(self, streams, timeout):
        return streams[:1], streams[1:]

    def cancel(self, stream, force): ...

    def remote(self, **options):
        return lambda work: self

    def take(self, *_):
        return self.streams.pop(0)


@pytest.fixture
def played(cell_of, monkeypatch, tmp_path):
    """The events that come out of streams of one cell."""

    def played(streams, job=None, **options):
        engine = RayEngine("cpu", **options)
        engine._ray = FakeRay(streams)
        monkeypatch.setattr(FakeRay, "remote", lambda self, *a, **k: self.take() if not k else lambda work: self)
        monkeypatch.setattr(engine, "_needs", lambda threads: {"num_cpus": 1})
        monkeypatch.setattr(engine, "_stop_flag", lambda: None)
        return [found for found in engine._follow([job or Job(cell_of(), tmp_path, "this", "cpu")], "mark", Stop()) if found]

    return played


def told(cell, index=0, status="ok"):
    record = {"config_hash": cell.evaluations[index].config_hash, "status": status, "reason": "why" if status != "ok" else None}
    return "event", Event("record", record=record).to_line().strip()


def test_a_cell_that_is_lost_again_and_again_is_a_row_with_reasons(played, cell_of):
    cell, lost = cell_of(), FakeRay.exceptions.RayError("gone")
    placed = ("placed", {"node": "n1"})
    events = [event for _, event in played([[placed, told(cell), lost], [placed, lost], [placed, lost]])]
    records = [event.record for event in events if event.kind == "record"]
    assert [(r["config_hash"], r["status"]) for r in records] == [
        (cell.evaluations[0].config_hash, "ok"), (cell.evaluations[1].config_hash, "failed"),
    ]  # fmt: skip
    assert "lost 3 times: RayError on node n1; RayError on node n1" in records[1]["reason"]
    assert [event.kind for event in events if event.kind != "record"] == ["warning", "warning", "finished"]


def test_a_record_that_comes_twice_is_stored_once_and_co_tenants_are_marked(played, cell_of):
    cell = cell_of()
    placed = ("placed", {"node": "n1"})
    found = played([[placed, told(cell), told(cell), told(cell, 1, "failed")]], cells_per_gpu=2)
    records = [event.record for _, event in found]
    assert [r["device_shared"] for r in records] == [True, True]
    assert records[0]["placement"] == {"node": "n1", "cells_per_gpu": 2, "attempt": 1, "lost": []}
    assert records[1]["reason"] == "why (on node n1)"


def test_one_line_where_ray_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UserError, match=r"needs the package ray; pip install 'ddbench\[ray\]'"):
        RayEngine("cpu")


def test_files_travel_and_land_whole(cells, tmp_path):
    (cell, other), one, two = cells[:2], tmp_path / "one", tmp_path / "two"
    for file in (
        cell.set_in(one) / "set.json",
        cell.set_in(one) / "images/c/1.png",
        one / "checkpoints" / cell.cell_hash / "loop0.safetensors",
        one / "logs" / f"{cell.cell_hash}.log",
        other.set_in(one) / "set.json",
    ):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(file.name)
    files = on_ray._files(one, cell)
    assert str((other.set_in(one) / "set.json").relative_to(one)) not in files
    for _ in range(2):  # a second time in place of the first
        on_ray._store(files, two)
    assert on_ray._files(two, cell) == files
    assert len(files) == 4


def test_after_a_loss_an_old_set_is_not_taken_where_it_is_to_be_made_anew(cells, tmp_path):
    """Only what this run has stored saves the work of the attempt that was lost."""
    task = on_ray._Task(0, Job(cells[0], tmp_path, "run", "cpu", overwrite=True), {})
    task.lost.append("a worker died")
    assert task.due().overwrite
    list(RayEngine("cpu")._event(task, Event("evaluation", name="fake_probe", config_hash="x")))
    assert not task.due().overwrite


def test_variables_that_move_results_are_the_drivers_on_every_node(monkeypatch):
    monkeypatch.setenv("DDBENCH_PRECISION", "bf16")
    monkeypatch.delenv("DDBENCH_CHUNK", raising=False)
    assert on_ray._sent({"DDBENCH_PRECISION": None, "DDBENCH_CHUNK": "7"}) == {"DDBENCH_CHUNK": "7"}
    assert (os.environ.get("DDBENCH_PRECISION"), os.environ["DDBENCH_CHUNK"]) == (None, "7")
    monkeypatch.setenv("DDBENCH_CHUNK", "7")
