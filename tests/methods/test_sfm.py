"""SFM: the flows and both losses against explicit loops, and its place as LGM's expectation."""

import dataclasses

import pytest
import torch

from ddbench.core.ridge import one_hot
from ddbench.methods._statistics import class_centres
from ddbench.methods._synthetic import starting_images
from ddbench.methods.lgm import draw_head, probe_gradient
from ddbench.methods.sfm import SFM, decoupled_loss, flow_loss, flows

QUICK = SFM(steps=4, copies=2, grow_every=2)


def centres(seed, k=5, d=7):
    return torch.randn(k, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def slow_flow(mu, c):
    """The mean of the directions from centre c to each other centre."""
    return sum(mu[k] - mu[c] for k in range(len(mu)) if k != c) / (len(mu) - 1)


def test_loss_is_one_cosine_over_all_mean_flows():
    a, b = centres(0) + 3, centres(1) - 1
    one, other = (torch.cat([slow_flow(mu, c) for c in range(5)]) for mu in (a, b))
    torch.testing.assert_close(flows(a).flatten(), one)
    torch.testing.assert_close(flow_loss(a, b), 1 - one @ other / (one @ one).sqrt() / (other @ other).sqrt())


@pytest.mark.parametrize("alpha", [1.0, 0.3, 0.0])
def test_decoupled_loss_weighs_own_centres_and_means_of_the_others(alpha):
    a, b = centres(0), centres(1)
    own = sum((x - y) ** 2 for x, y in zip(a.flatten(), b.flatten(), strict=True)) / a.numel()
    rest = 0
    for c in range(5):
        mean_a, mean_b = (torch.stack([mu[k] for k in range(5) if k != c]).mean(0) for mu in (a, b))
        rest += ((mean_a - mean_b) ** 2).sum() / a.numel()
    torch.testing.assert_close(decoupled_loss(a, b, alpha), alpha * own + (1 - alpha) * rest)


def test_flows_are_blind_to_shift_and_scale_and_decoupled_centres_are_not():
    a, b = centres(0), centres(1)
    torch.testing.assert_close(flow_loss(a, 7 * b + 2), flow_loss(a, b))
    assert flow_loss(a, a) < 1e-12
    assert decoupled_loss(a, a + 2, 1.0) == pytest.approx(4)


def test_lgms_gradient_converges_to_the_mean_flow():
    """Averaged over heads with the released std, the gradient of row c on balanced data is (C - 1) / C^2 of f_c."""
    k, d = 5, 16
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(40) % k
    z = torch.randn(40, d, generator=generator, dtype=torch.float64) + 2 * centres(2, k, d)[labels]
    y = one_hot(labels, k, torch.float64)
    wanted = flows(class_centres(z, labels, k)) * (k - 1) / k**2

    def error(heads):
        total = torch.zeros(k, d, dtype=torch.float64)
        for _ in range(heads):
            weight, bias = (t.double() for t in draw_head(d, k, 0.01, generator))
            total += probe_gradient(z, y, (weight, bias))[: k * d].view(k, d)
        return ((total / heads - wanted).norm() / wanted.norm()).item()

    assert error(4000) < 0.002 < error(1)


@pytest.mark.parametrize("ipc", [1, 3])
def test_a_sets_flow_divides_by_classes_whatever_the_ipc(backbone, data, run, ipc):
    """The loss of real images, class by class, is that of a loop over their features."""
    seen = []
    method = SFM(steps=1, augment="none", init="centroid", grow_every=0)
    recorded = dataclasses.replace(run, progress=lambda step, steps, loss: seen.append(loss))
    method.distill(backbone, data, ipc, run=recorded)
    start = starting_images(backbone, data, ipc, run, init="centroid")()
    z, real = backbone(start).detach(), run.bank.features(backbone, data, "train")[0]
    own = torch.stack([z[c * ipc : (c + 1) * ipc].mean(0) for c in range(3)])
    wanted = torch.stack([real[data.train.labels == c].mean(0) for c in range(3)])
    one, other = (torch.cat([slow_flow(mu, c) for c in range(3)]) for mu in (own, wanted))
    assert seen[0] == pytest.approx(float(1 - torch.cosine_similarity(one, other, dim=0)), abs=1e-5)


@pytest.mark.parametrize("augment", ["none", "flip+crop+noise"])
def test_distillation_lowers_the_loss(backbone, data, run, augment):
    losses = []
    method = SFM(augment=augment, steps=60, lr=0.05, grow_every=5, copies=4)
    dset = method.distill(backbone, data, 2, run=dataclasses.replace(run, progress=lambda *step: losses.append(step[2])))
    assert sum(losses[-10:]) < 0.8 * sum(losses[:10])
    assert dset.labels.tolist() == [0, 0, 1, 1, 2, 2]


@pytest.mark.parametrize(
    "change",
    [{"copies": 3}, {"augment": "none"}, {"variant": "decouple"}, {"mean_weight": 1.0}, {"images": "pixels"},
     {"decorrelate": False}, {"lr": 0.01}, {"init": "centroid", "grow_every": 0}, {"grow_every": 1}],
)  # fmt: skip
def test_every_parameter_changes_the_result(backbone, data, run, change):
    base = QUICK.distill(backbone, data, 1, run=run)
    other = dataclasses.replace(QUICK, **change).distill(backbone, data, 1, run=run)
    assert not torch.equal(base.images, other.images)


def test_alpha_weighs_the_decoupled_parts(backbone, data, run):
    sets = [
        dataclasses.replace(QUICK, variant="decouple", alpha=alpha).distill(backbone, data, 1, run=run) for alpha in (1.0, 0.2)
    ]
    assert not torch.equal(sets[0].images, sets[1].images)
