"""Options and defaults that several commands share."""

import argparse
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..suite.suite import Suite

DEFAULT_DATASET = "digits"
DEFAULT_PROTOCOLS = ("ridge-probe", "linear-probe")


def command(commands, name: str, function, summary: str) -> argparse.ArgumentParser:
    """A subcommand whose help is `summary`."""
    parser = commands.add_parser(name, help=summary, description=summary[0].upper() + summary[1:] + ".")
    parser.set_defaults(command=function)
    return parser


def add_plugins(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--plugin", action="append", default=[], metavar="FILE.py", help="import this file's plugins first")


def add_overrides(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--override", action="append", default=[], metavar="OLD=NEW", help="spec NEW in place of the suite's name or spec OLD"
    )


def add_machine(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help="default: CUDA where there is one")
    parser.add_argument("--threads", type=positive, metavar="N", help="CPU threads; the number is recorded")
    parser.add_argument(
        "--chunk",
        type=positive,
        metavar="VIEWS",
        action=SetsVariable,
        help="views per backbone pass: fewer save memory, and no result depends on them but by rounding; default: what fits",
    )


class SetsVariable(argparse.Action):
    """An option that is the environment variable DDBENCH_NAME, so that every process of the command has it."""

    def __call__(self, parser, namespace, values, option_string=None) -> None:
        os.environ[f"DDBENCH_{self.dest.upper()}"] = str(values)
        setattr(namespace, self.dest, values)


def load_plugins(files: Sequence[str]) -> None:
    """Import plugin files; they may register methods, backbones, datasets and protocols alike."""
    from ...core.registries import METHODS

    for file in files:
        METHODS.load_file(file)


def check_specs(**specs: Sequence[str] | None) -> None:
    """Raise `UserError` for what can be told of `methods`, `backbones`, `datasets`, `protocols` before anything is imported:
    unknown names, wrong parameters, folders that are not there."""
    import dataclasses

    from ...core.errors import UserError
    from ..catalogue import REGISTRIES

    for kind, given in specs.items():
        for spec in given or ():
            plugin = REGISTRIES[kind].check(spec)
            for field in dataclasses.fields(plugin) if plugin else ():
                value = getattr(plugin, field.name)
                needed = field.default is field.default_factory is dataclasses.MISSING
                if needed and isinstance(value, Path) and not value.expanduser().exists():
                    raise UserError(f"{value} does not exist; {spec.partition('[')[0]} needs a {field.name} that does")


def check_suites(suites: Sequence["Suite"]) -> None:
    for suite in suites:
        check_specs(methods=suite.methods, backbones=suite.backbones, datasets=suite.datasets, protocols=suite.protocols)
        check_specs(backbones=suite.eval_backbones)


def default_backbones() -> list[str]:
    """The embedded zoo."""
    from ...core.errors import UserError
    from ..suite.suite import mini_zoo

    names = mini_zoo()
    if not names:
        raise UserError("no embedded backbone is installed; name a backbone with -b")
    return names


def seconds(text: str) -> float:
    """argparse type of a length of time, 0 included."""
    value = float(text)
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"{text} is not a number of seconds from 0")
    return value


def positive(text: str) -> int:
    """argparse type of a count."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} is not a count of at least 1")
    return value
