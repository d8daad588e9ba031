"""The engine's gradient is the whole-batch gradient, whatever the chunk size."""

import pytest
import torch

from ddbench.core import passes
from ddbench.core.engine import FeatureEngine, even_chunk, saved_bytes
from ddbench.core.images import Pixels, Pyramid
from ddbench.core.passes import cpu_chunk, free_memory
from ddbench.core.ridge import one_hot, solve_ridge
from ddbench.core.views import CENTRE, View, ViewParams, apply, sample

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


@pytest.mark.parametrize("chunk", [4, 15])
def test_result_is_bit_for_bit_that_of_the_plain_two_passes(chunk, backbone):
    """The algorithm of the module's docstring written out with torch alone, one process, no retry, no device transfers."""
    images = Pixels(N, 16, torch.Generator().manual_seed(1))
    loss, found = gradient(backbone, images, [NOISY] * COPIES, chunk)

    images.zero_grad()
    generator = torch.Generator().manual_seed(7)
    each = [sample(NOISY, N, generator, 16, 16) for _ in range(COPIES)]
    theta = torch.stack([p.theta for p in each], dim=1).flatten(0, 1)
    noisy = torch.stack([p.noisy for p in each], dim=1).flatten(0, 1)
    seed = int(torch.randint(2**62, (), generator=generator))

    def features(start, noise):
        pairs = slice(start, min(start + chunk, N * COPIES))
        first, last = pairs.start // COPIES, (pairs.stop - 1) // COPIES
        which = torch.arange(pairs.start, pairs.stop) // COPIES - first
        params = ViewParams(theta[pairs], noisy[pairs])
        return backbone(apply(NOISY, images(slice(first, last + 1))[which], params, 16, noise))

    starts = range(0, N * COPIES, chunk)
    if len(starts) == 1:
        expected_loss = objective(features(0, torch.Generator().manual_seed(seed)).view(N, COPIES, -1).transpose(0, 1))
        expected_loss.backward()
    else:
        noise = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            z = torch.cat([features(start, noise) for start in starts]).requires_grad_()
        expected_loss = objective(z.view(N, COPIES, -1).transpose(0, 1))
        (dz,) = torch.autograd.grad(expected_loss, z)
        noise = torch.Generator().manual_seed(seed)
        for start in starts:
            features(start, noise).backward(dz[start : start + chunk])
    assert torch.equal(loss, expected_loss.detach())
    assert torch.equal(found, images.signal.grad.flatten())


def test_gradients_add_up_over_steps(backbone):
    """Objectives on two backbones may share the images."""
    images = Pixels(N, 16, torch.Generator().manual_seed(1))
    engine = FeatureEngine(backbone, [CENTRE], 2)
    engine.step(images, objective_of_one_view, torch.Generator())
    once = images.signal.grad.clone()
    engine.step(images, objective_of_one_view, torch.Generator())
    assert torch.equal(images.signal.grad, 2 * once)


@pytest.mark.parametrize("fails_at", ["features", "objective", "gradient"])
def test_chunk_is_halved_when_memory_runs_out_and_the_step_is_the_same(fails_at, backbone):
    """A GPU that holds 4 views: 15 -> 8 -> 4, the views of the step are not drawn again."""
    images = Pixels(N, 16, torch.Generator().manual_seed(1))
    loss, expected = gradient(backbone, images, [NOISY] * COPIES, 4)

    engine = FeatureEngine(backbone, [NOISY] * COPIES, 15)
    small = FailingWhenLarge(backbone, 4, during=fails_at)
    engine.backbone = small
    images.zero_grad()

    def checked(z):
        if fails_at == "objective" and engine.chunk > 4:
            raise torch.OutOfMemoryError
        return objective(z)

    found = engine.step(images, checked, torch.Generator().manual_seed(7))
    assert engine.chunks == [15, 8, 4]
    assert torch.equal(found, loss)
    assert torch.equal(images.signal.grad.flatten(), expected)


def test_a_single_view_that_does_not_fit_is_an_error(backbone):
    engine = FeatureEngine(FailingWhenLarge(backbone, 0, during="features"), [CENTRE], 2)
    with pytest.raises(torch.OutOfMemoryError):
        engine.step(Pixels(N, 16, torch.Generator()), objective_of_one_view, torch.Generator())


@pytest.mark.parametrize(
    ("pairs", "fits", "expected"), [(1000, 1000, 1000), (1000, 600, 500), (1000, 480, 334), (1000, 1, 1), (5000, 3600, 500)]
)
def test_chunks_that_fit_are_even(pairs, fits, expected):
    """600 of 1,000 views fit, which makes two passes of 500; several passes have at most 512 views."""
    assert even_chunk(pairs, fits) == expected


@pytest.mark.parametrize("keep", [4, 8, 11, 15])
def test_more_kept_graphs_change_nothing_and_save_their_second_pass(keep, backbone, monkeypatch):
    images = Pixels(N, 16, torch.Generator().manual_seed(1))
    loss, expected = gradient(backbone, images, [NOISY] * COPIES, 4)
    engine = FeatureEngine(backbone, [NOISY] * COPIES, 4)
    engine.keep = keep
    seen = []
    forward = type(backbone).forward
    monkeypatch.setattr(type(backbone), "forward", lambda self, x: seen.append(len(x)) or forward(self, x))
    images.zero_grad()
    assert torch.equal(engine.step(images, objective, torch.Generator().manual_seed(7)), loss)
    assert torch.equal(images.signal.grad.flatten(), expected)
    assert sum(seen) == 2 * 15 - min(15, keep // 4 * 4 if keep < 15 else 15)


@pytest.mark.parametrize(("chunk", "keep"), [(2, 2), (2, 4), (4, 8)])
def test_the_second_pass_sees_the_views_of_the_first(chunk, keep, monkeypatch, make_backbone):
    """Also where draws of several images are not the draws of each: torch's streams move on by call, on a GPU by blocks, on the
    CPU by 16 numbers, of which 3 x 18 x 18 is no multiple."""
    backbone = make_backbone(size=18)
    engine = FeatureEngine(backbone, [NOISY] * COPIES, chunk)
    engine.keep = keep
    seen = []
    forward = type(backbone).forward
    monkeypatch.setattr(type(backbone), "forward", lambda self, x: seen.append(x.detach()) or forward(self, x))
    engine.step(Pixels(N, 18, torch.Generator().manual_seed(1)), objective, torch.Generator().manual_seed(7))
    passes = -(-N * COPIES // chunk)
    again = passes - keep // chunk
    assert len(seen) == passes + again
    assert all(torch.equal(*pair) for pair in zip(seen[passes - again : passes], seen[passes:], strict=True))


def objective_of_one_view(z):
    return z.tanh().mean()


class FailingWhenLarge(torch.nn.Module):
    """A backbone on a device that holds `limit` views, found out in the forward or in the backward pass."""

    def __init__(self, backbone, limit, during):
        super().__init__()
        self.backbone, self.limit, self.during = backbone, limit, during
        self.spec, self.mean = backbone.spec, backbone.mean

    def forward(self, images):
        features = self.backbone(images)
        if len(images) > self.limit:
            if self.during == "features":
                raise torch.OutOfMemoryError
            if self.during == "gradient" and features.requires_grad:
                features.register_hook(out_of_memory)
        return features


def out_of_memory(gradient):
    raise torch.OutOfMemoryError


def test_on_the_cpu_a_chunk_is_as_small_as_memory_asks_for(monkeypatch, backbone):
    images = Pixels(20, 16, torch.Generator().manual_seed(1))
    engine = FeatureEngine(backbone, [CENTRE] * 2)
    with torch.random.fork_rng():
        engine.fit(images)
        assert engine.chunk == engine.keep == 256
    one = saved_bytes(lambda: backbone(images(slice(1))))
    assert 3 * 16 * 16 * 4 < one < 100_000
    for free, chunk in ((200 * one, 64), (9 * one, 4), (0, 1)):
        monkeypatch.setattr("ddbench.core.passes.free_memory", lambda free=free: free)
        engine = FeatureEngine(backbone, [CENTRE] * 2)
        engine.fit(images)
        assert (engine.chunk, engine.chunks) == (chunk, [chunk])
    monkeypatch.undo()
    assert cpu_chunk(20 * 2**20) == 32  # MobileNetV2 at 96 pixels: 1 GiB of activations, not 256 views
    assert free_memory() > 0


def test_cached_files_are_no_used_memory_and_limits_around_the_own_group_hold(monkeypatch, tmp_path):
    """A cgroup counts the pages of files that were read: a bank of 90 of 100 MB leaves memory for passes."""
    group = tmp_path / "user" / "job"
    group.mkdir(parents=True)
    (tmp_path / "own").write_text("1:name=systemd:/other\n0::/user/job\n")
    monkeypatch.setattr(passes, "_CGROUPS", tmp_path)
    monkeypatch.setattr(passes, "_OWN_CGROUP", tmp_path / "own")

    def limit(folder, most):
        (folder / "memory.max").write_text(f"{most}\n")
        (folder / "memory.current").write_text("95000000\n")
        (folder / "memory.stat").write_text("anon 5000000\nfile 90000000\ninactive_file 70000000\nactive_file 20000000\n")

    limit(group, 100_000_000)
    assert free_memory() == 95_000_000
    limit(group.parent, 98_000_000)
    assert free_memory() == 93_000_000
    limit(group.parent, "max")
    limit(group, "max")
    assert free_memory() > 0


def test_saved_bytes_are_those_of_activations_once_each():
    """The product keeps x for the gradient of its weight, which is a parameter, and tanh its result."""
    x, weight = torch.ones(5, 7, requires_grad=True), torch.nn.Parameter(torch.ones(7, 7))
    assert saved_bytes(lambda: (x @ weight).tanh() * 2) == 2 * (5 * 7 * 4)
