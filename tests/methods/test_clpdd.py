"""CLP-DD: the equations against slow versions, and what distillation must do to the loss."""

import dataclasses

import pytest
import torch
import torch.nn.functional as F

from ddbench.core.errors import UserError
from ddbench.core.params import build
from ddbench.core.ridge import mean_diagonal
from ddbench.methods.clpdd import CLPDD, outer_loss, probe_features

QUICK = CLPDD(steps=4, real_batch=30, copies=2, real_views=2, init="noise")


def slow_outer_loss(z, y, z_real, y_real, lam, tau, num_classes):
    """The bilevel objective written image by image: normal equations, then a softmax per real image (no bias)."""
    d = z.shape[1]
    gram, cross = torch.zeros(d, d, dtype=z.dtype), torch.zeros(d, num_classes, dtype=z.dtype)
    for row, label in zip(z, y, strict=True):
        gram += torch.outer(row, row)
        cross[:, label] += row
    ridge = lam * sum(row @ row for row in z) / len(z)
    probe = torch.linalg.inv(gram + ridge * torch.eye(d, dtype=z.dtype)) @ cross
    losses = [-torch.log_softmax((row @ probe) / tau, 0)[label] for row, label in zip(z_real, y_real, strict=True)]
    return sum(losses) / len(losses)


def test_objective_is_the_bilevel_loss():
    generator = torch.Generator().manual_seed(0)
    z, z_real = (torch.randn(n, 7, generator=generator, dtype=torch.float64) for n in (6, 20))
    y, y_real = torch.tensor([0, 0, 1, 1, 2, 2]), torch.arange(20) % 3
    method = CLPDD(tau=0.3, lam=0.2, bias=False, augment="none")
    targets = F.one_hot(y, 3).double()
    found = method.objective(z[None], targets, z_real, y_real)
    torch.testing.assert_close(found, slow_outer_loss(z, y, z_real, y_real, 0.2, 0.3, 3))


def test_copies_share_one_probe_and_the_centre_views_have_their_own():
    generator = torch.Generator().manual_seed(0)
    z, z_real = (torch.randn(size, generator=generator, dtype=torch.float64) for size in [(4, 3, 7), (20, 7)])
    y, y_real = torch.arange(3), torch.arange(20) % 3
    method = CLPDD(tau=0.3, lam=0.2, lam_copies=2.0, plain=0.5, copies=3, bias=False)
    found = method.objective(z, torch.eye(3, dtype=torch.float64), z_real, y_real)
    centre = slow_outer_loss(z[0], y, z_real, y_real, 0.2, 0.3, 3)
    copies = slow_outer_loss(z[1:].flatten(0, 1), y.repeat(3), z_real, y_real, 2.0, 0.3, 3)
    torch.testing.assert_close(found, (copies + 0.5 * centre) / 1.5)


def test_bias_feature_has_the_norm_of_the_real_features():
    z = torch.randn(50, 5, generator=torch.Generator().manual_seed(0)) * 30
    with_bias = probe_features(z, False, True, mean_diagonal(z).sqrt())
    torch.testing.assert_close(with_bias[:, -1].square(), z.square().sum(1).mean().expand(50))
    torch.testing.assert_close(probe_features(z, True, False, torch.tensor(1.0)).norm(dim=1), torch.ones(50))


def test_mse_is_the_squared_distance_to_one_hot():
    logits, labels = torch.tensor([[0.5, 0.25], [0.0, 1.0]]), torch.tensor([0, 1])
    assert outer_loss(logits, labels, 1.0, "mse") == pytest.approx((0.5**2 + 0.25**2) / 2)


@pytest.mark.parametrize("outer", ["ce", "mse"])
@pytest.mark.parametrize("augment", ["none", "flip+crop", "flip+crop+noise"])
@pytest.mark.parametrize("images", ["pyramid", "pixels"])
def test_distillation_lowers_the_loss(backbone, data, run, outer, augment, images):
    losses = []
    method = CLPDD(outer=outer, augment=augment, images=images, steps=40, real_batch=60, init="noise")
    recorded = dataclasses.replace(run, progress=lambda step, steps, loss: losses.append(loss))
    dset = method.distill(backbone, data, 2, run=recorded)
    assert len(losses) == 40
    assert sum(losses[-5:]) < 0.9 * sum(losses[:5])
    assert dset.labels.tolist() == [0, 0, 1, 1, 2, 2]


@pytest.mark.parametrize(
    "change",
    [{"tau": 0.5}, {"lam": 1.0}, {"lam_copies": 1.0}, {"init": "centroid"}, {"bias": False}, {"normalise": True},
     {"lr": 0.01}, {"copies": 3}, {"real_views": 3}, {"plain": 0.0}, {"grow_every": 1}, {"real_batch": 31},
     {"balanced": False}, {"decorrelate": False}, {"images": "pixels"}, {"augment": "crop"}, {"outer": "mse"}],
)  # fmt: skip
def test_every_parameter_changes_the_result(backbone, data, run, change):
    base = QUICK.distill(backbone, data, 1, run=run)
    other = dataclasses.replace(QUICK, **change).distill(backbone, data, 1, run=run)
    assert not torch.equal(base.images, other.images)


def test_chunks_do_not_change_the_result(backbone, data, run):
    whole = QUICK.distill(backbone, data, 2, run=run)
    small = QUICK.distill(backbone, data, 2, run=dataclasses.replace(run, chunk=4))
    torch.testing.assert_close(small.images, whole.images, rtol=0, atol=1e-3)


def test_bad_augmentation_is_one_line(backbone, data, run):
    with pytest.raises(UserError, match="unknown augmentation"):
        build(CLPDD, {"augment": "cutmix"}, "clpdd").distill(backbone, data, 1, run=run)
