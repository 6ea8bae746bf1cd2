"""Questions of the unit vae/vqvae."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from gdm_course.checks.draws import generator
from gdm_course.checks.question import Arrays, Ask, Mistake, Question, close, describe, run
from gdm_course.vae import fsq, quantise

Inputs = Callable[[torch.Generator], tuple]


def _with_gradient(
    name: str, reference: Callable, inputs: Inputs, mistakes: list[Mistake]
) -> Question:
    """Make a question about a value and about its derivative in the first argument."""

    def asks(seed: int) -> list[Ask]:
        g = generator(seed)
        args = inputs(g)
        return [Ask(args=args, seed=seed), Ask(args=args, seed=seed, jacobian=True)]

    def judge(asks: list[Ask], answers: list[Arrays]) -> str | None:
        for what, ask, answer in zip(("value", "derivative"), asks, answers):
            if wrong := describe(answer, run(ask, reference), rtol=1e-4, atol=1e-5):
                return f"the {what}: {wrong}"
        return None

    return Question(name, reference, asks, judge, mistakes, kind="property")


# 1. The nearest code ----------------------------------------------------------------------


def _vectors_and_book(g: torch.Generator) -> tuple[Tensor, Tensor]:
    """Codes of very different length, so that forgetting their squares shows."""
    length = torch.linspace(0.2, 3, 7)[torch.randperm(7, generator=g)]
    return torch.randn(40, 3, generator=g), length[:, None] * torch.randn(7, 3, generator=g)


nearest_code = close(
    "nearest_code",
    quantise.nearest,
    _vectors_and_book,
    [
        Mistake(
            lambda z, e: torch.cdist(z, e).argmax(1),
            "these are the farthest codes: the distance is to be small",
        ),
        Mistake(
            lambda z, e: (z @ e.T).argmax(1),
            "the largest product is not the smallest distance: |e_k|^2 belongs to it",
        ),
        Mistake(
            lambda z, e: (e.square().sum(1) - z @ e.T).argmin(1),
            "the product counts twice: |z - e|^2 = |z|^2 - 2 z.e + |e|^2",
        ),
        Mistake(
            lambda z, e: torch.cdist(z, e).argmin(0),
            "one answer per vector, not per code: the minimum runs over the codes",
        ),
        Mistake(
            lambda z, e: torch.cdist(z, e).amin(1),
            "these are the distances; asked for is which code it is",
        ),
    ],
)


# 2. Straight through ----------------------------------------------------------------------


straight_through = _with_gradient(
    "straight_through",
    quantise.straight_through,
    lambda g: (torch.randn(4, 3, generator=g), torch.randn(4, 3, generator=g)),
    [
        Mistake(
            lambda z, q: z + (q - z),
            "the value is right, but no gradient reaches z: without detach both z cancel",
        ),
        Mistake(
            lambda z, q: z + 0 * q,
            "the value has to be q: the decoder must not see z itself",
        ),
        Mistake(
            lambda z, q: q + 2 * (z - z.detach()),
            "the gradient is to be handed on as it is, once",
        ),
    ],
)


# 3. The loss of the paper -----------------------------------------------------------------


def _vq_loss(z: Tensor, e: Tensor, beta: float) -> Tensor:
    codebook, commitment = z.detach() - e, z - e.detach()
    return (codebook.square() + beta * commitment.square()).sum()


def _loss_inputs(g: torch.Generator) -> tuple[Tensor, Tensor, float]:
    beta = 0.1 + 0.5 * torch.rand((), generator=g).item()
    return torch.randn(5, 3, generator=g), torch.randn(5, 3, generator=g), beta


vq_loss = _with_gradient(
    "vq_loss",
    _vq_loss,
    _loss_inputs,
    [
        Mistake(
            lambda z, e, beta: (1 + beta) * (z - e).square().sum(),
            "the value is right, but without stop gradients both terms pull at z",
        ),
        Mistake(
            lambda z, e, beta: _vq_loss(z, e, 1 / beta) * beta,
            "beta weighs the commitment, the term in which the code stands still",
        ),
        Mistake(
            lambda z, e, beta: _vq_loss(z, e, beta) / z.numel(),
            "sum over the numbers of all vectors, do not average",
        ),
        Mistake(
            lambda z, e, beta: beta * (z - e.detach()).square().sum(),
            "only the commitment is here: the term that moves the codes is missing",
        ),
    ],
)


# 4. A step of the codebook ----------------------------------------------------------------


def _ema_step(
    book: Tensor, count: Tensor, z: Tensor, codes: Tensor, decay: float
) -> tuple[Tensor, Tensor]:
    book, count = book.clone(), count.clone()
    quantise.follow(book, count, z, codes, decay)
    return book, count


def _step_inputs(g: torch.Generator) -> tuple[Tensor, Tensor, Tensor, Tensor, float]:
    """Six codes, of which the last wins nothing."""
    book, z = torch.randn(6, 2, generator=g), torch.randn(20, 2, generator=g)
    count = 1 + 4 * torch.rand(6, generator=g)
    codes = torch.cat([torch.arange(5), torch.randint(5, (15,), generator=g)])
    return book, count, z, codes, 0.7 + 0.2 * torch.rand((), generator=g).item()


def _means(z: Tensor, codes: Tensor, K: int) -> tuple[Tensor, Tensor]:
    n, s = quantise.totals(z, codes, K)
    return n, s / n.clamp_min(1)[:, None]


def _blend(book, count, z, codes, decay):
    n, mean = _means(z, codes, len(book))
    moved = decay * book + (1 - decay) * mean
    return torch.where(n[:, None] > 0, moved, book), decay * count + (1 - decay) * n


def _old_count(book, count, z, codes, decay):
    n, s = quantise.totals(z, codes, len(book))
    moved = book + (1 - decay) / count[:, None] * (s - n[:, None] * book)
    return moved, decay * count + (1 - decay) * n


def _forgetful(book, count, z, codes, decay):
    n, s = quantise.totals(z, codes, len(book))
    new = decay * count + (1 - decay) * n
    return (decay * book + (1 - decay) * s) / new[:, None], new


def _swapped(book, count, z, codes, decay):
    return _ema_step(book, count, z, codes, 1 - decay)


ema_step = close(
    "ema_step",
    _ema_step,
    _step_inputs,
    [
        Mistake(
            _blend,
            "every code moves by the same 1 - decay; its own counts decide how far",
        ),
        Mistake(_old_count, "divide by the new count, after it took in this batch"),
        Mistake(_forgetful, "the old sum is m = N e, not e"),
        Mistake(_swapped, "decay is the weight of the past, 1 - decay that of the batch"),
    ],
)


# 5. Finite scalar quantisation ------------------------------------------------------------


def _fsq_code(z: Tensor, levels: Tensor) -> Tensor:
    return fsq.FiniteScalarQuantiser(levels.tolist())(z)[1]


def _digits(z: Tensor, levels: Tensor, cut: Callable = torch.round) -> Tensor:
    return torch.minimum(cut(fsq.squash(z, levels)).clamp_min(0), levels - 1)


def _coded(digits: Tensor, levels: Tensor) -> Tensor:
    place = torch.cat([levels.new_ones(1), levels[:-1].cumprod(0)])
    return (digits.long() * place).sum(-1)


def _numbers_and_levels(g: torch.Generator) -> tuple[Tensor, Tensor]:
    return torch.randn(60, 3, generator=g), torch.tensor([3, 5, 4])


fsq_code = close(
    "fsq_code",
    _fsq_code,
    _numbers_and_levels,
    [
        Mistake(
            lambda z, L: _coded(_digits(z.flip(-1), L.flip(-1)), L.flip(-1)),
            "the first digit is the smallest place: its weight is 1, the next one's L_1",
        ),
        Mistake(
            lambda z, L: _coded(_digits(z, L, torch.floor), L),
            "round to the nearest whole number; floor cuts everything down",
        ),
        Mistake(
            lambda z, L: _coded(torch.minimum(z.round().clamp_min(0), L - 1), L),
            "squash first: z itself may be anything, and half of it would be digit 0",
        ),
        Mistake(
            lambda z, L: _coded(_digits(z / 2, L), L),
            "the sigmoid is of 2 z",
        ),
        Mistake(
            lambda z, L: _digits(z, L).sum(-1),
            "adding digits gives one number to many codes: give each digit its place",
        ),
    ],
)


# 6. The bound in bits ---------------------------------------------------------------------


def _bound_bits(log_p: Tensor, log_prior: Tensor) -> Tensor:
    nats = -(log_p.flatten(1).sum(1) + log_prior.flatten(1).sum(1))
    return nats / (log_p[0].numel() * math.log(2))


def _log_terms(g: torch.Generator) -> tuple[Tensor, Tensor]:
    return -4 * torch.rand(5, 3, 4, 4, generator=g), -6 * torch.rand(5, 2, 2, generator=g)


bound_bits = close(
    "bound_bits",
    _bound_bits,
    _log_terms,
    [
        Mistake(
            lambda p, c: _bound_bits(p, 0 * c),
            "this is the distortion alone: the codes have to be paid for, too",
        ),
        Mistake(
            lambda p, c: -_bound_bits(p, c),
            "bits are what is spent, so the sign turns: -log p",
        ),
        Mistake(
            lambda p, c: _bound_bits(p, c) * math.log(2),
            "these are nats per dimension: one bit is log 2 nats",
        ),
        Mistake(
            lambda p, c: -(p.flatten(1).mean(1) + c.flatten(1).mean(1)) / math.log(2),
            "the rate is shared by the pixels, not by the codes: add up, then divide by D",
        ),
        Mistake(
            lambda p, c: _bound_bits(p, c) * p[0].numel() / (p[0].numel() + c[0].numel()),
            "D counts what is modelled, the pixels; codes are no data",
        ),
        Mistake(
            lambda p, c: _bound_bits(p, c) * p.shape[1],
            "every colour of a pixel is a dimension of its own",
        ),
    ],
)
