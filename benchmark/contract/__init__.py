"""The checks that plugin authors run: `ddbench check`.

Imports nothing of the other wings.
"""
