"""Answers that must fail whatever the question: the controls of every exercise."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from gdm_course.checks.question import Question


def controls(question: Question) -> dict[str, Any]:
    """Return students who know nothing, by name: stub, zeros, constant, NaN, input copy.

    Each behaves like the reference but for the values it returns, so that only a judgement
    of the values can tell. Classes keep the reference's constructor and weights.
    """

    def stub(*args: Any, **kwargs: Any) -> None:
        raise NotImplementedError

    def constant(value: float) -> Callable:
        return lambda answer, args: _fill(answer, value)

    def copy(answer: Any, args: tuple) -> Any:
        return next((a for a in args if isinstance(a, Tensor)), answer)

    know_nothing = {
        "zeros": constant(0.0),
        "constant": constant(0.3),
        "nan": constant(torch.nan),
    }
    students = {n: _alter(question, change) for n, change in know_nothing.items()}
    if any(isinstance(a, Tensor) for a in question.asks(0)[0].args):
        students["input copy"] = _alter(question, copy)
    return {"stub": stub, **students}


def careless(question: Question) -> dict[str, Any]:
    """Return students who leave one argument of a function out of account, by its place.

    A number is taken from the first ask for all of them, as one who writes it into the
    code does; a tensor is replaced by zeros.
    """
    if isinstance(question.reference, type):
        return {}
    first = question.asks(0)[0].args
    kinds = (bool, int, float, str, tuple, Tensor)
    return {
        f"argument {i + 1} left out of account": _without(question.reference, i, value)
        for i, value in enumerate(first)
        if isinstance(value, kinds)
    }


def _without(reference: Callable, i: int, value: Any) -> Callable:
    def student(*args: Any) -> Any:
        left = torch.zeros_like(args[i]) if isinstance(value, Tensor) else value
        return reference(*args[:i], left, *args[i + 1 :])

    return student


def _fill(answer: Any, value: float) -> Any:
    """Replace every number of an answer by one value, keeping the shapes."""
    if isinstance(answer, tuple | list):
        return tuple(_fill(part, value) for part in answer)
    return torch.full_like(torch.as_tensor(answer).double(), value)


def _alter(question: Question, change: Callable[[Any, tuple], Any]) -> Any:
    """Wrap the reference (or the methods asked of it) so that its answers are changed."""

    def wrapped(call: Callable, skip: int = 0) -> Callable:
        return lambda *args, **kwargs: change(call(*args, **kwargs), args[skip:])

    if not isinstance(question.reference, type):
        return wrapped(question.reference)
    methods = {ask.method for ask in question.asks(0)}
    body = {m: wrapped(getattr(question.reference, m), skip=1) for m in methods}
    return type("Altered", (question.reference,), body)
