"""How many views go through a backbone at once, and what happens where memory does not hold them."""

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

import torch

from .errors import UserError

T = TypeVar("T")

_CPU_TEXTS = ("not enough memory", "can't allocate memory")  # of a RuntimeError; GPUs have an exception of their own

USUAL = 256  # views per pass: past the point where larger passes gain speed on a CPU for 32-pixel inputs


def given_chunk() -> int | None:
    """Views per backbone pass that the user asks for by DDBENCH_CHUNK (`--chunk` of the command line), or None."""
    wanted = os.environ.get("DDBENCH_CHUNK")
    if wanted is None:
        return None
    if not wanted.isdecimal() or not int(wanted):
        raise UserError(f"DDBENCH_CHUNK={wanted} is no number of views; set it to 1 or more, or leave it out")
    return int(wanted)


def out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out, on a GPU or on the CPU."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(text in str(error) for text in _CPU_TEXTS)


@dataclass
class PassSize:
    """Views per backbone pass: halved, for good, where memory runs out. `used` lists the sizes so far."""

    views: int
    used: list[int] = field(init=False)

    def __post_init__(self) -> None:
        self.used = [self.views]

    def fitting(self, attempt: Callable[[int], T]) -> T:
        """`attempt(views)`, again with half of them until memory holds it. An attempt starts over, random streams included.

        Raises what the attempt raises, and out of memory where one view alone is too many.
        """
        while True:
            try:
                return attempt(self.views)
            except (MemoryError, RuntimeError) as error:
                if self.views == 1 or not out_of_memory(error):
                    raise
            self.views = -(-self.views // 2)  # not in the handler, where the exception still holds the tensors of the attempt
            self.used.append(self.views)
            torch.cuda.empty_cache()
