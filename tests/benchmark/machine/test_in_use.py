"""Runs see each other by locks that the kernel drops with the process."""

import os
import subprocess
import sys

import pytest

from ddbench.benchmark.machine import in_use as sharing
from ddbench.benchmark.machine.in_use import in_use_by_others, present
from ddbench.core.store import default_cache


@pytest.fixture(autouse=True)
def empty_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("DDBENCH_CACHE", str(tmp_path / "cache"))


def test_a_run_sees_others_on_its_device_but_not_itself():
    with present("a", ["", "1"]):
        assert not in_use_by_others("a", "")
        assert in_use_by_others("b", "")
        assert in_use_by_others("b", "1")
        assert not in_use_by_others("b", "0")
    assert not in_use_by_others("b", "")


def test_the_device_of_this_process_is_the_default(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    with present("a", ["3"]):
        assert in_use_by_others("b")


def test_a_killed_run_is_not_seen_and_its_file_goes():
    code = "import os; from ddbench.benchmark.machine.in_use import present\nwith present('a', ['']): os._exit(0)"
    subprocess.run([sys.executable, "-P", "-c", code], check=True)
    assert len(os.listdir(default_cache() / "running")) == 1
    assert not in_use_by_others("b", "")
    assert os.listdir(default_cache() / "running") == []


def test_where_files_cannot_be_locked_nothing_is_claimed(tmp_path, monkeypatch):
    (tmp_path / "cache").write_text("in the way")
    with present("a", [""]):
        assert not in_use_by_others("b", "")
    monkeypatch.setattr(sharing, "fcntl", None)
    assert in_use_by_others("b", "") is None


def test_a_lock_file_that_is_removed_between_opening_and_locking_is_made_again(monkeypatch):
    """By another run that finds it unlocked and takes it for that of a dead one."""
    lock, removed = sharing.fcntl.flock, []

    def slow_lock(opened, how):
        if not removed and how == sharing.fcntl.LOCK_EX:
            removed.append(sharing.in_use_by_others("b", ""))
        lock(opened, how)

    monkeypatch.setattr(sharing.fcntl, "flock", slow_lock)
    with present("a", [""]):
        assert removed == [False]
        assert in_use_by_others("b", "")
    assert os.listdir(default_cache() / "running") == []
