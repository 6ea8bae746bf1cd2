#: why = "endless cells between answers and in the cell of one; helpers below"
#: expect = "FULL"
#: base = "solved"
#: budget = { load = 5 }
# %%
while True:
    pass

# %% instead js_divergence
from math import log as ln
HALF = 1 / 2


def js_divergence(log_p, log_q, dx):
    log_m = torch.logaddexp(log_p, log_q) - ln(2)
    return _inside(log_p, log_m, dx) + _inside(log_q, log_m, dx)


while input("once more? ") == "":
    js = js_divergence(torch.zeros(3), torch.zeros(3), 1.0)

while True:
    js = js_divergence(torch.zeros(3), torch.zeros(3), 1.0)

# %% after
def _inside(log_p, log_m, dx):
    return (log_p.exp() * (log_p - log_m)).sum() * dx * HALF

# %% after
!sleep 1000
