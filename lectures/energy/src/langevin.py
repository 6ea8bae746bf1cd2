# %% [markdown]
# # Rolling and kicked: Langevin and deep energies
#
# Any network that gives one number for each point is a density, if we call that number an
# energy: low is likely. Two things are missing. How do we draw from it, and how do we train
# it without knowing its normaliser? One answer serves both: let a ball roll down the energy
# and kick it all the time.

# %% [markdown] tags=["nav"]
# 50 minutes, and 33 further ·
# before this: [Likely is what lies low: Boltzmann machines](boltzmann.ipynb), [Change of variables: planar and radial flows](../flows/planar.ipynb) ·
# [exercise](../../exercises/energy/langevin.ipynb) ·
# [solution](../../solutions/energy/langevin.ipynb)
#
# previous: [Causes and what they cause: belief nets, wake and sleep](belief_net.ipynb) ·
# [all units](../index.ipynb) ·
# next: [The constant has no slope: score matching and noise contrast](score_matching.ipynb)

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
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from gdm_course import plotting as plot
from gdm_course import protocols, schematics, validate  # that refuses what does not fit
from gdm_course.data import energies, images, toy
from gdm_course.energy.network import Bowl, FittedBowl
from gdm_course.energy.normalise import Normalised, log_z_grid
from gdm_course.energy.sampling import check_step, choose, noise_like, with_slope
from gdm_course.evaluation.samples import frechet
from gdm_course.learning import on_backward
from gdm_course.nets import mlp, wave_net, zero_last
from gdm_course.training import (
    batches,
    budget,
    ema,
    forever,
    full_run,
    generator,
    seed_everything,
    train,
)
from gdm_course.widgets import play, progress, watch

Energy, Step = Callable[[Tensor], Tensor], Callable[[Callable, Tensor, float], Tensor]
plot.style()

# %% [markdown]
# ## 1. The question
#
# A function $E(x)$, the **energy**, makes a density
#
# $$p(x) = \frac{e^{-E(x)}}{Z}, \qquad Z = \int e^{-E(x)}\,dx. \tag{1}$$
#
# On the left is an energy that somebody wrote down. On the right are points from eight
# Gaussians of width (standard deviation) $s = 0.2$, for which a network is to find an
# energy. In many dimensions $Z$ is out of reach. In the plane we can sum it on a grid, so
# that claims can be measured.
#
# The models will be Samplers and Trainable. They are no Density, unless $Z$ is exact.

# %%
ring, truth = energies.get("U1"), toy.get("eight_gaussians")
g = generator(0)
x_train, x_test = truth.sample(10_000, g).float(), truth.sample(10_000, g).float()
left, right = plot.panels("an energy: U1", "data: eight Gaussians", width=3.4)
plot.density(ring.log_prob, ring.bounds, left)
_ = plot.scatter(x_train[:3000], right, truth.bounds)

# %% [markdown]
# ## 2. The idea
#
# Put a ball into the landscape $E$. It rolls downhill, and it is kicked at random. Without
# kicks it would stop in the nearest valley; without the slope it would wander off. With
# both, in the right proportion, it is found at $x$ as often as $p(x)$ says.

# %% tags=["fold"]
# @title Three balls in the energy U1: rolling only, kicked only, both
seed_everything(0)
titles = ("rolls only", "is kicked only", "both")
for ax, title in zip(plot.panels(*titles), titles):
    plot.density(ring.log_prob, ring.bounds, ax)
    path = [torch.tensor([[3.5, 3.0]])]
    for _ in range(400):
        slope = with_slope(ring, path[-1])[1] if title != "is kicked only" else 0.0
        kick = torch.randn(1, 2) if title != "rolls only" else 0.0
        path.append(path[-1] - 0.02 * slope + 0.2 * kick)
    ax.plot(*torch.cat(path).T, color=plot.ORANGE, linewidth=0.7)
    ax.scatter(*path[-1].T, color=plot.RED, s=25, zorder=3)

# %% [markdown]
# ## 3. The mathematics
#
# **A step.** Let $\epsilon$ be a small positive number, $\nabla E$ the slope of the energy
# and $\xi$ standard normal noise. The **Langevin step** is
#
# $$x' = x - \tfrac{\epsilon}{2}\,\nabla E(x) + \sqrt{\epsilon}\;\xi. \tag{2}$$
#
# **Why $p$ stays.** Let $p_t$ be the density of many balls, and ask how it changes in one
# step. Rolling carries balls with the velocity $-\frac12\nabla E$; what flows out of a
# place is the divergence $\nabla\cdot$ of density times velocity. Kicks spread it as heat
# does: by Taylor the mean of $p_t(x - \sqrt\epsilon\,\xi)$ is $p_t +
# \frac\epsilon2\nabla\cdot\nabla p_t + \dots$, as $\xi$ has the mean 0 and the covariance
# $I$. So for small steps
#
# $$\frac{p_{t+\epsilon} - p_t}{\epsilon} \;\to\;
#   \tfrac12\,\nabla\cdot\bigl(p_t\,\nabla E + \nabla p_t\bigr). \tag{3}$$
#
# Insert $p = e^{-E}/Z$: since $\nabla p = -p\,\nabla E$, the bracket is 0. The density
# stays, and $Z$ was never needed. That other densities also *arrive* at $p$ is true for
# usual energies (the KL falls under (3)); we do not prove it, and it may take long.
#
# **How wrong is a step that is not small?** Take $E = x^2/2$, so $p$ is standard normal.
# Then (2) is $x' = (1-\frac\epsilon2)\,x + \sqrt\epsilon\,\xi$, and a variance $v$ that
# stays satisfies $v = (1-\frac\epsilon2)^2 v + \epsilon$:
#
# $$v = \frac{1}{1 - \epsilon/4}. \tag{4}$$
#
# *In numbers:* $\epsilon = 1$ gives $v = 1.33$ instead of 1. For a parabola of width $s$,
# $E = x^2/2s^2$, the same holds with $\epsilon/s^2$ for $\epsilon$: with a step above $4s^2$
# balls fly off for good. For other valleys that is a rule of thumb: the narrowest one
# dictates the step.
#
# **Making it exact.** Take $x'$ of (2) as a proposal $y$ with the density $q(y\,|\,x)$, and
# go there with the probability $\min(1, a)$,
#
# $$\log a = E(x) - E(y) + \log q(x\,|\,y) - \log q(y\,|\,x). \tag{5}$$
#
# When the balls have the density $p$, those that go from $x$ to $y$ number
# $p(x)\,q(y|x)\min(1, a) = \min\bigl(p(x)\,q(y|x),\ p(y)\,q(x|y)\bigr)$. Exchange $x$ and
# $y$: it is the same. As many go as return, so $p$ stays, for any step size. A refused ball
# counts again where it is: without it, places that are hard to leave would count too
# little. This is the Metropolis-adjusted Langevin algorithm, **MALA**.
#
# **Question.** Noise has $\epsilon$ as its variance and the slope has the factor
# $\epsilon/2$. A paper uses a step of $10$ on the slope and noise of standard deviation
# $0.005$. From which density does it draw?
#
# <details><summary>Answer</summary>
#
# With $\epsilon = 0.005^2$ the slope should have the factor $1.25\cdot10^{-5}$; it is
# 800,000 times larger. So these are steps for the energy $800{,}000\,E$: the density
# $\propto e^{-E/T}$ at the **temperature** $T = 1.25\cdot10^{-6}$, nearly pure descent. That
# holds only if the step is small for *that* energy. On $E = x^2/2$ it is $x' = x - 10x +
# \dots$, and explodes: a factor of 10 needs valleys wider than $\sqrt5$.
# </details>

# %% [markdown] tags=["notes"]
# 13 minutes for sections 1 to 3. Draw one valley and ask where a ball is found without
# kicks. It sticks at (3): say "what flows in minus what flows out". If time is short, state
# (3) and check only that the bracket vanishes.

# %% [markdown]
# ## 4. Build: steps
#
# `with_slope` returns $E$ and $\nabla E$ by autograd. All chains move at once, as rows of a
# batch.


# %% tags=["from:energy.sampling.langevin_step"]
def langevin_step(
    energy: Energy, x: Tensor, eps: float, generator: Generator | None = None
) -> Tensor:
    """Roll downhill a little and be kicked: x - (eps/2) grad E + sqrt(eps) xi.

    Args:
        energy: in nats, (B, *D) -> (B,).
        x: where the chains are, (B, *D).
        eps: step size, the variance of a kick.
        generator: of the kicks; None takes the global one.
    """
    check_step(eps)
    _, slope = with_slope(energy, x)
    return x.detach() - eps / 2 * slope + math.sqrt(eps) * noise_like(x, generator)


# %% [markdown]
# **Predict, before you run:** 20,000 chains on $E = x^2/2$, all started at $x = 4$. Which
# variance do they have after 100 steps with $\epsilon = 2$?

# %%
bell = lambda x: x.square().sum(1) / 2


def settled(step, eps, steps=100, n=20_000):
    """Run chains on the bell, all from x = 4: their variance, and where they are (n, 1)."""
    x = torch.full((n, 1), 4.0)
    for _ in range(steps):
        x = step(bell, x, eps)
    return x.var().item(), x


seed_everything(0)
print("  eps   measured   1 / (1 - eps / 4)")
for eps in (0.05, 0.5, 1.0, 2.0, 3.0):
    variance, _ = settled(langevin_step, eps)
    print(f"{eps:5.2f} {variance:10.3f} {1 / (1 - eps / 4):12.3f}")
    assert abs(variance * (1 - eps / 4) - 1) < 0.07

# %% [markdown]
# <details><summary>Answer to the prediction</summary>
#
# By (4) it is 2, twice the right one.
# </details>
#
# MALA needs $q$: the proposal is normal around $x - \frac\epsilon2\nabla E(x)$. `choose`
# draws a uniform number for each chain and moves those with $\log u < \log a$. The argument
# `ratio=False` forgets both $q$ in (5).


# %% tags=["from:energy.sampling.log_proposal"]
def log_proposal(y: Tensor, x: Tensor, slope: Tensor, eps: float) -> Tensor:
    """Return log q(y | x) of a Langevin step, but for a constant: (B,).

    log q(y | x) = -|y - x + (eps/2) grad E(x)|^2 / (2 eps). Args: points y and x (B, *D),
    and the slope of E at x.
    """
    return -(y - x + eps / 2 * slope).flatten(1).square().sum(1) / (2 * eps)


# %% tags=["from:energy.sampling.mala_step"]
def mala_step(
    energy: Energy,
    x: Tensor,
    eps: float,
    generator: Generator | None = None,
    *,
    ratio: bool = True,
) -> tuple[Tensor, Tensor]:
    """Propose a Langevin step, and take it with the probability that makes p stay p.

    log a = E(x) - E(y) + log q(x | y) - log q(y | x).

    Args:
        energy, x, eps, generator: as of `langevin_step`.
        ratio: False forgets the two proposals q, to see what that costs.

    Returns:
        Where the chains are (B, *D), and which of them moved (B,).
    """
    check_step(eps)
    (E, slope), x = with_slope(energy, x), x.detach()
    y = x - eps / 2 * slope + math.sqrt(eps) * noise_like(x, generator)
    E_y, slope_y = with_slope(energy, y)
    log_a = E - E_y
    if ratio:
        log_a = log_a + log_proposal(x, y, slope_y, eps) - log_proposal(y, x, slope, eps)
    return choose(x, y, log_a, generator)


# %%
seed_everything(0)
mala = lambda energy, x, eps: mala_step(energy, x, eps)[0]
forgetful = lambda energy, x, eps: mala_step(energy, x, eps, ratio=False)[0]
print("  eps   accepted   variance   without q")
for eps in (0.1, 1.0, 2.0, 3.9):
    (adjusted, x), (without_q, _) = settled(mala, eps), settled(forgetful, eps)
    accepted = mala_step(bell, x, eps)[1].float().mean()
    print(f"{eps:5.2f} {accepted:9.0%} {adjusted:11.3f} {without_q:11.3f}")
    assert abs(adjusted - 1) < 0.07 and (without_q < 0.85 or eps > 2)

# %% [markdown]
# With $q$ the variance is 1 at every step size. Without, it depends on $\epsilon$ and passes
# 1 by accident; small steps do not help. There it tends to $\frac12$: rolling and the rule
# each count $E$ once, so the chains draw from $e^{-2E}$.
#
# **Play.** Move $\epsilon$ and watch the histogram leave the curve. `adjusted` switches MALA
# on. Langevin explodes at $\epsilon = 4$; near it, MALA still accepts half of its steps (the
# table's last row).


# %%
def draw_bias(eps, adjusted):
    """A histogram of chains on the bell, and the density they should have."""
    variance, x = settled(mala if adjusted else langevin_step, eps, 100, 4000)
    accepted = mala_step(bell, x, eps)[1].float().mean()
    (ax,) = plot.panels(f"variance {variance:.2f}", width=4.5)
    ax.hist(x.flatten().clamp(-6, 6), 80, range=(-6, 6), density=True, color=plot.SKY)
    plot.density_1d(torch.distributions.Normal(0, 1).log_prob, (-6, 6), ax, plot.BLACK)
    ax.set_xlabel(f"MALA would accept {accepted:.0%}")


play(draw_bias, eps=(0.1, 3.9, 0.2, 2.1), adjusted=False)

# %% [markdown]
# ## 5. Build: a deep energy
#
# Let a network $f$ be the energy. Far from the data it may say anything, and then $Z$ may
# be infinite. So it only *tilts* a wide Gaussian, whose energy is a bowl of width $b$:
#
# $$E(x) = f(x) + \mathrm{bowl}(x), \qquad \mathrm{bowl}(x) = |x|^2/2b^2. \tag{6}$$
#
# `wave_net` is a perceptron that sees sines and cosines of $x$ (Fourier features).


# %% tags=["from:energy.network.EnergyNet"]
class EnergyNet(nn.Module):
    """E(x) = f(x) + bowl(x): a network tilts the energy of a Gaussian. Low is likely.

    The bowl makes Z finite, whatever the network says far away, and is where chains start.
    At first f = 0.

    Args:
        D: dimension of a point.
        width: standard deviation of a round bowl, wider than the data.
        bowl: instead of that, such as a `FittedBowl`: with `energy` and `sample`.
        net: more about the network, see `nets.wave_net`: hidden, waves, scale.
    """

    def __init__(self, D: int, *, width: float = 3.0, bowl: nn.Module | None = None, **net):
        super().__init__()
        validate.at_least(1, D=D)
        self.f = zero_last(wave_net(D, 1, **net))
        self.D, self.bowl = D, bowl or Bowl(D, width)

    def energy(self, x: Tensor) -> Tensor:
        """Return E(x) in nats, known but for a constant: (B, D) -> (B,)."""
        x = validate.points(x, self.D, self)
        return self.f(x).squeeze(1) + self.bowl.energy(x)

    def score(self, x: Tensor) -> Tensor:
        """Return grad log p(x) = -grad E(x), where Z is gone: (B, D) -> (B, D).

        Differentiable in the parameters, and in x again.
        """
        with torch.enable_grad():
            x = x if x.requires_grad else x.detach().requires_grad_()
            (slope,) = torch.autograd.grad(self.energy(x).sum(), x, create_graph=True)
        return -slope


# %% tags=["fold"]
# @title An energy: the network tilts the bowl
seed_everything(0)
net = EnergyNet(2)
seen = schematics.trace(net.energy, x_train[:100])
d = schematics.Drawing(
    "EnergyNet", "A network and a bowl read the point; E is their sum.", 100
)
x, plus, E = d.box("$x$", (0, 1)), d.box("+", (3, 1), "operation"), d.box("$E$", (4, 1))
waves = d.box("sines, cosines", (1, 0), "operation")
f, bowl = d.network(net.f, "perceptron", (2, 0)), d.box("bowl", (2, 2), "operation")
d.arrow(x, waves, "", x_train[:100]), d.arrow(x, bowl)
d.arrow(waves, f, "", seen.first(net.f[0]).result)
d.arrow(f, plus, "$f$", seen.first(net.f).result)
d.arrow(bowl, plus, "", seen.first("Bowl.energy").result)
d.arrow(plus, E, "", seen.first("EnergyNet.energy").result)
d

# %% [markdown]
# **Maximum likelihood.** The loss is the mean of $-\log p(x) = E(x) + \log Z$. The slope of
# $\log Z$ in the parameters $\theta$ is $\frac1Z\int -\nabla_\theta E\,e^{-E} =
# -\mathbb E_p[\nabla_\theta E]$, so
#
# $$\nabla_\theta\bigl(-\log p(x)\bigr) = \nabla_\theta E(x)
#   - \mathbb E_{\tilde x\sim p}\bigl[\nabla_\theta E(\tilde x)\bigr]. \tag{7}$$
#
# Push the energy down at the data, and up where the model itself would draw. In the plane a
# grid gives $\log Z$, and autograd gives (7). No chains yet: this is the best that the
# network can do, and the yardstick for what follows.


# %% tags=["from:energy.langevin.ExactEnergyModel"]
class ExactEnergyModel(EnergyNet):
    """The likelihood itself: loss = mean E + log Z, with log Z summed over a grid.

    Args:
        D: dimension of a point, 1 or 2 in practice.
        bounds: ((low, high), ...) of the grid, outside of which e^-E is negligible.
        cells: of the grid in every dimension.
        net: more about the energy, see `EnergyNet`.
    """

    def __init__(self, D: int, bounds: Sequence, *, cells: int = 64, **net):
        validate.at_least(1, cells=cells)
        super().__init__(D, **net)
        self.bounds, self.cells = tuple(bounds), cells

    def loss(self, x: Tensor) -> Tensor:
        """Return the mean of -log p in nats, as good as the grid: (B, D) -> ()."""
        E = self.energy(x)
        log_z = log_z_grid(self.energy, self.bounds, self.cells, validate.dtype_of(self))
        return E.mean() + log_z.to(E.dtype)


# %%
box = tuple((1.5 * low, 1.5 * high) for low, high in truth.bounds)
shape = {"width": 1.5 * x_train.std().item(), "scale": 0.6}  # of every network below


def fit(model, steps, lr=5e-3, constant=False, seed=0):
    """Train on the eight Gaussians with a rate that falls to 0; yields (step, loss)."""
    rate = lambda step: lr * (1 if constant else 1 - step / steps)
    yield from train(model, forever(x_train, 256, generator(seed)), steps, rate)


@torch.no_grad()
def kl(energy, T=1.0):
    """KL(truth || e^(-E/T) / Z) in nats, on test points, with log Z from a finer grid."""
    log_z = log_z_grid(lambda x: energy(x) / T, box, 300)
    return (truth.log_prob(x_test) + energy(x_test) / T + log_z).mean().item()


seed_everything(0)
exact = ExactEnergyModel(2, box, **shape)
panels = {"e^-E": lambda ax: plot.density(lambda x: -exact.energy(x), truth.bounds, ax)}
for _ in watch(fit(exact, budget(600, 5), 1e-2), 100, panels):
    pass
best = kl(exact.energy)
print(f"log Z by grid: {best:.3f} nats from the truth")
assert best < 0.1 or not full_run()

# %% [markdown]
# ## 6. Chains in the place of the integral
#
# In many dimensions there is no grid. The mean over $p$ in (7) becomes a mean over Langevin
# chains. The cheapest start at the data and take $k$ steps: **contrastive divergence**. If
# the model is right, the data are its samples, and chains that start there need not travel.
# Only the slope of this loss is used. Its value is no likelihood: far below 0 it is an
# alarm (the chains lie high), near 0 it proves nothing. `run` repeats a step and drops the
# gradient.


# %% tags=["from:energy.langevin.run"]
def run(
    energy: Callable, x: Tensor, eps: float, steps: int, step: Step = langevin_step
) -> Tensor:
    """Take so many steps with every chain: (B, *D) -> (B, *D), without a gradient."""
    for _ in range(steps if len(x) else 0):
        x = step(energy, x, eps)
    return x.detach()


# %% tags=["from:energy.langevin.EnergyModel"]
class EnergyModel(EnergyNet):
    """Contrastive divergence: the chains start at the data and take a few steps.

    Args:
        D: dimension of a point.
        k: steps of a chain before it is used.
        eps: size of a step.
        step: what a step is: `langevin_step`, or another of its kind.
        net: more about the energy, see `EnergyNet`.
    """

    def __init__(
        self, D: int, *, k: int = 5, eps: float = 0.01, step: Step = langevin_step, **net
    ):
        super().__init__(D, **net)
        validate.at_least(1, k=k)
        self.k, self.eps, self.step = k, eps, step

    def moved(self, x: Tensor) -> Tensor:
        """Return where chains are k steps later: (B, D) -> (B, D)."""
        return run(self.energy, x, self.eps, self.k, self.step)

    def loss(self, x: Tensor) -> Tensor:
        """Return mean E(data) - mean E(chains): (B, D) -> ()."""
        chains = self.moved(validate.points(x, self.D, self))
        return self.energy(x).mean() - self.energy(chains).mean()

    def sample(self, n: int, steps: int = 1000) -> Tensor:
        """Run n chains from the bowl: (n, D). They may not have arrived."""
        return run(self.energy, self.bowl.sample(n), self.eps, steps, self.step)


# %%
seed_everything(0)
contrastive = EnergyModel(2, **shape)
for _ in progress(fit(contrastive, budget(1000, 5)), budget(1000, 5), "training"):
    pass
reached = kl(contrastive.energy)
print(f"chains from the data: {reached:.3f} nats from the truth; by grid {best:.3f}")
valley = lambda x: torch.cdist(x, truth.law.means.float()).argmin(1)
crossing = (valley(contrastive.moved(x_test)) != valley(x_test)).float().mean().item()
print(f"{crossing:.1%} of the chains end in another valley than they began in")
assert (reached < 0.6 and crossing < 0.02) or not full_run()
density = Normalised(contrastive, log_z_grid(contrastive.energy, box, 300))
assert isinstance(contrastive, protocols.Sampler) and isinstance(density, protocols.Density)

# %% tags=["fold"]
# @title The truth beside both models, and 2,000 chains after 1,000 steps
seed_everything(1)
sample = contrastive.sample(2000, budget(1000, 5))
found = {
    "truth": truth.log_prob,
    f"log Z by grid: {best:.2f}": Normalised(
        exact, log_z_grid(exact.energy, box, 300)
    ).log_prob,
    f"chains: {reached:.2f} nats": density.log_prob,
}
*axes, last = plot.panels(*found, "samples of the last")
for ax, log_prob in zip(axes, found.values()):
    plot.density(log_prob, truth.bounds, ax, vmax=0.5)
_ = plot.scatter(sample, last, truth.bounds)

# %% [markdown]
# The price of chains is the distance between the two figures. In five steps hardly any
# chain leaves its valley, so hardly anything compares one valley with another.
#
# **Change** the second cell above to `EnergyModel(2, k=1, **shape)` and run it again. What
# does one step see?
#
# <details><summary>Answer</summary>
#
# Only the slope right at the data: one kick is $\sqrt{0.01} = 0.1$ long, half the width of
# a valley. Whether the figure gets worse depends on the seed.
# </details>
#
# **A buffer** lets chains go on where they were, in the hope that the energy changes little
# from one batch to the next. Some start afresh from the bowl. `on_backward` writes to the
# buffer only when the loss is used for training, never when it is measured.


# %% tags=["from:energy.langevin.PersistentEnergyModel"]
class PersistentEnergyModel(EnergyModel):
    """Chains that go on where they were: a buffer of places, some of them fresh each time.

    Args:
        D, more: as of `EnergyModel`.
        places: how many the buffer holds.
        fresh: share of the chains that start anew, from the bowl; 1: nothing is kept.
    """

    def __init__(self, D: int, *, places: int = 2000, fresh: float = 0.02, **more):
        super().__init__(D, **{"k": 10, **more})
        validate.at_least(1, places=places)
        self.fresh = fresh
        self.register_buffer("places", self.bowl.sample(places))

    def loss(self, x: Tensor) -> Tensor:
        """Return mean E(data) - mean E(chains), as many chains as data: (B, D) -> ().

        The chains' new places are kept when the loss is backpropagated.
        """
        x = validate.points(x, self.D, self)
        rows = torch.randint(len(self.places), (len(x),), device=x.device)
        new = torch.rand(len(x), 1, device=x.device) < self.fresh
        chains = torch.where(new, self.bowl.sample(len(x)), self.places[rows])
        chains = self.moved(chains)
        loss = self.energy(x).mean() - self.energy(chains).mean()
        return on_backward(loss, lambda: self.places.index_copy_(0, rows, chains))


# %% [markdown] tags=["notes"]
# 20 minutes for sections 4 to 6. Before the last figure ask: what would happen if the eight
# valleys had unequal weights? (Chains from the data never find out.) Expect "the loss should
# fall": print it, it wanders around 0.

# %% [markdown]
# ## 7. Break it, four times
#
# All runs have 300 steps, with two healthy ones as controls: chains from the data
# ($\epsilon = 0.01$), and a buffer ($\epsilon = 0.02$). A third control is the bowl alone,
# with no network. The first three broken runs change one thing:
#
# 1. **A step near the limit:** from the data, but $\epsilon = 0.15$; $4s^2$ is 0.16.
# 2. **A high rate:** a buffer, but with the rate 0.1, fifty times as high.
# 3. **MALA:** a buffer, but with MALA's steps.
# 4. **Cold chains:** a setting of its own, no buffer, 20 steps from the bowl at the
#    temperature $T = 0.01$. They draw from $e^{-E/T}$, so that is the density to judge. The
#    row under it judges the same network at $T = 1$.
#
# **Predict, before you run:** MALA is the exact sampler. Is it the better trainer? And
# which run draws good points although its density is wrong?


# %%
def cold_step(energy, x, eps, T=0.01):
    """A Langevin step for E / T: the same slope, and kicks sqrt(T) times as large."""
    return langevin_step(lambda x: energy(x) / T, x, eps * T)


kept = {**shape, "places": 256, "fresh": 0.05, "eps": 0.02}
afresh = {**shape, "places": 1, "fresh": 1.0, "k": 20, "eps": 0.02}
seed_everything(0)
n = budget(300, 3)
runs = {  # model, rate
    "from data": (EnergyModel(2, **shape), 5e-3),
    "eps = 0.15": (EnergyModel(2, eps=0.15, **shape), 5e-3),
    "buffer": (PersistentEnergyModel(2, **kept), 2e-3),
    "high rate": (PersistentEnergyModel(2, **kept), 0.1),
    "MALA": (PersistentEnergyModel(2, step=mala, **kept), 2e-3),
    "cold": (PersistentEnergyModel(2, step=cold_step, **afresh), 2e-3),
}
gaps, losses, good = {"bowl alone": kl(contrastive.bowl.energy)}, {}, {}
inside = truth.log_prob(x_test).quantile(0.01)  # 99 % of the truth lies above it
for name, (model, lr) in progress(runs.items(), len(runs), "six runs"):
    for _, losses[name] in fit(model, n, lr):
        pass
    gaps[name] = kl(model.energy, T=0.01 if name == "cold" else 1.0)
    good[name] = (truth.log_prob(model.sample(1000, 20)) > inside).float().mean().item()
gaps["cold, at T = 1"] = kl(model.energy)  # of the last, the cold one
print(f"{'':16}{'KL (nats)':>12}{'last loss':>12}{'good points':>13}")
for name, gap in gaps.items():
    more = f"{losses[name]:12.3g}{good[name]:13.0%}" if name in good else ""
    print(f"{name:16}{gap:12.3g}{more}")
if full_run():
    assert max(gaps["from data"], gaps["buffer"]) < gaps["bowl alone"]
    assert gaps["eps = 0.15"] > 100 and gaps["high rate"] > 10 * gaps["buffer"]
    assert gaps["MALA"] > 2 * gaps["buffer"]
    assert gaps["cold"] > 20 * gaps["cold, at T = 1"] and good["cold"] > 0.6
    assert max(losses["eps = 0.15"], losses["MALA"]) < -20 < losses["cold"]

# %% [markdown]
# <details><summary>Answer to the predictions</summary>
#
# No: with MALA the buffer ends far worse than with plain steps. The cold run draws points
# of which most are good.
# </details>
#
# 1. **Too large a step:** the chains overshoot, land high, and the energy *there* is raised
#    without end. The loss runs to minus infinity, and a small loss looked like success.
# 2. **Too high a rate:** the density ends far from the truth. The first repair is a lower
#    rate.
# 3. **MALA:** the energy under a chain is raised until it is so steep there that the
#    proposal is thrown far away. The energy there is lower, but the way back is all but
#    impossible: $q(x|y)$ is tiny, the ball stays, and the energy under it is raised again.
#    The next cell counts such chains, and shows the medians of (5) over them (nan: none).
# 4. **Cold:** training tuned 20 steps from the bowl to end near the data, and the loss is
#    about that of the healthy buffer. But what such chains claim to draw from is a few
#    needles.
#
# The repairs are in the healthy runs: a step well below $4s^2$, a lower rate, plain steps,
# temperature 1, and the bowl. Judge by the KL where it is known. Where it is not, the loss
# can only raise an alarm: far below 0 is bad, a few nats prove nothing.


# %% tags=["fold"]
# @title How many chains of each buffer are frozen, and what (5) says of them
def stay(name, steps=10, eps=0.02):
    """Print the share of chains that refuse so many MALA steps, and (5) for those."""
    model, _ = runs[name]
    x, still = model.places, torch.ones(len(model.places), dtype=torch.bool)
    for _ in range(steps):
        (E, slope), y = with_slope(model.energy, x), langevin_step(model.energy, x, eps)
        E_y, slope_y = with_slope(model.energy, y)
        ratio = log_proposal(x, y, slope_y, eps) - log_proposal(y, x, slope, eps)
        x, moved = choose(x, y, E - E_y + ratio)
        still &= ~moved
    share = still.float().mean().item()
    drop, back = (E - E_y)[still].median(), ratio[still].median()
    print(f"{name:8}{share:10.0%}{drop:14.1f}{back:21.1f}")
    return share


seed_everything(2)
print(f"{'':8}{'frozen':>10}{'E(x) - E(y)':>14}{'log q(x|y) / q(y|x)':>21}")
stuck = {name: stay(name) for name in ("buffer", "MALA")}
assert stuck["MALA"] > 0.1 + stuck["buffer"] or not full_run()

# %% [markdown]
# ## 8. Scale: digits
#
# Images of $8\times8$ pixels, scaled to $[-1, 1]$. In 64 dimensions a round bowl is a bad
# place to start: nearly all of it is grey noise. So we tilt a better one, the Gaussian with
# the mean $m$ and the covariance $C$ of the data, `FittedBowl`. Both get the same network,
# buffer, steps and rate. The data are blurred a little by noise, or the valleys would be
# infinitely narrow in pixels that are always black.
#
# To judge the samples we fit a Gaussian to 64 features of a small classifier, mean $m_1$ and
# covariance $C_1$ for samples, $m_2$ and $C_2$ for test digits. Their squared **Fréchet
# distance** is $|m_1-m_2|^2 + \operatorname{tr}\bigl(C_1 + C_2 -
# 2(C_1^{1/2}C_2C_1^{1/2})^{1/2}\bigr)$, and 0 if they are the same. The training digits
# themselves show how low it can be.

# %% tags=["fold"]
# @title The digits, and the distance by a small classifier's features
digits = images.load("digits")
as_points = lambda x: x.flatten(1).float() / 8 - 1
x_digits, x_held = as_points(digits.x_train), as_points(digits.x_test)
seed_everything(0)
classifier = mlp((64, 128, 64, 10))
optimizer = torch.optim.AdamW(classifier.parameters(), 3e-3)
for _ in range(budget(15, 1)):
    for x, y in batches((x_digits, digits.y_train), 64, generator(0)):
        optimizer.zero_grad()
        F.cross_entropy(classifier(x), y).backward()
        optimizer.step()
features = classifier[:4].requires_grad_(False)
distance = lambda x: frechet(features(x), features(x_held)).item()

# %% [markdown]
# **Predict, before you run:** after the training the energy is held fixed, and the chains
# of the buffer go on for 1,000 steps. Do they get nearer to the digits?


# %%
def tilt(bowl, steps, noise=0.15, eps=0.12**2):
    """Train an energy of noisy digits around a bowl; return it with averaged weights.

    The buffer in it is that of the training, whose energy was not averaged.
    """
    net = {"bowl": bowl, "waves": 0, "hidden": (128, 128)}
    model = PersistentEnergyModel(64, k=5, eps=eps, **net)
    mean, draws = copy.deepcopy(model), forever(x_digits, 64, generator(1))
    noisy = (x + noise * torch.randn_like(x) for x in draws)
    rate = lambda step: 3e-3 * (1 - step / steps)
    for _ in progress(train(model, noisy, steps, rate), steps, "training on digits"):
        ema(mean, model, 0.99)
    return mean


seed_everything(0)
tilted = tilt(FittedBowl(x_digits, noise=0.15), budget(1000, 3))
rounded = tilt(Bowl(64, width=1.0), budget(1000, 3))
n = len(x_digits)
went_on = run(tilted.energy, tilted.places[:n], tilted.eps, budget(1000, 2))
clouds = {
    "training digits": x_digits,
    "the fitted bowl alone": tilted.bowl.sample(n),
    "tilted: its buffer": tilted.places[:n],
    "tilted: 1,000 steps more": went_on,
    "tilted: 200 new steps": tilted.sample(n, budget(200, 2)),
    "round: its buffer": rounded.places[:n],
}
far = {name: distance(x) for name, x in clouds.items()}
for name, value in far.items():
    print(f"{name:26}{value:8.1f}")
if full_run():
    assert far["tilted: its buffer"] < 0.5 * far["round: its buffer"]
    assert far["tilted: 1,000 steps more"] > 2 * far["tilted: its buffer"]

# %% tags=["fold"]
# @title Digits, and what the buffers and other chains show
for ax, x in zip(plot.panels(*clouds, columns=3, width=2.4, height=2.6), clouds.values()):
    plot.image_grid((x[:36].view(-1, 8, 8) + 1) / 2, ax)

# %% [markdown]
# <details><summary>Answer to the prediction</summary>
#
# No, they *leave* the digits, farther than the fitted Gaussian is.
# </details>
#
# The buffer of the tilted energy is close to the digits, closer than the Gaussian it
# started from; with a round bowl the same budget leads nowhere near. But it got there while
# the energy kept changing. New chains of 200 steps are no better than that Gaussian: the
# density of the last energy is not the digits. This is a good archive of samples and no
# finished density.
#
# A last Further section asks whether such an energy tells strange images from digits.

# %% [markdown] tags=["notes"]
# 15 minutes for sections 7 and 8. Let the room vote on MALA before running. It is worth two
# minutes to say why chains that go on leave the digits.

# %% [markdown]
# ## 9. Summary
#
# - $x' = x - \frac\epsilon2\nabla E + \sqrt\epsilon\,\xi$ draws from $e^{-E}/Z$ for small
#   steps; on a Gaussian of width 1 its variance is $1/(1-\epsilon/4)$.
# - MALA makes it exact, if the proposal is in the ratio.
# - Likelihood lowers the energy at the data and raises it where chains go.
# - The chains are the training: a step too large, a rate too high, refused or cold chains
#   spoil it. A loss far below 0 is an alarm; one near 0 proves nothing.
# - Good samples do not prove a good density: cold chains, and a buffer that leaves the
#   digits when it goes on.

# %% tags=["fold"]
# @title All figures in one table
rows = {"log Z by grid": (best, "nats, KL"), "chains from the data": (reached, "nats, KL")}
rows |= {f"section 7: {k}": (gaps[k], "nats, KL") for k in runs}
rows |= {name: (value, "Fréchet distance") for name, value in far.items()}
for name, (value, unit) in rows.items():
    print(f"{name:26}{value:12.3g}  {unit}")

# %% [markdown]
# **Exercises:** [six functions with checks](../../exercises/energy/langevin.ipynb).
#
# **References.** Roberts and Tweedie (1996), *Exponential convergence of Langevin
# distributions and their discrete approximations*. Hinton (2002), *Training products of
# experts by minimizing contrastive divergence*. Tieleman (2008), *Training restricted
# Boltzmann machines using approximations to the likelihood gradient*. Du and Mordatch
# (2019), arXiv:1903.08689. Nijkamp and others (2020), *On the anatomy of MCMC-based maximum
# likelihood learning*, arXiv:1903.12370. Neal (2011), *MCMC using Hamiltonian dynamics*,
# arXiv:1206.1901. Balcerak and others (2025), *Energy matching*, arXiv:2504.10612.

# %% [markdown]
# ## Further: chains that jump
#
# A buffer does worse than chains from the data, in section 7. One reason may be the ridges: kicks seldom cross them,
# so a valley holds as many chains as happened to fall into it, not its share. In the plane there is a cure: now and
# then propose a place *anywhere*, drawn from the bowl, and accept it by the ratio of Metropolis and Hastings,
# which here is $e^{f(x)-f(y)}$, since the bowl cancels. `jump_step` is right for any energy, and moves chains
# between valleys by their true odds.


# %% tags=["from:energy.sampling.jump_step"]
def jump_step(energy: Energy, bowl, x: Tensor) -> tuple[Tensor, Tensor]:
    """Propose a fresh place for every chain, from a bowl, and take it if p agrees.

    log a = E(x) - E(y) - (E_bowl(x) - E_bowl(y)). A jump crosses any ridge between two
    valleys; it is refused nearly always in many dimensions (Hastings 1970).

    Args:
        energy, x: as of `langevin_step`.
        bowl: with `energy` and `sample`, such as `network.Bowl`, as wide as p or wider.

    Returns:
        Where the chains are (B, *D), and which of them moved (B,).
    """
    with torch.no_grad():
        y = bowl.sample(len(x))
        log_a = energy(x) - energy(y) - bowl.energy(x) + bowl.energy(y)
    return choose(x.detach(), y, log_a)


# %%
def leaping(energy, x, eps):
    """A jump, for the chains that accept it, then a Langevin step."""
    return langevin_step(energy, jump_step(energy, jumping.bowl, x)[0], eps)


seed_everything(0)
jumping = PersistentEnergyModel(2, k=5, step=leaping, places=256, fresh=0.0, **shape)
for _ in progress(fit(jumping, budget(700, 3), 1e-2), budget(700, 3), "jumping chains"):
    pass
with torch.no_grad():
    _, moved = jump_step(jumping.energy, jumping.bowl, jumping.places)
print(
    f"a buffer with jumps: {kl(jumping.energy):.3f} nats from the truth; by grid {best:.3f}"
)
print(f"{moved.float().mean():.0%} of the jumps are accepted")
assert kl(jumping.energy) < 0.1 or not full_run()

# %% [markdown]
# With jumps the chains are close to samples of the model, and a rate five times as
# high as the plain buffer's does no harm. In 64 dimensions a draw from the bowl is hardly ever accepted: there
# other ways across the ridges are needed, such as the many noises of the next lecture.

# %% [markdown]
# ## Further: Hamiltonian Monte Carlo
#
# In this section $p$ is a momentum, and no density. A ball with it does not forget its direction after every kick. Push it once
# with $p\sim\mathcal N(0, I)$ and let it slide without friction: $\dot x = p$,
# $\dot p = -\nabla E(x)$ keep the total energy $H = E(x) + |p|^2/2$. The **leapfrog**
# slides in steps that lead back exactly when $p$ is turned round, and keep volume. So the
# rule of (5) needs no $q$: accept with $a = e^{H - H'}$. One leapfrog step is MALA.


# %% tags=["from:energy.sampling.leapfrog"]
def leapfrog(
    energy: Energy, x: Tensor, p: Tensor, step: float, steps: int
) -> tuple[Tensor, Tensor]:
    """Follow x' = p, p' = -grad E: half a push, then drifts and pushes in turn.

    Args:
        x, p: places and momenta (B, *D).
        step: of time; steps: how many of them.

    Returns:
        x and p after the time step * steps; with -p it leads back to where it began.
    """
    x = x.detach()
    p = p - step / 2 * with_slope(energy, x)[1]
    for left in range(steps - 1, -1, -1):
        x = x + step * p
        p = p - (step if left else step / 2) * with_slope(energy, x)[1]
    return x, p


# %% tags=["from:energy.sampling.hmc_step"]
def hmc_step(
    energy: Energy,
    x: Tensor,
    step: float,
    steps: int = 10,
    generator: Generator | None = None,
) -> tuple[Tensor, Tensor]:
    """Push every chain with a fresh momentum and follow it; accept by the total energy.

    a = exp(H(x, p) - H(x', p')) with H = E + |p|^2 / 2. One leapfrog step is MALA with
    eps = step^2.

    Returns:
        Where the chains are (B, *D), and which of them moved (B,).
    """
    check_step(step)
    p = noise_like(x, generator)
    y, q = leapfrog(energy, x, p, step, steps)
    with torch.no_grad():
        drop = (p.flatten(1).square().sum(1) - q.flatten(1).square().sum(1)) / 2
        log_a = energy(x) - energy(y) + drop
    return choose(x.detach(), y, log_a, generator)


# %% [markdown]
# 1,000 chains start in the right half of U1, with 1,200 slopes to spend for each. How many
# are on the left in the end? Half should be. And is their mean energy right?

# %%
on_grid = plot.mesh(((-5.0, 5.0), (-5.0, 5.0)), 300)
true_mean = (torch.softmax(-ring(on_grid), 0) * ring(on_grid)).sum().item()
methods = {  # a step, and the slopes that it costs
    "Langevin, eps = 0.02": (lambda x: langevin_step(ring, x, 0.02), 1),
    "Langevin, eps = 0.1": (lambda x: langevin_step(ring, x, 0.1), 1),
    "MALA, eps = 0.3": (lambda x: mala_step(ring, x, 0.3)[0], 2),
    "HMC, 10 steps of 0.4": (lambda x: hmc_step(ring, x, 0.4, 10)[0], 11),
}
seed_everything(0)
crossed, means = {}, {}
print(f"{'':24}{'on the left':>12}{'mean E':>10}   (truth: 50%, {true_mean:.3f})")
for name, (step, cost) in methods.items():
    x = torch.tensor([[2.0, 0.0]]).repeat(1000, 1)
    for _ in range(budget(1200, 60) // cost):
        x = step(x)
    crossed[name], means[name] = (x[:, 0] < 0).float().mean(), ring(x).mean()
    print(f"{name:24}{crossed[name]:12.0%}{means[name]:10.3f}")
if full_run():
    assert crossed["HMC, 10 steps of 0.4"] > 1.5 * crossed["MALA, eps = 0.3"]
    assert means["Langevin, eps = 0.1"] > true_mean + 0.03

# %% [markdown]
# For the same number of slopes HMC crosses about as often as Langevin with a large step, and
# without that one's error in the energy. MALA is exact, too, but walks at random. None has
# arrived: two valleys far apart defeat all of them.

# %% [markdown]
# ## Further: energies add
#
# Densities multiply, add and divide by simple arithmetic on energies, without any training.


# %% tags=["from:energy.langevin.both"]
def both(*energies: Callable) -> Callable:
    """Return the energy of "and": the sum, whose density is the product of densities."""
    return lambda x: torch.stack([E(x) for E in energies]).sum(0)


# %% tags=["from:energy.langevin.either"]
def either(*energies: Callable) -> Callable:
    """Return the energy of "or": -log sum e^-E, whose density is the sum of e^-E over Z.

    A part counts as much as its own Z is large: without those, the parts' weights are not
    chosen, they happen.
    """
    return lambda x: -torch.logsumexp(torch.stack([-E(x) for E in energies]), 0)


# %% tags=["from:energy.langevin.without"]
def without(energy: Callable, other: Callable, weight: float = 0.5) -> Callable:
    """Return the energy of "and not": E - weight * other; too much makes Z infinite."""
    return lambda x: energy(x) - weight * other(x)


# %% [markdown]
# The energy that was trained in section 5 meets a wish that was written by hand: a disc
# around $(1.4, 1.4)$. Its floor keeps `without` harmless far away. Move the weight $w$ of the
# wish. In `without` it is the weight of what is divided out.

# %%
seed_everything(0)
shift = log_z_grid(exact.energy, box, 300).float().item()
eights = lambda x: exact.energy(x) + shift  # so that its Z is 1
disc = lambda x: -torch.log(torch.exp(-(x - 1.4).square().sum(1) / 0.5) + 0.01)


def draw_composed(w):
    """And, or, not, each with its own Z on the grid."""
    weighted = lambda x: w * disc(x)
    composed = {
        "and": both(eights, weighted),
        "or": either(eights, weighted),
        "and not": without(eights, disc, w),
    }
    for ax, E in zip(plot.panels(*composed), composed.values()):
        log_z = log_z_grid(E, box, 150).detach().float()
        plot.density(lambda x, E=E, log_z=log_z: -E(x) - log_z, truth.bounds, ax, vmax=0.6)
        ax.set_xlabel(f"w = {w:.1f}, log Z = {log_z:.2f}")


play(draw_composed, w=(0.2, 2.0, 0.2, 1.0))

# %% [markdown]
# **Question.** Why has "or" no equal shares of the two, although nothing weighs them?
#
# <details><summary>Answer</summary>
#
# $-\log(e^{-E_1} + e^{-E_2})$ adds *unnormalised* densities: a part's share is its $Z$ over
# the sum of both. To choose shares one has to know each $Z$.
# </details>
#
# And "not" can have no density at all: without a floor, dividing by a narrow Gaussian is
# multiplying by $e^{+|x|^2\ldots}$, which the bowl does not hold. The integral grows with the
# box:

# %%
narrow = lambda x: (x - 1.4).square().sum(1) / 0.5
for half in (3.0, 6.0, 9.0):
    total = log_z_grid(without(eights, narrow, 1.0), ((-half, half),) * 2, 300).item()
    print(f"box of +-{half:.0f}: log Z = {total:6.1f}")
assert total > 50

# %% [markdown]
# ## Further: energy matching
#
# Chains from noise are slow because nothing leads them to the data. Energy matching (2025)
# trains one scalar $V$ in two phases. In phase one $-\nabla V$ is a velocity that carries
# $\mathcal N(0, I)$ to the data along straight lines in the time 1; the pairs of noise and
# data are chosen so that hardly any two paths cross.


# %% tags=["from:energy.energy_matching.paired"]
def paired(noise: Tensor, x: Tensor, rounds: int = 100) -> Tensor:
    """Return the rows of the noise in an order that is near to x: (B, D).

    In each round random pairs i, j swap their noise where that is nearer, which is where
    (z_i - z_j).(x_i - x_j) < 0. In the end hardly any two paths z -> x are longer than the
    same two exchanged.
    """
    z, half = noise.clone(), len(x) // 2
    for _ in range(rounds):
        i, j = torch.randperm(len(x))[: 2 * half].to(x.device).view(2, half)
        swap = ((z[i] - z[j]) * (x[i] - x[j])).sum(1, keepdim=True) < 0
        z[i], z[j] = torch.where(swap, z[j], z[i]), torch.where(swap, z[i], z[j])
    return z


# %% tags=["from:energy.energy_matching.temperature"]
def temperature(t: Tensor, T: float, tau: float) -> Tensor:
    """Return T(t): 0 up to tau, then a line up to T at t = 1, and T from there on."""
    return T * ((t - tau) / (1 - tau)).clamp(0, 1)


# %% tags=["from:energy.energy_matching.FlowPotential"]
class FlowPotential(EnergyNet):
    """A potential V whose slope carries N(0, I) to the data in the time 1: phase one.

    loss = E |-grad V(x_t) - (x - z)|^2,  x_t = (1 - t) z + t x,  z paired with x.
    There is no t in V, so it can only do that where paths do not cross.

    Args:
        D: dimension of a point.
        T, tau: temperature at which V / T is the energy; time up to which chains are cold.
        dt: size of a step in time.
        net: more about V, see `EnergyNet`.
    """

    def __init__(self, D: int, *, T=0.1, tau: float = 0.8, dt: float = 0.02, **net):
        super().__init__(D, **net)
        self.T, self.tau, self.dt = T, tau, dt

    def energy(self, x: Tensor) -> Tensor:
        """Return V(x) / T in nats: (B, D) -> (B,)."""
        return super().energy(x) / self.T

    def share(self, t: Tensor) -> Tensor:
        """Return how much the flow counts at the time t: (B, 1) -> (B,), 1 everywhere."""
        return torch.ones_like(t).squeeze(1)

    def loss(self, x: Tensor) -> Tensor:
        """Return the mean squared error of the velocity, weighted by `share`: ()."""
        z = paired(noise_like(validate.points(x, self.D, self)), x)
        t = torch.rand(len(x), 1, dtype=x.dtype, device=x.device)
        velocity = self.T * self.score((1 - t) * z + t * x)  # -grad V
        return (self.share(t) * (velocity - (x - z)).square().sum(1)).mean()

    def sample(self, n: int, until: float = 2.0) -> Tensor:
        """Carry n points of N(0, I) to a time, such as 1, when they arrive: (n, D)."""
        z = torch.randn(validate.count(n), self.D).to(next(self.parameters()))
        return carry(self, z, z.new_zeros(n, 1), round(until / self.dt))


# %% tags=["from:energy.energy_matching.carry"]
def carry(model: FlowPotential, x: Tensor, t: Tensor, steps: int) -> Tensor:
    """Take steps of size dt from the times t (B, 1): (B, D) -> (B, D)."""
    for _ in range(steps if len(x) else 0):
        _, slope = with_slope(model.energy, x)
        kick = (2 * temperature(t, model.T, model.tau) * model.dt).sqrt()
        x = x.detach() - model.dt * model.T * slope + kick * noise_like(x)
        t = t + model.dt
    return x.detach()


# %% [markdown]
# In phase two $V/T$ is also to be an energy of the data, by the loss of section 6. Chains
# from the noise follow the flow while it is cold, up to $t = \tau$, and get warm on arrival.


# %% tags=["from:energy.energy_matching.EnergyMatching"]
class EnergyMatching(FlowPotential):
    """Phase two: V / T becomes the energy of the data, where the flow leaves it free.

    loss = flow + contrast (mean V(data) - mean V(chains)). Half of the chains start at the
    data, half in the noise.

    Args:
        D, more: as of `FlowPotential`.
        contrast: what the second part weighs.
    """

    def __init__(self, D: int, *, contrast: float = 1.0, **more):
        super().__init__(D, **more)
        self.contrast = contrast

    def share(self, t: Tensor) -> Tensor:
        """Return 1 up to tau, then less and less, 0 at t = 1: (B, 1) -> (B,)."""
        return ((1 - t) / (1 - self.tau)).clamp(0, 1).squeeze(1)

    def loss(self, x: Tensor) -> Tensor:
        """Return the flow's error and the weighted contrast: (B, D) -> ()."""
        flow, start = super().loss(x), noise_like(x)
        at_data = torch.arange(len(x), device=x.device)[:, None] % 2 == 0
        chains = torch.where(at_data, x, start)
        chains = carry(self, chains, at_data.to(x.dtype), round(1.2 / self.dt))
        gap = self.energy(x).mean() - self.energy(chains).mean()
        return flow + self.contrast * self.T * gap


# %%
settings = {**shape, "T": 0.1, "dt": 0.04}
seed_everything(0)
flow, pairs = FlowPotential(2, **settings), forever(x_train, 128, generator(0))
n = budget(300, 3)
for _ in progress(train(flow, pairs, n, lambda k: 5e-3 * (1 - k / n)), n, "phase one"):
    pass
matched, m = EnergyMatching(2, contrast=5.0, **settings), budget(200, 3)
matched.load_state_dict(flow.state_dict())
for _ in progress(train(matched, pairs, m, lambda k: 2e-3 * (1 - k / m)), m, "phase two"):
    pass
gaps_of_phases = [kl(model.energy) for model in (flow, matched)]
for name, gap in zip(("phase one", "phase two"), gaps_of_phases):
    print(f"{name}: V / T is {gap:.3f} nats from the truth")
assert gaps_of_phases[1] < gaps_of_phases[0] or not full_run()

# %% tags=["fold"]
# @title Paths from the noise to the data, and the density of V / T, after both phases
seed_everything(1)
titles = ("phase one: paths", "its density", "phase two: paths", "its density")
for (left, right), model in zip(zip(*[iter(plot.panels(*titles))] * 2), (flow, matched)):
    path = [torch.randn(150, 2)]
    for k in range(32):
        path.append(carry(model, path[-1], torch.full((150, 1), k * model.dt), 1))
    left.plot(*torch.stack(path).permute(2, 0, 1), color=plot.GREY, linewidth=0.3)
    plot.scatter(path[0], left, color=plot.BLACK)
    plot.scatter(path[-1], left, truth.bounds, plot.ORANGE, size=9)
    density = Normalised(model, log_z_grid(model.energy, box, 300))
    plot.density(density.log_prob, truth.bounds, right, vmax=0.5)

# %% [markdown]
# The flow arrives after a few dozen steps, with no chain trained on. As a *density* phase
# one is poor, for no part of its loss asks what $V$ is where balls come to rest; phase two
# improves it. With so few steps it is still far behind the exact energy of section 5. The
# two aims also meet: where noise already lies on the data, a flow wants $V$ flat and an
# energy wants it deep.

# %% [markdown]
# ## Further: what the energy says of strange images
#
# An energy can say which images are unlikely. The AUROC is the probability that it gives a
# strange image a higher energy than a test digit: 1 is perfect, 0.5 is a coin. The control
# is the bowl of each model, without its network.
#
# **Question.** Which strange images will be the hardest?

# %%
pictures = x_held.view(-1, 1, 8, 8)
seed_everything(2)
strange = {
    "noise": 2 * torch.rand_like(x_held) - 1,
    "inverted": -x_held,
    "pixels shuffled": x_held[:, torch.randperm(64)],
    "mirrored": pictures.flip(3).flatten(1),
    "blurred": F.avg_pool2d(F.pad(pictures, [1] * 4, "replicate"), 3, 1).flatten(1),
    "mean of two digits": (x_held + x_held[torch.randperm(len(x_held))]) / 2,
}


@torch.no_grad()
def auroc(model, x):
    """P(E(x) > E(a digit))."""
    return (model.energy(x)[:, None] > model.energy(x_held)).float().mean().item()


judges = {"tilted": tilted, "fitted bowl": tilted.bowl}
judges |= {"round": rounded, "round bowl": rounded.bowl}
print(f"{'AUROC':20}" + "".join(f"{name:>12}" for name in judges))
scores = {name: [auroc(E, x) for E in judges.values()] for name, x in strange.items()}
for name, row in scores.items():
    print(f"{name:20}" + "".join(f"{value:12.3f}" for value in row))
if full_run():
    for name in ("noise", "inverted", "pixels shuffled"):  # the bowl alone finds them
        assert min(scores[name][:2]) > 0.98
    for name in ("blurred", "mean of two digits"):  # here the network did something
        assert scores[name][1] < 0.4 and scores[name][0] > scores[name][1] + 0.2

# %% [markdown]
# <details><summary>Answer</summary>
#
# Smooth ones: means of two digits, which the tilted energy does not tell from digits. Noise,
# inverted and shuffled digits are found almost always, but so they are by the fitted bowl
# alone. A Gaussian likes what lies near its centre, and averaging goes there: both bowls
# find blurred images and means *better* than digits (below 0.5). In the fitted bowl the
# network has raised both, blurred images far enough to be found more often than not.
# </details>
