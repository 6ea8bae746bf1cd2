"""TarFlow: MAF of patches as a model of pictures, with labels or without.

References:
    Zhai, Zhang, Nakkiran, Berthelot, Gu, Zheng, Chen, Bautista, Jaitly, Susskind (2024).
        Normalizing flows are capable generative models. arXiv:2412.06329.
"""

import math
from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from gdm_course import validate
from gdm_course.autoregressive.decoding import some_labels
from gdm_course.flows.dequantisation import Dequantised, noise_like
from gdm_course.flows.flow import Flow
from gdm_course.flows.patches import PatchConditioner, PatchLayer, patch_sizes


def through(maps: Iterable[Callable], x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Send x through maps (x, y) -> (x, log_det), one by one; log-determinants add up."""
    log_det = x.new_zeros(len(x))
    for step in maps:
        x, part = step(x, y)
        log_det = log_det + part
    return x, log_det


class LabelledFlow(Flow):
    """A flow that can be told a label y: p(x | y), and p(x) as the mean over all labels.

    `classes` is the number of labels; with 0 there are none, and y is None. A subclass has
    `forward(x, y)` and `inverse(z, y)`.
    """

    classes = 0

    def labels(self, y: Tensor | None, B: int) -> Tensor:
        """Return labels (B,) to look up: y, or zeros if there are no classes."""
        y = validate.labels(y, self.classes, B)
        return self.mean.new_zeros(B, dtype=torch.int64) if y is None else y

    def log_prob_each(self, x: Tensor) -> Tensor:
        """Return log p(x | y) in nats for every label y: (B, *D) -> (B, classes)."""
        x = validate.points(x, self.mean.shape, self.mean)
        labels = torch.arange(self.classes, device=x.device)[:, None].expand(-1, len(x))
        return torch.stack([self.log_prob(x, y) for y in labels], dim=1)

    def log_prob(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """Return log p(x | y), or without y the log of the mean over all labels: (B,)."""
        if y is None and self.classes:
            return self.log_prob_each(x).logsumexp(1) - math.log(self.classes)
        z, log_det = self(x, y)
        return self.base.log_prob(z) + log_det

    def loss(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """Return the mean of -log p(x | y) in nats, for x with its labels: -> ()."""
        x = validate.points(x, self.mean.shape, self.mean)
        validate.labels(y, self.classes, len(x))
        return -self.log_prob(x, y).mean()

    @torch.no_grad()
    def sample(self, n: int, *, y: Tensor | None = None) -> Tensor:
        """Draw n pictures of labels y (n,); without y, all labels are as likely."""
        y = some_labels(y, self.classes, validate.count(n), self.mean.device)
        return self.inverse(self.base.sample((n,)), y)[0]


class TarFlow(LabelledFlow):
    """MAF of patches: pictures (B, C, H, W) to noise of the same shape, and back.

    One exact likelihood, log p(x | y), for two uses: to draw (`sample`), and to classify by
    Bayes' rule (`log_prob_each(x).argmax(1)`, if all labels are as frequent).

    Args:
        shape: of one picture, (C, H, W); patch: side of a square patch, divides H and W.
        layers: how many `PatchLayer`; the order of the patches turns round after each.
        width, depth, heads: of every transformer; classes: how many labels, 0 for none.

    References:
        Zhai and others (2024). Normalizing flows are capable generative models.
            arXiv:2412.06329.
    """

    def __init__(self, shape, *, patch=2, layers=4, width=64, depth=2, heads=4, classes=0):
        T, D = patch_sizes(shape, patch)
        validate.at_least(1, layers=layers, width=width, depth=depth, heads=heads)
        validate.count(classes, "classes")
        sizes = {"width": width, "depth": depth, "heads": heads, "classes": classes}
        nets = (PatchConditioner(T, D, **sizes) for _ in range(layers))
        maps = [PatchLayer(net, patch, backwards=k % 2 > 0) for k, net in enumerate(nets)]
        super().__init__(maps, shape)
        self.classes = classes

    def forward(self, x: Tensor, y: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Map data to noise: x (B, C, H, W) -> z, same shape, and log |det dz/dx| (B,)."""
        x = validate.points(x, self.mean.shape, self.mean)
        return through(self.layers, x, self.labels(y, len(x)))

    def inverse(self, z: Tensor, y: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Map noise to data: z (B, C, H, W) -> x, same shape, and log |det dx/dz| (B,)."""
        z = validate.points(z, self.mean.shape, self.mean, name="z", least=0)
        back = [layer.inverse for layer in reversed(self.layers)]
        return through(back, z, self.labels(y, len(z)))


class Equalise(nn.Module):
    """F(x) in [0, 1], piecewise linear: a value of a code gets as much room as it is used.

    The slope in the cell of value k is K p_k. A new layer has p_k = 1 / K: the identity.
    Where most pixels are black, one cell of 256 becomes most of the line.

    Args:
        K: number of values.
    """

    def __init__(self, K: int):
        super().__init__()
        validate.at_least(2, K=K)
        self.register_buffer("p", torch.full((K,), 1 / K))

    @torch.no_grad()
    def fit(self, x: Tensor) -> None:
        """Take the shares of the values in codes x, of any shape, and 5 percent of even."""
        K = len(self.p)
        counts = torch.bincount(validate.codes(x, K).flatten(), minlength=K).to(self.p)
        self.p.copy_(0.95 * counts / counts.sum() + 0.05 / K)

    def shares(self) -> tuple[Tensor, Tensor]:
        """Return p, which a file may have rounded, and F where each cell begins: (K,)."""
        p = self.p / self.p.sum()
        return p, p.cumsum(0) - p

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Stretch: x (B, *D) in [0, 1] -> F(x), and log |dF/dx| (B,)."""
        (p, ends), K = self.shares(), len(self.p)
        k = (x * K).long().clamp(0, K - 1)
        stretched = ends[k] + p[k] * (x * K - k)
        return stretched.clamp_max(1), (K * p[k]).log().flatten(1).sum(1)

    def inverse(self, v: Tensor) -> tuple[Tensor, Tensor]:
        """Undo it: v (B, *D) in [0, 1] -> x, and log |dx/dv| (B,)."""
        (p, ends), K = self.shares(), len(self.p)
        k = torch.searchsorted(ends, v.contiguous(), right=True).clamp(1, K) - 1
        return (k + (v - ends[k]) / p[k]) / K, -(K * p[k]).log().flatten(1).sum(1)


class DequantisedTarFlow(Dequantised):
    """`TarFlow` for images of codes 0..K-1, with uniform noise, and labels if there are.

    Args:
        shape, patch, layers, width, depth, classes: of `TarFlow`, with its heads.
        K, alpha: as in `Dequantised`; before its Logit come the `cells`, an `Equalise`.
    """

    def __init__(
        self, shape, K, *, alpha=0.05, patch=2, layers=4, width=64, depth=2, classes=0
    ):
        sizes = {"patch": patch, "layers": layers, "depth": depth, "classes": classes}
        super().__init__(TarFlow(shape, width=width, **sizes), K, alpha=alpha)
        self.cells = Equalise(K)

    def real(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Draw what the flow sees of codes (B, C, H, W): z, and log |dz/du| (B,)."""
        x = validate.codes(x, self.K, self.flow.mean.shape).to(validate.dtype_of(self.flow))
        v, stretched = self.cells((x + noise_like(x)) / self.K)
        z, log_det = self.logit(v)
        return z, log_det + stretched - x[0].numel() * math.log(self.K)

    def elbo(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """Return a bound of log P(x | y), or of log P(x), in nats with one draw: (B,)."""
        z, log_det = self.real(x)
        return self.flow.log_prob(z, y) + log_det

    def loss(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """Return the mean of -elbo in nats: codes (B, C, H, W), labels (B,) -> ()."""
        x = validate.codes(x, self.K, self.flow.mean.shape)
        validate.labels(y, self.flow.classes, len(x))
        return -self.elbo(x, y).mean()

    def sample(self, n: int, *, y: Tensor | None = None) -> Tensor:
        """Draw codes (n, C, H, W) of labels y (n,); what falls outside goes to the ends."""
        v = self.logit.inverse(self.flow.sample(n, y=y))[0].clamp(0, 1)
        return (self.cells.inverse(v)[0] * self.K).floor().clamp(0, self.K - 1).long()
