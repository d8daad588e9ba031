"""`ddbench pretrain NAME`: train a backbone of the mini zoo again, without labels."""

import argparse
import sys
from pathlib import Path

from ._shared import add_machine, command, positive

_LINES = 20  # progress lines per training


def add(commands) -> None:
    parser = command(commands, "pretrain", main, "pre-train a mini backbone without labels; write its weights and card")
    parser.add_argument("name", metavar="NAME", help="for instance mini_vit_simclr")
    parser.add_argument("-d", "--dataset", required=True, metavar="D", help="images to train on, 32x32; labels are not read")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for NAME.safetensors and NAME.json")
    parser.add_argument("--probe", action="append", default=[], metavar="D", help="to probe the result on, for the card")
    parser.add_argument("--epochs", type=float, metavar="N", help="default: as for the shipped weights")
    parser.add_argument("--batch", type=positive, metavar="N", help="default: the objective's own")
    parser.add_argument("--lr", type=float, metavar="X", help="default: the objective's own")
    parser.add_argument("--seed", type=int, metavar="S", help="default: that of the shipped weights")
    add_machine(parser)


def main(args: argparse.Namespace) -> int:
    from ...backbones.mini._recipe import run_pretrain
    from .evaluate import pick_device

    chosen = {key: getattr(args, key) for key in ("epochs", "batch", "lr", "seed", "threads")}
    card = run_pretrain(
        args.name,
        args.dataset,
        args.out,
        device=pick_device(args.device, None),
        probes=tuple(args.probe),
        progress=_progress,
        **{key: value for key, value in chosen.items() if value is not None},
    )
    for probe in card["ridge_probe"]:
        print(f"{probe['data']}: {probe['accuracy']} % with a ridge probe, {probe['accuracy_untrained']} % untrained")
    print(f"{args.out / args.name}.safetensors: {card['seconds']} s on {card['hardware']}")
    return 0


def _progress(step: int, steps: int, loss: float) -> None:
    if step % max(1, steps // _LINES) == 0 or step == steps:
        print(f"step {step} of {steps}: loss {loss:.4f}", file=sys.stderr, flush=True)
