"""Records of sets that exist already: ours from a run, or made elsewhere. They are judged as those of a run are.

The set is put into the run folder under the hash of its cell; the runner finds it there, and evaluates it in fresh processes.
"""

import dataclasses
from pathlib import Path
from typing import Any

from torch import Tensor

from ...core.backbone import BACKBONES
from ...core.data import DATASETS, ImageData
from ...core.errors import UserError
from ...core.method import PROTOCOLS
from ...core.params import resolved, spec_string
from ...core.sets import DistilledSet
from ..records.records import jsonable
from ..records.run_folder import prepare
from ..records.set_facts import SetFacts
from ..suite.cell import Cell
from ..suite.plan import canonical, evaluations_on, located
from .fit import check_classes, other_data

METHOD = "external"  # of sets that no record of ours describes


def given_cell(
    dset: DistilledSet, name: str, dataset: str, protocols: list[str], backbones: list[str], device: str
) -> tuple[Cell, DistilledSet]:
    """The cell of a set and the set as the runner stores it. `name`: what a set that is not ours is called in tables.

    A set from a run on the same data keeps its method, parameters, distil backbone and seed, as long as its content is the one
    that was measured there; any other is what its content is.
    """
    source = DATASETS.create(dataset)
    data = source.load()
    judges = [PROTOCOLS.create(spec) for spec in protocols]
    check_classes(dset, data, judges)
    elsewhere = other_data(dset, data)
    if elsewhere and isinstance(dset.images, Tensor):
        dset = dataclasses.replace(dset, indices=None)  # they are places in the data that the set was made from
    facts = _ours(dset) if not elsewhere and _is_what_it_says(dset) else _foreign(dset, name)
    cell = Cell(
        **facts,
        dataset=spec_string(source),
        dataset_name=source.name,
        dataset_params=jsonable(resolved(source)),
        evaluations=tuple(evaluations_on(judges, canonical(BACKBONES, backbones))),
    )
    (cell,) = located([cell], device, made=True)
    measured = SetFacts(n_images=len(dset), set_fingerprint=dset.fingerprint()).to_json()
    known = {"measured": dset.provenance["measured"]} if _recorded_content(dset) == dset.fingerprint() else {}
    provenance = {**dset.provenance, "measured": measured, **known, "cell_hash": cell.cell_hash}
    return cell, dataclasses.replace(dset, provenance=provenance)


def store(cell: Cell, dset: DistilledSet, out: Path, data: ImageData) -> None:
    """Put the set where the runner looks for it. Raises `UserError` if `out` cannot be written, or has another set there."""
    prepare(out)
    folder = cell.set_in(out)
    if not folder.exists():
        dset.save(folder)
    elif DistilledSet.load(folder, data).fingerprint() != dset.fingerprint():
        raise UserError(f"{folder} holds another set of the same name and making; choose another --out")


_OURS = {"method", "method_spec", "params", "distill_backbone", "distill_backbone_spec", "ipc", "distill_seed"}


def _is_what_it_says(dset: DistilledSet) -> bool:
    """Whether a set says what made it, and has the content that this made, where that is on record."""
    return set(dset.provenance) >= _OURS and _recorded_content(dset) in (None, dset.fingerprint())


def _recorded_content(dset: DistilledSet) -> str | None:
    measured = dset.provenance.get("measured")
    return measured.get("set_fingerprint") if isinstance(measured, dict) else None


def _ours(dset: DistilledSet) -> dict[str, Any]:
    """The identity that a set of a run has with it, and its content where none is on record to compare it with.

    Sets of older versions do not say by which code they were made.
    """
    later = {"method_code": None, "named_fingerprints": {}}
    known = {key: dset.provenance.get(key, default) for key, default in later.items()}
    if _recorded_content(dset) is None:
        known["named_fingerprints"] = {**known["named_fingerprints"], "content": dset.fingerprint()}
    return {**{key: dset.provenance[key] for key in _OURS}, **known}


def _foreign(dset: DistilledSet, name: str) -> dict[str, Any]:
    """The identity of a set whose making nobody here knows: its content."""
    counts = set(dset.labels.bincount(minlength=dset.num_classes).tolist()) if dset.labels is not None else set()
    return {
        "method": METHOD,
        "method_spec": f"{METHOD}[file={name}]",
        "method_code": None,
        "params": {"set_fingerprint": dset.fingerprint()},
        "distill_backbone": None,
        "ipc": counts.pop() if len(counts) == 1 else None,
        "distill_seed": 0,
    }
