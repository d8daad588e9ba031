"""`ddbench report`: one HTML file with charts, tables and images, that opens from disk and asks nobody for anything.

A strict Content-Security-Policy stands in the page: script and style are those of the page, by their hashes; images are in it.
"""

import base64
import hashlib
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...core.errors import UserError
from ..records.own_and_transfer import with_partners
from . import page_charts as charts
from .choose import protocols_in_order
from .conditions import conditions
from .escape import plain
from .names import display_names, short_names, slug
from .render import without_prefix
from .rows import ceilings, frame_of, nested
from .tables import tables
from .value import MISSING, Table, Value

ASSETS = Path(__file__).with_name("assets")
_ALL = "all images"
FLOOR = "random"  # the control that stands in every suite; drawn as a line


@dataclass
class Picture:
    """A distilled image with what is beside it."""

    label: str
    image: str  # data: URI
    nearest: str | None = None  # of the nearest real image of its class


@dataclass
class Strip:
    """The images of one set."""

    method: str
    backbone: str
    dataset: str
    ipc: int | None
    seed: int
    pictures: list[Picture] = field(default_factory=list)
    note: str = ""


@dataclass
class Curve:
    """Loss over steps of one set."""

    method: str
    name: str
    points: list[tuple[float, float]]


def page(
    records: Sequence[dict],
    *,
    real_methods: Sequence[str] = (),
    strips: Sequence[Strip] = (),
    curves: Sequence[Curve] = (),
    claimed: Sequence[Mapping[str, str]] = (),
    notes: Sequence[str] = (),
    title: str = "ddbench report",
) -> str:
    """The whole page. `real_methods`: names of methods that pick real images. Raises `UserError` without jinja2 or records."""
    as_run, records = records, with_partners(records)
    finished = [r for r in records if r["status"] == "ok"]
    if not finished:
        raise UserError("no finished cell; there is nothing to report")
    specs = [r[name] for r in records for name in ("method_spec", "distill_backbone", "eval_backbone") if r[name]]
    places = [r[name] for r in records for name in ("dataset", "protocol_spec")]
    names, legend = short_names([*specs, *places], display_names(records))
    order = protocols_in_order(r["protocol_spec"] for r in records)
    built = sorted(tables(records), key=lambda table: order.index(table.facts["protocols"][0]["spec"]))
    views = [_view(table, records, names, real_methods) for table in tables(records, "summary")]
    return rendered(
        "page.html.j2",
        ("table.js", "page.js"),
        title=title,
        views=[view for view in views if view["charts"]],
        sentence=next((view["charts"][0]["sentence"] for view in views if view["charts"]), ""),
        rows=_rows(built, records, names),
        heatmaps=_heatmaps(built, records, names, real_methods),
        curves=_curve_charts(curves),
        strips=strips,
        claimed=claimed,
        failed=_failed(records, names),
        environments=_environments(finished),
        commands=_commands(as_run, records, names),
        legend=legend,
        notes=notes,
        conditions=conditions(frame_of(finished), timed=True),
        count=len(records),
    )


def rendered(template: str, scripts: Sequence[str], **values: Any) -> str:
    """A page of `assets/`, with the style sheet and the scripts in it and allowed by their hashes alone."""
    try:
        from jinja2 import Environment, FileSystemLoader, StrictUndefined
    except ImportError:
        raise UserError("ddbench report needs jinja2: pip install 'ddbench[report]'") from None
    style = (ASSETS / "page.css").read_text(encoding="utf-8")
    script = "".join((ASSETS / name).read_text(encoding="utf-8") for name in scripts)
    environment = Environment(loader=FileSystemLoader(ASSETS), autoescape=True, undefined=StrictUndefined)
    environment.filters["plain"] = plain
    hashes = {"style": _hash(style), "script": _hash(script)}
    return environment.get_template(template).render(style=style, script=script, hashes=hashes, **values)


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _view(table: Table, records: Sequence[dict], names: Mapping[str, str], real_methods: Sequence[str]) -> dict[str, Any]:
    """The first chart of one dataset and IPC, per protocol."""
    dataset, ipc = table.facts["dataset"], table.facts["ipc"]
    place = f"{names.get(dataset, dataset)}, {'all images' if ipc is None else f'{ipc} per class'}"
    judged = judging_protocols(table)
    drawn = []
    for protocol in judged:
        points, lines = paper_points(table, records, names, real_methods, protocol)
        if not points:
            continue
        drawn.append(
            {
                "protocol": names[protocol],
                "wide": charts.pareto(points, lines, charts.WIDE),
                "narrow": charts.pareto(points, lines, charts.NARROW),
                "sentence": _sentence(place, names[protocol], points, lines),
            }
        )
    return {"id": slug(place) or "view", "place": place, "charts": drawn}


def judging_protocols(table: Table) -> list[str]:
    """Protocols of a summary that judge on backbones, the everyday ones first."""
    specs = protocols_in_order(p["spec"] for p in table.facts["protocols"])
    return [spec for spec in specs if f"{spec} own" in table.columns]


def paper_points(
    table: Table, records: Sequence[dict], names: Mapping[str, str], real_methods: Sequence[str], protocol: str
) -> tuple[list[charts.Point], list[tuple[str, float]]]:
    """Of a summary table under one protocol: a point per method, and the levels of the controls that stand as lines."""
    if f"{protocol} own" not in table.columns:
        raise UserError(f"no own accuracy under {protocol!r} in `{table.title}`")
    kinds = {r["method_spec"]: r["method"] for r in records}
    tops = ceilings(frame_of([r for r in records if r["dataset"] == table.facts["dataset"]]))
    columns = [table.columns.index(name) for name in (f"{protocol} own", f"{protocol} transfer", "distil s")]
    points, lines = [], []
    for label, values in table.rows:
        own, transfer, seconds = (values[c] for c in columns)
        if label in tops or kinds[label[0]] == FLOOR:
            lines.append((_ALL if label in tops else names[label[0]], own.mean))
        elif own.mean is not None or transfer.mean is not None:
            real = kinds[label[0]] in real_methods
            about = _detail(own, transfer, seconds)
            points.append(charts.Point(names[label[0]], seconds.mean or 0.0, own.mean, transfer.mean, real, about))
    return points, [(name, value) for name, value in lines if value is not None]


def _detail(own: Value, transfer: Value, seconds: Value) -> str:
    return f"own {own.text(spread='ci')} %, transfer {transfer.text(spread='ci')} %, {seconds.text()} s"


def _sentence(place: str, protocol: str, points: Sequence[charts.Point], lines: Sequence[tuple[str, float]]) -> str:
    """What the chart answers, in words."""
    best = max((p for p in points if p.own is not None), key=lambda p: p.own or 0, default=None)
    moved = max((p for p in points if p.transfer is not None), key=lambda p: p.transfer or 0, default=None)
    parts = []
    if best is not None:
        parts.append(
            f"{best.name} reaches {best.own:.1f} % on the backbone that distilled, in {_duration(best.seconds)} per set"
        )
    if moved is not None:
        parts.append(f"{moved.name} is best on other backbones with {moved.transfer:.1f} %")
    parts += [f"{name if name == _ALL else f'{name} images'} have {value:.1f} %" for name, value in lines]
    return f"{place}, {protocol}: " + "; ".join(parts) + "."


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _rows(built: Sequence[Table], records: Sequence[dict], names: Mapping[str, str]) -> list[dict[str, Any]]:
    """One row per method, distil backbone, dataset, IPC, protocol and own or transfer."""
    costs = _costs(records)
    rows = []
    for table in built:
        facts = table.facts
        for (method, backbone), values in table.rows:
            if backbone.startswith("mean of"):
                continue
            cells = dict(zip(table.columns, values, strict=True))
            cost = costs.get((method, None if backbone == MISSING else backbone, facts["dataset"], facts["ipc"])) or costs.get(
                (method, None, facts["dataset"], None), {}
            )
            kinds = [kind for kind in ("own", "transfer") if kind in cells] if backbone != MISSING else []
            for kind in kinds or [c for c in ("mean", *table.columns) if c in cells][:1]:
                value = cells[kind]
                rows.append(
                    {
                        "method": names[method],
                        "backbone": names.get(backbone, backbone),
                        "dataset": names[facts["dataset"]],
                        "ipc": facts["ipc"],
                        "protocol": names[facts["protocols"][0]["spec"]],
                        "judged": kind if kinds else "mean",
                        "value": value,
                        "n": value.n,
                        **cost,
                    }
                )
    return rows


def _costs(records: Sequence[dict]) -> dict[tuple, dict[str, float | None]]:
    """Mean seconds, peak MiB and steps/s of the sets of each method, distil backbone, dataset and IPC."""
    held: dict[tuple, dict[str, dict]] = defaultdict(dict)
    for r in records:
        if r["status"] == "ok":
            held[r["method_spec"], r["distill_backbone"], r["dataset"], r["ipc"]][r["cell_hash"]] = r
    return {key: _cost(list(sets.values())) for key, sets in held.items()}


def _cost(sets: Sequence[dict]) -> dict[str, float | None]:
    frame = frame_of(sets)
    gpu = nested(frame["peak_bytes"], "gpu_allocated")
    grown = (nested(frame["peak_bytes"], "cpu_rss") - nested(frame["base_bytes"], "cpu_rss")).clip(lower=0)
    rates = [r["steps_per_second"] for r in sets if r["steps_per_second"]]
    found = {
        "seconds": nested(frame["seconds"], "distill").mean(),
        "memory": (gpu if gpu.notna().any() else grown).mean() / 2**20,
        "rate": sum(rates) / len(rates) if rates else None,
    }
    return {name: None if value is None or value != value else float(value) for name, value in found.items()}


def _heatmaps(
    built: Sequence[Table], records: Sequence[dict], names: Mapping[str, str], real_methods: Sequence[str]
) -> list[dict[str, Any]]:
    """Per dataset, IPC, protocol and method: distil by eval backbone, as points above the best real images on that backbone."""
    found = []
    kinds = {r["method_spec"]: r["method"] for r in records}
    for table in built:
        judges = [c for c in table.columns if c not in ("own", "transfer", "mean")]
        bound = defaultdict(list)
        best: dict[str, float] = {}
        for (method, backbone), values in table.rows:
            cells = dict(zip(table.columns, values, strict=True))
            if backbone.startswith("mean of") or (method, backbone) in table.unranked:
                continue
            if backbone != MISSING and kinds[method] not in real_methods:
                bound[method].append((backbone, cells))
            if kinds[method] in real_methods:
                for judge in judges:
                    if (mean := cells[judge].mean) is not None:
                        best[judge] = max(best.get(judge, 0.0), mean)
        ipc = table.facts["ipc"]
        for method, rows in bound.items():
            if "own" not in table.columns or not set(judges) <= best.keys():
                continue
            grid = [[None if cells[j].mean is None else cells[j].mean - best[j] for j in judges] for _, cells in rows]
            short, _ = without_prefix({name: names.get(name, name) for name in judges}, judges)
            found.append(
                {
                    "method": names[method],
                    "place": f"{names[table.facts['dataset']]}, IPC {ipc}, {names[table.facts['protocols'][0]['spec']]}",
                    "svg": charts.heatmap(
                        [short.get(b, names[b]) for b, _ in rows],
                        [short[j] for j in judges],
                        grid,
                        f"Transfer of {names[method]}",
                    ),
                }
            )
    return found


def _curve_charts(found: Sequence[Curve]) -> list[dict[str, str]]:
    by_method: dict[str, list[Curve]] = defaultdict(list)
    for curve in found:
        if len(curve.points) > 1:
            by_method[curve.method].append(curve)
    return [
        {"method": method, "svg": charts.curves([(c.name, c.points) for c in held], f"Loss of {method} over steps")}
        for method, held in by_method.items()
    ]


def _failed(records: Sequence[dict], names: Mapping[str, str]) -> list[dict[str, Any]]:
    return [
        {
            "what": " · ".join(names.get(r[name], r[name]) for name in _PLACE if r[name]),
            "seed": r["distill_seed"],
            "status": r["status"],
            "reason": r["reason"] or "no reason recorded",
        }
        for r in records
        if r["status"] != "ok"
    ]


_PLACE = ("method_spec", "distill_backbone", "eval_backbone", "dataset", "protocol_spec")


def _environments(records: Sequence[dict]) -> list[dict[str, Any]]:
    shown = ("gpu", "cpu", "cores_usable", "threads", "os", "python", "torch_version", "cuda", "ddbench_version", "git_commit")
    held: dict[str, dict[str, Any]] = {}
    for r in records:
        facts = {name: (r["environment"] or {}).get(name) for name in shown}
        facts["git_commit"] = str(facts["git_commit"] or "unknown")[:12]
        entry = held.setdefault(json.dumps(facts, sort_keys=True, default=str), {"facts": facts, "records": 0})
        entry["records"] += 1
    return sorted(held.values(), key=lambda entry: -entry["records"])


def _commands(as_run: Sequence[dict], records: Sequence[dict], names: Mapping[str, str]) -> list[dict[str, str]]:
    """A command per method, dataset and IPC that repeats its rows: `records`, as tables name them."""
    import shlex

    held: dict[tuple, list[dict]] = defaultdict(list)
    for r, shown in zip(as_run, records, strict=True):
        held[r["method_spec"], shown["method_spec"], r["dataset"], r["ipc"]].append(r)
    commands = []
    for (method, name, dataset, ipc), group in held.items():
        words = ["ddbench", "run", "-m", method]
        for option, key in (
            ("-b", "distill_backbone"),
            ("--eval-backbone", "eval_backbone"),
            ("--protocol", "protocol_spec"),
        ):
            words += [word for spec in dict.fromkeys(r[key] for r in group) if spec for word in (option, spec)]
        words += ["-d", dataset, *([] if ipc is None else ["--ipc", str(ipc)])]
        words += [word for seed in sorted({r["distill_seed"] for r in group}) for word in ("--seed", str(seed))]
        commands.append({"name": f"{names[name]}, {names[dataset]}", "text": plain(shlex.join([*words, "--no-controls"]))})
    return commands
