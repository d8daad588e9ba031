"""60 cells on three nodes of this machine: one node is killed midway, the driver is killed and started again."""

import os
import signal
import sys
import time
from pathlib import Path

from .world import World, lines, results

CELLS, NODES = 60, 3


def lose_a_node_and_the_driver() -> int:
    """Prints what came of it; 0 if every record is there once, equal to that of a local run."""
    import ray
    from ray.cluster_utils import Cluster

    world = World(seeds=CELLS)
    print(f"local: {len(world.expected)} records in {world.seconds:.0f} s", flush=True)
    os.environ.update(PYTHONSAFEPATH="1", OMP_NUM_THREADS="1", DDBENCH_CACHE=str(world.cache))
    os.chdir(world.root)  # workers import from here first
    small, out = {"object_store_memory": 80 * 2**20}, world.root / "ray"
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False, **small})
    try:
        nodes = [cluster.add_node(num_cpus=1, **small) for _ in range(NODES)]  # type: ignore[arg-type]
        options = ("--launcher", "ray", "--address", cluster.address)
        begin, driver = time.monotonic(), world.start(out, *options)  # type: ignore[arg-type]
        wait_for(out, CELLS // 4)
        cluster.remove_node(nodes[0], allow_graceful=False)
        print(f"node killed at {len(lines(out))} records", flush=True)
        wait_for(out, CELLS)
        driver.send_signal(signal.SIGKILL)
        driver.wait()
        print(f"driver killed at {len(lines(out))} records", flush=True)
        code, said = world.run(out, *options)  # type: ignore[arg-type]
        found = results(out)
        print(f"ray: {len(lines(out))} records, exit code {code}, {time.monotonic() - begin:.0f} s")
        held = code == 0 and found == world.expected and len(lines(out)) == len(found)
        print("equal to the local run, none twice" if held else f"NOT as the local run: {said[-2000:]}", file=sys.stdout)
        return int(not held)
    finally:
        ray.shutdown()
        cluster.shutdown()
        world.close()


def wait_for(out: Path, records: int) -> None:
    end = time.monotonic() + 1800
    while len(lines(out)) < records and time.monotonic() < end:
        time.sleep(0.5)
