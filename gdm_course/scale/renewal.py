"""`gdm train --measure` and `--confirm`: cards that are older than some code. Light."""

from collections.abc import Callable
from pathlib import Path

from gdm_course import checkpoints, recipes
from gdm_course.console import told
from gdm_course.environment import must_write


def older(folder: Path) -> list[str]:
    """Names of the cards that are older than some code, of kept weights."""
    files = {name: checkpoints.paths(name, folder) for name in recipes.names()}
    there = [name for name, pair in files.items() if all(p.is_file() for p in pair)]
    return [name for name in there if not checkpoints.measured(name, folder)]


def renew(confirm: bool, folder: Path, say: Callable, name: str) -> bool:
    """Renew one card, say how that ended, and return whether it did not fail."""
    from gdm_course.scale import again

    must_write(folder, "give --out a folder that you may write to")
    try:
        card = (again.confirm if confirm else again.measure_again)(name, folder)
    except (again.Changed, LookupError, OSError) as error:
        sentence = told(error) if isinstance(error, OSError) else None
        say(f"✘ {name}: {sentence or error}")
        return False
    first = card["figures"][0]
    say(f"✔ {name}: {first['metric']} {first['value']:.4f} ± {first['error']:.4f}")
    return True
