"""Deep belief nets: an RBM on top, and arrows down from what it draws.

An RBM is an infinite belief net whose layers share one W. A deep belief net unties the
layers from the bottom, one after the other; if each new RBM starts tied, a bound on log p
starts where it was, and what training adds to it is gained.

References:
    Hinton, Osindero, Teh (2006). A fast learning algorithm for deep belief nets. Neural
        Computation 18.
    Salakhutdinov, Murray (2008). On the quantitative analysis of deep belief networks.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from gdm_course import validate
from gdm_course.energy.belief_net import log_bits
from gdm_course.energy.normalise import states
from gdm_course.energy.rbm import RBM, PersistentRBM, coin


def tied(rbm: RBM, **more) -> PersistentRBM:
    """Return the RBM upside down: W', and the biases exchanged.

    Its visible units are the other's hidden ones, and have the same distribution.
    """
    D, H = rbm.W.shape
    turned = PersistentRBM(H, H=D, **more).to(rbm.W)
    with torch.no_grad():
        turned.W.copy_(rbm.W.T)
        turned.b.copy_(rbm.c)
        turned.c.copy_(rbm.b)
    return turned


class Stack(nn.Module):
    """At first one RBM; `grow` freezes what is there and puts another one on top.

    Args:
        D: visible bits.
        H: hidden bits of the first RBM.
        more: of every RBM, see `PersistentRBM`: k, chains.
    """

    def __init__(self, D: int, *, H: int = 64, **more):
        super().__init__()
        self.rbms = nn.ModuleList([PersistentRBM(D, H=H, **more)])
        self.more = more

    @property
    def top(self) -> RBM:
        """The undirected layer, the only one that `loss` trains."""
        return self.rbms[-1]

    def grow(self, tie: bool = True, H: int | None = None) -> None:
        """Put an RBM on the top one's hidden units.

        Args:
            tie: start it as the top one upside down, so that p(v) stays what it was; False
                starts it at random, to see what that costs.
            H: its hidden units, if it is not tied.
        """
        self.rbms.requires_grad_(False)
        D, below = self.top.W.shape
        new = tied(self.top, **self.more)
        if not tie:
            new = PersistentRBM(below, H=H or D, **self.more).to(new.W)
        self.rbms.append(new)


def guess_up(rbms: Sequence[RBM], v: Tensor) -> tuple[Tensor, Tensor]:
    """Guess from layer to layer: the last h (B, H), and their terms of the bound (B,).

    The terms are log p(v | h) - log q(h | v), added over the RBMs given, bottom first.
    """
    terms = v.new_zeros(len(v))
    for rbm in rbms:
        guess = rbm.c + v @ rbm.W
        h = coin(torch.sigmoid(guess))
        terms = terms + log_bits(rbm.b + h @ rbm.W.T, v) - log_bits(guess, h)
        v = h
    return v, terms


class DBN(Stack):
    """A stack as a model of v: the top RBM draws, and arrows lead down.

    Args: D, H and more, as of Stack.
    """

    def elbo(
        self, v: Tensor, log_z: Tensor | float | None = None, draws: int = 8
    ) -> Tensor:
        """Estimate E_q[terms - F_top(h)] - log Z_top <= log p(v), in nats: (B, D) -> (B,).

        Args:
            v: bits.
            log_z: of the top RBM; None sums over all states of its smaller side.
            draws: of h.
        """
        v = validate.bits(v, len(self.rbms[0].b), self.rbms[0].b)
        with torch.no_grad():
            log_z = self.top.log_z() if log_z is None else log_z
            ups = [guess_up(self.rbms[:-1], v) for _ in range(draws)]
            return sum(t - self.top.energy(h) for h, t in ups) / draws - log_z

    def loss(self, v: Tensor) -> Tensor:
        """Return the top RBM's loss on what it sees of the data: (B, D) -> ()."""
        v = validate.bits(v, len(self.rbms[0].b), self.rbms[0].b)
        with torch.no_grad():
            h, _ = guess_up(self.rbms[:-1], v)
        return self.top.loss(h)

    @torch.no_grad()
    def sample(self, n: int, k: int = 1000) -> Tensor:
        """Take k steps in the top RBM, then follow the arrows down: (n, D)."""
        v = self.top.sample(n, k)
        for rbm in reversed(self.rbms[:-1]):
            v = coin(rbm.visible(v))
        return v


class TwoLayers(DBN):
    """A deep belief net that has grown already, for long runs.

    Args:
        D, H: visible bits, and the bits between, as of Stack.
        top: bits on top; None ties both RBMs, which makes D of them.
        more: as of Stack.
    """

    def __init__(self, D: int, *, H: int = 500, top: int | None = None, **more):
        super().__init__(D, H=H, **more)
        self.grow(tie=top is None, H=top)


@torch.no_grad()
def log_marginal(dbn: DBN, v: Tensor) -> Tensor:
    """Return log p(v) of two layers by visiting all h between them, exact: (B, D) -> (B,).

    log p(v) = log sum_h p(v | h) e^-F_top(h) - log Z_top.
    """
    first, top = dbn.rbms
    h = states(len(first.c)).to(first.b)
    outputs = first.b + h @ first.W.T  # (2^H, D)
    log_p = v @ outputs.T - nn.functional.softplus(outputs).sum(1) - top.energy(h)
    return torch.logsumexp(log_p.double(), 1) - top.log_z()
