"""Identity of the code that a result comes from: an edited method is another method.

The code of a method or protocol is the file that defines it and whatever that file uses of the project (of its own package or
folder, where it is a plugin): functions, classes and constants, followed definition by definition through all imports,
`from helpers import *` included. What it is handed and passes images through counts too, where it uses a backbone: `Backbone`
with the folding of batch norms, and the way real features are made (`_HANDED`). Comments, docstrings, annotations, formatting
and the words of errors do not count, so that results of unchanged code last over releases, and Python 3.11 to 3.13 give one
digest (normal_form.py).

Not followed:

- what the harness lends or checks with (`_HARNESS`) and the keeping of features, for none of it moves a pixel;
- backbones and datasets: they count by the sha256 of weights and contents, by architecture and preprocessing, elsewhere; also
  those that a parameter names. Methods that a parameter names (`neighbors[of=lgm]`) count by their own code;
- what is reached by a text alone (`getattr(module, "name")`, `importlib.import_module("name")`, entry points), and the methods
  of objects that a plugin gets from anywhere else;
- code that is not Python source, files that code reads, and other packages: their versions are in a record's environment.

A version number would have to be raised by hand, which is forgotten on the first day; a hash over all of `core` would throw
results away with every release.
"""

import ast
import hashlib
import importlib.util
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from ...core.method import METHODS
from ...core.registry import Registry, held_specs
from .normal_form import normalised, text_of

_PROJECT = "ddbench"
_HARNESS = {f"{_PROJECT}.core.{name}" for name in ("errors", "method", "params", "registry", "run", "sets.DistilledSet")}
_HANDED = (  # through what a plugin is handed, images become features
    (f"{_PROJECT}.core.backbone", "Backbone"),
    (f"{_PROJECT}.core.bank", "stream_features"),
    (f"{_PROJECT}.core.bank", "feature_facts"),
)
_INSTALLED = ("site-packages", "dist-packages")  # folders whose files have nothing in common

Name = tuple[str, str | None]  # module, and a name at its top level; None: all of it


def code_of(plugin: Any) -> str:
    """16 hex digits of sha256 for a method or protocol, and for the methods that its parameters name."""
    named = [METHODS.create(spec) for registry, spec in held_specs(plugin) if registry is METHODS]
    digests = [_code_of_class(type(plugin)), *map(code_of, named)]
    return digests[0] if not named else hashlib.sha256("".join(digests).encode()).hexdigest()[:16]


@cache
def _code_of_class(cls: type) -> str:
    digest = hashlib.sha256()
    handed = _HANDED if getattr(cls, "uses_backbone", True) else ()
    for name, text in sorted((name or "", text) for (_, name), text in definitions(cls.__module__, handed).items()):
        digest.update(f"{name}\0{text}\0".encode())  # where a definition stands does not matter
    return digest.hexdigest()[:16]


def definitions(module: str, more: Sequence[Name] = ()) -> dict[Name, str]:
    """Normalised source of all of `module`, of `more`, and of everything in the project that they use, directly or not."""
    found: dict[Name, str] = {}
    todo: list[Name] = [(module, None), *more]
    seen: set[Name] = set()
    while todo:
        at = todo.pop()
        if at in seen or at[0] in _HARNESS or ".".join(map(str, at)) in _HARNESS or not _belongs(at[0], module):
            continue
        seen.add(at)
        source = _read(at[0])
        if source is None or isinstance(getattr(sys.modules.get(at[0]), at[1] or "", None), Registry):
            continue
        nodes = source.named(at[1])
        if nodes:
            found[at] = "\n".join(map(text_of, nodes))
            todo += [used for node in nodes for used in source.uses(node)]
        elif at[1] is not None:
            todo += source.origins(at[1])
        if source.effects and at[1] is not None:
            todo.append((at[0], ""))
    return found


@dataclass(frozen=True)
class _Source:
    """One module: its definitions by name, the statements that are none, and what its names are imported from."""

    name: str
    body: list[ast.stmt]
    defined: dict[str, list[ast.stmt]]
    effects: list[ast.stmt]  # loops that register, settings, tables that are filled: they count for every definition
    imports: dict[str, list[Name]]  # several where one is the other's stand-in, or `import a.b` stands beside `import a.c`
    stars: list[str]  # modules of which everything is imported

    def named(self, name: str | None) -> list[ast.stmt]:
        """The statements that define `name`; of the whole module for None, of its effects for the empty name."""
        if name is None:
            return self.body
        return self.effects if not name else self.defined.get(name, [])

    def uses(self, node: ast.AST) -> list[Name]:
        names = {each.id for each in ast.walk(node) if isinstance(each, ast.Name)}
        own = [(self.name, name) for name in names if name in self.defined]
        return own + [used for name in names for used in self._imported(name)]

    def origins(self, name: str) -> list[Name]:
        """Where a name that is not defined here may come from: an import, or a module of this package."""
        return self._imported(name) or [(f"{self.name}.{name}", None)]

    def _imported(self, name: str) -> list[Name]:
        """A name that is nowhere here may be in a module of which everything is imported."""
        unknown = name not in self.defined and name not in self.imports
        return [(home, name) for home in self.stars] if unknown else self.imports.get(name, [])


def _read(module: str) -> _Source | None:
    file = _file(module)
    if file is None:
        return None
    return _parsed(module, file, file.read_text(encoding="utf-8"))


@cache
def _parsed(module: str, file: Path, text: str) -> _Source:
    tree = ast.parse(text)
    package = module if file.name == "__init__.py" else module.rpartition(".")[0]
    imports: dict[str, list[Name]] = {}
    stars = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                imports.setdefault(alias.asname or alias.name.partition(".")[0], []).append((alias.name, None))
        elif isinstance(node, ast.ImportFrom):
            base = "." * node.level + (node.module or "")
            home = importlib.util.resolve_name(base, package) if node.level else base
            for alias in node.names:
                imports.setdefault(alias.asname or alias.name, []).append((home, alias.name))
            stars += [home for alias in node.names if alias.name == "*"]
    body = [node for node in normalised(tree).body if not isinstance(node, (ast.Import, ast.ImportFrom))]
    defined: dict[str, list[ast.stmt]] = {}
    effects = []
    for node in body:
        for name in (names := _names(node)):
            defined.setdefault(name, []).append(node)
        if not names:
            effects.append(node)
    return _Source(module, body, defined, effects, imports, stars)


def _names(node: ast.stmt) -> list[str]:
    """What a statement defines."""
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        return [node.name]
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return [each.id for target in targets for each in ast.walk(target) if isinstance(each, ast.Name)]


def _belongs(module: str, plugin: str) -> bool:
    """Whether a module is the project's, or of the package or the folder of the plugin."""
    top, own = module.partition(".")[0], plugin.partition(".")[0]
    if top in (_PROJECT, own):
        return True
    if own == _PROJECT:
        return False
    file, home = _file(top), _file(own)
    return file is not None and home is not None and file.parent == home.parent and home.parent.name not in _INSTALLED


def _file(module: str) -> Path | None:
    """The .py file of a module; None for what has none. Nothing is imported but the packages around it."""
    loaded = sys.modules.get(module)
    if loaded is not None:
        origin = getattr(loaded, "__file__", None)
    else:
        try:
            spec = importlib.util.find_spec(module)
        except (ImportError, ValueError):
            return None
        origin = spec.origin if spec else None
    return Path(origin) if origin and origin.endswith(".py") else None
