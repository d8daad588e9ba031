"""What was measured of one distilled set: the record fields that all its evaluations share, and that lie beside the set."""

from dataclasses import asdict, dataclass, field, fields
from typing import Any


def _no_peaks() -> dict[str, int | None]:
    return {"gpu_allocated": None, "gpu_reserved": None, "cpu_rss": None}


@dataclass
class SetFacts:
    """Measured while the set was made; the defaults are those of a set that was not. Seconds add up over all processes that
    worked on it, bytes are peaks over them."""

    n_images: int | None = None
    labels_of: str | None = None  # whose labels they are, where the method reads none
    seconds: dict[str, float] = field(default_factory=dict)  # by phase: features, distill, checkpoint; warmup
    features_seconds_cold: float | None = None  # of the real features that the method asked for, when nothing was cached
    features_seconds_warm: float | None = None
    features_peak_bytes: dict[str, int | None] | None = None
    features_cached: bool | None = None
    steps: int | None = None
    steps_per_second: float | None = None  # after the first step
    images_per_second: float | None = None
    chunks: list[int] | None = None  # views per backbone pass, every size used
    peak_bytes: dict[str, int | None] = field(default_factory=_no_peaks)  # while distilling
    peak_bytes_by_phase: dict[str, Any] = field(default_factory=dict)
    base_bytes: dict[str, int | None] = field(default_factory=lambda: {"cpu_rss": None})  # before distilling
    set_fingerprint: str | None = None
    # sets of other cells that were taken instead of made again: method_spec, cell_hash, seconds (which `seconds` above
    # includes) and environment
    taken_sets: list[dict[str, Any]] = field(default_factory=list)
    resumed_at: list[int] = field(default_factory=list)  # steps
    checkpoint_note: str | None = None
    device_shared: bool | None = None  # whether another run was seen on the device
    distill_reused: bool = False  # taken from the run folder
    distill_environment: dict[str, Any] | None = None  # of the process that made it, where that was another one

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, facts: dict[str, Any]) -> "SetFacts":
        """Of facts that lie beside a set; names that this version does not know are left out."""
        known = {each.name for each in fields(cls)}
        return cls(**{name: value for name, value in facts.items() if name in known})
