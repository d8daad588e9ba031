"""`ddbench run`: distil and evaluate a grid, each cell in a fresh process, and print the tables."""

import argparse
import contextlib
import hashlib
import os
import re
from pathlib import Path
from typing import Any

from ..processes import CHECKPOINT_EVERY
from ..records.run_folder import check_place
from ._shared import (
    DEFAULT_DATASET,
    DEFAULT_PROTOCOLS,
    add_machine,
    add_overrides,
    add_plugins,
    check_suites,
    command,
    default_backbones,
    load_plugins,
    positive,
    seconds,
)
from .report import real_methods

RUNS = Path("results/runs")
_LONGEST_NAME = 200  # bytes; with its ending and that of a half-written file under the 255 of most file systems
GPUS = ("a100", "h100", "h200", "rtx4090")  # benchmark/dry_run/device_speed.py has their rates


def add(commands) -> None:
    parser = command(commands, "run", main, "distil, evaluate across backbones and print accuracy, speed and peak memory")
    grid = parser.add_argument_group("the grid (every option may be repeated)")
    grid.add_argument("-m", "--method", action="append", metavar="METHOD[k=v,...]", help="see `ddbench list methods`")
    grid.add_argument("-b", "--backbone", action="append", metavar="B", help="to distil with; default: the embedded zoo")
    grid.add_argument(
        "--eval-backbone",
        action="append",
        metavar="B",
        help="to evaluate on; default: the embedded zoo and -b; of a suite: its backbones",
    )
    grid.add_argument("-d", "--dataset", action="append", metavar="D", help=f"default: {DEFAULT_DATASET}")
    grid.add_argument("--ipc", action="append", type=int, metavar="N", help="images per class; default: 1")
    grid.add_argument("--protocol", action="append", metavar="P", help=f"default: {' and '.join(DEFAULT_PROTOCOLS)}")
    grid.add_argument("--seed", action="append", type=int, metavar="S", help="of distilling; default: 0")
    grid.add_argument(
        "--suite", action="append", type=Path, metavar="FILE.yaml", help="the same grid from a file; options given here win"
    )
    grid.add_argument("--no-controls", action="store_true", help="do not add the methods random and full")
    add_overrides(grid)  # type: ignore[arg-type]
    add_plugins(grid)  # type: ignore[arg-type]
    how = parser.add_argument_group("the run")
    how.add_argument("--name", help="of the run; default: from the grid")
    how.add_argument("--out", type=Path, metavar="DIR", help=f"default: {RUNS}/NAME; what is finished there is not run again")
    how.add_argument("--overwrite", action="store_true", help="run again what is finished")
    how.add_argument("--dry-run", action="store_true", help="list the cells, estimate time, memory and disk, and stop")
    how.add_argument(
        "--verbose", action="store_true", help="end with the tables of every backbone, of seconds and of memory too"
    )
    how.add_argument("--on", choices=GPUS, help="with --dry-run: hours on one such GPU, by its data sheet")
    how.add_argument("--timeout", type=seconds, metavar="S", help="seconds that one cell may take")
    how.add_argument(
        "--checkpoint-every", type=seconds, default=CHECKPOINT_EVERY, metavar="S", help="seconds, at least; default: 60"
    )
    add_machine(how)  # type: ignore[arg-type]
    how.add_argument("--nproc-per-node", type=positive, default=1, metavar="N", help="processes that distil a cell together")
    where = parser.add_argument_group("a cluster (docs/cluster.md)")
    where.add_argument(
        "--launcher", choices=("local", "ray"), default="local", help="where cells run; default: on this machine"
    )
    where.add_argument("--address", metavar="ADDRESS", help="of the Ray cluster, or auto; default: one on this machine")
    where.add_argument("--gpus-per-cell", type=positive, default=1, metavar="N", help="GPUs that distil a cell together")
    where.add_argument(
        "--cells-per-gpu", type=positive, default=1, metavar="N", help="cells on a GPU; more than 1 marks records"
    )


def main(args: argparse.Namespace) -> int:
    if int(os.environ.get("RANK", "0")):  # torchrun started this process to help the first one
        from ..processes.several_gpus import follow

        return follow()
    load_plugins(args.plugin)
    suites = suites_of(args)
    check_suites(suites)
    folders = [args.out or RUNS / suite.name for suite in suites]
    for out in folders:
        check_place(out)
    from ..processes.several_gpus import leading

    with leading(args.nproc_per_node):
        return lead(suites, folders, args)


def lead(suites: list[Any], folders: list[Path], args: argparse.Namespace) -> int:
    """Plan, run and report; the other processes, if there are any, only help to distil. All suites are planned, and all names
    of published tables known, before anything runs."""
    if args.dry_run:
        from ..dry_run.listing import dry_run

        return dry_run(suites, folders, args.device, args.on)
    from ..processes.several_gpus import check_devices
    from ..suite.plan import each_once, plan

    tables: dict[Path, list[str]] = {}
    for suite, out in zip(suites, folders, strict=True):
        tables.setdefault(out, []).extend(suite.claims)
    claims = {out: published(names) for out, names in tables.items()}
    plans = [plan(suite, device=args.device) for suite in suites]
    for suite, cells in zip(suites, plans, strict=True):
        check_devices(cells[0].device if cells else "cpu", args.nproc_per_node)
        asked = methods_asked_for(suite)
        refuse_nonsense([cell for cell in cells if cell.method_spec in asked])
    failed = [run_suite(*each, args) for each in zip(suites, plans, each_once(plans, folders), folders, strict=True)]
    for out, found in claims.items():
        if found:
            print(beside(found, out, args.override))
    return int(any(failed))


def run_suite(suite: Any, cells: list, due: list, out: Path, args: argparse.Namespace) -> bool:
    """Run the cells that are `due` and print the tables of all; whether one failed, or none of the suite's own could run."""
    from ..processes.progress import reporter
    from ..processes.runner import run_plan

    summary = run_plan(
        due,
        out,
        timeout=suite.timeout,
        device=args.device,
        threads=args.threads,
        progress=reporter(),
        plugins=args.plugin,
        overwrite=args.overwrite,
        checkpoint_every=args.checkpoint_every,
        engine=engine(args, due),
    )
    asked = methods_asked_for(suite)
    made = [record["status"] for record in report(cells, out, asked, args.verbose) if record["method_spec"] in asked]
    return summary.failed > 0 or set(made) == {"unsupported"}


def engine(args: argparse.Namespace, cells: list) -> Any:
    """Where the cells run; None: on this machine."""
    if args.launcher == "local":
        return None
    from ..processes.on_ray import RayEngine

    return RayEngine(cells[0].device if cells else "cpu", args.address, args.gpus_per_cell, args.cells_per_gpu)


def methods_asked_for(suite: Any) -> set[str]:
    """Canonical specs of the suite's methods; the controls join without being asked for."""
    from ...core.method import METHODS
    from ...core.params import spec_string

    return {spec_string(METHODS.create(spec)) for spec in suite.methods}


def refuse_nonsense(cells: list) -> None:
    """Raise `UserError` if none of these cells can run."""
    from ...core.errors import UserError

    reasons = [cell.unsupported for cell in cells]
    if all(reasons):
        raise UserError(f"nothing to run: {'; '.join(dict.fromkeys(reasons))}")


def suites_of(args: argparse.Namespace) -> list[Any]:
    """The grids: the suite files if there are any, with every option that was given in place of the files'."""
    from ...core.errors import UserError
    from ..suite import suite as config
    from ..suite.overrides import Overrides

    if args.override and not args.suite:
        raise UserError("--override replaces specs of a suite; give --suite FILE.yaml")
    if not args.method and not args.suite:
        raise UserError("name a method with -m, or a file with --suite; `ddbench list methods` shows what there is")
    judges = args.eval_backbone
    if args.backbone and not judges and not args.suite:  # the embedded backbones, and those that distil in any case
        judges = [*dict.fromkeys([*default_backbones(), *args.backbone])]
    overrides = Overrides.parse(args.override)
    bases = [found.model_dump() for found in config.load_suites(args.suite or [], overrides)] or [{}]
    given = {
        "methods": args.method,
        "backbones": args.backbone,
        "eval_backbones": judges,
        "datasets": args.dataset,
        "ipc": args.ipc,
        "protocols": args.protocol,
        "seeds": args.seed,
        "timeout": args.timeout,
        "controls": False if args.no_controls else None,
        "name": args.name,
    }
    changed = {key: value for key, value in given.items() if value is not None}
    suites = [config.suite(**{**base, **changed}) for base in bases]
    names = [s.name if args.suite or args.name else run_name(s.methods, s.datasets, s.ipc) for s in suites]
    # records of stand-ins do not belong beside those of the suite as it is written
    suffix = "-override" if overrides and not args.name else ""
    return [s.model_copy(update={"name": f"{name}{suffix}"}) for s, name in zip(suites, names, strict=True)]


def run_name(methods: list[str], datasets: list[str], ipcs: list[int]) -> str:
    """`clpdd-digits-ipc1`: plugin names and IPCs of the grid, without parameters."""
    names = [re.sub(r"[^\w.+-]+", "_", spec.partition("[")[0].strip()) for spec in (*methods, *datasets)]
    return file_name("-".join([*dict.fromkeys(names), "ipc" + "_".join(map(str, ipcs))]))


def report(cells: list, out: Path, methods: set[str], verbose: bool) -> list[dict]:
    """Print the table of this plan (all tables: `verbose`), the picture of its sets, and where everything lies; returns its
    records. `methods` were asked for, the others are controls."""
    from ..records.records import load_records
    from ..records.regression import cell_name
    from ..report import render
    from ..report.first import first
    from ..report.tables import tables

    asked = {evaluation.config_hash for cell in cells for evaluation in cell.evaluations}
    records = [record for record in load_records([out]) if record["config_hash"] in asked]
    if records:
        print(first(records, sorted(methods), real_methods(records)))
    for metric in ("top1", "seconds", "memory") if verbose else ():
        print(render.text(tables(records, metric)))
    for reason in dict.fromkeys(r["reason"] for r in records if r["status"] == "unsupported"):
        print(f"UNSUPPORTED  {reason}")
    for record in records:
        if record["status"] not in ("ok", "unsupported"):
            log = out / "logs" / f"{record['cell_hash']}.log"
            print(f"{record['status'].upper()}  {cell_name(record)}: {record['reason']} (log: {log})")
    try:
        for picture in pictures(cells, out):
            print(f"picture: {picture}")
    except OSError as error:  # everything else is there
        print(f"no picture: {error.strerror or error}")
    if not verbose:
        print(f"every backbone: ddbench table {out}, or run --verbose; a page to look at: ddbench report {out}")
    print(f"records: {out / 'records.jsonl'}")
    return records


def published(tables: list[str]) -> list:
    """The claims of the published tables that a suite reproduces."""
    if not tables:
        return []
    from ..published.claim import chosen_tables, read_claims, shipped

    return chosen_tables(read_claims(shipped()), tables)


def beside(claims: list, out: Path, overrides: list[str]) -> str:
    """The claims beside what `out` holds."""
    from ..published import table as claims_table
    from ..published.against import against
    from ..published.paper_names import Names
    from ..records.records import load_records
    from ..suite.overrides import Overrides

    names = Names.read(overrides=Overrides.parse(overrides))
    return claims_table.text(against(claims, load_records([out]), names), names.notes(claims))


def file_name(text: str) -> str:
    """`text` as a name that every file system takes; what is too long ends in a hash."""
    name = re.sub(r"[^\w.+-]+", "_", text).strip("_")
    if len(name.encode()) <= _LONGEST_NAME:
        return name
    kept = name.encode()[: _LONGEST_NAME - 9].decode(errors="ignore")
    return f"{kept}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def pictures(cells: list, out: Path) -> list[Path]:
    """One PNG per dataset and IPC with the sets of its first seed; sets that only refer to the data are left out."""
    from ...core.errors import UserError
    from ...core.sets import DistilledSet
    from ..report.gallery import gallery
    from ..report.names import short_names

    specs = [spec for cell in cells for spec in (cell.method_spec, cell.distill_backbone, cell.dataset) if spec]
    names, _ = short_names(specs)
    grouped: dict[tuple, list] = {}
    for cell in cells:
        folder = cell.set_in(out)
        if cell.ipc is not None and folder.is_dir():
            sets = grouped.setdefault((cell.dataset, cell.ipc, cell.distill_seed), [])
            with contextlib.suppress(UserError):
                dset = DistilledSet.load(folder)
                backbone = cell.display.get(cell.distill_backbone) or names.get(cell.distill_backbone, "")
                diverged = "(diverged)" if "diverged" in dset.provenance else ""
                sets.append((" ".join(filter(None, [names[cell.method_spec], backbone, diverged])), dset))
    drawn = {}
    for (dataset, ipc, seed), sets in grouped.items():
        if sets and (dataset, ipc) not in drawn:
            name = file_name(f"gallery-{dataset}-ipc{ipc}")
            drawn[dataset, ipc] = gallery(sets, out / f"{name}.png", f"{names[dataset]}, IPC {ipc}, seed {seed}")
    return list(drawn.values())
