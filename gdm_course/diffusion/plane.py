"""A stream of the plane, made from numbers alone: for recipes and the gallery."""

import math
from functools import partial

from torch import Tensor

from gdm_course import validate
from gdm_course.diffusion.denoiser import Denoiser
from gdm_course.diffusion.score_sde import ScoreSDE, edm_levels
from gdm_course.flows.ode import Fixed, rk4_step


class PlaneSDE(ScoreSDE):
    """A `ScoreSDE` with a `Denoiser`, for data of any size: its network sees x / scale.

    `score` is that of x / scale, all else speaks of x.

    Args:
        D: dimension of a point.
        scale: root mean square of the data.
        mean, std: of log s, the logarithm of the noise levels to train at.
        steps: of Runge-Kutta from data to noise, for `log_prob`.
        net: more about the network, see `Denoiser`: hidden, depth, waves.
    """

    def __init__(
        self, D: int, *, scale: float = 1.0, mean=-1.5, std=1.2, steps: int = 32, **net
    ):
        if not scale > 0:
            raise ValueError(f"scale is {scale}: expected a number above 0")
        levels = partial(edm_levels, mean=mean, std=std)
        super().__init__(
            Denoiser(D, **net), (D,), levels=levels, solver=Fixed(rk4_step, steps)
        )
        self.scale = scale

    def loss(self, x: Tensor) -> Tensor:
        """Return the mean squared error of v: (B, D) -> ()."""
        return super().loss(validate.points(x, self.shape, self) / self.scale)

    def log_prob(self, x: Tensor) -> Tensor:
        """Return log p(x) in nats by the ODE: (B, D) -> (B,)."""
        x = validate.points(x, self.shape, self)
        return super().log_prob(x / self.scale) - x.shape[1] * math.log(self.scale)

    def sample(self, n: int, steps: int = 25) -> Tensor:
        """Take so many steps of DPM-Solver++ (2M) from noise to data: (n, D)."""
        return self.scale * super().sample(n, steps)
