"""Frechet distance by the number of jumps: a network that knows its pictures by heart."""

import pytest
from torch import nn

from gdm_course.data import images
from gdm_course.diffusion.ddpm import DenoisingSteps
from gdm_course.diffusion.decoders import LevelDecoder
from gdm_course.diffusion.targets import Clean
from gdm_course.evaluation import jumps
from gdm_course.evaluation.features import COMPARING, opinions
from gdm_course.evaluation.samples import frechet_with_error


class ByHeart(nn.Module):
    """Says the same pictures whatever the noise, and counts how often it is asked."""

    def __init__(self, pictures):
        super().__init__()
        self.pictures, self.asked = nn.Parameter(pictures), 0

    def forward(self, x, log_snr, y=None):
        self.asked += 1
        return self.pictures


@pytest.mark.parametrize("steps", [5, 10, 20, 50])
def test_jumps_end_at_what_the_network_says(steps, monkeypatch):
    """The samples are its pictures, so the distance is theirs; n jumps ask n times."""
    data, decoder = images.load("digits"), LevelDecoder(17)
    known, others = data.x_train[:100], data.x_test
    monkeypatch.setattr(jumps, "DRAWN", 400)  # four times the hundred
    net = ByHeart(decoder.embed(known).float())
    model = DenoisingSteps(net, (1, 8, 8), target=Clean(), decoder=decoder)
    name = f"jumps_{steps}"
    found = getattr(jumps, name)(model, others)
    right = frechet_with_error(opinions(known.repeat(4, 1, 1, 1)), opinions(others))
    assert found.value == pytest.approx(right.value, rel=1e-4)
    assert found.error == pytest.approx(right.error, rel=1e-3)
    assert net.asked == 4 * steps
    assert f"evaluation.jumps.{name}" in COMPARING  # so that a card names the features
