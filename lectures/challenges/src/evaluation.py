# %% [markdown]
# # Who is fooled: likelihoods and samples on trial
#
# Two models, two piles of pictures: which one is better? There are a dozen figures for it,
# and each can be fooled. We put nine figures of samples and the likelihood on trial: for each
# we build a sampler that fools it on purpose, and look for another figure that catches it.

# %% [markdown] tags=["nav"]
# 56 minutes, and 5 further ·
# before this: [Likely is what lies low: Boltzmann machines](../energy/boltzmann.ipynb), [What you do not see: the variational autoencoder](../vae/vae.ipynb), [Two players: generative adversarial networks](../gan/gan.ipynb) ·
# [exercise](../../exercises/challenges/evaluation.ipynb) ·
# [solution](../../solutions/challenges/evaluation.ipynb)
#
# previous: [Diffusion without Gaussians: guess what is hidden](../diffusion/masked.ipynb) ·
# [all units](../index.ipynb) ·
# next: [What to answer for: copies, wrong data, marks and cards](responsibility.ipynb)

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

import torch
from torch import Tensor
from torch.distributions import Normal

from gdm_course import checkpoints, schematics, validate
from gdm_course import plotting as plot
from gdm_course.challenges import evaluation as fooling
from gdm_course.challenges.evaluation import KINDS, scorecard
from gdm_course.data import download, images, toy
from gdm_course.data.laws import Mixture
from gdm_course.diffusion.ddim import ddim
from gdm_course.energy.ais import annealed_log_weights, log_z_estimate, log_z_start
from gdm_course.evaluation import features
from gdm_course.evaluation import samples as figures
from gdm_course.evaluation.likelihood import Estimate, bits_per_dim, estimate
from gdm_course.evaluation.neighbours import (
    PrecisionRecall,
    _clouds,
    balls_around,
    nearest,
    radius,
)
from gdm_course.evaluation.samples import _tables, square_root
from gdm_course.evaluation.two_sample import TwoSample
from gdm_course.protocols import Density
from gdm_course.training import budget, full_run, generator, seed_everything
from gdm_course.widgets import play

plot.style()

# %% [markdown]
# ## 1. The question
#
# Seven piles of digits, to be compared with 512 *held-out* digits that no model has seen. One
# pile are real digits; two come from checkpoints of earlier lectures, a GAN and a diffusion
# model; four are *samplers* that cheat: they repeat 100 training digits, repeat one digit of
# each class, blur real digits, or add noise of standard deviation 0.3 to them (a pixel goes
# from $-1$ to 1). The cheats have 773 training digits. The real pile is unseen by them; the
# two checkpoints were trained on all 1,285 digits that are not held out.
#
# **Predict, before you run:** rank the seven piles. Which will a figure like the Fréchet
# distance find hardest to tell from real digits?

# %%
seed_everything(0)
digits, as_picture = images.load("digits"), lambda x: x.float() / 8 - 1
order = torch.randperm(len(digits.x_train), generator=generator(0))
x, y = as_picture(digits.x_train)[order], digits.y_train[order]
train, y_train, unseen, y_unseen = x[:773], y[:773], x[773:], y[773:]
held = as_picture(torch.cat([digits.x_valid, digits.x_test]))
n = len(held)
asked = torch.arange(n) % 10
gan, chain = checkpoints.load("gan/digits"), checkpoints.load("diffusion/ddpm-digits")
piles = {
    "unseen digits": unseen,
    "GAN": gan.sample(n, asked),
    "diffusion, 20 steps": as_picture(ddim(chain, n, budget(20, 2))),
    "100 repeated": fooling.repeated(train, n, 100),
    "one of each": fooling.one_of_each(train, y_train, n),
    "blurred": fooling.blurred(unseen),
    "noisy": unseen + 0.3 * torch.randn_like(unseen),
}
print(f"{len(train)} digits learned from, {n} held out, {n} in every pile")
print({type(m).__name__: isinstance(m, Density) for m in (gan, chain)}, "have log_prob")

# %% tags=["fold"]
# @title Twenty pictures of each of the seven piles
for ax, pile in zip(plot.panels(*piles, columns=4, height=1.3), piles.values()):
    plot.image_grid((pile[:20, 0] + 1) / 2, ax, columns=10)

# %% [markdown]
# <details><summary>Answer</summary>
#
# Section 6 measures it. The Fréchet distance gives the noisy pile a figure about as good as
# that of unseen digits, though you see the noise at once; the blurred one it finds terrible.
# </details>
#
# ## 2. The idea
#
# Pictures are compared where a network has turned them into **features**. A classifier was
# trained to read digits; its last layer but one gives 64 numbers, and we ask how far two
# *clouds* of such numbers are apart. What the classifier does not need, the features need
# not keep. (All features are divided by one number, so that their mean variance on training
# data is 1.) Our classifiers are small and read digits; section 9 says why their figures are
# not those of papers.

# %% tags=["fold"]
# @title How pictures become figures: features for two clouds, labels for the inception score
net = features.extractor((1, 8, 8))
h = schematics.trace(net.body, unseen[:100]).result
logits = schematics.trace(net.head, h).result
d = schematics.Drawing(
    "Pictures become figures",
    "Pictures go through a classifier; features are compared with those of real pictures.",
    100,
)
fake_box, body = (
    d.picture(unseen[:100], "samples", (0, 0)),
    d.network(net.body, "body", (1, 0)),
)
h_box, head = d.box("features", (2, 0), of=h), d.network(net.head, "head", (2, 2))
d.way(fake_box, body, h_box)
d.arrow(h_box, d.box("Fréchet, KID, precision, ...", (3, 0), "term"), "beside real ones")
d.arrow(h_box, head)
d.arrow(head, d.box("inception score", (3, 2), "term"), "", logits)
d

# %% [markdown]
# ## 3. The mathematics
#
# **Likelihood.** The mean of $-\log p(x)$ over test data is in nats; of $D$ pixels that are
# whole numbers it is in bits per dimension
#
# $$\text{bits/dim} = -\log p(x)\,/\,(D \log 2). \tag{1}$$
#
# If $p(x) = \mathbb E_q\, w$ is a mean of weights, the mean of $m$ of them is right on
# average, but its log is not: the logarithm bends down, so
#
# $$\mathbb E \log \tfrac1m \textstyle\sum_{i=1}^m w_i \;\le\; \log p(x). \tag{2}$$
#
# With $w = p(x, z)/q(z\mid x)$ this is the bound IWAE of a VAE. With the weights of annealed
# importance sampling (AIS) it is about $\log Z$ of an energy model: there a $\log Z$ that is
# too low makes $-\log p = E + \log Z$ too low, and the model looks *better* than it is.
#
# **Samples.** From a classifier's probabilities $p(y\mid x)$ and their mean $p(y)$ comes the
# inception score
#
# $$\mathrm{IS} = \exp\,\mathbb E_x\,\mathrm{KL}(p(y\mid x)\,\|\,p(y)). \tag{3}$$
#
# From means $m$ and covariances $C$ of two clouds $a$ and $b$ comes the Fréchet distance,
#
# $$|m_a - m_b|^2 + \operatorname{tr}\big(C_a + C_b - 2(C_a^{1/2}C_b\,C_a^{1/2})^{1/2}\big),
#   \tag{4}$$
#
# the squared Wasserstein-2 distance of two Gaussians with these means and covariances. For
# clouds of *one* law it is not 0: with $n$ rows each of $K$ white features (independent, each
# $\mathcal N(0, 1)$) it is on average about
#
# $$K(K+5)/(2n). \tag{5}$$
#
# KID compares pairs of rows $x, y$ by the kernel
#
# $$k(x, y) = (x\cdot y/K + 1)^3: \tag{6}$$
#
# the mean of $k$ over pairs within $a$, plus that within $b$, minus twice that across (a
# squared *maximum mean discrepancy*, MMD). It is 0 on average for equal laws, whatever $n$.
#
# **Question.** Two sets of 512 rows come from one law, with 64 white features. How large is
# their Fréchet distance, by (5)? How many rows would bring it down to 0.1?
#
# <details><summary>Answer</summary>
#
# $64\cdot 69/1024 = 4.3$; and 22,080 rows. Our features are not white but correlated, so that
# section 6 prints less for real digits: but not 0. Inception has $K = 2048$ features, and
# papers take 50,000 rows.
# </details>

# %% [markdown] tags=["notes"]
# 15 minutes for sections 1 to 3. Let the room rank the piles by show of hands and keep the
# ranking on the board. It sticks at (2): draw a concave curve and a chord. The derivation of
# (5) is left out: say that the means' noise is `2 K / n` of it.

# %% [markdown]
# ## 4. Likelihood
#
# A tiny case of (2): $z\sim\mathcal N(0,1)$, $x\mid z\sim\mathcal N(z, 1)$, so $p(x) =
# \mathcal N(x; 0, 2)$ is known. The proposal $q$ is the prior, and $x = 2$.

# %%
seed_everything(0)
at, truth_2 = torch.tensor(2.0).double(), Normal(0.0, 2**0.5).log_prob(torch.tensor(2.0))
for m in (1, 10, 100, 1000):
    log_w = Normal(torch.randn(2000, m).double(), 1.0).log_prob(at)
    bound = estimate(log_w.logsumexp(1) - math.log(m))
    print(f"m = {m:4}: {bound.value:.4f} +- {bound.error:.4f}; log p = {truth_2:.4f} nats")
    assert bound.value < truth_2 + 4 * bound.error

# %% [markdown]
# AIS for a machine with 16 hidden units on MNIST, whose $Z$ is a sum of $2^{16}$ terms, so
# that it is known. Chains go from independent bits to the model over more and more steps.

# %%
machine = checkpoints.load("energy/rbm16-mnist")
exact = machine.log_z().item()
for steps in (10, 100, budget(1000, 200)):
    seed_everything(0)
    betas = torch.linspace(0, 1, steps + 1).tolist()
    log_w = annealed_log_weights(machine, machine.b.detach(), betas, 100)
    found = log_z_estimate(log_w, log_z_start(machine.b.detach(), 16))
    print(
        f"{steps:4} steps: log Z = {found.value:.2f} +- {found.error:.2f}, exact {exact:.2f}"
        f" ({found.effective:.0f} of 100 chains count)"
    )
    assert steps > 10 or found.value + 3 * found.error < exact

# %% [markdown]
# Such estimates are mostly too low, by far more than their errors: a few chains carry all the
# weight, and the error is computed from those same chains. (Over six seeds, with 10 to 1,000
# steps, 19 of 20 were too low by three errors or more; one was right.) More steps help, slowly.
#
# Now the checkpoints of three families on binarised MNIST, from their cards.

# %%
names = {
    "autoregressive/pixelcnn-binarized-cpu": "exact",
    "autoregressive/made-mnist-cpu": "exact",
    "energy/rbm-mnist-cpu": "estimate by AIS",
    "vae/vae-mnist-cpu": "bound, 500 draws",
    "vae/vqvae-mnist-cpu": "bound",
}
nats = {}
for name, kind in names.items():
    of = [f for f in checkpoints.card(name)["figures"] if f["split"] == "test"]
    f = next((f for f in of if "IWAE" in f["metric"]), of[0])
    nats[name] = Estimate(f["value"], f["error"])
    bits = bits_per_dim(f["value"], 784)
    print(
        f"{name:38}{f['value']:8.2f} +- {f['error']:.2f} nats {bits:.4f} bits/dim  {kind}"
    )

# %% [markdown]
# **Question.** MADE has 91.3 nats, exactly; the VAE has *at most* 91.2. May you say that the
# VAE is better?
#
# <details><summary>Answer</summary>
#
# The bound says that the VAE's own figure is at most 91.2, plus its error of about 0.3, which
# is larger than the difference. So: not by these two figures. On the *same* test digits the
# paired difference has a smaller error. And an AIS estimate is no bound at all: with few
# effective chains it flatters.
# </details>
#
# **Fooled on purpose.** Take a good model's sample once in a hundred, and noise otherwise.


# %% tags=["from:challenges.evaluation.Diluted"]
class Diluted:
    """A share of a good density, the rest noise: log p falls by at most -log share.

    p(x) = share p_good(x) + (1 - share) p_noise(x) >= share p_good(x), in any dimension.

    Args:
        good, noise: with `sample` and `log_prob` of the same points.
        share: of good samples, above 0 and at most 1.
    """

    def __init__(self, good, noise, share: float = 0.01):
        if not 0 < share <= 1:
            raise ValueError(f"share is {share}: expected above 0, and at most 1")
        self.good, self.noise, self.share = good, noise, share

    def sample(self, n: int) -> Tensor:
        """Draw n points, of which a share is good: (n, *D)."""
        good, noise = self.good.sample(n), self.noise.sample(n)
        keep = torch.rand(n, *[1] * (good.ndim - 1)) < self.share
        return torch.where(keep, good, noise.to(good.dtype))

    def log_prob(self, x: Tensor) -> Tensor:
        """Return log p in nats: (B, *D) -> (B,)."""
        rest = math.log1p(-self.share) if self.share < 1 else -math.inf
        good = self.good.log_prob(x) + math.log(self.share)
        return torch.logaddexp(good, self.noise.log_prob(x) + rest)


# %% [markdown]
# **Predict:** 99 of 100 samples are garbage. How many nats does the likelihood lose at most,
# in any dimension? How many bits per dimension is that on MNIST?

# %%
seed_everything(0)
bells = toy.get("eight_gaussians")
x_plane, held_plane = bells.sample(1000).float(), bells.sample(1000).float()
noise = Mixture(torch.zeros(1, 2), torch.tensor([30.0]), torch.ones(1))
diluted = fooling.Diluted(bells, noise, 0.01)
lost = estimate((bells.log_prob(held_plane) - diluted.log_prob(held_plane)).double())
print(
    f"in the plane {lost.value:.3f} +- {lost.error:.3f} nats; log 100 = {math.log(100):.3f}"
)
print(f"on MNIST at most {bits_per_dim(math.log(100), 784):.4f} bits/dim")
gap = (
    nats["vae/vqvae-mnist-cpu"].value - nats["autoregressive/pixelcnn-binarized-cpu"].value
)
print(f"from the best card to the last one: {gap:.1f} nats")
assert lost.value <= math.log(100) and gap > math.log(100)

# %% [markdown]
# <details><summary>Answer</summary>
#
# $\log 100 = 4.6$ nats, because $p \ge p_\text{good}/100$. On MNIST that is 0.0085 bits/dim.
# The models above differ by more: a PixelCNN diluted with 99 % noise would still be ahead of
# the VQ-VAE's bound. Likelihood is nearly blind to what most samples look like.
# </details>
#
# ## 5. Samples, beside the truth
#
# The figures of section 3 and those of neighbours, on points of the plane, where the points
# are their own features and KL is known.


# %% tags=["from:evaluation.samples.frechet"]
def frechet(a: Tensor, b: Tensor) -> Tensor:
    """Return the squared Wasserstein-2 distance of two Gaussians fitted to features: ().

    |m_a - m_b|^2 + tr(C_a + C_b - 2 (C_a^(1/2) C_b C_a^(1/2))^(1/2)), in float64: the "FID"
    of whatever network made the features. The last root is that of a symmetric matrix, so
    its trace is a sum of roots of real eigenvalues. Estimated covariances differ even if
    the laws do not (`frechet_bias`): compare figures of equal numbers of rows only.

    Args:
        a, b: features (N, K) and (M, K), with N and M above K.

    Returns:
        The distance, in the square of the features' unit.

    Raises:
        ValueError: they are not two tables with as many columns, or have too few rows.
    """
    a, b = _tables(a, b)
    K = a.shape[1]
    if min(len(a), len(b)) <= K:
        raise ValueError(
            f"got {len(a)} and {len(b)} rows of {K} features: expected more rows than "
            "features, or a covariance is singular; draw more, or take fewer features"
        )
    C_a, C_b = (torch.atleast_2d(torch.cov(t.T)) for t in (a, b))
    root = square_root(C_a)
    cross = torch.linalg.eigvalsh(root @ C_b @ root).clamp_min(0).sqrt().sum()
    gap = (a.mean(0) - b.mean(0)).square().sum()
    return gap + C_a.trace() + C_b.trace() - 2 * cross


# %% [markdown]
# `_tables` refuses what does not fit and converts to float64: in float32 this difference of
# large numbers drowns. KID leaves the diagonal out, a row and itself are no pair:


# %% tags=["from:evaluation.samples.cubic_mmd2"]
def cubic_mmd2(x: Tensor, y: Tensor) -> Tensor:
    """Return the unbiased MMD^2 of x (N, K) and y (M, K) with k = (x . y / K + 1)^3: ()."""
    across, within = cubic(x, y).mean(), 0.0
    for t in (x, y):
        others = cubic(t, t).sum() - ((t.square().mean(1) + 1) ** 3).sum()
        within = within + others / (len(t) * (len(t) - 1))
    return within - 2 * across


# %% tags=["from:evaluation.samples.cubic"]
def cubic(x: Tensor, y: Tensor) -> Tensor:
    """Return the kernel (x . y / K + 1)^3 of all pairs of rows, (N, M)."""
    return (x @ y.T / x.shape[1] + 1) ** 3


# %% [markdown]
# Moments do not tell *bad* samples from *missing* ones. Around every real point lies a ball
# that reaches to its $k$-th real neighbour, $k = 5$.


# %% tags=["from:evaluation.neighbours.precision_recall"]
def precision_recall(real: Tensor, fake: Tensor, k: int = 5) -> PrecisionRecall:
    """Return the share of samples inside a real ball, and of real points inside a sample's.

    Precision is quality: how much of what the model makes could be real. Recall is variety:
    how much of what is real the model could have made. One real outlier has a huge ball,
    and whatever falls into it counts as precise.

    Args:
        real, fake: features (N, K) and (M, K), more than k rows each.
        k: which neighbour is the radius; a point is no neighbour of its own.
    """
    real, fake, k = _clouds(real, fake, k)
    precise = (balls_around(fake, real, radius(real, k)) > 0).double().mean().item()
    recalled = (balls_around(real, fake, radius(fake, k)) > 0).double().mean().item()
    return PrecisionRecall(precise, recalled)


# %% [markdown]
# (`density_coverage` counts how many real balls a sample is in, over $k$, and how many real
# balls hold a sample. `balls_around` uses "strictly less".)
#
# **Copies.** Let $d$ be a row's distance to its nearest *training* row. Take all pairs of a
# sample and an unseen row: how often is the sample nearer? One half on average, if samples
# are fresh draws of the same law; a tie counts half. Pairs share rows, so the spread is not that of a coin but that of the
# test of Mann and Whitney, $\sqrt{(n + m + 1)/(12\,n\,m)}$ for $n$ and $m$ rows.


# %% tags=["from:evaluation.two_sample.data_copying"]
def data_copying(train: Tensor, held: Tensor, fake: Tensor) -> TwoSample:
    """Test whether samples lie nearer to the training data than unseen data do.

    Of every pair of a sample and a held-out point, count how often the sample is nearer to
    its nearest training point; a tie counts half. An honest model of the right law has
    1/2, one that repeats its training data up to 1, a blurred one below 1/2.

    Args:
        train, held, fake: (N, K), (M, K) and (L, K): what was learned from, unseen data of
            the same law, and samples.

    Returns:
        The share, and its z: that of the Mann-Whitney test, corrected for ties. The C_T of
        the paper, in one cell, is -z.
    """
    train = validate.points(train, "K", name="train").double()
    rest = []
    for name, t in (("held", held), ("fake", fake)):
        t = validate.points(t, train.shape[1], name=name, least=2).double()
        rest.append(nearest(t, train))
    d_held, d_fake = rest
    n, m = len(d_held), len(d_fake)
    _, counts = torch.cat(rest).unique(return_counts=True)
    ordered = d_fake.sort().values
    below = torch.searchsorted(ordered, d_held).double()  # samples that are nearer
    up_to = torch.searchsorted(ordered, d_held, right=True).double()
    share = ((below + up_to) / 2).mean().item() / m
    ties = ((counts.double() ** 3 - counts).sum() / ((n + m) * (n + m - 1))).item()
    spread = math.sqrt(max(n + m + 1 - ties, 1e-12) / (12 * n * m))
    return TwoSample(share, (share - 0.5) / spread)


# %% [markdown]
# **A classifier** (C2ST) is trained to tell samples from data. Its accuracy on rows that it
# has *not* seen is one half for equal laws. How sure is 55 %? If a coin decides for each of
# $n$ rows whether it is a sample or data, the exact answer is the probability of so many heads
# or more of $n$ fair coins. (Ours has as many of each: then the spread is at most that.)
#
# Against these figures stand checkpoints of three families and four cheats: one Gaussian with
# the right moments, bells twice too wide, one bell of eight left out, and a memory of the
# 1,000 training points, each with a tiny bell of its own, which draws each of them once.

# %%
law = bells.law
one = lambda c: torch.full((c,), 1.0 / c)
cheats = {
    "the truth": law,
    "Gaussian, right moments": Mixture(
        torch.zeros(1, 2), (2 + 0.04) ** 0.5 * one(1), one(1)
    ),
    "bells too wide": Mixture(law.means, 2 * law.sigma, law.weights),
    "seven of eight": Mixture(law.means[1:], law.sigma[1:], one(7)),
    "memory of training": Mixture(x_plane, 0.01 * torch.ones(1000), one(1000)),
}
models = ("flows/spline", "diffusion/stream", "gan")
cheats |= {
    m: checkpoints.load(f"{m}{'/' if m == 'gan' else '-'}eight-gaussians") for m in models
}
x_test = held_plane[: budget(1000, 200)]


def seven(z):
    """Seven figures of samples in the plane."""
    return [
        figures.frechet(z, held_plane).item(),
        figures.kid(z, held_plane, 200).value,
        *figures.precision_recall(held_plane, z),
        figures.density_coverage(held_plane, z).coverage,
        figures.classifier_two_sample(held_plane, z, budget(300, 20)).share,
        figures.data_copying(x_plane, held_plane, z).share,
    ]


def kl_of(model):
    """KL(truth || model) in nats, as text, where the model has a density."""
    if not isinstance(model, Density):
        return "no density"
    with torch.no_grad():
        gap = estimate((bells.log_prob(x_test) - model.log_prob(x_test)).double())
    return f"{gap.value:.3f} +- {gap.error:.3f}"


print(f"{'':26}{'KL (nats)':16}Frechet   KID   prec. recall cover.  C2ST  copying")
plane = {}
for name, model in cheats.items():
    seed_everything(1)
    drawn = model.sample(1000).float().detach()
    if "memory" in name:
        drawn = x_plane + 0.01 * torch.randn_like(x_plane)  # each point once
    plane[name] = seven(drawn)
    print(f"{name:26}{kl_of(model):16}", *(f"{v:6.3f}" for v in plane[name]))
again = torch.tensor([seven(law.sample(1000).float()) for _ in range(budget(5, 2))])
print(f"{'spread of the truth':42}", *(f"{v:6.3f}" for v in again.std(0)))
garbage = figures.precision_recall(held_plane, diluted.sample(1000).float()).precision
print(f"99 % noise, of section 4: precision {garbage:.3f}")
if full_run():
    assert plane["Gaussian, right moments"][0] < 0.05 < plane["seven of eight"][0]
    assert plane["Gaussian, right moments"][2] < 0.6 and plane["bells too wide"][3] > 0.97
    assert plane["memory of training"][6] > 0.8 and garbage < 0.1
    assert min(plane["memory of training"][2:4]) > 0.96
    assert plane["memory of training"][4] > 0.94 and plane["memory of training"][5] < 0.56

# %% [markdown]
# The last row says how far the truth's own figures stray from draw to draw. The Gaussian is
# 1.8 nats from the truth, and its Fréchet distance is an honest sampler's: it *has* the right
# moments. Precision sees it, as it sees the noise of section 4. Wide bells recall at least as
# much as the truth. The memory passes everything but two: KL, which asks how likely *unseen*
# points are, and the test for copies, which knows the training points. The GAN has no density,
# so no KL at all.
#
# **Question.** The memory's Fréchet distance and recall are honest ones. Why does no comparison
# of its samples with unseen data see that it invents nothing?
#
# <details><summary>Answer</summary>
#
# Its 1,000 samples are the training points, and those *are* draws of the truth: beside unseen
# data they look like any others. Only who keeps the training set can see that they are old.
# (Ask for 2,000 samples, and each comes twice: that could be seen.)
# </details>

# %% [markdown] tags=["notes"]
# 20 minutes for sections 4 and 5. Ask before the table: "who catches the memory?" Expect
# "recall": it is nearly 1. Leave out AIS if `energy/boltzmann` was read.

# %% [markdown]
# ## 6. Nine figures, all piles
#
# Now the digits. `scorecard` takes all nine figures with their errors: those of (3) and (4) to
# first order, KID's from five blocks, those of neighbours from five disjoint parts. The test
# for copies gets what each sampler was trained on: 773 digits, or 1,285. Two more
# piles come in: all training digits, and unseen digits without any 4. What is *honest* is
# measured, not assumed: it is what unseen digits get. A figure is fooled if it says "not
# worse"; it catches if it says "worse" by more than three standard errors.


# %% tags=["from:challenges.evaluation.worse"]
def worse(found: Estimate, honest: Estimate, higher: bool) -> float:
    """Return by how many standard errors a figure is worse than an honest one.

    Args:
        found: of the samples.
        honest: of unseen data in their place.
        higher: whether more of it is better.

    Returns:
        Their number; below 0 the figure is better than the honest one. Without any error
        it is 0 for equal figures, and infinite for others.
    """
    gap = (honest.value - found.value) * (1 if higher else -1)
    error = math.hypot(found.error, honest.error)
    return gap / error if error else gap and math.copysign(math.inf, gap)


# %%
piles |= {
    "all training digits": fooling.repeated(train, n, len(train)),
    "no 4": fooling.without(unseen, y_unseen, 4),
}
if not full_run():
    piles = {name: piles[name] for name in ("unseen digits", "100 repeated", "one of each")}
cards, began = {}, time.process_time()
for name, pile in piles.items():
    seed_everything(0)
    learned = x if name in ("GAN", "diffusion, 20 steps") else train
    cards[name] = scorecard(learned, held, pile)
print(f"{time.process_time() - began:.0f} s")
print(f"{'':20}", *(f"{kind.name:>14}" for kind in KINDS))
for name, card in cards.items():
    print(f"{name:20}", *(f"{f.value:6.2f} +- {f.error:4.2f}" for f in card.values()))

# %% tags=["fold"]
# @title Who is fooled (white), who catches (dark): standard errors worse than unseen digits
honest = cards["unseen digits"]
z = {
    name: [worse(card[kind.name], honest[kind.name], kind.higher) for kind in KINDS]
    for name, card in cards.items()
    if name != "unseen digits"
}
(ax,) = plot.panels("standard errors worse than unseen digits", width=8, height=4)
ax.imshow(torch.tensor([*z.values()]).clamp(0, 12), cmap="Oranges", aspect="auto")
ax.set_xticks(range(len(KINDS)), [kind.name for kind in KINDS], rotation=30)
ax.set_yticks(range(len(z)), [*z])
for i, row in enumerate(z.values()):
    for j, value in enumerate(row):
        ink = "white" if value > 7 else "black"
        ax.text(j, i, f"{value:.0f}", ha="center", va="center", color=ink)

# %%
print(f"{'figure':12}{'is fooled by':66}{'most clearly caught by'}")
for j, kind in enumerate(KINDS):
    cheated = {
        name: row for name, row in z.items() if name not in ("GAN", "diffusion, 20 steps")
    }
    fooled = [name for name, row in cheated.items() if row[j] < 3]
    catch = [KINDS[max(range(9), key=lambda i: cheated[name][i])].name for name in fooled]
    print(f"{kind.name:12}{', '.join(fooled):66}{', '.join(catch)}")
at = [kind.name for kind in KINDS].index
if full_run():
    assert z["one of each"][at("IS")] < 0 and z["one of each"][at("recall")] > 10
    assert z["noisy"][at("recall")] < 0 and z["noisy"][at("precision")] > 3
    assert z["noisy"][at("Frechet")] < 3 and z["all training digits"][at("copying")] > 10
    assert max(z["all training digits"][:8]) < 3 and z["blurred"][at("copying")] < 0
    assert z["no 4"][at("KID")] < 3 and z["no 4"][at("coverage")] > 3

# %% [markdown]
# No figure is left that nobody fools; nobody fools all nine. One digit of each class has the
# *best* inception score of all. Copies of the training set pass eight figures. The test for
# copies, in turn, praises blur and noise, which lie far from any training digit.
#
# **Change** `0.3`, the noise in section 1, to `0.1` and run again. Which figures still see it?
#
# <details><summary>Answer</summary>
#
# None for sure. Density came nearest: 1.5 to 3.8 standard errors over our seeds; the other
# eight said "not worse" each time. 512 samples are few, and an error bar says what a figure
# cannot tell.
# </details>
#
# ## 7. Play: the bias in $n$
#
# Two samples of *one* law, $K$ white features, $n$ rows each: dots are Fréchet distances and
# KIDs of ten pairs, with the standard deviation of one, the line is (5).
#
# **Predict:** a paper compares its model at $n = 50{,}000$ with another's at $n = 5{,}000$.
# Whom does that favour?


# %%
def repeats(figure, K, rows, seed=0):
    """Mean and standard deviation of a figure of two samples of one law, ten times."""
    g = generator(seed)
    draw = lambda: torch.randn(rows, K, generator=g).double()
    values = torch.tensor([float(figure(draw(), draw())) for _ in range(10)])
    return values.mean().item(), values.std().item()


def draw_bias(n=200, K=16):
    """Frechet and KID of equal laws against n, and the n of the slider."""
    left, right = plot.panels("Fréchet distance", "KID", width=4.2)
    line = torch.linspace(60, 1000, 100)
    left.plot(line, K * (K + 5) / (2 * line), color=plot.GREY, label="K (K + 5) / (2 n)")
    right.axhline(0, color=plot.GREY)
    for rows, color in ((80, plot.SKY), (1000, plot.SKY), (n, plot.RED)):
        for ax, figure in ((left, figures.frechet), (right, figures.cubic_mmd2)):
            mean, spread = repeats(figure, K, rows)
            ax.errorbar(rows, mean, spread, fmt="o", color=color)
            ax.set_xlabel("n, rows of each")
            if color == plot.RED:
                ax.set_title(f"{ax.get_title(loc='left')} at n = {n}: {mean:.3f}")
    left.legend()


for rows in (100, 400, budget(1600, 200)):
    mean, spread = repeats(figures.frechet, 16, rows)
    print(
        f"n = {rows:4}: {mean:.4f} +- {spread / 10**0.5:.4f}, (5) {figures.frechet_bias(16, rows):.4f}"
    )
    assert abs(mean / figures.frechet_bias(16, rows) - 1) < 0.3
play(draw_bias, n=(100, 900, 100, 200), K=[16, 4, 32])

# %% [markdown]
# <details><summary>Answer</summary>
#
# The first: its figure is lower by nine tenths of the other's bias, without any better picture.
# KID has no bias, only a spread: it is negative about half of the time.
# </details>
#
# ## 8. Break it: corners of a cube
#
# The sampler `corners` draws points of $\{-1, 1\}^8$. Their means are 0, their covariance is
# the identity, their third moments are 0, as those of a Gaussian. But all the law is on 256
# points.

# %%
seed_everything(0)
cloud, other = torch.randn(2000, 8), torch.randn(2000, 8)
cubes = {"a Gaussian": other, "corners": fooling.corners(2000, 8)}
for name, z8 in cubes.items():
    found = figures.kid(z8, cloud, 400)
    test = figures.classifier_two_sample(cloud, z8, budget(300, 20))
    print(
        f"{name:12} Frechet {figures.frechet(z8, cloud):.4f}, (5) {figures.frechet_bias(8, 2000):.4f};"
        f" KID {found.value:.4f} +- {found.error:.4f}; C2ST {test.share:.3f}, z = {test.z:.1f}"
    )
if full_run():
    assert figures.frechet(z8, cloud) < 2.5 * figures.frechet_bias(8, 2000)
    assert abs(found.value) < 4 * found.error and test.share > 0.9

# %% [markdown]
# The Fréchet distance sees two moments, a kernel of degree three sees three: both are blind
# here, whatever $n$. A classifier sees any difference that it can learn: that is the repair
# ($z$ counts standard deviations from one half). Precision has a blind
# spot, too. One real outlier has a huge ball, and whatever falls into it counts as good:

# %%
seed_everything(0)
real, wide = torch.randn(500, 16), 3 * torch.randn(500, 16)
spoiled = torch.cat([10 * torch.randn(5, 16), real[5:]])
for name, table in {"clean data": real, "five outliers": spoiled}.items():
    P, c = (
        figures.precision_recall(table, wide).precision,
        figures.density_coverage(table, wide),
    )
    print(
        f"{name:14} precision {P:.3f}, density {c.density:.3f}, coverage {c.coverage:.3f}"
    )
helped = P
assert helped > 0.2 and c.coverage < 0.1

# %% [markdown]
# ## 9. Scale: MNIST
#
# The same checkpoints as in section 4, with samples. The last column is the likelihood.
# (Without MNIST on this machine, `gdm data mnist` fetches it; the lecture goes on without.)

# %%
seed_everything(0)
few, bits = budget(500, 100), download.here("binarized_mnist")
black_white = lambda x: x.float().reshape(-1, 1, 28, 28) * 2 - 1
drawn = {}
for name in names:
    model = checkpoints.load(name)
    with torch.no_grad():
        pile = model.sample(few, 200) if "rbm" in name else model.sample(few)
    drawn[name] = black_white(pile)
if bits:
    mnist = images.load("binarized_mnist")
    pick = torch.randperm(10_000)[:few]
    held28 = black_white(mnist.x_test[pick])
    drawn["unseen digits"] = black_white(mnist.x_valid[pick])
    real28 = features.opinions(held28)
    for name, pile in drawn.items():
        h28 = features.opinions(pile)
        f = figures.frechet_with_error(h28, real28)
        P, R = figures.precision_recall(real28, h28)
        told = f"{nats[name].value:6.1f} nats" if name in nats else ""
        print(
            f"{name:38} Frechet {f.value:5.2f} +- {f.error:.2f}, P {P:.2f} R {R:.2f}  {told}"
        )
else:
    print("no binarised MNIST here: the samples below have no figures")

# %% tags=["fold"]
# @title Twenty samples of each checkpoint
for ax, pile in zip(plot.panels(*drawn, columns=3, height=1.3), drawn.values()):
    plot.image_grid((pile[:20, 0] + 1) / 2, ax, columns=10)

# %% [markdown]
# When we ran this, the PixelCNN, first by its likelihood, was among the last by the Fréchet
# distance, and the VQ-VAE, last by its bound, was first of the models. Look at the PixelCNN's
# pictures: below some digits a second one begins. (The samples of the
# Boltzmann machine are chains of 200 steps: a longer chain is another pile.) Neither figure is
# wrong. They answer different questions.
#
# **Why these figures are not those of papers.** Papers take Inception, a network of ImageNet
# with 2,048 features, on 50,000 samples. Another network is another figure: the numbers here
# compare the course's models with each other and nothing else.

# %% [markdown] tags=["notes"]
# 20 minutes for sections 6 to 9. Look at the ranking on the board again. Ask: "which two
# figures would you report?" Section 9 can be left out.

# %% [markdown]
# ## 10. Summary
#
# - A likelihood is exact, a bound or an estimate: say which. 99 % noise costs 4.6 nats.
# - Every figure of samples has a blind spot; report two that do not share theirs.
# - A Fréchet distance falls with $n$: compare equal numbers of rows, give the error.
# - Precision and recall tell bad from missing; outliers spoil precision.
# - A memory of all training data is seen only by the test that has the training data.

# %% tags=["fold"]
# @title All figures in one table
table = {
    "99 % noise, in the plane": (lost.value, "nats lost"),
    "Fréchet, right moments": (plane["Gaussian, right moments"][0], "squared distance"),
    "precision, the same": (plane["Gaussian, right moments"][2], "share"),
    "copying, memory in the plane": (plane["memory of training"][6], "share of pairs"),
    "IS, one of each": (cards["one of each"]["IS"].value, "of 10"),
    "IS, unseen digits": (honest["IS"].value, "of 10"),
    "C2ST, corners": (test.share, "share"),
    "precision, five outliers": (helped, "share"),
}
for name, (value, unit) in table.items():
    print(f"{name:34}{value:9.4f}  {unit}")

# %% [markdown]
# **Exercises:** [six functions with checks](../../exercises/challenges/evaluation.ipynb).
#
# **References.** Theis, van den Oord and Bethge (2016), *A note on the evaluation of
# generative models*, arXiv:1511.01844. Burda, Grosse and Salakhutdinov (2016), arXiv:1509.00519.
# Neal (2001), *Annealed importance sampling*, arXiv:physics/9803008. Salimans and others
# (2016), arXiv:1606.03498. Heusel and others (2017), arXiv:1706.08500. Binkowski and others
# (2018), arXiv:1801.01401. Kynkäänniemi and others (2019), arXiv:1904.06991. Naeem and others
# (2020), arXiv:2002.09797. Lopez-Paz and Oquab (2017), arXiv:1610.06545. Meehan, Chaudhuri
# and Dasgupta (2020), arXiv:2004.05675. Chong and Forsyth (2020), *Effectively unbiased FID
# and inception score*, arXiv:1911.07023.

# %% [markdown]
# ## Further: the same numbers as a library
#
# torchmetrics computes three of these figures. On the same features it must say the same: it
# takes a network that hands features through, and for KID all rows at once.

# %%
import importlib.util
import warnings

seed_everything(0)
a, b = torch.randn(600, 32), 1.2 * torch.randn(600, 32) + 0.1
ours = (figures.frechet(a, b).item(), figures.kid(a, b).value)
if importlib.util.find_spec("torchmetrics"):
    from torchmetrics.image.fid import FrechetInceptionDistance
    from torchmetrics.image.kid import KernelInceptionDistance

    through = torch.nn.Identity()
    through.num_features = 32
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # KID says that it keeps all rows: so it shall
        theirs = [
            FrechetInceptionDistance(feature=through),
            KernelInceptionDistance(feature=through, subsets=1, subset_size=600),
        ]
    for metric, mine in zip(theirs, ours):
        metric.update(a, real=True), metric.update(b, real=False)
        said = metric.compute()
        said = said[0] if isinstance(said, tuple) else said
        print(f"{type(metric).__name__:26}{said.item():.7f}, ours {mine:.7f}")
        assert abs(said.item() - mine) < 1e-5
else:
    print("torchmetrics is not installed; ours:", *(f"{v:.7f}" for v in ours))

# %% [markdown]
# ## Further: another network, another figure
#
# The piles of section 1 before three networks of the same shape: the trained one, and two
# whose weights are random. All features have mean variance 1 on the training digits.

# %%
from gdm_course.evaluation.features import PictureClassifier

networks = {"trained": net}
for k in (1, 2):
    seed_everything(k)
    networks[f"random {k}"] = (
        PictureClassifier((1, 8, 8), levels=17).eval().requires_grad_(False)
    )
    networks[f"random {k}"].settle((train,))
for name, network in networks.items():
    said = {
        p: figures.frechet(network.features(piles[p]), network.features(held)).item()
        for p in ("unseen digits", "100 repeated", "one of each")
    }
    print(f"{name:10}", *(f"{p} {v:.2f}  " for p, v in said.items()))

# %% [markdown]
# The cheats keep their order, but a figure of 3 before one network is a 4 or 5 before others. A
# Fréchet distance without the name of its network says nothing.
