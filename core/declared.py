"""What the source of a plugin says of it: name, summary, parameters, constants. Nothing is imported.

A plugin is a class under `@REGISTRY.register("name")`, or one of several that a loop makes from a table,
`for name, entry in TABLE.items(): REGISTRY.register(name)(make(name, entry))`, where `make` is annotated `-> type[Base]`.
"""

import ast
import dataclasses
import importlib.machinery
import importlib.util
import sys
import typing
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from . import params


@dataclass(frozen=True)
class Parameter:
    """One field of a plugin as its source declares it."""

    name: str
    annotation: str  # source text
    hint: Any  # the type, or `params.Unread` where it cannot be told without importing
    default: Any  # `dataclasses.MISSING`: required; `params.Unread`: there is one, not known without importing
    help: str  # the comment behind it


@dataclass(frozen=True)
class Declared:
    """A plugin class in a source file."""

    name: str
    module: str
    qualname: str
    summary: str  # first line of the docstring
    source: "Source" = field(repr=False)
    node: ast.ClassDef = field(repr=False)

    def parameters(self) -> list[Parameter]:
        """Of the class and its bases, in the order of a dataclass."""
        return list(self._parameters)

    @cached_property
    def _parameters(self) -> tuple[Parameter, ...]:
        """Read once: every spec that is checked asks for them."""
        found: dict[str, Parameter] = {}
        for source, node in reversed(_lineage(self.source, self.node)):
            found |= {parameter.name: parameter for parameter in _fields(source, node)}
        return tuple(found.values())

    def signature(self) -> type:
        """A dataclass with the same parameters, for checking values; what cannot be told without importing takes anything."""
        fields = []
        for parameter in self.parameters():
            hint = Any if parameter.hint is params.Unread else parameter.hint
            fields.append((parameter.name, hint, field(default=parameter.default, kw_only=True)))
        return dataclasses.make_dataclass(self.qualname, fields, frozen=True)

    def constant(self, name: str) -> Any:
        """A class attribute that is a literal, of the class or the nearest base that has it; AttributeError for none."""
        for source, node in _lineage(self.source, self.node):
            for target, value in _assigned(node):
                if target == name:
                    return source.value(value)
        raise AttributeError(f"{self.module}:{self.qualname} declares no {name}")


@dataclass(frozen=True)
class Source:
    """One module's syntax tree."""

    module: str
    file: Path
    tree: ast.Module = field(repr=False)
    lines: list[str] = field(repr=False)

    def class_node(self, name: str) -> ast.ClassDef | None:
        return next((node for node in self.tree.body if isinstance(node, ast.ClassDef) and node.name == name), None)

    def imported(self, name: str) -> "tuple[Source, str] | None":
        """Where a name of this module comes from, and what it is called there."""
        for node in self.tree.body:
            for alias in node.names if isinstance(node, ast.ImportFrom) else ():
                if (alias.asname or alias.name) == name:
                    package = self.module if self.file.name == "__init__.py" else self.module.rpartition(".")[0]
                    base = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []  # type: ignore[attr-defined]
                    source = read(".".join([*base, *filter(None, [node.module])]))  # type: ignore[attr-defined]
                    return (source, alias.name) if source else None
        return None

    def assigned(self, name: str) -> "tuple[Source, ast.expr] | None":
        """The expression behind a module-level name, in this module or the one that it is imported from."""
        for target, value in _assigned(self.tree):
            if target == name:
                return self, value
        found = self.imported(name)
        return found[0].assigned(found[1]) if found else None

    def value(self, expression: ast.expr) -> Any:
        """What an expression of plain types, literals and names of such is; `params.Unread` for anything else.

        Of `Annotated[T, condition]` whose condition only the module itself knows, T; but nothing is known of what is converted
        before it is checked.
        """
        try:
            code = compile(ast.Expression(expression), str(self.file), "eval")
            return eval(code, {"__builtins__": {}}, _Names(self))
        except Exception:  # whatever it was, importing the module will tell
            return self._without_conditions(expression)

    def _without_conditions(self, expression: ast.expr) -> Any:
        match expression:
            case ast.Subscript(value=ast.Name(id="Annotated"), slice=ast.Tuple(elts=[kind, *conditions])):
                return params.Unread if any(map(_converts, conditions)) else self.value(kind)
            case ast.BinOp(left=left, op=ast.BitOr(), right=right):
                values = self.value(left), self.value(right)
                return params.Unread if params.Unread in values else values[0] | values[1]
        return params.Unread


def _converts(condition: ast.expr) -> bool:
    """Whether a condition of an annotation changes values before their type is checked."""
    return isinstance(condition, ast.Call) and isinstance(condition.func, ast.Name) and condition.func.id == "BeforeValidator"


class _Names(dict):
    """Names that an annotation may use: plain types, typing, `core.params`, and module-level names made of these."""

    _KNOWN: typing.ClassVar[dict[str, Any]] = {
        **{kind.__name__: kind for kind in (str, int, float, bool, tuple, list, dict)},
        **{name: getattr(typing, name) for name in ("Annotated", "Any", "Literal", "Union", "Optional")},
        "Path": Path,
    }

    def __init__(self, source: Source):
        super().__init__(self._KNOWN)
        self.source = source

    def __missing__(self, name: str) -> Any:
        found = self.source.imported(name)
        if found and found[0].module == params.__name__:
            return getattr(params, found[1])
        expression = self.source.assigned(name)
        value = params.Unread if expression is None else expression[0].value(expression[1])
        if value is params.Unread:
            raise KeyError(name)
        return value


@cache
def read(module: str) -> Source | None:
    """The source of a module, found without importing it; None if there is no such file."""
    loaded = getattr(sys.modules.get(module), "__file__", None)  # of a plugin file, which has no place on the path
    file = Path(loaded) if loaded else _file(module)
    return None if file is None else read_file(file, module)


@cache
def read_file(file: Path, module: str) -> Source | None:
    try:
        text = file.read_text(encoding="utf-8")
        return Source(module, file, ast.parse(text), text.splitlines())
    except (OSError, SyntaxError, ValueError):
        return None


def _file(module: str) -> Path | None:
    top, *rest = module.split(".")
    spec = importlib.util.find_spec(top)  # imports nothing
    for depth in range(len(rest)):
        if spec is None or not spec.submodule_search_locations:
            return None
        spec = importlib.machinery.PathFinder.find_spec(
            ".".join([top, *rest[: depth + 1]]), list(spec.submodule_search_locations)
        ) or _mapped(".".join([top, *rest[: depth + 1]]))
    return Path(spec.origin) if spec and spec.origin and spec.origin.endswith(".py") else None


def _mapped(module: str) -> importlib.machinery.ModuleSpec | None:
    """An editable installation maps packages to folders by a finder of its own, which needs the parent package alone."""
    try:
        return importlib.util.find_spec(module) if module.count(".") == 1 else None
    except ImportError:
        return None


def plugins(package: str, registry: str) -> list[Declared]:
    """Every plugin of the modules of `package` that do not start with `_`, sorted by file. `registry`: METHODS, …"""
    root = read(package)
    if root is None:
        return []
    found = []
    for file in sorted(root.file.parent.iterdir()):
        path = file / "__init__.py" if file.is_dir() else file
        if path.suffix == ".py" and not file.name.startswith("_") and path.is_file():
            source = read_file(path, f"{package}.{file.stem}")
            found += [] if source is None else of_source(source, registry)
    return found


def of_source(source: Source, registry: str) -> Iterator[Declared]:
    for node in source.tree.body:
        if isinstance(node, ast.ClassDef):
            for decorator in node.decorator_list:
                name = _registered(decorator, registry)
                if isinstance(name, ast.Constant):
                    yield Declared(name.value, source.module, node.name, _summary(node), source, node)  # type: ignore[arg-type]
        elif isinstance(node, ast.For):
            yield from _of_table(source, node, registry)


def of_class(name: str, module: str, qualname: str) -> Declared | None:
    """The class `module:qualname`, for instance of an entry point."""
    source = read(module)
    node = source.class_node(qualname) if source else None
    if source is None or node is None:
        return None
    return Declared(name, module, qualname, _summary(node), source, node)


def _registered(call: ast.expr, registry: str) -> ast.expr | None:
    """The argument of `REGISTRY.register(…)` or `register(…)`."""
    if not isinstance(call, ast.Call) or len(call.args) != 1:
        return None
    function = ast.unparse(call.func)
    return call.args[0] if function in (f"{registry}.register", "register") else None


def _of_table(source: Source, loop: ast.For, registry: str) -> Iterator[Declared]:
    """`for name, entry in TABLE.items(): REGISTRY.register(name)(make(name, entry))`; an entry's first text is its summary."""
    statement = loop.body[0]
    call = statement.value if isinstance(statement, ast.Expr) else None
    if not isinstance(call, ast.Call) or _registered(call.func, registry) is None or not isinstance(call.args[0], ast.Call):
        return
    made = ast.unparse(call.args[0].func)
    maker = next(node for node in source.tree.body if isinstance(node, ast.FunctionDef) and node.name == made)
    base = source.class_node(maker.returns.slice.id)  # type: ignore[union-attr]
    table = source.assigned(loop.iter.func.value.id)  # type: ignore[attr-defined]
    assert base is not None
    assert isinstance(table[1], ast.Dict)  # type: ignore[index]
    for key, entry in zip(table[1].keys, table[1].values, strict=True):  # type: ignore[index,union-attr]
        texts = [node.value for node in ast.walk(entry) if isinstance(node, ast.Constant) and isinstance(node.value, str)]
        yield Declared(key.value, source.module, key.value, f"{texts[0]}.", source, base)  # type: ignore[union-attr]


def _summary(node: ast.ClassDef) -> str:
    return (ast.get_docstring(node) or "").partition("\n")[0]


def _lineage(source: Source, node: ast.ClassDef) -> list[tuple[Source, ast.ClassDef]]:
    """The class and its bases, nearest first; bases whose source is not found are left out."""
    found = [(source, node)]
    for base in node.bases:
        home: tuple[Source, str] | None = (source, ast.unparse(base))
        while home and home[0].class_node(home[1]) is None:
            home = home[0].imported(home[1])
        if home:
            found += _lineage(home[0], home[0].class_node(home[1]))  # type: ignore[arg-type]
    return found


def _fields(source: Source, node: ast.ClassDef) -> Iterator[Parameter]:
    """The dataclass fields that a class body declares."""
    if not any("dataclass" in ast.unparse(decorator) for decorator in node.decorator_list):
        return
    for item in node.body:
        if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name):
            text = ast.unparse(item.annotation).strip("'\"")
            default = _default(source, item.value)
            if not text.startswith("ClassVar") and default is not None:
                yield Parameter(
                    item.target.id, text, source.value(ast.parse(text, mode="eval").body), *default, _comment(source, item)
                )


def _default(source: Source, value: ast.expr | None) -> tuple[Any] | None:
    """The default in a tuple; None for a field that is not given (`init=False`)."""
    if value is None:
        return (dataclasses.MISSING,)
    if isinstance(value, ast.Call) and ast.unparse(value.func) in ("field", "dataclasses.field"):
        given = {keyword.arg: keyword.value for keyword in value.keywords}
        if "init" in given and source.value(given["init"]) is False:
            return None
        if "default" not in given:
            return (params.Unread if "default_factory" in given else dataclasses.MISSING,)
        value = given["default"]
    return (source.value(value),)


def _comment(source: Source, item: ast.AnnAssign) -> str:
    line = source.lines[item.end_lineno - 1].encode()[item.end_col_offset :].decode()  # type: ignore[operator]
    return line.partition("# ")[2]


def _assigned(node: ast.ClassDef | ast.Module) -> Iterator[tuple[str, ast.expr]]:
    """Names that a body gives a value, tuples taken apart."""
    for item in node.body:
        if isinstance(item, ast.AnnAssign) and item.value is not None:
            yield ast.unparse(item.target), item.value
        elif isinstance(item, ast.Assign):
            target, value = item.targets[0], item.value
            if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
                yield from ((ast.unparse(t), v) for t, v in zip(target.elts, value.elts, strict=True))
            else:
                yield ast.unparse(target), value
