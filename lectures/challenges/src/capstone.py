# %% [markdown]
# # The capstone: samples in four steps, two, or one
#
# Network, sampler, optimiser and number of steps are frozen. You choose at which noise levels
# the network learns, which noise goes with which data, and the loss: how good are samples
# after four evaluations, after two, after one?

# %% [markdown] tags=["nav"]
# 6 minutes ·
# before this: [A thousand small steps: denoising diffusion](../diffusion/ddpm.ipynb), [Flowing in time: continuous flows](../flows/continuous.ipynb) ·
# [exercise](../../exercises/challenges/capstone.ipynb) ·
# [solution](../../solutions/challenges/capstone.ipynb)
#
# previous: [One table: six families and a mixture](six_families.ipynb) ·
# [all units](../index.ipynb) ·
# next: [The examination](exam.ipynb)

# %% tags=["setup"]
import importlib.util

if importlib.util.find_spec("gdm_course") is None:
    raise ImportError(
        "the package gdm_course is not installed here: run 'make lab' in the course's "
        "folder, or 'pip install -e .[lab]', and choose that environment as the kernel"
    )

# %%
from gdm_course.authoring.course import load
from gdm_course.checks.challenges.capstone import HEIGHTS
from gdm_course.contract.digits import DIRECTIONS
from gdm_course.contract.frozen import BATCH, JUMPS, RATE, STEPS, JumpNet
from gdm_course.source import ROOT

# %% [markdown]
# ## What is frozen
#
# A sample begins as Gaussian noise at $t=1$ and becomes data at $t=0$. The network says $u(x,
# t, d)$: the mean velocity on the way from $t$ to $t-d$. The sampler makes $k$ equal jumps,
#
# $$x \leftarrow x - d\;u(x, t, d),\qquad d = 1/k,\quad t = 1,\ 1-d,\ \dots,\ d,$$
#
# with $k = 1, 2, 4$ evaluations, from the same weights. The loop draws a batch, asks your entry
# for noise, levels and loss, clips the gradient and takes a step of Adam whose rate falls to 0
# along a cosine.

# %%
print(f"{STEPS} steps of {BATCH} rows, rate {RATE}; evaluations {JUMPS}")
for D, what in ((2, "plane"), (DIRECTIONS, "digits")):
    print(f"{what}: {sum(p.numel() for p in JumpNet(D).parameters()):,} weights")

# %% [markdown]
# ## What is yours
#
# An entry is a class with three methods; the sheet has their first lines. `times` draws the
# noise levels $t$ and the lengths $d$ of jumps at which a batch is learnt. `coupling` says which
# noise belongs to which row. `loss` has the network and all of these. An entry may keep what it
# likes between batches. It is trained in the plane and on digits, by the same code.
#
# ## What it is tried on
#
# **The plane.** A mixture of three to five bells, of unequal weight and width, at random places,
# away from the noise. Each grading draws its own. The score is the energy distance from points
# of the law itself.
#
# **The digits.** Half of the digits of 8 x 8, by their eight main directions, each scaled to
# variance 1, and all turned by a random rotation, so that nothing that was learnt at home fits.
# Samples are turned back; their Frechet distance from the other half, in features of the
# course's classifier, is divided by that of the noise itself. The noise has the mean and
# covariance of these data: whoever learns a Gaussian scores 1, and so does a network that
# does nothing. What counts is what is not Gaussian about digits.
#
# ## What it is worth
#
# Three heights, each with two laws, a rotation and seeds of its own. A score in the plane is
# the mean over the two. A height is cleared if all six scores are at most as in its row; it earns all of
# its points or none, 20 together. A dash asks nothing.

# %%
points = load(ROOT).units["challenges/capstone"].points
print("height  points   energy distance, k = 1, 2, 4    share of noise's, k = 1, 2, 4")
for name, (in_plane, on_digits) in HEIGHTS.items():
    shown = ["-" if h == float("inf") else f"{h:g}" for h in (*in_plane, *on_digits)]
    print(f"{name:8}{points[name]:5} " + "".join(f"{s:>10}" for s in shown))

# %% [markdown]
# ## How it is judged
#
# The sealed box trains, with your methods in the frozen loop, and hands out the weights: one
# vector, nothing else. The judge puts them into a network of its own, draws the noise, takes the
# samples and measures. So it does not matter what an entry says of itself. The network
# is frozen by that; the number of steps is frozen by the clock, which allows a training about
# four times what an honest one takes. A training loop of your own, inside of a method, breaks the
# contract; it can be seen by anyone who reads the entry.
#
# ## For who sets it
#
# `gdm release challenges/capstone --out students/` writes the sheet without its solution, and
# `gdm grade submissions/ --out results/` the marks. In the student's copy the check says only
# that marks come later; the cells of the sheet measure the plane and draw the digits.
