"""One slide: what stands on it, and what the lecturer says."""

from dataclasses import dataclass, field

from gdm_course.publishing.shown import Figure


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
    def beside(self) -> bool:
        """Whether its picture is narrow enough to stand at the right of its words."""
        ratio = self.figure.ratio if self.figure else None
        return ratio is not None and ratio < 1.6 and bool(self.words) and not self.equation

    @property
    def empty(self) -> bool:
        """Whether nothing but its heading stands on it."""
        return not (self.words or self.equation or self.full or self.kind)
