"""Step time and peak memory of the feature engine against the chunk size, each in a fresh process.

    python -m ddbench.benchmark.perf                       1,000 images of 32 px, mini ResNet
    python -m ddbench.benchmark.perf --images 100 --copies 3 --backbone mini_vit_mae --chunks 25 50 100 300

The gradient is the same for every chunk size; memory is that of one chunk. Prints one row per chunk size, with the ratios to
the whole batch in one pass.
"""

import argparse
import json
import subprocess
import sys

import torch

from ..core.backbone import BACKBONES
from ..core.engine import FeatureEngine
from ..core.images import Pyramid
from ..core.ridge import one_hot, solve_ridge
from ..core.views import View
from .measure import Meter, current_rss

_WARMUP_STEPS, _STEPS = 1, 3
_MIB = 2**20


def main() -> None:
    args = _arguments()
    if args.one is not None:
        print(json.dumps(measure(args)))
        return
    chunks = [*args.chunks, args.images * args.copies]
    rows = {chunk: _in_fresh_process(chunk) for chunk in dict.fromkeys(chunks)}
    whole = rows[chunks[-1]]
    print(f"{args.backbone}, {args.images} images x {args.copies} views, {args.device}, {torch.get_num_threads()} threads")
    print(f"{'chunk':>7} {'s / step':>9} {'ratio':>6} {'peak MiB':>9} {'ratio':>6}")
    for chunk, row in rows.items():
        seconds, memory = row["seconds"] / whole["seconds"], row["bytes"] / whole["bytes"]
        print(f"{chunk:>7} {row['seconds']:>9.3f} {seconds:>6.2f} {row['bytes'] / _MIB:>9.0f} {memory:>6.2f}")


def measure(args: argparse.Namespace) -> dict[str, float]:
    """Seconds per step and peak bytes above what the process held before, for one chunk size."""
    device = torch.device(args.device)
    backbone = BACKBONES.create(args.backbone).load().to(device)
    generator = torch.Generator().manual_seed(0)
    size = backbone.spec.stage_size
    images = Pyramid(args.images, size, generator, start=size).to(device)
    targets = one_hot(torch.arange(args.images) % args.classes, args.classes).repeat(args.copies, 1).to(device)
    real = torch.randn(2000, backbone.spec.dim, generator=generator).to(device)
    engine = FeatureEngine(backbone, [View.parse("flip+crop")] * args.copies, args.one)

    def objective(z: torch.Tensor) -> torch.Tensor:
        return (real @ solve_ridge(z.flatten(0, 1), targets, 0.1)).square().mean()

    base, meter = current_rss() or 0, Meter(device)
    for name, steps in (("warm-up", _WARMUP_STEPS), ("steps", _STEPS)):
        with meter.phase(name):
            for _ in range(steps):
                images.zero_grad()
                engine.step(images, objective, generator)
    peak = meter.peaks["steps"].gpu_allocated if device.type == "cuda" else (meter.peaks["steps"].cpu_rss or 0) - base
    return {"seconds": meter.seconds["steps"] / _STEPS, "bytes": float(peak or 0)}


def _in_fresh_process(chunk: int) -> dict[str, float]:
    command = [sys.executable, "-P", "-m", "ddbench.benchmark.perf", *sys.argv[1:], "--one", str(chunk)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--backbone", default="mini_resnet_dino")
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--copies", type=int, default=1)
    parser.add_argument("--classes", type=int, default=100)
    parser.add_argument("--chunks", type=int, nargs="+", default=[16, 64, 256])
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
