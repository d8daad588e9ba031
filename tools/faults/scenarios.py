"""The faults. Each function does one kind, checks what must hold, and returns how many it did."""

import json
import os
import random
import resource
import shutil
import signal
import subprocess
import time
from collections import defaultdict
from contextlib import contextmanager, suppress
from pathlib import Path

from .world import GRID, World, descendants, lines, results

SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
CODES = {signal.SIGTERM: 143, signal.SIGINT: 130, signal.SIGHUP: 129, signal.SIGKILL: -9}
FRESH = 10  # of so many runs that are killed, one is a new interpreter
JUDGES = 2  # evaluations of a cell
CLOCK = Path(__file__).with_name("clock.c")
OF_BAD = {  # what the evaluations of a method that does so end as
    "raise": "failed", "exit": "failed", "segfault": "failed", "fork": "ok", "flood": "failed", "hang": "timeout",
    "hold": "timeout", "stop": "timeout", "close": "failed", "daemon": "ok", "thread": "ok",
}  # fmt: skip
AT_IMPORT = {"raises": "raise KeyError('a bug')", "exits": "import sys; sys.exit(0)", "is no Python": "def :"}


class Skipped(Exception):
    """With a reason."""


def kills_of_the_parent(world: World, kills: int, rng: random.Random) -> int:
    """A signal at a random moment, up to three times in a row on one run folder."""
    done = 0
    while done < kills:
        out = world.root / f"parent{done}"
        for _ in range(min(rng.randint(1, 3), kills - done)):
            number, process = rng.choice(SIGNALS), world.start(out, fresh=done % FRESH == FRESH - 1)
            time.sleep(rng.uniform(0.05, 1.0) * world.seconds)
            process.send_signal(number)
            code, said = process.end(300)
            assert code in (CODES[number], -number, 0), f"{number.name}: exit code {code}: {said}"
            assert "Traceback" not in said, said
            assert code not in CODES.values() or number == signal.SIGKILL or "what is finished is stored" in said, said
            world.orphans()
            done += 1
        world.check(out)
    return done


def kills_of(kind: str, world: World, kills: int, rng: random.Random) -> int:
    """Signals to cells or fork servers, one after the other while a run goes on; each costs a row at most."""
    done = 0
    while done < kills:
        out = world.root / f"{kind}{done}"
        process = world.start(out, fresh=rng.randrange(FRESH) == 0)
        while process.poll() is None and done < kills:
            found = descendants(process.pid, kind)
            time.sleep(rng.uniform(0.0, world.seconds / 8) if found else 0.01)
            with suppress(ProcessLookupError):
                for pid in found[:1]:
                    os.kill(pid, rng.choice(SIGNALS))
                    done += 1
        code, said = process.end()
        assert code in (0, 1), f"the run ended with {code}: {said}"
        assert "Traceback" not in said, said
        world.check(out)
    return done


@contextmanager
def tmpfs(place: Path, size: str):
    """A file system of its own; yields a function that gives it another size or makes it read-only."""
    place.mkdir(parents=True)
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(place)], capture_output=True, text=True)
    if made.returncode:
        raise Skipped(f"no tmpfs here: {made.stderr.strip() or 'mount failed'}")
    try:
        yield lambda options: subprocess.run(["mount", "-o", f"remount,{options}", str(place)], check=True, capture_output=True)
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def full_disks(world: World, sizes: list[str]) -> int:
    """In OUT, in the cache, and in TMPDIR, which fill up at some point of the run."""
    for what in ("out", "cache", "tmp"):
        for size in sizes:
            place = world.root / f"disk-{what}-{size}"
            with tmpfs(place, size) as remount:
                out = place / "run" if what == "out" else world.root / f"full-{what}-{size}"
                env = {"cache": {"DDBENCH_CACHE": str(place)}, "tmp": {"TMPDIR": str(place)}}.get(what, {})
                code, said = world.run(out, env=env)
                assert "Traceback" not in said, said
                assert code in (0, 1, 2), said
                remount("size=64m,rw")
                world.check(out)
    return 3 * len(sizes)


def read_only_and_vanished(world: World) -> int:
    place = world.root / "read-only"
    with tmpfs(place, "64m") as remount:
        remount("ro")
        code, said = world.run(place / "run")
        assert (code, "Traceback" in said) == (2, False), said
        remount("rw")
        world.check(place / "run")
    out = world.root / "vanished"
    process = world.start(out)
    time.sleep(0.7 * world.seconds)
    shutil.rmtree(out, ignore_errors=True)
    code, said = process.end()
    assert "Traceback" not in said, said
    world.check(out)
    return 2


def two_runs(world: World) -> int:
    """On one run folder, where the second is refused or finds all done; and on one cold cache."""
    out = world.root / "shared"
    ended = [process.end() for process in [world.start(out) for _ in range(2)]]
    assert sorted(code for code, _ in ended) in ([0, 2], [0, 0]), ended
    world.check(out)
    cold = {"DDBENCH_CACHE": str(world.root / "cold")}
    outs = [world.root / "cold-a", world.root / "cold-b"]
    ended = [process.end() for process in [world.start(place, env=cold) for place in outs]]
    assert [code for code, _ in ended] == [0, 0], ended
    for place in outs:
        world.check(place)
    return 2


def limits_of_a_run(world: World, gibibytes: list[float]) -> int:
    """RLIMIT_AS of the command and all its processes, from the first import on."""
    for size in gibibytes:
        limit = int(size * 2**30)
        out = world.root / f"limit-{size}"
        code, said = world.run(out, fresh=True, prepare=lambda n=limit: resource.setrlimit(resource.RLIMIT_AS, (n, n)))
        assert code != 0 or results(out) == world.expected, said
        assert set(statuses(out, "walk")) <= {"ok", "oom"}, reasons(out)
        world.check(out)
    return len(gibibytes)


def limits_of_cells(world: World, mebibytes: list[int]) -> int:
    """RLIMIT_AS of a cell, reached at some point of its work: it is out of memory by name, or has enough."""
    out = world.root / "starved"
    cells = [word for room in mebibytes for word in ("-m", f"starved[room={room}]")]
    code, said = world.run(out, grid=[*cells, *world.grid])
    assert code in (0, 1), said
    found = [status for room in mebibytes for status in statuses(out, "starved", room=room)]
    assert len(found) >= JUDGES * len(mebibytes), said
    assert set(found) <= {"ok", "oom"}, reasons(out)
    assert "oom" in found, "no limit was reached"
    world.check(out)
    return len(mebibytes)


@contextmanager
def cgroup(limit: int):
    """A control group with so many bytes; yields a function by which a process enters it."""
    name, root = f"ddbench-faults-{os.getpid()}", Path("/sys/fs/cgroup")
    own = {kinds: path for _, kinds, path in (line.split(":", 2) for line in Path("/proc/self/cgroup").read_text().split())}
    if "memory" in own:
        place, file = root / "memory" / own["memory"].lstrip("/") / name, "memory.limit_in_bytes"
    else:
        place, file = root / own.get("", "").lstrip("/") / name, "memory.max"
    try:
        place.mkdir()
    except OSError as error:
        raise Skipped(f"no control groups here: {error.strerror}") from error
    try:
        try:
            (place / file).write_text(str(limit))
        except OSError as error:
            raise Skipped(f"no memory limits in control groups here: {error.strerror}") from error
        yield lambda: (place / "cgroup.procs").write_text(str(os.getpid()))
    finally:
        place.rmdir()


def limits_of_a_cgroup(world: World, gibibytes: list[float]) -> int:
    """As a container or Slurm sets them: the kernel kills the cell that takes too much, and the others are as they were."""
    for size in gibibytes:
        out = world.root / f"cgroup-{size}"
        with cgroup(int(size * 2**30)) as enter:
            code, said = world.run(out, grid=["-m", "starved", *world.grid], prepare=enter)
            world.orphans()
        assert code == 1, f"{code}: {said}"
        assert set(statuses(out, "starved")) == {"oom"}, reasons(out)
        assert results(out) == world.expected, reasons(out)
        world.check(out)
    return len(gibibytes)


def jumping_clock(world: World) -> int:
    """A wall clock that goes forth and back by days, for every process of a run; once with a kill between."""
    library = world.root / "clock.so"
    try:
        subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", str(library), str(CLOCK)], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise Skipped(f"the clock cannot be compiled here: {error}") from error
    out, jumps = world.root / "clock", {"LD_PRELOAD": str(library)}
    process = world.start(out, "--timeout", "600", env=jumps, fresh=True)
    time.sleep(1.2 * world.seconds)
    process.send_signal(signal.SIGKILL)
    process.wait()
    world.orphans()
    code, said = world.run(out, "--timeout", "600", env=jumps, fresh=True)
    assert code == 0, said
    world.check(out)
    return 2


def bad_plugins(world: World, hows: list[str]) -> int:
    """Beside the cells of the grid, which are as they were without them; and at their import, which ends the command."""
    out, cells = world.root / "bad", [word for how in hows for word in ("-m", f"bad[how={how}]")]
    grid = [*cells, *GRID.split(), "--seed", "0"]
    limit = 15 + world.seconds  # a cell that closes its descriptors is given ten seconds
    begin = time.monotonic()
    code, said = world.run(out, "--timeout", str(limit), grid=grid)
    assert code in (0, 1), said
    assert "Traceback" not in said, said
    assert time.monotonic() - begin < 10 * world.seconds + len(hows) * 2 * limit, "bad plugins held the run"
    world.orphans()
    for how in hows:
        assert set(statuses(out, "bad", how=how)) == {OF_BAD[how]}, f"{how}: {reasons(out)}"
    found = results(out)
    assert len(found) == JUDGES, reasons(out)
    assert found.items() <= world.expected.items(), "bad plugins changed the results of others"
    world.check(out)
    for how, text in AT_IMPORT.items():
        file = world.root / "broken.py"
        file.write_text(f"{text}\n")
        code, said = world.run(world.root / "import", "--plugin", str(file))
        assert (code, len(said.splitlines())) == (2, 1), f"a plugin that {how}: {code}: {said}"
    return len(hows) + len(AT_IMPORT)


def statuses(out: Path, method: str, **params: object) -> list[str]:
    """Of the records of a method with these parameters; the last of each evaluation."""
    found = [r for r in lines(out) if r["method"] == method and all(r["params"][k] == v for k, v in params.items())]
    return [record["status"] for record in {r["config_hash"]: r for r in found}.values()]


def reasons(out: Path) -> str:
    told = defaultdict(set)
    for record in lines(out):
        if record["status"] != "ok":
            told[record["method"], json.dumps(record["params"])].add(f"{record['status']}: {record['reason']}")
    return "\n".join(f"{key}: {sorted(values)}" for key, values in told.items())
