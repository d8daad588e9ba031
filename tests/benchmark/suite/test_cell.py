"""A configuration hash changes with everything that can change a number, and with nothing else."""

import dataclasses
import hashlib
import json

import pytest

from ddbench.benchmark.records.run_folder import set_folder
from ddbench.benchmark.suite.cell import Cell, blank_record


def only_hash(cell):
    (evaluation,) = cell.evaluations
    return evaluation.config_hash


NET = (
    '{"architecture":"conv","crop_pct":1.0,"input_size":8,"mean":[0.5,0.5,0.5],"pooling":"avg",'
    '"sha256":"%s","std":[0.25,0.25,0.25]}'
)


def test_hashes_are_the_sha256_of_these_texts(cell_of):
    """A change here makes every stored run start again: raise the record schema with it."""
    own = (
        f'{{"dataset":"ff","device":"cpu","distill_backbone":{NET % "aa"},"distill_seed":0,"ipc":1,"method":"m",'
        '"method_code":"c0de","params":{},"precision":"float32"}'
    )
    cell = cell_of(["one"])
    assert cell.cell_hash == hashlib.sha256(own.encode()).hexdigest()
    text = (
        f'["{cell.cell_hash}",{{"eval_backbone":{NET % "sha of one"},"judging_data":null,"protocol":"probe",'
        '"protocol_code":"e7a1","protocol_params":{}}]'
    )
    assert only_hash(cell) == hashlib.sha256(text.encode()).hexdigest()


SAME = {
    "method_spec": "m[default=1]",
    "dataset": "alias",
    "dataset_name": "alias",
    "dataset_params": {"path": "/elsewhere"},
    "distill_backbone": "alias",
    "num_classes": 4,
    "display": {"net": "mine"},
}
OTHER = {
    "method": "n",
    "method_code": "beef",
    "params": {"tau": 1},
    "distill_backbone_spec": None,
    "dataset_fingerprint": "gg",
    "named_fingerprints": {"also": "aa"},
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


@pytest.mark.parametrize(("field", "value"), [("protocol", "knn"), ("protocol_params", {"k": 1}), ("protocol_code", "beef")])
def test_the_protocol_moves_the_evaluation_only(cell_of, evaluation_of, field, value):
    old, new = cell_of(["one"]), cell_of([dataclasses.replace(evaluation_of("one"), **{field: value})])
    assert old.cell_hash == new.cell_hash
    assert only_hash(old) != only_hash(new)


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


def test_sets_are_called_by_what_they_are(cell_of, tmp_path):
    cell = cell_of(distill_backbone="net[model=a/b]", ipc=10, distill_seed=3)
    assert cell.set_in(tmp_path) == tmp_path / "sets" / f"m-net-ipc10-s3-{cell.cell_hash[:8]}"
    named = cell_of(distill_backbone="net[model=a/b]", display={"net[model=a/b]": "ab 64"})
    assert named.set_in(tmp_path).name == f"m-net-ipc1-s0-{named.cell_hash[:8]}"
    whole = cell_of(distill_backbone=None, distill_backbone_spec=None, ipc=None)
    assert whole.set_in(tmp_path).name == f"m-all-s0-{whole.cell_hash[:8]}"
    record = blank_record(cell, cell.evaluations[0], "ok")
    assert set_folder(tmp_path, json.loads(json.dumps(record))) == cell.set_in(tmp_path)


def test_sets_of_older_runs_are_found_under_their_whole_hash(cell_of, tmp_path):
    cell = cell_of()
    (tmp_path / "sets" / cell.cell_hash).mkdir(parents=True)
    assert cell.set_in(tmp_path) == tmp_path / "sets" / cell.cell_hash


def test_a_name_of_the_suites_own_may_change_between_two_runs(cell_of, tmp_path):
    """The set is found, also one that an older version called by that name."""
    named, renamed = cell_of(display={"net": "one"}), cell_of(display={"net": "two"})
    assert named.set_in(tmp_path) == renamed.set_in(tmp_path) == cell_of().set_in(tmp_path)
    older = tmp_path / "sets" / f"m-one-ipc1-s0-{named.cell_hash[:8]}"
    older.mkdir(parents=True)
    assert renamed.set_in(tmp_path) == older


def test_labels_have_the_suites_own_names(cell_of):
    assert cell_of(display={"net": "sq64"}).label == "m · sq64 · data · ipc 1 · seed 0"
