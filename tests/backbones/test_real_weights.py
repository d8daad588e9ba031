"""Real ImageNet weights load through documented options and rank the right class high."""

import io
import tarfile

import numpy as np
import pytest
import torch
from PIL import Image

from ddbench.backbones._weights import file_sha256, read_state
from ddbench.core.backbone import BACKBONES, Backbone
from ddbench.core.data import stage

SPECS = {
    "mobilenetv2": (
        "timm[model=mobilenetv2_100,weights={},args=pad_type:same,mean=0.5,std=0.5]",
        "mobilenetv2_100_imagenet1k.safetensors",
    ),
    "squeezenet": (  # made for x * 255 - (123, 117, 104)
        "torchvision[model=squeezenet1_0,weights={},mean=0.482353:0.458824:0.407843,std=0.00392157]",
        "squeezenet1_0_imagenet1k.safetensors",
    ),
}
DIM = {"mobilenetv2": 1280, "squeezenet": 512}
DAISY = 985  # its ImageNet class


@pytest.fixture
def weights(shared, name):
    return shared / "data" / "weights" / SPECS[name][1]


@pytest.fixture
def backbone(weights, name) -> Backbone:
    return BACKBONES.create(SPECS[name][0].format(weights)).load()


@pytest.fixture(scope="module")
def daisies(shared) -> torch.Tensor:
    """The first 40 train images of daisies, `(40, 3, 128, 128)` in [0, 1]."""
    images = []
    with tarfile.open(shared / "data" / "flowers5.tar") as archive:
        for member in sorted((m for m in archive if "/train/daisy/" in m.name and m.isfile()), key=lambda m: m.name)[:40]:
            data = archive.extractfile(member)
            assert data is not None
            pixels = np.asarray(Image.open(io.BytesIO(data.read())).convert("RGB"))
            images.append(stage(torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None], 128))
    return torch.cat(images)


@pytest.mark.shared
@pytest.mark.parametrize("name", SPECS)
def test_every_tensor_of_the_file_but_the_classifiers_is_in_the_network(unfolded, backbone, weights, name):
    own = backbone.network.state_dict()
    read = {key: tensor for key, tensor in read_state(weights).items() if not key.startswith("classifier.")}
    assert all(torch.equal(own[key], tensor) for key, tensor in read.items())
    assert backbone.spec.dim == DIM[name]
    assert backbone.spec.sha256 == file_sha256(weights)


@pytest.mark.shared
@pytest.mark.parametrize(("name", "most"), [("mobilenetv2", 40), ("squeezenet", 160)])
def test_the_files_own_classifier_ranks_daisy_high_on_our_features(weights, name, most, daisies):
    """Median rank of the right one among 1000 classes; 500 is chance.

    Measured on these blurry 128 px photographs: 16 and 83. The usual ImageNet normalisation puts SqueezeNet at 386.
    """
    backbone = BACKBONES.create(SPECS[name][0].format(weights)[:-1] + ",input_size=128]").load()
    state = read_state(weights)
    with torch.no_grad():
        if name == "mobilenetv2":
            scores = backbone(daisies) @ state["classifier.weight"].T + state["classifier.bias"]
        else:  # its classifier is a convolution and a ReLU before the average
            spatial = backbone.network.features((daisies - backbone.mean) / backbone.std)
            scores = torch.conv2d(spatial, state["classifier.1.weight"], state["classifier.1.bias"]).relu().mean((2, 3))
            assert torch.allclose(spatial.mean((2, 3)), backbone(daisies), rtol=1e-4, atol=1e-4)
    assert (scores > scores[:, [DAISY]]).sum(1).median() <= most


@pytest.mark.shared
@pytest.mark.parametrize("name", SPECS)
@pytest.mark.parametrize("size", [96, 128])
def test_convolutional_backbones_take_smaller_images(weights, name, size):
    backbone = BACKBONES.create(SPECS[name][0].format(weights)[:-1] + f",input_size={size}]").load()
    assert backbone.spec.stage_size == size
    assert backbone(torch.rand(1, 3, size, size)).shape == (1, DIM[name])
