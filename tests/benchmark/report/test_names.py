"""Short names: different for different specs, whole where they are short, and a legend for what they leave out."""

import random

from ddbench.benchmark.report.names import short_names, slug

LGM = "lgm[augment=none,init=centroid,steps=350,lr=0.01,grow_every=0,real=bank]"


def test_short_specs_are_their_own_names():
    assert short_names(["clpdd", "clpdd[outer=mse]", "mini_vit_mae"]) == (
        {"clpdd": "clpdd", "clpdd[outer=mse]": "clpdd[outer=mse]", "mini_vit_mae": "mini_vit_mae"},
        [],
    )


def test_a_long_spec_is_called_by_what_it_is_about():
    specs = [
        LGM,
        "timm[model=mobilenetv2_100,weights=data/w/mobilenetv2.safetensors]",
        "arrays[path=data/cifar10,train_limit=10000]",
    ]
    names, legend = short_names([*specs, "holdout[data=arrays[path=data/cifar10,train_limit=12500]]"])
    assert list(names.values()) == ["lgm", "mobilenetv2_100", "cifar10", "holdout cifar10"]
    assert legend[0] == f"lgm = {LGM}"


def test_kin_are_told_apart_by_the_few_parameters_that_differ_or_by_letters():
    names, _ = short_names([LGM, LGM.replace("lr=0.01", "lr=0.1")])
    assert list(names.values()) == ["lgm[lr=0.01]", "lgm[lr=0.1]"]
    names, legend = short_names(["lgm", LGM, "lgm[augment=flip,steps=5,lr=0.5,real=live]"])
    assert list(names.values()) == ["lgm", "lgm a", "lgm b"]
    assert len(legend) == 2


def test_display_names_of_a_suite_go_first():
    names, legend = short_names([LGM], {LGM: "LGM (short)"})
    assert (names, legend) == ({LGM: "LGM (short)"}, [f"LGM (short) = {LGM}"])


def test_names_never_meet():
    rng = random.Random(0)
    parts = ["steps=350", "lr=0.01", "lr=0.1", "real=bank", "init=centroid", "of=lgm[steps=3]", "path=a/b.npz", "model=x"]
    for _ in range(300):
        specs = {f"{rng.choice('ab')}[{','.join(rng.sample(parts, rng.randint(1, 6)))}]" for _ in range(6)}
        names, _ = short_names(specs, {next(iter(specs)): "a"})
        assert len(set(names.values())) == len(specs)


def test_slugs_are_safe_everywhere():
    assert slug("Accuracy: data/cifar10, IPC 1") == "accuracy-data-cifar10-ipc-1"
