"""The papers' numbers: claims from results/published, our records that answer for them, both side by side.

Imports `report`, `records` and `suite`.
"""
