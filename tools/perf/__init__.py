"""Speed and memory of methods, feature extraction, probes and image decoding. Run by `make perf`; not part of the package.

Imports `ddbench` as a user does, and the clocks of its harness.
"""
