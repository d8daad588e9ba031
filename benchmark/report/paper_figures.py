"""Figures for papers: column width, fonts embedded, colours that colour-blind readers tell apart (Okabe and Ito 2008)."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ...core.errors import UserError
from ..records.own_and_transfer import with_partners
from .choose import fits, protocols_in_order
from .names import display_names, short_names
from .page import Curve, judging_protocols, paper_points
from .page_charts import front
from .render import part_name
from .statistics import BLOCKS, Ranks
from .tables import tables
from .value import Table
from .versus import ranked

COLUMN = 3.4  # inches: one column of a two-column paper
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
FORMATS = (".pdf", ".png", ".svg")


def figure(
    records: Sequence[dict], kind: str, out: Path, *, protocol: str | None = None, real_methods: Sequence[str] = (),
    curves: Sequence[Curve] = (),
) -> Path:  # fmt: skip
    """Draw `kind` (pareto, transfer, curve, ranks) of the records into `out` (.pdf, .png, .svg).

    pareto and transfer are of one dataset and IPC, ranks over all. `protocol`: name or spec; default: the first of
    `protocols_in_order`. Raises `UserError` without matplotlib, where there is nothing to draw, and where records of several
    datasets or IPCs do not say which.
    """
    if out.suffix not in FORMATS:
        raise UserError(f"{out} is none of {', '.join(FORMATS)}; choose another -o")
    try:
        import matplotlib
    except ImportError:
        raise UserError("ddbench plot needs matplotlib: pip install 'ddbench[plot]'") from None
    matplotlib.use("agg")
    from matplotlib import pyplot

    records = with_partners(records)
    settings = {"pdf.fonttype": 42, "ps.fonttype": 42, "svg.fonttype": "none", "font.size": 7, "axes.linewidth": 0.6,
                "axes.spines.top": False, "axes.spines.right": False, "legend.frameon": False}  # fmt: skip
    with pyplot.rc_context(settings):  # type: ignore[arg-type]
        drawn = pyplot.figure(figsize=(COLUMN, 0.72 * COLUMN), layout="constrained")
        try:
            if kind == "curve":
                _curves(drawn.subplots(), curves)
            elif kind == "ranks":
                _ranks(drawn, records, protocol)
            else:
                OF_ONE_TABLE[kind](drawn.subplots(), records, protocol, real_methods)
            out.parent.mkdir(parents=True, exist_ok=True)
            drawn.savefig(out, dpi=300)
        except OSError as error:
            raise UserError(f"cannot write {out}: {error.strerror}; choose another -o") from None
        finally:
            pyplot.close(drawn)
    return out


def _names(records: Sequence[dict]) -> dict[str, str]:
    fields = ("method_spec", "distill_backbone", "eval_backbone", "protocol_spec", "dataset")
    return short_names([r[f] for r in records for f in fields if r[f]], display_names(records))[0]


def _chosen(records: Sequence[dict], protocol: str | None) -> tuple[Table, str]:
    """The one summary table of the records, and the protocol that is drawn."""
    built = tables(records, "summary")
    if len(built) > 1:
        places = "; ".join(f"--dataset '{t.facts['dataset']}' --ipc {t.facts['ipc']}" for t in built)
        raise UserError(f"a figure is of one dataset and IPC, and there are {len(built)}; choose {places}")
    return built[0], _protocol(judging_protocols(built[0]), protocol)


def _protocol(known: Sequence[str], asked: str | None) -> str:
    found = [spec for spec in known if asked is None or fits(spec, asked)]
    if not found:
        raise UserError(f"no own accuracy under {asked!r}; there are: {', '.join(known) or 'no protocols with backbones'}")
    return found[0]


def _pareto(axes: Any, records: Sequence[dict], protocol: str | None, real_methods: Sequence[str]) -> None:
    names = _names(records)
    table, spec = _chosen(records, protocol)
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
    for _, value in lines:
        axes.axhline(value, ls="--", lw=0.6, color="0.4")
    axes.set(xscale="log", xlabel="seconds to distil one set", ylabel=f"{names.get(spec, spec)} accuracy (%)")
    axes.margins(x=0.12, y=0.1)
    ahead = [point for point in points if point not in best]
    named = [(p.name, max(p.seconds, 0.01), p.own, COLOURS[p.real]) for p in (*best, *ahead) if p.own is not None]
    hollow = [(max(p.seconds, 0.01), p.transfer) for p in points if p.transfer is not None]
    _label(axes, named, hollow, levels=lines)


def _transfer(axes: Any, records: Sequence[dict], protocol: str | None, real_methods: Sequence[str]) -> None:
    """Own against transfer accuracy, a point per method; on the diagonal a set serves others as well as its maker."""
    names = _names(records)
    table, spec = _chosen(records, protocol)
    points, _ = paper_points(table, records, names, real_methods, spec)
    both = [p for p in points if p.own is not None and p.transfer is not None]
    if not both:
        raise UserError("no method has own and transfer accuracy; evaluate on a second backbone")
    for point in both:
        colour = COLOURS[1] if point.real else COLOURS[0]
        axes.plot(point.own, point.transfer, "o", color=colour, ms=4)
    ends = [min(p.transfer for p in both), max(p.own for p in both)]  # type: ignore[type-var]
    axes.plot(ends, ends, ls="--", lw=0.6, color="0.4")
    axes.set(xlabel=f"own backbone, {names.get(spec, spec)} (%)", ylabel="other backbones (%)")
    axes.margins(x=0.12, y=0.1)
    _label(axes, [(p.name, p.own, p.transfer, COLOURS[p.real]) for p in both])  # type: ignore[arg-type]


def _label(
    axes: Any,
    points: Sequence[tuple[str, float, float, str]],
    avoid: Sequence[tuple[float, float]] = (),
    levels: Sequence[tuple[str, float]] = (),
) -> None:
    """The name of each point beside it, or, where others are in the way, further off at the end of a line; the names of
    `levels` above theirs, at the right or, where a point is there, at the left."""
    axes.figure.canvas.draw()
    dots = [tuple(axes.transData.transform((x, y))) for _, x, y, _ in points]
    further = [tuple(axes.transData.transform(place)) for place in avoid]
    taken: list[Any] = []
    for name, value in levels:
        for side, x in (("right", 1), ("left", 0.01)):
            note = axes.annotate(name, (x, value), xycoords=("axes fraction", "data"), ha=side, va="bottom", **_LEVEL)
            box = note.get_window_extent()
            if side == "left" or not any(box.padded(_NEAR / 2).contains(*dot) for dot in (*dots, *further)):
                break
            note.remove()
        taken.append(box)
    for (name, x, y, colour), dot in zip(points, dots, strict=True):
        _place(axes, name, (x, y), colour, taken, [other for other in (*dots, *further) if other != dot])


_SIDES = ((1, 0, "left"), (-1, 0, "right"), (0, 1, "center"), (0, -1, "center"), (0.7, 0.7, "left"), (0.7, -0.7, "left"),
          (-0.7, 0.7, "right"), (-0.7, -0.7, "right"))  # fmt: skip
_PALE = {"boxstyle": "square,pad=0.1", "fc": "white", "ec": "none", "alpha": 0.75}  # lines pass below names
_LEVEL: dict[str, Any] = {"fontsize": 6, "color": "0.3"}
_NEAR = 5  # points from a dot to its name
_STEPS = 12  # further distances that are tried, `_NEAR` apart


def _place(axes: Any, text: str, at: tuple[float, float], colour: str, taken: list[Any], others: Sequence[tuple]) -> None:
    """Write the text at the nearest free place around its point; its box is then among the taken ones."""
    from matplotlib.text import Text

    frame = axes.get_window_extent()
    for distance in range(1, _STEPS + 1):
        for dx, dy, side in _SIDES:
            offset = (dx * _NEAR * distance, dy * _NEAR * distance)
            line = {"arrowstyle": "-", "lw": 0.4, "color": colour, "shrinkA": 0, "shrinkB": 3} if distance > 1 else None
            place = {"xytext": offset, "textcoords": "offset points", "ha": side, "va": "center", "arrowprops": line}
            note = axes.annotate(text, at, color=colour, fontsize=6, bbox=_PALE, zorder=2.5, **place)
            note.update_positions(axes.figure.canvas.get_renderer())
            box = Text.get_window_extent(note)  # without its line
            inside = frame.x0 <= box.x0 and box.x1 <= frame.x1 and frame.y0 <= box.y0 and box.y1 <= frame.y1
            if (
                inside
                and not any(box.overlaps(other) for other in taken)
                and not any(box.padded(_NEAR / 2).contains(*dot) for dot in others)
            ):
                taken.append(box)
                return
            note.remove()
    axes.annotate(text, at, color=colour, fontsize=6, xytext=(_NEAR, 0), textcoords="offset points", va="center")


def _ranks(drawn: Any, records: Sequence[dict], protocol: str | None) -> None:
    """Critical-difference diagrams (Demsar 2006, figure 1) of one protocol, own above transfer."""
    by_column = ranked(records)
    specs = protocols_in_order(part_name(column)[0] for column in by_column)
    spec = _protocol(specs, protocol)
    found = {column: r for column, r in by_column.items() if part_name(column)[0] == spec}
    enough = {column: r for column, r in found.items() if r.critical is not None}
    if not enough:
        most = max(found.values(), key=lambda r: (len(r.ranks), r.blocks))
        raise UserError(
            f"a critical difference needs {BLOCKS} blocks (dataset, IPC, eval backbone) and three methods that were judged "
            f"in all; {spec} has {most.blocks} blocks and {len(most.ranks)} methods; ddbench table --metric ranks has ranks"
        )
    names = _names(records)
    rows = [-(-len(r.ranks) // 2) for r in enough.values()]
    height = sum(0.62 + 0.13 * n + 0.08 * len(r.cliques()) for n, r in zip(rows, enough.values(), strict=True))
    drawn.set_size_inches(COLUMN, height)
    grid = drawn.subplots(len(enough), 1, squeeze=False, height_ratios=[n + 4 for n in rows])
    for axes, (column, r) in zip(grid[:, 0], enough.items(), strict=True):
        kind = part_name(column)[1]
        _diagram(axes, r, names, f"{names.get(spec, spec)}{kind}, {r.blocks} blocks")


def _diagram(axes: Any, found: Ranks, names: Mapping[str, str], title: str) -> None:
    """Ranks on a line, 1 on the left; bars join the methods that are not told apart."""
    order, k = list(found.ranks), len(found.ranks)
    half = -(-k // 2)
    cliques = found.cliques()
    first = -0.9 - 0.45 * len(cliques)  # height of the first name
    beside = 0.35 + 0.045 * max(len(names.get(name, name)) for name in order)  # inches for the names, at 6 points
    inch = (k - 1) / max(1.0, axes.figure.get_size_inches()[0] - 2 * beside)  # ranks per inch
    axes.set(xlim=(1 - beside * inch, k + beside * inch), ylim=(first - half + 0.3, 2.1))
    axes.axis("off")
    axes.set_title(title, fontsize=7)
    axes.plot([1, k], [0, 0], color="black", lw=0.8)
    for rank in range(1, k + 1):
        axes.plot([rank, rank], [0, 0.2], color="black", lw=0.8)
        axes.text(rank, 0.35, str(rank), ha="center", va="bottom", fontsize=6)
    assert found.critical is not None
    axes.plot([1, 1 + found.critical], [1.5, 1.5], color="black", lw=1.2)
    axes.text(1 + found.critical / 2, 1.6, f"CD {found.critical:.2f}", ha="center", va="bottom", fontsize=6)
    for place, name in enumerate(order):
        left = place < half
        height = first - (place if left else k - 1 - place)
        end = 1 - 0.1 * inch if left else k + 0.1 * inch
        rank = found.ranks[name]
        axes.plot([rank, rank, end], [0, height, height], color="0.3", lw=0.6)
        text = f"{names.get(name, name)}  {rank:.2f}" if left else f"{rank:.2f}  {names.get(name, name)}"
        axes.text(end, height, f"{text} " if left else f" {text}", ha="right" if left else "left", va="center", fontsize=6)
    for row, clique in enumerate(cliques):
        ends = [found.ranks[clique[0]] - 0.03 * inch, found.ranks[clique[-1]] + 0.03 * inch]
        axes.plot(ends, [-0.45 * (row + 1)] * 2, color=COLOURS[0], lw=2, solid_capstyle="butt")


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


OF_ONE_TABLE: Mapping[str, Callable[..., None]] = {"pareto": _pareto, "transfer": _transfer}
