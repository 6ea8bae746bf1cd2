"""The page on which readers draw a cloud: its formula is the course's, and it works."""

import json
import math
import re
import shutil
import subprocess
from itertools import pairwise

import pytest
import torch

from gdm_course.diffusion.ddim import ddim_step
from gdm_course.diffusion.mixture import MixtureDenoiser
from gdm_course.diffusion.schedule import Schedule
from gdm_course.publishing import browser, site
from gdm_course.source import ROOT

FOLDER = ROOT / "docs" / "field"
PAGE = FOLDER / "field.html"


def javascript(expression: str) -> object:
    """What field.js says, in node if there is one, else in a browser."""
    if node := shutil.which("node"):
        script = (
            f"Object.assign(globalThis, require({json.dumps(str(FOLDER / 'field.js'))}));"
        )
        script += f"console.log(JSON.stringify({expression}))"
        done = subprocess.run(
            [node, "-e", script], capture_output=True, text=True, check=True
        )
        return json.loads(done.stdout)
    if not browser.chromium():
        pytest.skip("neither node nor chromium")
    with browser.page() as (view, _):
        view.goto(PAGE.as_uri())
        return view.evaluate(expression)


def test_the_page_says_what_the_mixture_denoiser_says():
    g = torch.Generator().manual_seed(0)
    means = torch.randn(12, 2, generator=g).double()
    x = 2 * torch.randn(40, 2, generator=g).double()
    x[0] = 300.0  # far out, where every exponential is 0
    log_snr = torch.linspace(-8, 12, 40).double()
    for width in (0.0, 0.3):
        wanted = MixtureDenoiser(means, width)(x, log_snr)
        asked = json.dumps([*zip(x.tolist(), log_snr.tolist())])
        said = javascript(
            f"{asked}.map(([x, l]) => denoise({means.tolist()}, {width}, x, l))"
        )
        torch.testing.assert_close(
            torch.tensor(said).double(), wanted, rtol=1e-6, atol=1e-6
        )


def test_a_jump_is_ddim_without_noise():
    x, clean = torch.tensor([[0.7, -1.2]]).double(), torch.tensor([[0.3, 0.9]]).double()
    log_snr = torch.tensor([3.0, -1.0]).double()
    schedule = Schedule(torch.cat([torch.ones(1).double(), log_snr.sigmoid()]))
    wanted = ddim_step(x, clean, 1, 2, schedule, eta=0.0)
    said = javascript(f"jump({x[0].tolist()}, {clean[0].tolist()}, -1, 3)")
    torch.testing.assert_close(torch.tensor([said]).double(), wanted, rtol=1e-6, atol=1e-6)


def test_levels_are_equal_steps_of_the_angle_and_samples_end_on_points():
    said = javascript("levels(50)")
    alpha = [math.sqrt(1 / (1 + math.exp(-level))) for level in said]
    gaps = [math.acos(a) - math.acos(b) for a, b in pairwise(alpha)]
    assert abs(said[0] + 8) < 1e-6
    assert abs(said[-1] - 12) < 1e-6
    assert max(gaps) - min(gaps) < 1e-6
    walk = "levels(200).slice(1).reduce(([x, l], m) => [step(p, 0, x, l, m), m]"
    ends = javascript(f"(p => {walk}, [[[0.3, 0.2], [-1, 2]], -8])[0])([[-1, 0], [1, 0]])")
    near = [min(math.dist(x, m) for m in ((-1, 0), (1, 0))) for x in ends]
    assert max(near) < 0.02


def test_the_page_asks_nobody_and_the_front_page_leads_to_it():
    text = "".join(path.read_text(encoding="utf-8") for path in FOLDER.iterdir())
    assert not re.search(r"https?://|@import|fetch\(|eval\(", text)
    assert "_static/field.html" in site.index(site.load(ROOT))


def test_every_control_has_a_name():
    text = PAGE.read_text(encoding="utf-8")
    inputs = re.findall(r'<input id="(\w+)"', text)
    assert inputs
    assert all(f'<label for="{name}">' in text for name in inputs)
    assert re.search(r"<canvas[^>]*tabindex[^>]*aria-label", text, re.DOTALL)
    assert 'name="viewport"' in text


@pytest.mark.browser
@pytest.mark.skipif(not browser.chromium(), reason="no chromium found on PATH")
@pytest.mark.parametrize("width", [360, 1100])
def test_keys_draw_and_samples_arrive(width):
    with browser.page(width=width) as (view, log):
        view.emulate_media(reduced_motion="reduce")
        view.goto(PAGE.as_uri())
        assert view.evaluate("document.documentElement.scrollWidth") <= width
        view.click("#clear")
        view.focus("#plane")
        for key in ("ArrowRight", "ArrowRight", "Enter", "ArrowUp", "Enter"):
            view.keyboard.press(key)
        assert len(view.evaluate("state.points")) == 2
        view.click("#plane", position={"x": 40, "y": 40})
        assert view.inner_text("#status") == "3 points"
        view.click("#run")
        assert float(view.get_attribute("#plane", "data-distance")) < 0.05
        assert "250 samples have arrived" in view.inner_text("#status")
    assert not log.errors
    assert not log.outside


@pytest.mark.browser
@pytest.mark.skipif(not browser.chromium(), reason="no chromium found on PATH")
def test_nothing_breaks_it():
    with browser.page() as (view, log):
        view.goto(PAGE.as_uri())
        for button, said in (("#clear", "no points: draw some"), ("#ring", "24 points")):
            view.click("#three")
            view.click("#run")
            view.click(button)  # while samples are on their way
            assert view.evaluate("[state.run, state.samples.length]") == [None, 0]
            assert view.inner_text("#status") == said
        view.click("#clear")
        view.click("#run")
        assert view.inner_text("#status") == "Draw some points first."
        view.click("#plane", button="right")
        box = view.locator("#plane").bounding_box()
        view.mouse.move(box["x"] - 5, box["y"] + 50)
        view.mouse.down()  # outside, and then across
        view.mouse.move(box["x"] + 90, box["y"] + 50)
        view.mouse.up()
        assert view.evaluate("state.points.length") == 0
        view.mouse.move(box["x"] + 40, box["y"] + 40)
        view.mouse.down()
        view.mouse.move(box["x"] + 240, box["y"] + 40)  # one fast jump: no gap in the line
        view.mouse.move(box["x"] + 900, box["y"] + 2000)  # and out of the picture
        view.mouse.up()
        points = view.evaluate("state.points")
        assert len(points) > 15
        assert max(abs(v) for point in points for v in point) <= 3.2
        assert max(math.dist(a, b) for a, b in pairwise(points)) < 0.2
    assert not log.errors
