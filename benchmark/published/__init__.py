"""The papers' numbers: claims from results/published, our records that answer for them, both side by side.

Imports `report`, `records` and `suite`.

    claim        what papers claim, from results/published/*.csv
    paper_names  what their columns are called here
    against      which records answer for each claim
    table        claimed beside measured, in every format
"""
