"""Parameters of plugins: `name[key=value,...]` specs, checked against a frozen dataclass by pydantic.

A value that holds commas or brackets which are not its own list or spec is quoted, `folder[path="a, b]"]`; a quotation mark
inside quotes is doubled.
"""

import dataclasses
import re
import types
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin, get_type_hints

from pydantic import AfterValidator, BeforeValidator, Field, TypeAdapter, ValidationError

from .errors import UserError, shown, unknown

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


_QUOTES = ("'", '"')
_SPEC = re.compile(r"^\s*([\w.+-]+)\s*(?:\[(.*)\])?\s*$", re.S)


def parse_spec(spec: str) -> tuple[str, dict[str, Any]]:
    """Split `name[key=value,...]` into the name and its raw values (strings). Commas inside brackets or quotes do not split."""
    match = _SPEC.match(spec)
    if not match:
        raise UserError(f"cannot read {shown(spec)}; write name or name[key=value,key=value]")
    name, inside = match.group(1), match.group(2)
    values: dict[str, Any] = {}
    for item in split(inside or "", ","):
        key, equals, value = item.partition("=")
        key = key.strip()
        if not equals or not key:
            form = 'write name[key=value,key=value], and a value with commas as key="a, b"'
            raise UserError(f"cannot read {shown(item)} in {shown(spec)}; {form}")
        if key in values:
            raise UserError(f"{shown(key)} is given twice in {shown(spec)}")
        values[key] = _unquoted(value.strip())
    return name, values


def write_spec(name: str, values: dict[str, str]) -> str:
    """The spec that `parse_spec` reads as `name` and `values`, quoted where they need it."""
    return name + (f"[{','.join(f'{key}={_quoted(value)}' for key, value in values.items())}]" if values else "")


def _quoted(value: str) -> str:
    try:
        if parse_spec(f"name[key={value}]")[1] == {"key": value}:
            return value
    except UserError:
        pass
    return '"' + value.replace('"', '""') + '"'


def _unquoted(value: str) -> str:
    mark = value[:1]
    return value[1:-1].replace(mark * 2, mark) if mark in _QUOTES and mark else value


def build(cls: type[T], values: dict[str, Any], owner: str) -> T:
    """Make the dataclass `cls` from `values`, converting strings; raises a one-line `UserError` that names `owner`."""
    hints = get_type_hints(cls, include_extras=True)
    given = [field for field in dataclasses.fields(cls) if field.init]  # type: ignore[arg-type]
    fields = [field.name for field in given]
    for key in values:
        if key not in fields:
            raise UserError(f"{unknown('parameter', key, fields)} (of {owner})" if fields else f"{owner} takes no parameters")
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
        raise UserError(f"{owner}: {where}={shown(first['input'])} is not valid: {message}") from None


def resolved(plugin: Any) -> dict[str, Any]:
    """All parameters of a plugin instance, defaults included, as JSON-ready values."""
    return dataclasses.asdict(plugin)


def spec_string(plugin: Any, name: str | None = None) -> str:
    """`name[key=value,...]` with only the parameters that differ from their defaults; `name`: in place of the plugin's own."""
    changed = {
        field.name: _text(value)
        for field in dataclasses.fields(plugin)
        if (value := getattr(plugin, field.name)) != _default(field)
    }
    return write_spec(name or plugin.name, changed)


def _default(field: dataclasses.Field) -> Any:
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return field.default


def _text(value: Any) -> str:
    return {None: "none", True: "true", False: "false"}[value] if value is None or isinstance(value, bool) else str(value)


def split(text: str, separator: str) -> list[str]:
    """Split at separators that are not inside brackets or quotes; empty parts are left out.

    A quotation mark opens quotes where a value begins, so that `o'brien` is a name. Raises `UserError` for brackets or quotes
    that do not match.
    """
    parts, depth, start, quote, before = [], 0, 0, "", separator
    for index, char in enumerate(text):
        if quote:
            quote = "" if char == quote else quote
        elif char in _QUOTES and before in (separator, "=", *_QUOTES):  # a doubled mark opens quotes again
            quote = char
        elif char == separator and depth == 0:
            parts.append(text[start:index])
            start = index + 1
        else:
            depth += (char in "[({") - (char in "])}")
        if depth < 0:
            break
        before = before if char.isspace() else char
    if depth or quote:
        raise UserError(f'brackets or quotes do not match in {shown(text)}; quote values that hold some: key="a, b]"')
    parts.append(text[start:])
    return [part for part in parts if part.strip()]


def _none(value: Any, hint: Any) -> Any:
    """`none` on the command line is None where the parameter allows it."""
    if get_origin(hint) is Annotated:
        hint = get_args(hint)[0]
    optional = get_origin(hint) in (Union, types.UnionType) and type(None) in get_args(hint)
    return None if optional and isinstance(value, str) and value.lower() == "none" else value
