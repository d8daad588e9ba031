"""A place for faults: one grid, its undisturbed results, and the same command in as many run folders as there are faults."""

import json
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from ddbench.benchmark.records.run_folder import set_folder
from ddbench.core.sets import DistilledSet

PLUGIN = Path(__file__).with_name("plugin.py")
SAME = ("status", "set_fingerprint", "top1_per_seed")
ORPHANS_END = 5.0  # seconds that processes may take to end after a kill
COMPLAINT = 4000  # characters of a program's output to show


class World:
    """Run folders below one temporary folder, and the command that fills each of them."""

    def __init__(self, seeds: int = 3):
        self.root = Path(tempfile.mkdtemp(prefix="ddbench-faults-"))
        self.token = secrets.token_hex(8)
        self.cache = self.root / "cache"
        self.grid = [
            "-m",
            "walk",
            "-b",
            "fault_net",
            "--eval-backbone",
            "fault_net",
            "-d",
            "fault_data",
            "--protocol",
            "ridge-probe",
            "--protocol",
            "knn",
        ]
        self.grid += ["--no-controls", *(word for seed in range(seeds) for word in ("--seed", str(seed)))]
        begin = time.monotonic()
        self.finish(self.root / "reference")
        self.seconds = time.monotonic() - begin
        self.expected = results(self.root / "reference")

    def start(self, out: Path, *more: str, grid: list[str] | None = None, **options) -> subprocess.Popen:
        """The command, as a person gives it."""
        command = [
            sys.executable,
            "-P",
            "-m",
            "ddbench",
            "run",
            *(grid or self.grid),
            "--plugin",
            str(PLUGIN),
            "--device",
            "cpu",
        ]
        command += ["--device", "cpu", "--threads", "1", "--checkpoint-every", "0.2", "--out", str(out), *more]
        variables = {"DDBENCH_CACHE": str(self.cache), "DDBENCH_FAULTS": self.token, "OMP_NUM_THREADS": "1"}
        variables = {**os.environ, **variables, **options.pop("env", {})}
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        return subprocess.Popen(command, env=variables, **pipes, **options)

    def run(self, out: Path, *more: str, **options) -> tuple[int, str]:
        process = self.start(out, *more, **options)
        said = process.communicate(timeout=600)[0]
        return process.returncode, said

    def finish(self, out: Path, tries: int = 2, **options) -> None:
        """The command again, undisturbed. Raises if it fails."""
        for _ in range(tries):
            code, said = self.run(out, **options)
            if code == 0:
                return
        raise AssertionError(f"the undisturbed command ended with {code}: {said[-COMPLAINT:]}")

    def check(self, out: Path) -> None:
        """Finish `out` and compare it with the reference."""
        self.orphans()
        self.finish(out)
        found = results(out)
        assert found == self.expected, f"{out}: other results than undisturbed: {found} instead of {self.expected}"
        oks = Counter(r["config_hash"] for r in lines(out) if r["status"] == "ok")
        assert set(oks.values()) == {1}, f"{out}: a record was written twice"
        left = [str(p) for p in out.rglob("*.partial")] + [str(p) for p in (out / "checkpoints").glob("*")]
        assert not left, f"left behind: {left}"
        shutil.rmtree(out)

    def alive(self) -> list[int]:
        """Processes that this world has started, whatever their session or parent."""
        found, mark = [], f"DDBENCH_FAULTS={self.token}".encode()
        for environ in Path("/proc").glob("[0-9]*/environ"):
            try:
                if mark in environ.read_bytes().split(b"\0"):
                    found.append(int(environ.parent.name))
            except OSError:
                continue
        return found

    def orphans(self) -> None:
        end = time.monotonic() + ORPHANS_END
        while self.alive() and time.monotonic() < end:
            time.sleep(0.05)
        assert not self.alive(), f"processes outlived their run: {self.alive()}"

    def close(self) -> None:
        shutil.rmtree(self.root, ignore_errors=True)


def lines(out: Path) -> list[dict]:
    """All records; one that is torn is an error, but for the last, which a kill may cut short."""
    file = out / "records.jsonl"
    return [json.loads(line) for line in file.read_bytes().split(b"\n")[:-1]] if file.exists() else []


def results(out: Path) -> dict:
    """What must be equal, by configuration: the records that count, and the content of their sets."""
    best = {}
    for record in lines(out):
        if record["status"] == "ok" or record["config_hash"] not in best:
            best[record["config_hash"]] = record
    sets = {r["set_hash"]: DistilledSet.load(set_folder(out, r)).fingerprint() for r in best.values()}
    return {key: [*(r[name] for name in SAME), sets[r["set_hash"]]] for key, r in best.items()}


def children(parent: int) -> list[int]:
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            if int(stat.read_text(errors="replace").rpartition(")")[2].split()[1]) == parent:
                found.append(int(stat.parent.name))
        except OSError:
            continue
    return found


def descendants(parent: int, kind: str) -> list[int]:
    """Fork servers of a run, or their cells."""
    servers = [pid for pid in children(parent) if b"fork_server" in _command(pid)]
    return servers if kind == "server" else [pid for server in servers for pid in children(server)]


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""
