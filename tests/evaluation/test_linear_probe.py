"""The everyday linear probe: one pool of views for all probe seeds, or strictly one for each."""

import dataclasses
from pathlib import Path

import pytest
import torch

from ddbench.benchmark.records.bundle import read_bundle
from ddbench.benchmark.suite.cell import Cell, hashed
from ddbench.benchmark.suite.plan import evaluation_of
from ddbench.core.method import METHODS, PROTOCOLS
from ddbench.core.views import View
from ddbench.evaluation import linear_probe
from ddbench.evaluation._features import class_targets, set_features
from ddbench.evaluation._heads import ProbeRecipe, new_heads, train_heads
from ddbench.evaluation.linear_probe import LinearProbe, feature_scale

PROBE = LinearProbe(epochs=20, full_epochs=4, batch=5, lr=0.03, view_budget=20, augment="flip+crop+noise")
REFERENCE = Path(__file__).parents[2] / "results" / "reference" / "ipc1" / "digits.json.gz"


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
    shared, strict = (dataclasses.replace(PROBE, shared_views=shared).work(30, whole=False) for shared in (True, False))
    assert strict.forward == PROBE.seeds * shared.forward


def test_records_from_before_the_parameter_still_count():
    """Their identity is that of the shared pool, which is what they were made with; the strict protocol has another."""
    records = read_bundle(REFERENCE)
    record = next(r for r in records if r["protocol_spec"] == "linear-probe" and r["method"] == "clpdd")
    assert "shared_views" not in record["protocol_params"]

    def config_hash(spec):
        given = {name: record[name] for name in Cell.__dataclass_fields__ if name in record}
        judged = evaluation_of(PROTOCOLS.create(spec))
        judged = dataclasses.replace(judged, eval_backbone_spec=record["eval_backbone_spec"])
        cell = Cell(**{**given, "dataset_name": "", "dataset_params": {}, "evaluations": (judged,)})
        return hashed(cell).evaluations[0].config_hash

    assert config_hash("linear-probe") == record["config_hash"]
    assert config_hash("linear-probe[shared_views=false]") != record["config_hash"]
    assert evaluation_of(PROTOCOLS.create("linear-probe")).protocol_params["shared_views"] is True
