# %% [markdown]
# # Exercises: copies, surprises, marks
#
# Six short pieces of code: how near a sample is to what was learned, which of two groups
# scores higher, how surprising a likelihood is, what is left of it when complexity is taken
# away, the z-score of a watermark, and the probability that it is chance. Under each stands
# a check that runs *your* function on fresh inputs. A red line names the wrong property; a
# plausible mistake gets a hint. Nothing depends on an unanswered question.

# %% [markdown] tags=["nav"]
# before this: [A thousand small steps: denoising diffusion](../../lectures/diffusion/ddpm.ipynb), [One token at a time: GPT](../../lectures/autoregressive/gpt.ipynb), [Half of it stays: coupling flows](../../lectures/flows/realnvp.ipynb) ·
# [lecture](../../lectures/challenges/responsibility.ipynb) ·
# [exercise](../../exercises/challenges/responsibility.ipynb)

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

from gdm_course import plotting as plot
from gdm_course.challenges import watermark, wrong_data
from gdm_course.checks.challenges import responsibility as check
from gdm_course.data import images
from gdm_course.training import generator, seed_everything

plot.style()

# %% [markdown]
# ## 1. How near is the nearest?
#
# For each sample take its distance $d_1$ to the nearest training example and $d_2$ to the
# second nearest, both Euclidean, and return $d_1 / d_2$. A copy has almost 0. A training
# set may hold the same example several times: equal examples count once, or else a copy of
# a picture that occurs twice would look like nobody's copy.


# %%
def distance_ratio(x, train):
    """Return the ratio of the two smallest distances.

    Args:
        x: samples (B, D).
        train: what was learned from (N, D), some rows perhaps several times.

    Returns:
        (B,), from 0 to 1.
    """
    ### BEGIN SOLUTION
    different = train.unique(dim=0)
    d = (x[:, None] - different).norm(dim=2).sort(1).values  # (B, number of different)
    return d[:, 0] / d[:, 1]
    ### END SOLUTION


# %%
check.distance_ratio(distance_ratio)

# %% [markdown]
# Which ratio do *unseen* data have? It is what a ratio is to be compared with.

# %%
digits = images.load("digits")
flat = lambda x: x.flatten(1).float()
try:
    seen = distance_ratio(flat(digits.x_test), flat(digits.x_train))
    print(f"test digits: smallest {seen.min():.2f}, median {seen.median():.2f}")
except NotImplementedError:
    print("(write distance_ratio first)")

# %% [markdown]
# ## 2. Which is stranger?
#
# A score is to be larger for strange data than for normal data. Take all pairs of a strange
# and a normal example and return the share in which the strange one scores higher; an
# equal score counts half. This is the AUROC, and the Mann-Whitney statistic over the number
# of pairs. A score that is the wrong way round has less than 1/2: do not turn it round.


# %%
def auroc(normal, strange):
    """Return the share of pairs in which the strange one scores higher.

    Args:
        normal: scores (N,).
        strange: scores (M,).

    Returns:
        A number (), from 0 to 1.
    """
    ### BEGIN SOLUTION
    gap = strange[:, None] - normal  # (M, N)
    return ((gap > 0).double() + 0.5 * (gap == 0).double()).mean()
    ### END SOLUTION


# %%
check.auroc(auroc)

# %% [markdown]
# scikit-learn counts the same pairs by way of a curve.

# %%
from sklearn.metrics import roc_auc_score

seed_everything(0)
a, b = torch.randn(50).round(), torch.randn(70).round() + 1
print(f"scikit-learn {roc_auc_score([0] * 50 + [1] * 70, torch.cat([a, b]).numpy()):.6f}")
try:
    print(f"yours        {auroc(a, b):.6f}")
except NotImplementedError:
    print("(write auroc first)")

# %% [markdown]
# ## 3. As likely as usual?
#
# Under a normal law with independent coordinates, means $\mu$ and standard deviations
# $\sigma$ (one of each per coordinate), $-\log p(x)$ is itself a random number. Its mean is
# the entropy and its standard deviation $\sqrt{D/2}$:
#
# $$-\log p(x) = \tfrac12\sum_i \frac{(x_i - \mu_i)^2}{\sigma_i^2} + c, \qquad
#   \mathbb E[-\log p] = \tfrac D2 + c.$$
#
# Return how many standard deviations $-\log p(x)$ is above its mean, with its sign: an
# example that is *too likely* has a negative one.


# %%
def surprise(x, mu, sigma):
    """Return (-log p(x) - entropy) / standard deviation of -log p.

    Args:
        x: points (B, D).
        mu: means (D,).
        sigma: standard deviations (D,).

    Returns:
        (B,)
    """
    ### BEGIN SOLUTION
    D = x.shape[1]
    distance = ((x - mu) / sigma).square().sum(1)
    return (distance - D) / math.sqrt(2 * D)
    ### END SOLUTION


# %%
check.surprise(surprise)

# %% [markdown]
# The likeliest point of all is the mode. How unusual is it, in 1, 100 and 10,000
# dimensions?

# %%
for D in (1, 100, 10_000):
    try:
        found = surprise(torch.zeros(1, D), torch.zeros(D), torch.ones(D)).item()
        print(f"D = {D:6}: the mode is {found:7.1f} standard deviations from usual")
    except NotImplementedError:
        print("(write surprise first)")

# %% [markdown]
# ## 4. Less what there is to tell
#
# A plain picture is likely under almost any model, and short when it is packed. Serra and
# others take the one from the other: what the model needs for a picture, less what a packer
# needs. You get $-\log p$ in nats and the packed size in bytes; return the difference in
# *bits per dimension*.


# %%
def excess_bits(nll, size, D):
    """Return what the model needs beyond the packer, in bits per dimension.

    Args:
        nll: -log p in nats (B,).
        size: packed size in bytes (B,), whole numbers.
        D: pixels of a picture, a whole number.

    Returns:
        (B,); below 0 where the model needs less.
    """
    ### BEGIN SOLUTION
    return (nll / math.log(2) - 8 * size) / D
    ### END SOLUTION


# %%
check.excess_bits(excess_bits)

# %% [markdown]
# A blank picture and a noisy one, under a model that was counted on digits: which one does
# $-\log p$ call strange, and which one the excess?

# %%
table = wrong_data.count_pixels(digits.x_train, 17)
odd = torch.randint(17, (1, 1, 8, 8), generator=generator(0))
both = torch.cat([torch.zeros_like(odd), odd, digits.x_test[:1].long()])
nll = -wrong_data.counted_log_prob(table, both)
size = (wrong_data.zlib_nats(both) / math.log(256)).round().long()
try:
    for name, n, e in zip(("blank", "noise", "a digit"), nll, excess_bits(nll, size, 64)):
        print(f"{name:8} -log p {n / 64 / math.log(2):5.2f} bits/dim, excess {e:6.2f}")
except NotImplementedError:
    print("(write excess_bits first)")

# %% [markdown]
# ## 5. How green is it?
#
# A list says which token is green after which: `green[a, b]` for the token $b$ after the
# token $a$. It was drawn with a secret key; each pair is green with the probability
# $\gamma$. Count a text's pairs of neighbours, *each different pair once*: a pair that
# occurs again has the same colour again. Of $n$ different pairs let $G$ be green. Return
#
# $$z = \frac{G - \gamma n}{\sqrt{\gamma(1-\gamma)\,n}}.$$


# %%
def green_z(x, green, gamma):
    """Return how many standard deviations more pairs are green than by chance.

    Args:
        x: tokens (T,), whole numbers.
        green: True where the pair (before, after) is green (K, K).
        gamma: the probability that a pair is green, a number.

    Returns:
        A number ().
    """
    ### BEGIN SOLUTION
    pairs = torch.stack([x[:-1], x[1:]], 1).unique(dim=0)  # (n, 2)
    n, hits = len(pairs), green[pairs[:, 0], pairs[:, 1]].sum()
    return (hits - gamma * n) / math.sqrt(gamma * (1 - gamma) * n)
    ### END SOLUTION


# %%
check.green_z(green_z)

# %% [markdown]
# A text without a mark, read with a thousand keys: is the spread of z that of a standard
# normal?

# %%
seed_everything(0)
text = torch.randint(12, (60,)).repeat(3)  # it says everything three times
lists = [watermark.green_list(key, 12, 0.4) for key in range(1000)]
try:
    z = torch.stack([torch.as_tensor(green_z(text, green, 0.4)) for green in lists])
    print(f"mean {z.double().mean():.2f}, standard deviation {z.double().std():.2f}")
except NotImplementedError:
    print("(write green_z first)")

# %% [markdown]
# ## 6. By chance?
#
# A z-score is a number of standard deviations. What a judge wants is a probability: that a
# text which knows nothing of the key has as many green pairs, *or more*, among $n$:
#
# $$P(G \ge h) = \sum_{k \ge h}\binom nk\,\gamma^k (1-\gamma)^{n-k}.$$
#
# Return this sum itself, not a bell curve's tail. The check asks for texts of some thousand
# pairs, where $\gamma^k$ is 0 in floating point: add logarithms, in `float64`.


# %%
def binomial_tail(hits, n, gamma):
    """Return the probability of as many green pairs or more.

    Args:
        hits: how many pairs are green, a whole number from 0 to n.
        n: how many pairs there are.
        gamma: the probability that a pair is green.

    Returns:
        A number (), from 0 to 1.
    """
    ### BEGIN SOLUTION
    k = torch.arange(hits, n + 1, dtype=torch.float64)
    ways = math.lgamma(n + 1) - torch.lgamma(k + 1) - torch.lgamma(n - k + 1)
    log_p = ways + k * math.log(gamma) + (n - k) * math.log1p(-gamma)
    return log_p.logsumexp(0).exp().clamp(max=1)
    ### END SOLUTION


# %%
check.binomial_tail(binomial_tail)

# %% [markdown]
# How wrong is the bell curve where it matters, far out?

# %%
n, gamma = 60, 0.25
for hits in (20, 30, 40):
    z = watermark.z_score(hits, n, gamma)
    bell = torch.special.ndtr(torch.tensor(-z, dtype=torch.float64)).item()
    try:
        exact = float(binomial_tail(hits, n, gamma))
        print(f"{hits} of {n}: z = {z:.1f}, exact {exact:.1e}, bell curve {bell:.1e}")
    except NotImplementedError:
        print("(write binomial_tail first)")

# %% [markdown]
# ## Further, without a check
#
# 1. **A second key.** Somebody tries 1,000 keys on your text and shows the best z. From
#    which z on would you believe them? Use `binomial_tail`.
# 2. **Whose picture?** Find the two most similar digits of different *classes* in the
#    training set. Is a sample between them a copy of anybody's?
# 3. **A card.** Take a checkpoint of the course and write what `unanswered` says is missing
#    from its card. Which answers can code find, and which can only people give?
