# %% [markdown]
# # What a code is worth: beta-VAE and InfoVAE
#
# A variational autoencoder pays for what its code says, nat by nat. In this lecture you set the
# price. You will see which model a price selects, and what a nat buys.

# %% [markdown] tags=["nav"]
# 58 minutes, and 29 further ·
# before this: [What you do not see: the variational autoencoder](vae.ipynb) ·
# [exercise](../../exercises/vae/beta_vae.ipynb) ·
# [solution](../../solutions/vae/beta_vae.ipynb)
#
# previous: [What you do not see: the variational autoencoder](vae.ipynb) ·
# [all units](../index.ipynb) ·
# next: [A dictionary of pictures: VQ-VAE and finite scalar quantisation](vqvae.ipynb)

# %% tags=["setup"]
import importlib.util

if importlib.util.find_spec("gdm_course") is None:
    raise ImportError(
        "the package gdm_course is not installed here: run 'make lab' in the course's "
        "folder, or 'pip install -e .[lab]', and choose that environment as the kernel"
    )

# %%
import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, Normal

from gdm_course import (
    checkpoints,
    protocols,
    schematics,
    validate,  # refuses, in one sentence, what does not fit
)
from gdm_course import plotting as plot
from gdm_course.data import images, shapes
from gdm_course.divergences import mmd2  # of two samples, by the Gaussian kernel
from gdm_course.evaluation.disentanglement import discretise, entropy, information_matrix
from gdm_course.evaluation.likelihood import estimate  # a mean and its standard error
from gdm_course.training import budget, forever, full_run, seed_everything, train
from gdm_course.vae.beta_vae import RateDistortion
from gdm_course.vae.decoders import AutoregressivePixels, GaussianPixels
from gdm_course.vae.vae import VAE, LatentModel, StandardNormal, gaussian_kl, latent_kl
from gdm_course.widgets import play, watch

plot.style()

# %% [markdown]
# ## 1. The question
#
# Each picture shows one shape, and six numbers decide all of it: shape, colour, size, rotation,
# and place, across and down. We see only the pictures, 768 bits each. Can a model find the six
# numbers, and give each a dimension of its own?
#
# Such a code is called **disentangled**: one could turn one knob at a time. Nobody promised that
# maximum likelihood delivers it. But we made the pictures, so we can measure. In the figure, each
# row changes one factor.

# %% tags=["fold"]
# @title Six factors, one for each row
pictures = shapes.to_bits(shapes.draw_some(10_000, size=16, seed=0)[0])
rows = []
for f, count in enumerate(shapes.FACTORS.values()):
    one = torch.tensor([0, 0, 2, 0, 3, 4]).repeat(8, 1)  # a picture to start from
    one[:, f] = (torch.linspace(0, count - 1, 8) + 0.5).long()
    rows.append(shapes.to_bits(shapes.draw(one, 16)))
ax = plot.image_grid(torch.cat(rows), columns=8)
for row, (name, count) in enumerate(shapes.FACTORS.items()):
    ax.text(-2, 17 * row + 8, f"{name} ({count})", ha="right", va="center")
print(
    f"{len(pictures):,} pictures; {shapes.every().shape[0]:,} settings of the factors; "
    f"{pictures[0].numel()} bits"
)

# %% [markdown]
# The models are Trainable and Samplers, and know only the bound `elbo`.
#
# ## 2. The idea
#
# A code is a wire with noise on it. The encoder answers with a cloud, $q(z\mid x)$, and the decoder
# receives one point of it. To tell eight pictures apart at the other end one must send eight clouds
# that do not overlap. Narrow clouds are expensive: each is far from the prior, and the KL is what it
# costs.

# %% tags=["fold"]
# @title Eight clouds on one wire, three times
place = Normal(0.0, 1.0).icdf((torch.arange(8) + 0.5) / 8)  # eight pictures on the wire
titles, sharpness = ("loud", "quiet", "silent"), (0.99, 0.8, 0.0)
axes = plot.panels(*titles, width=3.4, height=2.4)
for ax, title, a in zip(axes, titles, sharpness):
    mu, sigma = a * place, (1 - a**2) ** 0.5
    for m in mu:
        plot.density_1d(Normal(m, sigma).log_prob, (-3, 3), ax)
    log_sigma = torch.full((8,), math.log(sigma))
    cost = gaussian_kl(mu, log_sigma).mean()
    ax.set_title(f"{title}: {cost:.2f} nats", loc="left")
    ax.set(xlabel="code z", yticks=[], ylabel="q(z | x), eight pictures")

# %% [markdown]
# Each panel's clouds together cover about the prior; the loud ones overlap least. How many nats
# should one spend? What do they buy? And who says along *which axis* the clouds lie?
#
# **Question 1.** The eight pictures are equally likely. How many nats can their code *say* at
# most, whatever it costs?
#
# <details><summary>Answer</summary>
#
# $\log 8 = 2.08$: then one knows which of the eight it was. A code can cost more; what the rest
# pays for is the subject of section 5.
# </details>

# %% [markdown] tags=["notes"]
# 6 minutes for sections 1 and 2. Ask what the third panel lets the decoder say (the average of
# all pictures, always). Wrong answer to expect to Question 1: "infinitely many, z is a real
# number". Leave out the names of the factors.

# %% [markdown]
# ## 3. Rate, distortion, price
#
# The **rate** $R$ is what the code costs, the **distortion** $D$ what is still unknown once it
# arrived:
#
# $$R = \mathbb E_x\,\mathrm{KL}\bigl(q(z\mid x)\,\|\,p(z)\bigr),\qquad
#   D = \mathbb E_x\,\mathbb E_{q(z\mid x)}\bigl[-\log p(x\mid z)\bigr],\qquad
#   -\mathrm{ELBO} = D + R, \tag{1}$$
#
# averaged over data, in nats. (In docstrings, $D$ also counts the pixels.) A VAE exchanges a nat of one for a nat of the other. **Beta-VAE**
# (Higgins and others, 2017) sets another price:
#
# $$\text{loss} = D + \beta\,R. \tag{2}$$
#
# A tiny example: $D = 20$, $R = 5$ against $D = 25$, $R = 1$. At $\beta = 1$ the losses are 25 and
# 26, at $\beta = 4$ they are 40 and 29: the dear price prefers the quiet model.

# %% [markdown]
# In code it is one more number; in the drawing, one more sign.


# %% tags=["from:vae.beta_vae.BetaVAE"]
class BetaVAE(VAE):
    """A VAE of vectors (B, D) that pays beta for every nat of the code: (2).

    loss = -E log p(x | z) + beta KL(q(z | x) || p(z)). With beta = 1 it is the VAE; `elbo`
    is the bound on log p(x) whatever beta is.

    Args:
        D: number of dimensions of x.
        beta: price of a nat of rate, in nats of distortion.
        latent, hidden, observation, prior: as in `VAE`.
    """

    def __init__(
        self,
        D: int,
        *,
        beta: float = 4.0,
        latent: int = 10,
        hidden: Sequence[int] = (400,),
        observation: nn.Module | None = None,
        prior: nn.Module | None = None,
    ):
        super().__init__(
            D, latent=latent, hidden=hidden, observation=observation, prior=prior
        )
        self.beta = beta

    def loss(self, x: Tensor) -> Tensor:
        """Return the mean distortion + beta rate, one draw of z each, in nats."""
        log_p, kl = self.terms(x)
        return (self.beta * kl.sum(-1) - log_p).mean()


# %% tags=["fold"]
# @title A VAE with a price on the rate
bits = pictures.flatten(1)
seed_everything(0)
cheap = BetaVAE(768, beta=1.0)
schematics.vae(cheap, bits[:16])

# %%
plain = VAE(768, latent=10)
plain.load_state_dict(cheap.state_dict())
losses = []
for model in (cheap, plain):
    seed_everything(1)  # the same noise
    losses.append(model.loss(bits[:100]).item())
assert losses[0] == losses[1]
print(f"beta = 1: {losses[0]:.3f} nats; the VAE: {losses[1]:.3f}")
print(protocols.abilities(cheap))

# %% [markdown]
# `elbo` stays the bound on $\log p(x)$, whatever was minimised. Where does a model stand?


# %% tags=["from:vae.beta_vae.rate_and_distortion"]
@torch.no_grad()
def rate_and_distortion(model: LatentModel, x: Tensor, draws: int = 1) -> RateDistortion:
    """Measure (1): R = mean KL(q(z | x) || p(z)) and D = mean -log p(x | z).

    Args:
        model: any VAE, in the mode it is in.
        x: (B, *shape).
        draws: of z per example, to average the distortion.
    """
    validate.at_least(1, draws=draws)
    terms = [model.terms(x) for _ in range(draws)]
    rate = torch.stack([kl.sum(-1).mean() for _, kl in terms]).mean()
    return RateDistortion(rate, torch.stack([-log_p.mean() for log_p, _ in terms]).mean())


# %% [markdown]
# Draw every model as a point $(R, D)$. Some points are out of reach. The bound is below
# $\log p(x)$, and on average no model tells data a higher log-probability than minus their
# entropy $H$ (the difference is a KL). Hence
#
# $$D + R \;\ge\; -\mathbb E\log p(x) \;\ge\; H. \tag{3}$$
#
# (For densities, $H = -\int p\log p$.) **All points of the line $D + R = H$ have the same
# bound**: at one end the code says nothing, at the other everything, and the ELBO cannot tell them
# apart (Alemi and others, 2018). $\beta$ can. Models of equal loss (2) lie on a line of slope
# $-\beta$. To minimise the loss is to slide it down to the last point that our networks can reach.
#
# ## 4. A curve in closed form, and its tangent
#
# One case where the best curve is known. A source sends Gaussian numbers $x\sim\mathcal N(0, v)$,
# and we allow a mean squared error $d \le v$. By Shannon (1959) the code must carry at least
# $\frac12\log\frac vd$ nats, and a *linear* VAE attains it; a further section proves both. With
# $v = 4$ and $d = 1$ that is $\log 2$: one bit halves the typical error.
#
# With independent directions of variance $v_i$ and a Gaussian decoder of fixed
# $\sigma$, (2) reads $\sum_i\bigl[\frac{d_i}{2\sigma^2} +
# \beta\,\frac12\log\frac{v_i}{d_i}\bigr]$ up to a constant. Its derivative in $d_i$ is zero
# at $d_i = \beta\sigma^2 = \theta$: **every direction gets the same error**. A direction with
# $v_i$ below that level is not worth a word, $d_i = v_i$:
#
# $$R = \sum_i\max\Bigl(0,\ \tfrac12\log\frac{v_i}{\theta}\Bigr),\qquad
#   \text{error} = \sum_i\min(v_i, \theta). \tag{4}$$


# %% tags=["from:vae.beta_vae.gaussian_rate_distortion"]
def gaussian_rate_distortion(variances: Tensor, level: Tensor | float) -> RateDistortion:
    """The best rate at which independent Gaussians can be told, up to an error: (4).

    Directions with a variance above the level are told up to an error of `level`, each for
    log(variance / level) / 2 nats; those below are not told at all.

    Args:
        variances: of the source's independent directions, (D,).
        level: theta, the error allowed per direction; any shape (*B).

    Returns:
        The rate in nats and the mean squared error summed over directions, each (*B).

    References:
        Shannon (1959). Coding theorems for a discrete source with a fidelity criterion.
        Cover, Thomas (2006). Elements of information theory, section 10.3.3.
    """
    theta = torch.as_tensor(level, dtype=variances.dtype)[..., None]
    rate = (variances / theta).log().clamp_min(0).sum(-1) / 2
    return RateDistortion(rate, torch.minimum(variances, theta).sum(-1))


# %% [markdown]
# Picture $\theta$ as a water level: what stands out of the water is told. Now train six linear
# beta-VAEs from random weights. No $v_i$ is below $\sigma^2 = \frac14$, so a linear VAE can
# *be* the source, and reach the line $D + R = H$.
#
# **Predict 1, before you run.** The variances are 4, 1 and 0.25. How many latent dimensions are
# in use at $\beta = 2$? And for which $\beta$ does the tangent lie on the line $D + R = H$?


# %% tags=["train"]
variances, noise = torch.tensor([4.0, 1.0, 0.25]), 0.5  # of x; and sigma of the decoder
linear_prices = (2.0, 0.1, 0.3, 1.0, 6.0, 20.0)
linear_steps = budget(800, 10)


def linear_vae(beta):
    """Train a linear beta-VAE of fixed sigma on the Gaussian source."""
    seed_everything(0)
    pixels = GaussianPixels(noise).requires_grad_(False)
    model = BetaVAE(3, beta=beta, latent=3, hidden=(), observation=pixels)
    source = (torch.randn(256, 3) * variances.sqrt() for _ in range(linear_steps))
    for _ in train(
        model, source, linear_steps, lambda step: 0.03 * (1 - step / linear_steps)
    ):
        pass
    return model


def best(level):
    """R and D in nats of the best code at a water level: (4), with the constant of (1)."""
    rate, error = gaussian_rate_distortion(variances, level)
    return rate, error / (2 * noise**2) + 1.5 * math.log(2 * math.pi * noise**2)


source_entropy = (2 * math.pi * math.e * variances).log().sum().item() / 2
linear = {beta: linear_vae(beta) for beta in linear_prices}
seed_everything(1)
x = torch.randn(20_000, 3) * variances.sqrt()
landed = [rate_and_distortion(model, x) for model in linear.values()]
assert all(r + d > source_entropy - 0.1 for r, d in landed)  # (3); 0.1 for 20,000 draws
used = linear[2.0].terms(x)[1].mean(0).tolist()
print("beta = 2, nats per latent dimension:", ", ".join(f"{nats:.2f}" for nats in used))
print(f"beta = 1: best D + R {sum(best(noise**2)):.3f}; H {source_entropy:.3f} nats")


def tangent(beta):
    """Draw the water level, and the line of slope -beta where it touches the curve."""
    level = beta * noise**2
    water, plane = plot.panels(f"beta = {beta:g}: told, and under water", "", width=4.2)
    water.bar(range(3), variances, color=plot.SKY)
    water.bar(range(3), variances.clamp_max(level), color=plot.BLUE)
    water.axhline(level, color=plot.BLACK, linestyle="--")
    water.set(xlabel="direction", ylabel="variance", xticks=range(3), ylim=(0, 5.2))
    plane.plot(*best(torch.logspace(-1.8, 0.8, 300)), color=plot.BLACK, label="best, (4)")
    plane.plot(*zip(*landed), "o", color=plot.ORANGE, label="trained")
    at = torch.tensor([-0.2, 6.0])
    plane.plot(at, source_entropy - at, "--", color=plot.GREY, label="D + R = H")
    rate, distortion = best(level)
    touching = distortion + beta * (rate - at)
    plane.plot(at, touching, color=plot.BLUE, label=f"slope -{beta:g}")
    plane.set_title(f"loss (2), at R = 0: {distortion + beta * rate:.2f}")
    plane.set(xlabel="rate (nats)", ylabel="distortion (nats)")
    plane.set(xlim=(-0.2, 6), ylim=(0, 13))
    plane.legend()


play(tangent, beta=[*linear_prices])


# %% [markdown]
# <details><summary>Answer</summary>
#
# Two: the level is $\beta\sigma^2 = 0.5$, and two variances stand out of it. And $\beta = 1$: there
# the best sum is $H$ itself, as printed. At every other price here $D + R$ is larger.
# </details>
#
# Move the slider. The tangent turns, and the point where it touches travels along the curve; at
# $R = 0$ you read the loss. The trained models stand on the curve or just above it.
#
# **Question 2.** In this section $\beta$ and $\sigma^2$ set the level only as a product. What
# is, then, a beta-VAE with a Gaussian decoder of fixed $\sigma$ and $\beta = 4$?
#
# <details><summary>Answer</summary>
#
# An ordinary VAE with $\sigma' = 2\sigma$. Divide the loss by $\beta$:
# $\frac{1}{\beta}\bigl(\frac{\text{error}}{2\sigma^2} + \beta R\bigr) =
# \frac{\text{error}}{2\beta\sigma^2} + R$. Rescaling pixels, or averaging the error over pixels,
# sets a $\beta$, too. With bits, or noise that is learnt, $\beta$ is a choice of its own.
# </details>

# %% [markdown] tags=["notes"]
# 18 minutes for sections 3 and 4. Draw the line D + R = H first and let the room place a VAE
# whose decoder ignores z (at R = 0) and one that copies everything. Wrong answer to expect to
# Predict 1: three dimensions, "all have variance". If time is short, leave the
# derivative behind (4) to reading.

# %% [markdown]
# ## 5. Surgery: what the rate buys
#
# Look at *all* codes together. Let $n$ be the number of a picture, drawn from $1..N$, and
#
# $$q(z) = \frac1N\sum_{n=1}^{N}q(z\mid x_n) \tag{5}$$
#
# the **aggregate posterior**: what arrives if you do not know which picture was
# sent. Multiply and divide inside the logarithm by $q(z)$ and by the product of its
# marginals $\prod_j q(z_j)$; the prior is a product too:
#
# $$R = \mathbb E_n\mathbb E_{q(z\mid x_n)}\log\Bigl[\frac{q(z\mid x_n)}{q(z)}\cdot
#   \frac{q(z)}{\prod_j q(z_j)}\cdot\prod_j\frac{q(z_j)}{p(z_j)}\Bigr]
#   = \underbrace{I(n;z)}_{\text{information}}
#   + \underbrace{\mathrm{KL}\Bigl(q(z)\,\Big\|\prod_j q(z_j)\Bigr)}_{\text{total
#   correlation}}
#   + \underbrace{\sum_j\mathrm{KL}\bigl(q(z_j)\,\|\,p(z_j)\bigr)}_{\text{marginals}}.
#   \tag{6}$$
#
# All are KLs, so none is negative. The first is what we *want*: what the
# code says about the picture, at most $\log N$. The second is waste if you hope for independent
# factors: dimensions that repeat each other. The third says that single dimensions do not
# look like the prior. The last two make $\mathrm{KL}(q(z)\,\|\,p(z))$: samples from the prior
# disappoint.
#
# **Question 3.** Two pictures, and two latent dimensions. Their clouds are tiny and far apart,
# at $(3, 3)$ and $(-3, -3)$. How large are information and total correlation?
#
# <details><summary>Answer</summary>
#
# Both $\log 2 = 0.69$ nats, printed below. The code says which of two pictures it was; and the first
# dimension tells the second, so the same bit is said twice.
# </details>


# %% tags=["from:vae.beta_vae.Surgery"]
class Surgery(NamedTuple):
    """The average KL in its three parts, in nats: (6)."""

    information: Tensor  # I(n; z): what the code says about which example it was
    correlation: Tensor  # KL(q(z) || prod_j q(z_j)): how far its dimensions depend
    marginals: Tensor  # sum_j KL(q(z_j) || p(z_j)): how far each is from the prior


# %% tags=["from:vae.beta_vae.log_densities"]
def log_densities(q: Distribution, z: Tensor) -> Tensor:
    """Return log q(z_ij | x_k) of every code i under every example k: (M, B, K).

    Args:
        q: of B examples, a diagonal Gaussian of K dimensions each.
        z: (M, K).
    """
    return Normal(q.base_dist.loc, q.base_dist.scale).log_prob(z[:, None])


# %% [markdown]
# (6) needs $\log q(z)$, a sum over all $N$ pictures. In training a batch of $B$ has to do. The
# code's own picture is certainly in the batch; the other $N-1$ are represented by the $B-1$ others:
#
# $$q(z)\approx\frac1N\,q(z\mid x_\text{own})
#   + \frac{N-1}{N}\cdot\frac1{B-1}\sum_{k\ne\text{own}}q(z\mid x_k). \tag{7}$$
#
# With $N = 4$ and a batch of 2, the own picture weighs $\frac14$, the one other $\frac34$.
# (7) is unbiased for $q(z)$, and exact if the batch is all the data. Its *logarithm* is biased
# downwards, by Jensen, so a small batch reports too much information.


# %% tags=["from:vae.beta_vae.log_aggregate"]
def log_aggregate(log_q: Tensor, own: Tensor, N: int) -> Tensor:
    """Estimate the log of q(z) = (1 / N) sum_n q(z | x_n) from a batch: (7).

    A code's own example counts 1 / N for certain. The other N - 1 are represented by the
    others in the batch, each with (N - 1) / (N (B - 1)). Unbiased for q(z); with the whole
    data set as the batch, exact. Its logarithm is biased downwards (Jensen).

    Args:
        log_q: log q(z_i | x_k), or of single dimensions, (M, B, *K).
        own: which example k every code was drawn from, int64 (M,).
        N: number of examples in the data set.

    Returns:
        (M, *K)
    """
    (M, B), own = log_q.shape[:2], validate.codes(own, log_q.shape[1], name="own")
    validate.at_least(min(B, 2), N=N)
    others = math.log(N - 1) - math.log(N * (B - 1)) if B > 1 else 0.0
    log_w = log_q.new_full((M, B), others)
    log_w[torch.arange(M, device=log_q.device), own] = -math.log(N) if B > 1 else 0.0
    return (log_q + log_w.view(M, B, *[1] * (log_q.ndim - 2))).logsumexp(1)


# %% tags=["from:vae.beta_vae.surgery"]
def surgery(q: Distribution, z: Tensor, log_prior: Tensor, N: int) -> Surgery:
    """Split the average KL of a batch into its three parts: (6), estimated by (7).

    Args:
        q: q(z | x) of the B examples of a batch.
        z: one code for each, drawn from it, (B, K).
        log_prior: log p(z), (B,).
        N: number of examples in the data set.
    """
    log_q = log_densities(q, z)  # (B, B, K)
    own = torch.arange(len(z), device=z.device)
    joint = log_aggregate(log_q.sum(-1), own, N)  # log q(z), (B,)
    product = log_aggregate(log_q, own, N).sum(-1)  # log of prod_j q(z_j)
    told = q.log_prob(z)
    parts = (told - joint, joint - product, product - log_prior)
    return Surgery(*(part.mean() for part in parts))


# %% [markdown]
# First the two pictures of Question 3. Then three pictures, few enough to integrate (6) on a grid:
# samples must agree, and the sum is the KL in closed form.

# %%
seed_everything(0)
prior = StandardNormal(2)
ends = Independent(Normal(torch.tensor([[3.0, 3.0], [-3.0, -3.0]]), 0.1), 1)
z = ends.sample()
twice = surgery(ends, z, prior.log_prob(z), N=2)
print("two pictures:", ", ".join(f"{n} {v:.2f}" for n, v in twice._asdict().items()))

mu = torch.tensor([[1.5, 0.5], [-1.0, -1.0], [0.2, 1.4]]).double()
sigma = torch.tensor([[0.5, 0.9], [0.8, 0.4], [0.6, 0.7]]).double()
q = Independent(Normal(mu, sigma), 1)
line = torch.linspace(-8, 8, 641, dtype=torch.float64)
cell = (line[1] - line[0]).item()
each = q.log_prob(torch.cartesian_prod(line, line)[:, None]).exp().view(641, 641, 3)
joint = each.mean(-1)  # q(z), (641, 641)
one, two = joint.sum(1) * cell, joint.sum(0) * cell  # its marginals
kl = lambda p, q: torch.xlogy(p, p / q).sum()
normal = Normal(0.0, 1.0).log_prob(line).exp()
truth = Surgery(
    kl(each, joint[..., None]) * cell**2 / 3,
    kl(joint, one[:, None] * two) * cell**2,
    (kl(one, normal) + kl(two, normal)) * cell,
)
seed_everything(0)
prior = prior.double()
draws = [surgery(q, z, prior.log_prob(z), N=3) for z in q.sample((4000,))]
for name, exact, samples in zip(Surgery._fields, truth, zip(*draws)):
    samples = torch.stack(samples)
    error = samples.std() / len(samples) ** 0.5
    assert abs(samples.mean() - exact) < 6 * error
    print(
        f"{name:12s} {exact:.4f} on the grid, {samples.mean():.4f} +- {error:.4f} sampled"
    )
closed = gaussian_kl(mu, sigma.log()).sum(-1).mean()
assert abs(sum(truth) - closed) < 1e-6
print(f"sum          {sum(truth):.4f}, closed form {closed:.4f}")

# %% [markdown]
# Beta-VAE charges $\beta$ for all three. If disentangled means *independent dimensions*,
# **beta-TCVAE** (Chen and others, 2018) taxes the right one:
#
# $$\text{loss} = D + I(n;z) + \beta\,\mathrm{TC} + \text{marginals}
#   = D + R + (\beta - 1)\,\mathrm{TC}. \tag{8}$$
#
# Further sections train it, and InfoVAE, whose information can be free.

# %% [markdown] tags=["notes"]
# 10 minutes for section 5. Cover the right side of (6) and ask what a nat of rate could
# be spent on. Wrong answer to expect to Question 3: 2 log 2 of information, "two dimensions, two
# bits". If time is short, leave the code of (7) to reading.

# %% [markdown]
# ## 6. Break it: a figure that measures its own ceiling
#
# A VAE and a beta-VAE of the shapes see the same pictures in the same order; only the price
# differs.


# %% tags=["train"]
def falling(steps, lr, warm):
    """A rate that rises to lr in `warm` steps, then falls to 0."""
    return lambda step: lr * min(1, (step + 1) / warm) * (1 - step / steps)


def fit(trainee, x, steps, lr=3e-3, B=128, warm=50):
    """Train to the end of such a rate, without a figure."""
    for _ in train(trainee, forever(x, B), steps, falling(steps, lr, warm)):
        pass
    return trainee.eval()


shape_steps = budget(2400, 10)
new = lambda beta: BetaVAE(768, beta=beta, latent=10, hidden=(128, 64))
models = {}
for name, beta in {"VAE": 1.0, "beta-VAE": 4.0}.items():
    seed_everything(0)
    models[name] = fit(new(beta), bits, shape_steps, lr=4e-3, B=64, warm=100)
fresh, fresh_factors = shapes.draw_some(4000, size=16, seed=1)
fresh = shapes.to_bits(fresh).flatten(1)
for name, model in models.items():
    r, d = rate_and_distortion(model, fresh)
    print(f"{name:9s} R {r:5.2f}  D {d:5.2f}  D + R {r + d:5.2f} nats, 4,000 pictures")

# %% [markdown]
# How dependent are their dimensions? Let (5) be the sum over $N$ pictures; of the shapes we have
# all. An estimate needs a control, so ask a **null**: made-up codes with the same rate in
# every dimension, independent dimensions, and all codes together filling the prior. With many
# pictures its correlation goes to 0.
#
# **Predict 2, before you run.** Will the total correlation rise or fall with $N$? And what will the
# null show at $N = 100$?


# %%
@torch.no_grad()
def known(q, N, codes=400, at_once=25):
    """The terms of (6) at some codes of q, when N of its examples are known: (3, codes)."""
    some = torch.randperm(len(q.mean))[:N]
    mu, sigma, found = q.mean[some], q.stddev[some], []
    for own in torch.randperm(N)[:codes].split(at_once):
        mine = Independent(Normal(mu[own], sigma[own]), 1)
        z = mine.sample()
        log_q = log_densities(Independent(Normal(mu, sigma), 1), z)  # (few, N, K)
        joint = log_aggregate(log_q.sum(-1), own, N)
        product = log_aggregate(log_q, own, N).sum(-1)
        log_p = StandardNormal(z.shape[1]).log_prob(z)
        steps = mine.log_prob(z) - joint, joint - product, product - log_p
        found.append(torch.stack(steps))
    return torch.cat(found, dim=1)


def null_code(rates, N):
    """Codes of N pictures with these rates (K,), independent, whose aggregate is N(0, I)."""
    sigma = torch.exp(-rates)  # with mu ~ N(0, 1 - sigma^2) the mean KL is -log sigma
    mu = torch.randn(N, len(rates)) * (1 - sigma**2).sqrt()
    return Independent(Normal(mu, sigma.expand(N, -1)), 1)


every = torch.cat(
    [shapes.to_bits(shapes.draw(f, 16)).flatten(1) for f in shapes.every().split(4096)]
)
sizes_known = (100, 300, 1000, 3000, 10_000, len(every))
seed_everything(0)
for ax, (name, model) in zip(plot.panels(*models, width=4.2), models.items()):
    with torch.no_grad():
        q = model.encode(every)
        null = null_code(model.terms(fresh)[1].mean(0), len(every))
    curves = {
        label: [estimate(known(codes, N)[1]) for N in sizes_known]
        for label, codes in {"model": q, "null": null}.items()
    }
    for (label, curve), color in zip(curves.items(), (plot.BLUE, plot.GREY)):
        ax.errorbar(sizes_known, *zip(*curve), fmt="o-", color=color, label=label)
    ax.set(xscale="log", xlabel="N, pictures known", ylabel="total correlation (nats)")
    ax.set_ylim(-0.2, 5)
    for N, (seen, _), (made_up, _) in zip(sizes_known, *curves.values()):
        print(f"{name:9s} N {N:6,}: TC {seen:.2f}, null {made_up:.2f}")
    if full_run():
        assert seen > made_up  # of all pictures
_ = ax.legend()


# %% [markdown]
# <details><summary>Answer</summary>
#
# It falls, and at $N = 100$ the null shows as much as the model. A hundred pictures can be named
# with $\log 100 = 4.6$ nats; the VAE spends about nine, and what it says beyond $\log N$ is booked
# as correlation.
# </details>
#
# From a few hundred pictures the figure says nothing about a model. The repair is all the data,
# *and* the null beside it. At the right end both models have more correlation than their nulls, the
# beta-VAE far less than the VAE. Even there, read the difference of the curves.

# %% [markdown]
# ## 7. Play: turn one knob at a time
#
# Encode a picture, then move one dimension of its code from $-2$ to $2$: a **traversal**. Each row
# is a dimension, the most expensive first. Look for rows in which *one* thing changes.


# %%
@torch.no_grad()
def traverse(model, picture):
    """Draw how a picture changes when one dimension of its code moves."""
    x = fresh[picture : picture + 1]
    model, name = knobs[model], model
    _, kl = model.terms(fresh[:1000])
    rates, order = kl.mean(0).sort(descending=True)
    z = model.encode(x).mean.repeat(7, 9, 1)  # (row, column, K)
    for row, j in enumerate(order[:7]):
        z[row, :, j] = torch.linspace(-2, 2, 9)
    decoded = model.decode(z.flatten(0, 1)).mean.view(-1, 3, 16, 16)
    ax = plot.image_grid(decoded, columns=9)
    for row, r in enumerate(rates[:7]):
        ax.text(-2, 17 * row + 8, f"{r:.1f} nats", ha="right", va="center")
    ax.set_title(f"{name}: each row moves one dimension from -2 to 2", loc="left")


knobs = models.copy()
for name, recipe in {"VAE": "vae/vae-shapes-0", "beta-VAE": "vae/betavae-shapes-0"}.items():
    if checkpoints.available(recipe):
        knobs[f"{name}, long"] = checkpoints.load(recipe)
play(traverse, model=[*knobs][::-1], picture=(0, 30, 1, 5))


# %% [markdown]
# ## 8. Measure: the mutual information gap
#
# A number needs the true factors. The **mutual information gap** (Chen and others, 2018) asks of each
# of the $F$ factors $v$: which dimension, $j^*(v)$, knows most about it, and how far behind is the
# second, in shares of the factor's entropy $H(v)$?
#
# $$\mathrm{MIG} = \frac1F\sum_{v}\frac{I(z_{j^*(v)}; v) - \max_{j\ne j^*(v)}I(z_j; v)}
#   {H(v)}. \tag{9}$$
#
# At 1, every factor is known completely from one dimension and not at all from any other. (One
# dimension may serve two factors.) Codes are not discrete, so cut every dimension into bins with
# equally many points (`discretise`, quoted further on), and count.


# %% tags=["from:evaluation.disentanglement.mutual_information"]
def mutual_information(a: Tensor, b: Tensor) -> Tensor:
    """Return I(a; b) = H(a) + H(b) - H(a, b) of two columns of codes, in nats.

    The plug-in estimate: too high by about (A - 1)(B - 1) / (2 N) nats for A and B values.

    Args:
        a, b: codes from 0, int64 (N,).
    """
    a, b = a.long(), b.long()  # bytes would wrap below
    A, B = int(a.max()) + 1, int(b.max()) + 1
    table = torch.bincount(a * B + b, minlength=A * B).view(A, B)
    return entropy(table.sum(1)) + entropy(table.sum(0)) - entropy(table.flatten())


# %% tags=["from:evaluation.disentanglement.gaps"]
def gaps(matrix: Tensor, factors: Tensor) -> Tensor:
    """Return every factor's gap between its two most informed dimensions: (F,).

    (I(best; v) - I(second; v)) / H(v), from 0 to 1: the terms of (9). It is 1 if one
    dimension alone tells all about the factor.
    """
    best, second = matrix.topk(2, dim=0).values
    H = torch.stack([entropy(torch.bincount(v)) for v in factors.unbind(1)])
    return (best - second) / H.clamp_min(math.ulp(1.0))


# %% [markdown]
# Tiny: a factor of two values, four pictures. If one dimension copies it and the other is
# independent of it, the gap is 1. If both copy it, the gap is 0, and nothing is lost.

# %%
factor = torch.tensor([[0], [0], [1], [1]])
for codes in ([[0, 0], [0, 1], [1, 0], [1, 1]], [[0, 0], [0, 0], [1, 1], [1, 1]]):
    told = [mutual_information(z, factor[:, 0]) for z in torch.tensor(codes).unbind(1)]
    print(f"two dimensions, gap {gaps(torch.stack(told)[:, None], factor).item():.2f}")

seed_everything(0)
names = [*shapes.FACTORS]
axes = plot.panels(*models, width=3.3, height=3.6)
for ax, (name, model) in zip(axes, models.items()):
    with torch.no_grad():
        z = model.encode(fresh).sample()
    matrix = information_matrix(z, fresh_factors)  # (K, F) nats
    gap = gaps(matrix, fresh_factors)
    drawn = ax.imshow(matrix, cmap="Blues", vmin=0, vmax=1.5)
    ax.set_xticks(range(6), names, rotation=60)
    ax.set(title=f"{name}: MIG {gap.mean():.2f}", ylabel="dimension of the code")
    print(f"{name:9s}", ", ".join(f"{n} {v:.2f}" for n, v in zip(names, gap.tolist())))
_ = axes[-1].figure.colorbar(drawn, ax=axes, label="mutual information (nats)", shrink=0.7)

# %% [markdown]
# In a column, one dark cell means that the factor has a dimension of its own. **Rotation** is in no
# dimension of either model (and the bits tell only 81 % of it).
#
# One seed proves nothing. So `gdm train` trains both models five times each, wider and for longer.
# (Price and width were picked by the MIG of three other seeds, after two narrower settings had been
# tried on these five: the trials looked at the factors.) A line joins the two models of one seed.

# %%
tried = {"VAE": "vae/vae-shapes", "beta-VAE": "vae/betavae-shapes"}
cards = [f"{recipe}-{seed}" for recipe in tried.values() for seed in range(5)]
if all(map(checkpoints.measured, cards)):
    on_test = [
        [f["value"] for f in checkpoints.card(card)["figures"] if f["split"] == "test"]
        for card in cards
    ]
    pairs = torch.tensor(on_test).view(2, 5, 2)  # model, seed, (MIG, -ELBO)
    axes = plot.panels("MIG, higher is better", "-ELBO in nats, lower is better", width=3)
    for ax, values in zip(axes, pairs.permute(2, 0, 1)):
        ax.plot(range(2), values, "o-", color=plot.BLUE)
        ax.set_xticks(range(2), [*tried])
        ax.set_xlim(-0.4, 1.4)
    for name, change in zip(("MIG", "-ELBO"), (pairs[1] - pairs[0]).T):
        listed = ", ".join(f"{value:+.2f}" for value in change.tolist())
        mean, error = estimate(change)
        print(f"{name:5s} beta-VAE minus VAE: {mean:+.3f} +- {error:.3f} ({listed})")
        assert (change > 4).all() if name == "-ELBO" else abs(mean) < 2 * error
else:
    print("not yet measured (gdm train writes the cards)")

# %% [markdown]
# Say it aloud: **five seeds show no gain in MIG, and a sure loss of bound.** On the left the lines
# cross, and their mean rise is about one standard error. On the right all five climb by more than
# four nats.
#
# **Question 4.** A paper reports that its VAE with a new loss has "a better ELBO *and* a better
# MIG, chosen among 50 runs". Which two questions do you ask?
#
# <details><summary>Answer</summary>
#
# Is the ELBO that of (1), or the paper's own loss? And how was the run chosen? If by MIG, the
# method is not unsupervised; ask for the spread over *all* runs.
# </details>

# %% [markdown] tags=["notes"]
# 16 minutes for sections 6 to 8. Let the room judge the traversals before the numbers come, and
# count hands for "more disentangled". Wrong answer to expect to Predict 2: "the null shows 0".

# %% [markdown]
# ## 9. Why nobody can promise it
#
# Could a better likelihood tell, without factors, that a code is disentangled? Take *any* model with
# $z\sim\mathcal N(0, I)$ and *any* rotation $Q$. Let a second model first turn its code back:
# $p'(x\mid z) = p(x\mid Q^\top z)$. If $z$ is standard normal, so is $Q^\top z$, and
#
# $$p'(x) = \int p(x\mid Q^\top z)\,\mathcal N(z; 0, I)\,dz
#   = \int p(x\mid u)\,\mathcal N(u; 0, I)\,du = p(x) \quad\text{for every } x.$$
#
# Yet if one model's dimensions are the factors, the other's are mixtures. **The likelihood does not
# identify the axes** (Locatello and others, 2019).
#
# But we train on a *bound*, and its encoder has axes: $q(z\mid x)$ is a product. If a Gaussian
# posterior has precision matrix (inverse covariance) $P$, the best diagonal $q$ has variances $1/P_{jj}$, and its KL to
# the posterior is
#
# $$\text{gap} = \tfrac12\Bigl[\sum_j\log P_{jj} - \log\det P\Bigr] \ge 0, \tag{10}$$
#
# zero only if $P$ is diagonal. (In the KL of two Gaussians with equal means, the trace term is $K$
# and cancels.) With $P_{11} = P_{22} = 2$ and $P_{12} = 1$ it is
# $\frac12[2\log 2 - \log 3] = 0.14$ nats. Two factors, $x = W z + \varepsilon$, and the code turned
# by an angle, with factors of different and of equal strength:

# %%
tiny = torch.tensor([[2.0, 1.0], [1.0, 2.0]])
print(f"tiny gap {(tiny.diagonal().log().sum() - tiny.logdet()) / 2:.2f} nats")
seed_everything(0)
n, width = 20_000, 0.3
true_factors = torch.randn(n, 2).double()
directions = torch.linalg.qr(torch.randn(5, 2).double()).Q  # orthogonal, in 5 dimensions
binned = discretise(true_factors, 8)
angles = torch.linspace(0, 90, 31)
axes = plot.panels("", "", width=4.6)
for ax, strengths in zip(axes, ((1.0, 0.3), (1.0, 1.0))):
    W = directions * torch.tensor(strengths).double()
    x = true_factors @ W.T + width * torch.randn(n, 5).double()
    likelihood, bound, score = [], [], []
    for angle in angles.deg2rad().tolist():
        turn = [[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]]
        V = W @ torch.tensor(turn).double()  # the decoder of the turned code
        cov = V @ V.T + width**2 * torch.eye(5).double()
        evidence = torch.distributions.MultivariateNormal(torch.zeros(5).double(), cov)
        P = torch.eye(2).double() + V.T @ V / width**2
        gap = (P.diagonal().log().sum() - P.logdet()) / 2
        z = x @ V @ P.inverse() / width**2 + torch.randn(n, 2) * P.diagonal() ** -0.5
        likelihood.append(evidence.log_prob(x).mean().item())
        bound.append(likelihood[-1] - gap.item())
        score.append(gaps(information_matrix(z, binned), binned).mean().item())
    assert max(likelihood) - min(likelihood) < 1e-9
    base = likelihood[0]
    print(
        f"strengths {strengths}: the best bound moves by {max(bound) - min(bound):.4f} nats"
    )
    ax.set_title(f"strengths {strengths[0]:g} and {strengths[1]:g}", loc="left")
    flat_line = [value - base for value in likelihood]
    ax.plot(angles, flat_line, color=plot.GREY, linewidth=5, label="log-likelihood")
    ax.plot(angles, [value - base for value in bound], color=plot.ORANGE, label="best ELBO")
    ax.plot(angles, score, color=plot.BLUE, linestyle="--", label="MIG")
    ax.set(xlabel="angle of the code (degrees)", ylabel="nats; MIG")
_ = axes[0].legend()

# %% [markdown]
# The likelihood is flat to nine digits while the MIG goes from its best to zero and back
# (at 90 degrees the factors have changed places). Left, the bound prefers the axes. Right, even the
# bound is blind: $P$ is a multiple of the identity at every angle.
#
# **Change this line, and run the cell again.** In the loop, $(1, 0.3)$ to $(1, 0.9)$: does the
# bound still see the axes?
#
# <details><summary>Answer</summary>
#
# Hardly: it moves by 0.005 nats, where it moved by 0.36. The MIG falls to zero all the same.
# </details>
#
# So "unsupervised disentanglement" means: with the right axes built into the model,
# its training, or your choice among runs. Say which.

# %% [markdown] tags=["notes"]
# 8 minutes. Turn two pencils at a right angle in front of the class: which turn does the data
# see? Wrong answer to expect: "more data would decide". Leave out the derivation of (10).

# %% [markdown]
# ## Summary
#
# - The negative bound is $D + R$, what is unknown and what the code costs; all points of $D + R = H$
#   have the same.
# - $\beta$ is the slope of a tangent; for linear Gaussian models the curve is Shannon's.
# - The rate is information, total correlation and marginals. Put a null beside the second.
# - MIG needs the true factors; report it over seeds, with the bound.
# - The likelihood does not see rotations of the code.
#
# | quantity | symbol | unit |
# |---|---|---|
# | rate, distortion | $R$, $D$ | nats per picture |
# | total correlation | TC | nats |
# | mutual information gap | MIG | none, 0 to 1 |
#
# **Exercises:** open them with `gdm start vae/beta_vae`.
#
# ## References
#
# - Shannon (1959). Coding theorems for a discrete source with a fidelity criterion.
# - Higgins and others (2017). beta-VAE: learning basic visual concepts with a constrained
#   variational framework. ICLR.
# - Alemi and others (2018). Fixing a broken ELBO. arXiv:1711.00464.
# - Chen, Li, Grosse, Duvenaud (2018). Isolating sources of disentanglement in variational
#   autoencoders. arXiv:1802.04942.
# - Locatello and others (2019). Challenging common assumptions in the unsupervised learning
#   of disentangled representations. arXiv:1811.12359.

# %% [markdown]
# ## Further: the proof of the curve
#
# Why $\frac12\log\frac vd$ nats? Say $\hat x$ arrives. Then
#
# $$I(x;\hat x) = h(x) - h(x\mid\hat x) = h(x) - h(x-\hat x\mid\hat x)
#   \ge h(x) - h(x - \hat x) \ge \tfrac12\log\frac{v}{d}:$$
#
# knowing $\hat x$ shifts $x$ without changing its entropy $h$; conditioning cannot raise an
# entropy; and of all errors with mean square $d$ the Gaussian one has the largest entropy,
# $\frac12\log 2\pi e d$.
#
# A *linear* VAE attains it. Put $t = 1 - d/v$ and let
# $q(z\mid x) = \mathcal N\bigl(x\sqrt{t/v},\ 1-t\bigr)$, $\hat x = z\sqrt{tv}$. The error
# $(1-t)x - \sqrt{tv(1-t)}\,\varepsilon$ has the variance
# $(1-t)^2v + tv(1-t) = (1-t)v = d$. The KL is
# $\frac12(\mu^2 + \sigma^2 - 1) - \log\sigma$; on average
# $\mathbb E\mu^2 = t$, so it is $-\frac12\log(1-t) = \frac12\log\frac vd$.

# %% [markdown]
# ## Further: the curve of digits
#
# For digits nobody knows the best curve, but we can walk along the one of our networks. The
# same architecture, five prices.

# %% tags=["train"]
digits = images.load("digits")
flat = lambda x: images.threshold(x, digits.levels).flatten(1).float()
x_train, x_test = flat(digits.x_train), flat(digits.x_test)
prices = (0.1, 0.3, 1.0, 2.0, 4.0)
swept = {}
for beta in prices:
    seed_everything(0)
    swept[beta] = BetaVAE(64, beta=beta, latent=8, hidden=(128,))
    fit(swept[beta], x_train, budget(700, 10))

measured = [rate_and_distortion(swept[beta], x_test, draws=10) for beta in prices]
left, right = plot.panels("test digits: a model per price", "their bound", width=4.4)
R, D = (torch.stack(axis) for axis in zip(*measured))
left.plot(R, D, "o-", color=plot.BLUE)
for beta, r, d in zip(prices, R, D):
    left.annotate(f"beta {beta:g}", (r, d), (6, 4), textcoords="offset points")
at = torch.linspace(0, float((R + D).min()), 2)
left.plot(at, (R + D).min() - at, color=plot.GREY, linestyle="--", label="slope -1")
left.set(xlabel="rate (nats)", ylabel="distortion (nats)", xlim=(-0.5, None))
left.set_ylim(0, 1.1 * float(D.max()))
left.legend()
right.plot(prices, R + D, "o-", color=plot.ORANGE)
_ = right.set(xscale="log", xlabel="beta", ylabel="D + R (nats per digit)")

# %% [markdown]
# The dashed line is the level of the best bound: every point on it would have the same
# ELBO, and only one of ours is there. On the left end the code is nearly silent; on the
# right it is talkative, and each further nat buys less than a nat.
#
# What do the prices *look* like? The upper row shows test digits, the middle what the decoder
# makes of a code drawn from $q(z\mid x)$, the lower new digits from the prior.
#
# **Predict, then turn the slider.** Which row is best at $\beta = 0.1$, and which at
# $\beta = 1$?


# %%
@torch.no_grad()
def at_price(beta):
    """Draw digits, their reconstructions, and samples of one model."""
    seed_everything(0)
    model, x = swept[beta], x_test[:12]
    again = model.decode(model.encode(x).sample()).mean
    new = model.decode(model.prior.sample(12)).mean
    ax = plot.image_grid(torch.cat([x, again, new]).view(-1, 8, 8), columns=12)
    ax.set_title(f"beta = {beta:g}: digits, reconstructions, samples", loc="left")


play(at_price, beta=[1.0, 0.1, 0.3, 2.0, 4.0])


# %% [markdown]
# <details><summary>Answer</summary>
#
# At 0.1 the reconstructions, at 1 the samples: cheap information gives sharp copies and poor
# new digits, dear information gives copies that all look like samples. There is no best beta,
# only a purpose.
# </details>
#
# Where do the nats of these models go? Take all 256 test digits. From $N$ codes no estimate of $I$
# can exceed $\log N$. Where the rate is higher, what then happens to the rest?

# %%
seed_everything(0)
N, rows = len(x_test), []
means = lambda q: known(q, N, codes=N).mean(1).tolist()
with torch.no_grad():
    for beta in prices:
        q = swept[beta].encode(x_test)
        rates = swept[beta].terms(x_test)[1].mean(0)
        rows.append((means(q), means(null_code(rates, N))))
axes = plot.panels("where the nats go, estimated", "the same rates, a null", width=4.5)
for ax, table in zip(axes, torch.tensor(rows).permute(1, 2, 0)):  # (3, prices) each
    bottom = torch.zeros(len(prices))
    for name, height, color in zip(
        Surgery._fields, table, (plot.BLUE, plot.ORANGE, plot.GREY)
    ):
        ax.bar(range(len(prices)), height, bottom=bottom, label=name, color=color)
        bottom = bottom + height
    ax.axhline(math.log(N), color=plot.BLACK, linestyle="--")
    ax.text(4.4, math.log(N) + 0.2, "log N", ha="right")
    ax.set_xticks(range(len(prices)), [f"{beta:g}" for beta in prices])
    top = max(1.1 * bottom.max().item(), 6.5)
    ax.set(xlabel="beta", ylabel="rate (nats per digit)", ylim=(0, top))
_ = axes[0].legend()

# %% [markdown]
# At $\beta\le 0.3$ the null shows at least as much correlation as the models do. So the orange
# there is mostly the ceiling of the estimate: what a talkative code says beyond $\log N$ is booked
# as correlation. From 256 digits we learn that every test digit is told apart from every other, and
# nothing about how dimensions depend. Only the grey is more than the null's: single dimensions do
# not look like the prior.

# %% [markdown]
# ## Further: bins for a code
#
# Equal values share a bin, and a monotone change of a dimension changes no bin, so (9) does not
# care how a code is scaled. How much does the number of bins matter?


# %% tags=["from:evaluation.disentanglement.discretise"]
def discretise(z: Tensor, bins: int = 20) -> Tensor:
    """Cut every dimension into bins with equally many points: (N, K) -> int64 codes.

    Equal values always share a bin. Measure, not mean: a monotone change of a dimension
    changes nothing.

    Args:
        z: (N, K).
        bins: per dimension.
    """
    at = torch.arange(1, bins, dtype=torch.float64, device=z.device) / bins
    edges = torch.quantile(z.double(), at, dim=0).T.contiguous()  # (K, bins - 1)
    return torch.searchsorted(edges, z.double().T.contiguous()).T


# %%
seed_everything(0)
for name, model in models.items():
    with torch.no_grad():
        z = model.encode(fresh).sample()
    found = {
        n: gaps(information_matrix(z, fresh_factors, n), fresh_factors) for n in (5, 20, 80)
    }
    print(
        f"{name:9s}", ", ".join(f"{n} bins: MIG {g.mean():.3f}" for n, g in found.items())
    )

# %% [markdown]
# Compare the numbers along a row: the count of bins is part of the measure, so say it with every
# MIG. With more bins every mutual information is estimated too high (by about
# $(A-1)(B-1)/2N$), the second dimension's as well.

# %% [markdown]
# ## Further: a price on dependence alone
#
# Beta-TCVAE (8) is a wrapper around any model of the family: the terms of (6) with new prices.


# %% tags=["from:vae.beta_vae.BetaTC"]
class BetaTC(nn.Module):
    """Train a model with the price on the correlation alone: (8), beta-TCVAE. Trainable.

    Args:
        model: whose weights are trained; evaluate that one.
        N: number of examples in the data set.
        beta: price of a nat of total correlation; information and marginals cost 1.
    """

    def __init__(self, model: LatentModel, *, N: int, beta: float = 6.0):
        super().__init__()
        validate.at_least(2, N=N)
        self.model, self.N, self.beta = model, N, beta

    def loss(self, x: Tensor) -> Tensor:
        """Return the mean loss in nats."""
        q = self.model.encode(x)
        z = q.rsample()
        parts = surgery(q, z, self.model.prior.log_prob(z), self.N)
        price = parts.information + self.beta * parts.correlation + parts.marginals
        return price - self.model.log_likelihood(x, z).mean()


# %% [markdown]
# The same pictures in the same order as in section 6, and a price of 6 on the correlation. The
# loss is noisier: (7) is an estimate from 64 pictures.

# %% tags=["train"]
seed_everything(0)
independent = new(1.0)
trainee = BetaTC(independent, N=len(bits), beta=6.0)
learning = train(trainee, forever(bits, 64), shape_steps, falling(shape_steps, 4e-3, 100))
show = lambda ax: plot.image_grid(
    independent.decode(independent.prior.sample(25)).mean.view(-1, 3, 16, 16), ax
)
for _ in watch(learning, every=200, panels={"means of samples": show}):
    pass
independent.eval()

seed_everything(0)
heads = ("R", "D", "information", "TC", "its null", "marginals", "MIG")
print(f"{'nats; MIG':10s}" + "".join(f"{head:>12s}" for head in heads))
found = []
for name, model in {**models, "beta-TC": independent}.items():
    r, d = rate_and_distortion(model, fresh)
    with torch.no_grad():
        split = known(model.encode(every), len(every), codes=200).mean(1)
        null = null_code(model.terms(fresh)[1].mean(0), len(every))
        chance = known(null, len(every), codes=200).mean(1)[1]
        gap = gaps(
            information_matrix(model.encode(fresh).sample(), fresh_factors), fresh_factors
        )
    found.append(split[1])
    row = (r, d, *split[:2], chance, split[2], gap.mean())
    print(f"{name:10s}" + "".join(f"{value:12.2f}" for value in row))
if full_run():
    assert found[0] > max(found[1:])
knobs["beta-TC"] = independent
traverse("beta-TC", 5)

# %% [markdown]
# Over *all* pictures, both priced models have a fraction of the VAE's correlation. Which of
# the two has less, one seed cannot say: on three others they were about equal. But read the
# difference to the null: beta-TC's was the smaller one on all four seeds, and on the three
# others its distortion was smaller, too. The MIG of one seed is not evidence, as section 8 said.

# %% [markdown]
# ## Further: a decoder that knows everything, and InfoVAE
#
# Back to the line $D + R \ge H$. Clouds, eight pixels by eight: each pixel tends to agree
# with its neighbours to the left and above. We draw them from a known law, so $H$ is known,
# and we give that law to the decoder: it hears all pixels before, with the true weights,
# and besides it may listen to $z$.

# %%
clouds = AutoregressivePixels(64).requires_grad_(False)
tilt = torch.zeros(64)
for d in range(64):
    for neighbour in [d - 1] * (d % 8 > 0) + [d - 8] * (d >= 8):
        clouds.W[d, neighbour] = 2.4  # agree with the pixel to the left, and above
        tilt[d] -= 1.2
seed_everything(0)
law = clouds(tilt.expand(6000, 64))
sky = law.sample()
sky_train, sky_test = sky[:4000], sky[4000:]
H = -law.log_prob(sky)[4000:].sum(-1).mean().item()
print(f"the test clouds have {H:.2f} nats each under the law that made them")
_ = plot.image_grid(sky_test[:40].view(-1, 8, 8), columns=20)

# %% [markdown]
# **Predict before you run.** A VAE of four latent dimensions with this decoder. Where on
# the line $D + R = H$ will it stand?

# %% tags=["train"]
sizes = {"latent": 4, "hidden": (128,), "observation": clouds}
seed_everything(0)
silent = fit(VAE(64, **sizes), sky_train, budget(900, 10))
stands = rate_and_distortion(silent, sky_test, draws=3)
print(
    f"rate {stands.rate:.2f}, distortion {stands.distortion:.2f}, sum {sum(stands):.2f}; H {H:.2f}"
)

# %% [markdown]
# <details><summary>Answer</summary>
#
# Almost at the silent end, and the bound is nearly as good as any bound can be. Every nat that $z$
# says costs one and saves at most one. **If we want the code to speak, the loss must say so.**
# </details>
#
# Look at (6) as a price list. Information, and the two mismatches that together are
# $\mathrm{KL}(q(z)\,\|\,p(z))$. **InfoVAE** (Zhao, Song and Ermon, 2019) gives a discount
# $\alpha$ on the first and a price $\lambda$ on the second:
#
# $$\text{loss} = D + (1-\alpha)\,I(n;z) + \lambda\,\mathrm{KL}(q(z)\,\|\,p(z))
#   = D + (1-\alpha)\,R + (\alpha+\lambda-1)\,\mathrm{KL}(q(z)\,\|\,p(z)). \tag{11}$$
#
# The second form follows because $I = R - \mathrm{KL}(q(z)\|p(z))$, and it has a use: the
# aggregate appears in one place only, where we may replace its KL by any distance that is
# easily estimated from samples. The kernel distance of the first lecture is made for that:
#
# $$\mathrm{MMD}^2 = \mathbb E\,k(z,z') + \mathbb E\,k(y,y') - 2\,\mathbb E\,k(z,y),
#   \qquad z,z'\sim q(z),\ y,y'\sim p(z), \tag{12}$$
#
# zero only if the two are equal. Its estimate is the `mmd2` of
# [that lecture](../foundations/densities.ipynb), equation (7) there, which leaves out the
# pairs of a point with itself.

# %%
seed_everything(0)
(ax,) = plot.panels("64 codes and 64 draws of the prior, a thousand times", width=5.5)
far = {"equal": 0.0, "half as wide": 0.5, "shifted by 1/2": None}
for name, change in far.items():
    y = torch.randn(1000, 64, 4)
    z = torch.randn(1000, 64, 4) * (1 - (change or 0)) + (change is None) * 0.5
    values = torch.stack([mmd2(a, b, bandwidth=2.0) for a, b in zip(z, y)])
    error = values.std() / 1000**0.5
    ax.hist(values, bins=40, alpha=0.7, label=f"{name}: mean {values.mean():.4f}")
    if name == "equal":
        assert abs(values.mean()) < 6 * error  # unbiased
        print(f"where both are equal, {(values < 0).float().mean():.0%} are negative")
ax.set(xlabel="estimate of MMD^2", ylabel="how often")
_ = ax.legend()

# %% [markdown]
# Without the diagonal the estimate is right on average, and a step of training follows an
# unbiased gradient. Note the scale: a mismatch that ruins samples is a few hundredths, so
# its weight has to be in the hundreds to matter beside nats.


# %% tags=["from:vae.info_vae.InfoVAE"]
class InfoVAE(VAE):
    """A VAE of vectors that pays for the mismatch of all codes together: (11).

    loss = -E log p(x | z) + (1 - alpha) KL(q(z | x) || p(z)) + weight MMD^2(q(z), p(z)).
    With alpha = 1 information is free and only the aggregate has to look like the prior.

    Args:
        D: number of dimensions of x.
        alpha: discount on the KL of single codes, 0 to 1.
        weight: nats per unit of MMD^2, which is a small number.
        bandwidth: of the kernel; sqrt(latent), a typical distance, if None.
        latent, hidden, observation, prior: as in `VAE`.
    """

    def __init__(
        self,
        D: int,
        *,
        alpha: float = 1.0,
        weight: float = 1000.0,
        bandwidth: float | None = None,
        latent: int = 10,
        hidden: Sequence[int] = (400,),
        observation: nn.Module | None = None,
        prior: nn.Module | None = None,
    ):
        super().__init__(
            D, latent=latent, hidden=hidden, observation=observation, prior=prior
        )
        self.alpha, self.weight = alpha, weight
        self.bandwidth = bandwidth or latent**0.5

    def loss(self, x: Tensor) -> Tensor:
        """Return the mean loss in nats; the mismatch of the batch, 0 for a single row."""
        q = self.encode(x)
        z = q.rsample()
        pairs = len(z) > 1  # which is what a mismatch can be seen in
        mismatch = mmd2(z, self.prior.sample(len(z)), self.bandwidth) if pairs else 0.0
        kl, log_p = latent_kl(q, self.prior, z).sum(-1), self.log_likelihood(x, z)
        return ((1 - self.alpha) * kl - log_p).mean() + self.weight * mismatch


# %% tags=["train"]
heard = {"VAE": silent}
for alpha in (0.5, 0.9, 1.0):
    seed_everything(0)
    model = InfoVAE(64, alpha=alpha, weight=500.0, **sizes)
    heard[f"alpha {alpha:g}"] = fit(model, sky_train, budget(900, 10))
points = {k: rate_and_distortion(m, sky_test, draws=3) for k, m in heard.items()}

left, right = plot.panels("the same decoder", "", width=5)
at = torch.linspace(0, 1.2 * max(r.item() for r, _ in points.values()) + 0.1, 2)
left.plot(at, H - at, "--", color=plot.GREY, label="D + R = H")
colors = (plot.BLACK, plot.SKY, plot.BLUE, plot.ORANGE)
for (name, (r, d)), color in zip(points.items(), colors):
    left.plot(r, d, "o", color=color, label=name)
left.set(xlabel="rate (nats)", ylabel="distortion (nats)")
left.legend()
seed_everything(1)
with torch.no_grad():
    chosen = sky_test[sky_test.mean(1).sort().indices[[100, 700, 1300, 1900]]]
    rows = [chosen[:, None]]
    for model in (silent, heard["alpha 1"]):
        z = model.encode(chosen).sample((5,)).transpose(0, 1)  # (4, 5, K)
        rows.append(model.decode(z).sample())
    shown = torch.cat(rows, dim=1).view(-1, 8, 8)  # a cloud, 5 by the VAE, 5 by InfoVAE
plot.image_grid(shown, right, columns=11)
right.set_title("a cloud | 5 from its VAE code | 5 from its InfoVAE code", loc="left")
for name, model in {"VAE": silent, "InfoVAE": heard["alpha 1"]}.items():
    with torch.no_grad():
        again = model.decode(model.encode(sky_test).sample()).sample()
    agree = torch.corrcoef(torch.stack([sky_test.mean(1), again.mean(1)]))[0, 1]
    print(f"{name}: correlation of the cover of a cloud and of its copy {agree:.2f}")

# %% [markdown]
# Nothing pushed the models with $\alpha$ near 1 to be silent, and they are not: codes carry
# nats, the distortion falls *below* $H$, and a cloud drawn with the code of another shares
# its cover, far more than with the VAE. It costs bound: at $\alpha = 1$, $D + R$ stands half a
# nat higher for every nat that is said. (3) does not demand that, for all points of the line
# have the same bound. But this loss no longer counts $R$ in full, so nothing holds the model to
# the line. InfoVAE gave up bound for a code.
# That can be a good bargain, as long as one says so: compare *bounds* of VAEs, never losses
# with different prices.
#
# The MMD did its part, too. (Without it, at $\alpha = 1$, the rate is 32 nats, the marginals 13
# and MMD$^2$ 0.35.) Is the aggregate still near the prior?

# %%
seed_everything(0)
print(f"{'nats':10s}" + "".join(f"{n:>13s}" for n in Surgery._fields) + f"{'MMD^2':>10s}")
for name, model in heard.items():
    with torch.no_grad():
        z = model.encode(sky_test).sample()
        mismatch = mmd2(z, torch.randn_like(z), bandwidth=2.0).item()
        split = known(model.encode(sky_test), len(sky_test), codes=1000).mean(1)
    three = "".join(f"{part:13.3f}" for part in split.tolist())
    print(f"{name:10s}{three}{mismatch:10.4f}")

# %% [markdown]
# All prices on one page:
#
# | objective | distortion | information | total correlation | marginals |
# |---|---|---|---|---|
# | VAE | 1 | 1 | 1 | 1 |
# | beta-VAE | 1 | $\beta$ | $\beta$ | $\beta$ |
# | beta-TCVAE | 1 | 1 | $\beta$ | 1 |
# | InfoVAE | 1 | $1-\alpha$ | $\lambda$ | $\lambda$ |
#
# (InfoVAE as implemented replaces the last two by a weighted MMD.)
#
# References of this section, and of (6):
#
# - Hoffman, Johnson (2016). ELBO surgery. NIPS workshop on approximate inference.
# - Zhao, Song, Ermon (2019). InfoVAE. arXiv:1706.02262.
# - Gretton and others (2012). A kernel two-sample test. JMLR 13.
