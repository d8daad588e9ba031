"""MKDT: the matching loss and a whole step against plain unrolling, and what each variant learns."""

import dataclasses

import pytest
import torch
import torch.nn.functional as F
from torch.func import functional_call

from ddbench.core.errors import Diverged
from ddbench.core.method import METHODS
from ddbench.core.students import MEAN, STD, build_student, flat_weights, imitation_loss
from ddbench.methods.mkdt import MKDT, Learned, Visits, batches, match, trajectory_loss

QUICK = MKDT(student="convnet[widths=4-4]", size=8, steps=3, inner_steps=4, batch=4, experts=3, lr_images=1.0, lr_targets=0.1)


def test_matching_loss_is_the_normalised_distance_and_its_gradient():
    generator = torch.Generator().manual_seed(0)
    end, start, goal = (torch.randn(9, generator=generator, dtype=torch.float64) for _ in range(3))
    end.requires_grad_()
    expected = F.mse_loss(end, goal, reduction="sum") / F.mse_loss(start, goal, reduction="sum")
    loss, cotangent = trajectory_loss(end.detach(), start, goal)
    torch.testing.assert_close(loss, expected.detach())
    torch.testing.assert_close(cotangent, torch.autograd.grad(expected, end)[0])


def test_inner_batches_are_permutations_one_after_the_other():
    found = batches(5, 2, 7, torch.Generator().manual_seed(0))
    assert [len(rows) for rows in found] == [2, 2, 1, 2, 2, 1, 2]
    for epoch in (found[:3], found[3:6]):
        assert sorted(torch.cat(epoch).tolist()) == [0, 1, 2, 3, 4]


def test_a_step_is_plain_unrolling_through_the_student():
    """The student called as a module with named weights, every inner step in one graph, normalised pixels as the leaf."""
    student = build_student(QUICK.student, 8, 3, seed=0).double()
    generator = torch.Generator().manual_seed(0)
    images, targets = (torch.rand(s, generator=generator, dtype=torch.float64) for s in [(6, 3, 8, 8), (6, 3)])
    start = flat_weights(student)
    goal = start + torch.randn(start.shape, generator=generator, dtype=torch.float64) / 10
    rows = batches(6, 4, 5, generator)
    pixels, z, rate = (torch.nn.Parameter(t) for t in ((images - MEAN) / STD, targets, torch.tensor(0.2, dtype=torch.float64)))

    weights = {name: p.detach().clone().requires_grad_() for name, p in student.named_parameters()}
    for batch in rows:
        loss = F.mse_loss(functional_call(student, weights, (pixels[batch] * STD + MEAN,)), z[batch])
        slopes = torch.autograd.grad(loss, list(weights.values()), create_graph=True)
        weights = {name: w - rate * g for (name, w), g in zip(weights.items(), slopes, strict=True)}
    end = torch.cat([w.flatten() for w in weights.values()])
    expected = (end - goal).square().sum() / (start - goal).square().sum()
    wanted = torch.autograd.grad(expected, (pixels, z, rate))

    found = match(imitation_loss(student), Learned(pixels, z, rate), rows, start, goal)
    torch.testing.assert_close(found, expected.detach())
    for leaf, slope in zip((pixels, z, rate), wanted, strict=True):
        torch.testing.assert_close(leaf.grad, slope, rtol=1e-8, atol=1e-12)


def test_all_experts_are_visited_at_all_start_epochs(run):
    """Weights that name their expert and epoch: each expert once per pass, and the goal M epochs after the start."""
    paths = [torch.tensor([[10.0 * k + epoch] for epoch in range(5)]) for k in range(4)]
    experts = Visits(paths, 3, 2, run.generator("experts"))
    visits = [(int(start), int(goal)) for start, goal in map(experts.at, range(40))]
    assert all(goal - start == 2 for start, goal in visits)
    assert {start % 10 for start, _ in visits} == {0, 1, 2}
    for a in range(0, 40, 4):
        assert sorted(start // 10 for start, _ in visits[a : a + 4]) == [0, 1, 2, 3]


def test_distillation_lowers_the_matching_loss(backbone, data, run):
    losses = []
    method = dataclasses.replace(QUICK, steps=60, inner_steps=8, lr_images=10.0, lr_targets=1.0, init="random")
    recorded = dataclasses.replace(run, progress=lambda step, steps, loss: losses.append(loss))
    dset = method.distill(backbone, data, 4, run=recorded)
    assert sum(losses[-12:]) < 0.95 * sum(losses[:12])
    assert dset.extras["student_lr"] != pytest.approx(0.1)
    assert dset.labels_of == "initial images"


@pytest.mark.parametrize(
    ("learn", "images_move", "targets_move"), [("all", True, True), ("targets", False, True), ("rate", False, False)]
)
def test_controls_learn_what_they_say_and_all_learn_the_rate(backbone, data, run, learn, images_move, targets_move):
    dset = dataclasses.replace(QUICK, learn=learn, lr_images=100.0).distill(backbone, data, 2, run=run)
    control = METHODS.create("teacher_high_loss", student=QUICK.student, size=8, experts=3)
    initial = control.distill(backbone, data, 2, run=run)
    assert dset.provenance["initial_indices"] == initial.indices.tolist()
    assert (not torch.equal(dset.images, initial.images)) == images_move
    assert (not torch.equal(dset.targets, initial.targets)) == targets_move
    assert dset.extras["student_lr"] != 0.1


def test_the_set_starts_from_random_images_or_those_of_highest_loss(backbone, data, run):
    found = {}
    for init in ("random", "high_loss_first", "high_loss_last"):
        dset = dataclasses.replace(QUICK, init=init, last_epoch=6).distill(backbone, data, 4, run=run)
        found[init] = dset.provenance["initial_indices"]
    assert found["random"] == METHODS.create("teacher_random").distill(backbone, data, 4, run=run).indices.tolist()
    for epoch in ("first", "last"):
        control = METHODS.create("teacher_high_loss", student=QUICK.student, size=8, experts=3, epoch=epoch, last_epoch=6)
        assert found[f"high_loss_{epoch}"] == control.distill(backbone, data, 4, run=run).indices.tolist()
    assert len(set(map(tuple, found.values()))) == 3


def test_targets_are_standardised_and_the_inverse_is_stored(backbone, data, run):
    dset = dataclasses.replace(QUICK, learn="rate", init="random").distill(backbone, data, 4, run=run)
    real = run.bank.features(backbone, data, "train")[0][dset.provenance["initial_indices"]]
    torch.testing.assert_close(dset.targets * dset.target_std + dset.target_mean, real, rtol=1e-4, atol=1e-5)
    raw = dataclasses.replace(QUICK, learn="rate", init="random", standardise=False).distill(backbone, data, 4, run=run)
    torch.testing.assert_close(raw.targets, real)


def test_a_rate_that_turns_negative_is_divergence(backbone, data, run):
    with pytest.raises(Diverged, match="student rate"):
        dataclasses.replace(QUICK, steps=200, lr_rate=100.0).distill(backbone, data, 1, run=run)


@pytest.mark.parametrize(
    "change",
    [{"inner_steps": 3}, {"batch": 2}, {"match_epochs": 3}, {"start_epochs": 1}, {"lr_images": 50.0}, {"lr_targets": 1.0},
     {"lr_rate": 1e-3}, {"rate": 0.2}, {"experts": 2}, {"expert_lr": 0.05}, {"student": "convnet[widths=5]"}],
)  # fmt: skip
def test_every_parameter_changes_the_result(backbone, data, run, change):
    base = QUICK.distill(backbone, data, 2, run=run)
    other = dataclasses.replace(QUICK, **change).distill(backbone, data, 2, run=run)
    assert not torch.equal(base.images, other.images) or base.extras != other.extras
