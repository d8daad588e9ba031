"""How fast a device works, in FLOP/s of forward passes: measured here, or stated for a GPU that is not here."""

from dataclasses import dataclass

import torch

from ...core.precision import autocast
from ..machine.measure import Meter
from .image_cost import Cost, without_weights

UTILISATION = 0.3  # of the peak that a pass reaches; docs/performance.md has what was measured
_BUDGET = 3.0  # seconds for measuring all networks
_PASS = 2_000_000_000  # FLOPs of one pass on a CPU while measuring, where one image has fewer


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
    backbone = without_weights(spec)
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
