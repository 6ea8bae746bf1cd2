"""An ask: one call of a student's object. The notebook and the grader's box both run it.

This file is copied into the box where strangers' code runs: it holds no answer and imports
nothing of the course.
"""

import copy
import importlib
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from gdm_course.checks.arrays import Arrays, Unfit, differentiable, fitted, to_arrays

__all__ = ["Arrays", "Ask", "Make", "Unfit", "fitted", "run", "to_arrays"]


@dataclass(frozen=True)
class Make:
    """An argument that the runner builds from the package: a toy density by name, say."""

    path: str  # "gdm_course.data.toy.get"
    args: tuple = ()

    def resolve(self) -> Any:
        """Import and call what `path` names."""
        module, _, name = self.path.rpartition(".")
        return getattr(importlib.import_module(module), name)(*self.args)


@dataclass(frozen=True)
class Ask:
    """One call: build the student's object if it is a class, then call it, under a seed.

    Attributes:
        args, kwargs: tensors, numbers, strings, None, tuples of these, or `Make`.
        seed: of torch's global generator, just before the call.
        init: constructor arguments if the student's object is a class; None for a function.
        state: weights to load into the built module before the call.
        method: the method of the built object to call.
        jacobian: return the Jacobian of the call in one argument, not its value.
        argument: which one that is, by its place.
        kept: return the tensors among the arguments, too, as the call left them.
    """

    args: tuple = ()
    kwargs: dict[str, Any] = field(default_factory=dict)
    seed: int = 0
    init: tuple | None = None
    state: dict[str, Tensor] | None = None
    method: str = "__call__"
    jacobian: bool = False
    argument: int = 0
    kept: bool = False


def run(ask: Ask, student: Any) -> Arrays:
    """Carry out one ask on a private copy of its arguments.

    Raises:
        Unfit: the result is no array and no tuple of arrays.
    """
    call = student
    if ask.init is not None:
        _seed(ask.seed)
        built = student(*_made(copy.deepcopy(ask.init)))
        if ask.state is not None:
            built.load_state_dict({**_constants(built), **ask.state})
        call = getattr(built, ask.method)
    args, kwargs = copy.deepcopy((ask.args, ask.kwargs))
    args, kwargs = _made(args), dict(zip(kwargs, _made(tuple(kwargs.values()))))
    _seed(ask.seed)
    if ask.jacobian:
        at = ask.argument
        f = lambda x: differentiable(call(*args[:at], x, *args[at + 1 :], **kwargs))  # noqa: E731
        return to_arrays(torch.autograd.functional.jacobian(f, args[at]))
    answer = to_arrays(call(*args, **kwargs))
    left = [a for a in args if ask.kept and isinstance(a, Tensor)]
    return answer + to_arrays(left)


def _seed(seed: int) -> None:
    """Do what `torch.manual_seed` does, which writes its whole stack down for each device.

    That takes half of the time of an ask, and is in vain if torch was built for none.
    """
    if torch.accelerator.current_accelerator() is None:
        torch.default_generator.manual_seed(seed)
    else:
        torch.manual_seed(seed)


def _constants(built: torch.nn.Module) -> dict[str, Tensor]:
    """What a module keeps beside its weights, such as a mask: it stays as it was made."""
    kept = {name for name, _ in built.named_buffers()}
    kept |= {name for name, p in built.named_parameters() if not p.requires_grad}
    return {name: value for name, value in built.state_dict().items() if name in kept}


def _made(values: tuple) -> tuple:
    """Arguments as the student's own process would make them, in its default type."""
    made = (v.resolve() if isinstance(v, Make) else v for v in values)
    double = torch.get_default_dtype() == torch.float64
    return tuple(v.double() if double and _single(v) else v for v in made)


def _single(value: Any) -> bool:
    return isinstance(value, Tensor) and value.dtype == torch.float32
