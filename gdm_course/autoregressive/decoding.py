"""From logits to tokens: which one to draw, and how not to compute anything twice.

References:
    Fan, Lewis, Dauphin (2018). Hierarchical neural story generation. arXiv:1805.04833.
    Holtzman, Buys, Du, Forbes, Choi (2020). The curious case of neural text degeneration.
        arXiv:1904.09751.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from gdm_course import validate
from gdm_course.learning import evaluating


def check_decoding(
    temperature: float = 1.0, top_k: int | None = None, top_p: float | None = None
) -> None:
    """Refuse arguments of `sharpen` that leave no token, or mean nothing.

    Raises:
        ValueError: the sentence names the argument and its range.
    """
    if not 0 < temperature < math.inf:
        raise ValueError(
            f"temperature {temperature}: expected a number above 0; for 0 take top_k=1"
        )
    if top_k is not None:
        validate.count(top_k, "top_k", 1)
    if top_p is not None and not 0 <= top_p <= 1:
        raise ValueError(f"top_p {top_p}: expected a probability, from 0 to 1")


def sharpen(
    logits: Tensor,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
) -> Tensor:
    """Change a distribution over tokens, (..., K) logits; what is excluded gets -inf.

    Args:
        logits: of the model.
        temperature: the logits are divided by it: below 1 the likely become likelier.
        top_k: keep the k likeliest tokens; of equals, the first.
        top_p: keep the fewest likeliest tokens that together have probability p or more.

    Raises:
        ValueError: a temperature, k or p that leaves no token, or is no such number.
    """
    check_decoding(temperature, top_k, top_p)
    logits = logits - logits.amax(-1, keepdim=True)  # 0 stays 0, however cold it is
    logits = logits / max(temperature, torch.finfo(logits.dtype).tiny)
    if top_k is not None and top_k < logits.shape[-1]:
        order = logits.argsort(dim=-1, descending=True, stable=True)
        logits = logits.scatter(-1, order[..., top_k:], -torch.inf)
    if top_p is not None:
        ordered, order = logits.sort(descending=True, stable=True)
        p = ordered.softmax(-1)
        enough = p.cumsum(-1) - p >= top_p  # the likelier ones already suffice
        enough[..., 0] = False
        excluded = torch.zeros_like(enough).scatter(-1, order, enough)
        logits = logits.masked_fill(excluded, -torch.inf)
    return logits


def choose(
    logits: Tensor,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
) -> Tensor:
    """Draw one token per row after `sharpen`: (n, K) -> (n,).

    The race of exponential clocks: token i rings after a time of mean 1 / p_i, and is the
    first to ring with probability p_i. Much faster than `multinomial`.
    """
    p = sharpen(logits, temperature, top_k, top_p).softmax(-1)
    return (p / torch.empty_like(p).exponential_()).argmax(-1)


class Cache:
    """Keys and values of one layer, allocated once for all T positions, filled in order."""

    def __init__(self, n: int, heads: int, T: int, d: int, like: Tensor):
        self.keys, self.values = like.new_zeros(2, n, heads, T, d)
        self.length = 0

    def extend(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Append keys and values (n, heads, t, d), and return all there are so far."""
        if self.length and k.shape[2] > 1:
            raise ValueError("a cache is filled by one prompt, then one token at a time")
        start, self.length = self.length, self.length + k.shape[2]
        self.keys[:, :, start : self.length] = k
        self.values[:, :, start : self.length] = v
        return self.keys[:, :, : self.length], self.values[:, :, : self.length]


def some_labels(
    y: Tensor | None, classes: int, n: int, device: torch.device
) -> Tensor | None:
    """Return labels of n samples: y if it fits, else drawn if there are classes."""
    if y is None and classes:
        return torch.randint(classes, (n,), device=device)
    return validate.labels(y, classes, n)


def beginning(model: nn.Module, prompt: Tensor | None) -> Tensor:
    """Return a prompt (t,) as tokens of the model; without one, none: (0,)."""
    if prompt is None:
        return torch.empty(0, dtype=torch.int64)
    if (prompt := validate.codes(prompt, model.K, name="prompt")).ndim != 1:
        raise ValueError(
            f"prompt has shape {tuple(prompt.shape)}: expected tokens (t,), one text; "
            "all samples begin with it"
        )
    return prompt


def generate(
    model: nn.Module,
    x: Tensor,
    y: Tensor | None,
    length: int,
    choose: Callable[[Tensor], Tensor],
) -> Tensor:
    """Continue tokens x (n, t) to (n, length): each token passes through the network once.

    Args:
        model: a GPT; in evaluation mode while this runs.
        x, y: the prompt (n, t), t < length, and classes (n,) or None.
        length: how many tokens in all, at most T.
        choose: from logits (n, K) to the next tokens (n,).
    """
    validate.count(length, "length", 1)
    if not x.shape[1] < length <= model.T:
        raise ValueError(f"length {length} is not above {x.shape[1]} and at most {model.T}")
    given = x.shape[1]
    tokens = torch.cat([x, x.new_zeros(len(x), length - given)], dim=1)
    with evaluating(model), torch.inference_mode():  # like no_grad, and a tenth faster
        h = model.embed(x, y)
        heads = model.blocks[0].attention.heads
        size = (len(x), heads, length, h.shape[-1] // heads)
        caches = [Cache(*size, like=h) for _ in model.blocks]
        for t in range(given, length):
            for block, cache in zip(model.blocks, caches):
                h = block(h, cache)
            tokens[:, t] = choose(model.read(h[:, -1]))
            if t + 1 < length:
                h = (model.token(tokens[:, t]) + model.position[t + 1])[:, None]
    return tokens
