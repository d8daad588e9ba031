"""Copies between the host and a GPU that do not make the host wait for the work queued there."""

import torch
from torch import Tensor

CPU = torch.device("cpu")


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """The tensor on `device`; from the host to a GPU through pinned memory."""
    if device.type != "cuda" or tensor.device.type != "cpu":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


class Readback:
    """A tensor on its way to the host; `value` waits for it, and not for what was queued on the GPU after it."""

    def __init__(self, tensor: Tensor):
        self._copied = None
        self._tensor = tensor
        if tensor.is_cuda:
            self._tensor = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True).copy_(tensor, non_blocking=True)
            self._copied = torch.cuda.Event()
            self._copied.record()

    def value(self) -> Tensor:
        """The tensor on the host."""
        if self._copied is not None:
            self._copied.synchronize()
        return self._tensor
