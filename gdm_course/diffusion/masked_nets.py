"""Who guesses what is hidden: a table of the truth, a GPT that looks both ways, a U-Net.

All map codes 0..K, of which K is hidden, (B, T), to logits (B, T, K).
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gdm_course import validate
from gdm_course.autoregressive.decoding import Cache
from gdm_course.autoregressive.gpt import Attention, Stack, initialise
from gdm_course.diffusion.unet import Hourglass
from gdm_course.nets import mlp, norm, zero_last


class TrueGuesses(nn.Module):
    """The exact conditionals of a law that is a table: what no network can say better.

    Args:
        p: probabilities of all sequences, (K, K, ...) with one axis for every token.
    """

    def __init__(self, p: Tensor):
        super().__init__()
        p = validate.points(p, ..., name="p").clamp_min(1e-30)  # all may be asked for
        self.K, T = p.shape[0], p.ndim
        if p.shape != (self.K,) * T:
            raise ValueError(
                f"p has shape {tuple(p.shape)}: expected the same size T times"
            )
        states = torch.cartesian_prod(*[torch.arange(self.K)] * T).view(-1, T)
        self.register_buffer("p", p.flatten() / p.sum())
        self.register_buffer("states", states)  # (K^T, T)

    def forward(self, x_t: Tensor) -> Tensor:
        """Return log p(x_i | what is visible): add up all sequences that agree with it."""
        x_t = validate.codes(x_t, self.K + 1, self.states.shape[1])[:, None]
        agrees = ((x_t == self.states) | (x_t == self.K)).all(2)  # (B, K^T)
        share = agrees * self.p
        one_hot = F.one_hot(self.states, self.K).to(self.p)  # (K^T, T, K)
        p = torch.einsum("bs,stk->btk", share, one_hot)
        return (p / share.sum(1)[:, None, None]).log()


def glances(heads: int, T: int) -> Tensor:
    """Where heads look at first: scores that distances j - i start with, (heads, 2 T - 1).

    By turns to the left and to the right, and two by two only near by or farther away.

    Args:
        heads: how many.
        T: places; the distances are 1 - T to T - 1.
    """
    distance, head = torch.arange(1 - T, T), torch.arange(heads)[:, None]
    behind = distance * (-1.0) ** head >= 0  # on its other side, or where it stands
    slope = torch.where(head // 2 % 2 == 0, 1.0, 0.15)
    return -slope * distance.abs() - 3.0 * behind


class OpenAttention(Attention):
    """The attention of a GPT, open to both sides, and with an eye for distances.

    The score of place j, asked from i, gets a learned number that belongs to j - i and the
    head.

    Args:
        width, heads, dropout: as of `Attention`.
        T: places at most.

    References:
        Raffel et al. (2020). Exploring the limits of transfer learning with a unified
            text-to-text transformer. arXiv:1910.10683.
        Press, Smith, Lewis (2022). Train short, test long: attention with linear biases
            enables input length extrapolation. arXiv:2108.12409.
    """

    def __init__(self, width: int, T: int, *, heads: int = 4, dropout: float = 0.0):
        super().__init__(width, heads=heads, dropout=dropout)
        self.far = nn.Parameter(glances(heads, T))

    def forward(self, h: Tensor, cache: Cache | None = None) -> Tensor:
        """Attend within h, (B, T, width), before and behind."""
        q, k, v = self.split(h)
        t = torch.arange(h.shape[1], device=h.device)
        middle = self.far.shape[1] // 2  # distance 0
        mask = self.far[:, t - t[:, None] + middle].to(q.dtype)  # (heads, T, T)
        how = {"attn_mask": mask, "dropout_p": self.dropout * self.training}
        a = F.scaled_dot_product_attention(q, k, v, **how)
        return self.out(a.transpose(1, 2).flatten(2))


class BidirectionalGPT(Stack):
    """A GPT that guesses hidden tokens: it looks both ways, and nothing is shifted.

    The vector that stands before the first token of a GPT stands here for hidden tokens.
    Attention knows distances, so that places need no vectors.

    Args:
        K, T: number of values, and of tokens at most.
        layers, heads, width, dropout: as of `GPT`.
    """

    def __init__(self, K, T, *, layers=4, heads=4, width=128, dropout=0.0):
        how = {"heads": heads, "dropout": dropout}
        super().__init__(K, T, layers=layers, width=width, **how)
        for block in self.blocks:
            block.attention = OpenAttention(width, T, **how)
        del self.position
        initialise(self)

    def embed(self, x_t: Tensor, y: Tensor | None = None) -> Tensor:
        """Give every token its vector, hidden ones the start's."""
        token = self.token(x_t.clamp_max(self.K - 1))
        return torch.where((x_t == self.K)[..., None], self.start.weight[0], token)

    def forward(self, x_t: Tensor, y: Tensor | None = None) -> Tensor:
        """Return the logits of p(x_i | what is visible) for all i: (B, T) -> (B, T, K)."""
        h = self.embed(validate.codes(x_t, self.K + 1, self.T, least=0))
        for block in self.blocks:
            h = block(h)
        return self.read(h)


class MaskedUNet(nn.Module):
    """A U-Net that guesses hidden pixels of small pictures (H, W), as vectors (B, H W).

    Every code has a vector of its own, hidden is one of them.

    Args:
        size: H and W.
        K: number of values of a pixel.
        width: channels at full size.
        body: more about the way down and up, see `Hourglass`: mult, attention, ...
    """

    def __init__(self, size: tuple[int, int], K: int, *, width: int = 32, **body):
        super().__init__()
        validate.at_least(1, size=tuple(size), K=K, width=width)
        self.size, self.K, E = tuple(size), K, 2 * width
        self.code = nn.Embedding(K + 1, width)
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.knows = mlp((1, E, E))  # what share is hidden
        self.body = Hourglass(width, E, **body)
        last = self.body.up[-1].blocks[-1].two[-1].out_channels
        self.last = nn.Sequential(norm(last), nn.SiLU(), nn.Conv2d(last, K, 3, padding=1))
        zero_last(self.last)

    def forward(self, x_t: Tensor) -> Tensor:
        """Return the logits of all pixels: (B, H W) -> (B, H W, K)."""
        x_t = validate.codes(x_t, self.K + 1, math.prod(self.size), least=0)
        h = self.first(self.code(x_t).mT.unflatten(2, self.size))
        share = (x_t == self.K).to(h).mean(1, keepdim=True)
        return self.last(self.body(h, self.knows(share))).flatten(2).mT
