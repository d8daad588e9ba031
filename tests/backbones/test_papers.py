"""Backbones by the papers' names: pinned files from a hub cache, and one line for every way in which that fails.

The caches here have the hub's layout and file names, and small random weights; nothing is downloaded.
"""

import hashlib
import os

import pytest
import torch
from safetensors.torch import save_file

from ddbench.backbones._releases import RELEASES
from ddbench.core.backbone import BACKBONES, IMAGENET_MEAN

from .conftest import load, message

LGM = ("clip_vitb16", "dinov2_vitb14", "eva02_vitb14", "mocov3_vitb16")
SMALL = "architecture=vit_tiny_patch16_224,args=depth:1,input_size=32"


@pytest.fixture
def offline(monkeypatch, tmp_path):
    """The hub out of reach; its cache is an empty folder, which is returned."""
    monkeypatch.setattr("ddbench.backbones._hub._reachable", lambda endpoint: False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


def cached(hub, name: str, state: dict, commit: str | None = None) -> str:
    """Put `state` where the hub's client keeps the file of a release; returns the file's sha256."""
    release = RELEASES[name]
    folder = hub / f"models--{release.repo.replace('/', '--')}"
    commit = commit or release.revision or "c" * 40
    snapshot = folder / "snapshots" / commit
    (folder / "blobs").mkdir(parents=True)
    (folder / "refs").mkdir()
    snapshot.mkdir(parents=True)
    (folder / "refs" / "main").write_text(commit)
    save_file(state, folder / "blobs" / "file")
    digest = hashlib.sha256((folder / "blobs" / "file").read_bytes()).hexdigest()
    os.rename(folder / "blobs" / "file", folder / "blobs" / digest)
    (snapshot / release.file).symlink_to(folder / "blobs" / digest)
    return digest


def blob(hub):
    (path,) = hub.glob("models--*/blobs/*")
    return path


@pytest.fixture(scope="module")
def vit_state() -> dict:
    """A one-block ViT at 64 pixels with a classifier, as a release for another size and task would be."""
    import timm

    with torch.random.fork_rng():
        torch.manual_seed(3)
        return timm.create_model("vit_tiny_patch16_224", depth=1, img_size=64, num_classes=5).state_dict()


def test_every_release_names_a_model_that_its_library_knows():
    import open_clip
    import timm

    for name, release in RELEASES.items():
        known = timm.is_model(release.model) if release.library == "timm" else release.model in open_clip.list_models()
        assert known, name
        assert name in BACKBONES.names()


def test_the_four_of_lgm_are_pinned_to_a_commit():
    for name in LGM:
        revision = RELEASES[name].revision
        assert revision is not None
        assert len(revision) == 40


def test_a_pinned_file_is_found_in_the_cache_and_its_commit_and_sha256_are_recorded(offline, vit_state):
    digest = cached(offline, "dinov2_vitb14", vit_state)
    backbone = load(f"dinov2_vitb14[{SMALL}]")
    assert (backbone.spec.source, backbone.spec.revision) == (
        RELEASES["dinov2_vitb14"].repo,
        RELEASES["dinov2_vitb14"].revision,
    )
    assert backbone.spec.sha256 == digest
    assert torch.equal(backbone.network.cls_token, vit_state["cls_token"])
    assert backbone(torch.rand(1, 3, 32, 32)).shape == (1, 192)


def test_without_a_pin_the_commit_that_main_points_to_is_recorded(offline, vit_state):
    assert RELEASES["mae_vitb16"].revision is None
    cached(offline, "mae_vitb16", vit_state, "d" * 40)
    assert load(f"mae_vitb16[{SMALL}]").spec.revision == "d" * 40


def test_another_commit_in_the_cache_does_not_stand_in_for_the_pinned_one(offline, vit_state):
    cached(offline, "dinov2_vitb14", vit_state, "e" * 40)
    assert "cannot get the weights of dinov2_vitb14" in message(f"dinov2_vitb14[{SMALL}]")


def test_mocov3_leaves_its_classifier_behind(offline, vit_state):
    digest = cached(offline, "mocov3_vitb16", vit_state)
    spec = load(f"mocov3_vitb16[{SMALL},sha256={digest}]").spec
    assert (spec.sha256, spec.pooling) == (digest, "token")


def test_eva02_pools_its_patch_tokens_and_leaves_the_pretraining_head_behind(offline):
    import timm

    small = "architecture=eva02_tiny_patch14_224,args=depth:1,input_size=28"
    with torch.random.fork_rng():
        torch.manual_seed(3)
        network = timm.create_model("eva02_tiny_patch14_224", depth=1, img_size=28, num_classes=0, global_pool="avg")
    state = {**network.state_dict(), "mask_token": torch.zeros(1, 1, 192), "lm_head.weight": torch.zeros(2, 192)}
    cached(offline, "eva02_vitb14", state)
    backbone = load(f"eva02_vitb14[{small}]")
    pixels = torch.rand(2, 3, 28, 28)
    tokens = network.eval().forward_features((pixels - backbone.mean) / backbone.std)
    with torch.no_grad():
        assert torch.allclose(backbone(pixels), network.fc_norm(tokens[:, 1:].mean(1)), atol=1e-5)


def test_clip_is_the_image_tower_of_the_pinned_file(offline, monkeypatch):
    import open_clip

    small = {"image_size": 32, "layers": 1, "width": 64, "patch_size": 16, "head_width": 32}
    text = {"context_length": 8, "vocab_size": 64, "width": 32, "heads": 1, "layers": 1}
    config = {"embed_dim": 24, "quick_gelu": True, "vision_cfg": small, "text_cfg": text}
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, "tiny", config)
    with torch.random.fork_rng():
        state = open_clip.create_model("tiny").state_dict()
    digest = cached(offline, "clip_vitb16", {name: tensor.contiguous() for name, tensor in state.items()})
    backbone = load("clip_vitb16[architecture=tiny,input_size=32]")
    assert (backbone.spec.sha256, backbone.spec.dim, backbone.spec.pooling) == (digest, 24, "projection")
    assert torch.equal(backbone.network.conv1.weight, state["visual.conv1.weight"])


def test_openais_weights_get_the_gelu_that_they_were_trained_with():
    assert RELEASES["clip_vitb16"].model == "ViT-B-16-quickgelu"


def test_normalisation_is_the_weights_own_unless_imagenets_is_asked_for():
    small = "eva02_vitb14[pretrained=false,architecture=eva02_tiny_patch14_224,args=depth:1,input_size=28{}]"
    native, imagenet = (load(small.format(more)).spec for more in ("", ",normalise=imagenet"))
    assert native.mean == RELEASES["eva02_vitb14"].mean
    assert imagenet.mean == IMAGENET_MEAN
    assert "normalise=imagenet" in imagenet.name


def test_images_are_resized_to_256_for_224_pixels():
    spec = load("supervised_resnet50[pretrained=false,architecture=resnet10t]").spec
    assert (spec.input_size, spec.stage_size) == (224, 256)


def test_random_weights_depend_on_the_seed_alone():
    first, again = (load(f"dino_vits16[pretrained=false,{SMALL}]").spec.sha256 for _ in range(2))
    assert first == again != load(f"dino_vits16[pretrained=false,seed=1,{SMALL}]").spec.sha256


def test_a_wrong_sha256_is_one_line(offline, vit_state):
    cached(offline, "mocov3_vitb16", vit_state)
    line = message(f"mocov3_vitb16[{SMALL}]")
    assert "not 345a04069364250e…" in line
    assert "download it again" in line


def test_a_truncated_download_is_one_line(offline, vit_state):
    cached(offline, "dino_vitb16", vit_state)
    file = blob(offline)
    file.write_bytes(file.read_bytes()[:-100])
    line = message(f"dino_vitb16[{SMALL}]")
    assert "truncated" in line
    assert "download it again" in line


def test_a_missing_file_is_one_line(offline, vit_state):
    cached(offline, "dino_vitb16", vit_state)
    blob(offline).unlink()
    assert "cannot get the weights of dino_vitb16 (timm/vit_base_patch16_224.dino)" in message(f"dino_vitb16[{SMALL}]")


def test_without_a_network_and_with_an_empty_cache_it_is_one_line(offline, capfd):
    for name in LGM:
        line = message(name)
        assert f"cannot get the weights of {name}" in line
        assert "give weights=FILE" in line
    assert "Retrying" not in capfd.readouterr().err


def test_weights_of_another_network_are_one_line(offline, vit_state):
    cached(offline, "dino_vitb16", vit_state)
    assert "does not fit" in message(f"dino_vitb16[{SMALL.replace('depth:1', 'depth:2')}]")


def test_a_local_copy_of_the_file_needs_no_hub(offline, vit_state, tmp_path):
    save_file(vit_state, tmp_path / "mine.safetensors")
    spec = load(f"dino_vitb16[weights={tmp_path / 'mine.safetensors'},{SMALL}]").spec
    assert spec.source == "mine.safetensors"
    assert "nowhere.pth does not exist" in message("dino_vitb16[weights=nowhere.pth]")


# the smallest of each kind of network among the releases; the larger ones differ in width and depth alone
KINDS = [
    "clip_vitb32", "dinov2_vits14", "eva02_vits14", "mocov3_vitb16", "dino_vits16", "dinov3_vits16", "siglip2_vitb16",
    "supervised_resnet50",
]  # fmt: skip


@pytest.mark.parametrize("name", KINDS)
def test_two_loads_of_a_release_are_equal_and_their_seed_counts(name):
    release = RELEASES[name]
    args = "layers:1" if release.library == "open_clip" else "" if "resnet" in release.model else "depth:1"
    spec = f"{name}[pretrained=false,args={args},seed={{}}]" if args else f"{name}[pretrained=false,seed={{}}]"
    one, two, other = (load(spec.format(seed)).spec.sha256 for seed in (1, 1, 2))
    assert one == two != other
