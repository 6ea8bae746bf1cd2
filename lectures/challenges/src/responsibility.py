# %% [markdown]
# # What to answer for: copies, wrong data, marks and cards
#
# Whoever trains a generative model is asked: does it give away its data, does it know what it
# does not know, can its products be told apart, and what is written on the label? Each question gets a measurement here, and a case in which the measurement fails. Four
# prompts for a discussion follow.

# %% [markdown] tags=["nav"]
# 58 minutes, and 5 further ·
# before this: [A thousand small steps: denoising diffusion](../diffusion/ddpm.ipynb), [One token at a time: GPT](../autoregressive/gpt.ipynb), [Half of it stays: coupling flows](../flows/realnvp.ipynb) ·
# [exercise](../../exercises/challenges/responsibility.ipynb) ·
# [solution](../../solutions/challenges/responsibility.ipynb)
#
# previous: [Who is fooled: likelihoods and samples on trial](evaluation.ipynb) ·
# [all units](../index.ipynb) ·
# next: [One table: six families and a mixture](six_families.ipynb)

# %% tags=["setup"]
import importlib.util

if importlib.util.find_spec("gdm_course") is None:
    raise ImportError(
        "the package gdm_course is not installed here: run 'make lab' in the course's "
        "folder, or 'pip install -e .[lab]', and choose that environment as the kernel"
    )

# %%
import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, pad

from gdm_course import (
    checkpoints,
    schematics,
    validate,  # that refuses what does not fit
)
from gdm_course import plotting as plot
from gdm_course.autoregressive.decoding import choose, generate
from gdm_course.challenges import cards
from gdm_course.challenges.cards import answered
from gdm_course.challenges.memorise import candidates, copied_share, copies_of
from gdm_course.challenges.watermark import binomial_tail, green_list, z_score
from gdm_course.challenges.wrong_data import (
    contexts,
    counted_log_prob,
    share_below,
    typicality,
    zlib_nats,
)
from gdm_course.data import images, registry, text
from gdm_course.data.download import Missing
from gdm_course.diffusion.ddim import ddim
from gdm_course.diffusion.ddpm import DDPM
from gdm_course.diffusion.denoiser import Denoiser
from gdm_course.diffusion.mixture import MixtureDenoiser
from gdm_course.diffusion.schedule import normal_schedule
from gdm_course.diffusion.targets import Clean
from gdm_course.evaluation.bounds import elbos
from gdm_course.evaluation.likelihood import Estimate, bits_per_dim
from gdm_course.evaluation.neighbours import ROWS, distances
from gdm_course.evaluation.two_sample import classifier, data_copying
from gdm_course.training import (
    budget,
    forever,
    full_run,
    generator,
    seed_everything,
    train,
)
from gdm_course.widgets import play, progress

plot.style()
digits = images.load("digits")
rows = lambda x: (x.float() / 8 - 1).flatten(1)  # 17 grey values, -1 to 1
learned = rows(digits.x_train)[torch.randperm(len(digits.x_train), generator=generator(5))]
unseen = rows(torch.cat([digits.x_valid, digits.x_test]))
print(f"{len(learned)} digits to learn from, {len(unseen)} that no model will see")

# %% [markdown]
# ## 1. The question
#
# A diffusion is trained to guess clean data from noisy ones. Let $a_1,\dots,a_N$ be the
# training set. One of them, $x$, is drawn, and normal noise $\varepsilon$ is added,
# $x_t = \alpha x + \sigma\varepsilon$. The best possible guess is the mean of all $a_i$, each
# with its probability of being the one,
#
# $$\mathbb E[x \mid x_t] = \sum_i w_i\, a_i, \qquad
#   w_i \propto \exp\Big(-\frac{|x_t - \alpha a_i|^2}{2\sigma^2}\Big), \qquad
#   \sum_i w_i = 1. \tag{1}$$
#
# `MixtureDenoiser` computes it; nothing is trained. A network that reached the smallest
# possible training loss would be this function.
#
# **Predict, before you run:** the exact denoiser of 64 digits draws 200 pictures. How many
# of them are new?

# %%
few = learned[:64]
steps = normal_schedule(200, 0.0, 2.0)  # 200 steps, most of them around log SNR 0
exact = DDPM(MixtureDenoiser(few), (64,), schedule=steps, target=Clean())
seed_everything(0)
drawn = ddim(exact, 200)
off = torch.cdist(drawn, few).amin(1)
print(f"largest distance to the nearest training digit: {off.max():.4f}")
print(f"digits drawn at least once: {torch.cdist(drawn, few).argmin(1).unique().numel()}")
apart = distances(unseen, few).amin(1).mean()
print(f"an unseen digit is on average {apart:.2f} from its nearest")
assert off.max() < 0.01 * apart

# %% [markdown]
# <details><summary>Answer</summary>
#
# None. At the end of the walk one weight in (1) is 1, so that each sample *is* a training
# digit. A diffusion that takes all its steps draws something new only
# because its network does *not* reach the best training loss. How much it copies is to be
# measured.
# </details>
#
# **Play.** Noise a training digit, and see how many digits it may have come from: the
# exponential of the entropy of the weights. The slider is $\log \alpha^2/\sigma^2$.


# %%
def draw_noise(log_snr):
    """A digit, the same under noise, and the exact denoiser's answer."""
    level = torch.tensor(float(log_snr))
    alpha, sigma = level.sigmoid().sqrt(), (-level).sigmoid().sqrt()
    x_t = alpha * few + sigma * torch.randn(few.shape, generator=generator(2))
    many = candidates(exact.net, x_t, level)
    names = ("a digit", f"log SNR {log_snr}", f"answer: mean of {many[3]:.1f}")
    for ax, x in zip(
        plot.panels(*names, width=2.4, height=2.4), (few, x_t, exact.net(x_t, level))
    ):
        plot.image_grid((x[3].view(1, 1, 8, 8) + 1) / 2, ax)
    return many.mean().item()


counts = [draw_noise(level) for level in (-8, 4)]
plot.plt.close("all")
assert counts[0] > 10 > 1.5 > counts[1]
play(draw_noise, log_snr=(-8, 4, 1, -3))

# %% [markdown]
# ## 2. Copies, measured
#
# Near is relative: two sevens of one hand are close, too. So the distance to the nearest
# training example $d_1$ is divided by that to the second nearest, $d_2$:
#
# $$r = d_1 / d_2. \tag{2}$$
#
# A copy has $r$ near 0, a picture that is like many has $r$ near 1. (A tiny number: on a line
# with examples at 0 and 10, a sample at 2 has $r = 2/8$.) We call $r < 1/2$ a copy, by
# convention, so the share among *unseen* digits stands beside it.


# %% tags=["from:challenges.memorise.distance_ratio"]
def distance_ratio(x: Tensor, train: Tensor) -> Tensor:
    """Return d_1 / d_2 of every row, equation (2): (B, *D), (N, *D) -> (B,).

    d_1 and d_2 are its distances to the nearest and the second nearest training example.
    Equal examples count once. A copy has 0, a point between two examples 1.

    Args:
        x: samples.
        train: what was learned from, with 2 different rows or more.
    """
    train = validate.points(train, ..., name="train").flatten(1).unique(dim=0)
    x = validate.points(x, x.shape[1:], train).flatten(1)
    if len(train) < 2 or x.shape[1] != train.shape[1]:
        raise ValueError(
            f"x has {x.shape[1]} numbers a row, train {train.shape[1]} in {len(train)} "
            "different rows: expected equally many, and 2 different rows or more"
        )
    parts = [distances(rows, train).topk(2, 1, False).values for rows in x.split(ROWS)]
    first, second = torch.cat(parts).unbind(1)
    return first / second


# %% [markdown]
# Now networks: a perceptron of fixed size, trained on batches of 128 in all cases, so that
# only the named thing differs. In the fourth run one digit of 128, digit 0, occurs 32 times;
# a column of the table counts its copies alone.


# %%
def learn(x, n):
    """Train a diffusion on digits x for n steps, and draw 300."""
    seed_everything(0)
    net = Denoiser(64, hidden=256, depth=2, waves=0)
    model = DDPM(net, (64,), schedule=steps)
    same = forever(x.repeat(-(-1024 // len(x)), 1), 128, generator(0))
    rate = lambda k: 6e-3 * (1 - k / n) + 1e-5
    for _ in progress(train(model, same, n, lr=rate), n, f"{len(x)} digits, {n} steps"):
        pass
    return ddim(model, 300, budget(50, 5))


often = torch.cat([learned[:128], learned[:1].repeat(31, 1)])
long, short = budget(1200, 3), budget(240, 2)
runs = {
    "16 digits": (learned[:16], long),
    "16 digits, a fifth of the steps": (learned[:16], short),
    "128 digits": (learned[:128], long),
    "128, one of them 32 times": (often, long),
    "1,024 digits": (learned[:1024], long),
}
made = {name: learn(*how) for name, how in runs.items()}

# %%
copied, first, nearer = {}, {}, {}
print(f"{'':33}{'copies':>14}{'unseen':>9}{'digit 0':>9}{'nearer than unseen':>20}")
for name, (x, _) in runs.items():
    copied[name] = copied_share(made[name], x)
    first[name] = copies_of(made[name], x, 0).value
    control, test = copied_share(unseen, x).value, data_copying(x, unseen, made[name])
    nearer[name] = test.share
    share = f"{copied[name].value:.3f} +- {copied[name].error:.3f}"
    print(
        f"{name:33}{share:>14}{control:9.3f}{first[name]:9.3f}"
        f"{test.share:12.2f} (z {test.z:5.1f})"
    )
x, other = made["128 digits"], learned[128:256]
own = (
    (torch.cdist(x, learned[:128]).amin(1) < torch.cdist(x, other).amin(1)).double().mean()
)
print(f"128 digits: {own:.0%} of the samples are nearer to these than to 128 others")
all_16, all_128 = copied["16 digits"].value, copied["128 digits"].value
if full_run():
    assert all_16 > 0.4 and all_16 > copied["16 digits, a fifth of the steps"].value + 0.2
    assert all_16 > all_128 > copied["1,024 digits"].value - 0.02
    assert nearer["128 digits"] > 0.6 and all_128 < 0.1 and own > 0.7
    assert first["128, one of them 32 times"] > first["128 digits"] + 0.05

# %% tags=["fold"]
# @title Samples of the first and the last run, and under each its nearest training digit
left, right = plot.panels("16 digits", "1,024 digits", width=4.4, height=1.4)
for ax, name in ((left, "16 digits"), (right, "1,024 digits")):
    x = runs[name][0]
    near = x[torch.cdist(made[name][:12], x).argmin(1)]
    plot.image_grid((torch.cat([made[name][:12], near]).view(-1, 1, 8, 8) + 1) / 2, ax, 12)

# %% [markdown]
# More pictures, fewer steps and no duplicates each lower the copying. The last column is the
# *data-copying test*: in which share of pairs a sample is nearer to the training set than an
# unseen digit is. It needs no threshold, and samples of the right law have 1/2. But samples
# that avoid the unusual have more, without a copy, and odd ones less, as in the last row.
# For 128 digits the two disagree: hardly a copy by (2), and yet nearer. The line below the
# table decides: were nothing kept, 128 *others* would be nearest as often.
#
# **Question.** A run has 0.00 copies, by (2). Is it proven that it gives nothing away?
#
# <details><summary>Answer</summary>
#
# No. The ratio sees whole pictures in pixels, not a shifted, inverted or cropped copy. And 300
# samples miss a picture that comes once in a million draws. Carlini and others (2023) looked
# where copies are likely: at the captions of pictures that occur often in the training set.
# </details>

# %% [markdown] tags=["notes"]
# 20 minutes for sections 1 and 2. Ask the room first what a *perfect* diffusion would draw.
# Expect "new digits, only better". It sticks at the threshold: say that 1/2 is a convention,
# and that this is why the control column is there. The slider can be left out.

# %% [markdown]
# ## 3. The likelihood of the wrong data
#
# A density is asked whether a picture is of the kind it has learned. To read it whole, here
# is the smallest: the probability of a pixel given the one to its left and the one above,
# *counted*. That of a picture is the product over its pixels. `contexts` puts the two values
# into one number, and `K` is how many grey values there are.


# %% tags=["from:challenges.wrong_data.count_pixels"]
def count_pixels(x: Tensor, K: int, extra: float = 0.1) -> Tensor:
    """Return log p(value | left, above), counted on pictures x (B, 1, H, W): (K * K, K).

    Args:
        x: codes 0 to K - 1.
        K: grey values.
        extra: added to every count, so that nothing is impossible.
    """
    each = (contexts(x, K) * K + x.long()).flatten()
    counts = each.bincount(minlength=K**3).double().view(K * K, K) + extra
    return (counts / counts.sum(1, keepdim=True)).log()


# %% [markdown]
# It learns clothes (Fashion-MNIST, 16 grey values) and is shown handwritten digits.
#
# **Predict, before you run:** which get the higher likelihood, unseen clothes or digits?

# %%
coarse = lambda x: (x.long() * 16 // 256).byte()
try:
    clothes, other = images.load("fashion_mnist"), images.load("mnist")
    kind = ("clothes", "digits")
    fit, usual = coarse(clothes.x_train[:10_000]), coarse(clothes.x_valid[:2000])
    normal, strange = coarse(clothes.x_test[:2000]), coarse(other.x_test[:2000])
except Missing:  # both data sets need a download
    kind, (fit, usual) = ("digits", "faded digits"), (digits.x_train, digits.x_valid)
    normal, strange = digits.x_test, digits.x_test // 8
table = count_pixels(fit, 17)  # 17: the small digits, which stand in, have so many
nll = {x: -counted_log_prob(table, x) for x in (usual, normal, strange)}
D = normal[0].numel()
for name, x in zip(kind, (normal, strange)):
    bits = bits_per_dim(nll[x], D)
    print(f"{name:14}{bits.mean():.3f} +- {bits.std() / len(x) ** 0.5:.3f} bits/dim")
black = ((contexts(fit, 17) == 0) & (fit == 0)).double().mean()
print(f"black, with black to the left and above: {black:.0%} of what was counted")
assert nll[strange].mean() < nll[normal].mean()

# %% [markdown]
# <details><summary>Answer</summary>
#
# The digits, which it has never seen. A digit is mostly black, and black beside black is what
# it has counted most. Nalisnick and others (2019) found the same with flows, VAEs and
# PixelCNNs. This table has no network, so no network causes it here.
# </details>
#
# How well a score separates two groups is the share of pairs in which the strange one scores
# higher,
#
# $$\mathrm{AUROC} = P(s_\text{strange} > s_\text{normal})
#   + \tfrac12 P(s_\text{strange} = s_\text{normal}), \tag{3}$$
#
# 1/2 by chance. (Normal scores 1 and 3, strange ones 2 and 3: of four pairs two are won, one
# is equal; 2.5 / 4.)


# %% tags=["from:challenges.wrong_data.auroc"]
def auroc(normal: Tensor, strange: Tensor) -> Estimate:
    """Return P(strange > normal) + P(equal) / 2, equation (3), with its standard error.

    1/2 is chance, 1 a score that separates, below 1/2 one that is wrong way round. It is
    the Mann-Whitney statistic over the number of pairs, and the area under the curve of
    hits against false alarms. The error is that of DeLong and others (1988).

    Args:
        normal, strange: scores (N,) and (M,), 2 or more each; large should mean strange.
    """
    a = validate.points(normal, (), name="normal", least=2).double()
    b = validate.points(strange, (), name="strange", least=2).double()
    won, lost = share_below(b, a), 1 - share_below(a, b)
    error = math.sqrt(won.var().item() / len(b) + lost.var().item() / len(a))
    return Estimate(won.mean().item(), error)


# %% [markdown]
# Two scores try to repair that. **Typicality**: draws of a law have a $-\log p$ close to the
# *usual* one, and too likely is strange as well,
#
# $$T(x) = \big|{-\log p(x)} - m\big| / s, \tag{4}$$
#
# with mean $m$ and standard deviation $s$ on validation data. **Complexity**: take away
# $L(x)$, what a general packer, here zlib, needs for the picture, in nats as well,
#
# $$S(x) = -\log p(x) - L(x). \tag{5}$$

# %%
packed, coin = {x: zlib_nats(x) for x in (normal, strange)}, generator(9)
scores = {
    "-log p": lambda x: nll[x],
    "typicality (4)": lambda x: typicality(nll[x], nll[usual]),
    "-log p - zlib (5)": lambda x: nll[x] - packed[x],
    "control: -zlib alone": lambda x: -packed[x],
    "control: random": lambda x: torch.rand(len(x), generator=coin),
}
found = {name: auroc(score(normal), score(strange)) for name, score in scores.items()}
for name, area in found.items():
    print(f"{name:22}{area.value:.3f} +- {area.error:.3f}")
assert found["-log p"].value < 0.4 and found["-log p - zlib (5)"].value > 0.75
if kind[0] == "clothes":
    assert found["typicality (4)"].value > 0.7
    assert found["control: -zlib alone"].value > found["-log p - zlib (5)"].value + 0.02

# %% tags=["fold"]
# @title What the table says of both, and what is left when the packed length is taken away
left, right = plot.panels("-log p", "-log p less zlib's length", width=4)
for ax, name in ((left, "-log p"), (right, "-log p - zlib (5)")):
    for x, color, label in zip((normal, strange), (plot.BLUE, plot.ORANGE), kind):
        bits = bits_per_dim(scores[name](x), D)
        ax.hist(bits.tolist(), 40, alpha=0.5, color=color, label=label, density=True)
    ax.set_xlabel("bits/dim")
left.legend()

# %% [markdown]
# Both repair this pair.
#
# **Change this line and run again:** make `strange` the mirrored normal pictures,
# `normal.flip(3)`, in the cell that loads. What do all scores say?
#
# <details><summary>Answer</summary>
#
# Close to 1/2, all of them: a mirrored picture is nearly as likely, as typical and as complex.
# No score here detects "strange"; each detects one property.
# </details>
#
# The control row shows another thing: with clothes and digits the packed length *alone*, which
# knows no clothes, separates better than (5): the model's part does not help there. Now the
# extreme case: a blank picture, and as the model a flow of the course that has learned MNIST.
#
# **Predict, before you run:** which share of test digits is stranger than the blank, by
# $-\log p$, and by (5)?

# %%
name, blank = "flows/glow-mnist-cpu", torch.zeros(1, 1, 28, 28, dtype=torch.uint8)
try:
    flow, x = checkpoints.load(name, stale_ok=True), images.load("mnist").x_test[::50]
    seed_everything(0)
    flow_nll = -elbos(flow, torch.cat([blank, x]))  # its log p, estimated with one draw
    less = flow_nll - zlib_nats(torch.cat([blank, x]))
    for label, values in (("-log p", flow_nll), ("(5)", less)):
        b = bits_per_dim(values, 784)
        rank = (b[1:] > b[0]).double().mean()
        print(
            f"{label:8}blank {b[0]:6.2f}, test digits {b[1:].mean():.2f} bits/dim; ", end=""
        )
        print(f"{rank:.0%} of the digits are stranger than the blank")
    assert (flow_nll[1:] > flow_nll[0]).all() and rank < 0.2
except (Missing, FileNotFoundError) as missing:
    print(missing)

# %% [markdown]
# <details><summary>Answer</summary>
#
# By $-\log p$ all of them: no digit is as likely as the blank. By (5) hardly any: zlib needs
# so little for the blank that hardly anything is taken away.
# </details>

# %% [markdown] tags=["notes"]
# 15 minutes. Draw $-\log p$ of a Gaussian in many dimensions: the mode is likelier than any
# draw. Expect "then the model is bad": the table is the best of its kind, it is counted.

# %% [markdown]
# ## 4. Telling pictures apart
#
# A detector is a classifier of real and generated pictures. First a trap: the GAN's pictures
# are real numbers, the digits have 17 grey values. A detector could learn the *file format*.
# So all fakes are rounded to the same 17 values. `classifier` is the perceptron of the
# course's two-sample test: pictures in, one logit out, positive for a fake.

# %%
to_codes = lambda x: ((x + 1) * 8).round().clamp(0, 16) if x.is_floating_point() else x
seed_everything(0)
gan = to_codes(checkpoints.load("gan/digits", stale_ok=True).sample(1800)).float()
chain = checkpoints.load("diffusion/ddpm-digits", stale_ok=True)
diffused = ddim(chain, budget(300, 30), budget(20, 2)).float()
real, held = digits.x_train.float(), torch.cat([digits.x_valid, digits.x_test]).float()
seed_everything(1)
both = torch.cat([real, gan[: len(real)]]).flatten(1) / 8 - 1
y = (torch.arange(len(both)) >= len(real)).float()  # 1 is fake
detector = classifier(both, y, budget(800, 3))


@torch.no_grad()
def fake_score(x):
    """How sure the detector is that pictures are fakes: (B, 1, 8, 8) -> (B,)."""
    return detector(x.flatten(1) / 8 - 1)[:, 0]


# %%
around = lambda x: avg_pool2d(pad(x, (1, 1, 1, 1), mode="replicate"), 3, 1)
blurred = lambda x: around(x).round()
new = gan[len(real) :]
cases = {
    "its training data": (real, gan[: len(real)]),
    "new fakes of the same GAN": (held, new),
    "fakes of a diffusion": (held, diffused),
    "same GAN, both blurred": (blurred(held), blurred(new)),
    "same GAN, only fakes blurred": (held, blurred(new)),
    "control: real against blurred real": (held, blurred(held)),
    "control: real against real": (held[::2], held[1::2]),
}
areas = {name: auroc(*map(fake_score, pair)) for name, pair in cases.items()}
for name, area in areas.items():
    print(f"{name:36}AUROC {area.value:.3f} +- {area.error:.3f}")
limit = fake_score(held).quantile(0.95)  # accuses 1 real picture of 20
share = lambda x: (fake_score(x) > limit).double().mean().item()
caught = {
    "the GAN": share(new),
    "the diffusion": share(diffused),
    "blurred": share(blurred(new)),
}
print("found, at 1 real picture in 20 accused:", {k: f"{v:.0%}" for k, v in caught.items()})
if full_run():
    assert areas["new fakes of the same GAN"].value > 0.8 and caught["the GAN"] > 0.3
    assert areas["fakes of a diffusion"].value < 0.65 and caught["the diffusion"] < 0.2
    assert areas["same GAN, both blurred"].value < 0.7
    assert abs(areas["control: real against real"].value - 0.5) < 0.1

# %% [markdown]
# It finds fakes of the model that it knows. Those of another model are near the chance level
# of 1/2, and so are its own when everything is blurred. The diffusion can be found: a second
# detector, which we trained on it, found it, and not the GAN.
# That of Wang and others (2020), trained on one GAN and on blurred and re-encoded pictures too,
# carried over to many others. Whether it does is to be measured anew.
#
# **Question.** "Only fakes blurred" and "both blurred" differ. Which one may be reported?
#
# <details><summary>Answer</summary>
#
# Only the second. By the control, blurring alone moves the scores of *real* pictures (up or
# down: two seeds): the first measures the programs that the classes went through, too.
# </details>

# %% [markdown]
# ## 5. A mark in the sampler
#
# The maker can leave a sign. Kirchenbauer and others (2023):
# a secret key says which tokens are *green* after which, `green[before, next]`, here each
# pair independently with the probability $\gamma$. The sampler prefers green ones,
#
# $$\text{logit}_k \leftarrow \text{logit}_k + \delta\,[k \text{ is green}]. \tag{6}$$
#
# Whoever has the key counts. Of $n$ pairs in a text that knows nothing of it, a share
# $\gamma$ is green on average. With $G$ green ones,
#
# $$z = \frac{G - \gamma n}{\sqrt{\gamma (1 - \gamma)\, n}}. \tag{7}$$
#
# (16 of 20 with $\gamma = 1/2$: $z = 6 / \sqrt 5 = 2.7$.) `binomial_tail` is the probability
# of $G$ green pairs *or more* by chance.


# %% tags=["from:challenges.watermark.marked_sample"]
def marked_sample(
    gpt: nn.Module, n: int, green: Tensor, delta: float, length: int | None = None
) -> Tensor:
    """Draw n texts (n, length) with delta added to the logit of every green token, (6).

    The first token has none before it, so it carries no mark.

    Args:
        gpt: with `embed`, `read` and `blocks`, as `generate` needs them.
        n, length: how many, and how many tokens; the longest by default.
        green: the secret (K, K).
        delta: the strength, 0 for none.
    """
    n, before = validate.count(n), None

    def marked(logits: Tensor) -> Tensor:
        nonlocal before
        bonus = 0.0 if before is None else delta * green[before]
        before = choose(logits + bonus)
        return before

    nothing = torch.zeros(n, 0, dtype=torch.int64)
    return generate(gpt, nothing, None, gpt.T if length is None else length, marked)


# %% tags=["fold"]
# @title A step of the marked sampler: a secret list stands between logits and choice
gpt = checkpoints.load("autoregressive/gpt-shakespeare-cpu", stale_ok=True)
green = green_list(7, gpt.K)
trial = lambda: marked_sample(gpt, 5, green, 2.0, 4)
seen = schematics.trace(trial).first("choose")
d = schematics.Drawing("A marked step", "The key's list is added to the logits.", 5)
before = d.box("token before", (0, 0), of=seen.result)
G = d.network(gpt, "GPT", (1, 0))
secret = d.box("green list", (0, 1), "chance", note=f"{gpt.K} x {gpt.K}, by the key")
plus = d.box("+ delta green", (2, 0), "operation")
pick = d.box("choose", (3, 0), "operation")
d.arrow(before, G)
d.arrow(before, secret)
d.arrow(G, plus, "logits", seen.given["logits"])
d.arrow(secret, plus)
d.way(plus, pick)
d.arrow(pick, d.box("token", (4, 0), of=seen.result))
d


# %% tags=["from:challenges.watermark.count_green"]
def count_green(x: Tensor, green: Tensor, once: bool = True) -> tuple[int, int]:
    """Return how many pairs of neighbours in a text are green, and how many there are.

    Args:
        x: tokens (T,).
        green: the secret (K, K).
        once: whether a pair that occurs again is left out. A text that repeats a pair
            repeats its colour, and that is no new evidence.
    """
    x = validate.codes(x, len(green), (), least=2)
    pairs = torch.stack([x[:-1], x[1:]], 1)
    pairs = pairs.unique(dim=0) if once else pairs
    return int(green[pairs[:, 0], pairs[:, 1]].sum()), len(pairs)


# %% [markdown]
# The price: what marked texts cost under the unmarked model, in nats per character.

# %%
texts, zs, cost = {}, {}, {}
score = lambda x, by=green: torch.tensor([z_score(*count_green(row, by)) for row in x])
print("delta   mean z   z > 4   nats per character")
for delta in (0.0, 1.0, 2.0, 4.0):
    seed_everything(1)
    texts[delta] = x = marked_sample(gpt, budget(48, 4), green, delta)
    zs[delta] = score(x)
    with torch.no_grad():
        cost[delta] = -gpt.conditionals(x).log_prob(x)[:, 1:].mean(1)
    price, error = cost[delta].mean(), cost[delta].std() / len(x) ** 0.5
    above = (zs[delta] > 4).float().mean()
    print(f"{delta:5}{zs[delta].mean():9.2f}{above:8.2f}   {price:.3f} +- {error:.3f}")
hits, pairs = count_green(texts[2.0][0], green)
print(
    f"first text: {hits} of {pairs} green, by chance {binomial_tail(hits, pairs, 0.5):.1g}"
)
if full_run():
    assert zs[0.0].mean().abs() < 1 < zs[1.0].mean() < zs[2.0].mean() < zs[4.0].mean()
    assert cost[0.0].mean() + 0.1 < cost[2.0].mean() < cost[4.0].mean()

# %% [markdown]
# ### Break it: one piece of evidence, counted twice
#
# `once=False` counts every pair of neighbours, also those that occur again. An innocent text
# is read with 200 keys. A threshold of $z > 2.33$ should accuse one in a hundred.

# %%
try:
    plays = text.shakespeare()
    innocent = plays.encode(plays.test[:2000])
except Missing:  # the model's own words, without a mark
    plays, innocent = None, gpt.sample(16).flatten()
alarms = {}
for once in (False, True):
    counts = [count_green(innocent, green_list(1000 + k, gpt.K), once) for k in range(200)]
    z = torch.tensor([z_score(*c) for c in counts])
    alarms[once] = (z > 2.33).float().mean().item()
    print(f"once={once!s:6} n = {counts[0][1]:4}, sd of z {z.std():.2f}, ", end="")
    print(f"accused {alarms[once]:.1%}")
    assert (z.std() > 1.6) if not once else (0.8 < z.std() < 1.2)
assert alarms[False] > 0.08 > alarms[True]
x = texts[0.0][:16]  # without a mark
z = torch.tensor([score(x, green_list(2000 + k, gpt.K)).mean() for k in range(60)])
print(f"mean z of {len(x)} innocent texts: sd {z.std():.2f} over the keys")
assert z.std() > 0.35

# %% [markdown]
# "th" a hundred times is green a hundred times, or not once: the pairs are not independent, the
# variance in (7) is too small. Counted once, pairs have
# independent colours: $G$ is binomial, exactly, over keys. But many texts meet *one* key, and
# texts of one language share pairs: if they erred independently, the last line would be near
# $1/\sqrt{16}$. Under an unlucky key too many are accused.
#
# **Question.** Somebody replaces a share $r$ of the characters at random. To which factor
# does $z$ fall, about?
#
# <details><summary>Answer</summary>
#
# A pair keeps its colour if both of its characters stay, $(1 - r)^2$; the others are green by
# chance and add nothing on average. Half of the text replaced leaves a quarter. Another model
# that retells the text has no key. So a large $z$ speaks for the sampler, or for somebody else
# who has the key; a small one shows nothing.
# </details>
#
# **Play.** Strength of the mark, and share that is replaced.


# %%
def removed(x, share):
    """Replace a share of the tokens (B, T) by random ones."""
    g = generator(4)
    gone = torch.rand(x.shape, generator=g) < share
    return torch.where(gone, torch.randint(gpt.K, x.shape, generator=g), x)


def draw_removal(share, delta):
    """z of marked texts after the attack, and of texts without a mark."""
    z = score(removed(texts[delta], share))
    (ax,) = plot.panels(f"{(z > 4).float().mean():.0%} found (z > 4)", width=5)
    for values, color, label in (
        (zs[0.0], plot.GREY, "no mark"),
        (z, plot.GREEN, "marked"),
    ):
        ax.hist(
            values.tolist(), torch.arange(-4, 12, 0.5), color=color, alpha=0.6, label=label
        )
    ax.set_xlabel("z")
    ax.legend()
    return z.mean().item()


left = draw_removal(0.3, 4.0) / zs[4.0].mean().item()
plot.plt.close("all")
print(f"30 % replaced: z falls to {left:.2f} of what it was; (1 - r)^2 is 0.49")
assert abs(left - 0.49) < 0.12 or not full_run()
play(draw_removal, share=(0.0, 0.7, 0.1), delta=[2.0, 4.0, 1.0])

# %% [markdown] tags=["notes"]
# 15 minutes for sections 4 and 5. Let the room guess the false alarms of the Break before it
# runs. Expect "then take a longer text": with repeated pairs that makes it worse.

# %% [markdown]
# ## 6. What the label says
#
# Mitchell and others (2019) ask for model cards, Gebru and others (2018) for datasheets.
# The course writes a card for each checkpoint. Code can say which questions have no answer
# there, not whether an answer is good.


# %% tags=["from:challenges.cards.unanswered"]
def unanswered(
    card: Mapping[str, Any], questions: Mapping[str, tuple[str, ...]]
) -> list[str]:
    """Return the questions to which a card has no answer, in their order.

    Args:
        card: as it is read from JSON.
        questions: each with the paths, any of which may hold the answer.
    """
    return [q for q, at in questions.items() if not any(answered(card, p) for p in at)]


# %%
ours = checkpoints.card("diffusion/ddpm-digits")
for label, card, asked in (
    ("our model card of diffusion/ddpm-digits", ours, cards.OF_A_MODEL),
    ("our entry of MNIST", dataclasses.asdict(registry.dataset("mnist")), cards.OF_DATA),
):
    absent = cards.unanswered(card, asked)
    print(f"{label}: {len(asked) - len(absent)} of {len(asked)} answered. Missing:")
    print(*(f"    {question}" for question in absent), sep="\n")

# %% [markdown]
# Our cards are strong on what a machine can fill in (code, data, figure with error) and
# silent on what only people can say: what the model is for, who answers for it, who was asked.
# Two gaps a machine could fill: figures for each group, and section 2. And code sees only
# keys: MNIST's makers are named in its terms, and count as missing.
#
# **Question.** Would adding a line `"intended_use": "research"` make the card better?
#
# <details><summary>Answer</summary>
#
# It would make the *count* better. `unanswered` sees that a key is there, nothing more.
# </details>
#
# ## 7. Four prompts, each with its exhibit
#
# The questions have no answer sheet.

# %%
seed_everything(3)
if plays is not None:
    said = gpt.sample(1, prompt=plays.encode("JULIET:\n"), length=110)
    print(f"Exhibit B. Never written by its author:\n{plays.decode(said[0])}\n")
few_fakes = 0.01 * caught["the GAN"]  # where 1 picture of 100 is a fake
right = few_fakes / (few_fakes + 0.05 * 0.99)
print(f"Exhibit C. If 1 picture of 100 is this GAN's, {right:.0%} of the accused are\n")
g = generator(6)
worthless = [
    auroc(torch.rand(50, generator=g), torch.rand(50, generator=g)) for _ in range(20)
]
best = max(worthless)
print(f"Exhibit D. The best of 20 detectors: AUROC {best.value:.2f} +- {best.error:.2f}")
print("All 20 are random numbers.")
top, under = plot.panels(
    "Exhibit A: drawn by the first run", "in its training set", height=1.2
)
near = learned[:16][torch.cdist(made["16 digits"][:8], learned[:16]).argmin(1)]
for ax, x in ((top, made["16 digits"][:8]), (under, near)):
    plot.image_grid((x.view(-1, 1, 8, 8) + 1) / 2, ax, 8)
assert best.value > 0.53

# %% [markdown]
# **A. Consent and copyright.** Is a picture "in" the weights? Two courts, under different laws
# and on different facts: the High Court in London held that a model which does
# not store or reproduce works is no infringing copy (*Getty Images v Stability AI*, [2025]
# EWHC 2863 (Ch), 4 November 2025; permission to appeal was given in December). The Regional
# Court of Munich I held that memorised lyrics in a model's parameters are a reproduction
# (*GEMA v OpenAI*, 42 O 14139/24, 11 November 2025; not final when it was given). *80 Million
# Tiny Images*, from which CIFAR-10 was chosen, was withdrawn by its makers in 2020 after Prabhu
# and Birhane's audit. Which of our measurements would a court need, at which
# threshold? May a withdrawn data set's offspring be used?
#
# **B. Impersonation.** In January 2024 voters in New Hampshire got calls in a cloned voice of
# the President; the FCC imposed a fine of 6 million dollars in September 2024, for the false
# caller number. Exhibit B imitates
# a dead author. Where is the line: the living, the named, the intent to deceive?
#
# **C. Misinformation.** On 22 May 2023 a picture of an explosion at the Pentagon, which
# never took place, spread widely, and stock prices dipped. The EU's AI Act
# (Regulation 2024/1689, article 50(2)) asks makers for machine-readable marks of generated
# content, from 2 August 2026; systems on the market before that day were given until
# 2 December 2026 (article 111(4), added by Regulation 2026/1744). Which error is worse: a fake that passes, or a true picture
# called fake? Who sets `limit` in section 4, and who knows the share of fakes?
#
# **D. Reports one cannot trust.** Exhibit D reports an error bar and is worthless all the same.
# Which five lines would have shown it? (The number of attempts; data not used to choose; the
# chance level; a control; the spread over seeds.)
#
# ## 8. Summary
#
# - The exact denoiser of a training set draws the training set; less than exact is what is new.
# - Copies have a ratio $d_1/d_2$ near 0; more data, fewer steps and no duplicates lower them.
# - A high likelihood is no proof of the right kind of data; each repair sees one property.
# - A detector is as good as its test: other models, re-encoding, and controls.
# - A mark has an exact false-alarm rate over keys, a price, and can be removed; a card has gaps.

# %% tags=["fold"]
# @title All figures in one table
summary = {f"copies, {k}": (v.value, "share") for k, v in copied.items()}
summary |= {f"wrong data, {k}": (v.value, "AUROC") for k, v in found.items()}
summary |= {f"detector, {k}": (v.value, "AUROC") for k, v in areas.items()}
summary |= {f"mark, delta {k}": (v.mean().item(), "z") for k, v in zs.items()}
summary |= {
    f"its price, delta {k}": ((v.mean() - cost[0.0].mean()).item(), "nats per character")
    for k, v in cost.items()
}
for name, (value, unit) in summary.items():
    print(f"{name:48}{value:8.3f}  {unit}")

# %% [markdown]
# **Exercises:** [six functions with checks](../../exercises/challenges/responsibility.ipynb).
#
# **References.** Carlini and others (2023), *Extracting training data from diffusion models*,
# arXiv:2301.13188. Somepalli and others (2022), arXiv:2212.03860. Biroli and others (2024),
# *Dynamical regimes of diffusion models*, arXiv:2402.18491. Meehan and others (2020),
# *Data-copying*, arXiv:2004.05675. Nalisnick and others (2019), arXiv:1810.09136 and
# arXiv:1906.02994. Serrà and others (2020), *Input complexity*, arXiv:1909.11480. Wang and
# others (2020), *CNN-generated images*, arXiv:1912.11035. Kirchenbauer and others (2023),
# *A watermark for large language models*, arXiv:2301.10226. Yang and others (2024), *Gaussian
# Shading*, arXiv:2404.04956. Mitchell and others (2019), *Model cards*, arXiv:1810.03993.
# Gebru and others (2018), *Datasheets for datasets*, arXiv:1803.09010. Prabhu and Birhane
# (2020), *Large image datasets: a pyrrhic win*, arXiv:2006.16923.

# %% [markdown]
# ## Further: a mark in the latent signs of a flow
#
# A flow turns noise into pictures and back. The key is a row of signs: draw $z$, keep its
# size, and give it the key's signs. The detector inverts the flow and counts how many of the
# $D$ signs agree: binomial with 1/2 for a picture that knows nothing of the key. Averaged over
# keys, nothing changes in the law of the pictures; with *one* key all come from one of $2^D$
# corners.

# %%
from gdm_course.challenges.watermark import sign_hits, sign_key

signs, glow = sign_key(11, 784), checkpoints.load("flows/glow-mnist-cpu", stale_ok=True)
z = torch.randn(64, 784, generator=generator(8))


@torch.no_grad()
def sign_z(pictures):
    """z-scores of sign agreement of codes (B, 1, 28, 28), the middle of each grey value."""
    latent = glow.flow(glow.logit((pictures.float() + 0.5) / 256)[0])[0].flatten(1)
    return (sign_hits(latent, signs).double() - 392) / 14


with torch.no_grad():
    grow = lambda z: (
        (glow.logit.inverse(glow.flow.inverse(z.view(-1, 1, 28, 28))[0])[0] * 256)
        .floor()
        .clamp(0, 255)
    )
    plain, marked = grow(z), grow(z.abs() * signs)
softened = lambda x: (0.8 * x + 0.2 * around(x)).round()
for name, x in {
    "no mark": plain,
    "marked, as 256 grey values": marked,
    "marked, 32 grey values": (marked / 8).floor() * 8 + 4,
    "marked, a little blurred": softened(marked),
}.items():
    found_z = sign_z(x)
    print(f"{name:28} z {found_z.mean():6.2f} +- {found_z.std():.2f}")
assert sign_z(marked).mean() > 4 > sign_z(plain).abs().mean()
_ = plot.image_grid(torch.cat([plain[:10], marked[:10]]).byte(), columns=10)

# %% [markdown]
# The second row shows the price of one fixed key: its pictures resemble each other. And
# rounding to 32 grey values or a little blur takes much of the mark away. Yang and others
# (2024) mark the latent space of a diffusion, with a stream cipher in the place of one fixed
# key, so that the signs of different pictures differ.
#
# ## Further: another packer
#
# Equation (5) does not say which packer. PNG may predict each pixel from its neighbours first,
# and packs what is left in the same way as zlib. Is the result the same?

# %%
import io

from PIL import Image


def png_nats(x):
    """The length of every picture as a PNG file, in nats: (B, 1, H, W) -> (B,)."""
    sizes = []
    for picture in x[:, 0]:
        file = io.BytesIO()
        Image.fromarray(picture.numpy()).save(file, "png", optimize=True)
        sizes.append(8 * math.log(2) * file.tell())
    return torch.tensor(sizes, dtype=torch.float64)


for name, packer in {"zlib": zlib_nats, "PNG": png_nats}.items():
    lengths = {x: packer(x[:1000]) for x in (normal, strange)}
    area = auroc(*(nll[x][:1000] - lengths[x] for x in (normal, strange)))
    print(f"-log p less {name:5} AUROC {area.value:.3f} +- {area.error:.3f}")

# %% [markdown]
# It is not. The correction depends on the packer, which (5) treats as a detail. Serrà and
# others compared several; whoever reports such a figure names the packer.
