# %% [markdown]
# # Exercises: there and back without pairs
#
# Six short pieces of code: the price of a round trip, that of needless change, what one logit
# of a critic sees, a second pair of translators that neither critics nor the round trip tell
# from the first, a pool of old fakes, and a count of the labels that a translation kept.
# Under each stands a check that runs *your* function on fresh inputs. A red line names the
# wrong property; a plausible mistake gets a hint. Nothing depends on an unanswered question.
#
# In exercises 1, 2 and 4 the translators are matrices: $G$ carries the row `x` of domain A to
# `x @ G` in domain B, and $F$ carries the row `y` of B to `y @ F` in A.

# %% [markdown] tags=["nav"]
# before this: [Two players: generative adversarial networks](../../lectures/gan/gan.ipynb) ·
# [lecture](../../lectures/gan/cyclegan.ipynb) ·
# [exercise](../../exercises/gan/cyclegan.ipynb)

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

from gdm_course.checks.gan import cyclegan as check
from gdm_course.data import shapes, toy
from gdm_course.training import generator, seed_everything

# %% [markdown]
# ## 1. There and back
#
# Return the price of both round trips: from A to B and back, and from B to A and back. Each is
# the mean over all numbers of the absolute difference between where a row starts and where it
# ends. The two domains need not have as many rows.


# %%
def cycle_loss(x, y, G, F):
    """Return the price of the round trips.

    Args:
        x: points of A (n, D).
        y: points of B (m, D).
        G, F: the translators, matrices (D, D): x @ G is in B, y @ F is in A.

    Returns:
        A number ().
    """
    ### BEGIN SOLUTION
    return (x @ G @ F - x).abs().mean() + (y @ F @ G - y).abs().mean()
    ### END SOLUTION


# %%
check.cycle_loss(cycle_loss)

# %% [markdown]
# A turn and the turn back cost nothing, by whatever angle. So the price cannot say which angle
# is right.

# %%
seed_everything(0)
turn = lambda a: torch.tensor([[math.cos(a), math.sin(a)], [-math.sin(a), math.cos(a)]])
x, y = torch.randn(100, 2), torch.randn(80, 2)
try:
    for angle in (0.0, 1.0, 2.0):
        price = cycle_loss(x, y, turn(angle), turn(-angle))
        print(f"turned by {angle:.0f} and back: {price:.6f}")
except NotImplementedError:
    print("(write cycle_loss first)")

# %% [markdown]
# ## 2. What is there already
#
# Both translators are asked to leave alone what is in B already (for $G$), and what is in A
# already (for $F$). Return the sum of the two prices, each the mean absolute difference
# between what goes in and what comes out.


# %%
def identity_loss(x, y, G, F):
    """Return the price of needless changes.

    Args:
        x, y, G, F: as in exercise 1.

    Returns:
        A number ().
    """
    ### BEGIN SOLUTION
    return (y @ G - y).abs().mean() + (x @ F - x).abs().mean()
    ### END SOLUTION


# %%
check.identity_loss(identity_loss)

# %% [markdown]
# Which angle does it like best, if B is A turned by one radian? That is why it has a weight.

# %%
try:
    for angle in (0.0, 0.5, 1.0):
        price = identity_loss(x, x @ turn(1.0), turn(angle), turn(-angle))
        print(f"turned by {angle:.1f}: {price:.3f}")
except NotImplementedError:
    print("(write identity_loss first)")

# %% [markdown]
# ## 3. What one logit sees
#
# A patch critic is a stack of convolutions. Each has a kernel of $k\times k$, a stride $s$ and
# $p$ zeros of padding on both sides. A picture is `size` pixels wide. Return how many logits
# stand in a row at the end, and how many pixels in a row one of them sees, as if the picture
# had no border.


# %%
def patches(size, layers):
    """Return how many logits stand in a row, and how many pixels wide each one sees.

    Args:
        size: width of the picture in pixels.
        layers: int64 (L, 3), a row (kernel, stride, padding) for each layer in turn.

    Returns:
        Two whole numbers.
    """
    ### BEGIN SOLUTION
    field, jump = 1, 1  # pixels that are seen; pixels between two neighbours
    for kernel, stride, padding in layers.tolist():
        size = (size + 2 * padding - kernel) // stride + 1
        field, jump = field + (kernel - 1) * jump, jump * stride
    return size, field
    ### END SOLUTION


# %%
check.patches(patches)

# %% [markdown]
# The critic of the first CycleGAN paper looked at pictures of 256 pixels through five layers.
# How many pieces does it judge, and how large are they?

# %%
first = torch.tensor([(4, 2, 1)] * 3 + [(4, 1, 1)] * 2)
try:
    print(
        "{} x {} logits, each of which sees {} x {} pixels".format(
            *[n for n in patches(256, first) for _ in range(2)]
        )
    )
except NotImplementedError:
    print("(write patches first)")

# %% [markdown]
# ## 4. Another pair of translators
#
# $S$ is a matrix that maps the law of domain B to itself: B has that symmetry. It is
# invertible, but it need not be a rotation. $S$ acts in B. From the translators $G$ and $F$
# make the pair that sends every point of A to where $S$ moves its old translation, and for
# which every round trip from A ends where it did before. (From B it does so, too, if $G$ and
# $F$ undo each other.)


# %%
def other_pair(G, F, S):
    """Return another pair, with the same round trips from A.

    Args:
        G, F: translators (D, D): rows go x @ G and y @ F.
        S: an invertible matrix (D, D): a row y of B goes to y @ S.

    Returns:
        The new G and the new F, both (D, D).
    """
    ### BEGIN SOLUTION
    return G @ S, torch.linalg.inv(S) @ F
    ### END SOLUTION


# %%
check.other_pair(other_pair)

# %% [markdown]
# Eight Gaussians on a circle keep their law when they are turned by 45 degrees. The right
# translation is a copy; it is one of eight turns, and eight mirror images, that neither the
# critics nor the round trips tell apart. The identity loss could.

# %%
law, eye = toy.get("eight_gaussians"), torch.eye(2)
x = law.sample(1000, generator(0)).float()
try:
    for k in range(8):
        G, F = other_pair(eye, eye, turn(k * math.pi / 4))
        fit, off = law.log_prob(x @ G).mean(), (x @ G - x).norm(dim=1).mean()
        trip = (x @ G @ F - x).abs().mean()
        print(
            f"{45 * k:3} degrees: log p {fit:.3f}, round trip {trip:.3f}, wrong by {off:.2f}"
        )
except NotImplementedError:
    print("(write other_pair first)")

# %% [markdown]
# ## 5. A pool of old fakes
#
# A critic that is shown the newest translations only forgets older ones, and a translator can
# run in circles around it. So the first CycleGAN kept a pool. Go row by row through the new
# fakes. Where `swap` is true, the critic is shown the old one that stands in the pool at this
# row's `place`, and the new one takes its place. Where it is false, the critic is shown the
# new one, and the pool stays. Return what is shown, and the pool as it is in the end.


# %%
def from_pool(pool, fakes, swap, place):
    """Return what the critic is shown, and the pool afterwards.

    Args:
        pool: old fakes (P, D).
        fakes: new ones (B, D).
        swap: which rows are exchanged (B,), booleans.
        place: where in the pool (B,), int64, 0 to P - 1; some come twice.

    Returns:
        (B, D) and (P, D).
    """
    ### BEGIN SOLUTION
    pool, shown = pool.clone(), fakes.clone()
    for i in range(len(fakes)):
        if swap[i]:
            shown[i], pool[place[i]] = pool[place[i]].clone(), fakes[i]
    return shown, pool
    ### END SOLUTION


# %%
check.from_pool(from_pool)

# %% [markdown]
# How old is what the critic sees? Fakes that carry the number of their step tell.

# %%
seed_everything(0)
pool, ages = torch.zeros(50, 1), []
try:
    for step in range(400):
        swap, place = torch.rand(4) < 0.5, torch.randint(50, (4,))
        shown, pool = from_pool(pool, torch.full((4, 1), float(step)), swap, place)
        ages.append(step - shown)
    old = torch.cat(ages[200:])
    print(
        f"half are new ({(old == 0).float().mean():.0%}); the others {old[old > 0].mean():.0f}"
        " steps old on average"
    )
except NotImplementedError:
    print("(write from_pool first)")

# %% [markdown]
# ## 6. Whether meaning was kept
#
# Translated pictures are shown to a classifier of the new domain. A label is kept or it is
# not: kept, if the largest logit is that of the original picture's label. Return the share of
# all pictures whose label was kept, and the mean of the shares of the classes, in which a rare
# class counts as much as a frequent one. A class that has no example is left out.


# %%
def labels_kept(logits, y):
    """Return the share of labels kept, over all and as a mean over classes.

    Args:
        logits: of a classifier, for translated pictures (N, K).
        y: labels of the original pictures (N,), int64.

    Returns:
        Two numbers between 0 and 1.
    """
    ### BEGIN SOLUTION
    right = (logits.argmax(1) == y).double()
    each = torch.stack([right[y == k].mean() for k in y.unique()])
    return right.mean(), each.mean()
    ### END SOLUTION


# %%
check.labels_kept(labels_kept)

# %% [markdown]
# A translator that turns every shape into a square keeps a third of the labels. If squares are
# most of the data, only the second number shows it.

# %%
_, factors = shapes.draw_some(600, 16)
kind = factors[:, 0]
mostly = torch.cat([kind[kind == 0], kind[kind > 0][:40]])
always = torch.tensor([[1.0, 0.0, 0.0]])
try:
    for name, y in (("as many of each", kind), ("mostly squares", mostly)):
        total, fair = labels_kept(always.expand(len(y), 3), y)
        print(f"{name:16} kept {total:.0%}, by classes {fair:.0%}")
except NotImplementedError:
    print("(write labels_kept first)")

# %% [markdown]
# ## Further, without a check
#
# 1. **More than sixteen.** Every law of the plane with a positive density has infinitely many
#    maps to itself: carry a point to a Gaussian by an invertible flow, turn it there, carry it
#    back. Do so with a flow of [the planar unit](../../lectures/flows/planar.ipynb) and two
#    moons, and show that the density is kept while points move far.
# 2. **The pool.** Put `from_pool` into `CycleGAN.discriminator_loss` of the lecture and train
#    in the plane with ten moves of the translators for each one of the critics. Does it help?
# 3. **A map that is not one to one.** Let A be two moons and B a line. What does $F$ return for
#    a point of the line once noise is added on the way, and which loss would make it return
#    all answers instead of one?
