"""Questions of the unit autoregressive/pixelcnn."""

import itertools
import math

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.distributions import Categorical

from gdm_course.autoregressive import gated_pixelcnn, pixelcnn
from gdm_course.autoregressive.logistics import DiscretisedLogistics
from gdm_course.checks.draws import generator
from gdm_course.checks.question import Arrays, Ask, Make, Mistake, Question, close

# 1. The masks A and B ---------------------------------------------------------------------


def _masks(inputs: Tensor, outputs: Tensor, size: int) -> tuple[Tensor, Tensor]:
    pair = (pixelcnn.raster_mask(inputs, outputs, size, own) for own in (False, True))
    return tuple(mask.float() for mask in pair)


def _with_middle(a: Tensor, b: Tensor, masks: tuple[Tensor, Tensor]):
    for mask, middle in zip(masks, (a, b)):
        r = mask.shape[-1] // 2
        mask[:, :, r, r] = middle.float()
    return masks


def _grey_only(inputs, outputs, size):
    ones = torch.ones(len(outputs), len(inputs))
    return _with_middle(0 * ones, ones, _masks(inputs, outputs, size))


def _wrong_way(inputs, outputs, size):
    a, b = outputs[:, None] < inputs, outputs[:, None] <= inputs
    return _with_middle(a, b, _masks(inputs, outputs, size))


def _left_everywhere(inputs, outputs, size):
    masks = _masks(inputs, outputs, size)
    for mask in masks:
        mask[:, :, : size // 2, size // 2 :] = 0
    return masks


def _whole_row(inputs, outputs, size):
    masks = _masks(inputs, outputs, size)
    for mask in masks:
        mask[:, :, size // 2, size // 2 + 1 :] = 1
    return masks


def _mask_inputs(g: torch.Generator) -> tuple[Tensor, Tensor, int]:
    colours = torch.randperm(3, generator=g)
    features = torch.randint(3, (4,), generator=g)
    return (
        colours,
        torch.cat([features, colours]),
        int(torch.randint(1, 4, (), generator=g)) * 2 + 1,
    )


raster_masks = close(
    "raster_masks",
    _masks,
    _mask_inputs,
    [
        Mistake(
            lambda i, o, size: _masks(i, o, size)[::-1],
            "A and B are exchanged: A is the stricter one and comes first",
        ),
        Mistake(
            _grey_only,
            "right for grey images only: in the middle the colours decide, groups of "
            "outputs > (A) or >= (B) groups of inputs",
        ),
        Mistake(
            _wrong_way, "in the middle, the comparison of colours is the wrong way round"
        ),
        Mistake(
            _left_everywhere,
            "of the rows above you kept the left half only; all of them is past",
        ),
        Mistake(
            _whole_row, "pixels right of the middle, in its row, have not been read yet"
        ),
    ],
)


# 2. The receptive field -------------------------------------------------------------------


def _field(A: Tensor, B: Tensor, layers: int, side: int) -> Tensor:
    seen = torch.zeros(1, 1, side, side)
    seen[..., side // 2, side // 2] = 1
    for mask in [B] * layers + [A]:
        kernel = mask[None, None].float()
        seen = (F.conv_transpose2d(seen, kernel, padding=mask.shape[0] // 2) > 0).float()
    return seen[0, 0]


def _mirrored(A, B, layers, side):
    return _field(A, B, layers, side).flip(0, 1)


def _sums(A, B, layers, side):
    seen = torch.zeros(1, 1, side, side)
    seen[..., side // 2, side // 2] = 1
    for mask in [B] * layers + [A]:
        kernel = mask[None, None].float()
        seen = F.conv_transpose2d(seen, kernel, padding=mask.shape[0] // 2)
    return seen[0, 0]


def _field_inputs(g: torch.Generator) -> tuple[Tensor, Tensor, int, int]:
    one, first = torch.zeros(1, dtype=torch.long), int(torch.randint(1, 3, (), generator=g))
    A = pixelcnn.raster_mask(one, one, 2 * first + 1, False)[0, 0].float()
    B = pixelcnn.raster_mask(one, one, 3, True)[0, 0].float()
    return A, B, int(torch.randint(1, 4, (), generator=g)), 13


receptive_field = close(
    "receptive_field",
    _field,
    _field_inputs,
    [
        Mistake(
            _mirrored,
            "mirrored: this shows whom the pixel influences, not who influences it; spread "
            "with conv_transpose2d",
        ),
        Mistake(
            _sums, "these are numbers of paths; asked for is 1 where there is any, else 0"
        ),
        Mistake(
            lambda A, B, layers, side: _field(A, B, layers - 1, side),
            "one layer B is missing: there are `layers` of them after the one A",
        ),
        Mistake(
            lambda A, B, layers, side: _field(B, B, layers, side),
            "the first layer has the mask A: the pixel must not see itself",
        ),
    ],
)


# 3. One gated step ------------------------------------------------------------------------


def _gated(h: Tensor, right: Tensor, down: Tensor, A: Tensor, Q: Tensor) -> Tensor:
    return h + gated_pixelcnn.gate(right + down @ A.T) @ Q.T


def _swapped(a: Tensor) -> Tensor:
    valve, signal = a.chunk(2, dim=1)
    return torch.tanh(signal) * torch.sigmoid(valve)


def _gate_inputs(g: torch.Generator) -> tuple[Tensor, ...]:
    draw = lambda *shape: torch.randn(shape, generator=g)  # noqa: E731
    return draw(5, 4), draw(5, 8), draw(5, 8), draw(8, 8), draw(4, 4)


gated_step = close(
    "gated_step",
    _gated,
    _gate_inputs,
    [
        Mistake(
            lambda h, r, d, A, Q: _gated(0 * h, r, d, A, Q),
            "h itself is missing: the layer adds to it",
        ),
        Mistake(
            lambda h, r, d, A, Q: h + _swapped(r + d @ A.T) @ Q.T,
            "the halves are exchanged: tanh of the first, sigmoid of the second",
        ),
        Mistake(
            lambda h, r, d, A, Q: _gated(h, r, 0 * d, A, Q),
            "the vertical stack does not arrive: add A d before the gate",
        ),
        Mistake(
            lambda h, r, d, A, Q: (
                h + (gated_pixelcnn.gate(r) + gated_pixelcnn.gate(d @ A.T)) @ Q.T
            ),
            "one gate for the sum of both, not a gate for each",
        ),
        Mistake(
            lambda h, r, d, A, Q: h + gated_pixelcnn.gate(r + d @ A) @ Q,
            "transposed: a matrix (out, in) acts on rows as x @ A.T",
        ),
    ],
)


# 4. The probability of a bin --------------------------------------------------------------


def _bin(v: Tensor, mu: Tensor, log_s: Tensor, r: float) -> Tensor:
    K = round(1 / r) + 1
    parameters = torch.stack([torch.zeros_like(mu), mu, log_s], dim=-1)
    return DiscretisedLogistics(parameters, K).log_prob((v + 1) / (2 * r))


def _plain(v, mu, log_s, r, eps=0.0):
    up, low = ((v + t - mu) / log_s.exp() for t in (r, -r))
    return torch.log(torch.sigmoid(up) - torch.sigmoid(low) + eps)


def _bin_inputs(g: torch.Generator) -> tuple[Tensor, Tensor, Tensor, float]:
    """Inner bins of 256 values, some of them far from the mean of a narrow logistic."""
    x = torch.randint(1, 255, (12,), generator=g).double()
    mu = torch.rand(12, generator=g).double() * 2 - 1
    v = 2 * x / 255 - 1
    mu[:3] = -v[:3].sign() * 0.9
    log_s = torch.rand(12, generator=g).double() * 2 - 3
    log_s[:3] = -6.0
    return v, mu, log_s, 1 / 255


logistic_bin = close(
    "logistic_bin",
    _bin,
    _bin_inputs,
    [
        Mistake(
            _plain,
            "right near the mean, but far away both sigmoids round to the same number and "
            "the logarithm of 0 is left: use (7)",
        ),
        Mistake(
            lambda v, mu, s, r: _plain(v, mu, s, r, 1e-12),
            "the epsilon is what you return far from the mean: use the exact form (7)",
        ),
        Mistake(
            lambda v, mu, s, r: _bin(v, mu, -s, r),
            "divide by s = exp(log_s), that is, multiply by exp(-log_s)",
        ),
        Mistake(
            lambda v, mu, s, r: (
                _bin(v, mu, s, r) - torch.log(-torch.expm1(-2 * r * (-s).exp()))
            ),
            "the last term of (7) is missing, the width of the bin",
        ),
        Mistake(
            lambda v, mu, s, r: _bin(v, mu, s, r).exp(),
            "this is the probability; asked for is its logarithm, in nats",
        ),
    ],
)


# 5. In-painting ---------------------------------------------------------------------------

SHAPE = (1, 2, 3)


class SmallModel:
    """A model of images of 2x3 bits, each a logistic regression on the bits before it."""

    shape = SHAPE

    def __init__(self, seed: int):
        g = torch.Generator().manual_seed(seed)
        self.W = 4 * torch.randn(6, 6, generator=g).tril(-1)  # large: the past decides

    def conditionals(self, x: Tensor) -> Categorical:
        """Return all conditionals in one pass: codes (n, 1, 2, 3) -> the same shape."""
        z = (x.flatten(1).float() - 0.5) @ self.W.T
        logits = torch.stack([torch.zeros_like(z), z], dim=-1).unflatten(1, SHAPE)
        return Categorical(logits=logits, validate_args=False)

    def log_prob(self, x: Tensor) -> Tensor:
        """Return log p(x) in nats: (n, 1, 2, 3) -> (n,)."""
        return self.conditionals(x).log_prob(x).flatten(1).sum(1)


def _complete(model: SmallModel, upper: Tensor, pick=Categorical.sample) -> Tensor:
    n, C, H, W = len(upper), *model.shape
    x = torch.zeros(n, C, H, W, dtype=torch.long)
    x[:, :, : upper.shape[2]] = upper
    for i, j in itertools.product(range(upper.shape[2], H), range(W)):
        x[:, 0, i, j] = pick(model.conditionals(x))[:, 0, i, j]
    return x


def _at_once(model, upper):
    x = torch.zeros(len(upper), *model.shape, dtype=torch.long)
    x[:, :, : upper.shape[2]] = upper
    drawn = model.conditionals(x).sample()
    drawn[:, :, : upper.shape[2]] = upper
    return drawn


def _from_nothing(model, upper):
    x = _complete(model, upper[:, :, :0])
    x[:, :, : upper.shape[2]] = upper
    return x


def _painting_asks(seed: int) -> list[Ask]:
    g = generator(seed)
    asks = []
    small = "gdm_course.checks.autoregressive.pixelcnn.SmallModel"
    for i in range(4):
        upper = torch.randint(2, (1, 1, 1, 3), generator=g).expand(1000, -1, -1, -1)
        model = Make(small, (int(torch.randint(2**31, (), generator=g)),))
        asks.append(Ask(args=(model, upper.contiguous()), seed=seed + i))
    return asks


def _judge_painting(asks: list[Ask], answers: list[Arrays]) -> str | None:
    below = torch.tensor(list(itertools.product([0, 1], repeat=3))).view(-1, 1, 1, 3)
    for ask, answer in zip(asks, answers):
        model, upper = ask.args[0].resolve(), ask.args[1]
        n = len(upper)
        if len(answer) != 1 or answer[0].shape != (n, *SHAPE):
            return f"expected one tensor of shape {(n, *SHAPE)}"
        x = answer[0].double()
        if not ((x == 0) | (x == 1)).all():
            return "the images hold codes: every entry must be 0 or 1"
        if not (x[:, :, :1] == upper).all():
            return "the given rows must come back unchanged"
        p = (
            model.log_prob(torch.cat([upper[:8], below], dim=2))
            .softmax(0)
            .detach()
            .double()
        )
        codes = (x[:, 0, 1] @ torch.tensor([4.0, 2.0, 1.0]).double()).long()
        frequency = codes.bincount(minlength=8).double() / n
        if ((frequency - p).abs() > 6 * (p * (1 - p) / n).sqrt() + 12 / n).any():
            return "the 8 lower rows do not come as often as p(lower | upper) says"
    return None


complete_image = Question(
    "complete_image",
    _complete,
    _painting_asks,
    _judge_painting,
    [
        Mistake(
            _at_once, "drawn all at once: each pixel must see the ones drawn before it"
        ),
        Mistake(
            _from_nothing, "the lower rows were drawn without looking at the given ones"
        ),
        Mistake(
            lambda model, upper: _complete(model, upper, lambda d: d.logits.argmax(-1)),
            "you took the likeliest value each time; draw it: .sample()",
        ),
    ],
    kind="statistical",
)


# 6. Labels --------------------------------------------------------------------------------


def _posterior(log_p: Tensor) -> tuple[Tensor, Tensor]:
    return log_p.softmax(1), log_p.logsumexp(1) - math.log(log_p.shape[1])


label_posterior = close(
    "label_posterior",
    _posterior,
    lambda g: (torch.randn(6, 4, generator=g) * 2 - 300,),
    [
        Mistake(
            lambda log_p: (log_p.softmax(0), _posterior(log_p)[1]),
            "the posterior sums to 1 over the labels y, not over the images",
        ),
        Mistake(
            lambda log_p: (_posterior(log_p)[0], log_p.logsumexp(1)),
            "p(x) is the mean over the labels: - log of their number is missing",
        ),
        Mistake(
            lambda log_p: (_posterior(log_p)[0], log_p.mean(1)),
            "the mean of the logs is only a lower bound (Jensen): average the densities",
        ),
    ],
)
