"""`ddbench data check`: one line per problem and exit code 2, or what the set holds and exit code 0."""

import numpy as np
import pytest
from PIL import Image

from ddbench.benchmark.cli import main


@pytest.fixture
def folder(tmp_path):
    """An image folder with two classes, three train images and one test image each."""
    for split, count in (("train", 3), ("test", 1)):
        for name in ("cat", "dog"):
            (tmp_path / "pets" / split / name).mkdir(parents=True)
            for k in range(count):
                Image.new("RGB", (8, 8), (k, 0, 0)).save(tmp_path / "pets" / split / name / f"{k}.png")
    return tmp_path / "pets"


def checked(capsys, *argv) -> tuple[int, list[str]]:
    code = main(["data", "check", *argv])
    return code, capsys.readouterr().out.splitlines()


def test_a_sound_set_is_summed_up(capsys, folder):
    spec = f"folder[path={folder},size=8]"
    assert checked(capsys, spec) == (
        0,
        [
            "ok      train: 6 images, 2 classes of 3 to 3",
            "ok      test: 2 images, 2 classes of 1 to 1",
            f"{spec}: all is well",
        ],
    )


def test_groups_are_counted(capsys, tmp_path):
    for split in ("train", "test"):
        images = np.zeros((4, 8, 8, 3), np.uint8)
        np.savez(tmp_path / f"{split}.npz", images=images, labels=np.array([0, 1, 0, 1]), groups=np.array([0, 2, 0, 0]))
    _, lines = checked(capsys, f"arrays[path={tmp_path}]")
    assert "ok      test groups: 0 3, 2 1" in lines


def test_what_load_says_is_a_problem(capsys, folder):
    (folder / "train/cat/1.png").write_text("no image")
    code, lines = checked(capsys, f"folder[path={folder},size=8]")
    assert code == 2
    assert lines[0].startswith(f"PROBLEM image {folder}/train/cat/1.png is corrupt")
    assert lines[-1].endswith(": 1 problem found")


def test_every_missing_list_is_a_line(capsys, tmp_path):
    (tmp_path / "CUB_200_2011/images").mkdir(parents=True)
    code, lines = checked(capsys, "cub", "--root", str(tmp_path))
    assert code == 2
    assert [line.split()[1].rpartition("/")[2] for line in lines[:-1]] == [
        "images.txt", "image_class_labels.txt", "train_test_split.txt", "classes.txt",
    ]  # fmt: skip
    assert lines[-1] == "cub: 4 problems found"


def test_root_is_refused_where_it_means_nothing(capsys):
    assert main(["data", "check", "digits", "--root", "x"]) == 2
    assert "takes no parameters" in capsys.readouterr().err
