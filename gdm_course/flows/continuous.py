"""Continuous flows: data flows to noise along a learned velocity, and back.

References:
    Chen, Rubanova, Bettencourt, Duvenaud (2018). Neural ordinary differential equations.
        arXiv:1806.07366.
    Hutchinson (1990). A stochastic estimator of the trace of the influence matrix for
        Laplacian smoothing splines. Communications in Statistics.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from gdm_course import validate
from gdm_course.flows.flow import Flow
from gdm_course.flows.ode import DormandPrince, Fixed, Solver, rk4_step
from gdm_course.flows.solver_error import accountable
from gdm_course.nets import mlp, zero_last


class Velocity(nn.Module):
    """A perceptron that says where to go: (t, x) -> v, (B, D) -> (B, D); at first nowhere.

    Args:
        D: dimensions of x.
        hidden: units in each hidden layer.
        depth: number of hidden layers.
    """

    def __init__(self, D: int, *, hidden: int = 64, depth: int = 2):
        super().__init__()
        validate.at_least(1, D=D, hidden=hidden)
        validate.at_least(0, depth=depth)
        self.D = D
        self.net = zero_last(mlp((D + 1, *[hidden] * depth, D), nn.Tanh))

    def forward(self, t: float, x: Tensor) -> Tensor:
        """Return dx/dt at time t: (B, D) -> (B, D)."""
        x = validate.points(x, self.D, self.net, least=0)
        return self.net(torch.cat([x, x.new_full((len(x), 1), t)], dim=1))


def unit_vectors(x: Tensor) -> Tensor:
    """Return the D unit vectors for every point, so that (6) is exact: (D, B, D)."""
    D = x.shape[1:].numel()
    e = torch.eye(D, dtype=x.dtype, device=x.device)
    return e.view(D, 1, *x.shape[1:]).expand(D, *x.shape)


def rademacher(x: Tensor) -> Tensor:
    """Draw one vector of random signs for every point, Hutchinson's probe: (1, B, D)."""
    return (torch.rand_like(x) < 0.5).to(x.dtype).mul_(2).sub_(1)[None]


def divergence(
    velocity: Callable[[float, Tensor], Tensor], t: float, x: Tensor, probes: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the velocity and sum_k e_k . (dv/dx) e_k, which is the trace dv/dx, (6).

    The sum is the trace if the probes satisfy sum_k e_k e_k' = I, and an unbiased estimate
    of it if they do on average. Each probe costs one vector-Jacobian product.

    Args:
        velocity: (t, x) -> v, whose rows do not mix.
        t: time.
        x: points (B, *D).
        probes: K vectors for every point (K, B, *D).

    Returns:
        v (B, *D) and the trace (B,); both differentiable if gradients are on.
    """
    differentiable, trace = torch.is_grad_enabled(), x.new_zeros(len(x))
    with torch.enable_grad():
        x = x if differentiable and x.requires_grad else x.detach().requires_grad_()
        v = velocity(t, x)
        for e in probes:
            e_J = torch.autograd.grad(v, x, e, True, differentiable)[0]  # keep the graph
            trace = trace + (e_J * e).flatten(1).sum(1)
    return (v if differentiable else v.detach()), trace


class Dynamics(nn.Module):
    """The field of (2) and (3) together: (x, log_det) -> (v, trace dv/dx).

    The probes stay the same along a trajectory: the solver needs a field, not noise.

    Args:
        velocity: a module (t, x) -> v.
        probes: (K, B, *D).
    """

    def __init__(self, velocity: nn.Module, probes: Tensor):
        super().__init__()
        self.velocity, self.probes, self.calls = velocity, probes, 0

    def forward(self, t: float, state: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """Return the slopes of x (B, *D) and of log_det (B,), and count the call."""
        self.calls += 1
        return divergence(self.velocity, t, state[0], self.probes)


class NeuralODE(nn.Module):
    """An invertible layer: from time 0, data, to time 1, noise, along dx/dt = v(t, x).

    log |det dz/dx| = integral from 0 to 1 of trace dv/dx dt, equation (4).

    Args:
        velocity: a module (t, x) -> v, (B, *D) -> (B, *D), whose rows do not mix.
        probes: x -> (K, B, *D): `unit_vectors` (exact) or `rademacher` (an estimate).
        solver: of `gdm_course.flows.ode`, `DormandPrince()` if None; may be replaced later.
    """

    def __init__(
        self,
        velocity: nn.Module,
        *,
        probes: Callable[[Tensor], Tensor] = unit_vectors,
        solver: Solver | None = None,
    ):
        super().__init__()
        self.velocity, self.probes = velocity, probes
        self.solver, self.calls = solver or DormandPrince(), 0  # calls: of the last map

    def solve(self, x: Tensor, times: Sequence[float]) -> tuple[Tensor, Tensor]:
        """Return x and log |det| of the map from the first time to the last."""
        field = Dynamics(self.velocity, self.probes(x))
        x, log_det = self.solver(field, (x, x.new_zeros(len(x))), times)[-1]
        self.calls = field.calls
        return x, log_det

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Map data to noise: x (B, *D) -> z (B, *D) and log |det dz/dx| (B,)."""
        return self.solve(x, (0.0, 1.0))

    def inverse(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Map noise to data, time running backwards: z -> x and log |det dx/dz| (B,)."""
        return self.solve(z, (1.0, 0.0))

    def path(self, x: Tensor, times: Sequence[float]) -> Tensor:
        """Follow points from times[0] through all times, without log_det: (T, B, *D)."""
        return torch.stack(self.solver(self.velocity, x, times))


class ContinuousFlow(Flow):
    """A continuous normalizing flow of vectors: FFJORD if the probes are `rademacher`.

    log p(x) = log N(z; 0, I) + integral of trace dv/dx dt along the path from x to z, (4).

    Args:
        D: dimensions of the data.
        hidden, depth: of the velocity's perceptron.
        probes: `unit_vectors` for the exact trace, `rademacher` for Hutchinson's estimate.
        solver: `DormandPrince()` if None; `Fixed(rk4_step, 8)` is faster to train with.

    References:
        Grathwohl, Chen, Bettencourt, Sutskever, Duvenaud (2019). FFJORD: free-form
            continuous dynamics for scalable reversible generative models. arXiv:1810.01367.
    """

    def __init__(
        self,
        D: int,
        *,
        hidden: int = 64,
        depth: int = 2,
        probes: Callable[[Tensor], Tensor] = unit_vectors,
        solver: Solver | None = None,
    ):
        velocity = Velocity(D, hidden=hidden, depth=depth)
        super().__init__([NeuralODE(velocity, probes=probes, solver=solver)], (D,))

    @property
    def ode(self) -> NeuralODE:
        """The only layer, with its `solver`, `probes`, `calls` and `path`."""
        return self.layers[0]

    @torch.no_grad()
    def sample(self, n: int) -> Tensor:
        """Draw noise and let it flow back to time 0; needs no trace: (n, D)."""
        z = self.base.sample((validate.count(n),))
        return self.ode.path(z, (1.0, 0.0))[-1]


class FFJORD(ContinuousFlow):
    """A continuous flow that trains cheaply and is measured exactly, for long runs.

    In training mode: equal Runge-Kutta steps and one random probe per trajectory. In
    evaluation mode (`eval()`): the exact trace and Dormand-Prince with a tolerance.

    Args:
        D: dimensions of the data.
        hidden, depth: of the velocity's perceptron.
        steps: Runge-Kutta steps in training.
        tolerance: relative and absolute, in evaluation.
    """

    def __init__(
        self,
        D: int,
        *,
        hidden: int = 64,
        depth: int = 2,
        steps: int = 8,
        tolerance: float = 1e-5,
    ):
        super().__init__(D, hidden=hidden, depth=depth)
        validate.at_least(1, steps=steps)
        self.steps, self.tolerance = steps, tolerance
        self.train()

    def train(self, mode: bool = True) -> "FFJORD":
        """Set the mode, and with it solver and probes."""
        exact = DormandPrince(self.tolerance, self.tolerance)
        self.ode.solver = Fixed(rk4_step, self.steps) if mode else exact
        self.ode.probes = rademacher if mode else unit_vectors
        return super().train(mode)


accountable(ContinuousFlow)
