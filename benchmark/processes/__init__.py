"""Where cells run: one fresh process per cell and device, followed, timed out, recorded; what a person sees of it.

Imports `suite`, `records` and `machine`; the cell that a process runs is started by name and not imported.
"""
