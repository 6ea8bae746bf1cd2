"""Decks: what stands on a slide, what the lecturer says, and that all of it can be read."""

import base64
import io
import re

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from PIL import Image

from gdm_course.frames import MIME
from gdm_course.publishing import (
    assets,
    browser,
    deck,
    excerpt,
    execute,
    prose,
    shown,
    slides,
)
from gdm_course.publishing.slide import Slide
from gdm_course.source import ROOT

LECTURES = execute.notebooks("lectures")
READY = "body[data-set]"


def saved(image) -> bytes:
    file = io.BytesIO()
    image.save(file, "png")
    return file.getvalue()


def png(width: int, height: int) -> str:
    return base64.b64encode(saved(Image.new("RGB", (width, height), "#0b6fb8"))).decode()


def text(source: str, *tags: str):
    return new_markdown_cell(source, metadata={"tags": [*tags]})


def code(source: str, *tags: str, picture=None, says=""):
    outputs = [new_output("display_data", data={"image/png": picture})] if picture else []
    outputs += [new_output("stream", name="stdout", text=says)] if says else []
    return new_code_cell(source, metadata={"tags": [*tags]}, outputs=outputs)


def made(*cells, further: bool = False) -> list[Slide]:
    return deck.slides(new_notebook(cells=[*cells]), further)


QUOTED = '''class A:
    """One line.

    Args:
        x: and many more.
    """

    def f(self, x):
        """Short."""
        return x'''


def test_a_slide_has_a_heading_few_words_an_equation_and_a_figure():
    story = "Here is the point. Here is more of it.\n\n$$x = 1 \\tag{1}$$\n\nAnd so on."
    slide, *others = made(text(f"## The idea\n\n{story}"), code("f()", picture=png(30, 10)))
    assert not others
    assert slide.heading == "The idea"
    assert slide.words == "Here is the point. Here is more of it."
    assert slide.equation == "$$x = 1 \\tag{1}$$"
    assert "data:image/png" in slide.figure.html
    assert not slide.code
    assert slide.notes == ["And so on."]


def test_the_second_equation_figure_or_definition_gets_a_slide_of_its_own():
    two = made(text("## A\n\nOne.\n\n$$a$$\n\nTwo.\n\n$$b$$"))
    assert [(s.words, s.equation) for s in two] == [("One.", "$$a$$"), ("Two.", "$$b$$")]
    cells = code("f()", picture=png(9, 3)), code(QUOTED, "from:a.A")
    two = made(text("## A\n\nOne."), *cells)
    assert [bool(s.figure) for s in two] == [True, False]
    assert two[1].code.startswith("class A:")


def test_what_stands_before_any_heading_is_no_trouble():
    (slide,) = made(text("Words."), code("f()", picture=png(9, 3)))
    assert (slide.words, bool(slide.figure)) == ("Words.", True)
    assert made(code("x = 1")) == []


def test_a_list_under_its_heading_is_shown_in_slides_of_few_words():
    points = "\n".join(f"- Point {i} {'word ' * 12}." for i in range(5))
    found = made(text(f"## Summary\n\n{points}"))
    assert [s.words.count("Point") for s in found] == [2, 2, 1]
    assert all(prose.count(s.words) <= prose.WORDS for s in found)


def test_setup_imports_and_folded_source_do_not_appear_but_folded_figures_do():
    cells = [
        code("import torch"),
        code("x = 1", "setup"),
        code("def draw(): pass", "hide-input", picture=png(9, 3)),
    ]
    (slide,) = made(text("## A\n\nWords."), *cells)
    assert slide.figure
    assert not slide.code


def test_the_mark_chooses_the_sentence_and_long_ones_are_broken_off():
    assert (
        prose.gist(["First. <!-- slide -->The point, $a. B$. Last."])
        == "The point, $a. B$."
    )
    long = "Before a comma there are nine words in this sentence, " + "and on it goes " * 20
    said = prose.gist([long])
    assert said == "Before a comma there are nine words in this sentence …"
    assert prose.count(prose.gist(["word " * 90])) <= prose.WORDS


def test_points_in_formulas_names_and_abbreviations_end_no_sentence():
    text = "By D. P. Kingma et al. (2014), e.g. `a. B`, $x. Y$ holds. So it *ends.* Then?"
    assert [s[:6] for s in prose.sentences(text)] == ["By D. ", "So it ", "Then?"]
    assert prose.sentences("1. **A step** is one. More.")[0] == "1. **A step** is one."


def test_questions_hide_their_answers_in_the_notes():
    asked = (
        "**Question 1.** Is it?\n\n<details><summary>Answer</summary>\n\nNo.\n</details>"
    )
    first, then = made(text(f"## A\n\n{asked}"), code("f()", picture=png(9, 3)))
    assert (first.heading, first.words, first.kind) == ("Question 1", "Is it?", "question")
    assert first.notes == ["No."]
    assert then.heading == "A"  # the figure would give the answer away
    assert then.figure


def test_notes_of_the_lecturer_are_speaker_notes_without_their_fold():
    fold = "<details><summary>For the lecturer</summary>\n\nAsk them.\n\n</details>"
    (slide,) = made(text("## A\n\nWords."), text(fold, "notes"))
    assert slide.notes == ["Ask them."]


def test_further_sections_come_on_request_only():
    cells = [
        text("## Core\n\nWords.\n\n## Further: more\n\nSecret."),
        code("f()", picture=png(9, 3)),
        text("### Below it\n\nSecret too."),
        text("## Core again\n\nWords.\n\n## References\n\n- A book."),
    ]
    assert [s.heading for s in made(*cells)] == ["Core", "Core again"]
    more = ["Core", "Further: more", "Below it", "Core again"]
    assert [s.heading for s in made(*cells, further=True)] == more


def test_docstrings_are_cut_to_their_first_line():
    assert excerpt.brief(QUOTED).splitlines()[1] == '    """One line."""'
    assert "Args" not in excerpt.brief(QUOTED)
    compile(excerpt.brief(QUOTED), "cell", "exec")


def test_long_definitions_are_split_between_methods_and_lose_nothing():
    methods = "\n\n".join(
        f"    def f{i}(self):\n" + 6 * "        x = 1\n" for i in range(6)
    )
    source = f"class A:\n{methods}".rstrip()
    pages = made(text("## A\n\nWords."), code(source, "from:a.A"))
    assert [p.heading for p in pages] == ["A (1 of 3)", "A (2 of 3)", "A (3 of 3)"]
    assert all(page.code.lstrip().startswith(("class", "def")) for page in pages)
    plain = [line for line in source.split("\n") if line.strip()]
    assert [ln for p in pages for ln in p.code.split("\n") if ln.strip()] == plain


def test_a_printed_table_is_a_figure_and_a_printed_line_is_a_note():
    (table,) = made(text("## A\n\nWords."), code("f()", says="a b\n1 <2\n"))
    assert "1 &lt;2" in table.figure.html
    (line,) = made(text("## A\n\nWords."), code("f()", says="loss 0.3\n"))
    assert line.figure is None
    assert "loss 0.3" in line.notes[-1]


def moving(n: int = 3) -> dict:
    """What `play` leaves where pictures are drawn ahead."""
    pictures = [Image.new("RGB", (900, 400), (80 * i, 80, 80)) for i in range(n)]
    encoded = [base64.b64encode(saved(p)).decode() for p in pictures]
    knob = {"name": "shift", "values": [str(i) for i in range(n)], "start": 0}
    words = {"caption": "Move the slider.", "alt": "a colour"}
    return {MIME: {"sliders": [knob], "frames": encoded, "width": 900} | words}


def test_frames_drawn_ahead_replace_the_still_figure():
    data = moving() | {"image/png": png(9, 3)}
    cell = new_code_cell("play()", outputs=[new_output("display_data", data=data)])
    (slide,) = made(text("## A"), cell)
    assert 'type="range"' in slide.figure.html
    assert png(9, 3) not in slide.figure.html


def test_a_schematic_keeps_its_words_and_loses_its_width():
    page = '<img class="schematic" style="width:999px" alt="a box" src="data:,x">'
    data = {"text/html": page, "image/png": png(9, 3), "text/plain": "a box"}
    cell = new_code_cell("f()", outputs=[new_output("display_data", data=data)])
    (slide,) = made(text("## A"), cell)
    assert slide.figure == shown.Figure(page.replace(' style="width:999px"', ""), 3.0)


def drawn(path) -> execute.Run:
    """A lecture as if executed: a picture where it draws, a table where it prints."""
    book = nbformat.read(path, as_version=4)
    for number, cell in enumerate(c for c in book.cells if c.cell_type == "code"):
        if "play(" in cell.source:
            cell.outputs = [new_output("display_data", data=moving())]
        elif re.search(r"\b(plot|plt|schematics)\.|\bwatch\(", cell.source):
            size = (1200, 300) if number % 2 else (500, 480)
            cell.outputs = [new_output("display_data", data={"image/png": png(*size)})]
        elif "print(" in cell.source:
            table = "\n".join(["x" * 90] * 15)
            cell.outputs = [new_output("stream", name="stdout", text=table)]
    return execute.Run(path, book)


SHEETS = ("capstone", "exam")  # a statement of a page or two


@pytest.mark.parametrize("path", LECTURES, ids=lambda p: f"{p.parent.name}/{p.stem}")
def test_every_lecture_makes_slides_of_few_words(path):
    found = deck.slides(drawn(path).notebook)
    assert found[0].kind == "title"
    assert len(found) > (4 if path.stem in SHEETS else 20)
    for slide in found:
        assert prose.count(slide.words) <= prose.WORDS, slide.words
        assert slide.equation.count("$$") in (0, 2)
        assert not (slide.figure and slide.code)
        assert not slide.empty


MEASURE = """() => {
  const wrong = [], slides = Reveal.getSlides();
  const speaks = (part) => part.tagName === 'MJX-MATH'
    || [...part.childNodes].some(node => node.nodeType === 3 && node.data.trim());
  slides.forEach((slide, index) => {
    Reveal.slide(index);
    const name = `slide ${index + 1}, ${slide.innerText.slice(0, 40)}`;
    const say = (what) => wrong.push(`${name}: ${what}`);
    if (slide.scrollHeight > 720 || slide.scrollWidth > 1280)
      say(`it is ${slide.scrollWidth} x ${slide.scrollHeight}`);
    for (const part of slide.querySelectorAll('*:not(.notes, .notes *, mjx-math *)')) {
      const box = part.getBoundingClientRect(), tag = `${part.tagName}.${part.className}`;
      if (part.closest('mjx-assistive-mml') || !box.width || !box.height) continue;
      if (box.left < 0 || box.top < 0 || box.right > 1281 || box.bottom > 721)
        say(`${tag} leaves the slide`);
      const style = getComputedStyle(part), size = parseFloat(style.fontSize);
      if (style.display === 'block' && part.scrollWidth > part.clientWidth + 1)
        say(`${tag} is cut off`);
      if (speaks(part) && size < 18) say(`${tag} has ${size} pixels`);
      if (part.tagName === 'IMG' && box.height < 200) say(`${box.height} high`);
    }
  });
  return {slides: slides.length, wrong};
}"""


@pytest.fixture(scope="module")
def looking(tmp_path_factory):
    """A browser, and a folder of decks that have their scripts beside them."""
    if not browser.chromium():
        pytest.skip("no chromium found on PATH")
    if not all(assets.installed(name) for name in assets.PACKAGES):
        pytest.skip("reveal.js and mathjax are not there: npm could not fetch them")
    with browser.page(1280, 720) as (view, log):
        yield view, log, tmp_path_factory.mktemp("slides")


def measured(view, path) -> dict:
    view.goto(path.as_uri())
    view.wait_for_selector(READY, state="attached", timeout=60_000)
    return view.evaluate(MEASURE)


@pytest.mark.browser
@pytest.mark.parametrize("path", LECTURES, ids=lambda p: f"{p.parent.name}/{p.stem}")
def test_every_slide_fits_and_can_be_read(path, looking):
    view, log, folder = looking
    run = drawn(path)
    found = measured(view, slides.render(run, folder, further=True))
    assert found["slides"] == len(deck.slides(run.notebook, further=True))
    assert found["wrong"] == []
    assert not log.errors
    assert not log.outside


@pytest.mark.browser
def test_the_measurement_sees_what_is_wrong(looking):
    """Without this, a measurement that looks at nothing would pass every deck."""
    view, _, folder = looking
    wide = f"$${' + '.join(['x'] * 150)}$$"
    bad = [
        Slide("Tall", words="\n\n".join(["word"] * 40)),
        Slide("Wide", equation=wide),
        Slide("Small", words='<span style="font-size: 12px">small</span>'),
        Slide("Long", code="x = " + "1" * 120),
        Slide("Good", words="Words of $x$.", equation="$$x = 1$$"),
    ]
    path = folder / "bad" / "bad.html"
    path.parent.mkdir()
    urls = {name: f"../assets/{name}" for name in assets.PACKAGES}
    assert all(assets.place(name, folder / "assets") for name in assets.PACKAGES)
    path.write_text(slides.page(bad, urls), encoding="utf-8")
    wrong = "\n".join(measured(view, path)["wrong"])
    assert all(f"slide {number}," in wrong for number in (1, 2, 3, 4))
    assert "slide 5," not in wrong


@pytest.mark.browser
def test_a_slider_moves_its_picture_on_a_slide_and_gives_the_keys_back(looking):
    view, _, folder = looking
    cell = new_code_cell("play()", outputs=[new_output("display_data", data=moving())])
    book = new_notebook(cells=[text("## A\n\nWords."), cell, text("## B\n\nMore.")])
    run = execute.Run(folder / "moving" / "unit.ipynb", book)
    view.goto(slides.render(run, folder).as_uri())
    view.wait_for_selector(READY, state="attached", timeout=60_000)
    before = view.locator(".gdm-moved").get_attribute("src")
    view.locator("input").click()  # half way
    assert view.locator("output").inner_text() == "1"
    assert view.locator(".gdm-moved").get_attribute("src") != before
    view.keyboard.press("ArrowRight")
    assert view.locator("section.present h2").inner_text() == "B"


@pytest.mark.browser
def test_a_lecture_that_was_executed_fits_too(looking):
    view, _, folder = looking
    path = ROOT / "lectures" / "vae" / "vqvae.ipynb"
    run = execute.execute(path, execute.environment(smoke=True, CI="true"))
    assert run.error is None
    assert measured(view, slides.render(run, folder))["wrong"] == []
