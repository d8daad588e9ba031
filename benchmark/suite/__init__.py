"""What to run: suite files and their grids, stand-ins, the cells of a plan and their identity.

Imports `records` and `machine`.

    suite        a grid, from the command line or a YAML file
    overrides    stand-ins: `--override OLD=NEW`
    plan         from a suite to cells
    cell         a cell, and what makes two results the same
    code         identity of the code that a result comes from
    normal_form  the source that this identity looks at
"""
