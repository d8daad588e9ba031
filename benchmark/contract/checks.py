"""Contract tests that any method must pass, for our own tests and for plugin authors (`ddbench check METHOD`).

They distil a tiny made-up dataset (3 classes of 16x16 pixels) with a tiny random network: seconds, no download. A check is a
function whose docstring is its name; it raises `Broken` with the reason.
"""

import dataclasses
import inspect
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import torch

from ...core.errors import Unsupported, UserError
from ...core.method import METHODS
from ...core.params import resolved, spec_string
from ...core.sets import DistilledSet
from .subject import CLASSES, Subject


class Broken(Exception):
    """A method does not keep the contract; the message says how."""


def check(spec: str) -> Iterator[tuple[str, str | None]]:
    """Run all checks on the method `spec`; yields (name of the check, None or the reason of its failure).

    Raises `UserError` for an unknown method or wrong parameters.
    """
    METHODS.create(spec)
    with tempfile.TemporaryDirectory() as cache:
        subject = Subject(spec, Path(cache))
        for function in CHECKS:
            reason = None
            try:
                function(subject)
            except Broken as broken:
                reason = str(broken)
            except Exception as error:  # whatever a method raises is a failed check, not a crash of the checker
                reason = f"{type(error).__name__}: {error}"
            yield inspect.getdoc(function) or function.__name__, reason


def frozen_dataclass(subject: Subject) -> None:
    """is a frozen dataclass"""
    cls = type(subject.method)
    if not dataclasses.is_dataclass(cls) or not cls.__dataclass_params__.frozen:  # type: ignore[attr-defined]
        raise Broken(f"decorate {cls.__name__} with @dataclass(frozen=True)")


def documented(subject: Subject) -> None:
    """has a docstring whose first line says what it does"""
    cls = type(subject.method)
    text = (cls.__doc__ or "").strip()
    if not text or text.startswith(f"{cls.__name__}("):  # what @dataclass generates
        raise Broken(f"write a docstring for {cls.__name__}; `ddbench list methods` shows its first line")


def parameters_from_strings(subject: Subject) -> None:
    """builds from its own spec string, as the command line and suites do"""
    again = METHODS.create(spec_string(subject.method))
    if resolved(again) != resolved(subject.method):
        raise Broken(f"{spec_string(subject.method)} gives {resolved(again)}, not {resolved(subject.method)}")


def valid_set(subject: Subject) -> None:
    """gives ipc images per class in [0, 1] with balanced labels"""
    dset = subject.trial().dset
    _images_in_range(dset, subject.data.class_names)
    if subject.method.uses_ipc:
        _balanced(dset, 1)


def ipc_two(subject: Subject) -> None:
    """gives two images per class at IPC 2, or says why not"""
    reason = subject.method.supports(subject.backbone.spec, subject.data, 2)
    if reason is not None:
        if not reason.strip() or "\n" in reason:
            raise Broken(f"supports() must return one line, not {reason!r}")
        return
    if subject.method.uses_ipc:
        try:
            dset = subject.trial(ipc=2).dset
        except Unsupported:
            return
        _images_in_range(dset, subject.data.class_names)
        _balanced(dset, 2)


def same_seed_same_bits(subject: Subject) -> None:
    """gives the same bits for the same seed"""
    if _bits(subject.trial().dset) != _bits(subject.trial(attempt=1).dset):
        raise Broken("two runs with seed 0 differ; draw all random numbers from run.generator(...)")


def other_seed_differs(subject: Subject) -> None:
    """gives another set for another seed, or declares `deterministic: ClassVar[bool] = True`"""
    same = _bits(subject.trial().dset) == _bits(subject.trial(seed=1).dset)
    deterministic = getattr(subject.method, "deterministic", False)
    if same and not deterministic:
        raise Broken("seeds 0 and 1 give the same set; use run.seed or declare the method deterministic")
    if deterministic and not same:
        raise Broken("it is declared deterministic, but seeds 0 and 1 give different sets")


def silent(subject: Subject) -> None:
    """prints nothing"""
    if printed := subject.trial().printed.strip():
        raise Broken(f"printed {printed.splitlines()[0][:60]!r}; report through run.progress")


def writes_nothing(subject: Subject) -> None:
    """writes no files"""
    if written := subject.trial().written:
        raise Broken(f"left {', '.join(written[:3])} in the working folder; return everything in the set")


def leaves_the_world_alone(subject: Subject) -> None:
    """leaves the backbone, the global random state and torch's settings as they were"""
    if changed := subject.trial(attempt=1).changed:  # the second time: some libraries draw random numbers when first imported
        raise Broken(f"changed {', '.join(changed)}")


def reports_progress(subject: Subject) -> None:
    """reports progress up to the last step"""
    steps = subject.trial().progress
    if not steps or steps[-1][0] != steps[-1][1]:
        raise Broken(f"last report was {steps[-1] if steps else 'never'}; call run.progress(step, steps, loss) after each step")
    numbers = [step for step, _ in steps]
    if numbers[0] < 1 or numbers != sorted(numbers):
        raise Broken(f"steps must rise from 1, got {numbers[:5]}")


def saves_and_loads(subject: Subject) -> None:
    """gives a set that saves and loads identically"""
    dset = subject.trial().dset
    with tempfile.TemporaryDirectory() as folder:
        dset.save(Path(folder) / "set")
        loaded = DistilledSet.load(Path(folder) / "set", subject.data)
    same = _bits(loaded) == _bits(dset) and loaded.extras == dset.extras and loaded.labels_of == dset.labels_of
    if not same or loaded.class_names != dset.class_names:
        raise Broken("the loaded set differs from the saved one")


CHECKS: tuple[Callable[[Subject], None], ...] = (
    frozen_dataclass,
    documented,
    parameters_from_strings,
    valid_set,
    ipc_two,
    same_seed_same_bits,
    other_seed_differs,
    silent,
    writes_nothing,
    leaves_the_world_alone,
    reports_progress,
    saves_and_loads,
)


def _images_in_range(dset: DistilledSet, class_names: tuple[str, ...]) -> None:
    images = dset.batch(torch.arange(len(dset)))
    if not len(images):  # the empty set is a control
        return
    if not bool(images.isfinite().all()) or images.min() < 0 or images.max() > 1:
        raise Broken(f"images must be finite and in [0, 1], never normalised; got [{images.min():.3g}, {images.max():.3g}]")
    if dset.class_names != class_names:
        raise Broken("class_names must be those of the data")


def _balanced(dset: DistilledSet, ipc: int) -> None:
    if len(dset) != ipc * CLASSES:
        raise Broken(f"{len(dset)} images for IPC {ipc} and {CLASSES} classes; {ipc * CLASSES} are due")
    if dset.labels is None or dset.labels_of is not None:  # labels that the method does not read need not be balanced
        return
    if dset.labels.bincount(minlength=CLASSES).tolist() != [ipc] * CLASSES:
        raise Broken(f"labels {dset.labels.tolist()} are not {ipc} per class")


def _bits(dset: DistilledSet) -> tuple:
    tensors = {**dset.tensors(), "images": dset.batch(torch.arange(len(dset)))}
    return tuple((name, tensors[name].detach().numpy().tobytes()) for name in sorted(tensors))


def failures(spec: str) -> list[str]:
    """One line per failed check, for a test of one's own: `assert not failures("mymethod")`."""
    try:
        return [f"{name}: {reason}" for name, reason in check(spec) if reason]
    except UserError as error:
        return [str(error)]
