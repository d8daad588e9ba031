"""The Python interface: distil, evaluate and load, without a run folder or records.

import ddbench
dset = ddbench.distill("clpdd", backbone="mini_vit_simclr", data="digits", ipc=1, seed=0, tau=0.2)
print(ddbench.evaluate(dset, backbone="mini_resnet_dino", data="digits").top1)
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from ..core.backbone import BACKBONES, Backbone
from ..core.bank import FeatureBank
from ..core.data import DATASETS, ImageData
from ..core.errors import Unsupported, UserError
from ..core.method import METHODS, PROTOCOLS, Evaluation, Method, Protocol
from ..core.params import resolved, spec_string
from ..core.registry import Registry
from ..core.run import Progress, Run
from ..core.sets import DistilledSet
from .cell.caveats import caveats
from .cell.distillation import checked
from .foreign.fit import check_classes, other_data
from .foreign.read import read_external
from .machine.environment import environment
from .records.records import jsonable
from .records.set_facts import SetFacts
from .suite.cell import Cell, hashed
from .suite.code import code_of, definitions
from .suite.plan import named_fingerprints


def distill(
    method: str | Method,
    *,
    backbone: str | Backbone | None,
    data: str | ImageData,
    ipc: int = 1,
    seed: int = 0,
    device: str | torch.device = "auto",
    progress: Progress | None = None,
    **params: Any,
) -> DistilledSet:
    """Distil `data` with `method` to `ipc` images per class.

    `method`, `backbone` and `data` are specs such as `clpdd[tau=0.1]`, or objects; `params` are parameters of a method
    given by name. `backbone` may be None for methods that use none. `progress(step, steps, loss)` is called after each step.
    `device` `auto` is CUDA where there is one; the set is on the CPU. What its provenance says is what the command line stores,
    its content's fingerprint included: a set that is altered afterwards is no longer that of the method.

    Raises `UserError` for bad input, `Unsupported` for a combination that makes no sense, and `Diverged`, which carries the
    last good images, for a non-finite loss.
    """
    if ipc < 1:
        raise UserError(f"ipc={ipc} is not valid: at least one image per class is due")
    method = _method(method, params)
    images, device = load_data(data), _device(device)
    encoder = _backbone(backbone, device) if method.uses_backbone else None
    if (reason := method.supports(encoder.spec if encoder else None, images, ipc)) is not None:
        raise Unsupported(reason)
    cell = hashed(
        Cell(
            method=method.name,
            method_spec=spec_string(method),
            method_code=code_of(method) if definitions(type(method).__module__) else None,  # none for a class of a notebook
            params=jsonable(resolved(method)),
            distill_backbone=_called(BACKBONES, backbone) if encoder else None,
            dataset=_called(DATASETS, data),
            dataset_name=images.name,
            dataset_params={},
            ipc=ipc if method.uses_ipc else None,
            distill_seed=seed,
            distill_backbone_spec=jsonable(encoder.spec.to_json()) if encoder else None,
            dataset_fingerprint=images.fingerprint,
            named_fingerprints=named_fingerprints(method),
            device=device.type,
        )
    )
    dset = checked(method.distill(encoder, images, ipc, run=_run(seed, device, progress)))  # type: ignore[arg-type]
    facts = SetFacts(n_images=len(dset), labels_of=dset.labels_of, set_fingerprint=dset.fingerprint())
    made = {**cell.identity(), "environment": jsonable(environment(device)), "measured": facts.to_json()}
    return replace(dset, provenance={**dset.provenance, **made})


def evaluate(
    dset: DistilledSet,
    *,
    backbone: str | Backbone | None,
    data: str | ImageData,
    protocol: str | Protocol = "ridge-probe",
    seed: int = 0,
    device: str | torch.device = "auto",
) -> Evaluation:
    """Train a probe on `dset` through `backbone` and test it on the test split of `data`.

    `backbone` may be None for protocols that use none. A protocol that names its own dataset (`ssl-pretrain[target=SPEC]`)
    is judged by that one. `notes` of the result are what the number has to carry: what was noticed about the data, the set and
    the protocol. Raises `UserError` for bad input and `Unsupported` where the protocol cannot judge the set.
    """
    judge = PROTOCOLS.create(protocol) if isinstance(protocol, str) else protocol
    images, device = load_data(judge.judging_data or data), _device(device)
    check_classes(dset, images, [judge])
    if (reason := judge.supports(dset)) is not None:
        raise Unsupported(reason)
    if other_data(dset, images) and isinstance(dset.images, torch.Tensor):
        dset = replace(dset, indices=None)  # they are places in the data that the set was made from
    encoder = _backbone(backbone, device) if judge.uses_backbone else None
    found = judge.evaluate(encoder, images, dset, run=_run(seed, device))  # type: ignore[arg-type]
    of_data = [f"data: {note}" for note in images.notes]
    return replace(found, notes=(*of_data, *caveats(None, judge, images, dset), *found.notes))


def load_set(path: str | Path, data: str | ImageData | None = None) -> DistilledSet:
    """Read a set folder, or with `data` a set made elsewhere: an image folder, .npz, .safetensors or torch file.

    A set folder needs `data` only where it refers to real images (method `full`). What was decided in reading another set is
    in its `provenance["notes"]`. Raises `UserError` for what is not a complete set.
    """
    path, images = Path(path), None if data is None else load_data(data)
    if images is not None and path.exists() and not (path / "set.json").exists():
        return read_external(path, images)[0]
    return DistilledSet.load(path, images)


def load_data(data: str | ImageData) -> ImageData:
    """The dataset of a spec; an `ImageData` passes unchanged."""
    return DATASETS.create(data).load() if isinstance(data, str) else data


def _called(registry: Registry[Any], what: Any) -> str:
    """The canonical spec, or the name of an object."""
    if isinstance(what, str):
        return registry.canonical(what)
    return what.spec.name if isinstance(what, Backbone) else what.name


def _device(device: str | torch.device) -> torch.device:
    """`auto` is CUDA where there is one, as on the command line."""
    return torch.device(device if device != "auto" else "cuda" if torch.cuda.is_available() else "cpu")


def _method(method: str | Method, params: dict[str, Any]) -> Method:
    if isinstance(method, str):
        return METHODS.create(method, **params)
    if params:
        raise UserError(f"parameters {', '.join(params)} go with a method's name; this one is built already")
    return method


def _backbone(backbone: str | Backbone | None, device: torch.device) -> Backbone:
    if backbone is None:
        raise UserError("this needs a backbone; name one, for instance 'mini_vit_simclr'")
    loaded = BACKBONES.create(backbone).load() if isinstance(backbone, str) else backbone
    return loaded.to(device)


def _run(seed: int, device: torch.device, progress: Progress | None = None) -> Run:
    run = Run(seed=seed, device=device, bank=FeatureBank(device=device))
    return run if progress is None else replace(run, progress=progress)
