"""Which pixels a network's patches see: a border that no patch holds gives no feature and gets no gradient."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import nn

from ..core.errors import UserError


@dataclass(frozen=True)
class Patching:
    """A convolution that cuts the image into patches, or these into patches of patches."""

    stride: int
    side: int  # of its input
    pixels: int  # of the image, per step of its input

    @property
    def unit(self) -> int:
        """Pixels of the image, per patch."""
        return self.stride * self.pixels


@contextmanager
def seen_patchings(network: nn.Module) -> Iterator[list[Patching]]:
    """Inside, a pass of square images through the network fills a list of its patchings, in their order.

    The first takes the image itself and each other one what the one before gave; convolutions whose windows overlap see the
    whole image, and attention that shortens its keys by patches leaves the queries as they are.
    """
    found: list[Patching] = []
    size: list[int] = []

    def see_image(module: nn.Module, inputs: tuple[Any, ...]) -> None:
        size.append(inputs[0].shape[-1])

    def see(module: nn.Module, inputs: tuple[Any, ...]) -> None:
        side, before = inputs[0].shape[-1], found[-1] if found else None
        expected = before.side // before.stride if before else size[-1]
        if side == expected:
            found.append(Patching(module.stride[0], side, before.unit if before else 1))  # type: ignore[index,union-attr]

    convs = [(name, each) for name, each in network.named_modules() if isinstance(each, nn.Conv2d) and "attn" not in name]
    patches = [conv for _, conv in convs if cuts_patches(conv)]
    hooks = [network.register_forward_pre_hook(see_image), *(each.register_forward_pre_hook(see) for each in patches)]
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()


def cuts_patches(conv: nn.Conv2d) -> bool:
    """Whether its patches lie side by side, and a rest at the border is left out."""
    return conv.stride == conv.kernel_size and conv.stride[0] > 1 and conv.padding in ((0, 0), "valid")


def refuse_unseen_pixels(patchings: list[Patching], size: int, name: str) -> None:
    """Raise `UserError` where a border of images of `size` pixels is in no patch."""
    if all(each.side % each.stride == 0 for each in patchings):
        return
    unit = max(each.unit for each in patchings)
    seen = min(each.side // each.stride * each.unit for each in patchings)
    fits = [k * unit for k in (size // unit, size // unit + 1) if k]
    raise UserError(
        f"{name}: no patch sees {100 * (1 - (seen / size) ** 2):.1f} % of the pixels of {size}x{size} images; "
        f"give input_size={' or '.join(map(str, fits))} (multiples of {unit})"
    )
