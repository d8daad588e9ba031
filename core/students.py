"""Students: the small networks that self-supervised distillation trains, written as `family[key=value,...]`.

    convnet                                    ConvNet-3, width 128, instance norm (MKDT, arXiv 2410.02116, 32 pixels)
    convnet[widths=128-128-128-128]            ConvNet-4 (MKDT, 64 pixels)
    convnet[widths=128-256-512,norm=batch]     the ConvNet of KRR-ST (arXiv 2310.06511, 32 pixels)
    resnet10, resnet18[width=32]               for images of 32 or 64 pixels: a 3x3 stem without pooling
    timm[model=NAME]                           any timm network, with random weights

A student maps images in [0, 1] to features and, by one linear layer, to the teacher's space.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.utils import parameters_to_vector

from .errors import UserError, unknown
from .params import AfterValidator, Field, build, parse_spec

# Inputs are (x - 0.5) / 0.25 for every dataset: close to the statistics of CIFAR, and known without the source data.
MEAN, STD = 0.5, 0.25


class Student(nn.Module):
    """A network to be trained: images `(n, 3, s, s)` in [0, 1] -> predictions of teacher features `(n, d)`.

    A probe reads its `features`, without the head.
    """

    def __init__(self, encoder: nn.Module, width: int, dim: int):
        super().__init__()
        self.encoder = encoder
        self.head = nn.Linear(width, dim)

    def features(self, images: Tensor) -> Tensor:
        """Features `(n, f)` before the linear layer; those of convnets are flattened feature maps."""
        return self.encoder((images - MEAN) / STD).flatten(1)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.features(images))


def _check_widths(text: str) -> str:
    if not all(part.isdecimal() and int(part) for part in text.split("-")):
        raise UserError(f"cannot read widths {text!r}; write the channels of each block joined by -, for instance 128-128-128")
    return text


Widths = Annotated[str, AfterValidator(_check_widths)]


@dataclass(frozen=True)
class ConvNet:
    """Blocks of 3x3 convolution, normalisation, ReLU and 2x2 average pooling; the last feature map is flattened."""

    widths: Widths = "128-128-128"  # channels per block
    norm: Literal["instance", "batch"] = "instance"  # instance: one group per channel, with scale and shift

    def encoder(self) -> nn.Module:
        layers: list[nn.Module] = []
        before = 3
        for width in map(int, self.widths.split("-")):
            norm = nn.BatchNorm2d(width) if self.norm == "batch" else nn.GroupNorm(width, width)
            layers += [nn.Conv2d(before, width, 3, padding=1), norm, nn.ReLU(), nn.AvgPool2d(2)]
            before = width
        return nn.Sequential(*layers)


@dataclass(frozen=True)
class ResNet:
    """Basic residual blocks with batch norm, a 3x3 stem of stride 1 and no max pooling; features are global averages."""

    width: Annotated[int, Field(ge=2, multiple_of=2)] = 64  # channels of the first stage; they double at each of four

    blocks: ClassVar[int]  # per stage

    def encoder(self) -> nn.Module:
        from timm.models import resnet  # seconds to import, only when one is built

        block: Any = resnet.BasicBlock
        channels = tuple(self.width * 2**stage for stage in range(4))
        # the deep stem is the one whose width can be chosen; it is replaced at once
        stem = {"stem_type": "deep", "stem_width": self.width // 2}
        network = resnet.ResNet(block, (self.blocks,) * 4, num_classes=0, channels=channels, zero_init_last=False, **stem)
        network.conv1 = nn.Conv2d(3, self.width, 3, padding=1, bias=False)
        network.maxpool = nn.Identity()
        return network


@dataclass(frozen=True)
class ResNet10(ResNet):
    """One residual block per stage."""

    blocks = 1


@dataclass(frozen=True)
class ResNet18(ResNet):
    """Two residual blocks per stage."""

    blocks = 2


@dataclass(frozen=True)
class TimmStudent:
    """A timm network without its classifier, with random weights."""

    model: str  # timm name

    def encoder(self) -> nn.Module:
        import timm

        if not timm.is_model(self.model):
            raise UserError(f"unknown timm model {self.model!r} for a student; `timm.list_models()` names all")
        return timm.create_model(self.model, pretrained=False, num_classes=0)


FAMILIES: dict[str, Any] = {"convnet": ConvNet, "resnet10": ResNet10, "resnet18": ResNet18, "timm": TimmStudent}


def family(spec: str) -> ConvNet | ResNet | TimmStudent:
    """The architecture of a spec. Raises `UserError` for an unknown family or wrong parameters."""
    name, values = parse_spec(spec)
    if name not in FAMILIES:
        raise UserError(unknown("student", name, list(FAMILIES)))
    return build(FAMILIES[name], values, f"student {name!r}")


def _readable(spec: str) -> str:
    family(spec)
    return spec


StudentSpec = Annotated[str, AfterValidator(_readable)]  # a parameter that `build_student` reads, checked when it is given


def build_student(spec: str, size: int, dim: int, seed: int) -> Student:
    """A fresh student for images of `size` pixels and `dim` target dimensions, its weights drawn from `seed`.

    Leaves torch's global generators as they were. Raises `UserError` for an architecture that cannot take that size.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        encoder = family(spec).encoder()
        return Student(encoder, _width(encoder, spec, size), dim)


@torch.no_grad()
def flat_weights(student: nn.Module) -> Tensor:
    """A copy of all parameters as one vector `(p,)`."""
    return parameters_to_vector(student.parameters()).clone()


def flat_state(module: nn.Module) -> Tensor:
    """A copy of all weights and running statistics as one float32 vector on the CPU."""
    return torch.cat([value.detach().flatten().cpu() for value in _state(module)])


@torch.no_grad()
def set_flat_state(module: nn.Module, state: Tensor) -> None:
    """Put back what `flat_state` gave."""
    values = _state(module)
    for value, part in zip(values, state.split([value.numel() for value in values]), strict=True):
        value.copy_(part.view_as(value))


def _state(module: nn.Module) -> list[Tensor]:
    return [value for value in module.state_dict().values() if value.is_floating_point()]


def imitation_loss(student: nn.Module) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """Mean squared error, over images and dimensions, of `student` with parameters theta `(p,)` on images and targets."""
    shapes = {name: parameter.shape for name, parameter in student.named_parameters()}
    sizes = [shape.numel() for shape in shapes.values()]

    def loss(theta: Tensor, images: Tensor, targets: Tensor) -> Tensor:
        parts = zip(shapes.items(), theta.split(sizes), strict=True)
        weights = {name: part.view(shape) for (name, shape), part in parts}
        return F.mse_loss(functional_call(student, weights, (images,)), targets)

    return loss


@torch.no_grad()
def _width(encoder: nn.Module, spec: str, size: int) -> int:
    """Number of features, measured on one black image."""
    encoder.eval()
    try:
        features = encoder(torch.zeros(1, 3, size, size)).flatten(1)
    except (RuntimeError, AssertionError, ValueError) as error:
        reason = str(error).strip().split("\n")[0]
        raise UserError(f"student {spec} cannot take {size}x{size} images: {reason}; choose another size") from None
    encoder.train()
    return features.shape[1]
