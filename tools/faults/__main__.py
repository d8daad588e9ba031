"""make faults ARGS="--short | --kills N | --seed S | --ray": a line per kind of fault; exits 1 if anything did not hold.

On two idle cores --short takes two to three minutes.
"""

import argparse
import random
import signal
import sys
import time
import traceback
from functools import partial

from . import scenarios
from .world import World


def main() -> int:
    parser = argparse.ArgumentParser(prog="faults", description=__doc__)
    parser.add_argument("--short", action="store_true", help="a few of each kind")
    parser.add_argument("--kills", type=int, metavar="N", help="in all; default: 200, short: 6")
    parser.add_argument("--seed", type=int, default=random.randrange(10**6), help="of the random moments; default: random")
    parser.add_argument("--ray", action="store_true", help="60 cells on a Ray cluster of three nodes instead")
    args = parser.parse_args()
    for number in (signal.SIGINT, signal.SIGHUP):  # ignored where this was started in the background, and runs respect that
        signal.signal(number, signal.SIG_DFL if number == signal.SIGHUP else signal.default_int_handler)
    if args.ray:
        from .on_ray import lose_a_node_and_the_driver

        return lose_a_node_and_the_driver()
    kills = args.kills if args.kills is not None else 6 if args.short else 200
    print(f"seed {args.seed}, {kills} kills", flush=True)
    world, failed = World(seeds=2 if args.short else 3), 0
    print(f"undisturbed: {len(world.expected)} records in {world.seconds:.1f} s", flush=True)
    try:
        for name, fault in kinds(kills, args.short, args.seed):
            begin = time.monotonic()
            try:
                said = f"{fault(world)} held"
            except scenarios.Skipped as error:
                said = f"skipped: {error}"
            except Exception:
                failed += 1
                said = f"FAILED\n{traceback.format_exc()}"
            print(f"{name:34} {said}  ({time.monotonic() - begin:.0f} s)", flush=True)
    finally:
        world.close()
    return int(failed > 0)


def kinds(kills: int, short: bool, seed: int) -> list:
    """What is done, by name; a share of the kills each, and random moments of its own."""
    parents, cells = kills * 3 // 10, kills // 2
    of_bad = ["raise", "exit", "segfault", "fork", "flood", "hang", "close", "daemon"]
    return [
        ("signals to the parent", partial(scenarios.kills_of_the_parent, kills=parents, rng=random.Random(seed))),
        ("signals to cells", partial(scenarios.kills_of, "cell", kills=cells, rng=random.Random(seed + 1))),
        (
            "signals to fork servers",
            partial(scenarios.kills_of, "server", kills=kills - parents - cells, rng=random.Random(seed + 2)),
        ),
        ("full disks (OUT, cache, TMPDIR)", partial(scenarios.full_disks, sizes=["64k"] if short else ["16k", "64k", "200k"])),
        ("OUT read-only, OUT vanished", scenarios.read_only_and_vanished),
        ("two runs on one OUT, one cache", scenarios.two_runs),
        ("memory limits (RLIMIT_AS)", partial(scenarios.memory_limits, gibibytes=[2.0] if short else [1.0, 2.0, 3.0, 4.0])),
        ("bad plugins", partial(scenarios.bad_plugins, hows=["segfault", "fork"] if short else of_bad)),
    ]


if __name__ == "__main__":
    sys.exit(main())
