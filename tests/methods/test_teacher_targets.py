"""Real images with the teacher's targets: what the controls hold, and who may use them how."""

import torch

from ddbench.core.method import METHODS, PROTOCOLS
from ddbench.core.views import centre
from ddbench.methods._teacher import Teacher, standardisation


def test_the_teacher_sees_each_image_resized_to_its_own_input(make_backbone, data, run):
    backbone = make_backbone(crop_pct=0.5)  # 32 pixels, of which the centre 16
    teacher = Teacher.of(backbone, data, False, run)
    images = torch.rand(2, 3, 8, 8)
    assert teacher.see(images).shape == (2, 12)
    resized = torch.nn.functional.interpolate(images, size=(32, 32), mode="bilinear", antialias=True)
    torch.testing.assert_close(teacher.see(images), backbone(centre(resized, 16)), rtol=1e-3, atol=1e-4)


def test_standardised_targets_have_mean_zero_and_deviation_one_over_the_train_split(backbone, data, run):
    teacher = Teacher.of(backbone, data, True, run)
    targets = teacher.targets(torch.arange(len(data.train)))
    torch.testing.assert_close(targets.mean(0), torch.zeros(12), rtol=0, atol=1e-3)
    torch.testing.assert_close(targets.std(0, correction=0), torch.ones(12), rtol=1e-3, atol=1e-3)


def test_a_constant_dimension_is_centred_and_not_blown_up():
    features = torch.randn(50, 3, generator=torch.Generator().manual_seed(0))
    features[:, 1] = 7
    mean, std = standardisation(features)
    assert mean[1] == 7
    assert std[1] == 1


def test_random_and_full_carry_the_banks_features(backbone, data, run):
    for name in ("teacher_random", "teacher_full"):
        dset = METHODS.create(name).distill(backbone, data, 2, run=run)
        features = run.bank.features(backbone, data, "train")[0][dset.indices]
        torch.testing.assert_close(dset.targets * dset.target_std + dset.target_mean, features, rtol=1e-4, atol=1e-5)
    assert len(dset) == len(data.train)
    assert not isinstance(dset.images, torch.Tensor)  # refers to the data


def test_random_images_are_not_balanced_by_labels_that_nobody_reads(backbone, data, run):
    dset = METHODS.create("teacher_random").distill(backbone, data, 8, run=run)
    assert torch.equal(dset.labels, data.train.labels[dset.indices])
    assert dset.labels.bincount().tolist() != [8, 8, 8]
    assert dset.labels_of == "initial images"


def test_they_can_be_probed_off_label_and_the_empty_set_cannot(backbone, data, run):
    probe = PROTOCOLS.create("ridge-probe")
    assert probe.supports(METHODS.create("teacher_random").distill(backbone, data, 2, run=run)) is None
    assert "no class labels" in probe.supports(METHODS.create("teacher_full").distill(backbone, data, 1, run=run))
    assert "the set is empty" in probe.supports(METHODS.create("untrained").distill(None, data, 1, run=run))


def test_a_budget_beyond_the_data_is_a_reason(backbone, data):
    for name in ("krrst", "mkdt", "teacher_random", "teacher_high_loss"):
        method = METHODS.create(name)
        assert method.supports(backbone.spec, data, 16) is None  # 48 images, as many as there are
        assert "starts from 51 real images, but tiny has 48" in method.supports(backbone.spec, data, 17)
