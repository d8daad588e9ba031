"""The end of a run is foretold from cells of like cost and the steps done, and not from the number of cells."""

import itertools

import pytest

from ddbench.benchmark.processes.forecast import Forecast
from ddbench.benchmark.processes.job import Event


def simulated(cells, making, judging, steps=100):
    """Seconds left as they really are and as foretold, four times a second, of a run whose cells take `making[i]` seconds in
    `steps` steps and then `judging` per evaluation."""
    whole = sum(making) + judging * sum(len(c.evaluations) for c in cells)
    forecast, now, found = Forecast(cells), 0.0, []

    def look(index, until):
        nonlocal now
        while now < until:
            found.append((index, whole - now, *forecast.left(now)))
            now += 0.25
        now = until

    for index, (cell, seconds) in enumerate(zip(cells, making, strict=True), 1):
        forecast.start(index, cell, "cpu", now)
        begin = now
        for step in range(1, steps + 1):
            look(index, begin + seconds * step / steps)
            rate = None if step == 1 else steps / seconds
            eta = None if rate is None else (steps - step) / rate
            event = Event("step", step=step, steps=steps, steps_per_second=rate, eta_seconds=eta)
            forecast.running[index].hear(event, now)
        for evaluation in cell.evaluations:
            forecast.running[index].hear(Event("evaluation", name="x", config_hash=evaluation.config_hash), now)
            look(index, now + judging)
        forecast.end(index, now)
    assert forecast.left(now) == (0.0, True)
    return found


@pytest.fixture
def grid(cell_of):
    """The grid of the quick start: a cheap floor, five dear cells, a ceiling."""
    dear = [cell_of(("a", "b"), method_spec="clpdd", distill_backbone=f"net{n}") for n in range(5)]
    cheap = [cell_of(("a", "b"), method_spec=name, distill_backbone=None) for name in ("random", "full")]
    return [cheap[0], *dear, cheap[1]]


def test_the_estimate_does_not_grow_within_a_cell(grid):
    found = simulated(grid, [0.5, 60, 70, 50, 60, 65, 1.0], judging=5.0)
    for index in range(2, 8):
        left = [seconds for cell, _, seconds, _ in found if cell == index][8:]  # once its second step is done
        assert all(later <= 1.1 * before for before, later in itertools.pairwise(left)), index
        assert max(left) <= 1.2 * left[0], index


def test_the_estimate_is_near_the_truth(grid):
    found = simulated(grid, [0.5, 60, 70, 50, 60, 65, 1.0], judging=5.0)
    assert not found[0][3], "nothing is known when the first cell starts, and that is said"
    for cell, truth, seconds, _ in found:
        if cell >= 3:
            assert seconds == pytest.approx(truth, rel=0.3, abs=15)


def test_what_is_not_known_is_not_guessed(grid):
    forecast = Forecast(grid)
    assert forecast.left(0.0) == (0.0, False)
    forecast.start(1, grid[0], "cpu", 0.0)
    forecast.end(1, 2.0)
    assert not forecast.left(2.0)[1]  # clpdd has not been seen


def test_cells_that_run_at_once_share_the_time(cell_of):
    cells = [cell_of((), method_spec="m", distill_seed=n) for n in range(6)]
    forecast = Forecast(cells)
    for index in (1, 2):
        forecast.start(index, cells[index - 1], f"cuda:{index}", 0.0)
    forecast.end(1, 10.0)
    forecast.end(2, 10.0)
    assert forecast.left(10.0) == (20.0, True)
