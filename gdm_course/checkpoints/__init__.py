"""What `gdm train` made: half-precision weights, each with a card telling how good it is.

    model = checkpoints.load("autoregressive/made-mnist-cpu")

Nothing here imports torch before weights are loaded.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

from gdm_course import recipes
from gdm_course.checkpoints.fingerprint import changes, fingerprint, measure

FOLDER = Path(__file__).parent


class StaleCheckpoint(RuntimeError):
    """The weights are older than the code that would use them."""


def paths(name: str, folder: Path = FOLDER) -> tuple[Path, Path]:
    """Return where the weights and the card of a recipe lie."""
    return folder / f"{name}.safetensors", folder / f"{name}.json"


def card(name: str, folder: Path = FOLDER) -> dict[str, Any]:
    """Return the card of a checkpoint: figures, settings, seed, time, device, data, code.

    Raises:
        LookupError: there is no recipe of that name.
        FileNotFoundError: it has not been trained yet; the sentence says how.
    """
    weights, path = paths(name, folder)
    if path.is_file():
        told = json.loads(path.read_text(encoding="utf-8"))
        if weights.is_file() or not told.get("kept", True):
            return told
    if folder == FOLDER:
        recipes.get(name)  # says which names there are, if it is not one of them
    raise FileNotFoundError(f"{name} has not been trained yet: run 'gdm train {name}'")


def stale(told: dict[str, Any]) -> str | None:
    """Say what changed in the code since a card was written, or None."""
    try:
        changed = changes(told["code"], fingerprint(told["settings"]["model"]))
    except LookupError as gone:
        return str(gone)
    return f"{', '.join(changed)} changed since it was trained" if changed else None


def outdated(told: dict[str, Any]) -> str | None:
    """Say what changed in the code that measured the figures of a card, or None."""
    if "measured_by" not in told:
        return "it does not say by which code its figures were measured"
    for name, sha in told.get("features", {}).items():
        if card(name)["file"]["sha256"] != sha:
            return f"the features of {name} changed since it was measured"
    changed = changes(told["measured_by"], measure(told["settings"]))
    return f"{', '.join(changed)} changed since it was measured" if changed else None


def pending(name: str, folder: Path = FOLDER) -> str | None:
    """Say why a recipe has to be run (again), or None when its checkpoint is current."""
    try:
        told = card(name, folder)
    except FileNotFoundError:
        return "not trained yet"
    if reason := stale(told):
        return f"older than its code: {reason}"
    if reason := outdated(told):
        return f"its figures are older than the code that measures: {reason}"
    differ = recipes.differs(recipes.get(name), told["settings"])
    return f"its recipe changed: {', '.join(differ)}" if differ else None


def measured(name: str, folder: Path = FOLDER) -> bool:
    """Say whether there is a card that is not older than any code, weights or not."""
    try:
        told = card(name, folder)
        return stale(told) is None and outdated(told) is None
    except FileNotFoundError:
        return False


def available(name: str, folder: Path = FOLDER) -> bool:
    """Say whether `load(name)` would succeed: weights, and not older than their code."""
    return measured(name, folder) and paths(name, folder)[0].is_file()


def load(name: str, stale_ok: bool = False, folder: Path = FOLDER) -> Any:
    """Build the model of a checkpoint with its trained weights, float32, in eval mode.

    Args:
        name: of the recipe.
        stale_ok: load weights that are older than the model's code, if they still fit.
        folder: where `gdm train --out` wrote it, if elsewhere.

    Raises:
        FileNotFoundError: it has not been trained yet, or only its card is kept.
        StaleCheckpoint: the weights are older than the code, or the file is not the card's.
    """
    from safetensors.torch import load as parse

    told, (path, _) = card(name, folder), paths(name, folder)
    if (reason := stale(told)) and not stale_ok:
        raise StaleCheckpoint(
            f"{name} is older than its code ({reason}): run 'gdm train {name}', "
            "or pass stale_ok=True"
        )
    if not path.is_file():
        raise FileNotFoundError(
            f"of {name} the course keeps the card only: run 'gdm train {name} --out DIR', "
            "then load it with folder=DIR"
        )
    data = path.read_bytes()
    if hashlib.sha256(data).hexdigest() != told["file"]["sha256"]:
        raise StaleCheckpoint(
            f"{path} is not the file that its card describes: get it again"
        )
    settings = told["settings"]
    model = recipes.resolve(settings["model"])(*settings["args"], **settings["kwargs"])
    model.load_state_dict({k: widen(v) for k, v in parse(data).items()})
    return model.eval()


def widen(tensor: Any) -> Any:
    """Return a floating-point tensor as float32, anything else as it is."""
    return tensor.float() if tensor.is_floating_point() else tensor
