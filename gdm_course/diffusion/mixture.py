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


class NoisyMixture(nn.Module):
    """A mixture sum_k w_k N(m_k, s_k^2 I) under noise: what x_t = alpha x0 + sigma eps is.

    Args:
        means: m (K, *D), kept in the dtype that they have.
        std: s, one number or (K,); 0 for points, such as all pictures of a training set.
        weights: w (K,), summing to 1; equal if None.
    """

    def __init__(
        self, means: Tensor, std: Tensor | float = 0.0, weights: Tensor | None = None
    ):
        super().__init__()
        means = validate.points(means, ..., name="means")
        K = len(means)
        std = torch.as_tensor(std).to(means).expand(K)
        w = means.new_full((K,), 1 / K) if weights is None else weights.to(means)
        self.register_buffer("means", means.clone())
        self.register_buffer("std", std.clone())
        self.register_buffer("weights", validate.one_each(w, K, "weights").clone())

    def log_parts(self, x_t: Tensor, log_snr: Tensor) -> Tensor:
        """Return log w_k N(x_t; alpha m_k, alpha^2 s_k^2 + sigma^2), every k: (B, K)."""
        x = validate.points(x_t, self.means.shape[1:], name="x_t", least=0).flatten(1)
        alpha, noise = signal_and_noise(x, log_snr)
        var = alpha.square() * self.std.to(x).square() + noise
        gap = x[:, None] - alpha[:, :, None] * self.means.to(x).flatten(1)  # (B, K, D)
        width = x.shape[1] * (2 * math.pi * var).log()
        return self.weights.to(x).log() - (gap.square().sum(-1) / var + width) / 2

    def log_p(self, x_t: Tensor, log_snr: Tensor) -> Tensor:
        """Return the exact log density of x_t in nats: (B, *D), (B,) or () -> (B,)."""
        return self.log_parts(x_t, log_snr).logsumexp(1)


class MixtureDenoiser(NoisyMixture):
    """E[x0 | x_t] of a mixture, in closed form: what no network can say better.

    Component k alone says m_k + alpha s_k^2 / (alpha^2 s_k^2 + sigma^2) (x_t - alpha m_k);
    the answers are weighted by the probabilities that x_t comes from k.
    """

    def forward(self, x_t: Tensor, log_snr: Tensor, y: Tensor | None = None) -> Tensor:
        """Return E[x0 | x_t]: (B, *D), log_snr (B,) or () -> (B, *D)."""
        r, x = self.log_parts(x_t, log_snr).softmax(1), x_t.flatten(1)  # r (B, K)
        alpha, noise = signal_and_noise(x, log_snr)
        s2 = self.std.to(x).square()
        gain = alpha * s2 / (alpha.square() * s2 + noise)  # (B, K)
        middle = (r * (1 - alpha * gain)) @ self.means.to(x).flatten(1)
        return (middle + (r * gain).sum(1, keepdim=True) * x).view_as(x_t)

    def score(self, x_t: Tensor, log_snr: Tensor) -> Tensor:
        """Return grad log p of x_t: (alpha E[x0 | x_t] - x_t) / sigma^2, (B, *D)."""
        alpha, noise = (rowwise(v, x_t) for v in signal_and_noise(x_t.flatten(1), log_snr))
        return (alpha * self(x_t, log_snr) - x_t) / noise


def signal_and_noise(x: Tensor, log_snr: Tensor) -> tuple[Tensor, Tensor]:
    """Return alpha and sigma^2 for every row of x (B, D): (B, 1), (B, 1)."""
    log_snr = torch.as_tensor(log_snr).to(x).expand(len(x))[:, None]
    return log_snr.sigmoid().sqrt(), (-log_snr).sigmoid()
