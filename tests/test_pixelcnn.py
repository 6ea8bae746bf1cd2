"""The mathematics of PixelCNNs, each against an independent oracle."""

import itertools
import math

import pytest
import torch
from torch.autograd.functional import jacobian
from torch.distributions import Normal

from gdm_course import protocols, recipes
from gdm_course.autoregressive.gated_pixelcnn import GatedPixelCNN, LogisticPixelCNN
from gdm_course.autoregressive.logistics import DiscretisedLogistics
from gdm_course.autoregressive.pixelcnn import PixelCNN, raster_mask
from gdm_course.evaluation.likelihood import bits_estimate

SMALL = {"features": 12, "size": 3}
MODELS = {
    "PixelCNN": lambda shape, K: PixelCNN(shape, K, layers=2, **SMALL),
    "gated": lambda shape, K: GatedPixelCNN(shape, K, dilations=(1, 2), **SMALL),
    "logistic": lambda shape, K: LogisticPixelCNN(shape, K, dilations=(1, 2), **SMALL),
}
LABELLED = {
    "gated, classes": lambda shape, K: GatedPixelCNN(
        shape, K, dilations=(1, 2), classes=3, **SMALL
    )
}


def loud(model):
    """Weights far from zero and in float64, so that a forgotten term shows."""
    torch.manual_seed(0)
    for p in model.parameters():
        torch.nn.init.normal_(p, std=0.6)
    return model.double().eval()


def codes(n, shape, K, seed=0):
    g = torch.Generator().manual_seed(seed)
    return torch.randint(K, (n, *shape), generator=g)


@pytest.fixture(params=MODELS)
def make(request):
    return MODELS[request.param]


@pytest.fixture(params=MODELS | LABELLED)
def any_make(request):
    return (MODELS | LABELLED)[request.param]


@pytest.mark.parametrize(("shape", "K"), [((1, 2, 3), 3), ((2, 2, 2), 2), ((3, 1, 2), 3)])
def test_probabilities_of_all_images_sum_to_one(any_make, shape, K):
    model = loud(any_make(shape, K))
    every = torch.tensor(list(itertools.product(range(K), repeat=math.prod(shape))))
    total = model.log_prob(every.view(-1, *shape)).exp().sum().item()
    assert total == pytest.approx(1, abs=1e-10)


def sensitivity(model, x):
    """Derivatives of all parameters by all inputs, in the order row, column, colour."""

    def parameters(x):
        return model(x[None])[0].movedim(0, 2).flatten(0, 2)  # (H W C, P)

    J = jacobian(parameters, x)  # (D, P, C, H, W)
    return J.movedim(2, -1).flatten(2).abs().amax(1)  # (D, D)


@pytest.mark.parametrize("shape", [(1, 5, 5), (2, 4, 3), (3, 3, 4)])
def test_the_jacobian_is_strictly_triangular_in_raster_order(make, shape):
    model = loud(make(shape, 4))
    torch.manual_seed(1)
    J = sum(sensitivity(model, torch.randn(shape).double()) for _ in range(3))
    assert (J.triu() == 0).all()
    C = shape[0]
    after = torch.arange(1, len(J))
    after = after[after % (C * shape[2]) > 0]  # (a row's end may lie in the blind spot)
    assert (J[after, after - 1] > 0).float().mean() > 0.8  # the last neighbour is seen
    if C > 1:  # the first colour of a pixel helps its second
        assert (J[1::C, ::C].diagonal() > 0).float().mean() > 0.7


def test_a_network_that_peeks_sees_its_own_pixel_and_is_no_density():
    """The lecture's bug on purpose: nothing but the first mask differs."""
    for peek in (False, True):
        model = loud(PixelCNN((1, 2, 3), 3, layers=2, peek=peek, **SMALL))
        every = torch.tensor(list(itertools.product(range(3), repeat=6))).view(-1, 1, 2, 3)
        total = model.log_prob(every).exp().sum().item()
        J = sensitivity(model, codes(1, (1, 2, 3), 3)[0].double())
        assert (J.triu(1) == 0).all()
        assert (J.diagonal() != 0).any().item() == peek
        assert (abs(total - 1) > 0.01) == peek


def test_the_gated_stacks_see_everything_and_the_plain_one_does_not():
    """Row i-1, far right: the blind spot. From gradients, summed over random images."""
    plain = loud(PixelCNN((1, 6, 9), 2, features=8, layers=4, size=3))
    gated = loud(GatedPixelCNN((1, 6, 9), 2, features=8, dilations=(1,) * 5, size=3))
    torch.manual_seed(0)
    seen = {}
    for model in (plain, gated):
        J = sum(sensitivity(model, torch.randn(1, 6, 9).double()) for _ in range(4))
        seen[model] = J[3 * 9 + 2].view(6, 9) > 0
    assert not seen[plain][2, 4:].any()  # one row up, more than one column to the right
    assert seen[plain][2, :4].all()
    assert seen[gated][2].all()
    assert seen[gated][3].tolist() == [True] * 2 + [False] * 7
    assert not seen[gated][4:].any()


def test_raster_mask_by_hand():
    mask = raster_mask(torch.arange(3), torch.arange(3), 3, own=False).long()
    assert mask[1, 0].tolist() == [[1, 1, 1], [1, 1, 0], [0, 0, 0]]  # green sees red
    assert mask[1, 1].tolist() == [[1, 1, 1], [1, 0, 0], [0, 0, 0]]  # not itself
    assert raster_mask(torch.arange(3), torch.arange(3), 3, own=True)[1, 1, 1, 1]
    assert not raster_mask(torch.arange(3), torch.arange(3), 3, own=True)[1, 2, 1, 1]


@pytest.mark.parametrize("shape", [(1, 4, 5), (3, 3, 4)])
def test_cached_generation_sees_what_a_full_pass_sees(any_make, shape, monkeypatch):
    """Step by step: the parameters handed to the draw are those of one forward pass."""
    model, n = loud(any_make(shape, 4)), 3
    drawn, distribution = [], model.distribution

    def record(parameters):
        drawn.append(parameters)
        return distribution(parameters)

    monkeypatch.setattr(model, "distribution", record)
    y = torch.tensor([0, 2, 1]) if getattr(model, "classes", 0) else None
    x = model.sample(n, y)
    C, H, W = shape
    cached = torch.stack(drawn, 1).view(n, H, W, C, -1).movedim(3, 1)
    full = model(x.double() * 2 / 3 - 1, y).detach()
    torch.testing.assert_close(cached, full)
    log_p = distribution(cached).log_prob(x).flatten(1).sum(1)
    torch.testing.assert_close(log_p, model.log_prob(x, y).detach())


@pytest.mark.parametrize("R", [0, 2, 4])
def test_in_painting_keeps_what_is_given_and_continues_it(any_make, R, monkeypatch):
    shape = (2, 4, 3)
    model, drawn = loud(any_make(shape, 3)), []
    distribution = model.distribution
    record = lambda p: drawn.append(p) or distribution(p)  # noqa: E731
    given = codes(5, shape, 3)[:, :, :R]
    monkeypatch.setattr(model, "distribution", record)
    y = torch.tensor([0, 1, 2, 0, 1]) if getattr(model, "classes", 0) else None
    x = model.sample(5, y, given=given)
    assert x.shape == (5, *shape)
    assert x[:, :, :R].equal(given)
    full = model(x.double() - 1, y).detach()[:, :, R:].movedim(1, 3)
    if R < 4:
        torch.testing.assert_close(torch.stack(drawn, 1), full.flatten(1, 3))


def test_samples_follow_the_density(make):
    """Chi-square over all 64 images, within 6 sigma."""
    model, n = loud(make((1, 2, 3), 2)), 10_000
    every = torch.tensor(list(itertools.product(range(2), repeat=6))).view(-1, 1, 2, 3)
    p = model.log_prob(every).exp().detach()
    torch.manual_seed(1)
    place = 2 ** torch.arange(5, -1, -1)
    counts = (model.sample(n).flatten(1) @ place).bincount(minlength=64)
    often = n * p > 5
    chi2 = ((counts - n * p)[often] ** 2 / (n * p)[often]).sum().item()
    assert chi2 < int(often.sum()) + 6 * math.sqrt(2 * int(often.sum()))


def test_labels_change_the_model_and_their_mixture_is_the_density():
    model = loud(LABELLED["gated, classes"]((1, 3, 3), 2))
    x = codes(4, (1, 3, 3), 2)
    each = [model.log_prob(x, torch.full((4,), y)) for y in range(3)]
    assert (each[0] - each[1]).abs().min() > 1e-3
    mean = sum(p.exp() for p in each) / 3
    torch.testing.assert_close(model.log_prob(x), mean.log())
    assert model.sample(5).shape == (5, 1, 3, 3)


def test_discretised_logistics_are_differences_of_sigmoids():
    """The textbook form in float64, where it does not cancel, edges included."""
    torch.manual_seed(0)
    parameters, K = torch.randn(7, 6).double(), 17
    weights, mu, log_s = parameters.chunk(3, dim=1)
    d = DiscretisedLogistics(parameters, K)
    total = 0.0
    for x in range(K):
        v = 2 * x / (K - 1) - 1
        up = torch.sigmoid((v + 1 / 16 - mu) / log_s.exp()) if x < K - 1 else 1.0
        low = torch.sigmoid((v - 1 / 16 - mu) / log_s.exp()) if x > 0 else 0.0
        p = (weights.softmax(1) * (up - low)).sum(1)
        torch.testing.assert_close(d.log_prob(torch.full((7,), x)).exp(), p)
        total = total + p
    torch.testing.assert_close(total, torch.ones(7).double())


def test_discretised_logistics_stay_finite_where_the_difference_underflows():
    p = torch.tensor([0.0, 0.9, -6.0], requires_grad=True)  # one narrow bump far from x
    log_p = DiscretisedLogistics(p, 256).log_prob(torch.tensor([3, 0, 255]))
    assert log_p.isfinite().all()
    assert log_p[0] < -300  # the plain difference is exactly 0 here
    log_p.sum().backward()
    assert p.grad.isfinite().all()


def test_discretised_logistics_draw_their_own_frequencies():
    torch.manual_seed(0)
    d, n = DiscretisedLogistics(torch.randn(12).mul(0.7), 9), 50_000
    p = d.log_prob(torch.arange(9)).exp()
    frequency = d.sample((n,)).bincount(minlength=9) / n
    assert ((frequency - p).abs() < 6 * (p * (1 - p) / n).sqrt() + 5 / n).all()
    assert d.sample((2, 3)).shape == (2, 3)


@pytest.mark.parametrize("name", MODELS | LABELLED)
def test_house_rules(name):
    """Protocols, shapes, a gradient for every parameter, a state dict that comes back."""
    make, x = (MODELS | LABELLED)[name], codes(8, (3, 4, 4), 5)
    torch.manual_seed(0)
    model, twin = make((3, 4, 4), 5), make((3, 4, 4), 5)
    for protocol in (protocols.Sampler, protocols.Trainable, protocols.Density):
        assert isinstance(model, protocol)
    x = x.to(torch.uint8)  # as data sets have it
    labels = (torch.arange(8) % 3,) if getattr(model, "classes", 0) else ()
    assert model.log_prob(x).shape == (8,)
    model.loss(x, *labels).backward()
    dead = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert not dead
    assert model.loss(x, *labels).item() == pytest.approx(
        -model.log_prob(x, *labels).mean().item()
    )
    drawn = model.sample(2)
    assert drawn.shape == (2, 3, 4, 4)
    assert drawn.dtype == torch.int64
    assert drawn.min() >= 0
    assert drawn.max() <= 4
    twin.load_state_dict(model.state_dict())
    torch.testing.assert_close(twin.log_prob(x), model.log_prob(x))


def test_dropout_is_for_training_only():
    torch.manual_seed(0)
    model, x = GatedPixelCNN((1, 4, 4), 2, features=8, dropout=0.5), codes(3, (1, 4, 4), 2)
    assert not torch.equal(model.log_prob(x), model.log_prob(x))
    model.eval()
    assert torch.equal(model.log_prob(x), model.log_prob(x))


def test_wrong_images_and_labels_are_refused():
    model = PixelCNN((1, 4, 4), 4, **SMALL)
    with pytest.raises(ValueError, match="expected codes 0 to 3"):
        model.log_prob(torch.full((2, 1, 4, 4), 16))
    with pytest.raises(ValueError, match=r"expected \(B, 1, 4, 4\)"):
        model.log_prob(torch.zeros(2, 16))
    with pytest.raises(ValueError, match="no labels"):
        GatedPixelCNN((1, 4, 4), 4, classes=2).conditionals(torch.zeros(1, 1, 4, 4))
    with pytest.raises(ValueError, match="got labels"):
        GatedPixelCNN((1, 4, 4), 4).log_prob(torch.zeros(1, 1, 4, 4), torch.tensor([0]))


def test_training_learns_a_rule_that_only_both_stacks_can_see():
    """Each pixel copies the one two columns right in the row above: entropy 8 log 2."""
    torch.manual_seed(0)
    x = torch.randint(2, (512, 1, 4, 8))
    for i in range(1, 4):
        x[:, :, i] = x[:, :, i - 1].roll(-2, -1)
    losses = {}
    for name, model in {
        "plain": PixelCNN((1, 4, 8), 2, features=16, layers=2, size=3),
        "gated": GatedPixelCNN((1, 4, 8), 2, features=16, dilations=(1, 1), size=3),
    }.items():
        optimizer = torch.optim.Adam(model.parameters(), 1e-2)
        for _ in range(60):
            optimizer.zero_grad()
            loss = model.loss(x[torch.randint(512, (64,))])
            loss.backward()
            optimizer.step()
        losses[name] = loss.item()
    assert losses["gated"] < losses["plain"] - 6  # nats; 8 log 2 = 5.5 against 32 log 2


def test_a_normal_limit_of_one_wide_logistic():
    """Against another library's numbers: std of a logistic is s pi / sqrt(3)."""
    s, K = 0.1, 2001
    d = DiscretisedLogistics(torch.tensor([0.0, 0.2, math.log(s)]).double(), K)
    p = d.log_prob(torch.arange(K)).exp()
    v = 2 * torch.arange(K) / (K - 1) - 1
    assert (p * v).sum().item() == pytest.approx(0.2, abs=1e-3)
    std = ((p * (v - 0.2) ** 2).sum().sqrt()).item()
    assert std == pytest.approx(s * math.pi / math.sqrt(3), rel=1e-2)
    assert Normal(0.2, std).cdf(torch.tensor(0.2)).item() == pytest.approx(0.5)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU on this machine")
@pytest.mark.parametrize("name", MODELS | LABELLED)
def test_cpu_and_gpu_agree(name):
    make, x = (MODELS | LABELLED)[name], codes(4, (3, 4, 4), 5)
    torch.manual_seed(0)
    model = make((3, 4, 4), 5).eval()
    here = model.log_prob(x)
    model = model.cuda()
    torch.testing.assert_close(here, model.log_prob(x.cuda()).cpu(), rtol=1e-4, atol=1e-4)
    assert model.sample(2).is_cuda


def test_recipes_build_small_enough_models_for_their_data():
    """Names, shapes and sizes of the recipes; MNIST's goal allows a million parameters."""
    for name, shape in {
        "pixelcnn-mnist": (1, 28, 28),
        "pixelcnn-binarized": (1, 28, 28),
        "pixelcnn-cifar10": (3, 32, 32),
    }.items():
        recipe = recipes.get(f"autoregressive/{name}")
        model = recipe.build()
        assert model.shape == shape
        assert model.log_prob(torch.zeros(1, *shape)).isfinite().all()
        if name == "pixelcnn-mnist":
            assert sum(p.numel() for p in model.parameters()) < 1e6


def test_half_precision_networks_give_full_precision_likelihoods():
    """Autocast: grey value 201 of 256 and its neighbour must stay two bins."""
    torch.manual_seed(0)
    model = LogisticPixelCNN((1, 4, 4), 256, dilations=(1,), **SMALL)
    x = torch.full((1, 1, 4, 4), 201)
    here = model.log_prob(x)
    with torch.autocast("cpu", torch.bfloat16):
        assert model.conditionals(x).mu.dtype == torch.float32
        torch.testing.assert_close(model.log_prob(x), here, rtol=2e-2, atol=0.5)


def test_bits_per_dimension_of_a_uniform_model():
    model = PixelCNN((1, 2, 3), 8, **SMALL)
    for p in model.head[-1].parameters():
        torch.nn.init.zeros_(p)  # all logits 0: three bits for every pixel
    value, error = bits_estimate(model, codes(5, (1, 2, 3), 8))
    assert value == pytest.approx(3)
    assert error == pytest.approx(0, abs=1e-6)
