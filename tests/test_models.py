"""Every public model of every family, swept: what it takes, what it refuses, what it keeps.

A class joins by being in the registry of its family, `gdm_course.<family>.models()`.
"""

import copy
import importlib
import inspect
import pickle
import pkgutil
from contextlib import suppress
from functools import partial

import pytest
import torch
from torch import nn

from gdm_course import recipes
from gdm_course.authoring.course import load
from gdm_course.autoregressive.nade import Quantised
from gdm_course.data import images, toy
from gdm_course.evaluation.features import PictureClassifier
from gdm_course.examples import Example
from gdm_course.flows.flow import Flow
from gdm_course.scale import codes, few_step, restoring
from gdm_course.source import PACKAGE, ROOT
from gdm_course.training import batches, forever

FAMILIES = [family for family in load(ROOT).families if (PACKAGE / family).is_dir()]
PROMISES = ("sample", "loss", "log_prob", "elbo")
TAKES = (
    *PROMISES[1:],
    "energy",
    "iwae",
    "terms",
    "encode",
    "quantise",
    "reconstruct",
    "conditionals",
    "discriminate",
    "discriminator_loss",
    "generator_loss",
    "to_a",
    "to_b",
)
SWEPT = {
    f"{family}: {name}": example
    for family in FAMILIES
    for name, example in importlib.import_module(f"gdm_course.{family}").models().items()
}
SMALL = {"halvings": 1, "features": 4, "blocks": 0}
GPT = {"layers": 1, "heads": 1, "width": 8}
COMPOSED = {  # of several families, for recipes
    "SentenceModel": partial(codes.SentenceModel, K=5, D=3, **SMALL, **GPT),
    "DenseSentenceModel": partial(
        codes.DenseSentenceModel, words=3, K=5, D=3, hidden=(6,), **GPT
    ),
    "PixelPalette": partial(restoring.PixelPalette, hidden=8, depth=1),
    "UNetPalette": partial(restoring.UNetPalette, width=4),
    "PictureConsistency": partial(few_step.PictureConsistency, width=4),
    "PictureMeanFlow": partial(few_step.PictureMeanFlow, width=4),
    "DigitModel": partial(codes.DigitModel, digits=2, values=3, channels=6, **SMALL),
}
SWEPT |= {
    f"scale: {name}": Example(partial(build, (1, 4, 4), 2), (1, 4, 4), K=2)
    for name, build in COMPOSED.items()
}
SWEPT |= {
    f"scale: {name}": Example(partial(build, 3, hidden=8, depth=1), (3,))
    for name, build in (
        ("PlaneConsistency", few_step.PlaneConsistency),
        ("PlaneShortcut", few_step.PlaneShortcut),
        ("PlaneMeanFlow", few_step.PlaneMeanFlow),
    )
}
judge = partial(PictureClassifier, (1, 4, 4), 3, width=2, features=4)
SWEPT["evaluation: PictureClassifier"] = Example(judge, (1, 4, 4), classes=3)
every = pytest.mark.parametrize("example", SWEPT.values(), ids=SWEPT)


def build(example: Example, seed: int = 0) -> nn.Module:
    """Build the model with weights of its own for each seed, in evaluation mode."""
    torch.manual_seed(seed)
    return example.build().eval()


def data(example: Example, B: int, seed: int = 1) -> tuple:
    torch.manual_seed(seed)
    return example.batch(B)


def entries(model: nn.Module, rest: tuple) -> dict:
    """All public methods that take a batch, as functions of x alone."""
    losses = ("loss", "discriminator_loss", "generator_loss")
    more = {**dict.fromkeys(losses, rest), "iwae": (3,)}
    if any(isinstance(r, torch.Tensor) and r.ndim for r in rest):  # labels
        told = ("log_prob", "conditionals", "discriminate", "forward", "inverse")
        more |= dict.fromkeys(told, rest)
    names = [name for name in TAKES if inspect.ismethod(getattr(model, name, None))]
    names += ["forward", "inverse"] if isinstance(model, Flow) else []
    return {n: lambda x, n=n: getattr(model, n)(x, *more.get(n, ())) for n in names}


def numbers(answer: object) -> list[torch.Tensor]:
    """The tensors in what an entry returned; of a distribution, its parameters."""
    if isinstance(answer, torch.Tensor):
        return [answer]
    if isinstance(answer, tuple):
        return [t for part in answer for t in numbers(part)]
    return [t for t in vars(answer).values() if isinstance(t, torch.Tensor)]


def values(model: nn.Module, batch: tuple) -> dict[str, list[torch.Tensor]]:
    """What every entry says of a batch; the same noise for each."""
    x, *rest = batch
    said = {}
    for name, entry in entries(model, tuple(rest)).items():
        torch.manual_seed(2)
        said[name] = numbers(entry(x))
    return said


def assert_same(one: dict, other: dict, **tolerance) -> None:
    assert one.keys() == other.keys()
    for name in one:
        for a, b in zip(one[name], other[name], strict=True):
            torch.testing.assert_close(a, b, msg=lambda m, n=name: f"{n}: {m}", **tolerance)


# The registry -----------------------------------------------------------------------------


def public_classes(family: str) -> set[str]:
    """Classes of a family that promise to sample, to be trained, or have a density."""
    package, found = importlib.import_module(f"gdm_course.{family}"), set()
    for info in pkgutil.iter_modules(package.__path__, package.__name__ + "."):
        module = importlib.import_module(info.name)
        for name, cls in inspect.getmembers(module, inspect.isclass):
            own = cls.__module__ == module.__name__ and not name.startswith("_")
            told = (*PROMISES, "generator_loss")
            if own and any(callable(getattr(cls, promise, None)) for promise in told):
                found.add(name)
    return found


def test_every_model_of_recipes_is_swept():
    classes = {*map(recipes.resolve, {recipe.model for recipe in recipes.RECIPES})}
    swept = {type(example.build()) for example in SWEPT.values()}
    assert classes <= swept


@pytest.mark.parametrize("family", FAMILIES)
def test_every_public_class_is_swept_or_says_why_not(family):
    package = importlib.import_module(f"gdm_course.{family}")
    swept = {type(example.build()).__name__ for example in package.models().values()}
    assert public_classes(family) == swept | package.PARTS.keys()
    assert not swept & package.PARTS.keys()
    assert all(reason for reason in package.PARTS.values())


@every
def test_every_promise_is_kept(example):
    """No class has a `sample` that only raises."""
    model = example.build()
    named = {
        p: callable(getattr(model, m, None))
        for p, m in zip(("Sampler", "Trainable", "Density"), PROMISES)
    }
    assert example.abilities() == named


@every
def test_shapes_and_dtypes(example):
    model, (x, *rest) = build(example), data(example, 4)
    said = values(model, (x, *rest))
    for name in {"log_prob", "elbo", "iwae"} & said.keys():
        assert said[name][0].shape == (4,)
        assert said[name][0].dtype == torch.float32
    if "loss" in said:
        assert said["loss"][0].shape == ()
    if hasattr(model, "sample"):
        drawn = model.sample(3, **example.draw)
        assert drawn.shape == (3, *example.shape)
        assert not drawn.requires_grad


# Sizes of a batch -------------------------------------------------------------------------


@every
def test_a_batch_of_one(example):
    for model in (build(example), build(example).train()):
        for name, said in values(model, data(example, 1)).items():
            assert all(t.isfinite().all() for t in said if t.is_floating_point()), name


@every
def test_the_last_batch_of_an_epoch_is_as_any_other(example):
    """Rows do not mix: a density says the same of them in a smaller batch."""
    model, (x, *rest) = build(example), data(example, 5)
    if hasattr(model, "log_prob"):
        labels = tuple(y for y in rest if y.ndim)
        whole = model.log_prob(x, *labels)
        part = model.log_prob(x[3:], *(y[3:] for y in labels))
        torch.testing.assert_close(part, whole[3:], rtol=1e-4, atol=1e-4)
    model.train()
    if hasattr(model, "loss"):
        for rows in (slice(0, 3), slice(3, 5)):
            assert model.loss(x[rows], *(r[rows] if r.ndim else r for r in rest)).isfinite()


@every
def test_an_empty_batch_is_refused_and_no_samples_are_none(example):
    model, (x, *rest) = build(example), data(example, 2)
    empty = tuple(r[:0] if isinstance(r, torch.Tensor) and r.ndim else r for r in rest)
    for name, entry in entries(model, empty).items():
        if name != "inverse":  # from noise to data, none may become none
            with pytest.raises(ValueError, match="expected"):
                entry(x[:0])
    if hasattr(model, "sample"):
        some, none = (model.sample(n, **example.draw) for n in (2, 0))
        assert none.shape == (0, *some.shape[1:])
        assert none.dtype == some.dtype
        for wrong in (-1, 2.5, None, "3", True):
            with pytest.raises(ValueError, match=r"n is .*: expected a whole number"):
                model.sample(wrong, **example.draw)


# What is refused --------------------------------------------------------------------------


def wrong_shapes(x: torch.Tensor) -> dict[str, torch.Tensor]:
    *_, last = x.shape
    return {
        "one example, no batch": x[0],
        "one column, which would broadcast": x[..., :1] if last > 1 else x[..., :1, :1],
        "one too many": torch.cat([x, x[..., :1]], dim=-1),
        "one dimension more": x[..., None],
        "a dimension in front": x[None],
        "a number": x.flatten()[0],
    }


def refused(entry, x, what: str) -> None:
    """One clear sentence, and before anything else went wrong."""
    with pytest.raises((ValueError, TypeError)) as caught:
        entry(x)
    told = str(caught.value)
    assert "expected" in told, f"{what}: {told}"
    assert "\n" not in told, f"{what}: {told}"
    assert len(told) < 300


@every
def test_wrong_shapes_are_refused(example):
    model, (x, *rest) = build(example), data(example, 4)
    for what, wrong in wrong_shapes(x).items():
        for name, entry in entries(model, tuple(rest)).items():
            if example.any_length and what in (
                "one too many",
                "one column, which would broadcast",
            ):
                continue
            refused(entry, wrong, f"{name}, {what}")


def wrong_values(example: Example, x: torch.Tensor) -> dict[str, object]:
    if example.K is None:
        return {
            "whole numbers": x.long(),
            "bytes": x.byte(),
            "double precision": x.double(),
            "half precision": x.half(),
            "a list": x.tolist(),
            "an array": x.numpy(),
        }
    real, K = x.float(), example.K
    return {
        "a code too large": x.clone().index_fill_(0, torch.tensor([1]), K),
        "a negative code": x.clone().index_fill_(0, torch.tensor([1]), -1),
        "fractions": real + 0.5,
        "not a number": real.clone().index_fill_(0, torch.tensor([1]), torch.nan),
        "infinite": real.clone().index_fill_(0, torch.tensor([1]), torch.inf),
        "a list": x.tolist(),
    }


@every
def test_wrong_values_and_dtypes_are_refused(example):
    model, (x, *rest) = build(example), data(example, 4)
    for what, wrong in wrong_values(example, x).items():
        for name, entry in entries(model, tuple(rest)).items():
            refused(entry, wrong, f"{name}, {what}")


@every
def test_codes_of_any_dtype_are_the_same_codes(example):
    """Bytes do not wrap and are no masks; whole numbers may be floating-point."""
    if example.K is None:
        return
    model, (x, *rest) = build(example), data(example, 4)
    said = values(model, (x, *rest))
    kinds = [torch.float32, torch.float64, torch.int32]
    kinds += [torch.uint8] * (example.K <= 256) + [torch.bool] * (example.K == 2)
    for kind in kinds:
        assert_same(values(model, (x.to(kind), *rest)), said, rtol=0, atol=0)


@every
def test_labels_are_refused_where_they_mean_nothing(example):
    model, (x, *rest) = build(example), data(example, 4)
    takes = (
        inspect.signature(model.log_prob).parameters if hasattr(model, "log_prob") else {}
    )
    if "y" not in takes:
        return
    y = torch.zeros(4, dtype=torch.int64)
    wrong = {"too few": y[:3], "pairs": y[:, None], "a list": y.tolist()}
    wrong |= {"out of range": y + 3, "negative": y - 1, "fractions": y + 0.5}
    wrong = wrong if example.classes else {"any": y}
    for labels in wrong.values():
        for name in {"log_prob", "loss", "conditionals"} & {*dir(model)}:
            with pytest.raises((ValueError, TypeError), match=r"expected|without classes"):
                getattr(model, name)(x, labels)
        with pytest.raises((ValueError, TypeError), match=r"expected|without classes"):
            model.sample(4, y=labels, **example.draw)
    if example.classes:
        with pytest.raises(ValueError, match="got no labels for a model with classes=3"):
            model.loss(x)
        for kind in (torch.uint8, torch.int32, torch.float32):
            told = model.log_prob(x, rest[0].to(kind))
            torch.testing.assert_close(told, model.log_prob(x, rest[0]), rtol=0, atol=0)


# Numbers ----------------------------------------------------------------------------------


def doubled(batch: tuple) -> tuple:
    return tuple(
        t.double() if isinstance(t, torch.Tensor) and t.is_floating_point() else t
        for t in batch
    )


@every
def test_double_precision(example):
    batch = data(example, 4)
    single, model = values(build(example), batch), build(example).double()
    said = values(model, doubled(batch))
    for name in {"loss", "log_prob", "elbo", "iwae", "forward"} & said.keys():
        assert said[name][0].dtype == torch.float64, name
    if hasattr(model, "log_prob"):  # no noise in it
        torch.testing.assert_close(
            said["log_prob"][0].float(), single["log_prob"][0], rtol=1e-3, atol=1e-3
        )
    if hasattr(model, "sample"):
        drawn = model.sample(2, **example.draw)
        assert drawn.dtype == torch.float64 or not drawn.is_floating_point() or example.K
        assert drawn.isfinite().all()


@every
def test_memory_may_lie_in_any_order(example):
    model, (x, *rest) = build(example), data(example, 4)
    twisted = torch.stack([x, x], dim=-1)[..., 0]
    assert not twisted.is_contiguous()
    assert_same(values(model, (twisted, *rest)), values(model, (x, *rest)))
    turned = x.movedim(0, -1).contiguous().movedim(-1, 0)
    assert_same(values(model, (turned, *rest)), values(model, (x, *rest)))


@every
def test_copies_pickles_and_state_dicts(example):
    model, batch = build(example), data(example, 4)
    said = values(model, batch)
    other = build(example, seed=9)
    other.load_state_dict(model.state_dict())
    again = {"a copy": copy.deepcopy(model), "a pickle": pickle.loads(pickle.dumps(model))}
    for twin in (*again.values(), other):
        assert_same(values(twin, batch), said, rtol=0, atol=0)
        assert all(a is not b for a, b in zip(twin.parameters(), model.parameters()))


@every
def test_every_part_keeps_its_mode(example):
    """Sampling and measuring leave frozen parts frozen, and training ones in training."""
    for flip in (0, 1):
        model, (x, *rest) = build(example), data(example, 3)
        for i, part in enumerate(model.modules()):
            part.training = bool((i + flip) % 2)
        before = [part.training for part in model.modules()]
        values(model, (x, *rest))
        if hasattr(model, "sample"):
            model.sample(2, **example.draw)
            with suppress(ValueError):
                model.sample(-1, **example.draw)
        assert [part.training for part in model.modules()] == before


@every
def test_a_density_draws_nothing(example):
    """In evaluation mode log p(x) leaves the global generator where it was."""
    model, (x, *rest) = build(example), data(example, 3)
    if hasattr(model, "log_prob"):
        before = torch.get_rng_state()
        entries(model, tuple(rest))["log_prob"](x)
        assert torch.equal(torch.get_rng_state(), before)


FAR = (3e1, 1e4, 1e8, 1e15)


@every
def test_points_far_out_are_small_not_nan(example):
    model, (x, *rest) = build(example), data(example, 16)
    if example.K is not None:
        ends = [torch.zeros_like(x), torch.full_like(x, example.K - 1)]
    else:
        ends = [scale * part for scale in FAR for part in (x, x.sign(), x * (x > 0))]
    for model in (build(example), wild(build(example))):
        for far in ends:
            for name, said in values(model, (far, *rest)).items():
                if name in ("log_prob", "elbo", "iwae", "loss"):
                    ok = said[0] > -torch.inf if name == "loss" else said[0] < torch.inf
                    assert ok.all(), f"{name}: {said[0]}"  # nan is neither


def wild(model: nn.Module) -> nn.Module:
    """Weights as an unlucky step leaves them: thirty times too large."""
    with torch.no_grad():
        for p in model.parameters():
            p.mul_(30)
    return model


@every
def test_gradients_are_finite_far_out(example):
    model, (x, *rest) = build(example), data(example, 8)
    if not hasattr(model, "loss"):
        return
    far = x * 1e3 if example.K is None else torch.full_like(x, example.K - 1)
    loss = model.loss(far, *rest)
    if isinstance(model, Quantised):
        assert loss == torch.inf  # its density is 0 out there, as it says
        return
    assert loss.isfinite()
    loss.backward()
    for name, p in model.named_parameters():
        assert p.grad is None or p.grad.isfinite().all(), name


@every
def test_bfloat16_autocast(example):
    """As `gdm train` runs models on a GPU: finite, and near what float32 says."""
    model, batch = build(example), data(example, 6)
    exact = values(model, batch)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        said = values(model, batch)
        if hasattr(model, "loss"):
            model.loss(*batch)
        if hasattr(model, "sample"):
            assert model.sample(2, **example.draw).isfinite().all()
    for name in {"log_prob", "loss", "elbo"} & said.keys():
        if name == "log_prob":
            torch.testing.assert_close(
                said[name][0].float(), exact[name][0], rtol=0.05, atol=0.1
            )
        assert said[name][0].isfinite().all()
        assert said[name][0].dtype == torch.float32, name


# Generators -------------------------------------------------------------------------------


def test_a_given_generator_is_the_only_one_that_moves():
    def draw(g: torch.Generator) -> list[torch.Tensor]:
        x = torch.arange(12.0).view(6, 2)
        made = [toy.get(name).sample(5, g) for name in toy.names()]
        made += [images.binarize(x, 12, g), *batches(x, 4, g), next(forever(x, 4, g))]
        return made

    before = torch.get_rng_state()
    one, two = (
        draw(torch.Generator().manual_seed(3)),
        draw(torch.Generator().manual_seed(3)),
    )
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True))
