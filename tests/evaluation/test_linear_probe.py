"""The everyday linear probe: one pool of views for all probe seeds, or strictly one for each."""

import dataclasses

import pytest
import torch

from ddbench.benchmark.dry_run.counting import Sizes, count_protocol, made_up_set
from ddbench.core.method import METHODS
from ddbench.core.views import View
from ddbench.evaluation import linear_probe
from ddbench.evaluation._features import class_targets, set_features
from ddbench.evaluation._heads import ProbeRecipe, new_heads, train_heads
from ddbench.evaluation.linear_probe import LinearProbe, feature_scale

PROBE = LinearProbe(epochs=20, full_epochs=4, batch=5, lr=0.03, view_budget=20, augment="flip+crop+noise")


def alone(seed, pool_of, backbone, data, dset, run):
    """The head of one probe seed that is trained by itself on the views of `pool_of` (None: those that all seeds share)."""
    epochs = PROBE.epochs if isinstance(dset.images, torch.Tensor) else PROBE.full_epochs
    copies = PROBE.views_per_image(len(dset), epochs)
    view = View.parse(PROBE.augment)
    features = set_features(backbone, data, dset, run, view=view, copies=copies, probe_seed=pool_of)
    scale = feature_scale(features)
    streams = {purpose: [run.generator(f"{purpose} of probe seed {seed}")] for purpose in ("head", "order")}
    weight, bias = train_heads(
        new_heads(backbone.spec.dim, dset.num_classes, streams["head"]),
        lambda epoch, indices: features[epoch % copies][indices] / scale,
        class_targets(dset), ProbeRecipe(PROBE.lr, epochs, PROBE.batch), streams["order"],
    )  # fmt: skip
    return weight[0] / scale, bias[0]


@pytest.mark.parametrize("method", ["random", "full"])
@pytest.mark.parametrize("shared", [True, False])
def test_each_probe_seed_is_what_it_is_alone(shared, method, backbone, data, run, monkeypatch):
    monkeypatch.setattr(linear_probe, "test_accuracy", lambda heads, *rest: heads)
    dset = METHODS.create(method).distill(None, data, 4, run=run)
    weight, bias = dataclasses.replace(PROBE, shared_views=shared, seeds=3).evaluate(backbone, data, dset, run=run)
    for seed in range(3):
        expected = alone(seed, None if shared else seed, backbone, data, dset, run)
        torch.testing.assert_close((weight[seed], bias[seed]), expected, rtol=1e-4, atol=1e-6)


def test_strictly_independent_seeds_do_not_depend_on_how_many_there_are(backbone, data, run):
    dset = METHODS.create("random").distill(None, data, 4, run=run)
    strict = dataclasses.replace(PROBE, shared_views=False)
    many, one = (dataclasses.replace(strict, seeds=seeds).evaluate(backbone, data, dset, run=run) for seeds in (3, 1))
    assert many.top1_per_seed[0] == one.top1_per_seed[0]


@pytest.mark.parametrize(("augment", "flips"), [("auto", False), ("flip+crop", True)])
def test_views_are_mirrored_only_where_the_data_bears_it_or_it_is_asked_for(augment, flips, data):
    probe = LinearProbe(augment=augment)
    assert probe.view_on(data) == View.parse("flip+crop")
    assert probe.view_on(dataclasses.replace(data, mirror=False)) == View.parse("flip+crop" if flips else "crop")
    assert probe.mirrors is flips


@pytest.mark.parametrize("augment", ["flip+crop", "noise"])
@pytest.mark.parametrize("method", ["random", "full"])
def test_pools_of_different_seeds_are_different_views(method, augment, backbone, data, run):
    dset = METHODS.create(method).distill(None, data, 4, run=run)
    pools = [
        set_features(backbone, data, dset, run, view=View.parse(augment), copies=2, probe_seed=seed) for seed in (None, 1, 2)
    ]
    assert not any(torch.equal(pools[a], pools[b]) for a, b in [(0, 1), (0, 2), (1, 2)])


def test_where_pools_are_kept_is_decided_once_for_all_of_them(backbone, data, run, monkeypatch):
    asked = []
    monkeypatch.setattr(linear_probe, "resident", lambda pools, device: asked.append(len(pools)) or list(pools))
    dset = METHODS.create("random").distill(None, data, 4, run=run)
    dataclasses.replace(PROBE, shared_views=False, seeds=3).evaluate(backbone, data, dset, run=run)
    assert asked == [3]


def test_sharing_saves_the_backbone_passes_of_all_seeds_but_one():
    sizes = Sizes(100, 20, 10)
    shared, strict = (
        count_protocol(dataclasses.replace(PROBE, shared_views=shared), sizes, made_up_set(sizes, 3)).counts.forward
        for shared in (True, False)
    )
    assert strict == PROBE.seeds * shared
