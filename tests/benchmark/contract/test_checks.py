"""Every registered method keeps the contract, and every check catches the method that breaks it."""

import dataclasses
import random
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest
import torch

from ddbench.benchmark.contract.checks import check, failures
from ddbench.core.errors import UserError
from ddbench.core.method import METHODS, Method
from ddbench.core.sets import DistilledSet, class_labels


@pytest.mark.parametrize("name", METHODS.names())
def test_every_registered_method_keeps_the_contract(name):
    assert failures(name) == []


@dataclass(frozen=True)
class Fine(Method):
    """Random noise; the smallest method that keeps the contract."""

    level: float = 1.0

    def distill(self, backbone, data, ipc, *, run):
        images = torch.rand(data.num_classes * ipc, 3, 16, 16, generator=run.generator("noise")) * self.level
        run.progress(1, 1, None)
        return DistilledSet(images, class_labels(data.num_classes, ipc), data.class_names)


def broken(**members) -> type[Method]:
    """`Fine` with one habit that the contract forbids."""
    return dataclass(frozen=True)(type("Bad", (Fine,), {"__doc__": "A method with a fault.", **members}))


def after(act):
    """A `distill` that does `act(backbone, run)` and then what `Fine` does."""

    def distill(self, backbone, data, ipc, *, run):
        act(backbone, run)
        return Fine.distill(self, backbone, data, ipc, run=run)

    return distill


def shifted(self, backbone, data, ipc, *, run):
    dset = Fine.distill(self, backbone, data, ipc, run=run)
    return dataclasses.replace(dset, labels=torch.zeros_like(dset.labels))


def global_noise(self, backbone, data, ipc, *, run):
    dset = Fine.distill(self, backbone, data, ipc, run=run)
    return dataclasses.replace(dset, images=torch.rand(dset.images.shape))


def too_few(self, backbone, data, ipc, *, run):
    return Fine.distill(self, backbone, data, 1, run=run)


def no_report(self, backbone, data, ipc, *, run):
    return Fine.distill(self, backbone, data, ipc, run=dataclasses.replace(run, progress=lambda *_: None))


def _write(backbone, run):
    Path("left.txt").write_text("x")


FAULTS = {
    "prints nothing": after(lambda backbone, run: print("hello")),
    "writes no files": after(_write),
    "leaves the backbone": after(lambda backbone, run: next(backbone.parameters()).data.add_(1)),
    "global random state": after(lambda backbone, run: random.random()),
    "balanced labels": shifted,
    "same bits": global_noise,
    "IPC 2": too_few,
    "reports progress": no_report,
}


@pytest.fixture
def registered(monkeypatch):
    """Register a class as method `bad` for one test."""
    for name in METHODS.names():
        METHODS.get(name)  # the copy that comes back holds the built-in methods, since modules are imported once

    def add(cls: type[Method]) -> str:
        monkeypatch.setattr(METHODS, "_classes", dict(METHODS._classes))
        METHODS.register("bad")(cls)
        return "bad"

    return add


def test_a_small_sound_method_passes(registered):
    assert failures(registered(Fine)) == []


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_is_found(registered, fault):
    found = failures(registered(broken(distill=FAULTS[fault])))
    assert any(fault in line for line in found), found


def test_a_missing_docstring_and_a_thawed_dataclass_are_found(registered):
    thawed = dataclass(type("Bad", (Method,), {"distill": Fine.distill, "level": 1.0}))
    found = failures(registered(thawed))
    assert any("frozen" in line for line in found)
    assert any("docstring" in line for line in found)


def test_a_method_that_ignores_its_seed_must_say_so(registered):
    def constant(self, backbone, data, ipc, *, run):
        return Fine.distill(self, backbone, data, ipc, run=dataclasses.replace(run, seed=0))

    assert any("other" in line or "another set" in line for line in failures(registered(broken(distill=constant))))
    declared = {"deterministic": True, "__annotations__": {"deterministic": ClassVar[bool]}}
    assert failures(registered(broken(distill=constant, **declared))) == []


def test_a_crash_is_a_failed_check(registered):
    found = failures(registered(broken(distill=after(lambda backbone, run: 1 / 0))))
    assert any("ZeroDivisionError" in line for line in found)


def test_an_unknown_method_is_bad_input():
    with pytest.raises(UserError, match="did you mean 'clpdd'"):
        list(check("clpd"))
