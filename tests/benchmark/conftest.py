"""The fake plugins of the harness tests, registered for one test and gone after it; cells made of them."""

import sys
from pathlib import Path

import pytest

from ddbench.benchmark.suite.cell import Cell, PlannedEvaluation, hashed
from ddbench.core.backbone import BACKBONES
from ddbench.core.data import DATASETS
from ddbench.core.method import METHODS, PROTOCOLS
from ddbench.core.registry import plugin_module

PLUGINS = Path(__file__).with_name("plugins_for_tests.py")


@pytest.fixture
def fake_plugins():
    """Path of the plugin file; its plugins are registered while the test runs."""
    registries = (METHODS, BACKBONES, DATASETS, PROTOCOLS)
    for registry in registries:
        for name in registry.names():
            registry.get(name)  # built-in plugins are registered before the snapshot, since modules are imported once
    before = [dict(registry._classes) for registry in registries]
    METHODS.load_file(PLUGINS)
    yield PLUGINS
    del sys.modules[plugin_module(PLUGINS)]
    for registry, classes in zip(registries, before, strict=True):
        registry._classes.clear()
        registry._classes.update(classes)


def spec(name: str = "net", sha256: str = "aa") -> dict:
    """The card of a backbone that does not exist."""
    return {
        "name": name, "source": "random", "architecture": "conv", "revision": "0", "sha256": sha256, "input_size": 8, "dim": 6,
        "pooling": "avg", "mean": [0.5] * 3, "std": [0.25] * 3, "crop_pct": 1.0,
    }  # fmt: skip


def make_evaluation(
    name: str = "net", protocol: str = "probe", params: dict | None = None, code: str = "e7a1"
) -> PlannedEvaluation:
    return PlannedEvaluation(protocol, protocol, params or {}, 1, code, name, spec(name, f"sha of {name}"))


def make_cell(evaluations=("one", "two"), **changes) -> Cell:
    """A hashed cell with one evaluation per backbone name."""
    facts = {
        "method": "m", "method_spec": "m", "method_code": "c0de", "params": {},
        "distill_backbone": "net", "distill_backbone_spec": spec(),
        "dataset": "data", "dataset_name": "data", "dataset_params": {}, "dataset_fingerprint": "ff", "num_classes": 3,
        "ipc": 1, "distill_seed": 0, "device": "cpu",
    }  # fmt: skip
    evaluations = tuple(e if isinstance(e, PlannedEvaluation) else make_evaluation(e) for e in evaluations)
    return hashed(Cell(**{**facts, **changes}, evaluations=evaluations))


@pytest.fixture
def cell_of():
    return make_cell


@pytest.fixture
def evaluation_of():
    return make_evaluation


@pytest.fixture
def card_of():
    return spec
