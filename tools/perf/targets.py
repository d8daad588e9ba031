"""What the measured rows say about the targets for one H200, and about what else a table cannot show: one line each.

ImageNet-1k at one image per class with ViT-B/16, 5,000 steps: CLP-DD within 20 minutes, LGM with 3 copies within 75, both at
half of the rate of a matrix product or more; and CLP-DD in 8 GB at some chunk, at no more than 1.5 times its time.
"""

from collections.abc import Callable, Sequence
from typing import Any

from .cases import CLPDD, VIT, lgm

Row = dict[str, Any]
_STEPS = 5000
_ENOUGH = 100  # timed steps that an extrapolation should rest on
_HALF = 0.5  # of the rate of a matrix product
_LITTLE, _SLOWER = 8e9, 1.5  # bytes, times the seconds
_SAMPLES, _EPOCHS = 1_281_167, 100  # ImageNet-1k's train split, epochs of a probe on it


def lines(rows: Sequence[Row]) -> list[str]:
    """Targets with `met` or `missed`, then notes; nothing for what was not measured."""
    measured = [row for row in rows if row["status"] == "ok"]
    headline = [
        ("CLP-DD, no copies", CLPDD, 20),
        ("LGM, 3 copies, bank", lgm(3), 75),
        ("LGM, 3 copies, live", lgm(3, "live"), 75),
    ]
    targets = [line for name, spec, most in headline for row in _of(measured, spec) for line in _pace(name, row, most)]
    notes = [note(row) for row in measured if (note := _NOTES.get(row["kind"]))]
    return [*targets, *_little_memory(measured), *filter(None, notes)]


def _of(rows: Sequence[Row], spec: str) -> list[Row]:
    """The row of ImageNet-1k, IPC 1, at the chunk that the engine chose."""
    asked = {"kind": "steps", "spec": spec, "backbone": VIT, "classes": 1000, "ipc": 1, "chunk": None, "compiled": False}
    return [row for row in rows if all(row[key] == value for key, value in asked.items())]


def _pace(name: str, row: Row, most: float) -> list[str]:
    minutes = row["seconds"] * _STEPS / 60
    basis = f"from {row['steps']} timed steps" + ("" if row["steps"] >= _ENOUGH else f", fewer than {_ENOUGH}")
    found = [f"{name}: {_STEPS:,} steps in {minutes:.1f} min ({basis}); target {most} min: {_word(minutes <= most)}"]
    if "utilisation" in row:
        share = row["utilisation"]
        found.append(f"{name}: {share:.0%} of the matrix product's rate; target {_HALF:.0%}: {_word(share >= _HALF)}")
    return found


def _little_memory(rows: Sequence[Row]) -> list[str]:
    """CLP-DD's chunk with the shortest step among those that take little memory, against the shortest of all."""
    same = [row for row in rows if _of([{**row, "chunk": None}], CLPDD)]
    if not any(row["peak_bytes"]["gpu_allocated"] for row in same):
        return []
    small = [row for row in same if row["peak_bytes"]["gpu_allocated"] <= _LITTLE]
    if not small:
        least = min(row["peak_bytes"]["gpu_allocated"] for row in same)
        return [f"CLP-DD, no copies, in {_LITTLE / 1e9:g} GB: the smallest peak is {least / 1e9:.1f} GB: missed"]
    best, fastest = (min(row["seconds"] for row in group) for group in (small, same))
    row = next(row for row in small if row["seconds"] == best)
    size = f"{row['peak_bytes']['gpu_allocated'] / 1e9:.1f} GB at chunk {row['chunk'] or row['chunks'][-1]}"
    slower = f"{best / fastest:.2f} times the shortest step; target {_SLOWER:g}"
    return [f"CLP-DD, no copies, in {_LITTLE / 1e9:g} GB: {size}, {slower}: {_word(best <= _SLOWER * fastest)}"]


def _word(met: bool) -> str:
    return "met" if met else "missed"


def _launch(row: Row) -> str:
    if row["launch_share"] is None:
        return ""
    share = f"queueing takes {row['launch_share']:.0%} of the time"
    return f"backbone pass there and back, {row['chunk']} views of {row['backbone']}: {share} (near 100 %: launch-bound)"


def _ceiling(row: Row) -> str:
    minutes = _SAMPLES * _EPOCHS / (row["images_per_second"] / row["seeds"]) / 60
    return f"probe on cached features of the full data: {_EPOCHS} epochs of ImageNet-1k in {minutes:.0f} min, all probe seeds"


def _decode(row: Row) -> str:
    on_gpu = row["gpu_images_per_second"]
    other = f"{on_gpu:,.0f}/s on the GPU (torchvision)" if on_gpu else f"not on a GPU: {row['gpu_reason']}"
    return f"JPEG of 500 x 375 pixels decoded to 256: {row['images_per_second']:,.0f}/s on all usable cores; {other}"


_NOTES: dict[str, Callable[[Row], str]] = {"launch": _launch, "ceiling": _ceiling, "decode": _decode}
