"""The command line.

    ddbench run -m clpdd --ipc 1          distil, evaluate, print the tables
    ddbench list methods                  what there is, with parameters
    ddbench table results/runs/NAME       the tables of a stored run

Exit codes: 0 all is well, 1 a cell failed, a check failed or a regression was found, 2 bad input (one line on stderr),
130 interrupted (143 by SIGTERM, 129 by SIGHUP). An exception that is not bad input keeps its traceback: it is a bug.
"""

import argparse
import signal
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version

from ..core.errors import Unsupported, UserError
from .commands import align, check, compare, data, doctor, evaluate, listing, merge, new, plot, push, report, run, show, table
from .machine.output import Output
from .machine.signals import raising

_COMMANDS = {
    "run": run,
    "list": listing,
    "show": show,
    "table": table,
    "report": report,
    "plot": plot,
    "push": push,
    "evaluate": evaluate,
    "compare": compare,
    "export": merge,
    "merge": merge,
    "align": align,
    "check": check,
    "new": new,
    "data": data,
    "doctor": doctor,
}
_LONGEST = 2000  # characters of a message


class Parser(argparse.ArgumentParser):
    """argparse whose complaints are one line, like every other complaint of the program."""

    def error(self, message: str):
        raise UserError(f"{message} (see `{self.prog} --help`)")


def parser(asked: str = "") -> argparse.ArgumentParser:
    """The parser of the subcommand that is asked for, with all of them where there is none of that name; `args.command(args)`
    runs one and returns the exit code."""
    top = Parser(prog="ddbench", description="Dataset distillation on frozen backbones: accuracy, speed and peak memory.")
    top.add_argument("--version", action="version", version=f"ddbench {_version()}")
    commands = top.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for module in [_COMMANDS[asked]] if asked in _COMMANDS else dict.fromkeys(_COMMANDS.values()):
        module.add(commands)
    return top


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit code."""
    if sys.stdout is None:  # closed by the caller
        return _run(argv)
    output, stdout = Output(sys.stdout), sys.stdout
    sys.stdout = output  # type: ignore[assignment]
    try:
        code = _run(argv)
        output.flush()
    finally:
        sys.stdout = stdout
    if output.complaint:
        print(f"ddbench: error: {output.complaint}", file=sys.stderr)
        return code or 1
    return code


def _run(argv: Sequence[str] | None) -> int:
    try:
        with raising():
            words = sys.argv[1:] if argv is None else argv
            args = parser(*words[:1]).parse_args(words)
            return args.command(args)
    except (UserError, Unsupported) as error:
        print(f"ddbench: error: {one_line(str(error))}", file=sys.stderr)
        return 2
    except MemoryError:
        print("ddbench: error: not enough memory; close other programs or raise the limit, then rerun", file=sys.stderr)
        return 2
    except KeyboardInterrupt as error:
        print("ddbench: interrupted; what is finished is stored, the same command goes on from there", file=sys.stderr)
        return 128 + getattr(error, "number", signal.SIGINT)


def one_line(text: str) -> str:
    """A message without line breaks or control characters, whatever input it repeats; the middle of a very long one is cut."""
    line = " ".join("".join(char if char.isprintable() else " " for char in text).split())
    return line if len(line) <= _LONGEST else f"{line[: _LONGEST // 2]} … {line[-_LONGEST // 2 :]}"


def _version() -> str:
    try:
        return version("ddbench")
    except PackageNotFoundError:  # a source tree on the path, not installed
        return "unknown"
