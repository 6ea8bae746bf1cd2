"""The VAE: a training step against pythae's, the IWAE bound at once against a loop.

pythae comes with `pip install --no-deps pythae`; without it, a plain equivalent of the same
sizes is timed, which leaves the library's own bookkeeping out.
"""

import math
from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gdm_course.training import adam
from gdm_course.vae.vae import VAE
from tests.benchmarks.harness import Ratio, compare

D, LATENT, HIDDEN, B = 784, 16, 512, 100  # pythae's default perceptrons


def bits() -> Tensor:
    """Random binary images (100, 784)."""
    return torch.randint(2, (B, D), generator=torch.Generator().manual_seed(0)).float()


def step_of(model: nn.Module, loss: Callable[[], Tensor], optimizer) -> Callable[[], None]:
    """One training step."""

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        loss().backward()
        optimizer.step()

    return step


def pythae_step(x: Tensor) -> tuple[str, Callable[[], None]]:
    """pythae's VAE with its default perceptrons and its default optimiser, plain Adam."""
    from pythae.models import VAE as Theirs
    from pythae.models import VAEConfig

    config = VAEConfig(input_dim=(1, 28, 28), latent_dim=LATENT, reconstruction_loss="bce")
    model, batch = Theirs(config), {"data": x.view(-1, 1, 28, 28)}
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    return "pythae", step_of(model, lambda: model(batch).loss, optimizer)


def plain_step(x: Tensor) -> tuple[str, Callable[[], None]]:
    """The same model as one would write it down, with plain Adam."""
    encoder = nn.Sequential(nn.Linear(D, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, 2 * LATENT))
    decoder = nn.Sequential(nn.Linear(LATENT, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, D))
    model = nn.ModuleList([encoder, decoder])

    def loss() -> Tensor:
        mu, log_var = encoder(x).chunk(2, dim=-1)
        z = mu + torch.exp(log_var / 2) * torch.randn_like(mu)
        logits = decoder(z)
        bce = F.binary_cross_entropy_with_logits(logits, x, reduction="none").sum(-1)
        kl = -0.5 * (1 + log_var - mu.square() - log_var.exp()).sum(-1)
        return (bce + kl).mean()

    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    return "a plain equivalent, Adam", step_of(model, loss, optimizer)


def peers(x: Tensor) -> Iterator[tuple[str, Callable[[], None]]]:
    """Whatever is installed, and the plain equivalent always."""
    try:
        yield pythae_step(x)
    except ImportError:
        print("pythae is not installed: left out (pip install --no-deps pythae)")
    yield plain_step(x)


def iwae_loop(model: VAE, x: Tensor, k: int) -> Tensor:
    """The same bound, one draw after the other."""
    q = model.encode(x)
    log_w = [model.log_weights(x, q, 1) for _ in range(k)]
    return torch.cat(log_w).logsumexp(0) - math.log(k)


def ratios() -> Iterator[Ratio]:
    """All comparisons of the VAE."""
    torch.manual_seed(0)
    x, model = bits(), VAE(D, latent=LATENT, hidden=(HIDDEN,))
    ours = step_of(model, lambda: model.loss(x), adam(model.parameters(), 1e-3))
    for against, other in peers(x):
        name = f"VAE {D}-{HIDDEN}-{LATENT}, step B{B}"
        yield compare(name, ours, other, against, goal=1, repeat=40)
    few = x[:8]
    with torch.no_grad():
        torch.manual_seed(1)
        at_once = model.iwae(few, 500)
        torch.manual_seed(1)  # the same draws
        assert torch.allclose(at_once, iwae_loop(model, few, 500), atol=1e-3)
        yield compare(
            "VAE, IWAE bound of 8 images, k = 500",
            lambda: model.iwae(few, 500),
            lambda: iwae_loop(model, few, 500),
            "a loop over the draws",
            goal=2,
            repeat=5,
        )
