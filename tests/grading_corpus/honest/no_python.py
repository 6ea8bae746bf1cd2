#: why = "the cell of an answer is no Python: told so, not called missing"
#: expect = "Q0: kl_gaussian"
#: base = "solved"
#: status = "graded"
#: says = "which defines it, stopped with SyntaxError"
# %%
this is no Python either

# %% instead kl_gaussian
def kl_gaussian(mu_p, log_sigma_p, mu_q, log_sigma_q):
    return (torch.zeros(len(mu_p))
