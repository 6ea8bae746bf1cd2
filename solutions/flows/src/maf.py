# %% [markdown]
# # Exercises: one dimension bends the next
#
# Six short pieces of code: a layer of MAF in both directions, the log-determinant, and a
# rational-quadratic spline with its slope and its inverse. Under each stands a check that
# runs *your* function on fresh inputs. A red line names the wrong property; a plausible
# mistake gets a hint. Later cells use the course's own code, so nothing blocks.

# %% [markdown] tags=["nav"]
# before this: [Half of it stays: coupling flows](../../lectures/flows/realnvp.ipynb), [One dimension at a time: NADE, RNADE and MADE](../../lectures/autoregressive/nade.ipynb) ·
# [lecture](../../lectures/flows/maf.ipynb) ·
# [exercise](../../exercises/flows/maf.ipynb)

# %% tags=["setup"]
import importlib.util

if importlib.util.find_spec("gdm_course") is None:
    raise ImportError(
        "the package gdm_course is not installed here: run 'make lab' in the course's "
        "folder, or 'pip install -e .[lab]', and choose that environment as the kernel"
    )

# %%
import torch
import torch.nn.functional as F
from torch.distributions import Normal

from gdm_course import plotting as plot
from gdm_course.checks.flows import maf as check
from gdm_course.data import toy
from gdm_course.flows import maf, spline
from gdm_course.training import budget, forever, seed_everything, train

plot.style()

# %% [markdown]
# ## 1. A layer of MAF, from data to noise
#
# A network told you $\mu_d(x_{<d})$ and $\log\sigma_d(x_{<d})$ for a batch of points. Map
# the points to noise and give the log-determinant of that map:
#
# $$z_d = \frac{x_d-\mu_d}{\sigma_d},\qquad
#   \log\left|\det\frac{\partial z}{\partial x}\right| = -\sum_d\log\sigma_d.$$


# %%
def affine_layer(x, mu, log_sigma):
    """Map data to noise.

    Args:
        x, mu, log_sigma: (B, D).

    Returns:
        z (B, D) and log |det dz/dx| (B,).
    """
    ### BEGIN SOLUTION
    return (x - mu) * torch.exp(-log_sigma), -log_sigma.sum(-1)
    ### END SOLUTION


# %%
check.affine_layer(affine_layer)

# %% [markdown]
# Now you own the density of an autoregressive model with Gaussian conditionals without
# having written a Gaussian: the base's log density at $z$, plus the log-determinant.

# %%
seed_everything(0)
x, mu, log_sigma = torch.randn(3, 4, 2)
try:
    z, log_det = affine_layer(x, mu, log_sigma)
except NotImplementedError:
    print("(write affine_layer first)")
else:
    print("your flow:           ", (Normal(0, 1).log_prob(z).sum(-1) + log_det).tolist())
print("Gaussian conditionals:", Normal(mu, log_sigma.exp()).log_prob(x).sum(-1).tolist())

# %% [markdown]
# ## 2. And back, in order
#
# Invert such a layer. You get the noise $z$ and a function `network` that maps any $x$ of
# shape $(B, D)$ to $(\mu, \log\sigma)$, each $(B, D)$, where number $d$ looks at $x_{<d}$
# only. The lecture's iteration repeats $x \leftarrow \mu(x)+\sigma(x)\,z$. How often? And
# does it matter where you start?
#
# The check's network is $\mu = xA^\top$ and $\log\sigma = \tanh(xC^\top)$ with strictly
# lower triangular matrices $A$ and $C$. Your function gets the matrices.


# %%
def network(x, A, C):
    """The check's network: mu and log sigma, (B, D) each, from x (B, D)."""
    return x @ A.T, torch.tanh(x @ C.T)


# %%
def invert_layer(z, A, C):
    """Map noise to data: x_d = mu_d(x_<d) + sigma_d(x_<d) z_d.

    Args:
        z: (B, D).
        A, C: strictly lower triangular (D, D), for `network(x, A, C)`.

    Returns:
        x (B, D).
    """
    ### BEGIN SOLUTION
    x = torch.zeros_like(z)
    for _ in range(z.shape[1]):
        mu, log_sigma = network(x, A, C)
        x = mu + torch.exp(log_sigma) * z
    return x
    ### END SOLUTION


# %%
check.invert_layer(invert_layer)

# %% [markdown]
# ## 3. Which order is right?
#
# One affine layer is exact on the banana if $x_1$ goes first, and poor if $x_2$ does. Two
# layers with a reversal between them fit both. In which order do the *sampled* dimensions
# come out of `MAF(2, layers=1)`, and what does a `Reverse` in front of it change? See for
# yourself; there is no check here.

# %%
banana = toy.get("banana")
seed_everything(0)
x, x_new = banana.sample(20_000).float(), banana.sample(20_000).float()
for name, turn in {"x1 first": lambda x: x, "x2 first": lambda x: x.flip(-1)}.items():
    for layers in (1, 2):
        seed_everything(0)
        model = maf.MAF(2, layers=layers)
        rate = lambda step: 5e-3 * (1 - step / 400)
        for _ in train(model, forever(turn(x), 512), budget(400, 5), rate):
            pass
        with torch.no_grad():
            kl = (banana.log_prob(x_new) - model.log_prob(turn(x_new))).mean()
        print(f"{name}, {layers} layer(s): KL {kl:.3f} nats")

# %% [markdown]
# <details><summary>Answer</summary>
#
# Dimension 1 comes first: it depends on nothing. A `Reverse` in front hands the layer
# $(x_2,x_1)$, so that $x_2$ is sampled first, as in the rows "x2 first".
# </details>

# %% [markdown]
# ## 4. Knots
#
# Turn $2K$ arbitrary numbers into the $K+1$ knots of an increasing curve through the box
# $[-B, B]^2$: the first $K$ numbers give the widths, the others the heights,
#
# $$\text{widths} = 2B\,\mathrm{softmax}(a_{1..K}),\qquad
#   \text{heights} = 2B\,\mathrm{softmax}(a_{K+1..2K}),$$
#
# and knots are where the bins meet: they begin at $-B$ and end at $B$. (Leave out the
# thousandth that the lecture's own code keeps.)


# %%
def knots(a, bound):
    """Return the positions and the values of the knots.

    Args:
        a: any numbers, large ones too, (N, 2 K).
        bound: B, half of the side of the box.

    Returns:
        Positions and values, (N, K + 1) each.
    """
    ### BEGIN SOLUTION
    parts = a.unflatten(-1, (2, -1)).softmax(-1)
    edges = F.pad(parts.cumsum(-1), (1, 0))  # 0, ..., 1
    positions, values = (2 * bound * edges - bound).unbind(-2)
    return positions, values
    ### END SOLUTION


# %%
check.knots(knots)

# %% [markdown]
# ## 5. The curve inside of a bin, and its slope
#
# Let $t\in[0,1]$ be the fraction of the bin left of $x$, $s=h/w$ its steepness, and
# $\delta_0,\delta_1$ the slopes at its ends:
#
# $$\frac{y-y_0}{h}=\frac{st^2+\delta_0t(1-t)}{s+(\delta_0+\delta_1-2s)\,t(1-t)},\qquad
#   \frac{dy}{dx}=\frac{s^2\left[\delta_1t^2+2st(1-t)+\delta_0(1-t)^2\right]}
#   {\left[s+(\delta_0+\delta_1-2s)\,t(1-t)\right]^2}.$$


# %%
def rational_quadratic(t, s, d0, d1):
    """Return the fraction of the bin's height and the log slope.

    Args:
        t: fractions of the bin's width in [0, 1], (N,).
        s: steepness of the bins, (N,).
        d0, d1: slopes at their left and right ends, (N,).

    Returns:
        (y - y0) / h and log dy/dx, (N,) each.
    """
    ### BEGIN SOLUTION
    u = t * (1 - t)
    below = s + (d0 + d1 - 2 * s) * u
    above = d1 * t**2 + 2 * s * u + d0 * (1 - t) ** 2
    return (s * t**2 + d0 * u) / below, torch.log(s**2 * above / below**2)
    ### END SOLUTION


# %%
check.rational_quadratic(rational_quadratic)

# %% [markdown]
# An oracle that needs no formula: the slope is the derivative of the value. Autograd knows
# derivatives. (By $t$, not by $x$: one unit of $t$ is $w$, and the height $h = s\,w$.)

# %%
seed_everything(0)
t = torch.rand(5, requires_grad=True)
s, d0, d1 = (0.2 + torch.rand(3, 5)).unbind(0)
try:
    y, log_slope = rational_quadratic(t, s, d0, d1)
except NotImplementedError:
    print("(write rational_quadratic first)")
else:
    by_autograd = s * torch.autograd.grad(y.sum(), t)[0]
    print("autograd:", by_autograd.tolist())
    print("yours:   ", log_slope.exp().tolist())

# %% [markdown]
# ## 6. The inverse, without cancellation
#
# With $v=(y-y_0)/h$ the fraction of the height, $e=\delta_0+\delta_1-2s$, solve
#
# $$a\,t^2+b\,t-s\,v=0,\qquad a=s-\delta_0+e\,v,\qquad b=\delta_0-e\,v$$
#
# for the root in $[0,1]$. Many bins are nearly straight, and there $a$ is almost 0, as it may
# be at a height of one that bends; others end so steeply that $b$ is far below 0 (the check
# asks for all of these, in single precision). The
# quadratic formula has two forms, $(-b+\sqrt{\cdot})/2a$ and, multiplied by $b+\sqrt\cdot$
# above and below, $2sv/(b+\sqrt\cdot)$. Which one survives where?


# %%
def solve_bin(v, s, d0, d1):
    """Return the fraction t of the bin's width at which its height has the fraction v.

    Args:
        v: fractions of the height in [0, 1], (N,).
        s: steepness of the bins, (N,).
        d0, d1: slopes at their left and right ends, (N,).

    Returns:
        t (N,).
    """
    ### BEGIN SOLUTION
    e = d0 + d1 - 2 * s
    a, b = s - d0 + e * v, d0 - e * v
    root = torch.sqrt(b**2 + 4 * a * s * v)  # neither sum below cancels
    return torch.where(b < 0, (root - b) / (2 * a), 2 * s * v / (b + root))
    ### END SOLUTION


# %%
check.solve_bin(solve_bin)

# %% [markdown]
# ## 7. A spline flow by the ring
#
# (The course's `fraction` goes one step further: its form keeps the number under the root
# from cancelling, too.)
#
# All pieces together, in the course's own version. A vertical line through the middle of
# the ring meets it twice, one near its left or right end once: slices have two humps or one.

# %%
ring = toy.get("ring")
seed_everything(0)
x, flow = ring.sample(50_000).float(), spline.SplineFlow(2)
for _ in train(flow, forever(x, 512), budget(300, 5), lambda step: 5e-3 * (1 - step / 300)):
    pass
with torch.no_grad():
    new = ring.sample(20_000).float()
    kl = (ring.log_prob(new) - flow.log_prob(new)).mean()
left, right = plot.panels("the ring", f"SplineFlow: KL {kl:.3f} nats")
plot.density(ring.log_prob, ring.bounds, left, vmax=0.25)
_ = plot.density(flow.log_prob, ring.bounds, right, vmax=0.25)

# %% [markdown]
# ## Further, without a check
#
# 1. **An order for every layer.** `Reverse` is one permutation. On 64-pixel digits
#    (dequantised), does a random permutation between layers fit better?
# 2. **A teacher and a student.** Train a MAF on two moons, then an IAF by
#    $\mathbb E_{x\sim\mathrm{IAF}}[\log p_\mathrm{IAF}(x)-\log p_\mathrm{MAF}(x)]$: both
#    terms are cheap if you keep the $z$. This is how Parallel WaveNet learnt to speak. Which
#    divergence do you minimise, and what happens to a moon that the student misses?
# 3. **Bins.** Vary `bins` of `SplineFlow` on the grid of 25 Gaussians: 4, 8, 16, 32. How
#    many does a slice with five humps need?
