"""`ddbench compare REFERENCE DIR`: the regression gate of CI."""

import argparse
from pathlib import Path

from ._shared import command


def add(commands) -> None:
    parser = command(commands, "compare", main, "list every cell that got worse than a reference run; exits 1 if any did")
    parser.add_argument("reference", type=Path, metavar="REFERENCE", help="folder of the reference run")
    parser.add_argument("run", type=Path, metavar="DIR", help="folder of the run to judge")
    parser.add_argument("--time-ratio", type=float, metavar="R", help="fail if distilling takes more than R times as long")
    parser.add_argument("--memory-ratio", type=float, metavar="R", help="fail if the peak grows to more than R times")


def main(args: argparse.Namespace) -> int:
    from ..records.records import load_records
    from ..records.regression import compare

    limits = {"time_ratio": args.time_ratio, "memory_ratio": args.memory_ratio}
    result = compare(load_records([args.reference]), load_records([args.run]), **limits)
    for difference in sorted(result.differences, key=lambda d: (not d.worse, d.kind, d.cell)):
        print(f"{'WORSE ' if difference.worse else 'better'}  {difference.cell}: {difference.text}")
    for note in result.notes:
        print(f"note    {note}")
    worse = sum(d.worse for d in result.differences)
    print(f"{result.cells} cells compared with {args.reference}: {worse} worse, {len(result.differences) - worse} better")
    return int(result.regressed)
