"""The engine's gradient is the whole-batch gradient, whatever the chunk size."""

import pytest
import torch

from ddbench.core.engine import FeatureEngine
from ddbench.core.images import Pixels, Pyramid
from ddbench.core.ridge import one_hot, solve_ridge
from ddbench.core.views import CENTRE, View, apply, sample

N, COPIES = 5, 3
NOISY = View.parse("flip+crop+noise", noise_mean=0.1)


def objective(z):
    """Couples all images and views, as every method's objective does."""
    labels = torch.arange(N) % 3
    probe = solve_ridge(z.flatten(0, 1), one_hot(labels, 3, z.dtype).repeat(len(z), 1), 0.1)
    target = torch.linspace(-1, 1, z.shape[-1], dtype=z.dtype)
    return (target @ probe).square().sum() + z.tanh().mean()


def gradient(backbone, images, views, chunk):
    engine = FeatureEngine(backbone, views, chunk)
    images.zero_grad()
    loss = engine.step(images, objective, torch.Generator().manual_seed(7))
    return loss, torch.cat([p.grad.flatten() for p in images.parameters()])


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-6), (torch.float32, 1e-4)])
@pytest.mark.parametrize("chunk", [1, 2, 3, 4, 7, 14, 15, 100])
@pytest.mark.parametrize("kind", [Pixels, Pyramid])
def test_chunked_gradient_is_whole_batch_gradient(kind, chunk, dtype, tolerance, make_backbone):
    backbone = make_backbone(dtype=dtype)
    images = kind(N, 16, torch.Generator().manual_seed(1)).to(dtype)
    if kind is Pyramid:
        images = Pyramid(N, 16, torch.Generator().manual_seed(1), start=16).to(dtype)
    loss, whole = gradient(backbone, images, [NOISY] * COPIES, 1000)
    chunked_loss, chunked = gradient(backbone, images, [NOISY] * COPIES, chunk)
    assert abs(chunked_loss - loss) <= tolerance * abs(loss)
    assert (chunked - whole).norm() <= tolerance * whole.norm()
    assert whole.norm() > 0


def test_gradient_is_that_of_a_plain_loop_over_views(make_backbone):
    """Independent slow version: every view by itself through autograd, no engine."""
    backbone = make_backbone(dtype=torch.float64)
    view = View.parse("flip+crop")
    images = Pixels(N, 16, torch.Generator().manual_seed(1)).double()
    _, found = gradient(backbone, images, [CENTRE, view], 3)

    images.zero_grad()
    generator = torch.Generator().manual_seed(7)
    rendered = images()
    features = []
    for kind in (CENTRE, view):
        params = sample(kind, N, generator)
        each = [apply(View(crop=(1, 1)), rendered[i : i + 1], params[i : i + 1], 16) for i in range(N)]
        features.append(torch.cat([backbone(x) for x in each]))
    objective(torch.stack(features)).backward()
    expected = images.signal.grad.flatten()
    assert (found - expected).norm() <= 1e-6 * expected.norm()


def test_views_differ_between_steps_and_repeat_with_the_seed(backbone):
    images = Pixels(N, 16, torch.Generator().manual_seed(1))
    engine = FeatureEngine(backbone, [NOISY], 2)
    generator = torch.Generator().manual_seed(0)
    first, second = (engine.step(images, objective, generator) for _ in range(2))
    again = engine.step(images, objective, torch.Generator().manual_seed(0))
    assert first == again
    assert first != second


def test_crop_pct_takes_the_centre_of_larger_images(make_backbone):
    """Images live at the stage size, 20 pixels; the centre view feeds the middle 16 of them."""
    backbone = make_backbone(crop_pct=0.8)
    images = Pixels(2, backbone.spec.stage_size, torch.Generator().manual_seed(1))
    seen = []
    FeatureEngine(backbone, [CENTRE], 10).step(images, lambda z: seen.append(z.detach()) or z.sum(), torch.Generator())
    assert torch.equal(seen[0][0], backbone(images()[..., 2:18, 2:18]))
