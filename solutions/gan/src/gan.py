# %% [markdown]
# # Exercises: what two players need
#
# Six short pieces of code: the best discriminator, the losses of both players, what of them
# reaches the generator, a penalty on slopes, a count of modes, and a bound on a divergence.
# Under each stands a check that runs *your* function on fresh inputs. A red line names the
# wrong property; a plausible mistake gets a hint. Nothing depends on an unanswered question:
# later cells use the course's own code.

# %% [markdown] tags=["nav"]
# before this: [Densities, samples and divergences](../../lectures/foundations/densities.ipynb) ·
# [lecture](../../lectures/gan/gan.ipynb) ·
# [exercise](../../exercises/gan/gan.ipynb)

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
from torch.distributions import Normal
from torch.nn.functional import softplus

from gdm_course import plotting as plot
from gdm_course.checks.gan import gan as check
from gdm_course.data import toy
from gdm_course.divergences import f_divergence
from gdm_course.training import generator, seed_everything

plot.style()

# %% [markdown]
# ## 1. The best discriminator
#
# Data have the density $p$, fakes the density $q$, and both come equally often. At every
# point the discriminator with the least loss $-V$ gives "data" the probability $p/(p+q)$,
# whose *logit* is asked for: the number $l$ with $\sigma(l) = p/(p+q)$ and
# $\sigma(l) = 1/(1+e^{-l})$. You are given logarithms, of densities as small as $e^{-900}$, and
# one may be much smaller than the other.


# %%
def optimal_logit(log_p, log_q):
    """Return the best logit at every point.

    Args:
        log_p, log_q: log-densities of data and of fakes there (B,), in nats.

    Returns:
        (B,), in nats.
    """
    ### BEGIN SOLUTION
    return log_p - log_q
    ### END SOLUTION


# %%
check.optimal_logit(optimal_logit)

# %% [markdown]
# Between two Gaussians of the same width the best logit is a straight line.

# %%
x = torch.linspace(-4, 7, 200)
p, q = Normal(0.0, 1.0).log_prob(x), Normal(3.0, 1.0).log_prob(x)
left, right = plot.panels("p and q", "the best D")
left.plot(x, p.exp(), color=plot.BLUE)
left.plot(x, q.exp(), color=plot.ORANGE)
try:
    right.plot(x, optimal_logit(p, q).sigmoid(), color=plot.BLACK)
except NotImplementedError:
    right.set_title("(write optimal_logit first)", loc="left")

# %% [markdown]
# ## 2. Both losses
#
# The discriminator answers with logits $d$. It minimises $-V$, the sum of two expectations,
# $-\mathbb E\log\sigma(d)$ over data and $-\mathbb E\log(1 - \sigma(d))$ over fakes: added,
# not averaged. The generator minimises $-\mathbb E\log\sigma(d)$ over fakes, not the
# saturating one. Expectations are means over their rows, of which there need not be as many.
# There are logits of 200, for which the losses are finite: $-\log\sigma(d) =
# \mathrm{softplus}(-d)$.


# %%
def player_losses(d_real, d_fake):
    """Return the losses of the discriminator and of the generator.

    Args:
        d_real: logits of data (n,).
        d_fake: logits of fakes (m,).

    Returns:
        Two numbers, () and (), in nats.
    """
    ### BEGIN SOLUTION
    loss_D = softplus(-d_real).mean() + softplus(d_fake).mean()
    return loss_D, softplus(-d_fake).mean()
    ### END SOLUTION


# %%
check.player_losses(player_losses)

# %% [markdown]
# A discriminator that cannot tell says 0 everywhere. What are the losses then?

# %%
try:
    losses = player_losses(torch.zeros(4), torch.zeros(4))
    print(f"{losses[0]:.4f} and {losses[1]:.4f}; 2 log 2 = {2 * math.log(2):.4f}")
except NotImplementedError:
    print("(write player_losses first)")

# %% [markdown]
# ## 3. What reaches the generator
#
# Whatever the generator learns comes through the logit $l$ of its fake. Two losses are in
# use: the saturating one $\log(1-\sigma(l))$ and the non-saturating one $-\log\sigma(l)$.
# Return the derivatives of both in $l$, in this order and with their signs, for each fake.


# %%
def generator_slopes(logits):
    """Return d/dl of both losses.

    Args:
        logits: of fakes (B,).

    Returns:
        Saturating (B,) and non-saturating (B,).
    """
    ### BEGIN SOLUTION
    return -torch.sigmoid(logits), -torch.sigmoid(-logits)
    ### END SOLUTION


# %%
check.generator_slopes(generator_slopes)

# %% [markdown]
# How much of each is left when the discriminator is sure that these are fakes?

# %%
try:
    for one in (0.0, -5.0, -20.0):
        first, second = generator_slopes(torch.tensor([one]))
        print(f"logit {one:5.0f}: {first.item():.2e} and {second.item():.2e}")
except NotImplementedError:
    print("(write generator_slopes first)")

# %% [markdown]
# ## 4. A price for slopes
#
# R1 is $\frac\gamma2\,\mathbb E_p|\nabla_x D(x)|^2$ over data: gamma / 2, the squares added
# over the dimensions of $x$, and the mean over the batch. It becomes a part of D's loss, so
# the result has to be something that can be differentiated in $W$ again. Here $D(x) =
# v\cdot\tanh(W x + b)$, for every row of a batch `torch.tanh(x @ W.T + b) @ v`. Take the
# slope by autograd or by hand.


# %%
def r1_penalty(W, b, v, x, gamma):
    """Return the penalty on the slopes of D at data.

    Args:
        W, b, v: weights of D, (H, D), (H,) and (H,).
        x: data (B, D).
        gamma: weight of the penalty, a number.

    Returns:
        A number ().
    """
    ### BEGIN SOLUTION
    x = x.detach().requires_grad_()
    logits = torch.tanh(x @ W.T + b) @ v
    (slope,) = torch.autograd.grad(logits.sum(), x, create_graph=True)
    return gamma / 2 * slope.square().sum(1).mean()
    ### END SOLUTION


# %%
check.r1_penalty(r1_penalty)

# %% [markdown]
# For a nearly linear D, $D(x) \approx v\cdot W x$, it is $\frac\gamma2|W^\top v|^2$.

# %%
seed_everything(0)
W, v, x = torch.randn(3, 2) / 100, torch.ones(3), torch.randn(5, 2)
try:
    near = 0.5 * (W.T @ v).square().sum()
    print(f"{r1_penalty(W, torch.zeros(3), v, x, 1.0):.6f}, linear: {near:.6f}")
except NotImplementedError:
    print("(write r1_penalty first)")

# %% [markdown]
# ## 5. How many modes
#
# The truth is $K$ round Gaussians of width $\sigma$, and their centres may be closer than
# $6\sigma$. Give each sample to the nearest centre; it is *good* if it lies within $3\sigma$ of
# it. Quality is the share of good samples. A mode
# is found if it has at least a tenth of its fair share, that is $0.1\cdot n/K$ samples of the
# $n$; this counts only good points.


# %%
def modes_and_quality(x, centres, sigma):
    """Count what a sampler found.

    Args:
        x: samples (n, D).
        centres: of the modes (K, D).
        sigma: their width, a number.

    Returns:
        The number of modes found, and the share of good samples.
    """
    ### BEGIN SOLUTION
    distance, nearest = torch.cdist(x, centres).min(1)
    good = distance <= 3 * sigma
    counts = torch.bincount(nearest[good], minlength=len(centres))
    found = counts >= 0.1 * len(x) / len(centres)
    return found.sum(), good.double().mean()
    ### END SOLUTION


# %%
check.modes_and_quality(modes_and_quality)

# %% [markdown]
# What do exact samples reach? In the plane $1 - e^{-9/2}$ of a Gaussian lies within $3\sigma$.

# %%
truth = toy.get("eight_gaussians")
x = truth.sample(10_000, generator(0))
try:
    modes, quality = modes_and_quality(x, truth.law.means.float(), 0.2)
    print(f"{int(modes)} modes, {quality:.4f}; theory {1 - math.exp(-4.5):.4f}")
except NotImplementedError:
    print("(write modes_and_quality first)")

# %% [markdown]
# ## 6. A bound from samples
#
# For every function $T$ an $f$-divergence is at least $\mathbb E_p T - \mathbb E_q f^*(T)$.
# A network answers with any number $v$; $T = g(v)$ is where $f^*$ is finite:
#
# | name | $g(v)$ | $f^*(t)$ |
# |---|---|---|
# | kl | $v$ | $e^{t-1}$ |
# | reverse kl | $-e^{-v}$ | $-1-\log(-t)$ |
# | pearson | $v$ | $t^2/4+t$ |
#
# Return that difference, the mean of $T$ at data minus the mean of $f^*(T)$ at fakes, with
# both times $T = g(v)$.


# %%
def conjugate_bound(v_p, v_q, name):
    """Return the bound on a divergence.

    Args:
        v_p, v_q: the network's answers at data (n,) and at fakes (m,).
        name: "kl", "reverse kl" or "pearson".

    Returns:
        A number (), in nats for the first two.
    """
    ### BEGIN SOLUTION
    if name == "kl":
        return v_p.mean() - torch.exp(v_q - 1).mean()
    if name == "reverse kl":
        T_p, T_q = -torch.exp(-v_p), -torch.exp(-v_q)
        return T_p.mean() - (-1 - torch.log(-T_q)).mean()
    return v_p.mean() - (v_q**2 / 4 + v_q).mean()
    ### END SOLUTION


# %%
check.conjugate_bound(conjugate_bound)

# %% [markdown]
# For the KL the best $T$ is $1 + \log p - \log q$. Is the bound equal to the divergence there?

# %%
seed_everything(0)
p, q = Normal(0.0, 1.0), Normal(1.0, 1.0)
best = lambda x: 1 + p.log_prob(x) - q.log_prob(x)
exact = f_divergence(lambda u: torch.xlogy(u, u), p.log_prob, q.log_prob, (-9.0, 10.0))
try:
    bound = conjugate_bound(best(p.sample((50_000,))), best(q.sample((50_000,))), "kl")
    print(f"KL = {exact:.3f}, the bound at the best T = {bound:.3f}")
except NotImplementedError:
    print("(write conjugate_bound first)")

# %% [markdown]
# ## Further, without a check
#
# 1. **Smoothed labels.** Let the discriminator be told "data" of a real point with the
#    probability $1 - a$ only. Which logit is best then? And if fakes are called "data" with
#    the probability $a$, too? Plot both where $p/q = 0.02$.
# 2. **Another distance.** In exercise 3 the loss $-l$ has the slope $-1$ whatever the logit.
#    Whose loss is that, and what does its discriminator need in return?
# 3. **Unrolling.** With $k$ imagined steps of D in G's loss, how does a step's cost grow with
#    $k$? Measure it with `UnrolledGAN`.
