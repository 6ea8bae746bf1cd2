#: why = "an answer inside of %%timeit only, which leaves nothing in a notebook either"
#: expect = "Q0: kl_gaussian"
#: base = "solved"
#: status = "missing"
#: says = "inside of %%timeit only"
# %% instead kl_gaussian
%%timeit -n 1 -r 1
def kl_gaussian(mu_p, log_sigma_p, mu_q, log_sigma_q):
    return torch.zeros(len(mu_p))
