"""Protocols: each against an independent version, and what all of them must respect."""

import dataclasses

import pytest
import torch
import torch.nn.functional as F
from sklearn.neighbors import KNeighborsClassifier

from ddbench.core.data import to_float
from ddbench.core.method import METHODS, PROTOCOLS
from ddbench.core.sets import DistilledSet
from ddbench.evaluation import knn
from ddbench.evaluation._heads import ProbeRecipe, accuracies, head_hits, new_heads, train_heads
from ddbench.evaluation.linear_probe import LGMProbe, LinearProbe, seed_streams
from ddbench.evaluation.ridge_probe import RidgeProbe, validation_indices

QUICK = {"linear-probe": {"epochs": 5, "full_epochs": 5}, "lgm-probe": {"epochs": 5, "full_epochs": 2}}


def make(name):
    return dataclasses.replace(PROTOCOLS.create(name), **QUICK.get(name, {}))


def train_features(backbone, split):
    return backbone(to_float(split.images[torch.arange(len(split))])).numpy()


def random_set(data, run, ipc=2):
    return METHODS.create("random").distill(None, data, ipc, run=run)


def test_ridge_is_chosen_on_train_images_outside_the_set(backbone, data, run):
    dset = random_set(data, run, ipc=1)
    part, held_out = validation_indices(data, dset, 0.2)
    assert not held_out
    assert not set(part.tolist()) & set(dset.indices.tolist())
    full = METHODS.create("full").distill(None, data, 1, run=run)
    part, held_out = validation_indices(data, full, 0.2)
    assert held_out
    assert 5 <= len(part) <= len(data.train) / 4


@pytest.mark.parametrize("indices", [None, range(0, 80, 2), range(80)])
def test_many_classes_of_two_images_leave_some_to_choose_on(indices, make_data):
    """A fifth of two images rounds to none, although as many lie outside the set as in it."""
    data = make_data(classes=8, per_class=2)
    train = data.train.subset(torch.arange(80) % len(data.train))
    train = dataclasses.replace(train, labels=torch.arange(80) // 2)
    data = dataclasses.replace(data, train=train, class_names=tuple(map(str, range(40))))
    given = None if indices is None else torch.tensor(indices)
    dset = DistilledSet(
        torch.rand(4 if given is None else len(given), 3, 4, 4),
        torch.zeros(4 if given is None else len(given)).long(),
        data.class_names,
        indices=given,
    )
    part, held_out = validation_indices(data, dset, 0.2)
    assert len(part) == 16
    assert held_out == (indices == range(80))
    assert len(train.labels[part].unique()) == 16
    if indices == range(0, 80, 2):
        assert not set(part.tolist()) & set(indices)


@pytest.mark.parametrize("name", ["ridge-probe", "linear-probe", "lgm-probe", "knn"])
def test_test_labels_play_no_role_but_in_the_score(name, backbone, data, run):
    """Shuffled test labels may change the accuracy, never what was chosen: predictions stay the same."""
    dset = random_set(data, run)
    honest = make(name).evaluate(backbone, data, dset, run=run)
    flipped = dataclasses.replace(data, test=dataclasses.replace(data.test, labels=(data.test.labels + 1) % 3))
    other = make(name).evaluate(backbone, flipped, dset, run=run)
    assert honest.details.get("ridge") == other.details.get("ridge")
    assert honest.top1 + other.top1 <= 100.001


@pytest.mark.parametrize("name", ["ridge-probe", "linear-probe", "lgm-probe", "knn"])
def test_an_easy_task_is_solved_and_repeats_exactly(name, backbone, data, run):
    protocol = dataclasses.replace(make(name), **({"lr": 0.05, "epochs": 60} if name == "linear-probe" else {}))
    dset = random_set(data, run, ipc=4)
    first, second = (protocol.evaluate(backbone, data, dset, run=run) for _ in range(2))
    assert first == second
    assert len(first.top1_per_seed) == (5 if "l" in name[:1] else 1)
    if name != "lgm-probe":  # its released learning rate does not move a head in 5 epochs
        assert first.top1 > 60


@pytest.mark.parametrize("name", ["ridge-probe", "linear-probe", "lgm-probe", "knn"])
def test_sets_without_class_targets_are_refused_with_a_reason(name):
    dset = DistilledSet(torch.zeros(2, 3, 4, 4), None, ("a", "b"), torch.zeros(2, 5), "teacher_features")
    assert "needs labels or class probabilities" in PROTOCOLS.create(name).supports(dset)


def test_soft_targets_are_what_is_learned(backbone, data, run):
    """Class probabilities win over labels: a set labelled wrongly on purpose still follows its targets."""
    dset = random_set(data, run, ipc=4)
    wrong = dataclasses.replace(
        dset, labels=(dset.labels + 1) % 3, targets=F.one_hot(dset.labels, 3).float(), target_kind="class_probabilities"
    )
    probe = RidgeProbe()
    assert probe.evaluate(backbone, data, wrong, run=run) == probe.evaluate(backbone, data, dset, run=run)


def test_knn_is_scikit_learns(backbone, data, run):
    dset = random_set(data, run, ipc=5)
    model = KNeighborsClassifier(1, metric="cosine").fit(backbone(dset.images).numpy(), dset.labels.numpy())
    expected = 100 * model.score(train_features(backbone, data.test), data.test.labels.numpy())
    assert PROTOCOLS.create("knn").evaluate(backbone, data, dset, run=run).top1 == pytest.approx(expected)


@pytest.mark.parametrize("k", [1, 4, 60])
def test_neighbours_in_chunks_are_those_of_all_at_once(k, monkeypatch):
    generator = torch.Generator().manual_seed(0)
    z, own = (torch.randn(n, 6, generator=generator) for n in (9, 50))
    expected = (F.normalize(z, dim=1) @ F.normalize(own, dim=1).T).topk(min(k, 50), dim=1)
    monkeypatch.setattr(knn, "_ROWS", 7)
    similarity, nearest = knn.most_similar(z, own, k)
    torch.testing.assert_close(similarity, expected.values)
    assert torch.equal(nearest, expected.indices)


def test_heads_learn_the_same_from_labels_and_from_one_hot_targets():
    z, labels = torch.randn(7, 4, generator=torch.Generator().manual_seed(0)), torch.arange(7) % 3
    found = []
    for targets in (labels, F.one_hot(labels, 3).float()):
        heads, orders = new_heads(4, 3, [torch.Generator().manual_seed(1)]), [torch.Generator().manual_seed(2)]
        found.append(train_heads(heads, lambda epoch, index: z[index], targets, ProbeRecipe(0.05, 6, 3), orders))
    assert torch.equal(found[0][0], found[1][0])
    assert torch.equal(found[0][1], found[1][1])


def test_batched_heads_are_the_heads_trained_one_by_one():
    """Each seed alone, with torch's Linear, Adam and cosine scheduler, takes the same steps."""
    z = torch.randn(7, 4, generator=torch.Generator().manual_seed(0))
    targets = F.one_hot(torch.arange(7) % 3, 3).float()
    recipe = ProbeRecipe(lr=0.05, epochs=6, batch=3)

    def streams(purpose):
        return [torch.Generator().manual_seed(hash((purpose, k)) % 1000) for k in range(3)]

    heads = new_heads(4, 3, streams("head"))
    weight, bias = train_heads(heads, lambda epoch, index: z[index], targets, recipe, streams("order"))
    for k, order in enumerate(streams("order")):
        alone = torch.nn.Linear(4, 3)
        alone.weight.data, alone.bias.data = heads[0][k].clone(), heads[1][k].clone()
        adam = torch.optim.Adam(alone.parameters(), lr=recipe.lr)
        cosine = torch.optim.lr_scheduler.CosineAnnealingLR(adam, recipe.epochs)
        for _ in range(recipe.epochs):
            for batch in torch.randperm(7, generator=order).split(3):
                adam.zero_grad()
                F.cross_entropy(alone(z[batch]), targets[batch]).backward()
                adam.step()
            cosine.step()
        torch.testing.assert_close(weight[k], alone.weight.detach(), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(bias[k], alone.bias.detach(), rtol=1e-4, atol=1e-5)


def test_heads_start_as_released():
    weight, bias = new_heads(500, 10, [torch.Generator().manual_seed(k) for k in range(2)])
    assert abs(weight.std() - 0.01) < 2e-4
    assert not bias.any()
    assert not torch.equal(weight[0], weight[1])


def test_head_hits_count_top_k():
    z, labels = torch.eye(3), torch.tensor([0, 1, 0])
    weight = torch.eye(3)[None] + torch.tensor([[[0, 0, 0.5], [0, 0, 0], [0, 0, 0]]])
    hits = head_hits((weight, torch.zeros(1, 3)), z, labels, tops=(1, 2, 9))
    assert [accuracies(each) for each in hits] == [pytest.approx([200 / 3]), [100], [100]]


def test_probe_seeds_do_not_depend_on_how_many_there_are(backbone, data, run):
    dset = random_set(data, run)
    many, few = (dataclasses.replace(make("lgm-probe"), seeds=k).evaluate(backbone, data, dset, run=run) for k in (5, 2))
    assert many.top1_per_seed[:2] == few.top1_per_seed
    assert len({int(g.initial_seed()) for g in seed_streams(run, 5, "head")}) == 5


def test_released_learning_rate_rule():
    """lr 0.001 * batch / 256 with batch min(100, n): 3.9e-4 at 100 images, 3.9e-5 at 10 (LGM's released code)."""
    rates = []

    class Stop(Exception):
        pass

    def spy(heads, features_at, targets, recipe, orders, chunk):
        rates.append((recipe.lr, recipe.batch, recipe.epochs))
        raise Stop

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ddbench.evaluation.linear_probe.train_heads", spy)
        for n in (10, 300):
            dset = DistilledSet(torch.zeros(n, 3, 16, 16), torch.zeros(n, dtype=torch.long), ("a", "b"))
            with pytest.raises(Stop):
                LGMProbe().evaluate(*_tiny(), dset, run=_run())
    assert rates == [(0.001 * 10 / 256, 10, 1000), (0.001 * 100 / 256, 100, 1000)]


def _tiny():
    from ddbench.core.backbone import Backbone, BackboneSpec

    spec = BackboneSpec("x", "random", "flat", "0", "x", 16, 3, "avg", (0, 0, 0), (1, 1, 1))
    return Backbone(torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten()), spec), None


def _run():
    from ddbench.core.run import Run

    return Run(bank=None)


def test_view_pool_of_the_everyday_probe():
    probe = LinearProbe(epochs=300, view_budget=12_000, min_views=4)
    assert [probe.views_per_image(n, 300) for n in (10, 100, 1000, 50_000)] == [300, 120, 12, 4]
