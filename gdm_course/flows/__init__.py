"""Normalizing flows: an invertible map from data to noise, and the density it gives."""

from collections.abc import Callable
from functools import partial

from torch import Tensor, nn

from gdm_course.examples import Example


def fit_plane(x: Tensor, steps: int, seed: int = 0) -> nn.Module:
    """Fit this family's model of the plane to points x (N, 2), for the gallery."""
    from gdm_course.chance import own_chance
    from gdm_course.flows.spline import SplineFlow
    from gdm_course.training import forever, shifted, train

    rate = lambda step: 5e-3 * (1 - step / steps)  # noqa: E731
    with own_chance(shifted(seed)):
        model = SplineFlow(2)
        for _ in train(model, forever(x, 512), steps, lr=rate):
            pass
    return model.eval()


PARTS: dict[str, str] = {"LabelledFlow": "has no map; TarFlow is one of them"}


def models() -> dict[str, Example]:
    """Return a small one of every model, for the sweep of tests and the taxonomy."""
    from gdm_course.flows.continuous import FFJORD, ContinuousFlow
    from gdm_course.flows.maf import IAF, MAF
    from gdm_course.flows.planar import PlanarFlow
    from gdm_course.flows.radial import RadialFlow
    from gdm_course.flows.realnvp import NICE, RealNVP
    from gdm_course.flows.spline import SplineCouplingFlow, SplineFlow

    def vectors(flow: Callable, **sizes) -> Example:
        return Example(partial(flow, 3, **sizes), (3,))

    return {
        "PlanarFlow": vectors(PlanarFlow, layers=3),
        "RadialFlow": vectors(RadialFlow, layers=3),
        "NICE": vectors(NICE, layers=2, hidden=8),
        "RealNVP": vectors(RealNVP, layers=2, hidden=8),
        "MAF": vectors(MAF, layers=2, hidden=(8,)),
        "IAF": vectors(IAF, layers=2, hidden=(8,)),
        "SplineFlow": vectors(SplineFlow, layers=2, hidden=(8,)),
        "SplineCouplingFlow": vectors(SplineCouplingFlow, layers=2, hidden=(8,)),
        "ContinuousFlow": vectors(ContinuousFlow, hidden=8, depth=1),
        "FFJORD": vectors(FFJORD, hidden=8, depth=1, steps=2),
        **other(),
        **of_patches(),
    }


def squares(x: Tensor) -> Tensor:
    """Return the energy |x|^2 of an example: (B, D) -> (B,)."""
    return x.square().sum(1)


def other() -> dict[str, Example]:
    """Return the models of images and of codes, a bare flow, and another loss of one."""
    from gdm_course.flows import dequantisation as dq
    from gdm_course.flows.flow import Flow, ReverseKL
    from gdm_course.flows.glow import Glow
    from gdm_course.flows.planar import Affine, PlanarFlow
    from gdm_course.flows.realnvp import RealNVP

    def noisy() -> nn.Module:
        noise = dq.VariationalNoise((3,), layers=2, hidden=6)
        return dq.Dequantised(RealNVP(3, layers=2, hidden=8), 5, noise=noise)

    shape, small = (1, 4, 4), {"scales": 2, "steps": 1, "checkers": 1, "hidden": 6}
    codes = partial(dq.DequantisedGlow, shape, 5, noise_layers=2, noise_hidden=6, **small)
    return {
        "Flow": Example(lambda: Flow([Affine(3)], (3,)), (3,)),
        "ReverseKL": Example(lambda: ReverseKL(PlanarFlow(3, layers=2), squares), (3,)),
        "Glow": Example(partial(Glow, shape, **small), shape),
        "Dequantised": Example(noisy, (3,), K=5),
        "DequantisedGlow": Example(codes, shape, K=5),
    }


def of_patches() -> dict[str, Example]:
    """Return the models of pictures that are cut into patches."""
    from gdm_course.flows.tarflow import DequantisedTarFlow, TarFlow

    shape, small = (1, 4, 4), {"layers": 2, "width": 8, "depth": 1}
    told = partial(TarFlow, shape, classes=3, **small)
    codes = partial(DequantisedTarFlow, shape, 5, classes=3, **small)
    return {
        "TarFlow": Example(partial(TarFlow, shape, **small), shape),
        "TarFlow of classes": Example(told, shape, classes=3),
        "DequantisedTarFlow": Example(codes, shape, K=5, classes=3),
    }
