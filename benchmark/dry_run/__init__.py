"""What a run will take, before any of it runs: `ddbench run --dry-run`.

Imports `suite`, `records` and `machine`.

    listing       what `--dry-run` prints: cells, estimate, what does not fit
    estimate      seconds, memory and disk of all cells
    counting      how many images pass, by running each method on stand-ins for two steps
    image_cost    FLOPs and bytes of one image in a network, without weights
    device_speed  FLOP/s of this device, or of a GPU by its data sheet
"""
