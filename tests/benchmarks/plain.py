"""Training steps of MADE and GPT against plain ones, as one-file projects write them.

A MADE whose layers multiply by a fixed mask, as in karpathy/pytorch-made, and a GPT with
one product for queries, keys and values and torch's attention, as in nanoGPT: no looks at
the input, nothing but the step. Same optimiser for all, turn by turn.
`python -m tests.benchmarks.plain` prints the table.
"""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gdm_course.autoregressive.gpt import GPT
from gdm_course.autoregressive.made import MADE, degrees, masks
from tests.benchmarks.gpt import step_of
from tests.benchmarks.harness import Ratio, compare, table

K = 65


class Masked(nn.Linear):
    """A linear layer whose weights are multiplied by a fixed mask."""

    def __init__(self, mask: Tensor):
        super().__init__(mask.shape[1], mask.shape[0])
        self.register_buffer("mask", mask.float())

    def forward(self, x: Tensor) -> Tensor:
        """Apply it: (B, in) -> (B, out)."""
        return F.linear(x, self.mask * self.weight, self.bias)


def plain_made(D: int, hidden: int) -> nn.Module:
    """One hidden layer in the natural order: bits (B, D) to logits (B, D)."""
    first, last = masks(degrees(torch.arange(D), (hidden,)))
    return nn.Sequential(Masked(first), nn.ReLU(), Masked(last))


class PlainBlock(nn.Module):
    """Attention and a perceptron on a stream, each behind a normalisation."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.norms = nn.ModuleList([nn.LayerNorm(width), nn.LayerNorm(width)])
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.think = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )

    def forward(self, h: Tensor) -> Tensor:
        """Update the stream (B, T, width)."""
        B, T, width = h.shape
        parts = self.qkv(self.norms[0](h)).split(width, dim=2)
        q, k, v = (part.view(B, T, self.heads, -1).transpose(1, 2) for part in parts)
        a = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        h = h + self.out(a.transpose(1, 2).contiguous().view(B, T, width))
        return h + self.think(self.norms[1](h))


class PlainGPT(nn.Module):
    """Tokens (B, T) to logits (B, T, K) of the next ones; tied weights."""

    def __init__(self, T: int, layers: int, heads: int, width: int):
        super().__init__()
        self.token, self.place = nn.Embedding(K, width), nn.Embedding(T, width)
        self.blocks = nn.Sequential(*[PlainBlock(width, heads) for _ in range(layers)])
        self.norm, self.read = nn.LayerNorm(width), nn.Linear(width, K, bias=False)
        self.read.weight = self.token.weight

    def loss(self, x: Tensor, y: Tensor) -> Tensor:
        """Mean cross-entropy of y (B, T) after x (B, T)."""
        h = self.token(x) + self.place(torch.arange(x.shape[1]))
        logits = self.read(self.norm(self.blocks(h)))
        return F.cross_entropy(logits.view(-1, K), y.view(-1))


def made(D: int = 784, hidden: int = 500, B: int = 100) -> Ratio:
    """Both learn bits."""
    x = torch.randint(2, (B, D)).float()
    ours, other = MADE(D, hidden=(hidden,)), plain_made(D, hidden)
    cost = lambda: F.binary_cross_entropy_with_logits(other(x), x, reduction="sum") / B  # noqa: E731
    name = f"MADE {D}-{hidden}-{D}, step of {B}"
    mine, its = step_of(ours, lambda: ours.loss(x)), step_of(other, cost)
    return compare(name, mine, its, "fixed masks, no look at the bits", 1, repeat=101)


def gpt(B: int, T: int, layers: int = 4, heads: int = 4, width: int = 128) -> Ratio:
    """Both learn random tokens."""
    x = torch.randint(K, (B, T + 1))
    ours = GPT(K, T, layers=layers, heads=heads, width=width).train()
    other = PlainGPT(T, layers, heads, width).train()
    name = f"GPT {layers} x {width}, step B{B} T{T}"
    mine = step_of(ours, lambda: ours.loss(x[:, 1:]))
    its = step_of(other, lambda: other.loss(x[:, :-1], x[:, 1:].contiguous()))
    return compare(name, mine, its, "a plain GPT", 1, repeat=31 if T < 100 else 11)


def ratios() -> Iterator[Ratio]:
    """The shapes that these projects train."""
    yield made()
    yield gpt(12, 64)
    yield gpt(16, 256)


if __name__ == "__main__":
    torch.manual_seed(0)
    print(table(list(ratios())))
