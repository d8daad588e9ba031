"""Small encoders for 32x32 images that ship with the package, pre-trained without labels, as fp16.

    zoo 1, CIFAR-100                            zoo 2, CIFAR-10 and CIFAR-100
    mini_resnet_barlow   ResNet, Barlow Twins   tiny_resnet_simclr   ResNet, SimCLR
    mini_resnet_dino     ResNet, DINO           tiny_vit_simclr      ViT, SimCLR
    mini_vit_simclr      ViT, SimCLR            tiny_resnet_distil   ResNet, features of EfficientNet-Lite0
    mini_vit_mae         ViT, MAE               tiny_vit_distil      ViT, features of MobileNetV2

The two teachers were trained with labels on ImageNet: their students are `distilled from a supervised network`, the others
`self-supervised`.
NAME.json beside the weights says how they were made (`make pretrain NAME=...`), their sha256 and their probe accuracy.
`mini_vit_mae[pretrained=false]` is the same network at its initialisation, the control of every claim about it.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from ...core.backbone import BACKBONES, Backbone, BackboneSource, BackboneSpec
from ...core.errors import UserError
from ...core.params import spec_string
from .._weights import existing, file_sha256, load_state, read_state, state_sha256
from .networks import CIFAR100_MEAN, CIFAR100_STD, INIT_SEED, INPUT_SIZE, POOLING, untrained

FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class Mini(BackboneSource):
    """A network of the zoo. Weights whose sha256 is not that of the card are a `UserError`."""

    pretrained: bool = True  # false: the initialisation that training started from
    weights: str | None = None  # NAME.safetensors of a `make pretrain`, its card beside it; None: the shipped ones

    objective: ClassVar[str]
    architecture: ClassVar[str]
    supervision: ClassVar[str] = "self-supervised"
    zoo: ClassVar[int] = 1

    def load(self) -> Backbone:
        network = untrained(self.architecture, INIT_SEED)
        source, revision, sha256 = "random", f"seed {INIT_SEED}", state_sha256(network.state_dict())
        if self.pretrained:
            file = Path(self.weights).expanduser() if self.weights else FOLDER / f"{self.name}.safetensors"
            card = verified(file)
            source, sha256 = file.name, card["sha256"]
            revision = f"{card['objective']}, {card['epochs']:g} epochs"
            load_state(network, read_state(file), file)
        spec = BackboneSpec(
            name=spec_string(self),
            source=source,
            architecture=self.architecture,
            revision=revision,
            sha256=sha256,
            input_size=INPUT_SIZE,
            dim=int(network.num_features),  # type: ignore[arg-type]
            pooling=POOLING[self.architecture],
            mean=CIFAR100_MEAN,
            std=CIFAR100_STD,
        )
        return Backbone(network, spec)


@BACKBONES.register("mini_resnet_barlow")
@dataclass(frozen=True)
class MiniResNetBarlow(Mini):
    """ResNet pre-trained with Barlow Twins."""

    objective, architecture = "barlow", "mini_resnet"


@BACKBONES.register("mini_resnet_dino")
@dataclass(frozen=True)
class MiniResNetDINO(Mini):
    """ResNet pre-trained with DINO."""

    objective, architecture = "dino", "mini_resnet"


@BACKBONES.register("mini_vit_simclr")
@dataclass(frozen=True)
class MiniViTSimCLR(Mini):
    """ViT pre-trained with SimCLR."""

    objective, architecture = "simclr", "mini_vit_token"


@BACKBONES.register("mini_vit_mae")
@dataclass(frozen=True)
class MiniViTMAE(Mini):
    """ViT pre-trained with MAE."""

    objective, architecture = "mae", "mini_vit_avg"


@BACKBONES.register("tiny_resnet_simclr")
@dataclass(frozen=True)
class TinyResNetSimCLR(Mini):
    """ResNet pre-trained with SimCLR."""

    zoo, objective, architecture = 2, "simclr", "tiny_resnet"


@BACKBONES.register("tiny_vit_simclr")
@dataclass(frozen=True)
class TinyViTSimCLR(Mini):
    """ViT pre-trained with SimCLR."""

    zoo, objective, architecture = 2, "simclr", "tiny_vit"


@BACKBONES.register("tiny_resnet_distil")
@dataclass(frozen=True)
class TinyResNetDistil(Mini):
    """ResNet that learned the features of EfficientNet-Lite0."""

    zoo, objective, architecture = 2, "distil", "tiny_resnet"
    supervision = "distilled from a supervised network"


@BACKBONES.register("tiny_vit_distil")
@dataclass(frozen=True)
class TinyViTDistil(Mini):
    """ViT that learned the features of MobileNetV2."""

    zoo, objective, architecture = 2, "distil", "tiny_vit"
    supervision = "distilled from a supervised network"


def verified(weights: Path) -> dict[str, Any]:
    """The card beside `weights`, after comparing their sha256. Raises `UserError` naming the file that is wrong."""
    card = read_card(existing(weights).with_suffix(".json"))
    found = file_sha256(weights)
    if found != card["sha256"]:
        raise UserError(
            f"{weights} has sha256 {found[:12]}…, its card says {card['sha256'][:12]}…: the file is damaged or changed; "
            "install ddbench again or train it with make pretrain"
        )
    return card


def read_card(path: Path) -> dict[str, Any]:
    try:
        card = json.loads(path.read_text(encoding="utf-8"))
        card["sha256"].lower()
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"card {path} is missing or unreadable ({type(error).__name__}); install ddbench again") from None
    return card
