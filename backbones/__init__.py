"""Where encoders come from: timm, torchvision, open_clip, packages of weights, a checkpoint file, the shipped mini zoo.

A file imports from `core` only and registers a `BackboneSource`; `benchmark` looks it up by name. Nothing here knows
datasets by name. Plugin authors import `register`, `BackboneSource` and the rest of `__all__` from here.

    timm_models.py         timm[model=…]           _networks.py     a library's network without its classifier
    torchvision_models.py  torchvision[model=…]    _torchvision.py  the same for torchvision
    clip_models.py         open_clip[model=…]      _weights.py      files, hashes, strict loading
    checkpoint.py          checkpoint[file=…]      _hub.py          downloads that fail in one line
    papers.py              clip_vitb16, …          _releases.py     which file each of those names is
    lite.py                efficientnet_lite0, …
    mini/                  mini_…                  _options.py      parameters written as text
"""

from ..core.backbone import BACKBONES, IMAGENET_MEAN, IMAGENET_STD, Backbone, BackboneSource, BackboneSpec
from ..core.errors import UserError

register = BACKBONES.register

__all__ = ["IMAGENET_MEAN", "IMAGENET_STD", "Backbone", "BackboneSource", "BackboneSpec", "UserError", "register"]
