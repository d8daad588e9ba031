"""The reverse walk gives what autograd gives through all unrolled steps."""

import pytest
import torch
import torch.nn.functional as F

from ddbench.core.students import build_student, flat_weights, imitation_loss
from ddbench.core.unroll import InnerLoop

BATCHES = [torch.tensor([0, 2, 1]), torch.tensor([3, 4]), torch.tensor([1, 4, 0]), torch.tensor([2])]


@pytest.fixture
def problem():
    """Float64: a ConvNet with instance norm, five images, a learnable rate."""
    student = build_student("convnet[widths=3-4]", 8, 6, seed=0).double()
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(5, 3, 8, 8, generator=generator, dtype=torch.float64)
    targets = torch.randn(5, 6, generator=generator, dtype=torch.float64)
    start = flat_weights(student)
    goal = start + torch.randn(start.shape, generator=generator, dtype=torch.float64) / 10
    return imitation_loss(student), images, targets, torch.tensor(0.3, dtype=torch.float64), start, goal


def plain(loss, images, targets, rate, start, goal):
    """Every step in one graph."""
    images, targets, rate = (t.clone().requires_grad_() for t in (images, targets, rate))
    theta = start.clone().requires_grad_()
    for rows in BATCHES:
        (slope,) = torch.autograd.grad(loss(theta, images[rows], targets[rows]), theta, create_graph=True)
        theta = theta - rate * slope
    return theta, torch.autograd.grad((theta - goal).square().sum(), (images, targets, rate))


def test_the_path_is_gradient_descent_and_its_gradients_are_autograds(problem):
    loss, images, targets, rate, start, goal = problem
    end, expected = plain(*problem)
    loop = InnerLoop(loss, images, targets, rate, BATCHES)
    path = loop.descend(start)
    torch.testing.assert_close(path[-1], end.detach(), rtol=1e-12, atol=1e-12)
    found = loop.backpropagate(path, 2 * (path[-1] - goal))
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)
        assert one.abs().max() > 1e-6


def test_no_graph_outlives_a_step(problem):
    loss, images, targets, rate, start, _ = problem
    path = InnerLoop(loss, images.requires_grad_(), targets.requires_grad_(), rate.requires_grad_(), BATCHES).descend(start)
    assert len(path) == 1 + len(BATCHES)
    assert not any(theta.requires_grad or theta.grad_fn for theta in path)


def test_the_imitation_loss_is_the_students_own():
    student = build_student("convnet[widths=3]", 8, 6, seed=0)
    images, targets = torch.rand(4, 3, 8, 8), torch.randn(4, 6)
    theta = flat_weights(student)
    torch.testing.assert_close(imitation_loss(student)(theta, images, targets), F.mse_loss(student(images), targets))
    assert theta.shape == (sum(p.numel() for p in student.parameters()),)
    with torch.no_grad():
        student.head.bias += 1
    assert not torch.equal(theta, flat_weights(student))  # a copy, not the live weights
