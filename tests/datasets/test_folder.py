"""Image folders: decoding, caching, streaming, and every way in which a folder can be wrong."""

import tarfile

import numpy as np
import pytest
import torch
from PIL import Image

from ddbench.core.data import DATASETS
from ddbench.core.errors import UserError
from ddbench.core.store import ArrayStore

SIZE = 16


@pytest.fixture
def folder(tmp_path):
    """Two classes, three train and two test images of various shapes each."""
    rng = np.random.default_rng(0)
    for split, count in (("train", 3), ("test", 2)):
        for name in ("cat", "dog"):
            target = tmp_path / "set" / split / name
            target.mkdir(parents=True)
            for k in range(count):
                pixels = rng.integers(0, 256, (20 + k, 30, 3)).astype(np.uint8)
                Image.fromarray(pixels).save(target / f"{k}.{'png' if k else 'jpg'}")
    return tmp_path / "set"


def load(folder, **options):
    return DATASETS.create("folder", path=folder, size=SIZE, **options).load()


def everything(split):
    return split.images[torch.arange(len(split))]


def test_labels_follow_the_sorted_class_folders(folder):
    data = load(folder)
    assert data.class_names == ("cat", "dog")
    assert data.train.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert everything(data.test).shape == (4, 3, SIZE, SIZE)


def test_streaming_equals_decoding_once(folder):
    decoded, streamed = load(folder), load(folder, memory_limit_gb=1e-9)
    for split in ("train", "test"):
        assert torch.equal(everything(getattr(decoded, split)), everything(getattr(streamed, split)))


def test_the_second_load_decodes_nothing(folder, monkeypatch):
    first = load(folder)
    monkeypatch.setattr(ArrayStore, "create", lambda *a: pytest.fail("decoded again"))
    again = load(folder)
    assert again.fingerprint == first.fingerprint
    assert torch.equal(everything(again.train), everything(first.train))


def test_resize_keeps_the_aspect_and_crops_the_centre(folder):
    """A 20 x 40 image, black but for its white middle 20 x 20 square, becomes white."""
    pixels = np.zeros((20, 40, 3), np.uint8)
    pixels[:, 10:30] = 255
    Image.fromarray(pixels).save(folder / "train/cat/0.png")
    (folder / "train/cat/0.jpg").unlink()
    assert everything(load(folder).train)[0, :, :, 1:-1].min() > 250


def test_exif_orientation_is_honoured(folder):
    """A picture tagged as rotated by 90 degrees is turned upright before the crop."""
    pixels = np.zeros((32, 32, 3), np.uint8)
    pixels[:8] = 255  # a bar on top as stored; orientation 6 shows it on the right
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(pixels).save(folder / "train/cat/0.jpg", exif=exif, quality=95)
    image = everything(load(folder).train)[0].float().mean(0)
    assert image[:, -3:].mean() > 240
    assert image[:3, :8].mean() < 15


def test_a_changed_file_changes_the_fingerprint(folder):
    before = load(folder).fingerprint
    Image.fromarray(np.zeros((20, 20, 3), np.uint8)).save(folder / "test/dog/0.jpg")
    assert load(folder).fingerprint != before


def test_val_stands_in_for_test(folder):
    (folder / "test").rename(folder / "val")
    assert len(load(folder).test) == 4


def break_train(folder):
    (folder / "train").rename(folder / "training")


def break_class(folder):
    (folder / "test/dog").rename(folder / "test/wolf")


def break_empty(folder):
    for file in (folder / "train/dog").iterdir():
        file.rename(file.with_suffix(".txt"))


def break_truncate(folder):
    file = folder / "train/dog/1.png"
    file.write_bytes(file.read_bytes()[:500])


def break_text(folder):
    (folder / "test/cat/0.jpg").write_text("<html>404</html>")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (break_train, "has no train/; the layout is train/CLASS/IMAGE"),
        (break_class, "class 'dog' is not in both"),
        (break_empty, r"dog holds no images \(found .txt\)"),
        (break_truncate, "1.png is corrupt or truncated"),
        (break_text, "0.jpg is corrupt or truncated"),
    ],
)
def test_damage_is_named_before_anything_runs(folder, damage, message):
    damage(folder)
    with pytest.raises(UserError, match=message) as error:
        load(folder)
    assert "\n" not in str(error.value)


def test_streaming_names_a_bad_header_at_once_and_a_truncated_file_when_met(folder):
    break_truncate(folder)
    data = load(folder, memory_limit_gb=1e-9)
    with pytest.raises(UserError, match="1.png is corrupt or truncated"):
        everything(data.train)
    break_text(folder)
    with pytest.raises(UserError, match="0.jpg cannot be opened"):
        load(folder, memory_limit_gb=1e-9)


def test_missing_folder(tmp_path):
    with pytest.raises(UserError, match="does not exist; give a folder that holds train/ and test/"):
        load(tmp_path / "nowhere")


@pytest.mark.shared
def test_real_photographs(shared, tmp_path):
    with tarfile.open(shared / "data" / "flowers5.tar") as archive:
        archive.extractall(tmp_path, filter="data")
    data = DATASETS.create("folder", path=tmp_path / "flowers5", size=32).load()
    assert (len(data.train), len(data.test)) == (3443, 868)
    assert data.class_names == ("daisy", "dandelion", "rose", "sunflower", "tulip")
