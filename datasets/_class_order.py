"""The order of class names, which says which class a label means: names that are numbers by number, others by name."""

from collections import defaultdict
from collections.abc import Iterator, Sequence

_SHOWN = 3  # classes named in a line


def number_order(names: Sequence[str]) -> tuple[list[str], str]:
    """Class names in order and what the order is: `by number` where all of them are integers, else `by name`.

    As text, 10 would stand before 2, and label 2 of an array would mean another class than the folder 2.
    """
    if all(name.isascii() and name.isdecimal() for name in names):
        return sorted(names, key=lambda name: (int(name), name)), "by number"
    return sorted(names), "by name"


def order_notes(names: Sequence[str], order: str) -> Iterator[str]:
    alike = defaultdict(list)
    for name in names:
        alike[name.casefold()].append(name)
    if several := [group for group in alike.values() if len(group) > 1]:
        pairs = ", ".join(" and ".join(map(repr, group)) for group in several[:_SHOWN]) + ", …" * (len(several) > _SHOWN)
        yield f"class names differ in capitals alone: {pairs}; each is a class of its own"
    if order == "by number" and list(names) != sorted(names):
        yield f"classes are numbers and are ordered as such ({', '.join(names[:3])}, …), not as text"
