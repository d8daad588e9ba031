"""Downloads from model hubs, with one line instead of a minute of retries where there is no network."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from textwrap import shorten
from typing import TypeVar

from ..core.errors import NotHere, UserError
from ..core.network import online

T = TypeVar("T")


def from_hub(what: str, download: Callable[[], T], file: Path | None = None) -> T:
    """`download()` with a `NotHere` about `what` for every failure; files in the hub's cache need no network.

    `file`: where a library that knows no cache-only mode keeps what it has downloaded.
    """
    try:
        if not online() and file is not None and not file.exists():
            raise NotHere(f"the weights of {what} are not in {file.parent}")
        with _quietly():
            return download()
    except UserError:
        raise
    except Exception as error:
        reason = shorten(str(error).strip().split("\n")[0].partition(". ")[0], 160, placeholder=" …").rstrip(".")
        raise NotHere(
            f"cannot get the weights of {what}: {type(error).__name__}: {reason}; "
            "check the name and the network, or give weights=FILE or pretrained=false"
        ) from None


@contextmanager
def _quietly() -> Iterator[None]:
    """Without log lines, and with huggingface_hub's cache alone where its hub is out of reach: it would retry for 46 s."""
    from huggingface_hub import constants

    away = not constants.HF_HUB_OFFLINE and (not online() or not _reachable(constants.ENDPOINT))
    with cache_only() if away else nullcontext(), without_logs():  # the libraries log what the UserError is about to say
        yield


@contextmanager
def cache_only() -> Iterator[None]:
    """Inside, huggingface_hub's cache alone is looked into. The library reads its environment variable only once."""
    from huggingface_hub import constants

    before, constants.HF_HUB_OFFLINE = constants.HF_HUB_OFFLINE, True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


@contextmanager
def without_logs() -> Iterator[None]:
    """No library logs anything inside."""
    disabled = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(disabled)


def _reachable(endpoint: str) -> bool:
    from huggingface_hub import get_session

    try:
        get_session().head(endpoint, timeout=5)
    except Exception as error:  # whatever the HTTP library raises: names, proxies, certificates, time-outs
        logging.getLogger(__name__).debug("hub out of reach: %s", error)
        return False
    return True
