"""From a suite to cells, in two stages: `outline` from specs alone, `plan` with everything loaded and checked.

Unknown names, wrong parameters, missing weights and corrupt data end here with one `UserError`; combinations that make no
sense become cells with a reason, which the runner records as `unsupported` without starting a process.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import cache
from itertools import groupby
from pathlib import Path
from typing import Any

import torch

from ...core.backbone import BACKBONES, BackboneSpec
from ...core.data import DATASETS
from ...core.errors import UserError
from ...core.method import METHODS, PROTOCOLS, Method, Protocol
from ...core.params import build, resolved, spec_string
from ...core.registry import LEAVE_ONE_OUT, Registry, held_specs, spec_parameters
from ...core.sets import set_digest
from ..records.records import jsonable
from .cell import Cell, PlannedEvaluation, backbone_facts, digest, evaluation_text, hashed
from .code import code_of
from .suite import Suite

FLOOR, CEILING = "random", "full"  # the controls


def plan(suite: Suite, *, device: str = "auto") -> list[Cell]:
    """The cells of a suite, each once: by dataset, seed, IPC, method, backbone, and of each dataset those last whose methods
    take sets of others. Raises `UserError` for what cannot run.

    Backbones are loaded one at a time to read their cards, datasets one at a time to read their fingerprints.
    """
    kind, cells = device_kind(device), outline(suite)
    check_named(suite, cells)
    return located(cells, kind)


def check_named(suite: Suite, cells: Sequence[Cell]) -> None:
    """Load the backbones that a suite names and no cell uses: what is wrong with them is said all the same."""
    used = {name for cell in cells for name in (cell.distill_backbone, *(e.eval_backbone for e in cell.evaluations))}
    for spec in canonical(BACKBONES, [*suite.backbones, *(suite.eval_backbones or [])]):
        if spec not in used:
            BACKBONES.create(spec).load()


def outline(suite: Suite) -> list[Cell]:
    """The cells of a suite in the order of `plan`; nothing is loaded, so that a suite can be looked at before its data is here.

    Raises `UserError` for unknown names and wrong parameters.
    """
    methods = [METHODS.create(spec) for spec in with_controls(suite)]
    protocols = [PROTOCOLS.create(spec) for spec in suite.protocols]
    if not suite.backbones:
        raise UserError("no mini backbone is installed; name a backbone")
    distillers = canonical(BACKBONES, suite.backbones)
    planned = evaluations_on(protocols, canonical(BACKBONES, suite.eval_backbones or suite.backbones))
    display = suite.display_names()
    known = cache(lambda spec: (method := METHODS.create(spec), code_of(method), jsonable(resolved(method))))
    late = cache(lambda spec: depth(known(spec)[0]))
    found: dict[tuple, Cell] = {}
    for dataset in canonical(DATASETS, suite.datasets):
        source = DATASETS.create(dataset)
        dataset_params = jsonable(resolved(source))
        walked = list(grid(suite, methods, distillers))
        for seed, ipc, spec, distiller in sorted(walked, key=lambda place: late(place[2])):  # sets that others take come first
            seen = [e for e in planned if suite.transfer or distiller is None or e.eval_backbone in (None, distiller)]
            if not seen and distiller is not None:
                raise UserError(f"transfer: false evaluates sets of {distiller} on it alone; name it in eval_backbones too")
            method, code, params = known(spec)
            mentioned = {spec, distiller, dataset, *(e.eval_backbone for e in seen)} if display else set()
            cell = Cell(
                method=method.name,
                method_spec=spec,
                method_code=code,
                params=params,
                distill_backbone=distiller,
                dataset=dataset,
                dataset_name=source.name,
                dataset_params=dataset_params,
                ipc=ipc,
                distill_seed=seed,
                evaluations=tuple(seen),
                display={name: display[name] for name in mentioned & display.keys()},
            )
            found.setdefault(cell.key, cell)
    return list(found.values())


def located(cells: Iterable[Cell], device: str, *, made: bool = False) -> list[Cell]:
    """The cells with what their data and backbones are: fingerprints, cards, hashes; equal ones once. `made`: their sets are
    there already, so that nobody asks whether their methods could make them."""
    found: dict[str, Cell] = {}
    judged: dict[int, tuple[PlannedEvaluation, PlannedEvaluation, str]] = {}  # cells share their evaluations: by identity
    spec_of, judging = cache(_spec_of), cache(judging_fingerprint)
    named = cache(lambda spec: named_fingerprints(METHODS.create(spec)))
    card = cache(lambda backbone: None if backbone is None else jsonable(spec_of(backbone).to_json()))  # type: ignore[union-attr]
    for _, group in groupby(cells, key=lambda cell: (cell.dataset_name, cell.dataset_params)):
        first, *rest = group
        data = build(DATASETS.get(first.dataset_name), first.dataset_params, f"dataset {first.dataset_name!r}").load()
        fit = cache(lambda spec, backbone, ipc, data=data: METHODS.create(spec).supports(spec_of(backbone), data, ipc or 1))
        for cell in (first, *rest):
            for e in cell.evaluations:
                if id(e) not in judged:
                    whole_e = replace(e, eval_backbone_spec=card(e.eval_backbone), judging_fingerprint=judging(e.protocol_spec))
                    judged[id(e)] = e, whole_e, evaluation_text(whole_e)
            evaluations = [judged[id(e)] for e in cell.evaluations]
            whole = replace(
                cell,
                evaluations=tuple(each for _, each, _ in evaluations),
                distill_backbone_spec=cell.distill_backbone_spec or card(cell.distill_backbone),
                dataset_fingerprint=data.fingerprint,
                num_classes=data.num_classes,
                named_fingerprints=cell.named_fingerprints if made else named(cell.method_spec),
                class_order=data.class_order,
                data_notes=list(data.notes),
                device=device,
                unsupported=None if made else fit(cell.method_spec, cell.distill_backbone, cell.ipc),
            )
            whole = hashed(whole, [text for _, _, text in evaluations])
            found.setdefault(whole.cell_hash, whole)
        del data, fit  # one dataset at a time
    return list(found.values())


def _spec_of(backbone: str | None) -> BackboneSpec | None:
    return None if backbone is None else BACKBONES.create(backbone).load().spec


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


def grid(
    suite: Suite, methods: Sequence[Method], distillers: Sequence[str]
) -> Iterator[tuple[int, int | None, str, str | None]]:
    """Seed, IPC, method and distil backbone of each cell, by specs; axes that a method does not use are not walked."""
    spec_for = cache(lambda k, distiller: spec_string(leaving_one_out(methods[k], distiller, distillers)))
    for seed in suite.seeds:
        for ipc in suite.ipc:
            for k, method in enumerate(methods):
                first_seed, first_ipc = seed == suite.seeds[0], ipc == suite.ipc[0]
                if (getattr(method, "deterministic", False) and not first_seed) or (not method.uses_ipc and not first_ipc):
                    continue
                for distiller in distillers if method.uses_backbone else [None]:
                    yield seed, ipc if method.uses_ipc else None, spec_for(k, distiller), distiller


def leaving_one_out(method: Method, distiller: str | None, distillers: Sequence[str]) -> Method:
    """The method with `leave-one-out` replaced: the backbones that follow the distiller in the suite, around its end, but the
    last of them, so that each backbone of the suite is left out of one set. Raises `UserError` for fewer than three."""
    several = [key for key, holds in spec_parameters(type(method)).items() if holds.several]
    keys = [key for key in several if getattr(method, key) == LEAVE_ONE_OUT]
    if keys and len(distillers) < 3:
        raise UserError(f"{keys[0]}=leave-one-out needs three distil backbones or more; there are {len(distillers)}")
    if not keys or distiller is None:
        return method
    at = distillers.index(distiller)
    others = [*distillers[at + 1 :], *distillers[:at]]
    return replace(method, **dict.fromkeys(keys, "+".join(others[:-1])))  # type: ignore[type-var]


def evaluations_on(protocols: Sequence[Protocol], judges: Sequence[str]) -> list[PlannedEvaluation]:
    """Every protocol on every eval backbone (canonical specs), each once; protocols that use none stand once, at the end."""
    bound = {(spec_string(p), judge): (p, judge) for judge in judges for p in protocols if p.uses_backbone}
    unbound = {(spec_string(p), None): (p, None) for p in protocols if not p.uses_backbone}
    return [_planned(protocol, judge) for protocol, judge in {**bound, **unbound}.values()]


def _planned(protocol: Protocol, judge: str | None) -> PlannedEvaluation:
    params = jsonable(resolved(protocol))
    return PlannedEvaluation(protocol.name, spec_string(protocol), params, protocol.version, code_of(protocol), judge)


def judging_fingerprint(protocol: str) -> str | None:
    """Of the dataset or the further backbone that the protocol names, if it names one."""
    judge = PROTOCOLS.create(protocol)
    if (data := judge.judging_data) is not None:
        return DATASETS.create(data).load().fingerprint
    if (backbone := judge.judging_backbone) is not None:
        return _features_digest(backbone)
    return None


def _features_digest(backbone: str) -> str:
    return digest(backbone_facts(jsonable(BACKBONES.create(backbone).load().spec.to_json())))


def named_fingerprints(method: Method) -> dict[str, str]:
    """Of the backbones, datasets and sets that a method's parameters name, also inside the methods that they name, by spec or
    folder."""
    found = {folder: set_digest(Path(folder)) for folder in method.given_sets}
    for registry, spec in held_specs(method):
        if registry is METHODS:
            found |= named_fingerprints(METHODS.create(spec))
        elif registry is BACKBONES:
            found[spec] = _features_digest(spec)
        elif registry is DATASETS:
            found[spec] = DATASETS.create(spec).load().fingerprint
    return found


def cell_like(cell: Cell, method: Method) -> Cell:
    """The cell of another method with the backbone, data, IPC, seed and device of a cell that is located, without
    evaluations."""
    backbone = (cell.distill_backbone, cell.distill_backbone_spec) if method.uses_backbone else (None, None)
    spec = spec_string(method)
    return hashed(
        replace(
            cell,
            method=method.name,
            method_spec=spec,
            method_code=code_of(method),
            params=jsonable(resolved(method)),
            distill_backbone=backbone[0],
            distill_backbone_spec=backbone[1],
            ipc=cell.ipc if method.uses_ipc else None,
            named_fingerprints=named_fingerprints(method),
            evaluations=(),
        )
    )


def depth(method: Method) -> int:
    """How many methods stand in a row, each named by a parameter of the one before: 0 for most, 1 for `neighbors[of=lgm]`."""
    named = [METHODS.create(spec) for registry, spec in held_specs(method) if registry is METHODS]
    return 1 + max(map(depth, named)) if named else 0


def canonical(registry: Registry[Any], specs: Iterable[str]) -> list[str]:
    """Specs as records write them, each once."""
    return list(dict.fromkeys(spec_string(registry.create(spec)) for spec in specs))
