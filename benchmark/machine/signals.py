"""Ctrl-C, SIGTERM and SIGHUP: the first asks for an end after the step in hand, the second ends at once."""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))


class Interrupted(KeyboardInterrupt):
    """The run was stopped by a signal. What is finished is stored, and the same command goes on."""

    def __init__(self, number: int):
        super().__init__(f"stopped by {signal.Signals(number).name}")
        self.number = number


@contextlib.contextmanager
def raising() -> Iterator[None]:
    """Within the block, a signal raises `Interrupted`: for where there is nothing to finish."""

    def interrupt(number: int, _: Any) -> None:
        raise Interrupted(number)

    with _handling(interrupt):
        yield


@dataclass(frozen=True)
class Stop:
    """What the person asked for: nothing, an end after the step in hand, or an end at once."""

    asked: threading.Event = field(default_factory=threading.Event)
    at_once: threading.Event = field(default_factory=threading.Event)

    def now(self) -> None:
        self.asked.set()
        self.at_once.set()


class Signals:
    """What arrived while `listening`."""

    def __init__(self, stop: Stop):
        self._stop = stop
        self.number: int | None = None  # of the first signal

    def handle(self, number: int, _: Any) -> None:
        if self.number is None:
            self.number = number
            self._stop.asked.set()
        else:
            self._stop.now()


@contextlib.contextmanager
def listening(stop: Stop) -> Iterator[Signals]:
    """Within the block, signals go to `stop`."""
    signals = Signals(stop)
    with _handling(signals.handle):
        yield signals


@contextlib.contextmanager
def _handling(handler: Callable[[int, Any], None]) -> Iterator[None]:
    """Python takes signals in the main thread alone: in others nothing changes. One that is ignored (`nohup`) stays so."""
    before = {}
    if threading.current_thread() is threading.main_thread():
        kept = [number for number in SIGNALS if signal.getsignal(number) != signal.SIG_IGN]
        before = {number: signal.signal(number, handler) for number in kept}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)
