"""A linear probe by L-BFGS with a line search: the few-label probe of `ssl-pretrain`."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

_ITERATIONS = 200  # at most; the tolerances below end it earlier
_DEAD = 1e-6  # features whose standard deviation is below are left at 0


@dataclass(frozen=True)
class LinearClassifier:
    """Logits of features that are standardised first."""

    mean: Tensor  # (f,)
    std: Tensor  # (f,)
    weight: Tensor  # (k, f)
    bias: Tensor  # (k,)

    def __call__(self, features: Tensor) -> Tensor:
        """Logits `(n, k)` of features `(n, f)`."""
        return (features - self.mean) / self.std @ self.weight.T + self.bias


def fit_probe(features: Tensor, labels: Tensor, classes: int, decay: float) -> LinearClassifier:
    """Minimise mean cross-entropy + `decay` * ||W||^2 over features `(n, f)`, standardised, and labels `(n,)`; from zero.

    The bias is not penalised. The objective is convex, so the line search (strong Wolfe) leads to its minimum whatever the
    scale of the features; the released probe of MKDT takes fixed steps on raw ones.
    """
    std, mean = torch.std_mean(features, dim=0, correction=0)
    std = torch.where(std > _DEAD, std, torch.full_like(std, float("inf")))
    z = (features - mean) / std
    weight = torch.zeros(classes, z.shape[1], device=z.device, dtype=z.dtype, requires_grad=True)
    bias = torch.zeros(classes, device=z.device, dtype=z.dtype, requires_grad=True)
    lbfgs = torch.optim.LBFGS(
        [weight, bias], max_iter=_ITERATIONS, tolerance_grad=1e-5, tolerance_change=1e-9, line_search_fn="strong_wolfe"
    )

    def objective() -> Tensor:
        lbfgs.zero_grad()
        loss = F.cross_entropy(z @ weight.T + bias, labels) + decay * weight.square().sum()
        loss.backward()
        return loss

    lbfgs.step(objective)  # type: ignore[arg-type]
    return LinearClassifier(mean, std, weight.detach(), bias.detach())
