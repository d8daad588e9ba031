"""Parameters of plugins: `name[key=value,...]` specs, checked against a frozen dataclass by pydantic."""

import dataclasses
import re
import types
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin, get_type_hints

from pydantic import AfterValidator, BeforeValidator, Field, TypeAdapter, ValidationError

from .errors import UserError, unknown

__all__ = [
    "AfterValidator",  # these three are pydantic's, for annotations of parameters
    "BeforeValidator",
    "Count",
    "Field",
    "Natural",
    "NonNegative",
    "Positive",
    "Probability",
    "build",
    "parse_spec",
    "resolved",
    "spec_string",
    "split",
]

T = TypeVar("T")

Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]
Probability = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]
Natural = Annotated[int, Field(ge=0)]


class Unread:
    """Stands for what the source of a plugin does not tell without importing it."""


_SPEC = re.compile(r"^\s*([\w.+-]+)\s*(?:\[(.*)\])?\s*$", re.S)


def parse_spec(spec: str) -> tuple[str, dict[str, Any]]:
    """Split `name[key=value,...]` into the name and its raw values (strings). Commas inside brackets do not split."""
    match = _SPEC.match(spec)
    if not match:
        raise UserError(f"cannot read {spec!r}; write name or name[key=value,key=value]")
    name, inside = match.group(1), match.group(2)
    values: dict[str, Any] = {}
    for item in split(inside or "", ","):
        key, equals, value = item.partition("=")
        key = key.strip()
        if not equals or not key:
            raise UserError(f"cannot read {item!r} in {spec!r}; write name[key=value,key=value]")
        if key in values:
            raise UserError(f"{key!r} is given twice in {spec!r}")
        values[key] = value.strip()
    return name, values


def build(cls: type[T], values: dict[str, Any], owner: str) -> T:
    """Make the dataclass `cls` from `values`, converting strings; raises a one-line `UserError` that names `owner`."""
    hints = get_type_hints(cls, include_extras=True)
    given = [field for field in dataclasses.fields(cls) if field.init]  # type: ignore[arg-type]
    fields = [field.name for field in given]
    for key in values:
        if key not in fields:
            raise UserError(unknown("parameter", key, fields) + f" (of {owner})" if fields else f"{owner} takes no parameters")
    for field in given:
        if field.default is field.default_factory is dataclasses.MISSING and field.name not in values:
            raise UserError(f"{owner} needs {field.name}=…")
    values = {key: _none(value, hints[key]) for key, value in values.items()}
    try:
        return TypeAdapter(cls).validate_python(values)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"][:1]))
        message = first["msg"][0].lower() + first["msg"][1:]
        raise UserError(f"{owner}: {where}={first['input']!r} is not valid: {message}") from None


def resolved(plugin: Any) -> dict[str, Any]:
    """All parameters of a plugin instance, defaults included, as JSON-ready values."""
    return dataclasses.asdict(plugin)


def spec_string(plugin: Any) -> str:
    """`name[key=value,...]` with only the parameters that differ from their defaults."""
    changed = [
        f"{field.name}={_text(value)}"
        for field in dataclasses.fields(plugin)
        if (value := getattr(plugin, field.name)) != _default(field)
    ]
    return plugin.name + (f"[{','.join(changed)}]" if changed else "")


def _default(field: dataclasses.Field) -> Any:
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return field.default


def _text(value: Any) -> str:
    return {None: "none", True: "true", False: "false"}[value] if value is None or isinstance(value, bool) else str(value)


def split(text: str, separator: str) -> list[str]:
    """Split at separators that are not inside brackets; empty parts are left out."""
    parts, depth, start = [], 0, 0
    for index, char in enumerate(text):
        depth += (char in "[({") - (char in "])}")
        if char == separator and depth == 0:
            parts.append(text[start:index])
            start = index + 1
    parts.append(text[start:])
    return [part for part in parts if part.strip()]


def _none(value: Any, hint: Any) -> Any:
    """`none` on the command line is None where the parameter allows it."""
    if get_origin(hint) is Annotated:
        hint = get_args(hint)[0]
    optional = get_origin(hint) in (Union, types.UnionType) and type(None) in get_args(hint)
    return None if optional and isinstance(value, str) and value.lower() == "none" else value
