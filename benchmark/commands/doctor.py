"""`ddbench doctor`: versions, device, cache, plugins, and a cure for each problem."""

import argparse

from ._shared import command


def add(commands) -> None:
    command(commands, "doctor", main, "report versions, device, cache and plugins, and what to do about problems")


def main(args: argparse.Namespace) -> int:
    from ..doctor import examine

    broken = 0
    for finding in examine():
        broken += finding.broken
        mark = "PROBLEM" if finding.broken else "note   " if finding.cure else "ok     "
        print(f"{mark} {finding.topic:9} {finding.text}" + (f"\n{'':18}-> {finding.cure}" if finding.cure else ""), flush=True)
    print("all is well" if not broken else f"{broken} problem{'s' if broken > 1 else ''} found")
    return int(broken > 0)
