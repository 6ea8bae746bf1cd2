"""Vectors become the nearest word of a codebook; gradients pass as if nothing had happened.

Numbered equations are those of the lecture vae/vqvae. A quantiser is a module with K codes
for vectors of D numbers: `forward(z) -> (quantised, codes, penalty)` and `lookup(codes)`.

References:
    van den Oord, Vinyals, Kavukcuoglu (2017). Neural discrete representation learning.
        arXiv:1711.00937.
    MacQueen (1967). Some methods for classification and analysis of multivariate
        observations. Berkeley Symposium. (Online k-means.)
    Dhariwal, Jun, Payne, Kim, Radford, Sutskever (2020). Jukebox. arXiv:2005.00341.
        (Dead codes are drawn anew from the encoder's vectors.)
"""

import torch
from torch import Tensor, nn

from gdm_course import validate
from gdm_course.learning import dealt, on_backward, pooled

Quantised = tuple[Tensor, Tensor, Tensor]


def nearest(z: Tensor, codebook: Tensor) -> Tensor:
    """Return the code of the nearest vector, argmin_k |z - e_k|^2: (1).

    |z - e|^2 = |z|^2 - 2 z.e + |e|^2, and |z|^2 does not change who wins: one product of
    matrices does it. Of equally near codes the first is taken.

    Args:
        z: vectors (N, D).
        codebook: (K, D).

    Returns:
        Codes 0..K-1, (N,) int64.
    """
    half = codebook.square().sum(1) / 2  # (K,)
    return torch.addmm(half, z, codebook.T, alpha=-1).argmin(1)


def straight_through(z: Tensor, q: Tensor) -> Tensor:
    """Return q, but hand the gradient on to z as if q were z: (4).

    The value is q to the last bit: z minus itself is 0, whatever rounding does.
    """
    return q.detach() + (z - z.detach())


def perplexity(codes: Tensor, K: int) -> Tensor:
    """Return exp of the entropy of how often each code is used: from 1 to K, a scalar."""
    p = validate.codes(codes, K).flatten().bincount(minlength=K) / codes.numel()
    return torch.special.entr(p).sum().exp()


def totals(z: Tensor, codes: Tensor, K: int) -> tuple[Tensor, Tensor]:
    """Return how many vectors each code won (K,), and the sum of them (K, D)."""
    count = codes.bincount(minlength=K).to(z.dtype)
    return count, z.new_zeros(K, z.shape[1]).index_add_(0, codes, z)


@torch.no_grad()
def follow(codebook: Tensor, count: Tensor, z: Tensor, codes: Tensor, decay: float) -> None:
    """Move every code towards the mean of the vectors it won, in place: (2) and (3).

    Args:
        codebook: (K, D), moved.
        count: running mean of the vectors that each code wins per batch (K,), moved.
        z, codes: the batch (N, D) and its nearest codes (N,); those of all processes count.
        decay: of the running means, gamma.
    """
    n, total = map(pooled, totals(z, codes, len(codebook)))
    count.lerp_(n, 1 - decay)
    rate = (1 - decay) / count.clamp_min(1e-12)  # per vector; a code without any stays
    codebook.addcmul_(rate[:, None], total - n[:, None] * codebook)


@torch.no_grad()
def revive(codebook: Tensor, count: Tensor, z: Tensor, share: float) -> None:
    """Put codes that win too little onto vectors of the batch, in place.

    A code is dead if it wins less than `share` of what the average code wins. It starts
    anew as a vector drawn from z, with an average count. All other codes stay untouched.

    Args:
        codebook, count: (K, D) and (K,), as `follow` left them.
        z: vectors of the batch (N, D).
        share: 0 never revives.
    """
    dead = count < share * count.mean()
    drawn = dealt(z[torch.randint(len(z), (len(codebook),), device=z.device)])
    codebook.copy_(torch.where(dead[:, None], drawn, codebook))
    count.copy_(torch.where(dead, count.mean(), count))


class VectorQuantiser(nn.Module):
    """A codebook that follows the vectors it is trained on, with commitment: (1) to (5).

    Args:
        K, D: number of codes, and of numbers per vector.
        decay: of the running means.
        beta: weight of the commitment, in nats per squared unit of z.
        share: revive codes that win less than this part of an average code's vectors.
    """

    def __init__(self, K=512, D=64, *, decay=0.99, beta=0.25, share=0.02):
        super().__init__()
        validate.at_least(1, K=K, D=D)
        self.K, self.D, self.decay, self.beta, self.share = K, D, decay, beta, share
        self.register_buffer("codebook", torch.randn(K, D))
        self.register_buffer("count", torch.zeros(K))

    def lookup(self, codes: Tensor) -> Tensor:
        """Return the vectors of codes: (*B,) -> (*B, D)."""
        return self.codebook[validate.codes(codes, self.K)]

    @torch.no_grad()
    def learn(self, z: Tensor, codes: Tensor) -> None:
        """Let the codebook follow a batch: vectors (N, D), if finite, and codes (N,)."""
        if pooled(z.sum(0)).isfinite().all():
            follow(self.codebook, self.count, z, codes, self.decay)
            revive(self.codebook, self.count, z, self.share)

    def forward(self, z: Tensor) -> Quantised:
        """Quantise vectors (*B, D): (*B, D), codes (*B,), and commitment (*B,) in nats."""
        with torch.autocast(z.device.type, enabled=False):  # bf16 would mix up neighbours
            z = validate.vectors(z, self.D).to(self.codebook.dtype)
            flat = z.detach().flatten(0, -2)
            codes = nearest(flat, self.codebook)
            q = self.lookup(codes).view_as(z)
            penalty, q = self.beta * (z - q).square().sum(-1), straight_through(z, q)
            if self.training:
                q = on_backward(q, lambda: self.learn(flat, codes))
            return q, codes.view(z.shape[:-1]), penalty
