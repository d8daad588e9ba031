"""Cells that only pretend, in real processes."""

import sys
import time
from pathlib import Path

import pytest

from ddbench.benchmark.processes import fork_server, launcher


@pytest.fixture
def fake_process(monkeypatch):
    """The real fork server without the package around it, so that nothing imports torch, and cells that only pretend."""
    monkeypatch.setattr(launcher, "HOST", (sys.executable, fork_server.__file__))
    monkeypatch.setattr(launcher, "CELL", "fake_cell")
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))


@pytest.fixture
def cell(cell_of, evaluation_of):
    """A cell whose process, or whose evaluations, do what `how` says."""

    def cell(number, how=None, evaluations=(None, None)):
        params = {"how": how, "number": number}
        judged = [evaluation_of(f"net{i}", params={"how": what}) for i, what in enumerate(evaluations)]
        return cell_of(judged, params=params, method_spec=f"m{number}", method=f"m{number}")

    return cell


@pytest.fixture
def gone():
    """Whether a process has ended, or does so within seconds (a zombie that waits for its parent counts)."""

    def gone(pid):
        try:
            return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
        except OSError:
            return True

    return lambda pid, seconds=10: wait_until(lambda: gone(pid), seconds)


def wait_until(condition, seconds=10):
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.02)
    return condition()


@pytest.fixture(name="wait_until")
def wait_until_fixture():
    return wait_until
