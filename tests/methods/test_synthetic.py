"""Where synthetic images start."""

import pytest
import torch

from ddbench.core.errors import UserError
from ddbench.core.method import METHODS
from ddbench.methods._synthetic import nearest_in_class, starting_images


def start(backbone, data, ipc, run, **changes):
    return starting_images(backbone, data, ipc, run, **{"init": "noise", **changes})


@pytest.mark.parametrize("images", ["pyramid", "pixels"])
@pytest.mark.parametrize(("ipc", "baseline"), [(1, "centroids"), (3, "kmeans")])
def test_starting_from_centroids_renders_the_real_images(backbone, data, run, images, ipc, baseline):
    """Up to the clamp to [0.02, 0.98] and the noise that tells equal images apart."""
    rendered = start(backbone, data, ipc, run, kind=images, init="centroid")().detach()
    real = METHODS.create(baseline).distill(backbone, data, ipc, run=run).images
    assert (rendered - real).abs().mean() < 0.03


def test_noise_grows_from_one_pixel_or_starts_whole(backbone, data, run):
    assert len(start(backbone, data, 1, run, grow_every=5).levels) == 1
    assert len(start(backbone, data, 1, run).levels) == 5  # 1, 2, 4, 8, 16


def test_several_starting_images_of_a_class_are_of_different_clusters():
    z = torch.tensor([[0.0], [0.1], [0.2], [5.0], [9.0], [9.3], [9.6]])
    members = torch.tensor([True, True, True, False, True, True, True])
    assert sorted(nearest_in_class(z, members, 2).tolist()) == [1, 5]
    assert nearest_in_class(z, members, 1).tolist() == [4]  # the mean is 4.7: 9.0 is nearer than 0.2


def test_a_class_with_too_few_images_starts_with_some_twice():
    z, members = torch.tensor([[0.0], [1.0], [1.1], [9.0]]), torch.tensor([False, True, True, True])
    assert nearest_in_class(z, members, 3).tolist() == [2, 1, 3]
    assert nearest_in_class(z, members, 5).tolist() == [2, 1, 3, 2, 1]


@pytest.mark.parametrize("method", ["clpdd", "lgm", "sfm"])
def test_a_pyramid_cannot_grow_from_real_images(method):
    with pytest.raises(UserError, match="give grow_every=0, or init=noise"):
        METHODS.create(f"{method}[init=centroid,grow_every=20]")
