"""Tests of two samples: is there any difference, and are samples copies of the data?

References:
    Lopez-Paz, Oquab (2017). Revisiting classifier two-sample tests. arXiv:1610.06545.
    Meehan, Chaudhuri, Dasgupta (2020). A non-parametric test to detect data-copying in
        generative models. arXiv:2004.05675.
"""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gdm_course import validate
from gdm_course.chance import own_chance
from gdm_course.evaluation.neighbours import nearest
from gdm_course.nets import mlp


class TwoSample(NamedTuple):
    """A share that is 1/2 on average where nothing is wrong.

    Attributes:
        share: what was counted, 0 to 1.
        z: its distance from 1/2 in standard deviations; above 3 is no accident.
    """

    share: float
    z: float

    @property
    def p_value(self) -> float:
        """How likely a share so large or larger is where nothing is wrong."""
        return math.erfc(self.z / math.sqrt(2)) / 2


def classifier_two_sample(
    real: Tensor, fake: Tensor, steps: int = 300, seed: int = 0
) -> TwoSample:
    """Train a small network to tell samples from data, and see how often it is right.

    The accuracy is taken on rows that the network has not seen. If both are of one law it
    is 1/2, with a standard deviation of 1 / (2 sqrt(n)); a sure accuracy above 1/2 proves
    a difference of any kind, not only of moments.

    Args:
        real, fake: (N, K) and (M, K), at least 20 rows each; of the longer, only as many
            are used as the shorter has.
        steps: of training.
        seed: of the halves, the network and its training.

    Returns:
        The accuracy on the held-out half of the rows, and its z.
    """
    real = validate.points(real, "K", name="real", least=20)
    fake = validate.points(fake, real.shape[1], name="fake", least=20)
    validate.at_least(1, steps=steps)
    half = min(len(real), len(fake)) // 2
    with own_chance(seed), torch.enable_grad():
        mixed = [t.detach().cpu().float()[torch.randperm(len(t))] for t in (real, fake)]
        seen, held = (
            torch.cat([t[part] for t in mixed])
            for part in (slice(half), slice(half, 2 * half))
        )
        y = torch.arange(2).repeat_interleave(half).float()  # real, then fake
        middle, width = seen.mean(0), seen.std(0).clamp_min(1e-6)
        net = classifier((seen - middle) / width, y, steps)
        right = ((net((held - middle) / width)[:, 0] > 0) == (y > 0)).double().mean()
    share = right.item()
    return TwoSample(share, (share - 0.5) * 2 * math.sqrt(2 * half))


def classifier(x: Tensor, y: Tensor, steps: int) -> nn.Module:
    """Return a network (B, K) -> (B, 1), positive where y is 1, trained on x (N, K).

    Its kinks at once see lattices that a smooth activation is slow to see.
    """
    net = mlp((x.shape[1], 64, 64, 1), nn.ReLU)
    optimizer = torch.optim.AdamW(net.parameters(), 1e-2, weight_decay=0.1)
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = 1e-2 * (1 - step / steps)
        rows = torch.randint(len(x), (min(128, len(x)),))
        loss = F.binary_cross_entropy_with_logits(net(x[rows])[:, 0], y[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return net


def data_copying(train: Tensor, held: Tensor, fake: Tensor) -> TwoSample:
    """Test whether samples lie nearer to the training data than unseen data do.

    Of every pair of a sample and a held-out point, count how often the sample is nearer to
    its nearest training point; a tie counts half. An honest model of the right law has
    1/2, one that repeats its training data up to 1, a blurred one below 1/2.

    Args:
        train, held, fake: (N, K), (M, K) and (L, K): what was learned from, unseen data of
            the same law, and samples.

    Returns:
        The share, and its z: that of the Mann-Whitney test, corrected for ties. The C_T of
        the paper, in one cell, is -z.
    """
    train = validate.points(train, "K", name="train").double()
    rest = []
    for name, t in (("held", held), ("fake", fake)):
        t = validate.points(t, train.shape[1], name=name, least=2).double()
        rest.append(nearest(t, train))
    d_held, d_fake = rest
    n, m = len(d_held), len(d_fake)
    _, counts = torch.cat(rest).unique(return_counts=True)
    ordered = d_fake.sort().values
    below = torch.searchsorted(ordered, d_held).double()  # samples that are nearer
    up_to = torch.searchsorted(ordered, d_held, right=True).double()
    share = ((below + up_to) / 2).mean().item() / m
    ties = ((counts.double() ** 3 - counts).sum() / ((n + m) * (n + m - 1))).item()
    spread = math.sqrt(max(n + m + 1 - ties, 1e-12) / (12 * n * m))
    return TwoSample(share, (share - 0.5) / spread)
