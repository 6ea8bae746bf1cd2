"""Keep judges and boxes small: no compiler of torch until somebody compiles.

The first step of an optimizer imports torch._dynamo, only to say "do not compile this".
That takes 75 MB and a second. Two names of it are enough for that; whoever wants another
one, as `torch.compile` does, gets the real module.
"""

import importlib
import sys
from types import ModuleType
from typing import Any

NAME = "torch._dynamo"


class Light(ModuleType):
    """Stands in for torch._dynamo until somebody asks for more than it has."""

    def __init__(self) -> None:
        super().__init__(NAME)
        self.said: list[Any] = []

    def disable(self, call: Any = None, *args: object, **kwargs: object) -> Any:
        """Nothing is compiled here: a function stays what it is."""
        if call is None:
            return self.disable
        self.said.append(call)
        return call

    def graph_break(self, *args: object, **kwargs: object) -> None:
        """There is no graph."""

    def __getattr__(self, name: str) -> Any:
        """Another name: from now on the real module is used."""
        if name.startswith("__") and name != "__path__":  # somebody only looks around
            raise AttributeError(name)
        if sys.modules.get(NAME) is self:
            del sys.modules[NAME]
            for call in self.said:  # where torch remembers what `disable` returned
                vars(call).pop("__dynamo_disable", None)
        return getattr(importlib.import_module(NAME), name)


def install() -> None:
    """Put the stand-in there, unless the real module is loaded."""
    sys.modules.setdefault(NAME, Light())
