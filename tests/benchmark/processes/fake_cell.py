"""A cell process without torch, for tests of the runner: does to each evaluation what its protocol's parameters say."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path


def preload():
    """Nothing takes time here."""


def do(how, job, emit):
    if how == "hang":
        time.sleep(60)
    elif how == "child":  # a process of its own that would outlive it
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
        Path(job["out"], "child.pid").write_text(str(child.pid))
        time.sleep(60)
    elif how == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif how == "full":
        emit("abort", reason="the disk is full while writing sets/x")
        sys.exit(0)
    elif how == "exit":
        sys.exit(3)


def main():
    job = json.loads(sys.stdin.readline())
    cell = job["cell"]

    def emit(event, **facts):
        os.write(job["event_fd"], (json.dumps({"event": event, **facts}) + "\n").encode())

    print("log of", cell["method"], os.environ.get("CUDA_VISIBLE_DEVICES"), job["threads"])
    emit("environment", environment={"cpu": "fake"})
    do(cell["params"].get("how"), job, emit)
    for evaluation in cell["evaluations"]:
        emit("evaluation", config_hash=evaluation["config_hash"], name=evaluation["eval_backbone"])
        do(evaluation["protocol_params"].get("how"), job, emit)
        record = {
            **{key: cell[key] for key in ("method_spec", "distill_backbone", "dataset", "cell_hash")},
            **evaluation,
            "schema": 1, "status": "ok", "reason": None, "top1": 50.0, "peak_bytes": {}, "device": job["device_label"],
        }  # fmt: skip
        emit("record", record=record)
