"""What papers claim: results/published/*.csv, one row per cell of a published table, with its source."""

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from ...core.errors import UserError, unknown

PUBLISHED = Path(__file__).resolve().parents[2] / "results" / "published"


@dataclass(frozen=True)
class Claim:
    """One cell of a published table."""

    source: str  # `paper`, or what else the number was read from
    paper: str
    arxiv: str
    table: str
    dataset: str
    ipc: int | None  # None: all images, or no set at all
    method: str
    distill_backbone: str | None
    eval_backbone: str  # or the network that the protocol trains
    target: str  # dataset of the test images; that of the set unless it is a transfer
    metric: str  # top1 | relative | alignment | probe_top1@PART, words of PART joined by _
    value: float
    std: float | None

    @property
    def table_name(self) -> str:
        """`lgm-1`, `lgm-b.1`: how the command line and the suites call the table."""
        return f"{self.paper}-{self.table}".lower()

    @property
    def part(self) -> str | None:
        """The part of the evaluation that the number is of, as our protocol calls it: `1% labels`."""
        return self.metric.partition("@")[2].replace("_", " ") or None


def read_claims(files: Sequence[Path]) -> list[Claim]:
    """The claims of all files in order. Raises `UserError("FILE:LINE: ...")`."""
    claims = []
    for file in files:
        try:
            with file.open(newline="", encoding="utf-8") as opened:
                rows = csv.DictReader(opened)
                found = [_claim(row, f"{file}:{number}") for number, row in enumerate(rows, 2)]
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            reason = error.strerror if isinstance(error, OSError) else f"not a text file of rows ({error})"
            raise UserError(f"cannot read claims {file}: {reason}; give a .csv as in results/published") from None
        if not found:
            raise UserError(f"{file} holds no claims; give a .csv as in results/published")
        claims += found
    return claims


def shipped() -> list[Path]:
    """The files of published numbers in a checkout. Raises `UserError` where there are none (an installed wheel)."""
    files = sorted(PUBLISHED.glob("*.csv"))
    if not files:
        raise UserError(f"{PUBLISHED} holds no published numbers; they come with a checkout, or give --against published=FILE")
    return files


def chosen_tables(claims: Sequence[Claim], tables: Sequence[str]) -> list[Claim]:
    """The claims of the named tables, or of all tables of a named paper, in the order of the names."""
    known = list(dict.fromkeys(name for claim in claims for name in (claim.paper, claim.table_name)))
    if wrong := [name for name in tables if name not in known]:
        raise UserError(unknown("published table", wrong[0], known))
    return list(dict.fromkeys(claim for name in tables for claim in claims if name in (claim.paper, claim.table_name)))


def _claim(row: dict[str, str], where: str) -> Claim:
    names = [f.name for f in fields(Claim)]
    if missing := [name for name in names if row.get(name) is None]:
        raise UserError(f"{where}: column {missing[0]!r} is missing; a claim has {', '.join(names)}")
    try:
        numbers = {"value": _number(row["value"]), "std": _number(row["std"]) if row["std"] else None}
        ipc = int(row["ipc"]) if row["ipc"] else None
    except ValueError as error:
        raise UserError(f"{where}: not a number: {error}") from None
    texts = {name: row[name] for name in names}
    return Claim(**{**texts, **numbers, "ipc": ipc, "distill_backbone": row["distill_backbone"] or None})


def _number(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text!r} is not finite")
    return value
