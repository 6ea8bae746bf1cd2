# %% [markdown]
# # Exercises: hide, guess, open
#
# Six short pieces of code: hiding tokens, the bound, a step back, what a few steps draw, two
# orders that disagree, and a gap that knows both of its neighbours. Under each stands a check
# that runs *your* function on fresh inputs. A red line names the wrong property; a plausible
# mistake gets a hint. Nothing depends on an unanswered question.

# %% [markdown] tags=["nav"]
# before this: [One dimension at a time: NADE, RNADE and MADE](../../lectures/autoregressive/nade.ipynb), [One token at a time: GPT](../../lectures/autoregressive/gpt.ipynb), [A thousand small steps: denoising diffusion](../../lectures/diffusion/ddpm.ipynb) ·
# [lecture](../../lectures/diffusion/masked.ipynb) ·
# [exercise](../../exercises/diffusion/masked.ipynb)

# %% tags=["setup"]
import importlib.util

if importlib.util.find_spec("gdm_course") is None:
    raise ImportError(
        "the package gdm_course is not installed here: run 'make lab' in the course's "
        "folder, or 'pip install -e .[lab]', and choose that environment as the kernel"
    )

# %%
import torch

from gdm_course.checks.diffusion import masked as check
from gdm_course.training import seed_everything

# %% [markdown]
# ## 1. Hide
#
# Tokens are codes $0,\dots,K-1$; the code $K$ stands for hidden. Equation (1) of the lecture
# hides each token of a row with the probability $t$ of that row. The chance comes from
# outside: a token is hidden where its own uniform number $u$ is below its row's $t$.


# %%
def mask_tokens(x, t, u, K):
    """Return the codes, some of them hidden.

    Args:
        x: codes 0..K-1 (B, T).
        t: share that is hidden, of each row (B,).
        u: uniform numbers between 0 and 1 (B, T).
        K: number of values, and the code of what is hidden.

    Returns:
        (B, T)
    """
    ### BEGIN SOLUTION
    return torch.where(u < t[:, None], K, x)
    ### END SOLUTION


# %%
check.mask_tokens(mask_tokens)

# %% [markdown]
# ## 2. The bound
#
# The network has seen $x_t$ and says a logit for every value of every token. One draw of the
# bound (3) on $-\log p(x)$, in nats, takes what each hidden token costs, minus the logarithm
# of the probability of its true value; the sum over the hidden tokens; and divides by $t$.


# %%
def masked_bound(logits, x, x_t, t):
    """Return one draw of the bound for every row.

    Args:
        logits: of the K values (B, T, K).
        x: the true codes (B, T).
        x_t: what the network saw, K where a token is hidden (B, T).
        t: share that is hidden, of each row (B,).

    Returns:
        (B,), in nats
    """
    ### BEGIN SOLUTION
    hidden = x_t == logits.shape[-1]
    log_p = logits.log_softmax(-1).gather(-1, x[..., None]).squeeze(-1)
    return -(log_p * hidden).sum(1) / t
    ### END SOLUTION


# %%
check.masked_bound(masked_bound)

# %% [markdown]
# A network that knows nothing gives every value the same probability. What should the mean of
# many draws be, for 10 tokens of 4 values? Say it first.

# %%
seed_everything(0)
x, t = torch.randint(4, (20_000, 10)), torch.rand(20_000).clamp_min(1e-3)
try:
    x_t = mask_tokens(x, t, torch.rand(20_000, 10), 4)
    drawn = masked_bound(torch.zeros(20_000, 10, 4), x, x_t, t)
    print(f"mean {drawn.mean():.2f} nats, standard deviation {drawn.std():.1f};", end=" ")
    print(f"10 log 4 = {10 * torch.tensor(4.0).log():.2f}")
except NotImplementedError:
    print("(write mask_tokens and masked_bound first)")

# %% [markdown]
# ## 3. A step back
#
# At time $t$ a share $t$ of all tokens is hidden, at the earlier time $s < t$ only a share
# $s$. So a token that is hidden at $t$ stays hidden with the probability $s/t$, and opens
# otherwise: where its number $u$ is below the chance to open. Then it takes the value that
# the network has drawn. Tokens that are visible stay as they are.


# %%
def unmask_step(x_t, guess, u, s, t, K):
    """Return the codes at the earlier time s.

    Args:
        x_t: codes at time t, K where hidden (B, T).
        guess: values that the network has drawn, for all tokens (B, T).
        u: uniform numbers between 0 and 1 (B, T).
        s, t: numbers, 0 <= s < t <= 1.
        K: the code of what is hidden.

    Returns:
        (B, T)
    """
    ### BEGIN SOLUTION
    opens = (x_t == K) & (u < (t - s) / t)
    return torch.where(opens, guess, x_t)
    ### END SOLUTION


# %%
check.unmask_step(unmask_step)

# %% [markdown]
# ## 4. What a few steps draw
#
# Two tokens have the joint law $p$. Each of them opens in one of so many equal steps, all
# alike, and independently of the other. If both open in the same step, each is drawn from
# its own marginal. If not, the second one is drawn given the first, and the pair has the law
# $p$. The guesses are exact. Which law does the pair have?


# %%
def few_step_law(p, steps):
    """Return the law of the pair.

    Args:
        p: joint law of two tokens (K, L), summing to 1.
        steps: number of steps, 1 or more.

    Returns:
        (K, L)
    """
    ### BEGIN SOLUTION
    together = p.sum(1, keepdim=True) * p.sum(0)
    return together / steps + (1 - 1 / steps) * p
    ### END SOLUTION


# %%
check.few_step_law(few_step_law)

# %% [markdown]
# How many steps does it take until less than a tenth of the mutual information is lost? The pair here
# is a copied coin: both tokens are always equal.

# %%
coin = torch.eye(2) / 2
try:
    for steps in (1, 2, 4, 7, 8, 20):
        q = few_step_law(coin, steps)
        kl = (coin * (coin / q).log().nan_to_num()).sum()
        print(
            f"{steps:2d} steps: {kl:.3f} nats, of one step's {torch.log(torch.tensor(2)):.3f}"
        )
except NotImplementedError:
    print("(write few_step_law first)")

# %% [markdown]
# ## 5. Two orders
#
# A network has learned four tables for two tokens, and they do not quite agree. The sampler
# tosses a coin which token opens first: either the first by `p1` and then the second by
# `p2_given`, or the second by `p2` and then the first by `p1_given`. Return two logarithms
# for every pair, in nats: first the bound (5), the mean over both orders of the logarithm of
# the chain rule; then the exact $\log p$ of what the sampler draws.


# %%
def two_orders(p1, p2, p2_given, p1_given, x):
    """Return the bound and the exact log p.

    Args:
        p1, p2: laws of the token that opens first (K,) and (L,).
        p2_given: p(x2 | x1), one row for every x1 (K, L).
        p1_given: p(x1 | x2), one row for every x2 (L, K).
        x: pairs (B, 2).

    Returns:
        bound (B,) and exact (B,), in nats
    """
    ### BEGIN SOLUTION
    i, j = x.T
    forward = p1[i].log() + p2_given[i, j].log()
    backward = p2[j].log() + p1_given[j, i].log()
    both = torch.stack([forward, backward])
    return both.mean(0), both.logsumexp(0) - torch.log(torch.tensor(2.0))
    ### END SOLUTION


# %%
check.two_orders(two_orders)

# %% [markdown]
# ## 6. Between two neighbours
#
# Letters follow one another by a table $P$: row $a$ holds the probabilities of what comes
# after $a$. One letter is hidden, its left and its right neighbour are seen. Return the law
# of the hidden letter given both neighbours, for every row.


# %%
def middle_law(P, left, right):
    """Return the law of the letter between two others.

    Args:
        P: P[a, b] is the probability that b comes after a (K, K).
        left, right: the neighbours, codes 0..K-1, (B,) each.

    Returns:
        (B, K)
    """
    ### BEGIN SOLUTION
    both = P[left] * P[:, right].T
    return both / both.sum(1, keepdim=True)
    ### END SOLUTION


# %%
check.middle_law(middle_law)

# %% [markdown]
# ## Further, without a check
#
# 1. **Words for free.** Write a sampler that opens first the tokens of which the network is
#    surest. Compare its law on the grid of the lecture with that of a random order, by
#    counting. Which of the two does the bound belong to?
# 2. **A schedule.** Let tokens open in steps of unequal length: few at first, many at the
#    end. For two tokens the law is still a mixture. Which lengths are best?
# 3. **Uniform noise.** Let a token become another value instead of a hidden one. Then the
#    network has to find out *which* tokens are wrong. Derive the step back for two values.
