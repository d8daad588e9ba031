"""A method in a package of its own is found by its entry point, listed, and keeps the contract: no edit here."""

import json

import pytest

from .conftest import pip

PYPROJECT = """
[build-system]
requires = ["setuptools"]
build-backend = "setuptools.build_meta"
[project]
name = "blur-dd"
version = "1.0"
[project.entry-points."ddbench.methods"]
blur = "blur_dd:Blur"
[tool.setuptools]
py-modules = ["blur_dd"]
"""

MODULE = '''
"""One blurred mean image per class."""
from dataclasses import dataclass
import torch
from ddbench.methods import DistilledSet, Method, class_labels

@dataclass(frozen=True)
class Blur(Method):
    """Class means with noise, as an example of a plugin."""
    noise: float = 0.1
    def distill(self, backbone, data, ipc, *, run):
        means = torch.stack([self.mean(data, c) for c in range(data.num_classes)])
        images = means.repeat_interleave(ipc, dim=0)
        images = images + self.noise * torch.rand(images.shape, generator=run.generator("noise"))
        run.progress(1, 1, None)
        return DistilledSet(images.clamp(0, 1), class_labels(data.num_classes, ipc), data.class_names)
    def mean(self, data, c):
        members = (data.train.labels == c).nonzero().flatten()
        return data.train.images[members].float().mean(0) / 255
'''


@pytest.fixture(scope="module")
def plugin(tmp_path_factory):
    """The installed plugin's folder."""
    pytest.importorskip("setuptools", minversion="77")
    source, target = tmp_path_factory.mktemp("blur"), tmp_path_factory.mktemp("blur_site")
    (source / "pyproject.toml").write_text(PYPROJECT)
    (source / "blur_dd.py").write_text(MODULE)
    pip("install", "--no-deps", "--no-build-isolation", "--target", str(target), ".", cwd=source)
    return target


def test_it_is_listed_and_keeps_the_contract(plugin, elsewhere):
    program = (
        "from ddbench.benchmark.cli import main\nmain(['list', 'methods', '--json'])\nassert main(['check', 'blur']) == 0\n"
        "from ddbench.core.registries import METHODS\nprint(METHODS.distribution('blur'), METHODS.distribution('clpdd'))\n"
    )
    printed = elsewhere("-c", program, path=[plugin])
    listed, end = json.JSONDecoder().raw_decode(printed)
    blur = next(method for method in listed if method["name"] == "blur")
    assert blur["summary"] == "Class means with noise, as an example of a plugin."
    assert blur["parameters"] == [{"name": "noise", "type": "float", "default": 0.1, "help": ""}]
    assert blur["package"] == "blur-dd 1.0"
    assert "('blur-dd', '1.0') None" in printed
    assert "blur: keeps the contract" in printed[end:]
