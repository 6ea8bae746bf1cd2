"""Masked diffusion: tokens are hidden one by one, and a network guesses what is hidden.

Numbered equations are those of the lecture diffusion/masked.

References:
    Uria, Murray, Larochelle (2014). A deep and tractable density estimator.
        arXiv:1310.1757.
    Austin, Johnson, Ho, Tarlow, van den Berg (2021). Structured denoising diffusion models
        in discrete state-spaces. arXiv:2107.03006.
    Sahoo et al. (2024). Simple and effective masked diffusion language models.
        arXiv:2406.07524.
    Shi, Han, Wang, Doucet, Titsias (2024). Simplified and generalized masked diffusion for
        discrete data. arXiv:2406.04329.
"""

import math
from itertools import permutations

import torch
from torch import Tensor, nn
from torch.distributions import Categorical

from gdm_course import validate
from gdm_course.diffusion.ddpm import spread_steps
from gdm_course.learning import evaluating
from gdm_course.nets import precise


def mask_tokens(x: Tensor, t: Tensor, K: int) -> Tensor:
    """Hide every token with probability t, each by a coin of its own: equation (1).

    Args:
        x: codes 0..K-1, (B, T).
        t: share that is hidden, from 0 to 1, one for every row (B,).
        K: how many codes there are; K itself stands for hidden.
    """
    hidden = torch.rand(x.shape, device=x.device) < t[:, None]
    return torch.where(hidden, K, x)


def hide(x: Tensor, m: Tensor, K: int) -> Tensor:
    """Hide exactly m tokens of every row, any m of them alike: what (4) asks for.

    Args:
        x: codes 0..K-1, (B, T).
        m: how many to hide, one number for every row (B,).
        K: the code that stands for hidden.
    """
    place = torch.rand(x.shape, device=x.device).argsort(1).argsort(1)  # a random order
    return torch.where(place < m[:, None], K, x)


class Guesser(nn.Module):
    """T tokens with K values, and a network that guesses those that are hidden.

    Args:
        net: from codes 0..K, of which K is hidden, (B, T), to logits (B, T, K).
        T: number of tokens.
        K: number of values of a token.
    """

    def __init__(self, net: nn.Module, T: int, K: int):
        super().__init__()
        validate.at_least(1, T=T, K=K)
        self.net, self.T, self.K = net, T, K

    def guesses(self, x_t: Tensor) -> Categorical:
        """Return p(x_i | what is visible in x_t) for every i: batch shape (B, T)."""
        return Categorical(logits=precise(self.net(x_t)), validate_args=False)

    def surprise(self, x: Tensor, x_t: Tensor) -> Tensor:
        """Return -log p of every hidden token, 0 for visible ones, in nats: (B, T)."""
        nll = -self.guesses(x_t).log_prob(x)
        return torch.where(x_t == self.K, nll, 0.0)


class MaskedDiffusion(Guesser):
    """Absorbing diffusion: guess what is hidden. Arguments as of `Guesser`."""

    def elbo(self, x: Tensor) -> Tensor:
        """Return a draw's estimate of the bound (4) on log p in nats: (B, T) -> (B,)."""
        x = validate.codes(x, self.K, self.T)
        m = spread_steps(len(x), 1, self.T, x.device)  # each number 1..T alike
        nll = self.surprise(x, hide(x, m, self.K)).sum(1)
        return -self.T / m * nll

    def loss(self, x: Tensor) -> Tensor:
        """Return the mean of -elbo(x) per token, in nats: ()."""
        return -self.elbo(x).mean() / self.T

    def sample(self, n: int, steps: int | None = None) -> Tensor:
        """Draw n times T tokens, all hidden at first: codes (n, T)."""
        x = torch.zeros(validate.count(n), self.T, dtype=torch.int64, device=place(self))
        return fill(self, x, torch.ones_like(x, dtype=torch.bool), steps)


def opening_steps(hidden: Tensor, steps: int | None = None) -> Tensor:
    """Say in which step, 0, 1, ..., every hidden token opens: (B, T) -> (B, T).

    In `steps` equal steps each token has a step of its own, all alike, so that some open
    together. None stands for steps without end: one token after the other, in any order.
    """
    if steps is not None:
        return torch.randint(steps, hidden.shape, device=hidden.device)
    key = torch.rand(hidden.shape, device=hidden.device)
    return key.masked_fill(~hidden, 2.0).argsort(1).argsort(1)  # what is visible comes last


@torch.no_grad()
def fill(model: Guesser, x: Tensor, hidden: Tensor, steps: int | None = None) -> Tensor:
    """Draw what is hidden, given what is not; what opens in one step, independently.

    Args:
        model: guesses.
        x: codes (B, T); what stands under `hidden` is not looked at.
        hidden: True where a token is to be drawn (B, T).
        steps: see `opening_steps`.
    """
    check_fill(x, hidden, steps)
    x = torch.where(hidden, model.K, validate.codes(x, model.K, model.T, least=0))
    when = opening_steps(hidden, steps)
    with evaluating(model):
        for step in when[hidden].unique():
            now = hidden & (when == step)
            rows = now.any(1)  # nobody else has to be asked
            guess = model.guesses(x[rows]).sample()
            x[rows] = torch.where(now[rows], guess, x[rows])
    return x


def check_fill(x: Tensor, hidden: Tensor, steps: int | None) -> None:
    """Refuse a mask that is not true or false for every token, and 0 steps."""
    if steps is not None:
        validate.count(steps, "steps", 1)
    validate.shaped(x, "T", least=0)
    validate.shaped(hidden, "T", "hidden", least=0)
    if hidden.dtype != torch.bool or hidden.shape != x.shape:
        raise ValueError(
            f"hidden is {hidden.dtype} of shape {tuple(hidden.shape)}: expected true or "
            f"false for every token of x, {tuple(x.shape)}; give hidden.bool()"
        )


def place(model: nn.Module) -> torch.device | None:
    """Return where a model lives; a table has no parameters, but buffers."""
    return next((t.device for t in model.state_dict().values()), None)


@torch.no_grad()
def chain(model: Guesser, x: Tensor, order: Tensor) -> Tensor:
    """Return log p(x) in nats if the tokens open in that order, by the chain rule: (B,).

    Args:
        model: asked T times, each with one token more visible.
        x: codes (B, T).
        order: which token opens first, second, ...: a permutation of 0..T-1, (T,).
    """
    x = validate.codes(x, model.K, model.T)
    x_t, log_p = torch.full_like(x, model.K), 0.0
    for i in order.tolist():
        log_p = log_p + model.guesses(x_t).log_prob(x)[:, i]
        x_t[:, i] = x[:, i]
    return log_p


def all_chains(model: Guesser, x: Tensor) -> Tensor:
    """Return `chain` for every one of the T! orders, for very few tokens: (T!, B)."""
    if model.T > 5:
        raise ValueError(f"{model.T} tokens have {math.factorial(model.T):.0e} orders: few")
    orders = torch.tensor([*permutations(range(model.T))])
    with evaluating(model):
        return torch.stack([chain(model, x, order) for order in orders])


def few_step_law(p: Tensor, steps: int) -> Tensor:
    """Return the law of two tokens drawn in so many steps by exact guesses: equation (6).

    Both open in the same step with probability 1 / steps, and then they are independent.

    Args:
        p: their joint law (K, K).
        steps: 1 or more.
    """
    apart = p.sum(1, keepdim=True) * p.sum(0)
    return apart / steps + (1 - 1 / steps) * p
