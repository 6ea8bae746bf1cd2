"""An executed lecture as slides: a pure function, from a notebook to a list of `Slide`.

On a slide stand a heading, few words, one block of equations, and one figure or one
definition. The rest of the text is for the lecturer, who speaks it.
"""

from dataclasses import replace

from nbformat import NotebookNode

from gdm_course.publishing import excerpt, placing, prose, shown
from gdm_course.publishing.placing import Deck
from gdm_course.publishing.slide import Slide
from gdm_course.source import lines

WIDTH, HEIGHT = 1280, 720
EDGE, GAP = 40, 16  # above and below everything; between two things
CODE, LARGE, WORDS = (20, 25), (24, 31), (27, 38)  # size and line height
COLUMNS = 76  # of code in the larger letters
LEAST = 280  # pixels under which a picture is too small to explain anything
UNSEEN = {"setup", "nav", "skip-slide"}
FOLDED = {"fold", "hide-input"}


def slides(notebook: NotebookNode, further: bool = False) -> list[Slide]:
    """Turn an executed lecture into slides, in its order.

    Args:
        notebook: the lecture with its outputs.
        further: whether to keep the sections `Further: ...`.
    """
    deck = Deck(further)
    for cell in notebook.cells:
        if cell.metadata.get("slideshow", {}).get("slide_type") == "skip":
            continue
        if not UNSEEN & tags(cell):
            _put(deck, cell)
    placing.settle(deck)
    made = [page for slide in _worth_showing(deck.slides) for page in fitted(slide)]
    return [replace(page, large=enlarged(page)) for page in made]


def tags(cell: NotebookNode) -> set[str]:
    """The tags of a cell."""
    return {*cell.metadata.get("tags", [])}


def is_note(cell: NotebookNode) -> bool:
    """Whether a cell speaks to the lecturer only."""
    slide = cell.metadata.get("slideshow", {}).get("slide_type")
    return slide == "notes" or "notes" in tags(cell)


def _put(deck: Deck, cell: NotebookNode) -> None:
    if "subslide" in tags(cell) and not deck.skipping:
        placing.begin(deck, deck.section)
    if cell.cell_type == "markdown" and not is_note(cell):
        placing.pause(deck)
        for part in prose.parts(cell.source):
            placing.place(deck, part)
    elif not deck.skipping:
        (_code if cell.cell_type == "code" else _note)(deck, cell)


def _note(deck: Deck, cell: NotebookNode) -> None:
    placing.note(deck, cell.source)


def _code(deck: Deck, cell: NotebookNode) -> None:
    quoted = any(tag.startswith("from:") for tag in tags(cell))
    if not FOLDED & tags(cell) and (quoted or excerpt.defines(cell.source)):
        placing.show(deck, code=excerpt.brief(cell.source))
        return
    for figure in shown.figures(cell, deck.section):
        placing.show(deck, figure)
    if said := shown.remarks(cell):
        placing.note(deck, f"The notebook prints:\n\n```\n{said}\n```")


def _worth_showing(made: list[Slide]) -> list[Slide]:
    """Drop slides with a heading alone, and those that only talk about the last figure."""
    kept: list[Slide] = []
    for slide in made:
        if kept and (slide.empty or _talks_about(slide, kept[-1])):
            kept[-1].words = kept[-1].words or slide.words
            kept[-1].notes += slide.notes or [slide.words]
        elif not slide.empty:
            kept.append(slide)
    return kept


def _talks_about(slide: Slide, before: Slide) -> bool:
    """Whether a slide has words only, under the heading of the figure before it."""
    alone = not (slide.equation or slide.full or slide.kind)
    return alone and slide.heading == before.heading and before.figure is not None


def fitted(slide: Slide) -> list[Slide]:
    """Give what has no room under the words and equations slides of its own."""
    bare = replace(slide, words="", equation="", notes=[])
    if slide.code:
        return _paged(slide, bare)
    if slide.figure and not slide.beside and height(slide) > HEIGHT:
        return [replace(slide, figure=None), bare]
    return [slide]


def _paged(slide: Slide, bare: Slide) -> list[Slide]:
    full = lines_of_code(bare)
    if len(excerpt.pages(slide.code, lines_of_code(slide))) == 1:
        return [slide]
    made = []
    if slide.equation:
        made, slide = [replace(slide, code="")], bare
    elif len(excerpt.pages(slide.code, full)) == 1:
        return [replace(bare, notes=[slide.words, *slide.notes])]
    texts = excerpt.pages(slide.code, full, lines_of_code(slide))
    for number, text in enumerate(texts, 1):
        page = slide if number == 1 else bare
        count = f" ({number} of {len(texts)})" if len(texts) > 1 else ""
        made.append(replace(page, heading=slide.heading + count, code=text))
    return made


def lines_of_code(slide: Slide) -> int:
    """How many lines of code have room on a slide."""
    return (HEIGHT - height(replace(slide, code="")) - 2 * GAP) // CODE[1]


def enlarged(slide: Slide) -> bool:
    """Whether larger letters still leave a definition on its slide."""
    rows = lines(slide.code)
    more = (LARGE[1] - CODE[1]) * (2 + len(rows))
    narrow = max(map(len, rows), default=0) <= COLUMNS
    return bool(slide.code) and narrow and height(slide) + more <= HEIGHT


def height(slide: Slide) -> int:
    """Pixels that a slide needs, by an estimate that errs to the high side."""
    total = 2 * EDGE + 34 * bool(slide.section) + 50 * (1 + len(slide.heading) // 58)
    if slide.words:
        total += GAP + WORDS[1] * sum(1 + len(t) // 85 for t in slide.words.split("\n"))
    if slide.equation:
        deep = slide.equation.count("\\\\") + slide.equation.count("matrix")
        total += GAP + 90 + 45 * deep
    if slide.code:
        total += GAP + CODE[1] * (2 + slide.code.count("\n"))
    if slide.figure:
        printed, knobs = slide.figure.rows, 150 * slide.figure.moves
        total += GAP + (28 * printed + GAP if printed else LEAST + knobs)
    return total
