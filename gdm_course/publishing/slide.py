"""One slide, and a deck in the making that finds each part of a lecture its slide."""

import re
from dataclasses import dataclass, field

from nbconvert.filters import markdown2html

from gdm_course.publishing import prose
from gdm_course.publishing.prose import Part
from gdm_course.publishing.shown import Figure
from gdm_course.source import lines

LEFT_OUT = re.compile(r"\W*(\d+\W*)?(references|exercises?)\b", re.IGNORECASE)
FURTHER = "Further: "
_DETAILS = re.compile(r"</?details>|<summary>.*?</summary>", re.DOTALL)


@dataclass
class Slide:
    """One slide.

    Attributes:
        heading: its title, and the `section` it stands in.
        words: Markdown of at most 40 words.
        equation: one block of equations in TeX, `$$` included.
        figure: a picture, a table or frames under a slider.
        code: a definition; a slide has a figure or a definition.
        large: whether the definition has room for larger letters.
        notes: what the lecturer says, in Markdown.
        kind: title, question, or empty.
    """

    heading: str
    section: str = ""
    words: str = ""
    equation: str = ""
    figure: Figure | None = None
    code: str = ""
    large: bool = False
    notes: list[str] = field(default_factory=list)
    kind: str = ""

    @property
    def full(self) -> bool:
        """Whether nothing more to look at fits on it."""
        return bool(self.figure or self.code or self.kind == "question")

    @property
    def looks(self) -> str:
        """How large it is set: `says` are words only, `states` has an equation as well."""
        return "" if self.full else "states" if self.equation else "says"

    @property
    def beside(self) -> bool:
        """Whether its picture is narrow enough to stand at the right of its words."""
        ratio = self.figure.ratio if self.figure else None
        return ratio is not None and ratio < 1.6 and bool(self.words) and not self.equation

    def talks_about(self, before: "Slide") -> bool:
        """Whether it has words only, under the heading of the figure before it."""
        alone = not (self.equation or self.full or self.kind)
        return alone and self.heading == before.heading and before.figure is not None

    @property
    def empty(self) -> bool:
        """Whether nothing but its heading stands on it."""
        return not (self.words or self.equation or self.full or self.kind)


class Deck:
    """Slides in the making: parts of a lecture are put on the last one, or on a new one.

    Args:
        further: whether to keep the sections `Further: ...`.

    Attributes:
        skipping: whether what comes stands under a heading that is left out.
    """

    def __init__(self, further: bool) -> None:
        self.slides: list[Slide] = []
        self.section = ""
        self.waiting: list[str] = []  # paragraphs that have found no place yet
        self.further, self._apart, self._left_out = further, False, False

    @property
    def skipping(self) -> bool:
        """Whether nothing is shown until another heading comes."""
        return self._apart or self._left_out

    def add(self, part: Part) -> None:
        """Put a block of text where it belongs."""
        if part.kind == "heading":
            if part.level <= 2:
                self._apart = part.text.startswith(FURTHER) and not self.further
            self._left_out = bool(LEFT_OUT.match(part.text))
        if not self.skipping:
            getattr(self, f"_{part.kind}")(part)

    def note(self, text: str) -> None:
        """Leave something for the lecturer to say, without the fold it may stand in."""
        self.settle()
        self.slides[-1].notes.append(_DETAILS.sub("", text).strip())

    def again(self) -> str:
        """The heading of a slide that goes on where the last one was full."""
        return self.section if self.slides[-1].kind else self.slides[-1].heading

    def new(self, heading: str | None = None, kind: str = "") -> Slide:
        """Begin a slide; what waits is settled before."""
        self.settle()
        heading = self.section if heading is None else heading
        section = "" if heading == self.section else self.section
        self.slides.append(Slide(heading, section, kind=kind))
        return self.slides[-1]

    def settle(self, leading: bool = False) -> None:
        """Say what waits on the last slide in few words, and all of it in its notes."""
        if self.waiting and self.slides:
            last = self.slides[-1]
            if not last.words and not last.full:
                last.words = prose.gist(self.waiting, leading)
            last.notes += [text for text in self.waiting if text != last.words]
            self.waiting = []

    def room(self) -> Slide:
        """The last slide, or a new one if that is full; what waits goes with what comes."""
        if self.slides[-1].full:
            waiting, self.waiting = self.waiting, []
            self.new(self.section if waiting else self.again())
            self.waiting = waiting
        return self.slides[-1]

    def show(self, figure: Figure | None = None, code: str = "") -> None:
        """Put a figure or a definition on a slide of its paragraph."""
        slide = self.room()
        self.settle()
        slide.figure, slide.code = figure, code

    def pause(self) -> None:
        """A new text cell begins: what it says goes with what it shows."""
        if self.slides and (self.slides[-1].full or self.slides[-1].equation):
            self.new()

    def _heading(self, part: Part) -> None:
        if part.level < 4:
            self.settle()
            self.section = part.text
        self.new(part.text, kind="title" if part.level == 1 else "")

    def _prose(self, part: Part) -> None:
        self.waiting.append(part.text)

    def _equation(self, part: Part) -> None:
        waiting, self.waiting = self.waiting, []
        if self.room().equation:
            self.new(self.section if waiting else self.again())
        self.waiting = waiting
        self.settle(leading=True)
        self.slides[-1].equation = part.text

    def _list(self, part: Part) -> None:
        if self.waiting or not self.slides[-1].empty:
            self.waiting.append(part.text)
            return
        words = ""
        for item in prose.items(part.text):
            first, *more = prose.sentences(item)
            if words and prose.count(words) + prose.count(first) > prose.WORDS:
                self.slides[-1].words, words = words, ""
                self.new(self.again())
            words = f"{words}\n{prose.shortened(first)}".strip()
            self.slides[-1].notes += [item] if more else []
        self.slides[-1].words = words

    def _table(self, part: Part) -> None:
        self.show(Figure(markdown2html(part.text), rows=2 * len(lines(part.text))))

    def _question(self, part: Part) -> None:
        name, text = prose.run_in(part.text)
        slide = self.new(name or "Question", kind="question")
        slide.words = prose.as_many(text)
        slide.notes += [text] if prose.count(slide.words) < prose.count(text) else []

    def _answer(self, part: Part) -> None:
        asked = re.search(r"<summary>(.*?)</summary>", part.text, re.DOTALL)
        if asked and prose.count(asked[1]) > 4:  # a question in its own summary
            self._question(Part("question", re.sub(r"</?b>", "**", asked[1])))
        self.note(part.text)

    def _fence(self, part: Part) -> None:
        self.waiting.append(part.text)
