"""The U-Net: what it says of a pixel depends on the whole picture, and keeps every edge.

References:
    Ronneberger, Fischer, Brox (2015). U-Net: convolutional networks for biomedical image
        segmentation. arXiv:1505.04597.
    Ho, Jain, Abbeel (2020). Denoising diffusion probabilistic models. arXiv:2006.11239.
"""

from collections.abc import Sequence
from functools import partial
from itertools import pairwise

import torch
from torch import Tensor, nn

from gdm_course import validate
from gdm_course.diffusion.ddpm import BoundDDPM
from gdm_course.diffusion.decoders import LevelDecoder
from gdm_course.diffusion.denoiser import Waves, with_null
from gdm_course.diffusion.schedule import log_snr_schedule
from gdm_course.nets import Attention, Down, Residual, Up, mlp, norm, zero_last


class Knows(nn.Module):
    """What every block is told: how much noise there is, and the label if there is one.

    Args:
        E: numbers in the answer.
        classes: number of labels; one more stands for none.
    """

    def __init__(self, E: int, classes: int):
        super().__init__()
        self.waves, self.net, self.classes = Waves(16), mlp((32, E, E)), classes
        self.label = nn.Embedding(classes + 1, E) if classes else None

    def forward(self, log_snr: Tensor, y: Tensor | None) -> Tensor:
        """Return log_snr (B,) and labels (B,) as (B, E)."""
        e = self.net(self.waves(log_snr))
        if self.label is None:
            return e
        return e + self.label(with_null(y, self.classes, e))


class Stage(nn.Module):
    """Residual blocks one after another, all told e: C_in -> C_out channels."""

    def __init__(
        self, C_in: int, C_out: int, E: int, blocks: int = 1, dropout: float = 0.0
    ):
        super().__init__()
        sizes = pairwise([C_in, *[C_out] * blocks])
        self.blocks = nn.ModuleList(Residual(i, o, E, dropout) for i, o in sizes)

    def forward(self, h: Tensor, e: Tensor) -> Tensor:
        """Return (B, C_out, H, W) of h (B, C_in, H, W) and e (B, E)."""
        for block in self.blocks:
            h = block(h, e)
        return h


class Hourglass(nn.Module):
    """Down to a coarse picture and up again, with a skip across at every size.

    Args:
        width, E: channels of h, and numbers in e.
        mult: at the k-th size there are width * mult[k] channels.
        blocks, dropout: residual blocks at every size, each way, and dropout in them.
        attention: whether the coarsest picture attends to itself.
        skips: False cuts the skips, to see what they are for.
    """

    def __init__(
        self, width, E, *, mult=(1, 2), blocks=1, dropout=0.0, attention=True, skips=True
    ):
        super().__init__()
        W, self.skips = [width * m for m in mult], skips
        stage = partial(Stage, E=E, blocks=blocks, dropout=dropout)
        self.down = nn.ModuleList(stage(i, o) for i, o in pairwise([width, *W]))
        self.shrink = nn.ModuleList(Down(w) for w in W[:-1])
        self.before, self.after = (
            stage(W[-1], W[-1], blocks=1),
            stage(W[-1], W[-1], blocks=1),
        )
        self.look = Attention(W[-1]) if attention else nn.Identity()
        self.grow = nn.ModuleList(Up(w) for w in W[:0:-1])
        ways = pairwise([W[-1], *W[::-1]])
        self.up = nn.ModuleList(stage(i + o * skips, o) for i, o in ways)

    def forward(self, h: Tensor, e: Tensor) -> Tensor:
        """Return (B, width * mult[0], H, W) of h (B, width, H, W) and e (B, E)."""
        kept = []
        for k, stage in enumerate(self.down):
            h = stage(self.shrink[k - 1](h) if k else h, e)
            kept.append(h)
        h = self.after(self.look(self.before(h, e)), e)
        for k, stage in enumerate(self.up):
            skip = kept.pop()
            h = self.grow[k - 1](h, skip.shape[2:]) if k else h
            h = stage(torch.cat([h, skip], 1) if self.skips else h, e)
        return h


class UNet(nn.Module):
    """What every pixel's answer is, from the whole picture: (x, log_snr, y) -> like x.

    Args:
        C: channels of the picture.
        width: channels at full size; log_snr and label become 4 * width numbers.
        classes: number of labels; label number `classes`, or none at all, says nothing.
        C_condition: channels of a picture that is given as a condition.
        body: more about the way down and up, see `Hourglass`: mult, attention, ...

    Hidden numbers beyond 1e19 have no square in float32: then the answer is nan.
    """

    def __init__(
        self, C: int, *, width: int = 32, classes: int = 0, C_condition: int = 0, **body
    ):
        super().__init__()
        validate.at_least(1, C=C, width=width)
        validate.at_least(0, classes=classes, C_condition=C_condition)
        self.C, self.C_condition = C, C_condition
        self.knows = Knows(4 * width, classes)
        self.first = nn.Conv2d(C + C_condition, width, 3, padding=1)
        self.body = Hourglass(width, 4 * width, **body)
        last = self.body.up[-1].blocks[-1].two[-1].out_channels
        self.last = nn.Sequential(norm(last), nn.SiLU(), nn.Conv2d(last, C, 3, padding=1))
        zero_last(self.last)

    @property
    def classes(self) -> int:
        """The number of labels, which is the label that stands for none."""
        return self.knows.classes

    def forward(self, x: Tensor, log_snr: Tensor, y=None, condition=None) -> Tensor:
        """Return (B, C, H, W); a condition (B, C_condition, H, W) is stacked on x."""
        x = validate.points(x, (self.C, "H", "W"), self.last, least=0)
        if self.C_condition:
            size = (self.C_condition, *x.shape[2:])
            given = validate.points(condition, size, self.last, name="condition", least=0)
            x = torch.cat([x, given], 1)
        return self.last(self.body(self.first(x), self.knows(log_snr.to(x), y)))


class ImageDDPM(BoundDDPM):
    """A diffusion of pictures of codes, with a U-Net, trained on the bound itself.

    Args:
        shape: of a picture (C, H, W).
        K: number of values of a pixel.
        T: number of steps, in which log_snr falls evenly from `high` to `low`.
        high: log_snr after the first step, so much that x_1 tells every level apart.
        low: log_snr at the end, so little that x_T is noise.
        drop: share of labels that training hides.
        net: more about the network, see `UNet`: width, classes, mult, ...
    """

    def __init__(
        self,
        shape: Sequence[int],
        K: int,
        *,
        T: int = 1000,
        high: float = 13.3,
        low: float = -5.0,
        drop: float = 0.0,
        **net,
    ):
        super().__init__(
            UNet(shape[0], **net),
            shape,
            schedule=log_snr_schedule(T, high, low),
            decoder=LevelDecoder(K),
            drop=drop,
        )
