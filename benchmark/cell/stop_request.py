"""A Ctrl-C in a cell's process, or the run's request to stop: obeyed at the next checkpoint of a loop, elsewhere at once."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass
class StopRequest:
    """Whether the cell was asked to stop; `can_wait` says whether a checkpoint will come."""

    asked: bool = False
    can_wait: Callable[[], bool] = lambda: False
    saved_at: int | None = None  # the step of the last checkpoint

    def handle(self, *_: Any) -> None:
        """The handler of SIGINT."""
        self.asked = True
        if not self.can_wait():
            raise KeyboardInterrupt
