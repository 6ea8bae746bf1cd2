# %% [markdown]
# # The examination
#
# Eight questions across the course, 20 points, 90 minutes: this page says how they are asked,
# what counts, and how to prepare.

# %% [markdown] tags=["nav"]
# 4 minutes ·
# before this: [Half of it stays: coupling flows](../flows/realnvp.ipynb), [What you do not see: the variational autoencoder](../vae/vae.ipynb), [Rolling and kicked: Langevin and deep energies](../energy/langevin.ipynb), [Two players: generative adversarial networks](../gan/gan.ipynb), [A thousand small steps: denoising diffusion](../diffusion/ddpm.ipynb) ·
# [exercise](../../exercises/challenges/exam.ipynb) ·
# [solution](../../solutions/challenges/exam.ipynb)
#
# previous: [The capstone: samples in four steps, two, or one](capstone.ipynb) ·
# [all units](../index.ipynb)

# %% tags=["setup"]
import importlib.util

if importlib.util.find_spec("gdm_course") is None:
    raise ImportError(
        "the package gdm_course is not installed here: run 'make lab' in the course's "
        "folder, or 'pip install -e .[lab]', and choose that environment as the kernel"
    )

# %% [markdown]
# ## What is asked
#
# Each question asks for one function of a few lines, from a description in words and a
# formula or two. None is an exercise of the course, all use what the exercises taught.
#
# | part of the course | points | needs |
# |---|--:|---|
# | foundations | 2 | entropy of a Gaussian, determinants that do not fit into a float |
# | autoregressive models | 3 | laws over symbols, drawing from one to get another |
# | normalizing flows | 3 | change of variables, in a stable form |
# | latent variables | 2 | the score-function estimate and what may be subtracted in it |
# | energy-based models | 2 | Metropolis |
# | adversarial networks | 3 | what a discriminator sees |
# | diffusion | 2 | denoiser, noise, velocity |
# | evaluation | 3 | two samples and who is whose neighbour |
#
# ## How it is judged
#
# A function is called in a sealed box, on inputs that nobody has seen: other sizes than in the
# example, batches of one, numbers far out. It earns all of its points or none. Everything that
# the text of a question says is tested, and nothing else. The check in the sheet tries an
# answer on one input of each kind; in the copy that is handed out it says only whether the
# answer runs and has the right shapes.
#
# ## How to prepare
#
# Do the exercises of the units above without looking at the lecture. For each answer, find an
# input that would break it. If you sit the examination on paper: one question fits on a page,
# and every body has at most eight lines.
#
# ## For who sets it
#
# `gdm release challenges/exam --out students/` writes the sheet without answers,
# `gdm release challenges/exam --instructor --out desk/` the solution with a rubric, and
# `gdm grade submissions/ --out results/` the marks.
