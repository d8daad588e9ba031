"""What `python -m ddbench.benchmark.perf` measures, in order of importance: a budget that runs out cuts from the end.

`gpu`: ViT-B/16 and DINOv2 ViT-B/14 at 224 pixels with random weights. `cpu`: the mini backbones, 1,000 classes at IPC 1 and 100
classes at IPC 10. `scaling`: classes, IPC, copies and chunk one by one, for how cost grows. `smoke`: a few seconds, for CI.
"""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Case:
    """One measurement in a process of its own."""

    kind: Literal["product", "steps", "features", "probe"]  # matrix product, steps of a method, feature bank, protocol
    spec: str = ""  # of the method or protocol
    backbone: str = ""
    classes: int = 0
    ipc: int = 1
    chunk: int | None = None  # views per backbone pass; None: as in a run
    aim: float = 3.0  # seconds that the timed part should take
    at_most: int = 50  # timed steps
    compiled: bool = False  # with DDBENCH_COMPILE=1

    @property
    def title(self) -> str:
        """One line for people."""
        where = f"{self.classes} classes, IPC {self.ipc}" if self.classes else ""
        chunk = f"chunk {self.chunk}" if self.chunk else ""
        parts = [self.kind, self.spec, short(self.backbone), where, chunk, "compiled" if self.compiled else ""]
        return " · ".join(part for part in parts if part)


def short(backbone: str) -> str:
    """The model's name alone of a spec such as `timm[model=NAME,...]`."""
    return backbone.partition("model=")[2].partition(",")[0] or backbone


_AT_224 = "pretrained=false,input_size=224,crop_pct=0.875"  # images of 256 pixels, as LGM's
VIT = f"timm[model=vit_base_patch16_224,{_AT_224}]"
DINO = f"timm[model=vit_base_patch14_dinov2,{_AT_224}]"
# Steady state: all pyramid levels from the start. Initial images do not matter for cost.
CLPDD, CLPDD_COPIES, SFM = "clpdd[augment=none,init=noise]", "clpdd[init=noise]", "sfm[grow_every=0]"


def lgm(copies: int, real: str = "bank") -> str:
    """LGM's spec at its steady state."""
    return f"lgm[copies={copies},grow_every=0,real={real}]"


def steps(
    spec: str, backbone: str, classes: int, ipc: int = 1, chunk: int | None = None, aim: float = 3.0, at_most: int = 50
) -> Case:
    """A case of the kind `steps`."""
    return Case("steps", spec, backbone, classes, ipc, chunk, aim, at_most)


GPU = (
    Case("product"),
    steps(CLPDD, VIT, 1000, aim=40, at_most=100),  # the two that are extrapolated to 5,000 steps
    steps(lgm(3), VIT, 1000, aim=110, at_most=100),
    steps(lgm(3, "live"), VIT, 1000),
    steps(SFM, VIT, 1000),
    steps(CLPDD, VIT, 1000, chunk=32),
    steps(CLPDD, VIT, 1000, chunk=64),
    steps(CLPDD, VIT, 1000, chunk=250),
    steps(CLPDD_COPIES, VIT, 1000),
    steps(CLPDD, DINO, 1000),
    steps(lgm(3), DINO, 1000),
    Case("steps", CLPDD, VIT, 1000, compiled=True),
    Case("features", backbone=VIT, classes=1000),
    Case("probe", "linear-probe", VIT, 1000),
    steps(lgm(10, "live"), VIT, 100),
    steps(CLPDD, VIT, 100),
    steps(lgm(1), VIT, 100, ipc=10),
    steps(lgm(3), VIT, 100, ipc=10),
    steps(CLPDD, VIT, 100, ipc=10),
    steps(SFM, DINO, 1000),
    Case("features", backbone=DINO, classes=1000),
    Case("probe", "lgm-probe[epochs=2]", VIT, 1000),
    steps(lgm(1), VIT, 1000),
    steps(CLPDD, VIT, 1000, ipc=10, chunk=500),
    steps(lgm(10), VIT, 1000),
    steps("duet", VIT, 100),
)

_RESNET, _MINI_VIT = "mini_resnet_dino", "mini_vit_mae"
CPU = (
    Case("product"),
    *(steps(spec, b, 1000) for b in (_RESNET, _MINI_VIT) for spec in (CLPDD, SFM, lgm(1))),
    *(steps(CLPDD, b, 1000, chunk=chunk) for b in (_RESNET, _MINI_VIT) for chunk in (64, 1000)),
    *(steps(CLPDD, b, 100, ipc=10) for b in (_RESNET, _MINI_VIT)),
    Case("features", backbone=_RESNET, classes=100),
    Case("features", backbone=_MINI_VIT, classes=100),
    Case("probe", "linear-probe", _RESNET, 100),
    Case("probe", "ridge-probe", _RESNET, 100),
    steps(lgm(1, "live"), _RESNET, 1000),
    steps(lgm(3), _RESNET, 1000),
    steps(lgm(10, "live"), _RESNET, 100),
    steps(CLPDD_COPIES, _RESNET, 1000),
    steps("duet", _RESNET, 100),
)

SCALING = (  # three timed steps each
    Case("product", aim=0.5),
    *(steps(CLPDD, _RESNET, classes, chunk=64, aim=0) for classes in (10, 100, 300, 1000)),
    *(steps(lgm(1), _RESNET, classes, chunk=64, aim=0) for classes in (100, 300, 1000)),
    *(steps(CLPDD, _RESNET, 100, ipc=ipc, chunk=64, aim=0) for ipc in (3, 10)),
    *(steps(lgm(copies), _RESNET, 100, chunk=64, aim=0) for copies in (3, 10)),
    *(steps(CLPDD, _RESNET, 300, chunk=chunk, aim=0) for chunk in (16, 150, 300)),
)

_TINY = "timm[model=vit_tiny_patch16_224,pretrained=false,input_size=32]"
SMOKE = (
    Case("product", aim=0),
    steps(CLPDD, _RESNET, 5, chunk=4, aim=0),
    steps(lgm(2, "live"), _TINY, 5, aim=0),
    Case("features", backbone=_RESNET, classes=5, chunk=32, aim=0),
    Case("probe", "linear-probe[epochs=2]", _RESNET, 5, aim=0),
)

PROFILES: dict[str, tuple[Case, ...]] = {"cpu": CPU, "gpu": GPU, "scaling": SCALING, "smoke": SMOKE}
