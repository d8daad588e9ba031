"""`ssl-pretrain`: recipes against torch's own loops, the probe against another solver, label subsets, targets."""

import dataclasses

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from ddbench.core.bank import FeatureBank
from ddbench.core.data import stage
from ddbench.core.errors import UserError
from ddbench.core.method import METHODS, PROTOCOLS
from ddbench.core.run import Run
from ddbench.core.sets import DistilledSet
from ddbench.core.store import ArrayStore
from ddbench.core.students import build_student
from ddbench.evaluation._lbfgs import fit_probe
from ddbench.evaluation._students import Recipe, balanced_subset, classifier_hits, fine_tune, imitate
from ddbench.evaluation.ssl_pretrain import RECIPES, SSLPretrain, fractions

QUICK = SSLPretrain(student="convnet[widths=8-8]", size=8, steps=60, labels="25+100", seeds=2)


@pytest.fixture
def taught(backbone, data, run):
    return METHODS.create("teacher_random", size=8).distill(backbone, data, 8, run=run)


@pytest.mark.parametrize("decay", [1e-3, 1e-1])
def test_the_probe_is_scikit_learns_multinomial_regression_on_standardised_features(decay):
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(60) % 3
    features = torch.randn(60, 5, generator=generator, dtype=torch.float64) * torch.tensor([100.0, 1, 0.01, 1, 0]).double()
    features[:, 1] += labels
    probe = fit_probe(features, labels, 3, decay)
    # C of scikit-learn multiplies the summed loss beside 1/2 ||W||^2
    model = LogisticRegression(C=1 / (2 * decay * 60), tol=1e-10, max_iter=10_000)
    z = StandardScaler().fit_transform(features.numpy())
    expected = model.fit(z, labels.numpy()).predict_log_proba(z)
    np.testing.assert_allclose(F.log_softmax(probe(features), 1).numpy(), expected, rtol=0, atol=2e-3)


def test_a_feature_that_never_varies_is_ignored():
    features = torch.randn(20, 3, generator=torch.Generator().manual_seed(0))
    features[:, 2] = 5
    probe = fit_probe(features, torch.arange(20) % 2, 2, 1e-3)
    shifted = features + torch.tensor([0, 0, 1000.0])
    assert torch.equal(probe(features), probe(shifted))


@pytest.mark.parametrize("cosine", [False, True])
def test_a_recipe_is_torchs_sgd(taught, cosine):
    recipe = Recipe(lr=0.05, weight_decay=1e-2, batch=10, epochs=2, cosine=cosine)
    found, expected = (build_student(QUICK.student, 8, 12, seed=0) for _ in range(2))
    imitate(found, taught, 8, recipe, torch.Generator().manual_seed(0))
    order = torch.Generator().manual_seed(0)
    sgd = torch.optim.SGD(expected.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(sgd, 6)
    for _ in range(2):
        for batch in torch.randperm(24, generator=order).split(10):
            loss = F.mse_loss(expected(taught.images[batch]), taught.targets[batch])
            sgd.zero_grad()
            loss.backward()
            sgd.step()
            if cosine:
                schedule.step()
    for one, other in zip(found.parameters(), expected.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_recipe_lengths_are_the_published_ones():
    """1,000 images in batches of 256 are 4 steps per epoch; the common recipe does not depend on the size of the set."""
    assert {name: recipe.length(1000) for name, recipe in RECIPES.items()} == {"mkdt": 80, "krrst": 4000, "common": 1000}
    assert RECIPES["common"].length(50_000) == 1000
    assert RECIPES["mkdt"].length(50_000) == 20 * 196


def test_mkdts_recipe_takes_the_learned_rate_and_the_others_do_not(taught, run):
    still = dataclasses.replace(taught, extras={"student_lr": 1e-12})
    for recipe, moves in (("mkdt", False), ("common", True), ("krrst", True)):
        protocol = dataclasses.replace(QUICK, recipe=recipe, steps=2)
        found = protocol.pretrained(still, 0, run).encoder[0].weight
        start = protocol.pretrained(untrained(taught), 0, run).encoder[0].weight
        assert torch.allclose(found, start, atol=1e-6) != moves


def untrained(dset):
    return DistilledSet(torch.zeros(0, 3, 8, 8), torch.zeros(0, dtype=torch.long), dset.class_names)


def test_label_subsets_are_balanced_nested_and_never_empty():
    labels = torch.arange(4).repeat_interleave(50)
    small, large = (balanced_subset(labels, share, torch.Generator().manual_seed(1)) for share in (0.1, 0.5))
    assert labels[small].bincount().tolist() == [5] * 4
    assert set(small.tolist()) < set(large.tolist())
    assert labels[balanced_subset(labels, 0.001, torch.Generator())].tolist() == [0, 1, 2, 3]
    assert balanced_subset(labels, 1.0, torch.Generator()).tolist() == list(range(200))


def test_accuracy_is_counted_in_eval_mode_over_all_test_images(data):
    student = build_student("convnet[widths=4,norm=batch]", 8, 3, seed=0)
    features = student.eval().features(stage(data.test.images[torch.arange(len(data.test))], 8))
    student.train()
    predicted = features[:, :3].argmax(1)
    (found,) = classifier_hits(student, [lambda z: z[:, :3]], data.test, 8)
    assert torch.equal(found, predicted == data.test.labels)


def test_pre_training_learns_the_targets(taught, run):
    student = QUICK.pretrained(taught, 0, run).eval()
    errors = (student(taught.images) - taught.targets).square().mean()
    assert errors < 0.5 * taught.targets.square().mean()


def test_it_repeats_exactly_and_reports_each_share_of_labels(data, run, taught, tmp_path):
    found = QUICK.evaluate(None, data, taught, run=run)
    assert found == QUICK.evaluate(None, data, taught, run=run), "with the stored students"
    assert found == QUICK.evaluate(None, data, taught, run=Run(bank=FeatureBank(ArrayStore(tmp_path / "other"))))
    assert list(found.parts) == ["25% labels", "100% labels"]
    assert found.top1_per_seed == found.parts["25% labels"]
    assert len(found.top1_per_seed) == 2


def test_one_pre_training_serves_all_readouts_and_each_set_recipe_and_seed_has_its_own(data, run, taught):
    before = len(run.bank.misses)
    QUICK.evaluate(None, data, taught, run=run)
    dataclasses.replace(QUICK, labels="50", readout="finetune", tune_steps=1).evaluate(None, data, taught, run=run)
    assert len(run.bank.misses) == before + QUICK.seeds
    for protocol, dset in (
        (dataclasses.replace(QUICK, steps=59), taught),
        (dataclasses.replace(QUICK, student="convnet[widths=8-4]"), taught),
        (QUICK, dataclasses.replace(taught, targets=2 * taught.targets)),
        (QUICK, dataclasses.replace(taught, images=1 - taught.images)),
    ):
        before = len(run.bank.misses)
        protocol.pretrained(dset, 0, run)
        assert len(run.bank.misses) == before + 1


def test_a_stored_student_is_the_trained_one_with_its_running_statistics(data, run, taught):
    protocol = dataclasses.replace(QUICK, student="convnet[widths=8-8,norm=batch]")
    trained = protocol.pretrained(taught, 0, run).eval()
    stored = protocol.pretrained(taught, 0, run).eval()
    assert torch.equal(trained(taught.images), stored(taught.images))
    fresh = build_student(protocol.student, 8, 12, seed=0)
    found, untouched = (dict(student.named_buffers())["encoder.1.running_mean"] for student in (stored, fresh))
    assert not torch.equal(found, untouched)


def test_the_empty_set_leaves_the_student_as_it_was(taught, run):
    fresh = QUICK.pretrained(untrained(taught), 0, run)
    other = dataclasses.replace(QUICK, steps=None).pretrained(untrained(taught), 0, run)
    for one, two in zip(fresh.encoder.parameters(), other.encoder.parameters(), strict=True):
        assert torch.equal(one, two)


def test_all_sets_meet_the_same_students(taught, run):
    """Encoders start equal whatever the teacher's dimension."""
    narrow = dataclasses.replace(taught, targets=taught.targets[:, :3], target_mean=None, target_std=None)
    almost_still = dataclasses.replace(QUICK, recipe="mkdt", steps=1)
    sets = [dataclasses.replace(dset, extras={"student_lr": 1e-12}) for dset in (taught, narrow)]
    one, other = (almost_still.pretrained(dset, 1, run).encoder[0].weight for dset in sets)
    torch.testing.assert_close(one, other)
    assert not torch.allclose(one, almost_still.pretrained(sets[0], 0, run).encoder[0].weight)


def test_fine_tuning_moves_the_encoder_and_is_trained_on_the_labels(data):
    student = build_student("convnet[widths=8]", 8, 3, seed=0)
    before = student.encoder[0].weight.clone()
    recipe = Recipe(lr=0.05, weight_decay=0, steps=150, cosine=True)
    chosen = torch.arange(len(data.train))
    classifier = fine_tune(student, data.train, chosen, 3, 8, recipe, torch.Generator().manual_seed(0))
    assert not torch.equal(before, student.encoder[0].weight)
    assert classifier_hits(student, [classifier], data.test, 8).float().mean() > 0.6


def test_fine_tuning_starts_afresh_for_each_share_of_labels(data, run, taught):
    tuned = dataclasses.replace(QUICK, readout="finetune", tune_steps=3, seeds=1)
    both = tuned.evaluate(None, data, taught, run=run).parts
    alone = dataclasses.replace(tuned, labels="100").evaluate(None, data, taught, run=run).parts
    assert both["100% labels"] == alone["100% labels"]


def test_sets_without_teacher_features_are_refused_with_a_reason(data, run):
    dset = METHODS.create("random").distill(None, data, 1, run=run)
    assert "needs teacher features" in QUICK.supports(dset)
    assert QUICK.supports(METHODS.create("untrained").distill(None, data, 1, run=run)) is None


@pytest.mark.parametrize("text", ["", "0", "101", "1,5", "ten"])
def test_wrong_labels_are_one_line(text):
    with pytest.raises(UserError, match="cannot read labels"):
        fractions(text)


def test_a_wrong_target_or_student_is_refused_when_the_protocol_is_made():
    with pytest.raises(UserError, match="unknown dataset 'nope'"):
        PROTOCOLS.create("ssl-pretrain[target=nope]")
    with pytest.raises(UserError, match="unknown student"):
        PROTOCOLS.create("ssl-pretrain[student=nope]")
    assert (
        PROTOCOLS.create("ssl-pretrain[target=arrays[path=DIR,train_limit=5]]").judging_data == "arrays[path=DIR,train_limit=5]"
    )
    assert PROTOCOLS.create("ssl-pretrain[target=none]").judging_data is None
