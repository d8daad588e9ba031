"""What one cell passes through: who counts as a caller, and what is counted."""

import sys

import one_cell
from one_cell import Follower, show

FILES = {
    "core/a.py": "def inner():\n    return 1\n\n\ndef own():\n    return inner()\n",
    "methods/b.py": "def outer(call):\n    return list(map(call, [0]))\n",
    "elsewhere/c.py": "def between(call):\n    return call()\n",
}


def test_calls_through_libraries_count_and_those_of_other_code_do_not(tmp_path, capsys):
    found = {}
    for name, text in FILES.items():
        path = tmp_path / name
        path.parent.mkdir()
        path.write_text(text)
        exec(compile(text, str(path), "exec"), found)
    follower = Follower(tmp_path, tmp_path)
    sys.setprofile(follower)
    try:
        found["outer"](lambda _: found["between"](found["own"]))
    finally:
        sys.setprofile(None)
    calls = [tuple(line.split("\t")) for file in tmp_path.glob("*.calls") for line in file.read_text().splitlines()]
    assert calls == [("", "methods/b.py:outer"), ("methods/b.py:outer", "core/a.py:own"), ("core/a.py:own", "core/a.py:inner")]
    show(calls, arrows=True)
    assert capsys.readouterr().out.splitlines() == [
        "2 files, 3 functions, 1 moves along 1 arrows between files",
        "core 1, methods 1",
        "   1  methods/b.py -> core/a.py",
    ]


def test_it_follows_the_folders_of_the_package():
    assert set(one_cell.FOLDERS) <= {path.name for path in one_cell.Path(one_cell.__file__).parents[1].iterdir()}
