# %% [markdown]
# # One token at a time: GPT
#
# A text is a row of symbols, and a language model is a guesser of the next one. The guesser
# of this lecture may look at everything before, decides by itself where to look, and does
# not care whether its symbols are letters, pieces of words or pixels.

# %% [markdown] tags=["nav"]
# 55 minutes, and 37 further ·
# before this: [One dimension at a time: NADE, RNADE and MADE](nade.ipynb) ·
# [exercise](../../exercises/autoregressive/gpt.ipynb) ·
# [solution](../../solutions/autoregressive/gpt.ipynb)
#
# previous: [Eight thousand guesses a second: WaveNet and WaveRNN](wavenet.ipynb) ·
# [all units](../index.ipynb) ·
# next: [Change of variables: planar and radial flows](../flows/planar.ipynb)

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
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributions import Categorical

from gdm_course import (
    checkpoints,
    protocols,
    schematics,
    validate,  # refuses, in one sentence, what does not fit
)
from gdm_course import plotting as plot
from gdm_course.autoregressive import decoding
from gdm_course.autoregressive.bpe import CHUNK, Pair, in_alphabet, merge
from gdm_course.autoregressive.decoding import (
    beginning,
    check_decoding,
    choose,
    sharpen,
    some_labels,
)
from gdm_course.autoregressive.gpt import initialise  # small random weights
from gdm_course.data import download, images, text
from gdm_course.evaluation.likelihood import block_nll, nll_estimate
from gdm_course.learning import evaluating
from gdm_course.nets import precise  # float32, where a GPU used less
from gdm_course.optimisers.muon import muon
from gdm_course.training import budget, forever, full_run, seed_everything, train
from gdm_course.widgets import play, progress, watch

plot.style()
Cache, generate = decoding.Cache, decoding.generate  # shown after the summary

# %% [markdown]
# ## 1. The question
#
# Below is a piece of text: tiny Shakespeare if you have it (`gdm data shakespeare`), or else
# the words of this course's own lectures, which need no download. We want a model of such
# text that is Trainable, a Sampler and a Density: one number to minimise, new text, and the
# exact probability of any short text you show it.
#
# First, what do simple guessers pay per character? One that knows only the alphabet of $K$ symbols
# pays $\log K$ nats. One that knows how often each character occurs pays the *unigram*
# cross-entropy, and one that also looks at the character before pays the *bigram* one, all on the
# test split.

# %%
plays = text.shakespeare() if download.here("shakespeare") else text.course()
codes, held_out = plays.encode(plays.train), plays.encode(plays.test)
K = len(plays.alphabet)
print(f"{plays.source}: {len(codes):,} characters to learn from, {K} different ones")
print(plays.train[:300], "\n")

pairs = torch.ones(K, K) * 0.05  # never exactly 0
pairs.index_put_((codes[:-1], codes[1:]), torch.tensor(1.0), accumulate=True)
single = (pairs.sum(0) / pairs.sum()).log()
double = (pairs / pairs.sum(1, keepdim=True)).log()
neighbours = {"alphabet": math.log(K), "unigram": -single[held_out].mean().item()}
neighbours["bigram"] = -double[held_out[:-1], held_out[1:]].mean().item()
for name, nats in neighbours.items():
    print(f"{name:9s}{nats:6.3f} nats per character")

# %% [markdown] tags=["notes"]
# 4 minutes. Let the room complete "to be or not to " and then "th". The more context, the surer the guess: that is the whole lecture. Counting cannot go on like this, see the next figure.

# %% [markdown]
# ## 2. The idea
#
# Why not simply count longer and longer contexts? Because almost every long context is *new*, as
# the figure shows: a table has nothing to say about those. We need a guesser that treats similar
# pasts similarly: a network.
#
# Its input, the past, grows with every token, and what matters may be one token back or fifty.
# **Attention** looks things up: each position asks a *question*, each earlier position offers a
# *key*, and what is copied from where depends on how well they match.

# %% tags=["fold"]
# @title How many test contexts the training text (at most 400,000 characters) has seen
lengths = range(1, 11)
share_seen = []
for n in lengths:
    seen = {plays.train[i : i + n] for i in range(min(len(plays.train), 400_000) - n)}
    starts = range(0, len(plays.test) - n, 7)
    share_seen.append(sum(plays.test[i : i + n] in seen for i in starts) / len(starts))
(ax,) = plot.panels("test contexts that a table has seen", width=4.5)
ax.bar(lengths, share_seen, color=plot.BLUE)
_ = ax.set(xlabel="characters of context", ylabel="share", ylim=(0, 1))

# %% [markdown]
# ## 3. The mathematics
#
# **The chain rule** is that of the first lecture of this family, with tokens $x_t\in\{0,\dots,
# K-1\}$:
#
# $$\log p(x) = \sum_{t=1}^{T}\log p(x_t\mid x_{<t}),\qquad
#   \text{loss} = -\frac1T\log p(x). \tag{1}$$
#
# The first factor has no past. A learned *start* vector stands in its place, so that the
# whole sequence has a probability, the first token too.
#
# **Attention.** Position $t$ of a stream of vectors $h_1,\dots,h_T$ makes a query $q_t$, a
# key $k_t$ and a value $v_t$, each a linear map of $h_t$, of dimension $d$. It compares its
# query with the keys of all positions up to its own,
#
# $$w_{ts} = \frac{\exp(q_t\cdot k_s/\sqrt d)}{\sum_{r\le t}\exp(q_t\cdot k_r/\sqrt d)}
#   \quad(s\le t),\qquad w_{ts} = 0\quad(s>t), \tag{2}$$
#
# and takes the weighted mean of the values,
#
# $$a_t = \sum_{s\le t} w_{ts}\,v_s. \tag{3}$$
#
# Tiny example: $d = 1$, $q_2 = 1$, keys $k_1 = 0$, $k_2 = \log 3$, values 8 and 4. The scores are 0 and
# $\log 3$, the weights $\frac14$ and $\frac34$, so $a_2 = 5$.
#
# *Why $\sqrt d$?* Let the entries of $q$ and $k$ be independent with mean 0 and variance 1.
# Then $q\cdot k=\sum_{i=1}^d q_ik_i$ has mean 0, and since $\mathrm{Var}(q_ik_i) =
# \mathbb E[q_i^2]\,\mathbb E[k_i^2] = 1$ and variances of independent terms add,
# $\mathrm{Var}(q\cdot k)=d$. Without the division the scores have standard deviation
# $\sqrt d$; section 4 shows what that does.
#
# **A block** lets every position first look around, then think for itself. Both parts *add*
# to the stream, so that the gradient has a straight way through any number of blocks. The
# normalisation comes before each part (*pre-norm*), never on the stream itself:
#
# $$h \leftarrow h + \mathrm{attention}(\mathrm{norm}(h)),\qquad
#   h \leftarrow h + \mathrm{mlp}(\mathrm{norm}(h)). \tag{4}$$
#
# Here norm takes one vector, brings its entries to mean 0 and variance 1, and scales and shifts
# each by learned numbers; mlp is a perceptron with one hidden layer.
#
# **Nothing looks ahead.** By (2), row $t$ of attention sees rows $s\le t$. The rest of (4) treats each
# row alone, and a composition of such maps has the property, too. Put token $x_{t-1}$ at position
# $t$ (the start at position 1), and row $t$ knows $x_{<t}$, strictly. As in the NADE lecture the
# product (1) then sums to 1 over all $K^T$ sequences.

# %% [markdown]
# ## 4. Build: attention
#
# Equations (2) and (3) to the word. The future is masked by $-\infty$ *before* the softmax: to
# zero the weights afterwards would leave rows that do not sum to 1.


# %% tags=["from:autoregressive.gpt.causal_attention"]
def causal_attention(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """Let every position look at itself and what is before it: (2) and (3), to the word.

    Args:
        q, k, v: queries, keys and values (..., T, d).

    Returns:
        The mixed values (..., T, d), and who looked at whom: weights (..., T, T).
    """
    T, d = q.shape[-2:]
    scores = (
        q @ k.transpose(-2, -1) / math.sqrt(d)
    )  # (..., T, T): row t asks, column s answers
    future = torch.ones(T, T, dtype=torch.bool, device=q.device).triu(1)
    weights = scores.masked_fill(future, -torch.inf).softmax(-1)
    return weights @ v, weights


# %% [markdown]
# PyTorch's `scaled_dot_product_attention` computes the same numbers in tiles that never leave the
# processor's cache. They must agree.
#
# **Predict 1, before you run.** On the right: the largest of 50 weights, for random queries and keys
# of dimension 4 to 1,024. What does it do *without* the division by $\sqrt d$?

# %%
seed_everything(0)
q, k, v = torch.randn(3, 2, 4, 50, 16)  # (batch, heads, T, d) each
mixed, weights = causal_attention(q, k, v)
theirs = F.scaled_dot_product_attention(q, k, v, is_causal=True)
assert torch.allclose(mixed, theirs, atol=1e-5)
assert (weights.triu(1) == 0).all()
tiny = torch.tensor([[1.0], [1.0]]), torch.tensor([[0.0], [math.log(3)]])
print("the tiny example:", causal_attention(*tiny, torch.tensor([[8.0], [4.0]]))[0][1])
print(f"largest difference to torch's own: {(mixed - theirs).abs().max():.1e}")

left, right = plot.panels("weights of one head", "largest weight among 50", width=3.6)
left.imshow(weights[0, 0], cmap="Blues")
left.set(xlabel="looked at (s)", ylabel="position (t)")
sizes = [4, 16, 64, 256, 1024]
for name, scale in (("divided by sqrt(d)", True), ("not divided", False)):
    largest = []
    for d in sizes:
        scores = torch.randn(400, 50, d) @ torch.randn(400, d, 1)
        scores = scores / math.sqrt(d) if scale else scores
        largest.append(scores.softmax(1).max(1).values.mean().item())
    right.semilogx(sizes, largest, "o-", label=name)
right.set(xlabel="dimension d of queries and keys", ylim=(0, 1))
_ = right.legend()

# %% [markdown]
# <details><summary>Answer</summary>
#
# It goes to 1: the scores have standard deviation $\sqrt d$, the softmax picks a single winner
# before anything is learned, and its gradient vanishes. With the division it stays where it is.
# </details>
#
# The module makes queries, keys and values with one matrix, splits them into **heads** that
# may look at different things, and mixes the heads' answers. The `cache` is for sampling (section 7).


# %% tags=["from:autoregressive.gpt.Attention"]
class Attention(nn.Module):
    """Causal self-attention with several heads: (B, T, width) -> (B, T, width).

    Args:
        width: of the stream; `heads` share it equally.
        dropout: probability that a weight of attention is silenced in training.
    """

    def __init__(self, width: int, *, heads: int = 4, dropout: float = 0.0):
        super().__init__()
        validate.at_least(1, width=width, heads=heads)
        if width % heads:
            raise ValueError(f"width {width} cannot be shared equally by {heads} heads")
        self.heads, self.dropout = heads, dropout
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def split(self, h: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return queries, keys and values of all heads: three of (B, heads, T, d)."""
        B, T, width = h.shape
        qkv = self.qkv(h).view(B, T, 3, self.heads, width // self.heads)
        q, k, v = qkv.unbind(2)  # before they are turned: their gradients lie side by side
        return q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)

    def forward(self, h: Tensor, cache: Cache | None = None) -> Tensor:
        """Attend within h, and to the keys and values of a cache if there is one."""
        q, k, v = self.split(h)
        if cache is not None:
            k, v = cache.extend(k, v)
        a = F.scaled_dot_product_attention(
            q, k, v, dropout_p=self.dropout * self.training, is_causal=q.shape[2] > 1
        )  # a single query, the latest, may see everything
        return self.out(a.transpose(1, 2).flatten(2))


# %% [markdown]
# A block is equation (4). The perceptron is four times as wide as the stream; two thirds of
# a block's weights sit there.


# %% tags=["from:autoregressive.gpt.Block"]
class Block(nn.Module):
    """Look around, then think: h + attention(norm(h)), then h + mlp(norm(h)), as in (4)."""

    def __init__(self, width: int, *, heads: int = 4, dropout: float = 0.0):
        super().__init__()
        self.norm_1, self.norm_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = Attention(width, heads=heads, dropout=dropout)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.dropout = dropout

    def drop(self, h: Tensor) -> Tensor:
        """Silence parts of what is added to the stream, in training."""
        return F.dropout(h, self.dropout) if self.training and self.dropout else h

    def forward(self, h: Tensor, cache: Cache | None = None) -> Tensor:
        """Update the stream: (B, T, width) -> (B, T, width)."""
        h = h + self.drop(self.attention(self.norm_1(h), cache))
        return h + self.drop(self.down(F.gelu(self.up(self.norm_2(h)))))


# %% [markdown]
# Now the stack. Tokens become vectors by a table, and since attention is blind to order
# (permute the pairs of keys and values: the sum (3) stays the same), a learned vector per
# *position* is added. At the top, the stream is compared with the **same** table of token
# vectors: a token is likely when its vector points where the stream does. This *weight
# tying* saves $K\cdot\text{width}$ parameters.


# %% tags=["from:autoregressive.gpt.Stack"]
class Stack(nn.Module):
    """All of a GPT but its probabilities: from tokens to K logits for each next token."""

    def __init__(self, K, T, *, layers=4, heads=4, width=128, classes=0, dropout=0.0):
        super().__init__()
        validate.at_least(1, K=K, T=T, layers=layers, width=width)
        validate.at_least(0, classes=classes)
        self.K, self.T, self.classes = K, T, classes
        self.token = nn.Embedding(K, width)  # also reads out: tied weights
        self.position = nn.Parameter(torch.randn(T, width) * 0.02)
        self.start = nn.Embedding(max(classes, 1), width)  # stands before the first token
        options = {"heads": heads, "dropout": dropout}
        self.blocks = nn.ModuleList([Block(width, **options) for _ in range(layers)])
        self.norm = nn.LayerNorm(width)
        initialise(self)

    def embed(self, past: Tensor, y: Tensor | None = None) -> Tensor:
        """Put the start before tokens (B, t), add where each stands: (B, t + 1, width)."""
        if past.shape[1] >= self.T:
            raise ValueError(
                f"{past.shape[1] + 1} tokens do not fit into a context of {self.T}: "
                "cut them, or build the model with a larger T"
            )
        y = validate.labels(y, self.classes, len(past))
        start = self.start(past.new_zeros(len(past)) if y is None else y)  # (B, width)
        h = torch.cat([start[:, None], self.token(past)], dim=1)
        return h + self.position[: h.shape[1]]

    def read(self, h: Tensor) -> Tensor:
        """Compare the stream with every token's vector: (..., width) -> logits (..., K)."""
        return F.linear(self.norm(h), self.token.weight)

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """Return the logits of p(x_t | x_<t) for all t: (B, T) -> (B, T, K)."""
        x = validate.codes(x, self.K, "t")
        h = self.embed(x[:, :-1], y)  # position t sees the start and x_<t, never x_t
        for block in self.blocks:
            h = block(h)
        return self.read(h)


# %% [markdown]
# ## 5. Assemble
#
# On top of the logits, the usual four methods. A GPT may be told a **class** $y$: then each
# class has its own start vector, and nothing else changes. If you do not tell it, the
# classes are summed out, $p(x)=\frac1C\sum_y p(x\mid y)$.


# %% tags=["from:autoregressive.gpt.GPT"]
class GPT(Stack):
    """Generative pre-trained transformer for K tokens 0..K-1, sequences (B, t), t <= T.

    Args:
        K, T: how many different tokens; the longest sequence.
        layers, heads, width: of the transformer.
        classes: how many classes y can be given, 0 for none; each has its own start.
        dropout: probability of silence in training.
    """

    def conditionals(self, x: Tensor, y: Tensor | None = None) -> Categorical:
        """Return p(x_t | x_<t, y) for all t in one pass: (B, t) -> batch shape (B, t)."""
        return Categorical(logits=precise(self(x, y)), validate_args=False)

    def log_prob(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """Return log p(x | y) in nats: (B, t) -> (B,). Without y, all classes as likely."""
        if y is None and self.classes:
            ys = torch.arange(self.classes, device=x.device)[:, None].expand(-1, len(x))
            log_p = torch.stack([self.log_prob(x, y) for y in ys])  # (classes, B)
            return log_p.logsumexp(0) - math.log(self.classes)
        return self.conditionals(x, y).log_prob(x).sum(-1)

    def loss(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """Return the mean negative log-likelihood in nats per token."""
        return F.cross_entropy(self(x, y).flatten(0, 1), x.flatten().long())

    def sample(self, n, *, y=None, prompt=None, length=None, **how) -> Tensor:
        """Draw n sequences (n, length), each beginning with the prompt, by cached steps.

        Args:
            y: classes (n,); by default drawn, all as likely.
            prompt: tokens (t,) to begin with; `length` tokens in all, T by default.
            how: temperature, top_k, top_p of `decoding.choose`.
        """
        device, n = self.position.device, validate.count(n)
        y = some_labels(y, self.classes, n, device)
        x = beginning(self, prompt).to(device).expand(n, -1)  # (n, t)
        length = self.T if length is None else length
        check_decoding(**how)
        return generate(self, x, y, length, lambda logits: choose(logits, **how))


# %% tags=["fold"]
# @title The stack, from shifted tokens to logits
seed_everything(0)
shown = GPT(K, 16, layers=1, heads=2, width=32)
schematics.transformer(shown, codes[None, :16])

# %% tags=["fold"]
# @title The shift: which inputs reach which guess
schematics.shifted_input(shown, codes[None, :16])

# %% [markdown]
# **Question 1.** The mask of (2) lets position $t$ look at itself ($s\le t$), while MADE's outputs
# needed a strict $>$. Why is that no mistake?
#
# <details><summary>Answer</summary>
#
# The tokens are shifted, as drawn. Position $t$ holds $x_{t-1}$ (position 1 the start) and predicts
# $x_t$. Looking at itself, it sees the *previous* token, which it must. With the mask $s<t$
# position 1 would have nothing at all to look at.
# </details>

# %% [markdown]
# Two exact checks before any training. The probabilities of all $3^5$ sequences sum to 1.
# And guess $t$ must not move when $x_t$ or a later token changes: we change tokens from
# place $t$ on and record which guesses move at all, to the last bit.

# %%
seed_everything(0)
small = GPT(3, 5, layers=2, heads=2, width=8)
for p in small.parameters():
    nn.init.normal_(p, std=0.5)  # far from its calm beginning
states = torch.tensor(list(itertools.product(range(3), repeat=5)))
with torch.no_grad():
    total = small.log_prob(states).exp().sum().item()
    moved = torch.zeros(5, 5)
    for s in range(5):
        other = states.clone()
        other[:, s] = (other[:, s] + 1) % 3
        moved[:, s] = (small(other) != small(states)).any(-1).any(0).float()
assert abs(total - 1) < 1e-5
assert (moved.triu() == 0).all() and (moved.tril(-1) > 0).sum() == 10
print(f"sum over {len(states)} sequences: {total:.6f};", protocols.abilities(small))
(ax,) = plot.panels("token s moves guess t", width=3.2)
ax.imshow(moved, cmap="Blues")
_ = ax.set(xlabel="token s", ylabel="guess t")

# %% [markdown] tags=["notes"]
# 18 minutes for sections 3 to 5. Derive the root of d on the board; for Predict 1 expect "nothing, softmax normalises". Ask which line of `Stack` is the shift. If time is short, leave the classes out.

# %% [markdown]
# ## 6. Train where the truth is known: an echo
#
# Draw eight random symbols out of eight, then say them again. The truth: the first half costs
# $8\log 8 = 16.6$ nats, the second nothing, and on average no model can be under that. A bigram table is
# helpless here: to echo, one must look *exactly eight places back*. (`muon` is an optimiser for
# matrices, explained after the summary.)

# %%
length, symbols = 16, 8
truth = length / 2 * math.log(symbols)


def echoes(B):
    """Yield batches (B, 16) of eight random symbols, said twice."""
    while True:
        yield torch.randint(symbols, (B, length // 2)).repeat(1, 2)


def fit(model, batches, steps, lr=1e-2):
    """Train with Muon, the rate falling to 0; hand on every step."""
    rate = lambda step: lr * (1 - step / steps)
    yield from train(model, batches, steps, rate, optimizer=muon(model, lr))


seed_everything(0)
echo = GPT(symbols, length, layers=1, heads=2, width=32)
for _ in watch(fit(echo, echoes(64), budget(500, 20), lr=3e-3), unit="nats per token"):
    pass
x = next(echoes(1000))
with torch.no_grad():
    echo_nats = -echo.log_prob(x).mean().item()
print(f"truth {truth:.3f} nats per sequence, GPT {echo_nats:.3f}")
if full_run():
    assert truth - 0.3 < echo_nats < truth + 0.5

# %% [markdown]
# The model's conditionals beside the true ones, and where the heads look. Guess $t$ must copy
# $x_{t-8}$, which entered at position $t-7$ (the shift): a copying head shows a stripe seven below
# the diagonal.


# %%
def attention_maps(model, x, y=None):
    """Return every head's weights, computed as written in section 4: (L, B, heads, T, T)."""
    h, maps = model.embed(x[:, :-1], y), []
    for block in model.blocks:
        maps.append(causal_attention(*block.attention.split(block.norm_1(h)))[1])
        h = block(h)
    return torch.stack(maps)


with torch.no_grad():
    believed = echo.conditionals(x[:1]).probs[0]  # (16, 8)
    maps = attention_maps(echo, x[:1])[0, 0]  # (heads, 16, 16)
true = torch.full((length, symbols), 1 / symbols)
true[length // 2 :] = F.one_hot(x[0, length // 2 :], symbols).float()
pictures = {
    "truth p(x_t | past)": true,
    "model": believed,
    "head 1": maps[0],
    "head 2": maps[1],
}
for ax, (name, picture) in zip(plot.panels(*pictures, width=2.6), pictures.items()):
    ax.imshow(picture, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    ax.set(title=name, xlabel="symbol" if picture.shape[1] == symbols else "looked at")

# %% [markdown]
# **Change this line, and run the section again.** `length, symbols = 16, 8` to `12, 8`. What is the truth
# then, and where is the stripe?
#
# <details><summary>Answer</summary>
#
# $6\log 8 = 12.5$ nats, and five below the diagonal: guess $t$ copies $x_{t-6}$, which entered at
# position $t-5$.
# </details>
#
# ### Break it: a model without order
#
# Take the position vectors away. Nothing crashes.
#
# **Predict 2, before you run.** What does the sequence cost then, as much as guessing, $16\log 8 = 33.3$
# nats, or less?

# %%
curves = {}
for name in progress(("without positions", "with positions"), label="two models"):
    seed_everything(0)
    model = GPT(symbols, length, layers=1, heads=2, width=32)
    if name == "without positions":
        model.position.requires_grad_(False).zero_()
    loop = fit(model, echoes(64), budget(400, 20), lr=3e-3)
    curves[name] = [length * loss for _, loss in loop]
    print(f"{name}: {-model.log_prob(x).mean():.2f} nats per sequence")
ax = plot.curves(curves, ylabel="nats per sequence")
ax.axhline(truth, color=plot.BLACK, linestyle="--", linewidth=1)
_ = ax.text(5, truth + 0.4, "truth", size=9)

# %% [markdown]
# <details><summary>Answer</summary>
#
# Less: the counts so far are worth something. The last symbol is even certain, since all others have
# come in pairs. But (3) is a sum over a set: with the earlier symbols in another order a single
# block computes the same, so it cannot know what was eight places back (four times the steps come
# to 28 nats, and no further). The positions repair it. (So do two blocks, with four times the
# steps: by the mask, a position sees how many came before.)
# </details>
#
# ## 7. Train on text
#
# The text is cut into windows of 64 characters, beginning anywhere (`unfold` copies nothing). What
# counts is measured on text never seen, in blocks of 64, of which the first character is told
# without any past; the tables are measured on the same blocks, under the same rule.

# %%
T = 64
windows = codes.unfold(0, T, 1)  # (N, 64), a view
blocks = held_out[: len(held_out) // T * T].view(-1, T)[:300]
seed_everything(0)
model = GPT(K, T, layers=2, heads=4, width=96)
steps = budget(200, 10)
for _ in watch(fit(model, forever(windows, 32), steps), every=50, unit="nats/character"):
    pass
nats, error = block_nll(model, blocks)
pair = torch.cat([single[blocks[:, :1]], double[blocks[:, :-1], blocks[:, 1:]]], dim=1)
same = {
    "unigram": -single[blocks].mean().item(),
    "bigram": -pair.mean().item(),
    "GPT": nats,
}
for name, figure in same.items():
    print(f"{name:9s}{figure:6.3f} nats per character, {blocks.numel():,} test characters")
if full_run():
    assert nats < same["bigram"]

# %% [markdown]
# So little training makes no Shakespeare, but spaces, word lengths and the odd word are there.
#
# **Which token?** To draw from the model's distribution as it is, is right if you want its samples. If
# you want good text, it often is not: the tail of many unlikely tokens has, together, a lot of
# probability, and one bad token spoils what follows. A **temperature** $\tau$ divides the logits,
# so that $p_i$ becomes proportional to $p_i^{1/\tau}$; **top-k** keeps the $k$ likeliest; **top-p** (*nucleus*) keeps the fewest likeliest
# tokens that together reach probability $p$. Of $(0.5, 0.3, 0.2)$, top-p 0.7 keeps two, as 0.5
# alone is not enough: $(0.625, 0.375)$.

# %%
kept = sharpen(torch.tensor([0.5, 0.3, 0.2]).log(), top_p=0.7).softmax(0)
print("top-p 0.7 of 0.5, 0.3, 0.2:", [round(p, 3) for p in kept.tolist()])
seed_everything(1)
print("as it is:", ascii(plays.decode(model.sample(1)[0])))
prompt = blocks[5, :20]
with torch.no_grad():
    logits = model(blocks[5:6, :21])[0, -1]  # of the token after the prompt


def draw_next(temperature, top_p):
    """Show p(next character) as it is and reshaped, and a text drawn that way."""
    seed_everything(0)
    order = logits.argsort(descending=True)[:25]
    how = {"temperature": temperature, "top_p": top_p}
    drawn = plays.decode(model.sample(1, prompt=prompt, **how)[0, 20:])
    (ax,) = plot.panels("", width=9, height=2.6)
    for name, values, colour in (
        ("model", logits, plot.BLUE),
        ("reshaped", sharpen(logits, **how), plot.YELLOW),
    ):
        p = values.softmax(-1)[order]
        shift = 0.2 if name == "reshaped" else -0.2
        ax.bar(torch.arange(25) + shift, p, width=0.4, color=colour, label=name)
    ax.set_xticks(
        range(25), [ascii(plays.decode(c[None]))[1:-1] for c in order], parse_math=False
    )
    ax.set_title(ascii(drawn)[1:-1], size=9, parse_math=False)
    ax.legend()


play(draw_next, temperature=(0.2, 2.0, 0.1, 0.6), top_p=[1.0, 0.9, 0.7, 0.5, 0.2])

# %% [markdown]
# **How fast?** Written naively, token $t$ needs a pass over all $t$ tokens before it: $T(T+1)/2$ token
# passes for one sequence. But by (2) nothing that an *old* position computes depends on new ones.
# Its keys and values are final: keep them in a **cache**. Then a new token makes one query, which
# attends to all kept keys and values, and each token passes through the network once.
#
# **Question 2.** For $T = 256$, how many token passes does the cache save?
#
# <details><summary>Answer</summary>
#
# $256\cdot 257/2 - 256 = 32{,}640$ of 32,896. The time falls less, since a pass over many tokens at
# once is cheaper per token; the section after the summary measures it.
# </details>

# %% [markdown] tags=["notes"]
# 14 minutes for sections 6 and 7. Expect "exactly 33.3" for Predict 2. Let the room choose temperature and top-p with the slider and vote for the best text. If time is short, leave the changed line to reading.

# %% [markdown]
# ## 8. What is a token?
#
# A character is a small step, a word a large one, but there is no end of words. **Byte pairs** lie
# between, and lose nothing. Begin with the 256 bytes, in which any text can be written. Find the
# most frequent pair of neighbours, make it a new token, replace it everywhere, repeat. In
# `banana band` the pair `an` occurs three times: with `A` for it, the text is `bAAa bAd`.

# %%
letters = [*b"banana band"]
counts = Counter(pairwise(letters))
(best, often), *_ = counts.most_common()
print(f"{bytes(best)} occurs {often} times;", merge(letters, best, 256))

# %% [markdown]
# **Nats per token do not compare** between alphabets: a token is several characters. The honest
# unit does not depend on the alphabet, nats (or bits) per *byte* of the text:
#
# $$\text{bits per byte} = \frac{-\log p(\text{text})}{\text{bytes}\cdot\log 2}. \tag{5}$$
#
# **Question 3.** Somebody reports a lower perplexity, $\exp(\text{nats per token})$, after halving the
# vocabulary. Progress?
#
# <details><summary>Answer</summary>
#
# Not by itself. With fewer tokens each one carries less text, and predicting less is easier: with
# bits as tokens even blind guessing has perplexity 2. Divide by what does not change, as in (5).
# </details>
#
# ## 9. Pixels are tokens, too
#
# The class knows nothing of text. A digit of 8 x 8 pixels is a sentence of 64 tokens, each one of 17
# grey levels. We tell the model which digit it is: ten start vectors. Since $p(x\mid y)$ is exact,
# Bayes' rule turns the painter into a classifier: $p(y\mid x) \propto p(x\mid y)$ when all classes are
# as likely. Nobody trained it to classify.

# %%
digits = images.load("digits")
flat = lambda x: x.flatten(1).long()
x_train, x_test = flat(digits.x_train), flat(digits.x_test)
y_train, y_test = digits.y_train.long(), digits.y_test.long()
seed_everything(0)
painter = GPT(17, 64, layers=2, heads=4, width=64, classes=10)
loop = fit(painter, forever((x_train, y_train), 64), budget(160, 8), lr=8e-3)
for _ in watch(loop, every=50, unit="nats per pixel"):
    pass
seed_everything(0)
drawn = painter.sample(40, y=torch.arange(10).repeat(4))
ax = plot.image_grid(drawn.view(-1, 8, 8) / 16, columns=10)
_ = ax.set_title("drawn on request: 0 to 9")

# %%
with torch.no_grad():
    painter.eval()
    each = [painter.log_prob(x_test, torch.full_like(y_test, y)) for y in range(10)]
    right = (torch.stack(each).argmax(0) == y_test).float().mean().item()
levels = F.one_hot(x_train, 17).sum(0) + 0.1  # (64, 17)
levels = (levels / levels.sum(-1, keepdim=True)).log()
independent = -levels[torch.arange(64), x_test].sum(1).mean().item()
told, told_error = nll_estimate(painter, (x_test, y_test))
untold, _ = nll_estimate(painter, x_test)
print(f"independent pixels      {independent:6.1f} nats per test digit")
print(f"GPT, class not told     {untold:6.1f}")
print(f"GPT, class told         {told:6.1f} +- {told_error:.1f}")
print(f"classified rightly by Bayes' rule: {right:.0%} (chance: 10%)")
assert untold <= told + math.log(10)  # p(x) is at least p(x | y) / 10

# %% [markdown]
# ## 10. Scale
#
# The same class at full size was made by `gdm train`. On tiny Shakespeare others report the loss on
# the last tenth of the file; that is our test split.

# %%
for name in ("autoregressive/gpt-shakespeare", "autoregressive/gpt-shakespeare-cpu"):
    if not (checkpoints.available(name) and download.here("shakespeare")):
        print(f"no checkpoint, or no text: 'gdm data get shakespeare', 'gdm train {name}'")
        continue
    bard, card = checkpoints.load(name), checkpoints.card(name)
    figure = next(f for f in card["figures"] if f["split"] == "test")
    size = f"{card['parameters']:,} parameters"
    print(f"{name}: {figure['value']:.3f} {figure['unit']} ({size})\n")
    seed_everything(0)
    print(text.shakespeare().decode(bard.sample(1, top_p=0.95)[0]))

# %% [markdown]
# ## Summary
#
# - A **GPT** is the chain rule (1) with one network for all conditionals. Attention (2, 3)
#   looks things up in the past; a shift by one token makes it strict.
# - Attention is a sum over a set: without **positions** one block cannot tell the order of the past.
# - Training is parallel over the sequence, sampling is not; a **cache** of keys and values
#   removes the waste. **Temperature, top-k, top-p** change the distribution on purpose.
# - **Byte pairs** are an alphabet learned from data. Compare models per byte (5), not per token.
# - What can be written as tokens can be modelled by the same class, with exact likelihood.
#
# | quantity | unit |
# |---|---|
# | loss | nats per token |
# | $-\log p$ of a text, to compare alphabets | bits per byte |
# | cost of a sampled token, with a cache | one token pass, and $2\cdot\text{layers}\cdot\text{width}$ numbers kept |
#
# **Exercises:** open them with `gdm start autoregressive/gpt`.
#
# ## References
#
# - Vaswani et al. (2017). *Attention is all you need.* arXiv:1706.03762.
# - Radford, Narasimhan, Salimans, Sutskever (2018). *Improving language understanding by
#   generative pre-training.* OpenAI.
# - Sennrich, Haddow, Birch (2016). *Neural machine translation of rare words with subword
#   units.* arXiv:1508.07909.
# - Chen et al. (2020). *Generative pretraining from pixels.* ICML.
# - Holtzman, Buys, Du, Forbes, Choi (2020). *The curious case of neural text degeneration.*
#   arXiv:1904.09751.
# - Press, Wolf (2017). *Using the output embedding to improve language models.*
#   arXiv:1608.05859. (Weight tying.)

# %% [markdown]
# ## Further: an optimiser for matrices
#
# Adam scales every *entry* of a gradient. But a weight matrix is a map, and its natural parts are
# singular directions. The gradient of a matrix is dominated by a few of them, as the next cell
# shows on a GPT. **Muon** (Jordan et al., 2024, *Muon: an optimizer for hidden layers in neural
# networks*) takes the momentum $G=U\,\mathrm{diag}(s)\,V^\top$ and steps along $UV^\top$: all
# directions equally. An odd polynomial of $G$ does it with products only, for a polynomial of the
# matrix is the same polynomial of each $s$:
#
# $$X \leftarrow aX + b\,(XX^\top)X + c\,(XX^\top)^2X. \tag{6}$$
#
# Anything near 1 will do. What is smaller than about a six-hundredth of $|G|$ grows some 480 times
# and stays below. Embeddings, norms and biases stay with Adam.


# %% tags=["from:optimisers.muon.orthogonalise"]
def orthogonalise(G: Tensor, steps: int = 5) -> Tensor:
    """Bring all singular values of a matrix near 1, keeping its directions: U S V' -> U V'.

    The Newton-Schulz iteration X <- a X + b (X X') X + c (X X')^2 X acts on each singular
    value by itself, as the polynomial a s + b s^3 + c s^5. It is steep at 0, so that five
    steps bring all values above about |G| / 600 to between 0.68 and 1.21; smaller ones
    grow about 480 times.

    Args:
        G: one matrix (m, n), or a batch (..., m, n).
        steps: of the iteration.
    """
    a, b, c = 3.4445, -4.7750, 2.0315
    X = G.mT if G.shape[-2] > G.shape[-1] else G  # the smaller side first: less work
    X = X / (X.norm(dim=(-2, -1), keepdim=True) + 1e-7)  # now all values are at most 1
    for _ in range(steps):
        A = X @ X.mT
        X = a * X + (b * A + c * A @ A) @ X
    return X.mT if G.shape[-2] > G.shape[-1] else X


# %%
seed_everything(0)
student = GPT(K, T, layers=2, heads=4, width=96)
for _ in fit(student, forever(windows, 32), 10):
    pass
student.zero_grad()
student.loss(next(forever(windows, 32))).backward()
axes = plot.panels("attention (queries, keys, values)", "network (up)", width=4)
for ax, layer in zip(axes, (student.blocks[0].attention.qkv, student.blocks[0].up)):
    G = layer.weight.grad
    before, after = torch.linalg.svdvals(G), torch.linalg.svdvals(orthogonalise(G))
    share = before[:5].square().sum() / before.square().sum()
    ax.semilogy(before / before[0], label="gradient (largest: 1)")
    ax.semilogy(after, label="after five steps of (6)")
    ax.set(xlabel="number of the singular value", ylabel="size", ylim=(1e-6, 3))
    ax.legend()
    print(
        f"{tuple(G.shape)}: 5 of {len(before)} directions have {share:.0%} of |G|^2",
        end="; ",
    )
    print(f"after (6), {(after > 0.5).float().mean():.0%} of the values are above a half")
    assert share > 0.5 and after.max() < 1.25

# %% [markdown]
# Is it worth it? Both optimisers on the same run: the same weights to begin with, the same batches,
# the same fall of the rate, each with the best of three rates.


# %%
def trained_with(optimiser, lr, steps):
    """Return the test loss after a short run, from the same weights on the same batches."""
    seed_everything(0)
    student = GPT(K, T, layers=2, heads=4, width=96)
    rate = lambda step: lr * (1 - step / steps)
    loop = train(
        student, forever(windows, 32), steps, rate, optimizer=optimiser(student, lr)
    )
    for _ in progress(loop, steps, f"rate {lr:g}"):
        pass
    return block_nll(student, blocks).value


ways = {
    "Adam": (lambda m, lr: torch.optim.Adam(m.parameters(), lr), (1e-3, 3e-3, 1e-2)),
    "Muon": (muon, (1e-2, 3e-2, 6e-2)),
}
for name, (optimiser, rates) in ways.items():
    losses = {lr: trained_with(optimiser, lr, budget(40, 3)) for lr in rates}
    told = ", ".join(f"{loss:.3f} at {lr:g}" for lr, loss in losses.items())
    print(f"{name}: best {min(losses.values()):.3f} nats per character ({told})")


# %% [markdown]
# Muon is ahead after so short a run. So it was on a second seed, and with four times the steps,
# where Adam wants the smallest of its rates. About long runs this says nothing.
#
# ## Further: where the surprise is
#
# **Predict before you run.** Where in a word does real text surprise the model, at its beginning or
# at its end?

# %%
with torch.no_grad():
    surprise = -model.conditionals(blocks).log_prob(blocks)  # (N, 64) nats
letter = torch.tensor([c.isalpha() for c in plays.alphabet])[blocks]  # (N, 64)
first = letter[:, 1:] & ~letter[:, :-1]
later = letter[:, 1:] & letter[:, :-1]
for name, places in (("first letters of words", first), ("later letters", later)):
    print(f"{name:22s} {surprise[:, 1:][places].mean():.2f} nats each")

line, surprise = blocks[3:6], surprise[3:6]
(ax,) = plot.panels("surprise in nats: white 0, blue 6", width=12, height=1.6)
ax.imshow(surprise, cmap="Blues", vmin=0, vmax=6, aspect="auto")
ax.axis("off")
for (row, column), code in zip(itertools.product(range(3), range(T)), line.flatten()):
    letter = plays.decode(code[None])
    letter = letter if letter.isascii() and letter.isprintable() else "\\"
    dark = surprise[row, column] > 3.5
    colour = "white" if dark else plot.BLACK
    ax.text(column, row, letter, color=colour, ha="center", va="center", parse_math=False)

# %% [markdown]
# <details><summary>Answer</summary>
#
# At its beginning: which word comes is open, how it goes on much less so.
# </details>

# %% [markdown]
# ## Further: reshaping a distribution, and its other extreme
#
# The slider above used this function.


# %% tags=["from:autoregressive.decoding.sharpen"]
def sharpen(
    logits: Tensor,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
) -> Tensor:
    """Change a distribution over tokens, (..., K) logits; what is excluded gets -inf.

    Args:
        logits: of the model.
        temperature: the logits are divided by it: below 1 the likely become likelier.
        top_k: keep the k likeliest tokens; of equals, the first.
        top_p: keep the fewest likeliest tokens that together have probability p or more.

    Raises:
        ValueError: a temperature, k or p that leaves no token, or is no such number.
    """
    check_decoding(temperature, top_k, top_p)
    logits = logits - logits.amax(-1, keepdim=True)  # 0 stays 0, however cold it is
    logits = logits / max(temperature, torch.finfo(logits.dtype).tiny)
    if top_k is not None and top_k < logits.shape[-1]:
        order = logits.argsort(dim=-1, descending=True, stable=True)
        logits = logits.scatter(-1, order[..., top_k:], -torch.inf)
    if top_p is not None:
        ordered, order = logits.sort(descending=True, stable=True)
        p = ordered.softmax(-1)
        enough = p.cumsum(-1) - p >= top_p  # the likelier ones already suffice
        enough[..., 0] = False
        excluded = torch.zeros_like(enough).scatter(-1, order, enough)
        logits = logits.masked_fill(excluded, -torch.inf)
    return logits


# %% [markdown]
# Always take the likeliest token (`top_k=1`) and the text runs
# into a **loop**. We count how many of the
# four-character pieces of a text are different. Real text sets the standard.

# %%
seed_everything(0)
ways = {"likeliest": {"top_k": 1}, "temperature 0.5": {"temperature": 0.5}}
ways |= {"top-p 0.9": {"top_p": 0.9}, "as it is": {}}
texts = {name: model.sample(8, prompt=prompt, **how) for name, how in ways.items()}
texts["real text"] = blocks
at = len(prompt)  # the prompt is real in every text: only what follows is counted
for name, x in texts.items():
    pieces = [[tuple(row[i : i + 4]) for i in range(at, T - 3)] for row in x.tolist()]
    different = sum(len({*row}) / len(row) for row in pieces) / len(x)
    nats_given = -model.conditionals(x).log_prob(x)[:, at:].mean().item()
    example = ascii(plays.decode(x[0, at:]))[1:-1]
    print(f"{name:16s} different {different:4.0%}  {nats_given:5.2f} nats  {example}")

# %% [markdown]
# Greedy text is no typical text: real text keeps surprising the model, at its average rate of
# nats per character. To draw as it is keeps that rate; every other way gives some of it up.
#
# ## Further: sampling with a cache
#
# Keys and values of old positions are kept, at the price of $2\cdot \text{layers}\cdot
# T\cdot\text{width}$ numbers of memory per sequence. (`evaluating` turns dropout off meanwhile,
# and back on where it was.)


# %% tags=["from:autoregressive.decoding.Cache"]
class Cache:
    """Keys and values of one layer, allocated once for all T positions, filled in order."""

    def __init__(self, n: int, heads: int, T: int, d: int, like: Tensor):
        self.keys, self.values = like.new_zeros(2, n, heads, T, d)
        self.length = 0

    def extend(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Append keys and values (n, heads, t, d), and return all there are so far."""
        if self.length and k.shape[2] > 1:
            raise ValueError("a cache is filled by one prompt, then one token at a time")
        start, self.length = self.length, self.length + k.shape[2]
        self.keys[:, :, start : self.length] = k
        self.values[:, :, start : self.length] = v
        return self.keys[:, :, : self.length], self.values[:, :, : self.length]


# %% tags=["from:autoregressive.decoding.generate"]
def generate(
    model: nn.Module,
    x: Tensor,
    y: Tensor | None,
    length: int,
    choose: Callable[[Tensor], Tensor],
) -> Tensor:
    """Continue tokens x (n, t) to (n, length): each token passes through the network once.

    Args:
        model: a GPT; in evaluation mode while this runs.
        x, y: the prompt (n, t), t < length, and classes (n,) or None.
        length: how many tokens in all, at most T.
        choose: from logits (n, K) to the next tokens (n,).
    """
    validate.count(length, "length", 1)
    if not x.shape[1] < length <= model.T:
        raise ValueError(f"length {length} is not above {x.shape[1]} and at most {model.T}")
    given = x.shape[1]
    tokens = torch.cat([x, x.new_zeros(len(x), length - given)], dim=1)
    with evaluating(model), torch.inference_mode():  # like no_grad, and a tenth faster
        h = model.embed(x, y)
        heads = model.blocks[0].attention.heads
        size = (len(x), heads, length, h.shape[-1] // heads)
        caches = [Cache(*size, like=h) for _ in model.blocks]
        for t in range(given, length):
            for block, cache in zip(model.blocks, caches):
                h = block(h, cache)
            tokens[:, t] = choose(model.read(h[:, -1]))
            if t + 1 < length:
                h = (model.token(tokens[:, t]) + model.position[t + 1])[:, None]
    return tokens


# %%
@torch.no_grad()
def naive_sample(model, n, T):
    """Draw n sequences with a pass over everything for every token."""
    x = torch.zeros(n, T, dtype=torch.int64)
    for t in range(T):
        x[:, t] = choose(model(x[:, : t + 1])[:, t])
    return x


seed_everything(0)
large = GPT(K, 256, layers=4, heads=4, width=128).eval()
times, drawn = {}, {}
for name, draw in (
    ("cached", lambda: large.sample(1)),
    ("naive", lambda: naive_sample(large, 1, 256)),
):
    seed_everything(0)
    began = time.perf_counter()
    drawn[name] = draw()
    times[name] = time.perf_counter() - began
    print(f"{name:7s} 256 tokens in {times[name]:.2f} s")
assert torch.equal(drawn["cached"], drawn["naive"])  # the same dice, the same text
print(f"the same tokens, {times['naive'] / times['cached']:.0f} times as fast")

# %% [markdown]
# ## Further: where does it look?
#
# One test line, read by the trained model. Choose a layer and a head. Which heads look at
# the characters just before? Does one look for the beginning of the word, or the last space?
# Does one rest on the start, as a head does that has nothing to say?


# %%
@torch.no_grad()
def draw_attention(layer, head):
    """Show one head's weights over one line of test text."""
    x = blocks[5:6, :40]
    weights = attention_maps(model, x)[layer - 1, 0, head - 1]
    (ax,) = plot.panels(f"layer {layer}, head {head}", width=6.5, height=6)
    ax.imshow(weights, cmap="Blues", vmin=0, vmax=0.5)
    letters = ["<s>", *(ascii(c)[1:-1] for c in plays.decode(x[0, :-1]))]
    ax.set_xticks(range(40), letters, size=7, parse_math=False)
    ax.set_yticks(range(40), letters, size=7, parse_math=False)
    ax.set(xlabel="looked at", ylabel="from (its guess is the next character)")


play(draw_attention, layer=(1, 2, 1, 2), head=(1, 4, 1, 1))

# %% [markdown]
# ## Further: byte pairs


# %% tags=["from:autoregressive.bpe.learn"]
def learn(data: bytes, size: int) -> list[Pair]:
    """Merge the most frequent pair of neighbours, again and again, up to `size` tokens.

    Pairs are counted inside of words, once per different word; only words that hold the
    merged pair are counted anew.

    Args:
        data: the text.
        size: of the vocabulary: 256 bytes and size - 256 merges; fewer if pairs run out.

    Returns:
        The merges in order: the i-th makes token 256 + i from two earlier ones.
    """
    often = Counter(CHUNK.findall(data))
    words, weights = [[*word] for word in often], [*often.values()]
    counts, where = Counter(), defaultdict(set)

    def count(i: int, sign: int) -> None:
        for pair in pairwise(words[i]):
            counts[pair] += sign * weights[i]
            where[pair].add(i)

    for i in range(len(words)):
        count(i, +1)
    merges: list[Pair] = []
    while len(merges) < size - 256 and counts:
        best = max(counts, key=lambda pair: (counts[pair], pair))  # ties: the later bytes
        if counts[best] < 2:
            break
        for i in sorted(where.pop(best)):
            count(i, -1)
            words[i] = merge(words[i], best, 256 + len(merges))
            count(i, +1)
        merges.append(best)
    return merges


# %% tags=["from:autoregressive.bpe.BPE"]
class BPE:
    """A tokeniser: bytes -> tokens 0..K-1 -> the same bytes, whatever they are.

    Args:
        merges: pairs in the order in which they were learned.
    """

    def __init__(self, merges: Sequence[Pair]):
        self.merges = [*merges]
        self.vocabulary = [bytes([i]) for i in range(256)]  # what each token stands for
        for left, right in merges:
            self.vocabulary.append(self.vocabulary[left] + self.vocabulary[right])
        self.token = {pair: 256 + i for i, pair in enumerate(merges)}
        self.known: dict[bytes, list[int]] = {}

    @property
    def K(self) -> int:
        """How many tokens there are."""
        return len(self.vocabulary)

    def encode_word(self, word: bytes) -> list[int]:
        """Apply the merges to one chunk, the one learned first before the others."""
        tokens = [*word]
        while pairs := [pair for pair in pairwise(tokens) if pair in self.token]:
            first = min(pairs, key=self.token.get)
            tokens = merge(tokens, first, self.token[first])
        return tokens

    def encode(self, data: bytes) -> list[int]:
        """Return the tokens of any bytes."""
        for word in {*CHUNK.findall(data)} - self.known.keys():
            self.known[word] = self.encode_word(word)
        return [token for word in CHUNK.findall(data) for token in self.known[word]]

    def decode(self, tokens: Sequence[int]) -> bytes:
        """Return the bytes of any tokens."""
        return b"".join(self.vocabulary[token] for token in in_alphabet(tokens, self.K))


# %%
began = time.perf_counter()
raw = plays.train.encode()
tokens = BPE(learn(raw[:200_000], 512))
coded = tokens.encode(raw)
print(f"{len(tokens.merges)} merges in {time.perf_counter() - began:.1f} s:", end=" ")
print(
    f"{len(raw):,} bytes are {len(coded):,} tokens, {len(raw) / len(coded):.2f} bytes each"
)
assert tokens.decode(coded) == raw
hard = "Ω, naïve façade, 漢字 🙂\r\n\x00".encode() + bytes(range(256))
assert tokens.decode(tokens.encode(hard)) == hard  # every byte string
print("first merges:", [ascii(p.decode())[1:-1] for p in tokens.vocabulary[256:276]])
print("last merges: ", [ascii(p.decode())[1:-1] for p in tokens.vocabulary[-14:]])

# %% [markdown]
# The same network, the same number of steps, on tokens instead of characters, compared by (5).
# A window of 64 tokens holds more bytes than one of 64 characters, so each step sees more text.

# %%
K_tokens, coded = tokens.K, torch.tensor(coded)
few = plays.test.encode()[:20_000]
test_tokens = torch.tensor(tokens.encode(few))
test_tokens = test_tokens[: len(test_tokens) // T * T].view(-1, T)
test_bytes = len(tokens.decode(test_tokens.flatten().tolist()))
seed_everything(0)
on_tokens = GPT(K_tokens, T, layers=2, heads=4, width=96)
for _ in watch(
    fit(on_tokens, forever(coded.unfold(0, T, 1), 32), steps), every=50, unit="nats/token"
):
    pass
per_token = block_nll(on_tokens, test_tokens).value
bytes_per_character = len(plays.test.encode()) / len(plays.test)
bits = {"characters": nats / bytes_per_character / math.log(2)}
bits["byte pairs"] = per_token * test_tokens.numel() / test_bytes / math.log(2)
print(
    f"characters: {nats:.3f} nats per character; byte pairs: {per_token:.3f} nats per token"
)
for name, figure in bits.items():
    print(f"{name:10s} {figure:.3f} bits per byte")

# %% [markdown]
# Which alphabet is ahead depends on the amount of text: every token has a vector of its own, and
# must be seen often enough to learn it. Part of the lead is the longer window: with 33 byte pairs, as
# many bytes as 64 characters, we found 2.79. With little text it turns round: trained on the first
# 30,000 characters, characters come to 3.56 and byte pairs to 4.29. (One run each.) Strictly, (5) is an
# upper bound here: a text can be cut into tokens in several ways, $p(\text{text})$ sums over all of
# them, and we counted only the one that `encode` gives.

# %% [markdown]
# ## Further: count, then measure
#
# **Count.** A block of width $w$ has four matrices: $3w^2$ for queries, keys and values,
# $w^2$ to mix the heads, $4w^2$ up and $4w^2$ down, and $13w$ biases and norms. So
#
# $$N = Kw + Tw + \text{layers}\,(12w^2 + 13w) + 2w. \tag{7}$$
#
# From the published shapes this gives the published sizes. Our class on PyTorch's `meta`
# device, which has shapes but no memory, must agree, up to the start vector that is ours.

# %%
SHAPES = {  # tokens K, context T, layers, width; heads of 64 numbers (GPT-3: 128)
    "GPT": (40_478, 512, 12, 768),
    "GPT-2 small": (50_257, 1024, 12, 768),
    "GPT-2 medium": (50_257, 1024, 24, 1024),
    "GPT-2 large": (50_257, 1024, 36, 1280),
    "GPT-2 XL": (50_257, 1024, 48, 1600),
    "GPT-3": (50_257, 2048, 96, 12_288),
}
for name, (K_, T_, layers, w) in SHAPES.items():
    count = K_ * w + T_ * w + layers * (12 * w**2 + 13 * w) + 2 * w
    with torch.device("meta"):
        shapes = GPT(K_, T_, layers=layers, heads=w // 64, width=w)
    assert sum(p.numel() for p in shapes.parameters()) == count + w
    inside = layers * 12 * w**2 / count
    cache = 2 * layers * T_ * w * 2 / 1e6  # in 16 bits
    print(
        f"{name:13s}{count:16,} parameters, {inside:3.0%} in the blocks' matrices, ", end=""
    )
    print(f"cache {cache:7,.0f} MB per sequence")

# %% [markdown]
# GPT-2's four are exact to the last parameter; the first GPT has no norm at the top, so
# its $2w$ go off. (The GPT-2 paper prints 117M and 345M for the two smaller ones; the
# released weights have these counts.)
#
# **Measure.** Kaplan et al. (2020, arXiv:2001.08361; see also Hoffmann et al. 2022, arXiv:2203.15556) found that the test loss falls like a power of the
# parameters and of the tokens seen, over many orders of magnitude. Here is the smallest
# such study: four models, every one measured as it goes, at a constant rate.

# %%
curves, sizes = {}, []
points = [budget(at, 2) for at in (12, 25, 50, 100)]
for layers, width in progress(((1, 16), (1, 32), (2, 48), (2, 96)), label="four models"):
    seed_everything(0)
    student = GPT(K, T, layers=layers, heads=4, width=width)
    loop = train(student, forever(windows, 32), points[-1], optimizer=muon(student, 1e-2))
    sizes.append(sum(p.numel() for p in student.blocks.parameters()))
    curves[sizes[-1]] = [block_nll(student, blocks).value for s, _ in loop if s in points]

left, right = plot.panels("loss against tokens seen", "loss against parameters", width=4.2)
seen = [32 * T * at for at in sorted({*points})]
for size, losses in curves.items():
    left.semilogx(seen, losses, "o-", label=f"{size:,}")
    print(f"{size:8,} parameters in blocks:", "  ".join(f"{loss:.3f}" for loss in losses))
left.set_xticks(seen, [f"{n:,}" for n in seen])
left.minorticks_off()
left.set(xlabel="tokens seen", ylabel="nats per character (test)")
left.legend(title="parameters", fontsize=8)
right.semilogx(sizes, [losses[-1] for losses in curves.values()], "o-", color=plot.BLUE)
_ = right.set(xlabel="parameters in the blocks")

# %% [markdown]
# More tokens help every model, and after the first steps larger models learn more from the
# same tokens. A real study trains every size to its end, tunes the rate for each, and
# repeats over seeds; four points and one seed show the phenomenon, no exponent. (Sizes: Radford et
# al., 2018, 2019; Brown et al., 2020, arXiv:2005.14165.)
