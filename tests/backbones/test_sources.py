"""timm, torchvision, open_clip and checkpoint: names, parameters, shapes, errors. All weights here are random."""

import subprocess
import sys

import pytest
import torch
from safetensors.torch import save_file

from ddbench.backbones._networks import timm_encoder
from ddbench.core.backbone import BACKBONES
from ddbench.core.errors import NotHere, UserError
from ddbench.core.params import build, spec_string

from .conftest import load, message


@pytest.fixture
def no_network(monkeypatch, tmp_path):
    """Hubs out of reach and their caches empty, at once instead of after retries."""
    monkeypatch.setattr("ddbench.backbones._hub._reachable", lambda endpoint: False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))

    def refuse(*args, **options):
        raise OSError("no network")

    monkeypatch.setattr("urllib.request.urlopen", refuse)
    monkeypatch.setattr("torch.hub.urlopen", refuse)


RANDOM = [
    ("timm[model=resnet10t,pretrained=false,input_size=64]", 512, "avg", 64),
    ("timm[model=resnet10t,pretrained=false,input_size=96,pooling=catavgmax]", 1024, "catavgmax", 96),
    ("timm[model=vit_tiny_patch16_224,pretrained=false,input_size=32,args=depth:1]", 192, "token", 32),
    ("timm[model=vit_tiny_patch16_224,pretrained=false,input_size=32,args=depth:1,pooling=avg]", 192, "avg", 32),
    ("torchvision[model=squeezenet1_1,pretrained=false,input_size=64]", 512, "penultimate", 64),
    ("torchvision[model=mobilenet_v3_small,pretrained=false,input_size=64]", 1024, "penultimate", 64),
    ("torchvision[model=resnet18,pretrained=false,input_size=64]", 512, "penultimate", 64),
]


@pytest.mark.parametrize(("spec", "dim", "pooling", "size"), RANDOM)
def test_features_have_the_declared_shape_and_the_gradient_reaches_the_images(spec, dim, pooling, size):
    backbone = load(spec)
    assert (backbone.spec.dim, backbone.spec.pooling, backbone.spec.input_size) == (dim, pooling, size)
    images = torch.rand(2, 3, size, size, requires_grad=True)
    features = backbone(images)
    assert features.shape == (2, dim)
    assert features.dtype == torch.float32
    features.square().sum().backward()
    assert images.grad is not None
    assert images.grad.abs().sum() > 0
    assert not any(parameter.requires_grad for parameter in backbone.parameters())


@pytest.mark.parametrize("source", ["timm[model=resnet10t", "torchvision[model=squeezenet1_1"])
def test_random_weights_depend_on_the_seed_alone(source):
    torch.manual_seed(1)
    first = load(f"{source},pretrained=false,seed=3,input_size=64]")
    state = torch.get_rng_state()
    second = load(f"{source},pretrained=false,seed=3,input_size=64]")
    assert torch.equal(state, torch.get_rng_state())
    assert first.spec.sha256 == second.spec.sha256
    assert first.spec.source == "random"
    assert first.spec.sha256 != load(f"{source},pretrained=false,seed=4,input_size=64]").spec.sha256


def test_preprocessing_is_the_authors_unless_it_is_given():
    native = load("timm[model=vit_tiny_patch16_224,pretrained=false,args=depth:1]").spec
    assert (native.mean, native.crop_pct, native.stage_size) == ((0.5, 0.5, 0.5), 0.9, 249)
    given = load("torchvision[model=squeezenet1_1,pretrained=false,mean=0.1:0.2:0.3,std=0.5,input_size=64]").spec
    assert (given.mean, given.std, given.stage_size) == ((0.1, 0.2, 0.3), (0.5, 0.5, 0.5), 64)
    cropped = load("torchvision[model=squeezenet1_1,pretrained=false,input_size=64,crop_pct=0.875]").spec
    assert cropped.stage_size == 73


def test_a_spec_string_reads_back_as_the_same_source():
    source = BACKBONES.create("timm[model=resnet10t,mean=0.1:0.2:0.3,args=pad_type:same;drop_rate:0.1]")
    assert BACKBONES.create(spec_string(source)) == source


def test_constructor_arguments_change_the_recorded_architecture():
    backbone = load("timm[model=mobilenetv2_035,pretrained=false,input_size=64,args=pad_type:same]")
    assert backbone.spec.architecture == "timm mobilenetv2_035(pad_type=same)"


@pytest.mark.parametrize(
    ("spec", "part"),
    [
        ("timm[model=resnet10]", "did you mean 'resnet10t'"),
        ("timm[model=resnet10t,pretrained=false,args=depht:1]", "does not take args"),
        ("timm[model=resnet10t,pretrained=false,args=depth]", "name:value;name:value"),
        ("timm[model=resnet10t,pretrained=false,args=drop_rate:!!timestamp x]", "cannot read the value of 'drop_rate'"),
        ("timm[model=resnet10t,pretrained=false,pooling=sum]", "resnet10t"),
        ("timm[model=resnet10t,pretrained=false,mean=0.5:0.5]", "mean"),
        ("torchvision[model=resnet_18]", "did you mean 'resnet18'"),
        ("torchvision[model=resnet18,tag=V9]", "IMAGENET1K_V1"),
        ("torchvision[model=resnet18,pretrained=false,args=wings:2]", "does not take args"),
        ("torchvision[model=inception_v3,pretrained=false,input_size=32,args=init_weights:false]", "another input_size"),
        ("open_clip[model=ViT-B-31]", "did you mean"),
        ("open_clip[model=ViT-B-32,tag=laion3b]", "laion2b_s34b_b79k"),
        ("checkpoint[file=nowhere.pth,model=resnet18]", "nowhere.pth does not exist"),
    ],
)
def test_a_wrong_name_or_value_is_one_line(spec, part):
    assert part in message(spec)


@pytest.mark.parametrize(
    "spec", ["timm[model=resnet10t]", "torchvision[model=resnet18]", "open_clip[model=ViT-B-32,tag=laion2b_s34b_b79k]"]
)
def test_without_network_a_hub_name_is_one_line_that_says_what_to_do(spec, no_network, capfd):
    line = message(spec)
    assert "check the name and the network, or give weights=FILE" in line
    assert "Retrying" not in capfd.readouterr().err


def test_open_clip_gives_the_projected_embedding_of_its_image_tower(monkeypatch):
    import open_clip

    small = {"image_size": 32, "layers": 1, "width": 64, "patch_size": 16, "head_width": 32}
    text = {"context_length": 8, "vocab_size": 64, "width": 32, "heads": 1, "layers": 1}
    config = {"embed_dim": 24, "vision_cfg": small, "text_cfg": text}
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, "tiny", config)
    backbone = load("open_clip[model=tiny,pretrained=false]")
    assert (backbone.spec.dim, backbone.spec.pooling, backbone.spec.input_size) == (24, "projection", 32)
    assert backbone.spec.mean == open_clip.OPENAI_DATASET_MEAN
    lengths = backbone(torch.rand(3, 3, 32, 32)).norm(dim=1)
    assert lengths.std() > 1e-4  # not normalised to length 1


def test_heavy_libraries_are_imported_only_when_used():
    heavy = "{'timm', 'open_clip'} & set(sys.modules)"
    code = f"import sys; from ddbench.core.backbone import BACKBONES; BACKBONES.names(); print({heavy})"
    run = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "set()"


class TestCheckpoint:
    """A state dict of one's own, in a network of a library."""

    @pytest.fixture
    def state(self):
        import timm

        with torch.random.fork_rng():
            torch.manual_seed(5)
            return timm.create_model("resnet10t", num_classes=7).state_dict()

    def spec(self, file, extra: str = "") -> str:
        return f"checkpoint[file={file},model=resnet10t,input_size=64{extra}]"

    def test_the_classifier_is_left_out_and_everything_else_is_loaded(self, state, tmp_path, unfolded):
        save_file(state, tmp_path / "a.safetensors")
        backbone = load(self.spec(tmp_path / "a.safetensors"))
        assert torch.equal(backbone.network.conv1[0].weight, state["conv1.0.weight"])
        assert backbone.spec.source == "a.safetensors"

    def test_key_and_prefix_find_the_encoder_inside_a_training_checkpoint(self, state, tmp_path):
        wrapped = {f"module.encoder_q.{name}": tensor for name, tensor in state.items()} | {"module.queue": torch.zeros(4)}
        torch.save({"epoch": 9, "net": wrapped}, tmp_path / "moco.pth")
        save_file(state, tmp_path / "plain.safetensors")
        inner = load(self.spec(tmp_path / "moco.pth", ",key=net,prefix=module.encoder_q."))
        plain = load(self.spec(tmp_path / "plain.safetensors"))
        assert inner.spec.sha256 == plain.spec.sha256
        assert "no key that starts with 'nope.'" in message(self.spec(tmp_path / "moco.pth", ",key=net,prefix=nope."))

    @pytest.mark.parametrize(
        "more", [{}, {"fc.weight": torch.zeros(10, 512), "fc.bias": torch.zeros(10)}], ids=["bare", "with fc"]
    )
    def test_the_teachers_of_krrst_and_mkdt(self, more, tmp_path):
        """KRR-ST's code loads them strictly into torchvision's ResNet-18 without `fc` and max pooling, with a 3x3 stem; MKDT's
        code drops `fc` where it is there."""
        from torchvision.models import resnet18

        with torch.random.fork_rng():
            torch.manual_seed(5)
            network = resnet18()
            network.fc = torch.nn.Identity()
            network.conv1 = torch.nn.Conv2d(3, 64, 3, padding=2, bias=False)
            network.maxpool = torch.nn.Identity()
        torch.save({**network.state_dict(), **more}, tmp_path / "a.pth")
        spec = f"checkpoint[file={tmp_path / 'a.pth'},model=resnet18,stem_padding=2,input_size=32,mean=0,std=1]"
        images = torch.rand(2, 3, 32, 32)
        with torch.no_grad():
            assert torch.allclose(load(spec)(images), network.eval()(images), atol=1e-5)
        assert load(spec).spec.architecture == "timm resnet18 with a 3x3 stem, padding 2"
        assert "stem_padding is for ResNets" in message(spec.replace("resnet18", "vit_tiny_patch16_224"))

    def test_a_file_that_is_not_here_yet_has_a_network_all_the_same(self):
        source = BACKBONES.create("checkpoint[file=nowhere.pth,model=resnet18,stem_padding=2,input_size=32]")
        assert source.blank().spec.dim == 512
        with pytest.raises(NotHere, match=r"nowhere.pth does not exist"):
            source.load()

    def test_keys_that_do_not_fit_are_named(self, state, tmp_path):
        del state["conv1.0.weight"]
        save_file({**state, "neck.weight": torch.zeros(1)}, tmp_path / "a.safetensors")
        line = message(self.spec(tmp_path / "a.safetensors"))
        assert "conv1.0.weight" in line
        assert "neck.weight" in line

    def test_the_same_file_in_the_wrong_network_is_refused(self, state, tmp_path):
        save_file(state, tmp_path / "a.safetensors")
        assert "does not fit" in message(
            f"checkpoint[file={tmp_path / 'a.safetensors'},model=squeezenet1_1,library=torchvision]"
        )


# Architectures behind timm's hub names: one of each kind of pooling that `num_classes=0` leaves behind.
FAMILIES = [
    "resnet50_clip", "resnet50_clip_gap", "resnet10t", "mobilenetv2_035", "tf_efficientnet_lite0", "convnext_atto",
    "levit_128s", "vit_tiny_patch16_224", "deit_tiny_distilled_patch16_224", "eva02_tiny_patch14_224",
    "swin_tiny_patch4_window7_224",
]  # fmt: skip


@pytest.mark.parametrize("model", FAMILIES)
def test_no_layer_stands_behind_the_features_that_published_weights_do_not_fill(model):
    """timm before 1.0.26 put a new random projection behind CLIP's ResNets at `num_classes=0`: two loads differed."""
    import timm

    encoder = timm_encoder(model, {})
    published = timm.create_model(model, pretrained=False).state_dict()
    own = encoder.network.state_dict()
    assert [name for name, tensor in own.items() if name not in published or published[name].shape != tensor.shape] == []


@pytest.mark.parametrize("model", FAMILIES)
def test_two_loads_of_an_architecture_are_equal(model):
    first, second = (load(f"timm[model={model},pretrained=false,seed=4]") for _ in range(2))
    assert first.spec.sha256 == second.spec.sha256


@pytest.mark.parametrize("name", ["timm", "torchvision", "checkpoint"])
def test_a_backbone_that_is_not_imported_takes_what_its_class_takes(name):
    """Its source alone does not tell how `mean=0.5` becomes three numbers, so the class decides."""
    required = {"checkpoint": {"file": "w.pth", "model": "resnet18"}}.get(name, {"model": "resnet18"})
    declared = BACKBONES.declared(name).signature()
    assert build(declared, {**required, "mean": "0.5", "std": "0.1:0.2:0.3"}, name).mean == "0.5"
    with pytest.raises(UserError, match="input_size"):
        build(declared, {**required, "input_size": "small"}, name)
