"""Students: the architectures of the papers, from their specs."""

import pytest
import torch

from ddbench.core.errors import UserError
from ddbench.core.students import build_student, family


def count(module):
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize(
    ("spec", "size", "features"),
    [
        ("convnet", 32, 128 * 4 * 4),  # MKDT: 2048 features for 32 pixels
        ("convnet[widths=128-128-128-128]", 64, 128 * 4 * 4),
        ("convnet[widths=128-256-512,norm=batch]", 32, 512 * 4 * 4),  # KRR-ST: 8192
        ("resnet10[width=8]", 32, 64),
        ("resnet18[width=8]", 32, 64),
        ("timm[model=resnet10t]", 32, 512),
    ],
)
def test_feature_widths_are_those_of_the_papers(spec, size, features):
    student = build_student(spec, size, 7, seed=0)
    images = torch.rand(2, 3, size, size)
    assert student.features(images).shape == (2, features)
    assert student(images).shape == (2, 7)


def test_convnet_has_the_parameters_of_three_blocks_and_one_linear_layer():
    convolutions = (3 * 9 + 1) * 128 + 2 * (128 * 9 + 1) * 128
    assert count(build_student("convnet", 32, 512, seed=0)) == convolutions + 3 * 2 * 128 + (2048 + 1) * 512


def test_instance_norm_normalises_every_channel_of_every_image():
    encoder = build_student("convnet[widths=4]", 8, 3, seed=0).encoder
    maps = encoder[1](encoder[0](torch.rand(5, 3, 8, 8)))
    torch.testing.assert_close(maps.mean((2, 3)), torch.zeros(5, 4), rtol=0, atol=1e-5)
    torch.testing.assert_close(maps.var((2, 3), correction=0), torch.ones(5, 4), rtol=0, atol=1e-2)


def test_resnets_keep_the_resolution_of_small_images_and_have_the_named_number_of_layers():
    encoder = build_student("resnet18[width=4]", 32, 3, seed=0).encoder
    assert encoder.layer1(encoder.maxpool(encoder.conv1(torch.rand(1, 3, 32, 32)))).shape == (1, 4, 32, 32)
    for spec, layers in (("resnet10[width=4]", 10), ("resnet18[width=4]", 18)):
        network = build_student(spec, 32, 3, seed=0)
        found = [m for n, m in network.named_modules() if isinstance(m, (torch.nn.Conv2d, torch.nn.Linear))]
        assert len([m for m in found if getattr(m, "kernel_size", None) != (1, 1)]) == layers  # without the shortcuts


def test_weights_come_from_the_seed_and_nothing_else():
    before = torch.get_rng_state()
    first, again, other = (build_student("convnet[widths=4]", 8, 3, seed) for seed in (0, 0, 1))
    assert torch.equal(before, torch.get_rng_state())
    assert torch.equal(first.head.weight, again.head.weight)
    assert not torch.equal(first.head.weight, other.head.weight)
    assert first.training


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("convnext", "unknown student 'convnext': did you mean 'convnet'"),
        ("convnet[widths=4x4]", "cannot read widths"),
        ("convnet[norm=layer]", "norm='layer' is not valid"),
        ("resnet10[width=3]", "width='3' is not valid"),
    ],
)
def test_a_wrong_spec_is_one_line(spec, message):
    with pytest.raises(UserError, match=message):
        family(spec)


def test_a_network_that_cannot_take_the_size_is_one_line():
    with pytest.raises(UserError, match="cannot take 4x4 images"):
        build_student("convnet[widths=4-4-4]", 4, 3, seed=0)
    with pytest.raises(UserError, match="unknown timm model 'resnot'"):
        build_student("timm[model=resnot]", 32, 3, seed=0)
