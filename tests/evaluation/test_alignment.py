"""Mutual nearest neighbours: 1 for the same space, chance for unrelated ones, and nothing but angles counts."""

import pytest
import torch

from ddbench.benchmark.cli import main
from ddbench.benchmark.suite.plan import judging_fingerprint
from ddbench.core.backbone import BACKBONES
from ddbench.core.data import to_float
from ddbench.core.errors import Unsupported
from ddbench.core.method import METHODS, PROTOCOLS
from ddbench.evaluation._alignment import mutual_share, nearest


def random_features(n: int, d: int, seed: int) -> torch.Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


def test_neighbours_are_the_most_similar_others_by_a_loop():
    z = random_features(30, 5, 0)
    found = nearest(z, 4)
    for i in range(len(z)):
        similarity = [float(torch.cosine_similarity(z[i], z[j], dim=0)) for j in range(len(z))]
        order = sorted((j for j in range(len(z)) if j != i), key=lambda j: -similarity[j])
        assert found[i].tolist() == order[:4]


def test_chunks_do_not_change_the_neighbours(monkeypatch):
    z = random_features(50, 6, 0)
    whole = nearest(z, 5)
    monkeypatch.setattr("ddbench.evaluation._alignment._CHUNK", 7)
    assert torch.equal(nearest(z, 5), whole)


def test_a_rotated_and_scaled_space_is_the_same():
    z = random_features(60, 8, 1)
    rotation, _ = torch.linalg.qr(random_features(8, 8, 2))
    assert mutual_share(nearest(z, 5), nearest(3 * z @ rotation, 5)) == 1


def test_unrelated_spaces_agree_by_chance():
    one, other = (nearest(random_features(400, 16, seed), 20) for seed in (1, 2))
    assert mutual_share(one, other) == pytest.approx(20 / 399, abs=0.01)  # five standard deviations of the mean


def test_the_share_counts_common_neighbours():
    assert mutual_share(torch.tensor([[0, 1], [2, 3]]), torch.tensor([[1, 5], [4, 6]])) == 0.25


def test_the_command_prints_a_symmetric_matrix_with_ones(capsys):
    assert main(["align", "-b", "mini_vit_mae", "-b", "mini_vit_simclr", "-k", "5"]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines() if line.strip().startswith("mini_vit")]
    first, second = ([float(number) for number in line[1:]] for line in lines)
    assert first[0] == second[1] == 1
    assert first[1] == second[0]
    assert 5 / 358 < first[1] < 1


def test_one_backbone_or_too_many_neighbours_is_one_line(capsys):
    assert main(["align", "-b", "mini_vit_mae"]) == 2
    assert main(["align", "-b", "mini_vit_mae", "-b", "mini_vit_simclr", "-k", "359"]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 2


def test_the_protocol_counts_common_neighbours_of_test_images(backbone, data, run):
    full = METHODS.create("full").distill(None, data, 1, run=run)
    own = backbone(to_float(data.test.images[torch.arange(len(data.test))]))
    other = PROTOCOLS.create("alignment[of=mini_vit_mae,k=3]")
    found = other.evaluate(backbone, data, full, run=run)
    theirs = run.bank.features(BACKBONES.create("mini_vit_mae").load(), data, "test")[0]
    common = [len(_neighbours(own, i, 3) & _neighbours(theirs, i, 3)) for i in range(len(own))]
    assert found.top1 == pytest.approx(100 * sum(common) / (3 * len(own)))
    assert found.details == {"chance": pytest.approx(300 / (len(own) - 1))}


def _neighbours(z: torch.Tensor, i: int, k: int) -> set[int]:
    similarity = torch.cosine_similarity(z[i : i + 1], z, dim=1)
    similarity[i] = -2
    return set(similarity.argsort(descending=True)[:k].tolist())


def test_a_distilled_set_has_no_alignment_and_few_images_have_none(backbone, data, run):
    drawn = METHODS.create("random").distill(None, data, 1, run=run)
    full = METHODS.create("full").distill(None, data, 1, run=run)
    assert "whatever the set" in PROTOCOLS.create("alignment[of=mini_vit_mae]").supports(drawn)
    with pytest.raises(Unsupported, match="more test images than"):
        PROTOCOLS.create(f"alignment[of=mini_vit_mae,k={len(data.test)}]").evaluate(backbone, data, full, run=run)


def test_the_compared_backbone_is_part_of_what_a_result_is_addressed_by():
    """Its weights, not its name."""
    one, two = (judging_fingerprint(f"alignment[of={name}]") for name in ("mini_vit_mae", "mini_vit_simclr"))
    assert None not in (one, two)
    assert one != two


def test_a_backbone_to_compare_with_is_asked_for(capsys):
    assert main(["run", "-m", "full", "--protocol", "alignment", "--dry-run"]) == 2
    assert capsys.readouterr().err == "ddbench: error: protocol 'alignment' needs of=…\n"
