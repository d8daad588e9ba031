"""Mutual nearest-neighbour alignment: how much two backbones agree on which images are alike.

m = mean over images of | N_k(image under one) ∩ N_k(image under the other) | / k, with N_k the k nearest other images by cosine
similarity (Huh et al., The Platonic Representation Hypothesis, arXiv 2405.07987, section 3; LGM's table 6). 1 for equal
neighbourhoods; k / (n - 1) is expected of unrelated ones.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

_CHUNK = 1024  # rows of similarities at a time


def nearest(z: Tensor, k: int) -> Tensor:
    """Indices `(n, k)` of the k rows of z `(n, d)` most similar to each row, itself excluded."""
    unit = F.normalize(z, dim=1)
    found = []
    for rows in torch.arange(len(z)).split(_CHUNK):
        similarity = unit[rows] @ unit.T
        similarity[torch.arange(len(rows)), rows] = -torch.inf
        found.append(similarity.topk(k, dim=1).indices)
    return torch.cat(found)


def mutual_share(one: Tensor, other: Tensor) -> float:
    """Mean share of common indices of two neighbour lists `(n, k)`."""
    common = (one.unsqueeze(2) == other.unsqueeze(1)).any(2)
    return float(common.float().mean())
