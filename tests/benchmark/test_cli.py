"""Bad input is one line that says what to do, with exit code 2; the commands that need no run print what they promise."""

import errno
import json
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from ddbench.benchmark.cli import _COMMANDS, main, parser
from ddbench.core.run import Run
from ddbench.core.sets import DistilledSet, class_labels

from .fake_records import grid


def refused(capsys, *argv: str) -> str:
    """The single line that a refused command line prints."""
    assert main(argv) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1, lines
    assert lines[0].startswith("ddbench: error: ")
    return lines[0]


@pytest.fixture
def stored(tmp_path):
    """Write records to a run folder."""

    def store(name: str, records: list[dict]):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "records.jsonl").write_text("".join(json.dumps(r) + "\n" for r in records))
        return str(folder)

    return store


@pytest.fixture
def folder(tmp_path):
    """An image folder with two classes in train/ and test/."""
    for split in ("train", "test"):
        for name in ("cat", "dog"):
            (tmp_path / "pets" / split / name).mkdir(parents=True)
            for index in range(2):
                Image.new("RGB", (8, 8), (index, 0, 0)).save(tmp_path / "pets" / split / name / f"{index}.png")
    return tmp_path / "pets"


pytestmark = pytest.mark.usefixtures("fake_plugins")  # also undoes what --plugin registers

RUN = ("run", "-m", "random", "-b", "fake_net", "--eval-backbone", "fake_net", "--no-controls", "--dry-run")


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["run", "-m", "clpd"], ["unknown method 'clpd'", "did you mean 'clpdd'"]),
        (["run", "-m", "clpdd[tua=1]"], ["unknown parameter 'tua'", "did you mean 'tau'"]),
        (["run", "-m", "clpdd[tau=x]"], ["method 'clpdd'", "tau='x'", "number"]),
        (["run", "-m", "clpdd[tau"], ["cannot read 'clpdd[tau'"]),
        (["run", "-m", "random", "--ipc", "0"], ["ipc", "0", "greater than or equal to 1"]),
        (["run", "-m", "random", "--ipc", "x"], ["--ipc", "'x'"]),
        (["run"], ["-m", "ddbench list methods"]),
        ([*RUN, "-d", "digit"], ["unknown dataset 'digit'", "did you mean 'digits'"]),
        ([*RUN, "--protocol", "ridge"], ["unknown protocol 'ridge'", "ridge-probe"]),
        ([*RUN, "-b", "fake_nett"], ["unknown backbone 'fake_nett'", "did you mean 'fake_net'"]),
        (["run", "--suite", "nowhere.yaml"], ["nowhere.yaml"]),
        (["run", "-m", "random", "--plugin", "nowhere.py"], ["nowhere.py does not exist"]),
        (["list", "method"], ["invalid choice: 'method'"]),
        (["tabel"], ["invalid choice: 'tabel'", "table"]),
        (["table", "nowhere"], ["no records in nowhere"]),
        (["compare", "nowhere", "elsewhere"], ["no records in nowhere"]),
        (["check", "herdin"], ["did you mean 'herding'"]),
        (["show", "nowhere"], ["nowhere is neither a run", "nor a distilled set"]),
        (["evaluate", "not_here.pth"], ["not_here.pth does not exist; give"]),
        (["evaluate", "nowhere", "-b", "mini_nothing"], ["unknown backbone"]),
    ],
)
def test_bad_input_is_one_line(capsys, argv, words):
    line = refused(capsys, *argv)
    for word in words:
        assert word in line


def test_a_folder_without_train_is_named(capsys, tmp_path):
    (tmp_path / "test").mkdir()
    assert "train" in refused(capsys, *RUN, "-d", f"folder[path={tmp_path}]")


def test_a_corrupt_image_is_named(capsys, folder):
    (folder / "train" / "cat" / "1.png").write_bytes(b"this is no image")
    assert "1.png" in refused(capsys, *RUN, "-d", f"folder[path={folder},size=8]")


def test_truncated_weights_are_named(capsys, tmp_path):
    weights = tmp_path / "w.safetensors"
    save_file({"a": torch.zeros(100)}, weights)
    weights.write_bytes(weights.read_bytes()[:-50])
    line = refused(capsys, *RUN, "-b", f"timm[model=resnet10t,weights={weights}]")
    assert "w.safetensors" in line


def test_a_pickle_in_place_of_safetensors_is_refused(capsys, tmp_path):
    weights = tmp_path / "w.safetensors"
    weights.write_bytes(pickle.dumps({"a": np.zeros(3)}))
    assert "w.safetensors" in refused(capsys, *RUN, "-b", f"timm[model=resnet10t,weights={weights}]")


def test_an_out_folder_that_cannot_be_written_is_named(capsys, tmp_path):
    (tmp_path / "file").write_text("in the way")
    line = refused(capsys, *RUN[:-1], "-d", "fake_data", "--out", str(tmp_path / "file" / "out"))
    assert "cannot write to" in line
    assert "--out" in line


def refusing(*_):
    raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG))


def test_a_run_prints_tables_picture_and_records_and_a_second_one_skips_everything(capsys, tmp_path, fake_plugins, monkeypatch):
    out = tmp_path / "out"
    grid = ["-b", "fake_net", "-b", "fake_net[seed=1]", "--eval-backbone", "fake_net", "-d", "fake_data"]
    argv = [
        "run",
        "-m",
        "fake",
        *grid,
        "--protocol",
        "fake_probe",
        "--no-controls",
        "--plugin",
        str(fake_plugins),
        "--out",
        str(out),
    ]
    assert main([*argv, "--dry-run"]) == 0
    assert "2 cells, 2 evaluations to do" in capsys.readouterr().out
    assert not out.exists()
    assert main(argv) == 0
    first = capsys.readouterr().out
    assert "Summary: fake_data, IPC 1" in first
    assert "Accuracy:" not in first
    assert f"every backbone: ddbench table {out}" in first
    assert (out / "gallery-fake_data-ipc1.png").is_file()
    assert f"records: {out / 'records.jsonl'}" in first
    assert main(argv) == 0
    second = capsys.readouterr()
    assert "2 evaluations done already, skipped" in second.err
    assert second.out == first
    with monkeypatch.context() as patched:
        patched.setattr("ddbench.benchmark.report.gallery.gallery", refusing)
        assert main(argv) == 0  # everything but the picture is there
    third = capsys.readouterr().out
    assert "no picture: File name too long" in third
    assert f"records: {out / 'records.jsonl'}" in third


def test_overwriting_distils_a_set_that_suites_share_once(capsys, tmp_path, fake_plugins):
    suites = []
    for name, seeds in (("a", 3), ("b", 4)):
        file = tmp_path / f"{name}.yaml"
        file.write_text(
            "methods: [fake]\nbackbones: [fake_net]\ndatasets: [fake_data]\ncontrols: false\n"
            f"protocols: [fake_probe, 'fake_probe[seeds={seeds}]']\n"
        )
        suites += ["--suite", str(file)]
    assert main(["run", *suites, "--plugin", str(fake_plugins), "--overwrite", "--out", str(tmp_path / "out")]) == 0
    rows = [json.loads(line) for line in (tmp_path / "out" / "records.jsonl").read_text().splitlines()]
    assert sorted(row["protocol_spec"] for row in rows) == ["fake_probe", "fake_probe[seeds=3]", "fake_probe[seeds=4]"]
    assert len({row["started"] for row in rows}) == 1
    assert capsys.readouterr().out.count("Summary: fake_data, IPC 1") == 2  # each suite prints its own


def test_a_failed_cell_is_shown_and_exits_with_1(capsys, tmp_path, fake_plugins):
    grid = ["-b", "fake_net", "--eval-backbone", "fake_net", "-d", "fake_data", "--protocol", "fake_probe", "--no-controls"]
    argv = ["run", "-m", "fake[fail=diverge]", *grid, "--plugin", str(fake_plugins), "--out", str(tmp_path / "out")]
    assert main(argv) == 1
    text = capsys.readouterr().out
    assert "DIVERGED  fake[fail=diverge] on fake_net -> fake_net" in text
    assert "loss is nan at step 3 of 5" in text


FAKES = ("-b", "fake_net", "--eval-backbone", "fake_net", "-d", "fake_data", "--protocol", "fake_probe")


def test_a_run_in_which_nothing_asked_for_makes_sense_is_refused(capsys, tmp_path, fake_plugins):
    """The controls, which would run, do not make it worth while; a part that makes sense does."""
    line = refused(capsys, "run", "-m", "random", "--ipc", "9999", *FAKES, "--out", str(tmp_path))
    assert "nothing to run: random picks 9999 real images per class, but the smallest class of fake_data has 6" in line
    assert not (tmp_path / "records.jsonl").exists()
    picky = ["-m", "fake_picky", "-m", "random", "--no-controls", "--plugin", str(fake_plugins)]
    assert main(["run", *picky, *FAKES, "--out", str(tmp_path)]) == 0
    assert "UNSUPPORTED  never makes sense" in capsys.readouterr().out


def test_a_method_that_finds_out_late_that_nothing_makes_sense_exits_with_1(capsys, tmp_path, fake_plugins):
    argv = ["run", "-m", "fake[fail=unsupported]", *FAKES, "--no-controls", "--plugin", str(fake_plugins)]
    for _ in range(2):  # the second time from the records
        assert main([*argv, "--out", str(tmp_path)]) == 1
        assert "UNSUPPORTED  makes no sense" in capsys.readouterr().out


def test_an_interrupt_exits_with_130(capsys, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("ddbench.benchmark.contract.checks.check", interrupted)
    assert main(["check", "random"]) == 130
    assert "the same command goes on" in capsys.readouterr().err


def test_a_bug_keeps_its_traceback(monkeypatch):
    monkeypatch.setattr("ddbench.benchmark.contract.checks.check", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        main(["check", "random"])


def test_version_and_help(capsys):
    for argv in (["--version"], ["--help"], ["run", "--help"]):
        with pytest.raises(SystemExit) as exit:
            main(argv)
        assert exit.value.code == 0
    assert "ddbench " in capsys.readouterr().out


def test_list_shows_summary_types_and_defaults(capsys):
    assert main(["list", "methods", "-v"]) == 0
    text = capsys.readouterr().out
    assert "clpdd\n    Closed-form" in text
    assert "outer = ce   ('ce' | 'mse')   outer loss" in text
    assert "lr = 0.05   (float > 0)   Adam" in text
    duet = text.partition("\nduet\n")[2].partition("\nfull\n")[0]
    assert "tau = 0.2   (float > 0)   softmax temperature" in duet, "what the base class says of a changed default"
    assert main(["list", "protocols", "--json"]) == 0
    listed = {plugin["name"]: plugin for plugin in json.loads(capsys.readouterr().out)}
    assert listed["ridge-probe"]["version"] >= 1


@pytest.mark.parametrize("form", ["text", "md", "csv", "latex", "json"])
def test_table_prints_every_format(capsys, stored, form):
    assert main(["table", stored("a", grid()), "--format", form, "--metric", "seconds"]) == 0
    assert "clpdd" in capsys.readouterr().out


def test_compare_exits_with_1_on_a_regression(capsys, stored):
    reference, run = stored("reference", grid()), stored("run", grid()[1:])
    assert main(["compare", reference, reference]) == 0
    assert main(["compare", reference, run]) == 1
    assert "WORSE   random -> mini_resnet_dino" in capsys.readouterr().out


def test_check_exits_with_1_for_a_method_with_a_fault(capsys, tmp_path):
    plugin = tmp_path / "noisy.py"
    plugin.write_text(
        "from dataclasses import dataclass\n"
        "from ddbench.methods import Method, register\n"
        "@register('noisy')\n"
        "@dataclass(frozen=True)\n"
        "class Noisy(Method):\n"
        "    'Returns nothing.'\n"
        "    def distill(self, backbone, data, ipc, *, run):\n"
        "        print('noise')\n"
    )
    assert main(["check", "noisy", "--plugin", str(plugin)]) == 1
    assert "FAILED  prints nothing: printed 'noise'" in capsys.readouterr().out


def test_show_describes_a_set_and_draws_it(capsys, tmp_path):
    DistilledSet(torch.rand(4, 3, 8, 8), class_labels(2, 2), ("cat", "dog"), extras={"lr": 0.1}).save(tmp_path / "set")
    assert main(["show", str(tmp_path / "set"), "--png", str(tmp_path / "set.png")]) == 0
    text = capsys.readouterr().out
    assert "4 images, 8x8 pixels, 2 classes" in text
    assert "lr:        0.1" in text
    assert (tmp_path / "set.png").is_file()


def test_show_lists_the_sets_of_a_run_and_evaluate_asks_for_one(capsys, stored):
    record = grid()[0]
    run = stored("run", [record])
    folder = Path(run) / "sets" / "named-as-one-likes"
    made = {"cell_hash": record["cell_hash"]}
    DistilledSet(torch.rand(2, 3, 8, 8), class_labels(2, 1), ("cat", "dog"), provenance=made).save(folder)
    assert main(["show", run]) == 0
    head, line, *_ = capsys.readouterr().out.splitlines()
    assert head.split()[:5] == ["dataset", "method", "backbone", "IPC", "seed"]
    assert line.split()[0] == record["dataset"]
    assert line.endswith(str(folder))
    assert f"`ddbench show {run}` lists its sets" in refused(capsys, "evaluate", run)
    (folder / "set.json").write_text("5")
    assert "set.json is damaged" in refused(capsys, "show", str(folder))


def test_doctor_reports_and_offers_cures(capsys, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("DDBENCH_CACHE", str(tmp_path / "file" / "cache"))
    assert main(["doctor"]) == 1
    text = capsys.readouterr().out
    assert "torch" in text
    assert "-> set DDBENCH_CACHE" in text


def test_the_views_per_pass_reach_whatever_the_command_starts(monkeypatch, capsys):
    monkeypatch.setenv("DDBENCH_CHUNK", "9")  # so that what the option sets is undone
    assert main([*RUN, "--chunk", "3"]) == 0
    assert Run().chunk == 3
    assert "chunk" in refused(capsys, *RUN, "--chunk", "0")


def commands_of(found) -> set[str]:
    return set(next(action.choices for action in found._actions if action.metavar == "COMMAND"))


@pytest.mark.parametrize("name", _COMMANDS)
def test_only_the_command_that_is_asked_for_is_set_up(name):
    assert name in commands_of(parser(name))
    assert len(commands_of(parser(name))) <= 2  # export and merge are one file
    assert commands_of(parser()) == commands_of(parser("nonsense")) == set(_COMMANDS)
