"""Tables as terminal text, Markdown, LaTeX (booktabs), JSON; records as CSV."""

import io
import json
import textwrap
from collections.abc import Sequence
from dataclasses import asdict
from itertools import groupby, takewhile

import pandas as pd
from rich import box
from rich.console import Console
from rich.table import Table as Grid

from .value import MISSING, Table, Value

WIDTH = 100  # columns of a terminal that a text table fits where its numbers allow it
_HEADER = 14  # longest header line in text; longer names get a letter and a legend


def text(tables: Sequence[Table]) -> str:
    """For a terminal: at most 100 columns wide for up to four backbones; shared prefixes of names are dropped."""
    return "\n".join(_text(table) for table in tables)


def markdown(tables: Sequence[Table]) -> str:
    """GitHub tables, captions below."""
    parts = []
    for table in tables:
        lines = [pipes([*table.labels, *table.columns]), pipes([":--", ":--", *["--:"] * len(table.columns)])]
        lines += [pipes([*label, *(v.text(table.digits) for v in values)]) for label, values in table.rows]
        parts.append("\n".join([f"**{table.title}**", "", *lines, "", *(f"{line}  " for line in table.caption)]))
    return "\n\n".join(parts) + "\n"


def latex(tables: Sequence[Table]) -> str:
    """`table` environments with booktabs rules."""
    parts = []
    for table in tables:
        rows = [[*label, *(value.text(table.digits) for value in values)] for label, values in table.rows]
        below = f"{table.title}. {'. '.join(table.caption)}."
        parts.append(latex_grid(below, [*table.labels, *table.columns], rows, labels=2))
    return "\n\n".join(parts) + "\n"


def latex_grid(caption: str, headers: Sequence[str], rows: Sequence[Sequence[str]], labels: int) -> str:
    """One `table` environment; the first `labels` columns are text, the others numbers."""
    lines = [
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{_tex(caption)}}}",
        rf"\begin{{tabular}}{{{'l' * labels}{'r' * (len(headers) - labels)}}}",
        r"\toprule",
        _ampersands(headers),
        r"\midrule",
        *map(_ampersands, rows),
        r"\bottomrule",
        r"\end{tabular}",
        r"\end{table}",
    ]
    return "\n".join(lines)


def as_json(tables: Sequence[Table]) -> str:
    """A list of tables; every value with mean, std, what the std is over, n and status."""
    return json.dumps([_json(table) for table in tables], indent=1) + "\n"


def csv(records: Sequence[dict]) -> str:
    """Long format: one row per record, nested fields as `seconds.distill`."""
    return pd.json_normalize(list(records)).to_csv(index=False)


def _text(table: Table) -> str:
    names, legend = short_names([*table.columns, *(backbone for (_, backbone), _ in table.rows)])
    tries = ((1, False, WIDTH), (1, True, WIDTH), (0, True, WIDTH), (0, True, 10_000))  # numbers are never cut
    printed = next(drawn for gap, wrap, width in tries if (drawn := _draw(table, names, gap, wrap, width)))
    return printed + "".join(f"  {line}\n" for line in [*legend, *_wrapped(table.caption)])  # specs stay whole


def _draw(table: Table, names: dict[str, str], gap: int, wrap: bool, width: int) -> str | None:
    """The grid with `gap` extra blanks between columns and headers of several lines (`wrap`), or None if it is too wide."""
    shown = [[value.text(table.digits, joint="±") for value in values] for _, values in table.rows]
    grid = _grid(table.title, gap)
    for label in table.labels:
        grid.add_column(label, no_wrap=True)
    for c, column in enumerate(table.columns):
        header = _folded(names[column], max(len(row[c]) for row in shown)) if wrap else names[column]
        grid.add_column(header, justify="right", no_wrap=True)
    numbered = zip(table.rows, shown, strict=True)
    for method, rows in groupby(numbered, key=lambda row: row[0][0][0]):
        rows = list(rows)
        for first, (((_, backbone), _), cells) in zip(_spread(method, len(rows)), rows, strict=True):
            grid.add_row(first, names[backbone], *cells)
        grid.add_section()
    if _console(10_000).measure(grid).maximum > width:
        return None
    return _printed(grid, width)


def grid_text(title: str, headers: Sequence[str], rows: Sequence[Sequence[str]], labels: int) -> str:
    """A titled grid of texts, never cut; the first `labels` columns are left-aligned, the first is blank where it repeats."""
    grid = _grid(title, gap=1)
    for c, header in enumerate(headers):
        grid.add_column(header, justify="left" if c < labels else "right", no_wrap=True)
    for first, group in groupby(rows, key=lambda row: row[0]):
        for index, row in enumerate(group):
            grid.add_row("" if index else first, *row[1:])
    return _printed(grid, 10_000)


def _grid(title: str, gap: int) -> Grid:
    grid = Grid(box=box.SIMPLE_HEAD, title=title, title_justify="left", title_style="bold", padding=(0, gap, 0, 0))
    grid.pad_edge = False
    return grid


def _console(width: int) -> Console:
    # markup=False: the brackets of `clpdd[tau=0.05]` are not a style
    return Console(file=io.StringIO(), width=width, markup=False, highlight=False, emoji=False, no_color=True)


def _printed(grid: Grid, width: int) -> str:
    console = _console(width)
    console.print(grid)
    return "\n".join(line.rstrip() for line in console.file.getvalue().rstrip().splitlines()) + "\n"  # type: ignore[attr-defined]


def _folded(header: str, width: int) -> str:
    """The header in lines of about `width`, words whole."""
    return "\n".join(textwrap.wrap(header, max(width, 5), break_long_words=False))


def _spread(method: str, rows: int) -> list[str]:
    """A method's spec over its rows, broken at its parameters; what does not fit hangs below the last row."""
    lines = textwrap.wrap(method.replace("[", " [").replace(",", ", "), 14, break_long_words=False, break_on_hyphens=False)
    lines += [""] * (rows - len(lines))
    return [*lines[: rows - 1], "\n".join(lines[rows - 1 :])]


def _wrapped(lines: Sequence[str]) -> list[str]:
    return [part for line in lines for part in textwrap.wrap(line, WIDTH - 2, subsequent_indent="  ")]


def short_names(names: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """Headers that fit: the prefix shared by all backbones goes (`mini_`), words wrap at `_`, specs with parameters
    become letters, backbones first. Returns the short name of every name and the legend lines."""
    real = [n for n in dict.fromkeys(names) if "_" in n and " " not in n]
    shared = takewhile(lambda words: len(set(words)) == 1, zip(*(n.split("_")[:-1] for n in real), strict=False))
    prefix = "".join(f"{words[0]}_" for words in shared) if len(real) > 1 else ""
    prefix = prefix.partition("[")[0]
    short, legend = {}, [f"backbone names without the prefix {prefix}"] if prefix else []
    letters: dict[str, str] = {}
    for name in sorted(dict.fromkeys(names), key=lambda name: " " in name):  # `eval s PROTOCOL` is a column of its own
        bare = name.removeprefix(prefix) if name in real else name
        spec, kind = _column_of(bare)
        if "[" in spec and len(spec) > _HEADER:
            if spec not in letters:
                letters[spec] = chr(ord("A") + len(letters))
                legend.append(f"{letters[spec]} = {spec}")
            bare = letters[spec] + kind
        short[name] = bare.replace("_", " ") if name in real else bare
    return short, legend


def _column_of(name: str) -> tuple[str, str]:
    """A protocol's spec and which of its columns this is: `SPEC own` -> SPEC and ` own`."""
    spec, _, kind = name.rpartition(" ")
    return (spec, f" {kind}") if kind in ("own", "transfer") and spec else (name, "")


def pipes(cells: Sequence[str]) -> str:
    """One row of a GitHub table."""
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _ampersands(cells: Sequence[str]) -> str:
    return " & ".join(map(_tex, cells)) + r" \\"


def _tex(text: str) -> str:
    for plain, escaped in (("\\", r"\textbackslash "), ("_", r"\_"), ("%", r"\%"), ("&", r"\&"), ("#", r"\#"), ("$", r"\$")):
        text = text.replace(plain, escaped)
    return text.replace("±", r"$\pm$").replace(MISSING, "---").replace("…", r"\ldots ")


def _json(table: Table) -> dict:
    def cells(values: Sequence[Value]) -> dict:
        return {column: asdict(value) for column, value in zip(table.columns, values, strict=True)}

    rows = [{"method": m, "distill_backbone": None if b == MISSING else b, "cells": cells(v)} for (m, b), v in table.rows]
    return {"title": table.title, **table.facts, "caption": table.caption, "columns": table.columns, "rows": rows}


FORMATS = {"text": text, "md": markdown, "latex": latex, "json": as_json}
