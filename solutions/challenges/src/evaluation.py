# %% [markdown]
# # Exercises: six figures of samples
#
# Six short pieces of code: the inception score, the Fréchet distance, KID, precision and
# recall, the p-value of a two-sample test, and a test for copies. Under each stands a check
# that runs *your* function on fresh inputs. A red line names the wrong property; a plausible
# mistake gets a hint. Nothing depends on an unanswered question: the cells between say so if
# a function is not written yet.

# %% [markdown] tags=["nav"]
# before this: [Likely is what lies low: Boltzmann machines](../../lectures/energy/boltzmann.ipynb), [What you do not see: the variational autoencoder](../../lectures/vae/vae.ipynb), [Two players: generative adversarial networks](../../lectures/gan/gan.ipynb) ·
# [lecture](../../lectures/challenges/evaluation.ipynb) ·
# [exercise](../../exercises/challenges/evaluation.ipynb)

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
from gdm_course.checks.challenges import evaluation as check
from gdm_course.training import generator, seed_everything

plot.style()

# %% [markdown]
# ## 1. Sure, and of many kinds
#
# A classifier gives logits for every sample; their softmax is $p(y\mid x)$. Let $p(y)$ be the
# mean of the $p(y\mid x)$ over all samples. The inception score is
#
# $$\exp\; \mathbb E_x\, \mathrm{KL}\big(p(y\mid x)\,\|\,p(y)\big):$$
#
# first the mean, then the exponential. The check asks for logits in the hundreds, too, where
# some probabilities are 0 in any floating-point type; they then add nothing.


# %%
def inception_score(logits):
    """Return the inception score of samples.

    Args:
        logits: of a classifier, (B, K).

    Returns:
        A number (), 1 to K.
    """
    ### BEGIN SOLUTION
    log_p = logits.double().log_softmax(-1)  # (B, K)
    log_mean = log_p.logsumexp(0) - math.log(len(log_p))  # (K,)
    return (log_p.exp() * (log_p - log_mean)).sum(-1).mean().exp()
    ### END SOLUTION


# %%
check.inception_score(inception_score)

# %% [markdown]
# Three heaps of opinions about ten classes. Which has the highest score, and would you want
# to look at its pictures?

# %%
g = generator(0)
sure = 20 * torch.eye(10)
for name, logits in {
    "the same ten pictures, 100 times": sure.repeat(100, 1),
    "1,000 pictures, all of one class": sure[:1].repeat(1000, 1),
    "1,000 pictures, honest doubts": 2 * torch.randn(1000, 10, generator=g),
}.items():
    try:
        print(f"{name:34} {inception_score(logits):.2f}")
    except NotImplementedError:
        print("(write inception_score first)")

# %% [markdown]
# ## 2. Two Gaussians
#
# The Fréchet distance fits a Gaussian to each table of features. With means $m_a, m_b$ and
# covariances $C_a, C_b$, each divided by $n - 1$, it is
#
# $$|m_a - m_b|^2 + \operatorname{tr}\big(C_a + C_b - 2\,(C_a^{1/2} C_b\, C_a^{1/2})^{1/2}\big).$$
#
# The root of a symmetric matrix has the same eigenvectors, and the roots of the eigenvalues
# (`torch.linalg.eigh`). So the trace of the last root is a sum of roots of eigenvalues.
# Compute in float64 from the start: the check asks for features in the millions, too. What is returned is
# the square of the distance, as everybody reports it.


# %%
def frechet(a, b):
    """Return the squared Frechet distance of two tables of features.

    Args:
        a: features (n, K), n above K.
        b: features (m, K), m above K.

    Returns:
        A number ().
    """
    ### BEGIN SOLUTION
    a, b = a.double(), b.double()
    C_a, C_b = (torch.atleast_2d(torch.cov(t.T)) for t in (a, b))
    values, vectors = torch.linalg.eigh(C_a)
    root = vectors * values.clamp_min(0).sqrt() @ vectors.T
    cross = torch.linalg.eigvalsh(root @ C_b @ root).clamp_min(0).sqrt().sum()
    gap = (a.mean(0) - b.mean(0)).square().sum()
    return gap + C_a.trace() + C_b.trace() - 2 * cross
    ### END SOLUTION


# %%
check.frechet(frechet)

# %% [markdown]
# Two samples of *one* law, white features. Is the distance 0? The formula of the lecture
# stands beside it.

# %%
K = 8
for n in (50, 200, 800):
    seed_everything(n)
    try:
        found = [frechet(torch.randn(n, K), torch.randn(n, K)) for _ in range(20)]
        mean = sum(found) / 20
        print(f"n = {n:3}: {mean:.3f}, and K (K + 5) / (2 n) = {K * (K + 5) / (2 * n):.3f}")
    except NotImplementedError:
        print("(write frechet first)")

# %% [markdown]
# ## 3. Third moments
#
# KID compares all pairs of rows by $k(x, y) = (x\cdot y / K + 1)^3$; the inner product is
# divided by the number of features $K$. It is the mean of $k$ within $a$, plus that within
# $b$, minus twice the mean across. Within a table a row and itself are no pair: there are
# $n(n-1)$ pairs. Then the estimate is right on average, and negative every now and then:
# return it as it is.


# %%
def kid(a, b):
    """Return the unbiased MMD^2 with the cubic kernel.

    Args:
        a: features (n, K).
        b: features (m, K).

    Returns:
        A number ().
    """

    ### BEGIN SOLUTION
    def kernel(x, y):
        return (x @ y.T / x.shape[1] + 1) ** 3

    def within(x):
        k, n = kernel(x, x), len(x)
        return (k.sum() - k.trace()) / (n * (n - 1))

    return within(a) + within(b) - 2 * kernel(a, b).mean()
    ### END SOLUTION


# %%
check.kid(kid)

# %% [markdown]
# The same two samples of one law as above. And corners of a cube, which have the means,
# covariances and third moments of white features: what does KID say of them?

# %%
seed_everything(0)
for name, draw in {
    "one law": lambda: torch.randn(1000, 8),
    "corners of a cube": lambda: torch.randn(1000, 8).sign(),
}.items():
    try:
        found = torch.stack([kid(torch.randn(1000, 8), draw()) for _ in range(10)])
        print(f"{name:20} {found.mean():.4f} +- {found.std() / 10**0.5:.4f}")
    except NotImplementedError:
        print("(write kid first)")

# %% [markdown]
# ## 4. Quality and variety
#
# Around every real point lies a ball; its radius is its centre's distance to the $k$-th
# neighbour among the real points, and a point is no neighbour of its own. **Precision** is
# the share of samples that are inside at least one such ball. **Recall** is the share of real
# points inside at least one ball around a sample, whose radius is made in the same way among
# the samples. Inside means: the distance is strictly less than the radius.


# %%
def precision_recall(real, fake, k):
    """Return the precision and the recall of samples.

    Args:
        real: features (n, K), n above k.
        fake: features (m, K), m above k.
        k: which neighbour is the radius, a whole number from 1.

    Returns:
        Two numbers ().
    """

    ### BEGIN SOLUTION
    def share(points, centres):
        reach = torch.cdist(centres, centres).kthvalue(k + 1).values  # the first is 0
        return (torch.cdist(points, centres) < reach).any(1).double().mean()

    return share(fake, real), share(real, fake)
    ### END SOLUTION


# %%
check.precision_recall(precision_recall)

# %% [markdown]
# A sampler three times as wide as the data, in 16 dimensions; then five real points are
# replaced by outliers. What became of its quality?

# %%
seed_everything(0)
real, wide = torch.randn(500, 16), 3 * torch.randn(500, 16)
for name in ("clean data", "five outliers"):
    try:
        P, R = precision_recall(real, wide, 5)
        print(f"{name:14} precision {P:.3f}, recall {R:.3f}")
    except NotImplementedError:
        print("(write precision_recall first)")
    real[:5] = 10 * torch.randn(5, 16)

# %% [markdown]
# ## 5. More than chance
#
# A classifier was trained to tell samples from data. Then it got `right` of $n$ rows right
# that it had not seen; for each a coin had decided whether it was a sample or data. If both
# have one law, a row tells nothing of its coin, so that every answer is a fair coin, too.
# Return the exact probability of `right` or more heads,
#
# $$\sum_{i=\mathtt{right}}^{n} \binom{n}{i}\, 2^{-n}.$$
#
# One-sided: a classifier that is wrong more often than right proves nothing. The check asks
# for more than a thousand rows, where $2^{-n}$ is 0 in floating point. (`math.comb` is exact;
# `math.lgamma` gives the log of a factorial.)


# %%
def c2st_p_value(right, n):
    """Return the probability of so many or more.

    Args:
        right: how many rows the classifier got right, 0 to n.
        n: how many rows there were.

    Returns:
        A number, 0 to 1.
    """
    ### BEGIN SOLUTION
    ways = sum(math.comb(n, i) for i in range(right, n + 1))  # exact, however large
    return ways / 2**n
    ### END SOLUTION


# %%
check.c2st_p_value(c2st_p_value)

# %% [markdown]
# The same accuracy of 55 % proves little or everything:

# %%
for n in (40, 200, 1000, 5000):
    try:
        print(f"{11 * n // 20:4} right of {n:4}: p = {c2st_p_value(11 * n // 20, n):.2g}")
    except NotImplementedError:
        print("(write c2st_p_value first)")

# %% [markdown]
# ## 6. Nearer than unseen data
#
# Let $d$ be the distance of a row to its nearest *training* row, known for $n$ unseen rows
# and $m$ samples. All pairs of an unseen row and a sample count: in which share of them is
# the sample nearer? If both distances are equal, as among copies, a tie counts half. Where
# samples are fresh draws of the data's law the share is $1/2$ on average. Pairs share rows, so its spread
# is not that of $nm$ coins: Mann and Whitney give
#
# $$z = \Big(\text{share} - \tfrac12\Big) \Big/ \sqrt{\frac{n + m + 1}{12\, n m}}.$$
#
# Return the share and $z$, without a correction of the spread for ties.


# %%
def copying_share(d_held, d_fake):
    """Return how often a sample is nearer to the training data than an unseen row, and z.

    Args:
        d_held: distances of unseen rows (n,).
        d_fake: distances of samples (m,).

    Returns:
        Two numbers (): the share and z.
    """
    ### BEGIN SOLUTION
    n, m = len(d_held), len(d_fake)
    gap = d_held[:, None] - d_fake  # (n, m)
    share = ((gap > 0).double() + (gap == 0) / 2).mean()
    return share, (share - 0.5) / math.sqrt((n + m + 1) / (12 * n * m))
    ### END SOLUTION


# %%
check.copying_share(copying_share)

# %% [markdown]
# Samples that repeat the training data, with noise of growing size: from where on does the
# test not see it any more?

# %%
seed_everything(0)
train, held = torch.randn(500, 8), torch.randn(300, 8)
nearest = lambda x: torch.cdist(x, train).amin(1)
for size in (0.0, 0.3, 0.6, 0.9):
    fake = train[:300] + size * torch.randn(300, 8)
    try:
        share, z = copying_share(nearest(held), nearest(fake))
        print(f"copies with noise {size}: share {share:.3f}, z = {z:.1f}")
    except NotImplementedError:
        print("(write copying_share first)")

# %% [markdown]
# ## Further, without a check
#
# 1. **Extrapolate.** The bias of a Fréchet distance goes like $1/n$. Compute it at $n$ and at
#    $n/2$ rows and extrapolate to infinitely many (Chong and Forsyth, 2020). Does it help
#    where features are not white?
# 2. **Another $k$.** Draw precision and recall of the wide sampler against $k$. Does any $k$
#    survive the outliers?
# 3. **A better classifier.** Give the two-sample test the pictures instead of the features.
#    Which samplers of the lecture's table does it see then?
