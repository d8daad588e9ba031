"""`ddbench data check`: one line per problem and exit code 2, or what the set holds and exit code 0."""

import json

import numpy as np
import pytest
from PIL import Image

from ddbench.benchmark.cli import main


@pytest.fixture
def folder(tmp_path):
    """An image folder with two classes, three train images and one test image each."""
    for split, count in (("train", 3), ("test", 1)):
        for place, name in enumerate(("cat", "dog")):
            (tmp_path / "pets" / split / name).mkdir(parents=True)
            for k in range(count):
                Image.new("RGB", (8, 8), (k, place, count)).save(tmp_path / "pets" / split / name / f"{k}.png")
    return tmp_path / "pets"


def checked(capsys, *argv) -> tuple[int, list[str]]:
    code = main(["data", "check", *argv])
    return code, capsys.readouterr().out.splitlines()


def test_a_sound_set_is_looked_at(capsys, folder):
    spec = f"folder[path={folder},size=8]"
    code, lines = checked(capsys, spec)
    assert code == 0
    assert [line.rstrip() for line in lines] == [
        "   class (by name)  train  test  first train image",
        "0  cat                  3     1  train/cat/0.png",
        "1  dog                  3     1  train/dog/0.png",
        "   2 classes            6     2",
        "train:  6 images: RGB 6; 8 x 8, shown at 8 x 8, headers read (--decode reads",
        "pixels)",
        "test:   2 images: RGB 2; 8 x 8, shown at 8 x 8, headers read (--decode reads",
        "pixels)",
        "copies: 0 of test in train, 0 within train, 0 in test (bytes compared)",
        "unread: 0 files",
        "mirror: flips are taken to keep the class (mirror=false where they do not)",
        f"{spec}: all is well",
    ]


def test_what_was_noticed_is_said_and_all_is_not_well(capsys, folder):
    (folder / "train/cat/0.png").rename(folder / "test/cat/9.png")
    (folder / "train/dog/1.heic").write_text("?")
    (folder / "train/dog/8.png").write_bytes((folder / "test/cat/9.png").read_bytes())
    _, lines = checked(capsys, f"folder[path={folder},size=8]")
    notes = [line for line in lines if line.startswith("NOTE")]
    assert "1 file is not read: .heic 1 (first train/dog/1.heic)" in notes[0]
    assert any("is in train too" in note for note in notes)
    assert lines[-1].endswith(f": {len(notes)} notes")


def test_everything_as_json_and_a_contact_sheet(capsys, folder):
    spec, sheet = f"folder[path={folder},size=8]", folder.parent / "deep" / "sheet.png"
    assert main(["data", "check", spec, "--json", "--sheet", str(sheet)]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["splits"]["train"]["per_class"] == [3, 3]
    assert found["splits"]["train"]["files"]["modes"] == {"RGB": 6}
    assert found["augmentations"] == {"mirror": True, "colour": True}
    with Image.open(sheet) as picture:
        pixels = np.asarray(picture)
    assert (pixels == [2, 1, 3]).all(-1).sum() == 56 * 56  # the third train image of the second class
    assert main(["data", "check", spec, "--sheet", "/dev/null/x.png"]) == 2
    assert "cannot write" in capsys.readouterr().err


def test_digits_bear_no_mirror_and_have_no_colour(capsys):
    _, lines = checked(capsys, "digits")
    assert "mirror: flips do not keep the class" in lines
    assert "colour: the images are grey, colour jitter has nothing to change" in lines


def test_groups_are_counted(capsys, tmp_path):
    rng = np.random.default_rng(0)
    for split in ("train", "test"):
        images = rng.integers(0, 256, (4, 8, 8, 3)).astype(np.uint8)
        np.savez(tmp_path / f"{split}.npz", images=images, labels=np.array([0, 1, 0, 1]), groups=np.array([0, 2, 0, 0]))
    _, lines = checked(capsys, f"arrays[path={tmp_path}]")
    assert "test groups: 0 3, 2 1" in lines


def test_every_image_that_cannot_be_opened_is_a_problem(capsys, folder):
    for name in ("cat/1.png", "dog/2.png"):
        (folder / "train" / name).write_text("no image")
    code, lines = checked(capsys, f"folder[path={folder},size=8]")
    assert code == 2
    assert lines[0].startswith(f"PROBLEM image {folder}/train/cat/1.png cannot be opened")
    assert lines[-1].endswith(": 2 problems")


def test_truncated_pixels_are_found_by_decoding(capsys, folder):
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)).save(folder / "train/cat/1.png")
    raw = (folder / "train/cat/1.png").read_bytes()
    (folder / "train/cat/1.png").write_bytes(raw[: len(raw) // 2])
    code, lines = checked(capsys, f"folder[path={folder},size=8]", "--decode")
    assert (code, "truncated" in lines[0]) == (2, True)


def test_every_missing_list_is_a_line(capsys, tmp_path):
    (tmp_path / "CUB_200_2011/images").mkdir(parents=True)
    code, lines = checked(capsys, "cub", "--root", str(tmp_path))
    assert code == 2
    assert [line.split()[1].rpartition("/")[2] for line in lines[:-1]] == [
        "images.txt", "image_class_labels.txt", "train_test_split.txt", "classes.txt",
    ]  # fmt: skip
    assert lines[-1] == "cub: 4 problems"


def test_root_is_refused_where_it_means_nothing(capsys):
    assert main(["data", "check", "digits", "--root", "x"]) == 2
    assert "takes no parameters" in capsys.readouterr().err
