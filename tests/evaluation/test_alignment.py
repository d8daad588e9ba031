"""Mutual nearest neighbours: 1 for the same space, chance for unrelated ones, and nothing but angles counts."""

import pytest
import torch

from ddbench.benchmark.cli import main
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
