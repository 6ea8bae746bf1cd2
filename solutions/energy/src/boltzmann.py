# %% [markdown]
# # Exercises: energy and its constant
#
# Six short pieces of code: a spin among its neighbours, the free energy of an RBM, the
# direction of contrastive divergence, log Z from the smaller side, one weight of annealed
# importance sampling, and a product of Gaussians. Under each stands a check that runs
# *your* function on fresh inputs. A red line names the wrong property; a plausible mistake
# gets a hint. Nothing depends on an unanswered question: later cells use the course's own
# code.

# %% [markdown] tags=["nav"]
# before this: [What you do not see: the variational autoencoder](../../lectures/vae/vae.ipynb) ·
# [lecture](../../lectures/energy/boltzmann.ipynb) ·
# [exercise](../../exercises/energy/boltzmann.ipynb)

# %% tags=["setup"]
import importlib.util

if importlib.util.find_spec("gdm_course") is None:
    raise ImportError(
        "the package gdm_course is not installed here: run 'make lab' in the course's "
        "folder, or 'pip install -e .[lab]', and choose that environment as the kernel"
    )

# %%
import math

import torch
import torch.nn.functional as F

from gdm_course import plotting as plot
from gdm_course.checks.energy import boltzmann as check
from gdm_course.energy.ais import annealed_log_weights, log_z_start
from gdm_course.energy.normalise import log_z_states
from gdm_course.energy.rbm import RBM
from gdm_course.training import generator, seed_everything

plot.style()

# %% [markdown]
# ## 1. A spin among its neighbours
#
# Spins $s_i\in\{-1, +1\}$ have the energy
#
# $$E(s) = -\tfrac12\,s^\top J s - b^\top s$$
#
# with symmetric wires $J$. Hold all spins but one: what is the probability that spin $i$ is
# $+1$? Compare the two energies. The diagonal of $J$ adds the same constant to both,
# whatever stands there: a spin does not push itself.


# %%
def spin_probability(s, J, b, i):
    """Return p(s_i = +1 | all other spins).

    Args:
        s: states (B, D), -1 or +1; the entry s_i itself is not to matter.
        J: symmetric wires (D, D), with anything on the diagonal.
        b: biases (D,).
        i: which spin.

    Returns:
        (B,)
    """
    ### BEGIN SOLUTION
    push = s @ J[i] - s[:, i] * J[i, i] + b[i]
    return torch.sigmoid(2 * push)
    ### END SOLUTION


# %%
check.spin_probability(spin_probability)

# %% [markdown]
# With it you can melt a magnet. A ring of 40 spins, each wired to its two neighbours, from
# all +1: the rows of the picture are moments. A ring has no critical temperature: long
# enough, and its order is always lost.

# %%
seed_everything(0)
J = torch.zeros(40, 40)
for at in range(40):
    J[at, (at + 1) % 40] = J[(at + 1) % 40, at] = 1.0
axes = plot.panels("T = 3", "T = 1", "T = 0.7", width=2.8)
for ax, T in zip(axes, (3.0, 1.0, 0.7)):
    s, rows = torch.ones(1, 40), []
    for _ in range(60):
        for i in torch.randperm(40).tolist():
            try:
                p = spin_probability(s, J / T, torch.zeros(40), i)
            except NotImplementedError:  # until it is written, nothing moves
                break
            s[:, i] = 2.0 * (torch.rand(1) < p) - 1
        rows.append(s[0].clone())
    ax.imshow(torch.stack(rows), cmap="gray", vmin=-1, vmax=1)
    ax.set(xlabel="spin", ylabel="moment")

# %% [markdown]
# ## 2. The free energy
#
# An RBM has $E(v, h) = -v^\top W h - b^\top v - c^\top h$ over bits. With $h$ summed out,
# the energy of $v$ alone is $F(v) = -\log\sum_h e^{-E(v, h)}$. Its first term is $-b^\top
# v$. For the rest: given $v$, the hidden units do not know of each other, so that the sum
# over all $h$ is a product of sums over $h_j\in\{0, 1\}$. It has to be right also for large
# weights, where $e^{100}$ does not fit into float32.


# %%
def free_energy(v, W, b, c):
    """Return F(v) = -log sum_h e^-E(v, h).

    Args:
        v: bits (B, D).
        W: wires (D, H).
        b, c: biases (D,) and (H,).

    Returns:
        (B,), in nats.
    """
    ### BEGIN SOLUTION
    return -(v @ b) - F.softplus(c + v @ W).sum(1)
    ### END SOLUTION


# %%
check.free_energy(free_energy)

# %% [markdown]
# All $2^6$ energies of a small machine, summed by hand: the oracle needs no idea at all.

# %%
seed_everything(1)
W, b, c = torch.randn(4, 6), torch.randn(4), torch.randn(6)
v = torch.tensor([[1.0, 0, 1, 1]])
terms = [
    torch.exp(v[0] @ W @ h + b @ v[0] + c @ h)
    for h in torch.cartesian_prod(*[torch.tensor([0.0, 1.0])] * 6)
]
print(f"by hand: {-torch.stack(terms).sum().log():.5f}")
try:
    print(f"yours:   {free_energy(v, W, b, c).item():.5f}")
except NotImplementedError:
    print("(write free_energy first)")

# %% [markdown]
# ## 3. The direction of contrastive divergence
#
# The slope of the log-likelihood in a wire is *data minus model*: how often $v_i$ and $h_j$
# are on together in the data, minus how often in the model. For the model, take the states
# `vk` where chains have come to. Both are means over their rows, and there need not be as
# many chains as data. Use the probabilities of $h$ given $v$, not draws: they say the same
# with less noise.


# %%
def cd_gradient(v0, vk, W, c):
    """Return the estimated slope of the log-likelihood in W.

    Args:
        v0: data (B, D), bits.
        vk: ends of chains (n, D), bits.
        W: wires (D, H).
        c: hidden biases (H,).

    Returns:
        (D, H)
    """
    ### BEGIN SOLUTION
    h0, hk = torch.sigmoid(c + v0 @ W), torch.sigmoid(c + vk @ W)
    return v0.T @ h0 / len(v0) - vk.T @ hk / len(vk)
    ### END SOLUTION


# %%
check.cd_gradient(cd_gradient)

# %% [markdown]
# Autograd on the course's `gap`, the difference of free energies that `loss` returns, must
# say the same, with the sign of something to be minimised.

# %%
seed_everything(2)
rbm = RBM(6, H=4)
v0, vk = torch.bernoulli(torch.full((2, 20, 6), 0.5))
rbm.gap(v0, vk).backward()
try:
    mine = cd_gradient(v0, vk, rbm.W.detach(), rbm.c.detach())
    print(f"largest difference: {(mine + rbm.W.grad).abs().max():.1e}")
except NotImplementedError:
    print("(write cd_gradient first)")

# %% [markdown]
# ## 4. log Z from the smaller side
#
# $Z=\sum_{v,h}e^{-E(v,h)}$. For digits there are $2^{784}$ images $v$, but with 16 hidden
# units only 65,536 patterns $h$. Sum $v$ out as you did $h$ in exercise 2, then go through
# all $2^H$ patterns. The sum must not overflow: with 60 visible units $Z$ may be larger
# than any number that float32 holds.


# %%
def log_z_by_hidden(W, b, c):
    """Return log Z of an RBM by visiting all 2^H hidden patterns.

    Args:
        W: wires (D, H).
        b, c: biases (D,) and (H,).

    Returns:
        A number (), in nats.
    """
    ### BEGIN SOLUTION
    bits = [torch.tensor([0.0, 1.0])] * len(c)
    h = torch.cartesian_prod(*bits).view(-1, len(c)).to(W.dtype)  # (2^H, H)
    return torch.logsumexp(h @ c + F.softplus(b + h @ W.T).sum(1), 0)
    ### END SOLUTION


# %%
check.log_z_by_hidden(log_z_by_hidden)

# %% [markdown]
# The two sides of one machine agree, and one of them is a thousand times shorter:

# %%
seed_everything(3)
rbm = RBM(14, H=4)
rbm.W.data.normal_()
with torch.no_grad():
    print(f"2^14 visible states: {log_z_states(rbm.energy, 14):.5f}")
    try:
        print(f"2^4 hidden states:   {log_z_by_hidden(rbm.W, rbm.b, rbm.c):.5f}")
    except NotImplementedError:
        print("(write log_z_by_hidden first)")

# %% [markdown]
# ## 5. One weight of annealed importance sampling
#
# Between independent bits with biases $a$ (at $\beta = 0$) and the RBM (at $\beta = 1$) lie
#
# $$\log f_\beta(v) = (1-\beta)\,a^\top v + \beta\,b^\top v
#   + \sum_j\mathrm{softplus}\bigl(\beta\,(c + v^\top W)_j\bigr).$$
#
# When a chain at $v$ goes from one $\beta$ to the next, its log weight grows by $\log
# f_{\beta_1}(v) - \log f_{\beta_0}(v)$, at the state where the chain is *before* it moves.


# %%
def ais_step_weight(v, a, b, c, W, beta0, beta1):
    """Return log f_beta1(v) - log f_beta0(v).

    Args:
        v: bits (n, D), where the chains are.
        a: biases of the start (D,).
        b, c: biases of the RBM (D,) and (H,).
        W: wires (D, H).
        beta0, beta1: numbers from 0 to 1.

    Returns:
        (n,), in nats.
    """

    ### BEGIN SOLUTION
    def log_f(beta):
        return v @ ((1 - beta) * a + beta * b) + F.softplus(beta * (c + v @ W)).sum(1)

    return log_f(beta1) - log_f(beta0)
    ### END SOLUTION


# %%
check.ais_step_weight(ais_step_weight)

# %% [markdown]
# How many temperatures does an estimate need? A machine whose log Z is known, ten estimates
# with 20 chains each:

# %%
seed_everything(4)
rbm, a = RBM(12, H=6), torch.zeros(12)
rbm.W.data.normal_(std=2.0)
with torch.no_grad():
    true = rbm.log_z() - log_z_start(a, 6)
rows = {}
for K in (2, 5, 20, 100):
    betas = torch.linspace(0, 1, K).tolist()
    log_w = annealed_log_weights(rbm, a, betas, 200, generator(K)).view(10, 20)
    rows[K] = torch.logsumexp(log_w, 1) - math.log(20) - true
(ax,) = plot.panels("estimate minus truth", width=4.5)
ax.boxplot([*map(plot.to_numpy, rows.values())], tick_labels=[*map(str, rows)])
ax.axhline(0, color=plot.GREY)
_ = ax.set(xlabel="temperatures", ylabel="nats")

# %% [markdown]
# ## 6. A product of Gaussians
#
# $K$ experts each say where $x$ is: $\mathcal N(x; m_k, s_k^2)$. The density that is
# proportional to the product of theirs is a Gaussian again. Find its mean and width: multiply,
# and collect what stands in front of $x^2$ and of $x$ in the exponent.


# %%
def product_of_gaussians(m, s):
    """Return mean and width of the Gaussian proportional to the product of K.

    Args:
        m, s: means and widths (standard deviations) of the factors (K,).

    Returns:
        The mean () and the width ().
    """
    ### BEGIN SOLUTION
    precision = 1 / s**2
    return (precision * m).sum() / precision.sum(), precision.sum() ** -0.5
    ### END SOLUTION


# %%
check.product_of_gaussians(product_of_gaussians)

# %% [markdown]
# Two experts that contradict each other: the product lies between them, nearer to the one
# who is more certain, and is narrower than either. It does not know that they disagree.

# %%
m, s = torch.tensor([-1.0, 2.0]), torch.tensor([0.5, 1.0])
(ax,) = plot.panels("two experts and their product", width=5)
for mean, width in zip(m, s):
    law = torch.distributions.Normal(mean, width)
    plot.density_1d(law.log_prob, (-4.0, 5.0), ax, color=plot.GREY)
try:
    law = torch.distributions.Normal(*product_of_gaussians(m, s))
    plot.density_1d(law.log_prob, (-4.0, 5.0), ax, color=plot.BLUE)
except NotImplementedError:
    print("(write product_of_gaussians first)")

# %% [markdown]
# ## Further, without a check
#
# 1. **The Ising sheet.** `Ising(64, T=2.27).sweep` starts from coin tosses. How many sweeps
#    until the magnetisation forgets where it began, at $T = 4$, $2.27$ and $1.5$? Why does a
#    chain at $1.5$ often end in two stripes?
# 2. **Reverse annealing.** Start the chains of annealed importance sampling at samples of the
#    RBM and go *down* to $\beta = 0$. By Jensen the estimate is now biased upwards. With both,
#    $\log Z$ is fenced in.
# 3. **Three-valued hidden units.** Let $h_j\in\{0, 1, 2\}$. What takes the place of softplus
#    in the free energy?
