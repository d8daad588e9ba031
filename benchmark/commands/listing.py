"""`ddbench list [KIND [PATTERN]]`: the registered plugins, one line each; with -v, or for one name, their parameters."""

import argparse
import json
import textwrap
from fnmatch import fnmatchcase
from typing import Any

from ._shared import add_plugins, command, load_plugins

KINDS = ("methods", "backbones", "datasets", "protocols")


def add(commands) -> None:
    parser = command(commands, "list", main, "list methods, backbones, datasets or protocols, or say what parameters one takes")
    parser.add_argument("kind", nargs="?", choices=KINDS, metavar="KIND", help=f"{' | '.join(KINDS)}; default: names of all")
    parser.add_argument("pattern", nargs="?", metavar="NAME", help="one name, or several by a wildcard such as '*dino*'")
    parser.add_argument("-v", "--verbose", action="store_true", help="with parameters, as for one name")
    parser.add_argument("--json", action="store_true", help="machine-readable, with parameters")
    add_plugins(parser)


def main(args: argparse.Namespace) -> int:
    from ..catalogue import describe

    load_plugins(args.plugin)
    if args.kind is None:
        return overview(args.json)
    found = [describe(args.kind, name) for name in chosen(args.kind, args.pattern)]
    if args.json:
        print(json.dumps(found, indent=1, default=str))
    elif args.verbose or (args.pattern and not is_wildcard(args.pattern)):
        print("\n".join(line for plugin in found for line in details(plugin)))
    else:
        width = max(len(plugin["name"]) for plugin in found)
        print("\n".join(f"{plugin['name']:{width}}  {headline(plugin)}".rstrip() for plugin in found))
        print(f"\n`ddbench list {args.kind} NAME` says what parameters one takes")
    return 0


def overview(as_json: bool) -> int:
    """The names of all kinds."""
    from ..catalogue import REGISTRIES

    names = {kind: registry.names() for kind, registry in REGISTRIES.items()}
    if as_json:
        print(json.dumps(names, indent=1))
        return 0
    for kind, found in names.items():
        print(textwrap.fill(" ".join(found), 100, initial_indent=f"{kind:11}", subsequent_indent=" " * 11, **_WHOLE))  # type: ignore[arg-type]
    print("\n`ddbench list KIND` says what each is, `ddbench list KIND NAME` what parameters it takes")
    return 0


_WHOLE = {"break_on_hyphens": False, "break_long_words": False}


def chosen(kind: str, pattern: str | None) -> list[str]:
    """Names that the pattern fits. Raises `UserError` if there is none."""
    from ...core.errors import UserError
    from ..catalogue import REGISTRIES

    registry = REGISTRIES[kind]
    names = registry.names()
    found = [name for name in names if pattern is None or fnmatchcase(name, pattern)]
    if not found and pattern and is_wildcard(pattern):
        raise UserError(f"no {registry.kind} fits {pattern!r}; `ddbench list {kind}` shows all {len(names)}")
    if not found and pattern:
        raise registry.unknown(pattern)
    return found


def is_wildcard(text: str) -> bool:
    return any(sign in text for sign in "*?[")


def headline(plugin: dict[str, Any]) -> str:
    """Summary, where a method comes from, and the package of a plugin that is not built in."""
    if "error" in plugin:
        return f"cannot be loaded: {plugin['error']}"
    marks = [plugin[mark] for mark in ("origin", "package") if mark in plugin]
    return " ".join(filter(None, [plugin["summary"], f"[{', '.join(marks)}]" if marks else ""]))


def details(plugin: dict[str, Any]) -> list[str]:
    return [plugin["name"], f"    {headline(plugin)}", *(f"    {_line(each)}" for each in plugin.get("parameters", []))]


def _line(parameter: dict[str, Any]) -> str:
    if parameter.get("required"):
        line = f"{parameter['name']}: {parameter['type']} (required)"
    else:
        line = f"{parameter['name']} = {_shown(parameter['default'])}   ({parameter['type']})"
    return f"{line}   {parameter['help']}".rstrip()


def _shown(default: Any) -> Any:
    """A default as a spec would write it."""
    if default is None or isinstance(default, bool):
        return str(default).lower()
    return '""' if default == "" else default
