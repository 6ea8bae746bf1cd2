# %% [markdown]
# # Exercises: half of it stays
#
# Six short pieces of code, from one coupling layer to the bound for codes. Under each stands
# a check that runs *your* function on fresh inputs and compares. A red line names the wrong
# property; a plausible mistake gets a hint. Nothing depends on an unanswered question: later
# cells use the course's own code.

# %% [markdown] tags=["nav"]
# before this: [Change of variables: planar and radial flows](../../lectures/flows/planar.ipynb) ·
# [lecture](../../lectures/flows/realnvp.ipynb) ·
# [exercise](../../exercises/flows/realnvp.ipynb)

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
from torch.autograd.functional import jacobian
from torch.distributions import MultivariateNormal

from gdm_course import plotting as plot
from gdm_course.checks.flows import realnvp as check
from gdm_course.data import images, toy
from gdm_course.flows import dequantisation, glow
from gdm_course.training import budget, forever, seed_everything, train

plot.style()

# %% [markdown]
# ## 1. A coupling under a mask
#
# Where the mask is 1, $x$ passes; elsewhere it is scaled and shifted:
#
# $$z = m\,x + (1-m)\bigl(x\,e^{s} + t\bigr),\qquad
#   \log|\det| = \sum_d (1-m_d)\,s_d.$$
#
# The network has been run for you: $s$ and $t$ are given for *all* dimensions, also for
# those where they must not count.


# %%
def coupling_forward(x, mask, s, t):
    """Apply an affine coupling.

    Args:
        x: (B, D).
        mask: ones where x passes, zeros elsewhere, (D,).
        s, t: log scale and shift, (B, D).

    Returns:
        z (B, D) and log_det (B,).
    """
    ### BEGIN SOLUTION
    free = 1 - mask
    return x * (free * s).exp() + free * t, (free * s).sum(-1)
    ### END SOLUTION


# %%
check.coupling_forward(coupling_forward)

# %% [markdown]
# ## 2. And back
#
# The inverse reads the same $s$ and $t$, since what passed is still there. Return the
# log-determinant *of the inverse*.


# %%
def coupling_inverse(z, mask, s, t):
    """Undo an affine coupling.

    Args:
        z: (B, D).
        mask: ones where x passed, zeros elsewhere, (D,).
        s, t: log scale and shift, (B, D).

    Returns:
        x (B, D) and log_det (B,) of the map from z to x.
    """
    ### BEGIN SOLUTION
    free = 1 - mask
    return (z - free * t) * (-free * s).exp(), -(free * s).sum(-1)
    ### END SOLUTION


# %%
check.coupling_inverse(coupling_inverse)

# %% [markdown]
# An independent oracle: your two functions with a network in them, against autograd. The
# Jacobian is triangular once the kept dimensions come first.

# %%
seed_everything(0)
mask, net = torch.tensor([0.0, 1, 0, 1, 1]), torch.nn.Linear(5, 10)


def mine(x):
    """One coupling layer of your making: (5,) -> (5,)."""
    s, t = net(x * mask).chunk(2)
    return coupling_forward(x[None], mask, s[None], t[None])


x = torch.randn(5)
try:
    J = jacobian(lambda x: mine(x)[0][0], x)
    order = (1 - mask).argsort(stable=True)
    (ax,) = plot.panels("kept dimensions first", width=3.8)
    picture = ax.imshow(J[order][:, order], cmap="RdBu", vmin=-1.5, vmax=1.5)
    ax.set(xlabel="x dimension", ylabel="z dimension")
    _ = ax.figure.colorbar(picture, ax=ax, label="derivative", shrink=0.8)
    print(f"yours {mine(x)[1].item():.5f}, autograd {J.slogdet()[1]:.5f}")
except NotImplementedError:
    print("(write coupling_forward first)")

# %% [markdown]
# ## 3. The floor of additive flows
#
# The lecture showed that no flow in the plane whose log-determinant is constant can come
# closer to a truth $p^*$ than
#
# $$1 + \log\mathbb E_{p^*}[A(x)] - H(p^*)\quad\text{nats},$$
#
# where $A(x)$ is the area of the region in which the truth is at least $p^*(x)$. You are
# given $p^*$ on many small cells of equal area $a$, as `p`, so that $\sum_i p_i\,a = 1$. Sort
# the cells; the area of the first $i$ of them is $i\,a$. Write it from the formula, without
# a look at the lecture's code.


# %%
def additive_floor(p, area):
    """Return the least KL from p to any flow with a constant log-determinant.

    Args:
        p: the true density in n cells, positive, in any order, (n,).
        area: of one cell, a number.

    Returns:
        A number, in nats.
    """
    ### BEGIN SOLUTION
    p = p.sort(descending=True).values
    A = torch.arange(1, len(p) + 1).to(p) * area
    entropy = -(p * p.log()).sum() * area
    return 1 + ((p * A).sum() * area).log() - entropy
    ### END SOLUTION


# %%
check.additive_floor(additive_floor)

# %% [markdown]
# A Gaussian is its own best Gaussian hill, however it is stretched: its floor is 0. A uniform
# density has the floor $1-\log 2$ (do the integral). Which of the toy densities are hard for
# additive flows?

# %%
skewed = MultivariateNormal(torch.zeros(2), torch.tensor([[2.0, 1.2], [1.2, 1.0]]))
try:
    at, area = toy.cells(((-9, 9), (-7, 7)), 400)
    p = skewed.log_prob(at.float()).double().exp().clamp_min(1e-200)
    gaussian = additive_floor(p, area)
    flat = additive_floor(torch.ones(10_000).double(), 1e-4)
    print(
        f"a stretched Gaussian {gaussian:.4f}, uniform {flat:.4f} = {1 - math.log(2):.4f}"
    )
    for name in ("banana", "ring", "two_moons", "word", "checkerboard"):
        at, area = toy.get(name).cells(400)
        p = toy.get(name).log_prob(at).exp().clamp_min(1e-200)
        print(f"{name:14s} {additive_floor(p, area):.3f} nats")
except NotImplementedError:
    print("(write additive_floor first)")

# %% [markdown]
# ## 4. ActNorm's start
#
# ActNorm computes $z = (x - m)\,e^{\ell}$ with one $m$ and one $\ell$ per *channel*, and
# takes both from the first batch, such that each channel of $z$ has mean 0 and variance 1
# over all images and pixels. (Whether a variance of $n$ numbers divides by $n$ or $n-1$
# makes no difference here: the check takes both.)


# %%
def actnorm_start(x):
    """Return mean and log scale for a batch of images.

    Args:
        x: (B, C, H, W).

    Returns:
        mean (C,) and log_scale (C,).
    """
    ### BEGIN SOLUTION
    flat = x.transpose(0, 1).flatten(1)  # (C, B H W)
    return flat.mean(1), -flat.std(1).log()
    ### END SOLUTION


# %%
check.actnorm_start(actnorm_start)

# %% [markdown]
# ## 5. The matrix of a 1x1 convolution
#
# (The lecture's section *Further: images, and Glow* prepares this question, at "Mixing
# channels"; what you need of it stands here, too.)
#
# Swapping halves is not the only way to let dimensions change places. Glow (2018), a flow for
# images, multiplies the $C$ channels of every pixel by one learned $C\times C$ matrix $W$: a
# $1\times1$ convolution. It writes the matrix as
#
# $$W = P\,L\,\bigl(U + \mathrm{diag}(\mathrm{sign}\cdot e^{d})\bigr),$$
#
# with $L$ lower triangular with *ones* on its diagonal and $U$ upper triangular with *zeros*
# there. The parameters are full matrices: use only what belongs to $L$ and $U$. Return $W$
# and the log-determinant of the convolution on images of $H\times W$ pixels.


# %%
def lu_matrix(P, lower, upper, sign, log_d, H, W):
    """Return the matrix of a 1x1 convolution and its log-determinant.

    Args:
        P: permutation, (C, C).
        lower, upper: parameters, full matrices, (C, C).
        sign: +1 or -1, (C,).
        log_d: (C,).
        H, W: pixels.

    Returns:
        The matrix (C, C) and log |det| of the map of a whole image, a number.
    """
    ### BEGIN SOLUTION
    L = lower.tril(-1) + torch.eye(len(P)).to(lower)
    U = upper.triu(1) + torch.diag(sign * log_d.exp())
    return P @ L @ U, H * W * log_d.sum()
    ### END SOLUTION


# %%
check.lu_matrix(lu_matrix)

# %% [markdown]
# Take a convolution of the course apart, put it together with your function, and ask torch
# for the determinant:

# %%
seed_everything(0)
conv = glow.InvertibleConv(8)
for p in conv.parameters():
    p.data += 0.2 * torch.randn_like(p)
try:
    with torch.no_grad():
        matrix, log_det = lu_matrix(
            conv.P, conv.lower, conv.upper, conv.sign, conv.log_d, 1, 1
        )
    print(f"yours {log_det:.5f}, torch {matrix.slogdet()[1]:.5f}")
except NotImplementedError:
    print("(write lu_matrix first)")

# %% [markdown]
# ## 6. Two bounds for codes
#
# Codes $x\in\{0,\dots,K-1\}^D$ were given noise $k$ times. You have $\log p$, the flow's log
# density of $(x+u)/K$, and $\log q(u\mid x)$, the log density of the noise, of every draw.
# (Of the lecture's uniform noise it is 0.) With
#
# $$w = \log p - D\log K - \log q,$$
#
# the mean of $w$ over draws is the bound of the lecture, and $\log\frac1k\sum_i e^{w_i}$ is a
# tighter one (the lecture's section *Further: a class for codes, and a tighter bound* says
# why). Return both, in the log domain: $w$ may be $-4{,}000$ for one image and $2{,}000$ for
# the next, and no float holds $e^{2000}$. `torch.logsumexp` computes $\log\sum_i e^{w_i}$ as
# $m + \log\sum_i e^{w_i - m}$, where $m$ is the largest $w_i$.


# %%
def code_bounds(log_p, log_q, K, D):
    """Return two lower bounds of log P(x).

    Args:
        log_p: log density of (x + u) / K, (k, B).
        log_q: log density of the noise, (k, B).
        K: number of values of a code.
        D: dimensions of x.

    Returns:
        The mean bound (B,) and the tighter one (B,), in nats.
    """
    ### BEGIN SOLUTION
    w = log_p - D * math.log(K) - log_q
    return w.mean(0), torch.logsumexp(w, dim=0) - math.log(len(w))
    ### END SOLUTION


# %%
check.code_bounds(code_bounds)

# %% [markdown]
# How much do more draws buy on digits? A small Glow with uniform noise, a few hundred steps;
# then both bounds for 1 to 32 draws, by *your* function. The lower curve keeps its level
# (more draws only make it quieter), the upper one climbs towards $\log P$.

# %%
digits = images.load("digits")
seed_everything(0)
model = dequantisation.DequantisedGlow((1, 8, 8), 17, steps=2, hidden=32)
for _ in train(model, forever(digits.x_train, 64), budget(300, 10), lr=2e-3, clip=50.0):
    pass
model.eval()
with torch.no_grad():
    x = digits.x_test.float()
    log_p = []
    for _ in range(32):
        z, slope = model.logit((x + torch.rand_like(x)) / 17)
        log_p.append(model.flow.log_prob(z) + slope)
    log_p = torch.stack(log_p)  # (32, N)
draws = [1, 2, 4, 8, 16, 32]
try:
    both = [code_bounds(log_p[:k], 0 * log_p[:k], 17, 64) for k in draws]
    series = {
        "mean of w": [low.mean().item() for low, _ in both],
        "log mean exp w": [high.mean().item() for _, high in both],
    }
    ax = plot.curves(series, x=draws, xlabel="draws k", ylabel="nats per digit")
    ax.set_xscale("log", base=2)
except NotImplementedError:
    print("(write code_bounds first)")

# %% [markdown]
# ## Further, without a check
#
# 1. **Which half?** Train `realnvp.RealNVP(2)` on the funnel of `data.toy` with *one*
#    coupling, once as it is and once with the axes of the data swapped. Explain the KL.
# 2. **A floor for blocks.** With one scale *per dimension* at the end, NICE can choose
#    widths, but the product of scales is still one constant. Does the floor change?
# 3. **Which noise?** Give `DequantisedGlow` two or more `noise_layers` and compare
#    `bound_bits` on the validation split at equal training time. Where on the digits is the
#    learned noise farthest from uniform?
# 4. **Typical or likely?** Invert, blur and blacken the test digits, draw uniform noise, and
#    score all these images and the digits by the model's elbo. Then score them by the distance of
#    $-$elbo from its *mean over training digits* instead. Which of the five sets does each
#    score tell apart, and which not?
