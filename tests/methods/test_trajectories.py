"""Expert trajectories: knowledge distillation as torch does it, trained once, resumed, and read from disk."""

import dataclasses

import pytest
import torch
import torch.nn.functional as F

from ddbench.core.bank import FeatureBank
from ddbench.core.run import derive_seed
from ddbench.core.students import build_student, flat_weights
from ddbench.methods._teacher import Teacher, see_real
from ddbench.methods._trajectories import Experts, highest, kept_epochs

EXPERTS = Experts("convnet[widths=4]", 8, count=3, lr=0.05, epochs=(0, 1, 2), batch=10)


@pytest.fixture
def teacher(backbone, data, run):
    return Teacher.of(backbone, data, True, run)


def slow_expert(k, teacher, data, epochs):
    """Torch's own SGD over a shuffled list of batches; weights after the last epoch."""
    seed = derive_seed(k, "expert")
    student, order = build_student(EXPERTS.student, 8, teacher.dim, seed), torch.Generator().manual_seed(seed)
    sgd = torch.optim.SGD(student.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-4)
    for _ in range(epochs):
        for batch in torch.randperm(len(data.train), generator=order).split(10):
            loss = F.mse_loss(student(see_real(data.train, batch, 8)), teacher.targets(batch))
            sgd.zero_grad()
            loss.backward()
            sgd.step()
    return student


def test_a_trajectory_holds_the_weights_after_each_kept_epoch(teacher, data, run):
    path = EXPERTS.trajectory(1, teacher, data, run)
    for epoch in range(3):
        torch.testing.assert_close(path[epoch], flat_weights(slow_expert(1, teacher, data, epoch)))
    sparse = dataclasses.replace(EXPERTS, epochs=(0, 2)).trajectory(1, teacher, data, run)
    assert torch.equal(sparse, path[[0, 2]])


def test_losses_are_means_over_experts_of_each_images_error(teacher, data, run):
    everything = torch.arange(len(data.train))
    images, targets = see_real(data.train, everything, 8), teacher.targets(everything)
    each = [(slow_expert(k, teacher, data, 1)(images).detach() - targets).square().mean(1) for k in range(3)]
    found = EXPERTS.losses(1, teacher, data, run)
    torch.testing.assert_close(found, torch.stack(each).mean(0), rtol=1e-4, atol=1e-5)
    assert highest(found, 2).tolist() == found.topk(2).indices.tolist()


def test_a_run_that_was_cut_short_goes_on_with_the_next_expert(teacher, data, run, monkeypatch):
    first = EXPERTS.trajectory(0, teacher, data, run)
    again = dataclasses.replace(run, bank=FeatureBank(run.bank.store))
    assert torch.equal(EXPERTS.trajectory(0, teacher, data, again), first)
    assert again.bank.misses == []
    EXPERTS.losses(1, teacher, data, again)
    assert len(again.bank.misses) == 3  # experts 1 and 2, and the losses

    monkeypatch.setattr(Experts, "_train", lambda *a: pytest.fail("trained again"))
    EXPERTS.losses(1, teacher, data, dataclasses.replace(run, bank=FeatureBank(run.bank.store)))


def test_an_expert_that_breaks_off_leaves_nothing(teacher, data, run, monkeypatch):
    def broken(self, *args):
        yield torch.zeros(0)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Experts, "_train", broken)
        patch.setattr("ddbench.methods._trajectories.flat_weights", lambda student: torch.zeros(0))
        with pytest.raises(KeyboardInterrupt):
            EXPERTS.trajectory(0, teacher, data, run)
    assert EXPERTS.trajectory(0, teacher, data, run).shape[0] == 3
    assert len(run.bank.misses) == 3  # features, the attempt, the expert


def test_what_determines_an_expert_moves_its_address(teacher, backbone, make_data, data, run):
    EXPERTS.trajectory(0, teacher, data, run)
    changes = [{"student": "convnet[widths=5]"}, {"size": 10}, {"lr": 0.1}, {"epochs": (0, 1)}, {"momentum": 0.0}, {"batch": 9},
               {"weight_decay": 0.0}]  # fmt: skip
    for change in changes:
        dataclasses.replace(EXPERTS, **change).trajectory(0, teacher, data, run)
    EXPERTS.trajectory(1, teacher, data, run)
    other = make_data(seed=1)
    EXPERTS.trajectory(0, Teacher.of(backbone, other, True, run), other, run)
    EXPERTS.trajectory(0, Teacher.of(backbone, data, False, run), data, run)
    assert len(set(run.bank.keys)) == len(run.bank.misses) == 2 + 1 + len(changes) + 3  # two banks of features
    dataclasses.replace(EXPERTS, count=2).trajectory(0, teacher, data, run)  # how many there are changes none of them
    assert len(run.bank.misses) == 6 + len(changes)


def test_trajectories_are_read_through_a_memory_map(teacher, data, run):
    EXPERTS.trajectory(0, teacher, data, run)
    entry = run.bank.store.get(run.bank.keys[-1])
    assert entry.filename is not None
    assert entry.dtype == "float32"


def test_epochs_that_are_read_are_those_of_matching_and_of_scoring():
    assert kept_epochs(2, 2, 1) == kept_epochs(2, 2, None) == (0, 1, 2, 3)  # MKDT's 2 % sets: four checkpoints of 20 epochs
    assert kept_epochs(5, 2, None) == tuple(range(7))
    assert kept_epochs(2, 2, 20) == (0, 1, 2, 3, 20)
