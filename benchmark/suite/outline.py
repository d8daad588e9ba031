"""The cells of a suite by their specs alone: nothing is loaded, so that a suite can be looked at before its data is here."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ...core.backbone import BACKBONES
from ...core.data import DATASETS
from ...core.method import METHODS, PROTOCOLS, Method, Protocol
from ...core.params import spec_string
from .plan import grid, with_controls
from .suite import Suite

Key = tuple[Any, ...]


@dataclass(frozen=True)
class Outline:
    """One distillation and its evaluations, by canonical specs."""

    method: Method
    distil: str | None
    dataset: str
    ipc: int | None
    seed: int
    evaluations: tuple[tuple[Protocol, str | None], ...]  # protocol, eval backbone
    timeout: float | None = None  # seconds that the suite gives it
    stored: bool = False  # the set is there, from an evaluation that is done

    @property
    def label(self) -> str:
        """As the label of a `Cell`."""
        budget = None if self.ipc is None else f"ipc {self.ipc}"
        parts = filter(None, [spec_string(self.method), self.distil, self.dataset, budget])
        return " · ".join([*parts, f"seed {self.seed}"])

    @property
    def key(self) -> Key:
        """What tells one distillation from another."""
        return (spec_string(self.method), self.distil, self.dataset, self.ipc, self.seed)

    def evaluation_keys(self) -> list[Key]:
        """What tells one evaluation from another, as `record_keys` reads it from a record."""
        return [(*self.key, spec_string(protocol), judge) for protocol, judge in self.evaluations]

    def joined(self, other: "Outline") -> "Outline":
        """This outline with the evaluations of another one of the same distillation, too."""
        keys, evaluations = self.evaluation_keys() + other.evaluation_keys(), self.evaluations + other.evaluations
        return replace(self, evaluations=tuple(dict(zip(keys, evaluations, strict=True)).values()))

    def left(self, done: Collection[Key]) -> "Outline":
        """This outline without the evaluations that are done."""
        pairs = zip(self.evaluations, self.evaluation_keys(), strict=True)
        left = tuple(evaluation for evaluation, key in pairs if key not in done)
        return replace(self, evaluations=left, stored=len(left) < len(self.evaluations))


def outline(suite: Suite) -> list[Outline]:
    """The cells of a suite in the order of `plan`. Raises `UserError` for unknown names and wrong parameters."""
    methods = [METHODS.create(spec) for spec in with_controls(suite)]
    protocols = [PROTOCOLS.create(spec) for spec in suite.protocols]
    distillers = list(dict.fromkeys(spec_string(BACKBONES.create(spec)) for spec in suite.backbones))
    judging = suite.eval_backbones or suite.backbones
    judges = list(dict.fromkeys(spec_string(BACKBONES.create(spec)) for spec in judging))
    found = []
    for dataset in dict.fromkeys(spec_string(DATASETS.create(spec)) for spec in suite.datasets):
        for seed, ipc, method, distil in grid(suite, methods, distillers):
            seen = [judge for judge in judges if suite.transfer or distil in (None, judge)]
            bound = [(protocol, judge) for judge in seen for protocol in protocols if protocol.uses_backbone]
            unbound = [(protocol, None) for protocol in protocols if not protocol.uses_backbone]
            found.append(Outline(method, distil, dataset, ipc, seed, (*bound, *unbound), suite.timeout))
    return found


def record_keys(records: Sequence[dict[str, Any]]) -> set[Key]:
    """The evaluations that finished records are of."""
    names = ("method_spec", "distill_backbone", "dataset", "ipc", "distill_seed", "protocol_spec", "eval_backbone")
    return {tuple(r[name] for name in names) for r in records if r["status"] in ("ok", "unsupported")}
