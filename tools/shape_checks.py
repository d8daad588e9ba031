"""Shapes in annotations (jaxtyping), checked by beartype in the tests; `tests/conftest.py` has the modules."""

from collections.abc import Callable
from typing import Any

import beartype

_CHECK = beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))  # an int passes for a float


def check(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function with its arguments and result checked, where a shape stands in its annotations; else as it is."""
    stated = str(getattr(function, "__annotations__", {}))
    return _CHECK(function) if "jaxtyping" in stated else function
