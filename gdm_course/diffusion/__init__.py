"""Diffusion probabilistic models: data dissolve into noise, and a network walks back."""

from functools import partial

from torch import Tensor, nn

from gdm_course.examples import Example

PARTS = {"MeanVelocity": "what shortcuts and mean flows share, without a loss"}


def fit_plane(x: Tensor, steps: int, seed: int = 0) -> nn.Module:
    """Fit this family's model of the plane to points x (N, 2), for the gallery."""
    import math

    from gdm_course.chance import own_chance
    from gdm_course.diffusion.plane import PlaneSDE
    from gdm_course.training import forever, shifted, train

    rate = lambda step: 2.5e-3 * (1 + math.cos(math.pi * step / steps))  # noqa: E731
    with own_chance(shifted(seed)):
        model = PlaneSDE(2, scale=x.square().mean().sqrt().item())
        for _ in train(model, forever(x, 512), steps, lr=rate):
            pass
    return model.eval()


def models() -> dict[str, Example]:
    """Return a small one of every model, for the sweep of tests and the taxonomy."""
    return {
        **chains(),
        **streams(),
        **steered(),
        **palettes(),
        **tokens(),
        **leaps(),
        **matched(),
        **latents(),
    }


def chains() -> dict[str, Example]:
    """Return the models of the unit ddpm."""
    from gdm_course.diffusion import ddpm
    from gdm_course.diffusion.decoders import LevelDecoder
    from gdm_course.diffusion.denoiser import Denoiser
    from gdm_course.diffusion.schedule import cosine_schedule
    from gdm_course.diffusion.unet import ImageDDPM, UNet

    shape, few = (1, 4, 4), {"T": 4, "high": 5.0, "low": -5.0}

    def plane(kind: type, classes: int = 0) -> nn.Module:
        net = Denoiser(3, hidden=8, depth=1, classes=classes)
        return kind(net, (3,), schedule=cosine_schedule(4), drop=0.2)

    def pictures() -> nn.Module:
        net, how = UNet(1, width=4, classes=3), {"drop": 0.2, "decoder": LevelDecoder(5)}
        return ddpm.DDPM(net, shape, schedule=cosine_schedule(4), **how)

    return {
        "DDPM": Example(partial(plane, ddpm.DDPM), (3,)),
        "DDPM of classes": Example(partial(plane, ddpm.DDPM, 3), (3,), classes=3),
        "DDPM of pictures": Example(pictures, shape, K=5, classes=3),
        "BoundDDPM": Example(partial(plane, ddpm.BoundDDPM), (3,)),
        "PointDDPM": Example(partial(ddpm.PointDDPM, 3, T=4, hidden=8), (3,)),
        "ImageDDPM": Example(partial(ImageDDPM, shape, 5, width=4, **few), shape, K=5),
    }


def steered() -> dict[str, Example]:
    """Return the models of the unit guidance that take points."""
    from gdm_course.diffusion.ddpm import DDPM
    from gdm_course.diffusion.denoiser import Denoiser
    from gdm_course.diffusion.guidance import Guided
    from gdm_course.diffusion.schedule import cosine_schedule

    def guided() -> nn.Module:
        net = Denoiser(3, hidden=8, depth=1, classes=3)
        return Guided(DDPM(net, (3,), schedule=cosine_schedule(4)))

    return {"Guided": Example(guided, (3,))}


def palettes() -> dict[str, Example]:
    """Return the models that restore pictures."""
    from gdm_course.diffusion.damage import inpaint_box, one_of, to_grey, uncrop_frame
    from gdm_course.diffusion.decoders import LevelDecoder
    from gdm_course.diffusion.palette import Palette, PixelNet
    from gdm_course.diffusion.unet import UNet

    shape = (2, 4, 4)

    def large() -> nn.Module:
        ways = partial(one_of, ways=(inpaint_box, uncrop_frame, to_grey))
        net, codes = UNet(2, width=4, C_condition=3), LevelDecoder(5)
        return Palette(net, shape, degrade=ways, decoder=codes)

    return {
        "Palette": Example(
            lambda: Palette(PixelNet(shape, hidden=8, depth=1), shape), shape
        ),
        "Palette of all damages": Example(large, shape, K=5),
    }


def streams() -> dict[str, Example]:
    """Return the models of the unit score_sde."""
    from gdm_course.diffusion.denoiser import Denoiser
    from gdm_course.diffusion.edm import EDM, ImageEDM
    from gdm_course.diffusion.plane import PlaneSDE
    from gdm_course.diffusion.score_sde import ScoreNetwork, ScoreSDE
    from gdm_course.flows.ode import Fixed, rk4_step

    small, few, quick = {"hidden": 8, "depth": 1}, {"steps": 3}, Fixed(rk4_step, 4)

    def plane(kind: type, **more) -> nn.Module:
        return kind(Denoiser(3, **small), (3,), **more)

    shape, moved = (1, 4, 4), partial(PlaneSDE, 3, scale=2.0, steps=4, **small)
    return {
        "ScoreNetwork": Example(partial(plane, ScoreNetwork), (3,)),
        "ScoreSDE": Example(partial(plane, ScoreSDE, solver=quick), (3,), draw=few),
        "EDM": Example(partial(plane, EDM, solver=quick), (3,), draw=few),
        "PlaneSDE": Example(moved, (3,), draw=few),
        "ImageEDM": Example(partial(ImageEDM, shape, 5, width=4), shape, K=5, draw=few),
    }


def tokens() -> dict[str, Example]:
    """Return the models of the unit masked."""
    from gdm_course.diffusion.masked import MaskedDiffusion
    from gdm_course.diffusion.masked_models import MaskedPixels, MaskedText

    few = {"layers": 1, "heads": 2, "width": 8, "dropout": 0.2}
    table = lambda: MaskedDiffusion(nn.Embedding(4, 3), 2, 3)  # noqa: E731
    return {
        "MaskedDiffusion": Example(table, (2,), K=3),
        "MaskedText": Example(partial(MaskedText, 5, 6, **few), (6,), K=5),
        "MaskedPixels": Example(partial(MaskedPixels, (4, 4), 5, width=4), (16,), K=5),
    }


def matched() -> dict[str, Example]:
    """Return the models of the unit flow_matching that are one flow."""
    from gdm_course.diffusion import flow_matching
    from gdm_course.diffusion.denoiser import Denoiser
    from gdm_course.diffusion.dit import PictureFlow
    from gdm_course.diffusion.reflow import PlaneFlow

    few, small = {"steps": 3}, {"hidden": 8, "depth": 1}
    shape, net = (1, 4, 4), {"patch": 2, "width": 8, "depth": 1, "heads": 2}

    def bare() -> nn.Module:
        return flow_matching.VelocityNetwork(Denoiser(3, **small), (3,))

    pictures = partial(PictureFlow, shape, 5, steps=4, classes=3, **net)
    pairs = partial(_plane_flow, coupling=flow_matching.optimal)
    scaled = partial(PlaneFlow, 3, shift=0.5, scale=2.0, **small)
    return {
        "NormalSource": Example(partial(flow_matching.NormalSource, (3,)), (3,)),
        "VelocityNetwork": Example(bare, (3,)),
        "FlowMatching": Example(_plane_flow, (3,), draw=few),
        "FlowMatching of the nearest": Example(pairs, (3,), draw=few),
        "PlaneFlow": Example(scaled, (3,), draw=few),
        "PictureFlow": Example(pictures, shape, K=5, classes=3, draw=few),
    }


def latents() -> dict[str, Example]:
    """Return the models of the unit flow_matching that have a flow for a prior."""
    from gdm_course.diffusion.latent_flow import FlowPrior, LatentFlow
    from gdm_course.vae.vae import VAE

    few = {"steps": 3}

    def latent() -> nn.Module:
        return LatentFlow(VAE(4, latent=2, hidden=(6,)), _plane_flow(2), 0.1, 1.5)

    return {
        "FlowPrior": Example(lambda: FlowPrior(_plane_flow(2), 0.1, 1.5), (2,), draw=few),
        "LatentFlow": Example(latent, (4,), K=2, draw=few),
    }


def _plane_flow(D: int = 3, **more) -> nn.Module:
    from gdm_course.diffusion.denoiser import Denoiser
    from gdm_course.diffusion.flow_matching import FlowMatching

    return FlowMatching(Denoiser(D, hidden=8, depth=1), (D,), **more)


def leaps() -> dict[str, Example]:
    """Return the models of the unit few_step."""
    from gdm_course.diffusion.consistency import ConsistencyModel
    from gdm_course.diffusion.denoiser import Denoiser
    from gdm_course.diffusion.mean_velocity import JumpNet
    from gdm_course.diffusion.meanflow import ImprovedMeanFlow, MeanFlow
    from gdm_course.diffusion.moment_matching import MomentMatching
    from gdm_course.diffusion.shortcut import Shortcut

    def plane(kind: type, **more) -> nn.Module:
        return kind(JumpNet(3, hidden=8, depth=1), (3,), **more)

    return {
        "ConsistencyModel": Example(
            lambda: ConsistencyModel(Denoiser(3, hidden=8, depth=1), N=5), (3,)
        ),
        "Shortcut": Example(partial(plane, Shortcut, K=3), (3,)),
        "MeanFlow": Example(partial(plane, MeanFlow), (3,)),
        "ImprovedMeanFlow": Example(partial(plane, ImprovedMeanFlow), (3,)),
        "MomentMatching": Example(partial(plane, MomentMatching, M=2), (3,)),
    }
