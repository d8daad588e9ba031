"""Where cells run: one fresh process per cell and device, followed, timed out, recorded; what a person sees of it.

Imports `suite`, `records` and `machine`; the cell that a process runs is started by name and not imported.

    runner        a plan from start to end: what is left, one record at a time
    engine        the seam between a run and where its cells run
    local         on this machine, one cell per device
    on_ray        on a Ray cluster
    attempts      how a killed, late or silent cell is recorded, and tried again
    launcher      one cell process: started, followed, ended
    fork_server   the process that cells are forked from
    job           what passes between a run and a cell: job in, events out
    several_gpus  several processes that distil one cell
    progress      what a person sees of a run, and how many evaluations ended how
    forecast      when a run will end
"""

CHECKPOINT_EVERY = 60.0  # seconds between two checkpoints of a cell; here, where a command line reads it at no cost
