"""Networks that no lecture is about: imported by models, never quoted."""

from collections.abc import Callable, Sequence
from itertools import pairwise

from torch import Tensor, nn


def mlp(sizes: Sequence[int], activation: Callable[[], nn.Module] = nn.SiLU) -> nn.Module:
    """Build a perceptron: linear layers with an activation between them, none at the end.

    Args:
        sizes: features in, of every hidden layer, and out, such as (2, 64, 64, 4).
        activation: makes the module between two layers.

    Returns:
        A module (*B, sizes[0]) -> (*B, sizes[-1]).
    """
    layers: list[nn.Module] = []
    for i, o in pairwise(sizes):
        layers += [nn.Linear(i, o), activation()]
    return nn.Sequential(*layers[:-1])


def zero_last(net: nn.Module) -> nn.Module:
    """Set the last linear or convolution layer to 0, so that the net says 0 at first."""
    last = [m for m in net.modules() if isinstance(m, nn.Linear | nn.Conv2d)][-1]
    nn.init.zeros_(last.weight)
    if last.bias is not None:
        nn.init.zeros_(last.bias)
    return net


class ResidualConv(nn.Module):
    """x + conv(act(conv(act(x)))), both 3 x 3: (B, C, H, W) -> the same shape."""

    def __init__(self, C: int):
        super().__init__()
        self.first = nn.Conv2d(C, C, 3, padding=1)
        self.second = zero_last(nn.Conv2d(C, C, 3, padding=1))
        self.act = nn.SiLU()

    def forward(self, x: Tensor) -> Tensor:
        """Return x plus what the two convolutions make of it."""
        return x + self.second(self.act(self.first(self.act(x))))


def conv_net(C_in: int, C_out: int, *, hidden: int = 64, blocks: int = 2) -> nn.Module:
    """Build a residual convolutional network that keeps the size of the picture.

    Args:
        C_in, C_out: channels of input and output.
        hidden: channels between.
        blocks: number of `ResidualConv`.

    Returns:
        A module (B, C_in, H, W) -> (B, C_out, H, W).
    """
    body = [ResidualConv(hidden) for _ in range(blocks)]
    first, last = (
        nn.Conv2d(C_in, hidden, 3, padding=1),
        nn.Conv2d(hidden, C_out, 3, padding=1),
    )
    return nn.Sequential(first, *body, nn.SiLU(), last)
