"""What the cells of published tables are called here, so that records can answer for them: results/published/names.yaml."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from ...core.errors import UserError
from ...core.params import parse_spec, write_spec
from ...core.registries import BACKBONES, DATASETS, METHODS, PROTOCOLS
from ...core.registry import Registry
from ..suite.overrides import Overrides, held
from .claim import PUBLISHED, Claim

NAMES = PUBLISHED / "names.yaml"
MEAN_OF_OTHERS = "mean-of-others"  # as eval backbone of a claim: mean over the paper's other backbones
COMPARED = "DISTIL_BACKBONE"  # in a protocol's spec: the claim's first backbone, which then distils nothing

Identity = tuple[str, tuple[tuple[str, Any], ...]]  # plugin name and its parameters, sorted
Key = tuple[int | Identity | None, ...]  # IPC; method, distil backbone, dataset, protocol, eval backbone


@cache
def identity(spec: str, location: tuple[str, ...]) -> Identity:
    """Name and parameters of a spec, and of the specs inside it, without those that only say where data lies."""
    name, values = parse_spec(spec)
    inner = {key: tuple(identity(part, location) for part in parts) for key, parts in held(spec).items()}
    return name, tuple(sorted((key, inner.get(key, value)) for key, value in values.items() if key not in location))


@cache
def canonical(registry: Registry[Any], spec: str) -> str:
    """The spec as records write it. Raises `UserError` for what the registry does not know."""
    return registry.canonical(spec)


@dataclass(frozen=True)
class PaperNames:
    """One paper's names in our specs; `NAME@DATASET` goes before `NAME`."""

    protocols: Mapping[str, str]  # by metric; may hold `COMPARED`
    methods: Mapping[str, str]
    backbones: Mapping[str, str]
    datasets: Mapping[str, str]
    note: str = ""  # below its tables: where our measurement differs from the paper's


@dataclass(frozen=True)
class Names:
    """The names of all papers, and the parameters that only say where data lies."""

    papers: Mapping[str, PaperNames]
    location: tuple[str, ...]
    overrides: Overrides = field(default_factory=Overrides)

    @classmethod
    def read(cls, file: Path = NAMES, overrides: Overrides | None = None) -> "Names":
        try:
            content = yaml.safe_load(file.read_text(encoding="utf-8"))
            location = tuple(content.pop("location"))
            papers = {paper: PaperNames(**names) for paper, names in content.items()}
        except (OSError, yaml.YAMLError, AttributeError, KeyError, TypeError) as error:
            raise UserError(f"cannot read the names of published cells in {file}: {' '.join(str(error).split())}") from None
        return cls(papers, location, overrides or Overrides())

    def dataset(self, claim: Claim) -> str | None:
        """Name of the dataset plugin that `claim` is about, which tells most records apart at once."""
        paper = self.papers.get(claim.paper)
        spec = paper.datasets.get(claim.dataset) if paper else None
        return None if spec is None else self.overrides.swap(spec).partition("[")[0]

    def wanted(self, claim: Claim) -> list[Key] | None:
        """Keys of the records that answer for `claim`, several for a mean over backbones; None where the cell has no name."""
        paper = self.papers.get(claim.paper)
        if paper is None:
            return None
        distil, protocols = claim.distill_backbone, paper.protocols
        if distil is not None and COMPARED in protocols.get(claim.metric, ""):
            if distil not in paper.backbones:
                return None
            protocols = {claim.metric: protocols[claim.metric].replace(COMPARED, paper.backbones[distil])}
            distil = None

        def ours(registry: Registry[Any], names: Mapping[str, str], name: str) -> str | None:
            spec = names.get(f"{name}@{claim.dataset}") or names.get(name)
            return None if spec is None else canonical(registry, self.overrides.swap(spec))

        method = ours(METHODS, paper.methods, claim.method)
        dataset, target = (ours(DATASETS, paper.datasets, name) for name in (claim.dataset, claim.target))
        protocol = ours(PROTOCOLS, protocols, claim.metric.partition("@")[0])
        distiller = None if distil is None else ours(BACKBONES, paper.backbones, distil)
        if None in (method, dataset, target, protocol) or (distil is not None and distiller is None):
            return None
        assert protocol is not None
        judges: list[str | None] = [None]
        if PROTOCOLS.constant(protocol.partition("[")[0], "uses_backbone"):
            others = [name for name in paper.backbones if name != claim.distill_backbone]
            asked = others if claim.eval_backbone == MEAN_OF_OTHERS else [claim.eval_backbone]
            judges = [ours(BACKBONES, paper.backbones, name) for name in asked]
            if None in judges or target != dataset:
                return None
        elif target != dataset:
            name, values = parse_spec(protocol)
            protocol = canonical(PROTOCOLS, write_spec(name, {**values, "target": str(target)}))
        return [self._key(claim.ipc, method, distiller, dataset, protocol, judge) for judge in judges]

    def key(self, record: dict[str, Any]) -> Key:
        """What tells the cell of `record` from others, as `wanted` writes it. Stand-ins are in the record already."""
        specs = ("method_spec", "distill_backbone", "dataset", "protocol_spec", "eval_backbone")
        return self._key(record["ipc"], *(record[name] for name in specs))

    def _key(self, ipc: int | None, *specs: str | None) -> Key:
        return (ipc, *(None if spec is None else identity(spec, self.location) for spec in specs))

    def notes(self, claims: Sequence[Claim]) -> list[str]:
        """What tables with these claims say below."""
        papers = dict.fromkeys(claim.paper for claim in claims)
        about = [self.papers[paper].note for paper in papers if paper in self.papers and self.papers[paper].note]
        return [*about, *self.overrides.notes()]
