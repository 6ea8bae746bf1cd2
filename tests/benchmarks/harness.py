"""Time two ways to do the same thing, turn by turn, and compare the medians."""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

Work = Callable[[], object]


@dataclass(frozen=True)
class Ratio:
    """One comparison.

    Attributes:
        name: what is done, with sizes.
        ours, other: median seconds per call.
        against: what the other way is.
        goal: the ratio asked for, None where none is.
    """

    name: str
    ours: float
    other: float
    against: str
    goal: float | None = None

    @property
    def ratio(self) -> float:
        """How many times as fast ours is."""
        return self.other / self.ours

    @property
    def met(self) -> bool:
        """Whether the goal is reached; True without one."""
        return self.goal is None or self.ratio >= self.goal


def compare(
    name: str,
    ours: Work,
    other: Work,
    against: str,
    goal: float | None = None,
    repeat: int = 7,
) -> Ratio:
    """Call both in turn `repeat` times, after one call each to warm up.

    Taking turns lets a busy machine slow both ways down alike.
    """
    times: dict[Work, list[float]] = {ours: [], other: []}
    for turn in range(repeat + 1):
        for work, seconds in times.items():
            start = time.perf_counter()
            work()
            if turn:
                seconds.append(time.perf_counter() - start)
    medians = [statistics.median(seconds) for seconds in times.values()]
    return Ratio(name, *medians, against, goal)


def table(ratios: list[Ratio]) -> str:
    """Lay comparisons out as a Markdown table, times in milliseconds."""
    lines = ["| what | ours, ms | other, ms | ratio | goal | against |"]
    lines += ["|---|---:|---:|---:|---:|---|"]
    for r in ratios:
        goal = "" if r.goal is None else f"{r.goal:g}x" + ("" if r.met else " MISSED")
        times = f"{1000 * r.ours:.2f} | {1000 * r.other:.2f} | {r.ratio:.1f}x"
        lines.append(f"| {r.name} | {times} | {goal} | {r.against} |")
    return "\n".join(lines)
