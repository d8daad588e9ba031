"""What `python -m perf` measures, in order of importance: a budget that runs out cuts from the end.

`gpu`: ViT-B/16 and DINOv2 ViT-B/14 at 224 pixels with random weights; not every combination of method, backbone, classes, IPC,
copies and chunk, but each of their values beside the headline. `cpu`: the mini backbones, 1,000 classes at IPC 1 and 100
classes at IPC 10. `scaling`: classes, IPC, copies and chunk one by one, for how cost grows. `plain`: the engine against the
whole batch without it. `smoke`: a few seconds, for CI, with every kind of case.
"""

from dataclasses import dataclass
from typing import Literal

# Matrix product, steps of a method, the same without the engine, feature bank, protocol, protocol on the full data, backbone
# passes as a GPU's queue sees them, JPEGs.
Kind = Literal["product", "steps", "plain", "features", "probe", "ceiling", "launch", "decode"]


@dataclass(frozen=True)
class Case:
    """One measurement in a process of its own."""

    kind: Kind
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


_RESNET, _MINI_VIT = "mini_resnet_dino", "mini_vit_mae"
_MANY = 100  # timed steps of the two cases that are extrapolated to 5,000; `aim` lets them take what they need
GPU = (
    Case("product"),
    steps(CLPDD, VIT, 1000, aim=100, at_most=_MANY),
    steps(lgm(3), VIT, 1000, aim=150, at_most=_MANY),
    steps(CLPDD, VIT, 1000, chunk=32),
    steps(CLPDD, VIT, 1000, chunk=64),
    steps(lgm(3, "live"), VIT, 1000),
    steps(SFM, VIT, 1000),
    steps(CLPDD, DINO, 1000),
    steps(lgm(3), DINO, 1000),
    Case("features", backbone=VIT, classes=1000),
    Case("probe", "linear-probe", VIT, 1000),
    Case("ceiling", "linear-probe[full_epochs=20]", VIT, 1000),
    Case("decode", aim=2),
    Case("launch", backbone=_RESNET, chunk=64),
    steps(CLPDD, _RESNET, 1000),
    Case("steps", CLPDD, VIT, 1000, compiled=True),
    steps(CLPDD, VIT, 1000, chunk=16),
    steps(CLPDD, VIT, 1000, chunk=250),
    steps(CLPDD_COPIES, VIT, 1000),
    steps(lgm(10, "live"), VIT, 100),
    steps(CLPDD, VIT, 100),
    steps(lgm(1), VIT, 100, ipc=10),
    steps(lgm(3), VIT, 100, ipc=10),
    steps(CLPDD, VIT, 100, ipc=10),
    steps(SFM, DINO, 1000),
    steps(CLPDD, DINO, 100),
    steps(lgm(3), DINO, 100),
    steps(SFM, VIT, 100, ipc=10),
    Case("probe", "linear-probe[shared_views=false]", VIT, 1000),
    Case("features", backbone=DINO, classes=1000),
    Case("probe", "lgm-probe[epochs=2]", VIT, 1000),
    steps(lgm(1), VIT, 1000),
    steps(lgm(10), VIT, 1000),
    steps(CLPDD, VIT, 1000, ipc=10, chunk=500),
    steps("duet", VIT, 100),
)

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

_AGAINST: tuple[tuple[Kind, int | None], ...] = (("plain", None), ("steps", 300), ("steps", 64))
PLAIN = (  # 300 views a step
    Case("product", aim=0.5),
    *(
        Case(kind, spec, backbone, 300 // copies, chunk=chunk, aim=0)
        for backbone in (_RESNET, _MINI_VIT)
        for spec, copies in ((CLPDD, 1), (lgm(3), 3))
        for kind, chunk in _AGAINST
    ),
)

_TINY = "timm[model=vit_tiny_patch16_224,pretrained=false,input_size=32]"
SMOKE = (
    Case("product", aim=0),
    steps(CLPDD, _RESNET, 5, chunk=4, aim=0),
    steps(lgm(2, "live"), _TINY, 5, aim=0),
    Case("features", backbone=_RESNET, classes=5, chunk=32, aim=0),
    Case("probe", "linear-probe[epochs=2]", _RESNET, 5, aim=0),
    Case("plain", lgm(2), _RESNET, 5, aim=0),
    Case("ceiling", "linear-probe[full_epochs=1,seeds=1,min_views=1,batch=2000]", _RESNET, 5, aim=0),
    Case("launch", backbone=_RESNET, chunk=2, aim=0),
    Case("decode", aim=0),
)

PROFILES: dict[str, tuple[Case, ...]] = {"cpu": CPU, "gpu": GPU, "scaling": SCALING, "plain": PLAIN, "smoke": SMOKE}
