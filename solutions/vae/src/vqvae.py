# %% [markdown]
# # Exercises: a dictionary of pictures
#
# Six short pieces of code: find a code, pass a gradient, move a codebook, round without
# one, and count the bits of it all. Under each stands a check that runs *your* function on
# fresh inputs and compares. A red line names the wrong property; a plausible mistake gets
# a hint. Nothing depends on an unanswered question: later cells use the course's own code.

# %% [markdown] tags=["nav"]
# before this: [What you do not see: the variational autoencoder](../../lectures/vae/vae.ipynb), [Images by convolution: PixelCNN](../../lectures/autoregressive/pixelcnn.ipynb), [One token at a time: GPT](../../lectures/autoregressive/gpt.ipynb) ·
# [lecture](../../lectures/vae/vqvae.ipynb) ·
# [exercise](../../exercises/vae/vqvae.ipynb)

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
from gdm_course.autoregressive.gpt import GPT
from gdm_course.checks.vae import vqvae as check
from gdm_course.data import images, toy
from gdm_course.training import budget, forever, seed_everything, train
from gdm_course.vae import fsq, quantise
from gdm_course.vae.coded import Arranged, CodedModel
from gdm_course.vae.decoders import LogisticPixels
from gdm_course.vae.vqvae import VQVAE

plot.style()

# %% [markdown]
# ## 1. The nearest code
#
# Given vectors $z_n$ and codes $e_k$, return for every vector
# $\arg\min_k\lVert z_n-e_k\rVert^2$. Can you do it without a tensor of shape $(N,K,D)$?
# (The check cannot see it.) Expand the square and use one product of matrices. Which of the
# three terms may you leave out?


# %%
def nearest_code(z, codebook):
    """Return the code of the nearest vector.

    Args:
        z: vectors (N, D).
        codebook: (K, D).

    Returns:
        Codes 0..K-1, (N,).
    """
    ### BEGIN SOLUTION
    half = codebook.square().sum(1) / 2
    return (half - z @ codebook.T).argmin(1)  # |z|^2 is the same for every code
    ### END SOLUTION


# %%
check.nearest_code(nearest_code)

# %% [markdown]
# How much memory does that save? For the grids of 32 pictures with 32 x 32 vectors of 64
# numbers, and 512 codes:

# %%
N, K, D = 32 * 32 * 32, 512, 64
print(f"all differences (N, K, D): {4e-9 * N * K * D:.1f} GB")
print(f"one product (N, K):        {4e-9 * N * K:.3f} GB")

# %% [markdown]
# ## 2. Straight through
#
# Return something whose *value* is $q$ and whose derivative in $z$ is that of $z$: the
# identity. Its derivative in $q$ is to be 0: codes learn in another way. The check asks for
# all three. You need `detach` and nothing else.


# %%
def straight_through(z, q):
    """Return q, but hand the gradient on to z.

    Args:
        z, q: of the same shape.

    Returns:
        The same shape.
    """
    ### BEGIN SOLUTION
    return q.detach() + (z - z.detach())
    ### END SOLUTION


# %%
check.straight_through(straight_through)

# %% [markdown]
# Many write it as `z + (q - z).detach()`. The check accepts that too, but in floating point
# its value is not quite $q$, and a decoder may see a trace of what it should not:

# %%
seed_everything(0)
z, q = 100 * torch.randn(1000), torch.randn(1000)
usual = z + (q - z).detach()
print(f"{(usual != q).float().mean():.0%} of the values are off, by up to", end=" ")
print(f"{(usual - q).abs().max():.1e}")
assert quantise.straight_through(z, q).equal(q)

# %% [markdown]
# ## 3. The loss of the paper
#
# Van den Oord and others first trained the codebook by gradient, too, with two terms that
# have the same value and different gradients (sg is stop gradient, `detach`):
#
# $$\sum_n \lVert \mathrm{sg}[z_n]-e_n\rVert^2
#   + \beta\sum_n \lVert z_n-\mathrm{sg}[e_n]\rVert^2 .$$
#
# The first moves the codes towards the vectors, the second is the commitment. Here $e_n$ is
# the code that $z_n$ has been given. The check looks at the value and at the derivatives in
# $z$ and in $e$.


# %%
def vq_loss(z, e, beta):
    """Return the codebook loss plus beta times the commitment, summed over everything.

    Args:
        z: vectors (N, D).
        e: the code of each (N, D).
        beta: a number.

    Returns:
        A scalar.
    """
    ### BEGIN SOLUTION
    codebook = (z.detach() - e).square().sum()
    commitment = (z - e.detach()).square().sum()
    return codebook + beta * commitment
    ### END SOLUTION


# %%
check.vq_loss(vq_loss)

# %% [markdown]
# A step of gradient descent with rate $\eta$ on the first term moves a code by
# $2\eta\sum_{z\in S_k}(z-e_k)$. Compare with (3) of the lecture: the running means take
# the same direction, with the rate $(1-\gamma)/N_k$ that suits each code, and need no
# optimiser.
#
# ## 4. A step of the codebook
#
# Write that step. Let code $k$ win $n_k$ vectors of the batch, with sum $s_k$:
#
# $$N'_k = \gamma N_k + (1-\gamma)\,n_k, \qquad
#   e'_k = \frac{\gamma N_k e_k + (1-\gamma)\,s_k}{N'_k}.$$
#
# `torch.bincount` counts, and `index_add` sums rows by code. Change nothing in place. A code
# that wins nothing has to stay where it is: does yours?


# %%
def ema_step(codebook, count, z, codes, decay):
    """Return the codebook and the counts after one batch.

    Args:
        codebook: (K, D).
        count: running counts N (K,), above 0.
        z, codes: the batch (N, D) and the code of each vector (N,).
        decay: gamma.

    Returns:
        The new codebook (K, D) and the new counts (K,).
    """
    ### BEGIN SOLUTION
    n = codes.bincount(minlength=len(codebook)).to(z.dtype)
    s = torch.zeros_like(codebook).index_add(0, codes, z)
    new = decay * count + (1 - decay) * n
    return (decay * count[:, None] * codebook + (1 - decay) * s) / new[:, None], new
    ### END SOLUTION


# %%
check.ema_step(ema_step)

# %% [markdown]
# Let *your* step (the course's, until yours exists) place forty codes on a density of the
# plane, all of them starting close together.

# %%
face = toy.get("face")
seed_everything(0)
book, count = 0.1 * torch.randn(40, 2), torch.ones(40)
for _ in range(budget(200, 20)):
    z = face.sample(500)
    codes = quantise.nearest(z, book)
    try:
        book, count = ema_step(book, count, z, codes, 0.9)
    except NotImplementedError:
        quantise.follow(book, count, z, codes, 0.9)
    quantise.revive(book, count, z, 0.02)
(ax,) = plot.panels("40 codes", width=3.4)
plot.density(face.log_prob, face.bounds, ax)
_ = ax.scatter(*book.T, s=14, color=plot.ORANGE)

# %% [markdown]
# ## 5. Rounding instead of looking up
#
# Finite scalar quantisation squashes each number, $u_d = L_d\,\sigma(2z_d)-\frac12$, and
# rounds it to a digit $0,\dots,L_d-1$, whatever $z_d$ is. The digits are one number in mixed
# radix, the first digit the smallest place:
#
# $$\text{code} = \text{digit}_1 + L_1\,\text{digit}_2 + L_1L_2\,\text{digit}_3+\dots$$


# %%
def fsq_code(z, levels):
    """Return the codes of finite scalar quantisation.

    Args:
        z: (N, D).
        levels: number of values of each digit (D,), whole numbers.

    Returns:
        Codes 0..K-1 with K the product of the levels, (N,).
    """
    ### BEGIN SOLUTION
    u = levels * torch.sigmoid(2 * z) - 0.5
    digits = torch.minimum(u.round().clamp_min(0), levels - 1).long()
    place = torch.cat([levels.new_ones(1), levels[:-1].cumprod(0)])
    return (digits * place).sum(-1)
    ### END SOLUTION


# %%
check.fsq_code(fsq_code)

# %% [markdown]
# Every code is reached, however unlikely. Standard normal $z$ and $3\times5\times4$ levels:
# which codes are frequent? The outer digits cover all of the tails.

# %%
seed_everything(0)
z, levels = torch.randn(30_000, 3), torch.tensor([3, 5, 4])
try:
    codes = fsq_code(z, levels)
except NotImplementedError:
    codes = fsq.FiniteScalarQuantiser(levels.tolist())(z)[1]
usage = codes.bincount(minlength=60)
(ax,) = plot.panels("codes of a standard normal", width=6, height=2.4)
ax.bar(range(60), usage / usage.sum(), color=plot.BLUE)
ax.set(xlabel="code", ylabel="share")
assert (usage > 0).all()
print(f"perplexity {quantise.perplexity(codes, 60):.1f} of 60")

# %% [markdown]
# ## 6. The bill
#
# A picture told in codes costs the codes and whatever they leave open:
#
# $$-\log p(x) \le -\sum_{chw}\log p(x_{chw}\mid c) - \sum_{ij}\log p(c_{ij}\mid c_{<ij}).$$
#
# You are given both kinds of terms in nats. Return the bound in **bits per dimension of the
# picture**.


# %%
def bound_bits(log_p, log_prior):
    """Return the upper bound of -log p(x) in bits per dimension.

    Args:
        log_p: log p(x_d | c) of every number of a picture, in nats, (B, C, H, W).
        log_prior: log p(c_ij | codes before) of every code, in nats, (B, h, w).

    Returns:
        (B,)
    """
    ### BEGIN SOLUTION
    nats = -log_p.flatten(1).sum(1) - log_prior.flatten(1).sum(1)
    return nats / (log_p[0].numel() * math.log(2))
    ### END SOLUTION


# %%
check.bound_bits(bound_bits)

# %% [markdown]
# What is the best number of codes? More codes cost more and leave less open. Three
# autoencoders of the digits, each with a GPT for its codes, both trained at once:

# %%
digits = images.load("digits")
steps = budget(300, 10)
print("    K  distortion   rate  bits/dim")
for K in (4, 16, 64):
    seed_everything(0)
    quantiser, pixels = quantise.VectorQuantiser(K, 8), LogisticPixels(digits.levels)
    options = {"features": 24, "halvings": 1, "observation": pixels}
    vqvae = VQVAE((1, 8, 8), quantiser=quantiser, **options)
    gpt = GPT(K, 16, layers=1, heads=2, width=32)
    model = CodedModel(vqvae, Arranged(gpt, (16,), (4, 4)))
    rate = lambda step: 4e-3 * (1 - step / steps)
    for _ in train(model, forever(digits.x_train, 64), steps, rate):
        pass
    with torch.no_grad():
        log_p, log_prior = (term.mean() for term in model.eval().terms(digits.x_test))
    bits = -(log_p + log_prior) / (64 * math.log(2))
    print(f"{K:5d} {-log_p:11.1f} {-log_prior:6.1f} {bits:9.3f}")

# %% [markdown]
# Read it as a bill: with more words the distortion falls and the rate grows, and after so
# short a training the rate grows faster. Train longer, and see which $K$ is best then.
#
# ## Further, without a check
#
# 1. **A tighter bound.** $\log p(x)\ge\log\sum_{c\in S}p(c)\,p(x\mid c)$ for *any* set $S$
#    of code grids. Take $c(x)$ and all grids that differ from it in one place. How many
#    nats do you win on the digits, and how does that compare with the gap in the lecture?
# 2. **Rotation.** Straight-through copies the gradient as it is. Fifty and others (2024,
#    arXiv:2410.06424) turn it by the rotation that takes $z$ to $q$. Write it, and compare the distortion.
# 3. **Residual quantisation.** Quantise $z$, then what is left, $z-q$, with a second
#    codebook, and so on. Four codebooks of 16 codes name $16^4$ points: how does their
#    error compare with Zador's law?
