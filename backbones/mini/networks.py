"""The two architectures of the mini zoo, both for 32x32 images, both timm classes.

mini_resnet   BasicBlocks (1, 1, 1, 1) of 32, 64, 128, 192 channels, three 3x3 stem convolutions with stride 2,
              no max pooling; 0.89 M parameters, 192 features (global average)
mini_vit      4 blocks of width 96 with 3 heads on 4x4 patches; 0.46 M parameters, 96 features (class token or the
              mean of the patch tokens)
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

CIFAR100_MEAN = (0.5071, 0.4865, 0.4409)
CIFAR100_STD = (0.2673, 0.2564, 0.2762)
INPUT_SIZE = 32
INIT_SEED = 0  # of the untrained twins and of the shipped runs


def mini_resnet() -> nn.Module:
    """A ResNet-10 for small images: images `(n, 3, 32, 32)` -> features `(n, 192)`."""
    from timm.models.resnet import BasicBlock, ResNet  # seconds to import, only when a network is built

    network = ResNet(
        BasicBlock,  # type: ignore[arg-type]
        (1, 1, 1, 1),
        num_classes=0,
        channels=(32, 64, 128, 192),
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


def sincos_positions(side: int, width: int) -> Tensor:
    """Sine-cosine code `(side * side, width)` of a square grid: half the channels for rows, half for columns."""
    frequency = 10000.0 ** -(torch.arange(width // 4) / (width // 4))
    rows, columns = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    angles = [position.flatten().unsqueeze(1) * frequency for position in (rows, columns)]
    return torch.cat([part for angle in angles for part in (angle.sin(), angle.cos())], dim=1)


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "mini_resnet": mini_resnet,
    "mini_vit_token": lambda: mini_vit("token"),
    "mini_vit_avg": lambda: mini_vit("avg"),
}
POOLING = {"mini_resnet": "avg", "mini_vit_token": "token", "mini_vit_avg": "avg"}


def untrained(architecture: str, seed: int) -> nn.Module:
    """The network with random weights of `seed`; leaves torch's global generator as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return NETWORKS[architecture]()
