"""`ddbench check METHOD`: the contract tests on one method."""

import argparse

from ._shared import add_plugins, check_specs, command, load_plugins


def add(commands) -> None:
    parser = command(commands, "check", main, "run the contract tests on a method, for plugin authors; exits 1 if one fails")
    parser.add_argument("method", metavar="METHOD", help="name or name[k=v,...]")
    add_plugins(parser)


def main(args: argparse.Namespace) -> int:
    load_plugins(args.plugin)
    check_specs(methods=[args.method])
    from ..contract.checks import check

    failed = 0
    for name, reason in check(args.method):
        failed += reason is not None
        print(f"ok      {name}" if reason is None else f"FAILED  {name}: {reason}", flush=True)
    print(f"{args.method}: {f'{failed} checks FAILED' if failed else 'keeps the contract'}")
    return int(failed > 0)
