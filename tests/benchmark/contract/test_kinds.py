"""Registered backbones, datasets and protocols keep their contracts, faults are found, what `ddbench new` writes passes."""

import dataclasses
import itertools
from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch

import ddbench.plugins as plugins
from ddbench.benchmark.cli import main
from ddbench.benchmark.contract.checks import failures
from ddbench.benchmark.contract.skeleton import KINDS, skeleton
from ddbench.core.backbone import BACKBONES
from ddbench.core.data import DATASETS
from ddbench.core.errors import UserError
from ddbench.core.method import METHODS, PROTOCOLS

from ...packaging.conftest import ROOT

# parameters that make a check take seconds, or that a plugin cannot do without
SMALL = {
    "timm": "timm[model=resnet10t,pretrained=false,input_size=32]",
    "torchvision": "torchvision[model=resnet18,pretrained=false,input_size=32]",
    "linear-probe": "linear-probe[epochs=2,full_epochs=2]",
    "lgm-probe": "lgm-probe[epochs=2,full_epochs=2,seeds=2]",
    "ssl-pretrain": "ssl-pretrain[steps=2,seeds=1,labels=50,size=16]",
    "inherit-probe": "inherit-probe[epochs=2,seeds=2]",
    "alignment": "alignment[of=mini_vit_mae,k=2]",
    "holdout": "holdout[data=digits]",
}


@pytest.mark.parametrize("name", [n for n in BACKBONES.names() if n.startswith("mini_") or n in SMALL])
def test_every_backbone_that_needs_no_download_keeps_the_contract(name):
    assert failures(SMALL.get(name, name)) == []


@pytest.mark.parametrize("name", DATASETS.names())
def test_every_dataset_that_is_here_keeps_the_contract(name, tmp_path):
    """Those that come with the package; tests/datasets has the published layouts of the others."""
    needs = DATASETS.declared(name).parameters()
    if any(parameter.default is dataclasses.MISSING for parameter in needs) and name not in SMALL:
        return
    spec = SMALL.get(name, name)
    if any(parameter.name == "root" for parameter in needs):
        with pytest.raises(UserError):
            DATASETS.create(f"{name}[root={tmp_path}]").load()
        return
    assert failures(spec) == []


@pytest.mark.parametrize("name", PROTOCOLS.names())
def test_every_protocol_keeps_the_contract(name):
    assert failures(SMALL.get(name, name)) == []


@pytest.fixture
def own(monkeypatch):
    """Whatever a test registers is forgotten after it."""
    for registry in (METHODS, BACKBONES, DATASETS, PROTOCOLS):
        monkeypatch.setattr(registry, "_classes", dict(registry._classes))


@pytest.mark.parametrize("kind", KINDS)
def test_a_new_plugin_is_listed(kind, own, tmp_path, capsys):
    """tests/packaging/test_first_hour.py checks and runs them."""
    assert main(["new", kind, f"fresh-{kind}", "--out", str(tmp_path)]) == 0
    file = tmp_path / f"fresh_{kind}.py"
    assert main(["list", f"{kind}s", f"fresh-{kind}", "--plugin", str(file)]) == 0
    assert f"fresh-{kind}\n    " in capsys.readouterr().out
    assert main(["new", kind, f"other-{kind}", "--out", str(file)]) == 2
    assert main(["new", kind, "1 2", "--out", str(tmp_path)]) == 2


def test_docs_show_what_new_writes():
    text = (ROOT / "docs" / "plugins.md").read_text()
    for kind in KINDS:
        assert skeleton(kind, f"my-{kind}") in text, f"docs/plugins.md does not show the {kind} of `ddbench new`"


def test_a_method_whose_momentum_stands_outside_the_checkpoint_is_found(own):
    @plugins.register_method("forgetful")
    @dataclass(frozen=True)
    class Forgetful(plugins.Method):
        """Momentum of its own, which no checkpoint holds."""

        steps: plugins.Count = 3
        kept: ClassVar[bool] = False

        def distill(self, backbone, data, ipc, *, run):
            generator = run.generator("images")
            images = torch.rand(data.num_classes * ipc, 3, 16, 16, generator=generator)
            momentum, done = torch.zeros_like(images), 0
            if (saved := run.checkpoint.load(run.streams.names())) is not None:
                done, state = saved
                images = state["images"]
                momentum = state.get("momentum", momentum)
                run.streams.restore(state)
            for step in range(done, self.steps):
                momentum = 0.9 * momentum + torch.rand(images.shape, generator=generator) - 0.5
                images = (images + 0.1 * momentum).clamp(0, 1)
                run.progress(step + 1, self.steps, None)
                if run.checkpoint.due():
                    state = {"images": images, **({"momentum": momentum} if self.kept else {}), **run.streams.state()}
                    run.checkpoint.save(step + 1, state)
            return plugins.DistilledSet(images, plugins.class_labels(data.num_classes, ipc), data.class_names)

    (found,) = failures("forgetful")
    assert found.startswith("goes on after an interruption to the same bits")
    Forgetful.kept = True
    assert failures("forgetful") == []


COUNTER = itertools.count()


def faulty(kind: str, name: str, **members):
    """The skeleton of a kind with a habit that the contract forbids."""
    space = {"__name__": f"faulty_{kind}"}
    exec(skeleton(kind, f"sound-{name}"), space)
    base = space["Sound" + name.title()]
    register = getattr(plugins, f"register_{kind}")
    return register(name)(dataclass(frozen=True)(type("Faulty", (base,), {"__doc__": "Has a fault.", **members})))


def thawed(self):
    backbone = BACKBONES.get("sound-thawed").load(self)
    return backbone.requires_grad_(True)


def renamed(self):
    backbone = BACKBONES.get("sound-renamed").load(self)
    backbone.spec = dataclasses.replace(backbone.spec, name="other")
    return backbone


class OfTheBatch(torch.nn.Module):
    """Features less their mean over the batch."""

    def forward(self, z):
        return z - z.mean(0)


def with_batch(self):
    backbone = BACKBONES.get("sound-batch").load(self)
    backbone.network = torch.nn.Sequential(backbone.network, OfTheBatch())
    return backbone


def float_images(self):
    data = DATASETS.get("sound-float").load(self)
    split = dataclasses.replace(data.train, images=plugins.ArrayImages(data.train.images.array.astype("float32")))
    return dataclasses.replace(data, train=split)


def unseeded(self):
    return dataclasses.replace(DATASETS.get("sound-unseeded").load(self), fingerprint=str(next(COUNTER)))


def missing_class(self):
    return dataclasses.replace(DATASETS.get("sound-missing").load(self), class_names=("disc", "square", "star"))


def drawn(self, backbone, data, dset, *, run):
    return plugins.Evaluation((float(next(COUNTER)),))


def fraction(self, backbone, data, dset, *, run):
    return plugins.Evaluation((float("nan"),))


def spoils(self, backbone, data, dset, *, run):
    dset.images.zero_()
    return plugins.Evaluation((50.0,))


@pytest.mark.parametrize(
    ("kind", "name", "does", "wrongly", "words"),
    [
        ("backbone", "thawed", "load", thawed, "require gradients"),
        ("backbone", "renamed", "load", renamed, "spec.name"),
        ("backbone", "batch", "load", with_batch, "other images"),
        ("dataset", "float", "load", float_images, "uint8"),
        ("dataset", "unseeded", "load", unseeded, "fingerprints"),
        ("dataset", "missing", "load", missing_class, "'star' has no"),
        ("protocol", "drawn", "evaluate", drawn, "run.generator"),
        ("protocol", "fraction", "evaluate", fraction, "percentages"),
        ("protocol", "spoils", "evaluate", spoils, "changed in place"),
    ],
)
def test_faults_of_other_kinds_are_found(own, kind, name, does, wrongly, words):
    faulty(kind, name, **{does: wrongly})
    found = failures(name)
    assert any(words in line for line in found), found
