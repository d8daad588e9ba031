"""Python source as a text that stays when comments, docstrings, annotations, formatting and the words of errors change.

The text is that of the syntax tree, written here and not by `ast.dump` or `ast.unparse`, whose output differs between Python
3.11, 3.12 and 3.13. Imports the standard library alone, so that a test can compare interpreters.
"""

import ast
from typing import Any

# Fields that say nothing about what is computed, or that only some versions of Python have.
_SILENT = {"ctx", "kind", "type_comment", "type_ignores", "type_params", "returns", "annotation", "simple"}


def normalised(tree: ast.Module) -> ast.Module:
    """The tree without what cannot move a result. Works in place."""
    return _Normal().visit(tree)


def text_of(node: Any) -> str:
    """A node of a normalised tree as text: `Name(id=str:'x')`. Empty fields are left out, whatever version has them."""
    if isinstance(node, ast.AST):
        found = ((name, getattr(node, name, None)) for name in sorted(node._fields) if name not in _SILENT)
        return f"{type(node).__name__}({','.join(f'{name}={text_of(value)}' for name, value in found if not _empty(value))})"
    if isinstance(node, list):
        return f"[{','.join(map(text_of, node))}]"
    return f"{type(node).__name__}:{node!a}"  # repr would depend on the version's tables of what is printable


def _empty(value: Any) -> bool:
    return value is None or (isinstance(value, list) and not value)


class _Normal(ast.NodeTransformer):
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

    def visit_Assert(self, node: ast.Assert) -> ast.AST:
        node.msg = None
        return self.generic_visit(node)

    def visit_JoinedStr(self, node: ast.JoinedStr) -> ast.AST:
        """Versions differ in whether an empty format or an empty text between two values stands there."""
        self.generic_visit(node)
        node.values = [each for each in node.values if not (isinstance(each, ast.Constant) and each.value == "")]
        return node

    def _without_docstring(self, node: Any) -> ast.AST:
        if node.body and isinstance(node.body[0], ast.Expr) and isinstance(node.body[0].value, ast.Constant):
            node.body = node.body[1:] or [ast.Pass()]
        node.type_params = []  # of Python 3.12: annotations too
        node.decorator_list = [d for d in getattr(node, "decorator_list", []) if not _registers(d)]
        return self.generic_visit(node)


def _registers(decorator: ast.expr) -> bool:
    called = decorator.func if isinstance(decorator, ast.Call) else decorator
    return isinstance(called, ast.Attribute) and called.attr == "register"
