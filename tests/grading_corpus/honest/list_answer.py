#: why = "a list in place of a tuple, Python numbers"
#: expect = "FULL"
#: base = "solved"
# %% instead importance_estimate
def importance_estimate(values, log_w):
    w = torch.softmax(log_w, 0)
    m = float((w * values).sum())
    return [m, float(((w * (values - m)) ** 2).sum().sqrt())]
