"""Sets that exist already, ours from a run or made elsewhere: read, checked against a dataset, judged as those of a run are.

Imports `suite` and `records`.
"""
