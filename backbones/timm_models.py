"""`timm`: any encoder of pytorch-image-models, with hub weights, a local file or random weights.

timm[model=resnet18.a1_in1k]
timm[model=mobilenetv2_100,weights=FILE.safetensors,args=pad_type:same,mean=0.5,std=0.5]
timm[model=vit_tiny_patch16_224,pretrained=false,seed=1,input_size=96]
"""

from dataclasses import dataclass
from pathlib import Path

from ..core.backbone import BACKBONES, Backbone, BackboneSource
from ..core.params import Count, Natural, Positive, spec_string
from ._hub import from_hub
from ._networks import Choices, Encoder, timm_conversion, timm_encoder
from ._options import Channels, parse_args
from ._random import seeded
from ._weights import file_sha256, load_state, read_state, state_sha256


@BACKBONES.register("timm")
@dataclass(frozen=True)
class Timm(BackboneSource):
    """A timm network without its classifier; the feature is what the classifier would get."""

    model: str  # timm name with an optional pretrained tag: `resnet18.a1_in1k`
    weights: str | None = None  # local .safetensors or .pth; None: the hub's
    pretrained: bool = True  # false: random weights of `seed`, unless a file is given
    seed: Natural = 0
    args: str = ""  # constructor arguments, `name:value;name:value`
    input_size: Count | None = None  # pixels; None: as trained
    pooling: str | None = None  # timm's global_pool: avg, max, token, …
    mean: Channels | None = None  # of [0, 1] images; None: as trained
    std: Channels | None = None
    crop_pct: Positive | None = None  # None: as trained, or 1 at another input_size

    def load(self) -> Backbone:
        choices = Choices(self.input_size, self.mean, self.std, self.crop_pct)
        encoder, source, revision, sha256 = self._encoder()
        return encoder.backbone(spec_string(self), source, revision, sha256, choices)

    def _encoder(self) -> tuple[Encoder, str, str, str]:
        if self.weights is not None:
            encoder = self._build()
            state = timm_conversion(encoder.network, read_state(self.weights))
            load_state(encoder.network, state, self.weights, encoder.classifier)
            return encoder, Path(self.weights).name, "", file_sha256(self.weights)
        if self.pretrained:
            encoder = from_hub(f"timm model {self.model!r}", lambda: self._build(pretrained=True))
            cfg = encoder.network.pretrained_cfg  # type: ignore[union-attr]
            tag = cfg.get("tag") or ""  # type: ignore[union-attr]
            source = cfg.get("hf_hub_id") or cfg.get("url") or "timm"  # type: ignore[union-attr]
            return encoder, str(source), str(tag), state_sha256(encoder.network.state_dict())
        with seeded(self.seed):
            encoder = self._build()
        return encoder, "random", f"seed {self.seed}", state_sha256(encoder.network.state_dict())

    def _build(self, pretrained: bool = False) -> Encoder:
        return timm_encoder(
            self.model, parse_args(self.args), input_size=self.input_size, pooling=self.pooling, pretrained=pretrained
        )
