"""Cells: one distillation and the evaluations of its set, and what makes two results the same.

A cell is made in two stages. From the specs of a suite it knows everything that can be said without loading anything
(`benchmark.suite.plan.outline`); `located` adds the fingerprints of its data and backbones and with them the content hashes
that resume, sets on disk and records go by.

A record (schema 1, one flat JSON object) holds the fields of its `Cell`, of its `PlannedEvaluation`, of the set (`SetFacts`),
and what the evaluation found (`_FOUND`). Fields to read names by:

    method_spec, distill_backbone, dataset, protocol_spec, eval_backbone    canonical specs
    display                 {spec: name} of those that the suite gave a name of its own; read `record.get("display")`
    method_code, protocol_code    16 hex digits of the code (benchmark.suite.code); older records have `method_version` instead
    set_hash                of the cell; `records.run_folder.set_folder(OUT, record)` is where the set lies
    data_notes              what the dataset says about itself; `notes` and details.mean_recall: what the evaluation says
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from ...core.precision import precision
from ...core.registries import BACKBONES, DATASETS, METHODS, PROTOCOLS
from ..records.records import SCHEMA, jsonable
from ..records.run_folder import set_folder
from ..records.set_facts import SetFacts

# What of a backbone determines its features; its name and the source of the weights do not.
_FEATURE_FIELDS = ("sha256", "architecture", "input_size", "crop_pct", "pooling", "mean", "std")


@dataclass(frozen=True)
class PlannedEvaluation:
    """One protocol on one eval backbone: one record."""

    protocol: str  # name
    protocol_spec: str
    protocol_params: dict[str, Any]
    protocol_version: int  # raised where numbers of older code must not stand in one table with those of newer code
    protocol_code: str
    eval_backbone: str | None  # spec string; None for protocols that use no backbone
    eval_backbone_spec: dict[str, Any] | None = None  # its card
    judging_fingerprint: str | None = None  # of the dataset or further backbone that judges; None: the set's own data alone
    config_hash: str = ""


@dataclass(frozen=True)
class Cell:
    """One distillation (method, backbone, data, budget, seed) with the evaluations of its set."""

    method: str  # name
    method_spec: str
    method_code: str | None  # None: made by older code, or elsewhere
    params: dict[str, Any]  # resolved, defaults included
    distill_backbone: str | None  # spec string; None for methods that use no backbone
    dataset: str  # spec string
    dataset_name: str
    dataset_params: dict[str, Any]
    ipc: int | None  # None for methods without a budget
    distill_seed: int
    evaluations: tuple[PlannedEvaluation, ...] = ()
    display: dict[str, str] = field(default_factory=dict)  # the suite's own names, by spec

    # from here on: the second stage
    distill_backbone_spec: dict[str, Any] | None = None  # its card
    dataset_fingerprint: str | None = None
    num_classes: int | None = None
    named_fingerprints: dict[str, str] = field(default_factory=dict)  # of backbones and data that parameters name, by spec
    class_order: str | None = None  # how the classes came to their numbers
    data_notes: list[str] = field(default_factory=list)
    device: str = "cpu"  # kind: cpu | cuda
    unsupported: str | None = None  # why this combination cannot run
    cell_hash: str = ""

    def to_json(self) -> dict[str, Any]:
        return jsonable(asdict(self))

    @classmethod
    def from_json(cls, facts: dict[str, Any]) -> "Cell":
        evaluations = tuple(PlannedEvaluation(**evaluation) for evaluation in facts["evaluations"])
        return cls(**{**facts, "evaluations": evaluations})

    def identity(self) -> dict[str, Any]:
        """What made the set, as it lies in the set's provenance."""
        facts = self.to_json()
        return {name: facts[name] for name in _PROVENANCE}

    def only(self, evaluations: Iterable[PlannedEvaluation]) -> "Cell":
        """This cell with a part of its evaluations."""
        return replace(self, evaluations=tuple(evaluations))

    @property
    def key(self) -> tuple[Any, ...]:
        """What tells one distillation from another before anything is loaded."""
        return (self.method_spec, self.distill_backbone, self.dataset, self.ipc, self.distill_seed)

    def evaluation_key(self, evaluation: PlannedEvaluation) -> tuple[Any, ...]:
        """What tells one evaluation from another, as `record_key` reads it from a record."""
        return (*self.key, evaluation.protocol_spec, evaluation.eval_backbone)

    @property
    def label(self) -> str:
        """One line for people."""
        names = (self.display.get(spec, spec) for spec in (self.method_spec, self.distill_backbone, self.dataset) if spec)
        budget = [] if self.ipc is None else [f"ipc {self.ipc}"]
        return " · ".join([*names, *budget, f"seed {self.distill_seed}"])

    def set_in(self, out: Path) -> Path:
        """The folder of its set in a run folder."""
        names = ("method", "distill_backbone", "ipc", "distill_seed", "cell_hash")
        return set_folder(out, {name: getattr(self, name) for name in names})


def hashed(cell: Cell, texts: Iterable[str] | None = None) -> Cell:
    """The cell with its own hash and those of its evaluations, whose `evaluation_text` may be given: many cells share it."""
    own = digest(_cell_facts(cell))
    pairs = zip(cell.evaluations, texts or map(evaluation_text, cell.evaluations), strict=True)
    evaluations = (replace(e, config_hash=_sha256(f'["{own}",{text}]')) for e, text in pairs)  # canonical JSON of the list
    return replace(cell, cell_hash=own, evaluations=tuple(evaluations))


def digest(facts: Any) -> str:
    """sha256 of canonical JSON."""
    return _sha256(_canonical(facts))


def _canonical(facts: Any) -> str:
    return json.dumps(jsonable(facts), sort_keys=True, separators=(",", ":"), allow_nan=False)


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _cell_facts(cell: Cell) -> dict[str, Any]:
    return {
        "method": cell.method,
        "method_code": cell.method_code,
        "params": cell.params,
        "distill_backbone": backbone_facts(cell.distill_backbone_spec),
        "dataset": cell.dataset_fingerprint,
        "ipc": cell.ipc,
        "distill_seed": cell.distill_seed,
        "device": cell.device,
        "precision": precision(cell.device),
        **({"named": cell.named_fingerprints} if cell.named_fingerprints else {}),
    }


def evaluation_text(evaluation: PlannedEvaluation) -> str:
    """What makes two evaluations of one set the same, as canonical JSON."""
    return _canonical(
        {
            "protocol": evaluation.protocol,
            "protocol_code": evaluation.protocol_code,
            "protocol_params": evaluation.protocol_params,
            "eval_backbone": backbone_facts(evaluation.eval_backbone_spec),
            "judging_data": evaluation.judging_fingerprint,
        }
    )


def backbone_facts(spec: dict[str, Any] | None) -> dict[str, Any] | None:
    """What of a backbone's card determines its features."""
    return None if spec is None else {name: spec[name] for name in _FEATURE_FIELDS}


def blank_record(cell: Cell, evaluation: PlannedEvaluation, status: str, reason: str | None = None) -> dict[str, Any]:
    """A record with everything that identifies it, and nothing measured yet."""
    facts = {key: value for key, value in cell.to_json().items() if key not in _NOT_RECORDED}
    return {
        "schema": SCHEMA,
        "status": status,
        "reason": reason if reason is None else " ".join(reason.split()),
        **facts,
        **jsonable(asdict(evaluation)),
        "set_hash": cell.cell_hash,
        **SetFacts().to_json(),
        **dict.fromkeys(_FOUND),
        "top1_per_seed": [],
        "details": {},
        "parts": {},
        "notes": [],
        "environment": {},
        "precision": precision(cell.device),
        "plugin": packages(cell, evaluation),
    }


def packages(cell: Cell, evaluation: PlannedEvaluation) -> dict[str, str]:
    """Name and version of the package of each plugin that takes part and is not built in, by kind."""
    specs = (
        (METHODS, cell.method_spec),
        (BACKBONES, cell.distill_backbone),
        (DATASETS, cell.dataset),
        (PROTOCOLS, evaluation.protocol_spec),
        (BACKBONES, evaluation.eval_backbone),
    )
    found = ((registry, registry.distribution(spec.partition("[")[0])) for registry, spec in specs if spec)
    return {registry.kind: " ".join(package) for registry, package in found if package}


def record_key(record: Mapping[str, Any]) -> tuple[Any, ...]:
    """What tells one evaluation from another by its specs alone, see `Cell.evaluation_key`."""
    names = ("method_spec", "distill_backbone", "dataset", "ipc", "distill_seed", "protocol_spec", "eval_backbone")
    return tuple(record[name] for name in names)


_PROVENANCE = (
    "method", "method_spec", "method_code", "params", "distill_backbone", "distill_backbone_spec", "dataset",
    "dataset_fingerprint", "named_fingerprints", "ipc", "distill_seed", "cell_hash",
)  # fmt: skip
_NOT_RECORDED = ("dataset_name", "dataset_params", "evaluations", "unsupported")
_FOUND = ("top1", "placement", "started", "finished")
