# %% [markdown]
# # Exercises: scores, and noise to tell data from
#
# Six short pieces of code: the best bell by score matching, the trace of a Jacobian, the
# sliced and the denoising loss, Tweedie's formula, and noise contrast. Under each stands a
# check that runs *your* function on fresh inputs. A red line names the wrong property; a
# plausible mistake gets a hint. Nothing depends on an unanswered question: later cells use
# the course's own code.

# %% [markdown] tags=["nav"]
# before this: [Densities, samples and divergences](../../lectures/foundations/densities.ipynb), [Rolling and kicked: Langevin and deep energies](../../lectures/energy/langevin.ipynb) ·
# [lecture](../../lectures/energy/score_matching.ipynb) ·
# [exercise](../../exercises/energy/score_matching.ipynb)

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
import torch.nn.functional as F

from gdm_course import plotting as plot
from gdm_course.checks.energy import score_matching as check
from gdm_course.data import toy
from gdm_course.energy.score_matching import DenoisingScoreModel
from gdm_course.training import budget, forever, seed_everything, train

plot.style()

# %% [markdown]
# ## 1. The best bell, without its constant
#
# The score of a Gaussian is linear: $s(x) = -P(x - m)$, where $P$ is the matrix that stands
# in its exponent. Put this $s$ into the explicit loss
#
# $$L(m, P) = \mathbb E\Bigl[\tfrac12|P(x-m)|^2 - \mathrm{tr}\,P\Bigr]$$
#
# and set the derivatives in $m$ and in $P$ to 0, with $\mathbb E$ the means over all $N$
# points. Which mean and which $P$ come out? The answer holds the second moments of the
# points around their mean; $P$ is a whole matrix, and there is no determinant anywhere.


# %%
def best_bell(x):
    """Return the m and P that make the explicit loss of s(x) = -P (x - m) lowest.

    Args:
        x: points (N, D), more of them than dimensions; D may be 1.

    Returns:
        m (D,) and P (D, D).
    """
    ### BEGIN SOLUTION
    m = x.mean(0)
    C = (x - m).T @ (x - m) / len(x)
    return m, torch.linalg.inv(C)  # from E[P (x - m)(x - m)^T] = I
    ### END SOLUTION


# %%
check.best_bell(best_bell)

# %% [markdown]
# The same numbers as by maximum likelihood. For other families the two differ: maximum
# likelihood needs $Z$, and score matching does not.
#
# ## 2. The trace of a Jacobian
#
# A network with one hidden layer is a vector field, $s(x) = \tanh(xW)\,V$. Return, one number
# for each row of $x$, the sum of $\partial s_d/\partial x_d$ over $d$: only the $D$
# derivatives on the diagonal, not all $D\times D$. With autograd or by the chain rule on
# paper, as you like.


# %%
def trace_of_jacobian(x, W, V):
    """Return the trace of ds/dx of s(x) = tanh(x W) V.

    Args:
        x: points (B, D).
        W: (D, H).
        V: (H, D).

    Returns:
        (B,)
    """
    ### BEGIN SOLUTION
    x = x.detach().requires_grad_()
    s = torch.tanh(x @ W) @ V
    slopes = [
        torch.autograd.grad(s[:, d].sum(), x, create_graph=True)[0][:, d]
        for d in range(x.shape[1])
    ]
    return torch.stack(slopes).sum(0)
    ### END SOLUTION


# %%
check.trace_of_jacobian(trace_of_jacobian)

# %% [markdown]
# ## 3. Along one direction
#
# Hutchinson replaces the trace of the Jacobian $J = \partial s/\partial x$ by $v^\top J v$ with
# random signs $v$. You are given $s$, the product $Jv$, and $v$ itself. Return the sliced loss: the mean over
# the rows of half of $|s|^2$ and the slope along $v$. Take $|s|^2/2$ as it is: we know it, so
# nothing there has to be estimated with $v$.


# %%
def sliced_loss(s, Jv, v):
    """Return the sliced score matching loss of a batch.

    Args:
        s: scores (B, D).
        Jv: the Jacobian ds/dx times v, row by row (B, D).
        v: random signs (B, D).

    Returns:
        A number ().
    """
    ### BEGIN SOLUTION
    return (s.square().sum(1) / 2 + (v * Jv).sum(1)).mean()
    ### END SOLUTION


# %%
check.sliced_loss(sliced_loss)

# %% [markdown]
# ## 4. Denoising
#
# A row $x$ was blurred to $\tilde x = x + \sigma e$, where each row has its own $\sigma$. The
# score of the noise is $-(\tilde x - x)/\sigma^2$. Write it with $e$. The loss is the mean of
# half the squared length of the difference between $s$ and this target, weighted by
# $\sigma^2$, so that all sizes of noise count alike.


# %%
def denoising_loss(s, e, sigma):
    """Return the denoising score matching loss of a batch.

    Args:
        s: scores at x + sigma e (B, D).
        e: the noise, standard normal (B, D).
        sigma: standard deviations (B,).

    Returns:
        A number ().
    """
    ### BEGIN SOLUTION
    return (sigma[:, None] * s + e).square().sum(1).mean() / 2
    ### END SOLUTION


# %%
check.denoising_loss(denoising_loss)

# %% [markdown]
# Can this loss reach 0? Blur standard normal points in the plane with $\sigma = 1$: their
# true score is $-\tilde x/2$. Estimate the loss of the truth.

# %%
seed_everything(0)
x, e = torch.randn(2, 100_000, 2)
try:
    truth = denoising_loss(-(x + e) / 2, e, torch.ones(len(x)))
    print(f"loss of the true score: {truth:.3f}, expected 1/2")
except NotImplementedError:
    print("(write denoising_loss first)")

# %% [markdown]
# ## 5. Back to where it came from
#
# Which clean point does a noisy $\tilde x$ come from, on average? Tweedie: go from
# $\tilde x$ towards the data, by $\sigma^2$ times the score of the blurred density. Try it on
# paper with a bell $\mathcal N(0, \tau^2)$, whose blurred score is
# $-\tilde x/(\tau^2+\sigma^2)$.


# %%
def tweedie(x, s, sigma):
    """Return the mean of the clean points that may have become x.

    Args:
        x: noisy points (B, D).
        s: score of the blurred density there (B, D).
        sigma: standard deviation of the noise, a number.

    Returns:
        (B, D)
    """
    ### BEGIN SOLUTION
    return x + sigma**2 * s
    ### END SOLUTION


# %%
check.tweedie(tweedie)

# %% [markdown]
# With a learned score: two moons, blurred, and what your function makes of them. Why is the
# result thinner than the moons?

# %%
seed_everything(0)
moons, model = toy.get("two_moons"), DenoisingScoreModel(2, sigma=0.3)
steps = budget(400, 5)
loop = train(
    model, forever(moons.sample(10_000), 256), steps, lambda k: 5e-3 * (1 - k / steps)
)
for _ in loop:
    pass
clean = moons.sample(2000)
noisy = clean + 0.3 * torch.randn_like(clean)
with torch.no_grad():
    score = model.score(noisy)
drawn = {"clean": clean, "noisy": noisy}
try:
    drawn["denoised"] = tweedie(noisy, score, 0.3)
except NotImplementedError:
    print("(write tweedie first)")
for ax, points in zip(plot.panels(*drawn), drawn.values()):
    plot.scatter(points, ax, moons.bounds)

# %% [markdown]
# It is a mean: all clean points that may have become $\tilde x$ are averaged, and the mean
# lies in the middle of the band.
#
# ## 6. Data or noise?
#
# This is equation (7) of the lecture. An energy $E$ and a number $c$ claim that
# $\log p(x) = -E(x) - c$. Mix data with points from
# a known noise $p_n$, $\nu$ of them for each of the data; $\nu$ is told by the lengths of the
# two batches. The log-odds that a point is from the data are
#
# $$G(x) = -E(x) - c - \log p_n(x) - \log\nu.$$
#
# Return the mean over the data of $-\log\mathrm{sig}(G)$, plus $\nu$ times the mean over the
# noise of $-\log\mathrm{sig}(-G)$, where $\mathrm{sig}(G) = 1/(1+e^{-G})$. For each of the two
# batches you get $E$ and $\log p_n$ at its points. The check comes with log-odds of 300 on the wrong side.


# %%
def nce_loss(E, log_n, E_noise, log_n_noise, c):
    """Return the loss of noise-contrastive estimation.

    Args:
        E, log_n: energies and log p_n of the data (B,).
        E_noise, log_n_noise: energies and log p_n of the noise (nu B,).
        c: a number (), which is to become log Z.

    Returns:
        A number ().
    """
    ### BEGIN SOLUTION
    nu = len(E_noise) / len(E)
    data = -E - c - log_n - math.log(nu)
    noise = -E_noise - c - log_n_noise - math.log(nu)
    return F.softplus(-data).mean() + nu * F.softplus(noise).mean()
    ### END SOLUTION


# %%
check.nce_loss(nce_loss)

# %% [markdown]
# ## Further, without a check
#
# 1. **The best classifier.** Derive the minimiser of the NCE loss in $G$ at one point $x$, with $p(x)$
#    and $p_n(x)$ given. Where $p_n(x) = 0$, what does the loss say about $G(x)$?
# 2. **Another trace.** Draw $v$ on the unit sphere instead of signs. By which factor is the
#    trace wrong, and does the trained score show it?
# 3. **Second order.** Differentiate Tweedie's formula: the covariance of the clean point
#    given $\tilde x$ is $\sigma^2(I + \sigma^2\,\partial s/\partial\tilde x)$. Check it with
#    a bell.
