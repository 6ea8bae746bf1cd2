"""What may be given to a model: one sentence for what may not, and at what price."""

import inspect
from functools import partial

import pytest
import torch
from test_models import SWEPT
from torch import nn

from gdm_course import validate
from gdm_course.autoregressive.bpe import BPE
from gdm_course.autoregressive.gpt import GPT
from gdm_course.autoregressive.nade import Quantised, SoftmaxNADE
from gdm_course.autoregressive.pixelcnn import PixelCNN
from gdm_course.autoregressive.sound import linear_decode, mulaw_decode, mulaw_encode
from gdm_course.autoregressive.wavernn import split_code
from gdm_course.data import shapes, text
from gdm_course.evaluation.disentanglement import mutual_information
from gdm_course.evaluation.likelihood import estimate, kl_to_truth
from gdm_course.flows.dequantisation import Logit
from gdm_course.flows.glow import InvertibleConv, MaskedCoupling, checkerboard
from gdm_course.flows.ode import Fixed
from gdm_course.flows.planar import Affine, Planar, PlanarFlow
from gdm_course.flows.radial import Radial, RadialFlow
from gdm_course.flows.realnvp import ActNorm
from gdm_course.gan.unrolled import UnrolledGAN
from gdm_course.nets import conv_net, mlp
from gdm_course.vae.beta_vae import log_aggregate
from gdm_course.vae.decoders import DiscretisedLogistic, GaussianPixels, LogisticPixels
from gdm_course.vae.fsq import FiniteScalarQuantiser
from gdm_course.vae.mixture import Mixture
from gdm_course.vae.quantise import VectorQuantiser, perplexity
from gdm_course.vae.refine import refine
from gdm_course.vae.vae import VAE, StandardNormal

MODEL = nn.Linear(2, 2)


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (
            lambda: validate.points(torch.randn(2), 2),
            "x has shape (2,): expected (B, 2); a single example is a batch of one, "
            "x[None]",
        ),
        (
            lambda: validate.points(torch.randn(3, 1), 2, name="z"),
            "z has shape (3, 1): expected (B, 2); reshape it, or build the model for its "
            "shape",
        ),
        (
            lambda: validate.points(torch.randn(0, 2), 2),
            "x has length 0: expected 1 or more rows",
        ),
        (
            lambda: validate.points(torch.ones(3, 2).byte(), 2),
            "x is uint8: expected floating-point numbers; give x.float(), or take a model "
            "of whole numbers",
        ),
        (
            lambda: validate.points(torch.randn(3, 2).double(), 2, MODEL),
            "x is float64: expected float32, as the model is; give x.to(torch.float32), "
            "or convert the model with .to(torch.float64)",
        ),
        (
            lambda: validate.points([[1.0, 2.0]], 2),
            "x is of type list: expected a tensor; give torch.as_tensor(x)",
        ),
        (
            lambda: validate.codes(torch.tensor([[3, 99]]), 17, 2),
            "x has values from 3 to 99: expected codes 0 to 16; quantise the data first, "
            "or build the model for as many values as there are",
        ),
        (
            lambda: validate.codes(torch.tensor([[0.5, 1.0]]), 17, 2),
            "x has fractions (from 0.5 to 1): expected whole numbers 0 to 16; quantise the "
            "data first",
        ),
        (
            lambda: validate.labels(None, 3, 5),
            "got no labels for a model with classes=3: give it y (5,), labels 0 to 2",
        ),
        (
            lambda: validate.labels(torch.zeros(5), 0, 5),
            "got labels y for a model without classes: build it with classes=, or leave "
            "them out",
        ),
        (
            lambda: validate.labels(torch.zeros(5, 1), 3, 5),
            "labels y have shape (5, 1): expected (5,), one for every row",
        ),
        (lambda: validate.count(2.5), "n is 2.5: expected a whole number, 0 or more"),
        (lambda: validate.at_least(1, D=-3), "D is -3: expected a whole number, 1 or more"),
    ],
)
def test_the_sentence_says_what_was_given_what_was_expected_and_what_to_do(call, sentence):
    with pytest.raises((ValueError, TypeError)) as told:
        call()
    assert str(told.value) == sentence


def test_what_is_right_comes_back():
    x = torch.randn(3, 2)
    assert validate.points(x, 2, MODEL) is x
    assert validate.points(x, "D") is x
    assert validate.vectors(x[None], 2)[0].equal(x)
    assert validate.points(x[:0], 2, least=0).shape == (0, 2)
    bytes_ = torch.tensor([[0, 255]], dtype=torch.uint8)
    assert validate.codes(bytes_, 256, 2).tolist() == [[0, 255]]
    assert validate.codes(bytes_, 256).dtype == torch.int64
    assert (
        validate.bits(torch.ones(1, 2, dtype=torch.bool), 2, MODEL).dtype == torch.float32
    )
    assert validate.labels(None, 0, 5) is None
    assert validate.labels(torch.ones(5, dtype=torch.uint8), 2, 5).dtype == torch.int64
    assert validate.count(torch.tensor(3)) == 3
    validate.at_least(1, hidden=(), D=2)


def test_under_autocast_any_real_numbers_will_do():
    x = torch.randn(3, 2).bfloat16()
    with pytest.raises(ValueError, match="x is bfloat16: expected float32"):
        validate.points(x, 2, MODEL)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert validate.points(x, 2, MODEL) is x


class Accelerated(torch.Tensor):
    """A tensor that says it is elsewhere, and fails when its values are looked at."""

    @property
    def device(self):
        return torch.device("cuda")

    def aminmax(self):
        raise AssertionError("looked at the values: a GPU would have to stop for it")


def test_on_a_gpu_values_are_looked_at_only_without_gradients():
    x = torch.tensor([[3, 99]]).as_subclass(Accelerated)
    assert validate.codes(x, 17, 2).shape == (1, 2)
    with torch.no_grad(), pytest.raises(AssertionError, match="looked at the values"):
        validate.codes(x, 17, 2)
    with pytest.raises(ValueError, match=r"expected \(B, 3\)"):  # shapes always
        validate.codes(x, 17, 3)


# Sizes of models --------------------------------------------------------------------------

MAY_BE_0 = {"classes", "blocks", "checkers", "noise_layers", "depth", "halvings"}
NO_SIZE = {"seed"}


def sizes() -> list:
    """Every whole number, or tuple of them, that a constructor of the registries takes."""
    found = []
    for name, example in SWEPT.items():
        made = example.build
        if not isinstance(made, partial) or not inspect.isclass(made.func):
            continue
        bound = inspect.signature(made.func).bind_partial(*made.args, **made.keywords)
        bound.apply_defaults()
        for argument, value in bound.arguments.items():
            whole = all(type(v) is int for v in value) if isinstance(value, tuple) else 0
            if argument not in NO_SIZE and (type(value) is int or (whole and value)):
                found.append(
                    pytest.param(made.func, bound, argument, id=f"{name}, {argument}")
                )
    return found


@pytest.mark.parametrize(("cls", "bound", "argument"), sizes())
def test_sizes_that_no_model_can_have_are_refused(cls, bound, argument):
    given = bound.arguments[argument]
    for wrong in (0, -3, 2.5):
        gaussian = cls in (PlanarFlow, RadialFlow) and argument == "layers"
        plain = cls is UnrolledGAN and argument == "k"  # 0 steps: a plain GAN
        if wrong or not (gaussian or plain or argument in MAY_BE_0):
            changed = (*given[:-1], wrong) if isinstance(given, tuple) else wrong
            bound.arguments[argument] = changed
            with pytest.raises(ValueError, match=f"is {wrong}: expected a whole number"):
                cls(*bound.args, **bound.kwargs)
    bound.arguments[argument] = given
    cls(*bound.args, **bound.kwargs)


@pytest.mark.parametrize(
    "build",
    [
        lambda n: Fixed(steps=n),
        lambda n: LogisticPixels(n),
        lambda n: FiniteScalarQuantiser((4, n)),
        lambda n: VectorQuantiser(n, 2),
        lambda n: VectorQuantiser(4, n),
        lambda n: Quantised(SoftmaxNADE(1, 2), torch.zeros(1), torch.ones(1), bins=n),
        lambda n: VAE(3, latent=2, hidden=(4, n)),
        lambda n: GaussianPixels(n),
    ],
)
def test_sizes_of_parts_too(build):
    for wrong in (0, -3):
        with pytest.raises(ValueError, match=f"is {wrong}: expected"):
            build(wrong)


# Codes, bytes, masks ----------------------------------------------------------------------


def test_bytes_do_not_wrap_and_are_no_masks():
    codes = torch.arange(256)
    bytes_ = codes.to(torch.uint8)
    for decode in (linear_decode, mulaw_decode):
        assert torch.equal(decode(bytes_, 256), decode(codes, 256))
        assert (decode(codes, 256).diff() > 0).all()
    assert torch.equal(split_code(bytes_), split_code(codes))
    small = torch.tensor([[0, 1, 4]])
    book = VectorQuantiser(8, 2)
    assert torch.equal(book.lookup(small.byte()), book.lookup(small))
    assert perplexity(small.byte(), 8) == perplexity(small, 8)
    assert torch.equal(mulaw_encode(mulaw_decode(bytes_)), codes)
    factors = torch.tensor([[1, 3, 2, 7, 5, 4]])
    assert torch.equal(shapes.draw(factors.byte()), shapes.draw(factors))
    a, b = torch.arange(32).repeat(32), torch.arange(32).repeat_interleave(32)
    assert mutual_information(a.byte(), b.byte()) == mutual_information(a, b)
    assert mutual_information(a, b).abs() < 1e-12  # independent; wrapped codes share bits


@pytest.mark.parametrize("wrong", [99, -1, 8])
def test_a_lookup_does_not_wrap(wrong):
    for book in (VectorQuantiser(8, 2), FiniteScalarQuantiser((4, 2))):
        with pytest.raises(ValueError, match="expected codes 0 to 7"):
            book.lookup(torch.tensor([0, wrong]))
    for digits in ([[3, 2]], [[-1, 0]], [[0.5, 0]]):
        with pytest.raises(ValueError, match=r"digits has .*: expected"):
            FiniteScalarQuantiser((4, 2)).code(torch.tensor(digits))
    with pytest.raises(ValueError, match=r"expected \(B, 2\)"):
        FiniteScalarQuantiser((4, 2)).code(torch.tensor([[3, 1, 0]]))


def test_grey_values_out_of_range_are_refused():
    model = VAE(2, latent=2, hidden=(4,), observation=LogisticPixels(17))
    for wrong in (99, -1, 0.5):
        with pytest.raises(ValueError, match="16"):
            model.elbo(torch.tensor([[3.0, wrong]]))
        with pytest.raises(ValueError, match="16"):
            DiscretisedLogistic(torch.zeros(2), torch.zeros(2), 17).log_prob(
                torch.tensor([3.0, wrong])
            )


def test_sound_is_encoded_from_real_numbers():
    """int16 samples would all be cut off at the loudest code."""
    with pytest.raises(ValueError, match="x is int16: expected floating-point"):
        mulaw_encode(torch.tensor([0, 300, -300], dtype=torch.int16))


def test_lists_of_tokens_do_not_count_from_their_end():
    bpe, played = BPE([(97, 98)]), text.Text("a play", "abc", "ab", "c", "a test")
    assert bpe.decode([256, 97]) == b"aba"
    assert played.decode(torch.tensor([0, 2], dtype=torch.uint8)) == "ac"
    for wrong in (-1, 257):
        with pytest.raises(ValueError, match="expected 0 to 256"):
            bpe.decode([97, wrong])
        with pytest.raises(ValueError, match="expected codes 0 to 2"):
            played.decode(torch.tensor([0, wrong]))


def test_bytes_name_examples_they_do_not_mask_them():
    log_q, own = torch.randn(3, 3), torch.arange(3)
    assert torch.equal(log_aggregate(log_q, own.byte(), 9), log_aggregate(log_q, own, 9))
    with pytest.raises(ValueError, match="expected codes 0 to 2"):
        log_aggregate(log_q, own - 1, 9)
    with pytest.raises(ValueError, match="N is 1: expected a whole number, 2 or more"):
        log_aggregate(log_q, own, 1)


# Entries of parts -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "layer", [Affine(2), Planar(2), Radial(2)], ids=lambda v: type(v).__name__
)
@pytest.mark.parametrize("wrong", [torch.randn(2), torch.randn(3, 1), torch.randn(3, 3)])
def test_layers_do_not_broadcast(layer, wrong):
    for entry in (layer, layer.inverse):
        with pytest.raises(ValueError, match=r"expected \(B, 2\)"):
            entry(wrong)


@pytest.mark.parametrize("wrong", [torch.randn(3), torch.randn(4, 1), torch.randn(4, 2)])
def test_actnorm_and_masks_do_not_broadcast(wrong):
    coupling = MaskedCoupling(torch.tensor([1.0, 0, 1]), mlp((3, 4, 6)))
    for layer in (ActNorm(3), coupling):
        for entry in (layer, layer.inverse):
            with pytest.raises(ValueError, match=r"expected \(B, 3\)"):
                entry(wrong)
    images = MaskedCoupling(checkerboard(4, 4), conv_net(2, 4, hidden=4))
    assert images(torch.randn(3, 2, 4, 4))[0].shape == (3, 2, 4, 4)
    with pytest.raises(ValueError, match=r"expected \(B, 1, 4, 4\)"):
        images(torch.randn(3, 2, 4, 1))


def test_a_logit_wants_numbers_between_0_and_1():
    with pytest.raises(ValueError, match=r"from -0\.5 to 2: expected 0 to 1"):
        Logit()(torch.tensor([[-0.5, 2.0]]))
    for alpha in (0.0, -0.1, 0.5):
        with pytest.raises(ValueError, match="alpha is"):
            Logit(alpha)


def test_measures_do_not_broadcast():
    x, log_p = torch.randn(5, 2), torch.randn(5)
    for call in (
        lambda: estimate(log_p[:, None]),
        lambda: estimate(log_p[:1]),
        lambda: kl_to_truth(StandardNormal(2), (x, log_p[:, None])),
    ):
        with pytest.raises(ValueError, match="expected"):
            call()


def test_no_steps_and_no_draws_refine_nothing():
    model, x = VAE(3, latent=2, hidden=(4,)), torch.ones(2, 3)
    for how in ({"steps": 0}, {"draws": 0}, {"draws": -3}):
        with pytest.raises(ValueError, match="expected a whole number, 1 or more"):
            refine(model, x, **how)


def test_a_convolution_is_given_a_batch():
    """torch takes (C, H, W) for a batch of one."""
    for entry in (InvertibleConv(4), InvertibleConv(4).inverse):
        with pytest.raises(ValueError, match=r"expected \(B, 4, H, W\)"):
            entry(torch.randn(4, 2, 2))


def test_a_code_is_decoded_in_its_own_shape():
    model = VAE(3, latent=2, hidden=(4,))
    assert model.decode(torch.randn(5, 4, 2)).sample().shape == (5, 4, 3)
    for wrong in (torch.randn(2), torch.randn(4, 1), torch.randn(4, 3)):
        with pytest.raises(ValueError, match="expected"):
            model.decode(wrong)
    with pytest.raises(ValueError, match=r"x has shape \(4, 1\): expected \(B, 3\)"):
        model.log_likelihood(torch.ones(4, 1), torch.randn(4, 2))
    with pytest.raises(ValueError, match="k is 0: expected a whole number, 1 or more"):
        model.iwae(torch.ones(4, 3), 0)


def test_a_mixture_does_not_broadcast():
    model = Mixture(torch.zeros(2), torch.zeros(2, 3), torch.zeros(2))
    for wrong in (torch.randn(4, 1), torch.randn(3)):
        with pytest.raises(ValueError, match=r"expected \(B, 3\)"):
            model.log_prob(wrong)


def test_what_is_given_to_be_completed_has_to_fit():
    model = PixelCNN((1, 4, 4), 3, features=4, layers=1)
    rows = torch.zeros(2, 1, 2, 4, dtype=torch.int64)
    assert model.sample(2, given=rows.byte())[:, :, :2].eq(0).all()
    for wrong in (rows + 3, rows[:1], rows[..., :3], rows.repeat(1, 1, 3, 1), rows + 0.5):
        with pytest.raises(ValueError, match="expected"):
            model.sample(2, given=wrong)


def test_a_prompt_has_to_fit():
    model = GPT(5, 6, layers=1, heads=1, width=4)
    for wrong in (torch.tensor([5]), torch.tensor([0.5]), torch.zeros(2, 3)):
        with pytest.raises(ValueError, match="expected"):
            model.sample(2, prompt=wrong)
    for wrong in (0, -1, 2.5):
        with pytest.raises(ValueError, match=f"length is {wrong}: expected"):
            model.sample(2, length=wrong)
    assert model.sample(2, prompt=torch.tensor([3.0, 1.0]))[:, :2].tolist() == [[3, 1]] * 2
