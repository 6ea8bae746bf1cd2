"""A text cell in its parts, and what of its prose a slide can say in few words."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

WORDS = 40  # on a slide; what is longer is for the lecturer to say
MARK = "<!-- slide -->"  # an author's mark before the sentence to show
QUESTION = re.compile(r"\*\*(Question|Predict|Change|Quiz)\b")
_ATOM = re.compile(r"`[^`]*`|\$(?:\\.|[^$\\])+\$|\[[^\]]*\]\([^)]*\)")
_END = re.compile(r"[.!?][*_\")]*(?=\s+[A-Z*_\"\[<\0]|\s*$)")
_SHORT = re.compile(r"(?:\be\.g|\bi\.e|\bet al|\bcf|\bvs|\bFig|\b[A-Z]|^\s*\d+)\.$")
_BLOCK = re.compile(
    r"(?P<answer>^<details>.*?</details>)|(?P<equation>\$\$.+?\$\$)|(?P<fence>^```.*?^```)",
    re.DOTALL | re.MULTILINE,
)
_RUN_IN = re.compile(r"\*\*([^*]+?)(?:([.:?!])\*\*|\*\*([.:]|$))\s*")


@dataclass(frozen=True)
class Part:
    """One block of a text cell.

    Attributes:
        kind: heading, prose, list, table, equation, question, answer or fence.
        text: its Markdown; of a heading the words alone.
        level: of a heading; what stands in bold before a paragraph is a heading of level 4.
    """

    kind: str
    text: str
    level: int = 0


def parts(markdown: str) -> Iterator[Part]:
    """Take a text cell apart, in its order."""
    at = 0
    for block in _BLOCK.finditer(markdown):
        yield from _plain(markdown[at : block.start()])
        yield Part(str(block.lastgroup), block[0])
        at = block.end()
    yield from _plain(markdown[at:])


def _plain(text: str) -> Iterator[Part]:
    for block in re.split(r"\n\s*\n", text):
        first, _, rest = block.strip().partition("\n")
        if found := re.match(r"(#{1,6}) +(.*)", first):
            yield Part("heading", found[2].strip(), len(found[1]))
            yield from _plain(rest)
        elif first.startswith("|"):
            yield Part("table", block.strip())
        elif items := re.search(r"^(?:[-*]|\d+\.) ", block.strip(), re.MULTILINE):
            yield from _plain(block.strip()[: items.start()])
            yield Part("list", block.strip()[items.start() :])
        elif re.search(r"\w", block):
            yield from _paragraph(block.strip())


def _paragraph(text: str) -> Iterator[Part]:
    if QUESTION.match(text):
        yield Part("question", text)
        return
    name, text = run_in(text)
    if name:
        yield Part("heading", name, 4)
    if text:
        yield Part("prose", text)


def run_in(text: str) -> tuple[str, str]:
    """The words in bold that head a paragraph, without their point, and the rest."""
    found = _RUN_IN.match(text)
    if found is None:
        return "", text
    return found[1] + (found[2] or "").strip(".:"), text[found.end() :]


def items(text: str) -> list[str]:
    """The points of a list, each with its mark."""
    return [item.strip() for item in re.split(r"\n(?=(?:[-*]|\d+\.) )", text)]


def count(text: str) -> int:
    """Number of words; a formula, a name in code or a link counts as one."""
    return len(re.findall(r"[^\s*_>#-]\S*", _ATOM.sub("x", text.replace(MARK, ""))))


def sentences(text: str) -> list[str]:
    """The sentences of a paragraph; points in formulas and abbreviations end none."""
    atoms: list[str] = []

    def hide(found: re.Match) -> str:
        atoms.append(found[0])
        return f"\0{len(atoms) - 1}\0"

    plain, made, at = _ATOM.sub(hide, " ".join(text.split())), [], 0
    for end in _END.finditer(plain):
        if not _SHORT.search(plain[at : end.end()]):
            made.append(plain[at : end.end()].strip())
            at = end.end()
    made += [plain[at:].strip()] if plain[at:].strip() else []
    return [re.sub(r"\0(\d+)\0", lambda m: atoms[int(m[1])], s) for s in made]


def gist(paragraphs: list[str], leading: bool = False) -> str:
    """What a slide says of some paragraphs in at most `WORDS` words.

    The marked sentence; without a mark the first one, and before an equation (`leading`)
    also the one that leads to it, alone if both are too many words.
    """
    said = [s for paragraph in paragraphs for s in sentences(paragraph)]
    if not said:
        return ""
    marked = [s.replace(MARK, "").strip() for s in said if MARK in s]
    if marked:
        return shortened(marked[0])
    if said[0][0].islower():  # the end of a sentence that an equation broke off
        said = said[1:] or said
    both = [*dict.fromkeys([said[0], said[-1]])] if leading else said[:1]
    return shortened(" ".join(both) if count(" ".join(both)) <= WORDS else both[-1])


def as_many(text: str, limit: int = WORDS) -> str:
    """As many whole sentences from the start as fit, the first one shortened if need be."""
    said, kept = sentences(text), ""
    for sentence in said:
        if count(f"{kept} {sentence}") > limit:
            break
        kept = f"{kept} {sentence}".strip()
    return kept or shortened(said[0], limit)


def shortened(sentence: str, limit: int = WORDS) -> str:
    """A sentence of at most `limit` words, broken off at a comma if it has more."""
    if count(sentence) <= limit:
        return sentence
    starts = [m.start() for m in re.finditer(r"\S+", sentence)]
    whole = [at for at in starts if count(sentence[:at]) < limit and _closed(sentence[:at])]
    commas = [at for at in whole if sentence[:at].rstrip()[-1:] in (",", ";", ":")]
    at = commas[-1] if commas and count(sentence[: commas[-1]]) >= 8 else whole[-1]
    return sentence[:at].rstrip(" ,;:") + " …"


def _closed(text: str) -> bool:
    """Whether no formula, code or emphasis is open at the end of a text."""
    plain = _ATOM.sub("", text)
    return not re.search(r"[$`\[]", plain) and plain.count("*") % 2 == 0
