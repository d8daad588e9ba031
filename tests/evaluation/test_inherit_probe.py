"""Classifier inheritance: projectors against torch's own training, and what is inherited from whom."""

import dataclasses

import pytest
import torch
from torch import nn

from ddbench.core.backbone import BACKBONES
from ddbench.core.errors import Diverged, UserError
from ddbench.core.method import METHODS
from ddbench.evaluation._heads import ProbeRecipe
from ddbench.evaluation.inherit_probe import InheritProbe, full_head, new_projectors, through, train_projectors
from ddbench.evaluation.linear_probe import LinearProbe

QUICK = InheritProbe(epochs=40, seeds=2, view_budget=12)


def streams(purpose, seeds=2):
    return [torch.Generator().manual_seed(10 * purpose + k) for k in range(seeds)]


def test_each_projector_is_torchs_linear_trained_alone():
    """nn.Linear, MSELoss, Adam and CosineAnnealingLR, one seed at a time, view t modulo v at epoch t."""
    generator = torch.Generator().manual_seed(0)
    sources, targets = (torch.randn(3, 7, d, generator=generator) for d in (5, 4))
    recipe = ProbeRecipe(lr=0.02, epochs=8, batch=3)
    start = new_projectors(5, 4, streams(1))
    weight, bias = train_projectors(start, sources, targets, recipe, streams(2))
    for k, order in enumerate(streams(2)):
        linear = nn.Linear(5, 4)
        with torch.no_grad():
            linear.weight.copy_(start[0][k])
            linear.bias.copy_(start[1][k])
        adam = torch.optim.Adam(linear.parameters(), lr=0.02)
        cosine = torch.optim.lr_scheduler.CosineAnnealingLR(adam, 8)
        for epoch in range(8):
            for rows in torch.randperm(7, generator=order).split(3):
                loss = nn.functional.mse_loss(linear(sources[epoch % 3][rows]), targets[epoch % 3][rows])
                adam.zero_grad()
                loss.backward()
                adam.step()
            cosine.step()
        torch.testing.assert_close((weight[k], bias[k]), (linear.weight.detach(), linear.bias.detach()), rtol=1e-4, atol=1e-6)


def test_a_head_behind_a_projector_is_one_head():
    generator = torch.Generator().manual_seed(0)
    projector, head = nn.Linear(5, 4), nn.Linear(4, 3)
    z = torch.randn(6, 5, generator=generator)
    weight, bias = through((projector.weight[None], projector.bias[None]), (head.weight, head.bias))
    torch.testing.assert_close(z @ weight[0].T + bias[0], head(projector(z)))


@pytest.fixture
def known(monkeypatch, make_backbone):
    """`narrow` is a backbone of 7 dimensions, whatever the registry has."""

    class Source:
        def load(self):
            return make_backbone(dim=7)

    monkeypatch.setattr(BACKBONES, "create", lambda spec: Source())
    return make_backbone(dim=7)


def of_narrow(dset, sha256):
    return dataclasses.replace(dset, provenance={"distill_backbone": "narrow", "distill_backbone_spec": {"sha256": sha256}})


def test_the_set_is_judged_through_the_head_of_the_backbone_that_distilled_it(backbone, data, run, known):
    """With a projector that has learned, about as well as that head classifies its own features; labels play no part."""
    dset = of_narrow(METHODS.create("random").distill(None, data, 8, run=run), known.spec.sha256)
    scaled = dataclasses.replace(QUICK, base_lr=50.0, epochs=400, view_budget=400)
    found = scaled.evaluate(backbone, data, dset, run=run)
    weight, bias = full_head(known, data, run)
    z = known(data.test.images[torch.arange(len(data.test))].float() / 255)
    own = 100 * float(((z @ weight.T + bias).argmax(1) == data.test.labels).float().mean())
    assert own > 80
    assert found.top1 > own - 10
    unlabelled = dataclasses.replace(dset, labels=dset.labels.flip(0))
    assert scaled.evaluate(backbone, data, unlabelled, run=run).top1_per_seed == found.top1_per_seed


def test_both_backbones_see_the_same_views(data, run, known, monkeypatch):
    """Judged by the backbone that distilled, features in and out are equal."""
    seen = []

    def keep(projectors, sources, targets, *rest):
        seen.extend([sources, targets])
        return projectors

    monkeypatch.setattr("ddbench.evaluation.inherit_probe.train_projectors", keep)
    dset = of_narrow(METHODS.create("random").distill(None, data, 2, run=run), known.spec.sha256)
    QUICK.evaluate(known, data, dset, run=run)
    assert seen[0].shape == (4, 6, 7)
    assert not torch.equal(seen[0][0], seen[0][1])
    torch.testing.assert_close(seen[0], seen[1])


def test_the_head_is_that_of_the_linear_probe_on_the_full_data_and_trained_once(data, run, known, monkeypatch):
    full = METHODS.create("full").distill(None, data, 1, run=run)
    weight, bias = LinearProbe(seeds=1).heads(known, data, full, run)
    torch.testing.assert_close(full_head(known, data, run), (weight[0], bias[0]))
    monkeypatch.setattr(LinearProbe, "heads_on", lambda *a: pytest.fail("trained again"))
    full_head(known, data, run)


def test_projectors_that_are_not_finite_are_no_accuracy(backbone, data, run, known):
    dset = of_narrow(METHODS.create("random").distill(None, data, 2, run=run), known.spec.sha256)
    with pytest.raises(Diverged, match="the projector are not finite"):
        dataclasses.replace(QUICK, base_lr=1e38).evaluate(backbone, data, dset, run=run)


def test_the_run_lends_the_backbone_that_distilled(backbone, data, run, known, monkeypatch):
    """A dry run lends a stand-in; nothing is loaded then."""
    monkeypatch.setattr(BACKBONES, "create", lambda spec: pytest.fail(f"{spec} was loaded"))
    lent = dataclasses.replace(run, backbone_of=lambda spec: known)
    dset = of_narrow(METHODS.create("random").distill(None, data, 2, run=run), known.spec.sha256)
    assert len(QUICK.evaluate(backbone, data, dset, run=lent).top1_per_seed) == 2


def test_a_set_of_no_known_backbone_has_no_head_to_inherit(data, run):
    dset = METHODS.create("random").distill(None, data, 1, run=run)
    for unknown in (dset, dataclasses.replace(dset, provenance={"distill_backbone": None})):
        assert "no head to inherit" in QUICK.supports(unknown)
    assert QUICK.supports(of_narrow(dset, "x")) is None


def test_other_weights_than_the_set_names_are_one_line(backbone, data, run, known):
    dset = of_narrow(METHODS.create("random").distill(None, data, 1, run=run), "of another file")
    with pytest.raises(UserError, match="other weights of narrow"):
        QUICK.evaluate(backbone, data, dset, run=run)
