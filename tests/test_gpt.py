"""GPT, its tokens, its decoding and Muon, each against an independent oracle."""

import itertools
import math
import random
import re
from dataclasses import replace

import pytest
import torch
from torch.autograd.functional import jacobian
from torch.nn.functional import scaled_dot_product_attention

from gdm_course import protocols, recipes
from gdm_course.autoregressive.bpe import BPE, learn, merge
from gdm_course.autoregressive.decoding import Cache, choose, generate, sharpen
from gdm_course.autoregressive.gpt import GPT, Attention, causal_attention
from gdm_course.evaluation.likelihood import block_nll, stream_nll
from gdm_course.optimisers.muon import Muon, muon, orthogonalise
from gdm_course.scale.data import text_windows
from gdm_course.scale.run import prepare
from gdm_course.scale.runner import fit

KINDS = {"plain": {}, "classes": {"classes": 3}}


def small(K=3, T=5, std=0.3, **options) -> GPT:
    """A random GPT in float64, far from its initial calm, so that a wrong term shows."""
    torch.manual_seed(0)
    model = GPT(K, T, layers=2, heads=2, width=8, **options).double().eval()
    for p in model.parameters():
        torch.nn.init.normal_(p, std=std)
    return model


def all_states(K: int, T: int) -> torch.Tensor:
    return torch.tensor(list(itertools.product(range(K), repeat=T)))


@pytest.mark.parametrize("kind", KINDS)
def test_probabilities_of_all_sequences_sum_to_one(kind):
    model, x = small(**KINDS[kind]), all_states(3, 5)
    ys = [None] if kind == "plain" else [None, *torch.arange(3)]
    for y in ys:
        y = None if y is None else y.expand(len(x))
        assert model.log_prob(x, y).exp().sum().item() == pytest.approx(1, abs=1e-12)


def test_without_a_class_the_classes_are_averaged():
    model, x = small(classes=3), all_states(3, 2)
    each = [model.log_prob(x, torch.full((9,), y)).exp() for y in range(3)]
    torch.testing.assert_close(model.log_prob(x).exp(), sum(each) / 3)


def test_shorter_sequences_are_marginals():
    """Summing out the last token gives the probability of the rest: the chain rule."""
    model, x = small(), all_states(3, 4)
    longer = model.log_prob(
        torch.cat([x.repeat_interleave(3, 0), all_states(3, 1).repeat(81, 1)], 1)
    )
    torch.testing.assert_close(longer.exp().view(81, 3).sum(1), model.log_prob(x).exp())


def test_nothing_looks_ahead():
    """Changing tokens from place t on moves the guesses after t only: to the last bit."""
    model = small(K=4, T=7)
    x = torch.randint(4, (6, 7))
    before = model(x)
    for t in range(7):
        other = x.clone()
        other[:, t:] = (other[:, t:] + torch.randint(1, 4, (6, 7 - t))) % 4
        after = model(other)
        assert torch.equal(after[:, : t + 1], before[:, : t + 1])
        if t < 6:
            assert (after[:, t + 1] != before[:, t + 1]).any()


def test_the_jacobian_in_the_embeddings_is_triangular():
    model = small(T=6)
    h = model.embed(torch.randint(3, (1, 5)))

    def through(h):
        for block in model.blocks:
            h = block(h)
        return model.read(h)[0, :, 0]

    J = jacobian(through, h)[:, 0].abs().sum(-1)  # (T, T): logits at t by inputs at s
    assert (J.triu(1) == 0).all()  # input s is token s - 1: with the shift, strictly before
    assert (J.tril() > 0).sum() == 21


def test_written_attention_is_torchs_and_looks_back_only():
    torch.manual_seed(0)
    q, k, v = torch.randn(3, 2, 4, 9, 5).double()
    mixed, weights = causal_attention(q, k, v)
    torch.testing.assert_close(mixed, scaled_dot_product_attention(q, k, v, is_causal=True))
    assert (weights.triu(1) == 0).all()
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 4, 9).double())


def test_attention_module_is_the_written_one():
    torch.manual_seed(0)
    attention, h = Attention(12, heads=3).double(), torch.randn(2, 6, 12).double()
    q, k, v = attention.qkv(h).split(12, dim=-1)
    heads = [
        causal_attention(*(part[..., i : i + 4] for part in (q, k, v)))[0]
        for i in (0, 4, 8)
    ]
    torch.testing.assert_close(attention(h), attention.out(torch.cat(heads, -1)))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("given", [0, 1, 4])
def test_cached_generation_equals_uncached_token_by_token(kind, given):
    model, T = small(K=5, T=9, **KINDS[kind]), 9
    prompt = torch.randint(5, (4, given))
    y = torch.arange(4) % 3 if kind == "classes" else None
    seen = []

    def note(logits):
        seen.append(logits)
        return choose(logits)

    x = generate(model, prompt, y, T, note)
    assert torch.equal(x[:, :given], prompt)
    torch.testing.assert_close(torch.stack(seen, 1), model(x, y)[:, given:])


def test_log_prob_of_samples_is_the_sum_of_the_conditionals_that_drew_them():
    model, drawn = small(K=5, T=8), []

    def note(logits):
        token = choose(logits)
        drawn.append(logits.log_softmax(-1).gather(1, token[:, None])[:, 0])
        return token

    x = generate(model, torch.empty(6, 0, dtype=torch.int64), None, 8, note)
    torch.testing.assert_close(model.log_prob(x), torch.stack(drawn).sum(0))
    torch.testing.assert_close(model.log_prob(x), model.conditionals(x).log_prob(x).sum(-1))
    torch.testing.assert_close(model.loss(x), -model.log_prob(x).mean() / 8)


@pytest.mark.parametrize("kind", KINDS)
def test_samples_follow_the_density(kind):
    """Chi-square over all states, within 6 sigma; classes are drawn if none are given."""
    model, x, n = small(T=3, std=0.45, **KINDS[kind]), all_states(3, 3), 30_000
    p = model.log_prob(x).exp().detach()
    torch.manual_seed(1)
    counts = (model.sample(n) @ torch.tensor([9, 3, 1])).bincount(minlength=27)
    often = n * p > 5
    chi2 = ((counts - n * p) ** 2 / (n * p))[often].sum().item()
    assert chi2 < int(often.sum()) + 6 * math.sqrt(2 * int(often.sum()))
    assert often.sum() > 15


def test_samples_can_be_trained_on():
    model = GPT(5, 6, width=16)
    model.loss(model.sample(2)).backward()  # tensors of inference mode could not be saved


def test_sampling_leaves_the_mode_and_ignores_dropout():
    torch.manual_seed(0)
    model = GPT(5, 6, width=16, dropout=0.9).train()
    greedy = [model.sample(2, top_k=1) for _ in range(2)]
    assert model.training
    assert torch.equal(*greedy)
    assert (model(greedy[0]) != model(greedy[0])).any()  # while training does not


@pytest.mark.parametrize("kind", KINDS)
def test_protocols_gradients_and_state(kind):
    torch.manual_seed(0)
    model, twin = (GPT(7, 6, width=16, layers=2, **KINDS[kind]) for _ in range(2))
    assert all(protocols.abilities(model).values())
    x = torch.cat([torch.randint(7, (63, 6)), torch.arange(6)[None]])
    y = (torch.arange(64) % 3,) if kind == "classes" else ()
    model.loss(x, *y).backward()
    dead = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert not dead
    twin.load_state_dict(model.state_dict())
    torch.testing.assert_close(twin.log_prob(x), model.log_prob(x))
    assert model.sample(2).shape == (2, 6)
    assert model.sample(2, length=3, prompt=x[0, :2]).shape == (2, 3)


def test_parameters_of_gpt_2_are_the_published_models():
    """Exact counts of the released weights (gpt2 to gpt2-xl), and our start."""
    shapes = {(12, 768): 124_439_808, (24, 1024): 354_823_168}
    shapes |= {(36, 1280): 774_030_080, (48, 1600): 1_557_611_200}
    for (layers, width), published in shapes.items():
        with torch.device("meta"):
            model = GPT(50257, 1024, layers=layers, width=width, heads=width // 64)
        ours = sum(p.numel() for p in model.parameters())
        assert ours == published + width  # the learned start is one vector more


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: small().log_prob(torch.zeros(1, 6).long()), "do not fit into a context"),
        (lambda: small().sample(1, length=6), "length 6 is not above 0 and at most 5"),
        (lambda: small(classes=2)(torch.zeros(1, 3).long()), "got no labels.*0 to 1"),
        (
            lambda: small()(torch.zeros(1, 3).long(), torch.zeros(1).long()),
            "without classes",
        ),
        (lambda: GPT(3, 4, width=10, heads=4), "10 cannot be shared equally by 4 heads"),
    ],
)
def test_errors_say_what_to_do(wrong, message):
    with pytest.raises(ValueError, match=message):
        wrong()


def test_a_cache_refuses_a_second_prompt():
    cache, kv = Cache(1, 1, 4, 2, torch.zeros(1)), torch.zeros(1, 1, 2, 2)
    cache.extend(kv, kv)
    with pytest.raises(ValueError, match="one prompt, then one token"):
        cache.extend(kv, kv)


# Decoding ---------------------------------------------------------------------------------


def test_sharpen_by_hand():
    p = torch.tensor([0.1, 0.4, 0.2, 0.3])
    after = lambda **how: sharpen(p.log(), **how).softmax(-1)  # noqa: E731
    torch.testing.assert_close(after(), p)
    torch.testing.assert_close(after(temperature=0.5), p**2 / (p**2).sum())
    torch.testing.assert_close(after(top_k=2), torch.tensor([0, 4, 0, 3]) / 7)
    torch.testing.assert_close(after(top_k=9), p)
    torch.testing.assert_close(after(top_p=0.6), torch.tensor([0, 4, 0, 3]) / 7)
    torch.testing.assert_close(after(top_p=0.75), torch.tensor([0, 4, 2, 3]) / 9)
    torch.testing.assert_close(after(top_p=0.0), torch.tensor([0.0, 1, 0, 0]))
    torch.testing.assert_close(after(top_p=1.0), p)


def test_top_k_keeps_k_tokens_also_among_equals():
    equal = torch.zeros(3, 5)
    for k in range(1, 6):
        kept = sharpen(equal, top_k=k).isfinite()
        assert kept.sum(-1).tolist() == [k] * 3
        assert kept[:, :k].all()  # of equals, the first
    assert choose(equal.repeat(50, 1), top_k=1).unique().tolist() == [0]
    two = torch.tensor([1.0, 3, 2, 3, 3])
    assert sharpen(two, top_k=2).isfinite().tolist() == [False, True, False, True, False]
    assert sharpen(two, top_k=2, temperature=7.0).isfinite().sum() == 2
    assert sharpen(equal, top_p=0.3).isfinite().sum(-1).tolist() == [2] * 3


@pytest.mark.parametrize(
    "dtype", [torch.float32, torch.float64, torch.bfloat16, torch.half]
)
@pytest.mark.parametrize("temperature", [1e-300, 1e-39, 1e-6, 1e30])
def test_any_temperature_leaves_a_distribution(temperature, dtype):
    logits = torch.tensor([[5.0, 9.0, 1.0, -torch.inf], [1e4, -1e4, 1e4, 0.0]], dtype=dtype)
    p = sharpen(logits, temperature=temperature).softmax(-1)
    torch.testing.assert_close(p.sum(-1).float(), torch.ones(2), rtol=0, atol=1e-2)
    if temperature < 1e-4:
        assert p[0].tolist() == [0, 1, 0, 0]
        assert p[1].tolist() == [0.5, 0, 0.5, 0]


@pytest.mark.parametrize(
    ("how", "sentence"),
    [
        (
            {"temperature": 0},
            "temperature 0: expected a number above 0; for 0 take top_k=1",
        ),
        ({"temperature": -1.0}, "temperature -1.0: expected a number above 0"),
        ({"temperature": math.nan}, "temperature nan: expected a number above 0"),
        ({"temperature": math.inf}, "temperature inf: expected a number above 0"),
        ({"top_k": 0}, "top_k is 0: expected a whole number, 1 or more"),
        ({"top_k": -2}, "top_k is -2: expected a whole number, 1 or more"),
        ({"top_k": 2.0}, "top_k is 2.0: expected a whole number, 1 or more"),
        ({"top_p": -0.1}, "top_p -0.1: expected a probability, from 0 to 1"),
        ({"top_p": 1.5}, "top_p 1.5: expected a probability, from 0 to 1"),
        ({"top_p": math.nan}, "top_p nan: expected a probability, from 0 to 1"),
    ],
)
def test_arguments_of_decoding_are_checked_before_anything_happens(how, sentence):
    model = small(dropout=0.5).train()
    calls = [lambda: sharpen(torch.randn(2, 5), **how), lambda: model.sample(2, **how)]
    for call in [*calls, lambda: choose(torch.randn(2, 5), **how)]:
        with pytest.raises(ValueError, match=re.escape(sentence)):
            call()
    assert model.training


def test_choose_draws_with_the_given_probabilities():
    torch.manual_seed(0)
    p, n = torch.tensor([0.05, 0.5, 0.25, 0.2]), 100_000
    frequency = choose(p.log().expand(n, -1)).bincount(minlength=4) / n
    assert ((frequency - p).abs() < 6 * (p * (1 - p) / n).sqrt()).all()


# Byte pairs -------------------------------------------------------------------------------

SAMPLE = b"the cat sat on the mat, and the hat sat on the cat\n" * 3


def test_merge_goes_from_left_to_right():
    assert merge([1, 1, 1, 2, 1, 1], (1, 1), 9) == [9, 1, 2, 9]


def naive(data: bytes, merges: int) -> list[tuple[int, int]]:
    """Count all pairs of all chunks anew for every merge."""
    from gdm_course.autoregressive.bpe import CHUNK

    chunks, found = [[*c] for c in CHUNK.findall(data)], []
    for i in range(merges):
        counts: dict = {}
        for chunk in chunks:
            for pair in itertools.pairwise(chunk):
                counts[pair] = counts.get(pair, 0) + 1
        found.append(max(counts, key=lambda pair: (counts[pair], pair)))
        chunks = [merge(chunk, found[-1], 256 + i) for chunk in chunks]
    return found


def test_learning_with_an_index_equals_counting_everything_anew():
    g = random.Random(0)
    data = b" ".join(bytes(g.choices(b"aab", k=g.randint(1, 7))) for _ in range(300))
    for text in (SAMPLE, data):
        merges = learn(text, 256 + 15)
        assert merges == naive(text, len(merges))
        assert len(merges) == 15


def test_bpe_round_trips_every_byte_string():
    tokens = BPE(learn(SAMPLE, 300))
    g = random.Random(0)
    hard = [b"", bytes(range(256)), "Ω, naïve façade, 漢字 🙂\r\n\t \x00".encode(), SAMPLE]
    hard += [g.randbytes(g.randint(0, 40)) for _ in range(300)]
    hard += [bytes(g.choices(b"the cat\n ", k=30)) for _ in range(300)]
    for data in hard:
        codes = tokens.encode(data)
        assert tokens.decode(codes) == data
        assert all(0 <= code < tokens.K for code in codes)
    assert len(tokens.encode(SAMPLE)) < len(SAMPLE) / 2
    assert [tokens.decode([i]) for i in range(256)] == [bytes([i]) for i in range(256)]


def test_merges_stay_inside_of_words_and_stop_when_none_is_left():
    tokens = BPE(learn(SAMPLE, 100_000))
    assert tokens.K < 400
    assert all(b" " not in piece[1:] for piece in tokens.vocabulary)


# Muon -------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(64, 64), (32, 128), (128, 32), (3, 48, 96)])
def test_newton_schulz_brings_singular_values_near_one(shape):
    torch.manual_seed(0)
    G = 1000 * torch.randn(shape)
    X = orthogonalise(G)
    assert X.shape == G.shape
    if len(set(shape)) > 1:  # a square Gaussian matrix has singular values near 0
        s = torch.linalg.svdvals(X)
        assert s.min() > 0.6
        assert s.max() < 1.25
    U, s, V = torch.linalg.svd(G, full_matrices=False)
    s = s / s.norm(dim=-1, keepdim=True)
    for _ in range(5):  # the polynomial acts on the singular values and on nothing else
        s = 3.4445 * s - 4.7750 * s**3 + 2.0315 * s**5
    torch.testing.assert_close(X, U * s[..., None, :] @ V, rtol=1e-2, atol=2e-3)


def test_muon_takes_linear_weights_and_adam_the_rest():
    model = GPT(5, 6, width=16, layers=2)
    matrices, others = (group["params"] for group in muon(model).param_groups)
    assert len(matrices) == 2 * 4
    assert len(matrices) + len(others) == len([*model.parameters()])
    assert not any(p is model.token.weight for p in matrices)


def test_the_part_of_muon_for_the_rest_is_adam():
    torch.manual_seed(0)
    a = torch.randn(4, 3, requires_grad=True)
    b = a.detach().clone().requires_grad_()
    ours = Muon([], [a], lr=0.01)
    theirs = torch.optim.Adam([b], lr=0.01, betas=(0.9, 0.95))
    for _ in range(20):
        for p, optimizer in ((a, ours), (b, theirs)):
            optimizer.zero_grad()
            (p**4 - p).sum().backward()
            optimizer.step()
    torch.testing.assert_close(a, b)


def test_muons_steps_have_the_size_of_adams():
    torch.manual_seed(0)
    w = torch.zeros(96, 24, requires_grad=True)
    optimizer = Muon([w], [], lr=0.1)
    w.grad = torch.randn(96, 24)
    optimizer.step()
    assert w.square().mean().sqrt().item() == pytest.approx(0.1 * 0.2, rel=0.2)


def test_muon_goes_on_from_its_state():
    def run(stop):
        torch.manual_seed(0)
        layer, x = torch.nn.Linear(4, 6), torch.randn(8, 4)
        optimizer = muon(layer, lr=0.05, weight_decay=0.1)
        for step in range(10):
            if step == stop:
                state, optimizer = optimizer.state_dict(), muon(layer, lr=9.0)
                optimizer.load_state_dict(state)
            optimizer.zero_grad()
            (layer(x) - 1).square().mean().backward()
            optimizer.step()
        return layer.weight

    torch.testing.assert_close(run(None), run(5))


# Text in windows --------------------------------------------------------------------------


def test_text_windows_cover_the_text():
    splits = text_windows("course", 32)
    assert torch.equal(splits.train[1:, :-1], splits.train[:-1, 1:])
    assert splits.test.shape[1] == splits.train.shape[1] == 32


def test_nats_per_token_in_blocks_and_in_a_stream():
    """Token by token: blocks forget at their borders, the stream at most half of T."""
    model, T = small(K=4, T=6), 6
    x = torch.randint(4, (3, T))
    blocks = [-model.log_prob(row[None]).item() / T for row in x]
    assert block_nll(model, x).value == pytest.approx(sum(blocks) / 3)
    stream, nats = x.flatten(), []
    for t in range(3, len(stream)):
        window = stream[(t - 3) // 3 * 3 :][:T]
        place = t - (t - 3) // 3 * 3
        nats.append(-model.conditionals(window[None]).log_prob(window)[0, place].item())
    assert stream_nll(model, x).value == pytest.approx(sum(nats) / len(nats))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU on this machine")
def test_cpu_and_gpu_agree():
    model, x = small(T=8).float(), torch.randint(3, (4, 8))
    here = model.log_prob(x)
    there = model.cuda().log_prob(x.cuda()).cpu()
    torch.testing.assert_close(here, there, rtol=1e-4, atol=1e-4)
    assert model.sample(2).is_cuda


def test_a_recipe_can_ask_for_muon(tmp_path):
    """`gdm train` hands the model to the recipe's optimiser and measures nats per token."""
    from lightning.fabric import Fabric

    sizes = {"args": (400, 16), "kwargs": {"layers": 1, "heads": 1, "width": 8}}
    recipe = replace(
        recipes.get("autoregressive/gpt-shakespeare-cpu"),
        name="autoregressive/tiny",
        data_args=("course", 16),
        **{"steps": 6, "batch": 4, "every": 3},
        **sizes,
    )
    fabric = Fabric(accelerator="cpu", devices=1)
    optimizer = prepare(recipe, fabric).optimizer
    assert isinstance(optimizer, Muon)
    assert [g["weight_decay"] for g in optimizer.param_groups] == [0.1, 0.0]
    card = fit(recipe, fabric, tmp_path / "runs", tmp_path / "out", say=lambda line: None)
    assert card["steps"] == 6
    first = card["figures"][0]
    assert first["unit"] == "nats per character"
    assert 3 < first["value"] < 8  # log 400 is 6.0: per token, not per block of 16
