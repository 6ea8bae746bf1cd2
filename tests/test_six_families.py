"""The unit challenges/six_families: its clock, its counts, its floor, its map."""

import itertools
import math

import numpy as np
import pytest
import torch
from sklearn.mixture import GaussianMixture
from torch import nn
from torch.distributions import MultivariateNormal

from gdm_course.challenges import contest, course_map, six
from gdm_course.challenges.mixture import CodeMixture, em, expect, maximise
from gdm_course.evaluation.bounds import bound_bits
from gdm_course.evaluation.likelihood import bits_per_dim
from gdm_course.protocols import abilities


class Clock:
    """Seconds that a test hands out."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


def codes(n=40, g=0):
    return torch.randint(17, (n, 64), generator=torch.Generator().manual_seed(g))


# Equal seconds ----------------------------------------------------------------------------


def test_a_training_ends_with_its_seconds_and_the_rate_falls_to_nothing():
    clock, rates = Clock(), []
    clock.now = 100.0

    def loop(fall):
        for step in range(1000):
            rates.append(fall(step))
            clock.now += 0.5
            yield step

    steps, spent = contest.for_seconds(loop, 4.0, clock)
    assert (steps, spent) == (8, 4.0)
    assert rates == [1 - k / 8 for k in range(8)]


def test_a_loop_that_ends_by_itself_is_not_asked_for_more():
    steps, spent = contest.for_seconds(lambda fall: range(3), 9.0, Clock())
    assert (steps, spent) == (3, 0.0)


# Counting ---------------------------------------------------------------------------------


def test_rows_are_counted_and_the_method_is_itself_again():
    net = nn.Linear(2, 2)
    x = torch.zeros(5, 2)
    count = contest.evaluations([(net, "forward")], lambda: (net(x), net(x[:2])), 5)
    assert count == (7 / 5, 2)
    assert "forward" not in vars(net)
    with (
        pytest.raises(RuntimeError),
        contest.counted([(net, "forward")], []),
    ):
        net(torch.zeros(5, 3))
    assert "forward" not in vars(net)


@pytest.fixture(scope="module")
def players():
    torch.manual_seed(0)
    return {who.family: who for who in six.everybody(codes())}


# What a bound and a sample cost is known from the algorithm, not from the code.
KNOWN = {
    "mixture": (0, 0),
    "autoregressive": (1, 64),  # one pass for all conditionals; a pixel at a time
    "flow": (16, 1),  # 16 draws of the noise
    "vae": (1 + 64, 1),  # an encoder, 64 decoders
    "diffusion": (20, 25),  # 20 draws of a step; DDIM
    "energy": (None, 100),
    "gan": (None, 1),
}


@pytest.mark.parametrize("family", KNOWN)
def test_evaluations_are_what_the_algorithm_says(players, family):
    who, (likelihood, sample) = players[family], KNOWN[family]
    x = codes(3)
    drawn = contest.evaluations(who.ear, lambda: who.pictures(2), 2)
    assert drawn.each == sample
    if likelihood is None:
        with pytest.raises(TypeError, match="says no likelihood"):
            contest.nats(who, x)
        return
    told = contest.evaluations(who.ear, lambda: contest.nats(who, x), 3)
    assert told.each == likelihood
    assert contest.nats(who, x).shape == (3,)


@pytest.mark.parametrize("family", KNOWN)
def test_pictures_are_codes_whatever_a_model_draws(players, family):
    x = players[family].pictures(3)
    assert x.shape == (3, 1, 8, 8)
    assert x.dtype == torch.uint8
    assert x.max() <= 16
    assert six.unsigned(six.signed(codes())).round().long().equal(codes())


def test_what_is_said_of_the_likelihood_is_what_the_methods_say(players):
    said = {family: who.says for family, who in players.items()}
    assert said == {
        "mixture": "bound",
        "autoregressive": "exact",
        "flow": "bound",
        "vae": "bound",
        "energy": "none",
        "gan": "none",
        "diffusion": "bound",
    }


@pytest.mark.parametrize("family", ["autoregressive", "vae"])
def test_nats_are_in_the_space_of_the_evaluation_room(players, family):
    """An untrained model is near one guess in 17, and equals what the room measures."""
    who, x = players[family], codes(8)
    bits = bits_per_dim(contest.nats(who, x).mean().item(), 64)
    assert bits > math.log2(17) - 1
    if who.says == "exact":
        with torch.no_grad():
            log_p = who.model.eval().log_prob(who.shown(x))
        assert torch.allclose(contest.nats(who, x), -log_p.double(), atol=1e-3)
    else:
        torch.manual_seed(3)
        wanted = bound_bits(who.model, who.shown(x), batch=256, k=64).value
        torch.manual_seed(3)
        assert bits_per_dim(contest.nats(who, x).mean().item(), 64) == pytest.approx(wanted)


# Figures ----------------------------------------------------------------------------------


def test_a_paired_difference_is_as_good_as_its_pairs():
    g = torch.Generator().manual_seed(0)
    hard = 20 * torch.randn(500, generator=g).double()
    a, b = hard + 1 + 0.1 * torch.randn(500, generator=g), hard
    gap = contest.paired(a, b)
    assert gap.value == pytest.approx(np.mean((a - b).numpy()))
    assert gap.error == pytest.approx(np.std((a - b).numpy(), ddof=1) / math.sqrt(500))
    assert gap.error < 0.01 < a.std() / math.sqrt(500)


def test_the_front_is_what_nobody_beats():
    rng = np.random.default_rng(0)
    points = rng.integers(0, 6, (30, 2)).tolist()
    front = contest.pareto(*zip(*points))
    for i, (x, y) in enumerate(points):
        beaten = any(a <= x and b <= y and (a < x or b < y) for a, b in points)
        assert front[i] is not beaten
    assert contest.pareto([1, 1], [2, 2]) == [True, True]  # equals do not beat each other


# Claims -----------------------------------------------------------------------------------


@pytest.mark.parametrize("family", KNOWN)
def test_every_claim_is_kept_and_no_ability_is_hidden(players, family):
    who = players[family]
    assert contest.exercised(who.model, who.shown(codes(3))) == abilities(who.model)


def test_a_claim_that_is_not_kept_is_found():
    class Boaster(nn.Module):
        def sample(self, n):
            return torch.zeros(n + 1, 2)

    class Silent(nn.Module):
        def log_prob(self, x):
            raise AttributeError("no such thing")

    for model in (Boaster(), Silent()):
        with pytest.raises(AssertionError):
            contest.exercised(model, torch.zeros(3, 2))


# The floor --------------------------------------------------------------------------------


def test_em_never_gets_worse_and_is_the_libraries():
    """The same start and ridge as scikit-learn's EM, after as many steps."""
    g = torch.Generator().manual_seed(1)
    x = torch.randn(300, 3, generator=g).double() * torch.tensor([1.0, 2.0, 0.5])
    x[:150] += 3
    mu, root = x[[0, 200]].clone(), torch.eye(3).double().expand(2, 3, 3).clone()
    model = CodeMixture(3, 9, K=2, ridge=1e-6).double()
    model.mu.copy_(mu), model.root.copy_(root)
    model.log_pi.fill_(math.log(0.5))
    seen = []
    for _ in range(10):
        q, log_p = expect(model, x)
        maximise(model, x, q)
        seen.append(log_p)
    assert all(b >= a - 1e-9 for a, b in itertools.pairwise(seen))
    theirs = GaussianMixture(
        2, max_iter=10, tol=0, weights_init=[0.5, 0.5], means_init=mu.numpy(),
        precisions_init=root.numpy(), reg_covar=1e-6,
    )  # fmt: skip
    with pytest.warns(UserWarning, match="converge"):
        theirs.fit(x.numpy())
    assert np.allclose(model.mu.numpy(), theirs.means_, atol=1e-6)
    assert np.allclose((model.root @ model.root.mT).numpy(), theirs.covariances_, atol=1e-6)
    assert np.allclose(model.log_pi.exp().numpy(), theirs.weights_, atol=1e-9)


def test_the_floors_bound_is_below_the_exact_log_p():
    """Of one wide Gaussian in one dimension, P of a code is a difference of its cdf."""
    model = CodeMixture(1, 17, K=1).double()
    model.mu.fill_(8.0), model.root.fill_(1.5)
    x = torch.tensor([[7], [10]])
    law = torch.distributions.Normal(8.0, 1.5)
    exact = (law.cdf(x[:, 0] + 1.0) - law.cdf(x[:, 0] + 0.0)).log().double()
    torch.manual_seed(0)
    elbo = torch.stack([model.elbo(x) for _ in range(4000)]).mean(0)
    iwae = model.iwae(x, 20_000)
    assert (elbo < exact).all()
    assert torch.allclose(iwae, exact, atol=0.02)


def test_the_floors_samples_follow_its_density():
    torch.manual_seed(0)
    model = CodeMixture(2, 40, K=1).double()
    root = torch.tensor([[[2.0, 0.0], [1.5, 1.0]]])
    model.mu.fill_(20.0), model.root.copy_(root)
    x = model.sample(20_000).double() + 0.5
    want = MultivariateNormal(torch.zeros(2), scale_tril=root[0]).covariance_matrix
    assert (x.mean(0) - 20).abs().max() < 0.1
    assert (torch.cov(x.T) - want - torch.eye(2) / 12).abs().max() < 0.2


def test_em_begins_at_examples_and_needs_codes():
    torch.manual_seed(0)
    model = CodeMixture(64, 17, K=3)
    losses = [loss for _, loss in em(model, codes(60), 5)]
    assert len(losses) == 5
    assert losses[-1] < losses[0]
    with pytest.raises(ValueError, match="codes"):
        next(em(model, codes(60) + 40, 1))


# The map ----------------------------------------------------------------------------------


def test_the_map_is_the_courses():
    found = course_map.read()
    depth = found.depth()
    assert depth["foundations/densities"] == 0
    for unit, needs in found.units.items():
        assert all(depth[need] < depth[unit] for need in needs)
    assert "autoregressive.made" in found.loans["flows", "autoregressive"]  # MAF on MADE
    assert "vae.vae" in found.loans["diffusion", "vae"]  # the KL of two Gaussians
    order = [*found.titles]
    assert all(order.index(a) > order.index(b) for a, b in found.loans)


def test_imports_are_found_wherever_they_are(tmp_path):
    path = tmp_path / "a.py"
    path.write_text(
        "from gdm_course.vae import conv, vae as v\nfrom gdm_course import nets\n"
        "def f():\n    from gdm_course.flows.ode import x\n    import torch.nn\n"
    )
    assert [*course_map.imported(path, {"vae", "flows"})] == [
        "vae.conv",
        "vae.vae",
        "flows.ode",
    ]
    circle = course_map.CourseMap({}, {"a/a": ("a/b",), "a/b": ("a/a",)}, {})
    with pytest.raises(ValueError, match="circle, somewhere in: a/a, a/b"):
        circle.depth()
