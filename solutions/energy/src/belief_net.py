# %% [markdown]
# # Exercises: causes, and what is guessed of them
#
# Five short pieces of code: how one cause explains another away, the loss of sleep, the bound
# of a deep belief net, an RBM upside down, and one step of mean field. Under each stands a
# check that runs *your* function on fresh inputs. A red line names the wrong property; a
# plausible mistake gets a hint. Nothing depends on an unanswered question: later cells use
# the course's own code.

# %% [markdown] tags=["nav"]
# before this: [Likely is what lies low: Boltzmann machines](../../lectures/energy/boltzmann.ipynb) ·
# [lecture](../../lectures/energy/belief_net.ipynb) ·
# [exercise](../../exercises/energy/belief_net.ipynb)

# %% tags=["setup"]
import importlib.util

if importlib.util.find_spec("gdm_course") is None:
    raise ImportError(
        "the package gdm_course is not installed here: run 'make lab' in the course's "
        "folder, or 'pip install -e .[lab]', and choose that environment as the kernel"
    )

# %%
import torch
import torch.nn.functional as F

from gdm_course import plotting as plot
from gdm_course.checks.energy import belief_net as check
from gdm_course.energy.belief_net import (
    SigmoidBeliefNet,
    averaged,
    log_bits,
    log_posterior,
    mean_field,
)
from gdm_course.energy.dbn import DBN, log_marginal
from gdm_course.energy.normalise import states
from gdm_course.training import seed_everything

plot.style()

# %% [markdown]
# ## 1. Explaining away
#
# Two causes $h_1, h_2$ are independent, each on with the probability $p$. The effect comes
# with the probability $p(v = 1\mid h) = \mathrm{sigmoid}(b + w\,(h_1 + h_2))$. Give two
# probabilities of $h_1 = 1$: given that the effect came; and given that the effect came and
# that $h_2 = 1$. There are only four cases to add up.


# %%
def explaining_away(p, b, w):
    """Return p(h1 = 1 | v = 1) and p(h1 = 1 | v = 1, h2 = 1).

    Args:
        p: probability of each cause.
        b, w: bias of the effect, and the push of each cause.

    Returns:
        Two numbers.
    """
    ### BEGIN SOLUTION
    cause, on = torch.tensor([1 - p, p]), torch.tensor([0.0, 1.0])
    joint = torch.outer(cause, cause) * torch.sigmoid(b + w * (on[:, None] + on))
    return joint[1].sum() / joint.sum(), joint[1, 1] / joint[:, 1].sum()
    ### END SOLUTION


# %%
check.explaining_away(explaining_away)

# %% [markdown]
# The other cause takes away what the effect had given. By how much depends on $w$: a cause
# that hardly pushes explains nothing.

# %%
w = torch.linspace(0, 12, 40)
try:
    rows = [explaining_away(0.1, -4.0, push) for push in w.tolist()]
    both = torch.tensor([[float(x) for x in row] for row in rows]).T
    names = ("the effect came", "and the other cause is on")
    ax = plot.curves(dict(zip(names, both)), x=w, xlabel="w", ylabel="p(h1 = 1 | ...)")
    ax.axhline(0.1, color=plot.GREY, linestyle="--")
except NotImplementedError:
    print("(write explaining_away first)")

# %% [markdown]
# ## 2. The loss of sleep
#
# Asleep, the net dreams causes $h$ and effects $v$ of them, so that the right answer is
# known. The recogniser guesses each cause on its own, $q(h_k = 1\mid v) =
# \mathrm{sigmoid}(r + v^\top R)_k$, with wires $R$ and with biases $r$. Its loss is
# $-\log q(h\mid v)$: sum over the causes, mean over the dreams, something to be minimised.
# It has to be finite where the recogniser is very sure, and wrong.


# %%
def sleep_loss(v, h, R, r):
    """Return the mean of -log q(h | v) over dreams.

    Args:
        v, h: dreamed effects (n, D) and causes (n, H), bits.
        R, r: wires (D, H) and biases (H,) of the recogniser.

    Returns:
        A number (), in nats.
    """
    ### BEGIN SOLUTION
    logits = r + v @ R
    return (F.softplus(logits) - h * logits).sum(1).mean()
    ### END SOLUTION


# %%
check.sleep_loss(sleep_loss)

# %% [markdown]
# With it a recogniser learns from nothing but dreams. The net is the one of exercise 1, and
# the right answer for $v = 1$ is known:

# %%
seed_everything(0)
net = SigmoidBeliefNet(1, H=2)
with torch.no_grad():
    net.a.fill_(torch.logit(torch.tensor(0.1)))
    net.b.fill_(-4.0)
    net.W.fill_(8.0)
R, r = torch.zeros(1, 2, requires_grad=True), torch.zeros(2, requires_grad=True)
adam = torch.optim.Adam([R, r], 0.05)
try:
    for _ in range(400):
        adam.zero_grad()
        sleep_loss(*net.dream(500), R, r).backward()
        adam.step()
    print("guessed:", torch.sigmoid(r + R[0]).tolist())
    print("true:   ", averaged(log_posterior(net, torch.ones(1, 1))[0]).tolist())
except NotImplementedError:
    print("(write sleep_loss first)")

# %% [markdown]
# ## 3. The bound of a deep belief net
#
# A deep belief net of two layers: an RBM on top draws $h$, with $\log p(h) = -F(h) - \log Z$,
# and arrows lead down, $p(v_i = 1\mid h) = \mathrm{sigmoid}(b + Wh)_i$. The guess upwards is
# that of the lower RBM, $q(h_j = 1\mid v) = \mathrm{sigmoid}(c + v^\top W)_j$. For a drawn
# $h$ the bound on $\log p(v)$ is $\log p(v, h)$ minus what the guess had to pay,
# $\log q(h\mid v)$. Give it for each row, in nats.


# %%
def dbn_bound(v, h, W, b, c, F_top, log_z):
    """Return log p(v | h) + log p(h) - log q(h | v).

    Args:
        v: data (B, D), bits.
        h: drawn from q(h | v), (B, H), bits.
        W, b, c: the lower RBM, (D, H), (D,), (H,).
        F_top: free energies F(h) of the upper RBM (B,).
        log_z: log Z of the upper RBM, a number.

    Returns:
        (B,), in nats.
    """
    ### BEGIN SOLUTION
    down, up = b + h @ W.T, c + v @ W  # logits
    log_p = (v * down - F.softplus(down)).sum(1) - F_top - log_z
    return log_p - (h * up - F.softplus(up)).sum(1)
    ### END SOLUTION


# %%
check.dbn_bound(dbn_bound)

# %% [markdown]
# Averaged over all $h$ with the weights $q$, it stays below the exact $\log p(v)$:

# %%
seed_everything(1)
deep = DBN(6, H=4)
deep.top.W.data.normal_()
deep.grow(tie=False)
deep.top.W.data.normal_()
first, v, h = deep.rbms[0], torch.tensor([[1.0, 0, 1, 1, 0, 1]]), states(4).float()
with torch.no_grad():
    q = log_bits((first.c + v @ first.W).expand(16, 4), h).exp()
    lower = [first.W, first.b, first.c]
    try:
        all_h = dbn_bound(v.expand(16, 6), h, *lower, deep.top.energy(h), deep.top.log_z())
        print(
            f"bound {(q * all_h).sum():.4f}, exact {log_marginal(deep, v).item():.4f} nats"
        )
    except NotImplementedError:
        print("(write dbn_bound first)")

# %% [markdown]
# ## 4. Upside down
#
# An RBM has wires $W$, visible biases $b$ and hidden biases $c$. Build another RBM so that
# its *visible* units are the old hidden ones, and have the same distribution as these had.
# This is how a deep belief net starts its next layer.


# %%
def tie(W, b, c):
    """Return wires, visible biases and hidden biases of the RBM upside down.

    Args:
        W: wires (D, H).
        b, c: visible (D,) and hidden biases (H,).

    Returns:
        Wires (H, D), visible biases (H,) and hidden biases (D,).
    """
    ### BEGIN SOLUTION
    return W.T, c, b
    ### END SOLUTION


# %%
check.tie(tie)

# %% [markdown]
# With it the bound of exercise 3 is the lower RBM's own $\log p(v)$, whatever $h$ is drawn:

# %%
seed_everything(2)
rbm = DBN(6, H=4).top
rbm.W.data.normal_()
try:
    with torch.no_grad():
        U, d, e = tie(rbm.W, rbm.b, rbm.c)
        F_top = -(h @ d) - F.softplus(e + h @ U).sum(1)
        every_h = dbn_bound(v.expand(16, 6), h, rbm.W, rbm.b, rbm.c, F_top, rbm.log_z())
        print(f"bound from {every_h.min():.5f} to {every_h.max():.5f}")
        print(f"log p of the RBM  {(-rbm.energy(v) - rbm.log_z()).item():.5f}")
except NotImplementedError:
    print("(write dbn_bound and tie first)")

# %% [markdown]
# ## 5. One step of mean field
#
# Look for probabilities $q_1,\dots,q_H$, each cause on its own, that lower
# $\mathrm{KL}(q\,\|\,p)$ for a posterior $p$ over all $2^H$ patterns of causes. Let all
# others stay, and move cause $k$ alone. Then the best is
#
# $$q_k = \mathrm{sigmoid}\bigl(\mathbb E[\log p(h_k{=}1,\text{others})]
#   - \mathbb E[\log p(h_k{=}0,\text{others})]\bigr),$$
#
# where the mean of $\log p$ is over all others, each of them on with its own probability
# $q_i$. The patterns count upwards in binary, as `states(H)` lists them: the last one changes
# fastest. A constant that is added to $\log p$ must not matter.


# %%
def mean_field_step(log_p, q, k):
    """Return the best q_k while the other probabilities stay.

    Args:
        log_p: of all patterns (2^H,), known but for a constant.
        q: probabilities (H,) strictly between 0 and 1.
        k: which one is to move.

    Returns:
        A number ().
    """
    ### BEGIN SOLUTION
    h = states(len(q)).to(log_p)  # (2^H, H)
    weights = torch.where(h.bool(), q, 1 - q)
    weights[:, k] = 2 * h[:, k] - 1  # plus where it is on, minus where it is off
    return torch.sigmoid(weights.prod(1) @ (log_p - log_p.max()))
    ### END SOLUTION


# %%
check.mean_field_step(mean_field_step)

# %% [markdown]
# Step after step, from two different starts. The net is that of exercise 1 with stronger
# pushes: each start ends in a mode of its own, which blames one cause.

# %%
net.b.data.fill_(-5.0)
net.W.data.fill_(10.0)
log_p = log_posterior(net, torch.ones(1, 1)).detach()[0]
try:
    for start in ([0.6, 0.4], [0.4, 0.6]):
        q = torch.tensor(start)
        for step in range(40):
            q[step % 2] = mean_field_step(log_p, q, step % 2)
        theirs = mean_field(log_p, torch.tensor(start))
        print(f"from {start}: {q.tolist()}, the course's {theirs.tolist()}")
except NotImplementedError:
    print("(write mean_field_step first)")

# %% [markdown]
# ## Further, without a check
#
# 1. **Three causes.** Extend exercise 1 to three causes. Does a second known cause take as
#    much away as the first?
# 2. **The price of one guess.** For the net of exercise 1, plot KL(q || p) over the square of
#    all $(q_1, q_2)$. How many valleys are there, for which $w$?
# 3. **Three layers.** Grow a deep belief net twice. What does exercise 3 become?
