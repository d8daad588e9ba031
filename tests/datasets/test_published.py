"""Published sets in miniature trees of their exact layouts: splits, labels, groups, and what is said of damage."""

import numpy as np
import pytest
import torch
from scipy.io import savemat

from ddbench.core.data import DATASETS
from ddbench.core.errors import UserError
from ddbench.datasets import spurious

from . import published

WRITERS = {
    "cub": published.cub,
    "dogs": published.dogs,
    "tinyimagenet": published.tinyimagenet,
    "artbench": published.artbench,
    "waterbirds": published.waterbirds,
    "spawrious": published.spawrious,
}


def source(name, root, **options):
    return DATASETS.create(name, root=root, size=8, **options)


def load(name, root, **options):
    return source(name, root, **options).load()


def grey(split):
    """The mean pixel of every image, which says what the writer put there."""
    return split.images[torch.arange(len(split))].float().mean((1, 2, 3)).round()


def one_line(error) -> str:
    assert "\n" not in str(error.value)
    return str(error.value)


def test_cub_follows_its_split_file_and_takes_class_names_from_classes_txt(tmp_path):
    published.cub(tmp_path)
    data = load("cub", tmp_path)
    assert (len(data.train), len(data.test), data.num_classes) == (400, 200, 200)
    assert data.class_names[7] == "Bird_7"
    assert torch.equal(grey(data.train), data.train.labels.float())
    assert torch.equal(data.test.labels, torch.arange(200))


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("image_class_labels.txt", "1 1\n", "image_class_labels.txt has no line for image 2; unpack the set again"),
        ("train_test_split.txt", "", "train_test_split.txt is empty"),
        ("images.txt", "1\n", "images.txt:1 is '1' instead of two words"),
        ("classes.txt", "1 001.Bird_0\n", "gives image 4 the class 2, which has no name"),
    ],
)
def test_a_damaged_list_of_cub_is_named(tmp_path, file, content, message):
    (published.cub(tmp_path, classes=3) / file).write_text(content)
    with pytest.raises(UserError, match=message) as error:
        load("cub", tmp_path)
    one_line(error)


def test_a_set_with_too_few_classes_is_not_the_published_one(tmp_path):
    published.cub(tmp_path, classes=199)
    with pytest.raises(UserError, match="CUB_200_2011 holds 199 classes instead of 200; unpack it again"):
        load("cub", tmp_path)


def test_dogs_read_the_published_mat_lists(tmp_path):
    published.dogs(tmp_path)
    data = load("dogs", tmp_path)
    assert (len(data.train), len(data.test), data.num_classes) == (120, 120, 120)
    assert data.class_names[3] == "Breed_3"
    assert torch.equal(grey(data.test), data.test.labels.float())


def test_a_damaged_mat_list_is_named(tmp_path):
    home = published.dogs(tmp_path, classes=3)
    savemat(home / "train_list.mat", {"file_list": np.array(["a/b.jpg", "a/c.jpg"], dtype=object), "labels": [1, 2, 3]})
    with pytest.raises(UserError, match="train_list.mat: labels do not fit its 2 files"):
        load("dogs", tmp_path)
    (home / "train_list.mat").write_bytes(b"MATLAB 5.0")
    with pytest.raises(UserError, match="train_list.mat cannot be read: .*unpack lists.tar again") as error:
        load("dogs", tmp_path)
    one_line(error)


def test_tinyimagenet_reads_its_annotations_for_the_test_split(tmp_path):
    published.tinyimagenet(tmp_path)
    data = load("tinyimagenet", tmp_path)
    assert (len(data.train), len(data.test), data.num_classes) == (400, 200, 200)
    assert data.class_names[7] == "n00000007"
    assert data.test.labels.tolist() == list(reversed(range(200)))
    for split in (data.train, data.test):
        assert torch.equal(grey(split), split.labels.float())


@pytest.mark.parametrize("line", ["val_0.JPEG", "val_0.JPEG\tn99999999\t0\t0\t7\t7"])
def test_a_damaged_line_of_tinyimagenet_is_named(tmp_path, line):
    (published.tinyimagenet(tmp_path) / "val" / "val_annotations.txt").write_text(line)
    with pytest.raises(UserError, match="val_annotations.txt:1 is 'val_0.JPEG.*' instead of FILE WNID") as error:
        load("tinyimagenet", tmp_path)
    one_line(error)


def test_artbench(tmp_path):
    published.artbench(tmp_path)
    data = load("artbench", tmp_path)
    assert (len(data.train), len(data.test)) == (20, 10)
    assert data.class_names == published.STYLES
    assert data.test.labels.tolist() == list(range(10))


def test_waterbirds_have_official_splits_and_four_groups(tmp_path):
    """The validation split is not read; the group is 2 y + place."""
    published.waterbirds(tmp_path)
    data = load("waterbirds", tmp_path)
    assert data.class_names == ("landbird", "waterbird")
    assert data.group_names == ("landbird on land", "landbird on water", "waterbird on land", "waterbird on water")
    assert data.train.labels.tolist() == [0, 0, 1, 1]
    assert data.train.groups.tolist() == [0, 0, 3, 2]
    assert data.test.groups.tolist() == [0, 1, 2, 3, 0]
    assert torch.equal(grey(data.test), torch.tensor([0.0, 50, 100, 150, 0]))


def test_groups_follow_a_limit_and_change_the_fingerprint(tmp_path):
    home = published.waterbirds(tmp_path)
    part = load("waterbirds", tmp_path, train_limit=2)
    assert part.train.labels.tolist() == [0, 1]
    assert part.train.groups.tolist() == [0, 3]
    before = load("waterbirds", tmp_path).fingerprint
    text = (home / "metadata.csv").read_text()
    (home / "metadata.csv").write_text(text.replace("1,001.Bird/Bird_0000.jpg,0,0,0", "1,001.Bird/Bird_0000.jpg,0,0,1"))
    assert load("waterbirds", tmp_path).fingerprint != before


def test_holdout_of_a_set_with_groups_keeps_their_names(tmp_path):
    published.waterbirds(tmp_path)
    spec = f"waterbirds[root={tmp_path},size=8]"
    data = DATASETS.create("holdout", data=spec, fraction=0.5).load()
    assert len(data.group_names) == 4
    assert len(data.test.groups) == len(data.test)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("img_filename", "file", "metadata.csv has no column 'img_filename'"),
        ("Bird_0001.jpg,0,0", "Bird_0001.jpg,7,0", "metadata.csv:3: y and place must be 0 or 1"),
    ],
)
def test_damaged_metadata_is_named(tmp_path, old, new, message):
    file = published.waterbirds(tmp_path) / "metadata.csv"
    file.write_text(file.read_text().replace(old, new))
    with pytest.raises(UserError, match=message):
        load("waterbirds", tmp_path)


@pytest.mark.usefixtures("three_dogs")
def test_spawrious_o2o_hard(tmp_path):
    """2 and 1 images of the own place, the rest of 3 on the beach; the test place is another breed's."""
    published.spawrious(tmp_path)
    data = load("spawrious", tmp_path)
    assert data.class_names == ("bulldog", "corgi", "dachshund", "labrador")
    assert (len(data.train), len(data.test)) == (24, 24)

    def places(split):
        names = [data.group_names[group] for group in split.groups.tolist()]
        return {name: names.count(name) for name in names}

    own = ("bulldog in jungle", "corgi in desert", "dachshund in mountain", "labrador in snow")
    beach = tuple(f"{breed} in beach" for breed in data.class_names)
    assert places(data.train) == dict.fromkeys(own + beach, 3)
    shifted = ("bulldog in mountain", "corgi in jungle", "dachshund in snow", "labrador in desert")
    assert places(data.test) == dict.fromkeys(shifted, 6)
    assert torch.equal(grey(data.train), 60.0 * data.train.labels)


def test_spawrious_takes_the_published_numbers_of_images():
    assert [spurious._PER_FOLDER - count for count in spurious._CORRELATED] == [96, 412]
    assert spurious.Spawrious.images == (25_344, 25_344)


@pytest.mark.parametrize("name", WRITERS)
def test_a_folder_that_is_not_there_names_the_place_and_the_cure(name, tmp_path):
    with pytest.raises(
        UserError, match=f"{name} is missing or corrupt under {tmp_path} .no such folder.; expected {tmp_path}/"
    ):
        load(name, tmp_path)
    for finding in source(name, tmp_path).check():
        assert "is missing: " in finding


@pytest.mark.parametrize(
    ("name", "gone"),
    [
        ("cub", "train_test_split.txt"),
        ("dogs", "test_list.mat"),
        ("artbench", "test"),
        ("waterbirds", "metadata.csv"),
        ("spawrious", "1/beach/corgi"),
    ],
)
def test_a_missing_list_or_folder_is_named(name, gone, tmp_path):
    home = WRITERS[name](tmp_path)
    (home / gone).rename(tmp_path / "away")
    with pytest.raises(UserError, match=f"no {gone}") as error:
        load(name, tmp_path)
    one_line(error)
    assert [finding.partition(" is missing")[0] for finding in source(name, tmp_path).check()] == [str(home / gone)]


@pytest.fixture
def three_dogs(monkeypatch):
    """Spawrious with 3 images per folder."""
    monkeypatch.setattr(spurious, "_CORRELATED", (2, 1))
    monkeypatch.setattr(spurious, "_PER_FOLDER", 3)


@pytest.mark.usefixtures("three_dogs")
@pytest.mark.parametrize("name", WRITERS)
def test_check_compares_the_numbers_of_images_with_the_published_ones(name, tmp_path, monkeypatch):
    WRITERS[name](tmp_path)
    mini = source(name, tmp_path)
    due = mini.images
    assert [finding.rpartition(" instead of ")[2].split(";")[0] for finding in mini.check()] == [f"{n:,}" for n in due]
    train, test, _ = mini.listing()
    monkeypatch.setattr(type(mini), "images", (len(train.files), len(test.files)))
    assert list(mini.check()) == []


@pytest.mark.parametrize("name", ["cub", "dogs", "waterbirds"])
def test_check_names_every_image_of_the_lists_that_is_missing_or_none(name, tmp_path, monkeypatch):
    WRITERS[name](tmp_path)
    mini = source(name, tmp_path)
    train, test, _ = mini.listing()
    monkeypatch.setattr(type(mini), "images", (len(train.files), len(test.files)))
    train.files[0].unlink()
    test.files[1].write_text("<html>404</html>")
    first, second = mini.check()
    assert first.startswith(f"image {train.files[0]} is missing")
    assert second.startswith(f"image {test.files[1]} cannot be opened")


def test_many_bad_files_are_counted(tmp_path):
    home = published.artbench(tmp_path)
    for file in home.rglob("*.jpg"):
        file.write_text("lost")
    found = list(source("artbench", tmp_path).check())
    assert len(found) == 2 + 20 + 1
    assert found[-1] == "10 more images are missing or cannot be opened"


def test_a_truncated_image_is_named_when_it_is_decoded(tmp_path):
    file = published.waterbirds(tmp_path) / "001.Bird/Bird_0000.jpg"
    file.write_bytes(file.read_bytes()[:-40])
    with pytest.raises(UserError, match="Bird_0000.jpg is corrupt or truncated"):
        load("waterbirds", tmp_path)
