"""Features do not depend on how many views pass at once, nor on whether memory ran out on the way."""

import dataclasses

import pytest
import torch

from ddbench.core.bank import FeatureBank
from ddbench.core.encode import encode
from ddbench.core.errors import UserError
from ddbench.core.passes import PassSize
from ddbench.core.real import LiveBatches
from ddbench.core.run import Run
from ddbench.core.store import ArrayStore
from ddbench.core.views import View, sample
from ddbench.evaluation._features import set_features
from ddbench.evaluation.linear_probe import LGMProbe
from ddbench.methods.random_real import RandomReal

NOISY = View.parse("flip+crop+noise")
CHUNKS = [1, 5, 7, 40, 256]


@pytest.fixture(params=[14, 16])
def small(request, make_backbone):
    """3 x 14 x 14 noise numbers are no multiple of the 16 that torch draws at a time."""
    return make_backbone(size=request.param)


def close(found, expected):
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)  # summation order of a pass depends on its size


@pytest.mark.parametrize("chunk", CHUNKS)
def test_banked_features_are_those_of_another_chunk(chunk, small, data, tmp_path):
    stores = [ArrayStore(tmp_path / name) for name in ("one", "other")]
    one, other = (
        FeatureBank(store, chunk=size).features(small, data, "train", view=NOISY, copies=2)
        for store, size in zip(stores, (1000, chunk), strict=True)
    )
    close(other, one)


@pytest.mark.parametrize("chunk", CHUNKS)
def test_live_batches_are_those_of_another_chunk(chunk, small, data, run):
    one, other = (LiveBatches(small, data.train, NOISY, 20, dataclasses.replace(run, chunk=size)) for size in (256, chunk))
    for step in range(3):
        close(other.draw(step)[0], one.draw(step)[0])


@pytest.mark.parametrize("chunk", CHUNKS)
def test_views_of_a_set_are_those_of_another_chunk(chunk, small, data, run):
    dset = RandomReal().distill(None, data, 4, run=run)
    one, other = (
        set_features(small, data, dset, dataclasses.replace(run, chunk=size), view=NOISY, copies=50, probe_seed=1)
        for size in (256, chunk)
    )
    close(other, one)
    assert not torch.allclose(one[0], one[-1])


def test_copies_follow_one_another(backbone):
    images, k = torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(0)), 6
    params = sample(NOISY, k, torch.Generator().manual_seed(1))
    twice = encode(backbone, torch.cat([images, images]), NOISY, params, torch.Generator(), PassSize(9))
    close(encode(backbone, images, NOISY, params, torch.Generator(), PassSize(4)), twice)


def limited(backbone, monkeypatch, error, limit=6):
    """Passes of more than `limit` views fail; returns the sizes tried."""
    tried, forward = [], type(backbone).forward

    def fails(self, images):
        tried.append(len(images))
        if len(images) > limit:
            raise error
        return forward(self, images)

    monkeypatch.setattr(type(backbone), "forward", fails)
    return tried


OUT_OF_MEMORY = [torch.OutOfMemoryError("CUDA"), RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried")]


@pytest.mark.parametrize("error", OUT_OF_MEMORY)
def test_bank_live_batches_and_probes_halve_passes_when_memory_runs_out(error, backbone, data, run, tmp_path, monkeypatch):
    dset = RandomReal().distill(None, data, 4, run=run)
    probe = LGMProbe(epochs=3, seeds=3)

    def work(store):
        bank = FeatureBank(ArrayStore(tmp_path / store), chunk=40)
        own = dataclasses.replace(run, bank=bank, chunk=40)
        return [
            bank.features(backbone, data, "train", view=NOISY),
            bank.features(backbone, data, "test"),
            LiveBatches(backbone, data.train, NOISY, 20, own).draw(0)[0],
            set_features(backbone, data, dset, own, view=NOISY, copies=7),
            torch.tensor(probe.evaluate(backbone, data, dset, run=own).top1_per_seed),
        ]

    expected = work("one")
    tried = limited(backbone, monkeypatch, error)
    for found, wanted in zip(work("other"), expected, strict=True):
        close(found, wanted)
    assert tried[:4] == [40, 20, 10, 5]  # once for all chunks of an entry
    assert tried.count(40) <= 3


def test_other_errors_and_passes_of_one_view_are_not_tried_again(backbone, data, run, monkeypatch):
    tried = limited(backbone, monkeypatch, RuntimeError("shapes do not fit"), limit=0)
    with pytest.raises(RuntimeError, match="shapes"):
        run.bank.features(backbone, data, "test")
    assert len(tried) == 1
    monkeypatch.undo()
    tried = limited(backbone, monkeypatch, torch.OutOfMemoryError(), limit=0)
    with pytest.raises(torch.OutOfMemoryError):
        run.bank.features(backbone, data, "test")
    assert tried[-1] == 1


def test_the_views_per_pass_can_be_asked_for_by_a_variable(monkeypatch):
    assert (Run().chunk, Run().chunk_size, FeatureBank().chunk) == (None, 256, 256)
    monkeypatch.setenv("DDBENCH_CHUNK", "3")
    assert (Run().chunk, Run().chunk_size, FeatureBank().chunk) == (3, 3, 3)
    for wrong in ("0", "-1", "many", ""):
        monkeypatch.setenv("DDBENCH_CHUNK", wrong)
        with pytest.raises(UserError, match="is no number of views; set it to 1 or more"):
            Run()
