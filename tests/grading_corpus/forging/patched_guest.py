#: why = "replaces the guest's own functions"
#: expect = "ZERO"
#: base = "empty"
# %%
import torch

# %%
from gdm_course.checks import ask
from gdm_course.grading.guest import guest, packing, seal

guest.answer = lambda shell, message, arrays: ({"ok": True, "right": True}, [torch.zeros(6)])
guest.load = lambda *a: {"ok": True, "found": ["kl_gaussian"]}
ask.run = lambda *a: (torch.zeros(6),)
packing.unpack_ask = lambda *a: None
seal.limit = lambda **k: None
