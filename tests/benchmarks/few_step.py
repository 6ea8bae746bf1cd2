"""What a step of training costs that makes one step of sampling enough, and what it saves.

Beside plain flow matching with a perceptron of the same size. Run alone:
`python -m tests.benchmarks.few_step`.
"""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from gdm_course.diffusion.denoiser import Denoiser
from gdm_course.diffusion.flow_matching import FlowMatching
from gdm_course.diffusion.mean_velocity import JumpNet
from gdm_course.diffusion.meanflow import mean_and_slope
from gdm_course.scale.few_step import PlaneConsistency, PlaneMeanFlow, PlaneShortcut
from tests.benchmarks.harness import Ratio, Work, compare, table

B, SIZE = 512, {"hidden": 96, "depth": 3}
FEW = {c.__name__[5:]: c for c in (PlaneConsistency, PlaneShortcut, PlaneMeanFlow)}


def step_of(model: nn.Module, x: Tensor) -> Work:
    """Forward and backward of the loss; the gradients are thrown away."""

    def step() -> None:
        model.zero_grad(set_to_none=True)
        model.loss(x).backward()

    return step


def slope_backwards(net: nn.Module, z, t, r, v: Tensor) -> tuple[Tensor, Tensor]:
    """Return u and du/dt by reverse mode alone: the derivative of J'w in w is J."""
    z, t = z.detach().requires_grad_(), t.detach().requires_grad_()
    with torch.enable_grad():
        u = net(z, t, r)
        w = torch.zeros_like(u, requires_grad=True)
        back = torch.autograd.grad(u, (z, t), w, create_graph=True)
        along = (back[0] * v).sum() + back[1].sum()
    return u.detach(), torch.autograd.grad(along, w)[0]


def slopes() -> Iterator[Ratio]:
    """The slope along the path: one pass forward, or a pass back and back again."""
    net, (z, v), (r, t) = JumpNet(2, **SIZE), torch.randn(2, B, 2), torch.rand(2, B)
    r, t = torch.minimum(r, t), torch.maximum(r, t)
    forward = torch.no_grad()(lambda: mean_and_slope(net, z, t, r, v))
    back = lambda: slope_backwards(net, z, t, r, v)  # noqa: E731
    for ours, theirs in zip(forward(), back()):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
    name = f"du/dt of {B} points by jvp"
    yield compare(name, forward, back, "two passes backwards", repeat=31)


def ratios() -> Iterator[Ratio]:
    """Every kind of step, and of sampling."""
    torch.manual_seed(0)
    x, plain = torch.randn(B, 2), FlowMatching(Denoiser(2, **SIZE), (2,))
    few = {name: make(2, **SIZE) for name, make in FEW.items()}
    for name, model in few.items():
        both = step_of(model, x), step_of(plain, x)
        yield compare(f"{name}, step of {B}", *both, "flow matching", repeat=31)
    yield from slopes()
    for name, model in few.items():
        both = (lambda m=model: m.sample(1000)), lambda: plain.sample(1000)
        title = f"{name}, 1,000 points in one step"
        yield compare(title, *both, "flow matching in 50", goal=20)


if __name__ == "__main__":
    print(table(list(ratios())))
