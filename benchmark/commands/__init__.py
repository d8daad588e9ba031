"""One file per subcommand of `ddbench`: `add(commands)` declares its options, and what it does follows.

Heavy modules (torch, pandas, the plugins) are imported inside the functions, so that `ddbench --help` answers at once.
"""
