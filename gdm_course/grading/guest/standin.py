"""What strangers' cells find in the box where checks and withheld modules would be."""

from typing import Any

TWO_SIDED = ("add", "sub", "mul", "truediv", "floordiv", "pow", "matmul", "mod")
OPERATORS = [f"{side}{name}" for name in TWO_SIDED for side in ("", "r")]
OPERATORS += ["neg", "pos", "abs", "getitem", "lt", "le", "gt", "ge"]


class Absent(RuntimeError):
    """A cell used what is left out of the box."""


class Ignore:
    """Whatever is asked of it, nothing happens: the `check` of a notebook in the box.

    A student may compare with `check.NAME.reference(...)`, which is not there; the cell is
    not to stop because of that, for its next lines may define an answer.
    """

    def __call__(self, *args: Any, **kwargs: Any) -> "Ignore":
        """Do nothing."""
        return self

    @classmethod
    def __torch_function__(cls, *args: Any, **kwargs: Any) -> "Ignore":
        """A tensor, or a function of torch, meets one of these."""
        return cls()

    def __float__(self) -> float:
        return 0.0

    def __format__(self, how: str) -> str:
        return ""

    def __getattr__(self, name: str) -> "Ignore":
        if name.startswith("__"):
            raise AttributeError(name)
        return self

    def __iter__(self):
        return iter(())


for _name in OPERATORS:
    setattr(Ignore, f"__{_name}__", Ignore.__call__)


def absent(module: str, name: str) -> type:
    """A class that can be imported under any name and says, when used, what it is."""
    if name.startswith("__"):
        raise AttributeError(name)

    def refuse(self: Any, *args: Any, **kwargs: Any) -> None:
        raise Absent(f"{module}.{name} is what this exercise asks for: write it")

    return type(name, (), {"__init__": refuse})
