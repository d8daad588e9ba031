"""The ridge probe: primal, dual, and an independent least-squares solution agree; many ridges by one decomposition against
scikit-learn, chunk by chunk, with the memory of one chunk."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.linear_model import Ridge

from ddbench.core.ridge import (
    RidgePath,
    add_bias,
    cholesky,
    class_rows,
    mean_diagonal,
    one_hot,
    ridge_dual,
    ridge_primal,
    solve_ridge,
)

TOOL = Path(__file__).parents[2] / "tools" / "out_of_core.py"


def problem(n, d, k=4):
    generator = torch.Generator().manual_seed(0)
    return (torch.randn(size, generator=generator, dtype=torch.float64) for size in [(n, d), (n, k)])


@pytest.mark.parametrize(("n", "d"), [(5, 20), (20, 5), (8, 8)])
def test_primal_and_dual_agree(n, d):
    z, y = problem(n, d)
    ridge = torch.tensor(0.3, dtype=torch.float64)
    torch.testing.assert_close(ridge_primal(z, y, ridge), ridge_dual(z, y, ridge), rtol=1e-10, atol=1e-12)


def test_solution_is_the_augmented_least_squares_solution():
    z, y = problem(6, 9)
    lam = 0.2
    ridge = lam * mean_diagonal(z)
    stacked = torch.cat([z, ridge.sqrt() * torch.eye(9, dtype=z.dtype)])
    expected = torch.linalg.lstsq(stacked, torch.cat([y, torch.zeros(9, 4, dtype=y.dtype)])).solution
    torch.testing.assert_close(solve_ridge(z, y, lam), expected, rtol=1e-9, atol=1e-12)


def test_relative_ridge_makes_predictions_invariant_to_feature_scale():
    z, y = problem(6, 9)
    torch.testing.assert_close(z @ solve_ridge(z, y, 0.5), (100 * z) @ solve_ridge(100 * z, y, 0.5))


def test_float32_solve_is_close_to_float64():
    z, y = (tensor.float() for tensor in problem(20, 40))
    fast, exact = (solve_ridge(z, y, 0.1, dtype=dtype) for dtype in (torch.float32, torch.float64))
    assert fast.dtype == exact.dtype == torch.float32
    torch.testing.assert_close(fast, exact, rtol=1e-3, atol=1e-4)


def test_gradient_matches_finite_differences():
    z, y = problem(4, 6, k=2)
    z.requires_grad_()
    for form in ("primal", "dual"):
        assert torch.autograd.gradcheck(lambda z, form=form: solve_ridge(z, y, 0.3, form=form), z)


def test_bias_and_one_hot():
    assert add_bias(torch.zeros(2, 3), 5.0).tolist() == [[0, 0, 0, 5]] * 2
    assert one_hot(torch.tensor([1, 0]), 3).tolist() == [[0, 1, 0], [1, 0, 0]]


def test_a_kernel_without_a_factor_gives_nan_as_a_diverged_loss_does():
    assert cholesky(torch.diag(torch.tensor([1.0, -1.0]))).isnan().all()
    a = torch.tensor([[4.0, 2.0], [2.0, 3.0]])
    assert torch.equal(cholesky(a), torch.linalg.cholesky(a))


@pytest.mark.parametrize(("n", "d"), [(6, 20), (40, 5), (2, 3)])
@pytest.mark.parametrize("ridge", [1e-4, 0.1, 10.0])
@pytest.mark.parametrize("chunk", [3, 1000])
@pytest.mark.parametrize("kind", ["labels", "probabilities"])
@pytest.mark.parametrize("some", [False, True])
def test_it_is_scikit_learns_ridge(n, d, ridge, chunk, kind, some, monkeypatch):
    monkeypatch.setattr("ddbench.core.ridge._ROWS", chunk)
    generator = torch.Generator().manual_seed(0)
    z, new = (torch.randn(s, generator=generator, dtype=torch.float64) for s in [(n, d), (9, d)])
    labels = torch.arange(n) % 3
    targets = labels if kind == "labels" else torch.rand(n, 3, generator=generator, dtype=torch.float64)
    rows = torch.arange(n)[:: 2 if n > 2 else 1] if some else None
    path = RidgePath.fit(z, targets, 3, rows)
    rows = torch.arange(n) if rows is None else rows
    y = F.one_hot(labels, 3).double() if kind == "labels" else targets
    centred = z[rows] - z[rows].mean(0)
    assert path.diagonal == pytest.approx(float(centred.square().sum(1).mean()))
    expected = Ridge(alpha=ridge * path.diagonal, solver="svd").fit(z[rows].numpy(), y[rows].numpy()).predict(new.numpy())
    np.testing.assert_allclose(path.scores(new, ridge).numpy(), expected, rtol=1e-6, atol=1e-8)


def test_class_rows_are_those_of_one_hot_targets():
    labels = torch.tensor([0, 2, 2, 0, 1, 1, 2, 0])
    y = F.one_hot(labels, 4).float()
    rows = torch.tensor([[3, 1], [0, 0]])
    assert torch.equal(class_rows(labels, rows, 4), y[rows])
    assert torch.equal(class_rows(y, rows, 4), y[rows])


def test_a_bank_larger_than_its_chunks_takes_the_memory_of_a_chunk():
    """300,000 features of 64 dimensions and 1,000 classes: 76 MB in the file, 154 MB in float64, 1.2 GB of one-hot targets."""
    command = [sys.executable, "-P", TOOL, "--images", "300000", "--dim", "64", "--classes", "1000"]
    found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    assert found["file_mb"] == 76
    assert found["hits"] == found["tested"] > 200  # it has learned what the few rows that are not zero say
    assert found["peak_mb"] < 70
