"""Schematics: true shapes, nothing on top of anything else, everything said in words."""

import base64
import re
import subprocess
import sys
from functools import cache
from itertools import combinations, pairwise

import numpy as np
import pytest
import torch
from matplotlib.transforms import Bbox

from gdm_course import schematics
from gdm_course.autoregressive.gated_pixelcnn import GatedPixelCNN
from gdm_course.flows.dequantisation import DequantisedGlow
from gdm_course.flows.glow import Glow
from gdm_course.flows.realnvp import NICE, RealNVP
from gdm_course.schematics.layout import laid_out
from gdm_course.schematics.parts import spoken

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


# Two sizes of every model, and a shape that is in the drawing of the one and not the other.
CASES = {
    coupling: (4, "(B, 2)", 6, "(B, 3)"),
    coupling_inverse: (4, "(B, 2)", 6, "(B, 3)"),
    additive: (4, "(B, 2)", 6, "(B, 3)"),
    additive_inverse: (4, "(B, 2)", 6, "(B, 3)"),
    scales: (8, "(B, 16, 1, 1)", 16, "(B, 16, 2, 2)"),
    few_scales: (4, "(B, 24, 1, 1)", 8, "(B, 24, 2, 2)"),
    dequantisation: (4, "(B, 1, 4, 4)", 8, "(B, 1, 8, 8)"),
    learned_noise: (4, "(B, 3, 4, 4)", 8, "(B, 3, 8, 8)"),
    gated_stacks: (4, "(B, 8, 8, 8)", 6, "(B, 12, 8, 8)"),
    gated_labels: (6, "(B, 12, 8, 8)", 12, "(B, 24, 8, 8)"),
}


@cache
def drawn(draw, size):
    """A drawing and its figure; the tests below only look at them."""
    drawing = draw(size)
    return drawing, drawing.figure()


SHAPE = re.compile(r"\([B\d, ]*\)")
every = pytest.mark.parametrize("draw", CASES, ids=lambda draw: draw.__name__)


def written(figure):
    """All shapes that can be read in a figure."""
    texts = figure.axes[0].texts
    return {part for text in texts for part in SHAPE.findall(text.get_text())}


@every
def test_shapes_are_those_of_the_model_that_is_drawn(draw):
    small, its_shape, large, other_shape = CASES[draw]
    first, second = (written(drawn(draw, size)[1]) for size in (small, large))
    assert its_shape in first
    assert other_shape in second
    assert other_shape not in first


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
def test_the_words_name_every_box_and_every_shape(draw):
    drawing, figure = drawn(draw, CASES[draw][0])
    for box in drawing.boxes:
        assert spoken(box.text) in drawing.alt
    for shape in written(figure):
        assert shape in drawing.alt
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


def test_a_trace_knows_variables_and_says_what_ran():
    layer, x = RealNVP(4, hidden=8).layers[1], points(4)
    seen = schematics.trace(layer, x)
    call = seen.first(layer)
    assert torch.equal(call.given["x"], x)
    assert torch.equal(call["a"], x[:, :2])
    assert seen.first("bounded").result is call["s"]
    with pytest.raises(LookupError, match=r"never ran inverse; it ran .*shift_and_scale"):
        seen.first("inverse")
    with pytest.raises(KeyError, match="has no variable w; it has self, x, a, b"):
        call["w"]


def test_the_package_alone_loads_no_matplotlib():
    code = "import gdm_course, sys; print('matplotlib' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "False"
