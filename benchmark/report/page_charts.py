"""Charts as SVG texts for the report page: no library, no script, colours by the page's style sheet.

Every chart is drawn twice, for a wide and for a narrow screen, so that its letters stay readable on a phone.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDE, NARROW = 860, 380  # units of the two drawings, which are pixels at full size


@dataclass(frozen=True)
class Point:
    """One method: what it costs and what it reaches."""

    name: str
    seconds: float
    own: float | None
    transfer: float | None
    real: bool  # picks real images
    detail: str = ""  # read out and shown on hover


def front(points: Sequence[Point]) -> list[Point]:
    """Methods that no cheaper or equally cheap one reaches: the Pareto front of own accuracy, cheapest first."""
    best, kept = float("-inf"), []
    for point in sorted((p for p in points if p.own is not None), key=lambda p: (p.seconds, -(p.own or 0))):
        if point.own is not None and point.own > best:
            best = point.own
            kept.append(point)
    return kept


def pareto(points: Sequence[Point], lines: Sequence[tuple[str, float]], width: int) -> str:
    """Accuracy against seconds of distilling (logarithmic): own filled, transfer hollow, joined; `lines` are levels."""
    height, left, right, top, bottom = 400, 44, 22, 30, 46
    shown = [value for p in points for value in (p.own, p.transfer) if value is not None] + [value for _, value in lines]
    low, high = max(0, math.floor((min(shown) - 3) / 10) * 10), min(100, math.ceil((max(shown) + 2) / 10) * 10)
    seconds = [max(p.seconds, _LEAST) for p in points] or [1.0]
    start, end = math.floor(math.log10(min(seconds))), math.ceil(math.log10(max(seconds) * 1.6))

    def x(value: float) -> float:
        return left + (math.log10(max(value, _LEAST)) - start) / max(1, end - start) * (width - left - right)

    def y(value: float) -> float:
        return top + (high - value) / max(1, high - low) * (height - top - bottom)

    parts = [_frame(width, height, "Accuracy against seconds of distilling")]
    for value in range(int(low), int(high) + 1, 10 if high - low <= 60 else 20):
        parts.append(f'<line class="grid" x1="{left}" x2="{width - right}" y1="{y(value):.1f}" y2="{y(value):.1f}"/>')
        parts.append(_text(left - 6, y(value) + 4, str(value), "end"))
    for power in range(start, end + 1):
        parts.append(_text(x(10.0**power), height - bottom + 18, _seconds(power), "middle"))
    parts.append(_text((left + width - right) / 2, height - 8, "seconds to distil one set", "middle", "axis"))
    parts.append(_text(left - 40, 12, "accuracy %", "start", "axis"))
    boxes: list[tuple[float, float, float, float]] = []
    for name, value in lines:
        parts.append(f'<line class="level" x1="{left}" x2="{width - right}" y1="{y(value):.1f}" y2="{y(value):.1f}"/>')
        text = f"{name} {value:.1f}"
        parts.append(_text(width - right, y(value) - 5, text, "end", "levelname"))
        boxes.append((width - right - 6.6 * len(text), y(value) - 17, width - right, y(value)))
    best = front(points)
    path = " ".join(f"{'L' if i else 'M'}{x(p.seconds):.1f} {y(p.own or 0):.1f}" for i, p in enumerate(best))
    parts.append(f'<path class="front" d="{path}"/>')
    boxes += [
        (x(p.seconds) - 6, y(v) - 6, x(p.seconds) + 6, y(v) + 6) for p in points for v in (p.own, p.transfer) if v is not None
    ]
    names = {p.name for p in best}
    for point in sorted(points, key=lambda p: (p.name not in names, -(p.own or 0))):
        parts.append(_point(point, x(point.seconds), y, width, boxes, point.name in names))
    return "".join([*parts, "</svg>"])


_LEAST = 0.01  # seconds; picking images is not told from nothing


def _point(point: Point, x: float, y, width: int, boxes: list, on_front: bool) -> str:
    kind = "real" if point.real else "learned"
    parts = [f'<g class="point {kind}"><title>{escape(point.name)}: {escape(point.detail)}</title>']
    if point.own is not None and point.transfer is not None:
        parts.append(f'<line class="join" x1="{x:.1f}" x2="{x:.1f}" y1="{y(point.own):.1f}" y2="{y(point.transfer):.1f}"/>')
    if point.transfer is not None:
        parts.append(f'<circle class="transfer" cx="{x:.1f}" cy="{y(point.transfer):.1f}" r="5"/>')
    if point.own is not None:
        parts.append(f'<circle class="own" cx="{x:.1f}" cy="{y(point.own):.1f}" r="{6 if on_front else 5}"/>')
    at = y(point.own if point.own is not None else point.transfer or 0)
    length = (7.6 if on_front else 6.7) * len(point.name)  # those of the front are bold
    for dx, dy, anchor in (
        (9, 4, "start"),
        (-9, 4, "end"),
        (0, -11, "middle"),
        (0, 20, "middle"),
        (9, -8, "start"),
        (9, 17, "start"),
    ):
        begin = x + dx - {"start": 0, "middle": length / 2, "end": length}[anchor]
        box = (begin, at + dy - 11, begin + length, at + dy + 3)
        if begin > 44 and box[2] < width - 2 and not any(_meet(box, other) for other in boxes if other):
            boxes.append(box)
            parts.append(_text(x + dx, at + dy, point.name, anchor, "name front" if on_front else "name"))
            break
    return "".join([*parts, "</g>"])


def _meet(a: tuple, b: tuple) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def heatmap(rows: Sequence[str], columns: Sequence[str], values: Sequence[Sequence[float | None]], title: str) -> str:
    """A grid of signed points, blue above zero and orange below; `rows` distil, `columns` judge."""
    side, tall, left, top = 92, 34, 12 + 7 * max(map(len, rows)), 26
    width, height = left + side * len(columns) + 8, top + tall * len(rows) + 8
    parts = [_frame(width, height, title, fluid=False)]
    for c, name in enumerate(columns):
        parts.append(_text(left + side * (c + 0.5), 16, _cut(name, 13), "middle", full=name))
    for r, name in enumerate(rows):
        parts.append(_text(left - 8, top + tall * (r + 0.5) + 4, name, "end"))
        for c, value in enumerate(values[r]):
            step = 0 if value is None else min(5, math.ceil(abs(value) / 6)) * (1 if value > 0 else -1)
            kind = "none" if value is None else f"heat{'p' if step > 0 else 'm' if step < 0 else ''}{abs(step)}"
            own = " own" if name == columns[c] else ""
            text = "—" if value is None else f"{value:+.1f}"
            at = f'x="{left + side * c + 1}" y="{top + tall * r + 1}" width="{side - 2}" height="{tall - 2}"'
            parts.append(f'<rect class="{kind}{own}" {at} rx="3"/>')
            parts.append(_text(left + side * (c + 0.5), top + tall * (r + 0.5) + 4, text, "middle", f"on-{kind}"))
    return "".join([*parts, "</svg>"])


def curves(lines: Sequence[tuple[str, Sequence[tuple[float, float]]]], title: str) -> str:
    """Loss over steps, one line per set; logarithmic where all losses are positive and span more than a factor of ten."""
    width, height, left, right, top, bottom = 380, 220, 52, 12, 14, 34
    xs = [x for _, points in lines for x, _ in points]
    ys = [y for _, points in lines for _, y in points]
    log = min(ys) > 0 and max(ys) > 10 * min(ys)
    scaled = [math.log10(value) if log else value for value in ys]
    low, high = min(scaled), max(scaled) if max(scaled) > min(scaled) else min(scaled) + 1
    last = max(xs) or 1

    def at(step: float, loss: float) -> str:
        value = math.log10(loss) if log else loss
        x = left + step / last * (width - left - right)
        return f"{x:.1f} {top + (high - value) / (high - low) * (height - top - bottom):.1f}"

    parts = [_frame(width, height, title, fluid=False)]
    for share in (0, 0.5, 1):
        value, y = high - share * (high - low), top + share * (height - top - bottom)
        parts.append(f'<line class="grid" x1="{left}" x2="{width - right}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(_text(left - 6, y + 4, f"{10**value if log else value:.3g}", "end"))
    for share in (0, 0.5, 1):
        parts.append(_text(left + share * (width - left - right), height - 16, f"{share * last:.0f}", "middle"))
    parts.append(_text((left + width - right) / 2, height - 2, "step", "middle", "axis"))
    for k, (name, points) in enumerate(lines):
        path = " ".join(f"{'L' if i else 'M'}{at(*point)}" for i, point in enumerate(points))
        parts.append(f'<path class="curve c{k % 6}" d="{path}"><title>{escape(name)}</title></path>')
    return "".join([*parts, "</svg>"])


def _frame(width: float, height: float, title: str, fluid: bool = True) -> str:
    size = "" if fluid else f' width="{width}" height="{height}"'
    return f'<svg viewBox="0 0 {width} {height}"{size} role="img" aria-label="{escape(title)}">'


def _text(x: float, y: float, text: str, anchor: str, kind: str = "tick", full: str | None = None) -> str:
    hover = f"<title>{escape(full)}</title>" if full not in (None, text) else ""
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}{hover}</text>'


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"


def _seconds(power: int) -> str:
    return f"{10**power:,}" if power >= 0 else f"{10.0**power:g}"
