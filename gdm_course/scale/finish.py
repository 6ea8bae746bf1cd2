"""The end of a run: half-precision weights, measured as shipped, and their card."""

import hashlib
import json
import platform
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save as to_bytes
from torch import Tensor, nn

from gdm_course.batching import columns
from gdm_course.chance import own_chance
from gdm_course.checkpoints import FOLDER, paths, widen
from gdm_course.checkpoints.fingerprint import measure
from gdm_course.evaluation.features import named
from gdm_course.recipes import Metric, resolve
from gdm_course.scale.data import Splits
from gdm_course.scale.fast import exactly, patient
from gdm_course.scale.plan import changes
from gdm_course.scale.run import Run
from gdm_course.scale.whole import write_whole


def halve(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Round floating-point weights to float16; integers and truth values stay.

    Raises:
        OverflowError: a weight is beyond float16's largest number, 65504.
    """
    half = {k: v.half() if v.is_floating_point() else v for k, v in weights.items()}
    for name, tensor in half.items():
        if tensor.is_floating_point() and not tensor.isfinite().all():
            raise OverflowError(f"'{name}' has a weight that float16 cannot hold (65504)")
    return {k: v.contiguous() for k, v in half.items()}


def settled(run: Run) -> dict[str, Tensor]:
    """Return the chosen weights, after a last look of the model at its data."""
    model = run.chosen()
    model.load_state_dict(run.best)
    if hasattr(model, "settle"):
        model.settle(run.splits.train)
    return model.state_dict()


def publish(
    run: Run, fabric: Any, out: Path, say: Callable[[str], Any] = print
) -> dict[str, Any]:
    """Write the checkpoint and the card of a finished run, and return the card.

    The old card goes first: whatever happens in between, no card describes other weights.
    The course itself keeps no weights of a recipe that does not want them kept.
    """
    half = halve(settled(run))
    model = run.chosen()
    model.load_state_dict({k: widen(v) for k, v in half.items()})
    data = to_bytes(half)
    kept = run.recipe.keep or out.resolve() != FOLDER
    functions = [metric.function for metric in run.recipe.metrics]
    what = run.recipe.metrics, run.recipe.seed, model, run.splits
    with exactly():
        told = patient(lambda: figures(*what), say)
    card = describe(run, fabric, data) | {"kept": kept, "figures": told}
    card |= {"features": named(functions, run.splits.test)}
    weights, path = paths(run.recipe.name, out)
    path.unlink(missing_ok=True)
    if kept:
        write_whole(weights, lambda file: file.write(data))
    else:
        weights.unlink(missing_ok=True)
    write_card(card, path)
    return card


def write_card(card: dict[str, Any], path: Path) -> None:
    """Write a card whole, or leave the old one."""
    text = json.dumps(card, indent=1) + "\n"
    write_whole(path, lambda file: file.write(text.encode()))


def figures(
    metrics: Sequence[Metric], seed: int, model: nn.Module, splits: Splits
) -> list[dict[str, Any]]:
    """Measure every metric on the test and the validation split, with standard errors."""
    found = []
    for metric in metrics:
        for split in ("test", "valid"):
            x = getattr(splits, split)
            with own_chance(seed):
                value, error = resolve(metric.function)(model, x)
            n = len(columns(x)[0])
            told = {"metric": metric.name, "unit": metric.unit, "split": split, "n": n}
            found.append(told | {"value": value, "error": error})
    return found


def describe(run: Run, fabric: Any, data: bytes) -> dict[str, Any]:
    """Return all of the card but the figures."""
    recipe = run.recipe
    return {
        "name": recipe.name,
        "settings": recipe.settings(),
        "code": run.code,
        "measured_by": measure(recipe.settings()),
        "data": run.splits.source,
        "seed": recipe.seed,
        "steps": run.step,
        "plan": changes(run.plan, recipe),
        "chosen_at_step": run.best_step,
        "parameters": sum(p.numel() for p in run.model.parameters()),
        "weights": "float16",
        "file": {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)},
        "seconds": round(run.seconds, 1),
        "processor_seconds": round(run.processor, 1),
        "device": device(fabric),
        "beside": run.beside,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "date": datetime.now(UTC).date().isoformat(),
    }


def device(fabric: Any) -> str:
    """Name what a run ran on, such as "2 threads of an AMD EPYC" or "4 x NVIDIA H200"."""
    many = f"{fabric.world_size} x " if fabric.world_size > 1 else ""
    if fabric.device.type == "cuda":
        return many + torch.cuda.get_device_name(fabric.device)
    threads = torch.get_num_threads()
    return f"{many}{threads} CPU thread{'s' * (threads != 1)} ({processor()})"


def processor() -> str:
    """Return the processor's name, as far as the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").split("\n")
    except OSError:
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if "model name" in line)
    return next(named, platform.processor() or platform.machine())
