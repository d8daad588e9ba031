"""The sanity check on the cards: a ridge probe on frozen features, trained network against its initialisation."""

import torch
from torch import Tensor, nn

from ddbench.backbones.mini.networks import INPUT_SIZE
from ddbench.core.data import ImageData, Split, index_chunks, stage, stratified_indices
from ddbench.core.ridge import add_bias, one_hot, solve_ridge

from .objectives import normalise

GRID = tuple(10.0**k for k in range(-6, 2))  # relative to the mean squared feature norm
VALIDATION = 0.2  # share of the train images that choose the ridge, for each network its own; test images choose nothing


def probe_accuracy(network: nn.Module, data: ImageData) -> float:
    """Test accuracy in percent of a ridge probe on standardised features of all train images."""
    train, test = features(network, data.train), features(network, data.test)
    mean, std = train.mean(0), train.std(0).clamp_min(1e-6)
    train, test = (add_bias((z - mean) / std).double() for z in (train, test))
    labels, targets = data.train.labels, one_hot(data.train.labels, data.num_classes).double()
    fit, held = stratified_indices(labels, VALIDATION, seed=0)
    ridge = max(GRID, key=lambda lam: _correct(train[held], solve_ridge(train[fit], targets[fit], lam), labels[held]))
    return 100 * _correct(test, solve_ridge(train, targets, ridge), data.test.labels)


def _correct(z: Tensor, weights: Tensor, labels: Tensor) -> float:
    return ((z @ weights).argmax(1) == labels).double().mean().item()


@torch.no_grad()
def features(network: nn.Module, split: Split) -> Tensor:
    """Features `(n, d)` of the images at 32x32."""
    network.eval()
    chunks = index_chunks(len(split), 500)
    return torch.cat([network(normalise(stage(split.images[indices], INPUT_SIZE))) for indices in chunks]).float()
