"""Distils with every method that draws in its own way, from the checkpoints in a folder; prints what came of it as JSON.

python -P resume_process.py CACHE FOLDER [--stop-after STEPS]
"""

import argparse
import json
from pathlib import Path

import torch

from ddbench.benchmark.cell.cell_checkpoint import CellCheckpoint
from ddbench.benchmark.contract.subject import tiny_backbone, tiny_data
from ddbench.benchmark.machine.determinism import make_deterministic
from ddbench.benchmark.machine.measure import Meter, StepMeter
from ddbench.core.bank import FeatureBank
from ddbench.core.method import METHODS
from ddbench.core.run import Run
from ddbench.core.store import ArrayStore

SPECS = (
    "clpdd[steps=12,init=noise,grow_every=3,real_batch=20,augment=flip+crop+noise]",
    "lgm[steps=12,grow_every=3,copies=2,real=live]",
    "lgm[steps=12,grow_every=3,copies=2,real=bank]",
    "krrst[student=convnet[widths=4,norm=batch],size=8,steps=12,batch=20,pool=2,online=4]",
    "mkdt[student=convnet[widths=4-4],size=8,steps=12,inner_steps=3,batch=2,experts=2]",
)


class EveryStep(CellCheckpoint):
    def due(self):
        return True


parser = argparse.ArgumentParser()
parser.add_argument("cache", type=Path)
parser.add_argument("folder", type=Path)
parser.add_argument("--stop-after", type=int)
args = parser.parse_args()

make_deterministic("cpu")
torch.set_num_threads(1)
found = {}
for number, spec in enumerate(SPECS):
    place = EveryStep(args.folder / str(number), {}, StepMeter(Meter(torch.device("cpu"))), every=0.0)

    def progress(step, steps, loss, place=place):
        place.steps(step, steps, loss)
        if args.stop_after and step > args.stop_after:
            raise KeyboardInterrupt

    run = Run(bank=FeatureBank(ArrayStore(args.cache)), checkpoint=place, progress=progress)
    fingerprint = None
    try:
        with place.steps.meter.phase("distill"):
            fingerprint = METHODS.create(spec).distill(tiny_backbone(), tiny_data(), 1, run=run).fingerprint()
    except KeyboardInterrupt:
        pass
    found[spec] = {"set": fingerprint, "resumed_at": place.resumed_at}
print(json.dumps(found))
