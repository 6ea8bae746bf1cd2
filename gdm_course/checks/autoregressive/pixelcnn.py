"""Questions of the unit autoregressive/pixelcnn."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.distributions import Categorical

from gdm_course.autoregressive import gated_pixelcnn, pixelcnn
from gdm_course.autoregressive.logistics import DiscretisedLogistics
from gdm_course.checks import complete_image as painting
from gdm_course.checks.question import Inputs, Mistake, Question, close

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


def _mask_inputs(more_in: int, more_out: int, size: int) -> Inputs:
    """Three colours in any order, and some features of any colour."""

    def draw(g: torch.Generator) -> tuple[Tensor, Tensor, int]:
        features = torch.randint(3, (more_in + more_out,), generator=g)
        first, last = torch.randperm(3, generator=g), torch.randperm(3, generator=g)
        inputs = torch.cat([first, features[:more_in]])
        return inputs, torch.cat([features[more_in:], last]), size

    return draw


def _grey_inputs(g: torch.Generator) -> tuple[Tensor, Tensor, int]:
    return torch.zeros(1, dtype=torch.long), torch.zeros(2, dtype=torch.long), 3


raster_masks = close(
    "raster_masks",
    _masks,
    {
        "": _mask_inputs(0, 4, 5),
        "grey images, a window of 3": _grey_inputs,
        "a window of 7": _mask_inputs(3, 1, 7),
    },
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


def _field_inputs(first: int, size: int, layers: int, side: int) -> Inputs:
    one = torch.zeros(1, dtype=torch.long)
    A = pixelcnn.raster_mask(one, one, first, False)[0, 0].float()
    B = pixelcnn.raster_mask(one, one, size, True)[0, 0].float()
    return lambda g: (A, B, layers, side)


def _any_masks(g: torch.Generator) -> tuple[Tensor, Tensor, int, int]:
    A, B = (torch.rand(2, 7, 7, generator=g) < 0.4).float()
    A, B = A[2:5, 2:5].clone(), B[1:6, 1:6].clone()
    A[0, 2] = B[0, 1] = 1  # neither is empty, nor its own mirror image
    A[2, 0] = B[4, 3] = 0
    return A, B, 2, 11


receptive_field = close(
    "receptive_field",
    _field,
    {
        "": _field_inputs(5, 3, 2, 13),
        "no layer B": _field_inputs(3, 3, 0, 9),
        "4 layers in a small picture": _field_inputs(7, 3, 4, 7),
        "masks of any pattern": _any_masks,
    },
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


def _every_second(a: Tensor) -> Tensor:
    return torch.tanh(a[:, ::2]) * torch.sigmoid(a[:, 1::2])


def _gate_inputs(B: int, C: int) -> Inputs:
    def inputs(g: torch.Generator) -> tuple[Tensor, ...]:
        sizes = (B, C), (B, 2 * C), (B, 2 * C), (2 * C, 2 * C), (C, C)
        return tuple(torch.randn(size, generator=g) for size in sizes)

    return inputs


gated_step = close(
    "gated_step",
    _gated,
    {"": _gate_inputs(5, 4), "one pixel with 3 features": _gate_inputs(1, 3)},
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
        Mistake(
            lambda h, r, d, A, Q: h + _every_second(r + d @ A.T) @ Q.T,
            "a and b are the first and the second half, not every second channel",
        ),
    ],
)


# 4. The probability of a bin --------------------------------------------------------------


def _bin(v: Tensor, mu: Tensor, log_s: Tensor, r: float) -> Tensor:
    K = round(1 / r) + 1
    parameters = torch.stack([torch.zeros_like(mu), mu, log_s], dim=-1)
    codes = ((v + 1) / (2 * r)).round().long()
    return DiscretisedLogistics(parameters, K).log_prob(codes)


def _plain(v, mu, log_s, r, eps=0.0):
    up, low = ((v + t - mu) / log_s.exp() for t in (r, -r))
    return torch.log(torch.sigmoid(up) - torch.sigmoid(low) + eps)


def _one_minus_exp(v: Tensor, mu: Tensor, log_s: Tensor, r: float) -> Tensor:
    up, low = ((v + t - mu) / log_s.exp() for t in (r, -r))
    return F.logsigmoid(up) + F.logsigmoid(-low) + (1 - torch.exp(low - up)).log()


def _bins(n: int, K: int, log_s: float, away: bool = False) -> Inputs:
    """Inner bins of K values; `away` from the mean by 0.9 at least."""

    def draw(g: torch.Generator) -> tuple[Tensor, Tensor, Tensor, float]:
        x = torch.randint(1, K - 1, (n,), generator=g)
        v = (2 * x.double() / (K - 1) - 1).float()
        mu = torch.rand(n, generator=g) * 2 - 1
        mu = torch.where(v < 0, 0.9, -0.9) if away else mu
        return v, mu, log_s + torch.rand(n, generator=g), 1 / (K - 1)

    return draw


logistic_bin = close(
    "logistic_bin",
    _bin,
    {
        "": _bins(12, 256, -3.0),
        "wide bins": _bins(12, 17, -2.0),
        "bins hundreds of scales away from the mean": _bins(6, 256, -6.5, away=True),
        "bins far narrower than the scale": _bins(12, 65_536, 2.0),
    },
    [
        Mistake(
            _plain,
            "right near the mean, but far away both sigmoids round to the same number and "
            "the logarithm of 0 is left: use (7)",
        ),
        Mistake(
            _one_minus_exp,
            "right for wide bins; where the bin is narrow against s, 1 - exp(-x) keeps few "
            "digits: use torch.expm1",
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


class SmallModel:
    """A model of images of a few bits, each a logistic regression on the bits before it.

    Args:
        weights: of bit d on bit k, strictly lower triangular, (H W, H W).
        H, W: rows and columns.
    """

    def __init__(self, weights: Tensor, H: int, W: int):
        self.weights, self.shape = weights, (1, H, W)

    def conditionals(self, x: Tensor) -> Categorical:
        """Return all conditionals in one pass: codes (n, 1, H, W) -> the same shape."""
        z = (x.flatten(1).float() - 0.5) @ self.weights.T
        logits = torch.stack([torch.zeros_like(z), z], dim=-1).unflatten(1, self.shape)
        return Categorical(logits=logits, validate_args=False)

    def log_prob(self, x: Tensor) -> Tensor:
        """Return log p(x) in nats: (n, 1, H, W) -> (n,)."""
        return self.conditionals(x).log_prob(x).flatten(1).sum(1)


complete_image = Question(
    "complete_image",
    painting.complete,
    painting.asks,
    painting.judge,
    painting.mistakes,
    kind="statistical",
)


# 6. Labels --------------------------------------------------------------------------------


def _posterior(log_p: Tensor) -> tuple[Tensor, Tensor]:
    return log_p.softmax(1), log_p.logsumexp(1) - math.log(log_p.shape[1])


def _log_p(Y: int, *levels: float) -> Inputs:
    level = torch.tensor(levels)[:, None]
    return lambda g: (torch.randn(len(levels), Y, generator=g) * 2 + level,)


def _naive(log_p: Tensor) -> tuple[Tensor, Tensor]:
    p = log_p.exp()
    return p / p.sum(1, keepdim=True), p.mean(1).log()


label_posterior = close(
    "label_posterior",
    _posterior,
    {
        "": _log_p(4, *[-30.0] * 6),
        "log-densities down to -1,000": _log_p(10, -1000, -300, -90, -500),
    },
    [
        Mistake(
            _naive,
            "exp(-300) underflows to 0, and 0 / 0 is no number: softmax and logsumexp",
        ),
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
        Mistake(
            lambda log_p: (log_p.log_softmax(1), _posterior(log_p)[1]),
            "the first value is log p(y | x); asked for is p(y | x), rows of sum 1",
        ),
    ],
)
