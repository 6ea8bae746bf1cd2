# %% [markdown]
# # Exercises: densities, samples and divergences
#
# Six short functions, in the order of the lecture. Each is checked on fresh inputs as
# soon as you write it: a green line means right, a red one names what is wrong and often
# gives a hint. The figures below each exercise use the course's own version, so you can
# go on when one resists.
#
# Replace `raise NotImplementedError` by your code. All logarithms are natural, all
# answers in nats.

# %% [markdown] tags=["nav"]
# [lecture](../../lectures/foundations/densities.ipynb) ·
# [exercise](../../exercises/foundations/densities.ipynb)

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
from torch import Tensor
from torch.distributions import MultivariateNormal, Normal

from gdm_course import divergences
from gdm_course import plotting as plot
from gdm_course.checks.foundations import densities as check
from gdm_course.data import toy
from gdm_course.training import budget, seed_everything

plot.style()

# %% [markdown]
# ## 1. The KL divergence of two Gaussians
#
# Let $p = \mathcal N(\mu_p, \operatorname{diag} \sigma_p^2)$ and $q$ likewise, in $D$
# dimensions. You will meet this one again in every variational autoencoder.
#
# Stepping stones:
#
# 1. In one dimension,
#    $\log p(x) = -\log\sigma_p - \frac{(x - \mu_p)^2}{2\sigma_p^2} - \frac12\log 2\pi$.
#    Write down $\log p(x) - \log q(x)$; the last term cancels.
# 2. Take the mean over $x \sim p$. You need $\mathbb{E}_p[(x - \mu_p)^2] = \sigma_p^2$
#    and $\mathbb{E}_p[(x - \mu_q)^2] = \sigma_p^2 + (\mu_p - \mu_q)^2$.
# 3. Dimensions are independent, so $\log p - \log q$ is a sum over dimensions, and so is
#    its mean.
#
# **Write** `kl_gaussian`: four tensors of shape $(B, D)$ to $\mathrm{KL}(p\,\|\,q)$ of
# each row, shape $(B,)$, in nats.


# %%
def kl_gaussian(
    mu_p: Tensor, log_sigma_p: Tensor, mu_q: Tensor, log_sigma_q: Tensor
) -> Tensor:
    """KL(p || q) in nats of diagonal Gaussians: four times (B, D) -> (B,)."""
    ### BEGIN SOLUTION
    var_p, var_q = (2 * log_sigma_p).exp(), (2 * log_sigma_q).exp()
    spread = (var_p + (mu_p - mu_q) ** 2) / (2 * var_q)
    return (log_sigma_q - log_sigma_p + spread - 0.5).sum(-1)
    ### END SOLUTION


# %%
check.kl_gaussian(kl_gaussian)

# %% [markdown]
# What does it look like? Below, $p = \mathcal N(0, 1)$ is fixed and
# $q = \mathcal N(m, s^2)$ moves over the plane of all means and widths. Both have their
# zero at the star. See how differently they rise: forward KL most for a *small* $s$, as
# $1/s^2$, reverse KL most for a *large* one, as $s^2$.

# %%
m, log_s = torch.meshgrid(
    torch.linspace(-3, 3, 121), torch.linspace(-1.5, 1.5, 121), indexing="xy"
)
p, q = Normal(0.0, 1.0), Normal(m, log_s.exp())
both = torch.distributions.kl_divergence(p, q), torch.distributions.kl_divergence(q, p)
for ax, values in zip(plot.panels("KL(p‖q), nats", "KL(q‖p), nats", width=4.2), both):
    lines = ax.contour(m, log_s, values, [0.1, 0.3, 1, 3], colors=plot.BLUE, linewidths=1)
    ax.clabel(lines, fontsize=8)
    ax.plot(0, 0, "*", color=plot.ORANGE, markersize=10)
    ax.set(xlabel="mean m of q", ylabel="log s")

# %% [markdown]
# ## 2. Jensen-Shannon on a grid
#
# You are given $\log p$ and $\log q$ on a grid of points a distance $dx$ apart. An
# integral is then a sum times $dx$. With $m = \frac12(p + q)$,
# $\mathrm{JS} = \frac12\mathrm{KL}(p\,\|\,m) + \frac12\mathrm{KL}(q\,\|\,m)$.
#
# Stepping stones: you need $\log m$, and $p$ and $q$ may both be as small as $e^{-200}$,
# which is 0 in single precision. What does `torch.logaddexp` do? And what has to be
# subtracted from it?
#
# **Write** `js_divergence`: $(n,)$, $(n,)$ and a number to one number.


# %%
def js_divergence(log_p: Tensor, log_q: Tensor, dx: float) -> Tensor:
    """JS(p, q) in nats from log-densities on a grid: (n,), (n,) -> ()."""
    ### BEGIN SOLUTION
    log_m = torch.logaddexp(log_p, log_q) - math.log(2)
    inside = log_p.exp() * (log_p - log_m) + log_q.exp() * (log_q - log_m)
    return inside.sum() * dx / 2
    ### END SOLUTION


# %%
check.js_divergence(js_divergence)

# %% [markdown]
# Two Gaussians of width 1 move apart. JS rises to its ceiling, $\log 2$, and stays there.
# **Question.** At which distance has it stopped telling you anything?

# %%
apart = torch.linspace(0, 10, 51)
log_p = Normal(0.0, 1.0).log_prob
js = [divergences.js(log_p, Normal(d.item(), 1.0).log_prob, (-20.0, 30.0)) for d in apart]
ax = plot.curves(
    {"JS": torch.stack(js)}, x=apart, xlabel="distance of the means", ylabel="nats"
)
ax.axhline(math.log(2), color=plot.GREY, ls="--", lw=1)
ax.text(0, math.log(2), "log 2", va="bottom", color=plot.GREY)
ax.set_ylim(0, 0.8)
assert max(js) < math.log(2)
for i in (20, 30):
    print(f"distance {apart[i]:.0f}: {js[i] / math.log(2):.1%} of log 2")

# %% [markdown]
# <details><summary>Answer</summary>
#
# From about 6 on: what is left to log 2 is less than a hundredth of it, and the slope with it.
# </details>
#
# ## 3. Maximum likelihood, step by step
#
# Now the training loop, by hand. The model is one Gaussian,
# $\mathcal N(\mu, \operatorname{diag} \sigma^2)$ in $D$ dimensions. Start with $\mu = 0$
# and $\log\sigma = 0$. Then `steps` times:
#
# 1. the loss is the NLL of *all* points: summed over dimensions, averaged over points;
# 2. its gradient in $\mu$ and in $\log\sigma$, by autograd;
# 3. $\mu \leftarrow \mu - \text{lr} \cdot \partial_\mu$, and the same for $\log\sigma$:
#    plain gradient descent, no momentum, no Adam.
#
# Stepping stones: `torch.zeros(D, requires_grad=True)`, `torch.optim.SGD`, and the three
# calls that belong together: `zero_grad`, `backward`, `step`.
#
# **Write** `fit_by_descent`: points $(N, D)$ to $(\mu, \log\sigma)$, each $(D,)$.


# %%
def fit_by_descent(x: Tensor, steps: int, lr: float) -> tuple[Tensor, Tensor]:
    """Gradient descent on the mean NLL of a Gaussian: (N, D) -> (D,), (D,)."""
    ### BEGIN SOLUTION
    mu = torch.zeros(x.shape[1], dtype=x.dtype, requires_grad=True)
    log_sigma = torch.zeros(x.shape[1], dtype=x.dtype, requires_grad=True)
    optimizer = torch.optim.SGD([mu, log_sigma], lr)
    for _ in range(steps):
        loss = -Normal(mu, log_sigma.exp()).log_prob(x).sum(1).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return mu.detach(), log_sigma.detach()
    ### END SOLUTION


# %%
check.fit_by_descent(fit_by_descent)

# %% [markdown]
# For a Gaussian the end of the road is known: the mean of the data, and its standard
# deviation (with $N$, not $N - 1$). The curves are the model after 0, 10, 40 and 200
# steps.

# %%
seed_everything(0)
x = 3 + 0.5 * torch.randn(200, 1)
ax = plot.panels("one Gaussian on its way to the data", width=6)[0]
for steps, shade in zip((0, 10, 40, budget(200, 60)), (0.25, 0.45, 0.7, 1.0)):
    mu, log_sigma = check.fit_by_descent.reference(x, steps, 0.05)
    log_prob = Normal(mu, log_sigma.exp()).log_prob
    plot.density_1d(
        log_prob, (-3, 6), ax, color=plot.ORANGE, label=f"{steps} steps", fill=False
    )
    ax.lines[-1].set_alpha(shade)
ax.hist(x.flatten(), 20, density=True, color=plot.BLUE, alpha=0.3, label="data")
ax.set_ylim(0, 1.1)
ax.legend()
print(f"after all steps {mu.item():.3f}, {log_sigma.exp().item():.3f};", end=" ")
print(f"mean and standard deviation of the data {x.mean():.3f}, {x.std(correction=0):.3f}")

# %% [markdown]
# ## 4. Importance sampling, with an honest error
#
# You have $v_i = v(x_i)$ for draws $x_i \sim q$, and
# $\log w_i = \log p(x_i) - \log q(x_i)$, known only up to a constant. Estimate
# $\mathbb{E}_p[v]$ and its standard error:
#
# $$\hat m = \frac{\sum_i w_i v_i}{\sum_i w_i}, \qquad
#   \text{error} = \frac{\sqrt{\sum_i w_i^2 (v_i - \hat m)^2}}{\sum_i w_i}.$$
#
# Stepping stones: $\log w$ may be 200, and $e^{200}$ is infinite in single precision, or
# $-300$, and $e^{-300}$ is 0. Nothing changes if all weights are divided by their sum
# first. Which function of torch turns $\log w$ into weights with sum one, safely?
#
# **Write** `importance_estimate`: $(n,)$ and $(n,)$ to a pair of scalars.


# %%
def importance_estimate(values: Tensor, log_w: Tensor) -> tuple[Tensor, Tensor]:
    """The self-normalised estimate of E_p[v] and its standard error: (n,), (n,) -> (), ()."""
    ### BEGIN SOLUTION
    w = log_w.softmax(0)
    estimate = (w * values).sum()
    error = (w**2 * (values - estimate) ** 2).sum().sqrt()
    return estimate, error
    ### END SOLUTION


# %%
check.importance_estimate(importance_estimate)

# %% [markdown]
# How wide should a proposal be? We estimate the mean of $x_1^2 + x_2^2$ over the banana
# from 2,000 draws of a round Gaussian of width $s$, a hundred times for every $s$. The
# truth is the same mean from a million exact samples. If error bars are honest, about 95
# of 100 intervals of two errors to each side hold it.

# %%
seed_everything(1)
banana = toy.get("banana")
truth = banana.sample(1_000_000).square().sum(1).mean()
widths, first, share, sizes = torch.linspace(0.5, 5, 16), [], [], []
for s in widths:
    q = MultivariateNormal(torch.zeros(2), s**2 * torch.eye(2))
    x = q.sample((100, 2000))
    log_w = banana.log_prob(x.view(-1, 2)).view(100, 2000) - q.log_prob(x)
    runs = [divergences.importance(v, w) for v, w in zip(x.square().sum(2), log_w)]
    first.append(torch.stack(runs[0]))
    share.append(sum(abs(m - truth) < 2 * e for m, e in runs))
    sizes.append(torch.stack([divergences.effective_sample_size(w) for w in log_w]).mean())
one, honest, worth = plot.panels(
    "one run, ± 2 errors",
    "intervals with the truth, of 100",
    "effective sample size, of 2,000",
)
value, error = torch.stack(first).T
one.errorbar(widths, value, 2 * error, fmt="o", markersize=4, color=plot.BLUE)
one.axhline(truth, color=plot.BLACK, ls="--", lw=1)
one.set(xlabel="width s of the proposal", ylabel="$E_p[|x|^2]$")
honest.plot(widths, share, "o-", markersize=4)
honest.axhline(95, color=plot.BLACK, ls="--", lw=1)
honest.set(xlabel="width s of the proposal", ylim=(0, 103))
worth.plot(widths, sizes, "o-", markersize=4)
worth.set(xlabel="width s of the proposal", ylim=(0, None))
print(
    f"intervals that hold the truth: {share[0]} of 100 at s = 0.5, {share[8]} at s = {widths[8]:.1f}"
)
assert share[0] < 70 < 85 < share[8]

# %% [markdown]
# **Question.** For small $s$ most error bars miss the truth. Why can they not know?
#
# <details><summary>Answer</summary>
#
# A narrow proposal almost never visits the arms of the banana. Weights and values that
# were not drawn do not enter the formula: the estimate is precise about the part of the
# density that was seen. Nor does the effective sample size know: it, too, is computed
# from what was drawn.
# </details>

# %% [markdown]
# ## 5. Wasserstein on the line
#
# Two samples of equal size $n$, and an order $k \ge 1$, not always whole. In the lecture you
# saw that paths must not cross: the smallest goes to the smallest, and so on. Every point
# carries the mass $1/n$, and carrying over a distance $d$ costs $d^k$:
#
# $$W_k = \Bigl(\frac1n \sum_i |x_{(i)} - y_{(i)}|^k\Bigr)^{1/k}.$$
#
# **Write** `wasserstein_1d`: $(n,)$, $(n,)$ and $k$ to one number, in the unit of $x$.


# %%
def wasserstein_1d(x: Tensor, y: Tensor, k: float) -> Tensor:
    """W_k between two samples of the line of equal size: (n,), (n,) -> ()."""
    ### BEGIN SOLUTION
    distance = (x.sort().values - y.sort().values).abs()
    return (distance**k).mean() ** (1 / k)
    ### END SOLUTION


# %%
check.wasserstein_1d(wasserstein_1d)

# %% [markdown]
# The same points, paired as they came and paired in order. Count crossings on the right.

# %%
seed_everything(2)
x, y = torch.randn(14), 2 + 1.5 * torch.randn(14)
plans = {"paired as drawn": (x, y), "paired in order": (x.sort().values, y.sort().values)}
for ax, (name, (a, b)) in zip(plot.panels(*plans, width=4.4, height=2.4), plans.items()):
    ax.plot(torch.stack([a, b]), [[1.0] * 14, [0.0] * 14], color=plot.GREY, lw=1)
    ax.plot(a, [1.0] * 14, "o", color=plot.BLUE)
    ax.plot(b, [0.0] * 14, "o", color=plot.ORANGE)
    ax.set(yticks=[0, 1], yticklabels=["y", "x"], xlabel="position")
    ax.set_title(f"{name}: mean way {(a - b).abs().mean():.2f}")

# %% [markdown]
# ## 6. An unbiased MMD
#
# With $k(x, y) = e^{-|x - y|^2 / 2h^2}$, estimate
# $\mathrm{MMD}^2 = \mathbb{E}\,k(x, x') + \mathbb{E}\,k(y, y') - 2\,\mathbb{E}\,k(x, y)$
# from points $x$, $(N, D)$, and $y$, $(M, D)$. Here $x$ and $x'$ are *independent* draws,
# so the pair $(x_i, x_i)$ does not count.
#
# Stepping stones:
#
# 1. All squared distances at once: `torch.cdist(x, y) ** 2`, or by broadcasting.
# 2. The diagonal of $k(x_i, x_j)$ is all ones. How many pairs are left without it?
# 3. Do not be surprised by negative results. An estimate that is right on average, when
#    the truth is 0, has to be below 0 often.
#
# **Write** `mmd2_unbiased`: $(N, D)$, $(M, D)$ and $h$ to one number.


# %%
def mmd2_unbiased(x: Tensor, y: Tensor, h: float) -> Tensor:
    """The unbiased estimate of MMD^2 with a Gaussian kernel: (N, D), (M, D) -> ()."""
    ### BEGIN SOLUTION
    kernel = lambda a, b: (-(torch.cdist(a, b) ** 2) / (2 * h**2)).exp()
    N, M = len(x), len(y)
    within_x = (kernel(x, x).sum() - N) / (N * (N - 1))
    within_y = (kernel(y, y).sum() - M) / (M * (M - 1))
    return within_x + within_y - 2 * kernel(x, y).mean()
    ### END SOLUTION


# %%
check.mmd2_unbiased(mmd2_unbiased)

# %% [markdown]
# Which bandwidth sees most? On one side the two moons; on the other a single Gaussian
# with the same mean and covariance, so that only the *shape* differs. For each $h$ we
# draw both thirty times and compare the estimate with its spread. The dashed line is the
# usual rule of thumb, the median distance.

# %%
seed_everything(3)
moons = toy.get("two_moons")
many = moons.sample(20_000)
gaussian = MultivariateNormal(many.mean(0), many.T.cov())
bandwidths = torch.logspace(-1.7, 0.7, 17)
pairs = [(moons.sample(200), gaussian.sample((200,))) for _ in range(budget(30, 6))]
signal = []
for h in bandwidths:
    values = torch.stack([divergences.mmd2(x, y, h.item()) for x, y in pairs])
    signal.append(values.mean() / values.std())
shapes, ax = plot.panels(
    "moons, and a Gaussian like them", "how clearly they differ", width=4.4
)
frame = ((-2.0, 3.0), (-1.5, 2.0))
plot.scatter(pairs[0][0], shapes, frame)
plot.scatter(pairs[0][1], shapes, frame, color=plot.ORANGE)
ax.semilogx(bandwidths, signal, "o-", markersize=4)
ax.axvline(divergences.median_distance(*pairs[0]), color=plot.GREY, ls="--", lw=1)
ax.set(xlabel="bandwidth h", ylabel="mean / std of MMD²")
print(f"best bandwidth {bandwidths[max(range(17), key=signal.__getitem__)]:.2f}")

# %% [markdown]
# **Question.** The rule of thumb is not the best choice here. Why not?
#
# <details><summary>Answer</summary>
#
# The median distance is the size of the whole cloud, and on that scale both clouds look
# alike: same mean, same covariance. What differs is finer, the gap between the moons and
# their thickness, and a smaller bandwidth sees it. Too small a bandwidth sees only single
# points again.
# </details>
#
# That was the toolbox. The next unit builds the first family: models with an exact
# `log_prob`, from nothing but the chain rule.
