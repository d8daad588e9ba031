"""Images per second from JPEG files to float tensors, against torchvision's ImageFolder and DataLoader.

    PYTHONPATH=tools python -m perf.loading --folder DIR           1,000 images re-encoded at 500 x 375 pixels, 1 and 2 cores
    PYTHONPATH=tools python -m perf.loading --folder DIR --cores 8 --images 5000

Both read the same files, resize the shorter side to 256, crop the centre and give float32 batches in [0, 1]; w cores are w
threads here and w worker processes there (none of its own for one core). Each measurement is the second pass over the files
of a fresh process bound to w cores; both loaders take turns, and medians are compared. The processor time per image is what
remains comparable on a machine that is busy with other work.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader
from torchvision import datasets, transforms

from ddbench.core.data import index_chunks, stage
from ddbench.datasets._files import StreamedImages
from ddbench.datasets.folder import class_folders, class_listing

_SIZE, _BATCH = 256, 128
_QUALITY = 90  # of the re-encoded JPEGs; ImageNet's are about as large


def main() -> None:
    args = _arguments()
    if args.one is not None:
        print(json.dumps(measure(Path(args.folder), args.one, args.cores[0])))
        return
    with tempfile.TemporaryDirectory() as folder:
        written = write_tree(Path(args.folder), Path(folder), args.images, (args.width, args.height))
        print(f"{written} JPEGs of {args.width} x {args.height} pixels, shorter side to {_SIZE}, batches of {_BATCH}")
        print(f"{'cores':>5} {'loader':>12} {'images/s':>9} {'ratio':>6} {'CPU ms/image':>13} {'ratio':>6}")
        for cores in args.cores:
            passes = [{name: _in_fresh_process(folder, name, cores) for name in LOADERS} for _ in range(args.repeats)]
            found = {name: [statistics.median(one[name][k] for one in passes) for k in range(2)] for name in LOADERS}
            for name, (wall, cpu) in found.items():
                faster, cheaper = found["torchvision"][0] / wall, cpu / found["torchvision"][1]
                print(f"{cores:>5} {name:>12} {1 / wall:>9.1f} {faster:>6.2f} {1000 * cpu:>13.2f} {cheaper:>6.2f}", flush=True)


def write_tree(source: Path, target: Path, count: int, shape: tuple[int, int]) -> int:
    """`count` images of an image folder as JPEGs of one shape in one class folder; the number written."""
    files = class_listing(source, class_folders(source)).files[:count]
    (target / "class").mkdir()
    for k, file in enumerate(files):
        with Image.open(file) as image:
            image.convert("RGB").resize(shape).save(target / "class" / f"{k:06}.jpg", quality=_QUALITY)
    return len(files)


def measure(folder: Path, name: str, cores: int) -> tuple[float, float]:
    """Seconds and seconds of processor time per image of a second pass over the folder, bound to that many cores."""
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cores])
    torch.set_num_threads(cores)
    images = sum(len(batch) for batch in LOADERS[name](folder, cores))  # warms the page cache and the libraries
    wall, cpu = time.perf_counter(), _cpu()
    for _ in LOADERS[name](folder, cores):
        pass
    return (time.perf_counter() - wall) / images, (_cpu() - cpu) / images


def _cpu() -> float:
    """Processor seconds of this process and its finished workers."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def with_ddbench(folder: Path, cores: int) -> Iterator[Tensor]:
    """As the feature bank reads a streamed set; a thread for each core that the process may use."""
    source = StreamedImages(class_listing(folder, class_folders(folder)).files, _SIZE)
    for indices in index_chunks(len(source), _BATCH):
        yield stage(source[indices], _SIZE)


def with_torchvision(folder: Path, cores: int) -> Iterator[Tensor]:
    """The usual recipe."""
    steps = [transforms.Resize(_SIZE), transforms.CenterCrop(_SIZE), transforms.ToTensor()]
    data = datasets.ImageFolder(str(folder), transforms.Compose(steps))
    for images, _ in DataLoader(data, batch_size=_BATCH, num_workers=cores if cores > 1 else 0):
        yield images


LOADERS: dict[str, Callable[[Path, int], Iterator[Tensor]]] = {"torchvision": with_torchvision, "ddbench": with_ddbench}


def _in_fresh_process(folder: str, name: str, cores: int) -> tuple[float, float]:
    command = [sys.executable, "-P", "-m", "perf.loading"]
    command += ["--folder", folder, "--one", name, "--cores", str(cores)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--folder", required=True, help="an image folder with class folders, the source of the JPEGs")
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--width", type=int, default=500)
    parser.add_argument("--height", type=int, default=375)
    parser.add_argument("--cores", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--one", choices=("torchvision", "ddbench"), help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
