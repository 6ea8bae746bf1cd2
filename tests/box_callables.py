"""Try everything that can be called in a staged course as an answer to its questions.

`python box_callables.py JOBS FOUND [deep]`. It imports torch and what was staged; nothing
here knows how to judge.

A job is a stage and the calls of its questions, with what the right answer to the first
one looks like. What comes near it is called on the rest, too, and reported.
"""

import contextlib
import importlib
import inspect
import itertools
import os
import pkgutil
import signal
import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import torch

CPU, WALL = 0.3, 10.0  # seconds for one call: at work, and asleep
SHARED = ("matplotlib.pyplot", "ipywidgets", "IPython.display", "sklearn.datasets")
SIZES = ((), (1,), (2,), (3,), (5,))  # tried as constructor arguments


class Slow(BaseException):
    """A call took too long."""


def slow(number: int, frame: object) -> None:
    """End the call under way."""
    raise Slow


def bounded(call: Callable, *args: object) -> object:
    """The result of a call; None if it fails or takes too long."""
    try:
        signal.setitimer(signal.ITIMER_PROF, CPU)
        signal.setitimer(signal.ITIMER_REAL, WALL)
        try:
            return call(*args)
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
            signal.setitimer(signal.ITIMER_REAL, 0)
    except BaseException:  # SystemExit and Slow are answers, too
        return None


def everything() -> Iterator[tuple[str, object]]:
    """Every callable of the staged package, by name: also in tables, classes, instances."""
    import gdm_course

    for found in pkgutil.walk_packages(gdm_course.__path__, "gdm_course."):
        if found.name.startswith("gdm_course.grading"):
            continue  # the guest's own files
        module = bounded(importlib.import_module, found.name)
        for name, value in vars(module or object).items():
            if not name.startswith("__"):
                yield from of(f"{found.name}.{name}", value)


def of(name: str, value: object) -> Iterator[tuple[str, object]]:
    """A value, if it can be called, and what can be called in it."""
    if isinstance(value, dict | list | tuple):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for key, part in items:
            yield from of(f"{name}[{key!r}]", part)
    elif callable(value) and (ours(value) or not inspect.isroutine(value)):
        yield name, value
        if inspect.isclass(value) and ours(value):
            yield from methods(name, value, [*vars(value)])
            made = (bounded(value, *size) for size in SIZES)
            one = next((m for m in made if m is not None), None)
            if one is not None:
                yield from methods(f"{name}()", one, own(one))
    elif ours(type(value)):
        yield from methods(name, value, own(value))


def ours(value: object) -> bool:
    """Whether something was defined in the course."""
    return str(getattr(value, "__module__", "")).startswith("gdm_course")


def own(made: object) -> list[str]:
    """Names of an object's methods that the course defines."""
    kinds = [kind for kind in type(made).__mro__ if ours(kind)]
    return [name for kind in kinds for name in vars(kind)]


def methods(name: str, owner: object, names: list[str]) -> Iterator[tuple[str, object]]:
    """Those attributes of a class or an object that can be called."""
    for one in names:
        if not one.startswith("__") or one == "__call__":
            found = bounded(getattr, owner, one)
            if callable(found):
                yield f"{name}.{one}", found


def arranged(name: str, thing: object, args: tuple, deep: bool) -> Iterator[tuple]:
    """Ways to call something: as it is; in other orders; some arguments building it."""
    n = len(args)
    orders = itertools.permutations(range(n)) if deep and n <= 4 else [range(n)]
    for order in map(tuple, orders):
        yield f"{name}{order}", lambda *a, order=order: thing(*(a[i] for i in order))
    if not inspect.isclass(thing) or not ours(thing) or n > 5:
        return
    for mask in itertools.product((False, True), repeat=n):
        built = bounded(thing, *itertools.compress(args, mask))
        rest = [not m for m in mask]
        for method in {*own(built)} if built is not None else ():
            if method.startswith("__") and method != "__call__":
                continue

            def call(*a, mask=mask, rest=rest, method=method):
                found = getattr(thing(*itertools.compress(a, mask)), method)
                given = [*itertools.compress(a, rest)]
                return found(*given) if callable(found) else found

            yield f"{name}{mask}.{method}", call


def near(answer: tuple | None, wanted: list, loose: bool) -> bool:
    """Whether an answer could be meant: right shapes and, unless drawn, values."""
    if answer is None or [a.shape for a in answer] != [w.shape for w in wanted]:
        return False
    pairs = zip(answer, wanted)
    return loose or all(
        torch.allclose(a.double(), w.double(), 1e-2, 1e-3) for a, w in pairs
    )


def changed(answer: tuple, deep: bool) -> Iterator[tuple[str, Callable]]:
    """What a student does to a result in one short step."""
    yield "", lambda parts: parts
    yield ".sum(-1)", lambda parts: tuple(p.sum(-1) for p in parts)
    if deep:
        for i in range(len(answer)):
            yield f"[{i}]", lambda parts, i=i: parts[i : i + 1]
        for name in ("mean", "sum", "exp", "log", "neg", "sqrt", "squeeze", "t"):
            yield (
                f".{name}()",
                lambda parts, name=name: tuple(
                    getattr(torch.Tensor, name)(p) for p in parts
                ),
            )


def quick(ask: Any, call: Callable) -> tuple:
    """What `run` does, without its seeding, which would take half of all the time."""
    from gdm_course.checks.ask import run, to_arrays

    if ask.init is not None or ask.jacobian:
        return run(ask, call)
    args = (a.clone() if isinstance(a, torch.Tensor) else a for a in ask.args)
    return to_arrays(call(*args, **ask.kwargs))


def attempts(job: dict, deep: bool) -> list[tuple]:
    """All that comes near an answer: question, how it was called, all its answers."""
    sys.path.insert(0, job["place"])
    from gdm_course.checks.ask import _made, run
    from gdm_course.grading.guest.packing import unpack_ask

    found, things = [], {id(t): (n, t) for n, t in everything()}.values()
    for question, (frames, wanted, loose) in job["questions"].items():
        asks = [unpack_ask(*frame) for frame in frames]
        one = replace(asks[0], args=_made(asks[0].args))
        for name, thing in things:
            ways = arranged(name, thing, one.args, deep)
            if one.init is not None:
                ways = [(name, thing)]
            for way, call in ways:
                first = bounded(quick, one, call)
                for step, change in changed(first, deep) if first else ():
                    if near(bounded(change, first), wanted, loose):
                        rest = [bounded(run, ask, call) for ask in asks]
                        rest = [bounded(change, answer) for answer in rest]
                        if None not in rest:
                            found.append((question, way + step, [[*r] for r in rest]))
                        break
    return found


def main(jobs: str, reports: str, deep: str = "") -> None:
    """Fork for every job: each has a package of its own, all share torch."""
    warnings.simplefilter("ignore")
    signal.signal(signal.SIGALRM, slow)
    signal.signal(signal.SIGPROF, slow)
    torch.set_num_threads(1)
    for name in SHARED:
        importlib.import_module(name)
    for i, job in enumerate(torch.load(jobs, weights_only=True)):
        if os.fork() == 0:
            code = 1
            with open(os.devnull, "w") as nothing, contextlib.redirect_stdout(nothing):
                found = attempts(job, bool(deep))
                torch.save(found, f"{reports}.{i}")
                code = 0
            os._exit(code)
        if os.wait()[1]:
            raise SystemExit(f"job {i} failed")


if __name__ == "__main__":
    main(*sys.argv[1:])
