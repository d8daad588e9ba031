"""What the checks of all four kinds share."""

import contextlib
import dataclasses
import inspect
import io
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from ...core.params import resolved, spec_string
from ...core.registry import Registry
from .subject import world

S = TypeVar("S")
Checks = Sequence[Callable[[S], None]]


class Broken(Exception):
    """A plugin does not keep the contract; the message says how."""


def run_checks(checks: Checks[S], subject: S) -> Iterator[tuple[str, str | None]]:
    """(name of the check, None or the reason of its failure) of each; a check's docstring is its name."""
    for function in checks:
        reason = None
        try:
            function(subject)
        except Broken as broken:
            reason = str(broken)
        except Exception as error:  # whatever a plugin raises is a failed check, not a crash of the checker
            reason = f"{type(error).__name__}: {error}"
        yield inspect.getdoc(function) or function.__name__, reason


def frozen_dataclass(subject: Any) -> None:
    """is a frozen dataclass"""
    cls = type(subject.plugin)
    if not dataclasses.is_dataclass(cls) or not cls.__dataclass_params__.frozen:  # type: ignore[attr-defined]
        raise Broken(f"decorate {cls.__name__} with @dataclass(frozen=True)")


def documented(subject: Any) -> None:
    """has a docstring whose first line says what it does"""
    cls = type(subject.plugin)
    text = (cls.__doc__ or "").strip()
    if not text or text.startswith(f"{cls.__name__}("):  # what @dataclass generates
        raise Broken(f"write a docstring for {cls.__name__}; `ddbench list` shows its first line")


def parameters_from_strings(subject: Any) -> None:
    """builds from its own spec string, as the command line and suites do"""
    registry: Registry[Any] = subject.registry
    again = registry.create(spec_string(subject.plugin))
    if resolved(again) != resolved(subject.plugin):
        raise Broken(f"{spec_string(subject.plugin)} gives {resolved(again)}, not {resolved(subject.plugin)}")


def one_line(reason: Any) -> None:
    """What `supports` may return."""
    if reason is not None and (not isinstance(reason, str) or not reason.strip() or "\n" in reason):
        raise Broken(f"supports() must return None or one line, not {reason!r}")


@contextlib.contextmanager
def quietly() -> Iterator[None]:
    """The block may print nothing, and leaves global random state and torch's settings as they were."""
    before, out = world(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        yield
    if printed := out.getvalue().strip():
        raise Broken(f"printed {printed.splitlines()[0][:60]!r}")
    after = world()
    if changed := [name for name, value in before.items() if after[name] != value]:
        raise Broken(f"changed {', '.join(changed)}")


COMMON: Checks[Any] = (frozen_dataclass, documented, parameters_from_strings)
