"""What samples are compared by: features of a small classifier of the course's own.

It is a recipe with a card like any model: `evaluation/features-mnist`, for pictures of 28 x
28, `evaluation/features-digits`, for 8 x 8, and `evaluation/features-cifar10`. A figure
depends on the network that made the features, so the card of every figure here tells the
sha256 of its weights.

All features are divided by one number, the root of their mean variance on training data.
Without it a figure is in a unit that nobody knows, and KID grows with its sixth power.
"""

from collections.abc import Iterable, Sequence
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gdm_course import validate
from gdm_course.batching import Batch, columns
from gdm_course.evaluation import samples
from gdm_course.evaluation.likelihood import Estimate, device_of, estimate, portions
from gdm_course.learning import evaluating
from gdm_course.recipes.features import BY_SHAPE

COMPARING = {  # the metrics that ask such a network
    f"evaluation.features.{name}_estimate" for name in ("frechet", "inception", "label")
} | {f"evaluation.jumps.jumps_{steps}" for steps in (5, 10, 20, 50)}
SAMPLES, MOST = 2000, 5000  # drawn for a figure: as many as there are rows, within these


class PictureClassifier(nn.Module):
    """Three convolutions, a layer of features, and a logit for every label.

    Args:
        shape: (C, H, W) of a picture with values from -1 to 1.
        K: number of labels.
        levels: of a pixel where pictures are codes.
        width: channels of the first convolution; the others have twice as many.
        features: of the last layer but one.
    """

    def __init__(
        self, shape: Sequence[int], K: int = 10, *, levels: int = 256, width=16, features=64
    ):
        super().__init__()
        validate.at_least(1, shape=[*shape], K=K, width=width, features=features)
        validate.at_least(2, levels=levels)
        self.shape, self.K, self.levels = tuple(shape), K, levels
        self.body = convolutions(*self.shape, width, features)
        self.head = nn.Linear(features, K)
        self.register_buffer("scale", torch.ones(()))

    def features(self, x: Tensor) -> Tensor:
        """Return features whose mean variance is 1: (B, C, H, W) -> (B, F)."""
        return self.body(validate.points(x, self.shape, self, least=0)) / self.scale

    def logits(self, x: Tensor) -> Tensor:
        """Return the logits of all labels: (B, C, H, W) -> (B, K)."""
        return self.head(self.body(validate.points(x, self.shape, self, least=0)))

    def loss(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the mean cross-entropy of labels y (B,) in nats: ()."""
        x = validate.points(x, self.shape, self)
        return F.cross_entropy(self.logits(x), validate.labels(y, self.K, len(x)))

    @torch.no_grad()
    def settle(self, x: Batch) -> None:
        """Set the scale by the features of training data: the end of a run calls it."""
        h = torch.cat([self.body(x) for x, *_ in portions(x, 1000, device_of(self))])
        self.scale.copy_(h.double().var(0).mean().sqrt())


def convolutions(C: int, H: int, W: int, width: int, features: int) -> nn.Module:
    """Return the layers from pictures (B, C, H, W) to features (B, F)."""
    twice, small = 2 * width, (H + 3) // 4 * ((W + 3) // 4)  # two halvings, rounded up
    return nn.Sequential(
        nn.Conv2d(C, width, 3, padding=1),
        nn.SiLU(),
        nn.Conv2d(width, twice, 3, 2, 1),
        nn.SiLU(),
        nn.Conv2d(twice, twice, 3, 2, 1),
        nn.SiLU(),
        nn.Flatten(),
        nn.Linear(twice * small, features),
        nn.SiLU(),
    )


@lru_cache(maxsize=8)
def trained(name: str) -> PictureClassifier:
    """Return the network of a recipe with its weights, which nobody may change."""
    from gdm_course import checkpoints

    return checkpoints.load(name).requires_grad_(False)


def extractor(shape: Sequence[int]) -> PictureClassifier:
    """Return the network for pictures (C, H, W).

    Raises:
        ValueError: there is none for such pictures.
    """
    if tuple(shape) not in BY_SHAPE:
        raise ValueError(
            f"no features for data of shape {tuple(shape)}: expected pictures of "
            f"{' or '.join(map(str, BY_SHAPE))}, or train a recipe for it and name it in "
            "recipes.features.BY_SHAPE"
        )
    return trained(BY_SHAPE[tuple(shape)])


def named(functions: Iterable[str], x: Batch) -> dict[str, str]:
    """Return name and sha256 of the network that these metrics use on x, for a card."""
    from gdm_course import checkpoints

    shape = tuple(columns(x)[0].shape[1:])
    if not COMPARING & {*functions} or shape not in BY_SHAPE:
        return {}
    name = BY_SHAPE[shape]
    return {name: checkpoints.card(name)["file"]["sha256"]}


def pictures(x: Tensor, levels: int) -> Tensor:
    """Return real numbers as they are, and codes 0 to levels - 1 as -1 to 1."""
    return x if x.is_floating_point() else x.float() * (2 / (levels - 1)) - 1


@torch.no_grad()
def opinions(x: Tensor, of: str = "features", batch: int = 500) -> Tensor:
    """Return features (N, F) or `logits` (N, K) of pictures (N, C, H, W), on the CPU."""
    net = extractor(x.shape[1:])
    parts = [
        getattr(net, of)(pictures(rows, net.levels))
        for (rows,) in portions(x, batch, device_of(net))
    ]
    return torch.cat(parts)


@torch.no_grad()
def drawn(model: nn.Module, x: Batch, n: int | None = None, batch: int = 500) -> Tensor:
    """Draw as many samples as x has rows, within limits, onto the CPU."""
    n = min(max(len(columns(x)[0]), SAMPLES), MOST) if n is None else n
    with evaluating(model):
        sizes = [min(batch, n - start) for start in range(0, n, batch)]
        return torch.cat([model.sample(size).cpu() for size in sizes])


def clouds(model: nn.Module, x: Batch) -> tuple[Tensor, Tensor]:
    """Return features of samples and of data x: (n, F), (N, F)."""
    real = columns(x)[0]
    fake = drawn(model, x).reshape(-1, *real.shape[1:])
    return opinions(fake), opinions(real)


def frechet_estimate(model: nn.Module, x: Batch) -> Estimate:
    """Return the Frechet distance of samples from data x, in features, and its error."""
    return samples.frechet_with_error(*clouds(model, x))


def frechet_of_points(model: nn.Module, x: Batch) -> Estimate:
    """`frechet_estimate` of the points themselves, flattened, without any network."""
    real = columns(x)[0]
    fake = drawn(model, x, len(real)).to(real.dtype)
    return samples.frechet_with_error(fake.flatten(1), real.flatten(1).cpu())


def inception_estimate(model: nn.Module, x: Batch) -> Estimate:
    """Return the inception score of samples, as the network sees them."""
    real = columns(x)[0]
    fake = drawn(model, x).reshape(-1, *real.shape[1:])
    return samples.inception_score(opinions(fake, "logits"))


def accuracy_estimate(model: PictureClassifier, x: Batch) -> Estimate:
    """Return how often a classifier is right on pictures and labels, 0 to 1."""
    device, right = device_of(model), []
    with evaluating(model), torch.no_grad():
        for pixels, y in portions(x, 1000, device):
            right.append((model.logits(pixels).argmax(1) == y).double().cpu())
    return estimate(torch.cat(right))


def label_estimate(model: nn.Module, x: Batch) -> Estimate:
    """Return how often samples of a label look like it: `model.sample(n, y)`, y from x."""
    y = columns(x)[1]
    with evaluating(model), torch.no_grad():
        parts = [model.sample(len(labels), labels).cpu() for labels in y.split(500)]
    seen = opinions(torch.cat(parts), "logits").argmax(1)
    return estimate((seen == y.cpu()).double())
