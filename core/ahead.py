"""Real images read by a thread, from disk or a memory map, while the device works on those before them."""

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import torch
from torch import Tensor

from .data import Images

_AHEAD = 2  # batches that are read or held beside the one in use: 2 x 50 MB for 256 images of 256 pixels


class ReadAhead:
    """Batches of uint8 images in the order in which they are wanted, in pinned memory where a GPU will take them.

    What is read does not depend on when; no random stream is touched.
    """

    def __init__(self, images: Images, device: torch.device):
        self._images, self._pinned = images, device.type == "cuda"
        self._thread = ThreadPoolExecutor(1)  # sets of files decode with a thread per core inside
        self._asked: deque[tuple[Tensor, Future[Tensor]]] = deque()

    def stream(self, wanted: Sequence[Tensor], later: Sequence[Tensor] = ()) -> Iterator[Tensor]:
        """The images `(k, 3, h, w)` at each of `wanted (k,)`. Meanwhile reading goes on, at the end with what a next call is
        expected to want. Raises what reading raises."""
        order = [*wanted, *later]
        if not all(torch.equal(indices, there) for (indices, _), there in zip(self._asked, order, strict=False)):
            self._asked.clear()
        for place in range(len(wanted)):
            for indices in order[place + len(self._asked) : place + 1 + _AHEAD]:
                self._asked.append((indices, self._thread.submit(self._read, indices)))
            yield self._asked.popleft()[1].result()

    def _read(self, indices: Tensor) -> Tensor:
        images = self._images[indices]
        return images.pin_memory() if self._pinned else images
