"""The four registries, without torch; the contracts of what they hold are in `method`, `backbone` and `data`."""

from typing import Any

from .errors import UserError
from .params import parse_spec
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


_ALL = (METHODS, BACKBONES, DATASETS, PROTOCOLS)


def kind_of(spec: str) -> str:
    """`method`, `backbone`, `dataset` or `protocol`. Raises `UserError` for a name of none or of several."""
    name, _ = parse_spec(spec)
    kinds = [registry.kind for registry in _ALL if name in registry.names()]
    if len(kinds) > 1:
        raise UserError(f"{name!r} is a {' and a '.join(kinds)}; say which by --kind")
    if not kinds:
        close = [str(registry.unknown(name)) for registry in _ALL]
        raise UserError(next((text for text in close if "did you mean" in text), f"{name!r} is no plugin of any kind"))
    return kinds[0]
