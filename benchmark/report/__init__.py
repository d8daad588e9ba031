"""Records made readable: tables, summaries, pictures, their text in every format.

Imports `records` and `machine`.
"""
