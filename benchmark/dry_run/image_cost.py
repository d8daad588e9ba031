"""What one image costs in a network, in FLOPs and in bytes that are kept, counted without weights.

Networks are built on torch's meta device: no weight is drawn, read or downloaded.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from ...core.backbone import BACKBONES, Backbone
from ...core.students import build_student

_TARGETS = 512  # dimensions of a student's targets, which are not known before the teacher is here


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
    backbone = without_weights(spec)
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


def without_weights(spec: str) -> Backbone:
    """The backbone `spec` with weights that have no values; with random ones where its library insists on values."""
    source = BACKBONES.create(spec)
    try:
        with torch.device("meta"):
            return source.blank()
    except NotImplementedError:
        return source.blank()
