"""The table that a run ends with, and its sentence."""

from ddbench.benchmark.report.first import first

from ..fake_records import grid, record


def test_a_row_per_method_and_a_sentence_about_the_best_asked_for():
    text = first(grid(seeds=(0, 1, 2)), ["centroids", "clpdd"])
    rows = [line.split()[0] for line in text.splitlines() if line.startswith(" ") and "±" in line]
    assert rows[:3] == ["random", "clpdd", "centroids"]
    assert "ridge-probe: 10 images of clpdd: 62.5 % on the backbone that distilled them, 52.5 % on the others" in text
    assert "random (10 images) 32.5 %; full (1,400 images) 91.5 %" in text


def test_the_method_stands_beside_the_best_real_images_even_where_those_are_better():
    worse = [{**r, "top1": r["top1"] - 30, "top1_per_seed": []} if r["method"] == "clpdd" else r for r in grid()]
    text = first(worse, ["centroids", "clpdd"], real=["centroids", "random"])
    said = text.splitlines()[-1]
    assert said.startswith("  ridge-probe: 10 images of clpdd: ")
    assert "; centroids (10 images) " in said
    assert said.index("centroids") < said.index("random") < said.index("full")
    assert (
        first(worse, ["centroids"], real=["centroids"]).splitlines()[-1].startswith("  ridge-probe: 10 images of centroids: ")
    )


def test_recall_far_from_top_1_is_said_below():
    """A test split of 95 % one class gives 95 % to a constant answer."""
    skewed = [{**r, "details": {"mean_recall": r["top1"] - 40}} for r in grid()]
    text = " ".join(first(skewed, ["clpdd"]).split())
    assert "ridge-probe: mean per-class recall less top-1, points: random -40.0, clpdd -40.0" in text
    near = [{**r, "details": {"mean_recall": r["top1"] - 0.5}} for r in grid()]
    assert "recall" not in first(near, ["clpdd"])


def test_nothing_is_said_of_methods_without_a_number():
    failed = [r for r in grid() if r["method"] != "clpdd"] + [record(top1=None, top1_per_seed=[], status="oom")]
    assert "images of" not in first(failed, ["clpdd"])
