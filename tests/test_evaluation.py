"""Likelihoods against numbers worked out by hand, and the one conversion of units."""

import math

import pytest
import scipy.linalg
import torch
from torch import nn

from gdm_course.evaluation.likelihood import (
    bits_per_dim,
    compare,
    estimate,
    log_probs,
    nll,
    nll_estimate,
)
from gdm_course.evaluation.samples import frechet


class Coins(nn.Module):
    """Independent biased coins; remembers the batches and the modes that it saw."""

    def __init__(self, p: float = 0.25):
        super().__init__()
        self.p, self.seen = nn.Parameter(torch.tensor(p)), []

    def log_prob(self, x):
        self.seen.append((len(x), self.training))
        return (x * self.p.log() + (1 - x) * (1 - self.p).log()).flatten(1).sum(-1)


def test_nll_is_the_mean_over_examples_and_the_sum_over_dimensions():
    x = torch.tensor([[1.0, 0.0], [0.0, 0.0], [1.0, 1.0]])
    a, b = -math.log(0.25), -math.log(0.75)
    assert nll(Coins(), x, batch=2) == pytest.approx(
        ((a + b) + 2 * b + 2 * a) / 3, rel=1e-6
    )


def test_unequal_last_batch_does_not_weigh_more():
    x = torch.bernoulli(torch.full((7, 5), 0.5), generator=torch.Generator().manual_seed(0))
    by_three, at_once = log_probs(Coins(), x, batch=3), log_probs(Coins(), x, batch=100)
    assert torch.equal(by_three, at_once)
    assert nll(Coins(), x, 3) == pytest.approx(-at_once.mean().item(), rel=1e-12)


def test_evaluation_mode_inside_and_the_old_mode_after():
    model = Coins().train()
    nll(model, torch.zeros(5, 2), batch=2)
    assert model.seen == [(2, False), (2, False), (1, False)]
    assert model.training


def test_no_gradient_is_kept():
    assert not log_probs(Coins(), torch.zeros(3, 2)).requires_grad


def test_a_tuple_is_handed_over_as_arguments():
    class Conditional(nn.Module):
        def log_prob(self, x, c):
            return x[:, 0] * c

    x, c = torch.tensor([[1.0], [2.0], [3.0]]), torch.tensor([10.0, 20.0, 30.0])
    assert log_probs(Conditional(), (x, c), batch=2).tolist() == [10.0, 40.0, 90.0]


def test_standard_error_of_a_mean():
    assert estimate(torch.tensor([1.0, 2.0, 3.0, 4.0])) == pytest.approx(
        (2.5, math.sqrt(5 / 3 / 4))  # unbiased variance 5/3, four examples
    )
    with pytest.raises(ValueError, match="values has length 1: expected 2 or more rows"):
        estimate(torch.tensor([1.0]))


def test_standard_error_covers_the_truth_as_often_as_it_says():
    """With 1.96 standard errors, 95 % of 400 repetitions hold the exact mean."""
    g, p = torch.Generator().manual_seed(1), 0.25
    truth = -4 * (p * math.log(p) + (1 - p) * math.log(1 - p))  # entropy of four coins
    inside = 0
    for _ in range(400):
        x = torch.bernoulli(torch.full((200, 4), p), generator=g)
        value, error = nll_estimate(Coins(p), x)
        inside += abs(value - truth) < 1.96 * error
    assert 0.95 * 400 - 6 * math.sqrt(400 * 0.95 * 0.05) < inside < 400


def test_no_log_prob_is_a_clear_error():
    with pytest.raises(TypeError, match="Linear has no log_prob"):
        nll(nn.Linear(2, 2), torch.zeros(3, 2))


@pytest.mark.parametrize("shape", [784, (1, 28, 28), torch.Size([28, 28])])
def test_bits_per_dim_of_fair_coins_is_one(shape):
    assert bits_per_dim(784 * math.log(2), shape) == pytest.approx(1.0)


def test_bits_per_dim_of_uniform_bytes_is_eight_also_for_tensors():
    nats = torch.full((3,), 12 * math.log(256), dtype=torch.float64)
    assert torch.allclose(bits_per_dim(nats, (3, 2, 2)), torch.full((3,), 8.0).double())
    with pytest.raises(ValueError, match="no dimensions"):
        bits_per_dim(1.0, (3, 0))


def test_compare_pairs_its_examples():
    """Two coins on the same throws: the paired difference, worked out by hand."""
    x = torch.tensor([[1.0] * 8, [0.0] * 8, [1.0] * 4 + [0.0] * 4])
    found = compare(Coins(0.5), Coins(0.25), x)
    up, down = 8 * math.log(2), 8 * math.log(2 / 3)
    by_hand = torch.tensor([up, down, (up + down) / 2], dtype=torch.float64)
    assert found.value == pytest.approx(by_hand.mean().item())
    assert found.error == pytest.approx(by_hand.std().item() / math.sqrt(3))
    assert compare(Coins(), Coins(), x) == (0, 0)


# Two clouds of features -------------------------------------------------------------------


def cloud(mean, root, n=400, seed=0):
    """Rows whose mean and covariance root root^T are exactly so."""
    z = torch.randn(n, len(mean), generator=torch.Generator().manual_seed(seed)).double()
    z = z - z.mean(0)
    z = z @ torch.linalg.inv(torch.linalg.cholesky(z.T.cov())).T
    return z @ root.T + mean


def test_frechet_of_gaussians_that_share_their_axes():
    a = cloud(
        torch.tensor([0.0, 1.0]).double(), torch.diag(torch.tensor([1.0, 2.0])).double()
    )
    b = cloud(
        torch.tensor([2.0, 1.0]).double(), torch.diag(torch.tensor([3.0, 0.5])).double()
    )
    assert frechet(a, b).item() == pytest.approx(4 + 2**2 + 1.5**2)
    assert frechet(a, a[torch.randperm(400)]).abs() < 1e-9


def test_frechet_of_any_gaussians():
    roots = torch.randn(2, 3, 3, generator=torch.Generator().manual_seed(1)).double()
    a, b = (cloud(torch.zeros(3).double(), root) for root in roots)
    C_a, C_b = (root @ root.T for root in roots)
    cross = scipy.linalg.sqrtm((C_a @ C_b).numpy()).real.trace()
    expected = (C_a.trace() + C_b.trace()).item() - 2 * cross
    assert frechet(a, b).item() == pytest.approx(expected, rel=1e-9)
    assert frechet(b, a).item() == pytest.approx(expected, rel=1e-9)


def test_frechet_of_constant_features_is_finite():
    a = torch.zeros(5, 3)
    assert frechet(a, a + 1).item() == pytest.approx(3)


def test_frechet_wants_two_tables_alike():
    a = torch.zeros(5, 3)
    with pytest.raises(ValueError, match="expected"):
        frechet(a, a[:, :2])
    with pytest.raises(ValueError, match="expected 2 or more rows"):
        frechet(a[:1], a)
