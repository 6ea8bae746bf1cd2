"""Couplings, image flows and dequantisation, against autograd, zuko and exact sums."""

import itertools
import math

import pytest
import torch
from ddp_runs import two_processes
from torch import nn
from torch.autograd.functional import jacobian
from torch.distributions import Normal

from gdm_course import protocols
from gdm_course.evaluation.bounds import bound_bits, tight_bits
from gdm_course.evaluation.likelihood import bits_per_dim
from gdm_course.flows import glow
from gdm_course.flows.dequantisation import (
    Dequantised,
    DequantisedGlow,
    Logit,
    VariationalNoise,
)
from gdm_course.flows.flow import Flow
from gdm_course.flows.glow import Glow, InvertibleConv, MaskedCoupling, Scale, checkerboard
from gdm_course.flows.realnvp import (
    NICE,
    ActNorm,
    AdditiveCoupling,
    AffineCoupling,
    RealNVP,
    bounded,
)
from gdm_course.learning import teaching
from gdm_course.nets import conv_net, mlp
from gdm_course.training import forever, train


def shaken(layer: nn.Module, scale: float = 0.3) -> nn.Module:
    """Move every parameter away from its start, where couplings are the identity."""
    torch.manual_seed(1)
    for p in layer.parameters():
        p.data.add_(scale * torch.randn_like(p))
    return layer.double().eval()


PLANE = {
    "additive": lambda: AdditiveCoupling(mlp((3, 8, 2))),
    "additive, swapped": lambda: AdditiveCoupling(mlp((2, 8, 3)), swap=True),
    "affine": lambda: AffineCoupling(mlp((3, 8, 4))),
    "affine, swapped": lambda: AffineCoupling(mlp((2, 8, 6)), swap=True),
    "masked": lambda: MaskedCoupling(torch.tensor([1.0, 0, 0, 1, 0]), mlp((5, 8, 10))),
    "actnorm": lambda: ActNorm(5),
    "NICE": lambda: NICE(5, layers=3, hidden=8),
    "RealNVP": lambda: RealNVP(5, layers=3, hidden=8),
}
IMAGE = {
    "affine": lambda: AffineCoupling(conv_net(1, 2, hidden=4, blocks=1)),
    "checkerboard": lambda: MaskedCoupling(
        checkerboard(4, 4), conv_net(2, 4, hidden=4, blocks=1)
    ),
    "actnorm": lambda: ActNorm(2),
    "1x1 convolution": lambda: InvertibleConv(2),
    "one scale": lambda: Scale(ActNorm(8)),
    "two scales": lambda: Scale(InvertibleConv(8), Scale(ActNorm(16))),
    "Glow": lambda: Glow((2, 4, 4), steps=2, checkers=2, hidden=4),
}
LAYERS = {name: (make, (5,)) for name, make in PLANE.items()}
LAYERS |= {f"{name} of images": (make, (2, 4, 4)) for name, make in IMAGE.items()}


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize(("dtype", "most"), [(torch.float32, 1e-5), (torch.float64, 1e-10)])
def test_inverse_undoes_forward_both_ways(name, dtype, most):
    make, shape = LAYERS[name]
    torch.manual_seed(0)
    layer, x = shaken(make(), 0.1).to(dtype), torch.randn(64, *shape, dtype=dtype)
    z, log_det = layer(x)
    back, minus = layer.inverse(z)
    assert (back - x).abs().max() < most * x.abs().max()
    torch.testing.assert_close(log_det, -minus)
    assert log_det.shape == (64,)
    there = layer(layer.inverse(x)[0])[0]
    assert (there - x).abs().max() < most * x.abs().max()


@pytest.mark.parametrize("name", LAYERS)
def test_log_det_is_that_of_autograds_jacobian(name):
    make, shape = LAYERS[name]
    torch.manual_seed(0)
    layer, D = shaken(make()), math.prod(shape)
    for x in torch.randn(3, *shape, dtype=torch.float64):
        J = jacobian(lambda x: layer(x[None])[0][0], x).reshape(D, D)
        torch.testing.assert_close(layer(x[None])[1][0], J.slogdet()[1])
        assert not torch.equal(J, torch.eye(D).double())


def test_a_coupling_is_triangular_and_leaves_one_half_alone():
    layer, x = shaken(AffineCoupling(mlp((3, 8, 4)))), torch.randn(5).double()
    J = jacobian(lambda x: layer(x[None])[0][0], x)
    assert torch.equal(J[:3, :3], torch.eye(3).double())
    assert (J[:3, 3:] == 0).all()
    assert (J[3:, :3] != 0).all()
    assert (J[3:, 3:] == J[3:, 3:].diagonal().diag()).all()


def test_every_dimension_is_changed_by_a_stack():
    x = torch.randn(5).double()
    for flow in (shaken(NICE(5)), shaken(RealNVP(5))):
        J = jacobian(lambda x, flow=flow: flow(x[None])[0][0], x)
        assert (J != 0).all()


@pytest.mark.parametrize("log_scale", [-1e4, -3.0, 0.0, 3.0, 1e4])
def test_log_scales_stay_within_their_bound(log_scale):
    raw = torch.tensor(log_scale, dtype=torch.float64, requires_grad=True)
    s = bounded(raw, 2.0)
    assert abs(s.item()) < 2
    assert torch.autograd.grad(s, raw)[0] > 0
    assert s.sign() == raw.sign()


@pytest.mark.parametrize("bound", [0.5, 2.0, math.inf])
def test_the_bound_of_a_flow_is_that_of_all_its_layers(bound):
    flow, a = shaken(RealNVP(4, layers=3, bound=bound)), 1e3 * torch.randn(50, 2).double()
    for layer in flow.layers[1:]:
        s, raw = layer.shift_and_scale(a)[1], layer.net(a)[:, 2:]
        assert raw.abs().max() > 3
        assert s.abs().max() < bound
        if bound == math.inf:
            assert torch.equal(s, raw)


def test_zuko_agrees_on_an_affine_coupling():
    transforms = pytest.importorskip("zuko").transforms
    layer, x = shaken(AffineCoupling(mlp((3, 8, 4)))), torch.randn(7, 5).double()

    def meta(a):
        t, s = layer.shift_and_scale(a)
        affine = torch.distributions.AffineTransform(t, s.exp(), event_dim=1)
        return affine

    mask = torch.tensor([True, True, True, False, False])
    theirs = transforms.CouplingTransform(meta, mask)
    z, log_det = layer(x)
    torch.testing.assert_close(theirs(x), z)
    torch.testing.assert_close(theirs.log_abs_det_jacobian(x, z), log_det)


def test_zuko_agrees_on_a_whole_flow():
    """The density of four additive couplings, put together from zuko's parts."""
    zuko = pytest.importorskip("zuko")
    flow, x = shaken(NICE(2, layers=4, hidden=8)), torch.randn(9, 2).double()
    *couplings, norm = flow.layers
    parts = []
    for k, layer in enumerate(couplings):
        mask = torch.tensor([k % 2 == 0, k % 2 == 1])

        def meta(a, layer=layer):
            shift = layer.net(a)
            return zuko.transforms.MonotonicAffineTransform(shift, 0 * shift)

        def summed(a, meta=meta):
            return torch.distributions.IndependentTransform(meta(a), 1)

        parts.append(zuko.transforms.CouplingTransform(summed, mask))
    scale = norm.log_scale.exp()
    last = torch.distributions.AffineTransform(-norm.mean * scale, scale, event_dim=1)
    chain = zuko.transforms.ComposedTransform(*parts, last)
    theirs = zuko.distributions.NormalizingFlow(chain, flow.base)
    torch.testing.assert_close(flow.log_prob(x), theirs.log_prob(x))


@pytest.mark.parametrize("make", [NICE, RealNVP])
def test_densities_integrate_to_one_and_samples_follow_them(make):
    """Counts of samples in 12 x 12 cells against the integral of the density there."""
    flow = shaken(make(2, layers=4, hidden=16), 0.2)
    side, fine = 12, 40
    at = (torch.arange(side * fine).double() + 0.5) / (side * fine) * 24 - 12
    p = flow.log_prob(torch.cartesian_prod(at, at)).exp().detach()
    cell = (at[1] - at[0]).item() ** 2
    assert p.sum().item() * cell == pytest.approx(1, abs=1e-3)
    mass = p.view(side, fine, side, fine).sum((1, 3)) * cell
    n = 20_000
    x = flow.sample(n)
    place = ((x + 12) / 24 * side).floor().long().clamp(0, side - 1)
    counts = torch.zeros(side, side).double()
    counts.index_put_(tuple(place.T), torch.ones(n).double(), accumulate=True)
    often = n * mass > 10
    chi2 = ((counts - n * mass)[often] ** 2 / (n * mass)[often]).sum().item()
    dof = int(often.sum())
    assert dof > 8
    assert chi2 < dof + 6 * math.sqrt(2 * dof)


def test_image_samples_follow_their_density():
    """-log p of samples has the mean and spread of the base, moved by log_det."""
    flow = shaken(Glow((1, 4, 4), steps=2, hidden=4), 0.1)
    x = flow.sample(4000)
    z, log_det = flow(x)
    torch.testing.assert_close(flow.log_prob(x), flow.base.log_prob(z) + log_det)
    u = Normal(0, 1).cdf(z.detach()).flatten().sort().values  # uniform, if they match
    even = (torch.arange(len(u)) + 0.5) / len(u)
    assert (u - even).abs().max() < 2.2 / math.sqrt(len(u))


def test_additive_couplings_keep_the_volume():
    flow = shaken(NICE(2))
    _, log_det = flow(torch.randn(50, 2).double())
    torch.testing.assert_close(log_det, flow.layers[-1].log_scale.sum().expand(50))
    assert shaken(RealNVP(2))(torch.randn(50, 2).double())[1].std() > 0.01


@pytest.mark.parametrize("shape", [(3,), (3, 5, 4)])
def test_actnorm_takes_its_scale_from_the_first_batch_only(shape):
    torch.manual_seed(0)
    x = 3 + 5 * torch.randn(200, *shape)
    norm = ActNorm(3)
    assert torch.equal(norm(x)[0], x)  # outside of a loss
    with teaching():
        z, _ = norm(x)
    z.sum().backward()
    flat = z.transpose(0, 1).flatten(1)
    torch.testing.assert_close(flat.mean(1), torch.zeros(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(flat.std(1), torch.ones(3))
    torch.testing.assert_close(norm(x + 100)[0], z + 100 * (z[1] - z[0]) / (x[1] - x[0]))
    loaded = ActNorm(3)
    loaded.load_state_dict(norm.state_dict())
    torch.testing.assert_close(loaded(x - 7)[0], norm(x - 7)[0])  # it does not start over


def test_actnorm_waits_for_training_and_survives_a_constant_channel():
    norm, x = ActNorm(2), torch.stack([torch.randn(50), torch.full((50,), 3.0)], dim=1)
    assert torch.equal(norm.eval()(x)[0], x)
    with teaching():
        z, log_det = norm.train()(x)
    assert z.isfinite().all()
    assert log_det.isfinite().all()
    assert (z[:, 1] == 0).all()


def start_of(norm: ActNorm, x: torch.Tensor) -> ActNorm:
    """The layer after one backward pass, as any loop makes it."""
    with teaching():
        z, log_det = norm.train()(x)
    (z.float().square().mean() - log_det.float().mean()).backward()
    return norm


@pytest.mark.parametrize("measure", ["no gradient", "a gradient in x", "nothing more"])
def test_looking_does_not_start_actnorm(measure):
    """Else a density that was only plotted, or its score, would decide what is learned."""
    flow, x = RealNVP(2, layers=2), (3 + torch.randn(20, 2)).requires_grad_()
    before = {k: v.clone() for k, v in flow.train().state_dict().items()}
    with torch.set_grad_enabled(measure != "no gradient"):
        log_p = flow.log_prob(x)
    if measure == "a gradient in x":
        torch.autograd.grad(log_p.sum(), x)
    assert all(v.equal(before[k]) for k, v in flow.state_dict().items())
    flow.loss(x).backward()
    assert flow.layers[0].ready


def test_a_flow_that_has_not_started_is_one_map_for_every_batch():
    """In training mode too: rows alone, the inverse and autograd's Jacobian agree."""
    for flow in (RealNVP(3, layers=2), NICE(3, layers=2)):
        x = (5 + 2 * torch.randn(20, 3).double()).requires_grad_()
        z, log_det = flow.double().train()(x)
        torch.testing.assert_close(flow(x[4:5])[0], z[4:5])
        torch.testing.assert_close(flow.inverse(z)[0], x)
        J = jacobian(lambda x, flow=flow: flow(x[None])[0][0], x[0])
        torch.testing.assert_close(J.slogdet()[1], log_det[0])
        assert not any(part.ready for part in flow.modules() if isinstance(part, ActNorm))


def test_actnorm_starts_from_what_a_single_row_says_only_if_it_says_a_scale():
    norm = start_of(ActNorm(2), torch.randn(1, 2))  # the last row of an epoch, say
    assert not norm.ready
    start_of(norm, 5 + torch.randn(50, 2))
    assert norm.ready
    assert (norm.mean - 5).abs().max() < 1
    image = 5 + 3 * torch.randn(1, 2, 8, 8)  # one picture, 64 numbers per channel
    assert (start_of(ActNorm(2), image).log_scale + math.log(3)).abs().max() < 0.5


@pytest.mark.parametrize("value", [0.0, 3.3, -1e4, 7e8])
def test_a_constant_channel_is_scaled_by_one_wherever_it_lies(value):
    x = torch.stack([torch.randn(1000), torch.full((1000,), value)], dim=1)
    norm = start_of(ActNorm(2), x)
    assert norm.log_scale[1] == 0
    assert norm.mean[1].item() == pytest.approx(value, rel=1e-5)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_batch_that_is_not_finite_is_no_start_in_any_loop(bad):
    flow, x = RealNVP(2, layers=2), torch.randn(20, 2)
    before = {k: v.clone() for k, v in flow.state_dict().items()}
    x[7, 1] = bad
    flow.loss(x).backward()  # a loop that does not look at its loss
    assert all(v.equal(before[k]) for k, v in flow.state_dict().items())


def test_actnorm_in_half_precision_starts_from_sums_in_single():
    torch.manual_seed(0)
    x = 100 + torch.randn(4000, 3)
    exact = start_of(ActNorm(3), x.bfloat16().float())
    with torch.autocast("cpu", torch.bfloat16):  # what a network hands on there
        half = start_of(ActNorm(3), x.bfloat16())
    torch.testing.assert_close(half.mean, exact.mean)
    torch.testing.assert_close(half.log_scale, exact.log_scale)
    whole = start_of(ActNorm(3).bfloat16(), x.bfloat16())
    assert whole(x.bfloat16())[0].dtype == torch.bfloat16
    assert whole.ready


def test_two_processes_start_and_train_as_one():
    """Each sees half of the rows; the start is that of all, and so is every weight."""
    for told in two_processes("RealNVP", "Glow"):
        assert told["gap"] == 0
        assert told["off"] < 1e-4


def test_squeeze_moves_pixels_and_nothing_else():
    x = torch.arange(2 * 3 * 4 * 6.0).view(2, 3, 4, 6)
    z = glow.squeeze(x)
    assert z.shape == (2, 12, 2, 3)
    assert torch.equal(z[1, 4:8, 1, 2], x[1, 1, 2:4, 4:6].flatten())
    assert torch.equal(glow.unsqueeze(z), x)
    with pytest.raises(ValueError, match="must be even"):
        glow.squeeze(torch.zeros(1, 1, 4, 7))


def test_checkerboards_are_complements():
    even, odd = checkerboard(3, 4), checkerboard(3, 4, odd=True)
    assert torch.equal(even + odd, torch.ones(1, 3, 4))
    assert even[0].tolist() == [[1, 0, 1, 0], [0, 1, 0, 1], [1, 0, 1, 0]]


def test_lu_determinant_is_that_of_the_matrix():
    torch.manual_seed(0)
    conv = InvertibleConv(6)
    W = lambda: (lambda L, U: conv.P @ L @ U)(*conv.factors())  # noqa: E731
    torch.testing.assert_close(W().T @ W(), torch.eye(6), atol=1e-5, rtol=1e-5)
    shaken(conv, 0.5)
    _, log_det = conv(torch.randn(1, 6, 2, 3).double())
    torch.testing.assert_close(log_det[0], 6 * W().slogdet()[1])
    x = torch.randn(2, 6, 2, 3).double()
    torch.testing.assert_close(conv(x)[0], torch.einsum("oc,bchw->bohw", W(), x))


def test_factored_out_channels_see_one_scale_only():
    """Half of z comes straight from the first scale; the inner one changes the rest."""
    x = torch.randn(3, 1, 4, 4).double()
    outer, inner = shaken(InvertibleConv(4)), shaken(ActNorm(8))
    z = glow.squeeze(Scale(outer, Scale(inner))(x)[0])
    h = outer(glow.squeeze(x))[0]
    torch.testing.assert_close(z[:, 2:], h[:, 2:])
    torch.testing.assert_close(z[:, :2], glow.unsqueeze(inner(glow.squeeze(h[:, :2]))[0]))


class Fixed(nn.Module):
    """A density of real numbers without parameters: independent normals."""

    def __init__(self, mean, scale):
        super().__init__()
        self.normal = Normal(mean, scale)

    def log_prob(self, x):
        return self.normal.log_prob(x).flatten(1).sum(1)

    def sample(self, n):
        return self.normal.sample((n,))


def exact_log_P(model: Dequantised, codes: torch.Tensor) -> torch.Tensor:
    """Integrate the model's density over the cell of every code: differences of a cdf."""
    edges = torch.arange(model.K + 1).double() / model.K
    z = torch.logit(model.logit.alpha + (1 - 2 * model.logit.alpha) * edges)
    mass = model.flow.normal.cdf(z[:, None]).diff(dim=0)  # (K, D)
    return mass.log().gather(0, codes).sum(1)


@pytest.mark.parametrize("noisy", [False, True])
def test_elbo_is_a_bound_and_many_draws_close_it(noisy):
    torch.manual_seed(0)
    noise = shaken(VariationalNoise((2,), hidden=8), 0.1) if noisy else None
    means, scales = torch.tensor([0.3, -1.0]).double(), torch.tensor([0.5, 2.0]).double()
    model = Dequantised(Fixed(means, scales), 5, noise=noise)
    codes = torch.tensor([[3, 0], [2, 1], [1, 4]])
    truth = exact_log_P(model, codes)
    draws = model.elbo(codes.double().repeat(20_000, 1)).view(20_000, 3)
    bound, error = draws.mean(0), draws.std(0) / len(draws) ** 0.5
    assert (bound + 6 * error < truth).all()
    weight = (draws - truth).exp()  # an unbiased estimate of P, relative to it: mean 1
    assert ((weight.mean(0) - 1).abs() < 6 * weight.std(0) / len(draws) ** 0.5).all()
    few = model.iwae(codes.double().repeat(2000, 1), 8).view(2000, 3).mean(0)
    assert (bound < few).all()
    assert (few < truth + 0.05).all()


def test_sampled_codes_follow_the_exact_probabilities():
    torch.manual_seed(0)
    model = Dequantised(Fixed(torch.tensor([0.2]).double(), torch.ones(1).double()), 6)
    P = exact_log_P(model, torch.arange(6)[:, None]).exp()
    ends = 1 - P.sum()  # mass beyond the first and last code goes to them
    codes, n = model.sample(20_000), 20_000
    frequency = codes.flatten().bincount(minlength=6) / n
    inner = slice(1, 5)
    allowed = 6 * (P * (1 - P) / n).sqrt()
    assert ((frequency - P).abs() < allowed)[inner].all()
    assert ends < 0.05
    assert codes.dtype == torch.int64


@pytest.mark.parametrize("shape", [(3,), (1, 2, 2)])
def test_variational_noise_knows_its_density(shape):
    """q(u | x) by autograd: the logistic density of eps by the Jacobian of eps -> u."""
    torch.manual_seed(0)
    noise, D = shaken(VariationalNoise(shape, layers=3, hidden=4)), math.prod(shape)
    x = torch.randn(1, *shape).double()

    def to_u(eps):
        for coupling in noise.couplings:
            eps, _ = coupling(eps, x)
        return torch.sigmoid(eps)

    torch.manual_seed(5)
    eps = torch.logit(torch.rand_like(x))
    torch.manual_seed(5)  # the noise draws the same eps
    u, log_q = noise(x)
    torch.testing.assert_close(u, to_u(eps))
    J = jacobian(to_u, eps).reshape(D, D)
    logistic = (-eps - 2 * torch.log1p((-eps).exp())).sum()  # log e^-x / (1 + e^-x)^2
    wanted = logistic - J.slogdet()[1]
    torch.testing.assert_close(log_q[0], wanted)
    assert (u > 0).all()
    assert (u < 1).all()


def test_variational_noise_starts_uniform():
    u, log_q = VariationalNoise((2,))(torch.zeros(5000, 2))
    torch.testing.assert_close(log_q, torch.zeros(5000), atol=1e-5, rtol=0)
    even = (torch.arange(10_000) + 0.5) / 10_000
    assert (u.flatten().sort().values - even).abs().max() < 2.2 / 100


def test_logit_is_inverted_and_its_slope_is_autograds():
    layer, x = Logit(), torch.rand(4, 3).double()
    z, log_det = layer(x)
    torch.testing.assert_close(layer.inverse(z)[0], x)
    J = jacobian(lambda x: layer(x)[0], x).reshape(12, 12).diagonal().view(4, 3)
    torch.testing.assert_close(log_det, J.log().sum(1))
    assert layer(torch.tensor([[0.0, 1.0]]))[0].isfinite().all()


def test_probabilities_of_all_codes_sum_to_one():
    """By quadrature over all 4 x 4 cells of a flow in the plane, up to the tails."""
    flow = shaken(RealNVP(2, layers=2, hidden=8), 0.2)
    model = Dequantised(flow, 4, alpha=1e-4)
    fine = (torch.arange(60).double() + 0.5) / 60
    u = torch.cartesian_prod(fine, fine)
    total = 0.0
    for code in itertools.product(range(4), repeat=2):
        z, log_det = model.logit((torch.tensor(code) + u) / 4)
        total += (flow.log_prob(z) + log_det).exp().mean().item() / 16
    assert total == pytest.approx(1, abs=2e-3)


MODELS = {
    "NICE": (lambda: NICE(4, hidden=8), lambda: torch.randn(6, 4)),
    "RealNVP": (lambda: RealNVP(4, hidden=8), lambda: torch.randn(6, 4)),
    "Glow": (
        lambda: Glow((1, 8, 8), steps=2, checkers=1, hidden=4),
        lambda: torch.randn(6, 1, 8, 8),
    ),
}


@pytest.mark.parametrize("name", MODELS)
def test_house_rules(name):
    """Protocols, shapes, a gradient for every parameter, a state dict that comes back."""
    make, draw = MODELS[name]
    torch.manual_seed(0)
    model, twin, x = make(), make(), draw()
    for protocol in (protocols.Sampler, protocols.Trainable, protocols.Density):
        assert isinstance(model, protocol)
    model.loss(x).backward()  # the first batch sets ActNorm
    model.zero_grad()
    for p in model.parameters():
        p.data.add_(0.05 * torch.randn_like(p))
    model.loss(x).backward()
    dead = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert not dead
    assert model.log_prob(x).shape == (6,)
    assert model.sample(3).shape == (3, *x.shape[1:])
    twin.load_state_dict(model.state_dict())
    torch.testing.assert_close(twin.log_prob(x), model.log_prob(x))


def test_dequantised_glow_is_no_density_and_learns():
    torch.manual_seed(0)
    make = lambda: DequantisedGlow((1, 4, 4), 8, scales=1, hidden=8, noise_layers=2)  # noqa: E731
    model = make()
    assert protocols.abilities(model) == {
        "Sampler": True,
        "Trainable": True,
        "Density": False,
    }
    x = (torch.rand(200, 1, 4, 4) ** 3 * 8).to(torch.uint8)
    losses = [loss for _, loss in train(model, forever(x, 50), 80, lr=5e-3)]
    assert losses[-1] < 16 * math.log(8)  # better than knowing nothing: log K per pixel
    model.loss(x).backward()
    assert all(p.grad is not None and p.grad.any() for p in model.parameters())
    twin = make()
    twin.load_state_dict(model.state_dict())
    torch.manual_seed(3)
    bits = bound_bits(model, x).value
    torch.manual_seed(3)
    assert bits == pytest.approx(bound_bits(twin, x).value)
    torch.manual_seed(3)
    assert bits == pytest.approx(bits_per_dim(-model.elbo(x).mean().item(), 16), rel=1e-5)
    assert tight_bits(model, x).value < bits  # more draws, a tighter bound
    assert model.sample(5).shape == (5, 1, 4, 4)


def test_errors_say_what_to_do():
    with pytest.raises(ValueError, match="needs D >= 2"):
        RealNVP(1)
    model = Dequantised(RealNVP(2), 256)
    with pytest.raises(ValueError, match="from 0 to 300: expected codes 0 to 255"):
        model.elbo(torch.tensor([[0, 300]]))
    with pytest.raises(ValueError, match="fractions"):
        model.elbo(torch.tensor([[0.5, 1.0]]))
    assert Dequantised(RealNVP(2), 256).elbo(torch.full((3, 2), 255).byte()).shape == (3,)


def test_an_empty_flow_is_the_base():
    x = torch.randn(3, 2)
    torch.testing.assert_close(Flow([], (2,)).log_prob(x), Normal(0, 1).log_prob(x).sum(1))


def test_realnvp_fits_what_nice_cannot():
    """A needle and a cloud: the floor of NICE is 0.9 nats, by the area argument."""
    torch.manual_seed(0)
    wide = torch.rand(4000, 1) < 0.5
    x = torch.where(wide, torch.randn(4000, 2), 0.1 * torch.randn(4000, 2) + 3)
    for make, low, high in ((NICE, 0.5, 2.0), (RealNVP, -0.1, 0.45)):
        torch.manual_seed(0)
        flow = make(2, layers=6)
        for _ in train(flow, forever(x, 256), 300, lr=5e-3):
            pass
        d = ((x - 3) / 0.1).square().sum(1) / -2 - math.log(0.01 * 4 * math.pi)
        truth = torch.logaddexp(x.square().sum(1) / -2 - math.log(4 * math.pi), d)
        gap = (truth - flow.log_prob(x)).mean().item()
        assert low < gap < high


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU on this machine")
@pytest.mark.parametrize("name", MODELS)
def test_cpu_and_gpu_agree(name):
    make, draw = MODELS[name]
    torch.manual_seed(0)
    model, x = make().eval(), draw()
    here = model.log_prob(x)
    there = model.cuda().log_prob(x.cuda()).cpu()
    torch.testing.assert_close(here, there, rtol=1e-4, atol=1e-4)
    assert model.sample(2).is_cuda
