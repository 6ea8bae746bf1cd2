#: why = "compares with the course's own answers, which the box does not have, between answers"
#: expect = "FULL"
#: base = "solved"
# %% instead kl_gaussian
def kl_gaussian(mu_p: Tensor, log_sigma_p, mu_q, log_sigma_q):
    var_p, var_q = torch.exp(2 * log_sigma_p), torch.exp(2 * log_sigma_q)
    return (log_sigma_q - log_sigma_p + (var_p + (mu_p - mu_q) ** 2) / (2 * var_q) - 0.5).sum(-1)


four = torch.randn(4, 6, 4)
wanted = check.kl_gaussian.reference(*four)
print(f"{(kl_gaussian(*four) - wanted).abs().max():.3e}", float(wanted[0]))
assert torch.allclose(kl_gaussian(*four), wanted)
assert abs(wanted[0] - kl_gaussian(*four)[0]) < 1e-3

# %% instead js_divergence
bandwidth = divergences.median_distance(torch.randn(3, 1), torch.randn(3, 1))
half = 1 / 2


def js_divergence(log_p: Tensor, log_q, dx):
    log_m = torch.logaddexp(log_p, log_q) - math.log(2)
    return (log_p.exp() * (log_p - log_m) + log_q.exp() * (log_q - log_m)).sum() * dx * half

# %% instead wasserstein_1d
recorded = torch.load("my_run_of_last_week.pt")


def wasserstein_1d(x, y, k):
    return ((x.sort().values - y.sort().values).abs() ** k).mean() ** (1 / k)
