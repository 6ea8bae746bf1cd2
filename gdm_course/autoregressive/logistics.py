"""A mixture of logistics, cut into bins: a distribution for grey values that are ordered.

References:
    Salimans, Karpathy, Chen, Kingma (2017). PixelCNN++: improving the PixelCNN with
        discretized logistic mixture likelihood. arXiv:1701.05517.
"""

import torch
from torch import Tensor
from torch.distributions import Categorical, Distribution
from torch.nn.functional import logsigmoid

from gdm_course import validate


class DiscretisedLogistics(Distribution):
    """Codes 0..K-1 from a mixture of logistics whose line is cut into K bins: (6).

    P(x) = sum_m pi_m [sigma((v + r - mu_m) / s_m) - sigma((v - r - mu_m) / s_m)] with
    v = 2 x / (K - 1) - 1 and half a bin r = 1 / (K - 1); the outer bins reach to infinity.

    Args:
        parameters: logits of pi, means mu and log scales log s, side by side (..., 3 M).
        K: number of values.
    """

    def __init__(self, parameters: Tensor, K: int):
        self.logits, self.mu, log_s = parameters.chunk(3, dim=-1)  # (..., M) each
        self.K, self.log_s = K, log_s.clamp(-20, 20)  # exp of more is inf
        super().__init__(parameters.shape[:-1], validate_args=False)

    def log_prob(self, x: Tensor) -> Tensor:
        """Return log P(x) in nats by the stable form (7): codes (...) -> (...)."""
        r, narrow = 1 / (self.K - 1), torch.exp(-self.log_s)
        v = (2 * r * validate.codes(x, self.K).to(self.mu.dtype) - 1)[..., None]
        above = logsigmoid((v + r - self.mu) * narrow).masked_fill(v > 1 - r, 0)
        below = logsigmoid((self.mu - v + r) * narrow).masked_fill(v < r - 1, 0)
        gap = torch.log(-torch.expm1(-2 * r * narrow)).masked_fill(v.abs() > 1 - r, 0)
        return torch.logsumexp(self.logits.log_softmax(-1) + above + below + gap, dim=-1)

    @property
    def probs(self) -> Tensor:
        """Return the probabilities of all codes (..., K)."""
        every = torch.arange(self.K, device=self.mu.device)
        return self.log_prob(every.view(-1, *[1] * (self.mu.ndim - 1))).movedim(0, -1).exp()

    def sample(self, sample_shape: torch.Size = ()) -> Tensor:
        """Draw a component, then a point of it, then round to the nearest code."""
        weights = Categorical(logits=self.logits, validate_args=False)
        chosen = weights.sample(sample_shape)[..., None]
        shape = *chosen.shape[:-1], -1
        mu = self.mu.expand(shape).gather(-1, chosen).squeeze(-1)
        log_s = self.log_s.expand(shape).gather(-1, chosen).squeeze(-1)
        v = mu + log_s.exp() * torch.logit(torch.rand_like(mu).clamp(1e-6, 1 - 1e-6))
        return ((v + 1) * (self.K - 1) / 2).round().clamp(0, self.K - 1).long()
