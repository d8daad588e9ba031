"""What a full disk leaves: one line, the old file, and nothing half-written. The kernel itself refuses, by a limit on files."""

import contextlib
import multiprocessing
import os
import signal

import pytest
import torch
from safetensors.torch import load_file, save_file

from ddbench.core.disk import Damaged, read_tensors, replacing, save_tensors
from ddbench.core.errors import DiskError
from ddbench.core.sets import DistilledSet, class_labels

resource = pytest.importorskip("resource")


@contextlib.contextmanager
def full_disk():
    """No file can grow beyond 8 kB."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8192, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_tensors_replace_the_old_file_or_leave_it(tmp_path):
    file = tmp_path / "new folder" / "state"
    save_tensors(file, {"a": torch.arange(3)}, {"facts": "1"})
    with pytest.raises(DiskError, match=f"the disk is full while writing {file}"), full_disk():
        save_tensors(file, {"a": torch.zeros(10_000)}, {})
    assert load_file(file)["a"].tolist() == [0, 1, 2]
    assert os.listdir(file.parent) == ["state"]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.int64, torch.bool])
def test_tensors_come_back_with_their_metadata(tmp_path, dtype):
    tensors = {"a": torch.ones(2, 3).to(dtype), "scalar": torch.tensor(1).to(dtype), "empty": torch.zeros(0, 2).to(dtype)}
    save_tensors(tmp_path / "state", tensors, {"facts": "1"})
    found, metadata = read_tensors(tmp_path / "state")
    assert metadata == {"facts": "1"}
    assert {name: (value.dtype, value.tolist()) for name, value in found.items()} == {
        name: (value.dtype, value.tolist()) for name, value in tensors.items()
    }


@pytest.mark.parametrize("place", [60, -5])  # in the metadata, in a value
def test_a_changed_file_is_found(tmp_path, place):
    file = tmp_path / "state"
    save_tensors(file, {"a": torch.arange(3.0)}, {"facts": "x" * 80})
    content = bytearray(file.read_bytes())
    content[place] ^= 1
    file.write_bytes(content)
    with pytest.raises(Damaged, match="state was damaged or changed"):
        read_tensors(file)
    save_file({"a": torch.zeros(1)}, file)
    with pytest.raises(Damaged, match="damaged or changed"):
        read_tensors(file)
    assert read_tensors(file, unchecked=True)[0]["a"].tolist() == [0]
    file.write_bytes(content[:20])
    with pytest.raises(Damaged, match="cannot be read, it may be truncated"):
        read_tensors(file, unchecked=True)


def test_a_killed_save_leaves_nothing_behind_for_longer_than_to_the_next(tmp_path):
    """Also what safetensors itself writes on the way lies in the folder that is removed."""
    process = multiprocessing.get_context("fork").Process(target=_die_while_writing, args=(tmp_path / "state",))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert len(os.listdir(tmp_path)) == 1
    save_tensors(tmp_path / "state", {"a": torch.zeros(1)}, {})
    assert os.listdir(tmp_path) == ["state"]


def _die_while_writing(file):
    with replacing(file) as new:
        (new.parent / ".tmpabcdef").write_bytes(b"x" * 1000)
        os.kill(os.getpid(), signal.SIGKILL)


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DiskError, match="cannot write .*state"):
        save_tensors(tmp_path / "file" / "state", {"a": torch.zeros(1)}, {})


@pytest.mark.parametrize("size", [8, 64])  # too many bytes of JSON, of tensors
def test_a_set_that_does_not_fit_leaves_the_old_one(tmp_path, size):
    def dset(level, size=8, **provenance):
        return DistilledSet(torch.full((4, 3, size, size), level), class_labels(2, 2), ("a", "b"), provenance=provenance)

    dset(0.25).save(tmp_path / "set")
    with pytest.raises(DiskError, match="the disk is full while writing .*/set"), full_disk():
        dset(0.75, size, long="x" * 10_000 if size == 8 else "").save(tmp_path / "set")
    assert DistilledSet.load(tmp_path / "set").images.max() == 0.25
    assert os.listdir(tmp_path) == ["set"]
