"""What a card must tell, and which of it a card of ours does not.

The questions are a selection from two papers, in the course's words. That a key is there
says that there is an answer, not that it is a good one.

References:
    Mitchell, Wu, Zaldivar, Barnes, Vasserman, Hutchinson, Spitzer, Raji, Gebru (2019).
        Model cards for model reporting. arXiv:1810.03993.
    Gebru, Morgenstern, Vecchione, Vaughan, Wallach, Daume, Crawford (2018). Datasheets for
        datasets. arXiv:1803.09010.
"""

from collections.abc import Mapping
from typing import Any

# Each question, and where in a card its answer may stand: any one of these will do.
OF_A_MODEL = {
    "which version of the weights is it?": ("file.sha256",),
    "which code computes with it?": ("code",),
    "how was it trained?": ("settings.steps", "steps"),
    "on which data?": ("data", "settings.data"),
    "how good is it, by which figure?": ("figures",),
    "how sure is that figure?": ("figures.error",),
    "on which data was that measured?": ("figures.split",),
    "what did it cost?": ("seconds",),
    "how good is it for each group?": ("figures.group", "groups"),
    "what is it for?": ("intended_use",),
    "what is it not for?": ("out_of_scope",),
    "who answers for it?": ("contact", "owner"),
    "under which licence?": ("licence", "license"),
    "what may go wrong?": ("limitations", "risks"),
    "were its samples compared with the training data?": ("memorisation",),
}
OF_DATA = {
    "where is it from?": ("forms.urls", "source"),
    "is it the file that was meant?": ("forms.sha256",),
    "who made it, and what is to be cited?": ("cite", "citation", "creators"),
    "under which terms?": ("terms", "licence"),
    "whose data are they?": ("people", "subjects"),
    "were they asked?": ("consent",),
    "how can they be taken out again?": ("withdrawal",),
    "who is missing from it?": ("composition", "coverage"),
    "what must it not be used for?": ("out_of_scope",),
}


def answered(card: Any, path: str) -> bool:
    """Say whether something stands under a dotted path; in a list, in each item."""
    if isinstance(card, list | tuple):
        return bool(card) and all(answered(item, path) for item in card)
    first, _, rest = path.partition(".")
    if not isinstance(card, Mapping) or card.get(first) in (None, "", [], {}, ()):
        return False
    return not rest or answered(card[first], rest)


def unanswered(
    card: Mapping[str, Any], questions: Mapping[str, tuple[str, ...]]
) -> list[str]:
    """Return the questions to which a card has no answer, in their order.

    Args:
        card: as it is read from JSON.
        questions: each with the paths, any of which may hold the answer.
    """
    return [q for q, at in questions.items() if not any(answered(card, p) for p in at)]
