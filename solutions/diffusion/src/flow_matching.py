# %% [markdown]
# # Exercises: straight to the point
#
# Six short pieces of code: a line and its velocity, the mean over all lines, the best
# partners of a batch, the score that a velocity knows, how straight paths are, and the bound
# of a VAE with a flow as its prior. Under each stands a check that runs *your* function on
# fresh inputs. A red line names the wrong property; a plausible mistake gets a hint. Nothing
# depends on an unanswered question: later cells use the course's own code.

# %% [markdown] tags=["nav"]
# before this: [A thousand small steps: denoising diffusion](../../lectures/diffusion/ddpm.ipynb), [Flowing in time: continuous flows](../../lectures/flows/continuous.ipynb), [What you do not see: the variational autoencoder](../../lectures/vae/vae.ipynb) ·
# [lecture](../../lectures/diffusion/flow_matching.ipynb) ·
# [exercise](../../exercises/diffusion/flow_matching.ipynb)

# %% tags=["setup"]
import importlib.util

if importlib.util.find_spec("gdm_course") is None:
    raise ImportError(
        "the package gdm_course is not installed here: run 'make lab' in the course's "
        "folder, or 'pip install -e .[lab]', and choose that environment as the kernel"
    )

# %%
import itertools

import torch

from gdm_course import plotting as plot
from gdm_course.checks.diffusion import flow_matching as check
from gdm_course.data import toy
from gdm_course.diffusion.mixture import MixtureDenoiser
from gdm_course.training import generator

plot.style()

# %% [markdown]
# ## 1. A point on the line
#
# Data $x_0$ are at $t=0$, their partners $x_1$ from the source at $t=1$. Between them lies a
# straight line at an even speed. Return the point at the time $t$, and the velocity of this
# line, which leads from data to the source. Every row has a time of its own.


# %%
def line(x0, x1, t):
    """Return points between two, and the velocity there.

    Args:
        x0, x1: data and their partners (B, D).
        t: times (B,).

    Returns:
        The points (B, D) and the velocities (B, D).
    """
    ### BEGIN SOLUTION
    t = t[:, None]
    return (1 - t) * x0 + t * x1, x1 - x0
    ### END SOLUTION


# %%
check.line(line)

# %% [markdown]
# Two data points, two partners, and where their lines are half-way:

# %%
try:
    ends = torch.tensor([[0.0], [1.0]]), torch.tensor([[2.0], [-2.0]])
    z, v = line(*ends, torch.tensor([0.5, 0.5]))
    print("points", z[:, 0].tolist(), "velocities", v[:, 0].tolist())
except NotImplementedError:
    print("(write line first)")

# %% [markdown]
# ## 2. The mean over all lines
#
# Data are $K$ equal bells $\mathcal N(m_k,s^2I)$, the source is $\mathcal N(0,I)$. At the
# time $t$, bell $k$ has become $\mathcal N\big((1-t)\,m_k,\;c\,I\big)$ with
# $c=(1-t)^2s^2+t^2$. Given $z$ and the bell, the mean of $x_0$ is
# $m_k+\frac{(1-t)\,s^2}{c}\,\big(z-(1-t)\,m_k\big)$, for the bell has its own width. Weight
# these by how likely $z$ comes from each bell. The velocity from data to noise is then
# $(z-\mathbb E[x_0\,|\,z])/t$.


# %%
def marginal_velocity(z, t, means, std):
    """Return E[x1 - x0 | z] for equal bells and a standard normal source.

    Args:
        z: points (B, D).
        t: the time, a number between 0 and 1.
        means: of the bells (K, D).
        std: s, their standard deviation, a number.

    Returns:
        (B, D)
    """
    ### BEGIN SOLUTION
    var = (1 - t) ** 2 * std**2 + t**2
    gap = z[:, None] - (1 - t) * means  # (B, K, D)
    weights = (-gap.square().sum(-1) / (2 * var)).softmax(1)
    guesses = means + (1 - t) * std**2 / var * gap
    x0 = (weights[..., None] * guesses).sum(1)
    return (z - x0) / t
    ### END SOLUTION


# %%
check.marginal_velocity(marginal_velocity)

# %% [markdown]
# Fifty steps with your velocity, from noise to eight bells:

# %%
law = toy.get("eight_gaussians").law
x, steps = torch.randn(1000, 2, generator=generator(0)).double(), 50
try:
    for k in range(steps):
        x = x - marginal_velocity(x, 1 - k / steps, law.means, law.sigma[0]) / steps
    (ax,) = plot.panels("1,000 points", width=4)
    plot.scatter(x, ax, toy.get("eight_gaussians").bounds)
except NotImplementedError:
    print("(write marginal_velocity first)")

# %% [markdown]
# ## 3. The best partners
#
# A batch of data and a batch of the source are to be paired so that the sum of the squared
# distances is as small as possible. $x_0$ keeps its order. Return $x_1$ in a new order, each
# of its rows exactly once. Batches here have at most 5 rows, so you may try all orders
# (`itertools.permutations`).


# %%
def optimal_pairs(x0, x1):
    """Return the rows of x1 in the order that makes sum_i |x0_i - x1_i|^2 smallest.

    Args:
        x0, x1: (B, D), B at most 5.

    Returns:
        (B, D)
    """
    ### BEGIN SOLUTION
    cost = (x0[:, None] - x1).square().sum(-1)
    rows = torch.arange(len(x0))
    orders = [torch.tensor(order) for order in itertools.permutations(range(len(x0)))]
    return x1[min(orders, key=lambda order: cost[rows, order].sum().item())]
    ### END SOLUTION


# %%
check.optimal_pairs(optimal_pairs)

# %% [markdown]
# How much shorter are the ways?

# %%
g = generator(0)
x0, x1 = torch.randn(5, 2, generator=g), torch.randn(5, 2, generator=g)
try:
    for name, partners in {"as drawn": x1, "best": optimal_pairs(x0, x1)}.items():
        print(f"{name}: {(partners - x0).square().sum(1).mean():.2f}")
except NotImplementedError:
    print("(write optimal_pairs first)")

# %% [markdown]
# ## 4. The score of a flow
#
# Let the source be $\mathcal N(0,I)$, independent of the data, and let $v=\mathbb
# E[x_1-x_0\,|\,z]$. With $z=(1-t)\,x_0+t\,x_1$ this says what the mean of the noise $x_1$ is,
# given $z$. The score of the density at the time $t$ is minus that mean, divided by $t$
# (Tweedie's formula). Write it with $v$, $z$ and $t$.


# %%
def score_from_velocity(v, z, t):
    """Return grad log p_t(z).

    Args:
        v: the velocity at z (B, D).
        z: points (B, D).
        t: the time, a number between 0 and 1.

    Returns:
        (B, D)
    """
    ### BEGIN SOLUTION
    x1 = z + (1 - t) * v
    return -x1 / t
    ### END SOLUTION


# %%
check.score_from_velocity(score_from_velocity)

# %% [markdown]
# Beside the exact score of a bell, $\mathcal N(0, 0.5^2)$, at $t=0.6$:

# %%
t = 0.6
z = torch.linspace(-1, 1, 5)[:, None]
bell = MixtureDenoiser(torch.zeros(1, 1), 0.5)
var = (1 - t) ** 2 * 0.25 + t**2
try:
    x = z / (t**2 + (1 - t) ** 2) ** 0.5
    x0 = bell(x, 2 * torch.tensor((1 - t) / t).log())
    print("yours", score_from_velocity((z - x0) / t, z, t)[:, 0].tolist())
    print("exact", (-z / var)[:, 0].tolist())
except NotImplementedError:
    print("(write score_from_velocity first)")

# %% [markdown]
# ## 5. How straight
#
# A path has $T+1$ stations at equal times from 0 to 1. The velocity between two neighbours is
# $T$ times their difference. Take the squared distance of each velocity from the whole way,
# last station minus first, and of these squares the mean over all steps and paths; this is
# divided by the mean, over all paths, of the squared length of the whole way.


# %%
def straightness(path):
    """Return how bent paths are, 0 for straight lines at an even speed.

    Args:
        path: stations (T + 1, B, D).

    Returns:
        A number.
    """
    ### BEGIN SOLUTION
    velocity, way = (len(path) - 1) * path.diff(dim=0), path[-1] - path[0]
    bend = (velocity - way).square().sum(-1).mean()
    return bend / way.square().sum(-1).mean()
    ### END SOLUTION


# %%
check.straightness(straightness)

# %% [markdown]
# A line, and a quarter of a circle:

# %%
angle = torch.linspace(0, torch.pi / 2, 51)
circle = torch.stack([angle.cos(), angle.sin()], 1)[:, None]
chord = torch.linspace(0, 1, 51)[:, None, None] * torch.tensor([-1.0, 1.0])
try:
    print(f"line {straightness(chord):.3f}, quarter of a circle {straightness(circle):.3f}")
except NotImplementedError:
    print("(write straightness first)")

# %% [markdown]
# ## 6. The bound with a flow
#
# A flow is the prior of a VAE's $z$, but it was trained on $u=(z-\text{shift})/\text{scale}$,
# dimension by dimension. The bound $\log p(x\,|\,z)+\log p(z)-\log q(z\,|\,x)$ needs the log
# density of $z$, not of $u$: they differ by the logarithms of the scales of all dimensions.


# %%
def latent_elbo(log_px, log_pu, log_q, scale):
    """Return the bound for every x, in nats.

    Args:
        log_px: log p(x | z) of every x (B,).
        log_pu: the flow's log density of u (B,).
        log_q: log q(z | x) (B,).
        scale: (K,), above 0.

    Returns:
        (B,)
    """
    ### BEGIN SOLUTION
    log_pz = log_pu - scale.log().sum()
    return log_px + log_pz - log_q
    ### END SOLUTION


# %%
check.latent_elbo(latent_elbo)

# %% [markdown]
# ## Further, without a check
#
# 1. **Moons to a ring.** Train `FlowMatching` with `source=toy.get("ring")`. Does its
#    `log_prob` integrate to 1 on a grid?
# 2. **Times.** Let `times` be `lambda n: torch.sigmoid(torch.randn(n))`, which prefers the
#    middle of the way. Compare the KL of three seeds with that of even times.
# 3. **More dimensions.** Pair 256 points of $\mathcal N(0,I)$ with 256 others in 2, 8, 32 and
#    128 dimensions. By which share does `optimal` shorten the mean square of the way?
