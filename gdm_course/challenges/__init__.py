"""Challenges: how to judge generative models, what to answer for, and all six side by side.

No family of models: what stands here is what the lectures do *to* models of every family.
"""

from gdm_course.examples import Example

PARTS: dict[str, str] = {}


def models() -> dict[str, Example]:
    """Return a small one of every model, for the sweep of tests: there is none."""
    return {}
