"""Seconds that a checksum costs a reader of the feature cache: `python -P tools/store_speed.py [GB]`; one thread."""

import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from ddbench.core import store as store_module
from ddbench.core.store import ArrayStore

ROWS, DIM = 1 << 14, 768


def main() -> None:
    gigabytes = float(sys.argv[1]) if len(sys.argv) > 1 else 1.0
    n = int(gigabytes * 1e9 / 4 / DIM)
    block = np.random.default_rng(0).standard_normal((ROWS, DIM), dtype=np.float32)
    with tempfile.TemporaryDirectory() as folder:
        store, key = ArrayStore(Path(folder)), "ab" * 32
        with store.create(key, (1, n, DIM), np.dtype(np.float32)) as out:
            for start in range(0, n, ROWS):
                out[0, start : start + ROWS] = block[: n - start]
        for name, forget in (("first read of a process, with its checksum", True), ("later reads", False)):
            if forget:
                store_module._compared.clear()
            clock = time.process_time()
            store.get(key)
            seconds = time.process_time() - clock
            print(f"{name}: {seconds:.4f} CPU seconds for {gigabytes:g} GB ({gigabytes / seconds:.1f} GB/s)")


if __name__ == "__main__":
    main()
