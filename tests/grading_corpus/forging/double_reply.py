#: why = "each answer is sent twice"
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
from gdm_course.grading.guest import guest

send = guest.Channel.send


def twice(self, message, arrays=()):
    send(self, message, arrays)
    send(self, message, arrays)


guest.Channel.send = twice
