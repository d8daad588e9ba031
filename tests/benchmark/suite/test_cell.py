"""A configuration hash changes with everything that can change a number, and with nothing else."""

import dataclasses
import hashlib
import json

import pytest

from ddbench.benchmark.suite.cell import Cell, blank_record


def only_hash(cell):
    (evaluation,) = cell.evaluations
    return evaluation.config_hash


NET = (
    '{"architecture":"conv","crop_pct":1.0,"input_size":8,"mean":[0.5,0.5,0.5],"pooling":"avg",'
    '"sha256":"%s","std":[0.25,0.25,0.25]}'
)


def test_the_hash_is_the_sha256_of_this_text(cell_of):
    """A change here makes every stored run start again: raise the record schema with it."""
    text = (
        f'{{"dataset":"ff","device":"cpu","distill_backbone":{NET % "aa"},"distill_seed":0,'
        f'"eval_backbone":{NET % "sha of one"},"ipc":1,"method":"m","method_version":1,"params":{{}},'
        '"precision":"float32","protocol":"probe","protocol_params":{},"protocol_version":1}'
    )
    assert only_hash(cell_of(["one"])) == hashlib.sha256(text.encode()).hexdigest()


SAME = {
    "method_spec": "m[default=1]",
    "dataset": "alias",
    "dataset_name": "alias",
    "dataset_params": {"path": "/elsewhere"},
    "distill_backbone": "alias",
    "num_classes": 4,
}
OTHER = {
    "method": "n",
    "method_version": 2,
    "params": {"tau": 1},
    "distill_backbone_spec": None,
    "dataset_fingerprint": "gg",
    "ipc": 2,
    "distill_seed": 1,
    "device": "cuda",
}
FEATURES = {
    "sha256": "bb",
    "architecture": "vit",
    "input_size": 16,
    "crop_pct": 0.9,
    "pooling": "token",
    "mean": [0],
    "std": [1],
}
NAMES = {"name": "alias", "source": "elsewhere", "revision": "9"}


@pytest.mark.parametrize(("field", "value"), OTHER.items())
def test_what_moves_a_set_moves_both_hashes(cell_of, field, value):
    old, new = cell_of(["one"]), cell_of(["one"], **{field: value})
    assert old.cell_hash != new.cell_hash
    assert only_hash(old) != only_hash(new)


@pytest.mark.parametrize(("field", "value"), FEATURES.items())
def test_what_moves_features_moves_the_hashes(cell_of, card_of, evaluation_of, field, value):
    old, card = cell_of(["one"]), {**card_of(), field: value}
    assert cell_of(["one"], distill_backbone_spec=card).cell_hash != old.cell_hash
    seen = evaluation_of("one")
    judged = cell_of([dataclasses.replace(seen, eval_backbone_spec={**seen.eval_backbone_spec, field: value})])
    assert judged.cell_hash == old.cell_hash
    assert only_hash(judged) != only_hash(old)


@pytest.mark.parametrize(("field", "value"), [("protocol", "knn"), ("protocol_params", {"k": 1}), ("protocol_version", 2)])
def test_the_protocol_moves_the_evaluation_only(cell_of, evaluation_of, field, value):
    old, new = cell_of(["one"]), cell_of([dataclasses.replace(evaluation_of("one"), **{field: value})])
    assert old.cell_hash == new.cell_hash
    assert only_hash(old) != only_hash(new)


def test_a_younger_parameter_of_one_protocol_is_an_ordinary_one_of_another(cell_of, evaluation_of):
    def moved(protocol):
        seen = dataclasses.replace(evaluation_of("one"), protocol=protocol)
        later = dataclasses.replace(seen, protocol_params={"shared_views": True})
        return only_hash(cell_of([seen])) != only_hash(cell_of([later]))

    assert (moved("linear-probe"), moved("probe")) == (False, True)


@pytest.mark.parametrize(("field", "value"), SAME.items())
def test_names_move_nothing(cell_of, field, value):
    assert only_hash(cell_of(["one"], **{field: value})) == only_hash(cell_of(["one"]))


def test_names_of_backbones_move_nothing(cell_of, card_of):
    assert cell_of(distill_backbone_spec={**card_of(), **NAMES}).cell_hash == cell_of().cell_hash


def test_a_cell_survives_json(cell_of):
    cell = cell_of()
    assert Cell.from_json(json.loads(json.dumps(cell.to_json()))) == cell


def test_a_blank_record_is_flat_and_identifies_its_evaluation(cell_of):
    cell = cell_of(ipc=None)
    record = blank_record(cell, cell.evaluations[1], "failed", "two\nlines")
    assert json.loads(json.dumps(record)) == record
    assert (record["status"], record["reason"], record["ipc"]) == ("failed", "two lines", None)
    assert (record["eval_backbone"], record["set_hash"]) == ("two", cell.cell_hash)
    assert record["config_hash"] == cell.evaluations[1].config_hash
    assert {"top1", "seconds", "peak_bytes", "environment", "params", "protocol_version", "schema"} <= record.keys()
