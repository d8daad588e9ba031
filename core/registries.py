"""The four registries, without torch; the contracts of what they hold are in `method`, `backbone` and `data`."""

from typing import Any

from .errors import UserError
from .registry import Registry

_TIMM = "a model of timm is `timm[model=NAME]`, see `ddbench list backbones`; "

METHODS: Registry[Any] = Registry("method", package="ddbench.methods", group="ddbench.methods")
BACKBONES: Registry[Any] = Registry("backbone", package="ddbench.backbones", group="ddbench.backbones", otherwise=_TIMM)
DATASETS: Registry[Any] = Registry("dataset", package="ddbench.datasets", group="ddbench.datasets")
PROTOCOLS: Registry[Any] = Registry("protocol", package="ddbench.evaluation", group="ddbench.protocols")


def embedded(zoo: int | None = None) -> list[str]:
    """Names of the backbones whose weights ship with ddbench, of one generation or, with None, of all. Imports none."""
    return [name for name in BACKBONES.names() if (found := _generation(name)) and zoo in (None, found)]


def _generation(name: str) -> int:
    try:
        return BACKBONES.constant(name, "zoo")
    except UserError:  # another package's plugin that cannot be imported; who asks for it by name is told
        return 0
