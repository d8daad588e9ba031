"""What is registered: every plugin of the four kinds with its summary and parameters, read from its source.

Only a plugin whose source is not found is imported.
"""

import dataclasses
import inspect
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from ..core.declared import Declared, Parameter
from ..core.errors import UserError
from ..core.params import Unread
from ..core.registries import BACKBONES, DATASETS, METHODS, PROTOCOLS
from ..core.registry import Registry

REGISTRIES: dict[str, Registry[Any]] = {
    "methods": METHODS,
    "backbones": BACKBONES,
    "datasets": DATASETS,
    "protocols": PROTOCOLS,
}


def describe(kind: str, name: str) -> dict[str, Any]:
    """Name, summary, module, package and parameters of a plugin; one that cannot be imported is listed with its error."""
    registry = REGISTRIES[kind]
    facts: dict[str, Any] = {"name": name}
    if (package := registry.distribution(name)) is not None:
        facts["package"] = " ".join(package)
    declared = registry.declared(name)
    try:
        return facts | (_of_source(registry, declared) if declared else _of_class(registry.get(name)))
    except UserError as error:
        return facts | {"error": str(error)}


def _of_source(registry: Registry[Any], declared: Declared) -> dict[str, Any]:
    facts: dict[str, Any] = {"summary": declared.summary, "module": declared.module}
    for fact in ("version", "origin"):
        if isinstance(value := _constant(declared, fact), int | str):
            facts[fact] = value
    return facts | {"parameters": [_parameter(parameter) for parameter in declared.parameters()]}


def _constant(declared: Declared, name: str) -> Any:
    try:
        return declared.constant(name)
    except AttributeError:
        return None


def _of_class(cls: type) -> dict[str, Any]:
    """Of a class without a source file; a dataclass without a docstring has a generated signature, which is no summary."""
    text = inspect.getdoc(cls) or ""
    names = [{"name": field.name, "type": str(field.type), "default": "…", "help": ""} for field in dataclasses.fields(cls)]
    summary = "" if text.startswith(f"{cls.__name__}(") else text.partition("\n")[0]
    return {"summary": summary, "module": cls.__module__, "parameters": names}


def _parameter(parameter: Parameter) -> dict[str, Any]:
    hint = parameter.annotation if parameter.hint is Unread else type_name(parameter.hint)
    facts: dict[str, Any] = {"name": parameter.name, "type": hint}
    if parameter.default is dataclasses.MISSING:
        facts["required"] = True
    else:
        facts["default"] = "…" if parameter.default is Unread else parameter.default
    return facts | {"help": parameter.help}


def type_name(hint: Any) -> str:
    """`float > 0`, `'ce' | 'mse'`, `int | None`: a type as a user reads it."""
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
