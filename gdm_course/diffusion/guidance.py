"""Steering: two answers of a network, with a label and without, and what lies beyond them.

Any model of the family that takes labels can be guided: `Guided(model, w)` changes what it
says of clean data, and samplers go on as before. Numbered equations are those of the
lecture diffusion/guidance.

References:
    Dhariwal, Nichol (2021). Diffusion models beat GANs on image synthesis.
        arXiv:2105.05233.
    Ho, Salimans (2022). Classifier-free diffusion guidance. arXiv:2207.12598.
    Kynkaanniemi, Aittala, Karras, Laine, Aila, Lehtinen (2024). Applying guidance in a
        limited interval improves sample and distribution quality. arXiv:2404.07724.
    Bradley, Nakkiran (2024). Classifier-free guidance is a predictor-corrector.
        arXiv:2408.09000.
    Chidambaram, Gatmiry, Chen, Lee, Lu (2024). What does guidance do? A fine-grained
        analysis in a simple setting. arXiv:2409.13074.
"""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from gdm_course import validate
from gdm_course.diffusion.ddim import ddim
from gdm_course.diffusion.ddpm import DenoisingSteps
from gdm_course.diffusion.mixture import MixtureDenoiser
from gdm_course.diffusion.schedule import rowwise


def guided(conditional: Tensor, free: Tensor, w: float) -> Tensor:
    """Go from the free answer past the conditional one, equation (3).

        free + (1 + w) (conditional - free): w = 0 is the conditional answer itself.

    The factors 1 + w and -w add to 1, so clean data, noise, velocity and score are all
    guided alike. The guidance scale of libraries is 1 + w.

    Args:
        conditional, free: answers with and without the label (B, *D).
        w: weight of the guidance; -1 is the free answer.
    """
    return free + (1 + w) * (conditional - free)


class Guided(nn.Module):
    """A model whose guess of the clean data is guided; samplers take it like any other.

    Args:
        model: with `predict_clean(x_t, t, y)`, where y = None asks for the free answer.
        w: weight of the guidance.
        low, high: guide only where log_snr lies between, see the interval of the lecture.
    """

    def __init__(
        self, model: DenoisingSteps, w: float = 1.0, *, low=-math.inf, high=math.inf
    ):
        super().__init__()
        self.model, self.w, self.low, self.high = model, w, low, high
        self.schedule, self.shape, self.decoder = model.schedule, model.shape, model.decoder

    def predict_clean(self, x_t: Tensor, t: int, y: Tensor | None = None) -> Tensor:
        """Return the guided guess of E[x0 | x_t, y] after t steps: (B, *shape)."""
        answer = self.model.predict_clean(x_t, t, y)
        inside = self.low <= self.schedule.log_snr(t) <= self.high
        if y is None or not self.w or not inside:
            return answer
        return guided(answer, self.model.predict_clean(x_t, t), self.w)

    def sample(self, n: int, y: Tensor | None = None, steps: int = 50) -> Tensor:
        """Draw n by DDIM, which has no noise on the way: labels (n,) -> (n, *shape)."""
        return ddim(self, n, min(steps, self.schedule.T), y=y)


# Classes that are known exactly -----------------------------------------------------------


class ExactClasses(nn.Module):
    """E[x0 | x_t, y] of classes that are mixtures, and E[x0 | x_t] where y is None.

    Args:
        parts: what denoises each class, K of them.
        weights: p(y), (K,); equal if None.
    """

    def __init__(self, parts: Sequence[MixtureDenoiser], weights: Tensor | None = None):
        super().__init__()
        validate.at_least(1, parts=len(parts))
        self.parts, self.classes = nn.ModuleList(parts), len(parts)
        even = parts[0].means.new_full((self.classes,), 1 / self.classes)
        w = even if weights is None else validate.one_each(weights, self.classes, "weights")
        self.register_buffer("weights", w.to(even))

    def log_classes(self, x_t: Tensor, log_snr: Tensor) -> Tensor:
        """Return log p(y | x_t) of a point that is so noisy, for all y: (B, K)."""
        log_p = torch.stack([part.log_p(x_t, log_snr) for part in self.parts], 1)
        return torch.log_softmax(log_p + self.weights.to(x_t).log(), 1)

    def forward(self, x_t: Tensor, log_snr: Tensor, y: Tensor | None = None) -> Tensor:
        """Return the exact mean of clean data: (B, *D), (B,), labels (B,) -> (B, *D)."""
        each = torch.stack([part(x_t, log_snr) for part in self.parts], 1)  # (B, K, *D)
        if y is None:
            share = self.log_classes(x_t, log_snr).exp()
            return (each * share.view(*share.shape, *[1] * (x_t.ndim - 1))).sum(1)
        y = validate.labels(y, self.classes, len(x_t))
        return each[torch.arange(len(y), device=y.device), y]


def sharpened(conditional: Tensor, free: Tensor, w: float, cell: float) -> Tensor:
    """Return log of p(x|y)^(1+w) / p(x)^w, normalised over a grid, equation (4): (n,).

    Args:
        conditional, free: log p(x|y) and log p(x) in nats at the points of the grid (n,).
        w: weight of the guidance.
        cell: volume of one cell of the grid.
    """
    log_p = (1 + w) * conditional - w * free
    return log_p - torch.logsumexp(log_p, 0) - math.log(cell)


# A classifier that steers -----------------------------------------------------------------


def pull(classifier: Callable, x_t: Tensor, log_snr: Tensor, y: Tensor) -> Tensor:
    """Return the slope in x_t of log p(y | x_t): (B, *D).

    Args:
        classifier: (x_t, log_snr) -> log p(y | x_t) of all classes (B, K).
        x_t: noisy data (B, *D).
        log_snr: how noisy (B,).
        y: the class that is wanted in each row (B,).
    """
    with torch.enable_grad():
        x_t = x_t.detach().requires_grad_()
        log_p = classifier(x_t, log_snr).gather(1, y[:, None])
        (slope,) = torch.autograd.grad(log_p.sum(), x_t)
    return slope


class ClassifierGuided(nn.Module):
    """A model that knows no labels, and a classifier of noisy data that steers it.

    The score gains scale * grad log p(y | x_t), so the clean data move, by equation (2), by
    scale * sigma^2 / alpha times that slope. scale = 1 is Bayes' rule, 1 + w guides.

    Args:
        model: with `predict_clean(x_t, t)`.
        classifier: (x_t, log_snr) -> log p(y | x_t), (B, K).
        scale: of the pull.
    """

    def __init__(self, model: DenoisingSteps, classifier: Callable, scale: float = 1.0):
        super().__init__()
        self.model, self.classifier, self.scale = model, classifier, scale
        self.schedule, self.shape, self.decoder = model.schedule, model.shape, model.decoder

    def predict_clean(self, x_t: Tensor, t: int, y: Tensor | None = None) -> Tensor:
        """Return the steered guess of E[x0 | x_t, y] after t steps: (B, *shape)."""
        x0_hat, log_snr = self.model.predict_clean(x_t, t), self.schedule.log_snr(t)
        if y is None:
            return x0_hat
        slope = pull(self.classifier, x_t, log_snr.expand(len(x_t)), y)
        far = self.schedule.sigma(t).square() / self.schedule.alpha(t)
        return x0_hat + self.scale * rowwise(far, x_t) * slope
