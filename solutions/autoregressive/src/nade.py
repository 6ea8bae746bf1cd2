# %% [markdown]
# # Exercises: one dimension at a time
#
# Seven short pieces of code, from the density of five bits to the masks of MADE. Under each
# stands a check that runs *your* function on fresh inputs and compares. A red line names
# the wrong property; a plausible mistake gets a hint. Nothing depends on an unanswered
# question: later cells use the course's own code.

# %% [markdown] tags=["nav"]
# before this: [Densities, samples and divergences](../../lectures/foundations/densities.ipynb) ·
# [lecture](../../lectures/autoregressive/nade.ipynb) ·
# [exercise](../../exercises/autoregressive/nade.ipynb)

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
from torch import nn

from gdm_course import plotting as plot
from gdm_course.autoregressive import made, nade
from gdm_course.checks.autoregressive import nade as check
from gdm_course.data import images
from gdm_course.training import budget, forever, seed_everything, train

plot.style()

# %% [markdown]
# ## 1. From conditionals to a density
#
# A model told you, for every image and every pixel, the probability $p_d = p(x_d = 1\mid
# x_{<d})$ that the pixel is white, given those before it. What is the log-probability of
# the whole image?
#
# $$\log p(x) = \sum_{d=1}^{D}\Bigl[x_d\log p_d + (1-x_d)\log(1-p_d)\Bigr].$$
#
# Derive it from the chain rule in your head: which factor does a *black* pixel contribute?


# %%
def log_prob_from_conditionals(p, x):
    """Return log p(x) in nats from the conditionals.

    Args:
        p: p(x_d = 1 | x_<d), strictly between 0 and 1, (B, D).
        x: the images, 0 or 1, (B, D).

    Returns:
        (B,)
    """
    ### BEGIN SOLUTION
    return (x * p.log() + (1 - x) * (1 - p).log()).sum(-1)
    ### END SOLUTION


# %%
check.log_prob_from_conditionals(log_prob_from_conditionals)

# %% [markdown]
# An independent oracle: if every $p_d = \tfrac12$, every image of $D$ bits has probability
# $2^{-D}$, so $\log p = -D\log 2$ exactly. Five bits:

# %%
x = torch.tensor(list(itertools.product([0.0, 1.0], repeat=5)))  # all 32 images of 5 bits
print(f"-5 log 2 = {-5 * math.log(2):.4f} nats")
try:
    log_p = log_prob_from_conditionals(torch.full((32, 5), 0.5), x)
    print(f"yours: from {log_p.min():.4f} to {log_p.max():.4f} over all 32 images")
except NotImplementedError:
    print("(write log_prob_from_conditionals first)")

# %% [markdown]
# ## 2. The oldest member of the family
#
# Before NADE there was one logistic regression per pixel, the *fully visible sigmoid belief
# network* (Frey, 1998):
#
# $$p(x_d = 1\mid x_{<d}) = \sigma\Bigl(b_d + \sum_{k<d} W_{dk}\,x_k\Bigr).$$
#
# It is the whole idea in ten lines. Write it as a class whose weight is a full $D\times D$
# matrix called `W` and a bias `b`, both `nn.Parameter`, and use only what is *strictly*
# below the diagonal.


# %%
class FVSBN(nn.Module):
    """Fully visible sigmoid belief network for bits (B, D), with W (D, D) and b (D,)."""

    def __init__(self, D):
        super().__init__()
        ### BEGIN SOLUTION
        self.W = nn.Parameter(torch.zeros(D, D))
        self.b = nn.Parameter(torch.zeros(D))
        ### END SOLUTION

    def log_prob(self, x):
        """Return log p(x) in nats, exact: (B, D) -> (B,)."""
        ### BEGIN SOLUTION
        logits = x @ self.W.tril(-1).T + self.b
        return torch.distributions.Bernoulli(logits=logits).log_prob(x).sum(-1)
        ### END SOLUTION


# %%
check.FVSBN(FVSBN)

# %% [markdown]
# What can it not do? Its log-odds are linear in the past. Give it three bits of which the
# third is the *exclusive or* of the first two, and compare with NADE. A perfect model pays
# $2\log 2 = 1.386$ nats: two fair coins, and a third bit that is no surprise.

# %%
pairs = torch.tensor(list(itertools.product([0.0, 1.0], repeat=2)))
xor = torch.cat([pairs, (pairs.sum(1, keepdim=True) == 1).float()], dim=1)  # (4, 3)


class Fitted(nn.Module):
    """Gives a model that only has `log_prob` a loss."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def loss(self, x):
        return -self.model.log_prob(x).mean()


seed_everything(0)
models = {"NADE, 16 units": nade.NADE(3, hidden=16)}
try:
    models["your FVSBN"] = FVSBN(3)
    models["your FVSBN"].log_prob(xor)
except NotImplementedError:
    models.pop("your FVSBN", None)
    print("(write FVSBN first)")
for name, model in models.items():
    for _ in train(Fitted(model), itertools.repeat(xor), budget(1000, 20), lr=0.05):
        pass
    print(f"{name:16s} {-model.log_prob(xor).mean():.3f} nats")

# %% [markdown]
# The belief net stays at $3\log 2 = 2.079$: for a linear guesser the third bit is a fair
# coin too.
#
# ## 3. NADE's activations
#
# All $D$ guessers of NADE hear the past through the same rows $W_k$:
#
# $$a_d = c + \sum_{k<d} x_k W_k.$$
#
# Can you return all of them at once, without a Python loop over $d$? (The check takes a
# loop, too.) A hint on shapes: $x_k W_k$ for all $k$ is a tensor $(B, D, H)$, and
# `torch.cumsum` sums it along $k$. But a cumulative sum *includes* its own position...


# %%
def nade_activations(x, W, c):
    """Return a_d = c + sum_{k<d} x_k W_k for all d.

    Args:
        x: bits (B, D).
        W: (D, H).
        c: (H,).

    Returns:
        (B, D, H)
    """
    ### BEGIN SOLUTION
    terms = x[:, :, None] * W  # (B, D, H)
    before = terms[:, :-1].cumsum(dim=1)  # for d > 1: the sum over k < d
    return c + torch.cat([torch.zeros_like(terms[:, :1]), before], dim=1)
    ### END SOLUTION


# %%
check.nade_activations(nade_activations)

# %% [markdown]
# Two ways to leave $x_d$ out: subtract its own term from the cumulative sum, or shift the
# sum by one place. Both pass the check. In floating point only the shift is exact: after
# $(a + b) - b$ a rounding error of $b$ remains, and a model that must not look ahead should
# not look ahead even by $10^{-7}$.
#
# ## 4. Ancestral sampling
#
# Sampling uses the recurrence $a_{d+1} = a_d + x_d W_d$. Draw $n$ points from a NADE whose
# weights you are given, each one anew and independently of the others:
#
# $$h_d=\sigma(a_d),\qquad p_d = \sigma(b_d + V_d\cdot h_d),
#   \qquad x_d\sim\mathrm{Bernoulli}(p_d).$$
#
# The check draws 10,000 points from each of three models of three bits and counts all eight
# states: each must come as often as the density says, within six standard errors. From a
# model of twelve bits it draws 1,000 and counts how many are equal: copies would show.


# %%
def sample_nade(W, V, b, c, n):
    """Draw n points from a NADE.

    Args:
        W, V: (D, H).
        b: (D,).
        c: (H,).
        n: how many.

    Returns:
        Bits (n, D).
    """
    ### BEGIN SOLUTION
    a, x = c.expand(n, -1), []
    for W_d, V_d, b_d in zip(W, V, b):
        p = torch.sigmoid(torch.sigmoid(a) @ V_d + b_d)  # (n,)
        x.append(torch.bernoulli(p))
        a = a + x[-1][:, None] * W_d
    return torch.stack(x, dim=1)
    ### END SOLUTION


# %%
check.sample_nade(sample_nade)

# %% [markdown]
# With it, look into a trained model: 60 digits from the course's NADE after a few hundred
# steps, drawn by *your* loop (by the course's, until yours exists).

# %%
digits = images.load("digits")
x_train = images.threshold(digits.x_train, digits.levels).flatten(1).float()
seed_everything(0)
model = nade.NADE(64, hidden=200)
for _ in train(model, forever(x_train, 64), budget(1000, 20), lr=2e-3):
    pass
with torch.no_grad():
    try:
        x = sample_nade(model.W, model.V, model.b, model.c, 60)
    except NotImplementedError:
        x = model.sample(60)
_ = plot.image_grid(x.view(-1, 8, 8), columns=20)

# %% [markdown]
# ## 5. A mixture of Gaussians
#
# RNADE's conditional density is $\sum_j \pi_j\,\mathcal N(x;\mu_j,\sigma_j^2)$, and the
# network delivers unnormalised `logits` and `log_sigma`. Compute its logarithm **without
# leaving the log domain** (`torch.logsumexp`): for a point far from every mean all
# densities underflow to 0, and so does a small weight, while their logarithms are ordinary
# numbers. Write the Gaussian out yourself:
#
# $$\log\mathcal N(x;\mu,\sigma^2)
#   = -\tfrac12\Bigl(\tfrac{x-\mu}{\sigma}\Bigr)^2 - \log\sigma - \tfrac12\log 2\pi.$$


# %%
def mixture_log_prob(x, logits, mu, log_sigma):
    """Return the log density of a mixture of K Gaussians.

    Args:
        x: (B, D).
        logits: log weights up to a constant, (B, D, K).
        mu, log_sigma: means and log standard deviations, (B, D, K).

    Returns:
        (B, D), in nats.
    """
    ### BEGIN SOLUTION
    z = (x[..., None] - mu) * torch.exp(-log_sigma)
    log_normal = -0.5 * z**2 - log_sigma - 0.5 * math.log(2 * math.pi)
    return torch.logsumexp(logits.log_softmax(-1) + log_normal, dim=-1)
    ### END SOLUTION


# %%
check.mixture_log_prob(mixture_log_prob)

# %% [markdown]
# ## 6. The masks of MADE
#
# One hidden layer. The degree of an input is its place in the order, a hidden unit's degree
# says how far it may look. Return the two masks, in the shape of the weights of
# `nn.Linear`, which is (out, in): a 1 where a weight may stay.
#
# $$\text{hidden: } m_i \ge m_j,\qquad \text{output: } m_d > m_j.$$


# %%
def made_masks(inputs, hidden):
    """Return the masks of a MADE with one hidden layer.

    Args:
        inputs: degrees of the inputs and outputs, a permutation of 1..D, (D,).
        hidden: degrees of the hidden units, (H,).

    Returns:
        Masks of 0. and 1.: (H, D) into the hidden layer and (D, H) into the output.
    """
    ### BEGIN SOLUTION
    into_hidden = hidden[:, None] >= inputs[None, :]
    into_output = inputs[:, None] > hidden[None, :]
    return into_hidden.float(), into_output.float()
    ### END SOLUTION


# %%
check.made_masks(made_masks)

# %% [markdown]
# Look at them. In a random order the product of the masks does not *look* triangular;
# sorted by degree, it is.

# %%
inputs, hidden = made.degrees(torch.tensor([3, 0, 4, 1, 5, 2]), (12,))
try:
    into_hidden, into_output = made_masks(inputs, hidden)
except NotImplementedError:
    into_hidden, into_output = (m.float() for m in made.masks([inputs, hidden]))
chains = into_output @ into_hidden
rank = inputs.argsort()
pictures = {"into hidden": into_hidden, "into output": into_output, "chains": chains}
pictures["chains, sorted by degree"] = chains[rank][:, rank]
for ax, (name, picture) in zip(plot.panels(*pictures, width=2.4), pictures.items()):
    ax.imshow(picture, cmap="Blues")
    ax.set(title=name, xlabel="from unit", ylabel="to unit")
    ax.set_xticks(range(0, picture.shape[1], 2))

# %% [markdown]
# ## 7. An ensemble of orders
#
# Trained under $M$ orders, MADE gives $M$ densities of the same image. Their average is a
# density again:
#
# $$\log p(x) = \log\frac1M\sum_{o=1}^{M} p_o(x).$$
#
# You are given the logarithms. The log-probability of an MNIST digit is about $-90$, that
# of a colour image below $-5{,}000$, and `exp` of that is 0. Stay in the log domain.


# %%
def ensemble_log_prob(log_p):
    """Return the log of the average density.

    Args:
        log_p: log p_o(x) in nats, one row per order, (M, B).

    Returns:
        (B,)
    """
    ### BEGIN SOLUTION
    return torch.logsumexp(log_p, dim=0) - math.log(len(log_p))
    ### END SOLUTION


# %%
check.ensemble_log_prob(ensemble_log_prob)

# %% [markdown]
# By Jensen's inequality the ensemble is never worse than its members are *on average*, and
# strictly better wherever they disagree. Measured on a MADE with eight orders:

# %%
x_test = images.threshold(digits.x_test, digits.levels).flatten(1).float()
seed_everything(0)
model = made.MADE(64, hidden=(500,), orders=8)
for _ in train(model, forever(x_train, 64), budget(1000, 20), lr=2e-3):
    pass
with torch.no_grad():
    model.eval()
    each = torch.stack(
        [model.conditionals(x_test, o).log_prob(x_test).sum(-1) for o in range(8)]
    )
    print(f"one order, on average: {-each.mean():.2f} nats per test digit")
    print(f"ensemble of eight:     {-model.log_prob(x_test).mean():.2f}")

# %% [markdown]
# ## Further, without a check
#
# 1. **Mixture or softmax, on real pixels.** `digits.x_train` has 17 grey levels. Train a
#    `SoftmaxNADE(64, 17)` on them, and an `RNADE(64)` on $x+u$ with $u\sim U[0,1)^{64}$
#    (*dequantised*, scaled to about $[-2, 2]$; mind the log of the scale in the density).
#    By Jensen, $\mathbb E_u\log p(x+u)\le\log P(x)$, so the two compare in nats per image.
#    Choose the step by the validation split: with so few digits both overfit early. Which is
#    ahead?
# 2. **In-painting.** The lecture filled in the left half from the right half. Give every second
#    pixel, as on a chessboard, or only the edge of the picture. Which is filled in best, in nats
#    of the true pixels?
# 3. **Compression.** An arithmetic coder spends $-\log_2 p(x)$ bits on an image, within two
#    bits. How many bytes for the test digits, and what does `zlib` need?
