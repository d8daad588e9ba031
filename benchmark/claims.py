"""What papers claim, and which of our records answer for each claimed cell.

Claims are data: results/published/*.csv, one row per cell of a published table, with its source. How a cell is called here is
data too: results/published/names.yaml. A claimed number never becomes one of ours; both stand side by side.
"""

import csv
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from ..core.errors import UserError, unknown
from ..core.params import parse_spec
from .compare import POINTS, SIGMAS
from .overrides import Overrides
from .tables import check_comparable
from .values import Value, mean_value

PUBLISHED = Path(__file__).resolve().parents[1] / "results" / "published"
NAMES = PUBLISHED / "names.yaml"
MEAN_OF_OTHERS = "mean-of-others"  # as eval backbone of a claim: mean over the paper's other backbones


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
    eval_backbone: str
    target: str  # dataset of the test images; that of the set unless it is a transfer
    metric: str
    value: float
    std: float | None

    @property
    def table_name(self) -> str:
        """`lgm-1`, `lgm-b.1`: how the command line and the suites call the table."""
        return f"{self.paper}-{self.table}".lower()


@dataclass(frozen=True)
class Comparison:
    """A claimed cell beside what was measured for it."""

    claim: Claim
    measured: Value
    tolerance: float | None  # points; None where nothing was measured

    @property
    def difference(self) -> float | None:
        return None if self.measured.mean is None else self.measured.mean - self.claim.value

    @property
    def outside(self) -> bool:
        return self.difference is not None and self.tolerance is not None and abs(self.difference) > self.tolerance


def read_claims(files: Sequence[Path]) -> list[Claim]:
    """The claims of all files in order. Raises `UserError("FILE:LINE: ...")`."""
    claims = []
    for file in files:
        try:
            with file.open(newline="", encoding="utf-8") as opened:
                rows = csv.DictReader(opened)
                claims += [_claim(row, f"{file}:{number}") for number, row in enumerate(rows, 2)]
        except OSError as error:
            raise UserError(f"cannot read claims {file}: {error.strerror}; give a .csv as in results/published") from None
    return claims


def shipped() -> list[Path]:
    """The files of published numbers in a checkout. Raises `UserError` where there are none (an installed wheel)."""
    files = sorted(PUBLISHED.glob("*.csv"))
    if not files:
        raise UserError(f"{PUBLISHED} holds no published numbers; they come with a checkout, or give --against published=FILE")
    return files


def chosen_tables(claims: Sequence[Claim], tables: Sequence[str]) -> list[Claim]:
    """The claims of the named tables, in the order of the names."""
    known = list(dict.fromkeys(claim.table_name for claim in claims))
    if wrong := [name for name in tables if name not in known]:
        raise UserError(unknown("published table", wrong[0], known))
    return [claim for name in tables for claim in claims if claim.table_name == name]


def _claim(row: dict[str, str], where: str) -> Claim:
    names = [f.name for f in fields(Claim)]
    if missing := [name for name in names if row.get(name) is None]:
        raise UserError(f"{where}: column {missing[0]!r} is missing; a claim has {', '.join(names)}")
    try:
        numbers = {"value": float(row["value"]), "std": float(row["std"]) if row["std"] else None}
        ipc = int(row["ipc"]) if row["ipc"] else None
    except ValueError as error:
        raise UserError(f"{where}: not a number: {error}") from None
    texts = {name: row[name] for name in names}
    return Claim(**{**texts, **numbers, "ipc": ipc, "distill_backbone": row["distill_backbone"] or None})


Identity = tuple[str, tuple[tuple[str, Any], ...]]  # plugin name and its parameters, sorted
Key = tuple[int | Identity | None, ...]  # IPC; method, distil backbone, dataset, protocol, eval backbone


def identity(spec: str, location: Sequence[str]) -> Identity:
    """Name and parameters of a spec, without those that only say where data lies."""
    name, values = parse_spec(spec)
    return name, tuple(sorted((key, value) for key, value in values.items() if key not in location))


@dataclass(frozen=True)
class PaperNames:
    """One paper's names in our specs."""

    protocol: str
    methods: Mapping[str, str]
    backbones: Mapping[str, str]
    datasets: Mapping[str, str]


@dataclass(frozen=True)
class Names:
    """The names of all papers, and the parameters that only say where data lies."""

    papers: Mapping[str, PaperNames]
    location: Sequence[str]
    sizes: Mapping[str, Sequence[int]]  # train images, test images, classes by the papers' dataset name
    overrides: Overrides = field(default_factory=Overrides)

    @classmethod
    def read(cls, file: Path = NAMES, overrides: Overrides | None = None) -> "Names":
        try:
            content = yaml.safe_load(file.read_text(encoding="utf-8"))
            location, sizes = content.pop("location"), content.pop("sizes")
            papers = {paper: PaperNames(**names) for paper, names in content.items()}
        except (OSError, yaml.YAMLError, AttributeError, KeyError, TypeError) as error:
            raise UserError(f"cannot read the names of published cells in {file}: {' '.join(str(error).split())}") from None
        return cls(papers, location, sizes, overrides or Overrides())

    def wanted(self, claim: Claim) -> list[Key] | None:
        """Keys of the records that answer for `claim`, several for a mean over backbones; None where the cell has no name."""
        paper = self.papers.get(claim.paper)
        if paper is None or claim.metric != "top1" or claim.target != claim.dataset:
            return None
        method = paper.methods.get(f"{claim.method}@{claim.dataset}") or paper.methods.get(claim.method)
        distil = paper.backbones.get(claim.distill_backbone) if claim.distill_backbone else None
        others = [spec for name, spec in paper.backbones.items() if name != claim.distill_backbone]
        judges = others if claim.eval_backbone == MEAN_OF_OTHERS else [paper.backbones.get(claim.eval_backbone)]
        dataset = paper.datasets.get(claim.dataset)
        if method is None or dataset is None or None in judges or (claim.distill_backbone and distil is None):
            return None
        fixed = (claim.ipc, *(self.identity(spec) for spec in (method, distil, dataset, paper.protocol)))
        return [(*fixed, self.identity(judge)) for judge in judges]

    def key(self, record: dict[str, Any]) -> Key:
        """What tells the cell of `record` from others, as `wanted` writes it. Stand-ins are in the record already."""
        names = ("method_spec", "distill_backbone", "dataset", "protocol_spec", "eval_backbone")
        return (record["ipc"], *(record[name] and identity(record[name], self.location) for name in names))

    def identity(self, spec: str | None) -> Identity | None:
        """The identity of a spec of ours, or of its stand-in."""
        return None if spec is None else identity(self.overrides.swap(spec), self.location)

    def published_sizes(self, dataset: str) -> Sequence[int] | None:
        """Train images, test images and classes of the dataset `dataset` (a spec of ours), where a paper uses it."""
        wanted = identity(dataset, self.location)
        for paper in self.papers.values():
            for name, spec in paper.datasets.items():
                if name in self.sizes and identity(spec, self.location) == wanted:
                    return self.sizes[name]
        return None


def against(
    claims: Sequence[Claim], records: Sequence[dict[str, Any]], names: Names, points: float = POINTS
) -> list[Comparison]:
    """Every claim beside what `records` say. A difference is outside when it exceeds max(`points`, 3 s), s the root of the
    summed squares of both standard deviations. Raises `UserError` for records that cannot stand in one cell."""
    by_key = defaultdict(list)
    for record in records:
        by_key[names.key(record)].append(record)
    return [_compare(claim, names.wanted(claim) or [], by_key, points) for claim in claims]


def _compare(claim: Claim, keys: list[Key], by_key: Mapping[Key, list[dict[str, Any]]], points: float) -> Comparison:
    found = [record for key in dict.fromkeys(keys) for record in by_key.get(key, ())]
    if not found:
        return Comparison(claim, Value(), None)
    frame = pd.DataFrame(found)
    check_comparable(frame)
    measured = mean_value(frame, len(dict.fromkeys(keys)))
    spread = math.hypot(claim.std or 0.0, measured.std or 0.0)
    return Comparison(claim, measured, None if measured.mean is None else max(points, SIGMAS * spread))
