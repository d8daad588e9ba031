"""Features that are not finite, told in one line: a probe of NaN answers one class, whatever the images."""

from torch import Tensor

from .backbone import Backbone
from .errors import UserError
from .precision import precision

_NAMED = 5  # images that a message names


def not_finite(features: Tensor) -> Tensor:
    """Indices of the rows of features `(n, d)` that hold a value that is NaN or infinite."""
    return (~features.isfinite().all(1)).nonzero().flatten()


def refuse(bad: Tensor, n: int, images: str, backbone: Backbone) -> None:
    """Raise `UserError` where features of the n `images` (`train images of digits`) at the indices `bad` are not finite."""
    if not len(bad):
        return
    first = ", ".join(map(str, bad[:_NAMED].tolist())) + ", …" * (len(bad) > _NAMED)
    raise UserError(
        f"{backbone.spec.name} gives features that are not finite for {len(bad):,} of {n:,} {images} "
        f"(indices from 0: {first}); {cure(backbone)}"
    )


def cure(backbone: Backbone) -> str:
    """What to try where a backbone gives features that are not finite."""
    if precision(backbone.mean.device.type) == "bf16":
        return "set DDBENCH_PRECISION=float32, or use another backbone"
    return "check its weights and its mean and std, or use another backbone"
