# %% [markdown]
# # What you do not see: the variational autoencoder
#
# Behind every picture of a digit there is something that nobody stored: which digit it is,
# how slanted, how bold. A latent variable is a guess at such a cause. It makes a model easy
# to draw from and its likelihood hard to compute, and one inequality makes up for that.

# %% [markdown] tags=["nav"]
# 61 minutes, and 36 further ·
# before this: [Densities, samples and divergences](../foundations/densities.ipynb), [Half of it stays: coupling flows](../flows/realnvp.ipynb) ·
# [exercise](../../exercises/vae/vae.ipynb) ·
# [solution](../../solutions/vae/vae.ipynb)
#
# previous: [Flowing in time: continuous flows](../flows/continuous.ipynb) ·
# [all units](../index.ipynb) ·
# next: [What a code is worth: beta-VAE and InfoVAE](beta_vae.ipynb)

# %% tags=["setup"]
import importlib.util

if importlib.util.find_spec("gdm_course") is None:
    raise ImportError(
        "the package gdm_course is not installed here: run 'make lab' in the course's "
        "folder, or 'pip install -e .[lab]', and choose that environment as the kernel"
    )

# %%
import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, Normal

from gdm_course import (
    checkpoints,
    protocols,
    schematics,
    validate,
)  # validate refuses what does not fit
from gdm_course import plotting as plot
from gdm_course.data import images, toy
from gdm_course.evaluation.bounds import elbos
from gdm_course.evaluation.likelihood import bits_per_dim, estimate
from gdm_course.flows.realnvp import RealNVP
from gdm_course.nets import mlp, precise  # float32, where a GPU used less
from gdm_course.training import adam, budget, forever, full_run, seed_everything, train
from gdm_course.vae.decoders import (
    AutoregressivePixels,
    BernoulliPixels,
    GaussianPixels,
    LogisticPixels,
    shown,  # x as the observation embeds it for the encoder
)
from gdm_course.vae.gradients import Integrand, gradient_draws, signal_to_noise
from gdm_course.vae.objectives import FreeBits, WarmUp
from gdm_course.vae.refine import bound_of
from gdm_course.vae.vae import StandardNormal, diagonal_gaussian, latent_kl
from gdm_course.widgets import play, watch

plot.style()
# %% [markdown]
# ## 1. The question
#
# The digits again, eight pixels by eight, black or white. An autoregressive model explains a pixel by the
# pixels before it. That is exact, but nobody describes a picture like that. You would say "a slanted seven":
# two or three words, and most of the 64 pixels follow. Can a model find such words by itself?
#
# It will be a Sampler and Trainable. It will **not** be a Density: what it tells about $\log p(x)$ is a lower
# bound. We call the bound `elbo`, never `log_prob`, and we measure how far below the truth it is.

# %%
digits = images.load("digits")
to_bits = lambda x: images.threshold(x, digits.levels).flatten(1).float()  # ink > 8
x_train, x_valid, x_test = map(to_bits, (digits.x_train, digits.x_valid, digits.x_test))
order = digits.y_train[:100].argsort()
_ = plot.image_grid(x_train[:100][order].view(-1, 8, 8), columns=25)

# %% [markdown] tags=["notes"]
# 4 minutes. Ask the room to describe one of the digits over the telephone and count the words: that is the
# latent variable, and the ear at the other end is the decoder. Wrong answer to expect: "the label". Slant and
# boldness are in no label.

# %% [markdown]
# ## 2. The idea: somebody chose first
#
# Points of the plane come in eight heaps. Each was made in two steps: first a heap $z$ was chosen, then a point
# $x$ near its centre. Only $x$ was written down. With $z$ from a **prior** $p(z)$ this is a **mixture**,
#
# $$p(x) = \sum_z p(z)\,p(x\mid z).$$
#
# $p(x)$, what is left when $z$ is forgotten, is called the **evidence**. Having seen $x$, Bayes' rule says who
# made it, the **posterior** $p(z\mid x) = p(z)\,p(x\mid z)/p(x)$. In the picture it is the colour: pure near a
# centre, mixed where heaps overlap.

# %% tags=["fold"]
# @title Eight heaps, and the posterior of each point as its colour
heaps = toy.get("eight_gaussians")
seed_everything(1)
spots = heaps.sample(1500).float()
turn = (torch.arange(8) + 0.5) * math.pi / 4
centres = spots.norm(dim=1).mean() * torch.stack([turn.cos(), turn.sin()], dim=1)
names = ("BLUE", "ORANGE", "GREEN", "RED", "PURPLE", "SKY", "YELLOW", "BLACK")
palette = torch.tensor(
    [[int(getattr(plot, n)[i : i + 2], 16) / 255 for i in (1, 3, 5)] for n in names]
)
for sigma, ax in zip(
    (0.2, 1.0), plot.panels("narrow heaps", "the same centres, broad heaps")
):
    scattered = spots + (sigma**2 - 0.04) ** 0.5 * torch.randn(1500, 2)
    squared = (scattered[:, None] - centres).square().sum(-1)
    posterior = (-squared / (2 * sigma**2)).softmax(-1)  # (1500, 8): equal p(z), Bayes
    ax.scatter(*scattered.T, c=(posterior @ palette).numpy(), s=5, linewidths=0)
    plot.plane(((-6.5, 6.5), (-6.5, 6.5)), ax)

# %% [markdown]
# ## 3. The mathematics: the evidence, a bound, and the gap
#
# Eight heaps cannot describe digits. So let $z$ be a vector of $K$ real numbers with prior $\mathcal N(0, I)$,
# and let a network with weights $\theta$, the **decoder**, turn it into the parameters of $p_\theta(x\mid z)$.
# The sum becomes an integral,
#
# $$p_\theta(x) = \int p_\theta(x\mid z)\,p(z)\,dz, \tag{1}$$
#
# which has no formula for a network, and no grid for more than a few numbers. Averaging $p_\theta(x\mid z)$ over
# draws of the prior is right on average, but few $z$ explain a given $x$: it takes several times
# $e^{\mathrm{KL}(p(z\mid x)\,\|\,p(z))}$ draws. That is hundreds for our smallest model of digits ("many draws",
# below), and more than $e^{20}$ for the one of MNIST. We want a $z$ that fits, so let somebody propose: any density
# $q(z)$ that is 0 wherever $p(x,z)$ is (else the bound is $-\infty$). Since $p(x) = p(x,z)/p(z\mid x)$ for *every*
# other $z$, we may average its logarithm over $q$, and multiply and divide by $q(z)$:
#
# $$\log p(x) = \mathbb E_q\Bigl[\log\frac{p(x,z)}{p(z\mid x)}\Bigr]
#  = \mathbb E_q\Bigl[\log\frac{p(x,z)}{q(z)}\Bigr]
#  + \mathbb E_q\Bigl[\log\frac{q(z)}{p(z\mid x)}\Bigr].$$
#
# The last term is $\mathrm{KL}(q\,\|\,p(z\mid x))\ge 0$. So the term before it is a lower bound on $\log p(x)$, the
# log-evidence; it is called the **ELBO**, the evidence lower bound. With $p(x,z)=p(x\mid z)\,p(z)$ in it:
#
# $$\log p_\theta(x) = \underbrace{\mathbb E_q[\log p_\theta(x\mid z)] -
#  \mathrm{KL}(q\,\|\,p(z))}_{\text{ELBO}} \;+\;
#  \underbrace{\mathrm{KL}(q\,\|\,p_\theta(z\mid x))}_{\text{the gap}}. \tag{2}$$
#
# The first term asks for codes $z$ from which $x$ can be told. The second, the **rate**, charges for how much a
# code says. The gap is how badly $q$ guesses the posterior.
#
# **A tiny example.** Two heaps, $p(z)=\tfrac12$ each, and an $x$ with $p(x\mid z) = 0.3$ and $0.1$. The evidence
# is $0.2$, the posterior $(\tfrac34, \tfrac14)$. Propose $q = (\tfrac12, \tfrac12)$:

# %%
joint, q = torch.tensor([0.15, 0.05]), torch.tensor([0.5, 0.5])  # p(z) p(x | z), a guess
evidence, posterior = joint.sum(), joint / joint.sum()
bound, gap = (q * (joint / q).log()).sum(), (q * (q / posterior).log()).sum()
print(f"ELBO {bound:.3f} + gap {gap:.3f} = log p(x) = {evidence.log():.3f} nats")
assert torch.isclose(bound + gap, evidence.log())

# %% [markdown]
# **Question 1.** For which $q$ is the bound equal to $\log p(x)$? Check it in the cell.
#
# <details><summary>Answer</summary>
#
# For $q = p(z\mid x)$ and no other: the gap is a KL divergence, and that is 0 only between equal distributions.
# Put `q = posterior` into the cell: the gap is 0.
# </details>
#
# Now one latent number, $z\sim\mathcal N(0,1)$, and $x = z^2$ plus noise of 0.4. We observe $x=1.5$. It came
# from $z\approx\pm 1.2$, so the posterior has two humps. Let $q$ be *one* Gaussian and move it.
#
# **Predict 1, then move the sliders.** Which $q$ has the smallest gap: a broad one in the middle, or a narrow
# one on a hump?

# %%
z = torch.linspace(-4, 4, 4001)
dz, seen = (z[1] - z[0]).item(), torch.tensor(1.5)
log_joint = Normal(0.0, 1.0).log_prob(z) + Normal(z**2, 0.4).log_prob(seen)
log_evidence = (log_joint.logsumexp(0) + math.log(dz)).item()  # (1) by quadrature


def bound_and_gap(mu, sigma):
    """The two parts of (2) by quadrature, in nats."""
    log_q = Normal(mu, sigma).log_prob(z)
    q = log_q.exp() * dz
    bound = (q * (log_joint - log_q)).sum().item()
    return bound, (q * (log_q - log_joint + log_evidence)).sum().item()


def draw_gap(mu, sigma):
    """Prior, posterior and q; and the evidence in its two parts."""
    left, right = plot.panels("", "", width=4.2)
    plot.density_1d(Normal(0, 1).log_prob, (-3, 3), left, plot.GREY, "prior", fill=False)
    left.plot(z, (log_joint - log_evidence).exp(), color=plot.BLUE, label="posterior")
    left.plot(z, Normal(mu, sigma).log_prob(z).exp(), color=plot.ORANGE, label="q")
    left.set(xlim=(-3, 3), ylim=(0, 2.4), xlabel="z")
    left.legend(loc="upper right")
    bound, gap = bound_and_gap(mu, sigma)
    right.barh([0], [gap], left=[bound], color=plot.ORANGE, label="gap")
    right.barh([0], [bound + 12], left=[-12], color=plot.BLUE, label="bound")
    right.axvline(log_evidence, color=plot.BLACK, label="log p(x)")
    right.set(xlim=(-12, 0), ylim=(-0.8, 1.6), yticks=[], xlabel="nats")
    right.legend(loc="upper left", ncols=3)
    right.set_title(f"{bound:.2f} + {gap:.2f} = {bound + gap:.2f}")


assert abs(sum(bound_and_gap(0.3, 0.8)) - log_evidence) < 1e-3
play(draw_gap, mu=(-2.0, 2.0, 0.1, 0.0), sigma=(0.1, 1.5, 0.05, 0.9))

# %% [markdown]
# <details><summary>Answer</summary>
#
# The narrow one. $\mathrm{KL}(q\,\|\,p)$ punishes $q$ for mass where the posterior has none, so $q$ picks *one*
# hump and loses about $\log 2$ nats. (The lecture on densities called this mode seeking.)
# </details>
#
# The bar has a fixed length, $\log p(x)$: as long as the model stays fixed, raising the bound and closing the
# gap are the same move. When the model trains too, the bound also favours models whose posterior $q$ can match.

# %% [markdown] tags=["notes"]
# 12 minutes for section 3. Write (2) on the board and keep it. Move mu with sigma at 0.9, then make sigma small
# in the middle, then on a hump. Question for the room: can both parts of the bar shrink? (No.) Expected wrong
# answer to Predict 1: the broad one, "because it covers both".

# %% [markdown]
# ## 4. Build: a gradient through noise
#
# We climb (2) by gradients, also in the parameters *of $q$*, and these decide from where $z$ is drawn. How does
# one differentiate a draw? **Reparametrise**: draw the noise $\varepsilon\sim\mathcal N(0, 1)$ first and hold it
# fixed. Then $z = \mu + \sigma\,\varepsilon$ is an ordinary function of $\mu$ and $\sigma$. The randomness has no
# parameters, and the gradient may go inside the average if $f$ is continuous and has a slope (kinks are allowed,
# jumps are not):
#
# $$\nabla\,\mathbb E_q[f(z)] = \mathbb E_\varepsilon\bigl[\nabla f(\mu +
#   \sigma\,\varepsilon)\bigr]. \tag{3}$$
#
# **Question 2.** With $\sigma = e^{\ell}$: what are $dz/d\mu$ and $dz/d\ell$?
#
# <details><summary>Answer</summary>
#
# $dz/d\mu = 1$ and $dz/d\ell = \sigma\varepsilon = z - \mu$: a draw far from the mean tells the width more.
# </details>
#
# Try it where the answer is known: $f(z) = z^2$ has $\mathbb E_q[f] = \mu^2+\sigma^2$, with gradients $2\mu$ in
# $\mu$ and $2\sigma^2$ in $\log\sigma$.

# %%
seed_everything(0)
mu, log_sigma = (
    torch.tensor(1.5, requires_grad=True),
    torch.tensor(-0.5, requires_grad=True),
)
eps = torch.randn(100_000)
z_drawn = mu + log_sigma.exp() * eps
z_drawn.square().mean().backward()
print(f"by draws {mu.grad:.3f} and {log_sigma.grad:.3f}", end=", ")
print(f"exact {2 * 1.5:.3f} and {2 * math.exp(-1):.3f}")
assert abs(mu.grad - 3) < 0.05 and abs(log_sigma.grad - 2 * math.exp(-1)) < 0.05

# %% [markdown]
# A further section compares this with an estimator that needs no slope of $f$. For a $z$ of 64 numbers its variance is
# thousands of times larger.
#
# The KL of (2) needs no draws. In one dimension $\mathbb E_q[\log q] = -\log\sigma -\tfrac12\log 2\pi - \tfrac12$
# and $\mathbb E_q[\log p] = -\tfrac12\log 2\pi - \tfrac12(\mu^2+\sigma^2)$, hence
#
# $$\mathrm{KL}\bigl(\mathcal N(\mu,\sigma^2)\,\|\,\mathcal N(0,1)\bigr)
#   = \tfrac12(\mu^2 + \sigma^2 - 1) - \log\sigma, \tag{4}$$
#
# and independent dimensions **add**.


# %% tags=["from:vae.vae.gaussian_kl"]
def gaussian_kl(mu: Tensor, log_sigma: Tensor) -> Tensor:
    """KL(N(mu, sigma^2) || N(0, 1)) of every dimension in nats, closed form: (4).

    (mu^2 + sigma^2 - 1) / 2 - log sigma; sum over the dimensions for the KL of a vector.
    """
    return (mu.square() + (2 * log_sigma).exp() - 1) / 2 - log_sigma


# %%
seed_everything(0)
mu, log_sigma = torch.tensor([0.0, 1.0, -2.0]), torch.tensor([0.0, -1.0, 0.5])
q, p = Normal(mu, log_sigma.exp()), Normal(0.0, 1.0)
draws = q.sample((100_000,))
log_ratio = q.log_prob(draws) - p.log_prob(draws)
print("closed form", [f"{v:.3f}" for v in gaussian_kl(mu, log_sigma).tolist()])
print("by drawing ", [f"{v:.3f}" for v in log_ratio.mean(0).tolist()])
assert torch.allclose(gaussian_kl(mu, log_sigma), log_ratio.mean(0), atol=0.05)

# %% [markdown]
# **Question 3.** A colleague's loss takes the *mean* of the reconstruction over 784 pixels and the *mean* of the
# KL over 64 latent dimensions. By which factor is the KL overcharged?
#
# <details><summary>Answer</summary>
#
# With $A = -\log p(x\mid z)$, $A/784 + \mathrm{KL}/64$ is, up to the factor 784, $A + 12.25\,\mathrm{KL}$: (2) with a
# price of 12.25 on the code. It is another model's loss, a beta-VAE (the next lecture) by accident. Sum both.
# </details>
#
# ## 5. Build: the model
#
# An **encoder** with weights $\phi$ looks at $x$ and answers with $\mu$ and $\log\sigma$ of $q_\phi(z\mid x)$: one
# network proposes for all $x$, so that nobody has to search a $q$ for each. The **decoder** answers for each $z$
# with the parameters of $p_\theta(x\mid z)$. What those numbers mean is the business of an *observation*. For bits
# that is `BernoulliPixels`, a logit for each pixel; `Independent` adds the log-probabilities of all pixels.
# `shown(x, self)` is $x$ as the encoder is to see it, and `validate` and `precise` guard against wrong shapes and low
# precision.


# %% tags=["from:vae.vae.EncoderDecoder"]
class EncoderDecoder(nn.Module):
    """p(x, z) = p(z) p(x | z), and q(z | x) to guess the z of an x: any two networks.

    Args:
        shape: of one x.
        encoder: x (B, *shape), as the observation embeds it -> (B, 2 K), mu and log_sigma.
        decoder: z (B, K) -> (B, outputs, *shape), `outputs` of the observation.
        observation: what those numbers mean, such as `BernoulliPixels()`.
        prior: a Density and Sampler of z, such as `StandardNormal(K)`.
    """

    latent: int | str = "K"  # numbers in z; any, unless a subclass knows

    def __init__(self, shape: Sequence[int], encoder, decoder, observation, prior):
        super().__init__()
        self.shape, self.observation, self.prior = tuple(shape), observation, prior
        self.encoder, self.decoder = encoder, decoder

    def encode(self, x: Tensor) -> Distribution:
        """Return q(z | x), batch shape (B,), event shape (K,)."""
        return diagonal_gaussian(self.encoder(shown(x, self)))

    def decode(self, z: Tensor) -> Distribution:
        """Return p(x | z), for z (*B, K): batch shape (*B,), event shape `shape`."""
        z = validate.vectors(z, self.latent, self.decoder)
        numbers = self.decoder(z.flatten(0, -2)).unflatten(0, z.shape[:-1])
        parts = precise(numbers).unbind(dim=-1 - len(self.shape))
        return Independent(self.observation(*parts), len(self.shape), False)

    def log_likelihood(self, x: Tensor, z: Tensor) -> Tensor:
        """Return log p(x | z) in nats: x (B, *shape), z (*S, B, K) -> (*S, B)."""
        x = validate.shaped(x, self.shape).to(z.dtype)  # codes may be integers
        return self.decode(z).log_prob(x)

    @torch.no_grad()
    def sample(self, n: int) -> Tensor:
        """Draw n points (n, *shape): z from the prior, then x from p(x | z)."""
        return self.decode(self.prior.sample(n)).sample()


# %% [markdown]
# Now the bound. `terms` draws $z$ by (3) (`rsample` is $\mu + \sigma\varepsilon$) and returns the two halves of
# (2); `latent_kl` is (4). `iwae` is a tighter bound, for measuring only: it averages $k$ values of
# $p(x,z)/q(z\mid x)$ *before* it takes the logarithm, a few at a time to save memory. (7) shows why that helps.


# %% tags=["from:vae.vae.LatentModel"]
class LatentModel(EncoderDecoder):
    """An encoder and a decoder with the bounds on log p(x) that join them, in nats."""

    def terms(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return log p(x | z), z ~ q(z | x), (B,), and the KL per dimension: (B, K)."""
        q = self.encode(x)
        z = q.rsample()
        return self.log_likelihood(x, z), latent_kl(q, self.prior, z)

    def elbo(self, x: Tensor) -> Tensor:
        """Return one draw's estimate of the bound (2): (B, *shape) -> (B,)."""
        log_p, kl = self.terms(x)
        return log_p - kl.sum(-1)

    def loss(self, x: Tensor) -> Tensor:
        """Return the mean negative bound."""
        return -self.elbo(x).mean()

    def log_weights(self, x: Tensor, q: Distribution, k: int) -> Tensor:
        """Return log p(x, z) - log q(z | x) of k draws z ~ q, all at once: (k, B)."""
        z = q.rsample((k,))  # (k, B, K)
        log_prior = self.prior.log_prob(z.flatten(0, -2)).view(z.shape[:-1])
        return self.log_likelihood(x, z) + log_prior - q.log_prob(z)

    def iwae(self, x: Tensor, k: int, rows: int = 1024) -> Tensor:
        """Return the importance weighted bound (7) of k draws: (B, *shape) -> (B,).

        Args:
            x: (B, *shape).
            k: number of draws; more make the bound tighter.
            rows: decoded at a time, which bounds memory; at least one draw of the batch.
        """
        validate.at_least(1, k=k, rows=rows)
        q, at_once = self.encode(x), max(1, rows // len(x))
        parts = [
            self.log_weights(x, q, min(at_once, k - done)).logsumexp(0)
            for done in range(0, k, at_once)
        ]
        return torch.stack(parts).logsumexp(0) - math.log(k)


# %% [markdown]
# The plain VAE chooses perceptrons:


# %% tags=["from:vae.vae.VAE"]
class VAE(LatentModel):
    """Variational autoencoder of vectors (B, D), a perceptron each way.

    Args:
        D: number of dimensions of x.
        latent: number K of dimensions of z.
        hidden: units of the encoder's hidden layers; the decoder has them in reverse.
        observation: p(x | z); bits if None.
        prior: p(z); standard normal if None.

    References:
        Kingma, Welling (2014). Auto-encoding variational Bayes. arXiv:1312.6114.
    """

    def __init__(
        self,
        D: int,
        *,
        latent: int = 32,
        hidden: Sequence[int] = (400,),
        observation: nn.Module | None = None,
        prior: nn.Module | None = None,
    ):
        validate.at_least(1, D=D, latent=latent, hidden=hidden)
        observation = observation or BernoulliPixels()
        encoder = mlp((D, *hidden, 2 * latent))
        decoder = nn.Sequential(
            mlp((latent, *reversed(hidden), D * observation.outputs)),
            nn.Unflatten(-1, (observation.outputs, D)),
        )
        prior = prior or StandardNormal(latent)
        super().__init__((D,), encoder, decoder, observation, prior)
        self.latent = latent


# %% tags=["fold"]
# @title The way from x to the bound
seed_everything(0)
good = VAE(64, latent=8, hidden=(200,))
schematics.vae(good, x_train[:16])

# %% [markdown]
# Noise enters from the side. So the gradient of both terms passes through $z$, $\mu$ and $\sigma$ into the encoder.
# Here is one whole pass by hand, without the classes:

# %%
batch = x_train[:16]
seed_everything(7)
mu, log_sigma = good.encoder(batch).chunk(2, dim=-1)  # (16, 8) each
z_drawn = mu + log_sigma.exp() * torch.randn_like(mu)  # (3)
logits = good.decoder(z_drawn)[:, 0]  # (16, 64)
log_p = -F.binary_cross_entropy_with_logits(logits, batch, reduction="none").sum(-1)
by_hand = log_p - gaussian_kl(mu, log_sigma).sum(-1)  # (2), one draw
seed_everything(7)  # the same noise
assert torch.allclose(by_hand, good.elbo(batch), atol=1e-4)
print(
    f"log p(x | z) {log_p.mean():.2f}, minus KL: ELBO {by_hand.mean():.2f} nats, untrained"
)

# %% [markdown]
# One oracle before any training. With *linear* networks and Gaussian noise everything is known:
# $x = Wz + b + \sigma\varepsilon$ is normal with covariance $WW^\top + \sigma^2I$. The bound must stay below its
# $\log p(x)$, for every $x$, whatever the encoder says.

# %%
seed_everything(0)
linear = VAE(5, latent=2, hidden=(), observation=GaussianPixels(0.5))
W, b = linear.decoder[0][0].weight, linear.decoder[0][0].bias
known = torch.distributions.MultivariateNormal(b, W @ W.T + 0.25 * torch.eye(5))
points = known.sample((8,))
with torch.no_grad():
    mean_bound = linear.elbo(points.repeat(20_000, 1)).view(20_000, 8).mean(0)
    gaps = known.log_prob(points) - mean_bound
assert (gaps > 0).all()
print("gaps of an untrained encoder, nats:", [f"{g:.2f}" for g in gaps.tolist()])

# %% [markdown] tags=["notes"]
# 15 minutes for sections 4 and 5. Draw the schematic before showing it. Ask: where would the gradient stop if
# we drew z with `sample`? (At z: the encoder would learn from the KL alone and fall silent.)

# %% [markdown]
# ## 6. Train: a density whose truth is known
#
# Two moons, two latent numbers, a Gaussian observation whose width $\sigma$ is learnt, and the usual loop.


# %%
def climb(model, x, steps, lr=5e-3, B=256):
    """Train on rows drawn from x; yield the step and the loss, so that the caller may look."""
    optimizer = torch.optim.Adam(model.parameters())
    for step in range(1, steps + 1):
        loss = model.loss(x[torch.randint(len(x), (B,))])
        optimizer.zero_grad()
        loss.backward()
        optimizer.param_groups[0]["lr"] = lr * (1 - step / steps)
        optimizer.step()
        yield step, loss.item()


moons = toy.get("two_moons")
seed_everything(0)
x, x_new = moons.sample(20_000).float(), moons.sample(2000).float()
plane = VAE(2, latent=2, hidden=(128, 128), observation=GaussianPixels(0.5))
show = {
    "truth": lambda ax: plot.density(moons.log_prob, moons.bounds, ax),
    "samples": lambda ax: plot.scatter(plane.sample(2000), ax, moons.bounds),
}
for _ in watch(climb(plane, x, budget(2500, 20)), every=200, panels=show):
    pass
with torch.no_grad():
    log_p = moons.log_prob(x_new)
    for name, found in (("elbo", plane.elbo(x_new)), ("iwae", plane.iwae(x_new, 500))):
        print(f"truth - {name} = {(log_p - found).mean():.3f} nats")

# %% [markdown]
# The second number is close to the model's distance from the truth, $\mathrm{KL}(\text{truth}\,\|\,p_\theta)$; the
# first has the gap of (2) on top.
#
# **Question 4.** Look between the moons. Where do the points there come from?
#
# <details><summary>Answer</summary>
#
# The decoder is continuous. A $z$ that moves from one moon's codes to the other's passes every place between, and
# the Gaussian prior has mass all the way. A further section takes most of that bridge away with another prior.
# </details>
#
# ## 7. Digits: originals, reconstructions, and a map
#
# Two models of digits: `good` with eight latent numbers, and `flat` with two, which can be drawn.


# %%
def fit(model, x, steps, lr=3e-3, B=64):
    """Train with the course's own loop, without a figure, the rate falling to 0."""
    for _ in train(model, forever(x, B), steps, lambda step: lr * (1 - step / steps)):
        pass
    return model.eval()


seed_everything(0)
flat = fit(VAE(64, latent=2, hidden=(200, 200)), x_train, budget(2000, 20))
seed_everything(0)
good = fit(VAE(64, latent=8, hidden=(200,)), x_train, budget(2000, 20))
with torch.no_grad():
    where, seen = flat.encode(x_test).mean, x_test[:20]
    for name, model in (("2 latent numbers", flat), ("8 latent numbers", good)):
        log_p, kl = (part.sum() / len(x_test) for part in model.terms(x_test))
        print(
            f"{name}: -log p(x | z) {-log_p:.2f}, KL {kl:.2f}, -ELBO {kl - log_p:.2f} nats"
        )

# %% tags=["fold"]
# @title Twenty test digits, and what comes back from two and from eight numbers
rows = plot.panels(
    "originals", "from 2 numbers", "from 8 numbers", columns=1, width=7, height=0.9
)
with torch.no_grad():
    back = [model.decode(model.encode(seen).mean).mean for model in (flat, good)]
for ax, shown_rows in zip(rows, (seen, *back)):
    plot.image_grid(shown_rows.view(-1, 8, 8), ax, columns=20)

# %% [markdown]
# **Predict 2, then move the sliders.** The encoder's means put each test digit on a map, and the decoder draws a
# digit for every place. No labels were used. Will the classes have regions of their own?


# %%
def draw_map(z1, z2):
    """The test digits on the map, a cross at z, and what the decoder draws there."""
    left, middle, right = plot.panels(
        "means of q(z | x)", f"z = ({z1:.1f}, {z2:.1f})", "map"
    )
    for (a, b), digit in zip(where.tolist(), digits.y_test.tolist()):
        colour = (plot.BLUE, plot.RED, plot.GREEN, plot.PURPLE, plot.GREY)[digit % 5]
        left.text(a, b, digit, color=colour, size=8, ha="center", va="center", clip_on=True)
    left.plot(z1, z2, "x", color=plot.BLACK, markersize=12, markeredgewidth=3)
    left.set(xlim=(-3.5, 3.5), ylim=(-3.5, 3.5), xlabel="z1", ylabel="z2")
    at = torch.linspace(-2.4, 2.4, 12)
    grid = torch.cartesian_prod(at.flip(0), at).flip(1)  # z2 upwards, z1 to the right
    with torch.no_grad():
        plot.image_grid(flat.decode(torch.tensor([[z1, z2]])).mean.view(1, 8, 8), middle)
        plot.image_grid(flat.decode(grid).mean.view(-1, 8, 8), right)


play(draw_map, z1=(-3.0, 3.0, 0.1, 2.0), z2=(-3.0, 3.0, 0.1, -1.0))

# %% [markdown]
# <details><summary>Answer</summary>
#
# Most do, and neighbours look alike.
# </details>
#
# **Question 5.** What do you need to *draw* a new digit: encoder, prior, decoder? And where on
# the map do draws look least like a digit: where few training codes are, or where many are?
#
# <details><summary>Answer</summary>
#
# Prior and decoder. The next figure answers the second question for `flat`, in our run: in the
# crowd. Codes of different digits share the middle, and the decoder can only answer with a
# compromise. Lonely places at the rim belong to one digit. The other way to a bad draw is a
# **hole**, where the prior has mass and no code comes: the bridge between the moons.
# </details>

# %% tags=["fold"]
# @title All training codes under the prior, and draws from its lonely and its crowded places
with torch.no_grad():
    codes = flat.encode(x_train).sample()
    drawn = flat.prior.sample(4000)
    far = torch.cdist(drawn, codes).topk(5, largest=False).values[:, -1]  # 5th neighbour
    places = {"lonely": drawn[far.topk(20).indices]}
    places["crowded"] = drawn[far.topk(20, largest=False).indices]
    ink = {name: flat.decode(at).mean.view(-1, 8, 8) for name, at in places.items()}
unsure = {name: (p * (1 - p)).mean() for name, p in ink.items()}
left, *others = plot.panels(
    "codes, and the prior's 2 sigma",
    *(f"{n}: p (1 - p) = {u:.2f}" for n, u in unsure.items()),
)
plot.scatter(codes, left, ((-4, 4), (-4, 4)), size=2)
left.add_patch(plot.plt.Circle((0, 0), 2, fill=False, color=plot.BLACK))
for (name, at), ax, colour in zip(places.items(), others, (plot.RED, plot.ORANGE)):
    left.scatter(*at.T, s=12, color=colour, label=name)
    plot.image_grid(ink[name], ax, columns=5)
_ = left.legend(loc="upper left")

# %% [markdown] tags=["notes"]
# 12 minutes for sections 6 and 7. While the moons train, ask what the flat start of the loss means. At the map,
# let somebody name two classes and walk between them. Leave out the crowds if time is short.

# %% [markdown]
# ## 8. Break it: the code falls silent
#
# Two things can silence a code: a decoder that hears the past and needs $z$ less, and one so deep that little of $z$
# comes through at first. `strong` has both: every bit hears the bits before it, linearly, besides $z$ (the switch
# `observation=AutoregressivePixels(64)`), and both networks have three hidden layers. `shallow` has the past only.
#
# **Predict 3.** Which of the two silences more of the eight latent dimensions?

# %%
digit_steps = budget(1200, 20)


def strong(seed=0):
    """A deep VAE whose decoder hears the past."""
    seed_everything(seed)
    past = AutoregressivePixels(64)
    return VAE(64, latent=8, hidden=(128,) * 3, observation=past)


@torch.no_grad()
def rates(model):
    """Mean KL of every latent dimension on the test digits, nats, largest first."""
    return model.terms(x_test)[1].mean(0).sort(descending=True).values


silent = fit(strong(), x_train, digit_steps)
seed_everything(0)
shallow = VAE(64, latent=8, hidden=(128,), observation=AutoregressivePixels(64))
fit(shallow, x_train, digit_steps)
corners = {"deep, past": silent, "one layer, past": shallow, "one layer, none": good}
for name, model in corners.items():
    print(f"KL per dimension, {name:16s}", *(f"{r:.2f}" for r in rates(model).tolist()))
_ = plot.image_grid(silent.sample(40).view(-1, 8, 8), columns=20)

# %% [markdown]
# <details><summary>Answer</summary>
#
# The depth. One layer *with* the past keeps all eight talking, each for a few tenths of a nat less. The past lowers
# what is worth saying; the depth decides whether the decoder learns to listen.
# </details>
#
# **Posterior collapse.** Nothing crashed, and the samples look passable. Only the KL per dimension shows it.
#
# **Question 6.** What does a dimension with $\mathrm{KL} = 0$ say about $x$, and what does its $q(z_j\mid x)$ look
# like?
#
# <details><summary>Answer</summary>
#
# Nothing. By (4) the KL is 0 only for $\mu = 0$, $\sigma = 1$, and it is an average of numbers that are at least 0:
# so $q(z_j\mid x) = \mathcal N(0,1)$ for every $x$, and the decoder hears pure noise there.
# </details>
#
# Why? A likely story: early on $z$ is noise to the decoder, so the clearest gradient the encoder gets is the
# charge. It stops speaking; then the decoder has no reason to listen. If the story is true, it should help to spare
# a code that still says little. Two repairs do that. **KL warm-up**: $-\mathbb E\log p(x\mid z) +
# \beta\,\mathrm{KL}$ with $\beta$ rising from 0 to 1. **Free bits**: charge a dimension only beyond a floor
# $\lambda$,
#
# $$\text{charge} = \sum_{j=1}^{K}\max\bigl(\lambda,\ \overline{\mathrm{KL}}_j\bigr),
#   \tag{5}$$
#
# where the bar averages over the batch. Below the floor the gradient is zero: silence earns nothing.


# %% tags=["from:vae.objectives.free_bits"]
def free_bits(kl: Tensor, floor: float) -> Tensor:
    """Charge for a dimension only what it uses beyond `floor` nats on average: (5).

    Below the floor the gradient of the KL is 0, so nothing pushes a dimension to silence.

    Args:
        kl: KL per example and dimension (B, K), in nats.
        floor: nats that every dimension may use for nothing.

    Returns:
        The sum over dimensions of max(mean KL, floor), a scalar.
    """
    return kl.mean(0).clamp_min(floor).sum()


# %%
repaired = {"none": silent}
for name, objective in {
    "warm-up": lambda m: WarmUp(m, steps=digit_steps // 2),
    "free bits": lambda m: FreeBits(m, floor=0.5),
}.items():
    fit(objective(model := strong()), x_train, digit_steps)
    repaired[name] = model.eval()
if full_run():
    talking = {name: (rates(model) > 0.1).sum().item() for name, model in repaired.items()}
    print("dimensions that say more than 0.1 nats:", talking)
    assert talking["free bits"] > talking["none"]
    assert (rates(shallow) > 0.1).sum() > talking["none"] + 2  # the past alone silences few

# %% tags=["fold"]
# @title What each dimension says, without and with a repair
ax = plot.panels("rate of each dimension", width=6)[0]
for i, (name, model) in enumerate(repaired.items()):
    color = (plot.GREY, plot.BLUE, plot.ORANGE)[i]
    ax.bar(torch.arange(8) + 0.27 * (i - 1), rates(model), 0.27, color=color, label=name)
ax.set(xlabel="latent dimension, sorted by rate", ylabel="KL (nats)")
_ = ax.legend(title="repair")

# %% [markdown]
# Both repairs fit the story: where those that say little are spared, more dimensions talk. Whether the model of $x$ is
# better for it is another question, and the table below answers it by $\mathcal L_{500}$, the bound of `iwae` with
# 500 draws. (Both repairs had the better $\mathcal L_{500}$ on three seeds; free bits paid for it in the ELBO on two
# of them. At four times the steps we looked at one seed: warm-up had the better $\mathcal L_{500}$ and the *worse* ELBO.) If a decoder can truly do without $z$, no repair need win: (2) does not ask for useful codes, only for
# likely data. The next lecture makes that its theme.
#
# **Change one line.** The fourth corner: give `strong` the observation `BernoulliPixels()`, so no past, and run the
# section again. Who is silent now?
#
# <details><summary>Answer</summary>
#
# Six of the eight, all the same: the depth does that. Those that talk say more, on both seeds that we
# tried: without the past, $z$ is the only way to tell pixels apart. (`BernoulliPixels` shows the encoder
# 0 and 1, the other -1 and 1. On that scale, too, only two or three talk.)
# </details>

# %% [markdown] tags=["notes"]
# 12 minutes. Ask before the bar chart: would you have noticed from the loss? From the samples? Wrong answer to
# expect to Predict 3: the past, since such a decoder *could* do without $z$. To Question 6: "it says its mean". Leave
# out the change if time is short.

# %% [markdown]
# ## 9. Scale: MNIST
#
# The same class, two hidden layers of 500 each way, trained by `gdm train` on the fixed binarised MNIST; the card
# beside the checkpoint tells its figures. Each row on the right goes in a straight line between the codes of two
# samples.

# %%
name = "vae/vae-mnist-cpu"
if checkpoints.available(name):
    mnist, card = checkpoints.load(name), checkpoints.card(name)
    seed_everything(3)
    with torch.no_grad():
        ends = mnist.prior.sample(8).view(4, 2, 1, -1)
        line = ends[:, 0] + torch.linspace(0, 1, 10)[:, None] * (ends[:, 1] - ends[:, 0])
        walk = mnist.decode(line.flatten(0, 1)).mean
    left, right = plot.panels("samples", "from one code to another", width=4.5, height=2.1)
    plot.image_grid(mnist.sample(40).view(-1, 28, 28), left, columns=10)
    plot.image_grid(walk.view(-1, 28, 28), right, columns=10)
    for f in (f for f in card["figures"] if f["split"] == "test"):
        print(f"{f['metric']}: {f['value']:.2f} +- {f['error']:.2f} {f['unit']}")
    print(f"{card['parameters']:,} parameters, {card['seconds']:.0f} s on {card['device']}")
else:
    print(f"no checkpoint yet: 'gdm train {name}' makes it")

# %% [markdown]
# ## Summary
#
# - A latent variable makes sampling easy, $z$ then $x$, and the evidence (1) an integral.
# - Bound plus gap is the log-evidence (2), exactly. The gap is $\mathrm{KL}(q\,\|\,p(z\mid x))$.
# - Noise that enters from the side, $z=\mu+\sigma\varepsilon$ (3), lets the gradient through; the KL to the prior
#   (4) is a formula, and a sum.
# - Prior and decoder draw. Draws fail in holes, where no code has been, and in crowds.
# - A silent code (ours by depth) shows in the KL per dimension, and yields to warm-up or free bits (5), not always
#   for the better.
#
# All models of bits in this lecture, one unit, one test set:

# %%
rows = {"2 latents": flat, "8 latents": good, "shallow": shallow}
rows |= {f"strong, {name}": model for name, model in repaired.items()}
print(f"{'test digits, nats':24s}{'-ELBO':>8s}{'KL':>7s}{'-L_500':>8s}{'+-':>6s}")
for name, model in rows.items():
    seed_everything(0)
    with torch.no_grad():
        found = -elbos(model, x_test.repeat(10, 1)).mean()
        kl = model.terms(x_test)[1].sum(-1).mean()
        tight = estimate(-model.iwae(x_test, 500))
    print(f"{name:24s}{found:8.2f}{kl:7.2f}{tight.value:8.2f}{tight.error:6.2f}")
print(type(good).__name__, protocols.abilities(good))

# %% [markdown]
# **Exercises:** open them with `gdm start vae/vae`. Questions 1 to 4 need the core only (question 3 derives the
# estimator of "a gradient without a slope" from the log-derivative rule); 5 and 6 are explained in
# "many draws" and "grey levels" below.
#
# ## References
#
# - Kingma, Welling (2014). *Auto-encoding variational Bayes.* arXiv:1312.6114.
# - Rezende, Mohamed, Wierstra (2014). *Stochastic backpropagation and approximate inference
#   in deep generative models.* arXiv:1401.4082.
# - Neal, Hinton (1998). *A view of the EM algorithm that justifies incremental, sparse, and
#   other variants.*
# - Burda, Grosse, Salakhutdinov (2016). *Importance weighted autoencoders.*
#   arXiv:1509.00519.
# - Rainforth and others (2018). *Tighter variational bounds are not necessarily better.*
#   arXiv:1802.04537.
# - Tucker, Lawson, Gu, Maddison (2019). *Doubly reparameterized gradient estimators for Monte
#   Carlo objectives.* arXiv:1810.04152.
# - Cremer, Li, Duvenaud (2018). *Inference suboptimality in variational autoencoders.*
#   arXiv:1801.03558.
# - Bowman and others (2016). *Generating sentences from a continuous space.*
#   arXiv:1511.06349. (Collapse, and warm-up.)
# - Kingma and others (2016). *Improving variational inference with inverse autoregressive
#   flow.* arXiv:1606.04934. (Free bits; flow posteriors.)
# - Salimans and others (2017). *PixelCNN++.* arXiv:1701.05517. (Discretised logistics.)

# %% [markdown]
# ## Further: EM, fitting heaps in circles
#
# To fit the heaps of section 2 we would need to know who belongs where; to tell who belongs where we need the
# heaps. **EM** goes in circles until it stops: take $q(z) = p(z\mid x)$, so that the gap in (2) is 0, then raise the
# bound in the parameters. For fixed $q$ the maximum is a weighted share, mean and variance (set derivatives to
# zero to see it). A VAE does both at once, by gradients.


# %% tags=["from:vae.mixture.Mixture"]
@dataclass(frozen=True)
class Mixture:
    """K round Gaussians: p(x) = sum_z pi_z N(x; mu_z, sigma_z^2 I), z = 1..K hidden.

    Attributes:
        log_pi: (K,).
        mu: (K, D).
        log_sigma: (K,).
    """

    log_pi: Tensor
    mu: Tensor
    log_sigma: Tensor

    def log_joint(self, x: Tensor) -> Tensor:
        """Return log p(x, z) for all z in nats: (B, D) -> (B, K)."""
        D, log_sigma = self.mu.shape[1], self.log_sigma.clamp(-20, 20)
        x = validate.points(x, D, self.mu)
        squared = (x[:, None] - self.mu).square().sum(-1)  # (B, K)
        log_normal = -0.5 * squared * torch.exp(-2 * log_sigma)
        return self.log_pi + log_normal - D * (log_sigma + math.log(2 * math.pi) / 2)

    def log_prob(self, x: Tensor) -> Tensor:
        """Return the evidence log p(x), a sum over all z, in nats: (B,)."""
        return self.log_joint(x).logsumexp(-1)

    def posterior(self, x: Tensor) -> Tensor:
        """Return p(z | x) by Bayes' rule: (B, K)."""
        return self.log_joint(x).softmax(-1)


# %% tags=["from:vae.mixture.maximise"]
def maximise(x: Tensor, q: Tensor) -> Mixture:
    """Return the mixture with the highest bound for fixed q: EM's M-step.

    Every component takes the weighted share, mean and variance of the points it answers
    for.
    """
    share = q.sum(0)  # (K,)
    mu = q.T @ x / share[:, None]
    squared = (x[:, None] - mu).square().sum(-1)  # (B, K)
    variance = (q * squared).sum(0) / (share * x.shape[1])
    return Mixture((share / len(x)).log(), mu, variance.log() / 2)


# %% tags=["from:vae.mixture.mixture_elbo"]
def mixture_elbo(model: Mixture, x: Tensor, q: Tensor) -> Tensor:
    """Return the bound (2), sum_z q(z) [log p(x, z) - log q(z)], in nats: (B,).

    Args:
        x: (B, D).
        q: any distributions over z, (B, K).
    """
    return (q * model.log_joint(x)).sum(-1) - torch.xlogy(q, q).sum(-1)


# %%
seed_everything(1)
model = Mixture(torch.full((8,), 1 / 8).log(), spots[:8].clone(), torch.zeros(8))
history = [model]
for _ in range(40):
    history.append(model := maximise(spots, model.posterior(spots)))
losses = [-m.log_prob(spots).mean().item() for m in history]
assert all(after <= before + 1e-5 for before, after in pairwise(losses))


def draw_em(step):
    """The mixture after so many steps of EM, with the posterior as colour."""
    m, (left, right) = history[step], plot.panels(f"step {step}", "")
    left.scatter(*spots.T, c=(m.posterior(spots) @ palette).numpy(), s=5, linewidths=0)
    for (a, b), s in zip(m.mu.tolist(), m.log_sigma.exp().tolist()):
        left.add_patch(plot.plt.Circle((a, b), 2 * s, fill=False, color=plot.GREY))
    plot.plane(heaps.bounds, left)
    plot.curves({"": losses}, right, x=range(41), xlabel="step of EM")
    right.plot(step, losses[step], "o", color=plot.ORANGE)
    right.set(ylabel="-log p(x) (nats)", title="never rises")


play(draw_em, step=[3, 0, 1, 2, 5, 8, 12, 20, 30, 40])
print(
    f"EM ends at {losses[-1]:.2f} nats; the entropy of the truth is {heaps.entropy():.2f}"
)
ends = []
for _ in range(20):  # other starts, the same points
    start = spots[torch.randperm(len(spots))[:8]].clone()
    model = Mixture(torch.full((8,), 1 / 8).log(), start, torch.zeros(8))
    for _ in range(40):
        model = maximise(spots, model.posterior(spots))
    ends.append(-model.log_prob(spots).mean().item() - heaps.entropy())
model = history[-1]
all_found = sum(end < 0.1 for end in ends)
print(f"{all_found} of 20 other starts find all eight heaps; the worst stays", end=" ")
print(f"{max(ends):.2f} nats above the entropy")

# %%
guess = torch.rand(1500, 8)
guess = guess / guess.sum(-1, keepdim=True)
log_right = model.log_joint(spots).log_softmax(-1)  # a posterior of 1e-50 is not 0
gap = (guess * (guess.log() - log_right)).sum(-1)  # KL(q || posterior)
at_posterior = mixture_elbo(model, spots, model.posterior(spots))
assert torch.allclose(at_posterior, model.log_prob(spots), atol=1e-4)
total = mixture_elbo(model, spots, guess) + gap
assert torch.allclose(total, model.log_prob(spots), rtol=1e-3, atol=1e-3)
print("at q = posterior the bound is log p(x); elsewhere bound + KL is")

# %% [markdown]
# Some starts find all eight. From most, EM ends above the entropy of the truth: somewhere circles share a heap, and
# another one spreads over two. EM climbs, but only to the nearest summit.
#
# ## Further: a gradient without a slope
#
# Another estimator uses $\nabla q = q\,\nabla\log q$, the **score function** of $q$:
#
# $$\nabla\,\mathbb E_q[f(z)] = \int f(z)\,\nabla q(z)\,dz =
#   \mathbb E_q\bigl[f(z)\,\nabla\log q(z)\bigr]. \tag{6}$$
#
# It needs values of $f$ only, no slope: a discrete $z$ can use it. Both are right on average. How many draws does
# "on average" take?


# %% tags=["from:vae.gradients.score_gradient"]
def score_gradient(
    f: Integrand, mu: Tensor, log_sigma: Tensor, n: int
) -> tuple[Tensor, Tensor]:
    """Return n draws of (6), f(z) times the gradient of log q(z): f is never derived.

    Args:
        f: any function.
        mu, log_sigma: (K,).
        n: how many draws.

    Returns:
        Gradients in mu and in log_sigma, (n, K) each.
    """
    mu, log_sigma = (v.detach().expand(n, -1).requires_grad_() for v in (mu, log_sigma))
    q = Normal(mu, log_sigma.exp(), validate_args=False)
    z = q.sample()
    log_q = q.log_prob(z).sum(-1)  # (n,)
    return torch.autograd.grad((f(z).detach() * log_q).sum(), (mu, log_sigma))


# %% tags=["from:vae.gradients.reparametrised_gradient"]
def reparametrised_gradient(
    f: Integrand, mu: Tensor, log_sigma: Tensor, n: int
) -> tuple[Tensor, Tensor]:
    """Return n draws of (3), the gradient through z = mu + sigma eps.

    d f(mu + sigma eps) / d mu and d log_sigma: each is unbiased for the gradient of
    E[f(z)], z ~ N(mu, sigma^2).

    Args:
        f: differentiable; rows must not mix.
        mu, log_sigma: (K,).
        n: how many draws.

    Returns:
        Gradients in mu and in log_sigma, (n, K) each.
    """
    eps = torch.randn(n, len(mu), dtype=mu.dtype, device=mu.device)
    mu, log_sigma = (v.detach().expand(n, -1).requires_grad_() for v in (mu, log_sigma))
    z = mu + log_sigma.exp() * eps
    return torch.autograd.grad(f(z).sum(), (mu, log_sigma))


# %% [markdown]
# Let $f$ be a log density in $K$ dimensions, as in the ELBO, and measure the variance of one coordinate of the
# gradient. **Predict:** what happens to each as $K$ grows?

# %%
seed_everything(0)
sizes, n = (1, 2, 4, 8, 16, 32, 64), 20_000
measured = {"score (6)": [], "score, f less its mean": [], "through z (3)": []}
for K in sizes:
    f = lambda z: -0.5 * (z - 1).square().sum(-1)  # up to a constant, log N(z; 1, I)
    level = lambda z, f=f, K=K: f(z) + K  # here E[f] = -K
    at = torch.zeros(K), torch.zeros(K)  # mu = 0, sigma = 1: the exact gradient is 1
    draws = (
        score_gradient(f, *at, n),
        score_gradient(level, *at, n),
        reparametrised_gradient(f, *at, n),
    )
    for name, (g, _) in zip(measured, draws):
        g = g[:, 0]
        assert abs(g.mean() - 1) < 6 * g.std() / n**0.5  # unbiased
        measured[name].append(g.var().item())
ax = plot.curves(measured, x=sizes, xlabel="dimensions K", ylabel="variance of a draw")
ax.set(xscale="log", yscale="log", title="the exact gradient is 1")
ax.set_xticks(sizes, sizes, minor=False)
_ = ax.minorticks_off()
print("variance at K = 64:", *(f"{name} {v[-1]:,.1f};" for name, v in measured.items()))
plain, level, through = (v[-1] for v in measured.values())
assert plain > 20 * level > 400 * through

# %% [markdown]
# <details><summary>Answer</summary>
#
# Three slopes. The plain score function multiplies each coordinate's noise by *all* of $f$, whose mean is $-K$:
# hence the square of $K$. But $\mathbb E_q[\nabla\log q] = 0$, so any constant may be subtracted from $f$ in (6).
# With its mean subtracted, a *baseline*, the variance grows like $K$ only: the fluctuations of the other coordinates
# are left. (3) knows the slope in its own coordinate. Here $f$ is a sum of one term per coordinate, so its variance
# does not grow at all. Where $f$ couples the coordinates it can: for $f = -\frac12(\sum_i z_i - 1)^2$ it is $K$. And
# for an $f$ that wiggles fast, such as $\sin 9z$, (3) is even the noisier one.
# </details>
#
# In a VAE a single draw per example is the usual choice, without a baseline to estimate. The price: $f$ must have a
# slope. The lecture on vector quantisation comes back to that.
#
# ## Further: many draws
#
# (2) came from the average of a log. Take $k$ draws and average *before* the log:
#
# $$\mathcal L_k = \mathbb E\Bigl[\log\frac1k\sum_{i=1}^{k}
#   \frac{p(x,z_i)}{q(z_i\mid x)}\Bigr],\qquad z_i\sim q. \tag{7}$$
#
# The fraction is an importance weight with mean $p(x)$, so by Jensen's inequality $\mathcal L_k\le\log p(x)$ for every
# $k$. $\mathcal L_1$ is the ELBO. Moreover $\mathcal L_k\le\mathcal L_{k+1}$: the mean of $k+1$ weights is the average,
# over which one to leave out, of means of $k$; Jensen once more. That is `iwae`, in the log domain, all $k$ draws in
# one pass of the decoder. On the linear model, where $\log p(x)$ is known:

# %%
ks, repeats = (1, 2, 4, 8, 16, 32, 64, 128), 2000
with torch.no_grad():
    spread = points.repeat(repeats, 1)
    bounds = [linear.iwae(spread, k).view(repeats, 8)[:, 0].mean().item() for k in ks]
truth = known.log_prob(points)[0].item()
ax = plot.curves({"L_k": bounds}, x=ks, xlabel="draws k", ylabel="nats")
ax.axhline(truth, color=plot.BLACK, linestyle="--", label="log p(x)")
ax.set(xscale="log", title="one x of the linear model")
ax.set_xticks(ks, ks)
ax.minorticks_off()
_ = ax.legend()
assert all(low < high + 0.02 for low, high in zip(bounds, [*bounds[1:], truth]))

# %% [markdown]
# A tighter bound must be the better thing to train on? Rainforth and others (2018) asked for its gradient's **signal
# to noise**, |mean| / standard deviation. More draws average the decoder's gradient, whose signal to noise grows like
# $\sqrt k$. But as $\mathcal L_k$ approaches $\log p(x)$, it depends less and less on $q$: the encoder's signal fades
# like $1/k$, its noise only like $1/\sqrt k$.

# %%
seed_everything(0)
young = fit(VAE(64, latent=4, hidden=(32,)), x_train, budget(60, 20), lr=1e-3)
parts = {"encoder": young.encoder[-1].weight, "decoder": young.decoder[0][-1].weight}
ks, tries = (1, 4, 16, 64, 256), budget(240, 8)
ratios = {name: [] for name in parts}
for name, weight in parts.items():
    for k in ks:
        found = signal_to_noise(gradient_draws(young, x_train[:16], k, tries, [weight]))
        ratios[name].append(found.square().mean().sqrt().item())  # over the weights
ax = plot.curves(ratios, x=ks, xlabel="draws k", ylabel="|mean| / std, r.m.s.")
ax.axhline(tries**-0.5, color=plot.GREY, linestyle="--", label="no signal")
ax.legend()
ax.set(xscale="log", yscale="log", title="one gradient's signal to noise")
ax.set_xticks(ks, ks)
_ = ax.minorticks_off()
print("encoder:", ", ".join(f"k = {k}: {r:.2f}" for k, r in zip(ks, ratios["encoder"])))

# %% [markdown]
# The decoder's line rises. The encoder's falls towards the dashed one: so much a measure from 240 gradients shows
# even where the mean is 0.
#
# So: many draws to *evaluate*, few to train the encoder. (Another estimator of the same gradient, *doubly
# reparametrised*, keeps the encoder's signal; Tucker and others, 2019.)
#
# And $q = p(z)$ in (7)? That averages over draws of the prior. **Predict:** how many nats does it lose with two
# latent numbers, and with eight?

# %%
seed_everything(0)
row = "{:18s}{:>8s}{:>14s}{:>8s}{:>7s}".format
print(row("nats, 32 digits", "-L_500", "500 of prior", "5,000", "KL"))
some = x_test[:32]
with torch.no_grad():
    for name, model in (("2 latent numbers", flat), ("8 latent numbers", good)):
        prior = diagonal_gaussian(torch.zeros(32, 2 * model.latent))  # mu 0, log sigma 0
        few = [model.log_weights(some, prior, 500) for _ in range(10)]
        log_w = torch.cat(few)  # log p(x | z): the rest cancels
        found = [log_w[:k].logsumexp(0).mean() - math.log(k) for k in (500, 5000)]
        kl = model.terms(some)[1].sum(-1).mean()
        told = -model.iwae(some, 500).mean(), *(-nats for nats in found), kl
        print(row(name, *(f"{nats:.2f}" for nats in told)))

# %% [markdown]
# <details><summary>Answer</summary>
#
# With two, about a tenth at most, in our runs: the code says three to four nats, $e^{3.4}\approx 30$, and hundreds of
# draws will do. With eight, 500 draws lose more than half a nat, and 5,000 about a tenth. Each
# nat that a code says multiplies the draws needed by $e$.
# </details>
#
# ## Further: what the encoder leaves on the table
#
# The gap in (2) has two sources. The posterior is no diagonal Gaussian, for causes that
# explain the same $x$ compete ([belief nets](../energy/belief_net.ipynb) put numbers to this
# *explaining away*); and even among diagonal Gaussians, one network that answers for all $x$
# (*amortisation*) is not the best for each. To tell them apart, give every test digit numbers
# $\mu,\log\sigma$ *of its own* and climb, model held fixed.


# %% tags=["from:vae.refine.refine"]
def refine(
    model: LatentModel, x: Tensor, *, steps: int = 300, lr: float = 0.03, draws: int = 8
) -> Independent:
    """Improve q(z | x) for every x by itself, the model held fixed.

    Starts from the encoder's mu and log_sigma and climbs the bound (2) by Adam, the rate
    falling to 0. What is gained is the amortisation gap; what is left, the gap of the
    family of Gaussians.

    Args:
        model: with a standard normal prior; its weights do not change.
        x: (B, *shape).
        steps, lr: of Adam.
        draws: of z per step and example.

    Returns:
        q, batch shape (B,), event shape (K,).
    """
    validate.at_least(1, steps=steps, draws=draws)
    with torch.no_grad():
        q = model.encode(x).base_dist
        start = torch.cat([q.loc, q.scale.log()], dim=-1)
    numbers = start.clone().requires_grad_()  # (B, 2 K): free, without any network
    optimizer = adam([numbers], lr)
    for step in range(steps):
        z = diagonal_gaussian(numbers).rsample((draws,))
        kl = gaussian_kl(*numbers.chunk(2, dim=-1)).sum()
        log_p = model.log_likelihood(x, z).mean(0).sum()
        (numbers.grad,) = torch.autograd.grad(kl - log_p, numbers)
        optimizer.param_groups[0]["lr"] = lr * (1 - step / steps)
        optimizer.step()
    return diagonal_gaussian(numbers.detach())


# %%
seed_everything(0)
own = refine(good, x_test, steps=budget(300, 3))
with torch.no_grad():
    by_encoder = bound_of(good, x_test, good.encode(x_test))
    by_search, tight = bound_of(good, x_test, own), good.iwae(x_test, 2000)
    told = (by_encoder, by_search, tight)
for name, nats in zip(("encoder's q", "best q of its kind", "L_2000, near log p"), told):
    print(f"{name:20s}{-nats.mean():7.2f} nats per test digit")
print(f"amortisation gap {(by_search - by_encoder).mean():.2f}", end=", ")
print(f"gap of the family {(tight - by_search).mean():.2f} nats")

# %% [markdown]
# These are *test* digits: the encoder answers for digits it never saw. **Predict:** is the
# amortisation gap larger or smaller on digits it was trained on?

# %%
old_friends = x_train[:256]
own = refine(good, old_friends, steps=budget(300, 3))
with torch.no_grad():
    by_search = bound_of(good, old_friends, own)
    amortised = by_search - bound_of(good, old_friends, good.encode(old_friends))
    left_over = good.iwae(old_friends, 2000) - by_search
print(f"256 training digits: amortisation gap {amortised.mean():.2f}", end=", ")
print(f"gap of the family {left_over.mean():.2f} nats")

# %% [markdown]
# <details><summary>Answer</summary>
#
# Smaller, but not by much, in our run: a digit that the encoder has learned from is a little
# easier than a new one. The gap of the family hardly moves.
# </details>
#
# ## Further: grey levels, and honest units
#
# Bits are one kind of data. Grey levels call for another $p(x\mid z)$, and the observation decides what the reported
# number *is*. A **Gaussian** gives a density: nats, but of whatever unit $x$ is measured in. A **discretised logistic**
# gives each code a probability, the area of a logistic density over the code's bin:


# %% tags=["from:vae.decoders.logistic_bin"]
def logistic_bin(x: Tensor, mu: Tensor, log_s: Tensor, levels: int) -> Tensor:
    """Return log [F(x + 1/2) - F(x - 1/2)] in nats, F(a) = sigmoid((a - mu) / s).

    The first code takes the whole left tail, the last the right one. Written with
    sigmoid(r) - sigmoid(l) = sigmoid(r) sigmoid(-l) (1 - exp(l - r)), which is exact far
    out in the tails, where the plain difference is 0.

    Args:
        x: codes 0..levels - 1.
        mu, log_s: centre and log width, in codes.
        levels: how many codes there are.
    """
    width = torch.exp(-log_s.clamp(-20, 20))  # r - l, the bin in units of s
    right, left = (x + 0.5 - mu) * width, (x - 0.5 - mu) * width
    first, last = x <= 0, x >= levels - 1
    inside = torch.log(-torch.expm1(-width)).expand_as(left).masked_fill(first | last, 0)
    upto = F.logsigmoid(right).masked_fill(last, 0)
    return inside + upto + F.logsigmoid(-left).masked_fill(first, 0)


# %%
levels = torch.arange(17)[:, None]
total = logistic_bin(levels, torch.tensor([3.0, -9.0]), torch.tensor([0.5, -1.0]), 17)
assert torch.allclose(total.exp().sum(0), torch.ones(2))  # every code, tails included

grey, grey_test = (x.flatten(1).float() for x in (digits.x_train, digits.x_test))
fits = {
    "bits": (None, x_train, x_test),
    "grey, Gaussian": (GaussianPixels(0.5), grey / 8 - 1, grey_test / 8 - 1),
    "grey, logistic": (LogisticPixels(17), grey, grey_test),
}
print(f"{'observation':18s}{'nats':>9s}{'bits/dim':>10s}   what the number is")
for name, (observation, data, test) in fits.items():
    seed_everything(0)
    model = VAE(64, latent=8, hidden=(200,), observation=observation)
    nats = -elbos(fit(model, data, budget(1200, 20)), test).mean().item()
    if observation is None or name.endswith("logistic"):
        print(f"{name:18s}{nats:9.2f}{bits_per_dim(nats, 64):10.3f}   -log P of an image")
    else:
        told = f"-log density, x in -1..1; {nats + 64 * math.log(8):.1f} with x in 0..16"
        print(f"{name:18s}{nats:9.2f}{'none':>10s}   {told}")

# %% [markdown]
# The Gaussian line is the same model twice, and its "loss" moves by $64\log 8 = 133$ nats when we change the unit of
# grey. It can even be negative. Never compare it with the others, never quote it in bits per dimension. The logistic
# line may be compared with any model of the same 17 grey levels. The first line is about other data, thresholded
# digits, so it compares with neither.
#
# **Question.** A decoder with fewer latent numbers than data dimensions, $K < D$, is a deterministic network plus
# Gaussian noise: it draws on a surface, and the noise leaves it. If we let $\sigma\to0$, would the samples get sharper
# and the bound better? And if $K = D$?
#
# <details><summary>Answer</summary>
#
# For $K<D$: sharper yes, better no. Gaussian noise of $D$ numbers has the density $\sigma^{-D}$ at its centre, a gain
# of $-D\log\sigma$. The posterior of each $x$ shrinks with $\sigma$, and its KL to the prior costs $-K\log\sigma$.
# Together that is a gain of $(D-K)\log(1/\sigma)$. But data off the surface pay $|x-\mu|^2/2\sigma^2$, which grows
# faster than any logarithm, so a best $\sigma$ above 0 exists: for a fixed $q$, its square is the mean squared error of
# reconstruction, per dimension. For $K = D$ the two logarithms cancel and there need be no surface to leave: nothing
# stops $\sigma$ but what the decoder can still bend.
# </details>
#
# See both on the moons, $\sigma$ over the steps:

# %%
widths, grey_steps = {}, budget(2500, 20)
for K in (1, 2):
    seed_everything(0)
    model = VAE(2, latent=K, hidden=(128, 128), observation=GaussianPixels(0.5))
    widths[f"K = {K}, D = 2"] = [
        model.observation.log_sigma.exp().item() for _ in climb(model, x, grey_steps)
    ]
ax = plot.curves(widths, xlabel="step", ylabel="learnt sigma")
_ = ax.set(yscale="log", title="the moons themselves are 0.1 wide")
print("sigma at the end:", *(f"{name}: {w[-1]:.3f};" for name, w in widths.items()))

# %% [markdown]
# ## Further: a prior that follows the codes
#
# Nothing in (2) asks for $p(z) = \mathcal N(0, I)$. On the moons the Gaussian prior is one heap, the data are two, and
# the decoder drew a bridge. Average $q(z\mid x)$ over the data and you have the **aggregate posterior**, where codes
# really are. The flows lectures built densities that learn any shape, with exactly what a prior needs: `log_prob` and
# `sample`. First fit a RealNVP to the *codes* of the trained model, then let all three networks go on together. The KL
# has no closed form now; `latent_kl` takes $\log q(z\mid x)-\log p(z)$ at the drawn $z$.

# %%
composed = copy.deepcopy(plane)
seed_everything(0)
with torch.no_grad():
    plane_codes = plane.encode(x).sample()
composed.prior = fit(
    RealNVP(2, layers=4, hidden=32), plane_codes, budget(800, 10), 5e-3, B=256
)
fit(composed, x, budget(500, 10), lr=2e-3, B=256)
longer = fit(copy.deepcopy(plane), x, budget(500, 10), lr=2e-3, B=256)  # the control

titles = ("normal prior: samples", "flow prior: samples", "flow prior, and codes")
first, second, third = plot.panels(*titles, width=3.6, height=2.4)
with torch.no_grad():
    plot.scatter(plane.sample(2000), first, moons.bounds)
    plot.scatter(composed.sample(2000), second, moons.bounds)
    for name, model in {
        "normal": plane,
        "normal, longer": longer,
        "flow": composed,
    }.items():
        gap = (moons.log_prob(x_new) - model.iwae(x_new, 500)).mean().item()
        print(f"prior {name:15s} truth - L_500 = {gap:.3f} nats")
    new_codes = composed.encode(x_new).sample()
r = 1.1 * new_codes.abs().max().item()
plot.density(composed.prior.log_prob, ((-r, r), (-r, r)), third)
third.set(aspect="auto", xlabel="z1", ylabel="z2")
_ = third.scatter(*new_codes[:400].T, s=3, color=plot.ORANGE)

# %% [markdown]
# The bridge fades, and the bound rises by more than the same extra training gives the normal prior: the rate in (2) is
# what a code costs *under the prior*, and a prior that follows the codes charges less. The same trade works on the other
# side: a flow behind the encoder makes $q$ more than a Gaussian; for that an *inverse* autoregressive flow is the right
# one, because $q$ must be sampled fast. A prior fitted to codes will return at the end of the course, as latent
# diffusion.
