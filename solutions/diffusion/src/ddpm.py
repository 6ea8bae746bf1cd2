# %% [markdown]
# # Exercises: into the noise and back
#
# Six short pieces of code: noise by many steps at once, the best denoiser of a mixture, the
# point between a clean and a noisy one, the velocity, the price of a wrong guess, and a step
# of DDIM. Under each stands a check that runs *your* function on fresh inputs. A red line
# names the wrong property; a plausible mistake gets a hint. Nothing depends on an unanswered
# question: later cells use the course's own code.

# %% [markdown] tags=["nav"]
# before this: [Densities, samples and divergences](../../lectures/foundations/densities.ipynb), [What you do not see: the variational autoencoder](../../lectures/vae/vae.ipynb) ·
# [lecture](../../lectures/diffusion/ddpm.ipynb) ·
# [exercise](../../exercises/diffusion/ddpm.ipynb)

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
from gdm_course.checks.diffusion import ddpm as check
from gdm_course.data import toy
from gdm_course.diffusion.schedule import cosine_schedule
from gdm_course.training import generator, seed_everything

plot.style()

# %% [markdown]
# ## 1. Many steps at once
#
# `alpha_bar` has $T + 1$ numbers, from $\bar\alpha_0 = 1$ down. After $t$ steps a row $x_0$
# of the data has become $x_t$: a Gaussian whose variance is $1-\bar\alpha_t$ in every
# dimension, around $x_0$ times the root of $\bar\alpha_t$. Return $x_t$ for the noise
# $\epsilon$ that you are given. Each row has taken its own number of steps, $t$; it counts
# all of them, so that $t = 0$ leaves the row as it was.


# %%
def noisy(x0, t, eps, alpha_bar):
    """Return every row after its t steps of noise.

    Args:
        x0: clean rows (B, D).
        t: steps taken, whole numbers 0..T (B,).
        eps: standard normal noise (B, D).
        alpha_bar: (T + 1,), alpha_bar[0] = 1.

    Returns:
        (B, D)
    """
    ### BEGIN SOLUTION
    share = alpha_bar[t][:, None]
    return share.sqrt() * x0 + (1 - share).sqrt() * eps
    ### END SOLUTION


# %%
check.noisy(noisy)

# %% [markdown]
# ## 2. The best denoiser of all
#
# Let the data be a mixture: component $k$ has weight $w_k$, middle $m_k$ and standard
# deviation $s_k$ in each of the $D$ dimensions. Then $x_t = \alpha x_0 + \sigma\epsilon$ is a
# mixture, too. Its component $k$ lies around $\alpha m_k$ with the variance
# $\alpha^2s_k^2+\sigma^2$. Return $\mathbb E[x_0\,|\,x_t]$:
#
# 1. the probability that $x_t$ comes from component $k$, by Bayes. A wide component is lower
#    in its middle than a narrow one;
# 2. given $k$, everything is Gaussian: $x_0$ is $m_k$ plus a share of the deviation
#    $x_t-\alpha m_k$, namely the covariance of $x_0$ and $x_t$ over the variance of $x_t$;
# 3. the mean of these answers, weighted by those probabilities.
#
# The check also asks far from all components, where every exponential is 0.


# %%
def denoise_mixture(x, alpha, sigma, means, std, weights):
    """Return E[x0 | x_t = x] for data from a mixture of Gaussians.

    Args:
        x: noisy points (B, D).
        alpha, sigma: numbers, x_t = alpha x0 + sigma eps.
        means: m (K, D).
        std: s (K,), 0 for a component that is a single point.
        weights: w (K,), summing to 1.

    Returns:
        (B, D)
    """
    ### BEGIN SOLUTION
    var = alpha**2 * std**2 + sigma**2  # (K,)
    away = x[:, None] - alpha * means  # (B, K, D)
    log_p = weights.log() - x.shape[1] / 2 * var.log() - away.square().sum(2) / (2 * var)
    r = log_p.softmax(1)  # (B, K)
    guess = means + (alpha * std**2 / var)[:, None] * away
    return (r[..., None] * guess).sum(1)
    ### END SOLUTION


# %%
check.denoise_mixture(denoise_mixture)

# %% [markdown]
# Where does your function send noisy points of the eight bells? Grey: noisy, blue: your
# answer.

# %%
bells, g = toy.get("eight_gaussians"), generator(0)
clean = bells.sample(300, g).float()
mixture = [t.float() for t in (bells.law.means, bells.law.sigma, bells.law.weights)]
angles = (0.15, 0.45, 0.9)
for ax, angle in zip(plot.panels(*(f"angle {a}" for a in angles)), angles):
    alpha, sigma = math.cos(angle), math.sin(angle)
    x = alpha * clean + sigma * torch.randn(300, 2, generator=g)
    plot.scatter(x, ax, bells.bounds, color=plot.GREY)
    try:
        plot.scatter(denoise_mixture(x, alpha, sigma, *mixture), ax, bells.bounds)
    except NotImplementedError:
        print("(write denoise_mixture first)")

# %% [markdown]
# ## 3. Between a clean and a noisy point
#
# Both $x_0$ and $x_t$ are known. Where was the chain at an earlier step $s < t$? The answer
# is a Gaussian: two Gaussians multiply, $q(x_s|x_0)$ and $q(x_t|x_s)$. From $s$ to $t$ the
# signal shrinks by $\sqrt{\bar\alpha_t/\bar\alpha_s}$, and noise of variance
# $1-\bar\alpha_t/\bar\alpha_s$ is added. Any number of steps may lie between $s$ and $t$, and
# $s$ may be 0: if you add precisions, multiply out, for $1-\bar\alpha_0=0$. Return the mean, and
# the variance of a coordinate.


# %%
def posterior(x0, x_t, s, t, alpha_bar):
    """Return mean and variance of q(x_s | x_t, x0).

    Args:
        x0, x_t: clean and noisy rows (B, D).
        s, t: steps, s < t, two whole numbers.
        alpha_bar: (T + 1,), alpha_bar[0] = 1.

    Returns:
        The mean (B, D), and the variance, a number ().
    """
    ### BEGIN SOLUTION
    signal, total = alpha_bar[s], alpha_bar[t]
    ratio = total / signal
    mean = (ratio.sqrt() * (1 - signal) * x_t + signal.sqrt() * (1 - ratio) * x0) / (
        1 - total
    )
    return mean, (1 - signal) * (1 - ratio) / (1 - total)
    ### END SOLUTION


# %%
check.posterior(posterior)

# %% [markdown]
# ## 4. The velocity
#
# A network was asked for $v = \alpha\epsilon - \sigma x_0$, where
# $x_t = \alpha x_0 + \sigma\epsilon$ and $\alpha^2+\sigma^2 = 1$. Solve the two equations for
# the clean $x_0$. Your answer needs no division, so that it holds where hardly any signal is
# left.


# %%
def clean_from_velocity(v, x_t, alpha, sigma):
    """Return the clean x0 that belongs to a velocity.

    Args:
        v: alpha eps - sigma x0 (B, D).
        x_t: alpha x0 + sigma eps (B, D).
        alpha, sigma: numbers, alpha^2 + sigma^2 = 1.

    Returns:
        (B, D)
    """
    ### BEGIN SOLUTION
    return alpha * x_t - sigma * v
    ### END SOLUTION


# %%
check.clean_from_velocity(clean_from_velocity)

# %% [markdown]
# ## 5. What a wrong guess costs
#
# The chain back from $t$ to $s$ uses the Gaussian of exercise 3, with a guess $\hat x_0$ in
# place of $x_0$. Both Gaussians have the same variance, and their means differ by a multiple
# of $x_0-\hat x_0$. Work out their KL divergence, in nats, one number for each row. It comes
# to half the difference of two signal-to-noise ratios $\alpha^2/\sigma^2$, times the squared
# length of $x_0-\hat x_0$: a sum over the dimensions.


# %%
def step_kl(x0, x0_hat, s, t, alpha_bar):
    """Return KL(q(x_s | x_t, x0) || q(x_s | x_t, x0_hat)) of every row, in nats.

    Args:
        x0, x0_hat: clean and guessed rows (B, D).
        s, t: steps, 0 < s < t, two whole numbers.
        alpha_bar: (T + 1,), alpha_bar[0] = 1.

    Returns:
        (B,)
    """
    ### BEGIN SOLUTION
    snr = alpha_bar / (1 - alpha_bar)
    return (snr[s] - snr[t]) / 2 * (x0 - x0_hat).square().sum(1)
    ### END SOLUTION


# %%
check.step_kl(step_kl)

# %% [markdown]
# Where on the way does a guess that is off by 0.1 cost most?

# %%
alpha_bar = cosine_schedule(20).alpha(torch.arange(21)).square()
one = torch.zeros(1, 1)
try:
    costs = [step_kl(one, one + 0.1, t - 1, t, alpha_bar).item() for t in range(2, 21)]
    for t in (2, 5, 10, 20):
        print(f"from step {t} to {t - 1}: {costs[t - 2]:.5f} nats")
except NotImplementedError:
    print("(write step_kl first)")

# %% [markdown]
# ## 6. Jumps with and without noise
#
# A step of DDIM goes from $x_t$ straight to any earlier $x_s$. The network has said which
# noise it sees, $\hat\epsilon$; that gives $\hat x_0$. The new point is
#
# $$x_s = \sqrt{\bar\alpha_s}\,\hat x_0 + \sqrt{1-\bar\alpha_s-c^2}\;\hat\epsilon
#   + c\cdot\text{noise},\qquad c^2 = \eta^2\,\frac{1-\bar\alpha_s}{1-\bar\alpha_t}
#   \Bigl(1-\frac{\bar\alpha_t}{\bar\alpha_s}\Bigr).$$
#
# Fresh noise replaces a part of the old noise. With $\eta = 0$ there is none; with
# $\eta = 1$, $c^2$ is the variance of exercise 3. $s$ and $t$ may be far apart.


# %%
def ddim_step(x, eps_hat, noise, s, t, alpha_bar, eta):
    """Return where the chain is at step s.

    Args:
        x: where it is at step t (B, D).
        eps_hat: the noise that the network sees in x (B, D).
        noise: fresh standard normal noise (B, D).
        s, t: steps, s < t, two whole numbers.
        alpha_bar: (T + 1,), alpha_bar[0] = 1.
        eta: how much fresh noise, a number 0..1.

    Returns:
        (B, D)
    """
    ### BEGIN SOLUTION
    signal, total = alpha_bar[s], alpha_bar[t]
    x0_hat = (x - (1 - total).sqrt() * eps_hat) / total.sqrt()
    c2 = eta**2 * (1 - signal) / (1 - total) * (1 - total / signal)
    kept = (1 - signal - c2).sqrt()
    return signal.sqrt() * x0_hat + kept * eps_hat + c2.sqrt() * noise
    ### END SOLUTION


# %%
check.ddim_step(ddim_step)

# %% [markdown]
# If the data are $\mathcal N(0, 0.3)$ and the network is perfect, every step multiplies $x$
# by a number. Follow the variance from 1 at the start to the end: how many steps does
# $\eta = 0$ need to arrive at 0.3?

# %%
seed_everything(0)
one, zero = torch.ones(1, 1), torch.zeros(1, 1)
for steps in (2, 5, 10, 50):
    alpha_bar = cosine_schedule(steps).alpha(torch.arange(steps + 1)).square()
    var = 1.0
    for t in range(steps, 0, -1):
        a = alpha_bar[t]
        gain = (1 - a).sqrt() / (0.3 * a + 1 - a)  # eps_hat = gain * x
        try:
            var *= ddim_step(one, gain * one, zero, t - 1, t, alpha_bar, 0.0).item() ** 2
        except NotImplementedError:
            print("(write ddim_step first)")
            break
    else:
        print(f"{steps:3d} steps: variance {var:.4f}, the truth 0.3")

# %% [markdown]
# ## Further, without a check
#
# 1. **Flat prior.** Show that $\mathbb E[x_0|x_t]\to x_t/\alpha$ if the data are spread
#    evenly over a wide range. Which of your formulas says so?
# 2. **Invert.** A step with $\eta = 0$ can be run forwards: from data to noise. Which two
#    points have to be exchanged, and what is only approximately right?
# 3. **Variance beta.** DDPM's authors also tried $1-\bar\alpha_t/\bar\alpha_s$ as the variance
#    of a step back. For which data is it the right one?
