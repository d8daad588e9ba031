"""The harness: plans a grid of cells, runs each in a fresh process under one clock, stores records, prints tables.

It finds methods, backbones, datasets and protocols by name through the registries in `core`; nothing but `ddbench` and
tests imports from here. Importing this package loads nothing else. The first five stand in front of the wings, and each wing
imports only what its docstring says.

    cli        the command line: subcommands, errors of one line, exit codes
    api        the same from Python, without a run folder
    catalogue  every registered plugin, with its summary and parameters
    doctor     what this machine and installation offer
    commands   one file per subcommand
    suite      what to run: grids, cells, their identity
    dry_run    what a run will take
    processes  where cells run
    cell       one cell inside its process
    machine    clocks, memory, environment, signals
    records    what is kept
    report     tables, figures, the page
    published  the papers' numbers beside ours
    foreign    sets made elsewhere
    contract   checks for authors of plugins
"""
