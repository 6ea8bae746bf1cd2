# %% [markdown]
# # Half of it stays: coupling flows
#
# Leave one half of the data alone and let it decide how to stretch the other half. That
# simple trade makes any neural network invertible, with a Jacobian that costs nothing. From
# it grow NICE, RealNVP and Glow, and the first images drawn by a flow.

# %% [markdown] tags=["nav"]
# 75 minutes ·
# before this: [Change of variables: planar and radial flows](planar.ipynb) ·
# [exercise](../../exercises/flows/realnvp.ipynb) ·
# [solution](../../solutions/flows/realnvp.ipynb)
#
# previous: [Change of variables: planar and radial flows](planar.ipynb) ·
# [all units](../index.ipynb) ·
# next: [One dimension bends the next: MAF, IAF and splines](maf.ipynb)

# %% tags=["setup"]
import importlib.util

if importlib.util.find_spec("gdm_course") is None:
    raise ImportError(
        "the package gdm_course is not installed here: run 'make lab' in the course's "
        "folder, or 'pip install -e .[lab]', and choose that environment as the kernel"
    )

# %%
import math
import time

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.functional import jacobian
from torch.distributions import (
    Categorical,
    Independent,
    MixtureSameFamily,
    Normal,
    StudentT,
)

from gdm_course import checkpoints, protocols, validate  # that refuses what does not fit
from gdm_course import plotting as plot
from gdm_course.data import images, toy
from gdm_course.evaluation.bounds import bound_bits
from gdm_course.flows.dequantisation import (
    Logit,
    UniformNoise,
    log_slope_of_sigmoid,
    noise_like,
)
from gdm_course.flows.flow import Chain, Flow
from gdm_course.flows.glow import checkerboard, mix, not_wider, squeeze, unsqueeze
from gdm_course.flows.realnvp import coupling_net, half_sizes, halves, join
from gdm_course.learning import moments, started, taught, teaching
from gdm_course.nets import conv_net, mlp, zero_last
from gdm_course.training import budget, forever, generator, seed_everything, train
from gdm_course.widgets import play, watch

plot.style()

# %% [markdown]
# ## 1. The question
#
# A flow maps data $x$ to noise $z = f(x)$ and knows its density by the change of variables,
#
# $$\log p(x) = \log\mathcal N(f(x); 0, I) + \log\Bigl|\det\frac{\partial f}{\partial x}\Bigr|.
#   \tag{1}$$
#
# Planar flows gave the density or samples cheaply, not both, and each layer bent space along
# one direction only. We want layers with a whole neural network inside that are still
# cheap in **both** directions. Then one model is a Trainable, a Sampler and a Density.
#
# Two data sets will go with us. The first is drawn by hand, so that its truth is known: a
# *needle* and a *cloud*, two round Gaussians, one ten times as wide as the other. The second
# is made of images.

# %%
centres = torch.tensor([[1.5, 0.0], [-1.5, 0.0]])
widths = torch.tensor([[0.1, 0.1], [1.0, 1.0]])
needle = MixtureSameFamily(
    Categorical(torch.ones(2)), Independent(Normal(centres, widths), 1)
)
bounds = ((-5.0, 3.0), (-4.0, 4.0))
digits = images.load("digits")

seed_everything(0)
left, right = plot.panels("a needle and a cloud", "digits, 17 grey levels", width=3.6)
plot.scatter(needle.sample((3000,)), left, bounds)
_ = plot.image_grid(digits.x_train[:36], right, vmax=16)

# %% [markdown]
# ## 2. The idea
#
# Take a square lattice of points and keep every point's first coordinate $x_a$. The second,
# $x_b$, may move, but by a rule that reads $x_a$ only. **Shift** it, and columns slide past
# each other like cards in a deck: no cell changes its area. **Shift and scale** it, and
# columns also stretch: cells grow and shrink.
#
# Undoing this is trivial. The first coordinate is still there, so read the rule off it
# again, and move back. *The rule itself is never inverted.* It can be any function at all.
# Where do the cells shrink in the picture on the right? That is where the density rises.

# %%
shift, log_scale = lambda a: 0.8 * torch.sin(2 * a), lambda a: 0.8 * torch.cos(1.5 * a)
moves = {
    "x": lambda a, b: b,
    "shifted": lambda a, b: b + shift(a),
    "scaled and shifted": lambda a, b: b * log_scale(a).exp() + shift(a),
}
line = torch.linspace(-2, 2, 200)
for ax, move in zip(plot.panels(*moves), moves.values()):
    for at in torch.linspace(-2, 2, 17):
        fixed = at.expand(200)
        ax.plot(line, move(line, fixed), color=plot.BLUE, linewidth=0.8)
        ax.plot(fixed, move(fixed, line), color=plot.GREY, linewidth=0.8)
    plot.plane(((-2.1, 2.1), (-5.4, 5.4)), ax)
    ax.set_aspect("auto")
    ax.set(xlabel="$x_a$ (stays)", ylabel="$x_b$ (moves)")

# %% [markdown]
# ## 3. The mathematics
#
# **A triangular Jacobian.** Split $x = (x_a, x_b)$ and let $z_a = x_a$, $z_b = g(x_b;
# x_a)$, where $g$ acts on each dimension of $x_b$ by itself. The Jacobian has blocks
#
# $$\frac{\partial z}{\partial x} =
#   \begin{pmatrix} I & 0 \\ \partial z_b/\partial x_a & \partial z_b/\partial x_b
#   \end{pmatrix},
#   \qquad \det = \prod_{j\in b}\frac{\partial z_j}{\partial x_j}. \tag{2}$$
#
# The upper right block is zero because $z_a$ does not know $x_b$; the lower right one is
# diagonal. Expanding a determinant along the rows of a triangular matrix leaves only the
# product of its diagonal. The ugly block $\partial z_b/\partial x_a$, which holds all the
# derivatives of the network, *drops out*. Nobody has to compute it.
#
# Two choices of $g$ have names. The **additive** coupling of NICE (2015),
#
# $$z_b = x_b + t(x_a), \qquad \log|\det| = 0, \tag{3}$$
#
# and the **affine** coupling of RealNVP (2017),
#
# $$z_b = x_b\,e^{s(x_a)} + t(x_a), \tag{4}$$
#
# $$\log|\det| = \sum_{j\in b} s_j(x_a). \tag{5}$$
#
# **Many layers.** One layer leaves half of $x$ as it was, so the next layer swaps the
# halves. For $f = f_K\circ\dots\circ f_1$ the chain rule multiplies Jacobians, and
# determinants multiply too: $\det(AB) = \det A\det B$. Hence $\log|\det|$ of the whole is
# the *sum* over layers, each a sum as in (5). Note that the product of the matrices is not
# triangular any more, since the layers are triangular in different orders. That is what
# makes a stack expressive, and only the *product of determinants* stays simple.
#
# ## 4. Build: NICE
#
# `halves` cuts dimension 1 in two and `join` puts the halves back; with `swap` the second
# half is the one that stays. The network $t$ is a perceptron.


# %% tags=["from:flows.realnvp.AdditiveCoupling"]
class AdditiveCoupling(nn.Module):
    """z_a = x_a, z_b = x_b + t(x_a): equation (3); the volume stays, log_det is 0.

    Args:
        net: t, from the half that passes to shifts of the other.
        swap: whether the second half passes.
    """

    def __init__(self, net: nn.Module, *, swap: bool = False):
        super().__init__()
        self.net, self.swap = net, swap

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Shift one half by what the other says: x (B, D) -> z (B, D), zeros (B,)."""
        a, b = halves(x, self.swap)
        return join(a, b + self.net(a), self.swap), x.new_zeros(len(x))

    def inverse(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Shift back; t itself is never inverted: z (B, D) -> x (B, D), zeros (B,)."""
        a, b = halves(z, self.swap)
        return join(a, b - self.net(a), self.swap), z.new_zeros(len(z))


# %% [markdown]
# NICE is a stack of these. Its only other part is one learned scale per dimension at the
# end (`ActNorm`, which you will meet in a minute). `Flow` is the chain of the last lecture:
# it adds the log-determinants up and derives `log_prob`, `loss` and `sample`.


# %% tags=["from:flows.realnvp.standardising"]
def standardising(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and log_scale that give x (B, C, ...) mean 0 and variance 1: (C,) each.

    A constant channel is scaled by 1; of a single number the scale is nan, unknown.
    """
    mean, std = moments(x)  # of the batches of all processes that train together
    constant = std <= 1e-6 * (1 + mean.abs())
    return mean, -torch.where(constant, 1, std).log()


# %% tags=["from:flows.realnvp.ActNorm"]
class ActNorm(nn.Module):
    """z = (x - mean) exp(log_scale), per dimension or channel: (6).

    Both start where z of the first batch in a `loss` has mean 0 and variance 1, and are
    learned from there. `ready` is in the state dict: loaded weights do not start over.

    Args:
        C: dimensions of a vector (B, C), or channels of an image (B, C, H, W).
    """

    def __init__(self, C: int):
        super().__init__()
        validate.at_least(1, C=C)
        self.mean = nn.Parameter(torch.zeros(C))
        self.log_scale = nn.Parameter(torch.zeros(C))
        self.register_buffer("ready", torch.tensor(False))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Normalise: x (B, C, ...) -> z (same), pixels times sum log_scale (B,)."""
        x = validate.points(x, (len(self.mean), *x.shape[2:]), self.mean)
        mean, log_scale = self.mean, self.log_scale
        if taught(self) and not self.ready:  # a loss decides, in training
            mean, log_scale = started((mean, log_scale), standardising(x), self.ready)
        rows, pixels = (-1, *[1] * (x.ndim - 2)), math.prod(x.shape[2:])
        z = (x - mean.view(rows)) * log_scale.view(rows).exp()
        return z, (log_scale.sum() * pixels).expand(len(x))

    def inverse(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Undo it: z (B, C, ...) -> x (same), minus the log_det of forward (B,)."""
        z = validate.points(z, (len(self.mean), *z.shape[2:]), self.mean, name="z", least=0)
        rows, pixels = (-1, *[1] * (z.ndim - 2)), math.prod(z.shape[2:])
        log_det = -self.log_scale.sum() * pixels
        x = z * (-self.log_scale.view(rows)).exp() + self.mean.view(rows)
        return x, log_det.expand(len(z))


# %% tags=["from:flows.realnvp.NICE"]
class NICE(Flow):
    """Additive couplings, then one scale per dimension: a density with log_det constant.

    Args:
        D: dimensions of a point, at least 2.
        layers: number of couplings; the halves change places from one to the next.
        hidden: units in each of the two hidden layers of t.

    References:
        Dinh, Krueger, Bengio (2015). NICE. arXiv:1410.8516.
    """

    def __init__(self, D: int, *, layers: int = 8, hidden: int = 64):
        validate.at_least(1, layers=layers, hidden=hidden)
        couplings: list[nn.Module] = []
        for k in range(layers):
            kept, changed = half_sizes(D, swap=k % 2 == 1)
            net = coupling_net(kept, changed, hidden)
            couplings.append(AdditiveCoupling(net, swap=k % 2 == 1))
        super().__init__([*couplings, ActNorm(D)], (D,))


# %% [markdown]
# In `ActNorm`,
#
# $$z = (x - m)\,e^{\ell}, \qquad \log|\det| = HW\sum_c \ell_c \tag{6}$$
#
# for $C$ channels of $H\times W$ pixels ($HW = 1$ for vectors). Its start is *taken from
# data*: with the $m$ and $\ell$ of the first batch, $z$ has mean 0 and variance 1, and
# every layer after it starts in a sensible range. Who may decide this, for ever? Only a
# batch that is trained on. Outside of a loss, which `teaching` marks, ActNorm computes with
# the weights it has; and `started` makes those of the batch its own when the gradient comes
# back, so that a loss that is not finite decides nothing. A flag in the state dict remembers
# the start. Check all of it: the inverse, the log-determinant against autograd, and the
# memory.

# %%
seed_everything(0)
nice, x = NICE(5).double(), 3 + torch.randn(100, 5).double()
for p in nice.parameters():
    p.data += 0.2 * torch.randn_like(p)  # away from the identity it starts as
z, log_det = nice(x)
assert (nice.inverse(z)[0] - x).abs().max() < 1e-10
J = jacobian(lambda x: nice(x[None])[0][0], x[0])
assert torch.isclose(J.slogdet()[1], log_det[0])
assert (log_det == log_det[0]).all()  # the same for every x

norm, again = ActNorm(5), ActNorm(5)
assert torch.equal(norm(x.float())[0], x.float())  # who only looks, changes nothing
with teaching():  # as within a loss
    z, _ = norm(x.float())
print(f"after ActNorm: mean {z.mean():.3f}, standard deviation {z.std():.3f}")
z.square().sum().backward()
again.load_state_dict(norm.state_dict())
assert again.ready
assert torch.equal(again(x[:7].float())[0], z[:7])  # loaded weights do not start over

# %% [markdown]
# ## 5. Additive is not enough
#
# All additive layers keep volume, and the scale at the end multiplies it by one constant
# $c$, the same everywhere. Before you run the next cell: can NICE fit the needle and the
# cloud, given layers enough?
#
# Here is an argument that it cannot, *whatever its networks are*. NICE's density is $q(x) =
# c\,\mathcal N(f(x))$, so the region where $q > \lambda$ is the preimage of a disc, and its
# area is the disc's divided by $c$. The hill of $q$ may have any outline, but at each height
# it covers the area that a *Gaussian hill* covers. Now let $p$ be the truth and
# $A(x)$ the area of $\{y : p(y)\ge p(x)\}$. The best that such a $q$ can do for $\mathbb E_p
# \log q$ is to be highest where $p$ is highest, next highest there, and so on (the
# rearrangement inequality). A disc of radius $r$ has area $\pi r^2$, so that the best $q$ is
#
# $$q(x) = \frac{1}{2\pi\sigma^2}\,e^{-A(x)/2\pi\sigma^2}, \qquad
#   \mathbb E_p\log q = -\log 2\pi\sigma^2 - \frac{\mathbb E_p A}{2\pi\sigma^2}.$$
#
# The derivative in $2\pi\sigma^2$ vanishes at $2\pi\sigma^2 = \mathbb E_p A$. So *in the plane
# every* volume-preserving flow, up to a constant scale, has
#
# $$\mathrm{KL}(p\,\|\,q) \;\ge\; 1 + \log \mathbb E_p[A(x)] - H(p).$$
#
# We can compute this floor by quadrature, then watch NICE run into it.


# %%
def floor(log_prob, bounds, n=600):
    """Least KL(p || q) in nats of any flow in the plane with a constant log-determinant."""
    at, area = toy.cells(bounds, n, margin=0.2)
    log_p = torch.cat([log_prob(part) for part in at.float().split(20_000)]).double()
    p = log_p.exp().sort(descending=True).values
    A = torch.arange(1, len(p) + 1) * area
    entropy = -(p * p.clamp_min(1e-300).log()).sum() * area
    return (1 + ((p * A).sum() * area).log() - entropy).item()


def fit(flow, x, steps, lr=4e-3, clip=None):
    """Train with a rate that falls to 0, and return the flow."""
    rate = lambda step: lr * (1 - step / steps)
    for _ in train(flow, forever(x, 256), steps, rate, clip=clip):
        pass
    return flow.eval()


@torch.no_grad()
def kl(truth, model, x):
    """KL(truth || model) in nats, from exact samples x of the truth."""
    return (truth.log_prob(x) - model.log_prob(x)).mean().item()


seed_everything(0)
x_needle, held_out = needle.sample((10_000,)), needle.sample((10_000,))
nice = fit(NICE(2), x_needle, budget(1000, 20))
lowest = floor(needle.log_prob, bounds)
print(
    f"no additive flow is below {lowest:.3f} nats; this one: {kl(needle, nice, held_out):.3f}"
)
if budget(True, False):
    assert kl(needle, nice, held_out) > lowest

# %% [markdown] tags=["notes"]
# The rearrangement argument is worth the board: draw two hills with the same areas at every
# height. Ask what else is limited in this way (any flow whose log-determinant does not
# depend on x: orthogonal layers, leapfrog steps without scaling).

# %% [markdown]
# ## 6. Build: RealNVP
#
# The scale of (4) must depend on $x$. Its exponential is what makes it positive, hence
# invertible, and it is a loaded gun: a network that says $s = 30$ multiplies by $10^{13}$.
# So the raw output $r$ passes through a squeeze that is the identity near zero and never
# leaves $(-b, b)$:
#
# $$s = \frac{r}{1 + |r|/b}. \tag{7}$$


# %% tags=["from:flows.realnvp.bounded"]
def bounded(log_scale: Tensor, bound: float = 2.0) -> Tensor:
    """Squeeze a log scale into (-bound, bound): s = raw / (1 + |raw| / bound), (7)."""
    return log_scale / (1 + log_scale.abs() / bound)


# %% tags=["from:flows.realnvp.AffineCoupling"]
class AffineCoupling(nn.Module):
    """z_a = x_a, z_b = x_b exp(s(x_a)) + t(x_a): equation (4); log_det is sum s, (5).

    Args:
        net: from the half that passes to shift t and raw log scale s, side by side in
            dimension 1.
        swap: whether the second half passes.
    """

    def __init__(self, net: nn.Module, *, swap: bool = False):
        super().__init__()
        self.net, self.swap = net, swap

    def shift_and_scale(self, a: Tensor) -> tuple[Tensor, Tensor]:
        """Return t and the bounded log scale s for the half that is changed."""
        t, s = self.net(a).chunk(2, dim=1)
        return t, bounded(s)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Scale and shift one half: x (B, D, ...) -> z (same), sum s (B,)."""
        a, b = halves(x, self.swap)
        t, s = self.shift_and_scale(a)
        z = torch.addcmul(t, b, s.exp())  # b exp(s) + t
        return join(a, z, self.swap), s.flatten(1).sum(1)

    def inverse(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Undo it, for a gives the same t and s: z -> x (same), -sum s (B,)."""
        a, b = halves(z, self.swap)
        t, s = self.shift_and_scale(a)
        return join(a, (b - t) * (-s).exp(), self.swap), -s.flatten(1).sum(1)


# %% tags=["from:flows.realnvp.RealNVP"]
class RealNVP(Flow):
    """ActNorm, then affine couplings: real-valued, non-volume-preserving.

    Args:
        D: dimensions of a point, at least 2.
        layers: number of couplings; the halves change places from one to the next.
        hidden: units in each of the two hidden layers of s and t.

    References:
        Dinh, Sohl-Dickstein, Bengio (2017). Real NVP. arXiv:1605.08803.
    """

    def __init__(self, D: int, *, layers: int = 8, hidden: int = 64):
        validate.at_least(1, layers=layers, hidden=hidden)
        couplings: list[nn.Module] = []
        for k in range(layers):
            kept, changed = half_sizes(D, swap=k % 2 == 1)
            net = coupling_net(kept, 2 * changed, hidden)
            couplings.append(AffineCoupling(net, swap=k % 2 == 1))
        super().__init__([ActNorm(D), *couplings], (D,))


# %% [markdown]
# Look at Jacobians. One coupling is triangular with a diagonal that is easy to read. A
# stack of four is full. Its determinant is still the product of four easy ones.

# %%
seed_everything(1)
flow = RealNVP(6, layers=4).double().eval()
for p in flow.parameters():
    p.data += 0.12 * torch.randn_like(p)
x = torch.randn(6).double()
maps = {"one coupling": flow.layers[1], "the next": flow.layers[2], "the whole stack": flow}
for ax, (name, layer) in zip(plot.panels(*maps, width=2.8), maps.items()):
    J = jacobian(lambda x, layer=layer: layer(x[None])[0][0], x)
    assert torch.isclose(J.slogdet()[1], layer(x[None])[1][0])  # (5) against autograd
    picture = ax.imshow(J, cmap="RdBu", vmin=-2, vmax=2)
    ax.set(title=name, xlabel="x dimension", ylabel="z dimension", xticks=range(6))
_ = ax.figure.colorbar(picture, ax=ax, label=r"$\partial z_i/\partial x_j$", shrink=0.8)

# %% [markdown]
# ## 7. Train beside the truth
#
# The same data, the same number of layers. The only difference is the factor $e^{s}$.

# %%
seed_everything(0)
affine = RealNVP(2)
steps = budget(1000, 20)
panels = {
    "RealNVP's density": lambda ax: plot.density(affine.log_prob, bounds, ax, vmax=1),
    "samples": lambda ax: plot.scatter(affine.sample(2000), ax, bounds),
}
rate = lambda step: 4e-3 * (1 - step / steps)
for _ in watch(train(affine, forever(x_needle, 256), steps, rate), 100, panels):
    pass
truth, left, right = plot.panels("truth", "NICE", "RealNVP")
for ax, model in ((truth, needle), (left, nice), (right, affine)):
    plot.density(model.log_prob, bounds, ax, n=300, vmax=1)
found = kl(needle, affine.eval(), held_out)
print(f"RealNVP {found:.3f} nats from the truth; the floor of additive flows: {lowest:.3f}")
if budget(True, False):
    assert found < lowest

# %% [markdown]
# The needle is much darker than any ink scale can show beside the cloud. NICE has to spread
# one Gaussian hill over both, and draws the needle too fat. RealNVP is far under the floor.
#
# On densities with *one* width, additive couplings do much better. The last column says how
# well any of them could: nearly perfectly. What remains is then a matter of networks and
# training, not of principle.

# %%
row = "{:14s}{:>8s}{:>10s}{:>22s}".format
print(row("KL, nats", "NICE", "RealNVP", "floor, additive flows"))
held = {}
for name in ("two_moons", "pinwheel"):
    known = toy.get(name)
    g = generator(0)
    x_train, x_held = known.sample(10_000, g), known.sample(10_000, g)
    gaps = []
    for make in (NICE, RealNVP):
        seed_everything(0)
        held[name, make.__name__] = fit(make(2), x_train, budget(700, 20))
        gaps.append(kl(known, held[name, make.__name__], x_held))
    lowest_here = floor(known.log_prob, known.bounds)
    print(row(name, *(f"{gap:.3f}" for gap in gaps), f"{max(lowest_here, 0):.3f}"))

# %% [markdown]
# ## 8. Play: data becomes noise
#
# Two thousand points of two moons, coloured from left to right, after the first $k$ layers
# of the trained RealNVP. Move the slider. Each coupling moves points along one axis
# only; can you see which? Where do the moons come apart, and does the last picture look like
# a standard normal?

# %%
seed_everything(0)
moons, moving = toy.get("two_moons"), held["two_moons", "RealNVP"]
x_moons = moons.sample(2000)


@torch.no_grad()
def draw_layers(layers):
    """Draw the points after the first `layers` layers, coloured by where they began."""
    z, log_det = x_moons, torch.zeros(len(x_moons))
    for layer in moving.layers[:layers]:
        z, part = layer(z)
        log_det += part
    (ax,) = plot.panels(f"after {layers} of {len(moving.layers)} layers", width=4, height=4)
    colour = plot.to_numpy(x_moons[:, 0])
    ax.scatter(*plot.to_numpy(z).T, s=4, c=colour, cmap="viridis", linewidths=0)
    plot.plane(((-3.6, 3.6), (-3.6, 3.6)), ax)
    ax.set(xlabel=f"mean log-determinant so far: {log_det.mean():.2f} nats")


play(draw_layers, layers=(0, len(moving.layers), 1))

# %% [markdown]
# **Quiz 1.** A RealNVP with $D = 2$ and one coupling only. Which densities of $x$ can it
# represent?
#
# <details><summary>Answer</summary>
#
# $x_a$ passes unchanged, so $x_a$ is exactly standard normal (or normal, with ActNorm in
# front). Given $x_a$, $x_b = (z_b - t(x_a))\,e^{-s(x_a)}$ is normal with mean and width that
# are free functions of $x_a$. So: a Gaussian times a conditional Gaussian. Neal's funnel and
# the banana are of this kind; two moons are not. With two couplings it already escapes.
# </details>
#
# ## 9. Break it: scales without a bound
#
# Most real data have a few points far out. Take Student's $t$ with $1.5$ degrees of
# freedom: the variance is infinite, and among twenty thousand points a few are hundreds of
# times farther out than the rest. Replace (7) by the identity and train.

# %%
heavy = Independent(StudentT(torch.full((2,), 1.5)), 1)
seed_everything(0)
x_heavy, held_heavy = heavy.sample((20_000,)), heavy.sample((20_000,))
print(
    f"median distance {x_heavy.norm(dim=1).median():.2f}, largest {x_heavy.norm(dim=1).max():.0f}"
)

honest = bounded
bounded = lambda log_scale: log_scale
try:
    seed_everything(0)
    wild = fit(RealNVP(2), x_heavy, 800)
    print(f"KL {kl(heavy, wild, held_heavy):.3g} nats")
except FloatingPointError as error:
    print(error)

bounded = honest  # repaired
seed_everything(0)
tame = fit(RealNVP(2), x_heavy, budget(800, 20))
worst = tame.log_prob(held_heavy).min().item()
print(f"with the bound: worst log q of 20,000 held-out points {worst:.0f} nats")
assert math.isfinite(worst)
print(f"KL estimated from those points: {kl(heavy, tame, held_heavy):.3f} nats")

radius = torch.logspace(0, 6, 200)
ray = radius[:, None] * torch.tensor([math.cos(0.7), math.sin(0.7)])
with torch.no_grad():
    (ax,) = plot.panels("far out, along one ray", width=4.5)
    ax.loglog(radius, -heavy.log_prob(ray), color=plot.BLACK, label="-log p, Student's t")
    ax.loglog(radius, -tame.log_prob(ray), color=plot.ORANGE, label="-log q, RealNVP")
ax.set(xlabel="distance from 0", ylabel="nats")
_ = ax.legend()

# %% [markdown]
# The printed KL looks fine, and is an estimate of an *infinite* number. Look at the figure:
# beyond the data $-\log p$ grows like $\log r$, $-\log q$ like $r^2$, since with bounded scales
# the flow is at most linear far out and its noise is Gaussian. The mean of $r^2$ under this
# $p$ is infinite, and with it the KL. No finite sample shows that; a look at the tails does.
#
# The network's $s$ grows linearly with $|x_a|$, so $z_b$ grows like $e^{|x_a|}$. The next
# layer's network reads that and answers with an exponential of an exponential. A few
# layers suffice to leave the range of floats. With the bound, a layer multiplies the half that
# it changes by at most $e^2$. Eight layers in turn change a coordinate four times, a factor
# of $e^8$, and an area by $e^{16}$: large enough for any needle, and finite.
#
# ## 10. Images
#
# For images $x$ of shape $(C, H, W)$ three questions need new answers. *Which half stays?*
# *How do channels talk to each other?* *Must all $CHW$ numbers go through all layers?*
#
# **Masks.** Neighbouring pixels are alike, so a pixel's neighbours should be in the other
# half. RealNVP colours pixels like a checkerboard $m\in\{0,1\}^{H\times W}$, with
# convolutions inside:
#
# $$z = m\,x + (1-m)\bigl(x\,e^{s(mx)} + t(mx)\bigr),\qquad
#   \log|\det| = \sum_{d}(1-m_d)\,s_d(mx). \tag{8}$$


# %% tags=["from:flows.glow.MaskedCoupling"]
class MaskedCoupling(nn.Module):
    """An affine coupling under any mask: where it is 1, x passes, equation (8).

    z = m x + (1 - m) (x exp(s(m x)) + t(m x)). A context, such as an image on which the
    flow depends, goes into s and t beside m x.

    Args:
        mask: of zeros and ones, such as (D,), (1, H, W) or (C, 1, 1).
        net: from C (and the context's) channels to shift and raw log scale, 2C.
    """

    def __init__(self, mask: Tensor, net: nn.Module):
        super().__init__()
        self.register_buffer("mask", mask, persistent=False)
        self.net = net

    def shift_and_scale(self, x: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return t and the bounded log scale s: both 0 where the mask is 1."""
        seen = not_wider(x, self.mask) * self.mask
        seen = seen if context is None else torch.cat((seen, context), dim=1)
        t, s = self.net(seen).chunk(2, dim=1)
        return (1 - self.mask) * t, (1 - self.mask) * bounded(s)

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Scale and shift what the mask leaves free: x -> z (same shape), sum s (B,)."""
        t, s = self.shift_and_scale(x, context)
        return x * s.exp() + t, s.flatten(1).sum(1)

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Undo it, for z is x where the mask is 1: z -> x (same shape), -sum s (B,)."""
        t, s = self.shift_and_scale(z, context)
        return (z - t) * (-s).exp(), -s.flatten(1).sum(1)


# %% [markdown]
# **Squeezing** trades space for channels: every $2\times2$ block becomes four channels, and
# then halves of the *channels* are coupled by the `AffineCoupling` you know. Below, a digit,
# its checkerboard, and the four channels that squeezing makes of it.

# %%
digit = digits.x_train[0:1].float() / 16
board = checkerboard(8, 8)
small = squeeze(digit)
assert torch.equal(unsqueeze(small), digit)
names = ("x", "m x, seen by s and t", *(f"squeezed, channel {c}" for c in range(4)))
pictures = [digit[0, 0], (digit * board + 0.35 * (1 - board))[0, 0], *small[0]]
for ax, picture in zip(plot.panels(*names, columns=6, width=2, height=2.3), pictures):
    plot.image_grid(picture[None], ax)
    ax.title.set_fontsize(8)

# %% [markdown]
# **Mixing channels.** Swapping halves is a fixed permutation of channels. Glow learns the
# mixing: a $1\times1$ convolution multiplies every pixel's channels by the same $C\times C$
# matrix $W$. Its log-determinant is $HW\log|\det W|$, and a determinant costs $O(C^3)$. Any
# matrix is, after a permutation of rows, a product of triangular ones:
#
# $$W = P\,L\,\bigl(U + \mathrm{diag}(\pm e^{d})\bigr),\qquad
#   \log|\det W| = \sum_{c} d_c, \tag{9}$$
#
# since $|\det P| = 1$, $\det L = 1$ (ones on the diagonal), and the last factor is
# triangular. Learn $L$, $U$ and $d$, and the determinant is a sum. The inverse solves two
# triangular systems.


# %% tags=["from:flows.glow.InvertibleConv"]
class InvertibleConv(nn.Module):
    """A 1 x 1 convolution z = W x of the channels, W = P L (U + diag(sign e^log_d)): (9).

    P is a fixed permutation, L has ones on its diagonal, U zeros on and below its own. So
    log |det W| = sum log_d, without computing a determinant. W starts as a rotation.

    Args:
        C: number of channels.

    References:
        Kingma, Dhariwal (2018). Glow. arXiv:1807.03039, section 3.2.
    """

    def __init__(self, C: int):
        super().__init__()
        rotation = torch.linalg.qr(torch.randn(validate.count(C, "C", 1), C))[0]
        P, L, U = torch.linalg.lu(rotation)
        self.lower, self.upper = nn.Parameter(L), nn.Parameter(U)
        self.log_d = nn.Parameter(U.diagonal().abs().log())
        self.register_buffer("sign", U.diagonal().sign())
        self.register_buffer("P", P)

    def factors(self) -> tuple[Tensor, Tensor]:
        """Return L and U + diag, each (C, C), from what may be used of the parameters."""
        L = self.lower.tril(-1) + torch.eye(len(self.P)).to(self.lower)
        return L, self.upper.triu(1) + torch.diag(self.sign * self.log_d.exp())

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mix the channels: x (B, C, H, W) -> z (same), H W sum log_d (B,)."""
        L, U = self.factors()
        log_det = self.log_d.sum() * x.shape[2:].numel()
        return mix(x, self.P @ L @ U), log_det.expand(len(x))

    def inverse(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Unmix by two triangular systems: z (B, C, H, W) -> x, -H W sum log_d (B,)."""
        L, U = self.factors()
        half = torch.linalg.solve_triangular(L, self.P.T, upper=False, unitriangular=True)
        W = torch.linalg.solve_triangular(U, half, upper=True)
        log_det = -self.log_d.sum() * z.shape[2:].numel()
        return mix(z, W), log_det.expand(len(z))


# %%
seed_everything(0)
conv, x = InvertibleConv(6), torch.randn(3, 6, 4, 4)
for p in conv.parameters():
    p.data += 0.3 * torch.randn_like(p)
L, U = conv.factors()
W = conv.P @ L @ U
z, log_det = conv(x)
assert torch.allclose(log_det, 4 * 4 * W.slogdet()[1])  # LU against torch's determinant
assert torch.allclose(conv.inverse(z)[0], x, atol=1e-4)
print(f"log |det W|: {conv.log_d.sum():.5f} by (9), {W.slogdet()[1]:.5f} by torch")

# %% [markdown]
# **Several scales.** After a few layers the coarse shape of an image is worth more thought
# than its grain. So half of the channels leave for the noise right away (they are *factored
# out*), and only the others are squeezed again and go deeper. This saves work, and it gives
# the noise a structure: outer channels carry fine detail, inner ones the whole. As code it is
# a recursion: a scale holds the next one as its `rest`.


# %% tags=["from:flows.glow.Scale"]
class Scale(nn.Module):
    """One scale: squeeze, layers, then half of the channels are done; `rest` takes others.

    z has the shape of x: finished channels stay where they are, and nothing is lost.

    Args:
        layers: an invertible layer for squeezed images (B, 4C, H/2, W/2).
        rest: a layer for the first half of the channels, or None: this is the last scale.
    """

    def __init__(self, layers: nn.Module, rest: nn.Module | None = None):
        super().__init__()
        self.layers, self.rest = layers, rest

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Map an image to noise: x (B, C, H, W) -> z (same), log_det (B,)."""
        h, log_det = self.layers(squeeze(x))
        if self.rest is not None:
            on, done = h.chunk(2, dim=1)
            on, more = self.rest(on)
            h, log_det = torch.cat((on, done), dim=1), log_det + more
        return unsqueeze(h), log_det

    def inverse(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Map noise to an image: z (B, C, H, W) -> x (same), log_det (B,)."""
        h, log_det = squeeze(z), z.new_zeros(len(z))
        if self.rest is not None:
            on, done = h.chunk(2, dim=1)
            on, log_det = self.rest.inverse(on)
            h = torch.cat((on, done), dim=1)
        h, more = self.layers.inverse(h)
        return unsqueeze(h), log_det + more


# %% tags=["from:flows.glow.glow_step"]
def glow_step(C: int, hidden: int, blocks: int) -> Chain:
    """Make one step of Glow: normalise, mix the channels, couple their halves."""
    kept, changed = half_sizes(C, swap=False)
    net = zero_last(conv_net(kept, 2 * changed, hidden=hidden, blocks=blocks))
    return Chain([ActNorm(C), InvertibleConv(C), AffineCoupling(net)])


# %% tags=["from:flows.glow.Glow"]
class Glow(Flow):
    """A flow for images: checkerboard couplings, then several scales of Glow's steps.

    Args:
        shape: of one image, (C, H, W); H and W must be even, and again at every scale.
        scales: how often the image is squeezed.
        steps: steps of Glow at each scale.
        checkers: couplings under checkerboards before the first squeeze (RealNVP's idea).
        hidden, blocks: channels and residual blocks of the coupling networks.
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        *,
        scales: int = 2,
        steps: int = 4,
        checkers: int = 0,
        hidden: int = 64,
        blocks: int = 0,
    ):
        validate.at_least(1, shape=shape, scales=scales, steps=steps, hidden=hidden)
        validate.at_least(0, checkers=checkers, blocks=blocks)
        C, H, W = shape
        first: list[nn.Module] = []
        for k in range(checkers):
            net = zero_last(conv_net(C, 2 * C, hidden=hidden, blocks=blocks))
            first.append(MaskedCoupling(checkerboard(H, W, odd=k % 2 == 1), net))
        rest = None
        for k in reversed(range(scales)):  # the innermost scale first
            chain = Chain(glow_step(C * 2 ** (k + 2), hidden, blocks) for _ in range(steps))
            rest = Scale(chain, rest)
        super().__init__([*first, rest], shape)


# %% [markdown]
# ## 11. From pixels to numbers: dequantisation
#
# A pixel is one of $K$ codes. A density fitted to codes directly can put a spike of any
# height on each and *earn infinite likelihood* for knowing nothing. The cure: add noise $u
# \in[0,1)^D$ and model $x + u$. What does the density $p$ then say about the codes? The
# probability of a code is the density's mass in its cell,
#
# $$P(x) = \int_{[0,1)^D} p(x+u)\,du.$$
#
# Multiply and divide by any density $q(u\mid x)$ of noise and use Jensen's inequality for
# the concave logarithm:
#
# $$\log P(x) = \log\mathbb E_{q}\Bigl[\frac{p(x+u)}{q(u\mid x)}\Bigr]
#   \;\ge\; \mathbb E_{q}\bigl[\log p(x+u) - \log q(u\mid x)\bigr]. \tag{10}$$
#
# (If the flow sees $(x+u)/K$, its density is $K^D$ times larger: subtract $D\log K$.) The
# gap in (10) is $\mathrm{KL}(q(u\mid x)\,\|\,p(u\mid x))$, where $p(u\mid x) = p(x+u)/P(x)$
# is the shape of the density inside the cell: subtract the right side from $\log P(x)$ and
# read it off. **Uniform** noise, $q = 1$, loses nothing only if $p$ is flat in every cell.
# **Variational** noise is a small flow of its own, conditioned on $x$, that learns the shape:
#
# $$u = \sigma(h_x(\varepsilon)),\quad \varepsilon\sim\text{logistic},\quad
#   \log q(u\mid x) = \log p_\varepsilon(\varepsilon) -
#   \log\Bigl|\det\frac{\partial u}{\partial\varepsilon}\Bigr|. \tag{11}$$
#
# The logistic distribution has $\sigma$ as its distribution function, so if $h_x$ starts as
# the identity, $u$ starts uniform.
#
# In one dimension we can draw everything. The slider moves $q_\tau(u\mid x)\propto
# p(x+u)^\tau$ from uniform ($\tau=0$) to the perfect noise ($\tau=1$). Watch the orange
# bars.

# %%
n_codes = 6
line_density = MixtureSameFamily(
    Categorical(torch.tensor([0.5, 0.3, 0.2])),
    Normal(torch.tensor([1.3, 3.9, 4.6]), torch.tensor([0.35, 0.15, 0.8])),
)
fine = (torch.arange(400) + 0.5) / 400


def draw_bound(tau):
    """Draw a density with its cells, and log P beside the bound under q_tau."""
    log_p = line_density.log_prob(torch.arange(n_codes)[:, None] + fine)  # (K, 400)
    exact = log_p.exp().mean(1).log()
    log_q = tau * log_p - (tau * log_p).exp().mean(1, keepdim=True).log()
    bound = (log_q.exp() * (log_p - log_q)).mean(1)
    left, right = plot.panels("density of x + u", "of each code, nats", width=4.2)
    plot.density_1d(line_density.log_prob, (0, n_codes), left)
    left.stairs(exact.exp(), range(n_codes + 1), color=plot.BLACK, label="P(x)")
    left.legend()
    at = torch.arange(n_codes)
    right.bar(at - 0.2, exact, 0.4, color=plot.BLACK, label="log P(x), exact")
    right.bar(at + 0.2, bound, 0.4, color=plot.ORANGE, label="bound")
    gap = (exact.exp() * (exact - bound)).sum()
    right.set(xlabel=f"code x; mean gap {gap:.3f} nats at tau = {tau:.2f}", ylim=(-6.5, 0))
    right.legend(loc="lower left")


play(draw_bound, tau=(0.0, 1.0, 0.05, 0.0))

# %% [markdown]
# Now as modules. `Logit` stretches $(0,1)$ over all real numbers, where the flow lives, by
#
# $$y = \mathrm{logit}(\alpha + (1-2\alpha)\,v),\qquad
#   \frac{dy}{dv} = \frac{1-2\alpha}{\sigma(y)\,\sigma(-y)}. \tag{12}$$
#
# A bound is not a density, so `Dequantised` has no `log_prob`. It has an `elbo`.


# %% tags=["from:flows.dequantisation.VariationalNoise"]
class VariationalNoise(nn.Module):
    """q(u | x): logistic noise through masked couplings that see x, then a sigmoid: (11).

    A coupling starts as the identity, and the sigmoid of logistic noise is uniform: so the
    noise starts uniform, and learns.

    Args:
        shape: of one x: (D,) or (C, H, W).
        layers: number of couplings, under alternating masks.
        hidden: size of their networks.

    References:
        Ho et al. (2019). Flow++. arXiv:1902.00275, section 3.1.
    """

    def __init__(self, shape: tuple[int, ...], *, layers: int = 4, hidden: int = 32):
        super().__init__()
        validate.at_least(1, shape=shape, layers=layers, hidden=hidden)
        self.shape, C, couplings = tuple(shape), shape[0], []
        for k in range(layers):
            if len(shape) == 3:
                net = conv_net(2 * C, 2 * C, hidden=hidden, blocks=1)
                mask = checkerboard(*shape[1:], odd=k % 2 == 1)
            else:
                net = mlp((2 * C, hidden, hidden, 2 * C))
                mask = ((torch.arange(C) + k) % 2 == 0).float()
            couplings.append(MaskedCoupling(mask, zero_last(net)))
        self.couplings = nn.ModuleList(couplings)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Draw u: x (B, *D), scaled to [-1, 1] -> u (B, *D) and log q(u | x) (B,)."""
        x = validate.points(x, self.shape)
        eps = torch.logit(noise_like(x), eps=1e-6)
        log_q = log_slope_of_sigmoid(eps)  # which is the density of logistic noise
        for coupling in self.couplings:
            eps, log_det = coupling(eps, x)
            log_q = log_q - log_det
        return torch.sigmoid(eps), log_q - log_slope_of_sigmoid(eps)


# %% tags=["from:flows.dequantisation.Dequantised"]
class Dequantised(nn.Module):
    """A model of codes 0..K-1 from a density of real numbers, by added noise.

    log P(x) >= E_q [log p((x + u) / K) - D log K - log q(u | x)], (10): an `elbo`.

    Args:
        flow: a Density and Sampler of real numbers (B, *D); it sees Logit((x + u) / K).
        K, noise: number of values of a code; draws u (uniformly, if None).
        alpha: of the Logit; small for images with much pure black.
    """

    def __init__(
        self, flow: nn.Module, K: int, *, noise: nn.Module | None = None, alpha=0.05
    ):
        super().__init__()
        validate.at_least(2, K=K)
        self.flow, self.K, self.logit = flow, K, Logit(alpha)
        self.noise = noise or UniformNoise()

    def elbo(self, x: Tensor) -> Tensor:
        """Return a lower bound of log P(x) in nats with one draw of u: codes -> (B,)."""
        x = validate.codes(x, self.K, ...).to(validate.dtype_of(self.flow))
        u, log_q = self.noise(2 * x / (self.K - 1) - 1)
        z, log_det = self.logit((x + u) / self.K)
        return self.flow.log_prob(z) + log_det - x[0].numel() * math.log(self.K) - log_q

    @teaching()
    def loss(self, x: Tensor) -> Tensor:
        """Return the mean of -elbo in nats: codes (B, *D) -> ()."""
        return -self.elbo(x).mean()

    def iwae(self, x: Tensor, k: int) -> Tensor:
        """Return the tighter bound log mean exp of k draws: codes (B, *D) -> (B,)."""
        draws = torch.stack([self.elbo(x) for _ in range(validate.count(k, "k", 1))])
        return draws.logsumexp(0) - math.log(k)

    def sample(self, n: int) -> Tensor:
        """Draw codes (n, *D): what falls outside of the cells goes to the nearest."""
        x = self.logit.inverse(self.flow.sample(n))[0]
        return (x * self.K).floor().clamp(0, self.K - 1).long()


# %% [markdown]
# Is the bound one, and does learned noise tighten it? In the plane we can check: put the
# needle and the cloud on a lattice of $16\times16$ codes, whose true probabilities are
# integrals of a known density. The needle sits inside one cell. The model's own $P(x)$ is
# the integral of the *flow's* density over a cell: 256 small integrals, no bound needed.


# %%
@torch.no_grad()
def cell_masses(model, K, m=24):
    """The model's exact P of all K x K codes, by m x m points in every cell: (K, K)."""
    at = (torch.arange(K * m) + 0.5) / (K * m)
    z, log_det = model.logit(torch.cartesian_prod(at, at))
    p = (model.flow.log_prob(z) + log_det).exp()
    return p.view(K, m, K, m).mean((1, 3)) / K**2


K, low, width = 16, torch.tensor([-5.25, -4.25]), 8.0
at = (torch.arange(20 * K) + 0.5) / (20 * K)
p = needle.log_prob(low + width * torch.cartesian_prod(at, at)).exp()
true_P = p.view(K, 20, K, 20).mean((1, 3)) * (width / K) ** 2
to_codes = lambda x: ((x - low) / width * K).floor().clamp(0, K - 1).long()
codes, held_codes = to_codes(x_needle), to_codes(held_out)
entropy = Categorical(true_P.flatten()).entropy().item()
row = "{:22s}{:>12s}{:>12s}{:>8s}".format
print(f"entropy of the codes: {entropy:.3f} nats")
print(row("nats", "-log P", "-elbo", "gap"))
for name, noise in (("uniform noise", None), ("variational noise", VariationalNoise((2,)))):
    seed_everything(0)
    model = fit(Dequantised(RealNVP(2), K, noise=noise), codes, budget(700, 20), clip=5.0)
    exact = -(true_P * cell_masses(model, K).clamp_min(1e-30).log()).sum().item()
    with torch.no_grad():
        bound = -model.elbo(held_codes).mean().item()
    print(row(name, f"{exact:.3f}", f"{bound:.3f}", f"{bound - exact:.3f}"))

# %% [markdown]
# Read the table from left to right: entropy $\le -\log P \le -$elbo. With uniform noise the
# flow is asked to be *flat inside of cells and to jump at their edges*, which smooth layers
# do badly. Learned noise lets it put a bump of any shape inside a cell instead. Both columns
# gain: the bound is tighter, and the model under it is better.
#
# ## 12. Train: digits
#
# All parts together: a Glow with two scales of four steps, on the 17 grey levels of the
# digits. The loss is an upper bound of $-\log P$ in nats per image.

# %%
seed_everything(0)
glow = Dequantised(Glow((1, 8, 8), steps=4, hidden=32), digits.levels)
steps = budget(700, 10)
rate = lambda step: 2e-3 * (1 - step / steps)
show = {"samples": lambda ax: plot.image_grid(glow.sample(36), ax, vmax=16)}
loop = train(glow, forever(digits.x_train, 64), steps, rate, clip=50.0)
for _ in watch(loop, every=100, panels=show):
    pass
_ = glow.eval()

# %% [markdown]
# A detail of `sample`: the stretched logistic of (12) lets the flow leave $[0, 1]$ a little.
# What falls outside goes to the first or last code, while `elbo` does not count it. So the
# bound holds for what `sample` draws, and is not tight by that much.

# %%
seed_everything(0)
with torch.no_grad():
    drawn = glow.logit.inverse(glow.flow.sample(500))[0]
print(f"{((drawn < 0) | (drawn >= 1)).float().mean():.1%} of the drawn pixels lie outside")

# %% [markdown]
# What does the inner noise know? Keep the innermost noise of a digit and draw only what
# was factored out at the first scale; then the other way round.

# %%
seed_everything(0)
with torch.no_grad():
    x = digits.x_test[:1]
    z = glow.flow(glow.logit((x + 0.5) / 17)[0])[0].expand(18, -1, -1, -1)
    fresh = glow.flow.base.sample((18,))
    inner = torch.zeros(1, 4, 1, 1)
    inner[:, :2] = 1  # the first half of the squeezed channels went on
    mixed = {
        "its whole kept, grain drawn": inner * squeeze(z) + (1 - inner) * squeeze(fresh),
        "its grain kept, whole drawn": (1 - inner) * squeeze(z) + inner * squeeze(fresh),
    }
    for ax, noise in zip(plot.panels(*mixed, width=4.2, height=2.4), mixed.values()):
        drawn = glow.logit.inverse(glow.flow.inverse(unsqueeze(noise))[0])[0]
        _ = plot.image_grid(torch.cat([x / 16, drawn[:17]]), ax, columns=6)

# %% [markdown]
# **Interpolation.** Noise has no holes: between the noises of two digits lies noise. Since
# the Gaussian's mass sits near a sphere of radius $\sqrt D$, walk along the sphere, not
# through the ball. Each row goes from one test digit to another; the last row averages the
# *pixels*, for comparison.

# %%
with torch.no_grad():
    ends = digits.x_test[[3, 12, 20, 7, 31, 45]]
    z = glow.flow(glow.logit((ends + 0.5) / 17)[0])[0]
    angle = torch.linspace(0, math.pi / 2, 9).view(-1, 1, 1, 1)
    rows = []
    for a, b in ((0, 1), (2, 3), (4, 5)):
        between = torch.cos(angle) * z[a] + torch.sin(angle) * z[b]
        rows.append(glow.logit.inverse(glow.flow.inverse(between)[0])[0])
    share = torch.linspace(0, 1, 9).view(-1, 1, 1, 1)
    rows.append(((1 - share) * ends[4] + share * ends[5]) / 16)
_ = plot.image_grid(torch.cat(rows), columns=9)

# %% [markdown]
# ## 13. Is likelihood a sense of the familiar?
#
# The model assigns every image a (bound of the) log-likelihood. Is an image that it has
# never seen the like of *unlikely*? Predict the order of the five sets before you run: test
# digits, inverted digits, blurred digits, uniform noise, and constant black images.

# %%
seed_everything(0)
x = digits.x_test
blur = F.avg_pool2d(F.pad(x.float(), (1, 1, 1, 1), mode="replicate"), 3, 1)
sets = {
    "test digits": x,
    "inverted": 16 - x,
    "blurred": blur.round().to(torch.uint8),
    "uniform noise": torch.randint(0, 17, x.shape),
    "all black": torch.zeros_like(x),
}
with torch.no_grad():
    values = {name: glow.iwae(those, 8) for name, those in sets.items()}
ax, side = plot.panels("log-likelihood (bound) of whole images", "one of each", width=5)
bins = torch.linspace(-220, -50, 60)
colours = (plot.BLUE, plot.ORANGE, plot.GREEN, plot.GREY, plot.RED)
for (name, value), colour in zip(values.items(), colours):
    where = "" if value.mean() > -220 else " (far to the left)"
    ax.hist(plot.to_numpy(value), bins, color=colour, alpha=0.7, label=name + where)
    print(f"{name:14s} {value.mean():9.1f} nats")
ax.set(xlabel="nats per image", ylabel="images")
ax.legend()
_ = plot.image_grid(torch.cat([those[:1] for those in sets.values()]), side, 5, vmax=16)

# %% [markdown]
# Noise, inversion and blur get less than digits. The *all-black* image is not a digit either, and yet it is as likely as digits are, or likelier. What is plotted bounds
# $\log P(x)$, the probability of *this one* image. There is one black image and there are very
# many digits: together the digits have nearly all of the probability, each for itself has
# very little, and so has the black one, which will hardly ever be drawn ($e^{-80}$ is no
# chance). How likely a single image is says little about whether images *like it* are drawn
# (Nalisnick et al., 2019, found it with CIFAR-10 and SVHN). The reliability lecture comes back
# to this.
#
# **Quiz 2.** You scale all pixels by 2 before training. The flow's $\log p$ falls by
# $D\log 2$. Did the model get worse?
#
# <details><summary>Answer</summary>
#
# No. A density has a unit, one over volume, and you changed the unit. That is why densities
# of rescaled pixels are never compared. The probability $P(x)$ of codes has no unit: (10)
# subtracts $D\log K$ for the scaling, and bits per dimension from there are comparable
# between all models of the same codes.
# </details>
#
# ## 14. Scale: MNIST
#
# The same classes on 784 pixels of 256 levels, trained by `gdm train` on a single CPU thread
# for little more than one epoch. The card beside the checkpoint says how good it is.

# %%
name = "flows/glow-mnist-cpu"
if checkpoints.available(name):
    mnist, card = checkpoints.load(name), checkpoints.card(name)
    seed_everything(0)
    began = time.perf_counter()
    x = mnist.sample(40)
    print(f"40 samples of 784 pixels in {time.perf_counter() - began:.2f} s, all at once")
    _ = plot.image_grid(x, columns=20, vmax=255)
    for figure in card["figures"]:
        if figure["split"] == "test":
            print(
                f"{figure['metric']}: {figure['value']:.3f} +- {figure['error']:.3f} "
                f"{figure['unit']}, {figure['n']:,} test images"
            )
    print(f"{card['parameters']:,} parameters, {card['seconds']:.0f} s on {card['device']}")
else:
    print(f"no checkpoint yet: 'gdm train {name}' makes it")

# %% [markdown]
# The recipes `flows/glow-mnist` and `flows/glow-cifar10`, larger and with variational noise,
# want a GPU; `gdm train --list` says whether they have been measured.
#
# ## 15. Measure
#
# One unit, one test set. Bits per dimension come from the bound on codes only. More draws
# $k$ tighten it: $\log\frac1k\sum_i p(x+u_i)/q(u_i\mid x)$ lies between (10) and $\log P$.

# %%
row = "{:22s}{:>18s}{:>18s}{:>18s}".format
print(row("digits, test split", "bits/dim, k = 1", "k = 8", "k = 64"))
levels = Categorical(torch.bincount(digits.x_train.flatten().long(), minlength=17).float())
independent = -levels.log_prob(digits.x_test.long()).mean().item() / math.log(2)
print(row("one histogram", f"{independent:.3f}", "", ""))
seed_everything(0)
figures = [bound_bits(glow, digits.x_test, k=k) for k in (1, 8, 64)]
print(row("Glow, uniform noise", *(f"{f.value:.3f} +- {f.error:.3f}" for f in figures)))
for model in (nice, affine, glow):
    print(f"{type(model).__name__:12s} {protocols.abilities(model)}")

# %% [markdown]
# ## Summary
#
# - **Coupling**: half of $x$ stays and steers the other half. The Jacobian is triangular,
#   the inverse needs no inverse of a network, both directions cost one pass.
# - **Additive is not enough**: a constant volume factor fixes the areas of level sets, and
#   with them a floor under the KL divergence, computable for any truth.
# - **Scales** come from an exponential and need a bound; **ActNorm** starts from data, once.
# - **Images**: checkerboards and channels as masks, learned $1\times1$ mixing with an LU
#   determinant, several scales by recursion.
# - **Dequantisation** turns a density of numbers into a bound for codes. Uniform noise is a
#   choice of $q$, not a law; the gap is a KL divergence inside the cells.
# - A high likelihood does not mean a familiar image.
#
# **Exercises:** open them with `gdm start flows/realnvp`.
#
# ## References
#
# - Dinh, Krueger, Bengio (2015). *NICE: non-linear independent components estimation.*
#   arXiv:1410.8516.
# - Dinh, Sohl-Dickstein, Bengio (2017). *Density estimation using Real NVP.*
#   arXiv:1605.08803.
# - Kingma, Dhariwal (2018). *Glow: generative flow with invertible 1x1 convolutions.*
#   arXiv:1807.03039.
# - Theis, van den Oord, Bethge (2016). *A note on the evaluation of generative models.*
#   arXiv:1511.01844.
# - Ho, Chen, Srinivas, Duan, Abbeel (2019). *Flow++.* arXiv:1902.00275.
# - Nalisnick, Matsukawa, Teh, Gorur, Lakshminarayanan (2019). *Do deep generative models
#   know what they don't know?* arXiv:1810.09136.
# - Papamakarios, Nalisnick, Rezende, Mohamed, Lakshminarayanan (2021). *Normalizing flows
#   for probabilistic modeling and inference.* arXiv:1912.02762.
