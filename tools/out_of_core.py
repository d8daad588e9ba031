"""A feature bank larger than memory, simulated by a sparse file: written, read back and probed; prints the peak of memory.

    python -P tools/out_of_core.py                              # ImageNet-21k: 14 million images of 768 dimensions, 43 GB
    python -P tools/out_of_core.py --images 300000 --dim 64     # as the tests do

The disk holds only what is not zero, some thousands of rows. Memory is what the process keeps for itself (anonymous pages):
pages of the file are the kernel's, which drops them when others need the room.
"""

import argparse
import contextlib
import json
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import torch

from ddbench.core import store as store_module
from ddbench.core.bank import FeatureBank
from ddbench.core.ridge import RidgePath
from ddbench.core.store import ArrayStore

CHUNK = 256  # images, as a bank writes them
WRITTEN = 4096  # images whose features are not zero


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=14_000_000)
    parser.add_argument("--dim", type=int, default=768)
    parser.add_argument("--classes", type=int, default=21_841)
    parser.add_argument("--folder", help="where the file goes; by default the system's folder for temporary files")
    args = parser.parse_args()
    store_module._reserve = lambda file, size: None  # the file is to stay sparse
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(args.images) % args.classes
    known = torch.arange(0, args.images, max(1, args.images // WRITTEN))
    features = torch.randn(len(known), args.dim, generator=generator) + 20 * (labels[known, None] == torch.arange(args.dim))

    def fill(out: store_module.Rows) -> None:
        for chunk in torch.arange(len(known)).split(CHUNK):
            out[0, known[chunk].numpy()] = features[chunk].numpy()

    seconds, clock = {}, time.perf_counter()
    with tempfile.TemporaryDirectory(dir=args.folder) as folder, peak_above_now() as peak:
        bank = FeatureBank(ArrayStore(Path(folder)))
        z = bank.entry({"simulated": args.images}, (1, args.images, args.dim), fill)[0]
        seconds["write"], clock = time.perf_counter() - clock, time.perf_counter()
        path = RidgePath.fit(z, labels, args.classes)
        seconds["probe"] = time.perf_counter() - clock
        tested = known[labels[known] < args.dim][:1000]
        hits = path.scores(z[tested], 1e-6)[:, : args.dim].argmax(1) == labels[tested]
    print(
        json.dumps(
            {
                "file_mb": args.images * args.dim * 4 // 1_000_000,
                "peak_mb": round(peak[0] / 1e6),
                "tested": len(tested),
                "hits": int(hits.sum()),
                "seconds": {name: round(value, 1) for name, value in seconds.items()},
            }
        )
    )


@contextlib.contextmanager
def peak_above_now() -> Iterator[list[int]]:
    """Bytes of anonymous memory at their highest inside the block, above those before it; looked at every 2 ms."""
    base, done, highest = anonymous(), threading.Event(), [0]

    def watch() -> None:
        while not done.wait(0.002):
            highest[0] = max(highest[0], anonymous() - base)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield highest
    finally:
        done.set()
        watcher.join()


def anonymous() -> int:
    """Bytes of memory of this process that no file stands behind."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith("RssAnon")).split()[1])


if __name__ == "__main__":
    main()
