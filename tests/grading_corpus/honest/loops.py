#: why = "loops over rows and columns"
#: expect = "FULL"
#: base = "solved"
# %% instead kl_gaussian
import math

import torch


def kl_gaussian(mu_p, log_sigma_p, mu_q, log_sigma_q):
    out = []
    for a, s, b, t in zip(mu_p, log_sigma_p, mu_q, log_sigma_q):
        total = 0.0
        for i in range(len(a)):
            var = math.exp(2 * t[i])
            total += float(t[i] - s[i]) - 0.5
            total += (math.exp(2 * s[i]) + float(a[i] - b[i]) ** 2) / (2 * var)
        out.append(total)
    return torch.tensor(out)
