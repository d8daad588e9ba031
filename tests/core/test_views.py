"""Views: geometry against slow per-image versions, statistics, replay of noise across chunks."""

import itertools

import pytest
import torch
import torch.nn.functional as F

from ddbench.core.errors import UserError
from ddbench.core.views import (
    CENTRE,
    View,
    ViewParams,
    apply,
    draw_noise,
    pad_crop_flip,
    sample,
    sample_in_blocks,
    skip_noise,
)

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def images(n=4, size=16):
    return torch.rand(n, 3, size, size, generator=seeded(9))


def test_parse():
    assert View.parse("none") == CENTRE
    assert View.parse("flip+crop+noise", noise_mean=0.5) == View(True, (0.08, 1.0), noise_p=0.5, noise_mean=0.5)
    with pytest.raises(UserError, match="unknown augmentation 'rotate'; write none or"):
        View.parse("flip+rotate")


def test_centre_view_is_an_exact_crop():
    x = images(size=20)
    assert torch.equal(apply(CENTRE, x, sample(CENTRE, 4, seeded()), 16), x[..., 2:18, 2:18])


@pytest.mark.parametrize("stage_size", [16, 20, 21, 19])
def test_a_plain_view_among_random_ones_takes_the_same_pixels_as_the_centre_crop(stage_size):
    """Odd borders too: the affine map lands on pixel centres."""
    x = images(size=stage_size)
    params = sample(CENTRE, 4, seeded(), stage_size, 16)
    found = apply(View(crop=(1, 1)), x, params, 16)
    torch.testing.assert_close(found, apply(CENTRE, x, params, 16), rtol=1e-4, atol=1e-5)


def test_flip_alone_mirrors_about_half_of_the_images():
    view = View(flip=True)
    params = sample(view, 400, seeded())
    mirrored = params.theta[:, 0, 0] < 0
    assert 160 < mirrored.sum() < 240
    x = images(400)
    torch.testing.assert_close(apply(view, x, params, 16)[mirrored], x[mirrored].flip(-1), rtol=1e-4, atol=1e-5)


def test_crop_of_a_quarter_is_that_quarter_enlarged():
    """Area 1/4 at ratio 1, moved to the upper left corner, equals bilinear enlargement of that quarter inside its border."""
    theta = torch.tensor([[[0.5, 0, -0.5], [0, 0.5, -0.5]]])
    x = images(1)
    found = apply(View(crop=(0.25, 0.25)), x, ViewParams(theta, torch.zeros(1, dtype=torch.bool)), 16)
    expected = F.interpolate(x[..., :9, :9], scale_factor=2, mode="bilinear")[..., :16, :16]
    torch.testing.assert_close(found[..., 1:, 1:], expected[..., 1:, 1:], rtol=1e-4, atol=1e-5)


def test_crop_area_and_ratio_have_the_released_ranges():
    params = sample(View(crop=(0.08, 1.0)), 5000, seeded())
    width, height = params.theta[:, 0, 0], params.theta[:, 1, 1]
    area, ratio = width * height, width / height
    assert 0.08 <= area.min() < 0.1
    assert 0.98 < area.max() <= 1.0001
    assert abs(area.mean() - 0.54) < 0.01
    assert 0.75 <= ratio.min() < 0.76
    assert 1.32 < ratio.max() <= 1.3334
    assert (params.theta[:, :, 2].abs() <= (1 - torch.stack([width, height], 1)).abs() + 1e-6).all()


def test_noise_hits_half_of_the_images_with_the_given_moments():
    view = View(noise_p=0.5, noise_std=0.2, noise_mean=0.5)
    x = torch.zeros(400, 3, 8, 8)
    out = apply(view, x, sample(view, 400, seeded()), 8, seeded(1))
    hit = out.flatten(1).any(1)
    assert 160 < hit.sum() < 240
    assert abs(out[hit].mean() - 0.5) < 0.01
    assert abs(out[hit].std() - 0.2) < 0.01


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=[pytest.mark.gpu, needs_gpu])])
@pytest.mark.parametrize("sizes", [(1, 3, 1), (2, 3), (4, 1), (1, 1, 1, 1, 1)])
@pytest.mark.parametrize("size", [1, 14, 30, 32, 518])
def test_chunks_of_a_batch_draw_the_noise_of_the_whole_batch(size, sizes, device):
    """3 x 14 x 14, 3 x 30 x 30 and 3 x 518 x 518 numbers are no multiple of the 16 that torch draws at a time."""
    view, x = View(noise_p=1.0), torch.zeros(5, 3, size, size, device=device)
    stream = lambda: torch.Generator(device).manual_seed(2)  # noqa: E731
    params = sample(view, 5, seeded(), size, size)
    whole = apply(view, x, params, size, stream())
    noise, starts = stream(), itertools.accumulate(sizes, initial=0)
    parts = [apply(view, x[i : i + k], params[i : i + k], size, noise) for i, k in zip(starts, sizes, strict=False)]
    assert torch.equal(torch.cat(parts), whole)
    late = stream()
    skip_noise(view, late, 3, size)
    assert torch.equal(apply(view, x[3:], params[3:], size, late), whole[3:])
    assert len({tuple(image.flatten()[:16].tolist()) for image in whole}) == 5


@pytest.mark.parametrize("size", [16, 32])
def test_noise_is_what_torch_draws_for_the_batch_where_images_are_whole_blocks(size):
    """What records of 32, 96 or 224 pixels were made with."""
    assert torch.equal(draw_noise(seeded(3), 5, size), torch.randn(5, 3, size, size, generator=seeded(3)))


def test_views_drawn_in_blocks_are_those_of_one_draw_up_to_256_of_them():
    view = View.parse("flip+crop+noise")
    few, many = sample_in_blocks(view, 256, seeded(), 1, 1), sample_in_blocks(view, 300, seeded(), 1, 1)
    assert torch.equal(few.theta, sample(view, 256, seeded()).theta)
    assert torch.equal(few.theta, many.theta[:256])
    assert len(many.theta) == len(many.noisy) == 300


def test_pad_crop_flip_is_a_window_of_the_padded_image_or_its_mirror():
    x = images(60, 6)
    found = pad_crop_flip(x, 2, seeded())
    padded = F.pad(x, [2] * 4)
    seen = set()
    for image, wide in zip(found, padded, strict=True):
        places = itertools.product(range(5), range(5), (False, True))
        windows = {(top, left, m): wide[:, top : top + 6, left : left + 6] for top, left, m in places}
        (match,) = [key for key, window in windows.items() if torch.equal(image, window.flip(-1) if key[2] else window)]
        seen.add(match)
    assert {top for top, _, _ in seen} == {left for _, left, _ in seen} == set(range(5))
    assert {m for _, _, m in seen} == {False, True}
