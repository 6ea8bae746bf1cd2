#: why = "an imported name, or one of the exercise's own, gets another meaning"
#: expect = "FULL"
#: base = "solved"
# %%
toy = toy.get("banana")
math = math.log(2)
x = toy.sample(3)
x = x.tolist()

# %% instead js_divergence
def js_divergence(log_p, log_q, dx):
    log_m = torch.logaddexp(log_p, log_q) - math
    inside = log_p.exp() * (log_p - log_m) + log_q.exp() * (log_q - log_m)
    return inside.sum() * dx / 2

# %% after
bandwidths = bandwidths.tolist()
count = len(bandwidths)
earlier = kl_gaussian


def kl_gaussian(*args):
    assert count == 17
    return earlier(*args)
