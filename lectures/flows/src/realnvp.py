# %% [markdown]
# # Half of it stays: coupling flows
#
# Leave one half of the data alone, and let it decide how to stretch the other half. This
# trade makes a layer with any neural network inside invertible, and its Jacobian determinant
# costs nothing. We build two such flows, NICE and RealNVP, prove what the first cannot do,
# break the second, and let it draw digits.

# %% [markdown] tags=["nav"]
# 55 minutes ·
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
import copy
import math
import time

import matplotlib.pyplot as plt
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
    DequantisedGlow,
    Logit,
    UniformNoise,
    log_slope_of_sigmoid,
    noise_like,
)
from gdm_course.flows.flow import Chain, Flow
from gdm_course.flows.glow import checkerboard, mix, not_wider, squeeze, unsqueeze
from gdm_course.flows.realnvp import (
    ActNorm,
    bounded,
    coupling_net,
    half_sizes,
    halves,
    join,
)
from gdm_course.learning import moments, started, taught, teaching
from gdm_course.nets import conv_net, mlp, zero_last
from gdm_course.training import budget, forever, generator, seed_everything, train
from gdm_course.widgets import play, progress, watch

plot.style()

# %% [markdown]
# ## 1. The question
#
# A flow is an invertible function $f$ from a data point $x$ to noise $z = f(x)$, where the
# noise is standard normal, $\mathcal N(0, I)$. The change of variables gives the density of
# $x$:
#
# $$\log p(x) = \log\mathcal N(f(x); 0, I) + \log\Bigl|\det\frac{\partial f}{\partial x}\Bigr|.
#   \tag{1}$$
#
# The matrix $\partial f/\partial x$ of all derivatives is the **Jacobian**. The absolute value
# of its determinant says by which factor $f$ changes the volume of a small piece of space.
#
# Planar flows, in the last lecture, gave either the density or samples cheaply, and each layer
# bent space along one direction only. We want layers with a whole network inside that are
# cheap in *both* directions. Then one model is Trainable, a Sampler and a Density.
#
# Two data sets go with us. The first we can compute: a *needle* and a *cloud*, two round
# Gaussians, one ten times as wide as the other. The second is images of digits.

# %%
centres = torch.tensor([[1.5, 0.0], [-1.5, 0.0]])
widths = torch.tensor([[0.1, 0.1], [1.0, 1.0]])
needle = MixtureSameFamily(
    Categorical(torch.ones(2)), Independent(Normal(centres, widths), 1)
)
bounds = ((-5.0, 3.0), (-4.0, 4.0))
digits = images.load("digits")

seed_everything(0)
x_needle, held_out = needle.sample((10_000,)), needle.sample((10_000,))
left, right = plot.panels("a needle and a cloud", "digits, 17 grey levels", width=3.6)
plot.scatter(x_needle[:3000], left, bounds)
_ = plot.image_grid(digits.x_train[:36], right, vmax=16)

# %% [markdown]
# ## 2. The idea
#
# Cut a point into two halves, $x_a$ and $x_b$; in the plane they are its two coordinates. Keep
# $x_a$. The other half may move, but by a rule that reads $x_a$ only. **Shift** it: columns
# slide past each other like cards in a deck, and no cell changes its area. **Scale and shift**
# it: columns also stretch, so that cells grow and shrink.
#
# Going back is easy. The first half is still there, so read the rule off it again, and undo the
# move. The rule itself is never inverted, so it can be any function: a neural network.

# %% tags=["fold"]
# @title What a shift and a scale do to a lattice
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
# The two directions of one such layer, with a network that answers a shift $t$ and a log scale
# $s$. Follow $x_a$: it goes through untouched both times, so the network reads the same numbers
# both times and gives the same answer.

# %% tags=["fold"]
# @title A coupling layer, forward and inverse
# PLACE: the schematic of helper s

# %% [markdown]
# ## 3. The mathematics
#
# **A triangular Jacobian.** Let $z_a = x_a$ and $z_b = g(x_b; x_a)$, where $g$ treats each
# dimension of $x_b$ by itself. Order the derivatives by halves:
#
# $$\frac{\partial z}{\partial x} =
#   \begin{pmatrix} I & 0 \\ \partial z_b/\partial x_a & \partial z_b/\partial x_b
#   \end{pmatrix},
#   \qquad \det = \prod_{j\in b}\frac{\partial z_j}{\partial x_j}. \tag{2}$$
#
# The upper right block is 0, because $z_a$ does not depend on $x_b$. The lower right block is
# diagonal, because $g$ works dimension by dimension. So the matrix is triangular, and the
# determinant of a triangular matrix is the product of its diagonal. The block
# $\partial z_b/\partial x_a$ holds all derivatives of the network, and it is not in that
# product. Nobody has to compute it.
#
# Two choices of $g$ have names. The **additive** coupling of NICE (2015) has a shift $t$:
#
# $$z_b = x_b + t(x_a), \qquad \log|\det| = 0. \tag{3}$$
#
# The **affine** coupling of RealNVP (2017) adds a scale $e^s$, which is positive whatever the
# network says for $s$. On the diagonal of (2) stand the scales, so
#
# $$z_b = x_b\,e^{s(x_a)} + t(x_a), \qquad \log|\det| = \sum_{j\in b} s_j(x_a). \tag{4}$$
#
# *In numbers.* Let $x = (2, 5)$ with $t(a) = a^2$ and $s(a) = -a$. Forward, $z = (2,\; 5e^{-2} +
# 4)$ and $\log|\det| = -2$. Back, read $2$, compute $t = 4$ and $s = -2$ again, and
# $x_b = (z_b - 4)\,e^{2} = 5$.
#
# **Many layers.** One layer leaves half of $x$ as it was, so the next one swaps the halves. The
# chain rule multiplies the Jacobians of the layers, and $\det(AB) = \det A\,\det B$. Hence
# $\log|\det|$ of a stack is the *sum* over its layers.
#
# **Question.** A coupling in the plane has $t(a) = \sin 40a$ and $s(a) = 2a$. By which factor does
# it change the area of a small cell around $x = (1, 7)$?
#
# <details><summary>Answer</summary>
#
# By $e^{s(1)} = e^2 \approx 7.4$. The wild shift does not matter, nor does $x_b = 7$: the first
# slides the cell (and shears it), and $s$ does not depend on the second.
# </details>

# %% [markdown] tags=["notes"]
# 12 minutes up to here. Ask: which numbers does the inverse need, and where does it get them?
# Expect "we must invert the network": point at $x_a$ in the drawing until somebody says that it
# is on both sides. Draw the 2 x 2 blocks of (2) for two data dimensions and strike out the
# lower left one. If time is short, leave out the numbers.

# %% [markdown]
# ## 4. Build: NICE
#
# [`halves`](../../gdm_course/flows/realnvp.py) cuts dimension 1 in two and `join` puts the
# halves back; with `swap` the second half is the one that stays. The network $t$ is a small
# perceptron, which `coupling_net` makes such that it says 0 at first: a new coupling is the
# identity.


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


# %%
seed_everything(0)
layer = AdditiveCoupling(nn.Sequential(nn.Linear(3, 9), nn.Tanh(), nn.Linear(9, 2)))
x = torch.randn(100, 5)
z, log_det = layer(x)
back, log_det_back = layer.inverse(z)
assert torch.allclose(back, x, atol=1e-5)
J = jacobian(lambda x: layer(x[None])[0][0], x[0])  # (5, 5), all derivatives of z in x
assert J.slogdet()[1].abs() < 1e-5  # torch's determinant agrees with (3):
assert (log_det == 0).all() and (log_det_back == 0).all()
print(J)

# %% [markdown]
# The printed Jacobian is (2): ones on the diagonal, the network's derivatives in the lower left
# corner.
#
# NICE is a stack of such layers. They all keep volumes, so the last layer gets a learned scale
# for each dimension. It is called [`ActNorm`](../../gdm_course/flows/realnvp.py): $z = (x -
# m)\,e^{\ell}$, where $m$ and $\ell$ start such that the first batch of training comes out with
# mean 0 and variance 1. `Flow` is the chain of layers from the last lecture.


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
# What makes a chain a model is three short functions. `Flow` has them as methods of the same
# names. Density and training go from data to noise, sampling goes the other way. No direction
# needs more than one pass.


# %%
noise = Independent(Normal(torch.zeros(2), torch.ones(2)), 1)


def log_prob(flow, x):
    """Equation (1), in nats: (B, 2) -> (B,)."""
    z, log_det = flow(x)
    return noise.log_prob(z) + log_det


def loss(flow, x):
    """The mean negative log-likelihood of a batch: what training makes small."""
    return -log_prob(flow, x).mean()


@torch.no_grad()
def sample(flow, n):
    """Draw noise and map it to data: (n, 2)."""
    return flow.inverse(noise.sample((n,)))[0]


seed_everything(0)
nice = NICE(2)
assert torch.equal(log_prob(nice, held_out), nice.log_prob(held_out))
assert sample(nice, 7).shape == (7, 2)

# %% [markdown]
# **Predict, before you run.** Can NICE fit the needle and the cloud, if it is given layers and
# time enough? Section 5 answers.
#
# The training loop: draw a batch, compute the loss, follow its gradient. The learning rate falls
# to 0, so that the end is quiet. We call the method `nice.loss`, because it also tells `ActNorm`
# that this batch may set its start. From here on `train` does these lines for us, and refuses
# losses that are not finite.

# %%
steps = budget(1000, 20)
optimizer = torch.optim.Adam(nice.parameters())
for step in progress(range(steps), label="training NICE"):
    batch = x_needle[torch.randint(len(x_needle), (256,))]
    optimizer.zero_grad()
    value = nice.loss(batch)
    value.backward()
    optimizer.param_groups[0]["lr"] = 4e-3 * (1 - step / steps)
    optimizer.step()
_ = nice.eval()

z, log_det = nice(held_out)
assert torch.allclose(nice.inverse(z)[0], held_out, atol=1e-3)
assert log_det.std() < 1e-4  # one volume factor everywhere
print(f"held-out -log p: {loss(nice, held_out):.3f} nats")

# %% [markdown]
# ## 5. What NICE cannot do
#
# The couplings keep area, and `ActNorm` multiplies it by one constant $c$, the same for all $x$.
# In the plane that is a strong limit, whatever the networks are. Here is why.
#
# The density is $q(x) = c\,\mathcal N(f(x); 0, I)$. It is a hill over the plane. Cut the hill
# at a height $\lambda$: the region where $q(x) > \lambda$ is what $f$ maps onto a disc, so its
# area is the disc's area divided by $c$. The region's outline can be anything. Its area is that
# of a round Gaussian hill of width $\sigma = 1/\sqrt c$. **So NICE can bend a Gaussian hill, but
# at each height the area stays.** Two hills with equal areas at each height:

# %% tags=["fold"]
# @title Two hills with equal areas at each height, and one that is different
hill = lambda x: Independent(Normal(torch.zeros(2), torch.ones(2)), 1).log_prob(x)
bent = lambda x: hill(torch.stack((x[:, 0] - 1 + 0.6 * x[:, 1] ** 2, x[:, 1]), 1))
names = ("a Gaussian hill", "the same, its rows shifted", "area above each height")
*maps, areas = plot.panels(*names, width=3.4)
frame, n = ((-4.0, 4.0), (-4.0, 4.0)), 400
axis = (torch.arange(n) + 0.5) / n * 8 - 4
for ax, log_q in zip(maps, (hill, bent)):
    height = log_q(plot.mesh(frame, n)).exp().view(n, n)
    levels = [0.02, 0.06, 0.12]
    lines = ax.contour(axis, axis, height, levels, colors=plot.BLUE)
    size = {at: (height > at).sum().item() * (8 / n) ** 2 for at in levels}
    ax.clabel(lines, fmt={at: f"{area:.1f}" for at, area in size.items()}, fontsize=8)
    plot.plane(frame, ax)
    ax.set_xlabel("numbers: area inside")
wide = ((-7.0, 5.0), (-6.0, 6.0))
for name, log_q, colour in (
    ("both", hill, plot.BLUE),
    ("needle and cloud", needle.log_prob, plot.BLACK),
):
    height = log_q(plot.mesh(wide, 1200)).exp().sort(descending=True).values
    areas.semilogy(
        (torch.arange(len(height)) + 1) * (12 / 1200) ** 2, height, color=colour, label=name
    )
areas.set(xlabel="area", ylabel="height", xlim=(-0.5, 20), ylim=(1e-4, 20))
_ = areas.legend()

# %% [markdown]
# On the log scale of the right panel every Gaussian hill is a straight line: above height $q$ lies
# a disc of radius $r$ and area $A = \pi r^2$, and $q = \frac{1}{2\pi\sigma^2}e^{-A/2\pi\sigma^2}$.
# The needle and the cloud are no straight line.
#
# How close can such a $q$ come to a truth $p$? Let $A(x)$ be the area of all points at which $p$
# is at least $p(x)$. The best $q$ is highest where $p$ is highest, next highest next to it, and so
# on: the point $x$ gets the height that its area $A(x)$ has on the Gaussian hill. So
#
# $$\mathbb E_p[\log q] = -\log 2\pi\sigma^2 - \frac{\mathbb E_p[A]}{2\pi\sigma^2},$$
#
# where $\mathbb E_p$ is the mean over points drawn from $p$. Setting the derivative in $2\pi\sigma^2$
# to 0 gives $2\pi\sigma^2 = \mathbb E_p[A]$. With the entropy $H(p) = -\mathbb E_p[\log p]$, every flow in
# the plane with a constant log-determinant has
#
# $$\mathrm{KL}(p\,\|\,q) = -H(p) - \mathbb E_p[\log q] \;\ge\; 1 + \log \mathbb E_p[A] - H(p).$$
#
# We compute this **floor** on a grid of small cells. Two cases can be done by hand. A Gaussian has
# the floor 0. The pointed hill $p(x) = e^{-|x|}/2\pi$ has $\mathbb E_p[A] = \pi\,\mathbb E_p|x|^2 =
# 6\pi$ and $H(p) = \log 2\pi + 2$, so its floor is $\log 3 - 1 \approx 0.099$.


# %%
def floor(log_prob, bounds, n=600):
    """Least KL(p || q) in nats of any flow in the plane with a constant log-determinant."""
    at, area = toy.cells(bounds, n, margin=0.2)
    log_p = torch.cat([log_prob(part) for part in at.float().split(20_000)]).double()
    p = log_p.exp().sort(descending=True).values
    A = torch.arange(1, len(p) + 1) * area
    entropy = -(p * p.clamp_min(1e-300).log()).sum() * area
    return (1 + ((p * A).sum() * area).log() - entropy).item()


@torch.no_grad()
def kl(truth, model, x):
    """KL(truth || model) in nats, from exact samples x of the truth."""
    return (truth.log_prob(x) - model.log_prob(x)).mean().item()


pointed = lambda x: -x.norm(dim=1) - math.log(2 * math.pi)
assert abs(floor(noise.log_prob, ((-6, 6), (-6, 6)))) < 1e-3
assert abs(floor(pointed, ((-16, 16), (-16, 16))) - (math.log(3) - 1)) < 1e-3
lowest, reached = floor(needle.log_prob, bounds), kl(needle, nice, held_out)
print(f"floor {lowest:.3f} nats, this NICE {reached:.3f} nats from the truth")
if budget(True, False):
    assert reached > lowest

# %% [markdown]
# **Answer to the prediction:** no. No layers and no time bring NICE under the floor.

# %% [markdown] tags=["notes"]
# 12 minutes. Draw the two hills by hand and cut both at one height. Ask: what else is limited in
# this way? (Any flow whose log-determinant does not depend on x: rotations, leapfrog steps.)
# Expect "more layers would do it". If time is short, state the floor, show its two cases, and leave
# out its derivation.

# %% [markdown]
# ## 6. Build: RealNVP
#
# Now the scale depends on $x$, so the volume factor differs from place to place. The exponential
# needs care: a network that says $s = 30$ multiplies by $10^{13}$. So its raw answer $r$ goes
# through a squeeze, [`bounded`](../../gdm_course/flows/realnvp.py), that leaves small numbers
# nearly as they are and never leaves the interval $(-b, b)$:
#
# $$s = \frac{r}{1 + |r|/b}. \tag{5}$$
#
# The argument `bound` is $b$. With `bound=math.inf` there is no squeeze, and we shall use that
# switch to see what it is good for.


# %% tags=["from:flows.realnvp.AffineCoupling"]
class AffineCoupling(nn.Module):
    """z_a = x_a, z_b = x_b exp(s(x_a)) + t(x_a): equation (4); log_det is sum s.

    Args:
        net: from the half that passes to shift t and raw log scale, side by side in
            dimension 1.
        swap: whether the second half passes.
        bound: of the log scale s; math.inf lets the network say anything.
    """

    def __init__(self, net: nn.Module, *, swap: bool = False, bound: float = 2.0):
        super().__init__()
        self.net, self.swap, self.bound = net, swap, bound

    def shift_and_scale(self, a: Tensor) -> tuple[Tensor, Tensor]:
        """Return t and the bounded log scale s for the half that is changed."""
        t, s = self.net(a).chunk(2, dim=1)
        return t, bounded(s, self.bound)

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
        bound: of the log scales; math.inf takes it away.

    References:
        Dinh, Sohl-Dickstein, Bengio (2017). Real NVP. arXiv:1605.08803.
    """

    def __init__(self, D: int, *, layers: int = 8, hidden: int = 64, bound: float = 2.0):
        validate.at_least(1, layers=layers, hidden=hidden)
        couplings: list[nn.Module] = []
        for k in range(layers):
            kept, changed = half_sizes(D, swap=k % 2 == 1)
            net = coupling_net(kept, 2 * changed, hidden)
            couplings.append(AffineCoupling(net, swap=k % 2 == 1, bound=bound))
        super().__init__([ActNorm(D), *couplings], (D,))


# %%
seed_everything(1)
flow = RealNVP(6, layers=4).double().eval()
for p in flow.parameters():
    p.data += 0.12 * torch.randn_like(p)  # away from the identity it starts as
x = torch.randn(50, 6).double()
maps = {"one coupling": flow.layers[1], "the next": flow.layers[2], "the whole stack": flow}
for ax, (name, layer) in zip(plot.panels(*maps, width=2.8), maps.items()):
    z, log_det = layer(x)
    back, log_det_back = layer.inverse(z)
    J = jacobian(lambda x, layer=layer: layer(x[None])[0][0], x[0])
    assert torch.allclose(back, x) and torch.allclose(log_det_back, -log_det)
    assert torch.isclose(J.slogdet()[1], log_det[0])  # (4) against torch's determinant
    picture = ax.imshow(J, cmap="RdBu", vmin=-2, vmax=2)
    ax.set(title=name, xlabel="x dimension", ylabel="z dimension", xticks=range(6))
_ = ax.figure.colorbar(picture, ax=ax, label=r"$\partial z_i/\partial x_j$", shrink=0.8)

# %% [markdown]
# One coupling is triangular: its diagonal shows the scales. The next one is triangular the other
# way round. The Jacobian of the stack is a full matrix, which is why a stack can do more, and its
# determinant is still the product of easy ones.
#
# **Question.** A RealNVP with $D = 2$ and *one* coupling: which densities of $x$ can it represent?
#
# <details><summary>Answer</summary>
#
# $x_a$ passes unchanged, so it is normal (its mean and width come from ActNorm). Given $x_a$, the
# other half $x_b = (z_b - t(x_a))\,e^{-s(x_a)}$ is normal, with a mean and a width that are free
# functions of $x_a$ (the width within the bound). A banana is of this kind. The needle and the cloud are not, since the
# density of $x_a$ has two peaks.
# </details>
#
# ## 7. Train beside the truth
#
# The same data, as many layers, as many steps. New is the factor $e^s$.


# %%
def fit(flow, x, steps, lr=4e-3, clip=None):
    """Train with a rate that falls to 0; yields (step, loss)."""
    rate = lambda step: lr * (1 - step / steps)
    yield from train(flow, forever(x, 256), steps, rate, clip=clip)
    flow.eval()


seed_everything(0)
affine = RealNVP(2)
panels = {
    "RealNVP's density": lambda ax: plot.density(affine.log_prob, bounds, ax, vmax=1),
    "samples": lambda ax: plot.scatter(affine.sample(2000), ax, bounds),
}
for _ in watch(fit(affine, x_needle, budget(1000, 20)), 100, panels):
    pass
found = kl(needle, affine, held_out)
print(f"RealNVP {found:.3f} nats from the truth; NICE {reached:.3f}, floor {lowest:.3f}")
if budget(True, False):
    assert found < 0.5 * lowest

# %% tags=["fold"]
# @title The truth beside both models, log density as ink
fig_axes = plot.panels("truth", "NICE", "RealNVP")
with torch.no_grad():
    for ax, model in zip(fig_axes, (needle, nice, affine)):
        ink = model.log_prob(plot.mesh(bounds, 300)).view(300, 300)
        ax.imshow(ink, origin="lower", extent=(*bounds[0], *bounds[1]), vmin=-12, vmax=2)
        plot.plane(bounds, ax)

# %% [markdown]
# Ink is the logarithm of the density here, because the needle is a hundred times denser than the
# middle of the cloud. NICE has to spread one Gaussian hill over both.
#
# **Change** `RealNVP(2)` to `RealNVP(2, layers=1)` in the training cell and run it again. What do
# you expect from the answer above, and what does the printed KL say?
#
# <details><summary>Answer</summary>
#
# LAYERS
# </details>
#
# ## 8. Play: data becomes noise
#
# Two thousand points after the first $k$ layers of the trained RealNVP; those right of $x_1 = 1$,
# where the needle is, are orange. Move the slider. Each coupling moves points along one axis only.
# Which layers blow the needle up?

# %%
seed_everything(0)
x_moving = needle.sample((2000,))
colours = [plot.ORANGE if right else plot.BLUE for right in x_moving[:, 0] > 1]


@torch.no_grad()
def draw_layers(layers):
    """Draw the points after the first `layers` layers, coloured by where they began."""
    z, log_det = x_moving, torch.zeros(len(x_moving))
    for layer in affine.layers[:layers]:
        z, part = layer(z)
        log_det += part
    (ax,) = plot.panels(f"after {layers} of {len(affine.layers)} layers", width=4, height=4)
    ax.scatter(*z.T, s=4, c=colours, linewidths=0)
    plot.plane(((-4.0, 4.0), (-4.0, 4.0)), ax)
    ax.set(xlabel=f"mean log-determinant so far: {log_det.mean():.2f} nats")


play(draw_layers, layers=(0, len(affine.layers), 1))

# %% [markdown]
# ## 9. Break it: scales without a bound
#
# Most real data have a few points far out. Take Student's $t$ distribution with 1.5 degrees of
# freedom: among 20,000 points a few lie hundreds of times farther out than the rest.
#
# **Predict, before you run.** Take the bound off with `bound=math.inf`, and follow the largest
# number, $\max|z|$ over all points, from layer to layer. What does it do?

# %%
heavy = Independent(StudentT(torch.full((2,), 1.5)), 1)


@torch.no_grad()
def largest(flow, x):
    """Return max |z| over points x (N, 2) before the first layer and after each."""
    z, sizes = x.double(), [x.abs().max().item()]
    for layer in copy.deepcopy(flow).double().layers:
        z = layer(z)[0]
        sizes.append(z.abs().nan_to_num(math.inf).max().item())
    return sizes


sizes = {math.inf: [], 2.0: []}
for bound in sizes:
    for seed in range(4):
        seed_everything(seed)
        x_heavy, flow = heavy.sample((20_000,)), RealNVP(2, bound=bound)
        try:
            for _ in fit(flow, x_heavy, budget(200, 10)):
                pass
        except FloatingPointError as error:
            print(f"bound {bound}, run {seed}: {str(error).split(' (')[0]}")
        sizes[bound].append(largest(flow.eval(), x_heavy))
median = x_heavy.norm(dim=1).median()
print(f"median distance {median:.2f}, largest {x_heavy.norm(dim=1).max():.0f}")
assert all(run[-1] < 1e4 for run in sizes[2.0])
if budget(True, False):
    assert max(run[-1] for run in sizes[math.inf]) > 1e38

# %% tags=["fold"]
# @title max |z| from layer to layer, with and without the bound
axes = plot.panels("bound = inf", "bound = 2", width=4)
for ax, runs in zip(axes, sizes.values()):
    for run in runs:
        ax.semilogy([min(size, 1e60) for size in run], marker="o", markersize=3)
    ax.axhline(3.4e38, color=plot.GREY, linestyle="--")
    ax.text(0, 6e38, "largest float", color=plot.GREY, fontsize=8)
    ax.set(ylim=(1, 1e45), xlabel="layer", ylabel="max |z| over the data")

# %% [markdown]
# **Answer to the prediction.** $s$ grows with $|x_a|$, so $z_b$ grows like
# $e^{|x_a|}$. The next layer's network reads that number, and answers with an exponential of an
# exponential. A few layers suffice to leave the range of floats. With the bound a layer multiplies
# the half that it changes by at most $e^2$; eight layers change each coordinate four times, so by a
# factor of $e^8$ at most. That is enough for any needle here, and it is finite.

# %% [markdown] tags=["notes"]
# 10 minutes for sections 7 to 9. Ask before the figure: "which layer is the first to fail?" Expect
# "the last". Two runs with one seed need not stop at the same step on two machines. Leave out the
# slider if time is short.

# %% [markdown]
# ## 10. Digits: from codes to real numbers
#
# A pixel is a **code**, one of $K$ whole numbers, and a flow has a density of *real* numbers. What
# goes wrong if we ignore this? Put the needle and the cloud on a lattice of $16\times16$ codes, whose
# true probabilities $P$ we can compute. No model can have a mean $\log P$ on fresh codes above
# $-H(P)$, and never above 0, for probabilities are at most 1.

# %%
K, low, width = 16, torch.tensor([-5.25, -4.25]), 8.0
centre = (torch.arange(20 * K) + 0.5) / (20 * K)
p = needle.log_prob(low + width * torch.cartesian_prod(centre, centre)).exp()
true_P = p.view(K, 20, K, 20).mean((1, 3)) * (width / K) ** 2
entropy = Categorical(true_P.flatten()).entropy().item()
to_codes = lambda x: ((x - low) / width * K).floor().clamp(0, K - 1).long()
codes, held_codes = to_codes(x_needle), to_codes(held_out)

seed_everything(0)
raw, earned = RealNVP(2), {}
for step, _ in progress(fit(raw, codes.float(), budget(500, 10), clip=5.0), 500):
    if step % 20 == 0:
        earned[step] = -loss(raw, held_codes.float()).item()
ax = plot.curves({"raw codes": [*earned.values()]}, x=[*earned], ylabel="mean log density")
ax.axhline(-entropy, color=plot.BLACK, linestyle="--", label="-H(P), the best there is")
ax.legend()
print(f"-H(P) = {-entropy:.2f} nats, claimed {max(earned.values()):.2f}")
if budget(True, False):
    assert max(earned.values()) > 1 - entropy

# %% [markdown]
# The flow claims the impossible. It puts a spike of density on each code, the narrower the higher:
# the likelihood has no upper limit, and says nothing about the model.
#
# The cure is **dequantisation**: add noise $u$, uniform in $[0,1)^D$, and fit a density $p$ to $x + u$.
# The mass of $p$ in the cell of a code is an honest probability. Jensen's inequality (the
# logarithm of a mean is at least the mean of the logarithm) gives
#
# $$\log P(x) = \log \mathbb E_u\bigl[p(x+u)\bigr] \;\ge\; \mathbb E_u\bigl[\log p(x+u)\bigr]. \tag{6}$$
#
# So with noise, training makes a lower bound of $\log P$ large. A spike no longer pays, since noise
# hardly ever hits it.
#
# Two details remain. The flow sees numbers $(x+u)/K$ between 0 and 1; there a density is
# $K^D$ times larger, so $D\log K$ is subtracted. And a flow wants all real numbers, so
# [`Logit`](../../gdm_course/flows/dequantisation.py) stretches the interval by $y =
# \mathrm{logit}(\alpha + (1-2\alpha)v)$, where $\mathrm{logit}\,v = \log\frac{v}{1-v}$ and the small
# $\alpha$ keeps $v$ off 0 and 1. It reports its log-determinant like any layer.

# %% tags=["fold"]
# @title From a pixel's code to noise
# PLACE: the schematic of helper s (pixel, code, logit, flow)


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
# A bound is no density, so there is no `log_prob` but an `elbo`, a lower bound of the log
# probability. `noise` may be something cleverer than uniform; then its log density $\log q$ is
# subtracted (a further section). `iwae` averages over $k$ draws of noise *before* it takes the
# logarithm, which makes the bound tighter.
#
# First the lattice again, then digits, as vectors of 64 codes. We keep the weights that are best on
# validation digits, and use the test digits once, at the end.

# %%
seed_everything(0)
honest = Dequantised(RealNVP(2), K)
for _ in progress(fit(honest, codes, budget(500, 10), clip=5.0), 500):
    pass
with torch.no_grad():
    print(
        f"lattice: -H(P) = {-entropy:.3f}, bound {honest.elbo(held_codes).mean():.3f} nats"
    )
    assert honest.elbo(held_codes).mean() < -entropy

x_train, x_valid, x_test = (
    part.flatten(1) for part in (digits.x_train, digits.x_valid, digits.x_test)
)
seed_everything(0)
painter, best = Dequantised(RealNVP(64), digits.levels), math.inf
for step, _ in watch(fit(painter, x_train, budget(600, 20), lr=2e-3, clip=50.0)):
    if step % budget(100, 10) == 0:
        bits = bound_bits(painter, x_valid).value
        if bits < best:
            best, kept = bits, copy.deepcopy(painter.state_dict())
_ = painter.load_state_dict(kept)

# %% [markdown]
# Now measure. Bits per dimension are nats, divided by the 64 pixels and by $\log 2$; less is better.
# *One histogram* draws all pixels from one distribution of grey levels.

# %%
seed_everything(0)
levels = Categorical(torch.bincount(x_train.flatten().long(), minlength=17).float())
histogram = -levels.log_prob(x_test.long()).mean().item() / math.log(2)
row = "{:28s}{:>18s}".format
print(row("digits, test", "bits per dimension"))
print(row("one histogram", f"{histogram:.3f}"))
for k in (1, 8):
    figure = bound_bits(painter, x_test, k=k)
    print(row(f"RealNVP, bound, k = {k}", f"{figure.value:.3f} +- {figure.error:.3f}"))
    if budget(True, False):
        assert figure.value < histogram - 0.5
for model in (affine, painter):
    print(f"{type(model).__name__}: {protocols.abilities(model)}")
drawn = {"drawn by RealNVP": painter.sample(48), "test digits": x_test[:48]}
for ax, x in zip(plot.panels(*drawn, width=4.2), drawn.values()):
    plot.image_grid(x.view(-1, 1, 8, 8), ax, columns=8, vmax=16)

# %% [markdown]
# **Question.** You multiply all pixels by 2 before you train a flow on them. Its $\log p(x)$ falls by
# $D\log 2$. Did the model get worse?
#
# <details><summary>Answer</summary>
#
# No. A density has a unit, one over volume, and you changed the unit. That is why densities
# of rescaled pixels are never compared. The probability $P(x)$ of a code has no unit, because $D\log K$
# was subtracted: bits per dimension from there can be compared between all models of the same
# codes.
# </details>

# %% [markdown] tags=["notes"]
# 14 minutes. Ask before the curve: "the loss falls and falls: good news?" Then ask what the
# largest possible log probability is. Expect "densities are at most 1". Leave out the details of the
# logit.

# %% [markdown]
# ## Summary
#
# - **Coupling**: half of $x$ stays and steers the other half. The Jacobian is triangular, no
#   network is inverted, and both directions cost one pass.
# - **Additive** couplings keep areas at each height: in the plane a floor under the KL divergence,
#   computable for any truth.
# - **Affine** couplings change volume from place to place. Their scales are exponentials and need
#   a bound.
# - **Dequantisation** turns a density of real numbers into a bound for codes; raw codes make the likelihood meaningless.
#
# | | additive (NICE) | affine (RealNVP) |
# |---|---|---|
# | $z_b$ | $x_b + t(x_a)$ | $x_b e^{s(x_a)} + t(x_a)$ |
# | $\log\lvert\det\rvert$ in nats | 0 | $\sum_j s_j(x_a)$ |
# | network passes for a density, for a sample | one, one | one, one |
# | limit | areas at each height | scales need a bound |
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
