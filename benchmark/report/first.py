"""What a run ends with: one table with a row per method, and a sentence that says what it shows."""

from collections.abc import Sequence

from ..records.own_and_transfer import with_partners
from . import render
from .rows import ceilings, frame_of
from .tables import tables
from .value import Table


def first(records: Sequence[dict], asked: Sequence[str], real: Sequence[str] = ()) -> str:
    """Per dataset and IPC: methods with own and transfer accuracy per protocol, seconds and memory; below it the sentence about
    the best of the methods `asked` for (specs), the others being controls. `real`: names of methods that pick real images."""
    shown = with_partners(records)
    asked = [new["method_spec"] for old, new in zip(records, shown, strict=True) if old["method_spec"] in asked]
    records = shown
    return "\n".join(f"{render.text([table])}{sentence(table, records, asked, real)}" for table in tables(records, "summary"))


def sentence(table: Table, records: Sequence[dict], asked: Sequence[str], real: Sequence[str] = ()) -> str:
    """`10 images of clpdd: 84.3 % on the backbone that distilled them, ...`, with the best real images and the controls beside
    it; empty where no method asked for has a number."""
    dataset, ipc = table.facts["dataset"], table.facts["ipc"]
    here = [r for r in records if r["dataset"] == dataset and r["ipc"] in (ipc, None)]
    sizes = {r["method_spec"]: r["n_images"] for r in here if r["status"] == "ok"}
    tops = ceilings(frame_of(here))
    column = next((c for c in range(len(table.columns)) if table.columns[c].endswith(" own")), None)
    if column is None or ipc is None:
        return ""
    protocol = table.columns[column].removesuffix(" own")
    numbers = {label: (values[column].mean, values[column + 1].mean) for label, values in table.rows}
    found = {label: pair for label, pair in numbers.items() if pair[0] is not None}
    judged = [label for label in found if label[0] in asked and label not in tops]
    picked = [label for label in judged if label[0].partition("[")[0] in real]
    if not judged:
        return ""
    best = _best([label for label in judged if label not in picked] or judged, found)
    names, _ = render.shown_names(table)
    own, transfer = found[best]
    parts = [f"{sizes[best[0]]:,} images of {names[best[0]]}: {own:.1f} %"]
    if transfer is not None:
        parts[0] += f" on the backbone that distilled them, {transfer:.1f} % on the others"
    controls = [label for label in found if label[0] not in asked or label in tops]
    if beside := [label for label in picked if label != best]:
        controls.insert(0, _best(beside, found))
    for label in controls:
        own, transfer = found[label]
        parts.append(f"{names[label[0]]} ({sizes[label[0]]:,} images) {own:.1f} %")
        if transfer is not None:
            parts[-1] += f", {transfer:.1f} % on the others"
    return f"\n  {protocol}: {'; '.join(parts)}\n"


def _best(labels: Sequence[tuple[str, str]], found: dict[tuple[str, str], tuple]) -> tuple[str, str]:
    return max(labels, key=lambda label: found[label][0] or 0.0)
