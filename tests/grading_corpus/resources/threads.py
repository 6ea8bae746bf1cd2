#: why = "honest: threads"
#: expect = "FULL"
#: base = "solved"
# %% instead kl_gaussian
from concurrent.futures import ThreadPoolExecutor

import torch


def kl_gaussian(mu_p, log_sigma_p, mu_q, log_sigma_q):
    def one(d):
        var_p, var_q = (2 * log_sigma_p[:, d]).exp(), (2 * log_sigma_q[:, d]).exp()
        spread = (var_p + (mu_p[:, d] - mu_q[:, d]) ** 2) / (2 * var_q)
        return log_sigma_q[:, d] - log_sigma_p[:, d] + spread - 0.5

    with ThreadPoolExecutor(8) as pool:
        return torch.stack([*pool.map(one, range(mu_p.shape[1]))]).sum(0)
