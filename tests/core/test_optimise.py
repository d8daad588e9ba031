"""The shared loop: losses reach the host in order, and none is left unread."""

import dataclasses

import pytest
import torch

from ddbench.core.engine import FeatureEngine
from ddbench.core.errors import Diverged
from ddbench.core.images import Pixels
from ddbench.core.optimise import Losses, Schedule, optimise
from ddbench.core.views import CENTRE, View

FINITE = [torch.tensor(float(value)) for value in (5, 4, 3, 2)]


def test_losses_are_known_at_once_on_the_cpu():
    losses = Losses(4)
    assert [losses.add(step, loss) for step, loss in enumerate(FINITE)] == [[(0, 5)], [(1, 4)], [(2, 3)], [(3, 2)]]


def test_late_losses_come_in_order_and_the_first_and_last_at_once():
    losses = Losses(4, late=True)
    assert [losses.add(step, loss) for step, loss in enumerate(FINITE)] == [[(0, 5)], [], [(1, 4)], [(2, 3), (3, 2)]]


@pytest.mark.parametrize("bad", range(4))
@pytest.mark.parametrize("late", [False, True])
def test_no_loop_ends_on_an_infinite_loss(bad, late):
    losses = Losses(4, late)
    with pytest.raises(Diverged, match=f"loss is nan at step {bad + 1} of 4"):
        _ = [losses.add(step, torch.tensor(torch.nan) if step == bad else loss) for step, loss in enumerate(FINITE)]


def test_progress_and_the_chunks_used_are_reported(backbone, run):
    reported = []
    run = dataclasses.replace(run, progress=lambda *step: reported.append(step), chunk=3)
    images = Pixels(4, 16, torch.Generator().manual_seed(0))
    engine = FeatureEngine(backbone, [View.parse("flip+crop")], run.chunk_size)
    optimise(images, engine, lambda step: lambda z: z.square().mean() + step, Schedule(3, 0.1), run)
    assert [(step, steps, int(loss)) for step, steps, loss in reported] == [(1, 3, 0), (2, 3, 1), (3, 3, 2)]
    assert run.facts == {"chunks": [3]}


def test_steps_are_adams_on_the_gradient_of_each_step_alone(backbone, run):
    """The loop written out; bit for bit."""
    objective = lambda z: z.square().mean()  # noqa: E731
    images, expected = (Pixels(4, 16, torch.Generator().manual_seed(0)) for _ in range(2))
    found = optimise(images, FeatureEngine(backbone, [CENTRE]), lambda step: objective, Schedule(4, 0.1), run)
    adam = torch.optim.Adam(expected.parameters(), lr=0.1)
    for _ in range(4):
        adam.zero_grad()
        objective(backbone(expected())[None]).backward()
        adam.step()
    assert torch.equal(found, expected().detach())
