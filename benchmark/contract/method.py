"""Contract tests that any method must pass.

They distil a tiny made-up dataset (3 classes of 16x16 pixels) with a tiny random network: seconds, no download.
"""

import tempfile
from pathlib import Path

import torch

from ...core.errors import Unsupported
from ...core.sets import DistilledSet
from .shared import COMMON, Broken, Checks, one_line
from .subject import CLASSES, Subject


def valid_set(subject: Subject) -> None:
    """gives ipc images per class in [0, 1] with balanced labels"""
    dset = subject.trial().dset
    _images_in_range(dset, subject.data.class_names)
    if subject.method.uses_ipc:
        _balanced(dset, 1)


def ipc_two(subject: Subject) -> None:
    """gives two images per class at IPC 2, or says why not"""
    reason = subject.method.supports(subject.backbone.spec, subject.data, 2)
    one_line(reason)
    if reason is not None:
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


def resumes(subject: Subject) -> None:
    """goes on after an interruption to the same bits"""
    resumed = subject.interrupted()
    if resumed is not None and _bits(resumed) != _bits(subject.trial().dset):
        raise Broken(
            "a run that was cut short after two steps and resumed ends in another set; everything that moves a step belongs "
            "into the checkpoint: optimiser state, running means, and the generators of run.generator(...)"
        )


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


CHECKS: Checks[Subject] = (
    *COMMON,
    valid_set,
    ipc_two,
    same_seed_same_bits,
    other_seed_differs,
    resumes,
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
