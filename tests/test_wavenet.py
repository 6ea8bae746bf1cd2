"""The mathematics of mu-law codes, WaveNet and WaveRNN, against independent oracles."""

import itertools
import math

import pytest
import torch
from torch.autograd.functional import jacobian
from torch.distributions import Normal

from gdm_course import protocols, recipes
from gdm_course.autoregressive.sound import (
    BinnedLogistics,
    BinnedNormal,
    Gaussian,
    LogisticMixture,
    Softmax,
    bin_sizes,
    linear_decode,
    linear_encode,
    mulaw_decode,
    mulaw_encode,
    smooth_embedding,
)
from gdm_course.autoregressive.wavenet import (
    DilatedStack,
    GatedBlock,
    Queues,
    WaveNet,
    receptive_field,
    shift,
)
from gdm_course.autoregressive.wavernn import (
    DualGRU,
    Truncated,
    WaveRNN,
    draw_next,
    gru_update,
    spans,
    split_code,
    start,
)
from gdm_course.scale.sound import _windows, bits_per_sample

OUTPUTS = [Softmax, Gaussian, LogisticMixture]


def small(K=4, output=Softmax, **options):
    """A WaveNet of three layers in float64, its weights far from zero."""
    torch.manual_seed(0)
    sizes = {"channels": 5, "skip": 6, "dilations": (1, 2, 3)}
    model = WaveNet(K, output=output, **sizes | options).double()
    for p in model.parameters():
        torch.nn.init.normal_(p, std=0.6)
    return model


def small_rnn():
    torch.manual_seed(0)
    model = WaveRNN(hidden=6, channels=4).double()
    for p in model.parameters():
        torch.nn.init.normal_(p, std=0.6)
    return model


# Codes ------------------------------------------------------------------------------------


@pytest.mark.parametrize("K", [16, 256, 1024])
def test_mulaw_error_stays_below_its_bound(K):
    """|x - decode(encode(x))| <= (|x| + 1 / mu) ((1 + mu)^(1 / K) - 1), by hand."""
    x = torch.linspace(-1, 1, 200_001)
    error = (x - mulaw_decode(mulaw_encode(x, K), K)).abs()
    bound = (x.abs() + 1 / (K - 1)) * (K ** (1 / K) - 1)
    assert (error <= bound + 1e-6).all()
    assert (error > 0.9 * bound).any()  # and the bound is tight


@pytest.mark.parametrize(
    ("encode", "decode"), [(mulaw_encode, mulaw_decode), (linear_encode, linear_decode)]
)
def test_codes_come_back_in_order_and_silence_is_in_the_middle(encode, decode):
    codes = torch.arange(256)
    assert torch.equal(encode(decode(codes, 256), 256), codes)
    assert (decode(codes, 256).diff() > 0).all()
    assert encode(torch.tensor([-2.0, -1.0, 0.0, 1.0, 2.0]), 256).tolist() == [
        0,
        0,
        128,
        255,
        255,
    ]


def test_every_mulaw_bin_holds_some_16_bit_codes():
    sizes = bin_sizes()
    edges = ((1 + 255) ** ((torch.arange(129) / 128).double()) - 1) / 255 * 32768
    assert sizes.sum() == 65536
    assert sizes.min() > 0
    assert ((sizes[128:] - edges.diff()).abs() <= 1).all()


# Outputs ----------------------------------------------------------------------------------


@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize(
    "scale", [1.0, 30.0]
)  # 30: means far outside, widths far too small
def test_probabilities_of_all_codes_sum_to_one(output, scale):
    torch.manual_seed(0)
    read = output(16)
    told = scale * torch.randn(50, 1, read.size).double().expand(-1, 16, -1)
    log_p = read(told).log_prob(torch.arange(16).expand(50, -1))
    assert log_p.isfinite().all()
    torch.testing.assert_close(log_p.exp().sum(1), torch.ones(50).double())


def test_bins_hold_the_mass_of_their_interval():
    """Against torch's cdf of a normal, and the sigmoid itself, in the middle."""
    codes, mu, log_s = torch.arange(8), *torch.tensor([0.2, -1.0]).double()
    at = torch.linspace(-1, 1, 9).double()
    cdf = Normal(0.2, math.exp(-1)).cdf(at)
    cdf[0], cdf[-1] = 0, 1
    normal = BinnedNormal(mu.expand(8), log_s.expand(8), 8)
    torch.testing.assert_close(normal.log_prob(codes).exp(), cdf.diff())
    weights = torch.tensor([0.3, 0.7]).log()
    mixture = BinnedLogistics(
        weights.double().expand(8, 2),
        torch.tensor([0.2, -0.5]).double().expand(8, 2),
        log_s.expand(8, 2),
        8,
    )
    cdf = sum(w * torch.sigmoid((at - m) * math.e) for w, m in ((0.3, 0.2), (0.7, -0.5)))
    cdf[0], cdf[-1] = 0, 1
    torch.testing.assert_close(
        mixture.log_prob(codes).exp(), cdf.diff(), atol=1e-6, rtol=1e-5
    )


@pytest.mark.parametrize("output", OUTPUTS)
def test_outputs_sample_what_they_say(output):
    torch.manual_seed(0)
    told = output(8)(torch.randn(output(8).size))
    codes = torch.stack([told.sample() for _ in range(5000)])
    p = told.log_prob(torch.arange(8)).exp()
    off = (codes.bincount(minlength=8) / 5000 - p).abs()
    assert (off < 6 * (p * (1 - p) / 5000).sqrt() + 1e-3).all()
    assert told.sample((3,)).shape == (3,)


@pytest.mark.parametrize("output", OUTPUTS)
def test_gradients_are_finite_in_the_tails(output):
    read = output(256)
    told = torch.zeros(256, read.size)
    told[:, -read.size // 2 :] = -9  # narrow
    told.requires_grad_()
    read(told).log_prob(torch.arange(256)).sum().backward()
    assert told.grad.isfinite().all()


# WaveNet ----------------------------------------------------------------------------------


def test_a_block_is_a_dilated_convolution():
    torch.manual_seed(0)
    block, h = GatedBlock(3, skip=4, dilation=5).double(), torch.randn(2, 12, 3).double()
    kernel = torch.stack([block.past.weight, block.now.weight], dim=-1)  # (2 C, C, 2)
    padded = torch.nn.functional.pad(h.mT, (5, 0))
    a = torch.nn.functional.conv1d(padded, kernel, block.now.bias, dilation=5).mT
    out = block.out(torch.tanh(a[..., :3]) * torch.sigmoid(a[..., 3:]))
    for mine, theirs in zip(block(h), (h + out[..., :3], out[..., 3:])):
        torch.testing.assert_close(mine, theirs)


@pytest.mark.parametrize("d", [1, 4, 9])
def test_shift_delays(d):
    h = torch.arange(1.0, 6).view(1, 5, 1)
    wanted = [0.0] * min(d, 5) + [1.0, 2, 3, 4, 5][: max(5 - d, 0)]
    assert shift(h, d).flatten().tolist() == wanted


@pytest.mark.parametrize("dilations", [(1, 2, 4), (1, 1), (3, 5)])
def test_the_receptive_field_is_the_formula(dilations):
    """By autograd, through features in place of embedded codes."""
    torch.manual_seed(0)
    net = DilatedStack(4, 4, channels=6, skip=24, dilations=dilations).double()
    net.embed = torch.nn.Identity()
    J = jacobian(
        lambda h: net(h[None])[0].sum(-1), torch.randn(20, 6).double()
    )  # (20, 20, 6)
    seen = (J != 0).any(-1)
    assert (seen.triu(1) == 0).all()  # nothing after
    reach = [t - int(seen[t].nonzero().min()) for t in range(20)]
    assert max(reach) + 1 == receptive_field(dilations)


@pytest.mark.parametrize("output", OUTPUTS)
def test_wavenet_probabilities_sum_to_one(output):
    model = small(3, output)
    states = torch.tensor(list(itertools.product(range(3), repeat=5)))
    assert model.log_prob(states).exp().sum().item() == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize("output", OUTPUTS)
def test_wavenet_looks_only_back(output):
    """Changing code d moves the conditionals from d + 1 on, and none before."""
    model, x = small(5, output), torch.tensor([[0, 1, 2, 3, 4, 0]])
    told = lambda x: torch.stack(  # noqa: E731
        [model.conditionals(x).log_prob(torch.full_like(x, k)) for k in range(5)]
    )
    before = told(x)
    for d in range(6):
        changed = x.clone()
        changed[0, d] = (x[0, d] + 1) % 5
        moved = (told(changed) - before).abs().amax((0, 1)) > 0
        assert moved.tolist() == [k > d for k in range(6)]


@pytest.mark.parametrize("classes", [0, 3])
@pytest.mark.parametrize("n", [1, 4])
def test_queues_give_what_a_full_pass_gives(classes, n):
    model = small(7, classes=classes)
    y = torch.arange(n) % 3 if classes else None
    x = torch.randint(7, (n, 25))
    queues = Queues(model.net, n, y)
    steps = torch.stack([queues.step(code) for code in x.T], dim=1)
    torch.testing.assert_close(steps, model.net(x, y).detach())


@pytest.mark.parametrize("output", OUTPUTS)
def test_cached_samples_are_the_naive_ones(output):
    """The same dice, a full pass per sample: the same sound, code by code."""
    model = small(9, output)
    torch.manual_seed(5)
    fast = model.sample(3, 20)
    torch.manual_seed(5)
    x = torch.zeros(3, 0, dtype=torch.long)
    for _ in range(20):
        longer = torch.nn.functional.pad(x, (0, 1))
        told = model.net(torch.nn.functional.pad(longer, (1, 0), value=4)[:, :-1])
        x = torch.cat([x, model.output(told[:, -1]).sample()[:, None]], dim=1)
    assert torch.equal(fast, x)


def test_wavenet_log_prob_of_samples_is_the_sum_of_the_steps():
    model = small(6, classes=2)
    y = torch.tensor([0, 1, 1])
    x = model.sample(3, 15, y)
    queues, code, total = Queues(model.net, 3, y), torch.full((3,), 3), 0.0
    for new in x.T:
        total = total + model.output(queues.step(code)).log_prob(new)
        code = new
    torch.testing.assert_close(model.log_prob(x, y), total)
    assert not torch.allclose(model.log_prob(x, y), model.log_prob(x, 1 - y))


def test_wavenet_samples_follow_the_density():
    model, n = small(3), 20_000
    states = torch.tensor(list(itertools.product(range(3), repeat=3)))
    p = model.log_prob(states).exp().detach()
    torch.manual_seed(1)
    counts = (model.sample(n, 3) @ torch.tensor([9, 3, 1])).bincount(minlength=27)
    assert ((counts / n - p).abs() < 6 * (p * (1 - p) / n).sqrt() + 5 / n).all()


# WaveRNN ----------------------------------------------------------------------------------


def test_gru_update_is_torchs_cell():
    torch.manual_seed(0)
    cell, x, h = torch.nn.GRUCell(3, 4), torch.randn(5, 3), torch.randn(5, 4)
    order = [1, 0, 2]  # torch keeps reset, update, candidate
    a = (x @ cell.weight_ih.T + cell.bias_ih).view(5, 3, 4)[:, order]
    r = (h @ cell.weight_hh.T + cell.bias_hh).view(5, 3, 4)[:, order]
    torch.testing.assert_close(gru_update(a, r, h), cell(x, h))


def test_wavernn_bytes_look_only_back():
    """In the order c1, f1, c2, f2, ...: a byte moves what comes after it, nothing else."""
    model, x = small_rnn(), torch.tensor([[300, 40_000, 77, 65_535]])
    before = model.conditionals(x).logits.flatten(1, 2)  # (1, 2 T, 256)
    for d in range(8):
        changed = x.clone()
        changed[0, d // 2] ^= 256 * 5 if d % 2 == 0 else 5  # the coarse or the fine byte
        after = model.conditionals(changed).logits.flatten(1, 2)
        moved = (after - before).abs().amax((0, 2)) > 0
        assert moved.tolist() == [k > d for k in range(8)]


def test_wavernn_probabilities_of_all_samples_sum_to_one():
    model = small_rnn()
    x = torch.stack([torch.full((65_536,), 40_000), torch.arange(65_536)], dim=1)
    with torch.no_grad():
        log_p = model.log_prob(x) - model.log_prob(x[:1, :1])
    assert log_p.exp().sum().item() == pytest.approx(1, abs=1e-9)


def test_wavernn_state_gives_what_a_full_pass_gives():
    """draw_next along its own sound: the state of the scan, and draws from its logits."""
    model = small_rnn()
    torch.manual_seed(3)
    x = model.sample(4, 12)
    _, (h, last) = model.scan(x[:, :11])
    assert torch.equal(last, x[:, 10])
    torch.manual_seed(3)
    state = start(model.net, 4)
    for t in range(11):
        state = draw_next(model.net, *state)
        assert torch.equal(state[1], x[:, t])
    torch.testing.assert_close(state[0], h.detach())


def test_wavernn_draws_are_the_naive_ones():
    """The same dice, a full pass for every byte: the same sound."""
    model = small_rnn()
    torch.manual_seed(4)
    fast = model.sample(3, 8)
    torch.manual_seed(4)
    x = torch.zeros(3, 8, dtype=torch.long)
    with torch.no_grad():
        for t in range(8):
            for byte, size in ((0, 256), (1, 1)):
                logits = model.conditionals(x).logits[:, t, byte]
                x[:, t] += size * torch.multinomial(logits.softmax(-1), 1)[:, 0]
    assert torch.equal(fast, x)


def test_wavernn_log_prob_is_the_sum_of_its_spans():
    model, x, state, total = small_rnn(), torch.randint(65_536, (3, 20)), None, 0.0
    for piece in x.split(6, dim=1):
        logits, after = model.scan(piece, state)
        log_p = logits.log_softmax(-1).gather(-1, split_code(piece)[..., None])
        total = total + log_p.sum((1, 2, 3))
        torch.testing.assert_close(model.log_prob(piece, state), log_p.sum((1, 2, 3)))
        state = after
    torch.testing.assert_close(model.log_prob(x), total)


def test_truncation_keeps_the_state_and_cuts_its_gradient():
    model, x = small_rnn(), torch.randint(65_536, (2, 10))
    cut = Truncated(model)
    losses = [cut.loss(p, torch.tensor(i == 0)) for i, p in enumerate(x.split(5, dim=1))]
    torch.testing.assert_close(sum(losses) / 2, model.loss(x))  # the same number
    (ours,) = torch.autograd.grad(losses[1], model.net.recurrent.weight, retain_graph=True)
    (whole,) = torch.autograd.grad(
        2 * model.loss(x) - losses[0], model.net.recurrent.weight
    )
    assert not torch.allclose(ours, whole)  # another gradient
    start = tuple(s.detach() for s in model.scan(x[:, :5])[1])
    alone = -model.log_prob(x[:, 5:], start).mean() / 5
    (wanted,) = torch.autograd.grad(alone, model.net.recurrent.weight)
    torch.testing.assert_close(ours, wanted)


def test_spans_hand_out_whole_sounds_in_order():
    x = torch.arange(6)[:, None] * 100 + torch.arange(10)
    got = list(itertools.islice(spans(x, 2, 4), 6))
    assert [bool(first) for _, first in got] == [True, False, False] * 2
    sound = torch.cat([piece for piece, _ in got[:3]], dim=1)
    assert torch.equal(sound % 100, torch.arange(10).expand(2, -1))
    assert (sound // 100 == sound[:, :1] // 100).all()


# All --------------------------------------------------------------------------------------

MODELS = {
    "WaveNet": (lambda: WaveNet(), 256),
    "Gaussian": (lambda: WaveNet(output=Gaussian), 256),
    "mixture": (lambda: WaveNet(output=LogisticMixture), 256),
    "WaveRNN": (lambda: WaveRNN(hidden=16), 65_536),
}


@pytest.mark.parametrize("name", MODELS)
def test_house_rules(name):
    """Protocols, shapes, a gradient for every parameter, a state dict that comes back."""
    make, K = MODELS[name]
    torch.manual_seed(0)
    model, twin, x = make(), make(), torch.randint(K, (2, 300))
    for protocol in (protocols.Sampler, protocols.Trainable, protocols.Density):
        assert isinstance(model, protocol)
    assert model.sample(3, T=5).shape == (3, 5)
    assert model.log_prob(x).shape == (2,)
    torch.testing.assert_close(model.loss(x), -model.log_prob(x).mean() / 300)
    model.loss(x).backward()
    dead = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert not dead
    assert all(p.grad.isfinite().all() for p in model.parameters())
    twin.load_state_dict(model.state_dict())
    torch.testing.assert_close(twin.log_prob(x), model.log_prob(x))


def test_labels_are_learned_from():
    model = small(5, classes=3)
    model.loss(torch.randint(5, (3, 9)), torch.tensor([0, 0, 2])).backward()
    assert model.net.told.weight.grad.any(1).tolist() == [True, False, True]


def test_neighbouring_codes_start_alike():
    torch.manual_seed(0)
    W = smooth_embedding(256, 32).weight
    near, far = (W[1:] - W[:-1]).norm(dim=1).mean(), (W[:128] - W[128:]).norm(dim=1).mean()
    assert near < 0.2 * far


def test_the_network_is_made_of_its_parts():
    net = DualGRU(hidden=6, channels=4)
    assert net.hear(torch.zeros(2, 5, dtype=torch.long)).shape == (2, 5, 3, 6)
    assert net.hear_coarse(torch.zeros(2, dtype=torch.long)).shape == (2, 3, 3)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU on this machine")
@pytest.mark.parametrize("name", MODELS)
def test_cpu_and_gpu_agree(name):
    make, K = MODELS[name]
    torch.manual_seed(0)
    model, x = make().eval(), torch.randint(K, (2, 50))
    here = model.log_prob(x)
    there = model.cuda().log_prob(x.cuda()).cpu()
    torch.testing.assert_close(here, there, rtol=1e-4, atol=1e-3)
    assert model.sample(2, T=3).is_cuda


def test_a_conditional_model_asks_for_labels():
    with pytest.raises(ValueError, match="got no labels"):
        WaveNet(classes=2).log_prob(torch.zeros(1, 3, dtype=torch.long))


# Recipes ----------------------------------------------------------------------------------


class Ramp(torch.nn.Module):
    """Every code k costs k bits, with or without a label."""

    def log_prob(self, x, y=None):
        """Return minus the sum of the codes, in nats: (B, T) -> (B,)."""
        return -math.log(2) * x.sum(1)


def test_bits_per_sample_counts_every_sample_once_and_no_padding():
    codes = torch.tensor([[1, 1, 1, 1], [4, 4, 100, 100], [2, 2, 2, 100]])
    lengths = torch.tensor([4, 2, 3])
    value, error = bits_per_sample(Ramp(), (codes, torch.zeros(3), lengths))
    assert value == pytest.approx((4 + 8 + 6) / 9)
    rest = torch.tensor([4.0, 8, 6]) - 2 * lengths  # bits beyond 2 per sample
    assert error == pytest.approx(rest.std().item() / (3 * math.sqrt(3)))
    assert bits_per_sample(Ramp(), (codes, lengths)).value == pytest.approx(value)


@pytest.mark.parametrize("T", [1, 7, 8, 9, 25])
def test_windows_cover_a_sound(T):
    wave = torch.arange(1.0, T + 1)
    rows = _windows(wave, 8)
    assert rows.shape[1] == 8
    assert set(rows.flatten().tolist()) - {0.0} == set(wave.tolist())
    assert (rows[:, 0] == 1 + 2 * torch.arange(len(rows))).all()


@pytest.mark.data
@pytest.mark.parametrize(
    "name", ["autoregressive/wavenet-fsdd", "autoregressive/wavernn-fsdd"]
)
def test_a_recipe_starts_at_one_bit_per_bit(name):
    recipe = recipes.get(name)
    torch.manual_seed(0)
    model, splits = recipe.build(), recipes.resolve(recipe.data)(*recipe.data_args)
    few = tuple(t[:2] for t in splits.test)
    bits = 8 if "wavenet" in name else 16
    assert bits_per_sample(model, few).value == pytest.approx(bits, abs=0.2)
    rows = splits.train if isinstance(splits.train, tuple) else (splits.train,)
    assert model.loss(*(t[:2] for t in rows)).isfinite()
