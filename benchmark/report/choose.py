"""Which records and rows a reader asked for: names, specs, or parts of specs with `*`."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace

from ...core.errors import UserError
from .value import Table


def parts(given: Sequence[str] | None) -> list[str]:
    """`["clpdd,lgm[steps=5,lr=1]"]` -> `clpdd`, `lgm[steps=5,lr=1]`: broken at the commas outside brackets."""
    return [part.strip() for text in given or () for part in re.split(r",(?![^\[]*\])", text) if part.strip()]


def fits(spec: str, asked: str) -> bool:
    """Whether `asked` is the spec, its plugin's name, or matches it with `*` for anything."""
    pattern = ".*".join(map(re.escape, asked.split("*")))
    return asked in (spec, spec.partition("[")[0]) or ("*" in asked and re.fullmatch(pattern, spec) is not None)


def chosen(records: Sequence[dict], kind: str, asked: Sequence[str]) -> list[dict]:
    """Records whose method, protocol or dataset (`kind`) is asked for; all where nothing is. Raises `UserError`."""
    if not asked:
        return list(records)
    field = "dataset" if kind == "dataset" else f"{kind}_spec"
    known = list(dict.fromkeys(r[field] for r in records))
    for name in asked:
        if not any(fits(spec, name) for spec in known):
            raise UserError(f"no records under {kind} {name!r}; there are: {', '.join(known)}")
    kept = {spec for spec in known if any(fits(spec, name) for name in asked)}
    return [r for r in records if r[field] in kept]


_FIRST = ("ridge-probe", "linear-probe")  # the everyday protocols


def protocols_in_order(specs: Iterable[str]) -> list[str]:
    """The everyday protocols first: a bundle has them by name, and a reader looks at what stands first."""
    places = {name: place for place, name in enumerate(_FIRST)}
    return sorted(dict.fromkeys(specs), key=lambda spec: places.get(spec.partition("[")[0], len(places)))


def chosen_rows(table: Table, asked: Sequence[str]) -> Table:
    """The table with the rows of the methods asked for; all where nothing is."""
    rows = [row for row in table.rows if not asked or any(fits(row[0][0], name) for name in asked)]
    if not rows:
        raise UserError(f"no row of {', '.join(asked)} in `{table.title}`")
    return replace(table, rows=rows)
