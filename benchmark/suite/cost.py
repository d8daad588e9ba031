"""What one view costs on a backbone: counted FLOPs, activations that a backward pass keeps, and the measured pace here."""

import copy
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from ...core.backbone import BACKBONES, Backbone
from ...core.precision import autocast
from ...core.students import Student, build_student
from ..machine.measure import Meter

_SECONDS = 0.5  # that the pace is measured for, at least
_BATCH = {"cuda": 64, "cpu": 2}  # views per pass while measuring
_STUDENT_BATCH = 64  # images per training step while measuring
_TARGETS = 512  # dimensions of a student's targets, which are not known before the teacher is here


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
    flops, saved = count(backbone.network, backbone.spec.input_size)
    pace = flops / seconds_per_view(backbone, torch.device(device))
    return ViewCost(flops, saved, weight_bytes(backbone), backbone.spec.dim, backbone.spec.stage_size, pace)


def student_cost(spec: str, size: int, device: str) -> ViewCost:
    """The costs of a student for images of `size` pixels, its pace measured while it trains."""
    student = build_student(spec, size, _TARGETS, seed=0)
    flops, saved = count(student, size)
    pace = 3 * flops / seconds_per_trained_image(student.to(device), size)
    return ViewCost(flops, saved, weight_bytes(student), _TARGETS, size, pace)


def weight_bytes(network: nn.Module) -> int:
    """Bytes of all weights."""
    return sum(p.numel() * p.element_size() for p in network.parameters())


def count(network: nn.Module, size: int) -> tuple[int, int]:
    """FLOPs of one view's forward pass and bytes that autograd keeps for its backward pass, on the meta device."""
    network = copy.deepcopy(network).to("meta").eval()
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


def seconds_per_view(backbone: Backbone, device: torch.device) -> float:
    """Seconds of a forward pass per view here: one pass to warm up, then passes until half a second is over."""
    backbone = backbone.to(device)
    batch, size = _BATCH[device.type], backbone.spec.input_size
    images = torch.rand(batch, 3, size, size, device=device)
    with torch.no_grad(), autocast(device):
        return _seconds_per_pass(lambda: backbone(images), device) / batch


def seconds_per_trained_image(student: Student, size: int) -> float:
    """Seconds per image of a forward and a backward pass to the weights, in float32 as students are trained."""
    device = student.head.weight.device
    images = torch.rand(_STUDENT_BATCH, 3, size, size, device=device)
    return _seconds_per_pass(lambda: student(images).sum().backward(), device) / _STUDENT_BATCH


def _seconds_per_pass(run: Callable[[], object], device: torch.device) -> float:
    run()
    meter, passes = Meter(device), 0
    while meter.seconds.get("pass", 0.0) < _SECONDS:
        with meter.phase("pass"):
            run()
        passes += 1
    return meter.seconds["pass"] / passes
