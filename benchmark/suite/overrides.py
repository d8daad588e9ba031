"""Stand-ins: `--override OLD=NEW` puts the spec NEW wherever a suite (or a published cell's name) says OLD.

--override 'dinov2_vitb14=mini_vit_mae' --override 'imagenet=digits' --override 'lgm[copies=3]=lgm[copies=3,steps=20]'
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ...core.errors import UserError
from ...core.params import parse_spec, split, write_spec
from ...core.registries import BACKBONES, DATASETS, METHODS, PROTOCOLS

SECTIONS = ("methods", "backbones", "eval_backbones", "datasets", "protocols")
HOLD_SPECS = ("also", "data", "of", "target")  # parameters that hold specs: of duet, holdout, neighbors, ssl-pretrain


@dataclass(frozen=True)
class Overrides:
    """New specs by what they replace: a whole spec as the suite writes it, or a plugin name whatever its parameters. Specs
    inside specs (`neighbors[of=lgm]`) are replaced too."""

    specs: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def parse(cls, texts: Sequence[str]) -> "Overrides":
        """From `OLD=NEW` texts; the equals sign is the first one outside brackets."""
        specs = {}
        for text in texts:
            old, new = _halves(text)
            if not old or not new:
                raise UserError(f"cannot read --override {text!r}; write OLD=NEW, both of them names or specs")
            specs[old] = new
        return cls(specs)

    def swap(self, spec: str) -> str:
        """The stand-in of `spec`, or `spec`. A whole spec goes before a name."""
        if (new := self._stand_in(spec)) is not None:
            return new
        name, values = parse_spec(spec)
        swapped = {key: self._swap_inside(key, value) for key, value in values.items()}
        if swapped == values:
            return spec
        return write_spec(name, swapped)

    def _stand_in(self, spec: str) -> str | None:
        return next((self.specs[text] for text in _names(spec) if text in self.specs), None)

    def _swap_inside(self, key: str, value: str) -> str:
        """A parameter's value with stand-ins for the specs that it holds."""
        parts = held(key, value)
        swapped = [self.swap(part) if is_spec(part) else self._stand_in(part) or part for part in parts]
        return value if swapped == parts else "+".join(swapped)

    def apply(self, suite: Mapping[str, Any]) -> dict[str, Any]:
        """The fields of a suite with stand-ins."""
        return {**suite, **{name: [self.swap(spec) for spec in specs] for name, specs in _lists(suite).items()}}

    def check(self, suites: Sequence[Mapping[str, Any]]) -> None:
        """Raise `UserError` for a stand-in of something that no suite has."""
        there = {text for suite in suites for specs in _lists(suite).values() for spec in specs for text in _mentioned(spec)}
        if idle := [old for old in self.specs if old not in there]:
            raise UserError(f"--override {idle[0]}=…: the suites have no {idle[0]!r}; they have {', '.join(sorted(there))}")

    def notes(self) -> list[str]:
        """What a table made with stand-ins says about them."""
        if not self:
            return []
        pairs = "; ".join(f"{new} stands in for {old}" for old, new in self.specs.items())
        return [f"NOT the papers' setting: {pairs}; the differences say nothing about the papers"]

    def __bool__(self) -> bool:
        return bool(self.specs)


def _lists(suite: Mapping[str, Any]) -> dict[str, list[str]]:
    return {name: suite[name] for name in SECTIONS if suite.get(name)}


def _names(spec: str) -> tuple[str, str]:
    """What a spec can be replaced by: all of it, or its name."""
    return spec, spec.partition("[")[0].strip()


def held(key: str, value: str) -> list[str]:
    """The parts of a parameter's value, joined by +, that may be specs; others use such names too, so ask `is_spec`."""
    return split(value, "+") if key in HOLD_SPECS else []


def is_spec(text: str) -> bool:
    """Whether this is a spec of something that is registered."""
    try:
        name, _ = parse_spec(text)
    except UserError:
        return False
    return any(name in registry.names() for registry in (METHODS, BACKBONES, DATASETS, PROTOCOLS))


def _mentioned(spec: str) -> set[str]:
    """Everything in a spec that can be replaced."""
    inner = [part for key, value in parse_spec(spec)[1].items() for part in held(key, value)]
    return {*_names(spec), *(text for part in inner for text in (_mentioned(part) if is_spec(part) else _names(part)))}


def _halves(text: str) -> tuple[str, str]:
    depth = 0
    for index, char in enumerate(text):
        depth += (char == "[") - (char == "]")
        if char == "=" and depth == 0:
            return text[:index].strip(), text[index + 1 :].strip()
    return text.strip(), ""
