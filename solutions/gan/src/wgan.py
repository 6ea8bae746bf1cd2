# %% [markdown]
# # Exercises: how far, how steep, which of the two
#
# Six short pieces of code: what a critic of unknown slope proves, the gradient penalty, a
# step of power iteration, GroupSort, the relativistic losses, and the average of a
# generator. Under each stands a check that runs *your* function on fresh inputs. A red line
# names the wrong property; a plausible mistake gets a hint. Nothing depends on an
# unanswered question: later cells use the course's own code.

# %% [markdown] tags=["nav"]
# before this: [Two players: generative adversarial networks](../../lectures/gan/gan.ipynb) ·
# [lecture](../../lectures/gan/wgan.ipynb) ·
# [exercise](../../exercises/gan/wgan.ipynb)

# %% tags=["setup"]
import importlib.util

if importlib.util.find_spec("gdm_course") is None:
    raise ImportError(
        "the package gdm_course is not installed here: run 'make lab' in the course's "
        "folder, or 'pip install -e .[lab]', and choose that environment as the kernel"
    )

# %%
import torch
from torch import nn

from gdm_course import plotting as plot
from gdm_course.checks.gan import wgan as check
from gdm_course.divergences import exact_w1
from gdm_course.gan.spectral import GroupSort
from gdm_course.gan.wgan import interpolate
from gdm_course.nets import mlp
from gdm_course.training import seed_everything

plot.style()

# %% [markdown]
# ## 1. What a critic proves
#
# Some network $f$ has looked at data $x_1,\dots,x_n$ and fakes $y_1,\dots,y_m$, and nobody
# knows how steep it is. Divided by its slope it would be a critic. For a distance between
# these two samples it is enough to know how steep it is on the ways from a data point to a
# fake: let $L$ be the *largest* slope of all of them,
#
# $$L = \max_{i,j}\frac{|f(x_i) - f(y_j)|}{|x_i - y_j|}, \qquad
#   W_1 \;\ge\; \frac{\overline{f(x)} - \overline{f(y)}}{L}.$$
#
# Return the right side, with its sign. For a critic that prefers the fakes it is negative:
# true, but $-f$, which is as steep, proves more.


# %%
def certified_w1(f_x, f_y, x, y):
    """Return what the critic proves of the distance of two samples.

    Args:
        f_x: what it says of the data (n,).
        f_y: what it says of the fakes (m,).
        x: the data (n, D).
        y: the fakes (m, D).

    Returns:
        A number (), at most W_1.
    """
    ### BEGIN SOLUTION
    far = (x[:, None] - y).norm(dim=2)  # (n, m)
    steepest = ((f_x[:, None] - f_y).abs() / far).max()
    return (f_x.mean() - f_y.mean()) / steepest
    ### END SOLUTION


# %%
check.certified_w1(certified_w1)

# %% [markdown]
# Three critics of one pair of samples, none of them trained. What does each prove, and
# how far is it really?

# %%
seed_everything(0)
x, y = torch.randn(200, 2) + torch.tensor([1.0, 0.0]), torch.randn(200, 2)
critics = {
    "the first coordinate": lambda t: t[:, 0],
    "100 times that": lambda t: 100 * t[:, 0],
    "a random network": lambda t: mlp((2, 32, 1))(t)[:, 0].detach(),
}
for name, f in critics.items():
    try:
        both = f(torch.cat([x, y]))
        print(f"{name:22} {certified_w1(both[:200], both[200:], x, y):.3f}")
    except NotImplementedError:
        print("(write certified_w1 first)")
print(f"{'exact':22} {exact_w1(x, y):.3f}")

# %% [markdown]
# ## 2. A slope of 1 between
#
# The gradient penalty asks that the *length* of a critic's slope be 1 on the way from each
# data point to its fake; a slope below 1 costs as well as one above. There is one number
# $u$ per pair, 0 at the data point and 1 at the fake. So that you need no autograd, the
# critic is $f(z) = \tfrac12 z^\top A z + b^\top z$ with a symmetric $A$: for a row $z$ its
# slope is `z @ A + b`. Return the mean of $(\text{length} - 1)^2$.


# %%
def gradient_penalty(x, y, u, A, b):
    """Return the mean squared difference between the slope's length and 1.

    Args:
        x: data (B, D).
        y: fakes (B, D).
        u: how far to go from x to y, in [0, 1], (B,).
        A: symmetric (D, D).
        b: (D,).

    Returns:
        A number ().
    """
    ### BEGIN SOLUTION
    z = x + u[:, None] * (y - x)
    slope = z @ A + b  # (B, D)
    return (slope.norm(dim=1) - 1).square().mean()
    ### END SOLUTION


# %%
check.gradient_penalty(gradient_penalty)

# %% [markdown]
# A popular mistake draws one $u$ per *pixel*. Then the points do not lie on lines: they
# fill the whole box between two pictures. How far from the line are they?

# %%
seed_everything(0)
x, y = torch.zeros(1000, 64), torch.ones(1000, 64)
for name, z in {"per pair": interpolate(x, y), "per pixel": torch.rand(1000, 64)}.items():
    off = (z - z.mean(1, keepdim=True)).norm(dim=1).mean()
    print(f"one u {name}: {off:.2f} from the line, which is 8 long")

# %% [markdown]
# ## 3. What a matrix stretches most
#
# The largest singular value of $W$ is the most that it stretches a vector. Power iteration
# finds it: from a guess $u$ in the space of outputs go back and forth,
#
# $$v = \frac{W^\top u}{|W^\top u|}, \qquad u = \frac{W v}{|W v|},$$
#
# each made of length 1: first $v$, then a new $u$. Return $\sigma = u^\top W v$, the new
# $u$ and $v$, all of *one* step.


# %%
def power_step(W, u):
    """Go back and forth once.

    Args:
        W: (n, m).
        u: a guess (n,), of any length.

    Returns:
        sigma (), u (n,) and v (m,).
    """
    ### BEGIN SOLUTION
    v = W.T @ u
    v = v / v.norm()
    u = W @ v
    u = u / u.norm()
    return u @ W @ v, u, v
    ### END SOLUTION


# %%
check.power_step(power_step)

# %% [markdown]
# How many steps does it take? A training keeps $u$ from step to step, since $W$ changes
# slowly, and takes one iteration each time.

# %%
seed_everything(0)
W, u = torch.randn(64, 64), torch.randn(64)
print(f"exact {torch.linalg.matrix_norm(W, 2):.3f}")
try:
    for step in range(1, 31):
        sigma, u, _ = power_step(W, u)
        if step in (1, 3, 10, 30):
            print(f"after {step:2} steps {sigma:.3f}")
except NotImplementedError:
    print("(write power_step first)")

# %% [markdown]
# ## 4. Sorted in pairs
#
# An activation that loses no slope: each pair of features is sorted, the larger one first.
# Neighbours 0 and 1, 2 and 3, and so on are a pair; pairs stay where they are.


# %%
def group_sort(x):
    """Return each pair as (larger, smaller).

    Args:
        x: features (B, 2 K).

    Returns:
        (B, 2 K)
    """
    ### BEGIN SOLUTION
    pairs = x.unflatten(-1, (-1, 2))  # (B, K, 2)
    return torch.stack([pairs.amax(-1), pairs.amin(-1)], -1).flatten(-2)
    ### END SOLUTION


# %%
check.group_sort(group_sort)

# %% [markdown]
# Ten layers that do not stretch, with ReLU or GroupSort between them: which share of a
# slope of 1 arrives at the end?

# %%
seed_everything(0)
for name, act in (("ReLU", nn.ReLU()), ("GroupSort", GroupSort())):
    x = torch.randn(1000, 64, requires_grad=True)
    h = x
    for _ in range(10):
        h = act(h @ torch.linalg.qr(torch.randn(64, 64))[0])  # a rotation
    (slope,) = torch.autograd.grad(h[:, 0].sum(), x)
    print(f"{name:10} mean length of the slope {slope.norm(dim=1).mean():.3f}")

# %% [markdown]
# ## 5. Which of the two
#
# The relativistic discriminator is shown a data point and a fake, and says which is which:
# the logit of "the first is data" is $D(x) - D(y)$. Its loss is
# $-\log\operatorname{sigmoid}(D(x) - D(y))$, a mean over the pairs; the generator's is
# $-\log\operatorname{sigmoid}(D(y) - D(x))$. Data and fakes are paired row by row. The
# check asks for logits in the thousands, too.


# %%
def relativistic_losses(d_real, d_fake):
    """Return both players' losses.

    Args:
        d_real: logits of the data (B,).
        d_fake: logits of the fakes (B,).

    Returns:
        The discriminator's loss () and the generator's ().
    """
    ### BEGIN SOLUTION
    gap = d_real - d_fake
    softplus = nn.functional.softplus
    return softplus(-gap).mean(), softplus(gap).mean()
    ### END SOLUTION


# %%
check.relativistic_losses(relativistic_losses)

# %% [markdown]
# Add 5 to all logits. What happens to these losses, and to those of the ordinary GAN?

# %%
r, f = torch.tensor([1.0, 2.0, 0.5]), torch.tensor([-1.0, 0.0, 1.0])
plain = lambda r, f: nn.functional.softplus(-r).mean() + nn.functional.softplus(f).mean()
try:
    for c in (0.0, 5.0):
        D, G = relativistic_losses(r + c, f + c)
        print(f"+{c}: relativistic {D:.3f}, {G:.3f}; ordinary D {plain(r + c, f + c):.3f}")
except NotImplementedError:
    print("(write relativistic_losses first)")

# %% [markdown]
# ## 6. An average that starts
#
# Samples are drawn from an average of the generator's weights, which follows them slowly:
# it keeps the share `decay` of itself at each step. At first it would keep the random start
# for long. So at step $s = 1, 2, \dots$ the share that stays is `decay` or
# `step / (step + 10)`, whichever is smaller.


# %%
def average_step(mean, weights, step, decay):
    """Return the average after a step.

    Args:
        mean: the average so far, any shape.
        weights: the new weights, the same shape.
        step: s, a whole number from 1.
        decay: the share that stays later on, a number.

    Returns:
        The shape of mean.
    """
    ### BEGIN SOLUTION
    stays = min(decay, step / (step + 10))
    return stays * mean + (1 - stays) * weights
    ### END SOLUTION


# %%
check.average_step(average_step)

# %% [markdown]
# Weights that are 1 from the first step on, and an average that began at 0: how much of the
# start is left, with and without the warm-up?

# %%
try:
    warm = cold = torch.zeros(())
    for step in range(1, 501):
        warm = average_step(warm, torch.ones(()), step, 0.999)
        cold = 0.999 * cold + 0.001
    print(f"after 500 steps {1 - warm:.2g} of the start is left; without {1 - cold:.2f}")
except NotImplementedError:
    print("(write average_step first)")

# %% [markdown]
# ## Further, without a check
#
# 1. **The steepest pair.** Train any critic of the lecture on two samples and look for the
#    pair that decides $L$ in exercise 1. Is it close together? What if you leave out the
#    1 % of steepest pairs: is the figure still proven?
# 2. **Orthogonal layers.** Replace `SpectralLinear` by
#    `torch.nn.utils.parametrizations.orthogonal`. Then *no* direction is shrunk. Is the
#    two-dimensional estimate better, and what does a step cost?
# 3. **R1 for a critic.** The Wasserstein losses with R1 instead of a penalty at 1: in the
#    lecture of the game of two parameters it brought both to rest. Try it here.
