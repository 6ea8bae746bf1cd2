"""A mark in a sampler: which tokens are favoured is a secret, and can be counted.

Numbered equations are those of the lecture challenges/responsibility.

References:
    Kirchenbauer, Geiping, Wen, Katz, Miers, Goldstein (2023). A watermark for large
        language models. arXiv:2301.10226.
    Yang, Zeng, Chen, Fang, Zhang, Yu (2024). Gaussian Shading: provable performance-
        lossless image watermarking for diffusion models. arXiv:2404.04956.
"""

import math

import torch
from torch import Tensor, nn

from gdm_course import validate
from gdm_course.autoregressive.decoding import choose, generate


def green_list(key: int, K: int, share: float = 0.5) -> Tensor:
    """Draw the secret: which tokens are green after which, (K, K) of True and False.

    Every pair (token before, token) is green with probability `share`, independently, so
    that the number of green ones among n different pairs of a text that knows nothing of
    the key is binomial, to the letter.

    Args:
        key: whoever knows it can draw the same list.
        K: number of tokens.
        share: gamma.
    """
    _check_share(share)
    g = torch.Generator().manual_seed(key)
    return torch.rand(K, validate.count(K, "K", 1), generator=g) < share


def marked_sample(
    gpt: nn.Module, n: int, green: Tensor, delta: float, length: int | None = None
) -> Tensor:
    """Draw n texts (n, length) with delta added to the logit of every green token, (6).

    The first token has none before it, so it carries no mark.

    Args:
        gpt: with `embed`, `read` and `blocks`, as `generate` needs them.
        n, length: how many, and how many tokens; the longest by default.
        green: the secret (K, K).
        delta: the strength, 0 for none.
    """
    n, before = validate.count(n), None

    def marked(logits: Tensor) -> Tensor:
        nonlocal before
        bonus = 0.0 if before is None else delta * green[before]
        before = choose(logits + bonus)
        return before

    nothing = torch.zeros(n, 0, dtype=torch.int64)
    return generate(gpt, nothing, None, gpt.T if length is None else length, marked)


def count_green(x: Tensor, green: Tensor, once: bool = True) -> tuple[int, int]:
    """Return how many pairs of neighbours in a text are green, and how many there are.

    Args:
        x: tokens (T,).
        green: the secret (K, K).
        once: whether a pair that occurs again is left out. A text that repeats a pair
            repeats its colour, and that is no new evidence.
    """
    x = validate.codes(x, len(green), (), least=2)
    pairs = torch.stack([x[:-1], x[1:]], 1)
    pairs = pairs.unique(dim=0) if once else pairs
    return int(green[pairs[:, 0], pairs[:, 1]].sum()), len(pairs)


def z_score(hits: int, n: int, share: float = 0.5) -> float:
    """Return (hits - share n) / sqrt(share (1 - share) n), equation (7)."""
    _check_hits(hits, n, share)
    return (hits - share * n) / math.sqrt(share * (1 - share) * n)


def binomial_tail(hits: int, n: int, share: float) -> float:
    """Return the probability that n independent pairs have `hits` green ones or more."""
    _check_hits(hits, n, share)
    k = torch.arange(hits, n + 1, dtype=torch.float64)
    ways = math.lgamma(n + 1) - torch.lgamma(k + 1) - torch.lgamma(n - k + 1)
    log_p = ways + k * math.log(share) + (n - k) * math.log1p(-share)
    return min(1.0, log_p.logsumexp(0).exp().item())


def sign_key(key: int, D: int) -> Tensor:
    """Draw D secret signs, +1 or -1: (D,)."""
    g = torch.Generator().manual_seed(key)
    return 2.0 * torch.randint(2, (validate.count(D, "D", 1),), generator=g) - 1


def sign_hits(z: Tensor, signs: Tensor) -> Tensor:
    """Return how many signs of each latent agree with the key: (B, D), (D,) -> (B,)."""
    z = validate.points(z, len(signs), name="z")
    return ((z > 0) == (signs > 0)).sum(1)


def _check_share(share: float) -> None:
    if not 0 < share < 1:
        raise ValueError(f"share is {share}: expected a number between 0 and 1")


def _check_hits(hits: int, n: int, share: float) -> None:
    _check_share(share)
    validate.at_least(1, n=n)
    if not 0 <= validate.count(hits, "hits") <= n:
        raise ValueError(f"hits is {hits}: expected at most n = {n}")
