# %% [markdown]
# # One dimension bends the next: MAF, IAF and splines
#
# Take the masked network of MADE and let every conditional be an invertible curve: that is a flow.
# One way round it tells densities at once and samples slowly, the other way the reverse. And when
# the curves bend, one layer splits a hump in two.

# %% [markdown] tags=["nav"]
# 58 minutes, and 49 further ·
# before this: [Half of it stays: coupling flows](realnvp.ipynb), [One dimension at a time: NADE, RNADE and MADE](../autoregressive/nade.ipynb) ·
# [exercise](../../exercises/flows/maf.ipynb) ·
# [solution](../../solutions/flows/maf.ipynb)
#
# previous: [Half of it stays: coupling flows](realnvp.ipynb) ·
# [all units](../index.ipynb) ·
# next: [Flowing in time: continuous flows](continuous.ipynb)

# %% tags=["setup"]
import importlib.util

if importlib.util.find_spec("gdm_course") is None:
    raise ImportError(
        "the package gdm_course is not installed here: run 'make lab' in the course's "
        "folder, or 'pip install -e .[lab]', and choose that environment as the kernel"
    )

# %%
import math
import time
from collections.abc import Callable, Sequence
from functools import cached_property

import torch
import torch.nn.functional as F
from IPython.display import display
from sklearn.linear_model import LogisticRegression
from torch import Tensor, nn
from torch.autograd.functional import jacobian
from torch.distributions import Normal

from gdm_course import (
    checkpoints,
    protocols,
    schematics,
    validate,  # refuses, in one sentence, what does not fit
)
from gdm_course import plotting as plot
from gdm_course.autoregressive.decoding import Cache  # keys and values of a layer
from gdm_course.autoregressive.gpt import Block  # attention, then a perceptron
from gdm_course.autoregressive.made import MaskedMLP, degrees, masks
from gdm_course.data import images, toy
from gdm_course.evaluation.likelihood import bits_per_dim
from gdm_course.flows.continuous import ContinuousFlow  # of the next unit, for a table
from gdm_course.flows.dequantisation import Logit
from gdm_course.flows.flow import Flow, Inverse
from gdm_course.flows.maf import (
    Conditioner,  # the masked network
    IntoTheBox,  # the affine layer in front of splines
    alternate,  # puts a Reverse between any two layers
    by_filling,  # a quicker way to invert
)
from gdm_course.flows.ode import Fixed, rk4_step
from gdm_course.flows.patches import whole_passes
from gdm_course.flows.planar import PlanarFlow
from gdm_course.flows.realnvp import RealNVP, bounded
from gdm_course.flows.spline import (
    LEAST,
    UNIT_SLOPE,
    SplineAutoregressive,  # a layer of splines
    SplineCouplingFlow,
    find_bin,  # in which bin of the spline a point lies
    slopes,
    unspline,  # the way back
)
from gdm_course.flows.tarflow import TarFlow
from gdm_course.nets import mlp, precise, zero_last
from gdm_course.training import (
    budget,
    forever,
    full_run,
    generator,
    seed_everything,
    train,
)
from gdm_course.widgets import play, watch

plot.style()

# %% [markdown]
# ## 1. The question
#
# You know two ways to an exact density. **Autoregressive models** cut it into conditionals,
# $p(x)=\prod_d p(x_d\mid x_{<d})$. **Flows** map data to noise, $z=f(x)$, and count how
# much the map squeezes. A coupling layer bends half of the dimensions by what the other half
# says. Could one layer bend *every* dimension, each by all those before it?
#
# Here are four densities of the plane, with their entropies. What a model's negative log-likelihood
# pays above that is $\mathrm{KL}(\text{truth}\,\|\,\text{model})$. All models here are Sampler,
# Trainable *and* Density.

# %%
names = ("two_moons", "banana", "spirals", "checkerboard")
truths = {name: toy.get(name) for name in names}
titles = [f"{n.replace('_', ' ')}: {t.entropy(300):.2f} nats" for n, t in truths.items()]
for ax, truth in zip(plot.panels(*titles, height=2.8), truths.values()):
    plot.density(truth.log_prob, truth.bounds, ax)

# %% [markdown] tags=["notes"]
# 4 minutes. Ask: "what was the autoregressive model's price, and what was RealNVP's?" (Sequential sampling; half of the
# dimensions idle.) Both prices come back here, and one can be moved from sampling to density at will.

# %% [markdown]
# ## 2. The idea
#
# Slice a density of the plane along a vertical line: what is left is a density of one
# variable, $p(x_2\mid x_1)$. To turn *one* variable into standard normal noise you need
# only an increasing curve. If the slice is a Gaussian, a straight line does it. If it has two
# humps, the line must become a staircase: steep where the data are, flat in the gap between.
#
# The blue curve is the only increasing map that turns this slice into noise; the orange line has
# the right mean and width. On the right is what each of them would *sample*.

# %% tags=["fold"]
# @title A slice with two humps, and a curve and a line that map it to noise
weights, humps = torch.tensor([0.6, 0.4]), Normal(torch.tensor([-1.5, 1.5]), 0.45)
x = torch.linspace(-3.5, 3.5, 400)
p = (weights * humps.log_prob(x[:, None]).exp()).sum(1)
cdf = (weights * humps.cdf(x[:, None])).sum(1).double().clamp(1e-6, 1 - 1e-6)
curve = torch.special.ndtri(cdf).float()  # z = Phi^-1(F(x))
mean = (weights * humps.mean).sum()
sigma = (weights * (0.45**2 + (humps.mean - mean) ** 2)).sum().sqrt()

left, middle, right = plot.panels("a slice of the data", "the map to noise", "its samples")
left.fill_between(x, p, color=plot.GREY, alpha=0.4)
left.set(xlabel="x2, given x1", ylabel="density", ylim=(0, None))
middle.plot(x, curve, color=plot.BLUE, label="a curve")
middle.plot(x, (x - mean) / sigma, color=plot.ORANGE, label="a line")
middle.set(xlabel="x2", ylabel="z")
middle.legend()
right.plot(x, p, color=plot.BLUE, label="curve")
right.plot(x, Normal(mean, sigma).log_prob(x).exp(), color=plot.ORANGE, label="line")
right.set(xlabel="x2, given x1", ylabel="density", ylim=(0, None))
_ = right.legend()

# %% [markdown]
# Straight lines make a *masked autoregressive flow* (MAF), splines a *spline flow*.
#
# ## 3. The mathematics
#
# **An autoregressive map.** Let $\tau(\cdot\,; c)$ be increasing in its first argument, and
# let a network compute the numbers $c_d$ from the dimensions before $d$:
#
# $$z_d = \tau\bigl(x_d;\ c_d(x_{<d})\bigr), \qquad d = 1,\dots,D. \tag{1}$$
#
# Its Jacobian? $z_d$ depends on nothing after $x_d$, so $\partial z_d/\partial x_k = 0$ for
# $k>d$: the matrix is lower triangular, and its determinant is the product of the diagonal,
# whatever stands below it:
#
# $$\log\left|\det\frac{\partial z}{\partial x}\right|
#   = \sum_{d=1}^{D}\log\frac{\partial\tau}{\partial x_d}\bigl(x_d; c_d\bigr). \tag{2}$$
#
# The network may be as wild as it likes: nobody inverts it. With curves flexible enough, one
# layer maps any density that is nowhere 0 to noise: take each conditional's distribution
# function, then $\Phi^{-1}$ (the *Knothe-Rosenblatt map*).
#
# **Affine $\tau$.** The simplest increasing map is a straight line,
#
# $$z_d = \frac{x_d-\mu_d(x_{<d})}{\sigma_d(x_{<d})},\qquad
#   \log\left|\det\frac{\partial z}{\partial x}\right| = -\sum_d\log\sigma_d(x_{<d}).
#   \tag{3}$$
#
# Put standard normal noise behind it, and use the change of variables:
#
# $$\begin{aligned}\log p(x) &= \sum_d\Bigl[-\tfrac12 z_d^2-\tfrac12\log 2\pi\Bigr]
#   -\sum_d\log\sigma_d\\ &= \sum_d\Bigl[-\frac{(x_d-\mu_d)^2}{2\sigma_d^2}-\log\sigma_d
#   -\tfrac12\log2\pi\Bigr] = \sum_d\log\mathcal N\bigl(x_d;\ \mu_d(x_{<d}),\
#   \sigma_d^2(x_{<d})\bigr).\end{aligned}\tag{4}$$
#
# This *is* an autoregressive model with Gaussian conditionals, and $z_d$ is the noise from which it
# draws $x_d$.
#
# **The inverse** goes in order, since $\mu_d$ and $\sigma_d$ need the $x$ before:
#
# $$x_d = \mu_d(x_{<d}) + \sigma_d(x_{<d})\,z_d. \tag{5}$$
#
# Or by an iteration: start with any $x$, compute all $\mu,\sigma$ in one pass, put them into
# (5), repeat. After pass 1, $x_1$ is right, since $\mu_1,\sigma_1$ depend on nothing. If
# $x_1..x_{d-1}$ are right after pass $d-1$, pass $d$ computes the right $\mu_d,\sigma_d$ and
# hence $x_d$. After $D$ passes all are right, but for rounding.
#
# Tiny example, with $\mu_1=0$, $\sigma_1=1$, $\mu_2=x_1^2$, $\sigma_2=\tfrac12$. The point
# $x=(3, 10)$ has $z=(3, 2)$ and the log-determinant $\log 2$. Now back, from a wrong start:

# %%
z, x, sigma = torch.tensor([3.0, 2.0]), torch.tensor([-2.0, 50.0]), torch.tensor([1.0, 0.5])
for k in range(3):
    print(f"after {k} passes: x = {x.tolist()}")
    mu = torch.stack([torch.tensor(0.0), x[0] ** 2])
    x = mu + sigma * z  # (5)
assert x.tolist() == [3.0, 10.0] and ((x - mu) / sigma).tolist() == z.tolist()

# %% [markdown] tags=["notes"]
# 12 minutes for sections 2 and 3. Draw the triangle of (2) on the board and ask what stands below the diagonal. Wrong answer
# to expect: "zeros". Anything may stand there; it is the part above that is 0.

# %% [markdown]
# ## 4. Build: the layer
#
# The network exists: the `MaskedMLP` of MADE. `Conditioner` fixes its order and keeps its masks
# (its code follows after the summary). The layer itself is (1) and (2), for any $\tau$: `bend` is
# $\tau$ with its log slope, `unbend` the inverse.


# %% tags=["from:flows.maf.Autoregressive"]
class Autoregressive(nn.Module):
    """An invertible layer z_d = tau(x_d; c_d), where a MADE computes c_d from x_<d: (1).

    Its Jacobian is triangular, so log |det| is the sum of log dz_d/dx_d: (2). A subclass
    says what tau is: `bend(x, c) -> (z, log_slope)`, all (..., D), and `unbend`.

    Args:
        D: number of dimensions.
        hidden: units in each hidden layer of the MADE.
        outputs: how many numbers c_d are.
    """

    def __init__(self, D: int, *, hidden: Sequence[int], outputs: int):
        super().__init__()
        self.net = Conditioner(D, hidden=hidden, outputs=outputs)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Map x (B, D) to z (B, D) and log |det dz/dx| (B,), in one pass."""
        z, log_slope = self.bend(x, self.net(x))
        return z, log_slope.sum(-1)

    def inverse(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Map z (B, D) to x (B, D) and log |det dx/dz| (B,), one dimension at a time.

        Costs one pass through the network, D with gradients.
        """
        z = validate.points(z, len(self.net.m[0]), self.net.mask0, name="z", least=0)
        solve = by_passes if torch.is_grad_enabled() else by_filling
        return solve(self, z)


# %% [markdown]
# `by_passes` is the iteration, and gradients flow through it. Where none are asked for,
# `by_filling` gives the same result and computes every hidden unit only once.


# %% tags=["from:flows.maf.by_passes"]
def by_passes(layer: Autoregressive, z: Tensor) -> tuple[Tensor, Tensor]:
    """Invert by D passes: the d-th makes x_1..x_d right, whatever x was before: (5)."""
    x, log_slope = z, torch.zeros_like(z)
    for _ in range(z.shape[1]):
        x, log_slope = layer.unbend(z, layer.net(x))
    return x, log_slope.sum(-1)


# %% [markdown]
# And $\tau$ for (3). The network says $-\mu/\sigma$ and a second number, which softly bounded is
# $-\log\sigma$: so $\sigma$ is positive, and the log slope is there for free.


# %% tags=["from:flows.maf.AffineAutoregressive"]
class AffineAutoregressive(Autoregressive):
    """The layer of MAF: z_d = (x_d - mu_d(x_<d)) / sigma_d(x_<d), equation (3).

    The network says the shift -mu / sigma, in units of z: where sigma is small, a step that
    moved mu itself would move z by 1 / sigma times as much. log sigma is bent softly
    towards at most `limit`.
    """

    limit = 6.9  # sigma from a thousandth to a thousand

    def __init__(self, D: int, *, hidden: Sequence[int] = (64, 64)):
        super().__init__(D, hidden=hidden, outputs=2)

    def read(self, c: Tensor) -> tuple[Tensor, Tensor]:
        """Return -mu / sigma and -log sigma (...,) from what the network says, (..., 2)."""
        shift, a = c.unbind(-1)
        return shift, a / (1 + a.abs() / self.limit)

    def bend(self, x: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        """Standardise: z = x / sigma - mu / sigma, and log dz/dx = -log sigma."""
        shift, log_slope = self.read(c)
        return x * torch.exp(log_slope) + shift, log_slope

    def unbend(self, z: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        """Undo it: x = (z + mu / sigma) sigma, and log dx/dz = log sigma."""
        shift, log_slope = self.read(c)
        return (z - shift) * torch.exp(-log_slope), -log_slope


# %% [markdown]
# Three properties, on a layer with shaken weights. Its Jacobian is triangular and its
# log-determinant is autograd's. Its density is (4). And the iteration arrives.
#
# **Predict 1, before you run.** The right panel has a row for every number of passes, and a mark
# where a dimension is still wrong. What will it look like?

# %%
seed_everything(0)


def shake(layer, scale=0.3):
    """Move all weights off their start."""
    with torch.no_grad():
        for weight in layer.parameters():
            weight += scale * torch.randn_like(weight)
    return layer


layer, x = shake(AffineAutoregressive(8)).double(), torch.randn(50, 8).double()
z, log_det = layer(x)
J = jacobian(lambda x: layer(x[None])[0][0], x[0])
assert torch.allclose(log_det[0], J.det().abs().log())
shift, log_slope = layer.read(layer.net(x))
sigma = torch.exp(-log_slope)
product = Normal(-shift * sigma, sigma).log_prob(x).sum(-1)  # (4)
log_p = Normal(0, 1).log_prob(z).sum(-1) + log_det  # of the flow: noise, and the map
assert torch.allclose(log_p, product)
assert torch.allclose(Flow([layer], (8,)).double().log_prob(x), product)

guess, wrong = torch.zeros_like(z), []
with torch.no_grad():
    for _ in range(9):
        wrong.append((guess - x).abs().amax(0) > 1e-9)
        guess = layer.unbend(z, layer.net(guess))[0]
    assert torch.allclose(layer.inverse(z)[0], x)
left, right = plot.panels("dz / dx is not 0", "x is wrong after so many passes")
left.imshow(J != 0, cmap="Blues")
left.set(xlabel="x, dimension", ylabel="z, dimension")
right.imshow(torch.stack(wrong), cmap="Oranges")
_ = right.set(xlabel="dimension", ylabel="passes")

# %% [markdown]
# <details><summary>Answer</summary>
#
# A staircase: after $k$ passes the first $k$ dimensions are right. The last row, after eight, is
# empty.
# </details>
#
# ## 5. Assemble: MAF, and MAF turned round
#
# A stack of such layers is a **masked autoregressive flow** (Papamakarios and others,
# 2017). Between two layers the order of the dimensions is reversed: who went first and heard
# nobody goes last and hears all. (A coupling layer is such a layer, whose network gives the
# first half $\mu=0,\sigma=1$ and lets the second see the first only.)


# %% tags=["from:flows.maf.MAF"]
class MAF(Flow):
    """Masked autoregressive flow: densities in one pass, samples in D steps.

    Args:
        D: number of dimensions.
        layers: how many; the order of the dimensions turns round after each.
        hidden: units in each hidden layer of every MADE.

    References:
        Papamakarios, Pavlakou, Murray (2017). Masked autoregressive flow for density
            estimation. arXiv:1705.07057.
    """

    def __init__(self, D: int, *, layers: int = 5, hidden: Sequence[int] = (64, 64)):
        validate.at_least(1, layers=layers)
        maps = [AffineAutoregressive(D, hidden=hidden) for _ in range(layers)]
        super().__init__(alternate(maps), (D,))


# %% [markdown]
# Nothing forces us to point (3) from data to noise. Let the network read the *noise*:
# $x_d=\mu_d(z_{<d})+\sigma_d(z_{<d})\,z_d$. Then sampling takes one pass, but to find the $z$ of a
# given $x$ we must go dimension by dimension. This is the **inverse autoregressive flow** (Kingma
# and others, 2016), made for variational autoencoders, which ask only for the density of their own
# draws, whose $z$ is known.


# %% tags=["from:flows.maf.IAF"]
class IAF(Flow):
    """Inverse autoregressive flow: samples in one pass, densities in D steps.

    Args:
        D, layers, hidden: as in `MAF`, of which every layer is turned round.

    References:
        Kingma and others (2016). Improved variational inference with inverse
            autoregressive flow. arXiv:1606.04934.
    """

    def __init__(self, D: int, *, layers: int = 5, hidden: Sequence[int] = (64, 64)):
        validate.at_least(1, layers=layers)
        maps = [Inverse(AffineAutoregressive(D, hidden=hidden)) for _ in range(layers)]
        super().__init__(alternate(maps), (D,))


# %% tags=["fold"]
# @title Which number waits for which: one layer of MAF and of IAF, both ways
seed_everything(0)
points = torch.randn(16, 3)
display(schematics.passes(MAF(3), points))
schematics.passes(IAF(3), points)

# %% [markdown]
# With the same weights, the layers in opposite order, IAF *is* the inverse of MAF. What differs is
# which question is cheap: measured here over $D$. (Filling costs no more *arithmetic* than one
# pass, but its $D$ steps wait for each other, anew in every layer.)

# %%
seed_everything(0)
maf, iaf = shake(MAF(6, layers=2)), IAF(6, layers=2)
for source, target in zip(maf.layers[::2], reversed(iaf.layers[::2])):
    target.layer.load_state_dict(source.state_dict())
x = torch.randn(100, 6)
for there, back in zip(maf(x), iaf.inverse(x)):
    assert torch.allclose(there, back, atol=1e-4)


@torch.no_grad()
def milliseconds(work, repeat=5):
    """Return the shortest time of a call: the machine may do other things as well."""
    times = []
    for _ in range(repeat):
        began = time.perf_counter()
        work()
        times.append(1e3 * (time.perf_counter() - began))
    return min(times)


sizes, cost = (2, 4, 8, 16, 32, 64, 128), {}
for D in sizes:
    x = torch.randn(100, D)
    for name, model in {"MAF": MAF(D), "IAF": IAF(D)}.items():
        cost.setdefault(f"{name}, log_prob", []).append(
            milliseconds(lambda m=model, x=x: m.log_prob(x))
        )
        cost.setdefault(f"{name}, sample", []).append(
            milliseconds(lambda m=model: m.sample(100))
        )
ax = plot.curves(cost, x=sizes, xlabel="dimensions D", ylabel="ms for 100 points")
_ = ax.set(xscale="log", yscale="log", xticks=sizes, xticklabels=sizes)
for name, took in cost.items():
    print(f"{name:14s} from D = 2 to {sizes[-1]}: {took[-1] / took[0]:5.1f} times as long")
if full_run():
    assert cost["MAF, sample"][-1] > 4 * cost["MAF, log_prob"][-1]
    assert cost["IAF, log_prob"][-1] > 4 * cost["IAF, sample"][-1]

# %% [markdown]
# To train by maximum likelihood you need `log_prob` at every step: MAF. To draw much you need
# `sample`: IAF. *Parallel WaveNet* wanted both and took two networks: a slow teacher, and an
# IAF that learns to sample like it.
#
# **Question 1.** An IAF can be trained by maximum likelihood, too. What does a step on data of
# 784 dimensions cost, compared with MAF?
#
# <details><summary>Answer</summary>
#
# Filling computes in place and keeps nothing for the gradient, so our `inverse` takes 784 whole
# passes, forward and backward. In two dimensions that is two.
# </details>

# %% [markdown] tags=["notes"]
# 16 minutes for sections 4 and 5. For Predict 1 many expect all dimensions to become right together, slowly. If time is short,
# show the drawing and the curves, and leave `Autoregressive` to reading.

# %% [markdown]
# ## 6. Train: two moons
#
# Every step draws fresh data. The last panel is a check for free: map data to noise and look. **If
# the model is right, the noise is standard normal.** ($f$ is invertible, so
# $\mathrm{KL}(\text{truth}\,\|\,\text{model})=\mathrm{KL}(\text{mapped data}\,\|\,\mathcal N)$.)
# Any structure is what the model missed. (Small faults hide: see the KL.)


# %% tags=["train"]
def learn(model, truth, steps, lr=5e-3, B=512):
    """Train on fresh points of the truth, the rate on a cosine to 0: yields (step, loss)."""
    batches = list(truth.sample(steps * B).float().split(B))
    rate = lambda step: lr * (1 + math.cos(math.pi * step / steps)) / 2
    yield from train(model, batches, steps, rate)


def gap(model, truth, n=20_000):
    """Estimate KL(truth || model) in nats from n exact points of the truth."""
    x = truth.sample(n).float()
    with torch.no_grad():
        return (truth.log_prob(x) - model.log_prob(x)).mean().item()


def show_noise(model, truth, ax):
    """Draw where the model maps data, over circles that hold 39 and 86 percent of noise."""
    with torch.no_grad():
        plot.scatter(model(truth.sample(2000).float())[0], ax, ((-4, 4), (-4, 4)))
    angle = torch.linspace(0, 2 * math.pi, 100)
    for r in (1, 2):
        ax.plot(r * angle.cos(), r * angle.sin(), color=plot.BLACK, linewidth=0.8)


seed_everything(0)
moons, maf = truths["two_moons"], MAF(2)
panels = {
    "truth": lambda ax: plot.density(moons.log_prob, moons.bounds, ax, vmax=1.5),
    "MAF, 5 layers": lambda ax: plot.density(maf.log_prob, moons.bounds, ax, vmax=1.5),
    "data as noise": lambda ax: show_noise(maf, moons, ax),
}
for _ in watch(learn(maf, moons, budget(800, 10)), every=100, panels=panels):
    pass
print(f"KL(truth || MAF) = {gap(maf, moons):.3f} nats")

# %% [markdown]
# ## 7. Break it: one layer, and the wrong order
#
# One layer of MAF is (4). The banana *is* of that form, if $x_1$ goes first: $x_1$ is normal and
# $x_2$ given $x_1$ is a Gaussian around a parabola. From the other side, $x_1$ given $x_2$ has two
# humps, except in the lowest slices. So has a ring in slices through its middle.
#
# **Predict 2, before you run.** Which of the three fits will fail, and what does their noise look
# like?


# %%
class Turned:
    """A toy density with its two coordinates exchanged."""

    def __init__(self, truth):
        self.truth, self.bounds = truth, truth.bounds[::-1]

    def log_prob(self, x):
        """Return the density of the point turned back: (B, 2) -> (B,)."""
        return self.truth.log_prob(x.flip(-1))

    def sample(self, n):
        """Draw points (n, 2)."""
        return self.truth.sample(n).flip(-1)


seed_everything(0)
banana = truths["banana"]
cases = {"banana": banana, "banana, turned": Turned(banana), "ring": toy.get("ring")}
fits, layers = {}, 1
for name, truth in cases.items():
    model = MAF(2, layers=layers)
    for _ in learn(model, truth, budget(400, 10)):
        pass
    fits[name] = model, gap(model, truth)
titles = [f"{name}\nKL {kl:.3f} nats" for name, (_, kl) in fits.items()]
axes = plot.panels(*titles, *["data as noise"] * 3, columns=3, width=2.8, height=2.9)
for i, (name, truth) in enumerate(cases.items()):
    plot.density(fits[name][0].log_prob, truth.bounds, axes[i])
    show_noise(fits[name][0], truth, axes[3 + i])
if full_run() and layers == 1:
    kls = [kl for _, kl in fits.values()]
    assert min(kls[1:]) > 5 * kls[0]

# %% [markdown]
# <details><summary>Answer</summary>
#
# The turned banana and the ring fail, and their noise shows it: an affine map moves and scales a
# slice, and two humps stay two humps, with a hole between them.
# </details>
#
# **Change this line, and run the cell again.** `fits, layers = {}, 1` to `{}, 4`. Which KL falls,
# and is the hole gone from the noise?
#
# <details><summary>Answer</summary>
#
# All three: the turned banana's falls below 0.05 nats, the ring's to about a tenth; the holes
# are filled. Every layer sees what is left from the other direction.
# </details>
#
# ## 8. The repair: curves instead of lines
#
# Depth bends by detours. Why not let $\tau$ bend? We want curves that are increasing, flexible,
# smooth (no jump of the slope), and whose **inverse is as exact and cheap** as the curve itself.
# Polynomials fail at the first wish or the last, piecewise lines at the third. **Rational-quadratic
# splines** (Gregory and Delbourgo, 1982; as flow layers: Durkan and others, 2019) fulfil all four.
#
# Choose a box $[-B, B]^2$; outside of it the curve is the identity. Inside, cut it into $K$ bins by
# knots $(x_k, y_k)$ ($k$ counts knots now), both coordinates increasing, with slopes $\delta_k>0$.
# A network says $3K-1$ arbitrary numbers $a$, which become
#
# $$\text{widths}=2B\,\mathrm{softmax}(a_{1..K}),\quad
#   \text{heights}=2B\,\mathrm{softmax}(a_{K+1..2K}),\quad
#   \delta = \mathrm{softplus}(a_{2K+1..3K-1}),\quad \delta_0=\delta_K=1. \tag{6}$$
#
# Slope 1 at both ends: no kink at the border. (In the code bins and slopes keep a thousandth, so
# that none can vanish, and $a=0$ means slope 1.) Tiny example: $K=2$, $B=1$ and
# $a_{1,2}=(0,\log 3)$ give the shares $\tfrac14,\tfrac34$, the widths $\tfrac12,\tfrac32$, and a
# knot at $x=-\tfrac12$ (printed as $-0.499$: the thousandth).


# %% tags=["from:flows.spline.bins"]
def bins(c: Tensor, bound: float) -> tuple[Tensor, Tensor]:
    """Cut both sides of the box [-bound, bound] into K parts, by a softmax: (6).

    Args:
        c: any numbers (3 K - 1, ...); the first K are about widths, the next about heights.
        bound: half of the side of the box.

    Returns:
        Widths and heights (2, K, ...), and where every bin ends, (2, K, ...).
    """
    K = (len(c) + 1) // 3
    parts = c[: 2 * K].unflatten(0, (2, K)).softmax(1)
    sizes = 2 * bound * (LEAST + (1 - K * LEAST) * parts)
    return sizes, sizes.cumsum(1) - bound


# %% [markdown]
# Now the curve in bin $k$. Write $t\in[0,1]$ for the fraction of the bin that lies left of $x$, $w$
# and $h$ for its width and height, $s=h/w$ for its steepness, $x_0,y_0$ for its left knot and now
# $\delta_0,\delta_1$ for the slopes at its ends. Take
#
# $$y = y_0 + h\,\frac{s\,t^2+\delta_0\,t(1-t)}
#   {s+(\delta_0+\delta_1-2s)\,t(1-t)}. \tag{7}$$
#
# *It hits both knots:* at $t=0$ the fraction is $0/s$, at $t=1$ it is $s/s$. *Its slope*, by the
# quotient rule (every step stands after the summary), is
#
# $$\frac{dy}{dx} = \frac{s^2\bigl[\delta_1t^2+2s\,t(1-t)+\delta_0(1-t)^2\bigr]}
#   {\bigl[s+(\delta_0+\delta_1-2s)\,t(1-t)\bigr]^2}. \tag{8}$$
#
# No term of the bracket is negative and one is positive. Below stands the square of
# $s(1-2t(1-t))+(\delta_0+\delta_1)t(1-t)>0$: **the curve is increasing, whatever the numbers**.
# At $t=0$ the slope is $s^2\delta_0/s^2=\delta_0$, at $t=1$ it is $\delta_1$: neighbouring bins
# agree at their knot, in value and in slope.
#
# Tiny example: $s=1$, $\delta_0=\delta_1=2$. At $t=\tfrac12$ the fraction is
# $\tfrac34/\tfrac32=\tfrac12$, the slope $\tfrac32/\tfrac94=\tfrac23$: steep ends, a flat middle.
# In the code, `find_bin` looks up the bin of each point and its slopes.


# %% tags=["from:flows.spline.log_slope"]
def log_slope(t: Tensor, s: Tensor, d0: Tensor, d1: Tensor) -> Tensor:
    """Return log dy/dx at the fraction t of a bin of steepness s: (8)."""
    u, v = t * (1 - t), 1 - t
    above = s * s * (d1 * t * t + 2 * s * u + d0 * v * v)
    below = s + (d0 + d1 - 2 * s) * u
    return torch.log(above / (below * below))


# %% tags=["from:flows.spline.spline"]
def spline(x: Tensor, c: Tensor, bound: float) -> tuple[Tensor, Tensor]:
    """Map x through the curve with parameters c, and give its log slope: (7), (8).

    Args:
        x: (...,).
        c: (..., 3 K - 1).
        bound: outside of [-bound, bound] the map is the identity.

    Returns:
        y and log dy/dx, both (...,).
    """
    at, c = x.clamp(-bound, bound), c.movedim(-1, 0).contiguous()  # points last: faster
    x0, y0, w, h, d0, d1 = find_bin(at, c, bound, axis=0)
    s, t = h / w, (at - x0) / w
    u = t * (1 - t)
    y = y0 + h * (s * t * t + d0 * u) / (s + (d0 + d1 - 2 * s) * u)
    inside = x == at
    return torch.where(inside, y, x), torch.where(inside, log_slope(t, s, d0, d1), 0.0)


# %% [markdown]
# **The inverse.** Given $y$, let $v=(y-y_0)/h$ be the fraction of the bin's height. (7) says
# $v\,[s+e\,t(1-t)] = st^2+\delta_0t(1-t)$: a quadratic equation for $t$. Sort by powers,
#
# $$a\,t^2+b\,t-s\,v=0,\qquad a = s-\delta_0+e\,v,\qquad b = \delta_0-e\,v,$$
#
# with $e=\delta_0+\delta_1-2s$ (this $a$ is new). The schoolbook root $(-b+\sqrt{b^2+4asv})/(2a)$
# is the right one ($t=0$ at $v=0$), and useless in floating point where the curve is nearly
# straight: there $a\approx0$, and it divides the difference of nearly equal numbers by almost
# nothing. Multiplied above and below by $b+\sqrt{\cdot}$, it becomes $2sv/(b+\sqrt{\cdot})$. That
# is good where $b>0$; where $b<0$, in bins that end much steeper than $s$, its sum cancels. And
# $b^2+4asv$ cancels where $a<0$. All of this goes away with the number $p=\delta_0(1-v)-\delta_1v$.
# Insert $e$: $b=p+2sv$ and $a=s(1-2v)-p$, so that $b^2+4asv=p^2+4s^2v(1-v)$, and with
# $q=|p|+\sqrt{p^2+4s^2v(1-v)}$
#
# $$t=\frac{2sv}{2sv+q}\ \text{ if } p>0,\qquad
#   t=\frac{q}{q+2s(1-v)}\ \text{ otherwise.} \tag{9}$$
#
# (The first is $2sv/(b+\sqrt{\cdot})$. For $p\le0$ put $p+\sqrt{\cdot}=4s^2v(1-v)/q$ into it.)
# Every sum is of positive terms: nothing cancels but in $p$ itself, and $t$ lies in $[0,1]$ of
# itself. `unspline` is (9), and (8) with its sign turned.


# %% tags=["from:flows.spline.fraction"]
def fraction(v: Tensor, s: Tensor, d0: Tensor, d1: Tensor) -> Tensor:
    """Return the fraction t of a bin's width where its height has the fraction v: (9).

    The sign of p chooses the form of the root in which every sum is of positive terms.

    Args:
        v: (...,); what rounding puts outside of [0, 1] counts as 0 or 1.
        s, d0, d1: steepness of the bins, and slopes at their ends (...,).
    """
    v = v + (v.clamp(0, 1) - v).detach()  # moves the value, keeps the derivative
    p = d0 * (1 - v) - d1 * v
    q = p.abs() + (p * p + 4 * s * s * v * (1 - v)).sqrt()
    first = p > 0
    rest = 2 * s * torch.where(first, v, 1 - v)
    return torch.where(first, rest, q) / (rest + q)


# %% [markdown]
# **Question 2.** A straight bin, $s=\delta_0=\delta_1=1$, and $v=\tfrac12$: which $t$ do the
# schoolbook and (9) give?
#
# <details><summary>Answer</summary>
#
# $e=0$, $a=0$, $b=1$: the schoolbook divides 0 by 0. In (9) $p=0$ and $q=1$, so
# $t=1/(1+1)=\tfrac12$.
# </details>
#
# The next cell checks all this. The figure shows the three roots' errors in float32: left for bins
# that become straighter, right for bins that end steeper and steeper (the first is straight: its
# $0/0$ counts as an error of 1).

# %%
seed_everything(0)
half, one, two = torch.tensor([0.5, 1.0, 2.0])
print("knots:", bins(torch.tensor([0, math.log(3), 0, 0, 0]), 1.0)[1][0].tolist())
print(f"slope in the middle: {log_slope(half, one, two, two).exp():.4f}")
print(f"t of a straight bin: {fraction(half, one, one, one):.4f}")
c, x = torch.randn(500, 3 * 6 - 1).double(), (2 * torch.randn(500)).double()
x.requires_grad_()
y, log_dy = spline(x, c, bound=3.0)
assert torch.allclose(torch.autograd.grad(y.sum(), x)[0], log_dy.exp())
assert torch.allclose(unspline(y, c, bound=3.0)[0], x, atol=1e-10)


def errors_of_t(s, d0, d1):
    """Return the largest float32 error of t by each form, for bins (n,) in float64."""
    t = torch.linspace(0.05, 0.95, 200).double()[:, None]
    u, e = t * (1 - t), d0 + d1 - 2 * s
    bin_ = (s * t * t + d0 * u) / (s + e * u), s, d0, d1
    v, s, d0, d1 = (number.float() for number in bin_)
    a, b = s - d0 + (d0 + d1 - 2 * s) * v, d0 - (d0 + d1 - 2 * s) * v
    root = (b * b + 4 * a * s * v).clamp_min(0).sqrt()
    forms = {"schoolbook": (root - b) / (2 * a), "multiplied": 2 * s * v / (b + root)}
    forms["(9), by the sign"] = fraction(v, s, d0, d1)
    wrong = {name: (got - t).abs().nan_to_num(1.0).amax(0) for name, got in forms.items()}
    return {name: error.clamp(1e-8, 1.0) for name, error in wrong.items()}


eps, end = torch.logspace(-7, -0.5, 60).double(), torch.logspace(0, 4, 60).double()
ones = torch.ones(60).double()
straight = errors_of_t(ones, 1 + eps, 1 - 0.5 * eps)
steep = errors_of_t(ones, ones, end)
left, right = plot.panels("nearly straight", "steep at one end", width=3.8)
plot.curves(
    straight, left, eps, xlabel="how far from straight", ylabel="largest error of t"
)
plot.curves(steep, right, end, xlabel="slope at the right end", ylabel="largest error of t")
for ax, errors in ((left, straight), (right, steep)):
    ax.set(xscale="log", yscale="log")
    print({name: f"{error.max():.0e}" for name, error in errors.items()})
assert max(errors["(9), by the sign"].max() for errors in (straight, steep)) < 2e-6
assert straight["schoolbook"].max() > 1e-3
assert steep["multiplied"].max() > 1e-5

# %% [markdown] tags=["notes"]
# 14 minutes for sections 6 to 8. A usual wrong answer to Predict 2: only the ring fails, "a banana is a banana". Question for the
# room: why not a polynomial? (Its inverse has no formula, and it need not increase.) If time is short, leave the algebra from (7)
# to (8) to reading, and show the two panels of roots.

# %% [markdown]
# ## 9. Play: bend one curve
#
# Four bins, three panels: the curve with its knots, its slope, and the density of $x$ that
# it makes from standard normal noise, $p(x)=\mathcal N(y(x))\,y'(x)$. Move `height` (how
# much of the range the second bin takes) and `slope` (at the middle knot). It starts with
# two humps: *find them in the curve. Then turn the gap into the only hump.* What happens to
# the density outside of the dashed box?


# %%
def draw_spline(height, slope):
    """Show a spline of four bins, its slope, and the density that it makes."""
    c = torch.zeros(11)
    c[5], c[9] = height, slope  # raw numbers, as a network would say them
    x = torch.linspace(-4, 4, 600)
    y, log_dy = spline(x, c.expand(600, -1), bound=2.5)
    at, values = bins(c[:, None], 2.5)[1][:, :, 0]  # right ends of the bins
    one, two, three = plot.panels("the curve", "its slope", "density of x")
    one.plot(x, y, color=plot.BLUE)
    one.plot(at, values, "o", color=plot.ORANGE, markersize=5)
    two.plot(x, log_dy.exp(), color=plot.BLUE)
    density = (Normal(0, 1).log_prob(y) + log_dy).exp()
    three.plot(x, density, color=plot.BLUE, label="spline")
    three.plot(x, Normal(0, 1).log_prob(x).exp(), color=plot.GREY, label="identity")
    for ax, name in ((one, "y"), (two, "dy/dx"), (three, "p(x)")):
        for edge in (-2.5, 2.5):
            ax.axvline(edge, color=plot.GREY, linestyle="--", linewidth=0.8)
        ax.set(xlabel="x", ylabel=name, ylim=(-4, 4) if ax is one else (0, None))
    three.legend()


play(draw_spline, height=(-3.0, 3.0, 0.25, 0.0), slope=(-4.0, 4.0, 0.5, -3.0))

# %% [markdown]
# The humps are the two steep pieces, left and right of the middle knot, where the curve is
# almost flat. Move `slope` to 1: the knot is now the steepest place, and the gap the only
# hump. Outside of the box the curve is the identity, so the density there is the base's,
# whatever the network says: **bring data into the box first**, as the affine layer of `SplineFlow` does.
# Its layers, `SplineAutoregressive`, bend by `spline` and unbend by `unspline`.


# %% tags=["from:flows.spline.SplineFlow"]
class SplineFlow(Flow):
    """Spline flow: one affine layer brings the data into the box, splines do the rest.

    Densities in one pass, samples in D steps, as in `MAF`.

    Args:
        D: number of dimensions.
        layers: of splines; the order of the dimensions turns round after every layer.
        bins, bound, hidden: of every `SplineAutoregressive`.

    References:
        Durkan, Bekasov, Murray, Papamakarios (2019). Neural spline flows. arXiv:1906.04032.
    """

    def __init__(
        self, D: int, *, layers=2, bins=16, bound=4.0, hidden: Sequence[int] = (64, 64)
    ):
        validate.at_least(1, layers=layers)
        sizes = {"bins": bins, "bound": bound, "hidden": hidden}
        first = IntoTheBox(D, hidden=hidden)
        splines = [SplineAutoregressive(D, **sizes) for _ in range(layers)]
        super().__init__(alternate([first, *splines]), (D,))


# %% [markdown]
# The spirals, live: a slice through the middle has five or six humps.

# %% tags=["train"]
seed_everything(0)
spirals, flow = truths["spirals"], SplineFlow(2)
assert torch.allclose(flow.inverse(flow(torch.ones(3, 2))[0])[0], torch.ones(3, 2))
panels = {
    "truth": lambda ax: plot.density(spirals.log_prob, spirals.bounds, ax, vmax=0.25),
    "SplineFlow": lambda ax: plot.density(flow.log_prob, spirals.bounds, ax, vmax=0.25),
    "data as noise": lambda ax: show_noise(flow, spirals, ax),
}
for _ in watch(learn(flow, spirals, budget(800, 10)), every=100, panels=panels):
    pass
print(f"KL(truth || SplineFlow) = {gap(flow, spirals):.3f} nats")

# %% [markdown]
# ## 10. The family on the same four densities, at equal time
#
# Every fit gets the same **second of the processor**: a trial measures what a step takes, and the
# number of steps follows. The planar flow finds its noise by a search, the continuous flow of the
# next unit by an ODE, and a spline *coupling* bends half of the dimensions. (Numbers behind names
# count layers; "1 + 2": one affine, two of splines.)

# %% tags=["train"]
seconds = budget(1000, 20) / 1000  # for each fit
table, fitted = {}, {}
print(f"{'':20s}{'parameters':>11s}{'ms a step':>11s}{'steps':>7s}{'seconds':>9s}")


def spend(model, truth, steps):
    """Train for so many steps; return the seconds of the processor that it took."""
    stream, began = learn(model, truth, steps), time.process_time()
    for _ in stream:
        pass
    return time.process_time() - began


def enter(kind, make):
    """Fit a fresh model to each density for the same time; enter the gaps in the table."""
    seed_everything(0)
    spend(make(), moons, 2)  # warm up
    pace = spend(make(), moons, 8) / 8
    steps, took, table[kind] = max(5, round(seconds / pace)), [], []
    for name, truth in truths.items():
        seed_everything(0)
        fitted[kind, name] = model = make()
        took.append(spend(model, truth, steps))
        table[kind].append(gap(model, truth))
    size = sum(weight.numel() for weight in model.parameters())
    mean = sum(took) / len(took)
    print(f"{kind:20s}{size:11,d}{1e3 * pace:11.1f}{steps:7d}{mean:9.2f}")


enter("planar, 24", lambda: PlanarFlow(2, layers=24))
enter("RealNVP, 8", lambda: RealNVP(2))
enter("MAF, 5", lambda: MAF(2))

# %% tags=["train"]
enter("IAF, 5", lambda: IAF(2))
enter("spline coupling, 4", lambda: SplineCouplingFlow(2, bins=8))

# %% tags=["train"]
enter("spline, 1 + 2", lambda: SplineFlow(2))
enter("continuous", lambda: ContinuousFlow(2, solver=Fixed(rk4_step, 4)))

# %% tags=["fold"]
# @title The family at equal time, and what each makes of the spirals
print(f"{f'KL in nats, {seconds:g} s':20s}" + "".join(f"{name:>14s}" for name in names))
for kind, values in table.items():
    print(f"{kind:20s}" + "".join(f"{kl:14.3f}" for kl in values))
titles = [f"{kind}\nKL {kls[2]:.3f} nats" for kind, kls in table.items()]
for ax, kind in zip(plot.panels(*titles, columns=4, width=2.4, height=2.7), table):
    plot.density(fitted[kind, "spirals"].log_prob, spirals.bounds, ax, vmax=0.25)
for kind in ("MAF, 5", "IAF, 5", "spline, 1 + 2"):
    print(kind, protocols.abilities(fitted[kind, "banana"]))
if full_run():
    affine = ("RealNVP, 8", "MAF, 5", "IAF, 5")
    for i in (0, 2, 3):  # all but the banana
        assert table["spline, 1 + 2"][i] < 0.8 * min(table[kind][i] for kind in affine)

# %% [markdown]
# Where the conditionals are Gaussian (the banana, in its order), the affine layers of RealNVP, MAF
# and IAF are ahead of the splines. Where slices have several humps (the other three), both spline
# flows are far ahead of them. The planar and the continuous flow get few steps, too few to judge
# them. (With a second seed, and with four seconds, the order of splines and affine flows stays,
# that among the affine flows does not.)

# %% [markdown] tags=["notes"]
# 14 minutes for sections 9 and 10. Let somebody else hold the slider. Before the table ask which flow gets the most steps into
# its second, and which the lowest KL on the banana. Wrong answer to expect: the spline, everywhere.

# %% [markdown]
# ## Summary
#
# - MADE plus an increasing curve per dimension is a flow (1) with a triangular Jacobian
#   (2). With straight lines it is a product of Gaussian conditionals (4).
# - **MAF** reads data: density in one pass, samples in $D$ steps a layer. **IAF** is the reverse.
# - One affine layer cannot split a hump. Depth repairs it by detours, a **spline** directly.
# - Rational-quadratic splines: increasing for any numbers, slope (8) continuous, inverse (9).
# - Map data to noise and *look*.
#
# | quantity | unit |
# |---|---|
# | $\log\sigma_d$, log slope, $\log\lvert\det\rvert$ | nats |
# | loss, entropy, KL | nats per point |
# | $x$, $B$, widths, heights | the data's own |
# | time of a fit | seconds of the processor |
#
# **Exercises:** open them with `gdm start flows/maf`.
#
# ## References
#
# - Kingma and others (2016). *Improved variational inference with inverse autoregressive flow.*
#   arXiv:1606.04934.
# - Papamakarios, Pavlakou, Murray (2017). *Masked autoregressive flow for density estimation.*
#   arXiv:1705.07057.
# - Durkan, Bekasov, Murray, Papamakarios (2019). *Neural spline flows.* arXiv:1906.04032.
# - Gregory, Delbourgo (1982). *Piecewise rational quadratic interpolation to monotonic
#   data.* IMA Journal of Numerical Analysis 2.
# - Van den Oord and others (2018). *Parallel WaveNet.* arXiv:1711.10433.

# %% [markdown]
# ## Further: the network, and how to invert it by one pass of arithmetic
#
# The network of every layer is MADE's, with one order for ever.
#
# What should it say about a line? Where $\sigma$ is a twentieth, a small step of $\mu$ moves $z$ by
# twenty times as much, and layers behind it may magnify that again; a step of $-\mu/\sigma$ moves $z$ by
# itself. A flow that says $\mu$, cuts $\log\sigma$ off hard and starts as the identity learns the two moons more slowly:
# [a benchmark](../../tests/benchmarks/moons.py) takes these apart, one by one.


# %% tags=["from:flows.maf.Conditioner"]
class Conditioner(MaskedMLP):
    """A MADE in the natural order: numbers for d from x_<d only.

    One order for ever, so the masks are made once and kept.

    Args:
        D: number of dimensions.
        hidden: number of units in each hidden layer.
        outputs: numbers per dimension.
    """

    def __init__(self, D: int, *, hidden: Sequence[int], outputs: int):
        super().__init__(D, hidden=hidden, outputs=outputs)
        self.m = degrees(torch.arange(D), hidden)
        *inner, out = masks(self.m)
        for i, mask in enumerate([*inner, out.repeat_interleave(outputs, dim=0)]):
            self.register_buffer(f"mask{i}", mask.float(), persistent=False)

    @cached_property
    def ready(self) -> list[list[int]]:
        """How many units of each layer look at x_<=d only: `ready[i][d]`, d = 0..D."""
        least = len(self.m[0]) + 1
        return [m.bincount(minlength=least).cumsum(0).tolist() for m in self.m]

    def masked_weights(self, m: Sequence[Tensor] = ()) -> list[Tensor]:
        """Return the weights with everything forbidden set to 0, layer by layer."""
        kept = (getattr(self, f"mask{i}") for i in range(len(self.layers)))
        return [layer.weight * mask for layer, mask in zip(self.layers, kept)]

    def forward(self, x: Tensor) -> Tensor:
        """Return the numbers for every dimension: (B, D) -> (B, D, outputs)."""
        x = validate.points(x, len(self.m[0]), self.mask0, least=0)
        *inner, out = zip(self.masked_weights(), [layer.bias for layer in self.layers])
        for weight, bias in inner:
            x = F.linear(x, weight, bias).relu_()  # in place: half the memory
        return F.linear(x, *out).unflatten(-1, (-1, self.outputs))


# %% [markdown]
# The iteration of section 4 wastes much: pass $d$ computes every unit anew, those that were right
# already, and those that cannot be right yet. As in MADE's sampling, a hidden unit of degree $k$ is
# final once $x_1..x_k$ are known. Compute each unit when its time comes, and read only units that
# are finished: all $D$ steps together multiply no more numbers than *one* ordinary pass.


# %% tags=["from:flows.maf.by_filling"]
@torch.no_grad()
def by_filling(layer: Autoregressive, z: Tensor) -> tuple[Tensor, Tensor]:
    """Invert as MADE samples: once x_d is known, the units that waited for it, and no more.

    In h, features are rows and points are columns: what is finished lies in one piece.
    """
    net, x, log_det = layer.net, torch.empty_like(z), z.new_zeros(len(z))
    weights, biases = net.masked_weights(), [part.bias[:, None] for part in net.layers]
    h = [z.new_empty(part.in_features, len(z)) for part in net.layers]
    for d in range(z.shape[1]):
        rows, seen = slice(d * net.outputs, (d + 1) * net.outputs), net.ready[-1][d]
        c = torch.addmm(biases[-1][rows], weights[-1][rows, :seen], h[-1][:seen])
        h[0][d], log_slope = layer.unbend(z[:, d], c.T)
        x[:, d] = h[0][d]
        log_det += log_slope
        for i in range(1, len(h)):
            rows, seen = slice(*net.ready[i][d : d + 2]), net.ready[i - 1][d + 1]
            if rows.start < rows.stop:  # units that waited for x_d
                fresh, W = h[i][rows], weights[i - 1][rows, :seen]
                torch.addmm(biases[i - 1][rows], W, h[i - 1][:seen], out=fresh).relu_()
    return x, log_det


# %%
seed_everything(0)
wide = shake(AffineAutoregressive(64), 0.02)
noise = torch.randn(100, 64)
with torch.no_grad():
    for quick, slow in zip(by_filling(wide, noise), by_passes(wide, noise)):
        assert torch.allclose(quick, slow, atol=1e-3)
for way in (by_passes, by_filling):
    print(f"{way.__name__:10s} {milliseconds(lambda w=way: w(wide, noise)):6.1f} ms")

# %% [markdown]
# ## Further: the slope of the spline, and the rest of its code
#
# In (7), call the numerator $N$ and the denominator $M$, so $y=y_0+hN/M$ and
# $\frac{dy}{dx}=\frac hw\frac{N'M-NM'}{M^2} = s\,\frac{N'M-NM'}{M^2}$ with
# $N'=2st+\delta_0(1-2t)$ and $M'=e(1-2t)$, $e=\delta_0+\delta_1-2s$. Multiply out:
#
# $$\begin{aligned}N'M-NM' &= 2s^2t+\delta_0 s(1-2t)
#   + e\bigl[2st\cdot t(1-t)+\delta_0(1-2t)t(1-t)-st^2(1-2t)-\delta_0t(1-t)(1-2t)\bigr]\\
#   &= 2s^2t+\delta_0s(1-2t)+e\,s\,t^2 .\end{aligned}$$
#
# The bracket shrank because $2t^2(1-t)-t^2(1-2t)=t^2$. Insert $e$: the coefficient of
# $\delta_1$ is $st^2$, that of $\delta_0$ is $s(1-2t+t^2)=s(1-t)^2$, and
# $2s^2t-2s^2t^2=2s^2t(1-t)$ remains: (8).
#
# Now the code: slopes, the bin of a point, the way back, and the layer.


# %% tags=["from:flows.spline.slopes"]
def slopes(c: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
    """Return the slopes (...,) at both ends of bin k: softplus inside, 1 at the border."""
    K = (len(c) + 1) // 3
    border = torch.zeros_like(c[:1])  # 0 means slope 1
    a = torch.cat([border, c[2 * K :], border]).gather(0, torch.stack([k, k + 1]))
    return (F.softplus(a + UNIT_SLOPE) + LEAST).unbind(0)


# %% tags=["from:flows.spline.find_bin"]
def find_bin(at: Tensor, c: Tensor, bound: float, axis: int) -> tuple[Tensor, ...]:
    """Return x0, y0, width, height and both slopes of the bin in which each point lies.

    Args:
        at: points (...,), positions (axis 0) or values (axis 1).
        c: parameters (3 K - 1, ...).
        bound: half of the side of the box.
        axis: 0 or 1.
    """
    sizes, ends = bins(c, bound)
    k = (at >= ends[axis, :-1]).sum(0)
    pick = k.expand(2, 1, *k.shape)
    size, end = sizes.gather(1, pick)[:, 0], ends.gather(1, pick)[:, 0]
    return *(end - size), *size, *slopes(c, k)


# %% tags=["from:flows.spline.unspline"]
def unspline(y: Tensor, c: Tensor, bound: float) -> tuple[Tensor, Tensor]:
    """Map y back by the root of a quadratic, (9): returns x and log dx/dy, both (...,)."""
    at, c = y.clamp(-bound, bound), c.movedim(-1, 0).contiguous()
    x0, y0, w, h, d0, d1 = find_bin(at, c, bound, axis=1)
    s = h / w
    t = fraction((at - y0) / h, s, d0, d1)
    inside = y == at
    x = torch.where(inside, x0 + t * w, y)
    return x, torch.where(inside, -log_slope(t, s, d0, d1), 0.0)


# %% tags=["from:flows.spline.SplineAutoregressive"]
class SplineAutoregressive(Autoregressive):
    """Every z_d is a spline of x_d, whose knots a MADE computes from x_<d.

    Args:
        D: number of dimensions.
        bins: K per spline.
        bound: half of the side of the box outside of which the map is the identity.
        hidden: units in each hidden layer.
    """

    def __init__(self, D: int, *, bins=8, bound=5.0, hidden: Sequence[int] = (64, 64)):
        validate.at_least(1, D=D, bins=bins, hidden=hidden)
        super().__init__(D, hidden=hidden, outputs=3 * bins - 1)
        self.bound = bound
        zero_last(self.net)

    def bend(self, x: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        """Apply the splines: x (...,), c (..., 3 K - 1)."""
        return spline(x, c, self.bound)

    def unbend(self, z: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        """Invert the splines: z (...,), c (..., 3 K - 1)."""
        return unspline(z, c, self.bound)


# %% [markdown]
# Outside of the box both directions are the identity, and inside they undo each other.
#
# **Question 3.** A spline's *second* derivative jumps at every knot, and the network uses
# rectified units. Is the model's density continuous? Is it smooth?
#
# <details><summary>Answer</summary>
#
# The density contains the slope (8), which is continuous at the knots, and the network's
# numbers are continuous in $x_{<d}$: the density is continuous. Its gradient (the score)
# is not: it jumps at knots and at the kinks of the rectified units. Lines instead of
# splines inside the bins would make the *density* itself jump.
# </details>

# %%
numbers = torch.randn(200, 3 * 5 - 1, generator=generator(0)).double()
line = torch.linspace(-4, 4, 200).double()
there, up = spline(line, numbers, bound=3.0)
back, down = unspline(there, numbers, bound=3.0)
assert torch.allclose(back, line) and torch.allclose(up, -down)
assert (there == line)[line.abs() > 3].all()
print(f"largest difference after both ways: {(back - line).abs().max():.0e}")

# %% [markdown]
# ## Further: splines in coupling form
#
# Half of the dimensions are bent, and both directions take one pass. In the table of section 10
# it is the row "spline coupling".


# %% tags=["from:flows.spline.SplineCoupling"]
class SplineCoupling(nn.Module):
    """The first half of x stays; splines that depend on it bend the other half.

    Args:
        D: number of dimensions, at least 2.
        bins, bound, hidden: as in `SplineAutoregressive`.
    """

    def __init__(self, D: int, *, bins=8, bound=5.0, hidden: Sequence[int] = (64, 64)):
        super().__init__()
        validate.at_least(1, D=D, bins=bins, hidden=hidden)
        if D < 2:
            raise ValueError(f"a coupling needs two dimensions or more, got D = {D}")
        self.D, self.split, self.bound = D, D // 2, bound
        sizes = (self.split, *hidden, (D - self.split) * (3 * bins - 1))
        self.net = zero_last(mlp(sizes, nn.ReLU))

    def couple(self, x: Tensor, bend: Callable) -> tuple[Tensor, Tensor]:
        """Apply `bend`, `spline` or `unspline`, to the second half of x (B, D)."""
        x = validate.points(x, self.D, self.net, least=0)
        first, second = x.tensor_split((self.split,), dim=-1)
        c = self.net(first).unflatten(-1, (second.shape[-1], -1))
        second, log_slope = bend(second, c, self.bound)
        return torch.cat([first, second], dim=-1), log_slope.sum(-1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Map x (B, D) to z (B, D) and log |det dz/dx| (B,)."""
        return self.couple(x, spline)

    def inverse(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Map z (B, D) to x (B, D) and log |det dx/dz| (B,)."""
        return self.couple(z, unspline)


# %%
seed_everything(0)
coupling = shake(SplineCoupling(6), 0.1).double()
some = torch.randn(50, 6).double()
moved, grown = coupling(some)
returned, shrunk = coupling.inverse(moved)
assert torch.allclose(returned, some) and torch.allclose(grown, -shrunk)
assert torch.equal(moved[:, :3], some[:, :3])  # the first half stays
J = jacobian(lambda x: coupling(x[None])[0][0], some[0])
assert torch.allclose(grown[0], J.det().log())
print("the first half stays, the inverse inverts, the log-determinant is autograd's")

# %% [markdown]
# ## Further: what depth buys
#
# The next layer sees the leftover structure from the other direction and bends it further. (If $\mu$
# were linear and $\sigma$ constant, any number of layers would be one linear map, and the density a
# Gaussian.) The figure shows equal *steps*: a step of eight layers does eight times the arithmetic.
# What eight layers buy over four, it cannot say: with one seed the ring's KL rose from 0.15 to 0.19, with
# another it fell from 0.29 to 0.05. These are 300 steps, at one rate for all depths, and one seed: the
# figure shows what two and four layers buy, not where it ends.

# %%
depths, rows = (1, 2, 4, 8), {}
for name in ("banana, turned", "ring"):
    for depth in depths:
        seed_everything(0)
        model = MAF(2, layers=depth, hidden=(32, 32))
        for _ in learn(model, cases[name], budget(300, 5), lr=1e-2):
            pass
        rows.setdefault(name, []).append(gap(model, cases[name]))
ax = plot.curves(rows, x=depths, xlabel="layers of MAF", ylabel="KL (nats)")
_ = ax.set(yscale="log", xticks=depths)
for name, values in rows.items():
    print(f"{name:16s}" + "".join(f"{kl:8.3f}" for kl in values))

# %% [markdown]
# ## Further: every toy density of the course
#
# The same `SplineFlow`, 2,500 steps (6,000 for the grid) by `gdm train flows/spline-...`, one model
# per density. Above: the truth. Below: the model, on the same scale of ink, with its KL as measured
# on 100,000 exact points. (The seconds are those of the clock, on the machine that the card names
# and with whatever else it had to do.)

# %%
recipes = {name: f"flows/spline-{name.replace('_', '-')}" for name in toy.names()}
there = {name: recipe for name, recipe in recipes.items() if checkpoints.available(recipe)}
cards = {name: checkpoints.card(recipe) for name, recipe in there.items()}
kls = {name: card["figures"][0]["value"] for name, card in cards.items()}
for begin in range(0, len(there), 6):
    some = [*there][begin : begin + 6]
    titles = [name.replace("_", " ") for name in some]
    titles += [f"KL {kls[name]:.4f}" for name in some]
    axes = plot.panels(*titles, columns=len(some), width=1.75, height=1.9)
    for top, bottom, name in zip(axes, axes[len(some) :], some):
        truth, model = toy.get(name), checkpoints.load(there[name])
        plot.density(truth.log_prob, truth.bounds, top)
        darkest = top.images[0].get_clim()[1]
        plot.density(model.log_prob, truth.bounds, bottom, vmax=darkest)
for name, card in cards.items():
    error, seconds = card["figures"][0]["error"], card["seconds"]
    print(f"{name:16s} KL {kls[name]:.4f} +- {error:.4f} nats, {seconds:.0f} s", end="")
    print(f" on {card['device']}")
for name, recipe in recipes.items():
    if name not in there:
        print(f"{name}: not yet measured; 'gdm train {recipe}' makes it")

# %% [markdown]
# ## Further: patches instead of numbers, attention instead of masks (TarFlow)
#
# The masks of MADE know nothing of pictures, and the 64 pixels of a small digit take 64 steps to
# draw, in every layer. **TarFlow** (Zhai and others, 2024, arXiv:2412.06329) leaves (1) to (5) as
# they are, but reads $x_i$ as the $i$-th *patch* of the picture, a vector: sixteen patches of
# $2\times2$ pixels take sixteen steps. $\mu_i(x_{<i})$ and $\sigma_i(x_{<i})$ are vectors too, and
# $z_i=(x_i-\mu_i)/\sigma_i$ goes number by number. A causal transformer says them, with the blocks
# of [GPT](../autoregressive/gpt.ipynb). It may be told a label $y$: then all of this is
# $\log p(x\mid y)$.


# %% tags=["from:flows.patches.PatchConditioner"]
class PatchConditioner(nn.Module):
    """A causal transformer: mu and log sigma of patch i from the patches before it.

    It says 0 at first. The first place sees nothing but the label.

    Args:
        T, D: how many patches, and numbers in each.
        width, depth, heads: of the transformer, whose blocks are those of `GPT`.
        classes: how many labels y can be given, 0 for none.
    """

    def __init__(self, T: int, D: int, *, width: int, depth: int, heads=4, classes=0):
        super().__init__()
        self.embed = nn.Linear(D, width)
        self.position = nn.Parameter(torch.randn(T, width) / 2)
        self.label = nn.Embedding(max(classes, 1), width)  # stands at every place
        nn.init.normal_(self.label.weight, std=0.5)
        self.blocks = nn.ModuleList(Block(width, heads=heads) for _ in range(depth))
        self.norm, self.head = nn.LayerNorm(width), zero_last(nn.Linear(width, 2 * D))

    def see(self, x: Tensor) -> Tensor:
        """Embed patches (B, t, D); what lies beyond +-100 is just far out."""
        return self.embed(x.clamp(-100, 100))

    def place(self, seen: Tensor, y: Tensor, i: int = 0) -> Tensor:
        """Add labels, and where each patch stands, from place i on: (B, t, width)."""
        return seen + self.label(y)[:, None] + self.position[i : i + seen.shape[1]]

    def read(self, h: Tensor) -> tuple[Tensor, Tensor]:
        """Return mu and log sigma, within +-2: (B, t, width) -> two (B, t, D)."""
        mu, a = precise(self.head(self.norm(h))).chunk(2, -1)
        return mu, bounded(a)

    def forward(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Return mu and log sigma of all patches, in one pass: (B, T, D), (B,) -> two."""
        seen = self.see(x[:, :-1])  # place i sees the patches before i, the first none
        h = self.place(F.pad(seen, (0, 0, 1, 0)), y)
        for block in self.blocks:
            h = block(h)
        return self.read(h)


# %% [markdown]
# The first place sees no patch, only the label (and which place it is). Unlike MAF's, and like that
# of the spline layers, the network ends in a layer that begins at 0, so that a new layer of the flow
# is the identity. [`PatchLayer`](../../gdm_course/flows/patches.py) does the rest: it cuts the picture,
# standardises, and joins. [`TarFlow`](../../gdm_course/flows/tarflow.py) stacks such layers; the order
# of the patches turns round after each.

# %% tags=["fold"]
# @title One layer of TarFlow: the patches are delayed by one, as the tokens of a GPT are
seed_everything(0)
digits = images.load("digits")
x, y = digits.x_train[:16] / 16, digits.y_train[:16]
schematics.patches(TarFlow((1, 8, 8), width=32, depth=1, classes=10).layers[0], x, y)

# %% [markdown]
# The way back is (5), patch by patch. `whole_passes` is `by_passes` with vectors: $T$ passes of the
# transformer over $T$ patches. `cached` keeps the keys and values of the patches that are finished, as
# GPT does, and each of the $T$ places is computed once.


# %% tags=["from:flows.patches.cached"]
@torch.no_grad()
def cached(net: PatchConditioner, z: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Invert as GPT samples: each patch enters once, and its keys and values are kept."""
    (B, T, _), width = z.shape, net.position.shape[1]
    heads = net.blocks[0].attention.heads
    caches = [Cache(B, heads, T, width // heads, like=z) for _ in net.blocks]
    seen, steps = z.new_zeros(B, 1, width), []
    for i in range(T):
        h = net.place(seen, y, i)
        for block, cache in zip(net.blocks, caches):
            h = block(h, cache)
        mu, log_sigma = net.read(h)  # (B, 1, D)
        x = mu + log_sigma.exp() * z[:, i : i + 1]
        steps.append((x, log_sigma.sum((1, 2))))
        seen = net.see(x)
    x, log_sigma = zip(*steps)
    return torch.cat(x, dim=1), torch.stack(log_sigma).sum(0)


# %% [markdown]
# The Jacobian, in patches of four numbers: patch $i$ of $z$ depends on the patches of $x$ before
# it, but each of its numbers on only one number of patch $i$ itself. So the blocks on the diagonal
# are diagonal themselves, and (2) is still a sum, of the log slopes of all numbers. Two pixels of
# one patch hear of each other only through other patches, over several layers.
#
# **Predict, before you run:** a picture of four such patches. How many of the $16\times16$ derivatives
# of one layer can differ from 0?

# %%
seed_everything(0)
small = shake(TarFlow((1, 4, 4), layers=2, width=16, depth=1, classes=10), 0.2).double()
x, y = torch.randn(20, 1, 4, 4).double(), torch.arange(20) % 10
z, log_det = small(x, y)
J = jacobian(lambda x: small(x[None], y[:1])[0].flatten(), x[0]).flatten(1)
assert torch.allclose(log_det[0], J.det().abs().log())
layer = small.layers[0]
patches = layer.cut(x)  # (20, 4, 4): four patches of four numbers
J = jacobian(lambda s: layer.cut(layer(layer.join(s[None], x), y[:1])[0])[0], patches[0])
with torch.no_grad():
    for quick, slow in zip(*(way(layer.net, patches, y) for way in (cached, whole_passes))):
        assert torch.allclose(quick, slow)
    assert torch.allclose(small.inverse(z, y)[0], x)
filled = J.reshape(16, 16) != 0
print(f"{filled.sum()} of {filled.numel()} derivatives are not 0")
assert filled.sum() == 4 * 4 + 6 * 16
(ax,) = plot.panels("dz / dx of one layer is not 0", height=2.8)
ax.imshow(filled, cmap="Blues")
_ = ax.set(xlabel="x, patch by patch", ylabel="z", xticks=range(0, 16, 4))

net, noise = TarFlow((1, 8, 8), patch=1, classes=10).layers[0].net, torch.randn(20, 64, 1)
for way in (whole_passes, cached):
    took = milliseconds(lambda way=way: way(net, noise, y), repeat=2)
    print(f"{way.__name__:12s} {took:7.1f} ms for 20 pictures of 64 patches, one layer")

# %% [markdown]
# <details><summary>Answer to the prediction</summary>
#
# 112. Patch 2 sees one patch before it, patch 3 two and patch 4 three: six full blocks of 16. And
# each of the 16 numbers sees itself.
# </details>
#
# **One likelihood, two uses.** To draw a 3, draw noise and map it back with $y=3$. To *classify* a
# picture, ask every class how likely it is: by Bayes' rule, if all ten digits are as frequent,
#
# $$p(y\mid x)=\frac{p(x\mid y)}{\sum_k p(x\mid k)} .$$
#
# Codes become real numbers by uniform noise and a logit, as for Glow
# ([coupling flows](realnvp.ipynb)). In the test every density sees the same noise. Each gets the
# same seconds of the processor: TarFlow without labels and with, one MAF, and ten MAFs, one for each
# class, that share the seconds and are half as wide. Bits per dimension are those of $p(x)$: where there are labels,
# the mean of $p(x\mid k)$ over all ten. In the test no model is told the label.
#
# **Predict, before you run.** A logistic regression learns $p(y\mid x)$ and nothing else. By how much
# will it be ahead of the densities?

# %% tags=["train"]
seconds, logit = budget(1000, 20) / 280, Logit(0.01)  # 3.6 s for each density


def real(codes):
    """Add noise to codes and stretch them: z, and log |dz / dx| with x in units of a code."""
    z, log_det = logit((codes + torch.rand(codes.shape)) / 17)
    return z, log_det - 64 * math.log(17)


def noisy(x, y, B=32):
    """Yield batches with fresh noise, without end."""
    for codes, labels in forever((x, y), B):
        yield real(codes)[0], labels


def spent(model, batches, lr, seconds):
    """Train for so many seconds of the processor, the rate on a cosine to 0."""
    began, steps = 0.0, 7
    for step, _ in train(model, batches, steps, 1e-6):  # a trial, to see what a step takes
        began = time.process_time() if step == 2 else began
    steps = max(5, round(5 * seconds / (time.process_time() - began)))
    fall = lambda k: min(10 * (k + 1) / steps, (1 + math.cos(math.pi * k / steps)) / 2)
    for _ in train(model, batches, steps, lambda k: lr * fall(k), clip=10.0):
        pass
    return model.eval()


def flat(batches):
    """Drop the labels, and make rows of the pictures."""
    return (z.flatten(1) for z, _ in batches)


x, y = digits.x_train, digits.y_train
seed_everything(0)
sizes = {"layers": 3, "width": 32, "depth": 1, "heads": 2}
tarflow = TarFlow((1, 8, 8), **sizes, classes=10)
spent(tarflow, noisy(x, y), 1.5e-2, seconds)
plain = TarFlow((1, 8, 8), **sizes)
_ = spent(plain, (z for z, _ in noisy(x, y)), 1.5e-2, seconds)

# %% tags=["train"]
one = spent(MAF(64, hidden=(128, 128)), flat(noisy(x, y)), 5e-3, seconds)
ten = []
for k in range(10):
    own = flat(noisy(x[y == k], y[y == k]))
    ten.append(spent(MAF(64), own, 5e-3, seconds / 10))
regression = LogisticRegression(max_iter=1000).fit(x.flatten(1) / 16, y)

seed_everything(0)
truth, rows = digits.y_test, {}
with torch.no_grad():  # log p(x | y), (256, classes)
    z, log_det = real(digits.x_test)
    rows["TarFlow, no labels"] = plain.log_prob(z)[:, None]
    rows["TarFlow, ten labels"] = tarflow.log_prob_each(z)
    rows["one MAF, no labels"] = one.log_prob(z.flatten(1))[:, None]
    rows["ten MAFs"] = torch.stack([maf.log_prob(z.flatten(1)) for maf in ten], dim=1)


def judged(log_y):
    """Return how many labels are right, in percent, and -log p(y | x), of (256, 10)."""
    right = 100 * (log_y.argmax(1) == truth).float().mean()
    return f"{right:10.1f}{F.nll_loss(log_y, truth):14.3f}"


print(
    f"{f'test, {len(truth)} digits':22s}{'bits/dim':>10s}{'right, %':>10s}{'-log p(y|x)':>14s}"
)
bits = {}
for name, log_p in rows.items():
    log_x = log_p.logsumexp(1) - math.log(log_p.shape[1])  # of the mean over labels
    bits[name] = bits_per_dim(-(log_x + log_det), 64)
    rule = judged(log_p.log_softmax(1)) if log_p.shape[1] > 1 else ""  # Bayes' rule
    print(f"{name:22s}{bits[name].mean():10.3f}{rule}")
chances = torch.from_numpy(regression.predict_log_proba(digits.x_test.flatten(1) / 16))
print(f"{'logistic regression':32s}{judged(chances)}")
without, told, maf_, _ = bits.values()
paired = {"without labels - with": without - told, "without labels - MAF": without - maf_}
paired["with labels - MAF"] = told - maf_
for name, d in paired.items():
    error = d.std() / len(d) ** 0.5
    print(f"TarFlow {name:22s} {d.mean():+.3f} +- {error:.3f} bits/dim, picture by picture")

# %% tags=["fold"]
# @title Data above, drawn by TarFlow below, label by label
drawn = tarflow.sample(40, y=torch.arange(10).repeat(4))
drawn = (logit.inverse(drawn)[0] * 17).floor().clamp(0, 16)
data = torch.stack([x[y == k][:4] for k in range(10)], dim=1).flatten(0, 1)
ax = plot.image_grid(torch.cat([data, drawn]) / 16, columns=10)

# %% [markdown]
# <details><summary>Answer</summary>
#
# By nothing that can be seen here. With 1,285 pictures to learn from, Bayes' rule with either kind
# of density is right about as often as the regression: all of them 95 to 98 times of 100, and with
# 256 test pictures a standard error is one of 100. In our run it is not ahead of both in the last
# column either.
# </details>
#
# In bits per dimension a TarFlow without labels and the MAF are close: on 64 pixels and after
# seconds, this transformer is no clear gain by itself. (In our run it is ahead by about a standard
# error.) But it can be told a label as it learns, for which our MAF has no input, and that is a gain of
# several standard errors. With labels it is ahead of the MAF, too. The ten MAFs, of which each has seen a
# tenth of the pictures for a tenth of the time, are behind. Width is the smaller part: as wide as the
# one, at equal steps, they gain 0.03 bits. More time does not save them. With twice the steps they come to
# 2.25 and 2.23 (two seeds), with four times they know their 128 pictures by heart: 1.8 bits in
# training, 2.6 and 2.5 in the test. The last column is the mean surprise at the right label, in
# nats: the ten MAFs' is twice TarFlow's, or more. Divide it by the share of labels that are wrong: if
# the right ones cost next to nothing, the ten MAFs are much surer of their errors than TarFlow of its
# own. It is the same fault, too few pictures: with four times the steps it grows to 9 nats and more.
#
# **The discriminative gap.** A density with labels is trained on $\log p(x\mid y)$. But for the
# constant $\log p(y)$ that is $\log p(x,y)=\log p(x)+\log p(y\mid x)$. For a picture of this table
# the first term costs some 90 nats (2.1 bits $\times\,64\times\log 2$). The second costs
# $\log 10=2.3$ for whoever merely guesses, so to learn it saves no more than that: whoever wins a
# tenth of a bit per dimension on pixels (4.4 nats) has gained more than the label is worth, and
# need not classify better for it. The regression spends all it learns on the second term, and needs
# no model of $x$. That can pay when pictures are many. Ng and Jordan (*On discriminative vs.
# generative classifiers*, 2002) compare it with naive Bayes, the simplest density for the purpose:
# with endless data the regression is at least as good, but naive Bayes needs fewer examples to
# become as good as it can.
#
# What the paper adds to TarFlow makes better *pictures*, and each addition has its price in this likelihood:
#
# - **Noise.** Train on $x+\sigma\varepsilon$ with Gaussian $\varepsilon$ instead of uniform noise: `log_prob` is
#   then exact for *noisy* pictures, and bounds no $\log P$ of codes. ($\sigma$ is one number here, the width of the noise.)
# - **Denoising.** A draw $x'$ is noisy, so move it by $\sigma^2\nabla\log p(x')$: if $p$ is the density of noisy pictures,
#   to the mean of the clean ones that may have become it. What you then look at was not drawn from $p$.
# - **Guidance.** Draw with $\mu$ and $\sigma$ pushed away from those without a label, to be more like the label: that
#   is another map, with another density than the one that was trained and measured.
#
# *Jet* (Kolesnikov and others, 2024, arXiv:2412.15129) builds the same from couplings: one half passes, and a transformer
# *without* a mask says shift and scale of the other. Both directions take one pass, as in RealNVP.
#
# On MNIST the pixels are mostly black: the value 0 is one cell of 256, and holds four fifths of
# them. `Equalise` gives each value about as much of the line as it is used, which is one more layer
# with an exact slope. The recipe is without labels and planned for four minutes of a GPU; that of
# the digits, with labels, takes about one of a CPU. Its figure is not for the table above: it takes
# the mean of the density over 8 draws of the noise, which bounds $\log P$ of the codes more tightly
# than one.

# %%
for name in ("flows/tarflow-digits", "flows/tarflow-mnist"):
    told = f"not yet measured; 'gdm train {name}' makes it"
    if checkpoints.measured(name):
        card = checkpoints.card(name)
        bits = next(f for f in card["figures"] if f["metric"] == "bound, 8 draws")
        told = f"{bits['value']:.3f} +- {bits['error']:.3f} bits/dim (8 draws), {card['device']}"
    print(f"{name}: {told}")
