# %% [markdown]
# # Exercises: steering, restoring, and whether the spread is right
#
# Six short pieces of code: guidance by two answers of a network, guidance by a classifier, two widths that everybody takes for one, the loss of a network
# that fills holes, a step that fills them without any training, and a number that says
# whether restored pictures differ as much as they should. Under each stands a check that
# runs *your* function on fresh inputs. A red line names the wrong property; a plausible
# mistake gets a hint. Nothing depends on an unanswered question.

# %% [markdown] tags=["nav"]
# before this: [A thousand small steps: denoising diffusion](../../lectures/diffusion/ddpm.ipynb) ·
# [lecture](../../lectures/diffusion/guidance.ipynb) ·
# [exercise](../../exercises/diffusion/guidance.ipynb)

# %% tags=["setup"]
import importlib.util

if importlib.util.find_spec("gdm_course") is None:
    raise ImportError(
        "the package gdm_course is not installed here: run 'make lab' in the course's "
        "folder, or 'pip install -e .[lab]', and choose that environment as the kernel"
    )

# %%
from itertools import pairwise

import torch

from gdm_course import plotting as plot
from gdm_course.checks.diffusion import guidance as check
from gdm_course.training import seed_everything

plot.style()

# %% [markdown]
# ## 1. Past the label
#
# A network gives two answers for the same noisy points: one that was told the class, and a
# free one that was not. Start at the free answer, and go $1 + w$ times the way to the
# conditional one. At $w = 0$ that is the conditional answer itself. The answers may be
# clean points, noises or scores, of any shape.


# %%
def guided(conditional, free, w):
    """Return the guided answer.

    Args:
        conditional, free: answers with and without the class (B, *D).
        w: weight of the guidance, a number.

    Returns:
        (B, *D)
    """
    ### BEGIN SOLUTION
    return free + (1 + w) * (conditional - free)
    ### END SOLUTION


# %%
check.guided(guided)

# %% [markdown]
# Papers and libraries disagree about the name of the weight. Which $w$ is the "guidance
# scale 7.5" of a library that goes 7.5 times the way, so that its 1 means no guidance? Say it
# first, then find it in the table.

# %%
try:
    c, u = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 0.0]])
    for w in (5.5, 6.5, 7.5, 8.5):
        print(f"w = {w} goes this far: {guided(c, u, w)[0, 0]:.1f}")
except NotImplementedError:
    print("(write guided first)")

# %% [markdown]
# ## 2. A classifier steers
#
# Without such a network a classifier of noisy points will do. Equations (1) and (2) of the
# lecture are all that is needed; its section "Further: a classifier steers" shows the same
# for the clean guess, but need not be read. Bayes' rule says that the
# score of a class is the free score plus $\nabla_x\log p(y\,|\,x)$, and the noise is
# $\hat\epsilon = -\sigma$ times the score, so
#
# $$\hat\epsilon_\text{guided} = \hat\epsilon - \text{scale}\cdot\sigma\,
#   \nabla_x \log p(y\,|\,x).$$
#
# Here the classifier is linear: $p(y\,|\,x) = \mathrm{softmax}(x W + b)_y$. Take the slope
# of its logarithm, of the class of each row alone, by hand or by autograd.


# %%
def classifier_noise(eps, x, W, b, y, sigma, scale):
    """Return the guided noise.

    Args:
        eps: the network's answer (B, D).
        x: noisy points (B, D).
        W, b: the classifier's weights (D, K) and (K,).
        y: the class that is wanted, of each row (B,).
        sigma: standard deviation of the noise in each row (B,).
        scale: a number.

    Returns:
        (B, D)
    """
    ### BEGIN SOLUTION
    x = x.detach().requires_grad_()
    log_p = torch.log_softmax(x @ W + b, 1).gather(1, y[:, None])
    (slope,) = torch.autograd.grad(log_p.sum(), x)
    return eps - scale * sigma[:, None] * slope
    ### END SOLUTION


# %%
check.classifier_noise(classifier_noise)

# %% [markdown]
# ## 3. What is promised, what is drawn
#
# The class is $p(x\,|\,c) = \mathcal N(0, a^2)$ and all data are $p(x) = \mathcal N(0, A^2)$,
# with $A > a$. Guidance *promises* the density $\propto p(x\,|\,c)^{1+w}/p(x)^w$, which is a
# Gaussian. DDIM with exact scores, in clean units (noise of standard deviation $\nu$ on top
# of $x_0$, together $z$), follows
#
# $$\frac{dz}{d\nu} = \nu\,\Bigl(\frac{1+w}{a^2+\nu^2} - \frac{w}{A^2+\nu^2}\Bigr)\,z$$
#
# down to $\nu = 0$. It starts at $\nu \to \infty$, where $z$ has the standard deviation $\nu$;
# a start at $\nu = 100$ is not far enough for the check. Return both standard deviations:
# first the promised one, then the drawn one. *Hint:* $\nu/(a^2+\nu^2)$ is the derivative of
# $\frac12\log(a^2+\nu^2)$, so no integral is left to the computer.


# %%
def two_widths(a, A, w):
    """Return the standard deviations of the promised and of the drawn density.

    Args:
        a: standard deviations of classes (B,).
        A: those of all data (B,), larger.
        w: weight of the guidance, a number.

    Returns:
        promised (B,) and drawn (B,).
    """
    ### BEGIN SOLUTION
    promised = ((1 + w) / a**2 - w / A**2) ** -0.5
    drawn = a * (a / A) ** w
    return promised, drawn
    ### END SOLUTION


# %%
check.two_widths(two_widths)

# %% [markdown]
# Steps from $\nu = 100$ to 0 draw what you computed, to about three digits, or they do not:

# %%
a, A = torch.tensor([1.0]), torch.tensor([2.0])
noise = torch.logspace(2, -3, 2000)
try:
    for w in (0.0, 1.0, 3.0):
        z = noise[0].clone()
        for nu, lower in pairwise(noise):
            half = (nu + lower) / 2  # the middle of the step
            slope = half * ((1 + w) / (a**2 + half**2) - w / (A**2 + half**2))
            z = z * torch.exp(slope * (lower - nu))
        promised, drawn = two_widths(a, A, w)
        print(
            f"w = {w}: steps {z.item():.4f}, drawn {drawn.item():.4f}, "
            f"promised {promised.item():.4f}"
        )
except NotImplementedError:
    print("(write two_widths first)")

# %% [markdown]
# ## 4. Only what is missing
#
# Palette fills the holes of a picture: known pixels are shown to the network, the missing
# ones carry noise. The network answers with $v = \alpha\,\epsilon - \sigma\,x_0$. Its loss
# is the mean squared error over all missing numbers of the batch together. A pixel that is
# missing misses all its channels, and the rows may miss unequally many.


# %%
def palette_loss(out, x0, eps, known, alpha, sigma):
    """Return the loss of a batch.

    Args:
        out: the network's answer (B, C, H, W).
        x0, eps: clean pictures and noise (B, C, H, W).
        known: 1 where a pixel is known, 0 where it is missing (B, 1, H, W).
        alpha, sigma: of the noise level of each row (B, 1, 1, 1).

    Returns:
        A number ().
    """
    ### BEGIN SOLUTION
    error = (out - (alpha * eps - sigma * x0)).square()
    missing = (1 - known).expand_as(error)
    return (missing * error).sum() / missing.sum()
    ### END SOLUTION


# %%
check.palette_loss(palette_loss)

# %% [markdown]
# ## 5. A step of RePaint
#
# RePaint fills holes with a network that never saw one. A step leads from the level $t$ to
# a lower level $s$. Missing numbers are drawn from the posterior, given the network's clean
# answer $\hat x_0$:
#
# $$\mathcal N\Bigl(\tfrac{\sqrt{\bar\alpha_s}\,(1 - \bar\alpha_t/\bar\alpha_s)\,\hat x_0 +
#   \sqrt{\bar\alpha_t/\bar\alpha_s}\,(1-\bar\alpha_s)\,x_t}{1-\bar\alpha_t},\
#   \tfrac{1-\bar\alpha_s}{1-\bar\alpha_t}\,(1-\tfrac{\bar\alpha_t}{\bar\alpha_s})\Bigr),$$
#
# with the noise $\xi$. (In the letters of the lecture on DDPM, $\alpha_s^2 = \bar\alpha_s$ and
# $r = (1-\bar\alpha_t/\bar\alpha_s)/(1-\bar\alpha_t)$.) Which numbers are known, `known` says
# alone: a known number may be 0. Known numbers come from `seen`, with the noise $\epsilon$ of the
# level at which the step arrives.


# %%
def repaint_step(x_t, x0_hat, seen, known, eps, xi, ab_s, ab_t):
    """Return the point at the level s.

    Args:
        x_t: where the step begins (B, D).
        x0_hat: the network's clean answer (B, D).
        seen: the known numbers, 0 elsewhere (B, D).
        known: 1 where a number is known, else 0 (B, D).
        eps, xi: standard normal noise of the known and of the missing numbers (B, D).
        ab_s, ab_t: alpha_bar at both levels, ab_s > ab_t, each ().

    Returns:
        (B, D)
    """
    ### BEGIN SOLUTION
    step = ab_t / ab_s
    mean = ab_s.sqrt() * (1 - step) * x0_hat + step.sqrt() * (1 - ab_s) * x_t
    variance = (1 - ab_s) / (1 - ab_t) * (1 - step)
    drawn = mean / (1 - ab_t) + variance.sqrt() * xi
    noisy = ab_s.sqrt() * seen + (1 - ab_s).sqrt() * eps
    return known * noisy + (1 - known) * drawn
    ### END SOLUTION


# %%
check.repaint_step(repaint_step)

# %% [markdown]
# ## 6. Is the spread right?
#
# A restored picture is a draw, and another draw is another picture. Take $K$ draws for each
# damaged picture. The mean squared error of single draws, divided by the mean squared error
# of the mean of the $K$ draws, is the **calibration ratio**: means over everything, and one
# division at the end.


# %%
def calibration_ratio(draws, x):
    """Return the ratio of two mean squared errors.

    Args:
        draws: K draws for each row (K, B, D).
        x: the truth (B, D).

    Returns:
        A number ().
    """
    ### BEGIN SOLUTION
    one = (draws - x).square().mean()
    return one / (draws.mean(0) - x).square().mean()
    ### END SOLUTION


# %%
check.calibration_ratio(calibration_ratio)

# %% [markdown]
# If the draws come from the true conditional law with the variance $V$, independent of the
# truth given what is seen, a single one is wrong by $2V$ and the mean of $K$ by
# $(1 + 1/K)\,V$. So the ratio is $2K/(K+1)$: 1.78 for eight draws. What is it when the draws
# lie around the right mean, but are too much alike, or differ too much?

# %%
seed_everything(0)
x = torch.randn(2000, 4)
try:
    for width in (0.5, 1.0, 2.0):
        draws = width * torch.randn(8, 2000, 4)
        print(f"width {width}: {calibration_ratio(draws, x).item():.2f}")
    print(f"right: {2 * 8 / 9:.2f}")
except NotImplementedError:
    print("(write calibration_ratio first)")

# %% [markdown]
# ## Further, without a check
#
# 1. **An interval in closed form.** In exercise 3, guide only where $\nu$ lies between $\nu_1$
#    and $\nu_2$. The integral of the slope is known; how wide is what is drawn? Choose both
#    such that at $w = 3$ the promised width comes out, for $a = 1$ and $A = 2$.
# 2. **Correctors.** Add Langevin steps with the guided score at every level, ever more of
#    them. Towards which density do they lead at the last level, and is it the promised one?
# 3. **One mask, two ways.** Fill the same half of digits by Palette and by RePaint with the
#    unconditional network of the lecture on DDPM. Compare the calibration ratios, and the
#    number of evaluations.
