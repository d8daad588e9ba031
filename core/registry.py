"""One registry class for the four plugin kinds: methods, backbones, datasets, protocols.

    METHODS = Registry("method", package="ddbench.methods", group="ddbench.methods")

    @METHODS.register("clpdd")
    @dataclass(frozen=True)
    class CLPDD: ...

A plugin is a frozen dataclass whose fields are its parameters. Built-in plugins are the modules of `package`,
imported when a name is first looked up; plugins of other distributions come from the entry-point group and are
imported only when they are asked for by name.
"""

import hashlib
import importlib
import importlib.util
import pkgutil
import sys
from collections.abc import Callable
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, Generic, TypeVar, cast

from .errors import UserError, unknown
from .params import build, parse_spec

T = TypeVar("T")
C = TypeVar("C", bound=type)


class Registry(Generic[T]):
    """Names of one plugin kind and the classes behind them."""

    def __init__(self, kind: str, package: str, group: str):
        self.kind = kind
        self.group = group
        self._package = package
        self._classes: dict[str, type[T]] = {}
        self._scanned = False

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
        """All names, built-in and from entry points, sorted. Loads no entry point."""
        self._scan()
        return sorted({*self._classes, *self._entry_points()})

    def get(self, name: str) -> type[T]:
        """The class registered as `name`. Raises `UserError` with suggestions for an unknown name."""
        self._scan()
        entry = self._entry_points().get(name)
        if name not in self._classes:
            if entry is None:
                raise UserError(unknown(self.kind, name, self.names()))
            self._load(entry)
        elif entry is not None and entry.value != _origin(self._classes[name]):
            raise self._clash(name, _origin(self._classes[name]), entry.value)
        return self._classes[name]

    def create(self, spec: str, **overrides: Any) -> T:
        """Build an instance from `name` or `name[key=value,...]`; parameters are checked against the dataclass."""
        name, values = parse_spec(spec)
        return build(self.get(name), {**values, **overrides}, owner=f"{self.kind} {name!r}")

    def load_file(self, path: str | Path) -> None:
        """Import one plugin file; its decorators register what it defines."""
        path = Path(path).resolve()
        if not path.is_file():
            raise UserError(f"plugin file {path} does not exist; give the path of a .py file")
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
        except Exception as error:
            del sys.modules[module_name]
            raise UserError(f"plugin file {path} cannot be imported: {type(error).__name__}: {error}") from error

    def _scan(self) -> None:
        if self._scanned:
            return
        self._scanned = True
        package = importlib.import_module(self._package)
        for module in pkgutil.iter_modules(package.__path__):
            if not module.name.startswith("_"):
                importlib.import_module(f"{self._package}.{module.name}")

    def _entry_points(self) -> dict[str, EntryPoint]:
        return {entry.name: entry for entry in entry_points(group=self.group)}

    def _load(self, entry: EntryPoint) -> None:
        try:
            cls = entry.load()
        except Exception as error:
            raise UserError(
                f"{self.kind} {entry.name!r} from {entry.value} cannot be imported: {type(error).__name__}: {error}"
            ) from error
        self.register(entry.name)(cls)

    def _clash(self, name: str, first: str, second: str) -> UserError:
        return UserError(f"{self.kind} {name!r} is defined twice, by {first} and by {second}; rename one of them")


def plugin_module(path: Path) -> str:
    """The module name of a plugin file; files of one name in two folders are two modules."""
    return f"ddbench_plugin_{path.stem}_{hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:8]}"


def _origin(cls: type) -> str:
    return f"{cls.__module__}:{cls.__qualname__}"
