"""Weights of the zoo and the card beside them, written together."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import nn

from ddbench.backbones._weights import file_sha256
from ddbench.core.disk import replacing


def write(network: nn.Module, facts: dict[str, Any], weights: Path) -> dict[str, Any]:
    """Write the weights (matrices as fp16) and then the card, each atomically; returns the card."""
    state = network.state_dict()
    stored = {name: tensor.contiguous().half() if tensor.ndim > 1 else tensor.contiguous() for name, tensor in state.items()}
    _replace(weights, save({name: tensor.cpu() for name, tensor in stored.items()}))
    card = {
        **facts,
        "parameters": sum(p.numel() for p in network.parameters()),
        "torch": torch.__version__,
        "sha256": file_sha256(weights),
    }
    write_card(weights.with_suffix(".json"), card)
    return card


def write_card(path: Path, card: dict[str, Any]) -> None:
    _replace(path, (json.dumps(card, indent=2) + "\n").encode())


def _replace(path: Path, content: bytes) -> None:
    with replacing(path) as new:
        new.write_bytes(content)
