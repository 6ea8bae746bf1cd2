"""On a machine that has torch and little else: the very command, in an environment so bare.

The environment is a fresh venv into which only the distributions of `ALLOWED`, and what
they declare to need, are linked from the one that runs this test. That takes a second,
where installing torch would take minutes, and hides all others just as well.
"""

import json
import os
import re
import signal
import subprocess
import sys
import venv
from importlib.metadata import distribution
from pathlib import Path

import pytest
from safetensors.torch import load_file
from waiting import until

from gdm_course.scale.state import load
from gdm_course.scale.whole import STATE

ROOT = Path(__file__).resolve().parent.parent
ALLOWED = ("torch", "numpy", "safetensors", "lightning", "typer", "tqdm")
HIDDEN = ("pooch", "jupyter_core", "matplotlib", "sklearn", "scipy", "pytest", "nbformat")

# Three recipes instead of the course's, and a module whose function ends its process.
RECIPES = """
import os, sys, types
from gdm_course.recipes import Metric, Recipe
from gdm_course import recipes

crash = types.ModuleType("gdm_course.crash")
crash.model = lambda: os.kill(os.getpid(), 9)
sys.modules["gdm_course.crash"] = crash
tiny = {
    "unit": "flows/realnvp",
    "args": (2,),
    "kwargs": {"layers": 2, "hidden": 8},
    "data": "scale.points.toy_points",
    "data_args": ("two_moons", 1000),
    "batch": 50,
    "metrics": (Metric("KL", "evaluation.likelihood.kl_to_truth", "nats"),),
}
crashing = tiny | {"model": "crash.model", "args": (), "kwargs": {}}
model = "flows.realnvp.RealNVP"
recipes.RECIPES = (
    Recipe(name="flows/short", model=model, steps=20, **tiny),
    Recipe(name="flows/crash", steps=20, **crashing),
    Recipe(name="flows/long", model=model, steps=10**7, minutes=0.1, **tiny),
)
"""


def needed(names) -> set[str]:
    """The names of distributions and of all that they say they need, without extras."""
    from packaging.requirements import Requirement

    found, waiting = set(), [*names]
    while waiting:
        name = re.sub(r"[-_.]+", "-", waiting.pop()).lower()
        if name in found:
            continue
        found.add(name)
        for line in distribution(name).requires or ():
            one = Requirement(line)
            if one.marker is None or one.marker.evaluate({"extra": ""}):
                waiting.append(one.name)
    return found


@pytest.fixture(scope="module")
def bare(tmp_path_factory) -> Path:
    """The Python of an environment that has nothing but what is needed."""
    folder = tmp_path_factory.mktemp("bare")
    venv.create(folder, symlinks=True)
    (site,) = folder.glob("lib/python*/site-packages")
    for name in needed(ALLOWED):
        for file in distribution(name).files:
            top = file.parts[0]
            if top not in ("..", "__pycache__") and not (site / top).is_symlink():
                (site / top).symlink_to(Path(distribution(name).locate_file(top)))
    (site / "sitecustomize.py").write_text(RECIPES)
    return folder / "bin" / "python"


def environment(tmp_path) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("GDM_", "PYTHON"))}
    more = {"GDM_DATA_DIR": str(tmp_path / "data"), "GDM_OFFLINE": "1"}
    return kept | more | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


def test_the_environment_is_bare(bare, tmp_path):
    code = f"import importlib.util as u; print([n for n in {HIDDEN} if u.find_spec(n)])"
    env = environment(tmp_path)
    done = subprocess.run([bare, "-c", code], capture_output=True, text=True, env=env)
    assert done.stdout.strip() == "[]", done.stderr
    code = "from gdm_course.data import audio, images, text; import gdm_course.scale.carry"
    done = subprocess.run([bare, "-c", code], capture_output=True, text=True, env=env)
    assert done.returncode == 0, done.stderr


def listening():
    """Let a child hear Ctrl-C: what a shell starts in the background does not."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.mark.skipif(sys.platform == "win32", reason="sends signals")
def test_one_ends_one_crashes_one_is_cut_and_all_comes_out(bare, tmp_path):
    """The window is long; it ends by Ctrl-C once all three are where they should be."""
    out, runs, there = tmp_path / "out", tmp_path / "runs", tmp_path / "there"
    command = [bare, "-m", "gdm_course", "train", "--pending", "--jobs", "3"]
    command += ["--minutes", "30", "--out", out, "--runs", runs, "--pack", "15"]
    env, told = environment(tmp_path), tmp_path / "told"
    with told.open("w") as file:
        window = subprocess.Popen(
            command, env=env, stdout=file, stderr=file, preexec_fn=listening
        )
    try:
        assert until(lambda: "flows/crash: its process was ended" in told.read_text())
        assert until((out / "flows" / "short.json").is_file), told.read_text()
        assert until(lambda: re.search("flows/long: .* ms a step", told.read_text()))
        window.send_signal(signal.SIGINT)
        assert until(lambda: window.poll() is not None)
    finally:
        window.kill()
    said = told.read_text()
    assert window.returncode == 1, said  # for one of them failed
    for line in (
        "✔ flows/short: KL",
        "✘ flows/crash: failed",
        "… flows/long: goes on in the next window",
        "1 finished, 1 failed, 1 paused",
    ):
        assert line in said, said
    unpack = [bare, "-m", "gdm_course", "train", "--unpack", out / "lane.zip"]
    unpack += ["--out", there / "out", "--runs", there / "runs"]
    done = subprocess.run(unpack, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    card = json.loads((there / "out" / "flows" / "short.json").read_text())
    assert "flows/long" in card["beside"]
    assert "CPU" in card["device"]
    assert card["seconds"] > 0
    assert load_file(there / "out" / "flows" / "short.safetensors")
    assert load(there / "runs" / "flows" / "long" / STATE)["step"] > 0
    assert len([p for p in there.rglob("*") if p.is_file()]) == 3
