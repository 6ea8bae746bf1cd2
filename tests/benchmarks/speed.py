"""What is compared with what. The naive versions compute the same numbers, and prove it."""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from gdm_course.autoregressive.made import MADE, degrees
from gdm_course.autoregressive.nade import NADE
from gdm_course.training import batches
from tests.benchmarks import (
    continuous,
    couplings,
    diffusion,
    disentanglement,
    energy,
    few_step,
    gan,
    gpt,
    masked,
    pixelcnn,
    plain,
    planar,
    quantisers,
    sound,
    splines,
    streams,
    transport,
    vae,
)
from tests.benchmarks.harness import Ratio, compare

D = 784


def bits(B: int) -> Tensor:
    """Random binary images (B, 784)."""
    return torch.randint(2, (B, D), generator=torch.Generator().manual_seed(0)).float()


def one_epoch(rows: int, width: int, B: int) -> Ratio:
    """`batches` against a DataLoader over the same tensor."""
    x = torch.randn(rows, width)
    loader = DataLoader(TensorDataset(x), batch_size=B, shuffle=True)

    def ours():
        return sum(len(b) for b in batches(x, B))

    def theirs():
        return sum(len(b) for (b,) in loader)

    assert ours() == theirs() == rows
    name = f"one epoch of ({rows:,}, {width}) in batches of {B}"
    return compare(name, ours, theirs, "torch's DataLoader")


def made_network(model: MADE):
    """The plain masked network: a function x -> logits (B, D), masks applied once."""
    m = degrees(model.orders[0], model.net.hidden)
    weights = [*model.net.masked_weights(m)]
    biases = [layer.bias for layer in model.net.layers]

    def logits(x: Tensor) -> Tensor:
        for weight, bias in zip(weights[:-1], biases[:-1]):
            x = F.relu(F.linear(x, weight, bias))
        return F.linear(x, weights[-1], biases[-1])

    return logits


def by_dimension(logits, x: Tensor) -> Tensor:
    """Log p(x) with one forward pass per dimension, which sees earlier dimensions only."""
    log_p = torch.zeros(len(x))
    for d in range(x.shape[1]):
        seen = x * (torch.arange(x.shape[1]) < d)
        log_p -= F.binary_cross_entropy_with_logits(
            logits(seen)[:, d], x[:, d], reduction="none"
        )
    return log_p


def fill_by_dimension(logits, n: int) -> Tensor:
    """Samples (n, D) with one full forward pass per dimension."""
    x = torch.zeros(n, D)
    for d in range(D):
        x[:, d] = logits(x)[:, d].sigmoid().bernoulli()
    return x


def nade_running(model: NADE, x: Tensor) -> Tensor:
    """NADE's log p(x) by its definition: a loop over dimensions with a running sum."""
    a, log_p = model.c.expand(len(x), -1), x.new_zeros(len(x))
    for d in range(x.shape[1]):
        logit = model.b[d] + torch.sigmoid(a) @ model.V[d]
        log_p = log_p - F.binary_cross_entropy_with_logits(logit, x[:, d], reduction="none")
        a = a + x[:, d, None] * model.W[d]
    return log_p


def nade_logit(model: NADE, x: Tensor, d: int) -> Tensor:
    """The logit of dimension d, all it depends on computed anew: (B, D) -> (B,)."""
    a = model.c + x[:, :d] @ model.W[:d]
    return model.b[d] + torch.sigmoid(a) @ model.V[d]


def nade_prefixes(model: NADE, x: Tensor) -> Tensor:
    """NADE's log p(x) without sharing anything between dimensions."""
    terms = [
        F.binary_cross_entropy_with_logits(
            nade_logit(model, x, d), x[:, d], reduction="none"
        )
        for d in range(x.shape[1])
    ]
    return -torch.stack(terms).sum(0)


def nade_fill_prefixes(model: NADE, n: int) -> Tensor:
    """Samples (n, D) of NADE without sharing anything between dimensions."""
    x = torch.zeros(n, D)
    for d in range(D):
        x[:, d] = nade_logit(model, x, d).sigmoid().bernoulli()
    return x


def made() -> Iterator[Ratio]:
    """MADE with one hidden layer of 1,000."""
    model = MADE(D, hidden=(1000,)).eval()
    with torch.no_grad():
        logits = made_network(model)
        x = bits(16)
        assert torch.allclose(model.log_prob(x), by_dimension(logits, x), atol=1e-2)
        yield compare(
            "MADE 784-1000, sample 16",
            lambda: model.sample(16),
            lambda: fill_by_dimension(lambda y: model.conditionals(y).logits, 16),
            "a forward pass per dimension",
            goal=20,
            repeat=3,
        )
        yield compare(
            "MADE 784-1000, sample 16",
            lambda: model.sample(16),
            lambda: fill_by_dimension(logits, 16),
            "the same pass, its masks applied once",
            repeat=3,
        )
        yield compare(
            "MADE 784-1000, log_prob of 16",
            lambda: model.log_prob(x),
            lambda: by_dimension(logits, x),
            "the same pass, its masks applied once",
            repeat=3,
        )


def nade() -> Iterator[Ratio]:
    """NADE with 500 hidden units."""
    model, x, few = NADE(D), bits(100), bits(16)
    assert torch.allclose(model.log_prob(x), nade_running(model, x), atol=1e-2)

    def step(log_prob):
        model.zero_grad(set_to_none=True)
        (-log_prob(x).mean()).backward()

    yield compare(
        "NADE 784-500, loss and gradient of 100",
        lambda: step(model.log_prob),
        lambda: step(lambda y: nade_running(model, y)),
        "a running sum over dimensions",
        goal=1.8,
        repeat=5,
    )
    with torch.no_grad():
        assert torch.allclose(model.log_prob(few), nade_prefixes(model, few), atol=1e-2)
        yield compare(
            "NADE 784-500, log_prob of 16",
            lambda: model.log_prob(few),
            lambda: nade_prefixes(model, few),
            "a prefix product per dimension",
            repeat=3,
        )
        yield compare(
            "NADE 784-500, sample 16",
            lambda: model.sample(16),
            lambda: nade_fill_prefixes(model, 16),
            "a prefix product per dimension",
            repeat=3,
        )


def ratios() -> Iterator[Ratio]:
    """All comparisons, one after the other."""
    yield one_epoch(10_000, 2, 128)
    yield one_epoch(10_000, 784, 128)
    yield from made()
    yield from nade()
    yield from pixelcnn.ratios()
    yield from gpt.ratios()
    yield from masked.ratios()
    yield from sound.ratios()
    yield from plain.ratios()
    yield from planar.ratios()
    yield from energy.ratios()
    yield from gan.ratios()
    yield from couplings.ratios()
    yield from splines.ratios()
    yield from continuous.ratios()
    yield from diffusion.ratios()
    yield from streams.ratios()
    yield from transport.ratios()
    yield from few_step.ratios()
    yield from vae.ratios()
    yield from disentanglement.ratios()
    yield from quantisers.ratios()
