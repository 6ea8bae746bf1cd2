"""Denoising diffusion: a chain of small steps of noise, and a network that walks it back.

Numbered equations are those of the lecture diffusion/ddpm.

References:
    Sohl-Dickstein, Weiss, Maheswaranathan, Ganguli (2015). Deep unsupervised learning using
        nonequilibrium thermodynamics. arXiv:1503.03585.
    Ho, Jain, Abbeel (2020). Denoising diffusion probabilistic models. arXiv:2006.11239.
    Kingma, Salimans, Poole, Ho (2021). Variational diffusion models. arXiv:2107.00630.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid

from gdm_course import validate
from gdm_course.diffusion.decoders import RealDecoder
from gdm_course.diffusion.denoiser import Denoiser
from gdm_course.diffusion.schedule import (
    Schedule,
    cosine_schedule,
    noise_like,
    normal_schedule,
    posterior,
    q_sample,
    rowwise,
    step_kl,
)
from gdm_course.diffusion.targets import Target, Velocity
from gdm_course.learning import evaluating
from gdm_course.nets import precise
from gdm_course.vae.vae import gaussian_kl


class DenoisingModel(nn.Module):
    """A network, and what its answer means: a guess of E[x0 | x_t] at any noise.

    Args:
        net: (x_t, log_snr, y=None) -> (B, *shape), what `target` asks for.
        shape: of one example.
        target: `Noise()`, `Clean()` or `Velocity()`; the last if None.
        decoder: what data are: `RealDecoder()` if None, or `LevelDecoder(K)` for codes.
    """

    def __init__(
        self,
        net: nn.Module,
        shape: Sequence[int],
        target: Target | None = None,
        decoder: nn.Module | None = None,
    ):
        super().__init__()
        validate.at_least(1, shape=tuple(shape))
        self.net, self.shape = net, tuple(shape)
        self.target, self.decoder = target or Velocity(), decoder or RealDecoder()

    def denoise(self, x_t: Tensor, log_snr: Tensor, y: Tensor | None = None) -> Tensor:
        """Return the guess of E[x0 | x_t]: (B, *shape), log_snr (B,) or () -> as x_t."""
        x_t = validate.points(x_t, self.shape, self, name="x_t", least=0)
        log_snr = log_snr.to(x_t).expand(len(x_t))
        alpha, sigma = (rowwise(v.sigmoid().sqrt(), x_t) for v in (log_snr, -log_snr))
        return self.target.clean(precise(self.net(x_t, log_snr, y)), x_t, alpha, sigma)

    def embed(self, x: Tensor) -> Tensor:
        """Return data as the chain sees them, in the model's dtype: (B, *shape)."""
        seen = self.decoder.embed(validate.shaped(x, self.shape))
        return seen if x.is_floating_point() else seen.to(validate.dtype_of(self))


class DenoisingSteps(DenoisingModel):
    """The same after t steps of a schedule: what is clean, what is noise, and the score.

    Args:
        net, shape, target, decoder: as of `DenoisingModel`.
        schedule: `cosine_schedule(1000)` if None; may be replaced later.
        drop: share of labels that training hides, so that one net does with and without.
    """

    def __init__(
        self,
        net: nn.Module,
        shape: Sequence[int],
        *,
        schedule: Schedule | None = None,
        target: Target | None = None,
        decoder: nn.Module | None = None,
        drop: float = 0.0,
    ):
        super().__init__(net, shape, target, decoder)
        self.schedule, self.drop = schedule or cosine_schedule(1000), drop

    def predict_clean(self, x_t: Tensor, t: Tensor | int, y=None) -> Tensor:
        """Return the guess of E[x0 | x_t] after t steps of noise: (B, *shape)."""
        return self.denoise(x_t, self.schedule.log_snr(t), y)

    def predict_noise(self, x_t: Tensor, t: Tensor | int, y=None) -> Tensor:
        """Return the guess of E[eps | x_t], (x_t - alpha x0_hat) / sigma: (B, *shape)."""
        alpha, sigma = self.schedule.alpha(t), self.schedule.sigma(t)
        x0_hat = self.predict_clean(x_t, t, y)
        return (x_t - rowwise(alpha, x_t) * x0_hat) / rowwise(sigma, x_t)

    def score(self, x_t: Tensor, t: Tensor | int, y=None) -> Tensor:
        """Return the guess of grad log q(x_t), -E[eps | x_t] / sigma: (B, *shape)."""
        return -self.predict_noise(x_t, t, y) / rowwise(self.schedule.sigma(t), x_t)


class DDPM(DenoisingSteps):
    """Denoising diffusion: it samples, it is trained, and it has a bound on log p."""

    def loss(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """Return the mean squared error of the network's answer, equation (6): ()."""
        x0 = self.embed(x)
        eps = noise_like(x0)
        t = spread_steps(len(x0), 1, self.schedule.T, x0.device)
        x_t, log_snr = q_sample(x0, t, eps, self.schedule), self.schedule.log_snr(t)
        alpha, sigma = (rowwise(v.sigmoid().sqrt(), x0) for v in (log_snr, -log_snr))
        out = precise(self.net(x_t, log_snr.to(x0), hidden(y, self.net, self.drop)))
        return (out - self.target.target(x0, eps, alpha, sigma)).square().mean()

    def elbo(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """Return a draw's estimate of the bound (3), in nats: (B, *shape) -> (B,)."""
        x0, schedule = self.embed(x), self.schedule
        x_1 = q_sample(x0, 1, noise_like(x0), schedule)
        t = spread_steps(len(x0), 2, schedule.T, x0.device)  # one of the T - 1 terms
        x_t = q_sample(x0, t, noise_like(x0), schedule)
        kl = step_kl(x0, self.predict_clean(x_t, t, y), t - 1, t, schedule)
        log_p = self.decoder.log_likelihood(x, x_1, schedule)
        return log_p - (schedule.T - 1) * kl - prior_kl(x0, schedule)

    @torch.no_grad()
    def sample(self, n: int, y: Tensor | None = None) -> Tensor:
        """Walk the chain back from noise, all T steps: (n, *shape)."""
        x = start_noise(self, n)
        with evaluating(self):
            for t in range(self.schedule.T if n else 0, 0, -1):
                x0_hat = self.predict_clean(x, t, y)
                mean, var = posterior(x0_hat, x, t - 1, t, self.schedule)
                x = mean + var.sqrt() * noise_like(x)
        return self.decoder.show(x)


class BoundDDPM(DDPM):
    """The same, trained on the bound itself: -elbo / D, in nats per dimension."""

    def loss(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """Return the mean of -elbo(x, y), labels hidden as in `DDPM`, per dimension: ()."""
        y = hidden(y, self.net, self.drop)
        return -self.elbo(x, y).mean() / x[0].numel()


class PointDDPM(DDPM):
    """A diffusion of points with a perceptron; most of its steps are where it is hard.

    Args:
        D: dimensions of a point.
        T: number of steps, as `normal_schedule` spreads them.
        shift, scale: the chain sees (x - shift) / scale.
        net: more about the network, see `Denoiser`: hidden, depth, classes, waves.
    """

    def __init__(
        self,
        D: int,
        *,
        T: int = 1000,
        shift: Sequence[float] | float = 0.0,
        scale=1.0,
        **net,
    ):
        super().__init__(
            Denoiser(D, **net),
            (D,),
            schedule=normal_schedule(T),
            decoder=RealDecoder(shift, scale),
        )


def spread_steps(B: int, low: int, high: int, device: torch.device) -> Tensor:
    """Draw steps low..high for B rows, spread evenly: each is uniform, (B,) int64.

    Row i of a random order draws from the i-th of B equal parts, which makes a mean over
    the batch less noisy than B independent draws.
    """
    u = (torch.randperm(B, device=device) + torch.rand(B, device=device)) / B
    return low + (u * (high - low + 1)).long().clamp_max(high - low)


def start_noise(model: DenoisingSteps, n: int) -> Tensor:
    """Draw n standard normal starts for a chain, in the model's dtype: (n, *shape)."""
    size = (validate.count(n), *model.shape)
    like = model.schedule.log_snrs.new_empty(size, dtype=validate.dtype_of(model))
    return noise_like(like)


def hidden(y: Tensor | None, net: nn.Module, share: float) -> Tensor | None:
    """Replace a share of the labels (B,) by the one that stands for none."""
    if y is None or not share:
        return y
    gone = torch.rand(len(y), device=y.device) < share
    return torch.where(gone, net.classes, y.long())


def prior_kl(x0: Tensor, schedule: Schedule) -> Tensor:
    """Return KL(q(x_T | x0) || N(0, I)) in nats, what noise still knows: (B,)."""
    T = schedule.T
    log_sigma = logsigmoid(-schedule.log_snr(T).to(x0)) / 2
    mu = rowwise(schedule.alpha(T), x0) * x0
    return gaussian_kl(mu, log_sigma).flatten(1).sum(1)
