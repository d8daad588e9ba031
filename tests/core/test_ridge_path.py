"""Many ridges by one decomposition: against scikit-learn, chunk by chunk, with the memory of one chunk."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.linear_model import Ridge

from ddbench.core import ridge_path
from ddbench.core.ridge import class_rows
from ddbench.core.ridge_path import RidgePath

TOOL = Path(__file__).parents[2] / "tools" / "out_of_core.py"


@pytest.mark.parametrize(("n", "d"), [(6, 20), (40, 5), (2, 3)])
@pytest.mark.parametrize("ridge", [1e-4, 0.1, 10.0])
@pytest.mark.parametrize("chunk", [3, 1000])
@pytest.mark.parametrize("kind", ["labels", "probabilities"])
@pytest.mark.parametrize("some", [False, True])
def test_it_is_scikit_learns_ridge(n, d, ridge, chunk, kind, some, monkeypatch):
    monkeypatch.setattr(ridge_path, "_ROWS", chunk)
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
