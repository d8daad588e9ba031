"""MAE: the encoder sees a quarter of the patches, a small decoder paints the others (He et al., CVPR 2022, section 3)."""

from typing import Any, ClassVar

import torch
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from ddbench.backbones.mini.networks import sincos_positions

from .augment import augment
from .objectives import Objective, normalise


class MAE(Objective):
    """Masked auto-encoding with per-patch normalised pixel targets (section 3, "reconstruction target")."""

    defaults: ClassVar[dict[str, float]] = {
        "batch": 128,
        "lr": 1.5e-3,
        "weight_decay": 0.05,
        "beta2": 0.95,
        "mask": 0.75,
        "crop_min": 0.2,
    }

    def __init__(self, encoder: nn.Module, changes=None):
        super().__init__(encoder, changes)
        self.patch: int = encoder.patch_embed.patch_size[0]  # type: ignore[union-attr,index]
        self.patches: int = encoder.patch_embed.num_patches  # type: ignore[union-attr,assignment]
        width = 64  # of the decoder: one block, smaller than the encoder (section 3, "MAE decoder")
        self.enter = nn.Linear(self.dim, width)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, width))
        self.register_buffer("positions", sincos_positions(int(self.patches**0.5), width))
        self.decoder = nn.Sequential(Block(width, num_heads=2), nn.LayerNorm(width), nn.Linear(width, 3 * self.patch**2))

    def loss(self, images: Tensor, generator: torch.Generator) -> Tensor:
        images = normalise(augment(images, (self.values["crop_min"], 1.0), 32, generator, colour=None))
        keep = round(self.patches * (1 - self.values["mask"]))
        order = torch.rand(len(images), self.patches, generator=generator).argsort(1).to(images.device)
        target = patch_targets(images, self.patch)
        painted = self._decode(self._encode(images, order[:, :keep]), order)
        error = (painted.float() - target).square().mean(2)
        return error.gather(1, order[:, keep:]).mean()  # only masked patches count (section 3, "reconstruction target")

    def _encode(self, images: Tensor, visible: Tensor) -> Tensor:
        """Tokens `(n, keep, width)` of the visible patches alone."""
        vit: Any = self.encoder
        tokens = vit.patch_embed(images).flatten(1, 2) + vit.pos_embed
        return vit.norm(vit.blocks(_take(tokens, visible)))

    def _decode(self, tokens: Tensor, order: Tensor) -> Tensor:
        """Predicted pixels `(n, patches, 3 p^2)` from the visible tokens and mask tokens, in image order."""
        tokens = self.enter(tokens)
        masked = self.mask_token.to(tokens).expand(len(tokens), self.patches - tokens.shape[1], -1)
        whole = _take(torch.cat([tokens, masked], dim=1), order.argsort(1))
        return self.decoder(whole + self.positions)  # type: ignore[operator]


def patch_targets(images: Tensor, patch: int) -> Tensor:
    """Patches `(n, patches, 3 p^2)` of images, each to zero mean and unit variance."""
    n, _, height, width = images.shape
    cells = images.view(n, 3, height // patch, patch, width // patch, patch).permute(0, 2, 4, 1, 3, 5)
    cells = cells.reshape(n, -1, 3 * patch**2)
    return (cells - cells.mean(2, keepdim=True)) / (cells.var(2, keepdim=True) + 1e-6).sqrt()


def _take(tokens: Tensor, index: Tensor) -> Tensor:
    return tokens.gather(1, index.unsqueeze(2).expand(-1, -1, tokens.shape[2]))
