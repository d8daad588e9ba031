"""What a full disk leaves: one line, the old file, and nothing half-written. The kernel itself refuses, by a limit on files."""

import contextlib
import os

import pytest
import torch
from safetensors.torch import load_file

from ddbench.core.disk import save_tensors
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
