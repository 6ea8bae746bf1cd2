# %% [markdown]
# # A thousand small steps: denoising diffusion
#
# Data dissolve into noise in many small steps, and a network learns to take each step back.
# We derive the bound that this gives, see how much of it is lost before any network comes in,
# train in the plane beside the best possible denoiser, break a schedule, and jump with DDIM.

# %% [markdown] tags=["nav"]
# 63 minutes, and 17 further ·
# before this: [Densities, samples and divergences](../foundations/densities.ipynb), [What you do not see: the variational autoencoder](../vae/vae.ipynb) ·
# [exercise](../../exercises/diffusion/ddpm.ipynb) ·
# [solution](../../solutions/diffusion/ddpm.ipynb)
#
# previous: [Without pairs: CycleGAN](../gan/cyclegan.ipynb) ·
# [all units](../index.ipynb) ·
# next: [Noise as a stream: score, SDE and ODE](score_sde.ipynb)

# %% tags=["setup"]
import importlib.util

if importlib.util.find_spec("gdm_course") is None:
    raise ImportError(
        "the package gdm_course is not installed here: run 'make lab' in the course's "
        "folder, or 'pip install -e .[lab]', and choose that environment as the kernel"
    )

# %%
import math
from collections.abc import Sequence

import torch
from sklearn.linear_model import LogisticRegression
from torch import Tensor, nn

from gdm_course import checkpoints, protocols, schematics, validate
from gdm_course import plotting as plot
from gdm_course.data import download, images, toy
from gdm_course.diffusion import schedule as schedules
from gdm_course.diffusion.ddim import ddim
from gdm_course.diffusion.ddpm import hidden, prior_kl, spread_steps, start_noise
from gdm_course.diffusion.decoders import RealDecoder
from gdm_course.diffusion.denoiser import Denoiser
from gdm_course.diffusion.mixture import MixtureDenoiser
from gdm_course.diffusion.schedule import Schedule, cosine_schedule, noise_like, rowwise
from gdm_course.diffusion.targets import Clean, Target
from gdm_course.diffusion.unet import ImageDDPM
from gdm_course.evaluation.chains import chain_bits
from gdm_course.learning import evaluating  # dropout off, and on again afterwards
from gdm_course.nets import precise  # float32, where a GPU used less
from gdm_course.training import budget, forever, full_run, seed_everything, train
from gdm_course.widgets import play, watch

plot.style()

# %% [markdown]
# ## 1. The question
#
# A variational autoencoder has two networks: an encoder that says which code $z$ belongs to
# an $x$, and a decoder that leads back. They have to find each other. What if the encoder
# were fixed, so simple that nothing has to be learned there?
#
# Take the simplest: add a little noise, again and again, until nothing but noise is left.
# The codes are all the points on the way. Each step is small, so the way back of one step is
# an easy task, and one network can learn all of them.
#
# The model will be a Sampler and Trainable, with a bound `elbo` on $\log p(x)$. It is no
# Density: that needs the next unit.

# %% tags=["fold"]
# @title Eight bells dissolve: 2,000 points at five levels of noise
bells = toy.get("eight_gaussians")
best = MixtureDenoiser(bells.law.means, bells.law.sigma, bells.law.weights).float()
seed_everything(0)
x_bells = bells.sample(20_000).float()
levels = (10, 4, 2, 0, -5)
for ax, level in zip(plot.panels(*(f"log_snr {k}" for k in levels), columns=5), levels):
    alpha, sigma = (torch.tensor(float(k)).sigmoid().sqrt() for k in (level, -level))
    noisy = alpha * x_bells[:2000] + sigma * torch.randn(2000, 2)
    plot.scatter(noisy, ax, ((-3.5, 3.5), (-3.5, 3.5)))

# %% [markdown]
# ## 2. The idea
#
# A point becomes $x_t = \alpha x_0 + \sigma\epsilon$: less signal, more noise, with
# $\alpha^2+\sigma^2 = 1$. The **signal-to-noise ratio** is $\alpha^2/\sigma^2$; `log_snr` is
# its logarithm. It is 0 where both are equal, and falls on the way to noise.
#
# Given $x_t$, what is the best guess of $x_0$ by squared error? The mean
# $\mathbb E[x_0|x_t]$ of all clean points that may have become $x_t$, each weighted by how
# likely it has. For a mixture of Gaussians it has a closed form (exercise 2 writes it), so we
# know what a *perfect* network would say. `best`, a
# [`MixtureDenoiser`](../../gdm_course/diffusion/mixture.py), says it.
#
# **Predict** where the arrows, from $x_t$ to the best guess, end at log_snr 5, and at
# log_snr $-6$. Then move the slider.


# %%
def draw_guesses(log_snr):
    """Draw noisy points, and arrows to the best guess of where they come from."""
    level = torch.tensor(float(log_snr))
    alpha, sigma = level.sigmoid().sqrt(), (-level).sigmoid().sqrt()
    noisy = alpha * x_bells[:150] + sigma * torch.randn(150, 2)
    guess = best(noisy, level)
    error = (guess - x_bells[:150]).square().sum(1).mean()
    (ax,) = plot.panels(f"log_snr {log_snr}: mean squared error {error:.2f}", width=4)
    plot.scatter(noisy, ax, ((-3.5, 3.5), (-3.5, 3.5)), color=plot.GREY, size=10)
    way = guess - noisy
    scale = {"angles": "xy", "scale_units": "xy", "scale": 1, "width": 0.003}
    ax.quiver(*noisy.T.numpy(), *way.T.numpy(), color=plot.BLUE, **scale)


play(draw_guesses, log_snr=(-6, 8, 1, 2))
with torch.no_grad():
    far = best(torch.randn(1000, 2), torch.tensor(-6.0)).norm(dim=1).max()
assert far < 0.8  # the bells lie at a distance of 2

# %% [markdown]
# <details><summary>Answer</summary>
#
# At log_snr 5 in the nearest bell; at $-6$ near the middle, the mean of all bells. </details>
#
# In the middle there are no data. So a jump from noise to the best guess makes no sample. We
# go a small part of the way, and guess anew.

# %% [markdown] tags=["notes"]
# 8 minutes up to here. Ask: why is the best guess at log_snr -6 a place where there is no
# data? (Squared error wants a mean.) That is why a jump to the best guess cannot work.

# %% [markdown]
# ## 3. The mathematics
#
# **Noise.** A *schedule* is a list $1 = \bar\alpha_0 > \bar\alpha_1 > \dots > \bar\alpha_T
# \approx 0$ of the share of variance that is still signal after $t$ steps;
# $\alpha_t = \sqrt{\bar\alpha_t}$ and $\sigma_t = \sqrt{1-\bar\alpha_t}$. All $t$ steps can be
# taken at once:
#
# $$x_t = \alpha_t\,x_0 + \sigma_t\,\epsilon,\qquad \epsilon\sim\mathcal N(0, I). \tag{1}$$
#
# From $s$ to a later $t$ the signal shrinks by $\alpha_t/\alpha_s$ and noise is added, of
# variance $\sigma_t^2-(\alpha_t/\alpha_s)^2\sigma_s^2$: then the variances of (1) come out
# right. *In numbers:* $x_0 = 2$, $\alpha_t = 0.6$, $\sigma_t = 0.8$, $\epsilon = -1$ give
# $x_t = 0.4$.
#
# (Data are at $t = 0$ and noise at $T$, here as in most papers. Those on flow matching run the
# other way. DDPM's paper writes $\alpha_t$ for one step's share $\bar\alpha_t/\bar\alpha_{t-1}$.)
#
# **One step back.** If $x_0$ is known, the place at $s$ between $x_0$ and $x_t$ is Gaussian.
# All noise is fresh, so $x_t$ depends on $x_s$ alone, and by Bayes
# $q(x_s|x_t,x_0)\propto q(x_s|x_0)\,q(x_t|x_s)$: two Gaussians in $x_s$, whose product is one.
# Completing the square gives, with $r = 1-\mathrm{SNR}_t/\mathrm{SNR}_s$,
#
# $$q(x_s|x_t,x_0) = \mathcal N\Bigl(\frac{\alpha_t}{\alpha_s}\frac{\sigma_s^2}{\sigma_t^2}\,x_t
#   + r\,\alpha_s\,x_0,\;\; r\,\sigma_s^2 I\Bigr). \tag{2}$$
#
# **The model** does not know $x_0$. It starts from $p(x_T) = \mathcal N(0, I)$ and takes
# steps $p(x_{t-1}|x_t)$: it uses (2) with a network's guess $\hat x_0(x_t)$ in the place of
# $x_0$.
#
# **The bound** is that of the autoencoder, with the codes $x_1,\dots,x_T$:
# $-\log p(x_0)\le\mathbb E_q\log\frac{q(x_1,\dots,x_T|x_0)}{p(x_0,\dots,x_T)}$. Write $q$ from
# its end, $q(x_T|x_0)\prod_{t\ge2}q(x_{t-1}|x_t,x_0)$ (given $x_t$, later points say no more
# about $x_{t-1}$), and $p$ as $p(x_T)\prod_t p(x_{t-1}|x_t)$. The logarithm falls apart,
# factor by factor:
#
# $$-\log p(x_0)\le \mathrm{KL}\bigl(q(x_T|x_0)\,\|\,p(x_T)\bigr)
#   + \sum_{t=2}^T \mathbb E\,\mathrm{KL}\bigl(q(x_{t-1}|x_t,x_0)\,\|\,p(x_{t-1}|x_t)\bigr)
#   - \mathbb E\log p(x_0|x_1). \tag{3}$$
#
# The first term has no network in it. The last is the *decoder*: if the noise begins small
# enough, $x_1$ is so near to $x_0$ that it needs none either
# ([`decoders.py`](../../gdm_course/diffusion/decoders.py)). In between stand two Gaussians
# with the same variance, whose means differ by $r\alpha_s(x_0-\hat x_0)$. Their KL is the
# squared difference over twice the variance,
#
# $$\frac{r^2\alpha_s^2\,|x_0-\hat x_0|^2}{2\,r\,\sigma_s^2}
#   = \tfrac12\bigl(\mathrm{SNR}_s-\mathrm{SNR}_t\bigr)\,|x_0-\hat x_0|^2. \tag{4}$$
#
# **Three targets.** $x_t$ is known, so by (1) a network that says $\epsilon$ says $x_0$, too.
# A third choice is the *velocity*:
#
# $$v = \alpha\,\epsilon - \sigma\,x_0,\qquad x_0 = \alpha\,x_t - \sigma\,v. \tag{5}$$
#
# Nothing is divided by $\alpha$ here, which is nearly 0 at the end. From (5),
# $|x_0-\hat x_0|^2 = \sigma^2|v-\hat v|^2$.
#
# **The simple loss** is the mean squared error of $v$, at a random step. (Ho and others, who
# named it, took that of $\epsilon$: another weight.) As $T$ grows, the sum of (4) becomes an integral over $l =$ log_snr. There
# $\mathrm{SNR}_s-\mathrm{SNR}_t\to\mathrm{SNR}\,dl$ and $\mathrm{SNR}\cdot\sigma^2 = \alpha^2$:
#
# $$\text{simple: }\ \mathbb E_{t}\,|v-\hat v|^2,\qquad
#   \text{bound: }\ \tfrac12\int\alpha^2\,\mathbb E\,|v-\hat v|^2\,dl. \tag{6}$$
#
# Apart from the ends of (3), the two differ in nothing but the weight of each noise level
# (and the code divides the first by $D$). The schedule decides how often
# the simple loss looks at a level. The bound counts errors of $\epsilon$, in all of log_snr
# alike: by (1) and (5), $\alpha\,|v-\hat v| = |\epsilon-\hat\epsilon|$.
#
# **Question.** The schedule plays two roles, in training and in sampling. Can a network that
# was trained with one be used with another?
#
# <details><summary>Answer</summary>
#
# Yes, if the network is told log_snr and not the number of the step: what it has to say
# depends on $\alpha$ and $\sigma$ alone. Ours is told log_snr. But it can be relied on only
# at levels at which its training looked (section 6). </details>

# %% [markdown] tags=["notes"]
# 15 minutes. On the board: the product of two bells for (2), in one dimension. It usually
# sticks at the order of the factors of q: draw the chain, and cover up the left part.

# %% [markdown]
# ## 4. Build: the chain
#
# A [`Schedule`](../../gdm_course/diffusion/schedule.py) keeps log_snr of all steps, and
# tells `alpha(t)` and `sigma(t)`. `rowwise` shapes one number per row so that it multiplies
# pictures too.


# %% tags=["from:diffusion.schedule.q_sample"]
def q_sample(x0: Tensor, t: Tensor | int, eps: Tensor, schedule: Schedule) -> Tensor:
    """Take t steps of noise at once: alpha_t x0 + sigma_t eps, equation (1).

    Args:
        x0: data (B, *D).
        t: steps, one number or (B,).
        eps: standard normal noise (B, *D).
        schedule: says alpha and sigma.
    """
    alpha, sigma = schedule.alpha(t), schedule.sigma(t)
    return rowwise(alpha, x0) * x0 + rowwise(sigma, x0) * eps


# %% tags=["from:diffusion.schedule.posterior"]
def posterior(
    x0: Tensor, x_t: Tensor, s: Tensor | int, t: Tensor | int, schedule: Schedule
) -> tuple[Tensor, Tensor]:
    """Return mean and variance of q(x_s | x_t, x0) for any s < t, equation (2).

    With r = 1 - SNR_t / SNR_s, what the steps from s to t took of the ratio:
        mean = (alpha_t / alpha_s) (sigma_s^2 / sigma_t^2) x_t + r alpha_s x0,
        variance = r sigma_s^2.

    Args:
        x0, x_t: clean and noisy (B, *D).
        s, t: steps, one number or (B,); s = 0 returns x0 and 0.
        schedule: says alpha and sigma.

    Returns:
        The mean (B, *D), and the variance of every coordinate, (B, 1, ...) or (1, 1, ...).
    """
    r = -torch.expm1(schedule.log_snr(t) - schedule.log_snr(s))
    shrink = schedule.alpha(t) / schedule.alpha(s)
    keep = shrink * (schedule.sigma(s) / schedule.sigma(t)).square()
    mean = rowwise(keep, x_t) * x_t + rowwise(r * schedule.alpha(s), x0) * x0
    return mean, rowwise(r * schedule.sigma(s).square(), x0)


# %% tags=["from:diffusion.schedule.step_kl"]
def step_kl(
    x0: Tensor, x0_hat: Tensor, s: Tensor | int, t: Tensor | int, schedule: Schedule
) -> Tensor:
    """Return KL(q(x_s | x_t, x0) || q(x_s | x_t, x0_hat)) in nats, equation (4): (B,).

    (SNR_s - SNR_t) |x0 - x0_hat|^2 / 2: both have the same variance.

    Args: clean (B, *D) and guessed (B, *D); steps 0 < s < t, one number or (B,).
    """
    snr_s, snr_t = schedule.log_snr(s).exp(), schedule.log_snr(t).exp()
    return (snr_s - snr_t).to(x0) / 2 * (x0 - x0_hat).flatten(1).square().sum(1)


# %% [markdown]
# A test that knows nothing of (2): multiply the two Gaussians on a fine grid. $s$ and $t$ may
# be far apart.

# %%
cosine = cosine_schedule(100).double()
s, t, x0, x_t = 20, 60, torch.tensor([[1.0]]).double(), torch.tensor([[0.2]]).double()
mean, var = posterior(x0, x_t, s, t, cosine)
grid = torch.linspace(-4, 4, 100_001).double()
shrink = cosine.alpha(t) / cosine.alpha(s)
added = cosine.sigma(t) ** 2 - shrink**2 * cosine.sigma(s) ** 2
log_q = -((grid - cosine.alpha(s) * x0) ** 2) / (2 * cosine.sigma(s) ** 2)
log_q = log_q - (x_t - shrink * grid) ** 2 / (2 * added)
q = log_q[0].softmax(0)
on_grid = (q * grid).sum()
print(f"mean {mean.item():.4f}, on the grid {on_grid:.4f}")
print(f"variance {var.item():.4f}, on the grid {(q * (grid - on_grid) ** 2).sum():.4f}")
assert torch.isclose(mean.squeeze(), on_grid, atol=1e-5)
assert torch.isclose(var.squeeze(), (q * (grid - on_grid) ** 2).sum(), atol=1e-5)

# %% [markdown]
# **What a network is asked for** is a small class, so that it can be exchanged.
# [`Noise` and `Clean`](../../gdm_course/diffusion/targets.py) look the same.


# %% tags=["from:diffusion.targets.Velocity"]
class Velocity:
    """The network says v = alpha eps - sigma x0; x0 = alpha x_t - sigma v, no division."""

    def target(self, x0: Tensor, eps: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        """Return what the network is to say: all (B, *D), alpha and sigma broadcast."""
        return alpha * eps - sigma * x0

    def clean(self, out: Tensor, x_t: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        """Return the clean data that the network's answer stands for: (B, *D)."""
        return alpha * x_t - sigma * out


# %% tags=["from:diffusion.ddpm.DenoisingModel"]
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


# %% tags=["from:diffusion.ddpm.DenoisingSteps"]
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


# %% [markdown]
# With `x0_hat` known, (1) gives the noise, and the noise gives the score, the slope of the
# log density of $x_t$: $-\mathbb E[\epsilon|x_t]/\sigma_t$ (the next unit shows why). Now the
# model itself. `elbo` estimates (3) from one random step of each row. `sample` ends with the
# guess $\hat x_0(x_1)$, where (3) has the decoder: they differ by about $x_1$'s noise.


# %% tags=["from:diffusion.ddpm.DDPM"]
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


# %% [markdown]
# [`spread_steps`](../../gdm_course/diffusion/ddpm.py) draws the steps $t$, evenly over the
# batch; `prior_kl` is the first term of (3); `hidden` hides a share of the
# labels, if there are labels.
#
# ## 5. A perfect network has no tight bound
#
# The bells are known, so we can put the *best* denoiser into the model, and subtract the true
# $-\log p$ from the bound. Its mean is the entropy, the lowest that any model reaches.
#
# **Predict:** with a perfect network and 20 steps, how far is the bound above it: 0.01, 0.1,
# 1 or 10 nats?


# %%
@torch.no_grad()
def bound_gaps(net, x, log_p, T):
    """Bound (3) minus -log p: as it is, and with the best width for every step."""
    chain = schedules.log_snr_schedule(T, high=14, low=-12)
    perfect = DDPM(net, (2,), schedule=chain, target=Clean())
    x_1 = q_sample(x, 1, torch.randn_like(x), chain)
    ends = prior_kl(x, chain) - perfect.decoder.log_likelihood(x, x_1, chain)
    costs = []
    for t in range(2, T + 1):
        x_t = q_sample(x, t, torch.randn_like(x), chain)
        costs.append(step_kl(x, perfect.predict_clean(x_t, t), t - 1, t, chain).mean())
    cost, rest = torch.stack(costs), (log_p + ends).mean()
    return (rest + cost.sum()).item(), (rest + cost.log1p().sum()).item()


seed_everything(0)
x = bells.sample(budget(6000, 2000)).float()
width = bells.law.sigma[0].item()
alone = MixtureDenoiser(torch.zeros(1, 2), width)  # one bell in the middle
x_alone = width * torch.randn_like(x)
log_alone = torch.distributions.Normal(0, width).log_prob(x_alone).sum(1)
print(f"entropy {bells.entropy():.3f} nats; bound minus -log p of the truth:")
gaps, lone = {}, {}
for T in (20, 50, 100, 1000):
    gaps[T] = bound_gaps(best, x, bells.log_prob(x), T)
    lone[T] = bound_gaps(alone, x_alone, log_alone, T)
    print(
        f"T = {T:4d}: eight bells {gaps[T][0]:6.2f}, one bell {lone[T][0]:6.2f}", end="; "
    )
    print(f"with the best widths {gaps[T][1]:.2f} and {lone[T][1]:.2f}")
assert gaps[20][0] > 9 and gaps[20][0] > 2 * gaps[50][0] > 3 * gaps[100][0]
assert gaps[1000][0] < gaps[100][0] / 3 and lone[20][0] > 0.7 * gaps[20][0]
assert abs(lone[20][1]) < 0.1 and gaps[20][1] < gaps[20][0] / 10

# %% [markdown]
# <details><summary>Answer</summary>
#
# Over ten nats (first column). Ten times as many steps, about a tenth of the gap. </details>
#
# No network is to blame. Is it that the true step back is no Gaussian, since from between two
# bells it leads to the one or the other? The control is one bell, where it *is* a Gaussian:
# most of the gap stays. The fault is the width. (2) is the step of somebody who knows $x_0$;
# with a guess it has to be wider. With the variance times $\rho$, a mean cost $C$ of (4) becomes
# $\frac D2(\frac1\rho-1+\log\rho)+\frac C\rho$, least at $\rho=1+2C/D$: $\frac D2\log(1+2C/D)$.
# Then one bell has no gap, up to the draws' noise, and eight have little: the price of a Gaussian of
# one width. Remedies are a thousand steps, as here, or widths that are learned (Nichol and
# Dhariwal; Bao and others, arXiv:2201.06503).
#
# **Question.** How much longer does one training step take with $T = 1000$ than with 20?
#
# <details><summary>Answer</summary>
#
# No longer: `loss` looks at one step of each row. Sampling takes 50 times as long. </details>

# %% [markdown] tags=["notes"]
# 16 minutes for sections 4 and 5. Before the table, collect guesses: most say 0.1. Expect
# "then a better network helps": it cannot, this one is perfect. Before reading on, ask for a
# reason; "no Gaussian" is refuted by the second column.

# %% [markdown]
# ## 6. Train in the plane, beside the truth
#
# A perceptron, [`Denoiser`](../../gdm_course/diffusion/denoiser.py), sees a point of the two
# moons and waves of it; log_snr scales and shifts what its layers say. `normal_schedule`
# takes most of its steps around log_snr 2.4, where the moons can be told from noise.

# %%
moons = toy.get("two_moons")
ideal = MixtureDenoiser(moons.law.means, moons.law.sigma, moons.law.weights).float()
seed_everything(0)
x_train, x_test = moons.sample(50_000).float(), moons.sample(20_000).float()


def fit(model, steps, x=x_train, B=512, lr=5e-3):
    """Train with a rate that falls to 0; yields (step, loss)."""
    yield from train(model, forever(x, B), steps, lambda k: lr * (1 - k / steps))


model = DDPM(Denoiser(2), (2,), schedule=schedules.normal_schedule(1000))
panels = {
    "truth": lambda ax: plot.scatter(x_test[:1000], ax, moons.bounds),
    "model, 20 jumps": lambda ax: plot.scatter(ddim(model, 1000, 20), ax, moons.bounds),
}
for _ in watch(fit(model, budget(1000, 20)), 250, panels, "squared error of v"):
    pass
assert isinstance(model, protocols.Sampler) and isinstance(model, protocols.Trainable)


# %%
@torch.no_grad()
def noise_error(model, level):
    """Mean squared error of eps to the best denoiser's, at one log_snr."""
    level = torch.tensor(float(level))
    alpha, sigma = level.sigmoid().sqrt(), (-level).sigmoid().sqrt()
    noisy = alpha * x_test + sigma * torch.randn_like(x_test)
    gap = alpha / sigma * (model.denoise(noisy, level) - ideal(noisy, level))
    return gap.square().sum(1).mean().item()


even = schedules.log_snr_schedule(1000, high=12, low=-8)
other = DDPM(Denoiser(2), (2,), schedule=even)
for _ in fit(other, budget(1000, 20)):
    pass
seed_everything(1)
at = range(-4, 13, 2)
errors, evenly = ({k: noise_error(m, k) for k in at} for m in (model, other))
print("log_snr " + "".join(f"{k:8d}" for k in at))
print("error   " + "".join(f"{e:8.4f}" for e in errors.values()))
print("evenly  " + "".join(f"{e:8.4f}" for e in evenly.values()))
model.schedule = schedules.log_snr_schedule(10_000, high=12, low=-8)
perfect, gaps = DDPM(ideal, (2,), schedule=model.schedule, target=Clean()), []
for k in range(budget(10, 1)):
    bounds = []
    for m in (perfect, model):
        seed_everything(k)  # the same draws for both
        with torch.no_grad():
            bounds.append(m.elbo(x_test))
    gaps.append(bounds[0] - bounds[1])
gap = torch.cat(gaps)
error = gap.std().item() / len(gap) ** 0.5
half = torch.trapezoid(torch.tensor([*errors.values()]), dx=2.0).item() / 2
print(f"bound minus that of the best denoiser: {gap.mean():.3f} +- {error:.3f} nats")
print(f"half the integral of the errors: {half:.3f} nats")
if full_run():
    assert half < 0.3 and errors[-4] < 0.02
    assert abs(gap.mean() - half) < 0.02 + 6 * error
    assert evenly[12] < errors[12] / 4 and evenly[4] > errors[4]

# %% [markdown]
# The best guess is a mean, so squared errors add: a network's error of $\epsilon$ is that of
# the best denoiser plus its distance to the best. So by (6) its bound lies above the best
# one's by half the integral of these distances (trapezoids). Both take the same draws:
# most of their noise cancels.
#
# With little noise the errors grow. Is it because the schedule seldom looks there (above 10.3
# never)? `other` is
# the control: trained alike, with log_snr in equal steps. At 12 its error is far smaller, and
# at 4 greater.
#
# **Change** `even` to `cosine_schedule(1000)`, and run the cell again. Where is its error
# greater?
#
# <details><summary>Answer</summary>
#
# At log_snr 4 and 6, where noise is as wide as the bands of the moons, it is two to three times
# as large: the cosine takes a third as many of its steps there. </details>

# %% [markdown] tags=["notes"]
# 8 minutes. Ask: which levels matter for the look of a sample, which for the bound? (The
# bound counts all alike in log_snr.)

# %% [markdown]
# ## 7. Break it: a schedule made for another T
#
# DDPM's own schedule removes the shares $\beta_t = 0.0001,\dots,0.02$ of the variance, in
# $T = 1000$ steps: $\bar\alpha_t = \prod_{i\le t}(1-\beta_i)$. Many programs keep these
# numbers and take 100 steps. The switch `rescale=False` does so. We sample with the *best*
# denoiser, so that the network is not at fault.

# %%
broken = {
    "betas as they are": schedules.linear_schedule(100, rescale=False),
    "betas times 10": schedules.linear_schedule(100),
    "cosine": cosine_schedule(100),
}
row = "{:20s}{:>14s}{:>18s}{:>10s}{:>12s}".format
print(f"{'':52s}share right of the middle, and from a true x_T")
print(row("100 steps", "alpha_bar_T", "prior, nats/dim", "right", "true start"))
drawn, right, mended = {}, {}, {}
truth_right = (x_test[:, 0] > 0.5).float().mean().item()
for name, chain in broken.items():
    seed_everything(0)
    perfect = DDPM(ideal, (2,), schedule=chain, target=Clean())
    drawn[name] = perfect.sample(4000)
    true_start = q_sample(x_test[:2000], 100, torch.randn(2000, 2), chain)
    from_true = ddim(perfect, 2000, 100, 1.0, start=true_start)  # the same 100 steps
    for found, x in ((right, drawn[name]), (mended, from_true)):
        found[name] = (x[:, 0] > 0.5).float().mean().item()
    prior = prior_kl(x_test, chain).mean().item() / 2
    left = chain.alpha(100).item() ** 2
    shares = (f"{found[name]:.3f}" for found in (right, mended))
    print(row(name, f"{left:.2g}", f"{prior:.2g}", *shares))
print(row("data", "", "", f"{truth_right:.3f}", ""))
assert right["betas as they are"] < truth_right - 0.03
assert abs(right["betas times 10"] - truth_right) < 0.04
assert abs(mended["betas as they are"] - truth_right) < 0.04

# %% tags=["fold"]
# @title The data, and samples of the three schedules with a perfect network
shown = {"data": x_test[:4000], **drawn}
for ax, x in zip(plot.panels(*shown), shown.values()):
    plot.scatter(x, ax, moons.bounds)

# %% [markdown]
# A third of the variance is still signal at $t = T$: the true $x_T$ has its middle at
# $0.6\cdot0.5$, but the chain starts at 0, and the left half gets too many points. The last
# column is the control: the same steps from a true $x_T$. So the start was at fault, and the
# steps do not repair it. No loss shows it, for `loss` never looks at the start. The first term
# of (3) does, and it costs nothing to compute. Let the betas fit: times $1000/T$, or take
# another schedule.
#
# ## 8. DDIM: jumps, with and without noise
#
# The steps (2) are random. **DDIM** takes any step from $t$ to $s$, with a share $\eta$
# from 0 to 1 of fresh noise:
#
# $$x_s = \alpha_s\hat x_0 + \sqrt{\sigma_s^2-c^2}\;\hat\epsilon + c\,\xi,\qquad
#   c^2 = \eta^2\,r\,\sigma_s^2,\qquad \xi\sim\mathcal N(0, I). \tag{7}$$
#
# $\hat\epsilon$ is the noise that belongs to $\hat x_0$, and $\xi$ is fresh. For the true
# $x_0$ and $\epsilon$, the noise in $x_s$ has the variance
# $\sigma_s^2-c^2+c^2$: (1) holds at $s$ for every $\eta$. So the network need not be trained
# anew. $\eta = 1$ is (2) itself; with $\eta = 0$ nothing is random after the start.


# %% tags=["from:diffusion.ddim.ddim_step"]
def ddim_step(
    x_t: Tensor,
    x0_hat: Tensor,
    s: int,
    t: int,
    schedule: Schedule,
    eta: float = 0.0,
    noise: Tensor | None = None,
) -> Tensor:
    """Go from step t to any earlier step s: mix the guess, its noise, and fresh noise, (7).

    x_s = alpha_s x0_hat + sqrt(sigma_s^2 - c^2) eps_hat + c noise,
    c^2 = eta^2 (1 - SNR_t / SNR_s) sigma_s^2, eps_hat = (x_t - alpha_t x0_hat) / sigma_t.

    Args:
        x_t, x0_hat: where the chain is, and the clean data it is guessed to be (B, *D).
        s, t: steps, s < t.
        schedule: says alpha and sigma.
        eta: 0 has no noise; 1 is a step of DDPM's own chain.
        noise: standard normal (B, *D); drawn if None and needed.
    """
    a_s, a_t, sd_s, sd_t = (
        rowwise(f(k), x_t) for f in (schedule.alpha, schedule.sigma) for k in (s, t)
    )
    eps_hat = (x_t - a_t * x0_hat) / sd_t
    r = rowwise(-torch.expm1(schedule.log_snr(t) - schedule.log_snr(s)), x_t)
    kept = sd_s * (1 - eta**2 * r).sqrt()
    x_s = a_s * x0_hat + kept * eps_hat
    if eta:
        noise = noise_like(x_t) if noise is None else noise
        x_s = x_s + eta * r.sqrt() * sd_s * noise
    return x_s


# %% [markdown]
# **Play:** the same 1,000 starts, $\eta$ and the number of steps. Colours say from where in
# the noise a point came.

# %%
seed_everything(2)
start = torch.randn(1000, 2)
walk = DDPM(model.net, (2,), schedule=schedules.normal_schedule(200))
hue = torch.atan2(start[:, 1], start[:, 0])


def draw_jumps(eta, steps):
    """Draw where the starts end, and how likely the truth thinks that is."""
    x = ddim(walk, 1000, steps, eta, start=start)
    near = moons.log_prob(x.double()).mean()
    (ax,) = plot.panels(f"eta {eta}, {steps} steps: mean log p {near:.1f}", width=4.5)
    ax.scatter(*x.T, c=hue, cmap="twilight", s=5)
    plot.plane(moons.bounds, ax)


play(draw_jumps, eta=[0.0, 0.3, 0.6, 1.0], steps=[20, 3, 5, 10, 50, 100])
ends = {}
for eta in (0.0, 1.0):
    seed_everything(3)
    few, many = (ddim(walk, 1000, n, eta, start=start) for n in (20, 100))
    ends[eta] = (few - many).norm(dim=1).median().item()
    three, again = (ddim(walk, 1000, n, eta, start=start) for n in (3, 20))
    away = [(x - few).norm(dim=1).median() for x in (three, again, few.roll(1, 0))]
    print(
        f"eta {eta}: medians to the end of 20 steps: from 100 steps {ends[eta]:.3f},",
        end="",
    )
    print(" from 3 {:.3f}, 20 again {:.3f}, another start {:.3f};".format(*away), end=" ")
    low, high = (moons.log_prob(x.double()).mean() for x in (three, many))
    print(f"mean log p {low:.1f} with 3 steps, {high:.1f} with 100")
print(
    f"mean log p of the data {moons.log_prob(x_test).mean():.1f}: a sampler can be above it, too"
)
if full_run():
    assert ends[0.0] < 0.1 < 0.3 < ends[1.0]

# %% [markdown]
# Without noise the end hardly depends on the number of steps, if there are enough of them,
# and most neighbours stay neighbours, as the colours show. With noise the end is drawn anew:
# the same start twice ends almost as far apart as two starts. With 3 steps both are poor.
#
# **Question.** Which of the two can be run from data to noise and back?
#
# <details><summary>Answer</summary>
#
# $\eta = 0$: every step is a fixed map, and it can be followed backwards, the more exactly
# the shorter the steps. </details>

# %% [markdown] tags=["notes"]
# 12 minutes for sections 7 and 8. Ask before the break: which number on the screen would have
# told us? (The prior term; the loss is no worse.) Leave out the derivation of the variance.

# %% [markdown]
# ## 9. Pictures: the U-Net
#
# For pictures the network has to know the whole, and to place every edge. The **U-Net** goes
# down to a coarse picture and up again; at every size a *skip* hands the fine picture across.
# What is told, log_snr and a label, scales and shifts every block.

# %% tags=["fold"]
# @title The U-Net, with the shapes of a real pass
seed_everything(0)
digits = images.load("digits")
x_digits, y_digits = digits.x_train, digits.y_train
few = {"high": 8.0, "low": -8.0}
painter = ImageDDPM((1, 8, 8), 17, width=24, classes=10, drop=0.3, **few)
net, pictures = painter.net, painter.embed(x_digits[:4])
level = torch.zeros(4)
seen = schematics.trace(net, pictures, level)
body = net.body
inside = {m: seen.first(m) for m in (*body.down, *body.up, body.shrink[0], body.look)}
d = schematics.Drawing(
    "U-Net: down to a coarse picture and up again, skips across",
    "A convolution, a stage, half the size, a stage with attention, double size, a stage.",
    batch=4,
)
x = d.picture(pictures, "$x_t$", (0, 0))
first = d.network(net.first, "convolution", (1, 0))
high = d.network(body.down[0], "stage", (2, 0))
half = d.network(body.shrink[0], "half the size", (2, 2))
low = d.network(body.down[1], "stage", (3, 2))
middle = [body.before, body.look, body.after]
look = d.network(nn.ModuleList(middle), "blocks, attention", (4, 2))
up = d.network(body.up[0], "stage", (5, 2))
twice = d.network(body.grow[0], "double size", (6, 2))
last = d.network(body.up[1], "stage", (6, 0))
v = d.network(net.last, "convolution", (7, 0))
told = d.network(net.knows, "log_snr, label", (4, 4))
d.arrow(x, first, "", pictures)
d.arrow(first, high, "", inside[body.down[0]].given["h"])
d.arrow(high, last, "skip", inside[body.down[0]].result)
d.arrow(high, half)
d.arrow(half, low, "", inside[body.shrink[0]].result)
d.arrow(low, look, "", inside[body.down[1]].result)
d.arrow(look, up)
d.arrow(low, up, "skip", inside[body.down[1]].result, via=[(3, 1), (5, 1)])
d.arrow(up, twice, "", inside[body.up[0]].result)
d.arrow(twice, last)
d.arrow(last, v, "", inside[body.up[1]].result)
d.arrow(v, d.box("$v$", (8, 0), of=seen.result))
d.arrow(told, look)
d.frame([high, half, low, look, up, twice, last], "stages and blocks are told")
d

# %% [markdown]
# [`ImageDDPM`](../../gdm_course/diffusion/unet.py) is our `DDPM` with this network, a decoder
# for grey levels, and the bound (3) itself as its loss. Its bound is in bits per pixel: nats
# over $64\ln2$. Labels are hidden in 30 % of the cases, so that the network learns to do
# without.

# %%
seed_everything(0)
steps = budget(150, 3)
loop = train(
    painter,
    forever((x_digits, y_digits), 64),
    steps,
    lambda k: 3e-3 * min((k + 1) / 20, 1) * (1 - k / steps),
)
for _ in watch(loop, 75, unit="nats per pixel"):
    pass
seed_everything(1)
here = chain_bits(painter, digits.x_test, budget(4000, 100))
print(f"test digits: {here.value:.2f} +- {here.error:.2f} bits/dim; uniform guess", end=" ")
print(f"{math.log2(17):.2f}")
if full_run():
    assert here.value < 3.6

# %% [markdown]
# Ten seconds do not make a painter. The same class, wider, trained for longer by `gdm train`,
# with weights averaged over the last steps (EMA): samples with labels 0 to 9, by 30 jumps of
# DDIM, read by a classifier. (Its share can be above that of real digits: it does not see
# variety.) The bound gets tighter with more steps, as in section 5.


# %%
def gallery(name, K, side, y=None):
    """Show samples of a checkpoint, and what its card says; None if there is none."""
    if not checkpoints.available(name):
        print(f"no checkpoint yet: 'gdm train {name}' makes it")
        return None
    model, card = checkpoints.load(name), checkpoints.card(name)
    seed_everything(4)
    x = ddim(model, 40, 30, y=y)
    plot.image_grid(x / (K - 1), plot.panels(name, width=4.5, height=2.1)[0], 10)
    for f in (f for f in card["figures"] if f["split"] == "test"):
        print(f"{f['metric']}: {f['value']:.3f} +- {f['error']:.3f} {f['unit']}", end="; ")
    print(f"{card['parameters']:,} parameters, {card['seconds']:.0f} s")
    return model, x


labels = torch.arange(40) % 10
found = gallery("diffusion/ddpm-digits", 17, 8, labels)
if found:
    reader = LogisticRegression(max_iter=2000).fit(x_digits.flatten(1).numpy(), y_digits)
    many = torch.arange(200) % 10
    drawn_digits = ddim(found[0], 200, 30, y=many).flatten(1).numpy()
    print(f"read as their label: {reader.score(drawn_digits, many):.1%}", end="; ")
    real = reader.score(digits.x_test.flatten(1).numpy(), digits.y_test)
    print(f"real test digits {real:.1%}")
    for T in (20, 100, 1000):
        found[0].schedule = schedules.log_snr_schedule(T, **few)
        seed_everything(5)
        bits = chain_bits(found[0], digits.x_test, budget(3000, 300)).value
        print(f"T = {T}: {bits:.2f} bits/dim")
for name, side in (("ddpm-mnist", 28), ("ddpm-mnist-cpu", 28), ("ddpm-cifar10", 32)):
    gallery(f"diffusion/{name}", 256, side)

# %% [markdown]
# **Question.** The samples take 30 jumps, the bound is of 1,000 steps. Does the bound tell how
# good these samples are?
#
# <details><summary>Answer</summary>
#
# No. Most bits go to details that no eye sees. And the bound belongs to the chain that takes
# all steps with its own noise: jumps draw from another law, with the same network. </details>

# %% [markdown] tags=["notes"]
# 8 minutes. Trace one skip in the drawing with a finger. Ask what would be lost without it;
# a further section measures that.

# %% [markdown]
# ## Summary
#
# - **The encoder is noise**, fixed: (1) takes all steps at once, (2) one step back.
# - **The bound** is a sum of squared errors, weighted by differences of the signal-to-noise
#   ratio. A perfect network's bound has a gap that falls like $1/T$: (2) is too
#   narrow for a guess.
# - **Three targets** say the same; $v$ divides by nothing. The simple loss is the bound with
#   other weights on the noise levels.
# - **A schedule** belongs to its $T$: look at $\bar\alpha_T$ and at the prior term.
# - **DDIM** jumps with the same network, with any amount of fresh noise.
#
# | | evaluations of the network | unit |
# |---|--:|---|
# | a training step | 1 | mean squared error |
# | the bound, one draw | 1 | nats, or bits/dim for codes |
# | a sample of the chain | $T$ | |
# | a sample of DDIM | 20 to 100 | |
#
# **Exercises:** open them with `gdm start diffusion/ddpm`.
#
# ## References
#
# - Sohl-Dickstein, Weiss, Maheswaranathan, Ganguli (2015). *Deep unsupervised learning using
#   nonequilibrium thermodynamics.* arXiv:1503.03585.
# - Ho, Jain, Abbeel (2020). *Denoising diffusion probabilistic models.* arXiv:2006.11239.
# - Song, Meng, Ermon (2021). *Denoising diffusion implicit models.* arXiv:2010.02502.
# - Nichol, Dhariwal (2021). *Improved denoising diffusion probabilistic models.*
#   arXiv:2102.09672.
# - Kingma, Salimans, Poole, Ho (2021). *Variational diffusion models.* arXiv:2107.00630.
# - Salimans, Ho (2022). *Progressive distillation for fast sampling of diffusion models.*
#   arXiv:2202.00512.

# %% [markdown]
# ## Further: a decoder that costs 0.8 bits before any diffusion
#
# DDPM's first paper ends the chain with a Gaussian around the guess $\hat x_0(x_1)$, as wide
# as the first step of noise, $\sigma_1 = \sqrt{\beta_1} = 0.01$. A grey level gets the area
# above its bin, which is $2/255 = 0.0078$ wide in $[-1, 1]$: less than a standard deviation.
# So even a guess that lies *exactly on the level* does not get its probability to 1. Only
# black and white do better, whose bins are open at one end. (The authors' code takes a
# smaller width for this last step, 0.0074.)


# %%
def exact_mean_bits(sigma, levels=256):
    """Bits of an inner pixel and of a black or white one, the guess exactly on the level."""
    half = torch.tensor(1 / (levels - 1) / sigma).double()
    inner = torch.erf(half / math.sqrt(2))
    return -inner.log2().item(), -((1 + inner) / 2).log2().item()


for sigma in (0.0074, 0.01):
    inner, edge = exact_mean_bits(sigma)
    print(
        f"sigma {sigma}: an inner pixel {inner:.3f} bits, a black or white one {edge:.3f}"
    )
    if download.here("mnist"):
        x = images.load("mnist").x_test
        ends = ((x == 0) | (x == 255)).double().mean().item()
        cost = ends * edge + (1 - ends) * inner
        print(f"  MNIST: {ends:.1%} of the pixels at an end, {cost:.2f} bits/dim")
        assert 0.6 < cost < 0.9
assert abs(inner - 1.713) < 0.01 and abs(edge - 0.616) < 0.01

# %% [markdown]
# With 0.01, no guess inside $[-1, 1]$ gets MNIST below 0.8 bits per pixel. The notebooks of
# the University of Amsterdam report a PixelCNN that needs 0.808 for everything.
#
# Are these bits lost? That depends on what $x_1$ leaves *open*: the entropy of the level,
# given $x_1$, is due in any case. Take a pixel that is always black, and one that has any
# of the 256 levels by chance, each with its best guess. Our decoder has no guess: it asks
# how likely each level is to have become $x_1$, if before that all are equally likely.


# %%
from gdm_course.training import generator


def last_bits(weights, log_snr, n=4000):
    """Bits that x_1 leaves open about a level, that DDPM's decoder takes, and that ours does."""
    g, at = generator(0), torch.tensor(log_snr).double()
    alpha, sigma = at.sigmoid().sqrt(), (-at).sigmoid().sqrt()
    levels = torch.linspace(-1, 1, 256).double()
    code = weights.multinomial(n, True, generator=g)[:, None]
    x_1 = alpha * levels[code] + sigma * torch.randn(n, 1, generator=g).double()
    ours = (-((x_1 - alpha * levels) ** 2) / (2 * sigma**2)).log_softmax(1)
    given = (ours + weights.log()).log_softmax(1)  # log P(level | x_1)
    edges = (levels[1:] + levels[:-1]) / 2
    below = torch.special.ndtr((edges - given.exp() @ levels[:, None]) / sigma)
    theirs = nn.functional.pad(below, (1, 0)).diff(append=torch.ones(n, 1)).log()
    return [
        p.gather(1, code).mean().abs().item() / math.log(2) for p in (given, theirs, ours)
    ]


kinds = {"always black": torch.eye(256)[0], "any level": torch.ones(256) / 256}
last = {}
for name, weights in kinds.items():
    for log_snr in (9.2, 13.3):  # sigma 0.01 and 0.0013
        last[name, log_snr] = last_bits(weights.double(), log_snr)
        told = "open {:.3f}, DDPM's decoder {:.3f}, ours {:.3f} bits".format(
            *last[name, log_snr]
        )
        print(f"{name:12}, first log_snr {log_snr:4}: {told}")
assert last["always black", 9.2][1] > 0.6 and last["always black", 9.2][0] < 1e-6
assert abs(last["any level", 9.2][1] / last["any level", 9.2][0] - 1) < 0.01
assert max(x[2] for key, x in last.items() if key[1] == 13.3) < 0.02

# %% [markdown]
# Where every level is possible, DDPM's decoder takes hardly more than is due. Where the level
# is certain, as in MNIST's border, all that it takes is lost. The repair is to let the noise
# begin smaller: our `log_snr_schedule` begins at 13.3. There $x_1$ tells the levels apart, and
# what is open at 9.2 is asked of the network, in the terms of (3) between. Our own decoder
# needs this even more, for it has no guess: at 9.2 it takes 1.4 bits of the black pixel.

# %% [markdown]
# ## Further: the U-Net without its skips
#
# What are the skips for? Two networks, alike but for `skips=False`, the same steps, the same
# batches. Watch the squared error of $\epsilon$ per pixel at three levels of noise, on test
# digits. A guess that knows nothing, the mean picture, stands beside it.

# %%
few_steps, skip_errors = budget(150, 2), {}
print(f"{'squared error of eps, at log_snr':35}{4:9}{0:9}{-4:9}")
for skips in (True, False):
    seed_everything(0)
    other = ImageDDPM((1, 8, 8), 17, width=16, skips=skips, high=8.0, low=-8.0)
    seed_everything(0)  # now the batches and their noise are the same, too
    loop = train(other, forever(x_digits, 64), few_steps, lambda k: 3e-3 / (1 + k / 50))
    for _ in loop:
        pass
    clean, ordinary = other.embed(digits.x_test), other.embed(x_digits).mean(0)
    seed_everything(1)
    found, ignorant = [], []
    with torch.no_grad(), evaluating(other):
        for level in (4.0, 0.0, -4.0):
            alpha, sigma = (torch.tensor(k).sigmoid().sqrt() for k in (level, -level))
            noisy = alpha * clean + sigma * torch.randn_like(clean)
            guess = other.denoise(noisy, torch.tensor(level))
            for x0_hat, errors in ((guess, found), (ordinary, ignorant)):
                error = (alpha / sigma * (x0_hat - clean)).square().mean().item()
                errors.append(error)
    skip_errors[skips] = found
    weights = sum(p.numel() for p in other.parameters())
    told = "".join(f"{e:9.4f}" for e in found)
    print(f"{f'skips={skips}, {weights:,} parameters':35}{told}")
print(f"{'the mean picture':35}" + "".join(f"{e:9.4f}" for e in ignorant))
if full_run():
    assert skip_errors[False][0] > 1.2 * skip_errors[True][0]
    assert skip_errors[False][1] > 1.2 * skip_errors[True][1]

# %% [markdown]
# With less noise the network without skips is clearly worse. It also has fewer parameters, but
# that is not why: a wider one (18 channels, more parameters than the first) did no better, and
# a second seed and four times the steps left the order as it is. Without skips every pixel has
# to pass through the coarse picture. There is room for it: $4\cdot4$ places of 32 channels are
# 512 numbers, for 64 pixels. But the way there and back has to be learned (with more steps the
# gap got smaller), and a skip is there from the start. At log_snr $-4$ the two are alike, for
# neither does better than the mean picture yet.

# %% [markdown]
# ## Further: "three targets are one" holds for algebra
#
# By (5) each target determines the others. For a network of limited width they are not the
# same task. Put the two moons onto a plane in $D$ dimensions, in some direction. The clean
# data have two numbers; the noise has $D$. A network whose layers have 64 units can say where
# in the plane a point is, whatever $D$ is. It cannot repeat $D > 64$ independent numbers: its
# last layer mixes 64 numbers, so that all its answers lie in a space of 64 dimensions. The best
# denoiser is known here too: look at the two coordinates in the plane, and ignore the rest.
#
# **Predict:** $D = 128$, 64 units, the target $\epsilon$. How large is the squared distance of
# $\hat x_0$ to the best at log_snr 0 at least, however long the training is?


# %%
from gdm_course.diffusion.targets import Noise


def embedded_error(D, target, width, fit_steps, seed=0):
    """Mean squared distance of x0_hat to the best denoiser's, at log_snr 4, 0 and -4."""
    seed_everything(seed)
    A = torch.linalg.qr(torch.randn(D, 2))[0].T  # (2, D), the plane
    net = Denoiser(D, hidden=width, waves=0)
    wide = DDPM(net, (D,), schedule=cosine_schedule(1000), target=target)
    for _ in fit(wide, fit_steps, x_train @ A, B=256, lr=3e-3):
        pass
    z, errors = x_test[:2000], []
    with torch.no_grad():
        for level in map(torch.tensor, (4.0, 0.0, -4.0)):
            alpha, sigma = level.sigmoid().sqrt(), (-level).sigmoid().sqrt()
            noisy = alpha * z @ A + sigma * torch.randn(2000, D)
            gap = wide.denoise(noisy, level) - ideal(noisy @ A.T, level) @ A
            errors.append(gap.square().sum(1).mean().item())
    return errors


embedded = {}


def tell(D, width):
    """Print how far three networks of one width are from the best, one for each target."""
    for target in (Clean(), Velocity(), Noise()):
        error = embedded_error(D, target, width, budget(300, 3))
        embedded[D, width, type(target).__name__] = error
        told = "".join(f"{e:10.3f}" for e in error)
        print(f"{f'D = {D:3d}, {width:3d} units, {type(target).__name__}':45}{told}")


print(f"{'mean squared distance to the best, at log_snr':45}{4:10}{0:10}{-4:10}")
tell(2, 64)
tell(128, 64)
least = {"Velocity": [], "Noise": []}  # 126 numbers off the plane, and 64 units
for level in map(torch.tensor, (4.0, 0.0, -4.0)):
    signal, noise = level.sigmoid().item(), (-level).sigmoid().item()  # alpha^2, sigma^2
    least["Velocity"].append(62 * signal * noise)
    least["Noise"].append(62 * noise / signal)
for name, floor in least.items():
    told = "".join(f"{e:10.3f}" for e in floor)
    print(f"{f'at least, D = 128, 64 units, {name}':45}{told}")
    assert all(e > 0.97 * low for e, low in zip(embedded[128, 64, name], floor))

# %% [markdown]
# <details><summary>Answer</summary>
#
# 62. Off the plane there are 126 independent numbers of noise, and answers in 64 dimensions
# miss at least 62 of them. At log_snr 0 an error of $\epsilon$ is one of $\hat x_0$. </details>
#
# In the plane the three are alike, but for $\epsilon$ at much noise, where its error is
# multiplied by $\sigma/\alpha$. In 128 dimensions the narrow network fails with $v$ and
# $\epsilon$, and most of its error is the least that 64 units allow. (By (5) an error of $v$
# counts $\sigma$ times, and off the plane $v$ is $\alpha\epsilon$.) The target $x_0$ does not
# mind. A network of 512 units has no such limit.

# %%
tell(128, 512)
if full_run():
    for name in ("Velocity", "Noise"):
        assert embedded[128, 64, name][1] > 20 * embedded[128, 64, "Clean"][1]
        assert embedded[128, 512, name][1] < embedded[128, 64, name][1] / 5

# %% [markdown]
# Most of the error goes. What is left of it is far above that of $x_0$, after equally many
# steps.
#
# Li and He (2025, arXiv:2511.13720) report the same of pictures in large patches.

# %% [markdown]
# ## Further: how many jumps?
#
# Each jump of DDIM asks the network once. The card of the MNIST checkpoint tells the
# [Frechet distance](../challenges/evaluation.ipynb) of 500 samples to the test pictures, by
# the number of jumps. A small classifier of the course turns each picture into 64 features;
# the distance compares their means and covariances, and is 0 if these agree. Those of only 500
# pictures never do: 500 true ones, from the training set, are the floor.

# %%
from gdm_course.evaluation.features import opinions
from gdm_course.evaluation.samples import frechet_with_error

name = "diffusion/ddpm-mnist-cpu"
if checkpoints.available(name) and download.here("mnist"):
    for f in checkpoints.card(name)["figures"]:
        if f["split"] == "test" and "jumps" in f["metric"]:
            print(f"{f['metric']:28}{f['value']:6.2f} +- {f['error']:.2f}")
    mnist = images.load("mnist")
    floor = frechet_with_error(opinions(mnist.x_train[:500]), opinions(mnist.x_test))
    print(f"{'500 training pictures':28}{floor.value:6.2f} +- {floor.error:.2f}")
else:
    print(f"it needs MNIST, and 'gdm train {name}'")

# %% [markdown]
# Each row begins with the same noise and is better than the one above, by less every time. At
# 50 jumps the samples are still far from the floor.

# %% [markdown]
# ## Further: clothes and photographs
#
# The same U-Net, with three colours for the second, learned Fashion-MNIST and CIFAR-10 on a CPU. **Predict
# before you run:** which of the three has the lowest bound in bits/dim, digits, clothes or
# photographs, and which has the worst samples, to your eye?

# %%
for name, side in (("ddpm-fashion-cpu", 28), ("ddpm-cifar10-cpu", 32)):
    gallery(f"diffusion/{name}", 256, side)

# %% [markdown]
# <details><summary>Answer</summary>
#
# Digits have the lowest bound (section 9), photographs the highest. To our eye the worst samples
# are the photographs: patches of colour, and no things. But the one does not follow from the other.
# </details>
#
# Bits per dimension tell how much there is to say about a picture, and how well the model says
# it. Most pixels of MNIST are black and nearly certain; of a photograph even the best model must
# tell the noise of the camera. They compare models on the same data, and not their samples: on
# CIFAR-10 Ho and others, with 35.7 million weights, report 3.70 after training on the bound and
# 3.75 with the simple loss, but Fréchet distances (FID) of 13.51 and 3.17.
