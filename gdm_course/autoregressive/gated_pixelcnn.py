"""Gated PixelCNN: two stacks that together see the whole past, with labels if you like.

References:
    van den Oord, Kalchbrenner, Vinyals, Espeholt, Graves, Kavukcuoglu (2016).
        Conditional image generation with PixelCNN decoders. arXiv:1606.05328.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gdm_course import validate
from gdm_course.autoregressive.decoding import some_labels
from gdm_course.autoregressive.logistics import DiscretisedLogistics
from gdm_course.autoregressive.pixelcnn import (
    MaskedConv,
    RasterDensity,
    by_colour,
    channel_groups,
    colour_mask,
    output_head,
)
from gdm_course.autoregressive.pixelcnn_sampling import GatedRows

DILATIONS = (1, 2, 1, 4, 1, 2, 1)  # 2 and 4 widen the view at no cost


def gate(a: Tensor) -> Tensor:
    """Return tanh(first half) * sigmoid(second half) of the channels: (4)."""
    signal, valve = a.chunk(2, dim=1)
    return torch.tanh(signal) * torch.sigmoid(valve)


class RowConv(nn.Conv2d):
    """A masked convolution along the row: T taps, of which the last is the present pixel.

    Args:
        copies: the output is that many times `outputs` channels, each dealt to the colours
            in the same way (two for a gate).
    """

    def __init__(self, inputs, outputs, taps, C, *, own=True, dilation=1, copies=1):
        super().__init__(inputs, copies * outputs, (1, taps), dilation=(1, dilation))
        groups = channel_groups(inputs, C), channel_groups(outputs, C).repeat(copies)
        mask = torch.ones(*self.weight.shape, dtype=torch.bool)
        mask[:, :, 0, -1] = colour_mask(*groups, own)
        self.register_buffer("mask", mask, persistent=False)
        self.back = dilation * (taps - 1)

    masked_weight = MaskedConv.masked_weight

    def forward(self, x: Tensor) -> Tensor:
        """Convolve along rows, looking back only: (B, in, H, W) -> (B, out, H, W)."""
        x = F.pad(x, (self.back, 0))
        return F.conv2d(x, self.masked_weight(), self.bias, dilation=self.dilation)


class GatedLayer(nn.Module):
    """One layer of both stacks: v sees all rows above, h the row itself and v: (4), (5).

    Args:
        dilation: distance of the taps of the two 3-wide convolutions.
        classes: number of labels, or 0.
    """

    def __init__(self, features, C, dilation=1, classes=0, dropout=0.0):
        super().__init__()
        self.dilation, self.dropout = dilation, dropout
        self.down = nn.Conv2d(features, 2 * features, (2, 3), dilation=dilation)
        self.across = nn.Conv2d(2 * features, 2 * features, 1)
        self.right = RowConv(features, features, 2, C, dilation=dilation, copies=2)
        self.merge = MaskedConv(features, features, 1, C)
        some = validate.count(classes, "classes") > 0
        self.label = nn.Embedding(classes, 2 * features) if some else None

    def label_of(self, y: Tensor | None) -> Tensor | float:
        """Return what the labels add to the gates (B, 2 F, 1, 1), or 0 without labels."""
        return 0.0 if self.label is None else self.label(y)[:, :, None, None]

    def forward(self, v: Tensor, h: Tensor, y: Tensor | None) -> tuple[Tensor, Tensor]:
        """Carry both stacks on: two tensors (B, F, H, W) and labels (B,)."""
        d = self.dilation
        v_gates = self.down(F.pad(v, (d, d, d, 0))) + self.label_of(y)
        h_new = gate(self.right(h) + self.across(v_gates))
        h_new = F.dropout(h_new, self.dropout, self.training)
        return v + gate(v_gates), h + self.merge(h_new)


class LabelledDensity(RasterDensity):
    """Images that come with labels: p(x | y), and p(x) as the mean over all labels.

    `classes` is the number of labels; with 0 there are none, and y is None.
    """

    classes = 0

    def labels(self, n: int, y: Tensor | None) -> Tensor | None:
        """Return the labels y, or draw n of them if there are classes and y is None."""
        return some_labels(y, self.classes, n, next(self.parameters()).device)

    def log_prob_each(self, x: Tensor) -> Tensor:
        """Return log p(x | y) for every label y: (B, C, H, W) -> (B, classes)."""
        labels = torch.arange(self.classes, device=x.device)[:, None].expand(-1, len(x))
        return torch.stack([self.log_prob(x, y) for y in labels], dim=1)

    def log_prob(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """Return log p(x | y), or without y the log of the mean over all labels: (B,)."""
        if y is not None or not self.classes:
            return super().log_prob(x, y)
        return self.log_prob_each(x).logsumexp(1) - math.log(self.classes)

    def loss(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """Return the mean negative log-likelihood in nats per image, given its label."""
        return -super().log_prob(x, y).mean()


class GatedPixelCNN(LabelledDensity):
    """Two gated stacks: a vertical one for the rows above, a horizontal one for the row.

    Args:
        features: channels of each stack; dilations: one per layer; size: of the first
            convolution; classes: number of labels, or 0; dropout: of the gates' output.
    """

    def __init__(
        self,
        shape,
        K=256,
        *,
        features=64,
        dilations=DILATIONS,
        size=7,
        classes=0,
        dropout=0.0,
    ):
        super().__init__(shape, K)
        validate.at_least(1, features=features, dilations=dilations, size=size)
        C, r, self.classes = self.shape[0], size // 2, classes
        self.above = nn.Conv2d(C, features, (r, size), padding=(r, r))
        self.left = RowConv(C, features, r + 1, C, own=False)
        layers = [GatedLayer(features, C, d, classes, dropout) for d in dilations]
        self.layers = nn.ModuleList(layers)
        self.head = output_head(features, self.outputs, C)

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """Return the parameters of all conditionals: (B, C, H, W) -> (B, C, H, W, P)."""
        x = validate.points(x, self.shape, self)
        v = self.above(x)[:, :, : x.shape[2]]  # row i of v has seen the rows before i
        h, y = self.left(x), validate.labels(y, self.classes, len(x))
        for layer in self.layers:
            v, h = layer(v, h, y)
        return by_colour(self.head(h), self.shape[0])

    def rows(self, n: int, y: Tensor | None = None) -> GatedRows:
        """Return the cache of one pixel at a time; labels are drawn if none are given."""
        return GatedRows(self, n, self.labels(n, y), gate)


class LogisticPixelCNN(GatedPixelCNN):
    """A gated PixelCNN whose conditionals are mixtures of five discretised logistics.

    References:
        Salimans, Karpathy, Chen, Kingma (2017). PixelCNN++. arXiv:1701.05517.
    """

    components = 5

    @property
    def outputs(self) -> int:
        """Return the numbers per conditional: weight, mean and scale of each part."""
        return 3 * self.components

    def distribution(self, parameters: Tensor) -> DiscretisedLogistics:
        """Read (..., 3 M) numbers as a mixture, cut into K bins."""
        return DiscretisedLogistics(parameters, self.K)
