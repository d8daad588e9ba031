"""What folding batch norm saves: CPU seconds and kept bytes of a pass there and back, folded and unfolded in turn; one thread.

OMP_NUM_THREADS=1 python -P tools/folding_speed.py
"""

import copy
import time
from functools import partial

import timm
import torch
from torch import nn

from ddbench.core.engine import saved_bytes
from ddbench.core.folding import folded

CASES = (("mobilenetv2_100", 96, 30), ("resnet18", 96, 30), ("tf_efficientnet_lite0", 96, 30))
ROUNDS = 5


def main() -> None:
    torch.set_num_threads(1)
    for name, size, views in CASES:
        plain = timm.create_model(name, num_classes=0).eval().requires_grad_(False).to(memory_format=torch.channels_last)
        quick = folded(copy.deepcopy(plain))[0].to(memory_format=torch.channels_last)
        images = torch.rand(views, 3, size, size, requires_grad=True)
        seconds: dict[str, list[float]] = {"unfolded": [], "folded": []}
        for _ in range(ROUNDS + 1):
            for which, network in zip(seconds, (plain, quick), strict=True):
                seconds[which].append(there_and_back(network, images))
        kept = [saved_bytes(partial(network, images)) / 2**20 for network in (plain, quick)]
        found = ", ".join(f"{which} {min(each[1:]):.2f} to {max(each[1:]):.2f} s" for which, each in seconds.items())
        print(f"{name}, {views} views of {size} pixels: {found}; {kept[0]:.0f} and {kept[1]:.0f} MiB kept")


def there_and_back(network: nn.Module, images: torch.Tensor) -> float:
    begin = time.process_time()
    network(images.contiguous(memory_format=torch.channels_last)).square().sum().backward()
    return time.process_time() - begin


if __name__ == "__main__":
    main()
