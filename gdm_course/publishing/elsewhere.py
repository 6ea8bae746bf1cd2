"""Settings under which a full run repeats: other seeds, other instructions, no data.

What holds for one seed on one make of processor is luck until it holds for others too.
"""

import argparse
import os
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass

from gdm_course.publishing.execute import BUILD, environment

SEED, ISA = "GDM_SEED_SHIFT", "ATEN_CPU_CAPABILITY"
KNOWN = ("default", "avx2", "avx512")  # "default" is torch's name for no vector kernels


@dataclass(frozen=True)
class Setting:
    """What a run of all notebooks has other than usual.

    Attributes:
        shift: of all seeds of a lecture, see `gdm_course.training.seed_shift`.
        isa: the instruction set that torch is held to; "" leaves the choice to torch.
        bare: without data and without a network to get them from.
    """

    shift: int = 0
    isa: str = ""
    bare: bool = False

    @property
    def suffix(self) -> str:
        """What its files' names end in, nothing for a plain run."""
        plain = self == Setting()
        bare = "-bare" * self.bare
        return "" if plain else f"-{self.shift}-{self.isa or 'native'}{bare}"

    @property
    def environment(self) -> dict[str, str]:
        """The environment of a kernel under this setting: full budget, strict checks."""
        env = environment(check=True, **{SEED: str(self.shift), ISA: self.isa})
        if self.bare:
            env |= {"GDM_DATA_DIR": str(BUILD / "no-data"), "GDM_OFFLINE": "1"}
        return env if self.isa else {k: v for k, v in env.items() if k != ISA}

    def __str__(self) -> str:
        return f"shift {self.shift}, {self.isa or 'native'}{', no data' * self.bare}"


def used(setting: Setting) -> str:
    """Ask torch which instruction set it takes under a setting."""
    code = "import torch; print(torch.backends.cpu.get_cpu_capability())"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=setting.environment, capture_output=True, text=True)
    return done.stdout.strip() or "unknown"


def headline(setting: Setting, found: str) -> str:
    """Say what a setting asks for and what torch makes of it."""
    other = setting.isa and found.lower() != setting.isa
    return f"{setting}: torch uses {found}" + ", not what was asked for" * bool(other)


def whole_numbers(text: str) -> list[int]:
    """Read `0,1,2`."""
    return [int(part) for part in text.split(",")]


def instruction_sets(text: str) -> list[str]:
    """Read `default,avx2`, or nothing at all: what torch chooses."""
    names = [name.strip().lower() for name in text.split(",")]
    if text and not {*names} <= {*KNOWN}:
        known = f"{', '.join(KNOWN[:-1])} or {KNOWN[-1]}"
        raise argparse.ArgumentTypeError(f"{text!r}: expected {known}, or several of these")
    return names


def positive(text: str) -> int:
    """Read a number of jobs."""
    if (number := int(text)) < 1:
        raise argparse.ArgumentTypeError(f"{text}: expected 1 or more jobs")
    return number


def read(arguments: list[str]) -> argparse.Namespace:
    """Read the command line; the environment stands in for options that are not given.

    Returns:
        `words` to look for in paths, `settings`, and `jobs`.
    """
    parser = argparse.ArgumentParser(prog="make full", description=__doc__)
    parser.add_argument(
        "words", nargs="*", help="parts of paths; all notebooks without any"
    )
    parser.add_argument("--shift", type=whole_numbers, help="of all seeds, such as 0,1,2")
    parser.add_argument("--isa", type=instruction_sets, help="such as default,avx2")
    parser.add_argument("--bare", action="store_true", help="no data, and no network")
    parser.add_argument("--jobs", type=positive, default=1, help="notebooks at once")
    parser.set_defaults(shift=os.environ.get(SEED, "0"), isa=os.environ.get(ISA, ""))
    given = parser.parse_args(arguments)
    given.settings = [Setting(s, isa, given.bare) for s in given.shift for isa in given.isa]
    return given


def table(stopped: Iterable[tuple[Setting, dict]]) -> str:
    """Which notebook stopped in which cell, under which setting, with which error."""
    rows = [("stopped", "cell", "under", "because")]
    for setting, row in stopped:
        cell = "" if row["stopped"] is None else str(row["stopped"])
        rows.append((row["notebook"], cell, str(setting), row["because"]))
    a, b, c = (max(len(row[i]) for row in rows) for i in range(3))
    return "\n".join(f"{r[0]:<{a}}  {r[1]:>{b}}  {r[2]:<{c}}  {r[3]}" for r in rows)
