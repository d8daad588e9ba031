"""Suites: a grid of methods, backbones, datasets, budgets, protocols and seeds, from the command line or a YAML file.

    name: tau
    methods:
      - clpdd                              # name or name[key=value,...]
      - {name: clpdd, tau: [0.05, 0.1]}    # lists of values expand to a grid
    backbones:                             # default: the embedded zoo
      - mini_resnet_dino
      - {name: sq64, spec: "torchvision[model=squeezenet1_0,input_size=64]"}  # called sq64 in tables and file names
    datasets: [digits]
    ipc: [1, 10]
    protocols: [ridge-probe]

Only plain YAML is read (no Python tags). Errors name the file and the line.
"""

import itertools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator, model_validator

from ...core.errors import UserError, unknown
from ...core.params import spec_string, write_spec
from ...core.registries import BACKBONES, DATASETS, METHODS, PROTOCOLS, embedded
from ...core.registry import Registry
from .overrides import Overrides

_REGISTRIES: dict[str, Registry[Any]] = {
    "methods": METHODS,
    "backbones": BACKBONES,
    "eval_backbones": BACKBONES,
    "datasets": DATASETS,
    "protocols": PROTOCOLS,
}


_LARGEST_GRID = 100_000  # specs that one entry may expand to


def _as_list(value: Any) -> Any:
    return value if value is None or isinstance(value, (list, tuple)) else [value]


def _expand(entries: Any) -> Any:
    return None if entries is None else [spec for entry in _as_list(entries) for spec in expand(entry)]


Specs = Annotated[list[str], BeforeValidator(_expand), Field(min_length=1)]
Whole = Annotated[int, Field(strict=True)]
Seed = Annotated[Whole, Field(ge=0, lt=2**64)]  # what generators take


DEFAULT_ZOO = 2  # generation of the embedded backbones, core.registries.embedded


def mini_zoo() -> list[str]:
    """The embedded backbones that are the default of `backbones`."""
    return embedded(DEFAULT_ZOO)


class Suite(BaseModel):
    """What to run. Specs are `name` or `name[key=value,...]`; `random` and `full` join as controls unless switched off."""

    model_config = ConfigDict(extra="forbid")

    name: str = "suite"
    methods: Specs
    backbones: Specs = Field(default_factory=mini_zoo)
    eval_backbones: Specs | None = None  # None: those of `backbones`
    datasets: Specs = Field(default=["digits"])
    ipc: Annotated[list[Annotated[Whole, Field(ge=1)]], BeforeValidator(_as_list), Field(min_length=1)] = Field(default=[1])
    protocols: Specs = Field(default=["ridge-probe", "linear-probe"])
    seeds: Annotated[list[Seed], BeforeValidator(_as_list), Field(min_length=1)] = Field(default=[0])
    timeout: Annotated[float, Field(ge=0.1, allow_inf_nan=False)] | None = None  # seconds per cell; None: no limit
    controls: bool = True
    transfer: bool = True  # False: a set is evaluated on the backbone that distilled it only
    claims: Annotated[list[str], BeforeValidator(_as_list)] = Field(default=[])  # published tables to print beside the results
    display: dict[str, str] = Field(default_factory=dict)  # names of one's own by spec, from entries {name: sq64, spec: ...}

    @model_validator(mode="before")
    @classmethod
    def _named(cls, fields: Any) -> Any:
        """Take the names of entries such as {name: sq64, spec: ...} down."""
        if not isinstance(fields, dict):
            return fields
        entries = [entry for section in _REGISTRIES for entry in _as_list(fields.get(section)) or [] if _is_named(entry)]
        names: dict[str, str] = {}
        for entry in entries:
            if names.setdefault(entry["name"], entry["spec"]) != entry["spec"]:
                raise UserError(f"the name {entry['name']!r} stands for two specs")
        return {**fields, "display": {**{spec: name for name, spec in names.items()}, **(fields.get("display") or {})}}

    def display_names(self) -> dict[str, str]:
        """The suite's own names by canonical spec."""
        sections = {spec: section for section in _REGISTRIES for spec in getattr(self, section) or ()}
        named = {spec: name for spec, name in self.display.items() if spec in sections}
        return {spec_string(_REGISTRIES[sections[spec]].create(spec)): name for spec, name in named.items()}

    @field_validator("name")
    @classmethod
    def _plain_name(cls, name: str) -> str:
        """The name becomes a folder."""
        if not name or "/" in name or name.startswith("."):
            raise ValueError("a name is not empty, has no slash and does not start with a dot")
        return name


def suite(**fields: Any) -> Suite:
    """A checked `Suite` from Python or the command line. Raises a one-line `UserError`."""
    try:
        return Suite(**fields)
    except ValidationError as error:
        raise UserError(_message(_first(error))) from None


def load_suite(path: str | Path, overrides: Overrides | None = None) -> Suite:
    """Read a suite file, with stand-ins for some of its specs. Raises `UserError("FILE:LINE: ...")` for anything that cannot
    run, unknown names included."""
    return load_suites([path], overrides or Overrides())[0]


def load_suites(paths: Sequence[str | Path], overrides: Overrides) -> list[Suite]:
    """Suite files that are run together: each stand-in must stand in for something in one of them."""
    written = [_read(Path(path), overrides) for path in paths]
    overrides.check(written)
    return [Suite(**overrides.apply(fields)) for fields in written]


def _read(path: Path, overrides: Overrides) -> dict[str, Any]:
    """The fields of a suite as the file has them, which can run once the stand-ins are in."""
    root = _compose(path)
    values = yaml.SafeLoader("").construct_document(root)
    try:
        found = Suite.model_validate(values)
    except ValidationError as error:
        first = _first(error)
        raise UserError(f"{path}:{_line(root, first['loc'])}: {_message(first)}") from None
    except UserError as error:  # from expanding an entry
        raise UserError(f"{path}:{_bad_entry(root, str(error))}: {error}") from None
    _check_specs(path, root, values, overrides)
    return {**found.model_dump(), **({} if "name" in values else {"name": path.stem})}


def expand(entry: Any) -> list[str]:
    """Specs of one entry: a string stays, `{name: sq64, spec: ...}` is its spec, and a mapping
    `{name: clpdd, tau: [0.05, 0.1]}` becomes a grid of specs."""
    if isinstance(entry, str):
        return [entry]
    if _is_named(entry):
        return [entry["spec"]]
    if not isinstance(entry, dict) or not isinstance(entry.get("name"), str):
        raise UserError(f"cannot read {entry!r}; write a name, name[key=value] or a mapping with a name")
    grid = {str(key): value if isinstance(value, list) else [value] for key, value in entry.items() if key != "name"}
    if empty := [key for key, values in grid.items() if not values]:
        raise UserError(f"{empty[0]!r} of {entry['name']!r} is an empty list")
    if (count := math.prod(map(len, grid.values()))) > _LARGEST_GRID:
        raise UserError(f"{entry['name']!r} expands to {count:,} specs; an entry has at most {_LARGEST_GRID:,}")
    combinations = itertools.product(*([(key, value) for value in values] for key, values in grid.items()))
    return [_spec(entry["name"], combination) for combination in combinations]


def _is_named(entry: Any) -> bool:
    """Whether an entry gives a spec a name of its own, for labels, tables and file names."""
    return isinstance(entry, dict) and entry.keys() == {"name", "spec"} and all(isinstance(v, str) for v in entry.values())


def _spec(name: str, values: tuple[tuple[str, Any], ...]) -> str:
    return write_spec(name, {key: _text(value) for key, value in values})


def _text(value: Any) -> str:
    return "none" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _compose(path: Path) -> yaml.MappingNode:
    """The YAML node tree, which knows its lines; refuses what YAML readers disagree about or would silently drop."""
    if path.exists() and not path.is_file() and not path.is_dir():
        raise UserError(f"cannot read suite {path}: not a file")
    try:
        root = yaml.compose(path.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
        if root is not None:
            yaml.SafeLoader("").construct_document(root)
    except OSError as error:
        raise UserError(f"cannot read suite {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"suite {path} is not UTF-8 text: {error.reason}") from error
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        hint = " (quote specs with brackets inside [...])" if "expected ',' or ']'" in str(error.problem) else ""
        raise UserError(f"{path}:{line}: {error.problem}{hint}") from None
    except RecursionError:
        raise UserError(f"{path}:1: nested too deeply for a suite") from None
    except (yaml.YAMLError, ValueError, LookupError, AttributeError, TypeError) as error:  # of tags such as `!!int ""`
        raise UserError(f"{path}:1: not a YAML file: {' '.join(str(error).split())}") from None
    if not isinstance(root, yaml.MappingNode):
        raise UserError(f"{path}:1: a suite is a mapping such as `methods: [clpdd]`")
    for mapping in _mappings(root):
        _check_keys(path, mapping)
    return root


def _mappings(root: yaml.MappingNode) -> list[yaml.MappingNode]:
    """The root and the mappings in its lists."""
    entries = [item for _, value in root.value if isinstance(value, yaml.SequenceNode) for item in value.value]
    return [root, *(entry for entry in entries if isinstance(entry, yaml.MappingNode))]


def _check_keys(path: Path, mapping: yaml.MappingNode) -> None:
    seen = set()
    for key, _ in mapping.value:
        if key.value in seen:
            raise UserError(f"{path}:{key.start_mark.line + 1}: {key.value!r} is given twice")
        seen.add(key.value)


def _check_specs(path: Path, root: yaml.MappingNode, values: dict[str, Any], overrides: Overrides) -> None:
    """Names and parameters of every entry, so that a mistake is reported at its line and before anything runs."""
    for section, registry in _REGISTRIES.items():
        for index, entry in enumerate(_as_list(values.get(section)) or []):
            for spec in expand(entry):
                try:
                    registry.check(overrides.swap(spec))
                except UserError as error:
                    raise UserError(f"{path}:{_entry_line(root, section, index, str(error))}: {error}") from None


def _bad_entry(root: yaml.MappingNode, message: str) -> int:
    """Line of the first entry that cannot be expanded."""
    for section in _REGISTRIES:
        for node in _nodes(root, section):
            try:
                expand(yaml.SafeLoader("").construct_document(node))
            except UserError as error:
                if str(error) == message:
                    return node.start_mark.line + 1
    return 1


def _entry_line(root: yaml.MappingNode, section: str, index: int, message: str) -> int:
    """Line of an entry; of the parameter inside it that the message names, where the entry is a mapping."""
    node = _nodes(root, section)[index]
    if isinstance(node, yaml.MappingNode):
        for key, _ in node.value:
            if key.value != "name" and (f"{key.value!r}" in message or f" {key.value}=" in message):
                return key.start_mark.line + 1
    return node.start_mark.line + 1


def _nodes(root: yaml.MappingNode, section: str) -> list[yaml.Node]:
    """The entry nodes of a section; a single entry need not be a list."""
    for key, value in root.value:
        if key.value == section:
            return value.value if isinstance(value, yaml.SequenceNode) else [value]
    return []


def _line(root: yaml.MappingNode, location: tuple[int | str, ...]) -> int:
    """Line (from 1) of the node that a pydantic location points at, or of the nearest thing around it."""
    node, line = root, 1
    for step in location:
        if isinstance(node, yaml.MappingNode):
            found = [(key, value) for key, value in node.value if key.value == str(step)]
            if not found:
                break
            line, node = found[0][0].start_mark.line + 1, found[0][1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value):
            node = node.value[step]
            line = node.start_mark.line + 1
    return line


def _first(error: ValidationError) -> Any:
    """The error to report: a misspelt key explains a missing one."""
    return min(error.errors(), key=lambda e: e["type"] != "extra_forbidden")


def _message(error: Any) -> str:
    """A pydantic error in the words of this program."""
    where, kind = str(error["loc"][0]) if error["loc"] else "suite", error["type"]
    if kind == "extra_forbidden":
        return unknown("key", where, list(Suite.model_fields))
    if kind == "missing":
        return f"{where!r} is missing"
    text = error["msg"].removeprefix("Value error, ")
    return f"{where}: {error['input']!r} is not valid: {text[0].lower()}{text[1:]}"
