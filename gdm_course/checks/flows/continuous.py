"""Questions of the unit flows/continuous."""

import math

import torch
from torch import Tensor

from gdm_course.checks.question import Inputs, Make, Mistake, close

# 1. The midpoint step ---------------------------------------------------------------------


def _midpoint_step(f, t: float, x: Tensor, h: float) -> Tensor:
    return x + h * f(t + h / 2, x + h / 2 * f(t, x))


def _step_inputs(B: int, way: float) -> Inputs:
    def draw(g: torch.Generator) -> tuple:
        friction, push, t, h = torch.rand(4, generator=g).tolist()
        field = Make("gdm_course.flows.ode.pendulum", (friction, 1 + push))
        return field, 3 * t, 2 * torch.randn(B, 2, generator=g), way * (0.3 + h / 2)

    return draw


midpoint_step = close(
    "midpoint_step",
    _midpoint_step,
    {"": _step_inputs(6, 1.0), "backwards, one pendulum": _step_inputs(1, -1.0)},
    [
        Mistake(
            lambda f, t, x, h: x + h * f(t, x),
            "this is Euler's step: take the slope from half a step ahead",
        ),
        Mistake(
            lambda f, t, x, h: x + h * f(t, x + h / 2 * f(t, x)),
            "the second slope is taken at time t + h / 2, not at t",
        ),
        Mistake(
            lambda f, t, x, h: x + h * f(t + h, x + h * f(t, x)),
            "you looked a whole step ahead; the midpoint is at h / 2, in time and in state",
        ),
        Mistake(
            lambda f, t, x, h: x + h / 2 * f(t, x) + h * f(t + h / 2, x + h / 2 * f(t, x)),
            "the half step only finds the slope: the step itself starts at x again",
        ),
        Mistake(
            lambda f, t, x, h: x + h / 2 * (f(t, x) + f(t + h, x + h * f(t, x))),
            "this is Heun's step, the mean of two slopes; asked for is the slope halfway",
        ),
        Mistake(
            lambda f, t, x, h: _midpoint_step(f, t, x, abs(h)),
            "right forwards; a negative h goes backwards in time",
        ),
    ],
)

# 2. The length of the next step -----------------------------------------------------------


def _next_length(h: Tensor, error: Tensor) -> Tensor:
    return h * (0.9 * error**-0.2).clamp(0.2, 10.0)


def _lengths_and_errors(n: int) -> Inputs:
    def draw(g: torch.Generator) -> tuple[Tensor, Tensor]:
        h = 0.01 + torch.rand(n, generator=g)
        power = torch.cat([torch.tensor([-7.0, 5.0]), 2 * torch.randn(n - 2, generator=g)])
        return h, 10**power  # the first two are beyond both limits

    return draw


next_length = close(
    "next_length",
    _next_length,
    {"": _lengths_and_errors(12), "three steps": _lengths_and_errors(3)},
    [
        Mistake(
            lambda h, error: h * (0.9 * error**0.2).clamp(0.2, 10.0),
            "a large error must make the step shorter: the exponent is -1/5",
        ),
        Mistake(
            lambda h, error: h * 0.9 * error**-0.2,
            "limit the factor: at least 1/5, at most 10",
        ),
        Mistake(
            lambda h, error: (h * 0.9 * error**-0.2).clamp(0.2, 10.0),
            "the limits are for the factor, not for the length itself",
        ),
        Mistake(
            lambda h, error: h * (0.9 / error).clamp(0.2, 10.0),
            "the error goes as the fifth power of h: take the fifth root",
        ),
        Mistake(
            lambda h, error: h * (error**-0.2).clamp(0.2, 10.0),
            "the safety factor 0.9 is missing",
        ),
        Mistake(
            lambda h, error: torch.where(error > 1, _next_length(h, error), h),
            "accepted steps change their length, too: a small error makes the next longer",
        ),
    ],
)

# 3. The density of a linear flow ----------------------------------------------------------


def _log_normal(z: Tensor) -> Tensor:
    return -0.5 * z.square().sum(-1) - 0.5 * z.shape[-1] * math.log(2 * math.pi)


def _linear_flow_log_prob(x: Tensor, A: Tensor) -> Tensor:
    return _log_normal(x @ torch.linalg.matrix_exp(A).T) + A.trace()


def _points_and_matrix(B: int, D: int, shift: float = 0.5) -> Inputs:
    def draw(g: torch.Generator) -> tuple[Tensor, Tensor]:
        A = 0.6 * torch.randn(D, D, generator=g)
        A += shift * torch.eye(D) + 0.7 * torch.diag(torch.ones(D - 1), 1)
        return torch.randn(B, D, generator=g), A  # a trace to be missed, not symmetric

    return draw


linear_flow_log_prob = close(
    "linear_flow_log_prob",
    _linear_flow_log_prob,
    {
        "": _points_and_matrix(7, 3),
        "one point of the plane": _points_and_matrix(1, 2),
        "a flow that shrinks": _points_and_matrix(5, 3, -1.5),
    },
    [
        Mistake(
            lambda x, A: _log_normal(x @ torch.linalg.matrix_exp(A).T),
            "the integral of the trace is missing: add tr A",
        ),
        Mistake(
            lambda x, A: _log_normal(x @ torch.linalg.matrix_exp(A).T) - A.trace(),
            "wrong sign: where the flow to noise expands (tr A > 0), the data was dense",
        ),
        Mistake(
            lambda x, A: _log_normal(x @ torch.linalg.matrix_exp(A)) + A.trace(),
            "transposed: rows of x are points, so exp(A) x is x @ exp(A).T",
        ),
        Mistake(
            lambda x, A: _log_normal(x @ torch.linalg.matrix_exp(-A).T) + A.trace(),
            "from data to noise time runs forwards: exp(+A)",
        ),
        Mistake(
            lambda x, A: _log_normal(x @ A.exp().T) + A.trace(),
            "A.exp() takes the exponential of every entry: use torch.linalg.matrix_exp",
        ),
        Mistake(
            lambda x, A: _log_normal(x + x @ A.T) + A.trace(),
            "this is one Euler step; the exact solution is the matrix exponential",
        ),
    ],
)

# 4. The variance of Hutchinson's estimate -------------------------------------------------


def _hutchinson_variance(J: Tensor) -> Tensor:
    S = (J + J.transpose(1, 2)) / 2
    return 2 * (S.square().sum((1, 2)) - _squared_diagonal(J))


def _squared_diagonal(J: Tensor) -> Tensor:
    return J.diagonal(dim1=1, dim2=2).square().sum(1)


hutchinson_variance = close(
    "hutchinson_variance",
    _hutchinson_variance,
    {
        "": lambda g: (torch.randn(5, 4, 4, generator=g),),
        "one Jacobian": lambda g: (torch.randn(1, 6, 6, generator=g),),
    },
    [
        Mistake(
            lambda J: 2 * (J.square().sum((1, 2)) - _squared_diagonal(J)),
            "take the symmetric part first: S = (J + J') / 2",
        ),
        Mistake(
            lambda J: 2 * ((J + J.transpose(1, 2)) / 2).square().sum((1, 2)),
            "this is the variance for Gaussian probes; signs do not feel the diagonal",
        ),
        Mistake(
            lambda J: _hutchinson_variance(J) / 2,
            "a factor of 2 is missing: every pair i < j appears twice in the norm",
        ),
        Mistake(
            lambda J: _hutchinson_variance(J).sqrt(),
            "this is the standard deviation; asked for is the variance",
        ),
        Mistake(
            lambda J: 4 * _hutchinson_variance(J),
            "the symmetric part has a factor of 1/2: S = (J + J') / 2",
        ),
    ],
)

# 5. The adjoint by hand -------------------------------------------------------------------


def _adjoint_slopes(x: Tensor, a: Tensor, W: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    v = torch.tanh(x @ W.T)
    s = a * (1 - v**2)
    return v, -s @ W, -s.T @ x


def _forwards(x: Tensor, a: Tensor, W: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    v, slope, g = _adjoint_slopes(x, a, W)
    return v, -slope, -g


def _one_sign(x: Tensor, a: Tensor, W: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    v, slope, g = _adjoint_slopes(x, a, W)
    return v, slope, -g


def _transposed(x: Tensor, a: Tensor, W: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    v = torch.tanh(x @ W.T)
    s = a * (1 - v**2)
    return v, -s @ W.T, -s.T @ x


def _linear(x: Tensor, a: Tensor, W: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return torch.tanh(x @ W.T), -a @ W, -a.T @ x


def _averaged(x: Tensor, a: Tensor, W: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    v, slope, g = _adjoint_slopes(x, a, W)
    return v, slope, g / len(x)


def _wrong_shape(x: Tensor, a: Tensor, W: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    v, slope, g = _adjoint_slopes(x, a, W)
    return v, slope, g.T


def _adjoint_inputs(B: int, D: int) -> Inputs:
    def draw(g: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        x, a = torch.randn(2, B, D, generator=g)
        return x, a, torch.randn(D, D, generator=g)

    return draw


adjoint_slopes = close(
    "adjoint_slopes",
    _adjoint_slopes,
    {"": _adjoint_inputs(6, 3), "one point, 4 numbers": _adjoint_inputs(1, 4)},
    [
        Mistake(_forwards, "both slopes of the adjoint have a minus sign, equation (8)"),
        Mistake(_one_sign, "the slope of the gradient has a minus sign too"),
        Mistake(_transposed, "a' dv/dx is s @ W: v = tanh(x @ W.T) has the Jacobian W"),
        Mistake(_linear, "the derivative of tanh is missing: s = a (1 - v^2)"),
        Mistake(_wrong_shape, "W is (out, in), so its gradient is s.T @ x, not x.T @ s"),
        Mistake(_averaged, "the slope of the gradient sums over the points, it is no mean"),
    ],
)
