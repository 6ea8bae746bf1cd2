# %% [markdown]
# # Examination
#
# Eight questions, one for each part of the course, 20 points. Each asks for one function.
# It is judged on inputs that nobody has seen, in a sealed box; the check under it tries it
# here. Books, lectures and your own exercises are allowed, other people are not. 90 minutes.

# %% [markdown] tags=["nav"]
# before this: [Half of it stays: coupling flows](../../lectures/flows/realnvp.ipynb), [What you do not see: the variational autoencoder](../../lectures/vae/vae.ipynb), [Rolling and kicked: Langevin and deep energies](../../lectures/energy/langevin.ipynb), [Two players: generative adversarial networks](../../lectures/gan/gan.ipynb), [A thousand small steps: denoising diffusion](../../lectures/diffusion/ddpm.ipynb) ·
# [lecture](../../lectures/challenges/exam.ipynb) ·
# [exercise](../../exercises/challenges/exam.ipynb)

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

from gdm_course.checks.challenges import exam as check

# %% [markdown]
# ## 1. Foundations: what the coordinates know of each other (2 points)
#
# A Gaussian in $D$ dimensions has the covariance $C$. How many nats does it take, on average,
# to describe its coordinates *as if they were independent*, more than to describe the whole?
# That is the sum of the entropies of the single coordinates, less the entropy of the vector.
# The variances, on the diagonal of $C$, need not be 1. With 60 coordinates measured in a small
# unit, the determinant of $C$ is no number that float32 can hold.


# %%
def shared_information(C):
    """Return what independent coordinates would cost, in nats.

    Args:
        C: a covariance, symmetric and positive definite (D, D).

    Returns:
        ()
    """
    ### BEGIN SOLUTION
    alone = C.diagonal().log().sum() / 2
    return alone - torch.linalg.cholesky(C).diagonal().log().sum()
    ### END SOLUTION


# %%
check.shared_information(shared_information)

# %% [markdown]
# ## 2. Autoregressive models: a cheap model proposes (3 points)
#
# A large model gives the next symbol the probabilities $p$, a small one $q$. The small one
# draws a symbol $k$. It is kept with probability $\min(1, p_k/q_k)$; if it is refused, another
# one is drawn from a second law, which is made so that what comes out has exactly the
# probabilities $p$. Return, for each row:
#
# 1. the probability that a proposal is kept. Symbols are proposed with the probabilities $q$;
# 2. the second law: what is still missing of $p$ after the kept proposals, made to sum to 1.
#
# If both models agree, nothing is ever refused. The second law is never used then: return $p$.


# %%
def speculative(p, q):
    """Return how often a proposal is kept, and the law after a refusal.

    Args:
        p, q: probabilities of the large and of the small model (B, K), all above 0.

    Returns:
        (B,), (B, K)
    """
    ### BEGIN SOLUTION
    kept = torch.minimum(p, q)
    missing = p - kept
    total = missing.sum(1, keepdim=True)
    return kept.sum(1), torch.where(total > 0, missing / total, p)
    ### END SOLUTION


# %%
check.speculative(speculative)

# %% [markdown]
# ## 3. Normalizing flows: a Gaussian, squashed (3 points)
#
# $z$ is Gaussian with means $\mu$ and standard deviations $\sigma$, all coordinates
# independent, and $y = \tanh z$, coordinate by coordinate. You are given $z$. Return the log
# density of $y$ (not of $z$), one number for each row: a sum over the coordinates. It must be
# right where $z$ is $\pm 15$ and $\tanh z$ is rounded to $\pm1$ in float32: rewrite the
# logarithm of $1-\tanh^2 z = 4/(e^z+e^{-z})^2$ first.


# %%
def squashed_log_prob(z, mu, sigma):
    """Return log p(y) at y = tanh z, in nats.

    Args:
        z: points before tanh (B, D).
        mu: means (D,).
        sigma: standard deviations (D,).

    Returns:
        (B,)
    """
    ### BEGIN SOLUTION
    log_slope = 2 * (math.log(2) - z.abs() - F.softplus(-2 * z.abs()))
    before = torch.distributions.Normal(mu, sigma).log_prob(z)
    return (before - log_slope).sum(1)
    ### END SOLUTION


# %%
check.squashed_log_prob(squashed_log_prob)

# %% [markdown]
# ## 4. Latent variables: a baseline that does not cheat (2 points)
#
# For each row of data, $K$ latent codes were drawn, and the $k$-th has the reward $f_k$. The
# score-function estimate multiplies $\nabla\log q(z_k)$ by $f_k$ less a baseline, which must not
# depend on the draw $z_k$ itself, or the estimate is biased. Take the mean reward of the
# *other* draws of the same row. Return $f_k$ less this baseline.


# %%
def leave_one_out(f):
    """Return each reward less the mean of the others in its row.

    Args:
        f: rewards (B, K), K at least 2.

    Returns:
        (B, K)
    """
    ### BEGIN SOLUTION
    K = f.shape[1]
    return K / (K - 1) * (f - f.mean(1, keepdim=True))
    ### END SOLUTION


# %%
check.leave_one_out(leave_one_out)

# %% [markdown]
# ## 5. Energy-based models: two chains change places (2 points)
#
# Two Markov chains walk side by side. The cold one has the law
# $p(x)\propto e^{-\beta_1 E(x)}$, the hot one $e^{-\beta_2E(x)}$, with inverse temperatures
# $\beta_1>\beta_2$. The hot chain crosses barriers; now and then both propose to change places.
# Both chains move, so that the ratio in the rule of Metropolis is that of *both* densities
# together, after and before. Return the logarithm of the probability to accept, which is at
# most 0.


# %%
def swap_log_accept(e_cold, e_hot, beta_cold, beta_hot):
    """Return log P(accept) of each pair of chains.

    Args:
        e_cold, e_hot: energies where the two chains are now (B,).
        beta_cold, beta_hot: inverse temperatures, two numbers.

    Returns:
        (B,)
    """
    ### BEGIN SOLUTION
    before = -beta_cold * e_cold - beta_hot * e_hot
    after = -beta_cold * e_hot - beta_hot * e_cold
    return torch.minimum(after - before, torch.zeros_like(before))
    ### END SOLUTION


# %%
check.swap_log_accept(swap_log_accept)

# %% [markdown]
# ## 6. Adversarial networks: does a batch repeat itself? (3 points)
#
# A discriminator that sees one sample at a time cannot notice that all of them are alike. So it
# is told: the batch is cut into groups of $n$ consecutive rows; for each group, take the
# standard deviation of every feature over its $n$ rows (divide by $n$, not by $n-1$), then
# the mean of these over the features: one number, large where the group is varied. Return the
# features with that number as one feature more, at the end, the same in all rows of a group.


# %%
def with_variety(x, n):
    """Return the features and how varied the row's group is.

    Args:
        x: features (B, D).
        n: rows of a group, a whole number that divides B, at least 2.

    Returns:
        (B, D + 1)
    """
    ### BEGIN SOLUTION
    groups = x.unflatten(0, (-1, n))  # (B / n, n, D)
    varied = groups.std(1, correction=0).mean(1)  # (B / n,)
    column = varied[:, None].expand(-1, n).reshape(-1, 1)
    return torch.cat([x, column], 1)
    ### END SOLUTION


# %%
check.with_variety(with_variety)

# %% [markdown]
# ## 7. Diffusion: from a denoiser to a velocity (2 points)
#
# On the way from data at $t=0$ to noise, $x_t = \alpha_t x_0+\sigma_t\epsilon$. A network has
# learnt $\hat x_0=\mathbb E[x_0\,|\,x_t]$, with some schedule. You want to follow the flow, whose
# velocity is $\mathbb E[\dot\alpha_t x_0+\dot\sigma_t\epsilon\,|\,x_t]$; the dots are slopes in
# $t$. Both paths, $\alpha$ and $\sigma$, may be any functions: $\alpha^2+\sigma^2$ need not be 1.
# Return the velocity. It needs no second network.


# %%
def path_velocity(x, x0_hat, alpha, sigma, d_alpha, d_sigma):
    """Return the mean velocity at x.

    Args:
        x: where the flow is (B, D).
        x0_hat: what the denoiser says there (B, D).
        alpha, sigma: two numbers, sigma above 0.
        d_alpha, d_sigma: their slopes in t, two numbers.

    Returns:
        (B, D)
    """
    ### BEGIN SOLUTION
    eps_hat = (x - alpha * x0_hat) / sigma
    return d_alpha * x0_hat + d_sigma * eps_hat
    ### END SOLUTION


# %%
check.path_velocity(path_velocity)

# %% [markdown]
# ## 8. Evaluation: can a neighbour tell? (3 points)
#
# Put data $x$ and samples $y$ into one heap. For every point, find the nearest *other* point of
# the heap; the neighbour is right if both are data or both are samples. Return two numbers: how
# often it is right for the data, and how often for the samples. Of good samples, both are near
# the shares of $x$ and $y$ in the heap. Copies of the data, blurred samples and lost modes each
# move them in their own way, so that the mean of the two would hide what is wrong.


# %%
def neighbours_tell(x, y):
    """Return how often the nearest other point is of the same kind.

    Args:
        x: data (N, D).
        y: samples (M, D).

    Returns:
        (2,), for the data and for the samples.
    """
    ### BEGIN SOLUTION
    heap = torch.cat([x, y])
    kind = torch.cat([torch.zeros(len(x)), torch.ones(len(y))])
    apart = torch.cdist(heap, heap, compute_mode="donot_use_mm_for_euclid_dist")
    nearest = apart.fill_diagonal_(math.inf).argmin(1)
    right = (kind[nearest] == kind).float()
    return torch.stack([right[: len(x)].mean(), right[len(x) :].mean()])
    ### END SOLUTION


# %%
check.neighbours_tell(neighbours_tell)
