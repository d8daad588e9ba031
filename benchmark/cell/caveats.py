"""What a number has to carry beside what its protocol found: how the set was read, and who mirrors what should not be."""

from collections.abc import Sequence

from ...core.data import ImageData
from ...core.method import METHODS, Method, Protocol
from ...core.params import build
from ...core.sets import DistilledSet
from ..suite.cell import Cell


def caveats(method: Method | None, protocol: Protocol, data: ImageData, dset: DistilledSet) -> list[str]:
    """A line each; `method` made the set, None: nobody knows, or no matter."""
    return [*_reading(dset), *mirroring(method, protocol, data)]


def mirroring(method: Method | None, protocol: Protocol, data: ImageData) -> list[str]:
    """Which of method and protocol mirror images that do not bear it, as published ones do."""
    if data.mirror:
        return []
    who = ["method"] * (method is not None and method.mirrors) + ["protocol"] * protocol.mirrors
    return [f"the {each} mirrors images, and mirrored images of {data.name} do not keep their class" for each in who]


def method_of(cell: Cell) -> Method | None:
    """The method of a cell; None for a set made elsewhere."""
    known = cell.method in METHODS.names()
    return build(METHODS.get(cell.method), cell.params, f"method {cell.method!r}") if known else None


def _reading(dset: DistilledSet) -> Sequence[str]:
    """What was decided in reading a set made elsewhere."""
    return dset.provenance.get("notes", [])
