# %% [markdown]
# # Exercises: one step
#
# Six short pieces of code: the boundary of a consistency model and its loss, the mean velocity
# of a Gaussian, the targets of a shortcut model and of MeanFlow, and the way back to some
# noise. Under each stands a check that runs *your* function on fresh inputs. A red line names
# the wrong property; a plausible mistake gets a hint. Nothing depends on an unanswered
# question: later cells use the course's own code.

# %% [markdown] tags=["nav"]
# before this: [Noise as a stream: score, SDE and ODE](../../lectures/diffusion/score_sde.ipynb), [Straight to the point: flow matching](../../lectures/diffusion/flow_matching.ipynb) ·
# [lecture](../../lectures/diffusion/few_step.ipynb) ·
# [exercise](../../exercises/diffusion/few_step.ipynb)

# %% tags=["setup"]
import importlib.util

if importlib.util.find_spec("gdm_course") is None:
    raise ImportError(
        "the package gdm_course is not installed here: run 'make lab' in the course's "
        "folder, or 'pip install -e .[lab]', and choose that environment as the kernel"
    )

# %%
import torch

from gdm_course.checks.diffusion import few_step as check
from gdm_course.data import toy
from gdm_course.diffusion.consistency import solution_map
from gdm_course.diffusion.mean_velocity import JumpNet
from gdm_course.diffusion.meanflow import mean_and_slope
from gdm_course.diffusion.mixture import MixtureDenoiser
from gdm_course.training import generator, seed_everything

# %% [markdown]
# ## 1. The boundary
#
# A consistency function $f(z,s)=c_{\text{skip}}(s)\,z+c_{\text{out}}(s)\,F(z)$ has to leave a
# point alone at $s=\text{low}$, whatever the network $F$ says. Return
#
# $$c_{\text{skip}}=\frac{\sigma_d^2}{(s-\text{low})^2+\sigma_d^2},\qquad
#   c_{\text{out}}=\frac{\sigma_d\,(s-\text{low})}{\sqrt{s^2+\sigma_d^2}},$$
#
# in this order, for any $\sigma_d$.


# %%
def boundary(s, low, sigma_data):
    """Return c_skip and c_out.

    Args:
        s: levels of noise (B,), low or more.
        low: the least level, a number.
        sigma_data: standard deviation of the data, a number.

    Returns:
        Two tensors (B,).
    """
    ### BEGIN SOLUTION
    gap = s - low
    c_skip = sigma_data**2 / (gap**2 + sigma_data**2)
    return c_skip, sigma_data * gap / (s**2 + sigma_data**2).sqrt()
    ### END SOLUTION


# %%
check.boundary(boundary)

# %% [markdown]
# What is left of the network at the lowest levels?

# %%
try:
    levels = torch.tensor([0.01, 0.02, 0.1, 1.0])
    for s, skip, out in zip(levels, *boundary(levels, 0.01, 1.0)):
        print(f"s = {s:.2f}: c_skip {skip:.3f}, c_out {out:.3f}")
except NotImplementedError:
    print("(write boundary first)")

# %% [markdown]
# ## 2. The loss of consistency
#
# Let the model be as small as can be: $f(z,s)=z/(1+a\,s)$ with one parameter $a$. From data
# $x_0$ and noise $\epsilon$ make two points with the same noise, $x_0+s'\epsilon$ and
# $x_0+s\,\epsilon$, where $s'>s$. The loss is the square of $f$ at $s'$ minus $f$ at $s$: the
# sum over the numbers of a point, the mean over points, divided by $s'-s$. The teacher, $f$ at
# the lower level $s$, is a constant when the slope is taken. Return the loss and its slope in
# $a$ (by hand or by autograd).


# %%
def consistency_loss(a, x0, eps, less, more):
    """Return the loss, and its slope in a with the teacher held fixed.

    Args:
        a: the parameter, a number.
        x0: data (B, D).
        eps: standard normal noise (B, D).
        less, more: the two levels s and s', numbers.

    Returns:
        Two numbers.
    """
    ### BEGIN SOLUTION
    a = torch.tensor(a, dtype=torch.float64, requires_grad=True)
    student = (x0 + more * eps) / (1 + a * more)
    teacher = ((x0 + less * eps) / (1 + a * less)).detach()
    loss = (student - teacher).square().sum(1).mean() / (more - less)
    (slope,) = torch.autograd.grad(loss, a)
    return loss.detach(), slope
    ### END SOLUTION


# %%
check.consistency_loss(consistency_loss)

# %% [markdown]
# Which way does this loss push the parameter $a$? Data of the standard deviation 1, one pair
# of levels:

# %%
g = generator(0)
x0, eps = torch.randn(2, 20_000, 1, generator=g)
try:
    for a in (0.0, 0.5, 2.0):
        loss, slope = consistency_loss(a, x0, eps, 1.0, 1.2)
        print(f"a = {a:.1f}: loss {loss:.4f}, slope {slope:+.4f}")
except NotImplementedError:
    print("(write consistency_loss first)")

# %% [markdown]
# ## 3. The mean velocity of a Gaussian
#
# Data from $\mathcal N(0,\mathrm{diag}(v))$ on the line $z_t=(1-t)x_0+t\epsilon$. At the time
# $t$ the standard deviation of a coordinate is $\sqrt{(1-t)^2v+t^2}$, and the ODE moves a point
# in proportion to it. Given is the point $z$ at the time $t$. Return its mean velocity, the
# mean from $r$ to $t$: the way it went from the time $r$ to $t$, divided by the time.


# %%
def mean_velocity(z, v, t, r):
    """Return u(z, r, t) = (z_t - z_r) / (t - r).

    Args:
        z: points at the time t (B, D).
        v: variances of the data (D,).
        t, r: times, numbers, 0 <= r < t <= 1.

    Returns:
        (B, D)
    """
    ### BEGIN SOLUTION
    now = ((1 - t) ** 2 * v + t**2).sqrt()
    then = ((1 - r) ** 2 * v + r**2).sqrt()
    return (z - z * then / now) / (t - r)
    ### END SOLUTION


# %%
check.mean_velocity(mean_velocity)

# %% [markdown]
# The mean velocity from 0 to 1 makes data of the variance 4 out of noise, in one step:

# %%
eps = torch.randn(20_000, 1, generator=generator(1))
try:
    x = eps - mean_velocity(eps, torch.tensor([4.0]), 1.0, 0.0)
    print(f"variance {x.var():.2f}")
except NotImplementedError:
    print("(write mean_velocity first)")

# %% [markdown]
# ## 4. Two halves
#
# A small network says $u=(a+b\,t+c\,d)\,z$ for a jump of length $d$ that begins at $z$ at the
# time $t$. A jump of length $d$ from $t$ down to $t-d$ is to learn from two jumps of length
# $d/2$, the second of which begins where the first half ended. The mean of the two velocities
# is the target; return it.


# %%
def shortcut_target(z, t, d, a, b, c):
    """Return the mean of the velocities of two half jumps.

    Args:
        z: points at the time t (B, D).
        t: the time, a number.
        d: length of the whole jump, a number, d <= t.
        a, b, c: parameters of the network, numbers.

    Returns:
        (B, D)
    """
    ### BEGIN SOLUTION
    half = d / 2
    first = (a + b * t + c * half) * z
    there = z - half * first
    second = (a + b * (t - half) + c * half) * there
    return (first + second) / 2
    ### END SOLUTION


# %%
check.shortcut_target(shortcut_target)

# %% [markdown]
# ## 5. The target of MeanFlow
#
# The mean velocity obeys $u=v-(t-r)\frac{du}{dt}$. Here $\frac{du}{dt}$ is the slope along the
# line: $z$ moves with $v=\epsilon-x_0$, $t$ grows with speed 1, and $r$ stands still. Take the
# network $u(z,r,t)=(a\,t+b\,r)\,z^2$, for every coordinate, at $z=(1-t)x_0+t\epsilon$, and
# return the target $v-(t-r)\frac{du}{dt}$. (`torch.func.jvp` does it for any network; here
# paper will do.)


# %%
def meanflow_target(x0, eps, t, r, a, b):
    """Return v - (t - r) du/dt for u(z, r, t) = (a t + b r) z^2.

    Args:
        x0: data (B, D).
        eps: standard normal noise (B, D).
        t, r: times, numbers, r <= t.
        a, b: parameters of the network, numbers.

    Returns:
        (B, D)
    """
    ### BEGIN SOLUTION
    z, v = (1 - t) * x0 + t * eps, eps - x0
    slope = a * z**2 + (a * t + b * r) * 2 * z * v
    return v - (t - r) * slope
    ### END SOLUTION


# %%
check.meanflow_target(meanflow_target)

# %% [markdown]
# The same slope for a network of the course, by one pass forward and by two evaluations a
# little apart:

# %%
seed_everything(0)
net, point, v = JumpNet(2).double(), torch.randn(1, 2).double(), torch.randn(1, 2).double()
t, r, h = torch.tensor([0.8]).double(), torch.tensor([0.3]).double(), 1e-5
_, slope = mean_and_slope(net, point, t, r, v)
apart = (net(point + h * v, t + h, r) - net(point - h * v, t - h, r)) / (2 * h)
print(slope.tolist(), apart.tolist())

# %% [markdown]
# ## 6. Back to some noise
#
# A consistency model ends at the level low, not at 0: the point $x$ has that much noise
# already. Bring it to the level $s>\text{low}$. Independent noise: variances add.


# %%
def renoise(x, s, low, eps):
    """Return the point at the level s.

    Args:
        x: points at the level low (B, D).
        s, low: levels of noise, numbers, s > low.
        eps: standard normal noise (B, D).

    Returns:
        (B, D)
    """
    ### BEGIN SOLUTION
    return x + (s**2 - low**2) ** 0.5 * eps
    ### END SOLUTION


# %%
check.renoise(renoise)

# %% [markdown]
# ## Further, without a check
#
# 1. **How far is the truth?** Below, ten points of noise and where the exact ODE of eight
#    Gaussians leads them. Train a `ConsistencyModel` with 10, 40 and 160 levels: how do the
#    means of the distances change, and how the share of points in the wrong bell?
# 2. **A teacher that is an average.** Keep a copy of the network by `training.ema` and let it
#    say the lower level. Is it better than the same network with its gradient stopped?
# 3. **Only halves.** Train a `Shortcut` with `share=1.0`. What does nobody tell it?

# %%
law = toy.get("eight_gaussians").law
best = MixtureDenoiser(law.means, law.sigma, law.weights)
print(solution_map(best, torch.randn(10, 2, generator=generator(2)).double()))
