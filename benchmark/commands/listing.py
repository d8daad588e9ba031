"""`ddbench list KIND`: the registered plugins of one kind with their parameters."""

import argparse
import json
from typing import Any

from ._shared import add_plugins, command, load_plugins

KINDS = ("methods", "backbones", "datasets", "protocols")


def add(commands) -> None:
    parser = command(commands, "list", main, "list methods, backbones, datasets or protocols with their parameters")
    parser.add_argument("kind", choices=KINDS, metavar="KIND", help=" | ".join(KINDS))
    parser.add_argument("--json", action="store_true", help="machine-readable")
    add_plugins(parser)


def main(args: argparse.Namespace) -> int:
    from ..catalogue import REGISTRIES, describe

    load_plugins(args.plugin)
    found = [describe(args.kind, name) for name in REGISTRIES[args.kind].names()]
    if args.json:
        print(json.dumps(found, indent=1, default=str))
        return 0
    for plugin in found:
        print(f"{plugin['name']}\n    {plugin['summary']}" if "summary" in plugin else plugin["name"])
        if "error" in plugin:
            print(f"    cannot be loaded: {plugin['error']}")
        for parameter in plugin.get("parameters", []):
            print(f"    {_line(parameter)}")
    return 0


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
