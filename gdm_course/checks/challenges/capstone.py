"""Questions of the capstone challenges/capstone: three heights that an entry may clear.

The box trains the frozen network with the student's methods and returns its weights; the
judge puts them into a network of its own and draws the samples itself. So nothing that an
entry says of itself counts, and nothing that it has stored helps: every question has two
laws of its own in the plane and a rotation of its own for the digits, drawn from the secret
seed; a score in the plane is the mean over both laws. All three questions ask the same;
they differ in what is good enough.
"""

import torch
from torch import Tensor, nn

from gdm_course.checks.draws import generator
from gdm_course.checks.question import Arrays, Ask, Question
from gdm_course.contract import digits, plane
from gdm_course.contract.frozen import JUMPS, STEPS, Contract, JumpNet
from gdm_course.contract.scores import digit_scores

NEVER = float("inf")
LAWS = 2  # in the plane, where they differ in how hard they are; digits need but one
# At most so much after 1, 2 and 4 evaluations: energy distance in the plane, and Frechet
# distance of the digits, of which a Gaussian has 1. Over secret seeds, who should clear a
# height is at least four standard deviations below, and who should not, is above one of it.
HEIGHTS = {
    "fair": ((NEVER, NEVER, 0.3), (NEVER, NEVER, 6.0)),
    "good": ((0.12, 0.1, 0.1), (2.5, 1.0, 0.7)),
    "best": ((0.05, 0.045, 0.045), (0.6, 0.6, 0.6)),
}
SECONDS = 1.0  # of an honest training on a quiet machine of 2023; 28 are allowed


class Untrained(Contract):
    """An answer of the right form that has learnt nothing."""

    def fit(self, x: Tensor, steps: int, seed: int) -> Tensor:
        """Return the weights of a new network."""
        return nn.utils.parameters_to_vector(JumpNet(x.shape[1]).parameters()).detach()


def _asks(seed: int) -> list[Ask]:
    """Train on two laws in the plane and once on digits.

    The law belongs to the rows as an attribute: it stays with the judge, for what travels
    to a box is their numbers.
    """
    g, asks = generator(seed), []
    for law in (*(plane.bells(g) for _ in range(LAWS)), digits.turned(g)):
        rows = law.rows if isinstance(law, digits.Turned) else law.sample(plane.TRAINING, g)
        first, last = torch.randint(2**31, (2,), generator=g).tolist()
        rows.kept = (law, last)
        asks.append(Ask(args=(rows, STEPS, first), init=(), method="fit"))
    return asks


def scores_of(ask: Ask, answer: Arrays) -> list[float]:
    """What the judge measures of one training, after 1, 2 and 4 evaluations.

    Raises:
        ValueError: the answer is no vector of the network's weights.
    """
    law, seed = ask.args[0].kept
    measure = plane.scores if isinstance(law, plane.Bells) else digit_scores
    (weights,) = answer
    return measure(weights, law, torch.Generator().manual_seed(seed))


def _over(heights: tuple, asks: list[Ask], answers: list[Arrays]) -> str | None:
    what = ("energy distance in the plane", "Frechet distance of the digits")
    made = [*zip(asks, answers)]
    for words, most, pairs in zip(what, heights, (made[:LAWS], made[LAWS:])):
        try:
            found = torch.tensor([scores_of(*pair) for pair in pairs]).mean(0)
        except ValueError:
            return "fit does not return the weights of the frozen network, all finite"
        for k, score, height in zip(JUMPS, found.tolist(), most):
            if not score <= height:  # NaN is above all heights
                return f"{words} at {k} evaluations: {score:.3g}, at most {height:g} counts"
    return None


def _height(name: str) -> Question:
    def judge(asks: list[Ask], answers: list[Arrays]) -> str | None:
        return _over(HEIGHTS[name], asks, answers)

    return Question(name, Untrained, _asks, judge, kind="trained", seconds=SECONDS)


fair = _height("fair")
good = _height("good")
best = _height("best")
