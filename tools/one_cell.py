"""What one cell passes through, from the command line to its table: files and functions, and moves between files.

    python -P tools/one_cell.py [--calls] [-- ARGUMENTS OF ddbench]

It runs `ddbench run -m 'clpdd[steps=2]'` with one backbone, one protocol and no controls, in a new folder with a new cache, and
follows every process of it: that of the command, the fork server, the cell. A function of the package counts when it is called;
what imports run does not. A move is a pair of functions in different files, one of which called the other, directly or through
a library; an arrow is a pair of files. `--calls` lists the arrows and how many moves each carries.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

FOLDERS = ("ddbench", "benchmark", "methods", "evaluation", "backbones", "datasets", "core")
TREE, OUT = "ONE_CELL_TREE", "ONE_CELL_OUT"  # variables that tell the processes what to follow and where to note it
CELL = (
    *("run", "-m", "clpdd[steps=2]", "-b", "mini_vit_simclr", "--eval-backbone", "mini_vit_simclr"),
    *("--protocol", "ridge-probe", "--no-controls", "--device", "cpu"),
)


class Follower:
    """Notes every pair of functions of the package that call each other, once, in a file of each process."""

    def __init__(self, tree: Path, out: Path):
        self.roots = tuple(str(tree / folder) + os.sep for folder in FOLDERS)
        self.tree, self.out = tree, out
        self.places: dict[CodeType, str | None] = {}
        self.seen: set[tuple[str | None, str]] = set()

    def __call__(self, frame: FrameType, event: str, _: Any) -> None:
        if event != "call" or (callee := self.place(frame.f_code)) is None:
            return
        above = frame.f_back
        while above is not None and self.place(above.f_code) is None:
            above = above.f_back
        pair = (self.place(above.f_code) if above else None, callee)
        if pair not in self.seen:
            self.seen.add(pair)
            with (self.out / f"{os.getpid()}.calls").open("a") as file:
                file.write(f"{pair[0] or ''}\t{callee}\n")

    def place(self, code: CodeType) -> str | None:
        """`file:function` of a function of the package; None for other code, modules, classes and comprehensions."""
        if code not in self.places:
            file = os.path.realpath(code.co_filename)
            ours = file.startswith(self.roots) and bool(code.co_flags & 1) and "<" not in code.co_name  # 1: has fast locals
            self.places[code] = f"{os.path.relpath(file, self.tree)}:{code.co_qualname}" if ours else None
        return self.places[code]


def follow() -> None:
    """Follow this process; called as it starts."""
    follower = Follower(Path(os.environ[TREE]), Path(os.environ[OUT]))
    threading.setprofile(follower)
    sys.setprofile(follower)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--calls", action="store_true", help="list the arrows between files")
    parser.add_argument("--tree", type=Path, default=Path(__file__).parents[1], help="of the package that this Python imports")
    parser.add_argument("command", nargs="*", default=CELL, help="of ddbench, behind --; default: one cell")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        (work / "sitecustomize.py").write_text("import one_cell\none_cell.follow()\n")
        paths = [folder, str(Path(__file__).parent), *filter(None, [os.environ.get("PYTHONPATH")])]
        ours = {
            "PYTHONPATH": os.pathsep.join(paths),
            "DDBENCH_CACHE": f"{folder}/cache",
            TREE: str(args.tree.resolve()),
            OUT: folder,
        }
        command = [sys.executable, "-P", "-m", "ddbench", *args.command]
        subprocess.run(command, cwd=work, env={**os.environ, **ours}, check=True, stdout=subprocess.DEVNULL)
        lines = [line for noted in work.glob("*.calls") for line in noted.read_text().splitlines()]
    show([tuple(line.split("\t")) for line in lines], args.calls)
    return 0


def show(calls: list[tuple[str, ...]], arrows: bool) -> None:
    functions = {callee for _, callee in calls}
    moves = {(a, b) for a, b in calls if a and a.partition(":")[0] != b.partition(":")[0]}
    between = Counter((a.partition(":")[0], b.partition(":")[0]) for a, b in moves)
    files = {function.partition(":")[0] for function in functions}
    folders = Counter(file.partition("/")[0] for file in files)
    print(f"{len(files)} files, {len(functions)} functions, {len(moves)} moves along {len(between)} arrows between files")
    print(", ".join(f"{folder} {count}" for folder, count in sorted(folders.items(), key=lambda item: (-item[1], item[0]))))
    for (a, b), count in sorted(between.items()) if arrows else ():
        print(f"{count:4}  {a} -> {b}")


if __name__ == "__main__":
    sys.exit(main())
