#: why = "the cell of an answer stops above it: told so, not called missing"
#: expect = "Q0: kl_gaussian"
#: base = "solved"
#: status = "graded"
#: says = "code cell 3 from the top, which defines it, stopped with ZeroDivisionError"
# %% instead kl_gaussian
ratio = 1 / 0


def kl_gaussian(mu_p, log_sigma_p, mu_q, log_sigma_q):
    return torch.zeros(len(mu_p))
