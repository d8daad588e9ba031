"""Closed-form ridge regression, primal or dual by shape, by Cholesky.

`lam` is relative: the ridge added to the kernel is lam * mean diagonal of Z Z^T = lam * ||Z||_F^2 / n, so that one value
serves backbones whose feature norms differ by orders of magnitude.
"""

from typing import Literal

import torch
from torch import Tensor

Form = Literal["primal", "dual"]


def mean_diagonal(z: Tensor) -> Tensor:
    """Mean diagonal of the kernel Z Z^T, the mean squared norm of the rows of z `(n, d)`; a scalar."""
    return z.square().sum(1).mean()


def cholesky(a: Tensor) -> Tensor:
    """Lower factor of a `(n, n)`; NaN where a is not positive definite: to raise, the host would have to wait for a GPU."""
    factor, failed = torch.linalg.cholesky_ex(a)
    return factor.masked_fill(failed != 0, torch.nan)


def ridge_dual(z: Tensor, y: Tensor, ridge: Tensor) -> Tensor:
    """W `(d, k)` = Z^T (Z Z^T + ridge I_n)^-1 Y for z `(n, d)`, y `(n, k)`."""
    kernel = z @ z.T + ridge * torch.eye(len(z), dtype=z.dtype, device=z.device)
    return z.T @ torch.cholesky_solve(y, cholesky(kernel))


def ridge_primal(z: Tensor, y: Tensor, ridge: Tensor) -> Tensor:
    """W `(d, k)` = (Z^T Z + ridge I_d)^-1 Z^T Y; equal to the dual form, cheaper when n > d."""
    gram = z.T @ z + ridge * torch.eye(z.shape[1], dtype=z.dtype, device=z.device)
    return torch.cholesky_solve(z.T @ y, cholesky(gram))


def solve_ridge(z: Tensor, y: Tensor, lam: float, *, form: Form | None = None, dtype: torch.dtype = torch.float64) -> Tensor:
    """The ridge probe W `(d, k)` of features z `(n, d)` and targets y `(n, k)`, in z's dtype; differentiable.

    `form` None takes the smaller system. Solved in `dtype` (float32 or float64), never in half precision.
    """
    form = form or ("dual" if z.shape[0] <= z.shape[1] else "primal")
    solve = ridge_dual if form == "dual" else ridge_primal
    z_, y_ = z.to(dtype), y.to(dtype)
    return solve(z_, y_, lam * mean_diagonal(z_)).to(z.dtype)


def add_bias(z: Tensor, scale: Tensor | float = 1.0) -> Tensor:
    """Append a constant feature of value `scale` to z `(..., d)`."""
    return torch.cat([z, torch.ones_like(z[..., :1]) * scale], dim=-1)


def class_rows(targets: Tensor, rows: Tensor, num_classes: int) -> Tensor:
    """Class probabilities `(..., k)` at `rows (...)` of targets `(n, k)`, or one-hot of labels `(n,)`."""
    if targets.ndim == 2:
        return targets[rows]
    labels = targets[rows]
    return one_hot(labels.flatten(), num_classes).view(*labels.shape, num_classes)


def one_hot(labels: Tensor, num_classes: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Targets `(n, k)` with 1 at the label."""
    ones = torch.ones(len(labels), 1, dtype=dtype, device=labels.device)
    return torch.zeros(len(labels), num_classes, dtype=dtype, device=labels.device).scatter_(1, labels[:, None], ones)
