"""Train a network of the embedded zoo again, without labels; run by `make pretrain NAME=...`."""

import argparse
import sys
import time
from pathlib import Path

import torch

from ddbench.core.errors import UserError

from .recipe import RECIPES, run_pretrain

_EVERY = 30.0  # seconds between progress lines


def main() -> int:
    parser = argparse.ArgumentParser(prog="make pretrain", description=__doc__)
    parser.add_argument("name", metavar="NAME", help=", ".join(RECIPES))
    parser.add_argument("-d", "--dataset", nargs="+", required=True, metavar="D", help="train images; labels are not read")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for weights, card and checkpoint")
    parser.add_argument("--probe", action="append", default=[], metavar="D", help="to probe the result on, for the card")
    parser.add_argument("--teacher", metavar="B", help="backbone spec that the distilled networks learn from")
    parser.add_argument("--epochs", type=float, metavar="N", help="default: as for the shipped weights")
    parser.add_argument("--batch", type=int, metavar="N", help="default: as for the shipped weights")
    parser.add_argument("--lr", type=float, metavar="X", help="default: as for the shipped weights")
    parser.add_argument("--seed", type=int, metavar="S", help="default: that of the shipped weights")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, metavar="N", help="CPU threads")
    args = parser.parse_args()
    chosen = {key: getattr(args, key) for key in ("epochs", "batch", "lr", "seed", "threads", "teacher", "device")}
    given = {key: value for key, value in chosen.items() if value is not None}
    try:
        card = run_pretrain(args.name, tuple(args.dataset), args.out, probes=tuple(args.probe), progress=_printer(), **given)
    except UserError as error:
        print(f"make pretrain: {error}", file=sys.stderr)
        return 2
    for probe in card["ridge_probe"]:
        print(f"{probe['data']}: {probe['accuracy']} % with a ridge probe, {probe['accuracy_untrained']} % untrained")
    print(f"{args.out / args.name}.safetensors: {card['seconds']} s on {card['hardware']}")
    return 0


def _printer():
    last = -_EVERY

    def progress(step: int, steps: int, loss: float) -> None:
        nonlocal last
        if time.monotonic() - last >= _EVERY or step == steps:
            last = time.monotonic()
            print(f"step {step} of {steps}: loss {loss:.4f}", file=sys.stderr, flush=True)

    return progress


if __name__ == "__main__":
    sys.exit(main())
