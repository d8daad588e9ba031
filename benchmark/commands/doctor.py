"""`ddbench doctor`: versions, device, cache, plugins, and a cure for each problem."""

import argparse
from pathlib import Path

from ._shared import command
from .run import RUNS


def add(commands) -> None:
    parser = command(commands, "doctor", main, "report versions, device, cache and plugins, and what to do about problems")
    parser.add_argument(
        "--clean",
        nargs="*",
        type=Path,
        metavar="DIR",
        help=f"instead, remove what killed runs left half-written in the cache and in run folders; default: all of {RUNS}",
    )


def main(args: argparse.Namespace) -> int:
    if args.clean is not None:
        return clean(args.clean or sorted(folder for folder in RUNS.glob("*") if folder.is_dir()))
    from ..doctor import examine

    broken = 0
    for finding in examine():
        broken += finding.broken
        mark = "PROBLEM" if finding.broken else "note   " if finding.cure else "ok     "
        print(f"{mark} {finding.topic:9} {finding.text}" + (f"\n{'':18}-> {finding.cure}" if finding.cure else ""), flush=True)
    print("all is well" if not broken else f"{broken} problem{'s' if broken > 1 else ''} found")
    return int(broken > 0)


def clean(runs: list[Path]) -> int:
    """Settle the cache and the run folders that no run uses; what an unfinished write may still need is kept."""
    from ...core.disk import settle
    from ...core.errors import UserError
    from ...core.store import default_cache
    from ..records.records import FILE
    from ..records.run_folder import locked

    places = sorted({left.parent for left in default_cache().rglob("*.partial")})
    for place in places:
        settle(place)
    for run in runs:
        if not (run / "sets").is_dir() and not (run / FILE).is_file():
            raise UserError(f"{run} is no run folder; give one of `ddbench run`")
        try:
            with locked(run):
                pass
        except UserError as error:
            print(f"left alone: {error}")
    print(f"cleaned: the cache {default_cache()}, and {len(runs)} run folder{'s' * (len(runs) != 1)}")
    return 0
