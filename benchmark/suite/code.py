"""Identity of the code that a result comes from: an edited method is another method.

The code of a method or protocol is the file that defines it and whatever that file uses of the project (of its own package or
folder, where it is a plugin): functions, classes and constants, followed definition by definition through all imports.
Comments, docstrings, annotations, formatting and the words of errors do not count, so that results of unchanged code last
over releases. What the harness lends or checks with (`_HARNESS`) does not count either, for none of it moves a pixel. Backbones
and datasets count by the sha256 of their weights and contents, elsewhere; methods that a parameter names (`neighbors[of=lgm]`)
by their own code.

A version number would have to be raised by hand, which is forgotten on the first day; a hash over all of `core` would throw
results away with every release.
"""

import ast
import hashlib
import importlib.util
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from ...core.method import METHODS
from ...core.registry import Registry, held_specs

_PROJECT = "ddbench"
_HARNESS = {f"{_PROJECT}.core.{name}" for name in ("errors", "method", "params", "registry", "run", "sets.DistilledSet")}
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
    for name, text in sorted((name or "", text) for (_, name), text in definitions(cls.__module__).items()):
        digest.update(f"{name}\0{text}\0".encode())  # where a definition stands does not matter
    return digest.hexdigest()[:16]


def definitions(module: str) -> dict[Name, str]:
    """Normalised source of all of `module` and of everything in the project that it uses, directly or not."""
    found: dict[Name, str] = {}
    todo: list[Name] = [(module, None)]
    while todo:
        at = todo.pop()
        if at in found or at[0] in _HARNESS or ".".join(map(str, at)) in _HARNESS or not _belongs(at[0], module):
            continue
        source = _read(at[0])
        if source is None or isinstance(getattr(sys.modules.get(at[0]), at[1] or "", None), Registry):
            continue
        nodes = source.named(at[1])
        if nodes:
            found[at] = "\n".join(map(ast.unparse, nodes))
            todo += [used for node in nodes for used in source.uses(node)]
        elif at[1] is not None:  # imported there, or a module
            todo.append(source.imports.get(at[1], (f"{at[0]}.{at[1]}", None)))
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
    imports: dict[str, Name]

    def named(self, name: str | None) -> list[ast.stmt]:
        """The statements that define `name`; of the whole module for None, of its effects for the empty name."""
        if name is None:
            return self.body
        return self.effects if not name else self.defined.get(name, [])

    def uses(self, node: ast.AST) -> list[Name]:
        names = {each.id for each in ast.walk(node) if isinstance(each, ast.Name)}
        own = [(self.name, name) for name in names if name in self.defined]
        return own + [self.imports[name] for name in names if name in self.imports and name not in self.defined]


def _read(module: str) -> _Source | None:
    file = _file(module)
    if file is None:
        return None
    return _parsed(module, file, file.read_text(encoding="utf-8"))


@cache
def _parsed(module: str, file: Path, text: str) -> _Source:
    tree = ast.parse(text)
    package = module if file.name == "__init__.py" else module.rpartition(".")[0]
    imports: dict[str, Name] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imports |= {alias.asname or alias.name.partition(".")[0]: (alias.name, None) for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = "." * node.level + (node.module or "")
            home = importlib.util.resolve_name(base, package) if node.level else base
            imports |= {alias.asname or alias.name: (home, alias.name) for alias in node.names}
    body = [node for node in _Normal().visit(tree).body if not isinstance(node, (ast.Import, ast.ImportFrom))]
    defined: dict[str, list[ast.stmt]] = {}
    effects = []
    for node in body:
        for name in (names := _names(node)):
            defined.setdefault(name, []).append(node)
        if not names:
            effects.append(node)
    return _Source(module, body, defined, effects, imports)


def _names(node: ast.stmt) -> list[str]:
    """What a statement defines."""
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        return [node.name]
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return [each.id for target in targets for each in ast.walk(target) if isinstance(each, ast.Name)]


class _Normal(ast.NodeTransformer):
    """Takes away what cannot move a result."""

    def visit_Module(self, node: ast.Module) -> ast.AST:
        return self._without_docstring(node)

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        return self._without_docstring(node)

    def visit_FunctionDef(self, node: Any) -> ast.AST:
        node.returns = None
        return self._without_docstring(node)

    visit_AsyncFunctionDef = visit_FunctionDef

    def visit_arg(self, node: ast.arg) -> ast.AST:
        node.annotation = None
        return node

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        node.annotation = ast.Constant(...)
        return self.generic_visit(node)

    def visit_Raise(self, node: ast.Raise) -> ast.AST:
        exc = node.exc.func if isinstance(node.exc, ast.Call) else node.exc
        return ast.Raise(exc, None) if exc is not None else node

    def _without_docstring(self, node: Any) -> ast.AST:
        if node.body and isinstance(node.body[0], ast.Expr) and isinstance(node.body[0].value, ast.Constant):
            node.body = node.body[1:] or [ast.Pass()]
        node.decorator_list = [d for d in getattr(node, "decorator_list", []) if not _registers(d)]
        return self.generic_visit(node)


def _registers(decorator: ast.expr) -> bool:
    called = decorator.func if isinstance(decorator, ast.Call) else decorator
    return isinstance(called, ast.Attribute) and called.attr == "register"


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
