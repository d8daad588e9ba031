"""torchvision classifiers as encoders: the feature is the input of the last layer of the classifier."""

from typing import Any

import torchvision
from torch import nn

from ..core.backbone import IMAGENET_MEAN, IMAGENET_STD
from ..core.errors import UserError, unknown
from ._networks import Encoder, Preprocessing, described, unknown_model

_HEADS = ("fc", "classifier", "heads", "head")  # what torchvision calls the classifier, by architecture
_IMAGENET = Preprocessing(224, IMAGENET_MEAN, IMAGENET_STD, 224 / 256)


def torchvision_encoder(model: str, args: dict[str, Any], native: Preprocessing = _IMAGENET) -> Encoder:
    """A torchvision classifier without its last layer.

    Raises `UserError` for an unknown name, arguments that the constructor does not take, or an unknown kind of head.
    """
    check_name(model)
    try:
        network = torchvision.models.get_model(model, weights=None, **args)
    except (TypeError, ValueError) as error:
        raise UserError(f"torchvision model {model!r} does not take args {args}: {error}") from None
    prefix = remove_classifier(network, model)
    return Encoder(network, described("torchvision", model, args), "penultimate", native, (prefix,))


def check_name(model: str) -> None:
    known = torchvision.models.list_models(module=torchvision.models)
    if model not in known:
        raise UserError(unknown_model("torchvision", model, known))


def remove_classifier(network: nn.Module, model: str) -> str:
    """Replace the last layer of the classifier by the identity and return the prefix of its keys.

    SqueezeNet classifies with a 1x1 convolution before the global average; it keeps the average alone.
    """
    name = next((name for name in _HEADS if hasattr(network, name)), None)
    if name is None:
        raise UserError(f"torchvision model {model!r} has no classifier that ddbench knows; use the checkpoint or timm source")
    if isinstance(network, torchvision.models.SqueezeNet):
        network.classifier = nn.Sequential(nn.AdaptiveAvgPool2d(1))
        return "classifier."
    linear = [key for key, layer in network.named_modules() if key.startswith(name) and isinstance(layer, nn.Linear)]
    parent, _, child = linear[-1].rpartition(".")
    setattr(network.get_submodule(parent), child, nn.Identity())
    return f"{linear[-1]}."


def native_preprocessing(model: str, tag: str) -> Preprocessing:
    """What the authors of the weights `tag` (an enum member such as `IMAGENET1K_V1` or `DEFAULT`) say about the input."""
    try:
        transform = weights_of(model, tag).transforms()
    except UserError:
        return _IMAGENET
    size = transform.crop_size[0]
    return Preprocessing(size, tuple(transform.mean), tuple(transform.std), size / transform.resize_size[0])


def weights_of(model: str, tag: str) -> Any:
    """The member `tag` of the model's weights enum."""
    check_name(model)
    members = torchvision.models.get_model_weights(model)
    if tag not in members.__members__:
        raise UserError(unknown(f"weights of torchvision model {model!r}", tag, list(members.__members__)))
    return members[tag]
