# %% [markdown]
# # Two players: generative adversarial networks
#
# A network can draw points that nobody can tell from data although it has no density: it
# learns from a second network that tries to tell them apart. What does this game minimise,
# why does it turn in circles, and how does it lose half of the data?

# %% [markdown] tags=["nav"]

# %% tags=["setup"]

# %%
import copy
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.distributions import Normal
from torch.nn.functional import softplus

from gdm_course import plotting as plot
from gdm_course import protocols, schematics, validate  # that refuses what does not fit
from gdm_course.batching import Batch, numbered
from gdm_course.data import toy
from gdm_course.divergences import f_divergence, js
from gdm_course.gan.dirac import dirac_path
from gdm_course.gan.fgan import DIVERGENCES
from gdm_course.gan.gan import Adams, Backward, SaturatingGAN, move
from gdm_course.gan.modes import census
from gdm_course.gan.players import frozen, packed, weight
from gdm_course.learning import Attempt, evaluating
from gdm_course.nets import mlp, precise
from gdm_course.training import budget, ema, forever, full_run, generator, seed_everything
from gdm_course.widgets import play, progress, watch

plot.style()

# %% [markdown]
# ## 1. The question
#
# So far every model gave the data a density, or a bound on one, or an energy. Drop that. All
# we ask is a function $G$ that turns noise $z\sim\mathcal N(0, I)$ into points, $y = G(z)$.
# Such a model can only sample: of the course's three protocols it satisfies Sampler, and
# neither Trainable nor Density. How can we train what has no likelihood?
#
# In the plane we know the truth, so we can count. A sample is **good** if it lies within
# three standard deviations of one of the eight Gaussians; a **mode** is found if it gets at
# least a tenth of its fair share of good samples.

# %%
truth = toy.get("eight_gaussians")
centres, sigma = truth.law.means, 0.2
x_train = truth.sample(20_000, generator(0)).float()
exact = census(truth.sample(20_000, generator(1)), centres, sigma)
print(f"exact samples: {exact.modes} modes, {exact.quality:.1%} good")
assert exact.modes == 8 and abs(exact.quality - (1 - math.exp(-4.5))) < 0.005
_ = plot.scatter(x_train[:3000], None, truth.bounds)

# %% [markdown]
# In the plane $1-e^{-9/2} = 98.9\,\%$ of a round Gaussian lies within three standard
# deviations. No sampler of this law can have more than that and be right.
#
# ## 2. The idea
#
# A forger learns from an expert. The **discriminator** $D$ is shown data and fakes and says
# how sure it is that a point is data. The **generator** $G$ never sees data. It moves its
# fakes to where the discriminator is more inclined to say "data": uphill on $D$.

# %% tags=["fold"]
# @title On the line: data, fakes, and what the best discriminator says of every place
x = torch.linspace(-4.0, 7.0, 300)
ours, theirs = Normal(0.0, 1.0), Normal(3.0, 1.0)
left, right = plot.panels("density of data and of fakes", "probability of data", width=4.2)
plot.density_1d(ours.log_prob, (-4, 7), left, plot.BLUE, "data")
plot.density_1d(theirs.log_prob, (-4, 7), left, plot.ORANGE, "fakes")
left.legend()
right.plot(x, (ours.log_prob(x) - theirs.log_prob(x)).sigmoid(), color=plot.BLACK)
right.annotate(
    "fakes are pushed\nthis way",
    (0.8, 0.6),
    (3.0, 0.62),
    arrowprops={"arrowstyle": "->"},
)
_ = right.set_ylim(0, 1.05)

# %% [markdown]
# ## 3. The mathematics
#
# Let $p$ be the density of data and $q$ that of the fakes. The discriminator answers with a
# **logit** $D(x)$, any real number; with $\sigma(l) = 1/(1+e^{-l})$ the probability that it
# gives to "data" is $\sigma(D(x))$. Both play for one number,
#
# $$V(D, G) = \mathbb E_{x\sim p}\log\sigma(D(x)) +
#   \mathbb E_{y\sim q}\log\bigl(1 - \sigma(D(y))\bigr). \tag{1}$$
#
# $D$ wants it large, for $-V$ is the loss of a classifier; $G$ wants it small.
#
# **The best discriminator.** Hold $G$ still. At each point $x$ the two terms are
# $p\log s + q\log(1-s)$ with $s = \sigma(D(x))$. Its slope in $s$ is $p/s - q/(1-s)$, which
# is 0 at $s = p/(p+q)$. The logit of that is
#
# $$D^*(x) = \log p(x) - \log q(x). \tag{2}$$
#
# *In numbers:* where data are three times as likely as fakes, the best discriminator says
# $3/4$, and its logit is $\log 3 = 1.10$.
#
# **What the game then measures.** Insert (2) into (1). With $m = (p+q)/2$ we have
# $p/(p+q) = p/2m$, so that each term is a KL divergence to $m$ minus $\log 2$:
#
# $$V(D^*, G) = \mathrm{KL}(p\,\|\,m) + \mathrm{KL}(q\,\|\,m) - 2\log 2
#   = 2\,\mathrm{JS}(p, q) - 2\log 2. \tag{3}$$
#
# So against the best discriminator $G$ lowers the Jensen-Shannon divergence, whose least
# value 0 is at $q = p$. The divergence was never computed: a classifier was trained.
#
# **Question.** At the end of a perfect game, what is the loss $-V$ of the discriminator, and
# would a loss that stays there prove that the samples are right?
#
# <details><summary>Answer</summary>
#
# $q = p$ gives $D^* = 0$ everywhere and $-V = 2\log 2 = 1.386$. It proves nothing: a
# discriminator that is too weak to see a difference has the same loss. (3) speaks of the best
# one.
# </details>
#
# We check (3) on two Gaussians, where every integral is a sum over a grid, and see that other
# discriminators give less.

# %%
p, q = Normal(0.0, 1.0), Normal(1.5, 0.7)
line = torch.linspace(-9.0, 9.0, 20_001, dtype=torch.float64)
cell = line[1] - line[0]


def value(logit):
    """V of a discriminator, by quadrature."""
    gain = p.log_prob(line).exp() * -softplus(-logit)
    return ((gain - q.log_prob(line).exp() * softplus(logit)).sum() * cell).item()


best = p.log_prob(line) - q.log_prob(line)
divergence = js(p.log_prob, q.log_prob, (-9.0, 9.0)).item()
print(f"V at the best logit {value(best):.5f}, 2 JS - 2 log 2 = "
      f"{2 * divergence - 2 * math.log(2):.5f}")  # fmt: skip
others = {
    "half of it": best / 2,
    "moved": best + 0.5,
    "a line": -2 * line,
    "none": 0 * best,
}
for name, logit in others.items():
    print(f"{name:12}{value(logit):10.5f}")
    assert value(logit) < value(best)
assert abs(value(best) - 2 * divergence + 2 * math.log(2)) < 1e-4

# %% [markdown] tags=["notes"]
# 14 minutes for sections 1 to 3. Draw p and q on the board and ask where the best
# discriminator is undecided (where they cross). Expect "it tends to 1/2 everywhere": only
# when the game is over. It sticks at (3): write p / (p + q) = p / 2m once. If time is
# short, leave out the check by quadrature.

# %% [markdown]
# ## 4. Build: two players
#
# First what both share. `fake` draws points through which the generator can be trained,
# `sample` is for everybody else. `packed` does nothing unless `pack` is above 1, which a
# section at the end explains; r1 and r2 are needed in section 7.


# %% tags=["from:gan.players.Players"]

# %% [markdown]
# Now the losses. $-\log\sigma(d)$ is $\mathrm{softplus}(-d) = \log(1+e^{-d})$, and
# $-\log(1-\sigma(d))$ is $\mathrm{softplus}(d)$: no probability is computed, and no label 0
# or 1 appears. `judged` returns logits, and the penalties of section 7, which are 0 here.
# Note who learns from which loss. In the discriminator's, fakes are drawn without a
# gradient; in the generator's, `frozen` keeps the discriminator as it is, while the gradient
# passes through it to the fakes.


# %% tags=["from:gan.gan.GAN"]

# %%
seed_everything(0)
gan, x = GAN(2), x_train[:256]
gan.discriminator_loss(x).backward()
assert all(w.grad is None for w in gan.generator.parameters())
gan.zero_grad()
gan.generator_loss(x).backward()
assert all(w.grad is None for w in gan.discriminator.parameters())
assert isinstance(gan, protocols.Sampler)
assert not isinstance(gan, protocols.Trainable | protocols.Density)
print(f"{gan.discriminator_loss(x):.3f} at the start; 2 log 2 = {2 * math.log(2):.3f}")

# %% tags=["fold"]
# @title A GAN: noise becomes fakes, and one discriminator judges both
seen = schematics.trace(gan.discriminator_loss, x)
d = schematics.Drawing(
    "GAN", "Noise becomes fakes; the same discriminator sees data and fakes.", 256
)
z, made, real = d.box("$z$", (0, 0)), d.box("$y$", (2, 0)), d.box("$x$", (2, 2))
G = d.network(gan.generator, "generator", (1, 0))
D = d.network(gan.discriminator, "discriminator", (3, 1))
losses = d.box("losses", (4, 1), "operation")
calls = seen.first("GAN.discriminator_loss").given
d.arrow(z, G, "", torch.zeros(256, gan.Z)), d.arrow(G, made)
d.arrow(made, D, "", seen.first(gan.generator).result)
d.arrow(real, D, "", calls["x"])
d.arrow(D, losses, "logits", seen.first(gan.discriminator).result)
d

# %% [markdown]
# **Is a trained discriminator really the log-ratio of (2)?** Let the "generator" be a fixed
# Gaussian, train only $D$, and draw its logit over $\log p - \log q$, which we know here.
#
# **Predict, before you run:** where will the two curves part?

# %%
seed_everything(0)
expert = GAN(1, hidden=32)
expert.fake = lambda n: 1.5 + 0.7 * torch.randn(n, 1)  # q is given
adam = torch.optim.Adam(expert.discriminator.parameters(), 5e-3)
for _ in progress(range(budget(400, 5)), budget(400, 5), "D alone"):
    adam.zero_grad()
    expert.discriminator_loss(torch.randn(512, 1)).backward()
    adam.step()
at = torch.linspace(-4.0, 5.0, 200)
with torch.no_grad():
    learned = expert.discriminate(at[:, None])
ratio = p.log_prob(at) - q.log_prob(at)
middle = (at > -1) & (at < 2.5)
error = (learned - ratio)[middle].abs().mean()
print(f"mean error between -1 and 2.5: {error:.2f} nats")
assert error < 0.5 or not full_run()
(ax,) = plot.panels("logit", width=4.5)
ax.plot(at, ratio, color=plot.BLACK, label="log p - log q")
ax.plot(at, learned, color=plot.ORANGE, label="trained D")
_ = ax.legend()

# %% [markdown]
# <details><summary>Answer to the prediction</summary>
#
# At both ends, where hardly any data or fakes fall: nothing there enters the loss. In the
# middle the two agree.
# </details>

# %% [markdown] tags=["notes"]
# 14 minutes for section 4. Ask which line would have to change if labels were turned round
# (none: there are no labels). The wrong answer to expect: "the generator needs data".

# %% [markdown]
# ## 5. Why G does not play for V
#
# By (1) the generator should lower $\log(1-\sigma(D(y)))$. Look at its slope in the logit:
# it is $-\sigma(D)$, nearly 0 where the discriminator is sure of a fake. A generator that is
# bad learns nothing; the loss **saturates**. So `GAN` above takes the **non-saturating** loss
# $-\log\sigma(D(y))$, whose slope $-(1-\sigma(D))$ is then largest. That is another aim, too.
# For fakes that move while $D = D^*$ is held still,
#
# $$\nabla\,\mathbb E_q\log(1-\sigma(D^*)) = \nabla\,2\,\mathrm{JS}(p,q), \qquad
#   \nabla\,\mathbb E_q[-\log\sigma(D^*)] = \nabla\bigl(\mathrm{KL}(q\,\|\,p) -
#   2\,\mathrm{JS}(p,q)\bigr). \tag{4}$$
#
# The first is (3): since $D^*$ is best, its own change does not count. For the second, use
# $-\log\sigma(l) = -l - \log(1-\sigma(l))$: the last term is minus the first loss, and the
# mean of $-D^* = \log q - \log p$ under $q$ is $\mathrm{KL}(q\,\|\,p)$. Arjovsky and Bottou
# (2017) have the proof.
#
# **Play.** $p = \mathcal N(0,1)$, $q = \mathcal N(d, 1)$, and the best $D$, whose slope is
# $-d$ everywhere. **Predict** the two bars at $d = 8$, before you move the slider there.


# %%
def slopes(d, n=4001):
    """Mean length of the slope at a fake, saturating and not, and JS: all by quadrature."""
    y = d + torch.linspace(-8.0, 8.0, n, dtype=torch.float64)
    w = Normal(d, 1.0).log_prob(y).exp() * 16 / (n - 1)
    logit = d * d / 2 - d * y
    both = (w * logit.sigmoid()).sum() * d, (w * (-logit).sigmoid()).sum() * d
    line_of = lambda mean: Normal(torch.tensor(mean).double(), 1.0).log_prob
    return (
        both[0].item(),
        both[1].item(),
        js(line_of(0.0), line_of(d), (-9.0, d + 9.0)).item(),
    )


def draw_slopes(d):
    """Both densities with the best D, and what reaches G."""
    saturating, not_so, divergence = slopes(d)
    left, right = plot.panels(f"JS = {divergence:.4f} nats", "mean slope at a fake")
    plot.density_1d(Normal(0.0, 1.0).log_prob, (-4, 14), left, plot.BLUE)
    plot.density_1d(Normal(d, 1.0).log_prob, (-4, 14), left, plot.ORANGE)
    x = torch.linspace(-4, 14, 400)
    left.plot(x, 0.4 * (d * d / 2 - d * x).sigmoid(), color=plot.BLACK)
    right.bar(["saturating", "non-saturating"], [saturating, not_so], color=plot.SKY)
    right.set(yscale="log", ylim=(1e-6, 20))
    right.set_xlabel(f"{saturating:.2g} and {not_so:.2g}")


play(draw_slopes, d=(0.5, 10.0, 0.5, 2.0))

# %%
print(f"{'d':>4}{'saturating':>12}{'other':>8}{'JS':>8}")
for d in (1.0, 2.0, 4.0, 8.0):
    saturating, other, divergence = slopes(d)
    print(f"{d:4.0f}{saturating:12.2g}{other:8.3g}{divergence:8.4f}")
assert slopes(8.0)[0] < 1e-3 and abs(slopes(8.0)[1] - 8) < 0.01
assert abs(slopes(8.0)[2] - math.log(2)) < 1e-3

# %% [markdown]
# <details><summary>Answer to the prediction</summary>
#
# At $d = 8$ the saturating slope is 0.0004 and the other one 8.0: the fake is as far from
# the data as it can be told, and only one of the losses says so. JS has reached its largest
# value, $\log 2 = 0.6931$, and does not change any more.
# </details>

# %% [markdown]
# ## 6. Training
#
# The loop of the course, with two players: D moves, then G, each with an Adam of its own.
# Every move of D takes a new batch. Adam has no momentum ($\beta_1 = 0$), since the other
# player has changed the landscape by the next step. `move` is `zero_grad`, `backward`,
# `step`, and a complaint where a number is not finite.


# %% tags=["from:gan.gan.train_gan"]


# %%
def play_out(model, steps, lr=2e-3, seed=0, constant=False, **more):
    """Train on the eight Gaussians with a rate that falls to 0; yields (step, D's loss)."""
    rate = lambda step: lr * (1 if constant else 1 - step / steps)
    draws = forever(x_train, 256, generator(seed))
    for step, loss, _ in train_gan(model, draws, steps, lr=rate, **more):
        yield step, loss


def counted(model, n=5000):
    """Modes, quality and the rest, of n samples."""
    return census(model.sample(n), centres, sigma)


seed_everything(0)
gan = GAN(2)
panels = {
    "samples": lambda ax: plot.scatter(gan.sample(2000), ax, truth.bounds, plot.ORANGE),
    "D(x), white is 0": lambda ax: logits_of(gan, ax),
}


def logits_of(model, ax):
    """The discriminator over the plane."""
    with torch.no_grad():
        seen = model.discriminate(plot.mesh(truth.bounds, 60)).view(60, 60)
    ends = (*truth.bounds[0], *truth.bounds[1])
    plot.plane(truth.bounds, ax).imshow(
        seen, origin="lower", extent=ends, cmap="RdBu", vmin=-2, vmax=2
    )


for _ in watch(play_out(gan, budget(1500, 5)), 100, panels):
    pass

# %% tags=["fold"]
# @title The truth beside the samples of a GAN, and where its samples lie
seed_everything(1)
found = counted(gan)
titles = (
    "the truth",
    f"GAN: {found.modes} modes, {found.quality:.0%} good",
    "share of modes",
)
one, two, three = plot.panels(*titles)
plot.scatter(x_train[:3000], one, truth.bounds)
plot.scatter(gan.sample(3000), two, truth.bounds, plot.ORANGE)
three.bar(range(8), found.shares, color=plot.SKY)
three.axhline(1 / 8, color=plot.BLACK, linewidth=0.8)
print(
    f"GAN: {found.modes} modes, {found.quality:.1%} good, KL of shares {found.kl:.3f} nats"
)
print(f"truth: {exact.modes} modes, {exact.quality:.1%} good, KL {exact.kl:.4f} nats")
if full_run():
    assert found.modes == 8 and 0.5 < found.quality < 0.95

# %% [markdown]
# All modes are found, in about equal shares, but a good part of the samples lies on bridges
# between them: a continuous $G$ maps one blob of noise to eight islands, so something has
# to lie between, and only a steep $G$ makes that rare. The loss of $D$, near $2\log 2$ from
# early on, says nothing about it. Count samples, never read a GAN's losses.
#
# **Change** `GAN(2)` to `GAN(2, Z=1)` in the cell above and run both again. Are the bridges
# gone?
#
# <details><summary>Answer</summary>
#
# No. The image of a line under a continuous map is one curve without a gap: it passes
# through all the modes it serves, and what lies between is bridge. That holds for any
# dimension of the noise.
# </details>

# %% [markdown] tags=["notes"]
# 12 minutes for sections 5 and 6. Let the room guess the bars at d = 8. While training runs:
# which loss should fall? (None: each fights the other.)

# %% [markdown]
# ## 7. A game is not a descent
#
# The smallest GAN has one data point at 0, one fake at $\theta$, and a straight
# discriminator $D(x) = \psi x$. Its losses are $\log 2 + \mathrm{softplus}(\psi\theta)$ for
# $D$ and $\mathrm{softplus}(-\psi\theta)$ for $G$. Both are content at $(\theta,\psi) =
# (0,0)$. Near it a step moves by $(\psi, -\theta)/2$: at a right angle to the way home. The
# two circle.
#
# What ends the circling is a price on slopes of the discriminator at the data, **R1** (and
# **R2**, the same at fakes), added to the loss of $D$:
#
# $$\mathrm{R1} = \frac\gamma2\,\mathbb E_{x\sim p}\bigl|\nabla_x D(x)\bigr|^2. \tag{5}$$
#
# Here $\nabla_x D = \psi$, and R1 pulls $\psi$ back to 0 by $\gamma\psi$ in each step.


# %% tags=["from:gan.dirac.dirac_field"]

# %% [markdown]
# **Play.** Follow 500 steps of length 0.1 from $(1, 1)$, for the logistic game and for that
# of a **Wasserstein critic**, whose losses are $\psi\theta$ and $-\psi\theta$ without
# softplus (the next unit). **Predict** what happens to both at $\gamma = 0$.


# %%
def draw_dirac(gamma):
    """Paths in the plane of the fake's place and the discriminator's slope."""
    ends = []
    for ax, kind in zip(plot.panels("logistic", "Wasserstein", width=3.6), (False, True)):
        path = dirac_path(gamma, 500, wasserstein=kind)
        ends.append(path[-1].norm().item())
        ax.plot(*path.T, color=plot.ORANGE, linewidth=0.7)
        ax.scatter(*path[-1], color=plot.RED, s=25, zorder=3)
        ax.set(xlim=(-3, 3), ylim=(-3, 3), aspect="equal", ylabel="slope of D")
        ax.set_xlabel(f"fake at; ends {ends[-1]:.3g} from home")


play(draw_dirac, gamma=(0.0, 2.0, 0.1, 0.0))

# %%
far = {(g, w): dirac_path(g, 500, wasserstein=w)[-1].norm().item()
       for g in (0.0, 1.0) for w in (False, True)}  # fmt: skip
for (g, w), radius in far.items():
    print(
        f"{'Wasserstein' if w else 'logistic':12} R1 = {g:.0f}: ends {radius:.4f} from home"
    )
assert 0.3 < far[0.0, False] < 1 < 10 < far[0.0, True]
assert max(far[1.0, False], far[1.0, True]) < 1e-3

# %% [markdown]
# <details><summary>Answer to the prediction</summary>
#
# Without R1 the logistic game circles and comes home very slowly: after 500 steps it is
# still 0.52 away, from 1.41. The Wasserstein game spirals outwards, to 17. With $\gamma = 1$
# both arrive.
# </details>
#
# In code: autograd gives the slope at each row, and `create_graph=True` makes the penalty
# something that can itself be differentiated in the weights of $D$.


# %% tags=["from:gan.players.slope_squared"]

# %% tags=["from:gan.players.judged"]

# %% [markdown]
# **Question.** Why is R1 taken at the data, and what would it cost to take it everywhere?
#
# <details><summary>Answer</summary>
#
# At the end fakes lie where data lie, and there $D$ should be flat: that is where the game
# turns in circles. Elsewhere a slope is useful, for it leads fakes to the data; a price on
# slopes everywhere would be paid for exactly that.
# </details>
