"""The adjoint method: gradients through an ODE without keeping its steps.

References:
    Pontryagin, Boltyanskii, Gamkrelidze, Mishchenko (1962). The mathematical theory of
        optimal processes.
    Chen, Rubanova, Bettencourt, Duvenaud (2018). Neural ordinary differential equations.
        arXiv:1806.07366.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from gdm_course.flows.ode import Field, Solver, State


def pull_back(f: Field, n: int, parameters: Sequence[Tensor]) -> Field:
    """Make the field of equation (8): (x, a, g) -> (f, -a df/dx, -a df/dtheta).

    Args:
        f: (t, parts) -> parts, a tuple of n tensors each.
        n: how many parts.
        parameters: theta.
    """

    def field(t: float, state: State) -> State:
        x, a = state[:n], state[n : 2 * n]
        with torch.enable_grad():
            x = tuple(part.detach().requires_grad_() for part in x)
            v = f(t, x)
            moving = [i for i, part in enumerate(v) if part.requires_grad]
            inputs = (*x, *parameters)
            out, weights = [v[i] for i in moving], [a[i] for i in moving]
            back = torch.autograd.grad(out, inputs, weights, allow_unused=True)
        back = [torch.zeros_like(i) if b is None else -b for i, b in zip(inputs, back)]
        return (*(part.detach() for part in v), *back)

    return field


class AdjointFunction(torch.autograd.Function):
    """Solve forwards without a graph, and backwards for the gradient, equation (8)."""

    @staticmethod
    def forward(ctx, f, solver, times, n, *tensors):
        """Return the n parts at times[1]; `tensors` are those at times[0], then theta."""
        x, theta = tensors[:n], tensors[n:]
        ctx.f, ctx.solver, ctx.times, ctx.n = f, solver, times, n
        x = solver(f, x, times)[-1]
        ctx.save_for_backward(*x, *theta)
        return x

    @staticmethod
    @once_differentiable
    def backward(ctx, *a):
        """Return the gradients of the parts and of theta from those of the result, a."""
        x, theta = ctx.saved_tensors[: ctx.n], ctx.saved_tensors[ctx.n :]
        field = pull_back(ctx.f, ctx.n, theta)
        state = (*x, *a, *map(torch.zeros_like, theta))
        state = ctx.solver(field, state, ctx.times[::-1])[-1]
        return None, None, None, None, *state[ctx.n :]


@dataclass(frozen=True)
class Adjoint:
    """A solver whose gradient is that of a second ODE, solved backwards: memory O(1).

    Args:
        solver: used in both directions.
    """

    solver: Solver

    def __call__(self, f: nn.Module, x: State, times: Sequence[float]) -> list[State]:
        """Return the states at all times; gradients reach x and all parameters of f."""
        if not isinstance(f, nn.Module):
            raise TypeError(
                f"expected f as an nn.Module, whose parameters the adjoint can see, got "
                f"{type(f).__name__}: wrap it, or use {self.solver} without Adjoint"
            )
        single, states = isinstance(x, Tensor), [x]
        theta = [p for p in f.parameters() if p.requires_grad]
        field = (lambda t, parts: (f(t, *parts),)) if single else f
        for pair in pairwise(times):
            parts = (x,) if single else x
            out = AdjointFunction.apply(
                field, self.solver, pair, len(parts), *parts, *theta
            )
            x = out[0] if single else out
            states.append(x)
        return states
