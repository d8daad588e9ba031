"""Dry runs: costs from counted FLOPs against hand counts, what is banked counts once, and what does not fit is told."""

import dataclasses

import pytest
import torch
from torch import nn

from ddbench.benchmark.suite import cost
from ddbench.benchmark.suite import estimate as estimates
from ddbench.benchmark.suite.cost import ViewCost, count, view_cost
from ddbench.benchmark.suite.dry_run import dry_run
from ddbench.benchmark.suite.estimate import Estimate, Sizes, estimate, known_sizes, misfits, report
from ddbench.benchmark.suite.outline import outline, record_keys
from ddbench.benchmark.suite.plan import plan
from ddbench.benchmark.suite.suite import suite
from ddbench.core.backbone import Backbone
from ddbench.core.method import METHODS, PROTOCOLS

COST = ViewCost(flops=100, saved_bytes=7, weight_bytes=1000, dim=6, stage_size=8, flops_per_second=50.0)


@pytest.fixture
def flat(monkeypatch):
    """Every backbone costs the same, so that sums can be done by hand."""
    monkeypatch.setattr(estimates, "view_cost", lambda spec, device: COST)
    monkeypatch.setattr(estimates, "student_cost", lambda spec, size, device: COST)


def made(methods, protocols=("knn",), backbones=("mini_vit_mae",), **more):
    return suite(methods=list(methods), protocols=list(protocols), backbones=list(backbones), controls=False, **more)


SIZES = {"digits": Sizes(train=1000, test=200, classes=10)}


def test_flops_and_kept_activations_of_a_small_net_by_hand(backbone):
    """A 3x3 convolution to 8 channels on 8x8 outputs, one to 12 channels on 3x3: 2 FLOPs per multiplication."""
    flops, saved = count(backbone.network, 16)
    assert flops == 2 * (27 * 8 * 64 + 72 * 12 * 9)
    assert saved >= 4 * (8 * 64 + 12 * 9)  # both GELUs keep their input
    assert saved < 4 * 4 * (3 * 256 + 8 * 64 + 12 * 9)


def test_weights_do_not_count_as_activations(backbone):
    wide = Backbone(nn.Sequential(nn.Flatten(), nn.Linear(3 * 256, 5000)), backbone.spec)
    assert count(wide.network, 16)[1] < 4 * 3 * 256 * 2


def test_counting_leaves_the_backbone_as_it_was(backbone):
    count(backbone.network, 16)
    assert backbone(torch.rand(1, 3, 16, 16)).device.type == "cpu"


def test_the_cost_of_a_pretrained_backbone_needs_no_weights(monkeypatch):
    monkeypatch.setattr(cost, "_SECONDS", 0.0)
    monkeypatch.setattr(cost, "seconds_per_view", lambda backbone, device: 0.5)
    found = view_cost(
        "dino_vits16[weights=nowhere.safetensors,architecture=vit_tiny_patch16_224,args=depth:1,input_size=32]", "cpu"
    )
    assert found.dim == 192
    assert found.flops_per_second == 2 * found.flops


def test_lgm_passes_each_copy_three_times_and_each_real_image_once(flat):
    found = estimate(outline(made(["lgm[steps=4,copies=2]"])), SIZES, "cpu")
    views = 4 * (3 * 20 + 20)  # forward, forward and back on 10 x 2 copies; as many real ones
    assert found.distil_seconds == pytest.approx(views * 100 / 50)
    judged = 10 + 200
    assert found.evaluate_seconds == pytest.approx(judged * 100 / 50)


def test_features_of_real_images_count_once_per_backbone(flat):
    one = estimate(outline(made(["herding"])), SIZES, "cpu")
    two = estimate(outline(made(["herding", "centroids"])), SIZES, "cpu")
    assert one.distil_seconds == two.distil_seconds == pytest.approx(1000 * 2)
    features, one_set = 4 * 6 * (1000 + 200), 10 * 3 * 4 * 8**2
    assert one.disk == features + one_set
    assert two.disk == features + 2 * one_set


def test_memory_is_that_of_one_chunk_and_of_the_images_with_adam(flat):
    """Images, gradients, two moments, the last good images in bfloat16: on a GPU, whose passes are in it too, two of these."""
    pyramids = 10 * 3 * 4 * 8**2 * 4 / 3
    for device, expected in {"cpu": 4.5 * pyramids + 256 * 7, "cuda": 5 * pyramids + 256 * 7 / 2}.items():
        found = estimate(outline(made(["lgm[steps=4,copies=100]"])), SIZES, device)
        assert found.memory == pytest.approx(1000 + expected)


def test_what_is_recorded_is_not_counted(flat):
    cells = outline(made(["herding"]))
    record = {
        "method_spec": "herding", "distill_backbone": "mini_vit_mae", "dataset": "digits", "ipc": 1, "distill_seed": 0,
        "protocol_spec": "knn", "eval_backbone": "mini_vit_mae", "status": "ok",
    }  # fmt: skip
    assert estimate([cell.left(record_keys([record])) for cell in cells], SIZES, "cpu").flops == 0
    failed = record_keys([{**record, "status": "oom"}])
    assert estimate([cell.left(failed) for cell in cells], SIZES, "cpu").flops > 0


def test_a_set_that_is_there_is_not_distilled_again(flat):
    (cell,) = outline(made(["lgm[steps=4]"], protocols=("knn", "ridge-probe")))
    left = cell.left(cell.evaluation_keys()[:1])
    assert len(left.evaluations) == 1
    assert estimate([left], SIZES, "cpu").distil_seconds == 0
    assert estimate([cell.left(())], SIZES, "cpu").distil_seconds > 0


@pytest.mark.parametrize(("apart", "sets"), [(False, 1), (True, 2)])
def test_a_set_that_suites_of_one_folder_share_is_counted_once(apart, sets, flat, monkeypatch, tmp_path, capsys):
    """With all their evaluations, and each of these once."""
    counted = []
    monkeypatch.setattr(estimates, "estimate", lambda cells, *rest: counted.extend(cells) or FOUND)
    suites = [made(["herding"], protocols) for protocols in (("knn", "ridge-probe"), ("knn", "linear-probe"))]
    dry_run(suites, [tmp_path / "a", tmp_path / ("b" if apart else "a")], "cpu")
    assert len(counted) == sets
    assert sum(len(cell.evaluations) for cell in counted) == (4 if apart else 3)
    assert "device hours" in capsys.readouterr().out


def test_unknown_methods_and_sizes_are_named_and_left_out(flat, fake_plugins):
    found = estimate(outline(made(["fake", "herding"], backbones=["fake_net"])), SIZES, "cpu")
    assert found.unknown == ("fake · fake_net · digits · ipc 1 · seed 0",)
    assert "unknown 1 cells, not in the sums: fake" in report(found, "cpu")[-1]
    sizeless = estimate(outline(made(["herding"])), {}, "cpu")
    assert sizeless.unknown == ("herding · mini_vit_mae · digits · ipc 1 · seed 0",)
    assert report(sizeless, "cpu") == [
        "no estimate: the data is not here to tell its size, or methods and protocols do not declare their work"
    ]


def test_sizes_are_the_datas_own_or_as_published():
    missing = "imagenet[root=/nowhere]"
    found = known_sizes(["digits", missing, "folder[path=/nowhere]"])
    assert found == {"digits": Sizes(1438, 359, 10), missing: Sizes(1281167, 50000, 1000)}


def test_an_outline_has_the_cells_of_the_plan():
    asked = made(["herding", "random", "full"], ("knn", "ridge-probe"), ("mini_vit_mae", "mini_vit_simclr"), seeds=[0, 1])
    for transfer in (True, False):
        this = asked.model_copy(update={"transfer": transfer})
        planned, outlined = plan(this, device="cpu"), outline(this)
        assert [cell.label for cell in planned] == [cell.label for cell in outlined]
        assert [[(e.protocol_spec, e.eval_backbone) for e in cell.evaluations] for cell in planned] == [
            [(key[-2], key[-1]) for key in cell.evaluation_keys()] for cell in outlined
        ]


def test_without_transfer_a_set_is_judged_by_its_own_backbone_and_controls_by_all():
    cells = plan(made(["herding", "random"], backbones=["mini_vit_mae", "mini_vit_simclr"], transfer=False), device="cpu")
    assert sorted(len(cell.evaluations) for cell in cells) == [1, 1, 2]


def test_a_cell_is_late_by_the_limit_of_its_own_suite(flat):
    """`herding` on a bank of its own takes 2,000 s to distil and 420 s to judge, `random` 20 s."""
    slow, quick = (outline(made([method], timeout=limit)) for method, limit in (("herding", 3000.0), ("random", 1000.0)))
    assert estimate([*slow, *quick], SIZES, "cpu").late is None
    (cell,) = slow
    assert estimate([dataclasses.replace(cell, timeout=2000.0), *quick], SIZES, "cpu").late == (pytest.approx(2420), 2000.0)


FOUND = Estimate(7200.0, 3600.0, 1e15, 5e9, 2e9, None, (), {"net": COST})


def test_the_report_gives_hours_memory_and_disk(monkeypatch):
    monkeypatch.setattr(estimates, "device_memory", lambda device: 8e9)
    monkeypatch.setattr(estimates, "free_disk", lambda: 8e9)
    text = "\n".join(report(FOUND, "cpu"))
    assert "3 device hours: 2 distilling, 1 evaluating" in text
    assert "4.7 GiB at most while distilling, of 7.5 GiB" in text
    assert "DOES NOT FIT" not in text


@pytest.mark.parametrize(
    ("change", "words"),
    [({"memory": 9e9}, "of memory"), ({"disk": 9e9}, "on disk"), ({"late": (500.0, 400.0)}, "500 s, its time limit is 400 s")],
)
def test_what_does_not_fit_is_told(monkeypatch, change, words):
    monkeypatch.setattr(estimates, "device_memory", lambda device: 8e9)
    monkeypatch.setattr(estimates, "free_disk", lambda: 8e9)
    (line,) = misfits(dataclasses.replace(FOUND, **change), "cpu")
    assert "DOES NOT FIT" in line
    assert words in line


def test_experts_count_once_per_teacher_and_students_once_per_set(flat):
    """Two experts of three epochs; one pre-training of 1,000 steps serves two readouts."""
    protocols = ("ssl-pretrain", "ssl-pretrain[labels=50]")
    mkdt, *others = (made([name], protocols, seeds=[0, 1]) for name in ("mkdt[experts=2]", "teacher_random", "untrained"))
    one = estimate(outline(mkdt)[:1], SIZES, "cpu")
    two = estimate(outline(mkdt), SIZES, "cpu")
    experts, features = 3 * 2 * 3 * 1000 * 2, 1000 * 2
    inner = 12 * 5000 * 40 * 10 * 2
    assert one.distil_seconds == experts + features + inner
    assert two.distil_seconds == experts + features + 2 * inner
    pretraining = 3 * 3 * 1000 * 10 * 2  # students, passes, steps, images
    assert two.evaluate_seconds == 2 * one.evaluate_seconds == 2 * pretraining
    random, untrained = (estimate(outline(other), SIZES, "cpu") for other in others)
    assert random.distil_seconds == features
    assert untrained.distil_seconds == untrained.evaluate_seconds == 0


def test_a_students_activations_and_weights_count_as_memory(flat):
    assert estimate(outline(made(["krrst"])), SIZES, "cpu").memory == 1000 + 10 * 7 + 20 * 1000


def test_the_report_tells_students_apart():
    found = dataclasses.replace(FOUND, costs={"net[a=1]": COST, "convnet[widths=4] at 8 px": COST})
    assert "net 5e-11, convnet[widths=4] at 8 px 5e-11" in report(found, "cpu")[0]


def test_a_student_costs_what_its_layers_do(monkeypatch):
    monkeypatch.setattr(cost, "seconds_per_trained_image", lambda student, size: 1.5)
    found = cost.student_cost("convnet[widths=4]", 8, "cpu")
    assert found.flops == 2 * (27 * 4 * 64 + 4 * 16 * 512)
    assert found.flops_per_second == 2 * found.flops
    assert found.weight_bytes == 4 * (27 * 4 + 4 + 4 + 4 + 64 * 512 + 512)


def test_all_methods_and_protocols_declare_their_work():
    for name in METHODS.names():
        assert METHODS.create(name).work(1000, 10, 1) is not None
    for name in ("linear-probe", "lgm-probe", "ridge-probe", "knn", "ssl-pretrain", "alignment[of=mini_vit_mae]"):
        assert PROTOCOLS.create(name).work(10, False) is not None
