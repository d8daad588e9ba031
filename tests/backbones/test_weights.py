"""Weights files: what is read, and the one line for every way in which a file can be wrong."""

import pickle

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from ddbench.backbones._weights import file_sha256, load_state, read_state, state_sha256
from ddbench.core.errors import UserError


def state() -> dict[str, torch.Tensor]:
    return {"weight": torch.arange(6.0).view(2, 3), "bias": torch.tensor([0.5, -0.5])}


def message(path, **options) -> str:
    with pytest.raises(UserError) as error:
        read_state(path, **options)
    assert "\n" not in str(error.value)
    assert str(path) in str(error.value)
    return str(error.value)


def test_safetensors_and_torch_files_hold_the_same_tensors(tmp_path):
    save_file({name: tensor.half() for name, tensor in state().items()}, tmp_path / "a.safetensors")
    torch.save({"state_dict": state(), "epoch": 3}, tmp_path / "a.pth")
    for file in ("a.safetensors", "a.pth"):
        found = read_state(tmp_path / file)
        assert found["weight"].dtype == torch.float32
        assert torch.equal(found["weight"], state()["weight"])


def test_a_key_chooses_among_the_entries_of_a_torch_file(tmp_path):
    file = tmp_path / "dino.pth"
    torch.save({"teacher": state(), "student": {"weight": torch.zeros(2, 3)}, "epoch": 1}, file)
    assert set(read_state(file, key="teacher")) == {"weight", "bias"}
    assert "key=teacher or student" in message(file)
    assert "'ema'" in message(file, key="ema")


def test_a_missing_or_empty_file(tmp_path):
    assert "does not exist" in message(tmp_path / "none.safetensors")
    (tmp_path / "empty.pth").touch()
    assert "is empty" in message(tmp_path / "empty.pth")


@pytest.mark.parametrize("name", ["a.safetensors", "a.pth"])
def test_a_truncated_file(tmp_path, name):
    file = tmp_path / name
    save_file(state(), file) if name.endswith("safetensors") else torch.save(state(), file)
    file.write_bytes(file.read_bytes()[:-20])
    assert "truncated" in message(file)


@pytest.mark.parametrize("name", ["a.safetensors", "a.pt"])
def test_a_web_page_saved_as_weights(tmp_path, name):
    file = tmp_path / name
    file.write_text("\n<!DOCTYPE html><html>sign in</html>")
    assert "web page" in message(file)


def test_a_git_lfs_pointer(tmp_path):
    file = tmp_path / "a.safetensors"
    file.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
    assert "Git LFS" in message(file)


class Trap:
    """Unpickling this sets a flag; nothing here may unpickle it."""

    sprung = False

    def __reduce__(self):
        return setattr, (Trap, "sprung", True)


def test_a_pickle_named_safetensors_is_refused(tmp_path):
    torch.save({"weight": torch.zeros(1)}, tmp_path / "a.safetensors")
    assert "torch pickle" in message(tmp_path / "a.safetensors")


def test_objects_besides_tensors_are_not_loaded(tmp_path):
    torch.save({"state_dict": state(), "hook": Trap()}, tmp_path / "zip.pth")
    (tmp_path / "plain.pth").write_bytes(pickle.dumps({"hook": Trap()}, protocol=2))
    for file in ("zip.pth", "plain.pth"):
        assert "Python objects" in message(tmp_path / file)
    assert not Trap.sprung


def test_an_unknown_suffix_and_a_file_without_tensors(tmp_path):
    (tmp_path / "a.h5").write_bytes(b"\x89HDF")
    assert ".safetensors" in message(tmp_path / "a.h5")
    torch.save([1, 2], tmp_path / "list.pth")
    assert "no state dict" in message(tmp_path / "list.pth")


def test_every_key_must_fit():
    network = nn.Linear(3, 2)
    load_state(network, state(), "f")
    assert torch.equal(network.weight, state()["weight"])
    with pytest.raises(UserError, match=r"1 missing key \(bias\)"):
        load_state(network, {"weight": torch.zeros(2, 3)}, "f")
    with pytest.raises(UserError, match=r"1 unexpected key \(fc.weight\)"):
        load_state(network, {**state(), "fc.weight": torch.zeros(1)}, "f")
    with pytest.raises(UserError, match=r"weight has shape \(2, 4\) in the file, \(2, 3\) in the network"):
        load_state(network, {**state(), "weight": torch.zeros(2, 4)}, "f")


def test_only_the_named_classifier_keys_and_batch_norm_counters_may_differ():
    network = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    full = {name: tensor for name, tensor in network.state_dict().items() if "num_batches" not in name}
    load_state(network, {**full, "fc.bias": torch.zeros(9)}, "f", ignored=("fc.",))


def test_a_prefix_is_suggested_where_all_keys_share_one():
    wrapped = {f"module.{name}": tensor for name, tensor in state().items()}
    with pytest.raises(UserError, match=r"take the keys that start with module\. by `checkpoint"):
        load_state(nn.Linear(3, 2), wrapped, "f")


def test_hashes_depend_on_values_names_and_types_only(tmp_path):
    one = state()
    assert state_sha256(one) == state_sha256(dict(reversed(one.items())))
    assert state_sha256(one) != state_sha256({**one, "bias": torch.tensor([0.5, -0.4])})
    assert state_sha256(one) != state_sha256({**one, "bias": one["bias"].half()})
    assert state_sha256({"scalar": torch.tensor(1)}) != state_sha256({"scalar": torch.tensor(2)})
    (tmp_path / "x").write_bytes(b"abc")
    assert file_sha256(tmp_path / "x").startswith("ba7816bf")  # sha256("abc"), FIPS 180-2
