#: why = "sets seeds and default types as it likes"
#: expect = "FULL"
#: base = "solved"
# %%
import torch

torch.manual_seed(1)
torch.use_deterministic_algorithms(True)
torch.set_grad_enabled(True)

# %% after
with torch.no_grad():
    z = 1
