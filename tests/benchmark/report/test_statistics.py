"""Intervals cover what they promise; differences are paired; ranks follow Demsar (2006)."""

import itertools
import statistics

import numpy as np
import pytest
from scipy import stats

from ddbench.benchmark.report.statistics import (
    BOOTSTRAP_FROM,
    average_ranks,
    interval,
    paired,
    part_of,
    scores,
    the_method,
)
from ddbench.core.errors import UserError

from ..fake_records import BACKBONES, grid, record


def test_few_seeds_give_students_interval_and_one_seed_none():
    values = [50.0, 52.0, 55.0]
    half = stats.t.ppf(0.975, 2) * statistics.stdev(values) / 3**0.5
    assert interval(values) == pytest.approx((statistics.fmean(values) - half, statistics.fmean(values) + half))
    assert interval([50.0]) is interval([]) is None
    assert interval([50.0, 50.0]) == (50.0, 50.0)


def slow_bca(values: np.ndarray, rng) -> tuple[float, float]:
    """Efron (1987), section 3, by loops."""
    n, mean = len(values), values.mean()
    means = sorted(values[rng.integers(0, n, n)].mean() for _ in range(5000))
    bias = stats.norm.ppf(np.mean([m < mean for m in means]))
    left_out = [np.delete(values, i).mean() for i in range(n)]
    gaps = np.mean(left_out) - np.array(left_out)
    acceleration = (gaps**3).sum() / (6 * (gaps**2).sum() ** 1.5)
    ends = []
    for share in (0.025, 0.975):
        z = bias + stats.norm.ppf(share)
        ends.append(means[int(5000 * stats.norm.cdf(bias + z / (1 - acceleration * z)))])
    return tuple(ends)


def test_many_seeds_give_the_bca_bootstrap_of_a_slow_version():
    values = np.random.default_rng(1).exponential(size=40)  # skewed: the interval must not be symmetric
    low, high = interval(values.tolist())
    assert (low, high) == pytest.approx(slow_bca(values, np.random.default_rng(2)), abs=0.05)  # of 2,000 and 5,000 draws
    assert high - values.mean() > 1.2 * (values.mean() - low)
    assert interval(values.tolist()) == (low, high), "one table has one text"


@pytest.mark.parametrize("seeds", [3, BOOTSTRAP_FROM])
def test_intervals_cover_the_mean_about_95_times_in_100(seeds):
    """Resampling three numbers covers 80 % at best: what fewer seeds would get from a bootstrap."""
    rng = np.random.default_rng(0)
    inside = 0
    for _ in range(300):
        low, high = interval(rng.normal(size=seeds).tolist())
        inside += low <= 0 <= high
    assert 0.90 <= inside / 300 <= 0.985


def slow_difference(records, ours, theirs, own):
    """Plain loops over seeds and places."""

    def top1(method, distil, judge, seed):
        for r in records:
            here = (r["method_spec"], r["eval_backbone"], r["distill_seed"]) == (method, judge, seed)
            if here and r["distill_backbone"] in (distil, None):
                return r["top1"]
        return None

    per_seed = []
    for seed in (0, 1, 2):
        gaps = []
        for distil, judge in itertools.product(BACKBONES, BACKBONES):
            if (distil == judge) == own:
                gaps.append(top1(ours, distil, judge, seed) - top1(theirs, distil, judge, seed))
        per_seed.append(statistics.fmean(gaps))
    return statistics.fmean(per_seed), per_seed


@pytest.mark.parametrize("own", [True, False])
@pytest.mark.parametrize("theirs", ["centroids", "random"])
def test_a_paired_difference_equals_plain_loops(own, theirs):
    records = grid(seeds=(0, 1, 2))
    for r in records:  # seed noise that both share, and noise that they do not
        r["top1"] += 5 * r["distill_seed"] ** 2 + (hash(r["config_hash"]) % 100) / 50
    found = scores(records)
    both = paired(part_of(found["clpdd"], "ridge-probe", own), part_of(found[theirs], "ridge-probe", own))
    mean, per_seed = slow_difference(records, "clpdd", theirs, own)
    assert both.mean == pytest.approx(mean)
    assert both.interval == pytest.approx(interval(per_seed))
    assert (both.seeds, both.places) == (3, 4 if own else 12)


def test_what_both_seeds_share_cancels_in_a_paired_difference():
    """Seeds move both methods by 10 points; the difference is exact."""
    records = [record(m, seed=s, top1=50 + 10 * s + gain) for m, gain in (("clpdd", 2.0), ("lgm", 0.0)) for s in (0, 1, 2)]
    found = scores(records)
    assert paired(found["clpdd"], found["lgm"]).interval == (2.0, 2.0)
    assert paired(found["clpdd"], found["lgm"]).decided
    assert interval([50, 60, 70])[0] < 50 < interval([52, 62, 72])[1], "unpaired intervals overlap widely"


def test_a_deterministic_method_stands_against_every_seed():
    records = [record("clpdd", seed=s, top1=50.0 + s) for s in (0, 1, 2)] + [record("centroids", seed=0, top1=40.0)]
    both = paired(scores(records)["clpdd"], scores(records)["centroids"])
    assert (both.mean, both.seeds, both.better) == (11.0, 3, 1)


def test_a_place_that_lacks_a_seed_is_left_out_of_both():
    records = [record(m, judge=b, seed=s, top1=50.0) for m in ("clpdd", "lgm") for b in BACKBONES[:2] for s in (0, 1)]
    records = [r for r in records if not (r["method"] == "lgm" and r["eval_backbone"] == BACKBONES[1] and r["distill_seed"])]
    records.append(record("lgm", judge=BACKBONES[2], top1=0.0))  # a place of one method alone
    both = paired(scores(records)["clpdd"], scores(records)["lgm"])
    assert (both.mean, both.places, both.seeds) == (0.0, 1, 2)
    assert paired(scores(records)["clpdd"], {}) is None


def test_ranks_and_critical_difference_follow_demsar():
    """Table 6 of Demsar (2006): 4 classifiers on 14 data sets, average ranks 3.143, 2.000, 2.893, 1.964; CD 1.25."""
    auc = """0.763 0.768 0.771 0.798|0.599 0.591 0.590 0.569|0.954 0.971 0.968 0.967|0.628 0.661 0.654 0.657|0.882 0.888 0.886
    0.898|0.936 0.931 0.916 0.931|0.661 0.668 0.609 0.685|0.583 0.583 0.563 0.625|0.775 0.838 0.866 0.875|1.000 1.000 1.000
    1.000|0.940 0.962 0.965 0.962|0.619 0.666 0.614 0.669|0.972 0.981 0.9751 0.975|0.957 0.978 0.946 0.970"""
    names = ("C4.5", "C4.5+m", "C4.5+cf", "C4.5+m+cf")
    records = [
        record(name, None, f"data{block}", top1=100 * float(value))
        for block, row in enumerate(auc.split("|"))
        for name, value in zip(names, row.split(), strict=True)
    ]
    found = average_ranks(scores(records))
    assert [round(found.ranks[name], 3) for name in names] == [3.143, 2.0, 2.893, 1.964]
    assert found.critical == pytest.approx(2.569 * (4 * 5 / (6 * 14)) ** 0.5, abs=2e-3)
    n, k, ranks = 14, 4, np.array(list(found.ranks.values()))
    plain = 12 * n / (k * (k + 1)) * ((ranks**2).sum() - k * (k + 1) ** 2 / 4)
    assert plain == pytest.approx(9.28, abs=0.01), "as in the paper, which does not correct for ties"
    tied = [[row.split().count(value) for value in set(row.split())] for row in auc.split("|")]
    correction = 1 - sum(t**3 - t for row in tied for t in row) / (n * k * (k**2 - 1))
    assert found.friedman_p == pytest.approx(stats.chi2.sf(plain / correction, k - 1), rel=1e-6)
    assert found.cliques() == [("C4.5+m+cf", "C4.5+m", "C4.5+cf", "C4.5")]


def test_few_blocks_have_ranks_but_no_critical_difference():
    found = average_ranks({m: part_of(p, "ridge-probe", True) for m, p in scores(grid()).items() if m != "full"})
    assert list(found.ranks) == ["clpdd", "centroids", "random"]
    assert (found.blocks, found.critical, found.friedman_p, found.cliques()) == (4, None, None, [])


def test_a_method_that_lacks_a_block_is_named_and_not_ranked():
    records = [r for r in grid() if not (r["method"] == "random" and r["eval_backbone"] == BACKBONES[0])]
    found = average_ranks(scores(records))
    assert found.left_out == ("random",)


def test_a_method_is_named_by_its_spec_or_by_its_name_where_that_is_enough():
    specs = ["clpdd", "clpdd[outer=mse]", "lgm[steps=5]"]
    assert the_method("clpdd", specs) == "clpdd"
    assert the_method("lgm", specs) == "lgm[steps=5]"
    with pytest.raises(UserError, match="'sfm' is none of the methods there are: clpdd, "):
        the_method("sfm", specs)
    with pytest.raises(UserError, match=r"several of the methods there are: clpdd\[a=1\], clpdd\[a=2\]"):
        the_method("clpdd", ["clpdd[a=1]", "clpdd[a=2]"])
