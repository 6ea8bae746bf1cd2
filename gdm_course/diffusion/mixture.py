"""The best possible denoiser, in closed form, where the data are a mixture of Gaussians.

References:
    Karras, Aittala, Aila, Laine (2022). Elucidating the design space of diffusion-based
        generative models, appendix B.3. arXiv:2206.00364.
"""

import math

import torch
from torch import Tensor, nn

from gdm_course import validate
from gdm_course.diffusion.schedule import rowwise


class MixtureDenoiser(nn.Module):
    """E[x0 | x_t] for x0 from sum_k w_k N(m_k, s_k^2 I), and x_t = alpha x0 + sigma eps.

    Each component k alone says m_k + alpha s_k^2 / (alpha^2 s_k^2 + sigma^2) (x_t - alpha
    m_k); they are weighted by the probability that x_t comes from them. With s = 0 the
    components are points, such as all pictures of a training set.

    Args:
        means: m (K, *D), kept in the dtype that they have.
        std: s, one number or (K,); 0 for points.
        weights: w (K,), summing to 1; equal if None.
    """

    def __init__(
        self, means: Tensor, std: Tensor | float = 0.0, weights: Tensor | None = None
    ):
        super().__init__()
        means = validate.points(means, ..., name="means")
        K = len(means)
        std = torch.as_tensor(std).to(means).expand(K).clone()
        w = means.new_full((K,), 1 / K) if weights is None else weights.to(means)
        self.register_buffer("means", means.clone())
        self.register_buffer("std", std)
        self.register_buffer("weights", validate.one_each(w, K, "weights").clone())

    def log_parts(self, x_t: Tensor, log_snr: Tensor) -> Tensor:
        """Return log w_k N(x_t; alpha m_k, alpha^2 s_k^2 + sigma^2), every k: (B, K)."""
        x = validate.points(x_t, self.means.shape[1:], name="x_t", least=0).flatten(1)
        alpha, var = (v[:, None] for v in self.spread(x, log_snr))
        var = alpha.square() * self.std.to(x).square() + var
        gap = x[:, None] - alpha[:, :, None] * self.means.to(x).flatten(1)  # (B, K, D)
        squares = gap.square().sum(-1) / var
        logs = (2 * math.pi * var).log() * x.shape[1]
        return self.weights.to(x).log() - (squares + logs) / 2

    def spread(self, x: Tensor, log_snr: Tensor) -> tuple[Tensor, Tensor]:
        """Return alpha and sigma^2 of every row of x: (B,), (B,)."""
        log_snr = torch.as_tensor(log_snr).to(x).expand(len(x))
        return log_snr.sigmoid().sqrt(), (-log_snr).sigmoid()

    def log_p(self, x_t: Tensor, log_snr: Tensor) -> Tensor:
        """Return the exact log density of x_t in nats: (B, *D), (B,) or () -> (B,)."""
        return self.log_parts(x_t, log_snr).logsumexp(1)

    def forward(self, x_t: Tensor, log_snr: Tensor, y: Tensor | None = None) -> Tensor:
        """Return E[x0 | x_t], what no network can say better: (B, *D), (B,) -> (B, *D)."""
        r = self.log_parts(x_t, log_snr).softmax(1)  # (B, K)
        x = x_t.flatten(1)
        alpha, var = (v[:, None] for v in self.spread(x, log_snr))
        s2 = self.std.to(x).square()
        gain = alpha * s2 / (alpha.square() * s2 + var)  # (B, K)
        middle = (r * (1 - alpha * gain)) @ self.means.to(x).flatten(1)
        return (middle + (r * gain).sum(1, keepdim=True) * x).view_as(x_t)

    def score(self, x_t: Tensor, log_snr: Tensor) -> Tensor:
        """Return grad log p of x_t: (alpha E[x0 | x_t] - x_t) / sigma^2, (B, *D)."""
        alpha, var = (rowwise(v, x_t) for v in self.spread(x_t, log_snr))
        return (alpha * self(x_t, log_snr) - x_t) / var
