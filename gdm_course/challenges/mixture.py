"""The floor of the comparison: a mixture of Gaussians by EM, made a model of codes.

References:
    Dempster, Laird, Rubin (1977). Maximum likelihood from incomplete data via the EM
        algorithm. Journal of the Royal Statistical Society B 39.
    Theis, van den Oord, Bethge (2016). A note on the evaluation of generative models.
        arXiv:1511.01844.
"""

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.distributions import Categorical, MixtureSameFamily, MultivariateNormal

from gdm_course import validate
from gdm_course.flows.dequantisation import noise_like


class CodeMixture(nn.Module):
    """K Gaussians, each with a covariance of its own, fitted to codes with uniform noise.

    log P(x) >= E log p(x + u), u uniform in the unit cube, whose volume is 1: a bound. EM
    takes no gradients, so it is not Trainable.

    Args:
        D, levels: number of codes in an example, and of the values of a code.
        K: number of Gaussians.
        ridge: added to every variance, in squared codes: no Gaussian shrinks to a point.
    """

    def __init__(self, D: int, levels: int, *, K: int = 10, ridge: float = 0.3):
        super().__init__()
        validate.at_least(1, D=D, K=K)
        validate.at_least(2, levels=levels)
        self.levels, self.ridge = levels, ridge
        self.register_buffer("log_pi", torch.full((K,), -math.log(K)))
        self.register_buffer("mu", levels / 2 + torch.randn(K, D))
        self.register_buffer("root", levels / 4 * torch.eye(D).expand(K, D, D).clone())

    def distribution(self) -> MixtureSameFamily:
        """Return the density of codes with noise."""
        parts = MultivariateNormal(self.mu, scale_tril=self.root, validate_args=False)
        return MixtureSameFamily(Categorical(logits=self.log_pi), parts)

    def elbo(self, x: Tensor) -> Tensor:
        """Return one draw's bound of log P in nats: codes (B, D) -> (B,)."""
        x = validate.codes(x, self.levels, self.mu.shape[1]).to(self.mu)
        return self.distribution().log_prob(x + noise_like(x))

    def iwae(self, x: Tensor, k: int) -> Tensor:
        """Return the tighter bound log mean exp of k draws: codes (B, D) -> (B,)."""
        draws = torch.stack([self.elbo(x) for _ in range(validate.count(k, "k", 1))])
        return draws.logsumexp(0) - math.log(k)

    def sample(self, n: int) -> Tensor:
        """Draw codes (n, D): points rounded down, and cut to the range."""
        x = self.distribution().sample((max(validate.count(n), 1),))[:n]
        return x.floor().clamp(0, self.levels - 1).long()


@torch.no_grad()
def expect(model: CodeMixture, x: Tensor) -> tuple[Tensor, float]:
    """Return the E-step, p(k | x) (N, K), and the mean log p(x) in nats; x (N, D) real."""
    law = model.distribution()
    log_joint = law.component_distribution.log_prob(x[:, None]) + model.log_pi
    log_p = log_joint.logsumexp(1)
    return (log_joint - log_p[:, None]).exp(), log_p.mean().item()


@torch.no_grad()
def maximise(model: CodeMixture, x: Tensor, q: Tensor) -> None:
    """Take the M-step: weighted share, mean and covariance of what each answers for."""
    share = q.sum(0).clamp_min(1e-6)  # (K,)
    model.log_pi.copy_((share / share.sum()).log())
    model.mu.copy_(q.T @ x / share[:, None])
    for k, (mu, weight) in enumerate(zip(model.mu, q.T)):
        apart = x - mu
        cov = (weight[:, None] * apart).T @ apart / share[k]
        model.root[k] = torch.linalg.cholesky(
            cov + model.ridge * torch.eye(len(mu)).to(cov)
        )


def em(model: CodeMixture, x: Tensor, steps: int) -> Iterator[tuple[int, float]]:
    """Fit a mixture to codes (N, D): yields (step, mean -log p in nats before it).

    Means begin at examples drawn at random, and the noise is drawn once.
    """
    x = validate.codes(x, model.levels, model.mu.shape[1]).to(model.mu)
    x = x + noise_like(x)
    model.mu.copy_(x[torch.randperm(len(x))[: len(model.mu)]])
    for step in range(1, steps + 1):
        q, log_p = expect(model, x)
        maximise(model, x, q)
        yield step, -log_p
