"""A place for faults: one grid, its undisturbed results, and the same command in as many run folders as there are faults."""

import importlib
import json
import os
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from ddbench.benchmark.cell.main import preload
from ddbench.benchmark.cli import main
from ddbench.benchmark.records.run_folder import set_folder
from ddbench.core.sets import DistilledSet

PLUGIN = Path(__file__).with_name("plugin.py")
TOKEN = "DDBENCH_FAULTS"  # environment variable that marks every process of a world
SAME = ("status", "set_fingerprint", "top1_per_seed")
ORPHANS_END = 5.0  # seconds that processes may take to end after a kill
COMPLAINT = 4000  # characters of a program's output to show
GRID = "-m walk -b fault_net --eval-backbone fault_net -d fault_data --protocol ridge-probe --protocol knn --no-controls"
OF_A_RUN = (  # what a run imports when it needs it
    "processes.runner", "processes.several_gpus", "suite.plan", "suite.overrides", "suite.suite", "report.first",
    "report.render", "report.tables", "report.gallery", "records.regression", "catalogue",
)  # fmt: skip


class Running:
    """A command of ours in a process of its own, forked from this one, which has imported everything: a new interpreter takes
    seconds. With `fresh` it is a new one, as a person starts it."""

    def __init__(self, argv: list[str], log: Path, env: dict[str, str], fresh: bool, prepare: Callable[[], object] | None):
        self.log, self.returncode = log, None
        sys.stdout.flush()
        self.pid = os.fork()
        if self.pid == 0:
            self._become(argv, env, fresh, prepare)

    def poll(self) -> int | None:
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self.returncode = os.waitstatus_to_exitcode(status) if pid else None
        return self.returncode

    def wait(self, timeout: float = 1200) -> tuple[int, str]:
        """Exit code and output. Raises `AssertionError` for one that goes on for longer than `timeout` seconds."""
        end = time.monotonic() + timeout
        while self.poll() is None:
            assert time.monotonic() < end, f"still running after {timeout:g} s: {self._said()}"
            time.sleep(0.02)
        return self.returncode, self._said()

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def _said(self) -> str:
        text = self.log.read_text(errors="replace")
        return text if len(text) <= COMPLAINT else f"… {text[-COMPLAINT:]}"

    def _become(self, argv, env, fresh, prepare) -> None:
        code = 1
        try:
            log = os.open(self.log, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o666)
            for old, new in ((os.open(os.devnull, os.O_RDONLY), 0), (log, 1), (log, 2)):
                os.dup2(old, new)
            os.environ.update(env)
            tempfile.tempdir = None  # TMPDIR may be another one here
            if prepare is not None:
                prepare()
            if fresh:
                os.execv(sys.executable, [sys.executable, "-P", "-m", "ddbench", *argv])
            code = main(argv)
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)


class World:
    """Run folders below one temporary folder, and the command that fills each of them."""

    def __init__(self, seeds: int = 3):
        self.root = Path(tempfile.mkdtemp(prefix="ddbench-faults-"))
        self.cache = self.root / "cache"
        self.grid = [*GRID.split(), *(word for seed in range(seeds) for word in ("--seed", str(seed)))]
        preload()
        for name in OF_A_RUN:
            importlib.import_module(f"ddbench.benchmark.{name}")
        self.finish(self.root / "reference", fresh=True)
        self.expected = results(self.root / "reference")
        begin = time.monotonic()
        self.finish(self.root / "again")
        self.seconds = time.monotonic() - begin
        assert results(self.root / "again") == self.expected, "two undisturbed runs differ"

    def start(
        self,
        out: Path,
        *more: str,
        grid: list[str] | None = None,
        env: dict[str, str] | None = None,
        fresh: bool = False,
        prepare: Callable[[], object] | None = None,
    ) -> Running:
        """The command. `prepare` is called in its process before it begins."""
        argv = ["run", *(grid or self.grid), "--plugin", str(PLUGIN), "--device", "cpu", "--threads", "1"]
        argv += ["--checkpoint-every", "0.1", "--out", str(out), *more]
        descriptor, log = tempfile.mkstemp(prefix="said-", dir=self.root)
        os.close(descriptor)
        return Running(argv, Path(log), {"DDBENCH_CACHE": str(self.cache), **(env or {})}, fresh, prepare)

    def run(self, out: Path, *more: str, **options) -> tuple[int, str]:
        return self.start(out, *more, **options).wait()

    def finish(self, out: Path, tries: int = 2, **options) -> None:
        """The command again, undisturbed. Raises if it fails."""
        for _ in range(tries):
            code, said = self.run(out, **options)
            if code == 0:
                return
        raise AssertionError(f"the undisturbed command ended with {code}: {said}")

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
        found, mark = [], f"{TOKEN}={os.environ[TOKEN]}".encode()
        for environ in Path("/proc").glob("[0-9]*/environ"):
            try:
                if mark in environ.read_bytes().split(b"\0"):
                    found.append(int(environ.parent.name))
            except OSError:
                continue
        return [pid for pid in found if pid != os.getpid()]

    def orphans(self) -> None:
        end = time.monotonic() + ORPHANS_END
        while self.alive() and time.monotonic() < end:
            time.sleep(0.05)
        assert not self.alive(), f"processes outlived their run: {self.alive()}"

    def close(self) -> None:
        for pid in self.alive():
            os.kill(pid, signal.SIGKILL)
        shutil.rmtree(self.root, ignore_errors=True)


def lines(out: Path) -> list[dict]:
    """All records; one that is torn is an error, but for the last, which a kill may cut short."""
    file = out / "records.jsonl"
    return [json.loads(line) for line in file.read_bytes().split(b"\n")[:-1]] if file.exists() else []


def results(out: Path) -> dict:
    """What must be equal, by configuration of the grid: the records that count, and the content of their sets."""
    best = {}
    for record in lines(out):
        if record["method"] == "walk" and (record["status"] == "ok" or record["config_hash"] not in best):
            best[record["config_hash"]] = record
    made = [r for r in best.values() if r["status"] == "ok"]
    sets = {r["set_hash"]: DistilledSet.load(set_folder(out, r)).fingerprint() for r in made}
    return {key: [*(r[name] for name in SAME), sets.get(r["set_hash"])] for key, r in best.items()}


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
