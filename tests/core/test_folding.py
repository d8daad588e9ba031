"""Folded networks give the features and gradients of unfolded ones, up to rounding."""

import copy
import dataclasses

import pytest
import timm
import torch
import torchvision
from torch import nn

from ddbench.backbones.mini.networks import tiny_vit
from ddbench.core.backbone import BACKBONES, Backbone
from ddbench.core.bank import feature_facts
from ddbench.core.folding import folded
from ddbench.core.views import CENTRE


def seeded(make):
    """A network of `make` with statistics and affine weights as if it were trained, in float64."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = make().eval().double()
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d) and module.track_running_stats:
                module.running_mean.normal_()
                module.running_var.uniform_(0.5, 2)
                if module.affine:
                    module.weight.data.uniform_(0.5, 1.5)
                    module.bias.data.normal_()
    return network


NETWORKS = {
    "timm resnet": (lambda: timm.create_model("resnet10t", num_classes=0), 14),
    "timm mobilenetv2": (lambda: timm.create_model("mobilenetv2_050", num_classes=0, pad_type="same"), 52),
    "torchvision resnet": (lambda: torchvision.models.resnet18(), 20),
    "torchvision mobilenetv3": (lambda: torchvision.models.mobilenet_v3_small(), 34),
    "stem of a mini ViT": (tiny_vit, 2),  # torch.fx cannot follow the rest of it
}


@pytest.mark.parametrize("name", NETWORKS)
def test_features_and_gradients_are_those_of_the_unfolded_network(name):
    make, count = NETWORKS[name]
    network = seeded(make)
    state = copy.deepcopy(network.state_dict())
    found, number = folded(network)
    assert number == count
    assert not any(isinstance(module, nn.BatchNorm2d) for module in found.modules())
    assert all(torch.equal(value, state[key]) for key, value in network.state_dict().items())  # what was given stays
    images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(1), dtype=torch.float64).requires_grad_()
    outcomes = []
    for each in (network, found):
        features = each(images)
        (gradient,) = torch.autograd.grad(features.square().sum(), images)
        outcomes.append((features, gradient))
    torch.testing.assert_close(*outcomes, rtol=1e-9, atol=1e-9)


class Shared(nn.Module):
    """What must not be folded: a convolution that is read twice, one that two norms follow, one that changes its weights."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)
        self.twice, self.one, self.two = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.BatchNorm2d(4)
        self.standardised, self.after = Standardised(3, 4, 3), nn.BatchNorm2d(4)
        self.plain, self.batch = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, track_running_stats=False)

    def forward(self, x):
        z, y = self.conv(x), self.one(self.twice(x)) * self.two(self.twice(x))
        return self.norm(z) + z + y + self.after(self.standardised(x)) + self.batch(self.plain(x))


class Standardised(nn.Conv2d):
    def forward(self, x):
        return nn.functional.conv2d(x, self.weight / self.weight.std(), self.bias)


def test_what_is_more_than_one_convolution_is_left_as_it_is():
    network = seeded(Shared)
    found, number = folded(network)
    assert number == 0
    images = torch.rand(2, 3, 8, 8, dtype=torch.float64)
    assert torch.equal(found(images), network(images))


def test_a_backbone_keeps_its_identity_but_its_features_have_an_address_of_their_own(data):
    backbone = BACKBONES.create("mini_resnet_dino").load()
    assert backbone.folded > 0
    assert backbone.spec.sha256 == BACKBONES.create("mini_resnet_dino").load().spec.sha256
    facts = feature_facts(backbone, data, "test", CENTRE, 1, 0)
    again = Backbone(backbone.network, dataclasses.replace(backbone.spec))  # there is nothing left to fold
    assert again.folded == 0
    assert facts != feature_facts(again, data, "test", CENTRE, 1, 0)
