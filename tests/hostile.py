"""What the tests of hostile input share: how many cases, text and bytes that are nearly right, and what may come of them."""

import os
from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from ddbench.core.errors import UserError

NIGHT = os.environ.get("HYPOTHESIS_PROFILE") == "night"  # `make hostile`
CASES = 1000 if NIGHT else 50  # of each test
_LONGEST = 3000  # characters of a message

hostile = settings(
    max_examples=CASES,
    deadline=None,
    derandomize=not NIGHT,
    print_blob=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
    database=None,
)
SIGNS = st.sampled_from(
    [*list("[](){}=,+:;'\"!~\\ \t\n\x00é−∞0123456789eE.-_"), "none", "nan", "inf", "1e999", "!!python", "true"]
)
BYTES = st.sampled_from([b"\x00", b"\xff", b"\x7f\xff\xff\xff", b"\xff" * 8, b"PK\x03\x04", b"\x80\x02", b"{", b"9", b"-"])
TEXT = st.text(st.characters(exclude_categories=()), max_size=8)  # halves of pairs too, which JSON can hold and UTF-8 cannot
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=5,
)


@st.composite
def mutated(draw, texts: list) -> Any:
    """One of the texts, or of the byte strings, with pieces replaced, repeated or cut out."""
    text = draw(st.sampled_from(texts))
    noise = st.one_of(SIGNS, st.text(max_size=3)) if isinstance(text, str) else st.one_of(BYTES, st.binary(max_size=4))
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(text)))
        end = draw(st.integers(start, min(len(text), start + 12)))
        text = text[:start] + draw(st.one_of(noise, st.just(text[start:end] * 2))) + text[end:]
    return text[: draw(st.integers(0, len(text)))] if draw(st.integers(0, 9)) == 0 else text


def read_or_refused(function: Callable, *arguments: Any) -> Any:
    """What the function returns; None where it refuses in one line. Anything else that it raises passes."""
    try:
        return function(*arguments)
    except UserError as error:
        if len(str(error)) > _LONGEST or "\n" in str(error):
            raise
        return None
