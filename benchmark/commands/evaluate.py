"""`ddbench evaluate SET_DIR`: the accuracy of one distilled set, wherever it was made."""

import argparse
from pathlib import Path

from ._shared import DEFAULT_DATASET, DEFAULT_PROTOCOLS, add_machine, add_plugins, command, default_backbones, load_plugins


def add(commands) -> None:
    parser = command(commands, "evaluate", main, "evaluate one distilled set on backbones")
    parser.add_argument("set", type=Path, metavar="SET_DIR", help="folder with set.safetensors and set.json")
    parser.add_argument("-b", "--backbone", action="append", metavar="B", help="default: the mini backbones")
    parser.add_argument("-d", "--dataset", default=DEFAULT_DATASET, metavar="D", help=f"default: {DEFAULT_DATASET}")
    parser.add_argument("--protocol", action="append", metavar="P", help=f"default: {' and '.join(DEFAULT_PROTOCOLS)}")
    parser.add_argument("--seed", type=int, default=0, help="of the probes; default: 0")
    add_machine(parser)
    add_plugins(parser)


def main(args: argparse.Namespace) -> int:
    load_plugins(args.plugin)
    import statistics

    from ...core.backbone import BACKBONES
    from ...core.errors import Unsupported
    from ...core.method import PROTOCOLS
    from .. import api

    device = pick_device(args.device, args.threads)
    protocols = [PROTOCOLS.create(spec) for spec in args.protocol or DEFAULT_PROTOCOLS]
    backbones = [BACKBONES.create(spec).load() for spec in args.backbone or default_backbones()]
    data = api.load_data(args.dataset)
    dset = api.load_set(args.set, data)
    if api.other_data(dset, data):
        print(f"note: the set was made from other data ({dset.provenance.get('dataset', 'unnamed')}) than {args.dataset}")
    failed = False
    for protocol in protocols:
        for backbone in backbones if protocol.uses_backbone else [None]:
            label = ", ".join([f"{protocol.name} v{protocol.version}", *([backbone.spec.name] if backbone else [])])
            try:
                found = api.evaluate(dset, backbone=backbone, data=data, protocol=protocol, seed=args.seed, device=device)
            except Unsupported as reason:
                failed = True
                print(f"{label}: unsupported: {reason}")
                continue
            for part, scores in (found.parts or {"": found.top1_per_seed}).items():
                spread = f" ± {statistics.stdev(scores):.2f} (std over {len(scores)} probe seeds)" if len(scores) > 1 else ""
                where = f", {part}" if part else ""
                print(f"{label}{where}: {statistics.fmean(scores):.2f}{spread} % top-1", flush=True)
    return int(failed)


def pick_device(device: str, threads: int | None) -> str:
    """`auto` is CUDA where there is one. Sets the number of CPU threads if given."""
    import torch

    from ...core.errors import UserError

    if threads:
        torch.set_num_threads(threads)
    if device == "cuda" and not torch.cuda.is_available():
        raise UserError("--device cuda: torch sees no CUDA device; `ddbench doctor` says why")
    return "cuda" if device != "cpu" and torch.cuda.is_available() else "cpu"
