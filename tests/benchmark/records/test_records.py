"""Records survive kills and full disks, and the right one of two wins."""

import errno
import json
import os
import resource
import signal

import pytest

from ddbench.benchmark.records.records import FILE, append_record, done_hashes, jsonable, load_records
from ddbench.core.errors import UserError

from ..fake_records import record as complete


def record(name="a", status="ok", **more):
    return {**complete(top1=50.0 if status == "ok" else None), "config_hash": name, "status": status, **more}


@pytest.fixture
def out(tmp_path):
    append_record(tmp_path, record("a", top1=1.0))
    return tmp_path


def test_records_come_back_in_order(out):
    append_record(out, record("b", details={"x": [1, 2]}))
    assert load_records([out]) == [record("a", top1=1.0), record("b", details={"x": [1, 2]})]
    assert load_records([out / FILE]) == load_records([out])


def test_the_last_record_wins_but_a_failure_does_not_hide_a_success(out):
    append_record(out, record("a", top1=2.0))
    append_record(out, record("a", "failed"))
    append_record(out, record("b", "timeout"))
    append_record(out, record("b", "oom"))
    assert [(r["config_hash"], r["status"], r.get("top1")) for r in load_records([out])] == [
        ("a", "ok", 2.0),
        ("b", "oom", None),
    ]


def test_several_folders_are_merged(out, tmp_path_factory):
    other = tmp_path_factory.mktemp("other")
    append_record(other, record("a", "failed"))
    append_record(other, record("b"))
    assert [r["status"] for r in load_records([other, out])] == ["ok", "ok"]


@pytest.mark.parametrize(("status", "done"), [("ok", True), ("unsupported", True), ("oom", False), ("timeout", False)])
def test_only_ok_and_unsupported_count_as_done(tmp_path, status, done):
    append_record(tmp_path, record("x", status))
    assert done_hashes(tmp_path) == ({"x"} if done else set())


def test_nothing_is_done_in_a_new_folder(tmp_path):
    assert done_hashes(tmp_path) == set()


@pytest.mark.parametrize("cut", [2, 10, 30])
def test_a_line_cut_short_by_a_kill_is_ignored_and_then_removed(out, cut):
    append_record(out, record("b"))
    text = (out / FILE).read_bytes()
    (out / FILE).write_bytes(text[:-cut])
    assert [r["config_hash"] for r in load_records([out])] == ["a"]
    append_record(out, record("c"))
    assert [r["config_hash"] for r in load_records([out])] == ["a", "c"]
    assert all(json.loads(line) for line in (out / FILE).read_text().splitlines())


def test_a_whole_record_that_lacks_its_newline_counts_and_stays(out):
    append_record(out, record("b"))
    (out / FILE).write_bytes((out / FILE).read_bytes()[:-1])
    assert [r["config_hash"] for r in load_records([out])] == ["a", "b"]
    append_record(out, record("c"))
    assert [r["config_hash"] for r in load_records([out])] == ["a", "b", "c"]


def test_a_long_cut_line_is_removed_too(out):
    with (out / FILE).open("ab") as stream:
        stream.write(b"x" * 200_000)
    append_record(out, record("c"))
    assert [r["config_hash"] for r in load_records([out])] == ["a", "c"]


@pytest.mark.parametrize("line", ["{", "[]", "3", '{"schema": 1}', "\x00\x00"])
def test_a_corrupt_line_is_named(out, line):
    with (out / FILE).open("a") as stream:
        stream.write(line + "\n")
    with pytest.raises(UserError, match=rf"{FILE}:2: not a record"):
        load_records([out])


def test_an_unknown_schema_is_refused(out):
    append_record(out, {**record("b"), "schema": 99})
    with pytest.raises(UserError, match=rf"{FILE}:2: record schema 99"):
        load_records([out])


def test_a_folder_without_records_is_an_error(tmp_path):
    with pytest.raises(UserError, match="no records"):
        load_records([tmp_path])


def assert_untouched_after(out, break_disk):
    before = (out / FILE).read_bytes()
    with pytest.raises(UserError, match=r"disk is full while writing .*nothing was lost, rerun to resume"):
        break_disk()
    assert (out / FILE).read_bytes() == before
    append_record(out, record("b"))  # there is room again
    assert [r["config_hash"] for r in load_records([out])] == ["a", "b"]


def test_a_full_disk_leaves_the_file_as_it_was(out, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def attempt():
        with monkeypatch.context() as patch:
            patch.setattr(os, "write", full)
            append_record(out, record("b"))

    assert_untouched_after(out, attempt)


def test_a_short_write_leaves_the_file_as_it_was(out, monkeypatch):
    def attempt():
        whole = os.write
        with monkeypatch.context() as patch:
            patch.setattr(os, "write", lambda fd, line: whole(fd, line[:9]))
            append_record(out, record("b"))

    assert_untouched_after(out, attempt)


def test_a_file_size_limit_is_a_full_disk(out):
    """The kernel's own short write: room for a part of the line only."""

    def attempt():
        size, limits = (out / FILE).stat().st_size, resource.getrlimit(resource.RLIMIT_FSIZE)
        handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + 10, limits[1]))
        try:
            append_record(out, record("b"))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
            signal.signal(signal.SIGXFSZ, handler)

    assert_untouched_after(out, attempt)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")
def test_a_device_without_room_is_a_full_disk(tmp_path):
    (tmp_path / FILE).symlink_to("/dev/full")
    with pytest.raises(UserError, match="disk is full"):
        append_record(tmp_path, record())


def test_what_json_cannot_hold_is_made_plain(tmp_path):
    assert jsonable({1: (float("nan"), float("inf"), 1.5), "p": tmp_path, "b": True}) == {
        "1": [None, None, 1.5],
        "p": str(tmp_path),
        "b": True,
    }


@pytest.mark.parametrize("older", [{"finished": "2026-01-01T00:00:00+00:00", "method_code": "a" * 16}, {"method_code": None}])
def test_older_results_that_are_merged_in_do_not_hide_newer_ones(tmp_path, older):
    newer = complete(config_hash="new", finished="2026-02-01T00:00:00+00:00", method_code="b" * 16)
    other = complete(config_hash="old", **{"finished": "2026-03-01T00:00:00+00:00", **older})
    for record in (newer, other):
        append_record(tmp_path, record)
    assert [record["config_hash"] for record in load_records([tmp_path])] == ["new"]


def test_another_gpu_is_no_other_result(tmp_path):
    for slot, code in (("cuda:0", "a" * 16), ("cuda:1", "b" * 16)):
        append_record(tmp_path, complete(config_hash=code, device=slot, method_code=code))
    assert [record["method_code"] for record in load_records([tmp_path])] == ["b" * 16]
