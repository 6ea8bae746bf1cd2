"""Few-step models that a recipe can build from numbers, and their data."""

from collections.abc import Sequence

import torch
from torch import Tensor

from gdm_course.diffusion.consistency import ConsistencyModel
from gdm_course.diffusion.decoders import LevelDecoder
from gdm_course.diffusion.denoiser import Denoiser
from gdm_course.diffusion.mean_velocity import JumpNet, JumpUNet
from gdm_course.diffusion.meanflow import MeanFlow
from gdm_course.diffusion.shortcut import Shortcut
from gdm_course.diffusion.unet import UNet
from gdm_course.scale.data import Splits


class PlaneConsistency(ConsistencyModel):
    """A `ConsistencyModel` with a `Denoiser`. Args: D; N of levels; net: see `Denoiser`."""

    def __init__(self, D: int, *, N: int = 40, **net):
        super().__init__(Denoiser(D, **net), N=N)


class PlaneShortcut(Shortcut):
    """A `Shortcut` with a `JumpNet`. Args: D; share of halves; net: see `JumpNet`."""

    def __init__(self, D: int, *, share: float = 0.25, **net):
        super().__init__(JumpNet(D, **net), (D,), share=share)


class PlaneMeanFlow(MeanFlow):
    """A `MeanFlow` with a `JumpNet`. Args: D; same, power; net: see `JumpNet`."""

    def __init__(self, D: int, *, same: float = 0.5, power: float = 1.0, **net):
        super().__init__(JumpNet(D, **net), (D,), same=same, power=power)


class PictureConsistency(ConsistencyModel):
    """A `ConsistencyModel` of pictures of codes, by a U-Net; it draws codes.

    Args:
        shape: of a picture (C, H, W); `levels`: number of values of a pixel.
        N: number of noise levels; net: more about the network, see `UNet`.
    """

    def __init__(self, shape: Sequence[int], levels: int, *, N: int = 80, **net):
        super().__init__(UNet(shape[0], **net), shape, sigma_data=0.6, high=80.0, N=N)
        self.decoder = LevelDecoder(levels)

    def loss(self, x: Tensor) -> Tensor:
        """Return the loss on the levels of codes, from -1 to 1: (B, C, H, W) -> ()."""
        return super().loss(self.decoder.embed(x))

    def sample(self, n: int, steps: int = 1) -> Tensor:
        """Draw codes (n, C, H, W), int64."""
        return self.decoder.show(super().sample(n, steps))


class PictureMeanFlow(MeanFlow):
    """A `MeanFlow` of pictures of codes, by a U-Net; it draws codes.

    Args:
        shape: of a picture (C, H, W); `levels`: number of values of a pixel.
        same, power: as of `MeanFlow`; net: more about the network, see `UNet`.
    """

    def __init__(
        self, shape: Sequence[int], levels: int, *, same: float = 0.75, power=1.0, **net
    ):
        super().__init__(JumpUNet(shape[0], **net), shape, same=same, power=power)
        self.decoder = LevelDecoder(levels)

    def loss(self, x: Tensor) -> Tensor:
        """Return the loss on the levels of codes, from -1 to 1: (B, C, H, W) -> ()."""
        return super().loss(self.decoder.embed(x))

    def sample(self, n: int, steps: int = 1) -> Tensor:
        """Draw codes (n, C, H, W), int64."""
        return self.decoder.show(super().sample(n, steps))


def unit_points(name: str, N: int, seed: int = 0) -> Splits:
    """Draw points of a toy density, divided so that their mean square is 1.

    N for training, so many that no step sees one twice; 8,000 to validate, 40,000 to test.
    """
    from gdm_course.data import toy

    truth, g = toy.get(name), torch.Generator().manual_seed(seed)
    scale = root_mean_square(name)
    draw = lambda n: (truth.sample(n, g) / scale).float()  # noqa: E731
    valid, test = draw(8000), draw(40_000)
    return Splits(draw(N), valid, test, f"{name}, drawn by gdm_course.data.toy")


def root_mean_square(name: str) -> float:
    """Return the root of the mean square of a toy density that is a mixture."""
    from gdm_course.data import toy

    law = toy.get(name).law
    squares = law.means.square().mean(1) + law.sigma.square()
    return (law.weights * squares).sum().sqrt().item()
