"""The errors that the harness turns into one line or into one row."""

import difflib


class UserError(Exception):
    """Bad input. The message is one line that names the input and says what to do; the CLI prints it and exits with 2."""


class Unsupported(Exception):
    """A combination of method, backbone and data that makes no sense; becomes a row with status `unsupported`."""


class Diverged(Exception):
    """The loss became non-finite; becomes a row with status `diverged`."""


def unknown(kind: str, name: str, known: list[str]) -> str:
    """The message for an unknown name: the nearest known names, then all of them."""
    close = difflib.get_close_matches(name, known, n=2, cutoff=0.6)
    hint = f"did you mean {' or '.join(map(repr, close))}? " if close else ""
    return f"unknown {kind} {name!r}: {hint}known: {', '.join(known)}"
