"""WaveRNN: the next 16-bit sample of a sound in two halves, from one recurrent state.

References:
    Kalchbrenner, Elsen, Simonyan, Noury, Casagrande, Lockhart, Stimberg, van den Oord,
        Dieleman, Kavukcuoglu (2018). Efficient neural audio synthesis. arXiv:1802.08435.
    Cho and others (2014). Learning phrase representations using RNN encoder-decoder for
        statistical machine translation. arXiv:1406.1078. (The gated recurrent unit.)
"""

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.distributions import Categorical

from gdm_course import validate
from gdm_course.autoregressive.sound import smooth_embedding
from gdm_course.nets import precise

SILENCE = 32768  # the 16-bit code of 0
State = tuple[Tensor, Tensor]  # hidden units (B, H), and the last code (B,)


def split_code(x: Tensor) -> Tensor:
    """Split 16-bit codes into coarse and fine bytes: (*B) -> (*B, 2), x = 256 c + f."""
    x = validate.codes(x, 65536)
    return torch.stack([x // 256, x % 256], dim=-1)


def gru_update(a: Tensor, r: Tensor, h: Tensor) -> Tensor:
    """Return the next state of gated recurrent units, (9), unit by unit.

    u = sigmoid(a_u + r_u), s = sigmoid(a_s + r_s), e = tanh(a_e + s * r_e),
    h <- u * h + (1 - u) * e.

    Args:
        a: what the inputs say to update gate, reset gate and candidate, (B, 3, H).
        r: what the old state says to them, (B, 3, H).
        h: the old state (B, H).
    """
    u, s = torch.sigmoid(a[:, :2] + r[:, :2]).unbind(1)
    e = torch.tanh(a[:, 2] + s * r[:, 2])
    return e + u * (h - e)


class DualGRU(nn.Module):
    """The network: half of the units choose the coarse byte, the others the fine one.

    All units see the last sample and the whole old state. The units of the second half see
    the new coarse byte too: they have waited for it.

    Args:
        hidden: number of units H, even.
        channels: features that stand for a byte.
    """

    def __init__(self, *, hidden: int = 128, channels: int = 32):
        super().__init__()
        validate.at_least(1, hidden=hidden, channels=channels)
        if hidden % 2:
            raise ValueError(f"hidden is {hidden}: expected an even number, two halves")
        self.H, half = hidden, hidden // 2
        self.coarse = smooth_embedding(256, channels)
        self.fine = smooth_embedding(256, channels)
        self.past = nn.Linear(2 * channels, 3 * hidden)
        self.present = nn.Linear(channels, 3 * half, bias=False)
        self.recurrent = nn.Linear(hidden, 3 * hidden)
        self.say_coarse, self.say_fine = (
            nn.Sequential(nn.Linear(half, half), nn.ReLU(), nn.Linear(half, 256))
            for _ in range(2)
        )

    def hear(self, x: Tensor) -> Tensor:
        """Return what the last sample says to the three parts: (*B) -> (*B, 3, H)."""
        c, f = split_code(x).unbind(-1)
        both = torch.cat([self.coarse(c), self.fine(f)], dim=-1)
        return self.past(both).unflatten(-1, (3, self.H))

    def hear_coarse(self, c: Tensor) -> Tensor:
        """Return what the new coarse byte says: (*B) -> (*B, 3, H / 2)."""
        return self.present(self.coarse(c)).unflatten(-1, (3, self.H // 2))

    def recur(self, h: Tensor) -> Tensor:
        """Return what the old state says: (B, H) -> (B, 3, H)."""
        return self.recurrent(h).unflatten(-1, (3, self.H))


def start(net: DualGRU, n: int) -> State:
    """Return the state before any sound: zeros, and silence as the last code."""
    W = net.coarse.weight
    return W.new_zeros(n, net.H), torch.full((n,), SILENCE, device=W.device)


def unroll(net: DualGRU, x: Tensor, state: State) -> Tensor:
    """Run the units along codes (B, T) from a state: all states (B, T, H)."""
    (h, last), half = state, net.H // 2
    a = net.hear(torch.cat([last[:, None], x[:, :-1]], dim=1))  # (B, T, 3, H)
    told = net.hear_coarse(x // 256)  # for the second half of the units only
    a = torch.cat([a[..., :half], a[..., half:] + told], dim=-1)
    states = []
    for now in a.unbind(1):
        h = gru_update(now, net.recur(h), h)
        states.append(h)
    return torch.stack(states, dim=1)


class WaveRNN(nn.Module):
    """Autoregressive model of sounds (B, T) of 16-bit codes 0..65535, two bytes a sample.

    p(x) = prod_t p(c_t | x_<t) p(f_t | x_<t, c_t) with x_t = 256 c_t + f_t, (8).

    Args:
        hidden, channels: of the `DualGRU`.
    """

    def __init__(self, *, hidden: int = 128, channels: int = 32):
        super().__init__()
        self.net = DualGRU(hidden=hidden, channels=channels)

    def scan(self, x: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """Go on from a state: codes (B, T) -> logits (B, T, 2, 256) and a state."""
        x = validate.codes(x, 65536, "T")
        h = unroll(self.net, x, start(self.net, len(x)) if state is None else state)
        first, second = h.chunk(2, dim=-1)
        logits = [self.net.say_coarse(first), self.net.say_fine(second)]
        return precise(torch.stack(logits, dim=2)), (h[:, -1], x[:, -1])

    def conditionals(self, x: Tensor, state: State | None = None) -> Categorical:
        """Return p(c_t | x_<t) and p(f_t | x_<t, c_t): codes (B, T) -> batch (B, T, 2)."""
        return Categorical(logits=self.scan(x, state)[0], validate_args=False)

    def log_prob(self, x: Tensor, state: State | None = None) -> Tensor:
        """Return log P(x) in nats, the sum over both bytes: (B, T) -> (B,)."""
        return self.conditionals(x, state).log_prob(split_code(x)).sum((1, 2))

    def loss(self, x: Tensor) -> Tensor:
        """Return the mean negative log-likelihood in nats per sample of sound."""
        return -self.log_prob(x).mean() / x.shape[1]

    def sample(self, n: int, T: int = 4000) -> Tensor:
        """Draw n sounds of T codes, (n, T)."""
        state, x = start(self.net, validate.count(n)), []
        for _ in range(validate.count(T, "T", 1)):
            state = draw_next(self.net, *state)
            x.append(state[1])
        return torch.stack(x, dim=1)


@torch.no_grad()
def draw_next(net: DualGRU, h: Tensor, last: Tensor) -> State:
    """Draw one sample of each sound: first half of the units, coarse, second half, fine."""
    a, r, half = net.hear(last), net.recur(h), net.H // 2
    first = gru_update(a[..., :half], r[..., :half], h[:, :half])
    c = torch.multinomial(net.say_coarse(first).softmax(-1), 1)[:, 0]
    told = a[..., half:] + net.hear_coarse(c)
    second = gru_update(told, r[..., half:], h[:, half:])
    f = torch.multinomial(net.say_fine(second).softmax(-1), 1)[:, 0]
    return torch.cat([first, second], dim=1), 256 * c + f


class Truncated(nn.Module):
    """Truncated back-propagation through time: hand the state on, but not its gradient.

    Trainable on the batches of `spans`.
    """

    def __init__(self, model: WaveRNN):
        super().__init__()
        self.model, self.state = model, None

    def loss(self, x: Tensor, first: Tensor) -> Tensor:
        """Return nats per sample of the next span (B, S); `first` starts new sounds."""
        logits, (h, last) = self.model.scan(x, None if first else self.state)
        self.state = h.detach(), last
        log_p = Categorical(logits=logits, validate_args=False).log_prob(split_code(x))
        return -log_p.sum((1, 2)).mean() / x.shape[1]


def spans(x: Tensor, B: int, S: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Draw B sounds from x (N, T) and hand them out S samples at a time, without end."""
    validate.at_least(1, B=B, S=S, sounds=len(x))
    while True:
        chosen = x[torch.randperm(len(x), device=x.device)[:B]]
        for i, piece in enumerate(chosen.split(S, dim=1)):
            yield piece, torch.tensor(i == 0)
