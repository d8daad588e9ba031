"""The performance tool: a reduced run with real processes, and what becomes of a case that fails."""

import dataclasses
import json
import os
import subprocess
import sys

import perf.__main__ as perf
import pytest
import torch
from perf import measure_case as perf_measure
from perf.cases import PROFILES, SMOKE, Case
from perf.plain import WholeBatch

from ddbench.benchmark.machine.measure import Meter
from ddbench.core.backbone import BACKBONES
from ddbench.core.engine import FeatureEngine
from ddbench.core.images import Pyramid
from ddbench.core.method import METHODS, PROTOCOLS
from ddbench.core.views import CENTRE, View

STEPS = Case("steps", "clpdd[augment=none,init=noise]", "mini_resnet_dino", 3, chunk=2, aim=0.01, at_most=3)


@pytest.fixture(scope="module")
def smoke(tmp_path_factory):
    """`--cases smoke` as a machine runs it that has torch, timm and pydantic with what they need, and nothing else of ours."""
    absent, out = tmp_path_factory.mktemp("absent"), tmp_path_factory.mktemp("out")
    for name in ("open_clip", "pandas", "rich", "scipy", "sklearn"):
        (absent / f"{name}.py").write_text(f"raise ModuleNotFoundError('not on the GPU machine', name={name!r})")
    path = os.pathsep.join([str(absent), str(perf.TOOLS), *filter(None, [os.environ.get("PYTHONPATH")])])
    command = [sys.executable, "-P", "-m", "perf", "--cases", "smoke", "--device", "cpu", "--threads", "1"]
    command += ["--budget-seconds", "1500", "--out", str(out)]  # seconds, unless other work holds the cores
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, timeout=1800)
    assert done.returncode == 0, done.stderr
    return out, done.stdout


def test_every_case_of_the_smoke_run_is_measured(smoke):
    out, printed = smoke
    rows = [json.loads(line) for line in (out / "rows.jsonl").read_text().splitlines()]
    assert [row["status"] for row in rows] == ["ok"] * len(SMOKE), (out / "log.txt").read_text()
    assert all(0 < row["utilisation"] < 5 for row in rows if row["kind"] in ("steps", "features"))
    assert printed.strip() == (out / "table.md").read_text().strip()
    assert {row["kind"] for row in rows} == set(perf_measure.MEASURES)
    assert printed.count("\n| ") == len(SMOKE)  # a head and all but the product
    assert "JPEG of 500 x 375 pixels decoded to 256: " in printed.splitlines()[-1]
    assert torch.__version__.startswith(json.loads((out / "environment.json").read_text())["environment"]["torch_version"])


@pytest.mark.parametrize("profile", sorted(PROFILES))
def test_cases_name_what_there_is_and_are_all_different(profile):
    cases = PROFILES[profile]
    for case in cases:
        registry = {"steps": METHODS, "plain": METHODS, "probe": PROTOCOLS, "ceiling": PROTOCOLS}.get(case.kind)
        for kind, spec in ((BACKBONES, case.backbone), (registry, case.spec)):
            assert not (kind and spec) or kind.create(spec)
    assert len({dataclasses.astuple(case) for case in cases}) == len(cases)


def test_operations_are_those_of_one_step(make_backbone, monkeypatch):
    """3 views in chunks of 2: all of them forward and back, the last one forward once more."""
    backbone = BACKBONES.create(STEPS.backbone).load()
    monkeypatch.setattr(perf_measure, "load", lambda case, device: backbone)
    row = perf_measure.steps(STEPS, torch.device("cpu"))
    with torch.utils.flop_counter.FlopCounterMode(display=False) as forward:
        backbone(torch.zeros(3, 3, 32, 32))
    once = forward.get_total_flops()
    assert 2.2 * once < row["flops"] < 2.5 * once + 10e6  # the solve and the outer loss on 2,000 real features: under 10 MFLOP
    assert row["steps"] == 3
    assert row["chunks"] == [2]


def test_timed_steps_follow_the_warm_up_and_end_the_method():
    timer = perf_measure.StepTimer(Meter(torch.device("cpu")), seconds=1000, at_most=5)
    seen = []

    def loop():
        for step in range(1, 100):
            seen.append(step)
            timer(step, 100, 0.0)

    with pytest.raises(perf_measure._Enough), timer:
        loop()
    assert seen[-1] == 4 + 5
    assert timer.steps == 5
    assert set(timer.meter.seconds) == {"warm-up", "steps"}


@pytest.mark.parametrize(
    ("error", "status"), [(torch.OutOfMemoryError("CUDA out of memory"), "oom"), (ValueError("no"), "failed")]
)
def test_a_case_that_fails_is_a_row(error, status, monkeypatch):
    def fail(case, device):
        raise error

    monkeypatch.setitem(perf_measure.MEASURES, "steps", fail)
    row = perf_measure.row(STEPS)
    assert row["status"] == status
    assert str(error) in row["reason"]


def test_a_method_without_enough_steps_is_a_row():
    row = perf_measure.row(dataclasses.replace(STEPS, spec="clpdd[steps=2,augment=none,init=noise]"))
    assert (row["status"], "ended before" in row["reason"]) == ("failed", True)


@pytest.mark.parametrize(
    ("code", "timeout", "status"),
    [("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", 60, "oom"), ("raise SystemExit(3)", 60, "failed"),
     ("import time; time.sleep(60)", 0.5, "timeout")],
)  # fmt: skip
def test_a_process_that_dies_is_a_row(code, timeout, status, monkeypatch, tmp_path):
    start = subprocess.Popen
    monkeypatch.setattr(perf.subprocess, "Popen", lambda command, **how: start([sys.executable, "-c", code], **how))
    log = tmp_path / "log"
    row = perf.in_fresh_process(perf.start(STEPS, "cpu", log), STEPS, "cpu", None, timeout, log)
    assert row["status"] == status
    assert row["reason"]


def test_cases_beyond_the_budget_are_listed_as_not_run(tmp_path, monkeypatch, capsys):
    measured = {"status": "ok", "reason": None, "flops_per_cpu_second": 1e9, "dtype": "float32", "threads": 1}
    now = [0.0]

    def in_fresh_process(*args):
        now[0] += 50
        return dict(measured)

    monkeypatch.setattr(perf, "clock", lambda: now[0])
    monkeypatch.setattr(perf, "start", lambda *args: None)
    monkeypatch.setattr(perf, "in_fresh_process", in_fresh_process)
    perf.main(["--cases", "smoke", "--device", "cpu", "--out", str(tmp_path), "--budget-seconds", "60"])
    rows = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    assert [row["status"] for row in rows] == ["ok"] + ["not run"] * (len(SMOKE) - 1)
    assert capsys.readouterr().out.count("not run: ") == len(SMOKE) - 1


def test_a_missing_gpu_is_one_line(monkeypatch, capsys):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(SystemExit) as stopped:
        perf.main(["--device", "cuda"])
    assert stopped.value.code == 2
    assert "torch finds no CUDA device here" in capsys.readouterr().err.splitlines()[-1]


def test_beside_a_gpu_the_next_process_starts_before_the_present_one_is_measured(tmp_path, monkeypatch):
    """And the one that waits for a case that the budget left out is ended."""
    told, now = [], [0.0]

    class Waiting:
        def __init__(self, case, *rest):
            self.kind = case.kind
            told.append(f"start {self.kind}")

        def kill(self):
            told.append(f"kill {self.kind}")

        def communicate(self):
            pass

    def measure(process, case, *rest):
        told.append(f"measure {process.kind}")
        assert process.kind == case.kind
        now[0] += 40
        return {"status": "ok", "reason": None}

    monkeypatch.setattr(perf, "clock", lambda: now[0])
    monkeypatch.setattr(perf, "start", Waiting)
    monkeypatch.setattr(perf, "in_fresh_process", measure)
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    args = perf._arguments(["--device", "cuda", "--out", str(tmp_path), "--budget-seconds", "60"])
    perf.run([Case(kind) for kind in ("steps", "probe", "decode", "launch")], args)
    assert told == ["start steps", "start probe", "measure steps", "start decode", "measure probe", "kill decode"]


def test_what_processes_say_at_the_same_time_stands_under_their_own_cases(tmp_path, monkeypatch):
    """Both are there before the first one speaks, and the second one speaks first."""
    code, begin = "import sys; print(sys.argv[1], file=sys.stderr)", subprocess.Popen
    monkeypatch.setattr(perf.subprocess, "Popen", lambda command, **how: begin([sys.executable, "-c", code, "hello"], **how))
    logs = [tmp_path / "a", tmp_path / "b", tmp_path / "never started"]
    with perf.joined(logs, tmp_path / "log.txt"):
        started = [perf.start(Case(kind), "cpu", log) for kind, log in zip(("probe", "decode"), logs, strict=False)]
        for process in reversed(started):
            process.communicate("")
    expected = "\n".join(f"{Case(kind).title}\nhello\n" for kind in ("probe", "decode"))
    assert (tmp_path / "log.txt").read_text() == expected
    assert [file.name for file in tmp_path.iterdir()] == ["log.txt"]


def test_the_whole_batch_step_is_the_engines(backbone):
    """Same random numbers: the same loss and gradient, up to summation order."""
    images, views = Pyramid(5, 16, torch.Generator().manual_seed(1), start=16), [CENTRE, View(flip=True, crop=(0.3, 1.0))]
    found = []
    for engine in (WholeBatch(backbone, views), FeatureEngine(backbone, views, chunk=3)):
        images.zero_grad()
        loss = engine.step(images, lambda z: (z[0] - z[1].roll(1, 0)).square().sum(), torch.Generator().manual_seed(2))
        found.append((loss, [level.grad.clone() for level in images.levels]))
    torch.testing.assert_close(*found, rtol=1e-3, atol=1e-6)
