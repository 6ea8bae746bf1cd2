"""What the recipe of the eight Gaussians is measured by."""

import pytest
import torch
from torch import nn

from gdm_course import recipes
from gdm_course.data import toy
from gdm_course.scale.modes import found_modes, good_share

TRUTH = toy.get("eight_gaussians")


class Sampler(nn.Module):
    """Draws from the first k modes, and a share of its points far away."""

    def __init__(self, k: int, lost: float):
        super().__init__()
        self.k, self.lost = k, lost

    def sample(self, n: int) -> torch.Tensor:
        x = TRUTH.law.means[torch.randint(self.k, (n,))] + 0.2 * torch.randn(n, 2) / 10
        return torch.where(torch.arange(n)[:, None] < self.lost * n, 9.0, x).float()


@pytest.mark.parametrize(("k", "lost"), [(8, 0.0), (3, 0.25)])
def test_figures_of_a_sampler_that_is_known(k, lost):
    share = good_share(Sampler(k, lost), None)
    assert share.value == pytest.approx(1 - lost, abs=1e-6)
    expected = (lost * (1 - lost) / 20_000) ** 0.5
    assert share.error == pytest.approx(expected, abs=1e-6)
    assert found_modes(Sampler(k, lost), None).value == k


def test_figures_leave_chance_as_it_was():
    torch.manual_seed(0)
    before = torch.get_rng_state()
    one, other = (good_share(Sampler(8, 0.1), None).value for _ in range(2))
    assert torch.equal(before, torch.get_rng_state())
    assert one == other


def test_the_recipe_builds_what_it_names():
    recipe = recipes.get("gan/eight-gaussians")
    model = recipe.build()
    assert (model.r1, model.r2) == (0.05, 0.05)
    assert recipe.moves == ("discriminator_loss", "generator_loss")
