"""Sets made elsewhere: four forms, every range of pixel values, the warning about double normalisation, the same records."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from ddbench.benchmark.cli import main
from ddbench.benchmark.commands import evaluate
from ddbench.benchmark.foreign.evaluate import given_cell
from ddbench.benchmark.foreign.read import PIXELS, read_external
from ddbench.core.backbone import IMAGENET_MEAN, IMAGENET_STD
from ddbench.core.errors import UserError
from ddbench.core.method import METHODS
from ddbench.core.sets import DistilledSet

MEAN, STD = (torch.tensor(v).view(1, 3, 1, 1) for v in (IMAGENET_MEAN, IMAGENET_STD))

CLIP_MEAN = torch.tensor([0.4815, 0.4578, 0.4082]).view(1, 3, 1, 1)
CLIP_STD = torch.tensor([0.2686, 0.2613, 0.2758]).view(1, 3, 1, 1)


@pytest.fixture
def images():
    """Six images with black and white pixels in them, multiples of 1/255."""
    drawn = torch.randint(0, 256, (6, 3, 8, 8), generator=torch.Generator().manual_seed(0))
    drawn[0, :, 0, 0], drawn[0, :, 0, 1] = 0, 255
    return drawn.float() / 255


LABELS = torch.tensor([0, 1, 2, 0, 1, 2])


def saved(folder, form: str, images, labels=LABELS):
    path = folder / f"set.{form}"
    if form == "npz":
        np.savez(path, images=images.numpy(), labels=labels.numpy())
    elif form == "safetensors":
        save_file({"images": images.contiguous(), "labels": labels}, path)
    else:
        torch.save({"images": images, "labels": labels}, path)  # what LGM's released code writes as data.pth
    return path


def image_folder(path, images, names=("a", "b", "c")):
    for index, label in enumerate(LABELS.tolist()):
        (path / names[label]).mkdir(parents=True, exist_ok=True)
        pixels = (images[index] * 255).round().byte().permute(1, 2, 0).numpy()
        Image.fromarray(pixels).save(path / names[label] / f"{index}.png")
    return path


@pytest.mark.parametrize("form", ["npz", "safetensors", "pth"])
def test_a_file_holds_images_and_labels(form, images, data, tmp_path):
    dset, warnings = read_external(saved(tmp_path, form, images), data)
    assert torch.allclose(dset.images, images)
    assert torch.equal(dset.labels, LABELS)
    assert dset.class_names == data.class_names
    assert warnings == []


@pytest.mark.parametrize("names", [("a", "b", "c"), ("0", "1", "2")])
def test_an_image_folder_is_read_by_class_name_or_number(names, images, data, tmp_path):
    dset, warnings = read_external(image_folder(tmp_path / "set", images, names), data)
    order = LABELS.argsort(stable=True)
    assert torch.equal(dset.labels, LABELS[order])
    assert torch.allclose(dset.images, images[order])
    assert warnings == []


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        (lambda x: (x - MEAN) / STD, "imagenet"),
        (lambda x: x * 2 - 1, "half"),
        (lambda x: (x - CLIP_MEAN) / CLIP_STD, "clip"),
    ],
)
def test_normalised_images_are_told_and_undone(change, kind, images, data, tmp_path):
    dset, (warning,) = read_external(saved(tmp_path, "pth", change(images)), data)
    assert "already normalised" in warning
    assert kind in warning
    assert "mean" in warning
    assert (dset.images - images).abs().max() < 0.03


@pytest.mark.parametrize(("change", "dtype"), [(255, torch.uint8), (255, torch.float32)])
def test_bytes_are_recognised_without_a_warning(change, dtype, images, data, tmp_path):
    dset, warnings = read_external(saved(tmp_path, "npz", (images * change).round().to(dtype)), data)
    assert torch.allclose(dset.images, images, atol=1e-6)
    assert warnings == []


def test_channels_last_are_recognised(images, data, tmp_path):
    dset, _ = read_external(saved(tmp_path, "npz", images.permute(0, 2, 3, 1)), data)
    assert torch.allclose(dset.images, images)


def test_pixels_overrule_what_the_values_look_like(images, data, tmp_path):
    dim = images * 0.2 + 0.4  # so little contrast that x * 2 - 1 explains the normalised values better
    path = saved(tmp_path, "pth", (dim - MEAN) / STD)
    assert torch.allclose(read_external(path, data, "imagenet")[0].images, dim, atol=1e-5)
    assert not torch.allclose(read_external(path, data)[0].images, dim, atol=0.1)


def test_undoing_what_was_never_done_is_told(images, data, tmp_path):
    _, (warning,) = read_external(saved(tmp_path, "pth", images), data, "imagenet")
    assert "already in [0, 1]" in warning


def test_normalised_images_given_as_unit_are_refused_with_the_cure(images, data, tmp_path):
    with pytest.raises(UserError, match=r"outside \[0, 1\]; they look normalised with imagenet statistics"):
        read_external(saved(tmp_path, "pth", (images - MEAN) / STD), data, "unit")


def message(path, data, pixels="auto") -> str:
    with pytest.raises(UserError) as error:
        read_external(path, data, pixels)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_values_that_fit_nothing_ask_for_pixels(images, data, tmp_path):
    assert "--pixels unit|byte" in message(saved(tmp_path, "pth", images * 9 - 4), data)
    assert "not finite" in message(saved(tmp_path, "pth", images / 0), data)


def test_what_cannot_be_a_set_is_one_line(images, data, tmp_path):
    assert "label 9, but tiny has 3 classes" in message(saved(tmp_path, "npz", images, LABELS + 7), data)
    assert "6 images and 5 labels" in message(saved(tmp_path, "npz", images, LABELS[:5]), data)
    assert "(6, 8, 8)" in message(saved(tmp_path, "npz", images[:, 0]), data)
    np.savez(tmp_path / "other.npz", x=np.zeros(3))
    assert "no 'images', only x" in message(tmp_path / "other.npz", data)
    (tmp_path / "set.txt").touch()
    assert "give a set folder" in message(tmp_path / "set.txt", data)


def test_a_folder_of_other_classes_or_sizes_is_one_line(images, data, tmp_path):
    assert "'cat' is no class of tiny (a, b, c" in message(image_folder(tmp_path / "x", images, ("cat", "b", "c")), data)
    mixed = image_folder(tmp_path / "y", images)
    Image.new("RGB", (4, 4)).save(mixed / "a" / "small.png")
    assert "several sizes (4x4 and 8x8)" in message(mixed, data)
    (mixed / "a" / "small.png").write_bytes(b"no image")
    assert "small.png is corrupt" in message(mixed, data)


class Trap:
    sprung = False

    def __reduce__(self):
        return setattr, (Trap, "sprung", True)


def test_a_pth_is_never_unpickled(data, tmp_path):
    torch.save({"images": torch.rand(3, 3, 8, 8), "labels": torch.arange(3), "trap": Trap()}, tmp_path / "data.pth")
    assert "Python objects besides tensors" in message(tmp_path / "data.pth", data)
    assert not Trap.sprung


def test_the_command_offers_every_kind_of_pixels():
    assert evaluate.PIXELS == PIXELS


ARGS = ("-b", "fake_net", "-d", "fake_data", "--protocol", "fake_probe")


def test_the_command_warns_on_one_line_and_prints_the_accuracy(images, fake_plugins, tmp_path, capsys):
    path = saved(tmp_path, "pth", (images - MEAN) / STD)
    assert main(["evaluate", str(path), *ARGS, "--plugin", str(fake_plugins)]) == 0
    printed = capsys.readouterr()
    (warning,) = printed.err.splitlines()
    assert warning.startswith("ddbench: warning: ")
    assert "% top-1" in printed.out


def test_its_records_are_those_of_a_run_and_a_second_call_adds_none(images, fake_plugins, tmp_path, capsys):
    path, out = saved(tmp_path, "pth", images), tmp_path / "out"
    argv = ["evaluate", str(path), *ARGS, "--out", str(out), "--plugin", str(fake_plugins)]
    assert main(argv) == 0
    assert "[file=set.pth]" in capsys.readouterr().out
    assert main(argv) == 0
    (record,) = [json.loads(line) for line in (out / "records.jsonl").read_text().splitlines()]
    assert (record["status"], record["method"], record["ipc"], record["n_images"]) == ("ok", "external", 2, 6)
    assert record["environment"]["torch_version"]
    assert main(["table", str(out)]) == 0


def test_a_set_of_a_run_keeps_its_method_when_it_is_evaluated_again(fake_plugins, tmp_path, capsys):
    run = ["run", "-m", "fake", "-b", "fake_net", "--eval-backbone", "fake_net", "-d", "fake_data", "--protocol", "fake_probe"]
    plugin = ["--plugin", str(fake_plugins)]
    assert main([*run, "--no-controls", "--out", str(tmp_path / "run"), *plugin]) == 0
    (folder,) = (tmp_path / "run" / "sets").iterdir()
    assert main(["evaluate", str(folder), *ARGS, "--out", str(tmp_path / "again"), *plugin]) == 0
    first, again = (json.loads((tmp_path / name / "records.jsonl").read_text()) for name in ("run", "again"))
    assert first["config_hash"] == again["config_hash"]
    assert first["top1"] == again["top1"]


def test_a_set_of_other_classes_gets_no_records(fake_plugins, tmp_path, capsys):
    DistilledSet(torch.rand(2, 3, 8, 8), torch.tensor([0, 1]), ("cat", "dog")).save(tmp_path / "set")
    out = ["--out", str(tmp_path / "out"), "--plugin", str(fake_plugins)]
    assert main(["evaluate", str(tmp_path / "set"), *ARGS, *out]) == 2
    assert "the set has other classes than" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_protocol_without_a_backbone_judges_a_set_once(data, backbone, run):
    dset = METHODS.create("teacher_random").distill(backbone, data, 1, run=run)
    cell, _ = given_cell(dset, "set", "digits", ["ssl-pretrain[steps=1]"], ["mini_vit_mae", "mini_vit_simclr"], "cpu")
    assert [evaluation.eval_backbone for evaluation in cell.evaluations] == [None]


def test_images_of_a_set_of_ours_read_back_as_an_image_folder(images, data, tmp_path):
    DistilledSet(images, LABELS, data.class_names).save(tmp_path / "set")
    dset, _ = read_external(tmp_path / "set" / "images", data)
    assert torch.allclose(dset.images, images[LABELS.argsort(stable=True)])
