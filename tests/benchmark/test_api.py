"""The three functions of the Python interface, and the errors that they raise."""

import dataclasses

import numpy as np
import pytest
import torch

import ddbench
from ddbench.benchmark.foreign.evaluate import given_cell
from ddbench.core.errors import Unsupported, UserError


@pytest.fixture(autouse=True)
def names(fake_plugins):
    """`fake_net`, `fake_data` and the rest can be named."""


def test_distil_evaluate_save_and_load(backbone, data, tmp_path):
    dset = ddbench.distill("clpdd", backbone=backbone, data=data, ipc=2, seed=3, steps=2)
    assert len(dset) == 2 * data.num_classes
    assert dset.provenance["method_spec"] == "clpdd[steps=2]"
    assert dset.provenance["distill_seed"] == 3
    found = ddbench.evaluate(dset, backbone=backbone, data=data)
    assert 0 <= found.top1 <= 100
    dset.save(str(tmp_path / "set"))
    assert torch.equal(ddbench.load_set(tmp_path / "set").images, dset.images)


def test_a_set_says_what_one_of_a_run_says(tmp_path, fake_plugins):
    from ddbench.benchmark.cli import main

    grid = ["-m", "random", "-b", "fake_net", "--eval-backbone", "fake_net", "-d", "fake_data", "--protocol", "fake_probe"]
    argv = ["run", *grid]
    assert main([*argv, "--plugin", str(fake_plugins), "--no-controls", "--device", "cpu", "--out", str(tmp_path / "run")]) == 0
    (folder,) = (tmp_path / "run" / "sets").iterdir()
    stored, made = ddbench.load_set(folder), ddbench.distill("random", backbone=None, data="fake_data", device="cpu")
    assert made.fingerprint() == stored.fingerprint()
    assert made.provenance.keys() == stored.provenance.keys() - {"feature_keys"}
    told = [
        dset.provenance["measured"][name] for dset in (made, stored) for name in ("n_images", "labels_of", "set_fingerprint")
    ]
    assert told[:3] == told[3:]
    differ = {name for name in made.provenance if made.provenance[name] != stored.provenance[name]}
    assert differ <= {"environment", "measured"}, {name: (made.provenance[name], stored.provenance[name]) for name in differ}


def test_a_set_keeps_its_name_when_records_are_made_of_it(fake_plugins):
    dset = ddbench.distill("clpdd", backbone="fake_net", data="fake_data", steps=2, device="cpu")
    cell, _ = given_cell(dset, "myset", "fake_data", ["fake_probe"], ["fake_net"], "cpu")
    assert (cell.method_spec, cell.distill_backbone) == ("clpdd[steps=2]", "fake_net")
    assert cell.cell_hash == dset.provenance["cell_hash"]


def test_a_set_that_was_altered_is_not_the_result_of_its_method(fake_plugins):
    dset = ddbench.distill("random", backbone=None, data="fake_data", device="cpu")
    altered = dataclasses.replace(dset, images=1 - dset.images)
    silent = dataclasses.replace(altered, provenance={k: v for k, v in dset.provenance.items() if k != "measured"})
    cells = [given_cell(each, "set", "fake_data", ["fake_probe"], ["fake_net"], "cpu")[0] for each in (dset, altered, silent)]
    assert [cell.method for cell in cells] == ["random", "external", "random"]
    assert cells[2].named_fingerprints == {"content": silent.fingerprint()}
    assert len({cell.cell_hash for cell in cells}) == 3


def test_names_and_objects_mean_the_same(data):
    by_name = ddbench.distill("random", backbone=None, data="fake_data", seed=1)
    from ddbench.core.data import DATASETS
    from ddbench.core.method import METHODS

    by_object = ddbench.distill(METHODS.create("random"), backbone=None, data=DATASETS.create("fake_data").load(), seed=1)
    assert torch.equal(by_name.images, by_object.images)
    assert ddbench.evaluate(by_name, backbone="fake_net", data="fake_data", protocol="fake_probe").top1 > 0


def test_a_number_carries_what_was_noticed_of_data_set_and_protocol(tmp_path, backbone, data):
    noted = dataclasses.replace(data, notes=("3 test images are in train too",), mirror=False)
    np.savez(tmp_path / "given.npz", images=np.full((2, 3, 16, 16), 90, np.uint8), labels=[0, 1])
    given = ddbench.load_set(tmp_path / "given.npz", noted)
    found = ddbench.evaluate(given, backbone=backbone, data=noted, protocol="lgm-probe[epochs=2,seeds=1]")
    assert found.notes == (
        "data: 3 test images are in train too",
        "numbers were taken for the classes of tiny (as published): 0 is 'a', 1 is 'b', 2 is 'c'",
        "the protocol mirrors images, and mirrored images of tiny do not keep their class",
        "the set has no image of 1 of 3 classes: c",
    )


def test_a_protocol_without_a_backbone_needs_none_and_may_judge_by_other_data(data):
    dset = ddbench.distill("random", backbone=None, data="fake_data")
    assert ddbench.evaluate(dset, backbone=None, data="fake_data", protocol="fake_pretrain").parts["classes"] == (3.0, 5.0)
    other = ddbench.evaluate(dset, backbone=None, data="fake_data", protocol="fake_pretrain[target=fake_data[classes=2]]")
    assert other.parts["classes"] == (2.0, 4.0)
    with pytest.raises(UserError, match="this needs a backbone"):
        ddbench.evaluate(dset, backbone=None, data="fake_data", protocol="fake_probe")


def test_a_set_that_refers_to_real_images_is_loaded_with_its_data(tmp_path):
    ddbench.distill("full", backbone=None, data="fake_data").save(tmp_path / "full")
    assert len(ddbench.load_set(tmp_path / "full", data="fake_data")) == 18
    with pytest.raises(UserError, match="give the dataset"):
        ddbench.load_set(tmp_path / "full")


def test_progress_is_passed_on(backbone, data):
    steps = []
    ddbench.distill("clpdd", backbone=backbone, data=data, steps=3, progress=lambda step, of, loss: steps.append((step, of)))
    assert steps == [(1, 3), (2, 3), (3, 3)]


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"ipc": 0}, UserError, "at least one image per class"),
        ({"method": "clpd"}, UserError, "did you mean 'clpdd'"),
        ({"tau": -1}, UserError, "greater than 0"),
        ({"backbone": None}, UserError, "needs a backbone"),
        ({"method": "centroids", "ipc": 1000}, Unsupported, "smallest class"),
    ],
)
def test_bad_input(data, backbone, arguments, error, message):
    with pytest.raises(error, match=message):
        ddbench.distill(**{"method": "clpdd", "backbone": backbone, "data": data, **arguments})


def test_a_set_of_other_classes_is_refused(data, backbone):
    dset = ddbench.distill("random", backbone=None, data="fake_data")
    with pytest.raises(UserError, match="other classes"):
        ddbench.evaluate(dset, backbone=backbone, data=data)


def test_the_public_names_are_there_and_no_others():
    for name in ddbench.__all__:
        assert getattr(ddbench, name) is not None
    with pytest.raises(AttributeError, match="nothing"):
        _ = ddbench.nothing
