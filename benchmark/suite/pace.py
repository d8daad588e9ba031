"""What one image costs in a network, counted without weights, and how fast a device works: measured here, or stated for a GPU.

Networks are built on torch's meta device: no weight is drawn, read or downloaded.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from ...core.backbone import BACKBONES, Backbone
from ...core.precision import autocast
from ...core.students import build_student
from ..machine.measure import Meter

UTILISATION = 0.3  # of the peak that a pass reaches; docs/performance.md has what was measured
_BUDGET = 3.0  # seconds for measuring all networks
_PASS = 2_000_000_000  # FLOPs of one pass on a CPU while measuring, where one image has fewer
_TARGETS = 512  # dimensions of a student's targets, which are not known before the teacher is here


@dataclass(frozen=True)
class GPU:
    """A GPU by its data sheet."""

    flops_per_second: float  # bfloat16 with float32 sums, dense
    memory: float  # bytes


GPUS = {
    "a100": GPU(312e12, 80e9),  # SXM, 80 GB
    "h100": GPU(989e12, 80e9),  # SXM
    "h200": GPU(989e12, 141e9),  # SXM
    "rtx4090": GPU(165e12, 24e9),
}


@dataclass(frozen=True)
class Cost:
    """Of one image in a network."""

    flops: int  # of a forward pass; a backward pass to the pixels alone costs about as much again
    saved_bytes: int  # activations kept for the backward pass, as float32
    weight_bytes: int
    dim: int
    stage_size: int  # pixels of the images that are optimised


def backbone_cost(spec: str) -> Cost:
    """The cost of the backbone `spec` (canonical)."""
    backbone = _without_weights(spec)
    flops, saved = count(backbone.network, backbone.spec.input_size)
    return Cost(flops, saved, weight_bytes(backbone), backbone.spec.dim, backbone.spec.stage_size)


def student_cost(spec: str, size: int) -> Cost:
    """The cost of a student for images of `size` pixels."""
    student = build_student(spec, size, _TARGETS, seed=0)
    return Cost(*count(student, size), weight_bytes(student), _TARGETS, size)


def weight_bytes(network: nn.Module) -> int:
    """Bytes of all weights."""
    return sum(p.numel() * p.element_size() for p in network.parameters())


def count(network: nn.Module, size: int) -> tuple[int, int]:
    """FLOPs of one image's forward pass and bytes that autograd keeps for its backward pass, on the meta device."""
    network = network.to("meta").eval()
    kept: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage()._cdata] = tensor
        return tensor

    weights = {tensor.untyped_storage()._cdata for tensor in network.state_dict(keep_vars=True).values()}
    image = torch.empty(1, 3, size, size, device="meta", requires_grad=True)
    with FlopCounterMode(display=False) as counter, torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        network(image)
    saved = sum(tensor.untyped_storage().nbytes() for key, tensor in kept.items() if key not in weights)
    return counter.get_total_flops(), saved


def measured_pace(costs: dict[str, Cost], device: torch.device) -> dict[str, float]:
    """FLOP/s of forward passes through each backbone (by spec) on this device, the cheapest first until 3 seconds are over;
    the others are taken to reach the mean of those."""
    meter, found = Meter(device), {}
    for spec in sorted(costs, key=lambda spec: costs[spec].flops):
        if meter.seconds.get("pass", 0.0) < _BUDGET:
            batch = 64 if device.type == "cuda" else min(64, max(1, _PASS // costs[spec].flops))
            seconds = _seconds_per_image(spec, device, meter, batch, _BUDGET / len(costs))
            found[spec] = costs[spec].flops / seconds
    mean = sum(found.values()) / len(found) if found else 0.0
    return {spec: found.get(spec, mean) for spec in costs}


def _seconds_per_image(spec: str, device: torch.device, meter: Meter, batch: int, budget: float) -> float:
    """Of a forward pass: one to warm up, then passes until the budget is spent."""
    backbone = _without_weights(spec)
    size = backbone.spec.input_size
    network = backbone.network.to_empty(device=device)
    with torch.no_grad():
        for tensor in network.state_dict().values():
            tensor.fill_(0.01)  # what values there are does not matter, but denormal numbers would take long
    images = torch.rand(batch, 3, size, size, device=device)
    begin, passes = meter.seconds.get("pass", 0.0), 0
    with torch.no_grad(), autocast(device):
        network(images)
        while not passes or meter.seconds["pass"] - begin < budget:
            with meter.phase("pass"):
                network(images)
            passes += 1
    return (meter.seconds["pass"] - begin) / passes / batch


def _without_weights(spec: str) -> Backbone:
    """The backbone with weights that have no values; with random ones where its library insists on values."""
    source = BACKBONES.create(spec)
    try:
        with torch.device("meta"):
            return source.blank()
    except NotImplementedError:
        return source.blank()
