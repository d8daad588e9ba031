"""What is registered: every plugin of the four kinds with its summary and parameters."""

import ast
import dataclasses
import inspect
import textwrap
from typing import Any, get_type_hints

from ..core.backbone import BACKBONES
from ..core.data import DATASETS
from ..core.errors import UserError
from ..core.method import METHODS, PROTOCOLS
from ..core.registry import Registry

REGISTRIES: dict[str, Registry[Any]] = {
    "methods": METHODS,
    "backbones": BACKBONES,
    "datasets": DATASETS,
    "protocols": PROTOCOLS,
}


def describe(kind: str, name: str) -> dict[str, Any]:
    """Name, summary, module and parameters of a plugin; one that cannot be imported is listed with its error."""
    try:
        cls = REGISTRIES[kind].get(name)
    except UserError as error:
        return {"name": name, "error": str(error)}
    facts: dict[str, Any] = {"name": name, "summary": first_line(cls), "module": cls.__module__}
    if isinstance(version := getattr(cls, "version", None), int):
        facts["version"] = version
    hints, helps = get_type_hints(cls, include_extras=True), comments(cls)
    fields = [field for field in dataclasses.fields(cls) if field.init]
    facts["parameters"] = [_parameter(field, hints[field.name]) | {"help": helps.get(field.name, "")} for field in fields]
    return facts


def first_line(cls: type) -> str:
    """First line of the docstring; a dataclass without one has a generated signature, which is no summary."""
    text = inspect.getdoc(cls) or ""
    return "" if text.startswith(f"{cls.__name__}(") else text.partition("\n")[0]


def comments(cls: type) -> dict[str, str]:
    """What the source says of each parameter, in a comment where its declaration ends; a subclass goes before its base."""
    found: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        try:
            source = textwrap.dedent(inspect.getsource(base))
        except (OSError, TypeError):  # built in, or made without a file
            continue
        lines, declared = source.splitlines(), ast.parse(source).body[0]
        for node in getattr(declared, "body", []):
            if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.end_lineno is not None:
                _, mark, comment = lines[node.end_lineno - 1].encode()[node.end_col_offset :].decode().partition("# ")
                found |= {node.target.id: comment} if mark else {}
    return found


def type_name(hint: Any) -> str:
    """`float > 0`, `'ce' | 'mse'`, `int | None`: a type as a user reads it."""
    from typing import Annotated, Literal, Union, get_args, get_origin

    origin, args = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return " ".join([type_name(args[0]), *filter(None, map(_bound, args[1:]))])
    if origin is Literal:
        return " | ".join(map(repr, args))
    if origin is Union or str(origin) == "<class 'types.UnionType'>":
        return " | ".join(map(type_name, args))
    if hint is type(None):
        return "none"
    return hint.__name__ if isinstance(hint, type) and not args else str(hint).replace("typing.", "")


def _bound(bound: Any) -> str:
    if metadata := getattr(bound, "metadata", None):  # of a pydantic field
        return " ".join(filter(None, map(_bound, metadata)))
    for attribute, sign in (("gt", ">"), ("ge", ">="), ("lt", "<"), ("le", "<=")):
        if (limit := getattr(bound, attribute, None)) is not None:
            return f"{sign} {limit}"
    return ""


def _parameter(field: dataclasses.Field, hint: Any) -> dict[str, Any]:
    facts: dict[str, Any] = {"name": field.name, "type": type_name(hint)}
    if field.default is not dataclasses.MISSING:
        facts["default"] = field.default
    elif field.default_factory is not dataclasses.MISSING:
        facts["default"] = field.default_factory()
    else:
        facts["required"] = True
    return facts
