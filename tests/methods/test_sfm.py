"""SFM: closed-form products against explicit flows, and its place as LGM's expectation."""

import dataclasses

import pytest
import torch
import torch.nn.functional as F

from ddbench.core.ridge import one_hot
from ddbench.methods.lgm import draw_head, probe_gradient
from ddbench.methods.sfm import SFM, class_centres, flow_loss, flow_products, mean_flow

QUICK = SFM(steps=4, copies=2, real_views=2, grow_every=2)


def centres(seed, k=5, d=7):
    return torch.randn(k, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def explicit_flow(mu, c):
    return torch.cat([mu[k] - mu[c] for k in range(len(mu)) if k != c])


def test_products_are_those_of_the_explicit_flows():
    a, b = centres(0) + 3, centres(1) - 1
    slow = torch.stack([explicit_flow(a, c) @ explicit_flow(b, c) for c in range(5)])
    torch.testing.assert_close(flow_products(a, b), slow)


def test_loss_is_the_mean_cosine_distance_of_the_flows():
    a, b = centres(0), centres(1)
    slow = sum(1 - F.cosine_similarity(explicit_flow(a, c), explicit_flow(b, c), dim=0) for c in range(5)) / 5
    torch.testing.assert_close(flow_loss(a, b), slow)


def test_loss_is_blind_to_shift_and_scale_and_zero_at_the_real_centres():
    a, b = centres(0), centres(1)
    torch.testing.assert_close(flow_loss(a, 7 * b + 2), flow_loss(a, b))
    assert flow_loss(a, a) < 1e-12


def test_centres_average_each_class():
    z, labels = torch.arange(8.0).reshape(4, 2), torch.tensor([0, 1, 0, 1])
    torch.testing.assert_close(class_centres(z, one_hot(labels, 2)), torch.tensor([[2.0, 3.0], [4.0, 5.0]]))


def test_lgms_gradient_converges_to_the_mean_flow():
    """Averaged over heads with the released std, the gradient of row c on balanced data is mean_flow(c) / C."""
    k, d = 5, 16
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(40) % k
    z = torch.randn(40, d, generator=generator, dtype=torch.float64) + 2 * centres(2, k, d)[labels]
    y = one_hot(labels, k, torch.float64)
    wanted = mean_flow(class_centres(z, y)) / k

    def error(heads):
        total = torch.zeros(k, d, dtype=torch.float64)
        for _ in range(heads):
            weight, bias = (t.double() for t in draw_head(d, k, 0.01, generator))
            total += probe_gradient(z, y, (weight, bias))[: k * d].view(k, d)
        return ((total / heads - wanted).norm() / wanted.norm()).item()

    assert error(4000) < 0.002 < error(1)


@pytest.mark.parametrize("augment", ["none", "flip+crop+noise"])
def test_distillation_lowers_the_loss(backbone, data, run, augment):
    losses = []
    method = SFM(augment=augment, steps=60, lr=0.05, grow_every=5, copies=4)
    dset = method.distill(backbone, data, 2, run=dataclasses.replace(run, progress=lambda *step: losses.append(step[2])))
    assert sum(losses[-10:]) < 0.8 * sum(losses[:10])
    assert dset.labels.tolist() == [0, 0, 1, 1, 2, 2]


@pytest.mark.parametrize(
    "change",
    [{"copies": 3}, {"augment": "none"}, {"real_views": 0}, {"images": "pixels"}, {"decorrelate": False}, {"lr": 0.01},
     {"init": "centroid", "grow_every": 0}, {"grow_every": 1}],
)  # fmt: skip
def test_every_parameter_changes_the_result(backbone, data, run, change):
    base = QUICK.distill(backbone, data, 1, run=run)
    other = dataclasses.replace(QUICK, **change).distill(backbone, data, 1, run=run)
    assert not torch.equal(base.images, other.images)
