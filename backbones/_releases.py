"""Checkpoints by the names that papers use: which file of which repository, at which revision.

A revision is a commit of the repository, which fixes the file's bytes; where none is known here, it is None, the newest is
taken, and the record holds the commit that it was. All files are on the Hugging Face hub.
"""

from dataclasses import dataclass
from typing import Literal

from ..core.backbone import IMAGENET_MEAN, IMAGENET_STD

_HALF = (0.5, 0.5, 0.5)
_CLIP_MEAN, _CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


@dataclass(frozen=True)
class Release:
    """One published checkpoint and how its features are read."""

    title: str
    repo: str
    model: str  # the library's name
    library: Literal["timm", "open_clip"] = "timm"
    file: str = "model.safetensors"
    revision: str | None = None
    sha256: str | None = None  # of the file
    pooling: str | None = None  # timm's global_pool; None: the library's default for the model
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    input_size: int = 224
    ignored: tuple[str, ...] = ()  # keys of the file, beside its classifier's, that features do not need, by their start


def _clip(title: str, model: str, repo: str, revision: str | None = None) -> Release:
    """OpenAI's weights were trained with the fast approximation of GELU, which open_clip puts into the model's name."""
    file = "open_clip_model.safetensors"
    return Release(title, repo, f"{model}-quickgelu", "open_clip", file, revision, mean=_CLIP_MEAN, std=_CLIP_STD)


def _timm(title: str, model: str, revision: str | None = None, **other) -> Release:
    return Release(title, f"timm/{model}", model.partition(".")[0], revision=revision, **other)


def _eva02(size: str, revision: str | None = None) -> Release:
    """The norm of the mean of the patch tokens; the head of masked image modelling stays behind."""
    model, ignored = f"eva02_{size.lower()}_patch14_224.mim_in22k", ("mask_token", "lm_head.")
    return _timm(f"EVA-02 {size}/14", model, revision, mean=_CLIP_MEAN, std=_CLIP_STD, pooling="avg", ignored=ignored)


def _moco(title: str, model: str, repo: str, revision: str, sha256: str | None = None) -> Release:
    return Release(title, repo, model, revision=revision, sha256=sha256, pooling="token")


RELEASES: dict[str, Release] = {
    "clip_vitb16": _clip(
        "CLIP ViT-B/16", "ViT-B-16", "timm/vit_base_patch16_clip_224.openai", "977e3dd0ec55ab8da155f2fbeb6b5f54948b6e3d"
    ),
    "clip_vitb32": _clip("CLIP ViT-B/32", "ViT-B-32", "timm/vit_base_patch32_clip_224.openai"),
    "clip_vitl14": _clip("CLIP ViT-L/14", "ViT-L-14", "timm/vit_large_patch14_clip_224.openai"),
    "dinov2_vits14": _timm("DINOv2 ViT-S/14", "vit_small_patch14_dinov2.lvd142m"),
    "dinov2_vitb14": _timm("DINOv2 ViT-B/14", "vit_base_patch14_dinov2.lvd142m", "1dc7cda4727a9f4baa37f3ef407928dd642d0149"),
    "dinov2_vitl14": _timm("DINOv2 ViT-L/14", "vit_large_patch14_dinov2.lvd142m", "7eb792a1b3aabe5d55f3da6ff9e2e084744e25f9"),
    "eva02_vits14": _eva02("Small"),
    "eva02_vitb14": _eva02("Base", "b9c2df22a405c51ed1f3a495ade3135d77a35b61"),
    "eva02_vitl14": _eva02("Large"),
    "mocov3_vitb16": _moco(
        "MoCo-v3 ViT-B/16",
        "vit_base_patch16_224",
        "nyu-visionx/moco-v3-vit-b",
        "7d091cd70772c5c0ecf7f00b5f12ca609a99d69d",
        "345a04069364250ef448402363443ae8d2da68678e6a88239a8906d2325b912e",
    ),
    "mocov3_vitl16": _moco(
        "MoCo-v3 ViT-L/16", "vit_large_patch16_224", "nyu-visionx/moco-v3-vit-l", "7bf75358d616f39b9716148bf4e3425f3bd35b47"
    ),
    "dino_vits16": _timm("DINO ViT-S/16", "vit_small_patch16_224.dino"),
    "dino_vitb16": _timm("DINO ViT-B/16", "vit_base_patch16_224.dino", "3ca4284a1d2db6ac0fc1a7e24e71ee0643260ec2"),
    "dinov3_vits16": _timm("DINOv3 ViT-S/16", "vit_small_patch16_dinov3.lvd1689m", pooling="token"),
    "dinov3_vitb16": _timm("DINOv3 ViT-B/16", "vit_base_patch16_dinov3.lvd1689m", pooling="token"),
    "dinov3_vitl16": _timm("DINOv3 ViT-L/16", "vit_large_patch16_dinov3.lvd1689m", pooling="token"),
    "siglip2_vitb16": _timm("SigLIP 2 ViT-B/16", "vit_base_patch16_siglip_224.v2_webli", mean=_HALF, std=_HALF),
    "siglip2_vitl16": _timm(
        "SigLIP 2 ViT-L/16", "vit_large_patch16_siglip_256.v2_webli", mean=_HALF, std=_HALF, input_size=256
    ),
    "mae_vitb16": _timm("MAE ViT-B/16", "vit_base_patch16_224.mae"),
    "mae_vitl16": _timm("MAE ViT-L/16", "vit_large_patch16_224.mae"),
    "supervised_vits16": _timm("DeiT ViT-S/16, supervised on ImageNet-1k", "deit_small_patch16_224.fb_in1k"),
    "supervised_vitb16": _timm("DeiT ViT-B/16, supervised on ImageNet-1k", "deit_base_patch16_224.fb_in1k"),
    "supervised_resnet50": _timm("ResNet-50, supervised on ImageNet-1k (torchvision's first weights)", "resnet50.tv_in1k"),
}
