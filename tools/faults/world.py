"""A place for faults: one grid, its undisturbed results, and the same command in as many run folders as there are faults."""

import json
import os
import shutil
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from ddbench.benchmark.records.run_folder import set_folder
from ddbench.core.sets import DistilledSet

from .forked import Running, import_everything

PLUGIN = Path(__file__).with_name("plugin.py")
TOKEN = "DDBENCH_FAULTS"  # environment variable that marks every process of a world
SAME = ("status", "set_fingerprint", "top1_per_seed")
ORPHANS_END = 5.0  # seconds that processes may take to end after a kill
GRID = "-m walk -b fault_net --eval-backbone fault_net -d fault_data --protocol ridge-probe --protocol knn --no-controls"


class World:
    """Run folders below one temporary folder, and the command that fills each of them."""

    def __init__(self, seeds: int = 3):
        self.root = Path(tempfile.mkdtemp(prefix="ddbench-faults-"))
        self.cache = self.root / "cache"
        self.grid = [*GRID.split(), *(word for seed in range(seeds) for word in ("--seed", str(seed)))]
        import_everything()
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
        return self.start(out, *more, **options).end()

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
    """Fork servers of a run, which have a session of their own, or their cells."""
    servers = [pid for pid in children(parent) if _leads(pid)]
    return servers if kind == "server" else [pid for server in servers for pid in children(server)]


def _leads(pid: int) -> bool:
    try:
        return os.getsid(pid) == pid
    except OSError:
        return False
