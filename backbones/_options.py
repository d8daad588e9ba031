"""Parameter types that the sources share, written as plain text in a spec: `mean=0.5:0.5:0.5`, `args=pad_type:same`."""

from typing import Annotated, Any

import yaml

from ..core.errors import UserError
from ..core.params import BeforeValidator


def _triple(value: Any) -> Any:
    """`0.5`, `0.5:0.5:0.5` or a sequence -> three numbers."""
    if isinstance(value, str):
        value = [part for part in value.strip("()[] ").replace(",", ":").split(":") if part.strip()]
    if isinstance(value, int | float):
        value = [value]
    return tuple(value) * 3 if len(value) == 1 else tuple(value)


Channels = Annotated[tuple[float, float, float], BeforeValidator(_triple)]  # one number per colour channel


def parse_args(text: str) -> dict[str, Any]:
    """Constructor arguments `name:value;name:value`; values are read as YAML (`pad_type:same;drop_rate:0.1;layers:[2,2]`)."""
    arguments: dict[str, Any] = {}
    for item in filter(str.strip, text.split(";")):
        name, colon, value = item.partition(":")
        if not colon or not name.strip().isidentifier():
            raise UserError(f"cannot read {item!r} in args={text}; write args=name:value;name:value")
        try:
            arguments[name.strip()] = yaml.safe_load(value)
        except (yaml.YAMLError, ValueError, AttributeError, TypeError, RecursionError):  # of tags such as !!timestamp
            raise UserError(f"cannot read the value of {name.strip()!r} in args={text}") from None
    return arguments
