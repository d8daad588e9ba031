"""Sets that come as shards: WebDataset's tar files, Hugging Face's save_to_disk folders and parquet. All give the same data."""

import io
import json
import shutil
import tarfile

import numpy as np
import pytest
import torch
from PIL import Image

from ddbench.core.data import DATASETS
from ddbench.core.errors import UserError

NAMES = ("cat", "dog")
SPLITS = {"train": range(12), "test": range(12, 16)}


def png(k: int) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (8, 8), (k, 7, 0)).save(out, "PNG")
    return out.getvalue()


def write_tar(file, samples) -> None:
    """Members of (name, bytes)."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(file, "w") as archive:
        for name, content in samples:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))


def tar_shards(root, *, label=lambda k: ("cls", str(k % 2).encode()), splits=SPLITS, name="{split}-{shard:05}.tar"):
    for split, members in splits.items():
        for shard, part in enumerate(np.array_split(np.array(members), 2)):
            samples = [
                pair for k in part for pair in ((f"s/{k:03}.png", png(int(k))), (f"s/{k:03}.{label(k)[0]}", label(k)[1]))
            ]
            write_tar(root / name.format(split=split, shard=shard), samples)
    return root


def saved(root, splits=SPLITS):
    library = pytest.importorskip("datasets", reason="the extra hf is not installed")
    features = library.Features({"image": library.Image(), "label": library.ClassLabel(names=list(NAMES))})
    parts = {
        split: library.Dataset.from_dict(
            {"image": [{"bytes": png(k), "path": None} for k in members], "label": [k % 2 for k in members]}, features
        )
        for split, members in splits.items()
    }
    library.disable_progress_bars()
    library.DatasetDict(parts).save_to_disk(str(root))
    return root


def parquet(root, splits=SPLITS, text=False):
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    (root / "data").mkdir(parents=True)
    for split, members in splits.items():
        images = pa.array(
            [{"bytes": png(k), "path": None} for k in members], pa.struct([("bytes", pa.binary()), ("path", pa.string())])
        )
        labels = [NAMES[k % 2] for k in members] if text else [k % 2 for k in members]
        kinds = {"image": {"_type": "Image"}, "label": {"_type": "ClassLabel", "names": NAMES}}
        table = pa.table({"image": images, "label": labels})
        if not text:
            table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": kinds}})})
        pq.write_table(table, root / f"data/{split}-00000-of-00001.parquet", row_group_size=5)
    return root


def load(name, path, **options):
    return DATASETS.create(name, path=path, size=8, **options).load()


def red(split):
    return split.images[torch.arange(len(split))][:, 0, 0, 0].tolist()


def sources(tmp_path, kind):
    if kind == "tar":
        (tar_shards(tmp_path / "tar") / "classnames.txt").write_text("cat\ndog\n")
        return "webdataset", tmp_path / "tar"
    return "hf", {"saved": saved, "parquet": parquet}[kind](tmp_path / kind)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", ["tar", "saved", "parquet"])
@pytest.mark.parametrize("limit", [2.0, 1e-12])
def test_images_labels_names_and_copies_are_those_of_any_other_source(tmp_path, kind, limit):
    name, path = sources(tmp_path, kind)
    data = load(name, path, memory_limit_gb=limit)
    assert (red(data.train), red(data.test)) == (list(range(12)), [12, 13, 14, 15])
    assert data.train.labels.tolist() == [0, 1] * 6
    assert data.class_names == NAMES
    assert data.notes == ()
    assert data.facts["files"]["train"]["modes"] == {"RGB": 12}
    assert load(name, path, memory_limit_gb=limit).fingerprint == data.fingerprint
    order = torch.tensor([11, 0, 5])
    assert data.train.images[order][:, 0, 0, 0].tolist() == [11, 0, 5]


def test_copies_transparency_and_a_missing_test_split_are_noticed(tmp_path):
    glass = io.BytesIO()
    Image.new("RGBA", (8, 8), (9, 9, 9, 0)).save(glass, "PNG")
    samples = [
        (f"{k}.{kind}", content) for k in range(20) for kind, content in (("png", png(k % 19)), ("cls", b"%d" % (k % 2)))
    ]
    write_tar(tmp_path / "shard.tar", [*samples, ("99.png", glass.getvalue()), ("99.cls", b"0"), ("100.txt", b"?")])
    for limit in (2.0, 1e-12):
        data = load("webdataset", tmp_path / "shard.tar", memory_limit_gb=limit)
        assert (len(data.train), len(data.test), data.name) == (17, 4, "shard")
        told = " / ".join(data.notes)
        assert "1 members are not read: sample without image 1" in told
        assert "a stratified fifth" in told
        assert "transparent pixels, composited on white" in told
        assert data.facts["twins"]["train_copies"] + data.facts["twins"]["test_in_train"] == 1


def test_labels_in_json_and_folders_as_splits(tmp_path):
    tar_shards(tmp_path, label=lambda k: ("json", json.dumps({"label": NAMES[k % 2]}).encode()), name="{split}/{shard}.tar")
    data = load("webdataset", tmp_path)
    assert (data.class_names, data.train.labels.tolist()) == (NAMES, [0, 1] * 6)


def test_text_labels_of_parquet_and_a_validation_split(tmp_path):
    data = load("hf", parquet(tmp_path, {"train": range(12), "validation": range(12, 16)}, text=True))
    assert (data.class_names, data.train.labels.tolist()) == (NAMES, [0, 1] * 6)
    assert data.name.endswith("[test=validation]")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda d: [f.unlink() for f in d.glob("*.tar")], "holds no .tar shards"),
        (lambda d: (d / "train-00000.tar").write_bytes(b"\x1f\x8b" + bytes(600)), "must be an uncompressed tar"),
        (lambda d: (d / "train-00000.tar").write_bytes((d / "train-00000.tar").read_bytes()[:600]), "truncated|uncompressed"),
        (lambda d: write_tar(d / "train-00000.tar", [("a.png", png(0))]), "no sample with an image and a label"),
        (lambda d: write_tar(d / "train-00000.tar", [("a.png", b"?"), ("a.cls", b"0")]), r"train-00000.tar/a.png is corrupt"),
        (lambda d: write_tar(d / "train-00000.tar", [("a.png", png(0)), ("a.cls", bytes(2**21))]), "is no label"),
        (lambda d: write_tar(d / "train-00000.tar", [("a.png", png(0)), ("a.cls", b"--5")]), "names in one split and numbers"),
        (lambda d: [f.rename(d / f"extra-{k}.tar") for k, f in enumerate(d.glob("test*"))], "train and test are due"),
    ],
)
def test_broken_shards_are_one_line(tmp_path, damage, message):
    damage(tar_shards(tmp_path))
    with pytest.raises(UserError, match=message) as error:
        load("webdataset", tmp_path)
    assert "\n" not in str(error.value)


def test_a_column_that_cannot_be_guessed_is_asked_for(tmp_path):
    with pytest.raises(UserError, match=r"which column is the label\? name it with label=; there are: image \(Image\)"):
        load("hf", parquet(tmp_path), label="colour")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="holds neither a dataset of save_to_disk nor .parquet files"):
        load("hf", tmp_path / "empty")


@pytest.mark.parametrize("limit", [2.0, 1e-12])
def test_images_that_rows_name_by_path_are_part_of_the_contents(tmp_path, limit):
    """`save_to_disk` of today embeds them; folders of older versions do not."""
    saved(tmp_path, {"train": range(8)})
    import pyarrow as pa

    (file,) = tmp_path.glob("train/*.arrow")
    table = pa.ipc.open_stream(file.read_bytes()).read_all()
    for k in range(8):
        (tmp_path / f"{k}.png").write_bytes(png(k))
    rows = [{"bytes": png(k) if k < 4 else None, "path": str(tmp_path / f"{k}.png")} for k in range(8)]
    table = table.set_column(0, table.schema.field(0), [pa.array(rows, table.schema.field(0).type)])
    with pa.ipc.new_stream(file, table.schema) as stream:
        stream.write_table(table)
    first = load("hf", tmp_path, memory_limit_gb=limit)
    (tmp_path / "1.png").write_bytes(png(200))  # embedded: not read
    assert load("hf", tmp_path, memory_limit_gb=limit).fingerprint == first.fingerprint
    (tmp_path / "5.png").write_bytes(png(200) + b"longer")
    changed = load("hf", tmp_path, memory_limit_gb=limit)
    assert changed.fingerprint != first.fingerprint
    assert 200 in red(changed.train) + red(changed.test)


def test_telling_which_rows_name_files_gathers_no_image(tmp_path):
    """A folder of `save_to_disk` may be larger than memory."""
    library, pa = pytest.importorskip("datasets", reason="the extra hf is not installed"), pytest.importorskip("pyarrow")
    from ddbench.datasets.hf import ArrowImages

    parts = [(bytes(1 << 20), f"/{k}") for k in range(4)] + [(None, "/4"), (b"", "/5"), (None, None), (b"x", None)]
    column = [pa.array([{"bytes": b, "path": p}], pa.struct({"bytes": pa.binary(), "path": pa.string()})) for b, p in parts]
    rows = library.Dataset(pa.table({"image": pa.chunked_array(column)}))
    images = ArrowImages(rows, np.array([5, 0, 1, 2, 4, 6, 7]), "image", 8)
    pool, usual = pa.proxy_memory_pool(pa.default_memory_pool()), pa.default_memory_pool()
    pa.set_memory_pool(pool)
    try:
        assert [str(path) for path in images._outside] == ["/5", "/4"]
    finally:
        pa.set_memory_pool(usual)
    assert pool.max_memory() < 1 << 19
    assert images._outside is images._outside


def test_packed_shards_and_links_are_counted_and_hard_links_read(tmp_path):
    tar_shards(tmp_path)
    (tmp_path / "train-00002.tar.gz").write_bytes(b"?")
    with tarfile.open(tmp_path / "train-00003.tar", "w") as archive:
        for name, kind, target in (
            ("a.png", None, ""),
            ("b.png", tarfile.LNKTYPE, "a.png"),
            ("c.png", tarfile.SYMTYPE, "a.png"),
        ):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind or tarfile.REGTYPE, target
            content = b"" if kind else png(99)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
            label = tarfile.TarInfo(f"{name[0]}.cls")
            label.size = 1
            archive.addfile(label, io.BytesIO(b"1"))
    data = load("webdataset", tmp_path)
    assert red(data.train)[-2:] == [99, 99]
    (line,) = (note for note in data.notes if note.startswith("1 file is not read: .gz 1 (first "))
    assert line.endswith("/train-00002.tar.gz); unpack or convert to .tar what should be")
    assert data.facts["unread"] == [str(tmp_path / "train-00002.tar.gz")]
    assert "train: 2 members are not read: link 1, sample without image 1" in data.notes


@pytest.mark.parametrize("kind", ["saved", "parquet"])
def test_class_names_of_the_splits_that_are_read_must_agree(tmp_path, kind):
    """Numbers are places among them: other names, or another order, would be another label."""
    pytest.importorskip("datasets", reason="the extra hf is not installed")
    parts = {"train": ["cat", "dog"], "test": ["dog", "cat"], "unsupervised": ["none"]}
    for split, names in parts.items():
        write_split(tmp_path, kind, split, names)
    (tmp_path / "dataset_dict.json").write_text(json.dumps({"splits": list(parts)})) if kind == "saved" else None
    with pytest.raises(UserError, match="class names of t.* are not those of t.*, in their order"):
        load("hf", tmp_path)
    write_split(tmp_path, kind, "test", ["cat", "dog"])
    assert load("hf", tmp_path).class_names == NAMES


def write_split(root, kind, split, names):
    import datasets as library

    library.disable_progress_bars()
    features = library.Features({"image": library.Image(), "label": library.ClassLabel(names=names)})
    rows = {"image": [{"bytes": png(len(split) + k), "path": None} for k in (0, 1)], "label": [k % len(names) for k in (0, 1)]}
    part = library.Dataset.from_dict(rows, features)
    if kind == "saved":
        shutil.rmtree(root / split, ignore_errors=True)
        part.save_to_disk(str(root / split))
    else:
        part.to_parquet(str(root / f"{split}-00000-of-00001.parquet"))


def test_two_image_columns_of_a_file_are_two_contents(tmp_path):
    from ddbench.datasets._parquet import ParquetImages

    file = tmp_path / "a.parquet"
    file.write_bytes(b"any")
    places = np.zeros((1, 3), dtype=np.int64)
    left, right = (ParquetImages(files=[file], places=places, size=8, column=column) for column in ("left", "right"))
    assert left.content_key() != right.content_key()
    assert left.stamp_key() != right.stamp_key()
