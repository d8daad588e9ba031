"""Parts of a run, measured alone: reading JPEGs, queueing work on a GPU, a probe on the features of the full data."""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from ddbench.benchmark.machine.measure import Meter, clock, current_rss
from ddbench.core.method import METHODS, PROTOCOLS
from ddbench.core.run import Run
from ddbench.datasets.folder import Folder

from .cases import Case
from .inputs import RandomBank, load, random_data

Row = dict[str, Any]
_FULL = 20_000  # real images that the probe on all of them sees; its pace does not depend on their number
_JPEGS, _SHAPE, _SIZE = 256, (500, 375), 256  # files, their pixels (ImageNet's usual ones), the side that they are decoded to
_PASSES, _TRIES = 3, 5  # backbone passes that are queued together: too few to fill the GPU's queue; the best try counts


def decode(case: Case, device: torch.device) -> Row:
    """JPEGs per second through the reader of image folders, with a thread per core, and through torchvision on the GPU."""
    meter, base = Meter(device), current_rss() or 0
    with tempfile.TemporaryDirectory() as folder:
        files = _photographs(Path(folder))
        images = Folder(Path(folder), size=_SIZE, memory_limit_gb=1e-9).load().train.images  # decoded at each access
        every, count = torch.arange(len(images)), 0
        images[every]
        start = clock()
        with meter.phase("decode"):
            while not count or clock() - start < case.aim:
                images[every]
                count += len(images)
        on_gpu, reason = _decoded_on_gpu(files, device)
    return {
        "images_per_second": count / meter.seconds["decode"],
        "gpu_images_per_second": on_gpu,
        "gpu_reason": reason,
        "peak_bytes": meter.peaks["decode"].to_json(),
        "base_bytes": base,
    }


def _photographs(folder: Path) -> list[Path]:
    """JPEGs in the layout of an image folder, one class; smooth shapes and some noise, about as large as photographs."""
    rng, (width, height) = np.random.default_rng(0), _SHAPE
    for split, count in (("train", _JPEGS), ("test", 1)):
        (folder / split / "class").mkdir(parents=True)
        for number in range(count):
            shapes = Image.fromarray(rng.integers(0, 256, (24, 32, 3), dtype=np.uint8))
            shapes = shapes.resize((width, height), Image.Resampling.BICUBIC)
            noisy = np.asarray(shapes) + rng.normal(0, 6, (height, width, 3))
            Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(folder / split / "class" / f"{number}.jpg", quality=90)
    return sorted((folder / "train").rglob("*.jpg"))


def _decoded_on_gpu(files: list[Path], device: torch.device) -> tuple[float | None, str | None]:
    """Images per second, or the reason why there are none."""
    if device.type != "cuda":
        return None, "the device is a CPU"
    try:
        from torchvision.io import decode_jpeg, read_file

        encoded = [read_file(str(file)) for file in files]
        decode_jpeg(encoded[:8], device=device)
        torch.cuda.synchronize(device)
        start = clock()
        decode_jpeg(encoded, device=device)
        torch.cuda.synchronize(device)
    except Exception as error:  # a build without nvJPEG, or an older torchvision: the rest of the row stands
        return None, " ".join(f"{type(error).__name__}: {error}".split())[:200]
    return len(encoded) / (clock() - start), None


def launch(case: Case, device: torch.device) -> Row:
    """How much of a backbone pass, there and back, the host needs to queue it; with nearly all of it the GPU waits."""
    backbone, size = load(case, device), case.chunk or Run().chunk_size
    base, meter = current_rss() or 0, Meter(device)
    pixels = torch.rand(size, 3, backbone.spec.input_size, backbone.spec.input_size, device=device, requires_grad=True)
    tries = []
    with meter.phase("passes"):
        for _ in range(_TRIES + 1):
            meter.synchronize()
            start = clock()
            for _ in range(_PASSES):
                backbone(pixels).sum().backward()
            queued = clock() - start
            meter.synchronize()
            tries.append(((clock() - start) / _PASSES, queued / _PASSES))
    seconds, queued = min(tries[1:])
    peaks = meter.peaks["passes"].to_json()
    share = queued / seconds if device.type == "cuda" else None  # a CPU has no queue
    rates = {"seconds": seconds, "images_per_second": size / seconds, "launch_share": share}
    return {**rates, "peak_bytes": peaks, "base_bytes": base}


def ceiling(case: Case, device: torch.device) -> Row:
    """Training images per second, over all epochs and probe seeds, of a probe on cached features of the full data."""
    backbone, protocol = load(case, device), PROTOCOLS.create(case.spec)
    data = random_data(case.classes, backbone.spec.stage_size, _FULL)
    run = Run(device=device, bank=RandomBank(device=device))
    dset = METHODS.get("full")().distill(None, data, 1, run=run)  # type: ignore[arg-type]  # it uses no backbone
    meter, base = Meter(device), current_rss() or 0
    with meter.phase("evaluate"):
        protocol.evaluate(backbone, data, dset, run=run)
    seconds, seeds = meter.seconds["evaluate"], getattr(protocol, "seeds", 1)
    seen = len(dset) * getattr(protocol, "full_epochs", 1) * seeds
    peaks = meter.peaks["evaluate"].to_json()
    rates = {"seconds": seconds, "images_per_second": seen / seconds, "seeds": seeds}
    return {**rates, "peak_bytes": peaks, "base_bytes": base}
