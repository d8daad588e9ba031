"""Records on disk: one flat JSON object per evaluation, one per line of OUT/records.jsonl.

A line is written by one write and synced before the next cell goes on. A line cut short by a kill is ignored when read and
removed by the next append, but a whole record that only lacks its newline (an editor may have taken it) counts; a disk that
fills up leaves the file as it was.
"""

import errno
import json
import math
import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from ...core.disk import refusal, sync_folder
from ...core.errors import DiskError, UserError, shown
from .fields import fault

_MACHINE = ("cpu", "gpu", "cores_usable", "threads")  # environment fields that tell machines and settings apart
SCHEMA = 1
FILE = "records.jsonl"
_DONE = ("ok", "unsupported")  # nothing to gain from running these again


def load_records(paths: Sequence[Path]) -> list[dict[str, Any]]:
    """Records of all `paths` (run folders or .jsonl files), one per configuration hash.

    The last record of a configuration wins, but an ok record wins over a failed one. Where a folder holds results of one cell
    by several states of its code, those of the code that ran last stay. Raises `UserError` for a path without
    records, a corrupt line before the last one, or a schema that this version does not know.
    """
    return newest(_read(_file(Path(path))) for path in paths)


def newest(sources: Iterable[list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Of the records of several folders or bundles, those that `load_records` gives."""
    latest: dict[str, dict[str, Any]] = {}
    for records in sources:
        for record in _of_last_code(records):
            known = latest.get(record["config_hash"])
            if known is None or record["status"] == "ok" or known["status"] != "ok":
                latest[record["config_hash"]] = record
    return list(latest.values())


def _of_last_code(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Without the results that an edited method or protocol has made anew since."""
    codes: dict[tuple[Any, ...], set[tuple[Any, ...]]] = {}
    for record in records:
        codes.setdefault((record.get("method_spec"), record.get("protocol_spec")), set()).add(_codes(record))
    edited = {specs for specs, known in codes.items() if len(known) > 1}
    doubtful = [r for r in records if (r.get("method_spec"), r.get("protocol_spec")) in edited]
    doubtful.sort(key=_when)  # a merge may have put older results behind newer ones
    last = {_but_for_code(record): _codes(record) for record in doubtful}
    older = {id(record) for record in doubtful if last[_but_for_code(record)] != _codes(record)}
    return [record for record in records if id(record) not in older]


def _codes(record: dict[str, Any]) -> tuple[Any, ...]:
    """The code of method and protocol; older records have versions instead."""
    return record.get("method_code"), record.get("protocol_code")


def _when(record: dict[str, Any]) -> tuple[bool, str]:
    """Later results sort behind earlier ones, and those whose code is known behind those of older versions."""
    return _codes(record) != (None, None), str(record.get("finished") or "")


def _but_for_code(record: dict[str, Any]) -> str:
    """What a record is about, whatever the code that made it."""
    cards = [(record.get(name) or {}).get("sha256") for name in ("distill_backbone_spec", "eval_backbone_spec")]
    device = str(record.get("device")).partition(":")[0]  # cuda:0 and cuda:1 are one kind
    return repr([*cards, device, *(record.get(name) for name in _ABOUT)])


_ABOUT = (
    "method_spec", "distill_backbone", "dataset", "dataset_fingerprint", "ipc", "distill_seed", "protocol_spec",
    "protocol_version", "eval_backbone", "judging_fingerprint", "precision",
)  # fmt: skip


def done_hashes(out: Path) -> set[str]:
    """Configuration hashes in the run folder `out` that need no further run; empty for a folder without records."""
    if not (out / FILE).exists():
        return set()
    return {record["config_hash"] for record in load_records([out]) if record["status"] in _DONE}


def append_record(out: Path, record: dict[str, Any]) -> None:
    """Append one record durably. Raises `DiskError` if it cannot be written; the file is then as it was before."""
    line = (json.dumps(jsonable(record), allow_nan=False) + "\n").encode()
    path = out / FILE
    try:
        new = not path.exists()
        descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
    except OSError as error:
        raise DiskError(f"{refusal(path, error)}; nothing was lost, rerun to resume") from error
    try:
        _append(descriptor, path, line)
    finally:
        os.close(descriptor)
    if new:
        with suppress(OSError):
            sync_folder(out)


def jsonable(value: Any) -> Any:
    """`value` with tuples as lists, paths as strings and non-finite numbers as None, which is what JSON can hold."""
    if isinstance(value, dict):
        return {str(key): jsonable(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [jsonable(inner) for inner in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, (bool, int, str)) else str(value)


def _append(descriptor: int, path: Path, line: bytes) -> None:
    length = os.fstat(descriptor).st_size
    try:
        length = _end_last_line(descriptor)
        written = os.write(descriptor, line)
        if written != len(line):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        os.fsync(descriptor)
    except OSError as error:
        with suppress(OSError):
            os.ftruncate(descriptor, length)
        raise DiskError(f"{refusal(path, error)}; nothing was lost, rerun to resume") from error


def _end_last_line(descriptor: int) -> int:
    """Remove what a kill in mid-write left behind the last newline, or end a whole record by one; returns the length."""
    size = os.fstat(descriptor).st_size
    end = size
    while end:
        start = max(0, end - 65536)
        found = os.pread(descriptor, end - start, start).rfind(b"\n")
        end = start + found + 1 if found >= 0 else start
        if found >= 0:
            break
    if end < size and _is_whole(os.pread(descriptor, size - end, end)):
        return size + os.write(descriptor, b"\n")
    if end < size:
        os.ftruncate(descriptor, end)
    return end


def _is_whole(line: bytes) -> bool:
    """Whether a line is an object of JSON, which no part of one is."""
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False


def _read(file: Path) -> list[dict[str, Any]]:
    try:
        lines = file.read_bytes().split(b"\n")
    except OSError as error:
        raise UserError(f"cannot read {file}: {error.strerror}") from error
    if not _is_whole(lines[-1]):
        del lines[-1]  # cut short by a kill
    return [_parse(file, number, line) for number, line in enumerate(lines, 1) if line.strip()]


def _parse(file: Path, number: int, line: bytes) -> dict[str, Any]:
    try:
        record = json.loads(line)
        schema = record["schema"]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise UserError(f"{file}:{number}: not a record of ddbench; delete this line") from None
    if schema != SCHEMA:
        version = f"record schema {shown(schema)}, this version of ddbench reads {SCHEMA}"
        raise UserError(f"{file}:{number}: {version}; use another --out")
    if (reason := fault(record)) is not None:
        raise UserError(f"{file}:{number}: not a record of ddbench, it {reason}; delete this line")
    return record


def _file(path: Path) -> Path:
    file = path / FILE if path.is_dir() else path
    if not file.is_file():
        raise UserError(f"no records in {path}: {file} does not exist")
    return file


def machine(environment: dict[str, Any] | None) -> tuple[str, ...]:
    """What tells one machine from another in a record's environment."""
    return tuple(str((environment or {}).get(key)) for key in _MACHINE)
