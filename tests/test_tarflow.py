"""MAF of patches: one pass one way, patch by patch the other, one likelihood for both uses.

References: Zhai and others (2024), arXiv:2412.06329.
"""

import math
from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch.autograd.functional import jacobian
from torch.distributions import MultivariateNormal, Normal

from gdm_course.data import toy
from gdm_course.flows.flow import Flow
from gdm_course.flows.patches import (
    PatchConditioner,
    PatchLayer,
    cached,
    from_patches,
    to_patches,
    whole_passes,
)
from gdm_course.flows.tarflow import DequantisedTarFlow, Equalise, TarFlow
from gdm_course.scale import pictures as pictures_of_recipes
from gdm_course.training import train

SMALL = {"width": 8, "depth": 1}


def shaken(model, seed=0, dtype=torch.float64, scale=0.3):
    """Weights off their start, where every layer is the identity."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for p in model.parameters():
            p += scale * torch.randn_like(p)
    return model.to(dtype).eval()


def flow(shape=(2, 4, 6), seed=0, dtype=torch.float64, scale=0.3, **more):
    return shaken(TarFlow(shape, **{**SMALL, **more}), seed, dtype, scale)


def pictures(n=5, shape=(2, 4, 6), seed=1, dtype=torch.float64):
    return torch.randn(n, *shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def flat(way, y, x):
    """What a map makes of one picture, in one row."""
    return way(x[None], y)[0].flatten()


def test_patches_are_squares_row_by_row():
    x = pictures()
    s = to_patches(x, 2)
    assert s.shape == (5, 6, 8)
    torch.testing.assert_close(s, F.unfold(x, 2, stride=2).mT, rtol=0, atol=0)
    torch.testing.assert_close(from_patches(s, (2, 4, 6), 2), x, rtol=0, atol=0)


def test_a_new_model_is_the_identity():
    x = pictures(dtype=torch.float32)
    z, log_det = TarFlow((2, 4, 6), **SMALL)(x)
    torch.testing.assert_close(z, x, rtol=0, atol=0)
    assert (log_det == 0).all()


@pytest.mark.parametrize("classes", [0, 3])
def test_log_det_is_that_of_autograds_jacobian(classes):
    shape = (1, 4, 4)
    model, x = flow(shape, classes=classes), pictures(3, shape)
    y = torch.tensor([2, 0, 1]) if classes else None
    z, log_det = model(x, y)
    back, minus = model.inverse(z, y)
    torch.testing.assert_close(back, x)
    torch.testing.assert_close(minus, -log_det)
    for i in range(3):
        told = None if y is None else y[i : i + 1]
        for way, start, found in (
            (model, x[i], log_det[i]),
            (model.inverse, z[i], minus[i]),
        ):
            there = partial(flat, way, told)
            J = jacobian(there, start).flatten(1)
            torch.testing.assert_close(found, J.det().abs().log())


@pytest.mark.parametrize("backwards", [False, True])
def test_a_patch_is_told_by_those_before_it_alone(backwards):
    """The Jacobian in patches is triangular, and diagonal within a patch."""
    net = PatchConditioner(6, 8, **SMALL)
    layer = shaken(PatchLayer(net, 2, backwards=backwards))
    y = torch.zeros(1, dtype=torch.int64)

    def in_patches(s):
        x = from_patches(s[None], (2, 4, 6), 2)
        return to_patches(layer(x, y)[0], 2)[0]

    J = jacobian(in_patches, torch.randn(6, 8).double())  # (6, 8, 6, 8)
    J = J.flip(0, 2) if backwards else J
    for i in range(6):
        assert (J[i, :, i + 1 :] == 0).all()
        own = J[i, :, i]
        assert (own == own.diag().diag()).all()
        assert (own.diag() > 0).all()
        assert (J[i, :, :i].abs().amax((0, 2)) > 0).all()  # all before it do count


@pytest.mark.parametrize(("dtype", "atol"), [(torch.float32, 1e-4), (torch.float64, 1e-9)])
@pytest.mark.parametrize("classes", [0, 3])
def test_inverse_round_trip_with_and_without_the_cache(dtype, atol, classes):
    model, x = flow(dtype=dtype, classes=classes, layers=3), pictures(20, dtype=dtype)
    y = torch.arange(20) % 3 if classes else None
    z, log_det = model(x, y)
    assert (z - x).abs().max() > 0.1
    for grad in (False, True):
        with torch.set_grad_enabled(grad):
            back, minus = model.inverse(z.detach(), y)
        torch.testing.assert_close(back, x, atol=atol, rtol=atol)
        torch.testing.assert_close(minus, -log_det, atol=10 * atol, rtol=10 * atol)


def test_draws_are_equal_with_and_without_the_cache_and_each_patch_enters_once():
    model = flow(classes=3)
    entered = []
    for layer in model.layers:
        layer.net.embed.register_forward_hook(lambda _, x, __: entered.append(x[0][..., 0]))
    y = torch.tensor([0, 1, 2, 0])
    torch.manual_seed(3)
    drawn = model.sample(4, y=y)
    assert sum(x.numel() for x in entered) == 4 * 6 * len(model.layers)
    torch.manual_seed(3)
    z = model.base.sample((4,))
    torch.testing.assert_close(model.inverse(z, y)[0], drawn)  # with gradients: no cache
    s, net = to_patches(z, 2), model.layers[0].net
    for quick, slow in zip(cached(net, s, y), whole_passes(net, s, y), strict=True):
        torch.testing.assert_close(quick, slow)


@pytest.mark.parametrize("y", [None, 0, 1])
def test_density_of_two_pixels_integrates_to_one(y):
    points, area = toy.cells(((-20, 20), (-20, 20)), 300)
    model = flow((1, 1, 2), patch=1, classes=0 if y is None else 2, scale=0.2)
    x = points.double().view(-1, 1, 1, 2)
    labels = () if y is None else (torch.full((len(x),), y),)
    with torch.no_grad():
        total = model.log_prob(x, *labels).exp().sum() * area
    assert abs(total - 1) < 1e-3


def test_one_layer_of_patches_of_one_pixel_is_a_product_of_gaussians():
    """MAF's (4)."""
    model, x = flow((1, 2, 3), patch=1, layers=1), pictures(7, (1, 2, 3))
    mu, log_sigma = model.layers[0].net(to_patches(x, 1), torch.zeros(7).long())
    product = Normal(mu, log_sigma.exp()).log_prob(to_patches(x, 1)).sum((1, 2))
    torch.testing.assert_close(model.log_prob(x), product)


def test_linear_conditioners_make_a_gaussian():
    """x = A x + sigma z with A strictly lower triangular, then the same from the end."""
    torch.manual_seed(0)
    A, log_sigma = torch.randn(6, 6).double().tril(-1) / 2, torch.randn(6).double() / 2

    class Linear(torch.nn.Module):
        def forward(self, s, y):
            mu = s[..., 0] @ A.T
            return mu[..., None], log_sigma[:, None].expand(len(s), 6, 1)

    model = TarFlow((1, 2, 3), patch=1, layers=2, **SMALL).double()
    for layer in model.layers:
        layer.net = Linear()
    eye, turn = torch.eye(6).double(), torch.eye(6).double().flip(0)
    one = torch.diag(torch.exp(-log_sigma)) @ (eye - A)  # z = one x
    whole = turn @ one @ turn @ one
    truth = MultivariateNormal(torch.zeros(6).double(), precision_matrix=whole.T @ whole)
    x = pictures(9, (1, 2, 3))
    torch.testing.assert_close(model.log_prob(x), truth.log_prob(x.flatten(1)))


def test_without_a_label_the_density_is_the_mean_over_labels():
    model, x = flow(classes=3), pictures(4)
    each = model.log_prob_each(x)
    assert each.shape == (4, 3)
    for y in range(3):
        told = model.log_prob(x, torch.full((4,), y))
        torch.testing.assert_close(each[:, y], told)
    assert (each.std(1) > 0.01).all()
    torch.testing.assert_close(model.log_prob(x).exp(), each.exp().mean(1))


def test_bayes_rule_classifies_and_labels_are_drawn():
    """Two classes: bright above and bright below."""
    torch.manual_seed(0)
    y = torch.arange(256) % 2
    bright = torch.stack([1 - y, y], dim=1).float()  # rows
    x = 2 * bright[:, None, :, None] + torch.randn(256, 1, 2, 2) / 2
    model = TarFlow((1, 2, 2), patch=1, layers=2, classes=2, **SMALL)
    for _ in train(model, [(x, y)] * 150, 150, lr=1e-2):
        pass
    entropy = MultivariateNormal(torch.zeros(4), torch.eye(4) / 4).entropy()
    assert model.loss(x, y) < entropy + 0.15
    assert (model.log_prob_each(x).argmax(1) == y).float().mean() > 0.97
    drawn = model.sample(200, y=y[:200])
    rows = drawn.mean((1, 3))  # (200, 2)
    assert (rows.argmax(1) == y[:200]).float().mean() > 0.95


def test_rounding_the_network_keeps_the_likelihood_exact():
    """Under bfloat16 the map is another one, but still a map with that log_det."""
    model = flow((1, 1, 2), patch=1, dtype=torch.float32, scale=0.2)
    points, area = toy.cells(((-20, 20), (-20, 20)), 300)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        total = model.log_prob(points.float().view(-1, 1, 1, 2)).exp().sum() * area
    assert abs(total - 1) < 1e-2


def test_codes_have_all_the_mass_together():
    """Summed over codes, the mean of exp(elbo) over noise is the mass within (0, 1)."""
    torch.manual_seed(0)
    model = DequantisedTarFlow((1, 1, 1), 4, patch=1, layers=2, **SMALL)
    shaken(model, dtype=torch.float32, scale=0.2)
    model.cells.fit(torch.tensor([0, 0, 0, 0, 1, 3]))
    codes = torch.arange(4).repeat(20_000).view(-1, 1, 1, 1)
    with torch.no_grad():
        p = model.elbo(codes).exp().view(-1, 4).mean(0)
        ends = torch.logit(torch.tensor([0.05, 0.95]))
        line = torch.linspace(*ends.tolist(), 4001).view(-1, 1, 1, 1)
        mass = torch.trapezoid(model.flow.log_prob(line).exp(), line.flatten())
        drawn = model.sample(20_000).flatten()
    assert abs(p.sum() - mass) < 0.02
    inside = torch.bincount(drawn, minlength=4)[1:3] / len(
        drawn
    )  # ends take what is outside
    torch.testing.assert_close(inside, p[1:3], atol=0.02, rtol=0)


def test_equalised_cells_are_as_wide_as_they_are_used():
    cells, codes = Equalise(4).double(), torch.tensor([0] * 90 + [1] * 6 + [3] * 4)
    x = torch.rand(300, 2, generator=torch.Generator().manual_seed(0)).double()
    torch.testing.assert_close(cells(x)[0], x)  # a new one is the identity
    cells.fit(codes)
    shares = 0.95 * np.array([0.9, 0.06, 0, 0.04]) + 0.05 / 4
    ends = np.concatenate([[0], shares.cumsum()])
    x.requires_grad_()
    v, log_det = cells(x)
    truth = np.interp(x.detach().numpy(), np.arange(5) / 4, ends)
    np.testing.assert_allclose(v.detach().numpy(), truth)
    slope = torch.autograd.grad(v.sum(), x)[0]
    torch.testing.assert_close(slope.log().sum(1), log_det)
    back, minus = cells.inverse(v)
    torch.testing.assert_close(back, x)
    torch.testing.assert_close(minus, -log_det)
    ends = torch.tensor([[0.0, 1.0]]).double()
    torch.testing.assert_close(cells(ends)[0], ends)
    torch.testing.assert_close(cells.inverse(ends)[0], ends)
    cells.p.mul_(1.1)  # as if a file had rounded them
    torch.testing.assert_close(cells(x)[0], v)
    with pytest.raises(ValueError, match="expected codes 0 to 3"):
        cells.fit(codes + 1)


def test_a_recipe_fits_the_cells_to_its_data():
    x = torch.randint(2, (20, 1, 4, 4)).byte()
    for data in (x, (x, torch.zeros(20).long())):
        model = DequantisedTarFlow((1, 4, 4), 5, **SMALL)
        pictures_of_recipes.equalised(model, data)
        assert model.cells.p[2:].max() < 0.02
        torch.testing.assert_close(model.cells.p.sum(), torch.tensor(1.0))


def test_bounds_of_labelled_codes():
    model = shaken(
        DequantisedTarFlow((1, 4, 4), 5, classes=3, **SMALL), dtype=torch.float32
    )
    x, y = torch.randint(5, (6, 1, 4, 4)), torch.arange(6) % 3
    torch.manual_seed(1)
    each = torch.stack([told(model, x, torch.full_like(y, k)) for k in range(3)])
    total = each.logsumexp(0) - math.log(3)
    torch.testing.assert_close(told(model, x, None), total)
    torch.testing.assert_close(told(model, x, y), each[y, torch.arange(6)])
    assert model.sample(3, y=y[:3]).max() < 5


def told(model, x, y):
    torch.manual_seed(4)
    return model.elbo(x, y)


def test_it_is_a_flow_that_refuses_what_cannot_be_cut():
    assert isinstance(flow(), Flow)
    with pytest.raises(ValueError, match="cannot be cut into patches of 3 x 3: expected"):
        TarFlow((1, 8, 8), patch=3)
    with pytest.raises(ValueError, match="cannot be shared equally by 3 heads"):
        TarFlow((1, 8, 8), width=8, heads=3)
    for wrong in ({"patch": 0}, {"layers": 0}, {"width": -3}, {"depth": 0}, {"heads": 0}):
        with pytest.raises(ValueError, match=f"{next(iter(wrong))} is .*: expected"):
            TarFlow((1, 8, 8), **wrong)
    with pytest.raises(ValueError, match="classes is -1: expected"):
        TarFlow((1, 8, 8), classes=-1)
    with pytest.raises(ValueError, match="cannot be cut"):
        TarFlow((8, 8))
