"""Whether anything may be downloaded: a dry run asks what is here, and fetches nothing."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_ALLOWED = ContextVar("downloads allowed", default=True)


def online() -> bool:
    """Whether sources of data and weights may download what is not on this machine; otherwise they raise `NotHere`."""
    return _ALLOWED.get()


@contextmanager
def offline() -> Iterator[None]:
    """Inside, nothing is downloaded."""
    token = _ALLOWED.set(False)
    try:
        yield
    finally:
        _ALLOWED.reset(token)
