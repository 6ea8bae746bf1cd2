"""How wrong is a log p that a solver found? Solve again, and say so if it matters.

References:
    Chen, Rubanova, Bettencourt, Duvenaud (2018). Neural ordinary differential equations.
        arXiv:1806.07366.
"""

import warnings
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import replace
from functools import wraps
from typing import cast

import torch
from torch import Tensor, nn

from gdm_course.chance import own_chance
from gdm_course.flows.ode import DormandPrince, Fixed, Solver
from gdm_course.learning import taught

TOLERANCE = 0.02  # of log p in nats per dimension, or 2 % of it where it is large
ROWS = 32
FINEST = 1e-5  # a tolerance that single precision cannot hold much below
LogProb = Callable[[nn.Module, Tensor], Tensor]


class SolverError(UserWarning):
    """The steps of a solver were too long for the digits of its log p."""


def neighbour(solver: Solver) -> Solver | None:
    """Return another solver of the same kind: twice the steps, or a quarter of a tolerance.

    From `FINEST` down it is a looser tolerance, for float32 has 7 digits. The difference is
    then the looser one's error, rather than that of the solver. None for a kind that we do
    not know. A lecture's own copy of a class counts as that class.
    """
    kind = type(solver).__name__
    if kind == Fixed.__name__:
        return replace(cast(Fixed, solver), steps=2 * vars(solver)["steps"])
    if kind == DormandPrince.__name__:
        now = {name: vars(solver)[name] for name in ("rtol", "atol")}
        scale = 1 / 4 if min(now.values()) > FINEST else 4
        other = {name: scale * tolerance for name, tolerance in now.items()}
        return replace(cast(DormandPrince, solver), **other)
    return None


@contextmanager
def solved_by(ode: nn.Module, solver: Solver):
    """Let a module use another solver in a block; then all is as before."""
    before, calls = ode.solver, getattr(ode, "calls", None)
    ode.solver = solver
    try:
        yield
    finally:
        ode.solver = before
        if calls is not None:
            ode.calls = calls


@torch.no_grad()
def compared(log_prob: LogProb, model: nn.Module, x: Tensor) -> Tensor | None:
    """Ask log_prob(model, x) of two solvers: how far apart they are in nats, (rows,).

    Both are asked with the same chance, so that random probes are the same. None if the
    solver is of a kind that we do not know.
    """
    ode, x = getattr(model, "ode", model), x[:ROWS]
    other, found = neighbour(ode.solver), []
    for solver in [ode.solver, other] if other else []:
        with solved_by(ode, solver), own_chance(0):
            found.append(log_prob(model, x))
    return (found[1] - found[0]).abs() if found else None


def solver_error(model: nn.Module, x: Tensor) -> Tensor | None:
    """Estimate the error of log_prob by the `neighbour` of its solver, in nats: (rows,).

    Args:
        model: with `log_prob(x)` and `solver`, or with a part `ode` that has it.
        x: (B, *D), of which the first rows are looked at.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SolverError)
        return compared(type(model).log_prob, model, x)


def accountable(cls: type) -> type:
    """Make `log_prob` of a class say so if its solver's error is beyond `TOLERANCE`.

    It is looked at where somebody measures, not in the loss of a step of training.
    """
    log_prob: LogProb = cls.log_prob

    @wraps(log_prob)
    def told(self: nn.Module, x: Tensor) -> Tensor:
        log_p = log_prob(self, x)
        if not taught(self):
            warn(self, compared(log_prob, self, x), log_p.detach(), x[0].numel())
        return log_p

    cls.log_prob = told
    return cls


def warn(model: nn.Module, error: Tensor | None, log_p: Tensor, D: int) -> None:
    """Warn if the mean error of a model's log_p of D dimensions is too large."""
    if error is None or not (fine := error.isfinite()).any():  # -inf has no digits
        return
    size = (log_p[: len(error)].abs() / D).clamp_min(1)
    if (error / D / size)[fine].mean() > TOLERANCE:
        solver = getattr(model, "ode", model).solver
        steps = vars(solver).get("steps")
        how = f"{steps} steps" if steps else f"tolerance {solver.rtol}"
        warnings.warn(
            f"{type(model).__name__}.log_prob is off by about {error[fine].mean():.2g} "
            f"nats: its solver ({type(solver).__name__}, {how}) is too coarse, expected "
            f"at most {TOLERANCE} nats per dimension; give it more steps or a smaller "
            "tolerance",
            SolverError,
            stacklevel=3,
        )
