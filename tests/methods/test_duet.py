"""Duet: the sum over backbones, the anchor against autograd, and what each part is worth to the images."""

import dataclasses

import pytest
import torch

from ddbench.core.backbone import BACKBONES
from ddbench.core.engine import FeatureEngine
from ddbench.core.errors import UserError
from ddbench.core.images import Pixels
from ddbench.core.method import METHODS
from ddbench.core.views import CENTRE
from ddbench.methods.clpdd import CLPDD
from ddbench.methods.duet import Duet, Ensemble, anchor_to

QUICK = Duet(steps=4, real_batch=30, copies=2)


def pixels(n=5):
    return Pixels(n, 16, torch.Generator().manual_seed(0))


def stream():
    return torch.Generator().manual_seed(1)


@pytest.mark.parametrize("chunk", [2, 100])
def test_a_step_adds_the_objectives_of_all_backbones(make_backbone, chunk):
    """Against plain autograd over whole batches, without the engine."""
    backbones, images = [make_backbone(dim=12), make_backbone(dim=7)], pixels()
    objectives = [lambda z: z.square().sum(), lambda z: z.pow(3).sum()]
    loss = Ensemble([FeatureEngine(b, [CENTRE], chunk) for b in backbones]).step(images, objectives, stream())
    slow = sum(objective(b(images())[None]) for b, objective in zip(backbones, objectives, strict=True))
    (gradient,) = torch.autograd.grad(slow, images.signal)
    torch.testing.assert_close(loss, slow.detach())
    torch.testing.assert_close(images.signal.grad, gradient, rtol=1e-4, atol=1e-6)


def test_the_anchor_is_the_mean_squared_distance_in_parts():
    images, origin = torch.rand(5, 3, 16, 16, generator=stream()), torch.rand(5, 3, 16, 16)
    pull = anchor_to(origin, 8.0)
    parts = [pull(images[rows], rows) for rows in (slice(0, 2), slice(2, 4), slice(4, 5))]
    torch.testing.assert_close(sum(parts), 8 * (images - origin).square().mean())


def test_the_anchor_weighs_once_for_each_backbone(run):
    images, moved = pixels(), torch.rand(5, 3, 16, 16, generator=stream())
    one, three = (QUICK.anchor_on(images, backbones, run)(moved, slice(0, 5)) for backbones in (1, 3))
    torch.testing.assert_close(three, 3 * one)


def test_each_backbone_has_chunks_of_its_own(make_backbone):
    ensemble = Ensemble([FeatureEngine(make_backbone(dim=dim), [CENTRE], 9) for dim in (12, 7)])
    ensemble.use([4, 2])
    assert (ensemble.in_use, ensemble.chunks, ensemble.chunk) == ([4, 2], [4, 2], 2)


def test_without_anchor_and_further_backbones_it_is_clpdd(backbone, data, run):
    alone = dataclasses.replace(QUICK, anchor=0.0).distill(backbone, data, 2, run=run)
    shared = {f.name for f in dataclasses.fields(CLPDD)} & {f.name for f in dataclasses.fields(Duet)}
    parameters = {name: getattr(QUICK, name) for name in shared}
    assert torch.equal(alone.images, CLPDD(**parameters).distill(backbone, data, 2, run=run).images)


def test_a_stronger_anchor_keeps_images_nearer_to_real_ones(backbone, data, run):
    real = METHODS.create("centroids").distill(backbone, data, 1, run=run).images
    methods = [dataclasses.replace(QUICK, steps=40, anchor=weight) for weight in (0.0, 30.0, 3000.0)]
    distances = [(m.distill(backbone, data, 1, run=run).images - real).square().mean().item() for m in methods]
    assert distances[0] > 1.2 * distances[1] > 1.2 * distances[2]


def test_further_backbones_change_the_images(backbone, data, run, make_backbone, monkeypatch):
    class Source:
        def load(self):
            return make_backbone(dim=7)

    monkeypatch.setattr(BACKBONES, "create", lambda spec: Source())
    alone = QUICK.distill(backbone, data, 1, run=run)
    both = dataclasses.replace(QUICK, also="other").distill(backbone, data, 1, run=run)
    assert not torch.equal(alone.images, both.images)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("duet[also=mini_vit_simclr+mini_rasnet]", "unknown backbone 'mini_rasnet'"),
        ("duet[also=mini_vit_simclr+mini_vit_simclr]", "names a backbone twice"),
        ("duet[init=noise]", "give anchor=0"),
    ],
)
def test_bad_input_is_refused_before_anything_runs(spec, message):
    with pytest.raises(UserError, match=message):
        METHODS.create(spec)


def test_the_backbone_that_distils_is_no_further_one(data):
    method = METHODS.create("duet[also=mini_vit_simclr]")
    spec = BACKBONES.create("mini_vit_simclr").load().spec
    assert "names the backbone that distils" in method.supports(spec, data, 1)
    assert method.supports(BACKBONES.create("mini_vit_mae").load().spec, data, 1) is None
