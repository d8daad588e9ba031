"""Several processes that work on one cell (torch.distributed); every function here does nothing where there is only one.

All processes hold the same images, optimiser and random streams. Backbone passes are shared out: each process takes its
`shard` of the rows, features are gathered, every process computes the same objective, back-propagates its rows of the
gradient, and image gradients are summed.
"""

import os

import torch
import torch.distributed as dist
from torch import Tensor, nn


def rank() -> int:
    """Number of this process, from 0; process 0 alone writes and reports."""
    return dist.get_rank() if dist.is_initialized() else 0


def world() -> int:
    """Number of processes that work on this cell."""
    return dist.get_world_size() if dist.is_initialized() else 1


def shard(n: int) -> slice:
    """This process's rows of n, contiguous and as even as possible."""
    return _shard(n, rank(), world())


def _shard(n: int, rank: int, world: int) -> slice:
    return slice(n * rank // world, n * (rank + 1) // world)


def gather(rows: Tensor, n: int) -> Tensor:
    """All `(n, d)` rows, from the `shard(n)` of every process; without a graph in several processes."""
    if world() == 1:
        return rows
    parts = [_shard(n, r, world()) for r in range(world())]
    longest = max(part.stop - part.start for part in parts)
    padded = torch.cat([rows.detach(), rows.new_zeros(longest - len(rows), rows.shape[1])])  # collectives need equal shapes
    gathered = [torch.empty_like(padded) for _ in parts]
    dist.all_gather(gathered, padded)
    return torch.cat([each[: part.stop - part.start] for each, part in zip(gathered, parts, strict=True)])


def sum_gradients(module: nn.Module) -> None:
    """Replace each parameter's gradient by the sum over all processes; None counts as zero."""
    if world() == 1:
        return
    for parameter in module.parameters():
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
        dist.all_reduce(parameter.grad)


def agreed(value: bool) -> bool:
    """What process 0 says, so that all take the same branch."""
    if world() == 1:
        return value
    said = [value]
    dist.broadcast_object_list(said)
    return said[0]


def everywhere(value: bool) -> bool:
    """Whether all processes say so."""
    if world() == 1:
        return value
    said: list[bool] = [False] * world()
    dist.all_gather_object(said, value)
    return all(said)


def wait_for_all() -> None:
    """Return when every process is here."""
    if world() > 1:
        dist.barrier()


def member() -> tuple[int, int]:
    """Rank and number of processes that torchrun or `ddbench run --nproc-per-node` gave to this program."""
    return int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
