"""Making the set of one cell: the method under the meter, from its checkpoint where there is one, and what was measured."""

import dataclasses
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from ...core.backbone import Backbone
from ...core.bank import FeatureBank
from ...core.data import ImageData
from ...core.errors import Diverged
from ...core.method import METHODS, Method
from ...core.parallel import member
from ...core.params import build
from ...core.run import NO_CHECKPOINT, Run, nothing_stored
from ...core.sets import DistilledSet, class_labels
from ..machine import measure
from ..machine.determinism import seed_everything
from ..machine.measure import Meter, Peaks, StepMeter
from ..records.set_facts import SetFacts
from ..suite.cell import Cell
from ..suite.plan import cell_like
from .cell_checkpoint import PHASES, CellCheckpoint, maker
from .stop_request import StopRequest

Stored = Callable[[Cell], DistilledSet | None]  # the finished set of a cell, where the run folder has it


class Distillation:
    """One distillation in this process. `facts` tells of it, also after a divergence."""

    def __init__(
        self,
        cell: Cell,
        meter: Meter,
        emit: Callable[..., None],
        checkpoints: Path,
        every: float,
        stop: StopRequest,
        stored: Stored = nothing_stored,
    ):
        self.cell, self.meter, self.stored = cell, meter, stored
        self.taken: list[tuple[Cell, SetFacts, dict[str, Any] | None]] = []  # sets of other cells, and where they were made
        self.method = build(METHODS.get(cell.method), cell.params, f"method {cell.method!r}")
        self.bank = FeatureBank(phase=meter.phase, device=torch.device(cell.device))
        self.steps = StepMeter(meter, lambda facts: emit("step", **facts, peak=measure.peak_rss()))
        self.checkpoint = CellCheckpoint(checkpoints, maker(cell, self.method), self.steps, every, stop)
        self.base = measure.current_rss()
        self.found: dict[str, Any] = {}  # what the run tells of itself

    def run(self, backbone: Backbone | None, data: ImageData) -> DistilledSet:
        """The finished set. Raises what the method raises."""
        cell, meter, alone = self.cell, self.meter, member()[1] == 1
        if not alone:  # the others would have to go on at the same step
            self.checkpoint.notes.append("no checkpoint: several processes distil this cell")
        run = Run(
            seed=cell.distill_seed,
            device=self.bank.device,
            bank=self.bank,
            progress=self.steps,
            phase=meter.phase,
            checkpoint=self.checkpoint if alone else NO_CHECKPOINT,
            facts=self.found,
            stored_set=self._take if alone else nothing_stored,  # all processes make it, or none
        )
        seed_everything(cell.distill_seed)
        with meter.phase("distill"):
            dset = self.method.distill(backbone, data, cell.ipc or 1, run=run)  # type: ignore[arg-type]
        dset = checked(dset)
        with meter.phase("warm"):
            read_through(self.bank)
        return dset

    def _take(self, method: Method) -> DistilledSet | None:
        """The set of another method, where it is there. What making it took counts as if it had been made here."""
        other = cell_like(self.cell, method)
        dset = self.stored(other)
        if dset is None:
            return None
        facts = SetFacts.from_json(dset.provenance["measured"])
        peaks = {name: Peaks(**facts.peak_bytes_by_phase[name]) for name in PHASES if name in facts.peak_bytes_by_phase}
        self.meter.include({name: facts.seconds[name] for name in peaks}, peaks)
        keys = dset.provenance.get("feature_keys", [])
        self.bank.keys += [key for key in keys if re.fullmatch("[0-9a-f]{64}", key) and key not in self.bank.keys]
        self.taken.append((other, facts, dset.provenance.get("environment")))
        return dset

    def facts(self, dset: DistilledSet | None) -> SetFacts:
        """How `dset` was made; None: there is no set."""
        return self._with_taken(self._own_facts(dset))

    def _with_taken(self, own: SetFacts) -> SetFacts:
        """Also of the sets that were taken: steps and rates are those of the loop that made them."""
        for cell, facts, made_in in self.taken:
            named = {"method_spec": cell.method_spec, "cell_hash": cell.cell_hash, "seconds": facts.seconds}
            own.taken_sets.append({**named, "environment": made_in})
            own.seconds["warmup"] += facts.seconds.get("warmup", 0.0)
            own.resumed_at = [*facts.resumed_at, *own.resumed_at]
            own.device_shared = own.device_shared or facts.device_shared
            if own.steps is None:
                for name in ("steps", "chunks", "steps_per_second", "images_per_second"):
                    setattr(own, name, getattr(facts, name))
        return own

    def _own_facts(self, dset: DistilledSet | None) -> SetFacts:
        meter, steps = self.meter, self.steps
        rate = steps.steps_per_second if steps.optimised else None  # picking images has no steps to speak of
        seconds = {name: meter.seconds.get(name, 0.0) for name in PHASES}
        return SetFacts(
            n_images=None if dset is None else len(dset),
            labels_of=None if dset is None else dset.labels_of,
            seconds={**seconds, "warmup": self.checkpoint.warmup},
            features_seconds_cold=self.bank.cold_seconds(),
            features_seconds_warm=meter.seconds.get("warm"),
            features_peak_bytes=self.bank.cold_peak_bytes(),
            features_cached="features" not in meter.seconds,
            steps=steps.step or None,
            chunks=self.found.get("chunks"),
            steps_per_second=rate,
            images_per_second=None if rate is None or dset is None else rate * len(dset),
            peak_bytes=meter.peaks["distill"].to_json(),
            peak_bytes_by_phase={name: meter.peaks[name].to_json() for name in PHASES if name in meter.peaks},
            base_bytes={"cpu_rss": self.base},
            set_fingerprint=None if dset is None else dset.fingerprint(),
            resumed_at=self.checkpoint.resumed_at,
            checkpoint_note="; ".join(self.checkpoint.notes) or None,
        )


def last_good(error: Diverged, data: ImageData, ipc: int | None) -> DistilledSet | None:
    """The set of the last good images, where a divergence tells of some, class by class."""
    if error.images is None or ipc is None or not error.images.isfinite().all():
        return None
    labels = class_labels(data.num_classes, ipc)
    return DistilledSet(error.images, labels, data.class_names) if len(error.images) == len(labels) else None


def checked(dset: DistilledSet) -> DistilledSet:
    """The set on the CPU, without a graph. Raises `Diverged` for pixels or targets that are not finite."""
    if not isinstance(dset, DistilledSet):
        raise TypeError(f"distill must return a DistilledSet, not {type(dset).__name__}")
    tensors: dict[str, Any] = {name: tensor.detach().cpu() for name, tensor in dset.tensors().items()}
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


_ROWS = 8192  # images per read, so that a bank larger than memory passes through it
