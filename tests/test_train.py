"""The training loop: batches, schedule, gradients, averages, and what happens at NaN."""

import copy
import math
import random

import numpy as np
import pytest
import torch
from torch import nn

from gdm_course import training
from gdm_course.training import (
    adam,
    batches,
    budget,
    ema,
    forever,
    full_run,
    seed_everything,
    set_seeds,
    train,
)


class Quadratic(nn.Module):
    """loss = |w - mean(x)|^2 / 2, so that one step of plain descent is known exactly."""

    def __init__(self, D: int = 2):
        super().__init__()
        self.w = nn.Parameter(torch.zeros(D))

    def loss(self, x):
        return 0.5 * (self.w - x.mean(0)).square().sum()


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def sgd(model, lr=0.1):
    return torch.optim.SGD(model.parameters(), lr)


@pytest.mark.parametrize("B", [1, 3, 10, 99])
def test_every_row_exactly_once_per_epoch(B):
    x = torch.arange(10)
    parts = list(batches(x, B, generator()))
    assert sorted(torch.cat(parts).tolist()) == list(range(10))
    assert [len(p) for p in parts[:-1]] == [B] * (math.ceil(10 / B) - 1)


def test_the_order_is_random_and_new_every_epoch():
    feed, x = forever(torch.arange(100), 100, generator()), torch.arange(100)
    first, second = next(feed), next(feed)
    assert not torch.equal(first, x)
    assert not torch.equal(first, second)
    assert torch.equal(first.sort().values, second.sort().values)
    assert torch.equal(next(batches(x, 100, generator())), first)  # the generator decides


def test_a_tuple_stays_aligned():
    x, y = torch.arange(20)[:, None].float(), torch.arange(20) * 7
    for xs, ys in batches((x, y), 6, generator()):
        assert torch.equal(xs[:, 0].long() * 7, ys)


def test_forever_on_no_rows_raises_instead_of_spinning():
    with pytest.raises(ValueError, match="no rows"):
        next(forever(torch.zeros(0, 2), 4))


def test_one_step_is_gradient_descent():
    model, x = Quadratic(), torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    [(step, loss)] = train(model, [x], steps=5, optimizer=sgd(model))
    assert (step, loss) == (1, pytest.approx(0.5 * (4 + 9)))  # before the step
    assert torch.allclose(model.w.detach(), 0.1 * x.mean(0))


def test_gradients_do_not_pile_up_over_steps():
    model, x = Quadratic(1), torch.ones(1, 1)
    for _ in train(model, [x] * 3, steps=3, optimizer=sgd(model)):
        pass
    assert model.w.item() == pytest.approx(1 - 0.9**3)


def test_steps_bound_the_training_and_draw_no_batch_more():
    drawn = []
    feed = (drawn.append(i) or torch.ones(1, 2) for i in range(100))
    assert [s for s, _ in train(Quadratic(), feed, steps=4)] == [1, 2, 3, 4]
    assert drawn == [0, 1, 2, 3]
    assert len(list(train(Quadratic(), [torch.ones(1, 2)] * 2, steps=9))) == 2


def test_the_schedule_sees_steps_from_zero():
    model, seen = Quadratic(1), []
    optimizer = sgd(model, lr=123.0)
    rate = lambda step: 0.5 / (step + 1)  # noqa: E731
    for _ in train(model, [torch.ones(1, 1)] * 3, 3, lr=rate, optimizer=optimizer):
        seen.append(optimizer.param_groups[0]["lr"])
    assert seen == [0.5, 0.25, 0.5 / 3]
    assert model.w.item() == pytest.approx(1 - 0.5 * 0.75 * (1 - 0.5 / 3))


def test_an_optimizer_keeps_its_own_rate():
    model = Quadratic(1)
    list(train(model, [torch.ones(1, 1)], 1, lr=99.0, optimizer=sgd(model, 0.25)))
    assert model.w.item() == pytest.approx(0.25)


def test_clip_bounds_the_norm_and_keeps_the_direction():
    model, x = Quadratic(), torch.tensor([[300.0, 400.0]])
    list(train(model, [x], 1, optimizer=sgd(model, 1.0), clip=1.0))
    assert torch.allclose(model.w.detach(), torch.tensor([0.6, 0.8]), atol=1e-5)


def test_backward_can_be_replaced():
    model = Quadratic(1)
    twice = lambda loss: (2 * loss).backward()  # noqa: E731
    list(train(model, [torch.ones(1, 1)], 1, optimizer=sgd(model), backward=twice))
    assert model.w.item() == pytest.approx(0.2)


def test_every_step_is_in_training_mode_even_if_the_caller_evaluates():
    model, modes = Quadratic(), []
    loss, model.loss = model.loss, lambda x: modes.append(model.training) or loss(x)
    for _ in train(model, [torch.ones(1, 2)] * 3, 3):
        model.eval()
    assert modes == [True] * 3


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_raises_before_it_spoils_the_weights(bad):
    model = Quadratic(1)
    feed = [torch.ones(1, 1), torch.ones(1, 1), torch.full((1, 1), bad)]
    kept = []
    loop = train(model, feed, 3, optimizer=sgd(model))
    with pytest.raises(FloatingPointError) as error:
        kept.extend(model.w.detach().clone() for _ in loop)
    assert len(kept) == 2
    assert torch.equal(model.w.detach(), kept[-1])
    for said in ("Quadratic", "step 3", "0.405"):  # 0.9^2 / 2, the loss of step 2
        assert said in str(error.value)


def test_training_learns_and_is_the_same_for_the_same_seed():
    def run(seed):
        seed_everything(seed)
        model = nn.Linear(3, 1)
        model.loss = lambda x: (model(x) - x.sum(1, keepdim=True)).square().mean()
        x = torch.randn(256, 3)
        losses = [loss for _, loss in train(model, forever(x, 32), 150, lr=0.05)]
        return losses, model.weight.detach()

    (losses, weight), (again, weight_again), (other, _) = run(0), run(0), run(1)
    assert losses == again
    assert torch.equal(weight, weight_again)
    assert losses != other
    assert losses[-1] < 0.01 * losses[0]


def test_adam_decays_weights_apart_from_the_gradient_and_skips_the_frozen():
    model = Quadratic(1)
    model.w.data.fill_(2.0)
    model.frozen = nn.Parameter(torch.ones(1), requires_grad=False)
    optimizer = adam(model.parameters(), lr=0.1, weight_decay=0.5)
    model.w.grad = torch.zeros(1)
    optimizer.step()
    assert model.w.item() == pytest.approx(2.0 * (1 - 0.1 * 0.5))
    assert sum(len(g["params"]) for g in optimizer.param_groups) == 1


def test_ema_is_the_geometric_average_and_copies_buffers():
    model = nn.BatchNorm1d(2)
    average = copy.deepcopy(model)
    with torch.no_grad():
        for value in (1.0, 2.0):
            model.weight.fill_(value)
            model.running_mean.fill_(value)
            ema(average, model, decay=0.9)
    assert torch.allclose(average.weight, torch.tensor(0.9**2 + 0.9 * 0.1 * 1 + 0.1 * 2))
    assert torch.equal(average.running_mean, torch.full((2,), 2.0))
    assert torch.equal(model.weight.detach(), torch.full((2,), 2.0))


def test_budget_is_cut_only_in_smoke_mode(monkeypatch):
    monkeypatch.delenv("GDM_SMOKE", raising=False)
    assert full_run()
    assert budget(100, 3) == 100
    monkeypatch.setenv("GDM_SMOKE", "0")
    assert full_run()
    assert budget(100, 3) == 100
    monkeypatch.setenv("GDM_SMOKE", "1")
    assert not full_run()
    assert budget(100, 3) == 3


def test_a_shift_moves_all_seeds_of_a_lecture_and_none_of_a_recipe(monkeypatch):
    def draws():
        seed_everything(3)
        mine = torch.rand(2)
        set_seeds(3)
        return mine, torch.rand(2), torch.rand(2, generator=training.generator(3))

    monkeypatch.delenv("GDM_SEED_SHIFT", raising=False)
    plain = draws()
    monkeypatch.setenv("GDM_SEED_SHIFT", "1")
    shifted = draws()
    assert torch.equal(plain[0], plain[1])
    assert torch.equal(plain[0], plain[2])
    assert torch.equal(plain[1], shifted[1])
    assert not torch.equal(plain[0], shifted[0])
    assert torch.equal(shifted[0], shifted[2])
    monkeypatch.setenv("GDM_SEED_SHIFT", "one")
    with pytest.raises(ValueError, match=r"GDM_SEED_SHIFT='one': expected a whole number"):
        seed_everything(0)


def test_seed_everything_seeds_all_three():
    def draw():
        return random.random(), float(np.random.rand()), torch.rand(()).item()

    seed_everything(2**33 + 5)  # larger than NumPy allows
    first = draw()
    seed_everything(2**33 + 5)
    assert draw() == first
    assert all(a != b for a, b in zip(first, draw()))
