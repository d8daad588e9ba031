"""A distilled set survives the disk, describes itself, and refuses nonsense."""

import json
import multiprocessing
import os
import signal

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from ddbench.core.errors import Diverged, UserError
from ddbench.core.sets import DistilledSet, class_labels, folder_names, real_set


def small(**changes):
    fields = {
        "images": torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(0)),
        "labels": class_labels(2, 2),
        "class_names": ("cat", "dog/wolf"),
    }
    return DistilledSet(**{**fields, **changes})


def test_round_trip(tmp_path):
    before = small(
        targets=torch.randn(4, 6), target_kind="teacher_features", extras={"student_lr": 0.1}, provenance={"method": "x"},
        target_mean=torch.randn(6), target_std=torch.rand(6), labels_of="initial images",
    )  # fmt: skip
    before.save(tmp_path / "set")
    after = DistilledSet.load(tmp_path / "set")
    for name in ("images", "labels", "targets", "target_mean", "target_std"):
        assert torch.equal(getattr(after, name), getattr(before, name))
    assert after.labels_of == before.labels_of
    assert (after.extras, after.provenance, after.class_names) == (before.extras, before.provenance, before.class_names)
    assert after.fingerprint() == before.fingerprint()
    assert [p.name for p in tmp_path.iterdir()] == ["set"]


def test_everything_that_a_protocol_reads_moves_the_fingerprint():
    targets = {"targets": torch.zeros(4, 2), "target_kind": "teacher_features"}
    scale = {"target_mean": torch.zeros(2), "target_std": torch.ones(2)}
    sets = [
        small(),
        small(**targets),
        small(**targets, **scale),
        small(extras={"student_lr": 0.1}),
        small(labels=class_labels(4, 1)),
    ]
    assert len({dset.fingerprint() for dset in sets}) == len(sets)
    assert small().fingerprint() == small(provenance={"method": "x"}).fingerprint()


def test_the_empty_set_survives_the_disk(tmp_path):
    small(images=torch.zeros(0, 3, 8, 8), labels=class_labels(2, 0)).save(tmp_path / "set")
    after = DistilledSet.load(tmp_path / "set")
    assert (len(after), after.images.shape, len(after.labels)) == (0, (0, 3, 8, 8), 0)


def test_three_lines_of_torch_load_a_set_elsewhere(tmp_path):
    small().save(tmp_path / "set")
    tensors = load_file(tmp_path / "set" / "set.safetensors")
    images, labels = tensors["images"], tensors["labels"]
    assert images.shape == (4, 3, 8, 8)
    assert labels.tolist() == [0, 0, 1, 1]


def test_pngs_are_an_image_folder_of_the_same_pixels(tmp_path):
    dset = small()
    dset.save(tmp_path / "set")
    files = sorted((tmp_path / "set" / "images").rglob("*.png"))
    assert [f.parent.name for f in files] == ["cat", "cat", "dog_wolf", "dog_wolf"]
    red, green, blue = Image.open(files[0]).getpixel((5, 2))
    assert torch.allclose(dset.images[0, :, 2, 5] * 255, torch.tensor([red, green, blue]).float(), atol=0.51)


def test_images_that_are_not_finite_are_a_divergence():
    with pytest.raises(Diverged, match="images of the distilled set are not finite"):
        small(images=torch.full((4, 3, 8, 8), float("nan")))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"images": torch.randn(4, 3, 8, 8)}, r"in \[0, 1\]"),
        ({"images": torch.rand(4, 3, 0, 8)}, r"in \[0, 1\]"),
        ({"labels": class_labels(2, 3)}, "4 images but 6 labels"),
        ({"labels": None}, "needs labels, targets or both"),
        ({"targets": torch.zeros(4, 2)}, "come together"),
        ({"target_mean": torch.zeros(2)}, "come together"),
    ],
)
def test_nonsense_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        small(**changes)


def test_a_set_of_references_stores_indices_and_needs_its_data(tmp_path, data, make_data):
    dset = real_set(data, torch.tensor([3, 1]), copy=False)
    dset.save(tmp_path / "set")
    assert "images" not in load_file(tmp_path / "set" / "set.safetensors")
    after = DistilledSet.load(tmp_path / "set", data)
    assert torch.equal(after.batch(torch.arange(2)), data.train.images[torch.tensor([3, 1])] / 255)
    with pytest.raises(UserError, match="give the dataset it was made from"):
        DistilledSet.load(tmp_path / "set")
    with pytest.raises(UserError, match="refers to other data"):
        DistilledSet.load(tmp_path / "set", make_data(seed=1))


def test_a_truncated_or_foreign_folder_is_one_line(tmp_path):
    with pytest.raises(UserError, match="is not a distilled set"):
        DistilledSet.load(tmp_path)
    small().save(tmp_path / "set")
    file = tmp_path / "set" / "set.safetensors"
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(UserError, match="cannot be read, it may be truncated"):
        DistilledSet.load(tmp_path / "set")


@pytest.mark.parametrize("name", ["set.safetensors", "set.json"])
@pytest.mark.parametrize("place", [0.4, 0.6, 0.9])
def test_one_flipped_bit_is_found(name, place, tmp_path):
    small(provenance={"note": "x" * 4000}).save(tmp_path / "set")
    file = tmp_path / "set" / name
    content = bytearray(file.read_bytes())
    content[int(len(content) * place)] ^= 1
    file.write_bytes(content)
    with pytest.raises(UserError, match=f"{name} was damaged or changed after it was written"):
        DistilledSet.load(tmp_path / "set")


def test_sets_from_before_checksums_are_read(tmp_path):
    small().save(tmp_path / "set")
    card()(tmp_path / "set")
    file = tmp_path / "set" / "set.safetensors"
    save_file(load_file(file), file)
    assert DistilledSet.load(tmp_path / "set").fingerprint() == small().fingerprint()


def test_files_of_a_set_have_the_mode_of_new_files(tmp_path):
    before = os.umask(0o027)
    try:
        small().save(tmp_path / "set")
    finally:
        os.umask(before)
    assert {path.name: oct(path.stat().st_mode & 0o777) for path in (tmp_path / "set").glob("set.*")} == {
        "set.json": "0o640",
        "set.safetensors": "0o640",
    }


def test_a_kill_between_taking_the_old_set_away_and_naming_the_new_one_loses_nothing(tmp_path):
    small().save(tmp_path / "set")
    process = multiprocessing.get_context("fork").Process(target=_replace_and_die, args=(tmp_path / "set",))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert not (tmp_path / "set").exists()
    assert DistilledSet.load(tmp_path / "set").images.max() == 0.5
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


def _replace_and_die(folder):
    replace = os.replace
    os.replace = lambda source, target: os.kill(os.getpid(), signal.SIGKILL) if target == folder else replace(source, target)
    small(images=torch.full((4, 3, 8, 8), 0.5)).save(folder)


def test_a_failed_save_leaves_the_old_set(tmp_path, monkeypatch):
    small().save(tmp_path / "set")
    monkeypatch.setattr(json, "dumps", lambda *a, **k: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        small(images=torch.zeros(4, 3, 8, 8)).save(tmp_path / "set")
    monkeypatch.undo()
    assert DistilledSet.load(tmp_path / "set").images.any()
    assert [p.name for p in tmp_path.iterdir()] == ["set"]


NAMES = ("a b", "a_b", "a/b", "A_B", "..", ".", "", "con", "a_b-2", "x" * 300, "x" * 299, "café", "cafe\u0301", "end.")


def test_class_folders_are_distinct_and_safe_on_every_file_system(tmp_path):
    """Blanks and slashes, capitals alone, names of devices, parents and pages, accents written in two ways."""
    folders = folder_names(NAMES)
    assert len({name.casefold() for name in folders}) == len(NAMES)
    assert folders[1] == "a_b"
    assert all(0 < len(name.encode()) < 120 and name.strip(".") and "/" not in name and name != "con" for name in folders)
    assert folder_names(("cat", "dog/wolf")) == ("cat", "dog_wolf")
    dset = DistilledSet(torch.rand(len(NAMES), 3, 4, 4), class_labels(len(NAMES), 1), NAMES)
    dset.save(tmp_path / "set")
    assert sorted(f.parent.name for f in (tmp_path / "set/images").rglob("*.png")) == sorted(folders)
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


def card(**changes):
    def change(folder):
        file = folder / "set.json"
        written = json.loads(file.read_text())
        del written["crc32"]
        file.write_text(json.dumps({**written, **changes}))

    return change


def tensors(**changes):
    def change(folder):
        file = folder / "set.safetensors"
        save_file({**load_file(file), **changes}, file)

    return change


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: (f / "set.json").write_bytes(b"\x80\xff\x00"), "set.json may be truncated"),
        (lambda f: (f / "set.json").write_text("5"), "set.json holds no object"),
        (lambda f: (f / "set.json").write_text("[" * 100_000), "set.json may be truncated"),
        (card(provenance=7), "provenance of set.json is not valid"),
        (card(class_names=5), "class_names of set.json is not valid"),
        (card(extras={"lr": "x"}), "extras.lr of set.json is not valid"),
        (card(target_kind="guess"), "target_kind of set.json is not valid"),
        (tensors(labels=torch.tensor([0, 1, 2, 9])), "labels run from 0 to 9, but it names 2 classes"),
        (tensors(labels=torch.tensor([0, 0, 0, -1])), "labels run from -1 to 0"),
        (tensors(labels=torch.zeros(4)), "labels are float32; it is damaged"),
        (tensors(labels=torch.zeros(4, 1, dtype=torch.int64)), r"labels have shape \(4, 1\)"),
        (tensors(images=torch.full((4, 3, 8, 8), float("nan"))), "some images are not finite"),
        (tensors(images=torch.full((4, 3, 8, 8), 7.0)), r"is damaged: images are .* in \[0, 1\]"),
    ],
)
def test_a_damaged_set_is_one_line(damage, message, tmp_path):
    small().save(tmp_path / "set")
    damage(tmp_path / "set")
    with pytest.raises(UserError, match=message) as error:
        DistilledSet.load(tmp_path / "set")
    assert "\n" not in str(error.value)
