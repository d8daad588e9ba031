"""Stand-ins: `--override OLD=NEW` puts the spec NEW wherever a suite (or a published cell's name) says OLD.

--override 'dinov2_vitb14=mini_vit_mae' --override 'imagenet=digits' --override 'lgm[copies=3]=lgm[copies=3,steps=20]'
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..core.errors import UserError

SECTIONS = ("methods", "backbones", "eval_backbones", "datasets", "protocols")


@dataclass(frozen=True)
class Overrides:
    """New specs by what they replace: a whole spec as the suite writes it, or a plugin name whatever its parameters."""

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
        return self.specs.get(spec) or self.specs.get(spec.partition("[")[0].strip()) or spec

    def apply(self, suite: Mapping[str, Any]) -> dict[str, Any]:
        """The fields of a suite with stand-ins. Raises `UserError` for one that stands in for nothing."""
        lists = {name: suite[name] for name in SECTIONS if suite.get(name)}
        there = {text for specs in lists.values() for spec in specs for text in (spec, spec.partition("[")[0].strip())}
        if idle := [old for old in self.specs if old not in there]:
            raise UserError(f"--override {idle[0]}=…: the suite has no {idle[0]!r}; it has {', '.join(sorted(there))}")
        return {**suite, **{name: [self.swap(spec) for spec in specs] for name, specs in lists.items()}}

    def notes(self) -> list[str]:
        """What a table made with stand-ins says about them."""
        if not self:
            return []
        pairs = "; ".join(f"{new} stands in for {old}" for old, new in self.specs.items())
        return [f"NOT the papers' setting: {pairs}; the differences say nothing about the papers"]

    def __bool__(self) -> bool:
        return bool(self.specs)


def _halves(text: str) -> tuple[str, str]:
    depth = 0
    for index, char in enumerate(text):
        depth += (char == "[") - (char == "]")
        if char == "=" and depth == 0:
            return text[:index].strip(), text[index + 1 :].strip()
    return text.strip(), ""
