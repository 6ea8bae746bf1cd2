# %% [markdown]
# # Exercises: rolling, kicked, accepted
#
# Six short pieces of code: a step of Langevin, the rule that makes it exact, a slide without
# friction, the loss of a deep energy, the temperature of a step, and energies in the place
# of a mixture. Under each stands a check that runs *your* function on fresh inputs. A red
# line names the wrong property; a plausible mistake gets a hint. Nothing depends on an
# unanswered question: later cells use the course's own code. Numbers 3 and 6 belong to the
# Further sections of the lecture (Hamiltonian Monte Carlo, energies add); they can be
# solved from what is said here. The squares in 4 are new.

# %% [markdown] tags=["nav"]
# before this: [Likely is what lies low: Boltzmann machines](../../lectures/energy/boltzmann.ipynb), [Change of variables: planar and radial flows](../../lectures/flows/planar.ipynb) ·
# [lecture](../../lectures/energy/langevin.ipynb) ·
# [exercise](../../exercises/energy/langevin.ipynb)

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

from gdm_course import plotting as plot
from gdm_course.checks.energy import langevin as check
from gdm_course.data import energies
from gdm_course.energy import sampling
from gdm_course.energy.normalise import log_z_grid
from gdm_course.training import budget, full_run, seed_everything

plot.style()

# %% [markdown]
# ## 1. One step
#
# A chain at $x$ rolls against the slope of the energy and is kicked. The kick has the
# variance $\epsilon$ in every direction; what makes $e^{-E}$ the density in the end is that
# the slope is multiplied by half of eps. You are given $\nabla E(x)$ and standard normal
# noise $\xi$.


# %%
def langevin_step(x, slope, eps, xi):
    """Return where the chains go.

    Args:
        x: where they are (B, D).
        slope: gradient of the energy there (B, D).
        eps: size of the step, a number.
        xi: standard normal noise (B, D).

    Returns:
        (B, D)
    """
    ### BEGIN SOLUTION
    return x - eps / 2 * slope + math.sqrt(eps) * xi
    ### END SOLUTION


# %%
check.langevin_step(langevin_step)

# %% [markdown]
# On $E = x^2/2$ the slope is $x$. Where does a chain's variance settle, and how far is that
# from 1?

# %%
seed_everything(0)
for eps in (0.1, 0.5, 2.0):
    x = torch.randn(20_000, 1)
    try:
        for _ in range(100):
            x = langevin_step(x, x, eps, torch.randn_like(x))
        print(f"eps = {eps}: variance {x.var():.3f}, theory {1 / (1 - eps / 4):.3f}")
    except NotImplementedError:
        print("(write langevin_step first)")

# %% [markdown]
# ## 2. Whether to go there
#
# Metropolis and Hastings accept a proposed step from $x$ to $y$ with the probability
# $\min(1, a)$,
#
# $$a = \frac{e^{-E(y)}\,q(x\,|\,y)}{e^{-E(x)}\,q(y\,|\,x)}, \qquad
#   q(y\,|\,x) = \mathcal N\bigl(y;\ x - \tfrac\epsilon2\nabla E(x),\ \epsilon I\bigr).$$
#
# The proposal $q(x\,|\,y)$ is the way back: it starts at $y$, and there the slope is another
# one. Return $\log a$ and do not cut it at 0.


# %%
def mala_log_accept(E_x, E_y, x, y, slope_x, slope_y, eps):
    """Return log a of a proposed step from x to y.

    Args:
        E_x, E_y: energies at both ends (B,), in nats.
        x, y: both ends (B, D).
        slope_x, slope_y: gradients of the energy there (B, D).
        eps: size of the step, a number.

    Returns:
        (B,), in nats.
    """

    ### BEGIN SOLUTION
    def log_q(there, here, slope):
        return -(there - here + eps / 2 * slope).square().sum(1) / (2 * eps)

    return E_x - E_y + log_q(x, y, slope_y) - log_q(y, x, slope_x)
    ### END SOLUTION


# %%
check.mala_log_accept(mala_log_accept)

# %% [markdown]
# The same experiment with steps so large that one in five is refused:

# %%
seed_everything(0)
x, moved = torch.randn(20_000, 1), torch.zeros(())
try:
    for _ in range(100):
        y = sampling.langevin_step(lambda x: x.square().sum(1) / 2, x, 2.0)
        log_a = mala_log_accept(x[:, 0] ** 2 / 2, y[:, 0] ** 2 / 2, x, y, x, y, 2.0)
        moved = torch.rand(len(x)).log() < log_a
        x = torch.where(moved[:, None], y, x)
    print(f"variance {x.var():.3f} at eps = 2, {moved.float().mean():.0%} moved at the end")
except NotImplementedError:
    print("(write mala_log_accept first)")

# %% [markdown]
# ## 3. Without friction
#
# Give the ball a momentum $p$ and let it slide: $\dot x = p$, $\dot p = -\nabla E(x)$. A
# **leapfrog** takes steps of the time $h$ in the order push, drift, push, drift, ..., push:
# half a push at the start, half a push at the end, whole ones between. In a push p loses the
# slope of the energy times $h$; in a drift $x$ gains $h\,p$. Here $E(x) = \tfrac12 x^\top A
# x$ with a symmetric $A$, so that the slope of the row $x$ is `x @ A`.


# %%
def leapfrog(x, p, A, h, steps):
    """Return x and p after so many steps of the time h.

    Args:
        x, p: places and momenta (B, D).
        A: symmetric (D, D).
        h: a number.
        steps: how many, 1 or more.

    Returns:
        x (B, D) and p (B, D).
    """
    ### BEGIN SOLUTION
    p = p - h / 2 * x @ A
    for left in range(steps - 1, -1, -1):
        x = x + h * p
        p = p - (h if left else h / 2) * x @ A
    return x, p
    ### END SOLUTION


# %%
check.leapfrog(leapfrog)

# %% [markdown]
# Two properties make it a proposal: with $-p$ it leads back to where it began, and the total
# energy hardly changes, however long it slides.

# %%
A, x, p = torch.diag(torch.tensor([1.0, 9.0])), torch.ones(1, 2), torch.zeros(1, 2)
total = lambda x, p: ((x @ A * x).sum() + p.square().sum()).item() / 2
try:
    y, p_end = leapfrog(x, p, A, 0.1, 200)
    back, _ = leapfrog(y, -p_end, A, 0.1, 200)
    print(f"total energy {total(x, p):.3f} -> {total(y, p_end):.3f}; off by {back - x}")
except NotImplementedError:
    print("(write leapfrog first)")

# %% [markdown]
# ## 4. What is minimised
#
# A deep energy is lowered at the data and raised at the chains: means over both, of which
# there need not be as many. Many implementations add a cost that keeps the energies near 0,
# $\alpha$ times the mean square of both (Du and Mordatch, 2019):
#
# $$\overline{E(x)} - \overline{E(\tilde x)} + \alpha\Bigl(\overline{E(x)^2} +
#   \overline{E(\tilde x)^2}\Bigr).$$
#
# Training needs its slopes in both energies: leave the way back to them open.


# %%
def contrastive_loss(E_data, E_chains, alpha):
    """Return the loss of a batch; autograd is to differentiate it.

    Args:
        E_data: energies of the data (n,).
        E_chains: energies of the chains (m,).
        alpha: weight of the squares, a number.

    Returns:
        A number ().
    """
    ### BEGIN SOLUTION
    size = E_data.square().mean() + E_chains.square().mean()
    return E_data.mean() - E_chains.mean() + alpha * size
    ### END SOLUTION


# %%
check.contrastive_loss(contrastive_loss)

# %% [markdown]
# What does the cost do to the constant in $E$? Without it, $E + 5$ has the same loss. With
# it there is one best constant, and also one best *size* of $E$, which is a temperature:
# the density is no longer the likelihood's.

# %%
E_data, E_chains = torch.tensor([1.0, 2.0, 1.5]), torch.tensor([2.5, 3.0])
try:
    for alpha in (0.0, 0.1):
        losses = [
            contrastive_loss(E_data + c, E_chains + c, alpha).item() for c in (-2, 0, 5)
        ]
        print(
            f"alpha = {alpha}: E - 2, E, E + 5 have the losses",
            *(f"{value:.2f}" for value in losses),
        )
except NotImplementedError:
    print("(write contrastive_loss first)")

# %% [markdown]
# ## 5. How warm
#
# A paper writes $x' = x - \text{step}\cdot\nabla E(x) + \text{noise}\cdot\xi$ and chooses the
# two freely; the noise has the standard deviation `noise`. For small steps such a chain
# samples at the temperature $T$, the density $\propto e^{-E(x)/T}$. Compare with exercise 1
# for the energy $E/T$: which $T$ is it? (Small means: small for the narrowest valley. In a
# parabola of width $s$ a chain explodes unless the step is below $2s^2$, however small the
# noise is.)


# %%
def temperature_of(step, noise):
    """Return the temperature T of chains with these settings.

    Args:
        step: factors of the slope (B,).
        noise: standard deviations of the kicks (B,).

    Returns:
        (B,)
    """
    ### BEGIN SOLUTION
    return noise**2 / (2 * step)
    ### END SOLUTION


# %%
check.temperature_of(temperature_of)

# %% [markdown]
# A setting that is often copied is a step of 10 with a noise of 0.005. How cold is that,
# where valleys are so wide that 10 is a small step? And what happens on $E = x^2/2$, where
# it is not?

# %%
try:
    print(f"T = {temperature_of(torch.tensor([10.0]), torch.tensor([0.005])).item():.3g}")
except NotImplementedError:
    print("(write temperature_of first)")
x = torch.ones(1)
for _ in range(10):
    x = x - 10 * x + 0.005 * torch.randn(1)
print(f"on x^2 / 2 ten such steps lead from 1 to {x.item():.2g}")
assert x.abs() > 1e8

# %% [markdown]
# ## 6. One or the other
#
# "Or" adds densities. Given energies of $K$ parts at the same points, their log Z, and
# weights $w$ that add to 1, return the energy of the mixture, $-\log\sum_k w_k\,p_k(x)$.
# The parts are to be normalised before they are weighted. Stay in the log domain: the check
# asks for energies of 900.


# %%
def mixture_energy(E, log_z, w):
    """Return -log p(x) of a mixture of energy-based models.

    Args:
        E: energies (K, B), in nats.
        log_z: of each part (K,), in nats.
        w: weights (K,), which add to 1.

    Returns:
        (B,), in nats.
    """
    ### BEGIN SOLUTION
    log_p = -E - log_z[:, None]  # (K, B)
    return -torch.logsumexp(w.log()[:, None] + log_p, 0)
    ### END SOLUTION


# %%
check.mixture_energy(mixture_energy)

# %% [markdown]
# Without log Z the weights are not chosen, they happen. Two energies of the plane, "or" with
# equal weights, and by the plain sum of $e^{-E}$; the share of each is $Z_k$ over the sum.

# %%
parts, box = [energies.get("U1"), energies.get("U4")], ((-6.5, 6.5), (-6.5, 6.5))
log_z = torch.tensor([part.log_z for part in parts])
print("shares of the plain sum:", *(f"{s:.0%}" for s in log_z.softmax(0)))
plain = lambda x: -torch.logsumexp(-torch.stack([part(x) for part in parts]), 0)
total = log_z_grid(plain, box, budget(300, 60)).item()
assert abs(total - log_z.logsumexp(0)) < 0.01 or not full_run()
left, right = plot.panels("the sum of e^-E", "equal weights")
plot.density(lambda x: -plain(x) - total, box, left)
try:
    equal = lambda x: mixture_energy(
        torch.stack([part(x) for part in parts]), log_z.to(x), torch.full((2,), 0.5).to(x)
    )
    plot.density(lambda x: -equal(x), box, right)
except NotImplementedError:
    right.set_title("(write mixture_energy first)", loc="left")

# %% [markdown]
# ## Further, without a check
#
# 1. **The best acceptance.** On $\mathcal N(0, I)$ in 30 dimensions, let MALA's eps run from
#    0.05 to 2 and plot the mean squared jump of an accepted step against the share that is
#    accepted. Theory says the best share is 57 % in many dimensions. Is it, in 30?
# 2. **Preconditioning.** On a Gaussian with widths 1 and 0.1 the narrow one dictates eps.
#    Show that a step with $C^{1/2}\xi$ and $\tfrac\epsilon2 C\nabla E$ leaves the same
#    density, and choose $C$.
# 3. **Not.** `without(E, other, w)` divides by a density. For two Gaussians of widths 1 and
#    2, which $w$ is the largest that leaves a density? Plot what is left just below it.
