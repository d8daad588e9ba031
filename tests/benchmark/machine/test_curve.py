"""Curves are small, keep first and last, go on after a resume as if nothing had been, and cost next to nothing."""

import itertools
import json
import time

from ddbench.benchmark.machine.curve import Curve


def read(file) -> list[tuple[int, float]]:
    lines = file.read_text().splitlines()
    assert lines[0] == "step,loss"
    return [(int(step), float(loss)) for step, loss in (line.split(",") for line in lines[1:])]


def test_every_step_of_a_short_loop_is_kept(tmp_path):
    curve = Curve()
    for step in range(1, 6):
        curve.add(step, 1 / step)
    curve.write(tmp_path / "curve.csv")
    assert read(tmp_path / "curve.csv") == [(1, 1.0), (2, 0.5), (3, 0.333333), (4, 0.25), (5, 0.2)]


def test_a_long_loop_is_thinned_evenly_with_first_and_last(tmp_path):
    curve = Curve()
    for step in range(1, 160_001):
        curve.add(step, float(step))
    curve.write(tmp_path / "curve.csv")
    points = read(tmp_path / "curve.csv")
    steps = [step for step, _ in points]
    assert 500 <= len(points) <= 1002
    assert (steps[0], steps[-1]) == (1, 160_000)
    assert len({b - a for a, b in itertools.pairwise(steps[1:-1])}) == 1
    assert (tmp_path / "curve.csv").stat().st_size < 20_000


def test_a_resumed_curve_is_that_of_a_run_in_one_go():
    whole, first, second = Curve(), Curve(), Curve()
    for step in range(1, 3001):
        whole.add(step, step / 7)
        if step <= 1234:
            first.add(step, step / 7)
    second.restore(json.loads(json.dumps(first.state())))
    for step in range(1235, 3001):
        second.add(step, step / 7)
    assert second == whole


def test_further_loops_count_on():
    curve = Curve()
    for step in (1, 2, 3, 1, 2, 1):
        curve.add(step, 0.0)
    assert [step for step, _ in curve.points] == [1, 2, 3, 4, 5, 6]


def test_methods_without_a_loss_have_no_file(tmp_path):
    curve = Curve()
    curve.add(1, None)
    curve.write(tmp_path / "curve.csv")
    assert not (tmp_path / "curve.csv").exists()


def test_a_step_costs_microseconds():
    """1 % of a step of a millisecond would be ten."""
    curve = Curve()
    start = time.process_time()
    for step in range(1, 20_001):
        curve.add(step, 0.5)
    assert (time.process_time() - start) / 20_000 < 10e-6
