"""Sigmoid belief nets: hidden causes first, then what they cause, bit by bit.

p(h) = prod_k Bern(sigmoid(a_k)),  p(v | h) = prod_i Bern(sigmoid(b_i + (Wh)_i)).

References:
    Neal (1992). Connectionist learning of belief networks. Artificial Intelligence 56.
    Hinton, Dayan, Frey, Neal (1995). The wake-sleep algorithm for unsupervised neural
        networks. Science 268.
    Saul, Jaakkola, Jordan (1996). Mean field theory for sigmoid belief networks. JAIR 4.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gdm_course import validate
from gdm_course.energy.normalise import states
from gdm_course.energy.rbm import coin


def log_bits(logits: Tensor, x: Tensor) -> Tensor:
    """Return sum_i log Bern(x_i; sigmoid(logits_i)) in nats: (*B, D), (*B, D) -> (*B,)."""
    return (x * logits - F.softplus(logits)).sum(-1)


class Causes(nn.Module):
    """The net alone: causes h, and effects v of them.

    Args:
        D: visible bits.
        H: hidden bits.
    """

    def __init__(self, D: int, *, H: int = 16):
        super().__init__()
        validate.at_least(1, D=D, H=H)
        self.W = nn.Parameter(0.1 * torch.randn(D, H))
        self.b, self.a = nn.Parameter(torch.zeros(D)), nn.Parameter(torch.zeros(H))

    def log_joint(self, v: Tensor, h: Tensor) -> Tensor:
        """Return log p(h) + log p(v | h) in nats: (*B, D), (*B, H) -> (*B,)."""
        return log_bits(self.a.expand_as(h), h) + log_bits(self.b + h @ self.W.T, v)

    @torch.no_grad()
    def dream(self, n: int) -> tuple[Tensor, Tensor]:
        """Draw causes, then what they cause: v (n, D) and h (n, H)."""
        h = coin(torch.sigmoid(self.a).expand(validate.count(n), -1))
        return coin(torch.sigmoid(self.b + h @ self.W.T)), h

    def sample(self, n: int) -> Tensor:
        """Draw n patterns v: (n, D)."""
        return self.dream(n)[0]


class SigmoidBeliefNet(Causes):
    """A net with a recogniser q(h | v) that guesses the causes, each on its own.

    Args: D, H as of Causes.
    """

    def __init__(self, D: int, *, H: int = 16):
        super().__init__(D, H=H)
        self.recogniser = nn.Linear(D, H)

    def log_guess(self, v: Tensor, h: Tensor) -> Tensor:
        """Return log q(h | v) in nats: (*B, D), (*B, H) -> (*B,)."""
        return log_bits(self.recogniser(v), h)

    def elbo(self, v: Tensor, draws: int = 8) -> Tensor:
        """Estimate E_q[log p(v, h) - log q(h | v)] <= log p(v): (B, D) -> (B,), in nats."""
        v = validate.bits(v, len(self.b), self.b)
        with torch.no_grad():
            h = coin(torch.sigmoid(self.recogniser(v)).expand(draws, -1, -1))
            return (self.log_joint(v, h) - self.log_guess(v, h)).mean(0)

    def wake(self, v: Tensor) -> Tensor:
        """Return -log p(v, h) at guessed causes h of the data: it teaches the net, (B,)."""
        h = coin(torch.sigmoid(self.recogniser(v)).detach())
        return -self.log_joint(v, h)

    def sleep(self, n: int) -> Tensor:
        """Return -log q(h | v) of n dreams (v, h) ~ p: it teaches the recogniser, (n,)."""
        v, h = self.dream(n)
        return -self.log_guess(v, h)

    def loss(self, v: Tensor) -> Tensor:
        """Return the means of `wake` and of `sleep`, added: (B, D) -> ()."""
        v = validate.bits(v, len(self.b), self.b)
        return self.wake(v).mean() + self.sleep(len(v)).mean()


# By visiting all causes -------------------------------------------------------------------


def log_joints(net: Causes, v: Tensor) -> Tensor:
    """Return log p(v, h) of every row with all 2^H causes: (B, D) -> (B, 2^H)."""
    v = validate.bits(v, len(net.b), net.b)
    h = states(len(net.a)).to(net.a)
    outputs = net.b + h @ net.W.T  # (2^H, D)
    return v @ outputs.T - F.softplus(outputs).sum(1) + log_bits(net.a.expand_as(h), h)


def log_marginal(net: Causes, v: Tensor) -> Tensor:
    """Return log p(v), exact, in nats: (B, D) -> (B,)."""
    return torch.logsumexp(log_joints(net, v), 1)


def log_posterior(net: Causes, v: Tensor) -> Tensor:
    """Return log p(h | v) for all causes, in the order of `states`: (B, D) -> (B, 2^H)."""
    return log_joints(net, v).log_softmax(1)


def exact_elbo(net: SigmoidBeliefNet, v: Tensor) -> Tensor:
    """Return the bound without chance: sum_h q (log p(v, h) - log q), (B, D) -> (B,)."""
    h = states(len(net.a)).to(net.a)
    log_q = log_factorial(net.recogniser(validate.bits(v, len(net.b), net.b)), h)
    return (log_q.exp() * (log_joints(net, v) - log_q)).sum(1)


def log_factorial(logits: Tensor, h: Tensor) -> Tensor:
    """Return log prod_k Bern(h_k; sigmoid(logits_k)): (B, H), (S, H) -> (B, S)."""
    return logits @ h.T - F.softplus(logits).sum(1, keepdim=True)


def averaged(log_p: Tensor) -> Tensor:
    """Return the q_k with the least KL(p || q), the marginals of p: (2^H,) -> (H,)."""
    H = len(log_p).bit_length() - 1
    return log_p.exp() @ states(H).to(log_p)


def mean_field(log_p: Tensor, start: Tensor, rounds: int = 100) -> Tensor:
    """Lower KL(q || p) one cause at a time from where q starts: it finds one mode.

    q_k = sigmoid(E_q[log p(h_k = 1, others) - log p(h_k = 0, others)]).

    Args:
        log_p: of all 2^H states, normalised or not.
        start: probabilities (H,).
        rounds: over all causes.

    Returns:
        The probabilities q (H,) that no change of a single cause improves.
    """
    h, q = states(len(start)).to(log_p), start.to(log_p).clone()
    for _ in range(rounds):
        for k in range(len(q)):
            others = torch.where(h.bool(), q, 1 - q)
            others[:, k] = 1
            weighted = others.prod(1) * log_p
            q[k] = torch.sigmoid(((2 * h[:, k] - 1) * weighted).sum())
    return q
