"""Cells as tasks of a Ray cluster: an `Engine` (docs/cluster.md).

    ddbench run --suite grid.yaml --launcher ray --address auto

A task starts its cell in a fresh process on its node, with the code that local runs use, and streams its events to the driver,
which alone writes records. Where the nodes see the run folder, sets, logs and checkpoints go straight there, and a cell that
was lost with its node goes on elsewhere from its checkpoint; where they do not, they come back through the object store.
Ray tries nothing again by itself: the driver does, knows which records it holds, and so stores each once.
"""

import collections
import contextlib
import os
import queue
import secrets
import shutil
import signal
import tempfile
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ...core.disk import replacing, writing
from ...core.errors import UserError
from ...core.method import METHODS
from ...core.params import build
from ...core.registry import held_specs
from ..machine.in_use import present
from ..machine.measure import clock
from ..machine.signals import SIGNALS, Stop
from ..suite.cell import Cell, PlannedEvaluation
from ..suite.plan import cell_like
from .attempts import failures, run_cell
from .job import Event, Job
from .launcher import Host, environment_of
from .several_gpus import leading

ATTEMPTS = 3  # of a cell whose worker or node is lost
_AT_ONCE = 64  # tasks that Ray is given before the first of them has ended, so that it may ask for more nodes
_POLL = 0.2  # seconds without an event, after which the caller may look around
_SENT = ("DDBENCH_PRECISION", "DDBENCH_CHUNK", "DDBENCH_COMPILE")  # variables that move results; paths are the nodes' own
_ASK = 0.5  # seconds between two questions of a task whether it should stop


@dataclass
class _Task:
    """A cell on its way to its records."""

    index: int
    job: Job
    left: dict[str, PlannedEvaluation]  # evaluations without a record
    lost: list[str] = field(default_factory=list)  # why earlier attempts ended
    placement: dict[str, Any] = field(default_factory=dict)
    made: bool = False  # whether its set is stored

    def due(self) -> Job:
        """What the next attempt has to do; after a loss it goes on with what the one before has stored, but not with what was
        there before this run where that is to be made anew."""
        return replace(self.job, cell=self.job.cell.only(self.left.values()), overwrite=self.job.overwrite and not self.made)


class RayEngine:
    """Cells on a cluster. Raises `UserError` where Ray is missing, or the cluster has not what a cell needs."""

    def __init__(
        self,
        device: str,
        address: str | None = None,
        gpus_per_cell: int = 1,
        cells_per_gpu: int = 1,
        shared: bool | None = None,
    ):
        """`shared`: whether nodes see the run folder; None: they find out."""
        try:
            import ray
        except ImportError:
            raise UserError("--launcher ray needs the package ray; pip install 'ddbench[ray]'") from None
        if gpus_per_cell > 1 and cells_per_gpu > 1:
            raise UserError("--gpus-per-cell and --cells-per-gpu exclude each other; give one of them")
        self._ray = ray
        self.device, self.address, self.shared = device, address, shared
        self.gpus_per_cell, self.cells_per_gpu = gpus_per_cell, cells_per_gpu

    def run(self, jobs: Sequence[Job], stop: Stop) -> Iterator[tuple[int, Event] | None]:
        if not jobs:
            return
        mark = jobs[0].out / f".ray-{secrets.token_hex(8)}"  # nodes that see it share the run folder
        with self._connected(jobs[0].out), writing(mark):
            mark.touch()
            try:
                yield from self._follow(jobs, "" if self.shared is False else str(mark), stop)
            finally:
                mark.unlink(missing_ok=True)

    def _follow(self, jobs: Sequence[Job], mark: str, stop: Stop) -> Iterator[tuple[int, Event] | None]:
        ray, flag = self._ray, self._stop_flag()
        work = ray.remote(**self._needs(jobs[0].threads), max_retries=0, num_returns="streaming")(_work)
        sent = {name: os.environ.get(name) for name in _SENT}
        settings = {"mark": mark, "nproc": self.gpus_per_cell, "shared_device": self.cells_per_gpu > 1, "variables": sent}
        waiting = collections.deque(_Task(i, j, {e.config_hash: e for e in j.cell.evaluations}) for i, j in enumerate(jobs))
        flying: dict[Any, _Task] = {}
        told = False
        try:
            while (waiting and not stop.asked.is_set()) or flying:
                while waiting and len(flying) < _AT_ONCE and not stop.asked.is_set():
                    task = waiting.popleft()
                    files = None if mark else _needed(task.job)
                    flying[work.remote(task.due().to_json(), files, settings, flag)] = task
                if stop.at_once.is_set():
                    return
                if stop.asked.is_set() and not told:
                    told = True
                    flag.ask.remote()
                ready, _ = ray.wait(list(flying), timeout=_POLL)
                if not ready:
                    yield None
                for stream in ready:
                    yield from self._take(stream, flying, waiting)
        finally:
            for stream in flying:  # its cell ends with the worker
                with contextlib.suppress(ray.exceptions.RayError, ValueError):
                    ray.cancel(stream, force=True)

    def _take(self, stream: Any, flying: dict[Any, _Task], waiting: "collections.deque[_Task]") -> Iterator[tuple[int, Event]]:
        """What one task tells next, or its end."""
        ray, task = self._ray, flying[stream]
        try:
            kind, told = ray.get(next(stream))
        except StopIteration:
            del flying[stream]
            return
        except ray.exceptions.RayTaskError as error:  # a bug in the harness
            raise RuntimeError(f"a task of the harness failed: {error}") from error
        except ray.exceptions.RayError as error:
            del flying[stream]
            task.lost.append(f"{type(error).__name__} on node {task.placement.get('node', 'unknown')}")
            if not task.left:  # only its end is lost
                yield task.index, Event("finished", seconds=0.0)
            elif len(task.lost) < ATTEMPTS:
                yield task.index, Event("warning", reason=f"a cell was lost ({task.lost[-1]}) and starts again elsewhere")
                waiting.appendleft(task)
            else:
                yield from self._give_up(task)
            return
        if kind == "placed":
            task.placement = {**told, "cells_per_gpu": self.cells_per_gpu, "attempt": len(task.lost) + 1, "lost": task.lost}
        elif kind == "files":
            _store(told, task.job.out)
        else:
            yield from self._event(task, Event.parse(told))

    def _event(self, task: _Task, event: Event) -> Iterator[tuple[int, Event]]:
        task.made = task.made or event.kind == "evaluation"
        if event.kind == "record":
            record = self._placed(task, event.record or {})
            if task.left.pop(record["config_hash"], None) is None:
                return
            event = replace(event, record=record)
        yield task.index, event

    def _placed(self, task: _Task, record: dict[str, Any]) -> dict[str, Any]:
        record = {**record, "placement": task.placement}
        if self.cells_per_gpu > 1:
            record["device_shared"] = True
        if record["status"] == "failed":  # what this node lacks, another may have
            record["reason"] = f"{record['reason']} (on node {task.placement.get('node', 'unknown')})"
        return record

    def _give_up(self, task: _Task) -> Iterator[tuple[int, Event]]:
        reason = f"lost {len(task.lost)} times: {'; '.join(task.lost)}"
        for record in failures(task.job.cell, list(task.left.values()), ("failed", reason), device=task.job.device_label):
            yield from self._event(task, Event("record", record=record))
        yield task.index, Event("finished", seconds=0.0)

    def _needs(self, threads: int | None) -> dict[str, float]:
        """Resources of a task: its GPUs, or as many CPUs as leave no room for a second cell on a node."""
        nodes = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
        if self.device == "cuda":
            if not any(node.get("GPU", 0) >= self.gpus_per_cell for node in nodes):
                raise UserError(f"no node of the cluster has {self.gpus_per_cell} GPUs; give --gpus-per-cell or --device cpu")
            return {"num_cpus": 0, "num_gpus": self.gpus_per_cell / self.cells_per_gpu}
        cpus = [node["CPU"] for node in nodes if node.get("CPU")]
        if not cpus:
            raise UserError("no node of the cluster lends CPUs; start one with `ray start --num-cpus N`")
        return {"num_cpus": threads or min(cpus)}

    def _stop_flag(self) -> Any:
        """An actor beside the driver that says whether the run shall stop."""
        here = self._ray.get_runtime_context().get_node_id()
        strategy = self._ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(here, soft=True)  # type: ignore[attr-defined]
        flag = self._ray.remote(num_cpus=0, scheduling_strategy=strategy)(_StopFlag).remote()
        self._ray.get(flag.asked.remote())  # it answers at once from here on
        return flag

    @contextlib.contextmanager
    def _connected(self, out: Path) -> Iterator[None]:
        """Ray for as long as the block lasts, unless the caller had it; signals stay with the run."""
        ray = self._ray
        if ray.is_initialized():
            yield
            return
        import ray.util.scheduling_strategies

        main = threading.current_thread() is threading.main_thread()
        handlers = {number: signal.getsignal(number) for number in SIGNALS} if main else {}
        try:
            with contextlib.chdir(out):  # workers import from the driver's folder first; a checkout there shadows packages
                ray.init(address=self.address, log_to_driver=False, logging_level="ERROR", namespace="ddbench")  # type: ignore[arg-type]
        except ConnectionError as error:
            raise UserError(f"no Ray cluster at {self.address}: {' '.join(str(error).split())[:200]}") from None
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
        try:
            yield
        finally:
            ray.shutdown()


class _StopFlag:
    def __init__(self) -> None:
        self._asked = False

    def ask(self) -> None:
        self._asked = True

    def asked(self) -> bool:
        return self._asked


def _work(facts: dict[str, Any], files: dict[str, bytes] | None, settings: dict[str, Any], flag: Any) -> Iterator[tuple]:
    """One attempt at one cell, on its node: (`placed`, facts), (`event`, line) and (`files`, contents by path)."""
    import ray

    job = Job.from_json(facts)
    variables = {**environment_of(job.cell.device), **_sent(settings["variables"])}
    label = f"{job.run_id}-{job.cell.cell_hash[:8]}"  # cells that share a device see each other as runs do
    job = replace(job, run_id=label, device_label=job.cell.device)
    shared = Path(settings["mark"]).exists() if settings["mark"] else False
    scratch = None if shared else Path(tempfile.mkdtemp(prefix="ddbench-"))
    stop = Stop()
    told = _Told(flag, stop)
    yield (
        "placed",
        {
            "engine": "ray",
            "node": ray.get_runtime_context().get_node_id()[:12],
            "devices": variables["CUDA_VISIBLE_DEVICES"],
            "gpus_per_cell": settings["nproc"] if job.cell.device == "cuda" else 0,
            "shared_storage": shared,
        },
    )
    try:
        if scratch is not None:
            job = replace(job, out=scratch)
            _store(files or {}, scratch)
        for folder in ("sets", "logs"):
            (job.out / folder).mkdir(parents=True, exist_ok=True)
        if _asked(flag):
            return
        with present(label, [variables["CUDA_VISIBLE_DEVICES"]]):
            _server().put((job, variables, settings["nproc"] if job.cell.device == "cuda" else 1, told.events.put, stop))
            sent = False
            while (event := told.next()) is not None:
                if event.kind == "record" and scratch is not None and not sent:
                    sent = True  # before the record that tells of the set
                    yield "files", _files(scratch, job.cell)
                if event.kind == "finished" and scratch is not None:
                    yield "files", _files(scratch, job.cell, sets_too=not sent)
                yield "event", event.to_line().strip()
    finally:
        stop.now()
        if scratch is not None:
            shutil.rmtree(scratch, ignore_errors=True)


def _sent(variables: dict[str, str | None]) -> dict[str, str]:
    """The driver's variables, in this worker and in what it starts; what the driver has not is not here either."""
    for name, value in variables.items():
        os.environ.pop(name, None) if value is None else os.environ.update({name: value})
    return {name: value for name, value in variables.items() if value is not None}


class _Told:
    """The events of a cell, up to None; asks the driver meanwhile whether to stop."""

    def __init__(self, flag: Any, stop: Stop):
        self.events: queue.SimpleQueue[Event | Exception | None] = queue.SimpleQueue()
        self._flag, self._stop, self._last = flag, stop, clock()

    def next(self) -> Event | None:
        while True:
            if clock() - self._last > _ASK and not self._stop.asked.is_set():
                self._last = clock()
                if _asked(self._flag):
                    self._stop.asked.set()
            with contextlib.suppress(queue.Empty):
                found = self.events.get(timeout=_ASK)
                if isinstance(found, Exception):
                    raise found
                return found


def _asked(flag: Any) -> bool:
    import ray

    with contextlib.suppress(ray.exceptions.RayError):  # the driver's node is gone, and this worker will be  # type: ignore[attr-defined]
        return ray.get(flag.asked.remote(), timeout=10)
    return False


_jobs: "queue.SimpleQueue[tuple] | None" = None


def _server() -> "queue.SimpleQueue[tuple]":
    """Where a thread of this worker takes jobs from: it lives as long as the worker, and so do the processes that it forks
    cells from."""
    global _jobs
    if _jobs is None:
        _jobs = queue.SimpleQueue()
        threading.Thread(target=_serve, args=(_jobs,), daemon=True).start()
    return _jobs


def _serve(jobs: "queue.SimpleQueue[tuple]") -> None:
    host, known = Host({}), {}
    while True:
        job, variables, nproc, tell, stop = jobs.get()
        try:
            with leading(nproc):
                if nproc > 1 or variables != known:
                    host.kill()
                    host, known = Host(variables), variables
                run_cell(job, host, tell, stop)
            if nproc > 1:
                host.kill()
            tell(None)
        except Exception as error:
            tell(error)


def _needed(job: Job) -> dict[str, bytes]:
    """What an attempt may go on with: the cell's own files, and the sets of methods that its method names."""
    method = build(METHODS.get(job.cell.method), job.cell.params, f"method {job.cell.method!r}")
    named = [METHODS.create(spec) for registry, spec in held_specs(method) if registry is METHODS]
    others = [] if job.overwrite else [cell_like(job.cell, each).set_in(job.out) for each in named]
    return {**_files(job.out, job.cell, sets_too=not job.overwrite), **_contents(job.out, others)}


def _files(out: Path, cell: Cell, sets_too: bool = True) -> dict[str, bytes]:
    """The set, checkpoints and log of a cell, by their paths in the run folder."""
    folders = [*([cell.set_in(out)] if sets_too else []), out / "checkpoints" / cell.cell_hash]
    log = out / "logs" / f"{cell.cell_hash}.log"
    return {**_contents(out, folders), **({str(log.relative_to(out)): log.read_bytes()} if log.is_file() else {})}


def _contents(out: Path, folders: Sequence[Path]) -> dict[str, bytes]:
    found = [file for folder in folders for file in sorted(folder.rglob("*")) if file.is_file()]
    return {str(file.relative_to(out)): file.read_bytes() for file in found}


def _store(files: dict[str, bytes], out: Path) -> None:
    """Put files into a run folder; a set appears complete or not at all, and takes the place of an older one."""
    groups: dict[Path, dict[Path, bytes]] = {}
    for name, content in files.items():
        path = Path(name)
        target = path if path.parts[0] == "logs" else Path(*path.parts[:2])
        groups.setdefault(target, {})[path.relative_to(target)] = content
    for target, contents in groups.items():
        with writing(out / target), replacing(out / target) as new:
            for path, content in contents.items():
                file = new / path if path.parts else new
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(content)
