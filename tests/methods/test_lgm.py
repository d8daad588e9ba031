"""LGM: closed forms against autograd's double backward, samplers against the released behaviour."""

import dataclasses

import pytest
import torch
import torch.nn.functional as F

from ddbench.core.real import epoch_order
from ddbench.core.ridge import one_hot
from ddbench.core.views import CENTRE
from ddbench.methods.lgm import LGM, draw_head, matching_loss, probe_gradient

QUICK = LGM(steps=4, copies=2, real_views=2, grow_every=2)


def test_loss_and_image_gradient_are_those_of_double_backward(make_backbone):
    """The released way: autograd through the head's gradient, then through the backbone, in float64."""
    backbone = make_backbone(dtype=torch.float64)
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(6, 3, 16, 16, generator=generator, dtype=torch.float64).requires_grad_()
    real = backbone(torch.rand(9, 3, 16, 16, generator=generator, dtype=torch.float64))
    y, y_real = torch.arange(6) % 3, torch.arange(9) % 3
    weight, bias = (t.double() for t in draw_head(12, 3, 0.01, generator))

    def autograd_gradient(z, labels):
        w, b = weight.clone().requires_grad_(), bias.clone().requires_grad_()
        loss = F.cross_entropy(z @ w.T + b, labels)
        return torch.cat([g.flatten() for g in torch.autograd.grad(loss, (w, b), create_graph=True)])

    slow = 1 - F.cosine_similarity(autograd_gradient(real, y_real).detach(), autograd_gradient(backbone(images), y), dim=0)
    (slow_gradient,) = torch.autograd.grad(slow, images)
    wanted = probe_gradient(real, one_hot(y_real, 3, torch.float64), (weight, bias))
    fast = matching_loss(wanted, probe_gradient(backbone(images), one_hot(y, 3, torch.float64), (weight, bias)))
    (fast_gradient,) = torch.autograd.grad(fast, images)
    assert abs(fast - slow) < 1e-8
    assert (fast_gradient - slow_gradient).norm() < 1e-8 * slow_gradient.norm()


@pytest.mark.parametrize(("std", "spread"), [(0.01, 0.01), (1.0, 1.0), (None, (1 / 3 / 400) ** 0.5)])
def test_heads(std, spread):
    weight, bias = draw_head(400, 50, std, torch.Generator().manual_seed(0))
    assert weight.std() == pytest.approx(spread, rel=0.02)
    assert bool(bias.any()) == (std is None)


@pytest.mark.parametrize("real", ["live", "bank"])
@pytest.mark.parametrize("augment", ["none", "flip+crop+noise"])
def test_distillation_lowers_the_loss(backbone, data, run, real, augment):
    losses = []
    method = LGM(real=real, augment=augment, steps=60, lr=0.05, grow_every=5, copies=4)
    dset = method.distill(backbone, data, 2, run=dataclasses.replace(run, progress=lambda *step: losses.append(step[2])))
    assert sum(losses[-10:]) < 0.8 * sum(losses[:10])  # six real images a step make single losses noisy
    assert dset.labels.tolist() == [0, 0, 1, 1, 2, 2]


@pytest.mark.parametrize(
    "change",
    [{"head_std": 1.0}, {"head_std": None}, {"copies": 3}, {"augment": "none"}, {"noise_mean": 0.5}, {"images": "pixels"},
     {"decorrelate": False}, {"lr": 0.01}, {"init": "centroid", "grow_every": 0}, {"grow_every": 1}, {"real": "bank"},
     {"real_batch": 20}, {"logit_std": 0.3}, {"balanced": True}, {"mean_weight": 1.0}],
)  # fmt: skip
def test_every_parameter_changes_the_result(backbone, data, run, change):
    base = QUICK.distill(backbone, data, 1, run=run)
    other = dataclasses.replace(QUICK, **change).distill(backbone, data, 1, run=run)
    assert not torch.equal(base.images, other.images)


def test_logit_std_is_the_spread_of_the_heads_outputs_whatever_the_features_scale(backbone, data, run):
    z = run.bank.features(backbone, data, "train")[0]
    std = LGM(logit_std=0.3).std_of_heads(backbone, data, run)
    heads = [draw_head(12, 50, std, torch.Generator().manual_seed(seed))[0] for seed in range(40)]
    outputs = torch.cat([z @ weight.T for weight in heads], dim=1)
    assert outputs.square().mean().sqrt() == pytest.approx(0.3, rel=0.05)
    assert LGM().std_of_heads(backbone, data, run) == 0.01


@pytest.mark.parametrize("balanced", [True, False])
def test_live_batches_are_balanced_where_asked_and_plain_shuffles_otherwise(backbone, data, run, balanced):
    """24, 12 and 12 images: balanced epochs hold 12 of each class, one of each in every three."""
    real = LGM(balanced=balanced).real_features(backbone, data, CENTRE, 9, run)
    per_epoch = 4 if balanced else 5
    counts = torch.stack([real(step)[1].bincount(minlength=3) for step in range(2 * per_epoch)])
    assert bool((counts == 3).all()) == balanced
    assert counts.sum(1).tolist() == [9] * 2 * per_epoch


def test_a_balanced_epoch_takes_each_image_at_most_once_and_another_part_each_time():
    labels = torch.tensor([0] * 7 + [2] * 3 + [5] * 4)
    generator = torch.Generator().manual_seed(0)
    one, other = (epoch_order(labels, True, generator) for _ in range(2))
    assert labels[one].tolist() == [0, 2, 5] * 3
    assert len(set(one.tolist())) == 9
    assert one.tolist() != other.tolist()
    assert epoch_order(labels, False, generator).sort().values.tolist() == list(range(14))
