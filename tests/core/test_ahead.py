"""Reading ahead changes when images are read, and nothing else."""

import threading
import time
from itertools import chain

import pytest
import torch

from ddbench.core.ahead import ReadAhead
from ddbench.core.data import ArrayImages, Split
from ddbench.core.errors import UserError
from ddbench.core.real import LiveBatches
from ddbench.core.views import View

CPU = torch.device("cpu")


class Watched(ArrayImages):
    """Remembers what was read and where."""

    def __getitem__(self, indices):
        self.__dict__.setdefault("read", []).append(indices.tolist())
        self.__dict__["thread"] = threading.current_thread()
        return super().__getitem__(indices)


@pytest.fixture
def images(data):
    return Watched(data.train.images.array)


def settled(images, count):
    """What was read, once `count` batches were, or none came any more."""
    deadline = time.monotonic() + 30
    while len(images.read) < count and time.monotonic() < deadline:
        time.sleep(0.01)
    return images.read


def test_batches_come_in_order_and_two_are_read_ahead_by_another_thread(images):
    wanted = list(torch.arange(12).split(3))
    stream = ReadAhead(images, CPU).stream(wanted)
    first = next(stream)
    assert settled(images, 3) == [[0, 1, 2], [3, 4, 5], [6, 7, 8]]
    assert images.thread is not threading.current_thread()
    rest = list(stream)
    assert torch.equal(torch.cat([first, *rest]), images[torch.arange(12)])


def test_what_was_read_for_later_is_not_read_again(images):
    reader, parts = ReadAhead(images, CPU), list(torch.arange(12).split(3))
    for place in range(3):
        list(reader.stream(parts[place : place + 1], parts[place + 1 :]))
    assert settled(images, 4) == [part.tolist() for part in parts]


def test_another_order_than_expected_is_read_afresh(images):
    reader = ReadAhead(images, CPU)
    list(reader.stream([torch.tensor([0])], [torch.tensor([1])]))
    (found,) = reader.stream([torch.tensor([7])])
    assert torch.equal(found, images[torch.tensor([7])])


def test_an_image_that_cannot_be_read_is_the_callers_error():
    class Broken(ArrayImages):
        def __getitem__(self, indices):
            raise UserError("image x is corrupt")

    with pytest.raises(UserError, match="image x is corrupt"):
        list(ReadAhead(Broken([]), CPU).stream([torch.tensor([0])]))


def test_live_batches_read_each_image_of_an_epoch_once_and_the_next_epoch_ahead(images, data, backbone, run):
    """48 images in batches of 20, chunks of 10: two steps an epoch."""
    small = type(run)(bank=run.bank, chunk=10)
    live = LiveBatches(backbone, Split(images, data.train.labels), View.parse("flip+crop+noise"), 20, small)
    for step in range(4):
        live.draw(step)
    read = settled(images, 10)  # the last two are those of a fifth step
    epochs = [list(chain(*read[start : start + 4])) for start in (0, 4)]
    assert [len(set(epoch)) for epoch in epochs] == [40, 40]
    live.draw(4)
    assert list(chain(*read[8:10])) == live.order[:20].tolist()
