"""Targets: extrapolated from the rows that they are about, and from no others."""

from dataclasses import asdict

import pytest
from perf.cases import CLPDD, DINO, VIT, Case, lgm
from perf.targets import lines


def row(spec, seconds, chunk=None, gb=50.0, **changes):
    measured = {"status": "ok", "seconds": seconds, "steps": 100, "utilisation": 0.6, "chunks": [chunk or 1000]}
    case = Case("steps", spec, VIT, 1000, chunk=chunk)
    return {**asdict(case), **measured, "peak_bytes": {"gpu_allocated": None if gb is None else gb * 1e9}, **changes}


def test_minutes_of_5000_steps_and_utilisation_against_their_targets():
    found = lines([row(CLPDD, 0.12), row(lgm(3), 1.2, utilisation=0.4)])
    assert found[:4] == [
        "CLP-DD, no copies: 5,000 steps in 10.0 min (from 100 timed steps); target 20 min: met",
        "CLP-DD, no copies: 60% of the matrix product's rate; target 50%: met",
        "LGM, 3 copies, bank: 5,000 steps in 100.0 min (from 100 timed steps); target 75 min: missed",
        "LGM, 3 copies, bank: 40% of the matrix product's rate; target 50%: missed",
    ]


def test_too_few_timed_steps_are_told():
    assert "(from 30 timed steps, fewer than 100)" in lines([row(CLPDD, 0.1, steps=30)])[0]


@pytest.mark.parametrize("changes", [{"compiled": True}, {"backbone": DINO}, {"classes": 100}, {"ipc": 10}, {"chunk": 64}])
def test_other_cases_are_not_the_headline(changes):
    assert not any("min (" in line for line in lines([row(CLPDD, 0.1, **changes)]))


def test_failed_rows_say_nothing():
    failed = {**asdict(Case("steps", CLPDD, VIT, 1000)), "status": "oom", "reason": "out of memory"}
    assert lines([failed]) == []


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([row(CLPDD, 0.12), row(CLPDD, 0.17, 32, 7.9), row(CLPDD, 0.3, 16, 7.0)],
         "CLP-DD, no copies, in 8 GB: 7.9 GB at chunk 32, 1.42 times the shortest step; target 1.5: met"),
        ([row(CLPDD, 0.12), row(CLPDD, 0.19, 32, 7.9)],
         "CLP-DD, no copies, in 8 GB: 7.9 GB at chunk 32, 1.58 times the shortest step; target 1.5: missed"),
        ([row(CLPDD, 0.12), row(CLPDD, 0.17, 32, 8.4)], "CLP-DD, no copies, in 8 GB: the smallest peak is 8.4 GB: missed"),
    ],
)  # fmt: skip
def test_little_memory_is_asked_of_the_chunk_that_pays_least(rows, expected):
    assert lines(rows)[-1] == expected


def test_on_a_cpu_nothing_is_said_of_gpu_memory():
    assert not any("8 GB" in line for line in lines([row(CLPDD, 0.12, gb=None)]))


def test_what_a_table_cannot_show_is_told_below_it():
    probe = {**asdict(Case("ceiling")), "status": "ok", "images_per_second": 1e6, "seeds": 5, "peak_bytes": {}}
    queue = {**asdict(Case("launch", backbone="mini", chunk=64)), "status": "ok", "launch_share": 0.97}
    assert lines([probe, queue, {**queue, "launch_share": None}]) == [
        "probe on cached features of the full data: 100 epochs of ImageNet-1k in 11 min, all probe seeds",
        "backbone pass there and back, 64 views of mini: queueing takes 97% of the time (near 100 %: launch-bound)",
    ]
