"""Real ImageNet weights load through documented options and separate real flowers; small size to stay fast."""

import io
import tarfile

import numpy as np
import pytest
import torch
from PIL import Image

from ddbench.backbones._weights import file_sha256, read_state
from ddbench.core.backbone import BACKBONES, Backbone
from ddbench.core.data import stage
from ddbench.core.ridge import add_bias, one_hot, solve_ridge

SPECS = {
    "mobilenetv2": ("timm[model=mobilenetv2_100,weights={},args=pad_type:same,mean=0.5,std=0.5,input_size=96]",
                    "mobilenetv2_100_imagenet1k.safetensors", 1280),
    "squeezenet": ("torchvision[model=squeezenet1_0,weights={},mean=0.48235:0.45882:0.48235,std=0.0039216,input_size=96]",
                   "squeezenet1_0_imagenet1k.safetensors", 512),
}  # fmt: skip


def load(shared, name: str) -> tuple[Backbone, object]:
    spec, file, _ = SPECS[name]
    path = shared / "data" / "weights" / file
    return BACKBONES.create(spec.format(path)).load(), path


@pytest.mark.shared
@pytest.mark.parametrize("name", SPECS)
def test_every_tensor_of_the_file_but_the_classifier_is_in_the_network(shared, name):
    backbone, path = load(shared, name)
    own = backbone.network.state_dict()
    read = {key: tensor for key, tensor in read_state(path).items() if not key.startswith("classifier.")}
    assert all(torch.equal(own[key], tensor) for key, tensor in read.items())
    assert backbone.spec.dim == SPECS[name][2]
    assert backbone.spec.sha256 == file_sha256(path)


@pytest.fixture(scope="module")
def flowers(shared):
    """The first 16 train and 12 test images of five kinds of flowers: images `(n, 3, 96, 96)` and labels per split."""
    splits: dict[str, tuple[list, list]] = {"train": ([], []), "test": ([], [])}
    with tarfile.open(shared / "data" / "flowers5.tar") as archive:
        files = sorted(member.name for member in archive if member.isfile())
        kinds = sorted({file.split("/")[2] for file in files})
        for split, count in (("train", 16), ("test", 12)):
            for label, kind in enumerate(kinds):
                for file in [name for name in files if name.startswith(f"flowers5/{split}/{kind}/")][:count]:
                    data = archive.extractfile(file)
                    assert data is not None
                    pixels = np.asarray(Image.open(io.BytesIO(data.read())).convert("RGB"))
                    splits[split][0].append(stage(torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None], 96))
                    splits[split][1].append(label)
    return {split: (torch.cat(images), torch.tensor(labels)) for split, (images, labels) in splits.items()}


def probe(backbone: Backbone, flowers) -> float:
    with torch.no_grad():
        (train, labels), (test, truth) = ((add_bias(backbone(images)), labels) for images, labels in flowers.values())
    weights = solve_ridge(train, one_hot(labels, 5), lam=1e-2)
    return ((test @ weights).argmax(1) == truth).float().mean().item()


@pytest.mark.shared
@pytest.mark.parametrize(("name", "least"), [("mobilenetv2", 0.7), ("squeezenet", 0.6)])
def test_a_ridge_probe_on_few_real_flowers_is_far_above_chance(shared, flowers, name, least):
    """Measured LATER; chance is 0.2, and 60 test images give a standard error of 0.05. Wrong scaling of the
    input costs more than that."""
    assert probe(load(shared, name)[0], flowers) > least
