"""Several processes that distil one cell together: the cell process is the first of them, the others follow.

    ddbench run --nproc-per-node 4 ...                                  on this machine, one GPU each
    torchrun --nnodes 2 --nproc-per-node 4 ... -m ddbench run ...       on two machines, with one cache folder

The first `ddbench run` plans, starts cells and records. The others wait at torchrun's key-value store, or at one that
`leading` opens, for the jobs that cell processes publish there, and start a fresh process for each. Features and gradients
are exchanged with NCCL or gloo (core/parallel.py). Only distilling is shared: loading and evaluating are not.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import timedelta

import torch
import torch.distributed as dist
from torch._C._distributed_c10d import PrefixStore, Store, TCPStore

from ...core.backbone import BACKBONES
from ...core.bank import FeatureBank
from ...core.data import DATASETS
from ...core.errors import Diverged, Unsupported, UserError
from ...core.method import METHODS
from ...core.parallel import member
from ...core.params import build
from ...core.run import Run
from ..machine.determinism import make_deterministic, seed_everything
from ..suite.code import code_of
from .job import Job, end_with_parent, read_job
from .launcher import slots

_PATIENCE = timedelta(days=7)  # a job may be long in coming
_COLLECTIVE = timedelta(hours=2)  # the longest that one process may be ahead of another
_POLL = 0.2  # seconds
_COMMAND = (sys.executable, "-P", "-m", "ddbench.benchmark.processes.several_gpus")


@contextlib.contextmanager
def leading(nproc: int) -> Iterator[None]:
    """Around the first `ddbench run`: starts `nproc` - 1 followers unless torchrun did, and ends them."""
    if member()[1] > 1:
        try:
            yield
        finally:
            _publish(None)
        return
    if nproc == 1:
        yield
        return
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    ours = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(store.port), "WORLD_SIZE": str(nproc)}
    os.environ.update(ours, RANK="0", LOCAL_RANK="0")
    followers = []
    try:
        for rank in range(1, nproc):
            variables = {**os.environ, "RANK": str(rank), "LOCAL_RANK": str(rank)}
            followers.append(subprocess.Popen(_COMMAND, env=variables, stdin=subprocess.PIPE))
        yield
    finally:
        for process in followers:
            process.kill()  # what it started ends with it
            process.wait()
        for name in (*ours, "RANK", "LOCAL_RANK"):
            del os.environ[name]


def check_devices(device: str, nproc: int) -> None:
    """One line where `nproc` processes would have to share GPUs, which NCCL does not do."""
    if device == "cuda" and nproc > (found := len(slots(device))):
        raise UserError(f"--nproc-per-node {nproc} needs {nproc} GPUs and there are {found}; give at most {found}")


@contextlib.contextmanager
def team(job: Job) -> Iterator[None]:
    """Around the distilling of a cell process: the other processes, if there are any, do it too."""
    if member()[1] == 1:
        yield
        return
    number, done = _publish(job), threading.Event()
    threading.Thread(target=_end_with_followers, args=(number, done), daemon=True).start()
    try:
        with _joined(number, job.cell.device):
            yield
    finally:
        done.set()


def follow() -> int:
    """Help with one cell after the other until there are no more."""
    store, number = _store(), 1
    while (facts := json.loads(_awaited(store, f"job/{number}"))) is not None:
        job = Job.from_json(facts)
        if code := _help(store, job, number):
            store.set(f"failed/{number}", str(code))
        number += 1
    return 0


def _help(store: Store, job: Job, number: int) -> int:
    """Exit code of a fresh process that helps with a cell; 0 too if the cell was over before it."""
    places = slots(job.cell.device)
    place = places[0 if len(places) == 1 else int(os.environ["LOCAL_RANK"])]  # one place: the CPU, or torchrun's choice of GPU
    variables = {**os.environ, **place.environment}
    logs = job.out / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    with (logs / f"{job.cell.cell_hash}.log").open("ab") as log:
        process = subprocess.Popen(
            [*_COMMAND, str(number)], env=variables, stdin=subprocess.PIPE, stdout=log, stderr=log, start_new_session=True
        )
        try:
            assert process.stdin is not None
            process.stdin.write(json.dumps(job.to_json()).encode() + b"\n")
            process.stdin.flush()
            while (code := process.poll()) is None:
                if store.check([f"job/{number + 1}"]):
                    return 0
                time.sleep(_POLL)
            return code
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def help_distil(job: Job, number: int) -> None:
    """The part of a cell that all processes do; the first one reports what comes of it."""
    cell = job.cell
    device = torch.device(cell.device)
    make_deterministic(cell.device)
    for plugin in job.plugins:
        METHODS.load_file(plugin)
    data = build(DATASETS.get(cell.dataset_name), cell.dataset_params, f"dataset {cell.dataset_name!r}").load()
    if data.fingerprint != cell.dataset_fingerprint:
        raise SystemExit(f"dataset {cell.dataset} holds other data here than where the run was planned")
    method = build(METHODS.get(cell.method), cell.params, f"method {cell.method!r}")
    if cell.method_code != code_of(method):
        raise SystemExit(f"the code of method {cell.method!r} is another here than where the run was planned")
    backbone = BACKBONES.create(cell.distill_backbone).load().to(device) if cell.distill_backbone else None
    if backbone is not None and backbone.spec.sha256 != (cell.distill_backbone_spec or {})["sha256"]:
        raise SystemExit(f"backbone {cell.distill_backbone} has other weights here than where the run was planned")
    run = Run(seed=cell.distill_seed, device=device, bank=FeatureBank(device=device))
    with _joined(number, cell.device), contextlib.suppress(Diverged, Unsupported, UserError):  # as in the first process
        seed_everything(cell.distill_seed)
        method.distill(backbone, data, cell.ipc or 1, run=run)  # type: ignore[arg-type]


@contextlib.contextmanager
def _joined(number: int, device: str) -> Iterator[None]:
    """A process group of everyone who works on job `number`."""
    rank, world = member()
    store = PrefixStore(f"cell/{number}", _store())
    dist.init_process_group(
        "nccl" if device == "cuda" else "gloo", store=store, rank=rank, world_size=world, timeout=_COLLECTIVE
    )
    try:
        yield
    finally:
        dist.destroy_process_group()


def _end_with_followers(number: int, done: threading.Event) -> None:
    """End this process when another one failed: it would wait for that one in a collective operation."""
    store, key = _store(), f"failed/{number}"
    while not done.wait(_POLL):
        if store.check([key]):
            print(f"another process of this cell ended with exit code {store.get(key).decode()}", file=sys.stderr, flush=True)
            os._exit(1)


def _publish(job: Job | None) -> int:
    store = _store()
    number = store.add("jobs", 1)
    store.set(f"job/{number}", json.dumps(None if job is None else job.to_json()))
    return number


def _awaited(store: Store, key: str) -> bytes:
    store.wait([key], _PATIENCE)
    return store.get(key)


def _store() -> Store:
    """A connection of its own to the store of torchrun or of `leading`."""
    place = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    return PrefixStore("ddbench", TCPStore(*place, is_master=False))


if __name__ == "__main__":
    if len(sys.argv) == 1:
        end_with_parent()
        sys.exit(follow())
    the_job = read_job()
    end_with_parent()
    if the_job.threads:
        torch.set_num_threads(the_job.threads)
    help_distil(the_job, int(sys.argv[1]))
