"""`ddbench pretrain NAME`: train a network of the zoo again and write its weights and card."""

import os
import platform
import time
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ...core.backbone import BACKBONES
from ...core.data import DATASETS, ImageData
from ...core.errors import UserError
from .._weights import load_state, read_state
from . import Mini, _card
from ._pretrain import OBJECTIVES, Progress, pretrain
from ._probe import probe_accuracy
from .networks import INIT_SEED, untrained


def run_pretrain(
    name: str,
    data: str,
    out: str | Path,
    *,
    epochs: float | None = None,
    batch: int | None = None,
    lr: float | None = None,
    seed: int = INIT_SEED,
    device: str = "cpu",
    threads: int | None = None,
    probes: tuple[str, ...] = (),
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Pre-train `name` on the train images of the dataset spec `data`; write OUT/NAME.safetensors and OUT/NAME.json.

    `epochs`, `batch` and `lr` default to the shipped weights' values. `threads` sets torch's thread count. `probes` are
    dataset specs on which the card compares the network with its initialisation. Returns the card. Raises `UserError` for
    a name that is not of the zoo.
    """
    source = _zoo(name)
    if threads is not None:
        torch.set_num_threads(threads)
    loaded = [DATASETS.create(spec).load() for spec in (data, *probes)]
    out = Path(out).expanduser()
    out.mkdir(parents=True, exist_ok=True)
    epochs = source.epochs if epochs is None else epochs
    start = time.perf_counter()
    network = pretrain(
        source.objective,
        source.architecture,
        loaded[0].train,
        epochs=epochs,
        batch=batch,
        lr=lr,
        seed=seed,
        device=device,
        progress=progress,
    )
    seconds = time.perf_counter() - start
    facts = recipe(source, loaded[0], epochs=epochs, batch=batch, lr=lr, seed=seed)
    facts |= {
        "command": _command(name, data, epochs=epochs, batch=batch, lr=lr, seed=seed, device=device, threads=threads),
        "seconds": round(seconds),
        "hardware": hardware(device),
    }
    return finish(network, source, facts, out / f"{name}.safetensors", loaded[1:], seed)


def recipe(
    source: type[Mini], data: ImageData, *, epochs: float, batch: int | None, lr: float | None, seed: int
) -> dict[str, Any]:
    """What was trained, on what, with which values."""
    values = dict(OBJECTIVES[source.objective].defaults)
    values |= {key: value for key, value in (("batch", batch), ("lr", lr)) if value is not None}
    return {
        "name": source.name,
        "architecture": source.architecture,
        "objective": source.objective,
        "data": {"name": data.name, "images": len(data.train), "fingerprint": data.fingerprint, "labels_used": False},
        "epochs": epochs,
        "seed": seed,
        "hyperparameters": values | {"optimiser": "AdamW", "schedule": "5 % linear warm-up, cosine to 0", "gradient_clip": 3.0},
    }


def finish(
    network: nn.Module, source: type[Mini], facts: dict[str, Any], weights: Path, probes: list[ImageData], seed: int
) -> dict[str, Any]:
    """Write weights and card, then add the probe accuracy of the weights as stored."""
    card = _card.write(network, facts, weights)
    stored, fresh = untrained(source.architecture, seed), untrained(source.architecture, seed)
    load_state(stored, read_state(weights), weights)
    card["ridge_probe"] = [
        {
            "data": data.name,
            "train_images": len(data.train),
            "test_images": len(data.test),
            "accuracy": round(probe_accuracy(stored, data), 2),
            "accuracy_untrained": round(probe_accuracy(fresh, data), 2),
        }
        for data in probes
    ]
    _card.write_card(weights.with_suffix(".json"), card)
    return card


def hardware(device: str) -> str:
    """`CPU model, n of m cores used` or the name of the GPU."""
    if device.startswith("cuda"):
        return torch.cuda.get_device_name(device)
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.is_file() else []
    model = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())
    return f"{model}, {torch.get_num_threads()} thread(s) of {os.cpu_count()} cores"


def _zoo(name: str) -> type[Mini]:
    cls = BACKBONES.get(name)
    if not issubclass(cls, Mini):
        zoo = [known for known in BACKBONES.names() if known.startswith("mini_")]
        raise UserError(f"backbone {name!r} is not of the mini zoo; ddbench pretrain takes {', '.join(zoo)}")
    return cls


def _command(name: str, data: str, *, epochs: float, **options: Any) -> str:
    """The command line that repeats a run; options at their defaults are left out."""
    defaults = {"seed": INIT_SEED, "device": "cpu"}
    given = [f"--{key} {value}" for key, value in options.items() if value is not None and value != defaults.get(key)]
    return " ".join([f"ddbench pretrain {name} -d '{data}' --out DIR --epochs {epochs:g}", *given])
