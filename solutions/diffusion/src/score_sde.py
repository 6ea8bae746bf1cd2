# %% [markdown]
# # Exercises: noise as a stream, and back
#
# Six short pieces of code: how much noise a stream brings, a step back, the velocity of the
# ODE, two solvers' steps, and what a network should see and say. Under each stands a check
# that runs *your* function on fresh inputs. A red line names the wrong property; a plausible
# mistake gets a hint. Nothing depends on an unanswered question: later cells use the
# course's own code.

# %% [markdown] tags=["nav"]
# before this: [A thousand small steps: denoising diffusion](../../lectures/diffusion/ddpm.ipynb), [Flowing in time: continuous flows](../../lectures/flows/continuous.ipynb) ·
# [lecture](../../lectures/diffusion/score_sde.ipynb) ·
# [exercise](../../exercises/diffusion/score_sde.ipynb)

# %% tags=["setup"]
import importlib.util

if importlib.util.find_spec("gdm_course") is None:
    raise ImportError(
        "the package gdm_course is not installed here: run 'make lab' in the course's "
        "folder, or 'pip install -e .[lab]', and choose that environment as the kernel"
    )

# %%
import math
from itertools import pairwise

import torch

from gdm_course import plotting as plot
from gdm_course.checks.diffusion import score_sde as check
from gdm_course.data import toy
from gdm_course.diffusion import solvers
from gdm_course.diffusion.mixture import MixtureDenoiser
from gdm_course.diffusion.sde import VP, score_of
from gdm_course.training import full_run, generator, seed_everything

plot.style()

# %% [markdown]
# ## 1. How much noise
#
# The sub-VP stream has VP's drift $-\frac{\beta(t)}2x$ and the diffusion
# $g^2=\beta(1-e^{-2B})$, where $B(t)$ is the integral of $\beta$ from $0$ to $t$ and
# $\beta(t)=\beta_{\min}+(\beta_{\max}-\beta_{\min})\,t$. The variance $V$ of the noise obeys
# $V'=-\beta V+g^2$ and starts at 0, so that $V=(1-e^{-B})^2$. Return the standard deviation
# (without a root of what is left: that would be VP's).


# %%
def sub_vp_std(t, beta_min, beta_max):
    """Return the standard deviation of the noise at the times t.

    Args:
        t: times (B,), from 0 to 1.
        beta_min, beta_max: beta at t = 0 and at t = 1.

    Returns:
        (B,)
    """
    ### BEGIN SOLUTION
    B = beta_min * t + (beta_max - beta_min) * t**2 / 2
    return 1 - torch.exp(-B)
    ### END SOLUTION


# %%
check.sub_vp_std(sub_vp_std)

# %% [markdown]
# How much less noise is that than VP's?

# %%
times = torch.tensor([0.05, 0.2, 0.5, 1.0])
try:
    for t, s in zip(times, sub_vp_std(times, 0.1, 20.0)):
        print(f"t = {t:.2f}: sub-VP {s:.4f}, VP {VP().sigma(t):.4f}")
except NotImplementedError:
    print("(write sub_vp_std first)")

# %% [markdown]
# ## 2. One step back
#
# A stream $dx=f\,dt+g\,dw$ is reversed by the drift $f-g^2\,\nabla\log p_t$ and noise of the
# same size. Time falls by $h>0$. Take one step of Euler and Maruyama: against the drift,
# with all of $g^2$, and add fresh noise, $\xi$ times a standard deviation that grows with
# $\sqrt h$.


# %%
def reverse_step(x, score, f, g, h, xi):
    """Return where the points are at the time t - h.

    Args:
        x: where they are at the time t (B, D).
        score: grad log p_t there (B, D).
        f: the stream's own drift there (B, D).
        g: its diffusion, a number.
        h: length of the step, a number above 0.
        xi: standard normal noise (B, D).

    Returns:
        (B, D)
    """
    ### BEGIN SOLUTION
    drift = f - g**2 * score
    return x - h * drift + g * math.sqrt(h) * xi
    ### END SOLUTION


# %%
check.reverse_step(reverse_step)

# %% [markdown]
# With the exact score of data with the standard deviation 0.5: does noise become data?

# %%
g = generator(0)
vp, x = VP(), torch.randn(20_000, 1, generator=g)
score = score_of(MixtureDenoiser(torch.zeros(1, 1), 0.5), vp)
try:
    for t, s in pairwise(torch.linspace(1, 1e-3, 401).tolist()):
        now, xi = torch.tensor(t), torch.randn(x.shape, generator=g)
        f, G = vp.drift(x, now), vp.diffusion(now).item()
        x = reverse_step(x, score(x, t), f, G, t - s, xi)
    print(f"standard deviation {x.std():.3f}, of the data 0.5")
except NotImplementedError:
    print("(write reverse_step first)")

# %% [markdown]
# ## 3. The velocity of the ODE
#
# The probability-flow ODE has the velocity $f-\frac12g^2\,\nabla\log p_t$, with half of $g^2$
# and no noise. Write it for VP, where $f=-\frac\beta2x$ and $g^2=\beta$. As a velocity it
# leads from data to noise, with $t$ growing.


# %%
def flow_velocity(x, score, beta):
    """Return dx/dt of VP's probability-flow ODE.

    Args:
        x: points (B, D).
        score: grad log p_t there (B, D).
        beta: the rate of noise at this time, a number.

    Returns:
        (B, D)
    """
    ### BEGIN SOLUTION
    return -beta / 2 * (x + score)
    ### END SOLUTION


# %%
check.flow_velocity(flow_velocity)

# %% [markdown]
# For data from $\mathcal N(0, 1)$ the score is $-x$ at all times. Where do points go?

# %%
x = torch.randn(3, 2, generator=generator(0))
try:
    print("velocity:", flow_velocity(x, -x, 5.0).abs().max().item())
except NotImplementedError:
    print("(write flow_velocity first)")

# %% [markdown]
# Nowhere: noise and data have the same law already.
#
# ## 4. Two slopes
#
# In $z=x/\alpha$ and $s=\sigma/\alpha$ the ODE is $dz/ds=(z-D(z,s))/s$. Data from
# $\mathcal N(0,\mathrm{diag}(v))$ have $D(z,s)=\frac{v}{v+s^2}z$. Take one step of Heun from
# the level $s$ down to $s'$: the mean of the slope at $z$ and of the slope where Euler's step
# leads, each at its own level. The level $s'$ may be 0, where $(z-D)/s$ is 0/0: then take
# Euler's step alone.


# %%
def heun_step(z, v, s, s_next):
    """Return where one step of Heun leads.

    Args:
        z: points at the level s (B, D).
        v: variances of the data (D,).
        s, s_next: levels of noise, numbers, s > s_next >= 0.

    Returns:
        (B, D)
    """
    ### BEGIN SOLUTION
    slope = (z - v / (v + s**2) * z) / s
    there = z + (s_next - s) * slope
    if s_next > 0:
        slope = (slope + (there - v / (v + s_next**2) * there) / s_next) / 2
    return z + (s_next - s) * slope
    ### END SOLUTION


# %%
check.heun_step(heun_step)

# %% [markdown]
# The exact path is $z(s)=z\sqrt{(v+s^2)/(v+s_0^2)}$. The error of so many steps:

# %%
v, start = torch.tensor([1.0]).double(), torch.tensor([[2.0]]).double()
exact = start * ((1 + 0.1**2) / (1 + 4.0**2)) ** 0.5
try:
    for n in (10, 20, 40):
        z, levels = start, solvers.karras_sigmas(n + 1, 0.1, 4.0)[:-1]
        for s, s_next in pairwise(levels):
            z = heun_step(z, v, s, s_next)
        print(f"{n} steps: {(z - exact).abs().item():.1e}")
except NotImplementedError:
    print("(write heun_step first)")

# %% [markdown]
# ## 5. A line through two guesses
#
# In the clock $l=-\log s$ the ODE is $dz/dl=-z+x_0$ with $x_0=D(z,s)$. If $x_0$ were
# constant, a step of length $h$ would be $z'=e^{-h}z+(1-e^{-h})\,x_0$: DDIM. DPM-Solver++
# (2M) takes in its place the point in the middle of the step, on the line through the last
# two guesses. Steps, differences of $-\log s$, need not be equally long: $h$ now,
# $h_{\text{before}}$ from the level before.


# %%
def dpm_2m_step(z, x0, x0_before, s_before, s, s_next):
    """Return where one step of DPM-Solver++ (2M) leads.

    Args:
        z: points at the level s (B, D).
        x0: the guess D(z, s) (B, D).
        x0_before: the guess at the level before (B, D).
        s_before, s, s_next: falling levels of noise, numbers above 0.

    Returns:
        (B, D)
    """
    ### BEGIN SOLUTION
    h, h_before = math.log(s / s_next), math.log(s_before / s)
    middle = x0 + (x0 - x0_before) / h_before * (h / 2)
    return math.exp(-h) * z + (1 - math.exp(-h)) * middle
    ### END SOLUTION


# %%
check.dpm_2m_step(dpm_2m_step)

# %% [markdown]
# Ten evaluations of the exact denoiser of eight Gaussians, by DDIM and by yours:

# %%
law = toy.get("eight_gaussians").law
exact = solvers.per_noise(MixtureDenoiser(law.means, law.sigma, law.weights))
seed_everything(0)
start = 20 * torch.randn(500, 2, generator=generator(1)).double()
levels = solvers.karras_sigmas(11, 0.05, 20.0, math.inf)[:-1]
truth = solvers.heun(exact, start, solvers.karras_sigmas(600, 0.05, 20.0)[:-1])
ddim = (solvers.euler(exact, start, levels) - truth).norm(dim=1).mean()
try:
    z, before = start, None
    for i, (s, s_next) in enumerate(pairwise(levels)):
        x0 = exact(z, s)
        if i == 0:
            z = x0 + s_next / s * (z - x0)
        else:
            z = dpm_2m_step(z, x0, before, levels[i - 1], s, s_next)
        before = x0
    yours = (z - truth).norm(dim=1).mean()
    print(f"mean distance from the exact path: DDIM {ddim:.3f}, yours {yours:.3f}")
    assert yours < 0.6 * ddim or not full_run()
except NotImplementedError:
    print(f"DDIM {ddim:.3f} (write dpm_2m_step first)")

# %% [markdown]
# ## 6. What a network sees and says
#
# A denoiser of $z=x_0+s\,\epsilon$ is built around a network $F$ as
# $D(z,s)=c_{\text{skip}}\,z+c_{\text{out}}\,F(c_{\text{in}}\,z)$. The data have mean 0 and the
# standard deviation $\sigma_d$. The input of $F$ is to have the variance 1, and so is its target
# $(x_0-c_{\text{skip}}z)/c_{\text{out}}$; among all $c_{\text{skip}}$ take the one that makes
# $c_{\text{out}}$ as small as possible. Return c_skip, c_out and c_in, in this order, all of
# them positive, for any $\sigma_d$.


# %%
def precondition(s, sigma_data):
    """Return c_skip, c_out and c_in.

    Args:
        s: levels of noise (B,).
        sigma_data: standard deviation of the data, a number.

    Returns:
        Three tensors (B,).
    """
    ### BEGIN SOLUTION
    total = s**2 + sigma_data**2
    return sigma_data**2 / total, s * sigma_data / total.sqrt(), 1 / total.sqrt()
    ### END SOLUTION


# %%
check.precondition(precondition)

# %% [markdown]
# Are the target's variances 1? Data of the standard deviation 0.5, three levels of noise:

# %%
g = generator(0)
x0, eps = 0.5 * torch.randn(50_000, generator=g), torch.randn(50_000, generator=g)
try:
    for s in (0.05, 0.5, 5.0):
        c_skip, c_out, c_in = precondition(torch.tensor([s]), 0.5)
        z = x0 + s * eps
        target = (x0 - c_skip * z) / c_out
        print(f"s = {s:4.2f}: input {(c_in * z).var():.2f}, target {target.var():.2f}")
except NotImplementedError:
    print("(write precondition first)")

# %% [markdown]
# ## Further, without a check
#
# 1. **Less noise, better density?** Train two `ScoreSDE` on two moons whose `levels` are
#    uniform in the time of `VP` and of `SubVP`. Measure both by the ODE. Which part of the
#    levels do they spend where?
# 2. **A corrector.** After every step of `euler_maruyama` add a step of Langevin with the
#    same score. With 20 evaluations in all: is it worth half of the steps?
# 3. **How little noise is enough?** Let `noise` in `euler_maruyama` run from 0 to 3 with
#    the exact score and 20 steps, and plot the mean distance to the nearest mode.
