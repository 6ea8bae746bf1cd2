#: why = "cell magics above answers: alone, stacked, after a comment, one that is not installed"
#: expect = "FULL"
#: base = "solved"
# %% instead kl_gaussian
%%time
def kl_gaussian(mu_p: Tensor, log_sigma_p, mu_q, log_sigma_q):
    var_p, var_q = torch.exp(2 * log_sigma_p), torch.exp(2 * log_sigma_q)
    return (log_sigma_q - log_sigma_p + (var_p + (mu_p - mu_q) ** 2) / (2 * var_q) - 0.5).sum(-1)

# %% instead js_divergence

%%capture said
def js_divergence(log_p: Tensor, log_q, dx):
    log_m = torch.logaddexp(log_p, log_q) - math.log(2)
    print("half way")
    return (log_p.exp() * (log_p - log_m) + log_q.exp() * (log_q - log_m)).sum() * dx / 2

# %% instead fit_by_descent
%%capture
%%time
def fit_by_descent(x: Tensor, steps, lr):
    mu, log_sigma = torch.zeros(2, x.shape[1])
    for _ in range(steps):
        mu.requires_grad_(), log_sigma.requires_grad_()
        loss = -Normal(mu, log_sigma.exp()).log_prob(x).sum(1).mean()
        a, b = torch.autograd.grad(loss, (mu, log_sigma))
        mu, log_sigma = (mu - lr * a).detach(), (log_sigma - lr * b).detach()
    return mu, log_sigma

# %% instead importance_estimate
%%prun -q
def importance_estimate(values: Tensor, log_w):
    w = torch.softmax(log_w, 0)
    m = (w * values).sum()
    return m, ((w * (values - m)) ** 2).sum().sqrt()

# %% instead wasserstein_1d
# how fast is it?
%%time
def wasserstein_1d(x: Tensor, y, k):
    return ((x.sort().values - y.sort().values).abs() ** k).mean() ** (1 / k)

# %% instead mmd2_unbiased
%%memory_of_some_extension --precision 2
def mmd2_unbiased(x: Tensor, y, h):
    k = lambda a, b: (-torch.cdist(a, b) ** 2 / (2 * h**2)).exp()
    n, m = len(x), len(y)
    inside = (k(x, x).sum() - n) / (n * (n - 1)) + (k(y, y).sum() - m) / (m * (m - 1))
    return inside - 2 * k(x, y).mean()
