"""Results that travel: a run folder's records as one small JSON file, merged into another folder, by pull request for instance.

A bundle holds records only, one per line and in an order of their own, so that two versions of it differ line by line; a name
that ends in .gz is compressed, to a twentieth.
Merging checks everything before it writes anything: protocol versions must be those of this program, and a configuration
that is there already must have the same result.
"""

import gzip
import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...core.errors import UserError, shown
from ...core.registries import PROTOCOLS
from .fields import fault
from .records import FILE, SCHEMA, append_record, jsonable, load_records, newest
from .regression import POINTS, cell_name
from .run_folder import locked, prepare

Record = dict[str, Any]

_FORMAT = 1
_LARGEST = 512 * 2**20  # bytes, unpacked: a million records have about 4 GB, what people share 1 MB
_WAIT = 60.0  # seconds for others that merge into the same folder


@dataclass(frozen=True)
class Merged:
    """Numbers of records: written now, and there already."""

    added: int
    known: int


def export(folder: Path, file: Path) -> int:
    """Write the records of a run folder into the bundle `file`; returns how many. Raises `UserError`."""
    records = sorted(load_records([folder]), key=_place)
    lines = ",\n".join(json.dumps(jsonable(record), sort_keys=True, allow_nan=False) for record in records)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        content = f'{{"bundle": {_FORMAT}, "records": [\n{lines}\n]}}\n'.encode()
        file.write_bytes(gzip.compress(content, mtime=0) if file.suffix == ".gz" else content)
    except OSError as error:
        raise UserError(f"cannot write {file}: {error.strerror}; choose another --out") from None
    return len(records)


def _place(record: dict[str, Any]) -> tuple[str, ...]:
    """Where a record stands in a bundle: by what it is about, in the order in which tables are read."""
    numbers = (f"{record[name] or 0:09d}" for name in ("ipc", "distill_seed"))
    names = ("dataset", "method_spec", "distill_backbone", "protocol_spec", "eval_backbone", "config_hash")
    return (*numbers, *(record[name] or "" for name in names))


def merge(bundles: Sequence[Path], into: Path) -> Merged:
    """Add the records of `bundles` to the run folder `into`; what is there already is left alone.

    Raises `UserError` before anything is written for a damaged bundle, another protocol version, or a configuration with two
    different results. A finished record goes before a failed one of the same configuration.
    """
    bundled = [(file, record) for file in bundles for record in read_bundle(file)]
    for file, record in bundled:
        _check_version(file, record)
    _chosen(bundled, {})  # before the folder is made
    with locked(prepare(into, "--into"), wait=_WAIT):
        new, known = _chosen(bundled, {r["config_hash"]: r for r in load_records([into])} if (into / FILE).exists() else {})
        for record in new:
            append_record(into, record)
    return Merged(len(new), known)


def _chosen(bundled: Sequence[tuple[Path, Record]], held: dict[str, Record]) -> tuple[list[Record], int]:
    """The records that are to be added to those `held`, and how many are there already."""
    new: dict[str, Record] = {}
    known = 0
    for file, record in bundled:
        there = new.get(record["config_hash"]) or held.get(record["config_hash"])
        if there is not None and (same := _same(there, record, file)):
            known += same
        else:
            new[record["config_hash"]] = record
    return list(new.values()), known


def agreed(bundles: Mapping[Path, Sequence[Record]]) -> list[Record]:
    """The records of all bundles, one per configuration: what several ran, such as `random`, is the first one's.

    Raises `UserError` where two bundles are more than `POINTS` apart on a configuration: machines round differently.
    """
    held: dict[str, tuple[Path, Record]] = {}
    for file, record in ((file, record) for file, records in bundles.items() for record in records):
        other, there = held.get(record["config_hash"], (file, record))
        both = there["status"] == record["status"] == "ok"
        if both and abs(there["top1"] - record["top1"]) > POINTS:
            values = f"{there['top1']:.1f} % in {other.name}, {record['top1']:.1f} % in {file.name}"
            raise UserError(f"{cell_name(record)}: {values}; one of the two is wrong, leave it out")
        if record["config_hash"] not in held or (record["status"] == "ok" and not both):
            held[record["config_hash"]] = (file, record)
    return [record for _, record in held.values()]


def read_bundle(file: Path) -> list[dict[str, Any]]:
    """The records of a bundle. Raises `UserError` for a file that is none, or records that lack something."""
    try:
        content = json.loads(_content(file))
        records, form = content["records"], content["bundle"]
    except (gzip.BadGzipFile, zlib.error, EOFError, ValueError, KeyError, TypeError, RecursionError):
        raise UserError(f"{file} is no bundle of ddbench, or truncated; make it again with `ddbench export`") from None
    except OSError as error:
        raise UserError(f"cannot read {file}: {error.strerror}; give a file of `ddbench export`") from None
    if form != _FORMAT:
        raise UserError(f"{file} is a bundle of format {shown(form)}, this version of ddbench reads {_FORMAT}; export it again")
    if not isinstance(records, list):
        raise UserError(f"{file} is no bundle of ddbench: its records are no list; make it again with `ddbench export`")
    for number, record in enumerate(records, 1):
        if (reason := fault(record)) is not None:
            raise UserError(f"{file}: record {number} {reason}; make the bundle again with `ddbench export`")
        if record["schema"] != SCHEMA:
            raise UserError(f"{file}: record schema {record['schema']}, this version of ddbench reads {SCHEMA}; rerun it")
    return records


def read_records(paths: Sequence[Path]) -> list[Record]:
    """Records of run folders, `records.jsonl` files and bundles (.json, .json.gz) alike, as `load_records` chooses them."""
    return newest(
        read_bundle(path) if path.suffix in _BUNDLES and not path.is_dir() else load_records([path]) for path in paths
    )


_BUNDLES = (".json", ".gz")


def _content(file: Path) -> bytes:
    """What the file holds, unpacked; a few bytes can unpack to more than any memory, and a device never ends."""
    if file.exists() and not file.is_file():
        raise UserError(f"{file} is not a file; give one of `ddbench export`")
    with gzip.open(file) if file.suffix == ".gz" else file.open("rb") as opened:
        content = opened.read(_LARGEST + 1)
    if len(content) > _LARGEST:
        raise UserError(f"{file} is larger than {_LARGEST >> 20} MiB, unpacked; share fewer records at a time")
    return content


def _check_version(file: Path, record: dict[str, Any]) -> None:
    version = PROTOCOLS.constant(record["protocol"], "version")
    if record["protocol_version"] != version:
        old = f"version {record['protocol_version']} of protocol {record['protocol']!r}"
        raise UserError(f"{file}: {cell_name(record)} is of {old}, this program has version {version}; rerun it")


def _same(there: dict[str, Any], record: dict[str, Any], file: Path) -> bool:
    """True if `there` stays: the same record, or a finished one against a failed one; False if `record` takes its place."""
    if there["status"] == "ok" == record["status"] and jsonable(there) != jsonable(record):
        change = next(key for key in sorted({*there, *record}) if there.get(key) != record.get(key))
        values = f"{_short(there.get(change))} there, {_short(record.get(change))} in the bundle"
        raise UserError(f"{file}: {cell_name(record)} has another {change!r}: {values}; one configuration has one record")
    return there["status"] == "ok" or record["status"] != "ok"


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 40 else f"{text[:39]}…"
