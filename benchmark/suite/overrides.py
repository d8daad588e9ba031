"""Stand-ins: `--override OLD=NEW` puts the spec NEW wherever a suite (or a published cell's name) says OLD.

--override 'dinov2_vitb14=mini_vit_mae' --override 'imagenet=digits' --override 'lgm[copies=3]=lgm[copies=3,steps=20]'
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ...core.errors import UserError
from ...core.params import parse_spec, split, write_spec
from ...core.registries import BACKBONES, DATASETS, METHODS, PROTOCOLS
from ...core.registry import LEAVE_ONE_OUT

SECTIONS = ("methods", "backbones", "eval_backbones", "datasets", "protocols")


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
        swapped = {**values, **{key: "+".join(map(self.swap, parts)) for key, parts in held(spec).items()}}
        if swapped == values:
            return spec
        return write_spec(name, swapped)

    def _stand_in(self, spec: str) -> str | None:
        return next((self.specs[text] for text in _names(spec) if text in self.specs), None)

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


def held(spec: str) -> dict[str, list[str]]:
    """The specs inside a spec, by the parameter that holds them; none where the plugin is not known here."""
    name, values = parse_spec(spec)
    for registry in (METHODS, BACKBONES, DATASETS, PROTOCOLS):
        if name in registry.names():
            several = registry.holding(name)
            return {
                key: split(value, "+") if several[key] else [value]
                for key, value in values.items()
                if key in several and value != LEAVE_ONE_OUT
            }
    return {}


def _mentioned(spec: str) -> set[str]:
    """Everything in a spec that can be replaced."""
    return {*_names(spec), *(text for parts in held(spec).values() for part in parts for text in _mentioned(part))}


def _halves(text: str) -> tuple[str, str]:
    depth = 0
    for index, char in enumerate(text):
        depth += (char == "[") - (char == "]")
        if char == "=" and depth == 0:
            return text[:index].strip(), text[index + 1 :].strip()
    return text.strip(), ""
