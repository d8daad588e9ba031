"""make faults ARGS="--short | --kills N | --seed S | --only WORD | --ray": a line per kind; exits 1 if one did not hold.

On two idle cores --short takes less than two minutes.
"""

import argparse
import os
import random
import secrets
import signal
import sys
import time
import traceback
from functools import partial

from . import scenarios
from .world import TOKEN, World

SHORT_OF_BAD = ["raise", "exit", "segfault", "fork", "flood", "hang", "daemon"]
ROOMS = [1, 2, 4, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 512]  # MiB that a cell may still take


def main() -> int:
    parser = argparse.ArgumentParser(prog="faults", description=__doc__)
    parser.add_argument("--short", action="store_true", help="a few of each kind")
    parser.add_argument("--kills", type=int, metavar="N", help="in all; default: 200, short: 6")
    parser.add_argument("--seed", type=int, default=random.randrange(10**6), help="of the random moments; default: random")
    parser.add_argument("--only", default="", metavar="WORD", help="the kinds whose name has this word")
    parser.add_argument("--ray", action="store_true", help="60 cells on a Ray cluster of three nodes instead")
    args = parser.parse_args()
    if TOKEN not in os.environ:  # /proc shows the environment that a process began with
        os.environ.update({TOKEN: secrets.token_hex(8), "PYTHONHASHSEED": "0"})
        os.execv(sys.executable, [sys.executable, "-P", "-m", "faults", *sys.argv[1:]])
    for number in (signal.SIGINT, signal.SIGHUP):  # ignored where this was started in the background, and runs respect that
        signal.signal(number, signal.SIG_DFL if number == signal.SIGHUP else signal.default_int_handler)
    if args.ray:
        from .on_ray import lose_a_node_and_the_driver

        return lose_a_node_and_the_driver()
    kills = args.kills if args.kills is not None else 6 if args.short else 200
    print(f"seed {args.seed}, {kills} kills", flush=True)
    begin = time.monotonic()
    world, failed = World(seeds=2 if args.short else 3), 0
    print(f"undisturbed: {len(world.expected)} records in {world.seconds:.1f} s", flush=True)
    try:
        for name, fault in kinds(kills, args.short, args.seed):
            if args.only in name:
                failed += not held(name, fault, world)
    finally:
        world.close()
    print(f"{'all held' if not failed else f'{failed} FAILED'} after {time.monotonic() - begin:.0f} s")
    return int(failed > 0)


def held(name: str, fault: partial, world: World) -> bool:
    begin, failed = time.monotonic(), False
    try:
        said = f"{fault(world)} held"
    except scenarios.Skipped as error:
        said = f"skipped: {error}"
    except Exception:
        failed = True
        said = f"FAILED\n{traceback.format_exc()}"
    print(f"{name:36} {said}  ({time.monotonic() - begin:.0f} s)", flush=True)
    return not failed


def kinds(kills: int, short: bool, seed: int) -> list[tuple[str, partial]]:
    """What is done, by name; a share of the kills each, and random moments of its own."""
    parents, cells = kills * 3 // 10, kills // 2
    servers = kills - parents - cells
    rng = [random.Random(seed + k) for k in range(3)]
    return [
        ("signals to the parent", partial(scenarios.kills_of_the_parent, kills=parents, rng=rng[0])),
        ("signals to cells", partial(scenarios.kills_of, "cell", kills=cells, rng=rng[1])),
        ("signals to fork servers", partial(scenarios.kills_of, "server", kills=servers, rng=rng[2])),
        ("full disks (OUT, cache, TMPDIR)", partial(scenarios.full_disks, sizes=["64k"] if short else ["16k", "64k", "200k"])),
        ("OUT read-only, OUT vanished", partial(scenarios.read_only_and_vanished)),
        ("two runs on one OUT, one cache", partial(scenarios.two_runs)),
        ("memory of the run (RLIMIT_AS)", partial(scenarios.limits_of_a_run, gibibytes=[2] if short else [1, 1.5, 2, 3, 4])),
        ("memory of cells (RLIMIT_AS)", partial(scenarios.limits_of_cells, mebibytes=ROOMS[1::4] if short else ROOMS)),
        ("memory of a control group", partial(scenarios.limits_of_a_cgroup, gibibytes=[1] if short else [1, 1.5, 2])),
        ("a clock that jumps", partial(scenarios.jumping_clock)),
        ("bad plugins", partial(scenarios.bad_plugins, hows=SHORT_OF_BAD if short else [*scenarios.OF_BAD])),
    ]


if __name__ == "__main__":
    sys.exit(main())
