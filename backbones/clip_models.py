"""`open_clip`: the image tower of a CLIP model; the feature is the projected embedding, not normalised to length 1.

open_clip[model=ViT-B-32,tag=laion2b_s34b_b79k]
open_clip[model=ViT-B-32,weights=FILE.safetensors]
"""

from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn

from ..core.backbone import BACKBONES, Backbone, BackboneSource
from ..core.errors import UserError, unknown
from ..core.params import Count, Natural, Positive, spec_string
from ._hub import from_hub
from ._networks import Choices, Encoder, Preprocessing, described, unknown_model
from ._options import Channels
from ._random import seeded
from ._weights import file_sha256, load_state, read_state, state_sha256


@BACKBONES.register("open_clip")
@dataclass(frozen=True)
class OpenCLIP(BackboneSource):
    """An image encoder of open_clip. The library takes seconds to import, so that happens in `load`."""

    model: str  # open_clip's name: `ViT-B-32`
    tag: str | None = None  # pretrained tag: `laion2b_s34b_b79k`
    weights: str | None = None  # local .safetensors or .pth of the whole model (both towers)
    pretrained: bool = True  # false: random weights of `seed`, unless a file is given
    seed: Natural = 0
    input_size: Count | None = None  # pixels; None: as trained
    mean: Channels | None = None  # of [0, 1] images; None: as trained
    std: Channels | None = None
    crop_pct: Positive | None = None

    def load(self) -> Backbone:
        library = _open_clip(self.model)
        model, source, revision, sha256 = self._model(library)
        cfg: dict[str, Any] = library.get_model_preprocess_cfg(model)
        size = library.get_model_config(self.model)["vision_cfg"]["image_size"]  # that of `cfg` is what was asked for
        size = size[0] if isinstance(size, tuple | list) else size
        native = Preprocessing(size, tuple(cfg["mean"]), tuple(cfg["std"]), 1.0)
        encoder = Encoder(model.visual, described("open_clip", self.model, {}), "projection", native)  # type: ignore[arg-type]
        choices = Choices(self.input_size, self.mean, self.std, self.crop_pct)
        return encoder.backbone(spec_string(self), source, revision, sha256, choices)

    def _model(self, library: ModuleType) -> tuple[nn.Module, str, str, str]:
        """The whole model, where its weights come from, their revision and sha256 (of the image tower for the hub's)."""
        if self.weights is None and self.pretrained:
            tags = library.list_pretrained_tags_by_model(self.model)
            if self.tag not in tags:
                raise UserError(unknown(f"tag of open_clip model {self.model!r}", str(self.tag), tags or ["none"]))
            model = from_hub(f"open_clip model {self.model!r}", lambda: self._build(library, self.tag))
            return model, f"open_clip {self.tag}", str(self.tag), state_sha256(model.visual.state_dict())  # type: ignore[union-attr]
        with seeded(self.seed):
            model = self._build(library)
        if self.weights is None:
            return model, "random", f"seed {self.seed}", state_sha256(model.visual.state_dict())  # type: ignore[union-attr]
        load_state(model, read_state(self.weights), self.weights)
        return model, Path(self.weights).name, "", file_sha256(self.weights)

    def _build(self, library: ModuleType, tag: str | None = None) -> nn.Module:
        return library.create_model(self.model, pretrained=tag, force_image_size=self.input_size)


def _open_clip(model: str) -> ModuleType:
    """The library, after a look whether it knows `model`."""
    try:
        import open_clip
    except ImportError:
        raise UserError("backbone 'open_clip' needs the package: pip install open_clip_torch") from None
    if model not in open_clip.list_models():
        raise UserError(unknown_model("open_clip", model, open_clip.list_models()))
    return open_clip
