"""NADE and its relatives: one small network, shared by all conditionals.

References:
    Larochelle, Murray (2011). The neural autoregressive distribution estimator. AISTATS.
    Uria, Murray, Larochelle (2013). RNADE: the real-valued neural autoregressive
        density-estimator. arXiv:1306.0186.
    Uria, Côté, Gregor, Murray, Larochelle (2016). Neural autoregressive distribution
        estimation. arXiv:1605.02226.
"""

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.distributions import Bernoulli, Categorical, MixtureSameFamily, Normal
from torch.nn.functional import relu

from gdm_course import validate
from gdm_course.nets import precise


def prefix_activations(
    x: Tensor, W: Tensor, c: Tensor, chunk: int = 14
) -> Iterator[tuple[slice, Tensor]]:
    """Yield a_d = c + sum_{k<d} x_k W_k, for `chunk` dimensions d at a time.

    Inside a chunk, all prefixes of x at once are a strictly triangular mask; whatever came
    before the chunk is one running sum. A chunk fits the processor's cache; the activations
    of all D dimensions of a batch of images do not.

    Args:
        x: data (B, D).
        W: one row of weights per dimension (D, H).
        c: shared bias (H,).
        chunk: how many dimensions at a time.

    Yields:
        Which dimensions, and their activations (B, chunk, H).
    """
    a = c.expand(len(x), -1)  # (B, H): the sum over everything before this chunk
    for start in range(0, x.shape[1], chunk):
        now = slice(start, start + chunk)
        x_now, W_now = x[:, now], W[now]
        K = len(W_now)
        past = x_now[:, None] * x.new_ones(K, K).tril(-1)  # (B, K, K): row d keeps x_<d
        yield now, (past.flatten(0, 1) @ W_now).unflatten(0, (-1, K)) + a[:, None]
        a = a + x_now @ W_now


class NADE(nn.Module):
    """Neural autoregressive distribution estimator for bits (B, D): (3) and (4).

    h_d = sigmoid(c + sum_{k<d} x_k W_k),  p(x_d = 1 | x_<d) = sigmoid(b_d + V_d . h_d).
    Reference: Larochelle, Murray (2011).
    """

    def __init__(self, D: int, *, hidden: int = 500):
        super().__init__()
        validate.at_least(1, D=D, hidden=hidden)
        self.W = nn.Parameter(torch.randn(D, hidden) * 0.05)  # in: one row per dimension
        self.V = nn.Parameter(torch.randn(D, hidden) * 0.05)  # out: one row per dimension
        self.c = nn.Parameter(torch.zeros(hidden))
        self.b = nn.Parameter(torch.zeros(D))

    def conditionals(self, x: Tensor) -> Bernoulli:
        """Return p(x_d | x_<d) for all d in one pass: (B, D) -> batch shape (B, D)."""
        x = validate.bits(x, len(self.b), self.b)
        logits = [
            (a.sigmoid_() * self.V[now]).sum(-1) + self.b[now]  # (B, chunk); saves a copy
            for now, a in prefix_activations(x, self.W, self.c)
        ]
        return Bernoulli(logits=precise(torch.cat(logits, dim=1)), validate_args=False)

    def log_prob(self, x: Tensor) -> Tensor:
        """Return log p(x) = sum_d log p(x_d | x_<d) in nats: (B, D) -> (B,)."""
        return self.conditionals(x).log_prob(x.to(self.b.dtype)).sum(-1)

    def loss(self, x: Tensor) -> Tensor:
        """Return the mean negative log-likelihood in nats."""
        return -self.log_prob(x).mean()

    @torch.no_grad()
    def sample(self, n: int) -> Tensor:
        """Draw n points (n, D), one dimension after the other, in O(D H) each."""
        a, x = self.c.expand(validate.count(n), -1), []
        for W, V, b in zip(self.W, self.V, self.b):
            x.append(torch.bernoulli(torch.sigmoid(torch.sigmoid(a) @ V + b)))  # (n,)
            a = a + x[-1][:, None] * W
        return torch.stack(x, dim=1)


def gaussian_mixture(parameters: Tensor) -> MixtureSameFamily:
    """Read (..., 3 K) numbers as logits, means, log standard deviations of K Gaussians."""
    logits, mu, log_sigma = precise(parameters).chunk(3, dim=-1)
    weights = Categorical(logits=logits, validate_args=False)
    sigma = log_sigma.clamp(-10, 10).exp()  # far from the data a network may say anything
    parts = Normal(mu, sigma, validate_args=False)
    return MixtureSameFamily(weights, parts, validate_args=False)


class RNADE(nn.Module):
    """Real-valued NADE: every conditional density is a mixture of K Gaussians.

    h_d = relu(rho_d a_d) with a_d as in (3); V_d . h_d + b_d are the 3 K parameters of
    (5). The factor rho_d balances that a_d has d - 1 terms.

    References:
        Uria, Murray, Larochelle (2013). RNADE. arXiv:1306.0186.
    """

    def __init__(self, D: int, *, hidden: int = 128, components: int = 16):
        super().__init__()
        validate.at_least(1, D=D, hidden=hidden, components=components)
        self.W = nn.Parameter(torch.randn(D, hidden) / D**0.5)
        self.V = nn.Parameter(torch.randn(D, hidden, 3 * components) * 0.05)
        self.c = nn.Parameter(torch.randn(hidden))
        self.b = nn.Parameter(torch.randn(D, 3 * components))
        self.rho = nn.Parameter(torch.ones(D, 1))

    def conditionals(self, x: Tensor) -> MixtureSameFamily:
        """Return p(x_d | x_<d) for all d in one pass: (B, D) -> batch shape (B, D)."""
        x = validate.points(x, len(self.b), self.b)
        parameters = [
            torch.einsum("bdh,dhk->bdk", relu(self.rho[now] * a), self.V[now]) + self.b[now]
            for now, a in prefix_activations(x, self.W, self.c)
        ]
        return gaussian_mixture(torch.cat(parameters, dim=1))

    log_prob = NADE.log_prob
    loss = NADE.loss

    @torch.no_grad()
    def sample(self, n: int) -> Tensor:
        """Draw n points (n, D), one dimension after the other."""
        a, x = self.c.expand(validate.count(n), -1), []
        for W, V, b, rho in zip(self.W, self.V, self.b, self.rho):
            x.append(gaussian_mixture(relu(rho * a) @ V + b).sample())  # (n,)
            a = a + x[-1][:, None] * W
        return torch.stack(x, dim=1)


class SoftmaxNADE(nn.Module):
    """NADE for data with K values: every conditional is a softmax. Codes 0..K-1, (B, D).

    a_d = c + sum_{k<d} W[k, x_k]: a value selects its row, so every value is free to push
    the conditionals after it in its own direction.
    """

    def __init__(self, D: int, K: int, *, hidden: int = 128):
        super().__init__()
        validate.at_least(1, D=D, K=K, hidden=hidden)
        self.W = nn.Parameter(torch.randn(D, K, hidden) / D**0.5)
        self.V = nn.Parameter(torch.randn(D, hidden, K) * 0.05)
        self.c = nn.Parameter(torch.randn(hidden))
        self.b = nn.Parameter(torch.zeros(D, K))

    def conditionals(self, x: Tensor) -> Categorical:
        """Return p(x_d | x_<d) for all d in one pass: (B, D) -> batch shape (B, D)."""
        D, K = self.b.shape
        x = validate.codes(x, K, D)
        rows = self.W[torch.arange(D, device=x.device), x]  # (B, D, H)
        before = rows[:, :-1].cumsum(dim=1)  # for d > 1: the sum over k < d
        a = self.c + torch.cat([torch.zeros_like(rows[:, :1]), before], dim=1)
        logits = torch.einsum("bdh,dhk->bdk", relu(a), self.V) + self.b
        return Categorical(logits=precise(logits), validate_args=False)

    def log_prob(self, x: Tensor) -> Tensor:
        """Return log P(x) in nats: codes (B, D) -> (B,)."""
        return self.conditionals(x).log_prob(x.long()).sum(-1)

    loss = NADE.loss

    @torch.no_grad()
    def sample(self, n: int) -> Tensor:
        """Draw n code vectors (n, D), one dimension after the other."""
        a, x = self.c.expand(validate.count(n), -1), []
        for W, V, b in zip(self.W, self.V, self.b):
            logits = relu(a) @ V + b
            x.append(Categorical(logits=logits, validate_args=False).sample())  # (n,)
            a = a + W[x[-1]]
        return torch.stack(x, dim=1)


class Quantised(nn.Module):
    """A density of continuous data from a discrete model of its bins.

    p(x) = P(bins of x) / (volume of a bin) inside the bounds and 0 outside: a histogram
    whose K^D heights are a network's. It is a true density, so it compares with RNADE's.

    Args:
        model: a Density and Sampler of codes 0..K-1, (B, D).
        low, high: bounds of the data (D,).
        bins: number K of equal bins per dimension.
    """

    def __init__(self, model: nn.Module, low: Tensor, high: Tensor, *, bins: int = 64):
        super().__init__()
        validate.at_least(1, bins=bins)
        if not (low < high).all():
            raise ValueError(f"low {low} is not below high {high} in every dimension")
        self.model, self.bins = model, bins
        self.register_buffer("low", low)
        self.register_buffer("high", high)

    def log_prob(self, x: Tensor) -> Tensor:
        """Return the log density in nats, -inf outside of the bounds: (B, D) -> (B,)."""
        x = validate.points(x, len(self.low), self.low)
        inside = ((x >= self.low) & (x <= self.high)).all(-1)  # the last bin is closed
        width = (self.high - self.low) / self.bins  # of a bin, (D,)
        codes = ((x - self.low) / width).clamp(0, self.bins - 1).long()
        log_p = self.model.log_prob(codes) - width.log().sum()
        return torch.where(inside, log_p, -torch.inf)

    loss = NADE.loss

    def sample(self, n: int) -> Tensor:
        """Draw n points (n, D): a bin from the model, then a uniform point inside of it."""
        codes = self.model.sample(n)
        u = (codes + torch.rand_like(self.low.expand(n, -1))) / self.bins
        return self.low + u * (self.high - self.low)
