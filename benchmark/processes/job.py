"""The side of a started process: its job on stdin, and its end when stdin closes."""

import json
import os
import threading
from typing import Any

CHECKPOINT_EVERY = 60.0  # seconds between two checkpoints of a cell


def read_job(descriptor: int = 0) -> dict[str, Any]:
    """The job from the first line of stdin; unbuffered, so that nothing behind it is swallowed."""
    text = b""
    while not text.endswith(b"\n"):
        chunk = os.read(descriptor, 65536)
        if not chunk:
            raise SystemExit("no job on stdin; this program is started by `ddbench run`")
        text += chunk
    return json.loads(text)


def end_with_parent(descriptor: int = 0) -> None:
    """End this process when stdin closes, so that a killed `ddbench run` leaves nothing behind."""

    def wait() -> None:
        while os.read(descriptor, 1):
            pass
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()
