"""Names for people: a suite's display names where records have them, else specs cut to what tells them apart.

One table, one naming: `short_names(specs)` gives a short name for every spec, each different, and legend lines for those
that say less than the spec.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import PurePosixPath

from .escape import plain

LONGEST = 24  # characters of a spec that is a name already
_MODEL = ("model", "path", "root", "file", "data", "of", "dataset")  # parameters that name what a spec is about, in this order


def short_names(specs: Iterable[str], given: dict[str, str] | None = None) -> tuple[dict[str, str], list[str]]:
    """A short name for every spec, and a legend line `name = spec` for each that lost something.

    `given` are display names. A spec of up to `LONGEST` characters is its own name; a longer one is called by its plugin, or by
    the model or path that it is about, with the few parameters in which it differs from its kin, or with a letter.
    """
    specs = list(dict.fromkeys(specs))
    names = {spec: (given or {}).get(spec, spec) for spec in specs}
    long = [spec for spec in specs if names[spec] == spec and len(spec) > LONGEST and "[" in spec]
    taken = {names[spec] for spec in specs if spec not in long}
    kin = defaultdict(list)
    for spec in long:
        kin[_about(spec)].append(spec)
    for about, alike in kin.items():
        names |= _told_apart(about, alike, taken)
        taken |= {names[spec] for spec in alike}
    doubled = defaultdict(list)
    for spec, name in names.items():
        doubled[name].append(spec)
    for name, alike in doubled.items():
        names |= {spec: f"{name} {_letter(k)}" for k, spec in enumerate(alike) if len(alike) > 1}
    return names, [f"{name} = {spec}" for spec, name in names.items() if name != spec]


def _told_apart(about: str, specs: Sequence[str], taken: set[str]) -> dict[str, str]:
    if len(specs) == 1 and about not in taken:
        return {specs[0]: about}
    params = {spec: _params(spec) for spec in specs}
    common = set.intersection(*(set(values) for values in params.values()))
    short = {spec: f"{about}[{','.join(p for p in values if p not in common)}]" for spec, values in params.items()}
    if len(specs) > 1 and all(
        len(name) <= LONGEST and not name.endswith("[]") and name not in taken for name in short.values()
    ):
        return short
    return {spec: f"{about} {_letter(k)}" for k, spec in enumerate(specs)}


def _letter(k: int) -> str:
    return chr(ord("a") + k) if k < 26 else str(k)


def _about(spec: str) -> str:
    """`mobilenetv2_100` of `timm[model=mobilenetv2_100,...]`, `cifar10` of `arrays[path=data/cifar10]`, else the plugin."""
    plugin, _, _ = spec.partition("[")
    values = {key: value for key, _, value in (part.partition("=") for part in _params(spec))}
    for key in _MODEL:
        value = values.get(key, "").strip("'\"")
        if value:
            inner = _about(value) if "[" in value else PurePosixPath(value).name.partition(".")[0] or value
            return inner if key in ("model", "path", "root", "file") else f"{plugin} {inner}"
    return plugin


def _params(spec: str) -> list[str]:
    """The parameters of a spec, broken at the commas outside inner brackets."""
    inside = spec.partition("[")[2].removesuffix("]")
    parts, depth = [""], 0
    for letter in inside:
        depth += (letter in "[(") - (letter in "])")
        if letter == "," and not depth:
            parts.append("")
        else:
            parts[-1] += letter
    return [part.strip() for part in parts if part.strip()]


def display_names(records: Iterable[dict]) -> dict[str, str]:
    """Display names by spec, of records whose suite gave some."""
    held = (record.get("display") for record in records)
    return {spec: plain(name) for names in held if isinstance(names, dict) for spec, name in names.items()}


def slug(text: str) -> str:
    """Letters, digits and dashes of a text, for labels and file names."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
