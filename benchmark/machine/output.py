"""A standard output that may be closed or full: the work and its exit code do not depend on whether anybody reads."""

import os
from typing import IO, Any


class Output:
    """`stream`, which falls silent at the first write that is refused; `error` then says why."""

    def __init__(self, stream: IO[str]):
        self._stream = stream
        self.error: OSError | None = None

    def write(self, text: str) -> int:
        self._try(lambda: self._stream.write(text))
        return len(text)

    def flush(self) -> None:
        self._try(self._stream.flush)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    @property
    def complaint(self) -> str | None:
        """One line where something was lost that somebody wanted; a reader that went away (`| head`) wanted no more."""
        if self.error is None or isinstance(self.error, BrokenPipeError):
            return None
        return f"cannot write the output: {self.error.strerror or self.error}"

    def _try(self, write: Any) -> None:
        if self.error is None:
            try:
                write()
            except OSError as error:
                self.error = error
                os.dup2(os.open(os.devnull, os.O_WRONLY), self._stream.fileno())  # for what is still in the buffer
