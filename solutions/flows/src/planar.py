# %% [markdown]
# # Exercises: change of variables
#
# Six short pieces of code: a density under a map of the line, the determinant of a planar
# step, its repair and its inverse, an objective without data, and the radial step. Under
# each stands a check that runs *your* function on fresh inputs. A red line names the wrong
# property; a plausible mistake gets a hint. Nothing depends on an unanswered question:
# later cells use the course's own code.

# %% [markdown] tags=["nav"]
# before this: [Densities, samples and divergences](../../lectures/foundations/densities.ipynb) ·
# [lecture](../../lectures/flows/planar.ipynb) ·
# [exercise](../../exercises/flows/planar.ipynb)

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
from torch.autograd.functional import jacobian

from gdm_course import plotting as plot
from gdm_course.checks.flows import planar as check
from gdm_course.data import energies
from gdm_course.flows import radial
from gdm_course.flows.flow import ReverseKL
from gdm_course.flows.planar import PlanarFlow
from gdm_course.training import budget, seed_everything, train

plot.style()

# %% [markdown]
# ## 1. On the line
#
# Incomes, file sizes and the lengths of words are positive, and their logarithms look
# Gaussian: $x = e^{\mu + \sigma z}$ with $z\sim\mathcal N(0, 1)$. What is the density of
# $x$? Use
#
# $$p_x(x) = p_z(f(x))\,|f'(x)| \tag{1}$$
#
# with the inverse $f$ of the map. Write it down on paper, then in logarithms.


# %%
def lognormal_log_prob(x, mu, sigma):
    """Return log p(x) of x = exp(mu + sigma z) with standard normal z.

    Args:
        x: positive numbers (B,).
        mu: a number ().
        sigma: a positive number ().

    Returns:
        (B,), in nats.
    """
    ### BEGIN SOLUTION
    z = (x.log() - mu) / sigma  # f(x)
    log_slope = -(sigma * x).log()  # f'(x) = 1 / (sigma x)
    return -0.5 * z**2 - 0.5 * math.log(2 * math.pi) + log_slope
    ### END SOLUTION


# %%
check.lognormal_log_prob(lognormal_log_prob)

# %% [markdown]
# An independent oracle is a histogram of samples: no formula was needed to draw them.

# %%
seed_everything(0)
x = torch.exp(0.2 + 0.6 * torch.randn(100_000))
(ax,) = plot.panels("x = exp(0.2 + 0.6 z)", width=4.5)
ax.hist(x[x < 8], 150, density=True, color=plot.SKY, label="100,000 points")
at = torch.linspace(0.01, 8, 400)
try:
    p = lognormal_log_prob(at, torch.tensor(0.2), torch.tensor(0.6)).exp()
    ax.plot(at, p, color=plot.BLACK, label="your density")
except NotImplementedError:
    print("(write lognormal_log_prob first)")
ax.set(xlabel="x", ylabel="density", xlim=(0, 8))
_ = ax.legend()

# %% [markdown]
# ## 2. The determinant of a planar step
#
# For $x = z + u\tanh(w\cdot z + b)$ the Jacobian is the identity plus a matrix of rank one.
# With the matrix determinant lemma, $\det(I + u\,v^\top) = 1 + v\cdot u$, find
#
# $$\log\Bigl|\det\frac{\partial x}{\partial z}\Bigr|.$$
#
# You may rely on $w\cdot u > -1$, so that the determinant is positive. The lemma spares you
# the matrix (the check cannot see whether there is one).


# %%
def planar_log_det(z, w, u, b):
    """Return log |det dx/dz| of x = z + u tanh(w.z + b).

    Args:
        z: points (B, D).
        w, u: vectors (D,) with w.u > -1.
        b: a number ().

    Returns:
        (B,)
    """
    ### BEGIN SOLUTION
    t = torch.tanh(z @ w + b)  # (B,)
    return torch.log1p((1 - t**2) * (w @ u))
    ### END SOLUTION


# %%
check.planar_log_det(planar_log_det)

# %% [markdown]
# Autograd knows nothing of the lemma. In 5 dimensions it can afford the full determinant:

# %%
seed_everything(1)
w, u, b = torch.randn(5), torch.randn(5) * 0.3, torch.tensor(0.1)
point = torch.randn(5)
J = jacobian(lambda z: z + u * torch.tanh(z @ w + b), point)
print(f"w.u = {w @ u:.3f}; autograd: {J.det().log():.6f}")
try:
    print(f"yours:                {planar_log_det(point[None], w, u, b).item():.6f}")
except NotImplementedError:
    print("(write planar_log_det first)")

# %% [markdown]
# ## 3. The repair
#
# Free parameters $u$ and $w$ may violate $w\cdot u>-1$. Move $u$ along $w$ until
# $w\cdot\hat u = g - 1$ with
#
# $$g = \mathrm{softplus}\bigl(w\cdot u + \log(e - 1)\bigr) > 0.$$
#
# How far along $w$ do you have to go to change $w\cdot u$ by one?


# %%
def repaired(u, w):
    """Return u_hat, which differs from u along w only and has w.u_hat = g - 1 > -1.

    Args:
        u, w: vectors (D,), w not 0.

    Returns:
        u_hat (D,)
    """
    ### BEGIN SOLUTION
    s = w @ u
    g = torch.nn.functional.softplus(s + math.log(math.e - 1))
    return u + (g - 1 - s) / (w @ w) * w
    ### END SOLUTION


# %%
check.repaired(repaired)

# %% [markdown]
# Points across a plane, in one dimension: with the repair, no two of the curves' points
# share a height.

# %%
z = torch.linspace(-3, 3, 300)
axes = plot.panels("free u", "your u_hat", width=3.6)
for u_1 in (-3.0, -1.5, -0.5, 0.5, 1.5):
    u_1, w_1 = torch.tensor([u_1]), torch.tensor([2.0])
    axes[0].plot(z, z + u_1 * torch.tanh(2 * z), label=f"u = {u_1.item()}")
    try:
        x = z + repaired(u_1, w_1) * torch.tanh(2 * z)
        axes[1].plot(z, x, label=f"u = {u_1.item()}")
        assert (x.diff() > 0).all()
    except NotImplementedError:
        axes[1].set_title("(write repaired first)", loc="left")
for ax in axes:
    ax.set(xlabel="z", ylabel="x", ylim=(-5, 5))
_ = axes[0].legend(fontsize=7)

# %% [markdown]
# ## 4. The way back
#
# Given $x = z + u\tanh(w\cdot z+b)$ with $w\cdot u > -1$, find $z$. First find the one
# number $a = w\cdot z + b$: it is the root of an increasing function,
#
# $$a + (w\cdot u)\tanh a = w\cdot x + b.$$
#
# Any method will do, if it always arrives: the check asks for $w\cdot u$ from $-0.97$ to 32,
# where Newton's steps from $a=y$ on swing to and fro for ever, and for points far out.
# Bisection is the simplest: since $|\tanh|\le1$, the root lies within $|w\cdot u|$ of
# $y = w\cdot x+b$. Each halving gains one bit; float32 has 24 of them.


# %%
def invert_planar(x, w, u, b):
    """Return z with z + u tanh(w.z + b) = x, good to 1e-4.

    Args:
        x: points (B, D).
        w, u: vectors (D,) with w.u > -1.
        b: a number ().

    Returns:
        z (B, D)
    """
    ### BEGIN SOLUTION
    y, s = x @ w + b, w @ u
    low, high = y - s.abs(), y + s.abs()
    for _ in range(40):
        a = (low + high) / 2
        above = a + s * torch.tanh(a) > y
        low, high = torch.where(above, low, a), torch.where(above, a, high)
    return x - torch.tanh(a)[:, None] * u
    ### END SOLUTION


# %%
check.invert_planar(invert_planar)

# %% [markdown]
# Bisection, or Newton as in the lecture? Both find the same root, if Newton starts on the
# right side of it, as the lecture's does. Then it needs two to ten steps instead of forty,
# because close to the root each one doubles the digits.
#
# ## 5. An objective without data
#
# A target is known up to its normaliser, $p(x) = e^{-U(x)}/Z$. Draw $z$, map it to $x$, and
# minimise $\mathrm{KL}(q\,\|\,p)$, but for the constant $\log Z$, and with $\beta U$ in place
# of $U$:
#
# $$\mathbb E_z\bigl[\log q(x) + \beta\,U(x)\bigr].$$
#
# You are given $\log p_z(z)$, the log-determinant $\log|\det\partial x/\partial z|$ of the
# map from noise to data, and the energies. Which sign has the log-determinant in $\log
# q(x)$?


# %%
def reverse_kl_loss(log_p_z, log_det, U, beta):
    """Return the batch's estimate of E[log q(x) + beta U(x)].

    Args:
        log_p_z: log-density of the noise (B,).
        log_det: log |det dx/dz| (B,).
        U: energies of the x (B,).
        beta: a number.

    Returns:
        A number (), in nats.
    """
    ### BEGIN SOLUTION
    log_q = log_p_z - log_det
    return (log_q + beta * U).mean()
    ### END SOLUTION


# %%
check.reverse_kl_loss(reverse_kl_loss)

# %% [markdown]
# Does the schedule of $\beta$ help? Two runs towards the same energy: $\beta$ rising from
# nearly 0, and $\beta = 1$ from the start.

# %%
target, steps = energies.get("U4"), budget(400, 5)
runs = {}
for name, beta in (
    ("rising beta", lambda k: min(1.0, 0.01 + 1.5 * k / steps)),
    ("beta = 1", lambda k: 1.0),
):
    seed_everything(0)
    flow = PlanarFlow(2, layers=12)
    problem = ReverseKL(flow, target)
    fresh = ((torch.randn(256, 2), beta(k)) for k in range(steps))
    for _ in train(problem, fresh, steps, lambda k: 2e-2 * (1 - k / steps)):
        pass
    with torch.no_grad():
        kl = (problem.values(torch.randn(20_000, 2)) + target.log_z).mean().item()
    runs[f"{name}: {kl:.2f} nats"] = flow.sample(2000)
axes = plot.panels("truth", *runs)
plot.density(target.log_prob, target.bounds, axes[0])
for ax, x in zip(axes[1:], runs.values()):
    plot.scatter(x, ax, target.bounds)

# %% [markdown]
# One seed on one energy proves nothing about a schedule. Repeat it with three seeds and with
# `U1` and `U3` before you believe in it, or not.
#
# ## 6. A radial step
#
# $x = z + \beta\,(z-c)/(\alpha+r)$ with $r = |z-c|$ moves points along rays from the centre
# $c$. In $D$ dimensions there are $D-1$ directions around the centre and one outwards. By
# what factor does the step stretch each of them? The outward one is the derivative of the
# new radius $r + \beta r/(\alpha+r)$. The determinant is the product of all.


# %%
def radial_log_det(z, c, alpha, beta):
    """Return log |det dx/dz| of x = z + beta (z - c) / (alpha + |z - c|).

    Args:
        z: points (B, D).
        c: the centre (D,).
        alpha: a positive number ().
        beta: a number above -alpha ().

    Returns:
        (B,)
    """
    ### BEGIN SOLUTION
    r = torch.linalg.vector_norm(z - c, dim=1)
    around = 1 + beta / (alpha + r)
    outwards = 1 + alpha * beta / (alpha + r) ** 2
    return (z.shape[1] - 1) * around.log() + outwards.log()
    ### END SOLUTION


# %%
check.radial_log_det(radial_log_det)

# %% [markdown]
# Look at it: the log-determinant of the course's radial step in the plane, once pushing and
# once pulling. Where is the area lost that the centre gains?

# %%
axes = plot.panels("push: beta > 0", "pull: beta < 0", width=3.6)
for ax, free in zip(axes, (3.0, -3.0)):
    step = radial.Radial(2)
    step.c.data, step.free.data = torch.zeros(2), torch.tensor(free)
    with torch.no_grad():
        log_det = step.inverse(plot.mesh(((-4.0, 4.0), (-4.0, 4.0)), 120))[1].view(120, 120)
    image = ax.imshow(
        log_det, origin="lower", extent=(-4, 4, -4, 4), cmap="RdBu_r", vmin=-2, vmax=2
    )
    ax.set(xlabel="z1", ylabel="z2")
    ax.figure.colorbar(image, ax=ax, label="log-determinant", shrink=0.8)

# %% [markdown]
# Nowhere. A push stretches *every* region, most at the centre, and far away it hardly does
# anything: the whole sheet gets larger.
#
# ## Further, without a check
#
# 1. **Another bend.** Replace $\tanh$ by a leaky rectifier of slope $\lambda$ on the left.
#    The step is then linear on both sides of the plane. Derive the condition on $w\cdot u$,
#    and the inverse *in closed form*: on which side of the plane is $z$, given $x$?
# 2. **Sylvester flows** (van den Berg and others, 2018). Let $U$ and $W$ be matrices $D\times
#    M$: $x = z + U\tanh(W^\top z + b)$. By $\det(I_D + AB) = \det(I_M + BA)$ the determinant
#    is of size $M$. Prove that identity, and see when it is triangular.
# 3. **An importance sampler.** With $\log q$ of the samples known, $\log Z = \log\mathbb
#    E_q[e^{-U(x)}/q(x)]$. Estimate it with the flow of exercise 5 and compare with
#    `energies.get("U4").log_z`. What does the effective sample size say?
