"""`checkpoint`: a state dict that you trained, in a network of timm or torchvision.

checkpoint[file=moco.pth,model=resnet50,key=state_dict,prefix=module.encoder_q.]
checkpoint[file=mine.safetensors,model=resnet18,library=torchvision,input_size=96]
checkpoint[file=barlow.pth,model=resnet18,stem_padding=1,input_size=32]
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from torch import nn

from ..core.backbone import BACKBONES, Backbone, BackboneSource
from ..core.errors import UserError
from ..core.params import Count, Natural, Positive, spec_string
from ._networks import Choices, Encoder, timm_conversion, timm_encoder
from ._options import Channels, parse_args
from ._torchvision import torchvision_encoder
from ._weights import State, file_sha256, load_state, read_state, state_sha256


@BACKBONES.register("checkpoint")
@dataclass(frozen=True)
class CheckpointFile(BackboneSource):
    """Every key of the network must be in the file and the other way round; only the classifier's keys are left out."""

    file: str  # .safetensors, or .pth with nothing but tensors
    model: str  # name in `library`
    library: Literal["timm", "torchvision"] = "timm"
    key: str | None = None  # entry that holds the state dict; None: the file itself, `state_dict` or `model`
    prefix: str = ""  # take the keys that start with it, without it: `module.`, `backbone.`
    args: str = ""  # constructor arguments, `name:value;name:value`
    stem_padding: Natural | None = None  # of ResNets for small images: 3x3 stem of stride 1 with this padding, no max pooling
    input_size: Count | None = None  # pixels; None: the library's default for `model`
    pooling: str | None = None  # timm only
    mean: Channels | None = None  # of [0, 1] images; None: the library's default for `model`
    std: Channels | None = None
    crop_pct: Positive | None = None

    def load(self) -> Backbone:
        state = strip_prefix(read_state(self.file, self.key), self.prefix, self.file)
        encoder = self._encoder()
        if self.library == "timm":
            state = timm_conversion(encoder.network, state)
        load_state(encoder.network, state, self.file, encoder.classifier)
        sha256 = state_sha256(encoder.network.state_dict())
        revision = f"file sha256 {file_sha256(self.file)[:16]}"
        return encoder.backbone(spec_string(self), Path(self.file).name, revision, sha256, self._choices)

    def blank(self) -> Backbone:
        return self._encoder().backbone(spec_string(self), "random", "", "", self._choices)

    @property
    def _choices(self) -> Choices:
        return Choices(self.input_size, self.mean, self.std, self.crop_pct)

    def _encoder(self) -> Encoder:
        encoder = self._of_library()
        return encoder if self.stem_padding is None else small_stem(encoder, self.stem_padding)

    def _of_library(self) -> Encoder:
        args = parse_args(self.args)
        if self.library == "timm":
            return timm_encoder(self.model, args, input_size=self.input_size, pooling=self.pooling)
        if self.pooling is not None:
            raise UserError("checkpoint: pooling is for library=timm; torchvision's networks have their own")
        return torchvision_encoder(self.model, args)


def small_stem(encoder: Encoder, padding: int) -> Encoder:
    """A ResNet for images of 32 or 64 pixels: its 7x7 stem of stride 2 and max pooling become a 3x3 convolution of stride 1."""
    network = encoder.network
    old = getattr(network, "conv1", None)
    if not isinstance(old, nn.Conv2d) or not isinstance(getattr(network, "maxpool", None), nn.Module):
        raise UserError(f"stem_padding is for ResNets with conv1 and maxpool; {encoder.architecture} is none")
    network.conv1 = nn.Conv2d(old.in_channels, old.out_channels, 3, padding=padding, bias=False)
    network.maxpool = nn.Identity()
    return replace(encoder, architecture=f"{encoder.architecture} with a 3x3 stem, padding {padding}")


def strip_prefix(state: State, prefix: str, file: str) -> State:
    """The tensors whose names start with `prefix`, without it."""
    if not prefix:
        return state
    taken = {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}
    if not taken:
        raise UserError(f"{file} has no key that starts with {prefix!r}; its first key is {next(iter(state))!r}")
    return taken
