"""Gradients through unrolled gradient descent: exact, with the memory of one step.

    theta_{n+1} = theta_n - rate * dl(theta_n; x_n, y_n)/dtheta,   n = 0 .. N-1,      outer loss L(theta_N)

Plain unrolling keeps the graphs of all N steps. Here the way down keeps the N parameter vectors only, and the way back takes
them in reverse: with c = dL/dtheta_{n+1} and a = <dl(theta_n; x_n, y_n)/dtheta, c>, one double backward of one step gives

    dL/dtheta_n = c - rate * da/dtheta_n,   dL/dx_n = -rate * da/dx_n,   dL/dy_n = -rate * da/dy_n,   dL/drate += -a

The price is one more gradient per step. Data augmentation and momentum are not part of it; MKDT (arXiv 2410.02116) uses none.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

InnerLoss = Callable[[Tensor, Tensor, Tensor], Tensor]  # parameters (p,), images (b, ...), targets (b, d) -> scalar


@dataclass(frozen=True)
class InnerLoop:
    """N steps of plain gradient descent on batches of learnable images and targets.

    Args:
        loss: twice differentiable.
        images, targets: `(n, ...)` and `(n, d)`, of which step k reads the rows `batches[k]`, distinct within a step.
        rate: the step size, a learnable scalar.
    """

    loss: InnerLoss
    images: Float[Tensor, "n ..."]
    targets: Float[Tensor, "n d"]
    rate: Float[Tensor, ""]
    batches: Sequence[Tensor]

    def descend(self, start: Float[Tensor, " p"]) -> list[Float[Tensor, " p"]]:
        """Parameters theta_0 = `start` `(p,)` to theta_N, without a graph."""
        path = [start.detach()]
        for rows in self.batches:
            theta = path[-1].requires_grad_()
            (slope,) = torch.autograd.grad(self.loss(theta, self.images[rows].detach(), self.targets[rows].detach()), theta)
            path[-1] = theta.detach()
            path.append(path[-1] - self.rate.detach() * slope)
        return path

    def backpropagate(
        self, path: Sequence[Float[Tensor, " p"]], cotangent: Float[Tensor, " p"]
    ) -> tuple[Float[Tensor, "n ..."], Float[Tensor, "n d"], Float[Tensor, ""]]:
        """dL/dimages, dL/dtargets and dL/drate from the `path` of `descend` and dL/dtheta_N `(p,)`."""
        rate = self.rate.detach()
        d_images, d_targets, d_rate = (torch.zeros_like(t) for t in (self.images, self.targets, self.rate))
        for rows, theta in zip(reversed(self.batches), reversed(path[:-1]), strict=True):
            inputs = [t.detach().requires_grad_() for t in (theta, self.images[rows], self.targets[rows])]
            (slope,) = torch.autograd.grad(self.loss(*inputs), inputs[0], create_graph=True)
            aligned = slope @ cotangent
            by_theta, by_images, by_targets = torch.autograd.grad(aligned, inputs)
            cotangent = cotangent - rate * by_theta
            d_images[rows] -= rate * by_images
            d_targets[rows] -= rate * by_targets
            d_rate -= aligned.detach()
        return d_images, d_targets, d_rate
