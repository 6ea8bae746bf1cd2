"""A step of training happens whole or not at all, and measuring leaves no trace."""

import copy
import math
import re

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from gdm_course.autoregressive.gpt import GPT
from gdm_course.batching import columns
from gdm_course.evaluation.bounds import elbos
from gdm_course.evaluation.disentanglement import mig_estimate
from gdm_course.evaluation.likelihood import kl_to_truth, log_probs, stream_nll
from gdm_course.flows.continuous import FFJORD
from gdm_course.flows.dequantisation import DequantisedGlow
from gdm_course.flows.glow import Glow
from gdm_course.flows.ode import DormandPrince, Fixed
from gdm_course.flows.realnvp import NICE, RealNVP
from gdm_course.learning import evaluating, teaching
from gdm_course.scale.codes import SentenceModel, terms
from gdm_course.source import PACKAGE, ROOT
from gdm_course.training import batches, forever, train
from gdm_course.vae.decoders import GaussianPixels
from gdm_course.vae.info_vae import InfoVAE
from gdm_course.vae.objectives import WarmUp
from gdm_course.vae.vae import VAE
from gdm_course.vae.vqvae import VQVAE

# A step that fails -----------------------------------------------------------------------


class Remembering(nn.Module):
    """Whatever a forward pass can change: in place, bound anew, and a parameter too."""

    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.ones(3))
        self.norm = nn.BatchNorm1d(3)
        self.register_buffer("total", torch.zeros(3))
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))
        self.start = nn.Parameter(torch.zeros(3))

    def loss(self, x):
        self.total.add_(x.detach().sum(0))
        self.count = self.count + len(x)
        self.start.data = x.detach().mean(0) if self.count == len(x) else self.start.data
        y = self.norm(x - self.start) * self.w
        loss = y.square().mean()
        if (x > 9).all():  # 0, a fine value, without a gradient
            loss = loss + (self.w - self.w.detach()).square().sum().sqrt()
        return loss


def picture_model() -> nn.Module:
    return VQVAE((1, 8, 8), features=4, observation=GaussianPixels())


LEARNERS = {
    "anything": (Remembering, (3,)),
    "NICE": (lambda: NICE(3, hidden=8), (3,)),
    "RealNVP": (lambda: RealNVP(3, layers=2, hidden=8), (3,)),
    "Glow": (lambda: Glow((1, 4, 4), scales=1, steps=2, hidden=4), (1, 4, 4)),
    "codebook": (picture_model, (1, 8, 8)),
    "warm-up": (lambda: WarmUp(VAE(3, observation=GaussianPixels())), (3,)),
}


def state(model: nn.Module) -> dict:
    return {k: v.clone() for k, v in model.state_dict().items()}


def same(model: nn.Module, before: dict) -> bool:
    after = model.state_dict()
    return [*after] == [*before] and all(v.equal(before[k]) for k, v in after.items())


@pytest.mark.parametrize("good", [0, 2])
@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("name", LEARNERS)
def test_a_batch_that_is_not_finite_changes_nothing(name, bad, good):
    make, shape = LEARNERS[name]
    torch.manual_seed(0)
    model, feed = make(), list(torch.randn(good + 1, 16, *shape))
    feed[-1].view(16, -1)[3, 0] = bad
    before = state(model)
    loop = train(model, feed, 9)
    for _ in range(good):
        next(loop)
        before = state(model)
    with pytest.raises(FloatingPointError, match=rf"the loss is .* at step {good + 1}"):
        next(loop)
    assert same(model, before)
    assert [*train(model, [feed[0][:3].nan_to_num(0, 1)], 1)]  # and it can go on


@pytest.mark.parametrize("name", LEARNERS)
def test_a_gradient_that_is_not_finite_changes_nothing(name):
    """Every weight and all that was learned on the way, also from this very batch."""
    make, shape = LEARNERS[name]
    torch.manual_seed(0)
    model = make()
    hurt = lambda loss: (loss + 0 * loss.detach().sub(loss).abs().sqrt()).backward()  # noqa: E731
    before = state(model)
    with pytest.raises(FloatingPointError, match=r"the gradient of .* is nan at step 1"):
        next(train(model, [torch.randn(16, *shape)], 1, backward=hurt))
    assert same(model, before)


def test_the_error_names_model_weight_step_and_the_last_loss():
    model, far = Remembering(), torch.full((16, 3), 10.0)
    with pytest.raises(FloatingPointError) as error:
        list(train(model, [torch.randn(16, 3), far], 2, lr=0.0))
    for said in ("Remembering", "gradient of w is nan", "step 2", "last good loss: "):
        assert said in str(error.value)
    assert "nan" not in str(error.value).partition("loss:")[2]


@pytest.mark.parametrize("clip", [None, 1.0])
def test_a_gradient_too_long_to_be_measured_is_refused(clip):
    model = nn.Linear(2, 1, bias=False)
    model.loss = lambda x: 1e30 * model(x).sum()
    before = state(model)
    with pytest.raises(FloatingPointError, match="the gradient is inf"):
        list(train(model, [torch.ones(1, 2)], 1, clip=clip))
    assert same(model, before)


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
@pytest.mark.parametrize("place", ["loss", "backward"])
def test_an_interrupt_within_a_step_leaves_a_whole_model(place, error):
    model, x = Remembering(), torch.randn(8, 3)

    def stop(*_):
        raise error

    before = state(model)
    hurt = {} if place == "loss" else {"backward": stop}
    if place == "loss":
        model.norm.register_forward_hook(stop)
    with pytest.raises(error):
        list(train(model, [x], 1, **hurt))
    assert same(model, before)


def test_frozen_and_shared_weights_and_other_types_are_kept_too():
    model = nn.ModuleList([nn.Linear(2, 2), nn.Linear(2, 2).double().requires_grad_(False)])
    model.append(model[0])
    model.register_buffer("flag", torch.tensor(False))

    def loss(x):
        model.flag.fill_(True)
        model[1].weight.add_(1)
        return model[0](x).sum() * math.nan

    model.loss, before = loss, state(model)
    with pytest.raises(FloatingPointError):
        list(train(model, [torch.randn(3, 2)], 1))
    assert same(model, before)


# Measuring -------------------------------------------------------------------------------


@pytest.mark.parametrize("gradients", [False, True])
@pytest.mark.parametrize("name", [n for n in LEARNERS if n != "anything"])
def test_looking_teaches_nothing(name, gradients):
    make, shape = LEARNERS[name]
    model, x = make().train(), torch.rand(16, *shape)
    before = state(model)
    with torch.set_grad_enabled(gradients):
        for look in ("loss", "log_prob", "elbo", "encode", "reconstruct", "quantise"):
            getattr(model, look, model.loss)(x)
    assert same(model, before)
    model.loss(x).backward()
    assert not same(model, before)


def test_several_draws_and_accumulated_gradients_teach_once_each():
    model = DequantisedGlow((1, 4, 4), 8, scales=1, steps=1, hidden=4)
    x = torch.randint(8, (6, 1, 4, 4))
    with teaching():
        (-model.iwae(x, 3).mean()).backward()
    start = state(model)
    assert model.flow.layers[0].layers.layers[0].layers[0].ready
    model.loss(x).backward()
    assert same(model, start)
    warm = WarmUp(VAE(3, observation=GaussianPixels()))
    loss = warm.loss(torch.randn(4, 3))
    loss.backward(retain_graph=True)
    loss.backward()
    assert int(warm.step) == 1


class Part(nn.Module):
    """A model with a frozen half; every way to measure it can be made to fail."""

    def __init__(self):
        super().__init__()
        self.frozen = nn.ModuleList([nn.Dropout(), nn.Sequential(nn.Dropout())])
        self.error, self.modes, self.T = None, set(), 4

    def answer(self, x, *_):
        self.modes |= {part.training for part in self.modules()}
        if self.error:
            raise self.error
        return x.flatten(1).sum(1).float()

    log_prob = elbo = iwae = answer

    def encode(self, x):
        mean = self.answer(x)[:, None].expand(-1, 2)
        return torch.distributions.Independent(torch.distributions.Normal(mean, 1.0), 1)

    def conditionals(self, x):
        self.answer(x)
        return torch.distributions.Categorical(logits=torch.zeros(*x.shape, 3))

    def terms(self, x):
        return self.answer(x), self.answer(x)

    def embed(self, x, y):
        self.answer(x)
        raise EOFError  # far enough


X, FACTORS = torch.randn(8, 4), torch.arange(8)[:, None] % 2
MEASURES = {
    "log_probs": lambda model: log_probs(model, X),
    "elbos": lambda model: elbos(model, X),
    "iwaes": lambda model: elbos(model, X, k=2),
    "stream": lambda model: stream_nll(model, torch.zeros(3, 4, dtype=torch.int64)),
    "mig": lambda model: mig_estimate(model, (X, FACTORS)),
    "terms": lambda model: terms(model, X),
    "generate": lambda model: GPT.sample(model, 2) if isinstance(model, GPT) else None,
}


@pytest.mark.parametrize("error", [None, ValueError("no"), KeyboardInterrupt()])
@pytest.mark.parametrize("name", [n for n in MEASURES if n != "generate"])
def test_measuring_gives_every_part_its_mode_back(name, error):
    model = Part().train()
    model.frozen.eval()
    model.frozen[1].train()  # modes within modes, as nobody sane has them
    model.error, modes = error, [part.training for part in model.modules()]
    try:
        MEASURES[name](model)
    except (ValueError, KeyboardInterrupt) as raised:
        assert raised is error  # noqa: PT017
    assert model.modes == {False}
    assert [part.training for part in model.modules()] == modes


def test_generation_gives_every_part_its_mode_back():
    gpt = GPT(5, 8, layers=2, heads=1, width=8, dropout=0.5).train()
    gpt.blocks[0].eval()
    modes = [part.training for part in gpt.modules()]
    gpt.sample(2)
    with pytest.raises(ValueError, match="temperature"):
        gpt.sample(2, temperature=0)
    assert [part.training for part in gpt.modules()] == modes


def test_a_mode_that_changes_more_than_a_flag_comes_back():
    flow = FFJORD(2, hidden=4).train()
    log_probs(flow, torch.randn(3, 2))
    assert isinstance(flow.ode.solver, Fixed)
    flow.eval()
    with evaluating(flow) as same_flow:
        assert same_flow is flow
    assert isinstance(flow.ode.solver, DormandPrince)


def test_no_file_restores_a_mode_by_hand():
    """`evaluating` does, whatever happens in between; by hand it is forgotten."""
    files = [*PACKAGE.rglob("*.py"), *ROOT.glob("lectures/*/src/*.py")]
    files += ROOT.glob("solutions/*/src/*.py")
    by_hand = re.compile(r"\.train\((?!\)|mode\)|True\)|model|flow|[a-z_]+,)")
    found = [str(p) for p in files if by_hand.search(p.read_text(encoding="utf-8"))]
    assert found == [str(PACKAGE / "learning.py")]


# Containers ------------------------------------------------------------------------------


def mean_model() -> nn.Module:
    model = nn.Linear(2, 1)
    model.seen = []

    def loss(*batch):
        model.seen.append(batch)
        return sum(model(t.float()).square().mean() for t in batch)

    model.loss = loss
    return model


def test_a_list_is_a_tuple_wherever_data_go():
    x, y = torch.randn(10, 2), torch.randn(10, 2)
    model = mean_model()
    list(train(model, DataLoader(TensorDataset(x, y), batch_size=4), 3))
    assert [[t.shape for t in batch] for batch in model.seen] == [
        [(n, 2), (n, 2)] for n in (4, 4, 2)
    ]
    for xs, ys in batches([x, y], 3, torch.Generator().manual_seed(0)):
        assert all(
            (x == a).all(1).nonzero().equal((y == b).all(1).nonzero())
            for a, b in zip(xs, ys)
        )
    assert isinstance(next(forever([x], 3)), tuple)
    model.log_prob = lambda x, y: (x + y).sum(1)
    assert log_probs(model, [x, y], 3).equal(log_probs(model, (x, y)))
    model.elbo = lambda x: x.sum(1)
    assert elbos(model, [x], 3).equal(elbos(model, x))


def test_a_model_that_needs_no_data_gets_none():
    model = mean_model()
    model.loss = lambda: model.weight.square().sum()
    assert len(list(train(model, [(), ()], 9))) == 2


class Rows(torch.utils.data.Dataset):
    def __len__(self):
        return 3

    def __getitem__(self, i):
        return torch.zeros(2)


@pytest.mark.parametrize(
    ("feed", "error", "said"),
    [
        ([{"x": torch.ones(2, 2)}], TypeError, "data of type dict: give a tensor"),
        ([torch.ones(2, 2).numpy()], TypeError, "ndarray: give a tensor .*as_tensor"),
        ({"x": torch.ones(2, 2)}, TypeError, "data of type str"),
        ([None], TypeError, "NoneType"),
        (torch.ones(4, 2), TypeError, r"Tensor: .* give forever\(x, B\)"),
        (torch.ones(4, 2).numpy(), TypeError, r"ndarray: .* give forever\(x, B\)"),
        ((torch.ones(4, 2), torch.ones(4)), TypeError, "tuple: .* one batch"),
        (Rows(), TypeError, "Rows: .* a DataLoader"),
        ([], ValueError, "no batch to train on"),
        (iter(()), ValueError, "no batch to train on: was the iterator used up"),
        (DataLoader(TensorDataset(torch.ones(0, 2)), 4), ValueError, "no batch"),
    ],
)
def test_what_is_no_iterable_of_batches_is_refused_in_words(feed, error, said):
    model = mean_model()
    before = state(model)
    with pytest.raises(error, match=said):
        list(train(model, feed, 5))
    assert same(model, before)
    assert model.seen == []


@pytest.mark.parametrize("steps", [-1, 2.5, None, "3"])
def test_steps_are_a_whole_number(steps):
    with pytest.raises(ValueError, match=r"steps=.*expected a whole number of at least 0"):
        list(train(mean_model(), [torch.ones(2, 2)], steps))


def test_no_steps_are_no_steps():
    drawn = iter([torch.ones(2, 2)])
    assert list(train(mean_model(), drawn, 0)) == []
    assert next(drawn) is not None  # not even a batch was drawn
    assert list(train(mean_model(), [], 0)) == []


@pytest.mark.parametrize("B", [0, -1, 2.0, None])
@pytest.mark.parametrize("make", [batches, forever])
def test_a_batch_has_at_least_one_row(make, B):
    torch.manual_seed(0)
    before = torch.get_rng_state()
    with pytest.raises(ValueError, match=f"B={B}: expected a whole number of at least 1"):
        next(make(torch.ones(4, 2), B))
    assert torch.get_rng_state().equal(before)  # it did not even shuffle


def test_more_rows_than_there_are_is_all_of_them():
    assert [len(b) for b in batches(torch.ones(3, 2), 99)] == [3]


@pytest.mark.parametrize(
    ("x", "error", "said"),
    [
        ((torch.ones(4), torch.ones(3)), ValueError, "tensors of 4 and 3 rows"),
        ([torch.ones(4), torch.ones(5), torch.ones(4)], ValueError, "4 and 5 and 4 rows"),
        ((), TypeError, "data of nothing"),
        (torch.tensor(1.0), TypeError, r"give tensors \(N, \*D\)"),
        ((torch.ones(4), [1, 2, 3, 4]), TypeError, "data of Tensor, list"),
        (torch.ones(4).numpy(), TypeError, "data of type ndarray"),
        ({"x": torch.ones(4)}, TypeError, "data of type dict"),
    ],
)
def test_rows_that_do_not_belong_together_are_refused(x, error, said):
    model = Part()
    for use in (columns, lambda x: next(batches(x, 2)), lambda x: next(forever(x, 2))):
        with pytest.raises(error, match=said):
            use(x)
    for measure in (log_probs, elbos, terms):
        with pytest.raises(error, match=said):
            measure(model, x)


@pytest.mark.parametrize("measure", [log_probs, elbos, terms])
def test_measuring_takes_a_row_at_a_time_at_least(measure):
    with pytest.raises(ValueError, match="batch=0: expected a whole number of at least 1"):
        measure(Part(), X, 0)


def test_pairs_of_data_have_equally_many_rows():
    with pytest.raises(ValueError, match="tensors of 8 and 1 rows"):
        kl_to_truth(Part(), (X, torch.zeros(1)))  # which would broadcast
    with pytest.raises(ValueError, match="tensors of 8 and 7 rows"):
        mig_estimate(Part(), (X, FACTORS[:7]))


def test_data_may_live_elsewhere_than_the_order():
    x = torch.empty(10, 2, device="meta")
    parts = list(batches((x, x[:, 0]), 4, torch.Generator().manual_seed(0)))
    assert [p.shape for p, _ in parts] == [(4, 2), (4, 2), (2, 2)]
    assert parts[0][0].device.type == "meta"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU on this machine")
@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_a_generator_may_live_on_the_gpu(device):
    x = torch.arange(10, device=device)
    parts = list(batches(x, 4, torch.Generator("cuda").manual_seed(0)))
    assert torch.cat(parts).sort().values.equal(x)


# One row ---------------------------------------------------------------------------------


def test_a_last_batch_of_one_row_trains_on():
    torch.manual_seed(0)
    x = (torch.rand(33, 4) < 0.5).float()
    model = InfoVAE(4, latent=2, hidden=(8,))
    assert len(list(train(model, forever(x, 16), 9))) == 9
    torch.manual_seed(1)
    one = model.loss(x[:1])
    torch.manual_seed(1)
    q = model.encode(x[:1])
    log_p = model.log_likelihood(x[:1], q.rsample())
    torch.testing.assert_close(one, -log_p.mean())  # alpha = 1, and no pair: no mismatch


def test_an_average_follows_what_layers_learn():
    from gdm_course.training import ema

    model = RealNVP(2, layers=2, hidden=8)
    average = copy.deepcopy(model)
    for _ in train(model, forever(5 + torch.randn(100, 2), 50), 3):
        ema(average, model, 0.0)
    assert same(average, state(model))
    assert average.layers[0].ready


def test_a_model_over_codes_stops_whole():
    model = SentenceModel((1, 8, 8), 2, K=8, D=3, features=4, layers=1, heads=1, width=8)
    x = (torch.rand(8, 1, 8, 8) < 0.5).float()
    before = state(model)
    with pytest.raises(ValueError, match="other than 0 and 1"):
        list(train(model, [x.masked_fill(x > 0, math.nan)], 1))
    assert same(model, before)
    model.prior.density.position.register_hook(lambda g: g * math.nan)
    with pytest.raises(FloatingPointError, match=r"gradient of prior\.density\.position"):
        list(train(model, [x], 1))
    assert same(model, before)


@pytest.mark.parametrize("clip", [None, 0.5])
def test_unusual_weights_train_as_ever(clip):
    """None in the model, sparse gradients, a layer without a shape yet, several types."""
    outside = nn.Parameter(torch.ones(2))
    empty, sparse = nn.Module(), nn.Embedding(9, 3, sparse=True)
    lazy, mixed = nn.LazyLinear(1), nn.Linear(2, 1)
    mixed.more = nn.Parameter(torch.ones((), dtype=torch.float64))
    empty.loss = lambda x: (outside * x).square().sum()
    sparse.loss = lambda x: sparse(x.long()).square().sum()
    lazy.loss = lambda x: lazy(x).square().sum()
    mixed.loss = lambda x: (mixed.more * mixed(x)).square().sum()
    for model in (empty, sparse, lazy, mixed):
        weights = [outside] if model is empty else model.parameters()
        optimizer = torch.optim.SGD(weights, 0.01)
        losses = list(train(model, [torch.ones(4, 2)] * 3, 3, None, optimizer, clip))
        assert losses[2][1] < losses[0][1]
