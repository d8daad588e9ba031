"""Checkpoints of a cell on disk, so that a killed, timed-out or interrupted cell goes on where it was.

OUT/checkpoints/HASH/loop0.safetensors   the state of the method's first loop, as of its last save

The header of a file says what made it. A file that cannot be read, or that another code, library, processor or number of
threads made, could not lead to the bits of a run in one go: it is left aside, with a note in the record.
"""

import hashlib
import inspect
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from ...core.checkpoint import Checkpoint, State, stream_names
from ...core.disk import read_tensors, save_tensors
from ...core.errors import DiskError
from ...core.method import Method
from ..machine.environment import cpu_model, gpu
from ..machine.measure import Peaks, StepMeter, clock
from ..suite.cell import Cell
from .stop_request import StopRequest

FOLDER = "checkpoints"
PHASES = ("features", "distill", "checkpoint")  # what making a set consists of; these add up over its processes
_SHARE = 20  # at least so many times the seconds of a save lie between two, which bounds their cost to 5 %
_CODE = ("core", "methods", "backbones", "datasets")  # the folders whose code can move a bit of a distilled set


def maker(cell: Cell, method: Method) -> dict[str, str]:
    """What must be the same for the same bits, in words."""
    device = torch.device(cell.device)
    return {
        "configuration": cell.cell_hash,
        "code": code_digest(Path(__file__).resolve().parents[2], Path(inspect.getfile(type(method)))),
        "version of torch": torch.__version__,
        "number of threads": str(torch.get_num_threads()),
        "processor": str(gpu(device)["gpu"] or cpu_model()),
    }


def code_digest(root: Path, plugin: Path) -> str:
    """sha256 of the sources under `root` that can move a result, and of the file of the method."""
    digest = hashlib.sha256()
    for file in [*sorted(file for folder in _CODE for file in (root / folder).rglob("*.py")), plugin]:
        digest.update(file.name.encode() + file.read_bytes())
    return digest.hexdigest()


class CellCheckpoint(Checkpoint):
    """Saves every `every` seconds, or less often where saving is slow; seconds and peaks go on in `steps` after a load."""

    def __init__(self, folder: Path, made_by: dict[str, str], steps: StepMeter, every: float, stop: StopRequest | None = None):
        self.folder, self.made_by, self.steps, self.every = folder, made_by, steps, every
        self.stop = stop or StopRequest()
        self.stop.can_wait = self._in_a_loop
        self.resumed_at: list[int] = []  # steps at which this set's distillation went on
        self.notes: list[str] = []
        self._loop = -1
        self._earlier: dict[str, float] = {}  # seconds of earlier processes that are counted already
        self._warmup_before = 0.0
        self._last, self._cost = clock(), 0.0

    def load(self, streams: Sequence[str]) -> tuple[int, State] | None:
        self._loop += 1
        self._last = clock()
        try:
            if not self._file.exists():
                return None
            facts, state = _read(self._file)
            others = [name for name, value in self.made_by.items() if facts["made_by"].get(name) != value]
            if others or set(stream_names(state)) != set(streams):
                return self._ignore(f"was made with another {' and '.join(others) or 'set of random streams'}")
            self._include(facts["measured"])
            self.resumed_at = [*facts["resumed_at"], facts["step"]]
        except (OSError, ValueError, LookupError, TypeError, AttributeError):
            return self._ignore("cannot be read, it may be truncated or damaged")
        return facts["step"], state

    def due(self) -> bool:
        return self.stop.asked or clock() - self._last >= max(self.every, _SHARE * self._cost)

    def save(self, step: int, state: State) -> None:
        """A disk that refuses costs the checkpoint, not the run. Raises `KeyboardInterrupt` where a stop waited for this."""
        begin = clock()
        with self.steps.meter.phase("checkpoint"):
            facts = {
                "made_by": self.made_by,
                "step": step,
                "resumed_at": self.resumed_at,
                "measured": self._measured(),
            }
            try:
                save_tensors(self._file, state, {"facts": json.dumps(facts)})
                self.stop.saved_at = step
            except DiskError as error:
                self._note(f"no checkpoint: {error}")
        self._last = clock()
        self._cost = self._last - begin
        if self.stop.asked:
            raise KeyboardInterrupt

    @property
    def warmup(self) -> float:
        """Seconds up to the end of the first step, summed over the processes that worked on the set."""
        return self._warmup_before + (self.steps.warmup or 0.0)

    def _in_a_loop(self) -> bool:
        """Whether a loop that saves has steps to go."""
        return self._loop >= 0 and not self.steps.step == self.steps.steps > 0

    @property
    def _file(self) -> Path:
        return self.folder / f"loop{self._loop}.safetensors"

    def _measured(self) -> dict[str, Any]:
        """Seconds and peaks of this set so far, over all processes."""
        seconds, peaks = self.steps.meter.so_far()
        phases = [name for name in PHASES if name in seconds]
        return {
            "seconds": {name: seconds[name] for name in phases},
            "peaks": {name: peaks[name].to_json() for name in phases},
            "warmup": self.warmup,
            "curve": self.steps.curve.state(),
        }

    def _include(self, earlier: dict[str, Any]) -> None:
        """Count them here; a later loop's hold those of the loops before it."""
        seconds = {name: value - self._earlier.get(name, 0.0) for name, value in earlier["seconds"].items()}
        self.steps.meter.include(seconds, {name: Peaks(**peak) for name, peak in earlier["peaks"].items()})
        self._earlier, self._warmup_before = earlier["seconds"], earlier["warmup"]
        if "curve" in earlier:  # a checkpoint of an older release has none
            self.steps.curve.restore(earlier["curve"])

    def _ignore(self, reason: str) -> None:
        self._note(f"checkpoint {self._file.name} {reason}; started over")

    def _note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)


def _read(file: Path) -> tuple[dict[str, Any], State]:
    """The facts of a checkpoint and its tensors. Raises `ValueError` and the like for one that is not as it was written."""
    tensors, metadata = read_tensors(file)
    facts = json.loads(metadata["facts"])
    if type(facts["step"]) is not int or facts["step"] < 1:
        raise ValueError(f"step {facts['step']!r}")
    return facts, tensors
