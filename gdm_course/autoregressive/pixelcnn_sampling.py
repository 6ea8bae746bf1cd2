"""Sampling in raster order: every feature of every pixel is computed once, when it can be.

A masked convolution is a sum over rows above, which are finished and are convolved for a
whole row at a time, and a sum over a few pixels to the left, one small matrix product.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class LeftWindow:
    """The part of a convolution that looks along the row being drawn.

    Args:
        weight: taps (out, in, T); the last one is the present pixel.
        n, W: number of images, and of pixels in a row.
        dilation: distance of the taps.
    """

    def __init__(self, weight: Tensor, n: int, W: int, dilation: int = 1):
        self.weight = weight.permute(2, 1, 0).flatten(0, 1).contiguous()  # (T in, out)
        self.step, self.back = dilation, dilation * (weight.shape[2] - 1)
        self.row = weight.new_zeros(n, self.back + W, weight.shape[1])

    def finished(self) -> Tensor:
        """Return all inputs of the row (n, in, W)."""
        return self.row[:, self.back :].mT

    def start_row(self, terms: Tensor) -> None:
        """Begin a row with what comes from elsewhere: (n, out, W)."""
        self.terms = terms.permute(2, 0, 1).contiguous()

    def put(self, h: Tensor, j: int) -> None:
        """Take in the input (n, in) of pixel j."""
        self.row[:, j + self.back] = h

    def at(self, j: int) -> Tensor:
        """Return the output (n, out) at pixel j."""
        window = self.row[:, j : j + self.back + 1 : self.step].flatten(1)  # (n, T in)
        return torch.addmm(self.terms[j], window, self.weight)

    def __call__(self, h: Tensor, j: int) -> Tensor:
        """Take in the input (n, in) of pixel j and return its output (n, out)."""
        self.put(h, j)
        return self.at(j)


class FinishedRows:
    """The part of a convolution that looks at finished rows, a whole row at a time.

    Args:
        weight, bias: (out, in, R, k) for R rows, and (out,).
        n, W: number of images, and of pixels in a row.
        dilation: distance of the taps.
    """

    def __init__(self, weight: Tensor, bias: Tensor, n: int, W: int, dilation: int = 1):
        self.weight, self.bias, self.dilation = weight, bias, dilation
        self.side = dilation * (weight.shape[3] // 2)
        reach = dilation * (weight.shape[2] - 1) + 1
        self.rows = weight.new_zeros(n, weight.shape[1], reach, W + 2 * self.side)

    def push(self, row: Tensor) -> None:
        """Append a finished row (n, in, W) at the bottom; the oldest is forgotten."""
        self.rows = self.rows.roll(-1, dims=2)
        self.rows[:, :, -1, self.side : self.rows.shape[3] - self.side] = row

    def __call__(self) -> Tensor:
        """Return what the rows contribute to a new one: (n, out, W)."""
        return F.conv2d(self.rows, self.weight, self.bias, dilation=self.dilation)[:, :, 0]


class CachedConv(LeftWindow):
    """A masked convolution of odd size, row by row and pixel by pixel."""

    def __init__(self, conv: nn.Module, n: int, W: int):
        weight, r = conv.masked_weight(), conv.kernel_size[0] // 2
        super().__init__(weight[:, :, r, : r + 1], n, W)
        self.above = FinishedRows(weight[:, :, :r], conv.bias, n, W)

    def start_row(self) -> None:
        """Move on to the next row (before the first, there is nothing but zeros)."""
        self.above.push(self.finished())
        super().start_row(self.above())


def matrix(conv: nn.Module) -> tuple[Tensor, Tensor]:
    """Return the weight (out, in) and bias of a masked 1x1 convolution."""
    return conv.masked_weight()[:, :, 0, 0].contiguous(), conv.bias


class PixelHead:
    """The output head at one pixel: (n, F) -> (n, C, P)."""

    def __init__(self, head: nn.Sequential, C: int):
        self.hidden, self.out, self.C = matrix(head[1]), matrix(head[3]), C

    def __call__(self, h: Tensor) -> Tensor:
        """Return the parameters of every colour."""
        h = F.linear(h.relu(), *self.hidden).relu_()
        return F.linear(h, *self.out).unflatten(1, (self.C, -1))


class PixelRows:
    """The forward pass of a `PixelCNN`, one pixel at a time."""

    def __init__(self, model: nn.Module, n: int):
        C, _, W = model.shape
        self.first = CachedConv(model.first, n, W)
        self.blocks = [
            (matrix(block.squeeze), CachedConv(block.look, n, W), matrix(block.widen))
            for block in model.blocks
        ]
        self.head = PixelHead(model.head, C)
        self.put = self.first.put

    def take(self, x: Tensor, j: int) -> None:
        """Take in a pixel (n, C) that need not be drawn."""
        self.put(x, j)
        self.at(j)  # later rows look at the features

    def start_row(self) -> None:
        """Move on to the next row."""
        for conv in (self.first, *(look for _, look, _ in self.blocks)):
            conv.start_row()

    def at(self, j: int) -> Tensor:
        """Return the parameters of pixel j: (n, C, P)."""
        h = self.first.at(j)
        for squeeze, look, widen in self.blocks:
            inside = look(F.linear(h.relu(), *squeeze).relu_(), j).relu_()
            h = F.linear(inside, *widen).add_(h)  # in place: thousands of tiny tensors
        return self.head(h)


class GatedRow:
    """One gated layer: its vertical stack row by row, its horizontal pixel by pixel."""

    def __init__(self, layer: nn.Module, n: int, W: int, label: Tensor | float):
        self.layer, self.label, d = layer, label, layer.dilation
        self.down = FinishedRows(layer.down.weight, layer.down.bias, n, W, d)
        self.right = LeftWindow(layer.right.masked_weight()[:, :, 0], n, W, d)
        self.merge = matrix(layer.merge)

    def start_row(self, v: Tensor, gate: Callable) -> Tensor:
        """Compute the vertical stack of a new row: (n, F, 1, W) -> (n, F, 1, W)."""
        self.down.push(v[:, :, 0])
        v_gates = self.down()[:, :, None] + self.label
        across = self.layer.across(v_gates) + self.layer.right.bias[:, None, None]
        self.right.start_row(across[:, :, 0])
        return v + gate(v_gates)


class GatedRows:
    """The forward pass of a `GatedPixelCNN`, one pixel at a time."""

    def __init__(self, model: nn.Module, n: int, y: Tensor | None, gate: Callable):
        C, _, W = model.shape
        self.above = FinishedRows(model.above.weight, model.above.bias, n, W)
        self.left = LeftWindow(model.left.masked_weight()[:, :, 0], n, W)
        self.left.start_row(model.left.bias[:, None].expand(n, -1, W))
        self.layers = [GatedRow(layer, n, W, layer.label_of(y)) for layer in model.layers]
        self.head, self.gate = PixelHead(model.head, C), gate
        self.put = self.take = self.left.put  # later rows look at the stack of v only

    def start_row(self) -> None:
        """Move on to the next row: the whole vertical stack of it."""
        self.above.push(self.left.finished())
        v = self.above()[:, :, None]
        for layer in self.layers:
            v = layer.start_row(v, self.gate)

    def at(self, j: int) -> Tensor:
        """Return the parameters of pixel j: (n, C, P)."""
        h = self.left.at(j)
        for layer in self.layers:
            h = F.linear(self.gate(layer.right(h, j)), *layer.merge).add_(h)
        return self.head(h)


def fill_raster(model: nn.Module, rows: PixelRows | GatedRows, given: Tensor) -> Tensor:
    """Draw images in raster order, the colours of a pixel one after the other.

    Args:
        model: has `shape` and `K`; its `distribution` reads parameters (n, P).
        rows: the cache of its network.
        given: codes (n, C, R, W) of the first R rows, which are kept.

    Returns:
        Codes (n, C, H, W), int64.
    """
    C, H, W = model.shape
    x = F.pad(given.to(rows.head.out[1]), (0, 0, 0, H - given.shape[2]))
    seen = x * (2 / (model.K - 1)) - 1  # what the network sees of the codes
    for i in range(H):
        rows.start_row()
        for j in range(W):
            if i < given.shape[2]:
                rows.take(seen[:, :, i, j], j)
            for c in range(C if i >= given.shape[2] else 0):
                x[:, c, i, j] = model.distribution(rows.at(j)[:, c]).sample()
                seen[:, c, i, j] = x[:, c, i, j] * (2 / (model.K - 1)) - 1
                rows.put(seen[:, :, i, j], j)
    return x.long()
