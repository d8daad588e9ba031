"""Estimates: sums by hand, what is banked counts once, earlier runs go before counts, and what does not fit is told."""

import dataclasses
import socket
import urllib.request

import pytest
import torch
from torch import nn

from ddbench.benchmark.commands.run import GPUS as OFFERED
from ddbench.benchmark.dry_run import device_speed, listing
from ddbench.benchmark.dry_run import estimate as estimates
from ddbench.benchmark.dry_run.counting import Sizes
from ddbench.benchmark.dry_run.device_speed import GPUS, UTILISATION, measured_pace
from ddbench.benchmark.dry_run.estimate import Due, Estimate, estimate, sizes_of
from ddbench.benchmark.dry_run.image_cost import Cost, backbone_cost, count, student_cost
from ddbench.benchmark.dry_run.listing import dry_run, report
from ddbench.benchmark.suite.plan import outline
from ddbench.benchmark.suite.suite import suite
from ddbench.core.backbone import Backbone

COST = Cost(flops=100, saved_bytes=7, weight_bytes=1000, dim=6, stage_size=8)


@pytest.fixture
def flat(monkeypatch):
    """Every network costs the same, so that sums can be done by hand: 100 FLOPs an image, 50 FLOP/s."""
    monkeypatch.setattr(estimates, "backbone_cost", lambda spec: COST)
    monkeypatch.setattr(estimates, "student_cost", lambda spec, size: COST)
    monkeypatch.setattr(estimates, "measured_pace", lambda costs, device: dict.fromkeys(costs, 50.0))
    monkeypatch.setattr(estimates, "sizes_of", lambda dataset: Sizes(train=1000, test=200, classes=10))


def made(methods, protocols=("knn",), backbones=("mini_vit_mae",), **more):
    return suite(methods=list(methods), protocols=list(protocols), backbones=list(backbones), controls=False, **more)


def due(*args, stored=False, timeout=None, **more):
    return [Due(cell, stored, timeout) for cell in outline(made(*args, **more))]


def test_flops_and_kept_activations_of_a_small_net_by_hand(backbone):
    """A 3x3 convolution to 8 channels on 8x8 outputs, one to 12 channels on 3x3: 2 FLOPs per multiplication."""
    flops, saved = count(backbone.network, 16)
    assert flops == 2 * (27 * 8 * 64 + 72 * 12 * 9)
    assert 4 * (8 * 64 + 12 * 9) <= saved < 4 * 4 * (3 * 256 + 8 * 64 + 12 * 9)  # both GELUs keep their input


def test_weights_do_not_count_as_activations(backbone):
    wide = Backbone(nn.Sequential(nn.Flatten(), nn.Linear(3 * 256, 5000)), backbone.spec)
    assert count(wide.network, 16)[1] < 4 * 3 * 256 * 2


def test_the_cost_of_a_pretrained_backbone_needs_no_weights():
    spec = "dino_vits16[weights=nowhere.safetensors,architecture=vit_tiny_patch16_224,args=depth:1,input_size=32]"
    found = backbone_cost(spec)
    assert (found.dim, found.stage_size) == (192, 37)
    assert found.flops > 1e6
    assert backbone_cost("torchvision[model=vgg19]").dim == 4096


def test_a_student_costs_what_its_layers_do():
    found = student_cost("convnet[widths=4]", 8)
    assert found.flops == 2 * (27 * 4 * 64 + 4 * 16 * 512)
    assert found.weight_bytes == 4 * (27 * 4 + 4 + 4 + 4 + 64 * 512 + 512)


def test_pace_is_measured_on_the_cheapest_networks_and_the_rest_take_their_mean(monkeypatch):
    seconds = {"cheap": 0.1, "dear": 0.4}

    def timed(spec, device, meter, batch, budget):
        meter.seconds["pass"] = meter.seconds.get("pass", 0.0) + 1.6
        return seconds[spec]

    monkeypatch.setattr(device_speed, "_seconds_per_image", timed)
    costs = {"dearest": 1000, "cheap": 10, "dear": 100}
    found = measured_pace({spec: dataclasses.replace(COST, flops=flops) for spec, flops in costs.items()}, torch.device("cpu"))
    assert found == {"cheap": pytest.approx(100), "dear": pytest.approx(250), "dearest": pytest.approx(175)}


def test_a_real_pace_is_that_of_this_machine():
    (found,) = measured_pace({"mini_vit_mae": backbone_cost("mini_vit_mae")}, torch.device("cpu")).values()
    assert 1e7 < found < 1e14


def test_lgm_passes_each_copy_three_times_and_each_real_image_once(flat):
    found = estimate(due(["lgm[steps=4,copies=2]"]), "cpu")
    views = 4 * (2 * 20 + 20)  # forward and back on 10 x 2 copies, which fit into one pass; as many real ones
    assert found.distil == pytest.approx(views * 100 / 50)
    assert found.evaluate == pytest.approx((10 + 200) * 100 / 50)
    assert found.seconds == [pytest.approx(found.distil + found.evaluate)]


def test_features_of_real_images_count_once_per_backbone(flat):
    one, two = estimate(due(["herding"]), "cpu"), estimate(due(["herding", "centroids"]), "cpu")
    assert one.distil == two.distil == pytest.approx(1000 * 2)
    features, one_set = 4 * 6 * (1000 + 200), 10 * 3 * 4 * 8**2
    assert (one.disk, two.disk) == (features + one_set, features + 2 * one_set)


def test_memory_is_that_of_one_pass_and_of_the_images_with_adam_and_the_last_good_ones(flat):
    """Docs/performance.md: 4.7 MB an image of 256 pixels on the CPU, 5.2 on a GPU; 47 and 52 GB for 10,000."""
    images = 10 * 3 * 4 * 8**2 * 4 / 3
    assert estimate(due(["lgm[steps=4,copies=100]"]), "cpu").memory == pytest.approx(1000 + images * 4.5 + 256 * 7)
    assert estimate(due(["lgm[steps=4,copies=100]"]), "cuda").memory == pytest.approx(1000 + images * 5 + 256 * 7 / 2)
    assert pytest.approx(47e9, rel=0.01) == 10_000 * 3 * 4 * 256**2 * 4 / 3 * 4.5


@pytest.mark.parametrize("steps", [1, 350])
def test_memory_does_not_grow_with_the_steps(flat, steps):
    images = 10 * 3 * 4 * 8**2 * 4 / 3
    found = estimate(due([f"lgm[steps={steps},copies=3]"]), "cpu")
    assert found.memory == pytest.approx(1000 + images * 4.5 + 30 * 7)


def test_a_set_that_is_there_is_not_distilled_again(flat):
    assert estimate(due(["lgm[steps=4]"], stored=True), "cpu").distil == 0
    assert estimate(due(["lgm[steps=4]"]), "cpu").distil > 0


def test_nothing_due_is_nothing_counted(flat):
    (each,) = due(["herding"])
    found = estimate([dataclasses.replace(each, cell=each.cell.only([]))], "cpu")
    assert (found.seconds, found.flops) == ([0.0], 0)
    unsupported = dataclasses.replace(each, cell=dataclasses.replace(each.cell, unsupported="no sense"))
    assert estimate([unsupported], "cpu").seconds == [0.0]


def test_a_gpu_that_is_not_here_is_taken_by_its_data_sheet(flat):
    (here,), (there,) = (estimate(due(["herding"]), "cpu", on).seconds for on in (None, "h100"))
    assert there == pytest.approx(here * 50 / (UTILISATION * 989e12))
    lines = report(estimate(due(["herding"]), "cpu", "h100"), "cpu", "h100")
    assert "one h100 (30% of 989 TFLOP/s, its data sheet's dense bfloat16 rate; nothing was measured)" in lines[0]
    assert set(OFFERED) == set(GPUS)


def record_of(cell, evaluation, **seconds):
    names = ("method_spec", "distill_backbone", "dataset", "ipc", "device")
    return {
        **{name: getattr(cell, name) for name in names},
        "status": "ok",
        "protocol_spec": evaluation.protocol_spec,
        "seconds": seconds,
    }


def test_what_the_like_of_a_cell_took_goes_before_a_count(flat):
    past, now = due(["clpdd[steps=1]"], seeds=[0, 1])
    seconds = {"load": 1.0, "features": 2.0, "distill": 10.0, "evaluate": 5.0, "evaluate_features": None}
    records = [record_of(past.cell, e, **seconds) for e in past.cell.evaluations]
    found = estimate([now, *due(["centroids"])], "cpu", records=records)
    assert found.seconds == [1 + 2 + 10 + 5, pytest.approx((1000 + 10 + 200) * 2)]
    assert found.recorded == 1
    assert estimate([dataclasses.replace(now, stored=True)], "cpu", records=records).seconds == [1 + 5]
    failed = [{**record, "status": "oom"} for record in records]
    assert estimate([now], "cpu", records=failed).recorded == 0
    assert estimate([now], "cpu", "h100", records).recorded == 0  # of another device


def test_cells_of_unknown_time_are_named_with_the_reason_and_left_out(flat, fake_plugins, monkeypatch):
    found = estimate(due(["fake[fail=crash]", "herding"]), "cpu")
    assert found.seconds[0] is None
    line = next(line for line in report(found, "cpu") if "unknown" in line)
    assert "unknown 1 cells, not in the sums (it does not run on made-up images (KeyError)): fake[fail=crash] · " in line
    monkeypatch.setattr(estimates, "sizes_of", lambda dataset: None)
    assert set(estimate(due(["herding"]), "cpu").unknown.values()) == {"the size of its data is not known"}


def test_sizes_are_the_datas_own_or_as_published():
    assert sizes_of("digits") == Sizes(1438, 359, 10)
    assert sizes_of("imagenet[root=/nowhere]") == Sizes(1281167, 50000, 1000)
    assert sizes_of("imagenet[root=/nowhere,subset=imagenet-100]") == Sizes(126689, 5000, 100)
    assert sizes_of("cifar10[root=/nowhere,train_limit=5000]") == Sizes(5000, 10000, 10)
    assert sizes_of("flowers102[root=/nowhere]") == Sizes(1020, 6149, 102)
    assert sizes_of("holdout[data=cifar100[root=/nowhere]]") == Sizes(40000, 10000, 100)
    assert sizes_of("folder[path=/nowhere]") is None


def test_a_cell_is_late_by_the_limit_of_its_own_suite(flat):
    """`herding` on a bank of its own takes 2,000 s to distil and 420 s to judge, `random` 20 s."""
    slow, quick = due(["herding"], timeout=3000.0), due(["random"], timeout=1000.0)
    assert estimate([*slow, *quick], "cpu").late is None
    (each,) = slow
    assert estimate([dataclasses.replace(each, timeout=2000.0), *quick], "cpu").late == (pytest.approx(2420), 2000.0)


FOUND = Estimate([10800.0], 7200.0, 3600.0, 0, 1e15, 5e9, 2e9)


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(listing, "device_memory", lambda device: 8e9)
    monkeypatch.setattr(listing, "free_disk", lambda: 8e9)


def test_the_report_gives_hours_memory_and_disk(small):
    text = "\n".join(report(FOUND, "cpu"))
    assert "3.0 h in all (counted: 2.0 h distilling, 60 min evaluating, 1e+15 FLOPs)" in text
    assert "4.7 GiB at most while distilling, of 7.5 GiB" in text
    assert "DOES NOT FIT" not in text


@pytest.mark.parametrize(
    ("change", "words"),
    [({"memory": 9e9}, "of memory"), ({"disk": 9e9}, "on disk"), ({"late": (500.0, 400.0)}, "500 s, its time limit is 400 s")],
)
def test_what_does_not_fit_is_told(small, change, words):
    *_, line = report(dataclasses.replace(FOUND, **change), "cpu")
    assert "DOES NOT FIT" in line
    assert words in line


def test_experts_count_once_per_teacher_and_students_once_per_set(flat):
    """A second seed trains no experts; every set has pre-trainings of its own."""
    protocols = ("ssl-pretrain[steps=2000]", "ssl-pretrain[steps=2000,labels=50]")
    mkdt = due(["mkdt[experts=2,steps=3,inner_steps=2]"], protocols, seeds=[0, 1])
    one, two = estimate(mkdt[:1], "cpu"), estimate(mkdt, "cpu")
    assert one.distil < two.distil < 1.8 * one.distil
    assert two.evaluate == pytest.approx(2 * one.evaluate, rel=0.05)  # a random half of the readout's solves


@pytest.mark.parametrize(("apart", "sets"), [(False, 1), (True, 2)])
def test_a_set_that_suites_of_one_folder_share_is_counted_once(apart, sets, flat, tmp_path, capsys):
    """With all their evaluations, and each of these once."""
    suites = [made(["herding"], protocols) for protocols in (("knn", "ridge-probe"), ("knn", "linear-probe"))]
    dry_run(suites, [tmp_path / "a", tmp_path / ("b" if apart else "a")], "cpu")
    printed = capsys.readouterr().out
    assert f"{sets} cells, {4 if apart else 3} evaluations to do" in printed
    assert printed.count("time ") == 1  # one figure, not two that contradict each other


def test_a_dry_run_says_why_a_cell_is_unsupported(flat, fake_plugins, tmp_path, capsys):
    asked = made(["fake_picky", "fake_floor"], ["fake_probe"], ["fake_net"], datasets=["fake_data"])
    dry_run([asked], [tmp_path / "out"], "cpu")
    assert "never makes sense" in next(line for line in capsys.readouterr().out.splitlines() if "unsupported" in line)


def test_a_dry_run_downloads_nothing(flat, monkeypatch, tmp_path, capsys):
    """No function that reaches for the network is called, whatever the suite asks for; what is missing is said once."""

    def called(*args, **named):
        raise AssertionError("a dry run reached for the network")

    monkeypatch.setattr(socket, "create_connection", called)
    monkeypatch.setattr(socket.socket, "connect", called)
    monkeypatch.setattr(urllib.request, "urlopen", called)
    monkeypatch.setattr(torch.hub, "download_url_to_file", called)
    monkeypatch.setattr("torchvision.datasets.utils.download_url", called)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    backbones = ["torchvision[model=vgg19]", "timm[model=resnet10t]", "dinov2_vitb14", "open_clip[model=RN50,tag=yfcc15m]"]
    asked = made(["herding"], backbones=backbones, datasets=[f"cifar10[root={tmp_path},download=true]"])
    assert dry_run([asked], [tmp_path / "out"], "cpu", "h100") == 0
    missing = [line for line in capsys.readouterr().out.splitlines() if line.startswith("not here yet")]
    assert len(missing) == len(backbones) + 1
    assert "vgg19" in missing[0]
    assert not any("AssertionError" in line for line in missing)
