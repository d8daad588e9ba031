"""ddbench: dataset distillation on frozen pre-trained backbones, compared under one clock and one protocol.

    import ddbench
    dset = ddbench.distill("clpdd", backbone="mini_vit_simclr", data="digits", ipc=1, seed=0)
    ddbench.evaluate(dset, backbone="mini_resnet_dino", data="digits").top1
    ddbench.load_set("results/runs/clpdd-digits-ipc1/sets/...")

The names below are the whole public surface, beside `register` and the contracts in `ddbench.methods`,
`ddbench.backbones`, `ddbench.datasets` and `ddbench.evaluation` for plugins. They are imported when first used, so that
`ddbench --help` does not wait for torch.
"""

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # by folder, as type checkers see the tree; at run time `__getattr__` imports them by package
    from ..benchmark.api import distill, evaluate, load_set
    from ..core.errors import Diverged, Unsupported, UserError
    from ..core.method import Evaluation
    from ..core.sets import DistilledSet

_HOMES = {
    "distill": "benchmark.api",
    "evaluate": "benchmark.api",
    "load_set": "benchmark.api",
    "DistilledSet": "core.sets",
    "Evaluation": "core.method",
    "UserError": "core.errors",
    "Unsupported": "core.errors",
    "Diverged": "core.errors",
}

__all__ = ["DistilledSet", "Diverged", "Evaluation", "Unsupported", "UserError", "distill", "evaluate", "load_set"]

try:
    __version__ = version("ddbench")
except PackageNotFoundError:  # a source tree that was put on the path without installing it
    __version__ = "unknown"


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'ddbench' has no attribute {name!r}")
    return getattr(import_module(f"ddbench.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
