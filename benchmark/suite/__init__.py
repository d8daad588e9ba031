"""What to run: suite files and their grids, stand-ins, the cells of a plan and their identity, what they will cost.

Imports `records` and `machine`.
"""
