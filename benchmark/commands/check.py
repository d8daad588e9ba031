"""`ddbench check NAME`: the contract tests on one plugin of any kind."""

import argparse

from ._shared import add_plugins, check_specs, command, load_plugins


def add(commands) -> None:
    parser = command(commands, "check", main, "run the contract tests on a plugin, for plugin authors; exits 1 if one fails")
    parser.add_argument("plugin_spec", metavar="NAME", help="name or name[k=v,...] of a method, backbone, dataset or protocol")
    parser.add_argument("--kind", choices=("method", "backbone", "dataset", "protocol"), help="where two kinds have the name")
    add_plugins(parser)


def main(args: argparse.Namespace) -> int:
    from ...core.registries import kind_of

    load_plugins(args.plugin)
    spec, kind = args.plugin_spec, args.kind or kind_of(args.plugin_spec)
    check_specs(**{f"{kind}s": [spec]})
    from ..contract.checks import check

    failed = 0
    for name, reason in check(spec, kind):
        failed += reason is not None
        print(f"ok      {name}" if reason is None else f"FAILED  {name}: {reason}", flush=True)
    print(f"{spec}: {f'{failed} checks FAILED' if failed else 'keeps the contract'}")
    return int(failed > 0)
