"""Labels in a CSV beside a folder: `folder[path=DIR,labels=labels.csv]`."""

import pytest
import torch
from PIL import Image

from ddbench.core.data import DATASETS
from ddbench.core.errors import UserError


@pytest.fixture
def folder(tmp_path):
    """Twenty images in one flat folder whose red value is their number."""
    (tmp_path / "set/pics").mkdir(parents=True)
    for k in range(20):
        Image.new("RGB", (8, 8), (k, 0, 0)).save(tmp_path / f"set/pics/{k}.png")
    return tmp_path / "set"


def load(folder, rows, header="file,label,split", **options):
    (folder / "labels.csv").write_text("\n".join([header, *rows]) + "\n", encoding="utf-8-sig")
    return DATASETS.create("folder", path=folder, labels="labels.csv", size=8, **options).load()


def red(split):
    return split.images[torch.arange(len(split))][:, 0, 0, 0].tolist()


def test_files_labels_and_splits_are_those_of_the_table(folder):
    rows = [f"pics/{k}.png,{'cat' if k % 2 else 'dog'},{'test' if k >= 16 else 'train'}" for k in range(20)]
    data = load(folder, rows)
    assert data.class_names == ("cat", "dog")
    assert (red(data.train), red(data.test)) == (list(range(16)), [16, 17, 18, 19])
    assert data.train.labels.tolist() == [1, 0] * 8
    assert (data.name, data.notes) == ("set", ())


def test_lines_and_paths_of_windows_and_absolute_ones(folder):
    rows = [f"pics\\{k}.png,{k % 2},train\r" for k in range(4)]
    data = load(folder, [*rows, f"{folder}/pics/4.png,0,test\r", "pics/5.png,1,test\r"])
    assert (red(data.train), data.train.labels.tolist(), red(data.test)) == ([0, 1, 2, 3], [0, 1, 0, 1], [4, 5])


@pytest.mark.parametrize("header", ["filename;class", "Path\tTarget"])
def test_other_names_and_separators_and_numbers_in_their_order(folder, header):
    separator = ";" if ";" in header else "\t"
    data = load(folder, [f"pics/{k}.png{separator}{9 + k % 2}" for k in range(20)], header)
    assert (data.class_names, data.class_order) == (("9", "10"), "by number")
    assert (len(data.train), len(data.test)) == (16, 4)
    assert "nothing says which images test: a stratified fifth, by a fixed seed, was split off train" in data.notes


def test_what_the_table_leaves_out_is_counted(folder):
    rows = ["pics/0.png,a,train", "pics/1.png,b,train", "pics/2.png,a,val", "pics/3.png,b,val", "pics/4.png,b,unused"]
    (folder / "notes.txt").write_text("?")
    data = load(folder, rows)
    assert data.name == "set[test=val]"
    assert data.notes[:3] == (
        "1 images of the split unused are not read",
        "15 images are not in labels.csv (first 10.png) and are not read",
        "1 file is not read: .txt 1 (first " + data.notes[2].partition("(first ")[2],
    )


@pytest.mark.parametrize(
    ("rows", "header", "message"),
    [
        (["pics/0.png,a"], "name,label", "has no column 'file', only name, label; the first line names them"),
        (["pics/99.png,a"], "file,label", "labels.csv:2: there is no file pics/99.png in"),
        (["pics/0.png,"], "file,label", "labels.csv:2 has an empty cell"),
        (["pics/0.png,a", "pics/0.png,b"], "file,label", "labels.csv:3 gives pics/0.png a second label or split"),
        (["pics/0.png,a,train"], "file,label,split", "the column split holds train; write train and test"),
        ([], "file,label", "labels.csv has no rows"),
        (["pics/0.png,a,train", "pics/1.png,b,test"], "file,label,split", "class 'b' has no train image; add some"),
    ],
)
def test_mistakes_name_file_and_line(folder, rows, header, message):
    with pytest.raises(UserError, match=message) as error:
        load(folder, rows, header)
    assert "\n" not in str(error.value)


def test_dev_tests_where_there_is_nothing_else(folder):
    data = load(folder, [f"pics/{k}.png,{k % 2},{'train' if k < 4 else 'dev'}" for k in range(6)])
    assert (data.name, red(data.test)) == ("set[test=dev]", [4, 5])


def test_a_table_that_nobody_named_is_pointed_at(folder):
    (folder / "labels.csv").write_text("file,label\n")
    with pytest.raises(UserError, match="has no train/; .*; if labels.csv lists the images, give labels=labels.csv"):
        DATASETS.create("folder", path=folder).load()


def test_a_table_that_is_not_there(folder):
    with pytest.raises(UserError, match="nowhere.csv does not exist; labels= names a CSV with the columns file,label"):
        DATASETS.create("folder", path=folder, labels="nowhere.csv").load()
