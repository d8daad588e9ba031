"""What a method says of its work is what it does: views counted at the backbone's door."""

import dataclasses

import pytest
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from ddbench.benchmark.suite.cost import count
from ddbench.core.method import METHODS, PROTOCOLS
from ddbench.core.students import build_student


@pytest.mark.parametrize(
    "spec",
    ["centroids", "herding", "kmeans", "clpdd[steps=3]", "clpdd_paper[steps=3]", "clpdd[steps=3,augment=none]",
     "lgm[steps=3,copies=2]", "lgm[steps=3,copies=2,real=bank]", "lgm[steps=3,augment=none,real=bank]",
     "lgm[steps=3,copies=2,mean_weight=1,logit_std=0.3]", "sfm[steps=3,copies=2]", "sfm[steps=3,augment=none]",
     "duet[steps=3]", "neighbors[of=clpdd[steps=3]]"],
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


class Counter(TorchDispatchMode):
    """FLOPs of everything that runs inside. `FlopCounterMode` follows modules by hooks that a double backward does not bear."""

    flops = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        if count := flop_registry.get(func.overloadpacket):
            self.flops += count(*args, **(kwargs or {}), out_val=out)
        return out


STUDENT = "convnet[widths=32-32]"  # so wide that solves and matching losses are small beside it


def flops_of(work, backbone, data) -> float:
    """As declared, with every entry of the bank new."""
    views = work.forward + 2 * work.backward + len(data.train) * len(work.banked)
    students = [(each, build_student(each.spec, each.size, backbone.spec.dim, 0)) for each in work.students]
    passed = sum(each.passes * count(student, each.size)[0] for each, student in students)
    return views * count(backbone.network, backbone.spec.input_size)[0] + passed


@pytest.mark.parametrize(
    "spec",
    [f"mkdt[student={STUDENT},size=16,steps=4,inner_steps=5,experts=2,match_epochs=1,lr_rate=1e-6]",
     f"mkdt[student={STUDENT},size=16,steps=9,inner_steps=5,experts=1,init=random,start_epochs=1,match_epochs=1]",
     f"krrst[student={STUDENT},size=16,steps=30,batch=8,pool=2,online=4,pool_reset=intended]",
     f"krrst[student={STUDENT},size=16,steps=30,batch=8,pool=2,online=4]",
     f"krrst[student={STUDENT},size=16,steps=30,batch=8,pool=2,online=4,real=bank,learn=targets]",
     f"teacher_high_loss[student={STUDENT},size=16,experts=3]", "teacher_random[size=16]", "teacher_full"],
)  # fmt: skip
def test_students_cost_what_is_declared(backbone, data, run, spec):
    """Counted FLOPs; the scoring of initial images and networks that replace others are left out of the declared ones."""
    method = METHODS.create(spec)
    with Counter() as counter:
        method.distill(backbone, data, 4, run=run)
    declared = flops_of(method.work(len(data.train), data.num_classes, 4), backbone, data)
    assert counter.flops == pytest.approx(declared, rel=0.15)


@pytest.mark.parametrize("more", ["recipe=mkdt", "steps=7"])
def test_pretraining_costs_what_is_declared(backbone, data, run, more):
    dset = METHODS.create("teacher_random[size=16]").distill(backbone, data, 4, run=run)
    protocol = PROTOCOLS.create(f"ssl-pretrain[student={STUDENT},size=16,seeds=2,{more}]")
    judged = dataclasses.replace(data, test=data.test.subset(data.test.labels.argsort()[:1]))
    with Counter() as counter:
        protocol.evaluate(None, judged, dset, run=run)
    declared = flops_of(protocol.work(len(dset), whole=False), backbone, data)
    assert counter.flops == pytest.approx(declared, rel=0.15)
