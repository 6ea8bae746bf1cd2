# %% [markdown]
# # Eight thousand guesses a second: WaveNet and WaveRNN
#
# Sound is one long row of numbers, and the guess of the next one may depend on thousands
# before it. Two answers: a convolution that sees far by leaving gaps, and a recurrent
# network that remembers. Both give an exact likelihood, and both can be listened to.

# %% [markdown] tags=["nav"]
# 59 minutes, and 23 further ·
# before this: [One dimension at a time: NADE, RNADE and MADE](nade.ipynb) ·
# [exercise](../../exercises/autoregressive/wavenet.ipynb) ·
# [solution](../../solutions/autoregressive/wavenet.ipynb)
#
# previous: [Images by convolution: PixelCNN](pixelcnn.ipynb) ·
# [all units](../index.ipynb) ·
# next: [One token at a time: GPT](gpt.ipynb)

# %% tags=["setup"]
import importlib.util

if importlib.util.find_spec("gdm_course") is None:
    raise ImportError(
        "the package gdm_course is not installed here: run 'make lab' in the course's "
        "folder, or 'pip install -e .[lab]', and choose that environment as the kernel"
    )

# %%
import itertools
import math
import time
from collections.abc import Sequence
from types import MappingProxyType

import torch
import torch.nn.functional as F
from IPython.display import Audio, display
from matplotlib.collections import LineCollection
from torch import Tensor, nn
from torch.autograd.functional import jacobian
from torch.distributions import Categorical, Distribution, MixtureSameFamily, Normal

from gdm_course import (
    checkpoints,
    protocols,
    schematics,
    validate,  # refuses, in one sentence, what does not fit
)
from gdm_course import plotting as plot
from gdm_course.autoregressive.decoding import some_labels
from gdm_course.autoregressive.sound import (
    Gaussian,
    LogisticMixture,
    Softmax,
    bin_sizes,
    edges,
    linear_decode,
    linear_encode,
    sane,
    smooth_embedding,
)
from gdm_course.autoregressive.wavenet import DOUBLING, receptive_field
from gdm_course.autoregressive.wavernn import State, spans, split_code, start, unroll
from gdm_course.data import audio
from gdm_course.evaluation.likelihood import bits_per_dim, estimate, log_probs
from gdm_course.nets import precise  # float32, where a GPU used less
from gdm_course.training import budget, forever, seed_everything, train
from gdm_course.widgets import play, progress, watch

plot.style()
RATE = audio.RATE  # 8,000 samples a second

# %% [markdown]
# ## 1. The question
#
# The data are plucked tones and chords, a quarter of a second each, synthesised here so
# that nothing has to be downloaded. Every sound has its own pitch, loudness and decay. Look
# at one at three magnifications, and listen.

# %%
sounds = audio.tones(n=600, seconds=0.25)
x_train, x_test = torch.stack(sounds.x_train), torch.stack(sounds.x_test)
y_train, y_test = sounds.y_train, sounds.y_test
T, chord = x_train.shape[1], x_train[y_train == 1][0]


def listen(waves, gap=0.1):
    """Play waveforms (N, T) one after the other, none louder than it is."""
    silence = torch.zeros(len(waves), int(gap * RATE))
    row = torch.cat([waves.clamp(-1, 1), silence], dim=1).flatten()
    display(Audio(row.numpy(), rate=RATE, normalize=False))


titles = ("a whole chord: 2,000 samples", "400 of them", "60 of them")
for ax, title, n in zip(plot.panels(*titles, width=3.6, height=2.2), titles, (T, 400, 60)):
    ax.plot(chord[:n], marker="." if n < 100 else "", linewidth=0.8)
    ax.set(xlabel="sample", title=title)
print(f"{len(x_train)} sounds of {T} samples, for training; {sounds.classes}")
listen(x_train[:6])

# %% [markdown]
# What makes sound hard is its **length**. The lowest tone here repeats after 73 samples, of
# which a model that looks back ten sees little. In speech a word lasts thousands.
# A NADE would need a row of weights for every position, and would learn the sine wave anew at
# each. As before we want a model that is Trainable, a Sampler and a Density. New is the demand
# that it treat every moment alike and see far.
#
# ## 2. The idea
#
# The chain rule, $p(x) = \prod_t p(x_t\mid x_{<t})$, with one guesser for all $t$ that slides
# along the sound. What it sees is a window; what it says is a distribution over the next
# sample.

# %% tags=["fold"]
# @title The window, and the next sample
wave = chord[100:190]
(ax,) = plot.panels("the window, and the next sample", width=8, height=2.4)
ax.plot(wave[:80], marker=".", linewidth=0.6)
ax.axvspan(16, 79.5, color=plot.SKY, alpha=0.2)
ax.plot(range(80, 90), wave[80:], ".", color=plot.GREY, alpha=0.4)
at = torch.linspace(-1, 1, 200)
ax.fill_betweenx(at, 80, 80 + 8 * torch.exp(-(((at - wave[80]) / 0.12) ** 2)), alpha=0.4)
_ = ax.set(xlabel="sample", ylim=(-1, 1))

# %% [markdown]
# ## 3. The mathematics: seeing far
#
# Let $h_t\in\mathbb R^C$ be features at time $t$. A **causal convolution** of width two
# combines each moment with an earlier one, $d$ steps back, by the same two matrices
# everywhere:
#
# $$a_t = W_\text{now}\,h_t + W_\text{past}\,h_{t-d} + b. \tag{1}$$
#
# "Causal" means that nothing after $t$ appears; $d$ is the **dilation**. With features
# along the last axis this is two linear maps and a delay.


# %% tags=["from:autoregressive.wavenet.shift"]
def shift(h: Tensor, d: int) -> Tensor:
    """Delay a sequence by d steps: zeros enter, the last d leave. (B, T, C) -> same."""
    return F.pad(h, (0, 0, d, 0))[:, : h.shape[1]]


# %% [markdown]
# How far does a stack of such layers see? Let $R$ be the length of its window, the present
# included: $R=1$ without layers. A layer of dilation $d$ joins two windows of the layers
# below it, one of which is shifted by $d$, so it adds $d$:
#
# $$R = 1 + \sum_{l=1}^{L} d_l. \tag{2}$$
#
# With $d=1$ throughout, $R = 1 + L$: a thousand samples need a thousand layers. **Double**
# the dilation from layer to layer, $d_l = 2^{l-1}$, and $R = 1 + (2^L - 1) = 2^L$: ten
# layers see 1,024 samples. Nothing is skipped either. Every delay from $0$ to $2^L-1$ has
# exactly one path through the stack: its digits in binary say at which layers to step back.
#
# Move the sliders: `receptive_field` is (2). The parameters grow with the number of blocks,
# the field grows with the dilations.


# %%
def draw_field(blocks, growth):
    """Draw every path from the inputs to the last output."""
    dilations = [growth**i for i in range(blocks)]
    lines, times = [], {0}
    for level, d in zip(range(blocks, 0, -1), reversed(dilations)):
        lines += [[(t, level), (t - s, level - 1)] for t in times for s in (0, d)]
        times |= {t - d for t in times}
    (ax,) = plot.panels("", width=9, height=2.6)
    ax.add_collection(LineCollection(lines, colors=plot.BLUE, linewidths=0.6, alpha=0.6))
    ax.plot(sorted(times), [0] * len(times), ".", color=plot.ORANGE, markersize=4)
    R = receptive_field(dilations)
    ax.set(xlim=(-max(R, 16) - 0.5, 1), ylim=(-0.2, blocks + 0.2), yticks=range(blocks + 1))
    ax.set(xlabel="input, samples before now", ylabel="block")
    ax.set_title(f"dilations {dilations}: window {R} samples, {1000 * R / RATE:.1f} ms")


play(draw_field, blocks=(1, 8, 1, 5), growth=[2, 1, 3])

# %% [markdown]
# **Question 1.** With growth 3 the field is larger than with 2 at equal depth. Why does nobody
# use it with convolutions of width two?
#
# <details><summary>Answer</summary>
#
# Look at the orange dots: there are holes. The delays that can be reached are sums of
# *different* powers of three, and the delay 2 is none. Width three would close the holes
# (digits 0, 1, 2 in base three).
# </details>

# %% [markdown] tags=["notes"]
# 10 minutes for sections 1 to 3. Ask how many layers of width two see a second of sound (13, as 2^13 = 8,192). Expect "8,000". The slider answers Question 1; let somebody find the first hole.

# %% [markdown]
# ## 4. Sound as codes
#
# A compact disc stores 16 bits per sample, that is, one of 65,536 values. For a softmax
# that is many. Cut $[-1,1]$ into only 256 equal bins, and quiet sounds drown: of whatever
# is softer than a bin only the sign remains. **Mu-law** coding, which telephones have used
# since the sixties, bends the axis first. It spends its bins where sound usually is, near
# zero:
#
# $$F(x) = \operatorname{sign}(x)\,\frac{\ln(1+\mu|x|)}{\ln(1+\mu)},\qquad \mu = K-1,
#   \qquad\text{code} = \Bigl\lfloor\tfrac K2\,(F(x)+1)\Bigr\rfloor. \tag{3}$$
#
# Tiny example: with $K = 256$, silence has $F = 0$ and code 128; $x = 0.1$ has $F = \ln 26.5/\ln 256 =
# 0.59$ and code 203. Equal bins would have given it 140.
#
# How large is the error? Decoding takes the middle of the bin, so $F$ is wrong by at most
# $1/K$, half a bin. Since $1+\mu|x| = (1+\mu)^{|F|}$, and since no bin contains both signs
# ($K$ is even),
#
# $$|\hat x - x| \le \Bigl(|x|+\tfrac1\mu\Bigr)\Bigl((1+\mu)^{1/K} - 1\Bigr).$$
#
# For $K=256$ the last factor is 0.022. So a sample well above $1/\mu = 0.004$ has an error of
# at most about two per cent of itself. Below that the first bracket no longer shrinks with
# $x$. Equal bins have an error of up to $1/K$ everywhere.


# %% tags=["from:autoregressive.sound.mulaw_encode"]
def mulaw_encode(x: Tensor, K: int = 256) -> Tensor:
    """Cut [-1, 1] into K bins that are equal on the axis F(x) of (3): codes 0..K-1.

    F(x) = sign(x) ln(1 + mu |x|) / ln(1 + mu) with mu = K - 1. Silence is K/2.
    """
    mu, x = K - 1, validate.points(x, None)
    return linear_encode(x.sign() * torch.log1p(mu * x.abs()) / math.log1p(mu), K)


# %% tags=["from:autoregressive.sound.mulaw_decode"]
def mulaw_decode(codes: Tensor, K: int = 256) -> Tensor:
    """Return what lies in the middle of each bin: |x| = ((1 + mu)^|F| - 1) / mu."""
    mu = K - 1
    f = linear_decode(codes, K)
    return f.sign() * torch.expm1(f.abs() * math.log1p(mu)) / mu


# %% [markdown]
# Hear it: the same soft chord, first with equal bins, then with mu-law, both in 8 bits.

# %%
x = torch.linspace(-1, 1, 20_001)
error = (mulaw_decode(mulaw_encode(x)) - x).abs()
bound = (x.abs() + 1 / 255) * (256 ** (1 / 256) - 1)
assert (error <= bound + 1e-6).all()
codes = mulaw_encode(torch.tensor([0.0, 0.1])), linear_encode(torch.tensor([0.1]), 256)
print("0 and 0.1 by mu-law:", *codes[0].tolist(), " 0.1 by equal bins:", *codes[1].tolist())
titles = ("error of 8 bits", "error in per cent of x", "a soft chord in 8 bits")
left, middle, right = plot.panels(*titles, width=3.6)
left.plot(x, (linear_decode(linear_encode(x, 256), 256) - x).abs(), color=plot.GREY)
left.plot(x, error, color=plot.BLUE)
left.plot(x, bound, color=plot.ORANGE)
left.legend(["equal bins", "mu-law", "its bound"])
left.set(xlabel="x", ylabel="|error|", xlim=(-0.5, 0.5))
x = torch.logspace(-4.5, 0, 2000)
percent = lambda decoded: 100 * (decoded - x).abs() / x
middle.loglog(x, percent(linear_decode(linear_encode(x, 256), 256)), color=plot.GREY)
middle.loglog(x, percent(mulaw_decode(mulaw_encode(x))), color=plot.BLUE)
middle.axvline(1 / 255, color=plot.ORANGE, linestyle="--")
middle.text(1.2 / 255, 200, "1 / mu", color=plot.ORANGE)
middle.set(xlabel="x", ylabel="per cent")
soft = 0.03 * chord
coarse = linear_decode(linear_encode(soft, 256), 256)
right.step(range(150), coarse[:150], color=plot.GREY, label="equal bins")
right.plot(mulaw_decode(mulaw_encode(soft))[:150], color=plot.BLUE, label="mu-law")
right.set(ylim=(-0.03, 0.045), xlabel="sample")
right.legend(loc="upper right")
listen(torch.stack([coarse, mulaw_decode(mulaw_encode(soft))]))

# %% [markdown]
# ## 5. Build: WaveNet
#
# **The block.** Behind (1) stands a gate. One half of $a_t$ carries a signal, the other
# decides how much of it passes; with $\odot$ for the product of each pair,
#
# $$z_t = \tanh(a_t^{\text{signal}})\odot\sigma(a_t^{\text{gate}}),\qquad
#   h_t \leftarrow h_t + W_r z_t,\qquad \text{skip}_t = W_s z_t. \tag{4}$$
#
# The first way out is a **residual**: the block corrects its input rather than replacing
# it, so that gradients reach the bottom of the stack unhindered. The second is a **skip**:
# what the block found goes directly to the end, so that short and long dilations are heard
# side by side.
#
# **Conditioning** costs one line. Add to $a_t$ a vector that depends on a label, and the
# label moves signals and gates in every block. The chain rule holds for each label
# separately: the model is $p(x\mid y)$.


# %% tags=["from:autoregressive.wavenet.GatedBlock"]
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


# %% tags=["from:autoregressive.wavenet.DilatedStack"]
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


# %% [markdown]
# The stack ends in $P$ numbers per moment. **What they mean** is a separate decision, with
# three candidates:
#
# - a **softmax**: $P=K$ logits. It knows nothing of near and far, and can take any shape;
# - a **Gaussian** with $P=2$, mean and log width. It can have one hump only;
# - a **mixture of $M$ logistic bumps** with $P=3M$.
#
# To compare them they must answer the same question in the same unit: how probable is this
# *code*? So place the continuous densities on the axis of the codes, $[-1,1]$ after $F$,
# and give each code the mass inside of its bin $[l_k,u_k]$. The outermost bins reach to
# infinity, so the masses of all codes sum to 1 exactly. The logistic distribution has the
# sigmoid as its cumulative function, hence
#
# $$P(k) = \sum_{j=1}^{M}\pi_j\Bigl[\sigma\Bigl(\frac{u_k-\mu_j}{s_j}\Bigr)
#   - \sigma\Bigl(\frac{l_k-\mu_j}{s_j}\Bigr)\Bigr]. \tag{5}$$
#
# Far from $\mu_j$ both sigmoids are 1 to all digits, their difference is 0, its logarithm
# $-\infty$. A better form: with $a<b$ in the place of the two arguments,
#
# $$\sigma(b)-\sigma(a) = \frac{e^b(1+e^a)-e^a(1+e^b)}{(1+e^a)(1+e^b)}
#   = \frac{e^b-e^a}{(1+e^a)(1+e^b)} = \sigma(b)\,\sigma(-a)\,\bigl(1-e^{a-b}\bigr).
#   \tag{6}$$
#
# Three factors, and the logarithm of each is harmless.


# %% tags=["from:autoregressive.sound.log_logistic_interval"]
def log_logistic_interval(a: Tensor, b: Tensor, size: Tensor | None = None) -> Tensor:
    """Return log(sigmoid(b) - sigmoid(a)) for a < b, far out in the tails too: (6).

    Give the size of the bin if it is known: far out, b - a has lost its digits.
    """
    size = b - a if size is None else size
    return F.logsigmoid(b) + F.logsigmoid(-a) + torch.log(-torch.expm1(-size))


# %%
a = torch.tensor([-2.0, 3.0, 30.0, 300.0])
plain = torch.log(torch.sigmoid(a + 0.1) - torch.sigmoid(a))
print("plain: ", plain.tolist())
print("by (6):", log_logistic_interval(a, a + 0.1).tolist())
assert torch.allclose(plain[:1], log_logistic_interval(a, a + 0.1)[:1], atol=1e-4)

# %% [markdown]
# A *reader* turns the $P$ numbers into such a distribution: `Softmax` into a `Categorical`,
# `Gaussian` does for $\Phi$ what (5) does for $\sigma$, and `LogisticMixture` is (5) itself (its
# code is in a section after the summary). The model is the stack and a reader. The input at
# time $t$ is the code at $t-1$; before the sound comes silence, and before that, zeros. Sampling
# uses `Queues`, which section 7 will write.


# %% tags=["from:autoregressive.wavenet.WaveNet"]
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


# %% tags=["fold"]
# @title A block of WaveNet, and what it hands on
seed_everything(0)
shown = WaveNet(256, channels=16, skip=32, dilations=(1, 2, 4), classes=3)
schematics.dilated_stack(shown, mulaw_encode(x_train[:4]), y_train[:4])

# %% [markdown]
# Two exact checks before any training. On three codes and five moments the probabilities of all
# $3^5$ sounds sum to 1, whatever the output. And the field is what (2) says: differentiate one
# output by the features of every input.

# %%
states = torch.tensor(list(itertools.product(range(3), repeat=5)))  # (243, 5)
for output in (Softmax, Gaussian, LogisticMixture):
    seed_everything(0)
    tiny = WaveNet(3, dilations=(1, 2), output=output).double()
    total = tiny.log_prob(states).exp().sum().item()
    print(f"{output.__name__:16s} sum over {len(states)} sounds: {total:.9f}")
    assert abs(total - 1) < 1e-9

seed_everything(0)
net = DilatedStack(4, 8, dilations=(1, 2, 4, 8))
net.embed = nn.Identity()  # features in, so that autograd can differentiate by them
J = jacobian(lambda h: net(h[None])[0].sum(-1), torch.randn(40, 32)).abs().sum(-1)
reach = [t - J[t].nonzero().min().item() + 1 for t in range(40)]
assert (J.triu(1) == 0).all() and max(reach) == receptive_field(net.dilations)
(ax,) = plot.panels("d output(t) / d input(k)", width=3.4)
ax.imshow(J > 0, cmap="Blues")
_ = ax.set(xlabel="input k", ylabel="output t")

# %% [markdown] tags=["notes"]
# 16 minutes for sections 4 and 5. Let the room hear the soft chord twice before saying which is which. If time is short, leave the algebra of (6) to reading. Ask at the picture of the Jacobian: what
# would one look like that is not causal? (Something above the diagonal.)

# %% [markdown]
# ## 6. A sound whose truth is known
#
# A bell rings and something keeps knocking on it:
#
# $$x_t = 2r\cos\theta\;x_{t-1} - r^2 x_{t-2} + \varepsilon_t.$$
#
# Without knocks this is a decaying sine. Given the past, $x_t$ is a *known* number plus
# $\varepsilon_t$, so the law of the knock is the true conditional distribution, and the
# true number of bits per code can be computed. (The model sees codes, we use the exact
# past; nobody can be better than that on average.) Two knockers: one draws from a Gaussian,
# the other throws a coin and knocks up or down.
#
# **Predict 1, before you run.** A single Gaussian is to guess the coin's knocks, up or down by 0.08.
# Where will it put its mean?


# %%
r, theta, K = 0.9, 2 * math.pi / 12, 256
two = Normal(torch.tensor([-0.08, 0.08]), torch.tensor([0.015, 0.015]))
knocks = {
    "Gaussian knocks": Normal(torch.tensor(0.0), torch.tensor(0.05)),
    "coin knocks": MixtureSameFamily(Categorical(torch.ones(2)), two),
}


def ring(knock, n, T=130, before=50):
    """Draw n sounds (n, T) of the bell; the first `before` samples are thrown away."""
    eps, x = knock.sample((n, T + before)), [torch.zeros(n)] * 2
    for t in range(T + before):
        x.append(2 * r * math.cos(theta) * x[-1] - r**2 * x[-2] + eps[:, t])
    return torch.stack(x[-T:], dim=1)


def true_log_prob(knock, x, codes):
    """Return the true log P(code | x_{t-1}, x_{t-2}) from t = 3 on: (n, T - 2)."""
    mean = 2 * r * math.cos(theta) * x[:, 1:-1] - r**2 * x[:, :-2]
    low = 2 * codes / K - 1 - mean
    return (knock.cdf(low + 2 / K) - knock.cdf(low)).clamp(1e-9).log()


def fit(model, data, steps, lr=1e-2, label=""):
    """Train with a rate that rises for 20 steps and then falls to 0."""
    rate = lambda s: lr * min((s + 1) / 20, 1) * (1 - s / steps)
    for _ in progress(train(model, data, steps, rate, clip=1.0), steps, label):
        pass
    return model.eval()


# %%
fits, steps = {}, budget(200, 5)
row = "{:18s}{:>10s}{:>10s}{:>10s}{:>18s}".format
print(row("bits per code", "truth", "Softmax", "Gaussian", "LogisticMixture"))
for name, knock in knocks.items():
    seed_everything(0)
    codes, x_new = linear_encode(ring(knock, 2000), K), ring(knock, 500)
    new, cells = linear_encode(x_new, K), []
    for output in (Softmax, Gaussian, LogisticMixture):
        seed_everything(0)
        model = WaveNet(K, dilations=(1, 2, 4), channels=16, skip=32, output=output)
        fit(model, forever(codes, 24), steps, label=f"{name}, {output.__name__}")
        with torch.no_grad():
            nats = -model.conditionals(new).log_prob(new)[:, 2:].mean().item()
        fits[name, output.__name__] = model
        cells.append(f"{bits_per_dim(nats, 1):.2f}")
    truth = -true_log_prob(knock, x_new, new[:, 2:]).mean().item()
    print(row(name, f"{bits_per_dim(truth, 1):.2f}", *cells))
one_hump = 0.5 * math.log(2 * math.pi * math.e * (0.08**2 + 0.015**2)) - math.log(2 / K)
print(f"coin knocks, the best single Gaussian: {bits_per_dim(one_hump, 1):.2f}")

# %% tags=["fold"]
# @title One moment of each sound, the truth beside the models
axes = plot.panels(*knocks, width=5, height=2.8)
every = torch.arange(K)
for ax, (name, knock) in zip(axes, knocks.items()):
    seed_everything(3)
    x = ring(knock, 1)
    codes = linear_encode(x, K)
    rows = x[:, -3:].expand(K, -1)
    p = true_log_prob(knock, rows, every[:, None]).exp().flatten()
    ax.fill_between(every, p, color=plot.GREY, alpha=0.4, label="truth", step="mid")
    for output in ("Softmax", "Gaussian", "LogisticMixture"):
        tries = codes.repeat(K, 1)
        tries[:, -1] = every  # every possible last code after the same past
        with torch.no_grad():
            log_p = fits[name, output].conditionals(tries).log_prob(tries)[:, -1]
        ax.plot(every, log_p.exp(), label=output, linewidth=1)
    centre = int((p * every).sum())
    ax.set(xlim=(centre - 40, centre + 40), xlabel="code", ylabel="probability")
    ax.legend()

# %% [markdown]
# <details><summary>Answer</summary>
#
# In the hole between the humps, where nothing ever happens. The best Gaussian has the mean and
# the variance of the knocks, and its cost is its entropy: the last line of the table. No amount
# of training can go below.
# </details>
#
# Where the truth has one hump, two numbers say as much as 256. Where it has two, the mixture
# finds both; the softmax has to learn every height by itself, and is on its way.
#
# **Change this line, and run the cell again.** `dilations=(1, 2, 4)` to `(1,)`, a field of 2 samples:
# what happens?
#
# <details><summary>Answer</summary>
#
# Gaussian knocks cost the same: their mean needs two samples. On the coin the mixture pays
# about 0.3 more; two blocks are gone, too, so this run cannot say why.
# </details>

# %% [markdown]
# ## 7. Generate: queues
#
# Sampling takes one step per sample. A naive step runs the network over the last $R$ codes,
# $R\cdot L$ block evaluations, to use one row of the result. But only the *newest* feature
# of each block is new. All the others were computed before; block $l$ needs just one of
# them, its input $d_l$ steps ago. So give each block a queue of length $d_l$, and
#
# $$\text{cost of a sample: } L \text{ blocks instead of } R\cdot L,\qquad
#   \text{memory: } C\sum_l d_l = C\,(R-1) \text{ numbers.} \tag{7}$$
#
# The cost does not depend on the length of the sound. A queue of fixed length is a
# **ring**: at step $t$ the slot $t \bmod d$ holds what was put there $d$ steps ago; read
# it, then overwrite it.


# %% tags=["from:autoregressive.wavenet.Queues"]
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


# %% [markdown]
# The proof that the two agree is a comparison at every step. The gain is a measurement,
# against two naive ways: one runs the network over the whole past (in a sound of 8,000
# samples that is 4,000 on average), the other is clever enough to run it over $R$ codes.

# %%
seed_everything(0)
model = WaveNet(256)
R = receptive_field(DOUBLING)
codes = torch.randint(256, (1, R + 40))
queues = Queues(model.net, 1)
with torch.no_grad():
    stepped = torch.stack([queues.step(code) for code in codes.T], dim=1)
    assert torch.allclose(stepped, model.net(codes), atol=1e-4)
    naive = {}
    for what, seen in {
        "the whole past, at sample 4,000": 4000,
        f"the last {R} codes": R,
    }.items():
        past = torch.randint(256, (1, seen))
        past[:, -R:] = codes[:, -R:]
        began = time.perf_counter()
        for _ in range(10):
            last = model.net(past)[:, -1]
        naive[what] = 1e3 * (time.perf_counter() - began) / 10
        assert torch.allclose(last, stepped[:, -1], atol=1e-4)
for n in (1, 16):
    began = time.perf_counter()
    model.sample(n, T=budget(1000, 50))
    each = 1e3 * (time.perf_counter() - began) / budget(1000, 50)
    print(
        f"queues, {n:2d} sounds at once: {each:.2f} ms per step, {each / n:.3f} per sample"
    )
for what, ms in naive.items():
    print(f"a pass over {what}: {ms:.2f} ms per sample, without drawing it")

# %% [markdown]
# ## 8. Tones
#
# Now the tones, in 8-bit mu-law codes. The model is told whether it hears a tone, a major
# or a minor chord. Each step trains on four random windows of 1,000 samples, as if after silence.

# %%
codes, codes_test = mulaw_encode(x_train), mulaw_encode(x_test)


def windows(x, y, B=4, size=1000):
    """Cut random windows out of sounds x (N, T), with their labels, without end."""
    while True:
        chosen = torch.randint(len(x), (B,))
        first = torch.randint(x.shape[1] - size + 1, (B, 1))
        yield x[chosen].gather(1, first + torch.arange(size)), y[chosen]


def test_bits(model, *data):
    """Return bits per sample of every sound, (N,)."""
    nats = -log_probs(model, data, batch=10)
    return bits_per_dim(nats, data[0].shape[1])


seed_everything(0)
wavenet = WaveNet(classes=3)
steps = budget(160, 4)
rate = lambda s: 1e-2 * min((s + 1) / 20, 1) * (1 - s / steps)
training = train(wavenet, windows(codes, y_train), steps, rate, clip=1.0)
for _ in watch(training, every=30, unit="nats per sample"):
    pass
frequency = (codes.flatten().bincount(minlength=256) + 1).float()
unigram = -(frequency / frequency.sum()).log()[codes_test].mean().item()

# %%
seed_everything(0)
blind = WaveNet()  # the same, without labels
fit(blind, (w[:1] for w in windows(codes, y_train)), steps, label="without labels")
under = [test_bits(wavenet, codes_test, torch.full_like(y_test, y)) for y in range(3)]
nats = -torch.stack(under, 1) * T * math.log(2)  # log p(x | y), (N, 3)
mixed = bits_per_dim(math.log(3) - nats.logsumexp(1), T)  # of the mean of p(x | y)
bits = {"told its label": test_bits(wavenet, codes_test, y_test)}
bits |= {"told a wrong label": test_bits(wavenet, codes_test, (y_test + 1) % 3)}
bits |= {"label mixture": mixed, "trained without labels": test_bits(blind, codes_test)}
print(f"every sample alone      {bits_per_dim(unigram, 1):.2f} bits per sample")
for name, each in bits.items():
    value, error = estimate(each)
    more, paired = estimate(each - bits["told its label"])
    print(f"{name:23s} {value:.2f} +- {error:.2f}", end="")
    print(f", {more:+.4f} +- {paired:.4f} against the first" if more else "")

# %% [markdown]
# **Question 2.** How much can a label of three classes be worth, in bits per sample?
#
# <details><summary>Answer</summary>
#
# At most $\log_2 3 = 1.58$ bits, once per *sound*: $1.58/2000$ per sample, below the second
# digit. The label mixture, $\frac13\sum_y p(x\mid y)$, pays no more than that above the first line, for one
# term of the sum is $\frac13 p(x\mid y)$. Here it pays less, and the model that never heard labels
# pays least: they *hurt* (on three seeds; less after 640 steps). **Labels are for asking.**
# </details>

# %% [markdown]
# Listen: two tones, two major chords, two minor chords, drawn from silence on. A model that
# was trained for seconds is no instrument yet; compare what you hear with the waves.

# %%
seed_everything(1)
began = time.perf_counter()
asked = torch.tensor([0, 0, 1, 1, 2, 2])
drawn = mulaw_decode(wavenet.sample(6, T=budget(T, 100), y=asked))
print(f"{drawn.numel():,} samples in {time.perf_counter() - began:.1f} s")
titles = [sounds.classes[y] for y in asked]
for ax, title, wave in zip(
    plot.panels(*titles, columns=3, width=3.6, height=1.8), titles, drawn
):
    ax.plot(wave[:800], linewidth=0.6)
    ax.set(ylim=(-1, 1), title=title, xlabel="sample")
listen(drawn)

# %% [markdown] tags=["notes"]
# 12 minutes for sections 6 to 8. For Predict 1 expect "on the higher hump". Ask before the table of labels: how much better is the model that knows the chord? Most expect a lot.

# %% [markdown]
# ## 9. Break it: a ring with one slot too few
#
# Caches are where generators break. Give each ring one slot less than it needs.
#
# **Predict 2, before you run.** Which of these will notice: the test likelihood, the training curve,
# your ears?


# %%
def generate(queues, n, T, seed=1):
    """Draw sounds with the queues given; `WaveNet.sample` with its parts laid open."""
    seed_everything(seed)
    code, x = torch.full((n,), 128), []
    for _ in range(T):
        code = wavenet.output(queues.step(code)).sample()
        x.append(code)
    return torch.stack(x, dim=1)


asked, n = torch.tensor([0, 1]), budget(T, 60)
broken = Queues(wavenet.net, 2, asked)
broken.d = (broken.d - 1).clamp(min=1)  # delays of d - 1 where d was meant
bad = generate(broken, 2, n)
good = generate(Queues(wavenet.net, 2, asked), 2, n)  # repaired
for ax, codes_drawn in zip(
    plot.panels("d - 1 slots", "d slots", width=4.5, height=2), (bad, good)
):
    ax.plot(mulaw_decode(codes_drawn)[0, :600], linewidth=0.7)
    ax.set(ylim=(-1, 1), xlabel="sample")
with torch.no_grad():
    for name, x in {"d - 1 slots": bad, "d slots": good}.items():
        value = bits_per_dim(-wavenet.log_prob(x, asked).mean().item(), n)
        print(
            f"{name:12s} the model's own surprise at its sound: {value:.2f} bits per sample"
        )
probe = torch.randint(256, (1, 60))
for slots in ("d - 1", "d"):
    queues = Queues(wavenet.net, 1, asked[:1])
    if slots == "d - 1":
        queues.d = (queues.d - 1).clamp(min=1)
    with torch.no_grad():
        stepped = torch.stack([queues.step(code) for code in probe.T], dim=1)
        off = (stepped - wavenet.net(probe, asked[:1])).abs().amax((0, 2))
    print(f"{slots:5s} slots: largest difference to the full pass {off.max():.5f}")
assert off.max() < 1e-3
listen(mulaw_decode(torch.cat([bad, good])))

# %% [markdown]
# <details><summary>Answer</summary>
#
# Only your ears. `log_prob` has no queue, so likelihood and training curves are untouched.
# </details>
#
# Two checks notice, and the cell ran both. One is the comparison of section 7, step by step. The
# other needs no second implementation: **score the samples with `log_prob`**. A sampler that
# draws from its own density is as surprised by its samples as its entropy says; this one finds
# its broken sounds less likely than its own.

# %% [markdown]
# ## 10. Remember instead of look back
#
# A recurrent network keeps a state $h_t$ of $H$ numbers and updates it with each sample.
# Its memory has no fixed length, and a step costs the same always, without any queue.
# WaveRNN (Kalchbrenner and others, 2018) adds an idea that removes the need for mu-law:
# split each 16-bit sample into a **coarse** byte and a **fine** byte, $x_t = 256\,c_t +
# f_t$, and apply the chain rule once more:
#
# $$p(x) = \prod_{t} p(c_t\mid x_{<t})\;p(f_t\mid x_{<t},\,c_t). \tag{8}$$
#
# Two softmaxes of 256 instead of one of 65,536, and exact to the last bit. The units are
# **gated recurrent units**. Let $a$ be what the inputs say and $r = R\,h_{t-1}+b$ what the
# old state says, each in three parts:
#
# $$u=\sigma(a_u+r_u),\quad s=\sigma(a_s+r_s),\quad e=\tanh(a_e+s\odot r_e),\quad
#   h_t = u\odot h_{t-1} + (1-u)\odot e. \tag{9}$$
#
# $u$ decides how much to keep, $s$ how much of the past the candidate $e$ may use. With $h_{t-1} = 1$,
# $u = 0.9$ and $e = 0$, a unit is at 0.9 after a step and at $0.9^{10} = 0.35$ after ten. The network, its
# training in spans, and a fair comparison with WaveNet follow after the summary.

# %% [markdown]
# ## 11. Scale: spoken digits
#
# The same class on recordings of a voice that says the digits zero to nine, trained by `gdm
# train`; the card beside the checkpoint tells the figures. The label is the digit, so you
# can ask for one.

# %%
name = "autoregressive/wavenet-fsdd"
if checkpoints.available(name):
    speaker, card = checkpoints.load(name), checkpoints.card(name)
    for told in card["figures"]:
        print(f"{told['split']:6s} {told['value']:.2f} {told['unit']}")
    seed_everything(0)
    digits = torch.arange(10)
    listen(mulaw_decode(speaker.sample(10, T=budget(4000, 50), y=digits)))
else:
    print(f"no checkpoint yet: 'gdm train {name}' makes it")
print(type(wavenet).__name__, protocols.abilities(wavenet))

# %% [markdown]
# ## Summary
#
# - One guesser slides along the sound. Doubled dilations see $2^L$ samples with $L$ blocks (2),
#   and every delay has exactly one path.
# - Gates, residuals and skips are the block (4); a label added inside the gates makes the model
#   conditional.
# - Masses of bins (5) make softmax, Gaussian and mixture comparable in bits per code. **Mu-law**
#   (3) spends 8 bits so that the error is in proportion to the sample.
# - Queues (7) make a sample cost $L$ blocks; a state (9) does it without queues.
# - Likelihood does not test the sampler. Score the samples with the model's own density.
#
# | quantity | unit |
# |---|---|
# | receptive field $R$ | samples, $R/8$ milliseconds |
# | loss | nats per sample |
# | likelihood of a sound | bits per sample, of 8-bit mu-law codes |
#
# **Exercises:** open them with `gdm start autoregressive/wavenet`.
#
# ## References
#
# - Van den Oord and others (2016). *WaveNet: a generative model for raw audio.*
#   arXiv:1609.03499.
# - Le Paine and others (2016). *Fast WaveNet generation algorithm.* arXiv:1611.09482.
# - Kalchbrenner and others (2018). *Efficient neural audio synthesis.* arXiv:1802.08435.
# - Salimans, Karpathy, Chen, Kingma (2017). *PixelCNN++.* arXiv:1701.05517.
# - Cho and others (2014). *Learning phrase representations using RNN encoder-decoder for
#   statistical machine translation.* arXiv:1406.1078.
# - ITU-T G.711 (1988). *Pulse code modulation of voice frequencies.*

# %% [markdown]
# ## Further: a mixture of logistics as a distribution
#
# `BinnedLogistics` is (5) with the stable (6), as a distribution over codes; the reader hands it
# the network's numbers.


# %% tags=["from:autoregressive.sound.BinnedLogistics"]
class BinnedLogistics(Distribution):
    """A mixture of logistic bumps on the axis of the codes, (5).

    Args:
        logits, mu, log_s: of the M bumps, on the axis -1..1 of the codes, (*B, M).
        K: number of codes.
    """

    arg_constraints = MappingProxyType({})

    def __init__(self, logits: Tensor, mu: Tensor, log_s: Tensor, K: int):
        super().__init__(mu.shape[:-1], validate_args=False)
        self.logits, self.mu, self.K = logits, mu, K
        self.log_s = sane(log_s, K)

    def log_prob(self, codes: Tensor) -> Tensor:
        """Return log P(codes) in nats: (*B) -> (*B)."""
        log_p = log_logistic_interval(*edges(codes[..., None], self.mu, self.log_s, self.K))
        return (self.logits.log_softmax(-1) + log_p).logsumexp(-1)

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """Draw codes (*sample_shape, *B): a bump, then a point of it by its inverse cdf."""
        which = Categorical(logits=self.logits, validate_args=False).sample(sample_shape)
        one = F.one_hot(which, self.mu.shape[-1])
        mu, log_s = (one * self.mu).sum(-1), (one * self.log_s).sum(-1)
        u = torch.rand_like(mu).clamp(1e-6, 1 - 1e-6)
        return linear_encode(mu + log_s.exp() * torch.logit(u), self.K)


# %% tags=["from:autoregressive.sound.LogisticMixture"]
class LogisticMixture:
    """3 M numbers per sample: logits, means, log scales of M logistic bumps."""

    def __init__(self, K: int, components: int = 8):
        validate.at_least(1, components=components)
        self.K, self.size = K, 3 * components

    def __call__(self, parameters: Tensor) -> BinnedLogistics:
        """Read (*B, 3 M) as a distribution over codes (*B)."""
        return BinnedLogistics(*precise(parameters).chunk(3, dim=-1), self.K)


# %%
seed_everything(0)
logits, mu, log_s = [0.0, 0.7], [-0.4, 0.3], [-2.5, -3.0]  # of two bumps
bumps = LogisticMixture(256, components=2)(torch.tensor([*logits, *mu, *log_s]))
symbols = torch.arange(256)
mass = bumps.log_prob(symbols).exp()
print(f"the masses of all codes add up to {mass.sum():.6f}")
assert abs(mass.sum() - 1) < 1e-4
drawn = bumps.sample((20_000,)).bincount(minlength=256) / 20_000
(ax,) = plot.panels("two bumps, and 20,000 draws", width=5, height=2.4)
ax.bar(symbols, drawn, width=1, color=plot.SKY, label="draws")
ax.plot(symbols, mass, color=plot.BLACK, linewidth=1, label="(5)")
ax.set(xlabel="code", ylabel="probability")
_ = ax.legend()

# %% [markdown]
# ## Further: WaveRNN
#
# One state serves both bytes of (8). The first half of its units choose $c_t$; the second half
# are told $c_t$ as well, and choose $f_t$. All of (9) works unit by unit, so each half can be
# updated when its time has come.


# %% tags=["from:autoregressive.wavernn.gru_update"]
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


# %% tags=["from:autoregressive.wavernn.DualGRU"]
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


# %% tags=["from:autoregressive.wavernn.draw_next"]
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


# %% tags=["from:autoregressive.wavernn.WaveRNN"]
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


# %% [markdown]
# **Training** is sequential too: the gradient runs back through every step. For a sound of
# 2,000 samples that is a long chain, slow and without a single update before its end. So
# cut it. **Truncated back-propagation** goes through the sound in spans; the state is
# handed from span to span, its gradient is not. The *value* of the loss is exact, the
# *gradient* ignores what a weight did more than one span ago.


# %% tags=["from:autoregressive.wavernn.Truncated"]
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


# %%
x16, x16_test = linear_encode(x_train), linear_encode(x_test)
seed_everything(0)
wavernn = WaveRNN()
cut, sound = Truncated(wavernn), x16[:1, :500]
losses = [cut.loss(p, torch.tensor(i == 0)) for i, p in enumerate(sound.split(250, 1))]
assert torch.allclose(sum(losses) / 2, wavernn.loss(sound), atol=1e-4)
print("the losses of two spans average to the loss of the whole")
fit(Truncated(wavernn), spans(x16, 16, 250), budget(90, 2), label="WaveRNN")
with torch.no_grad():
    some = x16_test[:20]
    both = wavernn.conditionals(some).log_prob(split_code(some)).mean((0, 1))
c, f = (bits_per_dim(-nats.item(), 1) for nats in both)
print(f"coarse byte {c:.2f} bits, fine byte {f:.2f} bits of 8")

# %% [markdown]
# The coarse byte is learned, the fine byte is noise to so young a model: it costs all of
# its 8 bits. To gain one bit there, one must know the next sample to half a coarse step, one
# part in 512.
#
# WaveNet speaks of 8-bit codes, WaveRNN of 16-bit codes. Their bits must not be compared,
# until one is translated. A mu-law bin $k$ contains $n_k$ of the 65,536 values. Spread its
# probability evenly over them:
#
# $$P_{16}(x_t\mid x_{<t}) = \frac{P(k_t\mid k_{<t})}{n_{k_t}},\qquad
#   \text{bits}_{16} = \text{bits}_8 + \mathbb E\,\log_2 n_{k_t}. \tag{10}$$
#
# Summed over the $n_k$ values of a bin this gives $P(k)$ again, so it is a distribution
# over 16-bit sounds, an honest rival of (8).

# %%
within = bin_sizes().double().log2()[codes_test].mean(1)  # of every sound, (N,)
assert bin_sizes().sum() == 65536 and bin_sizes().min() > 0
rivals = {
    "WaveNet, no labels": (blind, bits["trained without labels"] + within),
    "WaveRNN": (wavernn, test_bits(wavernn, x16_test)),
}
row = "{:20s}{:>18s}{:>12s}{:>16s}".format
print(row("tones, test split", "16-bit codes", "parameters", "ms per sample"))
for name, (model, each) in rivals.items():
    (value, error), began, n = estimate(each), time.perf_counter(), budget(500, 20)
    model.sample(1, T=n)
    ms = 1e3 * (time.perf_counter() - began) / n
    size = sum(p.numel() for p in model.parameters())
    print(row(name, f"{value:.2f} +- {error:.2f}", f"{size:,}", f"{ms:.2f}"))
seed_everything(2)
listen(linear_decode(wavernn.sample(2, budget(T, 50))))

# %% [markdown]
# Each was trained for a few seconds only, and both without labels.
#
# ## Further: three outputs on the tones
#
# The same network, windows and steps with the two other outputs. All numbers are bits per 8-bit
# mu-law code of the same test sounds; the last column is the difference, sound by sound.

# %%
softmax = bits["told its label"]
for output in (Gaussian, LogisticMixture):
    seed_everything(0)
    model = WaveNet(classes=3, output=output)
    fit(model, windows(codes, y_train), steps, label=output.__name__)
    each = test_bits(model, codes_test, y_test)
    (value, error), (more, paired) = estimate(each), estimate(each - softmax)
    print(f"{output.__name__:16s} {value:.2f} +- {error:.2f} bits per sample", end="")
    print(f", {more:+.2f} +- {paired:.2f} against the softmax")

# %% [markdown]
# Tones are almost deterministic, so their conditionals are *narrow*. Which output is ahead is
# a statement about so many steps of training, not about what the outputs can say: on the coin
# of section 6 the mixture was far ahead.
