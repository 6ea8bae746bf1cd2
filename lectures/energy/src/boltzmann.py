# %% [markdown]
# # Likely is what lies low: Boltzmann machines
#
# Give every state an energy, and let what lies low be likely. Any function will do, and one
# number is missing: the sum over all states. We fit a small machine exactly, measure what
# goes wrong when a short chain stands in for that sum, see it fail, and learn to estimate
# the number itself.

# %% [markdown] tags=["nav"]
# 62 minutes, and 14 further ·
# before this: [What you do not see: the variational autoencoder](../vae/vae.ipynb) ·
# [exercise](../../exercises/energy/boltzmann.ipynb) ·
# [solution](../../solutions/energy/boltzmann.ipynb)
#
# previous: [A dictionary of pictures: VQ-VAE and finite scalar quantisation](../vae/vqvae.ipynb) ·
# [all units](../index.ipynb) ·
# next: [Causes and what they cause: belief nets, wake and sleep](belief_net.ipynb)

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
from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from gdm_course import checkpoints, protocols, schematics, validate
from gdm_course import plotting as plot
from gdm_course.data import images
from gdm_course.energy.ais import log_z_estimate, log_z_start, step_between
from gdm_course.energy.boltzmann import Ising, symmetric
from gdm_course.energy.normalise import Normalised, log_sum, log_z_states, states
from gdm_course.energy.rbm import coin, gibbs_matrix, logit_mean
from gdm_course.learning import on_backward
from gdm_course.nets import precise
from gdm_course.training import (
    budget,
    forever,
    full_run,
    generator,
    seed_everything,
    train,
)
from gdm_course.widgets import play, progress, watch

plot.style()

# %% [markdown]
# ## 1. The question
#
# So far every model was built so that its probabilities sum to 1. Autoregressive models
# multiply conditionals, flows change variables. What if we drop that demand, take *any*
# function $E(x)$, and call low values likely?
#
# Three small worlds of bits go with us. In the first we know the truth: ten seats around a
# table, of which three neighbours are taken, anywhere; then each bit is flipped with
# probability 0.05. The second has $4\times4$ pixels, which form bars *or* stripes. The third
# is digits, cut to black and white.

# %%
D = 10
every = states(D).float()  # all 1,024 states
seats = torch.stack([torch.tensor([1.0] * 3 + [0.0] * 7).roll(k) for k in range(D)])
on = 0.95 * seats + 0.05 * (1 - seats)  # p(bit = 1 | which three)
log_p = torch.logsumexp(every @ on.log().T + (1 - every) @ (1 - on).log().T, 1)
p = (log_p - math.log(D)).exp()  # the truth, (1024,)
assert abs(p.sum() - 1) < 1e-5

bars = states(4).float()[:, :, None].expand(-1, 4, 4)
bars_and_stripes = torch.cat([bars, bars.mT]).flatten(1)  # (32, 16)
digits = images.load("digits")
x_train, x_test = (x.flatten(1).ge(8).float() for x in (digits.x_train, digits.x_test))

seed_everything(0)
x_seats = every[p.multinomial(5000, replacement=True)]
first, *others = plot.panels("ten seats, 12 evenings", "bars or stripes", "digits")
first.imshow(x_seats[:12], cmap="gray")
first.set(xlabel="seat", ylabel="evening")
for ax, x in zip(others, (bars_and_stripes.view(-1, 4, 4), x_train[:64].view(-1, 8, 8))):
    plot.image_grid(x, ax, columns=8)

# %% [markdown]
# ## 2. The idea
#
# A magnet is a sheet of small arrows, each up or down. Neighbours that agree cost little
# energy, neighbours that disagree cost more. Heat shakes all of them. When it is hot, chance
# wins; when it is cold, low energy wins, and large domains form. In between, at
# $T = 2.27$, there are islands of every size.
#
# This **Ising model** is [36 lines](../../gdm_course/energy/boltzmann.py). Its `sweep` draws
# each arrow anew, given its four neighbours.
#
# **Predict, before you move the slider.** What does the sheet look like for $T\to\infty$, and
# for $T\to0$?


# %% tags=["fold"]
# @title A sheet of 64 x 64 arrows after 200 sweeps, at a temperature T
def sheet(T):
    seed_everything(0)
    x = Ising(64, T=T).sample(1, budget(200, 5))
    m = (2 * x - 1).mean()
    (ax,) = plot.panels(f"T = {T:.2f}, mean arrow {m:.2f}", width=3.6)
    plot.image_grid(x[:, None], ax)


play(sheet, T=(1.0, 4.0, 0.25, 2.25))

# %% [markdown]
# <details><summary>Answer</summary>
#
# Hot, every arrow is a coin toss: grey noise with mean 0. Cold, all arrows agree in the end;
# after 200 sweeps at $T=1$ there are still two domains, with a smooth border between them. A
# chain that has to move a border one arrow at a time is *slow*. Remember that.
# </details>
#
# A **Boltzmann machine** is such a sheet whose couplings are learned, and where anybody may be
# wired to anybody. A **restricted** one has two sides, *visible* units for the data and
# *hidden* units that explain it, with wires only between the sides.

# %% tags=["fold"]
# @title A Boltzmann machine, and a restricted one
d = schematics.Drawing(
    "Every unit wired to every other; and only across",
    "On the left five units, all wired. On the right three hidden units above four visible "
    "ones: each hidden unit is wired to each visible one, and to no hidden one.",
)
places = [(0, 1), (0.5, 0), (1.5, 0), (2, 1), (1, 2)]
units = [d.box(f"$x_{i + 1}$", at, "unit") for i, at in enumerate(places)]
hidden = [d.box(f"$h_{j + 1}$", (4.5 + j, 0), "unit") for j in range(3)]
visible = [d.box(f"$v_{i + 1}$", (4 + i, 2), "unit") for i in range(4)]
pairs = [(a, b) for i, a in enumerate(units) for b in units[:i]]
for a, b in pairs + [(v, h) for v in visible for h in hidden]:
    d.arrow(a, b, plain=True)
d

# %% [markdown]
# ## 3. The mathematics
#
# An energy $E$ of states $x$ gives probabilities
#
# $$p(x) = \frac{e^{-E(x)}}{Z}, \qquad Z = \sum_{x} e^{-E(x)}. \tag{1}$$
#
# $Z$ is the **partition function**. (A temperature would divide $E$; here it is 1.) With $D$
# bits the sum has $2^D$ terms. For the Boltzmann machine
# $E(x) = -\tfrac12 x^\top J x - b^\top x$, with symmetric wires $J$, none from a unit to itself
# ($J_{ii} = 0$), and biases $b$.
#
# *One unit, given the others.* If $x_i$ goes from 0 to 1, the energy falls by
# $a = \sum_{j\ne i} J_{ij}x_j + b_i$. In the ratio of the two probabilities $Z$ cancels:
#
# $$p(x_i = 1\mid\text{rest}) = \frac{e^{a}}{1 + e^{a}} = \mathrm{sigmoid}(a). \tag{2}$$
#
# *In numbers.* Two units with $J_{12} = \log 3$ and no biases: if $x_2$ is on, $x_1$ is on with
# probability $3/4$; if not, with $1/2$.
#
# *The slope.* Let $\theta$ be any parameter. From (1), $\log p(x) = -E(x) - \log Z$, and
# $\partial\log Z/\partial\theta = \tfrac1Z\sum_x e^{-E(x)}\,(-\partial E/\partial\theta)$ is a
# mean under the model. So the mean over the data has the slope
#
# $$\frac{\partial}{\partial\theta}\,\mathbb E_{\text{data}}[\log p] =
#   -\mathbb E_{\text{data}}\Bigl[\frac{\partial E}{\partial\theta}\Bigr]
#   + \mathbb E_{\text{model}}\Bigl[\frac{\partial E}{\partial\theta}\Bigr]. \tag{3}$$
#
# Press the energy down where data is, and pull it up where the model believes data to be. For a
# wire, (3) is the mean of $x_ix_j$ in the data minus that in the model.
#
# **Question.** Where does training end, if it ends? What does the model then have in common with the
# data?
#
# <details><summary>Answer</summary>
#
# Where (3) is 0: every $\mathbb E[x_i]$ and $\mathbb E[x_ix_j]$ is the same in data and model. Means
# and pairs are all that this machine can see.
# </details>

# %% [markdown] tags=["notes"]
# 14 minutes up to here. Let the room predict the slider. Expect "all black" for cold; show two
# domains and ask how a border could ever vanish. Derive (3) on the board: the step that gets lost
# is that the derivative of log Z is a mean *under the model*.

# %% [markdown]
# ## 4. Build: a machine that is fitted exactly
#
# With ten bits we can afford all 1,024 states. `log_z_states` goes through them, and autograd
# does (3). (`precise` keeps float32 where mixed precision would drop digits.)


# %% tags=["from:energy.boltzmann.BoltzmannMachine"]
class BoltzmannMachine(nn.Module):
    """E(x) = -1/2 x'Jx - b'x over D bits, each wired to each: fitted exactly.

    Args: D, the number of bits; `loss` visits all 2^D states, so 20 is already slow.
    """

    def __init__(self, D: int):
        super().__init__()
        validate.at_least(1, D=D)
        self.wires = nn.Parameter(torch.zeros(D * (D - 1) // 2))
        self.b = nn.Parameter(torch.zeros(D))

    def energy(self, x: Tensor) -> Tensor:
        """Return E(x) in nats: bits (B, D) -> (B,)."""
        x, J = validate.bits(x, len(self.b), self.b), symmetric(self.wires, len(self.b))
        return -precise((x @ J * x).sum(1) / 2 + x @ self.b)

    def log_z(self) -> Tensor:
        """Return log Z by visiting all 2^D states: (), float64."""
        return log_z_states(self.energy, len(self.b))

    def loss(self, x: Tensor) -> Tensor:
        """Return the exact mean of -log p(x) in nats, whose slope is minus (3)."""
        E = self.energy(x)
        return E.mean() + self.log_z().to(E.dtype)

    @torch.no_grad()
    def gibbs(self, x: Tensor, k: int = 1, generator: Generator | None = None) -> Tensor:
        """Draw each unit in turn, k times: p(x_i = 1 | rest) = sigmoid((Jx + b)_i), (2)."""
        x, J = x.clone(), symmetric(self.wires, len(self.b))
        for i in [*range(len(self.b))] * k:
            x[:, i] = coin(torch.sigmoid(x @ J[i] + self.b[i]), generator)
        return x

    def sample(self, n: int, k: int = 200) -> Tensor:
        """Start at coin tosses and draw every unit k times: (n, D) bits."""
        x = coin(self.b.new_full((validate.count(n), len(self.b)), 0.5).detach())
        return self.gibbs(x, validate.count(k, "k"))


# %% [markdown]
# Fit it to the 5,000 draws. The panel shows the wires $J$; the truth stands beside the model as
# a KL divergence, exactly, since we know both.

# %%
seed_everything(0)
machine, steps = BoltzmannMachine(D), budget(400, 10)
panels = {
    "wires J": lambda ax: ax.imshow(
        symmetric(machine.wires, D).detach(), cmap="PuOr", vmin=-3, vmax=3
    )
}
rate = lambda step: 0.05 * (1 - step / steps)
for _ in watch(train(machine, forever(x_seats, 500), steps, rate), panels=panels):
    pass


def kl_to(model):
    """KL(truth || model) over all states, in nats."""
    with torch.no_grad():
        return (p * (p.log() + model.energy(every) + model.log_z())).sum().item()


independent = BoltzmannMachine(D)
independent.b.data = logit_mean(x_seats)
kl_pairs, kl_none = kl_to(machine), kl_to(independent)
print(f"KL: no wires {kl_none:.2f}, all wires {kl_pairs:.2f} nats")
q = torch.softmax(-machine.energy(every), 0)
gap = (every.T * q) @ every - x_seats.T @ x_seats / len(x_seats)
if full_run():
    assert gap.abs().max() < 0.02  # means and pairs agree: (3) is nearly 0
    assert kl_pairs < 0.4 * kl_none

# %% [markdown]
# It found the table: next-door neighbours attract each other (purple), two apart there is hardly a
# wire, and seats three or more apart repel (orange). But pairs are not all there is to know, and
# 0.2 nats are left over.
#
# What does the exact sum cost when $D$ grows?

# %%
sizes, seconds = (12, 14, 16, 18, 20), []
for n in sizes[: budget(5, 2)]:
    start = time.perf_counter()
    with torch.no_grad():
        BoltzmannMachine(n).log_z()
    seconds.append(time.perf_counter() - start)
years = seconds[-1] * 2.0 ** (64 - 20) / 3.15e7
print(", ".join(f"D = {n}: {s:.3f} s" for n, s in zip(sizes, seconds)))
print(f"D = 64, for an 8 x 8 picture: about {years:,.0f} years")

# %% [markdown]
# ## 5. Build: wires between two sides only
#
# Hidden units let a machine see more than pairs. In a restricted Boltzmann machine (RBM) the
# energy is $E(v,h) = -v^\top W h - b^\top v - c^\top h$. Given $v$, it is a sum of one term for
# each hidden unit, so these are *independent*, and likewise the other way round:
#
# $$p(h_j{=}1\mid v) = \mathrm{sigmoid}(c + W^\top v)_j, \qquad
#   p(v_i{=}1\mid h) = \mathrm{sigmoid}(b + W h)_i. \tag{4}$$
#
# For the same reason the sum over all $2^H$ hidden patterns is a product of sums over
# $h_j\in\{0,1\}$, each of them $1 + e^{(c + W^\top v)_j}$. Its logarithm is called **softplus**. So the
# **free energy** $F(v) = -\log\sum_h e^{-E(v,h)}$ is
#
# $$F(v) = -b^\top v - \sum_{j}\mathrm{softplus}(c + W^\top v)_j,
#   \qquad p(v) = \frac{e^{-F(v)}}{Z}. \tag{5}$$


# %% tags=["from:energy.rbm.Wires"]
class Wires(nn.Module):
    """E(v, h) = -v'Wh - b'v - c'h, and what follows for one side given the other.

    Args:
        D: visible units.
        H: hidden units.
    """

    def __init__(self, D: int, *, H: int = 64):
        super().__init__()
        validate.at_least(1, D=D, H=H)
        self.W = nn.Parameter(0.01 * torch.randn(D, H))
        self.b, self.c = nn.Parameter(torch.zeros(D)), nn.Parameter(torch.zeros(H))

    def joint_energy(self, v: Tensor, h: Tensor) -> Tensor:
        """Return E(v, h) in nats: bits (B, D) and (B, H) -> (B,)."""
        v = validate.bits(v, len(self.b), self.b, name="v")
        h = validate.bits(h, len(self.c), self.c, name="h")
        return -precise((v @ self.W * h).sum(1) + v @ self.b + h @ self.c)

    def hidden(self, v: Tensor) -> Tensor:
        """Return p(h_j = 1 | v) = sigmoid(c + v'W)_j, (4): (B, D) -> (B, H)."""
        v = validate.points(v, len(self.b), self.b, name="v", least=0)
        return torch.addmm(self.c, v, self.W).sigmoid_()

    def visible(self, h: Tensor) -> Tensor:
        """Return p(v_i = 1 | h) = sigmoid(b + Wh)_i, (4): (B, H) -> (B, D)."""
        h = validate.points(h, len(self.c), self.c, name="h", least=0)
        return torch.addmm(self.b, h, self.W.T).sigmoid_()

    def energy(self, v: Tensor) -> Tensor:
        """Return F(v) = -log sum_h e^-E(v, h), the free energy, (5): (B, D) -> (B,)."""
        v = validate.bits(v, len(self.b), self.b)
        return -precise(v @ self.b) - F.softplus(precise(self.c + v @ self.W)).sum(1)

    def hidden_energy(self, h: Tensor) -> Tensor:
        """Return -log sum_v e^-E(v, h): (5) from the other side, (B, H) -> (B,)."""
        h = validate.bits(h, len(self.c), self.c, name="h")
        return -precise(h @ self.c) - F.softplus(precise(self.b + h @ self.W.T)).sum(1)


# %% [markdown]
# `hidden_energy` is (5) with the sides exchanged. It makes $Z$ a sum over $2^H$ patterns, if $H$
# is the smaller number: 65,536 terms for 16 hidden units, whatever the picture's size.

# %%
seed_everything(1)
wires = Wires(7, H=4)
wires.W.data.normal_()
v, h = states(7).float(), states(4).float()
joint = torch.stack([wires.joint_energy(v, one.expand(len(v), 4)) for one in h], 1)
assert torch.allclose(wires.energy(v), -torch.logsumexp(-joint, 1), atol=1e-5)
assert torch.allclose(wires.hidden(v), torch.softmax(-joint, 1) @ h, atol=1e-5)
here, there = log_z_states(wires.energy, 7), log_sum(wires.hidden_energy, states(4))
print(f"log Z from 128 visible states {here:.5f}, from 16 hidden ones {there:.5f}")
assert torch.allclose(here, there)

# %% [markdown]
# Equation (3) needs means under the model. Where the sum is too long, let a **Gibbs chain** draw: all
# hidden units given the visible ones, then all visible ones given the hidden. **Contrastive
# divergence** (CD-$k$, Hinton 2002) starts this chain at the data and stops after $k$ steps, where it
# may be far from the model.


# %% tags=["from:energy.rbm.RBM"]
class RBM(Wires):
    """Trained by contrastive divergence: k steps of a chain that starts at the data.

    Args: D, H as of Wires; k, the steps of the chain in `loss`.
    """

    def __init__(self, D: int, *, H: int = 64, k: int = 1):
        super().__init__(D, H=H)
        self.k = validate.count(k, "k", 1)

    @torch.no_grad()
    def gibbs(self, v: Tensor, k: int = 1, generator: Generator | None = None) -> Tensor:
        """Take k steps v -> h -> v, all units of a side at once: (B, D) -> (B, D)."""
        for _ in range(k):
            v = coin(self.visible(coin(self.hidden(v), generator)), generator)
        return v

    def gap(self, v: Tensor, ends: Tensor) -> Tensor:
        """Return mean F(v) - mean F(ends), in one go; descent on it climbs (3): ()."""
        v = validate.shaped(v, len(self.b)).to(self.b)
        F_all = self.energy(torch.cat([v, ends]))
        return F_all[: len(v)].mean() - F_all[len(v) :].mean()

    def loss(self, v: Tensor) -> Tensor:
        """Return mean F(data) - mean F(chain): descent climbs (3), its value is idle."""
        v = validate.bits(v, len(self.b), self.b)
        return self.gap(v, self.gibbs(v, self.k))

    @torch.no_grad()
    def sample(self, n: int, k: int = 1000) -> Tensor:
        """Start n chains at coin tosses and take k steps: (n, D), in the limit exact."""
        shape = validate.count(n), len(self.b)
        return self.gibbs(coin(self.b.new_full(shape, 0.5)), validate.count(k, "k"))

    def log_z(self) -> Tensor:
        """Return log Z by visiting all states of the smaller side: (), float64."""
        if len(self.c) > len(self.b):
            return log_z_states(self.energy, len(self.b))
        return log_sum(self.hidden_energy, states(len(self.c)).to(self.c.device), rows=4096)


# %% [markdown]
# `coin` tosses a coin for each probability. By (5), $F$ is an energy of $v$ alone, so (3) holds with
# $F$ for $E$. The loss is a *difference* of free energies: descent on it climbs along (3), with the
# ends of the chain in place of the model. Its value says nothing; it can fall or rise while the
# model gets better.
#
# ## 6. How wrong is a short chain?
#
# With 10 visible and 6 hidden units the chain is a matrix: `gibbs_matrix` holds the chances
# $T(v, v')$ of one step. The ends of CD-$k$ are then distributed as $p_{\text{data}}T^k$, without
# any sampling, and we can compare the slope that CD-$k$ follows on average with the exact one. We
# train by the exact slope, and measure on the way.

# %%
seed_everything(0)
rbm, steps, bias, second = RBM(D, H=6), budget(3000, 40), {}, []
weights, marks = [*rbm.parameters()], [0, *range(steps // 10, steps + 1, steps // 10)]
slope = lambda loss: torch.cat([g.flatten() for g in torch.autograd.grad(loss, weights)])
for step in progress(range(steps + 1), label="exact slope"):
    E = rbm.energy(every)
    exact = slope((E * (p - torch.softmax(-E.detach(), 0))).sum())  # (3), all states
    if step in marks:  # p T^k is where CD-k ends
        T, ends = gibbs_matrix(rbm), p.double()
        second.append(torch.linalg.eigvals(T).abs().sort().values[-2].item())
        for k in range(1, 51):
            ends = ends @ T
            if k in (1, 10, 50):
                wrong = slope((rbm.energy(every) * (p - ends)).sum()) - exact
                bias.setdefault(f"CD-{k}", []).append(float(wrong.norm() / exact.norm()))
    with torch.no_grad():
        for w, g in zip(weights, exact.split([w.numel() for w in weights])):
            w -= 0.2 * g.view_as(w)
print(f"KL {kl_to(rbm):.2f} nats; relative error of CD-1 {bias['CD-1'][-1]:.2f}")
if full_run():
    late = sum(bias["CD-1"][-5:]) / 5
    assert late > 1.5 * bias["CD-1"][1]
    assert bias["CD-50"][-1] < 0.2 * late

# %% tags=["fold"]
# @title Error of the slope of CD-k, and the memory of the chain, along training
left, right = plot.panels(
    "error of the slope, relative", "memory of one Gibbs step", width=4
)
plot.curves(bias, left, marks, ylabel="|CD-k - exact| / |exact|")
plot.curves({"second eigenvalue": second}, right, marks, ylabel="second eigenvalue of T")
for ax, low in ((left, 0), (right, 0)):
    ax.set(ylim=(low, 1))

# %% [markdown]
# At first the wires are weak, one step forgets the data, and CD-1 is right. As the wires grow, a
# step changes less and less. The second largest eigenvalue of $T$ is the share of the slowest
# disturbance that is still there one step later. It climbs towards 1, and the error of CD-1 climbs with it,
# in ups and downs. Fifty steps are nearly exact, at fifty times the price.
#
# **Question.** With an eigenvalue of 0.93, after how many steps is less than 1 % of a disturbance left?
#
# <details><summary>Answer</summary>
#
# $0.93^k < 0.01$ gives $k > \log 0.01/\log 0.93 \approx 63.5$: after 64.
# </details>

# %% [markdown] tags=["notes"]
# 16 minutes for sections 4 to 6. Where it sticks: "the loss went up, is my code wrong?" It is a
# difference of two free energies, and Z is not in it. Leave out the costs of the exact sum if time is short.

# %% [markdown]
# ## 7. Break it: bars and stripes
#
# Another way to get closer to the model: never restart the chains. **Persistent** contrastive
# divergence (PCD, Tieleman 2008) lets them go on while the model slowly changes under them.


# %% tags=["from:energy.rbm.PersistentRBM"]
class PersistentRBM(RBM):
    """An RBM whose chains go on from one step of training to the next: PCD-k.

    They are the buffer `chain`, bytes. A step of training compares the data with where they
    are, and then moves them; a loss that is only looked at leaves them there.

    Args:
        D, H, k: as of RBM.
        chains: how many.
    """

    def __init__(self, D: int, *, H: int = 64, k: int = 1, chains: int = 100):
        super().__init__(D, H=H, k=k)
        validate.at_least(1, chains=chains)
        self.register_buffer("chain", torch.randint(2, (chains, D), dtype=torch.uint8))

    def loss(self, v: Tensor) -> Tensor:
        """Return mean F(data) - mean F(chains), as of RBM."""
        ends = self.chain.to(self.b)
        gap = self.gap(v, ends)
        if not self.training:
            return gap
        return on_backward(gap, lambda: self.chain.copy_(self.gibbs(ends, self.k)))

    @torch.no_grad()
    def ascend(self, v: Tensor, lr: float) -> None:
        """Take the step that plain descent on `loss` takes, by (3) itself and in place.

        Args: v (B, D), bits as real numbers, whose values are not looked at again.
        """
        v, ends = validate.points(v, len(self.b), self.b, name="v"), self.chain.to(self.b)
        both, n = torch.cat([v, ends]), len(v)
        h = self.hidden(both)  # of the data, then of the chains
        self.chain.copy_(self.gibbs(coin(self.visible(coin(h[n:]))), self.k - 1))
        share = both.new_full((len(both),), 1 / n)
        share[n:] = -1 / len(ends)  # data minus chains
        pull = h.mul_(share[:, None])
        self.W.addmm_(both.T, pull, alpha=lr)
        self.b.addmv_(both.T, share, alpha=lr)
        self.c.add_(pull.sum(0), alpha=lr)


# %% [markdown]
# `on_backward` moves the chains only if the loss is really used for training. `ascend` is the whole step
# without autograd: all products of (3) are known, so it writes data minus chains straight into the weights.
#
# Bars and stripes have 32 patterns (two of them twice), so the best mean $\log p$ is $-3.38$ nats.
# With 16 hidden units $\log Z$ is exact, and the true likelihood can be watched. Here is the training
# loop in full, by hand, without autograd: the slope (3) for each wire, pairs in the data minus pairs
# at the ends of the chains.
#
# **Predict, before you run.** At a constant rate of 0.3: what does the likelihood do under CD-1, and under PCD-1?

# %%
best = -math.log(32) + 4 / 32 * math.log(2)  # two of the patterns come twice


@torch.no_grad()
def learn(persistent, rate, k=1, fade=False, decay=0.0, seed=0):
    """Train on bars and stripes: the exact mean log p, every 200 steps, and the RBM."""
    seed_everything(seed)
    x, steps, told = bars_and_stripes, budget(10_000, 400), []
    rbm = RBM(16, H=16)
    v = x
    for step in progress(range(steps), label=f"k = {k}"):
        v = rbm.gibbs(v if persistent else x, k)
        h, far = rbm.hidden(x), rbm.hidden(v)
        lr = rate * (1 - step / steps) if fade else rate
        rbm.W += lr * ((x.T @ h - v.T @ far) / len(x) - decay * rbm.W)
        rbm.b += lr * (x - v).mean(0)
        rbm.c += lr * (h - far).mean(0)
        if step % 200 == 199:
            told.append(-(rbm.energy(x).mean() + rbm.log_z()).item())
    return told, rbm


row, patterns = "{:25s}{:>7}{:>8}{:>13}{:>7}{:>15}".format, bars_and_stripes.unique(dim=0)


@torch.no_grad()
def audit(runs):
    """Where the probability lies: all of it by enumeration, in nats, shares and numbers."""
    print(row("mean log p in nats:", "best", "end", "on patterns", "even", "reconstructed"))
    for name, (told, rbm) in runs.items():
        q = torch.exp(-rbm.energy(patterns) - rbm.log_z())  # of the 30 patterns
        even = torch.distributions.Categorical(q).entropy().exp()  # as good as so many
        kept = (rbm.gibbs(patterns) == patterns).float().mean()  # of bits, by one step
        ends = f"{max(told):.2f}", f"{told[-1]:.2f}"
        print(row(name, *ends, f"{q.sum():.2f}", f"{even:.1f}", f"{kept:.2f}"))


broken = {"CD-1": learn(False, 0.3), "PCD-1": learn(True, 0.3)}
audit(broken)
if full_run():
    assert all(told[-1] < max(told) - 0.5 for told, _ in broken.values())

# %% [markdown]
# <details><summary>Answer</summary>
#
# Both rise, and then *fall*. The table says what is lost. Nearly all probability lies *on* the 30 true
# patterns, but it is divided unevenly: *even* is the number of equally likely patterns that would have the same
# entropy. A chain that steps back onto its own pattern says nothing of how much the *other* patterns get, so that
# these shares drift. In PCD the wires follow a few slow chains to wherever they sit.
# </details>
#
# If chains that hardly move are the reason, three repairs should work: more steps ($k = 10$); weight decay, which
# takes $W/1000$ from the slope, since weak wires forget fast (section 6); and for PCD a small rate that fades.

# %%
repaired = {
    "CD-10": learn(False, 0.3, k=10),
    "CD-1, weight decay": learn(False, 0.3, decay=1e-3),
    "PCD-1, small fading rate": learn(True, 0.05, fade=True),
}
audit(repaired)
if full_run():
    floor = broken["CD-1"][0][-1] + 0.5
    assert all(told[-1] > floor for told, _ in repaired.values())
    assert all(told[-1] > best - 0.9 for told, _ in list(repaired.values())[1:])

# %% tags=["fold"]
# @title The exact mean log p of bars and stripes, along training
axes = plot.panels("constant rate 0.3", "repaired", width=4.2)
for ax, runs in zip(axes, (broken, repaired)):
    at = 200 * torch.arange(1, 1 + len(broken["CD-1"][0]))
    plot.curves({name: told for name, (told, _) in runs.items()}, ax, at, ylabel="nats")
    ax.axhline(best, color=plot.GREY, linestyle="--")
    ax.set(ylim=(-14, -3))

# %% [markdown]
# All three end above where CD-1 ended. With weight decay, or with a small rate that fades, the model ends within 0.7 nats of
# the dashed line, the best there is. CD-10 gets as high and then *falls, too*, only later: ten steps make the error of the
# slope smaller, not zero. (So it was with four seeds.) The last column is what people watch instead: the bits that one step from a pattern keeps. It
# tells the broken runs from the repaired ones not at all.
#
# **Change this and run again:** set `k=10` for PCD at the rate 0.3. Do more steps save it?
#
# <details><summary>Answer</summary>
#
# No, it still crashes, to $-11$ nats in our run: for chains that go on, the rate has to be small against the speed at
# which they move.
# </details>

# %% [markdown] tags=["notes"]
# 10 minutes. Ask what a learning curve of the *reconstruction error* would show: nothing wrong. This is
# the moment to say that many RBMs in old papers were never evaluated by their likelihood.

# %% [markdown]
# ## 8. Estimate log Z
#
# With 500 hidden units no side is small. **Annealed importance sampling** (AIS, Neal 2001) walks from a model
# whose $Z_0$ is known to ours. Between independent bits with biases $a$ ($\beta=0$) and the RBM ($\beta=1$) lie
# the unnormalised $f_\beta$, with $(1-\beta)a + \beta b$ for the visible biases and $\beta W$, $\beta c$. A chain
# starts at independent bits and goes up $\beta_0 = 0 < \dots < \beta_K = 1$. Before each move it notes how much
# likelier its state $v_k$ has just become:
#
# $$\log w = \sum_{k=1}^{K} \log f_{\beta_k}(v_k) - \log f_{\beta_{k-1}}(v_k),
#   \qquad \mathbb E[w] = \frac{Z}{Z_0}. \tag{6}$$
#
# Why that mean? For $K = 1$ it is importance sampling: $\mathbb E[w] = \sum_v \frac{f_0(v)}{Z_0}\frac{f_1(v)}{f_0(v)}
# = \frac{Z}{Z_0}$. With more temperatures, sum over $v_1$ first. The first ratio turns $f_0$ into $f_{\beta_1}$, and the move
# $T$ leaves that as it is: $\sum_{v_1} f_{\beta_1}(v_1)\,T(v_1, v_2) = f_{\beta_1}(v_2)$. The next ratio turns it into
# $f_{\beta_2}$, and so on up to $\sum_v f_1(v) = Z$. Each ratio stays closer to 1 than the one leap.


# %% tags=["from:energy.ais.log_between"]
def log_between(
    rbm: RBM, a: Tensor, B: float, v: Tensor, inputs: Tensor | None = None
) -> Tensor:
    """Return log f_B(v), from independent bits with biases a (B = 0) to the RBM (B = 1).

    log f_B(v) = (1 - B) a'v + B b'v + sum_j softplus(B (c + v'W)_j).

    Args: v (n, D), and the inputs c + v'W (n, H) if they are known. Returns: (n,), float64.
    """
    inputs = rbm.c + v @ rbm.W if inputs is None else inputs
    return (v @ ((1 - B) * a + B * rbm.b) + F.softplus(B * inputs).sum(1)).double()


# %% tags=["from:energy.ais.annealed_log_weights"]
@torch.no_grad()
def annealed_log_weights(
    rbm: RBM,
    a: Tensor,
    betas: Sequence[float],
    n: int = 100,
    generator: Generator | None = None,
) -> Tensor:
    """Anneal n chains from independent bits to the RBM and weigh them: (6).

    log w = sum_k log f_k(v_k) - log f_{k-1}(v_k), where v_k is drawn under f_{k-1}.
    The mean of w is Z / Z_0, whatever the betas; the mean of log w lies below.

    Args:
        rbm: the model.
        a: biases of the start (D,), such as `logit_mean` of the data.
        betas: from 0 to 1, rising.
        n: chains.
        generator: of all draws; None takes the global one.

    Returns:
        log w (n,), float64.
    """
    rising = all(low < high for low, high in pairwise(betas))
    if not (rising and betas[0] == 0 and betas[-1] == 1):
        raise ValueError(f"betas run {betas[0]} to {betas[-1]}: expected 0 to 1, rising")
    a = validate.points(a, (), rbm.b, name="a")
    v = coin(torch.sigmoid(a).expand(validate.count(n, least=1), -1), generator)
    log_w = v.new_zeros(n, dtype=torch.float64)
    for low, high in pairwise(betas):
        inputs = rbm.c + v @ rbm.W  # of both densities and of the step
        log_w += log_between(rbm, a, high, v, inputs) - log_between(rbm, a, low, v, inputs)
        v = step_between(rbm, a, high, inputs, generator)
    return log_w


# %% [markdown]
# [`step_between`](../../gdm_course/energy/ais.py) is a Gibbs step with $\beta$ inside the sigmoids. Now a
# machine for which the truth is known: PCD on digits, 16 hidden units, $\log Z$ by all 65,536 patterns.
# `ascend` trains it.

# %%
seed_everything(0)
rbm, steps = PersistentRBM(64, H=16), budget(3000, 20)
rbm.b.data = logit_mean(x_train)
for step, v in zip(progress(range(steps), label="PCD-1"), forever(x_train, 100)):
    rbm.ascend(v, lr=0.1 * (1 - step / steps))
with torch.no_grad():
    exact = rbm.log_z()
    nll = rbm.energy(x_test).mean() + exact
    bits_alone = F.binary_cross_entropy_with_logits(
        logit_mean(x_train).expand_as(x_test), x_test, reduction="none"
    )
print(f"test digits: {nll:.2f} nats; independent bits {bits_alone.sum(1).mean():.2f}")
if full_run():
    assert nll < bits_alone.sum(1).mean() - 3

# %% [markdown]
# Some chains weigh more than others. Of the **effective** ones, $(\sum w)^2/\sum w^2$, there are 100 if all 100 weigh
# the same, and 1 if one outweighs the rest; with $m$ of them expect an error of at most about $1/\sqrt m$ nats.
#
# **Predict.** $\log$ of a mean weight of 100 chains: for few temperatures, is it too low or too high? And which
# start is better, coin tosses ($a = 0$) or the means of the data?

# %%
errors = {}
for name, a in (
    ("coin tosses", torch.zeros(64)),
    ("means of the data", logit_mean(x_train)),
):
    for K in (3, 10, 30, 100, 300):
        betas = torch.linspace(0, 1, K + 1).tolist()
        log_w = annealed_log_weights(rbm, a, betas, 1000, generator(K)).view(10, 100)
        tens = torch.logsumexp(log_w, 1) - math.log(100) + log_z_start(a, 16) - exact
        errors.setdefault(name, []).append(tens)
        counted = log_z_estimate(log_w[0]).effective
        print(
            f"{name:18s} K = {K:3d}: error {tens.mean():7.3f} +- {tens.std():.3f} "
            f"nats, {counted:3.0f} of 100 chains count"
        )
if full_run():
    assert errors["coin tosses"][0].mean() < -1
    assert errors["means of the data"][-1].abs().max() < 0.2

# %% tags=["fold"]
# @title Ten estimates of log Z for each number of temperatures
(ax,) = plot.panels("estimate of log Z minus truth", width=5)
for (name, runs), color, shift in zip(
    errors.items(), (plot.ORANGE, plot.BLUE), (0.95, 1.05)
):
    for K, tens in zip((3, 10, 30, 100, 300), runs):
        ax.plot([K * shift] * 10, tens, "o", color=color, markersize=3, label=name)
        name = None
ax.axhline(0, color=plot.GREY)
ax.set(xscale="log", xlabel="temperatures", ylabel="nats", ylim=(-14, 2))
_ = ax.legend()

# %% [markdown]
# <details><summary>Answer</summary>
#
# Too low. The mean weight is right on average, but it is carried by rare large weights, which 100
# chains mostly miss (Jensen: $\mathbb E[\log w]\le\log\mathbb E[w]$). A $\log Z$ that is too low makes the
# likelihood *look better than it is*. The start at the data's means is closer, so it needs fewer temperatures.
# </details>
#
# **Question.** AIS with 100 chains reports 83.1 nats, and 2 effective chains. A rival has 86.3 with 95. Who is better?
#
# <details><summary>Answer</summary>
#
# Nobody knows. Two chains carry the first estimate, so $\log Z$ is probably too low and 83.1 flatters.
# Take more temperatures until the number of effective chains is a good part of all.
# </details>
#
# That is why AIS gives an `Estimate` and never a `log_prob`. Only an exact $\log Z$ makes an energy a Density:

# %%
for model in (rbm, Normalised(rbm, exact)):
    print(f"{type(model).__name__}: {protocols.abilities(model)}")

# %% [markdown]
# ## 9. Scale: handwritten digits
#
# The same class with 500 hidden units on MNIST, trained for minutes instead of seconds. A filter is a column of $W$:
# what a hidden unit looks for. A chain shows how slowly the model changes its mind. Of the two figures read the
# second one first: if few chains count, the likelihood is a flattering guess; if $m$ of 1,000 do, $\log Z$ and with it the
# likelihood may be wrong by $1/\sqrt m$ nats.

# %%
name = "energy/rbm-mnist-cpu"
if not checkpoints.available(name):
    print(f"{name}: no checkpoint yet, 'gdm train {name}' makes it")
else:
    big, card = checkpoints.load(name), checkpoints.card(name)
    for told in card["figures"]:
        if told["split"] == "test":
            print(f"{told['metric']}: {told['value']:.2f} {told['unit']}")
    seed_everything(0)
    left, right = plot.panels("36 filters", "6 chains, 50 steps a picture", width=4.2)
    W = big.W.detach()[:, big.W.detach().norm(dim=0).topk(36).indices]
    plot.image_grid((W.T / W.abs().max() + 1).view(-1, 1, 28, 28) / 2, left)
    v, rows = big.chain[:6].float(), []
    for _ in range(6):
        v = big.gibbs(v, 50)
        rows.append(big.visible(coin(big.hidden(v))).detach())
    plot.image_grid(torch.stack(rows, 1).view(-1, 1, 28, 28), right, columns=6)

# %% [markdown] tags=["notes"]
# 12 minutes for sections 8 and 9. On the board: one chain, three temperatures, which density stands above which in
# (6). If time is short, leave out the figure of section 9.

# %% [markdown]
# ## Summary
#
# - **Energy**: any function of the state; $p = e^{-E}/Z$. The missing constant is the price.
# - **Learning** is data minus model, (3). With few bits it is exact; else a chain stands in for the model.
# - **RBM**: wires between two sides only, so that a whole side is drawn at once and hidden units sum out, (5).
# - **Short chains** are right while wires are weak. Reconstructions do not show when they fail; more steps put the failure off; weight decay, or small fading rates, repair them.
# - **AIS** estimates $\log Z$, and errs on the flattering side.
#
# | | cost | gives |
# |---|---|---|
# | all states | $2^D$, or $2^H$ for an RBM | exact $\log p$ in nats |
# | CD-$k$ | $k$ steps from the data | a biased slope |
# | PCD | $k$ steps a batch, chains kept | a slope that is late |
# | AIS | $K$ steps a chain | an estimate of $\log Z$ in nats |
#
# **Exercises:** open them with `gdm start energy/boltzmann`.
#
# ## References
#
# - Ackley, Hinton, Sejnowski (1985). *A learning algorithm for Boltzmann machines.* Cognitive Science 9.
# - Hinton (2002). *Training products of experts by minimizing contrastive divergence.* Neural Computation 14.
# - Tieleman (2008). *Training restricted Boltzmann machines using approximations to the likelihood gradient.* ICML.
# - Fischer, Igel (2010). *Empirical analysis of the divergence of Gibbs sampling based learning algorithms for restricted Boltzmann machines.* ICANN.
# - Neal (2001). *Annealed importance sampling.* arXiv:physics/9803008.
# - Salakhutdinov, Murray (2008). *On the quantitative analysis of deep belief networks.* ICML.

# %% [markdown]
# ## Further: a product of experts
#
# A mixture adds densities: each part has its own region. A **product** multiplies them: each expert may veto.
# A product of Gaussians $\mathcal N(m_k, s_k^2)$ is a Gaussian again. In the exponent the quadratic terms add, so
# its precision is $1/s^2=\sum_k 1/s_k^2$ and its mean $m = s^2\sum_k m_k/s_k^2$. It is narrower than every factor.
#
# An RBM is a product, too. By (5), $p(v)\propto e^{b^\top v}\prod_j\bigl(1+e^{(c+W^\top v)_j}\bigr)$: one factor for each
# hidden unit, large on one side of a plane and 1 on the other. In the plane of points, let an expert favour a *bump*, and say
# 1, no opinion, far from it. No expert needs a normaliser of its own, only the whole does.

# %%
from sklearn.mixture import GaussianMixture

from gdm_course.data import toy
from gdm_course.energy.experts import log_bumps
from gdm_course.energy.normalise import log_z_grid
from gdm_course.energy.sampling import mala_step, with_slope


# %% tags=["from:energy.experts.ProductOfExperts"]
class ProductOfExperts(nn.Module):
    """E(x) = |x|^2 / (2 w^2) - sum_k softplus(a_k - |(x - m_k) / s_k|^2 / 2).

    An expert is a bump on a plain, 1 + e^(a_k - ...): far from it, it has no opinion. One
    wide Gaussian, of width w, keeps the whole from running away; k steps of eps in `loss`.
    """

    def __init__(self, D: int, *, K: int = 10, width: float = 2.0, k: int = 5, eps=0.01):
        super().__init__()
        validate.at_least(1, D=D, K=K, k=k)
        self.means = nn.Parameter(width * torch.randn(K, D))
        self.scales = nn.Parameter(torch.zeros(K, D))  # logarithms
        self.heights = nn.Parameter(torch.zeros(K))
        self.wide = nn.Parameter(torch.full((D,), width).log())
        self.k, self.eps = k, eps

    def energy(self, x: Tensor) -> Tensor:
        """Return E(x) in nats: (B, D) -> (B,)."""
        x = validate.points(x, len(self.wide), self.wide)
        opinions = F.softplus(self.heights + log_bumps(x, self.means, self.scales))
        return (x * torch.exp(-self.wide)).square().sum(1) / 2 - opinions.sum(1)

    def score(self, x: Tensor) -> Tensor:
        """Return grad log p(x) = -grad E(x): (B, D) -> (B, D)."""
        return -with_slope(self.energy, x)[1]

    def chain(self, x: Tensor, k: int, generator: Generator | None = None) -> Tensor:
        """Take k steps of MALA, which leave p as it is: (B, D) -> (B, D)."""
        for _ in range(k):
            x = mala_step(self.energy, x, self.eps, generator)[0]
        return x

    def loss(self, x: Tensor) -> Tensor:
        """Return mean E(data) - mean E(chain): contrastive divergence, k steps."""
        return self.energy(x).mean() - self.energy(self.chain(x, self.k)).mean()

    def sample(self, n: int, k: int = 1000) -> Tensor:
        """Start at the wide Gaussian and take k steps: (n, D); in the limit exact."""
        start = self.wide.detach().exp().expand(max(validate.count(n), 1), -1)
        return self.chain(start * torch.randn_like(start), validate.count(k, "k"))[:n]


# %% [markdown]
# `log_bumps` is the quadratic form. `mala_step` is a step of a chain over points, which the lecture on Langevin
# builds. The truth has 25 Gaussians on a grid. In the plane $Z$ is a sum over small cells, so the loss is
# the exact mean of $-\log p$. Ten long bumps, five upright and five lying, cross in 25 places. We place them so by
# hand, then train; the rival is the best of ten mixtures of ten Gaussians, by scikit-learn.

# %%
truth, steps = toy.get("grid"), budget(400, 5)
points, fresh = truth.sample(20_000, generator(0)), truth.sample(20_000, generator(1))
seed_everything(0)
crossing, scattered = ProductOfExperts(2, K=10), ProductOfExperts(2, K=10)
at = torch.arange(-2.0, 3.0)
crossing.means.data = torch.cat(
    [torch.stack([at, 0 * at], 1), torch.stack([0 * at, at], 1)]
)
crossing.scales.data = torch.tensor([[-1.5, 1.5]] * 5 + [[1.5, -1.5]] * 5)
crossing.heights.data += 4.0
scattered.means.data = points[:10].clone()
added = GaussianMixture(10, n_init=budget(10, 1), random_state=0).fit(points[:5000])
log_probs = {"10 Gaussians, added": lambda x: torch.tensor(added.score_samples(x)).float()}
for name, model in {"10 experts, crossing": crossing, "from points": scattered}.items():
    adam = torch.optim.Adam(model.parameters())
    for step, x in zip(progress(range(steps), label=name), forever(points, 500)):
        adam.zero_grad()
        (model.energy(x).mean() + log_z_grid(model.energy, truth.bounds, 60)).backward()
        adam.param_groups[0]["lr"] = 0.05 * (1 - step / steps)
        adam.step()
    log_z = log_z_grid(model.energy, truth.bounds, 300)
    log_probs[name] = Normalised(model, log_z).log_prob
with torch.no_grad():
    kls = {
        n: (truth.log_prob(fresh) - f(fresh)).mean().item() for n, f in log_probs.items()
    }
for name, kl in kls.items():
    print(f"{name:22s} KL {kl:.3f} nats")
if full_run():
    assert kls["10 experts, crossing"] < 0.2 < 0.5 < kls["10 Gaussians, added"]

# %% tags=["fold"]
# @title Twenty-five modes: the truth, ten Gaussians, ten experts
panels = plot.panels("truth", *log_probs, width=2.9)
for ax, log_prob in zip(panels, (truth.log_prob, *log_probs.values())):
    plot.density(log_prob, truth.bounds, ax)

# %% [markdown]
# Ten factors make 25 modes; ten summands can only lay streaks over them. The last picture is the caution: ten experts that
# start round, at ten points of the data, do not find the crossing. What a product *can* say is one thing, what descent
# finds from a random start another.
#
# ## Further: real numbers
#
# Let $v$ be real, and $E(v,h) = |v-b|^2/2\sigma^2 - v^\top Wh/\sigma^2 - c^\top h$. Given $h$, complete the square:
# $v\sim\mathcal N(b+Wh,\sigma^2 I)$. So a Gaussian-Bernoulli RBM is a mixture of $2^H$ Gaussians of one width, whose centres are
# the corners of a sheared box. With 8 hidden units $Z$ is a sum of 256 terms, exact. How much does CD-1 lose against it?

# %%
from gdm_course.data import toy
from gdm_course.energy.gaussian_rbm import GaussianRBM

truth, steps = toy.get("eight_gaussians"), budget(1500, 10)
points, fresh = truth.sample(20_000, generator(0)), truth.sample(20_000, generator(1))
fits, kls = {}, {}
for name in ("CD-1", "exact"):
    seed_everything(0)
    model = GaussianRBM(2, H=8, sigma=0.2)
    adam = torch.optim.Adam(model.parameters())
    for step, x in zip(progress(range(steps), label=name), forever(points, 500)):
        likelihood = name == "exact"
        loss = model.energy(x).mean() + model.log_z() if likelihood else model.loss(x)
        adam.zero_grad()
        loss.backward()
        adam.param_groups[0]["lr"] = 0.01 * (1 - step / steps)
        adam.step()
    fits[name] = Normalised(model, model.log_z()).log_prob
    with torch.no_grad():
        kls[name] = (truth.log_prob(fresh) - fits[name](fresh)).mean().item()
    print(f"{name:6s} KL {kls[name]:.4f} nats")
if full_run():
    assert kls["exact"] < 0.025 < kls["CD-1"]
for ax, log_prob in zip(plot.panels("truth", *fits), (truth.log_prob, *fits.values())):
    plot.density(log_prob, truth.bounds, ax)

# %% [markdown]
# CD-1 finds the places and gets the shares wrong, as it did on bars and stripes.
#
# ## Further: centring
#
# Swap black and white in the digits. Nothing about them has changed, and an RBM can represent the one set as well as the
# other: replace $v$ by $1-v$, and absorb the constants in the biases. Does it *learn* them as well? In a wire's slope, a
# mean of $v_ih_j$, the units' means get mixed in: when almost every pixel is on, $v_ih_j$ is nearly $h_j$, and all wires of
# a hidden unit move together. **Centring** (Melchior and others 2016) subtracts the means first, $(v-\mu)(h-\lambda)$ in place of $vh$, and corrects the biases for it.


# %%
@torch.no_grad()
def fit(x, held_out, centred, biases):
    """PCD on digits: the exact test -log p, with all slopes by hand."""
    seed_everything(0)
    rbm, steps = PersistentRBM(64, H=16), budget(2000, 20)
    if biases:
        rbm.b.copy_(logit_mean(x))
    mu = x.mean(0) * centred
    lam = torch.full((16,), 0.5 * centred)
    ends = rbm.chain.float()
    for step, v in zip(progress(range(steps)), forever(x, 100)):
        ends, lr = rbm.gibbs(ends), 0.1 * (1 - step / steps)
        h, far = rbm.hidden(v), rbm.hidden(ends)
        W = (v - mu).T @ (h - lam) / len(v) - (ends - mu).T @ (far - lam) / len(ends)
        rbm.W += lr * W
        rbm.b += lr * (v.mean(0) - ends.mean(0) - W @ lam)
        rbm.c += lr * (h.mean(0) - far.mean(0) - W.T @ mu)
    return (rbm.energy(held_out).mean() + rbm.log_z()).item()


row, told = "{:34s}{:>9s}{:>12s}".format, {}
print(row("test -log p in nats", "digits", "inverted"))
for name, centred, biases in (
    ("plain, all biases 0 at first", False, False),
    ("plain, biases from the means", False, True),
    ("centred, all biases 0 at first", True, False),
):
    as_is = fit(x_train, x_test, centred, biases)
    told[name] = fit(1 - x_train, 1 - x_test, centred, biases)
    print(row(name, f"{as_is:.2f}", f"{told[name]:.2f}"))
if full_run():
    plain, started, centre = told.values()
    assert min(plain - started, plain - centre) > 2

# %% [markdown]
# Inverted, the plain RBM learns nothing beyond independent bits, and its hidden units stay useless. Centred, it does as well
# as on the original. So does the plain one, almost, if its biases merely start at the logits of the pixels' means, which is
# why those of section 8 do.
