"""Evaluation protocols, one file per protocol: what accuracy a distilled set gives a probe on a frozen backbone.

A file imports from `core` only and registers its class; `benchmark` looks it up by name. Methods never import from here
and are never imported here. Plugin authors import `register`, `Protocol` and the rest of `__all__` from here.
"""

from ..core.backbone import Backbone
from ..core.data import ImageData
from ..core.errors import Unsupported, UserError
from ..core.method import PROTOCOLS, Evaluation, Protocol
from ..core.run import Run
from ..core.sets import DistilledSet

register = PROTOCOLS.register

__all__ = [
    "Backbone",
    "DistilledSet",
    "Evaluation",
    "ImageData",
    "Protocol",
    "Run",
    "Unsupported",
    "UserError",
    "register",
]
