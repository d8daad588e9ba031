"""How many evaluations of a run ended how."""

from dataclasses import dataclass, field
from typing import Any


@dataclass
class RunSummary:
    """Numbers of evaluations: finished now, skipped because they were there, without sense, failed."""

    done: int = 0
    skipped: int = 0
    unsupported: int = 0
    failed: int = 0
    failures: list[dict[str, Any]] = field(default_factory=list)  # the records that are neither ok nor unsupported

    def count(self, record: dict[str, Any]) -> None:
        if record["status"] == "ok":
            self.done += 1
        elif record["status"] == "unsupported":
            self.unsupported += 1
        else:
            self.failed += 1
            self.failures.append(record)
