"""Keep a judge small: no compiler of torch, which its first optimizer step would load.

`torch.optim` imports torch._dynamo only to say "do not compile this". That takes 75 MB and
a second, in every worker. Two names of it are enough for that; whoever wants another gets
the real module.
"""

import importlib
import sys
from types import ModuleType
from typing import Any

NAME = "torch._dynamo"


class Light(ModuleType):
    """Stands in for torch._dynamo until somebody asks for more than it has."""

    def disable(self, call: Any = None, *args: object, **kwargs: object) -> Any:
        """Nothing is compiled here: a function stays what it is."""
        return call if call is not None else lambda one: one

    def graph_break(self, *args: object, **kwargs: object) -> None:
        """There is no graph."""

    def __getattr__(self, name: str) -> Any:
        """Another name: from now on the real module is used."""
        if name.startswith("__") and name != "__path__":  # somebody only looks around
            raise AttributeError(name)
        if sys.modules.get(NAME) is self:
            del sys.modules[NAME]
        return getattr(importlib.import_module(NAME), name)


def install() -> None:
    """Put the stand-in there, unless the real module is loaded."""
    sys.modules.setdefault(NAME, Light(NAME))
