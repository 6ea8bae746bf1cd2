# %% [markdown]
# # What to answer for: copies, wrong data, marks and cards
#
# Stub.

# %% [markdown] tags=["nav"]
# 2 minutes ·
# before this: [A thousand small steps: denoising diffusion](../diffusion/ddpm.ipynb), [One token at a time: GPT](../autoregressive/gpt.ipynb), [Half of it stays: coupling flows](../flows/realnvp.ipynb) ·
# [exercise](../../exercises/challenges/responsibility.ipynb) ·
# [solution](../../solutions/challenges/responsibility.ipynb)
#
# previous: [Steering: guidance, Palette and RePaint](../diffusion/guidance.ipynb) ·
# [all units](../index.ipynb)

# %% tags=["setup"]
import importlib.util

if importlib.util.find_spec("gdm_course") is None:
    raise ImportError(
        "the package gdm_course is not installed here: run 'make lab' in the course's "
        "folder, or 'pip install -e .[lab]', and choose that environment as the kernel"
    )
