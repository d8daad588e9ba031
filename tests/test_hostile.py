"""What others write, by hypothesis: it is read, or refused in one line. Specs, suites, records, bundles, argument lists.

With test_hostile_files.py 700 cases; `make hostile` tries 14,000.
"""

import gzip
import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ddbench.benchmark.cli import main
from ddbench.benchmark.records.bundle import merge, read_bundle
from ddbench.benchmark.records.records import FILE, load_records
from ddbench.benchmark.suite.suite import load_suite
from ddbench.core.errors import UserError
from ddbench.core.params import parse_spec, write_spec
from ddbench.core.registries import BACKBONES, DATASETS, METHODS, PROTOCOLS

from .benchmark.fake_records import grid
from .hostile import JSON, hostile, mutated, read_or_refused

SPECS = [
    "clpdd[tau=0.1,augment=flip+crop]", "lgm[steps=5,init=centroid]", "neighbors[of=lgm[steps=3]]", "duet[also=mini_vit_mae]",
    "timm[model=resnet10t,args=drop_rate:0.1]", "checkpoint[file=a.pth,model=resnet18,mean=(0.5,0.5,0.5)]",
    'folder[path="a, b",size=64]', "imagenet[subset=imagenette]", "holdout[data=digits,fraction=0.2]",
    "linear-probe[epochs=3]", "ssl-pretrain[target=digits,labels=1+5]", "alignment[of=mini_vit_mae]",
]  # fmt: skip


@hostile
@given(spec=mutated(SPECS))
def test_specs(spec):
    for registry in (METHODS, BACKBONES, DATASETS, PROTOCOLS):
        read_or_refused(registry.check, spec)
        read_or_refused(registry.create, spec)


@hostile
@given(name=st.from_regex(r"[a-z_]{1,8}", fullmatch=True), value=st.text(max_size=40))
def test_every_value_can_be_written(name, value):
    assert parse_spec(write_spec(name, {"key": value, "more": "1"})) == (name, {"key": value, "more": "1"})


@st.composite
def damaged_records(draw):
    """Two records, of which one has a field that is missing or anything."""
    records = json.loads(json.dumps(grid()[:2]))
    key = draw(st.sampled_from([*records[0]]))
    if draw(st.booleans()):
        records[0][key] = draw(JSON)
    else:
        del records[0][key]
    return records


@hostile
@given(records=damaged_records())
def test_records_and_bundles(records, tmp_path):
    run = tmp_path / "run"
    run.mkdir(exist_ok=True)
    (run / FILE).write_text("".join(json.dumps(record) + "\n" for record in records))
    if read_or_refused(load_records, [run]) is not None:
        assert main(["table", str(run)]) in (0, 2)
        assert main(["show", str(run)]) in (0, 2)
    bundle = tmp_path / "bundle.json"
    bundle.write_text(json.dumps({"bundle": 1, "records": records}))
    read_or_refused(merge, [bundle], tmp_path / "into")


@hostile
@given(text=mutated([json.dumps({"bundle": 1, "records": grid()[:1]})]), zipped=st.booleans())
def test_bundle_texts(text, zipped, tmp_path):
    file = tmp_path / ("b.json.gz" if zipped else "b.json")
    content = text.encode(errors="surrogatepass")
    file.write_bytes(gzip.compress(content) if zipped else content)
    read_or_refused(read_bundle, file)


SUITE = """
name: hostile
methods: [clpdd, {name: lgm, steps: [1, 2]}]
backbones: mini_vit_mae
ipc: [1, 10]
seeds: 0
protocols: [ridge-probe]
"""


@hostile
@given(text=mutated([SUITE]))
def test_suites(text, tmp_path):
    file = tmp_path / "suite.yaml"
    file.write_bytes(text.encode(errors="surrogatepass"))
    read_or_refused(load_suite, file)


WORDS = st.sampled_from([
    "run", "list", "show", "table", "evaluate", "merge", "check", "data", "methods", "-m", "clpdd", "--ipc", "--seed", "-b",
    "--dry-run", "--out", "--name", "--suite", "--protocol", "--metric", "--format", "--into", "nowhere", "-1", "999999999999",
    "", "-", "--", "a\x00b", "é", "x" * 300,
])  # fmt: skip


@hostile
@given(argv=st.lists(WORDS, max_size=5))
def test_argument_lists(argv, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("ddbench.benchmark.commands.run.lead", lambda *_: 0)
    try:
        assert main(argv) in (0, 1, 2)
    except SystemExit as end:  # --help
        if end.code:
            raise


@pytest.mark.parametrize("name", ["b.json.gz", "b.json"])
def test_a_bundle_that_unpacks_to_more_than_anyone_shares_is_refused(name, tmp_path):
    file = tmp_path / name
    with gzip.open(file, "wb", compresslevel=1) if name.endswith("gz") else file.open("wb") as out:
        for _ in range(600 if name.endswith("gz") else 1):
            out.write(b" " * 2**20)
    if not name.endswith("gz"):
        os.truncate(file, 2**40)  # sparse
    with pytest.raises(UserError, match="larger than"):
        read_bundle(file)


def test_a_device_is_no_bundle():
    with pytest.raises(UserError, match="no bundle|not a file"):
        read_bundle(Path("/dev/zero"))
