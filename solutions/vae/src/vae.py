# %% [markdown]
# # Exercises: what you do not see
#
# Six short pieces of code, from the posterior of a mixture to a bound that tightens. Under
# each stands a check that runs *your* function on fresh inputs and compares. A red line
# names the wrong property; a plausible mistake gets a hint. Nothing depends on an
# unanswered question: later cells use the course's own code.

# %% [markdown] tags=["nav"]
# before this: [Densities, samples and divergences](../../lectures/foundations/densities.ipynb), [Half of it stays: coupling flows](../../lectures/flows/realnvp.ipynb) ·
# [lecture](../../lectures/vae/vae.ipynb) ·
# [exercise](../../exercises/vae/vae.ipynb)

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
from gdm_course.checks.vae import vae as check
from gdm_course.data import images, toy
from gdm_course.training import budget, forever, seed_everything, train
from gdm_course.vae import decoders, gradients, mixture, vae

plot.style()

# %% [markdown]
# ## 1. Who answers for this point?
#
# A mixture of $K$ round Gaussians in $D$ dimensions:
# $p(x,z)=\pi_z\,\mathcal N(x;\mu_z,\sigma_z^2 I)$. Given points, return the posterior
#
# $$p(z\mid x) = \frac{p(x,z)}{\sum_{z'}p(x,z')}.$$
#
# The density of a round Gaussian in $D$ dimensions has the factor $\sigma^{-D}$. Far from
# all centres every $p(x,z)$ underflows; in the log domain, `softmax` does not.


# %%
def responsibilities(x, log_pi, mu, log_sigma):
    """Return p(z | x) of a mixture of round Gaussians.

    Args:
        x: points (B, D).
        log_pi: log weights (K,).
        mu: centres (K, D).
        log_sigma: (K,).

    Returns:
        (B, K), rows sum to 1.
    """
    ### BEGIN SOLUTION
    squared = (x[:, None] - mu).square().sum(-1)  # (B, K)
    log_normal = -0.5 * squared * torch.exp(-2 * log_sigma) - x.shape[1] * log_sigma
    return (log_pi + log_normal).softmax(-1)
    ### END SOLUTION


# %%
check.responsibilities(responsibilities)

# %% [markdown]
# With it, EM runs: your E-step, the course's M-step, on eight heaps. Ten restarts end in
# different places. EM climbs to the nearest summit only.

# %%
heaps = toy.get("eight_gaussians")
seed_everything(0)
x = heaps.sample(600).float()
ends = []
for _ in range(10):
    m = mixture.Mixture(
        torch.zeros(8).log_softmax(0), x[torch.randperm(600)[:8]], torch.zeros(8)
    )
    for _ in range(40):
        try:
            q = responsibilities(x, m.log_pi, m.mu, m.log_sigma)
        except NotImplementedError:
            q = m.posterior(x)
        m = mixture.maximise(x, q)
    ends.append(-m.log_prob(x).mean().item())
print("nats per point:", " ".join(f"{nats:.2f}" for nats in sorted(ends)))

# %% [markdown]
# ## 2. What a code costs
#
# $$\mathrm{KL}\bigl(\mathcal N(\mu,\operatorname{diag}\sigma^2)\,\|\,\mathcal N(0,I)\bigr)$$
#
# in nats, from $\mu$ and $\log\sigma$ of $K$ dimensions. Mind what the dimensions do: add,
# or average?


# %%
def gaussian_kl(mu, log_sigma):
    """Return the KL of a diagonal Gaussian to the standard normal.

    Args:
        mu, log_sigma: (B, K).

    Returns:
        (B,), in nats.
    """
    ### BEGIN SOLUTION
    return ((mu**2 + torch.exp(2 * log_sigma) - 1) / 2 - log_sigma).sum(-1)
    ### END SOLUTION


# %%
check.gaussian_kl(gaussian_kl)

# %% [markdown]
# ## 3. A gradient without a slope
#
# The score-function estimator needs values of $f$ only:
# $\nabla_\mu\,\mathbb E_q[f(z)] = \mathbb E_q[f(z)\,\nabla_\mu\log q(z)]$ with
# $q=\mathcal N(\mu,\operatorname{diag}\sigma^2)$. You are given draws of $z$ and the values
# of $f$ at them. What is $\nabla_\mu\log q(z)$? Write it down on paper first.


# %%
def score_function(z, f, mu, log_sigma):
    """Estimate the gradient of E[f(z)] in mu from draws z ~ N(mu, sigma^2).

    Args:
        z: (n, K).
        f: values f(z_i), (n,).
        mu, log_sigma: (K,).

    Returns:
        (K,), the mean over the n draws.
    """
    ### BEGIN SOLUTION
    score = (z - mu) * torch.exp(-2 * log_sigma)  # (n, K)
    return (f[:, None] * score).mean(0)
    ### END SOLUTION


# %%
check.score_function(score_function)

# %% [markdown]
# The variance can be fought. Since $\mathbb E_q[\nabla\log q]=0$, subtracting any constant
# from $f$ (a **baseline**) changes nothing on average. Compare 2,000 gradients, 10 draws
# each, of $f(z) = -\tfrac12|z-1|^2$ in 16 dimensions:

# %%
seed_everything(0)
mu, log_sigma = torch.zeros(16), torch.zeros(16)
f = lambda z: -0.5 * (z - 1).square().sum(-1)
rows = {"score": [], "score, baseline": [], "reparametrised": []}
for _ in range(budget(2000, 100)):
    z = mu + torch.randn(10, 16)
    try:
        for name, b in (("score", 0.0), ("score, baseline", -16.0)):  # -16: the mean of f
            rows[name].append(score_function(z, f(z) - b, mu, log_sigma))
    except NotImplementedError:
        pass
    rows["reparametrised"].append(
        gradients.reparametrised_gradient(f, mu, log_sigma, 10)[0].mean(0)
    )
for name, draws in rows.items():
    if draws:
        g = torch.stack(draws)[:, 0]
        print(f"{name:16s} mean {g.mean():6.3f} (exact: 1), variance {g.var():8.3f}")

# %% [markdown]
# ## 4. The bound
#
# A decoder gave the logits of $p(x_d=1\mid z)$ for one $z\sim q(z\mid x)$, the encoder gave
# $\mu$ and $\log\sigma$. Return
#
# $$\log p(x\mid z) - \mathrm{KL}(q(z\mid x)\,\|\,p(z))$$
#
# for every image: two **sums**, over $D$ pixels and over $K$ latent dimensions. Use
# `torch.nn.functional.softplus`: $\log(1-p)=-\mathrm{softplus}(\text{logit})$. A decoder may be
# very sure: with a logit of 600, $p$ rounds to 1, and $e^{600}$ is infinite in single
# precision.


# %%
def elbo(logits, x, mu, log_sigma):
    """Return the evidence lower bound of bits, one draw of z.

    Args:
        logits: of p(x_d = 1 | z), (B, D).
        x: 0 or 1, (B, D).
        mu, log_sigma: of q(z | x), (B, K).

    Returns:
        (B,), in nats.
    """
    ### BEGIN SOLUTION
    log_p = (x * logits - torch.nn.functional.softplus(logits)).sum(-1)
    kl = ((mu**2 + torch.exp(2 * log_sigma) - 1) / 2 - log_sigma).sum(-1)
    return log_p - kl
    ### END SOLUTION


# %%
check.elbo(elbo)

# %% [markdown]
# Train the course's two networks on *your* bound, and draw digits from the prior:

# %%
digits = images.load("digits")
x_train = images.threshold(digits.x_train, digits.levels).flatten(1).float()
x_test = images.threshold(digits.x_test, digits.levels).flatten(1).float()
seed_everything(0)
model = vae.VAE(64, latent=6, hidden=(128,))


def loss(x):
    """Your bound, at one draw of z; the course's until yours exists."""
    q = model.encode(x).base_dist
    z = q.rsample()
    logits = model.decode(z).base_dist.logits
    try:
        return -elbo(logits, x, q.loc, q.scale.log()).mean()
    except NotImplementedError:
        return vae.VAE.loss(model, x)


model.loss = loss
steps = budget(1200, 20)
for _ in train(model, forever(x_train, 64), steps, lambda s: 3e-3 * (1 - s / steps)):
    pass
with torch.no_grad():
    print(f"-ELBO {-model.elbo(x_test).mean():.2f} nats per test digit")
_ = plot.image_grid(model.sample(40).view(-1, 8, 8), columns=20)

# %% [markdown]
# ## 5. Many draws
#
# From the log weights $\log w_i=\log p(x,z_i)-\log q(z_i\mid x)$ of $k$ draws per image,
# the importance weighted bound
#
# $$\mathcal L_k = \log\frac1k\sum_{i=1}^k w_i.$$
#
# Stay in the log domain: $\log w$ may be $-4{,}000$ for one image and 900 for the next.


# %%
def iwae_bound(log_w):
    """Return the importance weighted bound.

    Args:
        log_w: log weights in nats, (k, B).

    Returns:
        (B,)
    """
    ### BEGIN SOLUTION
    return torch.logsumexp(log_w, dim=0) - math.log(len(log_w))
    ### END SOLUTION


# %%
check.iwae_bound(iwae_bound)

# %% [markdown]
# How many of the draws do the work? The *effective sample size* $(\sum w)^2/\sum w^2$ says
# how many equal weights they are worth.

# %%
with torch.no_grad():
    for k in (1, 10, 100, 1000):
        log_w = model.log_weights(x_test, model.encode(x_test), k)
        try:
            bound = iwae_bound(log_w)
        except NotImplementedError:
            bound = log_w.logsumexp(0) - math.log(k)
        ess = 1 / log_w.softmax(0).square().sum(0)
        print(f"k = {k:5d}: {-bound.mean():.2f} nats, worth {ess.mean():6.1f} equal draws")

# %% [markdown]
# ## 6. The probability of a grey level
#
# A logistic density has the distribution function $F(a)=\sigma\bigl((a-\mu)/s\bigr)$. Code
# $x\in\{0,\dots,n-1\}$ owns the bin from $x-\tfrac12$ to $x+\tfrac12$; the first bin
# reaches down to $-\infty$ and the last up to $+\infty$. Return the log-probability of each
# code. (The inputs of the check are moderate: the plain difference of two sigmoids is good
# enough. The lecture has the form that survives far out in the tails.)


# %%
def logistic_bin(x, mu, log_s, levels):
    """Return the log-probability of codes under a discretised logistic.

    Args:
        x: codes 0..levels - 1 (float), (B,).
        mu, log_s: centre and log width in codes, (B,).
        levels: how many codes there are.

    Returns:
        (B,), in nats.
    """
    ### BEGIN SOLUTION
    above = torch.sigmoid((x + 0.5 - mu) * torch.exp(-log_s))
    below = torch.sigmoid((x - 0.5 - mu) * torch.exp(-log_s))
    above = torch.where(x >= levels - 1, torch.ones_like(above), above)
    below = torch.where(x <= 0, torch.zeros_like(below), below)
    return (above - below).log()
    ### END SOLUTION


# %%
check.logistic_bin(logistic_bin)

# %% [markdown]
# All 17 grey levels of a pixel, for three centres. Where the centre leaves the range, an
# outer code takes almost everything: pure black costs nothing.

# %%
codes = torch.arange(17.0)
titles = [f"mu = {mu}" for mu in (8.0, 2.0, -4.0)]
for ax, mu in zip(plot.panels(*titles, width=2.8, height=2.4), (8.0, 2.0, -4.0)):
    given = codes, torch.full((17,), mu), torch.full((17,), 0.5), 17
    try:
        p = logistic_bin(*given).exp()
    except NotImplementedError:
        p = decoders.logistic_bin(*given).exp()
    ax.bar(codes, p)
    ax.set(xlabel="code", ylabel="probability", ylim=(0, 1))

# %% [markdown]
# ## Further, without a check
#
# 1. **A mixture in the encoder.** In the lecture's picture of the gap one Gaussian could
#    not cover two humps. Let $q$ be a mixture of two: the KL has no closed form any more.
#    Which gradient can the mixture weights use?
# 2. **Discrete codes.** Replace $z$ by 16 bits with $q=\prod$ Bernoulli and train with the
#    score function and a baseline. How many more steps than a Gaussian VAE?
# 3. **Free bits.** Train the lecture's silent model for a list of floors $\lambda$ and draw
#    $-\mathrm{ELBO}$ and $-\mathcal L_{500}$ over $\lambda$. Where is each best?
