# %% [markdown]
# # One dimension at a time: NADE, RNADE and MADE
#
# An image has an astronomical number of possible values, and still we will write down the
# exact probability of every one of them. The trick is three centuries old, costs nothing
# and loses nothing: predict one pixel from those before it, again and again.

# %% [markdown] tags=["nav"]
# 56 minutes, and 30 further ·
# before this: [Densities, samples and divergences](../foundations/densities.ipynb) ·
# [exercise](../../exercises/autoregressive/nade.ipynb) ·
# [solution](../../solutions/autoregressive/nade.ipynb)
#
# previous: [Densities, samples and divergences](../foundations/densities.ipynb) ·
# [all units](../index.ipynb) ·
# next: [Images by convolution: PixelCNN](pixelcnn.ipynb)

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
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.functional import jacobian
from torch.distributions import Bernoulli, Categorical, MixtureSameFamily, Normal
from torch.nn.functional import relu

from gdm_course import (
    checkpoints,
    protocols,
    schematics,
    validate,  # refuses, in one sentence, what does not fit
)
from gdm_course import plotting as plot
from gdm_course.autoregressive import made as masking
from gdm_course.autoregressive.made import (
    an_order,
    as_bits,
    draw_bit,
    draw_orders,
)
from gdm_course.autoregressive.nade import RNADE
from gdm_course.data import images, toy
from gdm_course.evaluation.likelihood import bits_per_dim, estimate, log_probs, nll_estimate
from gdm_course.nets import precise, same  # float32, where a GPU used less; equal tensors
from gdm_course.training import budget, forever, full_run, generator, seed_everything, train
from gdm_course.widgets import play, watch

plot.style()
fill = masking.fill  # draws with every hidden unit computed once; shown after the summary

# %% [markdown]
# ## 1. The question
#
# Here are handwritten digits, eight pixels by eight, each pixel black or white. We want a model
# of such images that can do three things: give a **number to minimise**, **draw** new digits, and
# tell the **exact probability** of any digit you show it. In the words of the first lecture:
# Trainable, Sampler and Density. The most direct model is a table with one probability per image.
# It is worth counting once how hopeless that is.

# %%
digits = images.load("digits")
to_bits = lambda x: images.threshold(x, digits.levels).flatten(1).float()  # ink > 8
x_train, x_valid, x_test = map(to_bits, (digits.x_train, digits.x_valid, digits.x_test))
print(f"train {len(x_train)}, validation {len(x_valid)}, test {len(x_test)} digits")
ax = plot.image_grid(x_train[:40].view(-1, 8, 8), columns=20)

D = x_train.shape[1]
print(f"{D} pixels have 2^{D} = {2**D:,} images; the table would have one number less.")
print(f"We own {len(x_train):,} of them.")

# %% [markdown] tags=["notes"]
# 4 minutes. Ask for the crudest model that fits in memory. Somebody says "independent pixels": that is the baseline of section 5.

# %% [markdown]
# ## 2. The idea
#
# Cover the image and uncover it pixel by pixel, in reading order. At every step, guess the
# next pixel. At first the guess is poor. Once half of a "0" is uncovered, the rest hardly
# surprises. A model of images is nothing but a good guesser, and the probability of an
# image is what the guesser would have earned: the product of the probabilities it gave to
# what really came.

# %% tags=["fold"]
# @title A digit, uncovered in reading order
digit = x_train[12]
axes = plot.panels(
    "nothing known", "16 known", "32 known", "48 known", width=2.1, height=2.2
)
for ax, known in zip(axes, (0, 16, 32, 48)):
    picture = torch.full((64,), 0.5)  # grey: still covered
    picture[:known] = digit[:known]
    plot.image_grid(picture.view(1, 8, 8), ax)
    ax.text(0, known // 8, "?", color=plot.YELLOW, size=15, ha="center", va="center")

# %% [markdown]
# ## 3. The mathematics
#
# **The chain rule.** For any joint distribution of $D$ variables, in any order,
#
# $$p(x) = p(x_1)\,p(x_2 \mid x_1)\cdots p(x_D \mid x_1, \dots, x_{D-1})
#        = \prod_{d=1}^{D} p(x_d \mid x_{<d}). \tag{1}$$
#
# It follows from $p(a, b) = p(a)\,p(b \mid a)$, applied $D - 1$ times. Tiny example: two bits with
# $p(00) = 0.4$, $p(01) = 0.1$, $p(10) = 0.2$, $p(11) = 0.3$. Then $p(x_1 = 1) = 0.5$ and $p(x_2 = 1\mid x_1 =
# 1) = 0.6$, and indeed $0.5\cdot 0.6 = 0.3$. The other way round, $p(x_2 = 1) = 0.4$ and $p(x_1 = 1\mid x_2 =
# 1) = 0.75$: the same 0.3.
#
# Nothing was assumed, so nothing is lost. Nothing is gained either: a table for $p(x_d \mid x_{<d})$
# needs one number for each of the $2^{d-1}$ pasts, together $\sum_d 2^{d-1} = 2^D - 1$. The gain comes
# from replacing each table by a **network with few parameters**. Whatever it answers, (1) then
# defines a proper distribution. To see it, sum over $x_D$ first: only the last factor depends on
# it, and that factor sums to 1. Then $x_{D-1}$, and so on:
#
# $$\sum_{x_1}p(x_1)\sum_{x_2}p(x_2\mid x_1)\cdots\sum_{x_D}p(x_D\mid x_{<D}) = 1.$$
#
# No normalising constant has to be computed. The price is hidden in the word *before*: factor $d$
# must not see $x_d$ or anything after it.
#
# **Training** is maximum likelihood, and the logarithm turns the product into a sum:
#
# $$\text{loss} = -\frac1N\sum_{n=1}^{N}\log p(x^{(n)})
#   = -\frac1N\sum_{n=1}^{N}\sum_{d=1}^{D}\log p(x^{(n)}_d \mid x^{(n)}_{<d}).
#   \tag{2}$$
#
# All factors of all training images are known at once, so all are trained at once.
# **Sampling** has no such luck: $x_1$ must be drawn before $x_2$ can be.

# %%
seed_everything(0)
joint = torch.rand(2, 2, 2).div_(4)
joint /= joint.sum()  # any table that sums to 1


def by_chain_rule(joint, order):
    """Multiply p(x_a) p(x_b | x_a) p(x_c | x_a, x_b) for the order (a, b, c): (2, 2, 2)."""
    _, b, c = order
    p_a = joint.sum((b, c), keepdim=True)
    p_b = joint.sum(c, keepdim=True) / p_a  # given x_a
    p_c = joint / joint.sum(c, keepdim=True)  # given x_a and x_b
    return p_a * p_b * p_c


for order in itertools.permutations(range(3)):
    assert torch.allclose(by_chain_rule(joint, order), joint)
tiny = torch.tensor([[0.4, 0.1], [0.2, 0.3]])  # [x_1, x_2]
print("p(x_2 = 1 | x_1 = 1) and p(x_1 = 1 | x_2 = 1):", end=" ")
print(f"{tiny[1, 1] / tiny[1].sum():.2f}, {tiny[1, 1] / tiny[:, 1].sum():.2f}")
print("all 6 orders give back the same 8 probabilities")

# %% [markdown]
# ## 4. Build: NADE
#
# What network should guess pixel $d$? One logistic regression per pixel is the oldest
# answer (a *fully visible sigmoid belief network*; you will build it in the exercises). Its
# log-odds are linear in the past. One hidden layer per pixel would be better, but $D$
# separate networks of $H$ units cost $O(D^2H)$ time and parameters, and each learns its
# edges and strokes from scratch.
#
# **NADE** (Larochelle and Murray, 2011) shares the hidden weights between all $D$ networks.
# Pixel $k$ always speaks to the hidden layer through the same row $W_k$; guesser $d$ just
# hears the pixels before $d$:
#
# $$a_d = c + \sum_{k<d} x_k W_k, \qquad h_d = \sigma(a_d), \tag{3}$$
#
# $$p(x_d = 1 \mid x_{<d}) = \sigma(b_d + V_d\cdot h_d). \tag{4}$$
#
# Sharing saves time as well: $a_{d+1} = a_d + x_d W_d$, one addition of $H$ numbers instead
# of a new sum. All $D$ guesses together cost $O(DH)$, as much as *one* ordinary network.
#
# In training all pixels are known. The next cell computes the sums for a chunk of dimensions at a
# time, as a product with a **strictly** lower triangular mask: row $d$ keeps $x_1,\dots,x_{d-1}$ and
# drops $x_d$.


# %% tags=["from:autoregressive.nade.prefix_activations"]
def prefix_activations(
    x: Tensor, W: Tensor, c: Tensor, chunk: int = 14
) -> Iterator[tuple[slice, Tensor]]:
    """Yield a_d = c + sum_{k<d} x_k W_k, for `chunk` dimensions d at a time.

    Inside a chunk, all prefixes of x at once are a strictly triangular mask; whatever came
    before the chunk is one running sum. A chunk fits the processor's cache; the activations
    of all D dimensions of a batch of images do not.

    Args:
        x: data (B, D).
        W: one row of weights per dimension (D, H).
        c: shared bias (H,).
        chunk: how many dimensions at a time.

    Yields:
        Which dimensions, and their activations (B, chunk, H).
    """
    a = c.expand(len(x), -1)  # (B, H): the sum over everything before this chunk
    for start in range(0, x.shape[1], chunk):
        now = slice(start, start + chunk)
        x_now, W_now = x[:, now], W[now]
        K = len(W_now)
        past = x_now[:, None] * x.new_ones(K, K).tril(-1)  # (B, K, K): row d keeps x_<d
        yield now, (past.flatten(0, 1) @ W_now).unflatten(0, (-1, K)) + a[:, None]
        a = a + x_now @ W_now


# %% [markdown]
# The plain reading of (3), one sum per dimension, is our oracle: the two must agree.

# %%
seed_everything(0)
W, c = torch.randn(D, 500), torch.randn(500)
x = x_train[:100]


def plain_activations(x, W, c):
    """Equation (3) word for word: a separate sum for every d."""
    return torch.stack([c + x[:, :d] @ W[:d] for d in range(x.shape[1])], dim=1)


shared = torch.cat([a for _, a in prefix_activations(x, W, c)], dim=1)
assert torch.allclose(shared, plain_activations(x, W, c), atol=1e-4)
print(f"{tuple(shared.shape)} activations agree")

# %% [markdown]
# Now the model. `conditionals` gives all $D$ distributions
# $p(x_d \mid x_{<d})$ in one pass, as an object of `torch.distributions`. The density (2)
# is one line on top of it, and so is the loss. Sampling follows the recurrence.


# %% tags=["from:autoregressive.nade.NADE"]
class NADE(nn.Module):
    """Neural autoregressive distribution estimator for bits (B, D): (3) and (4).

    h_d = sigmoid(c + sum_{k<d} x_k W_k),  p(x_d = 1 | x_<d) = sigmoid(b_d + V_d . h_d).
    Reference: Larochelle, Murray (2011).
    """

    def __init__(self, D: int, *, hidden: int = 500):
        super().__init__()
        validate.at_least(1, D=D, hidden=hidden)
        self.W = nn.Parameter(torch.randn(D, hidden) * 0.05)  # in: one row per dimension
        self.V = nn.Parameter(torch.randn(D, hidden) * 0.05)  # out: one row per dimension
        self.c = nn.Parameter(torch.zeros(hidden))
        self.b = nn.Parameter(torch.zeros(D))

    def conditionals(self, x: Tensor) -> Bernoulli:
        """Return p(x_d | x_<d) for all d in one pass: (B, D) -> batch shape (B, D)."""
        x = validate.bits(x, len(self.b), self.b)
        logits = [
            (a.sigmoid_() * self.V[now]).sum(-1) + self.b[now]  # (B, chunk); saves a copy
            for now, a in prefix_activations(x, self.W, self.c)
        ]
        return Bernoulli(logits=precise(torch.cat(logits, dim=1)), validate_args=False)

    def log_prob(self, x: Tensor) -> Tensor:
        """Return log p(x) = sum_d log p(x_d | x_<d) in nats: (B, D) -> (B,)."""
        return self.conditionals(x).log_prob(x.to(self.b.dtype)).sum(-1)

    def loss(self, x: Tensor) -> Tensor:
        """Return the mean negative log-likelihood in nats."""
        return -self.log_prob(x).mean()

    @torch.no_grad()
    def sample(self, n: int) -> Tensor:
        """Draw n points (n, D), one dimension after the other, in O(D H) each."""
        a, x = self.c.expand(validate.count(n), -1), []
        for W, V, b in zip(self.W, self.V, self.b):
            x.append(torch.bernoulli(torch.sigmoid(torch.sigmoid(a) @ V + b)))  # (n,)
            a = a + x[-1][:, None] * W
        return torch.stack(x, dim=1)


# %% [markdown]
# Two properties were promised, and both can be checked exactly on a small one, before any
# training. First, the probabilities of all $2^8$ states sum to 1. Second, guess $d$
# does not move when $x_d$ or a later pixel moves: the Jacobian of the logits is *strictly
# lower triangular*. (To differentiate by a bit, autograd pretends that it is a real
# number.)

# %%
seed_everything(0)
small = NADE(8, hidden=16)
states = torch.tensor(list(itertools.product([0.0, 1.0], repeat=8)))  # (256, 8)
total = small.log_prob(states).exp().sum().item()
assert abs(total - 1) < 1e-5
print(f"sum over {len(states)} states: {total:.6f}")

logits = lambda x: torch.cat(
    [
        (a.sigmoid() * small.V[now]).sum(-1)
        for now, a in prefix_activations(x, small.W, small.c)
    ],
    1,
)
J = jacobian(lambda x: logits(x[None])[0], states[100])
assert (J.triu() == 0).all() and (J.tril(-1) != 0).sum() == 28
(ax,) = plot.panels("d logit(d) / d x(k)", width=3.2)
ax.imshow(J != 0, cmap="Blues")
_ = ax.set(xlabel="pixel k", ylabel="guess d")

# %% [markdown]
# **Question 1.** Training one image needs all $D$ guesses, and so does drawing one. Why can only one of
# the two be done in parallel?
#
# <details><summary>Answer</summary>
#
# In training every $x_{<d}$ is given, so all guesses can be made at once. In drawing, $x_{<d}$ has to be
# drawn before guess $d$ can be made.
# </details>

# %% [markdown] tags=["notes"]
# 14 minutes for sections 2 to 4. Do the two bits on the board, in both orders. Ask what would show in the picture of the Jacobian if the mask were not strict: the diagonal. If time is short, leave `prefix_activations` to
# reading; the plain sum beside it says the same.

# %% [markdown]
# ## 5. Train: digits
#
# The loop is the one of the first lecture. Beside the loss you see samples of the model,
# drawn afresh while it learns. The loss is in **nats per image**: the negative logarithm of
# the probability of a whole digit, averaged over digits.

# %%
seed_everything(0)
nade = NADE(D, hidden=200)
steps = budget(full=1500, smoke=30)
rate = lambda step: 3e-3 * (1 - step / steps)  # falls to 0
show = {"samples": lambda ax: plot.image_grid(nade.sample(36).view(-1, 8, 8), ax)}
for _ in watch(train(nade, forever(x_train, 64), steps, rate), every=100, panels=show):
    pass  # your logging or early stopping would be here

# %% [markdown]
# Is that good? A number needs a neighbour. The simplest one treats the pixels as
# independent: $p(x)=\prod_d p(x_d)$, every pixel with its own frequency. The difference
# between the two is what NADE has learned to read from the past.

# %%
frequency = (x_train.sum(0) + 1) / (len(x_train) + 2)  # never exactly 0 or 1
independent = -Bernoulli(frequency).log_prob(x_test).sum(-1).mean().item()
nade_nats, error = nll_estimate(nade, x_test)
print(f"independent pixels: {independent:.2f} nats per test digit")
print(f"NADE:               {nade_nats:.2f} +- {error:.2f}")
if full_run():
    assert nade_nats < independent - 4


def fit(model, x, steps, lr, B=64):
    """Train without a figure, the rate falling to 0; for the many fits to come."""
    for _ in train(model, forever(x, B), steps, lambda step: lr * (1 - step / steps)):
        pass
    return model.eval()


# %% [markdown]
# **Predict 1, before you run.** Of the 64 pixels of a digit, which cost most of these nats: the
# background, the inside of strokes, or their edges? The picture on the right answers:
# $-\log p(x_d \mid x_{<d})$, pixel by pixel.

# %%
with torch.no_grad():
    surprise = -nade.conditionals(x_test).log_prob(x_test)  # (N, 64) nats
    believed = nade.conditionals(x_test).probs
left, middle, right = plot.panels(
    "test digits", "p(pixel is white | past)", "surprise: white is 3 nats"
)
plot.image_grid(x_test[:25].view(-1, 8, 8), left)
plot.image_grid(believed[:25].view(-1, 8, 8), middle)
plot.image_grid(surprise[:25].view(-1, 8, 8), right, vmax=3.0)
print(f"{surprise.sum(1).mean():.2f} nats per digit, on average over all test digits")
picture = x_test.view(-1, 8, 8)
change = picture.diff(dim=2, prepend=picture[:, :, :1]) != 0  # from the pixel on the left
change |= picture.diff(dim=1, prepend=picture[:, :1]) != 0  # and from the one above
for name, where in {
    "background, like left and above": ~change & (picture == 0),
    "inside, like left and above": ~change & (picture == 1),
    "edges, unlike one of them": change,
}.items():
    each = surprise.view(-1, 8, 8)[where]
    print(f"{name:34s} {each.mean():.2f} nats per pixel, {each.sum() / surprise.sum():.0%}")

# %% [markdown]
# <details><summary>Answer</summary>
#
# The edges. The background is cheap; an edge costs half as much again as the inside of a stroke, and
# all edges together make up about three quarters of the nats.
# </details>
#
# ## 6. Why the order matters
#
# By (1) every order is exact. Then why care? A network that is too simple may hold one
# factorisation and not the other. The cleanest example has two dimensions and a known truth: the
# banana, $x_1\sim\mathcal N$, and $x_2$ given $x_1$ a Gaussian around a parabola. From left to right,
# each conditional **is** one Gaussian. The other way, $x_2$ first, it is not: $x_1$ given $x_2$ has
# *two* humps, one on each arm.
#
# To try it we need NADE for real numbers. **RNADE** (Uria, Murray and Larochelle, 2013) keeps (3)
# and lets the output be the parameters of a mixture of $K$ Gaussians (its class is in a section
# after the summary):
#
# $$p(x_d \mid x_{<d}) = \sum_{j=1}^{K}\pi_{dj}\,\mathcal N(x_d;\ \mu_{dj},\ \sigma_{dj}^2),
#   \qquad
#   (\log\pi_d,\mu_d,\log\sigma_d) = b_d + V_d\, h_d. \tag{5}$$
#
# A mixture adds Gaussians. Multiplied, they make a single narrower one, as
# [Boltzmann machines](../energy/boltzmann.ipynb) shows among its products of experts.
#
# **Predict 2, before you run.** Two orders, one Gaussian per conditional or sixteen. Which of the four
# misses the banana? The gap $\frac1N\sum_n [\log p_\text{true}(x_n) - \log p_\text{model}(x_n)]$ on
# fresh points estimates $\mathrm{KL}(p_\text{true}\,\|\,p_\text{model})$: zero means perfect.


# %%
def gap(truth, model, x, columns=(0, 1)):
    """Estimate KL(truth || model) in nats from points x (N, 2) of the truth."""
    with torch.no_grad():
        return (truth.log_prob(x) - model.log_prob(x[:, columns])).mean().item()


banana = toy.get("banana")
seed_everything(0)
x, x_new = banana.sample(20_000), banana.sample(20_000)
fitted = {}
for K, columns in itertools.product((1, 16), ((0, 1), (1, 0))):
    model = fit(RNADE(2, components=K), x[:, columns], budget(600, 20), lr=5e-3, B=512)
    kl = gap(banana, model, x_new, columns)
    fitted[f"K = {K}, x{columns[0] + 1} first"] = model, columns, kl

titles = [f"{name}\nKL {kl:.3f} nats" for name, (_, _, kl) in fitted.items()]
axes = plot.panels("banana: the truth\n", *titles, columns=5, width=2.3, height=2.7)
plot.density(banana.log_prob, banana.bounds, axes[0])
for ax, (model, columns, _) in zip(axes[1:], fitted.values()):
    flipped = lambda x, m=model, c=columns: m.log_prob(x[:, c])
    plot.density(flipped, banana.bounds, ax)

# %% [markdown]
# <details><summary>Answer</summary>
#
# Only the wrong order with one Gaussian. The right order with one is as good as with sixteen; the
# wrong order needs more than one, and with sixteen it loses nothing that matters.
# (So it was with a second seed, and with four times the steps.)
# </details>
#
# **Change this line, and run the cell again.** `(1, 16)` to `(1, 2)`. How many Gaussians does the wrong
# order need?
#
# <details><summary>Answer</summary>
#
# Two get most of the way: there are two arms.
# </details>

# %% [markdown] tags=["notes"]
# 12 minutes for sections 5 and 6. Expect "the edges" for Predict 1, which is right. Draw the banana and cut it with a horizontal line before Predict 2. Independent orders for digits are in a section after the
# summary.

# %% [markdown]
# ## 7. MADE: all conditionals from one masked network
#
# NADE has one hidden layer, by construction. **MADE** (Germain and others, 2015) asks: can
# *any* feed-forward network become a model of this family? Its output $d$ must not depend
# on inputs $\ge d$. A dependence is a chain of weights from input to output, so cut enough
# weights that no forbidden chain is left.
#
# Give every unit $i$ a **degree** $m_i$: how far into the order it may look. Inputs get
# their place in the order, $1..D$; hidden units something from $1$ to $D-1$. Keep a weight
# from $j$ up to $i$ only if
#
# $$m_i \ge m_j \ \text{ (into a hidden unit)},\qquad m_i > m_j\ \text{ (into an output)}.
#   \tag{6}$$
#
# Tiny example: $D = 3$ and hidden degrees 1 and 2. The unit of degree 1 hears $x_1$ and speaks to
# outputs 2 and 3; the unit of degree 2 hears $x_1$ and $x_2$ and speaks to output 3. Output 1 hears
# nobody.
#
# Along any chain input $\to$ hidden $\to\dots\to$ output $d$ the degrees never fall and
# rise strictly in the last step, so an input that reaches output $d$ has degree $< d$.
# Every input below $d$ can reach it, provided the hidden degrees are
# spread well.


# %% tags=["from:autoregressive.made.degrees"]
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


# %% tags=["from:autoregressive.made.masks"]
def masks(m: Sequence[Tensor]) -> list[Tensor]:
    """Return one mask (out, in) per layer from the degrees m: True where a unit may look.

    A hidden unit looks at degrees up to its own; output d only at degrees below input d's.
    """
    hidden = [above[:, None] >= below for below, above in pairwise(m)]
    return [*hidden, m[0][:, None] > m[-1]]


# %% [markdown]
# The network multiplies its weights by the masks in every forward pass. It can hand out
# several numbers per dimension, which the flows will need.


# %% tags=["from:autoregressive.made.MaskedMLP"]
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


# %% [markdown]
# The model itself. Since the order is just a list of numbers, one network can be trained
# for **many orders** at once, each batch under another. Every order $o$ gives a proper
# density $p_o$; their average
#
# $$p(x) = \frac1M\sum_{o=1}^{M} p_o(x) \tag{7}$$
#
# is one too: an ensemble for the price of one network's memory. (Training lowers the mean of the
# $-\log p_o$, which by Jensen's inequality is never below $-\log p$.)
#
# Sampling is done by `fill`, which computes every hidden unit once, when its time comes (its code
# follows after the summary).


# %% tags=["from:autoregressive.made.MADE"]
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


# %% tags=["fold"]
# @title A small MADE: every unit with its degree, every weight that is left
seed_everything(0)
schematics.masked_network(MADE(4, hidden=(6, 6)), torch.tensor([[1.0, 0.0, 1.0, 1.0]]))

# %%
seed_everything(0)
small = MADE(8, hidden=(24, 24), orders=3)
total = small.log_prob(states).exp().sum().item()
assert abs(total - 1) < 1e-5
counts = (
    (small.sample(20_000) @ 2.0 ** torch.arange(7, -1, -1)).long().bincount(minlength=256)
)
expected = 20_000 * small.log_prob(states).exp().detach()
chi2 = ((counts - expected) ** 2 / expected).sum().item()
assert chi2 < 255 + 6 * (2 * 255) ** 0.5  # samples follow their own density, within 6 sigma
chains = torch.eye(8)
for mask in masks(degrees(torch.arange(8), (24, 24))):
    chains = mask.float() @ chains  # counts the ways from an input to a unit
assert (chains.triu() == 0).all() and (chains.tril(-1) > 0).sum() == 28
print(f"three orders, two layers: sum {total:.6f}, chi-square {chi2:.0f} (255 expected)")

# %% [markdown]
# **Question 2.** With $\ge$ in the *hidden* layers and $>$ at the output the model is right. What if the
# hidden layers used $>$ too?
#
# <details><summary>Answer</summary>
#
# It would still be right, since the degrees would rise in every step, but wasteful: with two hidden
# layers an input of degree $k$ would reach outputs from degree $k+3$ on, and the guesses would not
# know the pixels just before them.
# </details>

# %% [markdown] tags=["notes"]
# 10 minutes. Let the room draw the three-unit example. For Question 2 expect "the sum of probabilities would not be 1".

# %% [markdown]
# ## 8. Break it: any pixels first
#
# An order is only a list, so it may begin with any pixels you like: give those, draw the rest, and
# a hole anywhere in a picture is filled. Can a model with eight orders do that under an order that
# it was never trained on? The switch is one method: a fresh order for every batch.


# %% tags=["from:autoregressive.made.AnyOrderMADE"]
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


# %%
trained = {"NADE 200": nade}
for name, kind, options, steps in (
    ("MADE 500", MADE, {"dropout": 0.3}, 1200),
    ("MADE 500, 8 orders", MADE, {"dropout": 0.1, "orders": 8}, 1200),
    ("MADE 500, any order", AnyOrderMADE, {"orders": 8}, 4000),
):
    seed_everything(0)
    trained[name] = fit(kind(D, **options), x_train, budget(steps, 20), lr=3e-3)
made = trained["MADE 500"]
columns = torch.arange(D).view(8, 8)
right_first = torch.cat([columns[:, 4:].flatten(), columns[:, :4].flatten()])
given = right_first[:32]
print("test digits under a new order, the right half first:")
for name in ("MADE 500, 8 orders", "MADE 500, any order"):
    with torch.no_grad():
        log_p = trained[name].conditionals(x_test, right_first).log_prob(x_test).sum(-1)
    print(f"{name:20s} {-log_p.mean():.2f} nats per digit")
    if full_run():
        assert (-log_p.mean() < independent) == ("any" in name)
print(f"independent pixels   {independent:.2f}")

# %% [markdown]
# The eight-order model is *worse than independent pixels*, and a longer training makes that worse
# still: an order that it was never trained on asks the network for conditionals that it never
# learned. With a fresh order per batch it is better, and it shows:


# %%
def complete(model, digit, given, n=8):
    """Draw n digits (n, 64) that agree with `digit` at the pixels `given`, in any order."""
    hidden = torch.ones(D, dtype=torch.bool).index_fill(0, given, False)
    order = torch.cat([given, hidden.nonzero()[:, 0]])
    known = iter(digit[given].tolist())

    def draw(logits):
        bit = next(known, None)
        return draw_bit(logits) if bit is None else torch.full((n,), bit)

    return masking.fill(model.net, degrees(order, model.net.hidden), n, draw)


seed_everything(0)
part = torch.full((4, D), 0.5)
part[:, given] = x_test[:4, given]
axes = plot.panels("given", "eight fixed orders", "a fresh order per batch", width=3.4)
plot.image_grid(part.view(-1, 8, 8), axes[0], columns=1)
for ax, name in zip(axes[1:], ("MADE 500, 8 orders", "MADE 500, any order")):
    rows = torch.cat([complete(trained[name], digit, given, 6) for digit in x_test[:4]])
    plot.image_grid(rows.view(-1, 8, 8), ax, columns=6)

# %% [markdown]
# ## 9. Play: when is a digit decided?
#
# Fix the first pixels of a test digit and let the model draw the rest, eight times. With
# nothing known you see digits of all kinds. Move the slider: from which pixel on do all eight
# agree?


# %%
def draw_completions(known, which):
    """Show the known part of a digit and eight ways to go on."""
    seed_everything(0)  # the same dice for every position of the slider
    digit = x_test[which]
    part = torch.where(torch.arange(D) < known, digit, 0.5)
    left, right = plot.panels(f"{known} pixels known", "eight completions", width=4)
    plot.image_grid(part.view(1, 8, 8), left)
    drawn = complete(made, digit, torch.arange(known))
    plot.image_grid(drawn.view(-1, 8, 8), right, columns=4)


play(draw_completions, known=(0, 64, 4), which=(0, 20, 1))
for known in (0, 8, 24, 40, 56):
    drawn = [complete(made, digit, torch.arange(known))[:, 56:] for digit in x_test[:50]]
    agree = torch.stack([(d == d[0]).all(0).float().mean() for d in drawn]).mean()
    print(f"{known} pixels known: all eight agree on {agree:.0%} of the last row")

# %% [markdown]
# There is no one place: it depends on the digit. On average over fifty digits the agreement on the
# last row grows with what is known, from about a half (independent pixels would agree on that, too).
#
# ## 10. Measure
#
# One table, one unit, one test set. Bits per dimension divide the nats of a whole image by
# $D\ln 2$: they compare images of different size, and tell how many bits a compressor built on this
# model would spend on a pixel.

# %%
row = "{:20s}{:>8s}{:>7s}{:>10s}{:>12s}{:>14s}".format
print(row("digits, test split", "nats", "+-", "bits/dim", "parameters", "100 samples"))
bits = bits_per_dim(independent, D)
print(row("independent pixels", f"{independent:.2f}", "", f"{bits:.3f}", f"{D}", ""))
for name, model in trained.items():
    nats, error = nll_estimate(model, x_test)
    began = time.perf_counter()
    model.sample(100)
    ms = 1e3 * (time.perf_counter() - began)
    size = sum(p.numel() for p in model.parameters())
    figures = f"{nats:.2f}", f"{error:.2f}", f"{bits_per_dim(nats, D):.3f}", f"{size:,}"
    print(row(name, *figures, f"{ms:.0f} ms"))
for name in ("MADE 500, 8 orders", "MADE 500, any order"):
    with torch.no_grad():
        each = [trained[name].conditionals(x_test, o).log_prob(x_test) for o in range(8)]
    print(
        f"{name}: {-torch.stack(each).sum(-1).mean():.2f} nats in one of its eight orders"
    )
for model in (nade, made):
    print(type(model).__name__, protocols.abilities(model))

# %% [markdown]
# Eight orders cost likelihood here (at equal dropout too, on two seeds), and the freedom to begin
# with any pixels costs most: with a fresh order per batch, one network serves 64! orders. (Both rows
# are averages (7) of eight orders; what a single one costs stands below the table. Four
# times the steps turn the first part round: then the average (7) of eight good opinions is *ahead* of a single one, on two seeds.)

# %% [markdown] tags=["notes"]
# 8 minutes. Before the break, ask which of the two would be better in its own orders. The slider is the best minute of the hour: let the room call out when they know the digit.

# %% [markdown]
# ## Summary
#
# - The chain rule (1) is exact in every order. A network in place of each table makes it
#   affordable, and the product is normalised by construction.
# - **NADE** (3, 4) shares one hidden layer among all conditionals: $O(DH)$ for training and for
#   sampling. **RNADE** (5) puts mixtures of Gaussians at the output.
# - **MADE** (6) cuts weights by degrees, so that any perceptron is autoregressive. Train many orders
#   and average them (7), or a fresh one per batch to fill any hole.
# - Density and training are parallel in $D$, sampling is sequential: the family's price.
# - "Looks only back" is a claim about every weight. Test it with the sum over all states and the
#   Jacobian, not with the loss.
#
# **Exercises:** open them with `gdm start autoregressive/nade`.
#
# ## References
#
# - Larochelle, Murray (2011). *The neural autoregressive distribution estimator.* AISTATS.
# - Uria, Murray, Larochelle (2013). *RNADE: the real-valued neural autoregressive
#   density-estimator.* arXiv:1306.0186.
# - Uria, Murray, Larochelle (2014). *A deep and tractable density estimator.*
#   arXiv:1310.1757. (Order-agnostic training.)
# - Germain, Gregor, Murray, Larochelle (2015). *MADE: masked autoencoder for distribution
#   estimation.* arXiv:1502.03509.
# - Uria, Côté, Gregor, Murray, Larochelle (2016). *Neural autoregressive distribution
#   estimation.* arXiv:1605.02226.
# - Bengio, Bengio (2000). *Modeling high-dimensional discrete data with multi-layer neural
#   networks.* NeurIPS.

# %% [markdown]
# ## Further: RNADE, and its rival, a softmax


# %% tags=["from:autoregressive.nade.gaussian_mixture"]
def gaussian_mixture(parameters: Tensor) -> MixtureSameFamily:
    """Read (..., 3 K) numbers as logits, means, log standard deviations of K Gaussians."""
    logits, mu, log_sigma = precise(parameters).chunk(3, dim=-1)
    weights = Categorical(logits=logits, validate_args=False)
    sigma = log_sigma.clamp(-10, 10).exp()  # far from the data a network may say anything
    parts = Normal(mu, sigma, validate_args=False)
    return MixtureSameFamily(weights, parts, validate_args=False)


# %% [markdown]
# The network gives $\log\sigma$, so that $\sigma=\exp(\log\sigma)$ is positive whatever the
# network says, and unnormalised $\log\pi$, which `Categorical` normalises. The hidden units
# are rectified, and scaled by a learned factor $\rho_d$, because $a_d$ sums over more and
# more terms as $d$ grows.


# %% tags=["from:autoregressive.nade.RNADE"]
class RNADE(nn.Module):
    """Real-valued NADE: every conditional density is a mixture of K Gaussians.

    h_d = relu(rho_d a_d) with a_d as in (3); V_d . h_d + b_d are the 3 K parameters of
    (5). The factor rho_d balances that a_d has d - 1 terms.

    References:
        Uria, Murray, Larochelle (2013). RNADE. arXiv:1306.0186.
    """

    def __init__(self, D: int, *, hidden: int = 128, components: int = 16):
        super().__init__()
        validate.at_least(1, D=D, hidden=hidden, components=components)
        self.W = nn.Parameter(torch.randn(D, hidden) / D**0.5)
        self.V = nn.Parameter(torch.randn(D, hidden, 3 * components) * 0.05)
        self.c = nn.Parameter(torch.randn(hidden))
        self.b = nn.Parameter(torch.randn(D, 3 * components))
        self.rho = nn.Parameter(torch.ones(D, 1))

    def conditionals(self, x: Tensor) -> MixtureSameFamily:
        """Return p(x_d | x_<d) for all d in one pass: (B, D) -> batch shape (B, D)."""
        x = validate.points(x, len(self.b), self.b)
        parameters = [
            torch.einsum("bdh,dhk->bdk", relu(self.rho[now] * a), self.V[now]) + self.b[now]
            for now, a in prefix_activations(x, self.W, self.c)
        ]
        return gaussian_mixture(torch.cat(parameters, dim=1))

    log_prob = NADE.log_prob
    loss = NADE.loss

    @torch.no_grad()
    def sample(self, n: int) -> Tensor:
        """Draw n points (n, D), one dimension after the other."""
        a, x = self.c.expand(validate.count(n), -1), []
        for W, V, b, rho in zip(self.W, self.V, self.b, self.rho):
            x.append(gaussian_mixture(relu(rho * a) @ V + b).sample())  # (n,)
            a = a + x[-1][:, None] * W
        return torch.stack(x, dim=1)


# %% [markdown]
# Two moons, the touchstone of the first lecture: first by RNADE, live, the truth at hand.

# %%
moons = toy.get("two_moons")
seed_everything(0)
x, x_new = moons.sample(20_000), moons.sample(20_000)
rnade = RNADE(2)
steps = budget(1500, 20)
show = {
    "truth": lambda ax: plot.density(moons.log_prob, moons.bounds, ax, vmax=1.5),
    "RNADE": lambda ax: plot.density(rnade.log_prob, moons.bounds, ax, vmax=1.5),
}
rate = lambda step: 5e-3 * (1 - step / steps)
for _ in watch(train(rnade, forever(x, 512), steps, rate), every=100, panels=show):
    pass
print(f"KL(truth || RNADE) = {gap(moons, rnade, x_new):.3f} nats")

# %% [markdown]
# There is a rival, and it sounds naive: cut every axis into $K$ bins and let a **softmax**
# choose one. A softmax knows nothing about order or distance. But it can take any shape,
# several humps or a sharp edge included, and classification is what networks do best.
# "Networks do better when the output is discrete" is folklore since PixelRNN (van den Oord
# and others, 2016, arXiv:1601.06759). We do not believe folklore, we measure.
#
# With codes instead of bits, a value *selects* its row of weights: $a_d = c + \sum_{k<d}
# W_{k,x_k}$.


# %% tags=["from:autoregressive.nade.SoftmaxNADE"]
class SoftmaxNADE(nn.Module):
    """NADE for data with K values: every conditional is a softmax. Codes 0..K-1, (B, D).

    a_d = c + sum_{k<d} W[k, x_k]: a value selects its row, so every value is free to push
    the conditionals after it in its own direction.
    """

    def __init__(self, D: int, K: int, *, hidden: int = 128):
        super().__init__()
        validate.at_least(1, D=D, K=K, hidden=hidden)
        self.W = nn.Parameter(torch.randn(D, K, hidden) / D**0.5)
        self.V = nn.Parameter(torch.randn(D, hidden, K) * 0.05)
        self.c = nn.Parameter(torch.randn(hidden))
        self.b = nn.Parameter(torch.zeros(D, K))

    def conditionals(self, x: Tensor) -> Categorical:
        """Return p(x_d | x_<d) for all d in one pass: (B, D) -> batch shape (B, D)."""
        D, K = self.b.shape
        x = validate.codes(x, K, D)
        rows = self.W[torch.arange(D, device=x.device), x]  # (B, D, H)
        before = rows[:, :-1].cumsum(dim=1)  # for d > 1: the sum over k < d
        a = self.c + torch.cat([torch.zeros_like(rows[:, :1]), before], dim=1)
        logits = torch.einsum("bdh,dhk->bdk", relu(a), self.V) + self.b
        return Categorical(logits=precise(logits), validate_args=False)

    def log_prob(self, x: Tensor) -> Tensor:
        """Return log P(x) in nats: codes (B, D) -> (B,)."""
        return self.conditionals(x).log_prob(x.long()).sum(-1)

    loss = NADE.loss

    @torch.no_grad()
    def sample(self, n: int) -> Tensor:
        """Draw n code vectors (n, D), one dimension after the other."""
        a, x = self.c.expand(validate.count(n), -1), []
        for W, V, b in zip(self.W, self.V, self.b):
            logits = relu(a) @ V + b
            x.append(Categorical(logits=logits, validate_args=False).sample())  # (n,)
            a = a + W[x[-1]]
        return torch.stack(x, dim=1)


# %% [markdown]
# A discrete model becomes a density of real numbers by spreading each bin's probability
# evenly over the bin. Its volume is the exchange rate between probability and density;
# forget it and the two are not comparable.


# %% tags=["from:autoregressive.nade.Quantised"]
class Quantised(nn.Module):
    """A density of continuous data from a discrete model of its bins.

    p(x) = P(bins of x) / (volume of a bin) inside the bounds and 0 outside: a histogram
    whose K^D heights are a network's. It is a true density, so it compares with RNADE's.

    Args:
        model: a Density and Sampler of codes 0..K-1, (B, D).
        low, high: bounds of the data (D,).
        bins: number K of equal bins per dimension.
    """

    def __init__(self, model: nn.Module, low: Tensor, high: Tensor, *, bins: int = 64):
        super().__init__()
        validate.at_least(1, bins=bins)
        if not (low < high).all():
            raise ValueError(f"low {low} is not below high {high} in every dimension")
        self.model, self.bins = model, bins
        self.register_buffer("low", low)
        self.register_buffer("high", high)

    def log_prob(self, x: Tensor) -> Tensor:
        """Return the log density in nats, -inf outside of the bounds: (B, D) -> (B,)."""
        x = validate.points(x, len(self.low), self.low)
        inside = ((x >= self.low) & (x <= self.high)).all(-1)  # the last bin is closed
        width = (self.high - self.low) / self.bins  # of a bin, (D,)
        codes = ((x - self.low) / width).clamp(0, self.bins - 1).long()
        log_p = self.model.log_prob(codes) - width.log().sum()
        return torch.where(inside, log_p, -torch.inf)

    loss = NADE.loss

    def sample(self, n: int) -> Tensor:
        """Draw n points (n, D): a bin from the model, then a uniform point inside of it."""
        codes = self.model.sample(n)
        u = (codes + torch.rand_like(self.low.expand(n, -1))) / self.bins
        return self.low + u * (self.high - self.low)


# %%
def rivals(name, steps):
    """Fit RNADE and two grids of bins to one density; return the gaps in nats."""
    truth = toy.get(name)
    seed_everything(0)
    x, x_new = truth.sample(20_000), truth.sample(20_000)
    both = torch.cat([x, x_new])
    low, high = both.amin(0) - 1e-3, both.amax(0) + 1e-3  # no test point outside
    models = {"mixture": RNADE(2)}
    for K in (64, 128):
        models[f"{K} bins"] = Quantised(SoftmaxNADE(2, K), low, high, bins=K)
    return {
        kind: (fit(model, x, steps, lr=5e-3, B=512), gap(truth, model, x_new))
        for kind, model in models.items()
    }


shapes = ("two_moons", "ring", "checkerboard", "word")
results = {name: rivals(name, budget(400, 20)) for name in shapes}
titles = [
    f"{s}: {m}\nKL {r[m][1]:.3f} nats"
    for s, r in results.items()
    for m in ("mixture", "64 bins")
]
axes = plot.panels(*titles, width=2.4, height=2.5)
for i, (name, fits) in enumerate(results.items()):
    for ax, kind in zip(axes[2 * i :], ("mixture", "64 bins")):
        plot.density(fits[kind][0].log_prob, toy.get(name).bounds, ax, n=200)

print(f"{'KL in nats':14s}" + "".join(f"{k:>10s}" for k in results["ring"]))
for name, fits in results.items():
    print(f"{name:14s}" + "".join(f"{kl:10.3f}" for _, kl in fits.values()))
print(
    "(bins give 0 outside of their bounds: we set those around the test points, a favour)"
)

# %% [markdown]
# The folklore is half true, and the table shows which half. Where the density is
# **smooth**, the mixture wins: it interpolates between points, whereas bins must learn
# every height on their own, and the more bins, the fewer points in each (compare 64 with
# 128). Where it has **sharp edges**, a Gaussian has to be squeezed into each corner, and
# after this short training the softmax is ahead. That lead does not last for ever: with four
# times the steps the mixture sharpens its edges, the bins begin to learn the noise of single
# points, and on the word the mixture is ahead by a little. You can settle it for digits with
# all 17 grey levels, stopping by validation, in the exercises' last section.

# %% [markdown]
# ## Further: does the order of the pixels matter?
#
# For pixels there is no privileged direction, but the test is quickly made: the same NADE, the
# columns of the data permuted. All four models see the same test digits, so we compare them digit
# by digit: what makes a digit hard under every order cancels.

# %%
orders = {
    "rows": torch.arange(D),
    "rows, from the end": torch.arange(D).flip(0),
    "columns": torch.arange(D).view(8, 8).T.flatten(),
    "random": torch.randperm(D, generator=generator(1)),
}
by_order = {}
for name, order in orders.items():
    seed_everything(0)
    model = fit(NADE(D, hidden=100), x_train[:, order], budget(800, 20), lr=4e-3)
    by_order[name] = -log_probs(model, x_test[:, order])  # (N,) nats
    mean, error = estimate(by_order[name])
    more, paired = estimate(by_order[name] - by_order["rows"])
    print(f"{name:20s} {mean:6.2f} +- {error:.2f} nats per test digit", end="")
    print(f", {more:+.3f} +- {paired:.3f} against rows" if name != "rows" else "")

# %% [markdown]
# The paired errors are five times smaller than the others, and a difference of two or three
# of them is no accident of these test digits. It may be one of this training run: with
# another seed, or with four times the steps, we found differences of the same size and of
# either sign, none above 0.2 nats. So the order is a detail for NADE on digits, which sees
# the whole past through a dense matrix. A PixelCNN's window is local: there it will matter.

# %% [markdown]
# ## Further: sampling without waste
#
# Sampling $D$ dimensions seems to need $D$ forward passes. It does not. A hidden unit of degree $k$ is
# **final** as soon as dimension $k$ is drawn, since it looks no further. So compute each unit once,
# when its time comes: all $D$ steps together cost *one* forward pass.


# %% tags=["from:autoregressive.made.fill"]
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


# %%
def naive_sample(model, n):
    """Draw n points with one full forward pass per dimension (the natural order)."""
    x = torch.zeros(n, D)
    for d in range(D):
        x[:, d] = model.conditionals(x).probs[:, d].bernoulli()
    return x


seed_everything(0)
with torch.no_grad():
    began = time.perf_counter()
    naive_sample(made, 100)
    middle = time.perf_counter()
    made.sample(100)
    end = time.perf_counter()
slow, fast = 1e3 * (middle - began), 1e3 * (end - middle)
print(f"100 digits: naive {slow:.0f} ms, every unit once {fast:.0f} ms")

# %% [markdown]
# ## Further: a guesser that peeks
#
# Change one character of (6): $\ge$ instead of $>$ at the output, so that an output may
# look at *its own input*. Everything still runs. The loss falls. It falls beautifully.


# %%
def peeking(net):
    """Let each output of this one network see its own input too: `>=` where `>` belongs."""

    def masked_weights(m):
        *hidden, _ = masks(m)
        allowed = [*hidden, m[0][:, None] >= m[-1]]
        return [layer.weight * mask for layer, mask in zip(net.layers, allowed)]

    net.masked_weights = masked_weights


seed_everything(0)
cheat = MADE(D, hidden=(500,))
peeking(cheat.net)
fit(cheat, x_train, budget(1000, 20), lr=1e-2)
for model in (cheat, made):
    print(f"{-model.log_prob(x_test).mean():.2f} nats per test digit")
(ax,) = plot.panels("samples of the cheat", width=4)
_ = plot.image_grid(cheat.sample(24).view(-1, 8, 8), ax, columns=8)

# %% [markdown]
# A state-of-the-art likelihood and worthless samples. In training the model copies the
# pixel that it should guess; in sampling that pixel is not there yet. Its "density" is
# none, and the two exact checks of section 4 say so at once. Keep them in your tests.

# %%
seed_everything(0)
small_cheat = MADE(8, hidden=(24,))
peeking(small_cheat.net)
for parameter in small_cheat.parameters():
    nn.init.normal_(parameter, std=0.5)  # far from its calm beginning
total = small_cheat.log_prob(states).exp().sum().item()
m = degrees(torch.arange(8), (24,))
peeks = jacobian(lambda x: small_cheat.net(x[None], m)[0, :, 0], states[100]).diagonal()
print(f"the probabilities of all states sum to {total:.4f}, not to 1")
print(f"own-pixel derivatives up to {peeks.abs().max():.3f}, not 0")
assert abs(total - 1) > 1e-4 and peeks.abs().max() > 0

del small_cheat.net.masked_weights  # repaired: the method of its class again
assert abs(small_cheat.log_prob(states).exp().sum().item() - 1) < 1e-5

# %% [markdown]
# ## Further: deeper
#
# One hidden layer more, the same dropout and the same steps.

# %%
seed_everything(0)
deep = fit(MADE(D, hidden=(500, 500), dropout=0.3), x_train, budget(1200, 20), lr=3e-3)
for name, model in {"MADE 500": made, "MADE 500, 500": deep}.items():
    nats, error = nll_estimate(model, x_test)
    print(f"{name:14s} {nats:.2f} +- {error:.2f} nats per test digit")

# %% [markdown]
# After this training the second layer changes little. With four times the steps the deep model
# learns the training digits by heart and is a nat behind the flat one (on two seeds).

# %% [markdown]
# ## Further: MNIST
#
# The same class, 784 pixels, the *fixed* binarisation of Larochelle on which the papers
# report. It was trained by `gdm train` on real data; the card beside the checkpoint says
# how. (There are two binarised MNISTs. The other one redraws the bits every time it sees an
# image: another test set. Never compare across.)

# %%
name = "autoregressive/made-mnist-cpu"
if checkpoints.available(name):
    mnist_model = checkpoints.load(name)
    card = checkpoints.card(name)
    seed_everything(0)
    began = time.perf_counter()
    x = mnist_model.sample(40)
    print(f"40 samples of 784 pixels in {time.perf_counter() - began:.2f} s")
    _ = plot.image_grid(x.view(-1, 28, 28), columns=20)
    test = next(f for f in card["figures"] if f["split"] == "test")
    print(
        f"{test['value']:.2f} +- {test['error']:.2f} nats per test digit, all {test['n']:,}"
    )
    print(
        f"= {bits_per_dim(test['value'], 784):.4f} bits/dim; {card['parameters']:,} parameters"
    )
    print(f"trained in {card['seconds']:.0f} s on {card['device']}")
else:
    print(f"no checkpoint yet: 'gdm train {name}' makes it")
