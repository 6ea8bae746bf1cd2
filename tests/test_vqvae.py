"""The mathematics of quantisers and of models over codes, each against its own oracle."""

import itertools
import math

import pytest
import torch
from ddp_runs import two_processes

from gdm_course import protocols, recipes
from gdm_course.autoregressive.gpt import GPT
from gdm_course.autoregressive.pixelcnn import PixelCNN
from gdm_course.recipes import vae_vqvae
from gdm_course.scale.codes import (
    DenseSentenceModel,
    DigitModel,
    SentenceModel,
    bound_bits,
    bound_nats,
    rate_nats,
)
from gdm_course.vae.coded import Arranged, CodedModel, Spelt, UniformCodes
from gdm_course.vae.decoders import LogisticPixels
from gdm_course.vae.fsq import FiniteScalarQuantiser, squash
from gdm_course.vae.quantise import (
    VectorQuantiser,
    follow,
    nearest,
    perplexity,
    revive,
    straight_through,
)
from gdm_course.vae.vqvae import VQVAE

QUANTISERS = {
    "codebook": lambda: VectorQuantiser(6, 3),
    "grid": lambda: FiniteScalarQuantiser((4, 3, 2)),
}


def teach(vq, z):
    """Quantise in training mode, and let a gradient come back, as any loop does."""
    answer = vq.train()(z)
    (answer[0].sum() + answer[2].sum()).backward()
    return answer


# Nearest code ----------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_nearest_is_the_argmin_of_all_distances(dtype):
    torch.manual_seed(0)
    z, e = torch.randn(500, 8, dtype=dtype), torch.randn(37, 8, dtype=dtype)
    assert nearest(z, e).equal(torch.cdist(z.double(), e.double()).argmin(1))


def test_of_equally_near_codes_the_first_is_taken():
    """Whole numbers make all sums exact; codes lie around every vector, and come twice."""
    z = torch.cartesian_prod(torch.arange(4.0), torch.arange(4.0))
    around = torch.tensor([[0.0, 1], [1, 0], [0, -1], [-1, 0]])
    e = torch.cat([z + step for step in around]).repeat(2, 1)
    squared = (z[:, None] - e).square().sum(-1)
    first = [row.tolist().index(row.min()) for row in squared]
    assert (squared == squared.amin(1, keepdim=True)).sum(1).min() > 1  # ties everywhere
    assert nearest(z, e).tolist() == first


# Straight through ------------------------------------------------------------------------


def test_straight_through_is_the_code_forwards_and_the_identity_backwards():
    torch.manual_seed(0)
    z, q = 1e4 * torch.randn(7, 3), torch.randn(7, 3, requires_grad=True)
    out = straight_through(z.requires_grad_(), q)
    assert out.equal(q)  # to the last bit, where z + (q - z) would round
    J = torch.autograd.functional.jacobian(lambda v: straight_through(v, q), z)
    assert J.view(21, 21).equal(torch.eye(21))
    assert torch.autograd.grad(out.sum(), q, allow_unused=True) == (None,)


def test_the_quantiser_passes_the_gradient_and_adds_commitment():
    torch.manual_seed(0)
    vq = VectorQuantiser(5, 3, beta=0.3).double()
    z = torch.randn(4, 2, 3).double().requires_grad_()
    q, codes, penalty = vq.eval()(z)
    assert q.equal(vq.codebook[codes])
    weight = torch.randn_like(q)
    (through,) = torch.autograd.grad((weight * q).sum(), z, retain_graph=True)
    (towards,) = torch.autograd.grad(penalty.sum(), z)
    assert through.equal(weight)
    torch.testing.assert_close(towards, 2 * 0.3 * (z - vq.codebook[codes]).detach())
    torch.testing.assert_close(
        penalty, 0.3 * torch.linalg.vector_norm(z - q.detach(), dim=-1) ** 2
    )


# The codebook that follows ---------------------------------------------------------------


def plain_means(z, codes, K, D, decay, start):
    """The running means of counts and sums, as the paper writes them, code by code."""
    N, m, e = [0.0] * K, torch.zeros(K, D, dtype=z[0].dtype), start.clone()
    for batch, won in zip(z, codes):
        for k in range(K):
            mine = [v for v, c in zip(batch, won.tolist()) if c == k]
            N[k] = decay * N[k] + (1 - decay) * len(mine)
            m[k] = decay * m[k] + (1 - decay) * sum(mine, torch.zeros(D, dtype=m.dtype))
            if N[k] > 0:
                e[k] = m[k] / N[k]
    return e, torch.tensor(N, dtype=m.dtype)


def test_the_codebook_is_the_ratio_of_running_means():
    """Sum over count, both decaying: what `follow` does without storing the sums."""
    torch.manual_seed(0)
    start = torch.randn(5, 2).double()
    z = [torch.randn(11, 2).double() for _ in range(20)]
    codebook, count, won = start.clone(), torch.zeros(5).double(), []
    for batch in z:
        won.append(nearest(batch, codebook))
        follow(codebook, count, batch, won[-1], 0.9)
    e, N = plain_means(z, won, 5, 2, 0.9, start)
    torch.testing.assert_close(codebook, e)
    torch.testing.assert_close(count, N)


def test_the_codebook_is_online_k_means_on_a_stream():
    """MacQueen's rule, one vector at a time, each moving its code by its own rate."""
    torch.manual_seed(0)
    K, decay = 4, 0.95
    vq = VectorQuantiser(K, 3, decay=decay, share=0).double().train()
    centre = vq.codebook.clone()
    weight = [0.0] * K
    for v in torch.randn(300, 3).double():
        k = min(range(K), key=lambda k: (v - centre[k]).square().sum().item())
        weight = [decay * w for w in weight]
        weight[k] += 1 - decay
        centre[k] += (1 - decay) / weight[k] * (v - centre[k])
        teach(vq, v[None])
    torch.testing.assert_close(vq.codebook, centre)


def test_the_first_batch_is_a_step_of_lloyd():
    torch.manual_seed(0)
    z = torch.randn(200, 2).double()
    vq = VectorQuantiser(4, 2, share=0).double()
    codes = nearest(z, vq.codebook)
    teach(vq, z)
    means = torch.stack([z[codes == k].mean(0) for k in range(4)])
    torch.testing.assert_close(vq.codebook, means)


def test_the_codebook_rests_in_evaluation_and_answers_with_the_old_one_in_training():
    torch.manual_seed(0)
    vq, z = VectorQuantiser(4, 2), torch.randn(50, 2)
    before = vq.codebook.clone()
    vq.eval()(z)
    assert vq.codebook.equal(before)
    q, codes, _ = teach(vq, z)
    assert q.equal(before[codes])
    assert not vq.codebook.equal(before)


@pytest.mark.parametrize("measure", ["no gradient", "a gradient in x", "nothing more"])
def test_looking_does_not_move_a_codebook(measure):
    torch.manual_seed(0)
    model = CodedModel(VQVAE((1, 8, 8), features=4), UniformCodes((2, 2), 64)).train()
    x = (torch.rand(6, 1, 8, 8) < 0.5).float().requires_grad_()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    with torch.set_grad_enabled(measure != "no gradient"):
        model.autoencoder.encode(x), model.autoencoder.reconstruct(x)
        bound = model.elbo(x).sum() + model.autoencoder.loss(x)
    if measure == "a gradient in x":
        torch.autograd.grad(bound, x)
    assert all(v.equal(before[k]) for k, v in model.state_dict().items())
    model.loss(x).backward()
    assert not model.autoencoder.quantiser.codebook.equal(
        before["autoencoder.quantiser.codebook"]
    )


def test_a_codebook_follows_an_encoder_that_is_frozen():
    vq, z = VectorQuantiser(4, 2), torch.randn(50, 2)  # nothing here needs a gradient
    before = vq.codebook.clone()
    teach(vq, z)
    assert not vq.codebook.equal(before)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_vectors_that_are_not_finite_teach_nothing_in_any_loop(bad):
    torch.manual_seed(0)
    vq, z = VectorQuantiser(4, 2), torch.randn(50, 2)
    teach(vq, z)
    before = {k: v.clone() for k, v in vq.state_dict().items()}
    z[3, 1] = bad
    teach(vq, z)  # a loop that does not look at its loss
    assert all(v.equal(before[k]) for k, v in vq.state_dict().items())


@pytest.mark.parametrize("z", [torch.randn(1, 3), torch.full((20, 3), 2.0)])
def test_a_codebook_learns_from_one_row_and_from_a_constant(z):
    vq = VectorQuantiser(4, 3)
    for _ in range(3):
        teach(vq, z)
    assert vq.codebook.isfinite().all()
    assert (vq.codebook == z[0]).all(1).any()


def test_a_codebook_in_half_precision_stays_finite_and_in_its_type():
    vq, z = VectorQuantiser(8, 3).bfloat16(), torch.randn(300, 3).bfloat16()
    for _ in range(20):
        q, _, penalty = teach(vq, z)
    assert q.dtype == penalty.dtype == vq.codebook.dtype == torch.bfloat16
    assert vq.codebook.isfinite().all()


def test_two_processes_train_one_codebook():
    """Each sees half of the rows; sums, dead codes and what wakes them are of all."""
    for told in two_processes("codebook", "revived", "grid", "gradient"):
        assert told["gap"] == 0
        assert told["off"] < 1e-4 or told["name"] == "revived"  # whose draws are others


# Dead codes ------------------------------------------------------------------------------


def test_revival_moves_dead_codes_onto_vectors_and_leaves_the_others_alone():
    torch.manual_seed(0)
    codebook, z = torch.randn(6, 3), torch.randn(20, 3)
    count = torch.tensor([5.0, 0.0, 3.0, 1e-3, 0.2, 4.0])  # average 2.03
    old, old_count, dead = codebook.clone(), count.clone(), torch.tensor([1, 3])
    revive(codebook, count, z, share=0.05)
    used = [0, 2, 4, 5]
    assert codebook[used].equal(old[used])
    assert count[used].equal(old_count[used])
    for k in dead:
        assert (codebook[k] == z).all(1).any()
        assert count[k].item() == pytest.approx(old_count.mean().item())


def test_a_bad_start_leaves_codes_dead_and_revival_wakes_them():
    def used(share):
        torch.manual_seed(0)
        vq, z = VectorQuantiser(32, 2, share=share), torch.randn(4000, 2)
        vq.codebook.add_(50)  # far away: the nearest one wins everything
        for batch in z.split(100):
            teach(vq, batch)
        return len(vq.eval()(z)[1].unique())

    assert used(share=0.0) <= 2
    assert used(share=0.02) == 32


def test_perplexity_counts_equally_used_codes():
    assert perplexity(torch.arange(12) % 4, 10).item() == pytest.approx(4)
    assert perplexity(torch.zeros(3, 2).long(), 10).item() == pytest.approx(1)
    p = [0.75, 0.25]
    entropy = -sum(a * math.log(a) for a in p)
    value = perplexity(torch.tensor([[1, 1], [1, 0]]), 2).item()
    assert value == pytest.approx(math.exp(entropy))


# The fixed grid --------------------------------------------------------------------------


@pytest.mark.parametrize("levels", [(2,), (4, 3, 2), (8, 5, 5), (3, 3, 3, 3)])
def test_codes_and_grid_points_are_the_same_thing_twice(levels):
    fsq = FiniteScalarQuantiser(levels)
    codes = torch.arange(fsq.K)
    assert math.prod(levels) == fsq.K
    assert fsq.code(fsq.digits(codes)).equal(codes)
    points = fsq.lookup(codes)
    axes = [[2 * i / (L - 1) - 1 for i in range(L)] for L in levels]
    every = {tuple(round(v, 5) for v in p) for p in itertools.product(*axes)}
    assert {tuple(round(v, 5) for v in p) for p in points.tolist()} == every
    middle = (fsq.digits(codes) + 0.5) / fsq.levels  # of each digit's share of (0, 1)
    q, found, _ = fsq(torch.logit(middle) / 2)
    assert found.equal(codes)
    torch.testing.assert_close(q, points)


@pytest.mark.parametrize("L", [2, 3, 4, 5, 8])
def test_every_level_is_reached_and_by_an_equal_share(L):
    fsq = FiniteScalarQuantiser((L,))
    p = (torch.arange(1000 * L) + 0.5) / (1000 * L)
    codes = fsq(torch.logit(p)[:, None] / 2)[1]  # sigmoid(2 z) is uniform
    share = codes.bincount(minlength=L)
    assert (share - 1000).abs().max() <= 1
    ends = fsq(torch.tensor([[-1e4], [1e4]]))[1]  # where the sigmoid saturates
    assert ends.tolist() == [0, L - 1]


def test_the_grid_passes_the_slope_of_the_squashing():
    torch.manual_seed(0)
    fsq = FiniteScalarQuantiser((5, 4))
    z = torch.randn(9, 2).double().requires_grad_()
    q, codes, penalty = fsq(z)
    torch.testing.assert_close(q.detach(), fsq.lookup(codes).double())
    (g,) = torch.autograd.grad(q.sum(), z)
    h = 1e-6
    up, down = (squash(z.detach() + s * h, fsq.levels) for s in (1, -1))
    slope = (up - down) / (2 * h) * 2 / (fsq.levels - 1)
    torch.testing.assert_close(g, slope, rtol=1e-6, atol=1e-8)
    assert penalty.shape == (9,)
    assert not penalty.any()


def test_a_digit_needs_two_values():
    with pytest.raises(ValueError, match="levels is 1: expected a whole number, 2 or more"):
        FiniteScalarQuantiser((4, 1))


# The autoencoder -------------------------------------------------------------------------


@pytest.mark.parametrize("kind", QUANTISERS)
@pytest.mark.parametrize("colours", [1, 3])
def test_shapes(kind, colours):
    torch.manual_seed(0)
    model = VQVAE(
        (colours, 8, 12),
        quantiser=QUANTISERS[kind](),
        features=8,
        observation=LogisticPixels(17),
    )
    x = torch.randint(17, (5, colours, 8, 12), dtype=torch.uint8)
    codes = model.encode(x)
    assert codes.shape == (5, *model.grid) == (5, 2, 3)
    assert codes.dtype == torch.int64
    p = model.decode(codes)
    assert p.log_prob(x).shape == (5,)
    assert p.sample().shape == model.reconstruct(x).shape == x.shape
    assert model.loss(x).shape == ()


@pytest.mark.parametrize("kind", QUANTISERS)
def test_training_sees_what_decoding_sees(kind):
    """log p(x | c) with gradients is that of the codes alone: nothing leaks around them."""
    torch.manual_seed(0)
    model = VQVAE((1, 8, 8), quantiser=QUANTISERS[kind](), features=8).eval()
    x = (torch.rand(6, 1, 8, 8) < 0.5).float()
    log_p, codes, _ = model.parts(x)
    assert codes.equal(model.encode(x))
    assert log_p.equal(model.decode(codes).log_prob(x))


def test_the_loss_is_its_two_terms():
    torch.manual_seed(0)
    model = VQVAE((1, 8, 8), quantiser=VectorQuantiser(6, 3, beta=0.7), features=8).eval()
    x = (torch.rand(6, 1, 8, 8) < 0.5).float()
    z = model.encoder(x)  # (6, 3, 2, 2)
    e = model.quantiser.codebook[model.encode(x)].movedim(-1, 1)
    logits = model.decoder(e)
    p = torch.sigmoid(logits)
    nats = -(x * p.log() + (1 - x) * (1 - p).log()).sum((1, 2, 3))
    expected = (nats + 0.7 * (z - e).square().sum((1, 2, 3))).mean()
    torch.testing.assert_close(model.loss(x), expected)


@pytest.mark.parametrize("kind", QUANTISERS)
def test_every_parameter_gets_a_gradient_and_buffers_are_saved(kind):
    torch.manual_seed(0)
    make = lambda: VQVAE((1, 8, 8), quantiser=QUANTISERS[kind](), features=8)  # noqa: E731
    model, twin = make(), make()
    x = (torch.rand(30, 1, 8, 8) < 0.5).float()
    for block in model.modules():  # a residual branch starts silent
        if hasattr(block, "second"):
            torch.nn.init.normal_(block.second.weight, std=0.1)
    for _ in range(3):
        model.loss(x).backward()
    dead = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert not dead
    state = model.state_dict()
    assert ("quantiser.codebook" in state) == (kind == "codebook")
    assert ("quantiser.count" in state) == (kind == "codebook")
    twin.load_state_dict(state)
    torch.testing.assert_close(twin.eval().loss(x), model.eval().loss(x))


@pytest.mark.parametrize("kind", QUANTISERS)
def test_half_precision_stays_in_the_networks(kind):
    """Codes and probabilities are computed in float32, whatever autocast does around."""
    torch.manual_seed(0)
    pixels = LogisticPixels(256)
    model = VQVAE((1, 8, 8), quantiser=QUANTISERS[kind](), features=8, observation=pixels)
    x = torch.randint(256, (6, 1, 8, 8), dtype=torch.uint8)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        q, codes, _ = model.eval().quantise(x)
        p = model.decode(codes)
        log_p = model.parts(x)[0]
    assert q.dtype == log_p.dtype == torch.float32
    exact = p.base_dist.log_prob(x.float()).double().sum((1, 2, 3))
    torch.testing.assert_close(log_p.double(), exact, rtol=1e-5, atol=1e-3)
    assert p.base_dist.mu.dtype == torch.float32


def test_a_size_that_cannot_be_halved_is_refused():
    with pytest.raises(ValueError, match="multiples of 4"):
        VQVAE((1, 10, 8))


# Codes with a probability ----------------------------------------------------------------


def small(K=3):
    """A model of 2 x 4 bits with a grid of 1 x 2 codes: everything can be counted."""
    torch.manual_seed(0)
    vqvae = VQVAE((1, 2, 4), quantiser=VectorQuantiser(K, 2), features=8, halvings=1)
    for p in vqvae.decoder.parameters():
        torch.nn.init.normal_(p, std=0.5)
    prior = PixelCNN((1, 1, 2), K, features=8, layers=1, size=3)
    for p in prior.parameters():
        torch.nn.init.normal_(p, std=0.5)
    return CodedModel(vqvae, Arranged(prior, (1, 1, 2), (1, 2))).double().eval()


def all_images(n=8):
    x = torch.tensor(list(itertools.product([0.0, 1.0], repeat=n)))
    return x.view(-1, 1, 2, n // 2).double()


def log_joint(model, x, K=3):
    """log p(x, c) of all codes, the slow way: (B, K^2) and the codes."""
    every = torch.tensor(list(itertools.product(range(K), repeat=2))).view(-1, 1, 2)
    given = torch.stack(
        [model.autoencoder.decode(c.expand(len(x), 1, 2)).log_prob(x) for c in every], 1
    )
    return given + model.prior.log_prob(every), every


def test_the_bound_is_below_log_p_by_the_missing_posterior():
    """log p(x) - elbo(x) = -log p(c(x) | x), with log p(x) by summing over all codes."""
    model, x = small(), all_images()
    joint, every = log_joint(model, x)
    log_p = joint.logsumexp(1)
    assert log_p.exp().sum().item() == pytest.approx(1, abs=1e-9)  # a proper model
    codes = model.autoencoder.encode(x)
    place = (every[None] == codes[:, None]).all(-1).all(-1).long().argmax(1)
    posterior = (joint - log_p[:, None]).gather(1, place[:, None])[:, 0]
    elbo = model.elbo(x)
    assert (elbo <= log_p + 1e-12).all()
    torch.testing.assert_close(log_p - elbo, -posterior)


def test_samples_follow_the_exact_sum_over_codes():
    model, x = small(), all_images()
    p = log_joint(model, x)[0].logsumexp(1).exp().detach()
    n = 40_000
    torch.manual_seed(1)
    drawn = model.sample(n)
    assert drawn.shape == (n, 1, 2, 4)
    place = 2 ** torch.arange(7, -1, -1).double()
    counts = (drawn.flatten(1).double() @ place).long().bincount(minlength=256)
    chi2 = ((counts - n * p) ** 2 / (n * p)).sum().item()
    assert chi2 < 255 + 6 * math.sqrt(2 * 255)


def test_training_both_at_once_is_training_each():
    """The joint loss gives the autoencoder its own gradient, and the prior its own."""
    model, x = small(), all_images()[::7]
    together = torch.autograd.grad(model.loss(x), [*model.parameters()])
    codes = model.autoencoder.encode(x)
    first = torch.autograd.grad(
        model.autoencoder.loss(x), [*model.autoencoder.parameters()]
    )
    second = torch.autograd.grad(model.prior.loss(codes), [*model.prior.parameters()])
    for a, b in zip(together, [*first, *second], strict=True):
        torch.testing.assert_close(a, b)


PRIORS = {
    "uniform": lambda: UniformCodes((2, 3), 4),
    "pixelcnn": lambda: Arranged(
        PixelCNN((1, 2, 3), 4, features=8, layers=1, size=3), (1, 2, 3), (2, 3)
    ),
    "gpt": lambda: Arranged(GPT(4, 6, layers=1, heads=2, width=16), (6,), (2, 3)),
    "digits": lambda: Spelt(
        PixelCNN((2, 2, 3), 2, features=8, layers=1, size=3), FiniteScalarQuantiser((2, 2))
    ),
}


@pytest.mark.parametrize("name", PRIORS)
def test_a_prior_over_codes_sums_to_one_and_samples_grids(name):
    torch.manual_seed(0)
    prior = PRIORS[name]()
    for p in prior.parameters():
        torch.nn.init.normal_(p, std=0.3)
    every = torch.tensor(list(itertools.product(range(4), repeat=6))).view(-1, 2, 3)
    with torch.no_grad():
        total = prior.double().log_prob(every).exp().sum().item()
    assert total == pytest.approx(1, abs=1e-6)
    c = prior.float().sample(5)
    assert c.shape == (5, 2, 3)
    assert c.min() >= 0
    assert c.max() < 4


def test_a_uniform_prior_charges_log_K_for_every_code():
    log_p = UniformCodes((2, 3), 4).log_prob(torch.zeros(5, 2, 3).long())
    torch.testing.assert_close(log_p, torch.full((5,), -6 * math.log(4)))


MODELS = {
    "dense": lambda: DenseSentenceModel(
        (1, 8, 8), 2, words=3, K=5, D=2, hidden=(9,), layers=1, heads=2, width=16
    ),
    "sentence": lambda: SentenceModel(
        (1, 8, 8), 2, K=5, D=3, features=8, layers=1, heads=2, width=16
    ),
    "digits": lambda: DigitModel(
        (3, 8, 8), 17, digits=2, values=3, features=8, channels=8, dilations=(1, 2)
    ),
}


@pytest.mark.parametrize("name", MODELS)
def test_models_of_recipes_report_distortion_plus_rate(name):
    torch.manual_seed(0)
    model = MODELS[name]()
    C, levels = (3, 17) if name == "digits" else (1, 2)
    x = torch.randint(levels, (11, C, 8, 8), dtype=torch.uint8)
    model.train()
    value = bound_nats(model, x).value
    assert model.training  # left as it was
    model.eval()
    codes = model.autoencoder.encode(x)
    distortion = -model.autoencoder.decode(codes).log_prob(x.float())
    rate = -model.prior.log_prob(codes)
    assert value == pytest.approx((distortion + rate).mean().item(), rel=1e-5)
    assert rate_nats(model, x).value == pytest.approx(rate.mean().item(), rel=1e-5)
    bits = value / (C * 64 * math.log(2))
    assert bound_bits(model, x).value == pytest.approx(bits, rel=1e-5)
    assert model.sample(2).shape == (2, C, 8, 8)
    model.loss(x).backward()
    assert all(p.grad is not None for p in model.parameters())


@pytest.mark.parametrize("recipe", vae_vqvae.RECIPES, ids=lambda r: r.name)
def test_recipes_build_a_model_of_their_data(recipe):
    """The settings for a GPU have not been run: at least they fit together."""
    torch.manual_seed(0)
    model, (shape, levels) = recipe.build().eval(), recipe.args
    x = torch.randint(levels, (2, *shape), dtype=torch.uint8)
    metric, other = (recipes.resolve(m.function)(model, x) for m in recipe.metrics[:2])
    assert 0 < other.value < metric.value  # the rate is a part of the whole
    assert recipe.unit == "vae/vqvae"


def test_protocols():
    model = small()
    assert isinstance(model, protocols.Sampler)
    assert isinstance(model, protocols.Trainable)
    assert not isinstance(model, protocols.Density)  # a bound is never called log_prob


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU on this machine")
def test_cpu_and_gpu_agree():
    model, x = small().float(), all_images()[:9].float()
    here = model.elbo(x)
    there = model.cuda().elbo(x.cuda()).cpu()
    torch.testing.assert_close(here, there, rtol=1e-4, atol=1e-4)
    assert model.sample(2).is_cuda
