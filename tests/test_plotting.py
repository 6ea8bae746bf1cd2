"""Figures show what they are given; widgets work with and without a front end."""

import math

import matplotlib
import matplotlib.pyplot as plt
import nbformat
import numpy as np
import pytest
import torch
from nbclient import NotebookClient
from torch import nn

from gdm_course import frames, widgets
from gdm_course import plotting as plot
from gdm_course.training import forever, train

NAN, INF = float("nan"), float("inf")
BOX = ((0.0, 4.0), (0.0, 2.0))


@pytest.fixture(autouse=True)
def clean(monkeypatch):
    for name in ("GDM_SMOKE", "GDM_LIVE", "CI"):
        monkeypatch.delenv(name, raising=False)
    yield
    plt.close("all")


def test_a_density_is_drawn_where_it_is():
    peak = torch.tensor([3.0, 0.5])
    ax = plot.density(lambda x: -(x - peak).square().sum(1) * 20, BOX, n=40)
    ink = ax.images[0].get_array()
    row, column = divmod(int(ink.argmax()), 40)
    left, right, low, high = ax.images[0].get_extent()
    assert left + (column + 0.5) / 40 * (right - left) == pytest.approx(3.0, abs=0.06)
    assert low + (row + 0.5) / 40 * (high - low) == pytest.approx(0.5, abs=0.03)
    assert ax.images[0].origin == "lower"


def test_panels_with_one_vmax_share_their_scale():
    ax = plot.density(lambda x: torch.zeros(len(x)), BOX, vmax=2.5)
    assert ax.images[0].get_clim() == (0, 2.5)


def needle_and_cloud(x):
    """Two Gaussians of equal weight: standard deviations 0.02 and 0.4."""
    found = []
    for centre, width in (((1.0, 1.0), 0.02), ((3.0, 1.0), 0.4)):
        distance = (x - torch.tensor(centre)).square().sum(1) / (2 * width**2)
        found.append(-distance - math.log(4 * math.pi * width**2))
    return torch.logaddexp(*found)


def ink(ax, x, y):
    """How dark a picture is at a place: 0 is white."""
    image, ((left, right), (low, high)) = ax.images[0], BOX
    shown = image.get_array()
    row = int((y - low) / (high - low) * shown.shape[0])
    column = int((x - left) / (right - left) * shown.shape[1])
    r, g, b, _ = image.cmap(image.norm(shown))[row, column]
    return 1 - (0.3 * r + 0.6 * g + 0.1 * b)


@pytest.mark.filterwarnings("error")
def test_a_log_scale_shows_the_cloud_beside_the_needle():
    with plot.style():
        plain = plot.density(needle_and_cloud, BOX, n=200)
    logarithmic = plot.density(needle_and_cloud, BOX, n=200, log=True)
    assert ink(plain, 3.0, 1.0) < 0.03
    assert ink(logarithmic, 3.0, 1.0) > 0.2
    assert ink(logarithmic, 1.0, 1.0) > ink(logarithmic, 3.0, 1.0) + 0.2
    assert ink(logarithmic, 0.05, 0.05) == pytest.approx(0, abs=1e-6)  # below the floor
    logarithmic.figure.canvas.draw()


def test_a_log_scale_says_its_floor_and_its_unit():
    ax = plot.density(lambda x: torch.zeros(len(x)), BOX, vmax=2.5, log=True, floor=1e-3)
    assert ax.images[0].get_clim() == (pytest.approx(2.5e-3), 2.5)
    bar = ax.images[0].colorbar
    assert "per unit of area" in bar.ax.get_ylabel()
    assert "white below 2.5e-03" in bar.ax.get_ylabel()
    assert bar.extend == "min"


def test_a_log_scale_is_proportional_to_the_logarithm():
    ax = plot.density(lambda x: -x[:, 0] * math.log(10), BOX, n=40, log=True, floor=1e-3)
    shown = ax.images[0].norm(ax.images[0].get_array())
    steps = np.diff(shown[0, :30])
    assert np.ptp(steps) == pytest.approx(0, abs=1e-6)
    assert steps[0] == pytest.approx(-0.1 / 3, rel=1e-4)  # a factor of 10 in 3 a unit of x


@pytest.mark.parametrize("floor", [0, 1, -1e-4, NAN])
def test_a_floor_is_a_fraction(floor):
    with pytest.raises(ValueError, match="expected a fraction of the darkest ink"):
        plot.density(lambda x: x[:, 0], BOX, log=True, floor=floor)


def test_a_second_curve_is_not_cut_off():
    ax = plot.density_1d(torch.distributions.Normal(0.0, 2.0).log_prob, (-5, 5))
    plot.density_1d(torch.distributions.Normal(0.0, 0.1).log_prob, (-5, 5), ax)
    assert ax.get_ylim()[1] > 3.98


def test_panels_fill_rows_and_leave_no_empty_axes():
    axes = plot.panels("a", "b", "c", columns=2)
    assert [ax.get_title(loc="left") for ax in axes] == ["a", "b", "c"]
    assert len(axes[0].figure.axes) == 3


def test_scatter_shows_every_point():
    x = torch.rand(50, 2, requires_grad=True)
    ax = plot.scatter(x, bounds=BOX)
    torch.testing.assert_close(
        torch.tensor(ax.collections[0].get_offsets().data).float(), x.data
    )
    assert ax.get_xlim() == BOX[0]


def test_arrows_keep_their_direction():
    ax = plot.vector_field(lambda x: torch.stack([-4 * x[:, 1], x[:, 0]], 1), BOX, n=5)
    arrows = ax.collections[0]
    x, y = np.asarray(arrows.XY).T
    u, v = np.asarray(arrows.U), np.asarray(arrows.V)
    assert np.abs(-4 * y * v - x * u).max() < 1e-5  # parallel to (-4y, x)
    assert (x * v >= 0).all()  # and not the opposite


def test_images_go_row_by_row_onto_the_grid():
    x = torch.zeros(5, 1, 3, 4, dtype=torch.uint8)
    x[4] = 255
    shown = plot.image_grid(x, columns=3).images[0].get_array()
    assert shown.shape == (2 * 4 - 1, 3 * 5 - 1)
    assert shown[4:7, 5:9].min() == 1  # the fifth: second row, second column
    assert shown[:3, :4].max() == 0
    colour = plot.image_grid(torch.rand(4, 3, 8, 8)).images[0].get_array()
    assert colour.shape == (17, 17, 3)


def test_style_can_be_taken_back():
    before = matplotlib.rcParams["axes.spines.top"], matplotlib.rcParams["figure.dpi"]
    with plot.style():
        assert matplotlib.rcParams["axes.spines.top"] is False
    assert (
        matplotlib.rcParams["axes.spines.top"],
        matplotlib.rcParams["figure.dpi"],
    ) == before


@pytest.mark.parametrize(
    ("spec", "start"),
    [
        ((0.0, 1.0, 0.25), 0.5),
        ((0, 10, 5), 5),
        ((0, 9, 1, 7), 7),
        ([3, 1], 3),
        (True, True),
    ],
)
def test_where_a_slider_starts(spec, start):
    assert frames.start(spec) == start
    assert widgets._control("a_b", spec).value == start
    assert widgets._control("a_b", spec).description == "a b"


def test_a_wrong_slider_is_explained():
    with pytest.raises(TypeError, match=r"give \(low, high, step\)"):
        widgets._control("x", (0, 1))


def test_play_without_a_front_end_draws_once_and_closes():
    calls = []
    widgets.play(
        lambda a, b: calls.append((a, b)) or plt.figure(), a=(0, 4, 1), b=["u", "v"]
    )
    assert calls == [(2, "u")]
    assert not plt.get_fignums()


class Mean(nn.Module):
    def __init__(self):
        super().__init__()
        self.mu = nn.Parameter(torch.zeros(2))

    def loss(self, x):
        noise = torch.randn_like(x)  # training that draws random numbers, as a VAE's does
        return (x + noise - self.mu).square().mean()


def trained(wrap):
    torch.manual_seed(0)
    model, x = Mean(), torch.randn(64, 2)
    for _ in wrap(train(model, forever(x, 16), 20)):
        pass
    return model.mu.detach()


@pytest.mark.parametrize("live", [False, True])
def test_watching_does_not_change_what_is_trained(live, monkeypatch):
    drawn = []
    monkeypatch.setattr(widgets, "live", lambda: live)
    panels = {"noise": lambda ax: drawn.append(torch.randn(3))}
    watched = trained(lambda steps: widgets.watch(steps, 1, panels))
    assert torch.equal(watched, trained(lambda steps: steps))
    assert len(drawn) == 1 or (live and len(drawn) > 1)
    assert all(torch.equal(d, drawn[0]) for d in drawn)  # no flicker: the same noise


def test_watch_leaves_one_figure_however_the_loop_ends(monkeypatch):
    shown = []
    monkeypatch.setattr(widgets, "show", lambda figure, handle=None: shown.append(figure))
    losses = [(i, 1 / i) for i in range(1, 9)]
    for step, _ in widgets.watch(losses):
        if step == 3:
            break
    assert len(shown) == 1

    def diverges():
        yield from losses
        raise FloatingPointError("the loss is nan")

    with pytest.raises(FloatingPointError):
        list(widgets.watch(diverges()))
    assert len(shown) == 2
    assert not list(widgets.watch([]))  # nothing trained, nothing to show
    assert len(shown) == 2


def test_progress_says_one_line_in_a_quiet_run(monkeypatch, capsys):
    monkeypatch.setenv("GDM_SMOKE", "1")
    assert list(widgets.progress(range(3), label="counting")) == [0, 1, 2]
    out, err = capsys.readouterr()
    assert out.startswith("counting: 3 in ")
    assert out.count("\n") == 1
    assert not err


CELLS = [
    """
import ipywidgets, torch
from torch.distributions import Normal
from gdm_course import plotting as plot
from gdm_course.widgets import play, watch
calls, boxes, box = [], [], ipywidgets.VBox
ipywidgets.VBox = lambda parts: boxes.append(parts) or box(parts)
def draw(shift):
    calls.append(shift)
    assert shift < 2, "too far"
    plot.density_1d(Normal(shift, 1.0).log_prob, (-5, 5))
""",
    "play(draw, shift=(-2.0, 2.0, 0.5))",
    """
slider, picture, trouble = boxes[0]
assert not slider.continuous_update
before = bytes(picture.value)
slider.value = 1.5
assert calls == [0.0, 1.5], calls
after = bytes(picture.value)
assert after.startswith(b"\\x89PNG") and after != before
slider.value = 2.0
assert trouble.value == "AssertionError: too far"
slider.value = 1.5
assert trouble.value == ""
""",
    "for step, loss in watch([(i, 1 / i) for i in range(1, 400)], every=10): pass",
]


def run_cells(sources, monkeypatch, **environment):
    monkeypatch.delenv("MPLBACKEND", raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    cells = [nbformat.v4.new_code_cell(source) for source in sources]
    notebook = nbformat.v4.new_notebook(cells=cells)
    NotebookClient(notebook, kernel_name="python3", timeout=120).execute()
    return notebook


def test_in_a_kernel_sliders_move_the_figure_and_readers_see_a_still_one(monkeypatch):
    notebook = run_cells(CELLS, monkeypatch)
    (output,) = notebook.cells[1].outputs
    assert {"image/png", widgets.WIDGET} <= set(output.data)
    (watched,) = notebook.cells[3].outputs  # drawn many times, in one place
    assert "image/png" in watched.data


def test_a_smoke_run_leaves_one_still_figure(monkeypatch):
    without_slider = [CELLS[0], CELLS[1], CELLS[3]]
    notebook = run_cells(without_slider, monkeypatch, GDM_SMOKE="1")
    for cell in notebook.cells[1:]:
        (output,) = cell.outputs
        assert "image/png" in output.data
        assert widgets.WIDGET not in output.data


HOLE = torch.tensor([NAN, INF, -INF, 0.0, 1.0, 2.0])


def notes(ax):
    """What an axes says about values that it cannot draw."""
    return [text.get_text() for text in ax.texts if "not finite" in text.get_text()]


def holed(x):
    """A log-density with a hole: NaN on the left, infinite at the right edge."""
    value = -x.square().sum(-1) if x.ndim == 2 else -(x**2)
    first = x[..., 0] if x.ndim == 2 else x
    return torch.where(first < 1.0, NAN, torch.where(first > 3.5, INF, value))


DRAWN = {
    "scatter": lambda ax: plot.scatter(torch.stack([HOLE, HOLE], 1), ax),
    "scatter, nothing finite": lambda ax: plot.scatter(torch.full((3, 2), NAN), ax),
    "density": lambda ax: plot.density(holed, BOX, ax, n=20),
    "density, nothing finite": lambda ax: plot.density(lambda x: x[:, 0] * NAN, BOX, ax),
    "density, log": lambda ax: plot.density(holed, BOX, ax, n=20, log=True),
    "density, log, nothing finite": lambda ax: plot.density(
        lambda x: x[:, 0] * NAN, BOX, ax, log=True
    ),
    "density_1d": lambda ax: plot.density_1d(holed, (0, 4), ax),
    "density_1d, nothing finite": lambda ax: plot.density_1d(lambda x: x * NAN, (0, 4), ax),
    "curves": lambda ax: plot.curves({"a": HOLE, "b": HOLE}, ax),
    "curves, nothing finite": lambda ax: plot.curves({"a": HOLE[:2]}, ax),
    "field": lambda ax: plot.vector_field(lambda x: x * HOLE[:2], BOX, ax),
    "field, partly": lambda ax: plot.vector_field(lambda x: holed(x)[:, None] * x, BOX, ax),
    "images": lambda ax: plot.image_grid(HOLE.view(1, 2, 3), ax),
    "images, colour": lambda ax: plot.image_grid(HOLE.repeat(3).view(1, 3, 2, 3), ax),
    "progress": lambda ax: widgets._progress_figure(HOLE.tolist(), {}, "nats"),
    "progress, nothing finite": lambda ax: widgets._progress_figure([NAN], {}, "nats"),
}


@pytest.mark.parametrize("case", DRAWN)
@pytest.mark.filterwarnings("error")
def test_what_is_not_finite_is_left_out_and_said(case):
    made = DRAWN[case](plot.panels("")[0])
    ax = made.axes[0] if isinstance(made, plt.Figure) else made
    ax.figure.canvas.draw()
    assert notes(ax)
    assert all(" of " in note for note in notes(ax))
    assert np.isfinite([*ax.get_xlim(), *ax.get_ylim()]).all()


@pytest.mark.filterwarnings("error")
def test_a_colour_scale_is_made_of_what_is_finite():
    ax = plot.density(holed, BOX, n=40)
    low, high = ax.images[0].get_clim()
    assert low == 0
    assert 0 < high < 1  # exp(-1.x) at the edge of the hole
    other = plot.density(lambda x: -x.square().sum(1), BOX, vmax=NAN)
    assert np.isfinite(other.images[0].get_clim()).all()
    assert not notes(other)


def test_finite_figures_say_nothing():
    for ax in (
        plot.scatter(torch.rand(5, 2)),
        plot.density(lambda x: -x.square().sum(1), BOX),
        plot.density_1d(lambda x: -(x**2), (0, 4)),
        plot.curves({"a": [1, 2]}),
        plot.vector_field(lambda x: x, BOX),
        plot.image_grid(torch.rand(2, 3, 3)),
        widgets._progress_figure([1.0, 0.5], {}, "nats").axes[0],
    ):
        assert not notes(ax)


def broken(ax):
    raise ZeroDivisionError("the panel is broken")


def test_watch_does_not_hide_the_error_of_the_training(capsys):
    def diverges():
        yield 1, 1.0
        raise FloatingPointError("the loss is nan")

    with pytest.raises(FloatingPointError, match="the loss is nan") as caught:
        list(widgets.watch(diverges(), panels={"a": broken}))
    assert caught.value.__context__ is None
    said = capsys.readouterr().out
    assert said == "the last figure is missing: ZeroDivisionError: the panel is broken\n"
    assert not plt.get_fignums()


def test_watch_does_not_hide_a_stop_by_hand(capsys, recwarn):
    def stopped():
        yield 1, 1.0
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(widgets.watch(stopped(), panels={"a": broken}))
    for _ in widgets.watch([(1, 1.0), (2, 1.0)], panels={"a": broken}):
        break
    assert capsys.readouterr().out.count("the last figure is missing") == 2
    assert not recwarn.list  # no "Exception ignored in generator"


def test_a_broken_panel_is_shown_when_nothing_else_went_wrong(monkeypatch, capsys):
    with pytest.raises(ZeroDivisionError, match="the panel is broken"):
        list(widgets.watch([(1, 1.0)], panels={"a": broken}))
    monkeypatch.setattr(widgets, "live", lambda: True)
    with pytest.raises(ZeroDivisionError, match="the panel is broken"):
        list(widgets.watch([(1, 1.0), (2, 1.0)], every=1, panels={"a": broken}))
    assert not plt.get_fignums()
