"""The four registries, without torch; the contracts of what they hold are in `method`, `backbone` and `data`."""

from typing import Any

from .registry import Registry

_TIMM = "a model of timm is `timm[model=NAME]`, see `ddbench list backbones`; "

METHODS: Registry[Any] = Registry("method", package="ddbench.methods", group="ddbench.methods")
BACKBONES: Registry[Any] = Registry("backbone", package="ddbench.backbones", group="ddbench.backbones", otherwise=_TIMM)
DATASETS: Registry[Any] = Registry("dataset", package="ddbench.datasets", group="ddbench.datasets")
PROTOCOLS: Registry[Any] = Registry("protocol", package="ddbench.evaluation", group="ddbench.protocols")
