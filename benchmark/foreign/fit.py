"""Whether a set and a dataset belong together."""

from collections.abc import Sequence

from ...core.data import ImageData
from ...core.errors import UserError
from ...core.method import Protocol
from ...core.sets import DistilledSet


def check_classes(dset: DistilledSet, data: ImageData, judges: Sequence[Protocol]) -> None:
    """Raise `UserError` where a probe on the set would answer other classes than those of `data`."""
    if any(judge.uses_backbone for judge in judges) and dset.class_names != data.class_names:
        if sorted(dset.class_names) == sorted(data.class_names):
            orders = f"{_start(dset.class_names)} against {_start(data.class_names)}"
            raise UserError(f"the set has the classes of {data.name} in another order ({orders}); distil it again")
        raise UserError(f"the set has other classes than {data.name}: {dset.num_classes} against {data.num_classes}")


def _start(names: Sequence[str]) -> str:
    return ", ".join(names[:4]) + ", …" * (len(names) > 4)


def other_data(dset: DistilledSet, data: ImageData) -> bool:
    """Whether the set says that it was made from other data than `data`."""
    origin = dset.provenance.get("dataset_fingerprint", data.fingerprint)
    return origin != data.fingerprint
