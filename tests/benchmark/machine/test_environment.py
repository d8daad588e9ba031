"""The environment of a record says what can move a number, and nothing about whose machine it is."""

import getpass
import json
import platform
import subprocess
from pathlib import Path

import pytest
import torch

from ddbench.benchmark.machine import environment as module
from ddbench.benchmark.machine.environment import environment, git_state, variables


@pytest.fixture(autouse=True)
def fresh():
    git_state.cache_clear()
    yield
    git_state.cache_clear()


def test_it_is_complete_and_plain_json():
    found = environment(torch.device("cpu"))
    assert json.loads(json.dumps(found)) == found
    assert found["torch_version"] == torch.__version__.partition("+")[0] or found["torch_version"] == torch.__version__
    assert found["threads"] == torch.get_num_threads()
    assert found["ram_bytes"] > 2**28
    assert found["gpu"] is None
    expected = {
        "git_commit",
        "git_dirty",
        "python",
        "os",
        "cpu",
        "cores",
        "rss_per_phase",
        "deterministic",
        "load_average",
        "tf32",
    }
    assert expected <= found.keys()


def test_no_names_of_machines_users_or_folders(monkeypatch):
    monkeypatch.setenv("DDBENCH_SHARED", "/secret/place")
    monkeypatch.setenv("DDBENCH_FLAG", "1")
    text = json.dumps(environment(torch.device("cpu")))
    assert "secret" not in text
    assert json.dumps(platform.node()) not in text
    assert json.dumps(getpass.getuser()) not in text
    assert str(Path.home()) not in text
    assert variables()["DDBENCH_FLAG"] == "1"
    assert variables()["DDBENCH_SHARED"] == "(a path)"


@pytest.mark.parametrize(
    ("status", "head", "expected"),
    [
        ("", "abc", {"git_commit": "abc", "git_dirty": False}),
        (" M core/run.py", "abc", {"git_commit": "abc", "git_dirty": True}),
        ("?? x", None, {"git_commit": None, "git_dirty": True}),
        (None, None, {"git_commit": None, "git_dirty": None}),
    ],
)
def test_the_checkout(monkeypatch, tmp_path, status, head, expected):
    (tmp_path / ".git").mkdir()
    monkeypatch.setattr(module, "__file__", str(tmp_path / "benchmark" / "machine" / "environment.py"))
    monkeypatch.setattr(module, "_git", lambda root, command, *rest: {"status": status, "rev-parse": head}[command])
    assert git_state() == expected


def test_an_installed_wheel_has_no_checkout(monkeypatch, tmp_path):
    installed = tmp_path / "site-packages" / "ddbench" / "benchmark" / "machine" / "environment.py"
    monkeypatch.setattr(module, "__file__", str(installed))
    assert git_state() == {"git_commit": None, "git_dirty": None}


def test_git_writes_nothing_and_its_absence_is_no_error(monkeypatch, tmp_path):
    seen = []

    def absent(command, **_):
        seen.append(command)
        raise FileNotFoundError("git")

    monkeypatch.setattr(subprocess, "run", absent)
    assert module._git(tmp_path, "status") is None
    assert seen[0][:2] == ["git", "--no-optional-locks"]
