"""What one view costs on a backbone: counted FLOPs, activations that a backward pass keeps, and the measured pace here."""

import copy
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from ..core.backbone import BACKBONES, Backbone
from ..core.precision import autocast
from .measure import Meter

_SECONDS = 0.5  # that the pace is measured for, at least
_BATCH = {"cuda": 64, "cpu": 2}  # views per pass while measuring


@dataclass(frozen=True)
class ViewCost:
    """Costs of one view, and what does not depend on the number of views."""

    flops: int  # of a forward pass; a backward pass to the pixels alone costs about as much again
    saved_bytes: int  # activations kept for the backward pass, as float32
    weight_bytes: int
    dim: int
    stage_size: int
    flops_per_second: float  # of forward passes on this device


def view_cost(spec: str, device: str) -> ViewCost:
    """The costs of the backbone `spec`, with random weights where it can have them: nothing is downloaded."""
    backbone = BACKBONES.create(spec).blank()
    flops, saved = count(backbone)
    weights = sum(p.numel() * p.element_size() for p in backbone.parameters())
    pace = flops / seconds_per_view(backbone, torch.device(device))
    return ViewCost(flops, saved, weights, backbone.spec.dim, backbone.spec.stage_size, pace)


def count(backbone: Backbone) -> tuple[int, int]:
    """FLOPs of one view's forward pass and bytes that autograd keeps for its backward pass, on the meta device."""
    network = copy.deepcopy(backbone.network).to("meta")
    kept: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage()._cdata] = tensor
        return tensor

    weights = {tensor.untyped_storage()._cdata for tensor in network.state_dict(keep_vars=True).values()}
    size = backbone.spec.input_size
    image = torch.empty(1, 3, size, size, device="meta", requires_grad=True)
    with FlopCounterMode(display=False) as counter, torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        network(image)
    saved = sum(tensor.untyped_storage().nbytes() for key, tensor in kept.items() if key not in weights)
    return counter.get_total_flops(), saved


def seconds_per_view(backbone: Backbone, device: torch.device) -> float:
    """Seconds of a forward pass per view here: one pass to warm up, then passes until half a second is over."""
    backbone = backbone.to(device)
    batch, size = _BATCH[device.type], backbone.spec.input_size
    images = torch.rand(batch, 3, size, size, device=device)
    meter, passes = Meter(device), 0
    with torch.no_grad(), autocast(device):
        backbone(images)
        while meter.seconds.get("pass", 0.0) < _SECONDS:
            with meter.phase("pass"):
                backbone(images)
            passes += 1
    return meter.seconds["pass"] / (passes * batch)
