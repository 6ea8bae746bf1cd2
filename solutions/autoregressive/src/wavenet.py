# %% [markdown]
# # Exercises: sound, one sample at a time
#
# Six short pieces of code: the codes of a telephone, a convolution that does not look
# ahead, the mass of a bin without underflow, and the units and bytes of WaveRNN. Under each
# stands a check that runs *your* function on fresh inputs. Later cells use the course's own
# code, so that no question blocks another.

# %% [markdown] tags=["nav"]
# before this: [One dimension at a time: NADE, RNADE and MADE](../../lectures/autoregressive/nade.ipynb) ·
# [lecture](../../lectures/autoregressive/wavenet.ipynb) ·
# [exercise](../../exercises/autoregressive/wavenet.ipynb)

# %% tags=["setup"]
import importlib.util

if importlib.util.find_spec("gdm_course") is None:
    raise ImportError(
        "the package gdm_course is not installed here: run 'make lab' in the course's "
        "folder, or 'pip install -e .[lab]', and choose that environment as the kernel"
    )

# %%
import math

import torch
import torch.nn.functional as F
from IPython.display import Audio, display

from gdm_course import plotting as plot
from gdm_course.autoregressive import sound, wavenet, wavernn
from gdm_course.autoregressive.wavernn import split_code
from gdm_course.checks.autoregressive import wavenet as check
from gdm_course.data import audio
from gdm_course.training import seed_everything

plot.style()

# %% [markdown]
# ## 1. Mu-law
#
# Give each sample of a sound in $[-1,1]$ one of $K$ codes, $0\dots K-1$:
#
# $$F(x) = \operatorname{sign}(x)\,\frac{\ln(1+\mu|x|)}{\ln(1+\mu)},\qquad \mu=K-1,
#   \qquad\text{code} = \Bigl\lfloor\tfrac K2(F(x)+1)\Bigr\rfloor.$$
#
# One value needs care: where does $x=1$ go? `torch.log1p(y)` is $\ln(1+y)$, exact for small
# $y$ too.


# %%
def mulaw_encode(x, K):
    """Return the mu-law codes of samples in [-1, 1].

    Args:
        x: any shape.
        K: number of codes.

    Returns:
        Whole numbers 0..K-1, of the same shape.
    """
    ### BEGIN SOLUTION
    mu = K - 1
    f = x.sign() * torch.log1p(mu * x.abs()) / math.log1p(mu)
    return ((f + 1) * K / 2).floor().long().clamp(0, K - 1)
    ### END SOLUTION


# %%
check.mulaw_encode(mulaw_encode)

# %% [markdown]
# Use it: a tone that dies away, in four bits. The first sound has sixteen equal bins, the
# second sixteen mu-law bins. Which end of the tone does each spoil?

# %%
tones = audio.tones(n=30, seconds=0.5)
wave = tones.x_train[2] * torch.exp(-torch.arange(4000) / 1000)
try:
    bent = sound.mulaw_decode(mulaw_encode(wave, 16), 16)
except NotImplementedError:
    bent = sound.mulaw_decode(sound.mulaw_encode(wave, 16), 16)
equal = sound.linear_decode(sound.linear_encode(wave, 16), 16)
for ax, y in zip(
    plot.panels("sixteen equal bins", "sixteen mu-law bins", width=4.5, height=2),
    (equal, bent),
):
    ax.plot(y, linewidth=0.5)
    ax.plot(wave, color=plot.ORANGE, linewidth=0.5)
    ax.set(xlabel="sample (orange: as it was)")
for y in (equal, bent):
    display(Audio(y.numpy(), rate=audio.RATE, normalize=False))

# %% [markdown]
# ## 2. How far does it see?
#
# The lecture's convolutions have width two. Let the width be $w$: output $t$ of a layer of
# dilation $d$ sees $t,\ t-d,\ \dots,\ t-(w-1)d$. How long is the window of the whole stack, from
# the first input that can reach an output to the last?


# %%
def receptive_field(dilations, width):
    """Return the number of inputs from the first to the last that an output can see.

    Args:
        dilations: of the layers, whole numbers (L,).
        width: of every layer.

    Returns:
        A whole number.
    """
    ### BEGIN SOLUTION
    return 1 + (width - 1) * int(dilations.sum())
    ### END SOLUTION


# %%
check.receptive_field(receptive_field)

# %% [markdown]
# An independent oracle: ask autograd. Put a signal through a stack of `conv1d` layers, and
# count the inputs with a derivative.

# %%
seed_everything(0)
dilations, width, length = torch.tensor([1, 3, 9]), 3, 60
x = torch.randn(1, 1, length, requires_grad=True)
h = x
for d in dilations.tolist():
    h = F.conv1d(F.pad(h, ((width - 1) * d, 0)), torch.rand(1, 1, width), dilation=d)
(gradient,) = torch.autograd.grad(h[0, 0, -1], x)
print("autograd:", int((gradient != 0).sum()), "inputs")
try:
    print("yours:   ", receptive_field(dilations, width))
except NotImplementedError:
    print("(write receptive_field first)")

# %% [markdown]
# Width three and dilations that triple: no holes, as promised in the lecture's Question 1.
#
# ## 3. A causal convolution
#
# Features $h$ have the shape (B, T, C), time along the second axis. Compute
#
# $$a_t = W_\text{now}\,h_t + W_\text{past}\,h_{t-d},\qquad h_t = 0\ \text{ before the
#   sound}.$$
#
# Can you do it without a loop over $t$? (The check takes a loop, too.) `F.pad(h, (0, 0, d, 0))`
# puts $d$ zeros in front of the second axis from the end. A sound may be shorter than $d$.


# %%
def causal_convolution(h, W_now, W_past, d):
    """Return a convolution of width two and dilation d that looks only back.

    Args:
        h: (B, T, C).
        W_now, W_past: (C', C).
        d: the dilation, at least 1.

    Returns:
        (B, T, C')
    """
    ### BEGIN SOLUTION
    before = F.pad(h, (0, 0, d, 0))[:, : h.shape[1]]
    return h @ W_now.T + before @ W_past.T
    ### END SOLUTION


# %%
check.causal_convolution(causal_convolution)

# %% [markdown]
# Look at its Jacobian. It has two diagonals, and nothing above the main one.

# %%
W = torch.ones(1, 1)
try:
    f = lambda h: causal_convolution(h[None], W, W, 5)[0, :, 0]
    J = torch.autograd.functional.jacobian(f, torch.randn(20, 1))[..., 0]
except NotImplementedError:
    f = lambda h: (h + wavenet.shift(h[None], 5)[0])[:, 0]
    J = torch.autograd.functional.jacobian(f, torch.randn(20, 1))[..., 0]
(ax,) = plot.panels("d a(t) / d h(k), dilation 5", width=3.2)
ax.imshow(J, cmap="Blues")
_ = ax.set(xlabel="input k", ylabel="output t", yticks=range(0, 20, 5))

# %% [markdown]
# ## 4. The mass of a bin
#
# A logistic bump with mean $\mu$ and width $s$ on the axis $[-1,1]$; code $k$ owns
# $[\,2k/K-1,\ 2(k+1)/K-1\,]$, the first code everything below as well and the last code
# everything above. Return the logarithm of the mass. With $a<b$ the two ends in units of
# $s$ around $\mu$,
#
# $$\sigma(b)-\sigma(a) = \sigma(b)\,\sigma(-a)\,\bigl(1-e^{a-b}\bigr).$$
#
# Add the logs of the three factors: `F.logsigmoid`, and `torch.expm1(y)` is $e^y-1$. For an
# end at infinity drop the factors that become 1, or use a huge number like $10^6$ in units
# of $s$. The check asks far out in the tails, where a plain difference is 0.


# %%
def logistic_bin(k, mu, log_s, K):
    """Return the log mass of bins under logistic bumps.

    Args:
        k: codes 0..K-1, (N,).
        mu, log_s: means and log widths on the axis [-1, 1], (N,).
        K: number of codes.

    Returns:
        (N,), in nats.
    """
    ### BEGIN SOLUTION
    a = (2 * k / K - 1 - mu) * torch.exp(-log_s)
    b = (2 * (k + 1) / K - 1 - mu) * torch.exp(-log_s)
    huge = torch.full_like(a, 1e6)
    a, b = torch.where(k == 0, -huge, a), torch.where(k == K - 1, huge, b)
    return F.logsigmoid(b) + F.logsigmoid(-a) + torch.log(-torch.expm1(a - b))
    ### END SOLUTION


# %%
check.logistic_bin(logistic_bin)

# %% [markdown]
# The masses of all codes sum to 1, wherever the bump is, even outside of the axis:

# %%
k, log_s = torch.arange(256), torch.full((256,), -3.0)
(ax,) = plot.panels("one bump, seven places", width=6, height=2.4)
for mu in (-1.2, -0.8, -0.4, 0.0, 0.4, 0.8, 1.2):
    try:
        p = logistic_bin(k, torch.full((256,), mu), log_s, 256).exp()
    except NotImplementedError:
        ends = sound.edges(k, torch.full((256,), mu), log_s, 256)
        p = sound.log_logistic_interval(*ends).exp()
    ax.plot(p, label=f"{p.sum():.4f}")
ax.set(xlabel="code", ylabel="probability", ylim=(0, 0.06))
_ = ax.legend(title="sum", loc="upper left", bbox_to_anchor=(1.01, 1))

# %% [markdown]
# ## 5. A gated recurrent unit
#
# You get what the inputs say, $a$, and what the old state says, $r$, each in three parts in
# the order update, reset, candidate. Return the new state:
#
# $$u=\sigma(a_u+r_u),\quad s=\sigma(a_s+r_s),\quad e=\tanh(a_e+s\odot r_e),\quad
#   h \leftarrow u\odot h + (1-u)\odot e.$$


# %%
def gru_step(a, r, h):
    """Return the next state of gated recurrent units.

    Args:
        a: from the inputs, (B, 3, H): update, reset, candidate.
        r: from the old state, (B, 3, H), in the same order.
        h: the old state (B, H).

    Returns:
        (B, H)
    """
    ### BEGIN SOLUTION
    u = torch.sigmoid(a[:, 0] + r[:, 0])
    s = torch.sigmoid(a[:, 1] + r[:, 1])
    e = torch.tanh(a[:, 2] + s * r[:, 2])
    return u * h + (1 - u) * e
    ### END SOLUTION


# %%
check.gru_step(gru_step)

# %% [markdown]
# Why gates? Follow the derivative of $h_T$ by $h_0$ through 50 steps, for update gates that
# are closed ($u\approx 0$), half open and open ($u\approx1$).

# %%
for bias in (-4.0, 0.0, 4.0):
    seed_everything(0)
    h0 = torch.zeros(1, 8, requires_grad=True)
    R, h = 0.3 * torch.randn(3, 8, 8), h0
    for _ in range(50):
        a = torch.randn(1, 3, 8)
        a[:, 0] += bias
        r = torch.einsum("kij,bj->bki", R, h)
        try:
            h = gru_step(a, r, h)
        except NotImplementedError:
            h = check.gru_step.reference(a, r, h)
    (gradient,) = torch.autograd.grad(h.sum(), h0)
    print(f"update gate's bias {bias:4.0f}: |d h_50 / d h_0| = {gradient.norm():.1e}")

# %% [markdown]
# ## 6. Two bytes
#
# WaveRNN says two rows of 256 logits per sample, for the coarse byte $c_t = \lfloor
# x_t/256\rfloor$ and, knowing it, for the fine byte $f_t = x_t \bmod 256$. What is the log
# probability of a whole sound?
#
# $$\log p(x) = \sum_t\bigl[\log p(c_t\mid x_{<t}) + \log p(f_t\mid x_{<t},c_t)\bigr].$$


# %%
def two_byte_log_prob(x, coarse, fine):
    """Return the log probability of sounds, in nats.

    Args:
        x: 16-bit codes 0..65535, (B, T).
        coarse, fine: logits of the two bytes (B, T, 256).

    Returns:
        (B,)
    """
    ### BEGIN SOLUTION
    c = coarse.log_softmax(-1).gather(-1, (x // 256)[..., None])
    f = fine.log_softmax(-1).gather(-1, (x % 256)[..., None])
    return (c + f).squeeze(-1).sum(-1)
    ### END SOLUTION


# %%
check.two_byte_log_prob(two_byte_log_prob)

# %% [markdown]
# With an untrained WaveRNN every byte is about a fair 256-sided die: 16 bits per sample.

# %%
seed_everything(0)
model, x = wavernn.WaveRNN(), torch.randint(65_536, (2, 50))
with torch.no_grad():
    coarse, fine = model.scan(x)[0].unbind(2)
    try:
        log_p = two_byte_log_prob(x, coarse, fine)
        assert torch.allclose(log_p, model.log_prob(x), atol=1e-2)
    except NotImplementedError:
        log_p = model.log_prob(x)
print(f"{-log_p.mean() / 50 / math.log(2):.2f} bits per sample")
print(f"the bytes of {x[0, 0]}: {split_code(x)[0, 0].tolist()}")

# %% [markdown]
# ## Further, without a check
#
# 1. **One stack or two.** The paper repeats the doubling: $1,2,\dots,64,1,2,\dots,64$. Train
#    `WaveNet(dilations=...)` on the tones with one stack of eight blocks and with two stacks
#    of four. The fields are 256 and 31; what does it cost in bits?
# 2. **Spoken digits.** `audio.spoken_digits()` if you have them: train on windows, with the
#    digit as label, and listen. How many bits is the label worth to a recording?
# 3. **Compression.** FLAC and other lossless coders predict the next sample linearly and
#    store the error. Fit a linear predictor of order 16 by least squares, a Gaussian to its
#    errors, and compare in bits per 16-bit sample with the lecture's table.
