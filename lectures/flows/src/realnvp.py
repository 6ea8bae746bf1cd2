# %% [markdown]
# # Half of it stays: coupling flows
#
# Leave one half of the data alone, and let it decide how to stretch the other half. Then
# a layer is invertible whatever neural network is inside, and its Jacobian determinant
# costs nothing. We build two such flows, NICE and RealNVP, prove what the first cannot
# do, and break and repair the second.

# %% [markdown] tags=["nav"]
# 50 minutes, and 54 further ·
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

import torch
import torch.nn.functional as F
from IPython.display import display
from torch import Tensor, nn
from torch.autograd.functional import jacobian
from torch.distributions import (
    Categorical,
    Independent,
    MixtureSameFamily,
    MultivariateNormal,
    Normal,
    StudentT,
)

from gdm_course import (
    checkpoints,
    protocols,
    schematics,
    validate,
)
from gdm_course import plotting as plot
from gdm_course.data import images, toy
from gdm_course.evaluation.bounds import bound_bits
from gdm_course.flows import realnvp
from gdm_course.flows.dequantisation import (
    Dequantised,
    DequantisedGlow,
    Logit,
    UniformNoise,
    log_slope_of_sigmoid,
    noise_like,
)
from gdm_course.flows.flow import Chain, Flow
from gdm_course.flows.glow import (
    MaskedCoupling,
    checkerboard,
    mix,
    not_wider,
    squeeze,
    unsqueeze,
)
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
from gdm_course.training import budget, forever, full_run, generator, seed_everything, train
from gdm_course.widgets import play, progress, watch

plot.style()

# %% [markdown]
# ## 1. The question
#
# A flow is an invertible function $f$ from a data point $x$ to noise $z = f(x)$, where
# the noise is standard normal, $\mathcal N(0, I)$. The change of variables gives the
# flow's density $p$ of $x$:
#
# $$\log p(x) = \log\mathcal N(f(x); 0, I) + \log\Bigl|\det\frac{\partial f}{\partial x}\Bigr|.
#   \tag{1}$$
#
# The matrix $\partial f/\partial x$ of derivatives is the **Jacobian**. The absolute
# value of its determinant is the factor by which $f$ changes the volume of a small piece
# of space.
#
# The planar flows of the last lecture gave either the density or samples cheaply. We want
# layers with a whole network inside that are cheap in *both* directions. Then one model
# has the course's three methods: `loss` (it is *Trainable*), `sample` (a *Sampler*) and
# the exact `log_prob` (a *Density*).
#
# We use two data sets: images of digits, and points whose true density $p^*$ we know. It
# is a *needle* and a *cloud*, two round Gaussians, one ten times as wide as the other.

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
# Cut a point into two halves, $x_a$ and $x_b$; in the plane they are its two coordinates.
# Keep $x_a$. The other half may move, by a rule that reads $x_a$ only. **Shift** it: the
# columns of a lattice slide past each other, and no cell changes its area. **Scale and
# shift** it: columns also stretch, so that cells grow and shrink.
#
# Going back is easy: read the same rule off $x_a$, which is still there, and undo the
# move. The rule itself is never inverted, so it can be any function, such as a neural
# network.

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
# Below is one such layer in both directions. A network computes a shift $t$ and a log
# scale $s$ (the scale is $e^s$). $B$ is the number of points in a batch.

# %% tags=["fold"]
# @title A coupling layer, forward and inverse
seed_everything(0)
layer, x = realnvp.RealNVP(5).layers[1], torch.randn(100, 5)
display(schematics.coupling(layer, x), schematics.coupling_inverse(layer, layer(x)[0]))

# %% [markdown]
# ## 3. The mathematics
#
# **A triangular Jacobian.** Let $z_a = x_a$ and $z_b = g(x_b; x_a)$, where the function
# $g$ treats each dimension $j$ of $x_b$ by itself. Order the derivatives by halves:
#
# $$\frac{\partial z}{\partial x} =
#   \begin{pmatrix} I & 0 \\ \partial z_b/\partial x_a & \partial z_b/\partial x_b
#   \end{pmatrix},
#   \qquad \det = \prod_{j}\frac{\partial z_j}{\partial x_j}, \tag{2}$$
#
# where $j$ runs over the dimensions of $x_b$. The upper left block is the identity $I$. The
# upper right block is 0, because $z_a$ does not depend on $x_b$. The lower right block is
# diagonal, because $g$ works dimension by dimension. The determinant of such a triangular
# matrix is the product of its diagonal. The block $\partial z_b/\partial x_a$ holds the
# derivatives of the network. It is not in that product, so nobody has to compute it.
#
# The **additive** coupling of NICE (2015) has a shift $t$:
#
# $$z_b = x_b + t(x_a), \qquad \log|\det| = 0. \tag{3}$$
#
# The **affine** coupling of RealNVP (2017) adds a scale $e^s$, which is positive whatever
# the network says for $s$. On the diagonal of (2) stand the scales, so
#
# $$z_b = x_b\,e^{s(x_a)} + t(x_a), \qquad \log|\det| = \sum_{j} s_j(x_a). \tag{4}$$
#
# *In numbers.* Let $x = (2, 5)$, $t(a) = a^2$ and $s(a) = -a$. Forward:
# $z = (2,\; 5e^{-2} + 4)$ and $\log|\det| = -2$. Back: read $2$, compute $t = 4$ and
# $s = -2$ again, and $x_b = (z_b - 4)\,e^{2} = 5$.
#
# **Many layers.** One layer leaves half of $x$ as it was, so the next one swaps the
# halves. The chain rule multiplies the Jacobians of the layers, and
# $\det(AB) = \det A\,\det B$. Hence $\log|\det|$ of a stack is the *sum* over its layers.
#
# **Question.** A coupling in the plane has $t(a) = \sin 40a$ and $s(a) = 2a$. By which
# factor does it change the area of a small cell around $x = (1, 7)$?
#
# <details><summary>Answer</summary>
#
# By $e^{s(1)} = e^2 \approx 7.4$. The shift only slides and shears the cell, and $s$ does
# not depend on $x_b$.
# </details>

# %% [markdown] tags=["notes"]
# 13 minutes for sections 1 to 3. Ask: which numbers does the inverse need, and where does
# it get them? Expect "we must invert the network": point at $x_a$ in the drawing until
# somebody says that it is on both sides. Draw the 2 x 2 blocks of (2) for two data
# dimensions and strike out the lower left one. If time is short, leave out the numbers.

# %% [markdown]
# ## 4. Build: NICE
#
# [`halves`](../../gdm_course/flows/realnvp.py) cuts a vector in two and `join` puts the
# halves back; with `swap` the second half is the one that stays.


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


def jacobian_of(layer, x):
    """All derivatives of z in x at one point, by torch: (D,) -> (D, D)."""
    return jacobian(lambda x: layer(x[None])[0][0], x)


J = jacobian_of(layer, x[0])
assert J.slogdet()[1].abs() < 1e-5  # torch's determinant agrees with (3):
assert (log_det == 0).all() and (log_det_back == 0).all()
print(J)

# %% [markdown]
# The printed Jacobian is (2): ones on the diagonal, the network's derivatives in the
# lower left corner.
#
# NICE is a stack of such layers. They all keep volumes, so a last layer learns one scale
# for each dimension: [`ActNorm`](../../gdm_course/flows/realnvp.py),
# $z = (x - m)\,e^{\ell}$, where $m$ and $\ell$ start such that the first batch comes out
# with mean 0 and variance 1. `Flow` is the chain of layers from the last lecture.
# `coupling_net` makes a perceptron with ReLU units that says 0 at first, so that a new
# coupling is the identity. (`half_sizes` counts dimensions, `validate` refuses sizes
# below 1.)


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
# Three short functions make a chain a model; `Flow` has them as methods of the same
# names. Density and training go from data to noise, sampling goes back, in one pass each.


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
# The training loop: draw a batch, compute the loss, follow its gradient, with a rate that
# falls to 0. We call `nice.loss`: the same value, and only there does `ActNorm` take $m$
# and $\ell$ from the first batch. Later [`train`](../../gdm_course/training.py) runs
# these lines. (`budget(800, 20)` is 800 steps, or 20 in our automatic tests, where
# `full_run()` is false.)
#
# How far is the flow's $p$ from the truth? We measure
# $\mathrm{KL}(p^*\|\,p) = \mathbb E_{p^*}[\log p^*(x) - \log p(x)]$, a mean over points
# from $p^*$, as a sum over small cells of the plane. It is 0 only for the truth. For
# scale, the cell also prints it for the best single Gaussian.
#
# **Predict, before you run.** Can NICE fit the needle and the cloud, if it is given
# layers and time enough?

# %%
steps = budget(800, 20)
optimizer = torch.optim.Adam(nice.parameters())
for step in progress(range(steps), label="training NICE"):
    batch = x_needle[torch.randint(len(x_needle), (256,))]
    optimizer.zero_grad()
    value = nice.loss(batch)
    value.backward()
    optimizer.param_groups[0]["lr"] = 4e-3 * (1 - step / steps)
    optimizer.step()
_ = nice.eval()


@torch.no_grad()
def kl(truth, model, bounds, n=300):
    """KL(truth || model) in nats, a sum over n x n cells of a rectangle around `bounds`."""
    at, area = toy.cells(bounds, n, margin=0.2)  # centres (n * n, 2); area of one cell
    log_true, log_p = truth.log_prob(at.float()), model.log_prob(at.float())
    return (log_true.exp() * (log_true - log_p)).sum().item() * area


z, log_det = nice(held_out)
assert torch.allclose(nice.inverse(z)[0], held_out, atol=1e-3)
assert log_det.std() < 1e-4  # one volume factor everywhere
reached = kl(needle, nice, bounds)
gaussian = MultivariateNormal(x_needle.mean(0), x_needle.T.cov())
print(f"best single Gaussian: {kl(needle, gaussian, bounds):.3f} nats from the truth")
print(f"NICE: {reached:.3f} nats")

# %% [markdown]
# ## 5. What NICE cannot do
#
# <details><summary>Answer to the prediction</summary>
#
# No. Neither layers nor time help, as this section proves.
# </details>
#
# The couplings keep areas, and `ActNorm` multiplies them by a constant $c$, the same for
# all $x$. In the plane that is a strong limit, whatever the networks are.
#
# The density is $p(x) = c\,\mathcal N(f(x); 0, I)$, a hill over the plane. Cut it at a
# height. What lies above the cut, $f$ maps onto a disc of some radius $R$. Since $f$
# multiplies areas by $c$, its area is $\pi R^2/c$.
#
# Now take a round Gaussian of width $\sigma = 1/\sqrt c$. Its density is
# $c\,\mathcal N(\sqrt c\,x; 0, I)$. Above the same cut lies a disc of radius $R/\sqrt c$,
# with the same area $\pi R^2/c$. So **NICE bends a Gaussian hill, and at each height the
# area stays:**

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
    ("both hills", hill, plot.BLUE),
    ("needle and cloud", needle.log_prob, plot.BLACK),
):
    height = log_q(plot.mesh(wide, 1200)).exp().sort(descending=True).values
    areas.semilogy(
        (torch.arange(len(height)) + 1) * (12 / 1200) ** 2, height, color=colour, label=name
    )
areas.set(xlabel="area", ylabel="height", xlim=(-0.5, 20), ylim=(1e-4, 20))
_ = areas.legend(loc="upper right")

# %% [markdown]
# The right panel has a logarithmic height. There every Gaussian hill is a straight line:
# at radius $r$ the area inside is $A = \pi r^2$, and with $w = 2\pi\sigma^2$ the height is
# $\frac1w e^{-r^2/2\sigma^2} = \frac1w e^{-A/w}$. The needle and the cloud give no
# straight line, so no width fits them.
#
# **How close can NICE come?** We have
# $\mathrm{KL}(p^*\|\,p) = -H(p^*) - \mathbb E_{p^*}[\log p]$, where the entropy
# $H(p^*) = -\mathbb E_{p^*}[\log p^*]$ is fixed. So we look for the largest
# $\mathbb E_{p^*}[\log p]$, in three steps.
#
# *Allow more.* Cut a Gaussian hill into small cells and put them back in *any* order, even
# one that no flow makes. The best of all orders is at least as good as the best flow.
#
# *Find the best order.* Give two cells with $p^* = 3$ and $1$ the heights $\log p = 0$ and
# $-2$. High to high makes $3\cdot 0 + 1\cdot(-2) = -2$, the other way
# $3\cdot(-2) + 1\cdot 0 = -6$. It is so for any two cells: if the larger $p^*$ has the
# smaller $\log p$, a swap helps. So the best $p$ is high where $p^*$ is high, in the same
# order.
#
# *Put in the heights.* Let $A(x)$ be the area where the truth is at least $p^*(x)$. By the
# order, it is also the area where $p$ is at least $p(x)$. So $p(x)$ is the height of the
# Gaussian hill at area $A(x)$:
#
# $$\log p(x) = -\log w - \frac{A(x)}{w}, \qquad
#   \mathbb E_{p^*}[\log p] = -\log w - \frac{\mathbb E_{p^*}[A]}{w}.$$
#
# The derivative in $w$, $-1/w + \mathbb E_{p^*}[A]/w^2$, is 0 at $w = \mathbb E_{p^*}[A]$.
# There the mean is $-\log\mathbb E_{p^*}[A] - 1$. Hence every flow in the plane with a
# constant log-determinant has
#
# $$\mathrm{KL}(p^*\|\,p) \;\ge\; 1 + \log \mathbb E_{p^*}[A] - H(p^*).$$
#
# We compute this **floor** on small cells, and test the code on two known cases.


# %%
def floor(log_prob, bounds, n=600):
    """Least KL in nats from a truth to any flow with a constant log-determinant."""
    at, area = toy.cells(bounds, n, margin=0.2)
    log_true = torch.cat([log_prob(part) for part in at.float().split(20_000)]).double()
    p = log_true.exp().sort(descending=True).values  # the highest cell first
    A = torch.arange(1, len(p) + 1) * area  # area of the cells that are as high or higher
    entropy = -(p * p.clamp_min(1e-300).log()).sum() * area
    return (1 + ((p * A).sum() * area).log() - entropy).item()


assert abs(floor(noise.log_prob, ((-6, 6), (-6, 6)))) < 1e-3  # a Gaussian has floor 0
pointed = lambda x: -x.norm(dim=1) - math.log(2 * math.pi)  # e^-|x| / 2 pi, a pointed hill:
# E[A] = pi E|x|^2 = 6 pi and H = log 2 pi + 2, so its floor is log 3 - 1
assert abs(floor(pointed, ((-16, 16), (-16, 16))) - (math.log(3) - 1)) < 1e-3
lowest = floor(needle.log_prob, bounds)
print(f"floor {lowest:.3f} nats, this NICE {reached:.3f} nats from the truth")
if full_run():
    assert reached > lowest

# %% [markdown] tags=["notes"]
# 15 minutes for sections 4 and 5. Draw the two hills by hand and cut both at one height.
# Ask: what else is limited in this way? (Any flow whose log-determinant does not depend
# on x: rotations, leapfrog steps.) Expect "more layers would do it". If time is short,
# state the floor, show its two cases, and leave out its derivation.

# %% [markdown]
# ## 6. Build: RealNVP
#
# Now the scale depends on $x$, so the volume factor differs from place to place. The
# network's raw answer $r$ goes through [`bounded`](../../gdm_course/flows/realnvp.py),
# which hardly changes small numbers and keeps $s$ between $-s_{\max}$ and $s_{\max}$:
#
# $$s = \frac{r}{1 + |r|/s_{\max}}. \tag{5}$$
#
# The argument `bound` is $s_{\max}$. With `bound=math.inf` we have $s = r$; section 9 uses
# this switch. `ActNorm` comes first now, so that the networks see numbers of about
# size 1; NICE needed it last, as its only scale.


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
first, second = flow.layers[1:3]  # layers[0] is ActNorm
maps = {"one coupling": first, "the next": second, "the whole stack": flow}
for ax, (name, layer) in zip(plot.panels(*maps, width=2.8), maps.items()):
    z, log_det = layer(x)
    back, log_det_back = layer.inverse(z)
    J = jacobian_of(layer, x[0])
    assert torch.allclose(back, x) and torch.allclose(log_det_back, -log_det)
    assert torch.isclose(J.slogdet()[1], log_det[0])  # (4) against torch's determinant
    picture = ax.imshow(J, cmap="RdBu", vmin=-2, vmax=2)
    ax.set(title=name, xlabel="x dimension", ylabel="z dimension", xticks=range(6))
_ = ax.figure.colorbar(picture, ax=ax, label=r"$\partial z_i/\partial x_j$", shrink=0.8)

# %% [markdown]
# One coupling is triangular, with the scales on its diagonal. The next is triangular the
# other way round. The Jacobian of the stack has no such form, but its determinant is
# still the product of easy ones.
#
# ## 7. Train beside the truth
#
# Data, layers and steps are as for NICE; new is the factor $e^s$.


# %%
def fit(flow, batches, steps, lr=4e-3, clip=None):
    """Train with a rate that falls to 0; yields (step, loss)."""
    rate = lambda step: lr * (1 - step / steps)
    yield from train(flow, batches, steps, rate, clip=clip)
    flow.eval()


seed_everything(0)
affine, ink = RealNVP(2), {"vmax": 8, "log": True, "floor": 1e-5}
panels = {
    "its density": lambda ax: plot.density(affine.log_prob, bounds, ax, **ink),
    "samples": lambda ax: plot.scatter(affine.sample(2000), ax, bounds),
}
batches = forever(x_needle, 256)  # without end, in a new order every epoch
for _ in watch(fit(affine, batches, budget(800, 20)), 100, panels):
    pass
found = kl(needle, affine, bounds)
print(f"RealNVP {found:.3f} nats from the truth; NICE {reached:.3f}, floor {lowest:.3f}")
print(protocols.abilities(affine))
if full_run():
    assert found < 0.5 * lowest

# %% tags=["fold"]
# @title The truth beside both models, on a logarithmic scale
models = {"truth": needle, "NICE": nice, "RealNVP": affine}
for ax, model in zip(plot.panels(*models, width=3.6), models.values()):
    plot.density(model.log_prob, bounds, ax, n=300, **ink)

# %% [markdown]
# The scale is logarithmic, because the needle is a hundred times denser than the middle
# of the cloud.
#
# **Change** `RealNVP(2)` to `RealNVP(2, layers=1)` in the training cell and run it again.
# (Its last assert will fail.) How large must the KL be at least? The next cell looks at
# $x_a$ alone.

# %%
x_a = MixtureSameFamily(Categorical(torch.ones(2)), Normal(centres[:, 0], widths[:, 0]))
grid = torch.linspace(-7, 3, 10_001)
log_true, best = x_a.log_prob(grid), Normal(x_a.mean, x_a.variance.sqrt())
gap = (log_true.exp() * (log_true - best.log_prob(grid))).sum() * 1e-3
print(f"x_a alone: {gap:.3f} nats from its best normal")

# %% [markdown]
# <details><summary>Answer</summary>
#
# The only coupling leaves $x_a$ as it was, so the flow's $x_a$ is normal, with mean and
# width from ActNorm. The truth's $x_a$ has two peaks. The KL of both coordinates is at
# least that of $x_a$ alone, the printed number. (That NICE ends nearby is a coincidence.)
# </details>
#
# ## 8. Play: data becomes noise
#
# Points after the first layers of the trained RealNVP; those that began around the needle
# are orange. Move the slider, and watch how the needle gets wide.

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


play(draw_layers, layers=(0, len(affine.layers), 1, 0))

# %% [markdown]
# ## 9. Break it: scales without a bound
#
# Many real data have a few points far out. Take Student's distribution with 1.5 degrees
# of freedom: of 20,000 points a few lie hundreds of times farther out than the median.
#
# **Predict, before you run.** Take the bound off with `bound=math.inf`, train, and follow
# $\max|z|$, the largest number over all points, from layer to layer. What does it do?

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
            for _ in fit(flow, forever(x_heavy, 256), budget(200, 10)):
                pass
        except FloatingPointError as error:
            print(f"bound {bound}, run {seed}: {str(error).split(' (')[0]}")
        sizes[bound].append(largest(flow.eval(), x_heavy))
median = x_heavy.norm(dim=1).median()
print(f"median distance {median:.2f}, largest {x_heavy.norm(dim=1).max():.0f}")
assert all(run[-1] < 1e4 for run in sizes[2.0])
if full_run():
    assert max(run[-1] for run in sizes[math.inf]) > 1e38

# %% tags=["fold"]
# @title The largest number after each layer, without and with the bound
axes = plot.panels("bound = inf", "bound = 2", width=4)
for ax, runs in zip(axes, sizes.values()):
    for run in runs:
        ax.semilogy([min(size, 1e60) for size in run], marker="o", markersize=3)
    ax.axhline(3.4e38, color=plot.GREY, linestyle="--")
    ax.text(0, 6e38, "largest float", color=plot.GREY, fontsize=8)
    ax.set(ylim=(1, 1e45), xlabel="layer", ylabel="max |z| over the data")

# %% [markdown]
# <details><summary>Answer to the prediction</summary>
#
# It jumps by many powers of ten in one layer, and in most of our runs training stops: the
# loss is not finite.
# </details>
#
# A network of ReLU units is made of linear pieces. So far out $s$ grows in proportion to
# $|x_a|$, say as $k|x_a|$, and $z_b$ like $e^{k|x_a|}$. The next layer reads that number,
# and answers with the exponential of an exponential, $e^{k' e^{k|x_a|}}$.
#
# With the bound a layer scales its half by $e^2$ at most. Eight layers scale each
# coordinate four times, together by $e^8\approx 3000$ at most: finite, and enough for
# the needle, which is ten times narrower than the cloud.

# %% [markdown] tags=["notes"]
# 14 minutes for sections 6 to 9. Ask before the figure: "which layer is the first to
# fail?" Expect "the last". Two runs with one seed need not stop at the same step on two
# machines. Leave out the slider if time is short.

# %% [markdown]
# ## 10. Digits: from codes to real numbers
#
# A pixel is a **code**, one of $K$ whole numbers, and a flow is a density of *real*
# numbers. Put the needle and the cloud on a lattice of $16\times16$ codes, whose true
# probabilities $P^*$ we can compute. No model can have a better mean log probability than
# the truth, $-H(P^*)$; and no log probability is above 0. The needle falls on *one* code,
# $(13, 8)$.

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
batches = forever(codes.float(), 256)
for step, _ in progress(fit(raw, batches, budget(500, 10), clip=5.0), 500):
    if step % budget(20, 5) == 0:
        earned[step] = -loss(raw, held_codes.float()).item()
with torch.no_grad():
    spike = raw.log_prob(torch.tensor([[13.0, 8.0]])).item()
print(f"all codes: -H(P*) = {-entropy:.2f} nats, claimed {max(earned.values()):.2f}")
print(f"code (13, 8): log P* = {true_P[13, 8].log():.2f} nats, claimed {spike:.2f}")
if full_run():
    assert max(earned.values()) > 1 - entropy
    assert spike > 0

# %% tags=["fold"]
# @title What is claimed while the flow trains, and where the density is in the end
left, right = plot.panels("held-out codes", "density of the raw codes", width=4)
plot.curves({"raw codes": [*earned.values()]}, left, [*earned], ylabel="mean log density")
left.axhline(-entropy, color=plot.BLACK, linestyle="--", label="-H(P*), the best there is")
left.legend()
ink_raw = {"vmax": 10.0, "log": True, "floor": 1e-6}
_ = plot.density(raw.log_prob, ((-0.5, 15.5), (-0.5, 15.5)), right, n=300, **ink_raw)

# %% [markdown]
# The flow claims more than the truth can have. On the code $(13, 8)$, which nearly half of
# all points have, it builds a spike: its log density is above 0, which no log probability
# can be. How high it gets depends on the number of steps (try 1,500) and in the end on the
# bound $s_{\max}$, not on the data.
#
# The cure is **dequantisation**: add noise $u$, uniform in $[0,1)^D$ for $D$ pixels, and
# fit a density $p$ to $x + u$. Its mass in the cell of a code is a probability, $P(x)$.
# The cell has volume 1, so this mass is the mean of $p(x+u)$. And the logarithm of a mean
# is at least the mean of the logarithm (Jensen's inequality):
#
# $$\log P(x) = \log \mathbb E_u\bigl[p(x+u)\bigr] \;\ge\; \mathbb E_u\bigl[\log p(x+u)\bigr]. \tag{6}$$
#
# Training makes this bound large, and a spike does not help now: $x + u$ hardly ever hits
# it.
#
# The code has two more steps. It divides by $K$, so that $v = (x+u)/K$ lies in $[0, 1)$.
# Lengths shrink by $K$, so the density of $v$ is $K^D$ times that of $x + u$: from its
# logarithm we subtract $D\log K$. Then
# [`Logit`](../../gdm_course/flows/dequantisation.py) stretches the interval over the real
# numbers, $y = \log\frac{v'}{1-v'}$, where $v' = 0.05 + 0.9\,v$ keeps away from 0 and 1.
# Its log-determinant counts, too.

# %%
stretch = Logit(0.05)


def to_real(x, K):
    """Codes (B, D) to real numbers y (B, D), and log |det dy/dv| (B,)."""
    return stretch((x + torch.rand(x.shape)) / K)


def code_bound(flow, x, K):
    """Lower bound (6) of log P(x) with one draw of u, in nats: codes (B, D) -> (B,)."""
    y, log_det = to_real(x, K)
    return flow.log_prob(y) + log_det - x.shape[1] * math.log(K)


seed_everything(0)
u = stretch.inverse(to_real(codes, K)[0])[0] * K - codes  # the noise, found again
assert (u > -1e-3).all() and (u < 1.001).all()  # it does not leave the cell

# %% [markdown]
# Only the first term of `code_bound` depends on the flow's weights. So the flow is trained
# on $y$, with fresh noise in each batch: first on the lattice, then on digits as vectors of
# 64 codes.


# %%
def noisy(codes, K, B=256):
    """Batches of codes, with fresh noise, as real numbers; without end."""
    return (to_real(x, K)[0] for x in forever(codes, B))


seed_everything(0)
honest = RealNVP(2)
for _ in progress(fit(honest, noisy(codes, K), budget(500, 10), clip=5.0), 500):
    pass
with torch.no_grad():
    bound = code_bound(honest, held_codes, K).mean()
print(f"lattice: -H(P*) = {-entropy:.3f}, bound {bound:.3f} nats")
assert bound < -entropy

x_train, x_valid, x_test = (
    part.flatten(1) for part in (digits.x_train, digits.x_valid, digits.x_test)
)


@torch.no_grad()
def bits(flow, x):
    """Bits per dimension of digits (N, 64) by the bound: mean and standard error."""
    each = -code_bound(flow, x, digits.levels) / (64 * math.log(2))
    return each.mean().item(), each.std().item() / math.sqrt(len(x))


seed_everything(0)
painter, best = RealNVP(64), math.inf
batches = noisy(x_train, digits.levels)
for step, _ in watch(fit(painter, batches, budget(600, 20), lr=2e-3, clip=50.0)):
    if step % budget(100, 10) == 0 and (now := bits(painter, x_valid)[0]) < best:
        best, kept = now, copy.deepcopy(painter.state_dict())  # best on validation digits
_ = painter.load_state_dict(kept)

# %% [markdown]
# Bits per dimension are nats, divided by 64 pixels and by $\log 2$; less is better. *One
# histogram* treats all pixels alike.

# %%
seed_everything(0)
levels = Categorical(torch.bincount(x_train.flatten().long(), minlength=17).float())
histogram = -levels.log_prob(x_test.long()).mean().item() / math.log(2)
figure, error = bits(painter, x_test)
print("digits, test           bits per dimension (+- standard error)")
print(f"one histogram          {histogram:.3f}")
print(f"RealNVP, bound (6)     {figure:.3f} +- {error:.3f}")
if full_run():
    assert figure < histogram - 0.5
v = stretch.inverse(painter.sample(48))[0]  # drawn; each goes to the code of its cell
drawn = {"drawn by RealNVP": (v * 17).floor().clamp(0, 16), "test digits": x_test[:48]}
for ax, x in zip(plot.panels(*drawn, width=4.2), drawn.values()):
    plot.image_grid(x.view(-1, 1, 8, 8), ax, columns=8, vmax=16)

# %% [markdown]
# **Question.** You multiply $D$ real numbers by 2 before you train a flow on them. Its
# $\log p(x)$ falls by $D\log 2$. Did the model get worse?
#
# <details><summary>Answer</summary>
#
# No. A density has a unit, one over volume, and you changed the unit. The probability
# $P(x)$ of codes has no unit: bits per dimension from it can be compared between models.
# </details>

# %% [markdown] tags=["notes"]
# 13 minutes. Ask before the curve: "the loss falls and falls: good news?" Then ask what
# the largest possible log probability is. Expect "densities are at most 1". Leave out the
# details of the logit.

# %% [markdown]
# ## Summary
#
# - **Coupling**: half of $x$ stays and steers the other half. The Jacobian is triangular, and
#   no network is inverted.
# - **Additive** couplings keep areas at each height: in the plane this puts a floor under the
#   KL.
# - **Affine** couplings change volume from place to place. Without a bound on their scales,
#   training on heavy tails can overflow.
# - **Dequantisation** makes a density a bound for codes. Without it the log density of a
#   code can rise above 0.
#
# | | additive (NICE) | affine (RealNVP) |
# |---|---|---|
# | $z_b$ | $x_b + t(x_a)$ | $x_b e^{s(x_a)} + t(x_a)$ |
# | $\log\lvert\det\rvert$ in nats | 0 | $\sum_j s_j(x_a)$ |
# | network passes for a density, for a sample | one, one | one, one |
#
# **Exercises:** open them with `gdm start flows/realnvp`.
#
# ## References
#
# - Dinh, Krueger, Bengio (2015). *NICE: non-linear independent components estimation.*
#   arXiv:1410.8516.
# - Dinh, Sohl-Dickstein, Bengio (2017). *Density estimation using Real NVP.*
#   arXiv:1605.08803.
# - Theis, van den Oord, Bethge (2016). *A note on the evaluation of generative models.*
#   arXiv:1511.01844.

# %% [markdown]
# ## Further: a class for codes, and a tighter bound
#
# The steps of section 10 as one model. It has a `loss`, so `train` can take the codes
# themselves; `sample` draws codes. It has no exact `log_prob` but an `elbo`, which is (6).
#
# `noise` draws $u$ and gives its log density $\log q$, which is 0 for uniform noise. Other
# noise may depend on the code (the next section); so it is handed the codes, scaled to
# $[-1, 1]$ like the input of any network. `teaching` marks a loss, in which alone
# `ActNorm` may take its start from a batch. `validate.codes` refuses what is no code, and
# the codes become numbers of the flow's own type.


# %% tags=["from:flows.dequantisation.Dequantised"]
class Dequantised(nn.Module):
    """A model of codes 0..K-1 from a density of real numbers, by added noise.

    log P(x) >= E_q [log p((x + u) / K) - D log K - log q(u | x)], (6) for any noise q.

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


# %% tags=["fold"]
# @title From a pixel's code to noise
seed_everything(0)
schematics.dequantisation(Dequantised(RealNVP(64), digits.levels), x_train[:50])

# %% [markdown]
# `iwae` draws the noise $k$ times, and averages *before* it takes the logarithm. If
# $w_i = p(x + u_i)$, then $\log\frac1k\sum_i w_i$ is on average still at most
# $\log\mathbb E[w] = \log P(x)$, again by Jensen's inequality. But the mean of $k$ numbers
# scatters less than one number, so the logarithm loses less. `logsumexp` computes
# $\log\sum_i e^{\ell_i}$ of the logarithms $\ell_i = \log w_i$. It takes the largest out
# of the sum first, so that no exponential leaves the range of floats.
#
# How much do more draws gain for the flow of section 10?

# %%
seed_everything(0)
boxed = Dequantised(painter, digits.levels)
print(f"abilities: {protocols.abilities(boxed)}")
print("draws k   bits per dimension, test digits (+- standard error)")
for k in (1, 8, 64):
    tight = bound_bits(boxed, x_test, k=k)
    print(f"{k:7d}   {tight.value:.3f} +- {tight.error:.3f}")

# %% [markdown]
# The gain is a better look at the same model, not a better model. Published figures
# therefore say their $k$.

# %% [markdown]
# ## Further: noise that learns
#
# Uniform noise is a choice, not a law. Take any density $q(u\mid x)$ of noise in the cell
# of a code, multiply and divide by it, and use Jensen's inequality as before:
#
# $$\log P(x) = \log\mathbb E_{q}\Bigl[\frac{p(x+u)}{q(u\mid x)}\Bigr]
#   \;\ge\; \mathbb E_{q}\bigl[\log p(x+u) - \log q(u\mid x)\bigr]. \tag{7}$$
#
# The gap is $\mathrm{KL}(q(u\mid x)\,\|\,p(u\mid x))$, where $p(u\mid x) = p(x+u)/P(x)$
# is the shape of the flow's density inside the cell: subtract the right side from
# $\log P(x)$ and read it off. Uniform noise, $q = 1$, loses nothing only if $p$ is flat
# in every cell.
#
# In one dimension we can draw everything. The slider moves
# $q_\tau(u\mid x)\propto p(x+u)^\tau$ from uniform ($\tau=0$) to the perfect noise
# ($\tau=1$). Watch the orange bars.

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
# **Variational** noise (Ho et al., 2019, arXiv:1902.00275) is a small flow of its own,
# which sees $x$ and learns the shape. It starts from logistic noise $\varepsilon$, bends
# it by $h_x$, and squeezes it into $(0, 1)$ by the sigmoid $\sigma$:
#
# $$u = \sigma(h_x(\varepsilon)),\qquad
#   \log q(u\mid x) = \log p_\varepsilon(\varepsilon) -
#   \log\Bigl|\det\frac{\partial u}{\partial\varepsilon}\Bigr|. \tag{8}$$
#
# The logistic distribution has $\sigma$ as its distribution function. So if $h_x$ starts
# as the identity, $u$ starts uniform. $h_x$ is made of couplings under
# [masks](../../gdm_course/flows/glow.py): which dimensions pass is said by a mask of
# zeros and ones, and $x$ goes into the network beside them.


# %% tags=["from:flows.dequantisation.VariationalNoise"]
class VariationalNoise(nn.Module):
    """q(u | x): logistic noise through masked couplings that see x, then a sigmoid: (8).

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


# %% [markdown]
# Does learned noise tighten the bound? On the lattice we can check: the model's own
# $P(x)$ is the integral of the *flow's* density over a cell, 256 small integrals and no
# bound. The model with uniform noise is that of section 10; the other gets as many steps.


# %%
@torch.no_grad()
def cell_masses(model, K, m=24):
    """The model's exact P of all K x K codes, by m x m points in every cell: (K, K)."""
    at = (torch.arange(K * m) + 0.5) / (K * m)
    z, log_det = model.logit(torch.cartesian_prod(at, at))
    p = (model.flow.log_prob(z) + log_det).exp()
    return p.view(K, m, K, m).mean((1, 3)) / K**2


seed_everything(0)
learned = VariationalNoise((2,))
u, log_q = learned(2 * codes[:500] / (K - 1) - 1)
assert ((u >= 0) & (u <= 1)).all()
assert log_q.abs().max() < 1e-3  # it starts uniform: log q = 0

print(f"entropy of the codes: {entropy:.3f} nats")
seed_everything(0)
bent_noise = Dequantised(RealNVP(2), K, noise=learned)
steps = budget(500, 10)
training = fit(bent_noise, forever(codes, 256), steps, clip=5.0)
for _ in progress(training, steps, "variational noise"):
    pass
row = "{:20s}{:>10s}{:>10s}{:>8s}{:>12s}".format
print(row("nats", "-log P", "-elbo", "gap", "parameters"))
kinds = {"uniform noise": Dequantised(honest, K), "variational noise": bent_noise}
for name, lattice in kinds.items():
    exact = -(true_P * cell_masses(lattice, K).clamp_min(1e-30).log()).sum().item()
    with torch.no_grad():
        bound = -lattice.elbo(held_codes).mean().item()
    size = sum(p.numel() for p in lattice.parameters())
    print(row(name, f"{exact:.3f}", f"{bound:.3f}", f"{bound - exact:.3f}", f"{size:,}"))

# %% [markdown]
# Read the table from left to right: entropy $\le -\log P \le -$elbo. With uniform noise
# the flow is asked to be *flat inside of cells and to jump at their edges*, which smooth
# layers do badly. Learned noise lets it put a bump of any shape inside a cell instead.
# Both columns gain: the bound is tighter, and the model under it is better.

# %% [markdown] tags=["notes"]
# 11 minutes. Ask before the table: can better noise make a better *model*? Expect "no, it
# only tightens the bound": the flow is trained on that bound. Leave out the logistic
# noise.

# %% [markdown]
# ## Further: images, and Glow
#
# For images $x$ of shape $(C, H, W)$, channels by height by width, three questions get
# new answers. *Which half stays?* *How do channels talk to each other?* *Must all numbers
# go through all layers?*
#
# **Masks.** Neighbouring pixels are alike, so a pixel's neighbours should be in the half
# that it is computed from. RealNVP colours pixels like a checkerboard
# $m\in\{0,1\}^{H\times W}$ and takes convolutions as networks:
#
# $$z = m\,x + (1-m)\bigl(x\,e^{s(mx)} + t(mx)\bigr),\qquad
#   \log|\det| = \sum_{d}(1-m_d)\,s_d(mx). \tag{9}$$


# %% tags=["from:flows.glow.MaskedCoupling"]
class MaskedCoupling(nn.Module):
    """An affine coupling under any mask: where it is 1, x passes, equation (9).

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
# **Squeezing** trades space for channels: every $2\times2$ block of pixels becomes four
# channels, and then halves of the *channels* are coupled by the `AffineCoupling` you
# know.
#
# **Mixing channels.** Glow (Kingma and Dhariwal, 2018, arXiv:1807.03039) learns how
# channels change places: a $1\times1$ convolution multiplies the channels of every pixel
# by the same $C\times C$ matrix $W$. Its log-determinant is $HW\log|\det W|$, and a
# determinant costs $O(C^3)$. Any invertible matrix is, after a permutation $P$ of rows, a
# product of triangular ones:
#
# $$W = P\,L\,\bigl(U + \mathrm{diag}(\pm e^{d})\bigr),\qquad
#   \log|\det W| = \sum_{c} d_c, \tag{10}$$
#
# since $|\det P| = 1$, $\det L = 1$ (ones on the diagonal), and the last factor is
# triangular with $\pm e^{d_c}$ on its diagonal. Learn $L$, $U$ and $d$, and the
# determinant is a sum. The inverse solves two triangular systems.


# %% tags=["from:flows.glow.InvertibleConv"]
class InvertibleConv(nn.Module):
    """A 1 x 1 convolution z = W x of the channels, W = P L (U + diag(sign e^log_d)): (10).

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
x = torch.randn(3, 6, 4, 4)
conv = InvertibleConv(6)
masked = MaskedCoupling(checkerboard(4, 4), conv_net(6, 12, hidden=8, blocks=1))
for layer in (conv, masked):
    for p in layer.parameters():
        p.data += 0.1 * torch.randn_like(p)
    z, log_det = layer(x)
    back, log_det_back = layer.inverse(z)
    J = jacobian_of(layer, x[0]).view(96, 96)
    assert torch.allclose(back, x, atol=1e-4)
    assert torch.allclose(log_det_back, -log_det, atol=1e-3)
    assert torch.isclose(J.slogdet()[1], log_det[0], atol=1e-3)
L, U = conv.factors()
W = conv.P @ L @ U
print(f"log |det W|: {conv.log_d.sum():.5f} by (10), {W.slogdet()[1]:.5f} by torch")

# %% tags=["fold"]
# @title A digit, its checkerboard, and the four channels that squeezing makes of it
digit = digits.x_train[0:1].float() / 16
board, small = checkerboard(8, 8), squeeze(digit)
assert torch.equal(unsqueeze(small), digit)
names = ("x", "m x, seen by s and t", *(f"squeezed, channel {c}" for c in range(4)))
pictures = [digit[0, 0], (digit * board + 0.35 * (1 - board))[0, 0], *small[0]]
for ax, picture in zip(plot.panels(*names, columns=6, width=2, height=2.3), pictures):
    plot.image_grid(picture[None], ax)
    ax.title.set_fontsize(8)

# %% [markdown]
# **Several scales.** After a few layers the coarse shape of an image needs more work than
# its grain. So half of the channels leave for the noise right away (they are *factored
# out*), and only the others are squeezed again and go deeper. This saves work, and it
# gives the noise a structure: outer channels carry fine detail, inner ones the whole. As
# code it is a recursion: a scale holds the next one as its `rest`.


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


# %% tags=["fold"]
# @title The tree of scales
seed_everything(0)
schematics.scales(Glow((1, 8, 8), checkers=2), torch.randn(2, 1, 8, 8))

# %% [markdown]
# What is each part good for? Four models, each trained equally many steps on digits with
# uniform noise: Glow with two scales of four steps; the same with two couplings under
# checkerboards in front; one scale of eight steps; and two scales with a fixed shuffle of
# the channels where Glow learns to mix.


# %%
def shuffle_only(model):
    """Turn every learned mixing into a permutation of the channels that stays."""
    for conv in (part for part in model.modules() if isinstance(part, InvertibleConv)):
        order = torch.randperm(len(conv.P))
        with torch.no_grad():
            conv.P.copy_(torch.eye(len(order))[order])
            for part, value in (
                (conv.lower, 0),
                (conv.upper, 0),
                (conv.log_d, 0),
                (conv.sign, 1),
            ):
                part.fill_(value)
        conv.requires_grad_(False)
    return model


def four_glows(seed, steps):
    """Train the four models; return them, and print a row of the table for each."""
    kinds = {"two scales of four steps": {}, "and two checkerboards": {"checkers": 2}}
    kinds |= {"one scale of eight": {"scales": 1, "steps": 8}, "shuffle, not mixing": {}}
    models = {}
    for name, parts in kinds.items():
        seed_everything(seed)
        model = Dequantised(Glow((1, 8, 8), hidden=32, **parts), digits.levels)
        model = shuffle_only(model) if "shuffle" in name else model
        began, rate = time.perf_counter(), lambda step: 2e-3 * (1 - step / steps)
        for _ in train(model, forever(digits.x_train, 64), steps, rate, clip=50.0):
            pass
        seconds, models[name] = time.perf_counter() - began, model.eval()
        bits = bound_bits(model, digits.x_test, k=8)
        size = sum(p.numel() for p in model.parameters() if p.requires_grad)
        print(row(name, f"{bits.value:.3f}", f"{size:,}", f"{seconds:.1f}"))
    return models


row = "{:26s}{:>14s}{:>12s}{:>9s}".format
print(row("digits, test, k = 8", "bits per dim", "parameters", "seconds"))
glows = four_glows(0, budget(200, 10))
glow = glows["and two checkerboards"]

# %% [markdown]
# Each part helps: checkerboards, the second scale, and learned mixing. The table is one
# run; we saw the same on three seeds, and on one with four and eight times as many steps. (The steps are equal,
# the parameters are not: one scale has fewer, and some of its loss may come from that.)
#
# A detail of `sample`: the stretched sigmoid inside `Logit` lets the flow leave $[0, 1]$
# a little. What falls outside goes to the first or last code, while `elbo` does not count
# it. So the bound holds for what `sample` draws, and is not tight by that much.

# %%
seed_everything(0)
with torch.no_grad():
    drawn = glow.logit.inverse(glow.flow.sample(500))[0]
print(f"{((drawn < 0) | (drawn >= 1)).float().mean():.1%} of the drawn pixels lie outside")
_ = plot.image_grid(glow.sample(48), columns=16, vmax=16)

# %% [markdown]
# What does the inner noise know? Keep the innermost noise of a digit and draw only what
# was factored out at the first scale; then the other way round. And noise has no holes:
# between the noises of two digits lies noise. The Gaussian's mass sits near a sphere of
# radius $\sqrt D$, so we walk along the sphere, not through the ball. Each row on the
# right goes from one test digit to another; the last row averages the *pixels*, for
# comparison.

# %% tags=["fold"]
# @title Noise kept and drawn anew, and walks from digit to digit
seed_everything(0)
with torch.no_grad():
    first = [int((digits.y_test == c).nonzero()[0]) for c in (6, 3, 8, 0, 2, 1, 7)]
    ends = digits.x_test[first]
    z = glow.flow(glow.logit((ends + 0.5) / 17)[0])[0]
    fresh = glow.flow.base.sample((17,))
    inner = torch.zeros(1, 4, 1, 1)
    inner[:, :2] = 1  # the first half of the squeezed channels went on
    kept_z, drawn_z = squeeze(z[:1].expand(17, -1, -1, -1)), squeeze(fresh)
    tiles = {
        "its whole kept, grain drawn": inner * kept_z + (1 - inner) * drawn_z,
        "its grain kept, whole drawn": (1 - inner) * kept_z + inner * drawn_z,
    }
    to_image = lambda z: glow.logit.inverse(glow.flow.inverse(z)[0])[0]
    tiles = {
        name: torch.cat([ends[:1] / 16, to_image(unsqueeze(those))])
        for name, those in tiles.items()
    }
    angle = torch.linspace(0, math.pi / 2, 9).view(-1, 1, 1, 1)
    walks = [
        to_image(torch.cos(angle) * z[a] + torch.sin(angle) * z[a + 1]) for a in (1, 3, 5)
    ]
    share = torch.linspace(0, 1, 9).view(-1, 1, 1, 1)
    walks.append(((1 - share) * ends[5] + share * ends[6]) / 16)
    tiles["from digit to digit"] = torch.cat(walks)
for ax, (name, those) in zip(plot.panels(*tiles, width=3.4, height=2.6), tiles.items()):
    plot.image_grid(those, ax, columns=9 if "digit to" in name else 6)

# %% [markdown]
# **MNIST.** The same classes on 784 pixels of 256 levels, trained by `gdm train` on a
# single CPU thread for little more than one epoch. The card beside the checkpoint says
# how good it is. The recipes `flows/glow-mnist` and `flows/glow-cifar10`, larger and with
# variational noise, want a GPU; `gdm train --list` says whether they have been measured.

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

# %% [markdown] tags=["notes"]
# 25 minutes. Ask at the table: are these equal budgets? (Equal steps, not equal
# parameters or seconds.) Expect "mixing is what makes Glow": here it helps, but not most.
# Leave out MNIST.

# %% [markdown]
# ## Further: is likelihood a sense of the familiar?
#
# A digits model gives every image a (bound of the) log-likelihood. Is an image that it
# has never seen the like of *unlikely*? We ask two models: the flat RealNVP of section
# 10, and a Glow, a flow with convolutions inside, which is trained here.
#
# **Predict** the order of the five sets before you run: test digits, inverted digits,
# blurred digits, uniform noise, and constant black images.

# %%
seed_everything(0)
seer, steps = DequantisedGlow((1, 8, 8), digits.levels, hidden=32), budget(400, 10)
rate = lambda step: 2e-3 * (1 - step / steps)
loop = train(seer, forever(digits.x_train, 64), steps, rate, clip=50.0)
for _ in progress(loop, steps, "training Glow"):
    pass
_ = seer.eval()

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
    values = {name: seer.iwae(those, 8) for name, those in sets.items()}
    boxed_flat = Dequantised(painter, digits.levels)  # section 10's, with a bound
    flat = {name: boxed_flat.iwae(those.flatten(1), 8) for name, those in sets.items()}
row = "{:16s}{:>12s}{:>12s}".format
print(row("nats per image", "Glow", "RealNVP"))
for name in sets:
    print(row(name, f"{values[name].mean():.1f}", f"{flat[name].mean():.1f}"))

# %% tags=["fold"]
# @title The Glow's log-likelihoods of the five sets
ax, side = plot.panels("log-likelihood (bound) under Glow", "one of each", width=5)
bins = torch.linspace(-220, -40, 60)
inks = (plot.BLUE, plot.ORANGE, plot.GREEN, plot.GREY, plot.RED)
for (name, value), colour in zip(values.items(), inks):
    where = "" if value.mean() > -220 else " (far to the left)"
    ax.hist(plot.to_numpy(value), bins, color=colour, alpha=0.7, label=name + where)
ax.set(xlabel="nats per image", ylabel="images")
ax.legend()
_ = plot.image_grid(torch.cat([those[:1] for those in sets.values()]), side, 5, vmax=16)

# %% [markdown]
# <details><summary>Answer</summary>
#
# Noise, inversion and blur get less than digits from both models. The *all-black* image
# is not a digit either. Glow finds it about as likely as a digit; the flat RealNVP does
# not. So the likelihood of an image that is no digit depends on how the model is built,
# too.
# </details>
#
# These numbers bound $\log P(x)$, the log probability of *this one* image. There is one
# black image and there are very many digits: together the digits have nearly all of the
# probability, each for itself has very little, and so has the black one, which will
# hardly ever be drawn. How likely a single image is says little about whether images
# *like it* are drawn (Nalisnick et al., 2019, arXiv:1810.09136, found it with CIFAR-10
# and SVHN). The reliability lecture comes back to this.

# %% [markdown] tags=["notes"]
# 7 minutes. Let the room vote on the order before the table. Expect "noise is the least
# likely": inverted digits are.

# %% [markdown]
# ## Further: what the bound on scales does not repair
#
# In section 9 the bounded flow trained on heavy tails without trouble. How good is it?
# Student's distribution with 1.5 degrees of freedom has an infinite variance.

# %%
seed_everything(0)
x_heavy, held_heavy = heavy.sample((20_000,)), heavy.sample((20_000,))
tame = RealNVP(2)
for _ in progress(fit(tame, forever(x_heavy, 256), budget(400, 20)), 400):
    pass
worst = tame.log_prob(held_heavy).min().item()
assert math.isfinite(worst)
print(f"worst log p of 20,000 held-out points: {worst:.0f} nats")
with torch.no_grad():
    gap = (heavy.log_prob(held_heavy) - tame.log_prob(held_heavy)).mean()
print(f"KL estimated from those points: {gap:.3f} nats")

radius = torch.logspace(0, 6, 200)
ray = radius[:, None] * torch.tensor([math.cos(0.7), math.sin(0.7)])
with torch.no_grad():
    (ax,) = plot.panels("far out, along one ray", width=4.5)
    ax.loglog(radius, -heavy.log_prob(ray), color=plot.BLACK, label="-log p*, Student")
    ax.loglog(radius, -tame.log_prob(ray), color=plot.ORANGE, label="-log p, RealNVP")
ax.set(xlabel="distance from 0", ylabel="nats")
_ = ax.legend()

# %% [markdown]
# The printed KL looks fine, and is an estimate of an *infinite* number. Look at the
# figure: beyond the data $-\log p^*$ grows like $\log r$, $-\log p$ like $r^2$, since with
# bounded scales the flow is at most linear far out and its noise is Gaussian. The mean of
# $r^2$ under $p^*$ is infinite, and with it the KL. No finite sample shows that; a
# look at the tails does.
#
# ## Further: where shifts nearly do
#
# On a density with *one* width everywhere, such as the two moons, additive couplings do
# much better than on the needle and the cloud.

# %%
known, g = toy.get("two_moons"), generator(0)
x_known = known.sample(10_000, g)
seed_everything(0)
moons_nice, steps = NICE(2), budget(500, 20)
batches = forever(x_known, 256)
for _ in progress(fit(moons_nice, batches, steps), steps, "training NICE"):
    pass
row = "{:22s}{:>10s}{:>10s}".format
print(row("KL, nats", "NICE", "floor"))
print(row("needle and cloud", f"{reached:.3f}", f"{lowest:.3f}"))
known_floor = floor(known.log_prob, known.bounds)
print(row("two moons", f"{kl(known, moons_nice, known.bounds):.3f}", f"{known_floor:.3f}"))

# %% [markdown]
# Here the floor is low. What NICE lacks beyond it is a matter of networks and training,
# not of principle.
#
# ## Further: ActNorm, a start taken from data
#
# Both flows contain an `ActNorm`, in general
#
# $$z = (x - m)\,e^{\ell}, \qquad \log|\det| = HW\sum_c \ell_c \tag{11}$$
#
# with one $m$ and one $\ell$ for each of $C$ channels of $H\times W$ pixels ($HW = 1$ for
# vectors). With the $m$ and $\ell$ of the first batch, $z$ has mean 0 and variance 1, and
# every layer after it starts in a sensible range. Who may decide this, for ever? Only a
# batch that is trained on. Outside of a loss, which `teaching` marks, ActNorm computes
# with the weights it has; and `started` makes those of the batch its own when the
# gradient comes back, so that a loss that is not finite decides nothing. A flag in the
# state dict remembers the start.


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
    """z = (x - mean) exp(log_scale), per dimension or channel: (11).

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


# %%
seed_everything(0)
x = 3 + torch.randn(100, 5)
norm, again = ActNorm(5), ActNorm(5)
assert torch.equal(norm(x)[0], x)  # who only looks, changes nothing
with teaching():  # as within a loss
    z, log_det = norm(x)
print(f"after ActNorm: mean {z.mean():.3f}, standard deviation {z.std():.3f}")
z.square().sum().backward()
assert torch.allclose(norm.inverse(z)[0], x, atol=1e-5)
J = jacobian_of(norm, x[0])
assert torch.isclose(J.slogdet()[1], log_det[0], atol=1e-5)
again.load_state_dict(norm.state_dict())
assert again.ready
assert torch.equal(again(x[:7])[0], z[:7])  # loaded weights do not start over

# %% [markdown]
# Is it needed? Measure the needle and the cloud in other units, and far from 0. A RealNVP
# is a chain of ActNorm and couplings, so the couplings alone are the flow without it. KL
# does not depend on units.

# %%
far = lambda x: 300 + 100 * x
print("KL, nats, after 300 steps")
for name in ("with ActNorm", "without"):
    seed_everything(0)
    chain = RealNVP(2)
    chain = chain if "with " in name else Flow(chain.layers[1:], (2,))
    batches = forever(far(x_needle), 256)
    for _ in progress(fit(chain, batches, budget(300, 10), clip=5.0), 300, name):
        pass
    with torch.no_grad():
        log_p = chain.log_prob(far(held_out)) + 2 * math.log(100)
    print(f"{name:14s}{(needle.log_prob(held_out) - log_p).mean():10.3f}")

# %% [markdown]
# After equally few steps the flow without ActNorm is much farther from the truth: its
# couplings have to learn the units and the place of the data first.
