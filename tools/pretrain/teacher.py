"""Features of a larger network for `distil`, computed once and kept beside the checkpoints."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.lib.format import open_memmap

from ddbench.core.backbone import BACKBONES, Backbone
from ddbench.core.data import Split, index_chunks, stage
from ddbench.core.disk import replacing
from ddbench.core.views import centre


def teacher_features(
    spec: str, split: Split, folder: Path, fingerprint: str, device: str
) -> tuple[torch.Tensor, dict[str, Any]]:
    """Features `(n, d)` float16 of all images, memory-mapped, and what the card says about the teacher."""
    backbone = BACKBONES.create(spec).load().to(device)
    file = folder / f"teacher-{backbone.spec.sha256[:12]}-{backbone.spec.input_size}-{fingerprint[:12]}.npy"
    if not file.is_file():
        _compute(backbone, split, file, device)
    facts = {key: getattr(backbone.spec, key) for key in ("name", "source", "architecture", "sha256", "input_size")}
    return torch.from_numpy(np.load(file, mmap_mode="c")), facts


@torch.inference_mode()
def _compute(backbone: Backbone, split: Split, file: Path, device: str) -> None:
    spec = backbone.spec
    with replacing(file) as new:
        features = open_memmap(new, "w+", np.float16, (len(split), spec.dim))
        for indices in index_chunks(len(split), 125):
            images = centre(stage(split.images[indices].to(device), spec.stage_size), spec.input_size)
            features[indices.numpy()] = backbone(images).half().cpu().numpy()
        features.flush()
