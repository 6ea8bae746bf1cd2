"""Restricted Boltzmann machines: wires run between the visible and the hidden units only.

E(v, h) = -v'Wh - b'v - c'h over bits v (D) and h (H), in nats.

References:
    Smolensky (1986). Information processing in dynamical systems: harmony theory.
    Hinton (2002). Training products of experts by minimizing contrastive divergence.
        Neural Computation 14(8).
    Tieleman (2008). Training restricted Boltzmann machines using approximations to the
        likelihood gradient. ICML.
    Melchior, Fischer, Wiskott (2016). How to center deep Boltzmann machines.
        arXiv:1311.1354.
"""

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from gdm_course import validate
from gdm_course.energy.normalise import log_sum, log_z_states, states
from gdm_course.learning import on_backward
from gdm_course.nets import precise


def coin(p: Tensor, generator: Generator | None = None) -> Tensor:
    """Toss a coin for every entry: 1 with probability p, else 0, in the dtype of p."""
    fine = torch.promote_types(p.dtype, torch.float32)
    u = torch.rand(p.shape, generator=generator, dtype=fine, device=p.device)
    return u.lt_(p).to(p.dtype)


def logit_mean(x: Tensor, least: float = 1e-3) -> Tensor:
    """Return the biases with which units without wires have the means of x: (N, D) -> (D,).

    Args: least, the smallest probability of either value, so that none is infinite.
    """
    p = x.to(torch.get_default_dtype()).mean(0).clamp(least, 1 - least)
    return torch.logit(p)


class Wires(nn.Module):
    """E(v, h) = -v'Wh - b'v - c'h, and what follows for one side given the other.

    Args:
        D: visible units.
        H: hidden units.
    """

    def __init__(self, D: int, *, H: int = 64):
        super().__init__()
        validate.at_least(1, D=D, H=H)
        self.W = nn.Parameter(0.01 * torch.randn(D, H))
        self.b, self.c = nn.Parameter(torch.zeros(D)), nn.Parameter(torch.zeros(H))

    def joint_energy(self, v: Tensor, h: Tensor) -> Tensor:
        """Return E(v, h) in nats: bits (B, D) and (B, H) -> (B,)."""
        v = validate.bits(v, len(self.b), self.b, name="v")
        h = validate.bits(h, len(self.c), self.c, name="h")
        return -precise((v @ self.W * h).sum(1) + v @ self.b + h @ self.c)

    def hidden(self, v: Tensor) -> Tensor:
        """Return p(h_j = 1 | v) = sigmoid(c + v'W)_j, (4): (B, D) -> (B, H)."""
        v = validate.points(v, len(self.b), self.b, name="v", least=0)
        return torch.addmm(self.c, v, self.W).sigmoid_()

    def visible(self, h: Tensor) -> Tensor:
        """Return p(v_i = 1 | h) = sigmoid(b + Wh)_i, (4): (B, H) -> (B, D)."""
        h = validate.points(h, len(self.c), self.c, name="h", least=0)
        return torch.addmm(self.b, h, self.W.T).sigmoid_()

    def energy(self, v: Tensor) -> Tensor:
        """Return F(v) = -log sum_h e^-E(v, h), the free energy, (5): (B, D) -> (B,)."""
        v = validate.bits(v, len(self.b), self.b)
        return -precise(v @ self.b) - F.softplus(precise(self.c + v @ self.W)).sum(1)

    def hidden_energy(self, h: Tensor) -> Tensor:
        """Return -log sum_v e^-E(v, h): (5) from the other side, (B, H) -> (B,)."""
        h = validate.bits(h, len(self.c), self.c, name="h")
        return -precise(h @ self.c) - F.softplus(precise(self.b + h @ self.W.T)).sum(1)


class RBM(Wires):
    """Trained by contrastive divergence: k steps of a chain that starts at the data.

    Args: D, H as of Wires; k, the steps of the chain in `loss`.
    """

    def __init__(self, D: int, *, H: int = 64, k: int = 1):
        super().__init__(D, H=H)
        self.k = validate.count(k, "k", 1)

    @torch.no_grad()
    def gibbs(self, v: Tensor, k: int = 1, generator: Generator | None = None) -> Tensor:
        """Take k steps v -> h -> v, all units of a side at once: (B, D) -> (B, D)."""
        for _ in range(k):
            v = coin(self.visible(coin(self.hidden(v), generator)), generator)
        return v

    def gap(self, v: Tensor, ends: Tensor) -> Tensor:
        """Return mean F(v) - mean F(ends), in one go; descent on it climbs (3): ()."""
        v = validate.shaped(v, len(self.b)).to(self.b)
        F_all = self.energy(torch.cat([v, ends]))
        return F_all[: len(v)].mean() - F_all[len(v) :].mean()

    def loss(self, v: Tensor) -> Tensor:
        """Return mean F(data) - mean F(chain): descent climbs (3), its value is idle."""
        v = validate.bits(v, len(self.b), self.b)
        return self.gap(v, self.gibbs(v, self.k))

    @torch.no_grad()
    def sample(self, n: int, k: int = 1000) -> Tensor:
        """Start n chains at coin tosses and take k steps: (n, D), in the limit exact."""
        shape = validate.count(n), len(self.b)
        return self.gibbs(coin(self.b.new_full(shape, 0.5)), validate.count(k, "k"))

    def log_z(self) -> Tensor:
        """Return log Z by visiting all states of the smaller side: (), float64."""
        if len(self.c) > len(self.b):
            return log_z_states(self.energy, len(self.b))
        return log_sum(self.hidden_energy, states(len(self.c)).to(self.c.device), rows=4096)


class PersistentRBM(RBM):
    """An RBM whose chains go on from one step of training to the next: PCD-k.

    They are the buffer `chain`, bytes. A step of training compares the data with where they
    are, and then moves them; a loss that is only looked at leaves them there.

    Args:
        D, H, k: as of RBM.
        chains: how many.
    """

    def __init__(self, D: int, *, H: int = 64, k: int = 1, chains: int = 100):
        super().__init__(D, H=H, k=k)
        validate.at_least(1, chains=chains)
        self.register_buffer("chain", torch.randint(2, (chains, D), dtype=torch.uint8))

    def loss(self, v: Tensor) -> Tensor:
        """Return mean F(data) - mean F(chains), as of RBM."""
        ends = self.chain.to(self.b)
        gap = self.gap(v, ends)
        if not self.training:
            return gap
        return on_backward(gap, lambda: self.chain.copy_(self.gibbs(ends, self.k)))

    @torch.no_grad()
    def ascend(self, v: Tensor, lr: float) -> None:
        """Take the step that plain descent on `loss` takes, by (3) itself and in place.

        Args: v (B, D), bits as real numbers, whose values are not looked at again.
        """
        v, ends = validate.points(v, len(self.b), self.b, name="v"), self.chain.to(self.b)
        both, n = torch.cat([v, ends]), len(v)
        h = self.hidden(both)  # of the data, then of the chains
        self.chain.copy_(self.gibbs(coin(self.visible(coin(h[n:]))), self.k - 1))
        share = both.new_full((len(both),), 1 / n)
        share[n:] = -1 / len(ends)  # data minus chains
        pull = h.mul_(share[:, None])
        self.W.addmm_(both.T, pull, alpha=lr)
        self.b.addmv_(both.T, share, alpha=lr)
        self.c.add_(pull.sum(0), alpha=lr)


@torch.no_grad()
def gibbs_matrix(rbm: RBM) -> Tensor:
    """Return T(v, v') = sum_h p(h | v) p(v' | h), for all states: (2^D, 2^D), float64.

    Row v holds the chances of one step of the chain; p T = p for the model's own p.
    """
    v, h = (states(n).double() for n in (len(rbm.b), len(rbm.c)))
    W, b, c = rbm.W.double(), rbm.b.double(), rbm.c.double()
    up, down = c + v @ W, b + h @ W.T  # logits
    to_h = torch.exp(up @ h.T - F.softplus(up).sum(1, keepdim=True))  # (2^D, 2^H)
    to_v = torch.exp(down @ v.T - F.softplus(down).sum(1, keepdim=True))  # (2^H, 2^D)
    return to_h @ to_v
