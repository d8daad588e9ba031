"""The faults. Each function does one kind, checks what must hold, and returns how many it did."""

import os
import random
import resource
import shutil
import signal
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path

from .world import World, descendants, results

SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
CODES = {signal.SIGTERM: 143, signal.SIGINT: 130, signal.SIGHUP: 129, signal.SIGKILL: -9}


class Skipped(Exception):
    """With a reason."""


def kills_of_the_parent(world: World, kills: int, rng: random.Random) -> int:
    """A signal at a random moment, up to three times in a row on one run folder."""
    done = 0
    while done < kills:
        out = world.root / f"parent{done}"
        for _ in range(min(rng.randint(1, 3), kills - done)):
            number, process = rng.choice(SIGNALS), world.start(out)
            time.sleep(rng.uniform(0.05, 1.0) * world.seconds)
            process.send_signal(number)
            said = process.communicate(timeout=120)[0]
            assert process.returncode in (CODES[number], -number, 0), f"{number.name}: exit code {process.returncode}: {said}"
            assert "Traceback" not in said, said
            world.orphans()
            done += 1
        world.check(out)
    return done


def kills_of(kind: str, world: World, kills: int, rng: random.Random) -> int:
    """Signals to cells or fork servers, one after the other while a run goes on; each costs a row at most."""
    done = 0
    while done < kills:
        out = world.root / f"{kind}{done}"
        process = world.start(out)
        while process.poll() is None and done < kills:
            time.sleep(rng.uniform(0.05, 1.5))
            for pid in descendants(process.pid, kind)[:1]:
                try:
                    os.kill(pid, rng.choice(SIGNALS))
                    done += 1
                except ProcessLookupError:
                    continue
        said = process.communicate(timeout=600)[0]
        assert process.returncode in (0, 1), f"the run ended with {process.returncode}: {said}"
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
    said = process.communicate(timeout=600)[0]
    assert "Traceback" not in said, said
    world.check(out)
    return 2


def two_runs(world: World) -> int:
    """On one run folder, where the second is refused or finds all done; and on one cold cache."""
    out = world.root / "shared"
    both = [world.start(out) for _ in range(2)]
    said = [process.communicate(timeout=600)[0] for process in both]
    assert sorted(p.returncode for p in both) in ([0, 2], [0, 0]), said
    world.check(out)
    cold = {"DDBENCH_CACHE": str(world.root / "cold")}
    outs = [world.root / "cold-a", world.root / "cold-b"]
    both = [world.start(place, env=cold) for place in outs]
    assert [(p.communicate(timeout=600), p.returncode)[1] for p in both] == [0, 0]
    for place in outs:
        world.check(place)
    return 2


def memory_limits(world: World, gibibytes: list[float]) -> int:
    """RLIMIT_AS of the run and all its processes."""
    for size in gibibytes:
        limit = int(size * 2**30)
        out = world.root / f"limit-{size}"
        code, said = world.run(out, preexec_fn=lambda limit=limit: resource.setrlimit(resource.RLIMIT_AS, (limit, limit)))
        assert code != 0 or results(out) == world.expected, said
        world.check(out)
    return len(gibibytes)


def bad_plugins(world: World, hows: list[str]) -> int:
    """Beside the cells of the grid, which are as they were without them."""
    for how in hows:
        out = world.root / f"bad-{how}"
        grid = ["-m", f"bad[how={how}]", *world.grid]
        begin = time.monotonic()
        code, said = world.run(out, "--timeout", "20", grid=grid)
        assert code in (0, 1), said
        assert time.monotonic() - begin < 20 * 3 + 10 * world.seconds, "a bad plugin held the run"
        found = results_of_good(out)
        assert found == world.expected, f"bad[how={how}] changed {found}"
        world.orphans()
        shutil.rmtree(out)
    return len(hows)


def results_of_good(out: Path) -> dict:
    """The results of the grid alone."""
    import json

    kept = [line for line in (out / "records.jsonl").read_text().splitlines() if json.loads(line)["method"] == "walk"]
    (out / "records.jsonl").write_text("".join(f"{line}\n" for line in kept))
    return results(out)
