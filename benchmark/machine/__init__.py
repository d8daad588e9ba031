"""The machine under the benchmark: clocks and memory meters, versions and hardware, determinism, how a process ended.

One file, `measure.py`, reads clocks. Every wing may import from here; nothing here knows of suites, cells or records.

    measure      clocks, memory, the meter of phases and steps
    environment  versions and hardware, as records tell them
    determinism  seeds and deterministic algorithms
    in_use       whether another run works on the device
    outcome      from an exception or a dead process to status and reason
    output       a standard output that may be closed or full
    signals      Ctrl-C, SIGTERM and SIGHUP of a run
    curve        the loss over the steps, as curve.csv
"""
