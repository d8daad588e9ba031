"""Input sizes that leave a border of the image in no patch are refused, with the nearest sizes that fit."""

import pytest
import torch
from safetensors.torch import save_file

from ddbench.backbones._networks import timm_encoder

from .conftest import load, message

REFUSED = [
    ("timm[model=vit_small_patch14_dinov2,args=depth:1,input_size=96", "23.4 %", "84 or 98", 14),
    ("timm[model=vit_tiny_patch16_224,args=depth:1,input_size=100", "7.8 %", "96 or 112", 16),
    ("timm[model=convnext_atto,input_size=100", "7.8 %", "96 or 128", 32),  # 100 -> 25 -> 12 -> 6 -> 3
    ("torchvision[model=convnext_tiny,input_size=100", "7.8 %", "96 or 128", 32),
    ("open_clip[model=ViT-B-32,input_size=100", "7.8 %", "96 or 128", 32),
    ("clip_vitb16[args=layers:1,input_size=100", "7.8 %", "96 or 112", 16),
    ("dinov2_vitb14[architecture=vit_small_patch14_dinov2,args=depth:1,input_size=96", "23.4 %", "84 or 98", 14),
]


@pytest.mark.parametrize(("spec", "lost", "sizes", "unit"), REFUSED, ids=[row[0].partition("[")[0] for row in REFUSED])
def test_a_border_that_no_patch_sees_is_refused(spec, lost, sizes, unit):
    said = message(f"{spec},pretrained=false]")
    assert f"no patch sees {lost} of the pixels" in said
    assert said.endswith(f"give input_size={sizes} (multiples of {unit})")


def test_a_weights_file_is_refused_alike(tmp_path):
    model = "vit_tiny_patch16_224"
    save_file(timm_encoder(model, {"depth": 1}, input_size=96).network.state_dict(), tmp_path / "w.safetensors")
    spec = f"checkpoint[file={tmp_path}/w.safetensors,model={model},args=depth:1"
    assert "give input_size=96 or 112" in message(f"{spec},input_size=100]")
    assert load(f"{spec},input_size=96]").spec.input_size == 96


ACCEPTED = [
    "timm[model=vit_small_patch14_dinov2,pretrained=false,args=depth:1,input_size=98]",
    "timm[model=swin_tiny_patch4_window7_224,pretrained=false,args=depths:[1,1],input_size=100]",  # it pads
    "timm[model=pvt_v2_b0,pretrained=false,input_size=100]",  # patches of keys alone
    "timm[model=resnet10t,pretrained=false,input_size=33]",
    "timm[model=vit_so400m_patch14_siglip_384,pretrained=false,args=depth:1;embed_dim:48;num_heads:3]",  # as its authors did
]


@pytest.mark.parametrize("spec", ACCEPTED)
def test_where_every_pixel_counts_or_authors_chose_so_nothing_is_refused(spec):
    backbone = load(spec)
    size = backbone.spec.input_size
    images = torch.rand(1, 3, size, size, requires_grad=True)
    backbone(images).square().sum().backward()
    border = torch.cat([images.grad[..., -2:, :].flatten(), images.grad[..., -2:].flatten()])
    assert border.any() or "siglip" in spec
