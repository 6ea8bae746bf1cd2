# %% [markdown]
# # Capstone: an entry
#
# Three methods, which the frozen loop calls: noise levels, coupling, loss. The
# [statement](../../lectures/challenges/capstone.ipynb) says what is frozen and how an entry is
# scored. Nothing here is asked on paper: try, measure, change one thing at a time.

# %% [markdown] tags=["nav"]
# before this: [A thousand small steps: denoising diffusion](../../lectures/diffusion/ddpm.ipynb), [Flowing in time: continuous flows](../../lectures/flows/continuous.ipynb) ·
# [lecture](../../lectures/challenges/capstone.ipynb) ·
# [exercise](../../exercises/challenges/capstone.ipynb)

# %% tags=["setup"]
import importlib.util

if importlib.util.find_spec("gdm_course") is None:
    raise ImportError(
        "the package gdm_course is not installed here: run 'make lab' in the course's "
        "folder, or 'pip install -e .[lab]', and choose that environment as the kernel"
    )

# %%
import torch

from gdm_course import plotting as plot
from gdm_course.checks.challenges import capstone as check
from gdm_course.contract import digits, plane
from gdm_course.contract.frozen import JUMPS, STEPS, Contract, generate, with_weights
from gdm_course.training import budget, generator

plot.style()

# %% [markdown]
# ## Your entry
#
# `eps - x` is the velocity of the straight path from data to noise, and $x_t = (1-t)x+t\epsilon$
# is on it. Where many paths cross, the network learns their mean, and one jump along a mean
# ends between the data. So think of three things: which jumps does the sampler make, and does
# the network learn those? Can noise be given to rows so that fewer paths cross? Is
# there a loss that sees where a jump *ends*?


# %%
class Entry(Contract):
    """What the frozen loop asks for, for every batch."""

    def times(self, n, g):
        """Draw noise levels t and lengths d of jumps, 0 <= d <= t <= 1: (n,), (n,)."""
        ### BEGIN SOLUTION
        ends = torch.rand(n, 2, generator=g).sort(1).values
        jumps = torch.rand(n, generator=g) < 0.5  # the others learn velocities, d = 0
        return ends[:, 1], torch.where(jumps, ends[:, 1] - ends[:, 0], 0.0)
        ### END SOLUTION

    def coupling(self, x, eps, g):
        """Return the noise for each row of the data: (B, D), (B, D) -> (B, D)."""
        ### BEGIN SOLUTION
        from scipy.optimize import linear_sum_assignment

        _, order = linear_sum_assignment(torch.cdist(x, eps).square().numpy())
        return eps[torch.as_tensor(order)]
        ### END SOLUTION

    def loss(self, net, x, eps, t, d):
        """Return what is minimised: a number ()."""
        ### BEGIN SOLUTION
        # mean velocity u = v - d du/dt, along the path with the end of the jump fixed
        x_t, v, one = torch.lerp(x, eps, t[:, None]), eps - x, torch.ones_like(t)
        u, slope = torch.func.jvp(net, (x_t, t, d), (v, one, one))
        error = (u - (v - d[:, None] * slope).detach()).square().sum(1)
        return (error / (error.detach() + 0.01).sqrt()).mean()  # large errors count less
        ### END SOLUTION


# %% [markdown]
# Train it in the plane, and look at samples after 1, 2 and 4 evaluations beside the law. Below
# each: its energy distance.

# %%
g = generator(0)
law = plane.bells(g)
try:
    weights = Entry().fit(law.sample(plane.TRAINING, g), budget(STEPS, 20), seed=0)
except NotImplementedError:
    print("(write Entry first)")
else:
    scores, eps = plane.scores(weights, law, g), torch.randn(1000, 2, generator=g)
    titles = [f"{k} evaluations: {score:.4f}" for k, score in zip(JUMPS, scores)]
    axes = plot.panels(*titles, "the law")
    for ax, k in zip(axes, JUMPS):
        plot.scatter(generate(with_weights(weights, 2), eps, k), ax)
    plot.scatter(law.sample(1000, g), axes[-1])

# %% [markdown]
# The same on digits; rows are the noise as pictures, samples after 1, 2 and 4 evaluations, and
# digits.

# %%
turned = digits.turned(g)
try:
    weights = Entry().fit(turned.rows, budget(STEPS, 20), seed=0)
except NotImplementedError:
    print("(write Entry first)")
else:
    D = digits.DIRECTIONS
    eps = torch.randn(12, D, generator=g)
    net, noise = with_weights(weights, D), turned.pictures(eps)
    made = [turned.pictures(generate(net, eps, k)) for k in JUMPS]
    plot.image_grid(torch.cat([noise, *made, turned.others[:12]]), columns=12)

# %% [markdown]
# ## What is handed in
#
# Three heights, which differ only in what is good enough. Each trains your entry three times,
# on laws of its own.

# %%
fair = good = best = Entry

# %%
check.fair(fair)

# %%
check.good(good)

# %%
check.best(best)

# %% [markdown]
# ## Further, without a check
#
# 1. **Which of the three.** Take back one of your choices at a time. Which one is worth most, and
#    at how many evaluations?
# 2. **One evaluation, more weights.** With one evaluation the network is a generator like a
#    GAN's. What would a discriminator add to your loss, and what would it cost?
