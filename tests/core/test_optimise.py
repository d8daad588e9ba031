"""The shared loop: losses reach the host in order, and none is left unread."""

import dataclasses

import pytest
import torch

from ddbench.core import optimise as optimise_module
from ddbench.core.checkpoint import Checkpoint, Streams
from ddbench.core.engine import FeatureEngine
from ddbench.core.errors import Diverged
from ddbench.core.images import Pixels, Pyramid
from ddbench.core.optimise import Losses, Schedule, optimise, reads_late
from ddbench.core.run import Run
from ddbench.core.views import CENTRE, View

FINITE = [torch.tensor(float(value)) for value in (5, 4, 3, 2)]


def losses_of(steps=4, late=False, first=0):
    return Losses(Pixels(1, 4, torch.Generator().manual_seed(0)), first, steps, late)


def test_losses_are_known_at_once_on_the_cpu():
    losses = losses_of()
    assert [losses.add(step, loss) for step, loss in enumerate(FINITE)] == [[(0, 5)], [(1, 4)], [(2, 3)], [(3, 2)]]


def test_late_losses_come_in_order_and_the_first_and_last_at_once():
    losses = losses_of(late=True)
    assert [losses.add(step, loss) for step, loss in enumerate(FINITE)] == [[(0, 5)], [], [(1, 4)], [(2, 3), (3, 2)]]


@pytest.mark.parametrize(("device", "chunk", "late"), [("cuda", None, True), ("cuda", 64, False), ("cpu", None, False)])
def test_losses_are_late_on_a_gpu_that_need_not_save_memory(device, chunk, late):
    assert reads_late(Run(device=torch.device(device), chunk=chunk)) is late


def test_the_first_step_of_a_resumed_loop_is_not_late():
    losses = losses_of(5, late=True, first=2)
    assert [losses.add(step, FINITE[step]) for step in (2, 3)] == [[(2, 3)], []]


def test_a_late_loss_can_be_read_before_the_next():
    losses = losses_of(late=True)
    losses.add(0, FINITE[0])
    losses.add(1, FINITE[1])
    assert [losses.read(), losses.read(), losses.add(2, FINITE[2])] == [[(1, 4)], [], []]


@pytest.mark.parametrize("bad", range(5))
@pytest.mark.parametrize("late", [False, True])
def test_no_loop_ends_on_an_infinite_loss_and_the_good_images_are_those_of_the_last_finite_one(bad, late):
    """Step k sees images that are k more than at the start."""
    losses = losses_of(5, late)
    start = losses.images.signal.detach().clone()

    def step_through():
        for step in range(5):
            losses.images.signal.data.copy_(start + step)
            losses.add(step, torch.tensor(torch.nan if step == bad else 1.0))

    with pytest.raises(Diverged, match=f"loss is nan at step {bad + 1} of 5"):
        step_through()
    assert torch.equal(losses.last_good().signal, (start + max(0, bad - 1)).bfloat16().float())


@pytest.mark.parametrize(("late", "copies"), [(False, 1), (True, 2)])
def test_a_copy_of_the_good_images_takes_half_the_memory_of_the_images(late, copies):
    losses = losses_of(late=late)
    for step, loss in enumerate(FINITE[:3]):
        losses.add(step, loss)
    held = {id(copy): copy for copy in (losses.good, losses._spare, losses._unread and losses._unread[2]) if copy is not None}
    assert [copy.signal.dtype for copy in held.values()] == [torch.bfloat16] * copies
    assert sum(copy.signal.nbytes for copy in held.values()) == copies * losses.images.signal.nbytes / 2


@pytest.mark.parametrize("chunk", [1, 3, 10])
def test_a_regulariser_is_a_term_of_the_loss_chunk_by_chunk(chunk, backbone, run):
    """Against the loop written out; Adam, whose steps do not see the scale of a gradient, over a weight that matters."""
    images, expected = (Pixels(4, 16, torch.Generator().manual_seed(0)) for _ in range(2))
    origin, reported = torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(1)), []
    own = dataclasses.replace(run, progress=lambda step, steps, loss: reported.append(loss))
    engine, objective = FeatureEngine(backbone, [CENTRE], chunk), lambda z: z.square().mean()
    pull = lambda x, rows: (x - origin[rows]).square().sum() / 10  # noqa: E731
    found = optimise(images, engine, lambda step: objective, Schedule(4, 0.1), own, pull)
    adam = torch.optim.Adam(expected.parameters(), lr=0.1)
    for step in range(4):
        adam.zero_grad()
        loss = objective(backbone(expected())[None]) + pull(expected(), slice(4))
        loss.backward()
        assert reported[step] == pytest.approx(loss.item(), rel=1e-4)
        adam.step()
    torch.testing.assert_close(found, expected().detach(), rtol=1e-3, atol=1e-3)


def test_late_losses_save_and_diverge_as_those_read_at_once(backbone, run, monkeypatch):
    """The loop of a GPU, on the CPU: what it saves and what it leaves is the same."""

    def outcome(late):
        monkeypatch.setattr(optimise_module, "Losses", lambda *args, **_: Losses(*args, late=late))
        place, reported = Keeping(), []
        fresh = dataclasses.replace(run, checkpoint=place, streams=Streams(), progress=lambda *step: reported.append(step))
        images = Pyramid(2, 16, torch.Generator().manual_seed(0), start=1)
        objective_at = lambda step: lambda z: z.square().sum() / (step != 7)  # noqa: E731
        with pytest.raises(Diverged) as raised:
            optimise(images, FeatureEngine(backbone, [CENTRE]), objective_at, Schedule(9, 0.1, 3), fresh)
        return place.kept, reported, raised.value.images

    (kept, reported, images), (kept_late, reported_late, images_late) = outcome(False), outcome(True)
    assert reported_late == reported
    assert torch.equal(images_late, images)
    assert [step for step, _ in kept] == [step for step, _ in kept_late] == [3, 6]
    for (_, state), (_, late) in zip(kept, kept_late, strict=True):
        assert state.keys() == late.keys()
        assert all(torch.equal(state[name], late[name]) for name in state)


class Keeping(Checkpoint):
    """Due after every third step."""

    def __init__(self):
        self.asked, self.kept = 0, []

    def due(self):
        self.asked += 1
        return self.asked % 3 == 0

    def save(self, step, state):
        self.kept.append((step, {name: tensor.clone() for name, tensor in state.items()}))


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
