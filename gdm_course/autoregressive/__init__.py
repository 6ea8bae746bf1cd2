"""Autoregressive models: p(x) as a product of conditionals, one dimension after another."""

from functools import partial

from torch import Tensor, nn

from gdm_course.examples import Example


def fit_plane(x: Tensor, steps: int, seed: int = 0) -> nn.Module:
    """Fit this family's model of the plane to points x (N, 2), for the gallery."""
    from gdm_course.autoregressive.nade import RNADE
    from gdm_course.chance import own_chance
    from gdm_course.training import forever, shifted, train

    rate = lambda step: 5e-3 * (1 - step / steps)  # noqa: E731
    with own_chance(shifted(seed)):
        model = RNADE(2)
        for _ in train(model, forever(x, 512), steps, lr=rate):
            pass
    return model.eval()


PARTS = {
    "BinnedLogistics": "a distribution of codes, what numbers of a WaveNet mean",
    "BinnedNormal": "a distribution of codes, what numbers of a WaveNet mean",
    "DiscretisedLogistics": "a distribution of codes, what numbers of a PixelCNN mean",
    "LabelledDensity": "all of a PixelCNN with labels but its network",
    "RasterDensity": "all of a PixelCNN but its network",
}


def models() -> dict[str, Example]:
    """Return a small one of every model, for the sweep of tests and the taxonomy."""
    import torch

    from gdm_course.autoregressive.made import MADE, AnyOrderMADE
    from gdm_course.autoregressive.nade import NADE, RNADE, Quantised, SoftmaxNADE

    def bins() -> nn.Module:
        bounds = torch.full((2,), -9.0), torch.full((2,), 9.0)
        return Quantised(SoftmaxNADE(2, 8), *bounds, bins=8)

    made = partial(MADE, 4, hidden=(6,), dropout=0.2)
    return {
        "NADE": Example(partial(NADE, 4, hidden=5), (4,), K=2),
        "RNADE": Example(partial(RNADE, 2, hidden=8, components=3), (2,)),
        "SoftmaxNADE": Example(partial(SoftmaxNADE, 3, 5, hidden=6), (3,), K=5),
        "Quantised": Example(bins, (2,)),
        "MADE": Example(made, (4,), K=2),
        "MADE of three orders": Example(partial(made, orders=3), (4,), K=2),
        "AnyOrderMADE": Example(partial(AnyOrderMADE, 4, hidden=(6,), orders=2), (4,), K=2),
        **pictures(),
        **sequences(),
    }


def pictures() -> dict[str, Example]:
    """Return the models of images."""
    from gdm_course.autoregressive.gated_pixelcnn import GatedPixelCNN, LogisticPixelCNN
    from gdm_course.autoregressive.pixelcnn import PixelCNN

    shape, K = (2, 4, 4), 5
    small = {"features": 6, "dilations": (1, 2), "size": 3, "dropout": 0.2}
    gated = partial(GatedPixelCNN, shape, K, **small)
    plain = partial(PixelCNN, shape, K, features=6, layers=1)
    return {
        "PixelCNN": Example(plain, shape, K),
        "GatedPixelCNN": Example(gated, shape, K),
        "GatedPixelCNN of classes": Example(partial(gated, classes=3), shape, K, classes=3),
        "LogisticPixelCNN": Example(partial(LogisticPixelCNN, shape, K, **small), shape, K),
    }


def sequences() -> dict[str, Example]:
    """Return the models of text and of sound."""
    import torch

    from gdm_course.autoregressive.gpt import GPT
    from gdm_course.autoregressive.sound import Gaussian, LogisticMixture
    from gdm_course.autoregressive.wavenet import WaveNet
    from gdm_course.autoregressive.wavernn import Truncated, WaveRNN

    net = partial(WaveNet, 16, channels=4, skip=5, dilations=(1, 2))
    rnn = partial(WaveRNN, hidden=6, channels=4)
    wave = partial(Example, shape=(7,), K=16, draw={"T": 7}, any_length=True)
    byte = partial(Example, shape=(7,), K=65536, draw={"T": 7}, any_length=True)
    gpt = partial(GPT, 5, 6, layers=1, heads=2, width=8, dropout=0.2)
    text = partial(Example, shape=(6,), K=5, any_length=True)
    return {
        "GPT": text(gpt),
        "GPT of classes": text(partial(gpt, classes=3), classes=3),
        "WaveNet": wave(net),
        "WaveNet of classes": wave(partial(net, classes=3), classes=3),
        "WaveNet, one Gaussian": wave(partial(net, output=Gaussian)),
        "WaveNet, logistic bumps": wave(partial(net, output=LogisticMixture)),
        "WaveRNN": byte(rnn),
        "Truncated": byte(lambda: Truncated(rnn()), more=(torch.tensor(True),)),
    }
