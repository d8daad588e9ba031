"""The ridge probe: primal, dual, and an independent least-squares solution agree."""

import pytest
import torch

from ddbench.core.ridge import add_bias, cholesky, mean_diagonal, one_hot, ridge_dual, ridge_primal, solve_ridge


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
