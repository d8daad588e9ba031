"""Tables and figures of the documents, made by the commands that stand above them: `make tables`.

    <!-- table: ddbench table results/reference/zoo2/cifar10.json.gz --metric summary --format md -->
    what the command prints; as a block of text where it is no Markdown
    <!-- end -->

`rows:` in the place of `table:` keeps the grid and leaves out the title and the lines below it. With `plot: ddbench plot BUNDLE
... -o docs/images/NAME.png` the command draws the image that the text between the marks shows. Paths are those of the
repository's root. A test compares every table with its records.

    python -m doc_blocks [FILE.md ...] [--check]
"""

import argparse
import contextlib
import io
import os
import re
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from ddbench.benchmark.cli import main as ddbench

ROOT = Path(__file__).parents[1]
_BLOCK = re.compile(r"^<!-- (table|rows|plot): ddbench (.+?) -->\n(.*?)^<!-- end -->$", re.MULTILINE | re.DOTALL)
_MARK = re.compile(r"^<!-- (?:(?:table|rows|plot):|end -->)", re.MULTILINE)


def documents() -> list[Path]:
    return sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])


def renewed(document: str, run: Callable[[str], str], plots: bool = True) -> str:
    """The document with every block as its command (`run`: arguments of ddbench -> what it prints) has it now.

    Without `plots` no figure is drawn. Raises `ValueError` for a mark that belongs to no block.
    """
    if 2 * len(_BLOCK.findall(document)) != len(_MARK.findall(document)):
        raise ValueError(
            "a block lacks its first or last mark: <!-- table: ddbench table ... --> and <!-- end -->, a line each"
        )

    def block(found: re.Match) -> str:
        kind, command, between = found.groups()
        if kind != "plot":
            between = f"\n{_shown(kind, run(command), command)}\n\n"
        elif plots:
            run(command)
        return f"<!-- {kind}: ddbench {command} -->\n{between}<!-- end -->"

    return _BLOCK.sub(block, document)


def _shown(kind: str, printed: str, command: str) -> str:
    text = printed.strip("\n")
    if kind == "rows":
        return "\n".join(line for line in text.split("\n") if line.startswith("|"))
    return text if "--format md" in command else f"```text\n{text}\n```"


def run(command: str) -> str:
    """What `ddbench COMMAND` prints, run in the repository's root. Raises `ValueError` where it fails."""
    printed, complaint = io.StringIO(), io.StringIO()
    with contextlib.chdir(ROOT), contextlib.redirect_stdout(printed), contextlib.redirect_stderr(complaint):
        code = ddbench(shlex.split(command))
    if code:
        raise ValueError(f"ddbench {command}: {complaint.getvalue().strip() or f'exit code {code}'}")
    return printed.getvalue()


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="doc_blocks", description="Renew the tables and figures of the documents.")
    parser.add_argument("files", nargs="*", type=Path, help="default: all of the repository")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if a table is not what its command prints")
    args = parser.parse_args(argv)
    os.environ["NO_COLOR"] = "1"
    stale = []
    for file in args.files or documents():
        text = file.read_text(encoding="utf-8")
        if (new := renewed(text, run, plots=not args.check)) == text:
            continue
        stale.append(file)
        if not args.check:
            file.write_text(new, encoding="utf-8")
    for file in stale:
        print(f"{file}: {'not what its commands print; make tables' if args.check else 'renewed'}")
    return int(args.check and bool(stale))


if __name__ == "__main__":
    sys.exit(main())
