"""Questions of the unit vae/vqvae."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from gdm_course.checks.draws import generator
from gdm_course.checks.question import (
    Arrays,
    Ask,
    Inputs,
    Mistake,
    Question,
    close,
    describe,
    remark,
)
from gdm_course.vae import fsq, quantise

# 1. The nearest code ----------------------------------------------------------------------


def _vectors_and_book(N: int, K: int, D: int) -> Inputs:
    """Codes of very different length, so that forgetting their squares shows.

    No vector is so near the border between two codes that rounding would decide.
    """

    def draw(g: torch.Generator) -> tuple[Tensor, Tensor]:
        length = torch.linspace(0.2, 3, K)[torch.randperm(K, generator=g)]
        book, z = length[:, None] * torch.randn(K, D, generator=g), torch.zeros(0, D)
        while len(z) < N:
            more = torch.randn(N, D, generator=g)
            first, second = torch.cdist(more, book).topk(2, largest=False).values.T
            z = torch.cat([z, more[second - first > 1e-3]])
        return z[:N], book

    return draw


nearest_code = close(
    "nearest_code",
    quantise.nearest,
    {"": _vectors_and_book(40, 7, 3), "four numbers, 5 codes": _vectors_and_book(12, 5, 4)},
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
        Mistake(
            lambda z, e: torch.cdist(z, e).argmin(1) + 1,
            "codes are counted from 0: 0..K-1",
        ),
        Mistake(
            lambda z, e: e[torch.cdist(z, e).argmin(1)],
            "these are the vectors of the codebook; asked for are their numbers",
        ),
    ],
)


# 2. Straight through ----------------------------------------------------------------------


def _two_alike(*shape: int) -> Inputs:
    return lambda g: tuple(torch.randn(2, *shape, generator=g).unbind())


straight_through = close(
    "straight_through",
    quantise.straight_through,
    {"": _two_alike(4, 3), "one vector": _two_alike(1, 5)},
    [
        Mistake(
            lambda z, q: q.clone(),
            "this is q, and z is not in it: add a term of value 0 whose slope in z is 1",
            exact=True,
        ),
        Mistake(
            lambda z, q: q.detach() + 0 * z,
            "the value is right, but there is no gradient at all: z needs one",
        ),
        Mistake(
            lambda z, q: z + (q - z),
            "the value is right, but no gradient reaches z: without detach both z cancel",
        ),
        Mistake(
            lambda z, q: q + (z - z.detach()),
            "the gradient reaches z, but q takes one, too: detach it",
        ),
        Mistake(
            lambda z, q: z + 0 * q,
            "the value has to be q: the decoder must not see z itself",
        ),
        Mistake(
            lambda z, q: q.detach() + 2 * (z - z.detach()),
            "the gradient is to be handed on as it is, once",
        ),
    ],
    n=2,
    slopes=[0, 1],
)


# 3. The loss of the paper -----------------------------------------------------------------


def _vq_loss(z: Tensor, e: Tensor, beta: float) -> Tensor:
    codebook, commitment = z.detach() - e, z - e.detach()
    return (codebook.square() + beta * commitment.square()).sum()


def _loss_inputs(N: int, D: int) -> Inputs:
    def draw(g: torch.Generator) -> tuple[Tensor, Tensor, float]:
        z, e = torch.randn(2, N, D, generator=g)
        return z, e, 0.1 + 0.5 * torch.rand((), generator=g).item()

    return draw


vq_loss = close(
    "vq_loss",
    _vq_loss,
    {"": _loss_inputs(5, 3), "one vector": _loss_inputs(1, 4)},
    [
        Mistake(
            lambda z, e, beta: (1 + beta) * (z - e).square().sum(),
            "the value is right, but without stop gradients both terms pull at z and at e",
        ),
        Mistake(
            lambda z, e, beta: (
                (z.detach() - e).square().sum() + beta * (z - e).square().sum()
            ),
            "the commitment pulls at the codes, too: sg[e] is e.detach()",
        ),
        Mistake(
            lambda z, e, beta: (
                (z - e).square().sum() + beta * (z - e.detach()).square().sum()
            ),
            "the first term pulls at the vectors, too: sg[z] is z.detach()",
        ),
        Mistake(
            lambda z, e, beta: (1 + beta) * (z - e.detach()).square().sum(),
            "the value is right, but the codes get no gradient: both terms pull at z",
        ),
        Mistake(
            lambda z, e, beta: _vq_loss(z, e, 1 / beta) * beta,
            "beta is at the wrong term, or the stop gradients are exchanged: it weighs the "
            "commitment, in which e stands still",
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
    n=2,
    slopes=[0, 1],
)


# 4. A step of the codebook ----------------------------------------------------------------


def _ema_step(
    book: Tensor, count: Tensor, z: Tensor, codes: Tensor, decay: float
) -> tuple[Tensor, Tensor]:
    book, count = book.clone(), count.clone()
    quantise.follow(book, count, z, codes, decay)
    return book, count


_ABOUT = ("", "the last code wins nothing", "the first code wins nothing")


def _step_asks(seed: int) -> list[Ask]:
    g, asks = generator(seed), []
    for K, N, D, first, last in ((3, 15, 4, 0, 3), (5, 12, 3, 0, 4), (6, 20, 2, 1, 6)):
        book, z = torch.randn(K, D, generator=g), torch.randn(N, D, generator=g)
        count = 1 + 4 * torch.rand(K, generator=g)
        more = torch.randint(first, last, (N - (last - first),), generator=g)
        codes = torch.cat([torch.arange(first, last), more])
        decay = 0.7 + 0.2 * torch.rand((), generator=g).item()
        asks.append(Ask(args=(book, count, z, codes, decay), seed=seed, kept=True))
    return asks


def _judge_step(asks: list[Ask], answers: list[Arrays]) -> str | None:
    """The result, and after it the four tensors of the arguments as they were left."""
    for i, (ask, answer) in enumerate(zip(asks, answers)):
        book, count, z, codes, decay = ask.args
        exact = _ema_step(book.double(), count.double(), z.double(), codes, decay)
        if wrong := describe(answer[:-4], exact, rtol=1e-4, atol=1e-5):
            return wrong + remark(_ABOUT, i)
        left = zip(answer[-4:], ask.args)
        if not all(torch.equal(a.double(), b.double()) for a, b in left):
            return "an argument was changed in place: work on a copy, x.clone()"
    return None


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


def _in_place(book, count, z, codes, decay):
    quantise.follow(book, count, z, codes, decay)
    return book, count


ema_step = Question(
    "ema_step",
    _ema_step,
    _step_asks,
    _judge_step,
    [
        Mistake(
            _in_place,
            "right, but codebook and count were changed in place: make new tensors",
        ),
        Mistake(
            _blend,
            "every code moves by the same 1 - decay; its own counts decide how far",
        ),
        Mistake(_old_count, "divide by the new count, after it took in this batch"),
        Mistake(_forgetful, "the old sum is m = N e, not e"),
        Mistake(_swapped, "decay is the weight of the past, 1 - decay that of the batch"),
    ],
    kind="property",
    about=_ABOUT,
)


# 5. Finite scalar quantisation ------------------------------------------------------------


def _fsq_code(z: Tensor, levels: Tensor) -> Tensor:
    return fsq.FiniteScalarQuantiser(levels.tolist())(z)[1]


def _digits(z: Tensor, levels: Tensor, cut: Callable = torch.round) -> Tensor:
    return torch.minimum(cut(fsq.squash(z, levels)).clamp_min(0), levels - 1)


def _coded(digits: Tensor, levels: Tensor) -> Tensor:
    place = torch.cat([levels.new_ones(1), levels[:-1].cumprod(0)])
    return (digits.long() * place).sum(-1)


def _numbers_and_levels(N: int, *levels: int) -> Inputs:
    """Numbers of which none is so near the border of a digit that rounding would decide."""
    L = torch.tensor(levels)

    def draw(g: torch.Generator) -> tuple[Tensor, Tensor]:
        z = torch.randn(N, len(levels), generator=g)
        u = fsq.squash(z, L)
        return torch.where((u - u.floor() - 0.5).abs() < 1e-3, 0.1, z), L

    return draw


def _far_out(g: torch.Generator) -> tuple[Tensor, Tensor]:
    z = torch.randn(20, 4, generator=g)
    return z + 10 * z.sign(), torch.tensor([4, 2, 6, 3])


fsq_code = close(
    "fsq_code",
    _fsq_code,
    {
        "": _numbers_and_levels(60, 3, 5, 4),
        "two digits": _numbers_and_levels(30, 8, 2),
        "numbers of size 10": _far_out,
    },
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
        Mistake(
            lambda z, L: _coded(fsq.squash(z, L).round(), L),
            "far out u rounds to L_d, which is no digit: clamp to 0..L_d - 1",
        ),
    ],
)


# 6. The bound in bits ---------------------------------------------------------------------


def _bound_bits(log_p: Tensor, log_prior: Tensor) -> Tensor:
    nats = -(log_p.flatten(1).sum(1) + log_prior.flatten(1).sum(1))
    return nats / (log_p[0].numel() * math.log(2))


def _log_terms(B: int, *sizes: int) -> Inputs:
    C, H, W, h, w = sizes
    return lambda g: (
        -4 * torch.rand(B, C, H, W, generator=g),
        -6 * torch.rand(B, h, w, generator=g),
    )


bound_bits = close(
    "bound_bits",
    _bound_bits,
    {"": _log_terms(5, 3, 4, 4, 2, 2), "one grey picture": _log_terms(1, 1, 6, 9, 3, 4)},
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
