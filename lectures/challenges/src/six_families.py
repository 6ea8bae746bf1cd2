# %% [markdown]
# # One table: six families and a mixture
#
# Every unit of this course praised its own model on its own data. Here all six families get
# the same digits and the same seconds of a processor, and answer in one table. Which of its
# figures may be compared, and what does each family give you that the others cannot?

# %% [markdown] tags=["nav"]
# 55 minutes, and 6 further ·
# before this: [Images by convolution: PixelCNN](../autoregressive/pixelcnn.ipynb), [Half of it stays: coupling flows](../flows/realnvp.ipynb), [What you do not see: the variational autoencoder](../vae/vae.ipynb), [Rolling and kicked: Langevin and deep energies](../energy/langevin.ipynb), [How far is the earth: Wasserstein critics and pictures](../gan/wgan.ipynb), [A thousand small steps: denoising diffusion](../diffusion/ddpm.ipynb), [Who is fooled: likelihoods and samples on trial](evaluation.ipynb) ·
# [exercise](../../exercises/challenges/six_families.ipynb) ·
# [solution](../../solutions/challenges/six_families.ipynb)
#
# previous: [What to answer for: copies, wrong data, marks and cards](responsibility.ipynb) ·
# [all units](../index.ipynb) ·
# next: [The capstone: samples in four steps, two, or one](capstone.ipynb)

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
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor, nn
from torch.distributions import (
    Categorical,
    MixtureSameFamily,
    MultivariateNormal,
    Normal,
)

from gdm_course import checkpoints, schematics, validate
from gdm_course import plotting as plot
from gdm_course.challenges import contest, course_map, six
from gdm_course.challenges.contest import Contestant, Fall
from gdm_course.challenges.mixture import em
from gdm_course.challenges.six import LEVELS, SHAPE, D, as_is, minimised, picture
from gdm_course.data import images
from gdm_course.data.download import Missing
from gdm_course.diffusion.ddim import ddim
from gdm_course.diffusion.repaint import repaint
from gdm_course.diffusion.unet import ImageDDPM
from gdm_course.evaluation import samples
from gdm_course.evaluation.features import opinions
from gdm_course.evaluation.likelihood import bits_per_dim, device_of, estimate, portions
from gdm_course.flows.dequantisation import Dequantised, noise_like
from gdm_course.flows.realnvp import RealNVP
from gdm_course.learning import evaluating
from gdm_course.training import budget, full_run, seed_everything
from gdm_course.widgets import play, progress

plot.style()

# %% [markdown]
# ## 1. The question
#
# The data are small: 1,285 digits to learn from, 8 x 8 pixels with 17 grey levels, as whole
# numbers. So is the budget, 6 seconds of one processor for each family. A **floor** takes
# part: ten Gaussians, fitted by the EM algorithm (section 4) in about a second. Is a deep
# model better than that?
#
# What can be asked of everybody? A likelihood only of some, samples of all. And a likelihood
# is not always one: it is *exact*, or a *bound*, or there is *none*.

# %%
digits = images.load("digits")
x_train, x_valid, x_test = (
    part.flatten(1) for part in (digits.x_train, digits.x_valid, digits.x_test)
)
held = torch.cat([x_valid, x_test])  # what samples are compared with
seed_everything(0)
players = six.everybody(x_train)
print(
    f"{len(x_train)} digits to learn from, {len(x_test)} for likelihoods, {len(held)} held"
)
for who in players:
    size = sum(p.numel() for p in who.model.parameters())
    print(f"{who.family:16}{type(who.model).__name__:24}{size:9,}   likelihood: {who.says}")
_ = plot.image_grid(digits.x_train[:40], None, 20, vmax=16)

# %% [markdown]
# ## 2. The idea
#
# Treat everybody alike, and write down what cannot be alike. All learn from the same codes.
# Some need them as numbers from $-1$ to $1$, some with noise: that is their business, as
# long as what they *draw* becomes codes again, and what they *say* is about codes.

# %% tags=["fold"]
# @title The contest: the same codes in, the same judge at the end
d = schematics.Drawing(
    "A contest", "Codes train a model for 6 seconds; its likelihood and samples are judged."
)
codes = d.picture(six.picture(x_train[:1]).float() / 8 - 1, "codes", (0, 1))
clock, model = d.box("6 CPU s", (1, 1), "operation"), d.box("one family", (2, 1), "network")
says, draws = d.box("-log P of test codes", (3, 0)), d.box("512 pictures, as codes", (3, 2))
room = d.box("features of a\nsmall classifier", (4, 2), "network")
bits = d.box("bits per dimension:\nexact, bound or none", (5, 0), "text")
figures = d.box("Frechet, precision,\nrecall", (5, 2), "text")
d.way(codes, clock, model)
d.arrow(model, says), d.arrow(model, draws), d.arrow(says, bits)
d.way(draws, room, figures)
d

# %% [markdown]
# ## 3. The mathematics
#
# Let $P(x)$ be the probability that a model gives to codes $x$ of $D$ pixels. The common
# unit is **bits per dimension**,
#
# $$b(x) = \frac{-\log P(x)}{D\log 2}. \tag{1}$$
#
# A uniform guess among 17 levels costs $\log_2 17 = 4.09$ bits. A model of real numbers has
# a density $p$ and no $P$. With noise $u$, uniform in $[0,1)^D$, it has a bound:
#
# $$-\log P(x) \;\le\; -\mathbb E_u \log p(x+u), \qquad P(x) = \int p(x+u)\,du, \tag{2}$$
#
# by Jensen's inequality. The cells have volume 1 here. If codes were rescaled to $y$, a cell
# has volume $v$, and $\log v$ is added to $\log p(y)$: a probability is a density times a
# volume.
#
# Two models $a$ and $b$ are asked about the *same* test examples $x_1, \dots, x_n$. With
# $g_i = b_a(x_i) - b_b(x_i)$, the mean $\bar g$ is the difference, and
#
# $$\text{error} = \frac{\text{standard deviation of } g}{\sqrt n}. \tag{3}$$
#
# In this unit a gap of more than two errors counts as *proven*, by convention: if two models
# were alike, a gap would be that large about once in twenty times.
#
# *In numbers:* one code with 17 levels and a Gaussian in the middle, three levels wide. We
# know $P$ exactly, and get the three figures that one finds in papers.

# %%
seed_everything(0)
law, code = Normal(8.5, 3.0), torch.tensor([6.0, 8.0, 11.0])
exact = -(law.cdf(code + 1) - law.cdf(code)).log() / math.log(2)
u = torch.rand(20_000, 1)
bound = -law.log_prob(code + u).mean(0) / math.log(2)
rescaled = Normal(0.5, 3 / 17).log_prob((code + 0.5) / 17)  # the same law, on [0, 1]
print(f"exact            {exact.mean():7.3f} bits")
print(f"bound (2)        {bound.mean():7.3f} bits, above by {(bound - exact).mean():.4f}")
print(f"density on [0,1] {(-rescaled / math.log(2)).mean():7.3f}: not bits of anything")
print(f"... and volume   {(-(rescaled - math.log(17)) / math.log(2)).mean():7.3f} bits")
assert (bound > exact - 1e-3).all()
assert (-rescaled).mean() < 0

# %% [markdown]
# **Question.** Model $a$ has a bound of 2.20 bits, model $b$ an exact 1.93, both with errors
# far below 0.01. Is $b$ better? And if $a$'s bound were 1.89?
#
# <details><summary>Answer</summary>
#
# From 2.20 and 1.93 nothing follows: the true value of $a$ may lie far below its bound. A
# bound of 1.89 would prove that $a$ is better, for its true value is lower still. The
# loser's figure has to be exact.
# </details>

# %% [markdown] tags=["notes"]
# 12 minutes for sections 1 to 3. Ask the room for the winner before anything runs, and write
# the bets on the board. The wrong answer to expect: "diffusion, of course". It sticks at the
# volume of a cell: draw one cell in the plane.

# %% [markdown]
# ## 4. Build: a fair contest
#
# First the clock. Equal steps would not be equal work: a step of the U-Net costs several
# times one of the VAE's perceptrons (the steps are printed below). `process_time` counts
# seconds of the processor, all threads together: time in which it works for others is not
# counted. The learning rate falls to 0 meanwhile.


# %% tags=["from:challenges.contest.for_seconds"]
def for_seconds(
    loop: Callable[[Fall], Iterable], seconds: float, clock: Callable = time.process_time
) -> tuple[int, float]:
    """Train until so many CPU seconds are spent, while the rate falls to 0 in a line.

    Args:
        loop: takes `fall`, the share of the learning rate that is left, and yields once
            per step.
        seconds: of the processor, all threads together: not those of the wall clock.
        clock: tells the seconds that this process has used.

    Returns:
        The number of steps, and the seconds that they took.
    """
    began = clock()
    steps, left = 0, lambda _step=0: max(0.0, 1 - (clock() - began) / seconds)
    for _ in loop(left):
        steps += 1
        if left() == 0:
            break
    return steps, clock() - began


# %% [markdown]
# Then the floor. Ten Gaussians with a covariance each, and (2) for codes. EM (expectation,
# maximisation) takes turns: how probably each Gaussian made each digit, then means and
# covariances of the digits, weighted by that. It needs no rate and no gradient, so the
# mixture is a Sampler with a bound, and has no `loss`: it is not Trainable.


# %% tags=["from:challenges.mixture.CodeMixture"]
class CodeMixture(nn.Module):
    """K Gaussians, each with a covariance of its own, fitted to codes with uniform noise.

    log P(x) >= E log p(x + u), u uniform in the unit cube, whose volume is 1: a bound. EM
    takes no gradients, so it is not Trainable.

    Args:
        D, levels: number of codes in an example, and of the values of a code.
        K: number of Gaussians.
        ridge: added to every variance, in squared codes: no Gaussian shrinks to a point.
    """

    def __init__(self, D: int, levels: int, *, K: int = 10, ridge: float = 0.3):
        super().__init__()
        validate.at_least(1, D=D, K=K)
        validate.at_least(2, levels=levels)
        self.levels, self.ridge = levels, ridge
        self.register_buffer("log_pi", torch.full((K,), -math.log(K)))
        self.register_buffer("mu", levels / 2 + torch.randn(K, D))
        self.register_buffer("root", levels / 4 * torch.eye(D).expand(K, D, D).clone())

    def distribution(self) -> MixtureSameFamily:
        """Return the density of codes with noise."""
        parts = MultivariateNormal(self.mu, scale_tril=self.root, validate_args=False)
        return MixtureSameFamily(Categorical(logits=self.log_pi), parts)

    def elbo(self, x: Tensor) -> Tensor:
        """Return one draw's bound of log P in nats: codes (B, D) -> (B,)."""
        x = validate.codes(x, self.levels, self.mu.shape[1]).to(self.mu)
        return self.distribution().log_prob(x + noise_like(x))

    def iwae(self, x: Tensor, k: int) -> Tensor:
        """Return the tighter bound log mean exp of k draws: codes (B, D) -> (B,)."""
        draws = torch.stack([self.elbo(x) for _ in range(validate.count(k, "k", 1))])
        return draws.logsumexp(0) - math.log(k)

    def sample(self, n: int) -> Tensor:
        """Draw codes (n, D): points rounded down, and cut to the range."""
        x = self.distribution().sample((max(validate.count(n), 1),))[:n]
        return x.floor().clamp(0, self.levels - 1).long()


# %%
floor, rest = players[0], players[1:]
seed_everything(1)
began = time.process_time()
losses = [loss for _, loss in em(floor.model, x_train, budget(30, 2))]
spent = {"mixture": (len(losses), time.process_time() - began)}
print(f"-log p with noise: {losses[0]:.0f} -> {losses[-1]:.0f} nats, {len(losses)} steps")
assert losses[-1] < losses[0]

# %% [markdown]
# How many times a network is evaluated is *counted*. For the time of a call, methods are
# replaced by ones that note how many rows they got: `ear` names them.


# %% tags=["from:challenges.contest.counted"]
@contextmanager
def counted(ear: Iterable[tuple[object, str]], tally: list[int]) -> Iterator[None]:
    """Append to `tally` the rows of every call of the methods (object, name)."""
    ear = [*ear]

    def listening(method: Callable) -> Callable:
        def call(x: Tensor, *more, **names):
            tally.append(len(x))
            return method(x, *more, **names)

        return call

    for thing, name in ear:
        object.__setattr__(thing, name, listening(getattr(thing, name)))
    try:
        yield
    finally:
        for thing, name in ear:
            object.__delattr__(thing, name)


# %% [markdown]
# An `ear` can be seen in a whole contestant: here the flow and the diffusion. A flow's
# networks are called once each in a pass, so that it is enough to listen to the first. The
# PixelCNN's ear is at the answer for a pixel: it draws with a cache, so 64 answers that wait
# for each other cost it less than 64 passes.


# %% tags=["from:challenges.six.flow"]
def flow() -> Contestant:
    """RealNVP of codes with uniform noise: the density is exact, of codes it is a bound."""
    model = Dequantised(RealNVP(D, layers=8, hidden=64), LEVELS)
    loop, net = minimised(model, as_is, 4e-3, clip=50.0), model.flow.layers[1].net
    ear = ((net, "forward"),)  # the first of eight couplings: one pass through all
    return Contestant("flow", model, loop, as_is, model.sample, as_is, 16, ear)


# %% tags=["from:challenges.six.diffusion"]
def diffusion() -> Contestant:
    """A U-Net and a chain of 200 steps; 25 steps of DDIM draw."""
    model = ImageDDPM(SHAPE, LEVELS, T=200, high=8.0, low=-8.0, width=16)
    loop, ear = minimised(model, picture, 5e-3, B=32, clip=1.0), ((model.net, "forward"),)
    draw = partial(ddim, model, steps=25)
    return Contestant(
        "diffusion", model, loop, picture, draw, lambda x: x.flatten(1), 20, ear
    )


# %% [markdown]
# What a model says of test codes, in nats. For a VAE, and for noise $u$, the log of a mean
# over several draws is a *tighter* bound. For the diffusion, where a draw looks at one step
# of the chain, the plain mean of several is the same bound with less noise.


# %% tags=["from:challenges.contest.nats"]
@torch.no_grad()
def nats(who: Contestant, x: Tensor, batch: int = 256) -> Tensor:
    """Return -log P of codes (N, 64) in nats, or its upper bound: (N,) float64.

    A bound of several draws is log mean exp of them if the model has `iwae`, which is
    tighter; else, for a chain whose draws each look at one step, their mean.

    Raises:
        TypeError: it knows neither.
    """
    model, parts = who.model, []
    if who.says == "none":
        name = type(model).__name__
        raise TypeError(f"{name} has neither log_prob nor elbo: it says no likelihood")
    with evaluating(model):
        for (rows,) in portions(who.shown(x), batch, device_of(model)):
            if who.says == "exact":
                log_p = model.log_prob(rows)
            elif hasattr(model, "iwae"):
                log_p = model.iwae(rows, who.draws)
            else:
                log_p = torch.stack([model.elbo(rows) for _ in range(who.draws)]).mean(0)
            parts.append(-log_p.double())
    return torch.cat(parts)


# %% [markdown]
# **Predict, before you run:** which family has the fewest bits per dimension after 6
# seconds, and which one does not even reach the floor?
#
# <details><summary>Answer</summary>
#
# VAE and PixelCNN have the fewest, within a tenth of a bit of each other; the flow is behind
# them. The diffusion's figure is no lower than the floor's: in 6 seconds it takes only a few
# hundred steps. That says nothing about more time (section 8).
# </details>

# %%
seconds = 6.0 if full_run() else 0.05


def enter(*names):
    """Let some families train for the same seconds."""
    for who in progress([p for p in rest if p.family in names], label="training"):
        seed_everything(1)
        spent[who.family] = for_seconds(lambda fall: who.loop(x_train, fall), seconds)  # noqa: B023
        who.after()
        print(
            f"{who.family:16}{spent[who.family][0]:6} steps, {spent[who.family][1]:.1f} s"
        )


enter("autoregressive", "flow")

# %%
enter("vae", "energy")

# %%
enter("gan", "diffusion")

# %% [markdown]
# ## 5. The table: likelihood
#
# All on the same 256 test digits, in the same space, in bits per dimension by (1). Behind
# each figure stand its kind and the evaluations of networks that one example took.

# %%
told, asked = {}, {}


def ask(who):
    """Keep what a contestant says of the test digits."""
    told[who.family] = bits_per_dim(nats(who, x_test), 64)


seed_everything(2)
for who in players:
    if who.says != "none":
        asked[who.family] = contest.evaluations(who.ear, partial(ask, who), len(x_test))
print(f"{'test digits':16}{'bits/dim':>10}{'error':>8}  {'kind':8}{'evaluations':>12}")
for who in players:
    if who.family in told:
        mean, error = estimate(told[who.family])
        print(f"{who.family:16}{mean:10.3f}{error:8.3f}  {who.says:8}"
              f"{asked[who.family].each:12.0f}")  # fmt: skip
    else:
        print(f"{who.family:16}{'none':>10}")
mean = {family: each.mean().item() for family, each in told.items()}
if full_run():
    assert max(mean["autoregressive"], mean["vae"], mean["flow"]) < mean["mixture"] - 0.2
    assert abs(mean["autoregressive"] - mean["vae"]) < 0.2 < mean["flow"] - mean["vae"]
    assert mean["diffusion"] < math.log2(17) - 0.3

# %% [markdown]
# Now differences, by (3), and what they prove: the lower figure wins if the gap is beyond
# two errors *and* the loser's figure is exact. (You write this as `proven` in the exercises.)


# %%
def says(a, b):
    """Say what two figures prove about models a and b."""
    gap = contest.paired(told[a], told[b])
    kind = {who.family: who.says for who in players}
    lower, loser = (a, b) if gap.value < 0 else (b, a)
    clear = abs(gap.value) > 2 * gap.error and kind[loser] == "exact"
    verdict = f"{lower} is better" if clear else "nothing is proven"
    print(f"{a} - {b}: {gap.value:+.3f} +- {gap.error:.3f} bits: {verdict}")
    return gap


for pair in (("vae", "autoregressive"), ("flow", "autoregressive"), ("flow", "mixture")):
    gap = says(*pair)
alone = math.hypot(estimate(told["flow"]).error, estimate(told["mixture"]).error)
print(f"unpaired, the last error would be {alone:.3f}")

# %% [markdown]
# **Question.** Flow and mixture both have a bound, and the flow's is much lower. Why is
# "nothing is proven" the right verdict, and what would you compute to change it?
#
# <details><summary>Answer</summary>
#
# The mixture's figure is a bound, too: its true value may lie lower. More draws of $u$ make
# it tighter (`iwae`): move the slider. The mixture's hardly moves, and that makes the order
# plausible; a proof needs an exact value, or a bound from the other side.
# </details>
#
# **Play.** The number of draws $k$ of a bound. What moves, and what does it cost?


# %%
def draw_bounds(draws):
    """The bounds with so many draws, beside the exact figure."""
    (ax,) = plot.panels(
        f"k = {draws}: the VAE's networks are asked {1 + draws} times", width=6
    )
    for row, family in enumerate(("mixture", "flow", "vae")):
        who = next(p for p in players if p.family == family)
        with torch.no_grad():
            log_p = who.model.eval().iwae(who.shown(x_test), draws)
        value = bits_per_dim(-log_p.mean().item(), 64)
        ax.barh(row, value, color=plot.SKY)
        ax.text(value + 0.02, row, f"{value:.3f}", va="center")
    ax.axvline(mean["autoregressive"], color=plot.ORANGE, label="autoregressive, exact")
    ax.set(yticks=range(3), xlim=(0, 4.2), xlabel="bits per dimension", ylim=(-0.6, 3.4))
    ax.set_yticklabels(["mixture", "flow", "vae"])
    ax.legend(loc="upper right")


play(draw_bounds, draws=[1, 2, 4, 8, 16, 32, 64])

# %% [markdown]
# ## 6. The table: samples
#
# 512 pictures of each family, rounded to codes, are compared with the 512 held digits in
# the 64 features of the course's own classifier, by the figures of the unit on evaluation.
# The first row is no model: 512 training digits, which show what true digits reach. (A model
# that copies them would have this row.)

# %%
drawn, drawing = {"training digits": six.picture(x_train[:512])}, {}


def keep(who):
    """Keep what a contestant draws."""
    drawn[who.family] = who.pictures(512)


seed_everything(3)
for who in players:
    began = time.process_time()
    drawing[who.family] = contest.evaluations(who.ear, partial(keep, who), 512)
    spent[who.family] += ((time.process_time() - began) / 512 * 1000,)
real, quality = opinions(six.picture(held)), {}
head = ("Frechet", "error", "precision", "recall", "evaluations", "ms each", "train s")
print(" " * 16, *(f"{name:>11}" for name in head))
for name, pictures in drawn.items():
    features = opinions(pictures)
    distance, error = samples.frechet_with_error(features, real)
    precision, recall = samples.precision_recall(real, features)
    quality[name] = distance, error, precision, recall
    row = f"{name:16} {distance:11.2f} {error:11.2f} {precision:11.3f} {recall:11.3f}"
    if name in drawing:
        row += f" {drawing[name].each:11.0f} {spent[name][2]:11.3f} {spent[name][1]:11.1f}"
    print(row)
share = math.sqrt(0.25 / 512)
print(f"precision and recall: shares of 512, with binomial errors of at most {share:.3f}")
if full_run():
    assert quality["training digits"][0] < min(
        v[0] for k, v in quality.items() if k in drawing
    )
    assert mean["autoregressive"] < mean["mixture"] - 0.5
    assert min(quality[name][2] for name in ("flow", "energy")) > quality["diffusion"][2]

# %% tags=["fold"]
# @title The wall: a row of digits, and a row of each family
wall = plot.panels(*drawn, columns=2, width=4.6, height=1.05)
for ax, pictures in zip(wall, drawn.values()):
    plot.image_grid(pictures[:24], ax, 12, vmax=16)

# %% [markdown]
# **Question.** The PixelCNN's figure is more than half a bit per pixel below the floor's. By
# its samples it isn't better than the floor. How can that be?
#
# <details><summary>Answer</summary>
#
# The two figures ask different things. Bits per dimension go through every grey level of
# every pixel; the distance compares means and covariances of 64 features, and nothing else.
# (A mixture of Gaussians fits means and covariances, if only of pixels.) And the budget
# decides: with 24 seconds, on another seed, the PixelCNN's distance came down to the floor's.
# </details>
#
# Quality has a cost. One model *beats* another if it is at least as good in both, and better
# in one. Those whom nobody beats are the **front** (`contest.pareto`, and an exercise).

# %%
names = [who.family for who in players]
cost = [spent[name][2] for name in names]
distance = [quality[name][0] for name in names]
front = contest.pareto(cost, distance)
(ax,) = plot.panels("filled: beaten by nobody in both", width=5.5, height=3.4)
for name, x, y, first in zip(names, cost, distance, front):
    ax.errorbar(x, y, quality[name][1], color=plot.BLUE, marker="o",
                mfc=plot.BLUE if first else "white")  # fmt: skip
    ax.annotate(name, (x, y), (5, 4), textcoords="offset points")
_ = ax.set(xscale="log", xlabel="milliseconds per sample", ylabel="Frechet distance")
_ = ax.set_xlim(min(cost) / 2, max(cost) * 8)
print("on the front:", *(name for name, first in zip(names, front) if first))

# %% [markdown] tags=["notes"]
# 15 minutes for sections 4 to 6. Read the table column by column, never row by row: a row
# tempts one to add up. If late, leave out the front.

# %% [markdown]
# ## 7. Break it: the lost volume
#
# The flow is trained on codes that were rescaled and stretched. Leave the volume of a cell
# out of its figure (`volume=False`), as it happens in real reports.
#
# **Predict:** will the wrong figure be too low or too high, and by how much?


# %%
def flow_bits(volume=True):
    """The flow's figure, from the density of codes rescaled to [0, 1]."""
    flow = next(p for p in players if p.family == "flow").model.eval()
    with torch.no_grad():
        nats = -flow.elbo(x_test)  # of codes: D log 17 is in it
    return bits_per_dim(nats - (0 if volume else 64 * math.log(17)), 64).mean().item()


seed_everything(4)
right, wrong = flow_bits(), flow_bits(volume=False)
print(f"with volume {right:.2f} bits; without {wrong:.2f}: gap {right - wrong:.2f}")
assert wrong < 0 < right
assert abs(right - wrong - math.log2(17)) < 0.1

# %% [markdown]
# <details><summary>Answer to the prediction</summary>
#
# Too low by $\log_2 17 = 4.09$ bits, so far that it is negative: a digit looks $2^{64 \cdot
# 4.09} = 2^{262}$ times likelier than the flow's bound says. $P$ is at most 1, so a negative
# count of bits is always wrong: look for it. The repair is (2) with the volume.
# </details>
#
# ## 8. More time: MNIST from checkpoints
#
# Six seconds are few. The course's checkpoints had two minutes to half an hour, on MNIST
# made black and white once and for all. Cards tell likelihood, parameters and seconds (of the
# wall clock, so no equal budgets here); 300 samples are compared with 300 test images, so few
# that even other test images are not at 0 (the first two lines). Glow, GAN and diffusion
# model 256 grey values: another data space, so their bits and distances cannot be compared
# with the others'. The diffusion draws in 10 steps of DDIM, the RBM in 300 of Gibbs.
# "In a row": evaluations that wait for each other in one draw.

# %%
seed_everything(5)
cards = {  # its likelihood, how it draws, and what is called for each evaluation
    "autoregressive/made-mnist-cpu": ("exact", {}, []),
    "autoregressive/pixelcnn-binarized-cpu": ("exact", {}, [".distribution"]),
    "flows/glow-mnist-cpu": ("bound, grey", {}, ["logit.inverse"]),
    "vae/vae-mnist-cpu": ("bound, k=500", {}, ["decoder.forward"]),
    "vae/vqvae-mnist-cpu": (
        "bound", {}, ["prior.density.norm.forward", "autoencoder.decoder.forward"]
    ),
    "energy/rbm-mnist-cpu": ("AIS estimate", {"k": budget(300, 2)}, [".hidden"]),
    "gan/dcgan-mnist-cpu": ("none, grey", {}, ["generator.forward"]),
    "diffusion/ddpm-mnist-cpu": ("bound, grey", {}, ["net.forward"]),
}  # fmt: skip
n, test, in_a_row = budget(300, 70), {}, {}
try:
    grey, bits_of = (images.load(name).x_test for name in ("mnist", "binarized_mnist"))
    bits_of = bits_of[torch.randperm(len(bits_of))]  # the file is sorted: zeros come first
    test = {"black and white": 255 * bits_of, "grey": grey}
except Missing as missing:
    print(f"{missing}\nWithout real digits nothing is judged here.")


def judged(x, real):
    """Frechet distance, its error, precision and recall, as text."""
    a, b = opinions(x), opinions(real)
    precise, recalled = samples.precision_recall(b, a)
    far, error = samples.frechet_with_error(a, b)
    return f"{far:8.2f}{error:6.2f}{precise:7.2f}{recalled:7.2f}"


def from_checkpoint(name, kind, how, calls):
    """One row: what the card tells, and 300 samples judged."""
    card, model = checkpoints.card(name), checkpoints.load(name)
    figure = [f for f in card["figures"] if f["split"] == "test"]
    figure = next((f for f in figure if "IWAE" in f["metric"]), figure[0])
    value, error = figure["value"], figure["error"]
    if figure["unit"] == "nats":
        value, error = bits_per_dim(value, 784), bits_per_dim(error, 784)
    told_bits = "none" if "none" in kind else f"{value:.4f} {error:.4f}"
    ear = [call.rpartition(".") for call in calls]
    ear = [(model.get_submodule(part), method) for part, _, method in ear]
    began, rows = time.process_time(), []
    with contest.counted(ear, rows):
        x = ddim(model, n, 10) if "ddpm" in name else model.sample(n, **how)
    each = (time.process_time() - began) / n * 1000
    in_a_row[name] = len(rows) if calls else "784*"
    real = test["grey" if "grey" in kind else "black and white"][:n]
    x = (x + 1) * 127.5 if "gan" in name else x if "grey" in kind else 255 * x
    x = x.reshape(n, 1, 28, 28).round().to(torch.uint8)
    short = name.split("/")[1].replace("-cpu", "")
    print(f"{short:20}{told_bits:>14} {kind:13}{judged(x, real)}{in_a_row[name]:>9}"
          f"{each:8.2f}{card['seconds']:8.0f}{card['parameters']:11,}")  # fmt: skip


print(f"{'':20}bits/dim error {'kind':13} Frechet error  prec. recall in a row ms each"
      " train s parameters")  # fmt: skip
for kind, all_ in test.items():
    print(f"{'other test images, ' + kind:48}{judged(*all_[: 2 * n].split(n))}")
for name, row in cards.items() if test else ():
    if checkpoints.available(name):
        from_checkpoint(name, *row)
    else:
        print(f"{name:38} not trained yet: no figure")
print("* slices of a single pass, by the algorithm: not counted")
slow = checkpoints.card("diffusion/ddpm-digits")
later = next(f for f in slow["figures"] if f["split"] == "test")
print(
    f"diffusion of the digits above, {slow['seconds']:.0f} s, {slow['parameters']:,} "
    f"parameters: {later['value']:.2f} bits/dim"
)
assert later["value"] < mean["mixture"] or not full_run()

# %% [markdown]
# A likelihood took one pass for each image where it is exact, and for the bounds of Glow and
# the diffusion (one draw); 1 + 500 for the VAE; for the RBM, 1,000 chains once for all images.
# AIS, too low on average, is no bound.
#
# The last line: a diffusion with four times the parameters and an hour is far below the
# floor's figure. We do not say which did it. A table is true for its budget.
#
# ## 9. What each can do, tested by use
#
# `abilities` reads names of methods. A name is only a promise: `exercised` calls `sample`,
# `loss` and `log_prob`; what is claimed has to give finite numbers of the right shape, and
# what is not claimed has to be missing.

# %%
print(f"{'':16}{'Sampler':>10}{'Trainable':>11}{'Density':>9}   likelihood   own words")
for who in players:
    claims = contest.exercised(who.model, who.shown(x_test[:4]))
    words = ("elbo", "iwae", "energy", "score", "encode", "conditionals", "predict_noise")
    words = [w for w in (*words, "discriminator_loss") if hasattr(who.model, w)]
    marks = ["yes" if able else "-" for able in claims.values()]
    print(f"{who.family:16}{marks[0]:>10}{marks[1]:>11}{marks[2]:>9}   {who.says:12}",
          *words)  # fmt: skip

# %% [markdown]
# **Change one thing:** in `flow_bits`, ask `flow.flow` for `log_prob` of
# `torch.randn(4, 64)`. It answers. Why is the flow's row "bound" all the same?
#
# <details><summary>Answer</summary>
#
# Of real numbers the flow knows an exact density; of codes only the bound (2). Exactness is
# a property of a model *and* its data space. The PixelCNN is exact on codes.
# </details>
#
# ## 10. A guide, with its rows
#
# Each sentence names the rows, or the unit, that it rests on. It holds for these digits and
# these budgets, and no further.
#
# - **I need exact probabilities** of codes: *autoregressive* (section 9: the only Density),
#   one evaluation (section 5). Of real numbers, a flow has them too (unit `realnvp`).
# - **I need compression**: the same row; a coder takes one symbol after the other and needs
#   its `conditionals` (section 9). Section 5 tells the length to expect (unit `nade`).
# - **I need samples at once**: *vae*, *flow*, *gan* take one evaluation (section 6),
#   *autoregressive* 64 that wait for each other, *diffusion* 25 and *energy* 100.
# - **I need edits**: energies and scores add (units `langevin` and `guidance`), and `energy`
#   or `score` is in two rows only (section 9: *energy*, *diffusion*).
# - **I need in-painting**: *autoregressive* keeps what comes first in its order, *diffusion*
#   keeps any pixels (unit `guidance`, section 8); both are tried in the section Further.
# - **I have 1,285 examples and a second**: look at *mixture* first (section 6: no row is
#   nearer to the data by four errors, as the next cell asserts).
# - **I need a representation**: `encode` is in one row only (section 9: *vae*).
# - **I have an hour**: *diffusion* got below the floor's figure (section 8, last line).

# %%
able = {who.family: who for who in players}
assert [f for f, who in able.items() if who.says == "exact"] == ["autoregressive"]
assert asked["autoregressive"].each == 1
scored = [f for f, who in able.items() if {"energy", "score"} & {*dir(who.model)}]
assert scored == ["energy", "diffusion"]
assert [f for f, who in able.items() if hasattr(who.model, "encode")] == ["vae"]
assert [drawing[f].each for f in ("vae", "flow", "gan")] == [1, 1, 1]
assert [drawing[f].calls for f in ("autoregressive", "diffusion", "energy")] == [
    64,
    25,
    100,
]
for f in [f for f in drawing if f != "mixture"]:
    gap = quality["mixture"][0] - quality[f][0]
    error = math.hypot(quality["mixture"][1], quality[f][1])
    print(f"{f:16} nearer than the mixture by {gap:+.2f} +- {error:.2f}")
    assert gap < 4 * error or not full_run()

# %% [markdown] tags=["notes"]
# 12 minutes for sections 7 to 9, 8 for 10 and 11. Section 8: let the room find the two data
# spaces in the table before you say that they are two. Section 10: ask each group for one
# sentence that the tables do *not* support ("GANs are best for pictures"). If late, leave
# out section 9 and show the map only.

# %% [markdown]
# ## 11. What the families lend each other
#
# Families are built from each other's parts. A **VQ-VAE** gives codes to a GPT; a VAE takes
# a **flow as its prior** (unit `vae`, Further); a **diffusion** is a hierarchical VAE whose
# encoder is fixed, and borrows the closed-form KL of two Gaussians (unit `ddpm`); its
# **score** is minus the slope of an energy (unit `score_matching`); and **flow matching**
# trains a continuous flow (unit `flow_matching`).
#
# The map is drawn by a program. Grey lines: which unit needs which, read from `course.toml`.
# Orange arrows, from lender to borrower: whose code a family imports. A part that is handed
# over as an argument, such as the VQ-VAE's GPT, is in no import: the second cell looks for it.

# %% tags=["fold"]
# @title The map of the course: units and what they need; orange, whose code a family imports
found = course_map.read()
depth, lanes = found.depth(), {family: i for i, family in enumerate(found.titles)}
cells = {}
for unit in found.units:  # a column is the number of units before it
    cells.setdefault((lanes[unit.split("/")[0]], depth[unit]), []).append(unit)
at = {}
for (lane, column), units in cells.items():
    for i, unit in enumerate(units):
        at[unit] = column, -1.7 * lane - 0.33 * (i - (len(units) - 1) / 2)
(ax,) = plot.panels("units, and the units that they need", width=11, height=8)
for unit, needs in found.units.items():
    for need in needs:
        ax.plot(
            *zip(at[need], at[unit]), color=plot.GREY, alpha=0.6, linewidth=0.8, zorder=1
        )
for unit, (x, y) in at.items():
    ax.text(x, y, unit.split("/")[1], ha="center", va="center", fontsize=8,
            bbox={"boxstyle": "round", "facecolor": "white", "edgecolor": plot.BLUE})  # fmt: skip
loans = [pair for pair in found.loans if "challenges" not in pair]
for i, (borrower, lender) in enumerate(loans):
    ends = [(-0.3 - 0.12 * i, -1.7 * lanes[family]) for family in (borrower, lender)]
    ax.annotate("", *ends, arrowprops={"arrowstyle": "->", "color": plot.ORANGE})
for family, lane in lanes.items():
    ax.text(
        -0.9,
        -1.7 * lane,
        found.titles[family].replace(" ", "\n", 1),
        ha="right",
        va="center",
    )
_ = ax.set(xlim=(-2.8, max(depth.values()) + 0.7), ylim=(-1.7 * len(lanes) + 0.8, 0.7))
ax.set_axis_off()

# %%
for (borrower, _), modules in found.loans.items():
    if borrower != "challenges":
        print(f"{borrower:16} <- {', '.join(modules)}")
prior = checkpoints.load("vae/vqvae-mnist-cpu").prior.density
print(f"the VQ-VAE's prior is a {type(prior).__name__}, given as an argument;"
      f" its unit needs {', '.join(found.units['vae/vqvae'])}")  # fmt: skip
assert "vae.vae" in found.loans["diffusion", "vae"]
assert "flows.continuous" in found.loans["diffusion", "flows"]
assert type(prior).__name__ == "GPT"
assert "flows/continuous" in found.units["diffusion/flow_matching"]

# %% [markdown]
# ## Summary
#
# - One data set, one budget, the same figures. What cannot be alike stands beside a figure.
# - A likelihood is exact, a bound or none. Only an exact loser, and a paired gap beyond two
#   errors, prove an ordering.
# - A density becomes bits by a volume; a negative count shows that it was forgotten.
# - Likelihood and samples order the families differently; many Frechet gaps at this size are
#   within their errors, and no family was nearer than a mixture of Gaussians by four.
# - Evaluations of networks are counted: 1 for a draw, 64 in a row, or as many as you choose.
#
# | column | unit | what it cannot see |
# |---|---|---|
# | $-\log P$ | bits per dimension, less is better | how samples look |
# | Frechet distance | of own features, squared | all beyond mean and covariance; copies |
# | precision, recall | share | where in a ball a sample lies |
# | evaluations | per example | how much one of them costs |
# | milliseconds | CPU time per sample | other machines |
#
# Exercises: [figures that may be compared](../../exercises/challenges/six_families.ipynb).
#
# References: Theis, van den Oord, Bethge (2016), *A note on the evaluation of generative
# models*, arXiv:1511.01844; Bond-Taylor, Leach, Long, Willcocks (2021), *Deep generative
# modelling: a comparative review*, arXiv:2103.04922; Heusel and others (2017),
# arXiv:1706.08500; Kynkaanniemi and others (2019), arXiv:1904.06991; Lugmayr and others
# (2022), *RePaint*, arXiv:2201.09865.

# %% [markdown]
# ## Further: in-painting by two rows
#
# The guide sends you to two rows for in-painting. Give both the upper halves of all test digits.
# The PixelCNN begins its order with them; the diffusion pastes them, with the right noise,
# at each of its steps (RePaint, unit `guidance`). Neither was trained for it.
#
# A completion should fit *its* digit. So we compare its lower half with the true one, and
# with that of another test digit: the first distance has to be smaller.

# %%
seed_everything(6)
whole = six.picture(x_test)
known = torch.zeros_like(whole, dtype=torch.float32)
known[:, :, :4] = 1
model = able["diffusion"].model
with torch.no_grad(), evaluating(model):
    x = repaint(model, known * model.embed(whole), known, steps=25, resample=5)
    pasted = model.decoder.show(x)
with torch.no_grad(), evaluating(able["autoregressive"].model):
    continued = able["autoregressive"].model.sample(
        len(whole), given=whole[:, :, :4].long()
    )
ready = {"autoregressive": continued.long(), "diffusion": pasted.long()}
for family, x in ready.items():
    own, other = (
        (x - y)[:, :, 4:].double().square().flatten(1).mean(1)
        for y in (whole.long(), whole.roll(1, 0).long())
    )
    gap = estimate(other - own)
    print(f"{family:16} squared codes per pixel: own {own.mean():.1f}, another's"
          f" {other.mean():.1f}, gap {gap.value:.1f} +- {gap.error:.1f}")  # fmt: skip
    assert (x == whole.long())[:, :, :4].all()
    assert gap.value > gap.error or not full_run()

# %% tags=["fold"]
# @title Upper halves kept, lower halves drawn
left = plot.panels("whole", *ready, columns=1, width=8, height=1.2)
for ax, pictures in zip(left, (whole, *ready.values())):
    plot.image_grid(pictures[:24], ax, 24, vmax=16)

# %% [markdown]
# **Question.** Which of the two could fill in the *upper* half?
#
# <details><summary>Answer</summary>
#
# The diffusion: `known` is any mask. The PixelCNN's order is fixed, row by row from the top;
# the lower half would have to come first.
# </details>
