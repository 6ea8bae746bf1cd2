"""Straight paths: how bent a flow is, and how to train a straighter one from its own pairs.

Numbered equations are those of the lecture diffusion/flow_matching.

References:
    Liu, Gong, Liu (2023). Flow straight and fast: learning to generate and transfer data
        with rectified flow. arXiv:2209.03003.
"""

import math

import torch
from torch import Tensor

from gdm_course import validate
from gdm_course.diffusion.denoiser import Denoiser
from gdm_course.diffusion.flow_matching import FlowMatching, optimal
from gdm_course.flows.ode import Fixed, rk4_step


def straightness(path: Tensor) -> Tensor:
    """Return how far paths are from straight lines at an even speed, (6): 0 is straight.

    S = int E|dx/dt - (x1 - x0)|^2 dt / E|x1 - x0|^2, by the differences of the stations.

    Args:
        path: stations at equal times, (T + 1, B, *D), as of `FlowMatching.path`.
    """
    path = validate.shaped(path, None, "path").flatten(2)
    T = validate.count(len(path) - 1, "the number of steps", 1)
    velocity, chord = T * path.diff(dim=0), path[-1] - path[0]
    bend = (velocity - chord).square().sum(-1).mean()
    return bend / chord.square().sum(-1).mean()


@torch.no_grad()
def reflow_pairs(flow: FlowMatching, n: int, steps: int = 100) -> tuple[Tensor, Tensor]:
    """Draw n points of the source, and where the flow takes them: x0, x1, both (n, *D).

    To `loss(x0, x1)` they are pairs whose lines hardly cross: where two paths of an ODE
    meet they are one.
    """
    x1 = flow.draw(n)
    return flow.path(x1, steps)[-1], x1


class PlaneFlow(FlowMatching):
    """Flow matching made from numbers, for data of any size: it sees (x - shift) / scale.

    `velocity` and `path` are of what it sees, all else speaks of x.

    Args:
        D: dimension of a point.
        shift: the mean of the data, a number.
        scale: their root mean square around it.
        transport: whether to pair every batch by `optimal`.
        steps: of Runge-Kutta from data to noise, for `log_prob`.
        net: more about the network, see `Denoiser`: hidden, depth, waves.
    """

    def __init__(
        self, D: int, *, shift=0.0, scale=1.0, transport: bool = False, steps=32, **net
    ):
        if not 0 < scale < math.inf:
            raise ValueError(f"scale is {scale}: expected a number above 0")
        pairs = {"coupling": optimal} if transport else {}
        solver = Fixed(rk4_step, steps)
        super().__init__(Denoiser(D, **net), (D,), solver=solver, **pairs)
        self.shift, self.scale = shift, scale

    def inside(self, x: Tensor) -> Tensor:
        """Return (x - shift) / scale: (B, D) -> (B, D)."""
        return (validate.points(x, self.shape, self) - self.shift) / self.scale

    def loss(self, x: Tensor, x1: Tensor | None = None) -> Tensor:
        """Return the mean squared error of the velocity, as `FlowMatching` does: ()."""
        return super().loss(self.inside(x), x1)

    def log_prob(self, x: Tensor) -> Tensor:
        """Return log p(x) in nats by the ODE: (B, D) -> (B,)."""
        return super().log_prob(self.inside(x)) - x.shape[1] * math.log(self.scale)

    def sample(self, n: int, steps: int = 50) -> Tensor:
        """Follow the velocity from noise in Euler steps: (n, D)."""
        return super().sample(n, steps) * self.scale + self.shift
