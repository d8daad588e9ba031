"""Image folders: decoding, caching, streaming, and every way in which a folder can be wrong."""

import errno
import os
import shutil
import struct
import tarfile
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from ddbench.core.data import DATASETS, ArrayImages
from ddbench.core.errors import UserError
from ddbench.core.store import ArrayStore
from ddbench.datasets import _files
from ddbench.datasets._files import StreamedImages

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


@pytest.mark.parametrize("name", ["test", "val", "valid"])
def test_val_stands_in_for_test_and_the_name_says_so(folder, name):
    if name != "test":
        (folder / "test").rename(folder / name)
    data = load(folder)
    assert len(data.test) == 4
    assert data.name == f"set[test={name}]"


def test_test_is_preferred_to_val(folder):
    shutil.copytree(folder / "test/cat", folder / "val/other")
    assert load(folder).name == "set[test=test]"


def test_the_fingerprint_does_not_depend_on_the_place_but_on_size_and_labels(folder, tmp_path):
    before = load(folder)
    shutil.copytree(folder, tmp_path / "elsewhere/copy")
    assert load(tmp_path / "elsewhere/copy").fingerprint == before.fingerprint
    assert DATASETS.create("folder", path=folder, size=SIZE + 1).load().fingerprint != before.fingerprint
    (folder / "train/dog/0.jpg").rename(folder / "train/cat/3.jpg")  # the same images in the same order, one other label
    assert load(folder).fingerprint != before.fingerprint


def test_a_streamed_set_is_told_apart_by_byte_sizes(folder):
    before = load(folder, memory_limit_gb=1e-9).fingerprint
    with (folder / "test/dog/0.jpg").open("ab") as file:
        file.write(b"x")
    assert load(folder, memory_limit_gb=1e-9).fingerprint != before


def test_both_splits_together_must_fit(folder):
    """10 images of 768 bytes: 7,680 in all."""
    assert isinstance(load(folder, memory_limit_gb=7.69e-6).train.images, ArrayImages)
    data = load(folder, memory_limit_gb=7.67e-6)
    assert isinstance(data.train.images, StreamedImages)
    assert isinstance(data.test.images, StreamedImages)


def test_streamed_images_come_in_the_order_asked_for(folder):
    images = load(folder, memory_limit_gb=1e-9).train.images
    assert torch.equal(images[torch.tensor([4, 0, 4])], images[torch.arange(6)][[4, 0, 4]])
    assert images[torch.tensor([], dtype=torch.long)].shape == (0, 3, SIZE, SIZE)


def test_headers_are_checked_once_not_by_every_process(folder, monkeypatch):
    load(folder, memory_limit_gb=1e-9)
    monkeypatch.setattr(_files, "check_header", lambda file: pytest.fail("checked again"))
    load(folder, memory_limit_gb=1e-9)


def test_hidden_files_and_folders_and_other_extensions_do_not_count(folder):
    before = load(folder)
    (folder / "train/.git").mkdir()
    (folder / "train/cat/.ipynb_checkpoints").mkdir()
    for name in (".DS_Store", "._0.jpg", ".ipynb_checkpoints/0.jpg", "notes.txt"):
        (folder / "train/cat" / name).write_text("no image")
    assert load(folder).fingerprint == before.fingerprint


def test_links_to_folders_and_capital_extensions_count(folder, tmp_path):
    shutil.move(folder / "train/cat", tmp_path / "cats")
    (tmp_path / "cats/0.jpg").rename(tmp_path / "cats/0.JPEG")
    (folder / "train/cat").symlink_to(tmp_path / "cats")
    (tmp_path / "more").mkdir()
    Image.new("L", (30, 30), 90).save(tmp_path / "more/grey.png")
    (tmp_path / "cats/sub").symlink_to(tmp_path / "more")
    assert load(folder).train.labels.tolist() == [0, 0, 0, 0, 1, 1, 1]


@pytest.mark.parametrize("mode", ["L", "1", "P", "LA", "RGBA", "CMYK", "YCbCr"])
def test_every_eight_bit_mode_becomes_rgb(tmp_path, mode):
    file = tmp_path / ("x.tif" if mode in ("CMYK", "YCbCr") else "x.png")
    Image.new("RGB", (20, 20), (255, 255, 255)).convert(mode).save(file)
    assert _files.decode(file, 8).shape == (3, 8, 8)
    assert _files.decode(file, 8).min() > 250


def test_a_palette_with_transparency_warns_of_nothing(tmp_path):
    ramp = Image.fromarray(np.arange(400, dtype=np.uint8).reshape(20, 20) // 2).convert("P")
    ramp.save(tmp_path / "x.png", transparency=bytes([0, 128, 255] * 40))
    assert _files.decode(tmp_path / "x.png", 8).shape == (3, 8, 8)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_broken_exif_does_not_make_a_picture_corrupt(tmp_path):
    Image.new("RGB", (20, 20), (200, 0, 0)).save(tmp_path / "x.jpg", exif=b"Exif\x00\x00MM\x00*garbage")
    assert _files.decode(tmp_path / "x.jpg", 8)[0].min() > 190


@pytest.mark.parametrize(("width", "height"), [(8, 8), (9, 8), (8, 300), (301, 7), (3, 2)])
def test_any_shape_becomes_a_square(tmp_path, width, height):
    Image.new("RGB", (width, height)).save(tmp_path / "x.png")
    assert _files.decode(tmp_path / "x.png", 8).shape == (3, 8, 8)


def test_an_image_of_the_right_size_is_not_touched(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "x.png")
    np.testing.assert_array_equal(_files.decode(tmp_path / "x.png", 8), pixels.transpose(2, 0, 1))


def test_resizing_is_antialiased(tmp_path):
    """A one-pixel chequerboard becomes grey, not a pattern."""
    board = (np.indices((64, 64)).sum(0) % 2 * 255).astype(np.uint8)
    Image.fromarray(board).save(tmp_path / "x.png")
    assert np.abs(_files.decode(tmp_path / "x.png", 8).astype(int) - 127).max() < 12


def test_a_full_disk_is_one_line_that_names_the_cache(folder, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setenv("DDBENCH_CACHE", str(folder.parent / "small"))
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match="cannot write the cache folder .*small"):
        load(folder)


def test_damage_leaves_nothing_in_the_cache(folder, monkeypatch):
    monkeypatch.setenv("DDBENCH_CACHE", str(folder.parent / "own"))
    break_truncate(folder)
    with pytest.raises(UserError, match="1.png"):
        load(folder)
    assert [p for p in (folder.parent / "own").rglob("*") if p.is_file()] == []


def break_train(folder):
    (folder / "train").rename(folder / "training")


def break_class(folder):
    (folder / "test/dog").rename(folder / "test/wolf")


def break_extra(folder):
    (folder / "test/dog").rename(folder / "test/cow")
    (folder / "test/cow").mkdir(exist_ok=True)
    shutil.copytree(folder / "test/cow", folder / "test/dog")


def break_classes(folder):
    for split in ("train", "test"):
        for name in ("cat", "dog"):
            (folder / split / name).rename(folder / split / f".{name}")


def break_depth(folder):
    """16 bits per pixel; Pillow would turn nearly all of it white."""
    pixels = np.full((20, 20), 40000, np.uint16)
    Image.fromarray(pixels).save(folder / "train/cat/1.png")


def break_bomb(folder):
    """A PNG header that promises 10^10 pixels."""
    header = b"IHDR" + struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    (folder / "train/cat/1.png").write_bytes(b"\x89PNG\r\n\x1a\n" + chunk + struct.pack(">I", 0) + b"IDAT" + bytes(4))


def break_empty(folder):
    for file in (folder / "train/dog").iterdir():
        file.rename(file.with_suffix(".txt"))


def break_truncate(folder):
    file = folder / "train/dog/1.png"
    file.write_bytes(file.read_bytes()[:500])


def break_middle(folder):
    """The file is as long as it was, but its compressed data stops making sense."""
    file = folder / "train/dog/1.png"
    raw = bytearray(file.read_bytes())
    raw[len(raw) // 2 : len(raw) // 2 + 200] = bytes(200)
    file.write_bytes(bytes(raw))


def break_text(folder):
    (folder / "test/cat/0.jpg").write_text("<html>404</html>")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (break_train, "has no train/; the layout is train/CLASS/IMAGE"),
        (break_class, "class 'dog' is not in .*test; train and test need the same"),
        (break_extra, "class 'cow' is not in .*train; train and test need the same"),
        (break_classes, "train holds no class folders"),
        (break_depth, "1.png is corrupt or truncated: I;16 pixels, write 8 bits per channel"),
        (break_bomb, "1.png is corrupt or truncated: Image size"),
        (break_empty, r"dog holds no images \(found .txt\)"),
        (break_truncate, "1.png is corrupt or truncated"),
        (break_middle, "1.png is corrupt or truncated"),
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
