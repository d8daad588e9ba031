"""Distillation methods, one file per method, each reading like its paper.

A file imports from `core` only and registers its class; `benchmark` looks it up by name and imports nothing from here
directly. Files whose name starts with `_` hold what several methods share. Plugin authors import `register`, `Method`
and the rest of `__all__` from here.
"""

from ..core.backbone import Backbone, BackboneSpec
from ..core.data import ImageData
from ..core.errors import Diverged, Unsupported, UserError
from ..core.method import METHODS, Method
from ..core.run import Run
from ..core.sets import DistilledSet, class_labels, real_set

register = METHODS.register

__all__ = [
    "Backbone",
    "BackboneSpec",
    "DistilledSet",
    "Diverged",
    "ImageData",
    "Method",
    "Run",
    "Unsupported",
    "UserError",
    "class_labels",
    "real_set",
    "register",
]
