"""A convolutional energy of pictures, tilting a Gaussian that is fitted to them.

References:
    Du, Mordatch (2019). Implicit generation and modeling with energy-based models.
        arXiv:1903.08689.
    Nijkamp, Hill, Han, Zhu, Wu (2020). On the anatomy of MCMC-based maximum likelihood
        learning of energy-based models. arXiv:1903.12370.
"""

import math

import torch
from torch import Tensor, nn

from gdm_course import validate
from gdm_course.energy.langevin import PersistentEnergyModel
from gdm_course.energy.network import FittedBowl
from gdm_course.energy.sampling import noise_like
from gdm_course.nets import zero_last


def picture_net(side: int, channels: int) -> nn.Sequential:
    """Build a network (B, side^2) -> (B, 1): three convolutions, the last two halve."""
    C, end = channels, (side // 4) ** 2
    return nn.Sequential(
        nn.Unflatten(1, (1, side, side)),
        *(nn.Conv2d(1, C, 3, padding=1), nn.SiLU()),
        *(nn.Conv2d(C, 2 * C, 4, stride=2, padding=1), nn.SiLU()),
        *(nn.Conv2d(2 * C, 4 * C, 4, stride=2, padding=1), nn.SiLU()),
        *(nn.Flatten(), nn.Linear(4 * C * end, 1)),
    )


class ConvEnergyModel(PersistentEnergyModel):
    """E(x) = f(x) + bowl(x) of grey pictures as vectors, where f is convolutional.

    The energy is that of x + sigma e, e ~ N(0, I): a chain's step has to be small against
    sigma. At first the bowl is N(0, I); `fit_bowl` gives it mean and covariance of data.

    Args:
        D: pixels of a square picture, whose side is a multiple of 4.
        channels: of the first convolution; the others have 2 and 4 times as many.
        sigma: standard deviation of the noise that the data get.
        more: as of `PersistentEnergyModel`.
    """

    def __init__(self, D: int, *, channels: int = 32, sigma: float = 0.3, **more):
        validate.at_least(1, D=D, channels=channels)
        side = math.isqrt(D)
        if side**2 != D or side % 4:
            raise ValueError(f"D is {D}: expected a square whose side is a multiple of 4")
        bowl = FittedBowl(torch.zeros(2, D), noise=1.0)
        start = {"k": 20, "eps": 0.04, "bowl": bowl, "waves": 0, "hidden": ()}
        super().__init__(D, **{**start, **more})
        self.f, self.sigma = zero_last(picture_net(side, channels)), sigma

    def fit_bowl(self, x: Tensor) -> None:
        """Let the bowl be the Gaussian of noisy data (N, D), and start all chains there."""
        x = validate.points(x, self.D, self, least=2)
        self.bowl.load_state_dict(FittedBowl(x.cpu(), noise=self.sigma).state_dict())
        self.places.copy_(self.bowl.sample(len(self.places)))

    def loss(self, x: Tensor) -> Tensor:
        """Return mean E(noisy data) - mean E(chains): (B, D) -> ()."""
        x = validate.points(x, self.D, self)
        return super().loss(x + self.sigma * noise_like(x))
