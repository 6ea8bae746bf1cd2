"""GPT: every conditional from one network, which attends to all tokens before.

References:
    Vaswani et al. (2017). Attention is all you need. arXiv:1706.03762.
    Radford, Narasimhan, Salimans, Sutskever (2018). Improving language understanding by
        generative pre-training. OpenAI.
    Radford, Wu, Child, Luan, Amodei, Sutskever (2019). Language models are unsupervised
        multitask learners. OpenAI.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributions import Categorical

from gdm_course import validate
from gdm_course.autoregressive.decoding import (
    Cache,
    beginning,
    check_decoding,
    choose,
    generate,
    some_labels,
)
from gdm_course.nets import precise


def causal_attention(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """Let every position look at itself and what is before it: (2) and (3), to the word.

    Args:
        q, k, v: queries, keys and values (..., T, d).

    Returns:
        The mixed values (..., T, d), and who looked at whom: weights (..., T, T).
    """
    T, d = q.shape[-2:]
    scores = (
        q @ k.transpose(-2, -1) / math.sqrt(d)
    )  # (..., T, T): row t asks, column s answers
    future = torch.ones(T, T, dtype=torch.bool, device=q.device).triu(1)
    weights = scores.masked_fill(future, -torch.inf).softmax(-1)
    return weights @ v, weights


class Attention(nn.Module):
    """Causal self-attention with several heads: (B, T, width) -> (B, T, width).

    Args:
        width: of the stream; `heads` share it equally.
        dropout: probability that a weight of attention is silenced in training.
    """

    def __init__(self, width: int, *, heads: int = 4, dropout: float = 0.0):
        super().__init__()
        validate.at_least(1, width=width, heads=heads)
        if width % heads:
            raise ValueError(f"width {width} cannot be shared equally by {heads} heads")
        self.heads, self.dropout = heads, dropout
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def split(self, h: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return queries, keys and values of all heads: three of (B, heads, T, d)."""
        B, T, width = h.shape
        qkv = self.qkv(h).view(B, T, 3, self.heads, width // self.heads)
        q, k, v = qkv.unbind(2)  # before they are turned: their gradients lie side by side
        return q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)

    def forward(self, h: Tensor, cache: Cache | None = None) -> Tensor:
        """Attend within h, and to the keys and values of a cache if there is one."""
        q, k, v = self.split(h)
        if cache is not None:
            k, v = cache.extend(k, v)
        a = F.scaled_dot_product_attention(
            q, k, v, dropout_p=self.dropout * self.training, is_causal=q.shape[2] > 1
        )  # a single query, the latest, may see everything
        return self.out(a.transpose(1, 2).flatten(2))


class Block(nn.Module):
    """Look around, then think: h + attention(norm(h)), then h + mlp(norm(h)), as in (4)."""

    def __init__(self, width: int, *, heads: int = 4, dropout: float = 0.0):
        super().__init__()
        self.norm_1, self.norm_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = Attention(width, heads=heads, dropout=dropout)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.dropout = dropout

    def drop(self, h: Tensor) -> Tensor:
        """Silence parts of what is added to the stream, in training."""
        return F.dropout(h, self.dropout) if self.training and self.dropout else h

    def forward(self, h: Tensor, cache: Cache | None = None) -> Tensor:
        """Update the stream: (B, T, width) -> (B, T, width)."""
        h = h + self.drop(self.attention(self.norm_1(h), cache))
        return h + self.drop(self.down(F.gelu(self.up(self.norm_2(h)), approximate="tanh")))


class Stack(nn.Module):
    """All of a GPT but its probabilities: from tokens to K logits for each next token."""

    def __init__(self, K, T, *, layers=4, heads=4, width=128, classes=0, dropout=0.0):
        super().__init__()
        validate.at_least(1, K=K, T=T, layers=layers, width=width)
        validate.at_least(0, classes=classes)
        self.K, self.T, self.classes = K, T, classes
        self.token = nn.Embedding(K, width)  # also reads out: tied weights
        self.position = nn.Parameter(torch.randn(T, width) * 0.02)
        self.start = nn.Embedding(max(classes, 1), width)  # stands before the first token
        options = {"heads": heads, "dropout": dropout}
        self.blocks = nn.ModuleList([Block(width, **options) for _ in range(layers)])
        self.norm = nn.LayerNorm(width)
        initialise(self)

    def embed(self, past: Tensor, y: Tensor | None = None) -> Tensor:
        """Put the start before tokens (B, t), add where each stands: (B, t + 1, width)."""
        if past.shape[1] >= self.T:
            raise ValueError(
                f"{past.shape[1] + 1} tokens do not fit into a context of {self.T}: "
                "cut them, or build the model with a larger T"
            )
        y = validate.labels(y, self.classes, len(past))
        start = self.start(past.new_zeros(len(past)) if y is None else y)  # (B, width)
        h = torch.cat([start[:, None], self.token(past)], dim=1)
        return h + self.position[: h.shape[1]]

    def read(self, h: Tensor) -> Tensor:
        """Compare the stream with every token's vector: (..., width) -> logits (..., K)."""
        return F.linear(self.norm(h), self.token.weight)

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """Return the logits of p(x_t | x_<t) for all t: (B, T) -> (B, T, K)."""
        x = validate.codes(x, self.K, "t")
        h = self.embed(x[:, :-1], y)  # position t sees the start and x_<t, never x_t
        for block in self.blocks:
            h = block(h)
        return self.read(h)


def initialise(net: Stack) -> None:
    """Draw small weights, and smaller ones where many layers add to the same stream."""
    for module in net.modules():
        if isinstance(module, nn.Linear | nn.Embedding):
            nn.init.normal_(module.weight, std=0.02)
        if isinstance(module, nn.Linear):
            nn.init.zeros_(module.bias)
    for block in net.blocks:
        for writes in (block.attention.out, block.down):
            nn.init.normal_(writes.weight, std=0.02 / math.sqrt(2 * len(net.blocks)))


class GPT(Stack):
    """Generative pre-trained transformer for K tokens 0..K-1, sequences (B, t), t <= T.

    Args:
        K, T: how many different tokens; the longest sequence.
        layers, heads, width: of the transformer.
        classes: how many classes y can be given, 0 for none; each has its own start.
        dropout: probability of silence in training.
    """

    def conditionals(self, x: Tensor, y: Tensor | None = None) -> Categorical:
        """Return p(x_t | x_<t, y) for all t in one pass: (B, t) -> batch shape (B, t)."""
        return Categorical(logits=precise(self(x, y)), validate_args=False)

    def log_prob(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """Return log p(x | y) in nats: (B, t) -> (B,). Without y, all classes as likely."""
        if y is None and self.classes:
            ys = torch.arange(self.classes, device=x.device)[:, None].expand(-1, len(x))
            log_p = torch.stack([self.log_prob(x, y) for y in ys])  # (classes, B)
            return log_p.logsumexp(0) - math.log(self.classes)
        return self.conditionals(x, y).log_prob(x).sum(-1)

    def loss(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """Return the mean negative log-likelihood in nats per token."""
        return F.cross_entropy(self(x, y).flatten(0, 1), x.flatten().long())

    def sample(self, n, *, y=None, prompt=None, length=None, **how) -> Tensor:
        """Draw n sequences (n, length), each beginning with the prompt, by cached steps.

        Args:
            y: classes (n,); by default drawn, all as likely.
            prompt: tokens (t,) to begin with; `length` tokens in all, T by default.
            how: temperature, top_k, top_p of `decoding.choose`.
        """
        device, n = self.position.device, validate.count(n)
        y = some_labels(y, self.classes, n, device)
        x = beginning(self, prompt).to(device).expand(n, -1)  # (n, t)
        length = self.T if length is None else length
        check_decoding(**how)
        return generate(self, x, y, length, lambda logits: choose(logits, **how))
