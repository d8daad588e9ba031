"""CLP-DD: the equations against slow versions, and what distillation must do to the loss."""

import dataclasses

import pytest
import torch
import torch.nn.functional as F

from ddbench.core.errors import UserError
from ddbench.core.method import METHODS
from ddbench.core.params import build
from ddbench.core.views import CENTRE
from ddbench.methods.clpdd import CLPDD, Probes, outer_loss

QUICK = CLPDD(steps=4, real_batch=30, copies=2, init="noise")


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


def test_objective_is_the_bilevel_loss(data):
    generator = torch.Generator().manual_seed(0)
    z, z_real = (torch.randn(n, 7, generator=generator, dtype=torch.float64) for n in (6, 20))
    y, y_real = torch.tensor([0, 0, 1, 1, 2, 2]), torch.arange(20) % 3
    method = CLPDD(tau=0.3, lam=0.2, bias=False, augment="none")
    targets = F.one_hot(y, 3).double()
    found = method.probes_on(data).loss(z[None], targets, z_real, y_real)
    torch.testing.assert_close(found, slow_outer_loss(z, y, z_real, y_real, 0.2, 0.3, 3))


def test_copies_share_one_probe_and_the_centre_views_have_their_own(data):
    generator = torch.Generator().manual_seed(0)
    z, z_real = (torch.randn(size, generator=generator, dtype=torch.float64) for size in [(4, 3, 7), (20, 7)])
    y, y_real = torch.arange(3), torch.arange(20) % 3
    method = CLPDD(tau=0.3, lam=0.2, lam_copies=2.0, plain=0.5, copies=3, bias=False)
    found = method.probes_on(data).loss(z, torch.eye(3, dtype=torch.float64), z_real, y_real)
    centre = slow_outer_loss(z[0], y, z_real, y_real, 0.2, 0.3, 3)
    copies = slow_outer_loss(z[1:].flatten(0, 1), y.repeat(3), z_real, y_real, 2.0, 0.3, 3)
    torch.testing.assert_close(found, (copies + 0.5 * centre) / 1.5)


def test_bias_feature_has_the_norm_of_the_real_features():
    """One feature more on both sides, whatever the features' scale."""
    generator = torch.Generator().manual_seed(0)
    z, z_real = (torch.randn(n, 7, generator=generator, dtype=torch.float64) * 30 for n in (6, 20))
    y, y_real = torch.arange(6) % 3, torch.arange(20) % 3
    norm = (sum(row @ row for row in z_real) / 20).sqrt()
    longer, longer_real = (torch.cat([each, norm.expand(len(each), 1)], dim=1) for each in (z, z_real))
    probes = Probes(tau=0.3, lam=0.2, lam_copies=1.0, plain=0.0, augment="none", copies=1)
    found = probes.loss(z[None], F.one_hot(y, 3).double(), z_real, y_real)
    torch.testing.assert_close(found, slow_outer_loss(longer, y, longer_real, y_real, 0.2, 0.3, 3))


def test_mse_is_the_squared_distance_to_one_hot():
    logits, labels = torch.tensor([[0.5, 0.25], [0.0, 1.0]]), torch.tensor([0, 1])
    assert outer_loss(logits, labels, 1.0, "mse") == pytest.approx((0.5**2 + 0.25**2) / 2)


@pytest.mark.parametrize("outer", ["ce", "mse"])
@pytest.mark.parametrize("augment", ["none", "flip+crop", "flip+crop+noise"])
def test_distillation_lowers_the_loss(backbone, data, run, outer, augment):
    losses = []
    method = CLPDD(outer=outer, augment=augment, steps=40, real_batch=60, init="noise")
    recorded = dataclasses.replace(run, progress=lambda step, steps, loss: losses.append(loss))
    dset = method.distill(backbone, data, 2, run=recorded)
    assert len(losses) == 40
    assert sum(losses[-5:]) < 0.9 * sum(losses[:5])
    assert dset.labels.tolist() == [0, 0, 1, 1, 2, 2]


@pytest.mark.parametrize(
    "change",
    [{"tau": 0.5}, {"lam": 1.0}, {"lam_copies": 1.0}, {"init": "centroid"}, {"bias": False}, {"lr": 0.01}, {"copies": 3},
     {"plain": 0.0}, {"grow_every": 1}, {"real_batch": 31}, {"augment": "crop"}, {"outer": "mse"}],
)  # fmt: skip
def test_every_parameter_changes_the_result(backbone, data, run, change):
    base = QUICK.distill(backbone, data, 1, run=run)
    other = dataclasses.replace(QUICK, **change).distill(backbone, data, 1, run=run)
    assert not torch.equal(base.images, other.images)


def test_chunks_do_not_change_the_result(backbone, data, run):
    whole = QUICK.distill(backbone, data, 2, run=run)
    small = QUICK.distill(backbone, data, 2, run=dataclasses.replace(run, chunk=4))
    torch.testing.assert_close(small.images, whole.images, rtol=0, atol=1e-3)


@pytest.mark.parametrize(
    ("spec", "mirrored"), [("clpdd", False), ("duet", False), ("clpdd_paper", False), ("clpdd[augment=flip]", True)]
)
def test_what_the_data_does_not_bear_is_left_out_unless_asked_for(spec, mirrored, data):
    method = METHODS.create(spec)
    assert any(view.flip for view in method.probes_on(data).views())
    views = method.probes_on(dataclasses.replace(data, mirror=False)).views()
    assert any(view.flip for view in views) is mirrored
    assert any(view.random for view in views)


def test_bad_augmentation_is_one_line(backbone, data, run):
    with pytest.raises(UserError, match="unknown augmentation"):
        build(CLPDD, {"augment": "cutmix"}, "clpdd").distill(backbone, data, 1, run=run)


def test_the_papers_preset_is_one_probe_of_copies_from_noise(backbone, data, run):
    """The same bits as the parameters that its docstring names, and another label."""
    preset, spelt = METHODS.create("clpdd_paper[steps=3]"), METHODS.create("clpdd[steps=3,plain=0,init=noise,bias=false]")
    one, other = (method.distill(backbone, data, 1, run=run) for method in (preset, spelt))
    assert torch.equal(one.images, other.images)
    assert (preset.origin, spelt.origin) == ("re-derived", "ours")
    assert CENTRE not in preset.probes_on(data).views()


def test_real_features_are_drawn_class_by_class(backbone, data, run, monkeypatch):
    """24, 12 and 12 images: each class makes up a third of what scores the probe."""
    seen = []
    monkeypatch.setattr("ddbench.methods.clpdd.outer_loss", lambda z, y, *rest: seen.append(y) or z.sum())
    method = dataclasses.replace(QUICK, real_batch=6000, steps=1)
    method.distill(backbone, data, 1, run=run)
    assert (seen[0].bincount() / 6000 - 1 / 3).abs().max() < 0.03
