#: why = "a cell that an answer needs has stopped: told which"
#: expect = "Q0: kl_gaussian"
#: base = "solved"
#: status = "graded"
#: says = "it raises NameError; code cell 3 from the top, which it needs, stopped with ValueError before"
# %%
scale = math.sqrt(-1)

# %% instead kl_gaussian
def kl_gaussian(mu_p, log_sigma_p, mu_q, log_sigma_q):
    return torch.zeros(len(mu_p)) * scale
