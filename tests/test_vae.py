"""The mathematics of the variational autoencoder, each against an independent oracle."""

import math

import pytest
import torch
from torch.distributions import MultivariateNormal, Normal, kl_divergence

from gdm_course import protocols, recipes
from gdm_course.data import toy
from gdm_course.evaluation.latent import iwae_estimate, nelbo_estimate
from gdm_course.vae import fit_plane
from gdm_course.vae.conv import ConvVAE
from gdm_course.vae.decoders import (
    AutoregressivePixels,
    BernoulliPixels,
    DiscretisedLogistic,
    GaussianPixels,
    LogisticPixels,
)
from gdm_course.vae.gradients import (
    gradient_draws,
    reparametrised_gradient,
    score_gradient,
    signal_to_noise,
)
from gdm_course.vae.mixture import Mixture, maximise, mixture_elbo
from gdm_course.vae.objectives import (
    FreeBits,
    ImportanceWeighted,
    WarmUp,
    free_bits,
    warm_up,
)
from gdm_course.vae.refine import bound_of, refine
from gdm_course.vae.vae import (
    VAE,
    StandardNormal,
    diagonal_gaussian,
    gaussian_kl,
)

D, K = 5, 2


class Linear:
    """z ~ N(0, I), x = W z + b + sigma eps: evidence and posterior are known normals."""

    def __init__(self, seed: int = 0):
        g = torch.Generator().manual_seed(seed)
        scale = torch.tensor([1.3, 0.6]).double()
        basis = torch.linalg.qr(torch.randn(D, K, generator=g).double()).Q
        self.W = basis * scale  # orthogonal columns: the true posterior is diagonal
        self.b, self.sigma = torch.randn(D, generator=g).double(), 0.7
        noise = self.sigma**2
        self.evidence = MultivariateNormal(
            self.b, self.W @ self.W.T + noise * torch.eye(D).double()
        )
        self.precision = torch.eye(K).double() + self.W.T @ self.W / noise
        self.cov = torch.linalg.inv(self.precision)

    def posterior(self, x):
        mu = (x - self.b) @ self.W @ self.cov / self.sigma**2
        return MultivariateNormal(mu, self.cov)

    def model(self, shift=0.0, widen=0.0):
        """Our VAE with these weights; its q is the posterior, moved and widened."""
        model = VAE(D, latent=K, hidden=(), observation=GaussianPixels(self.sigma))
        model = model.double()
        state = model.state_dict()
        read = self.cov @ self.W.T / self.sigma**2
        state["encoder.0.weight"] = torch.cat([read, torch.zeros(K, D).double()])
        log_sigma = self.cov.diagonal().log() / 2 + widen
        state["encoder.0.bias"] = torch.cat([shift - read @ self.b, log_sigma])
        state["decoder.0.0.weight"], state["decoder.0.0.bias"] = self.W, self.b
        state["observation.log_sigma"] = torch.tensor(self.sigma, dtype=torch.float64).log()
        model.load_state_dict(state)
        return model

    def x(self, n):
        torch.manual_seed(1)
        return self.evidence.sample((n,))


LINEAR = Linear()


def mean_bound(model, x, k, repeats=4000):
    """The expectation of iwae(x, k) and its standard error, over draws: (B,) each."""
    with torch.no_grad():
        draws = model.iwae(x.repeat(repeats, 1), k).view(repeats, -1)
    return draws.mean(0), draws.std(0) / math.sqrt(repeats)


def test_every_bound_equals_the_evidence_at_the_true_posterior():
    """Every draw: log p(x, z) - log q(z | x) is then a constant in z."""
    model, x = LINEAR.model(), LINEAR.x(20)
    log_p = LINEAR.evidence.log_prob(x)
    for k in (1, 2, 7):
        torch.testing.assert_close(model.iwae(x, k), log_p, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(model.encode(x).mean, LINEAR.posterior(x).mean)


def test_the_bounds_are_ordered_below_the_evidence():
    torch.manual_seed(0)
    model, x = LINEAR.model(shift=0.5, widen=0.4), LINEAR.x(6)
    log_p, (below, error) = LINEAR.evidence.log_prob(x), mean_bound(model, x, 1)
    for k in (2, 5, 20, 100):
        above, next_error = mean_bound(model, x, k)
        assert (above - below > 3 * (error**2 + next_error**2).sqrt()).all()
        below, error = above, next_error
    assert (log_p > below).all()
    assert (log_p - below < 0.02).all()  # k = 100 is close: not an easy way to be below


def test_the_gap_is_the_kl_to_the_posterior():
    torch.manual_seed(0)
    model, x = LINEAR.model(shift=0.4, widen=-0.3), LINEAR.x(8)
    q = model.encode(x)
    q = MultivariateNormal(q.mean, torch.diag_embed(q.variance))
    gap = kl_divergence(q, LINEAR.posterior(x)).detach()
    n = 20_000
    with torch.no_grad():
        draws = model.elbo(x.repeat(n, 1)).view(n, -1)
    error = draws.std(0) / math.sqrt(n)
    missing = LINEAR.evidence.log_prob(x) - draws.mean(0)
    assert gap.min() > 0.1
    assert ((missing - gap).abs() < 5 * error).all()
    one_draw_log_weight, _ = mean_bound(model, x, 1, n)
    assert ((one_draw_log_weight - draws.mean(0)).abs() < 10 * error).all()


def test_the_iwae_is_the_log_of_the_mean_weight():
    model, x = LINEAR.model(shift=0.3), LINEAR.x(10)
    torch.manual_seed(3)
    bound = model.iwae(x, 13)
    torch.manual_seed(3)
    z = model.encode(x).rsample((13,))
    p_x = Normal(z @ LINEAR.W.T + LINEAR.b, LINEAR.sigma).log_prob(x).sum(-1)
    p_z = Normal(0.0, 1.0).log_prob(z).sum(-1)
    weight = (p_x + p_z - model.encode(x).log_prob(z)).exp()
    torch.testing.assert_close(bound, weight.mean(0).log())


def test_pieces_of_the_iwae_weigh_alike():
    """5 draws in pieces of 2, 2, 1: the log of the mean of all five weights."""
    model, x = LINEAR.model(shift=0.3), LINEAR.x(10)
    q = model.encode(x)
    torch.manual_seed(4)
    log_w = torch.cat([model.log_weights(x, q, k) for k in (2, 2, 1)])
    torch.manual_seed(4)
    torch.testing.assert_close(model.iwae(x, 5, rows=20), log_w.exp().mean(0).log())


def test_gaussian_kl_is_that_of_torch_and_of_monte_carlo():
    torch.manual_seed(0)
    mu, log_sigma = torch.randn(6, 3).double(), 0.7 * torch.randn(6, 3).double()
    q, p = Normal(mu, log_sigma.exp()), Normal(torch.zeros(3).double(), 1.0)
    kl = gaussian_kl(mu, log_sigma)
    torch.testing.assert_close(kl, kl_divergence(q, p))
    z = q.sample((200_000,))
    draws = q.log_prob(z) - p.log_prob(z)
    assert ((draws.mean(0) - kl).abs() < 6 * draws.std(0) / math.sqrt(200_000)).all()
    assert gaussian_kl(torch.zeros(1), torch.zeros(1)).item() == 0


def test_a_prior_without_a_closed_form_gives_the_same_kl_on_average():
    class Written(StandardNormal):
        """The same density, in a class that the closed form does not know."""

    class Other(torch.nn.Module):
        def __init__(self, inner):
            super().__init__()
            self.log_prob, self.sample = inner.log_prob, inner.sample

    torch.manual_seed(0)
    model, x = LINEAR.model(shift=0.4), LINEAR.x(3)
    exact = model.terms(x)[1].sum(-1)
    model.prior = Other(Written(K).double())
    kl = torch.stack([model.terms(x)[1].sum(-1) for _ in range(4000)])
    assert kl.shape == (4000, 3)
    assert ((kl.mean(0) - exact).abs() < 6 * kl.std(0) / math.sqrt(4000)).all()


def test_diagonal_gaussian_reads_mu_then_log_sigma():
    q = diagonal_gaussian(torch.tensor([[1.0, -2.0, 0.0, math.log(3)]]))
    assert q.event_shape == (2,)
    torch.testing.assert_close(q.mean, torch.tensor([[1.0, -2.0]]))
    torch.testing.assert_close(q.stddev, torch.tensor([[1.0, 3.0]]))


def test_standard_normal_is_a_density_and_samples_it():
    torch.manual_seed(0)
    prior, z = StandardNormal(3), torch.randn(7, 3)
    torch.testing.assert_close(prior.log_prob(z), Normal(0.0, 1.0).log_prob(z).sum(-1))
    z = prior.sample(40_000)
    assert z.mean(0).abs().max() < 0.03
    assert (z.var(0) - 1).abs().max() < 0.05


@pytest.mark.parametrize("estimator", [reparametrised_gradient, score_gradient])
def test_gradient_estimators_are_unbiased(estimator):
    """E[sum z^2 + z_1 z_2^3], mu and sigma known: the moments of a Gaussian."""
    torch.manual_seed(0)
    mu = torch.tensor([0.7, -0.4]).double().requires_grad_()
    log_sigma = torch.tensor([-0.2, 0.1]).double().requires_grad_()
    f = lambda z: z.square().sum(-1) + z[:, 0] * z[:, 1] ** 3  # noqa: E731
    var = (2 * log_sigma).exp()
    expectation = (mu**2 + var).sum() + mu[0] * (mu[1] ** 3 + 3 * mu[1] * var[1])
    exact = torch.autograd.grad(expectation, (mu, log_sigma))
    n = 200_000
    for draws, truth in zip(estimator(f, mu, log_sigma, n), exact):
        assert draws.shape == (n, 2)
        error = draws.std(0) / math.sqrt(n)
        assert ((draws.mean(0) - truth).abs() < 5 * error).all()


def test_reparametrisation_has_less_variance():
    torch.manual_seed(0)
    mu, log_sigma = torch.tensor([2.0]), torch.tensor([0.0])
    f = lambda z: z.square().sum(-1)  # noqa: E731
    smooth, score = (
        g(f, mu, log_sigma, 50_000)[0].var().item()
        for g in (reparametrised_gradient, score_gradient)
    )
    # d/dmu: 2 z has variance 4; z^2 (z - mu) has E[(mu + e)^4 e^2] - (2 mu)^2
    assert smooth == pytest.approx(4, rel=0.05)
    assert score == pytest.approx(2**4 + 6 * 2**2 * 3 + 15 - 16, rel=0.1)


def test_gradient_draws_and_signal_to_noise():
    torch.manual_seed(0)
    model, x = LINEAR.model(shift=0.5), LINEAR.x(4)
    weights = [model.encoder[0].bias]
    draws = gradient_draws(model, x, 3, 50, weights)
    assert draws.shape == (50, 2 * K)
    assert not draws[0].equal(draws[1])
    values = torch.tensor([[1.0, -2.0], [3.0, -2.5]])
    expected = torch.tensor([2 / math.sqrt(2), 2.25 / math.sqrt(0.125)])
    torch.testing.assert_close(signal_to_noise(values), expected)


# Observation models -----------------------------------------------------------------------


def test_logistic_probabilities_sum_to_one_and_are_its_definition():
    torch.manual_seed(0)
    mu, log_s = torch.randn(40).double() * 12 + 8, torch.randn(40).double() * 1.5
    p = DiscretisedLogistic(mu, log_s, 17)
    codes = torch.arange(17)[:, None]
    probability = p.log_prob(codes).exp()
    torch.testing.assert_close(probability.sum(0), torch.ones(40).double())
    F = lambda a: torch.sigmoid((a - mu) / log_s.exp())  # noqa: E731
    for c in range(17):
        high = F(c + 0.5) if c < 16 else torch.ones_like(mu)
        low = F(c - 0.5) if c > 0 else torch.zeros_like(mu)
        torch.testing.assert_close(probability[c], high - low, rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(p.mean, (probability * codes).sum(0))


def test_logistic_is_finite_and_differentiable_far_out():
    mu = torch.tensor([-500.0, 900.0, 3.0], requires_grad=True)
    log_s = torch.tensor([-5.0, -5.0, 6.0], requires_grad=True)
    log_p = DiscretisedLogistic(mu, log_s, 256).log_prob(torch.tensor([128, 128, 128]))
    log_p.sum().backward()
    assert log_p.isfinite().all()
    assert mu.grad.isfinite().all()
    assert log_s.grad.isfinite().all()


def test_logistic_samples_follow_its_probabilities():
    torch.manual_seed(0)
    p = DiscretisedLogistic(torch.tensor([5.0]), torch.tensor([0.8]), 9)
    n = 50_000
    counts = p.sample((n,)).long().flatten().bincount(minlength=9)
    expected = n * p.log_prob(torch.arange(9)[:, None]).exp().flatten()
    chi2 = ((counts - expected) ** 2 / expected).sum().item()
    assert chi2 < 8 + 6 * math.sqrt(16)


def test_logistic_pixels_span_the_codes():
    pixels = LogisticPixels(17)
    torch.testing.assert_close(
        pixels.embed(torch.tensor([0, 8, 16])), torch.tensor([-1.0, 0.0, 1.0])
    )
    p = pixels(torch.tensor([-1.0, 0.0, 1.0]), torch.zeros(3))
    torch.testing.assert_close(p.mu, torch.tensor([0.0, 8.0, 16.0]))
    torch.testing.assert_close(p.log_s.exp(), torch.full((3,), 2.0))


def test_what_encoders_are_shown():
    """Figures rest on it: shown clouds as 0 and 1, the lecture's InfoVAE stays silent."""
    x = torch.tensor([[0.0, 1.0]])
    assert BernoulliPixels().embed(x).tolist() == [[0, 1]]
    assert AutoregressivePixels(2).embed(x).tolist() == [[-1, 1]]
    for pixels in (BernoulliPixels(), AutoregressivePixels(2)):
        with pytest.raises(ValueError, match="values other than 0 and 1"):
            pixels.embed(x / 2)


def test_autoregressive_pixels_sum_to_one_and_sample_themselves():
    torch.manual_seed(0)
    pixels = AutoregressivePixels(4).double()
    pixels.W.data.normal_(std=2)
    p = pixels(torch.tensor([0.3, -0.4, 0.2, 0.1]).double())
    states = torch.cartesian_prod(*[torch.tensor([0.0, 1.0]).double()] * 4)
    probability = p.log_prob(states).sum(-1).exp()
    assert probability.sum().item() == pytest.approx(1, abs=1e-12)
    n = 20_000
    x = pixels(torch.tensor([0.3, -0.4, 0.2, 0.1]).double().expand(n, -1)).sample()
    codes = (x @ torch.tensor([8.0, 4, 2, 1]).double()).long()
    counts = codes.bincount(minlength=16)
    chi2 = ((counts - n * probability) ** 2 / (n * probability)).sum().item()
    assert chi2 < 15 + 6 * math.sqrt(30)


def test_bernoulli_and_gaussian_are_those_of_torch():
    logits, x = torch.randn(3, 4), torch.tensor([0.0, 1.0, 1.0, 0.0])
    p = torch.sigmoid(logits)
    by_hand = torch.where(x == 1, p.log(), (1 - p).log())
    torch.testing.assert_close(BernoulliPixels()(logits).log_prob(x), by_hand)
    mu = torch.randn(4)
    by_hand = -0.5 * ((x - mu) / 0.3) ** 2 - math.log(0.3) - 0.5 * math.log(2 * math.pi)
    torch.testing.assert_close(GaussianPixels(0.3)(mu).log_prob(x), by_hand)


def test_grey_pixels_are_refused_by_bernoulli():
    with pytest.raises(ValueError, match="other than 0 and 1"):
        VAE(4).elbo(torch.tensor([[0.0, 1.0, 0.5, 0.0]]))


def test_images_that_cannot_be_halved_are_refused():
    with pytest.raises(ValueError, match="multiples of 4"):
        ConvVAE((1, 30, 28))


# Mixture and EM ---------------------------------------------------------------------------


def mixture(seed=0):
    g = torch.Generator().manual_seed(seed)
    pi = torch.rand(3, generator=g).double()
    mu = 3 * torch.randn(3, 2, generator=g).double()
    log_sigma = 0.3 * torch.randn(3, generator=g).double()
    return Mixture((pi / pi.sum()).log(), mu, log_sigma)


def test_mixture_is_a_mixture_of_normals():
    model, x = mixture(), torch.randn(5, 2).double()
    p = sum(
        pi.exp()
        * MultivariateNormal(mu, s.exp() ** 2 * torch.eye(2).double()).log_prob(x).exp()
        for pi, mu, s in zip(model.log_pi, model.mu, model.log_sigma)
    )
    torch.testing.assert_close(model.log_prob(x), p.log())


def test_mixture_bound_is_tight_at_the_posterior_and_its_gap_is_the_kl():
    torch.manual_seed(0)
    model, x = mixture(), torch.randn(50, 2).double()
    posterior, log_p = model.posterior(x), model.log_prob(x)
    torch.testing.assert_close(mixture_elbo(model, x, posterior), log_p)
    q = torch.rand(50, 3).double()
    q = q / q.sum(-1, keepdim=True)
    kl = (q * (q / posterior).log()).sum(-1)
    torch.testing.assert_close(log_p - mixture_elbo(model, x, q), kl)
    sure = torch.eye(3).double()[torch.arange(50) % 3]  # q with zeros is no NaN
    assert mixture_elbo(model, x, sure).isfinite().all()


def test_em_never_loses_and_its_maximum_is_one():
    torch.manual_seed(0)
    x = torch.cat([torch.randn(60, 2) * 0.5 + 3, torch.randn(90, 2) - 1]).double()
    model, last = mixture(), -math.inf
    for _ in range(30):
        q = model.posterior(x)
        model = maximise(x, q)
        now = model.log_prob(x).mean().item()
        assert now >= last - 1e-12
        last = now
    bound = mixture_elbo(model, x, q := model.posterior(x)).mean()
    best = maximise(x, q)
    at_best = mixture_elbo(best, x, q).mean()
    assert at_best >= bound
    for part in ("mu", "log_sigma"):  # the M-step's result cannot be improved
        moved = {n: getattr(best, n) for n in ("log_pi", "mu", "log_sigma")}
        moved[part] = moved[part] + 0.05
        assert mixture_elbo(Mixture(**moved), x, q).mean() < at_best
    assert best.log_pi.exp().sum().item() == pytest.approx(1)


# Objectives, refinement -------------------------------------------------------------------


def test_warm_up_rises_and_stays():
    assert [warm_up(s, 4) for s in (0, 1, 2, 4, 9)] == [0, 0.25, 0.5, 1, 1]


def test_free_bits_charge_above_the_floor_only():
    kl = torch.tensor([[0.0, 0.3], [0.1, 0.9]], requires_grad=True)  # means 0.05, 0.6
    total = free_bits(kl, 0.2)
    total.backward()
    assert total.item() == pytest.approx(0.8)
    torch.testing.assert_close(kl.grad, torch.tensor([[0.0, 0.5], [0.0, 0.5]]))


def test_warm_up_ends_in_the_models_own_loss():
    model, x = LINEAR.model(shift=0.4), LINEAR.x(10)
    objective = WarmUp(model, steps=3).double()
    first, kl = objective.loss(x), model.terms(x)[1].sum(-1).mean()
    torch.manual_seed(0)
    log_p = model.terms(x)[0].mean()
    torch.manual_seed(0)
    torch.testing.assert_close(objective.loss(x), -log_p)
    for _ in range(3):
        objective.loss(x).backward()
        objective.loss(x)  # looking does not count
    torch.manual_seed(0)
    torch.testing.assert_close(objective.loss(x), kl - log_p)
    assert int(objective.step) == 3
    assert first.isfinite()
    objective.eval().loss(x).backward()
    assert int(objective.step) == 3  # nor does evaluation


def test_free_bits_and_importance_weights_as_objectives():
    model, x = LINEAR.model(shift=0.4), LINEAR.x(10)
    torch.manual_seed(0)
    log_p, kl = model.terms(x)
    torch.manual_seed(0)
    expected = kl.mean(0).clamp_min(0.5).sum() - log_p.mean()
    torch.testing.assert_close(FreeBits(model, floor=0.5).loss(x), expected)
    torch.manual_seed(1)
    expected = -model.iwae(x, 5).mean()
    torch.manual_seed(1)
    torch.testing.assert_close(ImportanceWeighted(model, k=5).loss(x), expected)


def test_refining_finds_the_true_posterior():
    torch.manual_seed(0)
    model, x = LINEAR.model(shift=0.8, widen=0.5), LINEAR.x(6)
    before = {n: p.clone() for n, p in model.named_parameters()}
    q = refine(model, x, steps=400)
    truth = LINEAR.posterior(x)
    torch.testing.assert_close(q.mean, truth.mean, rtol=0.05, atol=0.05)
    torch.testing.assert_close(q.variance, truth.variance, rtol=0.1, atol=0.01)
    log_p = LINEAR.evidence.log_prob(x)
    torch.testing.assert_close(bound_of(model, x, q, 3000), log_p, rtol=0, atol=0.05)
    assert (bound_of(model, x, model.encode(x)) < log_p - 0.2).all()
    assert all(p.equal(before[n]) and p.grad is None for n, p in model.named_parameters())


# House rules ------------------------------------------------------------------------------

BITS = torch.ones(4, 6)
MODELS = {
    "VAE": (lambda: VAE(6, latent=2, hidden=(9,)), BITS),
    "Gaussian": (lambda: VAE(6, latent=2, observation=GaussianPixels()), BITS),
    "logistic": (lambda: VAE(6, latent=2, observation=LogisticPixels(9)), 5 * BITS),
    "autoregressive": (
        lambda: VAE(6, latent=2, observation=AutoregressivePixels(6)),
        BITS,
    ),
    "ConvVAE": (
        lambda: ConvVAE((2, 8, 4), latent=3, features=4),
        torch.ones(4, 2, 8, 4, dtype=torch.uint8),
    ),
    "ConvVAE logistic": (
        lambda: ConvVAE((3, 8, 8), latent=3, features=4, observation=LogisticPixels()),
        torch.randint(256, (4, 3, 8, 8), generator=torch.Generator().manual_seed(0)),
    ),
}


@pytest.mark.parametrize("name", MODELS)
def test_house_rules(name):
    """Protocols, shapes, a gradient for every parameter, a state dict that comes back."""
    make, x = MODELS[name]
    torch.manual_seed(0)
    model, twin = make(), make()
    assert isinstance(model, protocols.Sampler)
    assert isinstance(model, protocols.Trainable)
    assert not isinstance(model, protocols.Density)  # a bound is not a density
    assert model.sample(3).shape == (3, *x.shape[1:])
    assert model.elbo(x).shape == model.iwae(x, 3).shape == (4,)
    assert model.encode(x).batch_shape == (4,)
    for _ in range(2):  # zeroed last layers hide those before them for one step
        model.zero_grad()
        model.loss(x).backward()
        with torch.no_grad():
            for p in model.parameters():
                p -= 1e-3 * p.grad
    dead = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert not dead
    twin.load_state_dict(model.state_dict())
    for m in (model, twin):
        torch.manual_seed(0)
        m.bound = m.elbo(x)
    torch.testing.assert_close(twin.bound, model.bound)


@pytest.mark.parametrize("name", MODELS)
def test_one_image_at_a_time_is_the_batch(name):
    """Rows do not mix: log p(x | z) and q of a row do not depend on the others."""
    make, x = MODELS[name]
    torch.manual_seed(0)
    model = make()
    x = x.clone()
    x[0] = 0
    z = torch.randn(3, 4, model.encode(x).event_shape[0])
    whole = model.log_likelihood(x, z)
    assert whole.shape == (3, 4)
    torch.testing.assert_close(
        model.log_likelihood(x[1:2], z[:, 1:2]), whole[:, 1:2], rtol=1e-4, atol=1e-4
    )
    torch.testing.assert_close(model.encode(x[1:2]).mean, model.encode(x).mean[1:2])


def test_iwae_memory_does_not_grow_with_k():
    """The decoder never sees more rows at once than asked for."""
    model, seen = VAE(6, latent=2, hidden=(9,)), []
    model.decoder.register_forward_hook(lambda m, a, out: seen.append(len(out)))
    with torch.no_grad():
        model.iwae(BITS, 5000, rows=400)
    assert max(seen) <= 400
    assert sum(seen) == 4 * 5000


def test_training_learns_a_known_evidence():
    """A linear VAE fitted to data of the linear model comes near the data's entropy."""
    from gdm_course.training import forever, train

    torch.manual_seed(0)
    x = LINEAR.evidence.sample((4000,)).float()
    model = VAE(D, latent=K, hidden=(), observation=GaussianPixels())
    for _ in train(model, forever(x, 200), 1500, lr=lambda s: 1e-2 * (1 - s / 1500)):
        pass
    with torch.no_grad():
        bound = model.elbo(x).mean().item()
    truth = LINEAR.evidence.log_prob(x.double()).mean().item()
    assert truth - 0.06 < bound < truth + 0.03  # fitted: a few parameters' luck


def test_fit_plane_draws_two_moons():
    moons = toy.get("two_moons")
    x = moons.sample(4000, torch.Generator().manual_seed(0)).float()
    model = fit_plane(x, steps=400)
    drawn = model.sample(2000).double()
    near = moons.log_prob(drawn)
    gaussian = torch.randn(2000, 2).double() * x.std(0) + x.mean(0)
    assert near.mean() > moons.log_prob(gaussian).mean() + 2
    assert (drawn.mean(0) - x.mean(0)).abs().max() < 0.15


def test_metrics_are_the_evidence_at_the_true_posterior():
    """The sign, the mean over examples, and k: with any other q the two would differ."""
    model, x = LINEAR.model(), LINEAR.x(50)
    truth = -LINEAR.evidence.log_prob(x)
    found = iwae_estimate(model, x, 7, 20)  # every log weight is log p(x) itself
    assert found.value == pytest.approx(truth.mean().item(), abs=1e-9)
    assert found.error == pytest.approx(truth.std().item() / 50**0.5, abs=1e-9)
    torch.manual_seed(0)
    noisy = nelbo_estimate(model, x.repeat(400, 1))  # the KL is exact, log p(x | z) drawn
    assert abs(noisy.value - truth.mean().item()) < 5 * noisy.error
    model = LINEAR.model(shift=0.8)
    assert iwae_estimate(model, x, 50).value < nelbo_estimate(model, x).value - 0.1


@pytest.mark.parametrize("recipe", recipes.vae.RECIPES, ids=lambda r: r.name)
def test_recipes_make_models_of_their_data(recipe):
    """Model, shape of the data and metrics belong together."""
    torch.manual_seed(0)
    model = recipe.build()
    images = torch.randint(2, (3, *model.shape)).to(torch.uint8)
    x = images if recipe.data.endswith("codes") else images.float()
    assert model.loss(x).isfinite()
    assert math.prod(model.shape) == 784
    for metric in recipe.metrics:
        assert callable(recipes.resolve(metric.function))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU on this machine")
@pytest.mark.parametrize("name", MODELS)
def test_cpu_and_gpu_agree(name):
    make, x = MODELS[name]
    torch.manual_seed(0)
    model = make().eval()
    z = torch.randn(2, 4, model.encode(x).event_shape[0])
    here = model.log_likelihood(x, z)
    there = model.cuda().log_likelihood(x.cuda(), z.cuda()).cpu()
    torch.testing.assert_close(here, there, rtol=1e-4, atol=1e-3)
    assert model.sample(2).is_cuda
    assert model.iwae(x.cuda(), 3).is_cuda
