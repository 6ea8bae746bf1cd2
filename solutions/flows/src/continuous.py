# %% [markdown]
# # Exercises: flowing in time
#
# Five short pieces of code: a solver of your own, the length of its next step, a continuous
# flow whose density you can write down, the spread of Hutchinson's estimate, and the
# adjoint by hand. Under each stands a check that runs *your* function on fresh inputs. A red
# line names the wrong property; a plausible mistake gets a hint. Later cells use the
# course's own code, so one open question does not block the rest.

# %% [markdown] tags=["nav"]
# before this: [Change of variables: planar and radial flows](../../lectures/flows/planar.ipynb) ·
# [lecture](../../lectures/flows/continuous.ipynb) ·
# [exercise](../../exercises/flows/continuous.ipynb)

# %% tags=["setup"]
import importlib.util

if importlib.util.find_spec("gdm_course") is None:
    raise ImportError(
        "the package gdm_course is not installed here: run 'make lab' in the course's "
        "folder, or 'pip install -e .[lab]', and choose that environment as the kernel"
    )

# %%
import math

import torch

from gdm_course import plotting as plot
from gdm_course.checks.flows import continuous as check
from gdm_course.flows import adjoint, ode
from gdm_course.flows.continuous import Velocity, divergence, rademacher
from gdm_course.flows.ode import Fixed, euler_step, pendulum, rk4_step
from gdm_course.training import seed_everything

plot.style()

# %% [markdown]
# ## 1. A solver of your own
#
# Between Euler (order 1) and Runge-Kutta (order 4) lies the **midpoint** step: use Euler to
# look half a step ahead, and take the slope from there for the whole step,
#
# $$k_1 = f(t, x),\qquad x(t+h)\approx x + h\,f\bigl(t+\tfrac h2,\ x+\tfrac h2 k_1\bigr).$$
#
# Mind the *time* at which the second slope is taken: the check uses a pendulum that is
# pushed by $\cos t$.


# %%
def midpoint_step(f, t, x, h):
    """Take one midpoint step.

    Args:
        f: the field, called as f(t, x), (B, D) -> (B, D).
        t: time, a number.
        x: state (B, D).
        h: length of the step, a number (negative: backwards).

    Returns:
        The state at t + h, (B, D).
    """
    ### BEGIN SOLUTION
    half = x + h / 2 * f(t, x)
    return x + h * f(t + h / 2, half)
    ### END SOLUTION


# %%
check.midpoint_step(midpoint_step)

# %% [markdown]
# `Fixed` takes any step. Measure the order of yours: the error should fall by a factor of
# $2^2=4$ when the number of steps doubles.

# %%
seed_everything(0)
f, start = pendulum(), torch.randn(20, 2, dtype=torch.float64)
truth = ode.DormandPrince(1e-12, 1e-12)(f, start, (0.0, 5.0))[-1]
steps = {"Euler": euler_step, "your midpoint": midpoint_step, "Runge-Kutta": rk4_step}
counts, errors = [16, 32, 64, 128], {}
for name, step in steps.items():
    try:
        ends = [Fixed(step, n)(f, start, (0.0, 5.0))[-1] for n in counts]
    except NotImplementedError:
        print("(write midpoint_step first)")
        continue
    errors[name] = [(end - truth).abs().max().item() for end in ends]
    print(f"{name:14s} order {math.log2(errors[name][-2] / errors[name][-1]):.2f}")
ax = plot.curves(errors, None, counts, xlabel="steps", ylabel="largest error at t = 5")
_ = ax.set(xscale="log", yscale="log")

# %% [markdown]
# ## 2. How long is the next step?
#
# An adaptive solver has just tried a step of length $h$ and estimated its error, measured
# in tolerances: 1 is what is just allowed. The estimate goes as $h^5$. So which length would
# have had an error of exactly 1? Take 0.9 of that, for safety, and never change the length
# by more than a factor of 5 down or of 10 up:
#
# $$h_\text{next} = h\cdot\min\bigl(10,\ \max(\tfrac15,\ 0.9\cdot\text{error}^{-1/5})\bigr).$$
#
# The rule is the same for accepted steps (error at most 1) and for rejected ones. Write it
# for tensors of lengths and errors.


# %%
def next_length(h, error):
    """Return the length of the next step.

    Args:
        h: lengths just tried, positive, (N,).
        error: their estimated errors in tolerances, positive, (N,).

    Returns:
        (N,)
    """
    ### BEGIN SOLUTION
    factor = 0.9 * error ** (-1 / 5)
    return h * factor.clamp(0.2, 10.0)
    ### END SOLUTION


# %%
check.next_length(next_length)

# %% [markdown]
# ## 3. A density that you can write down
#
# Let the velocity be linear, $v(t,x)=Ax$. Then the ODE has the solution
# $x(t)=e^{At}x(0)$, with the matrix exponential (`torch.linalg.matrix_exp`), and the trace
# of $\partial v/\partial x = A$ does not depend on anything. With noise
# $z = x(1)\sim\mathcal N(0, I)$, what is $\log p(x)$? All you need is
#
# $$\log p(x)=\log\mathcal N(x(1);0,I)+\int_0^1\mathrm{tr}\,\frac{\partial v}{\partial
#   x}\,dt.$$
#
# (As a by-product you prove $\det e^A=e^{\mathrm{tr}A}$.)


# %%
def linear_flow_log_prob(x, A):
    """Return log p(x) of the continuous flow with velocity A x.

    Args:
        x: points (B, D).
        A: (D, D).

    Returns:
        (B,), in nats.
    """
    ### BEGIN SOLUTION
    z = x @ torch.linalg.matrix_exp(A).T
    log_base = -0.5 * z.square().sum(-1) - 0.5 * x.shape[1] * math.log(2 * math.pi)
    return log_base + A.trace()
    ### END SOLUTION


# %%
check.linear_flow_log_prob(linear_flow_log_prob)

# %% [markdown]
# An oracle without any flow: $x=e^{-A}z$ is a Gaussian with covariance $e^{-A}e^{-A^\top}$.

# %%
seed_everything(0)
A, x = 0.5 * torch.randn(3, 3), torch.randn(4, 3)
back = torch.linalg.matrix_exp(-A)
gauss = torch.distributions.MultivariateNormal(torch.zeros(3), back @ back.T)
try:
    print("yours    ", [round(v, 4) for v in linear_flow_log_prob(x, A).tolist()])
except NotImplementedError:
    print("(write linear_flow_log_prob first)")
print("a Gaussian", [round(v, 4) for v in gauss.log_prob(x).tolist()])

# %% [markdown]
# ## 4. The spread of Hutchinson's estimate
#
# With random signs $e$, the estimate $e^\top Je$ of the trace of $J$ has the variance
#
# $$2\Bigl(\|S\|_F^2-\sum_iS_{ii}^2\Bigr),\qquad S=\tfrac12\bigl(J+J^\top\bigr).$$
#
# Write it for a batch of Jacobians. Before you do: for which matrices is it zero, although
# they are not diagonal?


# %%
def hutchinson_variance(J):
    """Return the variance of e' J e over random signs e.

    Args:
        J: (B, D, D).

    Returns:
        (B,)
    """
    ### BEGIN SOLUTION
    S = (J + J.transpose(1, 2)) / 2
    diagonal = S.diagonal(dim1=1, dim2=2)
    return 2 * (S.square().sum((1, 2)) - diagonal.square().sum(1))
    ### END SOLUTION


# %%
check.hutchinson_variance(hutchinson_variance)

# %% [markdown]
# (Antisymmetric ones, the velocities of pure rotations, have $e^\top Je=0$ for every $e$:
# their $S$ is zero. A diagonal matrix may be added.)
# Compare with 20,000 estimates of the trace of a random network's Jacobian:

# %%
seed_everything(0)
net, point = Velocity(16), torch.randn(1, 16)
for p in net.parameters():
    torch.nn.init.normal_(p, std=p.shape[-1] ** -0.5)
J = torch.autograd.functional.jacobian(lambda x: net(0.5, x[None])[0], point[0])
many = point.expand(20_000, -1)
with torch.no_grad():
    estimates = divergence(net, 0.5, many, rademacher(many))[1]
print(f"trace {J.trace():.4f}, mean of the estimates {estimates.mean():.4f}")
print(f"variance of the estimates {estimates.var():.4f}")
try:
    print(f"your formula              {hutchinson_variance(J[None]).item():.4f}")
except NotImplementedError:
    print("(write hutchinson_variance first)")

# %% [markdown]
# ## 5. The adjoint by hand
#
# The adjoint method solves one ODE backwards, with the state
# $(x, a, \partial L/\partial W)$. For one layer, $v = \tanh(Wx)$ for every point, find the
# three slopes on paper, and write them down without autograd (which would be right, too):
#
# $$\dot x = v,\qquad \dot a^\top = -a^\top\frac{\partial v}{\partial x},\qquad
#   \dot g = -\sum_\text{points}a^\top\frac{\partial v}{\partial W}.$$
#
# The derivative of $\tanh u$ is $1-\tanh^2u$. With $s = a\odot(1-v^2)$, both products are
# one matrix multiplication each. Mind the minus signs, and the shape of $W$: (out, in).


# %%
def adjoint_slopes(x, a, W):
    """Return the slopes of x, of the adjoint a and of the gradient of W.

    Args:
        x: points (B, D).
        a: dL/dx at the same time, (B, D).
        W: weight (D, D), used as v = tanh(x @ W.T).

    Returns:
        Slopes (B, D), (B, D) and (D, D).
    """
    ### BEGIN SOLUTION
    v = torch.tanh(x @ W.T)
    s = a * (1 - v**2)
    return v, -s @ W, -s.T @ x
    ### END SOLUTION


# %%
check.adjoint_slopes(adjoint_slopes)

# %% [markdown]
# Your slopes are a field, so the course's solver can run them backwards. That gives a
# gradient without any backpropagation: compare with what `Adjoint` and backpropagation say.


# %%
class Layer(torch.nn.Module):
    """The field v = tanh(W x)."""

    def __init__(self, W):
        super().__init__()
        self.W = torch.nn.Parameter(W)

    def forward(self, t, x):
        return torch.tanh(x @ self.W.T)


seed_everything(0)
layer, x, solver = Layer(torch.randn(3, 3)), torch.randn(8, 3), ode.DormandPrince()
for name, way in {"backprop": solver, "Adjoint": adjoint.Adjoint(solver)}.items():
    end = way(layer, x, (0.0, 1.0))[-1]
    (g,) = torch.autograd.grad(0.5 * end.square().sum(), layer.W)
    print(f"{name:9s}", [round(v, 4) for v in g[0].tolist()])
end = end.detach()  # the loss is |x(1)|^2 / 2, so a(1) = x(1)
try:
    field = lambda t, state: adjoint_slopes(state[0], state[1], layer.W.detach())
    state = solver(field, (end, end, torch.zeros(3, 3)), (1.0, 0.0))[-1]
    print("yours    ", [round(v, 4) for v in state[2][0].tolist()])
except NotImplementedError:
    print("(write adjoint_slopes first)")
