# %% [markdown]
# # One step: consistency, shortcuts and MeanFlow
#
# A diffusion draws a sample in fifty small steps. Can a network learn where those steps
# lead, and go there at once? In the plane we know the right answer for every single noise,
# so that one step can be compared with the truth, point by point.

# %% [markdown] tags=["nav"]
# 60 minutes, and 7 further ·
# before this: [Noise as a stream: score, SDE and ODE](score_sde.ipynb), [Straight to the point: flow matching](flow_matching.ipynb) ·
# [exercise](../../exercises/diffusion/few_step.ipynb) ·
# [solution](../../solutions/diffusion/few_step.ipynb)
#
# previous: [Straight to the point: flow matching](flow_matching.ipynb) ·
# [all units](../index.ipynb) ·
# next: [Diffusion without Gaussians: guess what is hidden](masked.ipynb)

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
import time
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.func import jvp

from gdm_course import checkpoints, schematics, validate  # that refuses what does not fit
from gdm_course import plotting as plot
from gdm_course.data import images, toy
from gdm_course.data.laws import Mixture
from gdm_course.diffusion.consistency import (
    boundary,
    neighbours,
    pseudo_huber,
    renoise,
    solution_map,
)
from gdm_course.diffusion.denoiser import Denoiser
from gdm_course.diffusion.flow_matching import DenoiserVelocity, FlowMatching
from gdm_course.diffusion.mean_velocity import JumpNet
from gdm_course.diffusion.meanflow import times
from gdm_course.diffusion.mixture import MixtureDenoiser
from gdm_course.diffusion.schedule import noise_like, rowwise
from gdm_course.diffusion.score_sde import noise_for
from gdm_course.diffusion.sde import time_like
from gdm_course.diffusion.shortcut import dyadic, rest
from gdm_course.diffusion.solvers import karras_sigmas
from gdm_course.divergences.samples import energy_distance
from gdm_course.learning import evaluating  # dropout off, and on again afterwards
from gdm_course.nets import precise  # float32 also where the network is quicker and coarser
from gdm_course.training import budget, ema, full_run, generator, seed_everything, train
from gdm_course.widgets import play, progress

plot.style()

# %% [markdown]
# ## 1. The question
#
# The ODE of a diffusion leads every noise to one point of the data. With the exact denoiser
# of eight Gaussians (scaled to coordinates of mean square 1) a fine solver tells us that point. `solution_map`
# does it, in 100 steps of Heun, which we built for
# [streams of noise](score_sde.ipynb). It is **the truth for one step**: a network that jumps
# at once has to land there. That is more than having samples of the right law.

# %%
bells = toy.get("eight_gaussians")
rms = bells.sample(100_000, generator(0)).square().mean().sqrt().item()
law = Mixture(bells.law.means / rms, bells.law.sigma / rms, bells.law.weights)
best = MixtureDenoiser(law.means, law.sigma, law.weights)  # the exact E[x0 | x]
bounds = tuple((low / rms, high / rms) for low, high in bells.bounds)
eps = torch.randn(2000, 2, generator=generator(1))
truth = solution_map(best, eps.double()).float()
finer = solution_map(best, eps.double(), 300).float()
print(f"100 steps against 300: {(truth - finer).norm(dim=1).mean():.4f} apart")
left, right = plot.panels("noise", "where the ODE leads it", width=4)
colours = torch.atan2(truth[:, 1], truth[:, 0])
for ax, points in ((left, eps), (right, truth)):
    ax.scatter(*points.T, c=colours, cmap="twilight", s=3)
    plot.plane(bounds, ax)

# %% [markdown]
# Most neighbours go to the same bell. On the border of two bells the map is steep: there a
# small error sends a point to the wrong one.
#
# ## 2. The idea
#
# Why not take one large step along the velocity? On the line $z_t=(1-t)x_0+t\epsilon$ of
# [flow matching](../../gdm_course/diffusion/flow_matching.py), data are at $t=0$, noise at
# $t=1$, and the velocity is $v=\mathbb E[\epsilon-x_0\,|\,z_t]$. Move the slider: the exact
# velocity, in few steps. Crosses are where each path should end.


# %%
flow = FlowMatching(DenoiserVelocity(best), (2,))


def walk(steps):
    """Follow the exact velocity from 14 noises in so many steps: (steps + 1, 14, 2)."""
    return flow.path(eps[:14].double(), steps).float()


def draw_paths(steps):
    """Draw the paths, and crosses where they should end."""
    path, (ax,) = walk(steps), plot.panels(f"exact velocity, steps: {steps}", width=4)
    ax.plot(*path.permute(2, 0, 1), "o-", ms=3, linewidth=0.8)
    ax.plot(*truth[:14].T, "kx", ms=5)
    plot.plane(bounds, ax)


play(draw_paths, steps=[1, 2, 3, 4, 6, 8, 12, 16, 25, 50])
miss = {n: (walk(n)[-1] - truth[:14]).norm(dim=1).mean().item() for n in (1, 4, 50)}
print("mean distance from the crosses:", {n: round(d, 3) for n, d in miss.items()})
assert walk(1)[-1].norm(dim=1).max() < 0.05 and miss[50] < 0.1 < miss[4] < miss[1]

# %% [markdown]
# **Question.** Why do all points end in the middle after one step, where there are no data?
#
# <details><summary>Answer</summary>
#
# At $t=1$ the point is pure noise and says nothing of $x_0$. So
# $\mathbb E[\epsilon-x_0\,|\,\epsilon]=\epsilon-\mathbb E[x_0]$, and one step from $\epsilon$ ends at
# $\mathbb E[x_0]=0$, the mean of all bells. The velocity is right, but only at its start. </details>
#
# A network for one step has to say something else than the velocity. There are two ideas:
#
# - say **the end** of the path through a point (consistency models), or
# - say **the mean velocity** over a stretch of the path (shortcut models, MeanFlow).
#
# Both learn from themselves, without a solver, and so both need a rule that no wrong answer
# satisfies.

# %% [markdown] tags=["notes"]
# 10 minutes for sections 1 and 2. Ask the room what one step of a perfect velocity does before
# you move the slider. The wrong answer to expect: "it goes to the nearest bell".

# %% [markdown]
# ## 3. The end of a path
#
# Divide $z_t$ by $1-t$: we get $z=x_0+s\,\epsilon$ with $s=\frac t{1-t}$, the noise per signal. It
# is the same ODE with another clock, from $s=\infty$ down to 0. With
# $D(z,s)=\mathbb E[x_0\,|\,z]$ it is
#
# $$\frac{dz}{ds}=\frac{z-D(z,s)}{s}. \tag{1}$$
#
# The **consistency function** $f$ says where the path through $z$ arrives at the lowest level,
# low $=0.01$. All points of one path have the same end:
#
# $$f(z_s,s)=f(z_{s'},s')=z_{\text{low}}. \tag{2}$$
#
# *In numbers.* Data from $\mathcal N(0,1)$: paths are $z_s\propto\sqrt{1+s^2}$, so that
# $f(z,s)=z\sqrt{(1+\text{low}^2)/(1+s^2)}$. A point at 2 at the level $s=\sqrt3$ ends at 1.00.
#
# A network that says 0 everywhere satisfies the first half of (2), too. The second half
# forbids it: at the lowest level $f$ leaves its point alone. Write
# $f=c_{\text{skip}}\,z-c_{\text{out}}\,F$ around a network $F$, so that this holds whatever $F$ is:
#
# $$c_{\text{skip}}=\frac{\sigma_d^2}{(s-\text{low})^2+\sigma_d^2},\qquad
#   c_{\text{out}}=\frac{\sigma_d(s-\text{low})}{\sqrt{s^2+\sigma_d^2}}, \tag{3}$$
#
# with $\sigma_d$ the standard deviation of the data. Where $s$ is far above low, this is nearly
# EDM's denoiser.
#
# **No solver.** Two neighbours on a path are needed to teach (2). Take $x_0$, $\epsilon$ and
# two levels $s<s'$: the points $x_0+s\epsilon$ and $x_0+s'\epsilon$ lie on a straight line,
# whose slope is $\epsilon$. The ODE's slope (1) is
# $\frac{z-\mathbb E[x_0|z]}s=\mathbb E[\epsilon\,|\,z]$, the mean of such $\epsilon$ over all
# lines through a point. So for a short gap the lower neighbour is right on average, if both
# have the **same** $\epsilon$. The loss, a distance $h$ per gap:
#
# $$\mathcal L=\mathbb E\;\frac{h\big(f(x_0+s'\epsilon,\,s'),\;\mathrm{sg}\,f(x_0+s\,\epsilon,\,s)\big)}{s'-s}.
#   \tag{4}$$
#
# sg stands for **stop the gradient**: what is nearer to the data is the teacher, and is not
# moved by its pupil. What the teacher knows was taught by its own neighbour below, down to
# the boundary, where nothing has to be learned.


# %% tags=["from:diffusion.consistency.ConsistencyFunction"]
class ConsistencyFunction(nn.Module):
    """A network that says where the ODE through a noisy point ends: one step is enough.

    f(z, s) = c_skip z - c_out net(c_in z, log_snr), as EDM's denoiser but for the boundary
    f(z, low) = z.

    Args:
        net: (x, log_snr (B,), y=None) -> as x.
        shape: of one example; (net.D,) if None.
        sigma_data: standard deviation of the data.
        low, high: least and most noise.
    """

    def __init__(
        self,
        net: nn.Module,
        shape: Sequence[int] | None = None,
        *,
        sigma_data: float = 1.0,
        low: float = 0.01,
        high: float = 20.0,
    ):
        super().__init__()
        self.shape = (net.D,) if shape is None else tuple(shape)
        validate.at_least(1, shape=self.shape)
        if not (0 < low < high and sigma_data > 0):
            raise ValueError(
                f"low={low}, high={high}, sigma_data={sigma_data}: expected 0 < low < high "
                "and sigma_data > 0"
            )
        self.net, self.sigma_data, self.low, self.high = net, sigma_data, low, high

    def forward(self, z: Tensor, s: Tensor | float, y: Tensor | None = None) -> Tensor:
        """Return the end of the path through z at the level s, one or (B,): (B, *D)."""
        z = validate.points(z, self.shape, self, name="z", least=0)
        s = time_like(s, z)
        c_skip, c_out = boundary(s, self.low, self.sigma_data)
        log_snr = 2 * (self.sigma_data / s).log().flatten().expand(len(z))
        c_in = 1 / (s.square() + self.sigma_data**2).sqrt()
        return c_skip * z - c_out * precise(self.net(c_in * z, log_snr, y))


# %% [markdown]
# The loss and the samples. More than one evaluation: bring the point back to a middle level by
# fresh noise, and jump again. It has noise of the variance low$^2$ already; what is added has
# the variance $s^2-\text{low}^2$.


# %% tags=["from:diffusion.consistency.ConsistencyModel"]
class ConsistencyModel(ConsistencyFunction):
    """Trained without any ODE: neighbours on one line of data and noise are to agree.

    Args:
        net, shape: as of `ConsistencyFunction`.
        N: number of levels; more of them are more exact, and train more slowly.
        stop: False lets the gradient through the teacher, to see what stopping is for.
        more: sigma_data, low, high.
    """

    def __init__(self, net: nn.Module, shape=None, *, N: int = 40, stop=True, **more):
        super().__init__(net, shape, **more)
        validate.at_least(2, N=N)
        self.N, self.stop = N, stop

    def loss(self, x: Tensor) -> Tensor:
        """Return how far neighbours disagree, per difference of level: (B, *D) -> ()."""
        x = validate.points(x, self.shape, self)
        less, more = (s.to(x) for s in neighbours(len(x), self.low, self.high, self.N))
        eps = noise_like(x)  # the same at both levels
        student = self(x + rowwise(more, x) * eps, more)
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.stop):
            teacher = self(x + rowwise(less, x) * eps, less)
        return (pseudo_huber(student, teacher) / (more - less)).mean()

    @torch.no_grad()
    def sample(self, n: int, steps: int = 1) -> Tensor:
        """Jump from noise to data, then so many times back to less noise: (n, *D)."""
        z = self.high * noise_for(self, n, self.shape)
        n = validate.count(steps, "steps", 1) + 1
        first, *rest = karras_sigmas(n, self.low, self.high, math.inf)[:-2]
        with evaluating(self):
            x = self(z, first)
            for s in rest:
                x = self(renoise(x, s, self.low), s)
        return x


# %% [markdown]
# `neighbours` draws two of N levels, EDM's; two in three of them lie from 0.05 to 2.2.
# `pseudo_huber` is $h=\sqrt{|a-b|^2+c^2}-c$ with $c=0.03$: a square, $|a-b|^2/2c$, where the two
# are much nearer than $c$, and the distance where they are far
# ([both in this file](../../gdm_course/diffusion/consistency.py)). "Right on average" is enough
# for squares, so for short gaps.

# %%
seed_everything(0)
shown = ConsistencyModel(Denoiser(2))
print("f at low is z:", torch.equal(shown(eps, 0.01), eps))
skip, out = boundary(torch.tensor([0.01, 0.1, 1.0, 20.0]), 0.01)
print("c_skip", [f"{v:.3f}" for v in skip], " c_out", [f"{v:.3f}" for v in out])
added = renoise(torch.zeros(50_000, 2), 0.5, 0.3).std()
print(f"noise 0.3 to 0.5: adds a standard deviation of {added:.2f}, not 0.20")
assert torch.equal(shown(eps, 0.01), eps) and abs(added - 0.4) < 0.01
levels = neighbours(50_000, 0.01, 20.0, 40)[0].quantile(torch.tensor([1 / 6, 5 / 6]))
print(f"two in three levels: from {levels[0]:.2f} to {levels[1]:.1f}")

# %% tags=["fold"]
# @title A noisy point, the network, and the end of its path
z, level = eps[:8], torch.full((8,), 2.0)
seen = schematics.trace(shown, z, level)
d = schematics.Drawing(
    "Consistency function",
    "A noisy point, shrunk, and its log_snr enter the network; c_skip times the point minus "
    "c_out times the answer is the end of the path.",
    100,
)
point, snr = d.box("$z$", (0, 0)), d.box("log_snr", (0, 1))
net, out = d.network(shown.net, "Denoiser", (1, 0)), d.box("end $f$", (3, 0))
join = d.box("equation (3)", (2, 0), "operation")
d.arrow(point, net, "", z), d.arrow(snr, net, "", level)
d.arrow(point, join, "skip", z, via=[(0, -1), (2, -1)])
d.arrow(net, join, "$F$", seen.first(shown.net).result)
d.way(join, out)
d

# %% [markdown]
# ## 4. Train, and break
#
# All models of the plane have the same number of steps of 256 points, the same rates, and an
# average of their weights. At $s=20$ hardly a trace of the data is left: one step starts at
# $20\,\epsilon$. The **energy distance** compares two clouds:
# $2\,\mathbb E|x-y|-\mathbb E|x-x'|-\mathbb E|y-y'|$, 0 if both have one law. We estimate it
# from 2,000 points (without bias, so it may fall below 0), and print it times 1000.
#
# **Predict:** without sg, will the loss (4) end higher or lower? And the samples: better or
# worse?


# %%
STEPS = budget(600, 5)


def fit(model, seed=0, B=256):
    """Train a model on fresh points; return its average, and the seconds it took."""
    g, average, began = generator(10 + seed), copy.deepcopy(model), time.process_time()
    fresh = (law.sample(B, g).float() for _ in range(STEPS))
    rate = lambda k: 2e-3 * (1 + math.cos(math.pi * k / STEPS))
    for k, _ in progress(train(model, fresh, STEPS, rate, clip=1.0), STEPS, "training"):
        ema(average, model, min(0.998, k / (k + 10)))
    return average, time.process_time() - began


def energy(x, seed=0):
    """Return the energy distance from fresh points of the truth, times 1000."""
    return 1000 * energy_distance(x, law.sample(2000, generator(50 + seed)).float()).item()


def consistency(seed, **how):
    """Make and train a consistency model."""
    seed_everything(seed)
    return fit(ConsistencyModel(Denoiser(2), **how), seed)


floor = [energy(law.sample(2000, generator(70 + k)).float(), k) for k in range(8)]
floor = torch.tensor(floor)
print(
    f"2,000 true points: {floor.mean():.2f} on average, {floor.std():.2f} from one to another"
)

# %% tags=["train"]
ends, losses, trained = {}, {}, {}
for name, stop in (("stopped", True), ("through", False)):
    model, seconds = consistency(0, stop=stop)
    trained[name] = model, seconds
    with torch.no_grad():
        ends[name] = model(model.high * eps, model.high)
        losses[name] = torch.stack([model.loss(truth) for _ in range(20)]).mean().item()
    apart = (ends[name] - truth).norm(dim=1).mean()
    print(
        f"gradient {name:8}: loss {losses[name]:.3f}, energy distance "
        f"{energy(ends[name]):6.1f}, {apart:.2f} from the truth of the same noise"
    )
if full_run():
    assert losses["through"] < losses["stopped"]
    assert energy(ends["stopped"]) < 20 < 40 < energy(ends["through"])

# %% tags=["fold"]
# @title Where one step leads, and where the same noise should have gone
panels = plot.panels("the truth", "gradient stopped", "gradient through the teacher")
for ax, x in zip(panels, (truth, *ends.values())):
    ax.plot(*torch.stack([truth[:150], x[:150]]).permute(2, 0, 1), "C3", linewidth=0.4)
    ax.scatter(*x.T, c=colours, cmap="twilight", s=3)
    plot.plane(bounds, ax)

# %% [markdown]
# <details><summary>Answer to the prediction</summary>
#
# The loss is lower, the samples are worse. With both gradients the two sides can meet half
# way: the teacher gives up what it knew, and ends move together. </details>
#
# Is that the reason? A control: begin with the *same* good weights and take a few small steps
# of plain descent, with either gradient. If the reason is right, only the gradient through the
# teacher makes the ends of one step less spread out.

# %%
model = trained["stopped"][0]
pushes = {}
for name, stop in (("stopped", True), ("through", False)):
    probe = copy.deepcopy(model)
    probe.stop = stop
    seed_everything(2)
    before = probe(20 * eps, 20.0).std().item()
    slow, g = torch.optim.SGD(probe.parameters(), 1e-3), generator(3)
    for _ in range(budget(60, 2)):
        slow.zero_grad()
        probe.loss(law.sample(256, g).float()).backward()
        slow.step()
    pushes[name] = probe(20 * eps, 20.0).std().item() - before
    print(f"gradient {name}: the spread of one step's ends changes by {pushes[name]:+.4f}")
if full_run():
    assert pushes["through"] < pushes["stopped"] - 0.002

# %% [markdown]
# The gradient through the teacher moves the ends towards each other, many times as much as the
# stopped one. The repair is one word in the code, `detach` or `no_grad`. It costs something:
# training no longer goes down the loss that is printed, and its value says little.
#
# **Change** the 40 levels: run `consistency(0, N=10)` and `consistency(0, N=160)` in a new
# cell, and print the energy distances of their ends. Which of 10, 40 and 160 is best after so
# few steps?
#
# <details><summary>Answer</summary>
#
# 40, in our run. (4) is right for short gaps, and 10 levels leave long ones. With 160, what is
# known at the boundary goes through more hands before it reaches the noise. To tell the two
# apart, train longer: the second can be repaired by patience, the first cannot. Improved
# consistency training begins with 10 levels and ends with 1,280. </details>

# %% [markdown] tags=["notes"]
# 25 minutes for sections 3 and 4. Draw two lines through one point: which of them is the path?
# (Neither: the path has the mean slope.) If late, leave out the probe of the gradients.

# %% [markdown]
# ## 5. The mean velocity: shortcuts
#
# Back to the clock $t$ of flows. Let $u(z,r,t)$ be the **mean velocity** of the path through
# $z=z_t$, from the time $r$ to $t$: the way divided by the time. One evaluation is a jump of any
# length, and $r=0$ leads to the data:
#
# $$z_r=z_t-(t-r)\,u(z_t,r,t). \tag{5}$$
#
# *In numbers.* From $z=3$ at $t=1$ to $z=1$ at $t=0$ the mean velocity is 2.
#
# For $r\to t$ it is the velocity itself, which flow matching learns. And a jump of length $d$
# is two jumps of half the length, each with its own mean velocity:
#
# $$u(z_t,t-d,t)=\tfrac12\Big(u(z_t,t-\tfrac d2,t)+u(z_{t-d/2},t-d,t-\tfrac d2)\Big). \tag{6}$$
#
# A **shortcut model** learns the velocity on three quarters of each batch and (6) on one
# quarter, for $d=1,\frac12,\frac14,\dots$; halves of the shortest jump use the velocity. `jump` is
# (5), and `walk` repeats it. The network is
# [a perceptron](../../gdm_course/diffusion/mean_velocity.py) that sees $z$, $t$ and $t-r$; in code
# its arguments stand as `net(z, t, r)`.


# %% tags=["from:diffusion.mean_velocity.MeanVelocity"]
class MeanVelocity(nn.Module):
    """A network u(z, r, t), the mean velocity of the path through z between r and t.

    The point at the time r is z_r = z_t - (t - r) u(z_t, r, t), equation (5).

    Args:
        net: (z, t, r) -> u, as z, for times (B,), 0 <= r <= t <= 1.
        shape: of one example.
    """

    def __init__(self, net: nn.Module, shape: Sequence[int]):
        super().__init__()
        validate.at_least(1, shape=tuple(shape))
        self.net, self.shape = net, tuple(shape)

    def jump(self, z: Tensor, t: Tensor | float, r: Tensor | float) -> Tensor:
        """Go from the time t to the time r <= t at once: (B, *D) -> (B, *D)."""
        z = validate.points(z, self.shape, self, name="z", least=0)
        t, r = (torch.as_tensor(v).to(z).expand(len(z)) for v in (t, r))
        return z - rowwise(t - r, z) * precise(self.net(z, t, r))

    @torch.no_grad()
    def walk(self, eps: Tensor, steps: int = 1) -> Tensor:
        """Go from noise to data in so many equal jumps: (B, *D) -> (B, *D)."""
        n = validate.count(steps, "steps", 1)
        with evaluating(self):
            for k in range(n, 0, -1):
                eps = self.jump(eps, k / n, (k - 1) / n)
        return eps

    def sample(self, n: int, steps: int = 1) -> Tensor:
        """Draw noise, and `walk`: (n, *D)."""
        return self.walk(noise_for(self, n, self.shape), steps)


# %% tags=["from:diffusion.shortcut.Shortcut"]
class Shortcut(MeanVelocity):
    """A mean velocity that teaches itself: a jump is the mean of its two halves.

    Args:
        net: (z, t, r) -> u, see `MeanVelocity`.
        shape: of one example.
        K: the shortest jump that is taught by halves is 2^(1-K); its halves are taken as
            short as can be, with the velocity itself.
        share: of a batch that learns from halves; the rest learns the velocity.
    """

    def __init__(
        self, net: nn.Module, shape: Sequence[int], *, K: int = 6, share: float = 0.25
    ):
        super().__init__(net, shape)
        validate.at_least(1, K=K)
        if not 0 <= share <= 1:
            raise ValueError(f"share is {share}: expected a number from 0 to 1")
        self.K, self.share = K, share

    @torch.no_grad()
    def halves(self, z: Tensor, t: Tensor, d: Tensor) -> Tensor:
        """Return the mean of u over two half jumps, equation (6): (B, *D)."""
        half = d / 2
        asked = half.where(half > 2.0**-self.K, 0)  # the shortest: the velocity
        first = self.net(z, t, t - asked)
        there = z - rowwise(half, z) * first
        return (first + self.net(there, t - half, t - half - asked)) / 2

    def loss(self, x: Tensor) -> Tensor:
        """Return the mean squared error of velocities and of jumps: (B, *D) -> ()."""
        x, eps = validate.points(x, self.shape, self), noise_like(x)
        n = round(self.share * len(x))
        d, t = (
            torch.cat([v, w]).to(x) for v, w in zip(dyadic(n, self.K), rest(len(x) - n))
        )
        z, target = x + rowwise(t, x) * (eps - x), eps - x
        target = torch.cat([self.halves(z[:n], t[:n], d[:n]), target[n:]])
        return (self.net(z, t, t - d) - target).square().mean()


# %%
seed_everything(0)
size = lambda t: ((1 - t) ** 2 * 4 + t**2) ** 0.5  # std of z_t for data of variance 4
mean = lambda z, t, r: z * ((size(t) - size(r)) / size(t) / (t - r))[:, None]
z, t, d = torch.randn(5, 1).double(), torch.full((5,), 0.75).double(), 0.5
whole = mean(z, t, t - d)
halves = Shortcut(mean, (1,)).halves(z, t, torch.full((5,), d).double())
print("mean velocity of a Gaussian:", [f"{v:+.4f}" for v in whole[:, 0]])
print("mean of its two halves:     ", [f"{v:+.4f}" for v in halves[:, 0]])
assert (whole - halves).abs().max() < 1e-12

# %% [markdown]
# **Question.** (6) alone, without the velocity: what does nobody tell the network?
#
# <details><summary>Answer</summary>
#
# Anything about the data. $u=0$ satisfies (6) for all $d$. The velocity at the shortest jumps
# is the boundary here, as $f(z,\text{low})=z$ was for consistency. </details>
#
# ## 6. MeanFlow: an identity in place of halves
#
# The way is the integral of the velocity along the path:
#
# $$(t-r)\,u(z_t,r,t)=\int_r^t v(z_\tau,\tau)\,d\tau. \tag{7}$$
#
# Let $t$ grow, with $r$ fixed, and take the slope of both sides. On the right it is $v(z_t,t)$, on
# the left, by the product rule, $u+(t-r)\frac{du}{dt}$. So
#
# $$u=v-(t-r)\,\frac{du}{dt},\qquad
#   \frac{du}{dt}=\frac{\partial u}{\partial z}\,v+\frac{\partial u}{\partial t}. \tag{8}$$
#
# The point moves with $v$ while $t$ grows, and $r$ stands still. *In numbers:* with $z_t=t^2$ and
# $r=0$, $u=t$ and $v=2t$; and $2t-t\cdot1=t$.
#
# The right side is the target, without a gradient. In place of $v$ stands one line's
# $\epsilon-x_0$, as in flow matching: its mean is $v$, and (8) is linear in it. The slope is a
# derivative in *one direction*, $(v,1,0)$ for $(z,t,r)$. `torch.func.jvp` computes it in one
# pass forward: every layer hands on its value and how quickly it changes.


# %% tags=["from:diffusion.meanflow.mean_and_slope"]
def mean_and_slope(
    net: nn.Module, z: Tensor, t: Tensor, r: Tensor, v: Tensor
) -> tuple[Tensor, Tensor]:
    """Return u(z, r, t) and its slope du/dt while z moves with v and r stands still.

    One pass forward gives both: the direction is v for z, 1 for t and 0 for r.
    """
    with torch.autocast(z.device.type, enabled=False):  # convolutions have no jvp under it
        return jvp(net, (z, t, r), (v, torch.ones_like(t), torch.zeros_like(r)))


# %% tags=["from:diffusion.meanflow.MeanFlow"]
class MeanFlow(MeanVelocity):
    """A mean velocity that obeys u = v - (t - r) du/dt, equation (8).

    Args:
        net: (z, t, r) -> u, see `MeanVelocity`.
        shape: of one example.
        same: share of a batch with r = t, where (8) is flow matching.
        power: the mean square q of a point's error is weighted by 1 / (q + 0.01)^power,
            after the paper, which takes 1 for ImageNet; 0 is least squares.
    """

    def __init__(
        self, net: nn.Module, shape: Sequence[int], *, same: float = 0.5, power=1.0
    ):
        super().__init__(net, shape)
        if not 0 <= same <= 1:
            raise ValueError(f"same is {same}: expected a number from 0 to 1")
        self.same, self.power = same, power

    def error(self, z: Tensor, t: Tensor, r: Tensor, v: Tensor) -> Tensor:
        """Return u - (v - (t - r) du/dt), the target without a gradient: (B, *D)."""
        u, slope = mean_and_slope(self.net, z, t, r, v)
        return u - (v - rowwise(t - r, z) * slope).detach()

    def loss(self, x: Tensor) -> Tensor:
        """Return the weighted squared error of (8), at times drawn anew: (B, *D) -> ()."""
        x, eps = validate.points(x, self.shape, self), noise_like(x)
        t, r = (v.to(x) for v in times(len(x), self.same))
        z, v = x + rowwise(t, x) * (eps - x), eps - x
        squares = self.error(z, t, r, v).square().flatten(1).mean(1)
        return (squares / (squares.detach() + 0.01) ** self.power).mean()


# %% [markdown]
# **Predict:** somebody gives `jvp` the direction $(v,0,0)$, or $(v,1,1)$. Does (8) still hold for
# the exact mean velocity of a Gaussian?

# %%
z, t, r = z.double(), torch.full((5,), 0.75).double(), torch.full((5,), 0.25).double()
v = z * ((t - 4 * (1 - t)) / size(t) ** 2)[:, None]
one, off = torch.ones_like(t), {}
for name, turn in {"(v, 1, 0)": (1, 0), "(v, 0, 0)": (0, 0), "(v, 1, 1)": (1, 1)}.items():
    u, slope = jvp(mean, (z, t, r), (v, turn[0] * one, turn[1] * one))
    off[name] = (u - (v - (t - r)[:, None] * slope)).abs().max().item()
    print(f"direction {name}: (8) is off by {off[name]:.1e}")
assert off["(v, 1, 0)"] < 1e-12 < 0.05 < min(off["(v, 0, 0)"], off["(v, 1, 1)"])

# %% [markdown]
# <details><summary>Answer to the prediction</summary>
#
# No. $(v,0,0)$ forgets that the clock moves; $(v,1,1)$ moves both ends of the stretch, and
# then the slope of the right side of (7) is not $v(z_t,t)$ any more. </details>

# %% tags=["train"]
for seed in (0, 1):
    seed_everything(seed)
    trained["flow", seed] = fit(FlowMatching(Denoiser(2), (2,)), seed)
    trained["consistency", seed] = trained["stopped"] if not seed else consistency(1)
    seed_everything(seed)
    trained["shortcut", seed] = fit(Shortcut(JumpNet(2), (2,)), seed)

# %% tags=["train"]
for seed in (0, 1):
    seed_everything(seed)
    trained["MeanFlow", seed] = fit(MeanFlow(JumpNet(2), (2,)), seed)

# %% tags=["train"]
seed_everything(0)
trained["MeanFlow, power 0", 0] = fit(MeanFlow(JumpNet(2), (2,), power=0.0))

# %% [markdown]
# ## 7. One table
#
# Equal steps, but unequal seconds: a step of MeanFlow costs most. Every entry is the mean over
# two seeds (one for `power 0`); +- is the largest half difference between them in the row, to be
# compared with the floor.


# %%
@torch.no_grad()
def drawn(model, n):
    """Draw 2,000 points with n evaluations, from the same noise where that says it all."""
    if isinstance(model, FlowMatching):
        return model.path(eps, n)[-1]
    if hasattr(model, "low"):  # a consistency model, ours or a checkpoint's
        seed_everything(3)
        return model(model.high * eps, model.high) if n == 1 else model.sample(2000, n)
    return model.walk(eps, n)


def astray(x):
    """Return the share of points more than three standard deviations from every bell."""
    away = torch.cdist(x.double(), law.means.double()) / law.sigma
    return (away.amin(1) > 3).double().mean().item()


counts = (1, 2, 4, 10, 50)
table, paired, clock = {}, {}, {}
print(f"{'energy distance x 1000':22}", *(f"{n:>7}" for n in counts), "  +-   seconds")
for name in ("flow", "consistency", "shortcut", "MeanFlow", "MeanFlow, power 0"):
    runs = [trained[key] for key in trained if key[0] == name]
    rows = torch.tensor([[energy(drawn(m, n)) for n in counts] for m, _ in runs])
    table[name], half = rows.mean(0).tolist(), (rows.max(0).values - rows.min(0).values) / 2
    paired[name] = (drawn(runs[0][0], 1) - truth).norm(dim=1)
    clock[name] = runs[0][1]
    shown_ = " ".join(f"{v:7.1f}" for v in table[name])
    print(f"{name:22} {shown_} {half.max():5.1f} {clock[name]:7.1f}")
print(f"{'the floor':22} {floor.mean():7.1f} +- {floor.std():.1f}")
if full_run():
    few = ("consistency", "shortcut", "MeanFlow")
    assert table["flow"][0] > 300 > 60 > max(table[name][0] for name in few)
    assert table["flow"][4] < 15 and table["MeanFlow"][4] > table["MeanFlow"][0]
    assert table["MeanFlow, power 0"][4] < table["MeanFlow"][4]

# %% tags=["fold"]
# @title One step of each beside the truth of the same noise, and how many miss by how much
jumpers = ("consistency", "shortcut", "MeanFlow")
panels = plot.panels(*jumpers, "distance from the truth")
for ax, name in zip(panels, jumpers):
    x = drawn(trained[name, 0][0], 1)
    ax.plot(*torch.stack([truth[:150], x[:150]]).permute(2, 0, 1), "C3", linewidth=0.4)
    ax.scatter(*x.T, c=colours, cmap="twilight", s=3)
    plot.plane(bounds, ax)
for name in jumpers:
    rising = paired[name].sort().values
    panels[-1].plot(rising, 1 - torch.arange(2000) / 2000, label=name)
    print(
        f"{name:12} median {rising[1000]:.3f}, nine in ten within {rising[1800]:.3f};",
        end=" ",
    )
    print(f"{astray(drawn(trained[name, 0][0], 1)):.0%} beyond 3 sigma of every bell")
print(f"the truth: {astray(truth):.0%} beyond 3 sigma")
panels[-1].set(xscale="log", xlabel="distance (rms)", ylabel="share beyond")
_ = panels[-1].legend()

# %% [markdown]
# One step of the flow puts everything in the hole; the three others do not. The lines join what a
# model says with the truth of the same noise. But look at the bells: after so few steps of
# training many points of all three lie *between* bells, where the map is steep. A small energy
# distance does not exclude that: it sees the ring more than its gaps.
#
# More evaluations do not help MeanFlow: at 50 it is worse than at 1. A suspect: its loss divides
# the mean square $q$ of each error by $q+0.01$ (`power=1`, after the paper). The mean is what
# least *squares* finds; with such weights far targets count less, and what is found lies nearer
# to the crowd. The control is the row `power 0`, without weights: at 50 evaluations it is
# better, and at one it is not. (We repeated both with a second seed and with four times the
# steps: the same.)
#
# **Question.** A model's samples have the energy distance of the floor. Does it map every noise
# to where the ODE leads it?
#
# <details><summary>Answer</summary>
#
# No. Any map that turns noise into the right law has this distance, such as the truth after
# a rotation of the noise. Only the paired distance speaks of the ODE. For samples the law is all
# that counts; for editing a picture by its noise, or for a loss that compares pairs, the
# map counts. </details>
#
# **Question.** Ten evaluations of a consistency model use fresh noise nine times. Can its
# ten-step samples be compared with the truth of the first noise?
#
# <details><summary>Answer</summary>
#
# No: after the first re-noising the point is on another path. So the paired figures here
# are for one step only; the law of the samples still has a meaning. </details>

# %% [markdown] tags=["notes"]
# 20 minutes for sections 5 to 7. On the board: the product rule for (t - r) u. Before the
# table, ask for a bet on each method's first column. The wrong answer to expect: more steps are
# always better.

# %% [markdown]
# ## 8. Scale
#
# Checkpoints of the same models with narrower networks, trained for longer; and a small
# consistency model of digits of $8\times8$ pixels, trained here in a few seconds on vectors of 64
# numbers. Recipes of one-step models of MNIST, for a GPU, stand in the
# [list](../../gdm_course/recipes/diffusion_few_step.py). They are not yet measured: this lecture
# has no checkpoint of them.

# %%
for kind in ("consistency", "shortcut", "meanflow"):
    name = f"diffusion/{kind}-eight-gaussians"
    if not checkpoints.available(name):
        print(f"no checkpoint yet: 'gdm train {name}' makes it")
        continue
    card = checkpoints.card(name)
    figure = next(f for f in card["figures"] if f["split"] == "test")
    print(f"{kind:12} {figure['metric']}: {figure['value']:.2f}", end=" +- ")
    print(
        f"{figure['error']:.2f}; {card['steps']} steps of {card['settings']['batch']};",
        end=" ",
    )
    print(f"{astray(drawn(checkpoints.load(name), 1)):.0%} beyond 3 sigma")

# %% tags=["train"]
digits = images.load("digits")
seed_everything(0)
real = lambda codes: ((codes + torch.rand(codes.shape)) / 17 - 0.3).flatten(1) * 2.5
n, pixels = budget(500, 5), digits.x_train
net = Denoiser(64, hidden=256, waves=0)
writer = ConsistencyModel(net, high=40.0, low=0.05, N=30)
order = torch.randint(len(pixels), (n, 128), generator=generator(4))
rate = lambda k: 1e-3 * (1 + math.cos(math.pi * k / n))
fresh = (real(pixels[k]) for k in order)
for _ in progress(train(writer, fresh, n, rate, clip=1.0), n, "training"):
    pass
test = real(digits.x_test)
some = torch.randperm(len(pixels), generator=generator(5))[:400]  # rows are by writers
half = energy_distance(real(pixels[some]), test).item()
for ax, k in zip(plot.panels("1 evaluation", "2", "4", width=2.6), (1, 2, 4)):
    x = writer.sample(400, k)
    away = 1000 * energy_distance(x, test).item()
    print(
        f"{k} evaluations: energy distance x 1000 {away:.0f}, of true digits {1000 * half:.0f}"
    )
    plot.image_grid((x[:16].view(16, 1, 8, 8) / 2.5 + 0.3).clamp(0, 1), ax, columns=4)

# %% [markdown]
# ## 9. Summary
#
# - One step along the velocity leads to the mean of the data. A one-step network has to say
#   something else.
# - A consistency model says the end of the path. Neighbours with the same noise teach it, from
#   an exact boundary upwards.
# - Its teacher must not move: with a gradient through it all ends shrink together.
# - A shortcut model says the mean velocity, and a jump learns from its two halves. MeanFlow
#   learns it from an identity, whose slope `jvp` gives in one pass forward.
# - In the plane the solver's map of the same noise is the truth, for every single point.

# %% tags=["fold"]
# @title All figures in one table
rows = {"floor of the energy distance x 1000": f"{floor.mean():.1f} +- {floor.std():.1f}"}
for name in ("flow", "consistency", "shortcut", "MeanFlow"):
    first, _, _, _, last = table[name]
    rows[f"{name}, 1 and 50 evaluations"] = f"{first:.1f}, {last:.1f} (x 1000, rms)"
    rows[f"{name}, median distance, one step"] = f"{paired[name].median():.3f} rms"
for name, value in rows.items():
    print(f"{name:42}{value}")

# %% [markdown]
# **Exercises:** [six functions with checks](../../exercises/diffusion/few_step.ipynb).
#
# **References.** Song, Dhariwal, Chen and Sutskever (2023), *Consistency models*,
# arXiv:2303.01469. Song and Dhariwal (2024), *Improved techniques for training consistency
# models*, arXiv:2310.14189. Frans, Hafner, Levine and Abbeel (2025), *One step diffusion via
# shortcut models*, arXiv:2410.12557. Geng, Deng, Bai, Kolter and He (2025), *Mean flows for
# one-step generative modeling*, arXiv:2505.13447.

# %% [markdown]
# ## Further: improved MeanFlow
#
# MeanFlow takes the slope of (8) along one line's $\epsilon-x_0$. That is right on average, but
# each line adds its own noise, and $t-r$ multiplies it. Read (8) as a formula for $v$:
# $u+(t-r)\frac{du}{dt}$ is to be $\epsilon-x_0$, the target of flow matching, with the slope
# along the network's *own* velocity $u(z,t,t)$ (Geng and others, 2025, arXiv:2512.02012). The
# price: while that velocity is wrong, the slope is wrong.
#
# **Question.** In both models the slope gets no gradient. So is the second reading another loss,
# apart from the direction of the slope?
#
# <details><summary>Answer</summary>
#
# No. $u-\big(v-(t-r)\frac{du}{dt}\big)$ and $\big(u+(t-r)\frac{du}{dt}\big)-v$ are the same
# number, and in both only the first $u$ has a gradient. The first lines of the cell give both
# models one direction, and compare.
# </details>
#
# Both with least squares and equal steps:

# %%
from gdm_course.diffusion.meanflow import ImprovedMeanFlow

seed_everything(0)
both = [kind(JumpNet(2), (2,), power=0.0) for kind in (MeanFlow, ImprovedMeanFlow)]
both[1].load_state_dict(both[0].state_dict())
z, t, r = eps[:8], torch.full((8,), 0.9), torch.full((8,), 0.2)
own = both[0].net(z, t, t).detach()  # one direction for both
plain, other = (model.error(z, t, r, own) for model in both)
assert torch.allclose(plain.double(), other, atol=1e-6)

seed_everything(0)
improved, _ = fit(ImprovedMeanFlow(JumpNet(2), (2,), power=0.0))
print(f"{'energy distance x 1000':22}", *(f"{n:>7}" for n in counts), "evaluations")
for name, model in (("improved", improved), ("plain", trained["MeanFlow, power 0", 0][0])):
    print(f"{name:22}", *(f"{energy(drawn(model, n)):7.1f}" for n in counts))

# %% [markdown]
# After so few steps the two hardly differ. (With a second seed, too, the improved one is lower in
# most columns, by less than one seed differs from the other.)

# %% [markdown]
# ## Further: inductive moment matching
#
# (4) compares one point with one point. Zhou, Ermon and Song (2025, arXiv:2503.07565) compare
# *clouds*: groups of $M$ points jump to one time $r$, once from $t$ and once from a time $m$ a
# little nearer to the data, $r\le m<t$. The second cloud teaches, as in (4). For $m=r$ it has not
# moved and is right; from there each time teaches the next (hence *inductive*). The loss is a
# distance of the two clouds; ours is the energy distance of section 4. With $M=1$ only the
# distance of a pair is left, which is consistency with a free end $r$. A larger cloud may swap
# its points at no cost: the loss asks less of the map. The last number says how far the map is
# from the truth.

# %%
from gdm_course.diffusion.moment_matching import MomentMatching

for M in (1, 8):
    seed_everything(0)
    model, _ = fit(MomentMatching(JumpNet(2), (2,), M=M))
    away = (drawn(model, 1) - truth).norm(dim=1).median()
    row = " ".join(f"{energy(drawn(model, n)):7.1f}" for n in counts)
    print(
        f"M = {M}: energy distance x 1000 {row}; one step, median {away:.3f} from the truth"
    )

# %% [markdown]
# Here groups of eight give neither better samples nor, to speak of, another map; nor did they with
# a second seed. And after these steps one jump of either is behind the one-step models of section 7.
