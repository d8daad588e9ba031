"""bfloat16 on GPUs only, features in float32 always."""

import pytest
import torch

from ddbench.core import backbone as backbone_module
from ddbench.core.backbone import BACKBONES
from ddbench.core.errors import UserError
from ddbench.core.precision import compiled, precision


def test_default_and_switch(monkeypatch):
    monkeypatch.delenv("DDBENCH_PRECISION", raising=False)
    assert (precision("cpu"), precision("cuda")) == ("float32", "bf16")
    monkeypatch.setenv("DDBENCH_PRECISION", "float32")
    assert precision("cuda") == "float32"
    monkeypatch.setenv("DDBENCH_PRECISION", "fp8")
    with pytest.raises(UserError, match="DDBENCH_PRECISION=fp8 is unknown; set it to bf16"):
        precision("cuda")


def test_features_and_gradients_are_float32_under_autocast(backbone, monkeypatch):
    """What a GPU does, tried on the CPU: the pass runs in bfloat16, its ends do not."""
    images = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0)).requires_grad_()
    exact = backbone(images).detach()
    monkeypatch.setattr(backbone_module, "autocast", lambda device: torch.autocast("cpu", torch.bfloat16))
    features = backbone(images)
    features.sum().backward()
    assert features.dtype == images.grad.dtype == torch.float32
    assert not torch.equal(features, exact)
    torch.testing.assert_close(features, exact, rtol=0.1, atol=0.05)


@pytest.mark.parametrize("name", ["tiny", "mini_vit_mae", "mini_resnet_dino"])
def test_weights_cast_once_give_what_autocast_gives(name, make_backbone, monkeypatch):
    """What a backbone does with itself on its way to a GPU, tried on the CPU: the same bits, there and back."""
    backbone = make_backbone() if name == "tiny" else BACKBONES.create(name).load()
    size = backbone.spec.input_size
    images = torch.rand(1, 3, size, size, generator=torch.Generator().manual_seed(0)).requires_grad_()
    monkeypatch.setattr(backbone_module, "autocast", lambda device: torch.autocast("cpu", torch.bfloat16))

    def there_and_back():
        images.grad = None
        features = backbone(images)
        features.square().sum().backward()
        return features, images.grad

    expected = there_and_back()
    monkeypatch.setattr(backbone_module, "precision", lambda device: "bf16")
    backbone.to("cpu")
    weighty = [module for module in backbone.modules() if isinstance(getattr(module, "weight", None), torch.Tensor)]
    kinds = {type(module): module.weight.dtype for module in weighty}  # type: ignore[union-attr]
    assert kinds[torch.nn.Conv2d] == torch.bfloat16
    assert kinds.get(torch.nn.LayerNorm, torch.float32) == torch.float32
    for found, wanted in zip(there_and_back(), expected, strict=True):
        assert torch.equal(found, wanted)


def test_weights_stay_as_they_are_where_passes_are_float32(backbone):
    assert all(parameter.dtype == torch.float32 for parameter in backbone.to("cpu").parameters())


def test_cast_weights_do_not_go_where_passes_are_float32(backbone, monkeypatch):
    monkeypatch.setattr(backbone_module, "precision", lambda device: "bf16")
    backbone.to("cpu").to("cpu")
    monkeypatch.setattr(backbone_module, "precision", lambda device: "float32")
    with pytest.raises(UserError, match="the weights of tiny12 were cast to bfloat16 for the GPU; load the backbone again"):
        backbone.to("cpu")


@pytest.mark.parametrize(("wanted", "expected"), [(None, []), ("0", []), ("1", [{"dynamic": False}])])
def test_backbones_are_compiled_when_asked_for(wanted, expected, make_backbone, monkeypatch):
    asked = []
    monkeypatch.setattr(torch.nn.Module, "compile", lambda self, **options: asked.append(options))
    monkeypatch.delenv("DDBENCH_COMPILE", raising=False)
    if wanted:
        monkeypatch.setenv("DDBENCH_COMPILE", wanted)
    make_backbone()
    assert asked == expected


def test_an_unknown_wish_to_compile_is_one_line(monkeypatch):
    monkeypatch.setenv("DDBENCH_COMPILE", "yes")
    with pytest.raises(UserError, match="DDBENCH_COMPILE=yes is unknown; set it to 1"):
        compiled()
