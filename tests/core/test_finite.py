"""Features that are not finite are refused where they are made, with how many, of which images and what to try."""

import dataclasses

import pytest
import torch
from torch import nn

from ddbench.core.backbone import Backbone
from ddbench.core.data import ArrayImages, Split
from ddbench.core.engine import FeatureEngine
from ddbench.core.errors import Diverged, UserError
from ddbench.core.finite import cure
from ddbench.core.images import Pixels
from ddbench.core.optimise import Losses, Schedule, optimise
from ddbench.core.real import LiveBatches
from ddbench.core.views import CENTRE, View
from ddbench.evaluation._features import set_features
from ddbench.evaluation._heads import ProbeRecipe, new_heads, train_heads
from ddbench.methods.random_real import RandomReal

FLIP = View.parse("flip")


class Root(nn.Module):
    """NaN for images whose first pixels are dark."""

    def forward(self, images):
        return torch.stack([images.mean((1, 2, 3)), images[:, 0, 0].mean(1).sub(0.1).sqrt()], dim=1)


@pytest.fixture
def broken(backbone):
    spec = dataclasses.replace(backbone.spec, name="broken", dim=2, mean=(0, 0, 0), std=(1, 1, 1))
    return Backbone(Root(), spec)


@pytest.fixture
def some_dark(data):
    """The tiny data with four black train images."""
    images = data.train.images.array.copy()
    images[[3, 17, 18, 40]] = 0
    return dataclasses.replace(data, train=Split(ArrayImages(images), data.train.labels), fingerprint="some dark")


@pytest.mark.parametrize(("view", "copies", "chunk"), [(CENTRE, 1, 256), (CENTRE, 1, 7), (FLIP, 3, 7)])
def test_the_bank_refuses_them_and_stores_nothing(view, copies, chunk, broken, some_dark, run):
    run.bank.chunk = chunk
    with pytest.raises(UserError) as raised:
        run.bank.features(broken, some_dark, "train", view=view, copies=copies)
    expected = "broken gives features that are not finite for 4 of 48 train images of tiny (indices from 0: 3, 17, 18, 40)"
    assert str(raised.value) == f"{expected}; check its weights and its mean and std, or use another backbone"
    assert run.bank.store.get(run.bank.keys[0]) is None
    assert run.bank.features(broken, some_dark, "test").isfinite().all()


def test_a_gpu_in_bfloat16_is_told_of_float32(broken, monkeypatch):
    monkeypatch.setattr("ddbench.core.finite.precision", lambda device: "bf16")
    assert cure(broken) == "set DDBENCH_PRECISION=float32, or use another backbone"


class OnGPU(torch.Tensor):
    is_cuda = True


def test_a_gpu_that_is_a_step_ahead_is_told_of_the_step_that_was_wrong(backbone, data, run, monkeypatch):
    """There a step's features are looked at when those of the next are queued."""
    live = LiveBatches(backbone, data.train, FLIP, 4, run)
    monkeypatch.setattr("ddbench.core.real.Readback", Waiting)
    images, good = torch.arange(4), torch.ones(4, 3)
    bad = good.clone()
    bad[2, 1] = float("nan")
    live._check(4, images, good.as_subclass(OnGPU))
    live._check(5, images, bad.as_subclass(OnGPU))
    with pytest.raises(UserError, match=r"1 of 4 augmented real images of step 6 \(indices from 0: 2\)"):
        live._check(6, images, good.as_subclass(OnGPU))


class Waiting:
    def __init__(self, tensor):
        self.tensor = tensor

    def value(self):
        return self.tensor.as_subclass(torch.Tensor)


def test_live_batches_and_sets_refuse_them(broken, some_dark, run):
    live = LiveBatches(broken, some_dark.train, FLIP, 48, run)
    with pytest.raises(UserError, match="not finite for 4 of 48 augmented real images of step 1"):
        live.draw(0)
    dset = RandomReal().distill(None, some_dark, 12, run=run)
    dark = dset.images.flatten(1).amax(1) == 0
    dset = dataclasses.replace(dset, images=dset.images.masked_fill((torch.arange(len(dset)) == 5).view(-1, 1, 1, 1), 0))
    with pytest.raises(UserError, match=f"not finite for {int(dark.sum() + 1 - dark[5].int())} of 36 images of the set"):
        set_features(broken, some_dark, dset, run, view=FLIP, copies=2)


@pytest.mark.parametrize("late", [False, True])
def test_a_divergence_names_the_backbone_or_the_images(late, broken, backbone, run, monkeypatch):
    monkeypatch.setattr("ddbench.core.optimise.Losses", lambda *args, **_: Losses(*args, late=late))

    def reason(network, factor):
        images = Pixels(2, 16, torch.Generator().manual_seed(0), decorrelate=False)
        engine = FeatureEngine(network, [CENTRE])
        with pytest.raises(Diverged) as raised:
            optimise(images, engine, lambda step: lambda z: factor(step) * z.sum(), Schedule(6, 0.5), run)
        return str(raised.value)

    towards_black = reason(broken, lambda step: 1.0)
    assert "; broken gives features that are not finite for" in towards_black
    assert "of 2 views of the images: check its weights" in towards_black
    assert reason(backbone, lambda step: float("inf") if step == 3 else 1.0).endswith("inf at step 4 of 6")


def test_images_that_are_not_finite_are_named_first(backbone):
    images = Pixels(1, 16, torch.Generator().manual_seed(0))
    losses = Losses(images, 0, 3)
    images.signal.data[0, 0, 0, 0] = torch.nan
    with pytest.raises(Diverged, match="step 1 of 3; the images are not finite any more: a lower lr may help"):
        losses.add(0, torch.tensor(torch.nan), [(backbone, torch.full((1, 12), torch.nan))])


def test_a_head_that_is_not_finite_is_no_probe():
    z = torch.tensor([[1.0, torch.inf]]).expand(4, 2)
    heads, orders = new_heads(2, 3, [torch.Generator()]), [torch.Generator()]
    with pytest.raises(Diverged, match="weights of the linear probe are not finite"):
        train_heads(heads, lambda epoch, index: z[index], torch.arange(4) % 3, ProbeRecipe(0.1, 2, 4), orders)
