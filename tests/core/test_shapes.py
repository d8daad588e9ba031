"""Shapes that annotations state are checked in tests, in the modules that `tests/conftest.py` names."""

import pytest
import torch
from jaxtyping import TypeCheckError

from ddbench.core.ridge import RidgePath, mean_diagonal, ridge_dual
from ddbench.core.unroll import InnerLoop
from ddbench.methods.clpdd import outer_loss
from ddbench.methods.lgm import probe_gradient


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: mean_diagonal(torch.zeros(3)),
        lambda: ridge_dual(torch.ones(3, 2), torch.ones(4, 5), torch.tensor(1.0)),
        lambda: outer_loss(torch.zeros(3, 2), torch.zeros(4, dtype=torch.long), 1.0, "ce"),
        lambda: probe_gradient(torch.zeros(3, 2), torch.zeros(4, 5), (torch.zeros(5, 2), torch.zeros(5))),
        lambda: InnerLoop(lambda *_: torch.tensor(0.0), torch.zeros(3, 4), torch.zeros(2, 5), torch.tensor(0.1), []),
        lambda: RidgePath(torch.zeros(4, 2), torch.zeros(3), torch.zeros(2, 5), torch.zeros(4), torch.zeros(5), 1.0),
    ],
    ids=["mean_diagonal", "ridge_dual", "outer_loss", "probe_gradient", "InnerLoop", "RidgePath"],
)
def test_a_wrong_shape_is_an_error(wrong):
    with pytest.raises(TypeCheckError):
        wrong()
