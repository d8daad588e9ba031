"""Results travel without loss, twice without harm, and never mix protocol versions or overwrite one another."""

import json
import subprocess
import sys

import pytest

from ddbench.benchmark.cli import main
from ddbench.benchmark.records.bundle import Merged, export, merge
from ddbench.benchmark.records.records import load_records
from ddbench.core.errors import UserError

from ..fake_records import grid, record


def stored(folder, records):
    folder.mkdir()
    (folder / "records.jsonl").write_text("".join(json.dumps(r) + "\n" for r in records))
    return folder


def bundled(tmp_path, records, name="a"):
    export(stored(tmp_path / f"run-{name}", records), tmp_path / f"{name}.json")
    return tmp_path / f"{name}.json"


def key(records):
    return sorted(records, key=lambda r: r["config_hash"])


def test_a_bundle_brings_every_record_unchanged(tmp_path):
    records = grid(seeds=(0, 1))
    found = merge([bundled(tmp_path, records)], tmp_path / "into")
    assert found == Merged(len(load_records([tmp_path / "run-a"])), 0)
    assert key(load_records([tmp_path / "into"])) == key(load_records([tmp_path / "run-a"]))


def test_merging_again_changes_nothing(tmp_path):
    bundle = bundled(tmp_path, grid())
    first = merge([bundle, bundle], tmp_path / "into")
    content = (tmp_path / "into" / "records.jsonl").read_bytes()
    again = merge([bundle], tmp_path / "into")
    assert (again.added, again.known) == (0, first.added)
    assert (tmp_path / "into" / "records.jsonl").read_bytes() == content


def test_the_same_records_give_the_same_bundle(tmp_path):
    records = grid()
    assert bundled(tmp_path, records).read_bytes() == bundled(tmp_path, records[::-1], "b").read_bytes()


def test_a_compressed_bundle_holds_the_same_and_a_truncated_one_is_one_line(tmp_path):
    plain = bundled(tmp_path, grid())
    small = tmp_path / "a.json.gz"
    export(tmp_path / "run-a", small)
    assert small.stat().st_size < plain.stat().st_size / 5
    merge([small], tmp_path / "into")
    assert merge([plain], tmp_path / "into") == Merged(0, len(load_records([tmp_path / "run-a"])))
    content = small.read_bytes()
    for damaged in (content[:-20], b"no gzip", content[:40] + b"?" + content[41:]):
        small.write_bytes(damaged)
        assert "is no bundle of ddbench, or truncated" in refused([small], tmp_path / "into")


def refused(bundles, into) -> str:
    with pytest.raises(UserError) as error:
        merge(bundles, into)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_one_configuration_with_two_results_is_refused_and_nothing_is_written(tmp_path):
    good = bundled(tmp_path, [record(top1=50.0)])
    merge([good], tmp_path / "into")
    before = (tmp_path / "into" / "records.jsonl").read_bytes()
    bad = bundled(tmp_path, [record("random", None), record(top1=51.0)], "b")
    line = refused([bad], tmp_path / "into")
    assert "clpdd on mini_resnet_dino -> mini_vit_dino" in line
    assert "'top1': 50.0 there, 51.0 in the bundle" in line
    assert (tmp_path / "into" / "records.jsonl").read_bytes() == before
    assert "another 'top1'" in refused([good, bad], tmp_path / "fresh")
    assert not (tmp_path / "fresh").exists()


def test_another_protocol_version_is_refused(tmp_path):
    line = refused([bundled(tmp_path, [record(protocol_version=0)])], tmp_path / "into")
    assert "version 0 of protocol 'ridge-probe', this program has version 1" in line


def test_a_finished_record_goes_before_a_failed_one(tmp_path):
    failed = bundled(tmp_path, [record(top1=None, status="oom", top1_per_seed=[])])
    good = bundled(tmp_path, [record(top1=50.0)], "b")
    merge([failed], tmp_path / "into")
    assert merge([good], tmp_path / "into").added == 1
    assert merge([failed], tmp_path / "into") == Merged(0, 1)
    assert [r["status"] for r in load_records([tmp_path / "into"])] == ["ok"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda text: text[: len(text) // 2], "truncated"),
        (lambda text: "[]", "no bundle"),
        (lambda text: text.replace('"bundle": 1', '"bundle": 7'), "format 7"),
        (lambda text: text.replace('"schema": 1', '"schema": 9'), "schema 9"),
        (lambda text: text.replace('"top1":', '"accuracy":'), "record 1 lacks 'top1'"),
        (lambda text: text.replace('"protocol": "ridge-probe"', '"protocol": "ridge"'), "unknown protocol 'ridge'"),
    ],
)
def test_a_damaged_bundle_is_one_line(change, words, tmp_path):
    bundle = bundled(tmp_path, [record()])
    bundle.write_text(change(bundle.read_text()))
    assert words in refused([bundle], tmp_path / "into")


def test_the_commands_count_what_they_did(tmp_path, capsys):
    run, file = stored(tmp_path / "run", [record()]), tmp_path / "out" / "bundle.json"
    assert main(["export", str(run), "--out", str(file)]) == 0
    assert main(["merge", str(file), "--into", str(tmp_path / "into")]) == 0
    assert "1 records added" in capsys.readouterr().out
    assert main(["merge", str(tmp_path / "none.json"), "--into", str(tmp_path / "into")]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_four_processes_that_merge_into_one_folder_at_once_write_each_record_once(tmp_path):
    bundle, code = (
        bundled(tmp_path, grid()),
        "import sys; from pathlib import Path\n"
        + ("from ddbench.benchmark.records.bundle import merge; merge([Path(sys.argv[1])], Path(sys.argv[2]))"),
    )
    command = [sys.executable, "-P", "-c", code, str(bundle), str(tmp_path / "into")]
    merging = [subprocess.Popen(command) for _ in range(4)]
    assert [process.wait() for process in merging] == [0] * 4
    written = (tmp_path / "into" / "records.jsonl").read_text().splitlines()
    assert len(written) == len(load_records([tmp_path / "run-a"]))
