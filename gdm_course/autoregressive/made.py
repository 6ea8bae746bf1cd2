"""MADE: all conditionals of an autoregressive model from one masked network.

References:
    Germain, Gregor, Murray, Larochelle (2015). MADE: masked autoencoder for distribution
        estimation. arXiv:1502.03509.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributions import Bernoulli

from gdm_course import validate
from gdm_course.nets import precise, same


def degrees(order: Tensor, hidden: Sequence[int]) -> list[Tensor]:
    """Give every unit its degree: how far into the order it may look.

    An input's degree is its place in the order, 1..D. Hidden degrees 1..D-1 are spread
    evenly, so that every conditional gets its share of units.

    Args:
        order: the dimensions in the order of the conditionals, a permutation of 0..D-1.
        hidden: number of units H in each hidden layer.

    Returns:
        The degrees of the inputs (D,), then of every hidden layer (H,), ascending.
    """
    last = max(len(order) - 1, 1)
    spread = [1 + torch.arange(H, device=order.device) * last // H for H in hidden]
    return [order.argsort() + 1, *spread]


def masks(m: Sequence[Tensor]) -> list[Tensor]:
    """Return one mask (out, in) per layer from the degrees m: True where a unit may look.

    A hidden unit looks at degrees up to its own; output d only at degrees below input d's.
    """
    hidden = [above[:, None] >= below for below, above in pairwise(m)]
    return [*hidden, m[0][:, None] > m[-1]]


class MaskedMLP(nn.Module):
    """A perceptron with `outputs` numbers per dimension, which see earlier dimensions only.

    Args:
        D: number of dimensions.
        hidden: number of units in each hidden layer.
        outputs: numbers per dimension.
        dropout: probability that a hidden unit is silenced in training.
    """

    def __init__(
        self, D: int, *, hidden: Sequence[int] = (500,), outputs: int = 1, dropout=0.0
    ):
        super().__init__()
        validate.at_least(1, D=D, hidden=hidden, outputs=outputs)
        sizes = [D, *hidden]
        layers = [nn.Linear(i, o) for i, o in pairwise(sizes)]
        self.layers = nn.ModuleList([*layers, nn.Linear(sizes[-1], D * outputs)])
        self.hidden, self.outputs, self.dropout = tuple(hidden), outputs, dropout
        self.known: Sequence[Tensor] = ()

    def masked_weights(self, m: Sequence[Tensor]) -> Iterator[Tensor]:
        """Yield the weights with everything forbidden set to 0, layer by layer."""
        if not same(m, self.known):  # the last masks are kept, as numbers: it is quicker
            with torch.inference_mode(False):
                *hidden, out = masks(m)
                allowed = [*hidden, out.repeat_interleave(self.outputs, dim=0)]
                self.known, self.kept = m, [mask.float() for mask in allowed]
        for layer, mask in zip(self.layers, self.kept):
            yield layer.weight * mask.to(layer.weight.dtype)

    def forward(self, x: Tensor, m: Sequence[Tensor]) -> Tensor:
        """Run the network under the degrees m: (B, D) -> (B, D, outputs)."""
        for layer, weight in zip(self.layers, self.masked_weights(m)):
            if layer is not self.layers[0]:
                x = F.dropout(x.relu_(), self.dropout, self.training)
            x = F.linear(x, weight, layer.bias)
        return x.unflatten(-1, (-1, self.outputs))


@torch.no_grad()
def fill(net: MaskedMLP, m: Sequence[Tensor], n: int, draw: Callable) -> Tensor:
    """Draw x one dimension at a time, computing every hidden unit exactly once.

    A unit of degree k is final as soon as the k-th dimension of the order is drawn, so one
    dimension costs its own slice of the network and n samples cost one forward pass.

    Args:
        net: the network.
        m: degrees, hidden ones ascending.
        n: number of samples.
        draw: from the parameters of a conditional (n, outputs) to values (n,).

    Returns:
        Samples (n, D).
    """
    weights, biases = [*net.masked_weights(m)], [layer.bias for layer in net.layers]
    h = [weights[0].new_zeros(n, layer.in_features) for layer in net.layers]
    counts = [torch.bincount(k, minlength=len(m[0]) + 1).tolist() for k in m[1:]]
    done = [0] * len(counts)
    for degree, d in enumerate(m[0].argsort().tolist(), start=1):
        rows = slice(d * net.outputs, (d + 1) * net.outputs)
        h[0][:, d] = draw(F.linear(h[-1], weights[-1][rows], biases[-1][rows]))
        for i, count in enumerate(counts):
            if ready := count[degree]:
                rows = slice(done[i], done[i] + ready)
                h[i + 1][:, rows] = F.relu(
                    F.linear(h[i], weights[i][rows], biases[i][rows])
                )
                done[i] += ready
    return h[0]


def draw_orders(D: int, n: int, seed: int = 0) -> Tensor:
    """Return n random orders of D dimensions, (n, D); the natural order if n is 1."""
    validate.at_least(1, orders=n)
    g = torch.Generator().manual_seed(seed)
    drawn = [torch.randperm(D, generator=g) for _ in range(n)]
    return torch.stack(drawn) if n > 1 else torch.arange(D)[None]


def draw_bit(logits: Tensor) -> Tensor:
    """Draw one bit per row from its logit: (n, 1) -> (n,)."""
    return logits[:, 0].sigmoid().bernoulli()


def as_bits(x: Tensor, model: nn.Module) -> Tensor:
    """Return x as zeros and ones (B, D) in the dtype of the model, or refuse it."""
    D, dtype = model.orders.shape[1], validate.dtype_of(model.net)
    ours = isinstance(x, Tensor) and x.is_cpu and x.dtype == dtype
    if ours and x.numel() and not any((x * x - x).aminmax()):  # bits, and quickly told
        return validate.shaped(x, D)
    return validate.bits(x, D, model.net)


def an_order(orders: Tensor, order: int | Tensor) -> Tensor:
    """Return the order of that number, or the one given, a permutation (D,).

    Raises:
        ValueError: the tensor given is no permutation of 0..D-1.
    """
    if not isinstance(order, Tensor):
        return orders[order]
    D = orders.shape[1]
    if order.shape != (D,) or not torch.equal(
        order.sort().values, torch.arange(D).to(order)
    ):
        raise ValueError(f"an order of {D} dimensions is a permutation of 0..{D - 1}")
    return order


class MADE(nn.Module):
    """Masked autoencoder for bits (B, D); with several orders, the mixture of them all.

    Args: hidden and dropout, as in `MaskedMLP`; orders, 1 for the natural order, more for
    that many random ones from `seed`.
    """

    def __init__(self, D: int, *, hidden=(500,), orders=1, dropout=0.0, seed=0):
        super().__init__()
        self.net = MaskedMLP(D, hidden=hidden, dropout=dropout)
        self.register_buffer("orders", draw_orders(D, orders, seed))

    def conditionals(self, x: Tensor, order: int | Tensor = 0) -> Bernoulli:
        """Return p(x_d | what is before d) in that order of the model's, or in any (D,)."""
        x, order = as_bits(x, self), an_order(self.orders, order)
        return Bernoulli(logits=self.logits(x, order), validate_args=False)

    def logits(self, x: Tensor, order: Tensor) -> Tensor:
        """Return the logits of all conditionals in an order, for bits that are floats."""
        return precise(self.net(x, degrees(order, self.net.hidden)).squeeze(-1))

    def log_prob(self, x: Tensor) -> Tensor:
        """Return log p(x) in nats, of the mixture over all orders: (B, D) -> (B,)."""
        x, orders = as_bits(x, self), range(len(self.orders))
        log_p = [self.conditionals(x, o).log_prob(x).sum(-1) for o in orders]
        return torch.stack(log_p).logsumexp(dim=0) - math.log(len(log_p))

    def loss(self, x: Tensor) -> Tensor:
        """Return the mean negative log-likelihood in nats, one order drawn at random."""
        x, chosen = as_bits(x, self), int(torch.randint(len(self.orders), ()))
        logits = self.logits(x, self.orders[chosen])
        return F.binary_cross_entropy_with_logits(logits, x, reduction="sum") / len(x)

    def sample(self, n: int) -> Tensor:
        """Draw n points (n, D), each under an order drawn at random."""
        chosen = torch.randint(len(self.orders), (validate.count(n),))
        counts = chosen.bincount(minlength=len(self.orders)).tolist()
        m = [degrees(order, self.net.hidden) for order in self.orders]
        parts = [fill(self.net, m_o, k, draw_bit) for m_o, k in zip(m, counts)]
        return torch.cat(parts)[torch.randperm(n)]


class AnyOrderMADE(MADE):
    """MADE that learns a fresh order with every batch, so that any pixels may come first.

    `log_prob` and `sample` use the `orders` that it was built with, as in MADE.

    References:
        Uria, Murray, Larochelle (2014). A deep and tractable density estimator.
    """

    def loss(self, x: Tensor) -> Tensor:
        """Return the mean negative log-likelihood in nats under an order drawn anew."""
        x = as_bits(x, self)
        order = torch.randperm(x.shape[1]).to(x.device)
        logits = self.logits(x, order)
        return F.binary_cross_entropy_with_logits(logits, x, reduction="sum") / len(x)
