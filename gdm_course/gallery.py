"""One data set, every family: the figure that grows with the course.

A family joins by defining, in `gdm_course/<family>/__init__.py`,

    def fit_plane(x: Tensor, steps: int, seed: int = 0) -> nn.Module

which trains its model of the plane on points (N, 2), with a chance of its own. Nothing else
needs an edit.
"""

import hashlib
import importlib
import io
import math
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image, PngImagePlugin
from torch import Tensor, nn

from gdm_course import plotting as plot
from gdm_course.chance import own_chance
from gdm_course.checkpoints.fingerprint import fingerprint
from gdm_course.data import toy
from gdm_course.divergences import Estimate, kl_estimate
from gdm_course.energy.normalise import Normalised
from gdm_course.environment import must_write
from gdm_course.protocols import Density
from gdm_course.training import budget, generator, shifted
from gdm_course.widgets import progress

STEPS = 2000
DRAWS = 500  # of z for a bound on log p
TESTS = 10_000  # points at which the gap is measured
CELLS = 150  # of a drawn density, along a side


def families() -> dict[str, str]:
    """Return the titles of the families of `course.toml` by slug, in the course's order."""
    text = files("gdm_course").joinpath("course.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)["families"]


def taxonomy() -> Iterator[tuple[str, str, dict[str, bool]]]:
    """Say what the models of the package can do: each promise is tested by keeping it.

    Yields:
        (family, class name, protocol -> whether the class satisfies it), for every class of
        a family's registry that samples or has a log-density.
    """
    for slug, title in families().items():
        seen: set[str] = set()
        for example in getattr(_package(slug), "models", dict)().values():
            with torch.random.fork_rng(devices=[]):
                name, able = type(example.build()).__name__, example.abilities()
            if name not in seen and (able["Sampler"] or able["Density"]):
                yield title, name, able
            seen.add(name)


def _package(slug: str):
    """Import the package of a family, or return None if the course does not have it yet."""
    path = files("gdm_course").joinpath(slug, "__init__.py")
    return importlib.import_module(f"gdm_course.{slug}") if path.is_file() else None


@dataclass(frozen=True)
class Entry:
    """A family's fitted model, and how far it is from the truth.

    Attributes:
        gap: estimate of KL(truth || model) in nats, or of a bound on it; None if the model
            has neither a density nor a bound on one.
        exact: that it is no bound.
    """

    family: str
    model: nn.Module
    gap: Estimate | None
    exact: bool


def fit(
    name: str = "two_moons", steps: int = STEPS, seed: int = 0, tests: int = TESTS
) -> list[Entry]:
    """Fit every family that has a `fit_plane` to the same 10,000 points of a toy density.

    The gap is measured on `tests` other points, whose true log-density is known.
    """
    truth, g = toy.get(name), generator(seed)
    x_train = truth.sample(10_000, g).float()
    x_test = truth.sample(budget(tests, 200), g).float()
    entries = []
    makers = [
        (title, getattr(_package(s), "fit_plane", None)) for s, title in families().items()
    ]
    makers = [(title, make) for title, make in makers if make]
    for title, make in progress(makers, label="fitting every family"):
        model = make(x_train, steps, seed).eval()
        with own_chance(shifted(seed)):
            gap = _gap(truth, model, x_test)
        entries.append(Entry(title, model, gap, isinstance(model, Density)))
    return entries


@torch.no_grad()
def _gap(truth: toy.Toy, model: nn.Module, x: Tensor) -> Estimate | None:
    """Estimate KL(truth || model) from points of the truth, or an upper bound on it."""
    if isinstance(model, Density):
        return kl_estimate(truth.log_prob, model.log_prob, x)
    if hasattr(model, "iwae"):
        return kl_estimate(truth.log_prob, lambda x: _bound(model, x), x)
    return None


def _bound(model: nn.Module, x: Tensor) -> Tensor:
    """A bound on log p(x), in parts: all at once, memory grows to gigabytes."""
    return torch.cat([model.iwae(rows, budget(DRAWS, 2)) for rows in x.split(500)])


def figure(
    name: str = "two_moons",
    steps: int = STEPS,
    seed: int = 0,
    tests: int = TESTS,
    cells: int = CELLS,
) -> Figure:
    """Fit every family to one toy density and draw what each learnt by the truth."""
    entries, truth = fit(name, steps, seed, tests), toy.get(name)
    titles = [f"{e.family}\n{_title(e)}" for e in entries]
    (left, right), (low, high) = truth.bounds
    height = 3.2 * (high - low) / (right - left) + 0.6  # no empty band around the panels
    about = f"The truth\n{name.replace('_', ' ')}"
    columns = math.ceil((1 + len(titles)) / 2) if len(titles) > 3 else 4  # full rows
    first, *others = plot.panels(about, *titles, columns=columns, height=height)
    plot.density(truth.log_prob, truth.bounds, first, n=budget(cells, 15))
    darkest = first.images[0].get_clim()[1]
    with own_chance(shifted(seed)):
        for ax, entry in zip(others, entries):
            _draw(entry.model, truth.bounds, ax, darkest, budget(cells, 15))
    return first.figure


def _title(entry: Entry) -> str:
    """Name the model, and its gap to the truth where there is one."""
    model = entry.model
    name = type(model.model if isinstance(model, Normalised) else model).__name__
    if entry.gap is None:
        return f"{name}: samples"
    return f"{name}: KL {'' if entry.exact else 'under '}{entry.gap.value:.3f} nats"


@torch.no_grad()
def _draw(model: nn.Module, bounds: tuple, ax: Axes, darkest: float, cells: int) -> None:
    """Draw a model's density on the truth's scale, or samples if it has no density."""
    if isinstance(model, Density):
        plot.density(model.log_prob, bounds, ax, cells, darkest)
    else:
        plot.scatter(model.sample(2000), ax, bounds)


def made_by(steps: int = STEPS) -> str:
    """Return what the picture is made by: steps, and a hash of all that is trained.

    The hash covers `fit_plane` of every family and each definition of ours that it uses.
    `draw` writes it into the picture, so that a test sees a picture older than its code.
    """
    slugs = [s for s in families() if hasattr(_package(s), "fit_plane")]
    found = {
        name: each for s in slugs for name, each in fingerprint(f"{s}.fit_plane").items()
    }
    text = "\n".join(f"{name} {found[name]}" for name in sorted(found))
    return f"{steps} steps, {hashlib.sha256(text.encode()).hexdigest()[:12]}"


def draw(path: Path, steps: int | None = None) -> None:
    """Write the figure as a PNG, for the README: `gdm gallery --out docs/gallery.png`."""
    path = Path(path)
    must_write(path.parent, "give --out a file in a folder that you may write to")
    note, drawn = PngImagePlugin.PngInfo(), io.BytesIO()
    note.add_text("made by", made_by(steps or STEPS))  # before the code can be edited
    with plot.style():
        figure(steps=steps or STEPS).savefig(drawn, dpi=90)
    # 256 colours: half the bytes, and nobody sees it
    few = Image.open(drawn).convert("RGB").quantize(256, dither=Image.Dither.NONE)
    few.save(path, format="png", optimize=True, pnginfo=note)
