"""Schematics: true shapes, nothing on top of anything else, everything said in words."""

import base64
import cProfile
import io
import re
import subprocess
import sys
from functools import cache
from itertools import combinations, pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.transforms import Bbox
from PIL import Image

from gdm_course import schematics
from gdm_course.autoregressive.gated_pixelcnn import GatedPixelCNN
from gdm_course.autoregressive.gpt import GPT
from gdm_course.autoregressive.made import MADE
from gdm_course.autoregressive.wavenet import WaveNet
from gdm_course.autoregressive.wavernn import WaveRNN
from gdm_course.flows import realnvp
from gdm_course.flows.adjoint import Adjoint
from gdm_course.flows.continuous import ContinuousFlow
from gdm_course.flows.dequantisation import DequantisedGlow
from gdm_course.flows.glow import Glow
from gdm_course.flows.maf import IAF, MAF
from gdm_course.flows.ode import Fixed, rk4_step
from gdm_course.flows.realnvp import NICE, RealNVP
from gdm_course.flows.tarflow import TarFlow
from gdm_course.publishing import browser
from gdm_course.schematics.layout import framed, laid_out
from gdm_course.schematics.parts import spoken
from gdm_course.vae.beta_vae import BetaVAE
from gdm_course.vae.quantise import VectorQuantiser
from gdm_course.vae.vae import VAE
from gdm_course.vae.vqvae import VQVAE

B = 3


def points(D):
    return torch.randn(B, D)


def codes(*shape, K=16):
    return torch.randint(0, K, (B, *shape))


def coupling(D):
    return schematics.coupling(RealNVP(D, hidden=8).layers[1], points(D))


def coupling_inverse(D):
    return schematics.coupling_inverse(RealNVP(D, hidden=8).layers[2], points(D))


def additive(D):
    return schematics.coupling(NICE(D, hidden=8).layers[1], points(D))


def additive_inverse(D):
    return schematics.coupling_inverse(NICE(D, hidden=8).layers[1], points(D))


def scales(size):
    glow = Glow((1, size, size), scales=3, steps=2, hidden=4, checkers=2)
    return schematics.scales(glow, torch.rand(B, 1, size, size))


def few_scales(size):
    glow = Glow((3, size, size), scales=2, steps=1, hidden=4)
    return schematics.scales(glow, torch.rand(B, 3, size, size))


def dequantisation(size):
    model = DequantisedGlow((1, size, size), 16, hidden=4, steps=1)
    return schematics.dequantisation(model, codes(1, size, size))


def learned_noise(size):
    shape = (3, size, size)
    model = DequantisedGlow(shape, 16, hidden=4, noise_layers=2, noise_hidden=4)
    return schematics.dequantisation(model, codes(*shape))


def gated_stacks(features):
    model = GatedPixelCNN((1, 8, 8), 16, features=features)
    return schematics.gated_stacks(model, codes(1, 8, 8))


def gated_labels(features):
    model = GatedPixelCNN((3, 8, 8), 16, features=features, classes=4)
    return schematics.gated_stacks(model, codes(3, 8, 8), codes(K=4))


def masked_network(D):
    return schematics.masked_network(MADE(D, hidden=(6,)), codes(D, K=2).float())


def masked_layers(D):
    model = MADE(D, hidden=(8, 7), orders=2)
    return schematics.masked_network(model, codes(D, K=2).float())


def dilated_stack(channels):
    return schematics.dilated_stack(WaveNet(16, channels=channels), codes(20))


def dilated_labels(channels):
    model = WaveNet(16, channels=channels, classes=4)
    return schematics.dilated_stack(model, codes(20), codes(K=4))


def dilated_tree(blocks):
    model = WaveNet(16, channels=4, dilations=[2**k for k in range(blocks)])
    return schematics.dilated_tree(model, codes(20))


def two_halves(hidden):
    return schematics.two_halves(WaveRNN(hidden=hidden), codes(9, K=65536))


def transformer(width):
    return schematics.transformer(GPT(65, 20, width=width, layers=2), codes(12))


def shifted_input(t):
    return schematics.shifted_input(GPT(65, 20, width=8, layers=2), codes(t))


def vae(latent):
    return schematics.vae(VAE(20, latent=latent), codes(20, K=2).float())


def vae_priced(latent):
    return schematics.vae(BetaVAE(20, latent=latent), codes(20, K=2).float())


def vqvae(halvings):
    model = VQVAE((1, 8, 8), features=8, halvings=halvings)
    return schematics.vqvae(model, codes(1, 8, 8, K=2).float())


def passes_maf(D):
    return schematics.passes(MAF(D, layers=2, hidden=(9,)), points(D))


def passes_iaf(D):
    return schematics.passes(IAF(D, layers=2, hidden=(9,)), points(D))


def patches(side):
    sizes = {"width": 8, "depth": 1, "heads": 2, "classes": 4}
    layer = TarFlow((1, side, side), **sizes).layers[0]
    return schematics.patches(layer, torch.randn(B, 1, side, side), codes(K=4))


def adjoint(D):
    flow = ContinuousFlow(D, hidden=8, solver=Adjoint(Fixed(rk4_step, 2)))
    return schematics.adjoint(flow, points(D))


# Two sizes of every model, and words that are in the drawing of the one and not the other.
CASES = {
    coupling: (4, "(B, 2)", 6, "(B, 3)"),
    coupling_inverse: (4, "(B, 2)", 6, "(B, 3)"),
    additive: (4, "(B, 2)", 6, "(B, 3)"),
    additive_inverse: (4, "(B, 2)", 6, "(B, 3)"),
    scales: (8, "(B, 16, 1, 1)", 16, "(B, 16, 2, 2)"),
    few_scales: (4, "(B, 24, 1, 1)", 8, "(B, 24, 2, 2)"),
    dequantisation: (4, "(B, 1, 4, 4)", 8, "(B, 1, 8, 8)"),
    learned_noise: (4, "(B, 3, 4, 4)", 8, "(B, 3, 8, 8)"),
    passes_maf: (3, "z to x in 3 steps", 4, "z to x in 4 steps"),
    passes_iaf: (3, "x to z in 3 steps", 4, "x to z in 4 steps"),
    patches: (4, "(B, 4, 4)", 6, "(B, 9, 4)"),
    adjoint: (2, "(B, 2)", 4, "(B, 4)"),
    masked_network: (4, "(6, 4)", 6, "(6, 6)"),
    masked_layers: (4, "(B, 4, 1)", 6, "(B, 6, 1)"),
    gated_stacks: (4, "(B, 4, 8, 8)", 6, "(B, 12, 8, 8)"),
    gated_labels: (6, "(B, 6, 8, 8)", 12, "(B, 24, 8, 8)"),
    dilated_stack: (8, "(B, 20, 8)", 12, "(B, 20, 24)"),
    dilated_labels: (8, "(B, 20, 8)", 12, "(B, 20, 24)"),
    dilated_tree: (3, "8 inputs reach one", 4, "16 inputs reach one"),
    two_halves: (8, "(B, 9, 4)", 12, "(B, 9, 6)"),
    transformer: (8, "(B, 11, 8)", 16, "(B, 11, 16)"),
    shifted_input: (3, "(B, 3, 8)", 5, "(B, 5, 8)"),
    vae: (4, "(B, 4)", 6, "(B, 6)"),
    vae_priced: (4, "(B, 4)", 6, "(B, 6)"),
    vqvae: (1, "(B, 4, 4)", 2, "(B, 2, 2)"),
}


@cache
def drawn(draw, size):
    """A drawing and its figure; the tests below only look at them."""
    drawing = draw(size)
    return drawing, drawing.figure()


every = pytest.mark.parametrize("draw", CASES, ids=lambda draw: draw.__name__)


def written(figure):
    """All that can be read in a figure, without the marks of mathematics."""
    return "; ".join(spoken(text.get_text()) for text in figure.axes[0].texts)


@every
def test_it_says_the_sizes_of_the_model_that_is_drawn(draw):
    small, its_words, large, other_words = CASES[draw]
    first, second = (written(drawn(draw, size)[1]) for size in (small, large))
    assert its_words in first
    assert its_words not in second
    assert other_words in second
    assert other_words not in first


def rectangles(figure):
    """The texts of a figure with their rectangles in pixels, as the renderer has them."""
    renderer = figure.canvas.get_renderer()
    texts = [text for text in figure.axes[0].texts if text.get_text()]
    return {text: text.get_window_extent(renderer) for text in texts}


def overlap(a, b):
    """Whether two rectangles share more than a seam."""
    shared = Bbox.intersection(a, b)
    return shared is not None and shared.width > 0.5 and shared.height > 0.5


def clashes(drawing, figure):
    """What lies on top of what: texts on texts, lines through texts or other boxes."""
    texts = rectangles(figure)
    found = [
        f"{a.get_text()!r} on {b.get_text()!r}"
        for a, b in combinations(texts, 2)
        if overlap(texts[a], texts[b])
    ]
    ax, layout = figure.axes[0], laid_out(drawing)
    for arrow in drawing.arrows:
        path = np.array(layout.path(arrow))
        for start, end in pairwise(path):
            line = np.linspace(start, end, 200)
            for text, box in texts.items():
                if box.padded(-0.5).count_contains(ax.transData.transform(line)):
                    found.append(f"{arrow.words()} through {text.get_text()!r}")
            for box in {*drawing.boxes} - {arrow.start, arrow.end}:
                left, top, right, bottom = layout.extent(box)
                if Bbox.from_extents(left, top, right, bottom).count_contains(line):
                    found.append(f"{arrow.words()} through the box {box.text!r}")
    for frame in drawing.frames:
        left, top, right, bottom = framed(layout, frame)
        corners = [(left, top), (right, top), (right, bottom), (left, bottom), (left, top)]
        for start, end in pairwise(corners):
            line = ax.transData.transform(np.linspace(start, end, 200))
            for text, box in texts.items():
                if box.count_contains(line):
                    found.append(f"the frame {frame.text!r} through {text.get_text()!r}")
    for a, b in combinations(drawing.boxes, 2):
        if overlap(*(Bbox.from_extents(*layout.extent(box)) for box in (a, b))):
            found.append(f"the box {a.text!r} on {b.text!r}")
    return found


@every
def test_nothing_lies_on_top_of_anything_else(draw):
    small, _, large, _ = CASES[draw]
    for size in (small, large):
        assert clashes(*drawn(draw, size)) == []


@every
def test_it_is_legible_where_a_page_has_900_pixels(draw):
    _, figure = drawn(draw, CASES[draw][2])
    shrunk = min(1, 900 / (figure.get_size_inches()[0] * 110))
    smallest = min(text.get_size() for text in figure.axes[0].texts)
    assert smallest / 72 * 110 * shrunk > 10.5  # pixels


@every
def test_the_words_name_every_box_and_every_arrow(draw):
    drawing, figure = drawn(draw, CASES[draw][0])
    for text in figure.axes[0].texts:
        for line in text.get_text().split("\n"):
            assert spoken(line) in drawing.alt
    for arrow in drawing.arrows:
        assert arrow.plain or arrow.words() in drawing.alt
    assert not re.search(r"[\n$\\{}]", drawing.alt)


def test_the_tests_above_would_notice():
    drawing = schematics.Drawing("Two boxes on each other, and a line through a third")
    a, _b, c = (drawing.box(name, (k, 0)) for k, name in enumerate("abc"))
    drawing.arrow(a, c)
    drawing.box("d", (0.1, 0))
    found = clashes(drawing, drawing.figure())
    assert "'a' on 'd'" in found
    assert "a to c through the box 'b'" in found


def test_a_notebook_gets_a_picture_that_speaks():
    drawing = coupling(4)
    data, metadata = drawing._repr_mimebundle_()
    alt, source = re.search(r'alt="([^"]*)" src="data:([^"]*)"', data["text/html"]).groups()
    assert alt == drawing.alt == data["text/plain"] == metadata["image/png"]["alt"]
    kind, svg = source.split(";base64,")
    assert kind == "image/svg+xml"
    assert b"<svg" in base64.b64decode(svg)
    assert base64.b64decode(data["image/png"]).startswith(b"\x89PNG")
    again, _ = drawing._repr_mimebundle_()
    assert again == data  # executed notebooks can be compared


def test_only_a_batch_is_called_b():
    vqvae = VQVAE((1, 8, 8), features=8, quantiser=VectorQuantiser(B, 5))
    drawing = schematics.vqvae(vqvae, codes(1, 8, 8, K=2).float())
    assert f"codebook, ({B}, 5):" in drawing.alt
    made = MADE(5, hidden=(B,))
    made.log_prob(codes(5, K=2).float())  # has made its masks, and kept them
    drawing = schematics.masked_network(made, codes(5, K=2).float())
    assert f"mask, white = 1, ({B}, 5):" in drawing.alt


def test_what_cannot_be_drawn_says_what_can():
    with pytest.raises(ValueError, match="a layer has 500 units: draw a small MADE"):
        schematics.masked_network(MADE(4), codes(4, K=2).float())
    with pytest.raises(ValueError, match="sees 256 inputs: draw a small WaveNet"):
        schematics.dilated_tree(WaveNet(16), codes(20))
    with pytest.raises(ValueError, match="x has 9 dimensions: draw a flow of at most 4"):
        schematics.passes(MAF(9, layers=1), points(9))
    with pytest.raises(ValueError, match=r"solver is DormandPrince.*expected an Adjoint"):
        schematics.adjoint(ContinuousFlow(2), points(2))


def test_a_shape_cannot_be_made_up():
    drawing = schematics.Drawing("false")
    a, b = drawing.box("a", (0, 0)), drawing.box("b", (1, 0))
    with pytest.raises(TypeError, match="read off a tensor, not off a tuple"):
        drawing.arrow(a, b, "", (3, 4))
    with pytest.raises(ValueError, match="expected one of tensor, network"):
        drawing.box("c", (2, 0), "cloud")
    assert len(drawing.boxes) == 2
    assert not drawing.arrows


def test_drawing_changes_neither_the_model_nor_chance():
    model = DequantisedGlow((1, 4, 4), 16, hidden=4, steps=1).train()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    state = torch.get_rng_state()
    schematics.dequantisation(model, torch.zeros(B, 1, 4, 4, dtype=torch.long))
    assert torch.equal(state, torch.get_rng_state())
    assert model.training
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert sys.getprofile() is None


def test_a_model_that_a_notebook_defines_itself_is_drawn_too():
    cell = Path(realnvp.__file__).read_text(encoding="utf-8")
    notebook = {"__name__": "__main__"}
    exec(compile(cell, "/tmp/ipykernel_1/1.py", "exec"), notebook)
    layer = notebook["RealNVP"](4, hidden=8).layers[1]
    assert type(layer) is not realnvp.AffineCoupling
    assert schematics.coupling(layer, points(4)).alt == coupling(4).alt


@pytest.mark.browser
@pytest.mark.skipif(not browser.chromium(), reason="no chromium found on PATH")
def test_a_browser_shows_the_picture_on_a_dark_page_and_reads_it_out(tmp_path):
    drawing, page = coupling(4), tmp_path / "page.html"
    page.write_text(f"<body style='background:#111'>{drawing.html()}", encoding="utf-8")
    with browser.page() as (view, log):
        view.goto(page.as_uri())
        image = view.get_by_role("img", name=drawing.alt, exact=True)
        assert (
            image.evaluate("image => image.decode().then(() => image.naturalWidth)") > 500
        )
        shot = Image.open(io.BytesIO(view.screenshot(clip=image.bounding_box())))
    grey = np.asarray(shot.convert("L"))
    assert (grey > 250).mean() > 0.8  # a white card
    assert not log.errors


def test_a_trace_leaves_a_profiler_at_work():
    profile = cProfile.Profile()
    with profile:
        schematics.trace(torch.add, points(2), 1)
        spoken("x")
    assert any(entry.code is spoken.__code__ for entry in profile.getstats())


def test_a_trace_knows_variables_and_says_what_ran():
    layer, x = RealNVP(4, hidden=8).layers[1], points(4)
    seen = schematics.trace(layer, x)
    call = seen.first(layer)
    assert torch.equal(call.given["x"], x)
    assert torch.equal(call["a"], x[:, :2])
    assert seen.first("bounded").result is call["s"]
    assert seen.first(layer.shift_and_scale).result[1] is call["s"]
    with pytest.raises(LookupError, match=r"never ran inverse; it ran .*shift_and_scale"):
        seen.first("inverse")
    with pytest.raises(KeyError, match="has no variable w; it has self, x, a, b"):
        call["w"]


def test_the_package_alone_loads_no_matplotlib():
    code = "import gdm_course, sys; print('matplotlib' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "False"
