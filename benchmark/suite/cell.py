"""What makes two results the same: the content hashes that resume, sets on disk and records go by.

Cell: one distillation and its evaluations; what a cell process gets as its job, and what a record says about identity.
"""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from typing import Any

from ...core.precision import precision
from ...core.registries import BACKBONES, DATASETS, METHODS, PROTOCOLS
from ..records.records import SCHEMA, jsonable

# What of a backbone determines its features; its name and the source of the weights do not.
_FEATURE_FIELDS = ("sha256", "architecture", "input_size", "crop_pct", "pooling", "mean", "std")

# Parameters, by protocol, that are younger than the records of their protocol's version, with the value that says what was
# done before. At this value they are left out of the hash, so that those records still count.
_YOUNGER = {("linear-probe", "shared_views"): True}


@dataclass(frozen=True)
class PlannedEvaluation:
    """One protocol on one eval backbone: one record."""

    protocol: str  # name
    protocol_spec: str
    protocol_params: dict[str, Any]
    protocol_version: int
    eval_backbone: str | None  # spec string; None for protocols that use no backbone
    eval_backbone_spec: dict[str, Any] | None
    judging_fingerprint: str | None = None  # of the dataset or further backbone that judges; None: the set's own data alone
    config_hash: str = ""


@dataclass(frozen=True)
class Cell:
    """One distillation (method, backbone, data, budget, seed) with the evaluations of its set."""

    method: str  # name
    method_spec: str
    method_version: int
    params: dict[str, Any]  # resolved, defaults included
    distill_backbone: str | None  # spec string; None for methods that use no backbone
    distill_backbone_spec: dict[str, Any] | None
    dataset: str  # spec string
    dataset_name: str
    dataset_params: dict[str, Any]
    dataset_fingerprint: str
    num_classes: int
    ipc: int | None  # None for methods without a budget
    distill_seed: int
    device: str  # kind: cpu | cuda
    evaluations: tuple[PlannedEvaluation, ...] = ()
    unsupported: str | None = None  # why this combination cannot run
    cell_hash: str = ""

    def to_json(self) -> dict[str, Any]:
        return jsonable(asdict(self))

    @classmethod
    def from_json(cls, facts: dict[str, Any]) -> "Cell":
        evaluations = tuple(PlannedEvaluation(**evaluation) for evaluation in facts["evaluations"])
        return cls(**{**facts, "evaluations": evaluations})

    def only(self, evaluations: Iterable[PlannedEvaluation]) -> "Cell":
        """This cell with a part of its evaluations."""
        return replace(self, evaluations=tuple(evaluations))

    @property
    def label(self) -> str:
        """One line for people."""
        parts = [self.method_spec, self.distill_backbone, self.dataset, None if self.ipc is None else f"ipc {self.ipc}"]
        return " · ".join([*filter(None, parts), f"seed {self.distill_seed}"])


def hashed(cell: Cell) -> Cell:
    """The cell with its own hash and those of its evaluations."""
    facts = _cell_facts(cell)
    evaluations = (replace(e, config_hash=digest({**facts, **_evaluation_facts(e)})) for e in cell.evaluations)
    return replace(cell, cell_hash=digest(facts), evaluations=tuple(evaluations))


def digest(facts: Any) -> str:
    """sha256 of canonical JSON."""
    text = json.dumps(jsonable(facts), sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _cell_facts(cell: Cell) -> dict[str, Any]:
    return {
        "method": cell.method,
        "method_version": cell.method_version,
        "params": cell.params,
        "distill_backbone": backbone_facts(cell.distill_backbone_spec),
        "dataset": cell.dataset_fingerprint,
        "ipc": cell.ipc,
        "distill_seed": cell.distill_seed,
        "device": cell.device,
        "precision": precision(cell.device),
    }


def _evaluation_facts(evaluation: PlannedEvaluation) -> dict[str, Any]:
    name, params = evaluation.protocol, evaluation.protocol_params
    facts = {
        "protocol": name,
        "protocol_version": evaluation.protocol_version,
        "protocol_params": {k: v for k, v in params.items() if (name, k) not in _YOUNGER or v != _YOUNGER[name, k]},
        "eval_backbone": backbone_facts(evaluation.eval_backbone_spec),
    }
    other = evaluation.judging_fingerprint
    return facts if other is None else {**facts, "judging_data": other}


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
        **dict.fromkeys(_MEASURED),
        "top1_per_seed": [],
        "details": {},
        "parts": {},
        "seconds": {},
        "peak_bytes": dict.fromkeys(("gpu_allocated", "gpu_reserved", "cpu_rss")),
        "peak_bytes_by_phase": {},
        "base_bytes": {"cpu_rss": None},
        "environment": {},
        "precision": precision(cell.device),
        "distill_reused": False,
        "resumed_at": [],
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


_NOT_RECORDED = ("dataset_name", "dataset_params", "evaluations", "unsupported")
_MEASURED = (
    "n_images",
    "labels_of",
    "top1",
    "features_seconds_cold",
    "features_seconds_warm",
    "features_peak_bytes",
    "features_cached",
    "steps",
    "steps_per_second",
    "images_per_second",
    "chunks",
    "set_fingerprint",
    "checkpoint_note",
    "device_shared",
    "placement",
    "started",
    "finished",
)
