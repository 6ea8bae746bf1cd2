# %% [markdown]
# # Straight to the point: flow matching
#
# A continuous flow can be learned by plain regression: draw a line from a data point to a
# noise point, and let a network guess its direction. The result samples, has an exact
# density, and can be straightened until one step is enough.

# %% [markdown] tags=["nav"]
# 56 minutes, and 8 further ·
# before this: [A thousand small steps: denoising diffusion](ddpm.ipynb), [Flowing in time: continuous flows](../flows/continuous.ipynb), [What you do not see: the variational autoencoder](../vae/vae.ipynb) ·
# [exercise](../../exercises/diffusion/flow_matching.ipynb) ·
# [solution](../../solutions/diffusion/flow_matching.ipynb)
#
# previous: [Steering: guidance, Palette and RePaint](guidance.ipynb) ·
# [all units](../index.ipynb) ·
# next: [One step: consistency, shortcuts and MeanFlow](few_step.ipynb)

# %% tags=["setup"]
import importlib.util

if importlib.util.find_spec("gdm_course") is None:
    raise ImportError(
        "the package gdm_course is not installed here: run 'make lab' in the course's "
        "folder, or 'pip install -e .[lab]', and choose that environment as the kernel"
    )

# %%
import math
import warnings
from collections.abc import Callable

import torch
from torch import Tensor, nn

from gdm_course import checkpoints, protocols, schematics, validate
from gdm_course import plotting as plot
from gdm_course.chance import own_chance
from gdm_course.data import images, toy
from gdm_course.data.download import Missing
from gdm_course.data.laws import Mixture
from gdm_course.diffusion import reflow
from gdm_course.diffusion.denoiser import Denoiser
from gdm_course.diffusion.dit import EveryWay, PictureFlow
from gdm_course.diffusion.flow_matching import (
    LEAST,
    Coupling,
    Following,
    NormalSource,
    independent,
)
from gdm_course.diffusion.latent_flow import FlowPrior
from gdm_course.diffusion.mixture import MixtureDenoiser
from gdm_course.diffusion.schedule import rowwise
from gdm_course.diffusion.score_sde import strata
from gdm_course.divergences.samples import energy_distance
from gdm_course.evaluation.two_sample import classifier_two_sample
from gdm_course.flows.continuous import NeuralODE, rademacher, unit_vectors
from gdm_course.flows.ode import Fixed, rk4_step
from gdm_course.flows.solver_error import (
    ROWS,
    LogProb,
    accountable,
    neighbour,
    solved_by,
    solver_error,
)
from gdm_course.learning import evaluating
from gdm_course.nets import mlp, precise, zero_last
from gdm_course.training import budget, full_run, generator, seed_everything, train
from gdm_course.vae.vae import LatentModel
from gdm_course.widgets import play, progress, watch

plot.style()

# %% [markdown]
# ## 1. The question
#
# The continuous flows of an earlier unit move data to noise along a learned velocity. They
# were trained by maximum likelihood, and every training step had to solve the differential
# equation. A diffusion is trained without a solver, but there is only one source, Gaussian
# noise, and its paths are bent. Can the velocity of a flow be *regressed*, one random point
# per row, from any source to any data?
#
# Our data are eight bells on a circle, divided by a number so that their mean square per
# coordinate is 1. They are a mixture of Gaussians, so the truth is known.

# %%
bells = toy.get("eight_gaussians")
rms = bells.sample(100_000, generator(0)).square().mean().sqrt().item()
law = Mixture(bells.law.means / rms, bells.law.sigma / rms, bells.law.weights)
best = MixtureDenoiser(law.means, law.sigma, law.weights)  # the exact E[x0 | x]
bounds = tuple((low / rms, high / rms) for low, high in bells.bounds)
x_test = law.sample(4000, generator(1)).float()
(ax,) = plot.panels("eight bells, mean square 1", width=4)
_ = plot.scatter(x_test, ax, bounds)

# %% [markdown]
# ## 2. The idea
#
# Left: lines between noise points (red) and bells (blue), in random pairs. Lines cross, and
# at a crossing two directions are right. Right: paths of points that always follow the
# *mean* direction of all lines through the place where they are. They bend away from each
# other, for at one place and time there is one mean. Both have the same density at every time:
# that is the whole trick, and section 3 proves it.

# %% tags=["fold"]
# @title Forty random lines, and forty paths along the mean direction of all lines
z = torch.randn(40, 2, generator=generator(2))
left, right = plot.panels("random lines", "the mean direction", width=4)
x, stations = z.double(), [z.double()]
for k in range(80):
    t = min(1 - k / 80, 1 - 1e-3)
    r, level = math.hypot(t, 1 - t), torch.tensor(2 * math.log((1 - t) / t))
    x = x - (x - best(x / r, level)) / t / 80
    stations.append(x)
paths = torch.stack(stations)
ends = law.sample(40, generator(3))
for i in range(40):
    left.plot(*zip(z[i].tolist(), ends[i].tolist()), color="#999999", linewidth=0.6)
    right.plot(*paths[:, i].T, color="#999999", linewidth=0.6)
for ax, end in ((left, ends), (right, paths[-1])):
    plot.scatter(z, ax, bounds, color="#C44E52", size=14)
    plot.scatter(end, ax, bounds, size=14)

# %% [markdown]
# ## 3. The mathematics
#
# **A line.** Let $x_0$ be data and $x_1$ its partner from the **source**, any density that we
# can sample. Time runs from data to the source, as in all units of this family:
#
# $$z_t=(1-t)\,x_0+t\,x_1,\qquad \frac{dz_t}{dt}=x_1-x_0. \tag{1}$$
#
# (Most papers on flow matching put noise at $t=0$. Then $t$ becomes $1-t$ and the velocity
# changes its sign.)
#
# **The mean of all lines** through $z$ at the time $t$ is the velocity that we want:
#
# $$v(z,t)=\mathbb E\,[\,x_1-x_0\;|\;z_t=z\,]. \tag{2}$$
#
# *In numbers:* data 0 and 1, partners 2 and $-2$. At $t=0.2$ both lines are at $z=0.4$: the
# first ($0+0.2\cdot2$) with velocity 2, the second ($1-0.2\cdot3$) with velocity $-3$. The
# mean velocity there is $(2-3)/2=-0.5$.
#
# **Points that follow $v$ have the density of $z_t$ at all times.** Take any smooth function
# $g$. Along the lines its mean changes by
#
# $$\frac{d}{dt}\,\mathbb E\,g(z_t)=\mathbb E\,[\nabla g(z_t)\cdot(x_1-x_0)]
#   =\mathbb E\,[\nabla g(z_t)\cdot v(z_t,t)].$$
#
# The last step takes the mean over all pairs with the same $z_t$ first, and
# $\nabla g(z_t)$ does not differ among these. But the right side is the rate of
# $\mathbb E\,g$ for points that have this density and move with the velocity $v$. Both start
# with the same density, and as long as it is the same the means of *all* functions $g$ change
# alike, so it stays the same (if $v$ is smooth enough that one path leads through each point).
#
# **Regression.** The best guess of a number in mean square is its conditional mean. So the
# network needs no solver:
#
# $$L(v_\theta)=\mathbb E\,|v_\theta(z_t,t)-(x_1-x_0)|^2
#   =\mathbb E\,|v_\theta-v|^2+\mathbb E\,|x_1-x_0-v|^2. \tag{3}$$
#
# The last part, the **floor**, does not depend on the network: it is how much lines through one
# place differ. The loss does not go to 0.
#
# **Sampling** goes back along $v$, in steps of length $h$ from $t=1$:
#
# $$x\leftarrow x-h\,v(x,t),\qquad t\leftarrow t-h. \tag{4}$$
#
# **It is diffusion in other clothes** where $x_1$ is drawn from $\mathcal N(0,I)$,
# independently of $x_0$. From (1), $x_1-x_0=(z-x_0)/t$, and so for all partners
#
# $$v(z,t)=\frac{z-\mathbb E[x_0\,|\,z]}{t}. \tag{5}$$
#
# Diffusion knows $\mathbb E[x_0\,|\,x]$ for $x=\alpha x_0+\sigma\epsilon$ with
# $\alpha^2+\sigma^2=1$. Divide $z$ by $\sqrt{(1-t)^2+t^2}$ and it is such an $x$, with
# $\text{log\_snr}=2\log\frac{1-t}{t}$.
#
# **Question.** A trained network has a loss of 0.9 at best, another data set's 0.1. Which of
# them is trained better?
#
# <details><summary>Answer</summary>
#
# Nobody can say. By (3) the loss is the error plus the floor, and the floor is another number
# for other data. Only the difference from the floor counts. </details>

# %% [markdown] tags=["notes"]
# 15 minutes for sections 1 to 3. Ask the room before (3) why the loss cannot be 0: let
# somebody draw two lines that cross. It sticks at "same density, other paths": point at the
# two panels of section 2. Leave out the proof's last sentence if late.

# %% [markdown]
# ## 4. Build
#
# First (1), and what the network is told of the time. It hears log_snr, as all networks of
# this family do, so that networks can be exchanged. log_snr is infinite at both ends, so
# times stay `LEAST` $=0.001$ away from them. (`rowwise` gives a time per row the shape of the
# rows.)


# %% tags=["from:diffusion.flow_matching.between"]
def between(x0: Tensor, x1: Tensor, t: Tensor | float) -> Tensor:
    """Go along the line of every pair, (1 - t) x0 + t x1, equation (1): (B, *D)."""
    t = rowwise(torch.as_tensor(t), x0)
    return (1 - t) * x0 + t * x1


# %% tags=["from:diffusion.flow_matching.clock"]
def clock(t: Tensor | float, x: Tensor) -> Tensor:
    """Return what the network is told of the time: 2 log((1 - t) / t) for each row, (B,).

    It is the log_snr of z_t where the source is noise, so that a network of any diffusion
    knows what is meant.
    """
    t = torch.as_tensor(t).to(x).expand(len(x))
    return -2 * torch.logit(t.clamp(LEAST, 1 - LEAST))


# %% [markdown]
# Then the network with the loss (3). `coupling` says who is whose partner; for now, `x1` as
# it was drawn. (`strata` draws times that are spread evenly over $[0,1]$; `validate` and
# `precise` guard against wrong shapes and low precision.)


# %% tags=["from:diffusion.flow_matching.VelocityNetwork"]
class VelocityNetwork(nn.Module):
    """A network of the velocity from data to a source, trained on lines between them.

    loss = E |velocity(z_t, t) - (x1 - x0)|^2 / D, t uniform, equation (3).

    Args:
        net: (x, log_snr (B,), y=None) -> velocity, as x; see `clock`.
        shape: of one example.
        source: what data flow to, with `sample(n)`; `NormalSource(shape)` if None.
        coupling: (x0, x1) -> the partner of every x0: `independent` or `optimal`.
        times: n -> times to train at, (n,); evenly spread if None.
    """

    def __init__(
        self, net, shape, *, source=None, coupling: Coupling = independent, times=strata
    ):
        super().__init__()
        validate.at_least(1, shape=tuple(shape))
        self.net, self.shape = net, tuple(shape)
        self.source = NormalSource(shape) if source is None else source
        self.coupling, self.times = coupling, times

    def velocity(self, x: Tensor, t: Tensor | float) -> Tensor:
        """Return where points go at the time t, a number or (B,): (B, *D) -> (B, *D)."""
        x = validate.points(x, self.shape, self, least=0)
        return precise(self.net(x, clock(t, x)))

    def loss(self, x: Tensor, x1: Tensor | None = None) -> Tensor:
        """Match lines from x to partners, which are drawn if x1 is None: ()."""
        x0, t = validate.points(x, self.shape, self), self.times(len(x)).to(x)
        x1 = self.coupling(x0, self.draw(len(x0))) if x1 is None else x1
        x1 = validate.points(x1, self.shape, self, name="x1")
        return (self.velocity(between(x0, x1, t), t) - (x1 - x0)).square().mean()

    def draw(self, n: int) -> Tensor:
        """Draw n points of the source, as the model's numbers are: (n, *D)."""
        like = next(iter([*self.parameters(), *self.buffers()]))
        return self.source.sample(validate.count(n)).to(like)


# %% [markdown]
# And (5), which makes a velocity of any denoiser: here of the exact one.


# %% tags=["from:diffusion.flow_matching.DenoiserVelocity"]
class DenoiserVelocity(nn.Module):
    """A denoiser's guess as a velocity, (z - E[x0 | z]) / t: a diffusion is a flow, (5).

    A diffusion has alpha^2 + sigma^2 = 1, a line (1 - t) + t = 1: z / |(1 - t, t)| is what
    the denoiser knows, at the same log_snr.

    Args:
        denoise: (x, log_snr, y) -> E[x0 | x]: `MixtureDenoiser`, or a DDPM's `denoise`.
    """

    def __init__(self, denoise: Callable[..., Tensor]):
        super().__init__()
        self.denoise = denoise

    def forward(self, z: Tensor, log_snr: Tensor, y: Tensor | None = None) -> Tensor:
        """Return E[x1 - x0 | z]: (B, *D), (B,) -> (B, *D)."""
        t = rowwise(torch.sigmoid(-log_snr / 2), z)
        x = z / (t.square() + (1 - t).square()).sqrt()
        return (z - self.denoise(x, log_snr, y)) / t


# %% [markdown]
# **Predict,** before you run: the exact velocity is put in the place of the network. Is its
# loss 0, nearly 0, or above 1? (A network that always says 0 has the loss
# $\mathbb E\,(x_1-x_0)^2=1+1=2$ per coordinate.)

# %%
exact = VelocityNetwork(DenoiserVelocity(best), (2,))
seed_everything(0)
points = law.sample(40_000, generator(4)).double()
floor = exact.loss(points).item()
always_0 = VelocityNetwork(lambda x, log_snr, y=None: torch.zeros_like(x), (2,))
zero = always_0.loss(points.float()).item()
print(f"loss of the exact velocity: {floor:.3f} per coordinate, of zero: {zero:.3f}")
assert 1 < floor < 1.7 and abs(zero - 2) < 0.05

# %% [markdown]
# <details><summary>Answer to the prediction</summary>
#
# Far from 0: this is the floor. In the middle of the way many lines with different directions
# cross, and no function of $z$ and $t$ can tell them apart. </details>
#
# Sampling by (4), and a density: the ODE goes from data to the source, and
# $\log p(x)$ is the source's at the end of the path plus the integral of the trace, by
# `NeuralODE` of the unit on continuous flows. `Following` only swaps the arguments of
# `velocity` for it. `@accountable` adds a warning, see the first section after the summary.


# %% tags=["from:diffusion.flow_matching.FlowMatching"]
@accountable
class FlowMatching(VelocityNetwork):
    """Flow matching: it is trained by regression, samples, and by its ODE has a density.

    Args:
        net, shape, more: as of `VelocityNetwork`; the source needs `log_prob` for ours.
        probes, solver: of `NeuralODE`; the exact trace, 32 Runge-Kutta steps if None.
    """

    def __init__(self, net, shape, *, probes=unit_vectors, solver=None, **more):
        super().__init__(net, shape, **more)
        self.probes, self.solver = probes, solver or Fixed(rk4_step, 32)

    def sample(self, n: int, steps: int = 50) -> Tensor:
        """Follow the velocity back from n points of the source, in Euler steps: (n, *D)."""
        return self.path(self.draw(n), steps)[-1]

    @torch.no_grad()
    def path(self, x1: Tensor, steps: int = 50) -> Tensor:
        """Return all stations from the source to data: (steps + 1, B, *D), (4)."""
        h = 1 / validate.count(steps, "steps", 1)
        stations = [x1]
        with evaluating(self):
            for k in range(steps):
                x = stations[-1]
                stations.append(x - h * self.velocity(x, 1 - k * h))
        return torch.stack(stations)

    def log_prob(self, x: Tensor) -> Tensor:
        """Return the source's log p at the path's end + log |det| in nats: (B,)."""
        ode = NeuralODE(Following(self), probes=self.probes, solver=self.solver)
        with evaluating(self):
            x1, log_det = ode(validate.points(x, self.shape, self))
        log_p = self.source.log_prob(x1) + log_det
        return log_p.where(log_p < math.inf, -math.inf)  # nan is not smaller either


# %% tags=["fold"]
# @title A data point, its partner, the line and the network
seed_everything(0)
shown, some, level = Denoiser(2), x_test[:100], torch.zeros(100)
seen = schematics.trace(shown, some, level)
d = schematics.Drawing(
    "Flow matching",
    "Data and a partner of the source make a point on their line; the network sees it and "
    "log_snr, and its answer is compared with the direction of the line.",
    100,
)
pair, snr = d.box("$x_0,\\ x_1$", (0, 1), of=some), d.box("log_snr", (1, 0), of=level)
line = d.box("$(1-t)x_0+t\\,x_1$", (1, 1), "operation")
way = d.box("$x_1-x_0$", (0, 2), "operation")
net, loss = (
    d.network(shown, "Denoiser", (2, 1)),
    d.box("squared error", (3, 1), "operation"),
)
d.arrow(pair, line, ""), d.arrow(pair, way, ""), d.arrow(snr, net, "")
d.arrow(line, net, "$z_t$", some), d.arrow(net, loss, "$v$", seen.first(shown).result)
d.arrow(way, loss, "")
d

# %% [markdown]
# ## 5. Train
#
# The training loop is the course's own. Beside the loss stands the floor.


# %%
def fit(steps, B=256, draw=None, seed=0, **how):
    """Make a flow, and train it on fresh batches with a rate that falls."""
    n, g = budget(steps, 5), generator(seed)
    seed_everything(seed)
    flow = FlowMatching(Denoiser(2), (2,), **how)
    fresh = ((draw or (lambda B, g: (law.sample(B, g).float(),)))(B, g) for _ in range(n))
    rate = lambda k: 2.5e-3 * (1 + math.cos(math.pi * k / n))
    return flow, train(flow, fresh, n, rate, clip=1.0)


flow, steps = fit(2000)
panels = {"samples": lambda ax: plot.scatter(flow.sample(1000, 30), ax, bounds)}
losses = [loss for _, loss in watch(steps, 500, panels, "squared error")]
late = sum(losses[-300:]) / len(losses[-300:])
with torch.no_grad():
    lost = law.log_prob(x_test.double()) - flow.log_prob(x_test).double()
kl, spread = lost.mean().item(), lost.std().item() / len(lost) ** 0.5
print(f"mean of the last losses {late:.3f}, floor {floor:.3f}")
print(f"KL(truth || model) {kl:.3f} ± {spread:.3f} nats")
assert isinstance(flow, protocols.Density) and isinstance(flow, protocols.Sampler)
if full_run():
    assert abs(late - floor) < 0.08 and kl < 0.6

# %% tags=["fold"]
# @title The density by the ODE beside the truth, and 2,000 samples
seed_everything(1)
truth_ax, model_ax, sample_ax = plot.panels("truth", "log_prob by the ODE", "samples")
plot.density(law.log_prob, bounds, truth_ax)
darkest = truth_ax.images[0].get_clim()[1]
plot.density(torch.no_grad()(flow.log_prob), bounds, model_ax, n=60, vmax=darkest)
_ = plot.scatter(flow.sample(2000), sample_ax, bounds)

# %% [markdown]
# **A diffusion, sampled as a flow.** The course has a DDPM of these bells, trained in the first
# unit of this family. (5) makes it a flow, and nothing is trained.

# %%
ddpm = checkpoints.load("diffusion/eight-gaussians")  # it sees x / 1.4
seed_everything(2)
other = FlowMatching(DenoiserVelocity(ddpm.denoise), (2,))
drawn = ddpm.decoder.show(other.sample(4000, 50)) / rms
clouds = {"DDPM as a flow": drawn, "our flow": flow.sample(4000, 50)}
clouds["more of the truth"] = law.sample(4000, generator(11)).float()
for name, x in clouds.items():
    energy = 1000 * energy_distance(x, x_test).item()
    print(f"{name}: energy distance {energy:.1f} / 1000")
    assert energy < 6 or not full_run()

# %% [markdown]
# The **energy distance** of two samples is $2\,\mathbb E|x-y|-\mathbb E|x-x'|-\mathbb
# E|y-y'|$: 0 for equal laws alone. Our estimate of it from samples has no bias, so it may be a
# little below 0; the last line is an example of pure chance. Both flows come close to that: a
# single step, in section 6, is hundreds of thousandths away.
#
# **Any source.** The diffusions of this family end in Gaussian noise. Flow matching needs
# samples of its source, and `log_prob` its density: here two moons are carried to the bells and
# back.

# %%
moons = toy.get("two_moons")
journey, steps = fit(1200, source=moons)
for _ in steps:
    pass
seed_everything(3)
begin = moons.sample(1500, generator(5))
route = journey.path(begin, 40)
titles = ("t = 1, moons", "t = 2/3", "t = 1/3", "t = 0, bells")
for ax, k in zip(plot.panels(*titles, width=2.6), (0, 13, 27, 40)):
    plot.scatter(route[k], ax, ((-2.2, 2.6), (-2.0, 2.0)))
with torch.no_grad(), warnings.catch_warnings():
    warnings.simplefilter("ignore")  # the solver's error is printed instead
    found = journey.log_prob(x_test[:500]).mean().item()
    unsure = solver_error(journey, x_test).mean().item()
truth = law.log_prob(x_test[:500].double()).mean().item()
print(f"mean log p of test points: {found:.2f} nats, truth {truth:.2f}")
print(f"the solver's own error: about {unsure:.2f} nats (see the end of the lecture)")
assert found > truth - 1.5 or not full_run()

# %% [markdown]
# **Question.** Moons are the source, but somebody adds $\log\mathcal N(x_1;0,I)$ in `log_prob`.
# Does the result integrate to 1? Of what is it the density?
#
# <details><summary>Answer</summary>
#
# It does: the trace belongs to the path, whatever starts there. It is the density of *Gaussian
# noise* that follows this flow to $t=0$. `sample` begins at moons, so it is not the density of
# the samples, and that its integral is 1 does not show the mistake. </details>

# %% [markdown] tags=["notes"]
# 20 minutes for sections 4 and 5. Ask before the training cell at which number the loss will
# end (the printed floor). The wrong answer to expect is "as low as the training allows".

# %% [markdown]
# ## 6. Who is whose partner?
#
# Nothing in (1) to (4) asked for random partners. Only the two ends have to have the right
# densities. (The denoiser of a diffusion in (5) did ask.) So pair every batch such that the squared lengths of its lines have the smallest
# sum: **minibatch optimal transport**.


# %% tags=["from:diffusion.flow_matching.optimal"]
def optimal(x0: Tensor, x1: Tensor) -> Tensor:
    """Pair a batch so that the squares |x0 - x1|^2 have the least sum: x1 in new order.

    x0 keeps its order, and so its labels. The time of the assignment is cubic in B.
    """
    from scipy.optimize import linear_sum_assignment

    cost = torch.cdist(x0.detach().flatten(1).double(), x1.detach().flatten(1).double())
    _, order = linear_sum_assignment(cost.square().cpu().numpy())
    return x1[torch.as_tensor(order, device=x1.device)]


# %% [markdown]
# **Play.** 256 noise points and 256 of the bells, paired in groups of $B$. The title counts
# the crossings among 60 of the lines.


# %%
def crossings(a, b):
    """Count the pairs of segments a_i b_i in the plane that cross."""
    side = lambda p, q, r: (
        (q - p)[..., 0] * (r - p)[..., 1] - (q - p)[..., 1] * (r - p)[..., 0]
    )
    A, B, C, D = a[:, None], b[:, None], a[None], b[None]
    apart = (side(A, B, C) * side(A, B, D) < 0) & (side(C, D, A) * side(C, D, B) < 0)
    return int(apart.sum()) // 2


def paired(B):
    """Pair 256 points with noise in groups of B."""
    x0, x1 = law.sample(256, generator(6)), torch.randn(256, 2, generator=generator(7))
    x1 = x1.double()
    return x0, torch.cat([optimal(p, q) for p, q in zip(x0.split(B), x1.split(B))])


def draw_pairs(B):
    """Draw 60 of the lines."""
    x0, x1 = (x[:60] for x in paired(B))
    (ax,) = plot.panels(f"groups of {B}: {crossings(x0, x1)} crossings", width=4)
    for p, q in zip(x0.tolist(), x1.tolist()):
        ax.plot(*zip(p, q), color="#999999", linewidth=0.6)
    plot.scatter(x1, ax, bounds, color="#C44E52", size=14)
    plot.scatter(x0, ax, bounds, size=14)


play(draw_pairs, B=[1, 4, 16, 64, 256])
ways = {}
for B in (1, 16, 256):
    x0, x1 = paired(B)
    ways[B] = (x1 - x0).square().mean().item(), crossings(x0[:60], x1[:60])
    print(f"B = {B:3}: mean square of the way {ways[B][0]:.3f}, crossings {ways[B][1]}")
for D in (2, 128):
    x0, x1 = torch.randn(2, 256, D, generator=generator(8))
    left = ((optimal(x0, x1) - x0).square().mean() / (x1 - x0).square().mean()).item()
    print(f"two Gaussians in {D:3} dimensions: {left:.0%} of the mean square is left")
assert ways[256][0] < ways[16][0] < ways[1][0] and ways[256][1] < ways[1][1] / 10
assert left > 0.6

# %% [markdown]
# Fewer crossings and shorter lines. The floor falls too: by (3) with $v_\theta=0$ it is at most
# the mean square of the way. But groups of finite size are a compromise: the best partners
# within a group are not those of the whole density. And in 128 dimensions 256 pairs of Gaussian
# points gain much less than in 2, as the last lines show.
#
# **Break it.** Sampling costs one evaluation a step, so take few: the switch is `steps`. Long
# steps are wrong where paths bend. How bent paths are has a number:
#
# $$S=\frac{\int_0^1\mathbb E\,|\dot x_t-(x_1-x_0)|^2\,dt}{\mathbb E\,|x_1-x_0|^2}, \tag{6}$$
#
# where $x_0$ and $x_1$ are the ends of one *path* and $\dot x_t$ its velocity.


# %% tags=["from:diffusion.reflow.straightness"]
def straightness(path: Tensor) -> Tensor:
    """Return how far paths are from straight lines at an even speed, (6): 0 is straight.

    S = int E|dx/dt - (x1 - x0)|^2 dt / E|x1 - x0|^2, by the differences of the stations.

    Args:
        path: stations at equal times, (T + 1, B, *D), as of `FlowMatching.path`.
    """
    path = validate.shaped(path, None, "path").flatten(2)
    T = validate.count(len(path) - 1, "the number of steps", 1)
    velocity, chord = T * path.diff(dim=0), path[-1] - path[0]
    bend = (velocity - chord).square().sum(-1).mean()
    return bend / chord.square().sum(-1).mean()


# %% [markdown]
# **Repair.** Optimal pairs are one way. **Reflow** is another: a flow, even a bent one, pairs
# every noise point with the data point where its path ends. Train a second flow on these pairs.
# Two paths of an ODE never meet at the same time. The straight lines between their ends might,
# but few do: compare the count with that of $B=1$ above. So there is little to average.

# %%
near, steps = fit(1200, B=128, coupling=optimal)
for _ in progress(steps, budget(1200, 5), "optimal pairs"):
    pass
seed_everything(4)
pairs = reflow.reflow_pairs(flow, budget(10_000, 200), budget(60, 4))
print("crossings among 60 lines of the pairs:", crossings(*(part[:60] for part in pairs)))


def some_pairs(B, g):
    """Draw B of the pairs, data and noise."""
    rows = torch.randint(len(pairs[0]), (B,), generator=g)
    return tuple(part[rows] for part in pairs)


second, steps = fit(2000, draw=some_pairs)
for _ in progress(steps, budget(2000, 5), "reflow"):
    pass

# %% [markdown]
# The table has the energy distance, in thousandths; *astray*, the share of points where the
# truth has $\log p<-8$, so as good as none; $S$, and the mean square of the *way* $x_1-x_0$ per
# coordinate.
#
# **Predict:** where does a *single* step (4) of the first flow lead, from $t=1$?

# %%
counts, models = (1, 2, 4, 10, 50), {"random": flow, "optimal": near, "reflow": second}
print(f"{'steps':8}", *(f"{k:>7}" for k in counts), "       S    way")
table, bends = {}, {}
for name, model in models.items():
    seed_everything(5)
    clouds = [model.sample(4000, k) for k in counts]
    table[name] = [1000 * energy_distance(x, x_test).item() for x in clouds]
    path = model.path(model.draw(2000), 50)
    bends[name], way = straightness(path).item(), (path[-1] - path[0]).square().mean()
    row = *(f"{e:7.1f}" for e in table[name]), f" {bends[name]:7.4f} {way:6.3f}"
    print(f"{name:8}", *row)
    astray = [(law.log_prob(x.double()) < -8).double().mean() for x in clouds]
    print(f"{'  astray':8}", *(f"{share:7.1%}" for share in astray))
if full_run():
    assert table["random"][0] > 500 and table["reflow"][0] < 25 and table["optimal"][0] < 60
    assert bends["random"] > 1 > 0.1 > bends["optimal"] and bends["reflow"] < 0.1

# %% tags=["fold"]
# @title One step of each flow: 1,500 points
seed_everything(6)
for ax, model in zip(plot.panels(*models, width=3), models.values()):
    plot.scatter(model.sample(1500, 1), ax, bounds)

# %% [markdown]
# <details><summary>Answer to the prediction</summary>
#
# To the mean of all data, into the hole in the middle. At $t=1$ the place says nothing about
# $x_0$, so that (5) is $z-\mathbb E[x_0]$ for every $z$: every path first heads for the middle,
# whichever bell it ends in. (The trained network is not exact, so its points scatter.) </details>
#
# After one step the energy distance hardly sees the thin bridges between the bells of *optimal*.
# *Astray* does.
#
# The course's longer run of this, `diffusion/reflow-eight-gaussians`, learns from the pairs of
# a diffusion (the table at the end has its figure). Reflow inherits errors: fitted perfectly, it
# makes the very points that the first flow made for its pairs.
#
# **Change** `B=128` in the cell of the two trainings to `B=16`, and run from there again. What
# happens to the straightness, and to 50 steps?
#
# <details><summary>Answer</summary>
#
# The lines cross more often, so paths bend more, as the slider shows. Fifty steps do not need
# straight paths. </details>
#
# **Question.** Random partners are 2 apart in mean square per coordinate. Which of the three
# flows shorten the way from noise to data?
#
# <details><summary>Answer</summary>
#
# All, as the column *way* shows. The ends of one bent path are already far nearer to each other
# than two random partners. Reflow hardly changes these ends, where lines do not cross. It
# straightens the path between them. </details>

# %% [markdown] tags=["notes"]
# 12 minutes for section 6. Let the room predict the one-step picture before it appears. The
# wrong answer: "eight blurred bells".

# %% [markdown]
# ## 7. Scale: the latents of a VAE
#
# In the space of pictures a flow needs a large network. A VAE has already made MNIST small:
# 32 numbers $z$. Its generator draws $z\sim\mathcal N(0,I)$ and decodes. But the codes that
# the encoder really uses, $z\sim q(z|x)$ over all $x$, the **aggregate posterior**, are not
# $\mathcal N(0,I)$. Where they never are, the decoder was never trained. So let a flow learn
# them: **latent diffusion**. ($z$ is the VAE's code here, no point
# of a line.) With $u=(z-\text{shift})/\text{scale}$ the flow is a density of
# $z$, and the VAE's bound holds with any density of $z$ as the prior:
#
# $$\log p(x)\ge\mathbb E_{z\sim q(z|x)}\Big[\log p(x|z)+\log p_{\text{flow}}(u)
#   -\sum_k\log\text{scale}_k-\log q(z|x)\Big]. \tag{7}$$
#
# `FlowPrior`, in [latent_flow.py](../../gdm_course/diffusion/latent_flow.py), is the two terms
# in the middle. Only the flow is trained; the VAE stays as it is.


# %% tags=["from:diffusion.latent_flow.LatentFlow"]
class LatentFlow(nn.Module):
    """A trained VAE whose prior is a flow: Trainable (the flow alone), Sampler, a bound.

    Args:
        vae: keeps its weights as they are.
        flow, shift, scale: of the prior, see `FlowPrior`.
    """

    def __init__(self, vae: LatentModel, flow: FlowMatching, shift=0.0, scale=1.0):
        super().__init__()
        self.vae, self.shape = vae.requires_grad_(False), vae.shape
        self.prior = FlowPrior(flow, shift, scale)

    def loss(self, x: Tensor) -> Tensor:
        """Return the flow's loss on one z ~ q(z | x) of every x: (B, *shape) -> ()."""
        with torch.no_grad(), evaluating(self.vae):
            z = self.vae.encode(x).sample()
        return self.prior.flow.loss(self.prior.inside(z))

    def elbo(self, x: Tensor) -> Tensor:
        """Return log p(x | z) + log p(z) - log q(z | x), z ~ q, a draw of (7): (B,)."""
        q = self.vae.encode(x)
        z = q.rsample()
        return self.vae.log_likelihood(x, z) + self.prior.log_prob(z) - q.log_prob(z)

    @torch.no_grad()
    def sample(self, n: int, steps: int = 50) -> Tensor:
        """Draw z by the flow, then x from p(x | z): (n, *shape)."""
        z = self.prior.sample(n, steps)
        with evaluating(self.vae):
            return self.vae.decode(z).sample()


# %% [markdown]
# Both models are checkpoints: the VAE of the unit on VAEs, and a flow of its codes, a
# perceptron. Can a small classifier tell codes from draws of either prior? One half is what it
# gets by guessing. And by how much does the flow raise the bound?

# %%
vae = checkpoints.load("vae/vae-mnist-cpu")
prior = checkpoints.load("diffusion/latent-mnist")
prior.probes = rademacher  # the trace, estimated without bias by one probe, not by 32
try:
    digits, real = images.load("binarized_mnist").x_test.flatten(1).float(), True
except Missing as missing:
    print(f"{missing}\nPictures that the VAE draws stand in for the digits:")
    digits, real = vae.sample(2000).flatten(1), False
digits = digits[torch.randperm(len(digits), generator=generator(8))[: budget(2000, 100)]]
seed_everything(7)
with torch.no_grad():
    codes = vae.encode(digits).sample()
    gain = prior.log_prob(codes) - vae.prior.log_prob(codes)  # only this differs in (7)
    bound = LatentFlow(vae, prior).elbo(digits).mean().item()
n = len(codes)
draws = {"N(0, I)": torch.randn(n, 32), "flow": prior.sample(n, 40)}
told = {name: classifier_two_sample(codes, z).share for name, z in draws.items()}
for name, share in told.items():
    print(f"codes or {name}: {share:.3f} right")
more, spread_of = gain.mean().item(), gain.std().item() / len(gain) ** 0.5
print(
    f"bound with the flow: {bound:.1f} nats, {more:.2f} ± {spread_of:.2f} more than without"
)
if full_run() and real:
    assert more > 5 * spread_of and max(told.values()) < 0.6

# %% tags=["fold"]
# @title What the decoder makes of both priors
seed_everything(8)
with torch.no_grad():
    pictures = [vae.decode(z[:40]).mean.view(-1, 1, 28, 28) for z in draws.values()]
for ax, x in zip(plot.panels("z from N(0, I)", "z from the flow", width=4), pictures):
    plot.image_grid(x, ax, columns=8)

# %% [markdown]
# The classifier hardly can, and the pictures look alike: the codes of this VAE are *nearly*
# $\mathcal N(0,I)$. The bound does see the difference: it compares two log densities of the
# same codes, pair by pair.
#
# **Question.** By how much can a better prior raise the bound at most?
#
# <details><summary>Answer</summary>
#
# By the KL of the aggregate posterior from $\mathcal N(0,I)$. In (7) only $\log p(z)$ changes,
# and its mean over all codes is largest if the prior is the aggregate posterior itself; the
# difference of the two means is then that KL. </details>
#
# ## 8. Summary
#
# - The velocity of a flow is the mean direction of all lines through a place. It is learned
#   by regression, and the loss has a floor.
# - With independent Gaussian noise as the source it is diffusion, rescaled; any other source
#   will do.
# - Partners may be chosen: optimal pairs in a batch make lines short and paths straight.
# - Reflow trains on the ends of its own paths. Then one step is nearly as good as fifty,
#   by the energy distance.
# - As the prior of a VAE a flow learns which codes are used, and the bound says by how much
#   that helps.

# %% tags=["fold"]
# @title All figures in one table
card = checkpoints.card("diffusion/reflow-eight-gaussians")["figures"][0]
rows = {
    "bells, floor of the loss": f"{floor:.3f} per coordinate",
    "bells, KL(truth || model)": f"{kl:.3f} ± {spread:.3f} nats",
    "one step, random pairs": f"{table['random'][0]:.1f} / 1000, energy distance",
    "one step, optimal pairs": f"{table['optimal'][0]:.1f} / 1000, energy distance",
    "one step, reflow": f"{table['reflow'][0]:.1f} / 1000, energy distance",
    "one step, reflow, longer run": f"{card['value']:.1f} ± {card['error']:.1f} / 1000",
    "MNIST, gain of the flow prior": f"{more:.2f} ± {spread_of:.2f} nats",
}
for name, value in rows.items():
    print(f"{name:32}{value}")

# %% [markdown]
# **Exercises:** [six functions with checks](../../exercises/diffusion/flow_matching.ipynb).
#
# **References.** Lipman and others (2023), *Flow matching for generative modeling*,
# arXiv:2210.02747. Liu, Gong and Liu (2023), *Flow straight and fast*, arXiv:2209.03003. Tong
# and others (2024), *Improving and generalizing flow-based generative models with minibatch
# optimal transport*, arXiv:2302.00482. Vahdat, Kreis and Kautz (2021), *Score-based generative
# modeling in latent space*, arXiv:2106.05931. Rombach and others (2022), *High-resolution
# image synthesis with latent diffusion models*, arXiv:2112.10752. Peebles and Xie (2023),
# *Scalable diffusion models with transformers*, arXiv:2212.09748.

# %% [markdown]
# ## Further: a likelihood is as good as its solver
#
# `log_prob` is exact up to the solver, and nobody sees the solver's error in the number. The
# exact velocity of the bells has no other error, and the exact density stands beside it. The
# estimate asks a second solver, with twice as many steps, about the first rows:


# %% tags=["from:flows.solver_error.compared"]
@torch.no_grad()
def compared(log_prob: LogProb, model: nn.Module, x: Tensor) -> Tensor | None:
    """Ask log_prob(model, x) of two solvers: how far apart they are in nats, (rows,).

    Both are asked with the same chance, so that random probes are the same. None if the
    solver is of a kind that we do not know.
    """
    ode, x = getattr(model, "ode", model), x[:ROWS]
    other, found = neighbour(ode.solver), []
    for solver in [ode.solver, other] if other else []:
        with solved_by(ode, solver), own_chance(0):
            found.append(log_prob(model, x))
    return (found[1] - found[0]).abs() if found else None


# %%
sure, rows_of = law.sample(64, generator(9)).double(), {}
right = law.log_prob(sure).mean().item()
print(f"exact: {right:.2f} nats")
for k in (1, 2, 4, 8, 16, 64):
    solver = Fixed(rk4_step, k)
    perfect = FlowMatching(DenoiserVelocity(best), (2,), solver=solver).double()
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        said = perfect.log_prob(sure)
    off = (said - law.log_prob(sure)).abs().mean().item()
    guess = solver_error(perfect, sure).mean().item()
    rows_of[k] = off, guess, bool(heard)
    note = "warned" if heard else ""
    print(
        f"{k:3} steps: {said.mean():8.2f}, off by {off:7.3f}, estimate {guess:7.3f} {note}"
    )
assert rows_of[1][2] and not rows_of[64][2] and rows_of[64][0] < 0.05 < rows_of[1][0]

# %% [markdown]
# With few steps the number is not a worse bound. It is wrong in either direction, and may look
# splendid. So `log_prob` of every model of the course that solves an ODE makes this estimate by
# itself, and warns beyond 0.02 nats per dimension (or 2 % of a large $\log p$).

# %% [markdown]
# ## Further: a transformer in place of the U-Net
#
# A **diffusion transformer** (DiT) cuts a picture into patches, which are its tokens. How noisy
# the picture is, and its label, become a vector $e$ that sets scale, shift and a gate in every
# block: **adaLN-Zero**. The gates begin at 0, so that at first every block does nothing.


# %% tags=["from:diffusion.dit.AdaBlock"]
class AdaBlock(nn.Module):
    """A transformer block that e steers: adaLN-Zero.

    h + gate * attention(norm(h) * (1 + scale) + shift), then the same with a perceptron.
    All six come from e by a layer that starts at 0: at first the block does nothing.

    Args: width of the stream, equal heads, numbers E in e.
    """

    def __init__(self, width: int, heads: int, E: int):
        super().__init__()
        self.told = zero_last(nn.Sequential(nn.SiLU(), nn.Linear(E, 6 * width)))
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.attention = EveryWay(width, heads)
        self.think = mlp((width, 4 * width, width), nn.GELU)

    def forward(self, h: Tensor, e: Tensor) -> Tensor:
        """Update the stream: (B, T, width), (B, E) -> (B, T, width)."""
        a, b, open_a, c, d, open_c = self.told(e)[:, None].chunk(6, -1)
        h = h + open_a * self.attention(self.norm(h) * (1 + a) + b)
        return h + open_c * self.think(self.norm(h) * (1 + c) + d)


# %%
small = images.load("digits")
seed_everything(9)
how = {"patch": 2, "width": 64, "depth": 3, "heads": 4, "classes": 10}
dit, n = PictureFlow((1, 8, 8), 17, **how), budget(400, 3)
g = generator(10)
rows = (torch.randint(len(small.x_train), (64,), generator=g) for _ in range(n))
labelled = ((small.x_train[i], small.y_train[i]) for i in rows)
rate = lambda k: 1.5e-3 * (1 + math.cos(math.pi * k / n))
trail = [loss for _, loss in progress(train(dit, labelled, n, rate, clip=1.0), n, "DiT")]
print(f"loss {trail[0]:.2f} at first, {sum(trail[-50:]) / len(trail[-50:]):.2f} at the end")
drawn = dit.sample(40, 20, torch.arange(10).repeat(4))
(ax,) = plot.panels("digits of the labels 0 to 9", width=5)
_ = plot.image_grid(drawn / 16, ax, columns=10)
assert trail[-1] < 0.6 * trail[0] or not full_run()

# %% [markdown]
# On 28 x 28 pixels with labels, `diffusion/dit-mnist` is a recipe for four minutes of a GPU.
