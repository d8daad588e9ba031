"""Work that test_parallel gives to one process and to several: `python parallel_worker.py RANK WORLD FOLDER`."""

import importlib.util
import sys
from pathlib import Path

import torch
import torch.distributed as dist

from ddbench.core import parallel
from ddbench.core.bank import FeatureBank
from ddbench.core.engine import FeatureEngine
from ddbench.core.images import Pixels
from ddbench.core.run import Run
from ddbench.core.store import ArrayStore
from ddbench.core.views import CENTRE, View
from ddbench.methods.clpdd import CLPDD
from ddbench.methods.lgm import LGM

METHODS = {
    "lgm live": LGM(copies=3, steps=6, grow_every=2, lr=0.05, real_batch=7),
    "lgm bank": LGM(copies=3, steps=6, real="bank", real_views=2, lr=0.05, grow_every=0),
    "clpdd": CLPDD(copies=2, steps=6, lr=0.005),
}


def store_rank(out) -> None:
    out[:] = 1 + parallel.rank()


def results(folder: Path) -> dict[str, torch.Tensor]:
    """Banked noisy features, the gradient of one step, images of each method and the losses on the way."""
    spec = importlib.util.spec_from_file_location("conftest", Path(__file__).parents[1] / "conftest.py")
    conftest = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(conftest)
    backbone, data = conftest.tiny_backbone(), conftest.tiny_data()
    bank = FeatureBank(ArrayStore(folder / "features"), chunk=5)
    found = {"bank": bank.features(backbone, data, "train", view=View.parse("flip+crop+noise"), copies=2).clone()}
    found["entry"] = bank.entry({"entry": "of the process that stores"}, (2, 3), store_rank).clone()
    images = Pixels(6, 16, torch.Generator().manual_seed(1))
    engine = FeatureEngine(backbone, [CENTRE, View.parse("flip+crop+noise")], 5)
    engine.step(images, lambda z: z.flatten(0, 1).std(0).sum(), torch.Generator().manual_seed(2))
    found["gradient"] = images.signal.grad
    for name, method in METHODS.items():
        losses = []
        run = Run(bank=bank, chunk=5, progress=lambda step, steps, loss, losses=losses: losses.append(loss))
        found[name] = method.distill(backbone, data, 2, run=run).images
        found[f"{name} losses"] = torch.tensor(losses)
    return found


if __name__ == "__main__":
    rank, world, folder = int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=world)
    torch.save(results(folder), folder / f"rank{rank}.pt")
    dist.destroy_process_group()
