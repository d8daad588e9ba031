"""The architectures of the embedded networks, all for 32x32 images, all timm classes.

mini_resnet   BasicBlocks (1, 1, 1, 1) of 32, 64, 128, 192 channels, three 3x3 stem convolutions with stride 2,
              no max pooling; 0.89 M parameters, 192 features (global average)
mini_vit      4 blocks of width 96 with 3 heads on 4x4 patches; 0.46 M parameters, 96 features (class token or the
              mean of the patch tokens)
tiny_resnet   as mini_resnet with 48, 96, 160, 256 channels; 1.56 M parameters, 256 features
tiny_vit      4 blocks of width 192 with 3 heads on the 4x4 grid of a convolutional stem; 1.68 M parameters, 192 features:
              the layer norm of the mean token
"""

from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor, nn

CIFAR100_MEAN = (0.5071, 0.4865, 0.4409)
CIFAR100_STD = (0.2673, 0.2564, 0.2762)
INPUT_SIZE = 32
INIT_SEED = 0  # of the untrained twins and of the shipped runs


def resnet(*channels: int) -> nn.Module:
    """A ResNet-10 for small images: images `(n, 3, 32, 32)` -> features `(n, channels[-1])`."""
    from timm.models.resnet import BasicBlock, ResNet  # seconds to import, only when a network is built

    network = ResNet(
        BasicBlock,  # type: ignore[arg-type]
        (1, 1, 1, 1),
        num_classes=0,
        channels=channels,
        stem_width=16,
        stem_type="deep",
    )
    network.maxpool = nn.Identity()  # the stem already halves 32 pixels
    return network


def mini_vit(pool: str) -> nn.Module:
    """A small ViT: images `(n, 3, 32, 32)` -> features `(n, 96)`.

    `pool` is `token` (class token) or `avg` (mean of the patch tokens, no class token). Positions are the sine-cosine
    code of MAE (He et al. 2022, A.1), frozen; other input sizes are interpolated, as DINO's local crops need.
    """
    from timm.models.vision_transformer import VisionTransformer

    network = VisionTransformer(
        img_size=INPUT_SIZE,
        patch_size=4,
        embed_dim=96,
        depth=4,
        num_heads=3,
        num_classes=0,
        class_token=pool == "token",
        global_pool=pool,  # type: ignore[arg-type]
        fc_norm=False,
        dynamic_img_size=True,
    )
    code = sincos_positions(INPUT_SIZE // 4, 96)
    if pool == "token":
        code = torch.cat([torch.zeros(1, 96), code])
    network.pos_embed = nn.Parameter(code.unsqueeze(0), requires_grad=False)
    return network


class ConvStem(nn.Module):
    """Three 3x3 convolutions of stride 2 in place of 8x8 patches: images `(n, 3, h, w)` -> tokens `(n, h / 8, w / 8, width)`.

    Xiao et al., NeurIPS 2021, "Early convolutions help transformers see better": such a ViT needs fewer epochs.
    """

    def __init__(self, img_size: int, patch_size: int, in_chans: int, embed_dim: int, **_):
        super().__init__()
        self.patch_size = (patch_size, patch_size)
        self.grid_size = (img_size // patch_size, img_size // patch_size)
        self.num_patches = self.grid_size[0] * self.grid_size[1]
        widths = (in_chans, embed_dim // 4, embed_dim // 2)
        layers: list[nn.Module] = []
        for before, after in pairwise(widths):
            layers += [nn.Conv2d(before, after, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU()]
        self.layers = nn.Sequential(*layers, nn.Conv2d(widths[-1], embed_dim, 3, stride=2, padding=1))

    def feat_ratio(self, as_scalar: bool = True) -> int | tuple[int, int]:
        """Pixels per token, as timm asks a patch embedding for it."""
        return self.patch_size[0] if as_scalar else self.patch_size

    def forward(self, images: Tensor) -> Tensor:
        return self.layers(images).permute(0, 2, 3, 1)


def tiny_vit() -> nn.Module:
    """A ViT behind a convolutional stem: images `(n, 3, 32, 32)` -> features `(n, 192)` after a final norm."""
    from timm.models.vision_transformer import VisionTransformer

    network = VisionTransformer(
        img_size=INPUT_SIZE,
        patch_size=8,
        embed_dim=192,
        depth=4,
        num_heads=3,
        mlp_ratio=3,
        num_classes=0,
        class_token=False,
        global_pool="avg",
        fc_norm=True,
        dynamic_img_size=True,
        embed_layer=ConvStem,
    )
    network.pos_embed = nn.Parameter(sincos_positions(INPUT_SIZE // 8, 192).unsqueeze(0), requires_grad=False)
    return network


def sincos_positions(side: int, width: int) -> Tensor:
    """Sine-cosine code `(side * side, width)` of a square grid: half the channels for rows, half for columns."""
    frequency = 10000.0 ** -(torch.arange(width // 4) / (width // 4))
    rows, columns = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    angles = [position.flatten().unsqueeze(1) * frequency for position in (rows, columns)]
    return torch.cat([part for angle in angles for part in (angle.sin(), angle.cos())], dim=1)


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "mini_resnet": lambda: resnet(32, 64, 128, 192),
    "mini_vit_token": lambda: mini_vit("token"),
    "mini_vit_avg": lambda: mini_vit("avg"),
    "tiny_resnet": lambda: resnet(48, 96, 160, 256),
    "tiny_vit": tiny_vit,
}
POOLING = {"mini_resnet": "avg", "mini_vit_token": "token", "mini_vit_avg": "avg", "tiny_resnet": "avg", "tiny_vit": "avg"}


def untrained(architecture: str, seed: int) -> nn.Module:
    """The network with random weights of `seed`; leaves torch's global generator as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return NETWORKS[architecture]()
