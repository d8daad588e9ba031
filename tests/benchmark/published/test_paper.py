"""The paper track end to end with stand-ins: suites of the published tables run, and their claims are printed beside."""

import json
import os
from pathlib import Path

import pytest

from ddbench.benchmark.cli import main
from ddbench.benchmark.dry_run import estimate as estimates
from ddbench.benchmark.published.claim import chosen_tables, read_claims, shipped
from ddbench.benchmark.published.paper_names import Names
from ddbench.benchmark.suite.overrides import Overrides
from ddbench.benchmark.suite.plan import outline
from ddbench.benchmark.suite.suite import load_suite
from ddbench.core.method import PROTOCOLS
from ddbench.datasets.imagenet import _synsets

from ...datasets import published

ROOT = Path(__file__).parents[3]
SUITES = sorted([*(ROOT / "suites").glob("lgm-*.yaml"), *(ROOT / "suites").glob("clpdd-imagenet*.yaml")])
PRETRAINING = sorted([*(ROOT / "suites").glob("mkdt-*.yaml"), *(ROOT / "suites").glob("krrst-*.yaml")])
DATASETS = ("imagenet", "spawrious", "waterbirds", "stanford_dogs", "cub200", "flowers102", "food101")
# two small encoders stand in for four: the fewer cells, the sooner
SMALL = ("clip_vitb16=mini_vit_mae", "dinov2_vitb14=mini_vit_simclr", "eva02_vitb14=mini_vit_mae", "mocov3_vitb16=mini_vit_mae")


def stand_ins(suite) -> list[str]:
    """Overrides of this suite's backbones and datasets."""
    text = suite.read_text()
    return [*SMALL, *(f"{name}=digits" for name in DATASETS if f"- {name}" in text or f'"{name}[' in text)]


def arguments(suite) -> list[str]:
    return [word for text in stand_ins(suite) for word in ("--override", text)]


@pytest.mark.parametrize("suite", SUITES, ids=lambda suite: suite.stem)
def test_every_suite_names_published_tables_and_normalises_as_lgm_did(suite):
    found = load_suite(suite, Overrides.parse(stand_ins(suite)))
    assert chosen_tables(read_claims(shipped()), found.claims) or not found.claims
    named = [line for line in suite.read_text().splitlines() if any(name.partition("=")[0] + "[" in line for name in SMALL)]
    assert len(named) >= 4
    assert all("normalise=imagenet" in line for line in named)
    assert found.name == "lgm"


@pytest.mark.parametrize("suite", SUITES, ids=lambda suite: suite.stem)
def test_every_suite_dry_runs_with_stand_ins(suite, monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(estimates, "measured_pace", lambda costs, device: dict.fromkeys(costs, 1e12))
    assert main(["run", "--suite", str(suite), *arguments(suite), "--dry-run", "--out", str(tmp_path / "out")]) == 0
    printed = capsys.readouterr().out
    assert "evaluations to do" in printed
    assert "in all" in printed
    assert "unknown" not in printed


@pytest.mark.skipif(not os.environ.get("DDBENCH_SLOW_TESTS"), reason="minutes per suite; set DDBENCH_SLOW_TESTS=1")
@pytest.mark.parametrize("suite", PRETRAINING, ids=lambda suite: suite.stem)
def test_suites_of_pretraining_name_everything_that_is_missing(suite, monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(estimates, "measured_pace", lambda costs, device: dict.fromkeys(costs, 1e12))
    assert main(["run", "--suite", str(suite), "--dry-run", "--out", str(tmp_path / "out")]) == 0
    lines = capsys.readouterr().out.splitlines()
    first, *others = [line for line in lines if line.startswith("not here yet: ")]
    assert f"weights file data/teachers/barlow_{suite.stem.partition('-')[2]}.pth does not exist" in first
    cells = outline(load_suite(suite))
    judged = [PROTOCOLS.create(evaluation.protocol_spec).judging_data for evaluation in cells[0].evaluations]
    data = {cells[0].dataset, *(spec or cells[0].dataset for spec in judged)}
    assert len(others) == len(data)
    assert all(any(f"yet: {spec.partition('[')[0]} is missing" in line for line in others) for spec in data)
    assert any("in all" in line for line in lines)
    assert not any("unknown" in line for line in lines)


def test_mkdts_suites_hold_every_claimed_cell():
    names = Names.read()
    claimed = {key for claim in chosen_tables(read_claims(shipped()), ["mkdt"]) for key in names.wanted(claim) or ()}
    suites = [load_suite(suite) for suite in PRETRAINING if suite.stem.startswith("mkdt")]
    fields = ("method_spec", "distill_backbone", "dataset", "ipc", "distill_seed", "protocol_spec", "eval_backbone")
    cells = [cell for suite in suites for cell in outline(suite)]
    keys = [cell.evaluation_key(evaluation) for cell in cells for evaluation in cell.evaluations]
    ran = {names.key(dict(zip(fields, key, strict=True))) for key in keys}
    assert claimed <= ran


def test_a_dry_run_without_weights_names_them_and_still_estimates(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr("ddbench.backbones._hub._reachable", lambda endpoint: pytest.fail("asks the hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(estimates, "measured_pace", lambda costs, device: dict.fromkeys(costs, 1e12))
    suite = str(ROOT / "suites" / "lgm-2-imagenet100.yaml")
    assert main(["run", "--suite", suite, "--override", "imagenet=digits", "--dry-run", "--out", str(tmp_path / "out")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("not here yet: cannot get the weights of clip_vitb16")
    assert "4 cells, 16 evaluations to do" in lines
    assert any("in all" in line for line in lines)


# The architectures of the four backbones with one block each, at the smallest size that they take, and random weights.
ONE_BLOCK = {
    "clip_vitb16": "pretrained=false,architecture=ViT-S-32-alt,args=layers:1,input_size=32",
    "dinov2_vitb14": "pretrained=false,architecture=vit_small_patch14_dinov2,args=depth:1,input_size=28",
    "eva02_vitb14": "pretrained=false,architecture=eva02_tiny_patch14_224,args=depth:1,input_size=28",
    "mocov3_vitb16": "pretrained=false,architecture=vit_tiny_patch16_224,args=depth:1,input_size=32",
}
QUICK = ("lgm=lgm[steps=1,copies=1]", "lgm-probe=lgm-probe[epochs=1,full_epochs=1,seeds=2]")


def one_block(name: str) -> str:
    return f"{name}[normalise=imagenet,{ONE_BLOCK[name]}]"


@pytest.fixture(scope="module")
def imagenet(tmp_path_factory) -> str:
    """Spec of a miniature ImageNet: all 1,000 classes, one tiny JPEG each per split."""
    root = tmp_path_factory.mktemp("imagenet")
    published.imagenet(root, _synsets())
    return f"imagenet[root={root},size=32]"


def subset_of(imagenet: str) -> str:
    """The stand-in for ImageNet-100."""
    return f"imagenet[subset=imagenet-100]={imagenet[:-1]},subset=imagenet-100]"


def ran(argv: list[str], out: Path) -> list[dict]:
    """The records of a run on the CPU that has to succeed."""
    assert main(["run", *argv, "--out", str(out), "--device", "cpu", "--threads", "1"]) == 0
    return [json.loads(line) for line in (out / "records.jsonl").read_text().splitlines()]


def test_a_shrunk_table_2_stands_beside_its_claims(imagenet, capsys, tmp_path):
    """The four architectures on ImageNet-100: distilled, evaluated on all four, and printed beside the paper's numbers."""
    swaps = [*QUICK, *(f"{name}={one_block(name)}" for name in ONE_BLOCK), subset_of(imagenet)]
    stand_ins = [word for swap in swaps for word in ("--override", swap)]
    records = ran(["--suite", str(ROOT / "suites" / "lgm-2-imagenet100.yaml"), *stand_ins], tmp_path / "out")
    printed = capsys.readouterr().out
    assert [r["status"] for r in records] == ["ok"] * 16
    assert {(r["num_classes"], r["n_images"]) for r in records} == {(100, 100)}
    assert "NOT the papers' setting" in printed
    assert "lgm-2: imagenet100" in printed
    assert "16 of 32 cells measured" in printed
    own = next(r for r in records if r["distill_backbone"] == r["eval_backbone"] == one_block("eva02_vitb14"))
    assert f"{own['top1']:.1f} ±" in printed
    # the same from the stored records; without the stand-ins nothing answers for the paper's cells
    table = ["table", str(tmp_path / "out"), "--against", "published", "--claims", "lgm-2"]
    for more, measured in ((stand_ins, "16 of 32 cells measured"), ([], "0 of 32 cells measured")):
        assert main([*table, *more]) == 0
        assert measured in capsys.readouterr().out


def test_a_shrunk_table_1_of_1000_classes_stands_beside_its_claims(imagenet, capsys, tmp_path):
    """Every row of the table for one architecture, from two suites in one run."""
    name = "eva02_vitb14"
    swaps = (*QUICK, f"{name}={one_block(name)}", f"imagenet={imagenet}", subset_of(imagenet))
    stand_ins = [word for swap in swaps for word in ("--override", swap)]
    suites = [word for part in ("imagenet1k", "random") for word in ("--suite", str(ROOT / "suites" / f"lgm-1-{part}.yaml"))]
    only = ["-b", one_block(name), "-d", imagenet, "--seed", "0"]
    records = ran([*suites, *stand_ins, *only], tmp_path / "out")
    assert {r["method"] for r in records} == {"lgm", "neighbors", "centroids", "random", "full"}
    assert {(r["status"], r["num_classes"], r["n_images"]) for r in records} == {("ok", 1000, 1000)}
    assert "5 of 40 cells measured" in capsys.readouterr().out
