"""One cell, inside its process: distil under the meter, evaluate, report records; checkpoints.

Started by `processes`. Imports `suite`, `records`, `machine`, and of `processes` its side of a job.

    main             what the fork server runs: reads the job, works, reports events
    cell_run         load, distil or re-use, evaluate, one record per evaluation
    caveats          what a number has to carry beside what its protocol found
    distillation     the method under the meter, and what was measured
    cell_checkpoint  checkpoints on disk: a killed cell goes on where it was
    stop_request     Ctrl-C, obeyed at the next checkpoint
"""
