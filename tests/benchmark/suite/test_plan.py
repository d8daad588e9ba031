"""Plans: each distillation once, everything checked first, costs from what was measured before."""

import dataclasses
import time
from pathlib import Path

import pytest
import torch
from PIL import Image

from ddbench.benchmark.suite.cell import blank_record, record_key
from ddbench.benchmark.suite.plan import cell_like, device_kind, each_once, outline, plan
from ddbench.benchmark.suite.suite import load_suite, suite
from ddbench.core.backbone import BACKBONES
from ddbench.core.data import DATASETS
from ddbench.core.errors import UserError
from ddbench.core.method import METHODS
from ddbench.core.sets import real_set

FOUR = ["fake_net", *(f"fake_net[seed={seed}]" for seed in (1, 2, 3))]


@pytest.fixture
def planned(fake_plugins):
    def planned(methods=("fake",), backbones=FOUR, **more):
        facts = {"datasets": ["fake_data"], "protocols": ["fake_probe"], "controls": False, **more}
        return plan(suite(methods=list(methods), backbones=list(backbones), **facts), device="cpu")

    return planned


def count(cells, method):
    return sum(cell.method == method for cell in cells)


def test_one_cell_per_distillation_and_all_evaluations_in_it(planned):
    cells = planned(ipc=[1, 2], seeds=[0, 1])
    assert len(cells) == len({cell.cell_hash for cell in cells}) == 4 * 2 * 2
    assert all(len(cell.evaluations) == 4 for cell in cells)
    assert len({e.config_hash for cell in cells for e in cell.evaluations}) == 4 * 4 * 2 * 2


def test_what_plans_of_one_folder_share_is_for_the_first_with_the_evaluations_of_all(planned):
    first = planned(["fake", "fake_floor"], ["fake_net"])
    second = planned(["fake_floor"], ["fake_net"], protocols=["fake_probe", "fake_probe[seeds=3]"], seeds=[0, 1])
    shared, new = second
    ours, theirs = each_once([first, second], [Path("a"), Path("a")])
    assert [(cell.cell_hash, cell.evaluations) for cell in ours] == [
        (first[0].cell_hash, first[0].evaluations), (shared.cell_hash, shared.evaluations),
    ]  # fmt: skip
    assert theirs == [new]
    assert each_once([first, second], [Path("a"), Path("b")]) == [first, second]


def test_a_method_without_a_backbone_has_one_cell_for_all_of_them(planned):
    (cell,) = planned(["fake_floor"])
    assert cell.distill_backbone is None
    assert [e.eval_backbone for e in cell.evaluations] == FOUR


def test_controls_join_once_and_the_ceiling_needs_one_ipc_and_one_seed(planned):
    cells = planned(controls=True, ipc=[1, 2], seeds=[0, 1])
    assert (count(cells, "random"), count(cells, "full")) == (4, 1)
    assert next(cell.ipc for cell in cells if cell.method == "full") is None
    assert count(planned(["random", "fake"], controls=True), "random") == 1
    assert {cell.method for cell in planned(controls=False)} == {"fake"}


def test_eval_backbones_may_differ_from_those_that_distil(planned):
    (cell,) = planned(backbones=["fake_net"], eval_backbones=["fake_net[seed=3]"])
    assert (cell.distill_backbone, [e.eval_backbone for e in cell.evaluations]) == ("fake_net", ["fake_net[seed=3]"])


def test_a_protocol_without_a_backbone_judges_a_set_once(planned):
    (cell,) = planned(["fake_floor"], protocols=["fake_probe", "fake_pretrain"])
    assert [(e.protocol, e.eval_backbone) for e in cell.evaluations] == [
        *(("fake_probe", name) for name in FOUR), ("fake_pretrain", None),
    ]  # fmt: skip
    assert len({e.config_hash for e in cell.evaluations}) == 5


def test_the_data_that_judge_are_part_of_what_an_evaluation_is(planned, monkeypatch):
    (cell,) = planned(["fake_floor"], protocols=["fake_pretrain", "fake_pretrain[target=fake_data[classes=2]]"])
    own, other = cell.evaluations
    assert own.judging_fingerprint is None
    assert other.judging_fingerprint not in (None, cell.dataset_fingerprint)
    source = DATASETS.get("fake_data")
    load = source.load
    monkeypatch.setattr(source, "load", lambda self: dataclasses.replace(load(self), fingerprint=f"new{self.classes}"))
    changed = planned(["fake_floor"], protocols=["fake_pretrain[target=fake_data[classes=2]]"])[0].evaluations[0]
    assert changed.judging_fingerprint == "new2"
    assert changed.config_hash != other.config_hash
    with pytest.raises(UserError, match="/nowhere.npz does not exist"):
        planned(protocols=["fake_pretrain[target=fake_data[file=/nowhere.npz]]"])


def test_the_same_thing_said_twice_runs_once(planned):
    cells = planned(
        ["fake", "fake[steps=5]"], ["fake_net", "fake_net[seed=0]"], protocols=["fake_probe", "fake_probe[seeds=2]"]
    )
    assert [len(cell.evaluations) for cell in cells] == [1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"methods": ["nope"]}, "unknown method 'nope'"),
        ({"methods": ["fake[steps=x]"]}, "steps='x' is not valid"),
        ({"backbones": ["nope"]}, "unknown backbone 'nope'"),
        ({"eval_backbones": ["nope"]}, "unknown backbone 'nope'"),
        ({"protocols": ["nope"]}, "unknown protocol 'nope'"),
        ({"datasets": ["nope"]}, "unknown dataset 'nope'"),
        ({"datasets": ["fake_data[file=/nowhere.npz]"]}, "/nowhere.npz does not exist"),
    ],
)
def test_nothing_is_planned_if_anything_is_wrong(planned, change, message):
    with pytest.raises(UserError, match=message):
        planned(**change)


def test_a_combination_without_sense_is_a_cell_with_a_reason(planned):
    assert {cell.unsupported for cell in planned(["fake_picky"])} == {"never makes sense"}
    (cell,) = planned(["random"], ipc=[7])
    assert "smallest class of fake_data has 6" in cell.unsupported


def test_leave_one_out_leaves_each_backbone_out_of_one_set(tmp_path):
    names = ["mini_resnet_barlow", "mini_vit_mae", "mini_vit_simclr"]
    facts = {"datasets": ["digits"], "protocols": ["knn"], "controls": False}
    cells = outline(suite(methods=["duet[also=leave-one-out]", "clpdd"], backbones=names, **facts))
    pairs = [(cell.distill_backbone, cell.method_spec) for cell in cells if cell.method == "duet"]
    assert pairs == [(a, f"duet[also={b}]") for a, b in zip(names, [*names[1:], names[0]], strict=True)]
    (tmp_path / "suite.yaml").write_text("methods: [{name: duet, steps: 9, also: leave-one-out}]\n")
    assert load_suite(tmp_path / "suite.yaml").methods == ["duet[steps=9,also=leave-one-out]"], "no stand-in touches it"
    with pytest.raises(UserError, match="also=leave-one-out needs three distil backbones or more; there are 2"):
        outline(suite(methods=["duet[also=leave-one-out]"], backbones=names[:2], **facts))


def test_devices(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert (device_kind("auto"), device_kind("cpu")) == ("cpu", "cpu")
    with pytest.raises(UserError, match="no CUDA device"):
        device_kind("cuda")
    with pytest.raises(UserError, match="unknown device"):
        device_kind("tpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert (device_kind("auto"), device_kind("cpu")) == ("cuda", "cpu")


def test_an_outline_has_the_cells_of_the_plan(fake_plugins):
    """Before anything is loaded; so are the keys of its evaluations those of the records."""
    for transfer in (True, False):
        asked = suite(
            methods=["fake", "fake_floor"], backbones=FOUR[:2], datasets=["fake_data"], protocols=["fake_probe"], seeds=[0, 1],
            transfer=transfer,
        )  # fmt: skip
        planned, outlined = plan(asked, device="cpu"), outline(asked)
        assert [cell.label for cell in planned] == [cell.label for cell in outlined]
        records = [blank_record(cell, e, "ok") for cell in planned for e in cell.evaluations]
        keys = [cell.evaluation_key(e) for cell in outlined for e in cell.evaluations]
        assert [record_key(record) for record in records] == keys
        assert all(not cell.cell_hash and cell.dataset_fingerprint is None for cell in outlined)


def test_without_transfer_a_set_is_judged_by_its_own_backbone_and_controls_by_all(planned):
    cells = planned(["fake", "fake_floor"], FOUR[:2], transfer=False)
    assert sorted(len(cell.evaluations) for cell in cells) == [1, 1, 2]


def test_names_of_the_suites_own_are_in_cells_and_records(fake_plugins):
    named = {"name": "one", "spec": "fake_net[seed=1]"}
    asked = suite(
        methods=["fake"], backbones=[named, "fake_net"], datasets=["fake_data"], protocols=["fake_probe"], controls=False
    )
    first, second = plan(asked, device="cpu")
    assert (first.label, first.set_in(Path()).name[:13]) == ("fake · one · fake_data · ipc 1 · seed 0", "fake-fake_net")
    assert second.label == "fake · fake_net · fake_data · ipc 1 · seed 0"
    assert blank_record(second, second.evaluations[0], "ok")["display"] == {"fake_net[seed=1]": "one"}
    with pytest.raises(UserError, match="the name 'one' stands for two specs"):
        suite(methods=["fake"], backbones=[named, {"name": "one", "spec": "fake_net"}])


def test_backbones_that_a_method_names_are_part_of_what_a_set_is(planned, monkeypatch):
    """By their weights, also inside a method that a parameter names."""
    specs = ["duet[steps=1,also=fake_net]", "clpdd[steps=1]", "neighbors[of=duet[also=fake_net]]"]

    def hashes():
        return [cell.cell_hash for cell in planned(specs, ["mini_vit_mae"])]

    before = hashes()
    net = BACKBONES.get("fake_net")
    load = net.load

    def other(self):
        backbone = load(self)
        backbone.spec = dataclasses.replace(backbone.spec, sha256="of other weights")
        return backbone

    monkeypatch.setattr(net, "load", other)
    assert [old == new for old, new in zip(before, hashes(), strict=True)] == [False, True, False]


def test_cells_that_take_sets_of_others_come_after_them(planned):
    specs = ["neighbors[of=neighbors[of=fake]]", "neighbors[of=fake]", "fake"]
    cells = planned(specs, ["fake_net"], seeds=[0, 1])
    assert [(cell.method_spec, cell.distill_seed) for cell in cells] == [(spec, s) for spec in specs[::-1] for s in (0, 1)]
    late, _, inner, *_ = cells[::-1]
    assert cell_like(late, METHODS.create("fake")).cell_hash == cells[1].cell_hash
    assert cell_like(late, METHODS.create("neighbors[of=fake]")).cell_hash == inner.cell_hash


def test_the_content_of_a_set_that_a_method_is_given_is_part_of_what_it_makes(planned, tmp_path, make_data):
    def cell(indices):
        real_set(make_data(), torch.tensor(indices)).save(tmp_path / "set")
        return planned([f"neighbors[folder={tmp_path / 'set'}]"], ["fake_net"])[0].cell_hash

    assert cell([3]) == cell([3]) != cell([4])


def test_ten_thousand_cells_are_planned_in_seconds(fake_plugins):
    """In CPU seconds, which a busy machine stretches too: 4 s where it is idle."""
    begin = time.process_time()
    cells = plan(
        suite(
            methods=[f"fake[rate={rate}]" for rate in range(1, 51)], backbones=FOUR, datasets=["fake_data"],
            protocols=["fake_probe", "fake_probe[seeds=3]"], seeds=list(range(50)), controls=False,
        ),
        device="cpu",
    )  # fmt: skip
    assert len(cells) == 10_000
    assert time.process_time() - begin < 10


def test_a_record_says_how_classes_were_ordered(planned, tmp_path):
    for split in ("train", "test"):
        for name in map(str, range(11)):
            (tmp_path / split / name).mkdir(parents=True)
            for index in range(2):
                shade = 20 * int(name) + index + 5 * (split == "test")
                Image.new("RGB", (16, 16), (shade, 0, 0)).save(tmp_path / split / name / f"{index}.png")
    (cell,) = planned(["fake_floor"], ["fake_net"], datasets=[f"folder[path={tmp_path},size=16]"])
    assert blank_record(cell, cell.evaluations[0], "failed")["class_order"] == "by number"
    (cell,) = planned(["fake_floor"], ["fake_net"])
    assert blank_record(cell, cell.evaluations[0], "failed")["class_order"] == "as published"
