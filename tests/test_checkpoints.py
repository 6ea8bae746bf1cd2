"""Checkpoints: what belongs to their code, when they are stale, the table, `gdm train`."""

import json
import subprocess
import sys
from dataclasses import replace

import pytest
from scale_runs import TINY, noisy
from test_scale import NAME, train_tiny
from typer.testing import CliRunner

from gdm_course import checkpoints, recipes
from gdm_course.checkpoints.fingerprint import changes, fingerprint, measure
from gdm_course.checkpoints.table import table
from gdm_course.cli import app
from gdm_course.recipes import NLL, Metric
from gdm_course.recipes.settings import Public
from gdm_course.scale import again

MODEL = '''"""A family's model."""

from gdm_course import nets
from gdm_course.energy.other import helper as aid
from gdm_course.training import train

SCALE = 2.0


def unused():
    return train


def double(x):
    """Twice."""
    return x * SCALE


class Model:
    """A model."""

    def loss(self, x: float, order: int = 0) -> float:
        """What is minimised."""
        if x < 0:
            raise ValueError(f"given {x}, expected at least 0")
        return double(aid(x)) + nets.mlp(x)  # all three count
'''
OTHER = "def helper(x):\n    return deeper(x)\n\n\ndef deeper(x):\n    return x + 1\n"
NETS = "def mlp(x):\n    return x\n\n\ndef unet(x):\n    return x\n"


@pytest.fixture
def package(tmp_path):
    """A package of three small rooms; call it to edit a file and have its fingerprint."""
    where = tmp_path / "gdm_course"

    def write(name: str, text: str) -> dict[str, str]:
        (where / name).write_text(text)
        return fingerprint("energy.model.Model", where)

    (where / "energy").mkdir(parents=True)
    (where / "course.toml").write_text('[families]\nenergy = "E"\n')
    (where / "nets.py").write_text(NETS)
    (where / "energy" / "other.py").write_text(OTHER)
    return write


def test_the_fingerprint_holds_what_the_model_uses_and_nothing_else(package):
    found = package("energy/model.py", MODEL)
    assert list(found) == [
        "energy.model.Model",
        "energy.model.SCALE",
        "energy.model.double",
        "energy.other.deeper",
        "energy.other.helper",
        "nets.mlp",
    ]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("  # all three count", ""),
        ('"""Twice."""', '"""Two times, in other words."""'),
        ('    """Twice."""\n', ""),
        ("return x * SCALE", "return (\n        x * SCALE\n    )"),
        ("x: float, order: int = 0", "x, order=0"),
        ("given {x}, expected at least 0", "x is negative"),
        ("return train", "return train, 1"),
    ],
    ids=["comment", "docstring", "no docstring", "layout", "hints", "error text", "unused"],
)
def test_what_changes_no_result_changes_no_hash(package, old, new):
    assert old in MODEL
    before = package("energy/model.py", MODEL)
    assert package("energy/model.py", MODEL.replace(old, new)) == before


@pytest.mark.parametrize(
    ("file", "text", "old", "new", "changed"),
    [
        ("energy/model.py", MODEL, "SCALE = 2.0", "SCALE = 2.5", "energy.model.SCALE"),
        ("energy/model.py", MODEL, "x * SCALE", "x / SCALE", "energy.model.double"),
        (
            "energy/model.py",
            MODEL,
            "order: int = 0",
            "order: int = 1",
            "energy.model.Model",
        ),
        ("energy/model.py", MODEL, "x < 0", "x <= 0", "energy.model.Model"),
        ("energy/other.py", OTHER, "x + 1", "x + 2", "energy.other.deeper"),
        ("nets.py", NETS, "(x):\n    return x\n", "(x):\n    return -x\n", "nets.mlp"),
    ],
)
def test_what_changes_a_result_is_named(package, file, text, old, new, changed):
    package("energy/model.py", MODEL)
    before = package(file, text)
    assert changes(before, package(file, text.replace(old, new, 1))) == [changed]


def test_a_name_that_cannot_be_followed_is_an_error(package):
    with pytest.raises(LookupError, match=r"gdm_course\.nets\.mpl"):
        package("energy/model.py", MODEL.replace("nets.mlp", "nets.mpl"))
    with pytest.raises(LookupError, match="no module gdm_course/energy/gone"):
        fingerprint("energy.gone.Model")


def test_the_hash_is_the_same_on_every_python(package):
    """Written down on 3.11: a tree that another version writes otherwise would show."""
    found = package("energy/model.py", MODEL)
    assert found["energy.model.Model"] == "4850e1f22022"


SETTINGS = {
    "data": "scale.points.draw",
    "data_args": ["energy.other.helper", "moons", 4],
    "metrics": [{"function": "evaluation.score.score"}],
}
MEASURING = {
    "scale/points.py": "def draw(name):\n    from gdm_course.data import laws\n\n"
    "    return laws.truth(name)\n",
    "scale/finish.py": "def figures(model):\n    return model\n",
    "evaluation/score.py": "from gdm_course.energy.model import Model\n\n\n"
    "def score(model: Model):\n    return mean(model)\n\n\ndef mean(x):\n    return x\n",
    "data/laws.py": "from gdm_course.data import download\n\n\n"
    "def truth(name):\n    return download.fetch(name)\n",
    "data/download.py": "def fetch(name):\n    return name\n",
}


@pytest.fixture
def measuring(package, tmp_path):
    """That package with rooms that measure; call it to edit a file and hash again."""
    where = tmp_path / "gdm_course"
    package("energy/model.py", MODEL)

    def write(name: str, text: str) -> dict[str, str]:
        (where / name).parent.mkdir(exist_ok=True)
        (where / name).write_text(text)
        return (
            measure(SETTINGS, where) if all((where / n).exists() for n in MEASURING) else {}
        )

    for name, text in MEASURING.items():
        write(name, text)
    return write


def test_figures_belong_to_metrics_data_and_what_encodes_it(measuring):
    found = measuring("scale/finish.py", MEASURING["scale/finish.py"])
    assert list(found) == [
        "data.laws.truth",
        "energy.other.deeper",
        "energy.other.helper",
        "evaluation.score.mean",
        "evaluation.score.score",
        "scale.finish.figures",
        "scale.points.draw",
    ]


@pytest.mark.parametrize(
    ("name", "old", "new", "changed"),
    [
        (
            "evaluation/score.py",
            "    return x\n",
            "    return -x\n",
            ["evaluation.score.mean"],
        ),
        ("scale/finish.py", "return model", "return None", ["scale.finish.figures"]),
        ("data/laws.py", "fetch(name)", "fetch(name + 1)", ["data.laws.truth"]),
        ("data/download.py", "return name", "return [name]", []),
    ],
)
def test_a_repair_of_what_measures_makes_figures_old(measuring, name, old, new, changed):
    text = MEASURING[name]
    before, after = measuring(name, text), measuring(name, text.replace(old, new, 1))
    assert changes(before, after) == changed


def finished(folder, monkeypatch, recipe=None):
    """Register the tiny recipe alone and train it."""
    recipe = recipe or replace(noisy(), steps=7)
    monkeypatch.setattr(recipes, "RECIPES", (recipe,))
    return train_tiny(folder, recipe)[0]


def edit(folder, change) -> None:
    """Rewrite a card."""
    path = checkpoints.paths(NAME, folder)[1]
    card = json.loads(path.read_text())
    change(card)
    path.write_text(json.dumps(card))


def test_what_is_missing_is_said_with_the_remedy(tmp_path, monkeypatch):
    monkeypatch.setattr(recipes, "RECIPES", (noisy(),))
    assert not checkpoints.available(NAME)
    for ask in (checkpoints.load, checkpoints.card):
        with pytest.raises(FileNotFoundError, match=f"not been trained.*gdm train {NAME}"):
            ask(NAME)
    with pytest.raises(LookupError, match="no recipe 'autoregressive/nonsense'"):
        checkpoints.load("autoregressive/nonsense")
    assert checkpoints.pending(NAME, tmp_path) == "not trained yet"


def test_weights_older_than_their_code_are_refused(tmp_path, monkeypatch):
    finished(tmp_path, monkeypatch)
    out = tmp_path / "out"
    assert checkpoints.available(NAME, out)
    assert checkpoints.pending(NAME, out) is None
    edit(out, lambda card: card["code"].update({"autoregressive.made.masks": "0" * 12}))
    assert not checkpoints.available(NAME, out)
    with pytest.raises(
        checkpoints.StaleCheckpoint, match=r"older than its code.*made\.masks"
    ):
        checkpoints.load(NAME, folder=out)
    assert checkpoints.load(NAME, stale_ok=True, folder=out) is not None
    assert "older than its code" in checkpoints.pending(NAME, out)
    edit(out, lambda card: card["settings"].update({"model": "autoregressive.made.Gone"}))
    assert "Gone" in checkpoints.pending(NAME, out)


def test_figures_older_than_what_measures_do_not_count(tmp_path, monkeypatch):
    """A repaired metric must not keep old figures; the weights are as good as before."""
    finished(tmp_path, monkeypatch)
    out, by = tmp_path / "out", "evaluation.likelihood.estimate"
    assert checkpoints.measured(NAME, out)
    edit(out, lambda card: card["measured_by"].update({by: "0" * 12}))
    assert not checkpoints.measured(NAME, out)
    assert not checkpoints.available(NAME, out)
    assert checkpoints.load(NAME, folder=out) is not None
    assert by in checkpoints.pending(NAME, out)
    assert "older than its code" in table(out)
    edit(out, lambda card: card.pop("measured_by"))
    assert "does not say by which code" in checkpoints.pending(NAME, out)


def test_figures_are_taken_again(tmp_path, monkeypatch):
    """With the same model they are what they are; with another one they must agree."""
    card = finished(tmp_path, monkeypatch)
    out, first = tmp_path / "out", card["figures"][0]
    edit(out, lambda card: card["figures"][0].update(value=first["value"] + 1))
    edit(out, lambda card: card["measured_by"].clear())
    now = again.measure_again(NAME, out)
    assert now["figures"] == card["figures"]
    assert now["measured"]["date"] >= card["date"]
    assert checkpoints.pending(NAME, out) is None
    edit(out, lambda card: card["code"].clear())
    assert "older than its code" in checkpoints.pending(NAME, out)
    assert again.measure_again(NAME, out)["code"] == card["code"]
    assert checkpoints.pending(NAME, out) is None


@pytest.mark.parametrize("which", [0, 1])
def test_weights_that_give_other_figures_under_new_code_stay_stale(
    tmp_path, monkeypatch, which
):
    card = finished(tmp_path, monkeypatch)
    out, told = tmp_path / "out", card["figures"][which]
    edit(out, lambda c: c["figures"][which].update(value=told["value"] + told["error"]))
    edit(out, lambda card: card["code"].clear())
    before = checkpoints.paths(NAME, out)[1].read_text()
    with pytest.raises(
        again.Changed, match=f"on the {told['split']} split.*gdm train {NAME}"
    ):
        again.measure_again(NAME, out)
    assert checkpoints.paths(NAME, out)[1].read_text() == before


def test_gdm_train_measures_what_is_older_and_takes_an_authors_word(tmp_path, monkeypatch):
    finished(tmp_path, monkeypatch)
    out = ["--out", tmp_path / "out"]
    assert gdm("--measure", *out) == (0, "")
    edit(tmp_path / "out", lambda card: card["measured_by"].clear())
    code, said = gdm("--measure", *out)
    assert (code, said.startswith(f"✔ {NAME}: negative log-likelihood")) == (0, True)
    assert checkpoints.measured(NAME, tmp_path / "out")
    edit(tmp_path / "out", lambda card: card["code"].clear() or card.update(kept=False))
    checkpoints.paths(NAME, tmp_path / "out")[0].unlink()
    code, said = gdm(NAME, "--measure", *out)
    assert (code, "keeps the card only" in said) == (1, True)
    assert gdm(NAME, "--confirm", *out)[0] == 0
    card = checkpoints.card(NAME, tmp_path / "out")
    assert checkpoints.pending(NAME, tmp_path / "out") is None
    assert card["confirmed"]["date"]


def test_an_edited_recipe_is_pending_but_its_old_weights_still_load(tmp_path, monkeypatch):
    finished(tmp_path, monkeypatch)
    wider = replace(noisy(), steps=7, kwargs={"hidden": (32,), "orders": 3, "dropout": 0.3})
    monkeypatch.setattr(recipes, "RECIPES", (wider,))
    assert checkpoints.pending(NAME, tmp_path / "out") == "its recipe changed: kwargs"
    model = checkpoints.load(NAME, folder=tmp_path / "out")
    assert model.net.layers[0].out_features == 16


def test_a_setting_that_recipes_did_not_have_yet_counts_as_its_default(
    tmp_path, monkeypatch
):
    card = finished(tmp_path, monkeypatch)
    edit(tmp_path / "out", lambda card: card["settings"].pop("patience"))
    assert card["settings"]["patience"] is None
    assert checkpoints.pending(NAME, tmp_path / "out") is None
    edit(tmp_path / "out", lambda card: card["settings"].pop("ema"))  # not its default
    assert checkpoints.pending(NAME, tmp_path / "out") == "its recipe changed: ema"


def test_weights_that_are_not_the_cards_are_refused(tmp_path, monkeypatch):
    finished(tmp_path, monkeypatch)
    path = checkpoints.paths(NAME, tmp_path / "out")[0]
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(checkpoints.StaleCheckpoint, match="not the file that its card"):
        checkpoints.load(NAME, folder=tmp_path / "out")


def test_the_table_shows_what_was_measured_and_what_was_not(tmp_path, monkeypatch):
    card = finished(tmp_path, monkeypatch)
    public = Public("9.9", "a whole year")
    more = {"goal": 12.5, "stretch": 11.5, "public": public}
    other = replace(noisy(), name="autoregressive/other", **more)
    monkeypatch.setattr(recipes, "RECIPES", (*recipes.RECIPES, other))
    title, empty, head, rule, measured, missing = table(tmp_path / "out").splitlines()
    assert (title, empty) == ("**Digits, cut at half of its grey values**", "")
    assert len({line.count("|") for line in (head, rule, measured, missing)}) == 1
    value, error = (card["figures"][0][k] for k in ("value", "error"))
    for text in (
        f"{value:.2f} ± {error:.2f}",
        "nats",
        "2,128",
        card["device"],
        card["data"],
    ):
        assert text in measured
    for text in ("not yet measured", "≤ 12.5 (11.5)", "9.9: a whole year"):
        assert text in missing
    edit(tmp_path / "out", lambda card: card["code"].clear())
    assert "older than its code" in table(tmp_path / "out")


def test_figures_that_can_be_compared_stand_together(tmp_path, monkeypatch):
    """Also where a recipe of other data lies between them, or data are cut at half."""
    make = lambda name, *data: replace(noisy(), name=name, data_args=data)  # noqa: E731
    grey = replace(make("autoregressive/c", "mnist"), data="scale.data.image_codes")
    todo = (
        make("autoregressive/a", "mnist"),
        grey,
        make("autoregressive/b", "binarized_mnist"),
        make("autoregressive/d", "mnist"),
    )
    monkeypatch.setattr(recipes, "RECIPES", todo)
    tables = [part.splitlines() for part in table(tmp_path).split("\n\n**")]
    names = [[line.split("`")[1] for line in lines[4:]] for lines in tables]
    assert names == [
        ["autoregressive/a", "autoregressive/d"],
        ["autoregressive/c"],
        ["autoregressive/b"],
    ]
    assert "cut at half" in tables[0][0]


def test_a_goal_may_be_about_another_metric_and_neighbours_are_told(tmp_path, monkeypatch):
    second = Metric("another name", "evaluation.likelihood.nll_estimate", "nits")
    recipe = replace(noisy(), steps=7, metrics=(NLL, second), aim=1, goal=1.0)
    finished(tmp_path, monkeypatch, recipe)
    edit(tmp_path / "out", lambda card: card["figures"][2].update(value=77.125))
    edit(tmp_path / "out", lambda card: card.update(beside=["a/b", "a/c"]))
    line = table(tmp_path / "out").splitlines()[-1]
    for text in ("77.1", "nits", "≤ 1.0 |", ", beside 2 more |"):
        assert text in line


def test_the_table_counts_the_processor_and_bounds_it_by_a_clock(tmp_path, monkeypatch):
    finished(tmp_path, monkeypatch)
    edit(tmp_path / "out", lambda card: card.update(seconds=400, processor_seconds=31.2))
    assert "| 31 s |" in table(tmp_path / "out")
    edit(tmp_path / "out", lambda card: card.pop("processor_seconds"))
    assert "| ≤ 6.7 min |" in table(tmp_path / "out")
    edit(tmp_path / "out", lambda card: card.update(device="NVIDIA H200"))
    assert "| 6.7 min |" in table(tmp_path / "out")


def test_reading_cards_and_recipes_needs_no_torch():
    code = "import sys; from gdm_course.scale import cli; cli.table();"
    code += "print([m for m in ('torch', 'numpy', 'lightning') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr


def gdm(*arguments) -> tuple[int, str]:
    """Run `gdm train` in this process."""
    result = CliRunner().invoke(app, ["train", *map(str, arguments)])
    return result.exit_code, result.output


def test_all_weights_together_are_what_a_repository_can_carry():
    files = checkpoints.FOLDER.rglob("*.safetensors")
    assert sum(path.stat().st_size for path in files) <= 25e6


def test_of_some_recipes_the_course_keeps_the_card_only(tmp_path, monkeypatch):
    light = replace(noisy(), steps=7, keep=False)
    monkeypatch.setattr(recipes, "RECIPES", (light,))
    course = tmp_path / "out"
    monkeypatch.setattr("gdm_course.scale.finish.FOLDER", course)
    train_tiny(tmp_path, replace(light, keep=True))
    assert checkpoints.available(NAME, course)
    train_tiny(tmp_path, light, resume=False)  # of older weights nothing is left
    assert [path.suffix for path in course.rglob("*") if path.is_file()] == [".json"]
    assert checkpoints.pending(NAME, course) is None
    assert checkpoints.measured(NAME, course)
    assert not checkpoints.available(NAME, course)
    with pytest.raises(FileNotFoundError, match="keeps the card only"):
        checkpoints.load(NAME, folder=course)
    train_tiny(tmp_path, light, out=tmp_path / "mine", resume=False)
    assert checkpoints.load(NAME, folder=tmp_path / "mine") is not None


def test_gdm_train_runs_what_is_pending_and_then_nothing(tmp_path, monkeypatch):
    more = {"steps": 4, "every": 4, "kwargs": {"hidden": (8,)}}
    cpu = recipes.Recipe(**TINY, **more, goal=1000.0)
    gpu = replace(cpu, name="autoregressive/large", device="gpu")
    monkeypatch.setattr(recipes, "RECIPES", (cpu, gpu))
    monkeypatch.setattr("gdm_course.scale.cli._has_gpu", lambda: False)
    where = ["--out", tmp_path / "out", "--runs", tmp_path / "runs", "--accelerator", "cpu"]
    assert "not yet measured" in gdm("--list", *where[:2])[1]
    code, said = gdm("--pending", *where)
    assert code == 0, said
    assert "goal 1000.0 met" in said
    assert "autoregressive/large: not trained yet; skipped" in said
    code, said = gdm("--pending", *where)
    assert "step" not in said
    assert checkpoints.available(NAME, tmp_path / "out")


def test_gdm_train_with_other_steps_is_a_trial(tmp_path, monkeypatch):
    monkeypatch.setattr(recipes, "RECIPES", (noisy(),))
    monkeypatch.chdir(tmp_path)
    code, said = gdm(
        NAME, "--steps", 2, "--runs", tmp_path / "runs", "--accelerator", "cpu"
    )
    assert code == 0, said
    assert checkpoints.card(NAME, tmp_path / "build" / "trials")["steps"] == 2
    assert not checkpoints.available(NAME)


def test_gdm_train_names_the_recipes_it_has_and_fails_with_a_sentence(
    tmp_path, monkeypatch
):
    code, said = gdm("autoregressive/nonsense")
    assert code == 2
    assert "autoregressive/made-mnist-cpu" in said
    code, said = gdm("autoregressive/made-mnist-cpu", "--precision", "16-mixed")
    assert code == 2
    assert "32-true or" in said
    wild = replace(noisy(), lr=1e38, clip=None, warmup=0)
    monkeypatch.setattr(recipes, "RECIPES", (wild,))
    where = ["--out", tmp_path / "out", "--runs", tmp_path / "runs", "--accelerator", "cpu"]
    code, said = gdm(NAME, *where)
    assert code == 1
    assert f"✘ {NAME}: {NAME}, from step 0: the loss is nan" in said
