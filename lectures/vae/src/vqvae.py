# %% [markdown]
# # A dictionary of pictures: VQ-VAE and finite scalar quantisation
#
# A picture can be told in a few words, if both sides own the same dictionary. An encoder
# picks the words, a codebook says what they mean, a decoder paints them, and any of the
# autoregressive models you know writes new sentences. Many image and sound tokens of today
# are made this way.

# %% [markdown] tags=["nav"]
# 59 minutes, and 19 further ·
# before this: [What you do not see: the variational autoencoder](vae.ipynb), [Images by convolution: PixelCNN](../autoregressive/pixelcnn.ipynb), [One token at a time: GPT](../autoregressive/gpt.ipynb) ·
# [exercise](../../exercises/vae/vqvae.ipynb) ·
# [solution](../../solutions/vae/vqvae.ipynb)
#
# previous: [What a code is worth: beta-VAE and InfoVAE](beta_vae.ipynb) ·
# [all units](../index.ipynb) ·
# next: [Likely is what lies low: Boltzmann machines](../energy/boltzmann.ipynb)

# %% tags=["setup"]
import importlib.util

if importlib.util.find_spec("gdm_course") is None:
    raise ImportError(
        "the package gdm_course is not installed here: run 'make lab' in the course's "
        "folder, or 'pip install -e .[lab]', and choose that environment as the kernel"
    )

# %%
import math
import time
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.distributions import Independent

from gdm_course import (
    checkpoints,
    protocols,
    schematics,
    validate,  # refuses, in one sentence, what does not fit
)
from gdm_course import plotting as plot
from gdm_course.autoregressive.gpt import GPT
from gdm_course.autoregressive.pixelcnn import PixelCNN
from gdm_course.data import images, toy
from gdm_course.evaluation.bounds import elbos
from gdm_course.evaluation.likelihood import bits_per_dim, estimate, log_probs, nll_estimate
from gdm_course.learning import dealt, on_backward, pooled
from gdm_course.nets import precise  # float32, where a GPU used less
from gdm_course.training import budget, forever, seed_everything, train
from gdm_course.vae.coded import Arranged, Spelt, UniformCodes
from gdm_course.vae.decoders import LogisticPixels, shown
from gdm_course.vae.fsq import FiniteScalarQuantiser, whole_digits
from gdm_course.vae.quantise import Quantised, perplexity, totals
from gdm_course.vae.vqvae import VQVAE, look_up
from gdm_course.widgets import play, progress, watch

plot.style()

# %% [markdown]
# ## 1. The question
#
# The digits with all their 17 grey values. A variational autoencoder describes a picture by
# a vector of real numbers, spread out by noise, and pays for every bit of it. But what you
# would say about these pictures is made of *words*: a bar, a bend, nothing at all. Words
# are discrete, and for discrete sequences we own excellent models.
#
# The model of this lecture will be a **Sampler** and **Trainable**. It will have an `elbo`,
# a lower bound of $\log p(x)$ in nats, and no `log_prob`.

# %%
digits = images.load("digits")
x_train, x_valid, x_test = digits.x_train, digits.x_valid, digits.x_test
levels, shape = digits.levels, tuple(x_train.shape[1:])
n_pixels = math.prod(shape)
print(f"{len(x_train)} training pictures of shape {shape}, values 0 to {levels - 1}")
_ = plot.image_grid(x_train[:40], columns=20, vmax=levels - 1)

# %% [markdown]
# ## 2. The idea
#
# Cut every picture into patches of 2 x 2 pixels. Collect twelve typical patches: the
# dictionary. Now replace each patch of a picture by the most similar entry, and write down
# only its number. The digits survive, as 16 words, each one of twelve.
#
# Everything else in this lecture improves on that picture. The patches become the features
# of a network, the dictionary learns with it, and a second model learns which words follow
# which.

# %%
seed_everything(0)
patches = x_train.unfold(2, 2, 2).unfold(3, 2, 2).reshape(-1, 4).float()  # (20560, 4)
words = patches.unique(dim=0)[torch.randperm(len(patches.unique(dim=0)))[:12]]
for _ in range(20):  # k-means, as you may know it: assign, then average
    won = torch.cdist(patches, words).argmin(1)
    words = torch.stack(
        [patches[won == k].mean(0) if (won == k).any() else words[k] for k in range(12)]
    )
told = words[won].view(-1, 4, 4, 2, 2).transpose(2, 3).reshape(-1, 1, 8, 8)
titles = "pictures", "words", "the same pictures, told in words"
axes = plot.panels(*titles, width=3.0, height=2.3)
plot.image_grid(x_train[:12], axes[0], columns=4, vmax=levels - 1)
plot.image_grid(words.view(-1, 1, 2, 2), axes[1], columns=4, vmax=levels - 1)
_ = plot.image_grid(told[:12], axes[2], columns=4, vmax=levels - 1)
bits = 16 * math.log2(12), n_pixels * math.log2(levels)
print(
    f"16 words of 12: {bits[0]:.0f} bits; {n_pixels} pixels of {levels}: {bits[1]:.0f} bits"
)

# %% [markdown]
# **Question 1.** If all words are equally likely, a told picture costs $16\log_2 12$ bits, where 64
# pixels of 17 values cost $64\log_2 17$; both are printed. Who pays for the difference?
#
# <details><summary>Answer</summary>
#
# Whoever wants the picture back. The decoder has to guess the pixels from the words, and what
# it guesses wrong has to be said in addition. That will be the *distortion*.
# </details>

# %% [markdown] tags=["notes"]
# 5 minutes. Let the room guess the two numbers of bits first. Wrong answer to expect to Question 1: "nobody, the rest was redundant".

# %% [markdown]
# ## 3. The codebook
#
# A **codebook** is $K$ vectors $e_1,\dots,e_K$ of $D$ numbers. A vector $z$ is quantised to
# the nearest one:
#
# $$c(z) = \arg\min_k\,\lVert z-e_k\rVert^2, \qquad q(z) = e_{c(z)}. \tag{1}$$
#
# The points with the same code form a convex cell, a *Voronoi cell*: between two codes the
# border is the plane of equal distance. To compute (1) for many vectors, expand the square,
# $\lVert z\rVert^2-2z\cdot e_k+\lVert e_k\rVert^2$. The first term is the same for all $k$,
# and the second is one product of matrices. Tiny example: $z = 0.4$ and codes 0 and 1. Half of
# (1) without $z^2/2$ is $\tfrac12 e^2 - ze$: 0 for the first and 0.1 for the second, so the first
# wins.


# %% tags=["from:vae.quantise.nearest"]
def nearest(z: Tensor, codebook: Tensor) -> Tensor:
    """Return the code of the nearest vector, argmin_k |z - e_k|^2: (1).

    |z - e|^2 = |z|^2 - 2 z.e + |e|^2, and |z|^2 does not change who wins: one product of
    matrices does it. Of equally near codes the first is taken.

    Args:
        z: vectors (N, D).
        codebook: (K, D).

    Returns:
        Codes 0..K-1, (N,) int64.
    """
    half = codebook.square().sum(1) / 2  # (K,)
    return torch.addmm(half, z, codebook.T, alpha=-1).argmin(1)


# %%
pinwheel = toy.get("pinwheel")
seed_everything(0)
points, book = pinwheel.sample(2000), 1.5 * torch.randn(24, 2)
codes = nearest(points, book)
assert codes.equal(torch.cdist(points, book).argmin(1))  # the plain way agrees
hues = torch.randperm(24)  # neighbours should not share a colour


def draw_cells(book, ax, bounds, points=None):
    """Colour the plane by the nearest code; codes are black dots."""
    at = plot.mesh(bounds, 200)
    cells = hues[nearest(at, book)].view(200, 200)
    extent = (*bounds[0], *bounds[1])
    ax.imshow(cells, origin="lower", extent=extent, cmap="tab20b", alpha=0.45)
    if points is not None:
        plot.scatter(points, ax, color=plot.BLACK, size=3)
    ax.scatter(*book.T, s=14, color=plot.BLACK)
    plot.plane(bounds, ax)


left, right = plot.panels("vectors z", "24 random codes and their cells", width=3.4)
plot.scatter(points, left, pinwheel.bounds)
draw_cells(book, right, pinwheel.bounds)
error = (points - book[codes]).square().sum(1).mean()
print(f"mean squared error {error:.3f}")

# %% [markdown]
# **Where should the codes be?** Let $S_k$ be the vectors that code $k$ wins. The error
# $\sum_{z\in S_k}\lVert z-e_k\rVert^2$ has the gradient $2\sum_{z\in S_k}(e_k-z)$ in
# $e_k$, which is zero at the mean of $S_k$. Assign by (1), average, repeat: neither step
# can raise the error. That is **k-means**.
#
# We will not have all vectors at once, though, only batches, and the encoder that makes
# them keeps changing. So keep *running* means with a decay $\gamma$: of the number $n_k$ of
# vectors that code $k$ wins in a batch, and of their sum $s_k$,
#
# $$N_k \leftarrow \gamma N_k + (1-\gamma)\,n_k,\qquad
#   m_k \leftarrow \gamma m_k + (1-\gamma)\,s_k,\qquad e_k = m_k / N_k. \tag{2}$$
#
# The sums need not be stored. Write $N'$, $m'$, $e'$ for the new values. Because $m_k =
# N_ke_k$ and $\gamma N_k = N'_k-(1-\gamma)n_k$,
#
# $$e'_k = \frac{\gamma N_k e_k + (1-\gamma)s_k}{N'_k}
#   = e_k + \frac{1-\gamma}{N'_k}\,\bigl(s_k - n_k e_k\bigr)
#   = e_k + \frac{1-\gamma}{N'_k}\sum_{z\in S_k}(z-e_k). \tag{3}$$
#
# Read the last form: each code takes a small step towards every vector it won, the smaller the
# more it wins. This is **online k-means** (MacQueen, 1967). A code that wins nothing does not
# move at all; remember that. (`pooled` adds up what several GPUs have seen; here there is one
# process.)


# %% tags=["from:vae.quantise.follow"]
@torch.no_grad()
def follow(codebook: Tensor, count: Tensor, z: Tensor, codes: Tensor, decay: float) -> None:
    """Move every code towards the mean of the vectors it won, in place: (2) and (3).

    Args:
        codebook: (K, D), moved.
        count: running mean of the vectors that each code wins per batch (K,), moved.
        z, codes: the batch (N, D) and its nearest codes (N,); those of all processes count.
        decay: of the running means, gamma.
    """
    n, total = map(pooled, totals(z, codes, len(codebook)))
    count.lerp_(n, 1 - decay)
    rate = (1 - decay) / count.clamp_min(1e-12)  # per vector; a code without any stays
    codebook.addcmul_(rate[:, None], total - n[:, None] * codebook)


# %% [markdown]
# From $N=0$ the first batch makes $N'_k=(1-\gamma)n_k$, and (3) lands exactly on the mean:
# a full step of k-means. Then comes a stream of batches. Move the slider, and watch cells
# leave the empty corners for the blades.

# %%
seed_everything(0)
book, count, batch = 0.3 * torch.randn(24, 2), torch.zeros(24), pinwheel.sample(2000)
codes = nearest(batch, book)
follow(book, count, batch, codes, decay=0.9)
assert torch.allclose(book[codes[0]], batch[codes == codes[0]].mean(0), atol=1e-5)

film, errors = [book.clone()], []
for _ in range(budget(150, 20)):
    batch = pinwheel.sample(256)
    codes = nearest(batch, book)
    errors.append((batch - book[codes]).square().sum(1).mean())
    follow(book, count, batch, codes, decay=0.9)
    film.append(book.clone())


def draw_film(step):
    """Show the cells after so many batches, and the error so far."""
    step = min(step, len(errors))
    left, right = plot.panels(f"after {step} batches", "error of each batch", width=3.6)
    draw_cells(film[step], left, pinwheel.bounds, points[:400])
    right.plot(errors, color=plot.BLUE)
    right.axvline(step, color=plot.ORANGE)
    right.set(xlabel="batch", ylabel="mean squared error", ylim=(0, None))


play(draw_film, step=(0, len(errors), 1, len(errors) // 2))

# %% [markdown]
# ## 4. Break it: dead codes
#
# A code that wins nothing does not move, and what does not move wins nothing. On the plane
# this is rare. Now let the vectors lie on the same plane *inside* a space of $D$
# dimensions, as features of a network do, and start with standard normal codes.
#
# **Predict 1, before you run.** With 128 codes, how many are in use after training for $D=2$,
# $8$, $32$, $128$?


# %%
def survivors(D, repair, start=lambda book, plane: book, steps=60, K=128):
    """Fit K codes to a pinwheel that lies in D dimensions; return how often each wins."""
    seed_everything(0)
    plane = torch.linalg.qr(torch.randn(D, 2)).Q.T  # (2, D): two orthogonal directions
    book, count = start(torch.randn(K, D), plane), torch.zeros(K)
    for _ in range(steps):
        batch = pinwheel.sample(1000) @ plane
        follow(book, count, batch, nearest(batch, book), decay=0.9)
        repair(book, count, batch)
    return nearest(pinwheel.sample(4000) @ plane, book).bincount(minlength=K)


dims, leave = (2, 8, 32, 128), lambda *state: None
broken = [survivors(D_z, leave) for D_z in dims]
for D_z, wins in zip(dims, broken):
    print(f"D = {D_z:3d}: {(wins > 0).sum():3d} of 128 codes in use")

# %% [markdown] tags=["notes"]
# 14 minutes for sections 3 and 4. Take bets before the cell runs. Almost everybody expects that many dimensions leave more
# room and so more codes in use. Draw a sheet on the board, and codes floating above it at different heights. Ask which of them wins.

# %% [markdown]
# <details><summary>Answer</summary>
#
# The more dimensions, the fewer. Split a code into its part $e_\parallel$ in the plane and its
# height $h$ above it: $\lVert z-e\rVert^2 = \lVert z-e_\parallel\rVert^2 + h^2$. The first term is
# a few units; $h^2$, a sum of $D-2$ squares, is $D-2\pm\sqrt{2(D-2)}$. In high dimension the few
# *lowest* codes win everything.
# </details>

# %%
flat = lambda book, plane: book @ plane.T @ plane  # h = 0
equal = lambda book, plane: D_z**0.5 * nn.functional.normalize(book, dim=1)
for D_z in dims:
    used = [(survivors(D_z, leave, start) > 0).sum().item() for start in (flat, equal)]
    print(f"D = {D_z:3d}: {used[0]} in use if laid flat, {used[1]:3d} if of equal length")
    assert used[0] > 100 and (D_z == 2 or used[1] < 40)

# %% [markdown]
# Laid flat, nearly all live; equal length saves few. The others never learn, and the picture has
# lost most of its words without any error message. The repair: a code whose running count $N_k$
# falls below a small share of the average starts anew, at a vector drawn from the batch, where it
# has vectors to win (`dealt` lets every GPU give its share of these vectors).


# %% tags=["from:vae.quantise.revive"]
@torch.no_grad()
def revive(codebook: Tensor, count: Tensor, z: Tensor, share: float) -> None:
    """Put codes that win too little onto vectors of the batch, in place.

    A code is dead if it wins less than `share` of what the average code wins. It starts
    anew as a vector drawn from z, with an average count. All other codes stay untouched.

    Args:
        codebook, count: (K, D) and (K,), as `follow` left them.
        z: vectors of the batch (N, D).
        share: 0 never revives.
    """
    dead = count < share * count.mean()
    drawn = dealt(z[torch.randint(len(z), (len(codebook),), device=z.device)])
    codebook.copy_(torch.where(dead[:, None], drawn, codebook))
    count.copy_(torch.where(dead, count.mean(), count))


# %%
repaired = [survivors(D_z, lambda b, n, z: revive(b, n, z, share=0.02)) for D_z in dims]
axes = plot.panels("D = 128, never revived", "D = 128, revived", width=4, height=2.4)
for ax, wins in zip(axes, (broken[-1], repaired[-1])):
    ax.bar(range(128), wins.sort(descending=True).values, color=plot.BLUE, width=1.0)
    ax.set(xlabel="code, most used first", ylabel="wins in 4,000")
for D_z, before, after in zip(dims, broken, repaired):
    print(f"D = {D_z:3d}: {(before > 0).sum():3d} -> {(after > 0).sum():3d} codes in use")
assert all(
    (after > 0).sum() >= (before > 0).sum() for before, after in zip(broken, repaired)
)

# %% [markdown]
# **Change this line, and run the section again.** `steps=60` to `steps=600`: does patience wake the
# dead codes, too?
#
# <details><summary>Answer</summary>
#
# No: where most are dead, the printed numbers on the left hardly change. A code that wins nothing
# stands still, however long one waits.
# </details>
#
# **Question 2.** The usual summary of the usage $p_k$ is the **perplexity** $\exp(-\sum_k p_k\log
# p_k)$. When is it $K$, when 1, and should one wish for $K$?
#
# <details><summary>Answer</summary>
#
# It is $K$ when all codes are used equally often and 1 when one code wins everything: the size
# of a fair die with the same entropy. But the codebook with the smallest error does not use its
# codes equally: in thin regions it accepts large cells *and* few visitors. Perplexity is alarming
# when it is a small part of $K$, and no goal.
# </details>

# %% [markdown]
# ## 5. How does a gradient pass through an argmin?
#
# Put (1) between an encoder and a decoder: $z = f(x)$, $q = e_{c(z)}$, $\log p(x\mid q)$. A
# small change of $z$ does not change the code, and so changes nothing: the derivative of
# the loss in $z$ is zero almost everywhere. The encoder would never learn. The
# **straight-through estimator** says: the gradient arrives at $q$; hand it on to $z$ as if $q$
# *were* $z$,
#
# $$\frac{\partial L}{\partial z} := \frac{\partial L}{\partial q}\bigg|_{q=q(z)},
#   \qquad\text{by}\quad q + (z - \mathrm{sg}[z]), \tag{4}$$
#
# where sg, *stop gradient*, is a constant to autograd. The value is $q$, the derivative is
# that of $z$.


# %% tags=["from:vae.quantise.straight_through"]
def straight_through(z: Tensor, q: Tensor) -> Tensor:
    """Return q, but hand the gradient on to z as if q were z: (4).

    The value is q to the last bit: z minus itself is 0, whatever rounding does.
    """
    return q.detach() + (z - z.detach())


# %% [markdown]
# This gradient is copied, not computed, so what is it the gradient *of*? Take one number,
# codes at distance 1, and a loss $L(q)$. Blur the staircase $L(q(z))$ by moving $z$
# uniformly within half a cell either way; then the derivative exists, and it is exact:
#
# $$\frac{d}{dz}\int_{-1/2}^{1/2} L(q(z+u))\,du
#   = L\bigl(q(z+\tfrac12)\bigr) - L\bigl(q(z-\tfrac12)\bigr) = L(b) - L(a),$$
#
# with $a$ and $b$ the codes on both sides of $z$. For a quadratic $L$ that is $L'$ at the
# middle of $a$ and $b$. Straight-through takes $L'$ at the nearer of the two, half a cell away. So
# it is **biased**, for a quadratic $L$ by $\frac12\lvert L''\rvert$ either way.
#
# **Predict 2, before you run.** Codes at $-1.5$, $-0.5$, $0.5$, $1.5$ and the loss $(q-0.2)^2$. Descent
# with the copied gradient starts at $z=1.4$. Where does it end?

# %%
grid = torch.arange(-1.5, 2.0)[:, None]  # codes -1.5, -0.5, 0.5, 1.5
loss_of = lambda q: (q - 0.2) ** 2
z_line = torch.linspace(-1.49, 1.49, 600).requires_grad_()
q_of = lambda z: grid[nearest(z[:, None], grid), 0]
steps_up = loss_of(straight_through(z_line, q_of(z_line)))
(copied,) = torch.autograd.grad(steps_up.sum(), z_line)
z_line = z_line.detach()
blurred = loss_of(q_of(z_line + 0.5)) - loss_of(q_of(z_line - 0.5))
assert torch.allclose(copied, 2 * (q_of(z_line) - 0.2))  # L' at the code
left, right = plot.panels("the loss behind a quantiser", "its two gradients", width=4)
plot.curves({"L(q(z))": steps_up, "L(z)": loss_of(z_line)}, left, z_line, "z", "loss")
two = {"straight-through": copied, "of the blurred loss": blurred}
plot.curves(two, right, z_line, "z", "gradient")
right.axhline(0, color=plot.GREY, linewidth=0.8)
print(f"largest difference {(copied - blurred).abs().max():.2f}; L'' / 2 = 1")

# %% [markdown]
# <details><summary>Answer</summary>
#
# Nowhere. The copied gradient is positive down to the border at 0 and negative below it, so $z$
# is driven to the border between the codes $-0.5$ and $0.5$ and jumps there.
# </details>
#
# Nothing else keeps $z$ near the codebook, either: the decoder sees only $q$. So charge for the
# distance, by the **commitment** term:
#
# $$\text{loss}(x) = -\log p(x\mid q) + \beta \sum_{ij}
#   \bigl\lVert z_{ij} - \mathrm{sg}[e_{c_{ij}}]\bigr\rVert^2, \tag{5}$$
#
# summed over the grid of vectors of one picture. The codes follow by (3), not by a gradient (of
# the *codebook loss*: see the exercise). But they follow exactly those batches whose gradient comes back, which is when
# `on_backward` calls `learn`: to look at pictures teaches nothing. Here is the whole quantiser:


# %% tags=["from:vae.quantise.VectorQuantiser"]
class VectorQuantiser(nn.Module):
    """A codebook that follows the vectors it is trained on, with commitment: (1) to (5).

    Args:
        K, D: number of codes, and of numbers per vector.
        decay: of the running means.
        beta: weight of the commitment, in nats per squared unit of z.
        share: revive codes that win less than this part of an average code's vectors.
    """

    def __init__(self, K=512, D=64, *, decay=0.99, beta=0.25, share=0.02):
        super().__init__()
        validate.at_least(1, K=K, D=D)
        self.K, self.D, self.decay, self.beta, self.share = K, D, decay, beta, share
        self.register_buffer("codebook", torch.randn(K, D))
        self.register_buffer("count", torch.zeros(K))

    def lookup(self, codes: Tensor) -> Tensor:
        """Return the vectors of codes: (*B,) -> (*B, D)."""
        return self.codebook[validate.codes(codes, self.K)]

    @torch.no_grad()
    def learn(self, z: Tensor, codes: Tensor) -> None:
        """Let the codebook follow a batch: vectors (N, D), if finite, and codes (N,)."""
        if pooled(z.sum(0)).isfinite().all():
            follow(self.codebook, self.count, z, codes, self.decay)
            revive(self.codebook, self.count, z, self.share)

    def forward(self, z: Tensor) -> Quantised:
        """Quantise vectors (*B, D): (*B, D), codes (*B,), and commitment (*B,) in nats."""
        with torch.autocast(z.device.type, enabled=False):  # bf16 would mix up neighbours
            z = validate.vectors(z, self.D).to(self.codebook.dtype)
            flat = z.detach().flatten(0, -2)
            codes = nearest(flat, self.codebook)
            q = self.lookup(codes).view_as(z)
            penalty, q = self.beta * (z - q).square().sum(-1), straight_through(z, q)
            if self.training:
                q = on_backward(q, lambda: self.learn(flat, codes))
            return q, codes.view(z.shape[:-1]), penalty


# %%
seed_everything(0)
quantiser = VectorQuantiser(K=8, D=3)
z = torch.randn(5, 4, 4, 3, requires_grad=True)  # a batch of grids of vectors
q, codes, penalty = quantiser.eval()(z)
assert q.equal(quantiser.lookup(codes))  # the decoder sees the code's vector, to the bit
weight = torch.randn_like(q)
(g,) = torch.autograd.grad((weight * q).sum(), z)
assert g.equal(weight)  # and the encoder gets the decoder's gradient, to the bit
print(f"{tuple(z.shape)} -> codes {tuple(codes.shape)}, penalty {tuple(penalty.shape)}")

# %% [markdown] tags=["notes"]
# 10 minutes. Draw the staircase and ask for its derivative before (4). A usual wrong answer to Predict 2: "at 0.2, the minimum". If time is short, leave the blurred loss to reading.

# %% [markdown]
# ## 6. Assemble: pictures to codes to pictures
#
# An encoder of convolutions halves the picture and delivers a small grid of vectors. A
# decoder goes the opposite way, and its numbers are read as a **distribution of pixels**:
# here a discretised logistic for the 17 grey values, as in the lecture on VAEs. Mean squared
# error would do to train an autoencoder, but only a probability can be counted in bits. (`shown` is the
# picture as the encoder sees it, and `look_up` asks the quantiser for the vectors of codes.)


# %% tags=["from:vae.vqvae.CodedAutoencoder"]
class CodedAutoencoder(nn.Module):
    """x -> codes -> p(x | codes): all that a VQ-VAE does, for any networks and codes."""

    def __init__(self, encoder, quantiser, decoder, observation):
        super().__init__()
        self.shape, self.grid = ("C", "H", "W"), ("h", "w")  # any: a subclass knows
        self.encoder, self.quantiser, self.decoder = encoder, quantiser, decoder
        self.observation = observation  # what the decoder's numbers mean

    def quantise(self, x: Tensor) -> Quantised:
        """Return vectors (B, h, w, D), codes (B, h, w) and the penalty (B, h, w)."""
        return self.quantiser(self.encoder(shown(x, self)).movedim(1, -1))

    def encode(self, x: Tensor) -> Tensor:
        """Return the codes c(x): (B, C, H, W) -> (B, h, w)."""
        return self.quantise(x)[1]

    def read(self, q: Tensor) -> Independent:
        """Return p(x | q) of vectors (B, h, w, D): event shape (C, H, W)."""
        numbers = self.decoder(q.movedim(-1, 1)).to(q.dtype)  # float32, if a GPU used less
        parts = numbers.unflatten(1, (self.observation.outputs, -1)).unbind(1)
        return Independent(self.observation(*parts), 3, False)

    def decode(self, codes: Tensor) -> Independent:
        """Return p(x | codes) of codes (B, h, w): event shape (C, H, W)."""
        return self.read(look_up(codes, self))

    def parts(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return log p(x | c(x)) (B,), the codes (B, h, w) and the penalty (B,)."""
        q, codes, penalty = self.quantise(x)
        return self.read(q).log_prob(x.to(q.dtype)), codes, penalty.flatten(1).sum(1)

    def loss(self, x: Tensor) -> Tensor:
        """Return the mean of -log p(x | c(x)) plus the commitment, in nats: (5)."""
        log_p, _, penalty = self.parts(x)
        return (penalty - log_p).mean()

    def reconstruct(self, x: Tensor) -> Tensor:
        """Return the mean of p(x | c(x)): (B, C, H, W) -> (B, C, H, W)."""
        return self.decode(self.encode(x)).mean


# %% tags=["fold"]
# @title Codes on the way down, and the gradient that jumps over them
seed_everything(0)
K, options = 16, {"features": 32, "halvings": 1, "observation": LogisticPixels(levels)}
vqvae = VQVAE(shape, quantiser=VectorQuantiser(K, 8), **options)
schematics.vqvae(vqvae, x_train[:8])

# %% [markdown]
# `VQVAE((C, H, W))` fills in the networks. Our digits, halved once, become a grid of 4 x 4
# codes out of 16. Watch reconstructions and usage while it learns.

# %%
seed_everything(0)
K, options = 16, {"features": 32, "halvings": 1, "observation": LogisticPixels(levels)}
vqvae = VQVAE(shape, quantiser=VectorQuantiser(K, 8), **options)
x_show, steps = x_test[:20], budget(700, 20)


def draw_usage(ax):
    """Draw how often each code is used on the test pictures."""
    used = vqvae.eval().encode(x_test)
    ax.bar(range(K), used.flatten().bincount(minlength=K) / used.numel(), color=plot.BLUE)
    ax.set(xlabel="code", ylabel="share", xticks=range(0, K, 3))
    ax.set_title(f"perplexity {perplexity(used, K):.1f}", loc="left")


show = {
    "told in 16 words": lambda ax: plot.image_grid(
        vqvae.eval().reconstruct(x_show), ax, vmax=levels - 1
    ),
    "": draw_usage,
}
rate = lambda step: 3e-3 * (1 - step / steps)
training = train(vqvae, forever(x_train, 64), steps, rate)
for _ in watch(training, every=100, panels=show):
    pass
_ = vqvae.eval()

# %% [markdown]
# What does a word mean? Look where it is used: the average of all places of the training
# pictures that it describes, with a pixel around them. Also shown is what the computer
# stores, the codes themselves.

# %%
codes, seen = vqvae.encode(x_show), vqvae.encode(x_train)
around = nn.functional.unfold(x_train.float(), 4, padding=1, stride=2).mT  # (N, 16, 16)
count, total = totals(around.flatten(0, 1), seen.flatten(), K)
meaning = (total / count.clamp_min(1)[:, None]).view(K, 4, 4)
axes = plot.panels("pictures", "their codes", "told", "each word, on average", width=2.6)
plot.image_grid(x_show, axes[0], columns=5, vmax=levels - 1)
plot.image_grid(codes[:, None], axes[1], columns=5, vmax=K - 1)
plot.image_grid(vqvae.reconstruct(x_show).detach(), axes[2], columns=5, vmax=levels - 1)
_ = plot.image_grid(meaning, axes[3], columns=4, vmax=meaning.max().item())

# %% [markdown]
# ## 7. From an autoencoder to a model of pictures
#
# So far we can compress. To draw new pictures, and to know their probability, somebody must
# say how likely a grid of codes is: a **prior** $p(c)$. Together they are a latent variable
# model, $p(x) = \sum_c p(c)\,p(x\mid c)$, a sum over $16^{16}$ grids. The bound of the VAE, for any
# distribution $q(c\mid x)$ (not the vector $q$ of above), is
# $\log p(x)\ge\mathbb E_q[\log p(x\mid c) + \log p(c) - \log q(c\mid x)]$. Our
# encoder is deterministic: $q$ is a point mass on $c(x)$. The expectation is one term and $\log q
# = \log 1 = 0$, so
#
# $$\log p(x) \;\ge\; \text{elbo}(x) = \underbrace{\log p(x\mid c(x))}_{-\text{distortion}}
#   + \underbrace{\log p(c(x))}_{-\text{rate}}. \tag{6}$$
#
# You see it without any theory: a sum of positive terms is at least one of them. If two grids
# explain a picture with $p(c)\,p(x\mid c) = 0.03$ and $0.01$, the truth is $\log 0.04$ and the bound
# $\log 0.03$. The gap is $-\log p(c(x)\mid x)$, small if, given the picture, the model is sure about
# the words.


# %% tags=["from:vae.coded.CodedModel"]
class CodedModel(nn.Module):
    """p(x) = sum_c p(c) p(x | c) from an autoencoder and a prior, with the bound (6).

    Args:
        autoencoder: such as `VQVAE`.
        prior: a Density and Sampler of its codes (B, h, w).
    """

    def __init__(self, autoencoder: nn.Module, prior: nn.Module):
        super().__init__()
        self.autoencoder, self.prior = autoencoder, prior

    def terms(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return log p(x | c(x)) and log p(c(x)) in nats: (B, C, H, W) -> (B,), (B,)."""
        log_p, codes, _ = self.autoencoder.parts(x)
        return log_p, self.prior.log_prob(codes)

    def elbo(self, x: Tensor) -> Tensor:
        """Return the bound (6) in nats, without any noise: (B, C, H, W) -> (B,)."""
        log_p, log_prior = self.terms(x)
        return log_p + log_prior

    def loss(self, x: Tensor) -> Tensor:
        """Return the loss of both, trained at once: the mean of (5) minus log p(c(x)).

        Codes are whole numbers, through which no gradient flows: the prior learns from
        them and the autoencoder does not notice.
        """
        log_p, codes, penalty = self.autoencoder.parts(x)
        return (penalty - log_p - self.prior.log_prob(codes)).mean()

    @torch.no_grad()
    def sample(self, n: int) -> Tensor:
        """Draw n images (n, C, H, W): codes from the prior, then pixels given codes."""
        return self.autoencoder.decode(self.prior.sample(n)).sample()


# %% [markdown]
# **Question 3.** A VAE of the same pictures also pays a rate, $\mathrm{KL}(q\,\|\,p)$, yet its
# noisy $q$ gets something back that our point mass does not. What?
#
# <details><summary>Answer</summary>
#
# The entropy of $q$. In $\mathrm{KL} = -\mathbb E_q\log p(z) - H(q)$ the entropy is subtracted:
# where several latents serve equally well, the choice among them is free. A deterministic
# encoder names one sentence and pays for it in full. In the example above $q = (\frac34, \frac14)$
# would raise the bound by $\log\frac43$, to the truth.
# </details>
#
# The codes are a sentence of 16 tokens, so a **GPT** can be the prior; nothing new is needed.
# `Arranged` only changes the shape, a grid $(h,w)$ into a row $(hw)$. Two stages: the autoencoder
# is finished, now the prior learns its codes. Then sampling is ancestral: codes from the prior,
# pixels given codes.


# %%
def fit(model, x, steps, lr=3e-3, B=64):
    """Train without a figure, the rate falling to 0."""
    training = train(model, forever(x, B), steps, lambda step: lr * (1 - step / steps))
    for _ in progress(training, steps, type(model).__name__):
        pass
    return model.eval()


with torch.no_grad():
    codes, test_codes = vqvae.encode(x_train), vqvae.encode(x_test)
seed_everything(0)
reader = GPT(K, 16, layers=2, heads=2, width=48, dropout=0.1)
prior = fit(Arranged(reader, (16,), vqvae.grid), codes, budget(400, 10))
uniform = UniformCodes(vqvae.grid, K)
for name, p_c in {"uniform": uniform, "GPT": prior}.items():
    nats, error = estimate(-log_probs(p_c, test_codes))
    print(f"{name:8s} {nats:.2f} +- {error:.2f} nats per grid of 16 words")

seed_everything(0)
axes = plot.panels("uniform prior", "GPT prior", width=4.2, height=2.6)
for ax, p_c in zip(axes, (uniform, prior)):
    drawn = vqvae.decode(p_c.sample(32)).mean.detach()
    plot.image_grid(drawn, ax, columns=8, vmax=levels - 1)


# %% [markdown]
# Without a prior, the words are fine and the sentences are nonsense: the left picture is
# what an autoencoder alone knows about digits.

# %% [markdown] tags=["notes"]
# 14 minutes for sections 6 and 7. Ask before the samples: what will the uniform prior draw? Expect "noise"; it is strokes in the wrong places.

# %% [markdown]
# ## 8. Play: change one word
#
# Take a test digit, choose one place of its grid, and try every word of the dictionary
# there. How far does one word reach in the picture? (The convolutions of the decoder
# overlap: more than its own 2 x 2 pixels.)


# %%
@torch.no_grad()
def draw_swap(which, place, word):
    """Replace one code of a test digit and paint the picture again."""
    codes = test_codes[which : which + 1].clone()
    before = vqvae.decode(codes).mean
    codes.view(-1)[place] = word
    after = vqvae.decode(codes).mean
    name = f"place {place}: word {word}"
    axes = plot.panels("told", name, "change", width=2.3, height=2.5)
    plot.image_grid(before, axes[0], vmax=levels - 1)
    plot.image_grid(after, axes[1], vmax=levels - 1)
    axes[2].imshow((after - before)[0, 0], cmap="PuOr", vmin=-16, vmax=16)
    axes[2].set_axis_off()


play(draw_swap, which=(0, 20, 1, 3), place=(0, 15, 1, 6), word=(0, K - 1, 1, 0))

# %% [markdown]
# ## 9. Do we need a codebook at all?
#
# Dead codes, running means, revival, commitment: all of that exists because the codebook is
# learnt. **Finite scalar quantisation** (Mentzer and others, 2023) throws it away. Make
# $z$ short, squash every number into an interval, and *round* it:
#
# $$u_d = L_d\,\sigma(2z_d) - \tfrac12 \in \bigl(-\tfrac12,\,L_d-\tfrac12\bigr), \qquad
#   \text{digit}_d = \mathrm{round}(u_d) \in \{0,\dots,L_d-1\}. \tag{7}$$
#
# The codes are the $K=\prod_d L_d$ points of a grid. With $L = (4, 4)$, the digits $(3, 1)$ are the
# code $3 + 4\cdot 1 = 7$. They are not learnt, so none can die; the encoder may still leave some
# unused. They need no commitment, for $u$ cannot run away from a grid that covers all of its range. Straight-through applies to the rounding
# only. The class is in a section after the summary.


# %% tags=["from:vae.fsq.squash"]
def squash(z: Tensor, levels: Tensor) -> Tensor:
    """Bound each number to the open interval (-1/2, L - 1/2): L sigmoid(2 z) - 1/2.

    L whole numbers lie in it, whether L is odd or even, and each has an equal share of the
    sigmoid's range. (The paper has tanh in place of the sigmoid, shifted for even L.)
    """
    return levels * torch.sigmoid(2 * z) - 0.5


# %%
fsq = FiniteScalarQuantiser((4, 4))
every = torch.arange(fsq.K)
assert fsq.code(fsq.digits(every)).equal(every)
middle = torch.logit((fsq.digits(every) + 0.5) / fsq.levels) / 2
assert fsq(middle)[1].equal(every)
square = ((-2.2, 2.2), (-2.2, 2.2))
left, right = plot.panels(
    "cells of 4 x 4 digits in z", "cells of 24 learnt codes", width=3.2
)
cells = hues[fsq(plot.mesh(square, 200))[1]].view(200, 200)
left.imshow(cells, origin="lower", extent=(-2.2, 2.2) * 2, cmap="tab20b", alpha=0.45)
left.scatter(*middle.T, s=14, color=plot.BLACK)
plot.plane(square, left)
draw_cells(film[-1], right, pinwheel.bounds)

# %% [markdown]
# ## 10. Measure
#
# Distortion, rate, and their sum: an upper bound of $-\log p(x)$. Beside it a PixelCNN on
# the pixels themselves, whose likelihood is exact. One test set, one unit.


# %%
seed_everything(0)
direct = fit(PixelCNN(shape, levels, features=32, layers=3), x_train, budget(400, 10))
row = "{:26s}{:>12s}{:>8s}{:>9s}{:>7s}{:>10s}".format


def bill(**models):
    """Print what each model charges for the test digits, in nats and in bits."""
    print(row("256 test digits", "distortion", "rate", "total", "+-", "bits/dim"))
    for name, model in models.items():
        with torch.no_grad():
            distortion, rate = (-term.mean().item() for term in model.eval().terms(x_test))
        total, error = estimate(-elbos(model, x_test))
        parts = f"{distortion:.1f}", f"{rate:.1f}", f"{total:.1f}", f"{error:.1f}"
        print(
            row(name.replace("_", " "), *parts, f"<= {bits_per_dim(total, n_pixels):.3f}")
        )
    nats, error = nll_estimate(direct, x_test)
    exactly = f"{nats:.1f}", f"{error:.1f}", f"{bits_per_dim(nats, n_pixels):.3f}"
    print(row("PixelCNN on the pixels", "", "", *exactly))


model = CodedModel(vqvae, prior)
bill(VQ_uniform_prior=CodedModel(vqvae, uniform), VQ_GPT_prior=model)
print("VQ, GPT prior:", protocols.abilities(model))


# %% [markdown]
# The prior takes a good part off the rate. The distortion is what 16 words cannot say. The sum
# is an upper bound, and it stays above the PixelCNN's exact figure: as far as we can tell, a model
# that spells out every pixel wins on likelihood. What the detour buys is **sentences of 16 words instead of 64 pixels**, so that a
# strong sequence model becomes affordable.
#
# ## Summary
#
# - A **codebook** maps a vector to its nearest entry (1). It learns by running means (2),
#   which are online k-means (3).
# - Codes that win nothing stay dead, above all in high dimension; **revive** them from the
#   batch, and look at the usage.
# - **Straight-through** (4) copies a gradient past the argmin, with a bias. **Commitment** (5)
#   keeps the encoder near its codes.
# - A deterministic encoder turns the VAE's bound into distortion plus rate (6). Any
#   autoregressive model is the prior.
# - **FSQ** (7) rounds instead of looking up: no codebook to learn, none to revive, ordered digits.
#
# | quantity | symbol | unit |
# |---|---|---|
# | distortion | $-\log p(x\mid c(x))$ | nats per picture |
# | rate | $-\log p(c(x))$ | nats per picture |
# | perplexity of the usage | $\exp(-\sum p_k\log p_k)$ | codes, 1 to K |
#
# **Exercises:** open them with `gdm start vae/vqvae`.
#
# ## References
#
# - van den Oord, Vinyals, Kavukcuoglu (2017). *Neural discrete representation learning.*
#   arXiv:1711.00937.
# - Razavi, van den Oord, Vinyals (2019). *Generating diverse high-fidelity images with
#   VQ-VAE-2.* arXiv:1906.00446.
# - Mentzer, Minnen, Agustsson, Tschannen (2023). *Finite scalar quantization: VQ-VAE made
#   simple.* arXiv:2309.15505.
# - Bengio, Léonard, Courville (2013). *Estimating or propagating gradients through
#   stochastic neurons for conditional computation.* arXiv:1308.3432. (Straight-through.)
# - Dhariwal and others (2020). *Jukebox.* arXiv:2005.00341. (Revival of dead codes.)
# - MacQueen (1967). *Some methods for classification and analysis of multivariate
#   observations.* Berkeley Symposium.

# %% [markdown]
# ## Further: how good can a codebook be?
#
# In two dimensions the answer is known. The best cells are regular
# hexagons (Fejes Tóth), and a hexagon of area $A$ has mean squared error
# $\frac{5}{18\sqrt3}A$. How large should they be where the density is $f(z)$? Let
# $\lambda$ be the density of codes, $\int\lambda = 1$: a cell at $z$ has area
# $1/(K\lambda(z))$, and the error is $\frac{5}{18\sqrt3 K}\int f/\lambda$. By the
# inequality of Cauchy and Schwarz,
#
# $$\Bigl(\int\!\sqrt f\Bigr)^2 = \Bigl(\int\! \sqrt{f/\lambda}\,\sqrt\lambda\Bigr)^2
#   \le \int\! f/\lambda \cdot \int\!\lambda = \int\! f/\lambda,$$
#
# with equality for $\lambda\propto\sqrt f$. That is **Zador's law** for many codes:
#
# $$\mathbb E\lVert z-q(z)\rVert^2 \approx \frac{5}{18\sqrt3\,K}
#   \Bigl(\int\! \sqrt{f(z)}\,dz\Bigr)^2 .$$
#
# It says where to start, too: with codes of density $\propto\sqrt f$, more of them in the
# thin regions than the vectors themselves would put there. Our toy densities know their
# $f$, so we can do that, and set the truth beside the codebook.
#
# (A smaller error without a larger $K$: quantise what is left, $z-q$, with a second codebook. That
# is *residual quantisation*; the exercise proposes it.)
#
# (Zador, 1982, *IEEE Transactions on Information Theory* 28; Gersho, 1979, ibid. 25.)

# %%
banana = toy.get("banana")
wide = ((-9.0, 9.0), (-4.0, 32.0))  # sqrt(f) reaches further than f
area = (wide[0][1] - wide[0][0]) * (wide[1][1] - wide[1][0])
root = (0.5 * banana.log_prob(plot.mesh(wide, 600))).exp().mean() * area
seed_everything(0)
fresh = banana.sample(20_000)


def fitted_error(K, steps):
    """Fit K codes to a stream of points, and measure the error on fresh points."""
    thin = (-0.5 * banana.log_prob(fresh)).exp()  # points of f, taken as often as f^-1/2
    book, count = fresh[thin.multinomial(K)].clone(), torch.zeros(K)
    for _ in range(steps):
        batch = banana.sample(1000)
        follow(book, count, batch, nearest(batch, book), decay=0.98)
    new = banana.sample(20_000)
    return (new - book[nearest(new, book)]).square().sum(1).mean()


sizes = torch.tensor([8, 32, 128, 512])
measured = torch.stack([fitted_error(int(K), budget(300, 5)) for K in sizes])
law = 5 / (18 * 3**0.5) / sizes * root**2
(ax,) = plot.panels("error of K codes on the banana", width=4.4)
ax.loglog(sizes, law, color=plot.BLACK, label="Zador's law, many codes")
ax.loglog(sizes, measured, "o", color=plot.ORANGE, label="running means")
ax.set(xlabel="number of codes K", ylabel="mean squared error", xticks=sizes)
ax.set_xticklabels(sizes.tolist())
_ = ax.legend()
print("measured / law:", [f"{r:.2f}" for r in measured / law])

# %% [markdown]
# ## Further: with and without commitment
#
# **Predict before you run.** What happens to the encoder's vectors, and to the pictures,
# without commitment ($\beta = 0$), and with far too much of it?

# %%
print("beta    |z|^2   |z - e|^2   -log p(x | c), nats")
for beta in (0.0, 0.1, 0.25, 1.0, 25.0):
    seed_everything(0)
    trial = VQVAE(shape, quantiser=VectorQuantiser(K, 8, beta=beta), **options)
    fit(trial, x_train, budget(250, 10))
    with torch.no_grad():
        z = trial.encoder(trial.observation.embed(x_test)).movedim(1, -1)
        far = (z - trial.quantise(x_test)[0]).square().sum(-1).mean()
        nats = -trial.parts(x_test)[0].mean()
    print(f"{beta:5.2f} {z.square().sum(-1).mean():8.2f} {far:10.2f} {nats:12.1f}")

# %% [markdown]
# <details><summary>Answer</summary>
#
# Without commitment nothing holds the vectors: in two of three seeds they wandered off to great
# lengths, the codes after them. In all three the pictures were worse than with 0.25, by 9 to 34
# nats. With too much of it all vectors huddle around the codes there are, wherever the pictures
# would like them to be. Between 0.1 and 1 the last column moves by a few nats only.
# </details>

# %% [markdown]
# ## Further: the bound beside the truth
#
# How far is (6) from the truth? With 4 words out of 8, a 2 x 2 grid, there are only $8^4=4096$
# sentences, and the sum can be done. The dots would lie on the line if the bound were exact.

# %%
seed_everything(0)
few = {**options, "halvings": 2}
tiny = CodedModel(
    fit(VQVAE(shape, quantiser=VectorQuantiser(8, 8), **few), x_train, budget(300, 10)),
    Arranged(GPT(8, 4, layers=2, heads=2, width=32), (4,), (2, 2)),
)
with torch.no_grad():
    told = tiny.autoencoder.encode(x_train)
fit(tiny.prior, told, budget(200, 10))
eight = torch.arange(8)
every = torch.cartesian_prod(eight, eight, eight, eight).view(-1, 2, 2)
with torch.no_grad():
    pixels = tiny.autoencoder.decode(every).base_dist
    values = torch.stack([pixels.log_prob(v) for v in torch.arange(levels)])
    table = values.flatten(2).permute(1, 2, 0).flatten(1)  # (4096, 64 x 17): log p(v | c)
    ink = nn.functional.one_hot(x_test.flatten(1).long(), levels).flatten(1).float()
    joint = ink @ table.T + tiny.prior.log_prob(every)  # (256, 4096): log p(x, c)
    exact, best = joint.logsumexp(1), joint.max(1).values
    bound = tiny.eval().elbo(x_test)
assert (bound <= exact + 1e-3).all()
(ax,) = plot.panels("256 test digits, 4,096 sentences", width=3.6)
ax.scatter(exact, bound, s=6, color=plot.BLUE)
ax.axline((-100, -100), slope=1, color=plot.GREY)
ax.set(xlabel="log p(x), exact (nats)", ylabel="elbo(x) (nats)")
gap = exact - bound
print(
    f"-elbo {-bound.mean():.2f} nats, -log p(x) {-exact.mean():.2f}: gap {gap.mean():.2f}"
)
print(f"the model's own p(c(x) | x), median: {(-gap).exp().median():.2f}")
likeliest = (bound > best - 1e-3).float().mean()
print(
    f"the encoder names the likeliest sentence of {likeliest:.0%} of the digits; ", end=""
)
print(f"to name it always would leave a gap of {(exact - best).mean():.2f} nats")

# %% [markdown]
# The gap is small beside the whole, but it is not nothing, and most pictures have several
# good sentences: the model gives the one that the encoder chose a modest share. Mostly that is
# not even the likeliest, and a better choice would close part of the gap.

# %% [markdown]
# ## Further: what is in a name?
#
# To a PixelCNN a pixel is a *number*, 7 lies between 6 and 8. But the names of the codes are
# arbitrary! The GPT has a vector for every token and does not care. For a PixelCNN as the prior
# we can at least name the codes well: in their order along the codebook's main direction, so
# that neighbours get neighbouring numbers. **Predict**: who gains from that?


# %%
def renamed(quantiser, codes):
    """Return codes under new names, in order along the codebook's principal direction."""
    centred = quantiser.codebook - quantiser.codebook.mean(0)
    place = (centred @ torch.linalg.svd(centred).Vh[0]).argsort().argsort()
    return place[codes]


def pixel_prior(codes):
    """Fit a PixelCNN to grids of codes."""
    seed_everything(0)
    net = PixelCNN((1, *vqvae.grid), K, features=32, layers=2, size=3)
    return fit(Arranged(net, (1, *vqvae.grid), vqvae.grid), codes, budget(400, 10))


sort = lambda c: renamed(vqvae.quantiser, c)
with torch.no_grad():
    told, test_told = vqvae.encode(x_train), vqvae.encode(x_test)
rates = {
    "PixelCNN, arbitrary names": log_probs(pixel_prior(told), test_told),
    "PixelCNN, sorted names": log_probs(pixel_prior(sort(told)), sort(test_told)),
    "GPT": log_probs(prior, test_told),
}
for name, log_p in rates.items():
    nats, error = estimate(-log_p)
    print(f"{name:27s} {nats:6.2f} +- {error:.2f} nats per grid")


# %% [markdown]
# Sorted names help the PixelCNN. The GPT needs no such help, for other names would only permute its
# vectors; and it is ahead.

# %% [markdown]
# ## Further: rounding, and digits as colours
#
# The class of section 9 has the face of `VectorQuantiser`, so the autoencoder does not notice.
# Codes and digits are the same thing in two spellings.


# %% tags=["from:vae.fsq.FiniteScalarQuantiser"]
class FiniteScalarQuantiser(nn.Module):
    """Round each of D numbers to one of its levels: (7), with the same face as a codebook.

    The codes are the points of a grid, none of which is learnt, moves or dies. Digit d has
    levels[d] >= 2 values; a code is all digits as one number, the first the smallest place.
    Reference: Mentzer, Minnen, Agustsson, Tschannen (2023). arXiv:2309.15505.
    """

    def __init__(self, levels: Sequence[int] = (8, 5, 5, 5)):
        super().__init__()
        validate.at_least(2, levels=levels)
        validate.at_least(1, digits=len(levels))
        self.K, self.D = math.prod(levels), len(levels)
        place = [math.prod(levels[:d]) for d in range(len(levels))]
        self.register_buffer("levels", torch.tensor(levels), persistent=False)
        self.register_buffer("place", torch.tensor(place), persistent=False)
        self.register_buffer("one", torch.tensor(1.0), persistent=False)  # has the dtype

    def digits(self, codes: Tensor) -> Tensor:
        """Return the digits of codes: (*B,) -> (*B, D), int64."""
        return validate.codes(codes, self.K)[..., None] // self.place % self.levels

    def code(self, digits: Tensor) -> Tensor:
        """Return the codes of digits: (*B, D) -> (*B,), int64."""
        return (whole_digits(digits, self.levels) * self.place).sum(-1)

    def scale(self, digits: Tensor) -> Tensor:
        """Spread the digits 0..L-1 evenly over [-1, 1]: (*B, D) -> (*B, D)."""
        return 2 * digits * self.one / (self.levels - 1) - 1

    def lookup(self, codes: Tensor) -> Tensor:
        """Return the grid points of codes: (*B,) -> (*B, D)."""
        return self.scale(self.digits(codes))

    def forward(self, z: Tensor) -> Quantised:
        """Quantise (*B, D): grid points (*B, D), codes (*B,), and a penalty of 0 (*B,)."""
        u = squash(precise(validate.vectors(z, self.D)), self.levels)
        digits = u.detach().round().clamp_min(0).minimum(self.levels - 1)  # if saturated
        q = self.scale(straight_through(u, digits))
        return q, self.code(digits), torch.zeros_like(q[..., 0])


# %% [markdown]
# What does the grid cost? For evenly spread vectors in the plane, squares instead of
# hexagons: a mean squared error of $\frac16 A$ instead of $\frac{5}{18\sqrt3}A$, 4 % more.
# In no dimension is it more than a factor $\pi e/6 = 1.42$, a quarter of a bit per number.
# An encoder that can bend space pays little for that.
#
# And the digits have an *order*: 2 does lie between 1 and 3. So they can be given to a
# PixelCNN as the colours of a pixel, no renaming needed. `Spelt` does that: the same codes
# in the other spelling, hence the same probability.


# %%
seed_everything(0)
fsq = FiniteScalarQuantiser((4, 4))
grid_vae = fit(VQVAE(shape, quantiser=fsq, **options), x_train, steps)
with torch.no_grad():
    codes = grid_vae.encode(x_train)
print(f"perplexity {perplexity(codes, fsq.K):.1f} of {fsq.K}")
colours = Spelt(PixelCNN((2, 4, 4), 4, features=32, layers=2, size=3), fsq)
sentences = Arranged(GPT(K, 16, layers=2, heads=2, width=48, dropout=0.1), (16,), (4, 4))
rounded = [
    CodedModel(grid_vae, fit(p_c, codes, budget(400, 10))) for p_c in (colours, sentences)
]
bill(VQ_GPT_prior=model, FSQ_digits_as_colours=rounded[0], FSQ_GPT_prior=rounded[1])
seed_everything(0)
drawn = rounded[1].prior.sample(40)
_ = plot.image_grid(grid_vae.decode(drawn).mean.detach(), columns=20, vmax=levels - 1)


# %% [markdown]
# ## Further: MNIST in sixteen words
#
# The same classes on 28 x 28 pixels, with perceptrons in place of the convolutions, which
# learn more in a few minutes without a GPU: a sentence of 16 words out of 64 for the whole
# picture, each of which sees all of it. A GPT is the prior. Both were trained **at once**.
# That is allowed: codes are whole numbers, so no gradient of the prior reaches the
# autoencoder. The data are the *fixed* binarised digits of the lecture on NADE; only there
# do the nats compare.

# %%
name = "vae/vqvae-mnist-cpu"
if checkpoints.available(name):
    mnist = checkpoints.load(name)
    seed_everything(0)
    began = time.perf_counter()
    c = mnist.prior.sample(40)
    print(f"40 sentences of 16 words in {time.perf_counter() - began:.2f} s")
    _ = plot.image_grid(mnist.autoencoder.decode(c).mean.detach(), columns=20)
else:
    print(f"no checkpoint yet: 'gdm train {name}' makes it")
for other in (name, "autoregressive/made-mnist-cpu", "vae/vae-mnist-cpu"):
    if checkpoints.available(other):
        card = checkpoints.card(other)
        print(f"{other}: {card['parameters']:,} parameters, {card['seconds']:.0f} s")
        for f in card["figures"]:
            if f["split"] == "test":
                what = f"{f['value']:.5g} +- {f['error']:.1g} {f['unit']}"
                print(f"    {f['metric']}: {what}")
