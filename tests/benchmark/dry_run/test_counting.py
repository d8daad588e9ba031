"""What a trial run counts is what a whole run sends: images at the backbone's door, operations of students."""

import dataclasses

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from ddbench.benchmark.dry_run.counting import NotCounted, Sizes, count_method, count_protocol, made_up_set
from ddbench.benchmark.dry_run.image_cost import count
from ddbench.core.method import METHODS, PROTOCOLS, Method
from ddbench.core.students import build_student


@pytest.mark.parametrize(
    "spec",
    ["centroids", "herding", "kmeans", "clpdd[steps=7]", "clpdd[steps=1]", "clpdd[steps=7,init=noise,augment=none]",
     "lgm[steps=7,copies=2]", "lgm[steps=7,copies=2,real=bank]", "lgm[steps=7,copies=2,real_batch=20,mean_weight=1]",
     "sfm[steps=7]", "duet[steps=7]", "neighbors[of=clpdd[steps=7]]", "random", "full", "untrained"],
)  # fmt: skip
def test_views_are_those_of_a_whole_run(backbone, data, run, spec):
    method, counted = METHODS.create(spec), {True: 0, False: 0}
    backbone.register_forward_hook(
        lambda module, inputs, out: counted.update({out.requires_grad: counted[out.requires_grad] + len(out)})
    )
    method.distill(backbone, data, 1, run=dataclasses.replace(run, chunk=256))
    found = count_method(method, Sizes(len(data.train), len(data.test), data.num_classes), 1)
    banked = sum(entry.cost.forward for entry in found.entries)
    own = data.num_classes if spec.startswith("neighbors") else 0  # the set itself passes once at the end, after the steps
    assert (found.counts.backward, found.counts.forward + banked + own) == (counted[True], counted[False])


def test_real_batches_count_as_large_as_they_are():
    """LGM asks for as many real views as synthetic ones, or for `real_batch` of them: 5,000 steps of 5,100 images."""
    sizes = Sizes(train=50_000, test=100, classes=10)
    assert count_method(METHODS.create("lgm"), sizes, 1).counts.forward == 5000 * 100
    assert count_method(METHODS.create("lgm[real_batch=5100]"), sizes, 1).counts.forward == 5000 * 5100


def test_the_largest_pass_does_not_grow_with_the_number_of_steps():
    """Ten images of three copies: 30 views, however many steps there are."""
    sizes = Sizes(train=1000, test=100, classes=10)
    largest = [count_method(METHODS.create(f"lgm[copies=3,steps={steps}]"), sizes, 1).largest for steps in (1, 350)]
    assert largest == [30, 30]
    assert count_method(METHODS.create("lgm[copies=100]"), sizes, 1).largest == 256


@pytest.mark.parametrize(
    ("spec", "views", "banked"),
    [("knn", 30, {"test"}), ("ridge-probe", 30, {"train", "test"}), ("linear-probe", 30 * 200, {"test"}),
     ("linear-probe[shared_views=false]", 30 * 200 * 5, {"test"}), ("lgm-probe", 30 * 1000 * 5, set())],
)  # fmt: skip
def test_protocols_count_by_hand(spec, views, banked):
    """30 images: a pool of 6,000 views, or fresh ones for 1,000 epochs and five seeds; real features as far as it gets."""
    found = count_protocol(PROTOCOLS.create(spec), Sizes(1000, 100, 10), made_up_set(Sizes(1000, 100, 10), 3))
    assert found.counts.forward == views
    assert banked >= {entry.name.split()[1] for entry in found.entries}


def test_the_full_data_is_judged_on_all_of_it():
    sizes = Sizes(train=5000, test=100, classes=10)
    whole = count_method(METHODS.create("full"), sizes, 1).made
    views = count_protocol(PROTOCOLS.create("lgm-probe"), sizes, whole).counts.forward
    assert views == pytest.approx(5 * 100 * 5000, rel=0.03)  # the last batch of an epoch is smaller
    (entry,) = count_protocol(PROTOCOLS.create("knn"), sizes, whole).entries[:1]
    assert (entry.name.split()[1], entry.numbers) == ("train", 5000)


def test_what_cannot_be_counted_says_why(fake_plugins):
    sizes = Sizes(100, 10, 3)
    with pytest.raises(NotCounted, match=r"does not run on made-up images \(KeyError\)"):
        count_method(METHODS.create("fake[fail=crash]"), sizes, 1)
    with pytest.raises(NotCounted, match="judges nothing"):
        count_protocol(PROTOCOLS.create("fake_probe[fail=unsupported]"), sizes, made_up_set(sizes, 1))


def test_further_backbones_are_taken_to_cost_as_much_and_are_not_loaded():
    sizes = Sizes(100, 10, 3)
    one, two = (count_method(METHODS.create(f"duet[steps=5{more}]"), sizes, 1) for more in ("", ",also=dinov2_vitb14"))
    assert two.counts.backward == 2 * one.counts.backward > 0
    whole = count_method(METHODS.create("full"), sizes, 1).made
    (entry,) = count_protocol(PROTOCOLS.create("alignment[of=dinov2_vitb14,k=2]"), sizes, whole).entries
    assert entry.name.startswith("features test")


def test_a_method_of_somebody_else_is_counted_without_declaring_anything():
    @dataclasses.dataclass(frozen=True)
    class Theirs(Method):
        def distill(self, backbone, data, ipc, *, run):
            images = torch.rand(4, 3, 8, 8, requires_grad=True)
            for step in range(1000):
                backbone(images).sum().backward()
                run.progress(step + 1, 1000, None)

    found = count_method(Theirs(), Sizes(100, 10, 2), 2)
    assert (found.counts.backward, found.counts.forward, found.largest) == (4000, 0, 4)


class Counter(TorchDispatchMode):
    """FLOPs of everything that runs inside."""

    flops = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        if formula := flop_registry.get(func.overloadpacket):
            self.flops += formula(*args, **(kwargs or {}), out_val=out)
        return out


STUDENT = "convnet[widths=32-32]"  # so wide that solves and matching losses are small beside it


def student_flops(found, dim) -> float:
    spec, size = found.student
    passes = found.counts.student + sum(entry.cost.student for entry in found.entries)
    return passes * count(build_student(spec, size, dim, 0), size)[0]


@pytest.mark.parametrize(
    "spec",
    [f"mkdt[student={STUDENT},size=16,steps=4,inner_steps=5,experts=2,match_epochs=1,lr_rate=1e-6]",
     f"krrst[student={STUDENT},size=16,steps=30,batch=8,pool=2,online=2,real=bank]",
     f"teacher_high_loss[student={STUDENT},size=16,experts=3]", "teacher_random[size=16]"],
)  # fmt: skip
def test_students_cost_what_a_whole_run_computes(backbone, data, run, spec):
    method = METHODS.create(spec)
    with Counter() as counter:
        method.distill(backbone, data, 4, run=run)
    found = count_method(method, Sizes(len(data.train), len(data.test), data.num_classes), 4)
    views = found.counts.forward + 2 * found.counts.backward + sum(entry.cost.forward for entry in found.entries)
    theirs = student_flops(found, backbone.spec.dim) if found.student else 0
    assert counter.flops == pytest.approx(views * count(backbone.network, backbone.spec.input_size)[0] + theirs, rel=0.25)


def test_inherit_probe_is_counted():
    """Views of the set under both backbones; real features and the head that is trained on them are entries of the bank."""
    sizes = Sizes(200, 100, 10)
    found = count_protocol(PROTOCOLS.create("inherit-probe[view_budget=60,epochs=20]"), sizes, made_up_set(sizes, 3))
    assert found.counts.forward == 2 * 30 * 4
    assert any("full-data head" in entry.name and entry.cost.forward == 0 for entry in found.entries)
    assert {"train", "test"} <= {entry.name.split()[1] for entry in found.entries if entry.name.startswith("features")}


def test_pretraining_is_counted_by_its_steps():
    sizes = Sizes(200, 50, 10)
    protocols = [PROTOCOLS.create(f"ssl-pretrain[steps={steps}]") for steps in (100, 1000)]
    found = [count_protocol(protocol, sizes, made_up_set(sizes, 2)) for protocol in protocols]
    (short, *_), (long, *_) = ([entry.cost.student for entry in each.entries] for each in found)
    assert long == pytest.approx(10 * short, rel=0.01)
    assert short == pytest.approx(3 * 100 * 20, rel=0.25)  # forward and twice back, 100 steps, 20 images
    assert len(found[0].entries) == 3  # one for each student
