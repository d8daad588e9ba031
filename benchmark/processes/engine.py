"""The seam between a run and where its cells run: on the devices of this machine (local.py) or on a cluster (on_ray.py)."""

from collections.abc import Iterator, Sequence
from typing import Protocol

from ..machine.signals import Stop
from .job import Event, Job


class Engine(Protocol):
    """Runs cells, each in a fresh process and never more than its device holds, and writes no records."""

    def run(self, jobs: Sequence[Job], stop: Stop) -> Iterator[tuple[int, Event] | None]:
        """Events as they come, with the place of their job; None now and then where there are none.

        Every job tells `started`, one `record` per evaluation, and `finished`, whatever happens to it, each once; jobs that a
        stop cut short, or kept from starting, tell less. No process is left when the iterator ends or is closed.
        """
        ...
