# %% [markdown]
# # Densities, samples and divergences
#
# What a generative model is, how to train one by maximum likelihood, and six ways to say
# how far it is from the truth, with what each sees and misses.

# %% [markdown] tags=["nav"]
# 59 minutes, and 13 further ·
# [exercise](../../exercises/foundations/densities.ipynb) ·
# [solution](../../solutions/foundations/densities.ipynb)
#
# [all units](../index.ipynb) ·
# next: [One dimension at a time: NADE, RNADE and MADE](../autoregressive/nade.ipynb)

# %% tags=["setup"]
import importlib.util

if importlib.util.find_spec("gdm_course") is None:
    raise ImportError(
        "the package gdm_course is not installed here: run 'make lab' in the course's "
        "folder, or 'pip install -e .[lab]', and choose that environment as the kernel"
    )

# %%
import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.distributions import (
    Bernoulli,
    Categorical,
    Independent,
    MixtureSameFamily,
    Normal,
    kl_divergence,
)

from gdm_course import (
    divergences,
    gallery,
    schematics,
    validate,  # refuses, in one sentence, what does not fit
)
from gdm_course import plotting as plot
from gdm_course.batching import Batch, columns, numbered, whole
from gdm_course.data import images, toy
from gdm_course.divergences import Estimate, gaussian_kernel
from gdm_course.divergences.densities import Bounds, LogDensity, on_grid, p_log_ratio
from gdm_course.divergences.samples import levels
from gdm_course.learning import Attempt
from gdm_course.training import (
    adam,
    budget,
    finite,
    forever,
    full_run,
    gradient_norm,
    seed_everything,
    train,
)
from gdm_course.widgets import play, watch

plot.style()

# %% [markdown]
# ## 1. The question
#
# You are given a thousand examples, and asked for *more of the same*: new ones, no copies, which
# nobody can tell from the old ones. Four data sets:

# %%
seed_everything(0)
chosen = ("eight_gaussians", "two_moons", "checkerboard", "word")
titles = [name.replace("_", " ") for name in chosen]
for ax, name in zip(plot.panels(*titles), chosen):
    density = toy.get(name)
    plot.scatter(density.sample(1000), ax, density.bounds)

# %% [markdown]
# We assume that the examples $x_1, \dots, x_N$ were drawn independently from one
# probability distribution $p$, which we call **the truth**. A **generative model** is
# another distribution $p_\theta$, with parameters $\theta$ that we choose so that $p_\theta$
# is close to $p$, when all we have of $p$ is the examples.
#
# A model is an ordinary `nn.Module`, and what it can do is said by three protocols of one
# method each. A *Sampler* has `sample(n)`, and draws new points. A *Trainable* has `loss(x)`,
# one number to minimise. The third is the strongest promise:


# %% tags=["from:protocols.Density"]
@runtime_checkable
class Density(Protocol):
    """A model that knows its own density exactly. A bound is called `elbo`, never this."""

    def log_prob(self, x: Tensor) -> Tensor:
        """Return log p(x) in nats, exact: (B, *D) -> (B,)."""
        ...


# %% [markdown]
# A density has to integrate to one, and in a thousand dimensions no grid is fine enough. Each
# family of this course gets around that in its own way:
#
# | family | how it gets around the integral |
# |---|---|
# | autoregressive | a product of one-dimensional conditionals |
# | normalizing flow | an invertible map of Gaussian noise |
# | variational autoencoder | a hidden cause, integrated out approximately |
# | energy-based | a free function, without its normalisation |
# | adversarial (GAN) | only samples, judged by an opponent |
# | diffusion | undoing noise, a little at a time |
#
# The next cell builds every model of the course and counts the promises it keeps.

# %%
kept = defaultdict(list)
for family, _, able in gallery.taxonomy():
    kept[family].append(able)
print(f"{'family':32s} models", *(f"{promise:>10s}" for promise in able))
for family, rows in kept.items():
    counts = (f"{sum(row[promise] for row in rows):10d}" for promise in able)
    print(f"{family:32s} {len(rows):6d}", *counts)

# %% [markdown] tags=["notes"]
# 6 minutes. Let the room vote: for each data set, what would "more of the same" be? The word is the useful one: people see letters, a model sees ink. Expect "a GAN's loss": it has two, of
# two players, so it is not Trainable. Come back to this table at the end of every family. Do not explain the six tricks now.

# %% [markdown]
# ## 2. The idea
#
# Think of a density as one unit of ink, to be placed where you expect points to fall. A model
# is good when the points fall on its ink. So there is a score that needs no knowledge of the
# truth: look up how much ink the model has at each data point, and average the logarithms.
# With too little spread, points that fall between the blots cost dearly; with too much, the
# ink is thin everywhere.

# %%
seed_everything(1)
truth = toy.get("eight_gaussians")
points = truth.sample(300)
centres = 2 * torch.stack(
    [f(torch.arange(0.5, 8) * math.pi / 4) for f in (torch.cos, torch.sin)], 1
)


def blots(width: float) -> MixtureSameFamily:
    parts = Independent(Normal(centres, width), 1)
    return MixtureSameFamily(Categorical(torch.ones(8)), parts)


scores = {w: blots(w).log_prob(points).mean().item() for w in (0.08, 0.2, 0.7)}
for ax, (w, score) in zip(plot.panels("too narrow", "right", "too wide"), scores.items()):
    plot.density(blots(w).log_prob, truth.bounds, ax, vmax=0.5)  # one scale of ink
    plot.scatter(points, ax, truth.bounds, color=plot.ORANGE)
    ax.set_xlabel(f"mean log-density {score:.2f} nats")
assert max(scores, key=scores.get) == 0.2

# %% [markdown]
# ## 3. Expectations: all we can compute
#
# Almost everything in this course is an **expectation**, $\mathbb{E}_p[v] = \int p(x)\,v(x)\,dx$, of
# some quantity $v$: a loss, an error, a distance. We draw $x_1, \dots, x_n$ from $p$ and
# average:
#
# $$\mathbb{E}_p[v] \approx \bar v = \frac1n \sum_{i=1}^n v(x_i), \qquad
#   \operatorname{std}(\bar v) = \frac{\operatorname{std}(v)}{\sqrt n}. \tag{1}$$
#
# The mean of $\bar v$ is exactly $\mathbb{E}_p[v]$, since expectation is linear. The draws
# are independent, so their variances add: $\operatorname{Var}(\bar v) = \frac1{n^2} \sum_i
# \operatorname{Var}(v(x_i)) = \operatorname{Var}(v)/n$. The dimension of $x$ enters only through that variance,
# so this works for images; a grid would not. Our estimates come with their
# **standard error**:


# %% tags=["from:divergences.estimates.monte_carlo"]
def monte_carlo(values: Tensor) -> Estimate:
    """Estimate E[v] from independent draws: their mean, and std / sqrt(n), equation (1).

    Args:
        values: (n,) draws of v, n at least 2.

    Returns:
        The mean and its standard error, both scalars in the unit of v.
    """
    values = validate.points(values, (), name="values", least=2)
    return Estimate(values.mean(), values.std() / len(values) ** 0.5)


# %%
print("three draws of v, 1, 2 and 6:", monte_carlo(torch.tensor([1.0, 2.0, 6.0])))
seed_everything(2)
normal = Normal(0.0, 1.0)
estimate = monte_carlo(normal.sample((10_000,)) ** 2)
print("E[x²] under N(0, 1) is 1; estimated:", estimate)
assert abs(estimate.value - 1) < 5 * estimate.error

sizes = [10, 30, 100, 300, 1000, 3000, 10_000, 30_000]
spread = [(normal.sample((200, n)) ** 2).mean(1).std() for n in sizes]
predicted = [math.sqrt(2 / n) for n in sizes]  # the variance of x² is 2
ax = plot.panels("two hundred estimates for every n", width=5)[0]
ax.loglog(sizes, predicted, color=plot.GREY, label="equation (1): $\\sqrt{2/n}$")
ax.loglog(sizes, spread, "o", label="measured spread")
ax.set(xlabel="n, samples per estimate", ylabel="standard deviation")
ax.legend()
assert all(0.7 < s / p < 1.4 for s, p in zip(spread, predicted))

# %% [markdown]
# **Question 1.** An estimate has the error 0.1. How many times as many draws make it 0.01?
#
# <details><summary>Answer</summary>
#
# A hundred times as many: the error falls with the root of $n$.
# </details>
#
# ### Change of expectation
#
# Often we want an expectation under $p$ but can draw only from some other $q$. Multiply
# and divide by $q$ (positive wherever $p$ is):
#
# $$\mathbb{E}_p[v] = \int q(x)\,\frac{p(x)}{q(x)}\,v(x)\,dx = \mathbb{E}_q[w\,v],
#   \qquad w(x) = \frac{p(x)}{q(x)}. \tag{2}$$
#
# This is **importance sampling**. If the densities are known only up to constants, so is
# $w$, up to a factor $c$. As $\mathbb{E}_q[w] = c$, we divide by it, and estimate
# $m = \mathbb{E}_p[v]$ by $\hat m = \sum_i w_i v_i / \sum_i w_i$. Two draws with $w = 1, 3$
# and $v = 10, 20$ give $\hat m = 70/4$. For its error, write
#
# $$\hat m - m = \frac{\frac1n\sum_i w_i (v_i - m)}{\frac1n\sum_i w_i}.$$
#
# The terms of the numerator have mean zero, the denominator tends to $c$, so the variance
# is about $\frac1n \mathbb{E}_q[w^2 (v - m)^2] / c^2$, which we estimate by
# $\sum_i w_i^2 (v_i - \hat m)^2 / (\sum_i w_i)^2$:


# %% tags=["from:divergences.estimates.importance"]
def importance(values: Tensor, log_w: Tensor) -> Estimate:
    """Estimate E_p[v] from draws of q, with weights w = p / q known up to a factor.

    Equation (2), self-normalised: the estimate is sum(w v) / sum(w), and its standard
    error, to first order in 1/n, is sqrt(sum(w^2 (v - estimate)^2)) / sum(w).

    Args:
        values: v(x_i) with x_i from q, (n,).
        log_w: log p(x_i) - log q(x_i), each up to a constant, (n,).

    Returns:
        The estimate and its standard error, which means nothing where w (v - estimate) has
        infinite variance under q. A small `effective_sample_size` warns of that, a large
        one is no proof.
    """
    values = validate.points(values, (), name="values")
    validate.one_each(log_w, len(values), "log_w")
    w = log_w.softmax(0)  # w / sum(w), safe against overflow
    value = (w * values).sum()
    return Estimate(value, (w * (values - value)).square().sum().sqrt())


# %% [markdown]
# Equation (2) hides a trap. The error is finite only if $\mathbb{E}_q[w^2 (v - m)^2]$ is.
# Take $p = \mathcal N(0, 1)$ and $q = \mathcal N(0, \sigma^2)$. Then
# $q\,w^2 = p^2/q \propto \exp\bigl(-x^2 + \frac{x^2}{2\sigma^2}\bigr)$, whose integral is
# finite only for $\sigma^2 > \frac12$.
#
# **Predict 1, before you run.** With 5,000 draws each, from $\sigma = 0.5$: in how many of
# 200 runs does the true value lie within two standard errors? An honest error says 190.

# %%
seed_everything(4)
axes = plot.panels("wide proposal, σ = 2", "narrow proposal, σ = 0.5", width=4.2)
covered = {}
for ax, sigma in zip(axes, (2.0, 0.5)):
    q = Normal(0.0, sigma)
    x = q.sample((200, 5000))
    log_w = normal.log_prob(x) - q.log_prob(x)
    runs = [importance(x_run**2, w_run) for x_run, w_run in zip(x, log_w)]
    hits = [abs(r.value - 1).item() < 2 * r.error.item() for r in runs]
    covered[sigma] = sum(hits) / len(hits)
    w = log_w[:12].exp()
    ax.plot(
        ((w * x[:12] ** 2).cumsum(1) / w.cumsum(1)).T, color=plot.BLUE, alpha=0.5, lw=0.9
    )
    ax.axhline(1, color=plot.BLACK, lw=1, ls="--")
    ax.set(ylim=(0, 2), xlabel="samples drawn", ylabel="estimate of $E_p[x^2] = 1$")
for sigma, share in covered.items():
    print(
        f"σ = {sigma}: the truth lies within two standard errors in {share:.0%} of 200 runs"
    )
assert covered[2.0] > 0.9 > covered[0.5]

# %% [markdown]
# <details><summary>Answer</summary>
#
# In far fewer; the share is printed. The rare draw in the tail, which would carry the sum, has
# mostly not happened. The error is computed from what *was* drawn, so it is too small, too.
# </details>
#
# On the right most runs sit *below* the truth, agree with one another, and jump when a point
# from the tail arrives. The usual warning is a small **effective sample size**,
# $(\sum_i w_i)^2 / \sum_i w_i^2$. It, too, is computed from what was drawn.

# %% [markdown] tags=["notes"]
# 14 minutes for sections 2 and 3. Expect "about 190, a bit noisy" for Predict 1. Draw p and the narrow q on the board and ask where the weight is largest. If time is short leave the derivation of the
# error of the weighted mean to reading; exercise 4 asks for it.

# %% [markdown]
# ## 4. Maximum likelihood is minimum KL
#
# How far is a model $q$ from the truth $p$? The **Kullback-Leibler divergence** is the
# mean, over the truth, of the log-ratio of ink:
#
# $$\mathrm{KL}(p\,\|\,q) = \mathbb{E}_p\!\left[\log\frac{p(x)}{q(x)}\right]. \tag{3}$$
#
# Tiny example: a fair coin $p$ and a bent one, $q = (\frac34, \frac14)$, have
# $\mathrm{KL}(p\,\|\,q) = \frac12\log\frac23 + \frac12\log 2 = 0.144$. The other way round it is
# $\frac34\log\frac32 + \frac14\log\frac12 = 0.131$: KL is not symmetric, so it is no distance.
#
# **It is never negative, and zero only for $q = p$.** For every $t > 0$ we have
# $\log t \le t - 1$, with equality only at $t = 1$. With $t = q/p$:
# $-\mathrm{KL}(p\,\|\,q) = \mathbb{E}_p[\log\frac qp] \le \mathbb{E}_p[\frac qp] - 1 = \int_{p > 0} q\,dx - 1 \le 0.$
#
# In one or two dimensions we can integrate it on a grid:


# %% tags=["from:divergences.densities.kl"]
def kl(
    log_p: LogDensity, log_q: LogDensity, bounds: Bounds, n: int | None = None
) -> Tensor:
    """KL(p || q) = integral of p (log p - log q), in nats: the mean is taken under p.

    Equation (3). Infinite where p has mass and q has none.
    """
    p, q, cell = on_grid(log_p, log_q, bounds, n)
    return p_log_ratio(p, q).sum() * cell


# %%
p, q = Normal(0.0, 1.0), Normal(1.0, 2.0)
LINE = (-30.0, 30.0)
forward, backward = kl(p.log_prob, q.log_prob, LINE), kl(q.log_prob, p.log_prob, LINE)
print(f"KL(p‖q) = {forward:.4f} nats, KL(q‖p) = {backward:.4f} nats")
assert abs(forward - kl_divergence(p, q)) < 1e-5  # the closed form for two Gaussians
fair, bent = (Categorical(torch.tensor(c)) for c in ([0.5, 0.5], [0.75, 0.25]))
there, back = kl_divergence(fair, bent), kl_divergence(bent, fair)
print(f"two coins: {there:.3f} and {back:.3f} nats; a fair one: {fair.entropy():.3f}")

# %% [markdown]
# Now let $q = p_\theta$ and take equation (3) apart:
#
# $$\mathrm{KL}(p\,\|\,p_\theta) = \underbrace{\mathbb{E}_p[\log p(x)]}_{-H(p)}
#   \; - \; \mathbb{E}_p[\log p_\theta(x)]
#   \;\approx\; -H(p) \; - \; \frac1N\sum_{i=1}^N \log p_\theta(x_i). \tag{4}$$
#
# The **entropy** $H(p)$ belongs to the truth: no choice of $\theta$ changes it. The last term
# is the **negative log-likelihood** (NLL) of the data. It needs only examples and the model's `log_prob`. So *to minimise the KL divergence from the truth
# is to maximise the likelihood of the data*. On fresh data the NLL is, on average, $H(p)$ plus
# the KL divergence. On our toy data $H(p)$ is known, so we can say how far a model is from
# the truth.
#
# **Units.** With natural logarithms the unit is the **nat**; with base 2, the **bit**. A fair
# coin has $\log 2 = 0.693$ nats, one bit. For images we speak of **bits per dimension**, NLL
# divided by $D \log 2$. For continuous data the number depends on the unit of $x$: in
# millimetres instead of metres a density is 1,000 times smaller, and its NLL is larger by
# $\log 1000$ per dimension. Differences between models stay.
#
# **Question 2.** Your model reports an NLL of −1.7 nats on test data. Is that a bug?
#
# <details><summary>Answer</summary>
#
# Not for continuous data: a density may be larger than 1, and then its logarithm is positive.
# For discrete data (pixels of 0 and 1, characters) probabilities are at most 1, and a
# negative NLL *is* a bug.
# </details>

# %% [markdown]
# ## 5. Build: a model, and the training loop
#
# Our first model is a sum of $K$ Gaussian blots, whose places, widths and shares of the
# ink are parameters:
# $p_\theta(x) = \sum_k \pi_k\, \mathcal N(x;\, \mu_k, \operatorname{diag}\sigma_k^2)$.
# Shares have to sum to one, so we store logits; widths have to be positive, so we store
# logarithms. It keeps all three promises.


# %% tags=["from:foundations.densities.GaussianMixture"]
class GaussianMixture(nn.Module):
    """p(x) = sum_k pi_k N(x; mu_k, diag(sigma_k^2)): a Sampler, Trainable and a Density.

    Args:
        D: dimension of a point.
        K: number of components.
    """

    def __init__(self, D: int, K: int = 16):
        super().__init__()
        validate.at_least(1, D=D, K=K)
        self.logits = nn.Parameter(torch.zeros(K))  # of the weights pi
        self.mu = nn.Parameter(torch.randn(K, D))
        self.log_sigma = nn.Parameter(torch.full((K, D), -1.0))

    def distribution(self) -> MixtureSameFamily:
        """Return the mixture at the current parameters."""
        sigma = self.log_sigma.clamp(-10, 10).exp()  # exp of more is inf, of less 0
        parts = Independent(Normal(self.mu, sigma), 1)
        return MixtureSameFamily(Categorical(logits=self.logits), parts)

    def log_prob(self, x: Tensor) -> Tensor:
        """Return log p(x) in nats: (B, D) -> (B,)."""
        x = validate.points(x, self.mu.shape[1], self.mu)
        return self.distribution().log_prob(x)

    def loss(self, x: Tensor) -> Tensor:
        """Return the mean negative log-likelihood of a batch in nats: (B, D) -> ()."""
        return -self.log_prob(x).mean()

    def sample(self, n: int) -> Tensor:
        """Draw a component for each point, then the point from it: (n, D)."""
        n = validate.count(n)
        return self.distribution().sample((max(n, 1),))[:n]  # torch cannot draw none


# %% tags=["fold"]
# @title A mixture, from a point to its log-density
seed_everything(5)
small = GaussianMixture(2, K=4)
at = toy.get("two_moons").sample(100)
parts = small.distribution().component_distribution.log_prob(at[:, None])  # (100, 4)
with torch.no_grad():
    d = schematics.Drawing(
        "GaussianMixture", "Four blots read the point; their inks are added.", 100
    )
    point, blot = (
        d.box("$x$", (0, 0)),
        d.box("log-density of each blot", (1, 0), "operation"),
    )
    shares = d.box(r"logits of the shares $\pi$", (1, 1), "tensor", of=small.logits)
    add, log_p = d.box("logsumexp", (2, 0), "operation"), d.box(r"$\log p(x)$", (3, 0))
    d.arrow(point, blot, "", at), d.arrow(blot, add, "", parts), d.arrow(shares, add)
    d.arrow(add, log_p, "", small.log_prob(at))
d

# %% [markdown]
# Training: draw a batch (`forever` deals the data in random order, again and again), ask for
# its loss, let autograd compute the gradient, and take a step against it:

# %%
moons = toy.get("two_moons")
seed_everything(6)
x_train, x_test = moons.sample(10_000), moons.sample(10_000)

seed_everything(7)
model = GaussianMixture(2)
optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
bare = []
for batch in islice(forever(x_train, 256), 200):
    loss = model.loss(batch)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    bare.append(loss.item())
print(f"loss {bare[0]:.3f} → {bare[-1]:.3f} nats")
x, cell = divergences.grid(((-9.0, 9.0), (-9.0, 9.0)), n=200)
mass = model.log_prob(x.float()).exp().sum() * cell
print(f"{sum(p.numel() for p in model.parameters())} parameters, ink {mass:.5f}")
assert abs(mass - 1) < 1e-3 and bare[-1] < bare[0]

# %% [markdown] tags=["notes"]
# 12 minutes for sections 4 and 5. Question 2 divides every room. Ask before the loop: which of the five lines knows that this is a mixture? None but `model.loss`.

# %% [markdown]
# ## 6. Train, beside the truth
#
# The course wraps this loop in `train`, which hands every step back to your own `for`; its
# code is in the first section after the summary. Watch the blots find the moons, beside the
# truth.

# %% tags=["train"]
seed_everything(8)
STEPS = budget(1500, 50)
model = GaussianMixture(2, K=32)
panels = {
    "model": lambda ax: plot.density(model.log_prob, moons.bounds, ax, vmax=1.6),
    "truth": lambda ax: plot.density(moons.log_prob, moons.bounds, ax, vmax=1.6),
}
rate = lambda step: 0.03 * (1 - step / STEPS)
for _ in watch(train(model, forever(x_train, 512), STEPS, lr=rate), 250, panels):
    pass

# %% [markdown]
# Now (4) can be checked. There are two ways to estimate the gap:
# take the mean NLL less the entropy, or average the differences **point by point**,
#
# $$\mathrm{KL}(p\,\|\,p_\theta) \approx \frac1N\sum_{i=1}^N d_i, \qquad
#   d_i = \log p(x_i) - \log p_\theta(x_i), \qquad
#   \text{error} = \frac{\operatorname{std}(d)}{\sqrt N}. \tag{5}$$
#
# **Predict 2, before you run.** Both use the same 10,000 test points. Which has the smaller
# error: the mean NLL, or the mean of the $d_i$?

# %%
with torch.no_grad():
    around, model_log = ((-3.0, 4.0), (-2.5, 3.0)), lambda x: model.log_prob(x.float())
    exact = kl(moons.log_prob, model_log, around, n=200)
    nll = monte_carlo(-model.log_prob(x_test))
    gap = divergences.kl_estimate(moons.log_prob, model.log_prob, x_test)
print(f"NLL of test points {nll} nats, entropy of the truth {moons.entropy():.4f} nats")
print(f"their difference   {nll.value - moons.entropy():.4f}, by equation (5) {gap} nats")
print(f"KL on a grid       {exact:.4f} nats")
assert abs(gap.value - exact) < 5 * gap.error + 1e-3
if full_run():
    assert gap.error < nll.error

# %% [markdown]
# <details><summary>Answer</summary>
#
# The $d_i$. Where the truth is thin, the model is thin, too, so $\log p$ and $\log p_\theta$ rise
# and fall together, and their difference varies less. The course compares models so, **paired**.
# </details>
#
# **Change this line, and run from there.** `K=32` to `K=2`. By how much do NLL and KL change?
#
# <details><summary>Answer</summary>
#
# Both rise, by the same amount but for the errors: they differ by $H(p)$.
# </details>
#
# **Question 3.** With ten training points and K = 10, how small can this model make its
# training NLL?
#
# <details><summary>Answer</summary>
#
# As small as you like (in our code $\sigma$ stops at $e^{-10}$). Put one blot on each point and
# let its width go to zero: the density there grows without bound, while the NLL of test points
# goes to infinity.
# </details>

# %% [markdown] tags=["notes"]
# 8 minutes. Predict 2: most say "the same, it is the same data". Leave out the changed line if the room is slow; never leave out the check.

# %% [markdown]
# ## 7. Six ways to measure a distance
#
# KL is one of many. Swapping its arguments gives the **reverse KL**, $\mathrm{KL}(q\,\|\,p)$,
# an average over the *model*. Comparing both with their mean $m = \frac12(p + q)$ gives the
# **Jensen-Shannon** divergence, and comparing the two inks directly, the **total variation**:
#
# $$\mathrm{JS} = \tfrac12 \mathrm{KL}(p\,\|\,m) + \tfrac12 \mathrm{KL}(q\,\|\,m), \qquad
#   \mathrm{TV} = \tfrac12 \int |p - q|\,dx. \tag{6}$$
#
# JS is always finite: $m \ge p/2$ gives $\log\frac pm \le \log 2$, so
# $\mathrm{JS} \le \log 2$. TV is the largest difference in probability that any event can
# show: $\frac14$ for our two coins. All four compare $p$ and $q$ point by point, and do not
# know which points are neighbours.


# %% tags=["from:divergences.densities.js"]
def js(
    log_p: LogDensity, log_q: LogDensity, bounds: Bounds, n: int | None = None
) -> Tensor:
    """JS(p, q) = KL(p || m) / 2 + KL(q || m) / 2 with m = (p + q) / 2: 0 to log 2 nats.

    Equation (6), left.
    """
    p, q, cell = on_grid(log_p, log_q, bounds, n)
    m = torch.logaddexp(p, q) - math.log(2)
    return (p_log_ratio(p, m) + p_log_ratio(q, m)).sum() * cell / 2


# %% [markdown]
# ### Wasserstein: how far must the ink be carried?
#
# Think of $p$ as heaps of sand and $q$ as holes. The **Wasserstein distance** $W_1$ is the least
# cost of filling them, when carrying a grain over a distance $d$ costs $d$. From
# heaps of $\frac12$ at 0 and 1 to holes at 2 and 5, it is $\frac12\cdot 2+\frac12\cdot 4 = 3$. On the
# line the best plan is *never to let two paths cross*. If $a < b$ go to $c < d$, then
# $|a - c| + |b - d| \le |a - d| + |b - c|$: uncrossing never costs. So the lowest
# grain goes to the lowest place, quantile to quantile. With the distribution functions $F$
# and $G$, and a cost of $d^k$ with $k \ge 1$, for which the same holds,
#
# $$W_k^k = \int_0^1 \bigl|F^{-1}(u) - G^{-1}(u)\bigr|^k du, \qquad
#   W_1 = \int_{-\infty}^{\infty} |F(x) - G(x)|\,dx. \tag{7}$$
#
# The second is the area between the two curves, in columns instead of rows. Of two samples,
# the quantile functions are steps, which jump at `levels`:


# %% tags=["from:divergences.samples.wasserstein_1d"]
def wasserstein_1d(x: Tensor, y: Tensor, order: float = 1.0) -> Tensor:
    """W_k between two samples of the line, exact: sort, then compare equal quantiles.

    On the line the cheapest plan never crosses, so it joins the quantile functions:
    W_k^k = integral over u in (0, 1) of |F^-1(u) - G^-1(u)|^k, equation (7). Both are
    steps here.

    Args:
        x, y: (n,) and (m,); n and m may differ.
        order: k >= 1.

    Returns:
        W_k, a scalar in the unit of x.
    """
    x, y = validate.points(x, (), name="x"), validate.points(y, (), x, name="y")
    if not order >= 1:
        raise ValueError(f"order is {order}: expected a power of the distance, k >= 1")
    x, y = x.sort().values, y.sort().values
    jumps = torch.cat([levels(x), levels(y)]).sort().values
    width = jumps.diff(prepend=jumps.new_zeros(1))
    middle = jumps - width / 2  # of each interval of u on which both functions are constant
    i = (middle * len(x)).long().clamp_max(len(x) - 1)
    j = (middle * len(y)).long().clamp_max(len(y) - 1)
    return ((x[i] - y[j]).abs() ** order * width).sum() ** (1 / order)


# %%
p, q = Normal(0.0, 1.0), Normal(1.5, 0.5)
divided = js(p.log_prob, q.log_prob, LINE)
variation = divergences.total_variation(p.log_prob, q.log_prob, LINE)
print(f"JS {divided:.4f} nats (at most {math.log(2):.4f}), TV {variation:.4f} (at most 1)")
assert variation <= math.sqrt(kl(p.log_prob, q.log_prob, LINE) / 2)  # Pinsker's inequality

seed_everything(9)
x, y = p.sample((5000,)), q.sample((4000,))
exact = divergences.wasserstein_1d_cdf(p.cdf, q.cdf, LINE)
print(f"W₁ from samples {wasserstein_1d(x, y):.4f}, from the CDFs {exact:.4f}")
print("two heaps:", wasserstein_1d(torch.tensor([0.0, 1.0]), torch.tensor([5.0, 2.0])))
assert abs(wasserstein_1d(x, x + 5) - 5) < 1e-4  # a shift by 5 is 5 far
assert abs(wasserstein_1d(x, y) - exact) < 0.1

# %% [markdown]
# ### MMD: compare averages of many features
#
# Choose features $\varphi(x)$, a long vector, and compare their means under $p$ and $q$, with
# independent $x, x' \sim p$ and $y, y' \sim q$. With the one feature $\varphi(x) = x$ that is
# $(\mathbb{E}x - \mathbb{E}y)^2$. In general, multiply out, with
# $k(x, y) = \varphi(x) \cdot \varphi(y)$:
#
# $$\mathrm{MMD}^2 = \bigl\|\mathbb{E}\varphi(x) - \mathbb{E}\varphi(y)\bigr\|^2
#   = \mathbb{E}\,k(x, x') + \mathbb{E}\,k(y, y') - 2\,\mathbb{E}\,k(x, y). \tag{8}$$
#
# Only $k$ is needed. The Gaussian kernel
# $k(x, y) = e^{-|x - y|^2 / 2h^2}$ belongs to all waves $\cos(\omega\cdot x)$,
# $\sin(\omega\cdot x)$ with $\omega \sim \mathcal N(0, h^{-2} I)$: the **bandwidth** $h$ is the
# size of detail it looks at. A point paired with itself is not an independent pair, so the
# diagonal is left out; then the estimate is unbiased.


# %% tags=["from:divergences.samples.mmd2"]
def mmd2(x: Tensor, y: Tensor, bandwidth: float | Sequence[float]) -> Tensor:
    """Estimate MMD^2(p, q) = E k(x, x') + E k(y, y') - 2 E k(x, y) without bias.

    Equation (8). A point and itself are not an independent pair, so both diagonals are
    left out. An estimate that is right on average where the truth is 0 is often negative.

    Args:
        x, y: samples (N, D) and (M, D), at least 2 rows each.
        bandwidth: of the Gaussian kernel, in the unit of x.

    Returns:
        The estimate, a scalar without unit, 2 at most.

    Raises:
        ValueError: a sample of one row, which has no pair.

    References:
        Gretton, Borgwardt, Rasch, Schoelkopf and Smola (2012), A kernel two-sample test,
        JMLR 13.
    """
    N = len(validate.points(x, "D", least=2))
    M = len(validate.points(y, "D", name="y", least=2))
    within_x = (gaussian_kernel(x, x, bandwidth).sum() - N) / (N * (N - 1))
    within_y = (gaussian_kernel(y, y, bandwidth).sum() - M) / (M * (M - 1))
    return within_x + within_y - 2 * gaussian_kernel(x, y, bandwidth).mean()


# %%
seed_everything(10)
pairs = lambda q: torch.stack(
    [mmd2(p.sample((100, 1)), q.sample((100, 1)), 1.0) for _ in range(400)]
)
same, other = pairs(p), pairs(Normal(0.5, 1.0))
ax = plot.panels("400 estimates from 100 + 100 points", width=5)[0]
bins = torch.linspace(-0.02, 0.18, 61).tolist()
ax.hist(same, bins, alpha=0.7, label="q = p")
ax.hist(other, bins, alpha=0.7, label="q = N(0.5, 1)")
ax.axvline(0, color=plot.BLACK, lw=1)
ax.set(xlabel="estimate of MMD²", ylabel="how many")
ax.legend()
assert abs(monte_carlo(same).value) < 5 * monte_carlo(same).error  # unbiased: centred on 0

# %% [markdown]
# | | needs | unit, range | sees well | misses |
# |---|---|---|---|---|
# | KL(p‖q) | samples of p, density of q | nats, to ∞ | places the model forgot | ink where no data is |
# | KL(q‖p) | samples and density of q, p up to a factor | nats, to ∞ | ink where no data is | modes the model forgot |
# | JS | both densities | nats, to log 2 | both, a little | how far apart, without overlap |
# | TV | both densities | probability, to 1 | the most telling event | as JS |
# | W₁ | samples of both | the unit of x | how far the ink has to go | fine differences |
# | MMD | samples of both | none, to √2 | differences of the size h | finer and wider ones |

# %% [markdown] tags=["notes"]
# 12 minutes. Cover the two right columns of the table and let the room fill them in. The usual mistake: that MMD needs no choice. It has one, the bandwidth, and a further section makes it fail.

# %% [markdown]
# ## 8. Play: move one density, see all six
#
# The truth has two modes, the model is one Gaussian, and you move it. Find the place each
# divergence likes best. Then make the model narrow.

# %%
truth = MixtureSameFamily(
    Categorical(torch.tensor([0.6, 0.4])),
    Normal(torch.tensor([-2.0, 2.0]), torch.tensor([0.6, 0.6])),
)
FAR, shifts, widths = (-25.0, 25.0), torch.linspace(-5, 5, 41), [0.3, 0.6, 1.2, 2.0]


def six(q: Normal) -> list[float]:
    p, q, cdfs = truth.log_prob, q.log_prob, (truth.cdf, q.cdf)
    pairs = (
        kl(p, q, FAR),
        kl(q, p, FAR),
        js(p, q, FAR),
        divergences.total_variation(p, q, FAR),
    )
    apart = (
        divergences.wasserstein_1d_cdf(*cdfs, FAR),
        divergences.mmd2_density(p, q, FAR, 1.0).sqrt(),
    )
    return [value.item() for value in (*pairs, *apart)]


curves = {w: torch.tensor([six(Normal(m.item(), w)) for m in shifts]).T for w in widths}
labels = ["KL(p‖q), nats", "KL(q‖p), nats", "JS, nats", "TV", "W₁, unit of x", "MMD, h = 1"]


def valleys(curve: Tensor) -> list[float]:
    """The shifts at which a curve is lower than on both sides."""
    lowest = (curve[1:-1] < curve[:-2]) & (curve[1:-1] <= curve[2:])
    return shifts[1:-1][lowest].tolist()


print("valleys, for the narrowest and the widest model")
for label, narrow, wide in zip(labels, curves[0.3], curves[2.0]):
    print(f"{label:14s} {valleys(narrow)!s:14s} {valleys(wide)}")


def draw(shift: float, sigma: float) -> None:
    density, *small = plot.panels("densities", *labels, width=2.6, height=2.2)
    plot.density_1d(truth.log_prob, (-6, 6), density)
    plot.density_1d(Normal(shift, sigma).log_prob, (-6, 6), density, color=plot.ORANGE)
    for ax, curve, now in zip(small, curves[sigma], six(Normal(shift, sigma))):
        ax.plot(shifts, curve, color=plot.GREY, lw=1.2)
        ax.plot(shift, now, "o", color=plot.ORANGE)
        ax.set(xlabel="shift", ylim=(0, None))


play(draw, shift=(-5.0, 5.0, 0.25), sigma=widths)

# %% [markdown]
# With the widest model all six have one valley. With the narrowest, KL(p‖q) still prefers
# the place *between* the modes, where it forgets neither altogether, and W₁ one near the
# median. KL(q‖p), JS, TV and MMD have a valley at every mode. And look at the edges: JS and TV
# of a narrow model are flat there, while W₁ goes on falling towards the truth.

# %% [markdown]
# ## 9. Break it: a model that is too poor
#
# Fit one Gaussian to the two modes by walking down each KL. Minimising KL(p‖q) over all
# Gaussians has a closed answer: the NLL
# $\mathbb{E}_p\bigl[\log\sigma + \frac{(x - \mu)^2}{2\sigma^2}\bigr]$ is least where
# $\mu = \mathbb{E}_p[x]$ and $\sigma^2 = \operatorname{Var}_p(x)$ (set both derivatives
# to zero): it *matches the moments*, and covers everything.


# %%
def fit(
    divergence: Callable, start: float, K: int = 1, steps: int = budget(400, 40)
) -> nn.Module:
    seed_everything(11)
    model = GaussianMixture(1, K)
    model.mu.data = (
        start + torch.linspace(-1, 1, K)[:, None] if K > 1 else torch.full((1, 1), start)
    )
    optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
    for _ in range(steps):
        loss = divergence(
            truth.log_prob,
            lambda x: model.log_prob(x[:, None].float()),
            (-25.0, 25.0),
            1000,
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model


fits = {
    "KL(p‖q): covers": fit(kl, 1.0),
    "KL(q‖p) from -1: seeks": fit(divergences.reverse_kl, -1.0),
    "KL(q‖p) from +1: seeks": fit(divergences.reverse_kl, 1.0),
    "KL(q‖p), two blots": fit(divergences.reverse_kl, 0.0, K=2),
}
for ax, q in zip(plot.panels(*fits), fits.values()):
    plot.density_1d(truth.log_prob, (-6, 6), ax, label="truth")
    plot.density_1d(lambda x, q=q: q.log_prob(x[:, None]), (-6, 6), ax, label="model")
ax.legend(loc="upper right")
covering = next(iter(fits.values()))
print(f"moments of the truth: {truth.mean:.3f}, {truth.stddev:.3f}")
print(
    f"fitted by KL(p‖q):    {covering.mu.item():.3f}, {covering.log_sigma.exp().item():.3f}"
)

# %% [markdown]
# KL(p‖q) *invents*: it puts most ink between the modes, where data is rare. KL(q‖p) *forgets*: it sits on
# one mode, and which one depends on where it started. Neither is wrong; the model is too poor.
# With two blots (right) both modes are found, here even by the forgetful one.

# %% [markdown]
# ## 10. Scale: real digits, in bits
#
# Real data has no known truth, but (4) still ranks models. The simplest model of a binary
# image treats every pixel as a coin of its own. We train it on digits of $8 \times 8$ pixels.


# %% tags=["from:foundations.densities.IndependentPixels"]
class IndependentPixels(nn.Module):
    """p(x) = prod_d Bernoulli(x_d; mu_d): every binary pixel on its own.

    Args:
        D: number of pixels.
    """

    def __init__(self, D: int):
        super().__init__()
        validate.at_least(1, D=D)
        self.logits = nn.Parameter(torch.zeros(D))

    def log_prob(self, x: Tensor) -> Tensor:
        """Return log p(x) in nats, summed over the pixels: (B, D) -> (B,)."""
        x = validate.bits(x, len(self.logits), self.logits)
        return Bernoulli(logits=self.logits).log_prob(x).sum(1)

    def loss(self, x: Tensor) -> Tensor:
        """Return the mean negative log-likelihood in nats per image: (B, D) -> ()."""
        return -self.log_prob(x).mean()

    def sample(self, n: int) -> Tensor:
        """Toss every pixel's coin: (n, D) of 0 and 1."""
        return Bernoulli(logits=self.logits).sample((validate.count(n),))


# %% tags=["train"]
digits = images.load("digits")
x_digits, x_held = ((x > 8).flatten(1).float() for x in (digits.x_train, digits.x_test))
seed_everything(12)
coins = IndependentPixels(64)
for _ in train(coins, forever(x_digits, 256), budget(600, 50), lr=0.05):
    pass
with torch.no_grad():
    nll = monte_carlo(-coins.log_prob(x_held))
print(
    f"test NLL {nll} nats per image = {nll.value / (64 * math.log(2)):.3f} bits per pixel"
)
data, drawn = plot.panels("data", "independent pixels", width=3)
plot.image_grid(x_held[:36].view(-1, 8, 8), data)
plot.image_grid(coins.sample(36).view(-1, 8, 8), drawn)
assert nll.value < 64 * math.log(2)  # better than one bit per pixel

# %% [markdown]
# Every pixel is as often on as it should be, and no image is a digit: what makes a digit is
# how pixels depend on one another. The next lecture lets each pixel look at the ones before
# it.

# %% [markdown]
# ## Summary
#
# - A generative model is a distribution with parameters; `sample`, `loss` and `log_prob` are
#   three separate promises.
# - Expectations are estimated by averages, whose error falls as $1/\sqrt n$ in any dimension.
#   Importance weights can make that error a lie.
# - Maximum likelihood is minimum KL(p‖p_θ); NLL minus entropy is the distance left, in nats.
# - KL, JS and TV compare ink point by point; W₁ and MMD compare places, from samples alone.
# - KL(p‖q) covers, KL(q‖p) seeks, JS saturates, and MMD sees at its bandwidth.
#
# ## Exercises
#
# Six short functions, checked as you go.
#
# ## References
#
# - Kullback, Leibler (1951), *On information and sufficiency*.
# - Lin (1991), *Divergence measures based on the Shannon entropy*.
# - Owen (2013), *Monte Carlo theory, methods and examples*, chapter 9.
# - Gretton and others (2012), *A kernel two-sample test*, JMLR 13.
# - Peyré, Cuturi (2019), *Computational optimal transport*, chapter 2.6, arXiv:1803.00567.
# - Theis, van den Oord, Bethge (2016), *A note on the evaluation of generative models*,
#   arXiv:1511.01844.

# %% [markdown]
# ## Further: the course's loop
#
# `batches` goes once through the data in a new random order (`forever` repeats it). `columns`
# makes sure that several tensors have equally many rows. For data that fits in memory this is
# much faster than a `DataLoader`.


# %% tags=["from:training.batches"]
def batches(x: Batch, B: int, generator: torch.Generator | None = None) -> Iterator[Batch]:
    """Go once through data that fits in memory, in random order, `B` rows at a time.

    Every row appears exactly once per call; the last batch may be smaller. A tuple of
    tensors with equally many rows, such as images and labels, is shuffled together.

    Args:
        x: data (N, *D), or a tuple of tensors with N rows each.
        B: rows in a batch.
        generator: draws the order; the global one if None.
    """
    parts, B = columns(x), whole("B", B, 1)
    device = None if generator is None else generator.device
    order = torch.randperm(len(parts[0]), generator=generator, device=device)
    for chosen in order.to(parts[0].device).split(B):
        yield x[chosen] if isinstance(x, Tensor) else tuple(t[chosen] for t in parts)


# %% [markdown]
# `train` is the loop itself, as a **generator**: it hands every step back to your own
# `for`, where you may print, plot, stop early or average. It also lets the learning rate
# change with the step, and refuses to go on with a loss or a gradient that is not finite:
# `finite` raises, and `attempt` puts back whatever the step has changed by then.


# %% tags=["from:training.train"]
def train(
    model: nn.Module,
    batches: Iterable[Batch],
    steps: int,
    lr: float | Callable[[int], float] = 1e-3,
    optimizer: torch.optim.Optimizer | None = None,
    clip: float | None = None,
    backward: Callable[[Tensor], None] = Tensor.backward,
) -> Iterator[tuple[int, float]]:
    """Minimise `model.loss` with Adam, handing every step back to the caller's `for` loop.

    A loss or a gradient that is not finite raises before it can spoil anything.

    Args:
        model: anything Trainable.
        batches: an iterable of batches; training ends with it if it ends before `steps`.
        steps: how many optimiser steps to take.
        lr: the learning rate, or a function from the step (0, 1, ...) to it.
        optimizer: used instead of Adam, with its own rate unless `lr` is a function.
        clip: largest norm of the gradient, or None.
        backward: computes the gradients; large runs hand in their own.

    Yields:
        (step, loss): the step just taken, counted from 1, and its loss in the model's unit.
    """
    schedule = lr if callable(lr) else lambda step: lr
    optimizer = optimizer or adam(model.parameters(), schedule(0))
    loss, attempt = math.nan, Attempt(model)
    for step, batch in numbered(batches, steps):
        model.train()
        optimizer.zero_grad(set_to_none=True)
        with attempt:  # what is not finite raises, and leaves the model as it was
            now = model.loss(*batch)
            loss = finite(now, "loss", model, step, last=loss)
            backward(now)
            finite(gradient_norm(attempt.weights, clip), "gradient", model, step, last=loss)
            for group in optimizer.param_groups if callable(lr) else []:
                group["lr"] = schedule(step - 1)
            optimizer.step()
        yield step, loss


# %%
seed_everything(7)
again = GaussianMixture(2)
wrapped = [loss for _, loss in train(again, forever(x_train, 256), 200, lr=0.02)]
torch.testing.assert_close(wrapped, bare, rtol=1e-3, atol=1e-3)
print(
    f"200 losses of both loops agree to {max(abs(a - b) for a, b in zip(wrapped, bare)):.1e}"
)

# %% [markdown]
# ## Further: flat ground
#
# Training follows the slope. Let the truth be $\mathcal N(0, 1)$ and the model
# $\mathcal N(m, 1)$, start at $m = 12$, and walk down each divergence.

# %%
APART = (-30.0, 40.0)
kernel = lambda h: lambda q: divergences.mmd2_density(normal.log_prob, q.log_prob, APART, h)
measures = {
    "KL": lambda q: kl(normal.log_prob, q.log_prob, APART),
    "JS": lambda q: js(normal.log_prob, q.log_prob, APART),
    "W₁": lambda q: divergences.wasserstein_1d_cdf(normal.cdf, q.cdf, APART),
    "MMD², h = 1": kernel(1.0),
    "MMD², h = 1, 4, 16": kernel((1.0, 4.0, 16.0)),
}


def value_and_slope(measure: Callable, at: float) -> tuple[float, float]:
    m = torch.tensor(at, requires_grad=True)
    value = measure(Normal(m, 1.0))
    return value.item(), torch.autograd.grad(value, m)[0].item()


value, slope, path = plot.panels(
    "divergence", "size of its slope", "walking down it", width=3.8
)
distances, start, arrived = torch.linspace(0.2, 14, 24).tolist(), {}, {}
for (name, measure), style in zip(measures.items(), ("-", "-", "-", ":", "--")):
    values, slopes = zip(*(value_and_slope(measure, m) for m in distances))
    value.plot(distances, values, style)
    slope.semilogy(distances, [max(abs(s), 1e-14) for s in slopes], style, label=name)
    start[name], track = abs(value_and_slope(measure, 12.0)[1]), [12.0]
    while abs(track[-1]) > 0.5 and len(track) <= 400:
        here = value_and_slope(measure, track[-1])[1]
        if abs(here) < 1e-9:  # no slope to follow: every further step would be the same
            break
        track.append(track[-1] - 0.5 * here)
    arrived[name] = len(track) - 1 if abs(track[-1]) <= 0.5 else None
    path.plot(range(1, len(track) + 1), track, "o" if len(track) == 1 else style)
    told = f"{arrived[name]} steps" if arrived[name] else f"stuck at {track[-1]:.1f}"
    print(f"{name:20s} slope at 12: {start[name]:7.1e}; to within 0.5 of the truth: {told}")
value.set(xlabel="distance m", ylabel="value", ylim=(0, 8))
slope.set(xlabel="distance m", ylabel="|d/dm|", ylim=(1e-12, 1e2))
path.set(xlabel="1 + number of steps of 0.5 x slope", ylabel="m", xscale="log")
slope.legend(fontsize=8, loc="lower left")
assert start["JS"] < 1e-6 < 0.99 < start["W₁"]
assert arrived["JS"] is None is arrived["MMD², h = 1"]
assert arrived["W₁"] < 60 < arrived["MMD², h = 1, 4, 16"]

# %% [markdown]
# JS says "as different as can be", and says the same a little nearer: there is no slope to
# follow, and the walk never starts. MMD with a small bandwidth fails in the same way. Several
# bandwidths at once repair it, but mind the logarithmic axis: the walk arrives after hundreds
# of steps where KL and W₁ need tens, for even the widest kernel has a small slope at that
# distance. W₁ has the slope 1 at any distance. The first GANs were derived from JS, and the
# flat ground is one reason why they were hard to train (Arjovsky, Bottou 2017,
# arXiv:1701.04862).

# %% [markdown]
# ## Further: one data set, every family
#
# The same two moons, the same 10,000 points, each family that the course has so far. Where a
# model has a density, the title gives its KL divergence from the truth, by equation (5); where
# it has only a lower bound of its density, as the VAE, the title gives an upper bound of that.

# %% tags=["train"]
figure = gallery.figure("two_moons", steps=budget(300, 20), tests=1000, cells=50)
