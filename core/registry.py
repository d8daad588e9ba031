"""One registry class for the four plugin kinds: methods, backbones, datasets, protocols.

    METHODS = Registry("method", package="ddbench.methods", group="ddbench.methods")

    @METHODS.register("clpdd")
    @dataclass(frozen=True)
    class CLPDD: ...

A plugin is a frozen dataclass whose fields are its parameters. Built-in plugins are in the modules of `package`, plugins of
other distributions come from the entry-point group. Either is imported only when it is asked for by name; what there is, and
what parameters it takes, is read from the source.
"""

import contextlib
import hashlib
import importlib
import importlib.util
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, Generic, TypeVar, cast, get_args, get_type_hints

from .declared import Declared, of_class, plugins
from .errors import UserError, unknown
from .params import Unread, build, parse_spec, spec_string, split

T = TypeVar("T")
C = TypeVar("C", bound=type)


class Registry(Generic[T]):
    """Names of one plugin kind and the classes behind them."""

    def __init__(self, kind: str, package: str, group: str, otherwise: str = ""):
        """`otherwise`: what an unknown NAME may have been meant to be, such as `timm[model=NAME]`."""
        self.kind = kind
        self._otherwise = otherwise
        self.group = group
        self._package = package
        self._classes: dict[str, type[T]] = {}

    def register(self, name: str) -> Callable[[C], C]:
        """Class decorator that adds `name`; a second class under the same name is a `UserError`."""

        def add(cls: C) -> C:
            known = self._classes.get(name)
            if known is not None and _origin(known) != _origin(cls):
                raise self._clash(name, _origin(known), _origin(cls))
            self._classes[name] = cast(type[T], cls)
            cls.name = name  # type: ignore[attr-defined]
            return cls

        return add

    def names(self) -> list[str]:
        """All names, built-in and from entry points, sorted. Imports no plugin."""
        return sorted({*self._builtin, *self._classes, *self._entry_points})

    def get(self, name: str) -> type[T]:
        """The class registered as `name`. Raises `UserError` with suggestions for an unknown name."""
        entry = self._entry_points.get(name)
        if name not in self._classes:
            if declared := self._builtin.get(name):
                importlib.import_module(declared.module)
            elif entry:
                self._load(entry)
            else:
                raise self.unknown(name)
        if entry is not None and entry.value != _origin(self._classes[name]):
            raise self._clash(name, _origin(self._classes[name]), entry.value)
        return self._classes[name]

    def unknown(self, name: str) -> UserError:
        hint = self._otherwise.replace("NAME", name) if len(name) < 80 else ""
        return UserError(unknown(self.kind, name, self.names(), hint))

    def declared(self, name: str) -> Declared | None:
        """What the source says of a plugin, without importing it; None where the source is not found."""
        if (cls := self._classes.get(name)) is not None:
            return self._builtin.get(name) or of_class(name, cls.__module__, cls.__qualname__)
        if (builtin := self._builtin.get(name)) is not None:
            return builtin
        entry = self._entry_points.get(name)
        return of_class(name, entry.module, entry.attr) if entry else None

    def constant(self, name: str, attribute: str) -> Any:
        """A class attribute of a plugin, such as `version`; its module is imported only if the source does not say.

        Raises `UserError` for an unknown name.
        """
        declared = None if name in self._classes else self.declared(name)
        if declared is not None:
            with contextlib.suppress(AttributeError):
                if (value := declared.constant(attribute)) is not Unread:
                    return value
        return getattr(self.get(name), attribute)

    def check(self, spec: str) -> Any:
        """Raise `UserError` for an unknown name, or parameters that the source of the plugin shows to be wrong.

        A plugin that is not imported stays so; `create` finds what only its class can tell. Returns a dataclass with the
        parameters, or None where the source is not found.
        """
        name, values = parse_spec(spec)
        if name not in self._classes and name not in self.names():
            raise self.unknown(name)
        cls = self._classes.get(name) or ((declared := self.declared(name)) and declared.signature())
        return build(cls, values, owner=f"{self.kind} {name!r}") if cls else None

    def holding(self, name: str, kind: str | None = None) -> dict[str, bool]:
        """The parameters of a plugin that hold specs of other plugins (`SpecOf`), and whether several joined by +; `kind`: of
        this kind alone."""
        declared = self.declared(name)
        if declared is None:
            held = spec_parameters(self.get(name))
            return {key: holds.several for key, holds in held.items() if kind in (None, holds.registry.kind)}
        texts = {parameter.name: parameter.annotation for parameter in declared.parameters()}
        mark = f"SpecOf({kind.upper()}S" if kind else "SpecOf("
        return {key: "several=True" in text for key, text in texts.items() if mark in text}

    def distribution(self, name: str) -> tuple[str, str] | None:
        """Name and version of the package that brings a plugin; None for a built-in, or one of a plugin file."""
        if name in self._builtin:  # asked for each record
            return None
        entry = self._entry_points.get(name)
        return (entry.dist.name, entry.dist.version) if entry and entry.dist else None

    def create(self, spec: str, **overrides: Any) -> T:
        """Build an instance from `name` or `name[key=value,...]`; parameters are checked against the dataclass."""
        name, values = parse_spec(spec)
        return build(self.get(name), {**values, **overrides}, owner=f"{self.kind} {name!r}")

    def canonical(self, spec: str) -> str:
        """The spec as records write it: with the parameters that differ from their defaults, in the plugin's order.

        Raises `UserError` as `check` does. A plugin is imported only where its source does not tell enough.
        """
        return self.canonical_by_source(spec) or spec_string(self.create(spec))

    def canonical_by_source(self, spec: str) -> str | None:
        """The same without importing anything; None where a parameter's type or default is not told by the source."""
        name, values = parse_spec(spec)
        declared = self.declared(name) if name in self.names() else None
        told = {p.name for p in declared.parameters() if Unread not in (p.hint, p.default)} if declared else set()
        if declared is None or not values.keys() <= told:
            return None
        return spec_string(build(declared.signature(), values, owner=f"{self.kind} {name!r}"), name)

    def load_file(self, path: str | Path) -> None:
        """Import one plugin file; its decorators register what it defines."""
        path = Path(path).resolve()
        if not path.is_file():
            raise UserError(f"plugin file {path} does not exist; give the path of a .py file")
        if path.suffix != ".py":
            raise UserError(f"plugin file {path} is not named as Python is; rename it to {path.stem}.py")
        module_name = plugin_module(path)
        if module_name in sys.modules:
            return
        spec = importlib.util.spec_from_file_location(module_name, path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[module_name] = module
        try:
            spec.loader.exec_module(module)
        except UserError:
            del sys.modules[module_name]
            raise
        except (Exception, SystemExit) as error:
            del sys.modules[module_name]
            raise UserError(f"plugin file {path} cannot be imported: {type(error).__name__}: {error}") from error

    @cached_property
    def _builtin(self) -> dict[str, Declared]:
        """Plugins of the package by name, read from its files."""
        found: dict[str, Declared] = {}
        for declared in plugins(self._package, f"{self.kind.upper()}S"):
            if (other := found.get(declared.name)) is not None:
                raise self._clash(declared.name, other.module, declared.module)
            found[declared.name] = declared
        return found

    @cached_property
    def _entry_points(self) -> dict[str, EntryPoint]:
        """Of the packages that are installed when it is first asked for: reading them takes 10 ms and more."""
        return {entry.name: entry for entry in entry_points(group=self.group)}

    def _load(self, entry: EntryPoint) -> None:
        try:
            cls = entry.load()
        except (Exception, SystemExit) as error:
            raise UserError(
                f"{self.kind} {entry.name!r} from {entry.value} cannot be imported: {type(error).__name__}: {error}"
            ) from error
        self.register(entry.name)(cls)

    def _clash(self, name: str, first: str, second: str) -> UserError:
        return UserError(f"{self.kind} {name!r} is defined twice, by {first} and by {second}; rename one of them")


LEAVE_ONE_OUT = "leave-one-out"


@dataclass(frozen=True)
class SpecOf:
    """Marks a parameter that holds a spec of another plugin: `of: Annotated[str, SpecOf(METHODS)]`.

    The spec is checked with the parameter, and stand-ins, identities and dry runs find it. `several`: any number of them, none
    included, joined by +; or `leave-one-out`, which a suite replaces by all but one of its other backbones.
    """

    registry: Registry[Any]
    several: bool = False

    def parts(self, value: str) -> list[str]:
        """The specs in a parameter's value."""
        if not self.several:
            return [value]
        return [] if value == LEAVE_ONE_OUT else split(value, "+")

    def __get_pydantic_core_schema__(self, source: Any, handler: Callable[[Any], Any]) -> Any:
        from pydantic_core import core_schema

        def checked(value: str) -> str:
            """In the form that records have, so that one configuration has one spelling."""
            parts = [spec_string(self.registry.create(spec)) for spec in self.parts(value)]
            return "+".join(parts) if parts else value

        return core_schema.no_info_after_validator_function(checked, handler(source))


def spec_parameters(cls: type) -> dict[str, SpecOf]:
    """The parameters of a plugin class that hold specs, by name."""
    hints = get_type_hints(cls, include_extras=True)
    return {name: found for name, hint in hints.items() if (found := _spec_of(hint)) is not None}


def held_specs(plugin: Any) -> Iterator[tuple[Registry[Any], str]]:
    """The specs that the parameters of a plugin hold, each with its registry."""
    for name, holds in spec_parameters(type(plugin)).items():
        if (value := getattr(plugin, name)) is not None:
            yield from ((holds.registry, spec) for spec in holds.parts(value))


def _spec_of(hint: Any) -> SpecOf | None:
    """The mark in a type, also where the parameter may be none."""
    if isinstance(hint, SpecOf):
        return hint
    inner = (*get_args(hint), *getattr(hint, "__metadata__", ()))
    return next((found for each in inner if (found := _spec_of(each)) is not None), None)


def plugin_module(path: Path) -> str:
    """The module name of a plugin file; files of one name in two folders are two modules."""
    return f"ddbench_plugin_{path.stem}_{hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:8]}"


def _origin(cls: type) -> str:
    return f"{cls.__module__}:{cls.__qualname__}"
