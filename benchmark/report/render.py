"""Tables as terminal text, Markdown, LaTeX (booktabs), JSON; records as CSV."""

import io
import json
import re
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import asdict
from itertools import groupby, takewhile

import pandas as pd
from rich import box
from rich.console import Console
from rich.table import Table as Grid

from .escape import csv_field, latex_prose, plain
from .escape import latex as latex_text
from .escape import markdown as markdown_text
from .names import short_names, slug
from .value import MISSING, Table, Value

WIDTH = 100  # columns of a terminal that a text table fits where its numbers allow it


def text(tables: Sequence[Table]) -> str:
    """For a terminal: at most 100 columns wide for up to four backbones; shared prefixes of names are dropped."""
    return "\n".join(_text(table) for table in tables)


def markdown(tables: Sequence[Table]) -> str:
    """GitHub tables, captions below; the best of a column is bold, the second underlined."""
    parts = []
    for table in tables:
        names, legend = shown_names(table)
        rule = pipes([":--", ":--", *["--:"] * len(table.columns)])
        lines = [pipes([*table.labels, *(names[c] for c in table.columns)]), rule]
        lines += [_pipes([*map(markdown_text, label), *cells]) for label, cells in _cells(table, names, markdown_text, _MD)]
        below = "".join(f"{markdown_text(line)}  \n" for line in [*table.lines, *legend]).rstrip("\n")
        parts.append("\n".join([f"**{markdown_text(table.title)}**", "", *lines, "", below]))
    return "\n\n".join(parts) + "\n"


def latex(tables: Sequence[Table]) -> str:
    """`table` environments with booktabs rules, no wider than the line; best bold, second underlined."""
    parts = []
    for table in tables:
        names, legend = shown_names(table)
        ranked = bool(table.ranked())
        marks = ["bold: best, underlined: second of its column, ceilings aside, where that number has an interval"] * ranked
        below = ". ".join([table.title, *table.lines, *marks, *legend]) + "."
        rows = [[*map(latex_text, label), *cells] for label, cells in _cells(table, names, latex_text, _TEX)]
        headers = [latex_text(text) for text in (*table.labels, *(names[column] for column in table.columns))]
        parts.append(_latex(latex_prose(below), f"tab:{slug(table.title)}", headers, rows, labels=2))
    return LATEX_NEEDS + "\n\n".join(parts) + "\n"


def _cells(table: Table, names: dict[str, str], escape: Callable[[str], str], marks: Sequence[str]) -> list[tuple]:
    """Labels by their short names, and the texts of the values, the best two of a column in `marks`."""
    places = table.ranked()
    return [
        (
            [names.get(part, part) for part in label],
            [marks[places.get((r, c), 0)].format(escape(table.text(value))) for c, value in enumerate(values)],
        )
        for r, (label, values) in enumerate(table.rows)
    ]


_MD = ("{}", "**{}**", "<u>{}</u>")  # a number, the best of its column, the second
_TEX = ("{}", r"\textbf{{{}}}", r"\underline{{{}}}")
LATEX_NEEDS = "% needs \\usepackage{booktabs,graphicx,textcomp} and \\usepackage[T1]{fontenc}\n"


def shown_names(table: Table) -> tuple[dict[str, str], list[str]]:
    """What methods, backbones and columns are called in this table, and the legend of those that lost something."""
    methods, first = short_names([method for (method, _), _ in table.rows], table.display)
    protocols = {column: part_name(column) for column in table.columns}
    specs = [spec for spec, _ in protocols.values()] + [backbone for (_, backbone), _ in table.rows]
    others, second = short_names(specs, table.display)
    columns = {column: f"{others[spec]}{kind}" for column, (spec, kind) in protocols.items()}
    return {**methods, **others, **columns}, [*first, *second]


def latex_grid(caption: str, headers: Sequence[str], rows: Sequence[Sequence[str]], labels: int) -> str:
    """One `table` environment of plain texts; the first `labels` columns are text, the others numbers."""
    texts = [[latex_text(cell) for cell in row] for row in rows]
    label = f"tab:{slug(caption.partition('.')[0])[:40]}"
    return _latex(latex_prose(caption), label, [latex_text(header) for header in headers], texts, labels)


def _latex(caption: str, label: str, headers: Sequence[str], rows: Sequence[Sequence[str]], labels: int) -> str:
    """Of texts that are LaTeX already. The grid is scaled down where it is wider than the line."""
    lines = [
        r"\begin{table}",
        r"\centering\sloppy",
        rf"\caption{{{caption}}}",
        rf"\label{{{label}}}",
        r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%",
        rf"\begin{{tabular}}{{@{{}}{'l' * labels}{'r' * (len(headers) - labels)}@{{}}}}",
        r"\toprule",
        _ampersands(headers),
        r"\midrule",
        *map(_ampersands, rows),
        r"\bottomrule",
        r"\end{tabular}}",
        r"\end{table}",
    ]
    return "\n".join(lines)


def as_json(tables: Sequence[Table]) -> str:
    """A list of tables; every value with mean, std, what the std is over, n and status."""
    return json.dumps([_json(table) for table in tables], indent=1) + "\n"


def csv(records: Sequence[dict]) -> str:
    """Long format: one row per record, nested fields as `seconds.distill`."""
    return pd.json_normalize(list(records)).map(csv_field).to_csv(index=False)


def _text(table: Table) -> str:
    names, legend = shown_names(table)
    names, prefix = without_prefix(names, [*table.columns, *(backbone for (_, backbone), _ in table.rows)])
    legend = [*prefix, *map(plain, legend)]
    tries = ((1, False, WIDTH), (1, True, WIDTH), (0, True, WIDTH), (0, True, 10_000))  # numbers are never cut
    printed = next(drawn for gap, wrap, width in tries if (drawn := _draw(table, names, gap, wrap, width)))
    return printed + "".join(f"  {line}\n" for line in [*_wrapped(table.lines), *legend])  # specs stay whole


def _draw(table: Table, names: dict[str, str], gap: int, wrap: bool, width: int) -> str | None:
    """The grid with `gap` extra blanks between columns and headers of several lines (`wrap`), or None if it is too wide."""
    shown = [[plain(table.text(value, joint="±")) for value in values] for _, values in table.rows]
    grid = _grid(plain(table.title), gap)
    for label in table.labels:
        grid.add_column(label, no_wrap=True)
    for c, column in enumerate(table.columns):
        header = _folded(names[column], max(len(row[c]) for row in shown)) if wrap else names[column]
        grid.add_column(header, justify="right", no_wrap=True)
    numbered = zip(table.rows, shown, strict=True)
    for method, rows in groupby(numbered, key=lambda row: row[0][0][0]):
        rows = list(rows)
        for first, (((_, backbone), _), cells) in zip(_spread(names[method], len(rows)), rows, strict=True):
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
    spaced = re.sub(r",(?! )", ", ", method.replace("[", " ["))
    lines = textwrap.wrap(spaced, 14, break_long_words=False, break_on_hyphens=False)
    lines += [""] * (rows - len(lines))
    return [*lines[: rows - 1], "\n".join(lines[rows - 1 :])]


def _wrapped(lines: Sequence[str]) -> list[str]:
    return [part for line in lines for part in textwrap.wrap(line, WIDTH - 2, subsequent_indent="  ")]


def without_prefix(names: dict[str, str], shown: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """Headers that fit a terminal: the prefix that all backbones share goes (`mini_`), words wrap at `_`. Also the legend."""
    real = [n for n in dict.fromkeys(shown) if names[n] == n and "_" in n and " " not in n]
    shared = takewhile(lambda words: len(set(words)) == 1, zip(*(n.split("_")[:-1] for n in real), strict=False))
    prefix = "".join(f"{words[0]}_" for words in shared) if len(real) > 1 else ""
    prefix = prefix.partition("[")[0]
    short = {name: name.removeprefix(prefix).replace("_", " ") for name in real}
    return {name: plain(text) for name, text in {**names, **short}.items()}, (
        [f"backbone names without the prefix {prefix}"] if prefix else []
    )


def part_name(name: str) -> tuple[str, str]:
    """A protocol's spec and which of its columns this is: `SPEC own` -> SPEC and ` own`."""
    spec, _, kind = name.rpartition(" ")
    return (spec, f" {kind}") if kind in ("own", "transfer") and spec else (name, "")


def pipes(cells: Sequence[str]) -> str:
    """One row of a GitHub table of plain texts."""
    return _pipes([markdown_text(cell) for cell in cells])


def _pipes(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _ampersands(cells: Sequence[str]) -> str:
    return " & ".join(cells) + r" \\"


def _json(table: Table) -> dict:
    def cells(values: Sequence[Value]) -> dict:
        return {column: asdict(value) for column, value in zip(table.columns, values, strict=True)}

    rows = [{"method": m, "distill_backbone": None if b == MISSING else b, "cells": cells(v)} for (m, b), v in table.rows]
    return {"title": table.title, **table.facts, "caption": table.lines, "columns": table.columns, "rows": rows}


FORMATS = {"text": text, "md": markdown, "latex": latex, "json": as_json}
