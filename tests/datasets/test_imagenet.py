"""ImageNet and its subsets from a 1,000-class tree of tiny JPEGs and from parquet shards in the layout of Hugging Face."""

import builtins

import pytest
import torch

from ddbench.core.data import DATASETS
from ddbench.core.errors import UserError
from ddbench.datasets._imagenet_subsets import SUBSETS
from ddbench.datasets._parquet import missing_shards
from ddbench.datasets.imagenet import _synsets

from . import published


def source(root, **options):
    return DATASETS.create("imagenet", root=root, size=8, **options)


def load(root, **options):
    return source(root, **options).load()


def grey(split):
    """The mean pixel of every image: the class index modulo 256."""
    return split.images[torch.arange(len(split))].float().mean((1, 2, 3)).round().int().tolist()


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """All 1,000 classes, one image each per split."""
    root = tmp_path_factory.mktemp("tree")
    published.imagenet(root, _synsets())
    return root


@pytest.fixture
def parquet(tmp_path):
    """1,000 labels in an order that is not theirs, in two shards of several row groups."""
    pytest.importorskip("pyarrow", reason="parquet needs the extra `parquet`")
    labels = [(7 * k) % 1000 for k in range(1000)]
    published.imagenet_parquet(tmp_path, labels)
    return tmp_path


def test_the_thousand_classes_in_the_order_of_their_names(tree):
    data = load(tree)
    assert (data.num_classes, len(data.train), len(data.test)) == (1000, 1000, 1000)
    assert list(data.class_names) == sorted(data.class_names)
    assert data.class_names[:2] == ("n01440764", "n01443537")
    assert grey(data.test) == [index % 256 for index in range(1000)]


@pytest.mark.parametrize("subset", ["imagenet-100", "imagenet-birds"])
def test_labels_of_a_subset_follow_its_list(tree, subset):
    data, whole = load(tree, subset=subset), _synsets()
    assert data.class_names == tuple(whole[index] for index in SUBSETS[subset])
    assert data.train.labels.tolist() == list(range(len(SUBSETS[subset])))
    assert grey(data.train) == [index % 256 for index in SUBSETS[subset]]


def test_subsets_are_lgms():
    assert {len(classes) for name, classes in SUBSETS.items() if name not in ("imagenet-1k", "imagenet-100")} == {10}
    assert len(set(SUBSETS["imagenet-100"])) == 100
    wnids = [_synsets()[index] for index in SUBSETS["imagenet-100"][:3]]
    assert wnids == ["n02869837", "n01749939", "n02488291"]  # the start of imagenet100.txt, facts of the CMC list


def test_a_subset_needs_only_its_own_folders(tmp_path):
    published.imagenet(tmp_path, [_synsets()[index] for index in SUBSETS["imagenet-cats"]])
    assert load(tmp_path, subset="imagenet-cats").num_classes == 10
    with pytest.raises(UserError, match="train lacks 990 of the 1,000 class folders of imagenet-1k, first n01440764"):
        load(tmp_path)


def test_validation_images_that_are_not_sorted_into_folders(tmp_path):
    wnids = [_synsets()[index] for index in SUBSETS["imagenet-cats"]]
    home = published.imagenet(tmp_path, wnids)
    for wnid in wnids:
        (home / "val" / wnid / f"{wnid}_0.JPEG").rename(home / f"val/{wnid}_0.JPEG")
        (home / "val" / wnid).rmdir()
    with pytest.raises(UserError, match="val lacks 10 of the 10 class folders .*images must be sorted into val/WNID/"):
        load(tmp_path, subset="imagenet-cats")


def test_an_unknown_subset_is_one_line(tmp_path):
    with pytest.raises(UserError, match="unknown ImageNet subset 'imagenet-10': did you mean 'imagenet-1"):
        source(tmp_path, subset="imagenet-10")


def test_missing_imagenet_names_its_folder_and_both_layouts(tmp_path, monkeypatch):
    monkeypatch.setenv("DDBENCH_DATA", str(tmp_path))
    message = f"expected {tmp_path}/imagenet: register at image-net.org .* or download the parquet files"
    with pytest.raises(UserError, match=message):
        DATASETS.create("imagenet").load()
    (tmp_path / "imagenet/train").mkdir(parents=True)
    assert [finding.partition(" is missing")[0] for finding in source(tmp_path).check()] == [f"{tmp_path}/imagenet/val"]


def test_check_knows_how_many_images_there_are(tree):
    found = [finding.partition("imagenet: ")[2] for finding in source(tree).check()]
    assert [finding.split(";")[0] for finding in found] == [
        "1,000 train images instead of 1,281,167",
        "1,000 test images instead of 50,000",
    ]
    found = list(source(tree, subset="imagenet-100").check())
    assert [finding.partition("imagenet: ")[2].split(";")[0] for finding in found] == ["100 test images instead of 5,000"]


def test_a_corrupt_image_is_named(tmp_path):
    home = published.imagenet(tmp_path, [_synsets()[index] for index in SUBSETS["imagenet-cats"]])
    (home / "train/n02123045/n02123045_0.JPEG").write_text("<html>")
    with pytest.raises(UserError, match="n02123045_0.JPEG is corrupt or truncated"):
        load(tmp_path, subset="imagenet-cats")
    assert any("n02123045_0.JPEG cannot be opened" in finding for finding in source(tmp_path, subset="imagenet-cats").check())


@pytest.mark.parametrize("limit", [2, 1e-9])
def test_parquet_gives_the_rows_of_the_subset(parquet, limit):
    data = load(parquet, subset="imagenet-birds", memory_limit_gb=limit)
    assert sorted(data.train.labels.tolist()) == list(range(10))
    assert grey(data.train) == [SUBSETS["imagenet-birds"][label] % 256 for label in data.train.labels.tolist()]
    assert data.class_names == tuple(_synsets()[index] for index in SUBSETS["imagenet-birds"])


def test_parquet_rows_come_in_the_order_asked_for(parquet):
    data = load(parquet, memory_limit_gb=1e-9)
    assert data.train.labels[:3].tolist() == [0, 7, 14]
    asked = torch.tensor([999, 0, 500, 0])
    assert data.train.images[asked].float().mean((1, 2, 3)).round().tolist() == [
        label % 256 for label in data.train.labels[asked].tolist()
    ]


def test_parquet_limits_go_in_rounds_over_the_classes(parquet):
    data = load(parquet, subset="imagenet-birds", test_limit=4)
    assert len(data.test) == 4
    assert grey(data.test) == [SUBSETS["imagenet-birds"][label] % 256 for label in data.test.labels.tolist()]


def test_folders_come_before_parquet(parquet):
    (parquet / "imagenet/train").mkdir()
    with pytest.raises(UserError, match="no val"):
        load(parquet)


def test_a_missing_shard_is_named(parquet):
    (parquet / "imagenet/data/train-00001-of-00002.parquet").unlink()
    (finding,) = source(parquet).check()
    assert finding.endswith("train-00001-of-00002.parquet is missing; download it")
    with pytest.raises(UserError, match="no data/train-00001-of-00002.parquet"):
        load(parquet)


def test_a_split_without_shards_is_named(parquet):
    for file in (parquet / "imagenet/data").glob("validation-*"):
        file.unlink()
    with pytest.raises(UserError, match="no data/validation-"):
        load(parquet)


def test_missing_shards_are_told_from_the_names_of_the_others(tmp_path):
    names = ["train-00000-of-00003.parquet", "train-00002-of-00003.parquet"]
    assert missing_shards([tmp_path / name for name in names]) == ["train-00001-of-00003.parquet"]
    assert missing_shards([tmp_path / "train-0.parquet"]) == []


def test_a_broken_shard_is_named(parquet):
    file = parquet / "imagenet/data/validation-00000-of-00002.parquet"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(UserError, match="parquet file .*validation-00000-of-00002.parquet cannot be read") as error:
        load(parquet)
    assert "\n" not in str(error.value)
    assert list(source(parquet).check()) == [str(error.value)]


def test_a_shard_with_other_columns_is_named(parquet):
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"label": [1]}), parquet / "imagenet/data/train-00000-of-00002.parquet")
    with pytest.raises(UserError, match="has no column 'image.bytes', only label"):
        load(parquet)


def test_labels_outside_the_thousand_are_refused(tmp_path):
    """The test shards of Hugging Face carry -1."""
    pytest.importorskip("pyarrow", reason="parquet needs the extra `parquet`")
    published.imagenet_parquet(tmp_path, [0, -1])
    with pytest.raises(UserError, match="train-.* has labels from -1 to -1 instead of 0 to 999"):
        load(tmp_path)


@pytest.mark.parametrize(("limit", "message"), [(2, "is corrupt or truncated"), (1e-9, "cannot be opened")])
def test_a_corrupt_image_in_parquet_is_named_by_row(tmp_path, monkeypatch, limit, message):
    pytest.importorskip("pyarrow", reason="parquet needs the extra `parquet`")
    good = published.encoded
    monkeypatch.setattr(published, "encoded", lambda label, *kind: b"<html>" if label == 281 else good(label, *kind))
    published.imagenet_parquet(tmp_path, SUBSETS["imagenet-cats"], shards=1)
    with pytest.raises(UserError, match=f"train-00000-of-00001.parquet .row 0 of row group 0. {message}"):
        load(tmp_path, subset="imagenet-cats", memory_limit_gb=limit)


def test_without_pyarrow_the_extra_is_named(tmp_path, monkeypatch):
    (tmp_path / "imagenet/data").mkdir(parents=True)
    for split in ("train", "validation"):
        (tmp_path / f"imagenet/data/{split}-00000-of-00001.parquet").write_bytes(b"PAR1")
    honest = builtins.__import__

    def without(name, *rest):
        if name.startswith("pyarrow"):
            raise ImportError(name)
        return honest(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(UserError, match=r"reading train-00000-of-00001.parquet needs pyarrow: pip install 'pyarrow>=15'"):
        load(tmp_path)
