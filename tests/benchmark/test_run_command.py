"""What `ddbench run` and `doctor --clean` refuse, name and remove, without computing anything."""

import pytest

from ddbench.benchmark.cli import main
from ddbench.benchmark.commands.run import file_name
from ddbench.benchmark.records.run_folder import locked, prepare


@pytest.mark.parametrize(
    "options",
    [["--timeout", "1e-9"], ["--timeout", "nan"], ["--checkpoint-every", "nan"], ["--checkpoint-every", "-1"],
     ["--seed", str(2**64)], ["--seed", "-1"], ["--cells-per-gpu", "0"]],
)  # fmt: skip
def test_numbers_that_make_no_sense_are_one_line(options, capsys, tmp_path):
    assert main(["run", "-m", "random", "--out", str(tmp_path / "out"), *options]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_names_fit_every_file_system():
    assert file_name("gallery-digits-ipc1") == "gallery-digits-ipc1"
    long = [file_name(f"gallery-{'x' * 300}[a={n}]") for n in range(2)]
    assert long[0] != long[1]
    assert all(len(name.encode()) <= 200 for name in long)
    assert len(file_name("ä" * 300).encode()) <= 200


def test_doctor_cleans_run_folders_and_the_cache(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("DDBENCH_CACHE", str(tmp_path / "cache"))
    out = prepare(tmp_path / "run")
    left = [out / "sets" / ".aa.x1.partial", tmp_path / "cache" / "features" / "ab" / ".abc.npy.x2.partial"]
    for folder in left:
        folder.mkdir(parents=True)
        (folder / ".lock").touch()
    assert main(["doctor", "--clean", str(out)]) == 0
    assert not any(folder.exists() for folder in left)
    with locked(out):
        assert main(["doctor", "--clean", str(out)]) == 0
    assert "left alone" in capsys.readouterr().out
    assert main(["doctor", "--clean", str(tmp_path)]) == 2
