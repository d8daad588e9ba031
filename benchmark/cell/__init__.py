"""One cell, inside its process: distil under the meter, evaluate, report records; checkpoints.

Started by `processes`. Imports `suite`, `records`, `machine`, and of `processes` its side of a job.
"""
