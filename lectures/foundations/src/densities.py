# %% [markdown]
# # Densities, samples and divergences
#
# What a generative model is, how to train one by maximum likelihood, and six ways to say
# how far it is from the truth, each with what it sees and what it misses.

# %% [markdown] tags=["nav"]
# 61 minutes ·
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

from gdm_course import divergences, gallery, validate  # that refuses what does not fit
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
)
from gdm_course.widgets import play, watch

plot.style()

# %% [markdown]
# ## 1. The question
#
# You are given a thousand examples: points, photographs, sentences, melodies. You are not
# told what they mean. You are asked for *more of the same*: new examples, which are not
# copies, and which nobody can tell from the old ones.
#
# Here are four such data sets, small enough to look at. Before reading on, decide for
# each what "more of the same" would be, and where you would be unsure.

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
# another distribution $p_\theta$ on the same space, with parameters $\theta$ that we may
# choose. To learn is to choose $\theta$ so that $p_\theta$ is close to $p$, when all we
# have of $p$ is the examples.
#
# In this course a model is an ordinary `nn.Module`, and what it can do is said by three
# protocols of one method each. A *Sampler* has `sample(n)`, and draws new points. A
# *Trainable* has `loss(x)`, one number to minimise. The third is the strongest promise:


# %% tags=["from:protocols.Density"]
@runtime_checkable
class Density(Protocol):
    """A model that knows its own density exactly. A bound is called `elbo`, never this."""

    def log_prob(self, x: Tensor) -> Tensor:
        """Return log p(x) in nats, exact: (B, *D) -> (B,)."""
        ...


# %% [markdown]
# The three promises are independent, and which of them a family keeps is its character:
#
# | family | `sample` | `loss` | exact `log_prob` | how it gets around the difficulty |
# |---|---|---|---|---|
# | autoregressive | yes, one coordinate after another | yes | yes | a product of one-dimensional conditionals |
# | normalizing flow | yes | yes | yes | an invertible map of Gaussian noise |
# | variational autoencoder | yes | yes | no, a lower bound | a hidden cause that is integrated out approximately |
# | energy-based | by a Markov chain | yes | no, up to a constant | a free function, without its normalisation |
# | adversarial (GAN) | yes | no, a game of two | no | only samples, judged by an opponent |
# | diffusion | yes, in many small steps | yes | no, a bound | undoing noise, a little at a time |
#
# The difficulty they all get around: a density has to integrate to one, and in a thousand
# dimensions no one can integrate. The package can say what its models do so far:

# %%
for family, name, able in gallery.taxonomy():
    print(
        f"{family:24s} {name:18s}", *(k if yes else "-" * len(k) for k, yes in able.items())
    )

# %% [markdown] tags=["notes"]
# Let the room vote on the four data sets first. The word is the useful one: people see
# letters, a model sees ink. Come back to this table at the end of every family; it is the
# map of the course. Do not explain the six tricks now.

# %% [markdown]
# ## 2. The idea
#
# A density is a fixed amount of ink, spread over the space: one unit of it, to be placed
# where you expect points to fall. A sample is where a point did fall. A model is good
# when the points fall on its ink.
#
# So there is a score that needs no knowledge of the truth: look up how much ink the model
# has at each data point, and average the logarithms. Too little spread, and points that
# fall between the blots cost dearly; too much, and the ink is thin everywhere.

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
# Everything in this course is an **expectation**,
# $\mathbb{E}_p[v] = \int p(x)\,v(x)\,dx$, of some quantity $v$: a loss, an error, a
# divergence. We never compute the integral. We draw $x_1, \dots, x_n$ from $p$ and
# average:
#
# $$\mathbb{E}_p[v] \approx \bar v = \frac1n \sum_{i=1}^n v(x_i), \qquad
#   \operatorname{std}(\bar v) = \frac{\operatorname{std}(v)}{\sqrt n}. \tag{1}$$
#
# The mean of $\bar v$ is exactly $\mathbb{E}_p[v]$, because expectation is linear. Its
# spread follows because the draws are independent, so that their variances add:
# $\operatorname{Var}(\bar v) = \frac1{n^2} \sum_i \operatorname{Var}(v(x_i)) = \operatorname{Var}(v)/n$.
# The dimension of $x$ appears nowhere: that is why Monte Carlo works for images, where a
# grid would not. The price is the root: one more digit costs a hundred times the samples.
#
# An estimate without its **standard error** is not a result. Ours always come as a pair.
# (The course's code looks at what it is given, by `validate`, and refuses in one sentence
# what does not fit: here, anything but $n$ numbers in a row. A column, $(n,1)$, beside a row
# would broadcast to all $n^2$ pairs, without a word.)


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
seed_everything(2)
normal = Normal(0.0, 1.0)
estimate = monte_carlo(normal.sample((10_000,)) ** 2)
print("E[x²] under N(0, 1) is 1; estimated:", estimate)
assert abs(estimate.value - 1) < 5 * estimate.error

# %% [markdown]
# Is the root true? For each $n$ we estimate $\mathbb{E}[x^2] = 1$ two hundred times, and
# compare the spread of the two hundred estimates with equation (1), where
# $\operatorname{std}(x^2) = \sqrt2$.

# %%
seed_everything(3)
sizes = [10, 30, 100, 300, 1000, 3000, 10_000, 30_000]
spread = [(normal.sample((200, n)) ** 2).mean(1).std() for n in sizes]
predicted = [math.sqrt(2 / n) for n in sizes]
ax = plot.panels("two hundred estimates for every n", width=5)[0]
ax.loglog(sizes, predicted, color=plot.GREY, label="equation (1): $\\sqrt{2/n}$")
ax.loglog(sizes, spread, "o", label="measured spread")
ax.set(xlabel="n, samples per estimate", ylabel="standard deviation")
ax.legend()
assert all(0.7 < s / p < 1.4 for s, p in zip(spread, predicted))

# %% [markdown]
# ### Change of expectation
#
# Often we want an expectation under $p$ but can draw only from some other $q$. Multiply
# and divide by $q$:
#
# $$\mathbb{E}_p[v] = \int q(x)\,\frac{p(x)}{q(x)}\,v(x)\,dx = \mathbb{E}_q[w\,v],
#   \qquad w(x) = \frac{p(x)}{q(x)}. \tag{2}$$
#
# This is **importance sampling**. If the densities are known only up to constants, $w$ is
# known up to a factor $c$. Since $\mathbb{E}_q[w] = c$, we divide by it, and estimate
# $m = \mathbb{E}_p[v]$ by $\hat m = \sum_i w_i v_i / \sum_i w_i$. For its error, write
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
# finite only for $\sigma^2 > \frac12$. A proposal that is too wide wastes samples. A
# proposal that is too narrow **lies**: almost every sample has a small weight, and the
# rare one in the tail, which would carry the sum, has not been drawn yet. The error bar
# is computed from the samples that *were* drawn, so it lies too.

# %%
seed_everything(4)
axes = plot.panels("wide proposal, σ = 2", "narrow proposal, σ = 0.5", width=4.2)
covered = {}
for ax, sigma in zip(axes, (2.0, 0.5)):
    q = Normal(0.0, sigma)
    x = q.sample((200, 5000))
    log_w = normal.log_prob(x) - q.log_prob(x)
    runs = [importance(x_run**2, w_run) for x_run, w_run in zip(x, log_w)]
    covered[sigma] = sum(abs(r.value - 1).item() < 2 * r.error.item() for r in runs) / len(
        runs
    )
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
# The dashed line is the truth. On the left, runs close in on it as the root of $n$. On
# the right most runs sit *below* it, agree with one another, and jump when a point from
# the tail arrives. A usual warning is a small **effective sample size**,
# $(\sum_i w_i)^2 / \sum_i w_i^2$: as many equally weighted samples would be worth as
# much. But it is computed from what was drawn, and can be fooled in the same way;
# exercise 4 shows how badly.

# %% [markdown]
# ## 4. Maximum likelihood is minimum KL
#
# How far is a model $q$ from the truth $p$? The **Kullback-Leibler divergence** is the
# mean, over the truth, of the log-ratio of ink:
#
# $$\mathrm{KL}(p\,\|\,q) = \mathbb{E}_p\!\left[\log\frac{p(x)}{q(x)}\right]. \tag{3}$$
#
# **It is never negative, and zero only for $q = p$.** For every $t > 0$ we have
# $\log t \le t - 1$, with equality only at $t = 1$. With $t = q/p$:
# $-\mathrm{KL}(p\,\|\,q) = \mathbb{E}_p[\log\frac qp] \le \mathbb{E}_p[\frac qp] - 1 = \int_{p > 0} q\,dx - 1 \le 0.$
#
# It is not symmetric, so it is no distance. In one or two dimensions we can integrate it
# on a grid, and so we shall always know the exact answer beside the estimated one:


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

# %% [markdown]
# Now let $q = p_\theta$ and take equation (3) apart:
#
# $$\mathrm{KL}(p\,\|\,p_\theta) = \underbrace{\mathbb{E}_p[\log p(x)]}_{-H(p)}
#   \; - \; \mathbb{E}_p[\log p_\theta(x)]
#   \;\approx\; -H(p) \; - \; \frac1N\sum_{i=1}^N \log p_\theta(x_i). \tag{4}$$
#
# The entropy $H(p)$ belongs to the truth: no choice of $\theta$ changes it. The last term
# is the **negative log-likelihood** (NLL) of the data, an average as in equation (1), and
# needs only examples and the model's `log_prob`. So *to minimise the KL divergence from
# the truth is to maximise the likelihood of the data*. Two consequences that we use in
# every family:
#
# - the best possible NLL is not zero but $H(p)$, which for a density may even be
#   negative;
# - NLL minus $H(p)$ is the KL divergence. On our toy data $H(p)$ is known, so we can say
#   how far a model is from the truth, not only which of two models is nearer.
#
# ### Bits and nats
#
# With natural logarithms the unit is the **nat**; with logarithms to base 2, the **bit**.
# One nat is $1/\log 2 \approx 1.443$ bits. A fair coin has the entropy $\log 2$ nats, one
# bit: a perfect code spends one bit per toss. KL in bits is the length that a code made
# for $q$ wastes, per symbol, on data from $p$. This course computes in nats, and speaks
# of **bits per dimension** only for images: NLL in nats, divided by $D \log 2$.
#
# For *continuous* data the number depends on the unit in which $x$ is measured: if we
# measure in millimetres instead of metres, a density falls by a factor of 1000 and its
# NLL rises by $\log 1000$ nats per dimension. Differences between models stay.

# %%
coin = Categorical(probs=torch.tensor([0.5, 0.5])).entropy()
print(f"a fair coin: {coin:.4f} nats = {coin / math.log(2):.1f} bit")
for unit, scale in (("m", 1.0), ("mm", 1000.0)):
    wide, narrow = (Normal(0.0, s * scale).entropy() for s in (0.1, 0.01))
    print(
        f"spreads in {unit}: {wide:.3f} and {narrow:.3f} nats, difference {wide - narrow:.3f}"
    )

# %% [markdown]
# <details><summary><b>Quiz.</b> Your model reports an NLL of −1.7 nats on test data. Is that a bug?</summary>
#
# No. A density may be larger than 1, and then its logarithm is positive. For discrete
# data (pixels of 0 and 1, characters) probabilities are at most 1, and a negative NLL
# *would* be a bug: somebody fed continuous numbers, or forgot a normalisation.
# </details>

# %% [markdown]
# ## 5. Build: a model, and the training loop
#
# Our first model is a sum of $K$ Gaussian blots, whose places, widths and shares of the
# ink are parameters:
# $p_\theta(x) = \sum_k \pi_k\, \mathcal N(x;\, \mu_k, \operatorname{diag}\sigma_k^2)$.
# Shares have to be positive and sum to one, so we store logits; widths have to be
# positive, so we store logarithms. It keeps all three promises of section 1.


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


# %%
seed_everything(5)
model = GaussianMixture(2)
x, cell = divergences.grid(((-9.0, 9.0), (-9.0, 9.0)), n=200)
mass = model.log_prob(x.float()).exp().sum() * cell
print(f"{sum(p.numel() for p in model.parameters())} parameters, ink {mass:.5f}")
assert abs(mass - 1) < 1e-3

# %% [markdown]
# Training is eight lines. Draw a batch, ask for its loss, let autograd compute the
# gradient, and take a step against it. There is no more to it, in this lecture or in any
# other:

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

# %% [markdown]
# The course wraps these lines in two functions. `batches` goes once through the data in a
# new random order (`forever`, which you just used, repeats it). `columns` makes sure that
# several tensors have equally many rows. For data that fits in memory this is much faster
# than a `DataLoader`.


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
# ## 6. Train, beside the truth
#
# Watch the blots find the moons. The panel on the right is the truth, drawn on the same
# scale of ink.

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
# Equation (4) can now be checked, not only believed. Left of it: the KL divergence on a
# grid, from the two densities. Right of it: the NLL of test points, less the known
# entropy. The second is what one has for real data, up to the constant.

# %%
with torch.no_grad():
    exact = kl(
        moons.log_prob,
        lambda x: model.log_prob(x.float()),
        ((-3.0, 4.0), (-2.5, 3.0)),
        n=200,
    )
    nll = monte_carlo(-model.log_prob(x_test))
    gap = divergences.kl_estimate(moons.log_prob, model.log_prob, x_test)
print(f"NLL of test points {nll} nats, entropy of the truth {moons.entropy():.4f} nats")
print(
    f"their difference   {nll.value - moons.entropy():.4f}, and point by point {gap} nats"
)
print(f"KL on a grid       {exact:.4f} nats")
assert abs(gap.value - exact) < 5 * gap.error + 1e-3
if full_run():
    assert gap.error < nll.error / 2

# %% [markdown]
# Mind the errors: taken point by point, $\log p - \log p_\theta$ varies much less than
# $\log p_\theta$ alone, so the same 10,000 points give a much smaller error.
#
# <details><summary><b>Quiz.</b> With ten training points and K = 10, how small can this model make its training NLL?</summary>
#
# As small as you like. Put one blot on each point and let its width go to zero: the
# density there, and with it the likelihood, grows without bound, while the NLL of test
# points goes to infinity. Likelihood is a measure of quality only on data that was not
# trained on.
# </details>

# %% [markdown] tags=["notes"]
# If time is short, skip the importance figure, not this check. Ask before running: should
# the point-by-point gap have a smaller or a larger error than the NLL? Most say the same.

# %% [markdown]
# ## 7. Six ways to measure a distance
#
# KL is one of many. Swapping its arguments gives the **reverse KL**,
# $\mathrm{KL}(q\,\|\,p)$, an average over the *model*. Comparing both with their mean
# $m = \frac12(p + q)$ gives the **Jensen-Shannon** divergence, and comparing the two inks
# directly, the **total variation**:
#
# $$\mathrm{JS} = \tfrac12 \mathrm{KL}(p\,\|\,m) + \tfrac12 \mathrm{KL}(q\,\|\,m), \qquad
#   \mathrm{TV} = \tfrac12 \int |p - q|\,dx. \tag{5}$$
#
# JS is finite always: $m \ge p/2$ gives $\log\frac pm \le \log 2$, so
# $\mathrm{JS} \le \log 2$. TV is the largest difference in probability that any event can
# show: the best event is $A = \{p > q\}$, and since $\int (p - q) = 0$,
# $P(A) - Q(A) = \int (p - q)_+ = \mathrm{TV}$. All four are **f-divergences**,
# $\int q\, f(p/q)\,dx$ with $f$ convex and $f(1) = 0$: they see only the *ratio* of the
# densities at each point, and do not know which points are neighbours.


# %% tags=["from:divergences.densities.js"]
def js(
    log_p: LogDensity, log_q: LogDensity, bounds: Bounds, n: int | None = None
) -> Tensor:
    """JS(p, q) = KL(p || m) / 2 + KL(q || m) / 2 with m = (p + q) / 2: 0 to log 2 nats.

    Equation (5), left.
    """
    p, q, cell = on_grid(log_p, log_q, bounds, n)
    m = torch.logaddexp(p, q) - math.log(2)
    return (p_log_ratio(p, m) + p_log_ratio(q, m)).sum() * cell / 2


# %%
p, q = Normal(0.0, 1.0), Normal(1.5, 0.5)
values = (
    js(p.log_prob, q.log_prob, LINE),
    divergences.total_variation(p.log_prob, q.log_prob, LINE),
)
f = lambda t: (torch.xlogy(t, t) - (t + 1) * ((t + 1) / 2).log()) / 2
by_generator = divergences.f_divergence(f, p.log_prob, q.log_prob, (-8.0, 8.0))
print(
    f"JS {values[0]:.4f} nats (at most {math.log(2):.4f}), TV {values[1]:.4f} (at most 1)"
)
assert abs(values[0] - by_generator) < 1e-5
assert values[1] <= math.sqrt(kl(p.log_prob, q.log_prob, LINE) / 2)  # Pinsker's inequality

# %% [markdown]
# ### Wasserstein: how far must the ink be carried?
#
# Think of $p$ as a heap of sand and $q$ as a hole. The **Wasserstein distance** $W_k$ is
# the cheapest way to fill the hole, when carrying a grain over a distance $d$ costs
# $d^k$. On the line the best plan is known: *never let two paths cross*. If $a < b$ go to
# $c < d$, then $|a - c|^k + |b - d|^k \le |a - d|^k + |b - c|^k$ for $k \ge 1$, so
# uncrossing never costs. Hence the lowest grain goes to the lowest place, and so on:
# quantile to quantile. With the distribution functions $F$ and $G$,
#
# $$W_k^k = \int_0^1 \bigl|F^{-1}(u) - G^{-1}(u)\bigr|^k du, \qquad
#   W_1 = \int_{-\infty}^{\infty} |F(x) - G(x)|\,dx. \tag{6}$$
#
# The second is the same area between the two curves, measured in columns instead of rows.
# Of two samples, the quantile functions are steps, and the distance is exact after
# sorting:


# %% tags=["from:divergences.samples.wasserstein_1d"]
def wasserstein_1d(x: Tensor, y: Tensor, order: float = 1.0) -> Tensor:
    """W_k between two samples of the line, exact: sort, then compare equal quantiles.

    On the line the cheapest plan never crosses, so it joins the quantile functions:
    W_k^k = integral over u in (0, 1) of |F^-1(u) - G^-1(u)|^k, equation (6). Both are
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
seed_everything(9)
x, y = p.sample((5000,)), q.sample((4000,))
exact = divergences.wasserstein_1d_cdf(p.cdf, q.cdf, LINE)
print(f"W₁ from samples {wasserstein_1d(x, y):.4f}, from the CDFs {exact:.4f}")
assert abs(wasserstein_1d(x, x + 5) - 5) < 1e-4  # a shift by 5 is 5 far
assert abs(wasserstein_1d(x, y) - exact) < 0.1

# %% [markdown]
# ### MMD: compare averages of many features
#
# Choose features $\varphi(x)$, a long vector, and compare their means under $p$ and $q$.
# Multiply out, with $k(x, y) = \varphi(x) \cdot \varphi(y)$ and independent
# $x, x' \sim p$ and $y, y' \sim q$:
#
# $$\mathrm{MMD}^2 = \bigl\|\mathbb{E}\varphi(x) - \mathbb{E}\varphi(y)\bigr\|^2
#   = \mathbb{E}\,k(x, x') + \mathbb{E}\,k(y, y') - 2\,\mathbb{E}\,k(x, y). \tag{7}$$
#
# Only $k$ is needed, so the features may be infinitely many. The Gaussian kernel
# $k(x, y) = e^{-|x - y|^2 / 2h^2}$ corresponds to all waves $\cos(\omega\cdot x)$,
# $\sin(\omega\cdot x)$ with $\omega \sim \mathcal N(0, h^{-2} I)$: the **bandwidth** $h$
# is the size of detail it looks at. No density is needed, and it works in any dimension.
# A point paired with itself is not an independent pair, so the diagonal is left out; then
# the estimate is unbiased.


# %% tags=["from:divergences.samples.mmd2"]
def mmd2(x: Tensor, y: Tensor, bandwidth: float | Sequence[float]) -> Tensor:
    """Estimate MMD^2(p, q) = E k(x, x') + E k(y, y') - 2 E k(x, y) without bias.

    Equation (7). A point and itself are not an independent pair, so both diagonals are
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
# | KL(p‖q) | samples of the truth, density of the model | nats, to ∞ | any place the model forgot | ink the model has where no data is |
# | KL(q‖p) | samples of the model, density of the truth up to a constant | nats, to ∞ | ink where the truth has none | modes the model forgot |
# | JS | both densities, or a classifier that tells them apart | nats, to log 2 | both of these, a little | how far apart, once they do not overlap |
# | TV | both densities | probability, to 1 | the most telling event | the same |
# | W₁ | samples of both | the unit of x | how far the ink has to go | small, fine differences; dear beyond one dimension |
# | MMD | samples of both | none, to √2 for a Gaussian kernel | differences of the size h | much finer and much wider ones |

# %% [markdown] tags=["notes"]
# Cover the two right columns of the table and let the room fill them in. The usual
# mistake: that MMD needs no choice. It has one, the bandwidth, and section 9 makes it
# fail.

# %% [markdown]
# ## 8. Play: move one density, see all six
#
# The truth has two modes. The model is one Gaussian, and you move it. Find the place each
# divergence likes best: do they agree? Then make the model narrow and look again.

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
# the place *between* the modes, near the mean of the truth, −0.4, where there is hardly any
# data: there it forgets neither mode altogether. W₁ settles between them too, near the
# median, where the ink has the shortest way. KL(q‖p), JS, TV and MMD have a valley at every
# mode. And look at the edges: JS and TV of a narrow model are flat there, while W₁ goes on
# falling towards the truth.

# %% [markdown]
# ## 9. Break it
#
# ### Flat ground
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
# JS says "as different as can be", and says the same a little nearer: there is no slope
# to follow, and the walk never starts. MMD with a small bandwidth fails in the same way.
# Several bandwidths at once repair it, but mind the logarithmic axis: the walk needs
# hundreds of steps where KL and W₁ need tens, because even the widest kernel has only a
# small slope at that distance. The Wasserstein distance has the slope 1 at any distance. Keep this figure in mind: the first GANs were derived from
# JS, and the flat ground is one reason why they were hard to train.
#
# ### Forgetting and inventing
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
# KL(p‖q) *invents*: it puts most ink where there is least data, because forgetting costs
# more. KL(q‖p) *forgets*: it sits on one mode, and which one depends on where it started.
# Neither is wrong. They are answers to different questions, asked of a model that is too
# poor. The repair is a richer model: with two blots (right) both modes are found, here
# even by the forgetful one. The families of this course are six ways to be rich.

# %% [markdown]
# ## 10. Scale: real digits, in bits
#
# Real data has no known truth, but equation (4) still ranks models. The simplest model of
# a binary image treats every pixel as a coin of its own. We train it on digits of
# $8 \times 8$ pixels, with the same loop. Its best parameters are known, too: the share
# of ones in every pixel.


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
# Every pixel is as often on as it should be, and no image is a digit: what makes a digit
# is how pixels depend on one another. A model that knows nothing spends one bit per
# pixel. This one has saved something by knowing which pixels are mostly dark. The next
# lecture lets each pixel look at the ones before it, and you will see both numbers and
# pictures change.

# %% [markdown]
# ## 11. One data set, every family
#
# The same two moons, the same 10,000 points, each family that the course has so far. The
# figure grows with the course. Where a model has a density, the title gives its KL
# divergence from the truth, estimated as in section 6.

# %% tags=["train"]
figure = gallery.figure("two_moons", steps=budget(400, 20))

# %% [markdown]
# ## Summary
#
# - A generative model is a distribution with parameters; `sample`, `loss` and `log_prob`
#   are three separate promises, and no family gets all of them for free.
# - Expectations are estimated by averages, with an error that falls as $1/\sqrt n$ in any
#   dimension. Importance weights can make that error bar a lie.
# - Maximum likelihood is minimum KL(p‖p_θ); NLL minus entropy is the distance left, in
#   nats.
# - f-divergences compare ink point by point and are blind to distance; Wasserstein and
#   MMD compare places and need only samples.
# - KL(p‖q) covers, KL(q‖p) seeks, JS saturates, and MMD sees at its bandwidth.
#
# ## Exercises
#
# The exercise notebook asks for the closed-form KL of two Gaussians, JS on a grid, a
# maximum likelihood fit, importance sampling with its error, Wasserstein from samples and
# an unbiased MMD. Each answer is checked as you go.
#
# ## References
#
# - S. Kullback, R. A. Leibler (1951), *On information and sufficiency*, Annals of
#   Mathematical Statistics 22.
# - J. Lin (1991), *Divergence measures based on the Shannon entropy*, IEEE Transactions
#   on Information Theory 37.
# - A. Owen (2013), *Monte Carlo theory, methods and examples*, chapter 9: importance
#   sampling.
# - A. Gretton, K. Borgwardt, M. Rasch, B. Schölkopf, A. Smola (2012), *A kernel
#   two-sample test*, JMLR 13.
# - M. Arjovsky, L. Bottou (2017), *Towards principled methods for training generative
#   adversarial networks*, arXiv:1701.04862.
# - G. Peyré, M. Cuturi (2019), *Computational optimal transport*, chapter 2.6,
#   arXiv:1803.00567.
# - L. Theis, A. van den Oord, M. Bethge (2016), *A note on the evaluation of generative
#   models*, arXiv:1511.01844.
