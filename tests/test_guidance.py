"""Guidance, Palette and RePaint against classes and pictures whose laws are known."""

import math

import pytest
import torch
from torch import nn

from gdm_course.data import colours, toy
from gdm_course.diffusion import damage
from gdm_course.diffusion.ddim import ddim
from gdm_course.diffusion.ddpm import DDPM, DenoisingSteps, hidden
from gdm_course.diffusion.denoiser import Denoiser
from gdm_course.diffusion.guidance import (
    ClassifierGuided,
    ExactClasses,
    Guided,
    guided,
    pull,
    sharpened,
)
from gdm_course.diffusion.mixture import MixtureDenoiser
from gdm_course.diffusion.palette import Palette, PixelNet, restore
from gdm_course.diffusion.repaint import forward_again, repaint, repaint_step
from gdm_course.diffusion.schedule import cosine_schedule, log_snr_schedule
from gdm_course.diffusion.targets import Clean
from gdm_course.divergences.samples import wasserstein_1d
from gdm_course.evaluation.restoration import calibration_ratio, right_ratio


def exact(*classes: tuple, schedule=None) -> DenoisingSteps:
    """A model that says the truth, in float64, of classes (means, width)."""
    parts = [MixtureDenoiser(torch.tensor(m).double(), s) for m, s in classes]
    D = parts[0].means.shape[1]
    schedule = schedule or log_snr_schedule(400, 12.0, -12.0)
    model = DenoisingSteps(ExactClasses(parts), (D,), schedule=schedule, target=Clean())
    return model.double()


TWO = (([[1.0]], 1.0), ([[-1.0]], 1.0))


def drawn(model: nn.Module, w: float, n: int = 300, steps: int = 200, **where):
    """Draw class 0 with guidance, from the quantiles of the noise: no chance in it."""
    D = model.shape[0]
    start = torch.randn(n, D, generator=torch.Generator().manual_seed(0)).double()
    if D == 1:
        start = torch.special.ndtri((torch.arange(n).double() + 0.5) / n)[:, None]
    y = torch.zeros(n, dtype=torch.int64)
    return ddim(Guided(model, w, **where), n, steps, y=y, start=start)


# Guidance ---------------------------------------------------------------------------------


def test_weights_0_and_minus_1_are_the_two_answers():
    c, u = torch.randn(2, 5, 3).unbind()
    torch.testing.assert_close(guided(c, u, 0.0), c)
    assert torch.equal(guided(c, u, -1.0), u)
    torch.testing.assert_close(guided(c, u, 2.0), 3 * c - 2 * u)


def test_no_guidance_is_the_conditional_sampler_bit_for_bit():
    torch.manual_seed(0)
    net = Denoiser(2, hidden=16, depth=1, classes=3)
    model = DDPM(net, (2,), schedule=cosine_schedule(20))
    y, start = torch.tensor([0, 1, 2, 2]), torch.randn(4, 2)
    plain = ddim(model, 4, 10, y=y, start=start)
    assert torch.equal(ddim(Guided(model, 0.0), 4, 10, y=y, start=start), plain)
    assert not torch.equal(ddim(Guided(model, 1.0), 4, 10, y=y, start=start), plain)
    free = ddim(model, 4, 10, start=start)
    torch.testing.assert_close(
        ddim(Guided(model, -1.0), 4, 10, y=y, start=start), free, rtol=1e-4, atol=1e-5
    )


def test_hidden_labels_are_of_rows_and_become_the_null_label():
    net, y = Denoiser(2, hidden=4, depth=1, classes=5), torch.arange(5).repeat(2000)
    torch.manual_seed(0)
    kept = hidden(y, net, 0.2)
    gone = kept != y
    assert (kept[gone] == 5).all()
    assert abs(gone.double().mean() - 0.2) < 6 * math.sqrt(0.16 / 10_000)
    assert abs(gone[y == 0].double().mean() - 0.2) < 6 * math.sqrt(0.16 / 2000)


def test_classes_together_are_the_mixture_of_all():
    """Against one mixture of all components, that knows of no classes."""
    g = torch.Generator().manual_seed(1)
    a, b = torch.randn(2, 3, 2, generator=g).double().unbind()
    wide = torch.tensor([0.3] * 3 + [0.5] * 3, dtype=torch.float64)
    net = ExactClasses(
        [MixtureDenoiser(a, wide[0]), MixtureDenoiser(b, wide[3])],
        torch.tensor([0.25, 0.75]),
    ).double()
    whole = MixtureDenoiser(
        torch.cat([a, b]),
        wide,
        torch.tensor([0.25 / 3] * 3 + [0.25] * 3, dtype=torch.float64),
    )
    x = 2 * torch.randn(50, 2, generator=g).double()
    log_snr = torch.linspace(-6, 6, 50).double()
    torch.testing.assert_close(net(x, log_snr), whole(x, log_snr), rtol=1e-9, atol=1e-9)
    y = torch.arange(50) % 2
    torch.testing.assert_close(
        net(x, log_snr, y)[1::2], MixtureDenoiser(b, wide[3])(x[1::2], log_snr[1::2])
    )


def test_bayes_the_classifiers_slope_makes_the_class_of_the_whole():
    """Score of the class = score of all + grad log p(y | x), exactly."""
    model = exact(([[1.0, 0.0], [3.0, 1.0]], 0.5), ([[-1.0, 0.0]], 0.8))
    x, y = 2 * torch.randn(20, 2).double(), torch.arange(20) % 2
    steered = ClassifierGuided(model, model.net.log_classes, 1.0)
    for t in (40, 200, 360):
        torch.testing.assert_close(
            steered.predict_clean(x, t, y),
            model.predict_clean(x, t, y),
            rtol=1e-6,
            atol=1e-6,
        )
    doubled = ClassifierGuided(model, model.net.log_classes, 2.0).predict_clean(x, 200, y)
    other = Guided(model, 1.0).predict_clean(x, 200, y)
    torch.testing.assert_close(doubled, other, rtol=1e-6, atol=1e-6)


def test_a_classifiers_slope_is_that_of_its_logarithm():
    W, b = torch.randn(3, 4), torch.randn(4)
    x, y = torch.randn(6, 3), torch.tensor([0, 1, 2, 3, 0, 1])
    slope = pull(lambda x, _: torch.log_softmax(x @ W + b, 1), x, torch.zeros(6), y)
    p = torch.softmax(x @ W + b, 1)
    torch.testing.assert_close(slope, W.T[y] - p @ W.T)


@pytest.mark.parametrize("w", [0.0, 1.0, 3.0])
def test_the_guided_width_of_two_gaussians_is_known_in_closed_form(w):
    """Class N(0, 1) among all N(0, 4): the sampler draws 1 (1/2)^w, not what is promised.

    Every step multiplies x by a number, so one point tells the width: no draws.
    """
    s, S = 1.0, 2.0
    net = nn.Module()
    parts = [MixtureDenoiser(torch.zeros(1, 1).double(), width) for width in (s, S)]
    net.forward = lambda x, log_snr, y=None: parts[y is None](x, log_snr)
    schedule = log_snr_schedule(1000, 16.0, -16.0)
    model = DenoisingSteps(net, (1,), schedule=schedule, target=Clean()).double()
    start, y = torch.ones(1, 1).double(), torch.zeros(1, dtype=torch.int64)
    x = ddim(Guided(model, w), 1, 1000, y=y, start=start)
    assert abs(x.item() - s * (s / S) ** w) < 0.008
    grid = torch.linspace(-12, 12, 4001).double()

    def log_n(width):
        return torch.distributions.Normal(0.0, width).log_prob(grid)

    cell = (grid[1] - grid[0]).item()
    p = sharpened(log_n(s), log_n(S), w, cell).exp()
    assert abs(p.sum().item() * cell - 1) < 1e-6
    width = ((p * grid.square()).sum() * cell).sqrt().item()
    assert abs(width - ((1 + w) / s**2 - w / S**2) ** -0.5) < 1e-4


def test_guidance_does_not_draw_the_sharpened_density_and_its_own_score_does():
    """Classes N(1, 1) and N(-1, 1), w = 3: mean 2.32 where 1.54 is promised."""
    model = exact(*TWO)
    x = drawn(model, 3.0)
    grid = torch.linspace(-6, 8, 141)[:, None].double()

    def part(m):
        return torch.distributions.Normal(m, 1.0).log_prob(grid[:, 0])

    free = torch.logaddexp(part(1.0), part(-1.0)) - math.log(2)
    p = sharpened(part(1.0), free, 3.0, (grid[1] - grid[0]).item()).exp()
    p = p / p.sum()
    promised = (p @ grid).item()
    assert abs(promised - 1.54) < 0.01
    assert abs(x.mean().item() - 2.32) < 0.03
    assert abs(x.std().item() - 0.59) < 0.02
    net = MixtureDenoiser(grid, 0.0, p)
    whole = DenoisingSteps(net, (1,), schedule=model.schedule, target=Clean()).double()
    honest = drawn(whole, 0.0)
    assert abs(honest.mean().item() - promised) < 0.02


def test_guidance_empties_the_inner_mode_and_an_interval_keeps_some():
    model = exact(([[1.0, 0.0], [3.0, 0.0]], 0.5), ([[-1.0, 0.0], [-3.0, 0.0]], 0.5))

    def inner(x):
        return (x[:, 0] < 2).double().mean().item()

    kept = {"low": -2 * math.log(3), "high": -2 * math.log(0.3)}
    shares = [inner(drawn(model, w, 1000, 80)) for w in (0.0, 1.0, 3.0)]
    assert abs(shares[0] - 0.5) < 0.08
    assert 0.1 < shares[1] < 0.3
    assert shares[2] < 0.01
    assert inner(drawn(model, 1.0, 1000, 80, **kept)) > shares[1] + 0.1


# Damage, Palette --------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(8, 8), (28, 28), (7, 5)])
def test_what_is_hidden_and_what_is_known(size):
    torch.manual_seed(0)
    x = torch.randn(60, 3, *size)
    seen, known = damage.inpaint_box(x)
    H, W = size
    halves = {((H + 1) // 2) * W, H * ((W + 1) // 2)}
    missing = (known == 0).flatten(1).sum(1)
    assert {*missing.tolist()} == halves
    assert torch.equal(seen, x * known)
    assert len({tuple(m.flatten().tolist()) for m in known}) > 5
    seen, known = damage.uncrop_frame(x)
    assert known[:, :, 0].sum() == 0
    assert known[:, :, H // 2, W // 2].all()
    grey, known = damage.to_grey(x)
    assert known.sum() == 0
    assert torch.equal(grey[:, 0], grey[:, 2])
    torch.testing.assert_close(grey[:, 0], x.mean(1))


def test_one_of_damages_every_picture_in_its_own_way():
    torch.manual_seed(0)
    ways = (damage.to_grey, damage.uncrop_frame)
    x = torch.randn(200, 3, 4, 4)
    seen, known = damage.one_of(x, ways)
    grey = known.flatten(1).sum(1) == 0
    assert 60 < grey.sum() < 140
    assert torch.equal(seen[grey], damage.to_grey(x)[0][grey])
    assert torch.equal(seen[~grey], damage.uncrop_frame(x)[0][~grey])


class Truth(nn.Module):
    """What a perfect Palette says of pictures of two pixels, x1 known and x2 missing."""

    def __init__(self, law):
        super().__init__()
        self.law, self.seen = law, []

    def forward(self, x, log_snr, y=None, condition=None):
        self.seen.append((x, condition))
        x1, x2 = x[:, 0, 0, :1].double(), x[:, 0, 0, 1:].double()
        m, s = self.law.means, self.law.sigma
        log_w = (-(x1 - m[:, 0]).square() / (2 * s**2)).log_softmax(1)  # p(k | x1)
        alpha, var = log_snr.sigmoid().sqrt()[:, None], (-log_snr).sigmoid()[:, None]
        wide = alpha**2 * s**2 + var
        r = log_w - (x2 - alpha * m[:, 1]).square() / (2 * wide) - wide.log() / 2
        each = m[:, 1] + alpha * s**2 / wide * (x2 - alpha * m[:, 1])
        answer = (r.softmax(1) * each).sum(1, keepdim=True)
        return torch.cat([x1, answer], 1)[:, None, None].to(x)


def conditional(law, x1: float, n: int) -> torch.Tensor:
    """Draws from p(x2 | x1) of a mixture."""
    w = (-(x1 - law.means[:, 0]).square() / (2 * law.sigma**2)).softmax(0)
    k = torch.multinomial(w, n, True)
    return law.means[k, 1] + law.sigma[k] * torch.randn(n).double()


LAW, X1 = toy.get("eight_gaussians").law, 0.76


def test_a_perfect_palette_draws_the_conditional_and_keeps_what_is_known():
    torch.manual_seed(0)
    model = Palette(Truth(LAW), (1, 1, 2), target=Clean())
    n = 2000
    known = torch.tensor([1.0, 0.0]).expand(n, 1, 1, 2)
    seen = torch.tensor([X1, 0.0]).expand(n, 1, 1, 2)
    x = restore(model, seen, known, steps=50)
    assert torch.equal(x[..., 0], seen[..., 0])
    found, truth = x[:, 0, 0, 1].double(), conditional(LAW, X1, n)
    assert wasserstein_1d(found, truth) < 0.12  # half of it at +-1.85
    mean = restore(model, seen, known, steps=1)[:, 0, 0, 1]
    assert mean.abs().max() < 0.2  # one step is the mean of both, where nothing lies


def test_the_network_sees_clean_known_pixels_and_their_errors_do_not_count():
    torch.manual_seed(0)
    x = torch.randn(16, 1, 4, 4)
    out = torch.zeros(16, 1, 4, 4, requires_grad=True)
    net, given = nn.Module(), []
    net.forward = lambda x, log_snr, condition: given.append((x, condition)) or out
    model = Palette(net, (1, 4, 4))
    model.loss(x).backward()
    x_t, condition = given[0]
    known = condition[:, 1:]
    assert torch.equal(x_t[known > 0], x[known > 0])
    assert (x_t[known == 0] != x[known == 0]).all()
    count = (known == 0).sum()
    wanted = torch.where(known == 0, -2 * x / count, 0.0)  # of the mean over missing ones
    torch.testing.assert_close(out.grad, wanted)


def test_nothing_missing_and_pictures_of_another_size():
    model = Palette(PixelNet((1, 4, 4), hidden=8, depth=1), (1, 4, 4))
    model.degrade = lambda x: (x, torch.ones_like(x))
    assert model.loss(torch.randn(3, 1, 4, 4)) == 0
    with pytest.raises(ValueError, match="seen has shape"):
        restore(model, torch.zeros(2, 1, 5, 4), torch.zeros(2, 1, 5, 4))
    with pytest.raises(ValueError, match="known has shape"):
        restore(model, torch.zeros(2, 1, 4, 4), torch.zeros(2, 2, 4, 4))
    start = torch.randn(2, 1, 4, 4)
    both = [
        restore(model, torch.zeros_like(start), torch.zeros_like(start), 5, start)
        for _ in range(2)
    ]
    assert torch.equal(*both)  # the start is the only chance in it


# RePaint ----------------------------------------------------------------------------------


def test_both_parts_of_a_step_are_at_the_same_level():
    torch.manual_seed(0)
    S, n = cosine_schedule(50), 20_000
    x0 = torch.full((n, 2), 2.0)
    x_t = S.alpha(30) * x0 + S.sigma(30) * torch.randn(n, 2)
    known = torch.tensor([1.0, 0.0]).expand(n, 2)
    x = repaint_step(x0, x_t, x0 * known, known, 20, 30, S)
    for column in x.T:  # both N(alpha_s x0, sigma_s^2)
        assert abs(column.mean() - S.alpha(20) * 2) < 6 * S.sigma(20) / n**0.5
        assert abs(column.std() / S.sigma(20) - 1) < 6 / (2 * n) ** 0.5
    again = forward_again(x, 20, 30, S)
    for column in again.T:
        assert abs(column.mean() - S.alpha(30) * 2) < 6 * S.sigma(30) / n**0.5
        assert abs(column.std() / S.sigma(30) - 1) < 6 / (2 * n) ** 0.5
    last = repaint_step(x0 + 1, x_t, x0 * known, known, 0, 30, S)
    assert torch.equal(last, torch.where(known > 0, x0, x0 + 1))


def test_repaint_with_resampling_is_nearer_to_the_exact_conditional():
    torch.manual_seed(0)
    net = MixtureDenoiser(LAW.means.float(), LAW.sigma.float())
    model = DenoisingSteps(net, (2,), target=Clean())
    n = 1000
    seen, known = (
        torch.tensor([X1, 0.0]).expand(n, 2),
        torch.tensor([1.0, 0.0]).expand(n, 2),
    )
    truth = conditional(LAW, X1, n).float()

    def between(x):
        return (x[:, 1].abs() < 1.2).float().mean().item()

    once, often = (repaint(model, seen, known, steps=50, resample=r) for r in (1, 5))
    assert torch.equal(often[:, 0], seen[:, 0])
    assert between(once) > 0.02 > between(often)
    assert (
        wasserstein_1d(often[:, 1], truth) < 0.11 < wasserstein_1d(once[:, 1], truth) + 0.03
    )


def test_repaint_asks_the_network_in_evaluation_mode_and_gives_its_own_back():
    torch.manual_seed(0)
    net = MixtureDenoiser(LAW.means.float(), 0.2)
    model, asked = DenoisingSteps(net, (2,), target=Clean()).train(), []
    net.register_forward_pre_hook(lambda part, given: asked.append(part.training))
    repaint(model, torch.zeros(4, 2), torch.zeros(4, 2), steps=3, resample=2)
    assert asked == [False] * 6
    assert model.training
    assert net.training


# Figures of merit -------------------------------------------------------------------------


@pytest.mark.parametrize("K", [2, 8])
def test_draws_of_the_true_law_have_the_right_ratio(K):
    torch.manual_seed(0)
    n, width = 4000, torch.rand(4000, 1) + 0.1
    x, draws = width * torch.randn(n, 3), width * torch.randn(K, n, 3)
    found = calibration_ratio(draws, x)
    assert abs(found.value - right_ratio(K)) < 5 * found.error < 0.3
    assert calibration_ratio(0.5 * draws, x).value < right_ratio(K) - 0.2
    assert abs(calibration_ratio(draws[:1].expand(K, n, 3), x).value - 1) < 1e-6
    parts = [calibration_ratio(d, t).value for d, t in zip(draws.chunk(40, 1), x.chunk(40))]
    spread = torch.tensor(parts).std().item() / 40**0.5
    assert 0.6 < found.error / spread < 1.6  # of the estimate itself


def test_only_missing_numbers_count():
    torch.manual_seed(0)
    x, draws = torch.randn(50, 1, 2, 2), torch.randn(4, 50, 1, 2, 2)
    missing = (torch.rand(50, 1, 2, 2) < 0.5).float()
    far = draws + 100 * (1 - missing)
    torch.testing.assert_close(
        calibration_ratio(far, x, missing), calibration_ratio(draws, x, missing)
    )


def test_colours_follow_their_law_and_grey_keeps_the_coin_secret():
    g = torch.Generator().manual_seed(0)
    x, y = torch.randint(1, 17, (4000, 1, 4, 4), generator=g), torch.arange(4000) % 10
    drawn = colours.coloured(x, y, g)
    found, even = colours.colour_of(drawn.float()), y % 2 == 0
    assert (found[~even] == 1).all()
    assert not (found[even] == 1).any()
    assert not (found == 3).any()
    assert abs((found[even] == 0).double().mean() - 0.5) < 6 * math.sqrt(0.25 / 2000)
    assert torch.equal(drawn.sum(1, keepdim=True), x)
    purple = torch.cat([x, 0 * x, x], 1).float()
    assert (colours.colour_of(purple) == 3).all()
