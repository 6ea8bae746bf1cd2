"""Sliders without a kernel: drawn ahead, within a budget, and they move in a browser."""

import base64
import io
import json
import random

import matplotlib.pyplot as plt
import nbformat
import numpy as np
import pytest
import torch
from nbformat.v4 import new_code_cell, new_notebook
from PIL import Image

from gdm_course import frames
from gdm_course.chance import set_seeds
from gdm_course.jupyter_display import png
from gdm_course.publishing import browser, execute
from gdm_course.publishing import frames as pages

DRAWN = []


@pytest.fixture(autouse=True)
def no_figure_of_other_tests():
    plt.close("all")


def draw(**values):
    """A bar as high as the first value, in a colour that depends on chance."""
    DRAWN.append(values)
    print("never seen")
    _, ax = plt.subplots(figsize=(2, 1))
    ax.set_title("a bar")
    height = next(iter(values.values()))
    ax.bar([0], height if isinstance(height, int | float) else 1, color=np.random.rand(3))
    ax.set_ylim(0, 100)


def drawn(**sliders):
    DRAWN.clear()
    draw(**{name: frames.start(spec) for name, spec in sliders.items()})
    alt = frames.in_words(plt.gcf())
    return frames.ahead(draw, sliders, png(plt.gcf()), alt)


def pixels(frame):
    image = Image.open(io.BytesIO(base64.b64decode(frame))).convert("RGB")
    return np.asarray(image).astype(float)


@pytest.mark.parametrize(
    ("spec", "most", "labels", "at"),
    [
        ((0, 4, 1), 15, "0 1 2 3 4", "2"),
        ((0.0, 1.0, 0.1, 0.3), 15, "0 0.1 0.2 0.3 0.4 0.5 0.6 0.7 0.8 0.9 1", "0.3"),
        ((0, 100, 1, 3), 5, "0 3 35 68 100", "3"),
        ((0, 100, 1, 99), 4, "0 50 99 100", "99"),
        ((0, 100, 1, 100), 3, "0 50 100", "100"),
        ((1, 8, 3), 15, "1 4 7", "4"),
        (["b", "a", "c"], 15, "b a c", "b"),
        ([5, 4, 3, 2, 1, 0], 3, "5 3 0", "5"),
        (True, 15, "off on", "on"),
    ],
)
def test_a_slider_keeps_its_ends_and_its_start(spec, most, labels, at):
    values, first = frames.scale(spec, most)
    assert " ".join(map(frames.label, values)) == labels
    assert frames.label(values[first]) == at
    assert values[first] == frames.start(spec)


def test_one_slider_has_15_values_two_have_8_and_a_third_stays(monkeypatch):
    one = png(plt.figure(figsize=(1, 1)))
    monkeypatch.setattr(frames, "png", lambda figure: plt.close(figure) or one)
    alone = drawn(x=(0, 100, 1))
    assert [len(s["values"]) for s in alone["sliders"]] == [15]
    assert len(alone["frames"]) == 15
    three = drawn(x=(0, 100, 1), fine_y=(0.0, 1.0, 0.01), z=(0, 9, 1, 6))
    assert [s["name"] for s in three["sliders"]] == ["x", "fine y"]
    assert [len(s["values"]) for s in three["sliders"]] == [8, 8]
    assert len(three["frames"]) == 64
    assert {values["z"] for values in DRAWN} == {6}
    assert "z = 6" in three["caption"]
    assert "a bar" in three["alt"]


def test_frames_are_in_row_major_order_and_the_start_is_the_still_figure():
    payload = drawn(x=(0, 2, 1), y=["p", "q"])
    asked = [(v["x"], v["y"]) for v in DRAWN]
    assert asked[0] == (1, "p")  # the still figure, not drawn again
    assert asked[1:] == [(0, "p"), (0, "q"), (1, "q"), (2, "p"), (2, "q")]
    assert pages.start(payload) == 2
    draw(x=1, y="p")
    still = np.asarray(Image.open(io.BytesIO(png(plt.gcf()))).convert("RGB")).astype(float)
    shown = pixels(payload["frames"][2])
    assert abs(shown - still)[:10].mean() < 3  # the title; the bar's colour is by chance


def test_drawing_ahead_says_nothing_and_leaves_chance_alone(capsys):
    set_seeds(3)
    once = random.random(), np.random.rand(), torch.rand(1).item()
    set_seeds(3)
    draw(x=0)
    set_seeds(3)
    still = png(plt.gcf())
    capsys.readouterr()
    frames.ahead(draw, {"x": (0, 5, 1)}, still, "")
    assert (random.random(), np.random.rand(), torch.rand(1).item()) == once
    assert capsys.readouterr().out == ""
    assert not plt.get_fignums()


def test_every_frame_has_the_size_of_the_largest():
    pictures = []
    for width in (1, 3):
        plt.figure(figsize=(width, 1)).text(0.5, 0.5, "a")
        Image.new("RGB", (width * 40, 50 - width)).save(out := io.BytesIO(), format="PNG")
        pictures.append(out.getvalue())
        plt.close()
    made, width = frames.webp(pictures)
    assert width == 120
    assert {pixels(frame).shape for frame in made} == {(49, 120, 3)}


def test_an_error_says_at_which_values():
    def fragile(x):
        if x > 1:
            raise ValueError("too far")
        draw(x=x)

    fragile(0)
    with pytest.raises(ValueError, match="too far") as caught:
        frames.ahead(fragile, {"x": (0, 3, 1, 0)}, png(plt.gcf()), "")
    assert "x=2" in caught.value.__notes__[0]
    assert not plt.get_fignums()


LECTURE = """
import matplotlib.pyplot as plt
from gdm_course.widgets import play

def draw(x, dark=False):
    plt.subplots(figsize=(2, 1))[1].plot([0, x])
    plt.title("a line")

play(draw, x=(0, 4, 1))
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A notebook with a slider, executed as the site does."""
    path = tmp_path_factory.mktemp("frames") / "a.ipynb"
    python = {"kernelspec": {"name": "python3", "display_name": "Python 3"}}
    nbformat.write(
        new_notebook(cells=[new_code_cell(LECTURE, id="a")], metadata=python), path
    )
    done = execute.execute(path, execute.environment(CI="true", GDM_FRAMES="1"))
    assert done.error is None
    return done


def outputs(notebook):
    return notebook.cells[0].outputs


def test_play_leaves_frames_beside_its_still_figure(run):
    (output,) = outputs(run.notebook)
    assert output.data["image/png"]
    payload = output.data[frames.MIME]
    assert {*payload} >= {"sliders", "frames", "caption", "alt"}
    assert payload["sliders"] == [{"name": "x", "values": list("01234"), "start": 2}]
    assert len({*payload["frames"]}) == 5
    assert payload["alt"] == "a line"
    (shown,) = outputs(pages.moving(run.notebook))
    assert "<figure" in shown.data["text/html"]
    assert frames.MIME not in shown.data
    assert outputs(run.notebook)[0].data[frames.MIME], "the copy changed the original"


def test_ordinary_runs_are_not_told_to_draw_ahead(monkeypatch):
    monkeypatch.setenv("GDM_FRAMES", "1")
    assert "GDM_FRAMES" not in execute.environment(smoke=True)


def noisy(n, width):
    """Pictures that compress badly, each a little brighter than the one before."""
    rng = np.random.default_rng(0)
    many = [rng.integers(5 * i, 5 * i + 99, (200, width, 3), np.uint8) for i in range(n)]
    return [frames.encoded(Image.fromarray(one)) for one in many]


def test_too_large_frames_get_smaller_then_fewer_and_keep_their_start():
    sliders = [
        {"name": "a", "values": list("01234567"), "start": 5},
        {"name": "b", "values": ["p", "q"], "start": 1},
    ]
    made = noisy(16, 900)
    payload = {"sliders": sliders, "frames": made, "width": 900, "caption": "", "alt": ""}
    cell = new_code_cell("", id="a")
    cell.outputs = [nbformat.v4.new_output("display_data", {frames.MIME: payload})]
    book = new_notebook(cells=[cell])
    assert pages.fit(book, 1e9) is None
    assert payload["frames"] == made
    whole = len(json.dumps(book))
    smaller = outputs(book)[0].data[frames.MIME]
    assert "frames made smaller" in pages.fit(book, whole * 0.6)
    assert (len(smaller["frames"]), smaller["width"]) == (16, 675)
    assert pages.fit(book, whole / 12)
    assert len(json.dumps(book)) < whole / 12
    at = smaller["sliders"][0]["start"]
    assert smaller["sliders"][0]["values"][at] == "5"
    kept = [int(v) for v in smaller["sliders"][0]["values"]]
    assert len(smaller["frames"]) == 2 * len(kept) < 16
    now = pixels(smaller["frames"][pages.start(smaller)])
    nearest = min(range(16), key=lambda i: abs(pixels(made[i]).mean() - now.mean()))
    assert nearest == 5 * 2 + 1  # 5 and q


@pytest.fixture(scope="module")
def payload():
    """Frames of two sliders, each in one colour that tells its number."""
    numbers = range(6)
    plain = [Image.new("RGB", (60, 40), (40 * i, 255 - 40 * i, 99)) for i in numbers]
    sliders = [
        {"name": "a", "values": ["u", "v", "w"], "start": 1},
        {"name": "b <b>", "values": ["p", "</script>"], "start": 0},
    ]
    made = [frames.encoded(image) for image in plain]
    alt = {"caption": "Move & see.", "alt": 'a "patch"', "width": 60}
    return {"sliders": sliders, "frames": made, **alt}


RED = """image => {
  const canvas = document.createElement("canvas");
  return image.decode().then(() => {
    canvas.getContext("2d").drawImage(image, 0, 0);
    return canvas.getContext("2d").getImageData(5, 5, 1, 1).data[0];
  });
}"""


def number(box):
    """Which frame a reader sees."""
    return round(box.locator("img:visible").evaluate(RED) / 40)


@pytest.mark.browser
@pytest.mark.skipif(not browser.chromium(), reason="no chromium found on PATH")
def test_sliders_move_pictures_in_a_browser(payload, tmp_path):
    other = {**payload, "alt": "another"}
    text = pages.html(payload) + pages.html(payload) + pages.html(other)
    (tmp_path / "page.html").write_text(f"<!doctype html><body>{text}", encoding="utf-8")
    with browser.page() as (view, log):
        view.goto((tmp_path / "page.html").as_uri())
        boxes = view.locator("figure").all()
        assert [number(box) for box in boxes] == [2, 2, 2]
        boxes[1].locator("input").first.focus()
        view.keyboard.press("ArrowRight")
        assert [number(box) for box in boxes] == [2, 4, 2]
        view.keyboard.press("Tab")  # the next slider
        view.keyboard.press("End")
        assert number(boxes[1]) == 5
        assert boxes[1].locator("output").all_inner_texts() == ["w", "</script>"]
        image = boxes[1].locator("img:visible")
        assert image.get_attribute("alt") == 'a "patch" (a = w, b <b> = </script>)'
        boxes[2].locator("input").first.fill("0")
        assert [number(box) for box in boxes] == [2, 5, 0]
        view.emulate_media(media="print")
        assert [number(box) for box in boxes] == [2, 2, 2]
        assert not view.locator("input:visible").count()
    assert not log.errors
    assert not log.outside


@pytest.mark.browser
@pytest.mark.skipif(not browser.chromium(), reason="no chromium found on PATH")
def test_without_a_script_the_start_stands_alone(payload, tmp_path):
    page = pages.html(payload).replace("<script>", '<script type="text/none">')
    (tmp_path / "page.html").write_text(f"<!doctype html><body>{page}", encoding="utf-8")
    with browser.page() as (view, log):
        view.goto((tmp_path / "page.html").as_uri())
        assert number(view.locator("figure")) == 2
        assert not view.locator("input:visible").count()
    assert not log.errors
