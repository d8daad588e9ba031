"""Features are computed once, are right, and are told apart by everything that determines them."""

import contextlib
import dataclasses
import json

import numpy as np
import pytest
import torch

from ddbench.core.backbone import Backbone
from ddbench.core.bank import feature_facts
from ddbench.core.data import to_float
from ddbench.core.run import Run
from ddbench.core.views import View


def test_centre_features_are_the_backbone_of_the_images(run, backbone, data):
    found = run.bank.features(backbone, data, "test")
    assert found.shape == (1, len(data.test), backbone.spec.dim)
    torch.testing.assert_close(found[0], backbone(to_float(data.test.images[torch.arange(len(data.test))])))


def test_chunk_size_changes_nothing_but_rounding(run, backbone, data, tmp_path):
    view = View.parse("flip+crop+noise")
    whole = run.bank.features(backbone, data, "train", view=view, copies=2).clone()
    small = type(run.bank)(type(run.bank.store)(tmp_path / "other"), chunk=5)
    torch.testing.assert_close(small.features(backbone, data, "train", view=view, copies=2), whole)
    assert not torch.allclose(whole[0], whole[1])


def test_a_second_request_computes_nothing(run, data, backbone):
    first = run.bank.features(backbone, data, "train").clone()
    again = type(run.bank)(run.bank.store)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Backbone, "forward", lambda *a: pytest.fail("computed again"))
        assert torch.equal(again.features(backbone, data, "train"), first)
    assert run.bank.misses == run.bank.keys == again.keys
    assert again.misses == []


def test_every_fact_that_moves_features_moves_the_address(run, backbone, data, make_data, make_backbone):
    def key(*request):
        return json.dumps(feature_facts(*request), sort_keys=True)

    crop = View.parse("crop")
    base = (backbone, data, "train", crop, 2, 0)
    spec = backbone.spec
    changed_specs = [
        dataclasses.replace(spec, **change)
        for change in ({"sha256": "x"}, {"mean": (0, 0, 0)}, {"std": (1, 1, 1)}, {"crop_pct": 0.5}, {"pooling": "token"})
    ]
    others = [
        *((Backbone(backbone.network, changed), *base[1:]) for changed in changed_specs),
        (backbone, make_data(seed=1), *base[2:]),
        (backbone, data, "test", crop, 2, 0),
        (backbone, data, "train", View.parse("flip"), 2, 0),
        (backbone, data, "train", crop, 3, 0),
        (backbone, data, "train", crop, 2, 1),
    ]
    keys = {key(*base), *(key(*other) for other in others)}
    assert len(keys) == 1 + len(others)
    assert key(*base) == key(make_backbone(), make_data(), *base[2:])


def test_an_entry_is_filled_once_and_addressed_by_its_facts(run):
    calls = []

    def fill(out):
        calls.append(out.shape)
        out[:] = 7

    for facts in ({"a": 1, "b": 2}, {"b": 2, "a": 1}, {"a": 1, "b": 3}):
        assert torch.equal(run.bank.entry(facts, (2, 3), fill), torch.full((2, 3), 7.0))
    assert calls == [(2, 3), (2, 3)]
    assert len(run.bank.keys) == len(run.bank.misses) == 2


def test_phases_are_reported_only_when_something_is_computed(run, backbone, data):
    from contextlib import contextmanager

    seen = []

    @contextmanager
    def phase(name):
        seen.append(name)
        yield type("Span", (), {"seconds": 1.5})()

    bank = dataclasses.replace(run.bank, phase=phase, keys=[], misses=[])
    for _ in range(2):
        Run(bank=bank).bank.features(backbone, data, "train")
    assert seen == ["wait", "features"]  # for another process that may be at it
    assert bank.cold_seconds() == 1.5


def test_cold_seconds_are_known_whoever_computed_first(run, backbone, data):
    """Python, `align` and a cell that only judges time no phases; later runs read what it took all the same."""
    run.bank.features(backbone, data, "train")
    later = dataclasses.replace(run.bank, keys=[], misses=[])
    later.features(backbone, data, "train")
    assert later.misses == []
    assert 0 < later.cold_seconds() < 60


def test_an_entry_that_is_damaged_or_of_another_shape_is_computed_again(run, backbone, data):
    first = run.bank.features(backbone, data, "train").clone()
    (file,) = run.bank.store.root.rglob("*.npy")
    for damage in (lambda b: b[:200] + bytes(400) + b[600:], lambda b: b[:100]):
        file.write_bytes(damage(file.read_bytes()))
        again = dataclasses.replace(run.bank, keys=[], misses=[])
        assert torch.equal(again.features(backbone, data, "train"), first)
        assert again.misses
    with run.bank.store.create(again.keys[0], (1, 2, 3), np.dtype(np.float32)):
        pass
    assert torch.equal(run.bank.features(backbone, data, "train"), first)


def test_the_peak_of_computing_is_kept_beside_the_features(run, backbone, data):
    """The largest of all entries, whoever computed them."""
    spans = iter([Measured(5, None), Measured(3, 8)])
    bank = dataclasses.replace(run.bank, phase=lambda name: contextlib.nullcontext(next(spans) if name == "features" else None))
    assert bank.cold_peak_bytes() is None
    for split in ("train", "test"):
        bank.features(backbone, data, split)
    again = type(bank)(bank.store, keys=bank.keys)
    assert again.cold_peak_bytes() == {"cpu_rss": 5, "gpu_allocated": 8}
    again.features(backbone, data, "train", view=View.parse("flip"))
    assert again.cold_peak_bytes() is None  # computed without a measurement


class Measured:
    """A phase that has run."""

    seconds = 1.0

    def __init__(self, cpu_rss, gpu_allocated):
        self.peaks, self.found = self, {"cpu_rss": cpu_rss, "gpu_allocated": gpu_allocated}

    def to_json(self):
        return self.found
