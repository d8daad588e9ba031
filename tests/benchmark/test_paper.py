"""The paper track end to end with stand-ins: suites of the published tables run, and their claims are printed beside."""

import json
from pathlib import Path

import pytest

from ddbench.benchmark import estimate as estimates
from ddbench.benchmark.claims import chosen_tables, read_claims, shipped
from ddbench.benchmark.cli import main
from ddbench.benchmark.config import load_suite
from ddbench.benchmark.cost import ViewCost
from ddbench.benchmark.overrides import Overrides

ROOT = Path(__file__).parents[2]
SUITES = sorted([*(ROOT / "suites").glob("lgm-*.yaml"), *(ROOT / "suites").glob("clpdd-imagenet*.yaml")])
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
    assert suite.read_text().count("normalise=imagenet") == 4
    assert found.name == "lgm"


@pytest.mark.parametrize("suite", SUITES, ids=lambda suite: suite.stem)
def test_every_suite_dry_runs_with_stand_ins(suite, monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(estimates, "view_cost", lambda spec, device: ViewCost(10**9, 10**6, 10**6, 96, 32, 1e12))
    assert main(["run", "--suite", str(suite), *arguments(suite), "--dry-run", "--out", str(tmp_path / "out")]) == 0
    printed = capsys.readouterr().out
    assert "evaluations to do" in printed
    assert "device hours" in printed
    assert "unknown" not in printed.replace("of unknown time", "")


def test_a_dry_run_without_weights_names_them_and_still_estimates(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr("ddbench.backbones._hub._reachable", lambda endpoint: False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(estimates, "view_cost", lambda spec, device: ViewCost(10**9, 10**6, 10**6, 96, 32, 1e12))
    suite = str(ROOT / "suites" / "lgm-2-imagenet100.yaml")
    assert main(["run", "--suite", suite, "--override", "imagenet=digits", "--dry-run", "--out", str(tmp_path / "out")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("not here yet: cannot get the weights of clip_vitb16")
    assert "4 cells, 16 evaluations to do" in lines
    assert any("device hours" in line for line in lines)


def test_a_shrunk_table_2_runs_and_stands_beside_its_claims(capsys, tmp_path):
    suite = ROOT / "suites" / "lgm-2-imagenet100.yaml"
    quick = ["--override", "lgm=lgm[steps=2,copies=1]", "--override", "lgm-probe=lgm-probe[epochs=2,seeds=2]"]
    argv = ["run", "--suite", str(suite), *arguments(suite), *quick, "--out", str(tmp_path / "out"), "--device", "cpu"]
    assert main(argv) == 0
    printed = capsys.readouterr().out
    assert "NOT the papers' setting" in printed
    assert "lgm-2: imagenet100" in printed
    records = [json.loads(line) for line in (tmp_path / "out" / "records.jsonl").read_text().splitlines()]
    assert {r["status"] for r in records} == {"ok"}
    first = next(r for r in records if r["distill_backbone"] == r["eval_backbone"] == "mini_vit_mae")
    assert f"{first['top1']:.1f} ±" in printed
    # the same table from the stored records, without the stand-ins: nothing answers for the paper's cells
    assert main(["table", str(tmp_path / "out"), "--against", "published", "--claims", "lgm-2"]) == 0
    assert "0 of 32 cells measured" in capsys.readouterr().out
