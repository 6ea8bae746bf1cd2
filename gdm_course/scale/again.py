"""Measure kept weights again, and renew the cards of what still is what it was."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from gdm_course import checkpoints
from gdm_course.checkpoints.fingerprint import fingerprint, measure
from gdm_course.evaluation.features import named
from gdm_course.recipes import Metric, resolve
from gdm_course.scale.finish import figures, write_card

SAME = 0.5  # standard errors: noise of one measurement, which a change of code may redraw


class Changed(RuntimeError):
    """The weights give other figures under the code as it is now: they are not its own."""


def measure_again(name: str, folder: Path = checkpoints.FOLDER) -> dict[str, Any]:
    """Measure the weights of a card with the code as it is now, and renew the card.

    What the weights were trained with may have changed since, if nothing that is measured
    has: every figure has to come out as it stands, within half of a standard error. If
    only the measuring code has changed, the new figures are taken as they are.

    Returns:
        The new card.

    Raises:
        FileNotFoundError: there is no card, or no weights with it.
        Changed: the model computes something else now; the card stays as it is.
    """
    told, (_, path) = checkpoints.card(name, folder), checkpoints.paths(name, folder)
    settings = told["settings"]
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = checkpoints.load(name, stale_ok=True, folder=folder).to(device)
    splits = resolve(settings["data"])(*settings["data_args"]).to(device)
    metrics = [Metric(**metric) for metric in settings["metrics"]]
    found = figures(metrics, settings["seed"], model, splits)
    if checkpoints.stale(told) and (other := _other(told["figures"], found)):
        raise Changed(
            f"its model has changed, and the weights give other figures now ({other}): "
            f"run 'gdm train {name}'"
        )
    when = {"date": _today(), "torch": torch.__version__}
    told |= {"features": named([metric.function for metric in metrics], splits.test)}
    return _renewed(told | {"figures": found, "measured": when}, path)


def confirm(name: str, folder: Path = checkpoints.FOLDER) -> dict[str, Any]:
    """Renew a card by an author's word that no result changed with the code. Says so in it.

    Raises:
        FileNotFoundError: there is no card.
    """
    told, (_, path) = checkpoints.card(name, folder), checkpoints.paths(name, folder)
    return _renewed(told | {"confirmed": {"date": _today()}}, path)


def _renewed(told: dict[str, Any], path: Path) -> dict[str, Any]:
    settings = told["settings"]
    code, by = fingerprint(settings["model"]), measure(settings)
    card = told | {"code": code, "measured_by": by}
    write_card(card, path)
    return card


def _other(then: list[dict], now: list[dict]) -> str:
    """Which figures differ by more than noise."""
    return ", ".join(
        f"{old['metric']} on the {old['split']} split {old['value']:.4f}, now "
        f"{new['value']:.4f}"
        for old, new in zip(then, now, strict=True)
        if not abs(old["value"] - new["value"]) <= SAME * old["error"]
    )


def _today() -> str:
    return datetime.now(UTC).date().isoformat()
