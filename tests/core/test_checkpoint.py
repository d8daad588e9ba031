"""A loop that was cut short goes on to the same bits, wherever it was cut; a divergence leaves the last good images."""

import dataclasses

import pytest
import torch

from ddbench.core.checkpoint import Checkpoint, Streams
from ddbench.core.engine import FeatureEngine
from ddbench.core.errors import Diverged
from ddbench.core.images import Pyramid
from ddbench.core.optimise import Schedule, optimise
from ddbench.core.run import Run
from ddbench.core.views import CENTRE
from ddbench.methods.clpdd import CLPDD
from ddbench.methods.duet import Duet
from ddbench.methods.krrst import KRRST, Pool
from ddbench.methods.lgm import LGM
from ddbench.methods.mkdt import MKDT

STEPS = 10
GROWING = {"steps": STEPS, "copies": 2, "augment": "flip+crop+noise", "grow_every": 3}
METHODS = [
    CLPDD(**GROWING, init="noise", real_batch=20),
    LGM(steps=STEPS, copies=2, grow_every=0, real="bank", images="pixels"),
    LGM(**GROWING, real="live"),  # 48 train images and batches of 12: an epoch is 4 steps
    LGM(**GROWING, real="bank", real_views=2),
    Duet(steps=STEPS, copies=2, real_batch=20),
]


STUDENT = {"size": 8, "steps": STEPS}
PRETRAINING = [  # 48 train images and batches of 20: an epoch is 2 steps; networks are drawn anew after 4
    KRRST(student="convnet[widths=4,norm=batch]", **STUDENT, batch=20, pool=2, online=4, lr=1e-2),
    KRRST(
        student="convnet[widths=4,norm=batch]",
        **STUDENT,
        batch=20,
        pool=2,
        online=4,
        lr=1e-2,
        pool_reset="intended",
        real="bank",
    ),
    MKDT(student="convnet[widths=4-4]", **STUDENT, inner_steps=3, batch=4, experts=3, lr_images=10.0, lr_targets=0.1),
]


class Cut(Exception):
    pass


class CutAfter(Checkpoint):
    """Saves once, after `step` steps, and ends the loop there."""

    def __init__(self, step: int):
        self.step, self.taken = step, 0

    def due(self) -> bool:
        self.taken += 1
        return self.taken == self.step

    def save(self, step, state):
        self.saved = step, {name: tensor.clone() for name, tensor in state.items()}
        raise Cut


class GoOn(Checkpoint):
    """Hands out what was saved."""

    def __init__(self, saved):
        self.saved = saved

    def load(self, streams):
        return self.saved


@pytest.fixture
def distil(backbone, data, run):
    """The set that a method makes with a checkpoint, and the losses on the way."""

    def distil(method, checkpoint, chunk=None):
        losses = []
        fresh = dataclasses.replace(
            run, streams=Streams(), checkpoint=checkpoint, chunk=chunk, progress=lambda step, steps, loss: losses.append(loss)
        )
        return method.distill(backbone, data, 2, run=fresh), losses

    return distil


def whole_and_resumed(distil, method, cut):
    """The sets of a run in one go and of one that was cut after `cut` steps and went on: to the same losses and images."""
    whole, losses = distil(method, Checkpoint())
    checkpoint = CutAfter(cut)
    with pytest.raises(Cut):
        distil(method, checkpoint)
    resumed, rest = distil(method, GoOn(checkpoint.saved))
    assert rest == losses[cut:]
    assert torch.equal(resumed.images, whole.images)
    return whole, resumed


@pytest.mark.parametrize("cut", [2, 5])
@pytest.mark.parametrize("method", PRETRAINING, ids=["krrst", "krrst-intended", "mkdt"])
def test_a_resumed_pretraining_method_ends_with_the_same_bits(distil, method, cut):
    whole, resumed = whole_and_resumed(distil, method, cut)
    assert torch.equal(resumed.targets, whole.targets)
    assert resumed.extras == whole.extras


def test_a_resumed_pool_is_not_trained_from_the_start_again(distil, monkeypatch):
    checkpoint = CutAfter(5)
    with pytest.raises(Cut):
        distil(PRETRAINING[0], checkpoint)
    monkeypatch.setattr(Pool, "start", lambda *a: pytest.fail("the pool was trained again"))
    distil(PRETRAINING[0], GoOn(checkpoint.saved))


@pytest.mark.parametrize("cut", [1, 3, 5, 6, 9])  # before, at and after growing; within an epoch and at its end
@pytest.mark.parametrize("method", METHODS, ids=["clpdd", "lgm-pixels", "lgm-live", "lgm-bank", "duet"])
def test_a_resumed_loop_ends_with_the_same_bits(distil, method, cut):
    whole_and_resumed(distil, method, cut)


@pytest.mark.parametrize("method", [METHODS[0], METHODS[-1]], ids=["clpdd", "duet"])
def test_a_resumed_loop_keeps_its_chunks(distil, method):
    """Another size, such as what fits into less GPU memory, would sum in another order."""
    whole, losses = distil(method, Checkpoint(), chunk=5)
    checkpoint = CutAfter(4)
    with pytest.raises(Cut):
        distil(method, checkpoint, chunk=5)
    resumed, rest = distil(method, GoOn(checkpoint.saved), chunk=3)
    assert rest == losses[4:]
    assert torch.equal(resumed.images, whole.images)


def test_all_streams_of_a_loop_are_in_its_state(distil):
    checkpoint = CutAfter(1)
    with pytest.raises(Cut):
        distil(METHODS[2], checkpoint)
    purposes = {name.split(".")[2] for name in checkpoint.saved[1] if name.startswith("generator.")}
    assert purposes == {"initial images", "heads", "synthetic views", "real views", "real epoch", "real noise"}


def test_streams_of_one_purpose_are_told_apart_and_those_out_of_use_are_forgotten():
    run = Run()
    first, second = run.generator("views"), run.generator("views")
    run.generator("short-lived")
    torch.rand(3, generator=first)
    state = run.streams.state()
    wanted = [torch.rand(1, generator=g) for g in (first, second)]
    assert run.streams.names() == ["generator.0.views", "generator.1.views"]
    run.streams.restore(state)
    assert [torch.rand(1, generator=g) for g in (first, second)] == wanted


@pytest.mark.parametrize(("bad", "grow_every"), [(3, 0), (2, 2), (0, 0)])  # in the middle, right after growing, at once
def test_a_divergence_carries_the_images_of_the_last_finite_loss(backbone, run, bad, grow_every):
    def images():
        return Pyramid(2, 16, torch.Generator().manual_seed(0), start=1 if grow_every else 16)

    def objective_at(step):
        return lambda z: z.square().sum() / (step != bad)

    engine = FeatureEngine(backbone, [CENTRE])
    with pytest.raises(Diverged, match=f"loss is inf at step {bad + 1} of 9") as raised:
        optimise(images(), engine, objective_at, Schedule(9, 0.1, grow_every), run)
    steps = max(0, bad - 1)  # the last finite loss was that of the images after so many updates
    wanted = optimise(images(), engine, objective_at, Schedule(steps, 0.1, grow_every), run)
    torch.testing.assert_close(raised.value.images, wanted, rtol=0, atol=2e-3)  # kept in bfloat16: half a grey level
    if bad > 1:  # and the images of one update more are further away
        later = optimise(images(), engine, objective_at, Schedule(steps + 1, 0.1, grow_every), run)
        assert (later - wanted).abs().max() > 1e-2
