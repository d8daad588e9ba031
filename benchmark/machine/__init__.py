"""The machine under the benchmark: clocks and memory meters, versions and hardware, determinism, how a process ended.

One file, `measure.py`, reads clocks. Every wing may import from here; nothing here knows of suites, cells or records.
"""
