"""Slides in the making: each part of a lecture is put on the last slide or on a new one."""

import re
from dataclasses import dataclass, field

from nbconvert.filters import markdown2html

from gdm_course.publishing import prose
from gdm_course.publishing.prose import Part
from gdm_course.publishing.shown import Figure
from gdm_course.publishing.slide import Slide
from gdm_course.source import lines

LEFT_OUT = re.compile(r"\W*(\d+\W*)?(references|exercises?)\b", re.IGNORECASE)
FURTHER = "Further: "
_DETAILS = re.compile(r"</?details>|<summary>.*?</summary>", re.DOTALL)


@dataclass
class Deck:
    """The slides so far.

    Attributes:
        further: whether to keep the sections `Further: ...`.
        slides: in their order; the first one is for what stands before any heading.
        section: the heading that new slides stand under.
        waiting: paragraphs that have found no place yet.
        apart, left_out: whether a further section, or references, are being skipped.
    """

    further: bool = False
    slides: list[Slide] = field(default_factory=lambda: [Slide("")])
    section: str = ""
    waiting: list[str] = field(default_factory=list)
    apart: bool = False
    left_out: bool = False

    @property
    def last(self) -> Slide:
        """The slide that parts are put on."""
        return self.slides[-1]

    @property
    def skipping(self) -> bool:
        """Whether nothing is shown until another heading comes."""
        return self.apart or self.left_out


def place(deck: Deck, part: Part) -> None:
    """Put a block of text where it belongs."""
    if part.kind == "heading":
        if part.level <= 2:
            deck.apart = part.text.startswith(FURTHER) and not deck.further
        deck.left_out = bool(LEFT_OUT.match(part.text))
    if not deck.skipping:
        _PLACES[part.kind](deck, part)


def show(deck: Deck, figure: Figure | None = None, code: str = "") -> None:
    """Put a figure or a definition on the slide of its paragraph."""
    _make_room(deck)
    settle(deck)
    deck.last.figure, deck.last.code = figure, code


def note(deck: Deck, text: str) -> None:
    """Leave something for the lecturer to say, without the fold that it may stand in."""
    settle(deck)
    deck.last.notes.append(_DETAILS.sub("", text).strip())


def pause(deck: Deck) -> None:
    """A new text cell begins: what it says goes with what it shows."""
    if deck.last.full or deck.last.equation:
        begin(deck, deck.section)


def begin(deck: Deck, heading: str, kind: str = "") -> None:
    """Begin a slide; what waits is settled before."""
    settle(deck)
    section = "" if heading == deck.section else deck.section
    deck.slides.append(Slide(heading, section, kind=kind))


def settle(deck: Deck, leading: bool = False) -> None:
    """Say what waits on the last slide in few words, and all of it in its notes."""
    if deck.waiting and not deck.last.words and not deck.last.full:
        deck.last.words = prose.gist(deck.waiting, leading)
    deck.last.notes += [text for text in deck.waiting if text != deck.last.words]
    deck.waiting = []


def _make_room(deck: Deck, equation: bool = False) -> None:
    """Begin a slide if the last one is full; what waits goes with what comes."""
    if deck.last.full or (equation and deck.last.equation):
        waiting, deck.waiting = deck.waiting, []
        begin(deck, deck.section if waiting else _again(deck))
        deck.waiting = waiting


def _again(deck: Deck) -> str:
    """The heading of a slide that goes on where the last one was full."""
    return deck.section if deck.last.kind else deck.last.heading


def _heading(deck: Deck, part: Part) -> None:
    settle(deck)
    if part.level < 4:
        deck.section = part.text
    begin(deck, part.text, "title" if part.level == 1 else "")


def _prose(deck: Deck, part: Part) -> None:
    deck.waiting.append(part.text)


def _equation(deck: Deck, part: Part) -> None:
    _make_room(deck, equation=True)
    settle(deck, leading=True)
    deck.last.equation = part.text


def _list(deck: Deck, part: Part) -> None:
    """Show a list that stands right under its heading, on as many slides as it needs."""
    if deck.waiting or not deck.last.empty:
        deck.waiting.append(part.text)
        return
    for item in prose.items(part.text):
        first, *more = map(prose.shortened, prose.sentences(item))
        words = f"{deck.last.words}\n{first}".strip()
        if deck.last.words and prose.count(words) > prose.WORDS:
            begin(deck, _again(deck))
            words = first
        deck.last.words = words
        deck.last.notes += [item] if more else []


def _table(deck: Deck, part: Part) -> None:
    show(deck, Figure(markdown2html(part.text), rows=2 * len(lines(part.text))))


def _question(deck: Deck, part: Part) -> None:
    name, text = prose.run_in(part.text)
    begin(deck, name or "Question", "question")
    deck.last.words = prose.as_many(text)
    if prose.count(deck.last.words) < prose.count(text):
        deck.last.notes.append(text)


def _answer(deck: Deck, part: Part) -> None:
    asked = re.search(r"<summary>(.*?)</summary>", part.text, re.DOTALL)
    if asked and prose.count(asked[1]) > 4:  # a question in its own summary
        _question(deck, Part("question", re.sub(r"</?b>", "**", asked[1])))
    note(deck, part.text)


_PLACES = {
    "heading": _heading,
    "prose": _prose,
    "fence": _prose,
    "equation": _equation,
    "list": _list,
    "table": _table,
    "question": _question,
    "answer": _answer,
}
