"""Classifier inheritance: how well a set leads another backbone's features into those of the backbone that it was made with.

The second part of SFM (arXiv 2602.05391, released code). On the set's images a linear projector P learns to turn features of
the eval backbone into those of the backbone that distilled,

    L = mean ( P phi_eval(x) - phi_distil(x) )^2

over augmented views x that both backbones see, by Adam at 0.01 * batch / 256 with a cosine to 0. Then the head that the distil
backbone has from the full data, frozen, classifies projected test features. No label of the set plays a part. So it asks
another thing of transfer than a probe that is trained on the set: the classes are known, the way to them has to be found.

Deviations: views come from a pool that the probe seeds share, where the released code draws new ones at each step; the head is
the full-data head of `linear-probe` (one seed), where the released code has that of `lgm-probe`. Nothing is selected on the
test split.
"""

import math
from dataclasses import asdict, dataclass
from importlib import metadata
from typing import ClassVar

import torch
from torch import Tensor

from ..core.backbone import Backbone
from ..core.bank import feature_facts
from ..core.data import ImageData
from ..core.errors import UserError
from ..core.method import PROTOCOLS, Evaluation, Protocol
from ..core.params import Count, Positive
from ..core.real import resident
from ..core.run import Run
from ..core.sets import DistilledSet, real_set
from ..core.store import Rows
from ..core.transfer import to_device
from ..core.views import Augment, View
from ._features import set_features
from ._heads import ProbeRecipe, all_finite
from .linear_probe import Heads, LinearProbe, seed_streams, test_accuracy


def new_projectors(source: int, target: int, seeds: list[torch.Generator]) -> tuple[Tensor, Tensor]:
    """Weights `(s, e, d)` and biases `(s, e)` from d = `source` to e = `target` dimensions, as torch's nn.Linear draws them."""
    bound = source**-0.5
    drawn = [torch.empty(target, source + 1).uniform_(-bound, bound, generator=g) for g in seeds]
    both = torch.stack(drawn)
    return both[..., :-1].contiguous(), both[..., -1].contiguous()


def train_projectors(
    projectors: tuple[Tensor, Tensor], sources: Tensor, targets: Tensor, recipe: ProbeRecipe, orders: list[torch.Generator]
) -> tuple[Tensor, Tensor]:
    """Train s projectors by the mean squared error from `sources (v, n, d)` to `targets (v, n, e)`, v views of n images.

    Epoch t sees view t modulo v; each seed shuffles with its own stream. Adam acts elementwise and losses are summed over
    seeds, so every projector takes the steps that it would take alone.
    """
    weight, bias = (tensor.clone().requires_grad_() for tensor in projectors)
    adam = torch.optim.Adam([weight, bias], lr=recipe.lr)
    for epoch in range(recipe.epochs):
        adam.param_groups[0]["lr"] = recipe.lr * (1 + math.cos(math.pi * epoch / recipe.epochs)) / 2
        order = torch.stack([torch.randperm(sources.shape[1], generator=g) for g in orders])
        for indices in order.split(recipe.batch, dim=1):
            z, wanted = (_rows(each[epoch % len(each)], indices, weight.device) for each in (sources, targets))
            error = torch.einsum("sbd,sed->sbe", z, weight) + bias[:, None] - wanted
            adam.zero_grad()
            error.square().mean((1, 2)).sum().backward()
            adam.step()
    return all_finite((weight.detach(), bias.detach()), "projector")


def _rows(features: Tensor, indices: Tensor, device: torch.device) -> Tensor:
    return to_device(features[to_device(indices, features.device)], device)


def through(projectors: tuple[Tensor, Tensor], head: tuple[Tensor, Tensor]) -> Heads:
    """Heads `(s, k, d)`, `(s, k)` that classify as the `head (k, e)`, `(k,)` does behind each projector."""
    (weight, bias), (head_weight, head_bias) = projectors, head
    return head_weight @ weight, bias @ head_weight.T + head_bias


@PROTOCOLS.register("inherit-probe")
@dataclass(frozen=True)
class InheritProbe(Protocol):
    """SFM's classifier inheritance: a projector from eval to distil features, then the distil backbone's full-data head."""

    version: ClassVar[int] = 1

    base_lr: Positive = 0.01  # Adam, per 256 images of a batch
    epochs: Count = 1000
    batch: Count = 100  # min(100, n)
    seeds: Count = 5  # of projectors
    augment: Augment = "flip+crop"
    view_budget: Count = 6_000  # views per backbone computed in all; small sets see a new view every epoch
    min_views: Count = 4  # views per image for sets that are larger than the budget

    def supports(self, dset: DistilledSet) -> str | None:
        if dset.provenance.get("distill_backbone") is None:
            return "no backbone is on record as the one that distilled the set, so there is no head to inherit"
        return None if len(dset) else "the set is empty; a projector needs images"

    def evaluate(self, backbone: Backbone, data: ImageData, dset: DistilledSet, *, run: Run) -> Evaluation:
        """Raises `UserError` where the distil backbone's weights are not those that the set names."""
        distil = distil_backbone(dset, run).to(run.device)
        head = full_head(distil, data, run)
        copies = min(self.epochs, max(self.min_views, self.view_budget // len(dset)))
        view = View.parse(self.augment)
        views = [set_features(each, data, dset, run, view=view, copies=copies) for each in (backbone, distil)]  # the same views
        sources, targets = resident(views, run.device)
        batch = min(self.batch, len(dset))
        drawn = new_projectors(backbone.spec.dim, distil.spec.dim, seed_streams(run, self.seeds, "projector"))
        recipe = ProbeRecipe(self.base_lr * batch / 256, self.epochs, batch)
        orders = seed_streams(run, self.seeds, "order")
        weight, bias = (each.to(run.device) for each in drawn)
        projectors = train_projectors((weight, bias), sources, targets, recipe, orders)
        return test_accuracy(through(projectors, head), backbone, data, dset, run)


def distil_backbone(dset: DistilledSet, run: Run) -> Backbone:
    """The backbone that the set says it was distilled with."""
    name, card = dset.provenance["distill_backbone"], dset.provenance.get("distill_backbone_spec")
    backbone = run.backbone_of(name)
    if card is not None and card["sha256"] != backbone.spec.sha256:
        raise UserError(f"the set was distilled with other weights of {name} than are there now; name the weights it had")
    return backbone


def full_head(backbone: Backbone, data: ImageData, run: Run) -> tuple[Tensor, Tensor]:
    """Weights `(k, d)` and biases `(k,)` of the full-data head of `linear-probe`.

    An entry of the feature bank: one training serves every set that this backbone distilled.
    """
    probe, full, dim = LinearProbe(seeds=1), real_set(data, torch.arange(len(data.train)), copy=False), backbone.spec.dim
    view, copies = probe.view_on(data), probe.views_per_image(len(full), probe.full_epochs)
    facts = {
        "entry": "full-data head",
        "features": feature_facts(backbone, data, "train", view, copies, 0),
        "probe": asdict(probe),
        "seed": run.seed,
        "made with": [torch.__version__, metadata.version("timm"), torch.get_num_threads()],  # training follows their rounding
        "layout": 1,  # raised when the computation changes
    }
    features = run.bank.features(backbone, data, "train", view=view, copies=copies)

    def fill(out: Rows) -> None:
        weight, bias = probe.heads_on([features], backbone, full, run)
        out[:] = torch.cat([weight[0], bias[0][:, None]], dim=1).cpu().numpy()

    found = run.bank.entry(facts, (data.num_classes, dim + 1), fill)
    return found[:, :dim].clone().to(run.device), found[:, dim].clone().to(run.device)
