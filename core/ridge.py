"""Closed-form ridge regression: one solution that gradients flow through, or many ridges for the price of one decomposition.

- `solve_ridge`: primal or dual by shape, by Cholesky; differentiable, for methods (`clpdd`, `duet`, `krrst`).
- `RidgePath`: with centred Z = U S V^T the weights at ridge r are V diag(s / (s^2 + r)) U^T Y, and an intercept restores the
  means. U or V comes of the smaller of Z Z^T `(n, n)` and Z^T Z `(d, d)`; the latter is summed chunk by chunk, with the memory
  of one chunk of features. In float64 and not differentiable, for protocols. It does not stand in for the first: the gradient
  of an eigendecomposition is not finite where eigenvalues are equal, and each step of a method has one ridge alone.

Ridges are relative: what is added to the kernel is lam * mean diagonal of Z Z^T = lam * ||Z||_F^2 / n, so that one value serves
backbones whose feature norms differ by orders of magnitude.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

_ROWS = 16384  # features that are read at a time: 100 MB of 768 dimensions in float64

Form = Literal["primal", "dual"]


def mean_diagonal(z: Float[Tensor, "n d"]) -> Float[Tensor, ""]:
    """Mean diagonal of the kernel Z Z^T, the mean squared norm of the rows of z `(n, d)`; a scalar."""
    return z.square().sum(1).mean()


def cholesky(a: Float[Tensor, "n n"]) -> Float[Tensor, "n n"]:
    """Lower factor of a `(n, n)`; NaN where a is not positive definite: to raise, the host would have to wait for a GPU."""
    factor, failed = torch.linalg.cholesky_ex(a)
    return factor.masked_fill(failed != 0, torch.nan)


def ridge_dual(z: Float[Tensor, "n d"], y: Float[Tensor, "n k"], ridge: Float[Tensor, ""]) -> Float[Tensor, "d k"]:
    """W `(d, k)` = Z^T (Z Z^T + ridge I_n)^-1 Y for z `(n, d)`, y `(n, k)`."""
    kernel = z @ z.T + ridge * torch.eye(len(z), dtype=z.dtype, device=z.device)
    return z.T @ torch.cholesky_solve(y, cholesky(kernel))


def ridge_primal(z: Float[Tensor, "n d"], y: Float[Tensor, "n k"], ridge: Float[Tensor, ""]) -> Float[Tensor, "d k"]:
    """W `(d, k)` = (Z^T Z + ridge I_d)^-1 Z^T Y; equal to the dual form, cheaper when n > d."""
    gram = z.T @ z + ridge * torch.eye(z.shape[1], dtype=z.dtype, device=z.device)
    return torch.cholesky_solve(z.T @ y, cholesky(gram))


def solve_ridge(
    z: Float[Tensor, "n d"],
    y: Float[Tensor, "n k"],
    lam: float,
    *,
    form: Form | None = None,
    dtype: torch.dtype = torch.float64,
) -> Float[Tensor, "d k"]:
    """The ridge probe W `(d, k)` of features z `(n, d)` and targets y `(n, k)`, in z's dtype; differentiable.

    `form` None takes the smaller system. Solved in `dtype` (float32 or float64), never in half precision.
    """
    form = form or ("dual" if z.shape[0] <= z.shape[1] else "primal")
    solve = ridge_dual if form == "dual" else ridge_primal
    z_, y_ = z.to(dtype), y.to(dtype)
    return solve(z_, y_, lam * mean_diagonal(z_)).to(z.dtype)


def add_bias(z: Float[Tensor, "*n d"], scale: Float[Tensor, ""] | float = 1.0) -> Float[Tensor, "*n d+1"]:
    """Append a constant feature of value `scale` to z `(..., d)`."""
    return torch.cat([z, torch.ones_like(z[..., :1]) * scale], dim=-1)


def class_rows(
    targets: Float[Tensor, "n k"] | Int[Tensor, " n"], rows: Int[Tensor, "*rows"], num_classes: int
) -> Float[Tensor, "*rows {num_classes}"]:
    """Class probabilities `(..., k)` at `rows (...)` of targets `(n, k)`, or one-hot of labels `(n,)`."""
    if targets.ndim == 2:
        return targets[rows]
    labels = targets[rows]
    return one_hot(labels.flatten(), num_classes).view(*labels.shape, num_classes)


def one_hot(
    labels: Int[Tensor, " n"], num_classes: int, dtype: torch.dtype = torch.float32
) -> Float[Tensor, "n {num_classes}"]:
    """Targets `(n, k)` with 1 at the label."""
    ones = torch.ones(len(labels), 1, dtype=dtype, device=labels.device)
    return torch.zeros(len(labels), num_classes, dtype=dtype, device=labels.device).scatter_(1, labels[:, None], ones)


@dataclass(frozen=True)
class RidgePath:
    """The ridge solutions of one set; ridges are relative to the mean diagonal of the centred kernel."""

    basis: Float[Tensor, "d r"]  # (d, r) right singular vectors V
    singular: Float[Tensor, " r"]  # (r,) singular values
    projected: Float[Tensor, "r k"]  # (r, k) U^T Y
    z_mean: Float[Tensor, " d"]  # (d,)
    y_mean: Float[Tensor, " k"]  # (k,)
    diagonal: float  # mean diagonal of the centred kernel

    @classmethod
    def fit(
        cls,
        z: Float[Tensor, "n d"],
        targets: Float[Tensor, "n k"] | Int[Tensor, " n"],
        num_classes: int,
        rows: Int[Tensor, " m"] | None = None,
    ) -> "RidgePath":
        """From features z `(n, d)` and targets, labels `(n,)` or class probabilities `(n, k)`; of them those at `rows (m,)`.

        z may be a memory map larger than memory: where there are more rows than dimensions, it is read twice in chunks.
        """
        n = len(z) if rows is None else len(rows)
        chosen = torch.arange(n) if rows is None else rows
        z_mean = torch.stack([part.sum(0) for part, _ in _chunks(z, chosen)]).sum(0) / n
        y_mean = _target_sums(targets, chosen, num_classes) / n
        if n > z.shape[1]:
            gram, cross = _normal_matrices(z, targets, chosen, z_mean, num_classes)
            square, basis = torch.linalg.eigh(gram)
            singular = square.clamp(min=0).sqrt()
            projected = basis.T @ cross / singular.clamp(min=1e-12)[:, None]
            diagonal = float(gram.trace()) / n
        else:
            centred = z[chosen].double() - z_mean
            square, left = torch.linalg.eigh(centred @ centred.T)
            singular = square.clamp(min=0).sqrt()
            basis = centred.T @ left / singular.clamp(min=1e-12)
            projected = left.T @ (class_rows(targets, chosen, num_classes).double() - y_mean)
            diagonal = float(mean_diagonal(centred))
        keep = singular > singular.max() * 1e-7
        return cls(basis[:, keep], singular[keep], projected[keep], z_mean, y_mean, diagonal)

    def scores(self, features: Float[Tensor, "m d"], ridge: float) -> Float[Tensor, "m k"]:
        """Outputs `(n, k)` at a relative ridge for features `(n, d)`."""
        weights = self.basis @ (self.projected * (self.singular / (self.singular**2 + ridge * self.diagonal))[:, None])
        return (features.double() - self.z_mean) @ weights + self.y_mean

    def hits(self, features: Float[Tensor, "m d"], labels: Int[Tensor, " m"], ridge: float) -> Bool[Tensor, " m"]:
        """Whether the largest output is the label, bool `(n,)`, chunk by chunk."""
        pairs = zip(features.split(8192), labels.split(8192), strict=True)
        return torch.cat([self.scores(z, ridge).argmax(1) == y for z, y in pairs])

    def accuracy(self, features: Float[Tensor, "m d"], labels: Int[Tensor, " m"], ridge: float) -> float:
        """Top-1 accuracy in percent."""
        return 100 * int(self.hits(features, labels, ridge).sum()) / len(labels)


def _chunks(z: Tensor, rows: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """The features at `rows`, float64, and which rows they are, chunk by chunk."""
    for part in rows.split(_ROWS):
        yield z[part].double(), part


def _target_sums(targets: Tensor, rows: Tensor, num_classes: int) -> Tensor:
    """Sum `(k,)` of the targets at `rows`."""
    if targets.ndim == 1:
        return targets[rows].bincount(minlength=num_classes).double()
    return targets[rows].double().sum(0)


def _normal_matrices(z: Tensor, targets: Tensor, rows: Tensor, mean: Tensor, num_classes: int) -> tuple[Tensor, Tensor]:
    """Z^T Z `(d, d)` and Z^T Y `(d, k)` of the centred features at `rows`; the mean of Y plays no part in the latter."""
    gram = torch.zeros(z.shape[1], z.shape[1], dtype=torch.float64)
    cross = torch.zeros(num_classes, z.shape[1], dtype=torch.float64)
    for part, which in _chunks(z, rows):
        part -= mean
        gram.addmm_(part.T, part)
        if targets.ndim == 1:
            cross.index_add_(0, targets[which], part)
        else:
            cross.addmm_(targets[which].double().T, part)
    return gram, cross.T
