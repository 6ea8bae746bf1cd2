# %% [markdown]
# # Exercises: one token at a time
#
# Six short pieces of code: how to look at the past, how to draw the next token, and what a
# token is. Under each stands a check that runs *your* function on fresh inputs and compares.
# A red line names the wrong property; a plausible mistake gets a hint. Nothing depends on
# an unanswered question: later cells use the course's own code.

# %% [markdown] tags=["nav"]
# before this: [One dimension at a time: NADE, RNADE and MADE](../../lectures/autoregressive/nade.ipynb) ·
# [lecture](../../lectures/autoregressive/gpt.ipynb) ·
# [exercise](../../exercises/autoregressive/gpt.ipynb)

# %% tags=["setup"]
import importlib.util

if importlib.util.find_spec("gdm_course") is None:
    raise ImportError(
        "the package gdm_course is not installed here: run 'make lab' in the course's "
        "folder, or 'pip install -e .[lab]', and choose that environment as the kernel"
    )

# %%
import math
from collections import Counter
from itertools import pairwise

import torch
import torch.nn.functional as F

from gdm_course import plotting as plot
from gdm_course.autoregressive.gpt import GPT
from gdm_course.checks.autoregressive import gpt as check
from gdm_course.data import text
from gdm_course.evaluation.likelihood import block_nll
from gdm_course.optimisers.muon import muon
from gdm_course.training import budget, forever, seed_everything, train
from gdm_course.widgets import progress

plot.style()

# %% [markdown]
# ## 1. A window on the past
#
# Full attention looks at everything before; for long texts that is expensive, $T^2$ scores.
# A cheaper kind looks at the last $W$ positions only, itself included:
#
# $$w_{ts} = \frac{\exp(\text{score}_{ts})}{\sum_{r=t-W+1}^{t}\exp(\text{score}_{tr})}
#   \quad\text{for } t-W < s\le t,\qquad w_{ts}=0\text{ otherwise.}$$
#
# The scores are given, already divided by $\sqrt d$. The first rows have fewer than $W$
# positions to look at; their weights sum to 1 all the same.


# %%
def window_weights(scores, W):
    """Return causal attention weights that reach W positions back, the own one included.

    Args:
        scores: row t asks, column s answers, (T, T).
        W: how many positions a row may look at.

    Returns:
        (T, T), every row of sum 1.
    """
    ### BEGIN SOLUTION
    t = torch.arange(len(scores))
    back = t[:, None] - t  # how far s lies before t
    allowed = (back >= 0) & (back < W)
    return scores.masked_fill(~allowed, -torch.inf).softmax(-1)
    ### END SOLUTION


# %%
check.window_weights(window_weights)

# %% [markdown]
# How far does a *stack* of such layers see? One layer reaches $W-1$ positions back, and each
# layer looks at positions that have themselves looked. The product of the masks of $L$
# layers shows it: after four layers with $W=4$, a position knows $4\cdot 3$ tokens before
# it. Depth buys reach.

# %%
try:
    mask = window_weights(torch.zeros(32, 32), 4)
except NotImplementedError:
    mask = torch.ones(32, 32).tril().triu(-3)
titles = [f"{layers} layers: {layers * 3} back" for layers in (1, 2, 4)]
for ax, layers in zip(plot.panels(*titles, width=2.8), (1, 2, 4)):
    ax.imshow(torch.linalg.matrix_power(mask, layers) > 0, cmap="Blues")
    ax.set(xlabel="token", ylabel="position")

# %% [markdown]
# ## 2. One step with a cache
#
# In generation only the newest position asks; the keys and values of all positions so far,
# its own among them, lie in the cache. One head, for each of $B$ sequences:
#
# $$a = \sum_{s=1}^{t} w_s v_s,\qquad
#   w = \mathrm{softmax}\Bigl(\frac{q\cdot k_1}{\sqrt d},\dots,\frac{q\cdot k_t}{\sqrt d}\Bigr).$$
#
# No mask is needed. Why?


# %%
def attention_step(q, keys, values):
    """Return what the newest position reads from the cache.

    Args:
        q: the newest query, (B, d).
        keys, values: of all positions so far, (B, t, d).

    Returns:
        (B, d)
    """
    ### BEGIN SOLUTION
    scores = (keys @ q[:, :, None]).squeeze(-1) / math.sqrt(q.shape[-1])  # (B, t)
    return (scores.softmax(-1)[:, None] @ values).squeeze(1)
    ### END SOLUTION


# %%
check.attention_step(attention_step)

# %% [markdown]
# An independent oracle: step by step, your function must give the rows of full causal
# attention.

# %%
seed_everything(0)
q, k, v = torch.randn(3, 2, 10, 8)  # (B, T, d) each
full = F.scaled_dot_product_attention(q, k, v, is_causal=True)
try:
    steps = [attention_step(q[:, t], k[:, : t + 1], v[:, : t + 1]) for t in range(10)]
    print(f"largest difference: {(torch.stack(steps, 1) - full).abs().max():.1e}")
except NotImplementedError:
    print("(write attention_step first)")

# %% [markdown]
# ## 3. The nucleus
#
# Top-p sampling keeps the *fewest* likeliest tokens whose probabilities sum to `top_p` or
# more, and renormalises. With $p = (0.5, 0.3, 0.15, 0.05)$ and `top_p=0.7` the nucleus is
# the first two, since $0.5 < 0.7\le 0.8$, and the result is $(0.625, 0.375, 0, 0)$.


# %%
def nucleus(p, top_p):
    """Keep the fewest likeliest tokens that together reach top_p, and renormalise.

    Args:
        p: distributions over K tokens, (B, K).
        top_p: between 0 and 1.

    Returns:
        (B, K), every token in its own place.
    """
    ### BEGIN SOLUTION
    ordered, order = p.sort(dim=-1, descending=True)
    before = ordered.cumsum(-1) - ordered  # what the likelier ones have together
    kept = torch.where(before < top_p, ordered, 0.0)
    kept = kept / kept.sum(-1, keepdim=True)
    return torch.zeros_like(p).scatter(-1, order, kept)
    ### END SOLUTION


# %%
check.nucleus(nucleus)

# %% [markdown]
# Why cut at a *probability* and not, as top-k does, at a number? Train a small model of the
# course's own text, and count how many characters the nucleus holds, place by place. After
# "th" there is little choice; at the beginning of a word there is much.

# %%
words = text.course()
codes = words.encode(words.train)
K, T = len(words.alphabet), 64
windows = codes.unfold(0, T, 1)
seed_everything(0)
model = GPT(K, T, layers=2, heads=4, width=64)
steps = budget(200, 8)
rate = lambda step: 1e-2 * (1 - step / steps)
loop = train(model, forever(windows, 32), steps, rate, optimizer=muon(model))
for _ in progress(loop, steps, "training"):
    pass
blocks = words.encode(words.test)[: 40 * T].view(-1, T)
print(f"{block_nll(model, blocks).value:.3f} nats per character on the test split")

# %%
with torch.no_grad():
    p = model.conditionals(blocks).probs.flatten(0, 1)  # (N, K)
try:
    kept = (nucleus(p, 0.9) > 0).sum(-1)
except NotImplementedError:
    kept = torch.where(p.sort(descending=True).values.cumsum(-1) < 0.9, 1, 0).sum(-1) + 1
(ax,) = plot.panels("characters in the nucleus of 0.9", width=4.5)
ax.hist(kept.numpy(), bins=range(1, 40), color=plot.BLUE)
_ = ax.set(xlabel="characters kept", ylabel="places in the text")
print(f"from {kept.min()} to {kept.max()}, median {kept.median()}")

# %% [markdown]
# ## 4. The most frequent pair
#
# One round of byte-pair encoding has two parts. First: which pair of neighbours is the most
# frequent? In $1\,2\,1\,2\,3$ the pairs are $(1,2),(2,1),(1,2),(2,3)$: they overlap, and
# $2\,2\,2$ holds $(2,2)$ twice. You may assume that the winner is alone.


# %%
def most_frequent_pair(tokens):
    """Return the most frequent pair of neighbours.

    Args:
        tokens: integers (n,).

    Returns:
        Two integers, the left one first.
    """
    ### BEGIN SOLUTION
    x = tokens.tolist()
    return Counter(pairwise(x)).most_common(1)[0][0]
    ### END SOLUTION


# %%
check.most_frequent_pair(most_frequent_pair)

# %% [markdown]
# ## 5. Merging it
#
# Second: replace every occurrence of the pair by a new token, from left to right. A token
# that was used in one merge is gone: $2\,2\,2$ with the pair $(2,2)$ becomes $9\,2$.


# %%
def merge_pair(tokens, pair, new):
    """Replace every occurrence of a pair by a new token, from left to right.

    Args:
        tokens: integers (n,).
        pair: two integers.
        new: the token that replaces them.

    Returns:
        Integers (m,), m <= n.
    """
    ### BEGIN SOLUTION
    x, merged, i = tokens.tolist(), [], 0
    while i < len(x):
        found = tuple(x[i : i + 2]) == tuple(pair)
        merged.append(new if found else x[i])
        i += 2 if found else 1
    return torch.tensor(merged)
    ### END SOLUTION


# %%
check.merge_pair(merge_pair)

# %% [markdown]
# With the two you have the whole algorithm. Thirty rounds on the course's text, without
# the division into words: which strings become tokens?

# %%
tokens = torch.tensor([*words.train.encode()[:10_000]])
vocabulary = {i: bytes([i]) for i in range(256)}
try:
    for new in range(256, 256 + budget(30, 3)):
        pair = most_frequent_pair(tokens)
        tokens = merge_pair(tokens, pair, new)
        vocabulary[new] = vocabulary[int(pair[0])] + vocabulary[int(pair[1])]
    print(
        [ascii(v.decode(errors="replace"))[1:-1] for k, v in vocabulary.items() if k > 255]
    )
    print(f"10,000 bytes are {len(tokens):,} tokens")
except NotImplementedError:
    print("(write most_frequent_pair and merge_pair first)")

# %% [markdown]
# ## 6. A unit that compares
#
# One model reports 1.5 nats per character, another 2.9 nats per byte-pair token. Which is
# better? Neither number says. Convert to bits per **byte** of the text in UTF-8:
#
# $$\frac{\text{nats per token}\cdot\text{tokens}}{\text{bytes}\cdot\log 2}.$$


# %%
def bits_per_byte(nats, tokens, text):
    """Return bits per byte.

    Args:
        nats: the loss in nats per token.
        tokens: how many tokens the text has.
        text: the text, a string.

    Returns:
        A number.
    """
    ### BEGIN SOLUTION
    return nats * tokens / (len(text.encode("utf-8")) * math.log(2))
    ### END SOLUTION


# %%
check.bits_per_byte(bits_per_byte)

# %% [markdown]
# Your unit on the model above: it reads characters, and some of them are several bytes.
# For scale, eight bits per byte is no model at all, and a general compressor is a model too.
# What does it pay for the test text, having seen the training text? Beware of `zlib`: it looks
# back over 32 kilobytes only, and has forgotten most of it. `lzma` and `bz2` remember more.

# %%
import bz2
import lzma
import zlib

sample = words.decode(blocks.flatten())
squeeze = {
    "zlib": lambda data: zlib.compress(data, 9),
    "bz2": lambda data: bz2.compress(data, 9),
    "lzma": lambda data: lzma.compress(data, preset=9 | lzma.PRESET_EXTREME),
}
before, both = words.train.encode(), (words.train + sample).encode()
for name, packer in squeeze.items():
    packed = 8 * (len(packer(both)) - len(packer(before)))
    print(f"{name}: {packed / len(sample.encode()):.3f} bits per byte")
try:
    nats = block_nll(model, blocks).value
    print(f"GPT:  {bits_per_byte(nats, len(sample), sample):.3f} bits per byte")
except NotImplementedError:
    print("(write bits_per_byte first)")

# %% [markdown]
# ## Further, without a check
#
# 1. **Any order of pixels.** The lecture reads digits row by row. Permute the 64 pixels by
#    one fixed random permutation and train again. By the chain rule nothing is lost. How
#    many nats does it cost in practice, and why fewer than for a convolution?
# 2. **Longer than the context.** A model with $T=64$ shall write 500 characters. Keep the
#    last 32 as a prompt, draw 32 more, repeat. What do you lose, compared with a longer
#    context, and how would the window of exercise 1 help?
# 3. **Byte pairs and digits.** How does `bpe.BPE` cut the numbers 1 to 100? Why might that
#    make arithmetic hard for a model?
# 4. **Sampling from data.** Give the model a prompt that never occurred. Does top-p with
#    0.5 repeat the training text word by word? Measure the longest common substring.
