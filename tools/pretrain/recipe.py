"""Train a network of the embedded zoo again and write its weights and card."""

import os
import platform
import shlex
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from ddbench.backbones._weights import load_state, read_state
from ddbench.backbones.mini import Mini
from ddbench.backbones.mini.networks import INIT_SEED, untrained
from ddbench.core.backbone import BACKBONES
from ddbench.core.data import DATASETS, ArrayImages, ImageData, Split, array_fingerprint, index_chunks, stage
from ddbench.core.errors import UserError

from . import card as cards
from .loop import OBJECTIVES, Progress, pretrain
from .probe import probe_accuracy
from .teacher import teacher_features


@dataclass(frozen=True)
class Recipe:
    """How the shipped weights of one network were made; None leaves the objective's own value."""

    epochs: float
    batch: int | None = None
    lr: float | None = None
    schedule: str = "cosine"
    changes: dict[str, float] = field(default_factory=dict)


RECIPES = {
    "mini_resnet_barlow": Recipe(9),
    "mini_resnet_dino": Recipe(6.5),
    "mini_vit_simclr": Recipe(5),
    "mini_vit_mae": Recipe(10),
    "tiny_resnet_simclr": Recipe(15.1, lr=2e-3, schedule="flat", changes={"size": 16, "final_size": 24}),
    "tiny_vit_simclr": Recipe(7, batch=128, schedule="flat", changes={"size": 16, "final_size": 24, "weight_decay": 0.05}),
    "tiny_resnet_distil": Recipe(5, schedule="flat"),
    "tiny_vit_distil": Recipe(3, lr=1e-3, schedule="flat"),
}
SCHEDULE = {
    "cosine": "5 % linear warm-up, cosine to 0",
    "flat": "linear warm-up over 200 steps, constant, linear to 0 over the last quarter",
}


def run_pretrain(
    name: str,
    data: tuple[str, ...],
    out: str | Path,
    *,
    epochs: float | None = None,
    batch: int | None = None,
    lr: float | None = None,
    seed: int = INIT_SEED,
    device: str = "cpu",
    threads: int | None = None,
    teacher: str | None = None,
    probes: tuple[str, ...] = (),
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Pre-train `name` on the train images of the dataset specs `data`; write OUT/NAME.safetensors and OUT/NAME.json.

    `epochs`, `batch` and `lr` default to the shipped weights' values. `threads` sets torch's thread count. `teacher` is the
    backbone spec that `distil` learns from. `probes` are dataset specs on which the card compares the network with its
    initialisation. A run that was killed goes on from OUT/NAME.checkpoint. Returns the card. Raises `UserError` for a name
    that is not of the zoo.
    """
    source = _zoo(name)
    recipe = RECIPES[name]
    if threads is not None:
        torch.set_num_threads(threads)
    split, about = union([DATASETS.create(spec).load() for spec in data])
    probed = [DATASETS.create(spec).load() for spec in probes]
    out = Path(out).expanduser()
    out.mkdir(parents=True, exist_ok=True)
    features, taught = None, None
    if teacher is not None:
        features, taught = teacher_features(teacher, split, out, about["fingerprint"], device)
    epochs = recipe.epochs if epochs is None else epochs
    asked = {"batch": batch, "lr": lr, "seed": seed, "device": device, "threads": threads, "teacher": teacher}
    batch, lr = batch or recipe.batch, lr or recipe.lr
    network, seconds = pretrain(
        source.objective,
        source.architecture,
        split,
        epochs=epochs,
        batch=batch,
        lr=lr,
        schedule=recipe.schedule,
        changes=recipe.changes,
        teacher=features,
        seed=seed,
        device=device,
        checkpoint=out / f"{name}.checkpoint",
        progress=progress,
    )
    values = {**OBJECTIVES[source.objective].defaults, **recipe.changes}
    values |= {key: value for key, value in (("batch", batch), ("lr", lr)) if value is not None}
    facts = {
        "name": name,
        "architecture": source.architecture,
        "objective": source.objective,
        "supervision": source.supervision,
        "data": about | {"labels_used": False},
        **({"teacher": taught} if taught else {}),
        "epochs": epochs,
        "seed": seed,
        "hyperparameters": values | {"optimiser": "AdamW", "schedule": SCHEDULE[recipe.schedule], "gradient_clip": 3.0},
        "command": _command(name, data, epochs=epochs, **asked),
        "seconds": round(seconds),
        "hardware": hardware(device),
    }
    return finish(network, source, facts, out / f"{name}.safetensors", probed, seed)


def union(datasets: list[ImageData]) -> tuple[Split, dict[str, Any]]:
    """The train images of all datasets as one split, 32x32, in their order, and what the card says about them."""
    if len(datasets) == 1:
        data = datasets[0]
        return data.train, {"name": data.name, "images": len(data.train), "fingerprint": data.fingerprint}
    chunks = [
        (255 * stage(data.train.images[indices], 32)).round().byte().numpy()
        for data in datasets
        for indices in index_chunks(len(data.train), 5000)
    ]
    images = np.concatenate(chunks)
    split = Split(ArrayImages(images), torch.zeros(len(images), dtype=torch.long))
    name = " + ".join(data.name for data in datasets)
    return split, {"name": name, "images": len(images), "fingerprint": array_fingerprint(split)}


def finish(
    network: nn.Module, source: type[Mini], facts: dict[str, Any], weights: Path, probes: list[ImageData], seed: int
) -> dict[str, Any]:
    """Write weights and card, then add the probe accuracy of the weights as stored."""
    card = cards.write(network, facts, weights)
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
    cards.write_card(weights.with_suffix(".json"), card)
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
    if name not in RECIPES:
        raise UserError(f"backbone {name!r} is not of the embedded zoo; make pretrain takes NAME={' or '.join(RECIPES)}")
    cls = BACKBONES.get(name)
    assert issubclass(cls, Mini)
    return cls


def _command(name: str, data: tuple[str, ...], *, epochs: float, **options: Any) -> str:
    """The command line that repeats a run; options at their defaults are left out."""
    defaults = {"seed": INIT_SEED, "device": "cpu"}
    given = [
        f"--{key} {shlex.quote(str(value))}"
        for key, value in options.items()
        if value is not None and value != defaults.get(key)
    ]
    arguments = " ".join([f"--epochs {epochs:g}", *given])
    return f'make pretrain NAME={name} DATA="{" ".join(data)}" OUT=DIR ARGS="{arguments}"'
