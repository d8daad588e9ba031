"""The errors that the harness turns into one line or into one row."""

import difflib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


class UserError(Exception):
    """Bad input. The message is one line that names the input and says what to do; the CLI prints it and exits with 2."""


class NotHere(UserError):
    """Published data or weights that are not on this machine, and could not be downloaded."""


class DiskError(UserError):
    """What a run makes cannot be stored, so the run cannot go on."""


class Unsupported(Exception):
    """A combination of method, backbone and data that makes no sense; becomes a row with status `unsupported`."""


class Diverged(Exception):
    """The loss became non-finite; becomes a row with status `diverged`.

    `images (n, 3, h, w)` in [0, 1]: the last good ones, class by class, where a method has any.
    """

    def __init__(self, message: str, images: "Tensor | None" = None):
        super().__init__(message)
        self.images = images


def shown(value: object, limit: int = 120) -> str:
    """What a user gave, as a message repeats it: quoted, and cut where it is long."""
    text = repr(value)
    return text if len(text) <= limit else f"{text[: limit - 1]}… ({len(text):,} characters)"


def unknown(kind: str, name: str, known: list[str], otherwise: str = "") -> str:
    """The message for an unknown name: the nearest known names, or what to write `otherwise`, then all of them."""
    folded = {each.lower(): each for each in known}
    close = [folded[each] for each in difflib.get_close_matches(name.lower(), folded, n=2, cutoff=0.6)]
    hint = f"did you mean {' or '.join(map(repr, close))}? " if close else otherwise
    return f"unknown {kind} {shown(name)}: {hint}known: {', '.join(known)}"
