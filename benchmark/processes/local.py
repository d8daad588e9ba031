"""Cells on this machine: one at a time on the CPU, one per GPU."""

import queue
import threading
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace

from ...core.parallel import member
from ..machine.in_use import in_use_by_others, present
from ..machine.signals import Stop
from .attempts import run_cell
from .job import Event, Job
from .launcher import Host, Slot, slots

_TWO_RUNS = "another run of ddbench uses the same device; the seconds of both will be too long"
_POLL = 0.1  # seconds without an event, after which the caller may look around

Told = tuple[int, Event] | Exception  # an exception: a bug in the harness, raised in the thread of the caller


class LocalEngine:
    """An `Engine` whose threads wait for processes, one thread per slot."""

    def __init__(self, device: str):
        self.slots = slots(device)

    def run(self, jobs: Sequence[Job], stop: Stop) -> Iterator[tuple[int, Event] | None]:
        if not jobs:
            return
        together = member()[1]  # processes that work on one cell; cells then come one after the other
        devices = [s.environment["CUDA_VISIBLE_DEVICES"] for s in self.slots[: together if together > 1 else len(jobs)]]
        run_id = jobs[0].run_id
        if any(in_use_by_others(run_id, device) for device in devices):
            yield 0, Event("warning", reason=_TWO_RUNS)
        pending: queue.SimpleQueue[tuple[int, Job]] = queue.SimpleQueue()
        for item in enumerate(jobs):
            pending.put(item)
        told: queue.SimpleQueue[Told] = queue.SimpleQueue()
        places = self.slots[: 1 if together > 1 else len(jobs)]
        workers = [threading.Thread(target=_work, args=(pending, slot, told, stop)) for slot in places]
        with present(run_id, devices):
            for worker in workers:
                worker.start()
            try:
                while any(worker.is_alive() for worker in workers) or not told.empty():
                    yield _next(told)
            finally:  # no process outlives the run, whether it is complete, interrupted, or out of disk
                stop.now()
                for worker in workers:
                    worker.join()


def _next(told: "queue.SimpleQueue[Told]") -> tuple[int, Event] | None:
    try:
        found = told.get(timeout=_POLL)
    except queue.Empty:
        return None
    if isinstance(found, Exception):
        raise found
    return found


def _work(pending: "queue.SimpleQueue[tuple[int, Job]]", slot: Slot, told: "queue.SimpleQueue[Told]", stop: Stop) -> None:
    with suppress(queue.Empty), Host(slot.environment) as host:
        while not stop.asked.is_set():
            index, job = pending.get_nowait()
            try:
                run_cell(replace(job, device_label=slot.label), host, lambda event, i=index: told.put((i, event)), stop)
            except Exception as error:
                told.put(error)
                return
