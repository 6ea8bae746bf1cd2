"""MNIST and USPS at 16 x 16, without pairs, and whether a translation keeps the labels.

The judge is a classifier that learned USPS, the recipe `evaluation/features-usps`: what it
says of copies, of digits that nobody translated, is the yardstick. It minds the style of a
digit. A second one, `evaluation/features-usps-shifted`, learned from digits that were moved
by a pixel and minds it less.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from gdm_course.evaluation.features import trained
from gdm_course.evaluation.likelihood import Estimate, device_of, estimate, portions
from gdm_course.gan.cyclegan import CycleGAN
from gdm_course.learning import evaluating
from gdm_course.scale.data import Splits
from gdm_course.scale.pictures import signed

JUDGE = "evaluation/features-usps"
SECOND = "evaluation/features-usps-shifted"
Labelled = tuple[Tensor, Tensor]


def middle(x: Tensor) -> Tensor:
    """Cut MNIST's digits to their 20 x 20 middle and shrink it: (N, 1, 16, 16), -1 to 1."""
    parts = [
        F.interpolate(t[:, :, 4:24, 4:24].float(), size=16, mode="area")
        for t in x.split(5000)
    ]
    return signed(torch.cat(parts), 256)


def unpaired(one: str, other: str, n: int = 20_000) -> Splits:
    """Load n training digits of MNIST, each beside one of USPS that chance put there.

    Validation and test are digits of MNIST with their labels, for measuring alone.
    """
    from gdm_course.data import images

    a, b = images.load(one), images.load(other)
    beside = torch.randint(len(b.x_train), (n,), generator=torch.Generator().manual_seed(0))
    pairs = middle(a.x_train[:n]), signed(b.x_train, b.levels)[beside]
    measured = [(middle(x), y) for x, y in ((a.x_valid, a.y_valid), (a.x_test, a.y_test))]
    return Splits(pairs, *measured, f"{a.source} and {b.source}, 16x16, unpaired")


@torch.no_grad()
def kept(model: CycleGAN, x: Labelled, copies=False, by: str = JUDGE) -> Estimate:
    """Return the share of digits whose label a judge still reads after G."""
    judge, right = trained(by).to(device_of(model)), []
    with evaluating(model):
        for pixels, y in portions(x, 500, device_of(model)):
            there = pixels if copies else model.to_b(pixels).clamp(-1, 1)
            right.append((judge.logits(there).argmax(1) == y).double().cpu())
    return estimate(torch.cat(right))


def kept_by_copies(model: CycleGAN, x: Labelled) -> Estimate:
    """Return the same for digits as they are, untranslated."""
    return kept(model, x, copies=True)


def kept_by_second(model: CycleGAN, x: Labelled) -> Estimate:
    """Return the share of digits whose label the second judge still reads after G."""
    return kept(model, x, by=SECOND)


def copies_by_second(model: CycleGAN, x: Labelled) -> Estimate:
    """Return the same for digits as they are."""
    return kept(model, x, copies=True, by=SECOND)


@torch.no_grad()
def round_trip(model: CycleGAN, x: Labelled, noise: float = 0.0) -> Estimate:
    """Return the mean |F(G(x) + noise) - x| over pixels, of the range -1 to 1."""
    off, g = [], torch.Generator().manual_seed(0)
    with evaluating(model):
        for pixels, _ in portions(x, 500, device_of(model)):
            there = model.to_b(pixels)
            there = there + noise * torch.randn(there.shape, generator=g).to(there)
            off.append((model.to_a(there) - pixels).abs().flatten(1).mean(1).double().cpu())
    return estimate(torch.cat(off))


def disturbed_trip(model: CycleGAN, x: Labelled) -> Estimate:
    """Return the same with noise of standard deviation 0.1 on what is sent."""
    return round_trip(model, x, 0.1)
