"""A cell process without torch, for tests of the runner: does to each evaluation what its protocol's parameters say."""

import json
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

signal.signal(signal.SIGINT, signal.SIG_IGN)  # a cell that does not stop when it is asked to


def preload():
    """Nothing takes time here, unless a test wants it to."""
    if die := os.environ.get("DIE_AT_IMPORT"):
        os.kill(os.getpid(), int(die))
    if pid := os.environ.get("NOTE_AND_WAIT_AT_IMPORT"):
        Path(pid).write_text(str(os.getpid()))
        time.sleep(60)


NOT_RECORDED = ("dataset_name", "dataset_params", "evaluations", "unsupported")


def do(how, job, events, emit):
    if how in ("hang", "sleep on"):
        time.sleep(60)
    elif how == "child":  # a process of its own that would outlive it
        note_child(job, sleeper())
        time.sleep(60)
    elif how == "daemon":  # one in a session of its own, which the cell does not wait for
        note_child(job, sleeper(start_new_session=True))
    elif how == "thread":  # that is not a daemon, and for which Python would wait at exit
        threading.Thread(target=time.sleep, args=[60]).start()
    elif how == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif how == "kill server":
        os.kill(os.getppid(), signal.SIGKILL)
        time.sleep(60)
    elif how == "stop":  # as if it held the interpreter's lock for ever
        Path(job["out"], "child.pid").write_text(str(os.getpid()))
        os.kill(os.getpid(), signal.SIGSTOP)
    elif how == "close":
        os.closerange(0, 100)
        time.sleep(60)
    elif how == "garbage":
        os.write(events, b"garbage\n")
    elif how == "strange":
        emit("record", record={"config_hash": "of another cell", "status": "ok"})
    elif how == "faulty":
        emit(
            "record",
            record={"config_hash": job["cell"]["evaluations"][0]["config_hash"], "schema": 1, "status": "ok", "top1": "high"},
        )
    elif how == "flood":
        sys.stdout.write("x" * 10_000)
        sys.stdout.flush()
        time.sleep(60)
    elif how == "full":
        emit("abort", reason="the disk is full while writing sets/x")
        sys.exit(0)
    elif how == "crash in little memory":
        resource.setrlimit(resource.RLIMIT_AS, (2**32, 2**32))
        os.kill(os.getpid(), signal.SIGSEGV)
    elif how == "exit":
        sys.exit(3)


def sleeper(**options):
    return subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], **options)


def note_child(job, child):
    Path(job["out"], "child.pid").write_text(str(child.pid))


def main(events):
    job = json.loads(sys.stdin.readline())
    cell = job["cell"]

    def emit(kind, **facts):
        os.write(events, (json.dumps({"kind": kind, **facts}) + "\n").encode())

    print("log of", cell["method"], os.environ.get("CUDA_VISIBLE_DEVICES"), job["threads"])
    emit("environment", environment={"cpu": "fake"})
    do(cell["params"].get("how"), job, events, emit)
    for evaluation in cell["evaluations"]:
        emit("evaluation", config_hash=evaluation["config_hash"], name=evaluation["eval_backbone"])
        do(evaluation["protocol_params"].get("how"), job, events, emit)
        record = {
            **{key: value for key, value in cell.items() if key not in NOT_RECORDED},
            **evaluation,
            "top1_per_seed": [50.0], "environment": {"cpu": "fake"},
            "schema": 1, "status": "ok", "reason": None, "top1": 50.0, "peak_bytes": {}, "device": job["device_label"],
        }  # fmt: skip
        emit("record", record=record)
