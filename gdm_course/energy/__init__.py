"""Energy-based models: likely is what is low, and the constant is left out."""

from gdm_course.examples import Example

PARTS: dict[str, str] = {
    "Normalised": "an energy and its exact log Z: tests/test_energy.py",
}


def models() -> dict[str, Example]:
    """Return a small one of every model, for the sweep of tests and the taxonomy."""
    return {}
