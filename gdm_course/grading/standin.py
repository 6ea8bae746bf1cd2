"""What strangers' cells find in the box where checks and withheld modules would be."""

from typing import Any


class Ignore:
    """Whatever is asked of it, nothing happens: the `check` of a notebook in the box."""

    def __call__(self, *args: Any, **kwargs: Any) -> "Ignore":
        """Do nothing."""
        return self

    def __getattr__(self, name: str) -> "Ignore":
        if name.startswith("__"):
            raise AttributeError(name)
        return self

    def __iter__(self):
        return iter(())


def absent(module: str, name: str) -> type:
    """A class that can be imported under any name and says, when used, what it is."""
    if name.startswith("__"):
        raise AttributeError(name)

    def refuse(self: Any, *args: Any, **kwargs: Any) -> None:
        raise RuntimeError(f"{module}.{name} is what this exercise asks for: write it")

    return type(name, (), {"__init__": refuse})
