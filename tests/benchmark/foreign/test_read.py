"""Sets made elsewhere: four forms, every range of pixel values, the warning about double normalisation, the same records."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from ddbench.benchmark import api
from ddbench.benchmark.cli import main
from ddbench.benchmark.commands import evaluate
from ddbench.benchmark.foreign.evaluate import given_cell, store
from ddbench.benchmark.foreign.fit import check_classes
from ddbench.benchmark.foreign.read import PIXELS, read_external
from ddbench.benchmark.records.set_facts import SetFacts
from ddbench.core.backbone import IMAGENET_MEAN, IMAGENET_STD
from ddbench.core.data import DATASETS
from ddbench.core.errors import UserError
from ddbench.core.method import METHODS, PROTOCOLS
from ddbench.core.sets import DistilledSet, class_labels
from ddbench.evaluation._features import class_targets

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
ORDER = "numbers were taken for the classes of tiny (as published): 0 is 'a', 1 is 'b', 2 is 'c'"


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
    assert warnings == [ORDER]


@pytest.mark.parametrize("names", [("a", "b", "c"), ("0", "1", "2")])
def test_an_image_folder_is_read_by_class_name_or_number(names, images, data, tmp_path):
    dset, warnings = read_external(image_folder(tmp_path / "set", images, names), data)
    order = LABELS.argsort(stable=True)
    assert torch.equal(dset.labels, LABELS[order])
    assert torch.allclose(dset.images, images[order])
    assert warnings == ([ORDER] if names[0] == "0" else [])


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        (lambda x: (x - MEAN) / STD, "imagenet"),
        (lambda x: x * 2 - 1, "half"),
        (lambda x: (x - CLIP_MEAN) / CLIP_STD, "clip"),
    ],
)
def test_normalised_images_are_told_and_undone(change, kind, images, data, tmp_path):
    dset, (_, warning) = read_external(saved(tmp_path, "pth", change(images)), data)
    assert "already normalised" in warning
    assert kind in warning
    assert "mean" in warning
    assert (dset.images - images).abs().max() < 0.03


@pytest.mark.parametrize(("change", "dtype"), [(255, torch.uint8), (255, torch.float32)])
def test_bytes_are_recognised_without_a_warning(change, dtype, images, data, tmp_path):
    dset, warnings = read_external(saved(tmp_path, "npz", (images * change).round().to(dtype)), data)
    assert torch.allclose(dset.images, images, atol=1e-6)
    assert warnings == [ORDER]


def test_channels_last_are_recognised(images, data, tmp_path):
    dset, _ = read_external(saved(tmp_path, "npz", images.permute(0, 2, 3, 1)), data)
    assert torch.allclose(dset.images, images)


def test_pixels_overrule_what_the_values_look_like(images, data, tmp_path):
    dim = images * 0.2 + 0.4  # so little contrast that x * 2 - 1 explains the normalised values better
    path = saved(tmp_path, "pth", (dim - MEAN) / STD)
    assert torch.allclose(read_external(path, data, "imagenet")[0].images, dim, atol=1e-5)
    assert not torch.allclose(read_external(path, data)[0].images, dim, atol=0.1)


def test_undoing_what_was_never_done_is_told(images, data, tmp_path):
    _, (_, warning) = read_external(saved(tmp_path, "pth", images), data, "imagenet")
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
    assert "(6, 8)" in message(saved(tmp_path, "npz", images[:, 0, 0]), data)
    assert "(6, 3, 0, 8)" in message(saved(tmp_path, "npz", images[:, :, :0]), data)
    assert "no labels; save both: torch.save((images, labels)" in message(torch_file(tmp_path, images), data)
    assert "holds a list of 3" in message(torch_file(tmp_path, (images, LABELS, 1)), data)
    np.savez(tmp_path / "other.npz", x=np.zeros(3))
    assert "no 'labels', only x" in message(tmp_path / "other.npz", data)
    (tmp_path / "set.txt").touch()
    assert "give a set folder" in message(tmp_path / "set.txt", data)


def test_a_folder_of_other_classes_or_sizes_is_one_line(images, data, tmp_path):
    assert "'cat' is no class of tiny (a, b, c" in message(image_folder(tmp_path / "x", images, ("cat", "b", "c")), data)
    mixed = image_folder(tmp_path / "y", images)
    Image.new("RGB", (4, 4)).save(mixed / "a" / "small.png")
    assert "several sizes (4x4 and 8x8)" in message(mixed, data)
    (mixed / "a" / "small.png").write_bytes(b"no image")
    assert "small.png is corrupt" in message(mixed, data)


def torch_file(folder, content):
    torch.save(content, folder / "set.pt")
    return folder / "set.pt"


@pytest.mark.parametrize(
    "content",
    [
        lambda x, y: (x, y),
        lambda x, y: [x, y],
        lambda x, y: {"image_syn": x, "label_syn": y, "lr": 0.01},
        lambda x, y: {"state": {"x": x, "y": y}},
        lambda x, y: (x.requires_grad_(), y.float()[:, None]),
        lambda x, y: (x.half(), torch.eye(3)[y]),
        lambda x, y: (x[:, :1].expand(-1, 3, -1, -1).clone(), y.to(torch.uint64)),
    ],
)
def test_torch_files_as_distillation_code_writes_them(content, images, data, tmp_path):
    images = images[:, :1].expand(-1, 3, -1, -1).contiguous()
    dset, _ = read_external(torch_file(tmp_path, content(images.clone(), LABELS)), data)
    assert torch.allclose(dset.images, images, atol=1e-3)
    assert dset.labels.tolist() == LABELS.tolist()
    assert not dset.images.requires_grad


def test_arrays_of_other_names_are_given_by_name(images, data, tmp_path):
    path = torch_file(tmp_path, {"pics": images, "who": LABELS})
    assert "no 'images', only pics, who; name the array with --images KEY" in message(path, data)
    assert len(read_external(path, data, images="pics", labels="who")[0]) == 6
    with pytest.raises(UserError, match="no 'wha', only pics, who; name the array with --labels KEY"):
        read_external(path, data, images="pics", labels="wha")


def test_soft_labels_are_trained_on(images, data, tmp_path):
    soft = torch.softmax(torch.randn(6, 3, generator=torch.Generator().manual_seed(0)), 1)
    dset, notes = read_external(torch_file(tmp_path, (images, soft)), data)
    assert torch.equal(class_targets(dset), soft)
    assert torch.equal(dset.labels, soft.argmax(1))
    assert notes[0] == "labels are class probabilities: probes are trained on them"
    assert "if they are logits, save softmax(labels)" in message(torch_file(tmp_path, (images, soft.log())), data)
    assert "probabilities of 2 classes" in message(torch_file(tmp_path, (images, torch.full((6, 2), 0.5))), data)


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (np.array(["a", "b", "c"])[LABELS], LABELS.tolist()),
        (LABELS.numpy().astype(">i8"), LABELS.tolist()),
        (LABELS.numpy().astype(np.uint64), LABELS.tolist()),
        (LABELS.numpy() - 1, "2 labels are below 0"),
        (LABELS.numpy() + 0.5, "labels are fractions"),
        (LABELS.numpy() + 2**60, "label 1152921504606846978, but tiny has 3 classes"),
        (np.array(["a", "b", "x"])[LABELS], "'x' is no class of tiny (a, b, c)"),
        (np.array([{}] * 6, dtype=object), "allow_pickle"),
    ],
)
def test_labels_of_every_kind_are_read_or_refused(labels, expected, images, data, tmp_path):
    np.savez(tmp_path / "set.npz", images=images.numpy().astype(">f4"), labels=labels)
    if isinstance(expected, str):
        assert expected in message(tmp_path / "set.npz", data)
    else:
        assert read_external(tmp_path / "set.npz", data)[0].labels.tolist() == expected


def test_numbers_that_are_the_names_of_classes_mean_those(images, data, tmp_path):
    named = dataclasses.replace(data, class_names=("3", "7", "19"))
    np.savez(tmp_path / "set.npz", images=images.numpy(), labels=np.array([3, 7, 19])[LABELS])
    dset, notes = read_external(tmp_path / "set.npz", named)
    assert dset.labels.tolist() == LABELS.tolist()
    assert notes == ["labels are the numbers that the classes are named by"]


def test_numbers_say_which_class_each_was_taken_for(images, data, tmp_path):
    """Twelve folders, whose order as text and as numbers differ: the set as arrays and as a folder is the same set."""
    many = dataclasses.replace(data, class_names=tuple(map(str, range(12))))
    pixels, numbers = images.repeat(2, 1, 1, 1), torch.arange(12)
    np.savez(tmp_path / "set.npz", images=pixels.numpy(), labels=numbers.numpy())
    for k, image in enumerate(pixels):
        (tmp_path / f"set/{k}").mkdir(parents=True)
        Image.fromarray((image * 255).round().byte().permute(1, 2, 0).numpy()).save(tmp_path / f"set/{k}/x.png")
    (arrays, notes), (folder, _) = (read_external(tmp_path / name, many) for name in ("set.npz", "set"))
    assert arrays.labels.tolist() == folder.labels.tolist() == numbers.tolist()
    assert torch.equal(arrays.images, folder.images)
    assert notes == []


def test_class_names_are_data(images, data, tmp_path):
    """Blanks, slashes and capitals: by the name itself or by the folder that a set of ours gives it."""
    odd = dataclasses.replace(data, class_names=("a b", "a_b", "A/B"))
    read, _ = read_external(image_folder(tmp_path / "by_name", images, ("a b", "a_b", "A_B-2")), odd)
    DistilledSet(images, LABELS, odd.class_names).save(tmp_path / "set")
    ours, notes = read_external(tmp_path / "set/images", odd)
    assert read.labels.tolist() == ours.labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert torch.equal(read.images, ours.images)
    assert notes == []
    doubled = image_folder(tmp_path / "twice", images, ("a", "0", "c"))
    assert "two folders stand for class 'a'" in message(doubled, data)


@pytest.mark.parametrize("suffix", ["bmp", "ppm", "tif"])
def test_folders_of_other_formats(suffix, images, data, tmp_path):
    path = image_folder(tmp_path / "set", images)
    for file in path.rglob("*.png"):
        Image.open(file).save(file.with_suffix(f".{suffix}"))
        file.unlink()
    dset, _ = read_external(path, data)
    assert torch.allclose(dset.images, images[LABELS.argsort(stable=True)])


def test_names_of_255_bytes_are_names(images, data, tmp_path):
    long = dataclasses.replace(data, class_names=("a" * 255, "b", "c"))
    path = image_folder(tmp_path / "set", images, long.class_names)
    (path / "b/1.png").rename(path / "b" / ("x" * 251 + ".png"))
    dset, _ = read_external(path, long)
    assert dset.labels.tolist() == [0, 0, 1, 1, 2, 2]
    dset.save(tmp_path / "again")
    assert DistilledSet.load(tmp_path / "again").class_names == long.class_names


def test_what_a_folder_hides_is_composited_scaled_counted_and_said(images, data, tmp_path):
    path = image_folder(tmp_path / "set", images)
    Image.new("RGBA", (8, 8), (255, 0, 0, 0)).save(path / "a/0.png")
    Image.fromarray(np.full((8, 8), 30_000, np.uint16)).save(path / "a/3.png")
    (path / "b/x.heic").write_text("?")
    dset, notes = read_external(path, data, background="#0000ff")
    assert dset.images[0, :, 4, 4].tolist() == [0, 0, 1]
    assert round(float(dset.images[1, 0, 4, 4]) * 255) == round(30_000 / 257)
    assert [note.split(" (")[0] for note in notes] == [
        "1 file is not read: .heic 1", "1 image has transparent pixels, composited on #0000ff",
        "1 image has 16 bits per channel, scaled to 8",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda x: x.to_sparse(), "images are sparse; save images.to_dense()"),
        (lambda x: torch.quantize_per_tensor(x, 1 / 255, 0, torch.quint8), "images are quantised; save images.dequantize()"),
        (lambda x: x.to("meta"), "images are on the meta device and have no values"),
        (lambda x: x.to(torch.complex64), "images are complex"),
        (lambda x: x[:1].expand(6, 3, 8, 8)[..., :1].expand(6, 3, 8, 10**9), "images claim 576.0 GB in a file of 0.0 MB"),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_tensors_that_are_no_plain_numbers_are_refused_at_once(change, words, images, data, tmp_path):
    assert words in message(torch_file(tmp_path, (change(images), LABELS)), data)


@pytest.mark.parametrize("form", ["npz", "pth", "safetensors", "png"])
@pytest.mark.filterwarnings("ignore")
def test_a_file_with_flipped_bytes_is_read_or_refused_in_one_line(form, images, data, tmp_path):
    """Fifty of them, by a fixed seed; most flips lie in names, sizes and offsets."""
    rng = np.random.default_rng(0)
    path = image_folder(tmp_path / "set", images) if form == "png" else saved(tmp_path, form, images)
    file = path / "a/0.png" if form == "png" else path
    good, refusals = file.read_bytes(), []
    for _ in range(50):
        raw = bytearray(good)
        for place in rng.integers(0, len(raw), 3):
            raw[place] = rng.integers(0, 256)
        place = len(raw) - 1 - int(rng.integers(0, 200))
        raw[place] ^= 255
        file.write_bytes(raw)
        try:
            read_external(path, data)
        except UserError as error:
            refusals.append(str(error))
    assert refusals
    assert not any("\n" in refusal for refusal in refusals)


def test_the_python_interface_reads_them_too(images, data, tmp_path):
    dset = api.load_set(torch_file(tmp_path, (images, LABELS)), data)
    assert dset.provenance["notes"] == [ORDER]


def test_a_set_of_the_same_classes_in_another_order_is_told(data):
    dset = DistilledSet(torch.rand(3, 3, 8, 8), torch.arange(3), ("b", "a", "c"))
    with pytest.raises(UserError, match=r"has the classes of tiny in another order \(b, a, c against a, b, c\)"):
        check_classes(dset, data, [PROTOCOLS.create("knn")])


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
    order, warning = printed.err.splitlines()
    assert "numbers were taken for the classes of" in order
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


def test_a_set_whose_content_was_changed_is_no_set_of_ours(fake_plugins, tmp_path):
    """What it says of its making is believed as long as its content is on record; else its content is part of what it is."""
    data = DATASETS.create("fake_data").load()
    labels = class_labels(data.num_classes, 1)
    ours = {"method": "fake", "method_spec": "fake", "params": {}, "distill_backbone": None, "distill_backbone_spec": None}
    silent = DistilledSet(torch.rand(len(labels), 3, 8, 8), labels, data.class_names, provenance=ours | RUN)
    measured = SetFacts(set_fingerprint=silent.fingerprint()).to_json()
    told = dataclasses.replace(silent, provenance={**silent.provenance, "measured": measured})

    def cell(dset):
        return given_cell(dset, "set", "fake_data", ["fake_probe"], ["fake_net"], "cpu")

    changed = dataclasses.replace(told, images=1 - told.images)
    assert (cell(told)[0].method, cell(changed)[0].method) == ("fake", "external")
    assert cell(changed)[1].provenance["measured"]["set_fingerprint"] == changed.fingerprint()
    other = dataclasses.replace(silent, images=1 - silent.images)
    assert cell(silent)[0].named_fingerprints == {"content": silent.fingerprint()}
    assert len({cell(dset)[0].cell_hash for dset in (told, silent, other)}) == 3
    found, kept = cell(told)
    store(found, kept, tmp_path, data)
    store(found, kept, tmp_path, data)
    with pytest.raises(UserError, match="holds another set of the same name"):
        store(found, changed, tmp_path, data)


RUN = {"ipc": 1, "distill_seed": 0}
