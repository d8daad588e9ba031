"""The shipped mini zoo: loads as its cards say, is better than its initialisation, and refuses damaged files."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from ddbench.backbones import mini
from ddbench.backbones._weights import file_sha256
from ddbench.core.data import DATASETS, ArrayImages, ImageData, Split, array_fingerprint
from ddbench.core.errors import UserError
from ddbench.core.registries import BACKBONES, embedded
from pretrain.probe import probe_accuracy
from pretrain.recipe import RECIPES

ROOT = Path(__file__).parents[2]
FIRST, SECOND = embedded(1), embedded(2)
ZOO = embedded()
LIMIT = 4_000_000  # bytes per file; the package stays small


def card(name: str) -> dict:
    return json.loads((mini.FOLDER / f"{name}.json").read_text())


def test_the_first_zoo_has_two_families_and_four_objectives():
    classes = [BACKBONES.get(name) for name in FIRST]
    assert {cls.objective for cls in classes} == {"simclr", "barlow", "dino", "mae"}
    assert {cls.architecture.split("_")[1] for cls in classes} == {"resnet", "vit"}


def test_the_second_zoo_crosses_family_and_supervision():
    classes = [BACKBONES.get(name) for name in SECOND]
    kinds = {(cls.architecture, cls.supervision) for cls in classes}
    supervisions = ("self-supervised", "distilled from a supervised network")
    assert kinds == {(family, kind) for family in ("tiny_resnet", "tiny_vit") for kind in supervisions}


@pytest.mark.parametrize("name", SECOND)
def test_the_second_zoo_sees_by_its_cards(name):
    """Full-data ridge probe on CIFAR-10, 10,000 training images; raw pixels have about 40."""
    facts = card(name)
    (probe,) = [probe for probe in facts["ridge_probe"] if probe["train_images"] == 10_000]
    assert probe["accuracy"] >= (55 if facts["supervision"] == "self-supervised" else 62)
    assert ("teacher" in facts) == (facts["supervision"] != "self-supervised")


@pytest.mark.shared
@pytest.mark.parametrize("name", SECOND)
def test_the_cards_accuracy_on_cifar10_holds_on_a_part_of_the_test_images(name, shared, tmp_path):
    """2,500 train and 2,500 test images, one mosaic of each. A quarter of the train images costs up to 6 points, sampling 1;
    weights or pixels that are not the card's cost 20 and more."""
    root = shared / "data" / "cifar10"

    def part(split: str) -> Split:
        tile = np.asarray(Image.open(sorted((root / split).glob("*.webp"))[0])).reshape(50, 32, 50, 32, 3)
        images = tile.transpose(0, 2, 4, 1, 3).reshape(-1, 3, 32, 32)
        labels = np.load(root / f"{split}_labels.npz")["labels"][: len(images)].astype(np.int64)
        return Split(ArrayImages(images), torch.from_numpy(labels))

    train, test = part("train"), part("test")
    data = ImageData("part", train, test, tuple("0123456789"), array_fingerprint(train, test))
    (probe,) = [probe for probe in card(name)["ridge_probe"] if probe["train_images"] == 10_000]
    assert probe["accuracy"] - 6 <= probe_accuracy(BACKBONES.create(name).load().network, data) <= probe["accuracy"] + 2


@pytest.mark.parametrize("name", ZOO)
def test_weights_load_and_give_features_with_gradients_for_the_images(name):
    backbone = BACKBONES.create(name).load()
    images = torch.rand(3, 3, 32, 32, requires_grad=True)
    features = backbone(images)
    assert features.shape == (3, backbone.spec.dim)
    assert features.dtype == torch.float32
    assert torch.equal(features, backbone(images))
    assert torch.allclose(features[1:2], backbone(images[1:2]), atol=1e-4)  # no image depends on its batch
    features.square().sum().backward()
    assert images.grad is not None
    assert (images.grad.flatten(1).abs().sum(1) > 0).all()


@pytest.mark.parametrize("name", ZOO)
def test_the_spec_and_the_card_agree(name):
    source = BACKBONES.create(name)
    spec, facts = source.load().spec, card(name)
    file = mini.FOLDER / f"{name}.safetensors"
    assert spec.sha256 == facts["sha256"] == file_sha256(file)
    assert (spec.name, spec.source, spec.architecture) == (name, file.name, facts["architecture"])
    assert (source.objective, source.supervision) == (facts["objective"], facts["supervision"])
    assert RECIPES[name].epochs == facts["epochs"]
    assert f"NAME={name} " in facts["command"]
    assert file.stat().st_size <= LIMIT
    assert facts["data"]["labels_used"] is False


@pytest.mark.parametrize("name", ZOO)
def test_pretraining_gained_ten_points_on_cifar10_by_the_card(name):
    probe = next(probe for probe in card(name)["ridge_probe"] if probe["train_images"] == 10_000)
    assert probe["accuracy"] >= probe["accuracy_untrained"] + 10


@pytest.mark.parametrize("name", ZOO)
def test_the_cards_accuracy_on_digits_is_what_the_weights_give(name):
    """360 test images: one image is 0.28 points; other BLAS libraries may flip a few."""
    data = DATASETS.create("digits").load()
    said = next(probe for probe in card(name)["ridge_probe"] if probe["data"] == "digits")
    assert probe_accuracy(BACKBONES.create(name).load().network, data) == pytest.approx(said["accuracy"], abs=1.2)


@pytest.mark.parametrize("name", ZOO)
def test_the_untrained_twin_is_the_same_network_with_fixed_random_weights(name):
    twin = BACKBONES.create(f"{name}[pretrained=false]").load()
    assert twin.spec.source == "random"
    assert twin.spec.sha256 == BACKBONES.create(f"{name}[pretrained=false]").load().spec.sha256 != card(name)["sha256"]
    assert twin.spec.dim == BACKBONES.create(name).load().spec.dim


class TestDamage:
    """A zoo of one, in a folder that may be broken."""

    NAME = FIRST[0]

    @pytest.fixture
    def file(self, tmp_path, monkeypatch):
        for suffix in ("safetensors", "json"):
            shutil.copy(mini.FOLDER / f"{self.NAME}.{suffix}", tmp_path)
        monkeypatch.setattr(mini, "FOLDER", tmp_path)
        return tmp_path / f"{self.NAME}.safetensors"

    def message(self) -> str:
        with pytest.raises(UserError) as error:
            BACKBONES.create(self.NAME).load()
        assert "\n" not in str(error.value)
        return str(error.value)

    def test_weights_trained_elsewhere_are_named_by_their_file(self, file):
        spec = BACKBONES.create(f"{self.NAME}[weights={file}]").load().spec
        assert spec.source == file.name
        file.with_suffix(".json").unlink()
        with pytest.raises(UserError, match=f"{self.NAME}.json is missing"):
            BACKBONES.create(f"{self.NAME}[weights={file}]").load()

    def test_one_changed_byte(self, file):
        content = bytearray(file.read_bytes())
        content[-1] ^= 1
        file.write_bytes(bytes(content))
        assert f"{file} has sha256" in self.message()

    def test_a_truncated_file(self, file):
        file.write_bytes(file.read_bytes()[:1000])
        assert str(file) in self.message()

    def test_a_missing_file(self, file):
        file.unlink()
        assert f"{file} does not exist" in self.message()

    def test_a_missing_card(self, file):
        file.with_suffix(".json").unlink()
        assert str(file.with_suffix(".json")) in self.message()

    def test_other_weights_with_a_matching_card(self, file):
        save_file({"weight": torch.zeros(1)}, file)
        facts = json.loads(file.with_suffix(".json").read_text()) | {"sha256": file_sha256(file)}
        file.with_suffix(".json").write_text(json.dumps(facts))
        assert "does not fit" in self.message()


@pytest.mark.parametrize("name", ZOO)
def test_the_guides_table_says_what_the_card_says(name):
    (row,) = [line for line in (ROOT / "docs" / "backbones.md").read_text().splitlines() if line.startswith(f"| `{name}` |")]
    facts = card(name)
    assert f"| {facts['parameters'] / 1e6:.2f} M |" in row
    assert f"| {facts['epochs']:g} |" in row
    for probe in facts["ridge_probe"]:
        assert f"{probe['accuracy']:.1f} ({probe['accuracy_untrained']:.1f})" in row
    assert (facts["supervision"] in row) == (name in SECOND)
