"""Named phases of a run. Code that works opens them; what measures them, if anything does, is the harness's."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

Phase = Callable[[str], AbstractContextManager[Any]]


def untimed(name: str) -> AbstractContextManager[None]:
    """A phase that nobody measures, for calls from Python."""
    return nullcontext()
