"""The store: complete entries or none, whoever fails in the middle."""

import errno

import numpy as np
import pytest

from ddbench.core.errors import UserError
from ddbench.core.store import ArrayStore, default_cache

KEY = "ab" + "0" * 62


@pytest.fixture
def store(tmp_path):
    return ArrayStore(tmp_path / "store")


def fill(store, value=1.0):
    with store.create(KEY, (4, 3), np.dtype("float32")) as out:
        out[:] = value


def files(store):
    return sorted(p.name for p in store.root.rglob("*") if p.is_file())


def test_what_was_written_is_read_back_read_only(store):
    assert store.get(KEY) is None
    fill(store)
    found = store.get(KEY)
    assert found.dtype == np.float32
    assert found.shape == (4, 3)
    assert (found == 1).all()
    assert isinstance(found, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        found[0] = 2


def test_a_failure_in_the_block_leaves_nothing(store):
    with pytest.raises(RuntimeError, match="half-way"), store.create(KEY, (4, 3), np.dtype("float32")):
        raise RuntimeError("half-way")
    assert store.get(KEY) is None
    assert files(store) == []


def test_a_failure_keeps_the_older_entry(store):
    fill(store, 5)
    with pytest.raises(RuntimeError, match="half-way"), store.create(KEY, (4, 3), np.dtype("float32")):
        raise RuntimeError("half-way")
    assert (store.get(KEY) == 5).all()


def test_a_truncated_file_counts_as_absent(store):
    fill(store)
    file = next(store.root.rglob("*.npy"))
    file.write_bytes(file.read_bytes()[:-4])
    assert store.get(KEY) is None
    file.write_bytes(b"")
    assert store.get(KEY) is None


def test_sidecar(store):
    fill(store)
    assert store.meta(KEY) == {}
    store.annotate(KEY, {"cold_seconds": 1.5})
    store.annotate(KEY, {"images": 4})
    assert store.meta(KEY) == {"cold_seconds": 1.5, "images": 4}


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS])
def test_a_full_or_read_only_disk_is_one_line_that_names_the_cache(store, monkeypatch, number):
    def fail(*arguments):
        raise OSError(number, "no room")

    monkeypatch.setattr("os.replace", fail)
    with pytest.raises(UserError, match="cannot write the cache .*store: no room; free space or set DDBENCH_CACHE"):
        fill(store)
    assert files(store) == []


def test_the_cache_folder_follows_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("DDBENCH_CACHE", str(tmp_path / "a"))
    assert default_cache() == tmp_path / "a"
    monkeypatch.delenv("DDBENCH_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "b"))
    assert default_cache() == tmp_path / "b" / "ddbench"
