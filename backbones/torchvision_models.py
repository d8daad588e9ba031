"""`torchvision`: any classifier of torchvision.models as an encoder, with its published weights, a file or random ones.

torchvision[model=resnet18]
torchvision[model=resnet50,tag=IMAGENET1K_V1,input_size=128]
torchvision[model=squeezenet1_0,weights=FILE.safetensors,mean=0.4824:0.4588:0.4824,std=0.00392]
"""

from dataclasses import dataclass
from pathlib import Path

import torch

from ..core.backbone import BACKBONES, Backbone, BackboneSource
from ..core.params import Count, Natural, Positive, spec_string
from ._hub import from_hub
from ._networks import Choices, Encoder
from ._options import Channels, parse_args
from ._random import seeded
from ._torchvision import native_preprocessing, torchvision_encoder, weights_of
from ._weights import file_sha256, load_state, read_state, state_sha256


@BACKBONES.register("torchvision")
@dataclass(frozen=True)
class Torchvision(BackboneSource):
    """A torchvision classifier without its last layer; SqueezeNet gives its 512 globally averaged channels."""

    model: str
    tag: str = "DEFAULT"  # member of the model's weights enum: `IMAGENET1K_V1`
    weights: str | None = None  # local .safetensors or .pth; None: the published weights of `tag`
    pretrained: bool = True  # false: random weights of `seed`, unless a file is given
    seed: Natural = 0
    args: str = ""  # constructor arguments, `name:value;name:value`
    input_size: Count | None = None  # pixels; None: as trained
    mean: Channels | None = None  # of [0, 1] images; None: as trained
    std: Channels | None = None
    crop_pct: Positive | None = None  # None: as trained, or 1 at another input_size

    def load(self) -> Backbone:
        choices = Choices(self.input_size, self.mean, self.std, self.crop_pct)
        with seeded(self.seed):
            encoder = torchvision_encoder(self.model, parse_args(self.args), native_preprocessing(self.model, self.tag))
        source, revision, sha256 = self._fill(encoder)
        return encoder.backbone(spec_string(self), source, revision, sha256, choices)

    def _fill(self, encoder: Encoder) -> tuple[str, str, str]:
        """Load weights into the encoder; source, revision and sha256 of what was loaded."""
        network = encoder.network
        if self.weights is not None:
            load_state(network, read_state(self.weights), self.weights, encoder.classifier)
            return Path(self.weights).name, "", file_sha256(self.weights)
        if not self.pretrained:
            return "random", f"seed {self.seed}", state_sha256(network.state_dict())
        weights = weights_of(self.model, self.tag)
        what = f"torchvision model {self.model!r}"
        file = Path(torch.hub.get_dir()) / "checkpoints" / weights.url.rsplit("/", 1)[-1]
        state = from_hub(what, lambda: weights.get_state_dict(check_hash=True, weights_only=True, progress=False), file)
        load_state(network, dict(state), weights.url, encoder.classifier)
        return weights.url.rsplit("/", 1)[-1], weights.name, state_sha256(network.state_dict())
