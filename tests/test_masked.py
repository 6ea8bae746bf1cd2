"""Masked diffusion against laws that are tables: every sum is done in full."""

import math
from itertools import combinations

import pytest
import torch
from torch import Tensor, nn

from gdm_course.autoregressive.gpt import GPT, Attention
from gdm_course.data import toy
from gdm_course.diffusion.masked import (
    MaskedDiffusion,
    all_chains,
    chain,
    few_step_law,
    fill,
    hide,
    mask_tokens,
    opening_steps,
)
from gdm_course.diffusion.masked_models import MaskedPixels, MaskedText, few_hidden
from gdm_course.diffusion.masked_nets import (
    BidirectionalGPT,
    OpenAttention,
    TrueGuesses,
    glances,
)
from gdm_course.evaluation.chains import bound_nats, bound_per_token
from gdm_course.scale.data import image_codes, pixel_codes


def law(K: int = 3, T: int = 3, seed: int = 0) -> Tensor:
    """A law of T tokens in which all depend on all."""
    g = torch.Generator().manual_seed(seed)
    return (
        (2 * torch.randn([K] * T, generator=g).double()).flatten().softmax(0).view([K] * T)
    )


def moons(n: int = 32) -> Tensor:
    """The two moons on a grid, (n, n)."""
    points, _ = toy.get("two_moons").cells(n)
    return toy.get("two_moons").log_prob(points).softmax(0).view(n, n)


def exact(p: Tensor) -> MaskedDiffusion:
    return MaskedDiffusion(TrueGuesses(p), p.ndim, p.shape[0])


def wrong(K: int = 3, T: int = 3) -> MaskedDiffusion:
    """A network that has learned nothing: its orders disagree."""
    torch.manual_seed(3)
    model = MaskedText(K, T, layers=1, heads=1, width=8).double()
    for p in model.parameters():
        nn.init.normal_(p, std=0.7)
    return model


def every(K: int, T: int) -> Tensor:
    return torch.cartesian_prod(*[torch.arange(K)] * T)


def by_counts(model: MaskedDiffusion, x: Tensor, weight) -> Tensor:
    """sum_m weight(m) E over all sets of m hidden tokens of what they cost: (B,)."""
    total = torch.zeros(len(x)).double()
    for m in range(1, model.T + 1):
        sets = [*combinations(range(model.T), m)]
        for chosen in sets:
            x_t = x.clone()
            x_t[:, chosen] = model.K
            total += weight(m) * model.surprise(x, x_t).sum(1) / len(sets)
    return total.detach()


# The bound --------------------------------------------------------------------------------


def test_with_exact_guesses_every_order_and_the_bound_are_exact():
    p, x = law(), every(3, 3)
    log_p, model = p.flatten().log(), exact(p)
    torch.testing.assert_close(all_chains(model, x), log_p.expand(6, -1))
    torch.testing.assert_close(by_counts(model, x, lambda m: 1 / m), -log_p)


def test_the_bound_is_the_average_over_all_orders_for_any_network():
    model, x = wrong(), every(3, 3)
    chains = all_chains(model, x).detach()
    assert chains.std(0).max() > 0.1  # the orders disagree, so that the average is one
    torch.testing.assert_close(by_counts(model, x, lambda m: 1 / m), -chains.mean(0))
    exactly = chains.logsumexp(0) - math.log(6)
    assert (chains.mean(0) < exactly).all()
    assert (exactly <= chains.max(0).values).all()
    assert abs(exactly.exp().sum() - 1) < 1e-9  # the mixture of all orders is a law


def test_the_integral_over_time_gives_every_count_its_weight():
    """(3) is (4): int 1/t C(T, m) t^m (1-t)^(T-m) dt = 1/m."""
    t = (torch.arange(100_000).double() + 0.5) / 100_000
    for T, m in ((5, 1), (5, 3), (5, 5), (8, 2)):
        share = math.comb(T, m) * t**m * (1 - t) ** (T - m)
        assert abs((share / t).mean().item() - 1 / m) < 1e-8


def test_a_draw_of_elbo_is_right_on_average():
    model, x = wrong(), torch.tensor([[0, 2, 1]]).expand(60_000, -1)
    torch.manual_seed(0)
    with torch.no_grad():
        drawn = model.elbo(x)
    mean, error = drawn.mean(), drawn.std() / len(x) ** 0.5
    assert abs(mean + by_counts(model, x[:1], lambda m: 1 / m)[0]) < 5 * error
    torch.manual_seed(0)
    assert torch.isclose(MaskedDiffusion.loss(model, x), -mean / 3)


def test_the_loss_of_texts_hides_few_more_often_and_expects_the_bound():
    model, x = wrong(), torch.tensor([[0, 2, 1]])
    bound = by_counts(model, x, lambda m: 1 / m)[0] / 3
    torch.manual_seed(0)
    with torch.no_grad():
        rows = x.expand(2000, -1)
        drawn = torch.stack([model.loss(rows) for _ in range(30)])
    assert abs(drawn.mean() - bound) < 5 * drawn.std() / 30**0.5
    assert drawn.std() < 0.05 * bound  # narrow enough to see a wrong weight
    m, weight = few_hidden(100_000, 4, x.device)
    for k, root in enumerate((0, 1, 2**0.5, 3**0.5), 1):
        chance = (k**0.5 - root) / 2
        assert abs((m == k).float().mean() - chance) < 1e-4
        assert torch.allclose(weight[m == k], torch.tensor(1 / (4 * chance)))


def test_the_data_in_grid_have_the_entropy_that_the_bound_says():
    p = moons()
    entropy = -(p * p.log()).sum()
    assert abs(entropy - 5.265) < 1e-3
    model, x = exact(p), every(32, 2)
    bound = by_counts(model, x, lambda m: 1 / m)
    assert abs((p.flatten() * bound).sum() - entropy) < 1e-6
    free = by_counts(model, x, lambda m: 1 / 3)  # E_t of the sum, 1 / t forgotten
    assert (p.flatten() * free).sum() < 0.6 * entropy


def test_figures_are_in_nats_of_an_example_and_of_a_token():
    p = law()
    rows = torch.multinomial(
        p.flatten(), 4000, replacement=True, generator=torch.Generator().manual_seed(0)
    )
    torch.manual_seed(0)
    whole = bound_nats(exact(p), every(3, 3)[rows], 8000)
    entropy = -(p * p.log()).sum()
    assert abs(whole.value - entropy) < 5 * whole.error < 0.2
    torch.manual_seed(0)
    token = bound_per_token(exact(p), every(3, 3)[rows], 8000)
    assert token == pytest.approx((whole.value / 3, whole.error / 3))


def test_pixels_are_the_pictures_row_by_row():
    flat, pictures = pixel_codes("digits"), image_codes("digits")
    assert torch.equal(flat.test[:, 8:16], pictures.test[:, 0, 1])
    assert flat.source == pictures.source


# Hiding -----------------------------------------------------------------------------------


def test_tokens_are_hidden_with_their_rows_probability():
    torch.manual_seed(0)
    x = torch.randint(4, (3, 20_000))
    x_t = mask_tokens(x, torch.tensor([0.0, 0.3, 1.0]), 4)
    share = (x_t == 4).double().mean(1)
    assert share[::2].tolist() == [0, 1]
    assert abs(share[1] - 0.3) < 5 * 0.0033
    assert torch.equal(x_t[x_t != 4], x[x_t != 4])


def test_so_many_are_hidden_and_every_set_alike():
    torch.manual_seed(0)
    x, m = torch.zeros(60_000, 4, dtype=torch.int64), torch.tensor([2]).expand(60_000)
    hidden = hide(x, m, 5) == 5
    assert (hidden.sum(1) == 2).all()
    sets = (hidden * torch.tensor([1, 2, 4, 8])).sum(1).bincount(minlength=16)
    counts = sets[sets > 0]
    assert len(counts) == 6
    assert (counts - 10_000).abs().max() < 5 * 91.3


def test_opening_steps_one_by_one_or_each_on_its_own():
    hidden = torch.tensor([[True, False, True, True]]).expand(5000, -1)
    torch.manual_seed(0)
    one = opening_steps(hidden)[hidden].view(-1, 3)
    assert torch.equal(one.sort(1).values, torch.arange(3).expand(5000, -1))
    assert abs((one[:, 0] == 0).double().mean() - 1 / 3) < 0.034
    some = opening_steps(hidden, 4)
    assert [*some.aminmax()] == [0, 3]
    assert abs((some[:, 0] == some[:, 2]).double().mean() - 1 / 4) < 0.031


# Drawing ----------------------------------------------------------------------------------


def misfit(x: Tensor, p: Tensor) -> float:
    """Chi-square of pairs (n, 2) against their law, in standard deviations."""
    K = len(p)
    seen, wanted = (x[:, 0] * K + x[:, 1]).bincount(minlength=K * K), p.flatten() * len(x)
    many = wanted >= 5
    if not many.all():  # rare ones count together
        seen = torch.cat([seen[many], seen[~many].sum()[None]])
        wanted = torch.cat([wanted[many], wanted[~many].sum()[None]])
    chi = ((seen - wanted).square() / wanted).sum().item()
    return (chi - (len(wanted) - 1)) / math.sqrt(2 * (len(wanted) - 1))


def test_what_opens_together_is_independent_in_closed_form():
    p = moons()
    costs = (1.2562, 0.3836, 0.1625, 0.0580, 0.0049)
    for steps, cost in zip((1, 2, 4, 10, 100), costs):
        q = few_step_law(p, steps)
        assert abs(q.sum() - 1) < 1e-12
        assert abs((p * (p / q).log()).sum() - cost) < 1e-4
    torch.manual_seed(0)
    model = exact(p.float())
    for steps in (1, 2, 10):
        x = model.sample(8_000, steps)
        assert abs(misfit(x, few_step_law(p, steps))) < 5
        assert misfit(x, p) > 20  # the sampler of a few steps is not the truth
    assert abs(misfit(model.sample(8_000), p)) < 5


def test_one_by_one_takes_one_question_for_every_hidden_token():
    p, asked = law(), []
    model = exact(p)
    model.net.register_forward_hook(lambda *_: asked.append(1))
    model.sample(50)
    assert len(asked) == 3
    model.sample(50, 2)
    assert len(asked) <= 3 + 2
    hidden = torch.tensor([[True, False, False]])
    asked.clear()
    fill(model, torch.tensor([[0, 1, 2]]), hidden)
    assert len(asked) == 1


def test_filling_keeps_what_is_seen_and_draws_from_the_posterior():
    p = law()
    torch.manual_seed(0)
    x = torch.tensor([[2, 1, 0]]).expand(20_000, -1)
    drawn = fill(exact(p), x, torch.tensor([[True, False, True]]).expand(20_000, -1))
    assert (drawn[:, 1] == 1).all()
    given = p[:, 1] / p[:, 1].sum()
    assert abs(misfit(drawn[:, [0, 2]], given)) < 5


def test_a_chain_in_one_order_is_the_chain_rule():
    model, x = wrong(), torch.tensor([[1, 0, 2]])
    H = model.K
    said = chain(model, x, torch.tensor([2, 0, 1]))
    parts = [([H, H, H], 2), ([H, H, 2], 0), ([1, H, 2], 1)]
    logs = [model.net(torch.tensor([seen])).log_softmax(-1)[0, i] for seen, i in parts]
    torch.testing.assert_close(said[0], logs[0][2] + logs[1][1] + logs[2][0])


@pytest.mark.parametrize("bad", [torch.ones(2, 3), torch.ones(1, 3, dtype=torch.bool)])
def test_fill_refuses_a_mask_that_does_not_fit(bad):
    with pytest.raises(ValueError, match="true or false for every token"):
        fill(exact(law()), torch.zeros(2, 3, dtype=torch.int64), bad)


def test_refusals():
    model = exact(law())
    with pytest.raises(ValueError, match="steps is 0"):
        model.sample(2, 0)
    with pytest.raises(ValueError, match="orders: few"):
        all_chains(MaskedText(3, 6, layers=1, heads=1, width=8), every(3, 3))
    with pytest.raises(ValueError, match="expected the same size"):
        TrueGuesses(torch.rand(2, 3))


# Networks ---------------------------------------------------------------------------------


def test_open_attention_is_the_causal_one_at_the_last_token_and_differs_before():
    torch.manual_seed(0)
    causal, both = Attention(8, heads=2), OpenAttention(8, 5, heads=2)
    both.load_state_dict(causal.state_dict() | {"far": torch.zeros(2, 9)})
    h = torch.randn(2, 5, 8)
    torch.testing.assert_close(both(h)[:, -1], causal(h)[:, -1])
    assert not torch.allclose(both(h)[:, 0], causal(h)[:, 0])


@pytest.mark.parametrize("kind", ["text", "pixels"])
def test_a_guess_depends_on_all_that_is_visible_and_not_on_what_is_hidden(kind):
    torch.manual_seed(0)
    text = MaskedText(4, 9, layers=1, heads=1, width=8)
    model = text if kind == "text" else MaskedPixels((3, 3), 4, width=4)
    for p in model.parameters():
        nn.init.normal_(p, std=0.5)
    x_t = torch.tensor([[1, 2, 0, 4, 3, 1, 0, 2, 4]])
    before = model.net(x_t)[0, 3]
    for i in (0, 7):  # before it and behind it
        other = x_t.clone()
        other[0, i] = (x_t[0, i] + 1) % 4
        assert not torch.allclose(model.net(other)[0, 3], before)


@pytest.mark.parametrize("distance", [-2, 0, 3])
def test_a_head_that_likes_one_distance_reads_what_stands_there(distance):
    both, h = OpenAttention(8, 7, heads=2), torch.randn(1, 7, 8)
    with torch.no_grad():
        both.far.zero_()[:, 6 + distance] = 1e4
        read = both.out(both.qkv(h)[..., 16:])
        where = range(max(0, -distance), min(7, 7 - distance))
        for i in where:
            torch.testing.assert_close(both(h)[0, i], read[0, i + distance])


def test_heads_look_left_and_right_at_first_and_hardly_at_themselves():
    weights = glances(4, 9).softmax(1)
    left, own, right = weights[:, :8].sum(1), weights[:, 8], weights[:, 9:].sum(1)
    assert (left[::2] > 0.8).all()
    assert (right[1::2] > 0.8).all()
    assert (own < 0.1).all()
    near = weights[:, 7] + weights[:, 9]
    assert (near[:2] > 0.5).all()
    assert (near[2:] < 0.3).all()


def test_a_bidirectional_gpt_has_the_parameters_of_a_gpt_but_distances_for_places():
    both = BidirectionalGPT(5, 6, layers=1, heads=2, width=8)
    causal = GPT(5, 6, layers=1, heads=2, width=8)
    shapes = [{k: v.shape for k, v in m.state_dict().items()} for m in (both, causal)]
    assert shapes[0].pop("blocks.0.attention.far") == (2, 11)
    assert shapes[1].pop("position") == (6, 8)
    assert shapes[0] == shapes[1]
