"""Self-supervised pre-training: each loss against a slow version, each objective learns, runs repeat per seed."""

import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file

from ddbench.backbones.mini.networks import untrained
from ddbench.core.data import ArrayImages, ImageData, Split, array_fingerprint
from ddbench.core.errors import UserError
from pretrain.augment import Colour, augment, jitter
from pretrain.barlow import barlow_loss
from pretrain.dino import dino_loss, sinkhorn
from pretrain.distil import principal_components
from pretrain.loop import OBJECTIVES, _optimiser, build, cosine, decay_start, flat, pretrain
from pretrain.mae import patch_targets
from pretrain.recipe import run_pretrain, union
from pretrain.simclr import nt_xent
from pretrain.teacher import teacher_features

ARCHITECTURE = {
    "simclr": "mini_vit_token", "barlow": "mini_resnet", "dino": "mini_resnet", "mae": "mini_vit_avg", "distil": "tiny_vit",
}  # fmt: skip


def teacher(n: int = 32) -> torch.Tensor:
    """Features of a teacher that sees more than a student's width: the pixels of 8x8 thumbnails."""
    images = split(n).images[torch.arange(n)].float() / 255
    return F.avg_pool2d(images, 4).flatten(1).half()


def taught(objective: str, n: int) -> dict:
    return {"teacher": teacher(n), "changes": {"components": 8}} if objective == "distil" else {}


def split(n: int = 32) -> Split:
    """Images of 4x4 coloured cells: two crops of one have something in common, as those of photographs do."""
    cells = np.random.default_rng(0).integers(0, 256, (n, 3, 4, 4), dtype=np.uint8)
    images = cells.repeat(8, axis=2).repeat(8, axis=3)
    return Split(ArrayImages(images), torch.zeros(n, dtype=torch.long))


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_each_objective_learns_fixed_views_of_a_tiny_set(objective):
    model = build(objective, ARCHITECTURE[objective], 0, taught(objective, 32).get("changes")).train()
    if objective == "distil":
        model.teach(teacher())
    optimiser = _optimiser(model, lr=2e-3)
    images = split().images[torch.arange(32)].float() / 255
    losses = []
    for step in range(12):
        loss = model.step_loss(images, torch.arange(32), torch.Generator().manual_seed(0))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        model.after_step(step / 12)
        losses.append(loss.item())
    assert losses[-1] < 0.97 * losses[0]


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_a_seed_fixes_the_weights_and_training_changes_them(objective):
    def run(seed: int) -> torch.Tensor:
        options = {"epochs": 2, "batch": 4, "seed": seed, **taught(objective, 8)}
        network, seconds = pretrain(objective, ARCHITECTURE[objective], split(8), **options)
        assert seconds > 0
        assert not network.training
        return torch.cat([p.detach().flatten() for p in network.parameters()])

    first = run(0)
    torch.manual_seed(99)  # the global generator plays no part
    assert torch.equal(first, run(0))
    assert not torch.equal(first, run(1))
    start = untrained(ARCHITECTURE[objective], 0)
    assert not torch.equal(first, torch.cat([p.detach().flatten() for p in start.parameters()]))


def test_labels_are_never_read():
    class Blind(Split):
        def __getattribute__(self, name):
            assert name != "labels"
            return super().__getattribute__(name)

        def __len__(self):
            return 8

    pretrain("barlow", "mini_resnet", Blind(split(8).images, torch.zeros(8)), epochs=1, batch=8)


def test_the_learning_rate_warms_up_and_ends_near_zero():
    factors = [cosine(step, 100) for step in range(100)]
    assert factors[0] == pytest.approx(0.2)
    assert max(factors) == factors[5] == 1
    assert factors[-1] < 0.001


def test_the_flat_schedule_depends_on_the_number_of_steps_in_its_last_quarter_only():
    short, long = ([flat(step, steps) for step in range(steps)] for steps in (1000, 4000))
    assert decay_start(1000) == 750
    assert short[:750] == long[:750]
    assert short[0] == pytest.approx(1 / 200)
    assert short[200] == short[750] == 1
    assert short[875] == pytest.approx(0.5)
    assert short[-1] == pytest.approx(1 / 250)


class Killed(Exception):
    pass


def kill_at(step: int):
    def progress(done: int, steps: int, loss: float) -> None:
        if done == step:
            raise Killed

    return progress


@pytest.mark.parametrize(("objective", "schedule"), [("dino", "cosine"), ("simclr", "flat"), ("distil", "flat")])
def test_a_killed_run_goes_on_to_the_same_bits(objective, schedule, tmp_path):
    """Three steps of two epochs: the kill comes inside an epoch, after a checkpoint that is one step older."""
    options = {"epochs": 1.5, "batch": 4, "schedule": schedule, **taught(objective, 8)}
    file, ran = tmp_path / "run.checkpoint", []

    def train(**more):
        return pretrain(objective, ARCHITECTURE[objective], split(8), **options, **more)[0]

    straight = train()
    with pytest.raises(Killed):
        train(checkpoint=file, save_every=0, progress=kill_at(2))
    assert [path.name for path in tmp_path.iterdir()] == ["run.checkpoint"]
    resumed = train(checkpoint=file, progress=lambda done, steps, loss: ran.append(done))
    assert ran == [3]
    for one, other in zip(straight.state_dict().values(), resumed.state_dict().values(), strict=True):
        assert torch.equal(one, other)
    again = train(checkpoint=file, progress=kill_at(1))  # a finished run has nothing left to do
    assert torch.equal(next(again.parameters()), next(straight.parameters()))


def test_a_flat_run_can_be_made_longer_until_its_rate_falls(tmp_path):
    file = tmp_path / "run.checkpoint"
    options = {"batch": 4, "schedule": "flat", "checkpoint": file, "save_every": 0}

    def train(epochs, **more):
        return pretrain("barlow", "mini_resnet", split(8), epochs=epochs, **options, **more)[0]

    with pytest.raises(Killed):
        train(4, progress=kill_at(3))
    longer = train(6)
    file.unlink()
    assert torch.equal(next(longer.parameters()), next(train(6).parameters()))
    with pytest.raises(UserError, match="step 12 of 12, past the flat part; 16 steps need an older one"):
        train(8)
    with pytest.raises(UserError, match="of another training"):
        train(6, seed=1)


def test_a_checkpoint_belongs_to_its_teacher(tmp_path):
    options = {"epochs": 1, "batch": 8, "changes": {"components": 8}, "checkpoint": tmp_path / "run.checkpoint"}
    pretrain("distil", "tiny_vit", split(8), teacher=teacher(8), **options)
    with pytest.raises(UserError, match="of another training"):
        pretrain("distil", "tiny_vit", split(8), teacher=teacher(8) + 1, **options)


def test_distillation_needs_a_teacher():
    with pytest.raises(UserError, match="give --teacher"):
        pretrain("distil", "tiny_vit", split(8), epochs=1)


@pytest.mark.parametrize("whitening", [0.0, 0.5, 1.0])
def test_principal_components_are_those_of_an_svd(whitening):
    features = torch.randn(50, 6, generator=torch.Generator().manual_seed(0)) @ torch.diag(torch.arange(1.0, 7))
    u, s, _ = torch.linalg.svd(features - features.mean(0), full_matrices=False)
    expected = (u * s / (s / 50**0.5) ** whitening)[:, :3]
    expected = expected / expected.square().mean().sqrt()
    found = principal_components(features, 3, whitening)
    signs = (found * expected).sum(0).sign()
    assert torch.allclose(found * signs, expected, atol=1e-3)
    assert found.square().mean() == pytest.approx(1, rel=1e-4)


def test_teacher_features_are_kept_and_belong_to_their_weights_and_images(tmp_path):
    spec = "mini_resnet_barlow[pretrained=false]"
    features, facts = teacher_features(spec, split(8), tmp_path, "abc", "cpu")
    assert features.shape == (8, 192)
    assert facts["sha256"][:12] in next(tmp_path.iterdir()).name
    next(tmp_path.iterdir()).chmod(0o400)
    again, _ = teacher_features(spec, split(8), tmp_path, "abc", "cpu")
    assert torch.equal(features, again)
    teacher_features(spec, split(8), tmp_path, "def", "cpu")
    assert len(list(tmp_path.iterdir())) == 2


def test_several_datasets_are_joined_in_their_order_without_their_labels():
    one, two = split(4), split(8)
    data = [ImageData(f"d{len(part)}", part, part, ("a",), array_fingerprint(part)) for part in (one, two)]
    joined, facts = union(data)
    assert (facts["name"], facts["images"]) == ("d4 + d8", 12)
    assert torch.equal(joined.images[torch.arange(4)], one.images[torch.arange(4)])
    assert torch.equal(joined.images[torch.arange(4, 12)], two.images[torch.arange(8)])
    assert union(data[:1])[0] is one


def test_nt_xent_is_the_mean_over_pairs_of_equation_1():
    z, t = torch.randn(6, 5, generator=torch.Generator().manual_seed(0)), 0.5
    expected = 0.0
    for i, j in [(0, 3), (1, 4), (2, 5), (3, 0), (4, 1), (5, 2)]:
        sim = [(F.cosine_similarity(z[i], z[k], dim=0) / t).exp() for k in range(6) if k != i]
        expected -= float(torch.log((F.cosine_similarity(z[i], z[j], dim=0) / t).exp() / sum(sim))) / 6
    assert float(nt_xent(z, t)) == pytest.approx(expected, rel=1e-5)


def test_barlow_loss_is_zero_for_decorrelated_identical_views_and_counts_the_rest():
    z = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
    assert float(barlow_loss(z, z, 0.1)) == pytest.approx(0, abs=1e-6)
    assert float(barlow_loss(z, -z, 0.1)) == pytest.approx(4, rel=1e-4)  # (1 + 1)^2 per dimension
    same = z[:, :1].expand(4, 2)
    assert float(barlow_loss(same, same, 0.1)) == pytest.approx(0.1, rel=1e-4)  # two off-diagonal ones, over d = 2


def test_dino_pairs_every_teacher_crop_with_every_other_student_crop():
    g = torch.Generator().manual_seed(0)
    student = [torch.randn(3, 4, generator=g) for _ in range(3)]
    teacher = [torch.randn(3, 4, generator=g).softmax(1) for _ in range(2)]
    pairs = [(0, 1), (0, 2), (1, 0), (1, 2)]
    expected = sum(F.cross_entropy(student[s] / 0.1, teacher[t]) for t, s in pairs) / 4
    assert torch.allclose(dino_loss(student, teacher, 0.1), expected)


def test_sinkhorn_gives_distributions_that_use_all_prototypes_evenly():
    outputs = torch.randn(64, 8, generator=torch.Generator().manual_seed(0)) / 8
    outputs[:, 0] += 1  # everything prefers the first prototype
    p = sinkhorn(outputs, 0.05, iterations=50)
    assert torch.allclose(p.sum(1), torch.ones(64), atol=1e-5)
    assert torch.allclose(p.sum(0), torch.full((8,), 8.0), rtol=0.05)


def test_mae_targets_are_patches_in_row_order_each_standardised():
    images = torch.arange(2 * 3 * 8 * 8, dtype=torch.float32).view(2, 3, 8, 8)
    targets = patch_targets(images, 4)
    assert targets.shape == (2, 4, 48)
    patch = images[1, :, :4, 4:].flatten()
    assert torch.allclose(targets[1, 1], (patch - patch.mean()) / patch.std(), atol=1e-4)


def test_mae_counts_masked_patches_only_and_the_encoder_never_sees_them():
    model = OBJECTIVES["mae"](untrained("mini_vit_avg", 0))
    order = torch.rand(2, 64, generator=torch.Generator().manual_seed(0)).argsort(1)
    images = torch.rand(2, 3, 32, 32, requires_grad=True)
    model._encode(images, order[:, :16]).sum().backward()
    assert images.grad is not None
    seen = images.grad.view(2, 3, 8, 4, 8, 4).abs().sum((1, 3, 5)).flatten(1) > 0
    assert torch.equal(seen.nonzero()[:, 1].view(2, 16), order[:, :16].sort(1).values)


def test_colour_changes_differ_per_image_keep_the_range_and_can_be_grey():
    images = torch.rand(16, 3, 8, 8)
    g = torch.Generator().manual_seed(0)
    out = jitter(images, Colour(), g)
    assert out.shape == images.shape
    assert 0 <= out.min() <= out.max() <= 1
    assert len({round(float(x), 4) for x in (out - images).mean((1, 2, 3))}) > 8
    grey = jitter(images, Colour(jitter_p=0, grey_p=1), g)
    luma = (images * torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)).sum(1, keepdim=True)
    assert torch.allclose(grey, luma.expand_as(grey), atol=1e-5)
    assert torch.allclose(jitter(images, Colour(jitter_p=0, grey_p=0), g), images, atol=1e-5)


def test_a_full_turn_of_hue_is_the_identity_and_hue_keeps_the_luma():
    images = torch.rand(4, 3, 6, 6) * 0.2 + 0.4
    luma = torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)
    only_hue = Colour(brightness=0, contrast=0, saturation=0, hue=0.3, jitter_p=1, grey_p=0)
    turned = jitter(images, only_hue, torch.Generator().manual_seed(0))
    assert not torch.allclose(turned, images, atol=1e-3)
    assert torch.allclose((turned * luma).sum(1), (images * luma).sum(1), atol=1e-4)


def test_the_same_generator_gives_the_same_views():
    images = torch.rand(4, 3, 32, 32)
    views = [augment(images, (0.2, 1.0), 16, torch.Generator().manual_seed(7), Colour()) for _ in range(2)]
    assert torch.equal(*views)
    assert views[0].shape == (4, 3, 16, 16)


def test_the_command_writes_weights_and_a_card(tmp_path):
    images = split(64).images[torch.arange(64)].numpy()
    for name in ("train", "test"):
        save_file({"images": torch.from_numpy(images), "labels": torch.arange(64) % 2}, tmp_path / f"{name}.safetensors")
    data = f"arrays[path={tmp_path}]"
    card = run_pretrain("mini_resnet_barlow", (data,), tmp_path / "out", epochs=1, batch=32, probes=(data,))
    assert card == json.loads((tmp_path / "out" / "mini_resnet_barlow.json").read_text())
    assert card["hyperparameters"]["batch"] == 32
    assert card["command"] == f'make pretrain NAME=mini_resnet_barlow DATA="{data}" OUT=DIR ARGS="--epochs 1 --batch 32"'
    assert card["supervision"] == "self-supervised"
    assert {"accuracy", "accuracy_untrained"} <= set(card["ridge_probe"][0])
    state = load_file(tmp_path / "out" / "mini_resnet_barlow.safetensors")
    assert state["conv1.0.weight"].dtype == torch.float16
    assert [file.name for file in (tmp_path / "out").glob(".*")] == []  # no half-written file


def test_only_the_zoo_can_be_pretrained(tmp_path):
    with pytest.raises(UserError, match="not of the embedded zoo; make pretrain takes NAME=mini_"):
        run_pretrain("timm", ("digits",), tmp_path)
