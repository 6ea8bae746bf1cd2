"""Challenges: how to judge generative models, what to answer for, and all six side by side.

No family of models: what stands here is what the lectures do *to* models of every family.
"""

from functools import partial

from gdm_course.examples import Example

PARTS: dict[str, str] = {
    "Diluted": "two densities mixed, without weights of its own: tests/test_fooled.py",
}


def models() -> dict[str, Example]:
    """Return a small one of every model, for the sweep of tests."""
    from gdm_course.challenges.mixture import CodeMixture

    return {
        "CodeMixture": Example(partial(CodeMixture, 4, 5, K=2), (4,), K=5),
    }
