# %% [markdown]
# # Images by convolution: PixelCNN
#
# NADE gives every pixel weights of its own and would read a shuffled image just as well. An
# image is not a list. One small convolution, slid over the picture and forbidden to look
# ahead, predicts every pixel from its neighbourhood: the same product of conditionals with
# far fewer numbers to learn.

# %% [markdown] tags=["nav"]
# 70 minutes ·
# before this: [One dimension at a time: NADE, RNADE and MADE](nade.ipynb) ·
# [exercise](../../exercises/autoregressive/pixelcnn.ipynb) ·
# [solution](../../solutions/autoregressive/pixelcnn.ipynb)
#
# previous: [One dimension at a time: NADE, RNADE and MADE](nade.ipynb) ·
# [all units](../index.ipynb) ·
# next: [Eight thousand guesses a second: WaveNet and WaveRNN](wavenet.ipynb)

# %% tags=["setup"]
import importlib.util

if importlib.util.find_spec("gdm_course") is None:
    raise ImportError(
        "the package gdm_course is not installed here: run 'make lab' in the course's "
        "folder, or 'pip install -e .[lab]', and choose that environment as the kernel"
    )

# %%
import copy
import itertools
import math
import time
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributions import Categorical, Distribution
from torch.nn.functional import logsigmoid

from gdm_course import checkpoints, protocols, validate  # that refuses what does not fit
from gdm_course import plotting as plot
from gdm_course.autoregressive.gated_pixelcnn import DILATIONS, LabelledDensity
from gdm_course.autoregressive.nade import SoftmaxNADE
from gdm_course.autoregressive.pixelcnn import (
    by_colour,
    channel_groups,
    first_rows,
    of_images,
    output_head,
    scaled,  # codes to [-1, 1], after a look
)
from gdm_course.autoregressive.pixelcnn_sampling import GatedRows, PixelRows, fill_raster
from gdm_course.data import images
from gdm_course.evaluation.likelihood import bits_per_dim, compare, nll, nll_estimate
from gdm_course.training import budget, forever, generator, seed_everything, train
from gdm_course.widgets import play, progress, watch

plot.style()
# %% [markdown]
# ## 1. The question
#
# The same digits as before, but now with all their **17 grey values**. We want the three
# abilities again: Trainable, Sampler and Density, the last one exact. And we want to use
# what everybody knows about pictures: a stroke is a stroke wherever it stands, and what a
# pixel is depends mostly on the pixels around it.

# %%
digits = images.load("digits")
x_train, x_valid, x_test = digits.x_train, digits.x_valid, digits.x_test
K, shape = digits.levels, tuple(x_train.shape[1:])
print(f"{len(x_train)} training images of shape {shape}, values 0 to {x_train.max()}")
ax = plot.image_grid(x_train[:40], columns=20, vmax=K - 1)

# %% [markdown]
# Two neighbours, two baselines. Independent pixels, and NADE with a softmax over the 17
# values, which is the best that the last lecture has for such data. Both know nothing of
# rows and columns. The unit is the nat per image, as always.


# %%
def fit(model, x, steps, lr, B=64):
    """Train on a tensor or a tuple of tensors, the rate falling to 0."""
    training = train(model, forever(x, B), steps, lambda step: lr * (1 - step / steps))
    for _ in progress(training, steps, type(model).__name__):
        pass
    return model.eval()


def fit_best(model, x, x_valid, steps, lr, every=50):
    """As `fit`, but keep the weights that do best on the validation images."""
    rate, best = lambda step: lr * (1 - step / steps), (math.inf, None)
    for step, _ in progress(
        train(model, forever(x, 64), steps, rate), steps, type(model).__name__
    ):
        if step % every == 0 and (found := nll(model, x_valid)) < best[0]:
            best = found, copy.deepcopy(model.state_dict())
    model.load_state_dict(best[1] or model.state_dict())
    return model.eval()


counts = F.one_hot(x_train.flatten(1).long(), K).sum(0) + 0.1  # (64, 17), none exactly 0
frequency = Categorical(probs=counts)
independent = -frequency.log_prob(x_test.flatten(1).long()).sum(1).mean().item()
seed_everything(0)
rows = [x.flatten(1).long() for x in (x_train, x_valid, x_test)]
nade = fit_best(SoftmaxNADE(64, K), *rows[:2], budget(400, 10), lr=3e-3)
nade_nats, error = nll_estimate(nade, rows[2])
print(f"independent pixels {independent:.2f} nats per test digit")
print(f"NADE with softmax  {nade_nats:.2f} +- {error:.2f}, stopped by validation")

# %% [markdown] tags=["notes"]
# Ask how many weights NADE spends on one pixel (17 x 128 in, 128 x 17 out), times 64. The
# last table of this lecture has a column of parameters to compare with. Let the room guess
# which of the two needs more training images.

# %% [markdown]
# ## 2. The idea
#
# Read the image like a page, and lay a small window over the present pixel. The window's
# upper half and the left part of its middle row have been read already. The rest has not,
# and is covered. **The same window** goes to every pixel: one set of weights, applied
# everywhere.

# %%
digit = x_train[12, 0].float() / (K - 1)
axes = plot.panels("pixel 19", "pixel 28", "pixel 45", width=2.3, height=2.4)
for ax, d in zip(axes, (18, 27, 44)):
    row, column = divmod(d, 8)
    picture = torch.where(torch.arange(64).view(8, 8) < d, digit, 0.5)
    plot.image_grid(picture[None], ax)
    frame = [column - 1.5, column + 1.5, column + 1.5, column - 1.5, column - 1.5]
    ax.plot(frame, [row - 1.5, row - 1.5, row + 1.5, row + 1.5, row - 1.5], plot.YELLOW)
    ax.text(column, row, "?", color=plot.YELLOW, size=14, ha="center", va="center")

# %% [markdown]
# A window of nine pixels is small. But windows can be stacked: a second convolution looks
# at features of the first, and so further back. That is where the trouble of section 6
# hides.
#
# ## 3. The mathematics
#
# **The chain rule**, now for an image $x$ with $C$ colours, $H$ rows and $W$ columns. The
# order is row by row, pixel by pixel, and inside a pixel colour by colour:
#
# $$p(x) = \prod_{i=1}^{H}\prod_{j=1}^{W}\prod_{c=1}^{C}
#   p\bigl(x_{cij} \mid \text{rows above},\ x_{\cdot i,<j},\ x_{<c,ij}\bigr). \tag{1}$$
#
# Every factor is a softmax over the $K$ values, and the factors multiply to a proper
# density for the reason you know: sum over the last variable first.
#
# **The mask.** A convolution computes feature $o$ at a pixel from the channels $n$ of the
# pixels around it, $\sum_{n,\delta} w_{on\delta}\,x_{n,\cdot+\delta}$. Let
# $\delta=(\delta_i,\delta_j)$ be the offset of a weight. We keep a weight only if what it
# reads comes earlier:
#
# $$M_{on\delta} = 1 \iff \delta_i < 0\ \text{ or }\
#   (\delta_i = 0,\ \delta_j < 0)\ \text{ or }\
#   (\delta = 0 \text{ and colour rule}). \tag{2}$$
#
# Only the weight in the very middle needs thought. Deal the features out to the colours:
# group $g(o)\in\{1,\dots,C\}$ is what will predict colour $g(o)$. Two rules are used:
#
# - **mask A**, for the first layer, which reads pixels: $g(o) > g(n)$. Green may see red,
#   but not green, for that is what it has to predict.
# - **mask B**, for all other layers, which read features: $g(o)\ge g(n)$. A green feature
#   has *not* seen green, so that green may use it.
#
# *Nothing looks ahead.* Claim: a feature of group $g$ at pixel $(i,j)$ depends only on
# pixels before $(i,j)$ and on colours $<g$ at $(i,j)$. After layer A this is (2). If it
# holds in one layer, then in the next: a feature reads features at earlier pixels, which
# depend on still earlier pixels or on colours of those, all before $(i,j)$; and at $(i,j)$
# itself features of groups $g'\le g$, which depend on colours $<g'\le g$. By induction it
# holds at the output. For grey images $C=1$: mask A drops the middle, mask B keeps it.

# %% [markdown]
# ## 4. Build: PixelCNN
#
# First the two rules of the middle, then (2) itself.


# %% tags=["from:autoregressive.pixelcnn.colour_mask"]
def colour_mask(inputs: Tensor, outputs: Tensor, own: bool) -> Tensor:
    """Say at one pixel which colours see which, (out, in): earlier ones, or also their own.

    Args:
        inputs, outputs: the colour that each channel belongs to, (in,) and (out,).
        own: mask B, which sees its own colour; else mask A, which does not.
    """
    return outputs[:, None] >= inputs if own else outputs[:, None] > inputs


# %% tags=["from:autoregressive.pixelcnn.raster_mask"]
def raster_mask(inputs: Tensor, outputs: Tensor, size: int, own: bool) -> Tensor:
    """Return the mask (out, in, size, size) of a convolution that only looks back: (2)."""
    middle = size // 2
    mask = torch.zeros(len(outputs), len(inputs), size, size, dtype=torch.bool)
    mask[:, :, :middle] = True  # the rows above
    mask[:, :, middle, :middle] = True  # the same row, to the left
    mask[:, :, middle, middle] = colour_mask(inputs, outputs, own)
    return mask


# %%
one = torch.zeros(1, dtype=torch.long)  # a single colour
axes = plot.panels(
    "mask A, grey", "mask B, grey", "A in the middle, RGB", "B, RGB", width=2
)
for ax, own in zip(axes, (False, True)):
    ax.imshow(raster_mask(one, one, 5, own)[0, 0], cmap="Blues", vmin=0, vmax=1.4)
colours, features = torch.arange(3), channel_groups(6, 3)
axes[2].imshow(colour_mask(colours, features, own=False), cmap="Blues", vmax=1.4)
axes[3].imshow(colour_mask(features, features, own=True), cmap="Blues", vmax=1.4)
for ax, side in zip(axes[2:], (3, 6)):
    ax.set(xlabel="from channel", ylabel="to feature", xticks=range(side))
assert raster_mask(one, one, 5, own=False).sum() == 12  # 5 x 5 = 12 before + 1 + 12 after

# %% [markdown]
# A masked convolution is an ordinary one whose weight is multiplied by the mask each time.


# %% tags=["from:autoregressive.pixelcnn.MaskedConv"]
class MaskedConv(nn.Conv2d):
    """A square convolution under the mask A (own=False) or B (own=True) of (2)."""

    def __init__(self, inputs: int, outputs: int, size: int, C: int, *, own: bool = True):
        super().__init__(inputs, outputs, size, padding=size // 2)
        groups = channel_groups(inputs, C), channel_groups(outputs, C)
        self.register_buffer("mask", raster_mask(*groups, size, own), persistent=False)

    def masked_weight(self) -> Tensor:
        """Return the weight with everything forbidden set to 0."""
        return self.weight * self.mask

    def forward(self, x: Tensor) -> Tensor:
        """Convolve, looking back only: (B, in, H, W) -> (B, out, H, W)."""
        return F.conv2d(x, self.masked_weight(), self.bias, padding=self.padding)


# %% [markdown]
# Layers are wrapped into residual blocks: squeeze the features, look around, widen again,
# and add the result, so that gradients reach the first layer undiminished.


# %% tags=["from:autoregressive.pixelcnn.ResidualBlock"]
class ResidualBlock(nn.Module):
    """h + (1x1 after 3x3 after 1x1)(h), half as wide inside, every convolution masked."""

    def __init__(self, features: int, C: int):
        super().__init__()
        inside = max(features // 2, C)
        self.squeeze = MaskedConv(features, inside, 1, C)
        self.look = MaskedConv(inside, inside, 3, C)
        self.widen = MaskedConv(inside, features, 1, C)

    def forward(self, h: Tensor) -> Tensor:
        """Add what the neighbours say: (B, F, H, W) -> (B, F, H, W)."""
        return h + self.widen(F.relu(self.look(F.relu(self.squeeze(F.relu(h))))))


# %% [markdown]
# ## 5. Assemble
#
# What a PixelCNN has besides its network is short, and all variants of this lecture share
# it: read the network's numbers as a distribution (a softmax here, logistics in section
# 10), add up the logarithms (1), take the mean. Sampling hides in `fill_raster`; section 9
# opens it.


# %% tags=["from:autoregressive.pixelcnn.RasterDensity"]
class RasterDensity(nn.Module):
    """All of a PixelCNN but its network: codes 0..K-1, images (B, C, H, W), chain rule (1).

    A subclass maps scaled images and labels to parameters (B, C, H, W, P) in `forward`,
    and does the same pixel by pixel in the object that its `rows(n, y)` returns.
    """

    def __init__(self, shape: Sequence[int], K: int):
        super().__init__()
        self.shape, self.K = of_images(shape, K)

    @property
    def outputs(self) -> int:
        """How many numbers P the network gives per conditional."""
        return self.K

    def distribution(self, parameters: Tensor) -> Distribution:
        """Read (..., K) numbers as the logits of a softmax over the K values."""
        return Categorical(logits=parameters, validate_args=False)

    def conditionals(self, x: Tensor, y: Tensor | None = None) -> Distribution:
        """Return p(x_d | x_<d, y) for all d in one pass: batch shape (B, C, H, W)."""
        return self.distribution(self(scaled(x, self), y))

    def log_prob(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """Return log p(x) or log p(x | y) in nats: (B, C, H, W) -> (B,)."""
        return self.conditionals(x, y).log_prob(x).flatten(1).sum(1)

    def loss(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """Return the mean negative log-likelihood in nats per image."""
        return -self.log_prob(x, y).mean()

    @torch.no_grad()
    def sample(self, n: int, y: Tensor | None = None, given: Tensor | None = None):
        """Draw n images (n, C, H, W), with labels y (n,) if the model has classes.

        `given` are codes (n, C, R, W) of the first R rows, which are kept: in-painting.
        """
        given = first_rows(self, validate.count(n), given)
        return fill_raster(self, self.rows(n, y), given)


# %% tags=["from:autoregressive.pixelcnn.PixelCNN"]
class PixelCNN(RasterDensity):
    """Masked convolutions: one A, then residual blocks of B. It has a blind spot.

    Args:
        shape: (C, H, W) of an image.
        K: number of values of a pixel.
        features: channels inside; layers: residual blocks; size: of the first convolution.

    References:
        van den Oord, Kalchbrenner, Kavukcuoglu (2016). arXiv:1601.06759.
    """

    def __init__(self, shape, K=256, *, features=64, layers=5, size=7):
        super().__init__(shape, K)
        validate.at_least(1, features=features, size=size)
        validate.at_least(1, layers=layers)
        C = self.shape[0]
        self.first = MaskedConv(C, features, size, C, own=False)
        self.blocks = nn.ModuleList(ResidualBlock(features, C) for _ in range(layers))
        self.head = output_head(features, self.outputs, C)

    def forward(self, x: Tensor, y: None = None) -> Tensor:
        """Return the parameters of all conditionals: (B, C, H, W) -> (B, C, H, W, P)."""
        validate.labels(y, 0, len(x))  # it takes none
        h = self.first(validate.points(x, self.shape, self))
        for block in self.blocks:
            h = block(h)
        return by_colour(self.head(h), self.shape[0])

    def rows(self, n: int, y: None = None) -> PixelRows:
        """Return the cache that computes `forward` one pixel at a time."""
        validate.labels(y, 0, n)
        return PixelRows(self, n)


# %% [markdown]
# Before any training, the two exact tests of the family. The probabilities of all images
# sum to 1: here all $3^6$ images of two rows, three columns and three values, and all
# $2^{8}$ images of two colours. And the Jacobian of the network's numbers, pixels in raster
# order, is strictly lower triangular.

# %%
for small, levels in (((1, 2, 3), 3), ((2, 2, 2), 2)):
    seed_everything(0)
    model = PixelCNN(small, levels, features=8, layers=2, size=3).double()
    every = torch.tensor(list(itertools.product(range(levels), repeat=math.prod(small))))
    total = model.log_prob(every.view(-1, *small)).exp().sum().item()
    assert abs(total - 1) < 1e-9
    print(f"{small}: {len(every)} images, sum of probabilities {total:.9f}")

seed_everything(0)
model = PixelCNN((1, 4, 4), 2, features=16, layers=2, size=3)
x = torch.randn(1, 1, 4, 4, requires_grad=True)
by_pixel = model(x)[0].abs().sum(-1).flatten()  # one number per conditional
J = torch.stack(
    [torch.autograd.grad(f, x, retain_graph=True)[0].flatten() for f in by_pixel]
)
assert (J.triu() == 0).all() and (J.tril(-1) != 0).any()
(ax,) = plot.panels("d parameters(d) / d x(k)", width=3.2)
ax.imshow(J != 0, cmap="Blues")
_ = ax.set(xlabel="pixel k", ylabel="conditional d")

# %% [markdown]
# ## 6. Break it: the blind spot
#
# Look at that matrix again. It is strictly lower triangular, and it has *holes* below the
# diagonal. Those conditionals are legal but short-sighted. Which pixels are missing?
# Autograd knows: differentiate one conditional by the whole image, and colour every pixel
# that has any influence.


# %%
def field(model, row, column, trials=3):
    """Which pixels of an image (H, W) can influence the conditional at (row, column)."""
    seen = 0
    for seed in range(trials):  # a rectified unit may be silent for one image
        g = generator(seed)
        x = torch.randn(1, *model.shape, generator=g).requires_grad_()
        model(x)[0, 0, row, column].abs().sum().backward()
        seen = seen + x.grad[0, 0].abs()
    return seen > 0


def draw_field(model, row, column, ax):
    """Draw the receptive field blue, the pixel itself orange, blind past pixels grey."""
    H, W = model.shape[1:]
    seen, at = field(model, row, column), torch.arange(H * W).view(H, W)
    past = at < row * W + column
    picture = torch.ones(H, W, 3)
    picture[past] = torch.tensor([0.75, 0.75, 0.75])
    picture[seen] = torch.tensor([0.0, 0.45, 0.70])
    picture[row, column] = torch.tensor([0.90, 0.62, 0.0])
    ax.imshow(picture)
    ax.set(xticks=[], yticks=[])
    return int((past & ~seen).sum())


axes = plot.panels("1 block", "3 blocks", "6 blocks", width=2.4, height=2.5)
for ax, layers in zip(axes, (1, 3, 6)):
    seed_everything(0)
    deep = PixelCNN((1, 11, 11), 2, features=16, layers=layers, size=3)
    blind = draw_field(deep, 6, 5, ax)
    ax.set_xlabel(f"{blind} past pixels are not seen")

# %% [markdown]
# A grey wedge on the right remains, however deep the network. Why? Follow a path from the
# pixel back through the layers. Each $3\times 3$ layer moves the reader by an allowed
# offset of (2): straight left, or one row up and at most one column to the right. So each
# step to the right costs one row. After any number of steps,
#
# $$(i - a,\ j + b)\ \text{ is visible only if }\ b \le a: \tag{3}$$
#
# all that lies closer to the right than 45 degrees is **blind**, one eighth of the plane
# and a quarter of the past. Stacking helps to look far, never to look there.
#
# Does it matter? Here is a world in which it does, and whose density we know. It rains in
# the wind: the top row is random, and every further pixel copies, with probability 0.95,
# the pixel one row up and **two** columns to the right. Pixels that have no such neighbour
# are fair coins. The truth has the entropy
#
# $$\mathbb H = n_\text{coins}\log 2 + n_\text{copies}\,
#   \bigl(-0.95\log 0.95 - 0.05\log 0.05\bigr).$$


# %%
def rain(n, H=8, W=8, wind=2, p=0.95):
    """Draw n images (n, 1, H, W) in which drops fall one row down and `wind` left."""
    x = torch.randint(2, (n, 1, H, W))
    for i in range(1, H):
        source = x[:, :, i - 1, wind:]
        x[:, :, i, : W - wind] = torch.where(
            torch.rand(source.shape) < p, source, 1 - source
        )
    return x


def rain_log_prob(x, wind=2, p=0.95):
    """Return log p(x) of the rain, in nats: (B, 1, H, W) -> (B,)."""
    copied = (x[:, 0, 1:, :-wind] == x[:, 0, :-1, wind:]).flatten(1).double()
    coins = x[0].numel() - copied.shape[1]
    terms = copied * math.log(p) + (1 - copied) * math.log(1 - p)
    return terms.sum(1) - coins * math.log(2)


seed_everything(0)
drops, new_drops = rain(4000), rain(2000)
truth = -rain_log_prob(new_drops).mean().item()
blind_model = PixelCNN((1, 8, 8), 2, features=32, layers=3, size=3)
fit(blind_model, drops, budget(150, 5), lr=1e-2)
print(f"entropy, measured on {len(new_drops)} new images: {truth:.2f} nats")
print(f"64 fair coins:                            {64 * math.log(2):.2f}")
print(f"PixelCNN with 3x3 windows:                {nll(blind_model, new_drops):.2f}")

# %% [markdown]
# The model has learned *nothing at all*: its likelihood is that of fair coins. Every
# pixel's only cause lies in the blind spot, and so do the causes of its causes. A longer
# training or a deeper network would not change a digit.
#
# **Quiz 1.** We used $3\times 3$ windows throughout. Would a first layer of $7\times 7$
# repair this world? Would it repair the blind spot?
#
# <details><summary>Answer</summary>
#
# This world yes: a $7\times 7$ window reads three columns to the right in the row above,
# and the wind blows over two. The blind spot no: with the first layer reading $r$ columns
# to the right in the row above, the pixel $r + 1$ columns to the right in that row is blind
# again, since all other layers still pay one row per column. The defect moved, so a wind of
# four columns brings it back.
# </details>
#
# ## 7. Repair: two stacks
#
# The blind spot comes from asking *one* feature map to do two jobs: a feature at $(i,j-1)$
# must not have seen what lies right of it in its own row, so it cannot tell $(i,j)$ about
# it, though for $(i,j)$ the rows above are all past. Use two maps (van den Oord and others,
# 2016):
#
# - a **vertical** stack $v$, where $v_{ij}$ knows *complete rows* above row $i$. Inside
#   those rows everything is past, so its convolutions look left and right freely. No mask.
# - a **horizontal** stack $h$, which looks along its own row to the left, and takes in
#   $v_{ij}$ at every layer.
#
# Information flows from $v$ to $h$, never back: $h_{ij}$ knows $x_{i,<j}$, and $v$ must
# not.
#
# The second idea of that paper is the **gate**. The PixelRNN, slower and better, multiplied
# its signals as an LSTM does. So let half of the channels carry a signal and the other half
# decide how much of it passes:
#
# $$\operatorname{gate}(a, b) = \tanh(a)\odot\sigma(b). \tag{4}$$
#
# With convolutions $D_\ell$ (down from the rows above), $R_\ell$ (right, along the row) and
# the one by one convolutions $A_\ell$ (across) and $Q_\ell$ (merge), one layer is
#
# $$v_{\ell+1} = v_\ell + \operatorname{gate}(D_\ell v_\ell),\qquad
#   h_{\ell+1} = h_\ell + Q_\ell\operatorname{gate}(R_\ell h_\ell + A_\ell D_\ell v_\ell).
#   \tag{5}$$


# %% tags=["from:autoregressive.gated_pixelcnn.gate"]
def gate(a: Tensor) -> Tensor:
    """Return tanh(first half) * sigmoid(second half) of the channels: (4)."""
    signal, valve = a.chunk(2, dim=1)
    return torch.tanh(signal) * torch.sigmoid(valve)


# %% [markdown]
# A mask spends multiplications on zeros. Since $D_\ell$ never reads below the present row,
# we give it two rows of weights and shift the picture; $R_\ell$ gets its own row only. The
# colour rule applies to the last tap of $R_\ell$. `dilation` spreads the taps: with
# distances 1, 2, 1, 4 the field grows fast with few layers.


# %% tags=["from:autoregressive.gated_pixelcnn.RowConv"]
class RowConv(nn.Conv2d):
    """A masked convolution along the row: T taps, of which the last is the present pixel.

    Args:
        copies: the output is that many times `outputs` channels, each dealt to the colours
            in the same way (two for a gate).
    """

    def __init__(self, inputs, outputs, taps, C, *, own=True, dilation=1, copies=1):
        super().__init__(inputs, copies * outputs, (1, taps), dilation=(1, dilation))
        groups = channel_groups(inputs, C), channel_groups(outputs, C).repeat(copies)
        mask = torch.ones(*self.weight.shape, dtype=torch.bool)
        mask[:, :, 0, -1] = colour_mask(*groups, own)
        self.register_buffer("mask", mask, persistent=False)
        self.back = dilation * (taps - 1)

    masked_weight = MaskedConv.masked_weight

    def forward(self, x: Tensor) -> Tensor:
        """Convolve along rows, looking back only: (B, in, H, W) -> (B, out, H, W)."""
        x = F.pad(x, (self.back, 0))
        return F.conv2d(x, self.masked_weight(), self.bias, dilation=self.dilation)


# %% tags=["from:autoregressive.gated_pixelcnn.GatedLayer"]
class GatedLayer(nn.Module):
    """One layer of both stacks: v sees all rows above, h the row itself and v: (4), (5).

    Args:
        dilation: distance of the taps of the two 3-wide convolutions.
        classes: number of labels, or 0.
    """

    def __init__(self, features, C, dilation=1, classes=0, dropout=0.0):
        super().__init__()
        self.dilation, self.dropout = dilation, dropout
        self.down = nn.Conv2d(features, 2 * features, (2, 3), dilation=dilation)
        self.across = nn.Conv2d(2 * features, 2 * features, 1)
        self.right = RowConv(features, features, 2, C, dilation=dilation, copies=2)
        self.merge = MaskedConv(features, features, 1, C)
        some = validate.count(classes, "classes") > 0
        self.label = nn.Embedding(classes, 2 * features) if some else None

    def label_of(self, y: Tensor | None) -> Tensor | float:
        """Return what the labels add to the gates (B, 2 F, 1, 1), or 0 without labels."""
        return 0.0 if self.label is None else self.label(y)[:, :, None, None]

    def forward(self, v: Tensor, h: Tensor, y: Tensor | None) -> tuple[Tensor, Tensor]:
        """Carry both stacks on: two tensors (B, F, H, W) and labels (B,)."""
        d = self.dilation
        v_gates = self.down(F.pad(v, (d, d, d, 0))) + self.label_of(y)
        h_new = gate(self.right(h) + self.across(v_gates))
        h_new = F.dropout(h_new, self.dropout, self.training)
        return v + gate(v_gates), h + self.merge(h_new)


# %% [markdown]
# The label $y$ waits for section 11. It belongs to the density: a model of images with
# labels knows $p(x\mid y)$, and if nobody tells it the label, the honest answer is the
# average $p(x)=\frac1{|Y|}\sum_y p(x\mid y)$. That much `LabelledDensity` adds to the class
# of section 5.


# %% tags=["from:autoregressive.gated_pixelcnn.GatedPixelCNN"]
class GatedPixelCNN(LabelledDensity):
    """Two gated stacks: a vertical one for the rows above, a horizontal one for the row.

    Args:
        features: channels of each stack; dilations: one per layer; size: of the first
            convolution; classes: number of labels, or 0; dropout: of the gates' output.
    """

    def __init__(
        self,
        shape,
        K=256,
        *,
        features=64,
        dilations=DILATIONS,
        size=7,
        classes=0,
        dropout=0.0,
    ):
        super().__init__(shape, K)
        validate.at_least(1, features=features, dilations=dilations, size=size)
        C, r, self.classes = self.shape[0], size // 2, classes
        self.above = nn.Conv2d(C, features, (r, size), padding=(r, r))
        self.left = RowConv(C, features, r + 1, C, own=False)
        layers = [GatedLayer(features, C, d, classes, dropout) for d in dilations]
        self.layers = nn.ModuleList(layers)
        self.head = output_head(features, self.outputs, C)

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """Return the parameters of all conditionals: (B, C, H, W) -> (B, C, H, W, P)."""
        x = validate.points(x, self.shape, self)
        v = self.above(x)[:, :, : x.shape[2]]  # row i of v has seen the rows before i
        h, y = self.left(x), validate.labels(y, self.classes, len(x))
        for layer in self.layers:
            v, h = layer(v, h, y)
        return by_colour(self.head(h), self.shape[0])

    def rows(self, n: int, y: Tensor | None = None) -> GatedRows:
        """Return the cache of one pixel at a time; labels are drawn if none are given."""
        return GatedRows(self, n, self.labels(n, y), gate)


# %% [markdown]
# First the sum over all images again, since a new network is a new chance to peek. Then the
# rain.

# %%
seed_everything(0)
model = GatedPixelCNN((2, 2, 2), 2, features=8, dilations=(1, 1), size=3).double()
every = torch.tensor(list(itertools.product(range(2), repeat=8))).view(-1, 2, 2, 2)
assert abs(model.log_prob(every).exp().sum().item() - 1) < 1e-9

seed_everything(0)
two_stacks = GatedPixelCNN((1, 8, 8), 2, features=16, dilations=(1, 1, 1), size=3)
fit(two_stacks, drops, budget(200, 5), lr=1e-2)
repaired = nll(two_stacks, new_drops)
print(f"entropy {truth:.2f}, one stack {nll(blind_model, new_drops):.2f}")
print(f"two stacks {repaired:.2f} nats")
if budget(True, False):
    assert repaired < truth + 1.5  # close to the truth, which nobody can undercut
axes = plot.panels("the truth", "one stack", "two stacks", width=3)
for ax, x in zip(axes, (drops[:9], blind_model.sample(9), two_stacks.sample(9))):
    plot.image_grid(x, ax, vmax=1)

# %% [markdown]
# ### Play: how far back?
#
# Move the sliders: the number of layers, and the pixel that is predicted. On the left the
# masked convolutions, on the right the two stacks with the same number of layers. Grey is
# past but blind. Can you find a pixel for which the left model sees everything?


# %%
def compare_fields(layers, row, column):
    """Draw the receptive fields of both architectures for one pixel."""
    seed_everything(0)
    left, right = plot.panels("one masked stack", "two stacks", width=3.2)
    one = PixelCNN((1, 11, 11), 2, features=16, layers=layers, size=3)
    two = GatedPixelCNN((1, 11, 11), 2, features=8, dilations=(1,) * layers, size=3)
    for model, ax in ((one, left), (two, right)):
        blind = draw_field(model, row, column, ax)
        ax.set_xlabel(f"{layers} layers: {blind} past pixels not seen")


play(compare_fields, layers=(1, 10, 1, 4), row=(0, 10, 1, 7), column=(0, 10, 1, 5))

# %% [markdown]
# ## 8. Train: digits
#
# The gated network on 17 grey values, live. It has fewer weights than NADE, and every stroke
# of every digit trains the same ones.

# %%
seed_everything(0)
options = {"features": 32, "dilations": (1, 2, 1), "size": 5}
gated = GatedPixelCNN(shape, K, **options)
steps = budget(full=350, smoke=10)
rate = lambda step: 5e-3 * (1 - step / steps)
show = {"samples": lambda ax: plot.image_grid(gated.sample(36), ax, vmax=K - 1)}
for _ in watch(train(gated, forever(x_train, 64), steps, rate), every=50, panels=show):
    pass
gated_nats, error = nll_estimate(gated.eval(), x_test)
print(f"gated PixelCNN {gated_nats:.2f} +- {error:.2f} nats per test digit")
if budget(True, False):
    assert gated_nats < nade_nats - 3

# %% [markdown]
# **The probability of each pixel as a picture.** Since every conditional is at hand, we can
# ask of every pixel what the model expected there (the mean of its distribution), how
# surprised it was, $-\log p(x_d\mid x_{<d})$, and how uncertain it *knew* itself to be: the
# entropy of its distribution, which does not know $x_d$. **Predict:** where do the last two
# differ?

# %%
with torch.no_grad():
    told = gated.conditionals(x_test[:16])
    surprise, doubt = -told.log_prob(x_test[:16]), told.entropy()  # (16, 1, 8, 8) nats
    expected = told.probs @ torch.arange(K).float()
titles = "test digits", "expected value", "surprise: white is 4 nats", "entropy, same scale"
pictures = (x_test[:16], K - 1), (expected, K - 1), (surprise, 4.0), (doubt, 4.0)
for ax, (x, top) in zip(plot.panels(*titles, width=2.5), pictures):
    plot.image_grid(x, ax, vmax=top)
for name, map_ in {"surprise": surprise, "entropy": doubt}.items():
    print(f"{name:9s} mean {map_.mean():.3f}, spread {map_.std():.3f} nats per pixel")
with torch.no_grad():
    black = gated.conditionals(x_test).probs[..., 0].flatten()  # of value 0, told before
is_black = (x_test.flatten() == 0).double()
print("told P(black)  happened   pixels")
for low in (0.0, 0.2, 0.4, 0.6, 0.8):
    here = (black >= low) & (black < low + 0.2 + (low == 0.8))
    told_here, happened = black[here].mean().item(), is_black[here].mean().item()
    print(f"{told_here:13.2f}{happened:10.2f}{int(here.sum()):9,}")

# %% [markdown]
# Entropy is smooth and never very large; surprise is small at most pixels and large at a few:
# its spread is larger. Where a stroke begins or ends the model knows *that* it does not know,
# and the surprise shows what came. Their means are near each other, which a model that
# learned its training digits by heart would not manage; but equal means are not yet
# **calibration**. That is the table: of all pixels that were told to be black with 70 %,
# about 70 % should be black.
#
# ## 9. Sampling without waste
#
# The straightforward sampler runs the whole network once per pixel and throws all but one
# pixel of the result away. `sample` does better. A convolution is a sum over taps: those in
# finished rows are computed **for a whole row at once**, and for the pixel itself only the
# taps along its own row remain, which is one small matrix product:


# %% tags=["from:autoregressive.pixelcnn_sampling.LeftWindow"]
class LeftWindow:
    """The part of a convolution that looks along the row being drawn.

    Args:
        weight: taps (out, in, T); the last one is the present pixel.
        n, W: number of images, and of pixels in a row.
        dilation: distance of the taps.
    """

    def __init__(self, weight: Tensor, n: int, W: int, dilation: int = 1):
        self.weight = weight.permute(2, 1, 0).flatten(0, 1).contiguous()  # (T in, out)
        self.step, self.back = dilation, dilation * (weight.shape[2] - 1)
        self.row = weight.new_zeros(n, self.back + W, weight.shape[1])

    def finished(self) -> Tensor:
        """Return all inputs of the row (n, in, W)."""
        return self.row[:, self.back :].mT

    def start_row(self, terms: Tensor) -> None:
        """Begin a row with what comes from elsewhere: (n, out, W)."""
        self.terms = terms.permute(2, 0, 1).contiguous()

    def put(self, h: Tensor, j: int) -> None:
        """Take in the input (n, in) of pixel j."""
        self.row[:, j + self.back] = h

    def at(self, j: int) -> Tensor:
        """Return the output (n, out) at pixel j."""
        window = self.row[:, j : j + self.back + 1 : self.step].flatten(1)  # (n, T in)
        return torch.addmm(self.terms[j], window, self.weight)

    def __call__(self, h: Tensor, j: int) -> Tensor:
        """Take in the input (n, in) of pixel j and return its output (n, out)."""
        self.put(h, j)
        return self.at(j)


# %% [markdown]
# Every feature is computed exactly once, as in MADE's `fill`. Is it the same model? Record
# what the cached sampler saw when it drew, and compare with one full pass over the result.
# Then take the time on images of MNIST's size.


# %%
def naive_sample(model, n):
    """Draw n images with one full forward pass per pixel (grey images)."""
    x = torch.zeros(n, *model.shape, dtype=torch.long)
    for i, j in itertools.product(range(model.shape[1]), range(model.shape[2])):
        x[:, :, i, j] = model.conditionals(x).sample()[:, :, i, j]
    return x


seen = []


def record(parameters):
    """Read parameters as a softmax, and remember them."""
    seen.append(parameters)
    return Categorical(logits=parameters)


gated.distribution = record
x = gated.sample(5)
del gated.distribution  # the class's own method is back
with torch.no_grad():
    full = gated(scaled(x, gated)).flatten(1, 3)  # (5, 64, 17)
assert torch.allclose(torch.stack(seen, dim=1), full, atol=1e-4)

seed_everything(0)
side = budget(28, 8)
large = GatedPixelCNN((1, side, side), 2, features=16, dilations=(1, 2), size=3)
began = time.perf_counter()
large.sample(1)
middle = time.perf_counter()
with torch.no_grad():
    naive_sample(large, 1)
naive, cached = time.perf_counter() - middle, middle - began
print(f"one {side}x{side} image: naive {naive:.2f} s, cached {cached:.2f} s")

# %% [markdown]
# The sequence stays: 784 pixels one after the other. On a GPU a sample costs 784 rounds of
# tiny operations, so draw many images at once.
#
# ## 10. A softmax, or logistics?
#
# The softmax over $K$ values does not know that 7 lies between 6 and 8. For 256 values and
# few images that is a waste: value 201 must be learned separately from value 200.
# PixelCNN++ (Salimans and others, 2017) lets the network give a *mixture of logistics* and
# cuts its line into $K$ bins. With values $v\in[-1,1]$, half a bin $r = 1/(K-1)$ and the
# logistic distribution function $\sigma((v-\mu)/s)$,
#
# $$P(x) = \sum_m \pi_m\left[\sigma\Bigl(\frac{v + r - \mu_m}{s_m}\Bigr)
#        - \sigma\Bigl(\frac{v - r - \mu_m}{s_m}\Bigr)\right], \tag{6}$$
#
# where the two outer bins reach to infinity, so that the sum over all $x$ telescopes to 1.
# Three numbers per component replace $K$ logits: five components are 15 numbers, a saving
# at $K = 256$, hardly one at our 17.
#
# Computed as written, (6) fails: far from $\mu$ both sigmoids round to the same number, and
# $\log 0$ is the loss. Most code mends this with an epsilon. There is an exact form. Write
# the bin's ends as $a<b$. Since $\sigma(t)=e^t/(1+e^t)$ and $\sigma(-t) = 1/(1+e^t)$,
#
# $$\sigma(b)-\sigma(a) = \frac{e^b(1+e^a) - e^a(1+e^b)}{(1+e^a)(1+e^b)}
#   = \frac{e^b - e^a}{(1+e^a)(1+e^b)} = \frac{e^b}{1+e^b}\cdot\frac{1}{1+e^a}
#     \cdot\bigl(1 - e^{a-b}\bigr),$$
#
# that is,
#
# $$\log\bigl[\sigma(b)-\sigma(a)\bigr] = \log\sigma(b) + \log\sigma(-a)
#   + \log\bigl(1 - e^{-2r/s}\bigr), \tag{7}$$
#
# a sum of three logarithms that never overflow. For the lowest value $a=-\infty$: only
# $\log\sigma(b)$ stays. For the highest only $\log\sigma(-a)$.


# %% tags=["from:autoregressive.logistics.DiscretisedLogistics"]
class DiscretisedLogistics(Distribution):
    """Codes 0..K-1 from a mixture of logistics whose line is cut into K bins: (6).

    P(x) = sum_m pi_m [sigma((v + r - mu_m) / s_m) - sigma((v - r - mu_m) / s_m)] with
    v = 2 x / (K - 1) - 1 and half a bin r = 1 / (K - 1); the outer bins reach to infinity.

    Args:
        parameters: logits of pi, means mu and log scales log s, side by side (..., 3 M).
        K: number of values.
    """

    def __init__(self, parameters: Tensor, K: int):
        self.logits, self.mu, log_s = parameters.chunk(3, dim=-1)  # (..., M) each
        self.K, self.log_s = K, log_s.clamp(-20, 20)  # exp of more is inf
        super().__init__(parameters.shape[:-1], validate_args=False)

    def log_prob(self, x: Tensor) -> Tensor:
        """Return log P(x) in nats by the stable form (7): codes (...) -> (...)."""
        r, narrow = 1 / (self.K - 1), torch.exp(-self.log_s)
        v = (2 * r * validate.codes(x, self.K).to(self.mu.dtype) - 1)[..., None]
        above = logsigmoid((v + r - self.mu) * narrow).masked_fill(v > 1 - r, 0)
        below = logsigmoid((self.mu - v + r) * narrow).masked_fill(v < r - 1, 0)
        gap = torch.log(-torch.expm1(-2 * r * narrow)).masked_fill(v.abs() > 1 - r, 0)
        return torch.logsumexp(self.logits.log_softmax(-1) + above + below + gap, dim=-1)

    @property
    def probs(self) -> Tensor:
        """Return the probabilities of all codes (..., K)."""
        every = torch.arange(self.K, device=self.mu.device)
        return self.log_prob(every.view(-1, *[1] * (self.mu.ndim - 1))).movedim(0, -1).exp()

    def sample(self, sample_shape: torch.Size = ()) -> Tensor:
        """Draw a component, then a point of it, then round to the nearest code."""
        weights = Categorical(logits=self.logits, validate_args=False)
        chosen = weights.sample(sample_shape)[..., None]
        shape = *chosen.shape[:-1], -1
        mu = self.mu.expand(shape).gather(-1, chosen).squeeze(-1)
        log_s = self.log_s.expand(shape).gather(-1, chosen).squeeze(-1)
        v = mu + log_s.exp() * torch.logit(torch.rand_like(mu).clamp(1e-6, 1 - 1e-6))
        return ((v + 1) * (self.K - 1) / 2).round().clamp(0, self.K - 1).long()


# %%
far = torch.tensor([0.0, 0.9, -5.0])  # one component at 0.9, scale e^-5
v, r = 2 * torch.tensor(3) / 255 - 1, 1 / 255  # value 3 of 256, far to the left
plain = torch.sigmoid((v + r - 0.9) * math.exp(5)) - torch.sigmoid(
    (v - r - 0.9) * math.exp(5)
)
exact = DiscretisedLogistics(far, 256).log_prob(torch.tensor(3))
print(f"log of the difference: {plain.log():.1f}; by (7): {exact:.1f} nats")
assert plain == 0 and exact.isfinite()
total = DiscretisedLogistics(far, 256).log_prob(torch.arange(256)).exp().sum()
assert abs(total.item() - 1) < 1e-4

# %% [markdown]
# The variant of the model is a class of two short methods, the network stays.


# %% tags=["from:autoregressive.gated_pixelcnn.LogisticPixelCNN"]
class LogisticPixelCNN(GatedPixelCNN):
    """A gated PixelCNN whose conditionals are mixtures of five discretised logistics.

    References:
        Salimans, Karpathy, Chen, Kingma (2017). PixelCNN++. arXiv:1701.05517.
    """

    components = 5

    @property
    def outputs(self) -> int:
        """Return the numbers per conditional: weight, mean and scale of each part."""
        return 3 * self.components

    def distribution(self, parameters: Tensor) -> DiscretisedLogistics:
        """Read (..., 3 M) numbers as a mixture, cut into K bins."""
        return DiscretisedLogistics(parameters, self.K)


# %% [markdown]
# Folklore says that one or the other is better, above all when there are few images. Measured:
# the same network with both outputs, once on all training digits and once on an eighth of
# them, where each is stopped when the validation digits say so. **Predict:** in which row
# will the two differ more?

# %%
seed_everything(0)
logistic = fit(LogisticPixelCNN(shape, K, **options), x_train, budget(350, 10), lr=5e-3)
few = x_train[torch.randperm(len(x_train))[: len(x_train) // 8]]
outputs = {}
for model_class in (GatedPixelCNN, LogisticPixelCNN):
    seed_everything(0)
    model = model_class(shape, K, **options)
    outputs[model_class] = fit_best(model, few, x_valid, budget(160, 5), 5e-3, every=20)
print(f"{'nats per test digit':22s}{'softmax':>10s}{'logistics':>12s}{'paired':>10s}")
for images_seen, pair in {
    len(x_train): (gated, logistic),
    len(few): outputs.values(),
}.items():
    softmax, logistics = pair
    more, paired = compare(logistics, softmax, x_test)
    both = f"{nll(softmax, x_test):21.2f}{nll(logistics, x_test):12.2f}"
    print(f"{images_seen:5d} images{both}{more:+10.2f} +- {paired:.2f}")

with torch.no_grad():
    bars = [m.conditionals(x_test[2:3]).probs[0, 0] for m in (gated, logistic)]  # (8, 8, K)
places = [(0, 3), (3, 3), (4, 4), (6, 2)]
axes = plot.panels(*(f"row {i}, column {j}" for i, j in places), width=2.6, height=2.2)
for ax, (i, j) in zip(axes, places):
    ax.bar(torch.arange(K), bars[0][i, j], color=plot.SKY, label="softmax")
    ax.step(
        torch.arange(K), bars[1][i, j], where="mid", color=plot.ORANGE, label="logistics"
    )
    ax.axvline(x_test[2, 0, i, j], color=plot.BLACK, linewidth=1, linestyle=":")
    ax.set(xlabel="grey value")
axes[0].set_ylabel("probability")
_ = axes[0].legend()

# %% [markdown]
# In neither. The last column is the gain of the logistics, digit by digit, with its error: it is
# a few tenths of a nat, and with a second seed we found it of the other sign. (Stop both after
# the same few steps instead, and the logistics look several nats better on few images: they
# *start* faster.) What the order is worth with 256 values, we have not measured. In the figure the dotted line is the true
# value: the softmax may put its mass on single values as it likes, while the logistics bend
# from bin to bin, and reach near certainty only at the ends, by a mean outside of the
# range.
#
# **Quiz 2.** On binary images ($K = 2$), which of the two outputs can represent more
# distributions?
#
# <details><summary>Answer</summary>
#
# Neither. A distribution on two values is one number, and both can give any number between
# 0 and 1: one logistic alone does, with bins $(-\infty, 0)$ and $(0,\infty)$ and
# $P(1) = \sigma(\mu/s)$. The outputs differ in what is *easy* to learn, not in what is
# possible, whenever the mixture has as many components as there are values.
# </details>
#
# ## 11. Conditioning: which digit, please?
#
# A label enters as a bias of the gates: $D_\ell v_\ell + e_\ell(y)$ in (5), with a learned
# vector $e_\ell(y)$ for each label and layer, the same at every pixel. Through $A_\ell$ it
# reaches the horizontal stack as well. Nothing else changes, for (1) holds word for word
# given $y$. Training hands over pairs (image, label).

# %%
seed_everything(0)
labelled = GatedPixelCNN(shape, K, classes=10, **options)
fit(labelled, (x_train, digits.y_train), budget(350, 10), lr=5e-3)
given_label, _ = nll_estimate(labelled, (x_test, digits.y_test))
print(f"log p(x | y): {given_label:.2f} nats; without labels {gated_nats:.2f}")
x = labelled.sample(100, torch.arange(10).repeat(10))
(ax,) = plot.panels("one column per label", width=4.2, height=4.2)
_ = plot.image_grid(x, ax, columns=10, vmax=K - 1)

# %% [markdown]
# How much *can* a label be worth? Since $p(x) \ge \tfrac1{10}\,p(x\mid y)$ for the mean
# over ten labels, $\log p(x\mid y) - \log p(x)\le\log 10 = 2.30$ nats, for every image. If
# the labelled network gains more than that on the one without labels, the surplus is not
# information about the image at hand: the labels have made it *learn* better.
# The next cell tells the two apart.
#
# A density that knows its labels is a classifier, by the rule of Bayes: for equally
# frequent labels $p(y\mid x)\propto p(x\mid y)$. It was never trained to classify.

# %%
with torch.no_grad():
    each = labelled.eval().log_prob_each(x_test)  # (N, 10) nats
accuracy = (each.argmax(1) == digits.y_test).float().mean().item()
print(f"accuracy of argmax log p(x | y): {accuracy:.1%} on {len(x_test)} test digits")
mixture = nll(labelled, x_test)
print(f"p(x), the mean of p(x | y): {mixture:.2f} nats; trained without: {gated_nats:.2f}")
print(f"the label itself is worth {mixture - given_label:.2f}, at most {math.log(10):.2f}")
assert mixture - given_label < math.log(10) + 1e-3
if budget(True, False):
    assert accuracy > 0.8

# %% [markdown]
# ## 12. In-painting
#
# Raster order has a gift. Given the upper half of an image, the lower half is drawn from
# the exact conditional $p(x_\text{lower}\mid x_\text{upper})$: simply begin in the middle.
# (Given the *lower* half it is hard, for the model factorises the other way round.)

# %%
which = torch.tensor([0, 3, 5, 8, 11, 14])
upper = x_test[which, :, :4]
seed_everything(0)
rows = [F.pad(upper.float(), (0, 0, 0, 4), value=(K - 1) / 2), x_test[which].float()]
rows += [gated.sample(len(which), given=upper).float() for _ in range(4)]
titles = "upper half", "the original", *(f"draw {k}" for k in range(1, 5))
for ax, x in zip(plot.panels(*titles, columns=6, width=1.3, height=5), rows):
    plot.image_grid(x, ax, columns=1, vmax=K - 1)

# %% [markdown]
# ## 13. Colours
#
# The groups of (2) have not been used yet. A test with a known truth: in every pixel red is
# a fair coin, green copies red with probability 0.9, and blue is the *exclusive or* of
# both. Neighbours say nothing; all is in the order of the colours. The truth costs
# $\log 2 + \mathbb H(0.1) + 0$ nats per pixel.

# %%
seed_everything(0)
red = torch.randint(2, (3000, 4, 4))
green = torch.where(torch.rand(red.shape) < 0.9, red, 1 - red)
colour = torch.stack([red, green, red ^ green], dim=1)  # (N, 3, 4, 4)
h = -0.9 * math.log(0.9) - 0.1 * math.log(0.1)
truth = 16 * torch.tensor([math.log(2), h, 0.0])
model = fit(
    GatedPixelCNN((3, 4, 4), 2, features=24, dilations=(1,), size=3),
    colour,
    budget(200, 5),
    1e-2,
)
red = torch.randint(2, (1000, 4, 4))  # fresh ones, to measure on
green = torch.where(torch.rand(red.shape) < 0.9, red, 1 - red)
fresh = torch.stack([red, green, red ^ green], dim=1)
with torch.no_grad():
    parts = -model.conditionals(fresh).log_prob(fresh).sum((2, 3)).mean(0)
for name, is_, should in zip(("red", "green", "blue"), parts, truth):
    print(f"{name:6s}{is_:6.2f} nats per fresh image, truth {should:6.2f}")

# %% [markdown]
# ## 14. Scale: MNIST
#
# The same classes, 28 by 28 pixels, trained by `gdm train`. Two recipes have a place here: one
# with 256 grey values, for a GPU, and a small one with black and white pixels that a CPU
# trains in minutes. The card beside a checkpoint tells how good it is on all 10,000 test
# images.

# %%
scales = {"autoregressive/pixelcnn-mnist": 255, "autoregressive/pixelcnn-binarized-cpu": 1}
for name, white in scales.items():
    if not checkpoints.available(name):
        print(f"{name}: no checkpoint yet, 'gdm train {name}' makes it")
        continue
    mnist_model, card = checkpoints.load(name), checkpoints.card(name)
    for told in card["figures"]:
        print(f"{name}, {told['split']}: {told['value']:.2f} {told['unit']}")
    seed_everything(0)
    began = time.perf_counter()
    digits_drawn = mnist_model.sample(20)
    print(f"20 samples in {time.perf_counter() - began:.1f} s")
    plot.image_grid(digits_drawn, columns=10, vmax=white)

# %% [markdown]
# ## 15. Measure
#
# One table, one unit, one test set. For the plain PixelCNN we train one more, with
# $5\times 5$ windows at first, so that all have met the same digits.

# %%
seed_everything(0)
plain = fit(
    PixelCNN(shape, K, features=64, layers=3, size=5), x_train, budget(350, 10), lr=5e-3
)
models = {"SoftmaxNADE": nade, "PixelCNN": plain, "gated": gated}
models |= {"gated, logistics": logistic, "gated, labels": labelled}
row = "{:20s}{:>8s}{:>7s}{:>10s}{:>12s}{:>14s}".format
print(row("digits, test split", "nats", "+-", "bits/dim", "parameters", "100 samples"))
bits = bits_per_dim(independent, 64)
print(
    row(
        "independent pixels", f"{independent:.2f}", "", f"{bits:.3f}", f"{64 * (K - 1)}", ""
    )
)
for name, model in models.items():
    nats, error = nll_estimate(model, x_test.flatten(1).long() if model is nade else x_test)
    began = time.perf_counter()
    model.sample(100)
    ms = 1e3 * (time.perf_counter() - began)
    count = sum(p.numel() for p in model.parameters())
    figures = f"{nats:.2f}", f"{error:.2f}", f"{bits_per_dim(nats, 64):.3f}", f"{count:,}"
    print(row(name, *figures, f"{ms:.0f} ms"))
print(protocols.abilities(gated))

# %% [markdown]
# ## Summary
#
# - A convolution with mask (2) makes all conditionals of (1) in one pass; mask A once, mask
#   B ever after, colours dealt out to groups.
# - One masked stack has a **blind spot**: a step to the right costs a row, (3). It is
#   legal, so no test of legality finds it; gradients do, and a known truth shows what it
#   costs.
# - **Two stacks** (5) see the whole past. Gates (4) make the signals multiply.
# - Sampling is sequential but need not be wasteful: finished rows by convolution, the pixel
#   by a small matrix product, every feature once.
# - **Discretised logistics** know that grey values are ordered. In the form (7) they are
#   exact without an epsilon.
# - Labels are a bias, in-painting from above is free, a conditional density classifies.
#
# **Exercises:** open them with `gdm start autoregressive/pixelcnn`.
#
# ## References
#
# - Van den Oord, Kalchbrenner, Kavukcuoglu (2016). *Pixel recurrent neural networks.*
#   arXiv:1601.06759.
# - Van den Oord, Kalchbrenner, Vinyals, Espeholt, Graves, Kavukcuoglu (2016). *Conditional
#   image generation with PixelCNN decoders.* arXiv:1606.05328.
# - Salimans, Karpathy, Chen, Kingma (2017). *PixelCNN++: improving the PixelCNN with
#   discretized logistic mixture likelihood and other modifications.* arXiv:1701.05517.
# - Ramachandran, Paine, Khorrami, Babaeizadeh, Chang, Zhang, Hasegawa-Johnson, Campbell,
#   Huang (2017). *Fast generation for convolutional autoregressive models.*
#   arXiv:1704.06001.
# - Chen, Mishra, Rohaninejad, Abbeel (2018). *PixelSNAIL: an improved autoregressive
#   generative model.* arXiv:1712.09763.
