#: why = "a missing return"
#: expect = "Q0: kl_gaussian"
#: base = "solved"
#: status = "graded"
#: says = "it returns None: is a return missing?"
# %% instead kl_gaussian
def kl_gaussian(mu_p, log_sigma_p, mu_q, log_sigma_q):
    kl = torch.zeros(len(mu_p))
