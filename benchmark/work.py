"""The work of one cell: load, distil (or re-use the stored set), evaluate, and one record per evaluation."""

import contextlib
import dataclasses
import gc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..core.backbone import BACKBONES, Backbone
from ..core.bank import FeatureBank
from ..core.data import DATASETS, ImageData
from ..core.errors import Diverged, Unsupported, UserError
from ..core.method import METHODS, PROTOCOLS
from ..core.params import build
from ..core.run import Run
from ..core.sets import DistilledSet
from . import measure
from .determinism import seed_everything
from .environment import environment
from .identity import Cell, Evaluation, blank_record
from .measure import Meter, StepMeter
from .outcome import classify, is_out_of_memory, print_traceback
from .records import jsonable
from .team import team

Emit = Callable[..., None]  # emit(event, **facts)


class CellRun:
    """The work of one job."""

    def __init__(self, job: dict[str, Any], emit: Emit):
        self.job = job
        self.cell = Cell.from_json(job["cell"])
        self.out = Path(job["out"])
        self.overwrite = job["overwrite"]
        self.device = torch.device(self.cell.device)
        self.device_label = job["device_label"]
        self.log = f"logs/{self.cell.cell_hash}.log"
        self.emit = emit
        self.started = measure.now()
        self._held: tuple[str, Backbone] | None = None  # one backbone at a time

    def run(self) -> None:
        """Every evaluation ends as one record, whatever happens to it."""
        self.emit("environment", environment=environment(self.device))
        meter = self._meter()
        try:
            with meter.phase("load"):
                data = self._load_data()
            dset, distilled = self._obtain_set(data, meter)
        except Exception as error:
            for evaluation in self.cell.evaluations:
                self._emit_failure(evaluation, error)
            return
        for evaluation in self._ordered():
            self.emit("evaluation", config_hash=evaluation.config_hash, name=_title(evaluation))
            self._release_memory()
            try:
                record = self._evaluate(evaluation, data, dset, distilled, meter)
            except Exception as error:
                self._emit_failure(evaluation, error, distilled)
            else:
                self.emit("record", record=record)

    def _ordered(self) -> list[Evaluation]:
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

    def _backbone(self, spec: str, card: dict[str, Any], meter: Meter) -> Backbone:
        """The backbone of `spec` on the device; the one that was there before is freed first."""
        if self._held is None or self._held[0] != spec:
            self._held = None
            self._release_memory()
            with meter.phase("load"):
                backbone = BACKBONES.create(spec).load()
                if backbone.spec.sha256 != card["sha256"]:
                    raise UserError(f"the weights of backbone {spec} changed while the run was going on")
                self._held = (spec, backbone.to(self.device))
        return self._held[1]

    def _obtain_set(self, data: ImageData, meter: Meter) -> tuple[DistilledSet, dict[str, Any]]:
        """The cell's set, from disk if it is complete there, and the record fields that come with it."""
        folder = self.out / "sets" / self.cell.cell_hash
        if not self.overwrite and folder.exists():
            with contextlib.suppress(UserError), meter.phase("load"):  # a set that cannot be read is distilled again
                dset = DistilledSet.load(folder, data)
                if "measured" in dset.provenance:
                    then = {"distill_reused": True, "distill_environment": dset.provenance.get("environment")}
                    return dset, {**dset.provenance["measured"], **then}
        dset, measured = self._distill(data, meter)
        facts = self.cell.to_json()
        identity = {key: facts[key] for key in _PROVENANCE}
        provenance = {**dset.provenance, **identity, "environment": environment(self.device), "measured": measured}
        dset = dataclasses.replace(dset, provenance=jsonable(provenance))
        dset.save(folder)
        return dset, measured

    def _distill(self, data: ImageData, meter: Meter) -> tuple[DistilledSet, dict[str, Any]]:
        cell = self.cell
        method = build(METHODS.get(cell.method), cell.params, f"method {cell.method!r}")
        backbone = None
        if cell.distill_backbone is not None and cell.distill_backbone_spec is not None:
            backbone = self._backbone(cell.distill_backbone, cell.distill_backbone_spec, meter)
        bank = FeatureBank(phase=meter.phase, device=self.device)
        steps = StepMeter(meter, lambda facts: self.emit("step", **facts, peak=measure.peak_rss()))
        run = Run(seed=cell.distill_seed, device=self.device, bank=bank, progress=steps, phase=meter.phase)
        base = measure.current_rss()
        with team(self.job), meter.phase("distill"):
            seed_everything(cell.distill_seed)
            dset = method.distill(backbone, data, cell.ipc or 1, run=run)  # type: ignore[arg-type]
        dset = checked(dset)
        with meter.phase("warm"):
            read_through(bank)
        rate = steps.steps_per_second if steps.optimised else None  # picking images has no steps to speak of
        seconds = {name: meter.seconds.get(name, 0.0) for name in ("features", "distill")}
        return dset, {
            "n_images": len(dset),
            "seconds": {**seconds, "warmup": steps.warmup},
            "features_seconds_cold": bank.cold_seconds(),
            "features_seconds_warm": meter.seconds["warm"],
            "features_cached": not bank.misses,
            "steps": steps.step or None,
            "chunks": run.facts.get("chunks"),
            "steps_per_second": rate,
            "images_per_second": None if rate is None else rate * len(dset),
            "peak_bytes": meter.peaks["distill"].to_json(),
            "peak_bytes_by_phase": {
                name: meter.peaks[name].to_json() for name in ("features", "distill") if name in meter.peaks
            },
            "base_bytes": {"cpu_rss": base},
            "set_fingerprint": dset.fingerprint(),
        }

    def _evaluate(
        self, evaluation: Evaluation, data: ImageData, dset: DistilledSet, distilled: dict[str, Any], whole: Meter
    ) -> dict[str, Any]:
        """The record of one protocol on one backbone, with seconds and peaks of its own."""
        owner = f"protocol {evaluation.protocol!r}"
        protocol = build(PROTOCOLS.get(evaluation.protocol), evaluation.protocol_params, owner)
        if (reason := protocol.supports(dset)) is not None:
            raise Unsupported(reason)
        meter = self._meter()
        backbone = self._backbone(evaluation.eval_backbone, evaluation.eval_backbone_spec, meter)

        def phase(name: str):
            return meter.phase(f"evaluate_{name}")

        bank = FeatureBank(phase=phase, device=self.device)
        seed_everything(_PROBE_SEED)
        with meter.phase("evaluate"):
            run = Run(seed=_PROBE_SEED, device=self.device, bank=bank, phase=phase)
            found = protocol.evaluate(backbone, data, dset, run=run)
        record = self._record(evaluation, "ok", None, distilled)
        load = whole.seconds.get("load", 0.0) + meter.seconds.get("load", 0.0)
        seconds = {**meter.seconds, "load": load, "evaluate_features": meter.seconds.get("evaluate_features", 0.0)}
        peaks = {name: peak.to_json() for name, peak in meter.peaks.items()}
        loading = whole.peaks["load"].union(meter.peaks.get("load", measure.Peaks())).to_json()
        return {
            **record,
            "top1": found.top1,
            "top1_per_seed": list(found.top1_per_seed),
            "details": found.details,
            "seconds": {**record["seconds"], **seconds},
            "peak_bytes_by_phase": {**record["peak_bytes_by_phase"], **peaks, "load": loading},
        }

    def _record(self, evaluation: Evaluation, status: str, reason: str | None, distilled: dict[str, Any]) -> dict[str, Any]:
        return {
            **blank_record(self.cell, evaluation, status, reason),
            **distilled,
            "environment": environment(self.device),
            "device": self.device_label,
            "started": self.started,
            "finished": measure.now(),
        }

    def _emit_failure(self, evaluation: Evaluation, error: Exception, distilled: dict[str, Any] | None = None) -> None:
        status, reason = classify(error, self.log)
        print_traceback(error)
        if is_out_of_memory(error):
            self._held = None
        self.emit("record", record=self._record(evaluation, status, reason, distilled or {}))

    def _meter(self) -> Meter:
        return Meter(self.device, lambda name: self.emit("phase", name=name, peak=measure.peak_rss()))

    def _release_memory(self) -> None:
        gc.collect()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()


# Identity that a set carries with it, so that the folder explains itself without the records.
_PROVENANCE = (
    "method", "method_spec", "params", "distill_backbone", "distill_backbone_spec", "dataset", "dataset_fingerprint",
    "ipc", "distill_seed", "cell_hash",
)  # fmt: skip


def checked(dset: DistilledSet) -> DistilledSet:
    """The set on the CPU, without a graph. Raises `Diverged` for pixels or targets that are not finite."""
    if not isinstance(dset, DistilledSet):
        raise TypeError(f"distill must return a DistilledSet, not {type(dset).__name__}")
    tensors = {name: getattr(dset, name) for name in ("images", "labels", "targets", "indices")}
    tensors = {name: tensor.detach().cpu() for name, tensor in tensors.items() if isinstance(tensor, Tensor)}
    for name, tensor in tensors.items():
        if not tensor.isfinite().all():
            raise Diverged(f"the {name} of the distilled set are not finite")
    return dataclasses.replace(dset, **tensors)


def read_through(bank: FeatureBank) -> None:
    """Re-open every entry that the method asked for and touch all of it, as a run with a warm cache would."""
    for key in bank.keys:
        entry = bank.store.get(key)
        if entry is not None:
            for start in range(0, entry.shape[1], _ROWS):
                entry[:, start : start + _ROWS].sum()


# All sets meet the same probes (initial heads, views, batch orders), so that their difference is theirs alone.
_PROBE_SEED = 0

_ROWS = 8192  # images per read, so that a bank larger than memory passes through it


def _title(evaluation: Evaluation) -> str:
    return f"{evaluation.protocol_spec} on {evaluation.eval_backbone}"
