"""Figures for papers: column width, fonts embedded, colours that colour-blind readers tell apart (Okabe and Ito 2008)."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ...core.errors import UserError
from ..records.partners import with_partners
from .charts import front
from .names import display_names, short_names
from .page import Curve, paper_points
from .tables import tables

COLUMN = 3.4  # inches: one column of a two-column paper
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
FORMATS = (".pdf", ".png", ".svg")


def figure(
    records: Sequence[dict], kind: str, out: Path, *, protocol: str | None = None, real_methods: Sequence[str] = (),
    curves: Sequence[Curve] = (),
) -> Path:  # fmt: skip
    """Draw `kind` (pareto, transfer, curve) of the first dataset and IPC of the records into `out` (.pdf, .png, .svg).

    `protocol`: spec; default: the first. Raises `UserError` without matplotlib, or where there is nothing to draw.
    """
    if out.suffix not in FORMATS:
        raise UserError(f"{out} is none of {', '.join(FORMATS)}; choose another -o")
    try:
        import matplotlib
    except ImportError:
        raise UserError("ddbench plot needs matplotlib: pip install 'ddbench[plot]'") from None
    matplotlib.use("agg")
    from matplotlib import pyplot

    settings = {"pdf.fonttype": 42, "ps.fonttype": 42, "svg.fonttype": "none", "font.size": 7, "axes.linewidth": 0.6,
                "axes.spines.top": False, "axes.spines.right": False, "legend.frameon": False}  # fmt: skip
    with pyplot.rc_context(settings):
        drawn, axes = pyplot.subplots(figsize=(COLUMN, 0.72 * COLUMN), layout="constrained")
        try:
            if kind == "curve":
                _curves(axes, curves)
            else:
                KINDS[kind](axes, records, protocol, real_methods)
            out.parent.mkdir(parents=True, exist_ok=True)
            drawn.savefig(out, dpi=300)
        except OSError as error:
            raise UserError(f"cannot write {out}: {error.strerror}; choose another -o") from None
        finally:
            pyplot.close(drawn)
    return out


def _names(records: Sequence[dict]) -> dict[str, str]:
    fields = ("method_spec", "distill_backbone", "eval_backbone", "protocol_spec", "dataset")
    return short_names([r[f] for r in with_partners(records) for f in fields if r[f]], display_names(records))[0]


def _pareto(axes: Any, records: Sequence[dict], protocol: str | None, real_methods: Sequence[str]) -> None:
    names = _names(records)
    table = tables(records, "summary")[0]
    spec = protocol or next((p["spec"] for p in table.facts["protocols"] if f"{p['spec']} own" in table.columns), "")
    points, lines = paper_points(table, records, names, real_methods, spec)
    for point in points:
        colour = COLOURS[1] if point.real else COLOURS[0]
        x = max(point.seconds, 0.01)
        if point.transfer is not None:
            axes.plot(x, point.transfer, "o", mfc="white", mec=colour, ms=4, zorder=3)
            axes.plot([x, x], [point.own, point.transfer], color=colour, lw=0.5, alpha=0.5)
        axes.plot(x, point.own, "o", color=colour, ms=4, zorder=3)
    best = front(points)
    axes.plot([max(p.seconds, 0.01) for p in best], [p.own for p in best], color=COLOURS[6], lw=0.7, zorder=1)
    for name, value in lines:
        axes.axhline(value, ls="--", lw=0.6, color="0.4")
        axes.annotate(name, (1, value), xycoords=("axes fraction", "data"), ha="right", va="bottom", fontsize=6, color="0.3")
    axes.set(xscale="log", xlabel="seconds to distil one set", ylabel=f"{names.get(spec, spec)} accuracy (%)")
    axes.margins(x=0.12, y=0.1)
    ahead = [point for point in points if point not in best]
    named = [(p.name, max(p.seconds, 0.01), p.own, COLOURS[p.real]) for p in (*best, *ahead) if p.own is not None]
    _label(axes, named, [(max(p.seconds, 0.01), p.transfer) for p in points if p.transfer is not None])


def _transfer(axes: Any, records: Sequence[dict], protocol: str | None, real_methods: Sequence[str]) -> None:
    """Own against transfer accuracy, a point per method; on the diagonal a set serves others as well as its maker."""
    names = _names(records)
    table = tables(records, "summary")[0]
    spec = protocol or next((p["spec"] for p in table.facts["protocols"] if f"{p['spec']} own" in table.columns), "")
    points, _ = paper_points(table, records, names, real_methods, spec)
    both = [p for p in points if p.own is not None and p.transfer is not None]
    if not both:
        raise UserError("no method has own and transfer accuracy; evaluate on a second backbone")
    for point in both:
        colour = COLOURS[1] if point.real else COLOURS[0]
        axes.plot(point.own, point.transfer, "o", color=colour, ms=4)
    ends = [min(p.transfer for p in both), max(p.own for p in both)]
    axes.plot(ends, ends, ls="--", lw=0.6, color="0.4")
    axes.set(xlabel=f"own backbone, {names.get(spec, spec)} (%)", ylabel="other backbones (%)")
    axes.margins(x=0.12, y=0.1)
    _label(axes, [(p.name, p.own, p.transfer, COLOURS[p.real]) for p in both])


def _label(axes: Any, points: Sequence[tuple[str, float, float, str]], avoid: Sequence[tuple[float, float]] = ()) -> None:
    """Names beside their points where none is in the way of another or of a point; the others get a number and a legend."""
    axes.figure.canvas.draw()
    dots = [tuple(axes.transData.transform((x, y))) for _, x, y, _ in points]
    further = [tuple(axes.transData.transform(place)) for place in avoid]
    taken: list[Any] = []
    numbered: list[str] = []
    for (name, x, y, colour), dot in zip(points, dots, strict=True):
        others = [other for other in (*dots, *further) if other != dot]
        number = str(len(numbered) + 1)
        if not _placed(axes, name, (x, y), colour, taken, others) and _placed(axes, number, (x, y), colour, taken, others):
            numbered.append(f"{number} {name}")
    if numbered:
        axes.figure.supxlabel(", ".join(numbered), fontsize=6, wrap=True)


_OFFSETS = ((4, 0, "left"), (-4, 0, "right"), (0, 6, "center"), (0, -6, "center"), (4, 5, "left"), (4, -5, "left"))


def _placed(axes: Any, text: str, at: tuple[float, float], colour: str, taken: list[Any], others: Sequence[tuple]) -> bool:
    """Whether the text found a free place at its point; its box is then among the taken ones."""
    frame = axes.get_window_extent()
    for dx, dy, side in _OFFSETS:
        place = {"xytext": (dx, dy), "textcoords": "offset points", "ha": side, "va": "center"}
        note = axes.annotate(text, at, color=colour, fontsize=6, **place)
        box = note.get_window_extent()
        inside = frame.x0 <= box.x0 and box.x1 <= frame.x1 and box.y1 <= frame.y1
        if inside and not any(box.overlaps(other) for other in taken) and not any(box.contains(*dot) for dot in others):
            taken.append(box)
            return True
        note.remove()
    return False


def _curves(axes: Any, curves: Sequence[Curve]) -> None:
    held = [curve for curve in curves if len(curve.points) > 1]
    if not held:
        raise UserError("no set has a curve; they are written by `ddbench run` beside each set with a loss")
    methods = list(dict.fromkeys(curve.method for curve in held))
    for curve in held:
        k = methods.index(curve.method)
        steps, losses = zip(*curve.points, strict=True)
        axes.plot(steps, losses, lw=0.7, color=COLOURS[k % len(COLOURS)], alpha=0.8)
    for k, method in enumerate(methods):
        axes.plot([], [], color=COLOURS[k % len(COLOURS)], label=method)
    if min(loss for curve in held for _, loss in curve.points) > 0:
        axes.set_yscale("log")
    axes.set(xlabel="step", ylabel="loss")
    axes.legend(fontsize=6)


KINDS: Mapping[str, Callable[..., None]] = {"pareto": _pareto, "transfer": _transfer, "curve": _curves}
