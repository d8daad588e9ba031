"""Class centres by index against a loop, and the price on the mean that all classes share."""

import dataclasses

import pytest
import torch

from ddbench.methods._statistics import MeanTerm, class_centres, real_centres
from ddbench.methods.lgm import LGM
from ddbench.methods.sfm import SFM


def test_centres_average_each_class():
    z, labels = torch.arange(8.0).reshape(4, 2), torch.tensor([0, 1, 0, 1])
    torch.testing.assert_close(class_centres(z, labels, 2), torch.tensor([[2.0, 3.0], [4.0, 5.0]]))


def test_real_centres_are_those_of_centre_views(backbone, data, run):
    found = real_centres(backbone, data, run)
    z = backbone(data.train.images[torch.arange(len(data.train))].float() / 255).detach()
    slow = torch.stack([z[data.train.labels == c].mean(0) for c in range(3)])
    torch.testing.assert_close(found, slow, rtol=1e-4, atol=1e-5)


def test_the_price_is_the_squared_shift_in_units_of_the_spread_of_the_classes():
    """Whatever the scale of the features, and nothing for any set that shares the mean."""
    generator = torch.Generator().manual_seed(0)
    centres = torch.randn(4, 6, generator=generator) + 5
    z = torch.randn(12, 6, generator=generator)
    spread = sum(((row - centres.mean(0)) ** 2).sum() for row in centres) / 4
    shift = ((sum(z) / 12 - centres.mean(0)) ** 2).sum()
    for scale in (1.0, 1000.0):
        term = MeanTerm.of(scale * centres, 0.5)
        torch.testing.assert_close(term(scale * z), 0.5 * shift / spread)
    assert MeanTerm.of(centres, 1.0)(z - z.mean(0) + centres.mean(0)) < 1e-10


@pytest.mark.parametrize(
    "method",
    [
        SFM(steps=60, lr=0.05, grow_every=0),
        LGM(steps=60, lr=0.05, grow_every=0, augment="none", real="bank", real_batch=48),
        LGM(steps=60, lr=0.05, grow_every=0, copies=2, real="bank", real_views=2, real_batch=48),
    ],
)
def test_a_weight_brings_the_sets_mean_to_the_real_one(backbone, data, run, method):
    gap = MeanTerm.of(real_centres(backbone, data, run), 1.0)
    sets = [dataclasses.replace(method, mean_weight=weight).distill(backbone, data, 2, run=run) for weight in (0.0, 1.0)]
    free, priced = (float(gap(backbone(dset.images))) for dset in sets)  # as they are: the centre view
    assert priced < 0.2 * free
