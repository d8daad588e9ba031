"""An entry is complete or absent, whatever happens to the process, the file or the disk."""

import errno
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from ddbench.core import store as module
from ddbench.core.disk import settle
from ddbench.core.errors import UserError
from ddbench.core.store import ArrayStore, default_cache

KEY = "ab" * 32
VALUES = np.arange(12, dtype=np.float32).reshape(3, 4)


@pytest.fixture
def store(tmp_path):
    return ArrayStore(tmp_path / "cache")


def write(store, values=VALUES, key=KEY):
    with store.create(key, values.shape, values.dtype) as out:
        out[:] = values


def files(store):
    return sorted(path.name for path in store.root.rglob("*") if path.is_file())


def test_an_entry_comes_back_read_only_from_a_map(store):
    assert store.get(KEY) is None
    write(store)
    found = store.get(KEY)
    assert isinstance(found, np.memmap)
    assert not found.flags.writeable
    np.testing.assert_array_equal(found, VALUES)
    assert files(store) == [f"{KEY}.npy"]
    assert (store.root / "ab" / f"{KEY}.npy").is_file()


def test_an_entry_is_absent_until_it_is_complete(store):
    with store.create(KEY, (3, 4), np.dtype(np.float32)) as out:
        out[:] = VALUES
        assert store.get(KEY) is None
    assert store.get(KEY) is not None


def test_a_failed_block_leaves_nothing_and_its_error_passes(store):
    with pytest.raises(ZeroDivisionError), store.create(KEY, (3, 4), np.dtype(np.float32)):
        raise ZeroDivisionError
    assert files(store) == []
    with pytest.raises(OSError, match="unrelated"), store.create(KEY, (3, 4), np.dtype(np.float32)):
        raise OSError(errno.EACCES, "unrelated")  # of the block, not of the cache


def test_a_failed_rewrite_keeps_the_old_entry(store):
    write(store)
    with pytest.raises(ZeroDivisionError), store.create(KEY, (3, 4), np.dtype(np.float32)) as out:
        out[:] = 1 / 0
    np.testing.assert_array_equal(store.get(KEY), VALUES)


@pytest.mark.parametrize(
    "damage",
    [
        lambda b: b[:-1],
        lambda b: b[:50],
        lambda b: b"",
        lambda b: b + b"x",
        lambda b: b"x" * 200,
        lambda b: b[:150] + bytes([b[150] ^ 1]) + b[151:],  # one bit of the array
        lambda b: b[:128] + bytes(48) + b[176:],  # zeros, the size kept
        lambda b: b[:-1] + b"g",  # of the checksum
    ],
)
def test_a_damaged_file_is_absent_and_thrown_away_in_one_line(store, damage, caplog):
    write(store)
    file = store.root / "ab" / f"{KEY}.npy"
    assert store.get(KEY) is not None
    file.write_bytes(damage(file.read_bytes()))
    assert store.get(KEY) is None
    (line,) = [record.getMessage() for record in caplog.records]
    assert line.startswith(f"cache entry {file} ")
    assert line.endswith("; it is thrown away and made again")
    assert "\n" not in line
    assert not file.exists()
    write(store)
    np.testing.assert_array_equal(store.get(KEY), VALUES)


def test_an_entry_of_another_shape_or_type_or_a_folder_in_its_place_is_absent(store):
    write(store)
    assert store.get(KEY, (3, 4), np.float32) is not None
    assert store.get(KEY, (4, 3)) is None
    write(store)
    assert store.get(KEY, (3, 4), np.float64) is None
    (store.root / "ab" / f"{KEY}.npy" / "deep").mkdir(parents=True)
    assert store.get(KEY) is None
    write(store)
    np.testing.assert_array_equal(store.get(KEY), VALUES)


def test_an_entry_is_read_through_once_in_a_process(store, monkeypatch):
    write(store)
    store.get(KEY)
    monkeypatch.setattr(module, "checksum", lambda array: pytest.fail("read again"))
    store.get(KEY)


def test_an_array_of_objects_is_absent_not_unpickled(store):
    file = store.root / "ab" / f"{KEY}.npy"
    file.parent.mkdir(parents=True)
    np.save(file, np.array([{}], dtype=object), allow_pickle=True)
    assert store.get(KEY) is None


def test_two_writers_of_one_key_do_not_disturb_each_other(store):
    with store.create(KEY, (3, 4), np.dtype(np.float32)) as first:
        first[:] = 1
        with store.create(KEY, (3, 4), np.dtype(np.float32)) as second:
            second[:] = 2
        assert (store.get(KEY) == 2).all()
        reader = store.get(KEY)
    assert (store.get(KEY) == 1).all()
    assert (reader == 2).all()  # who has it open keeps what it opened
    assert files(store) == [f"{KEY}.npy"]


def test_threads_that_race_leave_one_complete_entry(store):
    values = [np.full((50, 50), k, np.float32) for k in range(8)]
    threads = [threading.Thread(target=write, args=(store, v)) for v in values]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = store.get(KEY)
    assert (found == found[0, 0]).all()
    assert files(store) == [f"{KEY}.npy"]


def _write_and_die(root: Path) -> None:
    with ArrayStore(root).create(KEY, (3, 4), np.dtype(np.float32)) as out:
        out[:] = 5
        os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs POSIX signals")
def test_a_killed_writer_leaves_no_entry_and_the_next_one_removes_its_rest(store, monkeypatch):
    process = multiprocessing.get_context("fork").Process(target=_write_and_die, args=(store.root,))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert store.get(KEY) is None
    assert files(store) == [".lock", "new"]
    monkeypatch.setattr(module, "_settled", set())  # as in a new process
    write(store, key="cd" * 32)  # another entry, in another folder
    assert files(store) == ["cd" * 32 + ".npy"]


def test_what_a_living_writer_is_at_is_left_alone(store):
    with store.create(KEY, (3, 4), np.dtype(np.float32)) as out:
        write(store, key="ab" + KEY[:-2])
        settle(store.root / "ab")
        out[:] = VALUES
    np.testing.assert_array_equal(store.get(KEY), VALUES)


def test_without_locks_age_decides(store):
    folder = store.root / "ab"
    (folder / ".x.12345678.partial").mkdir(parents=True)
    (folder / "x.npy.77-0000.partial").write_text("as earlier versions left it")
    settle(folder)
    assert len(list(folder.iterdir())) == 2
    for left in folder.iterdir():
        os.utime(left, (0, 0))
    settle(folder)
    assert not list(folder.iterdir())


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES, errno.EDQUOT])
def test_a_folder_that_cannot_be_written_is_one_line(store, monkeypatch, number):
    def fail(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(UserError, match=r"^cannot write the cache folder .*cache: .*; free some space, or set DDBENCH_CACHE"):
        write(store)
    assert files(store) == []


def no_space(*_):
    raise OSError(errno.ENOSPC, "No space left on device")


def assert_names_the_folder(error, store):
    message = str(error.value)
    assert message == (
        f"cannot write the cache folder {store.root}: no space left on device; "
        "free some space, or set DDBENCH_CACHE to another folder"
    )


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="the system cannot reserve disk space")
def test_a_full_disk_is_found_before_anything_is_computed(store, monkeypatch):
    monkeypatch.setattr(os, "posix_fallocate", no_space)
    with pytest.raises(UserError) as error, store.create(KEY, (3, 4), np.dtype(np.float32)):
        pytest.fail("the block ran")
    assert_names_the_folder(error, store)
    assert files(store) == []


def test_a_disk_that_fills_up_at_the_end_leaves_nothing(store, monkeypatch):
    monkeypatch.setattr(os, "fsync", no_space)
    with pytest.raises(UserError) as error:
        write(store)
    assert_names_the_folder(error, store)
    with pytest.raises(UserError) as error:
        store.annotate(KEY, {"seconds": 1})
    assert_names_the_folder(error, store)
    assert files(store) == []


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="the system cannot reserve disk space")
def test_a_file_system_that_cannot_reserve_space_is_used_without(store, monkeypatch):
    def unsupported(*_):
        raise OSError(errno.EOPNOTSUPP, "not supported")

    monkeypatch.setattr(os, "posix_fallocate", unsupported)
    write(store)
    np.testing.assert_array_equal(store.get(KEY), VALUES)


def test_a_cache_that_is_a_file_is_named(tmp_path):
    (tmp_path / "cache").write_text("")
    with pytest.raises(UserError, match=r"cannot write the cache folder .*cache"):
        write(ArrayStore(tmp_path / "cache"))


def test_content_is_on_the_disk_before_it_gets_its_name(store, monkeypatch):
    order = []
    monkeypatch.setattr(module.os, "fsync", lambda _: order.append("fsync"))
    replace = os.replace
    monkeypatch.setattr(module.os, "replace", lambda *a: (order.append("replace"), replace(*a)))
    write(store)
    assert order == ["fsync", "replace", "fsync"]  # the last one of the folder: its names


def test_facts_beside_an_entry_add_up(store):
    assert store.meta(KEY) == {}
    store.annotate(KEY, {"cold_seconds": 1.5})
    store.annotate(KEY, {"images": 3})
    assert store.meta(KEY) == {"cold_seconds": 1.5, "images": 3}
    for text in ('{"cold_sec', "[1]", "5", '"x"'):
        (store.root / "ab" / f"{KEY}.json").write_text(text)
        assert store.meta(KEY) == {}


def test_the_default_folder_follows_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("DDBENCH_CACHE", str(tmp_path / "mine"))
    assert default_cache() == tmp_path / "mine"
    monkeypatch.delenv("DDBENCH_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert default_cache() == tmp_path / "xdg" / "ddbench"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    assert default_cache() == tmp_path / ".cache" / "ddbench"


def test_two_processes_that_need_one_entry_wait_for_one_computation(tmp_path):
    code = (
        "import sys, time; from pathlib import Path; from ddbench.core.bank import FeatureBank\n"
        "from ddbench.core.store import ArrayStore\n"
        "def fill(out):\n    time.sleep(1); out[:] = 1.0; print('made', flush=True)\n"
        "FeatureBank(ArrayStore(Path(sys.argv[1]))).entry({'x': 1}, (2, 3), fill)"
    )
    command = [sys.executable, "-P", "-c", code, str(tmp_path)]
    asking = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    assert sorted(process.communicate()[0] for process in asking) == ["", "", "made\n"]
    assert not list(tmp_path.rglob("*.making"))


def test_a_reader_keeps_the_file_that_it_opened(store, monkeypatch):
    """A writer that puts another file in the place while the old one is read: the reader gets all of the old, and neither is
    thrown away."""
    write(store)
    real = module._mapped

    def replaced_meanwhile(opened):
        found = real(opened)
        write(store, np.ones((50, 50), np.float32))
        return found

    monkeypatch.setattr(module, "_mapped", replaced_meanwhile)
    np.testing.assert_array_equal(store.get(KEY), VALUES)
    monkeypatch.setattr(module, "_mapped", real)
    assert store.get(KEY).shape == (50, 50)


def test_a_damaged_file_that_was_made_again_meanwhile_is_left_alone(store, monkeypatch):
    write(store)
    file = store.root / "ab" / f"{KEY}.npy"
    file.write_bytes(file.read_bytes()[:-1] + b"g")
    real = module._fault

    def made_meanwhile(*args):
        found = real(*args)
        write(store)
        return found

    monkeypatch.setattr(module, "_fault", made_meanwhile)
    assert store.get(KEY) is None
    monkeypatch.setattr(module, "_fault", real)
    np.testing.assert_array_equal(store.get(KEY), VALUES)


@pytest.mark.skipif(module.fcntl is None, reason="needs flock")
def test_after_a_block_that_made_nothing_one_holds_the_lock_at_a_time(store):
    """The file is removed while others wait for it; they must not hold what is no longer there beside a newcomer."""
    inside, most = [], []

    def make(seconds):
        with store.lock(KEY):
            inside.append(1)
            most.append(len(inside))
            time.sleep(seconds)
            inside.pop()

    waiting = [threading.Thread(target=make, args=(0.2,)) for _ in range(3)]
    with store.lock(KEY):
        waiting[0].start()
        waiting[1].start()
        time.sleep(0.1)
    time.sleep(0.1)  # one of them has it now
    waiting[2].start()
    for thread in waiting:
        thread.join()
    assert most == [1, 1, 1]
    assert files(store) == []
