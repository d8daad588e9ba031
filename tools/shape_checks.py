"""Shapes in annotations (jaxtyping), checked by beartype in the tests; `tests/conftest.py` has the modules."""

import random
from collections.abc import Callable
from typing import Any
from unittest import mock

# of a list beartype looks at one item, which it draws: from numbers of its own, since methods leave the global ones alone
with mock.patch("random.getrandbits", random.Random(0).getrandbits):
    import beartype

_CHECK = beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))  # an int passes for a float


def check(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function with its arguments and result checked, where a shape stands in its annotations; else as it is."""
    stated = str(getattr(function, "__annotations__", {}))
    return _CHECK(function) if "jaxtyping" in stated else function
