"""KRR-ST: the outer loss and its gradient against slow versions, the pool both ways, and what learning must do."""

import dataclasses

import pytest
import torch

from ddbench.core.method import METHODS
from ddbench.core.students import build_student
from ddbench.methods._teacher import Teacher
from ddbench.methods.krrst import KRRST, Pool, RealSide, regression_loss

QUICK = KRRST(student="convnet[widths=4-4,norm=batch]", size=8, steps=4, batch=20, pool=2, online=3, lr=1e-2)


def slow_regression_loss(z_syn, y_syn, z_real, y_real, lam):
    """Kernel entries one by one, an explicit inverse, and a sum over images and dimensions."""
    one = torch.ones(1, dtype=torch.float64)
    syn, real = ([torch.cat([row, one]) for row in z] for z in (z_syn, z_real))
    kernel = torch.stack([torch.stack([a @ b for b in syn]) for a in syn])
    cross = torch.stack([torch.stack([a @ b for b in syn]) for a in real])
    ridge = lam * sum((row @ row).item() for row in syn)  # a number: no gradient passes through it
    weights = torch.linalg.inv(kernel + ridge * torch.eye(len(syn), dtype=torch.float64)) @ y_syn
    return sum((cross[i] @ weights - y_real[i]).square().sum() for i in range(len(real))) / y_real.numel()


@pytest.mark.parametrize("n", [4, 12])  # fewer and more images than features
def test_outer_loss_and_gradient_are_kernel_ridge_regression(n):
    generator = torch.Generator().manual_seed(0)
    shapes = [(n, 7), (n, 3), (9, 7), (9, 3)]
    z_syn, y_syn, z_real, y_real = (torch.randn(s, generator=generator, dtype=torch.float64) for s in shapes)
    z_syn.requires_grad_(), y_syn.requires_grad_()
    found, expected = (f(z_syn, y_syn, z_real, y_real, 0.02) for f in (regression_loss, slow_regression_loss))
    torch.testing.assert_close(found, expected)
    for one, other in zip(*(torch.autograd.grad(loss, (z_syn, y_syn)) for loss in (found, expected)), strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("chunk", [2, 100])
def test_pixel_gradients_do_not_depend_on_chunks_and_are_autograds(run, chunk):
    run = dataclasses.replace(run, chunk=chunk)
    network = build_student(QUICK.student, 8, 3, seed=0)
    generator = torch.Generator().manual_seed(0)
    images, x_real = (torch.rand(5, 3, 8, 8, generator=generator) for _ in range(2))
    targets, y_real = (torch.randn(5, 3, generator=generator) for _ in range(2))
    method = dataclasses.replace(QUICK, lam=0.1)
    found = torch.autograd.grad(method.step_loss(network, images.requires_grad_(), targets, x_real, y_real, run), images)[0]
    plain = regression_loss(network.features(images), targets, network.features(x_real).detach(), y_real, 0.1)
    torch.testing.assert_close(found, torch.autograd.grad(plain, images)[0], rtol=1e-4, atol=1e-7)
    assert not network.training


@pytest.fixture
def pool(run):
    def pool(reset):
        method = dataclasses.replace(QUICK, pool_reset=reset, online=4, pool=1)
        generator = torch.Generator().manual_seed(0)
        images, targets = torch.rand(3, 3, 8, 8, generator=generator), torch.randn(3, 2, generator=generator)
        started = Pool(method, 2, run)
        started.start(images, targets)

        def visit():
            """One update; whether the network was drawn anew rather than trained."""
            before = started.networks[0]
            started.update(0, images, targets)
            return started.networks[0] is not before

        return started, visit

    return pool


def test_the_released_pool_never_trains_a_network_again_once_it_is_reset(pool):
    started, visit = pool("released")
    left = 4 - started.steps[0]
    assert [visit() for _ in range(left + 6)] == [False] * left + [True] * 6


def test_the_intended_pool_trains_every_new_network(pool):
    started, visit = pool("intended")
    left = 4 - started.steps[0]
    assert [visit() for _ in range(left + 10)] == [False] * left + [True, *[False] * 4] * 2


def test_networks_start_at_different_ages_and_are_trained_on_the_set(run):
    images, targets = torch.rand(3, 3, 8, 8), torch.randn(3, 2)
    pool = Pool(dataclasses.replace(QUICK, pool=6, online=20), 2, run)
    pool.start(images, targets)
    assert len(set(pool.steps)) > 1
    assert all(1 <= age < 20 for age in pool.steps)
    oldest, youngest = (pool.networks[pool.steps.index(extreme(pool.steps))] for extreme in (max, min))
    loss = [(network.train()(images) - targets).square().mean().item() for network in (oldest, youngest)]
    assert loss[0] < loss[1]


def test_learning_lowers_the_outer_loss_and_moves_images_and_targets(backbone, data, run):
    losses = []
    method = dataclasses.replace(QUICK, steps=60, batch=40)
    recorded = dataclasses.replace(run, progress=lambda step, steps, loss: losses.append(loss))
    dset = method.distill(backbone, data, 4, run=recorded)
    assert sum(losses[-10:]) < 0.9 * sum(losses[:10])
    initial = METHODS.create("teacher_random", size=8).distill(backbone, data, 4, run=run)
    assert dset.provenance["initial_indices"] == initial.indices.tolist()
    assert torch.equal(dset.labels, initial.labels)
    assert 0 < (dset.images - initial.images).abs().mean() < 0.3
    assert not torch.equal(dset.targets, initial.targets)


def test_learned_targets_alone_leave_the_initial_images(backbone, data, run):
    dset = dataclasses.replace(QUICK, learn="targets").distill(backbone, data, 2, run=run)
    initial = METHODS.create("teacher_random", size=8).distill(backbone, data, 2, run=run)
    assert torch.equal(dset.images, initial.images)
    assert not torch.equal(dset.targets, initial.targets)


def test_real_batches_are_augmented_and_seen_by_the_teacher(backbone, data, run):
    """Live: the teacher's targets belong to the augmented images. Banked: plain images with the bank's targets."""
    teacher = Teacher.of(backbone, data, True, run)
    images, targets = RealSide(dataclasses.replace(QUICK, size=16), teacher, data, run).at(0)
    torch.testing.assert_close(targets, teacher.see(images))
    plain, banked = RealSide(dataclasses.replace(QUICK, size=16, real="bank"), teacher, data, run).at(0)
    torch.testing.assert_close(banked, teacher.see(plain), rtol=1e-4, atol=1e-4)
    assert not torch.equal(images, plain)


@pytest.mark.parametrize(
    "change",
    [{"lr": 0.1}, {"batch": 10}, {"lam": 1e-2}, {"pool": 1}, {"online": 5}, {"pool_lr": 0.01}, {"pool_decay": 0.1},
     {"pool_reset": "intended", "steps": 12}, {"real": "bank"}, {"standardise": False}, {"student": "convnet[widths=5]"}],
)  # fmt: skip
def test_every_parameter_changes_the_result(backbone, data, run, change):
    base = dataclasses.replace(QUICK, steps=change.get("steps", 4)).distill(backbone, data, 1, run=run)
    other = dataclasses.replace(QUICK, **change).distill(backbone, data, 1, run=run)
    assert not torch.equal(base.targets, other.targets)
