# %% [markdown]
# # Exercises: images by convolution
#
# Six short pieces of code, from the masks A and B to a classifier that was never trained to
# classify. Under each stands a check that runs *your* function on fresh inputs and
# compares. A red line names the wrong property; a plausible mistake gets a hint. Nothing
# depends on an unanswered question: later cells use the course's own code.
#
# The core of the lecture prepares questions 2, 3 and 5. For three questions a further section
# of the lecture helps: *Further: colours* for the colours of question 1, *Further: a mixture
# of logistics* for question 4, *Further: labels* for question 6.

# %% [markdown] tags=["nav"]
# before this: [One dimension at a time: NADE, RNADE and MADE](../../lectures/autoregressive/nade.ipynb) ·
# [lecture](../../lectures/autoregressive/pixelcnn.ipynb) ·
# [exercise](../../exercises/autoregressive/pixelcnn.ipynb)

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

import torch
import torch.nn.functional as F

from gdm_course import plotting as plot
from gdm_course.autoregressive.gated_pixelcnn import GatedPixelCNN
from gdm_course.autoregressive.pixelcnn import channel_groups, raster_mask
from gdm_course.checks.autoregressive import pixelcnn as check
from gdm_course.data import images
from gdm_course.training import budget, forever, seed_everything, train
from gdm_course.widgets import progress

plot.style()

# %% [markdown]
# ## 1. The masks A and B
#
# The weight of a convolution has the shape (out, in, size, size). It may stay where what it
# reads comes earlier: anywhere in the rows above the middle, in the middle row left of the
# middle, and in the very middle if the colours allow it:
#
# $$\text{A: } g(o) > g(n),\qquad \text{B: } g(o)\ge g(n),$$
#
# where $g(n)$ is the colour that input channel $n$ belongs to, and $g(o)$ the one that
# output $o$ works for. You are given both.


# %%
def raster_masks(inputs, outputs, size):
    """Return the two masks of a masked convolution.

    Args:
        inputs: the colour of each input channel, (in,).
        outputs: the colour of each output channel, (out,).
        size: odd width of the window.

    Returns:
        Masks A and B of 0. and 1., each (out, in, size, size).
    """
    ### BEGIN SOLUTION
    r = size // 2
    past = torch.zeros(len(outputs), len(inputs), size, size)
    past[:, :, :r] = 1
    past[:, :, r, :r] = 1
    A, B = past.clone(), past.clone()
    A[:, :, r, r] = (outputs[:, None] > inputs).float()
    B[:, :, r, r] = (outputs[:, None] >= inputs).float()
    return A, B
    ### END SOLUTION


# %%
check.raster_masks(raster_masks)

# %% [markdown]
# Count them. For grey images and a window of $5\times5$, A keeps 12 weights and B keeps 13.
# In colour the middle adds 3 pairs under A (green sees red; blue sees red and green) and 6
# under B.

# %%
grey, rgb = torch.zeros(1, dtype=torch.long), channel_groups(3, 3)
try:
    for name, groups in {"grey": grey, "RGB": rgb}.items():
        A, B = raster_masks(groups, groups, 5)
        pairs = len(groups) ** 2
        print(f"{name}: A keeps {A.sum():.0f} = {pairs} x 12 + {A[:, :, 2, 2].sum():.0f}")
        print(f"{name}: B keeps {B.sum():.0f} = {pairs} x 12 + {B[:, :, 2, 2].sum():.0f}")
except NotImplementedError:
    print("(write raster_masks first)")

# %% [markdown]
# ## 2. The blind spot without a network
#
# Which pixels can a stack of masked convolutions see? No gradient is needed, only the
# masks. Start with a picture that is 1 at the predicted pixel and 0 elsewhere, and go
# **back** through the layers: `layers` times mask B, then mask A once. One step back
# spreads every 1 to where the mask reads: if a pixel $p$ is needed and the mask has a 1 at
# offset $\delta$, then $p+\delta$ is needed too. (Which of `F.conv2d` and
# `F.conv_transpose2d` spreads to $p + \delta$, and which to $p - \delta$?) Keep the picture
# at 0 and 1.


# %%
def receptive_field(A, B, layers, side):
    """Return which pixels the pixel in the middle can see.

    Args:
        A, B: grey masks of odd size, of 0. and 1., (size, size); sizes may differ.
        layers: number of layers B after the one layer A.
        side: odd side of the picture; the predicted pixel is its middle.

    Returns:
        1. where a pixel is seen and 0. elsewhere, (side, side).
    """
    ### BEGIN SOLUTION
    seen = torch.zeros(1, 1, side, side)
    seen[..., side // 2, side // 2] = 1
    for mask in [B] * layers + [A]:
        kernel = mask[None, None].float()
        seen = F.conv_transpose2d(seen, kernel, padding=mask.shape[0] // 2)
        seen = (seen > 0).float()
    return seen[0, 0]
    ### END SOLUTION


# %%
check.receptive_field(receptive_field)

# %%
A = raster_mask(grey, grey, 3, own=False)[0, 0].float()
B = raster_mask(grey, grey, 3, own=True)[0, 0].float()
wide = raster_mask(grey, grey, 7, own=False)[0, 0].float()
cases = {"A 3x3, 2 layers": (A, 2), "A 3x3, 6 layers": (A, 6), "A 7x7, 6 layers": (wide, 6)}
try:
    for ax, (first, layers) in zip(plot.panels(*cases, width=2.6), cases.values()):
        ax.imshow(receptive_field(first, B, layers, 21), cmap="Blues", vmax=1.4)
        ax.plot(10, 10, "s", color=plot.ORANGE)
        ax.set(xticks=[], yticks=[])
except NotImplementedError:
    print("(write receptive_field first)")

# %% [markdown]
# A larger first window moves the blind wedge to the right by two columns. It does not close
# it.
#
# ## 3. One gated step
#
# In the two-stack network, the horizontal features $h$ of a pixel are carried on by
#
# $$h' = h + Q\,\operatorname{gate}(r + A\,d),\qquad
#   \operatorname{gate}(a, b) = \tanh(a)\odot\sigma(b),$$
#
# where $r = R\,h$ are the gates' inputs from the row, $d = D\,v$ those of the vertical
# stack, and the first half of the channels is $a$, the second $b$. At one pixel all
# convolutions are matrices, given in the shape (out, in) of `nn.Linear`. ($A$ is the
# lecture's $X_\ell$, *across*. It has nothing to do with mask A.)


# %%
def gated_step(h, right, down, A, Q):
    """Return the horizontal features after one gated layer.

    Args:
        h: horizontal features (B, F).
        right: R h, (B, 2 F).
        down: D v, (B, 2 F).
        A: the matrix from the vertical to the horizontal stack (2 F, 2 F).
        Q: the matrix after the gate (F, F).

    Returns:
        (B, F)
    """
    ### BEGIN SOLUTION
    signal, valve = (right + down @ A.T).chunk(2, dim=1)
    return h + (torch.tanh(signal) * torch.sigmoid(valve)) @ Q.T
    ### END SOLUTION


# %%
check.gated_step(gated_step)

# %% [markdown]
# ## 4. The probability of a bin
#
# A logistic with mean $\mu$ and scale $s$ has the distribution function
# $\sigma((v-\mu)/s)$. A bin around $v$ of half width $r$ has the probability
# $\sigma(b)-\sigma(a)$ with $b = (v + r-\mu)/s$ and $a=(v - r-\mu)/s$, whose logarithm is
#
# $$\log\bigl[\sigma(b)-\sigma(a)\bigr] = \log\sigma(b)+\log\sigma(-a)
#   + \log\bigl(1-e^{-2r/s}\bigr).$$
#
# Use `F.logsigmoid` and `torch.expm1`. The check asks for bins that are hundreds of scales
# away from the mean, where the difference of the sigmoids is exactly 0 in floating point,
# and for bins far narrower than the scale, where $1-e^{-2r/s}$ keeps few digits if it is
# written like that. All bins are inner ones.


# %%
def logistic_bin(v, mu, log_s, r):
    """Return the log-probability of the bin [v - r, v + r] under a logistic.

    Args:
        v, mu, log_s: middle of the bin, mean, log of the scale, each (N,).
        r: half the width of a bin.

    Returns:
        (N,), in nats.
    """
    ### BEGIN SOLUTION
    narrow = torch.exp(-log_s)
    upper, lower = (v + r - mu) * narrow, (v - r - mu) * narrow
    width = torch.log(-torch.expm1(-2 * r * narrow))
    return F.logsigmoid(upper) + F.logsigmoid(-lower) + width
    ### END SOLUTION


# %%
check.logistic_bin(logistic_bin)

# %% [markdown]
# An independent oracle: for a bin that is narrow against $s$, its probability is the
# density times its width. Beside it, what a small epsilon in the logarithm would make of
# the tail.

# %%
r, s = 1 / 255, torch.tensor(0.2)
v = torch.tensor([0.0, 0.5, 1.0, 4.0, 8.0])
z = v / s
density = -z - s.log() - 2 * torch.log1p(torch.exp(-z))  # the logistic's own, in the log
naive = torch.log(torch.sigmoid((v + r) / s) - torch.sigmoid((v - r) / s) + 1e-12)
try:
    yours = logistic_bin(v, 0 * v, s.log().expand(5), r)
    print("  v    yours   density x width   with epsilon")
    for row in zip(v, yours, density + math.log(2 * r), naive):
        print("{:4.1f}{:9.2f}{:14.2f}{:16.2f}".format(*(x.item() for x in row)))
except NotImplementedError:
    print("(write logistic_bin first)")

# %% [markdown]
# ## 5. In-painting
#
# Given the upper rows of an image, draw the rest from $p(x_\text{lower}\mid
# x_\text{upper})$. You have a model of grey images whose `conditionals(x)` returns, for
# codes $(n, 1, H, W)$, all conditionals at once. Speed does not count: one full pass per
# pixel is allowed.
#
# The check completes 600 images of six bits with each of two models, and counts all outcomes
# for each upper row: each must come as often as the density says, within six standard
# errors. Of larger images it counts how many are equal: every image is to be drawn anew.


# %%
def complete_image(model, upper):
    """Draw the rows that are missing, pixel by pixel.

    Args:
        model: has `shape` (1, H, W) and `conditionals(x)`, a Categorical (n, 1, H, W).
        upper: codes of the first R rows, (n, 1, R, W).

    Returns:
        Codes (n, 1, H, W); the first R rows are `upper`.
    """
    ### BEGIN SOLUTION
    (n, _, R, _), (_, H, W) = upper.shape, model.shape
    x = torch.zeros(n, 1, H, W, dtype=torch.long)
    x[:, :, :R] = upper
    with torch.no_grad():
        for i, j in itertools.product(range(R, H), range(W)):
            x[:, 0, i, j] = model.conditionals(x).sample()[:, 0, i, j]
    return x
    ### END SOLUTION


# %%
check.complete_image(complete_image)

# %% [markdown]
# Now on digits, with a gated PixelCNN that is trained here in a few seconds.

# %%
digits = images.load("digits")
K = digits.levels
seed_everything(0)
model = GatedPixelCNN((1, 8, 8), K, features=32, dilations=(1, 2), size=5, classes=10)
steps = budget(300, 5)
data = forever((digits.x_train, digits.y_train), 64)
training = train(model, data, steps, lambda step: 5e-3 * (1 - step / steps))
for _ in progress(training, steps, "gated PixelCNN"):
    pass


class Labelled:
    """The model given one label, for `complete_image`."""

    def __init__(self, model, y):
        self.shape, self.model, self.y = model.shape, model, y

    def conditionals(self, x):
        return self.model.conditionals(x, self.y)


upper, y = digits.x_test[:8, :, :4], digits.y_test[:8]
seed_everything(0)
try:
    drawn = [complete_image(Labelled(model, y), upper) for _ in range(3)]
except NotImplementedError:
    drawn = [model.sample(8, y, given=upper) for _ in range(3)]
titles = "the original", "draw 1", "draw 2", "draw 3"
for ax, x in zip(plot.panels(*titles, width=2.5, height=1.6), [digits.x_test[:8], *drawn]):
    plot.image_grid(x, ax, columns=4, vmax=K - 1)

# %% [markdown]
# ## 6. A classifier for free
#
# A model of images *given* labels tells $\log p(x\mid y)$ for every label. With labels
# equally frequent, two things follow:
#
# $$p(y\mid x) = \frac{p(x\mid y)}{\sum_{y'}p(x\mid y')},\qquad
#   p(x) = \frac1{|Y|}\sum_{y}p(x\mid y).$$
#
# Return the first, and the logarithm of the second. The numbers are between $-30$ and
# $-1{,}000$ nats: the `exp` of most is 0.


# %%
def label_posterior(log_p):
    """Return p(y | x) and log p(x) from the densities given each label.

    Args:
        log_p: log p(x | y) in nats, one column per label, (B, Y).

    Returns:
        p(y | x), (B, Y), and log p(x) in nats, (B,).
    """
    ### BEGIN SOLUTION
    return log_p.softmax(dim=1), torch.logsumexp(log_p, dim=1) - math.log(log_p.shape[1])
    ### END SOLUTION


# %%
check.label_posterior(label_posterior)

# %% [markdown]
# With the network above: how many test digits does it name correctly, and how sure is it?

# %%
with torch.no_grad():
    log_p = model.eval().log_prob_each(digits.x_test)  # log p(x | y), a column per label y
try:
    posterior, log_p_x = label_posterior(log_p)
    right = posterior.argmax(1) == digits.y_test
    print(f"accuracy {right.float().mean():.1%} on {len(right)} test digits")
    print(f"mean probability of its choice {posterior.max(1).values.mean():.3f}")
    print(f"p(x): {-log_p_x.mean():.2f} nats per test digit")
except NotImplementedError:
    print("(write label_posterior first)")

# %% [markdown]
# ## Further, without a check
#
# 1. **The wind.** Take `rain` from the lecture with a wind of two, and then of four columns,
#    and a PixelCNN whose first window is $7\times 7$. Predict its likelihood before you
#    measure it. And if the rain is mirrored (`x.flip(3)`)?
# 2. **Another order.** Transpose the digits, so that a PixelCNN reads columns. For NADE the
#    order was a detail. Is it one here? And what if the pixels are permuted at random?
# 3. **Confidence.** Divide the posterior's decisions into those above and below 0.9. How
#    often is each kind right? Feed it digits with inverted grey values: what do $p(y\mid
#    x)$ and $p(x)$ say? Only one of the two can tell that something is wrong.
