"""An exported set comes back as it was, from every format."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file

from ddbench.benchmark.cli import main
from ddbench.benchmark.commands.merge import FORMATS
from ddbench.benchmark.foreign.write import FORMATS as WRITTEN
from ddbench.benchmark.foreign.write import without_folders
from ddbench.core.sets import DistilledSet, class_labels

NAMES = ("cat", "Löwe/Katze", "..")


@pytest.fixture
def folder(tmp_path):
    made = {"method_spec": "clpdd[tau=0.1]", "dataset": "digits", "ipc": 2, "distill_seed": 0, "dataset_fingerprint": "f" * 64}
    DistilledSet(torch.rand(6, 3, 8, 8), class_labels(3, 2), NAMES, provenance=made).save(tmp_path / "set")
    return tmp_path / "set"


def exported(folder, kind, name="out"):
    out = folder.parent / name
    assert main(["export", str(folder), "--format", kind, "--out", str(out)]) == 0
    return out, DistilledSet.load(folder)


def pngs(folder, dset):
    files = sorted(folder.rglob("*.png"), key=lambda file: file.name)
    assert len({file.parent for file in files}) == 3
    for file, image in zip(files, dset.images, strict=True):
        with Image.open(file) as found:
            assert (np.asarray(found) == (image * 255).round().byte().permute(1, 2, 0).numpy()).all()


def test_the_command_knows_every_format():
    assert tuple(WRITTEN) == FORMATS


def test_an_image_folder_has_a_folder_per_class(folder):
    pngs(*exported(folder, "imagefolder"))


def test_arrays_and_tensors_are_exact(folder):
    out, dset = exported(folder, "npz", "set.npz")
    arrays = np.load(out)
    assert (arrays["images"] == dset.images.numpy()).all()
    assert tuple(arrays["class_names"]) == NAMES
    out, _ = exported(folder, "safetensors", "one.safetensors")
    assert torch.equal(load_file(out)["labels"], dset.labels)


def test_a_hugging_face_folder_has_a_card_whose_lines_run(folder):
    out, dset = exported(folder, "hf")
    pngs(out / "train", dset)
    text = (out / "README.md").read_text()
    _, head, body = text.split("---\n", 2)
    assert yaml.safe_load(head)["license"] == "other"
    assert '"method_spec": "clpdd[tau=0.1]"' in body
    code = body.split("```python\n")[1].split("```")[0].replace("set.safetensors", str(out / "set.safetensors"))
    space: dict = {}
    exec(code, space)
    assert torch.equal(space["images"], dset.images)
    assert json.loads((out / "set.json").read_text())["class_names"] == list(NAMES)


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["set"], "say --format imagefolder|npz"),
        (["set", "--format", "npz"], "is there already"),
        ([".", "--format", "npz"], "none"),
    ],
)
def test_bad_input_is_one_line(folder, argv, words, capsys):
    (folder.parent / "out").mkdir()
    assert main(["export", str(folder.parent / argv[0]), *argv[1:], "--out", str(folder.parent / "out")]) == 2
    assert words in capsys.readouterr().err


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("folder[path=/home/ada/clinic,size=64]", "folder[path=clinic,size=64]"),
        ("neighbors[folder=../ada/sets/x/,of=random]", "neighbors[folder=x,of=random]"),
        ('folder[path="/home/ada/a, b]"]', 'folder[path="a, b]"]'),
        ("duet[also=file[file=C:\\ada\\w.pth,model=x]]", "duet[also=file[file=w.pth,model=x]]"),
        ("duet[also=a[file=~/ada/x]+b[file=ada/y]]", "duet[also=a[file=x]+b[file=y]]"),
        ("1 file is not read: .heic 1 (first /home/ada b/x/1.heic)", "1 file is not read: .heic 1 (first 1.heic)"),
        ("/home/ada/clinic", "clinic"),
        ("timm[model=hf-hub:owner/name]", "timm[model=hf-hub:owner/name]"),
        ("clpdd[tau=0.1]", "clpdd[tau=0.1]"),
        ("see https://host/a/b, and/or c", "see https://host/a/b, and/or c"),
    ],
)
def test_of_paths_only_the_last_name_is_told(said, told):
    assert without_folders(said) == told


def test_no_folder_of_this_machine_goes_up(folder):
    made = {
        "method": "neighbors", "method_spec": "neighbors[folder=private/ada/set]", "params": {"folder": "private/ada/set"},
        "dataset": "folder[path=/home/ada/clinic]", "named_fingerprints": {"mini[weights=/home/ada/w.pth]": "0"},
        "feature_keys": [{"backbone": "mini[weights=/home/ada/w.pth]"}], "dataset_fingerprint": "f" * 64,
    }  # fmt: skip
    replace(DistilledSet.load(folder), provenance=made).save(folder)
    out, dset = exported(folder, "hf")
    told = (out / "set.json").read_text() + (out / "README.md").read_text()
    assert "folder[path=clinic]" in told
    assert "ada" not in told
    assert DistilledSet.load(out).fingerprint() == dset.fingerprint()
    assert json.loads((out / "set.json").read_text())["crc32"]
