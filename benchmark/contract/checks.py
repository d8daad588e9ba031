"""The contract tests of a plugin, for our own tests and for plugin authors (`ddbench check NAME`).

A check is a function whose docstring is its name; it raises `Broken` with the reason.
"""

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from ...core.errors import UserError
from ...core.registries import METHODS, PROTOCOLS, kind_of
from . import backbone, dataset, method, protocol
from .shared import run_checks

Found = Iterator[tuple[str, str | None]]


def check(spec: str, kind: str | None = None) -> Found:
    """Run all checks on the plugin `spec`; yields (name of the check, None or the reason of its failure).

    `kind` is needed where plugins of several kinds have one name. Raises `UserError` for an unknown plugin, wrong parameters,
    and data or weights that are not on this machine.
    """
    kind = kind or kind_of(spec)
    with tempfile.TemporaryDirectory() as cache:
        yield from _CHECKERS[kind](spec, Path(cache))


def _method(spec: str, cache: Path) -> Found:
    METHODS.create(spec)
    yield from run_checks(method.CHECKS, method.Subject(spec, cache))


def _backbone(spec: str, cache: Path) -> Found:
    subject = backbone.Subject(spec)
    _ = subject.backbone  # weights that are not here are bad input, not a broken plugin
    yield from run_checks(backbone.CHECKS, subject)


def _dataset(spec: str, cache: Path) -> Found:
    subject = dataset.Subject(spec)
    _ = subject.data
    yield from run_checks(dataset.CHECKS, subject)


def _protocol(spec: str, cache: Path) -> Found:
    PROTOCOLS.create(spec)
    yield from run_checks(protocol.CHECKS, protocol.Subject(spec, cache))


_CHECKERS: dict[str, Callable[[str, Path], Found]] = {
    "method": _method,
    "backbone": _backbone,
    "dataset": _dataset,
    "protocol": _protocol,
}


def failures(spec: str, kind: str | None = None) -> list[str]:
    """One line per failed check, for a test of one's own: `assert not failures("myplugin")`."""
    try:
        return [f"{name}: {reason}" for name, reason in check(spec, kind) if reason]
    except UserError as error:
        return [str(error)]
