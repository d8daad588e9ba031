"""Sets of several distil backbones (`duet[also=...]`): who took part, so that `own` and `transfer` say what they say elsewhere.

A record names one distil backbone; the others stand in its method's parameters. Tables have them all as the distil backbone,
`a+b+c` (the one that picked the starting images first), and the method without them, `duet[also=2 others]`: sets of as many
backbones are rows of one method, and only a backbone that took no part counts as transfer.
"""

from collections.abc import Iterable
from functools import cache
from typing import Any

from ...core.params import parse_spec, split, write_spec
from ...core.registries import METHODS


def with_partners(records: Iterable[dict]) -> list[dict]:
    """The records, those of sets of several backbones with their names as tables have them; what it gave stays as it is."""
    return [_named(r) if _holders(r["method"]) else r for r in records]


def is_own(record: dict) -> bool:
    """Whether a set is judged on a backbone that distilled it."""
    return took_part(with_partners([record])[0]["distill_backbone"], record["eval_backbone"])


def took_part(distil: Any, judge: str | None) -> bool:
    """Whether the eval backbone is one of those that distilled."""
    return isinstance(distil, str) and (judge == distil or judge in distillers(distil))  # a frame has nan for none


@cache
def distillers(distil: str) -> list[str]:
    """`a+b+c` -> its backbones."""
    return split(distil, "+")


def _named(record: dict) -> dict:
    others = {key: split(str(value), "+") for key in _holders(record["method"]) if (value := record["params"].get(key))}
    others = {key: specs for key, specs in others.items() if specs and record["distill_backbone"]}
    if not others:
        return record
    name, values = parse_spec(record["method_spec"])
    values |= {key: f"{len(specs)} other{'s' * (len(specs) > 1)}" for key, specs in others.items()}
    everyone = list(dict.fromkeys([record["distill_backbone"], *(spec for specs in others.values() for spec in specs)]))
    spec = write_spec(name, values)
    return {
        **record,
        "method_spec": spec,
        "display": {**(record.get("display") or {}), spec: f"{name}, {len(everyone)} backbones"},
        "distill_backbone": "+".join(everyone),
        "params": {**record["params"], **dict.fromkeys(others)},
    }


@cache
def _holders(method: str) -> tuple[str, ...]:
    """The parameters of a method that hold further backbones; none of a plugin that is not loaded."""
    return tuple(METHODS.holding(method, "backbone")) if method in METHODS.names() else ()
