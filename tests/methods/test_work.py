"""What a method says of its work is what it does: views counted at the backbone's door."""

import dataclasses

import pytest

from ddbench.core.method import METHODS


@pytest.mark.parametrize(
    "spec",
    ["centroids", "herding", "kmeans", "clpdd[steps=3]", "clpdd[steps=3,real_views=2]", "clpdd[steps=3,augment=none]",
     "lgm[steps=3,copies=2]", "lgm[steps=3,copies=2,real=bank]", "lgm[steps=3,augment=none,real=bank]", "sfm[steps=3,copies=2]",
     "sfm[steps=3,real_views=0]", "duet[steps=3]", "neighbors[of=clpdd[steps=3]]"],
)  # fmt: skip
def test_views_are_as_declared(backbone, data, run, spec):
    method, counted = METHODS.create(spec), {True: 0, False: 0}
    backbone.register_forward_hook(
        lambda module, inputs, out: counted.update({out.requires_grad: counted[out.requires_grad] + len(out)})
    )
    method.distill(backbone, data, 1, run=dataclasses.replace(run, chunk=2))  # so small that the engine makes two passes
    work = method.work(len(data.train), data.num_classes, 1)
    spared = 2 * 3 if work.backward else 0  # the first chunk of each of three steps keeps its graph and passes once
    assert counted == {True: work.backward, False: work.forward - spared + len(data.train) * len(work.banked)}


def test_a_given_set_passes_once(backbone, data, run, tmp_path):
    METHODS.create("centroids").distill(backbone, data, 2, run=run).save(tmp_path / "set")
    assert METHODS.create(f"neighbors[folder={tmp_path}/set]").work(100, 3, 2).forward == 6


def test_further_backbones_cost_what_nobody_knows():
    assert METHODS.create("duet[also=mini_vit_mae]").work(100, 3, 2) is None
