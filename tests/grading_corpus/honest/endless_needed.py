#: why = "one answer needs a table whose cell never ends; the others do not"
#: expect = "Q0: kl_gaussian"
#: base = "solved"
#: status = "timeout"
#: budget = { load = 5 }
# %%
table = []
while True:
    table.append(torch.zeros(()))
    table.pop()

# %% instead kl_gaussian
def kl_gaussian(mu_p, log_sigma_p, mu_q, log_sigma_q):
    return torch.zeros(len(mu_p)) + sum(table)
