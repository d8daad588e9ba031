"""The work of one cell: load, distil (or re-use the stored set), evaluate, and one record per evaluation."""

import dataclasses
import gc
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from ...core.backbone import BACKBONES, Backbone
from ...core.bank import FeatureBank
from ...core.data import DATASETS, ImageData
from ...core.disk import settle, writing
from ...core.errors import DiskError, Diverged, Unsupported, UserError
from ...core.method import METHODS, PROTOCOLS, Protocol
from ...core.params import build
from ...core.run import Run
from ...core.sets import DistilledSet
from ..machine import curve, measure
from ..machine.determinism import seed_everything
from ..machine.environment import environment
from ..machine.in_use import in_use_by_others
from ..machine.measure import Meter
from ..machine.outcome import classify, is_out_of_memory, print_traceback
from ..processes.job import Job
from ..processes.several_gpus import team
from ..records.records import jsonable
from ..records.set_facts import SetFacts
from ..suite.cell import Cell, PlannedEvaluation, blank_record
from ..suite.code import code_of
from .caveats import caveats, method_of
from .cell_checkpoint import FOLDER
from .distillation import Distillation, last_good
from .stop_request import StopRequest

Emit = Callable[..., None]  # emit(kind, **facts of an `Event`)
_log = logging.getLogger(__name__)


class CellRun:
    """The work of one job."""

    def __init__(self, job: Job, emit: Emit, stop: StopRequest | None = None):
        self.job, self.cell, self.out = job, job.cell, job.out
        self.device = torch.device(self.cell.device)
        self.log = f"logs/{self.cell.cell_hash}.log"
        self.emit = emit
        self.stop = stop or StopRequest()
        self.started = measure.now()
        self.shared: bool | None = None  # whether another run was seen on the device
        self.set_facts = SetFacts()
        self._held: tuple[str, Backbone] | None = None  # one backbone at a time

    def run(self) -> None:
        """Every evaluation ends as one record, whatever happens to it."""
        self.emit("environment", environment=environment(self.device))
        meter = self._meter()
        try:
            with meter.phase("load"):
                data = self._load_data()
            dset = self._obtain_set(data, meter)
        except DiskError as error:
            self.emit("abort", reason=str(error))
            return
        except Exception as error:
            for evaluation in self.cell.evaluations:
                self._emit_failure(evaluation, error)
            return
        for evaluation in self._ordered():
            self.emit("evaluation", config_hash=evaluation.config_hash, name=_title(evaluation))
            self._release_memory()
            try:
                record = self._evaluate(evaluation, data, dset, meter)
            except Exception as error:
                self._emit_failure(evaluation, error)
            else:
                self.emit("record", record=record)

    def _ordered(self) -> list[PlannedEvaluation]:
        """Grouped by backbone, the one that is loaded already first."""
        held = self._held[0] if self._held else None
        names = dict.fromkeys([held, *(e.eval_backbone for e in self.cell.evaluations)])
        return sorted(self.cell.evaluations, key=lambda e: list(names).index(e.eval_backbone))

    def _load_data(self) -> ImageData:
        name = self.cell.dataset_name
        data = build(DATASETS.get(name), self.cell.dataset_params, f"dataset {name!r}").load()
        if data.fingerprint != self.cell.dataset_fingerprint:
            raise UserError(f"dataset {self.cell.dataset} changed while the run was going on")
        return data

    def _judging_data(self, protocol: Protocol, evaluation: PlannedEvaluation, data: ImageData, meter: Meter) -> ImageData:
        """The dataset that judges: `data`, which the set was made from, unless the protocol names another."""
        if protocol.judging_data is None:
            return data
        with meter.phase("load"):
            judging = DATASETS.create(protocol.judging_data).load()
        if judging.fingerprint != evaluation.judging_fingerprint:
            raise UserError(f"dataset {protocol.judging_data} changed while the run was going on")
        return judging

    def _backbone(self, spec: str | None, card: dict[str, Any] | None, meter: Meter) -> Backbone | None:
        """The backbone of `spec` on the device, None for none; the one that was there before is freed first."""
        if spec is None or card is None:
            return None
        if self._held is None or self._held[0] != spec:
            self._held = None
            self._release_memory()
            with meter.phase("load"):
                backbone = BACKBONES.create(spec).load()
                if backbone.spec.sha256 != card["sha256"]:
                    raise UserError(f"the weights of backbone {spec} changed while the run was going on")
                self._held = (spec, backbone.to(self.device))
        return self._held[1]

    def _obtain_set(self, data: ImageData, meter: Meter) -> DistilledSet:
        """The cell's set, from disk if it is complete there; `self.set_facts` then tells of it."""
        cell, folder = self.cell, self.cell.set_in(self.out)
        checkpoints = self.out / FOLDER / cell.cell_hash
        if self.job.overwrite:
            shutil.rmtree(checkpoints, ignore_errors=True)
        elif (dset := self._stored(cell, data, meter)) is not None:
            self.set_facts = SetFacts.from_json(dset.provenance["measured"])
            self.set_facts.distill_reused = True
            self.set_facts.distill_environment = dset.provenance.get("environment")
            shutil.rmtree(checkpoints, ignore_errors=True)  # of a process that died between storing the set and this
            return dset
        backbone = self._backbone(cell.distill_backbone, cell.distill_backbone_spec, meter)
        self._check_code()

        def stored(other: Cell) -> DistilledSet | None:
            return None if self.job.overwrite else self._stored(other, data, meter)

        work = Distillation(cell, meter, self.emit, checkpoints, self.job.checkpoint_every, self.stop, stored)
        try:
            with team(self.job):
                dset = work.run(backbone, data)
        except Diverged as error:
            raise Diverged(f"{error}{self._keep_last_good(error, work, folder, data, meter)}") from error
        self.set_facts = work.facts(dset)
        self.set_facts.device_shared = self.set_facts.device_shared or self.shared
        dset = self._save(dset, folder, {"measured": self.set_facts.to_json(), "feature_keys": work.bank.keys})
        with writing(folder / curve.FILE):
            work.steps.curve.write(folder / curve.FILE)
        shutil.rmtree(checkpoints, ignore_errors=True)
        return dset

    def _stored(self, cell: Cell, data: ImageData, meter: Meter) -> DistilledSet | None:
        """The finished set of a cell in the run folder; one that cannot be read, or that diverged, is distilled again."""
        folder = cell.set_in(self.out)
        settle(folder.parent)  # what killed writers left; one may have been replacing this very set
        if not folder.exists():
            return None
        try:
            with meter.phase("load"):
                dset = DistilledSet.load(folder, data)
        except UserError as error:
            _log.warning("%s; it is distilled again", error)
            return None
        ours = dset.provenance.get("cell_hash") == cell.cell_hash
        return dset if ours and "measured" in dset.provenance else None

    def _keep_last_good(self, error: Diverged, work: Distillation, folder: Path, data: ImageData, meter: Meter) -> str:
        """Store what a divergence leaves, unless a finished set is there; says where, for the reason of the record."""
        dset = last_good(error, data, self.cell.ipc)
        if dset is None or self._stored(self.cell, data, meter) is not None:
            self.set_facts = work.facts(None)
            return ""
        self.set_facts = work.facts(dset)
        self._save(dset, folder, {"diverged": str(error)})
        return f"; the last good images are in sets/{folder.name}"

    def _check_code(self) -> None:
        """A plugin's file is read anew by every process: what was planned must still be what is there."""
        method = self.cell.method
        if self.cell.method_code != code_of(build(METHODS.get(method), self.cell.params, f"method {method!r}")):
            raise UserError(f"the code of method {method!r} changed while the run was going on; run the same command again")

    def _save(self, dset: DistilledSet, folder: Path, facts: dict[str, Any]) -> DistilledSet:
        """Store the set with its provenance, and return it so: protocols may read where it comes from."""
        provenance = {**dset.provenance, **self.cell.identity(), "environment": environment(self.device), **facts}
        kept = dataclasses.replace(dset, provenance=jsonable(provenance))
        kept.save(folder)
        return kept

    def _evaluate(self, evaluation: PlannedEvaluation, data: ImageData, dset: DistilledSet, whole: Meter) -> dict[str, Any]:
        """The record of one protocol on one backbone, with seconds and peaks of its own."""
        owner = f"protocol {evaluation.protocol!r}"
        protocol = build(PROTOCOLS.get(evaluation.protocol), evaluation.protocol_params, owner)
        if evaluation.protocol_code != code_of(protocol):
            raise UserError(f"the code of {owner} changed while the run was going on; run the same command again")
        if (reason := protocol.supports(dset)) is not None:
            raise Unsupported(reason)
        meter = self._meter()
        backbone = self._backbone(evaluation.eval_backbone, evaluation.eval_backbone_spec, meter)
        judging = self._judging_data(protocol, evaluation, data, meter)

        def phase(name: str):
            return meter.phase(f"evaluate_{name}")

        bank = FeatureBank(phase=phase, device=self.device)
        seed_everything(_PROBE_SEED)
        with meter.phase("evaluate"):
            run = Run(seed=_PROBE_SEED, device=self.device, bank=bank, phase=phase)
            found = protocol.evaluate(backbone, judging, dset, run=run)  # type: ignore[arg-type]
        record = self._record(evaluation, "ok", None)
        load = whole.seconds.get("load", 0.0) + meter.seconds.get("load", 0.0)
        features = {
            "evaluate_features": meter.seconds.get("evaluate_features", 0.0),
            "evaluate_features_cold": bank.cold_seconds(),
        }
        seconds = {**meter.seconds, "load": load, **features}
        peaks = {name: peak.to_json() for name, peak in meter.peaks.items()}
        loading = whole.peaks["load"].union(meter.peaks.get("load", measure.Peaks())).to_json()
        return {
            **record,
            "top1": found.top1,
            "top1_per_seed": list(found.top1_per_seed),
            "details": found.details,
            "notes": [*caveats(method_of(self.cell), protocol, judging, dset), *found.notes],
            "parts": {name: list(values) for name, values in found.parts.items()},
            "seconds": {**record["seconds"], **seconds},
            "peak_bytes_by_phase": {**record["peak_bytes_by_phase"], **peaks, "load": loading},
        }

    def _record(self, evaluation: PlannedEvaluation, status: str, reason: str | None) -> dict[str, Any]:
        return {
            **blank_record(self.cell, evaluation, status, reason),
            **self.set_facts.to_json(),
            "environment": environment(self.device),
            "device": self.job.device_label,
            "device_shared": self.set_facts.device_shared or self.shared,
            "started": self.started,
            "finished": measure.now(),
        }

    def _emit_failure(self, evaluation: PlannedEvaluation, error: Exception) -> None:
        status, reason = classify(error, self.log)
        print_traceback(error)
        if is_out_of_memory(error):
            self._held = None
        self.emit("record", record=self._record(evaluation, status, reason))

    def _meter(self) -> Meter:
        return Meter(self.device, self._on_phase)

    def _on_phase(self, name: str) -> None:
        if not self.shared:
            self.shared = in_use_by_others(self.job.run_id)
        self.emit("phase", name=name, peak=measure.peak_rss())

    def _release_memory(self) -> None:
        gc.collect()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()


# All sets meet the same probes (initial heads, views, batch orders), so that their difference is theirs alone.
_PROBE_SEED = 0


def _title(evaluation: PlannedEvaluation) -> str:
    return evaluation.protocol_spec + (f" on {evaluation.eval_backbone}" if evaluation.eval_backbone else "")
