"""The loss of a distillation over its steps, thinned to a small file beside the set: curve.csv with columns step and loss."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

FILE = "curve.csv"
_POINTS = 1000  # kept at most; beyond, every second one goes


@dataclass
class Curve:
    """Losses by step, evenly thinned. Steps of a method's further loops count on from those before."""

    points: list[tuple[int, float]] = field(default_factory=list)
    stride: int = 1
    offset: int = 0  # steps of the loops before
    last: tuple[int, float] | None = None  # the latest, kept whether or not it is on the stride

    def add(self, step: int, loss: float | None) -> None:
        """Note the loss of `step` (from 1); a step that is not later than the one before begins a new loop."""
        if loss is None:
            return
        if self.last is not None and step + self.offset <= self.last[0]:
            self.offset = self.last[0]
        self.last = step + self.offset, float(loss)
        if self.last[0] % self.stride == 0 or not self.points:
            self.points.append(self.last)
            if len(self.points) > _POINTS:
                self.stride *= 2
                self.points = [p for i, p in enumerate(self.points) if i == 0 or p[0] % self.stride == 0]

    def state(self) -> dict[str, Any]:
        """For a checkpoint, JSON-ready."""
        return {"points": self.points, "stride": self.stride, "offset": self.offset, "last": self.last}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on after what `state` told."""
        self.points = [(int(step), float(loss)) for step, loss in state["points"]]
        self.stride, self.offset = int(state["stride"]), int(state["offset"])
        self.last = None if state["last"] is None else (int(state["last"][0]), float(state["last"][1]))

    def write(self, file: Path) -> None:
        """Nothing for a method without a loss."""
        if self.last is None:
            return
        points = self.points if self.points[-1] == self.last else [*self.points, self.last]
        file.write_text("step,loss\n" + "".join(f"{step},{loss:.6g}\n" for step, loss in points), encoding="utf-8")
