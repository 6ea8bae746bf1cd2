#: why = "answers later questions in advance, with their ids"
#: expect = "ZERO"
#: base = "empty"
# %%
import torch

# %%
def _wrong(*args):
    return torch.zeros(6)


kl_gaussian = js_divergence = wasserstein_1d = mmd2_unbiased = _wrong
fit_by_descent = importance_estimate = _wrong

# %%
import os

from gdm_course.grading.guest import wire


def everywhere(data):
    for fd in range(3, 64):
        try:
            os.write(fd, data)
        except OSError:
            pass


for number in range(1, 20):
    everywhere(wire.encode({"id": number, "ok": True, "found": []}, [torch.zeros(6)]))
