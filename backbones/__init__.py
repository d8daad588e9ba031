"""Where frozen encoders come from: timm, torchvision, open_clip, checkpoint files and the shipped mini zoo.

A file imports from `core` only and registers a `BackboneSource`; `benchmark` looks it up by name. Nothing here knows
datasets. Plugin authors import `register`, `BackboneSource` and the rest of `__all__` from here.
"""

from ..core.backbone import BACKBONES, IMAGENET_MEAN, IMAGENET_STD, Backbone, BackboneSource, BackboneSpec
from ..core.errors import UserError

register = BACKBONES.register

__all__ = ["IMAGENET_MEAN", "IMAGENET_STD", "Backbone", "BackboneSource", "BackboneSpec", "UserError", "register"]
