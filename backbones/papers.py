"""Encoders under the names that papers use, pinned: `clip_vitb16`, `dinov2_vitb14`, `eva02_vitb14`, `mocov3_vitb16`, …

dinov2_vitb14[normalise=imagenet]
mocov3_vitb16[weights=model.safetensors]
eva02_vitb14[pretrained=false,architecture=eva02_tiny_patch14_224,args=depth:1,input_size=28]

`_releases.py` says which file each one is. All of them see 224 pixels (unless their release says otherwise), the centre of
images resized to 256, as in LGM (arXiv 2511.16674, released code), which feeds every backbone pixels normalised with
ImageNet's statistics; `normalise=imagenet` does that, the default is what the weights were trained with.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from torch import nn

from ..core.backbone import BACKBONES, IMAGENET_MEAN, IMAGENET_STD, Backbone, BackboneSource
from ..core.errors import UserError
from ..core.params import Count, Natural, spec_string
from ._hub import from_hub, without_logs
from ._networks import Choices, Encoder, Preprocessing, described, timm_conversion, timm_encoder, unknown_model
from ._options import parse_args
from ._random import seeded
from ._releases import RELEASES, Release
from ._weights import State, existing, file_sha256, load_state, read_state, state_sha256

_CROP = 224 / 256  # of the resized image, for every backbone (LGM, released code)


@dataclass(frozen=True)
class Paper(BackboneSource):
    """A checkpoint of `_releases.py`; a file with another sha256 than the pinned one is a `UserError`."""

    normalise: Literal["native", "imagenet"] = "native"  # statistics: of the weights' training, or ImageNet's as in LGM
    weights: str | None = None  # the released file, or one like it, on this machine; None: the hub's
    sha256: str | None = None  # that the file must have; None: the pinned one, where there is one
    pretrained: bool = True  # false: random weights of `seed`, unless a file is given
    seed: Natural = 0
    architecture: str | None = None  # another model of the same library, to try a run with a smaller one
    args: str = ""  # `name:value;name:value`: timm's constructor arguments, or of open_clip's image tower (`layers:1`)
    input_size: Count | None = None  # pixels; None: as released

    release: ClassVar[Release]

    def load(self) -> Backbone:
        encoder, source, revision, sha256 = self._filled()
        mean, std = (IMAGENET_MEAN, IMAGENET_STD) if self.normalise == "imagenet" else (self.release.mean, self.release.std)
        choices = Choices(self.input_size or self.release.input_size, mean, std, _CROP)
        return encoder.backbone(spec_string(self), source, revision, sha256, choices)

    def _filled(self) -> tuple[Encoder, str, str, str]:
        """The encoder with its weights; their source, revision and sha256."""
        build = _BUILDERS[self.release.library]
        if self.weights is None and not self.pretrained:
            with seeded(self.seed):
                encoder, _ = build(self)
            return encoder, "random", f"seed {self.seed}", state_sha256(encoder.network.state_dict())
        file, revision = (existing(self.weights), "") if self.weights else self._from_hub()
        digest, wanted = file_sha256(file), self.sha256 or self.release.sha256
        if wanted is not None and digest != wanted.lower():
            raise UserError(
                f"{file} has sha256 {digest[:16]}…, not {wanted[:16]}… as {self.name} asks for: it is damaged or another "
                "version; remove it and download it again, or give its own sha256="
            )
        encoder, whole = build(self)
        load_state(whole, _fitted(encoder, whole, read_state(file)), file, (*encoder.classifier, *self.release.ignored))
        return encoder, file.name if self.weights else self.release.repo, revision, digest

    def _from_hub(self) -> tuple[Path, str]:
        """The released file in the hub's cache, downloaded if it is not there, and the commit that it is of."""
        from huggingface_hub import hf_hub_download

        at = self.release
        path = Path(from_hub(f"{self.name} ({at.repo})", lambda: hf_hub_download(at.repo, at.file, revision=at.revision)))
        return path, path.parts[-1 - len(Path(at.file).parts)]


def _fitted(encoder: Encoder, whole: nn.Module, state: State) -> State:
    """Position embeddings at the network's size, and older names, where the library of the encoder knows how."""
    return timm_conversion(whole, state) if encoder.network is whole else state


def _timm(paper: Paper) -> tuple[Encoder, nn.Module]:
    """The encoder and the network that the file holds, which are the same."""
    size, pooling = paper.input_size or paper.release.input_size, paper.release.pooling
    encoder = timm_encoder(paper.architecture or paper.release.model, parse_args(paper.args), input_size=size, pooling=pooling)
    return encoder, encoder.network


def _open_clip(paper: Paper) -> tuple[Encoder, nn.Module]:
    """The image tower and the whole model, both towers of which are in the file."""
    import open_clip

    name = paper.architecture or paper.release.model
    if name not in open_clip.list_models():
        raise UserError(unknown_model("open_clip", name, open_clip.list_models()))
    args, size, release = parse_args(paper.args), paper.input_size or paper.release.input_size, paper.release
    tower = {**open_clip.get_model_config(name)["vision_cfg"], "image_size": size, **args}  # type: ignore[index]
    try:
        with without_logs():  # it would warn of the random weights that the file is about to replace
            model = open_clip.create_model(name, pretrained=None, vision_cfg=tower)
    except TypeError as error:
        raise UserError(f"the image tower of open_clip model {name!r} does not take args {args}: {error}") from None
    native = Preprocessing(release.input_size, release.mean, release.std, _CROP)
    return Encoder(model.visual, described("open_clip", name, args), "projection", native), model  # type: ignore[arg-type]


_BUILDERS = {"timm": _timm, "open_clip": _open_clip}


def _named(name: str, release: Release) -> type[Paper]:
    """The plugin of one release."""
    where = f"{release.repo}" + (f" at {release.revision[:7]}" if release.revision else "")
    facts = {"__doc__": f"{release.title}: {where}.", "__module__": __name__, "__qualname__": name, "release": release}
    return dataclass(frozen=True)(type(name, (Paper,), facts))


for _name, _release in RELEASES.items():
    BACKBONES.register(_name)(_named(_name, _release))
