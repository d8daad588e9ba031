"""From a suite to cells: everything is resolved and checked before anything runs.

Unknown names, wrong parameters, missing weights and corrupt data end here with one `UserError`; combinations that make no
sense become cells with a reason, which the runner records as `unsupported` without starting a process.
"""

import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import torch

from ...core.backbone import BACKBONES, BackboneSpec
from ...core.data import DATASETS, ImageData
from ...core.errors import UserError
from ...core.method import METHODS, PROTOCOLS, Method, Protocol
from ...core.params import resolved, spec_string
from ..records.records import jsonable
from .cell import Cell, PlannedEvaluation, backbone_facts, digest, hashed
from .suite import Suite

FLOOR, CEILING = "random", "full"  # the controls


Distiller = TypeVar("Distiller")
Kin = tuple[Any, ...]


def plan(suite: Suite, *, device: str = "auto") -> list[Cell]:
    """The cells of a suite, each once: by dataset, seed, IPC, method, backbone. Raises `UserError` for what cannot run.

    Backbones are loaded one at a time to read their cards, datasets one at a time to read their fingerprints.
    """
    kind = device_kind(device)
    methods = [METHODS.create(spec) for spec in with_controls(suite)]
    protocols = [PROTOCOLS.create(spec) for spec in suite.protocols]
    names = suite.backbones
    if not names:
        raise UserError("no mini backbone is installed; name a backbone")
    known = cards([*names, *(suite.eval_backbones or [])])
    sources = [DATASETS.create(spec) for spec in suite.datasets]
    evaluations = _unique(evaluations_on(protocols, [known[name] for name in suite.eval_backbones or names]))
    distillers = _unique([known[name] for name in names])
    found: dict[str, Cell] = {}
    for source in sources:
        data = source.load()
        for seed, ipc, method, card in grid(suite, methods, distillers):
            seen = [e for e in evaluations if suite.transfer or card is None or e.eval_backbone in (None, card[0])]
            if not seen and card is not None:
                raise UserError(f"transfer: false evaluates sets of {card[0]} on it alone; name it in eval_backbones too")
            cell = _cell(method, card, source, data, ipc, seed, kind, seen)
            found.setdefault(cell.cell_hash, cell)
        del data
    return list(found.values())


def each_once(plans: Sequence[Sequence[Cell]], folders: Sequence[Path]) -> list[list[Cell]]:
    """The cells that each of several plans runs: one that several plans have for the same folder is distilled by the first of
    them alone, and evaluated there for all."""
    wanted: dict[tuple[Path, str], dict[str, PlannedEvaluation]] = {}
    for cells, out in zip(plans, folders, strict=True):
        for cell in cells:
            wanted.setdefault((out, cell.cell_hash), {}).update({e.config_hash: e for e in cell.evaluations})
    return [
        [cell.only(found.values()) for cell in cells if (found := wanted.pop((out, cell.cell_hash), None))]
        for cells, out in zip(plans, folders, strict=True)
    ]


def device_kind(device: str) -> str:
    """`cpu` or `cuda` from `auto`, `cpu` or `cuda`. Raises `UserError` for CUDA where there is none."""
    if device not in ("auto", "cpu", "cuda"):
        raise UserError(f"unknown device {device!r}: use auto, cpu or cuda")
    available = torch.cuda.is_available()
    if device == "cuda" and not available:
        raise UserError("device cuda: torch finds no CUDA device here; use --device cpu")
    return "cuda" if available and device != "cpu" else "cpu"


def with_controls(suite: Suite) -> list[str]:
    """The methods with the floor first and the ceiling last, unless they are there or not wanted."""
    names = {METHODS.create(spec).name for spec in suite.methods}
    floor = [FLOOR] * (suite.controls and FLOOR not in names)
    ceiling = [CEILING] * (suite.controls and CEILING not in names)
    return [*floor, *suite.methods, *ceiling]


def cards(specs: Iterable[str]) -> dict[str, tuple[str, BackboneSpec]]:
    """Canonical spec string and card of each backbone, by the spec that was asked for."""
    sources = {spec: BACKBONES.create(spec) for spec in dict.fromkeys(specs)}
    return {spec: (spec_string(source), source.load().spec) for spec, source in sources.items()}


def grid(
    suite: Suite, methods: Sequence[Method], distillers: Sequence[Distiller]
) -> Iterator[tuple[int, int | None, Method, Distiller | None]]:
    """Seed, IPC, method and distil backbone of each cell; axes that a method does not use are not walked."""
    for seed in suite.seeds:
        for ipc in suite.ipc:
            for method in methods:
                first_seed, first_ipc = seed == suite.seeds[0], ipc == suite.ipc[0]
                if (getattr(method, "deterministic", False) and not first_seed) or (not method.uses_ipc and not first_ipc):
                    continue
                for card in distillers if method.uses_backbone else [None]:
                    yield seed, ipc if method.uses_ipc else None, method, card


def evaluations_on(protocols: Sequence[Protocol], judges: Sequence[tuple[str, BackboneSpec]]) -> list[PlannedEvaluation]:
    """Every protocol on every eval backbone; protocols that use none stand once, at the end."""
    asked = [(p.uses_backbone, evaluation_of(p)) for p in protocols]  # once each: what a protocol names is loaded for it
    bound = [
        replace(evaluation, eval_backbone=name, eval_backbone_spec=jsonable(card.to_json()))
        for name, card in judges
        for uses_backbone, evaluation in asked
        if uses_backbone
    ]
    return [*bound, *(evaluation for uses_backbone, evaluation in asked if not uses_backbone)]


def evaluation_of(protocol: Protocol) -> PlannedEvaluation:
    """One protocol, on no backbone yet."""
    return PlannedEvaluation(
        protocol.name,
        spec_string(protocol),
        jsonable(resolved(protocol)),
        protocol.version,
        eval_backbone=None,
        eval_backbone_spec=None,
        judging_fingerprint=_judging_fingerprint(protocol),
    )


def _judging_fingerprint(protocol: Protocol) -> str | None:
    """Of the dataset or the further backbone that the protocol names, if it names one."""
    if (data := protocol.judging_data) is not None:
        return DATASETS.create(data).load().fingerprint
    if (backbone := protocol.judging_backbone) is not None:
        (_, card) = cards([backbone])[backbone]
        return digest(backbone_facts(card.to_json()))
    return None


def _cell(
    method: Method,
    card: tuple[str, BackboneSpec] | None,
    source: Any,
    data: ImageData,
    ipc: int | None,
    seed: int,
    device: str,
    evaluations: Sequence[PlannedEvaluation],
) -> Cell:
    name, spec = card or (None, None)
    cell = Cell(
        method=method.name,
        method_spec=spec_string(method),
        method_version=method.version_at(ipc or 1),
        params=jsonable(resolved(method)),
        distill_backbone=name,
        distill_backbone_spec=None if spec is None else jsonable(spec.to_json()),
        dataset=spec_string(source),
        dataset_name=source.name,
        dataset_params=jsonable(resolved(source)),
        dataset_fingerprint=data.fingerprint,
        num_classes=data.num_classes,
        ipc=ipc,
        distill_seed=seed,
        device=device,
        evaluations=tuple(evaluations),
        unsupported=method.supports(spec, data, ipc or 1),
    )
    return hashed(cell)


def _unique(items: Iterable[Any]) -> list[Any]:
    """Items in order, equal ones once (they need not be hashable)."""
    return list({repr(item): item for item in items}.values())


@dataclass(frozen=True)
class PlanRow:
    """One line of a dry run."""

    cell: Cell
    done: int  # evaluations that are recorded
    todo: int
    state: str  # done | to do | partly done | unsupported
    seconds: float | None  # estimate for what is to do; None: unknown


def describe(cells: Sequence[Cell], done: set[str], records: Sequence[dict[str, Any]] = ()) -> list[PlanRow]:
    """What a run of `cells` would do; seconds come from earlier `records` of the same method, backbone, data and IPC."""
    rows, kin = [], _by_kin(records)
    for cell in cells:
        todo = [e for e in cell.evaluations if e.config_hash not in done]
        finished = len(cell.evaluations) - len(todo)
        state = "done" if not todo else "unsupported" if cell.unsupported else "partly done" if finished else "to do"
        seconds = 0.0 if not todo or cell.unsupported else _estimate(cell, todo, kin)
        rows.append(PlanRow(cell, finished, len(todo), state, seconds))
    return rows


def _by_kin(records: Sequence[dict[str, Any]]) -> dict[Kin, list[dict[str, Any]]]:
    """The finished records, grouped by what tells whose seconds foretell whose."""
    found: dict[Kin, list[dict[str, Any]]] = {}
    for record in records:
        if record["status"] == "ok":
            found.setdefault(_kin(record), []).append(record)
    return found


def _estimate(cell: Cell, todo: Sequence[PlannedEvaluation], records: Mapping[Kin, list[dict[str, Any]]]) -> float | None:
    """Seconds of distilling (unless the set is there already) and of the evaluations; None if there is no like of one."""
    alike = records.get(_kin(cell.to_json()))
    if not alike:
        return None
    there = any(r["cell_hash"] == cell.cell_hash for r in alike)
    parts = [_mean(alike, "load"), *([] if there else [_mean(alike, "features"), _mean(alike, "distill")])]
    for evaluation in todo:
        same = [r for r in alike if r["protocol_spec"] == evaluation.protocol_spec]
        if not same:
            return None
        parts += [_mean(same, "evaluate"), _mean(same, "evaluate_features")]
    return sum(parts)


def _kin(facts: dict[str, Any]) -> Kin:
    """What records must share for one's seconds to foretell the other's; any GPU of the machine will do."""
    same = (facts[key] for key in ("method_spec", "distill_backbone", "ipc", "dataset"))
    return (*same, facts["device"].partition(":")[0])


def _mean(records: Sequence[dict[str, Any]], phase: str) -> float:
    return statistics.fmean(r["seconds"].get(phase) or 0.0 for r in records)
