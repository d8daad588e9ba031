"""Batch norm folded into the convolution before it: in a frozen network both are one convolution.

    bn(conv(x)) = g (W x + b - mean) / sqrt(var + eps) + h = W' x + b',   W' = g W / sqrt(var + eps)

Exact up to rounding, and without what the norm keeps for the way back. torch.fx finds the pairs; where it cannot follow a
module, it looks into the modules inside.
"""

import copy
from collections import Counter
from collections.abc import Iterator
from typing import Any

import torch
from torch import fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

_CONVS = ("Conv2d", "Conv2dSame")  # torch's, and timm's that pads as TensorFlow does; others may change their weights first
_NORMS = ("BatchNorm2d", "BatchNormAct2d")  # torch's, and timm's with dropout and activation in it


def folded(network: nn.Module) -> tuple[nn.Module, int]:
    """The network with batch norms folded where that is possible, and their number; the one that is given stays as it is.

    For evaluation alone: running statistics take the place of those of a batch.
    """
    if not any(_is(module, _NORMS) for module in network.modules()):
        return network, 0
    network = copy.deepcopy(network)
    pairs = dict(_pairs(network, ""))
    for norm, conv in pairs.items():
        _fold(network, conv, norm)
    return network, len(pairs)


class _Tracer(fx.Tracer):
    """Does not look into convolutions and batch norms."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, nn.Conv2d) or _is(m, _NORMS) or super().is_leaf_module(m, module_qualified_name)


def _pairs(module: nn.Module, prefix: str) -> Iterator[tuple[str, str]]:
    """Names of a batch norm and of the convolution whose output goes there and nowhere else."""
    try:
        graph = _Tracer().trace(module)
    except Exception:  # whatever a forward does with its stand-in for a tensor
        for name, child in module.named_children():
            yield from _pairs(child, f"{prefix}{name}.")
        return
    calls = Counter(node.target for node in graph.nodes if node.op == "call_module")
    for node in graph.nodes:
        before = node.args[0] if node.op == "call_module" and node.args else None
        if not isinstance(before, fx.Node) or before.op != "call_module" or len(before.users) != 1:
            continue
        norm, conv = module.get_submodule(str(node.target)), module.get_submodule(str(before.target))
        if (
            _is(norm, _NORMS)
            and _is(conv, _CONVS)
            and calls[node.target] == calls[before.target] == 1
            and _has_statistics(norm)
        ):
            yield f"{prefix}{node.target}", f"{prefix}{before.target}"


def _is(module: nn.Module, names: tuple[str, ...]) -> bool:
    return type(module).__name__ in names and isinstance(module, (nn.Conv2d, nn.BatchNorm2d))


def _has_statistics(norm: nn.Module) -> bool:
    return isinstance(norm.running_mean, torch.Tensor) and isinstance(norm.running_var, torch.Tensor)


@torch.no_grad()
def _fold(network: nn.Module, conv_name: str, norm_name: str) -> None:
    conv: Any = network.get_submodule(conv_name)
    norm: Any = network.get_submodule(norm_name)
    found = (conv.weight, conv.bias, norm.running_mean, norm.running_var, norm.weight, norm.bias)
    w, b, mean, variance, scale, shift = (None if value is None else value.double() for value in found)
    weight, bias = fuse_conv_bn_weights(w, b, mean, variance, norm.eps, scale, shift)  # type: ignore[arg-type]
    dtype = conv.weight.dtype
    conv.weight = nn.Parameter(weight.to(dtype), requires_grad=False)
    conv.bias = nn.Parameter(bias.to(dtype), requires_grad=False)
    parent, _, name = norm_name.rpartition(".")
    rest = nn.Sequential(norm.drop, norm.act) if hasattr(norm, "act") else nn.Identity()
    setattr(network.get_submodule(parent), name, rest)
