# %% [markdown]
# # Exercises: figures that may be compared
#
# Six short pieces of code that a fair table needs: bits from a density, a paired difference,
# what a bound proves, a count of evaluations, the front of quality and cost, and how much a
# bit is. Under each stands a check that runs *your* function on fresh inputs. A red line
# names the wrong property; a plausible mistake gets a hint. Nothing depends on an
# unanswered question: later cells use the course's own code.

# %% [markdown] tags=["nav"]
# before this: [Images by convolution: PixelCNN](../../lectures/autoregressive/pixelcnn.ipynb), [Half of it stays: coupling flows](../../lectures/flows/realnvp.ipynb), [What you do not see: the variational autoencoder](../../lectures/vae/vae.ipynb), [Rolling and kicked: Langevin and deep energies](../../lectures/energy/langevin.ipynb), [How far is the earth: Wasserstein critics and pictures](../../lectures/gan/wgan.ipynb), [A thousand small steps: denoising diffusion](../../lectures/diffusion/ddpm.ipynb), [Who is fooled: likelihoods and samples on trial](../../lectures/challenges/evaluation.ipynb) ·
# [lecture](../../lectures/challenges/six_families.ipynb) ·
# [exercise](../../exercises/challenges/six_families.ipynb)

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

from gdm_course import plotting as plot
from gdm_course.checks.challenges import six_families as check
from gdm_course.training import seed_everything

plot.style()

# %% [markdown]
# ## 1. From a density to bits
#
# Codes $0..L-1$ got noise $u$, uniform in $[0, 1)$, and were rescaled to the range from
# `low` to `high`: the first code's cell begins at `low`, the last one's ends at `high`. A
# model says $\log p$ of such a point, in nats per example of $D$ numbers. The probability of
# a code is about the density times the volume of its cell, a cube of $D$ sides. Return the
# negative $\log_2$ of that probability per dimension.


# %%
def bits_of_density(log_p, D, levels, low, high):
    """Return bits per dimension from the density of rescaled codes with noise.

    Args:
        log_p: log density in nats (B,).
        D: dimensions of an example.
        levels: L, how many values a code has.
        low, high: the range that all cells fill together.

    Returns:
        (B,)
    """
    ### BEGIN SOLUTION
    width = (high - low) / levels
    return -(log_p + D * math.log(width)) / (D * math.log(2))
    ### END SOLUTION


# %%
check.bits_of_density(bits_of_density)

# %% [markdown]
# One Gaussian of codes from 0 to 16, told in three scales. Its density changes, its bits per
# dimension must not.

# %%
seed_everything(0)
code = torch.tensor([6, 8, 11])
for low, high in ((0.0, 17.0), (0.0, 1.0), (-1.0, 1.0)):
    scale = (high - low) / 17
    law = Normal(low + 8.5 * scale, 3 * scale)
    log_p = law.log_prob(low + (code + 0.5) * scale)
    try:
        bits = bits_of_density(log_p, 1, 17, low, high).mean()
        print(
            f"{low:4.0f} to {high:3.0f}: density {log_p.mean():6.2f} nats, {bits:.3f} bits"
        )
    except NotImplementedError:
        print("(write bits_of_density first)")

# %% [markdown]
# ## 2. The same examples
#
# Two models were asked for $-\log P$ of the same $n$ test examples. Return the mean of
# $a - b$ and the standard error of that mean: the root of the variance of the *differences*,
# taken with $n - 1$, over $n$. What makes an example hard for both cancels.


# %%
def paired_difference(a, b):
    """Return the mean difference of two models on the same examples, and its error.

    Args:
        a, b: -log P of every example (n,).

    Returns:
        The mean of a - b, (), and its standard error, ().
    """
    ### BEGIN SOLUTION
    gap = a - b
    return gap.mean(), gap.std() / math.sqrt(len(gap))
    ### END SOLUTION


# %%
check.paired_difference(paired_difference)

# %% [markdown]
# Some examples are hard for everybody. How many errors is the gap, paired and unpaired?

# %%
seed_everything(0)
hard = 100 + 15 * torch.randn(256)
a, b = hard + torch.randn(256), hard + 0.5 + torch.randn(256)
try:
    gap, error = paired_difference(a, b)
    alone = ((a.var() + b.var()) / 256).sqrt()
    print(
        f"{gap:.2f} nats: {gap / error:.1f} paired errors, {gap / alone:.1f} unpaired ones"
    )
except NotImplementedError:
    print("(write paired_difference first)")

# %% [markdown]
# ## 3. What is proven
#
# Of two models $a$ and $b$ we have figures for $-\log P$; each is exact, or an *upper bound*
# of the exact value. `gap` is the mean of figure $a$ minus figure $b$, `error` its standard
# error. Return 1 where $a$ is proven to be the better one, $-1$ where $b$ is, and 0 where
# nothing is proven. A gap of up to two errors proves nothing; and ask yourself whose true
# value may lie below his figure.


# %%
def proven(gap, error, a_exact, b_exact):
    """Return who is proven to be better.

    Args:
        gap: mean of a - b (N,), of N comparisons.
        error: its standard error (N,).
        a_exact, b_exact: True where the figure is exact, False where it is an upper bound
            of -log P, (N,).

    Returns:
        (N,): 1 for a, -1 for b, 0 for nobody.
    """
    ### BEGIN SOLUTION
    a_wins = b_exact & (gap < -2 * error)  # the loser's figure may not fall any more
    b_wins = a_exact & (gap > 2 * error)
    return a_wins.long() - b_wins.long()
    ### END SOLUTION


# %%
check.proven(proven)

# %% [markdown]
# Four pairs of figures, made up in the way of papers' tables, in nats; take 0.1 for the error
# of each gap. What may be concluded?

# %%
pairs = {
    "VAE bound 86.8, PixelCNN exact 87.7": (-0.9, False, True),
    "VAE bound 88.6, PixelCNN exact 87.7": (0.9, False, True),
    "VAE bound 86.8, flow bound 88.0": (-1.2, False, False),
    "MADE exact 88.0, PixelCNN exact 87.7": (0.3, True, True),
}
for name, (gap, a, b) in pairs.items():
    try:
        says = proven(*(torch.tensor([v]) for v in (gap, 0.1, a, b))).item()
        print(f"{name:38}", {1: "the first", -1: "the second", 0: "nothing"}[says])
    except NotImplementedError:
        print("(write proven first)")

# %% [markdown]
# ## 4. What a call has cost
#
# A log was written while a model looked at $B$ examples: for every call, which of its $K$
# networks was called, and with how many rows. Return for each network the evaluations per
# example (a call with many rows is many evaluations; $B$ need not divide them) and the number
# of its calls. A network that was never called has 0 of both.


# %%
def evaluations(network, rows, B, K):
    """Return what each network was asked for.

    Args:
        network: of every call, 0..K-1, (calls,) int64.
        rows: of every call (calls,) int64.
        B: number of examples.
        K: number of networks.

    Returns:
        Evaluations per example (K,), and calls (K,).
    """
    ### BEGIN SOLUTION
    each = torch.bincount(network, weights=rows.double(), minlength=K) / B
    return each, torch.bincount(network, minlength=K)
    ### END SOLUTION


# %%
check.evaluations(evaluations)

# %% [markdown]
# A VAE's bound of 64 draws for 100 examples, decoded 10 draws at a time, and a PixelCNN that
# draws 100 pictures of 64 pixels. Both have asked a network 64 times per example. The VAE's
# draws could have gone into one call; the PixelCNN's pixels wait for each other.

# %%
logs = {
    "VAE": ([0] + [1] * 7, [100] + [1000] * 6 + [400]),
    "PixelCNN": ([0] * 64, [100] * 64),
}
for name, (network, rows) in logs.items():
    try:
        each, calls = evaluations(torch.tensor(network), torch.tensor(rows), 100, 2)
        print(f"{name:10} evaluations {[*each]}, calls {[*calls]}")
    except NotImplementedError:
        print("(write evaluations first)")

# %% [markdown]
# ## 5. Whom nobody beats
#
# Every model has a distance from the data and a cost in milliseconds, both lower is better.
# One model **beats** another if it is as good or better in both figures and better in at
# least one. Return True for every model that nobody beats. Two equal models do not beat each
# other.


# %%
def pareto_front(distance, cost):
    """Say for each model whether nobody beats it.

    Args:
        distance: (N,).
        cost: (N,).

    Returns:
        (N,) of True and False.
    """
    ### BEGIN SOLUTION
    no_worse = (distance[:, None] <= distance) & (cost[:, None] <= cost)  # [i, j]: i than j
    better = (distance[:, None] < distance) | (cost[:, None] < cost)
    return ~(no_worse & better).any(0)
    ### END SOLUTION


# %%
check.pareto_front(pareto_front)

# %% [markdown]
# Thirty models drawn at random: how many are worth a second look?

# %%
seed_everything(0)
distance, cost = torch.rand(2, 30)
try:
    front = pareto_front(distance, cost)
    (ax,) = plot.panels(f"{int(front.sum())} of 30 are beaten by nobody", width=4.0)
    ax.scatter(distance, cost, color=plot.GREY, s=14)
    ax.scatter(distance[front], cost[front], color=plot.ORANGE, s=24)
    _ = ax.set(xlabel="distance", ylabel="cost")
except NotImplementedError:
    print("(write pareto_front first)")

# %% [markdown]
# ## 6. How much a bit is
#
# Models $a$ and $b$ have `bits_a` and `bits_b` bits per dimension on pictures of $D$
# numbers. How many times likelier is a typical picture under $a$ than under $b$? Return the
# $\log_{10}$ of that ratio (the ratio itself has no place in a float for large pictures),
# positive if $a$ is better, and the perplexity of $a$ per dimension, $2^{\text{bits}}$: the
# number of equally likely values that would be as hard to guess.


# %%
def times_likelier(bits_a, bits_b, D):
    """Return the log10 of the ratio of likelihoods, and the perplexity of a.

    Args:
        bits_a, bits_b: bits per dimension (N,).
        D: dimensions of a picture.

    Returns:
        log10 ratio (N,), and perplexity per dimension (N,).
    """
    ### BEGIN SOLUTION
    return D * (bits_b - bits_a) * math.log10(2), 2**bits_a
    ### END SOLUTION


# %%
check.times_likelier(times_likelier)

# %% [markdown]
# A hundredth of a bit per dimension looks like nothing. On a picture of CIFAR-10?

# %%
try:
    for name, D in (("8 x 8 digits", 64), ("MNIST", 784), ("CIFAR-10", 3072)):
        tens, perplexity = times_likelier(torch.tensor([2.00]), torch.tensor([2.01]), D)
        print(f"{name:14} 10^{tens.item():.1f} times likelier")
    print(f"2 bits are a choice among {perplexity.item():.0f} values")
except NotImplementedError:
    print("(write times_likelier first)")

# %% [markdown]
# ## Further, without a check
#
# 1. **Another budget.** Run the contest of the lecture with 2 and with 20 seconds. Which
#    orderings change? Say for each whether the errors allow the claim.
# 2. **Your contestant.** Add a seventh model, such as a VAE with a flow as its prior: one
#    function like those in `gdm_course/challenges/six.py`, and nothing else.
# 3. **A second data set.** Which rows of the decision guide would you have to look at again
#    if there were a hundred times as many digits?
