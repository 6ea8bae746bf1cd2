# %% [markdown]
# # Exercises: what a code is worth
#
# Six short pieces of code: the price of a nat, a curve by Shannon, the three parts of a
# rate, and why axes cannot be learnt from a likelihood. Under each stands a check that runs
# *your* function on fresh inputs and compares. A red line names the wrong property; a
# plausible mistake gets a hint. Later cells use the course's own code.

# %% [markdown] tags=["nav"]
# before this: [What you do not see: the variational autoencoder](../../lectures/vae/vae.ipynb) ·
# [lecture](../../lectures/vae/beta_vae.ipynb) ·
# [exercise](../../exercises/vae/beta_vae.ipynb)

# %% tags=["setup"]
import importlib.util

if importlib.util.find_spec("gdm_course") is None:
    raise ImportError(
        "the package gdm_course is not installed here: run 'make lab' in the course's "
        "folder, or 'pip install -e .[lab]', and choose that environment as the kernel"
    )

# %%
import itertools
import math

import torch
from torch.distributions import Normal, kl_divergence

from gdm_course import plotting as plot
from gdm_course.checks.vae import beta_vae as check
from gdm_course.data import images
from gdm_course.training import budget, forever, seed_everything, train
from gdm_course.vae import beta_vae
from gdm_course.vae.vae import VAE

plot.style()

# %% [markdown]
# ## 1. A price on the rate
#
# For a batch of $B$ examples you are given $\log p(x\mid z)$ at one draw of $z$ each, and
# the encoder's Gaussians. Return the loss of a beta-VAE in nats per example,
#
# $$D + \beta R = \frac1B\sum_{n=1}^{B}\Bigl[-\log p(x_n\mid z_n)
#   + \beta\sum_{j=1}^{K}\bigl(\tfrac12(\mu_{nj}^2+\sigma_{nj}^2-1)
#   - \log\sigma_{nj}\bigr)\Bigr].$$


# %%
def priced_loss(log_p, mu, log_sigma, beta):
    """Return the loss of a beta-VAE on a batch.

    Args:
        log_p: log p(x | z) in nats, (B,).
        mu, log_sigma: of q(z | x), log of the standard deviation, (B, K).
        beta: price of a nat of rate.

    Returns:
        A scalar.
    """
    ### BEGIN SOLUTION
    kl = (mu**2 + (2 * log_sigma).exp() - 1) / 2 - log_sigma  # (B, K)
    return (beta * kl.sum(-1) - log_p).mean()
    ### END SOLUTION


# %%
check.priced_loss(priced_loss)

# %% [markdown]
# An independent oracle is the KL of `torch.distributions`:

# %%
seed_everything(0)
mu, log_sigma = torch.randn(100, 4), 0.3 * torch.randn(100, 4)
kl = kl_divergence(Normal(mu, log_sigma.exp()), Normal(0.0, 1.0)).sum(-1).mean()
print(f"distortion 0, price 3: {3 * kl:.4f} nats by torch.distributions")
try:
    print(f"yours: {priced_loss(torch.zeros(100), mu, log_sigma, 3.0):.4f}")
except NotImplementedError:
    print("(write priced_loss first)")

# %% [markdown]
# ## 2. Shannon's curve
#
# Independent Gaussian directions have variances $v_i$. The best code under a level $\theta$
# tells every direction that stands out of the water, up to an error $\theta$:
#
# $$R = \sum_i\max\Bigl(0,\tfrac12\log\frac{v_i}{\theta}\Bigr),\qquad
#   \text{error} = \sum_i\min(v_i,\theta).$$


# %%
def water_filling(v, theta):
    """Return the rate in nats and the squared error of the best code.

    Args:
        v: variances (D,).
        theta: the level, a positive number.

    Returns:
        Two scalars: rate, error.
    """
    ### BEGIN SOLUTION
    rate = (v / theta).log().clamp_min(0).sum() / 2
    return rate, v.clamp_max(theta).sum()
    ### END SOLUTION


# %%
check.water_filling(water_filling)

# %% [markdown]
# Does it matter how many directions a source has, or how unequal they are? Here are three
# sources with the same total variance. **Predict** which curve is lowest: the source that
# is cheapest to tell.

# %%
sources = {
    "3, 3, 3, 3": torch.full((4,), 3.0),
    "9, 1, 1, 1": torch.tensor([9.0, 1.0, 1.0, 1.0]),
    "12, 0.01, 0.01, 0.01": torch.tensor([11.97, 0.01, 0.01, 0.01]),
}
(ax,) = plot.panels("three sources of total variance 12", width=5)
for name, v in sources.items():
    best = beta_vae.gaussian_rate_distortion(v, torch.logspace(-2, 1.1, 200))
    ax.plot(best.rate, best.distortion, label=name)
ax.set(xlabel="rate (nats)", ylabel="squared error", xlim=(0, 6))
_ = ax.legend(title="variances")

# %% [markdown]
# The one whose variance sits in one direction: one number tells nearly all about it. It is
# the same fact that makes images compressible.
#
# ## 3. The three parts of a rate
#
# Let a code have two letters, the first one of $A$ values and the second one of $B$. The
# encoder is a table, $q(z_1, z_2\mid n)$, one page for each of $N$ examples. All of equation
# (6) of the lecture can be summed exactly:
#
# $$\underbrace{\tfrac1N\sum_n\mathrm{KL}\bigl(q(z\mid n)\|q(z)\bigr)}_\text{information},
#   \quad \underbrace{\mathrm{KL}\bigl(q(z)\|q(z_1)q(z_2)\bigr)}_\text{correlation},
#   \quad \underbrace{\mathrm{KL}\bigl(q(z_1)\|p(z_1)\bigr)
#   + \mathrm{KL}\bigl(q(z_2)\|p(z_2)\bigr)}_\text{marginals}.$$


# %%
def kl_parts(q, p_a, p_b):
    """Return information, correlation and marginals in nats.

    Args:
        q: q(z_1, z_2 | n), (N, A, B); every page is positive and sums to 1.
        p_a, p_b: the prior of either letter, (A,) and (B,).

    Returns:
        Three scalars.
    """
    ### BEGIN SOLUTION
    joint = q.mean(0)  # q(z_1, z_2)
    a, b = joint.sum(1), joint.sum(0)
    information = (q * (q / joint).log()).sum() / len(q)
    correlation = (joint * (joint / (a[:, None] * b)).log()).sum()
    marginals = (a * (a / p_a).log()).sum() + (b * (b / p_b).log()).sum()
    return information, correlation, marginals
    ### END SOLUTION


# %%
check.kl_parts(kl_parts)

# %% [markdown]
# The sum of the three must be the plain rate. And an experiment of thought: four examples,
# two letters of two values each. The first encoder writes the number of the example in
# binary; the second one writes only its first digit, twice.

# %%
half = torch.tensor([0.5, 0.5])
soft = torch.tensor([[0.98, 0.02], [0.02, 0.98]])  # an almost sure letter
binary = torch.stack([soft[i][:, None] * soft[j] for i in (0, 1) for j in (0, 1)])
twice = torch.stack([soft[i][:, None] * soft[i] for i in (0, 1) for j in (0, 1)])
for name, q in {"binary number": binary, "first digit twice": twice}.items():
    rate = (q * (q / 0.25).log()).sum() / 4
    try:
        parts = kl_parts(q, half, half)
        told = ", ".join(f"{part:.3f}" for part in parts) + f", sum {sum(parts):.3f}"
    except NotImplementedError:
        told = "(write kl_parts first)"
    print(f"{name:18s} rate {rate:.3f} nats; parts: {told}")

# %% [markdown]
# Both pay the same rate. One buys information with all of it, the other spends nearly half of it on
# saying the same thing twice.
#
# ## 4. All codes, from a batch
#
# During training there are $N$ examples but only $B$ of them in the batch. Row $i$ of
# `log_q` holds $\log q(z_i\mid x_k)$ of code $i$ under all $B$ examples; the code was drawn
# from the example of the same number. Estimate $\log q(z_i)$:
#
# $$q(z_i)\approx\frac1N\,q(z_i\mid x_i)
#   + \frac{N-1}{N\,(B-1)}\sum_{k\ne i}q(z_i\mid x_k).$$
#
# Stay in the log domain: add the logs of the weights, then `logsumexp`. In many dimensions
# log-densities of $-1{,}000$ and of 900 are ordinary.


# %%
def log_aggregate(log_q, N):
    """Return the log of the estimated q(z_i) of every code.

    Args:
        log_q: log q(z_i | x_k), code i drawn from example i, (B, B).
        N: number of examples in the data set.

    Returns:
        (B,)
    """
    ### BEGIN SOLUTION
    B = len(log_q)
    log_w = torch.full((B, B), math.log(N - 1) - math.log(N * (B - 1)))
    log_w.fill_diagonal_(-math.log(N))
    return (log_q + log_w).logsumexp(1)
    ### END SOLUTION


# %%
check.log_aggregate(log_aggregate)

# %% [markdown]
# Unbiased means: the average over *all* batches that contain the example is $q(z)$ itself.
# Six examples have ten batches of three with the first one in them.

# %%
seed_everything(0)
means = torch.randn(6)
z = means[0] + 0.5 * torch.randn(())
log_q = Normal(means, 0.5).log_prob(z)  # one code, under all six
print(f"q(z) = {log_q.exp().mean():.5f}")
try:
    found = []
    for others in itertools.combinations(range(1, 6), 2):
        page = log_q[[0, *others]].expand(3, 3)
        found.append(log_aggregate(page, 6)[0].exp().item())
    print(f"mean of {len(found)} batches: {sum(found) / len(found):.5f}", end=", ")
    print(f"from {min(found):.5f} to {max(found):.5f}")
except NotImplementedError:
    print("(write log_aggregate first)")

# %% [markdown]
# ## 5. The gap of a factor
#
# A factor $v$ takes $V$ values, not equally often. For each of $K$ dimensions, cut into $A$
# bins, somebody counted how often every bin met every value. Return the gap of this factor,
#
# $$\frac{I(z_\text{best}; v) - I(z_\text{second}; v)}{H(v)},\qquad
#   I(z; v) = H(z) + H(v) - H(z, v).$$
#
# Many counts are 0, and $0\log 0 = 0$: `torch.xlogy` knows.


# %%
def factor_gap(counts):
    """Return the gap of one factor, from 0 to 1.

    Args:
        counts: how often bin a of dimension k met value v, whole numbers (K, A, V).

    Returns:
        A scalar.
    """
    ### BEGIN SOLUTION

    def entropy(counts):
        p = counts / counts.sum()
        return -torch.xlogy(p, p).sum()

    H = entropy(counts[0].sum(0))
    told = torch.stack([entropy(t.sum(1)) + H - entropy(t) for t in counts])
    best, second = told.topk(2).values
    return (best - second) / H
    ### END SOLUTION


# %%
check.factor_gap(factor_gap)

# %% [markdown]
# Three dimensions and a factor of three values. The gap falls as the second dimension
# learns what the first one knows, although nothing is lost:

# %%
seed_everything(0)
v = torch.randint(3, (3000,))
for share in (0.0, 0.5, 1.0):
    copy = torch.where(torch.rand(3000) < share, v, torch.randint(3, (3000,)))
    codes = (v, copy, torch.randint(3, (3000,)))
    counts = torch.stack([torch.bincount(3 * z + v, minlength=9).view(3, 3) for z in codes])
    try:
        print(f"copied {share:.0%}: gap {factor_gap(counts):.3f}")
    except NotImplementedError:
        print("(write factor_gap first)")
        break

# %% [markdown]
# ## 6. What a diagonal encoder loses
#
# A linear Gaussian model has a Gaussian posterior with precision matrix $P$. The best
# diagonal $q$ has the same mean and the variances $1/P_{jj}$. Derive from the KL of two
# Gaussians of equal means,
# $\frac12[\operatorname{tr}(P\,\Sigma_q) - K - \log\det P - \log\det\Sigma_q]$, what it
# loses, and return it.


# %%
def diagonal_gap(P):
    """Return min over diagonal q of KL(q || N(mu, P^-1)), in nats.

    Args:
        P: precision matrix, symmetric and positive definite, (K, K).

    Returns:
        A scalar.
    """
    ### BEGIN SOLUTION
    return (P.diagonal().log().sum() - torch.logdet(P)) / 2  # the trace is K
    ### END SOLUTION


# %%
check.diagonal_gap(diagonal_gap)

# %% [markdown]
# Is $1/P_{jj}$ really the best? Let Adam look for better variances.

# %%
P = torch.tensor([[5.0, 2.0], [2.0, 1.5]])
log_s = torch.zeros(2, requires_grad=True)
optimizer = torch.optim.Adam([log_s], 0.05)
for _ in range(budget(400, 20)):
    variance = (2 * log_s).exp()
    kl = ((P.diagonal() * variance).sum() - 2 - P.logdet() - variance.log().sum()) / 2
    optimizer.zero_grad()
    kl.backward()
    optimizer.step()
print(f"found {kl:.4f} nats with variances {variance.tolist()}; 1/P: {[0.2, 1 / 1.5]}")
try:
    print(f"yours: {diagonal_gap(P):.4f}")
except NotImplementedError:
    print("(write diagonal_gap first)")

# %% [markdown]
# ## To think about: is the correlation of real codes worth a price?
#
# Nothing to write here. The same VAE of digits, with prices 1, 3 and 10 on the total
# correlation alone. Rate, bound and parts, on the test digits:

# %% tags=["train"]
digits = images.load("digits")
flat = lambda x: images.threshold(x, digits.levels).flatten(1).float()
x_train, x_test = flat(digits.x_train), flat(digits.x_test)
print(
    f"{'price':>6s}{'D + R':>9s}{'information':>13s}{'correlation':>13s}{'marginals':>11s}"
)
for beta in (1.0, 3.0, 10.0):
    seed_everything(0)
    model, steps = VAE(64, latent=8, hidden=(128,)), budget(600, 10)
    trainee = beta_vae.BetaTC(model, N=len(x_train), beta=beta)
    for _ in train(trainee, forever(x_train, 128), steps, lambda s: 3e-3 * (1 - s / steps)):  # noqa: B023
        pass
    with torch.no_grad():
        q = model.encode(x_test)
        z = q.sample()
        parts = beta_vae.surgery(q, z, model.prior.log_prob(z), len(x_test))
        bound = -model.elbo(x_test).mean()
    print(f"{beta:6.0f}{bound:9.2f}{parts[0]:13.2f}{parts[1]:13.2f}{parts[2]:11.2f}")

# %% [markdown]
# The higher price removes correlation and costs bound. Whether the dimensions that are left
# *mean* anything, no column of this table can say: digits come without factors.
