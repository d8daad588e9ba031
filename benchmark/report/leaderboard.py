"""`ddbench report BUNDLES... --leaderboard -o site/`: one page of all that was shared, and the bundles it links to."""

import shutil
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ...core.errors import UserError
from ..records.own_and_transfer import with_partners
from .conditions import conditions
from .names import display_names, short_names
from .page import judging_protocols, rendered
from .rows import frame_of
from .tables import check_together, tables
from .value import Table, Value


def leaderboard(
    bundles: Mapping[Path, Sequence[dict]],
    records: Sequence[dict],
    out: Path,
    claimed: Sequence[Mapping[str, str]] = (),
    title: str = "ddbench leaderboard",
) -> int:
    """Write OUT/index.html and OUT/bundles/; returns the number of rows. `records`: those of all bundles.

    Raises `UserError` where records of different bundles cannot be compared, or two bundles have one name.
    """
    if len({file.name for file in bundles}) < len(bundles):
        raise UserError("two bundles have the same file name; rename one, the leaderboard links to them by it")
    records = with_partners(records)
    check_together(frame_of(records))
    fields = ("method_spec", "dataset", "protocol_spec")
    names, legend = short_names([r[name] for name in fields for r in records], display_names(records))
    held: dict[tuple, dict[str, None]] = defaultdict(dict)  # bundles by method, dataset, IPC; in order
    for file, inside in bundles.items():
        for r in with_partners(inside):
            held[r["method_spec"], r["dataset"], r["ipc"]][file.name] = None
    # the full data stand in the table of every IPC, and here once
    found = [row for table in tables(records, "summary") for row in _rows(table, records, names, held)]
    rows = list({(row["method"], row["dataset"], row["ipc"], row["protocol"]): row for row in found}.values())
    text = rendered(
        "leaderboard.html.j2", ["table.js"], title=title, rows=rows, claimed=claimed, legend=legend, count=len(records),
        bundles=len(bundles), conditions=conditions(frame_of(records), timed=True),
    )  # fmt: skip
    try:
        (out / "bundles").mkdir(parents=True, exist_ok=True)
        (out / "index.html").write_text(text, encoding="utf-8")
        for file in bundles:
            shutil.copyfile(file, out / "bundles" / file.name)
    except OSError as error:
        raise UserError(f"cannot write to {out}: {error.strerror}; choose another -o") from None
    return len(rows)


def _rows(
    table: Table, records: Sequence[dict], names: Mapping[str, str], held: Mapping[tuple, Mapping[str, None]]
) -> list[dict[str, Any]]:
    """A row per method and protocol of a summary table, best first."""
    dataset, ipc = table.facts["dataset"], table.facts["ipc"]
    rows = []
    for protocol in judging_protocols(table):
        own, transfer, seconds, memory = (
            table.columns.index(name) for name in (f"{protocol} own", f"{protocol} transfer", "distil s", "peak MiB")
        )
        of_protocol = []
        for (method, _), values in table.rows:
            here = [r for r in records if (r["method_spec"], r["dataset"]) == (method, dataset) and r["ipc"] in (ipc, None)]
            if not here:
                raise LookupError(f"no records of {method}, which is a row of {dataset}; name them as its tables do")
            mine = [r for r in here if r["protocol_spec"] == protocol]
            if not mine:  # not judged under this protocol
                continue
            of_protocol.append(
                {
                    "method": names[method],
                    "dataset": names[dataset],
                    "ipc": mine[0]["ipc"],
                    "protocol": names[protocol],
                    "own": values[own],
                    "transfer": values[transfer],
                    "seconds": values[seconds],
                    "memory": values[memory],
                    "n": values[own].n,
                    "backbones": len({r["eval_backbone"] for r in mine}),
                    "machine": ", ".join(dict.fromkeys(_machine(r) for r in mine)),
                    "bundles": list(held[method, dataset, mine[0]["ipc"]]),
                }
            )
        rows += sorted(of_protocol, key=lambda row: -_mean(row["own"]))
    return rows


def _machine(record: dict) -> str:
    """Where its set was distilled, which the seconds are of."""
    environment = record.get("distill_environment") or record["environment"] or {}
    return str(environment.get("gpu") or environment.get("cpu") or "unknown")


def _mean(value: Value) -> float:
    return float("-inf") if value.mean is None else value.mean
