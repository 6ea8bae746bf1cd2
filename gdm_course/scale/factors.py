"""Pictures with known factors for recipes: trained on alone, measured with the factors."""

from torch import Tensor, nn

from gdm_course.evaluation import latent
from gdm_course.evaluation.likelihood import Estimate
from gdm_course.scale.data import Splits


def shape_bits(size: int = 16, n: int = 20_000) -> Splits:
    """Draw pictures of one shape as vectors of bits (N, 3 size^2).

    Training sees n pictures and no factor. Validation and test are 5,000 fresh draws each,
    with their factors (5000, 6); as there are 24,576 pictures in all, some were trained on.
    """
    from gdm_course.data import shapes

    splits = []
    for seed, count in enumerate((n, 5000, 5000)):
        x, factors = shapes.draw_some(count, size, seed)
        splits.append((shapes.to_bits(x).flatten(1), factors))
    (train, _), valid, test = splits
    return Splits(train, valid, test, f"{n:,} pictures of shapes, {size} x {size}")


def nelbo_estimate(model: nn.Module, split: tuple[Tensor, Tensor]) -> Estimate:
    """Return the mean of -elbo in nats per picture; the factors are not looked at."""
    return latent.nelbo_estimate(model, split[0])
