"""WaveNet: the next sample of a sound from all those in a long window before it.

Everything is (B, T, C): time runs along the second axis, features along the last.

References:
    van den Oord, Dieleman, Zen, Simonyan, Vinyals, Graves, Kalchbrenner, Senior,
        Kavukcuoglu (2016). WaveNet: a generative model for raw audio. arXiv:1609.03499.
    Le Paine and others (2016). Fast WaveNet generation algorithm. arXiv:1611.09482.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributions import Distribution

from gdm_course import validate
from gdm_course.autoregressive.decoding import some_labels
from gdm_course.autoregressive.sound import Softmax, smooth_embedding

DOUBLING = (1, 2, 4, 8, 16, 32, 64, 128)


def shift(h: Tensor, d: int) -> Tensor:
    """Delay a sequence by d steps: zeros enter, the last d leave. (B, T, C) -> same."""
    return F.pad(h, (0, 0, d, 0))[:, : h.shape[1]]


def receptive_field(dilations: Sequence[int]) -> int:
    """Count the past samples that one conditional can see: 1 + sum of d, (2)."""
    return 1 + sum(dilations)


class GatedBlock(nn.Module):
    """A causal convolution of width 2 and dilation d, a gate, two ways out: (1) and (4).

    a_t = W_now h_t + W_past h_{t-d} + b,  z_t = tanh(first half) * sigmoid(second half),
    and W_out z_t + b_out is added to h (the residual) and handed to the end (the skip).

    Args:
        C: features in and out.
        skip: features handed to the end.
        dilation: d.
    """

    def __init__(self, C: int, *, skip: int, dilation: int):
        super().__init__()
        self.C, self.skip, self.dilation = C, skip, dilation
        self.now = nn.Linear(C, 2 * C)
        self.past = nn.Linear(C, 2 * C, bias=False)
        self.out = nn.Linear(C, C + skip)

    def forward(self, h: Tensor, told: Tensor | float = 0.0) -> tuple[Tensor, Tensor]:
        """Return the new features (B, T, C) and the skip (B, T, S).

        `told` (B, 1, 2 C) is added inside the gates: what the model is conditioned on.
        """
        a = self.now(h) + shift(self.past(h), self.dilation) + told
        signal, gate = a.chunk(2, dim=-1)
        out = self.out(torch.tanh(signal) * torch.sigmoid(gate))
        return h + out[..., : self.C], out[..., self.C :]


class DilatedStack(nn.Module):
    """Blocks between an embedding and a small head: codes (B, T) -> (B, T, P).

    Output t sees the input codes t, t-1, ..., t - sum of d; what lies before them is 0.

    Args:
        K, P: number of codes, and of outputs per step.
        channels, skip: features in the blocks, and handed by each to the end.
        dilations: d of the blocks.
        classes: number of labels that move the gates of every block; 0 for none.
    """

    def __init__(self, K, P, channels=32, skip=64, dilations=DOUBLING, classes=0):
        super().__init__()
        validate.at_least(1, K=K, P=P, channels=channels, skip=skip, dilations=dilations)
        validate.at_least(0, classes=classes)
        self.K, self.classes, self.dilations = K, classes, tuple(dilations)
        self.embed = smooth_embedding(K, channels)
        blocks = [GatedBlock(channels, skip=skip, dilation=d) for d in dilations]
        self.blocks = nn.ModuleList(blocks)
        gates = len(blocks) * 2 * channels
        self.told = nn.Embedding(classes, gates) if classes else None
        self.head = nn.Sequential(
            nn.ReLU(), nn.Linear(skip, skip), nn.ReLU(), nn.Linear(skip, P)
        )

    def labels(self, y: Tensor | None, B: int) -> Sequence[Tensor | float]:
        """Return what each block is told, (B, 1, 2 C); 0 without labels."""
        if (y := validate.labels(y, self.classes, B)) is None:
            return [0.0] * len(self.blocks)
        return self.told(y)[:, None].chunk(len(self.blocks), dim=-1)

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """Run over whole sounds at once: codes (B, T), labels (B,) -> (B, T, P)."""
        h, total = self.embed(x), 0
        for block, told in zip(self.blocks, self.labels(y, len(x))):
            h, skip = block(h, told)
            total = total + skip
        return self.head(total)


class Queues:
    """The same network, one step at a time: it keeps every block's last d inputs, (7).

    One ring of d slots per block, all in one buffer. What the past says to all gates is one
    batched product, since it is known before the step begins.

    Args:
        net: the network.
        n, y: sounds at once, and their labels (n,), if the network knows labels.
    """

    def __init__(self, net: DilatedStack, n: int, y: Tensor | None = None):
        self.net, blocks, W, self.t = net, net.blocks, net.embed.weight, 0
        self.d = torch.tensor(net.dilations, device=W.device)
        self.first = self.d.cumsum(0) - self.d
        self.slots = W.new_zeros(int(self.d.sum()), n, W.shape[1])
        self.past = torch.stack([b.past.weight.T for b in blocks])  # (L, C, 2 C)
        bias = [b.now.bias + told for b, told in zip(blocks, net.labels(y, n))]
        self.bias = torch.stack([b.expand(n, 1, -1).squeeze(1) for b in bias])
        self.now = [b.now.weight.T for b in blocks]
        out = [(b.out.weight.T.contiguous(), b.out.bias, b.C) for b in blocks]
        self.residual = [(W[:, :C].contiguous(), b[:C]) for W, b, C in out]
        self.skip = torch.cat([W[:, C:] for W, _, C in out])  # (L C, S)
        self.skip_bias = sum(b[C:] for _, b, C in out)

    @torch.no_grad()
    def step(self, x: Tensor) -> Tensor:
        """Take the code that was just drawn, (n,), and return the next outputs, (n, P)."""
        rows = self.first + self.t % self.d
        gates = torch.baddbmm(self.bias, self.slots[rows], self.past)  # (L, n, 2 C)
        h, seen, heard = self.net.embed(x), [], []
        for a, now, (W, b) in zip(gates.unbind(), self.now, self.residual):
            seen.append(h)
            signal, gate = torch.addmm(a, h, now).chunk(2, dim=1)
            heard.append(signal.tanh_() * gate.sigmoid_())
            h = torch.addmm(h, heard[-1], W).add_(b)
        self.slots[rows] = torch.stack(seen)
        self.t += 1
        total = torch.addmm(self.skip_bias, torch.cat(heard, dim=1), self.skip)
        return self.net.head(total)


class WaveNet(nn.Module):
    """Autoregressive model of sounds (B, T) of codes 0..K-1; before them is silence, K/2.

    Args:
        K: number of codes.
        output: from K to a reader of the last layer's numbers, such as `Gaussian`.
        channels, skip, dilations, classes: of the `DilatedStack`.
    """

    def __init__(
        self, K=256, *, channels=32, skip=64, dilations=DOUBLING, classes=0, output=Softmax
    ):
        super().__init__()
        self.K, self.output = K, output(K)
        self.net = DilatedStack(K, self.output.size, channels, skip, dilations, classes)

    def conditionals(self, x: Tensor, y: Tensor | None = None) -> Distribution:
        """Return p(x_t | x_<t) for all t in one pass: codes (B, T) -> batch (B, T)."""
        x = validate.codes(x, self.K, "T")
        before = F.pad(x, (1, 0), value=self.K // 2)[:, :-1]  # x_{t-1}
        return self.output(self.net(before, y))

    def log_prob(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """Return log P(x) = sum_t log P(x_t | x_<t) in nats: (B, T) -> (B,)."""
        return self.conditionals(x, y).log_prob(x).sum(-1)

    def loss(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """Return the mean negative log-likelihood in nats per sample of sound."""
        return -self.log_prob(x, y).mean() / x.shape[1]

    @torch.no_grad()
    def sample(self, n: int, T: int = 4000, y: Tensor | None = None) -> Tensor:
        """Draw n sounds of T codes, (n, T), labels too if there are classes and no y."""
        device, n, x = self.net.embed.weight.device, validate.count(n), []
        queues = Queues(self.net, n, some_labels(y, self.net.classes, n, device))
        code = torch.full((n,), self.K // 2, device=device)
        for _ in range(validate.count(T, "T", 1)):
            code = self.output(queues.step(code)).sample()
            x.append(code)
        return torch.stack(x, dim=1)
