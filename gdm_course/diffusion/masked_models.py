"""Masked diffusions with a network of their own, as recipes build them."""

import torch
from torch import Tensor

from gdm_course import validate
from gdm_course.diffusion.masked import MaskedDiffusion, hide
from gdm_course.diffusion.masked_nets import BidirectionalGPT, MaskedUNet


def few_hidden(B: int, T: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Draw for B rows how many of T tokens are hidden, small numbers m more often: 1..T.

    The mean of m guesses is noisiest for small m: its variance falls about as 1 / m, and
    then a mean over m has the least variance if m is drawn with density about m^(-1/2).
    Here P(m) = sqrt(m / T) - sqrt((m - 1) / T). Rows are spread evenly over it.

    Returns:
        m (B,) int64, and the weights 1 / (T P(m)) that make up for it (B,): a weighted mean
        expects what a plain one expects of numbers that are all alike.
    """
    u = (torch.randperm(B, device=device) + torch.rand(B, device=device)) / B
    m = (u.square() * T).long().clamp_max(T - 1) + 1
    p = (m / T).sqrt() - ((m - 1) / T).sqrt()
    return m, 1 / (T * p)


class MaskedText(MaskedDiffusion):
    """A masked diffusion of T tokens with K values, guessed by a `BidirectionalGPT`.

    Args:
        K, T: as of `GPT`: number of values, and of tokens.
        net: more about the network: layers, heads, width, dropout.
    """

    def __init__(self, K: int, T: int, **net):
        super().__init__(BidirectionalGPT(K, T, **net), T, K)

    def loss(self, x: Tensor) -> Tensor:
        """Return an estimate of the mean of -elbo(x) per token by `few_hidden`: ()."""
        x = validate.codes(x, self.K, self.T)
        m, weight = few_hidden(len(x), self.T, x.device)
        nll = self.surprise(x, hide(x, m, self.K)).sum(1) / m
        return (weight.to(nll) * nll).mean()


class MaskedPixels(MaskedDiffusion):
    """A masked diffusion of pictures with K values, guessed by a `MaskedUNet`.

    Args:
        size: H and W; pictures are vectors of H W codes.
        K: number of values of a pixel.
        net: more about the network: width, mult, ...
    """

    def __init__(self, size: tuple[int, int], K: int, **net):
        net = MaskedUNet(size, K, **net)
        super().__init__(net, size[0] * size[1], K)
