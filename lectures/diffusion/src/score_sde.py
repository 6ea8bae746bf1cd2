# %% [markdown]
# # Noise as a stream: score, SDE and ODE
#
# Let the steps of diffusion become infinitely small. What remains is a stream of noise that
# can be run backwards, and beside it a stream without any noise that has the same densities:
# an ordinary differential equation, and with it an exact $\log p(x)$.

# %% [markdown] tags=["nav"]
# 61 minutes, and 12 further ·
# before this: [A thousand small steps: denoising diffusion](ddpm.ipynb), [Flowing in time: continuous flows](../flows/continuous.ipynb) ·
# [exercise](../../exercises/diffusion/score_sde.ipynb) ·
# [solution](../../solutions/diffusion/score_sde.ipynb)
#
# previous: [A thousand small steps: denoising diffusion](ddpm.ipynb) ·
# [all units](../index.ipynb) ·
# next: [Steering: guidance, Palette and RePaint](guidance.ipynb)

# %% tags=["setup"]
import importlib.util

if importlib.util.find_spec("gdm_course") is None:
    raise ImportError(
        "the package gdm_course is not installed here: run 'make lab' in the course's "
        "folder, or 'pip install -e .[lab]', and choose that environment as the kernel"
    )

# %%
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import torch
from torch import Generator, Tensor, nn

from gdm_course import plotting as plot
from gdm_course import protocols, schematics, validate  # that refuses what does not fit
from gdm_course.data import images, toy
from gdm_course.data.laws import Mixture
from gdm_course.diffusion import denoiser
from gdm_course.diffusion import sde as streams
from gdm_course.diffusion.corrector import predictor_corrector
from gdm_course.diffusion.mixture import MixtureDenoiser
from gdm_course.diffusion.schedule import noise_like
from gdm_course.diffusion.score_sde import (
    LEAST,
    RUNGE_KUTTA,
    Levels,
    TrueVelocity,
    angle_levels,
    edm_levels,
    noise_for,
    noise_levels,
    signal_and_noise,
    standard_normal,
)
from gdm_course.diffusion.sde import SDE, Score, log_snr_of, time_like, time_of
from gdm_course.diffusion.solvers import (
    Denoiser,
    angle_sigmas,
    dpm_solver_2m,
    karras_sigmas,
    per_noise,
)
from gdm_course.diffusion.targets import Velocity
from gdm_course.flows.continuous import NeuralODE, rademacher, unit_vectors
from gdm_course.flows.ode import Fixed, Solver, rk4_step
from gdm_course.learning import evaluating  # dropout off, and on again afterwards
from gdm_course.training import budget, forever, full_run, generator, seed_everything, train
from gdm_course.widgets import play, progress, watch

Denoise = Callable[[Tensor, Tensor], Tensor]
plot.style()

# %% [markdown]
# ## 1. The question
#
# The diffusion of the last unit took a thousand steps of noise and had a bound on
# $\log p(x)$. The number of steps was ours to choose, and the bound grew tighter the more
# there were. So take the limit. What is the process then, which equation leads back, and is
# the bound still only a bound?
#
# Our data are two moons, divided by a number so that their mean square is 1. The truth is a
# mixture of many small Gaussians, so that every score and every density below is known.

# %%
moons = toy.get("two_moons")
rms = moons.sample(100_000, generator(0)).square().mean().sqrt().item()
law = Mixture(moons.law.means / rms, moons.law.sigma / rms, moons.law.weights)
best = MixtureDenoiser(law.means, law.sigma, law.weights)  # the exact E[x0 | x]
bounds = tuple((low / rms, high / rms) for low, high in moons.bounds)
x_test = law.sample(2000, generator(1)).double()
entropy = -law.log_prob(x_test).mean().item()
(ax,) = plot.panels("two moons, mean square 1", width=4)
_ = plot.scatter(x_test, ax, bounds)

# %% [markdown]
# ## 2. The idea
#
# On the left, points near two values get a little noise at every instant, and forget where
# they came from. On the right, points from the same two heaps move without any noise, each
# along a smooth line, and at every time their density is the same: compare the shares of 2,000
# points between $-0.5$ and $0.5$, each $\pm0.01$ by chance. The first can be run backwards as
# a new random process, the second simply by going back.

# %% tags=["fold"]
# @title Twelve paths of a stream of noise, and twelve of the ODE with the same densities
two = MixtureDenoiser(torch.tensor([[-1.0], [1.0]]).double(), torch.tensor(0.15).double())
vp, times = streams.VP(), torch.linspace(0, 1, 401).double()
g, heaps = generator(2), torch.tensor([[-1.0], [1.0]]).repeat(1000, 1)
starts = heaps + 0.15 * torch.randn(2000, 1, generator=g).double()
noisy, smooth = [starts], [starts]
for t, s in pairwise(times):
    kick = vp.diffusion(t) * (s - t).sqrt() * torch.randn(2000, 1, generator=g)
    noisy.append(noisy[-1] + (s - t) * vp.drift(noisy[-1], t) + kick)
    v = streams.reverse_drift(vp, streams.score_of(two, vp), smooth[-1], s.item(), 0.0)
    smooth.append(smooth[-1] + (s - t) * v)
for ax, path in zip(plot.panels("a stream of noise", "its ODE", width=4), (noisy, smooth)):
    ax.plot(times, torch.stack(path)[:, :12, 0], linewidth=0.8)
    ax.set(xlabel="time t", ylabel="x", ylim=(-3.2, 3.2))
for k in (0, 80, 160, 400):
    shares = [(path[k].abs() < 0.5).float().mean().item() for path in (noisy, smooth)]
    print(f"t = {times[k]:.1f}: share in the middle {shares[0]:.3f}, ODE {shares[1]:.3f}")
    assert abs(shares[0] - shares[1]) < 0.05

# %% [markdown]
# ## 3. The mathematics
#
# **The stream.** In a short time $h$ a point drifts by $f(x,t)\,h$ and gets noise of the
# variance $g(t)^2h$. In the limit this is written as a **stochastic differential equation**
# (SDE); $dw$ stands for noise of variance $dt$:
#
# $$dx = f(x,t)\,dt + g(t)\,dw, \qquad t=0\text{: data},\quad t=1\text{: noise}. \tag{1}$$
#
# A step of DDPM multiplies by $\sqrt{1-\beta h}\approx1-\frac\beta2h$ and adds noise of
# variance $\beta h$. So $f=-\frac{\beta}{2}x$ and $g=\sqrt\beta$. This stream is **variance
# preserving**, VP. Let $B(t)=\int_0^t\beta$. The factors multiply to $\alpha$; each step shrinks
# the noise's variance $V$ and adds to it, $V'=-\beta V+\beta$ from $V=0$. So
#
# $$x(t) = \alpha\,x(0)+\sigma\,\epsilon,\qquad \alpha=e^{-B/2},\quad \sigma^2=1-e^{-B}. \tag{2}$$
#
# *In numbers:* $\beta=2$ for the time $0.5$ gives $B=1$: $\alpha=0.61$, $\sigma=0.80$.
#
# **How the density changes.** Drift carries mass with velocity $f$; what leaves a place is
# the divergence $\nabla\cdot(fp)$. Noise flattens peaks, as heat spreads: the mean of $p$ over
# kicks $\sqrt h\,g\,\xi$, $\xi\sim\mathcal N(0,I)$, is $p+\frac12g^2h\,\nabla\cdot\nabla p$ (Taylor's
# linear term has the mean 0). Together this is the **Fokker-Planck equation**:
#
# $$\partial_t p = -\nabla\cdot(f\,p) + \tfrac12 g^2\,\nabla\cdot\nabla p. \tag{3}$$
#
# **Backwards.** Since $\nabla p = p\,\nabla\log p$, heat can be written as a drift. For any
# number $\lambda\ge0$ add and subtract $\frac12\lambda^2g^2\,\nabla\cdot\nabla p$:
#
# $$\partial_t p = -\nabla\cdot(b\,p) - \tfrac12\lambda^2g^2\,\nabla\cdot\nabla p,\qquad
#   b = f-\tfrac{1+\lambda^2}{2}\,g^2\,\nabla\log p. \tag{4}$$
#
# (Check: the drift $b$ brings $+\frac{1+\lambda^2}2g^2\nabla\cdot\nabla p$, and the last term
# takes $\frac{\lambda^2}2g^2\nabla\cdot\nabla p$ of it away.) Let time run back, $\tau=1-t$.
# The left side changes its sign, and (4) becomes
# $\partial_\tau p=\nabla\cdot(b\,p)+\frac12\lambda^2g^2\nabla\cdot\nabla p$. That is (3) for
# a stream with the drift $-b$ and the noise $\lambda g$. Start it with the density of noise,
# and it passes through the same densities back to the data, **for every $\lambda$**: as heat
# could be moved into the drift, it can be moved out again. For $\lambda=1$, the reversal of
# Anderson (1982), whole paths have the law of the stream run backwards, too; for other $\lambda$
# only the densities agree. $\lambda=0$ has no noise at all, the **probability-flow ODE**:
#
# $$\frac{dx}{dt} = f(x,t) - \tfrac12\,g(t)^2\,\nabla\log p_t(x). \tag{5}$$
#
# All it needs is the score $\nabla\log p_t$ of the noisy data, and a denoiser knows it. The score
# is the mean of $\nabla\log\mathcal N(x;\alpha x_0,\sigma^2I)$ over all $x_0$ that may have led to
# $x$ (Tweedie's formula):
#
# $$\nabla\log p_t(x) = \frac{\alpha\,\mathbb E[x_0\,|\,x]-x}{\sigma^2}. \tag{6}$$
#
# **Question.** Data from $\mathcal N(0,1)$ in a VP stream: what does the ODE do, what the
# reversed stream?
#
# <details><summary>Answer</summary>
#
# $p_t$ is $\mathcal N(0,1)$ at all times and the score is $-x$. In (5)
# $-\frac\beta2x+\frac\beta2x=0$: every point stays. In the reversed stream points wander,
# but their law stays: with $b=-\frac\beta2x+\beta x=\frac\beta2x$ they are pulled towards 0
# while $t$ falls, as much as the noise spreads them. </details>

# %% [markdown] tags=["notes"]
# 17 minutes for sections 1 to 3. Write (3) on the board and let the room do the trick of (4)
# with lambda = 0 first. It sticks at the sign under the reversal of time: do it for a pure
# drift, where everybody sees it.

# %% [markdown]
# ## 4. Build: streams
#
# VP as a class of small functions. Its 0.1 and 20 are DDPM's $10^{-4}$ and $0.02$ times its
# 1,000 steps. They leave $\alpha(1)=e^{-5.03}=0.007$: $p_1$ is nearly $\mathcal N(0,I)$, from
# which we start back. Two more streams have the same methods, in
# [sde.py](../../gdm_course/diffusion/sde.py): **VE** only adds noise ($f=0$, $\alpha=1$), and
# **sub-VP** has VP's drift with less noise, $g^2=\beta(1-e^{-2B})$ and so $\sigma=1-e^{-B}$.


# %% tags=["from:diffusion.sde.VP"]
@dataclass(frozen=True)
class VP:
    """Variance preserving: dx = -beta/2 x dt + sqrt(beta) dw, the limit of DDPM's chain.

    With B the integral of beta from 0 to t: alpha = e^(-B/2), sigma^2 = 1 - e^-B, (2).
    Args: beta_min, beta_max, the ends of beta(t), a line.
    """

    beta_min: float = 0.1
    beta_max: float = 20.0

    def beta(self, t: Tensor) -> Tensor:
        """Return the rate at which noise comes in."""
        return self.beta_min + (self.beta_max - self.beta_min) * t

    def B(self, t: Tensor) -> Tensor:
        """Return the integral of beta from 0 to t."""
        return self.beta_min * t + (self.beta_max - self.beta_min) * t * t / 2

    def alpha(self, t: Tensor) -> Tensor:
        """Return how much of the signal is left."""
        return torch.exp(-self.B(t) / 2)

    def sigma(self, t: Tensor) -> Tensor:
        """Return the standard deviation of the noise."""
        return (-torch.expm1(-self.B(t))).sqrt()

    def drift(self, x: Tensor, t: Tensor) -> Tensor:
        """Return f = -beta/2 x."""
        return -self.beta(t) / 2 * x

    def diffusion(self, t: Tensor) -> Tensor:
        """Return g = sqrt(beta)."""
        return self.beta(t).sqrt()

    def t_of(self, log_snr: Tensor) -> Tensor:
        """Return the time of a log_snr: B = log(1 + 1 / SNR)."""
        return time_of(self, torch.nn.functional.softplus(-log_snr))


# %% [markdown]
# Are (2) and its two relatives right? Twenty thousand points start at 0.7 and run until
# $t=0.3$: at $t=1$ VP and sub-VP look the same, and $\alpha$ is lost in the noise.

# %%
seed_everything(0)
print(f"{'t = 0.3':8} {'mean':>7} {'alpha x0':>9} {'std':>8} {'sigma':>8}")
for kind in (streams.VP(), streams.SubVP(), streams.VE()):
    x, n, end = torch.full((20_000,), 0.7), 400, torch.tensor(0.3)
    for k in range(n):
        t, h = end * (k + 0.5) / n, end / n
        x = x + kind.drift(x, t) * h + kind.diffusion(t) * h.sqrt() * noise_like(x)
    row = (x.mean(), 0.7 * kind.alpha(end), x.std(), kind.sigma(end))
    print(
        f"{type(kind).__name__:8} {row[0]:7.3f} {row[1]:9.3f} {row[2]:8.3f} {row[3]:8.3f}"
    )
    assert abs(row[2] / row[3] - 1) < 0.03 and abs(row[0] - row[1]) < 0.03 * row[3]

# %% [markdown]
# Next (6). A denoiser is told the signal-to-noise ratio, $\text{log\_snr}=2\log(\alpha/\sigma)$,
# and no time. So one denoiser serves every stream.


# %% tags=["from:diffusion.sde.score_of"]
def score_of(denoise: Denoise, sde: SDE) -> Score:
    """Make a score out of a denoiser: grad log p_t = (alpha E[x0 | x] - x) / sigma^2, (6).

    The denoiser, (x, log_snr) -> E[x0 | x], knows x with alpha^2 + sigma^2 = 1, so x is
    shrunk to that first: one denoiser serves all streams. Returns (x, t) -> score, all
    (B, *D), where t is a number or (B,).
    """

    def score(x: Tensor, t: Tensor | float) -> Tensor:
        t = time_like(t, x)
        alpha, sigma = sde.alpha(t), sde.sigma(t)
        levels = log_snr_of(sde, t).flatten().expand(len(x))
        x0 = denoise(x / (alpha**2 + sigma**2).sqrt(), levels)
        return (alpha * x0 - x) / sigma**2

    return score


# %% [markdown]
# Then the drift $b$ of (4), and the stream in steps of Euler and Maruyama.


# %% tags=["from:diffusion.sde.reverse_drift"]
def reverse_drift(
    sde: SDE, score: Score, x: Tensor, t: Tensor | float, noise: float = 1.0
) -> Tensor:
    """Return f - (1 + noise^2)/2 g^2 score, the drift of (4): (B, *D) -> (B, *D).

    noise = 1 is the reversed stream, noise = 0 the ODE (5); all have the same marginals.
    """
    at = time_like(t, x)
    pull = (1 + noise**2) / 2 * sde.diffusion(at) ** 2
    return sde.drift(x, at) - pull * score(x, t)


# %% tags=["from:diffusion.sde.euler_maruyama"]
def euler_maruyama(
    sde: SDE,
    score: Score,
    x: Tensor,
    times: Sequence[float],
    noise: float = 1.0,
    generator: Generator | None = None,
) -> Tensor:
    """Run a stream backwards: x <- x - h drift + noise g sqrt(h) xi, h = t - s > 0.

    From x (B, *D) at times[0] through falling times, such as from 1 to 0.001.
    """
    for t, s in pairwise(times):
        xi = torch.randn(x.shape, generator=generator, dtype=x.dtype, device=x.device)
        kick = noise * sde.diffusion(time_like(t, x)) * math.sqrt(t - s)
        x = x - (t - s) * reverse_drift(sde, score, x, t, noise) + kick * xi
    return x


# %% [markdown]
# **Test the signs before you train.** With the exact score only the formula and the length of
# the steps can be wrong.
#
# **Predict**, before you run: from noise to data, which of the four signs in
# $x-h\,(\pm f\pm g^2\,\text{score})$ end at the moons, whose mean square is 1?


# %%
def run_signs(f_sign, s_sign, steps):
    """Run VP backwards with the exact score and chosen signs: points (1000, 2)."""
    x, g = torch.randn(1000, 2, generator=generator(3)).double(), generator(4)
    score = streams.score_of(best, vp)
    for t, s in pairwise(torch.linspace(1, 1e-3, steps + 1).double()):
        b = f_sign * vp.drift(x, t) + s_sign * vp.diffusion(t) ** 2 * score(x, t)
        x = (
            x
            - (t - s) * b
            + vp.diffusion(t) * (t - s).sqrt() * torch.randn(1000, 2, generator=g)
        )
    return x


print(f"the data's own mean log p: {-entropy:.2f} nats")
for f_sign, s_sign in ((1, -1), (1, 1), (-1, -1), (-1, 1)):
    ends = run_signs(f_sign, s_sign, budget(120, 20))
    size, near = ends.square().mean().item(), law.log_prob(ends).mean().item()
    print(
        f"{f_sign:+d} f {s_sign:+d} g^2 score: mean square {size:9.3g}, log p {near:9.3g}"
    )
    if full_run():
        assert (abs(size - 1) < 0.2 and near > -1.5) == ((f_sign, s_sign) == (1, -1))

# %% [markdown]
# <details><summary>Answer to the prediction</summary>
#
# Only $+f-g^2\,\text{score}$, which is (4). With $-f$ the score still pulls points onto the
# moons, but not in the right proportions: a good $\log p$ alone proves nothing, the mean
# square shows it. </details>
#
# **Play.** $\lambda$ is `noise`: 0 is the ODE, 1 the reversed stream. By (4) all of them end
# at the data if steps are small. What happens with few steps?


# %%
def back(noise, steps):
    """Run VP back with the exact score: points (800, 2), and the mean of -log p there."""
    times = (torch.linspace(1, 0.03, steps + 1) ** 2).tolist()
    x, score = torch.randn(800, 2, generator=generator(5)).double(), best_score
    x = streams.euler_maruyama(vp, score, x, times, noise, generator(6))
    return x, -law.log_prob(x).mean().item()


def draw_noise(noise, steps):
    """Draw where the points end."""
    x, away = back(noise, steps)
    (ax,) = plot.panels(f"mean -log p: {away:.2f} nats", width=4)
    plot.scatter(x, ax, bounds)
    ax.set_xlabel(f"noise {noise:.2f}, {steps} steps; data: {entropy:.2f} nats")


best_score = streams.score_of(best, vp)
play(draw_noise, noise=(0.0, 2.0, 0.25, 1.0), steps=[20, 10, 40, 80])
fits, sizes = {}, {}
for at in ((noise, n) for n in (20, 80) for noise in (0.0, 1.0, 2.0)):
    x, fits[at] = back(*at)
    sizes[at] = x.square().mean().item()
    print(f"noise {at[0]:.0f}, {at[1]} steps: -log p {fits[at]:.2f}", end="; ")
    print(f"data {entropy:.2f} nats; mean square {sizes[at]:.2f}")
assert fits[2.0, 20] > fits[0.0, 20] + 0.15 and fits[2.0, 80] < fits[2.0, 20] - 0.15
assert sizes[2.0, 20] < sizes[2.0, 80] - 0.04

# %% [markdown]
# With 20 steps and much noise the moons are fuzzy and too small; with 80 that is nearly gone.
# (4) speaks of infinitely small steps. The larger $\lambda$, the more drift and noise has a
# step of the same length.
#
# ## 5. Train
#
# The network says the **velocity** $v=\alpha\epsilon-\sigma x_0$, from which
# $x_0=\alpha x-\sigma v$: no division, at any level of noise. From here on $s$ is no longer an
# earlier time but the noise per signal, $s=\sigma/\alpha$. Training draws $s$ from a law, `levels`;
# errors of $v$ count alike at all levels, so that this law is their only weighting. Here
# $\log s\sim\mathcal N(-1.2,\,1.2^2)$; section 8 says where this comes from.


# %% tags=["from:diffusion.score_sde.ScoreNetwork"]
class ScoreNetwork(nn.Module):
    """One network for all levels of noise, which says v = alpha eps - sigma x0.

    loss = E |v(x_t, log_snr) - (alpha eps - sigma x0)|^2 / D, over the noise levels.

    Args:
        net: (x, log_snr (B,)) -> v, as x; data with a mean square near 1.
        shape: of one example.
        levels: n -> noise levels s = sigma / alpha to train at, (n,).
    """

    def __init__(
        self, net: nn.Module, shape: Sequence[int], *, levels: Levels = edm_levels
    ):
        super().__init__()
        validate.at_least(1, shape=shape)
        self.net, self.shape, self.levels = net, tuple(shape), levels

    def denoise(self, x: Tensor, log_snr: Tensor) -> Tensor:
        """Return alpha x - sigma v, the guess at x0: (B, *D), (B,) -> (B, *D)."""
        return Velocity().clean(self.net(x, log_snr), x, *signal_and_noise(log_snr, x))

    def loss(self, x: Tensor) -> Tensor:
        """Return the mean squared error of v: (B, *D) -> ()."""
        x = validate.points(x, self.shape, self)
        log_snr = -2 * self.levels(len(x)).to(x).log()
        (alpha, sigma), eps = signal_and_noise(log_snr, x), noise_like(x)
        target = Velocity().target(x, eps, alpha, sigma)
        return (self.net(alpha * x + sigma * eps, log_snr) - target).square().mean()


# %% tags=["fold"]
# @title A point, its network, the denoised point and the score
seed_everything(0)
shown, some, level = denoiser.Denoiser(2), x_test[:100].float(), torch.zeros(100)
seen = schematics.trace(shown, some, level)
d = schematics.Drawing(
    "Score of a stream",
    "A point and its log_snr enter the network; v and the point give x0, and x0 the score.",
    100,
)
x, snr = d.box("$x$", (0, 0)), d.box("log_snr", (0, 1))
net, out = d.network(shown, "Denoiser", (1, 0)), d.box("score", (4, 0))
x0 = d.box("$x_0=\\alpha x-\\sigma v$", (2, 0), "operation")
tweedie = d.box("equation (6)", (3, 0), "operation")
d.arrow(x, net, "", some), d.arrow(snr, net, "", level)
d.arrow(net, x0, "$v$", seen.first(shown).result)
d.way(x0, tweedie, out)
d

# %% [markdown]
# ## 6. A density
#
# **The clock of the angle.** Write $\alpha=\cos\varphi$, $\sigma=\sin\varphi$. A point with
# fixed $x_0$, $\epsilon$ moves by $dx/d\varphi=-\sin\varphi\,x_0+\cos\varphi\,\epsilon$, which is
# its $v$. Its mean over all $x_0$, $\epsilon$ that may lead through $x$ is (5) in another
# clock. Check it for VP: by (6) the score is $-\mathbb E[\epsilon|x]/\sigma$. Put it and
# $x=\mathbb E[\alpha x_0+\sigma\epsilon\,|\,x]$ into (5). With $\sigma-\frac1\sigma=-\frac{\alpha^2}\sigma$
# we get $\frac{dx}{dt}=\frac{\beta\alpha}{2\sigma}\,\mathbb E[\alpha\epsilon-\sigma x_0\,|\,x]$. The
# factor is $\frac{d\varphi}{dt}$, for $\frac{d\alpha}{dt}=-\frac\beta2\alpha$ is also
# $-\sigma\frac{d\varphi}{dt}$. So
#
# $$\frac{dx}{d\varphi} = \mathbb E[v\,|\,x], \qquad 0\le\varphi\le\tfrac{\pi}{2}. \tag{7}$$
#
# So the network *is* the velocity of a continuous flow, whose time runs from data to noise,
# as in the unit on continuous flows. Solver and trace come from there: $\log p(x)$ is
# $\log\mathcal N(z;0,I)$ at the end of the path plus the integral of
# $\mathrm{tr}\,\partial v/\partial x$. Up to the error of the solver it is exact for the density
# that *this* ODE draws from, with whatever error the network has. (`sample` uses a quicker
# solver, which section 7 builds. The package's `ScoreSDE` also warns if a finer solver changes
# `log_prob` by more than 0.02 nats per dimension.)


# %% tags=["from:diffusion.score_sde.Stream"]
class Stream(nn.Module):
    """The ODE (7), its clock the angle: dx/dt = (pi / 2) v, for a net (x, log_snr) -> v."""

    def __init__(self, net: nn.Module):
        super().__init__()
        self.net = net

    def forward(self, t: float, x: Tensor) -> Tensor:
        """Return the velocity at the time t, 0 for data, 1 for noise: (B, *D)."""
        s = min(max(math.tan(t * math.pi / 2), LEAST), 1 / LEAST)
        log_snr = x.new_full((len(x),), -2 * math.log(s))
        return math.pi / 2 * self.net(x, log_snr)


# %% tags=["from:diffusion.score_sde.ScoreSDE"]
class ScoreSDE(ScoreNetwork):
    """A score for a stream of noise: Trainable, a Sampler, and by its ODE a Density.

    Args:
        net, shape, more: as of `ScoreNetwork`.
        sde: the stream in whose time `score` speaks; `VP()` if None.
        probes, solver: of `NeuralODE`; the exact trace, 32 Runge-Kutta steps if None.
    """

    def __init__(
        self,
        net: nn.Module,
        shape: Sequence[int],
        *,
        sde: SDE | None = None,
        probes: Callable[[Tensor], Tensor] = unit_vectors,
        solver: Solver | None = None,
        **more,
    ):
        super().__init__(net, shape, **more)
        self.sde, self.probes, self.solver = sde or VP(), probes, solver or RUNGE_KUTTA

    def score(self, x: Tensor, t: Tensor | float) -> Tensor:
        """Return grad log p_t(x) in the time of the stream: (B, *D) -> (B, *D)."""
        return score_of(self.denoise, self.sde)(x, t)

    def log_prob(self, x: Tensor) -> Tensor:
        """Return log N(z; 0, I) + log |det dz/dx| in nats, z at the path's end: (B,)."""
        ode = NeuralODE(Stream(self.net), probes=self.probes, solver=self.solver)
        with evaluating(self):
            z, log_det = ode(validate.points(x, self.shape, self))
        log_p = standard_normal(z) + log_det
        return log_p.where(log_p < math.inf, -math.inf)  # nan is not smaller either

    @torch.no_grad()
    def sample(self, n: int, steps: int = 25) -> Tensor:
        """Take so many steps of DPM-Solver++ (2M) from noise to data: (n, *D)."""
        z = noise_for(self, n, self.shape) / LEAST
        with evaluating(self):
            return dpm_solver_2m(per_noise(self.denoise), z, noise_levels(steps))


# %%
def fit(levels=edm_levels, seed=0, n=1200):
    """Make a stream, and train it on fresh batches of moons with a rate that falls."""
    n, g = budget(n, 5), generator(seed)
    seed_everything(seed)
    model = ScoreSDE(denoiser.Denoiser(2), (2,), levels=levels)
    fresh = (law.sample(256, g).float() for _ in range(n))
    rate = lambda k: 2.5e-3 * (1 + math.cos(math.pi * k / n))
    return model, train(model, fresh, n, rate, clip=1.0)


model, steps = fit()
panels = {"samples": lambda ax: plot.scatter(model.sample(1000, 15), ax, bounds)}
for _ in watch(steps, 400, panels, "squared error of v"):
    pass
low = (model.levels(10_000) < 0.1).double().mean().item()
print(f"{low:.1%} of the noise levels are below s = 0.1")

# %% [markdown]
# `TrueVelocity(best)` is what a perfect network says. In the place of the network it tests
# everything that is not learned.


# %%
@torch.no_grad()
def gap(model, x):
    """KL(truth || model) in nats from points of the truth, and its standard error."""
    lost = law.log_prob(x.double()) - model.log_prob(x).double()
    return lost.mean().item(), lost.std().item() / len(x) ** 0.5


perfect = ScoreSDE(TrueVelocity(best), (2,))
finer = ScoreSDE(TrueVelocity(best), (2,), solver=Fixed(rk4_step, 64))
found = {"perfect": gap(perfect, x_test[:500]), "trained": gap(model, x_test.float())}
found["64 steps, perfect"] = gap(finer, x_test[:500])
for name, (kl, spread) in found.items():
    print(f"{name} network: KL {kl:7.4f} ± {spread:.4f} nats")
assert 2 * abs(found["64 steps, perfect"][0]) < abs(found["perfect"][0]) < 0.01
assert found["trained"][0] < 2 * 0.06 or not full_run()  # 0.06 nats per dimension
cells = plot.mesh(((-2.6, 2.6), (-2.6, 2.6)), 60).float()
with torch.no_grad():
    log_p = model.log_prob(cells)
mass = log_p.exp().sum().item() * (5.2 / 60) ** 2
print(f"mass on a grid of 60 x 60 points: {mass:.3f}")
assert abs(mass - 1) < 0.03 or not full_run()
assert isinstance(model, protocols.Density) and isinstance(model, protocols.Sampler)

# %% tags=["fold"]
# @title The density by the ODE beside the truth, and 2,000 samples
seed_everything(1)
truth_ax, model_ax, sample_ax = plot.panels("truth", "log_prob by the ODE", "samples")
plot.density(law.log_prob, bounds, truth_ax)
darkest = truth_ax.images[0].get_clim()[1]
plot.density(torch.no_grad()(model.log_prob), bounds, model_ax, n=80, vmax=darkest)
_ = plot.scatter(model.sample(2000), sample_ax, bounds)

# %% [markdown]
# A KL below 0? The perfect network has no error but the solver's: its `log_prob` is a little
# too large, and with 64 steps instead of 32 hardly any of that is left. The mass is summed on a
# coarse grid: with $120\times120$ points it was 1.000 in our run.
#
# **Question.** The bound of the last unit lies below $\log p$ of its chain. Must it lie below
# `log_prob` of this model too, if both use one trained network?
#
# <details><summary>Answer</summary>
#
# No. The bound is about the chain with noise, `log_prob` about the ODE. By (4) both draw from
# the same density if the score is exact and the steps are infinitely small. Then the bound,
# too, is $\log p$ itself. With a trained score it stays a bound, for the stream with noise.
# </details>
#
# **Change** `fit()` above to `fit(angle_levels)`, levels that are uniform in $\varphi$, and
# run the cells from there again. Where are now fewer levels: at little noise or at much?
#
# <details><summary>Answer</summary>
#
# At little noise, where the moons have their fine detail: $s<0.1$ is 6 % of the angles, but
# 18 % of the log-normal levels ($\log 0.1=-2.3$ is 0.92 standard deviations below $-1.2$). A
# further section compares both, and asks whether that share decides. </details>

# %% [markdown] tags=["notes"]
# 20 minutes for sections 4 to 6. Before the KL is printed ask which of the two networks has
# an error and of what kind (the perfect one only the solver's). Leave out sub-VP if late.

# %% [markdown]
# ## 7. Build: solvers
#
# Samples should cost few evaluations of the network. In $z=x/\alpha=x_0+s\,\epsilon$, with
# $s$ as the clock, all streams share one ODE. As for (7): with fixed $x_0$, $\epsilon$ the slope
# is $\epsilon=(z-x_0)/s$, and we take its mean. $D(z,s)=\mathbb E[x_0|z]$ is all that is evaluated:
#
# $$\frac{dz}{ds}=\frac{z-D(z,s)}{s}. \tag{8}$$
#
# **Euler's** step on (8) is DDIM without noise. **Heun** averages the slopes at both ends.


# %% tags=["from:diffusion.solvers.euler"]
def euler(denoise: Denoiser, z: Tensor, sigmas: Sequence[float]) -> Tensor:
    """Go along the slope (z - x0) / s: this is DDIM without noise. Order 1.

    z' = x0 + (s' / s) (z - x0).
    """
    for s, s_next in pairwise(sigmas):
        x0 = denoise(z, s)
        z = x0 + s_next / s * (z - x0)
    return z


# %% tags=["from:diffusion.solvers.heun"]
def heun(denoise: Denoiser, z: Tensor, sigmas: Sequence[float]) -> Tensor:
    """Average the slopes at both ends of a step, two evaluations each. Order 2.

    At the level 0 the slope is 0/0: the last step is Euler's.
    """
    for s, s_next in pairwise(sigmas):
        slope = (z - denoise(z, s)) / s
        there = z + (s_next - s) * slope
        if s_next > 0:
            slope = (slope + (there - denoise(there, s_next)) / s_next) / 2
        z = z + (s_next - s) * slope
    return z


# %% [markdown]
# **DPM-Solver++ (2M)** uses the clock $l=-\log s$: $dz/dl=-z+D$. The part $-z$ is solved
# exactly. If $D$ were constant over a step of length $h$, then $z'=e^{-h}z+(1-e^{-h})D$, DDIM
# again. Instead it takes $D$ in the middle of the step, on the line through the last two
# values: order 2 for *one* evaluation. ($l$ is half of log_snr: who mixes them up doubles
# every step.)


# %% tags=["from:diffusion.solvers.dpm_solver_2m"]
def dpm_solver_2m(denoise: Denoiser, z: Tensor, sigmas: Sequence[float]) -> Tensor:
    """Draw a line through the last two denoised points: order 2 for one evaluation a step.

    In the clock l = -log s, whose step is h, the ODE is linear but for x0, and that part is
    solved exactly:  z' = e^-h z + (1 - e^-h) (x0 + (x0 - x0_before) h / (2 h_before)).

    The first step has no point before it, and a step to s = 0 has h infinite: both are
    Euler's.
    """
    before = h_before = None
    for s, s_next in pairwise(sigmas):
        x0 = denoise(z, s)
        h = math.log(s / s_next) if s_next > 0 else math.inf
        ahead = x0
        if before is not None and h < math.inf:
            ahead = x0 + (x0 - before) * (h / (2 * h_before))
        z = s_next / s * z - math.expm1(-h) * ahead
        before, h_before = x0, h
    return z


# %% [markdown]
# The exact denoiser of eight Gaussians shows the orders.
#
# **Predict:** which of the three is worst at 10 evaluations?

# %%
bells = toy.get("eight_gaussians").law
exact = per_noise(MixtureDenoiser(bells.means, bells.sigma, bells.weights))
start = 80 * torch.randn(300, 2, generator=generator(7)).double()
end = heun(exact, start, karras_sigmas(budget(1200, 200), 0.01, 80.0)[:-1])
methods = {"Euler": (euler, 1, 1), "Heun": (heun, 2, 2), "2M": (dpm_solver_2m, 1, 2)}


def error(solver, cost, n, grid=karras_sigmas):
    """Mean distance from the exact end after n evaluations, `cost` for each step."""
    levels = grid(n // cost + 1, 0.01, 80.0)[:-1]
    return (solver(exact, start, levels) - end).norm(dim=1).mean().item()


counts, (ax,) = (6, 10, 20, 40, 80, 160), plot.panels("error by evaluations", width=5)
print("evaluations", *(f"{n:>8}" for n in counts), "   order")
errors = {}
for name, (solver, cost, order) in methods.items():
    errors[name] = [error(solver, cost, n) for n in counts]
    slope = math.log2(errors[name][-2] / errors[name][-1])
    print(f"{name:11}", *(f"{e:8.4f}" for e in errors[name]), f"{slope:8.2f}")
    ax.loglog(counts, errors[name], "o-", ms=4, label=name)
    assert abs(slope - order) < 0.3 or not full_run()
ax.set(xlabel="evaluations", ylabel="mean distance")
_ = ax.legend()
five = {
    name: error(methods[name][0], methods[name][1], n)
    for name, n in (("Euler", 5), ("Heun", 10))
}
print("five steps:", *(f"{name} {e:.2f}" for name, e in five.items()))
assert errors["Heun"][1] > 2 * errors["Euler"][1] and five["Heun"] > 1.5 * five["Euler"]

# %% [markdown]
# <details><summary>Answer to the prediction</summary>
#
# Heun. It has only five steps, at two evaluations each, but that is not all: in five steps
# Euler is better, too. An order is a promise for *small* steps. From 20 evaluations to 160
# Heun's error falls by more than $8^2$, as promised. </details>
#
# **Break it.** Where should the levels lie? Evenly spaced in $s$ looks innocent. The switch is
# the grid: `karras_sigmas` is even in $s^{1/\rho}$, `angle_sigmas` in $\arctan s$, the clock of
# (7).

# %%
grids = {
    "rho = 1, even in s": partial(karras_sigmas, rho=1.0),
    "rho = 7, EDM": karras_sigmas,
    "rho = inf, even in log s": partial(karras_sigmas, rho=math.inf),
    "even in the angle": angle_sigmas,
}
print(f"{'20 evaluations':26}", *(f"{name:>8}" for name in methods))
table = {}
for name, grid in grids.items():
    table[name] = [error(solver, cost, 20, grid) for solver, cost, _ in methods.values()]
    print(f"{name:26}", *(f"{e:8.4f}" for e in table[name]))
even, edm, log, angle = table.values()
assert even[0] > 5 * edm[0] and log[2] < 0.8 * edm[2] and angle[0] < 0.6 * edm[0]

# %% [markdown]
# From $s=80$ in even steps of 4, the last step crosses everything from 4 down to 0.01, where
# the data have all of their detail (the bells have width 0.2). Heun's steps are twice as long.
# The other grids repair it. 2M gains most by the grid even in $\log s$, where all of its steps
# $h$ are equal: with $\rho=7$ each is longer than the one before, by up to 12 %, so the line is
# drawn out further than it was measured. Euler makes less than half the error in the clock of
# (7). No grid is best for every solver.
#
# **Question.** Heun's loop has an `if`. What happens at the level 0 without it?
#
# <details><summary>Answer</summary>
#
# Here `per_noise` stops first: it takes the log of 0. And (8) is 0/0. By (6) it is $-s$ times
# the score of $z$, which goes to 0 where the density is smooth; but a formula with a network does
# not know that. So the last step is Euler's, and leads to $D(z,s)$ itself. </details>

# %% [markdown]
# ## 8. EDM: three wishes
#
# Karras and others (2022) asked what a network $F$ should see and say, and built a denoiser
# around it, $D(z,s)=c_{\text{skip}}\,z+c_{\text{out}}\,F(c_{\text{in}}\,z)$. Let the mean square
# of the data be $\sigma_d^2$ (their variance, if their mean is 0).
#
# 1. The input has mean square 1: $c_{\text{in}}=1/\sqrt{s^2+\sigma_d^2}$.
# 2. The target has mean square 1. It is $(x_0-c_{\text{skip}}z)/c_{\text{out}}$ with
#    $z=x_0+s\epsilon$, so
#    $c_{\text{out}}^2=(1-c_{\text{skip}})^2\sigma_d^2+c_{\text{skip}}^2s^2$.
# 3. Errors of $F$ count as little as possible: choose $c_{\text{skip}}$ so that
#    $c_{\text{out}}$ is smallest. The slope of 2. in $c_{\text{skip}}$ is 0 where
#
# $$c_{\text{skip}}=\frac{\sigma_d^2}{s^2+\sigma_d^2},\qquad
#   c_{\text{out}}=\frac{s\,\sigma_d}{\sqrt{s^2+\sigma_d^2}}. \tag{9}$$


# %% tags=["from:diffusion.edm.precondition"]
def precondition(s: Tensor, sigma_data: float = 0.5) -> tuple[Tensor, Tensor, Tensor]:
    """Return c_skip, c_out and c_in at the noise level s, of any shape."""
    total = s * s + sigma_data**2
    return sigma_data**2 / total, s * sigma_data / total.sqrt(), 1 / total.sqrt()


# %% [markdown]
# Take $\sigma_d=1$. With $s=\sigma/\alpha$, $\alpha^2+\sigma^2=1$ and $z=x/\alpha$ we get
# $c_{\text{skip}}z=\alpha^2z=\alpha x$, $c_{\text{out}}=\sigma$, $c_{\text{in}}z=x$: so
# $D=\alpha x+\sigma F$. Compare with $\alpha x-\sigma v$: $F=-v$. EDM weights the squared errors of
# $D$ by $1/c_{\text{out}}^2$, so that those of $F$ count alike: our loss. We have trained EDM's
# network all along. Our law $\log s\sim\mathcal N(-1.2,1.2^2)$ has EDM's numbers, too, but EDM's
# data have $\sigma_d=0.5$, and only $s/\sigma_d$ counts. For $\sigma_d=1$ EDM's law has the mean
# $-1.2+\log2=-0.5$: our moons are trained at half of its noise.

# %%
s = torch.tensor([0.01, 0.3, 1.0, 20.0]).double()
alpha, sigma = (part[:, 0] for part in signal_and_noise(-2 * s.log(), s[:, None]))
pairs = zip(precondition(s, 1.0), (alpha**2, sigma, alpha))
difference = max((c - wanted).abs().max().item() for c, wanted in pairs)
print(f"largest difference: {difference:.0e}")
assert difference < 1e-12

# %% [markdown]
# ## 9. Scale: digits
#
# The same class on handwritten digits of $8\times8$ pixels. Grey values are whole numbers 0
# to 16. Uniform noise of one step makes them real numbers, and the mean of $\log p$ of those
# is a bound on the log-probability of the whole numbers, as for flows. The trace is
# Hutchinson's estimate, one probe for each path: fresh ones inside the solver would give it
# a field that is not the same twice. The pictures are the same noise, solved in 3 to 30
# evaluations. The noise levels are now EDM's for $\sigma_d=1$, with the mean $-0.5$.

# %%
digits = images.load("digits")
seed_everything(0)


def real(codes):
    """Spread codes 0 to 16 over steps, and make them a vector of mean square near 1."""
    return ((codes + torch.rand(codes.shape)) / 17 - 0.3).flatten(1) * 2.5


n = budget(900, 5)
net, levels = denoiser.Denoiser(64, hidden=384, waves=0), partial(edm_levels, mean=-0.5)
stream = ScoreSDE(net, (64,), levels=levels, probes=rademacher)
data = (real(codes) for codes in forever(digits.x_train, 128))
rate = lambda k: 1.5e-3 * (1 + math.cos(math.pi * k / n))
for _ in progress(train(stream, data, n, rate, clip=1.0), n, "training"):
    pass
with torch.no_grad():
    nats = -stream.log_prob(real(digits.x_test)) - 64 * math.log(2.5 / 17)
bits = nats / 64 / math.log(2)
spread = bits.std() / len(bits) ** 0.5
print(f"{bits.mean():.3f} ± {spread:.3f} bits/dim (17 equal values: {math.log2(17):.3f})")
assert bits.mean() < 3.2 or not full_run()
noise = 20 * torch.randn(16, 64, generator=generator(9))
counts = (3, 6, 12, 30)
for ax, k in zip(plot.panels(*(f"{k} evaluations" for k in counts)), counts):
    falling = karras_sigmas(k, 0.05, 20.0, math.inf)
    with torch.no_grad(), evaluating(stream):
        z = dpm_solver_2m(per_noise(stream.denoise), noise, falling)
    plot.image_grid((z.view(16, 1, 8, 8) / 2.5 + 0.3).clamp(0, 1), ax, columns=4)

# %% [markdown]
# ## 10. Summary
#
# - With infinitely small steps diffusion is a stream $dx=f\,dt+g\,dw$; its densities obey
#   the Fokker-Planck equation.
# - Heat is a drift along the score. So the stream can be run back with any amount of noise,
#   and with none: the ODE.
# - In the clock of the angle a v-network is the velocity of a continuous flow: a Density. Its
#   `log_prob` is no bound, but exact up to the solver, and belongs to the ODE.
# - Order is a promise for small steps. The grid of levels matters as much as the solver.
# - For data of mean square 1 EDM's preconditioning is v-prediction; what EDM adds in training
#   is a law of noise levels, and for sampling its grid and Heun.

# %% tags=["fold"]
# @title All figures in one table
kl, kl_spread = found["trained"]
rows = {
    "moons, KL(truth || model)": f"{kl:.3f} ± {kl_spread:.3f} nats",
    "the same per dimension": f"{kl / 2:.3f} nats",
    "20 evaluations, Euler, even in s": f"{even[0]:.3f}, mean distance",
    "20 evaluations, Euler, rho = 7": f"{edm[0]:.3f}, mean distance",
    "20 evaluations, 2M, even in log s": f"{log[2]:.3f}, mean distance",
    "digits, bound by the ODE": f"{bits.mean():.2f} ± {spread:.2f} bits/dim",
}
for name, value in rows.items():
    print(f"{name:36}{value}")

# %% [markdown]
# **Exercises:** [six functions with checks](../../exercises/diffusion/score_sde.ipynb).
#
# **References.** Song and others (2021), *Score-based generative modeling through stochastic
# differential equations*, arXiv:2011.13456. Anderson (1982), *Reverse-time diffusion equation
# models*. Song, Meng and Ermon (2021), *Denoising diffusion implicit models*,
# arXiv:2010.02502. Lu and others (2022), *DPM-Solver++*, arXiv:2211.01095. Karras and others
# (2022), *Elucidating the design space of diffusion-based generative models*,
# arXiv:2206.00364. Salimans and Ho (2022), *Progressive distillation for fast sampling of
# diffusion models*, arXiv:2202.00512. Song, Durkan, Murray and Ermon (2021), *Maximum
# likelihood training of score-based diffusion models*, arXiv:2101.09258.

# %% [markdown]
# ## Further: where to train
#
# Two laws of noise levels, equal steps and batches, two seeds: uniform in the angle, and
# log-normal with EDM's numbers. Beside the KL stands how far $v$ is from the truth's, at three
# levels of noise.
#
# **Predict:** at which of them is the log-normal law worse?

# %%
here, off = law.sample(2000, generator(11)).double(), {}
noise = torch.randn(2000, 2, generator=generator(12)).double()
print(f"{'':29}{'KL, nats':14} distance of v (rms) at s = 0.03, 0.3, 10")
laws = {"uniform in the angle": angle_levels, "log-normal": edm_levels}
for name, levels in laws.items():
    for seed in (1, 2):
        other, steps = fit(levels, seed, 400)
        for _ in steps:
            pass
        off[name, seed] = []
        for s in (0.03, 0.3, 10.0):
            level = torch.full((2000,), -2 * math.log(s)).double()
            alpha, sigma = signal_and_noise(level, here)
            x = alpha * here + sigma * noise
            with torch.no_grad():
                apart = other.net(x.float(), level.float()) - perfect.net(x, level)
            off[name, seed].append(apart.square().mean().sqrt().item())
        kl, spread = gap(other, x_test[:500].float())
        told = " ".join(f"{v:.3f}" for v in off[name, seed])
        print(f"{name:21} seed {seed}  {kl:.3f} ± {spread:.3f}  {told}")
    high = (levels(100_000) > 10).double().mean().item()
    print(f"  {high:.1%} of these levels are above s = 10")
if full_run():
    for seed in (1, 2):
        uniform, normal = off["uniform in the angle", seed], off["log-normal", seed]
        assert normal[0] < uniform[0] and normal[2] > 1.5 * uniform[2]

# %% [markdown]
# <details><summary>Answer</summary>
#
# At 10, where it seldom looks: $\log10$ is nearly three standard deviations above $-1.2$. At
# 0.03 it is better. </details>
#
# With these few steps the KL of the log-normal law is the lower one on both seeds. We repeated
# it with four times the steps: the order at 0.03 and at 10 stays, but both KLs are far smaller,
# and they no longer differ by more than two standard errors (of the paired difference).
#
# The share below $s=0.1$ is not what decides. EDM's law for our data, $\mathcal N(-0.5,1.2^2)$, has
# 7 % there, hardly more than the angle. We trained all three on six seeds, with the few steps:
# the mean KL of $\mathcal N(-0.5,1.2^2)$ was 0.115 nats, that of $\mathcal N(-1.2,1.2^2)$ 0.117,
# that of the angle 0.164. Between $0.1$ and $1$ the first has 60 % of its levels, the second
# 66 %, the angle 44 %.
#
# Which density is it that training improves? The score's squared error, weighted by
# $\frac12g^2$ and integrated over time, bounds KL(truth || model) of the stream with noise (up to
# what $p_1$ is off the noise it starts from), but not of its ODE (Song, Durkan, Murray and
# Ermon, 2021).


# %% [markdown]
# ## Further: three streams, one ODE
#
# VP, sub-VP and VE look different. But with $\tan\varphi=\sigma/\alpha$, the point
# $x(t)/\sqrt{\alpha^2+\sigma^2}=\cos\varphi\,x_0+\sin\varphi\,\epsilon$ is the same for all three
# at the same log_snr, and its mean slope is (7). The ODE (5) is the mean slope of $x(t)$ for
# every $\alpha$ and $\sigma$: with $f=\frac{\alpha'}{\alpha}x$,
# $g^2=(\sigma^2)'-2\frac{\alpha'}{\alpha}\sigma^2$ and (6) it is
# $\mathbb E[\alpha'x_0+\sigma'\epsilon\,|\,x]$. So three integrations with three drifts end in
# the same points.

# %%
begin, arrived = torch.randn(5, 2, generator=generator(10)).double(), []
for kind in (streams.VP(), streams.SubVP(), streams.VE()):
    times = kind.t_of(torch.tensor([-4.0, 6.0]).double())
    size = (kind.alpha(times) ** 2 + kind.sigma(times) ** 2).sqrt()
    velocity = partial(streams.reverse_drift, kind, streams.score_of(best, kind), noise=0.0)
    field = lambda t, x, velocity=velocity: velocity(x=x, t=t)
    x = Fixed(rk4_step, 200)(field, begin * size[0], times.tolist())[-1]
    arrived.append(x / size[1])
    first = ", ".join(f"{v:.4f}" for v in arrived[-1][0].tolist())
    print(f"{type(kind).__name__:6} the first of five points ends at ({first})")
assert all((x - arrived[0]).abs().max() < 1e-3 for x in arrived)

# %% [markdown]
# ## Further: a corrector
#
# A step of (4) carries points from one density to the next, and each is a little off. At a
# fixed time $t$ the score also corrects. **Langevin dynamics** runs in a time $\tau$ of its own:
# $dx=\nabla\log p_t\,d\tau+\sqrt2\,dw$. It keeps $p_t$: with $f=\nabla\log p$ and $g^2=2$ the
# right side of (3) is $-\nabla\cdot(p\,\nabla\log p)+\nabla\cdot\nabla p=0$, for
# $p\,\nabla\log p=\nabla p$. From elsewhere it leads to $p_t$. Song and others take one such step,
# of finite length, after each step back: a *corrector* after the *predictor*. It doubles the
# evaluations.


# %% tags=["from:diffusion.corrector.langevin_step"]
def langevin_step(
    sde: SDE,
    score: Score,
    x: Tensor,
    t: float,
    snr: float = 0.16,
    generator: Generator | None = None,
) -> Tensor:
    """Follow the score a little and be kicked: x + h score + sqrt(2 h) xi.

    For small h it keeps p_t as it is, and brings points that are off nearer to it. Here
    h = 2 (snr sigma)^2, for noise of length sqrt(D) and a score of sqrt(D) / sigma. The
    paper measures both lengths in the batch, which makes its rows depend on one another.

    Args: a stream, its score, points (B, *D), their time, step per noise, source of xi.
    """
    xi = torch.randn(x.shape, generator=generator, dtype=x.dtype, device=x.device)
    h = 2 * (snr * sde.sigma(time_like(t, x))) ** 2
    return x + h * score(x, t) + (2 * h).sqrt() * xi


# %%
spent = {}
starts = torch.randn(2000, 2, generator=generator(5)).double()
large = partial(predictor_corrector, snr=0.5)
for name, run, steps in (
    ("10 steps, 10 evaluations", streams.euler_maruyama, 10),
    ("10 steps and 10 corrections, 20 evaluations", predictor_corrector, 10),
    ("the same with snr = 0.5", large, 10),
    ("20 steps, 20 evaluations", streams.euler_maruyama, 20),
):
    times = (torch.linspace(1, 0.03, steps + 1) ** 2).tolist()
    x = run(vp, best_score, starts, times, generator=generator(6))
    spent[name] = -law.log_prob(x).mean()
    print(f"{name:45} mean of -log p {spent[name]:.2f} nats, mean square", end=" ")
    print(f"{x.square().mean():.2f}")
print(f"{'data':45} mean of -log p {entropy:.2f} nats, mean square 1")
assert entropy < spent[name] < min([*spent.values()][:3]) - 0.1

# %% [markdown]
# Here twenty evaluations are better spent on twice as many steps than on corrections, small or
# large. We repeated this with a second seed, and with the trained network in the place of the
# exact score: the order stays. With 40 evaluations the large corrections come near.
