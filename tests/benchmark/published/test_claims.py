"""Claimed against measured: whose record answers for which cell, what is outside, and where a claimed number may stand."""

import csv
import io
import json
from pathlib import Path

import pytest

from ddbench.benchmark.cli import main
from ddbench.benchmark.published import table as claims_table
from ddbench.benchmark.published.against import against
from ddbench.benchmark.published.claim import chosen_tables, read_claims, shipped
from ddbench.benchmark.published.paper_names import NAMES, Names, canonical, identity
from ddbench.benchmark.suite.overrides import Overrides
from ddbench.core.errors import UserError
from ddbench.core.params import spec_string
from ddbench.core.registries import BACKBONES, DATASETS, METHODS, PROTOCOLS

from ..fake_records import record

NO_TEXT = Path(__file__).parents[3] / "backbones" / "mini" / "mini_vit_mae.safetensors"  # any file that is no text
CLIP, DINO = "clip_vitb16[normalise=imagenet]", "dinov2_vitb14[normalise=imagenet]"
EVA, MOCO = "eva02_vitb14[normalise=imagenet]", "mocov3_vitb16[normalise=imagenet]"
IN100, PROBE = "imagenet[subset=imagenet-100]", "lgm-probe"


def measured(method="lgm", distil: str | None = CLIP, judge=CLIP, top1: float | None = 84.5, **changes) -> dict:
    facts = {
        "dataset": IN100,
        "protocol": PROBE,
        "protocol_spec": PROBE,
        "top1_per_seed": [top1 or 0.0, top1 or 0.0],
        **changes,
    }
    return record(method, distil, judge, top1=top1, **facts)


def table(*names: str):
    return chosen_tables(read_claims(shipped()), names)


def cell(comparisons, method="lgm", distil: str | None = "clip_vitb16", judge="clip_vitb16", dataset="imagenet100"):
    wanted = (method, distil, judge, dataset)
    (found,) = [
        c for c in comparisons if (c.claim.method, c.claim.distill_backbone, c.claim.eval_backbone, c.claim.dataset) == wanted
    ]
    return found


def compare(records, *names: str, overrides: Overrides | None = None, points: float = 1.0):
    return against(table(*(names or ("lgm-1",))), records, Names.read(overrides=overrides), points)


def test_the_published_numbers_are_those_of_the_papers_tables():
    claims = read_claims(shipped())
    assert sum(c.paper == "lgm" and c.table != "6" for c in claims) == 224
    assert {c.source for c in claims if c.paper == "lgm"} == {"paper"}
    assert {c.source for c in claims if c.paper == "mkdt"} == {"authors' result dump 2024-10-14"}
    assert cell(compare([])).claim.value == 84.9


def test_table_2_holds_the_diagonal_of_table_1():
    one, two = compare([], "lgm-1"), compare([], "lgm-2")
    for name in ("clip_vitb16", "dinov2_vitb14", "eva02_vitb14", "mocov3_vitb16"):
        for dataset in ("imagenet100", "imagenet1k"):
            values = {cell(t, "lgm", name, name, dataset).claim.value for t in (one, two)}
            assert len(values) == 1


def test_a_record_answers_where_everything_agrees():
    found = cell(compare([measured()]))
    assert found.measured.mean == 84.5
    assert found.difference == pytest.approx(-0.4)
    assert not found.outside


@pytest.mark.parametrize(
    "other",
    [
        {"method": "lgm[steps=100]"},
        {"method": "clpdd"},
        {"distil": DINO},
        {"distil": "clip_vitb16"},  # its own normalisation, not the paper's
        {"judge": DINO},
        {"dataset": "imagenet"},
        {"dataset": "digits"},
        {"protocol_spec": "linear-probe"},
        {"protocol_spec": "lgm-probe[epochs=10]"},
        {"ipc": 10},
    ],
)
def test_another_setting_does_not_answer(other):
    found = cell(compare([measured(**other)]))
    assert found.measured.text() == "—"
    assert found.difference is None
    assert not found.outside


def test_where_the_data_lies_does_not_matter():
    elsewhere = "imagenet[root=/big/disk,subset=imagenet-100]"
    assert cell(compare([measured(dataset=elsewhere)])).measured.mean == 84.5
    assert identity("imagenet[subset=a,root=b]", ("root",)) == identity("imagenet[subset=a]", ("root",))
    inside = [identity(f"holdout[data=arrays[root={root},size=32]]", ("root",)) for root in "ab"]
    assert inside[0] == inside[1] != identity("holdout[data=arrays[root=a,size=64]]", ("root",))


def test_a_value_that_is_no_spec_tells_plugins_apart_as_it_is():
    assert [identity(f"thing[of={value}]", ()) for value in ("a/b", "c++")] == [
        ("thing", (("of", "a/b"),)), ("thing", (("of", "c++"),)),
    ]  # fmt: skip
    assert len({identity(f"duet[also={also}]", ()) for also in ("mini_vit_mae", "mini_vit_mae+mini_vit_simclr")}) == 2


def test_imagenet_1k_asks_for_three_copies():
    on_1k = {"dataset": "imagenet"}
    found = compare([measured("lgm[copies=3]", **on_1k), measured("lgm", judge=DINO, distil=DINO, **on_1k)])
    assert cell(found, dataset="imagenet1k").measured.mean == 84.5
    assert cell(found, distil="dinov2_vitb14", judge="dinov2_vitb14", dataset="imagenet1k").measured.mean is None


def test_controls_answer_without_a_distil_backbone_and_full_without_ipc():
    found = compare([measured("random", None, top1=57.0), measured("full", None, ipc=None, top1=92.0)])
    assert cell(found, "random", None).measured.mean == 57.0
    assert cell(found, "full", None).measured.mean == 92.0


def test_mean_of_others_needs_every_other_backbone():
    some = [measured(judge=judge, top1=top1) for judge, top1 in ((DINO, 80.0), (EVA, 83.0))]
    complete = [*some, measured(judge=MOCO, top1=62.0)]
    assert cell(compare(some, "lgm-3-cross"), judge="mean-of-others").measured.mean is None
    assert cell(compare(complete, "lgm-3-cross"), judge="mean-of-others").measured.mean == pytest.approx(75.0)


def test_table_6_is_relative_to_the_set_of_the_eval_backbone():
    on_1k = {"method": "lgm[copies=3]", "dataset": "imagenet", "protocol": "knn", "protocol_spec": "knn"}
    records = [measured(**on_1k, judge=DINO, top1=30.0), measured(**on_1k, distil=DINO, judge=DINO, top1=60.0)]
    claim = ("lgm", "clip_vitb16", "dinov2_vitb14", "imagenet1k")
    assert cell(compare(records, "lgm-6"), *claim).measured.mean == pytest.approx(50.0)
    assert cell(compare(records[:1], "lgm-6"), *claim).measured.mean is None  # nothing to be relative to
    nothing = [records[0], {**records[1], "top1": 0.0, "top1_per_seed": [0.0]}]
    assert cell(compare(nothing, "lgm-6"), *claim).measured.mean is None


def pretrained(target: str | None, *, student: str = "", location: str = "", **parts: list[float]) -> dict:
    """A record of MKDT's evaluation of its CIFAR-100 set."""
    teacher = canonical(BACKBONES, Names.read().papers["mkdt"].backbones["barlow_resnet18@cifar100"])
    protocol = "ssl-pretrain[recipe=mkdt" + student + (f",target={target}{location}" if target else "") + "]"
    facts = {"protocol": "ssl-pretrain", "protocol_spec": protocol, "parts": parts, "dataset": "cifar100", "ipc": 10}
    return measured("mkdt[standardise=false]", teacher, None, **facts)


def test_the_cells_of_mkdt_are_parts_of_an_evaluation_on_a_target():
    found = compare([pretrained("cifar10", **{"1% labels": [40.0, 42.0], "5% labels": [50.0, 52.0]})], "mkdt")
    shown = {(c.claim.target, c.claim.part): c.measured.mean for c in found if c.measured.mean is not None}
    assert shown == {("cifar10", "1% labels"): 41.0, ("cifar10", "5% labels"): 51.0}
    printed = claims_table.text(found, Names.read().notes([c.claim for c in found]))
    assert "mkdt-dump: cifar100, top-1 % of a linear probe with 1% labels" in printed
    assert "our probe takes class-balanced labels" in printed


def test_where_the_target_lies_does_not_matter_but_the_student_does():
    part = {"1% labels": [40.0]}
    assert sum(c.measured.mean is not None for c in compare([pretrained("cub", location="[root=/big]", **part)], "mkdt")) == 1
    assert all(c.measured.mean is None for c in compare([pretrained("cub", student=",student=resnet10", **part)], "mkdt"))


def test_outside_is_more_than_the_tolerance_or_three_standard_deviations():
    far = measured(top1=80.0)
    assert cell(compare([far])).outside
    assert not cell(compare([far], points=5.0)).outside
    noisy = measured(top1=80.0, top1_per_seed=[77.0, 80.0, 83.0])  # s = 3, 3 s = 9
    found = cell(compare([noisy]))
    assert found.tolerance == pytest.approx(9.0, abs=0.02)
    assert not found.outside


def test_a_failed_cell_shows_its_status_and_no_difference():
    found = cell(compare([measured(top1=None, status="oom", top1_per_seed=[])]))
    assert (found.measured.text(), found.difference, found.tolerance) == ("oom", None, None)


def test_protocol_versions_are_never_mixed():
    with pytest.raises(UserError, match="versions 1, 2"):
        compare([measured(seed=0), measured(seed=1, protocol_version=2)])


def test_stand_ins_answer_for_what_they_replace_and_the_table_says_so():
    overrides = Overrides.parse(["clip_vitb16=mini_vit_mae", "imagenet=digits"])
    records = [measured(distil="mini_vit_mae", judge="mini_vit_mae", dataset="digits", top1=50.0)]
    found = compare(records, overrides=overrides)
    assert cell(found).measured.mean == 50.0
    printed = claims_table.text(found, overrides.notes())
    assert "NOT the papers' setting: mini_vit_mae stands in for clip_vitb16" in printed


def test_every_name_reads_as_a_spec_and_only_these_cells_have_none():
    names = Names.read()
    unnamed = {(c.paper, c.method or c.metric) for c in read_claims(shipped()) if names.wanted(c) is None}
    assert unnamed == {("mkdt", "sas")}  # a method we do not have


def test_names_are_canonical_whether_plugins_are_imported_or_read():
    """Records are written by imported plugins; `table --against` reads their sources where those tell enough."""
    papers = Names.read().papers.values()
    kinds = ((METHODS, "methods"), (BACKBONES, "backbones"), (DATASETS, "datasets"), (PROTOCOLS, "protocols"))
    specs = [(registry, spec) for paper in papers for registry, kind in kinds for spec in getattr(paper, kind).values()]
    specs += [(METHODS, " lgm[ lr = 1, copies=10,images=pixels]"), (METHODS, "clpdd[tau=5,lam=1e-1]")]
    read = {(registry, spec): registry.canonical_by_source(spec) for registry, spec in specs}
    assert {spec.partition("[")[0] for (_, spec), text in read.items() if text is None} == {"checkpoint"}  # its channels
    for (registry, spec), text in read.items():
        if text is not None and "DISTIL_BACKBONE" not in spec:
            assert text == spec_string(registry.create(spec))


@pytest.mark.parametrize("form", ["text", "md", "latex"])
def test_a_claimed_number_never_stands_in_a_column_of_ours(form):
    """With nothing measured, the printed table holds each claimed number once, and dashes in ours."""
    found = [cell(compare([]))]
    printed = claims_table.FORMATS[form](found, [])
    assert printed.count("84.9") == 1
    dash = "---" if form == "latex" else "—"
    assert printed.count(dash) == 2  # measured and difference


def test_csv_and_json_leave_unmeasured_cells_empty():
    found = compare([measured()])
    rows = list(csv.DictReader(io.StringIO(claims_table.csv(found))))
    assert len(rows) == len(found) == 40
    first = rows[0]
    assert (first["measured"], first["claimed_value"], first["claimed_std"]) == ("84.5", "84.9", "0.1")
    assert {row["measured"] for row in rows[1:]} == {""}
    assert json.loads(claims_table.as_json(found))["cells"][1]["measured"] is None


@pytest.fixture
def stored(tmp_path):
    (tmp_path / "records.jsonl").write_text(json.dumps(measured()) + "\n")
    return str(tmp_path)


def test_the_command_prints_the_tables_that_have_a_measured_cell(stored, capsys):
    assert main(["table", stored, "--against", "published"]) == 0
    printed = capsys.readouterr().out
    assert "lgm-1: imagenet100" in printed
    assert "lgm-2: imagenet100" in printed  # its diagonal is the same cell
    assert "lgm-5" not in printed
    assert "84.5 ± 0.0*" in printed


def test_the_command_takes_a_file_and_a_table(stored, capsys, tmp_path):
    mine = tmp_path / "mine.csv"
    lines = shipped()[0].read_text().splitlines()
    mine.write_text("\n".join([lines[0], lines[1].replace("84.9", "10.0")]) + "\n")
    assert main(["table", stored, "--against", f"published={mine}"]) == 0
    assert "+74.5" in capsys.readouterr().out
    assert main(["table", stored, "--against", "published", "--claims", "lgm-5"]) == 0
    assert "0 of 40 cells measured" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--against", "paper"], "published=FILE.csv"),
        (["--against", "published=nowhere.csv"], "nowhere.csv"),
        (["--against", f"published={NO_TEXT}"], "not a text file of rows"),
        (["--claims", "lgm-1"], "give --against published"),
        (["--against", "published", "--claims", "lgm-11"], "unknown published table 'lgm-11'"),
        (["--against", "published", "--override", "clip_vitb16"], "OLD=NEW"),
    ],
)
def test_bad_input_is_one_line(stored, capsys, argv, words):
    assert main(["table", stored, *argv]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert words in line


def test_records_that_answer_for_nothing_are_told(tmp_path, capsys):
    (tmp_path / "records.jsonl").write_text(json.dumps(record()) + "\n")
    assert main(["table", str(tmp_path), "--against", "published"]) == 2
    assert str(NAMES) in capsys.readouterr().err


def test_a_damaged_file_names_its_line(tmp_path):
    lines = shipped()[0].read_text().splitlines()
    (tmp_path / "a.csv").write_text("\n".join([lines[0], lines[1].replace("84.9", "high")]))
    with pytest.raises(UserError, match=r"a.csv:2: not a number"):
        read_claims([tmp_path / "a.csv"])
    (tmp_path / "c.csv").write_text("")
    with pytest.raises(UserError, match=r"c.csv holds no claims"):
        read_claims([tmp_path / "c.csv"])
    (tmp_path / "b.csv").write_text("paper,value\nlgm,1\n")
    with pytest.raises(UserError, match=r"b.csv:2: column 'source' is missing"):
        read_claims([tmp_path / "b.csv"])
