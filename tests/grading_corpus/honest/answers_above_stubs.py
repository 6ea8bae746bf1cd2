#: why = "an answer in a cell of its own above the stub, which is still there"
#: expect = "SOME: kl_gaussian wasserstein_1d"
#: base = "empty"
#: status = "missing"
# %%
def kl_gaussian(mu_p: Tensor, log_sigma_p, mu_q, log_sigma_q):
    var_p, var_q = torch.exp(2 * log_sigma_p), torch.exp(2 * log_sigma_q)
    return (log_sigma_q - log_sigma_p + (var_p + (mu_p - mu_q) ** 2) / (2 * var_q) - 0.5).sum(-1)


check.kl_gaussian(kl_gaussian)

# %% after
def wasserstein_1d(x, y, k):
    return ((x.sort().values - y.sort().values).abs() ** k).mean() ** (1 / k)
