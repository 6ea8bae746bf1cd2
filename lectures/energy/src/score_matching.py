# %% [markdown]
# # The constant has no slope: score matching and noise contrast
#
# An energy is a density without its constant $Z$. A derivative does not see a constant, so
# we learn the derivative of $\log p$ instead, in three ways. Then we see what this loses,
# and repair it; and we meet a loss that learns $\log Z$ as one more parameter.

# %% [markdown] tags=["nav"]
# 60 minutes, and 13 further ·
# before this: [Densities, samples and divergences](../foundations/densities.ipynb), [Rolling and kicked: Langevin and deep energies](langevin.ipynb) ·
# [exercise](../../exercises/energy/score_matching.ipynb) ·
# [solution](../../solutions/energy/score_matching.ipynb)
#
# previous: [Rolling and kicked: Langevin and deep energies](langevin.ipynb) ·
# [all units](../index.ipynb) ·
# next: [Two players: generative adversarial networks](../gan/gan.ipynb)

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
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.functional import jacobian

from gdm_course import plotting as plot
from gdm_course import protocols, schematics, validate  # that refuses what does not fit
from gdm_course.data import images, toy
from gdm_course.energy import score_matching
from gdm_course.energy.nce import GaussianNoise, Noise
from gdm_course.energy.network import EnergyNet
from gdm_course.energy.normalise import log_z_grid
from gdm_course.energy.sampling import noise_like
from gdm_course.energy.score_matching import SIGMAS, langevin, signs_like
from gdm_course.nets import wave_net
from gdm_course.training import budget, forever, full_run, seed_everything, train
from gdm_course.widgets import play, progress, watch

plot.style()

# %% [markdown]
# ## 1. The question
#
# An energy model says $p(x) = e^{-E(x)}/Z$, where a network gives the energy $E$ and $Z$ is
# the integral of $e^{-E}$ over all $x$. Maximum likelihood needs the gradient of $\log Z$,
# and so samples of the model at every step. Can an energy be trained without them?
#
# The **score** of a density is the gradient of its logarithm *in the point* $x$, not in the
# weights of the network:
#
# $$s_p(x) = \nabla_x\log p(x) = -\nabla_x E(x). \tag{1}$$
#
# $\log Z$ is the same number everywhere, so its gradient is 0. The score of a bell
# $\mathcal N(0, 4)$ at $x = 6$ is $-6/4 = -1.5$: uphill is to the left, and it is steep.
#
# The score is enough to draw samples: Langevin steps use nothing else. So our first models
# are Trainable and a Sampler. They are no Density; section 7 shows what a loss without $Z$
# cannot see. ($\mathbb E$ is a mean, $E$ an energy.)

# %%
truth = toy.get("eight_gaussians")
seed_everything(0)
x_train, x_test = truth.sample(20_000), truth.sample(10_000)
mean_square = truth.score(x_test).square().sum(1).mean().item()
left, right = plot.panels("data", "density and score (the truth)", width=3.6)
plot.scatter(x_train[:3000], left, truth.bounds)
plot.density(truth.log_prob, truth.bounds, right)
plot.vector_field(truth.score, truth.bounds, right)
print(f"the mean squared length of the score, E|s_p|^2, is {mean_square:.1f}")

# %% [markdown]
# ## 2. The idea
#
# A network takes a point and answers with an arrow. The arrows of the truth are unknown:
# we have points and nothing else. Three losses get by with points. All have the same
# network in their middle, and differ in what they ask of it. Explicit: the sum of the slopes
# of every output along its own input (the trace, section 3). Sliced: one slope along a random
# direction $v$ (section 5). Denoising: blur a point with noise $e$, and point back.

# %% tags=["fold"]
# @title One network under three losses
seed_everything(0)
example, x = score_matching.DenoisingScoreModel(2), x_train[:100]
blurred = schematics.trace(example.loss, x).first(example.loss)
clear = schematics.trace(example.score, x)
d = schematics.Drawing(
    "One network, three losses",
    "Explicit and sliced look at slopes of the network; denoising at noisy points.",
    batch=len(x),
)
nets = []
for row, (entry, of, term) in enumerate(
    (
        ("", None, "½|s|² + trace of ds/dx"),
        ("v: random signs", x.sign(), "½|s|² + v · (ds/dx) v"),
        ("e ~ N(0, I)", blurred["e"], "½|σ s + e|²"),
    )
):
    start = d.box("$x$", (0, 2 * row), of=x)
    nets.append(d.network(example.net, "network", (2, 2 * row)))
    s = d.box("$s$", (3, 2 * row), of=clear.result if row < 2 else blurred["s"])
    loss = d.box(term, (5, 2 * row), "term")
    if row == 2:
        noisy = d.box("$x + \\sigma e$", (1, 2 * row), of=x + example.sigma * blurred["e"])
        d.way(start, noisy, nets[-1], s, loss)
    else:
        d.way(start, nets[-1], s, loss)
    if entry:
        chance = d.box(entry, (1 if row == 2 else 5, 2 * row - 1), "chance", of=of)
        d.way(chance, noisy if row == 2 else loss)
    if row == 2:
        d.arrow(chance, loss, via=[(5, 2 * row - 1)])
d.frame(nets, "the same weights")
d

# %% [markdown]
# ## 3. The mathematics
#
# **The goal** is a small mean squared distance between the network's arrows $s$ and the true
# ones. Half of it is called the Fisher divergence:
#
# $$\mathcal F = \tfrac12\,\mathbb E_p\,|s(x) - s_p(x)|^2
#   = \mathbb E_p\bigl[\tfrac12|s|^2\bigr] - \mathbb E_p\bigl[s\cdot s_p\bigr]
#   + \mathbb E_p\bigl[\tfrac12|s_p|^2\bigr]. \tag{2}$$
#
# The first term is a mean over data. The last does not depend on the network. The middle one
# has the unknown $s_p$ in it. Write it as integrals, one for each dimension $d$, and use
# $p\,\partial_d\log p = \partial_d p$, where $\partial_d$ is the derivative in $x_d$. Then
# integrate by parts along $x_d$, all other coordinates held fixed:
#
# $$\int p\,s_d\,\partial_d\log p\;dx_d = \int s_d\,\partial_d p\;dx_d
#   = \Bigl[s_d\,p\Bigr]_{-\infty}^{\infty} - \int p\,\partial_d s_d\;dx_d. \tag{3}$$
#
# The bracket is 0 if $s_d\,p$ vanishes far out. That is a condition; besides, $p$ and $s$ must
# have derivatives, and the means in (2) be finite. Integrate over the other coordinates, sum
# over $d$, and put it into (2). The sum $\sum_d\partial_d s_d$ is the **trace** of the Jacobian $\partial s/\partial x$, the
# matrix of all derivatives of $s$ in $x$:
#
# $$L = \mathbb E_p\Bigl[\tfrac12|s|^2 + \mathrm{tr}\,\frac{\partial s}{\partial x}\Bigr]
#   = \mathcal F - \tfrac12\,\mathbb E_p|s_p|^2. \tag{4}$$
#
# No $s_p$, no $Z$: this is **explicit score matching** (Hyvärinen, 2005). *In numbers:* let
# $p = \mathcal N(0,1)$ and $s(x) = -ax$. Then $L = \tfrac12a^2 - a$. It is lowest at $a = 1$,
# the true score, where it is $-\tfrac12$.
#
# **Denoising** (Vincent, 2011) avoids even the trace. Blur a point with noise $e\sim\mathcal
# N(0, I)$: $\tilde x = x + \sigma e$. Given $x$, it has the density $q(\tilde x\,|\,x)$, a bell
# around $x$. All blurred points together have $p_\sigma(\tilde x) = \int p(x)\,q(\tilde x|x)\,
# dx$. Put the gradient inside the integral, write $\nabla q = q\,\nabla\log q$, and divide by
# $p_\sigma$: then $p\,q/p_\sigma$ is, by Bayes, the density of the clean points that $\tilde x$
# may have come from. So the score of $p_\sigma$ is a mean over them:
#
# $$\nabla\log p_\sigma(\tilde x) = \mathbb E\bigl[\nabla\log q(\tilde x\,|\,x)\,\big|\,
#   \tilde x\bigr] = \mathbb E\Bigl[-\frac{\tilde x - x}{\sigma^2}\,\Big|\,\tilde x\Bigr]
#   = \mathbb E\Bigl[-\frac{e}{\sigma}\,\Big|\,\tilde x\Bigr]. \tag{5}$$
#
# A mean given $\tilde x$ is what least squares learns: for a target $t$,
# $\mathbb E|s - t|^2 = \mathbb E|s - \mathbb E[t|\tilde x]|^2 + \mathbb E|t - \mathbb
# E[t|\tilde x]|^2$, and $s$ is in the first part alone. So fit $s(\tilde x)$ to the target
# $-e/\sigma$; times $\sigma$, the loss is $\tfrac12\mathbb E|\sigma s(\tilde x) + e|^2$.
# Its minimum is the score of $p_\sigma$, not of $p$. From (5) we also read **Tweedie's
# formula**, the best guess of the clean point:
# $\mathbb E[x\,|\,\tilde x] = \tilde x + \sigma^2\,\nabla\log p_\sigma(\tilde x)$.
#
# **Question.** The data are uniform in a square. Which step fails, and which of the two
# losses still works?
#
# <details><summary>Answer</summary>
#
# $p$ jumps at the edge, so $\partial_d p$ is no function there, and (3) fails: the
# bracket, taken from edge to edge, is not 0. Inside, the true score is 0 and has $L = 0$; but
# arrows that point towards the middle, $s = -ax$ with a small $a$, bring $L$ below 0.
# Denoising works, because $p_\sigma$ is smooth. So it does for pixels, which are whole
# numbers.
# </details>

# %% [markdown] tags=["notes"]
# 15 minutes up to here. Ask: a gradient in what? (Students mix up the gradient in x with that
# in the weights.) Write (3) on the board in one dimension, with a bell drawn under it. It
# usually sticks at the sign of the trace: do the numbers with $a$.

# %% [markdown]
# ## 4. Build: explicit
#
# The trace needs one backward pass for each dimension. We may sum $s_d$ over the batch first:
# row 2 of $s$ does not depend on row 1 of $x$, so every row gets its own derivative.
# `create_graph=True` keeps it differentiable, for training will differentiate it in the
# network's weights.


# %% tags=["from:energy.score_matching.trace_of_jacobian"]
def trace_of_jacobian(s: Tensor, x: Tensor) -> Tensor:
    """Return sum_d ds_d / dx_d of every row, one backward pass for each d.

    Args:
        s: a function's values (B, D), computed from x row by row.
        x: points (B, D) that require a gradient.

    Returns:
        The traces (B,), differentiable once more.
    """
    slopes = (
        torch.autograd.grad(s[:, d].sum(), x, create_graph=True)[0][:, d]
        for d in range(s.shape[1])
    )
    return torch.stack([*slopes]).sum(0)


# %% tags=["from:energy.score_matching.ScoreModel"]
class ScoreModel(nn.Module):
    """A network for the score, trained by explicit score matching.

    loss = E[ |s|^2 / 2 + tr ds/dx ] = E |s - s_p|^2 / 2 - E |s_p|^2 / 2, equation (4): the
    second term is what the data alone decide. Lowest at s = s_p.

    Args:
        D: dimension of a point.
        net: more about the network, see `nets.wave_net`: hidden, waves, scale.
    """

    def __init__(self, D: int, **net):
        super().__init__()
        validate.at_least(1, D=D)
        self.net, self.D = wave_net(D, D, **net), D

    def score(self, x: Tensor) -> Tensor:
        """Return the score at every point: (B, D) -> (B, D)."""
        return self.net(validate.points(x, self.D, self))

    def at(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return a copy of x that records a gradient, and the score there."""
        x = validate.points(x, self.D, self).detach().requires_grad_()
        return x, self.score(x)

    def loss(self, x: Tensor) -> Tensor:
        """Return the mean of |s|^2 / 2 + tr ds/dx, which may be negative: (B, D) -> ()."""
        with torch.enable_grad():
            x, s = self.at(x)
            return (s.square().sum(1) / 2 + trace_of_jacobian(s, x)).mean()

    def sample(self, n: int, steps: int = 500, eps: float = 0.01) -> Tensor:
        """Run n chains of Langevin steps with this score, from N(0, I): (n, D)."""
        like = next(self.parameters())
        start = noise_like(like.new_empty(validate.count(n), self.D))
        return langevin(self.score, start, eps, steps)


# %% [markdown]
# [`wave_net`](../../gdm_course/nets.py) is a perceptron that sees sines and cosines of its
# input (Fourier features). `langevin` takes last unit's steps
# $x + \tfrac\epsilon2 s(x) + \sqrt\epsilon\,\xi$ with standard normal $\xi$. First a test: a
# linear network, and the numbers from above.

# %%
seed_everything(0)
line, bell = ScoreModel(2), torch.randn(100_000, 2)
line.net = nn.Linear(2, 2, bias=False)
found = {}
for a in (0.5, 1.0, 1.5):
    line.net.weight.data = -a * torch.eye(2)
    found[a] = line.loss(bell).item()
    print(f"a = {a}: L = {found[a]:.3f}, on paper {2 * (a * a / 2 - a):.3f}")
assert min(found, key=found.get) == 1.0

net, at = ScoreModel(5), torch.randn(3, 5)
x, s = net.at(at)
J = torch.stack([jacobian(lambda row: net.score(row[None])[0], row) for row in at])
assert torch.allclose(trace_of_jacobian(s, x), J.diagonal(dim1=1, dim2=2).sum(1), atol=1e-5)

# %% [markdown]
# Now the eight bells. By (4) the loss is half of the error $\mathbb E_p|s - s_p|^2$ but for
# $\tfrac12\mathbb E_p|s_p|^2$, which points alone do not tell. Here the truth is known, so we
# measure the error itself, as a share of $\mathbb E_p|s_p|^2$, on fresh points.


# %%
def fit(model, x, steps, lr=5e-3):
    """Train with a rate that falls to 0; yields (step, loss)."""
    yield from train(model, forever(x, 256), steps, lambda k: lr * (1 - k / steps))


@torch.no_grad()
def error(score):
    """Mean squared error of a score on test points, as a share of E|s_p|^2."""
    return (score(x_test) - truth.score(x_test)).square().sum(1).mean().item() / mean_square


seed_everything(0)
explicit = ScoreModel(2)
panels = {
    "learned score": lambda ax: plot.vector_field(explicit.score, truth.bounds, ax),
    "samples": lambda ax: plot.scatter(explicit.sample(1000), ax, truth.bounds),
}
for _ in watch(fit(explicit, x_train, budget(1000, 20)), 200, panels, "1 / length²"):
    pass
print(f"error {error(explicit.score):.3f}; loss at the truth {-mean_square / 2:.1f}")
if full_run():
    assert error(explicit.score) < 0.08

# %% [markdown]
# The loss falls towards $-\tfrac12\mathbb E_p|s_p|^2$, as (4) says: the truth has no loss of 0.
#
# **Change** `ScoreModel(2)` to `ScoreModel(2, waves=0)`, a perceptron without Fourier
# features, and run the cell again. What happens to the error?
#
# <details><summary>Answer</summary>
#
# It grows, at these 1,000 steps: the waves give a quick start. With 5,000 steps the order
# turned round when we tried. </details>
#
# ## 5. Build: sliced, denoising
#
# **Sliced** score matching (Song et al., 2019) looks at the trace along one random
# direction. Let $v$ have independent entries $\pm1$, so that $\mathbb E\,vv^\top = I$. Then
# $\mathbb E_v[v^\top A v] = \mathrm{tr}\,A$ for every matrix $A$ (Hutchinson). One backward
# pass gives $v^\top\,\partial s/\partial x$, whatever $D$ is.


# %% tags=["from:energy.score_matching.product_with_jacobian"]
def product_with_jacobian(s: Tensor, x: Tensor, v: Tensor) -> Tensor:
    """Return v^T (ds/dx) v of every row by one backward pass: (B,).

    Its mean over v with E v v^T = I is the trace (Hutchinson).

    Args: values s (B, D), points x (B, D) that require a gradient, directions v (B, D).
    """
    (back,) = torch.autograd.grad(s, x, v, create_graph=True)  # v^T ds/dx
    return (back * v).sum(1)


# %% tags=["from:energy.score_matching.SlicedScoreModel"]
class SlicedScoreModel(ScoreModel):
    """The same, with the trace seen along one random direction: one pass for any D."""

    def loss(self, x: Tensor) -> Tensor:
        """Return the mean of |s|^2 / 2 + v^T (ds/dx) v over random signs v: ()."""
        with torch.enable_grad():
            x, s = self.at(x)
            slope = product_with_jacobian(s, x, signs_like(x))
            return (s.square().sum(1) / 2 + slope).mean()


# %%
seed_everything(0)
wide, one = ScoreModel(64, scale=0.2), torch.randn(1, 64)
seconds = {}
for name, estimate in (
    ("trace", lambda x, s: trace_of_jacobian(s, x)),
    ("sliced", lambda x, s: product_with_jacobian(s, x, signs_like(x))),
):
    x, s = wide.at(one.expand(1000, -1))
    s = s - 3 * x  # so that the trace is far from 0
    began = time.process_time()
    value = estimate(x, s)
    seconds[name] = time.process_time() - began
    print(f"{name}: {value.mean():.3f}, spread {value.std():.3f}, {seconds[name]:.2f} s")
exact = jacobian(lambda x: wide.score(x[None])[0] - 3 * x, one[0]).trace().item()
assert (
    abs(value.mean().item() - exact) < 6 * value.std().item() / 1000**0.5 < 1 < abs(exact)
)

# %% [markdown]
# Right on average, with some noise; and in 64 dimensions far cheaper. **Denoising** needs no
# derivative in $x$ at all:


# %% tags=["from:energy.score_matching.DenoisingScoreModel"]
class DenoisingScoreModel(ScoreModel):
    """Learn to point from a noisy point back to where it came from.

    loss = E |sigma s(x + sigma e) + e|^2 / 2 with e ~ N(0, I), equation (5): no derivative
    in x at all. Lowest at the score of p blurred by N(0, sigma^2 I), and not at 0 there.

    Args:
        D, net: as of `ScoreModel`.
        sigma: standard deviation of the noise.
    """

    def __init__(self, D: int, *, sigma: float = 0.1, **net):
        super().__init__(D, **net)
        self.sigma = sigma

    def loss(self, x: Tensor) -> Tensor:
        """Return the mean of |sigma s(x + sigma e) + e|^2 / 2: (B, D) -> ()."""
        e = noise_like(validate.points(x, self.D, self))
        s = self.score(x + self.sigma * e)
        return (self.sigma * s + e).square().sum(1).mean() / 2

    def denoise(self, x: Tensor) -> Tensor:
        """Return E[clean | noisy] = x + sigma^2 s(x) (Tweedie): (B, D) -> (B, D)."""
        return x + self.sigma**2 * self.score(x)


# %% [markdown]
# The same network, data and steps for all three. Two seeds show the spread.
#
# **Predict, before you run.** Which of the three has the largest error? Which is fastest?

# %%
kinds = {
    "explicit": ScoreModel,
    "sliced": SlicedScoreModel,
    "denoising": DenoisingScoreModel,
}
row = "{:12s}{:>10s}{:>10s}{:>12s}".format
print(row("error", "seed 0", "seed 1", "CPU s"))
errors = {}
for name, kind in progress(kinds.items(), 3):
    errors[name], began = [], time.process_time()
    for seed in (0, 1):
        seed_everything(seed)
        model = kind(2)
        for _ in fit(model, x_train, budget(1000, 5)):
            pass
        errors[name].append(error(model.score))
    spent = (time.process_time() - began) / 2
    print(row(name, *(f"{e:.3f}" for e in errors[name]), f"{spent:.1f}"))
if full_run():
    assert min(errors["denoising"]) > max(errors["explicit"] + errors["sliced"])

# %% [markdown]
# <details><summary>Answer</summary>
#
# Denoising has the largest error here and takes the least time. It learns the score of
# another density, $p_\sigma$, as (5) says. </details>
#
# ## 6. Too much noise, and too little
#
# How large should $\sigma$ be? Blurred Gaussians are Gaussians with the variance
# $0.2^2+\sigma^2$, so $p_\sigma$ is known, too. We split the error: how far is the score of
# $p_\sigma$ from that of $p$ (the blur), and how far the network from the score of
# $p_\sigma$? The two need not add up to the whole: an error can undo a part of the other.

# %%
law, sigmas = truth.law, (0.02, 0.05, 0.1, 0.2, 0.4)
parts = {"all": [], "blur": [], "network": []}
for sigma in progress(sigmas):
    seed_everything(0)
    model = DenoisingScoreModel(2, sigma=sigma)
    for _ in fit(model, x_train, budget(1000, 5)):
        pass
    blur = toy.Mixture(law.means, (law.sigma**2 + sigma**2).sqrt(), law.weights)
    s_blur = toy.slope(blur.log_prob, x_test)
    parts["all"].append(error(model.score))
    parts["blur"].append(error(lambda x, s=s_blur: s))
    with torch.no_grad():
        off = (model.score(x_test) - s_blur).square().sum(1).mean().item()
    parts["network"].append(off / mean_square)
ax = plot.curves(parts, x=sigmas, xlabel="sigma", ylabel="share of E|s_p|^2")
ax.set(xscale="log", yscale="log", ylim=(1e-4, 2))
ax.set_xticks(sigmas, sigmas)
ax.minorticks_off()
if full_run():
    best = min(parts["all"][1:3])
    assert parts["all"][0] > 1.5 * best and parts["all"][-1] > 5 * best
    assert parts["network"][0] > 20 * parts["network"][-1]

# %% [markdown]
# On the right the blur is nearly all of the error: the network does what it should, for the
# wrong density. On the left the blur is nothing, and still the error grows. The target $-e/\sigma$
# has the mean squared length $2/\sigma^2$, which is 5,000 at $\sigma=0.02$, and only its mean
# given $\tilde x$ is wanted. The smaller the noise, the larger the variance of what is
# learned from.
#
# **Question.** Why is the denoising loss not 0 at its minimum?
#
# <details><summary>Answer</summary>
#
# One noisy point may have come from many clean ones, so nobody can know its $e$. What remains
# is the spread of $e$ given $\tilde x$. </details>

# %% [markdown] tags=["notes"]
# 15 minutes for sections 4 to 6. Ask before the figure: where is the noise free of charge?
# Expect "the smaller the better". Draw one clean point, and noise of two sizes around it.

# %% [markdown]
# ## 7. Break it: a score is blind to far shares
#
# Two bells at $-3$ and $3$, of width 0.5. One density holds shares of 20% and 80% in them, the
# other 50% and 50%.
# The slider blurs both.
#
# **Predict, before you run.** Without noise, how different are the two scores *where the data
# are*?


# %%
def two_bells(left, noise):
    """Return a grid, and log p and score there: bells at -3 and 3, a share `left` at -3."""
    grid, variance = torch.linspace(-20, 20, 20_001).double(), 0.25 + noise**2
    means, in_bells = torch.tensor([[-3.0, 3.0], [left, 1 - left]]).double()

    def log_p(x):
        away = (x[:, None] - means).square() / variance
        log_bells = -(away + math.log(2 * math.pi * variance)) / 2
        return (in_bells.log() + log_bells).logsumexp(1)

    return grid, log_p(grid), toy.slope(log_p, grid)


def divergences(noise):
    """Return KL and Fisher divergence in 1-D, by sums over a fine grid."""
    (grid, log_p, s_p), (_, log_q, s_q) = two_bells(0.2, noise), two_bells(0.5, noise)
    p = log_p.exp() * (grid[1] - grid[0])
    return (p @ (log_p - log_q)).item(), (p @ (s_p - s_q) ** 2).item() / 2


def draw_bells(noise):
    """Draw both densities and both scores, and write their distances."""
    kl, fisher = divergences(noise)
    left, right = plot.panels(
        f"densities: KL {kl:.3f}", f"scores: F {fisher:.1e}", width=4.2
    )
    for share, colour in ((0.2, plot.BLUE), (0.5, plot.ORANGE)):
        grid, log_p, s = two_bells(share, noise)
        left.plot(grid, log_p.exp(), color=colour, label=f"{share:.0%} on the left")
        right.plot(grid, s, color=colour)
    left.legend()
    left.set(xlim=(-6, 6), xlabel="x", ylabel="density")
    right.set(xlim=(-6, 6), xlabel="x", ylabel="score", ylim=(-15, 15))


play(draw_bells, noise=(0.0, 3.0, 0.25, 0.0))
print(
    "noise 0, 1, 2: KL and F",
    *("({:.3f}, {:.1e})".format(*divergences(n)) for n in (0, 1, 2)),
)
assert divergences(0)[0] > 0.19 and divergences(0)[1] < 1e-7
assert divergences(1)[1] > 1e5 * divergences(0)[1]

# %% [markdown]
# <details><summary>Answer</summary>
#
# They agree to many digits. They differ only around 0, and hardly any data are there.
# </details>
#
# The share of a bell is a *constant* in $\log p$ near it, and a constant has no slope.
# What freed us of $Z$ hides the shares. Noise fills the gap with data: with noise 1 the
# Fisher divergence is a hundred thousand times as large.
#
# So we learn the scores under **several noises** with one network that is told $\sigma$
# (Song and Ermon, 2019), and draw with **annealed** Langevin steps: start in the widest
# noise, where chains cross, and end in the narrowest. Each noise gets steps of its own
# size.


# %% tags=["from:energy.score_matching.NoiseConditionalModel"]
class NoiseConditionalModel(nn.Module):
    """One network for the scores of p under many noises, from wide to narrow.

    Args:
        D: dimension of a point.
        sigmas: standard deviations of the noises, falling; the first as wide as the data.
        net: more about the network, as of `ScoreModel`.
    """

    def __init__(self, D: int, *, sigmas: Sequence[float] = SIGMAS, **net):
        super().__init__()
        validate.at_least(1, D=D)
        self.register_buffer("sigmas", torch.tensor(sigmas))
        self.net, self.D = wave_net(D + 1, D, **net), D

    def score(self, x: Tensor, sigma: Tensor | float | None = None) -> Tensor:
        """Return the score of p blurred by sigma, one for all or (B, 1): (B, D) -> (B, D).

        net(x / sqrt(1 + sigma^2), log sigma) / sigma, so that the network's own answer is
        of order 1 at most, whatever sigma. Without sigma, by the narrowest noise.
        """
        x = validate.points(x, self.D, self, least=0)
        sigma = self.sigmas[-1] if sigma is None else torch.as_tensor(sigma).to(x)
        sigma = sigma.expand(len(x), 1)
        seen = torch.cat([x / (1 + sigma.square()).sqrt(), sigma.log()], 1)
        return self.net(seen) / sigma

    def loss(self, x: Tensor) -> Tensor:
        """Return the mean of |sigma s + e|^2 / 2, every row with a noise of its own: ()."""
        e = noise_like(validate.points(x, self.D, self))
        level = torch.randint(len(self.sigmas), (len(x), 1), device=x.device)
        sigma = self.sigmas[level]
        s = self.score(x + sigma * e, sigma)
        return (sigma * s + e).square().sum(1).mean() / 2

    def sample(self, n: int, steps: int = 100, share: float = 0.2) -> Tensor:
        """Run Langevin chains through the noises, the widest first: (n, D)."""
        return annealed(self, n, steps, share)


# %% tags=["from:energy.score_matching.annealed"]
def annealed(model: NoiseConditionalModel, n: int, steps: int, share: float) -> Tensor:
    """Run n Langevin chains through the noises of a model, from the widest: (n, D).

    Args: steps at every noise, and the share of sigma^2 that a step is.
    """
    first = model.sigmas[0]
    x = first * noise_like(first.new_empty(validate.count(n), model.D))
    for sigma in model.sigmas:
        eps = share * sigma.item() ** 2
        x = langevin(lambda x, s=sigma: model.score(x, s), x, eps, steps)
    return x


# %%
far = toy.Mixture(
    torch.tensor([[-3.0, 0.0], [3.0, 0.0]]), torch.full((2,), 0.5), torch.tensor([0.2, 0.8])
)
on_the_right = lambda x: (x[:, 0] > 0).double().mean().item()
seed_everything(0)
models = {
    "one score": ScoreModel(2, waves=0),
    "six noises": NoiseConditionalModel(2, waves=0, sigmas=(6.0, 3.0, 1.5, 0.8, 0.4, 0.2)),
}
x_far = far.sample(20_000)
drawn = {f"data: {on_the_right(x_far):.0%} right": x_far[:2000]}
shares = {}
for name, model in progress(models.items(), 2):
    for _ in fit(model, x_far, budget(1000, 5)):
        pass
    x = model.sample(2000)
    shares[name] = on_the_right(x)
    drawn[f"{name}: {shares[name]:.0%} right"] = x
for ax, x in zip(plot.panels(*drawn), drawn.values()):
    plot.scatter(x, ax, ((-5.0, 5.0), (-5.0, 5.0)))
ahead = torch.randn(2000, 2) + torch.tensor([3.0, 0.0])  # all chains start on the right
stays = on_the_right(langevin(models["one score"].score, ahead, 0.01, 500))
print(f"one score, started on the right: {stays:.0%} end there")
if full_run():
    assert stays > 0.95
    assert abs(shares["six noises"] - 0.8) < 0.08 < 0.12 < abs(shares["one score"] - 0.8)

# %% [markdown]
# With one score a chain ends in the bell that is nearer to its start: those that start on the
# right stay there, and those that start around 0 are about halved. Several noises find the
# shares, because in the wide noise the chains still cross, and there the two scores differ.
# (What they draw is blurred by the narrowest noise, 0.2.)
#
# ## 8. A constant that is learned: noise contrast
#
# **Noise-contrastive estimation** (Gutmann and Hyvärinen, 2012) asks a question with two
# answers: is $x$ from the data, or from a noise whose density $p_n$ we know? Take $\nu$ noise
# points for each of the data. By Bayes, the log-odds for "data" are
# $\log p(x) - \log p_n(x) - \log\nu$. Put the model in the place of $p$, with a free number
# $c$ in the place of $\log Z$:
#
# $$G(x) = -E(x) - c - \log p_n(x) - \log\nu. \tag{6}$$
#
# The classifier says "data" with the probability $\mathrm{sig}(G) = 1/(1+e^{-G})$. Fit it as
# any classifier is fitted:
#
# $$L = -\mathbb E_p\bigl[\log\mathrm{sig}(G)\bigr]
#   - \nu\,\mathbb E_{p_n}\bigl[\log\mathrm{sig}(-G)\bigr]. \tag{7}$$
#
# In code, $-\log\mathrm{sig}(G) = \log(1+e^{-G})$ is `softplus(-G)`. The best $G$ is the true
# log-odds. So $-E - c$ becomes $\log p$, given many data, an $E$ that can bend so far, and a
# $p_n$ that is above 0 wherever $p$ is. Then $c$ is $\log Z$ of the energy. Maximum likelihood
# could not do that: it would let $c$ fall for ever.


# %% tags=["from:energy.nce.NCE"]
class NCE(nn.Module):
    """An energy and a number c, trained to tell data from noise; c comes to be log Z.

    With nu noise points for each point of the data, x is from the data with the probability
    sigmoid(G),  G(x) = -E(x) - c - log p_n(x) - log nu, equation (6).

    Args:
        energy: a module with `energy(x)` in nats, (B, D) -> (B,).
        noise: with `sample` and `log_prob`; wide enough to reach all data; a module's
            parameters are frozen.
        nu: noise points for each point of the data.
        count: False forgets log nu in G, to see where c goes.
    """

    def __init__(self, energy: nn.Module, noise: Noise, *, nu: int = 1, count: bool = True):
        super().__init__()
        validate.at_least(1, nu=nu)
        self.model, self.noise, self.nu = energy, noise, nu
        self.shift = math.log(nu) if count else 0.0
        self.c = nn.Parameter(torch.zeros(()))  # log Z
        if isinstance(noise, nn.Module):
            noise.requires_grad_(False)

    def energy(self, x: Tensor) -> Tensor:
        """Return E(x) + c, about -log p(x) once c has come to be log Z: (B, D) -> (B,)."""
        return self.model.energy(x) + self.c

    def logit(self, x: Tensor) -> Tensor:
        """Return G(x), the log-odds that x is from the data: (B, D) -> (B,)."""
        return -self.energy(x) - self.noise.log_prob(x) - self.shift

    def loss(self, x: Tensor) -> Tensor:
        """Return mean of softplus(-G) over data + nu mean of softplus(G) over noise: ()."""
        data = self.logit(x)
        with torch.no_grad():
            drawn = self.noise.sample(self.nu * len(x)).to(x)
        noise = self.logit(drawn)
        return F.softplus(-data).mean() + self.nu * F.softplus(noise).mean()


# %% [markdown]
# [`EnergyNet`](../../gdm_course/energy/network.py) is a network in a wide bowl
# $|x|^2/2w^2$, which keeps $Z$ finite; [`GaussianNoise`](../../gdm_course/energy/nce.py) is a
# bell, `widen` times as wide as the data. In the plane $\log Z$ can be summed on a grid, to
# compare. The switch `count=False` forgets $\log\nu$ in (6).
#
# **Question.** With $\nu = 4$ and $\log\nu$ forgotten, how far from $\log Z$ will $c$ be?
#
# <details><summary>Answer</summary>
#
# $c$ stands where $c + \log\nu$ should, so it is $\log 4\approx1.39$ above $\log Z$. See in
# the table which of the two moves: $E$ has a free constant of its own, which shifts
# $\log Z$, so only $c - \log Z$ is fixed. </details>


# %%
@torch.no_grad()
def measure(model):
    """Return log Z of its energy, by a sum over a grid, and KL(truth || model) in nats."""
    log_z = log_z_grid(model.model.energy, ((-8.0, 8.0), (-8.0, 8.0)), 200).item()
    log_p = -model.model.energy(x_test) - log_z
    return log_z, (truth.log_prob(x_test) - log_p).mean().item()


def contrast(widen=1.0, **how):
    """Train an energy against a bell that is `widen` times as wide as the data."""
    seed_everything(0)
    model = NCE(EnergyNet(2, width=1.5), GaussianNoise(x_train, widen), **how)
    for _ in fit(model, x_train, budget(1000, 5)):
        pass
    return model


row = "{:26s}{:>8s}{:>8s}{:>12s}{:>8s}".format
print(row("nats", "c", "log Z", "c - log Z", "KL"))
contrasts, off = {}, {}
for name, how in progress(
    {
        "nu = 1": {},
        "nu = 4": {"nu": 4},
        "nu = 4, log nu forgotten": {"nu": 4, "count": False},
    }.items(),
    3,
):
    model = contrasts[name] = contrast(**how)
    log_z, kl = measure(model)
    off[name] = model.c.item() - log_z
    numbers = (model.c.item(), log_z, off[name], kl)
    print(row(name, *(f"{number:.3f}" for number in numbers)))
for model in (explicit, models["six noises"], contrasts["nu = 1"]):
    print(f"{type(model).__name__}: {protocols.abilities(model)}")
if full_run():
    assert abs(off["nu = 1"]) < 0.1 and abs(off["nu = 4"]) < 0.1
    assert abs(off["nu = 4, log nu forgotten"] - math.log(4)) < 0.15

# %% [markdown]
# The model is no Density of ours even so: $c$ is an estimate, as the table shows, and
# $e^{-E-c}$ need not have the integral 1. It learns only where data and noise are mixed up,
# so the noise must come to all data, and around them. A Further section tries three widths.

# %% [markdown] tags=["notes"]
# 17 minutes for sections 7 and 8. Ask: what does a classifier learn where only one of the two
# classes ever comes? Draw two far bells and their logarithms, and shift one up: same slopes.

# %% [markdown]
# ## 9. Scale: digits
#
# The losses do not mind 64 dimensions. Eight noises, one perceptron, 8 x 8 digits. As a
# yardstick for denoising, take the best *linear* guess: Tweedie's formula with the score of a
# bell fitted to the data. We compare at $\sigma = 0.5$, which is none of the eight noises: the
# network was never asked for it.

# %%
digits = images.load("digits")
x_digits, x_held = (part.flatten(1) / 8 - 1 for part in (digits.x_train, digits.x_test))
seed_everything(0)
levels = tuple(torch.logspace(math.log10(3.0), math.log10(0.2), 8).tolist())
painter = NoiseConditionalModel(64, waves=0, hidden=(512, 512), sigmas=levels)
for _ in watch(fit(painter, x_digits, budget(1200, 10), lr=3e-3), 500, unit="no unit"):
    pass
sigma, per_pixel = 0.5, {}
noisy = x_held + sigma * torch.randn_like(x_held)
C = torch.cov(x_digits.T) + sigma**2 * torch.eye(64)
with torch.no_grad():
    bell_score = -torch.linalg.solve(C, (noisy - x_digits.mean(0)).T).T
    guesses = {
        "noisy": noisy,
        "linear": noisy + sigma**2 * bell_score,
        "network": noisy + sigma**2 * painter.score(noisy, sigma),
    }
    x = annealed(painter, 40, 100, 0.1)
    x = x + levels[-1] ** 2 * painter.score(x)  # the last noise taken off
for name, guess in guesses.items():
    per_pixel[name] = (guess - x_held).square().mean().item()
print("mean squared error per pixel:", {k: round(v, 3) for k, v in per_pixel.items()})
left, right = plot.panels(
    "clean, noisy, linear, network", "drawn by annealed chains", width=4.4
)
shown = torch.cat([part[:10] for part in (x_held, *guesses.values())])
plot.image_grid((shown.view(-1, 1, 8, 8) + 1) / 2, left, 10)
plot.image_grid((x.view(-1, 1, 8, 8) + 1) / 2, right, 10)
if full_run():
    assert per_pixel["network"] < 0.95 * per_pixel["linear"]

# %% [markdown]
# The network's guess is nearer to the clean digit than the linear one. Of the drawn pictures
# some are digits and some are smudges.
#
# **Change** `budget(1200, 10)` to 5,000 steps. Does it help?
#
# <details><summary>Answer</summary>
#
# Yes: there are fewer smudges. This network was little trained. </details>
#
# The same loss with a better network, more noises and another sampler is a diffusion model.

# %% [markdown] tags=["notes"]
# 6 minutes for section 9. Ask: which of the four rows is a mean? (All but the first two: a
# blurred guess is the honest one.)

# %% [markdown]
# ## Summary
#
# - **The score** $\nabla\log p$ does not know $Z$. Integration by parts turns the distance to
#   it into a mean over data.
# - **Sliced** replaces the trace by one random direction; **denoising** needs no slope, and
#   learns the score of blurred data.
# - **Noise**: too little is all variance, too much is another density.
# - **Blind**: shares of far modes have no slope. Several noises, and annealed chains, find
#   them.
# - **Noise contrast** learns $\log Z$ as a parameter, where the noise comes.
#
# | | needs | learns | backward passes of a step |
# |---|---|---|---|
# | explicit | data | score of $p$ | $D$ more |
# | sliced | data, signs | score of $p$ | one more |
# | denoising | data, noise | score of $p_\sigma$ | none more |
# | noise contrast | data, known noise | $E$ and $\log Z$ (nats) | none more, on $1+\nu$ points for one |
#
# **Exercises:** open them with `gdm start energy/score_matching`.
#
# ## References
#
# - Hyvärinen (2005). *Estimation of non-normalized statistical models by score matching.*
#   JMLR 6.
# - Vincent (2011). *A connection between score matching and denoising autoencoders.*
# - Gutmann, Hyvärinen (2012). *Noise-contrastive estimation of unnormalized statistical
#   models.* JMLR 13.
# - Song, Garg, Shi, Ermon (2019). *Sliced score matching.* arXiv:1905.07088.
# - Song, Ermon (2019). *Generative modeling by estimating gradients of the data
#   distribution.* arXiv:1907.05600.

# %% [markdown]
# ## Further: how wide should the noise be?
#
# **Predict, before you run.** Which noise is best: 0.4, 1 or 3 times as wide as the data? And
# what goes wrong with the worst? Then **play** with the width.


# %%
@torch.no_grad()
def beyond(model, log_z):
    """Return the mass of a model's density beyond radius 3, by a sum over a grid."""
    at = plot.mesh(((-8.0, 8.0), (-8.0, 8.0)), 200)
    p = (-model.model.energy(at) - log_z).exp() * (16 / 200) ** 2
    return p[at.norm(dim=1) > 3].sum().item()


widths = {widen: contrast(widen) for widen in progress((0.4, 1.0, 3.0))}
results = {widen: measure(model) for widen, model in widths.items()}


def draw_contrast(widen):
    """Draw noise, and the model's density with the true log Z."""
    model, (log_z, kl) = widths[widen], results[widen]
    left, right = plot.panels(
        f"data, and noise of width {widen}",
        f"model: KL {kl:.2f}, c - log Z {model.c.item() - log_z:.2f}",
        width=4,
    )
    plot.scatter(model.noise.sample(1500), left, ((-4, 4), (-4, 4)), color=plot.GREY)
    plot.scatter(x_train[:1500], left, ((-4, 4), (-4, 4)))
    plot.density(lambda x: -model.model.energy(x) - log_z, ((-4, 4), (-4, 4)), right)


play(draw_contrast, widen=[1.0, 0.4, 3.0])
for widen, (log_z, kl) in results.items():
    outside = beyond(widths[widen], log_z)
    print(f"noise {widen} times as wide: KL {kl:.3f} nats, {outside:.1%} beyond radius 3")
if full_run():
    assert results[0.4][1] > 5 * results[1.0][1] and results[3.0][1] > results[1.0][1]

# %% [markdown]
# <details><summary>Answer</summary>
#
# As wide as the data is best of the three, in this one run. Radius 3 is five widths of a bell away from its
# middle, so hardly any data lie beyond. Narrow noise hardly comes there either: little tells
# the energy to rise, and mass leaks. </details>
#
# Wide noise is safe in the plane, if a little worse: most of its points are told at a glance,
# and little is learned from them.

# %% [markdown]
# ## Further: are these arrows a gradient?
#
# A score network may answer with any arrows; only $-\nabla E$ is sure to be a gradient. In
# the plane, arrows are a gradient exactly if their **curl**
# $\partial s_2/\partial x_1 - \partial s_1/\partial x_2$ is 0 everywhere. Then a walk around
# a circle, adding $s\cdot dx$, must bring $\log p$ back to where it began.


# %%
def walk(score, n=2000):
    """Return the sum of s . dx once around the circle through the eight bells."""
    angle = (torch.arange(n).double() + 0.5) / n * 2 * math.pi
    circle = 2 * torch.stack([angle.cos(), angle.sin()], 1)
    step = 2 * torch.stack([-angle.sin(), angle.cos()], 1) * (2 * math.pi / n)
    return (score(circle.float()).detach() * step).sum().item()


@torch.no_grad()
def curl(score, h=0.01):
    """Return the root of the mean squared curl over 2,000 test points, by differences."""
    x, (e1, e2) = x_test[:2000], h * torch.eye(2)
    along_1 = (score(x + e1) - score(x - e1))[:, 1]
    along_2 = (score(x + e2) - score(x - e2))[:, 0]
    return ((along_1 - along_2) / (2 * h)).square().mean().sqrt().item()


fields = {
    "truth": truth.score,
    "explicit": explicit.score,
    "energy (NCE)": lambda x: contrasts["nu = 1"].model.score(x).detach(),
}
row = "{:14s}{:>8s}{:>8s}{:>24s}".format
print(row("", "error", "curl", "around the circle, nats"))
swirl = {name: curl(field) for name, field in fields.items()}
for name, field in fields.items():
    numbers = (f"{error(field):.3f}", f"{swirl[name]:.3f}", f"{walk(field):+.3f}")
    print(row(name, *numbers))
assert swirl["explicit"] > 10 * max(swirl["truth"], swirl["energy (NCE)"])

# %% [markdown]
# The free field has a curl: along different ways it gives different $\log p$. The last column
# shows how far off one is after a walk around the circle. What this does to samples we have
# not measured. An energy is a gradient by construction; under the explicit loss it costs one
# derivative more.

# %% [markdown]
# ## Further: contrastive divergence in one small step
#
# Contrastive divergence starts chains at the data, takes a step, and lowers the energy of the
# data against that of the chains: $C = E(x) - E(x')$, where $x'$ is held fixed. Take one
# Langevin step, $x' = x - \tfrac\epsilon2\nabla E + \sqrt\epsilon\,\xi$, and let $\partial$
# be the derivative in a weight. Expand $\partial E(x')$ around $x$ and average over $\xi$. To
# first order in $\epsilon$,
#
# $$\partial C = \frac\epsilon2\Bigl(\nabla E\cdot\nabla\partial E - \Delta\,\partial E\Bigr)
#   = \frac\epsilon2\;\partial\Bigl(\tfrac12|\nabla E|^2 - \Delta E\Bigr),$$
#
# where $\Delta = \sum_d\partial_d^2$. With $s = -\nabla E$ the bracket is the loss of explicit
# score matching (4). **One small step of contrastive divergence is score matching**
# (Hyvärinen, 2007), with its blindness to far shares: such a chain never leaves its bell.
#
# Check it on gradients. To first order only the mean and the covariance of the kicks count, so
# four kicks along the axes, of length $\sqrt2$, stand for all of the noise.

# %%
seed_everything(0)
bowl = EnergyNet(2, waves=8, hidden=(16,)).double()
for weight in bowl.parameters():
    weight.data += 0.3 * torch.randn_like(weight)
few = x_train[:100].double()
weights = [*bowl.parameters()]  # the last bias is a constant in E: it has no slope
flat = lambda loss: torch.cat(
    [g.flatten() for g in torch.autograd.grad(loss, weights, materialize_grads=True)]
)
at = few.clone().requires_grad_()
s = bowl.score(at)
matching = flat((s.square().sum(1) / 2 + trace_of_jacobian(s, at)).mean())
kicks = math.sqrt(2) * torch.cat([torch.eye(2), -torch.eye(2)]).double()
gaps = []
for eps in (0.1, 0.01, 0.001):
    moved = (few + eps / 2 * s.detach())[:, None] + math.sqrt(eps) * kicks
    drop = bowl.energy(few).mean() - bowl.energy(moved.reshape(-1, 2)).mean()
    cd = flat(drop) * 2 / eps
    gaps.append(((cd - matching).norm() / matching.norm()).item())
    print(f"eps = {eps}: the two gradients differ by {gaps[-1]:.1%}")
assert gaps[-1] < gaps[0] / 20

# %% [markdown]
# ## Further: InfoNCE, noise contrast among many
#
# Noise contrast asks "data or noise?". InfoNCE (van den Oord et al., 2018) asks "which one?":
# of $B$ candidates $b_1,\dots,b_B$, one is the partner of $a$, drawn from $p(b\,|\,a)$, and
# the others come from $p(b)$. By Bayes, candidate $j$ is the partner with a probability in
# proportion to $p(b_j|a)/p(b_j)$. So the best scores are $\log p(b|a)/p(b)$ plus any constant,
# and a softmax over the candidates is the classifier. The noise need not have a known
# density: the other rows of the batch will do.


# %% tags=["from:energy.nce.info_nce"]
def info_nce(scores: Tensor) -> Tensor:
    """Return the loss of finding each row's own partner among all columns: (B, B) -> ().

    -mean_i log softmax_j(scores_ij) at j = i. With the best scores, log B minus it is at
    most the mutual information of the two partners, and at most log B.
    """
    return F.cross_entropy(scores, torch.arange(len(scores), device=scores.device))


# %% [markdown]
# $\log B$ minus the loss is at most the mutual information of $a$ and $b$, and never above
# $\log B$: nobody finds a partner among $B$ with more certainty than 1. Bells with
# correlation $r$ in $K$ dimensions share $-\tfrac K2\log(1-r^2)$ nats. What do the *best*
# scores reach?


# %%
def best_scores(a, b, r):
    """Return log p(b_j | a_i) / p(b_j) of correlated bells: (B, B)."""
    away = (b[None] - r * a[:, None]).square().sum(2) / (2 * (1 - r * r))
    return b.square().sum(1) / 2 - away - a.shape[1] / 2 * math.log(1 - r * r)


seed_everything(0)
r, row = 0.9, "{:>4}{:>10}{:>16}{:>16}{:>16}".format
print(row("K", "shared", "B = 16", "B = 128", "B = 1024"))
for K in (1, 2, 4, 8):
    shared, bounds_found = -K / 2 * math.log(1 - r * r), []
    for B in (16, 128, 1024):
        tries = []
        for _ in range(20):
            a = torch.randn(B, K)
            b = r * a + math.sqrt(1 - r * r) * torch.randn(B, K)
            tries.append(math.log(B) - info_nce(best_scores(a, b, r)).item())
        bounds_found.append(sum(tries) / 20)
        assert bounds_found[-1] <= min(math.log(B), shared + 0.1)
    print(row(K, f"{shared:.2f}", *(f"{found:.2f}" for found in bounds_found)))
print(row("", "log B", *(f"{math.log(B):.2f}" for B in (16, 128, 1024))))

# %% [markdown]
# In the column of $B = 16$ the bound stays below $\log 16$, although the scores are perfect. A
# bound near $\log B$ does not say how much more the partners share: only a larger batch can
# show it.
