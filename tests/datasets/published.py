"""Miniature copies of published sets in their exact layouts: every class, a few images of 8 px."""

import csv
import io
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.io import savemat

SIDE = 8


@cache
def encoded(value: int, kind: str = "JPEG") -> bytes:
    """A grey image of `value` modulo 256."""
    out = io.BytesIO()
    Image.fromarray(np.full((SIDE, SIDE, 3), value % 256, np.uint8)).save(out, kind, quality=95)
    return out.getvalue()


def write(file: Path, value: int) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(encoded(value, "PNG" if file.suffix == ".png" else "JPEG"))


def imagenet(root: Path, wnids, per_class: int = 1) -> Path:
    """Class folders; the grey value of an image is its class index modulo 256."""
    for split in ("train", "val"):
        for index, wnid in enumerate(wnids):
            for k in range(per_class):
                write(root / "imagenet" / split / wnid / f"{wnid}_{k}.JPEG", index)
    return root / "imagenet"


def imagenet_parquet(root: Path, labels, shards: int = 2, group: int = 100) -> Path:
    """Hugging Face's shards; the grey value of an image is its label modulo 256."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder = root / "imagenet" / "data"
    folder.mkdir(parents=True)
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    for split in ("train", "validation"):
        for shard, part in enumerate(np.array_split(np.asarray(labels), shards)):
            images = [{"bytes": encoded(label), "path": f"{split}_{k}.JPEG"} for k, label in enumerate(part.tolist())]
            table = pa.table({"image": pa.array(images, kind), "label": pa.array(part, pa.int64())})
            pq.write_table(table, folder / f"{split}-{shard:05}-of-{shards:05}.parquet", row_group_size=group)
    return folder


def cub(root: Path, classes: int = 200) -> Path:
    """Two train images and one test image of every species."""
    home = root / "CUB_200_2011"
    images, labels, split = [], [], []
    for index in range(classes):
        for k in range(3):
            name = f"{index + 1:03}.Bird_{index}/Bird_{k}.jpg"
            write(home / "images" / name, index)
            images.append(f"{len(images) + 1} {name}")
            labels.append(f"{len(images)} {index + 1}")
            split.append(f"{len(images)} {int(k < 2)}")
    names = [f"{index + 1} {index + 1:03}.Bird_{index}" for index in range(classes)]
    for file, lines in (
        ("images.txt", images),
        ("image_class_labels.txt", labels),
        ("train_test_split.txt", split),
        ("classes.txt", names),
    ):
        (home / file).write_text("\n".join(lines) + "\n")
    return home


def dogs(root: Path, classes: int = 120) -> Path:
    """One train image and one test image of every breed; paths as column vectors of objects, as published."""
    home = root / "stanford_dogs"
    for number, split in enumerate(("train", "test")):
        files = [f"n{index:08}-Breed_{index}/n{index:08}_{number}.jpg" for index in range(classes)]
        for index, file in enumerate(files):
            write(home / "Images" / file, index)
        column = np.array(files, dtype=object)[:, None]
        savemat(home / f"{split}_list.mat", {"file_list": column, "labels": np.arange(1, classes + 1)[:, None]})
    return home


def tinyimagenet(root: Path, classes: int = 200) -> Path:
    """Two train images and one test image of every class; the lists are not in the order of the names."""
    home = root / "tiny-imagenet-200"
    wnids = [f"n{k:08}" for k in range(classes)]
    annotations = []
    for index, wnid in reversed(list(enumerate(wnids))):
        for k in range(2):
            write(home / "train" / wnid / "images" / f"{wnid}_{k}.JPEG", index)
        (home / "train" / wnid / f"{wnid}_boxes.txt").write_text(f"{wnid}_0.JPEG\t0\t0\t7\t7\n")
        write(home / "val" / "images" / f"val_{len(annotations)}.JPEG", index)
        annotations.append(f"val_{len(annotations)}.JPEG\t{wnid}\t0\t0\t7\t7\n")
    (home / "wnids.txt").write_text("\n".join(reversed(wnids)) + "\n")
    (home / "val" / "val_annotations.txt").write_text("".join(annotations))
    return home


STYLES = (
    "art_nouveau", "baroque", "expressionism", "impressionism", "post_impressionism",
    "realism", "renaissance", "romanticism", "surrealism", "ukiyo_e",
)  # fmt: skip


def artbench(root: Path) -> Path:
    home = root / "artbench-10-imagefolder-split"
    for split, count in (("train", 2), ("test", 1)):
        for index, style in enumerate(STYLES):
            for k in range(count):
                write(home / split / style / f"painter_work-{k}.jpg", 20 * index)
    return home


def waterbirds(root: Path) -> Path:
    """Rows (y, place, split); in train all but one image have the bird's own ground."""
    home = root / "waterbirds_v1.0"
    rows = [(0, 0, 0), (0, 0, 0), (1, 1, 0), (1, 0, 0), (0, 1, 1), (0, 0, 2), (0, 1, 2), (1, 0, 2), (1, 1, 2), (0, 0, 2)]
    with_names = []
    for k, (y, place, split) in enumerate(rows):
        name = f"{k + 1:03}.Bird/Bird_{k:04}.jpg"
        write(home / name, 100 * y + 50 * place)
        with_names.append([k + 1, name, y, split, place, f"/o/ocean/{k:08}.jpg"])
    with (home / "metadata.csv").open("w", newline="") as file:
        header = ["img_id", "img_filename", "y", "split", "place", "place_filename"]
        csv.writer(file).writerows([header, *with_names])
    return home


def spawrious(root: Path, per_folder: int = 3) -> Path:
    """All places of all breeds, as in the whole dataset."""
    home = root / "spawrious224"
    for environment in (0, 1):
        for place in ("beach", "desert", "dirt", "jungle", "mountain", "snow"):
            for index, breed in enumerate(("bulldog", "corgi", "dachshund", "labrador")):
                for k in range(per_folder):
                    write(home / str(environment) / place / breed / f"{breed}_{k}.png", 60 * index)
    return home
