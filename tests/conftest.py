"""Fixtures that all tests share: a tiny backbone, tiny data, the shared data folder, a private cache."""

import os
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from jaxtyping import install_import_hook
from torch import nn

# before anything of ddbench is imported: what these modules state about shapes is checked in every test
SHAPED = ("core.engine", "core.ridge", "core.unroll", "core.views", "evaluation._heads", "methods._statistics",
          "methods.clpdd", "methods.krrst", "methods.lgm", "methods.sfm")  # fmt: skip
install_import_hook([f"ddbench.{name}" for name in SHAPED], "shape_checks.check")

from ddbench.core.backbone import Backbone, BackboneSpec
from ddbench.core.bank import FeatureBank
from ddbench.core.data import ArrayImages, ImageData, Split, array_fingerprint
from ddbench.core.run import Run
from ddbench.core.store import ArrayStore

torch.set_num_threads(1)  # tiny tensors: a second thread only costs, and much so where cores are busy


@pytest.fixture(scope="session", autouse=True)
def signals_as_on_a_terminal():
    """A shell starts background jobs, and `nohup` its command, with signals ignored, which runs respect; tests send them."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.fixture(autouse=True)
def private_cache(tmp_path_factory, monkeypatch):
    """No test reads or fills the user's cache."""
    monkeypatch.setenv("DDBENCH_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of shared real data; tests that need it are skipped where it is absent."""
    root = Path(os.environ.get("DDBENCH_SHARED", Path(__file__).parents[2] / "shared"))
    if not (root / "data").is_dir():
        pytest.skip(f"shared data is not there: {root} (set DDBENCH_SHARED)")
    return root


def tiny_backbone(dim: int = 12, size: int = 16, crop_pct: float = 1.0, dtype: torch.dtype = torch.float32) -> Backbone:
    """A random two-layer conv net, smooth, so that finite differences and float64 comparisons are meaningful."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = nn.Sequential(
            nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.GELU(), nn.Conv2d(8, dim, 3, stride=2), nn.GELU(),
            nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        )  # fmt: skip
    spec = BackboneSpec(
        f"tiny{dim}", "random", "conv2", "0", f"tiny{dim}", size, dim, "avg", (0.5, 0.4, 0.3), (0.2, 0.3, 0.25), crop_pct
    )
    return Backbone(network, spec).to(dtype)


def tiny_data(classes: int = 3, per_class: int = 12, size: int = 16, seed: int = 0) -> ImageData:
    """Blobs of a class-specific colour on noise; class 0 has twice as many images as the others."""
    rng = np.random.default_rng(seed)

    def split(per_class: int) -> Split:
        labels = np.concatenate([[0] * per_class, np.repeat(np.arange(classes), per_class)])
        colour = rng.integers(60, 196, (classes, 3, 1, 1)) if not colours else colours[0]
        colours.append(colour)
        images = (colour[labels] + rng.normal(0, 25, (len(labels), 3, size, size))).clip(0, 255).astype(np.uint8)
        return Split(ArrayImages(images), torch.from_numpy(labels))

    colours: list = []
    train, test = split(per_class), split(per_class // 2)
    return ImageData("tiny", train, test, tuple("abcdefghij"[:classes]), array_fingerprint(train, test))


@pytest.fixture
def backbone() -> Backbone:
    return tiny_backbone()


@pytest.fixture
def data() -> ImageData:
    return tiny_data()


@pytest.fixture
def run(tmp_path) -> Run:
    return Run(bank=FeatureBank(ArrayStore(tmp_path / "features")))


@pytest.fixture
def make_backbone():
    return tiny_backbone


@pytest.fixture
def make_data():
    return tiny_data
