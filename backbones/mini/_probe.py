"""The sanity check on the cards: a ridge probe on frozen features, trained network against its initialisation."""

import torch
from torch import Tensor, nn

from ...core.data import ImageData, Split, index_chunks, stage
from ...core.ridge import add_bias, one_hot, solve_ridge
from ._objectives import normalise
from .networks import INPUT_SIZE

RIDGE = 1e-3  # relative to the mean squared feature norm; fixed, so that nothing is chosen on test images


def probe_accuracy(network: nn.Module, data: ImageData) -> float:
    """Test accuracy in percent of a ridge probe on standardised features of all train images."""
    train, test = features(network, data.train), features(network, data.test)
    mean, std = train.mean(0), train.std(0).clamp_min(1e-6)
    train, test = (add_bias((z - mean) / std) for z in (train, test))
    weights = solve_ridge(train, one_hot(data.train.labels, data.num_classes), RIDGE)
    return 100 * ((test @ weights).argmax(1) == data.test.labels).double().mean().item()


@torch.no_grad()
def features(network: nn.Module, split: Split) -> Tensor:
    """Features `(n, d)` of the images at 32x32."""
    network.eval()
    chunks = index_chunks(len(split), 500)
    return torch.cat([network(normalise(stage(split.images[indices], INPUT_SIZE))) for indices in chunks]).float()
