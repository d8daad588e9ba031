"""Images per second forward and backward to the pixels, the work of every gradient method, one thread, batch 128.

PYTHONPATH=tools python -P -m pretrain.speed
"""

import time

import torch

from ddbench.core.registries import BACKBONES, embedded

BATCH, REPEATS = 128, 5


def images_per_second(name: str) -> float:
    """The fastest of a few passes, by processor time, so that other work on the machine disturbs little."""
    backbone = BACKBONES.create(name).blank()
    images = torch.rand(BATCH, 3, backbone.spec.input_size, backbone.spec.input_size, requires_grad=True)
    seconds = []
    for _ in range(REPEATS):
        start = time.process_time()
        backbone(images).sum().backward()
        seconds.append(time.process_time() - start)
    return BATCH / min(seconds)


if __name__ == "__main__":
    torch.set_num_threads(1)
    for name in embedded():
        print(f"{name:20} {images_per_second(name):6.0f} images/s")
