"""Questions of the unit gan/cyclegan. A translator is a matrix here: x goes to x G."""

from collections.abc import Callable

import torch
from torch import Tensor

from gdm_course.checks.question import Inputs, Mistake, close


def _normal(g: torch.Generator, *shape: int) -> Tensor:
    return torch.randn(shape, generator=g)


def _apart(a: Tensor, b: Tensor) -> Tensor:
    return (a - b).abs().mean()


def _prices(pairs: Callable) -> list[Mistake]:
    """Other prices of the same pairs of ends and starts."""
    of = lambda each: lambda *given: sum(each(a - b) for a, b in pairs(*given))  # noqa: E731
    return [
        Mistake(
            of(lambda d: d.square().mean()),
            "the price is the absolute difference, not its square",
        ),
        Mistake(
            of(lambda d: d.abs().sum()),
            "means are asked for, so that the price does not depend on the batch",
        ),
        Mistake(
            of(lambda d: d.abs().sum(1).mean()),
            "the mean runs over all numbers, over the D of a row, too",
        ),
        Mistake(
            of(lambda d: d.norm(dim=1).mean()),
            "of each number the absolute value, not of each row the length",
        ),
        Mistake(
            lambda *given: torch.cat([a - b for a, b in pairs(*given)]).abs().mean(),
            "two means are added: one mean over both domains is another number",
        ),
    ]


# 1. There and back ------------------------------------------------------------------------


def _cycle(x: Tensor, y: Tensor, G: Tensor, F: Tensor) -> Tensor:
    return _apart(x @ G @ F, x) + _apart(y @ F @ G, y)


def _rows(n: int, m: int, D: int) -> Inputs:
    """Points of two domains, and two matrices that nearly undo each other."""

    def draw(g: torch.Generator) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        G = torch.eye(D) + 0.5 * _normal(g, D, D)
        F = torch.eye(D) + 0.5 * _normal(g, D, D)
        return _normal(g, n, D), 1 + 2 * _normal(g, m, D), G, F

    return draw


cycle_loss = close(
    "cycle_loss",
    _cycle,
    {"": _rows(5, 5, 3), "unequal rows": _rows(7, 4, 2), "one row": _rows(1, 3, 4)},
    [
        Mistake(
            lambda x, y, G, F: _apart(x @ G @ F, x),
            "only the way A to B and back: points of B make the round trip, too",
        ),
        Mistake(
            lambda x, y, G, F: _apart(x @ F @ G, x) + _apart(y @ G @ F, y),
            "the translators are exchanged: x is a point of A, so G carries it first",
        ),
        *_prices(lambda x, y, G, F: ((x @ G @ F, x), (y @ F @ G, y))),
    ],
)


# 2. What is there already -----------------------------------------------------------------


def _identity(x: Tensor, y: Tensor, G: Tensor, F: Tensor) -> Tensor:
    return _apart(y @ G, y) + _apart(x @ F, x)


identity_loss = close(
    "identity_loss",
    _identity,
    {"": _rows(5, 5, 3), "unequal rows": _rows(4, 6, 2), "one row": _rows(1, 3, 4)},
    [
        Mistake(
            lambda x, y, G, F: _apart(x @ G, x) + _apart(y @ F, y),
            "this forbids to translate: G is to leave alone what is in B already, y",
        ),
        Mistake(
            lambda x, y, G, F: _apart(y @ G, y),
            "F has a domain in which it is to do nothing, too: A",
        ),
        Mistake(
            lambda x, y, G, F: _apart(y @ G, y) + _apart(x @ G, x),
            "x is in A already, and what leads to A is F",
        ),
        *_prices(lambda x, y, G, F: ((y @ G, y), (x @ F, x))),
    ],
)


# 3. How much a logit sees -----------------------------------------------------------------


def _walk(size: int, layers: Tensor) -> tuple[int, int]:
    field, jump = 1, 1
    for kernel, stride, padding in layers.tolist():
        size = (size + 2 * padding - kernel) // stride + 1
        field, jump = field + (kernel - 1) * jump, jump * stride
    return size, field


def _no_jump(size: int, layers: Tensor) -> tuple[int, int]:
    return _walk(size, layers)[0], 1 + sum(k - 1 for k, _, _ in layers.tolist())


def _own_stride(size: int, layers: Tensor) -> tuple[int, int]:
    field, jump = 1, 1
    for kernel, stride, _ in layers.tolist():
        jump *= stride
        field += (kernel - 1) * jump
    return _walk(size, layers)[0], field


def _whole_kernel(size: int, layers: Tensor) -> tuple[int, int]:
    field, jump = 1, 1
    for kernel, stride, _ in layers.tolist():
        field, jump = field + kernel * jump, jump * stride
    return _walk(size, layers)[0], field


def _one_side(size: int, layers: Tensor) -> tuple[int, int]:
    field = _walk(size, layers)[1]
    for kernel, stride, padding in layers.tolist():
        size = (size + padding - kernel) // stride + 1
    return size, field


def _area(size: int, layers: Tensor) -> tuple[int, int]:
    side, field = _walk(size, layers)
    return side**2, field**2


def _clipped(size: int, layers: Tensor) -> tuple[int, int]:
    side, field = _walk(size, layers)
    return side, min(size, field)


def _small(g: torch.Generator) -> tuple[int, Tensor]:
    """A picture of 16 to 21 pixels, and a critic whose logits see 22 or more."""
    pick = lambda low, high: int(torch.randint(low, high, (), generator=g))  # noqa: E731
    return pick(16, 22), torch.tensor([(4, 2, 1), (4, 2, 1), (pick(4, 6), 2, 1)])


def _critics(depth: int, first: tuple[int, int, int] = (4, 2, 1)) -> Inputs:
    """A critic's convolutions: the first halves, others as it comes."""

    def draw(g: torch.Generator) -> tuple[int, Tensor]:
        pick = lambda low, high: int(torch.randint(low, high, (), generator=g))  # noqa: E731
        rest = [(pick(2, 5), pick(1, 3), pick(1, 3)) for _ in range(depth)]
        return pick(40, 80), torch.tensor([first, *rest])

    return draw


patches = close(
    "patches",
    _walk,
    {
        "": _critics(2),
        "one layer more": _critics(3),
        "stride 3": _critics(1, (5, 3, 2)),
        "a small picture": _small,
    },
    [
        Mistake(
            _no_jump,
            "after a stride of 2 neighbours are 2 pixels apart: a later kernel reaches as "
            "many times further",
        ),
        Mistake(
            _own_stride,
            "a layer's own stride counts only for those that come after it",
        ),
        Mistake(
            _whole_kernel,
            "of a kernel of k one pixel was there already: k - 1 are new",
        ),
        Mistake(_one_side, "the padding stands on both sides of a picture"),
        Mistake(_area, "sides are asked for: so many patches, so many pixels, in a row"),
        Mistake(_clipped, "what a logit sees is counted as if there were no border"),
        Mistake(
            lambda size, layers: _walk(size, layers.flip(0)),
            "the layers come in their order: the first row is next to the picture",
        ),
    ],
    n=8,
)


# 4. Another pair of translators -----------------------------------------------------------


def _other(G: Tensor, F: Tensor, S: Tensor) -> tuple[Tensor, Tensor]:
    return G @ S, torch.linalg.inv(S) @ F


def _maps(D: int) -> Inputs:
    """Two translators, and a map of B: neither of them turns only."""

    def draw(g: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        G, F, S = (torch.eye(D) + 0.3 * _normal(g, D, D) / D**0.5 for _ in range(3))
        return G, F, S.roll(1, 0) + 0.0

    return draw


other_pair = close(
    "other_pair",
    _other,
    {"": _maps(2), "three dimensions": _maps(3), "five dimensions": _maps(5)},
    [
        Mistake(
            lambda G, F, S: (G @ S, F),
            "F has to undo S first, else a round trip ends elsewhere",
        ),
        Mistake(
            lambda G, F, S: (G @ S, S @ F),
            "the way back undoes S: its inverse, not S once more",
        ),
        Mistake(
            lambda G, F, S: (G @ S, S.T @ F),
            "S.T is the inverse of a rotation or a mirror; this S also stretches",
        ),
        Mistake(
            lambda G, F, S: (S @ G, F @ torch.linalg.inv(S)),
            "S acts in B, after G and before F: a row goes x G S, and y S^-1 F",
        ),
        Mistake(
            lambda G, F, S: (G @ S, F @ torch.linalg.inv(S)),
            "the row y goes through what stands left first: S^-1, and then F",
        ),
        Mistake(
            lambda G, F, S: (G @ S, torch.linalg.inv(G @ S)),
            "round trips are to end where they did before; F need not be the inverse of G",
        ),
    ],
)


# 5. A pool of old fakes -------------------------------------------------------------------


def _pooled(pool: Tensor, fakes: Tensor, swap: Tensor, place: Tensor):
    pool, shown = pool.clone(), fakes.clone()
    for i in range(len(fakes)):
        if swap[i]:
            shown[i], pool[place[i]] = pool[place[i]].clone(), fakes[i]
    return shown, pool


def _at_once(pool: Tensor, fakes: Tensor, swap: Tensor, place: Tensor):
    new, shown = pool.clone(), fakes.clone()
    shown[swap] = pool[place[swap]]
    for i in swap.nonzero().flatten():
        new[place[i]] = fakes[i]
    return shown, new


def _kept(pool: Tensor, fakes: Tensor, swap: Tensor, place: Tensor):
    return _pooled(pool, fakes, swap, place)[0], pool


def _fresh(pool: Tensor, fakes: Tensor, swap: Tensor, place: Tensor):
    return fakes, _pooled(pool, fakes, swap, place)[1]


def _queue(B: int, P: int, D: int) -> Inputs:
    def draw(g: torch.Generator) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        place = torch.randint(P, (B,), generator=g)
        place[-1] = place[0]  # one place is asked for twice
        swap = torch.rand(B, generator=g) < 0.5
        swap[0], swap[-1], swap[1] = True, True, False
        return _normal(g, P, D), _normal(g, B, D), swap, place

    return draw


from_pool = close(
    "from_pool",
    _pooled,
    {"": _queue(6, 5, 3), "a small pool": _queue(8, 2, 2), "a large pool": _queue(4, 9, 4)},
    [
        Mistake(
            _at_once,
            "one place was asked for twice: the later row gets what the earlier one left "
            "there; go row by row",
        ),
        Mistake(_kept, "what is taken out of the pool is replaced by the new fake"),
        Mistake(_fresh, "where swap is true, the critic is shown the old fake"),
        Mistake(
            lambda pool, fakes, swap, place: _pooled(pool, fakes, ~swap, place),
            "swap is taken the other way round: where it is false, the new fake is shown",
        ),
        Mistake(
            lambda pool, fakes, swap, place: _pooled(
                pool, fakes, swap, len(pool) - 1 - place
            ),
            "places count from the start of the pool",
        ),
    ],
)


# 6. Whether meaning was kept --------------------------------------------------------------


def _means(right: Tensor, of: Tensor, classes) -> tuple[Tensor, Tensor]:
    return right.mean(), torch.stack([right[of == k].mean() for k in classes]).mean()


def _shares(logits: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    return _means((logits.argmax(1) == y).double(), y, y.unique())


def _precision(logits: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    said = logits.argmax(1)
    return _means((said == y).double(), said, said.unique())


def _all_classes(logits: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    total, fair = _shares(logits, y)
    return total, fair * len(y.unique()) / logits.shape[1]


def _translated(N: int, K: int, absent: int = 0) -> Inputs:
    """A classifier's logits that are often right; few examples of the first class."""

    def draw(g: torch.Generator) -> tuple[Tensor, Tensor]:
        y = torch.randint(1 + absent, K, (N,), generator=g)  # the gap is in the middle
        y[:2] = 0
        logits = _normal(g, N, K)
        logits[torch.arange(2, N), y[2:]] += 1.5
        logits[0, 0], logits[1, 1] = 9.0, 9.0  # one of the two rare ones is wrong
        return logits, y

    return draw


labels_kept = close(
    "labels_kept",
    _shares,
    {
        "": _translated(30, 4),
        "many classes": _translated(60, 10),
        "some classes have no example": _translated(25, 7, 3),
    },
    [
        Mistake(
            lambda logits, y: (_shares(logits, y)[0],) * 2,
            "the second number is a mean of the classes' shares: a rare class counts as "
            "much as a frequent one",
        ),
        Mistake(
            _precision,
            "the rows of a class are those whose own label it is, not those that the "
            "classifier takes for it",
        ),
        Mistake(
            _all_classes,
            "a class without an example has no share: leave it out, it is not 0",
        ),
        Mistake(
            lambda logits, y: _means(
                (logits.argmax(1) == y).double(), y, range(int(y.max()) + 1)
            ),
            "0 / 0 is no number: leave out a class that has no example",
        ),
        Mistake(
            lambda logits, y: tuple(1 - s for s in _shares(logits, y)),
            "these are the labels that were lost",
        ),
        Mistake(
            lambda logits, y: (
                logits.softmax(1).gather(1, y[:, None]).mean(),
                _shares(logits, y)[1],
            ),
            "count: a label is kept or it is not, however sure the classifier is",
        ),
    ],
)
