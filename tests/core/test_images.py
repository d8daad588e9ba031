"""Image parametrisations stay in [0, 1]; the pyramid grows without changing its scale."""

import pytest
import torch
import torch.nn.functional as F

from ddbench.core.images import Pixels, Pyramid, by_products, level_sizes


def seeded():
    return torch.Generator().manual_seed(3)


def test_level_sizes():
    assert level_sizes(256) == [1, 2, 4, 8, 16, 32, 64, 128, 256]
    assert level_sizes(32) == [1, 2, 4, 8, 16, 32]
    assert level_sizes(96) == [1, 2, 4, 8, 16, 32, 64, 96]
    assert level_sizes(1) == [1]


def test_images_are_in_the_unit_interval_and_chunks_render_the_same():
    for images in (Pixels(6, 16, seeded()), Pyramid(6, 16, seeded(), start=16)):
        whole = images().detach()
        assert whole.shape == (6, 3, 16, 16)
        assert 0 <= whole.min() < whole.max() <= 1
        torch.testing.assert_close(torch.cat([images(slice(0, 4)), images(slice(4, 6))]).detach(), whole)


def test_pyramid_grows_level_by_level_as_released():
    """Old levels shrink by old/new, the new level has standard deviation 1/new (LGM's released code)."""
    images = Pyramid(200, 8, seeded())
    before = images.levels[0].detach().clone()
    for new in (2, 3, 4):
        assert images.grow()
        assert images.levels[-1].shape[-1] == 2 ** (new - 1)
        torch.testing.assert_close(images.levels[0].detach(), before / new)
        assert abs(images.levels[-1].std() * new - 1) < 0.05
    assert not images.grow()
    assert len(images.levels) == 4


def test_decorrelation_is_the_published_matrix_over_its_largest_column_norm():
    """Hand value: unit signal in the first colour axis; the matrix is divided by its largest column norm."""
    images = Pixels(1, 1, seeded())
    with torch.no_grad():
        images.signal.copy_(torch.tensor([1.0, 0, 0]).view(1, 3, 1, 1))
    norm = (0.26**2 + 0.27**2 + 0.27**2) ** 0.5
    expected = torch.sigmoid(2 * torch.tensor([0.26, 0.27, 0.27]) / norm)
    torch.testing.assert_close(images().flatten().detach(), expected)


def test_plain_channels_without_decorrelation():
    images = Pixels(2, 4, seeded(), decorrelate=False)
    torch.testing.assert_close(images(), torch.sigmoid(2 * images.signal))


@pytest.mark.parametrize("size", [16, 24])
def test_upsampling_by_products_is_torchs_own_forward_and_back(size):
    """What a GPU does in place of `interpolate`, whose deterministic gradient is slow there."""
    for old in level_sizes(size):
        levels = torch.randn(2, 3, old, old, dtype=torch.float64, generator=seeded()).requires_grad_()
        weight = torch.randn(2, 3, size, size, dtype=torch.float64, generator=seeded())
        expected = F.interpolate(levels, size=(size, size), mode="bilinear")
        found = by_products(levels, size)
        torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-7)  # torch's weights are float32
        gradients = (torch.autograd.grad((images * weight).sum(), levels)[0] for images in (found, expected))
        torch.testing.assert_close(*gradients, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("images", [Pixels(6, 8, seeded()), Pyramid(6, 8, seeded(), start=8)], ids=["pixels", "pyramid"])
def test_chunks_leave_the_gradient_of_the_whole_and_nothing_on_the_rows_of_others(images):
    weight = torch.randn(6, 3, 8, 8, generator=seeded())
    (images() * weight).sum().backward()
    whole = [parameter.grad.clone() for parameter in images.parameters()]
    images.zero_grad()
    for rows in (slice(0, 2), slice(2, 5), slice(4, 6)):  # image 4 twice
        (images(rows) * weight[rows]).sum().backward()
    for parameter, expected in zip(images.parameters(), whole, strict=True):
        expected[4] *= 2
        torch.testing.assert_close(parameter.grad, expected)
    images.zero_grad()
    images(slice(0, 2)).sum().backward()
    assert all(parameter.grad[:2].any() and not parameter.grad[2:].any() for parameter in images.parameters())
