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
from ddbench.datasets._decode import square
from ddbench.datasets._files import StreamedImages

SIZE = 16


def decoded(file, size, background="white"):
    return square(file, size, background)[0]


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
    assert data.name == ("set" if name == "test" else f"set[test={name}]")


def test_test_is_preferred_to_val(folder):
    shutil.copytree(folder / "test/cat", folder / "val/other")
    data = load(folder)
    assert data.name == "set"
    assert "folders that are not read: val/" in data.notes


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
    monkeypatch.setattr(_files, "look", lambda file: pytest.fail("checked again"))
    load(folder, memory_limit_gb=1e-9)


def test_hidden_files_and_folders_and_other_extensions_do_not_count(folder):
    before = load(folder)
    (folder / "train/.git").mkdir()
    (folder / "train/cat/.ipynb_checkpoints").mkdir()
    for name in (".DS_Store", "._0.jpg", ".ipynb_checkpoints/0.jpg", "notes.txt"):
        (folder / "train/cat" / name).write_text("no image")
    assert load(folder).fingerprint == before.fingerprint


def test_what_systems_leave_in_every_folder_is_no_class_and_worth_no_note(folder):
    before = load(folder)
    for name in ("train/__MACOSX", "__MACOSX", "train/dog/@eaDir"):
        (folder / name).mkdir()
    for name in ("train/cat/Thumbs.db", "train/desktop.ini", "train/__MACOSX/._0.jpg"):
        (folder / name).write_text("no image")
    after = load(folder)
    assert (after.fingerprint, after.notes) == (before.fingerprint, before.notes)


def test_classes_that_differ_in_capitals_alone_are_said(folder):
    for split in ("train", "test"):
        (folder / split / "Cat").mkdir()
        Image.new("RGB", (8, 8), (9, 9, len(split))).save(folder / split / "Cat/0.png")
    assert "class names differ in capitals alone: 'Cat' and 'cat'; each is a class of its own" in load(folder).notes


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
    assert decoded(file, 8).shape == (3, 8, 8)
    assert decoded(file, 8).min() > 250


def test_a_palette_with_transparency_warns_of_nothing(tmp_path):
    ramp = Image.fromarray(np.arange(400, dtype=np.uint8).reshape(20, 20) // 2).convert("P")
    ramp.save(tmp_path / "x.png", transparency=bytes([0, 128, 255] * 40))
    assert decoded(tmp_path / "x.png", 8).shape == (3, 8, 8)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_broken_exif_does_not_make_a_picture_corrupt(tmp_path):
    Image.new("RGB", (20, 20), (200, 0, 0)).save(tmp_path / "x.jpg", exif=b"Exif\x00\x00MM\x00*garbage")
    assert decoded(tmp_path / "x.jpg", 8)[0].min() > 190


@pytest.mark.parametrize(("width", "height"), [(8, 8), (9, 8), (8, 300), (301, 7), (3, 2)])
def test_any_shape_becomes_a_square(tmp_path, width, height):
    Image.new("RGB", (width, height)).save(tmp_path / "x.png")
    assert decoded(tmp_path / "x.png", 8).shape == (3, 8, 8)


def test_an_image_of_the_right_size_is_not_touched(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "x.png")
    np.testing.assert_array_equal(decoded(tmp_path / "x.png", 8), pixels.transpose(2, 0, 1))


def test_resizing_is_antialiased(tmp_path):
    """A one-pixel chequerboard becomes grey, not a pattern."""
    board = (np.indices((64, 64)).sum(0) % 2 * 255).astype(np.uint8)
    Image.fromarray(board).save(tmp_path / "x.png")
    assert np.abs(decoded(tmp_path / "x.png", 8).astype(int) - 127).max() < 12


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
    (folder / "test/dog").rename(folder / "test/Dog ")


def break_extra(folder):
    (folder / "test/dog").rename(folder / "test/cow")
    (folder / "test/cow").mkdir(exist_ok=True)
    shutil.copytree(folder / "test/cow", folder / "test/dog")


def break_classes(folder):
    for split in ("train", "test"):
        for name in ("cat", "dog"):
            (folder / split / name).rename(folder / split / f".{name}")


def break_depth(folder):
    """Floats, of which nothing says what is white; Pillow would clip them at 255."""
    (folder / "train/cat/1.png").unlink()
    Image.fromarray(np.full((20, 20), 0.5, np.float32)).save(folder / "train/cat/1.tif")


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
        (break_class, "class 'Dog ' is in .*test but not in .*train, which has 'dog': give both the same name"),
        (break_extra, "class 'cow' is in .*test but not in .*train; add train images of it, or move it out"),
        (break_classes, "train holds no class folders"),
        (break_depth, r"1.tif has F pixels \(32 bits\), .*; write 8 or 16 bits per channel; convert it"),
        (break_bomb, "1.png has 10,000 million pixels, more than the 89 million that are decoded; scale it down"),
        (break_empty, r"dog holds no images \(found .txt\); add images, or remove the class from train and test"),
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


def classes(folder, names, suffix="png"):
    """An image folder with an image of its own colour in each class of both splits; the red value is the class's place."""
    for split in ("train", "test"):
        for k, name in enumerate(names):
            (folder / split / name).mkdir(parents=True)
            Image.new("RGB", (8, 8), (k, split == "test", 9)).save(folder / split / name / f"0.{suffix}")
    return folder


def test_folders_named_by_numbers_are_ordered_as_numbers(tmp_path):
    """As text, 10 stands before 2: the same images as arrays with integer labels would mean other classes."""
    names = [str(k) for k in range(12)]
    data = load(classes(tmp_path / "set", names))
    assert data.class_names == tuple(names)
    assert everything(data.train)[:, 0, 0, 0].tolist() == list(range(12))
    assert data.class_order == "by number"
    assert data.notes == ("classes are numbers and are ordered as such (0, 1, 2, …), not as text",)


def test_names_that_are_not_all_numbers_are_ordered_as_text(tmp_path):
    data = load(classes(tmp_path / "set", ["1", "10", "2", "cat"]))
    assert data.class_names == ("1", "10", "2", "cat")
    assert (data.class_order, data.notes) == ("by name", ())


BEFORE = (  # decoded once, streamed; by the code that read folders before transparency was composited
    "dc7d1a9feb67947542d4efb1b758fc9e860dc82cfd2a97494b323eead299853d",
    "ef2693cfcec67f12ca9abfc62ba9b219806611acfcdc20c0ddc8f7e46adaa91c",
)


def test_fingerprints_of_before_stay(tmp_path):
    """Of data whose order, pixels and labels are as they were; a changed one would compute every feature anew."""
    for name, place in (("cat", 3), ("dog", 200)):
        for split in ("train", "test"):
            (tmp_path / "set" / split / name).mkdir(parents=True)
            (tmp_path / "set" / split / name / "0.ppm").write_bytes(b"P6 2 2 255 " + bytes([place + (split == "test")]) * 12)
    assert load(tmp_path / "set").fingerprint == BEFORE[0]
    assert load(tmp_path / "set", memory_limit_gb=1e-9).fingerprint == BEFORE[1]


def test_every_extension_that_pillow_decodes_is_read_and_the_rest_is_counted(folder):
    before = len(load(folder).train)
    for name in ("a.jfif", "b.JPE", "c.tga", "d.avif", "e.jp2", "f.qoi"):
        (folder / "train/cat" / name).write_bytes((folder / "train/cat/0.jpg").read_bytes())
    for name in ("g.heic", "h.heic", "notes.txt", "noext"):
        (folder / "test/dog" / name).write_text("?")
    (folder / "train/at_the_top.png").write_text("?")
    (folder / "extra").mkdir()
    data = load(folder)
    assert len(data.train) == before + 6
    unread, beside = data.notes[:2]
    assert unread.startswith("5 files are not read: .heic 2, ")
    assert unread.endswith("(first test/dog/g.heic); convert to PNG or JPEG what should be")
    assert beside == "folders that are not read: extra/"
    assert len(data.facts["unread"]) == 5


def test_postscript_is_never_executed(folder):
    (folder / "train/cat/x.eps").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")
    (folder / "train/cat/y.png").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")
    with pytest.raises(UserError, match="y.png is corrupt or truncated: cannot identify"):
        load(folder)


def transparent(folder, background="white", **options):
    """One visible picture, a red bar beside nothing, whose hidden colour is green."""
    pixels = np.zeros((20, 20, 4), np.uint8)
    pixels[:] = (0, 255, 0, 0)
    pixels[:, :10] = (255, 0, 0, 255)
    Image.fromarray(pixels).save(folder / "train/cat/1.png")
    return load(folder, background=background, **options)


def test_transparency_is_composited_on_the_background_and_said(folder):
    data = transparent(folder)
    image = everything(data.train)[1]
    assert image[:, 8, 2].tolist() == [255, 0, 0]
    assert image[:, 8, 13].tolist() == [255, 255, 255]
    assert "train: 1 image has transparent pixels, composited on white (first train/cat/1.png)" in data.notes
    black = transparent(folder, "black")
    assert everything(black.train)[1][:, 8, 13].tolist() == [0, 0, 0]
    assert black.fingerprint != data.fingerprint
    assert (
        transparent(folder, memory_limit_gb=1e-9).fingerprint != transparent(folder, "black", memory_limit_gb=1e-9).fingerprint
    )


def test_the_background_of_opaque_pictures_changes_nothing(folder):
    Image.fromarray(np.full((20, 20, 4), 255, np.uint8)).save(folder / "train/cat/1.png")
    data = load(folder)
    assert load(folder, background="black").fingerprint == data.fingerprint
    assert not any("transparent" in note for note in data.notes)


def test_an_unknown_colour_is_one_line(folder):
    with pytest.raises(UserError, match="'whyte' is no colour; write a name such as white, or #rrggbb"):
        load(folder, background="whyte")


def test_a_class_without_test_images_is_noted_and_kept(folder):
    shutil.rmtree(folder / "test/dog")
    data = load(folder)
    assert data.class_names == ("cat", "dog")
    assert data.notes[-1] == "1 of 2 classes has no test image: dog"
    (folder / "test/dog").mkdir()
    assert load(folder).fingerprint == data.fingerprint
    shutil.rmtree(folder / "test/cat")
    with pytest.raises(UserError, match="test holds no images"):
        load(folder)


@pytest.mark.parametrize("limit", [2.0, 1e-9])
def test_the_same_file_in_train_and_test_is_found(folder, limit):
    shutil.copy(folder / "train/cat/1.png", folder / "test/dog/copy.png")
    shutil.copy(folder / "train/dog/2.png", folder / "train/dog/again.png")
    data = load(folder, memory_limit_gb=limit)
    assert data.facts["twins"]["compared"] == ("pixels" if limit == 2 else "bytes")
    assert data.notes == (
        "1 of 5 test images (20.0 %) is in train too (test/dog/copy.png = train/cat/1.png)",
        "train holds 1 further copy of images that it has already",
        "1 image is there with different labels (train/cat/1.png = test/dog/copy.png)",
    )


def test_files_that_differ_in_the_middle_only_are_no_twins(folder):
    raw = bytearray(b"P6 100 100 255 " + bytes(30_000))
    (folder / "train/cat/a.ppm").write_bytes(raw)
    raw[15_000] = 1
    (folder / "test/cat/b.ppm").write_bytes(raw)
    assert load(folder, memory_limit_gb=1e-9).facts["twins"]["test_in_train"] == 0


def test_links_that_lead_back_end(folder):
    """Two links of a class folder to itself double with each level; one to its parent would read the other classes."""
    before = load(folder)
    (folder / "train/cat/self").symlink_to(folder / "train/cat")
    (folder / "train/cat/again").symlink_to(folder / "train/cat")
    (folder / "train/cat/up").symlink_to(folder / "train")
    assert load(folder).fingerprint == before.fingerprint


def test_a_link_to_itself_is_one_line(folder):
    (folder / "train/cat/me.png").symlink_to("me.png")
    with pytest.raises(UserError, match=r"train/cat/me.png .*remove it"):
        load(folder)


def test_a_pipe_with_the_name_of_an_image_does_not_hang(folder):
    before = load(folder)
    os.mkfifo(folder / "train/cat/pipe.png")
    assert load(folder).fingerprint == before.fingerprint


@pytest.mark.shared
def test_real_photographs(shared, tmp_path):
    with tarfile.open(shared / "data" / "flowers5.tar") as archive:
        archive.extractall(tmp_path, filter="data")
    data = DATASETS.create("folder", path=tmp_path / "flowers5", size=32).load()
    assert (len(data.train), len(data.test)) == (3443, 868)
    assert data.class_names == ("daisy", "dandelion", "rose", "sunflower", "tulip")
