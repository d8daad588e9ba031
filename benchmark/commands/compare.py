"""`ddbench compare REFERENCE DIR`: the regression gate of CI."""

import argparse
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ._shared import command

if TYPE_CHECKING:
    from ..records.regression import Difference


def add(commands) -> None:
    parser = command(commands, "compare", main, "list every cell that got worse than a reference run; exits 1 if any did")
    parser.add_argument("reference", type=Path, metavar="REFERENCE", help="run folder or bundle of the reference")
    parser.add_argument("run", type=Path, metavar="DIR", help="run folder or bundle to judge")
    parser.add_argument("--time-ratio", type=float, metavar="R", help="fail if distilling takes more than R times as long")
    parser.add_argument("--memory-ratio", type=float, metavar="R", help="fail if the peak grows to more than R times")


def main(args: argparse.Namespace) -> int:
    from ..records.bundle import read_records
    from ..records.regression import compare

    limits = {"time_ratio": args.time_ratio, "memory_ratio": args.memory_ratio}
    result = compare(read_records([args.reference]), read_records([args.run]), **limits)
    for line in lines(result.differences):
        print(line)
    for note in result.notes:
        print(f"note    {note}")
    worse = sum(d.worse for d in result.differences)
    print(f"{result.cells} cells compared with {args.reference}: {worse} worse, {len(result.differences) - worse} better")
    return int(result.regressed)


def lines(differences: Sequence["Difference"]) -> Iterator[str]:
    """One line per difference, worse first; cells that are missing for one reason are counted where they are many."""
    alike = defaultdict(list)
    for difference in sorted(differences, key=lambda d: (not d.worse, d.kind, d.cell)):
        alike[difference.text if difference.kind == "missing" else difference].append(difference)
    for found in alike.values():
        first = found[0]
        if len(found) > _LISTED:
            yield f"WORSE   {len(found)} cells {first.text} (the first: {first.cell})"
            yield "note    the gate wants every cell of the reference; methods side by side: ddbench table --versus METHOD"
        else:
            yield from (f"{'WORSE ' if d.worse else 'better'}  {d.cell}: {d.text}" for d in found)


_LISTED = 10  # missing cells
