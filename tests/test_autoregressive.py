"""The mathematics of NADE, RNADE and MADE, each against an independent oracle."""

import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from torch.autograd.functional import jacobian

from gdm_course import protocols
from gdm_course.autoregressive import fit_plane
from gdm_course.autoregressive.made import (
    MADE,
    AnyOrderMADE,
    MaskedMLP,
    degrees,
    fill,
    masks,
)
from gdm_course.autoregressive.nade import (
    NADE,
    RNADE,
    Quantised,
    SoftmaxNADE,
    gaussian_mixture,
    prefix_activations,
)
from gdm_course.data import toy

ORDER = torch.tensor([3, 0, 5, 1, 4, 2])

DISCRETE = {
    "NADE": (lambda: NADE(6, hidden=9), 2),
    "SoftmaxNADE": (lambda: SoftmaxNADE(4, 3, hidden=8), 3),
    "MADE": (lambda: MADE(6, hidden=(10,)), 2),
    "MADE deep": (lambda: MADE(6, hidden=(12, 7, 9)), 2),
    "MADE starved": (lambda: MADE(6, hidden=(2,)), 2),  # fewer units than degrees
    "MADE orders": (lambda: MADE(6, hidden=(12, 12), orders=4), 2),
}


@pytest.fixture(params=DISCRETE)
def discrete(request):
    """A random untrained model in float64 and all states of its alphabet."""
    torch.manual_seed(0)
    make, K = DISCRETE[request.param]
    model = make().double()
    for p in model.parameters():  # far from zero, so that a forgotten term shows
        torch.nn.init.normal_(p, std=1.0)
    D = 4 if request.param == "SoftmaxNADE" else 6
    states = torch.tensor(list(itertools.product(range(K), repeat=D)))
    return model, states if K > 2 else states.double()


def test_probabilities_of_all_states_sum_to_one(discrete):
    model, states = discrete
    assert model.log_prob(states).exp().sum().item() == pytest.approx(1, abs=1e-12)


def test_samples_follow_the_density(discrete):
    """Chi-square over all states, within 6 sigma."""
    model, states = discrete
    n, K = 40_000, int(states.max()) + 1
    p = model.log_prob(states).exp().detach()
    place = K ** torch.arange(states.shape[1] - 1, -1, -1)
    torch.manual_seed(1)
    counts = (model.sample(n).long() @ place).bincount(minlength=len(states))
    often = n * p > 5
    chi2 = ((counts - n * p)[often] ** 2 / (n * p)[often]).sum().item()
    dof = int(often.sum())
    assert chi2 < dof + 6 * math.sqrt(2 * dof)
    assert counts[~often].sum() <= n * p[~often].sum() + 6 * math.sqrt(
        n * p[~often].sum() + 1
    )


def test_prefix_activations_equal_the_plain_sum_for_every_chunk():
    torch.manual_seed(0)
    x, W, c = torch.randn(4, 11), torch.randn(11, 5), torch.randn(5)
    plain = torch.stack([c + x[:, :d] @ W[:d] for d in range(11)], dim=1)
    for chunk in (1, 2, 4, 11, 28):
        parts = list(prefix_activations(x, W, c, chunk))
        torch.testing.assert_close(torch.cat([a for _, a in parts], dim=1), plain)
        assert torch.cat([x[:, now] for now, _ in parts], dim=1).equal(x)


def test_nade_is_its_equations():
    """Equations (3) and (4), one dimension and one image at a time."""
    torch.manual_seed(0)
    model = NADE(5, hidden=4).double()
    x = torch.tensor([[1.0, 0, 1, 1, 0], [0, 0, 1, 0, 1]]).double()
    for image, log_p in zip(x, model.log_prob(x)):
        total, a = 0.0, model.c
        for d in range(5):
            p = torch.sigmoid(model.b[d] + model.V[d] @ torch.sigmoid(a))
            total += torch.log(p if image[d] == 1 else 1 - p)
            a = a + image[d] * model.W[d]
        torch.testing.assert_close(log_p, total)


def test_rnade_is_its_equations():
    """A sum of Gaussian densities per dimension, written without torch.distributions."""
    torch.manual_seed(0)
    model = RNADE(3, hidden=7, components=4).double()
    model.rho.data.uniform_(0.5, 2)
    x, log_p = torch.randn(5, 3).double(), 0.0
    for d in range(3):
        a = model.c + x[:, :d] @ model.W[:d]
        weights, mu, log_sigma = (
            torch.relu(model.rho[d] * a) @ model.V[d] + model.b[d]
        ).chunk(3, dim=1)
        sigma = log_sigma.exp()
        normal = torch.exp(-(((x[:, d, None] - mu) / sigma) ** 2) / 2) / sigma
        density = (weights.softmax(1) * normal).sum(1) / math.sqrt(2 * math.pi)
        log_p = log_p + density.log()
    torch.testing.assert_close(model.log_prob(x), log_p)


def test_rnade_integrates_to_one():
    torch.manual_seed(0)
    model = RNADE(2, hidden=8, components=3).double()
    model.b.data.mul_(0.3)  # components no narrower than the grid can see
    at = torch.linspace(-14, 14, 1401).double()
    log_p = model.log_prob(torch.cartesian_prod(at, at)).detach()
    assert log_p.exp().sum().item() * 0.02**2 == pytest.approx(1, abs=1e-3)


def test_rnade_samples_follow_its_conditionals():
    """The probability integral transform of samples is uniform: Kolmogorov-Smirnov."""
    torch.manual_seed(0)
    model, n = RNADE(3, hidden=16, components=3), 20_000
    torch.nn.init.normal_(model.V, std=0.3)
    x = model.sample(n)
    u = model.conditionals(x).cdf(x).detach().sort(dim=0).values  # (n, 3)
    distance = (u - (torch.arange(n)[:, None] + 0.5) / n).abs().max()
    assert distance < 2.2 / math.sqrt(n)  # probability 1e-4 per dimension under uniformity
    assert torch.corrcoef(u.T).shape == (3, 3)


def test_gaussian_mixture_reads_its_parameters_in_order():
    mixture = gaussian_mixture(
        torch.tensor([0.0, math.log(3), -1.0, 2.0, math.log(0.5), 0.0])
    )
    assert mixture.mean.item() == pytest.approx(0.25 * -1 + 0.75 * 2)
    second = 0.25 * (0.25 + 1) + 0.75 * (1 + 4)
    assert mixture.variance.item() == pytest.approx(second - mixture.mean.item() ** 2)


def test_quantised_is_a_density_and_zero_outside():
    torch.manual_seed(0)
    low, high = torch.tensor([-1.0, 0.0]), torch.tensor([3.0, 1.0])
    model = Quantised(SoftmaxNADE(2, 8), low, high, bins=8)
    at = [lo + (hi - lo) * (torch.arange(64) + 0.5) / 64 for lo, hi in zip(low, high)]
    p = model.log_prob(torch.cartesian_prod(*at)).exp()
    assert p.mean().item() * 4 == pytest.approx(1, abs=1e-5)  # the area is 4 x 1
    assert (
        model.log_prob(torch.tensor([[-1.01, 0.5], [0.0, 1.01]])).tolist()
        == [-math.inf] * 2
    )
    x = model.sample(500)
    assert ((x >= low) & (x <= high)).all()
    assert model.log_prob(x).isfinite().all()


def strictly_lower(J: torch.Tensor, order: torch.Tensor) -> bool:
    """The (D, D) pattern is strictly lower triangular in this order, and full below."""
    J = J[order][:, order]
    return bool(
        (J.triu() == 0).all() and (J.tril(-1) != 0).sum() == len(J) * (len(J) - 1) / 2
    )


def test_nade_and_softmax_free_conditionals_look_only_back():
    torch.manual_seed(0)
    x = torch.tensor([1.0, 0, 1, 1, 0, 1]).double()
    nade, rnade = NADE(6).double(), RNADE(6).double()
    J = jacobian(lambda x: nade.conditionals(x[None]).logits[0], x)
    assert strictly_lower(J, torch.arange(6))
    J = jacobian(lambda x: rnade.conditionals(x[None]).mean[0], x)
    assert strictly_lower(J, torch.arange(6))


def test_softmax_nade_looks_only_back():
    """Changing a later code never changes an earlier conditional; an earlier one does."""
    torch.manual_seed(0)
    model, x = SoftmaxNADE(5, 4), torch.tensor([[0, 1, 2, 3, 0]])
    before = model.conditionals(x).logits
    for d in range(5):
        changed = x.clone()
        changed[0, d] = (x[0, d] + 1) % 4
        moved = (model.conditionals(changed).logits - before).abs().amax((0, 2)) > 0
        assert moved.tolist() == [k > d for k in range(5)]


@pytest.mark.parametrize("hidden", [(12,), (15, 11), (20, 20, 20)])
@pytest.mark.parametrize("order", [torch.arange(6), ORDER])
def test_masked_mlp_looks_only_back(hidden, order):
    torch.manual_seed(0)
    net, m = MaskedMLP(6, hidden=hidden, outputs=2).double(), degrees(order, hidden)
    x = torch.randn(6).double()
    J = jacobian(lambda x: net(x[None], m)[0], x)  # (6, 2, 6)
    product = torch.eye(6)
    for mask in masks(m):
        product = mask.float() @ product
    assert strictly_lower(product, order)  # which chains exist
    for k in range(2):  # a rectified unit may be silent, so: nothing forbidden is there
        assert (J[order, k][:, order].triu() == 0).all()
        assert (J[:, k] != 0).any()


@pytest.mark.parametrize("hidden", [(10,), (12, 9), (3,)])
@pytest.mark.parametrize("order", [torch.arange(6), ORDER])
def test_fill_sees_what_a_full_pass_sees(hidden, order):
    """The parameters handed to `draw` are those of one forward pass over the result."""
    torch.manual_seed(0)
    net, m, seen = (
        MaskedMLP(6, hidden=hidden, outputs=3).double(),
        degrees(order, hidden),
        [],
    )

    def draw(parameters):
        seen.append(parameters)
        return parameters[:, 0] + parameters[:, 1] * torch.randn(len(parameters)).double()

    x = fill(net, m, 7, draw)
    torch.testing.assert_close(torch.stack(seen, dim=1), net(x, m)[:, order].detach())


def test_masks_are_those_of_the_degrees_asked_for():
    """Kept from pass to pass, and not a pass too long: other degrees, or under no_grad."""
    torch.manual_seed(0)
    net, x = MaskedMLP(6, hidden=(12, 9)), torch.randn(5, 6)
    for order in (torch.arange(6), ORDER, ORDER, torch.arange(6)):
        m = degrees(order, (12, 9))
        with torch.inference_mode():
            told = net(x, m)
        weights = [W * mask for W, mask in zip([p.weight for p in net.layers], masks(m))]
        h = x
        for layer, W in zip(net.layers[:-1], weights):
            h = F.linear(h, W, layer.bias).relu()
        torch.testing.assert_close(
            told[..., 0], F.linear(h, weights[-1], net.layers[-1].bias)
        )
        net(x, m).sum().backward()  # kept where no gradient was asked for, and still of use
    torch.testing.assert_close(
        net.double()(x.double(), m).float(), net(x.double(), m).float()
    )


def test_made_with_orders_is_their_mixture():
    torch.manual_seed(0)
    model = MADE(5, hidden=(20,), orders=3).double()
    x = (torch.rand(9, 5) < 0.5).double()
    p = [model.conditionals(x, o).log_prob(x).sum(-1).exp() for o in range(3)]
    torch.testing.assert_close(model.log_prob(x), (sum(p) / 3).log())
    assert not torch.allclose(p[0], p[1])


def test_made_takes_any_order_and_is_a_density_in_it():
    torch.manual_seed(0)
    model = AnyOrderMADE(4, hidden=(20,), orders=2).double()
    x = torch.cartesian_prod(*[torch.tensor([0.0, 1.0]).double()] * 4)
    order = torch.tensor([2, 0, 3, 1])
    p = model.conditionals(x, order)
    assert p.log_prob(x).sum(-1).exp().sum().item() == pytest.approx(1)
    changed = x.clone()
    changed[:, 3] = 1 - x[:, 3]  # the third of the order: only the last may hear of it
    moved = (model.conditionals(changed, order).logits != p.logits).any(0)
    assert moved.tolist() == [False, True, False, False]
    torch.testing.assert_close(
        model.conditionals(x, 1).logits, model.conditionals(x, model.orders[1]).logits
    )
    with pytest.raises(
        ValueError, match=r"an order of 4 dimensions is a permutation of 0..3"
    ):
        model.conditionals(x, torch.tensor([0, 1, 1, 3]))


def test_a_fresh_order_for_every_batch(monkeypatch):
    torch.manual_seed(0)
    model, seen = AnyOrderMADE(6, hidden=(8,), orders=2), []
    whole = model.logits
    noted = lambda x, order: (seen.append(tuple(order.tolist())), whole(x, order))[1]  # noqa: E731
    monkeypatch.setattr(model, "logits", noted)
    for _ in range(8):
        model.loss(torch.ones(2, 6))
    assert len(set(seen)) > 4


def test_dropout_is_for_training_only():
    torch.manual_seed(0)
    model, x = MADE(6, hidden=(50,), dropout=0.5), torch.ones(3, 6)
    assert not torch.equal(model.log_prob(x), model.log_prob(x))
    model.eval()
    assert torch.equal(model.log_prob(x), model.log_prob(x))


MODELS = {
    "NADE": (lambda: NADE(6), torch.ones(4, 6)),
    "RNADE": (lambda: RNADE(6), torch.ones(4, 6)),
    "MADE": (lambda: MADE(6, hidden=(30, 30), orders=2), torch.ones(4, 6)),
    "SoftmaxNADE": (lambda: SoftmaxNADE(6, 5), torch.full((4, 6), 2)),
    "Quantised": (
        lambda: Quantised(SoftmaxNADE(6, 9), torch.zeros(6), torch.full((6,), 2.0), bins=9),
        torch.ones(4, 6),
    ),
}


@pytest.mark.parametrize("name", MODELS)
def test_house_rules(name):
    """Protocols, shapes, a gradient for every parameter, a state dict that comes back."""
    make, x = MODELS[name]
    torch.manual_seed(0)
    model, twin = make(), make()
    for protocol in (protocols.Sampler, protocols.Trainable, protocols.Density):
        assert isinstance(model, protocol)
    assert model.sample(3).shape == (3, 6)
    assert model.log_prob(x).shape == (4,)
    for _ in range(5):  # MADE draws one order per call
        model.loss(x).backward()
    dead = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert not dead
    twin.load_state_dict(model.state_dict())
    torch.testing.assert_close(twin.log_prob(x), model.log_prob(x))


@pytest.mark.parametrize("model", [NADE(4), MADE(4)])
def test_grey_pixels_are_refused(model):
    with pytest.raises(ValueError, match="other than 0 and 1"):
        model.log_prob(torch.tensor([[0.0, 1.0, 0.5, 0.0]]))


def test_fit_plane_learns_two_moons():
    moons = toy.get("two_moons")
    g = torch.Generator().manual_seed(0)
    x = moons.sample(4000, g)
    model = fit_plane(x, steps=300)
    held_out = moons.sample(4000, g)
    gap = (moons.log_prob(held_out) - model.log_prob(held_out)).mean().item()
    assert 0 < gap < 0.35  # one Gaussian for all is off by more than 0.9


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU on this machine")
@pytest.mark.parametrize("name", MODELS)
def test_cpu_and_gpu_agree(name):
    make, x = MODELS[name]
    torch.manual_seed(0)
    model = make().eval()
    here = model.log_prob(x)
    there = model.cuda().log_prob(x.cuda()).cpu()
    torch.testing.assert_close(here, there, rtol=1e-4, atol=1e-4)
    assert model.sample(2).is_cuda
