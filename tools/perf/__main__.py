"""Speed and memory of methods, feature extraction and probes, each case in a fresh process.

    make perf                                              mini backbones on the CPU, minutes
    make perf-gpu                                          ViT-B/16 and DINOv2 ViT-B/14 on one GPU, at most 10 minutes
    python -m perf --cases scaling --out results/runs/perf-scaling --budget-seconds 1200

Writes one JSON object per case to OUT/rows.jsonl and what the processes said to OUT/log.txt, and prints a table last, with the
targets under it. A case that fails, crashes or runs out of memory is a row with its reason; what the budget leaves out is
listed as `not run`.
Utilisation is counted operations per second over those of a large matrix product in the same precision (the first case); on
the CPU both are per CPU second, so that other work on the machine does not count.
"""

import argparse
import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from ddbench.benchmark.machine.environment import environment
from ddbench.benchmark.machine.measure import clock, now
from ddbench.benchmark.machine.outcome import classify_exit
from ddbench.benchmark.processes.launcher import slots

from . import targets
from .cases import PROFILES, Case, short

Row = dict[str, Any]
TOOLS = Path(__file__).resolve().parents[1]
_MIB = 2**20
_LEAST = 15.0  # seconds of budget below which no further case is started: a process and its backbone need as much
_LONGEST = 200.0  # seconds that one case may take, so that one that hangs leaves something to the others
_KINDS = {"plain": "whole batch,", **{kind: kind for kind in ("features", "launch", "ceiling", "decode")}}  # before the spec
_NOTE = "random images, banked features and labels, and random weights of timm networks: cost does not depend on them"


def main(argv: Sequence[str] | None = None) -> None:
    args = _arguments(argv)
    args.out.mkdir(parents=True, exist_ok=True)
    device = torch.device(args.device)
    facts = {"cases": args.cases, "device": args.device, "started": now(), "environment": environment(device), "note": _NOTE}
    (args.out / "environment.json").write_text(json.dumps(facts, indent=1) + "\n")
    rows = run(PROFILES[args.cases], args)
    table = render(rows, facts)
    (args.out / "table.md").write_text(table + "\n")
    print(table)


def run(cases: Sequence[Case], args: argparse.Namespace) -> list[Row]:
    """All cases that fit into the budget, one after the other, each stored as soon as it is there.

    Beside a GPU the next process starts and imports meanwhile, and waits; cores that are measured themselves are left alone.
    """
    deadline, full, rows = clock() + args.budget_seconds, None, []
    rate = "flops_per_second" if args.device == "cuda" else "flops_per_cpu_second"
    early: subprocess.Popen[str] | None = None
    whole = args.out / "log.txt"
    logs = [args.out / f"log-{number}.txt" for number, _ in enumerate(cases, 1)]
    with (args.out / "rows.jsonl").open("w") as stored, joined(logs, whole):
        for number, case in enumerate(cases, 1):
            left = deadline - clock()
            if left < min(_LEAST, args.budget_seconds / 2):
                found: Row = {"status": "not run", "reason": f"the budget of {args.budget_seconds:g} s was used up"}
            else:
                print(f"[{number}/{len(cases)}] {case.title}", file=sys.stderr, flush=True)
                following = args.device == "cuda" and number < len(cases)
                process = early or start(case, args.device, logs[number - 1])
                early = start(cases[number], args.device, logs[number]) if following else None
                found = in_fresh_process(process, case, args.device, args.threads, min(left, _LONGEST), whole)
            if case.kind == "product":
                full = found.get(rate)
            elif full and rate in found:
                found["utilisation"] = found[rate] / full
            rows.append({**asdict(case), **found})
            stored.write(json.dumps(rows[-1]) + "\n")
            stored.flush()
        if early is not None:
            early.kill()
            early.communicate()
    return rows


@contextlib.contextmanager
def joined(parts: Sequence[Path], whole: Path) -> Iterator[None]:
    """Afterwards, `whole` holds those parts that there are, whatever happened, and the parts are gone."""
    whole.unlink(missing_ok=True)
    try:
        yield
    finally:
        there = [part for part in parts if part.exists()]
        whole.write_text("\n".join(part.read_text() for part in there))
        for part in there:
            part.unlink()


def start(case: Case, device: str, log: Path) -> "subprocess.Popen[str]":
    """A process for one case, which waits for its job before it touches the device; what it says goes to a log of its own,
    since two of them may be there at a time."""
    path = os.pathsep.join([str(TOOLS), *filter(None, [os.environ.get("PYTHONPATH")])])
    variables = {
        **os.environ,
        "PYTHONPATH": path,
        **slots(device)[0].environment,
        **({"DDBENCH_COMPILE": "1"} if case.compiled else {}),
    }
    command = [sys.executable, "-P", "-m", "perf.measure_case"]
    pipe = subprocess.PIPE
    log.write_text(f"{case.title}\n")
    with log.open("a") as said:
        return subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=said, text=True, env=variables)


def in_fresh_process(
    process: "subprocess.Popen[str]", case: Case, device: str, threads: int | None, timeout: float, log: Path
) -> Row:
    """The row of one case; whatever ends its process without one becomes its reason."""
    job = json.dumps({"case": asdict(case), "device": device, "threads": threads})
    try:
        printed, _ = process.communicate(job, timeout)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        return {"status": "timeout", "reason": f"took longer than the {timeout:.0f} s that it was given"}
    lines = printed.splitlines()
    if process.returncode or not lines:
        status, reason = classify_exit(process.returncode, str(log))
        return {"status": status, "reason": reason}
    return json.loads(lines[-1])


def render(rows: Sequence[Row], facts: Row) -> str:
    """The table in Markdown, under what it was measured with; failed and left-out cases last."""
    where = facts["environment"]
    machine = where["gpu"] or f"{where['cpu']}, {rows[0].get('threads')} threads of {where['cores_usable']} cores"
    lines = [f"{machine}, torch {where['torch_version']}, {facts['started'][:10]}; {_NOTE}"]
    if where["gpu"] is None:
        lines.append(f"load average {where['load_average']:.1f} at the start: above 1, other work shared the cores")
    products = [row for row in rows if row["kind"] == "product" and row["status"] == "ok"]
    rate = "flops_per_second" if where["gpu"] else "flops_per_cpu_second"
    unit = "TFLOP/s" if where["gpu"] else "TFLOP per CPU second"
    lines += [f"matrix product, {row['dtype']}: {row[rate] / 1e12:.3g} {unit}" for row in products]
    head = (
        "case",
        "backbone",
        "classes",
        "IPC",
        "chunk",
        "seconds",
        "CPU s",
        "images/s",
        "GFLOP",
        "util.",
        "peak MiB",
        "reserved",
    )
    lines += ["", "| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    measured = [row for row in rows if row["status"] == "ok" and row["kind"] != "product"]
    lines += ["| " + " | ".join(_cells(row)) + " |" for row in measured]
    lines += [f"\n{row['status']}: {Case(**_case(row)).title}: {row['reason']}" for row in rows if row["status"] != "ok"]
    return "\n".join([*lines, "", *targets.lines(rows)])


def _cells(row: Row) -> list[str]:
    peak, chunks = row["peak_bytes"], row.get("chunks") or []
    on_gpu = peak["gpu_allocated"] is not None
    memory = peak["gpu_allocated"] if on_gpu else (peak["cpu_rss"] or 0) - row.get("base_bytes", 0)
    return [
        " ".join(filter(None, [_KINDS.get(row["kind"]), row["spec"], "(compiled)" if row["compiled"] else ""])),
        short(row["backbone"]),
        str(row["classes"]),
        str(row["ipc"]),
        ">".join(map(str, chunks)),
        _number(row.get("seconds"), "{:.3g}"),
        _number(row.get("cpu_seconds"), "{:.3g}"),
        _number(row.get("images_per_second"), "{:.0f}"),
        _number(row.get("flops"), "{:.4g}", 1e9),
        _number(row.get("utilisation"), "{:.0%}"),
        _number(memory, "{:.0f}", _MIB),
        _number(peak["gpu_reserved"], "{:.0f}", _MIB),
    ]


def _number(value: float | None, form: str, unit: float = 1) -> str:
    return "" if value is None else form.format(value / unit)


def _case(row: Row) -> Row:
    return {name: row[name] for name in Case.__dataclass_fields__}


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--cases", choices=sorted(PROFILES), default="gpu" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--out", type=Path, help="default: results/runs/perf-CASES")
    parser.add_argument("--budget-seconds", type=float, default=540)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, help="CPU threads of each process")
    args = parser.parse_args(argv)
    if args.device == "cuda" and not torch.cuda.is_available():
        parser.error("torch finds no CUDA device here; `--device cpu` measures the same cases on the CPU")
    args.out = args.out or Path("results/runs") / f"perf-{args.cases}"
    return args


if __name__ == "__main__":
    main()
